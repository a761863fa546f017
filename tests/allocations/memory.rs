//! What a lease takes, octet by octet, and that it is what ARCHITECTURE.md says.

use std::net::Ipv4Addr;
use std::sync::Arc;

use shards::partition::{
    FreeCounts, IdentityHasher, IndexEntry, LoadedLeases, OwnerTable, Partition, PartitionLimits, PoolRange,
    SubnetSpace,
};
use shards::{Lease, LeaseState, Now, SmallBytes};

use crate::sys;

const LEASES: u32 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
const LEASE_OCTETS_MAX: f64 = 160.0;
const NOW: Now = Now { monotonic_ns: 1, wall_ms: 1_700_000_000_000 };

/// As they come: half with a client identifier of seven octets, a third with a host name; they end at any time.
fn lease(number: u32) -> Lease {
    let mac = number.to_be_bytes();
    let hwaddr = [2, mac[0], mac[1], mac[2], mac[3], 7];
    let client_id = [&[1], &hwaddr[..]].concat();
    let hostname = format!("host-{number:07}.example.org");
    Lease {
        address: Ipv4Addr::from(0x0a00_0000 + number),
        subnet_id: 1,
        pool_id: 0,
        hwaddr: SmallBytes::new(&hwaddr),
        client_id: SmallBytes::new(if number.is_multiple_of(2) { &client_id } else { &[] }),
        valid_lifetime: 86_400,
        cltt: 1_700_000_000 - u64::from(number.wrapping_mul(0x9e37_79b1) % 40_000),
        state: LeaseState::Default,
        fqdn_fwd: false,
        fqdn_rev: false,
        hostname: SmallBytes::new(if number.is_multiple_of(3) { hostname.as_bytes() } else { &[] }),
        user_context: None,
    }
}

fn entries(hasher: IdentityHasher, lease: &Lease) -> [Option<(u64, IndexEntry)>; 2] {
    let entry = IndexEntry { address: lease.address, subnet_id: 1 };
    let of = |identity: &[u8]| (!identity.is_empty()).then(|| (hasher.key(identity), entry));
    [of(&lease.hwaddr), of(&lease.client_id)]
}

fn partition() -> Partition {
    let pool = PoolRange { first: [10, 0, 0, 0].into(), last: Ipv4Addr::from(0x0a00_0000 + LEASES - 1) };
    let subnet = SubnetSpace {
        id: 1,
        prefix: [10, 0, 0, 0].into(),
        prefix_len: 8,
        pools: vec![pool],
        parts: Vec::new(),
    };
    let subnets = [subnet];
    let owners = Arc::new(OwnerTable::assign(1, 1, &subnets, []));
    let limits = PartitionLimits { offer_hold_ms: 10_000, offer_holds_max: 1000, index_entries_max: 1 << 24 };
    Partition::new(0, owners, Arc::new(FreeCounts::new(1, [1])), &subnets, limits)
}

#[test]
fn a_million_leases_take_fewer_than_160_octets_each_loaded_or_given_one_by_one() {
    let hasher = IdentityHasher::new(3);
    let leases: LoadedLeases = (0..LEASES).map(lease).collect();
    let indexes = [0, 1].map(|which| {
        vec![(0..LEASES).filter_map(|number| entries(hasher, &lease(number))[which]).collect::<Vec<_>>()]
    });
    let (loaded, empty) = sys::held(partition);
    let (loaded, held) = sys::held(|| {
        let mut loaded = loaded;
        assert_eq!(loaded.load(NOW, leases.range(0..leases.len()), &indexes[0], &indexes[1]), 0);
        loaded
    });
    let each = (empty + held) as f64 / f64::from(LEASES);
    assert!(each < LEASE_OCTETS_MAX, "{each:.1} octets a loaded lease: {:?}", loaded.memory());

    let (given, held) = sys::held(|| {
        let mut given = partition();
        for number in 0..LEASES {
            let lease = lease(number);
            given.upsert(NOW, &lease);
            let [hardware, client_id] = entries(hasher, &lease);
            let identities = given.identities_mut();
            hardware.iter().for_each(|&(key, entry)| assert!(identities.hardware.insert(key, entry)));
            client_id.iter().for_each(|&(key, entry)| assert!(identities.client_id.insert(key, entry)));
        }
        given
    });
    let each = held as f64 / f64::from(LEASES);
    assert!(each < LEASE_OCTETS_MAX, "{each:.1} octets a lease: {:?}", given.memory());
}
