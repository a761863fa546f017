//! The leases of one shard behind one door.
//!
//! The engine asks a [`Partition`] for everything about the addresses its shard owns. Changing a lease, its
//! free bit, its timer and its counts is one call, so that they cannot come apart. The identity indexes are
//! kept here too but belong to the clients' home: the engine changes them by message.
//!
//! An *available* address is one in a pool whose lease is absent, reclaimed, released or expired; an *open*
//! one is available and not held for a client that was offered it. Both are words of bits, kept up to date by
//! every call and by [`Partition::advance`], which must run about once a second.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Bound;
use std::sync::Arc;

use super::block::SubnetBlocks;
use super::expiry::Expiry;
use super::hold::{Hold, Holds};
use super::table::{Counted, LeaseRow, LeaseTable, NOT_FILED};
use super::{
    FreeCounts, Identities, IdentityIndex, IndexEntry, Lease, LeaseCounts, LeaseState, LoadedLease,
    OwnerTable, PoolSet, SubnetSpace,
};
use crate::Now;

/// Holds that are over and are looked at per allocation: more than one hold is made, so they cannot pile up.
const HOLDS_ENDED_PER_CALL: usize = 16;

/// Holds of a set of pools that are offered to `accept` once nothing else is left.
const HOLDS_REUSED_PER_CALL: usize = 256;

/// That of a hold on an address outside of every pool; no subnet has this id.
const NO_POOLS: PoolSet = PoolSet::part(0, 0);

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
    /// At this position of the subnet's pools, counted in file order; taken modulo the capacity. The pointer
    /// of [`Pick::Next`] does not move.
    At(u64),
    /// After the address last offered in the subnet (the iterative allocator, b.6).
    Next,
}

/// Leases that a list is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted<'a> {
    /// With this client identifier.
    ClientId(&'a [u8]),
    /// With this hardware address.
    HardwareAddress(&'a [u8]),
    /// Of these subnets, ascending; of all where there is none.
    Subnets(&'a [u32]),
}

impl Wanted<'_> {
    fn takes(self, row: &LeaseRow) -> bool {
        match self {
            Self::ClientId(client_id) => row.client_id() == client_id,
            Self::HardwareAddress(hwaddr) => row.hwaddr() == hwaddr,
            Self::Subnets(subnets) => subnets.is_empty() || subnets.binary_search(&row.subnet_id()).is_ok(),
        }
    }
}

/// Bytes a partition keeps, by part.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PartitionMemory {
    /// Leases.
    pub table: usize,
    /// Timers.
    pub expiry: usize,
    /// Free words of all sets of pools.
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
    owners: Arc<OwnerTable>,
    free: Arc<FreeCounts>,
    limits: PartitionLimits,
    /// Ascending by set.
    sets: Vec<SubnetBlocks>,
    /// Ascending by first address.
    pools: Vec<PoolPlace>,
    table: LeaseTable,
    counts: BTreeMap<(u32, u32), LeaseCounts>,
    expiry: Expiry,
    holds: Holds,
    identities: Identities,
}

