//! The partition by cases, and against plain maps under random operations.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::partition::PoolRange;
use crate::{LeaseState, SmallBytes};

const LIMITS: PartitionLimits =
    PartitionLimits { offer_hold_ms: 10_000, offer_holds_max: 1000, index_entries_max: 1000 };
const START_S: u64 = 1_700_000_000;

fn at(seconds: u64) -> Now {
    Now { monotonic_ns: seconds * 1_000_000_000, wall_ms: (START_S + seconds) * 1000 }
}

fn subnet(id: u32, third: u8, pools: &[(u8, u8)]) -> SubnetSpace {
    let address = |last: u8| Ipv4Addr::new(10, 0, third, last);
    let pools = pools.iter().map(|&(first, last)| PoolRange { first: address(first), last: address(last) });
    SubnetSpace { id, prefix: address(0), prefix_len: 24, pools: pools.collect(), parts: Vec::new() }
}

fn partitions(shards: u8, subnets: &[SubnetSpace]) -> Vec<Partition> {
    let owners = Arc::new(OwnerTable::assign(shards, 1, subnets, []));
    let free = Arc::new(FreeCounts::new(shards, subnets.iter().map(|subnet| subnet.id)));
    let make = |shard| Partition::new(shard, owners.clone(), free.clone(), subnets, LIMITS);
    (0..shards).map(make).collect()
}

fn one(pools: &[(u8, u8)]) -> Partition {
    partitions(1, &[subnet(1, 0, pools)]).remove(0)
}

fn lease(address: Ipv4Addr, cltt: u64, valid_lifetime: u32) -> Lease {
    Lease {
        address,
        subnet_id: 1,
        pool_id: 0,
        hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 1]),
        client_id: SmallBytes::empty(),
        valid_lifetime,
        cltt,
        state: LeaseState::Default,
        fqdn_fwd: false,
        fqdn_rev: false,
        hostname: SmallBytes::empty(),
        user_context: None,
    }
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn next(partition: &mut Partition, now: Now, client: u64) -> Option<u8> {
    partition.allocate(now, 1, client, Pick::Next, |_| true).map(|address| address.octets()[3])
}

#[test]
fn iterative_allocation_follows_the_pools_in_file_order_and_skips_leased_and_held_addresses() {
    let mut partition = one(&[(20, 22), (5, 6)]);
    partition.upsert(at(0), &lease(address(21), START_S, 4000));
    partition.hold(at(0), address(5), 99);
    assert_eq!(
        (1..=3).map(|client| next(&mut partition, at(0), client)).collect::<Vec<_>>(),
        [Some(20), Some(22), Some(6)]
    );
    assert_eq!(partition.free_count(1), 4);
    assert_eq!(partition.capacity(1), 5);
}

#[test]
fn with_every_address_held_the_own_hold_is_taken_and_then_the_oldest() {
    let mut partition = one(&[(1, 3)]);
    let given: Vec<_> = (1..=3).map(|client| next(&mut partition, at(0), client)).collect();
    assert_eq!(given, [Some(1), Some(2), Some(3)]);
    assert_eq!(next(&mut partition, at(1), 2), Some(2));
    assert_eq!(next(&mut partition, at(1), 4), Some(1));
    assert_eq!((partition.held(at(1), 1), partition.held(at(1), 4)), (None, Some(address(1))));
    // Number 3 was held at 0 s and is over at 10 s; 1 and 2 were renewed at 1 s.
    assert_eq!(partition.held(at(10), 3), None);
    assert!(partition.is_available(at(10), address(3), 9));
    assert!(!partition.is_available(at(10), address(1), 9));
    assert_eq!(next(&mut partition, at(10), 5), Some(3));
}

