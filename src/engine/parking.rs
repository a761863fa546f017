//! The parking lot: replies that wait for obligations after their lease was committed.
//!
//! Owns the bytes of each waiting reply, what it waits for, and what is to be done when the last obligation is
//! cleared. It never touches a lease: the commit came first and is never undone (ha-protocol 5.3).
//!
//! Invariants:
//! - an entry is finished exactly once, and its generation changes then, so late answers find nothing;
//! - a reply with a failed obligation is never transmitted;
//! - entries that wait for the partner or another shard are at most the limit, which is checked before the commit.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use shards::keyed_hash::KeyedState;
use shards::{NodeId, Transmit};

use crate::engine::event::ClientLabel;
use crate::engine::message::{ParkId, ShardReply, UpdateOutcome};

/// What an entry waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Obligations {
    /// Journal batch that must be durable.
    pub written: Option<u64>,
    /// Lease updates that other servers must acknowledge: the active partner, or backups where `wait-backup-ack` is
    /// true.
    pub acks: u16,
    /// Deletions of left leases other shards must report.
    pub left: u8,
}

impl Obligations {
    fn awaits_others(self) -> bool {
        self.acks > 0 || self.left > 0
    }

    fn are_clear(self) -> bool {
        self == Self::default()
    }
}

/// Kind of a reply to a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// ACK.
    Ack,
    /// NAK.
    Nak,
    /// OFFER.
    Offer,
}

/// What is done when the last obligation is cleared.
#[derive(Debug)]
pub enum Completion {
    /// Transmit the reply, of this kind.
    Transmit(Answer, Transmit),
    /// Answer a command.
    Answer(NodeId, Box<ShardReply>),
    /// Tell the owner of the new lease that the left one is deleted.
    LeftDeleted(NodeId, ParkId),
    /// Nothing: a RELEASE or DECLINE has no reply.
    Nothing,
}

/// An entry to park.
#[derive(Debug)]
pub struct Parked {
    /// What to do at the end.
    pub completion: Completion,
    /// What to wait for.
    pub obligations: Obligations,
    /// Relationship whose partner it may wait for.
    pub relationship: u8,
    /// HA epoch of the view it was created under.
    pub epoch: u64,
    /// When to give up waiting for others, on the monotonic clock.
    pub deadline_ns: u64,
    /// Address of the lease.
    pub address: Ipv4Addr,
    /// Who asked.
    pub client: ClientLabel,
    /// Whether a query of the same client for the same address is a duplicate while this waits.
    pub deduplicate: bool,
    /// Whether whoever replies may have to wait for is told of the lease, or has it.
    pub told: bool,
}

/// What came of one cleared (or failed) obligation.
#[derive(Debug, Default)]
pub struct Progress {
    /// All updates of the entry have come back.
    pub updates_settled: Option<Settled>,
    /// The entry is over.
    pub finished: Option<Finished>,
    /// Nothing was found under that id.
    pub unknown: bool,
}

/// All updates of a query have come back.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// The worst outcome, which counts.
    pub outcome: UpdateOutcome,
    /// Whose query it was.
    pub client: ClientLabel,
    /// Whose partner the updates were for.
    pub relationship: u8,
}

/// An entry that is over.
#[derive(Debug)]
pub struct Finished {
    /// Whether an obligation failed, so that the completion must report failure or is void.
    pub dropped: bool,
    /// What to do; a transmission has its payload in the output given.
    pub completion: Completion,
    /// Address of the lease.
    pub address: Ipv4Addr,
    /// Relationship whose partner it may have waited for.
    pub relationship: u8,
    /// Who asked.
    pub client: ClientLabel,
}

/// What a query finds of its client already parked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Duplicate {
    /// The very same transaction.
    SameTransaction,
    /// A newer transaction of the same client for the same address.
    NewerTransaction(ParkId),
}

