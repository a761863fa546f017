//! A `Dhcp4` file as types. Everything here is built; what is not has been refused or warned about.

use std::sync::Arc;

use crate::ha::Relationship;
use crate::logger::Logger;
use crate::option::{OptionData, OptionDefinition};
use crate::scope::Scope;
use crate::socket::ControlSocket;
use crate::subnet::Subnet;
use crate::tandem::Tandem;
use crate::value::{Located, Value};

/// A DHCPv4 server's file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Which release's dialect the file speaks.
    pub dialect: Dialect,
    /// `interfaces-config`.
    pub interfaces: InterfacesConfig,
    /// `lease-database`, always memfile.
    pub lease_database: LeaseDatabase,
    /// `multi-threading`.
    pub multi_threading: MultiThreading,
    /// `expired-leases-processing` (ALC-42).
    pub expired_leases: ExpiredLeases,
    /// Global scope of what subnets inherit.
    pub scope: Scope,
    /// Global `option-def`.
    pub option_definitions: Vec<OptionDefinition>,
    /// Global `option-data`.
    pub options: Vec<OptionData>,
    /// `subnet4` in ascending id.
    pub subnets: Vec<Subnet>,
    /// `echo-client-id`, true by default (PKT-47).
    pub echo_client_id: Located<bool>,
    /// `decline-probation-period`, seconds, 86400 by default (PKT-78).
    pub decline_probation_period_s: Located<u32>,
    /// `parked-packet-limit`, 256 by default; 0 is unlimited.
    pub parked_packet_limit: Located<u32>,
    /// `compatibility`.
    pub compatibility: Compatibility,
    /// `control-socket` or `control-sockets`.
    pub control_sockets: Vec<ControlSocket>,
    /// `hooks-libraries`: features switched on by name.
    pub hooks: Hooks,
    /// `loggers`.
    pub loggers: Vec<Logger>,
    /// `user-context.tandem`.
    pub tandem: Tandem,
    /// The map under `Dhcp4` as written, for config-get.
    pub tree: Arc<Value>,
}

impl Document {
    /// Whether other servers of a relationship come through the control channels, or the control agent in front of
    /// them: there is no dedicated listener.
    pub fn partners_use_control_channels(&self) -> bool {
        let mut relationships = self.hooks.high_availability.iter();
        relationships.any(|relationship| !relationship.multi_threading.has_dedicated_listener())
    }
}

/// The release whose dialect a file speaks; version-get answers with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// 2.2: `control-socket`.
    Kea2_2,
    /// 3.x: `control-sockets`, or no control channel at all.
    Kea3,
}

/// `interfaces-config` (PKT-2, PKT-3).
#[derive(Clone, Debug, PartialEq)]
pub struct InterfacesConfig {
    /// `interfaces`, in file order, without duplicates.
    pub interfaces: Vec<Located<InterfaceEntry>>,
    /// `dhcp-socket-type`, raw by default.
    pub socket_type: Located<SocketType>,
}

/// One entry of `interfaces`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum InterfaceEntry {
    /// `*`: every interface but loopback.
    All,
    /// `eth0/192.0.2.1`: that address only.
    NameAndAddress(String, std::net::Ipv4Addr),
    /// `eth0`: every IPv4 address on it.
    Name(String),
}

/// How packets are received and sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SocketType {
    /// `raw`: clients without an address are served.
    Raw,
    /// `udp`: relayed and unicast clients only.
    Udp,
}

/// `lease-database` of type memfile.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseDatabase {
    /// `persist`, true by default; false keeps leases in memory only.
    pub persist: Located<bool>,
    /// `name`, as written; `None` is `kea-leases4.csv`. See [`crate::paths::Folders::lease_file`].
    pub name: Option<Located<String>>,
    /// `lfc-interval`, seconds, 3600 by default; 0 turns the clean-up off.
    pub lfc_interval_s: Located<u32>,
    /// `max-row-errors`, 0 by default, which is unlimited.
    pub max_row_errors: Located<u32>,
}

/// `multi-threading`.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiThreading {
    /// `enable-multi-threading`, true by default; false is one shard.
    pub enabled: Located<bool>,
    /// `thread-pool-size`: shards; 0 is one for each processor allowed.
    pub thread_pool_size: Located<u16>,
    /// `packet-queue-size`: undecided datagrams of the server, 64 by default; 0 is unlimited.
    pub packet_queue_size: Located<u32>,
}

impl MultiThreading {
    /// Shards asked for; `None` is one for each processor allowed.
    pub fn shards(&self) -> Option<u16> {
        match (*self.enabled, *self.thread_pool_size) {
            (false, _) => Some(1),
            (true, 0) => None,
            (true, size) => Some(size),
        }
    }
}

/// `expired-leases-processing` (ALC-42).
#[derive(Clone, Debug, PartialEq)]
pub struct ExpiredLeases {
    /// `reclaim-timer-wait-time`, seconds, 0..=65535, 10 by default; 0 turns the cycles off.
    pub reclaim_timer_wait_s: Located<u32>,
    /// `flush-reclaimed-timer-wait-time`, seconds, 0..=65535, 25 by default; 0 turns the purges off.
    pub flush_reclaimed_timer_wait_s: Located<u32>,
    /// `hold-reclaimed-time`, seconds, 3600 by default.
    pub hold_reclaimed_s: Located<u32>,
    /// `max-reclaim-leases` per cycle, 100 by default; 0 is unlimited.
    pub max_reclaim_leases: Located<u32>,
    /// `max-reclaim-time`, milliseconds per cycle, 0..=10000, 250 by default; 0 is unlimited.
    pub max_reclaim_time_ms: Located<u32>,
    /// `unwarned-reclaim-cycles`, 0..=65535, 5 by default.
    pub unwarned_reclaim_cycles: Located<u32>,
}

/// `compatibility`; all false by default.
#[derive(Clone, Debug, PartialEq)]
pub struct Compatibility {
    /// `ignore-dhcp-server-identifier` (PKT-32).
    pub ignore_dhcp_server_identifier: Located<bool>,
    /// `ignore-rai-link-selection` (ALC-2).
    pub ignore_rai_link_selection: Located<bool>,
    /// `exclude-first-last-24` (ALC-35).
    pub exclude_first_last_24: Located<bool>,
}

/// Features that `hooks-libraries` switches on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hooks {
    /// Whether `libdhcp_lease_cmds.so` is listed: the lease commands.
    pub lease_commands: bool,
    /// The relationships of `libdhcp_ha.so` in file order; none where it is not listed. Several are of a hub: each is
    /// hot-standby and has a listener of its own, and no two have a peer of the same name (ha-protocol 1.9).
    pub high_availability: Vec<Relationship>,
}