#[test]
fn an_address_that_accept_refuses_is_left_to_others() {
    let mut partition = one(&[(1, 3)]);
    let mut asked = Vec::new();
    let refused = partition.allocate(at(0), 1, 1, Pick::Next, |address| {
        asked.push(address.octets()[3]);
        false
    });
    assert_eq!((refused, asked), (None, vec![1, 2, 3]));
    let chosen = partition.allocate(at(0), 1, 1, Pick::At(4), |address| address.octets()[3] != 2);
    assert_eq!(chosen, Some(address(3)));
    assert_eq!(next(&mut partition, at(0), 2), Some(1));
    assert_eq!(partition.allocate(at(0), 7, 1, Pick::Next, |_| true), None);
}

/// Pools .1 to .3 for part 0, .4 to .6 for part 1, .7 for both; part 2 has none.
#[test]
fn a_part_of_the_pools_gives_only_its_own_addresses_and_is_full_by_itself() {
    let ranges = |pools: &[(u8, u8)]| subnet(1, 0, pools).pools;
    let parts = vec![ranges(&[(1, 3), (7, 7)]), ranges(&[(4, 6), (7, 7)]), Vec::new()];
    let space = SubnetSpace { parts, ..subnet(1, 0, &[(1, 3), (4, 6), (7, 7)]) };
    for shards in [1, 2] {
        let owners = Arc::new(OwnerTable::assign(shards, 1, std::slice::from_ref(&space), []));
        let free = Arc::new(FreeCounts::new(shards, space.pool_sets().map(|(set, _)| set)));
        let make = |shard| {
            let (owners, free) = (Arc::clone(&owners), Arc::clone(&free));
            Partition::new(shard, owners, free, std::slice::from_ref(&space), LIMITS)
        };
        let mut partitions: Vec<Partition> = (0..shards).map(make).collect();
        let mut given = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for part in [2, 0, 1] {
            let set = PoolSet::part(1, part);
            assert_eq!(set.subnet_id(), 1);
            for partition in &mut partitions {
                while partition.open_count(set) > 0 {
                    let client = u64::from(part) << 8 | given[usize::from(part)].len() as u64;
                    let address = partition.allocate(at(0), set, client, Pick::Next, |_| true).expect("open");
                    partition.upsert(at(0), &lease(address, START_S, 100));
                    given[usize::from(part)].insert(address.octets()[3]);
                }
            }
            assert_eq!((0..shards).map(|shard| free.free(set, shard)).sum::<u32>(), 0, "part {part}");
        }
        assert_eq!(given, [[1, 2, 3, 7].into(), [4, 5, 6].into(), BTreeSet::new()], "{shards} shards");
        // Back from its client an address of both is there for both.
        for partition in partitions.iter_mut().filter(|partition| partition.owns(address(7))) {
            partition.remove(at(0), address(7));
            let counts = [0, 1, 2].map(|part| partition.free_count(PoolSet::part(1, part)));
            assert_eq!(counts, [1, 1, 0]);
        }
    }
}

#[test]
fn a_hold_is_reused_by_the_part_whose_pool_it_is_in_whichever_part_picked_it() {
    let ranges = |pools: &[(u8, u8)]| subnet(1, 0, pools).pools;
    let parts = vec![ranges(&[(1, 1), (3, 3)]), ranges(&[(2, 2), (3, 3)])];
    let space = SubnetSpace { parts, ..subnet(1, 0, &[(1, 1), (2, 2), (3, 3)]) };
    let owners = Arc::new(OwnerTable::assign(1, 1, std::slice::from_ref(&space), []));
    let free = Arc::new(FreeCounts::new(1, space.pool_sets().map(|(set, _)| set)));
    let mut partition = Partition::new(0, owners, free, std::slice::from_ref(&space), LIMITS);
    let mut pick = |part, client| {
        let picked = partition.allocate(at(0), PoolSet::part(1, part), client, Pick::Next, |_| true);
        picked.map(|address| address.octets()[3])
    };
    assert_eq!([pick(0, 1), pick(0, 2), pick(1, 3)], [Some(1), Some(3), Some(2)]);
    // Nothing is open: number 2 is the oldest of part 1, and then number 3, which part 0 had picked.
    assert_eq!([pick(1, 4), pick(1, 4), pick(1, 2)], [Some(2), Some(2), Some(3)]);
    assert_eq!(pick(0, 9), Some(1));
}