/// Entries of one shard.
#[derive(Debug)]
pub struct ParkingLot {
    shard: u8,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Entries in the order of their batches.
    by_batch: VecDeque<(u64, ParkId)>,
    /// Entries that wait for others, in the order they came; deadlines rise with it but for view changes.
    by_deadline: VecDeque<(u64, ParkId)>,
    /// The newest deduplicated entry of each address.
    by_address: HashMap<u32, ParkId, KeyedState>,
    awaiting_others: usize,
    awaiting_others_max: usize,
    parked: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    bytes: Vec<u8>,
    entry: Option<Entry>,
}

#[derive(Debug)]
struct Entry {
    parked: Parked,
    dropped: bool,
    worst: Option<UpdateOutcome>,
}

impl Entry {
    fn settled(&self, outcome: UpdateOutcome) -> Settled {
        Settled { outcome, client: self.parked.client, relationship: self.parked.relationship }
    }
}

impl ParkingLot {
    /// An empty lot of `shard`, where at most `awaiting_others_max` entries wait for the partner or other shards.
    pub fn new(shard: u8, awaiting_others_max: usize) -> Self {
        Self {
            shard,
            slots: Vec::new(),
            free: Vec::new(),
            by_batch: VecDeque::new(),
            by_deadline: VecDeque::new(),
            by_address: HashMap::default(),
            awaiting_others: 0,
            awaiting_others_max,
            parked: 0,
        }
    }

    /// Changes the limit; entries above it stay.
    pub fn set_limit(&mut self, awaiting_others_max: usize) {
        self.awaiting_others_max = awaiting_others_max;
    }

    /// How many entries may wait for others.
    pub fn limit(&self) -> usize {
        self.awaiting_others_max
    }

    /// Whether one more entry may wait for others.
    pub fn has_room(&self) -> bool {
        self.awaiting_others < self.awaiting_others_max
    }

    /// Entries parked.
    pub fn len(&self) -> usize {
        self.parked
    }

    /// Whether nothing is parked.
    pub fn is_empty(&self) -> bool {
        self.parked == 0
    }

    /// Entries that wait for the partner or for other shards.
    pub fn awaiting_others(&self) -> usize {
        self.awaiting_others
    }

