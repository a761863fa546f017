//! Control channels and the files of a TLS end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::reader::{Reader, quoted};
use crate::tandem::Tandem;
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

impl ControlSocket {
    /// Reads `control-socket` or `control-sockets`.
    pub(crate) fn read_all(reader: &mut Reader<'_, '_>, tandem: &Tandem) -> Vec<ControlSocket> {
        let single = reader.get("control-socket").map(std::slice::from_ref);
        let maps = single.unwrap_or_else(|| reader.items("control-sockets"));
        let mut sockets: Vec<ControlSocket> = Vec::new();
        for map in maps {
            let mut inside = reader.inside(map);
            let Some(socket) = Self::read(&mut inside, *tandem.allow_plain_http) else { continue };
            if sockets.iter().any(|known| known.same_place(&socket)) {
                inside.error(
                    &map.position,
                    "control-sockets",
                    "there is a control socket in this place already",
                );
            }
            sockets.push(socket);
        }
        sockets
    }

    fn read(reader: &mut Reader<'_, '_>, allow_plain_http: bool) -> Option<ControlSocket> {
        let kind = reader.optional_text("socket-type")?;
        if *kind == "unix" {
            for key in
                ["socket-address", "socket-port", "trust-anchor", "cert-file", "key-file", "cert-required"]
            {
                if let Some(value) = reader.get(key) {
                    reader.warn(&value.position, key, format!("\"{key}\" has no effect on a unix socket"));
                }
            }
            return UnixSocket::read(reader).map(ControlSocket::Unix);
        }
        let socket = HttpSocket {
            position: reader.map.position.clone(),
            address: read_host(reader, "socket-address")?,
            port: reader.number("socket-port", 8000),
            tls: TlsFiles::read(reader, None, ""),
            cert_required: reader.bool("cert-required", true),
            user_context: reader.user_context(),
        };
        if let Some(name) = reader.get("socket-name") {
            reader.warn(&name.position, "socket-name", "\"socket-name\" has no effect on an http socket");
        }
        if *kind == "https" && socket.tls.is_none() {
            let message = "an https control socket needs trust-anchor, cert-file and key-file";
            reader.error(&socket.position, "socket-type", message);
        }
        if socket.tls.is_none() && *kind == "http" {
            socket.check_plain(reader, allow_plain_http);
        }
        if socket.tls.is_some() && !*socket.cert_required {
            let message =
                "no client certificate is asked for: whoever reaches this socket commands the server";
            reader.warn(&socket.cert_required.position, "cert-required", message);
        }
        Some(ControlSocket::Http(Box::new(socket)))
    }

    fn same_place(&self, other: &ControlSocket) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(other)) => *one.name == *other.name,
            (Self::Http(one), Self::Http(other)) => {
                *one.address == *other.address && *one.port == *other.port
            }
            _ => false,
        }
    }
}

impl HttpSocket {
    /// Whether a connection to `address` arrives at this socket.
    pub(crate) fn is_reached_at(&self, address: SocketAddr) -> bool {
        let host = *self.address == address.ip() || self.address.is_unspecified();
        host && *self.port == address.port()
    }

    /// A plain HTTP channel lets everyone who can reach it command the server.
    fn check_plain(&self, reader: &mut Reader<'_, '_>, allowed: bool) {
        if self.address.is_loopback() || allowed {
            let message = "this http control socket is unprotected: whoever reaches it commands the server";
            reader.warn(&self.position, "socket-type", message);
        } else {
            let message = format!(
                "Unsecured HTTP control channel on {}: use https with client certificates, a loopback \
                 address, or set \"allow-plain-http\": true under Dhcp4.user-context.tandem",
                *self.address
            );
            reader.error(&self.position, "socket-type", message);
        }
    }
}

impl UnixSocket {
    /// Reads a map with a `socket-name`; `None` after an error.
    pub(crate) fn read(reader: &mut Reader<'_, '_>) -> Option<UnixSocket> {
        let position = reader.map.position.clone();
        if reader.get("socket-name").is_none() {
            reader.error(&position, "socket-name", "missing parameter 'socket-name' for a unix socket");
            return None;
        }
        let name = reader.required_text("socket-name")?;
        Some(UnixSocket { position, name, user_context: reader.user_context() })
    }
}

impl TlsFiles {
    /// Reads the three files of a map, taking those it does not name from `inherited`; "" names none.
    /// `None` where there are none, or after an error. `context` ends the error text.
    pub(crate) fn read(
        reader: &mut Reader<'_, '_>,
        inherited: Option<&Value>,
        context: &str,
    ) -> Option<TlsFiles> {
        let mut file = |key: &str| match (reader.get(key), inherited.and_then(|map| map.get(key))) {
            (Some(_), _) => reader.nonempty_text(key),
            (None, Some(value)) => reader.text_of(value, key).filter(|text| !text.is_empty()),
            (None, None) => None,
        };
        let files = (file("trust-anchor"), file("cert-file"), file("key-file"));
        let missing = match files {
            (Some(trust_anchor), Some(cert_file), Some(key_file)) => {
                return Some(TlsFiles { trust_anchor, cert_file, key_file });
            }
            (None, None, None) => return None,
            (None, ..) => "trust-anchor",
            (_, None, _) => "cert-file",
            (_, _, None) => "key-file",
        };
        let message = format!(
            "bad TLS config{context}: {missing} parameter is missing or empty: all or none of TLS parameters \
             must be set"
        );
        let position = reader.map.position.clone();
        reader.error(&position, missing, message);
        None
    }
}

/// Reads a literal address, 127.0.0.1 by default; `None` after an error.
pub(crate) fn read_host(reader: &mut Reader<'_, '_>, key: &str) -> Option<Located<IpAddr>> {
    let Some(text) = reader.optional_text(key) else {
        return Some(reader.default(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    };
    match text.parse() {
        Ok(address) => Some(Located::written(address, text.position)),
        Err(_) => {
            let message = format!("invalid {key} {}: expected an IPv4 or IPv6 address", quoted(&*text));
            reader.error(&text.position, key, message);
            None
        }
    }
}
