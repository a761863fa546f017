//! Hands descriptors made by us to glommio's types.
//!
//! glommio takes raw descriptors by an unsafe constructor; with an [`OwnedFd`] moved in, the only thing that
//! constructor asks for (that nobody else closes the descriptor) holds by type.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::net::{TcpListener, TcpStream, UnixStream};

/// A file, pipe or eventfd. It must be in blocking mode: io_uring itself waits for it.
pub fn buffered_file(fd: OwnedFd) -> BufferedFile {
    // SAFETY: ownership of an open descriptor is moved in.
    unsafe { BufferedFile::from_raw_fd(fd.into_raw_fd()) }
}

/// A listening TCP socket.
pub fn tcp_listener(fd: OwnedFd) -> TcpListener {
    // SAFETY: ownership of an open descriptor is moved in.
    unsafe { TcpListener::from_raw_fd(fd.into_raw_fd()) }
}

/// A connected TCP stream.
pub fn tcp_stream(fd: OwnedFd) -> TcpStream {
    // SAFETY: ownership of an open descriptor is moved in.
    unsafe { TcpStream::from_raw_fd(fd.into_raw_fd()) }
}

/// Has the kernel forget what it has not sent when `stream` is closed, and reset the connection.
///
/// # Errors
/// The system refuses to set the option.
pub fn reset_when_closed(stream: &TcpStream) -> io::Result<()> {
    // SAFETY: the descriptor is the stream's, which is borrowed for as long.
    let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    socket2::SockRef::from(&descriptor).set_linger(Some(Duration::ZERO))
}

/// A connected unix stream socket.
pub fn unix_stream(fd: OwnedFd) -> UnixStream {
    // SAFETY: ownership of an open descriptor is moved in.
    unsafe { UnixStream::from_raw_fd(fd.into_raw_fd()) }
}
