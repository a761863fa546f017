//! Who owns an address.
//!
//! The pools of every configured subnet are cut into blocks, one byte each; the rest of a subnet's space is
//! dealt 64 addresses at a time by a formula, so that a /8 costs no more than its pools. An address in no
//! subnet has an owner too, by hash. A table is never changed: a reload makes another one, in which every
//! address of a subnet the server has had keeps its owner, because its lease, row and timer live there.
//!
//! Invariant: `owner_of` is a total function; no address has two owners.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Largest block: one word of free bits.
const BLOCK_SHIFT_MAX: u8 = 6;

/// Every shard gets about this many blocks of a pool at least, while a block can still be made smaller.
const BLOCKS_PER_SHARD_MIN: u64 = 4;

/// An inclusive range of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolRange {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address, inclusive.
    pub last: Ipv4Addr,
}

/// Pools that addresses are picked from: those of a subnet, or a part of them that some clients alone are given
/// addresses from.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PoolSet(u64);

impl PoolSet {
    /// Part `part` of the pools of a subnet.
    pub const fn part(subnet_id: u32, part: u8) -> Self {
        Self((subnet_id as u64) << 8 | part as u64)
    }

    /// Id of the subnet.
    pub const fn subnet_id(self) -> u32 {
        (self.0 >> 8) as u32
    }
}

impl From<u32> for PoolSet {
    /// All pools of a subnet, which are its part 0 where it has no others.
    fn from(subnet_id: u32) -> Self {
        Self::part(subnet_id, 0)
    }
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
    /// Parts of the pools, by number; a pool may be in several, and in none. Empty where the pools are one part.
    pub parts: Vec<Vec<PoolRange>>,
}

/// The owner of every address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnerTable {
    shards: u8,
    seed: u64,
    /// Disjoint and ascending.
    segments: Vec<Segment>,
    /// Owners of the blocks of all [`Deal::Blocks`] segments.
    owners: Vec<u8>,
}

/// A run of addresses whose owners are found in one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Segment {
    first: u32,
    last: u32,
    deal: Deal,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Deal {
    /// A byte per block of `1 << shift` addresses; `offset` is that of the block `first` lies in.
    Blocks { shift: u8, offset: usize },
    /// The 64-address blocks take turns, `turn` first.
    Turns { turn: u8 },
}

impl OwnerTable {
    /// Start-up assignment, a pure function of its arguments: a block with leases goes to the home of most of
    /// them (the lowest shard in a tie), the others are dealt to whoever has least, in turn. `leases` are
    /// (address, home shard of the client) in any order.
    ///
    /// # Panics
    /// When `shards` is not 1..=64.
    pub fn assign(
        shards: u8,
        seed: u64,
        subnets: &[SubnetSpace],
        leases: impl IntoIterator<Item = (Ipv4Addr, u8)>,
    ) -> Self {
        assert!((1..=64).contains(&shards), "shard count {shards} is not 1..=64");
        let empty = Self { shards, seed, segments: Vec::new(), owners: Vec::new() };
        let votes = leases.into_iter().map(|(address, home)| (u32::from(address), home % shards));
        empty.extended(subnets, votes.collect())
    }

    /// The table for a new configuration. Every address of a subnet the server has had since it started keeps
    /// its owner; new subnets are dealt, but a block with one of `stray_leases` (addresses of leases outside
    /// every subnet, in any order) stays with the owner that lease has.
    pub fn rebuild(&self, subnets: &[SubnetSpace], stray_leases: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        // The hash gives out groups of 64 addresses and no block crosses one: strays of a block agree.
        let votes = stray_leases.into_iter().filter(|&address| self.is_stray(address));
        self.extended(subnets, votes.map(|address| (u32::from(address), self.owner_of(address))).collect())
    }

    /// The shard that owns `address`, in a subnet or not.
    pub fn owner_of(&self, address: Ipv4Addr) -> u8 {
        if self.shards == 1 {
            return 0;
        }
        self.block_at(u32::from(address)).0
    }

