//! What clients saw when the primary of a pair went away under load.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How the primary goes away.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Departure {
    /// Stopped as an operator stops it (SIGTERM).
    Stopped,
    /// Killed (SIGKILL): its host still refuses connections.
    Killed,
    /// Still there, and silent (SIGSTOP): the same for its partner as a power cut.
    Frozen,
}

impl Departure {
    /// The signal.
    pub fn signal(self) -> &'static str {
        match self {
            Self::Stopped => "TERM",
            Self::Killed => "KILL",
            Self::Frozen => "STOP",
        }
    }

    /// What happens, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped in order",
            Self::Killed => "killed",
            Self::Frozen => "silent, as after a power cut",
        }
    }
}

/// One take-over.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Takeover {
    /// How the primary went away.
    pub departure: Departure,
    /// Exchanges a second that were planned.
    pub rate: f64,
    /// When it went away, seconds after the begin of measuring.
    pub at_s: f64,
    /// Seconds from then to the end of the interval with the standby's first ACK; `None` if it gave none.
    pub first_ack_s: Option<f64>,
    /// Exchanges that were started.
    pub started: u64,
    /// Those that were given up although the client tried again as RFC 2131 says.
    pub unserved: u64,
    /// Addresses that two clients held at once.
    pub duplicates: u64,
    /// The course of it.
    pub moments: Vec<Moment>,
}

/// What came of one short interval.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Moment {
    /// Its end, seconds after the begin of measuring.
    pub at_s: f64,
    /// ACKs a second of the primary.
    pub primary: f64,
    /// ACKs a second of the standby.
    pub standby: f64,
}
