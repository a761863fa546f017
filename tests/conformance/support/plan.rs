//! What a site is made from: who sits where, and one configuration for all of them, in the words both Kea and Tandem
//! know, written as JSON.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::server::Kind;

/// Where Debian puts Kea's hook libraries.
const KEA_HOOKS: &str = "/usr/lib/x86_64-linux-gnu/kea/hooks";
/// The port of every HA listener.
pub const PORT: u16 = 8001;
/// What the dynamic pool of the subnet 10.99.0.0/16 (number 1) is.
pub const POOL: &str = "10.99.1.0 - 10.99.8.255";

/// Who is at a place of the relationship.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seat {
    /// A script of the test.
    Script,
    /// A real server.
    Server(Kind),
}

/// Tandem.
pub const N: Seat = Seat::Server(Kind::Tandem);
/// Kea 2.2.
pub const K: Seat = Seat::Server(Kind::Kea);
/// A script.
pub const S: Seat = Seat::Script;

type Edit = Arc<dyn Fn(usize, &mut Value) + Send + Sync>;

/// The plan of a site; the edits are made in their order.
#[derive(Clone)]
pub struct Plan {
    pub seats: Vec<Seat>,
    pub is_tapped: bool,
    mode: &'static str,
    roles: Vec<&'static str>,
    edits: Vec<Edit>,
}

impl Plan {
    /// A hot-standby pair, the primary first.
    pub fn hot_standby(seats: [Seat; 2]) -> Self {
        Self::new("hot-standby", &seats, &["primary", "standby"])
    }

    /// A relationship of `mode`.
    pub fn new(mode: &'static str, seats: &[Seat], roles: &[&'static str]) -> Self {
        assert_eq!(seats.len(), roles.len());
        Self { seats: seats.to_vec(), is_tapped: false, mode, roles: roles.to_vec(), edits: Vec::new() }
    }

    /// Every server reaches the others through a tap in its own host.
    pub fn tapped(mut self) -> Self {
        self.is_tapped = true;
        self
    }

    /// Changes the `Dhcp4` of each server.
    pub fn edit(mut self, edit: impl Fn(usize, &mut Value) + Send + Sync + 'static) -> Self {
        self.edits.push(Arc::new(edit));
        self
    }

    /// A parameter of the relationship, in every file.
    pub fn ha(self, key: &'static str, value: Value) -> Self {
        self.edit(move |_, dhcp4| relationship(dhcp4)[key] = value.clone())
    }

    /// A parameter of the relationship, in the file of one server.
    pub fn ha_of(self, server: usize, key: &'static str, value: Value) -> Self {
        self.edit(move |index, dhcp4| {
            if index == server {
                relationship(dhcp4)[key] = value.clone();
            }
        })
    }

    /// A global parameter, in every file.
    pub fn global(self, key: &'static str, value: Value) -> Self {
        self.edit(move |_, dhcp4| dhcp4[key] = value.clone())
    }

    /// The configuration of one server, whose files lie in `folder`.
    pub fn configuration(&self, server: usize, folder: &Path) -> Value {
        let kind = match self.seats[server] {
            Seat::Script => Kind::Tandem,
            Seat::Server(kind) => kind,
        };
        let file = |name: &str| folder.join(name).to_str().expect("a UTF-8 path").to_owned();
        let library = |name: &str| match kind {
            Kind::Kea => format!("{KEA_HOOKS}/{name}"),
            Kind::Tandem => name.to_owned(),
        };
        let parameters = json!({ "high-availability": [self.relationship(server)] });
        let mut dhcp4 = json!({
            "interfaces-config": { "interfaces": ["lan0"] },
            "control-socket": { "socket-type": "unix", "socket-name": file("socket") },
            "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 2, "packet-queue-size": 64 },
            "lease-database": { "type": "memfile", "persist": true, "name": file("leases.csv"), "lfc-interval": 0 },
            "valid-lifetime": 600,
            "renew-timer": 200,
            "rebind-timer": 400,
            "expired-leases-processing": { "reclaim-timer-wait-time": 3600, "hold-reclaimed-time": 172_800 },
            "hooks-libraries": [
                { "library": library("libdhcp_lease_cmds.so") },
                { "library": library("libdhcp_ha.so"), "parameters": parameters },
            ],
            "subnet4": [{ "id": 1, "subnet": "10.99.0.0/16", "pools": [{ "pool": POOL }] }],
            "loggers": [
                { "name": "kea-dhcp4", "output_options": [{ "output": "stdout" }], "severity": "INFO" },
            ],
        });
        for edit in &self.edits {
            edit(server, &mut dhcp4);
        }
        json!({ "Dhcp4": dhcp4 })
    }

    fn relationship(&self, server: usize) -> Value {
        let peers: Vec<Value> = (0..self.seats.len())
            .map(|peer| {
                let at = if peer == server || !self.is_tapped { address(peer) } else { tap_address(peer) };
                let url = format!("http://{at}/");
                json!({ "name": name(peer), "url": url, "role": self.roles[peer], "auto-failover": true })
            })
            .collect();
        json!({
            "this-server-name": name(server),
            "mode": self.mode,
            "heartbeat-delay": 1000,
            "max-response-delay": 4000,
            "max-ack-delay": 1000,
            "max-unacked-clients": 2,
            "sync-timeout": 10_000,
            "multi-threading": {
                "enable-multi-threading": true,
                "http-dedicated-listener": true,
                "http-listener-threads": 2,
                "http-client-threads": 2,
            },
            "peers": peers,
        })
    }
}

/// The relationship in a `Dhcp4`.
pub fn relationship(dhcp4: &mut Value) -> &mut Value {
    &mut dhcp4["hooks-libraries"][1]["parameters"]["high-availability"][0]
}

/// A peer of the relationship in a `Dhcp4`.
pub fn peer(dhcp4: &mut Value, index: usize) -> &mut Value {
    &mut relationship(dhcp4)["peers"][index]
}

/// `this-server-name` of a server: `server1` is number 0.
pub fn name(server: usize) -> String {
    format!("server{}", server + 1)
}

/// Where a server's HA listener is.
pub fn address(server: usize) -> SocketAddr {
    (Ipv4Addr::new(10, 98, 0, server as u8 + 1), PORT).into()
}

/// Where the tap towards a server is, in every other host.
pub fn tap_address(server: usize) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, PORT + 100 + server as u16).into()
}
