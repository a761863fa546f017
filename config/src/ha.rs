//! The `high-availability` block of `libdhcp_ha.so` (ha-protocol section 1).
//!
//! Whose identity is whose: the entry of *another* peer describes the client side towards it (the certificate
//! shown to it, the CA its certificate is checked against); the own entry describes the own listener. Use
//! `own` and `partner` of [`Relationship`] and take the TLS files from there, nowhere else.

use std::net::SocketAddr;

use crate::socket::TlsFiles;
use crate::value::{Located, Position};

/// One relationship: two active servers in hot-standby.
///
/// Invariants: `mode` is hot-standby; one of `own` and `partner` is the primary, the other the standby, and
/// there is nobody else; `delayed-updates-limit` is 0 and `wait-backup-ack` false. `this-server-name` is the
/// name of `own`.
#[derive(Clone, Debug, PartialEq)]
pub struct Relationship {
    /// Where the block starts.
    pub position: Position,
    /// `mode`.
    pub mode: Located<Mode>,
    /// `send-lease-updates`, true by default.
    pub send_lease_updates: Located<bool>,
    /// `sync-leases`, true by default; false goes from waiting straight to ready.
    pub sync_leases: Located<bool>,
    /// `sync-timeout`, milliseconds, 60000 by default; 0 is no timeout.
    pub sync_timeout_ms: Located<u32>,
    /// `sync-page-limit`, leases, at least 1, 10000 by default.
    pub sync_page_limit: Located<u32>,
    /// `heartbeat-delay`, milliseconds, 10000 by default; 0 turns heartbeats off.
    pub heartbeat_delay_ms: Located<u32>,
    /// `max-response-delay`, milliseconds, 60000 by default.
    pub max_response_delay_ms: Located<u32>,
    /// `max-ack-delay`, milliseconds, 10000 by default.
    pub max_ack_delay_ms: Located<u32>,
    /// `max-unacked-clients`, 10 by default; 0 skips the traffic analysis.
    pub max_unacked_clients: Located<u32>,
    /// `max-rejected-lease-updates`, 10 by default; 0 is never.
    pub max_rejected_lease_updates: Located<u32>,
    /// `require-client-certs`: whether the own listener demands a client certificate; true by default.
    pub require_client_certs: Located<bool>,
    /// `restrict-commands`: whether the own listener answers only what partners need; true by default.
    pub restrict_commands: Located<bool>,
    /// `multi-threading`.
    pub multi_threading: HaMultiThreading,
    /// The entry of this server: it describes the own listener.
    pub own: Peer,
    /// The entry of the partner: it describes the client side towards it.
    pub partner: Peer,
}

/// `multi-threading` of the block (ha-protocol 1.5).
#[derive(Clone, Debug, PartialEq)]
pub struct HaMultiThreading {
    /// `enable-multi-threading`, true by default. False is one connection and one listener executor.
    pub enabled: Located<bool>,
    /// `http-listener-threads`; 0 is as many as DHCP threads.
    pub listener_threads: Located<u32>,
    /// `http-client-threads`, also the connections per peer; 0 is as many as DHCP threads.
    pub client_threads: Located<u32>,
}

impl HaMultiThreading {
    /// Listener executors for a server with `shards` shards.
    pub fn listeners(&self, shards: u32) -> u32 {
        threads(*self.enabled, *self.listener_threads, shards)
    }

    /// Sender executors for a server with `shards` shards.
    pub fn senders(&self, shards: u32) -> u32 {
        threads(*self.enabled, *self.client_threads, shards)
    }
}

fn threads(enabled: bool, configured: u32, shards: u32) -> u32 {
    match (enabled, configured) {
        (false, _) => 1,
        (true, 0) => shards.max(1),
        (true, configured) => configured,
    }
}

/// One server of the relationship.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Where the entry starts.
    pub position: Position,
    /// `name`, trimmed.
    pub name: Located<String>,
    /// `url`.
    pub url: Located<PeerUrl>,
    /// `role`.
    pub role: Located<Role>,
    /// `auto-failover`, true by default; false is refused for the own entry and means nothing elsewhere.
    pub auto_failover: Located<bool>,
    /// TLS files, those of the relationship filled in; `None` is plain TCP, whatever the URL's scheme says.
    pub tls: Option<TlsFiles>,
}

/// A peer's URL: requests always go to `/` there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerUrl {
    /// The URL as written, for logs.
    pub text: String,
    /// Address and port; the port is never 0.
    pub address: SocketAddr,
}

/// HA modes by Kea's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// `hot-standby`.
    HotStandby,
    /// `load-balancing`; refused for now.
    LoadBalancing,
    /// `passive-backup`; refused for now.
    PassiveBackup,
}

/// Roles by Kea's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// `backup`; refused for now.
    Backup,
    /// `primary`.
    Primary,
    /// `secondary`, of load-balancing; refused for now.
    Secondary,
    /// `standby`.
    Standby,
}

impl Mode {
    /// Kea's name of the mode.
    pub fn name(self) -> &'static str {
        match self {
            Self::HotStandby => "hot-standby",
            Self::LoadBalancing => "load-balancing",
            Self::PassiveBackup => "passive-backup",
        }
    }
}

impl Role {
    /// Kea's name of the role.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Standby => "standby",
        }
    }
}
