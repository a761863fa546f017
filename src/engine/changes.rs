//! What has changed since somebody began to copy this shard's leases, and what was deleted that the partner may
//! still have.
//!
//! A copy takes a *mark*, then lists all leases while they go on changing, and then asks what has changed since the
//! mark, again and again, until the service rests and nothing is left. Deletions from before the mark come first of all
//! that. So every change of a lease is noted here, and
//! nothing is noted while nobody copies: the log is armed by whoever takes a mark, and falls asleep
//! [`limits::COPY_PATIENCE_MS`] after it was last asked.
//!
//! Invariants: between two marks that are both still good every address that changed is in the log; a mark that is
//! not good any more (the log was full, asleep, or of another process) is known as such. A deletion the partner has
//! not acknowledged, or that came while its leases are copied, is remembered, as far as [`limits::DELETIONS_MAX`]
//! goes, until the partner has copied or the address is given again.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use shards::{Lease, Now};

use crate::limits;

/// The log of one shard.
#[derive(Debug)]
pub(super) struct ChangeLog {
    /// Number of the oldest entry.
    first: u64,
    entries: VecDeque<Ipv4Addr>,
    /// When it falls asleep, monotonic; `None` while it is.
    until_ns: Option<u64>,
    deleted: BTreeMap<Ipv4Addr, Lease>,
}

impl ChangeLog {
    /// An empty log. Its numbers begin at the time, so that marks of an earlier process are none of this one.
    pub fn new(now: Now) -> Self {
        let first = now.wall_ms << 20;
        Self { first, entries: VecDeque::new(), until_ns: None, deleted: BTreeMap::new() }
    }

    /// A mark: what changes from here on is noted, behind what was deleted before and the partner may not know of.
    pub fn mark(&mut self, now: Now) -> u64 {
        self.fall_asleep_if_due(now);
        if self.entries.len() + self.deleted.len() > limits::CHANGES_MAX {
            self.break_off();
        }
        self.until_ns = Some(awake_until_ns(now));
        let mark = self.next();
        self.entries.extend(self.deleted.keys());
        mark
    }

    /// Addresses that have changed since `mark`, ascending and each once, out of the next `limit` entries; and the mark
    /// to go on from. `None`: the mark is not good.
    pub fn since(&mut self, now: Now, mark: u64, limit: usize) -> Option<(Vec<Ipv4Addr>, u64)> {
        self.fall_asleep_if_due(now);
        if self.until_ns.is_none() || mark < self.first || mark > self.next() {
            return None;
        }
        self.until_ns = Some(awake_until_ns(now));
        let skipped = usize::try_from(mark - self.first).ok()?;
        let mut addresses: Vec<Ipv4Addr> = self.entries.iter().skip(skipped).take(limit).copied().collect();
        let upto = mark + addresses.len() as u64;
        addresses.sort_unstable();
        addresses.dedup();
        Some((addresses, upto))
    }

    /// Whether there is anything beyond `mark`.
    pub fn goes_on_after(&self, mark: u64) -> bool {
        mark < self.next()
    }

    /// A lease was created or overwritten.
    pub fn note_put(&mut self, now: Now, address: Ipv4Addr) {
        if !self.deleted.is_empty() {
            self.deleted.remove(&address);
        }
        self.note(now, address);
    }

    /// A lease was deleted; `unknown` says that the partner has not been told and would go on believing in it.
    pub fn note_delete(&mut self, now: Now, lease: &Lease, unknown: bool) {
        self.note(now, lease.address);
        if unknown || self.until_ns.is_some() {
            self.remember(lease);
        }
    }

    /// The partner was told of a deletion and has not acknowledged it.
    pub fn remember(&mut self, lease: &Lease) {
        if self.deleted.len() < limits::DELETIONS_MAX {
            self.deleted.insert(lease.address, lease.clone());
        } else {
            // Whoever copies now would not hear of it.
            self.break_off();
        }
    }

    /// The lease that was last deleted at `address`, if it is remembered.
    pub fn deletion(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.deleted.get(&address)
    }

    /// The partner whose leases `is_its` has everything there is.
    pub fn forget_deletions(&mut self, is_its: impl Fn(&Lease) -> bool) {
        self.deleted.retain(|_, lease| !is_its(lease));
    }

    /// No mark is good any more: leases have come or gone in a way that cannot be told.
    pub fn break_off(&mut self) {
        self.first = self.next() + 1;
        self.entries.clear();
    }

    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn note(&mut self, now: Now, address: Ipv4Addr) {
        if self.until_ns.is_none() {
            return;
        }
        self.fall_asleep_if_due(now);
        if self.until_ns.is_none() {
            return;
        }
        if self.entries.len() == limits::CHANGES_MAX {
            self.break_off();
        }
        self.entries.push_back(address);
    }

    fn fall_asleep_if_due(&mut self, now: Now) {
        if self.until_ns.is_some_and(|until_ns| now.monotonic_ns > until_ns) {
            self.break_off();
            self.entries = VecDeque::new();
            self.until_ns = None;
        }
    }
}