    /// An address, at least this one, up to which all have the same owner: the last of its block.
    pub fn owned_until(&self, address: Ipv4Addr) -> u32 {
        self.block_at(u32::from(address)).1
    }

    /// How many shards there are.
    pub fn shards(&self) -> u8 {
        self.shards
    }

    /// Whether `address` lies in no subnet that the server has had since it started.
    pub fn is_stray(&self, address: Ipv4Addr) -> bool {
        self.segment_at(u32::from(address)).is_err()
    }

    /// The last address of the run around `address` that is known throughout, which no lease makes a stray one; `None` for
    /// an address that is.
    pub fn known_until(&self, address: u32) -> Option<u32> {
        self.segment_at(address).ok().map(|segment| segment.last)
    }

    /// Hands the runs of addresses of `range` that `shard` owns to `each`, ascending, as (first, last).
    pub fn for_each_owned(&self, range: PoolRange, shard: u8, mut each: impl FnMut(u32, u32)) {
        let last = u32::from(range.last);
        let mut address = u32::from(range.first);
        while address <= last {
            let (owner, block_last) = self.block_at(address);
            let run_last = block_last.min(last);
            if owner == shard {
                each(address, run_last);
            }
            match run_last.checked_add(1) {
                Some(next) => address = next,
                None => return,
            }
        }
    }

    /// Bytes kept.
    pub fn memory(&self) -> usize {
        self.owners.capacity() + self.segments.capacity() * size_of::<Segment>()
    }

    /// Owner of `address`, and the last address up to which it is known to be the same.
    fn block_at(&self, address: u32) -> (u8, u32) {
        match self.segment_at(address) {
            Ok(segment) => match segment.deal {
                Deal::Blocks { shift, offset } => {
                    let block = (address >> shift) - (segment.first >> shift);
                    let last = address | ((1 << shift) - 1);
                    (self.owners[offset + block as usize], last.min(segment.last))
                }
                Deal::Turns { turn } => {
                    let group = u64::from(address >> BLOCK_SHIFT_MAX) + u64::from(turn);
                    ((group % u64::from(self.shards)) as u8, (address | 63).min(segment.last))
                }
            },
            Err(next) => {
                let group = u64::from(address >> BLOCK_SHIFT_MAX);
                let owner = (mix(self.seed ^ group) % u64::from(self.shards)) as u8;
                let gap_last = self.segments.get(next).map_or(u32::MAX, |segment| segment.first - 1);
                (owner, (address | 63).min(gap_last))
            }
        }
    }

    /// The segment that holds `address`, or the position of the next one.
    fn segment_at(&self, address: u32) -> Result<&Segment, usize> {
        let next = self.segments.partition_point(|segment| segment.first <= address);
        match next.checked_sub(1).map(|index| &self.segments[index]) {
            Some(segment) if address <= segment.last => Ok(segment),
            _ => Err(next),
        }
    }

    /// This table and, where it has nothing yet, `subnets`. `votes` name (address, shard) of leases in the
    /// new space; a block goes to whom most of its votes name.
    fn extended(&self, subnets: &[SubnetSpace], mut votes: Vec<(u32, u8)>) -> Self {
        votes.sort_unstable();
        let mut build = Build {
            shards: self.shards,
            seed: self.seed,
            votes,
            segments: self.segments.iter().map(|segment| (segment.first, *segment)).collect(),
            owners: self.owners.clone(),
        };
        // Where prefixes are nested the most specific one decides.
        let mut order: Vec<&SubnetSpace> = subnets.iter().collect();
        order.sort_by_key(|subnet| (std::cmp::Reverse(subnet.prefix_len), subnet.id));
        for subnet in order {
            build.add(subnet);
        }
        build.owners.shrink_to_fit();
        Self {
            shards: self.shards,
            seed: self.seed,
            segments: build.segments.into_values().collect(),
            owners: build.owners,
        }
    }
}

struct Build {
    shards: u8,
    seed: u64,
    /// (address, shard), ascending.
    votes: Vec<(u32, u8)>,
    segments: BTreeMap<u32, Segment>,
    owners: Vec<u8>,
}

