//! What a shard answers, once the query is where it can be decided.

use std::net::Ipv4Addr;

use shards::partition::Pick;
use shards::{Lease, LeaseState, SmallBytes};

use crate::dhcp4::discover::{self, Candidate};
use crate::dhcp4::names::Names;
use crate::dhcp4::request::{self, Asked, Availability, Facts, Place, RequestState, Verdict};
use crate::dhcp4::respond::{self, Built, Grant};
use crate::dhcp4::{decline, extended_info, inform, release, select};
use crate::engine::commit::{Change, Commit, Reply};
use crate::engine::counters::{Counter, LeaseCounter, OwnCounter};
use crate::engine::event::EventKind;
use crate::engine::message::{ForwardReason, Held};
use crate::engine::parking::{Answer, Duplicate};
use crate::engine::routing::{Asking, Route, held_addresses};
use crate::engine::shard::{Shard, Turn};
use crate::policy::Subnet;
use crate::wire::WriteError;
use crate::wire::codes::MessageType;

impl Shard {
    /// Offers `address` if it is the client's own (b.4 step 2).
    pub fn offer_own(
        &mut self,
        turn: &mut Turn,
        asking: &Asking,
        subnet: &Subnet,
        address: Ipv4Addr,
    ) -> bool {
        let (availability, lease) = self.availability(turn, asking, subnet, address);
        let in_pool = subnet.pool_for(address, asking.scope).is_some();
        let offers = discover::offers_own(in_pool, availability);
        if offers {
            self.offer(turn, asking, subnet, address, availability, lease);
        }
        offers
    }

    /// Offers the address asked for if it can be had (b.4 step 3).
    pub fn offer_asked(
        &mut self,
        turn: &mut Turn,
        asking: &Asking,
        subnet: &Subnet,
        address: Ipv4Addr,
    ) -> bool {
        let (availability, lease) = self.availability(turn, asking, subnet, address);
        let client = client_key(asking, subnet);
        let held_for_another =
            availability.is_available() && !self.partition.is_available(turn.now, address, client);
        let in_pool = subnet.pool_for(address, asking.scope).is_some();
        let offers = discover::offers_asked(Candidate { in_pool, availability, held_for_another });
        if offers {
            self.offer(turn, asking, subnet, address, availability, lease);
        }
        offers
    }

    /// Whether `address`, which this shard owns, has a lease of the client.
    pub fn is_own(&self, turn: &Turn, asking: &Asking, subnet: &Subnet, address: Ipv4Addr) -> bool {
        self.availability(turn, asking, subnet, address).0 == Availability::Own
    }

    /// Picks an address for a client that has none (b.4 step 4), here or at a shard that shows a free one.
    pub fn find_address(&mut self, turn: &mut Turn, asking: &Asking, subnet: &Subnet, mut route: Route) {
        let client = client_key(asking, subnet);
        let may_use = |held: &Ipv4Addr| subnet.pool_for(*held, asking.scope).is_some();
        if let Some(held) = self.partition.held(turn.now, client).filter(may_use) {
            return self.give(turn, asking, subnet, &route, held);
        }
        route.spilled |= 1 << self.number;
        let pools = subnet.pool_set(asking.scope);
        let stolen = self.partition.open_count(pools) == 0;
        if stolen && let Some(shard) = turn.rules.free.most_free(pools, route.spilled) {
            return self.forward(turn, asking, shard, ForwardReason::Spill, route);
        }
        let accept = crate::alloc::acceptable(&turn.rules.snapshot, subnet);
        match self.partition.allocate(turn.now, pools, client, Pick::Next, accept) {
            Some(address) => {
                if stolen {
                    self.statistics.bump_own(OwnCounter::OfferHoldStolen);
                }
                self.give(turn, asking, subnet, &route, address);
            }
            None => match turn.rules.free.most_free(pools, route.spilled) {
                Some(shard) => self.forward(turn, asking, shard, ForwardReason::Spill, route),
                None => self.fail_allocation(turn, asking, subnet),
            },
        }
    }

