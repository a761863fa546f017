//! Two servers that share the clients: whose a query is, and from which pools it is served (ha-protocol 5.8 to 5.10).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use tandem::dhcp4::scope::bucket;
use tandem::engine::counters::{LeaseCounter, OwnCounter};
use tandem::engine::message::Message;
use tandem::ha::view::{HaView, Scopes, UpdateMode};
use tandem::policy::{Guard, Scope, Snapshot, Subnets};
use tandem::wire::codes::MessageType;

use super::clients::{Ask, Heard, hardware};
use super::world::{World, snapshot};

/// One subnet with a pool for each server, and one for both where `shared`.
fn guarded(shared: bool) -> Snapshot {
    let mut snapshot = snapshot("192.0.2.100 - 192.0.2.119", "");
    let mut subnet = snapshot.subnets[0].clone();
    let pool = subnet.pools[0].clone();
    let at = |last| Ipv4Addr::new(192, 0, 2, last);
    let ranges = [(100, 119, Guard::of([Scope::Primary])), (120, 139, Guard::of([Scope::Secondary]))];
    let shared = shared.then_some((140, 143, Guard::EVERYONE));
    let made = ranges.into_iter().chain(shared).map(|(first, last, guard)| {
        let options = pool.options.clone();
        tandem::policy::Pool { first: at(first), last: at(last), guard, options, ..pool }
    });
    subnet.pools = made.collect();
    subnet.has_guarded_pools = true;
    snapshot.subnets = Subnets::new(vec![subnet]);
    snapshot
}

fn balancing(world: &mut World, scopes: Scopes, change: impl FnOnce(HaView) -> HaView) {
    let view = HaView { scopes, balancing: true, ..world.replicating_view() };
    world.set_view(change(view));
}

/// Numbers of clients of `scope`.
fn clients_of(scope: Scope) -> impl Iterator<Item = u32> {
    (0..).filter(move |number| bucket(&[], &hardware(*number)) == Some(scope))
}

/// The address client `number` is bound to after DISCOVER and REQUEST.
fn joined(world: &mut World, number: u32) -> Option<Ipv4Addr> {
    let Some(Heard::Offer(address)) = world.ask(&Ask::new(MessageType::Discover, number)) else {
        return None;
    };
    assert_eq!(world.ask(&Ask::select(number, address)), Some(Heard::Ack(address)));
    Some(address)
}

#[test]
fn each_of_two_servers_answers_its_half_of_the_clients_and_reports_the_others_only_while_interrupted() {
    for (scopes, own, other) in [
        (Scopes::PRIMARY, Scope::Primary, Scope::Secondary),
        (Scopes::SECONDARY, Scope::Secondary, Scope::Primary),
    ] {
        let mut world = World::new(1, 4, snapshot("192.0.2.100 - 192.0.2.199", ""), Vec::new());
        balancing(&mut world, scopes, |view| view);
        for number in clients_of(own).take(20) {
            assert!(joined(&mut world, number).is_some(), "{own:?} {number}");
        }
        let theirs: Vec<u32> = clients_of(other).take(20).collect();
        for ask in theirs.iter().map(|number| Ask::new(MessageType::Discover, *number)) {
            assert_eq!(world.ask(&ask), None);
        }
        let reports = |world: &World| {
            world.control.iter().filter(|message| matches!(message, Message::Unanswered(_))).count()
        };
        assert_eq!((world.own(OwnCounter::OutOfScope), reports(&world)), (20, 0));
        balancing(&mut world, scopes, |view| HaView { interrupted: true, ..view });
        // A REQUEST that names this server and hashes to the other is the other's all the same.
        let address = Ipv4Addr::new(192, 0, 2, 150);
        assert_eq!(world.ask(&Ask::select(theirs[0], address)), None);
        assert_eq!((world.own(OwnCounter::OutOfScope), reports(&world)), (21, 1));
        // The client identifier comes before the hardware address.
        let client_id = [vec![1], hardware(theirs[0]).to_vec()].concat();
        let in_scope = bucket(&client_id, &hardware(theirs[0])) == Some(own);
        let ask = Ask { client_id: Some(client_id), ..Ask::new(MessageType::Discover, theirs[0]) };
        assert_eq!(world.ask(&ask).is_some(), in_scope);
    }
}

/// Each scope has its pool to the last address, and one that is full is reported although the other has room. In
/// partner-down the survivor goes on giving the partner's clients addresses of the partner's pool.
#[test]
fn clients_get_addresses_of_their_servers_pool_and_of_no_other() {
    for (seed, shards) in [(1, 1), (2, 4), (3, 2)] {
        for shared in [false, true] {
            let mut world = World::new(seed, shards, guarded(shared), Vec::new());
            let partner_down = |view| HaView { updates: UpdateMode::None, ..view };
            balancing(&mut world, Scopes::BOTH, partner_down);
            let mut common = BTreeSet::new();
            for (scope, own) in [(Scope::Primary, 100..120), (Scope::Secondary, 120..140)] {
                let first = if scope == Scope::Primary { 24 } else { 20 };
                let capacity = if shared { first } else { 20 };
                let mut clients = clients_of(scope);
                let mut given = BTreeSet::new();
                for number in clients.by_ref().take(capacity) {
                    let address = joined(&mut world, number).expect("an address").octets()[3];
                    assert!(own.contains(&address) || (140..144).contains(&address), "{scope:?} {address}");
                    assert!(given.insert(address) && common.insert(address));
                }
                let failed = world.statistics().lease(LeaseCounter::AllocationFail);
                let late = clients.next().expect("another client");
                assert_eq!(world.ask(&Ask::new(MessageType::Discover, late)), None, "{scope:?} is full");
                let statistics = world.statistics();
                assert_eq!(statistics.lease(LeaseCounter::AllocationFail), failed + 1);
                assert_eq!(statistics.lease(LeaseCounter::AllocationFailNoPools), 0);
            }
            assert_eq!(world.own(OwnCounter::OfferHoldStolen), 0, "{shards} shards");
            assert_eq!(world.own(OwnCounter::HopLimit), 0);
        }
    }
}

