//! What Tandem and Kea are told: the same document, but for what only one of them knows (pure).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Reach, layout};
use crate::report::{Attachment, Cell, Channel, Ha, Role, Server};

/// Replies that may wait for the partner: more than a pair at its limit has waiting, where the default of 256 would be
/// that limit.
const PARKED_LIMIT: u32 = 4096;

/// Where its files are.
#[derive(Clone, Debug)]
pub struct Places {
    /// Folder of leases.
    pub leases: PathBuf,
    /// Control socket: a short path, as the kernel takes no long ones.
    pub socket: PathBuf,
    /// Certificates and keys as `tandem pki` writes them.
    pub certificates: PathBuf,
    /// Folder of Kea's hook libraries; Tandem knows them by file name.
    pub hooks: PathBuf,
}

/// The name of a server in the pair, and of its certificate.
pub fn peer_name(role: Role) -> &'static str {
    match role {
        Role::Primary => "server1",
        Role::Standby => "server2",
    }
}

/// Delays of a pair, milliseconds, and clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Delays {
    heartbeat: u32,
    response: u32,
    ack: u32,
    unacked: u32,
}

impl Delays {
    /// Clients reach the primary alone: long enough that a partner under load is not taken for dead. They reach
    /// both: those of the fast take-over in the README.
    fn of(reach: Reach) -> Self {
        match reach {
            Reach::Primary => Self { heartbeat: 1000, response: 20_000, ack: 10_000, unacked: 5 },
            Reach::Both => Self { heartbeat: 500, response: 2500, ack: 1500, unacked: 2 },
        }
    }
}

/// The document of a server of `cell`.
pub fn document(cell: &Cell, role: Role, reach: Reach, places: &Places) -> Value {
    let interface = match (role, reach) {
        (Role::Primary, _) => layout::SERVER_INTERFACE,
        (Role::Standby, Reach::Primary) => layout::STANDBY_INTERFACE,
        (Role::Standby, Reach::Both) => layout::STANDBY_CLIENTS_INTERFACE,
    };
    // Each has what its manual recommends: Kea's names udp where all clients are behind relays.
    let server = cell.server_of(role);
    let socket_type = match (server, cell.attachment) {
        (Server::Kea, Attachment::Relayed) => "udp",
        _ => "raw",
    };
    let mut dhcp4 = json!({
        "interfaces-config": { "interfaces": [interface], "dhcp-socket-type": socket_type },
        "lease-database": { "type": "memfile", "name": places.leases.join("leases.csv"), "lfc-interval": 0 },
        "multi-threading": {
            "enable-multi-threading": true,
            "thread-pool-size": cell.threads,
            "packet-queue-size": cell.queue,
        },
        "valid-lifetime": 3600,
        "loggers": [ {
            "name": "kea-dhcp4", "severity": "WARN", "output_options": [ { "output": "stdout" } ],
        } ],
        "subnet4": [ {
            "id": 1, "subnet": layout::SUBNET, "interface": interface,
            "pools": [ { "pool": layout::POOL } ],
        } ],
    });
    if server == Server::Tandem {
        dhcp4["user-context"] = json!({ "tandem": { "durability": cell.durability.name() } });
    }
    if let Some(ha) = cell.ha {
        dhcp4["parked-packet-limit"] = json!(PARKED_LIMIT);
        dhcp4["control-socket"] = json!({ "socket-type": "unix", "socket-name": places.socket });
        dhcp4["hooks-libraries"] = json!([
            { "library": places.hooks.join("libdhcp_lease_cmds.so") },
            { "library": places.hooks.join("libdhcp_ha.so"),
              "parameters": { "high-availability": [ relationship(ha, role, Delays::of(reach), &places.certificates) ] } },
        ]);
    }
    json!({ "Dhcp4": dhcp4 })
}

