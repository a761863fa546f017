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
                    // A terminal that has gone takes nothing from the run.
                    let _ = write!(stderr(), "\r\x1b[K{line}");
                }
            }
            (Self::Text { live: true, .. }, Update::Prepared(clients)) if *clients > 0 => {
                eprintln!("{clients} clients hold leases; measuring begins");
            }
            (Self::Text { .. }, Update::Event(command)) => println!("event: {command}"),
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

/// One interval for people.
pub fn line(report: &IntervalReport) -> String {
    format!(
        "{:>6.1} s  {:>8.0}/s started  {:>8.0}/s completed  {:>6} drops  p50 {:>8.3} ms  p99 {:>8.3} ms",
        report.at_s,
        report.per_second(report.counters.started),
        report.per_second(report.counters.completed),
        report.counters.drops(),
        report.p50_us / 1e3,
        report.p99_us / 1e3
    )
}
