//! What one engine owns, and the small verbs everything else is said in.

use std::collections::VecDeque;
use std::sync::Arc;

use shards::journal::Columns;
use shards::partition::{Partition, PartitionLimits};
use shards::{Actions, Lane, Lease, NodeId, Now, Topology, Transmit};

use crate::engine::EngineStart;
use crate::engine::changes::ChangeLog;
use crate::engine::commit::{Change, Plan};
use crate::engine::conflict_log::ConflictLog;
use crate::engine::counters::{Counter, OwnCounter, ShardStatistics};
use crate::engine::event::{ClientLabel, Event, EventKind};
use crate::engine::lately::Lately;
use crate::engine::message::{
    CopySlice, Forward, IndexChange, Message, PartnerUpdate, ShardCommand, ShardCommandBody, Terms,
    UpdateKind,
};
use crate::engine::parking::{Answer, ParkingLot};
use crate::engine::reclaim::Reclaim;
use crate::engine::relation::{Relations, serves_alone};
use crate::engine::rules::{Rules, Steering};
use crate::ha::view::{BackupUpdates, HaView, UpdateMode};
use crate::limits;
use crate::policy::Snapshot;
use crate::wire::ReplyBuffer;

/// Actions of an engine.
pub(super) type Out = Actions<Message, Event>;

/// Nanoseconds of a millisecond.
pub(super) const NS_PER_MS: u64 = 1_000_000;

/// One call of the driver: the time, the rules in force, and where actions go.
pub(super) struct Turn<'a> {
    pub now: Now,
    pub rules: &'a Rules,
    pub actions: &'a mut Out,
}

impl Turn<'_> {
    /// Notes an event for the log.
    pub fn log(&mut self, client: ClientLabel, kind: EventKind) {
        self.actions.events.push(Event { client, kind });
    }
}

/// The state of one shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub number: u8,
    pub topology: Topology,
    pub steering: Steering,
    pub columns: Columns,
    pub relations: Relations,
    pub partition: Partition,
    pub parking: ParkingLot,
    pub statistics: ShardStatistics,
    pub reply: ReplyBuffer,
    pub journal: JournalState,
    pub reclaim: Reclaim,
    /// Boxes that came back, to be used again.
    #[expect(clippy::vec_box, reason = "the boxes travel in messages")]
    pub update_boxes: Vec<Box<PartnerUpdate>>,
    #[expect(clippy::vec_box, reason = "the boxes travel in messages")]
    pub forward_boxes: Vec<Box<Forward>>,
    /// Changes of the commit under way; kept for its capacity.
    pub changes: Vec<Change>,
    /// What somebody who copies our leases must hear of.
    pub change_log: ChangeLog,
    /// What partners without stamps have said lately.
    pub lately: Lately,
    /// Which addresses of two clients were told of lately.
    pub conflict_log: ConflictLog,
    /// And which of other relationships.
    pub foreign_log: ConflictLog,
    /// What they do to the indexes; kept for its capacity.
    pub plans: Vec<Plan>,
    /// Messages that follow from work already done and found no credit. At most a few per parked entry and per
    /// command, both of which are limited; sent as soon as there is credit.
    pub outbox: VecDeque<(NodeId, Message)>,
    /// Updates that the control node has handed back and that found no room at their sender: no more than its backlog
    /// held. What each address is by then is what is sent.
    pub handed_back: VecDeque<Box<PartnerUpdate>>,
    /// When to try both again, on the monotonic clock.
    pub outbox_retry_ns: u64,
    /// Credit a commit needs per node; kept for its capacity.
    pub credit: Vec<u32>,
    /// Who asked to be told when everything is durable and nothing is parked.
    pub drains: Vec<(NodeId, u64)>,
}

/// What the engine knows of its journal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JournalState {
    /// Number of the last non-empty batch of rows.
    pub batch: u64,
    /// Last batch known to be durable.
    pub durable: u64,
    /// Bytes that wait for the disk.
    pub waiting_bytes: usize,
}

