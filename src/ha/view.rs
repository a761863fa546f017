//! What shards, listeners and senders must know of the HA machine, and nothing more.

use super::fence::Fence;
use crate::policy::Scope;

/// What happens to lease updates for the active partner (ha-protocol 5.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UpdateMode {
    /// Not sent; the unsent-update counter rises per query.
    #[default]
    None,
    /// Not applicable: no partner, or `send-lease-updates` is false. Nothing is counted.
    Off,
    /// Put into the backlog (communication-recovery); nothing waits for it and nothing is counted.
    Queue,
    /// Sent, and the reply waits for the answer.
    Send,
}

/// What happens to lease updates for backup servers, in every state alike (ha-protocol 4.1, 5.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BackupUpdates {
    /// There is no backup server, or `send-lease-updates` is false.
    #[default]
    None,
    /// Sent, and nobody waits for the answer.
    Send,
    /// Sent, and the reply waits for the answer (`wait-backup-ack`, passive-backup only).
    SendAndWait,
}

/// Peer indices of the backup servers: they follow one another in the relationship's list of other peers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BackupPeers {
    /// Index of the first one.
    pub first: u8,
    /// How many there are.
    pub count: u8,
}

impl BackupPeers {
    /// The indices, ascending.
    pub fn indices(self) -> std::ops::Range<u8> {
        self.first..self.first.saturating_add(self.count)
    }
}

/// Scopes a server answers for (ha-protocol 4.1, 5.9).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Scopes {
    /// The primary's: every query where the load is not balanced.
    pub primary: bool,
    /// The secondary's (load-balancing only).
    pub secondary: bool,
}

impl Scopes {
    /// Nobody's.
    pub const NONE: Self = Self { primary: false, secondary: false };
    /// The primary's alone.
    pub const PRIMARY: Self = Self { primary: true, secondary: false };
    /// The secondary's alone.
    pub const SECONDARY: Self = Self { primary: false, secondary: true };
    /// Both.
    pub const BOTH: Self = Self { primary: true, secondary: true };

    /// Whether queries of `scope` are answered.
    pub fn serves(self, scope: Scope) -> bool {
        match scope {
            Scope::Primary => self.primary,
            Scope::Secondary => self.secondary,
        }
    }

    /// Whether any scope is served.
    pub fn any(self) -> bool {
        self.primary || self.secondary
    }
}

/// Since when a server has served alone. What it has given since then no lease takes from its client that a partner gave
/// without knowing of it: nobody was answered on the strength of that one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Alone {
    /// Own wall clock, seconds.
    pub since_s: u64,
    /// The partner has served alone as well, from then on: its own wall clock, seconds. Of those leases the newer one
    /// stays.
    pub partner_since_s: Option<u64>,
    /// The partner has copied these leases: what it gives from then on, by its own wall clock in seconds, it gives knowing
    /// of them. A Kea keeps what it takes for newer when it copies, so of one nobody knows when.
    pub partner_knows_since_s: Option<u64>,
}

/// When leases were given that the partner was not told of then, by the own wall clock, seconds. It has yet to get them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Untold {
    /// From then on.
    pub since_s: u64,
    /// Until then; `u64::MAX` while it goes on.
    pub until_s: u64,
}

impl Untold {
    /// Whether a lease of the time `cltt` may be one of them.
    pub fn includes(self, cltt: u64) -> bool {
        (self.since_s..=self.until_s).contains(&cltt)
    }
}

/// The HA machine's word, posted to every shard under a rising epoch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HaView {
    /// Place of the relationship it is of in the list.
    pub relationship: u8,
    /// Rises with every change.
    pub epoch: u64,
    /// Until when it may be acted on, nanoseconds of the monotonic clock; the machine renews that as long as it runs. A
    /// server that has stood still finds it passed: its partner may have taken over, so nobody is served and no update
    /// is sent before the partner was heard. `None`: for good.
    pub good_until_ns: Option<u64>,
    /// Whether DHCP queries are served at all (no lock held, ha-protocol 4.7).
    pub service_on: bool,
    /// Whether HA is configured.
    pub configured: bool,
    /// Scopes served here.
    pub scopes: Scopes,
    /// Load-balancing: the bucket of RFC 3074 names the scope of a query. Otherwise every query is in the
    /// primary's scope.
    pub balancing: bool,
    /// What to do with lease updates for the active partner.
    pub updates: UpdateMode,
    /// The backlog has overflowed: both servers copy all leases, so shards need not hand over any more updates
    /// while [`UpdateMode::Queue`] lasts (ha-protocol 5.6).
    pub backlog_overflowed: bool,
    /// The partner takes updates, and has not copied what was given before (in maintenance), or not all of it (a Kea): then
    /// it lacks leases.
    pub partner_is_behind: bool,
    /// Leases of the partner are being copied here: what it deletes meanwhile must not come back with a page that was read
    /// before.
    pub copies: bool,
    /// What to do with lease updates for backup servers.
    pub backups: BackupUpdates,
    /// Which peers those are.
    pub backup_peers: BackupPeers,
    /// Neither server hears of the other's leases any more (terminated): each reclaims those of its own scopes only
    /// (ha-protocol 8 no. 27).
    pub reclaims_own_scopes_only: bool,
    /// This server serves alone, or has done so up to a minute ago.
    pub alone: Option<Alone>,
    /// Leases given at that time the partner may lack: they are sent to a Kea that does not list them.
    pub untold: Option<Untold>,
    /// Partner silent: report queries outside our scopes.
    pub interrupted: bool,
    /// `max-ack-delay`, milliseconds.
    pub max_ack_delay_ms: u32,
    /// Rejected clients are remembered: report queries whose updates were all acknowledged too, since a
    /// success forgives its client (ha-protocol 4.10).
    pub report_acks: bool,
    /// The partner that is there now understands lease state 3; otherwise released leases are listed to it as expired: a
    /// page with another one ends the copy of a Kea 2.2 (ha-protocol 0.3 rule 10).
    pub partner_knows_released: bool,
    /// The partner understood lease state 3 when it was last heard: a release is sent as an update. Otherwise it is sent
    /// as `UpdateKind::Delete` (ha-protocol 0.3 rule 10).
    pub sends_released: bool,
    /// How many lease updates the partner takes in one request; 0 and 1 are one, as Kea.
    pub partner_batch_max: u16,
    /// What updates sent under this view bear: those of an earlier generation are not sent any more.
    pub fence: Fence,
    /// The partner's fence as last heard: what it sent before is refused. `None` where the partner reads no stamps.
    pub partner_fence: Option<Fence>,
}

impl HaView {
    /// Whether what it says may be so no longer.
    pub fn is_outdated(&self, now_ns: u64) -> bool {
        self.good_until_ns.is_some_and(|until_ns| now_ns >= until_ns)
    }
}
