//! The one place where leases change on behalf of a query, a command or another shard.
//!
//! A commit is all or nothing: room for everything that follows from it (rows, index entries at other shards,
//! updates for the partner, the parked reply) is reserved before the first lease is touched, so that a full
//! lane costs a datagram and never an index entry or a partner's update.

use std::net::Ipv4Addr;

use shards::journal::row;
use shards::{Lane, Lease, LeaseState, NodeId};

use crate::dhcp4::respond::Built;
use crate::engine::counters::{LeaseCounter, OwnCounter};
use crate::engine::event::ClientLabel;
use crate::engine::message::{DeleteLeft, IndexChange, Message, ParkId, ShardReply, ShardReplyBody};
use crate::engine::parking::{Answer, Completion, Obligations, Parked};
use crate::engine::replicate::Replication;
use crate::engine::routing::Asking;
use crate::engine::rules::Steering;
use crate::engine::shard::{NS_PER_MS, Shard, Turn};
use crate::engine::standing::takes_from_another;
use crate::ha::view::UpdateMode;
use crate::limits;

/// One change of a lease this shard owns.
#[derive(Debug)]
pub(super) enum Change {
    /// Delete it; the lease as it is.
    Delete(Lease),
    /// Create or overwrite it.
    Put(Lease),
}

/// The lease as the lease file can hold it. A row with lifetime 0 deletes, unless it says released (PST-5, PST-6), so a
/// lease without a lifetime (a released one that was reclaimed, or one of a partner that is told of no released ones)
/// becomes one of a second that ends when it did.
pub(super) fn storable(lease: Lease) -> Lease {
    match lease.valid_lifetime {
        0 if lease.state != LeaseState::Released => {
            Lease { cltt: lease.cltt.saturating_sub(1).max(1), valid_lifetime: 1, ..lease }
        }
        _ => lease,
    }
}

/// What one change does to the indexes, found out when room is reserved for it.
#[derive(Debug)]
pub(super) struct Plan {
    /// The lease as it is.
    old: Option<Lease>,
    /// At most two removals and two additions, each with the shard whose index it is.
    moves: [Option<(u8, IndexChange)>; 4],
}

impl Plan {
    fn new(steering: &Steering, old: Option<Lease>, new: Option<&Lease>) -> Self {
        let mut moves = [None; 4];
        // A renewal, the common change, moves nothing.
        if !old.as_ref().zip(new).is_some_and(|(old, new)| is_indexed_alike(old, new)) {
            let entries =
                |lease: Option<&Lease>| lease.map_or([None; 2], |lease| steering.index_entries(lease));
            let pairs = entries(old.as_ref()).into_iter().zip(entries(new));
            for (place, (before, after)) in moves.chunks_exact_mut(2).zip(pairs).filter(|(_, (a, b))| a != b)
            {
                place[0] = before.map(|(shard, change)| (shard, IndexChange { add: false, ..change }));
                place[1] = after;
            }
        }
        Self { old, moves }
    }
}

/// Whether the index entries of both leases, of one address, are the same.
fn is_indexed_alike(old: &Lease, new: &Lease) -> bool {
    let is_declined = |lease: &Lease| lease.state == LeaseState::Declined;
    old.subnet_id == new.subnet_id
        && old.hwaddr == new.hwaddr
        && old.client_id == new.client_id
        && is_declined(old) == is_declined(new)
}

/// What is said, and to whom, when everything is as durable and replicated as it has to be.
#[derive(Debug)]
pub(super) enum Reply {
    /// The ACK in the reply buffer, to the client.
    Ack(Built),
    /// An answer to a command.
    Answer(NodeId, Box<ShardReply>),
    /// Nothing, and nobody asked: reclamation.
    Internal,
    /// The answer to another shard's `DeleteLeft`.
    LeftDeleted(NodeId, ParkId),
    /// Nothing: RELEASE and DECLINE have no reply, but their updates are tracked.
    None,
    /// The OFFER in the reply buffer, to the client.
    Offer(Built),
}

/// A commit of the changes in `Shard::changes`.
#[derive(Debug)]
pub(super) struct Commit {
    pub address: Ipv4Addr,
    pub client: ClientLabel,
    pub reply: Reply,
    /// Whether other servers are told (ha-protocol 5.1).
    pub replicates: bool,
    /// An update of the partner: whose lease it overwrites is said.
    of_partner: bool,
    left: [Option<(u8, Ipv4Addr)>; 8],
}

