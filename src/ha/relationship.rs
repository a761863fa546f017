//! What the HA machine needs of the configuration, defaults applied: modes, roles, peers, limits, pauses.
//!
//! The document has refused what contradicts itself (ha-protocol 1.8), so nothing here can fail.

use super::state::{Mode, OwnState, PartnerState, Role};
use super::view::BackupPeers;

/// Whether the machine pauses when it enters a state (ha-protocol 1.7).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Pause {
    /// Every time.
    Always,
    /// Never.
    #[default]
    Never,
    /// The first time.
    Once,
}

/// Another server of the relationship.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerName {
    /// `name`.
    pub name: String,
    /// `url`, for the log.
    pub url: String,
    /// `role`.
    pub role: Role,
}

/// One relationship as seen by this server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Relationship {
    /// Its place in the list of relationships; local locks have the id 1000 plus it (ha-protocol 3.2).
    pub index: u8,
    /// `mode`.
    pub mode: Mode,
    /// `this-server-name`.
    pub this_server_name: String,
    /// Own role.
    pub role: Role,
    /// Every other peer: the other active server first where this one is active and the mode has one, then the
    /// rest in the order of the file. The index in this list is the *peer index* wherever one is spoken of.
    pub others: Vec<PeerName>,
    /// `auto-failover` of the own entry: false serves the own scopes only, even alone.
    pub auto_failover: bool,
    /// `send-lease-updates`.
    pub send_lease_updates: bool,
    /// `wait-backup-ack` (passive-backup only).
    pub wait_backup_ack: bool,
    /// `sync-leases`.
    pub sync_leases: bool,
    /// `sync-timeout`, milliseconds; 0 is no timeout.
    pub sync_timeout_ms: u32,
    /// `sync-page-limit`, at least 1.
    pub sync_page_limit: u32,
    /// `delayed-updates-limit`, updates; 0 does without communication-recovery.
    pub delayed_updates_limit: u32,
    /// `heartbeat-delay`, milliseconds; 0 turns heartbeats off, and the server never leaves `waiting`.
    pub heartbeat_delay_ms: u32,
    /// `max-response-delay`, milliseconds.
    pub max_response_delay_ms: u32,
    /// `max-ack-delay`, milliseconds.
    pub max_ack_delay_ms: u32,
    /// `max-unacked-clients`; 0 skips the traffic analysis.
    pub max_unacked_clients: u32,
    /// `max-rejected-lease-updates`; 0 is never.
    pub max_rejected_lease_updates: u32,
    /// `state-machine.states`: states with a pause. `unavailable` may be among them and is never entered.
    pub pauses: Vec<(PartnerState, Pause)>,
}

impl Relationship {
    /// The relationship that `document` describes, at the place `index` of the list.
    pub fn new(index: u8, document: &config::ha::Relationship) -> Self {
        Self {
            index,
            mode: match *document.mode {
                config::ha::Mode::HotStandby => Mode::HotStandby,
                config::ha::Mode::LoadBalancing => Mode::LoadBalancing,
                config::ha::Mode::PassiveBackup => Mode::PassiveBackup,
            },
            this_server_name: document.own.name.to_string(),
            role: role(*document.own.role),
            others: document.others.iter().map(peer_name).collect(),
            auto_failover: *document.own.auto_failover,
            send_lease_updates: *document.send_lease_updates,
            wait_backup_ack: *document.wait_backup_ack,
            sync_leases: *document.sync_leases,
            sync_timeout_ms: *document.sync_timeout_ms,
            sync_page_limit: *document.sync_page_limit,
            delayed_updates_limit: *document.delayed_updates_limit,
            heartbeat_delay_ms: *document.heartbeat_delay_ms,
            max_response_delay_ms: *document.max_response_delay_ms,
            max_ack_delay_ms: *document.max_ack_delay_ms,
            max_unacked_clients: *document.max_unacked_clients,
            max_rejected_lease_updates: *document.max_rejected_lease_updates,
            pauses: document.pauses.iter().filter_map(pause).collect(),
        }
    }
}

fn peer_name(document: &config::ha::Peer) -> PeerName {
    PeerName { name: document.name.to_string(), url: document.url.text.clone(), role: role(*document.role) }
}

/// The document knows the names of all states, so none is lost.
fn pause(document: &config::ha::StatePause) -> Option<(PartnerState, Pause)> {
    let pause = match *document.pause {
        config::ha::Pause::Always => Pause::Always,
        config::ha::Pause::Once => Pause::Once,
    };
    PartnerState::from_name(document.state).map(|state| (state, pause))
}

fn role(document: config::ha::Role) -> Role {
    match document {
        config::ha::Role::Backup => Role::Backup,
        config::ha::Role::Primary => Role::Primary,
        config::ha::Role::Secondary => Role::Secondary,
        config::ha::Role::Standby => Role::Standby,
    }
}

