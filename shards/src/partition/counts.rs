//! What the shards tell about themselves in numbers: free addresses for spilling, leases for statistics.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{LeaseState, PoolSet};

/// Shards to a row are padded to this many words, so that two shards do not write to one cache line.
const LINE_WORDS: usize = 16;

/// Available addresses per shard and set of pools, written by the shard and read by all. Advisory: a reader may see
/// a count that is about to change, and asks the shard itself before it relies on it.
#[derive(Debug)]
pub struct FreeCounts {
    /// In ascending order; the position is the column.
    sets: Vec<PoolSet>,
    shards: u8,
    stride: usize,
    counts: Vec<AtomicU32>,
}

impl FreeCounts {
    /// Zero counts for `sets` (any order) over `shards` shards.
    pub fn new(shards: u8, sets: impl IntoIterator<Item = impl Into<PoolSet>>) -> Self {
        let mut sets: Vec<PoolSet> = sets.into_iter().map(Into::into).collect();
        sets.sort_unstable();
        sets.dedup();
        let stride = sets.len().next_multiple_of(LINE_WORDS) + LINE_WORDS;
        let words = stride * usize::from(shards);
        Self { sets, shards, stride, counts: (0..words).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Available addresses of the set at `shard`; 0 for an unknown set or shard.
    pub fn free(&self, set: impl Into<PoolSet>, shard: u8) -> u32 {
        self.cell(set.into(), shard).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// The shard with most available addresses of the set, leaving out those whose bit is set in `tried`;
    /// `None` when no other shard shows any. The lowest shard wins a tie.
    pub fn most_free(&self, set: impl Into<PoolSet>, tried: u64) -> Option<u8> {
        let set = set.into();
        let mut best = None;
        let mut most = 0;
        for shard in (0..self.shards).filter(|&shard| tried.checked_shr(shard.into()).unwrap_or(0) & 1 == 0) {
            let free = self.free(set, shard);
            if free > most {
                most = free;
                best = Some(shard);
            }
        }
        best
    }

    /// Says that `shard` has `free` available addresses of the set; an unknown one is left alone.
    pub fn publish(&self, set: impl Into<PoolSet>, shard: u8, free: u32) {
        if let Some(cell) = self.cell(set.into(), shard) {
            cell.store(free, Ordering::Relaxed);
        }
    }

    fn cell(&self, set: PoolSet, shard: u8) -> Option<&AtomicU32> {
        let column = self.sets.binary_search(&set).ok()?;
        (shard < self.shards).then(|| &self.counts[usize::from(shard) * self.stride + column])
    }
}

/// Leases of one subnet and pool id by state. Expired leases count until they are reclaimed (API-70).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LeaseCounts {
    /// State 0.
    pub default: u64,
    /// State 1.
    pub declined: u64,
    /// State 2.
    pub expired_reclaimed: u64,
    /// State 3.
    pub released: u64,
}

impl LeaseCounts {
    /// Kea's `assigned-addresses`: leases in use, declined ones included.
    pub fn assigned(self) -> u64 {
        self.default + self.declined
    }

    /// The count of leases in `state`.
    pub(super) fn of_state(&mut self, state: LeaseState) -> &mut u64 {
        match state {
            LeaseState::Default => &mut self.default,
            LeaseState::Declined => &mut self.declined,
            LeaseState::ExpiredReclaimed => &mut self.expired_reclaimed,
            LeaseState::Released => &mut self.released,
        }
    }

    /// Leases in any state.
    pub fn total(self) -> u64 {
        self.default + self.declined + self.expired_reclaimed + self.released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_with_most_free_addresses_is_found_until_all_were_tried() {
        let counts = FreeCounts::new(4, [7, 3]);
        for (shard, free) in [(0, 0), (1, 5), (2, 9), (3, 5)] {
            counts.publish(7, shard, free);
        }
        counts.publish(99, 0, 1);
        for (subnet_id, tried, expected) in [
            (7, 0, Some(2)),
            (7, 0b0100, Some(1)),
            (7, 0b0110, Some(3)),
            (7, 0b1110, None),
            (3, 0, None),
            (99, 0, None),
        ] {
            assert_eq!(counts.most_free(subnet_id, tried), expected, "{subnet_id} {tried:b}");
        }
        assert_eq!(counts.free(7, 3), 5);
        assert_eq!(counts.free(7, 4), 0);
    }
}
