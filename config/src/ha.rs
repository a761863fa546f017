//! The `high-availability` block of `libdhcp_ha.so` (ha-protocol section 1).
//!
//! Whose identity is whose: the entry of *another* peer describes the client side towards it (the certificate
//! shown to it, the CA its certificate is checked against, the credentials sent to it); the own entry describes
//! the own listener, with the credentials it demands. Use `own` and `others` of [`Relationship`] and take TLS
//! files and credentials from there, nowhere else.
//!
//! Some defaults follow the release whose dialect the file speaks, as a server of that release would have acted
//! on the same file: see [`HaMultiThreading`] and [`Relationship::restrict_commands`].

use std::fmt;
use std::net::SocketAddr;

use crate::socket::TlsFiles;
use crate::value::{Located, Position};

/// One relationship: this server, the other active one where there is one, and any number of backups.
///
/// Invariants: there is one primary; load-balancing has one secondary and hot-standby one standby beside it, and
/// nobody else but backups; names and addresses are distinct. `delayed-updates-limit` is 0 but in
/// load-balancing, `wait-backup-ack` false but in passive-backup. `this-server-name` is the name of `own`.
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
    /// `delayed-updates-limit`, lease updates kept while the partner is away: 100 by default in load-balancing;
    /// 0 in the other modes, and then there is no communication-recovery.
    pub delayed_updates_limit: Located<u32>,
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
    /// `wait-backup-ack`: whether a reply waits for the backups, of passive-backup only; false by default.
    pub wait_backup_ack: Located<bool>,
    /// `require-client-certs`: whether the own listener demands a client certificate; true by default.
    pub require_client_certs: Located<bool>,
    /// `restrict-commands`: whether the own listener answers only what partners need; by default true in the
    /// dialect of 3.x and false in that of 2.2.
    pub restrict_commands: Located<bool>,
    /// `multi-threading`.
    pub multi_threading: HaMultiThreading,
    /// `state-machine`: the states with a `pause` that is not `never`, each once.
    pub pauses: Vec<StatePause>,
    /// The entry of this server: it describes the own listener.
    pub own: Peer,
    /// All other servers: the other active one first where [`Relationship::partner`] is one, then the rest in
    /// the order of the file. The place in this list is the peer index that the server uses everywhere.
    pub others: Vec<Peer>,
}

impl Relationship {
    /// The other active server, which is the first of `others`; `None` for a backup, and in passive-backup.
    pub fn partner(&self) -> Option<&Peer> {
        let active = *self.own.role != Role::Backup && *self.mode != Mode::PassiveBackup;
        self.others.first().filter(|_| active)
    }

    /// All servers, this one first.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        std::iter::once(&self.own).chain(&self.others)
    }
}

/// `multi-threading` of the block (ha-protocol 1.5).
#[derive(Clone, Debug, PartialEq)]
pub struct HaMultiThreading {
    /// `enable-multi-threading`: by default true in the dialect of 3.x and false in that of 2.2; false also
    /// where the server's own `multi-threading` is off. False is one connection per peer and no dedicated
    /// listener.
    pub enabled: Located<bool>,
    /// `http-dedicated-listener`, whose default is that of `enabled`; see
    /// [`HaMultiThreading::has_dedicated_listener`].
    pub dedicated_listener: Located<bool>,
    /// `http-listener-threads`; 0 is as many as DHCP threads.
    pub listener_threads: Located<u32>,
    /// `http-client-threads`, also the connections per peer; 0 is as many as DHCP threads.
    pub client_threads: Located<u32>,
}

impl HaMultiThreading {
    /// Whether the own URL is listened on by the server itself. If not, partners come through the control agent
    /// or the server's http control socket.
    pub fn has_dedicated_listener(&self) -> bool {
        *self.enabled && *self.dedicated_listener
    }

    /// Listener executors for a server with `shards` shards.
    pub fn listeners(&self, shards: u32) -> u32 {
        match self.has_dedicated_listener() {
            true => threads(true, *self.listener_threads, shards),
            false => 0,
        }
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

/// A state that the machine stops in on entering it (ha-protocol 1.7).
#[derive(Clone, Debug, PartialEq)]
pub struct StatePause {
    /// Kea's name of the state.
    pub state: &'static str,
    /// How often.
    pub pause: Located<Pause>,
}

/// How often the machine pauses in a state; `never` is the default, and not kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pause {
    /// `always`.
    Always,
    /// `once`.
    Once,
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
    /// `auto-failover`, true by default; false of the own entry: partner-down keeps the own scopes only. It means
    /// nothing elsewhere.
    pub auto_failover: Located<bool>,
    /// TLS files, those of the relationship filled in; `None` is plain TCP, whatever the URL's scheme says.
    pub tls: Option<TlsFiles>,
    /// Credentials: those the own listener demands, or those sent to another peer; `None` is without.
    pub basic_auth: Option<BasicAuth>,
}

/// `basic-auth-user` and its companions.
#[derive(Clone, Debug, PartialEq)]
pub struct BasicAuth {
    /// `basic-auth-user` or `basic-auth-user-file`; a text is not empty and has no colon.
    pub user: Secret,
    /// `basic-auth-password` or `basic-auth-password-file`; an empty text where there is neither.
    pub password: Secret,
}

/// One half of the credentials.
#[derive(Clone, PartialEq)]
pub enum Secret {
    /// The first line of a file, by its path as written.
    File(Located<String>),
    /// The text itself.
    Text(Located<String>),
}

impl fmt::Debug for Secret {
    /// Never shows a text: what has this inside gets logged.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "File({})", path.value),
            Self::Text(_) => out.write_str("Text(…)"),
        }
    }
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
    /// `load-balancing`.
    LoadBalancing,
    /// `passive-backup`.
    PassiveBackup,
}

/// Roles by Kea's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// `backup`.
    Backup,
    /// `primary`.
    Primary,
    /// `secondary`, of load-balancing.
    Secondary,
    /// `standby`, of hot-standby.
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

    /// The mode as Kea spells it in what it says of roles and limits.
    pub(crate) fn spelt(self) -> &'static str {
        match self {
            Self::HotStandby => "hot standby",
            Self::LoadBalancing => "load balancing",
            Self::PassiveBackup => "passive backup",
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
