//! Commands from control, the partner (through a listener) and other shards.
//!
//! Every command is answered once: at once when it only reads, when its rows are durable when it changes leases
//! (ha-protocol 5.7), with `Busy` when there is no room. Whose lease of an address stays is decided in one place,
//! [`super::standing`].

use std::net::Ipv4Addr;

use shards::partition::Wanted;
use shards::{Lease, NodeId};

use crate::engine::commit::{Change, Commit, Reply, storable};
use crate::engine::counters::{LeaseCounter, OwnCounter, ShardStatistics};
use crate::engine::event::ClientLabel;
use crate::engine::message::{
    Applied, CopySlice, Message, ShardCommand, ShardCommandBody, ShardReply, ShardReplyBody, Span, Terms,
    UpdateKind,
};
use crate::engine::parking::Completion;
use crate::engine::relation::serves_alone;
use crate::engine::shard::{Shard, Turn};
use crate::engine::standing::{Standing, is_held, is_overtaken, is_same_client, takes_from_another};
use crate::ha::fence::Stamp;
use crate::limits;
use crate::policy::SubnetFilter;

/// Who asks for a change of leases.
#[derive(Clone, Copy)]
struct Asker {
    node: NodeId,
    /// Its number for the question.
    request: u64,
    /// Whose partner it is for; `None` for an administrator.
    relationship: Option<u8>,
}

impl Shard {
    pub fn handle_command(&mut self, turn: &mut Turn, from: NodeId, command: ShardCommand) {
        let ShardCommand { request, body } = command;
        let answer = match body {
            ShardCommandBody::Page { after, limit, subnets } => {
                self.list(after, limit, Wanted::Subnets(&subnets))
            }
            ShardCommandBody::Get(address) => {
                let lease = if self.partition.owns(address) { self.partition.get(address) } else { None };
                ShardReplyBody::Leases(lease.into_iter().collect())
            }
            ShardCommandBody::GetByIdentity { by_client_id: true, identity, after } => {
                self.list(after, usize::MAX, Wanted::ClientId(&identity))
            }
            ShardCommandBody::GetByIdentity { by_client_id: false, identity, after } => {
                self.list(after, usize::MAX, Wanted::HardwareAddress(&identity))
            }
            ShardCommandBody::PartnerUpdate { lease, force_create, by_partner, relationship } => {
                let asker = Asker { node: from, request, relationship };
                return self.partner_update(turn, asker, *lease, force_create, by_partner);
            }
            ShardCommandBody::PartnerDelete { address, deleted, relationship } => {
                let asker = Asker { node: from, request, relationship };
                return self.partner_delete(turn, asker, address, deleted.as_deref());
            }
            ShardCommandBody::Add { lease, relationship } => {
                let asker = Asker { node: from, request, relationship };
                return self.add_lease(turn, asker, *lease);
            }
            ShardCommandBody::DeleteOf { address, client, relationship } => {
                // Until now the address may have become another client's.
                if self.partition.get(address).is_some_and(|lease| !client.is(&lease)) {
                    return self.answer(turn, from, request, ShardReplyBody::Deleted(false));
                }
                let asker = Asker { node: from, request, relationship };
                return self.partner_delete(turn, asker, address, None);
            }
            ShardCommandBody::PartnerBatch { relationship, stamp, updates } => {
                if !self.comes_in_time(relationship, stamp) {
                    return self.answer(turn, from, request, ShardReplyBody::Late);
                }
                let asker = Asker { node: from, request, relationship: Some(relationship) };
                return self.partner_batch(turn, asker, updates);
            }
            ShardCommandBody::Synchronised(slice) => {
                return self.synchronise(turn, from, request, &slice);
            }
            ShardCommandBody::Changes { since, limit, subnets } => {
                self.changes_since(turn, since, limit, &subnets)
            }
            ShardCommandBody::Statistics => ShardReplyBody::Statistics(Box::new(self.statistics_now())),
            ShardCommandBody::Stray => ShardReplyBody::Addresses(self.partition.strays()),
            ShardCommandBody::Drain => {
                self.drains.push((from, request));
                return;
            }
        };
        self.answer(turn, from, request, answer);
    }

