//! Where progress is shown: one live line on a terminal, plain lines in a pipe.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the live line is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where nobody watches it change.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
/// Columns of the live line; the narrowest usual terminal has 80.
const LIVE_COLUMNS: usize = 78;

const CLEAR_LINE: &str = "\r\x1b[2K";
const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// The screen. What cannot be written is left out: the demo goes on without it.
pub(super) struct Screen {
    out: Box<dyn Write>,
    live: bool,
    colour: bool,
    drawn: Option<Instant>,
}

impl Screen {
    /// Standard output, or standard error where standard output belongs to the report.
    pub(super) fn new(to_stderr: bool) -> Self {
        let (out, live): (Box<dyn Write>, bool) = match to_stderr {
            true => (Box::new(io::stderr()), io::stderr().is_terminal()),
            false => (Box::new(io::stdout()), io::stdout().is_terminal()),
        };
        let live = live && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { out, live, colour: live && std::env::var_os("NO_COLOR").is_none(), drawn: None }
    }

    /// Text as it is.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }

    /// The first line.
    pub(super) fn title(&mut self, text: &str) {
        let text = self.painted(BOLD, text);
        self.say(&text);
    }

    /// A step that is done.
    pub(super) fn done(&mut self, name: &str, what: &str) {
        let mark = self.painted(GREEN, "✓");
        self.say(&format!("  {mark} {name:<14}{what}"));
    }

    /// Something went wrong.
    pub(super) fn failed(&mut self, what: &str) {
        let mark = self.painted(RED, "✗");
        self.say(&format!("  {mark} {what}"));
    }

    /// What goes on right now; `text` is asked for only when it is shown.
    pub(super) fn progress(&mut self, text: impl FnOnce() -> String) {
        let every = if self.live { DRAW_EVERY } else { PLAIN_EVERY };
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < every) {
            return;
        }
        let first = self.drawn.replace(Instant::now()).is_none();
        if self.live {
            let line: String = text().chars().take(LIVE_COLUMNS).collect();
            let _ = write!(self.out, "{CLEAR_LINE}{line}");
        } else if !first {
            let _ = writeln!(self.out, "{}", text());
        }
        let _ = self.out.flush();
    }

    /// Forgets the live line.
    fn clear(&mut self) {
        if self.live && self.drawn.is_some() {
            let _ = write!(self.out, "{CLEAR_LINE}");
        }
        self.drawn = None;
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}{RESET}") } else { text.to_owned() }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
        let _ = self.out.flush();
    }
}
