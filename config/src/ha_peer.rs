//! Reads the entries of `peers` (ha-protocol 1.6), each by itself.

use std::net::{IpAddr, SocketAddr};

use crate::ha::{BasicAuth, Peer, PeerUrl, Role, Secret};
use crate::ha_reader::trimmed;
use crate::reader::{Reader, quoted};
use crate::socket::TlsFiles;
use crate::value::{Located, Value};

impl Peer {
    /// Reads all entries of a relationship; those with an error are left out.
    pub(crate) fn read_all(reader: &mut Reader<'_, '_>) -> Vec<Peer> {
        let relationship = reader.map;
        let mut peers: Vec<Peer> = Vec::new();
        for entry in reader.items("peers") {
            let mut inside = reader.inside(entry);
            let Some(peer) = Self::read(&mut inside, relationship) else { continue };
            if peers.iter().any(|known| *known.name == *peer.name) {
                let message = format!("peer with name {} already specified", quoted(&*peer.name));
                inside.error(&peer.name.position, "name", message);
            }
            peers.push(peer);
        }
        peers
    }

    fn read(reader: &mut Reader<'_, '_>, relationship: &Value) -> Option<Peer> {
        let name = trimmed(reader, "name", "peer name must not be empty")?;
        let role = read_role(reader);
        let tls = TlsFiles::read(reader, Some(relationship), &format!(" for server {}", *name));
        let basic_auth = BasicAuth::read(reader, &name);
        let url = read_url(reader, &name)?;
        if tls.is_none() && url.text.starts_with("https") {
            let message = format!(
                "bad url {}: https scheme is not supported for server {} where TLS is disabled",
                quoted(&url.text),
                *name
            );
            reader.error(&url.position, "url", message);
        }
        Some(Peer {
            position: reader.map.position.clone(),
            name,
            url,
            role: role?,
            auto_failover: reader.bool("auto-failover", true),
            tls,
            basic_auth,
        })
    }
}

impl BasicAuth {
    /// Reads the credentials of the peer `name`; `None` where there is no user, or after an error.
    fn read(reader: &mut Reader<'_, '_>, name: &str) -> Option<BasicAuth> {
        let user = Secret::read(reader, "basic-auth-user", "basic-auth-user-file", name);
        let password = Secret::read(reader, "basic-auth-password", "basic-auth-password-file", name);
        let Some(user) = user else {
            if let Some(Secret::File(password) | Secret::Text(password)) = password {
                let message = "a password without a user has no effect";
                reader.warn(&password.position, "basic-auth-password", message);
            }
            return None;
        };
        if let Secret::Text(text) = &user
            && text.contains(':')
        {
            let message = format!("user {} must not contain a ':' in peer {}", quoted(&**text), quoted(name));
            reader.error(&text.position, "basic-auth-user", message);
        }
        let password = password.unwrap_or_else(|| Secret::Text(reader.default(String::new())));
        Some(BasicAuth { user, password })
    }
}

impl Secret {
    /// What stands under `key`, or in the file under `file_key`; `None` also for an empty text.
    fn read(reader: &mut Reader<'_, '_>, key: &str, file_key: &str, peer: &str) -> Option<Secret> {
        if let (Some(_), Some(second)) = (reader.get(key), reader.get(file_key)) {
            let message = format!(
                "only one of {key} and {file_key} parameter can be configured in peer {}",
                quoted(peer)
            );
            reader.error(&second.position, file_key, message);
        }
        if reader.get(file_key).is_some() {
            return reader.required_text(file_key).map(Secret::File);
        }
        reader.nonempty_text(key).map(Secret::Text)
    }
}

fn read_role(reader: &mut Reader<'_, '_>) -> Option<Located<Role>> {
    let text = reader.optional_text("role")?;
    let role = match text.as_str() {
        "backup" => Role::Backup,
        "primary" => Role::Primary,
        "secondary" => Role::Secondary,
        "standby" => Role::Standby,
        other => {
            let message = format!("unsupported value {} for role parameter", quoted(other));
            reader.error(&text.position, "role", message);
            return None;
        }
    };
    Some(Located::written(role, text.position))
}

fn read_url(reader: &mut Reader<'_, '_>, server: &str) -> Option<Located<PeerUrl>> {
    let text = reader.optional_text("url")?;
    match parse_url(&text) {
        Ok(address) => Some(Located::written(PeerUrl { text: text.value.clone(), address }, text.position)),
        Err(why) => {
            reader.error(&text.position, "url", format!("{why} for server {server}"));
            None
        }
    }
}

/// Reads `http://ADDRESS:PORT/…`; the scheme decides nothing and the path is never used. Kea takes a URL without a port,
/// where it can then reach nobody, and any number for one.
fn parse_url(text: &str) -> Result<SocketAddr, String> {
    let invalid = |why: &str| Err(format!("invalid URL: {why} in {text}"));
    let bad = |why: &str| Err(format!("bad url {}: {why}", quoted(text)));
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(format!("invalid URL: url {text} lacks http or https scheme"));
    };
    if scheme != "http" && scheme != "https" {
        return invalid(&format!("invalid scheme {scheme}"));
    }
    let Some(rest) = rest.strip_prefix("//") else { return invalid("expected :// after scheme") };
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[').map(|bracketed| bracketed.split_once(']')) {
        Some(None) => return invalid("expected ] after IPv6 address"),
        Some(Some((host, rest))) => (host, rest.strip_prefix(':')),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some("") => return invalid("expected port number after :"),
        Some(port) if !port.bytes().all(|digit| digit.is_ascii_digit()) => {
            return invalid(&format!("invalid port number {port}"));
        }
        _ if host.is_empty() => return invalid("hostname missing"),
        None => return bad("it has no port"),
        Some(port) => port.parse(),
    };
    let address = match authority.starts_with('[') {
        true => host.parse().map(IpAddr::V6),
        false => host.parse().map(IpAddr::V4),
    };
    match (address, port) {
        (Err(_), _) => bad(&format!("Failed to convert string to address '{host}': Invalid argument")),
        (Ok(address), Ok(port @ 1..)) => Ok(SocketAddr::new(address, port)),
        (Ok(_), _) => bad("the port must be 1..65535"),
    }
}
