//! The leases of one shard behind one door.
//!
//! The engine asks a [`Partition`] for everything about the addresses its shard owns. Changing a lease, its
//! free bit, its timer and its counts is one call, so that they cannot come apart. The identity indexes are
//! kept here too but belong to the clients' home: the engine changes them by message.
//!
//! An *available* address is one in a pool whose lease is absent, reclaimed, released or expired; an *open* one
//! is available and not held for a client that was offered it. Both are words of bits, kept up to date by every
//! call and by [`Partition::advance`], which must run about once a second.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::{FreeCounts, Identities, Lease, LeaseCounts, OwnerTable, SubnetSpace};
use crate::Now;

/// Limits of a partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionLimits {
    /// How long an offer keeps its address from other clients, milliseconds.
    pub offer_hold_ms: u64,
    /// Offer holds at a time; beyond it the oldest is forgotten.
    pub offer_holds_max: usize,
    /// Index entries at a time, of both indexes each; beyond it an entry is not added and counted.
    pub index_entries_max: usize,
}

/// Where an allocator starts to look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pick {
    /// At this position of the subnet's pools, counted in file order; taken modulo the capacity. The pointer of
    /// [`Pick::Next`] does not move.
    At(u64),
    /// After the address last offered in the subnet (the iterative allocator, b.6).
    Next,
}

/// Bytes a partition keeps, by part.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PartitionMemory {
    /// Leases.
    pub table: usize,
    /// Timers.
    pub expiry: usize,
    /// Free words of all subnets.
    pub blocks: usize,
    /// Offer holds.
    pub holds: usize,
    /// Identity indexes.
    pub indexes: usize,
}

/// What one shard owns.
#[derive(Debug)]
pub struct Partition {
    shard: u8,
}

impl Partition {
    /// An empty partition of `shard`. `subnets` are those `owners` and `free` were built from.
    pub fn new(
        shard: u8,
        owners: Arc<OwnerTable>,
        free: Arc<FreeCounts>,
        subnets: &[SubnetSpace],
        limits: PartitionLimits,
    ) -> Self {
        todo!()
    }

    /// Puts another configuration in force: leases stay, free words are made anew, iterative pointers of
    /// surviving subnets start over as in Kea, offer holds stay. Leases that `owners` gives to another shard are
    /// taken out and returned, for the caller to hand over (none, where `owners` came from
    /// [`OwnerTable::rebuild`] with every stray block).
    pub fn reconfigure(
        &mut self,
        now: Now,
        owners: Arc<OwnerTable>,
        free: Arc<FreeCounts>,
        subnets: &[SubnetSpace],
    ) -> Vec<Lease> {
        todo!()
    }

    /// Whether this shard owns `address`.
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        todo!()
    }

    /// The owner table in force.
    pub fn owners(&self) -> &Arc<OwnerTable> {
        todo!()
    }

    /// The free counts in force, shared by all shards.
    pub fn free_counts(&self) -> &Arc<FreeCounts> {
        todo!()
    }

    /// The lease of `address`, expired or not.
    pub fn get(&self, address: Ipv4Addr) -> Option<Lease> {
        todo!()
    }

    /// Stores `lease` and ends any hold on its address. True when there was no lease before.
    ///
    /// # Panics
    /// When this shard does not own the address.
    pub fn upsert(&mut self, now: Now, lease: &Lease) -> bool {
        todo!()
    }

    /// Removes and returns the lease of `address`.
    ///
    /// # Panics
    /// When this shard does not own the address.
    pub fn remove(&mut self, now: Now, address: Ipv4Addr) -> Option<Lease> {
        todo!()
    }

    /// Picks an open address of `subnet_id` that `accept` takes, holds it for `client` and returns it. With none
    /// left the oldest hold that `accept` takes is reused. `client` is the keyed hash of the client's identity;
    /// its former hold, if any, ends. `None` when nothing of the subnet is available here.
    pub fn allocate(
        &mut self,
        now: Now,
        subnet_id: u32,
        client: u64,
        pick: Pick,
        accept: impl FnMut(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        todo!()
    }

    /// Whether `client` may have `address`: this shard owns it, its lease is absent, reclaimed, released or
    /// expired, and no other client holds it. Whether it is in a pool is not asked.
    pub fn is_available(&self, now: Now, address: Ipv4Addr, client: u64) -> bool {
        todo!()
    }

    /// Keeps `address` from other clients for the hold time; renews a hold of the same client. Another address
    /// held for `client` is let go.
    ///
    /// # Panics
    /// When this shard does not own the address.
    pub fn hold(&mut self, now: Now, address: Ipv4Addr, client: u64) {
        todo!()
    }

    /// The address this shard holds for `client`.
    pub fn held(&self, now: Now, client: u64) -> Option<Ipv4Addr> {
        todo!()
    }

    /// Ends the hold on `address`, if there is one.
    pub fn release_hold(&mut self, now: Now, address: Ipv4Addr) {
        todo!()
    }

    /// Available addresses of the subnet at this shard, held ones included; 0 for an unknown subnet.
    pub fn free_count(&self, subnet_id: u32) -> u32 {
        todo!()
    }

    /// Addresses in all pools of the subnet, over all shards; the range of [`Pick::At`].
    pub fn capacity(&self, subnet_id: u32) -> u64 {
        todo!()
    }

    /// Hands up to `limit` leases with an address above `after`, ascending, to `each`; only those of `subnets`
    /// unless it is empty. Costs what it passes over, at most every lease of the shard.
    pub fn page(&self, after: Option<Ipv4Addr>, limit: usize, subnets: &[u32], each: impl FnMut(Lease)) {
        todo!()
    }

    /// Hands every lease, ascending by address, to `each`.
    pub fn for_each(&self, each: impl FnMut(Lease)) {
        todo!()
    }

    /// How many leases there are, in any state.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lease counts per subnet and pool id, in that order; zero rows are left out.
    pub fn counts(&self) -> impl Iterator<Item = ((u32, u32), LeaseCounts)> + '_ {
        todo!();
        #[allow(unreachable_code)]
        std::iter::empty()
    }

    /// Lets the clock reach `now`: addresses whose lease has run out become available, holds that are over end.
    /// Looks at no more than `limit` of each; true when more are waiting. A wall clock that was set back is
    /// followed back.
    pub fn advance(&mut self, now: Now, limit: usize) -> bool {
        todo!()
    }

    /// Appends up to `limit` expired leases that await reclamation (state other than 2, ALC-43) to `out`, oldest
    /// first. A lease stays in the list until it is removed or stored with another state or expiry.
    pub fn expired(&mut self, now: Now, limit: usize, out: &mut Vec<Lease>) {
        todo!()
    }

    /// Appends up to `limit` addresses of reclaimed rows whose expiry is more than `hold_reclaimed_s` ago to
    /// `out`, oldest first (ALC-45).
    pub fn purgeable(&self, now: Now, hold_reclaimed_s: u32, limit: usize, out: &mut Vec<Ipv4Addr>) {
        todo!()
    }

    /// Wall-clock second at which the next lease runs out or the next hold ends at the latest; `None` when
    /// nothing is waiting.
    pub fn next_deadline_wall_s(&self) -> Option<u64> {
        todo!()
    }

    /// Identity indexes of the clients whose home or arrival shard this is.
    pub fn identities(&self) -> &Identities {
        todo!()
    }

    /// The same, to change them.
    pub fn identities_mut(&mut self) -> &mut Identities {
        todo!()
    }

    /// Bytes kept, by part.
    pub fn memory(&self) -> PartitionMemory {
        todo!()
    }
}