#[test]
fn an_expired_lease_is_available_before_it_is_reclaimed_and_leaves_the_list_then() {
    let mut partition = one(&[(1, 1)]);
    partition.upsert(at(0), &lease(address(1), START_S, 100));
    let renewed = lease(address(1), START_S + 50, 100);
    assert!(!partition.upsert(at(50), &renewed));
    let mut out = Vec::new();
    for (seconds, free) in [(50, 0), (101, 0), (150, 0), (151, 1)] {
        assert!(!partition.advance(at(seconds), 10));
        partition.expired(at(seconds), None, 10, &mut out);
        assert_eq!((partition.free_count(1), out.len()), (free, free as usize), "{seconds} s");
    }
    assert_eq!(out.as_slice(), std::slice::from_ref(&renewed));
    // The clock is set back: the lease is valid again, and then not.
    assert!(!partition.advance(at(120), 10));
    assert_eq!(partition.free_count(1), 0);
    assert!(!partition.advance(at(160), 10));
    assert_eq!(partition.free_count(1), 1);
    let reclaimed = Lease { state: LeaseState::ExpiredReclaimed, ..renewed };
    partition.upsert(at(160), &reclaimed);
    out.clear();
    partition.expired(at(160), None, 10, &mut out);
    assert_eq!((out.len(), partition.free_count(1)), (0, 1));
    for (hold_s, seconds, expected) in [(3600, 3750, 0), (3600, 3751, 1), (0, 151, 1)] {
        let mut purge = Vec::new();
        partition.purgeable(at(seconds), hold_s, 10, &mut purge);
        assert_eq!(purge.len(), expected, "{hold_s} {seconds}");
    }
    let counts = LeaseCounts { expired_reclaimed: 1, ..LeaseCounts::default() };
    assert_eq!(partition.counts().collect::<Vec<_>>(), [((1, 0), counts)]);
    partition.remove(at(160), address(1));
    assert_eq!((partition.counts().count(), partition.len()), (0, 0));
}

#[test]
fn expired_leases_come_oldest_first_and_in_slices() {
    let mut partition = one(&[(1, 20)]);
    for last in 1..=20_u8 {
        partition.upsert(at(0), &lease(address(last), START_S, 200 - u32::from(last)));
    }
    assert!(partition.advance(at(300), 7));
    assert_eq!(partition.free_count(1), 7);
    assert!(partition.advance(at(300), 7));
    assert!(!partition.advance(at(300), 7));
    let mut out = Vec::new();
    partition.expired(at(300), None, 3, &mut out);
    partition.expired(at(300), None, 1, &mut out);
    let order: Vec<u8> = out.iter().map(|lease| lease.address.octets()[3]).collect();
    assert_eq!(order, [20, 19, 18, 20]);
    for (passed, expected) in [(20, vec![19, 18, 17]), (2, vec![1]), (1, vec![])] {
        out.clear();
        let after = (START_S + 200 - u64::from(passed), address(passed));
        partition.expired(at(300), Some(after), 3, &mut out);
        let order: Vec<u8> = out.iter().map(|lease| lease.address.octets()[3]).collect();
        assert_eq!(order, expected, "after {passed}");
    }
    out.clear();
    partition.expired(at(150), Some((START_S + 199, address(1))), 3, &mut out);
    assert!(out.is_empty(), "the clock was set back");
}

#[test]
#[should_panic(expected = "which 1 owns")]
fn storing_a_lease_of_another_shard_panics() {
    let mut partitions = partitions(2, &[subnet(1, 0, &[(0, 255)])]);
    let foreign = (0..=255).map(address).find(|&address| partitions[1].owns(address)).unwrap();
    partitions[0].upsert(at(0), &lease(foreign, START_S, 10));
}