    /// Gives a picked address: offers it, or grants it to a REQUEST that names none.
    fn give(&mut self, turn: &mut Turn, asking: &Asking, subnet: &Subnet, route: &Route, address: Ipv4Addr) {
        if asking.kind == MessageType::Request {
            return self.serve_request(turn, asking, subnet, route, address);
        }
        let (availability, lease) = self.availability(turn, asking, subnet, address);
        self.offer(turn, asking, subnet, address, availability, lease);
    }

    /// A REQUEST about `address`. This shard owns it, or knows that the client holds another.
    pub fn serve_request(
        &mut self,
        turn: &mut Turn,
        asking: &Asking,
        subnet: &Subnet,
        route: &Route,
        address: Ipv4Addr,
    ) {
        let state = Asked::of(asking.query, asking.meta).state;
        if state == RequestState::InitReboot {
            turn.log(asking.label, EventKind::InitReboot { address });
        }
        let own = self.partition.owns(address);
        if !own && state != RequestState::InitReboot {
            // Only while a reload changes who owns an address outside of every subnet; the client asks again.
            return self.drop_query(
                turn,
                asking.label,
                Counter::ProcessingFailed,
                EventKind::DropProcessingFailed,
            );
        }
        let lease = if own { self.partition.get(address) } else { None };
        let wall_s = turn.now.wall_s();
        let availability = match own {
            true => Availability::of(lease.as_ref(), &asking.identity, subnet.match_client_id, wall_s),
            // Another shard's address: a query in INIT-REBOOT came here only to learn that it is not the client's.
            false => Availability::Taken,
        };
        let mut elsewhere =
            held_addresses(&route.held).map(|held| held.address).filter(|held| *held != address);
        let holds_another = state == RequestState::InitReboot
            && elsewhere.any(|held| self.partition.owns(held) && self.is_own(turn, asking, subnet, held));
        let place = Place::of(address, subnet, asking.scope);
        let facts = Facts { place, availability, holds_another, authoritative: subnet.authoritative };
        match request::decide(state, facts) {
            Verdict::Grant => self.grant(turn, asking, subnet, route, address, availability, lease),
            Verdict::Nak => self.refuse(turn, asking, Some(subnet), address),
            Verdict::Silent => {}
        }
    }

    fn grant(
        &mut self,
        turn: &mut Turn,
        asking: &Asking,
        subnet: &Subnet,
        route: &Route,
        address: Ipv4Addr,
        availability: Availability,
        old: Option<Lease>,
    ) {
        let names = Names::decide(asking.query, address);
        let wall_s = turn.now.wall_s();
        let own = old.as_ref().filter(|_| availability == Availability::Own);
        let new = lease_for(asking, subnet, address, &names, own, wall_s);
        let duplicate = self.parking.duplicate(address, &asking.label);
        if duplicate == Some(Duplicate::SameTransaction) {
            return self.drop_query(turn, asking.label, Counter::Duplicate, EventKind::DropDuplicate);
        }
        let relation = self.relations.of(subnet.relationship().unwrap_or(0));
        let reused = own
            .filter(|_| duplicate.is_none())
            .and_then(|own| Some((own, request::reusable_lifetime(subnet, own, &new, wall_s)?)))
            .filter(|(own, _)| relation.partner_knows(own) && !self.parking.awaits_partner(address))
            .map(|(_, left_s)| left_s);
        // A newer query of a client whose lease is committed and waits: it is promised what is left of that lease. One that
        // was given while nobody was asked is given anew where somebody is by now, and so is one that asks for something
        // else, such as another name.
        let waiting = match duplicate {
            Some(Duplicate::NewerTransaction(park)) if !relation.asks() || self.parking.is_told(park) => {
                let same = own.filter(|own| request::is_unchanged(own, &new));
                let left_s = same.map_or(0, |own| request::remaining_lifetime(own, wall_s));
                (left_s > 0).then_some((park, left_s))
            }
            _ => None,
        };
        let promised = reused.or(waiting.map(|(_, left_s)| left_s));
        let grant = Grant { address, lifetime_s: promised.unwrap_or(new.valid_lifetime) };
        let snapshot = &turn.rules.snapshot;
        let built =
            respond::ack(asking.query, asking.meta, snapshot, subnet, &grant, &names, &mut self.reply);
        let Some(built) = self.written(turn, asking, built) else { return };
        if let Some((park, _)) = waiting {
            // The lease is committed; the newest query gets the reply (i.4 rule 1).
            self.statistics.drop_query(Counter::Duplicate);
            let transmit = built.destination.transmit(0..0);
            return self.parking.replace_reply(park, transmit, asking.label, self.reply.message(built.len));
        }
        if let Some(seconds) = reused {
            self.statistics.change_lease(LeaseCounter::LeaseReuses, subnet.id, None, 1);
            turn.log(asking.label, EventKind::LeaseReuse { address, seconds });
            return self.transmit_when_written(turn, asking.label, address, built);
        }
        let in_force = own.is_some_and(|own| own.state == LeaseState::Default && !own.is_expired(wall_s));
        let seconds = new.valid_lifetime;
        let mut commit = Commit::of_query(asking, address, Reply::Ack(built));
        self.changes.clear();
        self.leave_others(turn, asking, subnet, route, address, in_force, &mut commit);
        self.changes.push(Change::Put(new));
        if self.commit(turn, commit) {
            turn.log(asking.label, EventKind::LeaseAlloc { address, seconds });
        }
    }

