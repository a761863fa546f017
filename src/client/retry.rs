//! When a client repeats itself: exponential backoff with jitter (RFC 2131 section 4.1), scaled.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// First wait for an answer, seconds.
const FIRST_WAIT_S: u64 = 4;
/// Longest wait for an answer, seconds.
const WAIT_S_MAX: u64 = 64;
/// The wait is spread by up to this much on both sides, seconds.
const JITTER_S: u64 = 1;

/// How much faster or slower than RFC 2131 a client repeats itself; lease times are never scaled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    permille: u32,
}

impl Pace {
    /// The times of RFC 2131.
    pub const STANDARD: Self = Self { permille: 1000 };

    /// `permille` thousandths of the standard times: 1000 is the standard, 50 is twenty times as fast. 0 counts
    /// as 1, so that a client never repeats itself without end at one instant.
    pub const fn permille(permille: u32) -> Self {
        Self { permille: if permille == 0 { 1 } else { permille } }
    }

    /// `seconds` at this pace, in nanoseconds.
    pub fn scaled_ns(self, seconds: u64) -> u64 {
        seconds.saturating_mul(SECOND_NS / 1000).saturating_mul(u64::from(self.permille))
    }
}

/// The attempts of one exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retry {
    /// Messages sent so far, at least one.
    pub attempts: u32,
    /// When the next one is due, monotonic nanoseconds.
    pub at_ns: u64,
}

impl Retry {
    /// The first attempt, sent at `now_ns`.
    pub fn first(now_ns: u64, pace: Pace, random: &mut Pcg32) -> Self {
        Self { attempts: 1, at_ns: now_ns.saturating_add(wait_ns(1, pace, random)) }
    }

    /// One more attempt, sent at `now_ns`.
    pub fn again(self, now_ns: u64, pace: Pace, random: &mut Pcg32) -> Self {
        let attempts = self.attempts.saturating_add(1);
        Self { attempts, at_ns: now_ns.saturating_add(wait_ns(attempts, pace, random)) }
    }
}

/// Wait after the `attempt`-th message: 4, 8, 16, 32, 64 seconds and so on, each spread by a second.
fn wait_ns(attempt: u32, pace: Pace, random: &mut Pcg32) -> u64 {
    let doublings = attempt.saturating_sub(1).min(WAIT_S_MAX.ilog2());
    let base_s = (FIRST_WAIT_S << doublings).min(WAIT_S_MAX);
    let spread_ns = pace.scaled_ns(2 * JITTER_S).max(1);
    pace.scaled_ns(base_s - JITTER_S) + random.next_u64() % spread_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_64_seconds_and_stay_within_a_second() {
        let mut random = Pcg32::new(1, 1);
        let mut retry = Retry::first(0, Pace::STANDARD, &mut random);
        let mut sent_ns = 0;
        for expected_s in [4, 8, 16, 32, 64, 64, 64] {
            let wait_ns = retry.at_ns - sent_ns;
            let bounds = (expected_s - 1) * SECOND_NS..(expected_s + 1) * SECOND_NS;
            assert!(bounds.contains(&wait_ns), "{wait_ns} is not {expected_s} s");
            sent_ns = retry.at_ns;
            retry = retry.again(sent_ns, Pace::STANDARD, &mut random);
        }
    }

    #[test]
    fn a_pace_scales_waits_and_jitter_alike() {
        let mut random = Pcg32::new(7, 1);
        let fast = Retry::first(0, Pace::permille(10), &mut random);
        assert!((30_000_000..50_000_000).contains(&fast.at_ns), "{} ns", fast.at_ns);
        assert_eq!(Pace::permille(0), Pace::permille(1));
    }
}