impl Commit {
    /// A commit that a query asked for.
    pub fn of_query(asking: &Asking, address: Ipv4Addr, reply: Reply) -> Self {
        let replicates = !matches!(reply, Reply::Offer(_));
        Self { address, client: asking.label, reply, replicates, of_partner: false, left: [None; 8] }
    }

    /// A commit that no query asked for.
    pub fn without_query(address: Ipv4Addr, reply: Reply, replicates: bool) -> Self {
        let client = ClientLabel::new(0, &[], &[], 0);
        Self { address, client, reply, replicates, of_partner: false, left: [None; 8] }
    }

    /// The same as an update of the partner, or not.
    pub fn by_partner(self, of_partner: bool) -> Self {
        Self { of_partner, ..self }
    }

    fn is_of_a_query(&self) -> bool {
        !matches!(self.reply, Reply::Answer(..) | Reply::Internal)
    }

    /// Whether it counts where its updates are not sent: once for each query (ha-protocol 4.8), so not where
    /// another shard's query asked for it.
    fn is_counted_as_unsent(&self) -> bool {
        self.replicates && !matches!(self.reply, Reply::LeftDeleted(..))
    }

    /// Adds a lease of the client that the shard `owner` is to delete.
    pub fn leave(&mut self, owner: u8, address: Ipv4Addr) {
        // There are as many places as a query can carry addresses.
        if let Some(place) = self.left.iter_mut().find(|place| place.is_none()) {
            *place = Some((owner, address));
        }
    }

    fn left(&self) -> impl Iterator<Item = (u8, Ipv4Addr)> + '_ {
        self.left.iter().flatten().copied()
    }
}

impl Shard {
    /// Commits `Shard::changes`. False, changing nothing, when there is no room for what follows; whoever asked
    /// has been told or counted.
    pub fn commit(&mut self, turn: &mut Turn, commit: Commit) -> bool {
        let changes = std::mem::take(&mut self.changes);
        let mut plans = std::mem::take(&mut self.plans);
        let replication = self.replication(turn, &changes, commit.replicates);
        let view = &self.relations.of(replication.relationship).view;
        // A query that was on its way between shards when the server stood still.
        let reserved = match commit.is_of_a_query() && view.is_outdated(turn.now.monotonic_ns) {
            true => Err(OwnCounter::StoodStill),
            false => self.reserve(turn, &commit, &changes, &mut plans, replication),
        };
        let done = match reserved {
            Ok(()) => {
                self.carry_out(turn, commit, &changes, &plans, replication);
                true
            }
            Err(limit) => {
                self.give_up(turn, commit, limit);
                false
            }
        };
        self.changes = changes;
        self.changes.clear();
        self.plans = plans;
        self.plans.clear();
        done
    }

    /// Checks the limits and takes credit for every message.
    fn reserve(
        &mut self,
        turn: &mut Turn,
        commit: &Commit,
        changes: &[Change],
        plans: &mut Vec<Plan>,
        replication: Replication,
    ) -> Result<(), OwnCounter> {
        if self.journal.waiting_bytes > limits::JOURNAL_WAITING_BYTES_MAX {
            return Err(OwnCounter::JournalFull);
        }
        let awaits_others = replication.awaited() > 0 || commit.left().next().is_some();
        if awaits_others && !self.parking.has_room() {
            return Err(OwnCounter::ParkingFull);
        }
        let mut credit = std::mem::take(&mut self.credit);
        credit.fill(0);
        for change in changes {
            let (address, new) = match change {
                Change::Delete(lease) => (lease.address, None),
                Change::Put(lease) => (lease.address, Some(lease)),
            };
            let plan = Plan::new(&self.steering, self.partition.get(address), new);
            plan.moves.iter().flatten().for_each(|(shard, _)| credit[usize::from(*shard)] += 1);
            plans.push(plan);
            if replication.sent() > 0 {
                let sender = self.sender_of(replication.relationship, address);
                credit[usize::from(sender.0)] += replication.sent();
            }
            if replication.queues() {
                credit[usize::from(self.topology.control().0)] += 1;
            }
        }
        // The shard's own index is changed in place.
        credit[usize::from(self.number)] = 0;
        for (shard, _) in commit.left() {
            credit[usize::from(shard)] += 1;
        }
        let reserved = reserve_all(turn, &credit);
        self.credit = credit;
        if reserved { Ok(()) } else { Err(OwnCounter::MeshStateFull) }
    }

