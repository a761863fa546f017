//! Whether the kernel lets this process use io_uring, asked before an executor is made: glommio ends the whole
//! process by itself where an operation is missing.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Octets of the kernel's `struct io_uring_params`.
const PARAMS_OCTETS: usize = 120;

/// Makes the smallest ring and drops it again.
///
/// # Errors
/// `PermissionDenied` where io_uring is forbidden (a sysctl, a seccomp profile), `Unsupported` where the kernel has
/// none, `OutOfMemory` where not enough memory may be locked.
pub fn io_uring() -> io::Result<()> {
    let mut params = [0u64; PARAMS_OCTETS / 8];
    // SAFETY: the kernel reads and writes a struct of 120 octets, which `params` holds, aligned.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    match i32::try_from(fd) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: a non-negative result is a new descriptor that nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            Ok(())
        }
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_host_of_the_tests_has_io_uring() {
        super::io_uring().unwrap();
    }
}
