//! What shards, HA executors and the control executor say to each other.
//!
//! Every message is at most 64 bytes; what is larger is boxed. Who sends what to whom is said per variant.

use std::net::Ipv4Addr;
use std::sync::Arc;

use shards::{DatagramMeta, Lease, LeaseState, NodeId};

use crate::engine::rules::Rules;
use crate::ha::event::ClientIdentity;
use crate::ha::fence::Stamp;
use crate::ha::lease_query::ClientQuery;
use crate::ha::view::HaView;
use crate::limits::CONFLICTS_LOGGED_MAX;
use crate::policy::{Scope, SubnetFilter};

/// Names a parked query: slot and generation, so that a late answer finds nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ParkId {
    /// Shard that parked it.
    pub shard: u8,
    /// Slot of the parking lot.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

/// One message of the mesh.
#[derive(Debug)]
pub enum Message {
    /// Shard to shard, datagram lane: a query on its way to its home or owner.
    Forward(Box<Forward>),
    /// Owner to home or arrival shard: an index entry to add or to remove.
    Index(IndexChange),
    /// Owner of the new address to the owner of the old one: delete the lease this client has left.
    DeleteLeft(Box<DeleteLeft>),
    /// Answer to `DeleteLeft`: `done` is false when the partner refused it, and the parked reply is dropped.
    LeftDeleted {
        /// Parked query that waits for it.
        park: ParkId,
        /// Whether the deletion is as durable and replicated as it has to be.
        done: bool,
    },
    /// Shard to control, while the view says queue: one lease update for the backlog. Nothing is parked for it. One
    /// that comes when the backlog is no longer filled goes back to the shard, which sends what the address is by then in
    /// order with its other updates; with an outcome it is such a one that the partner has not taken.
    Backlog(Box<PartnerUpdate>),
    /// Shard to HA sender: one lease update for the partner.
    Update(Box<PartnerUpdate>),
    /// HA sender to shard: the box comes back with its outcome set, to be used again.
    UpdateDone(Box<PartnerUpdate>),
    /// Listener or control to shard.
    Command(Box<ShardCommand>),
    /// Shard to the asker.
    Reply(Box<ShardReply>),
    /// Control to shard: rules to put in force from the next datagram on.
    Snapshot(Arc<Rules>),
    /// Shard to control: `epoch` is in force; the old one comes back so that it is freed elsewhere.
    SnapshotApplied {
        /// Epoch now in force.
        epoch: u64,
        /// What was in force before.
        old: Arc<Rules>,
    },
    /// Control to shard: what the HA machine decided.
    HaView(Arc<HaView>),
    /// Shard to control, only while interrupted: a query outside our scopes (ha-protocol 4.6).
    Unanswered(Box<UnansweredClient>),
    /// Shard to control: the lease updates of one query have all come back (ha-protocol 4.2 (3)). `Acked` is
    /// reported only while the view says `report_acks`.
    UpdatesSettled {
        /// Whose partner it was.
        relationship: u8,
        /// Outcome that counts for the state machine: the worst of the query's updates.
        outcome: UpdateOutcome,
        /// Whose leases they were.
        client: Box<ClientIdentity>,
    },
    /// Shard to control: this shard's unsent-update counter, when it has risen (at most once per iteration;
    /// a later total makes up for one that found no room).
    UnsentUpdates {
        /// Whose partner lacks them.
        relationship: u8,
        /// Count since process start (ha-protocol 4.8).
        total: u64,
    },
    /// Control to sender and listener to control: a command to run or to pass on, and its answer.
    Partner(Box<PartnerCall>),
    /// Control to HA listener or sender: the server stops; what is under way is given up.
    Stop,
}

/// Why a query is forwarded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForwardReason {
    /// To the home shard of its client.
    Home,
    /// To the owner of the address it is about.
    Owner,
    /// To a shard that shows a free address.
    Spill,
    /// Back to the home: the index entry it was sent by was stale.
    NotYours,
}

/// A query on its way, carried whole.
#[derive(Debug)]
pub struct Forward {
    /// Why it comes.
    pub reason: ForwardReason,
    /// Forwards so far, this one included.
    pub hops: u8,
    /// Shard the kernel gave it to (its hardware-address home).
    pub arrival: u8,
    /// Home shard of its client.
    pub home: u8,
    /// Whose the query is, as it was decided where it arrived: the view may change on its way.
    pub scope: Scope,
    /// Bit per shard that has already tried to allocate for it.
    pub spilled: u64,
    /// Addresses this client may hold, by the indexes of home and arrival; client-id hits first.
    pub held: HeldAddresses,
    /// Receive information; replies leave through the same socket index on any shard.
    pub meta: DatagramMeta,
    /// The datagram.
    pub datagram: Vec<u8>,
}