    fn carry_out(
        &mut self,
        turn: &mut Turn,
        commit: Commit,
        changes: &[Change],
        plans: &[Plan],
        replication: Replication,
    ) {
        for (change, plan) in changes.iter().zip(plans) {
            if commit.of_partner
                && let (Change::Put(theirs), Some(ours)) = (change, &plan.old)
                && takes_from_another(theirs, ours, turn.now.wall_s())
            {
                self.log_conflict(turn, ours, theirs, true);
            }
            self.apply(turn, change, plan);
        }
        let acks = u16::try_from(changes.len()).unwrap_or(u16::MAX).saturating_mul(replication.awaited());
        let relationship = replication.relationship;
        let view = &self.relations.of(relationship).view;
        if view.configured && view.updates == UpdateMode::None && commit.is_counted_as_unsent() {
            self.count_unsent(relationship);
        }
        let left: [Option<(u8, Ipv4Addr)>; 8] = commit.left;
        let left_count = left.iter().flatten().count() as u8;
        let park = self.park(turn, commit, relationship, acks, left_count);
        if replication.tells_anyone() {
            for change in changes {
                self.replicate(turn, change, park, replication);
            }
        }
        let (Some(Change::Put(client)), Some(park)) = (changes.last(), park) else { return };
        for (shard, address) in left.iter().flatten().copied() {
            let message = DeleteLeft { address, client: client.clone(), park };
            let node = self.node(shard);
            turn.actions.send(node, Lane::State, Message::DeleteLeft(Box::new(message)));
        }
    }

    /// Changes one lease: the ledger, its row, and the index entries of its client.
    fn apply(&mut self, turn: &mut Turn, change: &Change, plan: &Plan) {
        if turn.actions.rows.is_empty() {
            self.journal.batch += 1;
        }
        self.revoke_reply(change);
        match change {
            Change::Delete(lease) => {
                self.partition.remove(turn.now, lease.address);
                self.note_deletion(turn, lease);
                row::write_deletion(&mut turn.actions.rows, lease, self.columns);
            }
            Change::Put(lease) => {
                self.count_assignment(turn, plan.old.as_ref(), lease);
                self.partition.upsert(turn.now, lease);
                self.change_log.note_put(turn.now, lease.address);
                row::write_lease(&mut turn.actions.rows, lease, self.columns);
            }
        }
        for (shard, change) in plan.moves.into_iter().flatten() {
            if shard == self.number {
                self.change_index(&change);
            } else {
                let node = self.node(shard);
                turn.actions.send(node, Lane::State, Message::Index(change));
            }
        }
    }

    /// A partner that is not told and has the lease would bring it back when it is copied from.
    fn note_deletion(&mut self, turn: &Turn, lease: &Lease) {
        let relationship = self.relations.of_subnet(&turn.rules.snapshot, lease.subnet_id);
        let view = &self.relations.of(relationship).view;
        let untold = view.configured && !matches!(view.updates, UpdateMode::Off | UpdateMode::Send);
        let in_use = lease.state != LeaseState::ExpiredReclaimed && !lease.is_expired(turn.now.wall_s());
        self.change_log.note_delete(turn.now, lease, (untold || view.copies) && in_use);
    }

    /// A reply that still waits must not promise what this change takes away.
    fn revoke_reply(&mut self, change: &Change) {
        match change {
            Change::Put(lease) if lease.state == LeaseState::Default => {
                let holder = ClientLabel::new(0, &lease.hwaddr, &lease.client_id, 0);
                self.parking.revoke(lease.address, Some(&holder));
            }
            Change::Delete(lease) | Change::Put(lease) => self.parking.revoke(lease.address, None),
        }
    }

    /// Statistics of a lease that is given (ALC-41, API-70).
    fn count_assignment(&mut self, turn: &Turn, old: Option<&Lease>, new: &Lease) {
        if new.state != LeaseState::Default {
            return;
        }
        let in_use = |lease: &&Lease| matches!(lease.state, LeaseState::Default | LeaseState::Declined);
        let before = old.filter(in_use);
        let ran_out = before.filter(|lease| lease.is_expired(turn.now.wall_s()));
        if let Some(ran_out) = ran_out {
            self.count_reclaimed(ran_out);
        }
        if before.is_none() || ran_out.is_some() {
            let (subnet, pool) = (new.subnet_id, Some(new.pool_id));
            self.statistics.change_lease(LeaseCounter::CumulativeAssigned, subnet, pool, 1);
        }
    }

