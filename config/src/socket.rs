//! Control channels and the files of a TLS end.

use std::net::IpAddr;

use crate::value::{Located, Position, Value};

/// One control channel of the server.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlSocket {
    /// `socket-type` `http` or `https`.
    Http(Box<HttpSocket>),
    /// `socket-type` `unix`.
    Unix(UnixSocket),
}

/// A control channel on a Unix stream socket.
#[derive(Clone, Debug, PartialEq)]
pub struct UnixSocket {
    /// Where the map starts.
    pub position: Position,
    /// `socket-name`, as written, not empty; see [`crate::paths::Folders::socket`].
    pub name: Located<String>,
    /// `user-context`.
    pub user_context: Option<Value>,
}

/// A control channel over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSocket {
    /// Where the map starts.
    pub position: Position,
    /// `socket-address`, 127.0.0.1 by default.
    pub address: Located<IpAddr>,
    /// `socket-port`, 8000 by default.
    pub port: Located<u16>,
    /// TLS files; always there with `https`, and `None` with `http` and no files.
    pub tls: Option<TlsFiles>,
    /// `cert-required`: whether a client has to show a certificate; true by default. Meaningless without TLS.
    pub cert_required: Located<bool>,
    /// `user-context`.
    pub user_context: Option<Value>,
}

/// The three files of one TLS end; they come together or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsFiles {
    /// `trust-anchor`: a PEM file with one or more CAs, or a hashed folder.
    pub trust_anchor: Located<String>,
    /// `cert-file`: PEM chain, leaf first.
    pub cert_file: Located<String>,
    /// `key-file`: unencrypted PEM key.
    pub key_file: Located<String>,
}
