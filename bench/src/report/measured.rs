//! What one cell showed: the search, latencies at chosen loads, and what speaks against the figures.

use std::fmt;

use loadgen::capacity::Verdict;
use loadgen::report::LatencySummary;
use serde::{Deserialize, Serialize};

use super::{Cell, ThreadTime};

/// What one cell showed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Measurement {
    /// What was configured.
    pub cell: Cell,
    /// The highest rate that held the objective, exchanges a second; `None` if none did.
    pub capacity: Option<f64>,
    /// Whether the highest rate allowed held, so that the server does more.
    pub at_least: bool,
    /// Every probe of the search, in order.
    pub probes: Vec<Probe>,
    /// Latencies at loads below and at the capacity, rising: half of it for every cell, all of
    /// [`super::Parameters::curve`] for the best of each kind.
    pub curve: Vec<Point>,
    /// Nanoseconds that `write` and `fdatasync` of one row took a plain thread on the disk of the leases, the
    /// median of some; just before the cell. 0 where the disk is not ours to try.
    pub sync_ns: u64,
    /// States of the pair when the load had ended; `None` for one server alone.
    pub states: Option<States>,
    /// Where the CPU time of a pair went at [`Self::capacity`]; empty for one server alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profile: Vec<ThreadTime>,
    /// Addresses that two clients held at once.
    pub duplicates: u64,
    /// What speaks against the figures.
    pub disturbances: Vec<Disturbance>,
    /// What speaks against [`Self::curve`] alone, which is measured later.
    pub curve_disturbances: Vec<Disturbance>,
    /// How often the cell was measured, disturbed or not.
    pub attempts: u32,
    /// The capacities found when it was not disturbed, rising; the one in the middle counts.
    pub runs: Vec<f64>,
}

/// One rate, tried.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Probe {
    /// Exchanges a second that were planned.
    pub rate: f64,
    /// Exchanges a second that completed.
    pub completed_rate: f64,
    /// Exchanges that were lost.
    pub drops: u64,
    /// Share of lost exchanges, 0 to 1.
    pub drop_share: f64,
    /// DISCOVER to ACK, from the planned start.
    pub exchange: Percentiles,
    /// DISCOVER to OFFER, from the datagram that was sent.
    pub offer: Percentiles,
    /// REQUEST to ACK, from the datagram that was sent.
    pub ack: Percentiles,
    /// Microseconds of CPU time, user and system, that the server (of a pair the primary) used for each
    /// completed exchange; `None` where it cannot be seen, and where nothing completed.
    pub cpu_us: Option<f64>,
    /// Addresses that two clients held at once.
    pub duplicates: u64,
    /// What it showed.
    pub verdict: Verdict,
}

/// A latency, milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50_ms: f64,
    /// 90 %.
    pub p90_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// 99.9 %.
    pub p999_ms: f64,
    /// Highest.
    pub max_ms: f64,
}

/// A load at which latencies are looked at.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// This share of the capacity found, 0 to 1.
    Share(f64),
    /// So many exchanges a second, whatever the capacity.
    Rate(f64),
}

/// Latencies at one load.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Point {
    /// The load.
    pub load: Load,
    /// What it showed.
    pub probe: Probe,
}

/// States of a pair, in Kea's words.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct States {
    /// Of the server under load.
    pub primary: String,
    /// Of its partner.
    pub standby: String,
}

/// Why the figures of a cell may tell of something else than the server.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// The hypervisor took this share of the machine's time away, 0 to 1.
    Steal(f64),
    /// Processes that are no part of the measurement used this share of the machine's time, 0 to 1.
    Others(f64),
    /// The generator could not offer the lowest rate that did not hold.
    Generator,
    /// The pair left its normal state under the load.
    PairLeft,
}

impl Measurement {
    /// The probe at `load`, if one was made.
    pub fn at(&self, load: Load) -> Option<&Probe> {
        self.curve.iter().find(|point| point.load == load).map(|point| &point.probe)
    }

    /// The last probe at the capacity: what held.
    pub fn full(&self) -> Option<&Probe> {
        self.probes.iter().rev().find(|probe| Some(probe.rate) == self.capacity)
    }

    /// The probe at half of the capacity: what clients see on an ordinary day.
    pub fn half(&self) -> Option<&Probe> {
        self.at(Load::Share(0.5))
    }
}

impl Load {
    /// Exchanges a second for a server of `capacity`.
    pub fn rate(self, capacity: f64) -> f64 {
        match self {
            Self::Share(share) => share * capacity,
            Self::Rate(rate) => rate,
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steal(share) => write!(f, "steal time {:.1} %", 100.0 * share),
            Self::Others(share) => write!(f, "other processes {:.1} %", 100.0 * share),
            Self::Generator => f.write_str("the generator's limit"),
            Self::PairLeft => f.write_str("the pair left its normal state"),
        }
    }
}

impl From<&LatencySummary> for Percentiles {
    fn from(summary: &LatencySummary) -> Self {
        let ms = |us: f64| us / 1e3;
        Self {
            p50_ms: ms(summary.p50_us),
            p90_ms: ms(summary.p90_us),
            p99_ms: ms(summary.p99_us),
            p999_ms: ms(summary.p999_us),
            max_ms: ms(summary.max_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Server;
    use crate::report::tests::measured;

    #[test]
    fn points_are_found_by_their_load_and_the_full_one_among_the_probes() {
        let mut found = measured(Server::Tandem, 1, 64, 30_000.0);
        assert_eq!(found.half().map(|probe| probe.rate), Some(15_000.0));
        assert_eq!(found.full().map(|probe| probe.rate), Some(30_000.0));
        assert_eq!(found.at(Load::Rate(1000.0)), None);
        found.capacity = None;
        assert_eq!(found.full(), None);
    }

    #[test]
    fn a_load_is_a_share_of_the_capacity_or_a_rate_of_its_own() {
        assert_eq!(Load::Share(0.25).rate(8_000.0), 2_000.0);
        assert_eq!(Load::Rate(1_000.0).rate(8_000.0), 1_000.0);
    }
}