    /// Counts a lease that ran out as reclaimed (ALC-43).
    pub fn count_reclaimed(&mut self, lease: &Lease) {
        let (subnet, pool) = (lease.subnet_id, Some(lease.pool_id));
        self.statistics.change_lease(LeaseCounter::Reclaimed, subnet, pool, 1);
        if lease.state == LeaseState::Declined {
            self.statistics.change_lease(LeaseCounter::ReclaimedDeclined, subnet, pool, 1);
        }
    }

    /// Parks what waits for the changes just applied.
    fn park(&mut self, turn: &Turn, commit: Commit, relationship: u8, acks: u16, left: u8) -> Option<ParkId> {
        let mut bytes: &[u8] = &[];
        let mut deduplicate = false;
        let completion = match commit.reply {
            Reply::Ack(built) => {
                bytes = self.reply.message(built.len);
                deduplicate = true;
                Completion::Transmit(Answer::Ack, built.destination.transmit(0..0))
            }
            Reply::Offer(built) => {
                bytes = self.reply.message(built.len);
                Completion::Transmit(Answer::Offer, built.destination.transmit(0..0))
            }
            Reply::Answer(node, reply) => Completion::Answer(node, reply),
            Reply::LeftDeleted(node, park) => Completion::LeftDeleted(node, park),
            Reply::Internal | Reply::None if acks == 0 => return None,
            Reply::Internal | Reply::None => Completion::Nothing,
        };
        let view = &self.relations.of(relationship).view;
        let patience_ms = u64::from(view.max_ack_delay_ms) + limits::PARKED_GRACE_MS;
        let parked = Parked {
            completion,
            obligations: Obligations { written: Some(self.journal.batch), acks, left },
            relationship,
            epoch: view.epoch,
            deadline_ns: turn.now.monotonic_ns + patience_ms * NS_PER_MS,
            address: commit.address,
            client: commit.client,
            deduplicate,
            told: acks > 0,
        };
        self.statistics.bump_own(OwnCounter::Parked);
        Some(self.parking.park(parked, bytes))
    }

    /// Sends the ACK in the reply buffer for a lease that is written already, once its row is durable.
    pub fn transmit_when_written(
        &mut self,
        turn: &mut Turn,
        client: ClientLabel,
        address: Ipv4Addr,
        built: Built,
    ) {
        let transmit = built.destination.transmit(0..0);
        if self.journal.durable >= self.journal.batch {
            return self.transmit(turn, Answer::Ack, transmit, built.len);
        }
        let completion = Completion::Transmit(Answer::Ack, transmit);
        let parked =
            Parked { deduplicate: true, ..self.parked_until_written(turn, completion, client, address) };
        self.statistics.bump_own(OwnCounter::Parked);
        self.parking.park(parked, self.reply.message(built.len));
    }

    /// What waits for nothing but that everything up to now is durable.
    pub fn parked_until_written(
        &self,
        turn: &Turn,
        completion: Completion,
        client: ClientLabel,
        address: Ipv4Addr,
    ) -> Parked {
        Parked {
            completion,
            obligations: Obligations { written: Some(self.journal.batch), ..Obligations::default() },
            // It waits for nobody's partner.
            relationship: 0,
            epoch: self.relations.first().view.epoch,
            deadline_ns: turn.now.monotonic_ns,
            address,
            client,
            deduplicate: false,
            told: true,
        }
    }

    /// Nothing was changed: says so to whoever waits.
    fn give_up(&mut self, turn: &mut Turn, commit: Commit, limit: OwnCounter) {
        match commit.reply {
            Reply::Ack(_) | Reply::None | Reply::Offer(_) => self.drop_at_limit(turn, commit.client, limit),
            Reply::Answer(node, mut reply) => {
                self.statistics.bump_own(limit);
                reply.body = ShardReplyBody::Busy;
                self.send_or_keep(turn, node, Message::Reply(reply));
            }
            Reply::Internal => self.statistics.bump_own(limit),
            Reply::LeftDeleted(node, park) => {
                self.statistics.bump_own(limit);
                self.send_or_keep(turn, node, Message::LeftDeleted { park, done: false });
            }
        }
    }
}

/// Takes state-lane credit for `credit[node]` messages to each node, or for none at all.
fn reserve_all(turn: &mut Turn, credit: &[u32]) -> bool {
    for (node, &count) in credit.iter().enumerate() {
        if count == 0 || turn.actions.reserve(NodeId(node as u8), Lane::State, count) {
            continue;
        }
        for (node, &count) in credit.iter().enumerate().take(node) {
            turn.actions.unreserve(NodeId(node as u8), Lane::State, count);
        }
        return false;
    }
    true
}
