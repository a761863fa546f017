//! The `Control-agent` document (f.9).

use std::net::IpAddr;
use std::sync::Arc;

use crate::diagnostics::Diagnostics;
use crate::logger::Logger;
use crate::reader::Reader;
use crate::socket::{TlsFiles, UnixSocket, read_host};
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
    pub tree: Arc<Value>,
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

impl ControlAgent {
    /// Reads the map under `Control-agent`; `None` after an error.
    pub(crate) fn read(tree: &Arc<Value>, diagnostics: &mut Diagnostics) -> Option<ControlAgent> {
        let mut reader = Reader { map: tree, diagnostics };
        let agent = ControlAgent {
            http_host: read_host(&mut reader, "http-host")?,
            http_port: reader.number("http-port", 8000),
            tls: TlsFiles::read(&mut reader, None, ""),
            cert_required: reader.bool("cert-required", true),
            sockets: read_sockets(&mut reader),
            loggers: Logger::read_all(&mut reader, "kea-ctrl-agent"),
            user_context: reader.user_context(),
            tree: Arc::clone(tree),
        };
        if agent.tls.is_none() || !*agent.cert_required {
            let message = format!(
                "the agent on {} is unprotected: whoever reaches it commands the servers behind it",
                *agent.http_host
            );
            reader.warn(&agent.http_host.position, "http-host", message);
        }
        Some(agent)
    }
}

fn read_sockets(reader: &mut Reader<'_, '_>) -> Vec<AgentSocket> {
    let services = ["dhcp4", "dhcp6", "d2"];
    let Some(map) = reader.get("control-sockets") else { return Vec::new() };
    let written = services.into_iter().filter_map(|service| Some((service, map.get(service)?)));
    let read = written.filter_map(|(service, map)| {
        let socket = UnixSocket::read(&mut reader.inside(map))?;
        Some(AgentSocket { service: service.to_owned(), socket })
    });
    read.collect()
}
