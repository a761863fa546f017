//! What the shards tell about themselves in numbers: free addresses for spilling, leases for statistics.

use std::sync::atomic::{AtomicU32, Ordering};

use super::LeaseState;

/// Shards to a row are padded to this many words, so that two shards do not write to one cache line.
const LINE_WORDS: usize = 16;

/// Available addresses per shard and subnet, written by the shard and read by all. Advisory: a reader may see
/// a count that is about to change, and asks the shard itself before it relies on it.
#[derive(Debug)]
pub struct FreeCounts {
    /// Ids in ascending order; the position is the column.
    subnet_ids: Vec<u32>,
    shards: u8,
    stride: usize,
    counts: Vec<AtomicU32>,
}

impl FreeCounts {
    /// Zero counts for `subnet_ids` (any order) over `shards` shards.
    pub fn new(shards: u8, subnet_ids: impl IntoIterator<Item = u32>) -> Self {
        let mut subnet_ids: Vec<u32> = subnet_ids.into_iter().collect();
        subnet_ids.sort_unstable();
        subnet_ids.dedup();
        let stride = subnet_ids.len().next_multiple_of(LINE_WORDS) + LINE_WORDS;
        let words = stride * usize::from(shards);
        Self { subnet_ids, shards, stride, counts: (0..words).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Available addresses of the subnet at `shard`; 0 for an unknown subnet or shard.
    pub fn free(&self, subnet_id: u32, shard: u8) -> u32 {
        self.cell(subnet_id, shard).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// The shard with most available addresses of the subnet, leaving out those whose bit is set in `tried`;
    /// `None` when no other shard shows any. The lowest shard wins a tie.
    pub fn most_free(&self, subnet_id: u32, tried: u64) -> Option<u8> {
        let mut best = None;
        let mut most = 0;
        for shard in (0..self.shards).filter(|&shard| tried.checked_shr(shard.into()).unwrap_or(0) & 1 == 0) {
            let free = self.free(subnet_id, shard);
            if free > most {
                most = free;
                best = Some(shard);
            }
        }
        best
    }

    /// Says that `shard` has `free` available addresses of the subnet; an unknown subnet is left alone.
    pub fn publish(&self, subnet_id: u32, shard: u8, free: u32) {
        if let Some(cell) = self.cell(subnet_id, shard) {
            cell.store(free, Ordering::Relaxed);
        }
    }

    fn cell(&self, subnet_id: u32, shard: u8) -> Option<&AtomicU32> {
        let column = self.subnet_ids.binary_search(&subnet_id).ok()?;
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