/// Where the pools that hold an address are.
#[derive(Clone, Copy, Debug)]
struct PoolPlace {
    first: u32,
    last: u32,
    /// Greatest `last` of this pool and those before it: where looking back may stop.
    reach: u32,
    /// Position in `sets`.
    slot: usize,
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
        let identities = Identities {
            hardware: IdentityIndex::new(limits.index_entries_max),
            client_id: IdentityIndex::new(limits.index_entries_max),
        };
        let mut partition = Self {
            shard,
            owners,
            free,
            limits,
            sets: Vec::new(),
            pools: Vec::new(),
            table: LeaseTable::default(),
            counts: BTreeMap::new(),
            expiry: Expiry::default(),
            holds: Holds::new(limits.offer_holds_max),
            identities,
        };
        partition.lay_out(subnets);
        partition
    }

    /// Takes over what was loaded, which this shard owns: `leases` ascending by address, and for each index the entries
    /// of clients whose home it is. Gives how many entries found no place. Does what [`Partition::upsert`] for each of
    /// them would, all at once: pages, timers and indexes are made for what they are to hold.
    ///
    /// # Panics
    /// When there are leases already, or this shard does not own one of `leases`.
    pub fn load<'a>(
        &mut self,
        now: Now,
        leases: impl Iterator<Item = LoadedLease<'a>>,
        hardware: &[Vec<(u64, IndexEntry)>],
        client_id: &[Vec<(u64, IndexEntry)>],
    ) -> usize {
        assert!(self.is_empty() && self.identities.hardware.is_empty(), "loading comes first");
        let (mut waiting, mut reclaimed) = (Vec::new(), Vec::new());
        let mut owned_to: Option<u32> = None;
        let rows = leases.map(|lease| {
            let address = u32::from(lease.address());
            if owned_to.is_none_or(|last| address > last) {
                self.assert_owner(lease.address());
                owned_to = Some(self.owners.owned_until(lease.address()));
            }
            let (packed, _) = lease.packed();
            let filed = Expiry::second(packed.expire());
            if filed != NOT_FILED && lease.state() == LeaseState::ExpiredReclaimed {
                reclaimed.push((filed, address));
            } else if filed != NOT_FILED {
                waiting.push((filed, address));
            }
            if !packed.is_available(now.wall_s()) {
                for place in places_of(&self.pools, address) {
                    self.sets[place.slot].put(address, false, false);
                }
            }
            let row = LeaseRow::loaded(lease, filed);
            let counted = row.counted();
            let counts = self.counts.entry((counted.subnet_id, counted.pool_id)).or_default();
            *counts.of_state(counted.state) += 1;
            (address, row)
        });
        self.table = LeaseTable::load(rows);
        self.expiry = Expiry::load(waiting, reclaimed);
        for blocks in &self.sets {
            self.free.publish(blocks.set, self.shard, free_of(blocks));
        }
        self.identities.hardware.load(hardware) + self.identities.client_id.load(client_id)
    }

    /// Puts another configuration in force: leases and offer holds stay, free words are made anew, iterative
    /// pointers start over as in Kea. Leases that `owners` gives to another shard are taken out and returned,
    /// for the caller to hand over (none, where `owners` came from [`OwnerTable::rebuild`] with every stray
    /// lease). Costs a look at every lease, and nothing where both tables are the ones in force: then the pools are, too.
    pub fn reconfigure(
        &mut self,
        now: Now,
        owners: Arc<OwnerTable>,
        free: Arc<FreeCounts>,
        subnets: &[SubnetSpace],
    ) -> Vec<Lease> {
        if Arc::ptr_eq(&owners, &self.owners) && Arc::ptr_eq(&free, &self.free) {
            self.sets.iter_mut().for_each(SubnetBlocks::start_over);
            return Vec::new();
        }
        self.owners = owners;
        self.free = free;
        let addresses: Vec<u32> = self.table.rows_from(0).map(|(address, _)| address).collect();
        let moved = addresses.iter().filter(|&&address| !self.owns(address.into()));
        let moved: Vec<u32> = moved.copied().collect();
        let moved = moved.into_iter().filter_map(|address| self.take_out(address)).collect();
        self.lay_out(subnets);
        for address in addresses {
            self.refresh(address, now);
        }
        let mut holds = std::mem::replace(&mut self.holds, Holds::new(self.limits.offer_holds_max));
        while let Some(hold) = holds.oldest() {
            holds.remove(hold.address);
            if self.owns(hold.address.into()) {
                let set = self.set_of(hold.address);
                let available = self.has_no_lease(now, hold.address);
                self.insert_hold(now, Hold { set, ..hold }, available);
            }
        }
        moved
    }

    /// Whether this shard owns `address`.
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        self.owners.owner_of(address) == self.shard
    }

    /// The owner table in force.
    pub fn owners(&self) -> &Arc<OwnerTable> {
        &self.owners
    }

    /// The free counts in force, shared by all shards.
    pub fn free_counts(&self) -> &Arc<FreeCounts> {
        &self.free
    }

    /// The lease of `address`, expired or not.
    pub fn get(&self, address: Ipv4Addr) -> Option<Lease> {
        self.table.get(address.into())
    }

    /// Stores `lease` and ends any hold on its address. True when there was no lease before.
    ///
    /// # Panics
    /// When this shard does not own the address.
    pub fn upsert(&mut self, now: Now, lease: &Lease) -> bool {
        self.assert_owner(lease.address);
        let address = u32::from(lease.address);
        let expiry = &mut self.expiry;
        let replaced = self.table.upsert(lease, |old| file(expiry, lease, old));
        let counted = Counted { subnet_id: lease.subnet_id, pool_id: lease.pool_id, state: lease.state };
        if replaced != Some(counted) {
            if let Some(replaced) = replaced {
                self.uncount(replaced);
            }
            let counts = self.counts.entry((lease.subnet_id, lease.pool_id)).or_default();
            *counts.of_state(lease.state) += 1;
        }
        self.holds.remove(address);
        let available = matches!(lease.state, LeaseState::ExpiredReclaimed | LeaseState::Released)
            || lease.is_expired(now.wall_s());
        self.mark(address, available, false);
        replaced.is_none()
    }

    /// Removes and returns the lease of `address`.
    ///
    /// # Panics
    /// When this shard does not own the address.
    pub fn remove(&mut self, now: Now, address: Ipv4Addr) -> Option<Lease> {
        self.assert_owner(address);
        let lease = self.take_out(address.into())?;
        self.refresh(address.into(), now);
        Some(lease)
    }

    /// Picks an open address of `set` that `accept` takes, holds it for `client` and returns it. With
    /// none left it is the address the client already holds, or else that of the oldest hold that `accept`
    /// takes. `client` is the keyed hash of the client's identity; its former hold, if any, ends. `None` when
    /// nothing of the set is available here. `accept` is asked at most once per address that is open.
    pub fn allocate(
        &mut self,
        now: Now,
        set: impl Into<PoolSet>,
        client: u64,
        pick: Pick,
        mut accept: impl FnMut(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        let set = set.into();
        let slot = self.slot_of(set)?;
        self.end_holds(now, HOLDS_ENDED_PER_CALL);
        let mut at = match pick {
            Pick::At(position) => Some(position),
            Pick::Next => None,
        };
        for _ in 0..self.sets[slot].available() {
            let candidate = match at {
                None => self.sets[slot].take_next(),
                Some(from) => self.sets[slot].find_at(from).map(|(position, address)| {
                    at = Some(position + 1);
                    address
                }),
            };
            let Some(address) = candidate else { break };
            if !self.is_available(now, address, client) {
                // Pools of two subnets overlap, or the clock was set back.
                self.refresh(address.into(), now);
            } else if accept(address) {
                self.insert_hold(now, self.new_hold(now, address, client, set), true);
                return Some(address);
            }
        }
        let reused = self
            .holds_to_reuse(slot, client)
            .take(HOLDS_REUSED_PER_CALL)
            .find(|hold| self.has_no_lease(now, hold.address) && accept(hold.address.into()))
            .map(|hold| hold.address);
        let address = Ipv4Addr::from(reused?);
        self.insert_hold(now, self.new_hold(now, address, client, set), true);
        Some(address)
    }

    /// Whether `client` may have `address`: this shard owns it, its lease is absent, reclaimed, released or
    /// expired, and no other client holds it. Whether it is in a pool is not asked.
    pub fn is_available(&self, now: Now, address: Ipv4Addr, client: u64) -> bool {
        let free = self.has_no_lease(now, address.into());
        let held = self.holds.of_address(address.into());
        free && self.owns(address)
            && held.is_none_or(|hold| hold.client == client || hold.until_ns <= now.monotonic_ns)
    }

    /// Keeps `address` from other clients for the hold time; renews a hold of the same client and ends one of
    /// another. Another address held for `client` is let go.
    ///
    /// # Panics
    /// When this shard does not own the address.
    pub fn hold(&mut self, now: Now, address: Ipv4Addr, client: u64) {
        self.assert_owner(address);
        let set = self.set_of(address.into());
        let hold = self.new_hold(now, address, client, set);
        // What the client is offered again changes no bit.
        if !self.holds.renew(hold) {
            self.insert_hold(now, hold, self.has_no_lease(now, address.into()));
        }
    }

    /// The address this shard holds for `client`.
    pub fn held(&self, now: Now, client: u64) -> Option<Ipv4Addr> {
        let hold = self.holds.of_client(client).filter(|hold| hold.until_ns > now.monotonic_ns)?;
        Some(hold.address.into())
    }

    /// Ends the hold on `address`, if there is one.
    pub fn release_hold(&mut self, now: Now, address: Ipv4Addr) {
        if self.holds.remove(address.into()).is_some() {
            self.refresh(address.into(), now);
        }
    }

    /// Available addresses of the set at this shard, held ones included; 0 for an unknown set.
    pub fn free_count(&self, set: impl Into<PoolSet>) -> u32 {
        self.slot_of(set.into()).map_or(0, |slot| free_of(&self.sets[slot]))
    }

    /// Open addresses of the set at this shard: available and held for nobody; 0 for an unknown set.
    /// While there is one, [`Partition::allocate`] does not reuse a hold.
    pub fn open_count(&self, set: impl Into<PoolSet>) -> u64 {
        self.slot_of(set.into()).map_or(0, |slot| self.sets[slot].open())
    }

    /// Addresses in all pools of the set, over all shards; the range of [`Pick::At`].
    pub fn capacity(&self, set: impl Into<PoolSet>) -> u64 {
        self.slot_of(set.into()).map_or(0, |slot| self.sets[slot].capacity())
    }

    /// Hands up to `limit` leases with an address above `after` that are `wanted`, ascending, to `each`. Looks at no
    /// more than `looks_max` leases (at least 1): the answer is then the address up to which it has looked, to go on
    /// from, and else `None`.
    pub fn page(
        &self,
        after: Option<Ipv4Addr>,
        limit: usize,
        looks_max: usize,
        wanted: Wanted<'_>,
        mut each: impl FnMut(Lease),
    ) -> Option<Ipv4Addr> {
        let from = match after {
            None => 0,
            Some(after) => u32::from(after).checked_add(1)?,
        };
        let (mut found, mut looks) = (0, 0);
        for (address, row) in self.table.rows_from(from) {
            if found == limit {
                return None;
            }
            if wanted.takes(row) {
                each(row.lease(address));
                found += 1;
            }
            looks += 1;
            if looks == looks_max {
                return Some(address.into());
            }
        }
        None
    }

    /// Hands every lease, ascending by address, to `each`.
    pub fn for_each(&self, each: impl FnMut(Lease)) {
        self.table.rows_from(0).map(|(address, row)| row.lease(address)).for_each(each);
    }

    /// Addresses of leases outside every subnet, one per 64-address block: what [`OwnerTable::rebuild`] asks
    /// for.
    pub fn strays(&self) -> Vec<Ipv4Addr> {
        let mut strays: Vec<u32> = Vec::new();
        let mut from = Some(0);
        // From one lease to the first behind what is known of its surroundings: subnets are passed in one step.
        while let Some((address, _)) = from.and_then(|from| self.table.rows_from(from).next()) {
            let known_until = self.owners.known_until(address);
            if known_until.is_none() {
                strays.push(address);
            }
            from = known_until.unwrap_or(address | 63).checked_add(1);
        }
        strays.into_iter().map(Ipv4Addr::from).collect()
    }

    /// The greatest `cltt` of all leases; 0 where there is none. Costs a look at every lease.
    pub fn latest_cltt(&self) -> u64 {
        self.table.rows_from(0).map(|(_, row)| row.cltt()).max().unwrap_or(0)
    }

    /// How many leases there are, in any state.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Lease counts per (subnet id, pool id), ascending; those without a lease are left out.
    pub fn counts(&self) -> impl Iterator<Item = ((u32, u32), LeaseCounts)> + '_ {
        self.counts.iter().map(|(&key, &counts)| (key, counts))
    }

    /// Lets the clock reach `now`: addresses whose lease has run out become available, holds that are over
    /// end. Looks at no more than `limit` of each; true when more are waiting. A wall clock that was set back
    /// is followed back.
    pub fn advance(&mut self, now: Now, limit: usize) -> bool {
        let holds_left = self.end_holds(now, limit);
        let due = Expiry::due_before(now.wall_s());
        for _ in 0..limit {
            let entry = if self.expiry.seen < due {
                self.expiry.waiting.range(self.expiry.seen..due).next().copied()
            } else {
                self.expiry.waiting.range(due..self.expiry.seen).next_back().copied()
            };
            let Some(entry) = entry else {
                self.expiry.seen = due;
                return holds_left;
            };
            let (second, address) = entry;
            if self.expiry.seen >= due {
                self.expiry.seen = entry;
            } else {
                // Every address is below the limited broadcast address, which is never leased; if a file says
                // otherwise, its entry is passed with the whole second.
                self.expiry.seen = address.checked_add(1).map_or((second + 1, 0), |next| (second, next));
                self.settle(entry);
            }
            self.refresh(address, now);
        }
        true
    }

    /// Appends up to `limit` expired leases that await reclamation (state other than 2, ALC-43) to `out`,
    /// oldest first: all of them, or those that come after the one of this address that ran out at this second.
    /// A lease stays in the list until it is removed or stored with another state or expiry.
    pub fn expired(&mut self, now: Now, after: Option<(u64, Ipv4Addr)>, limit: usize, out: &mut Vec<Lease>) {
        let due = Expiry::due_before(now.wall_s());
        let mut after = after.map_or(Bound::Unbounded, |(expire, address)| {
            Bound::Excluded((Expiry::second(Some(expire)), address.into()))
        });
        // The clock may have been set back since.
        if let Bound::Excluded(passed) = after
            && passed >= due
        {
            return;
        }
        let full = out.len() + limit;
        while out.len() < full {
            let next = self.expiry.waiting.range((after, Bound::Excluded(due))).next().copied();
            let Some(entry) = next else { return };
            after = Bound::Excluded(entry);
            if self.settle(entry) {
                out.extend(self.table.get(entry.1));
            }
        }
    }

    /// Appends up to `limit` addresses of reclaimed rows whose expiry is more than `hold_reclaimed_s` ago to
    /// `out`, oldest first (ALC-45).
    pub fn purgeable(&self, now: Now, hold_reclaimed_s: u32, limit: usize, out: &mut Vec<Ipv4Addr>) {
        let due = Expiry::due_before(now.wall_s().saturating_sub(u64::from(hold_reclaimed_s)));
        let rows = self.expiry.reclaimed.range(..due).take(limit);
        out.extend(rows.map(|&(_, address)| Ipv4Addr::from(address)));
    }

    /// Identity indexes of the clients whose home or arrival shard this is.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// The same, to change them.
    pub fn identities_mut(&mut self) -> &mut Identities {
        &mut self.identities
    }

    /// Bytes kept, by part. Costs a look at every lease.
    pub fn memory(&self) -> PartitionMemory {
        PartitionMemory {
            table: self.table.memory(),
            expiry: self.expiry.memory(),
            blocks: self.sets.iter().map(SubnetBlocks::memory).sum(),
            holds: self.holds.memory(),
            indexes: self.identities.hardware.memory() + self.identities.client_id.memory(),
        }
    }

    fn assert_owner(&self, address: Ipv4Addr) {
        let owner = self.owners.owner_of(address);
        assert!(owner == self.shard, "shard {} is asked to change {address}, which {owner} owns", self.shard);
    }

    /// Makes the free words of `subnets` as if there were no lease.
    fn lay_out(&mut self, subnets: &[SubnetSpace]) {
        let sets = subnets.iter().flat_map(SubnetSpace::pool_sets);
        let blocks = sets.map(|(set, pools)| SubnetBlocks::new(set, pools, &self.owners, self.shard));
        self.sets = blocks.collect();
        self.sets.sort_by_key(|blocks| blocks.set);
        let places = self.sets.iter().enumerate().flat_map(|(slot, blocks)| {
            blocks.ranges().map(move |(first, last)| PoolPlace { first, last, reach: last, slot })
        });
        self.pools = places.collect();
        self.pools.sort_by_key(|place| place.first);
        let mut reach = 0;
        for place in &mut self.pools {
            reach = reach.max(place.last);
            place.reach = reach;
        }
        for blocks in &self.sets {
            self.free.publish(blocks.set, self.shard, free_of(blocks));
        }
    }

    fn slot_of(&self, set: PoolSet) -> Option<usize> {
        self.sets.binary_search_by_key(&set, |blocks| blocks.set).ok()
    }

    /// Pools that hold `address`.
    fn set_of(&self, address: u32) -> PoolSet {
        let mut places = places_of(&self.pools, address);
        places.next().map_or(NO_POOLS, |place| self.sets[place.slot].set)
    }

    /// Holds that may be given to `client` where nothing else is left: its own, and then the oldest ones. A pool may
    /// be in several parts of its subnet, and what is held of it was picked from any of them.
    fn holds_to_reuse(&self, slot: usize, client: u64) -> impl Iterator<Item = Hold> + '_ {
        let blocks = &self.sets[slot];
        let subnet_id = blocks.set.subnet_id();
        let first = self.sets.partition_point(|other| other.set < subnet_id.into());
        let parts = self.sets[first..].iter().take_while(move |other| other.set.subnet_id() == subnet_id);
        let others = parts.filter(|other| other.set != blocks.set);
        let own = self.holds.of_client(client).into_iter();
        let oldest = self.holds.of_set(blocks.set);
        let of_others = others.flat_map(|other| self.holds.of_set(other.set));
        own.chain(oldest).chain(of_others).filter(|hold| blocks.contains(hold.address))
    }

    /// Sets the bits of `address` by its lease and hold. Only for addresses this shard owns or has just lost.
    fn refresh(&mut self, address: u32, now: Now) {
        let available = self.owns(address.into()) && self.has_no_lease(now, address);
        let held = self.holds.of_address(address).is_some();
        self.mark(address, available, held);
    }

    /// Whether no lease stands in the way of giving `address` to anybody.
    fn has_no_lease(&self, now: Now, address: u32) -> bool {
        self.table.row(address).is_none_or(|row| row.is_available(now.wall_s()))
    }

    /// Sets the bits of `address`.
    #[inline]
    fn mark(&mut self, address: u32, available: bool, held: bool) {
        for place in places_of(&self.pools, address) {
            let blocks = &mut self.sets[place.slot];
            if blocks.put(address, available, held) {
                self.free.publish(blocks.set, self.shard, free_of(blocks));
            }
        }
    }

    fn take_out(&mut self, address: u32) -> Option<Lease> {
        let lease = self.table.get(address)?;
        let row = self.table.remove(address)?;
        if row.state() == LeaseState::ExpiredReclaimed {
            self.expiry.reclaimed.remove(&(row.filed, address));
        } else {
            self.expiry.waiting.remove(&(row.filed, address));
        }
        self.uncount(row.counted());
        Some(lease)
    }

    fn uncount(&mut self, row: Counted) {
        let key = (row.subnet_id, row.pool_id);
        if let Some(counts) = self.counts.get_mut(&key) {
            *counts.of_state(row.state) -= 1;
            if counts.total() == 0 {
                self.counts.remove(&key);
            }
        }
    }

    fn new_hold(&self, now: Now, address: Ipv4Addr, client: u64, set: PoolSet) -> Hold {
        let until_ns = now.monotonic_ns.saturating_add(self.limits.offer_hold_ms.saturating_mul(1_000_000));
        Hold { address: address.into(), client, set, until_ns }
    }

    /// Holds an address of this shard; `available` says whether a lease stands in the way.
    fn insert_hold(&mut self, now: Now, hold: Hold, available: bool) {
        let mut ended = [hold.address; 3];
        let mut count = 0;
        self.holds.insert(hold, |other| {
            ended[count] = other.address;
            count += 1;
        });
        for &address in ended[..count].iter().filter(|&&address| address != hold.address) {
            self.refresh(address, now);
        }
        self.mark(hold.address, available, true);
    }

    /// Ends up to `limit` holds that are over; true when more are.
    fn end_holds(&mut self, now: Now, limit: usize) -> bool {
        for _ in 0..limit {
            match self.holds.oldest() {
                Some(hold) if hold.until_ns <= now.monotonic_ns => {
                    self.holds.remove(hold.address);
                    self.refresh(hold.address, now);
                }
                _ => return false,
            }
        }
        self.holds.oldest().is_some_and(|hold| hold.until_ns <= now.monotonic_ns)
    }

    /// Moves an entry that came up early to where its lease has got to; true when it did not.
    fn settle(&mut self, entry: (u32, u32)) -> bool {
        let (second, address) = entry;
        let expire = self.table.row(address).and_then(LeaseRow::expire);
        let actual = Expiry::second(expire);
        if actual == second {
            return true;
        }
        self.expiry.waiting.remove(&entry);
        if actual != NOT_FILED {
            self.expiry.waiting.insert((actual, address));
        }
        self.table.set_filed(address, actual);
        false
    }
}

