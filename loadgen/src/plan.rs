//! When each exchange starts, fixed before the first packet leaves (pure).
//!
//! An open loop never waits for the server: a slow server makes latencies grow, not the rate sink. Latency is
//! counted from the planned start, so that a stall is felt by every exchange that should have started during
//! it.
//!
//! Invariant: planned times never fall, and the senders' shares together are the whole plan, each exchange
//! once.

/// How exchanges are spread over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Exchanges per second, evenly.
    Constant(f64),
    /// All at the start.
    Together,
}

/// The part of a plan that one sender carries out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// When exchange 0 of the whole plan starts, monotonic nanoseconds.
    pub start_ns: u64,
    /// Spread.
    pub pace: Pace,
    /// No exchange is planned at or after this long after the start.
    pub length_ns: u64,
    /// Exchanges of the whole plan at most.
    pub count_max: Option<u64>,
    /// Exchanges planned before this long after the start are not measured.
    pub warm_up_ns: u64,
    /// Which share this is, below `senders`.
    pub sender: u32,
    /// How many shares there are, at least 1.
    pub senders: u32,
}

/// One planned start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Start {
    /// Planned time, monotonic nanoseconds.
    pub at_ns: u64,
    /// Whether it lies after the warm-up.
    pub measured: bool,
}

impl Plan {
    /// Start number `n` (from 0) of this share; `None` when the plan is over by then.
    pub fn start(&self, n: u64) -> Option<Start> {
        let place = n.checked_mul(u64::from(self.senders))?.checked_add(u64::from(self.sender))?;
        if self.count_max.is_some_and(|max| place >= max) {
            return None;
        }
        let after_ns = match self.pace {
            // Below 2^53 the product is exact to the nanosecond, which is 104 days.
            Pace::Constant(rate) => (place as f64 * (1e9 / rate)) as u64,
            Pace::Together => 0,
        };
        (after_ns < self.length_ns).then_some(Start {
            at_ns: self.start_ns.saturating_add(after_ns),
            measured: after_ns >= self.warm_up_ns,
        })
    }

    /// When the last start may be, monotonic nanoseconds.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.length_ns)
    }

    /// When measuring begins, monotonic nanoseconds.
    pub fn measure_from_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.warm_up_ns)
    }
}

/// How far a measured part came, each in seconds after measuring began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Course {
    /// What the plan takes.
    pub planned_s: f64,
    /// When the last exchange was started.
    pub last_started_s: f64,
    /// When the last exchange was completed.
    pub last_completed_s: f64,
    /// When the last sender ended.
    pub ended_s: f64,
    /// Whether it was ended before its time.
    pub cut: bool,
    /// Whether all of it began at once.
    pub together: bool,
    /// Whether every exchange started was completed.
    pub whole: bool,
}

impl Course {
    /// Seconds that were measured, which every rate is a rate over.
    ///
    /// A sender that is late goes on starting after the plan's end: what it did counts over the time it took,
    /// not over the time it should have taken. The wait for the last replies is no part of it, because the wait
    /// for the first ones made up for it.
    pub fn measured_s(&self) -> f64 {
        let by_plan_s = if self.together && self.whole {
            self.last_completed_s
        } else if self.cut || self.together {
            self.ended_s.min(self.planned_s)
        } else {
            self.planned_s
        };
        by_plan_s.max(self.last_started_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        start_ns: 1_000,
        pace: Pace::Constant(1000.0),
        length_ns: 3_000_000,
        count_max: None,
        warm_up_ns: 1_000_000,
        sender: 0,
        senders: 1,
    };

    fn starts(plan: &Plan) -> Vec<(u64, bool)> {
        let all = (0..).map_while(|n| plan.start(n));
        all.map(|start| (start.at_ns, start.measured)).collect()
    }

    #[test]
    fn starts_are_even_and_the_warm_up_is_not_measured() {
        let cases = [
            ("whole plan", PLAN, vec![(1_000, false), (1_001_000, true), (2_001_000, true)]),
            ("a count ends it", Plan { count_max: Some(2), ..PLAN }, vec![(1_000, false), (1_001_000, true)]),
            ("second of two", Plan { sender: 1, senders: 2, ..PLAN }, vec![(1_001_000, true)]),
            (
                "together",
                Plan { pace: Pace::Together, count_max: Some(2), warm_up_ns: 0, ..PLAN },
                vec![(1_000, true), (1_000, true)],
            ),
            ("no time", Plan { length_ns: 0, ..PLAN }, vec![]),
        ];
        for (case, plan, expected) in cases {
            assert_eq!(starts(&plan), expected, "{case}");
        }
    }

    #[test]
    fn shares_together_are_the_whole_plan() {
        let whole = Plan { pace: Pace::Constant(3333.0), length_ns: 50_000_000, ..PLAN };
        let mut joined: Vec<_> =
            (0..3).flat_map(|sender| starts(&Plan { sender, senders: 3, ..whole })).collect();
        joined.sort_unstable();
        assert_eq!(joined, starts(&whole));
    }

    #[test]
    fn a_rate_does_not_drift_within_a_day() {
        let plan = Plan { pace: Pace::Constant(70_001.0), length_ns: u64::MAX / 2, ..PLAN };
        let n = 70_001 * 86_400;
        let at = plan.start(n).map(|start| start.at_ns - plan.start_ns).unwrap_or(0);
        assert!(at.abs_diff(86_400 * 1_000_000_000) <= 20, "{at}");
    }

    #[test]
    fn rates_are_over_the_time_really_taken() {
        let usual =
            Course { planned_s: 4.0, last_started_s: 3.999, ended_s: 5.0, whole: true, ..Course::default() };
        let avalanche = Course { together: true, last_started_s: 0.2, last_completed_s: 1.5, ..usual };
        let cases = [
            ("as planned", usual, 4.0),
            ("replies were lost", Course { whole: false, ..usual }, 4.0),
            ("the sender was late", Course { last_started_s: 5.9, ended_s: 6.0, ..usual }, 5.9),
            ("cut", Course { cut: true, last_started_s: 1.5, ended_s: 1.6, ..usual }, 1.6),
            ("late, then cut", Course { cut: true, last_started_s: 4.5, ended_s: 4.6, ..usual }, 4.5),
            ("avalanche", avalanche, 1.5),
            ("avalanche not over", Course { whole: false, ..avalanche }, 4.0),
            ("avalanche that outlasts the plan", Course { last_completed_s: 9.0, ..avalanche }, 9.0),
            ("nothing", Course::default(), 0.0),
        ];
        for (case, course, expected) in cases {
            assert_eq!(course.measured_s(), expected, "{case}");
        }
    }
}
