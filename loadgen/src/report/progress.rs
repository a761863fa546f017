//! What is seen while a run goes: one line that renews itself on a terminal, nothing in a pipe, or JSON
//! lines.

use std::io::{IsTerminal, Write, stderr, stdout};

use serde::Serialize;

use super::{IntervalReport, Summary};
use crate::run::Update;

/// How progress and results are given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Style {
    /// JSON lines on standard output.
    Json,
    /// Text on standard output, progress on a terminal's standard error.
    Text {
        /// Whether standard error is a terminal.
        live: bool,
        /// Whether each interval has a line of its own on standard output (`-t`).
        lines: bool,
    },
}

/// Empties a terminal's line.
const RENEW: &str = "\r\x1b[K";

/// A line of JSON; `type` says which.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
enum Line<'line> {
    Event { command: &'line str },
    Interval(&'line IntervalReport),
    Prepared { clients: u64 },
    Summary(&'line Summary),
}

impl Style {
    /// JSON where it was asked for, else text as standard error allows.
    pub fn new(json: bool, lines: bool) -> Self {
        if json { Self::Json } else { Self::Text { live: stderr().is_terminal(), lines } }
    }

    /// Shows what a run tells.
    pub fn show(self, update: &Update<'_>) {
        match (self, update) {
            (Self::Json, Update::Event(command)) => print(&Line::Event { command }),
            (Self::Json, Update::Interval(report) | Update::Tail(report)) => print(&Line::Interval(report)),
            (Self::Json, Update::Prepared(clients)) => print(&Line::Prepared { clients: *clients }),
            (Self::Text { live, lines }, Update::Interval(report)) => {
                let line = line(report);
                if lines {
                    println!("{line}");
                } else if live {
                    // A line that wraps could not renew itself: a narrow terminal cuts it. One that has gone takes
                    // nothing from the run.
                    let _ = write!(stderr(), "{RENEW}\x1b[?7l{line}\x1b[?7h");
                }
            }
            (Self::Text { live: true, .. }, Update::Prepared(clients)) if *clients > 0 => {
                eprintln!("{clients} clients hold leases; measuring begins");
            }
            (Self::Text { live, lines }, Update::Event(command)) => {
                if live && !lines {
                    let _ = write!(stderr(), "{RENEW}");
                }
                println!("event: {command}");
            }
            (Self::Text { .. }, Update::Prepared(_) | Update::Tail(_)) => {}
        }
    }

    /// Shows the result.
    pub fn finish(self, summary: &Summary, extended: bool) {
        match self {
            Self::Json => print(&Line::Summary(summary)),
            Self::Text { live, lines } => {
                if live && !lines {
                    eprintln!();
                }
                print!("{}", super::text::render(summary, extended));
            }
        }
    }
}

fn print(line: &impl Serialize) {
    // Every field is a number, a string or a list of them, and a closed pipe ends the reader's interest, not
    // the run.
    if let Ok(text) = serde_json::to_string(line) {
        let _ = writeln!(stdout(), "{text}");
    }
}

/// One interval for people, in 79 columns unless a figure is huge.
pub fn line(report: &IntervalReport) -> String {
    format!(
        "{:>5.1} s {:>6.0}/s started {:>6.0}/s completed {:>5} drops  p50/p99 {:.2}/{:.2} ms",
        report.at_s,
        report.per_second(report.counters.started),
        report.per_second(report.counters.completed),
        report.counters.drops(),
        report.p50_us / 1e3,
        report.p99_us / 1e3
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::recorder::Counters;
    use crate::report::VERSION;

    #[test]
    fn a_line_fits_an_old_terminal() {
        let counters =
            Counters { started: 280_000, completed: 279_000, acks_missing: 12_345, ..Counters::default() };
        let report = IntervalReport {
            version: VERSION,
            at_s: 119.0,
            length_s: 2.0,
            counters,
            p50_us: 1_234.0,
            p99_us: 98_765.0,
            max_us: 1e6,
            servers: BTreeMap::new(),
        };
        let expected = "119.0 s 140000/s started 139500/s completed 12345 drops  p50/p99 1.23/98.77 ms";
        assert_eq!(line(&report), expected);
        assert!(expected.len() < 80);
    }
}
