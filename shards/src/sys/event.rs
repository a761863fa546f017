//! eventfd: how one thread wakes another that sleeps in epoll or io_uring.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Makes an eventfd in blocking mode (io_uring waits for it; a non-blocking one would answer EAGAIN).
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; a non-negative result is a new descriptor that nobody else owns.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds one to the counter of `event`, which wakes its reader.
///
/// The counter cannot fill up (it holds 2^64 - 2) and the descriptor is open, so the write does not block
/// and does not fail.
pub fn signal(event: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the buffer holds the eight octets an eventfd takes.
    let written = unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    debug_assert_eq!(written, 8);
}

/// Takes back what was added to an `event` that was reported readable; it blocks on one that was not.
pub fn clear(event: &OwnedFd) {
    let mut count = 0u64.to_ne_bytes();
    // SAFETY: the buffer holds the eight octets an eventfd gives. Only its owner reads it, and after it was
    // reported readable, so the read does not block.
    let read = unsafe { libc::read(event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    debug_assert_eq!(read, 8);
}
