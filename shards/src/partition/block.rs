//! Free bits of the addresses a shard owns inside the pools of one subnet.
//!
//! A bit's position is that of its address in the pools, counted in file order, so that walking the bits is
//! Kea's iterative order (b.6). Words of 64 bits carry a summary of themselves, in levels up to one word: the
//! next set bit is found in a handful of steps, whether the pool is empty or 99.9 % full.
//!
//! Invariant: only addresses the shard owns have a bit set; `open` is a subset of `available`.

use std::net::Ipv4Addr;

use super::ownership::{OwnerTable, PoolRange, PoolSet};

/// A set of positions with a fast "next at or after".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FreeWords {
    /// Level 0 has a bit per position; a bit of level n + 1 says that a word of level n is not zero.
    levels: Vec<Vec<u64>>,
    capacity: u64,
    count: u64,
    /// Words looked at by [`FreeWords::next`].
    #[cfg(test)]
    looked_at: std::cell::Cell<u64>,
}

impl FreeWords {
    /// No position of `capacity` set.
    pub fn new(capacity: u64) -> Self {
        let mut levels = Vec::new();
        let mut words = capacity.div_ceil(64).max(1) as usize;
        loop {
            levels.push(vec![0; words]);
            if words == 1 {
                return Self {
                    levels,
                    capacity,
                    count: 0,
                    #[cfg(test)]
                    looked_at: std::cell::Cell::new(0),
                };
            }
            words = words.div_ceil(64);
        }
    }

    /// How many positions are set.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether `position` is set.
    pub fn contains(&self, position: u64) -> bool {
        position < self.capacity && self.levels[0][(position / 64) as usize] >> (position % 64) & 1 == 1
    }

    /// Sets or clears `position`; true when that changed it.
    ///
    /// # Panics
    /// When `position` is not below the capacity.
    #[inline]
    pub fn put(&mut self, position: u64, set: bool) -> bool {
        assert!(position < self.capacity, "position {position} of {}", self.capacity);
        // A renewal, the common change, leaves it as it is.
        if self.contains(position) == set {
            return false;
        }
        self.flip(position, set);
        true
    }

    /// Sets or clears `position`, which is not so yet.
    fn flip(&mut self, position: u64, set: bool) {
        let mut index = position;
        for level in &mut self.levels {
            let word = &mut level[(index / 64) as usize];
            let was_zero = *word == 0;
            if set {
                *word |= 1 << (index % 64);
            } else {
                *word &= !(1 << (index % 64));
            }
            // The level above changes only when this word becomes or stops being zero.
            if was_zero == (*word == 0) {
                break;
            }
            index /= 64;
        }
        self.count = if set { self.count + 1 } else { self.count - 1 };
    }

    /// Sets every position of `first..=last`.
    pub fn fill(&mut self, first: u64, last: u64) {
        assert!(first <= last && last < self.capacity, "{first}..={last} of {}", self.capacity);
        let (mut from, mut until) = (first, last);
        for (height, level) in self.levels.iter_mut().enumerate() {
            for word in from / 64..=until / 64 {
                let low = if word == from / 64 { from % 64 } else { 0 };
                let high = if word == until / 64 { until % 64 } else { 63 };
                let mask = (u64::MAX >> (63 - high)) & (u64::MAX << low);
                let bits = &mut level[word as usize];
                if height == 0 {
                    self.count += u64::from((mask & !*bits).count_ones());
                }
                *bits |= mask;
            }
            from /= 64;
            until /= 64;
        }
    }

    /// The first set position at or after `from`.
    pub fn next(&self, from: u64) -> Option<u64> {
        if from >= self.capacity {
            return None;
        }
        let mut index = from;
        for height in 0..self.levels.len() {
            #[cfg(test)]
            self.looked_at.update(|words| words + 1);
            let word = self.levels[height].get((index / 64) as usize)? & (u64::MAX << (index % 64));
            if word != 0 {
                index = index / 64 * 64 + u64::from(word.trailing_zeros());
                for lower in self.levels[..height].iter().rev() {
                    #[cfg(test)]
                    self.looked_at.update(|words| words + 1);
                    index = index * 64 + u64::from(lower[index as usize].trailing_zeros());
                }
                return Some(index);
            }
            index = index / 64 + 1;
        }
        None
    }

    /// Bytes kept.
    pub fn memory(&self) -> usize {
        self.levels.iter().map(|level| level.capacity() * size_of::<u64>()).sum()
    }
}

/// One pool and the position of its first address.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u32,
    last: u32,
    base: u64,
}

/// One shard's part of one set of pools.
#[derive(Clone, Debug)]
pub struct SubnetBlocks {
    /// Which pools.
    pub set: PoolSet,
    /// In file order.
    spans: Vec<Span>,
    capacity: u64,
    /// Lease absent, reclaimed, released or expired.
    available: FreeWords,
    /// Available and not held.
    open: FreeWords,
    /// Where the iterative allocator goes on; not kept over a restart or a reload, as in Kea.
    pointer: u64,
}