    /// What the client holds elsewhere in the subnet is deleted with the same commit: what this shard owns right
    /// away, the rest by its owners (b.5 rule 6). A client that only `renews` leaves what has its own client
    /// identifier, such as a lease that could not be deleted when it moved; by hardware address alone another
    /// system on the same machine would lose its lease at each renewal.
    fn leave_others(
        &mut self,
        turn: &Turn,
        asking: &Asking,
        subnet: &Subnet,
        route: &Route,
        address: Ipv4Addr,
        renews: bool,
        commit: &mut Commit,
    ) {
        let leaves = |held: &Held| held.address != address && (held.by_client_id || !renews);
        for held in held_addresses(&route.held).filter(leaves) {
            let owner = turn.rules.owners.owner_of(held.address);
            if owner != self.number {
                commit.leave(owner, held.address);
            } else if self.is_own(turn, asking, subnet, held.address)
                && let Some(left) = self.partition.get(held.address)
            {
                self.changes.push(Change::Delete(left));
            }
        }
    }

    fn refuse(&mut self, turn: &mut Turn, asking: &Asking, subnet: Option<&Subnet>, address: Ipv4Addr) {
        let kind = match (Asked::of(asking.query, asking.meta).state, subnet) {
            (_, None) => EventKind::NakNoSubnet,
            (RequestState::InitReboot, _) => EventKind::NakInitReboot { address },
            _ => {
                let requested = asking.query.requested_address().unwrap_or(Ipv4Addr::UNSPECIFIED);
                EventKind::NakNoLease { ciaddr: asking.query.ciaddr(), requested }
            }
        };
        turn.log(asking.label, kind);
        let snapshot = &turn.rules.snapshot;
        let built = respond::nak(asking.query, asking.meta, snapshot, subnet, &mut self.reply);
        if let Some(built) = self.written(turn, asking, built) {
            self.transmit(turn, Answer::Nak, built.destination.transmit(0..0), built.len);
        }
    }

    /// PKT-74 and a DISCOVER nobody can place.
    pub fn serve_without_subnet(&mut self, turn: &mut Turn, asking: &Asking) {
        self.statistics.bump_own(OwnCounter::NoSubnet);
        if asking.kind == MessageType::Request {
            let state = Asked::of(asking.query, asking.meta).state;
            let direct_broadcast = !asking.query.is_relayed() && asking.meta.destination.is_broadcast();
            let authoritative = turn.rules.snapshot.authoritative;
            if request::decide_without_subnet(state, direct_broadcast, authoritative) == Verdict::Nak {
                return self.refuse(turn, asking, None, Ipv4Addr::UNSPECIFIED);
            }
        }
        turn.log(asking.label, EventKind::DropNoSubnet);
    }