#[test]
fn a_reload_keeps_leases_and_holds_and_returns_what_it_no_longer_owns() {
    let old = [subnet(1, 0, &[(1, 100)])];
    let mut partitions = partitions(2, &old);
    let owned: Vec<Ipv4Addr> = (1..=100).map(address).filter(|&a| partitions[0].owns(a)).collect();
    let stray =
        (0..=255).map(|third| Ipv4Addr::new(10, 9, third, 1)).find(|&a| partitions[0].owns(a)).unwrap();
    partitions[0].upsert(at(0), &lease(owned[0], START_S, 4000));
    partitions[0].upsert(at(0), &Lease { subnet_id: 9, ..lease(stray, START_S, 4000) });
    partitions[0].hold(at(0), owned[1], 5);
    assert_eq!(partitions[0].strays(), [stray]);

    let new = [subnet(1, 0, &[(1, 200)]), subnet(2, 1, &[(1, 9)])];
    let owners = partitions[0].owners().rebuild(&new, [stray]);
    let free = Arc::new(FreeCounts::new(2, [1, 2]));
    let moved = partitions[0].reconfigure(at(1), Arc::new(owners.clone()), free.clone(), &new);
    assert_eq!(moved, []);
    assert_eq!(partitions[0].len(), 2);
    assert_eq!(partitions[0].held(at(1), 5), Some(owned[1]));
    assert!(!partitions[0].is_available(at(1), owned[1], 6));
    let expected = (1..=200).map(address).filter(|&address| owners.owner_of(address) == 0).count() as u32 - 1;
    assert_eq!((partitions[0].free_count(1), free.free(1, 0)), (expected, expected));

    // A table in which shard 1 has everything: shard 0 gives its leases up.
    let other = OwnerTable::assign(2, 1, &new, (0..=255).map(|last| (address(last), 1)));
    let moved = partitions[0].reconfigure(at(1), Arc::new(other), free, &new);
    assert!(moved.iter().any(|lease| lease.address == owned[0]), "{moved:?}");
    assert_eq!(partitions[0].free_count(1), 0);
    assert_eq!(partitions[0].held(at(1), 5), None);
}

#[test]
fn a_reload_under_the_same_tables_keeps_everything_but_where_the_allocator_goes_on() {
    let spaces = [subnet(1, 0, &[(1, 100)])];
    let mut partition = partitions(1, &spaces).remove(0);
    let (owners, free) = (partition.owners().clone(), partition.free_counts().clone());
    partition.upsert(at(0), &lease(address(7), START_S, 4000));
    partition.hold(at(0), address(50), 5);
    assert_eq!(next(&mut partition, at(0), 6), Some(1));
    partition.upsert(at(0), &lease(address(1), START_S, 4000));
    partition.remove(at(0), address(1));
    let before = partition.free_count(1);
    assert_eq!(partition.reconfigure(at(1), owners, free.clone(), &spaces), []);
    assert_eq!((partition.free_count(1), free.free(1, 0)), (before, before));
    assert_eq!(partition.held(at(1), 5), Some(address(50)));
    assert!(!partition.is_available(at(1), address(7), 8));
    assert_eq!(next(&mut partition, at(1), 8), Some(1), "it begins anew, as in Kea");
}

#[test]
fn strays_are_one_address_of_each_block_outside_of_all_subnets() {
    let mut partition = partitions(1, &[subnet(1, 0, &[(1, 100)]), subnet(2, 2, &[(1, 100)])]).remove(0);
    let far = |third: u8, last: u8| Ipv4Addr::new(10, 9, third, last);
    let edges = [Ipv4Addr::new(0, 0, 0, 0), Ipv4Addr::BROADCAST];
    let leases = [address(1), address(255), far(0, 1), far(0, 9), far(0, 64), far(7, 255)];
    for (address, subnet_id) in leases.into_iter().chain(edges).zip(1..) {
        partition.upsert(at(0), &Lease { subnet_id, ..lease(address, START_S, 4000) });
    }
    assert_eq!(partition.strays(), [edges[0], far(0, 1), far(0, 64), far(7, 255), edges[1]]);
}