    /// Parks an entry with at least one obligation; `bytes` is the reply. The caller has checked the limit. An older reply
    /// about the address is void: it promises what the lease was.
    pub fn park(&mut self, parked: Parked, bytes: &[u8]) -> ParkId {
        debug_assert!(!parked.obligations.are_clear(), "an entry without obligations is not parked");
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, bytes: Vec::new(), entry: None });
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        let id = ParkId { shard: self.shard, slot, generation: place.generation };
        place.bytes.clear();
        place.bytes.extend_from_slice(bytes);
        if let Some(batch) = parked.obligations.written {
            debug_assert!(self.by_batch.back().is_none_or(|(last, _)| *last <= batch));
            self.by_batch.push_back((batch, id));
        }
        if parked.obligations.awaits_others() {
            self.awaiting_others += 1;
            self.by_deadline.push_back((parked.deadline_ns, id));
        }
        let older = match parked.deduplicate {
            true => self.by_address.insert(parked.address.into(), id),
            false => None,
        };
        place.entry = Some(Entry { parked, dropped: false, worst: None });
        self.parked += 1;
        if let Some(older) = older.and_then(|older| self.entry_mut(older)) {
            older.dropped = true;
        }
        id
    }

    /// What is parked for `address` and a client with this label.
    pub fn duplicate(&self, address: Ipv4Addr, client: &ClientLabel) -> Option<Duplicate> {
        let id = *self.by_address.get(&address.into())?;
        let entry = self.entry(id)?;
        let parked = &entry.parked.client;
        if !is_same_client(parked, client) || entry.dropped {
            return None;
        }
        Some(if parked.xid == client.xid {
            Duplicate::SameTransaction
        } else {
            Duplicate::NewerTransaction(id)
        })
    }

    /// Whether whoever replies may have to wait for is told of the lease that waits under `id`, or has it.
    pub fn is_told(&self, id: ParkId) -> bool {
        self.entry(id).is_some_and(|entry| entry.parked.told)
    }

    /// Whether an update of `address` has yet to be acknowledged, be its reply void already.
    pub fn awaits_partner(&self, address: Ipv4Addr) -> bool {
        let id = self.by_address.get(&address.into());
        id.and_then(|id| self.entry(*id)).is_some_and(|entry| entry.parked.obligations.acks > 0)
    }

    /// The lease of `address` now belongs to `holder`, or to nobody: a reply that waits and promises it to another
    /// client is dropped when its obligations are cleared.
    pub fn revoke(&mut self, address: Ipv4Addr, holder: Option<&ClientLabel>) {
        let Some(id) = self.by_address.get(&address.into()).copied() else { return };
        let Some(entry) = self.entry_mut(id) else { return };
        if !holder.is_some_and(|holder| is_same_client(holder, &entry.parked.client)) {
            entry.dropped = true;
        }
    }

    /// Puts the reply to a newer query of the client in the place of the one that waits (newest wins).
    pub fn replace_reply(&mut self, id: ParkId, transmit: Transmit, client: ClientLabel, bytes: &[u8]) {
        let Some(slot) = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)
        else {
            return;
        };
        if let Some(entry) = &mut slot.entry {
            entry.parked.completion = Completion::Transmit(Answer::Ack, transmit);
            entry.parked.client = client;
            slot.bytes.clear();
            slot.bytes.extend_from_slice(bytes);
        }
    }

    /// Clears `Written` of the next entry whose batch is durable up to `batch`; `None` when there is no more.
    pub fn take_written(&mut self, batch: u64, out: &mut Vec<u8>) -> Option<Progress> {
        loop {
            let (first, id) = *self.by_batch.front()?;
            if first > batch {
                return None;
            }
            self.by_batch.pop_front();
            if let Some(entry) = self.entry_mut(id) {
                entry.parked.obligations.written = None;
                return Some(self.step(id, None, out));
            }
        }
    }

    /// One lease update of `id` has come back.
    pub fn handle_update(&mut self, id: ParkId, outcome: UpdateOutcome, out: &mut Vec<u8>) -> Progress {
        let Some(entry) = self.entry_mut(id).filter(|entry| entry.parked.obligations.acks > 0) else {
            return Progress { unknown: true, ..Progress::default() };
        };
        entry.parked.obligations.acks -= 1;
        entry.worst = entry.worst.max(Some(outcome));
        entry.dropped |= outcome != UpdateOutcome::Acked;
        let worst = if entry.parked.obligations.acks == 0 { entry.worst } else { None };
        let settled = worst.map(|worst| entry.settled(worst));
        let last = !entry.parked.obligations.awaits_others();
        if last {
            self.awaiting_others -= 1;
        }
        self.step(id, settled, out)
    }

    /// Another shard has deleted (or could not delete) the lease the client left.
    pub fn handle_left(&mut self, id: ParkId, done: bool, out: &mut Vec<u8>) -> Progress {
        let Some(entry) = self.entry_mut(id).filter(|entry| entry.parked.obligations.left > 0) else {
            return Progress { unknown: true, ..Progress::default() };
        };
        entry.parked.obligations.left -= 1;
        entry.dropped |= !done;
        let last = !entry.parked.obligations.awaits_others();
        if last {
            self.awaiting_others -= 1;
        }
        self.step(id, None, out)
    }

    /// Gives up on the next entry whose deadline has passed; its updates count as failed.
    pub fn take_overdue(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Option<Progress> {
        let id = self.next_awaiting()?;
        if self.by_deadline.front()?.0 > now_ns {
            return None;
        }
        let entry = self.entry_mut(id)?;
        entry.dropped = true;
        let settled = (entry.parked.obligations.acks > 0).then(|| entry.settled(UpdateOutcome::Failed));
        Some(self.stop_waiting(id, settled, out))
    }

    /// Waives the acknowledgement of the relationship's partner of every entry created before `epoch`: its view no longer
    /// asks for it (partner-down). Entries that failed already stay dropped.
    pub fn waive(&mut self, relationship: u8, epoch: u64, out: &mut Vec<u8>) -> Vec<Progress> {
        let mut waived = Vec::new();
        for (deadline_ns, id) in std::mem::take(&mut self.by_deadline) {
            let Some(entry) = self.entry_mut(id) else { continue };
            let is_its = entry.parked.relationship == relationship && entry.parked.epoch < epoch;
            let obligations = &mut entry.parked.obligations;
            let waives = is_its && obligations.acks > 0;
            if waives {
                obligations.acks = 0;
                entry.parked.told = false;
            }
            let obligations = &entry.parked.obligations;
            if obligations.awaits_others() {
                self.by_deadline.push_back((deadline_ns, id));
            } else if waives {
                self.awaiting_others -= 1;
            }
            if waives {
                waived.push(self.step(id, None, out));
            }
        }
        waived
    }

    /// Replies that wait on behalf of the relationship's clients are void: another server serves them now. With
    /// `untold_alone` those only whose leases it was not told of.
    pub fn void(&mut self, relationship: u8, untold_alone: bool) {
        let entries = self.slots.iter_mut().filter_map(|slot| slot.entry.as_mut());
        for Entry { parked, dropped, .. } in entries {
            let replies = matches!(parked.completion, Completion::Transmit(..));
            *dropped |= replies && parked.relationship == relationship && !(untold_alone && parked.told);
        }
    }

    /// When the first deadline passes; that of an entry which no longer waits is as good as any.
    pub fn next_deadline(&self) -> Option<u64> {
        self.by_deadline.front().map(|(deadline, _)| *deadline)
    }

    /// The first entry of the deadline queue that still waits for others; those that do not are forgotten.
    fn next_awaiting(&mut self) -> Option<ParkId> {
        loop {
            let (_, id) = *self.by_deadline.front()?;
            if self.entry(id).is_some_and(|entry| entry.parked.obligations.awaits_others()) {
                return Some(id);
            }
            self.by_deadline.pop_front();
        }
    }

    fn stop_waiting(&mut self, id: ParkId, settled: Option<Settled>, out: &mut Vec<u8>) -> Progress {
        if let Some(entry) = self.entry_mut(id) {
            entry.parked.obligations.acks = 0;
            entry.parked.obligations.left = 0;
            self.awaiting_others -= 1;
        }
        self.step(id, settled, out)
    }

    fn step(&mut self, id: ParkId, updates_settled: Option<Settled>, out: &mut Vec<u8>) -> Progress {
        let clear = self.entry(id).is_some_and(|entry| entry.parked.obligations.are_clear());
        let finished = if clear { self.finish(id, out) } else { None };
        Progress { updates_settled, finished, unknown: false }
    }

    fn finish(&mut self, id: ParkId, out: &mut Vec<u8>) -> Option<Finished> {
        let slot = &mut self.slots[id.slot as usize];
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.parked -= 1;
        let Parked { address, client, relationship, mut completion, .. } = entry.parked;
        let key = u32::from(address);
        if self.by_address.get(&key) == Some(&id) {
            self.by_address.remove(&key);
        }
        if let Completion::Transmit(_, transmit) = &mut completion
            && !entry.dropped
        {
            let start = out.len();
            out.extend_from_slice(&slot.bytes);
            transmit.payload = start..out.len();
        }
        Some(Finished { dropped: entry.dropped, completion, address, relationship, client })
    }

    fn entry(&self, id: ParkId) -> Option<&Entry> {
        let slot = self.slots.get(id.slot as usize)?;
        if slot.generation != id.generation || id.shard != self.shard {
            return None;
        }
        slot.entry.as_ref()
    }

    fn entry_mut(&mut self, id: ParkId) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation || id.shard != self.shard {
            return None;
        }
        slot.entry.as_mut()
    }
}

