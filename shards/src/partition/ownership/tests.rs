//! The owner table: every address has one owner, shares are even, a reload moves nothing.

use proptest::prelude::*;

use super::*;

fn space(id: u32, prefix: [u8; 4], prefix_len: u8, pools: &[([u8; 4], [u8; 4])]) -> SubnetSpace {
    let pools = pools.iter().map(|&(first, last)| PoolRange { first: first.into(), last: last.into() });
    SubnetSpace { id, prefix: prefix.into(), prefix_len, pools: pools.collect(), parts: Vec::new() }
}

fn free_per_shard(table: &OwnerTable, subnet: &SubnetSpace) -> Vec<u64> {
    let mut free = vec![0; usize::from(table.shards())];
    for pool in &subnet.pools {
        for shard in 0..table.shards() {
            table.for_each_owned(*pool, shard, |first, last| {
                free[usize::from(shard)] += u64::from(last - first) + 1;
            });
        }
    }
    free
}

#[test]
fn a_pool_of_100_over_four_shards_gives_each_24_to_28_addresses_in_blocks_of_4() {
    for first in [0, 1, 2, 3, 10, 100] {
        let subnet = space(1, [192, 0, 2, 0], 24, &[([192, 0, 2, first], [192, 0, 2, first + 99])]);
        let table = OwnerTable::assign(4, 7, std::slice::from_ref(&subnet), []);
        for (shard, free) in free_per_shard(&table, &subnet).into_iter().enumerate() {
            assert!((24..=28).contains(&free), "pool from {first}: shard {shard} has {free}");
        }
        for block in 0..64_u8 {
            let owners: Vec<u8> =
                (0..4).map(|offset| table.owner_of(Ipv4Addr::new(192, 0, 2, block * 4 + offset))).collect();
            let in_pool = (first / 4..=(first + 99) / 4).contains(&block);
            assert!(!in_pool || owners.iter().all(|&owner| owner == owners[0]), "block {block}: {owners:?}");
        }
    }
}

#[test]
fn block_size_is_the_largest_power_of_two_within_its_bounds() {
    for (size, shards, expected) in [
        (100, 4, 4),
        (1, 4, 1),
        (15, 4, 1),
        (16, 4, 1),
        (32, 4, 2),
        (254, 1, 32),
        (1 << 24, 4, 64),
        (256, 1, 64),
    ] {
        assert_eq!(1 << block_shift(&[(0, size - 1)], shards), expected, "{size} over {shards}");
    }
}

#[test]
fn a_whole_slash_8_costs_a_byte_per_block() {
    let subnet = space(1, [10, 0, 0, 0], 8, &[([10, 0, 0, 0], [10, 255, 255, 255])]);
    let table = OwnerTable::assign(4, 7, std::slice::from_ref(&subnet), []);
    assert!(table.memory() < 300 * 1024, "{} bytes", table.memory());
    assert_eq!(free_per_shard(&table, &subnet), vec![1 << 22; 4]);
}

#[test]
fn a_small_pool_in_a_slash_8_costs_only_its_own_blocks() {
    let subnet = space(1, [10, 0, 0, 0], 8, &[([10, 0, 0, 1], [10, 0, 0, 20])]);
    let table = OwnerTable::assign(4, 7, &[subnet], []);
    assert!(table.memory() < 1024, "{} bytes", table.memory());
    let mut seen = [0; 4];
    for group in 0..1024_u32 {
        seen[usize::from(table.owner_of(Ipv4Addr::from(0x0a80_0000 + group * 64)))] += 1;
    }
    assert_eq!(seen, [256; 4]);
}

#[test]
fn a_block_with_leases_goes_to_the_home_of_most_of_them() {
    let subnet = space(1, [192, 0, 2, 0], 24, &[([192, 0, 2, 0], [192, 0, 2, 127])]);
    let leases =
        [(9, 3), (10, 2), (11, 3), (200, 1), (16, 0)].map(|(last, home)| ([192, 0, 2, last].into(), home));
    let table = OwnerTable::assign(4, 7, &[subnet], leases);
    for (last, owner) in [(8, 3), (15, 3), (16, 0), (23, 0), (192, 1), (255, 1)] {
        assert_eq!(table.owner_of(Ipv4Addr::new(192, 0, 2, last)), owner, "{last}");
    }
}

#[test]
fn the_most_specific_of_nested_prefixes_decides() {
    let outer = space(1, [10, 0, 0, 0], 8, &[([10, 0, 0, 0], [10, 255, 255, 255])]);
    let inner = space(2, [10, 1, 0, 0], 24, &[([10, 1, 0, 0], [10, 1, 0, 99])]);
    let both = OwnerTable::assign(4, 7, &[outer, inner.clone()], []);
    let alone = OwnerTable::assign(4, 7, &[inner], []);
    for last in 0..=255 {
        let address = Ipv4Addr::new(10, 1, 0, last);
        assert_eq!(both.owner_of(address), alone.owner_of(address), "{address}");
    }
}

