//! Who is who in a relationship: roles by mode, and this server among them (ha-protocol 1.8).

use crate::ha::{Mode, Peer, Role};
use crate::reader::{Reader, quoted};
use crate::value::{Located, Position};

/// Servers of one relationship: each costs a connection for each sender thread, and has an index of one octet.
const PEERS_MAX: usize = 32;

/// The active roles of a mode; each has exactly one server, and everyone else is a backup.
fn active_roles(mode: Mode) -> &'static [Role] {
    match mode {
        Mode::HotStandby => &[Role::Primary, Role::Standby],
        Mode::LoadBalancing => &[Role::Primary, Role::Secondary],
        Mode::PassiveBackup => &[Role::Primary],
    }
}

/// This server, and the others in the order of peer indices: the other active one first where this server is
/// active, then the rest as in the file. `None` after an error.
pub(crate) fn divide(
    reader: &mut Reader<'_, '_>,
    peers: Vec<Peer>,
    this_server_name: &Located<String>,
    mode: Mode,
) -> Option<(Peer, Vec<Peer>)> {
    let written = reader.items("peers").len();
    let place = reader.get("peers").map_or(&reader.map.position, |list| &list.position).clone();
    // A peer that could not be read has been reported; its role is not missed on top of that.
    let all_read = peers.len() == written;
    let mut sound = check_roles(reader, &peers, mode, all_read.then_some(&place)) && all_read;
    if written > PEERS_MAX {
        let message = format!("there are {written} peers, and {PEERS_MAX} is the most");
        reader.error(&place, "peers", message);
        sound = false;
    }
    sound &= check_addresses(reader, &peers);
    let (mut own, mut others): (Vec<Peer>, Vec<Peer>) =
        peers.into_iter().partition(|peer| *peer.name == **this_server_name);
    let (Some(own), 0) = (own.pop(), own.len()) else {
        if sound {
            let message = format!("no peer configuration specified for the {}", quoted(&**this_server_name));
            reader.error(&this_server_name.position, "this-server-name", message);
        }
        return None;
    };
    if !sound {
        return None;
    }
    if *own.role != Role::Backup {
        // Stable, so backups stay in the order of the file.
        others.sort_by_key(|peer| *peer.role == Role::Backup);
        if let Some(partner) = others.first().filter(|peer| *peer.role != Role::Backup)
            && own.tls.is_some() != partner.tls.is_some()
        {
            let message = "one server of the pair has TLS files and the other has none";
            reader.warn(&partner.position, "trust-anchor", message);
        }
    }
    Some((own, others))
}

/// Whether every active role of the mode is there once and no other one is. Missing ones are reported at
/// `missing_at`, if there.
fn check_roles(
    reader: &mut Reader<'_, '_>,
    peers: &[Peer],
    mode: Mode,
    missing_at: Option<&Position>,
) -> bool {
    let allowed = active_roles(mode);
    let mut sound = true;
    for role in [Role::Primary, Role::Secondary, Role::Standby] {
        let mut with_role = peers.iter().filter(|peer| *peer.role == role);
        let (name, mode) = (role.name(), mode.spelt());
        let (place, message) = match (with_role.next(), with_role.next()) {
            (Some(_), Some(second)) => (&second.role.position, format!("multiple {name} servers specified")),
            (Some(first), None) if !allowed.contains(&role) => {
                (&first.role.position, format!("{name} servers not allowed in the {mode} configuration"))
            }
            (None, _) if allowed.contains(&role) => {
                let Some(place) = missing_at else { continue };
                (place, format!("{name} server required in the {mode} configuration"))
            }
            _ => continue,
        };
        reader.error(place, "role", message);
        sound = false;
    }
    sound
}

/// Whether every peer has an address of its own; where two share one, commands would go to the wrong server.
fn check_addresses(reader: &mut Reader<'_, '_>, peers: &[Peer]) -> bool {
    let mut sound = true;
    for (index, peer) in peers.iter().enumerate() {
        let same = peers[..index].iter().find(|known| known.url.address == peer.url.address);
        if let Some(known) = same {
            let message = format!("servers {} and {} have the same url", *known.name, *peer.name);
            reader.error(&peer.url.position, "url", message);
            sound = false;
        }
    }
    sound
}
