//! Reads the `high-availability` block; refusals use Kea's words (ha-protocol 1.4 to 1.8).

use std::net::{IpAddr, SocketAddr};

use crate::ha::{HaMultiThreading, Mode, Peer, PeerUrl, Relationship, Role};
use crate::reader::{Reader, quoted};
use crate::schema::high_availability::RELATIONSHIP;
use crate::schema::{Wording, check};
use crate::socket::TlsFiles;
use crate::value::{Located, Value};

/// The states whose `pause` may be configured (ha-protocol 4.1).
const STATES: &[&str] = &[
    "backup",
    "communication-recovery",
    "hot-standby",
    "in-maintenance",
    "load-balancing",
    "partner-down",
    "partner-in-maintenance",
    "passive-backup",
    "ready",
    "syncing",
    "terminated",
    "unavailable",
    "waiting",
];

impl Relationship {
    /// Reads and checks one relationship; `None` after an error.
    pub(crate) fn read(reader: &mut Reader<'_, '_>) -> Option<Relationship> {
        if !check(reader.map, &RELATIONSHIP, Wording::Hook, reader.diagnostics) {
            return None;
        }
        let this_server_name = trimmed(reader, "this-server-name")?;
        let mode = read_mode(reader)?;
        check_mode(reader, &mode)?;
        check_states(reader);
        let sync_page_limit = reader.number("sync-page-limit", 10_000);
        if *sync_page_limit == 0 {
            let message = "'sync-page-limit' must be at least 1: a page without leases never ends the copy";
            reader.error(&sync_page_limit.position, "sync-page-limit", message);
        }
        let peers = read_peers(reader);
        let (own, partner) = pair(reader, peers, &this_server_name, *mode)?;
        Some(Relationship {
            position: reader.map.position.clone(),
            mode,
            send_lease_updates: reader.bool("send-lease-updates", true),
            sync_leases: reader.bool("sync-leases", true),
            sync_timeout_ms: reader.number("sync-timeout", 60_000),
            sync_page_limit,
            heartbeat_delay_ms: reader.number("heartbeat-delay", 10_000),
            max_response_delay_ms: reader.number("max-response-delay", 60_000),
            max_ack_delay_ms: reader.number("max-ack-delay", 10_000),
            max_unacked_clients: reader.number("max-unacked-clients", 10),
            max_rejected_lease_updates: reader.number("max-rejected-lease-updates", 10),
            require_client_certs: reader.bool("require-client-certs", true),
            restrict_commands: reader.bool("restrict-commands", true),
            multi_threading: read_multi_threading(reader),
            own,
            partner,
        })
    }
}

fn read_mode(reader: &mut Reader<'_, '_>) -> Option<Located<Mode>> {
    let text = reader.required_text("mode")?;
    let mode = match text.as_str() {
        "hot-standby" => Mode::HotStandby,
        "load-balancing" => Mode::LoadBalancing,
        "passive-backup" => Mode::PassiveBackup,
        other => {
            let message = format!("unsupported value {} for mode parameter", quoted(other));
            reader.error(&text.position, "mode", message);
            return None;
        }
    };
    Some(Located::written(mode, text.position))
}

/// Refuses modes that are not built, and settings that the mode forbids.
fn check_mode(reader: &mut Reader<'_, '_>, mode: &Located<Mode>) -> Option<()> {
    let name = mode.name();
    if **mode != Mode::HotStandby {
        reader.error(&mode.position, "mode", format!("HA mode {name} is not built yet, only hot-standby is"));
        return None;
    }
    let wait = reader.bool("wait-backup-ack", false);
    if *wait {
        let message = format!("'wait-backup-ack' must be set to false in the {name} configuration");
        reader.error(&wait.position, "wait-backup-ack", message);
    }
    let limit = reader.number::<u32>("delayed-updates-limit", 0);
    if *limit > 0 {
        let message = format!("'delayed-updates-limit' must be set to 0 in the {name} configuration");
        reader.error(&limit.position, "delayed-updates-limit", message);
    }
    Some(())
}

fn check_states(reader: &mut Reader<'_, '_>) {
    let Some(machine) = reader.get("state-machine") else { return };
    let mut seen: Vec<&str> = Vec::new();
    for entry in machine.get("states").map(Value::items).unwrap_or_default() {
        let Some(state) = entry.get("state") else { continue };
        let name = state.as_text().unwrap_or_default();
        if !STATES.contains(&name) {
            reader.error(&state.position, "state", format!("unknown state {}", quoted(name)));
        } else if seen.contains(&name) {
            let message = format!("duplicated configuration for the {} state", quoted(name));
            reader.error(&state.position, "state", message);
        }
        seen.push(name);
        if let Some(pause) = entry.get("pause") {
            let word = pause.as_text().unwrap_or_default();
            if !["never", "once", "always"].contains(&word) {
                let message = format!("unsupported value {} of 'pause' parameter", quoted(word));
                reader.error(&pause.position, "pause", message);
            }
        }
    }
}

