//! epoll: which of a thread's descriptors are readable, for a thread that waits for several and for nothing else.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Descriptors reported by one call; those beyond it are reported by the next.
const EVENTS_MAX: usize = 32;

/// A set of descriptors, each with a number by which it is reported.
#[derive(Debug)]
pub struct ReadySet {
    epoll: OwnedFd,
}

impl ReadySet {
    /// An empty set.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed; a non-negative result is a new descriptor that nobody else owns.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: see above.
        Ok(Self { epoll: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Adds `descriptor`, which is reported as `number` for as long as there is something to read.
    ///
    /// # Errors
    /// The kernel's limit of watched descriptors, or no memory.
    pub fn add(&self, descriptor: &impl AsFd, number: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, descriptor, number)
    }

    /// Takes `descriptor` out.
    ///
    /// # Errors
    /// It is not in the set.
    pub fn remove(&self, descriptor: &impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, descriptor, 0)
    }

    fn control(&self, operation: i32, descriptor: &impl AsFd, number: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        let descriptor = descriptor.as_fd().as_raw_fd();
        // SAFETY: both descriptors are open and the pointer is to a live event, which the kernel copies.
        let result =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, descriptor, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits until a descriptor is readable or `timeout` (up to the next millisecond; `None` is for ever) has passed,
    /// and gives the numbers of those that are to `each`. A signal ends the wait early.
    ///
    /// # Errors
    /// Of no use to wait again: the set itself is broken.
    pub fn wait(&self, timeout: Option<Duration>, mut each: impl FnMut(u64)) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let milliseconds = timeout
            .map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        let (epoll, room) = (self.epoll.as_raw_fd(), EVENTS_MAX as i32);
        // SAFETY: the pointer is to a live array of `room` events.
        let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), room, milliseconds) };
        let Ok(ready) = usize::try_from(ready) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        };
        for event in &events[..ready] {
            each(event.u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Instant;

    use super::*;

    fn ready(set: &ReadySet, timeout: Duration) -> Vec<u64> {
        let mut numbers = Vec::new();
        set.wait(Some(timeout), |number| numbers.push(number)).unwrap();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn what_is_readable_is_reported_until_it_is_read_and_what_was_removed_is_not() {
        let set = ReadySet::new().unwrap();
        let sockets: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for (number, socket) in (0..).zip(&sockets) {
            set.add(socket, number).unwrap();
        }
        let start = Instant::now();
        assert_eq!(ready(&set, Duration::from_micros(2_500)), []);
        assert!(start.elapsed() >= Duration::from_micros(2_500));
        for socket in &sockets[1..] {
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        }
        assert_eq!(ready(&set, Duration::from_secs(10)), [1, 2]);
        sockets[1].recv(&mut [0; 1]).unwrap();
        assert_eq!(ready(&set, Duration::ZERO), [2]);
        set.remove(&sockets[2]).unwrap();
        assert_eq!(ready(&set, Duration::ZERO), []);
        assert!(set.remove(&sockets[2]).is_err());
    }
}