/// Who has how much of the subnet being dealt.
struct Hand {
    /// Pool addresses per shard.
    load: Vec<u64>,
    turn: usize,
}

impl Hand {
    fn deal(&mut self, capacity: u64) -> u8 {
        let shards = self.load.len();
        let mut chosen = self.turn;
        for step in 1..shards {
            let shard = (self.turn + step) % shards;
            if self.load[shard] < self.load[chosen] {
                chosen = shard;
            }
        }
        self.turn = (chosen + 1) % shards;
        self.load[chosen] += capacity;
        chosen as u8
    }
}

impl Build {
    fn add(&mut self, subnet: &SubnetSpace) {
        let (first, last) = subnet.bounds();
        let gaps = self.gaps(first, last);
        if gaps.is_empty() {
            return;
        }
        let pools = subnet.merged_pools();
        let shift = block_shift(&pools, self.shards);
        let turn = (mix(self.seed ^ (u64::from(subnet.id) << 32)) % u64::from(self.shards)) as u8;
        let mut hand = Hand { load: vec![0; usize::from(self.shards)], turn: usize::from(turn) };
        // Blocks with votes first: the others then even out what each shard has.
        let mut undecided = Vec::new();
        for (gap_first, gap_last) in gaps {
            let mut at = Some(gap_first);
            for (area_first, area_last) in block_areas(&pools, shift, gap_first, gap_last) {
                if let Some(from) = at.filter(|&from| from < area_first) {
                    self.add_outside(from, area_first - 1, turn);
                }
                self.add_blocks(area_first, area_last, shift, &pools, &mut hand, &mut undecided);
                at = area_last.checked_add(1);
            }
            if let Some(from) = at.filter(|&from| from <= gap_last) {
                self.add_outside(from, gap_last, turn);
            }
        }
        for (index, capacity) in undecided {
            self.owners[index] = hand.deal(capacity);
        }
    }

    /// Ranges of `first..=last` that no segment covers, ascending.
    fn gaps(&self, first: u32, last: u32) -> Vec<(u32, u32)> {
        let before = self.segments.range(..first).next_back().map(|(_, segment)| segment);
        let inside = self.segments.range(first..=last).map(|(_, segment)| segment);
        let mut gaps = Vec::new();
        let mut at = Some(first);
        for segment in before.into_iter().filter(|segment| segment.last >= first).chain(inside) {
            if let Some(from) = at.filter(|&from| from < segment.first) {
                gaps.push((from, segment.first - 1));
            }
            at = segment.last.checked_add(1);
        }
        if let Some(from) = at.filter(|&from| from <= last) {
            gaps.push((from, last));
        }
        gaps
    }

    /// Blocks of `first..=last`; those without votes go to `undecided` as (index of the owner, capacity).
    fn add_blocks(
        &mut self,
        first: u32,
        last: u32,
        shift: u8,
        pools: &[(u32, u32)],
        hand: &mut Hand,
        undecided: &mut Vec<(usize, u64)>,
    ) {
        let offset = self.owners.len();
        self.segments.insert(first, Segment { first, last, deal: Deal::Blocks { shift, offset } });
        let mut pool = pools.partition_point(|&(_, pool_last)| pool_last < first);
        let mut vote = self.votes.partition_point(|&(address, _)| address < first);
        let mut block_first = first;
        loop {
            let block_last = (block_first | ((1 << shift) - 1)).min(last);
            let mut capacity = 0;
            while let Some(&(pool_first, pool_last)) = pools.get(pool).filter(|range| range.0 <= block_last) {
                let from = pool_first.max(block_first);
                capacity += u64::from(pool_last.min(block_last).saturating_sub(from)) + 1;
                if pool_last > block_last {
                    break;
                }
                pool += 1;
            }
            let votes_from = vote;
            while self.votes.get(vote).is_some_and(|&(address, _)| address <= block_last) {
                vote += 1;
            }
            match self.majority(votes_from, vote) {
                Some(shard) => {
                    hand.load[usize::from(shard)] += capacity;
                    self.owners.push(shard);
                }
                None => {
                    undecided.push((self.owners.len(), capacity));
                    self.owners.push(0);
                }
            }
            if block_last == last {
                return;
            }
            block_first = block_last + 1;
        }
    }