impl Shard {
    pub fn new(now: Now, start: EngineStart) -> Self {
        let EngineStart { shard, topology, steering, rules, view, nodes, columns, leases } = start;
        let limits = PartitionLimits {
            offer_hold_ms: limits::OFFER_HOLD_MS,
            offer_holds_max: limits::OFFER_HOLDS_MAX,
            index_entries_max: limits::INDEX_ENTRIES_MAX,
        };
        let (owners, free) = (Arc::clone(&rules.owners), Arc::clone(&rules.free));
        let partition = Partition::new(shard, owners, free, &rules.spaces, limits);
        let mut statistics = ShardStatistics::default();
        statistics.keep_subnets(&rules.snapshot.subnets);
        let mut this = Self {
            number: shard,
            topology,
            steering,
            columns,
            relations: Relations::new(&view, &nodes, now.wall_s()),
            partition,
            parking: ParkingLot::new(shard, parked_max(&rules.snapshot, topology.shards)),
            statistics,
            reply: ReplyBuffer::new(),
            journal: JournalState::default(),
            reclaim: Reclaim::new(now),
            update_boxes: Vec::new(),
            forward_boxes: Vec::new(),
            changes: Vec::new(),
            change_log: ChangeLog::new(now),
            lately: Lately::default(),
            conflict_log: ConflictLog::default(),
            foreign_log: ConflictLog::default(),
            plans: Vec::new(),
            outbox: VecDeque::new(),
            handed_back: VecDeque::new(),
            outbox_retry_ns: now.monotonic_ns,
            credit: vec![0; topology.nodes()],
            drains: Vec::new(),
        };
        let refused = this.partition.load(now, leases.owned(), &leases.hardware, &leases.client_id);
        for lease in leases.deletions.iter().take(limits::DELETIONS_MAX) {
            this.change_log.remember(lease);
        }
        for _ in 0..refused {
            this.statistics.bump_own(OwnCounter::IndexFull);
        }
        this
    }

    /// The node of shard `shard`.
    pub fn node(&self, shard: u8) -> NodeId {
        self.topology.shard(shard)
    }

    /// Counts and forgets a query.
    pub fn drop_query(&mut self, turn: &mut Turn, client: ClientLabel, reason: Counter, kind: EventKind) {
        self.statistics.drop_query(reason);
        turn.log(client, kind);
    }

    /// Counts and forgets a query that met a limit.
    pub fn drop_at_limit(&mut self, turn: &mut Turn, client: ClientLabel, limit: OwnCounter) {
        self.statistics.bump_own(limit);
        self.drop_query(turn, client, Counter::QueueFull, EventKind::DropQueueFull);
    }

    /// Transmits the first `len` octets of the reply buffer.
    pub fn transmit(&mut self, turn: &mut Turn, answer: Answer, mut transmit: Transmit, len: usize) {
        let start = turn.actions.bytes.len();
        turn.actions.bytes.extend_from_slice(self.reply.message(len));
        transmit.payload = start..turn.actions.bytes.len();
        turn.actions.transmit.push(transmit);
        self.count_sent(answer);
    }

    pub fn count_sent(&mut self, answer: Answer) {
        self.statistics.bump(Counter::Sent);
        self.statistics.bump(match answer {
            Answer::Offer => Counter::OfferSent,
            Answer::Ack => Counter::AckSent,
            Answer::Nak => Counter::NakSent,
        });
    }

    /// Sends a message that follows from work already done: now if there is credit, else as soon as there is.
    pub fn send_or_keep(&mut self, turn: &mut Turn, node: NodeId, message: Message) {
        if self.outbox.is_empty() && turn.actions.reserve(node, Lane::State, 1) {
            turn.actions.send(node, Lane::State, message);
        } else {
            self.outbox.push_back((node, message));
            self.outbox_retry_ns = turn.now.monotonic_ns + NS_PER_MS;
        }
    }

    /// Sends what was kept, oldest first, as far as credit goes; a full lane does not hold up another.
    pub fn flush_outbox(&mut self, turn: &mut Turn) {
        self.outbox_retry_ns = turn.now.monotonic_ns + NS_PER_MS;
        self.send_handed_back(turn);
        for _ in 0..self.outbox.len() {
            let Some((node, message)) = self.outbox.pop_front() else { return };
            if turn.actions.reserve(node, Lane::State, 1) {
                turn.actions.send(node, Lane::State, message);
            } else {
                self.outbox.push_back((node, message));
            }
        }
    }

    /// Changes an identity index of this shard.
    pub fn change_index(&mut self, change: &IndexChange) {
        let IndexChange { add, by_client_id, key, address, subnet_id } = *change;
        let identities = self.partition.identities_mut();
        let index = if by_client_id { &mut identities.client_id } else { &mut identities.hardware };
        if !add {
            index.remove(key, address);
        } else if !index.insert(key, shards::partition::IndexEntry { address, subnet_id }) {
            // The client is served without its history: its next DISCOVER is a new client's.
            self.statistics.bump_own(OwnCounter::IndexFull);
        }
    }

