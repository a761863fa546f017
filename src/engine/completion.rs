//! What comes back: durable batches, the partner's answers, other shards' answers, deadlines; and the dispatch
//! of messages from other nodes.

use shards::{Lane, NodeId, SmallBytes};

use crate::dhcp4::identity::ClientIdentity;
use crate::dhcp4::request::Availability;
use crate::engine::commit::{Change, Commit, Reply};
use crate::engine::counters::{Counter, OwnCounter};
use crate::engine::event::{ClientLabel, EventKind};
use crate::engine::message::{
    DeleteLeft, Message, PartnerUpdate, ShardReply, ShardReplyBody, UpdateKind, UpdateOutcome,
};
use crate::engine::parking::{Completion, Finished, Progress, Settled};
use crate::engine::shard::{Shard, Turn};
use crate::ha::view::BackupUpdates;
use crate::limits;

impl Shard {
    /// A message from another node.
    pub fn handle_message(&mut self, turn: &mut Turn, from: NodeId, message: Message) {
        match message {
            Message::Backlog(update) => self.send_after_all(turn, update),
            Message::Command(command) => self.handle_command(turn, from, *command),
            Message::DeleteLeft(left) => self.delete_left(turn, from, &left),
            Message::Forward(forward) => self.handle_forward(turn, forward),
            Message::HaView(view) => self.set_view(turn, &view),
            Message::Index(change) => self.change_index(&change),
            Message::LeftDeleted { park, done } => {
                let progress = self.parking.handle_left(park, done, &mut turn.actions.bytes);
                self.settle(turn, progress);
            }
            // The answer of a shard that took over stray leases.
            Message::Reply(_) => {}
            Message::UpdateDone(update) => self.update_done(turn, update),
            Message::Partner(_)
            | Message::Snapshot(_)
            | Message::SnapshotApplied { .. }
            | Message::Stop
            | Message::Unanswered(_)
            | Message::UnsentUpdates { .. }
            | Message::Update(_)
            | Message::UpdatesSettled { .. } => self.statistics.bump_own(OwnCounter::UnexpectedMessage),
        }
        self.flush_outbox(turn);
        self.answer_drains(turn);
    }

    /// Everything up to batch `batch` is durable.
    pub fn persisted(&mut self, turn: &mut Turn, batch: u64) {
        self.journal.durable = self.journal.durable.max(batch);
        while let Some(progress) = self.parking.take_written(batch, &mut turn.actions.bytes) {
            self.settle(turn, progress);
        }
        self.flush_outbox(turn);
        self.answer_drains(turn);
    }

    /// Timers.
    pub fn timeout(&mut self, turn: &mut Turn) {
        let now_ns = turn.now.monotonic_ns;
        while let Some(progress) = self.parking.take_overdue(now_ns, &mut turn.actions.bytes) {
            self.statistics.bump_own(OwnCounter::ParkedExpired);
            self.settle(turn, progress);
        }
        self.reclaim_slice(turn);
        self.report_unsent(turn);
        self.flush_outbox(turn);
        self.answer_drains(turn);
    }

    /// When `timeout` is wanted next.
    pub fn next_timeout(&self) -> u64 {
        let mut next = self.reclaim.next_ns();
        if let Some(deadline) = self.parking.next_deadline() {
            next = next.min(deadline);
        }
        let keeps = !self.outbox.is_empty() || !self.handed_back.is_empty();
        if keeps || self.relations.have_unreported() {
            next = next.min(self.outbox_retry_ns);
        }
        next
    }

    /// How much waits for the disk.
    pub fn set_journal_waiting(&mut self, waiting_bytes: usize) {
        self.journal.waiting_bytes = waiting_bytes;
    }

    /// The view of the relationship no longer asks for its partner's word.
    pub fn waive_acknowledgements(&mut self, turn: &mut Turn, relationship: u8) {
        let epoch = self.relations.of(relationship).view.epoch;
        for progress in self.parking.waive(relationship, epoch, &mut turn.actions.bytes) {
            self.count_unsent(relationship);
            self.settle(turn, progress);
        }
    }

    fn update_done(&mut self, turn: &mut Turn, update: Box<PartnerUpdate>) {
        // A sender that gives the box back without an outcome has not sent it.
        let outcome = update.outcome.unwrap_or(UpdateOutcome::Failed);
        let (park, address, relationship) = (update.park, update.lease.address, update.relationship);
        let view = &self.relations.of(relationship).view;
        let for_backup = view.backup_peers.indices().contains(&update.peer);
        let deletes = update.kind == UpdateKind::Delete && !for_backup;
        if deletes && outcome != UpdateOutcome::Acked && self.partition.get(address).is_none() {
            self.change_log.remember(&update.lease);
        }
        if update.owed {
            return self.owed_done(turn, update, outcome);
        }
        if self.update_boxes.len() < limits::SPARE_BOXES_MAX {
            self.update_boxes.push(update);
        }
        let Some(park) = park else { return };
        let progress = self.parking.handle_update(park, outcome, &mut turn.actions.bytes);
        // Of several servers that are waited for each has to take it.
        let all_took_it =
            progress.updates_settled.as_ref().is_some_and(|settled| settled.outcome == UpdateOutcome::Acked);
        let unacknowledged = &mut self.relations.of_mut(relationship).unacknowledged;
        if outcome != UpdateOutcome::Acked {
            unacknowledged.insert(address);
        } else if all_took_it {
            unacknowledged.remove(address);
        }
        self.settle(turn, progress);
    }