    /// Where the index entries of many leases belong: nothing of them has been read yet, as a query's has.
    pub fn ahead_of(&self, body: &ShardCommandBody, mut fetch: impl FnMut(&u64)) {
        let ShardCommandBody::PartnerBatch { updates, .. } = body else { return };
        let identities = self.partition.identities();
        let key = |identity: &[u8]| self.steering.identities.key(identity);
        for (_, lease) in updates {
            fetch(identities.hardware.first_read(key(&lease.hwaddr)));
            if !lease.client_id.is_empty() {
                fetch(identities.client_id.first_read(key(&lease.client_id)));
            }
        }
    }

    /// Leases that are wanted, as far as one turn goes.
    fn list(&self, after: Option<Ipv4Addr>, limit: usize, wanted: Wanted) -> ShardReplyBody {
        let mut leases = Vec::new();
        let upto =
            self.partition.page(after, limit, limits::LEASES_LOOKED_AT, wanted, |lease| leases.push(lease));
        match upto {
            None => ShardReplyBody::Leases(leases),
            Some(upto) => ShardReplyBody::LeasesUpTo(leases, upto),
        }
    }

    fn answer(&mut self, turn: &mut Turn, to: NodeId, request: u64, body: ShardReplyBody) {
        let reply = Box::new(ShardReply { shard: self.number, request, body });
        self.send_or_keep(turn, to, Message::Reply(reply));
    }

    /// Answers once everything up to now is durable: whoever asks takes what is here already for kept, and it may be a row
    /// that waits for the disk.
    fn answer_when_written(&mut self, turn: &mut Turn, to: NodeId, request: u64, body: ShardReplyBody) {
        let reply = Box::new(ShardReply { shard: self.number, request, body });
        if self.journal.durable >= self.journal.batch {
            return self.send_or_keep(turn, to, Message::Reply(reply));
        }
        self.statistics.bump_own(OwnCounter::Parked);
        let client = ClientLabel::new(0, &[], &[], 0);
        let parked =
            self.parked_until_written(turn, Completion::Answer(to, reply), client, Ipv4Addr::UNSPECIFIED);
        self.parking.park(parked, &[]);
    }

    fn partner_update(
        &mut self,
        turn: &mut Turn,
        asker: Asker,
        lease: Lease,
        force_create: bool,
        by_partner: bool,
    ) {
        let (from, request, address) = (asker.node, asker.request, lease.address);
        if !self.partition.owns(address) {
            // The asker's owner table is not in force here yet; it asks again.
            return self.answer(turn, from, request, ShardReplyBody::Busy);
        }
        if self.is_foreign(turn, asker, address, Some(lease.subnet_id)) {
            return self.answer(turn, from, request, ShardReplyBody::Foreign);
        }
        let ours = self.partition.get(address);
        if ours.is_none() && !force_create {
            return self.answer(turn, from, request, ShardReplyBody::Missing);
        }
        let standing = self.standing(turn, asker.relationship, &lease);
        if by_partner && self.is_defended(standing, UpdateKind::Update, &lease) {
            self.remember_refused(turn, asker, UpdateKind::Update, &lease);
            return self.refuse_update(turn, from, request, &lease);
        }
        let now_ns = turn.now.monotonic_ns;
        let has_overtaken = |ours: &Lease| self.lately.has_overtaken(&lease, ours, now_ns);
        if by_partner && ours.as_ref().is_some_and(has_overtaken) {
            self.statistics.bump_own(OwnCounter::OvertakenUpdates);
            return self.answer_when_written(turn, from, request, ShardReplyBody::Updated { created: false });
        }
        let (created, cltt) = (ours.is_none(), lease.cltt);
        self.changes.clear();
        self.changes.push(Change::Put(storable(lease)));
        let reply = self.reply_to(from, request, ShardReplyBody::Updated { created });
        let commit = Commit::without_query(address, reply, false);
        let done = self.commit(turn, commit.by_partner(by_partner));
        if done && by_partner {
            self.lately.hear(address, cltt, now_ns);
        }
    }