    /// Puts the rules of this turn in force and sends the old ones back.
    pub fn reconfigure(&mut self, turn: &mut Turn, from: NodeId, old: Arc<Rules>) {
        let rules = turn.rules;
        let (owners, free) = (Arc::clone(&rules.owners), Arc::clone(&rules.free));
        let strays = self.partition.reconfigure(turn.now, owners, free, &rules.spaces);
        if !strays.is_empty() {
            self.change_log.break_off();
        }
        self.hand_over(turn, strays);
        self.statistics.keep_subnets(&rules.snapshot.subnets);
        self.parking.set_limit(parked_max(&rules.snapshot, self.topology.shards));
        let epoch = rules.snapshot.epoch;
        self.send_or_keep(turn, from, Message::SnapshotApplied { epoch, old });
    }

    /// Takes over what an HA machine decided.
    pub fn set_view(&mut self, turn: &mut Turn, view: &HaView) {
        let relationship = view.relationship;
        let before = self.relations.set_view(view);
        if let Some(fence) = view.partner_fence.filter(|fence| before.partner_fence != Some(*fence)) {
            self.relations.of_mut(relationship).partner_seen.hear(fence);
        }
        let begins_to_send = before.updates != UpdateMode::Send && view.updates == UpdateMode::Send;
        if begins_to_send && view.partner_is_behind {
            self.relations.of_mut(relationship).replicated_since_s = self.no_earlier_than_s(turn);
        } else if begins_to_send {
            if before.updates != UpdateMode::Queue {
                // Whoever had to copy has done it.
                let (relations, snapshot) = (&self.relations, &turn.rules.snapshot);
                let is_its = |lease: &Lease| relations.of_subnet(snapshot, lease.subnet_id) == relationship;
                self.change_log.forget_deletions(is_its);
            }
            let since_s = self.no_earlier_than_s(turn);
            let relation = self.relations.of_mut(relationship);
            match before.updates {
                // The partner got the backlog before the view changed. What failed before it began is still missing there.
                UpdateMode::Queue => {}
                // Alone until now: the partner has just copied everything there is.
                _ if before.scopes.any() => relation.unacknowledged.clear(),
                // This server has copied; what it wrote before may be nowhere else.
                _ => relation.replicated_since_s = since_s,
            }
        }
        // What the partner has served until now (maintenance): a lease may have been given back there, unheard of here.
        let both_send = before.updates == UpdateMode::Send && view.updates == UpdateMode::Send;
        if both_send && view.scopes != before.scopes {
            self.relations.of_mut(relationship).replicated_since_s = self.no_earlier_than_s(turn);
        }
        if before.backups != BackupUpdates::SendAndWait && view.backups == BackupUpdates::SendAndWait {
            // Nobody has waited for the backups until now: what is written may not have reached them.
            self.relations.of_mut(relationship).replicated_since_s = self.no_earlier_than_s(turn);
        }
        // The service was given up: the partner serves, or is to, and a reply that only waited for the disk would promise
        // what may be another client's by the time it leaves. The client asks again.
        // One that it gave alone may have waited since before updates were sent again.
        if serves_nobody(view) {
            self.parking.void(relationship, !serves_unasked(&before));
        }
        // Alone from now on (partner-down): nobody is there to acknowledge. Queries with updates in flight count
        // as unsent, so that the partner copies the leases when it is back.
        if before.updates == UpdateMode::Send && view.updates == UpdateMode::None && view.service_on {
            self.waive_acknowledgements(turn, relationship);
        }
    }

    /// Now, or later where a clock that was wrong has written a lease for a time to come.
    fn no_earlier_than_s(&self, turn: &Turn) -> u64 {
        turn.now.wall_s().max(self.partition.latest_cltt())
    }

    /// Leases that another shard owns now, because they came between the question for strays and the new rules.
    fn hand_over(&mut self, turn: &mut Turn, strays: Vec<Lease>) {
        for lease in strays {
            let owner = self.node(turn.rules.owners.owner_of(lease.address));
            let slice = CopySlice { rows: vec![(UpdateKind::Update, lease)], terms: Terms::Merging };
            let body = ShardCommandBody::Synchronised(Arc::new(slice));
            let command = Box::new(ShardCommand { request: 0, body });
            self.send_or_keep(turn, owner, Message::Command(command));
        }
    }
}

/// Whether clients are served, and no reply waits for the partner.
fn serves_unasked(view: &HaView) -> bool {
    serves_alone(view) || view.updates == UpdateMode::Queue
}

/// Whether the machine is in a state in which nobody is served.
fn serves_nobody(view: &HaView) -> bool {
    view.configured && view.updates == UpdateMode::None && !view.scopes.any()
}

/// Replies of one shard that may wait for the partner.
fn parked_max(snapshot: &Snapshot, shards: u8) -> usize {
    snapshot.parked_max().div_ceil(usize::from(shards))
}
