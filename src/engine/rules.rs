//! What all shards agree on: the configuration, who owns which address, and where addresses are free.
//!
//! Made by the control node, at start and at each reload, and handed to every shard as one value, so that two
//! shards never route by different tables for longer than the message takes. Leases loaded at start are split
//! here into what each shard owns and what it is home for.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;

use shards::partition::{
    FreeCounts, IdentityHasher, IndexEntry, LoadedLease, LoadedLeases, OwnerTable, PoolRange, PoolSet,
    SubnetSpace,
};
use shards::steer::SteerHash;
use shards::{Lease, LeaseState};

use crate::engine::message::IndexChange;
use crate::policy::{Pool, Scope, Snapshot, Subnet};

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
    /// The rules at start, by the clients of all leases loaded; `seed` is the installation's secret.
    pub fn at_start(snapshot: Arc<Snapshot>, steering: &Steering, seed: u64, clients: &[Clients]) -> Self {
        let spaces = subnet_spaces(&snapshot);
        let homes = clients.iter().flat_map(|part| &part.homes).copied();
        let owners = Arc::new(OwnerTable::assign(steering.shards, seed, &spaces, homes));
        Self::with(snapshot, spaces, owners)
    }

    /// The rules of a new configuration: addresses keep their owners. `stray` are the addresses of leases in no
    /// subnet, asked of every shard before. Where subnets and pools are what they were, the tables stay the same ones, so
    /// that no shard has to look at its leases.
    pub fn next(&self, snapshot: Arc<Snapshot>, stray: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let spaces = subnet_spaces(&snapshot);
        let owners = self.owners.rebuild(&spaces, stray);
        if spaces == self.spaces && owners == *self.owners {
            let (owners, free) = (Arc::clone(&self.owners), Arc::clone(&self.free));
            return Self { snapshot, spaces, owners, free };
        }
        Self::with(snapshot, spaces, Arc::new(owners))
    }

    fn with(snapshot: Arc<Snapshot>, spaces: Vec<SubnetSpace>, owners: Arc<OwnerTable>) -> Self {
        let free = Arc::new(FreeCounts::new(owners.shards(), pool_sets(&spaces)));
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

    /// Home of the client with these identifiers.
    fn home_of(&self, hwaddr: &[u8], client_id: &[u8]) -> u8 {
        if client_id.is_empty() { self.shard_of_hardware(hwaddr) } else { self.shard_of_client_id(client_id) }
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

/// Whose the leases of a part of all that were loaded are: where their clients are at home, and what the indexes there
/// are to hold. Made by as many threads as there are parts.
#[derive(Debug)]
pub struct Clients {
    /// Address of each lease, and home of its client.
    homes: Vec<(Ipv4Addr, u8)>,
    /// For each shard, keys and entries of its index by hardware address.
    hardware: Vec<Vec<(u64, IndexEntry)>>,
    /// For each shard, keys and entries of its index by client identifier.
    client_id: Vec<Vec<(u64, IndexEntry)>>,
}

impl Clients {
    /// Those of the leases at `positions`.
    pub fn of(leases: &LoadedLeases, positions: Range<usize>, steering: &Steering) -> Self {
        let shards = usize::from(steering.shards);
        let each = positions.len() / shards + positions.len() / 8;
        let room = || (0..shards).map(|_| Vec::with_capacity(each)).collect();
        let mut this =
            Self { homes: Vec::with_capacity(positions.len()), hardware: room(), client_id: room() };
        for lease in leases.range(positions) {
            let (hwaddr, client_id) = (lease.hwaddr(), lease.client_id());
            this.homes.push((lease.address(), steering.home_of(hwaddr, client_id)));
            // A declined lease is nobody's; its identifiers are wiped anyway (PKT-78).
            if lease.state() == LeaseState::Declined {
                continue;
            }
            let entry = IndexEntry { address: lease.address(), subnet_id: lease.subnet_id() };
            if !hwaddr.is_empty() {
                let shard = usize::from(steering.shard_of_hardware(hwaddr));
                this.hardware[shard].push((steering.identities.key(hwaddr), entry));
            }
            if !client_id.is_empty() {
                let shard = usize::from(steering.shard_of_client_id(client_id));
                this.client_id[shard].push((steering.identities.key(client_id), entry));
            }
        }
        this
    }
}

/// What one shard starts with.
#[derive(Debug, Default)]
pub struct ShardLeases {
    /// All leases that were loaded.
    all: Arc<LoadedLeases>,
    /// Runs of positions of those it owns, ascending.
    owned: Vec<Range<usize>>,
    /// Entries of its index by hardware address.
    pub hardware: Vec<Vec<(u64, IndexEntry)>>,
    /// Entries of its index by client identifier.
    pub client_id: Vec<Vec<(u64, IndexEntry)>>,
    /// Deleted leases that a partner may still have.
    pub deletions: Vec<Lease>,
}

impl ShardLeases {
    /// Leases it owns, ascending by address.
    pub fn owned(&self) -> impl Iterator<Item = LoadedLease<'_>> + '_ {
        self.owned.iter().flat_map(|run| self.all.range(run.clone()))
    }
}

/// Splits what was loaded over the shards: each lease to its owner, index entries to their homes. `clients` are those of
/// all leases.
pub fn split(
    leases: &Arc<LoadedLeases>,
    clients: Vec<Clients>,
    owners: &OwnerTable,
    shards: u8,
) -> Vec<ShardLeases> {
    let mut inputs: Vec<ShardLeases> =
        (0..shards).map(|_| ShardLeases { all: Arc::clone(leases), ..ShardLeases::default() }).collect();
    for part in clients {
        let entries = part.hardware.into_iter().zip(part.client_id);
        for (input, (hardware, client_id)) in inputs.iter_mut().zip(entries) {
            input.hardware.push(hardware);
            input.client_id.push(client_id);
        }
    }
    let mut from = 0;
    while from < leases.len() {
        let address = leases.at(from).address();
        let last = owners.owned_until(address);
        // A block has 64 addresses at most, so that the end of a run is near.
        let run = leases.range(from..leases.len()).take_while(|lease| u32::from(lease.address()) <= last);
        let until = from + run.count();
        inputs[usize::from(owners.owner_of(address))].owned.push(from..until);
        from = until;
    }
    inputs
}

/// Gives deleted leases that a partner may still have to the owners of their addresses.
pub fn split_deletions(deletions: Vec<Lease>, owners: &OwnerTable, inputs: &mut [ShardLeases]) {
    for lease in deletions {
        let owner = usize::from(owners.owner_of(lease.address));
        inputs[owner].deletions.push(lease);
    }
}

/// What addresses are picked from in `spaces`.
pub fn pool_sets(spaces: &[SubnetSpace]) -> impl Iterator<Item = PoolSet> {
    spaces.iter().flat_map(SubnetSpace::pool_sets).map(|(set, _)| set)
}

/// The subnets of a configuration as the partition sees them.
pub fn subnet_spaces(snapshot: &Snapshot) -> Vec<SubnetSpace> {
    let range = |pool: &Pool| PoolRange { first: pool.first, last: pool.last };
    let space = |subnet: &Subnet| SubnetSpace {
        id: subnet.id,
        prefix: subnet.prefix,
        prefix_len: subnet.prefix_len,
        pools: subnet.pools.iter().map(range).collect(),
        parts: match subnet.has_guarded_pools {
            true => Scope::ALL.map(|scope| subnet.pools_for(scope).map(range).collect()).into(),
            false => Vec::new(),
        },
    };
    snapshot.subnets.iter().map(space).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compile::{Host, compile};

    fn snapshot(pool: &str, lifetime: u32) -> Arc<Snapshot> {
        let text = format!(
            r#"{{"Dhcp4": {{"valid-lifetime": {lifetime},
                "subnet4": [{{"id": 1, "subnet": "192.0.2.0/24", "pools": [{{"pool": "{pool}"}}]}}]}}}}"#
        );
        let document = config::parse_dhcp4(text.as_bytes(), "test.conf").unwrap().document;
        Arc::new(compile(&document, &Host::new(&[], 1)).unwrap().snapshot)
    }

    #[test]
    fn tables_stay_the_same_ones_where_subnets_and_pools_do() {
        let (small, large) = ("192.0.2.1 - 192.0.2.99", "192.0.2.1 - 192.0.2.199");
        let rules = Rules::at_start(snapshot(small, 60), &Steering::new(1, 2), 1, &[]);
        let stray = Ipv4Addr::new(198, 51, 100, 1);
        for (name, pool, strays, expected) in [
            ("another lifetime", small, vec![], true),
            ("another pool", large, vec![], false),
            ("a lease in no subnet", small, vec![stray], true),
        ] {
            let next = rules.next(snapshot(pool, 3600), strays);
            let same = (Arc::ptr_eq(&next.owners, &rules.owners), Arc::ptr_eq(&next.free, &rules.free));
            assert_eq!(same, (expected, expected), "{name}");
        }
    }
}