fn is_same_client(one: &ClientLabel, other: &ClientLabel) -> bool {
    one.hlen == other.hlen
        && one.hwaddr == other.hwaddr
        && one.client_id_octets == other.client_id_octets
        && one.client_id == other.client_id
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn parked(written: Option<u64>, acks: u16, left: u8) -> Parked {
        let transmit = Transmit {
            socket: 0,
            ifindex: 1,
            source: ADDRESS,
            destination: ADDRESS,
            destination_port: 68,
            destination_mac: [0; 6],
            payload: 0..0,
        };
        Parked {
            completion: Completion::Transmit(Answer::Ack, transmit),
            obligations: Obligations { written, acks, left },
            relationship: 0,
            epoch: 1,
            deadline_ns: 100,
            address: ADDRESS,
            client: ClientLabel::new(1, &[1], &[], 7),
            deduplicate: true,
            told: acks > 0,
        }
    }

    fn settled(progress: &Progress) -> Option<UpdateOutcome> {
        progress.updates_settled.map(|settled| settled.outcome)
    }

    fn is_sent(progress: &Progress) -> bool {
        progress.finished.as_ref().is_some_and(|finished| !finished.dropped)
    }

    #[test]
    fn a_reply_leaves_when_its_last_obligation_is_cleared_in_either_order() {
        for disk_first in [true, false] {
            let mut lot = ParkingLot::new(0, 10);
            let mut out = vec![9];
            let id = lot.park(parked(Some(3), 1, 0), b"ack");
            assert!(lot.take_written(2, &mut out).is_none());
            if disk_first {
                assert!(!is_sent(&lot.take_written(3, &mut out).unwrap()));
            }
            let progress = lot.handle_update(id, UpdateOutcome::Acked, &mut out);
            assert_eq!(settled(&progress), Some(UpdateOutcome::Acked));
            assert_eq!(is_sent(&progress), disk_first);
            if !disk_first {
                assert!(is_sent(&lot.take_written(5, &mut out).unwrap()));
            }
            assert_eq!(out, b"\x09ack");
            assert!(lot.is_empty());
            assert!(lot.handle_update(id, UpdateOutcome::Acked, &mut out).unknown);
        }
    }

    #[test]
    fn a_failed_update_drops_the_reply_and_the_worst_outcome_counts() {
        let mut lot = ParkingLot::new(0, 10);
        let mut out = Vec::new();
        let id = lot.park(parked(None, 2, 0), b"ack");
        let first = lot.handle_update(id, UpdateOutcome::Failed, &mut out);
        assert!(first.finished.is_none() && first.updates_settled.is_none());
        let last = lot.handle_update(id, UpdateOutcome::Conflict, &mut out);
        assert_eq!(settled(&last), Some(UpdateOutcome::Failed));
        assert!(last.finished.unwrap().dropped);
        assert!(out.is_empty());
    }

    #[test]
    fn a_left_lease_that_was_not_deleted_drops_the_reply() {
        let mut lot = ParkingLot::new(0, 10);
        let mut out = Vec::new();
        let id = lot.park(parked(None, 0, 1), b"ack");
        assert_eq!(lot.awaiting_others(), 1);
        assert!(lot.handle_left(id, false, &mut out).finished.unwrap().dropped);
        assert_eq!(lot.awaiting_others(), 0);
    }

    #[test]
    fn the_limit_counts_only_entries_that_wait_for_others() {
        let mut lot = ParkingLot::new(0, 1);
        lot.park(parked(Some(1), 0, 0), b"");
        assert!(lot.has_room());
        lot.park(parked(Some(1), 1, 0), b"");
        assert!(!lot.has_room());
        assert_eq!(lot.len(), 2);
    }

    #[test]
    fn an_overdue_entry_is_dropped_and_its_slot_is_used_again_under_a_new_generation() {
        let mut lot = ParkingLot::new(0, 10);
        let mut out = Vec::new();
        let id = lot.park(parked(None, 1, 0), b"ack");
        assert_eq!(lot.next_deadline(), Some(100));
        assert!(lot.take_overdue(99, &mut out).is_none());
        let progress = lot.take_overdue(100, &mut out).unwrap();
        assert_eq!(settled(&progress), Some(UpdateOutcome::Failed));
        assert!(progress.finished.unwrap().dropped);
        assert!(lot.take_overdue(100, &mut out).is_none());
        let next = lot.park(parked(None, 1, 0), b"ack");
        assert_eq!(next.slot, id.slot);
        assert_ne!(next.generation, id.generation);
    }

    #[test]
    fn a_view_that_asks_for_no_acknowledgement_releases_what_has_not_failed() {
        let mut lot = ParkingLot::new(0, 10);
        let mut out = Vec::new();
        let good = lot.park(parked(None, 1, 0), b"ack");
        let address = Ipv4Addr::new(192, 0, 2, 2);
        let bad = lot.park(Parked { address, ..parked(None, 2, 0) }, b"nack");
        lot.handle_update(bad, UpdateOutcome::Failed, &mut out);
        let sent = lot.waive(0, 2, &mut out).iter().filter(|progress| is_sent(progress)).count();
        assert_eq!((sent, out.as_slice()), (1, &b"ack"[..]));
        assert!(lot.handle_update(good, UpdateOutcome::Acked, &mut out).unknown);
        assert_eq!(lot.awaiting_others(), 0);
    }

    #[test]
    fn a_retransmission_is_told_from_a_newer_transaction_and_from_another_client() {
        let mut lot = ParkingLot::new(0, 10);
        let id = lot.park(parked(None, 1, 0), b"ack");
        let rows = [
            (ClientLabel::new(1, &[1], &[], 7), Some(Duplicate::SameTransaction)),
            (ClientLabel::new(1, &[1], &[], 8), Some(Duplicate::NewerTransaction(id))),
            (ClientLabel::new(1, &[2], &[], 7), None),
            (ClientLabel::new(1, &[1], &[1, 2], 7), None),
        ];
        for (client, found) in rows {
            assert_eq!(lot.duplicate(ADDRESS, &client), found, "{client}");
        }
    }

    #[test]
    fn of_two_replies_about_an_address_the_newer_one_is_sent_until_it_is_revoked() {
        let newer = || Parked { client: ClientLabel::new(1, &[1], &[], 8), ..parked(None, 1, 0) };
        for revoked in [false, true] {
            let mut lot = ParkingLot::new(0, 10);
            let mut out = Vec::new();
            let ids = [lot.park(parked(None, 1, 0), b"older"), lot.park(newer(), b"newer")];
            if revoked {
                lot.revoke(ADDRESS, None);
            }
            let sent = ids.map(|id| is_sent(&lot.handle_update(id, UpdateOutcome::Acked, &mut out)));
            assert_eq!(sent, [false, !revoked]);
            assert_eq!(out, if revoked { &b""[..] } else { b"newer" });
        }
    }

    #[test]
    fn a_reply_is_dropped_once_its_lease_is_another_clients_or_nobodys() {
        let same = ClientLabel::new(1, &[1], &[], 8);
        let other = ClientLabel::new(1, &[2], &[], 7);
        for (holder, sent) in [(Some(&same), true), (Some(&other), false), (None, false)] {
            let mut lot = ParkingLot::new(0, 10);
            let mut out = Vec::new();
            lot.park(parked(Some(1), 0, 0), b"ack");
            lot.revoke(ADDRESS, holder);
            assert_eq!(lot.duplicate(ADDRESS, &same).is_some(), sent, "{holder:?}");
            assert_eq!(is_sent(&lot.take_written(1, &mut out).unwrap()), sent, "{holder:?}");
        }
    }
}