#[test]
fn a_lease_and_its_index_entries_stay_below_160_bytes() {
    let wide = SubnetSpace {
        id: 1,
        prefix: [10, 0, 0, 0].into(),
        prefix_len: 8,
        pools: vec![PoolRange { first: [10, 0, 0, 0].into(), last: [10, 0, 255, 255].into() }],
        parts: Vec::new(),
    };
    let limits = PartitionLimits { index_entries_max: 1_000_000, ..LIMITS };
    let owners = Arc::new(OwnerTable::assign(1, 1, std::slice::from_ref(&wide), []));
    let mut partition =
        Partition::new(0, owners, Arc::new(FreeCounts::new(1, [1])), std::slice::from_ref(&wide), limits);
    let hasher = crate::partition::IdentityHasher::new(3);
    let leases = 60_000_u32;
    for index in 0..leases {
        let mac = index.to_be_bytes();
        let mut lease = lease(Ipv4Addr::from(0x0a00_0000 + index), START_S + u64::from(index / 100), 4000);
        lease.hwaddr = SmallBytes::new(&[2, 0, mac[0], mac[1], mac[2], mac[3]]);
        lease.client_id = SmallBytes::new(&[1, 2, 0, mac[0], mac[1], mac[2], mac[3]]);
        partition.upsert(at(0), &lease);
        let entry = IndexEntry { address: lease.address, subnet_id: 1 };
        partition.identities_mut().hardware.insert(hasher.key(&lease.hwaddr), entry);
        partition.identities_mut().client_id.insert(hasher.key(&lease.client_id), entry);
    }
    let memory = partition.memory();
    let total = memory.table + memory.expiry + memory.indexes + memory.holds + memory.blocks;
    assert!(total / leases as usize <= 160, "{} bytes a lease: {memory:?}", total / leases as usize);
}

#[test]
fn an_address_in_the_pools_of_two_subnets_is_taken_and_freed_in_both() {
    let wide = SubnetSpace { prefix_len: 16, ..subnet(1, 0, &[(0, 50)]) };
    let narrow = subnet(2, 0, &[(5, 9), (60, 61)]);
    let mut partition = partitions(1, &[wide, narrow]).remove(0);
    let free = |partition: &Partition| (partition.free_count(1), partition.free_count(2));
    assert_eq!(free(&partition), (51, 7));
    for (last, expected) in [(7, (50, 6)), (20, (50, 7)), (60, (51, 6)), (55, (51, 7))] {
        partition.upsert(at(0), &lease(address(last), START_S, 100));
        assert_eq!(free(&partition), expected, "{last}");
        assert!(!partition.is_available(at(0), address(last), 1));
        partition.remove(at(0), address(last));
        assert_eq!(free(&partition), (51, 7), "{last} removed");
    }
}

#[test]
fn a_pool_with_one_address_left_gives_it_from_anywhere() {
    let space = SubnetSpace {
        id: 1,
        prefix: [10, 0, 0, 0].into(),
        prefix_len: 15,
        pools: vec![PoolRange { first: [10, 0, 0, 0].into(), last: [10, 1, 255, 255].into() }],
        parts: Vec::new(),
    };
    let mut partition = partitions(1, std::slice::from_ref(&space)).remove(0);
    let left = Ipv4Addr::new(10, 1, 9, 9);
    for address in (0x0a00_0000..=0x0a01_ffff_u32).map(Ipv4Addr::from).filter(|&address| address != left) {
        partition.upsert(at(0), &lease(address, START_S, 4000));
    }
    assert_eq!(partition.free_count(1), 1);
    for pick in [Pick::Next, Pick::At(0), Pick::At(100_000), Pick::At(u64::MAX), Pick::Next] {
        assert_eq!(partition.allocate(at(0), 1, 5, pick, |_| true), Some(left), "{pick:?}");
        partition.release_hold(at(0), left);
    }
    partition.upsert(at(0), &lease(left, START_S, 4000));
    assert_eq!(partition.allocate(at(0), 1, 5, Pick::Next, |_| true), None);
}

/// What a partition is meant to do, done slowly.
#[derive(Default)]
struct Model {
    leases: BTreeMap<Ipv4Addr, Lease>,
    /// Address to client and end, oldest first by end.
    holds: BTreeMap<Ipv4Addr, (u64, u64)>,
}

