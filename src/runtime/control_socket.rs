//! The unix control socket (g.2): one command per connection, the answer, the end.
//!
//! A client neither says how long its command is nor closes its side, so the command is taken as soon as its JSON
//! value is complete. A socket left behind by a crash is recognised by a lock on `<socket>.lock`, never by its
//! mere existence.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{UnixListener, UnixStream};

use crate::control::Answer;
use crate::control::json::{Scan, Scanner};
use crate::ha::command::Reply;
use crate::limits::{CONTROL_CONNECTIONS_MAX, CONTROL_REQUEST_OCTETS_MAX};

/// Runs a command, given as JSON with Kea's comments, and gives the answer.
pub type CommandHandler = Rc<dyn Fn(Vec<u8>) -> Pin<Box<dyn Future<Output = Answer>>>>;

/// A command must be whole within this time of the last octet received (API-10).
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// The client must take a piece of the answer within this time.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Octets of an answer given to the socket at a time.
const WRITE_OCTETS: usize = 64 * 1024;

/// How long a killed server's socket may seem to live.
const DEAD_WITHIN: Duration = Duration::from_secs(3);

/// The longest path a socket can have on Linux.
const PATH_OCTETS_MAX: usize = 107;

/// Why there is no control socket. Every text names the path.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process has it.
    #[error("{0}: in use by another process")]
    InUse(PathBuf),
    /// The system refuses.
    #[error("{path}: {source}")]
    Io {
        /// Socket, lock file or folder.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Something that is no socket is in the way.
    #[error("{0}: is there already and is not a socket")]
    NotASocket(PathBuf),
    /// The path is too long for a socket.
    #[error("{0}: longer than {PATH_OCTETS_MAX} octets, which is as long as the path of a socket can be")]
    TooLong(PathBuf),
}

/// A bound control socket. Dropped, it is removed.
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    /// Held as long as the socket is ours.
    _lock: File,
}

