//! The highest rate that holds an objective.
//!
//! [`Search`] is pure: it doubles the rate until a probe fails, then halves the distance. Whether a probe
//! held is for [`Objective::judge`] to say, from the probe's summary alone.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::report::Summary;
use crate::settings::Settings;

/// Version of [`Capacity`].
pub const VERSION: u32 = 1;

/// ISC's criterion: at most 2.5 % of the exchanges without an answer within a second.
pub const ISC: Objective = Objective { drops_max: 0.025, p99_ms_max: None, drop_s: Some(1.0) };

/// What a rate must hold.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Objective {
    /// Share of lost exchanges, 0 to 1.
    pub drops_max: f64,
    /// 99 % of the latencies from the plan, milliseconds.
    pub p99_ms_max: Option<f64>,
    /// When an exchange is lost, seconds, if the objective says so itself.
    pub drop_s: Option<f64>,
}

/// What a probe showed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The generator could not do it: nothing is known of the server.
    Generator,
    /// The objective held.
    Held,
    /// It did not.
    Missed,
}

impl Objective {
    /// Whether `summary` holds it.
    pub fn judge(&self, summary: &Summary) -> Verdict {
        // Replies that were late or did not come do not depend on how late the generator was with others, but
        // a generator that was late has not offered the rate.
        let late = self.p99_ms_max.is_some_and(|max| summary.exchange.p99_us > max * 1e3);
        let lost = summary.drop_share > self.drops_max || summary.counters.completed == 0;
        if summary.generator_limited {
            Verdict::Generator
        } else if lost || late || summary.counters.duplicates > 0 {
            Verdict::Missed
        } else {
            Verdict::Held
        }
    }
}

/// One probe.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Probe {
    /// Exchanges a second that were planned.
    pub rate: f64,
    /// Exchanges a second that completed.
    pub completed_rate: f64,
    /// Share of lost exchanges.
    pub drop_share: f64,
    /// 99 % of the latencies from the plan, milliseconds.
    pub p99_ms: f64,
    /// What it showed.
    pub verdict: Verdict,
    /// What the generator has to say of itself.
    pub advice: Vec<String>,
}

impl Probe {
    fn new(rate: f64, summary: &Summary, verdict: Verdict) -> Self {
        let limits = summary.warnings.iter().filter(|warning| warning.is_generator_limit());
        Self {
            rate,
            completed_rate: summary.completed_rate,
            drop_share: summary.drop_share,
            p99_ms: summary.exchange.p99_us / 1e3,
            verdict,
            advice: limits.map(ToString::to_string).collect(),
        }
    }
}

/// The result of a search.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Capacity {
    /// [`VERSION`].
    pub version: u32,
    /// What had to hold.
    pub objective: Objective,
    /// The highest rate that held; `None` if none did.
    pub rate: Option<f64>,
    /// Whether the search ended at the generator's limit, so that the server may do more.
    pub generator_limited: bool,
    /// All probes in order.
    pub probes: Vec<Probe>,
}

/// Where the search stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    held: Option<f64>,
    missed: Option<f64>,
    first: f64,
    ceiling: f64,
    /// The search ends when the lowest miss is at most this much above the highest hold, as a share.
    precision: f64,
}

/// The search gives up below this share of its first rate.
const FLOOR_SHARE: f64 = 1.0 / 256.0;

impl Search {
    /// Begins at `first` and never exceeds `ceiling`.
    pub fn new(first: f64, ceiling: f64, precision: f64) -> Self {
        Self { held: None, missed: None, first: first.min(ceiling), ceiling, precision }
    }

    /// The rate to probe next; `None` when the search is over.
    pub fn next(&self) -> Option<f64> {
        match (self.held, self.missed) {
            (None, None) => Some(self.first),
            (Some(held), None) => (held < self.ceiling).then_some((2.0 * held).min(self.ceiling)),
            (None, Some(missed)) => (missed > self.first * FLOOR_SHARE).then_some(missed / 2.0),
            (Some(held), Some(missed)) => {
                (missed > held * (1.0 + self.precision)).then_some(f64::midpoint(held, missed))
            }
        }
    }

