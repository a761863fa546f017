//! Commands from control, the partner (through a listener) and other shards.
//!
//! Every command is answered once: at once when it only reads, when its rows are durable when it changes leases
//! (ha-protocol 5.7), with `Busy` when there is no room. The partner's word is final: its updates overwrite
//! without comparing; a synchronised lease only replaces an older one (6.3).

use std::cmp::Ordering;
use std::net::Ipv4Addr;

use shards::partition::Wanted;
use shards::{Lease, LeaseState, NodeId};

use crate::engine::commit::{Change, Commit, Reply, storable};
use crate::engine::counters::{LeaseCounter, ShardStatistics};
use crate::engine::message::{
    Applied, Conflict, CopySlice, Message, ShardCommand, ShardCommandBody, ShardReply, ShardReplyBody, Span,
    Terms, UpdateKind,
};
use crate::engine::relation::serves_alone;
use crate::engine::shard::{Shard, Turn};
use crate::ha::view::Alone;
use crate::limits;
use crate::policy::SubnetFilter;

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
            ShardCommandBody::PartnerUpdate { lease, force_create } => {
                return self.partner_update(turn, from, request, *lease, force_create);
            }
            ShardCommandBody::PartnerDelete(address) => {
                return self.partner_delete(turn, from, request, address);
            }
            ShardCommandBody::PartnerBatch(updates) => {
                return self.partner_batch(turn, from, request, updates);
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
        let ShardCommandBody::PartnerBatch(updates) = body else { return };
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

    fn partner_update(
        &mut self,
        turn: &mut Turn,
        from: NodeId,
        request: u64,
        lease: Lease,
        force_create: bool,
    ) {
        let address = lease.address;
        if !self.partition.owns(address) {
            // The asker's owner table is not in force here yet; it asks again.
            return self.answer(turn, from, request, ShardReplyBody::Busy);
        }
        let ours = self.partition.get(address);
        if ours.is_none() && !force_create {
            return self.answer(turn, from, request, ShardReplyBody::Missing);
        }
        if from != self.topology.control() && self.is_defended(turn, &lease) {
            return self.refuse_update(turn, from, request, &lease);
        }
        let created = ours.is_none();
        self.changes.clear();
        self.changes.push(Change::Put(storable(lease)));
        let reply = self.reply_to(from, request, ShardReplyBody::Updated { created });
        let commit = Commit::without_query(address, reply, false);
        self.commit(turn, Commit { of_partner: from != self.topology.control(), ..commit });
    }

    /// Whether our lease of the address stays, whatever the partner says.
    fn is_defended(&self, turn: &Turn, theirs: &Lease) -> bool {
        self.knows_better(turn, theirs)
            || self.alone(turn, theirs).is_some()
                && self.is_given_alone(turn, theirs, self.partition.get(theirs.address).as_ref())
    }

    /// Our lease of the address stays: says so to whoever sent an update of it, and to the log.
    fn refuse_update(&mut self, turn: &mut Turn, from: NodeId, request: u64, theirs: &Lease) {
        let Some(ours) = self.partition.get(theirs.address) else { return };
        if takes_from_another(theirs, &ours, turn.now.wall_s()) {
            self.log_conflict(turn, &ours, theirs, false);
        }
        self.answer(turn, from, request, ShardReplyBody::GivenAlone(Box::new(ours)));
    }

    /// Whether this server has taken over and has given the address since: an update that was on its way all the time
    /// must not take the lease from its client. Its sender copies before it serves again.
    fn knows_better(&self, turn: &Turn, theirs: &Lease) -> bool {
        let newer = |ours: &Lease| {
            let same = ours.hwaddr == theirs.hwaddr && ours.client_id == theirs.client_id;
            ours.cltt > theirs.cltt || ours.cltt == theirs.cltt && !same
        };
        let relationship = self.relations.of_subnet(&turn.rules.snapshot, theirs.subnet_id);
        let alone = serves_alone(&self.relations.of(relationship).view);
        alone && self.partition.get(theirs.address).as_ref().is_some_and(newer)
    }

    /// Since when this server has served alone those whom the lease is of.
    fn alone(&self, turn: &Turn, lease: &Lease) -> Option<Alone> {
        let relationship = self.relations.of_subnet(&turn.rules.snapshot, lease.subnet_id);
        self.relations.of(relationship).view.alone
    }

    /// Whether a partner that did not know of it would take an address from the client that this server has given it to
    /// while it served alone. An update that was sent late must not: its client was never answered, and ours was.
    fn is_given_alone(&self, turn: &Turn, theirs: &Lease, ours: Option<&Lease>) -> bool {
        let (Some(alone), Some(ours)) = (self.alone(turn, theirs), ours) else { return false };
        ours.cltt >= alone.since_s
            && alone.partner_since_s.is_none_or(|since_s| theirs.cltt < since_s)
            && takes_from_another(theirs, ours, turn.now.wall_s())
    }

    fn partner_delete(&mut self, turn: &mut Turn, from: NodeId, request: u64, address: Ipv4Addr) {
        if !self.partition.owns(address) {
            return self.answer(turn, from, request, ShardReplyBody::Busy);
        }
        let Some(lease) = self.partition.get(address) else {
            return self.answer(turn, from, request, ShardReplyBody::Deleted(false));
        };
        self.changes.clear();
        self.changes.push(Change::Delete(lease));
        self.commit_command(turn, from, request, address, ShardReplyBody::Deleted(true));
    }

    /// Updates of one request; all are carried out, or none and the answer is `Busy`.
    fn partner_batch(
        &mut self,
        turn: &mut Turn,
        from: NodeId,
        request: u64,
        mut updates: Vec<(UpdateKind, Lease)>,
    ) {
        if updates.iter().any(|(_, lease)| !self.partition.owns(lease.address)) {
            return self.answer(turn, from, request, ShardReplyBody::Busy);
        }
        let stays = |(kind, lease): &&(UpdateKind, Lease)| match kind {
            UpdateKind::Update => self.is_defended(turn, lease),
            UpdateKind::Delete => self.knows_better(turn, lease),
        };
        if let Some((_, theirs)) = updates.iter().find(stays) {
            return self.refuse_update(turn, from, request, theirs);
        }
        // Of one address the last update is what it comes to. The sort keeps their order, so that is the first one
        // behind a reversal.
        updates.reverse();
        updates.sort_by_key(|(_, lease)| lease.address);
        updates.dedup_by_key(|(_, lease)| lease.address);
        self.changes.clear();
        for (kind, lease) in updates {
            match kind {
                UpdateKind::Update => self.changes.push(Change::Put(storable(lease))),
                UpdateKind::Delete => {
                    self.changes.extend(self.partition.get(lease.address).map(Change::Delete))
                }
            }
        }
        match self.changes.first() {
            Some(Change::Put(lease) | Change::Delete(lease)) => {
                let address = lease.address;
                let applied = Applied { written: self.changes.len(), ..Applied::default() };
                let reply = self.reply_to(from, request, ShardReplyBody::Applied(applied));
                self.commit(
                    turn,
                    Commit { of_partner: true, ..Commit::without_query(address, reply, false) },
                );
            }
            None => self.answer(turn, from, request, ShardReplyBody::Applied(Applied::default())),
        }
    }

    /// Commits what is in `Shard::changes`, and answers what became of it.
    fn commit_changes(&mut self, turn: &mut Turn, from: NodeId, request: u64, applied: Applied) {
        let applied = ShardReplyBody::Applied(Applied { written: self.changes.len(), ..applied });
        match self.changes.first() {
            Some(Change::Put(lease) | Change::Delete(lease)) => {
                let address = lease.address;
                self.commit_command(turn, from, request, address, applied);
            }
            None => self.answer(turn, from, request, applied),
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
        self.changes.clear();
        for (kind, theirs) in &slice.rows {
            let ours = self.partition.get(theirs.address);
            let theirs = storable(theirs.clone());
            let keeps = ours.as_ref().is_some_and(|ours| lacks(*kind, &theirs, ours, turn.now.wall_s()));
            applied.kept += usize::from(keeps);
            // Another Tandem would keep its own for being newer; a Kea is sent ours.
            let stays = slice.terms != Terms::Joining && self.is_given_alone(turn, &theirs, ours.as_ref());
            let (change, conflict) = match ours {
                Some(ours) if stays => (None, Some(Conflict { ours, theirs, taken: false })),
                ours => {
                    let ties = slice.terms == Terms::Joining;
                    reconcile(*kind, theirs, ours, ties, turn.now.wall_s())
                }
            };
            self.changes.extend(change);
            if let Some(conflict) = conflict {
                applied.add(Applied { conflicts: 1, examples: vec![conflict], ..Applied::default() });
            }
        }
        self.commit_changes(turn, from, request, applied);
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
        let wall_s = turn.now.wall_s();
        for (_, theirs) in &slice.rows {
            let Some(ours) = self.partition.get(theirs.address) else { continue };
            let is_sent = match rank(&ours, theirs).cmp(&rank(theirs, &ours)) {
                Ordering::Greater => is_held(&ours, wall_s),
                // Both would stay as they are for good.
                Ordering::Equal => are_two_holders(theirs, &ours, wall_s),
                Ordering::Less => self.is_given_alone(turn, theirs, Some(&ours)),
            };
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

    /// Adds what was given alone in the span and is not in the slice to `Shard::changes`: a Kea that served alone as
    /// well never copies it (ha-protocol 8 no. 15), and who holds it would lose its address with this server. What was
    /// given in company is left: the source may have deleted it. Where to go on, if there is more to look at.
    fn find_unlisted(&mut self, turn: &Turn, slice: &CopySlice, span: Span) -> Option<Ipv4Addr> {
        let alone = self.relations.of(span.relationship).view.alone?;
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
                let is_sent = ours.cltt >= alone.since_s
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

/// What the source's word on an address does to our lease of it (ha-protocol 6.3, 6.10), and whether two clients hold
/// the address, one by each server.
///
/// The newer lease stays. What the source has deleted goes where it is the same client's and no newer; who was given the
/// address since then keeps it.
fn reconcile(
    kind: UpdateKind,
    theirs: Lease,
    ours: Option<Lease>,
    source_wins_ties: bool,
    wall_s: u64,
) -> (Option<Change>, Option<Conflict>) {
    let Some(ours) = ours else {
        return ((kind == UpdateKind::Update).then_some(Change::Put(theirs)), None);
    };
    if kind == UpdateKind::Delete {
        let goes = is_same_client(&theirs, &ours) && ours.cltt <= theirs.cltt;
        return (goes.then_some(Change::Delete(ours)), None);
    }
    let taken = match rank(&theirs, &ours).cmp(&rank(&ours, &theirs)) {
        Ordering::Greater => true,
        Ordering::Equal => source_wins_ties && theirs != ours,
        Ordering::Less => false,
    };
    let conflicts = are_two_holders(&theirs, &ours, wall_s);
    let conflict = conflicts.then(|| Conflict { ours, theirs: theirs.clone(), taken });
    (taken.then_some(Change::Put(theirs)), conflict)
}

/// Whether the source has an older row of the address than ours, which is in force.
fn lacks(kind: UpdateKind, theirs: &Lease, ours: &Lease, wall_s: u64) -> bool {
    let in_force =
        matches!(ours.state, LeaseState::Default | LeaseState::Declined) && !ours.is_expired(wall_s);
    kind == UpdateKind::Update && in_force && rank(ours, theirs) > rank(theirs, ours)
}

/// Whether the address of both leases is held by two clients that have nothing in common.
pub(super) fn takes_from_another(theirs: &Lease, ours: &Lease, wall_s: u64) -> bool {
    are_two_holders(theirs, ours, wall_s) && !share_an_identifier(theirs, ours)
}

/// Whether two clients hold the address of both leases.
fn are_two_holders(one: &Lease, other: &Lease, wall_s: u64) -> bool {
    is_held(one, wall_s) && is_held(other, wall_s) && !is_same_client(one, other)
}

/// Whether the leases may be of one client: it keeps its identifier with another network card, and its card with
/// another identifier. Nothing is taken from anybody then.
fn share_an_identifier(one: &Lease, other: &Lease) -> bool {
    let is_same = |one: &[u8], other: &[u8]| !one.is_empty() && one == other;
    is_same(&one.client_id, &other.client_id) || is_same(&one.hwaddr, &other.hwaddr)
}

fn is_held(lease: &Lease, wall_s: u64) -> bool {
    lease.state == LeaseState::Default && !lease.is_expired(wall_s)
}

fn is_same_client(one: &Lease, other: &Lease) -> bool {
    one.hwaddr == other.hwaddr && one.client_id == other.client_id
}

/// The greater of two leases of an address stays: the newer one, and within a second declined before released before
/// the one that ends later (ha-protocol 6.10). Of a lease that ran out, the row that says so is the later one.
fn rank(lease: &Lease, other: &Lease) -> (u64, u8, u64, bool) {
    let state = match lease.state {
        // Who has released it holds it no longer; but somebody else may have been given it in the same second.
        LeaseState::Released if !is_same_client(lease, other) => 0,
        LeaseState::Default | LeaseState::ExpiredReclaimed => 1,
        LeaseState::Released => 2,
        LeaseState::Declined => 3,
    };
    (lease.cltt, state, lease.expire(), lease.state == LeaseState::ExpiredReclaimed)
}

#[cfg(test)]
mod tests {
    use shards::SmallBytes;

    use super::*;

    const NOW_S: u64 = 50;

    fn lease(cltt: u64, state: LeaseState, valid_lifetime: u32) -> Lease {
        Lease {
            address: Ipv4Addr::new(192, 0, 2, 1),
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 1]),
            client_id: SmallBytes::empty(),
            valid_lifetime,
            cltt,
            state,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::empty(),
            user_context: None,
        }
    }

    fn of_another(lease: Lease) -> Lease {
        Lease { hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 2]), ..lease }
    }

    /// `Some(true)`: theirs is written; `Some(false)`: ours is deleted.
    fn change(
        kind: UpdateKind,
        theirs: &Lease,
        ours: Option<&Lease>,
        source_wins_ties: bool,
    ) -> Option<bool> {
        reconcile(kind, theirs.clone(), ours.cloned(), source_wins_ties, NOW_S)
            .0
            .map(|change| matches!(change, Change::Put(_)))
    }

    #[test]
    fn a_copied_lease_replaces_an_older_one_only() {
        use LeaseState::{Declined, Default, ExpiredReclaimed, Released};
        let named = Lease { hostname: SmallBytes::new(b"h"), ..lease(10, Default, 100) };
        let rows = [
            ("6.3 newer", lease(11, Default, 5), lease(10, Default, 100), true),
            ("6.3 older", lease(9, Declined, 500), lease(10, Default, 100), false),
            ("6.3 equal", lease(10, Default, 100), lease(10, Default, 100), false),
            ("6.3 equal but for its name", named.clone(), lease(10, Default, 100), false),
            ("6.10 declined", lease(10, Declined, 1), lease(10, Default, 100), true),
            ("6.10 released", lease(10, Released, 0), lease(10, Default, 100), true),
            ("6.10 declined before released", lease(10, Released, 0), lease(10, Declined, 0), false),
            ("6.10 longer", lease(10, Default, 101), lease(10, Default, 100), true),
            ("reclaimed", lease(10, ExpiredReclaimed, 20), lease(10, Default, 20), true),
            ("reclaimed, then renewed", lease(10, ExpiredReclaimed, 20), lease(40, Default, 20), false),
            (
                "given to another after a release",
                of_another(lease(10, Default, 40)),
                lease(10, Released, 0),
                true,
            ),
            (
                "released before it was given to another",
                lease(10, Released, 0),
                of_another(lease(10, Default, 40)),
                false,
            ),
        ];
        for (rule, theirs, ours, newer) in rows {
            let expected = newer.then_some(true);
            assert_eq!(change(UpdateKind::Update, &theirs, Some(&ours), false), expected, "{rule}");
            let differs = theirs != ours && theirs.cltt == ours.cltt && !rule.starts_with("released before");
            let tie = differs && rank(&theirs, &ours) == rank(&ours, &theirs);
            let expected = (newer || tie).then_some(true);
            assert_eq!(change(UpdateKind::Update, &theirs, Some(&ours), true), expected, "{rule}, ties");
        }
        assert_eq!(change(UpdateKind::Update, &named, Some(&lease(10, Default, 100)), true), Some(true));
        assert_eq!(change(UpdateKind::Update, &named, None, false), Some(true), "what is not here is taken");
    }

    #[test]
    fn a_deletion_at_the_source_deletes_what_it_was_of_and_nothing_newer() {
        use LeaseState::Default;
        let deleted = lease(10, Default, 100);
        for (case, ours, goes) in [
            ("the lease that was deleted", Some(deleted.clone()), true),
            ("an older one of the client", Some(lease(5, Default, 100)), true),
            ("one given to the client since", Some(lease(11, Default, 100)), false),
            ("one given to another", Some(of_another(lease(9, Default, 100))), false),
            ("none", None, false),
        ] {
            let expected = goes.then_some(false);
            assert_eq!(change(UpdateKind::Delete, &deleted, ours.as_ref(), true), expected, "{case}");
        }
    }

    #[test]
    fn what_the_source_lacks_is_in_force_here_and_newer_than_its_row() {
        use LeaseState::{Declined, Default, ExpiredReclaimed, Released};
        let theirs = lease(20, Default, 100);
        for (case, kind, ours, expected) in [
            ("newer", UpdateKind::Update, lease(21, Default, 100), true),
            ("of another client", UpdateKind::Update, of_another(lease(21, Default, 100)), true),
            ("declined in the same second", UpdateKind::Update, lease(20, Declined, 100), true),
            ("the same", UpdateKind::Update, theirs.clone(), false),
            ("older", UpdateKind::Update, lease(19, Default, 100), false),
            ("newer, and it has run out", UpdateKind::Update, lease(21, Default, 10), false),
            ("newer, and released", UpdateKind::Update, lease(21, Released, 0), false),
            ("newer, and reclaimed", UpdateKind::Update, lease(21, ExpiredReclaimed, 100), false),
            ("newer than a deletion", UpdateKind::Delete, lease(21, Default, 100), false),
        ] {
            assert_eq!(lacks(kind, &theirs, &ours, NOW_S), expected, "{case}");
        }
    }

    #[test]
    fn two_clients_that_hold_one_address_are_told_with_both_leases() {
        use LeaseState::{Default, Released};
        let conflict = |theirs: &Lease, ours: &Lease| {
            reconcile(UpdateKind::Update, theirs.clone(), Some(ours.clone()), true, NOW_S).1
        };
        let (ours, theirs) = (lease(20, Default, 100), of_another(lease(30, Default, 100)));
        let told = Conflict { ours: ours.clone(), theirs: theirs.clone(), taken: true };
        assert_eq!(conflict(&theirs, &ours), Some(told));
        assert!(conflict(&ours, &theirs).is_some_and(|conflict| !conflict.taken));
        for (case, theirs, ours) in [
            ("the same client", lease(30, Default, 100), ours.clone()),
            ("ours has run out", theirs.clone(), lease(20, Default, 10)),
            ("theirs is released", of_another(lease(30, Released, 100)), ours),
        ] {
            assert_eq!(conflict(&theirs, &ours), None, "{case}");
        }
    }
}