fn read_multi_threading(reader: &mut Reader<'_, '_>) -> HaMultiThreading {
    let nothing = reader.map.clone();
    let map = reader.get("multi-threading");
    // Without the map every setting has its default, and none of its keys occurs in the relationship itself.
    let mut inside = Reader { map: map.unwrap_or(&nothing), diagnostics: reader.diagnostics };
    HaMultiThreading {
        enabled: inside.bool("enable-multi-threading", true),
        listener_threads: inside.number("http-listener-threads", 0),
        client_threads: inside.number("http-client-threads", 0),
    }
}

fn read_peers(reader: &mut Reader<'_, '_>) -> Vec<Peer> {
    let relationship = reader.map;
    let mut peers: Vec<Peer> = Vec::new();
    for entry in reader.items("peers") {
        let mut inside = reader.inside(entry);
        let Some(peer) = read_peer(&mut inside, relationship) else { continue };
        if peers.iter().any(|known| *known.name == *peer.name) {
            let message = format!("peer with name {} already specified", quoted(&*peer.name));
            inside.error(&peer.name.position, "name", message);
        }
        peers.push(peer);
    }
    peers
}

fn read_peer(reader: &mut Reader<'_, '_>, relationship: &Value) -> Option<Peer> {
    let name = trimmed(reader, "name")?;
    let role = read_role(reader);
    let tls = TlsFiles::read(reader, Some(relationship), &format!(" for server {}", *name));
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
    })
}

fn read_role(reader: &mut Reader<'_, '_>) -> Option<Located<Role>> {
    let text = reader.required_text("role")?;
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
    let text = reader.required_text("url")?;
    match parse_url(&text) {
        Ok(address) => Some(Located::written(PeerUrl { text: text.value.clone(), address }, text.position)),
        Err(why) => {
            let message = format!("bad url {}: {why} for server {server}", quoted(&*text));
            reader.error(&text.position, "url", message);
            None
        }
    }
}

/// Reads `http://ADDRESS:PORT/…`; the scheme decides nothing and the path is never used.
fn parse_url(text: &str) -> Result<SocketAddr, String> {
    let after_scheme = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let after_scheme = after_scheme.ok_or("the scheme must be http or https")?;
    let authority = after_scheme.split('/').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or("the address has no closing bracket")?;
            let address = host.parse().map(IpAddr::V6);
            (address.map_err(|_| "the host must be a literal address")?, rest.strip_prefix(':'))
        }
        None => {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            let address = host.parse().map(IpAddr::V4);
            (address.map_err(|_| "the host must be a literal address, not a name")?, port)
        }
    };
    let port = port.filter(|port| !port.is_empty()).ok_or("it has no port")?;
    if !port.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("the port is not a number".to_owned());
    }
    match port.parse() {
        Ok(port @ 1..) => Ok(SocketAddr::new(host, port)),
        _ => Err("the port must be 1..65535".to_owned()),
    }
}

/// The two servers of a hot-standby pair, own one first; `None` after an error.
fn pair(
    reader: &mut Reader<'_, '_>,
    peers: Vec<Peer>,
    this_server_name: &Located<String>,
    mode: Mode,
) -> Option<(Peer, Peer)> {
    let written = reader.items("peers").len();
    let place = reader.get("peers").map_or(&reader.map.position, |list| &list.position).clone();
    let mode = mode.name();
    let mut sound = peers.len() == written;
    for role in [Role::Primary, Role::Standby] {
        let mut with_role = peers.iter().filter(|peer| *peer.role == role);
        match (with_role.next(), with_role.next()) {
            (Some(_), None) => {}
            (None, _) if peers.len() < written => {}
            (None, _) => {
                let message = format!("{} server required in the {mode} configuration", role.name());
                reader.error(&place, "role", message);
                sound = false;
            }
            (Some(_), Some(second)) => {
                let message = format!("multiple {} servers specified", role.name());
                reader.error(&second.role.position, "role", message);
                sound = false;
            }
        }
    }
    for peer in &peers {
        let message = match *peer.role {
            Role::Primary | Role::Standby => continue,
            Role::Secondary => format!("secondary servers not allowed in the {mode} configuration"),
            Role::Backup => format!("backup servers are not built yet: {}", quoted(&*peer.name)),
        };
        reader.error(&peer.role.position, "role", message);
        sound = false;
    }
    let (mut own, others): (Vec<Peer>, Vec<Peer>) =
        peers.into_iter().partition(|peer| *peer.name == **this_server_name);
    let (Some(own), 0) = (own.pop(), own.len()) else {
        if sound {
            let message = format!("no peer configuration specified for the {}", quoted(&**this_server_name));
            reader.error(&this_server_name.position, "this-server-name", message);
        }
        return None;
    };
    if !*own.auto_failover {
        let message = "\"auto-failover\": false of this server is not built yet";
        reader.error(&own.auto_failover.position, "auto-failover", message);
    }
    let partner = others.into_iter().next().filter(|_| sound)?;
    if own.tls.is_some() != partner.tls.is_some() {
        let message = "one server of the pair has TLS files and the other has none";
        reader.warn(&partner.position, "trust-anchor", message);
    }
    if own.url.address == partner.url.address {
        reader.error(&partner.url.position, "url", "both servers have the same url");
    }
    Some((own, partner))
}

fn trimmed(reader: &mut Reader<'_, '_>, key: &str) -> Option<Located<String>> {
    let text = reader.required_text(key)?;
    Some(Located { value: text.trim().to_owned(), ..text })
}