    fn add_lease(&mut self, turn: &mut Turn, asker: Asker, lease: Lease) {
        let (from, request) = (asker.node, asker.request);
        let (address, subnet_id) = (lease.address, lease.subnet_id);
        if !self.partition.owns(address) {
            return self.answer(turn, from, request, ShardReplyBody::Busy);
        }
        if self.is_foreign(turn, asker, address, Some(subnet_id)) {
            return self.answer(turn, from, request, ShardReplyBody::Foreign);
        }
        if self.partition.get(address).is_some() {
            return self.answer(turn, from, request, ShardReplyBody::Exists);
        }
        self.changes.clear();
        self.changes.push(Change::Put(storable(lease)));
        self.commit_command(turn, from, request, address, ShardReplyBody::Added(subnet_id));
    }

    /// Whose lease of the address of `lease` stays, here and now: against a partner of `relationship`, or else of the one
    /// that its subnet is of.
    fn standing(&self, turn: &Turn, relationship: Option<u8>, lease: &Lease) -> Standing {
        let relation = self.relations.of(self.relationship_of(turn, relationship, lease));
        Standing {
            alone: relation.view.alone,
            serves_alone: serves_alone(&relation.view),
            is_refused: relation.refused.contains(lease),
            wall_s: turn.now.wall_s(),
        }
    }

    fn relationship_of(&self, turn: &Turn, relationship: Option<u8>, lease: &Lease) -> u8 {
        relationship.unwrap_or_else(|| self.relations.of_subnet(&turn.rules.snapshot, lease.subnet_id))
    }

    /// An update is refused: its partner answers nobody on the strength of it.
    fn remember_refused(&mut self, turn: &Turn, asker: Asker, kind: UpdateKind, theirs: &Lease) {
        let relationship = self.relationship_of(turn, asker.relationship, theirs);
        let relation = self.relations.of_mut(relationship);
        if kind == UpdateKind::Update && relation.view.alone.is_some() {
            relation.refused.insert(theirs);
        }
    }

    /// Whether our lease stays, whatever the partner says.
    fn is_defended(&self, standing: Standing, kind: UpdateKind, theirs: &Lease) -> bool {
        // Nearly always a partner that serves with this server is believed.
        standing.defends()
            && self.partition.get(theirs.address).is_some_and(|ours| standing.stays(kind, theirs, &ours))
    }

    /// Our lease of the address stays: says so to whoever sent an update of it, and to the log.
    fn refuse_update(&mut self, turn: &mut Turn, from: NodeId, request: u64, theirs: &Lease) {
        let Some(ours) = self.defended(turn, theirs) else { return };
        self.answer(turn, from, request, ShardReplyBody::GivenAlone(Box::new(ours)));
    }

    /// Our lease of the address, which stays; the log is told.
    fn defended(&mut self, turn: &mut Turn, theirs: &Lease) -> Option<Lease> {
        let ours = self.partition.get(theirs.address)?;
        if takes_from_another(theirs, &ours, turn.now.wall_s()) {
            self.log_conflict(turn, &ours, theirs, false);
        }
        Some(ours)
    }

