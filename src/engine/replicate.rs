//! Who is told of a change, and how (ha-protocol 5.1, 5.2, 5.5).
//!
//! One command for each server that gets it: the active partner, and every backup. Commands of one address always go
//! through the same sender, deletions before updates as the commit has them. While the partner is away and the view
//! says so, its commands go to the backlog at the control node instead.
//!
//! Room for all of them has been reserved before, but for updates of a backlog that come after all: these wait.

use std::net::Ipv4Addr;

use shards::{Lane, Lease, LeaseState, NodeId};

use crate::engine::commit::Change;
use crate::engine::counters::OwnCounter;
use crate::engine::message::{Message, ParkId, PartnerUpdate, UpdateKind};
use crate::engine::shard::{NS_PER_MS, Shard, Turn};
use crate::ha::view::{BackupPeers, BackupUpdates, UpdateMode};

/// Which other servers are told of a commit (ha-protocol 5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Replication {
    /// Whose servers they are.
    pub relationship: u8,
    /// The active partner.
    partner: ToPartner,
    /// Backups, by peer index.
    backups: BackupPeers,
    /// Whether the reply waits for the backups as well.
    waits_for_backups: bool,
}

/// What becomes of an update for the active partner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ToPartner {
    /// Nothing is sent.
    Nothing,
    /// To the backlog; nobody waits.
    Queue,
    /// Sent, and it must be acknowledged.
    Send,
}

impl Replication {
    /// Nobody is told.
    const fn none(relationship: u8) -> Self {
        let backups = BackupPeers { first: 0, count: 0 };
        Self { relationship, partner: ToPartner::Nothing, backups, waits_for_backups: false }
    }

    /// Whether any command goes to a sender or to the backlog.
    pub fn tells_anyone(self) -> bool {
        self.partner != ToPartner::Nothing || self.backups.count > 0
    }

    /// Commands per change that go to senders.
    pub fn sent(self) -> u32 {
        u32::from(self.backups.count) + u32::from(self.partner == ToPartner::Send)
    }

    /// Whether each change has a command in the backlog.
    pub fn queues(self) -> bool {
        self.partner == ToPartner::Queue
    }

    /// Commands per change that must be acknowledged.
    pub fn awaited(self) -> u16 {
        let backups = if self.waits_for_backups { self.backups.count } else { 0 };
        u16::from(backups) + u16::from(self.partner == ToPartner::Send)
    }
}

impl Shard {
    /// Who is told of `changes` now; nobody where they are not ones that `replicates`. Changes of one query are of one
    /// subnet, and so of one relationship.
    pub fn replication(&self, turn: &Turn, changes: &[Change], replicates: bool) -> Replication {
        let relationship = match (self.relations.are_several(), changes.first()) {
            (true, Some(Change::Delete(lease) | Change::Put(lease))) => {
                self.relations.of_subnet(&turn.rules.snapshot, lease.subnet_id)
            }
            _ => 0,
        };
        let relation = self.relations.of(relationship);
        let nobody = Replication::none(relationship);
        if !replicates || relation.senders.1 == 0 {
            return nobody;
        }
        let view = &relation.view;
        let partner = match view.updates {
            UpdateMode::Send => ToPartner::Send,
            // Once there were too many, both servers copy all leases.
            UpdateMode::Queue if !view.backlog_overflowed => ToPartner::Queue,
            UpdateMode::None | UpdateMode::Off | UpdateMode::Queue => ToPartner::Nothing,
        };
        match view.backups {
            BackupUpdates::None => Replication { partner, ..nobody },
            sends => {
                let waits_for_backups = sends == BackupUpdates::SendAndWait;
                Replication { partner, backups: view.backup_peers, waits_for_backups, ..nobody }
            }
        }
    }

    /// Sends one update to whom it goes, or to the backlog.
    pub fn replicate(
        &mut self,
        turn: &mut Turn,
        change: &Change,
        park: Option<ParkId>,
        replication: Replication,
    ) {
        let lease = match change {
            Change::Delete(lease) | Change::Put(lease) => lease,
        };
        let relationship = replication.relationship;
        let sender = self.sender_of(relationship, lease.address);
        if replication.partner != ToPartner::Nothing {
            // The partner is the first of the other peers (ha::relationship).
            let kind = kind_of(change, self.relations.of(relationship).view.sends_released);
            let queued = replication.partner == ToPartner::Queue;
            let update = self.update_for(relationship, 0, kind, lease, park.filter(|_| !queued));
            match queued {
                true => turn.actions.send(self.topology.control(), Lane::State, Message::Backlog(update)),
                false => turn.actions.send(sender, Lane::State, Message::Update(update)),
            }
        }
        for peer in replication.backups.indices() {
            // Of a backup nobody knows whether it understands that a lease was released.
            let kind = kind_of(change, false);
            let waited = park.filter(|_| replication.waits_for_backups);
            let update = self.update_for(relationship, peer, kind, lease, waited);
            turn.actions.send(sender, Lane::State, Message::Update(update));
        }
    }

