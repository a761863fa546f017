//! One end of a connection as a pump over byte buffers: plain TCP or TLS, the same four calls.
//!
//! Bytes from the network go into [`Session::handle_input`], which gives plaintext out; plaintext goes into
//! [`Session::write`]; what is to be sent is taken with [`Session::take_output`]. No socket and no waiting in
//! here: the drivers in `runtime` own those.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Connection, Error, HandshakeKind, ServerConfig,
};

use super::tls::is_current;

/// A connection's protection.
pub struct Session(Kind);

enum Kind {
    Plain(Vec<u8>),
    Tls(Box<Connection>),
}

impl Session {
    /// Plain TCP.
    pub fn plain() -> Self {
        Self(Kind::Plain(Vec::new()))
    }

    /// The connecting end; `address` is looked for in the certificate only where name checking is on.
    pub fn client(config: Arc<ClientConfig>, address: IpAddr) -> Result<Self, Error> {
        let connection = rustls::ClientConnection::new(config, ServerName::IpAddress(address.into()))?;
        Ok(Self::over(Connection::Client(connection)))
    }

    /// The listening end.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self::over(Connection::Server(rustls::ServerConnection::new(config)?)))
    }

    fn over(mut connection: Connection) -> Self {
        // What is written is bounded by the HTTP layer; a second, silent limit here would cut messages.
        connection.set_buffer_limit(None);
        Self(Kind::Tls(Box::new(connection)))
    }

    /// Whether the handshake is still going on; never for plain TCP.
    pub fn is_handshaking(&self) -> bool {
        match &self.0 {
            Kind::Plain(_) => false,
            Kind::Tls(connection) => connection.is_handshaking(),
        }
    }

    /// Whether the handshake took up an earlier session instead of exchanging certificates.
    pub fn is_resumed(&self) -> bool {
        match &self.0 {
            Kind::Plain(_) => false,
            Kind::Tls(connection) => connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Whether every certificate that the peer has shown is within its dates at `now_s`. A session that was taken up again
    /// has been checked when it began, and may have outlived one.
    pub fn peer_is_current(&self, now_s: i64) -> bool {
        match &self.0 {
            Kind::Plain(_) => true,
            Kind::Tls(connection) => connection
                .peer_certificates()
                .is_none_or(|chain| chain.iter().all(|shown| is_current(shown, now_s))),
        }
    }

    /// Takes bytes from the network and appends the plaintext they carry to `plaintext`. After an error
    /// [`Session::take_output`] still gives the alert that tells the peer why; then the connection is closed.
    pub fn handle_input(&mut self, mut bytes: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Error> {
        let connection = match &mut self.0 {
            Kind::Plain(_) => {
                plaintext.extend_from_slice(bytes);
                return Ok(());
            }
            Kind::Tls(connection) => connection,
        };
        while !bytes.is_empty() {
            let taken = connection.read_tls(&mut bytes).map_err(|error| Error::General(error.to_string()))?;
            let state = connection.process_new_packets()?;
            let start = plaintext.len();
            plaintext.resize(start + state.plaintext_bytes_to_read(), 0);
            let mut filled = start;
            while filled < plaintext.len() {
                match connection.reader().read(&mut plaintext[filled..]) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => filled += count,
                }
            }
            plaintext.truncate(filled);
            if taken == 0 {
                // The peer has closed its side; nothing after that counts.
                break;
            }
        }
        Ok(())
    }

    /// Queues plaintext; before the end of the handshake it is kept until it can be sent.
    pub fn write(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Plain(output) => output.extend_from_slice(plaintext),
            Kind::Tls(connection) => {
                connection
                    .writer()
                    .write_all(plaintext)
                    .map_err(|error| Error::General(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Appends what is to be sent to `output`.
    pub fn take_output(&mut self, output: &mut Vec<u8>) {
        match &mut self.0 {
            Kind::Plain(queued) => output.append(queued),
            Kind::Tls(connection) => {
                // Writing into a vector does not fail.
                while connection.wants_write() && connection.write_tls(output).is_ok_and(|count| count > 0) {}
            }
        }
    }

    /// Queues the end of the stream (close_notify).
    pub fn close(&mut self) {
        if let Kind::Tls(connection) = &mut self.0 {
            connection.send_close_notify();
        }
    }
}

/// Why a handshake or a connection failed, in an operator's words.
pub fn describe(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => format!("the peer refused us: {}", describe_alert(*alert)),
        Error::InvalidCertificate(error) => match error {
            CertificateError::BadSignature => {
                "the peer's certificate is not signed by its issuer's key".into()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the peer's certificate has expired".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the peer's certificate carries neither its address nor its name".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the peer's certificate is not valid yet".into()
            }
            CertificateError::Other(error) => format!("the peer's certificate is refused: {}", error.0),
            CertificateError::UnknownIssuer => "the peer's certificate is from an unknown CA".into(),
            other => format!("the peer's certificate is refused: {other}"),
        },
        Error::InvalidMessage(_) => "the peer does not speak TLS (plain TCP?)".into(),
        Error::NoCertificatesPresented => "the peer presented no certificate".into(),
        other => other.to_string(),
    }
}

fn describe_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::BadCertificate => "it finds our certificate bad".into(),
        AlertDescription::CertificateExpired => "our certificate has expired".into(),
        AlertDescription::CertificateRequired => "it requires a certificate".into(),
        AlertDescription::UnknownCA => "it does not know the CA of our certificate".into(),
        other => format!("alert {other:?}"),
    }
}