    /// Takes those out of the updates of a request whose leases are of another relationship; gives their addresses.
    fn refuse_foreign(
        &mut self,
        turn: &mut Turn,
        asker: Asker,
        updates: &mut Vec<(UpdateKind, Lease)>,
    ) -> Vec<Ipv4Addr> {
        let mut foreign = Vec::new();
        if self.relations.are_several() {
            updates.retain(|(kind, lease)| {
                let next = (*kind == UpdateKind::Update).then_some(lease.subnet_id);
                let is_foreign = self.is_foreign(turn, asker, lease.address, next);
                foreign.extend(is_foreign.then_some(lease.address));
                !is_foreign
            });
        }
        foreign
    }

    /// Takes those out of the updates of a request whose addresses keep the leases they have here; gives these.
    fn refuse_defended(
        &mut self,
        turn: &mut Turn,
        asker: Asker,
        updates: &mut Vec<(UpdateKind, Lease)>,
    ) -> Vec<Lease> {
        let mut given_alone: Vec<Lease> = Vec::new();
        // Nearly always the whole request is believed.
        if !updates.first().is_some_and(|(_, first)| self.standing(turn, asker.relationship, first).defends())
        {
            return given_alone;
        }
        for (kind, theirs) in updates.iter() {
            let standing = self.standing(turn, asker.relationship, theirs);
            let is_known = given_alone.iter().any(|ours| ours.address == theirs.address);
            if !is_known && self.is_defended(standing, *kind, theirs) {
                given_alone.extend(self.defended(turn, theirs));
            }
        }
        if !given_alone.is_empty() {
            // What else the request says of such an address comes with it or before it.
            updates.retain(|(kind, theirs)| {
                let is_refused = given_alone.iter().any(|ours| ours.address == theirs.address);
                if is_refused {
                    self.remember_refused(turn, asker, *kind, theirs);
                }
                !is_refused
            });
        }
        given_alone
    }

    fn partner_delete(&mut self, turn: &mut Turn, asker: Asker, address: Ipv4Addr, deleted: Option<&Lease>) {
        let (from, request) = (asker.node, asker.request);
        if !self.partition.owns(address) {
            return self.answer(turn, from, request, ShardReplyBody::Busy);
        }
        if self.is_foreign(turn, asker, address, None) {
            return self.answer(turn, from, request, ShardReplyBody::Foreign);
        }
        let Some(lease) = self.partition.get(address) else {
            return self.answer(turn, from, request, ShardReplyBody::Deleted(false));
        };
        let is_defended = |theirs: &&Lease| {
            let standing = self.standing(turn, asker.relationship, theirs);
            self.is_defended(standing, UpdateKind::Delete, theirs)
        };
        if let Some(theirs) = deleted.filter(is_defended) {
            return self.refuse_update(turn, from, request, theirs);
        }
        self.changes.clear();
        self.changes.push(Change::Delete(lease));
        self.commit_command(turn, from, request, address, ShardReplyBody::Deleted(true));
    }

    /// Whether a partner would have a lease changed that is of another relationship, which is counted and logged then.
    /// What decides is the subnet it is in, and the one it would come to, if any. An administrator has no relationship.
    fn is_foreign(&mut self, turn: &mut Turn, asker: Asker, address: Ipv4Addr, next: Option<u32>) -> bool {
        let relationship = asker.relationship.filter(|_| self.relations.are_several());
        let Some(relationship) = relationship else { return false };
        let now = self.partition.get(address).map(|lease| lease.subnet_id);
        let is_foreign = |id| self.relations.is_foreign(&turn.rules.snapshot, relationship, id);
        let is_foreign = next.into_iter().chain(now).any(is_foreign);
        if is_foreign {
            self.log_foreign(turn, address);
        }
        is_foreign
    }

    /// Whether a request of the partner of `relationship` does not come behind a later one. While this server serves alone
    /// every one comes too late: it was sent before, or by a partner that has stood still and does not know.
    fn comes_in_time(&mut self, relationship: u8, stamp: Option<Stamp>) -> bool {
        let Some(stamp) = stamp else { return true };
        let relation = self.relations.of_mut(relationship);
        relation.partner_seen.admits(stamp) && !serves_alone(&relation.view)
    }