impl Relationship {
    /// Whether there is an active partner; it is then `others[0]`.
    pub fn has_partner(&self) -> bool {
        self.role != Role::Backup && self.others.first().is_some_and(|peer| peer.role != Role::Backup)
    }

    /// The active partner, if there is one.
    pub fn partner(&self) -> Option<&PeerName> {
        self.others.first().filter(|_| self.has_partner())
    }

    /// Peer indices of the backup servers. A backup server tells nobody.
    pub fn backup_peers(&self) -> BackupPeers {
        if self.role == Role::Backup {
            return BackupPeers::default();
        }
        let first = u8::from(self.has_partner());
        let count = self.others.iter().filter(|peer| peer.role == Role::Backup).count();
        BackupPeers { first, count: u8::try_from(count).unwrap_or(u8::MAX) }
    }

    /// Name of the peer with this role, this server included: the name of its scope.
    pub fn name_of(&self, role: Role) -> Option<&str> {
        if self.role == role {
            return Some(&self.this_server_name);
        }
        self.others.iter().find(|peer| peer.role == role).map(|peer| peer.name.as_str())
    }

    /// Peer index of the server of this name; `None` for this server and for a stranger.
    pub fn index_of(&self, name: &str) -> Option<u8> {
        let index = self.others.iter().position(|peer| peer.name == name)?;
        u8::try_from(index).ok()
    }

    /// Whether `name` is a peer's, this server included.
    pub fn knows(&self, name: &str) -> bool {
        name == self.this_server_name || self.others.iter().any(|peer| peer.name == name)
    }

    /// Whether and when the machine pauses on entering `state`.
    pub fn pause(&self, state: OwnState) -> Pause {
        let state = state.as_seen_by_partner();
        self.pauses.iter().find(|(named, _)| *named == state).map_or(Pause::Never, |(_, pause)| *pause)
    }

    /// `max-period` of `dhcp-disable`, seconds (ha-protocol 1.4).
    pub fn sync_max_period_s(&self) -> u64 {
        u64::from(self.sync_timeout_ms / 1000).max(1)
    }

    /// How long a heartbeat may take: shorter than Kea's 10 s where that would hide the deadline it serves
    /// (ha-protocol 8 no. 3).
    pub fn heartbeat_timeout_ms(&self) -> u64 {
        u64::from(self.max_response_delay_ms / 3).clamp(1_000, 10_000)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A relationship of two servers, or of a primary and one backup, with short lists and Kea's delays.
    pub fn relationship(mode: Mode, role: Role) -> Relationship {
        let (this, other, other_role) = match (mode, role) {
            (Mode::HotStandby, Role::Primary) => ("server1", "server2", Role::Standby),
            (Mode::LoadBalancing, Role::Primary) => ("server1", "server2", Role::Secondary),
            (Mode::PassiveBackup, Role::Primary) => ("server1", "server2", Role::Backup),
            _ => ("server2", "server1", Role::Primary),
        };
        Relationship {
            index: 0,
            mode,
            this_server_name: this.into(),
            role,
            others: vec![PeerName {
                name: other.into(),
                url: "http://10.99.0.2:8005/".into(),
                role: other_role,
            }],
            auto_failover: true,
            send_lease_updates: true,
            wait_backup_ack: false,
            sync_leases: true,
            sync_timeout_ms: 60_000,
            sync_page_limit: 10,
            delayed_updates_limit: if mode == Mode::LoadBalancing { 3 } else { 0 },
            heartbeat_delay_ms: 10_000,
            max_response_delay_ms: 60_000,
            max_ack_delay_ms: 10_000,
            max_unacked_clients: 2,
            max_rejected_lease_updates: 2,
            pauses: Vec::new(),
        }
    }

    #[test]
    fn peers_are_told_apart_by_index_name_and_role() {
        let mut pair = relationship(Mode::HotStandby, Role::Standby);
        for name in ["backup1", "backup2"] {
            pair.others.push(PeerName { name: name.into(), url: String::new(), role: Role::Backup });
        }
        assert_eq!(pair.partner().map(|partner| partner.name.as_str()), Some("server1"));
        assert_eq!(pair.backup_peers().indices(), 1..3);
        assert_eq!(pair.index_of("backup2"), Some(2));
        assert_eq!((pair.index_of("server2"), pair.index_of("x")), (None, None));
        assert_eq!(
            (pair.name_of(Role::Primary), pair.name_of(Role::Standby)),
            (Some("server1"), Some("server2"))
        );
        let passive = relationship(Mode::PassiveBackup, Role::Primary);
        assert!(passive.partner().is_none());
        assert_eq!(passive.backup_peers().indices(), 0..1);
        let backup = relationship(Mode::PassiveBackup, Role::Backup);
        assert!(backup.partner().is_none() && backup.backup_peers().indices().is_empty());
    }
}
