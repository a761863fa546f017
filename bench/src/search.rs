//! The search for the highest rate that holds, on a machine with hiccups (pure).
//!
//! From a first guess it goes up or down in growing steps until a rate that held lies below one that did not,
//! then halves the distance. A probe that failed is tried once more before it is believed, unless it failed
//! by so much that no hiccup explains it.

use loadgen::capacity::Verdict;

/// The first step up or down from a guess that is worth something, as a factor.
const STEP_GUESSED: f64 = 1.15;

/// The same from a guess that is worth nothing.
const STEP_BLIND: f64 = 2.0;

/// A probe that completed less than this share of what was planned has failed by a wide margin.
const WIDE: f64 = 0.6;

/// The search gives up below this share of its first rate.
const FLOOR_SHARE: f64 = 1.0 / 256.0;

/// Where the search stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    held: Option<f64>,
    missed: Option<f64>,
    next: f64,
    step: f64,
    floor: f64,
    ceiling: f64,
    precision: f64,
    /// The rate that failed once and is to be tried again.
    doubted: Option<f64>,
}

impl Search {
    /// Begins at what a server much like this one held.
    pub fn near(rate: f64, ceiling: f64, precision: f64) -> Self {
        Self::new(rate, STEP_GUESSED, ceiling, precision)
    }

    /// Begins at `rate` without knowing anything.
    pub fn blind(rate: f64, ceiling: f64, precision: f64) -> Self {
        Self::new(rate, STEP_BLIND, ceiling, precision)
    }

    fn new(rate: f64, step: f64, ceiling: f64, precision: f64) -> Self {
        let next = rate.min(ceiling);
        let floor = next * FLOOR_SHARE;
        Self { held: None, missed: None, next, step, floor, ceiling, precision, doubted: None }
    }

    /// The rate to probe next; `None` when the search is over.
    pub fn next(&self) -> Option<f64> {
        match (self.held, self.missed) {
            (Some(held), _) if held >= self.ceiling => None,
            (None, Some(missed)) if missed <= self.floor => None,
            (Some(held), Some(missed)) if missed <= held * (1.0 + self.precision) => None,
            _ => Some(self.next),
        }
    }

    /// Takes the outcome of the probe of [`Self::next`], which completed this share of what was planned.
    pub fn observe(&mut self, verdict: Verdict, completed_share: f64) {
        let rate = self.next;
        let tried = self.doubted == Some(rate);
        if verdict != Verdict::Held && !tried && (verdict == Verdict::Generator || completed_share > WIDE) {
            self.doubted = Some(rate);
            return;
        }
        match verdict {
            Verdict::Held => self.held = Some(rate),
            Verdict::Generator | Verdict::Missed => self.missed = Some(rate),
        }
        self.next = match (self.held, self.missed) {
            (Some(held), Some(missed)) => f64::midpoint(held, missed),
            (Some(held), None) => (held * self.widened()).min(self.ceiling),
            (None, Some(missed)) => missed / self.widened(),
            (None, None) => rate,
        };
    }

    /// The step to take, the next one being wider, up to a doubling.
    fn widened(&mut self) -> f64 {
        let step = self.step;
        self.step = (step * step).min(STEP_BLIND);
        step
    }

    /// The highest rate that held.
    pub fn best(&self) -> Option<f64> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was found and the rates tried, for a server that holds up to `capacity`.
    fn searched(mut search: Search, capacity: f64, fails: impl Fn(usize) -> bool) -> (Option<f64>, Vec<f64>) {
        let mut rates = Vec::new();
        while let Some(rate) = search.next() {
            let held = rate <= capacity && !fails(rates.len());
            let share = if held { 1.0 } else { (capacity / rate).min(0.99) };
            search.observe(if held { Verdict::Held } else { Verdict::Missed }, share);
            rates.push(rate);
            assert!(rates.len() < 60, "the search ends: {rates:?}");
        }
        (search.best(), rates)
    }

    #[test]
    fn the_search_ends_within_its_precision_below_the_capacity() {
        for capacity in [130.0, 1_000.0, 5_432.0, 70_000.0, 99_999.0] {
            for search in [Search::blind(8_000.0, 200_000.0, 0.05), Search::near(5_000.0, 200_000.0, 0.05)] {
                let (best, rates) = searched(search, capacity, |_| false);
                let best = best.unwrap_or(0.0);
                assert!(best <= capacity && best >= capacity / 1.051, "{best} for {capacity}: {rates:?}");
            }
        }
    }

    #[test]
    fn a_good_guess_saves_probes() {
        let count = |search| searched(search, 30_000.0, |_| false).1.len();
        let (near, blind) = (Search::near(29_000.0, 2e5, 0.08), Search::blind(8_000.0, 2e5, 0.08));
        assert!(count(near) <= 5 && count(blind) >= 7);
    }

    #[test]
    fn one_hiccup_anywhere_changes_nothing_and_costs_one_probe_at_most() {
        let calm = searched(Search::blind(8_000.0, 200_000.0, 0.05), 30_000.0, |_| false);
        for hiccup in 0..calm.1.len() {
            let found = searched(Search::blind(8_000.0, 200_000.0, 0.05), 30_000.0, |probe| probe == hiccup);
            assert_eq!(found.0, calm.0, "at {hiccup}: {:?}", found.1);
            assert!(found.1.len() <= calm.1.len() + 1, "at {hiccup}: {:?}", found.1);
        }
    }

    #[test]
    fn a_wide_miss_is_believed_at_once_and_a_close_one_at_the_second_try() {
        let mut search = Search::blind(1_000.0, 4_000.0, 0.05);
        search.observe(Verdict::Missed, 0.9);
        assert_eq!(search.next(), Some(1_000.0), "doubted");
        search.observe(Verdict::Missed, 0.9);
        assert_eq!(search.next(), Some(500.0), "believed");
        search.observe(Verdict::Missed, 0.1);
        assert_eq!(search.next(), Some(250.0), "wide");
        search.observe(Verdict::Generator, 0.1);
        assert_eq!(search.next(), Some(250.0), "the generator's own failure says nothing the first time");
    }

    #[test]
    fn the_ends_of_the_range_are_respected() {
        let none = |_: usize| false;
        assert_eq!(searched(Search::blind(1_000.0, 3_000.0, 0.02), 1e9, none).0, Some(3_000.0), "ceiling");
        assert_eq!(searched(Search::near(5_000.0, 3_000.0, 0.02), 1e9, none).0, Some(3_000.0), "above it");
        assert_eq!(searched(Search::blind(1_000.0, 3_000.0, 0.02), 0.5, none).0, None, "nothing holds");
    }
}