impl SubnetBlocks {
    /// Lets the iterative allocator begin anew, as Kea's does at a reload.
    pub fn start_over(&mut self) {
        self.pointer = 0;
    }

    /// All addresses of `pools` that `owners` gives to `shard`, open.
    pub fn new(set: PoolSet, pools: &[PoolRange], owners: &OwnerTable, shard: u8) -> Self {
        let mut spans = Vec::with_capacity(pools.len());
        let mut capacity = 0;
        for pool in pools.iter().filter(|pool| pool.first <= pool.last) {
            let (first, last) = (u32::from(pool.first), u32::from(pool.last));
            spans.push(Span { first, last, base: capacity });
            capacity += u64::from(last - first) + 1;
        }
        let mut open = FreeWords::new(capacity);
        for span in &spans {
            let range = PoolRange { first: span.first.into(), last: span.last.into() };
            owners.for_each_owned(range, shard, |first, last| {
                let position = span.base + u64::from(first - span.first);
                open.fill(position, position + u64::from(last - first));
            });
        }
        Self { set, spans, capacity, available: open.clone(), open, pointer: 0 }
    }

    /// Whether a pool of the set holds `address`.
    pub fn contains(&self, address: u32) -> bool {
        self.spans.iter().any(|span| (span.first..=span.last).contains(&address))
    }