/// The pair: hot-standby with a listener of its own on each side.
fn relationship(ha: Ha, role: Role, delays: Delays, certificates: &Path) -> Value {
    let peer = |of: Role, address: &str, part: &str| {
        // The word is `http` with TLS too: the certificates make the difference.
        let mut peer = json!({
            "name": peer_name(of), "role": part, "url": format!("http://{address}:8005/"),
        });
        if ha.channel == Channel::Tls {
            peer["trust-anchor"] = json!(certificates.join("CA.pem"));
            peer["cert-file"] = json!(certificates.join(format!("{}_cert.pem", peer_name(of))));
            peer["key-file"] = json!(certificates.join(format!("{}_key.pem", peer_name(of))));
        }
        peer
    };
    json!({
        "this-server-name": peer_name(role),
        "mode": "hot-standby",
        "heartbeat-delay": delays.heartbeat,
        "max-response-delay": delays.response,
        "max-ack-delay": delays.ack,
        "max-unacked-clients": delays.unacked,
        "multi-threading": {
            "enable-multi-threading": true,
            "http-dedicated-listener": true,
            "http-listener-threads": ha.listeners,
            "http-client-threads": ha.senders,
        },
        "peers": [
            peer(Role::Primary, layout::PRIMARY_HA_ADDRESS, "primary"),
            peer(Role::Standby, layout::STANDBY_HA_ADDRESS, "standby"),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Durability, Server};

    fn cell(server: Server, ha: Option<Ha>) -> Cell {
        Cell {
            server,
            threads: Some(2),
            queue: Some(64),
            durability: Durability::Written,
            ha,
            attachment: Attachment::Direct,
        }
    }

    fn places() -> Places {
        let path = |text: &str| PathBuf::from(text);
        Places {
            leases: path("/leases"),
            socket: path("/run/s1"),
            certificates: path("/pki"),
            hooks: path("/hooks"),
        }
    }

    #[test]
    fn one_server_alone_has_neither_hooks_nor_a_control_socket() {
        let dhcp4 =
            document(&cell(Server::Kea, None), Role::Primary, Reach::Primary, &places())["Dhcp4"].clone();
        assert_eq!(dhcp4["multi-threading"]["thread-pool-size"], 2);
        assert_eq!(dhcp4["interfaces-config"]["dhcp-socket-type"], "raw");
        for key in ["hooks-libraries", "control-socket", "user-context"] {
            assert!(dhcp4[key].is_null(), "{key}");
        }
        let ours =
            document(&cell(Server::Tandem, None), Role::Primary, Reach::Primary, &places())["Dhcp4"].clone();
        assert_eq!(ours["user-context"]["tandem"]["durability"], "written");
        for (server, expected) in [(Server::Kea, "udp"), (Server::Tandem, "raw")] {
            let relayed = Cell { attachment: Attachment::Relayed, ..cell(server, None) };
            let dhcp4 = document(&relayed, Role::Primary, Reach::Primary, &places())["Dhcp4"].clone();
            assert_eq!(dhcp4["interfaces-config"]["dhcp-socket-type"], expected);
        }
    }

    #[test]
    fn of_a_mixed_pair_each_is_told_what_it_knows() {
        let ha = Ha { channel: Channel::Tls, listeners: 1, senders: 1, partner: Some(Server::Tandem) };
        let relayed = Cell { attachment: Attachment::Relayed, ..cell(Server::Kea, Some(ha)) };
        let of = |role| document(&relayed, role, Reach::Primary, &places())["Dhcp4"].clone();
        let (kea, ours) = (of(Role::Primary), of(Role::Standby));
        assert!(kea["user-context"].is_null() && !ours["user-context"].is_null());
        assert_eq!(kea["interfaces-config"]["dhcp-socket-type"], "udp");
        assert_eq!(ours["interfaces-config"]["dhcp-socket-type"], "raw");
    }

    #[test]
    fn both_of_a_pair_have_the_same_block_but_for_their_own_name() {
        let ha = |channel| Some(Ha { channel, listeners: 4, senders: 3, partner: None });
        let block = |role, channel| {
            let dhcp4 =
                document(&cell(Server::Kea, ha(channel)), role, Reach::Both, &places())["Dhcp4"].clone();
            dhcp4["hooks-libraries"][1]["parameters"]["high-availability"][0].clone()
        };
        let (mut one, other) = (block(Role::Primary, Channel::Tls), block(Role::Standby, Channel::Tls));
        assert_eq!((&one["heartbeat-delay"], &one["max-response-delay"]), (&500.into(), &2500.into()));
        assert_eq!(one["multi-threading"]["http-listener-threads"], 4);
        assert_eq!(one["multi-threading"]["http-client-threads"], 3);
        assert_eq!(one["peers"][1]["cert-file"], "/pki/server2_cert.pem");
        assert_eq!(
            (&one["this-server-name"], &other["this-server-name"]),
            (&"server1".into(), &"server2".into())
        );
        one["this-server-name"] = "server2".into();
        assert_eq!(one, other);
        assert!(block(Role::Primary, Channel::Plain)["peers"][0]["cert-file"].is_null());
    }
}