/// Files `lease` by when it runs out, where `old` is the row it replaces; where it is filed then.
fn file(expiry: &mut Expiry, lease: &Lease, old: Option<&LeaseRow>) -> u32 {
    let address = u32::from(lease.address);
    let mut waiting = NOT_FILED;
    match old {
        Some(old) if old.state() == LeaseState::ExpiredReclaimed => {
            expiry.reclaimed.remove(&(old.filed, address));
        }
        Some(old) => waiting = old.filed,
        None => {}
    }
    let expire = (!lease.is_infinite()).then(|| lease.expire());
    if lease.state == LeaseState::ExpiredReclaimed {
        expiry.waiting.remove(&(waiting, address));
        expiry.reclaim(address, expire)
    } else {
        expiry.wait(address, waiting, expire)
    }
}

fn free_of(blocks: &SubnetBlocks) -> u32 {
    u32::try_from(blocks.available()).unwrap_or(u32::MAX)
}

/// Pools that hold `address`.
fn places_of(pools: &[PoolPlace], address: u32) -> impl Iterator<Item = PoolPlace> + '_ {
    let upto = pools.partition_point(|place| place.first <= address);
    let near = pools[..upto].iter().rev().take_while(move |place| place.reach >= address);
    near.filter(move |place| place.last >= address).copied()
}

#[cfg(test)]
mod tests;