    /// `first..=last` outside of pools: by turns, but 64-address groups with votes get a byte of their own.
    fn add_outside(&mut self, first: u32, last: u32, turn: u8) {
        let mut vote = self.votes.partition_point(|&(address, _)| address < first);
        let mut at = Some(first);
        while let Some(&(address, _)) = self.votes.get(vote).filter(|&&(address, _)| address <= last) {
            let group_first = (address & !63).max(first);
            let group_last = (address | 63).min(last);
            let votes_from = vote;
            while self.votes.get(vote).is_some_and(|&(address, _)| address <= group_last) {
                vote += 1;
            }
            if let Some(from) = at.filter(|&from| from < group_first) {
                self.segments
                    .insert(from, Segment { first: from, last: group_first - 1, deal: Deal::Turns { turn } });
            }
            let owner = self.majority(votes_from, vote).unwrap_or(turn);
            let deal = Deal::Blocks { shift: BLOCK_SHIFT_MAX, offset: self.owners.len() };
            self.owners.push(owner);
            self.segments.insert(group_first, Segment { first: group_first, last: group_last, deal });
            at = group_last.checked_add(1);
        }
        if let Some(from) = at.filter(|&from| from <= last) {
            self.segments.insert(from, Segment { first: from, last, deal: Deal::Turns { turn } });
        }
    }

    /// Whom most of `votes[from..until]` name; the lowest shard in a tie.
    fn majority(&self, from: usize, until: usize) -> Option<u8> {
        let mut counts = [0_u32; 64];
        for &(_, shard) in &self.votes[from..until] {
            counts[usize::from(shard)] += 1;
        }
        let most = *counts.iter().max()?;
        (from < until)
            .then(|| counts.iter().position(|&count| count == most))
            .flatten()
            .map(|shard| shard as u8)
    }
}

impl SubnetSpace {
    /// What addresses are picked from, each with its pools in file order.
    pub fn pool_sets(&self) -> impl Iterator<Item = (PoolSet, &[PoolRange])> {
        let whole = self.parts.is_empty().then_some(self.pools.as_slice());
        let parts = self.parts.iter().map(Vec::as_slice);
        let numbered = whole.into_iter().chain(parts).zip(0..);
        numbered.map(|(pools, part)| (PoolSet::part(self.id, part), pools))
    }

    /// First and last address of the prefix.
    fn bounds(&self) -> (u32, u32) {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_len.min(32))).unwrap_or(0);
        let first = u32::from(self.prefix) & mask;
        (first, first | !mask)
    }

    /// Pools as disjoint ascending ranges.
    fn merged_pools(&self) -> Vec<(u32, u32)> {
        let ranges = self.pools.iter().map(|pool| (u32::from(pool.first), u32::from(pool.last)));
        merged(ranges.filter(|(first, last)| first <= last).collect())
    }
}

/// Largest power of two of addresses that is at most 64 and at most pool size ÷ (4 × shards), as a shift.
fn block_shift(pools: &[(u32, u32)], shards: u8) -> u8 {
    let size: u64 = pools.iter().map(|&(first, last)| u64::from(last - first) + 1).sum();
    let target = (size / (BLOCKS_PER_SHARD_MIN * u64::from(shards))).max(1);
    (target.ilog2() as u8).min(BLOCK_SHIFT_MAX)
}

/// The pools widened to whole blocks and cut to `first..=last`, disjoint and ascending.
fn block_areas(pools: &[(u32, u32)], shift: u8, first: u32, last: u32) -> Vec<(u32, u32)> {
    let mask = (1_u32 << shift) - 1;
    let widened = pools.iter().map(|&(from, until)| ((from & !mask).max(first), (until | mask).min(last)));
    merged(widened.filter(|(from, until)| from <= until).collect())
}

fn merged(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// Spreads the bits of `value` (a finaliser of 64 bits: multiply and shift, twice).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

#[cfg(test)]
mod tests;