impl Model {
    fn hold(&mut self, seconds: u64, address: Ipv4Addr, client: u64) {
        self.holds.retain(|_, hold| hold.0 != client);
        self.holds.insert(address, (client, seconds + 10));
    }

    fn is_free(&self, address: Ipv4Addr, now: Now) -> bool {
        self.leases.get(&address).is_none_or(|lease| {
            matches!(lease.state, LeaseState::ExpiredReclaimed | LeaseState::Released)
                || lease.is_expired(now.wall_s())
        })
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Advance(i8),
    Allocate { client: u64, at: Option<u64>, refuse: u8 },
    Hold { last: u8, client: u64 },
    Reconfigure(u8),
    Release(u8),
    Remove(u8),
    Upsert { last: u8, state: u8, age: u8, valid: u8 },
}

fn any_operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    prop_oneof![
        2 => (-15..40_i8).prop_map(Advance),
        4 => (0..9_u64, proptest::option::of(0..60_u64), any::<u8>())
            .prop_map(|(client, at, refuse)| Allocate { client, at, refuse }),
        1 => (0..40_u8, 0..9_u64).prop_map(|(last, client)| Hold { last, client }),
        1 => any::<u8>().prop_map(Reconfigure),
        1 => (0..40_u8).prop_map(Release),
        2 => (0..40_u8).prop_map(Remove),
        5 => (0..40_u8, 0..6_u8, 0..90_u8, 0..90_u8)
            .prop_map(|(last, state, age, valid)| Upsert { last, state, age, valid }),
    ]
}

fn check(
    partition: &mut Partition,
    model: &Model,
    pools: &SubnetSpace,
    seconds: u64,
) -> Result<(), TestCaseError> {
    let now = at(seconds);
    let mut page = Vec::new();
    let mut after = None;
    loop {
        // No more than seven are looked at.
        after = partition.page(after, 1000, 7, Wanted::Subnets(&[]), |lease| page.push(lease));
        if after.is_none() {
            break;
        }
    }
    prop_assert_eq!(&page, &model.leases.values().cloned().collect::<Vec<_>>());
    let mut above = Vec::new();
    let upto =
        partition.page(Some(address(12)), 3, 1000, Wanted::Subnets(&[1]), |lease| above.push(lease.address));
    prop_assert_eq!(upto, None);
    let expected = model.leases.values().filter(|lease| lease.address > address(12) && lease.subnet_id == 1);
    prop_assert_eq!(above, expected.take(3).map(|lease| lease.address).collect::<Vec<_>>());

    prop_assert!(!partition.advance(now, 1000));
    let in_pools =
        |last: &u8| pools.pools.iter().any(|pool| (pool.first..=pool.last).contains(&address(*last)));
    let owned = (0..40_u8).filter(in_pools).filter(|&last| partition.owns(address(last)));
    let free = owned.filter(|&last| model.is_free(address(last), now)).count();
    prop_assert_eq!(partition.free_count(1), free as u32);
    prop_assert_eq!(partition.free_counts().free(1, 0), free as u32);

    let mut expired = Vec::new();
    partition.expired(now, None, 1000, &mut expired);
    let mut expected: Vec<&Lease> = model.leases.values().collect();
    expected.retain(|lease| lease.state != LeaseState::ExpiredReclaimed && lease.is_expired(now.wall_s()));
    expected.sort_by_key(|lease| (lease.expire(), lease.address));
    prop_assert_eq!(expired.iter().collect::<Vec<_>>(), expected);
    let mut purge = Vec::new();
    partition.purgeable(now, 5, 1000, &mut purge);
    let purge: BTreeSet<Ipv4Addr> = purge.into_iter().collect();
    let expected = model.leases.values().filter(|lease| {
        lease.state == LeaseState::ExpiredReclaimed && lease.is_expired(now.wall_s().saturating_sub(5))
    });
    prop_assert_eq!(purge, expected.map(|lease| lease.address).collect());

    let mut counts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for lease in model.leases.values() {
        *counts.entry((lease.subnet_id, lease.pool_id)).or_default() += 1;
    }
    prop_assert_eq!(
        partition.counts().map(|(key, counts)| (key, counts.total())).collect::<BTreeMap<_, _>>(),
        counts
    );
    prop_assert_eq!(partition.len(), model.leases.len());
    Ok(())
}