impl ControlSocket {
    /// Binds `path`; must be called inside an executor.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        if path.as_os_str().len() > PATH_OCTETS_MAX {
            return Err(SocketError::TooLong(path.to_owned()));
        }
        let lock = take_lock(path)?;
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(SocketError::Io { path: path.to_owned(), source }),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            Ok(_) => {
                // A server that does not lock as we do would still answer. The kernel closes the descriptors that a
                // killed server waited on with io_uring a moment after its death: until then they seem to live.
                let start = std::time::Instant::now();
                while std::os::unix::net::UnixStream::connect(path).is_ok() {
                    if start.elapsed() > DEAD_WITHIN {
                        return Err(SocketError::InUse(path.to_owned()));
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                std::fs::remove_file(path)
                    .map_err(|source| SocketError::Io { path: path.to_owned(), source })?;
            }
        }
        let listener = UnixListener::bind(path)
            .map_err(|error| SocketError::Io { path: path.to_owned(), source: error.into() })?;
        Ok(Self { path: path.to_owned(), listener, _lock: lock })
    }

    /// Serves connections until the task is cancelled.
    pub async fn serve(self, handler: CommandHandler) {
        let open = Rc::new(Cell::new(0usize));
        loop {
            while open.get() >= CONTROL_CONNECTIONS_MAX {
                glommio::timer::sleep(Duration::from_millis(10)).await;
            }
            let stream = match self.listener.accept().await {
                Ok(stream) => stream,
                Err(error) => {
                    log::warn!(
                        target: "kea-dhcp4.commands",
                        "COMMAND_SOCKET_ACCEPT_FAIL Failed to accept incoming connection on {}: {error}",
                        self.path.display()
                    );
                    glommio::timer::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            open.set(open.get() + 1);
            let (open, handler) = (open.clone(), handler.clone());
            glommio::spawn_local(async move {
                if let Err(error) = serve_one(stream, &handler).await {
                    log::debug!(
                        target: "kea-dhcp4.commands",
                        "COMMAND_SOCKET_READ_FAIL Encountered error {error} on a control connection"
                    );
                }
                open.set(open.get() - 1);
            })
            .detach();
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A socket that is gone already needs no removing.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn take_lock(path: &Path) -> Result<File, SocketError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let io_error = |source| SocketError::Io { path: lock_path.clone(), source };
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(&lock_path)
        .map_err(io_error)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(SocketError::InUse(path.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(io_error(source)),
    }
}

async fn serve_one(mut stream: UnixStream, handler: &CommandHandler) -> io::Result<()> {
    let answer = match receive(&mut stream).await? {
        Received::Command(command) => handler(command).await,
        Received::Nothing => return Ok(()),
        Received::TimedOut => Reply::error("Connection over control channel timed out").into(),
        Received::TooLong => {
            Reply::error(format!("a command is longer than {CONTROL_REQUEST_OCTETS_MAX} octets")).into()
        }
    };
    for part in answer.into_parts() {
        for piece in part.chunks(WRITE_OCTETS) {
            within(WRITE_WITHIN, stream.write_all(piece)).await?;
        }
    }
    stream.close().await
}

/// Gives up on `operation` after `limit`, with an error of kind `TimedOut`.
async fn within<T>(limit: Duration, operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match glommio::timer::timeout(limit, async { Ok(operation.await) }).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

enum Received {
    Command(Vec<u8>),
    Nothing,
    TimedOut,
    TooLong,
}

async fn receive(stream: &mut UnixStream) -> io::Result<Received> {
    let mut scanner = Scanner::default();
    let mut command = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = match within(REQUEST_WITHIN, stream.read(&mut buffer)).await {
            Ok(0) if command.iter().all(u8::is_ascii_whitespace) => return Ok(Received::Nothing),
            // Cut short: the parser says what is missing.
            Ok(0) => return Ok(Received::Command(command)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Received::TimedOut),
            Err(error) => return Err(error),
        };
        command.extend_from_slice(&buffer[..count]);
        match scanner.scan(&command) {
            Scan::Complete(end) => {
                command.truncate(end);
                return Ok(Received::Command(command));
            }
            Scan::Hopeless => return Ok(Received::Command(command)),
            Scan::Incomplete if command.len() > CONTROL_REQUEST_OCTETS_MAX => return Ok(Received::TooLong),
            Scan::Incomplete => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as StdStream;

    use glommio::LocalExecutorBuilder;

    use super::*;

    fn echo() -> CommandHandler {
        Rc::new(|command| {
            Box::pin(async move { Reply::success(String::from_utf8_lossy(&command).into_owned()).into() })
        })
    }

    fn ask(path: &Path, pieces: &[&[u8]]) -> String {
        let mut stream = StdStream::connect(path).unwrap();
        for piece in pieces {
            stream.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        // Read to the end: that the server closes is part of the contract.
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_command_is_answered_when_it_is_whole_and_the_connection_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        // What a crash leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let server = {
            let path = path.clone();
            LocalExecutorBuilder::default()
                .io_memory(64 * 1024)
                .spawn(|| async move {
                    let socket = ControlSocket::bind(&path).unwrap();
                    let again = ControlSocket::bind(&path).err().map(|error| error.to_string());
                    let serving = glommio::spawn_local(socket.serve(echo())).detach();
                    glommio::timer::sleep(Duration::from_millis(600)).await;
                    serving.cancel();
                    again
                })
                .unwrap()
        };
        while StdStream::connect(&path).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(ask(&path, &[br#"{"a":1}"#]), r#"{ "result": 0, "text": "{\"a\":1}" }"#);
        assert_eq!(ask(&path, &[b"{\"a\"", b":[1", b"]} x"]), r#"{ "result": 0, "text": "{\"a\":[1]}" }"#);
        assert_eq!(ask(&path, &[b"hello"]), r#"{ "result": 0, "text": "hello" }"#);
        let again = server.join().unwrap().unwrap();
        assert!(again.ends_with("/socket: in use by another process"), "{again}");
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        let long = folder.path().join("x".repeat(120));
        let nowhere = folder.path().join("absent/socket");
        let errors = LocalExecutorBuilder::default()
            .io_memory(64 * 1024)
            .spawn(|| async move {
                [file, long, nowhere]
                    .map(|path| ControlSocket::bind(&path).err().map(|error| error.to_string()))
            })
            .unwrap()
            .join()
            .unwrap();
        for (error, expected) in errors.iter().zip(["is not a socket", "longer than 107", "No such file"]) {
            assert!(error.as_ref().unwrap().contains(expected), "{error:?}");
        }
        assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "precious");
    }
}