    /// Takes the outcome of a probe at `rate`.
    pub fn observe(&mut self, rate: f64, held: bool) {
        let side = if held { &mut self.held } else { &mut self.missed };
        *side = Some(rate);
    }

    /// The highest rate that held.
    pub fn best(&self) -> Option<f64> {
        self.held
    }
}

/// Searches with probes of `settings`; `probe` carries one out.
///
/// # Errors
/// Those of a probe.
pub fn find(
    settings: &Settings,
    objective: Objective,
    mut search: Search,
    mut probe: impl FnMut(&Settings) -> Result<Summary>,
    mut show: impl FnMut(&Probe),
) -> Result<Capacity> {
    let mut probes: Vec<Probe> = Vec::new();
    while let Some(rate) = search.next() {
        let settings = Settings {
            rate,
            drop_s: objective.drop_s.unwrap_or(settings.drop_s),
            // Each probe has xids of its own, so that answers to the one before are nobody's.
            seed: settings.seed.wrapping_add(probes.len() as u64 * 1_000_003),
            ..settings.clone()
        };
        let summary = probe(&settings)?;
        let tried = probes.last().is_some_and(|last| last.rate == rate);
        let done = Probe::new(rate, &summary, objective.judge(&summary));
        show(&done);
        let held = done.verdict == Verdict::Held;
        // One failure may be a hiccup of the machine, and would halve the answer; two are believed. A duplicate
        // address is no hiccup.
        if held || tried || summary.counters.duplicates > 0 {
            search.observe(rate, held);
        }
        probes.push(done);
    }
    // The limit is the generator's when the lowest rate that did not hold is one it could not offer. A rate that
    // held at the second try did hold, and of two failures the second counts.
    let above = probes.iter().rev().filter(|probe| probe.rate > search.best().unwrap_or(0.0));
    let lowest = above.min_by(|one, other| one.rate.total_cmp(&other.rate));
    let generator_limited = lowest.is_some_and(|probe| probe.verdict == Verdict::Generator);
    Ok(Capacity { version: VERSION, objective, rate: search.best(), generator_limited, probes })
}

impl Capacity {
    /// The probe that shows the server's limit: the lowest rate above the best that the generator offered in full
    /// and the server did not hold. `None` if nothing failed, or if the generator was the limit.
    pub fn limit(&self) -> Option<&Probe> {
        let missed = self.probes.iter().filter(|probe| probe.verdict == Verdict::Missed);
        let above = missed.filter(|probe| !self.generator_limited && probe.rate > self.rate.unwrap_or(0.0));
        above.min_by(|one, other| one.rate.total_cmp(&other.rate))
    }