    /// Sends what the address of an update is by now: one that was put off and could not be sent in its turn, or one of
    /// these that has come back. It waits for room at its sender; where it cannot be sent at all it goes back to the control
    /// node, which knows what is to be done.
    pub fn send_after_all(&mut self, turn: &mut Turn, update: Box<PartnerUpdate>) {
        if let Some(waits) = self.try_after_all(turn, update) {
            self.statistics.bump_own(OwnCounter::HandedBackWaits);
            self.handed_back.push_back(waits);
            self.outbox_retry_ns = turn.now.monotonic_ns + NS_PER_MS;
        }
    }

    /// Sends updates that wait for room at their senders, up to the first that finds none. The next time another one is
    /// first, so that a sender that takes nothing does not hold up the others for good.
    pub fn send_handed_back(&mut self, turn: &mut Turn) {
        while let Some(update) = self.handed_back.pop_front() {
            if let Some(waits) = self.try_after_all(turn, update) {
                return self.handed_back.push_back(waits);
            }
        }
    }

    /// Gives the update back where its sender has no room.
    fn try_after_all(
        &mut self,
        turn: &mut Turn,
        mut update: Box<PartnerUpdate>,
    ) -> Option<Box<PartnerUpdate>> {
        let (address, relationship) = (update.lease.address, update.relationship);
        if self.partition.owns(address) {
            let change = match self.partition.get(address) {
                Some(lease) => Change::Put(lease),
                None => Change::Delete(update.lease.clone()),
            };
            let view = &self.relations.of(relationship).view;
            let (is_sent, epoch) = (view.updates == UpdateMode::Send && update.outcome.is_none(), view.epoch);
            update.kind = kind_of(&change, view.sends_released);
            let (Change::Put(lease) | Change::Delete(lease)) = change;
            update.lease = lease;
            let sender = self.sender_of(relationship, address);
            if is_sent {
                // Until the partner has it, nobody is answered from the cache on the strength of it.
                self.relations.of_mut(relationship).unacknowledged.insert(address);
                if !turn.actions.reserve(sender, Lane::State, 1) {
                    return Some(update);
                }
                (update.shard, update.epoch) = (self.number, epoch);
                turn.actions.send(sender, Lane::State, Message::Update(update));
                return None;
            }
        }
        self.send_or_keep(turn, self.topology.control(), Message::Backlog(update));
        None
    }

    /// An update in a box that came back, or in a new one.
    fn update_for(
        &mut self,
        relationship: u8,
        peer: u8,
        kind: UpdateKind,
        lease: &Lease,
        park: Option<ParkId>,
    ) -> Box<PartnerUpdate> {
        let (shard, epoch) = (self.number, self.relations.of(relationship).view.epoch);
        let lease = lease.clone();
        let owed = false;
        let update =
            PartnerUpdate { relationship, peer, shard, park, kind, lease, epoch, owed, outcome: None };
        match self.update_boxes.pop() {
            Some(mut spare) => {
                *spare = update;
                spare
            }
            None => Box::new(update),
        }
    }

    /// Where updates of `address` go: always the same sender of the relationship, so that they stay in order
    /// (ha-protocol 5.5).
    pub fn sender_of(&self, relationship: u8, address: Ipv4Addr) -> NodeId {
        let (first, count) = self.relations.of(relationship).senders;
        let key = self.steering.identities.key(&address.octets());
        self.topology.sender(first + (key % u64::from(count.max(1))) as u8)
    }
}

/// The command for a change. A server that does not know the state is told of a release as Kea 2.2 does it
/// (ha-protocol 5.1).
fn kind_of(change: &Change, knows_released: bool) -> UpdateKind {
    match change {
        Change::Delete(_) => UpdateKind::Delete,
        Change::Put(lease) if lease.state == LeaseState::Released && !knows_released => UpdateKind::Delete,
        Change::Put(_) => UpdateKind::Update,
    }
}
