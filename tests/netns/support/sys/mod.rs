//! The two calls of the harness that need `unsafe`: entering a network namespace and a packet socket.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Moves the calling thread into the network namespace that `namespace` (a file under `/run/netns`) stands for.
pub fn enter_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: setns takes a descriptor that `namespace` keeps open, and touches only the calling thread.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A packet socket for whole Ethernet frames of IPv4, bound to the interface `ifindex` of the thread's namespace.
/// Receiving gives up after `timeout_ms`.
pub fn packet_socket(ifindex: u32, timeout_ms: u32) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_IP as u16).to_be();
    // SAFETY: socket returns a new descriptor or -1; it is owned from here on.
    let fd =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = ifindex as i32;
    let timeout =
        libc::timeval { tv_sec: i64::from(timeout_ms / 1000), tv_usec: i64::from(timeout_ms % 1000) * 1000 };
    // SAFETY: both pointers are to live values of the sizes given.
    let outcome = unsafe {
        libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32).min(
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const timeout).cast(),
                size_of::<libc::timeval>() as u32,
            ),
        )
    };
    if outcome == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Sends one frame.
pub fn send(socket: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `frame`.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    if sent == frame.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives one frame; `None` when the socket's timeout has passed. Frames this host sent itself are skipped.
pub fn receive(socket: &OwnedFd, frame: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: buffer, address and lengths are live and of the sizes given.
        let received = unsafe {
            libc::recvfrom(
                socket.as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                0,
                (&raw mut from).cast(),
                &raw mut length,
            )
        };
        if received < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(None),
                io::ErrorKind::Interrupted => continue,
                _ => Err(error),
            };
        }
        if from.sll_pkttype != libc::PACKET_OUTGOING {
            return Ok(Some(received as usize));
        }
    }
}