fn lease_state(number: u8) -> LeaseState {
    match number {
        1 => LeaseState::Declined,
        2 => LeaseState::ExpiredReclaimed,
        3 => LeaseState::Released,
        _ => LeaseState::Default,
    }
}

/// An allocation gives an unheld address while there is one, then a held one, and nothing only where nothing is free.
fn check_given(
    given: Option<Ipv4Addr>,
    model: &Model,
    space: &SubnetSpace,
    now: Now,
    acceptable: impl Fn(Ipv4Addr) -> bool,
) -> Result<(), TestCaseError> {
    let in_pool =
        |address: &Ipv4Addr| space.pools.iter().any(|pool| (pool.first..=pool.last).contains(address));
    let candidates: BTreeSet<Ipv4Addr> = (0..40)
        .map(address)
        .filter(in_pool)
        .filter(|&address| acceptable(address) && model.is_free(address, now))
        .collect();
    let unheld: BTreeSet<Ipv4Addr> =
        candidates.iter().copied().filter(|address| !model.holds.contains_key(address)).collect();
    match given {
        None => prop_assert!(candidates.is_empty(), "{candidates:?}"),
        Some(address) if unheld.is_empty() => prop_assert!(candidates.contains(&address)),
        Some(address) => prop_assert!(unheld.contains(&address), "{address} not of {unheld:?}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn loading_leases_gives_what_storing_each_of_them_does(
        leases in proptest::collection::btree_map(0..200_u8, (0..4_usize, 0..5000_u64, 0..3_u32), 0..60),
    ) {
        const STATES: [LeaseState; 4] =
            [LeaseState::Default, LeaseState::Declined, LeaseState::ExpiredReclaimed, LeaseState::Released];
        let subnets = [subnet(1, 0, &[(5, 90)]), SubnetSpace { prefix_len: 25, ..subnet(2, 0, &[(80, 120)]) }];
        let made: Vec<Lease> = leases.iter().map(|(&last, &(state, age, lifetime))| Lease {
            state: STATES[state],
            subnet_id: 1 + u32::from(last % 3),
            hostname: SmallBytes::new(&vec![b'h'; usize::from(last)]),
            ..lease(address(last), START_S - age, [1000, 4000, u32::MAX][lifetime as usize])
        }).collect();
        let entries = |lease: &Lease| (u64::from(lease.address.octets()[3]) << 40 | 7,
            IndexEntry { address: lease.address, subnet_id: lease.subnet_id });
        let (mut stored, mut loaded) = (partitions(1, &subnets).remove(0), partitions(1, &subnets).remove(0));
        for lease in &made {
            stored.upsert(at(0), lease);
            let (key, entry) = entries(lease);
            stored.identities_mut().hardware.insert(key, entry);
        }
        let all: crate::partition::LoadedLeases = made.iter().cloned().collect();
        let hardware = vec![made.iter().map(entries).collect(), Vec::new()];
        prop_assert_eq!(loaded.load(at(0), all.range(0..all.len()), &hardware, &[]), 0);
        for partition in [&mut stored, &mut loaded] {
            while partition.advance(at(0), 7) {}
        }
        let all = |partition: &Partition| {
            let mut all = Vec::new();
            partition.for_each(|lease| all.push(lease));
            all
        };
        prop_assert_eq!(all(&stored), all(&loaded));
        prop_assert_eq!(stored.counts().collect::<Vec<_>>(), loaded.counts().collect::<Vec<_>>());
        for id in [1, 2] {
            prop_assert_eq!(stored.free_count(id), loaded.free_count(id));
            prop_assert_eq!(stored.open_count(id), loaded.open_count(id));
            for client in 0..100 {
                prop_assert_eq!(
                    stored.allocate(at(0), id, client, Pick::Next, |_| true),
                    loaded.allocate(at(0), id, client, Pick::Next, |_| true)
                );
            }
        }
        for lease in &made {
            let (key, entry) = entries(lease);
            prop_assert_eq!(loaded.identities().hardware.find(key).collect::<Vec<_>>(), vec![entry]);
        }
        let later = |partition: &mut Partition| {
            let (mut expired, mut purgeable) = (Vec::new(), Vec::new());
            partition.expired(at(9000), None, 1000, &mut expired);
            partition.purgeable(at(9000), 0, 1000, &mut purgeable);
            (expired, purgeable)
        };
        prop_assert_eq!(later(&mut stored), later(&mut loaded));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    // Random operations on one shard of one or two, against plain maps: what is listed, free, expired,
    // counted and given out must be the same after each of them.
    #[test]
    fn a_partition_behaves_as_plain_maps(
        operations in proptest::collection::vec(any_operation(), 0..120), shards in 1..=2_u8,
    ) {
        let layouts: [&[(u8, u8)]; 3] = [&[(20, 29), (3, 9)], &[(0, 15)], &[(8, 35)]];
        let mut space = subnet(1, 0, layouts[0]);
        let mut partition = partitions(shards, std::slice::from_ref(&space)).remove(0);
        let mut model = Model::default();
        let mut seconds = 100_u64;
        for operation in operations {
            let now = at(seconds);
            match operation {
                Operation::Advance(step) => {
                    // Only the wall clock may go back, so holds are given up before.
                    if step < 0 {
                        for last in 0..40 {
                            partition.release_hold(now, address(last));
                        }
                        model.holds.clear();
                    }
                    seconds = seconds.saturating_add_signed(i64::from(step));
                    model.holds.retain(|_, hold| hold.1 > seconds);
                }
                Operation::Allocate { client, at: position, refuse } => {
                    let pick = position.map_or(Pick::Next, Pick::At);
                    let accept = |address: Ipv4Addr| address.octets()[3] % 7 != refuse % 14;
                    let given = partition.allocate(now, 1, client, pick, accept);
                    let acceptable = |address| partition.owns(address) && accept(address);
                    check_given(given, &model, &space, now, acceptable)?;
                    if let Some(address) = given {
                        model.hold(seconds, address, client);
                        prop_assert_eq!(partition.held(now, client), Some(address));
                    }
                }
                Operation::Hold { last, client } if partition.owns(address(last)) => {
                    partition.hold(now, address(last), client);
                    model.hold(seconds, address(last), client);
                }
                Operation::Reconfigure(choice) => {
                    space = subnet(1, 0, layouts[usize::from(choice) % layouts.len()]);
                    let spaces = std::slice::from_ref(&space);
                    let owners = Arc::new(partition.owners().rebuild(spaces, partition.strays()));
                    let free = Arc::new(FreeCounts::new(shards, [1]));
                    prop_assert_eq!(partition.reconfigure(now, owners, free, spaces), vec![]);
                }
                Operation::Release(last) => {
                    partition.release_hold(now, address(last));
                    model.holds.remove(&address(last));
                }
                Operation::Remove(last) if partition.owns(address(last)) => {
                    prop_assert_eq!(partition.remove(now, address(last)), model.leases.remove(&address(last)));
                }
                Operation::Upsert { last, state, age, valid } if partition.owns(address(last)) => {
                    let mut lease = lease(address(last), now.wall_s() - u64::from(age), u32::from(valid));
                    lease.subnet_id = 1 + u32::from(last % 3 / 2);
                    lease.pool_id = u32::from(valid % 2);
                    lease.state = lease_state(state);
                    if state == 5 {
                        lease.valid_lifetime = u32::MAX;
                    }
                    let created = model.leases.insert(lease.address, lease.clone()).is_none();
                    prop_assert_eq!(partition.upsert(now, &lease), created);
                    model.holds.remove(&lease.address);
                }
                Operation::Hold { .. } | Operation::Remove(_) | Operation::Upsert { .. } => {}
            }
            check(&mut partition, &model, &space, seconds)?;
        }
    }
}
