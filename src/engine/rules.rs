//! What all shards agree on: the configuration, who owns which address, and where addresses are free.
//!
//! Made by the control node, at start and at each reload, and handed to every shard as one value, so that two
//! shards never route by different tables for longer than the message takes. Leases loaded at start are split
//! here into what each shard owns and what it is home for.

use std::sync::Arc;

use shards::partition::{FreeCounts, IdentityHasher, OwnerTable, PoolRange, SubnetSpace};
use shards::steer::SteerHash;
use shards::{Lease, LeaseState};

use crate::engine::message::IndexChange;
use crate::policy::Snapshot;

/// One configuration with the tables made from it. Immutable, shared by all shards.
#[derive(Debug)]
pub struct Rules {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// Its subnets as the partition sees them.
    pub spaces: Vec<SubnetSpace>,
    /// Owner of every address.
    pub owners: Arc<OwnerTable>,
    /// Available addresses per shard and subnet.
    pub free: Arc<FreeCounts>,
}

impl Rules {
    /// The rules at start, by the leases loaded; `seed` is the installation's secret.
    pub fn at_start(snapshot: Arc<Snapshot>, steering: &Steering, seed: u64, leases: &[Lease]) -> Self {
        let spaces = subnet_spaces(&snapshot);
        let homes = leases.iter().map(|lease| (lease.address, steering.home_of_lease(lease)));
        let owners = Arc::new(OwnerTable::assign(steering.shards, seed, &spaces, homes));
        Self::with(snapshot, spaces, owners)
    }

    /// The rules of a new configuration: addresses keep their owners. `stray` are the addresses of leases in no
    /// subnet, asked of every shard before.
    pub fn next(&self, snapshot: Arc<Snapshot>, stray: impl IntoIterator<Item = std::net::Ipv4Addr>) -> Self {
        let spaces = subnet_spaces(&snapshot);
        let owners = Arc::new(self.owners.rebuild(&spaces, stray));
        Self::with(snapshot, spaces, owners)
    }

    fn with(snapshot: Arc<Snapshot>, spaces: Vec<SubnetSpace>, owners: Arc<OwnerTable>) -> Self {
        let free = Arc::new(FreeCounts::new(owners.shards(), spaces.iter().map(|space| space.id)));
        Self { snapshot, spaces, owners, free }
    }
}

/// How clients are spread over the shards; fixed for the life of the process.
#[derive(Clone, Copy, Debug)]
pub struct Steering {
    /// How many shards there are.
    pub shards: u8,
    /// The hash the kernel uses too.
    pub hash: SteerHash,
    /// Makes index keys.
    pub identities: IdentityHasher,
}

impl Steering {
    /// Steering over `shards` shards with the installation's secret.
    pub fn new(seed: u64, shards: u8) -> Self {
        Self { shards, hash: SteerHash::new(seed, shards), identities: IdentityHasher::new(seed) }
    }

    /// Shard of a hardware address: where its clients arrive and its index lives.
    pub fn shard_of_hardware(&self, hwaddr: &[u8]) -> u8 {
        self.hash.shard_of(hwaddr)
    }

    /// Home of a client identifier. One that repeats an Ethernet address lives where that address arrives. This
    /// looks at the identifier alone, never at the chaddr beside it, so that every query and every lease with the
    /// identifier agree on the place.
    pub fn shard_of_client_id(&self, client_id: &[u8]) -> u8 {
        match client_id {
            [1, hwaddr @ ..] if hwaddr.len() == 6 => self.hash.shard_of(hwaddr),
            _ => self.hash.shard_of(client_id),
        }
    }

    /// Home of the client of `lease`.
    pub fn home_of_lease(&self, lease: &Lease) -> u8 {
        if lease.client_id.is_empty() {
            self.shard_of_hardware(&lease.hwaddr)
        } else {
            self.shard_of_client_id(&lease.client_id)
        }
    }

    /// Index entries of `lease` and the shard of each: by hardware address and by client identifier.
    pub fn index_entries(&self, lease: &Lease) -> [Option<(u8, IndexChange)>; 2] {
        // A declined lease is nobody's; its identifiers are wiped anyway (PKT-78).
        if lease.state == LeaseState::Declined {
            return [None, None];
        }
        let entry = |identity: &[u8], by_client_id: bool, shard: u8| {
            let key = self.identities.key(identity);
            let (address, subnet_id) = (lease.address, lease.subnet_id);
            (shard, IndexChange { add: true, by_client_id, key, address, subnet_id })
        };
        let (hwaddr, client_id) = (lease.hwaddr.as_slice(), lease.client_id.as_slice());
        [
            (!hwaddr.is_empty()).then(|| entry(hwaddr, false, self.shard_of_hardware(hwaddr))),
            (!client_id.is_empty()).then(|| entry(client_id, true, self.shard_of_client_id(client_id))),
        ]
    }
}

/// What one shard starts with.
#[derive(Debug, Default)]
pub struct ShardLeases {
    /// Leases it owns.
    pub owned: Vec<Lease>,
    /// Index entries it is home or arrival shard for.
    pub index: Vec<IndexChange>,
}

/// Splits loaded leases over the shards: each lease to its owner, its index entries to their homes.
pub fn split(leases: Vec<Lease>, owners: &OwnerTable, steering: &Steering) -> Vec<ShardLeases> {
    let mut inputs: Vec<ShardLeases> = (0..steering.shards).map(|_| ShardLeases::default()).collect();
    for lease in leases {
        for (shard, change) in steering.index_entries(&lease).into_iter().flatten() {
            inputs[usize::from(shard)].index.push(change);
        }
        inputs[usize::from(owners.owner_of(lease.address))].owned.push(lease);
    }
    inputs
}

/// The subnets of a configuration as the partition sees them.
pub fn subnet_spaces(snapshot: &Snapshot) -> Vec<SubnetSpace> {
    let space = |subnet: &crate::policy::Subnet| SubnetSpace {
        id: subnet.id,
        prefix: subnet.prefix,
        prefix_len: subnet.prefix_len,
        pools: subnet.pools.iter().map(|pool| PoolRange { first: pool.first, last: pool.last }).collect(),
    };
    snapshot.subnets.iter().map(space).collect()
}