    /// Updates of one request; all are carried out but those of leases of other relationships and of leases that stay as
    /// they are here, or none and the answer is `Busy`.
    fn partner_batch(&mut self, turn: &mut Turn, asker: Asker, mut updates: Vec<(UpdateKind, Lease)>) {
        let (from, request) = (asker.node, asker.request);
        if updates.iter().any(|(_, lease)| !self.partition.owns(lease.address)) {
            return self.answer(turn, from, request, ShardReplyBody::Busy);
        }
        let foreign = self.refuse_foreign(turn, asker, &mut updates);
        let given_alone = self.refuse_defended(turn, asker, &mut updates);
        // Of one address the last update is what it comes to. The sort keeps their order, so that is the first one
        // behind a reversal.
        updates.reverse();
        updates.sort_by_key(|(_, lease)| lease.address);
        updates.dedup_by_key(|(_, lease)| lease.address);
        self.changes.clear();
        let since_s = self.relations.of(asker.relationship.unwrap_or(0)).replicated_since_s;
        for (kind, lease) in updates {
            match kind {
                // The partner had the client then. Later updates, nearly all, need no look at the lease here.
                UpdateKind::Update if lease.cltt <= since_s && self.is_overtaken(&lease) => {}
                UpdateKind::Update => self.changes.push(Change::Put(storable(lease))),
                UpdateKind::Delete => {
                    self.changes.extend(self.partition.get(lease.address).map(Change::Delete))
                }
            }
        }
        let applied = match foreign.is_empty() && given_alone.is_empty() {
            true => ShardReplyBody::Applied(Applied { written: self.changes.len(), ..Applied::default() }),
            false => ShardReplyBody::AppliedBut { foreign, given_alone },
        };
        match self.changes.first() {
            Some(Change::Put(lease) | Change::Delete(lease)) => {
                let (address, reply) = (lease.address, self.reply_to(from, request, applied));
                self.commit(turn, Commit::without_query(address, reply, false).by_partner(true));
            }
            None => self.answer_when_written(turn, from, request, applied),
        }
    }

    fn is_overtaken(&self, theirs: &Lease) -> bool {
        self.partition.get(theirs.address).is_some_and(|ours| is_overtaken(theirs, &ours))
    }

    /// Commits what is in `Shard::changes`, and answers what became of it.
    fn commit_changes(&mut self, turn: &mut Turn, from: NodeId, request: u64, applied: Applied) {
        let applied = ShardReplyBody::Applied(Applied { written: self.changes.len(), ..applied });
        match self.changes.first() {
            Some(Change::Put(lease) | Change::Delete(lease)) => {
                let address = lease.address;
                self.commit_command(turn, from, request, address, applied);
            }
            None => self.answer_when_written(turn, from, request, applied),
        }
    }

    /// Leases of a copy; all that are newer are taken, or none and the answer is `Busy`.
    fn synchronise(&mut self, turn: &mut Turn, from: NodeId, request: u64, slice: &CopySlice) {
        // An address that is there twice would be counted twice in the credit.
        let ascending = slice.rows.is_sorted_by(|(_, one), (_, next)| one.address < next.address);
        if !ascending || slice.rows.iter().any(|(_, lease)| !self.partition.owns(lease.address)) {
            return self.answer(turn, from, request, ShardReplyBody::Busy);
        }
        let mut applied = Applied::default();
        if let Terms::Comparison(span) = slice.terms {
            match self.send_newer(turn, slice, span) {
                Some((sent, goes_on)) => (applied.sent_back, applied.goes_on) = (sent, goes_on),
                None => return self.answer(turn, from, request, ShardReplyBody::Busy),
            }
        }
        self.hear_rows(turn, slice);
        self.changes.clear();
        for (kind, theirs) in &slice.rows {
            let ours = self.partition.get(theirs.address);
            // The row of a deletion has no lifetime, and is not stored.
            let theirs = match kind {
                UpdateKind::Delete => theirs.clone(),
                UpdateKind::Update => storable(theirs.clone()),
            };
            let standing = self.standing(turn, None, &theirs);
            applied.kept +=
                usize::from(ours.as_ref().is_some_and(|ours| standing.lacks(*kind, &theirs, ours)));
            if ours.is_none() && *kind == UpdateKind::Update && self.is_deleted_here(&theirs) {
                continue;
            }
            let (change, conflict) = standing.reconcile(*kind, slice.terms, theirs, ours);
            self.changes.extend(change);
            if let Some(conflict) = conflict {
                applied.add(Applied { conflicts: 1, examples: vec![conflict], ..Applied::default() });
            }
        }
        self.commit_changes(turn, from, request, applied);
    }