    /// The result for people.
    pub fn render(&self) -> String {
        let bound = self.objective.p99_ms_max.map_or_else(String::new, |ms| format!(", p99 at most {ms} ms"));
        let objective = format!("at most {} % lost{bound}", 100.0 * self.objective.drops_max);
        let mut text = match self.rate {
            Some(rate) => format!("capacity      {rate:.0} exchanges/s ({objective})\n"),
            None => format!("capacity      none of the rates tried held ({objective})\n"),
        };
        if let Some(probe) = self.limit() {
            let Probe { rate, completed_rate, drop_share, p99_ms, .. } = probe;
            text.push_str(&format!(
                "limit         the server, not the generator: of {rate:.0}/s, offered in full, it completed \
                 {completed_rate:.0}/s, lost {:.3} %, p99 {p99_ms:.3} ms\n",
                100.0 * drop_share
            ));
        }
        if self.generator_limited {
            text.push_str("warning: the generator, not the server, was the limit; the server may do more\n");
            let advice = self.probes.iter().rev().find(|probe| !probe.advice.is_empty());
            for line in advice.iter().flat_map(|probe| &probe.advice) {
                text.push_str(&format!("warning: {line}\n"));
            }
        } else if !self.probes.iter().any(|probe| probe.verdict == Verdict::Missed) {
            text.push_str("warning: no rate failed: raise --to\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{Counters, Latencies, Stretch};
    use crate::report::{Measured, Warning};
    use crate::settings::tests::small;

    /// What a probe at `rate` shows of 1000 exchanges, `lost` of them lost.
    fn summary(lost: u64, p99_ms: u64) -> Summary {
        let counters =
            Counters { started: 1000, completed: 1000 - lost, acks_missing: lost, ..Counters::default() };
        let mut latencies = Latencies::new();
        latencies.exchange.record(p99_ms * 1_000_000);
        let measured = Measured {
            started_at: 0,
            prepared: 0,
            seconds: 1.0,
            counters,
            latencies,
            gap: Stretch::default(),
            aborted: false,
            intervals: Vec::new(),
        };
        Summary::new(&small(), measured)
    }

    fn limited(summary: Summary) -> Summary {
        let warnings = vec![Warning::NotStarted { count: 7 }];
        Summary { generator_limited: true, warnings, ..summary }
    }

    /// A search over a server that `answers` each probe, given its number and rate.
    fn found(to: f64, mut answers: impl FnMut(usize, f64) -> Summary) -> Capacity {
        let objective = Objective { drops_max: 0.001, p99_ms_max: Some(50.0), drop_s: None };
        let (mut number, mut shown) = (0, 0);
        let probe = |settings: &Settings| {
            number += 1;
            Ok(answers(number - 1, settings.rate))
        };
        let found = find(&small(), objective, Search::new(1000.0, to, 0.02), probe, |_| shown += 1).unwrap();
        assert_eq!(found.probes.len(), shown, "each probe is shown");
        found
    }

    #[test]
    fn a_monotone_server_is_found_and_each_failure_is_probed_twice() {
        let capacity = found(1e6, |_, rate| summary(u64::from(rate > 5_432.0) * 10, 1));
        let rate = capacity.rate.unwrap();
        assert!((5_432.0 / 1.02..=5_432.0).contains(&rate), "{rate}");
        assert!(!capacity.generator_limited);
        let missed = |probe: &&Probe| probe.verdict == Verdict::Missed;
        let rates: Vec<f64> = capacity.probes.iter().filter(missed).map(|probe| probe.rate).collect();
        assert!(!rates.is_empty() && rates.chunks(2).all(|pair| pair[0] == pair[1]), "{rates:?}");
        assert!(capacity.render().contains(&format!("{rate:.0} exchanges/s")));
    }

    #[test]
    fn one_hiccup_is_not_believed_and_the_second_failure_is() {
        // Every third probe is disturbed; a rate that failed is asked for again at once.
        let noisy = found(1e6, |number, rate| {
            let hiccup = number % 3 == 1;
            if hiccup { limited(summary(0, 1)) } else { summary(u64::from(rate > 5_432.0) * 10, 1) }
        });
        assert!((5_432.0 / 1.02..=5_432.0).contains(&noisy.rate.unwrap()), "{:?}", noisy.rate);
        assert!(!noisy.generator_limited, "what the generator could not do once is no limit");
        let slow = found(1e6, |_, rate| summary(0, if rate > 3_000.0 { 51 } else { 49 }));
        assert!((3_000.0 / 1.02..=3_000.0).contains(&slow.rate.unwrap()), "p99 alone fails a rate");
    }

    #[test]
    fn a_duplicate_is_believed_at_once() {
        let mut wrong = summary(0, 1);
        wrong.counters.duplicates = 1;
        let capacity = found(1e6, |_, rate| if rate > 1_500.0 { wrong.clone() } else { summary(0, 1) });
        let twice = capacity.probes.windows(2).any(|pair| pair[0].rate == pair[1].rate);
        assert!(!twice && capacity.rate.unwrap() <= 1_500.0);
    }

    #[test]
    fn a_limit_of_the_generator_is_said_with_what_to_change() {
        let capacity =
            found(1e6, |_, rate| if rate > 9_000.0 { limited(summary(0, 1)) } else { summary(0, 1) });
        assert!(capacity.generator_limited && capacity.rate.unwrap() <= 9_000.0);
        let text = capacity.render();
        assert!(text.contains("the generator, not the server, was the limit"), "{text}");
        assert!(text.contains("shorten -d, or add sender threads"), "{text}");
        let none = found(1e6, |_, _| summary(1000, 0));
        assert_eq!((none.rate, none.generator_limited), (None, false));
        assert!(none.render().contains("none of the rates tried held"));
        assert_eq!(capacity.limit(), None, "nothing is known of the server above what the generator can do");
        let all = found(4_000.0, |_, _| summary(0, 1));
        assert_eq!(all.rate, Some(4_000.0));
        assert!(all.render().contains("raise --to"));
    }

    #[test]
    fn a_limit_of_the_server_is_said_with_the_probe_that_shows_it() {
        type Answer = fn(usize, f64) -> Summary;
        let cases: [(&str, Answer, bool); 5] = [
            ("lost", |_, rate| summary(u64::from(rate > 5_432.0) * 10, 1), true),
            ("late", |_, rate| summary(0, if rate > 5_432.0 { 51 } else { 49 }), true),
            (
                "the generator fails only far above",
                |_, rate| {
                    if rate > 9_000.0 {
                        limited(summary(10, 1))
                    } else {
                        summary(u64::from(rate > 5_432.0) * 10, 1)
                    }
                },
                true,
            ),
            (
                "the generator fails first",
                |_, rate| if rate > 5_432.0 { limited(summary(10, 1)) } else { summary(0, 1) },
                false,
            ),
            ("nothing fails", |_, _| summary(0, 1), false),
        ];
        for (case, answers, expected) in cases {
            let capacity = found(64_000.0, answers);
            let rate = capacity.limit().map(|probe| probe.rate);
            let right = rate.is_some_and(|rate| rate > 5_432.0 && rate <= 5_432.0 * 1.02);
            assert_eq!((rate.is_some(), right), (expected, expected), "{case} {rate:?}");
            let text = capacity.render();
            assert_eq!(text.contains("limit         the server"), expected, "{case}: {text}");
            let blamed = text.contains("the generator, not the server");
            assert_eq!(blamed, case == "the generator fails first", "{case}: {text}");
        }
    }

    #[test]
    fn an_objective_judges_drops_latency_and_who_was_the_limit() {
        let own = Objective { drops_max: 0.001, p99_ms_max: Some(50.0), drop_s: None };
        let mut duplicate = summary(0, 1);
        duplicate.counters.duplicates = 1;
        let cases = [
            ("all well", own, summary(0, 49), Verdict::Held),
            ("as many lost as may be", own, summary(1, 49), Verdict::Held),
            ("one more", own, summary(2, 49), Verdict::Missed),
            ("late", own, summary(0, 51), Verdict::Missed),
            ("late for us, not for ISC", ISC, summary(0, 900), Verdict::Held),
            ("2.5 % for ISC", ISC, summary(25, 1), Verdict::Held),
            ("2.6 % for ISC", ISC, summary(26, 1), Verdict::Missed),
            ("nothing completed", ISC, summary(1000, 1), Verdict::Missed),
            ("a duplicate", ISC, duplicate, Verdict::Missed),
            ("the generator", own, limited(summary(500, 51)), Verdict::Generator),
        ];
        for (case, objective, summary, expected) in cases {
            assert_eq!(objective.judge(&summary), expected, "{case}");
        }
    }

    fn searched(search: Search, capacity: f64) -> (Option<f64>, usize) {
        let mut search = search;
        let mut probes = 0;
        while let Some(rate) = search.next() {
            search.observe(rate, rate <= capacity);
            probes += 1;
            assert!(probes < 60, "the search ends");
        }
        (search.best(), probes)
    }

    #[test]
    fn the_search_ends_within_its_precision_below_the_capacity() {
        for capacity in [130.0, 1_000.0, 5_432.0, 70_000.0, 99_999.0] {
            let (best, probes) = searched(Search::new(1_000.0, 200_000.0, 0.02), capacity);
            let best = best.unwrap_or(0.0);
            assert!(best <= capacity && best >= capacity / 1.021, "{best} for {capacity}");
            assert!(probes <= 20, "{probes} for {capacity}");
        }
    }

    #[test]
    fn the_ends_of_the_range_are_respected() {
        assert_eq!(searched(Search::new(1_000.0, 3_000.0, 0.02), 1e9).0, Some(3_000.0), "ceiling");
        assert_eq!(searched(Search::new(5_000.0, 3_000.0, 0.02), 1e9).0, Some(3_000.0), "first above it");
        assert_eq!(searched(Search::new(1_000.0, 3_000.0, 0.02), 0.5).0, None, "nothing holds");
    }
}