    /// An update has come back whose client was answered before: what the partner has not taken it is owed.
    fn owed_done(&mut self, turn: &mut Turn, mut update: Box<PartnerUpdate>, outcome: UpdateOutcome) {
        if outcome == UpdateOutcome::Acked {
            let unacknowledged = &mut self.relations.of_mut(update.relationship).unacknowledged;
            return unacknowledged.remove(update.lease.address);
        }
        update.outcome = Some(outcome);
        self.send_after_all(turn, update);
    }

    /// Another shard's client has left `left.address`, which this shard owns.
    fn delete_left(&mut self, turn: &mut Turn, from: NodeId, left: &DeleteLeft) {
        let lease = if self.partition.owns(left.address) { self.partition.get(left.address) } else { None };
        let client = ClientIdentity {
            htype: 0,
            chaddr: &left.client.hwaddr,
            client_id: Some(left.client.client_id.as_slice()).filter(|client_id| !client_id.is_empty()),
        };
        let match_client_id =
            turn.rules.snapshot.subnet(left.client.subnet_id).is_none_or(|subnet| subnet.match_client_id);
        let wall_s = turn.now.wall_s();
        let availability = Availability::of(lease.as_ref(), &client, match_client_id, wall_s);
        match lease.filter(|_| availability == Availability::Own) {
            Some(lease) => {
                self.changes.clear();
                self.changes.push(Change::Delete(lease));
                let reply = Reply::LeftDeleted(from, left.park);
                let mut commit = Commit::without_query(left.address, reply, true);
                commit.client = ClientLabel::new(1, &left.client.hwaddr, &left.client.client_id, 0);
                self.commit(turn, commit);
            }
            // Gone, or never the client's: there is nothing to delete.
            None => self.send_or_keep(turn, from, Message::LeftDeleted { park: left.park, done: true }),
        }
    }

    fn settle(&mut self, turn: &mut Turn, progress: Progress) {
        if progress.unknown {
            self.statistics.bump_own(OwnCounter::LateAnswer);
        }
        if let Some(settled) = progress.updates_settled {
            self.report_settled(turn, &settled);
        }
        if let Some(finished) = progress.finished {
            self.finish(turn, finished);
        }
    }

    fn report_settled(&mut self, turn: &mut Turn, settled: &Settled) {
        let Settled { outcome, client, relationship } = *settled;
        let view = &self.relations.of(relationship).view;
        let is_news = outcome != UpdateOutcome::Acked || view.report_acks;
        // A backup's refusal drops the reply and changes no state (ha-protocol 5.4).
        if is_news && view.backups != BackupUpdates::SendAndWait {
            let client = Box::new(ha_identity(&client));
            let control = self.topology.control();
            self.send_or_keep(turn, control, Message::UpdatesSettled { relationship, outcome, client });
        }
    }

    fn finish(&mut self, turn: &mut Turn, finished: Finished) {
        let Finished { dropped, completion, address, relationship, client } = finished;
        match completion {
            // What was promised before the server stood still may be another's by now.
            Completion::Transmit(..)
                if self.relations.of(relationship).view.is_outdated(turn.now.monotonic_ns) =>
            {
                self.relations.of_mut(relationship).unacknowledged.insert(address);
                self.statistics.bump_own(OwnCounter::StoodStill);
                self.statistics.bump(Counter::ReceiveDrop);
                turn.log(client, EventKind::ParkedDropped { address });
            }
            Completion::Transmit(..) if dropped => {
                self.relations.of_mut(relationship).unacknowledged.insert(address);
                self.statistics.bump_own(OwnCounter::ParkedDropped);
                self.statistics.bump(Counter::ReceiveDrop);
                turn.log(client, EventKind::ParkedDropped { address });
            }
            Completion::Transmit(answer, transmit) => {
                self.statistics.bump_own(OwnCounter::Unparked);
                turn.actions.transmit.push(transmit);
                self.count_sent(answer);
            }
            Completion::Answer(node, reply) => self.send_or_keep(turn, node, Message::Reply(reply)),
            Completion::LeftDeleted(node, park) => {
                self.send_or_keep(turn, node, Message::LeftDeleted { park, done: !dropped });
            }
            Completion::Nothing => {}
        }
    }

    /// A query's updates were not sent to the partner of the relationship (ha-protocol 4.8).
    pub fn count_unsent(&mut self, relationship: u8) {
        self.statistics.bump_own(OwnCounter::UnsentUpdates);
        self.relations.of_mut(relationship).unsent += 1;
    }

    /// Tells control how many queries' updates were not sent; the last total counts.
    fn report_unsent(&mut self, turn: &mut Turn) {
        let control = self.topology.control();
        for relation in self.relations.iter_mut() {
            let (relationship, total) = (relation.view.relationship, relation.unsent);
            if total != relation.unsent_reported && turn.actions.reserve(control, Lane::State, 1) {
                turn.actions.send(control, Lane::State, Message::UnsentUpdates { relationship, total });
                relation.unsent_reported = total;
            }
        }
    }

    /// Answers those who wait for quiet, once it is quiet.
    pub fn answer_drains(&mut self, turn: &mut Turn) {
        let quiet = self.parking.is_empty() && self.journal.durable >= self.journal.batch;
        while quiet && let Some((node, request)) = self.drains.pop() {
            let reply = ShardReply { shard: self.number, request, body: ShardReplyBody::Drained };
            self.send_or_keep(turn, node, Message::Reply(Box::new(reply)));
        }
    }
}

/// The client of a label, for the HA machine. Of a client identifier longer than the label keeps, its first part
/// stands for the whole.
fn ha_identity(label: &ClientLabel) -> crate::ha::event::ClientIdentity {
    crate::ha::event::ClientIdentity {
        hwaddr: SmallBytes::new(label.hwaddr()),
        client_id: SmallBytes::new(label.client_id()),
    }
}