/// Addresses a client may hold by the indexes, at most eight.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeldAddresses {
    /// How many are in use.
    pub count: u8,
    /// Client-identifier hits first, then hardware-address hits (ALC-12).
    pub addresses: [Held; 8],
}

/// One address of [`HeldAddresses`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// The address.
    pub address: Ipv4Addr,
    /// Whether the client-identifier index gave it (else the hardware-address index).
    pub by_client_id: bool,
}

impl Default for Held {
    fn default() -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED, by_client_id: false }
    }
}

/// One change of an identity index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IndexChange {
    /// True to add, false to remove.
    pub add: bool,
    /// Which index.
    pub by_client_id: bool,
    /// Keyed hash of the identity.
    pub key: u64,
    /// The address.
    pub address: Ipv4Addr,
    /// Subnet of the lease.
    pub subnet_id: u32,
}

/// A lease its client has left for another address.
#[derive(Debug)]
pub struct DeleteLeft {
    /// The address it left.
    pub address: Ipv4Addr,
    /// The lease it got, whose identity must own the old one.
    pub client: Lease,
    /// Query that waits for the deletion.
    pub park: ParkId,
}

/// What to tell the partner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UpdateKind {
    /// `lease4-del`.
    Delete,
    /// `lease4-update`.
    Update,
}

/// How one lease update ended (ha-protocol 5.4).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum UpdateOutcome {
    /// Result 0 or 3.
    Acked,
    /// Result 4: the partner stays available.
    Conflict,
    /// Any other well-formed result: the partner lives, the reply is dropped.
    Refused,
    /// No answer, or none that can be read: the partner counts as gone.
    Failed,
}

/// One lease update on its way to another server of the relationship and back.
#[derive(Debug)]
pub struct PartnerUpdate {
    /// Whose server it goes to.
    pub relationship: u8,
    /// Peer index of the server it goes to.
    pub peer: u8,
    /// Shard it came from, where the box goes back to.
    pub shard: u8,
    /// Parked query that waits for it; `None` where nobody waits for the answer of a backup.
    pub park: Option<ParkId>,
    /// Command to send.
    pub kind: UpdateKind,
    /// The lease as committed.
    pub lease: Lease,
    /// HA epoch of the view it was committed under. Once a later view asked for no updates, the partner gets a
    /// copy of everything when it is back, and this update must not follow and overwrite what is newer by then.
    pub epoch: u64,
    /// Its client was answered before it was sent: should the partner not take it, the control node is to know.
    pub owed: bool,
    /// Set by the sender.
    pub outcome: Option<UpdateOutcome>,
}

impl PartnerUpdate {
    /// One for the active partner that `shard` is to send after all.
    pub fn put_off(relationship: u8, shard: u8, kind: UpdateKind, lease: Lease) -> Self {
        let (peer, park, epoch, owed, outcome) = (0, None, 0, true, None);
        Self { relationship, peer, shard, park, kind, lease, epoch, owed, outcome }
    }
}

/// A query of a client that is the partner's, seen while the partner is silent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnansweredClient {
    /// Whose partner does not answer.
    pub relationship: u8,
    /// chaddr.
    pub hwaddr: shards::SmallBytes,
    /// Option 61 or empty.
    pub client_id: shards::SmallBytes,
    /// `secs` of the header, as received.
    pub secs: u16,
    /// What it asks for.
    pub asked: Asked,
}

/// What a client asks for whose query is the partner's, as far as it says something about the partner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// DISCOVER: any server.
    Any,
    /// A REQUEST that names the server whose offer it takes.
    One,
    /// Anything else.
    Other,
}

/// A command for a shard.
#[derive(Debug)]
pub struct ShardCommand {
    /// Chosen by the asker; comes back in the reply.
    pub request: u64,
    /// What to do.
    pub body: ShardCommandBody,
}

