//! A TCP connection with its protection: what the HA channel and the HTTP control sockets read and write.
//!
//! Owns the socket and the [`Session`]; knows nothing of HTTP. Every wait has a deadline given by the caller.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use rustls::{ClientConfig, ServerConfig};

use super::clock;
use super::tls_session::{Session, describe};

/// Octets read from the socket at a time; a TLS record is a little over 16 KiB.
const READ_OCTETS: usize = 18 * 1024;

/// Octets given to the socket at a time.
const WRITE_OCTETS: usize = 64 * 1024;

/// A handshake must be over within this time, like a request.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// What was sent to a peer must have arrived within this time, which is that of a lease update, or the kernel drops it.
/// It would go on for minutes, for a connection that was closed long ago as well, and deliver an update that was given
/// up: after a cut link, to a peer that has taken over, and behind newer ones.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

/// The peer must take a piece of a response within this time.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A session was taken up again, and the certificate it began with has expired.
    #[error("the peer's certificate has expired since this TLS session began")]
    Outlived,
    /// The peer did not move in time.
    #[error("timed out")]
    TimedOut,
    /// TLS failed; the text says why.
    #[error("{0}")]
    Tls(String),
}

/// One connection.
pub struct Link {
    tcp: TcpStream,
    session: Session,
    wire: Vec<u8>,
    input: Box<[u8]>,
    /// Plaintext that came with the end of the handshake.
    early: Vec<u8>,
}

impl Link {
    /// The listening end of an accepted connection, plain without `tls`. The handshake is still to come.
    pub fn accepted(tcp: TcpStream, tls: Option<&Arc<ServerConfig>>) -> Result<Self, LinkError> {
        let session = match tls {
            None => Session::plain(),
            Some(config) => {
                Session::server(config.clone()).map_err(|error| LinkError::Tls(describe(&error)))?
            }
        };
        Self::over(tcp, session)
    }

    /// Connects to `address` within `within`, handshake included.
    pub async fn connect(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        within: Duration,
    ) -> Result<Self, LinkError> {
        let session = match tls {
            None => Session::plain(),
            Some(config) => Session::client(config.clone(), address.ip())
                .map_err(|error| LinkError::Tls(describe(&error)))?,
        };
        let started = std::time::Instant::now();
        let tcp = TcpStream::connect_timeout(address, within).await.map_err(io::Error::from)?;
        shards::sys::socket::drop_unacknowledged(&tcp, ARRIVES_WITHIN)?;
        let mut link = Self::over(tcp, session)?;
        let left = within.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(LinkError::TimedOut);
        }
        link.handshake(left).await?;
        Ok(link)
    }

    fn over(tcp: TcpStream, session: Session) -> Result<Self, LinkError> {
        tcp.set_nodelay(true).map_err(io::Error::from)?;
        tcp.set_write_timeout(Some(WRITE_WITHIN)).map_err(io::Error::from)?;
        Ok(Self {
            tcp,
            session,
            wire: Vec::new(),
            input: vec![0; READ_OCTETS].into_boxed_slice(),
            early: Vec::new(),
        })
    }

    /// Completes the handshake of an accepted connection.
    pub async fn accept_handshake(&mut self) -> Result<(), LinkError> {
        self.handshake(HANDSHAKE_WITHIN).await
    }

    async fn handshake(&mut self, within: Duration) -> Result<(), LinkError> {
        let deadline = std::time::Instant::now() + within;
        let mut early = Vec::new();
        while self.session.is_handshaking() {
            self.flush().await?;
            if !self.session.is_handshaking() {
                break;
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Err(LinkError::TimedOut);
            }
            if self.receive(&mut early, Some(left)).await? == 0 {
                let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "closed during the handshake");
                return Err(LinkError::Io(closed));
            }
        }
        self.flush().await?;
        let now_s = i64::try_from(clock::wall_s()).unwrap_or(i64::MAX);
        if self.session.is_resumed() && !self.session.peer_is_current(now_s) {
            return Err(LinkError::Outlived);
        }
        self.early = early;
        Ok(())
    }

    /// Appends plaintext that has come to `plaintext`; false at the end of the stream. `within` of `None` waits
    /// for ever.
    pub async fn read(
        &mut self,
        plaintext: &mut Vec<u8>,
        within: Option<Duration>,
    ) -> Result<bool, LinkError> {
        if !self.early.is_empty() {
            plaintext.append(&mut self.early);
            return Ok(true);
        }
        let before = plaintext.len();
        let started = std::time::Instant::now();
        loop {
            // Octets of a record that never becomes whole do not restart the wait.
            let left = within.map(|within| within.saturating_sub(started.elapsed()));
            if self.receive(plaintext, left).await? == 0 {
                return Ok(false);
            }
            // Session tickets and the like carry no plaintext but may want an answer.
            self.flush().await?;
            if plaintext.len() > before {
                return Ok(true);
            }
            if within.is_some_and(|within| started.elapsed() >= within) {
                return Err(LinkError::TimedOut);
            }
        }
    }

    /// Sends `plaintext`.
    pub async fn write(&mut self, plaintext: &[u8]) -> Result<(), LinkError> {
        // In pieces, so that a long answer does not exist twice.
        for piece in plaintext.chunks(WRITE_OCTETS) {
            self.session.write(piece).map_err(|error| LinkError::Tls(describe(&error)))?;
            self.flush().await?;
        }
        Ok(())
    }

    /// Says goodbye and closes; nobody waits for the peer to do the same.
    pub async fn close(mut self) {
        self.session.close();
        // The connection is given up either way.
        let _ = self.flush().await;
        let _ = self.tcp.close().await;
    }

    /// Octets taken from the socket; their plaintext is appended.
    async fn receive(
        &mut self,
        plaintext: &mut Vec<u8>,
        within: Option<Duration>,
    ) -> Result<usize, LinkError> {
        let within = within.map(|within| within.max(Duration::from_millis(1)));
        self.tcp.set_read_timeout(within).map_err(io::Error::from)?;
        let count = match self.tcp.read(&mut self.input).await {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(LinkError::TimedOut),
            Err(error) => return Err(error.into()),
        };
        if let Err(error) = self.session.handle_input(&self.input[..count], plaintext) {
            // The alert tells the peer why; that it may be gone changes nothing.
            let _ = self.flush().await;
            return Err(LinkError::Tls(describe(&error)));
        }
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        self.session.take_output(&mut self.wire);
        if self.wire.is_empty() {
            return Ok(());
        }
        let sent = self.tcp.write_all(&self.wire).await;
        self.wire.clear();
        match sent {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(LinkError::TimedOut),
            Err(error) => Err(error.into()),
        }
    }
}
