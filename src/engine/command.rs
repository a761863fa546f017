//! Commands from control, the partner (through a listener) and other shards.
//!
//! Every command is answered once: at once when it only reads, when its rows are durable when it changes leases
//! (ha-protocol 5.7), with `Busy` when there is no room. The partner's word is final: its updates overwrite
//! without comparing; a synchronised lease only replaces an older one (6.3).

use std::net::Ipv4Addr;

use shards::partition::Wanted;
use shards::{Lease, LeaseState, NodeId};

use crate::engine::commit::{Change, Commit, Reply, storable};
use crate::engine::counters::{LeaseCounter, ShardStatistics};
use crate::engine::message::{Message, ShardCommand, ShardCommandBody, ShardReply, ShardReplyBody};
use crate::engine::shard::{Shard, Turn};
use crate::limits;

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
            ShardCommandBody::Synchronised(leases) => {
                return self.synchronise(turn, from, request, leases);
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
        let created = self.partition.get(address).is_none();
        if created && !force_create {
            return self.answer(turn, from, request, ShardReplyBody::Missing);
        }
        self.changes.clear();
        self.changes.push(Change::Put(storable(lease)));
        self.commit_command(turn, from, request, address, ShardReplyBody::Updated { created });
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

    /// Leases of a page; all that are newer are taken, or none and the answer is `Busy`.
    fn synchronise(&mut self, turn: &mut Turn, from: NodeId, request: u64, mut leases: Vec<Lease>) {
        // An address that is there twice would be counted twice in the credit: the first one stays.
        leases.sort_by_key(|lease| lease.address);
        leases.dedup_by_key(|lease| lease.address);
        if leases.iter().any(|lease| !self.partition.owns(lease.address)) {
            return self.answer(turn, from, request, ShardReplyBody::Busy);
        }
        self.changes.clear();
        for lease in leases.into_iter().map(storable) {
            if self.partition.get(lease.address).is_none_or(|mine| is_newer(&lease, &mine)) {
                self.changes.push(Change::Put(lease));
            }
        }
        let applied = ShardReplyBody::Applied(self.changes.len());
        match self.changes.first() {
            Some(Change::Put(lease) | Change::Delete(lease)) => {
                let address = lease.address;
                self.commit_command(turn, from, request, address, applied);
            }
            None => self.answer(turn, from, request, applied),
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
        let reply = Box::new(ShardReply { shard: self.number, request, body });
        self.commit(turn, Commit::without_query(address, Reply::Answer(from, reply), false));
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

/// Whether the partner's lease replaces ours in a synchronisation (ha-protocol 6.3; with equal times 6.10).
fn is_newer(theirs: &Lease, ours: &Lease) -> bool {
    let same_client = theirs.hwaddr == ours.hwaddr && theirs.client_id == ours.client_id;
    let rank = |lease: &Lease| {
        let state = match lease.state {
            // Who has released it holds it no longer; but somebody else may have been given it in the same second.
            LeaseState::Released if !same_client => 0,
            LeaseState::Default | LeaseState::ExpiredReclaimed => 1,
            LeaseState::Released => 2,
            LeaseState::Declined => 3,
        };
        (lease.cltt, state, lease.expire())
    };
    rank(theirs) > rank(ours)
}

#[cfg(test)]
mod tests {
    use shards::SmallBytes;

    use super::*;

    #[test]
    fn a_synchronised_lease_replaces_an_older_one_only() {
        let lease = |cltt, state, valid_lifetime| Lease {
            address: Ipv4Addr::new(192, 0, 2, 1),
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::empty(),
            client_id: SmallBytes::empty(),
            valid_lifetime,
            cltt,
            state,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::empty(),
            user_context: None,
        };
        use LeaseState::{Declined, Default, Released};
        let rows = [
            ("6.3 newer", lease(11, Default, 5), lease(10, Default, 100), true),
            ("6.3 older", lease(9, Declined, 500), lease(10, Default, 100), false),
            ("6.3 equal", lease(10, Default, 100), lease(10, Default, 100), false),
            ("6.10 declined", lease(10, Declined, 1), lease(10, Default, 100), true),
            ("6.10 released", lease(10, Released, 0), lease(10, Default, 100), true),
            ("6.10 longer", lease(10, Default, 101), lease(10, Default, 100), true),
        ];
        for (rule, theirs, ours, newer) in rows {
            assert_eq!(is_newer(&theirs, &ours), newer, "{rule}");
        }
        let given_to_another =
            Lease { hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 1]), ..lease(10, Default, 40) };
        let released = lease(10, Released, 0);
        assert!(is_newer(&given_to_another, &released), "the address was free, and then it was not");
        assert!(!is_newer(&released, &given_to_another));
    }
}
