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
use shards::sys::adopt::reset_when_closed;

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

/// The peer must take some of what is written within this time.
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
            self.flush(within).await?;
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
        self.flush(within).await?;
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
            self.flush(WRITE_WITHIN).await?;
            if plaintext.len() > before {
                return Ok(true);
            }
            if within.is_some_and(|within| started.elapsed() >= within) {
                return Err(LinkError::TimedOut);
            }
        }
    }

    /// Sends `plaintext`, all of it within `within`: a peer that takes an octet now and then does not restart the wait.
    pub async fn write(&mut self, plaintext: &[u8], within: Duration) -> Result<(), LinkError> {
        let started = std::time::Instant::now();
        // In pieces, so that a long answer does not exist twice.
        for piece in plaintext.chunks(WRITE_OCTETS) {
            self.session.write(piece).map_err(|error| LinkError::Tls(describe(&error)))?;
            self.flush(within.saturating_sub(started.elapsed())).await?;
        }
        Ok(())
    }

    /// Says goodbye and closes; nobody waits for the peer to do the same.
    pub async fn close(mut self) {
        self.session.close();
        // The connection is given up either way.
        let _ = self.flush(WRITE_WITHIN).await;
        let _ = self.tcp.close().await;
    }

    /// Gives the connection up: what the peer has not got is not sent any more, and it is told so where it can be.
    pub fn reset(self) {
        // A socket that cannot be set is closed as any other.
        let _ = reset_when_closed(&self.tcp);
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
            let _ = self.flush(WRITE_WITHIN).await;
            return Err(LinkError::Tls(describe(&error)));
        }
        Ok(count)
    }

    /// Sends what the session has ready, all of it within `within`.
    async fn flush(&mut self, within: Duration) -> Result<(), LinkError> {
        self.session.take_output(&mut self.wire);
        let sent = self.send(within).await;
        self.wire.clear();
        sent
    }

    async fn send(&mut self, within: Duration) -> Result<(), LinkError> {
        let started = std::time::Instant::now();
        let mut sent = 0;
        while sent < self.wire.len() {
            let left = within.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(LinkError::TimedOut);
            }
            self.tcp.set_write_timeout(Some(left.min(WRITE_WITHIN))).map_err(io::Error::from)?;
            match self.tcp.write(&self.wire[sent..]).await {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(LinkError::TimedOut),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream as Plain};
    use std::time::Instant;

    use glommio::LocalExecutorBuilder;

    use super::*;

    #[test]
    fn a_reader_that_takes_a_little_now_and_then_does_not_restart_the_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reader = Plain::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let reading = std::thread::spawn(move || {
            let mut piece = vec![0; 64 * 1024];
            while reader.read(&mut piece).is_ok_and(|count| count > 0) {
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        let writer = LocalExecutorBuilder::default().io_memory(64 * 1024).spawn(|| async move {
            let tcp = shards::sys::adopt::tcp_stream(accepted.into());
            let mut link = Link::accepted(tcp, None).unwrap();
            let started = Instant::now();
            let written = link.write(&vec![0; 64 << 20], Duration::from_millis(400)).await;
            (matches!(written, Err(LinkError::TimedOut)), started.elapsed())
        });
        let (timed_out, took) = writer.unwrap().join().unwrap();
        assert!(timed_out && took < Duration::from_secs(5), "{timed_out} after {took:?}");
        reading.join().unwrap();
    }
}
