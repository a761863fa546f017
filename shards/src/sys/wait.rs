//! Waiting for a socket with the precision of nanoseconds, for threads that run no executor.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Waits until `socket` is readable (true) or `timeout_ns` have passed (false); a signal ends the wait early
/// (false).
pub fn readable(socket: &impl AsFd, timeout_ns: u64) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: socket.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::timespec {
        tv_sec: i64::try_from(timeout_ns / 1_000_000_000).unwrap_or(i64::MAX),
        // Below a thousand million, so it fits every integer this field has been.
        tv_nsec: (timeout_ns % 1_000_000_000) as _,
    };
    // SAFETY: one live pollfd and a live timespec; no signal mask is given.
    let ready = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    if ready >= 0 {
        return Ok(ready > 0);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn it_waits_as_long_as_asked_and_no_longer_than_until_a_datagram_is_there() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let start = Instant::now();
        assert!(!readable(&socket, 3_000_000).unwrap());
        assert!(start.elapsed() >= Duration::from_millis(3));
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        assert!(readable(&socket, 10_000_000_000).unwrap());
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
