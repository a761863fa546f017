//! Invariant 7: limits are respected, counters never fall, no query is forwarded more often than it may be, and no
//! node hears what it does not understand.

use tandem::engine::Inspection;
use tandem::engine::counters::{Counter, LeaseCounter, OwnCounter};
use tandem::limits;

/// Messages that may be kept back for want of room in a lane.
const KEPT_MAX: usize = 4 * limits::STATE_LANE;

/// Counters of a shard, and what it has of what is limited.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Measures {
    /// Counters that only rise, in the order of [`name`].
    pub counters: Vec<u64>,
    /// Of what there may be none.
    pub forbidden: Vec<(&'static str, u64)>,
    /// (what, how many, limit).
    pub limited: Vec<(&'static str, usize, usize)>,
}

impl Measures {
    /// Those of a shard whose journal holds back `journal_bytes`.
    pub fn of(shard: &Inspection<'_>, journal_bytes: usize) -> Self {
        let statistics = shard.statistics;
        let rising = LeaseCounter::ALL.iter().filter(|counter| rises(**counter));
        let leases = rising.map(|counter| statistics.lease(*counter));
        let counters = statistics.counters.into_iter().chain(statistics.own).chain(leases).collect();
        let forbidden = [OwnCounter::HopLimit, OwnCounter::UnexpectedMessage, OwnCounter::IndexFull];
        let forbidden = forbidden.map(|counter| (counter.name(), statistics.own(counter))).to_vec();
        let parking = shard.parking;
        let limited = vec![
            ("replies that wait for others", parking.awaiting_others(), parking.limit()),
            ("messages kept back", shard.kept, KEPT_MAX),
            // The rows of one turn may take the journal over its limit.
            ("octets that wait for the disk", journal_bytes, 2 * limits::JOURNAL_WAITING_BYTES_MAX),
        ];
        Self { counters, forbidden, limited }
    }

    /// Whether they may follow `before`.
    pub fn may_follow(&self, before: &Self) -> Result<(), String> {
        if let Some((name, count)) = self.forbidden.iter().find(|(_, count)| *count > 0) {
            return Err(format!("invariant 7: {name} is {count}"));
        }
        if let Some((what, count, limit)) = self.limited.iter().find(|(_, count, limit)| count > limit) {
            return Err(format!("invariant 7: {count} {what}, and {limit} is the limit"));
        }
        let both = self.counters.iter().zip(&before.counters);
        match both.enumerate().find(|(_, (now, before))| now < before) {
            None => Ok(()),
            Some((place, (now, before))) => {
                Err(format!("invariant 7: {} fell from {before} to {now}", name(place)))
            }
        }
    }
}

/// How many leases there are falls, too.
fn rises(counter: LeaseCounter) -> bool {
    !matches!(counter, LeaseCounter::Assigned | LeaseCounter::Declined)
}

/// Name of the counter at `place`.
fn name(place: usize) -> &'static str {
    let packets = Counter::ALL.iter().map(|counter| counter.name());
    let own = OwnCounter::ALL.iter().map(|counter| counter.name());
    let leases = LeaseCounter::ALL.iter().filter(|counter| rises(**counter)).map(|counter| counter.name());
    packets.chain(own).chain(leases).nth(place).unwrap_or("a counter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_falls_one_that_may_not_rise_and_a_limit_that_is_exceeded_are_seen() {
        let before =
            Measures { counters: vec![9, 3], forbidden: vec![("hops", 0)], limited: vec![("waiting", 4, 4)] };
        assert_eq!(before.may_follow(&Measures::default()), Ok(()));
        let fallen = Measures { counters: vec![9, 2], ..before.clone() };
        let forbidden = Measures { forbidden: vec![("hops", 1)], ..before.clone() };
        let exceeded = Measures { limited: vec![("waiting", 5, 4)], ..before.clone() };
        for wrong in [fallen, forbidden, exceeded] {
            assert!(wrong.may_follow(&before).unwrap_err().starts_with("invariant 7"), "{wrong:?}");
        }
    }
}