#[test]
fn a_lease_in_the_other_servers_pool_is_neither_offered_nor_renewed() {
    let mut world = World::new(4, 4, guarded(false), Vec::new());
    balancing(&mut world, Scopes::BOTH, |view| view);
    let mut clients = clients_of(Scope::Primary);
    let (number, other) = (clients.next().unwrap(), clients.next().unwrap());
    let theirs = Ipv4Addr::new(192, 0, 2, 125);
    // Written before the pools were divided.
    let mut lease = {
        let address = joined(&mut world, number).expect("an address");
        world.lease(address).expect("the lease")
    };
    world.ask(&Ask::release(number, lease.address));
    lease.address = theirs;
    let owner = world.rules.owners.owner_of(theirs);
    let lease = Box::new(lease);
    let update = tandem::engine::message::ShardCommandBody::PartnerUpdate {
        lease,
        force_create: true,
        by_partner: true,
        relationship: None,
    };
    world.command(owner, update);
    assert_eq!(world.ask(&Ask::renew(number, theirs)), Some(Heard::Nak), "PKT-73");
    assert_eq!(world.ask(&Ask::select(number, theirs)), Some(Heard::Nak), "PKT-71");
    let Some(Heard::Offer(offered)) = world.ask(&Ask::new(MessageType::Discover, number)) else {
        panic!("no offer");
    };
    assert!((100..120).contains(&offered.octets()[3]), "{offered}");
    // What is asked for in the other pool is not offered either, free as it is.
    let ask =
        Ask { requested: Some(Ipv4Addr::new(192, 0, 2, 130)), ..Ask::new(MessageType::Discover, other) };
    let Some(Heard::Offer(offered)) = world.ask(&ask) else { panic!("no offer") };
    assert!((100..120).contains(&offered.octets()[3]), "{offered}");
}

#[test]
fn a_client_for_whom_no_pool_is_there_is_reported_as_without_pools() {
    let mut snapshot = guarded(false);
    let mut subnet = snapshot.subnets[0].clone();
    subnet.pools.remove(1);
    snapshot.subnets = Subnets::new(vec![subnet]);
    let mut world = World::new(5, 2, snapshot, Vec::new());
    balancing(&mut world, Scopes::BOTH, |view| view);
    let number = clients_of(Scope::Secondary).next().expect("a client");
    assert_eq!(world.ask(&Ask::new(MessageType::Discover, number)), None);
    let statistics = world.statistics();
    assert_eq!(statistics.lease(LeaseCounter::AllocationFailNoPools), 1);
    assert_eq!(statistics.lease(LeaseCounter::AllocationFail), 0);
}

/// More leases of each scope than a slice of reclamation has, and a declined one, which is nobody's.
#[test]
fn a_terminated_server_reclaims_its_own_leases_and_lets_the_partners_be() {
    for (own_only, balancing, scopes) in [
        (true, true, Scopes::PRIMARY),
        (true, true, Scopes::SECONDARY),
        (true, false, Scopes::PRIMARY),
        (true, false, Scopes::NONE),
        (false, true, Scopes::PRIMARY),
    ] {
        let mut snapshot = snapshot("192.0.2.10 - 192.0.2.250", "");
        snapshot.decline_probation_period_s = 700;
        let mut world = World::new(6, 2, snapshot, Vec::new());
        self::balancing(&mut world, Scopes::BOTH, |view| view);
        for number in 0..200 {
            joined(&mut world, number).expect("an address");
        }
        let declined = joined(&mut world, 200).expect("an address");
        world.ask(&Ask::decline(200, declined));
        let mine: usize = (0..200)
            .filter(|number| {
                let scope = if balancing { bucket(&[], &hardware(*number)) } else { Some(Scope::Primary) };
                !own_only || scope.is_some_and(|scope| scopes.serves(scope))
            })
            .count();
        let view = HaView {
            scopes,
            balancing,
            updates: UpdateMode::None,
            reclaims_own_scopes_only: own_only,
            ..world.replicating_view()
        };
        world.set_view(view);
        world.pass_s(1000);
        let statistics = world.statistics();
        assert_eq!(statistics.lease(LeaseCounter::Reclaimed), mine as u64 + 1, "{scopes:?} {balancing}");
        assert_eq!(statistics.lease(LeaseCounter::ReclaimedDeclined), 1);
    }
}