#[test]
fn a_reload_keeps_the_owners_of_surviving_and_removed_subnets() {
    let old = [
        space(1, [10, 0, 0, 0], 24, &[([10, 0, 0, 0], [10, 0, 0, 99])]),
        space(2, [10, 0, 1, 0], 24, &[([10, 0, 1, 0], [10, 0, 1, 255])]),
    ];
    let new = [
        space(1, [10, 0, 0, 0], 23, &[([10, 0, 0, 0], [10, 0, 1, 255])]),
        space(3, [10, 0, 2, 0], 24, &[([10, 0, 2, 0], [10, 0, 2, 255])]),
    ];
    let before = OwnerTable::assign(4, 7, &old, []);
    let stray = Ipv4Addr::new(10, 0, 2, 70);
    assert!(before.is_stray(stray));
    let after = before.rebuild(&new, [stray]);
    for last in 0..512_u32 {
        let address = Ipv4Addr::from(0x0a00_0000 + last);
        assert_eq!(after.owner_of(address), before.owner_of(address), "{address}");
    }
    for last in 64..80 {
        // The block of the stray lease has 16 addresses: 256 over four shards.
        let address = Ipv4Addr::new(10, 0, 2, last);
        assert_eq!(after.owner_of(address), before.owner_of(stray), "{address}");
    }
    assert!(!after.is_stray(stray));
    assert_eq!(after.rebuild(&[], []), after);
}

fn any_subnets() -> impl Strategy<Value = Vec<SubnetSpace>> {
    let subnet = (0..40_u8, 22..=30_u8, proptest::collection::vec((any::<u16>(), any::<u16>()), 0..4));
    proptest::collection::vec(subnet, 0..6).prop_map(|subnets| {
        let made = subnets.into_iter().enumerate().map(|(index, (third, prefix_len, pools))| {
            let size = 1_u32 << (32 - prefix_len);
            let first = u32::from(Ipv4Addr::new(10, 0, third, 0)) & !(size - 1);
            let pools = pools.into_iter().map(|(a, b)| {
                let (a, b) = (u32::from(a) % size, u32::from(b) % size);
                PoolRange { first: (first + a.min(b)).into(), last: (first + a.max(b)).into() }
            });
            SubnetSpace {
                id: index as u32 + 1,
                prefix: first.into(),
                prefix_len,
                pools: pools.collect(),
                parts: Vec::new(),
            }
        });
        made.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_address_has_exactly_one_owner_and_runs_agree_with_it(
        subnets in any_subnets(), shards in 1..=9_u8, seed in any::<u64>(),
        leases in proptest::collection::vec((0..0x3000_u32, 0..9_u8), 0..40),
    ) {
        let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let leases = leases.into_iter().map(|(offset, home)| ((base + offset).into(), home));
        let table = OwnerTable::assign(shards, seed, &subnets, leases);
        let range = PoolRange { first: (base - 100).into(), last: (base + 0x3000).into() };
        let mut owners = vec![Vec::new(); 0x3000 + 101];
        for shard in 0..shards {
            table.for_each_owned(range, shard, |first, last| {
                for address in first..=last {
                    owners[(address - (base - 100)) as usize].push(shard);
                }
            });
        }
        for (offset, owner) in owners.iter().enumerate() {
            let address = Ipv4Addr::from(base - 100 + offset as u32);
            prop_assert_eq!(owner, &vec![table.owner_of(address)], "{}", address);
        }
        prop_assert!(table.owner_of(Ipv4Addr::BROADCAST) < shards);
        prop_assert!(table.owner_of(Ipv4Addr::UNSPECIFIED) < shards);
    }

    #[test]
    fn free_capacity_of_a_disjoint_subnet_differs_by_at_most_one_block(
        first in 0..1024_u32, size in 1..3000_u32, shards in 1..=9_u8, seed in any::<u64>(),
    ) {
        let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let subnet = SubnetSpace {
            id: 5,
            prefix: base.into(),
            prefix_len: 16,
            pools: vec![PoolRange { first: (base + first).into(), last: (base + first + size - 1).into() }],
            parts: Vec::new(),
        };
        let table = OwnerTable::assign(shards, seed, std::slice::from_ref(&subnet), []);
        let free = free_per_shard(&table, &subnet);
        let block = 1 << block_shift(&subnet.merged_pools(), shards);
        prop_assert_eq!(free.iter().sum::<u64>(), u64::from(size));
        prop_assert!(free.iter().max().unwrap() - free.iter().min().unwrap() <= block, "{:?}", free);
    }

    #[test]
    fn a_rebuild_never_moves_an_address_that_was_in_a_subnet_or_a_stray_lease(
        old in any_subnets(), new in any_subnets(), shards in 1..=5_u8,
        strays in proptest::collection::vec(0..0x2c00_u32, 0..20),
    ) {
        let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let before = OwnerTable::assign(shards, 1, &old, []);
        let strays: Vec<Ipv4Addr> = strays.into_iter().map(|offset| (base + offset).into()).collect();
        let after = before.rebuild(&new, strays.iter().copied());
        for offset in 0..0x2c00 {
            let address = Ipv4Addr::from(base + offset);
            if !before.is_stray(address) || strays.contains(&address) {
                prop_assert_eq!(after.owner_of(address), before.owner_of(address), "{}", address);
            }
        }
    }
}