    /// RELEASE of a lease whose address this shard owns (PKT-77).
    pub fn serve_release(&mut self, turn: &mut Turn, asking: &Asking) {
        let address = asking.query.ciaddr();
        let lease = if self.partition.owns(address) { self.partition.get(address) } else { None };
        if !self.admits_for(turn, asking, lease.as_ref()) {
            return;
        }
        let verdict = release::decide(&asking.identity, lease.as_ref(), has_affinity(turn));
        let (change, kind) = match (verdict, lease) {
            (release::Verdict::Keep, Some(lease)) => {
                (Change::Put(release::released(&lease)), EventKind::ReleaseExpired { address })
            }
            (release::Verdict::Delete, Some(lease)) => {
                (Change::Delete(lease), EventKind::ReleaseDeleted { address })
            }
            (release::Verdict::WrongClient, _) => {
                return turn.log(asking.label, EventKind::ReleaseWrongClient { address });
            }
            _ => return turn.log(asking.label, EventKind::ReleaseNoLease { address }),
        };
        self.changes.clear();
        self.changes.push(change);
        if self.commit(turn, Commit::of_query(asking, address, Reply::None)) {
            turn.log(asking.label, EventKind::Release { address });
            turn.log(asking.label, kind);
        }
    }

    /// DECLINE of an address this shard owns (PKT-78).
    pub fn serve_decline(&mut self, turn: &mut Turn, asking: &Asking) {
        let address = asking.query.requested_address().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let lease = if self.partition.owns(address) { self.partition.get(address) } else { None };
        if !self.admits_for(turn, asking, lease.as_ref()) {
            return;
        }
        let wall_s = turn.now.wall_s();
        match (decline::decide(&asking.identity, lease.as_ref(), wall_s), lease) {
            (decline::Verdict::Decline, Some(lease)) => {
                let seconds = turn.rules.snapshot.decline_probation_period_s;
                self.changes.clear();
                self.changes.push(Change::Put(decline::declined(&lease, wall_s, seconds)));
                if self.commit(turn, Commit::of_query(asking, address, Reply::None)) {
                    turn.log(asking.label, EventKind::DeclineLease { address, seconds });
                }
            }
            (decline::Verdict::Mismatch, _) => {
                turn.log(asking.label, EventKind::DeclineLeaseMismatch { address });
            }
            _ => turn.log(asking.label, EventKind::DeclineLeaseNotFound { address }),
        }
    }

    /// INFORM: answered where it arrives.
    pub fn serve_inform(&mut self, turn: &mut Turn, asking: &Asking) {
        if self.relations.are_several() {
            let rules = turn.rules;
            let subnet = select::subnet(asking.query, asking.meta, asking.scope, &rules.snapshot);
            if !self.admits(turn, asking, subnet) {
                return;
            }
        }
        let built =
            inform::answer(asking.query, asking.meta, asking.scope, &turn.rules.snapshot, &mut self.reply);
        if let Some(built) = self.written(turn, asking, built) {
            self.transmit(turn, Answer::Ack, built.destination.transmit(0..0), built.len);
        }
    }

    fn offer(
        &mut self,
        turn: &mut Turn,
        asking: &Asking,
        subnet: &Subnet,
        address: Ipv4Addr,
        availability: Availability,
        old: Option<Lease>,
    ) {
        let names = Names::decide(asking.query, address);
        let wall_s = turn.now.wall_s();
        let own = old.as_ref().filter(|_| availability == Availability::Own);
        let mut new = lease_for(asking, subnet, address, &names, own, wall_s);
        let reused = own.and_then(|own| request::reusable_lifetime(subnet, own, &new, wall_s));
        let grant = Grant { address, lifetime_s: reused.unwrap_or(new.valid_lifetime) };
        let snapshot = &turn.rules.snapshot;
        let built =
            respond::offer(asking.query, asking.meta, snapshot, subnet, &grant, &names, &mut self.reply);
        let Some(built) = self.written(turn, asking, built) else { return };
        if reused.is_some() {
            self.statistics.change_lease(LeaseCounter::LeaseReuses, subnet.id, None, 1);
        }
        let in_force = own.is_some_and(|own| own.state == LeaseState::Default && !own.is_expired(wall_s));
        if subnet.offer_lifetime_s > 0 && !in_force {
            // PKT-94: the offer is a short lease, so that another server or shard does not offer it too.
            new.valid_lifetime = subnet.offer_lifetime_s;
            self.changes.clear();
            self.changes.push(Change::Put(new));
            if self.commit(turn, Commit::of_query(asking, address, Reply::Offer(built))) {
                turn.log(asking.label, EventKind::LeaseOffer { address });
            }
            return;
        }
        if !in_force {
            let client = client_key(asking, subnet);
            self.partition.hold(turn.now, address, client);
        }
        turn.log(asking.label, EventKind::LeaseOffer { address });
        self.transmit(turn, Answer::Offer, built.destination.transmit(0..0), built.len);
    }