    /// What a partner without stamps lists it has said lately: updates that waited in its queue since before it was copied
    /// come after the copy.
    fn hear_rows(&mut self, turn: &Turn, slice: &CopySlice) {
        for (_, theirs) in slice.rows.iter().filter(|(kind, _)| *kind == UpdateKind::Update) {
            let relationship = self.relationship_of(turn, None, theirs);
            if self.relations.of(relationship).view.partner_fence.is_none() {
                self.lately.hear(theirs.address, theirs.cltt, turn.now.monotonic_ns);
            }
        }
    }

    /// Whether the source has yet to hear that this lease was deleted here: it would bring it back. Who has given it again
    /// since has a newer one.
    fn is_deleted_here(&self, theirs: &Lease) -> bool {
        self.change_log
            .deletion(theirs.address)
            .is_some_and(|deleted| is_same_client(theirs, deleted) && theirs.cltt <= deleted.cltt)
    }

    /// Sends the source what is newer here, and what was given here while it was away, also where it lists nothing; how
    /// many, and where to go on. `None` where there is no room for them now.
    fn send_newer(
        &mut self,
        turn: &mut Turn,
        slice: &CopySlice,
        span: Span,
    ) -> Option<(usize, Option<Ipv4Addr>)> {
        self.changes.clear();
        for (_, theirs) in &slice.rows {
            let Some(ours) = self.partition.get(theirs.address) else { continue };
            let is_sent = self.standing(turn, None, theirs).is_sent(theirs, &ours);
            if is_sent {
                self.changes.push(Change::Put(ours));
            }
        }
        let goes_on = self.find_unlisted(turn, slice, span);
        let Some(Change::Put(first)) = self.changes.first() else { return Some((0, goes_on)) };
        let (address, count) = (first.address, self.changes.len());
        let sent = self.commit(turn, Commit::without_query(address, Reply::Internal, true));
        sent.then_some((count, goes_on))
    }

    /// Adds what was given in the span while the partner was not told, and is not in the slice, to `Shard::changes`: a Kea
    /// that served alone as well, or whose copy has failed, never copies it (ha-protocol 8 no. 15), and who holds it would
    /// lose its address with this server. So is what was given a moment before, and its update was lost. What else was
    /// given is left: the source may have deleted it. Where to go on, if there is more to look at.
    fn find_unlisted(&mut self, turn: &Turn, slice: &CopySlice, span: Span) -> Option<Ipv4Addr> {
        let relation = self.relations.of(span.relationship);
        let (untold, lost) = (relation.view.untold?, &relation.unacknowledged);
        let (snapshot, wall_s) = (&turn.rules.snapshot, turn.now.wall_s());
        let (relations, changes) = (&self.relations, &mut self.changes);
        // Without room they are found by the next comparison, to which those before them are no news.
        let room = limits::SYNC_CHUNK_LEASES.checked_sub(changes.len()).filter(|room| *room > 0)?;
        let (mut last, mut found) = (None, 0);
        let is_within = |address: Ipv4Addr| span.upto.is_none_or(|upto| address <= upto);
        let looked = self.partition.page(
            span.after,
            limits::LEASES_LOOKED_AT,
            limits::LEASES_LOOKED_AT,
            Wanted::Subnets(&[]),
            |ours| {
                let is_listed =
                    || slice.rows.binary_search_by_key(&ours.address, |(_, theirs)| theirs.address).is_ok();
                if found == room || !is_within(ours.address) {
                    return;
                }
                last = Some(ours.address);
                let is_sent = (untold.includes(ours.cltt) || lost.is_known(ours.address))
                    && is_held(&ours, wall_s)
                    && relations.of_subnet(snapshot, ours.subnet_id) == span.relationship
                    && !is_listed();
                if is_sent {
                    changes.push(Change::Put(ours));
                    found += 1;
                }
            },
        );
        let goes_on = if found == room { last } else { looked };
        goes_on.filter(|upto| is_within(*upto))
    }