    /// First and last address of every pool, in file order.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.spans.iter().map(|span| (span.first, span.last))
    }

    /// Addresses in all pools, whoever owns them.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Available addresses, held ones included.
    pub fn available(&self) -> u64 {
        self.available.count()
    }

    /// Open addresses: available and held for nobody.
    pub fn open(&self) -> u64 {
        self.open.count()
    }

    /// Says what `address` is now; true when the number of available addresses changed. An address outside of
    /// the pools is left alone.
    pub fn put(&mut self, address: u32, available: bool, held: bool) -> bool {
        let mut changed = false;
        for index in 0..self.spans.len() {
            let span = self.spans[index];
            if (span.first..=span.last).contains(&address) {
                let position = span.base + u64::from(address - span.first);
                self.open.put(position, available && !held);
                changed |= self.available.put(position, available);
            }
        }
        changed
    }

    /// The next open address for the iterative allocator, which moves on past it.
    pub fn take_next(&mut self) -> Option<Ipv4Addr> {
        let position = self.open_at_or_after(self.pointer)?;
        self.pointer = position + 1;
        Some(self.address_at(position))
    }

    /// The open address at or after position `at` (taken modulo the capacity), wrapping, and its position.
    pub fn find_at(&self, at: u64) -> Option<(u64, Ipv4Addr)> {
        let position = self.open_at_or_after(at.checked_rem(self.capacity)?)?;
        Some((position, self.address_at(position)))
    }

    /// Bytes kept.
    pub fn memory(&self) -> usize {
        self.available.memory() + self.open.memory() + self.spans.capacity() * size_of::<Span>()
    }

    fn open_at_or_after(&self, from: u64) -> Option<u64> {
        self.open.next(from).or_else(|| self.open.next(0))
    }

    fn address_at(&self, position: u64) -> Ipv4Addr {
        let span = &self.spans[self.spans.partition_point(|span| span.base <= position) - 1];
        Ipv4Addr::from(span.first + (position - span.base) as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::partition::SubnetSpace;

    fn blocks(shards: u8, shard: u8, pools: &[(u32, u32)]) -> SubnetBlocks {
        let pools = pools.iter().map(|&(first, last)| PoolRange {
            first: (0x0a00_0000 + first).into(),
            last: (0x0a00_0000 + last).into(),
        });
        let (prefix, parts) = ([10, 0, 0, 0].into(), Vec::new());
        let subnet = SubnetSpace { id: 1, prefix, prefix_len: 8, pools: pools.collect(), parts };
        let owners = OwnerTable::assign(shards, 3, std::slice::from_ref(&subnet), []);
        SubnetBlocks::new(1.into(), &subnet.pools, &owners, shard)
    }

    #[test]
    fn one_shard_walks_the_pools_in_file_order_and_wraps() {
        let mut blocks = blocks(1, 0, &[(20, 22), (5, 6)]);
        let order: Vec<u32> = (0..7).map(|_| u32::from(blocks.take_next().unwrap()) & 0xff).collect();
        assert_eq!(order, [20, 21, 22, 5, 6, 20, 21]);
        assert_eq!(blocks.find_at(4).unwrap().1, Ipv4Addr::new(10, 0, 0, 6));
        assert_eq!(blocks.find_at(5).unwrap().1, Ipv4Addr::new(10, 0, 0, 20));
    }

    #[test]
    fn a_held_address_is_available_and_not_open() {
        let mut blocks = blocks(1, 0, &[(1, 2)]);
        assert!(!blocks.put(0x0a00_0001, true, true));
        assert_eq!((blocks.available(), blocks.take_next()), (2, Some([10, 0, 0, 2].into())));
        assert!(blocks.put(0x0a00_0002, false, false));
        assert_eq!((blocks.available(), blocks.take_next()), (1, None));
        assert!(!blocks.put(0x0a00_0001, true, false));
        assert_eq!(blocks.take_next(), Some([10, 0, 0, 1].into()));
        assert!(!blocks.put(0x0b00_0001, true, false), "outside of the pools");
    }

    /// A million addresses at four shards, of which one in a thousand is open: those few are found, by the iterative
    /// allocator and from anywhere, by looking at no more words than in an empty pool twice over. Walking the words in
    /// between would be 60 of them for each.
    #[test]
    fn an_address_of_a_full_pool_is_found_in_as_few_words_as_one_of_an_empty_pool() {
        const POOL: u32 = 1_000_000;
        let open = |address: u32| mix_of(address).is_multiple_of(1000);
        let (mut given, mut shards_with_some) = (BTreeSet::new(), 0);
        for shard in 0..4 {
            let mut blocks = blocks(4, shard, &[(0, POOL - 1)]);
            let levels = blocks.open.levels.len() as u64;
            let words = |blocks: &SubnetBlocks, from: u64| {
                blocks.open.looked_at.set(0);
                let found = blocks.find_at(from).map(|(_, address)| u32::from(address) & 0x00ff_ffff);
                (found, blocks.open.looked_at.get())
            };
            let empty = (0..1000).map(|number| words(&blocks, u64::from(mix_of(number)) % 1_000_000).1).max();
            (0..POOL).filter(|&address| !open(address)).for_each(|address| {
                blocks.put(0x0a00_0000 + address, false, false);
            });
            // What is taken is gone, down to the last one and beyond.
            let mut number = 0;
            loop {
                let (found, looked_at) = words(&blocks, u64::from(mix_of(number)) % 1_000_000);
                // Up and down the levels, and once more from the beginning.
                assert!(looked_at <= (2 * levels).max(empty.unwrap_or(0)) + levels, "{looked_at} words");
                let Some(address) = found else { break };
                blocks.open.looked_at.set(0);
                let next = blocks.take_next().map(|address| u32::from(address) & 0x00ff_ffff);
                assert!(blocks.open.looked_at.get() <= 3 * levels, "{} words", blocks.open.looked_at.get());
                for address in [Some(address), next].into_iter().flatten() {
                    assert!(open(address));
                    given.insert(address);
                    blocks.put(0x0a00_0000 + address, false, false);
                }
                number += 1;
            }
            shards_with_some += u32::from(number > 0);
        }
        assert_eq!(shards_with_some, 4);
        assert_eq!(given, (0..POOL).filter(|&address| open(address)).collect());
    }

    /// Spreads numbers over all bits.
    fn mix_of(number: u32) -> u32 {
        let mixed = (number ^ number >> 16).wrapping_mul(0x7feb_352d);
        (mixed ^ mixed >> 15).wrapping_mul(0x846c_a68b) >> 7
    }

    #[test]
    fn a_subnet_without_pools_has_nothing_to_give() {
        let mut blocks = blocks(1, 0, &[]);
        assert_eq!((blocks.take_next(), blocks.find_at(3), blocks.capacity()), (None, None, 0));
    }

    #[test]
    fn shards_together_give_out_every_address_once() {
        let mut seen = BTreeSet::new();
        for shard in 0..4 {
            let mut blocks = blocks(4, shard, &[(7, 99), (300, 301)]);
            while let Some(address) = blocks.take_next() {
                assert!(seen.insert(address), "{address} twice");
                blocks.put(address.into(), false, false);
            }
        }
        assert_eq!(seen.len(), 95);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn words_behave_as_a_set(
            capacity in prop_oneof![1..70_u64, 4000..4200_u64, 262_000..263_000_u64],
            filled in (any::<u64>(), any::<u64>()),
            operations in proptest::collection::vec((any::<u64>(), any::<bool>(), any::<u64>()), 0..60),
        ) {
            let mut words = FreeWords::new(capacity);
            let mut model = BTreeSet::new();
            let (a, b) = (filled.0 % capacity, filled.1 % capacity.min(300));
            let (first, last) = (a, (a + b).min(capacity - 1));
            words.fill(first, last);
            model.extend(first..=last);
            for (position, set, from) in operations {
                let position = if from % 3 == 0 { first + position % (last - first + 1) } else { position % capacity };
                let changed = if set { model.insert(position) } else { model.remove(&position) };
                prop_assert_eq!(words.put(position, set), changed);
                for from in [from % capacity, position, position + 1, first] {
                    prop_assert_eq!(words.next(from), model.range(from..).next().copied());
                }
            }
            prop_assert_eq!(words.count(), model.len() as u64);
        }
    }
}
