//! What shards must know of the HA machine, and nothing more.

/// What happens to lease updates for the active partner (ha-protocol 5.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UpdateMode {
    /// Not sent; the unsent-update counter rises per query.
    #[default]
    None,
    /// Not applicable: no partner, or `send-lease-updates` is false. Nothing is counted.
    Off,
    /// Put into the backlog (communication-recovery).
    Queue,
    /// Sent, and the reply waits for the answer.
    Send,
}

/// The HA machine's word, posted to every shard under a rising epoch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HaView {
    /// Rises with every change.
    pub epoch: u64,
    /// Whether DHCP queries are served at all (no lock held, ha-protocol 4.7).
    pub service_on: bool,
    /// Whether HA is configured.
    pub configured: bool,
    /// Whether the primary's scope is served here (hot-standby: all queries are in it).
    pub serves_primary_scope: bool,
    /// What to do with lease updates.
    pub updates: UpdateMode,
    /// Partner silent: report queries outside our scopes.
    pub interrupted: bool,
    /// `max-ack-delay`, milliseconds.
    pub max_ack_delay_ms: u32,
    /// Rejected clients are remembered: report queries whose updates were all acknowledged too, since a
    /// success forgives its client (ha-protocol 4.10).
    pub report_acks: bool,
    /// The partner understands lease state 3: a release is sent as an update. Otherwise it is sent as
    /// `UpdateKind::Delete`, and released leases are listed to the partner as expired (ha-protocol 0.3 rule
    /// 10).
    pub partner_knows_released: bool,
    /// How many lease updates the partner takes in one request; 0 and 1 are one, as Kea.
    pub partner_batch_max: u16,
}
