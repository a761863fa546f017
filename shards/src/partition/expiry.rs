//! When leases run out, and which of those that did still await reclamation.
//!
//! A list ordered by (second, address) rather than a wheel of slots: it is keyed by the wall clock, as the
//! leases are, so that a clock that was set needs no re-filing; a lease has exactly one entry, so churn
//! cannot make it grow; and oldest first is its own order. A renewal, the common change, leaves the entry
//! where it is: when it comes up early it is moved to where the lease has got to.
//!
//! Invariants: an entry's second is at most that of its lease's expiry; the row's `filed` names its entry.

use std::collections::BTreeSet;

use super::table::NOT_FILED;

/// The second that is 0 here: 2020-01-01. Later than [`NOT_FILED`] seconds after it (2156) counts as never.
const BASE_S: u64 = 1_577_836_800;

/// (second, address), ascending.
type Entries = BTreeSet<(u32, u32)>;

/// Timers of a shard's leases.
#[derive(Debug, Default)]
pub struct Expiry {
    /// Leases in any state but expired-reclaimed.
    pub waiting: Entries,
    /// Expired-reclaimed rows, by when they ran out.
    pub reclaimed: Entries,
    /// Entries of `waiting` below this were seen by the clock.
    pub seen: (u32, u32),
}

impl Expiry {
    /// Timers with these entries, in any order, none twice. The trees are full, which is what a sorted list makes.
    pub fn load(mut waiting: Vec<(u32, u32)>, mut reclaimed: Vec<(u32, u32)>) -> Self {
        waiting.sort_unstable();
        reclaimed.sort_unstable();
        let (waiting, reclaimed) = (waiting.into_iter().collect(), reclaimed.into_iter().collect());
        Self { waiting, reclaimed, seen: (0, 0) }
    }

    /// The count for a second since the epoch, or [`NOT_FILED`] for one that does not come.
    pub fn second(expire: Option<u64>) -> u32 {
        let second = expire.map_or(u64::from(NOT_FILED), |expire| expire.saturating_sub(BASE_S));
        second.min(u64::from(NOT_FILED)) as u32
    }

    /// Entries below this have run out at `wall_s` (strictly, ALC-40).
    pub fn due_before(wall_s: u64) -> (u32, u32) {
        (Self::second(Some(wall_s)), 0)
    }

    /// Files `address` among the waiting. `filed` is where it is filed now; the answer is where it is then.
    pub fn wait(&mut self, address: u32, filed: u32, expire: Option<u64>) -> u32 {
        let second = Self::second(expire);
        if filed != NOT_FILED {
            // Later than filed: the entry comes up early and moves on. One that was seen must come up again.
            if filed <= second && second != NOT_FILED && (filed, address) >= self.seen {
                return filed;
            }
            self.waiting.remove(&(filed, address));
        }
        if second != NOT_FILED {
            self.waiting.insert((second, address));
        }
        second
    }

    /// Files `address` among the reclaimed.
    pub fn reclaim(&mut self, address: u32, expire: Option<u64>) -> u32 {
        let second = Self::second(expire);
        if second != NOT_FILED {
            self.reclaimed.insert((second, address));
        }
        second
    }

    /// Bytes kept, near enough: the tree at two thirds full.
    pub fn memory(&self) -> usize {
        (self.waiting.len() + self.reclaimed.len()) * size_of::<(u32, u32)>() * 3 / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_leaves_the_entry_and_a_shorter_lifetime_moves_it() {
        let mut expiry = Expiry::default();
        let at = |second: u64| Some(BASE_S + second);
        let mut filed = NOT_FILED;
        for (expire, seen, expected) in [
            (at(100), (0, 0), Some(100)),
            (at(200), (0, 0), Some(100)),
            (at(50), (0, 0), Some(50)),
            (at(300), (60, 0), Some(300)),
            (None, (60, 0), None),
            (at(20), (60, 0), Some(20)),
            (Some(u64::MAX), (60, 0), None),
            (Some(0), (60, 0), Some(0)),
        ] {
            expiry.seen = seen;
            filed = expiry.wait(9, filed, expire);
            assert_eq!(filed, expected.unwrap_or(NOT_FILED), "{expire:?}");
            let entries: Vec<(u32, u32)> = expiry.waiting.iter().copied().collect();
            assert_eq!(entries, expected.map(|second| (second, 9)).into_iter().collect::<Vec<_>>());
        }
    }
}