    /// Whose `address` is, which this shard owns, and its lease.
    fn availability(
        &self,
        turn: &Turn,
        asking: &Asking,
        subnet: &Subnet,
        address: Ipv4Addr,
    ) -> (Availability, Option<Lease>) {
        let lease = self.partition.get(address);
        let (wall_s, match_client_id) = (turn.now.wall_s(), subnet.match_client_id);
        (Availability::of(lease.as_ref(), &asking.identity, match_client_id, wall_s), lease)
    }

    fn fail_allocation(&mut self, turn: &mut Turn, asking: &Asking, subnet: &Subnet) {
        let pools = subnet.pool_set(asking.scope);
        let attempts = u32::try_from(self.partition.capacity(pools)).unwrap_or(u32::MAX);
        let mut fail = |counter| self.statistics.change_lease(counter, subnet.id, None, 1);
        fail(LeaseCounter::AllocationFailSubnet);
        turn.log(asking.label, EventKind::AllocFailSubnet { subnet_id: subnet.id });
        if attempts == 0 {
            fail(LeaseCounter::AllocationFailNoPools);
            turn.log(asking.label, EventKind::AllocFailNoPools);
        } else {
            fail(LeaseCounter::AllocationFail);
            turn.log(asking.label, EventKind::AllocFail { attempts });
        }
        fail(LeaseCounter::AllocationFailClasses);
        turn.log(asking.label, EventKind::AllocFailClasses);
        if asking.kind == MessageType::Request {
            self.refuse(turn, asking, Some(subnet), Ipv4Addr::UNSPECIFIED);
        }
    }

    /// The reply, or the query counted as failed when it could not be written.
    fn written(
        &mut self,
        turn: &mut Turn,
        asking: &Asking,
        built: Result<Built, WriteError>,
    ) -> Option<Built> {
        if built.is_err() {
            self.statistics.bump_own(OwnCounter::ReplyFailed);
            self.drop_query(turn, asking.label, Counter::ProcessingFailed, EventKind::DropProcessingFailed);
        }
        built.ok()
    }
}

/// Name of the client in offer holds.
fn client_key(asking: &Asking, subnet: &Subnet) -> u64 {
    asking.keys.client_id.filter(|_| subnet.match_client_id).unwrap_or(asking.keys.hardware)
}

/// Whether released and reclaimed leases are kept for their clients (ALC-70).
pub(super) fn has_affinity(turn: &Turn) -> bool {
    let expired = &turn.rules.snapshot.expired_leases;
    expired.flush_reclaimed_timer_wait_s != 0 && expired.hold_reclaimed_s != 0
}

/// The lease as it will be written (ALC-50); `own` is the client's lease of the address so far.
fn lease_for(
    asking: &Asking,
    subnet: &Subnet,
    address: Ipv4Addr,
    names: &Names,
    own: Option<&Lease>,
    wall_s: u64,
) -> Lease {
    let extended_info = subnet.store_extended_info.then(|| extended_info::of(asking.query)).flatten();
    let user_context = match extended_info {
        Some(text) => Some(text),
        None => own.and_then(|own| own.user_context.clone()),
    };
    Lease {
        address,
        subnet_id: subnet.id,
        pool_id: subnet.pool_of(address).map_or(0, |pool| pool.pool_id),
        hwaddr: SmallBytes::new(asking.identity.chaddr),
        client_id: SmallBytes::new(asking.identity.client_id.unwrap_or_default()),
        valid_lifetime: respond::valid_lifetime(asking.query, subnet),
        cltt: wall_s,
        state: LeaseState::Default,
        fqdn_fwd: false,
        fqdn_rev: false,
        hostname: SmallBytes::new(names.lease_hostname()),
        user_context,
    }
}
