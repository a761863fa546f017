//! How far the measurement is and how long it will take: a line that changes on a terminal, lines in a pipe.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use crate::report::{Cell, Measurement, Probe};
use loadgen::capacity::Verdict;

/// The course of a measurement.
pub struct Progress {
    pace: Pace,
    terminal: bool,
}

/// How long it takes (pure, given the time that has passed).
#[derive(Clone, Copy, Debug)]
struct Pace {
    start: Instant,
    /// Longest time that the whole may take.
    budget: Option<Duration>,
    /// Cells that are done since the start, and those that are to be done, these included.
    done: usize,
    cells: usize,
    /// What a cell takes as long as none is done.
    guess: Duration,
}

impl Progress {
    /// Begins with `cells` to do, each of which takes about `guess`.
    pub fn begin(cells: usize, guess: Duration, budget: Option<Duration>) -> Self {
        let pace = Pace { start: Instant::now(), budget, done: 0, cells, guess };
        Self { pace, terminal: stderr().is_terminal() }
    }

    /// Whether there is time for the cell under way to be measured once more.
    pub fn allows_another(&self) -> bool {
        self.pace.allows_another(self.pace.start.elapsed())
    }

    /// Whether there is time for one more cell.
    pub fn allows_a_cell(&self) -> bool {
        self.pace.allows_a_cell(self.pace.start.elapsed())
    }

    /// The number of cells still to do is known better.
    pub fn set_remaining(&mut self, cells: usize) {
        self.pace.cells = self.pace.done + cells;
    }

    /// A cell begins.
    pub fn cell(&self, what: &str, cell: &Cell) {
        let Pace { done, cells, start, .. } = self.pace;
        let left = words(self.pace.left(start.elapsed()));
        self.line(&format!("[{}/{cells}] {}{what}, {left} left", done + 1, cell.name()));
    }

    /// A probe has ended.
    pub fn probe(&self, probe: &Probe) {
        if !self.terminal {
            return;
        }
        let verdict = match probe.verdict {
            Verdict::Generator => "too much for the generator",
            Verdict::Held => "held",
            Verdict::Missed => "missed",
        };
        let left = words(self.pace.left(self.pace.start.elapsed()));
        // The line is written over by the next one.
        eprint!(
            "\r\x1b[K    {:.0}/s {verdict}, {:.2} % lost, p99 {:.2} ms; {left} left",
            probe.rate,
            100.0 * probe.drop_share,
            probe.exchange.p99_ms
        );
        // Nothing is lost with a terminal that takes no more.
        let _ = stderr().flush();
    }

    /// Something worth a line has happened.
    pub fn line(&self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{text}");
    }

    /// A cell is done.
    pub fn done(&mut self, measured: &Measurement) {
        self.pace.done += 1;
        self.line(&format!("    {}", outcome(measured)));
    }
}

impl Pace {
    /// The time left, `elapsed` after the start.
    fn left(&self, elapsed: Duration) -> Duration {
        self.each(elapsed) * u32::try_from(self.cells - self.done).unwrap_or(u32::MAX)
    }

    /// Whether there is time for the cell under way to be measured once more: it and the rest must fit.
    fn allows_another(&self, elapsed: Duration) -> bool {
        // The one under way is measured as good as whole.
        let each = elapsed / u32::try_from(self.done + 1).unwrap_or(u32::MAX);
        let rest = u32::try_from(self.cells - self.done).unwrap_or(u32::MAX);
        self.budget.is_none_or(|budget| elapsed + each * rest <= budget)
    }

    /// Whether there is time for one more cell at all.
    fn allows_a_cell(&self, elapsed: Duration) -> bool {
        self.budget.is_none_or(|budget| elapsed + self.each(elapsed) <= budget)
    }

    fn each(&self, elapsed: Duration) -> Duration {
        match u32::try_from(self.done) {
            Ok(done) if done > 0 => elapsed / done,
            _ => self.guess,
        }
    }
}

/// What a cell showed, in a line.
fn outcome(measured: &Measurement) -> String {
    let mut text = match measured.capacity {
        Some(rate) if measured.at_least => format!("at least {rate:.0} exchanges/s"),
        Some(rate) => format!("{rate:.0} exchanges/s"),
        None => "no rate held".to_owned(),
    };
    if let Some(half) = measured.half() {
        text.push_str(&format!(", p99 {:.2} ms at half of that", half.exchange.p99_ms));
    }
    if !measured.disturbances.is_empty() {
        text.push_str(" (disturbed)");
    }
    text
}

fn words(left: Duration) -> String {
    let seconds = left.as_secs();
    match seconds {
        0..60 => format!("about {seconds} s"),
        60..3600 => format!("about {} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("about {} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(budget: Option<u64>, done: usize) -> Pace {
        Pace {
            start: Instant::now(),
            budget: budget.map(Duration::from_secs),
            done,
            cells: 10,
            guess: Duration::from_secs(20),
        }
    }

    const fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_time_left_is_guessed_at_first_and_then_follows_the_pace() {
        assert_eq!(pace(None, 0).left(after(7)), after(200));
        assert_eq!(pace(None, 4).left(after(40)), after(60));
        assert_eq!(pace(None, 10).left(after(40)), after(0));
        let table = [
            (0, "about 0 s"),
            (61, "about 1 min 01 s"),
            (3_599, "about 59 min 59 s"),
            (7_260, "about 2 h 01 min"),
        ];
        for (seconds, text) in table {
            assert_eq!(words(after(seconds)), text);
        }
    }

    #[test]
    fn a_second_attempt_must_fit_the_budget_with_all_that_is_still_to_do() {
        assert!(pace(None, 0).allows_another(after(1000)));
        // The first of ten took 10 s: it again and nine others are 100 s more.
        assert!(pace(Some(110), 0).allows_another(after(10)));
        assert!(!pace(Some(109), 0).allows_another(after(10)));
        assert!(!pace(Some(110), 9).allows_another(after(105)));
    }

    #[test]
    fn a_cell_that_would_not_fit_is_not_begun() {
        assert!(pace(None, 5).allows_a_cell(after(1000)));
        assert!(pace(Some(120), 5).allows_a_cell(after(100)));
        assert!(!pace(Some(119), 5).allows_a_cell(after(100)));
        assert!(!pace(Some(19), 0).allows_a_cell(after(0)), "the guess counts before the first");
    }
}