/// What a shard can be asked for.
#[derive(Debug)]
pub enum ShardCommandBody {
    /// Leases with an address greater than `after`, at most `limit`, ascending.
    Page {
        /// Exclusive lower bound; `None` starts at the beginning.
        after: Option<Ipv4Addr>,
        /// How many at most.
        limit: usize,
        /// Only these subnets, ascending; empty is all.
        subnets: Vec<u32>,
    },
    /// The lease of an address owned by the shard.
    Get(Ipv4Addr),
    /// Leases of a client by hardware address or client identifier: asked of every shard.
    GetByIdentity {
        /// Whether `identity` is a client identifier.
        by_client_id: bool,
        /// The identity.
        identity: shards::SmallBytes,
        /// Exclusive lower bound of the addresses; `None` starts at the beginning.
        after: Option<Ipv4Addr>,
    },
    /// The partner's `lease4-update`: overwrites (ha-protocol 0.3 rule 8), unless ours stays. Durable before the reply.
    PartnerUpdate {
        /// The lease.
        lease: Box<Lease>,
        /// Create it where it is missing.
        force_create: bool,
        /// A partner sends it, and no administrator: what was given alone is defended against it.
        by_partner: bool,
        /// Whose listener it came to; `None` for a control channel. Leases of others are left alone.
        relationship: Option<u8>,
    },
    /// The partner's `lease4-del`. Durable before the reply.
    PartnerDelete {
        /// The address.
        address: Ipv4Addr,
        /// The lease as the partner had it, if it says so; an administrator names the address alone.
        deleted: Option<Box<Lease>>,
        /// Whose listener it came to; `None` for a control channel. Leases of others are left alone.
        relationship: Option<u8>,
    },
    /// An administrator's `lease4-add`: never overwrites. Durable before the reply.
    Add {
        /// The lease.
        lease: Box<Lease>,
        /// To whose listener it came, if to one: leases of other relationships are none of its business.
        relationship: Option<u8>,
    },
    /// An administrator's `lease4-del` of a client's lease, which somebody has found: nothing where it is another's by
    /// now. Durable before the reply.
    DeleteOf {
        /// The address.
        address: Ipv4Addr,
        /// Whose lease it has to be.
        client: Box<ClientQuery>,
        /// To whose listener it came, if to one.
        relationship: Option<u8>,
    },
    /// Updates of one request of the partner, in their order: each as if it came alone, but all of them or none. Durable
    /// before the reply.
    PartnerBatch {
        /// Whose listener it came to. Leases of others are left alone ([`ShardReplyBody::AppliedBut`]).
        relationship: u8,
        /// What the request bears: one that comes behind a later one is refused ([`ShardReplyBody::Late`]).
        stamp: Option<Stamp>,
        /// The updates.
        updates: Vec<(UpdateKind, Lease)>,
    },
    /// Leases of a copy: the newer cltt wins (ha-protocol 6.3). Durable before the reply.
    Synchronised(Arc<CopySlice>),
    /// What has changed since a mark, in no more than `limit` entries of the log; without a mark, a new one. Since that
    /// one changes first what was deleted before and the partner may still have.
    Changes {
        /// What the last answer gave.
        since: Option<u64>,
        /// How many entries at most; 0 keeps the log awake and says whether the mark is good.
        limit: usize,
        /// Leases of other subnets are passed over.
        subnets: SubnetFilter,
    },
    /// Counters and per-subnet lease counts.
    Statistics,
    /// Addresses of leases in no subnet the server has had since it started, one per block, for [`Rules::next`].
    Stray,
    /// Answer once every row appended so far is durable and nothing is parked: before a clean stop.
    Drain,
}

/// Part of a copy that one shard owns: addresses ascend, each once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CopySlice {
    /// Leases of the source; [`UpdateKind::Delete`] is one that was deleted there.
    pub rows: Vec<(UpdateKind, Lease)>,
    /// What it is for.
    pub terms: Terms,
}

impl CopySlice {
    /// What is left of a comparison's slice behind `after`; `None` of any other.
    pub fn beyond(&self, after: Ipv4Addr) -> Option<Self> {
        let Terms::Comparison(span) = self.terms else { return None };
        let rows = self.rows.iter().filter(|(_, lease)| lease.address > after).cloned().collect();
        Some(Self { rows, terms: Terms::Comparison(Span { after: Some(after), ..span }) })
    }
}

/// What a copy is for, which says whose lease stays where neither is newer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Terms {
    /// Leases of a server that serves with this one, after they could not hear each other: what is newer here is sent
    /// to it, and what was given alone within the span and is not listed.
    Comparison(Span),
    /// The leases of whoever has served: ours give way.
    Joining,
    /// A Kea's leases, or a copy that an administrator asks for: ours stay (ha-protocol 6.3).
    #[default]
    Merging,
}

/// Which addresses a page speaks of, those without a lease included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    /// The relationship with the source: leases of others are none of its business.
    pub relationship: u8,
    /// Exclusive lower bound; `None` from the first address on.
    pub after: Option<Ipv4Addr>,
    /// Inclusive upper bound; `None` to the last address.
    pub upto: Option<Ipv4Addr>,
}

