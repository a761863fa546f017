//! The `Control-agent` document (f.9).

use std::net::IpAddr;

use crate::logger::Logger;
use crate::socket::{TlsFiles, UnixSocket};
use crate::value::{Located, Value};

/// A control agent's file.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlAgent {
    /// `http-host`, 127.0.0.1 by default.
    pub http_host: Located<IpAddr>,
    /// `http-port`, 8000 by default.
    pub http_port: Located<u16>,
    /// TLS files; `None` is plain HTTP.
    pub tls: Option<TlsFiles>,
    /// `cert-required`: whether a client has to show a certificate; true by default.
    pub cert_required: Located<bool>,
    /// `control-sockets`: where each service listens.
    pub sockets: Vec<AgentSocket>,
    /// `loggers`.
    pub loggers: Vec<Logger>,
    /// `user-context`.
    pub user_context: Option<Value>,
    /// The map under `Control-agent` as written, for config-get.
    pub tree: Value,
}

/// The socket of one service behind the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSocket {
    /// `dhcp4`, `dhcp6` or `d2`.
    pub service: String,
    /// Its socket.
    pub socket: UnixSocket,
}

impl ControlAgent {
    /// The socket of `service`.
    pub fn socket(&self, service: &str) -> Option<&UnixSocket> {
        self.sockets.iter().find(|entry| entry.service == service).map(|entry| &entry.socket)
    }
}