fn awake_until_ns(now: Now) -> u64 {
    now.monotonic_ns.saturating_add(limits::COPY_PATIENCE_MS * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::test_support::lease;

    const SECOND_NS: u64 = 1_000_000_000;

    fn at(second: u64) -> Now {
        Now { monotonic_ns: second * SECOND_NS, wall_ms: 1_795_334_543_000 + second * 1000 }
    }

    fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, number)
    }

    /// What somebody who begins to copy is told first.
    fn told(log: &mut ChangeLog) -> Vec<Ipv4Addr> {
        let mark = log.mark(at(0));
        log.since(at(0), mark, usize::MAX).expect("a good mark").0
    }

    #[test]
    fn what_changes_after_a_mark_is_told_once_and_in_order() {
        let mut log = ChangeLog::new(at(0));
        log.note_put(at(0), address(9));
        let mark = log.mark(at(1));
        assert_eq!(log.since(at(1), mark, 10), Some((vec![], mark)), "before the mark nothing is noted");
        for number in [3, 1, 3, 2] {
            log.note_put(at(1), address(number));
        }
        let (first, upto) = log.since(at(1), mark, 3).expect("a good mark");
        assert_eq!((first, upto), (vec![address(1), address(3)], mark + 3));
        assert!(log.goes_on_after(upto));
        let (second, upto) = log.since(at(1), upto, 3).expect("a good mark");
        assert_eq!(second, [address(2)]);
        assert!(!log.goes_on_after(upto));
        log.note_delete(at(1), &lease(2), false);
        assert_eq!(log.since(at(1), upto, 3).expect("a good mark").0, [address(2)]);
        assert_eq!(log.deletion(address(2)), Some(&lease(2)), "remembered while somebody copies");
    }

    #[test]
    fn a_mark_that_misses_changes_is_not_good() {
        let mut log = ChangeLog::new(at(0));
        let mark = log.mark(at(0));
        assert_eq!(log.since(at(0), mark - 1, 1), None, "of an earlier process");
        assert_eq!(log.since(at(0), mark + 1, 1), None, "of the future");
        let patience_s = limits::COPY_PATIENCE_MS / 1000;
        assert!(log.since(at(patience_s), mark, 1).is_some(), "kept awake by being asked");
        log.note_put(at(2 * patience_s + 1), address(1));
        assert_eq!(log.since(at(2 * patience_s + 1), mark, 1), None, "it fell asleep before the change");
        let mark = log.mark(at(1_000));
        assert!(log.since(at(1_001 + patience_s), mark, 1).is_none(), "nobody asked for so long");

        let mark = log.mark(at(2_000));
        for _ in 0..limits::CHANGES_MAX {
            log.note_put(at(2_000), address(1));
        }
        assert!(log.since(at(2_000), mark, 1).is_some());
        log.note_put(at(2_000), address(1));
        assert_eq!(log.since(at(2_000), mark, 1), None, "there were more than it keeps");

        let mark = log.mark(at(2_000));
        log.break_off();
        assert_eq!(log.since(at(2_000), mark, 1), None);
    }

    #[test]
    fn a_deletion_the_partner_does_not_know_of_is_remembered_until_the_address_is_given_again() {
        let mut log = ChangeLog::new(at(0));
        log.note_delete(at(0), &lease(1), false);
        log.note_delete(at(0), &lease(2), true);
        log.note_delete(at(0), &lease(3), true);
        assert_eq!(told(&mut log), [address(2), address(3)]);
        log.note_put(at(0), address(2));
        assert_eq!((told(&mut log), log.deletion(address(2))), (vec![address(3)], None));
        log.note_delete(at(0), &Lease { subnet_id: 2, ..lease(4) }, true);
        log.forget_deletions(|lease| lease.subnet_id == 1);
        assert_eq!(told(&mut log), [address(4)], "of another partner");
    }

    #[test]
    fn deletions_beyond_the_limit_break_a_copy_off() {
        let mut log = ChangeLog::new(at(0));
        let mark = log.mark(at(0));
        for number in 0..=limits::DELETIONS_MAX as u32 {
            let deleted = Lease { address: Ipv4Addr::from(number), ..lease(1) };
            log.note_delete(at(0), &deleted, true);
        }
        assert_eq!(log.since(at(0), mark, 1), None);
        assert_eq!(told(&mut log).len(), limits::DELETIONS_MAX);
    }

    #[test]
    fn deletions_told_again_and_again_cost_no_more_than_the_log_holds() {
        let mut log = ChangeLog::new(at(0));
        for number in 0..limits::DELETIONS_MAX as u32 {
            log.note_delete(at(0), &Lease { address: Ipv4Addr::from(number), ..lease(1) }, true);
        }
        let first = log.mark(at(0));
        for _ in 0..100 {
            assert_eq!(told(&mut log).len(), limits::DELETIONS_MAX);
            assert!(log.entries.len() <= limits::CHANGES_MAX);
        }
        assert_eq!(log.since(at(0), first, 1), None, "who does not go on with its copy begins anew");
    }
}