    /// What somebody who copies must hear of.
    fn changes_since(
        &mut self,
        turn: &mut Turn,
        since: Option<u64>,
        limit: usize,
        subnets: &SubnetFilter,
    ) -> ShardReplyBody {
        let Some(since) = since else {
            let mark = self.change_log.mark(turn.now);
            return ShardReplyBody::Changes { rows: Vec::new(), mark, more: false };
        };
        let all = &turn.rules.snapshot.subnets;
        let is_elsewhere =
            |address| all.containing_for_any(address).is_some_and(|subnet| !subnets.admits(subnet.id));
        let (mut rows, mut mark, mut left, mut octets) = (Vec::new(), since, limit, 0);
        loop {
            let step = left.min(limits::COPY_CHANGES_STEP);
            let Some((addresses, upto)) = self.change_log.since(turn.now, mark, step) else {
                return ShardReplyBody::ChangesLost;
            };
            for address in addresses.into_iter().filter(|address| self.partition.owns(*address)) {
                let row = match (self.partition.get(address), self.change_log.deletion(address)) {
                    (Some(lease), _) => (UpdateKind::Update, lease),
                    (None, Some(deleted)) => (UpdateKind::Delete, deleted.clone()),
                    // Another partner's: that one may have copied meanwhile, and the deletion is forgotten.
                    (None, None) if is_elsewhere(address) => continue,
                    (None, None) => return ShardReplyBody::ChangesLost,
                };
                if subnets.admits(row.1.subnet_id) {
                    octets += row.1.user_context.as_ref().map_or(0, |context| context.len());
                    rows.push(row);
                }
            }
            left = left.saturating_sub(step);
            mark = upto;
            let more = self.change_log.goes_on_after(mark);
            if !more || left == 0 || octets >= limits::COPY_OCTETS {
                return ShardReplyBody::Changes { rows, mark, more };
            }
        }
    }

    fn commit_command(
        &mut self,
        turn: &mut Turn,
        from: NodeId,
        request: u64,
        address: Ipv4Addr,
        body: ShardReplyBody,
    ) {
        let reply = self.reply_to(from, request, body);
        self.commit(turn, Commit::without_query(address, reply, false));
    }

    /// What is answered once the changes of the command are durable.
    fn reply_to(&self, from: NodeId, request: u64, body: ShardReplyBody) -> Reply {
        Reply::Answer(from, Box::new(ShardReply { shard: self.number, request, body }))
    }

    /// The counters, with the gauges taken from the leases.
    fn statistics_now(&self) -> ShardStatistics {
        let mut statistics = self.statistics.clone();
        for ((subnet_id, pool_id), counts) in self.partition.counts() {
            let gauges =
                [(LeaseCounter::Assigned, counts.assigned()), (LeaseCounter::Declined, counts.declined)];
            for (counter, value) in gauges {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                statistics.change_lease(counter, subnet_id, Some(pool_id), value);
            }
        }
        statistics
    }
}