/// What became of leases of a copy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// How many were written or deleted.
    pub written: usize,
    /// How many in force here are newer than the source's: it lacks them.
    pub kept: usize,
    /// How many are held by different clients here and there.
    pub conflicts: usize,
    /// Some of those.
    pub examples: Vec<Conflict>,
    /// How many the source was sent, because ours stay.
    pub sent_back: usize,
    /// More of a span than a shard looks through at once: from where it is to be asked again.
    pub goes_on: Option<Ipv4Addr>,
}

impl Applied {
    /// Adds what became of another part; examples as far as they are wanted.
    pub fn add(&mut self, other: Self) {
        self.written += other.written;
        self.kept += other.kept;
        self.conflicts += other.conflicts;
        self.sent_back += other.sent_back;
        let room = CONFLICTS_LOGGED_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }
}

/// An address that two clients hold, one by each server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// The lease here.
    pub ours: Lease,
    /// The source's.
    pub theirs: Lease,
    /// Whether the source's has replaced ours.
    pub taken: bool,
}

/// A shard's answer.
#[derive(Debug)]
pub struct ShardReply {
    /// Which shard answers.
    pub shard: u8,
    /// The asker's number.
    pub request: u64,
    /// The answer.
    pub body: ShardReplyBody,
}

/// What a shard answers.
#[derive(Debug)]
pub enum ShardReplyBody {
    /// Leases, ascending by address.
    Leases(Vec<Lease>),
    /// The same, but there may be more than the shard could look through at once: it is to be asked again.
    LeasesUpTo(Vec<Lease>, Ipv4Addr),
    /// Whether the update created a lease (else it changed one).
    Updated {
        /// True when the lease was not there before.
        created: bool,
    },
    /// A lease was added to the subnet of this number.
    Added(u32),
    /// There is a lease already where one was to be added.
    Exists,
    /// Whether there was a lease to delete.
    Deleted(bool),
    /// The lease is of another relationship than the server that would have it changed.
    Foreign,
    /// The lease to update is not there, and creating it was not asked for.
    Missing,
    /// The lease cannot be taken (its journal is poisoned or full).
    Busy,
    /// Served alone, this server has given the address to another client: this lease stays.
    GivenAlone(Box<Lease>),
    /// A later request has come before this one, or this server has taken over since it was sent.
    Late,
    /// Addresses, ascending.
    Addresses(Vec<Ipv4Addr>),
    /// What became of a part of a copy, or of a batch.
    Applied(Applied),
    /// A batch was carried out but for these leases.
    AppliedBut {
        /// Addresses of those that are of another relationship.
        foreign: Vec<Ipv4Addr>,
        /// Those that stay as they are here: served alone, this server has given their addresses to other clients.
        given_alone: Vec<Lease>,
    },
    /// What has changed.
    Changes {
        /// Changed leases as they are now, and deleted ones as they were.
        rows: Vec<(UpdateKind, Lease)>,
        /// The mark to ask with next.
        mark: u64,
        /// Whether there is more already.
        more: bool,
    },
    /// The mark is not good: the copy has to begin anew.
    ChangesLost,
    /// Counters of the shard.
    Statistics(Box<crate::engine::counters::ShardStatistics>),
    /// Everything asked for is done.
    Drained,
}

/// Over which of its connections to a peer a server sends a command. Each has one request in flight, so nothing waits
/// for an answer of another line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Line {
    /// Synchronisation, whose pages may take minutes, to its notification.
    Copy,
    /// Flush of the backlog, `ha-reset`, maintenance.
    Private,
    /// Heartbeats and questions; never closed.
    Shared,
}

/// A command to the partner, or one from it that the control node answers.
#[derive(Debug)]
pub struct PartnerCall {
    /// Chosen by the asker.
    pub request: u64,
    /// Peer index of the server it goes to, or whose address it came from; [`PartnerCall::NO_PEER`] for one that came
    /// from elsewhere.
    pub peer: u8,
    /// Node that asked, where the answer goes.
    pub asker: Option<NodeId>,
    /// JSON body of the command or, in an answer, of the reply.
    pub body: Vec<u8>,
    /// How long the answer may take, milliseconds.
    pub timeout_ms: u64,
    /// Over which connection; a call with an empty body closes it.
    pub line: Line,
    /// Set in an answer when there was none: why.
    pub failure: Option<String>,
}

impl PartnerCall {
    /// No peer of the relationship.
    pub const NO_PEER: u8 = u8::MAX;
}

const _: () = assert!(size_of::<Message>() <= 64, "an envelope must fit a cache line");
const _: () = assert!(LeaseState::Released as u8 == 3);
