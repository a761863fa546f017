//! Who owns an address.
use std::net::Ipv4Addr;
/// An inclusive range of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolRange {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address, inclusive.
    pub last: Ipv4Addr,
}

/// The addresses of one subnet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubnetSpace {
    /// Id of the subnet.
    pub id: u32,
    /// Network address.
    pub prefix: Ipv4Addr,
    /// Prefix length, 0..=32.
    pub prefix_len: u8,
    /// Pools in file order.
    pub pools: Vec<PoolRange>,
}

/// The owner of every address.
#[derive(Clone, Debug)]
pub struct OwnerTable {}

impl OwnerTable {
    /// Start-up assignment, a pure function of its arguments: a block with leases goes to the home of most of
    /// them, the others are dealt. `leases` are (address, home shard of the client). `shards` is 1..=64.
    pub fn assign(
        shards: u8,
        seed: u64,
        subnets: &[SubnetSpace],
        leases: impl IntoIterator<Item = (Ipv4Addr, u8)>,
    ) -> Self {
        todo!()
    }

    /// The table for a new configuration. Every address of a subnet the server has had since it started keeps
    /// its owner; new subnets are dealt, but a 64-address block in `stray_blocks` (addresses of leases outside
    /// every subnet, in any order) stays with the owner it has.
    pub fn rebuild(&self, subnets: &[SubnetSpace], stray_leases: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        todo!()
    }

    /// The shard that owns `address`, in a subnet or not.
    pub fn owner_of(&self, address: Ipv4Addr) -> u8 {
        todo!()
    }

    /// How many shards there are.
    pub fn shards(&self) -> u8 {
        todo!()
    }

    /// Whether `address` lies in no subnet that the server has had since it started.
    pub fn is_stray(&self, address: Ipv4Addr) -> bool {
        todo!()
    }
}
