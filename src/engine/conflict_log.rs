//! What is said of updates of partners: addresses that two clients hold, one by each server, with both leases; and leases
//! that are none of that partner's business.
//!
//! Events of fixed size, like all of the packet path. A pair that has served apart may have thousands of them, so a shard
//! tells a few at a time with their leases; the others are counted, and the counter has all of them.

use std::net::Ipv4Addr;

use shards::Lease;

use crate::engine::counters::OwnCounter;
use crate::engine::event::{ClientLabel, ConflictSide, EventKind};
use crate::engine::shard::{Shard, Turn};
use crate::limits::CONFLICTS_LOGGED_MAX;

/// So many are told in this time at most.
const TOLD_EVERY_NS: u64 = 10 * 1_000_000_000;

/// What has been told lately.
#[derive(Debug, Default)]
pub(super) struct ConflictLog {
    /// When telling begins anew, monotonic.
    until_ns: u64,
    /// How many were told, and how many were not.
    told: usize,
    untold: u64,
}

impl ConflictLog {
    /// Whether one more may be told, and how many were not since the last time.
    fn admit(&mut self, now_ns: u64) -> (bool, u64) {
        let mut untold = 0;
        if now_ns >= self.until_ns {
            self.until_ns = now_ns.saturating_add(TOLD_EVERY_NS);
            self.told = 0;
            untold = std::mem::take(&mut self.untold);
        }
        let admits = self.told < CONFLICTS_LOGGED_MAX;
        self.told += usize::from(admits);
        self.untold += u64::from(!admits);
        (admits, untold)
    }
}

impl Shard {
    /// The partner's update gives the address of `ours` to another client; `taken`: it is carried out.
    pub fn log_conflict(&mut self, turn: &mut Turn, ours: &Lease, theirs: &Lease, taken: bool) {
        self.statistics.bump_own(OwnCounter::LeaseConflicts);
        let (admits, untold) = self.conflict_log.admit(turn.now.monotonic_ns);
        if untold > 0 {
            turn.log(ClientLabel::new(0, &[], &[], 0), EventKind::LeaseConflicts { count: untold });
        }
        if !admits {
            return;
        }
        let (side_of_ours, side_of_theirs) = match taken {
            true => (ConflictSide::OursGivesWay, ConflictSide::TheirsTaken),
            false => (ConflictSide::OursStays, ConflictSide::TheirsRefused),
        };
        for (lease, side) in [(ours, side_of_ours), (theirs, side_of_theirs)] {
            let client = ClientLabel::new(1, &lease.hwaddr, &lease.client_id, 0);
            let Lease { address, cltt, valid_lifetime: seconds, .. } = *lease;
            turn.log(client, EventKind::LeaseConflict { address, cltt, seconds, side });
        }
    }
}

impl Shard {
    /// A partner would have the lease of `address` changed, which is of another relationship.
    pub fn log_foreign(&mut self, turn: &mut Turn, address: Ipv4Addr) {
        self.statistics.bump_own(OwnCounter::ForeignUpdates);
        let (admits, untold) = self.foreign_log.admit(turn.now.monotonic_ns);
        if admits {
            turn.log(ClientLabel::new(0, &[], &[], 0), EventKind::ForeignUpdate { address, untold });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_told_at_a_time_and_the_others_counted() {
        let mut log = ConflictLog::default();
        let told = |log: &mut ConflictLog, at_s: u64| log.admit(at_s * 1_000_000_000);
        for _ in 0..CONFLICTS_LOGGED_MAX {
            assert_eq!(told(&mut log, 100), (true, 0));
        }
        assert_eq!(told(&mut log, 100), (false, 0));
        assert_eq!(told(&mut log, 109), (false, 0));
        assert_eq!(told(&mut log, 110), (true, 2));
        assert_eq!(told(&mut log, 111), (true, 0));
    }
}
