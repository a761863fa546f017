//! What makes a result doubtful, as values; their text is advice.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Summary;
use crate::scenario::Scenario;

/// One reason to read the figures with care.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Warning {
    /// Clients were asked to begin again before they had ended.
    ClientsOverlap {
        /// Exchanges it happened to.
        count: u64,
    },
    /// The table of claims was full.
    DuplicatesUnchecked {
        /// Addresses not checked.
        count: u64,
    },
    /// The kernel refused datagrams.
    KernelRefused {
        /// Datagrams.
        count: u64,
    },
    /// Leases could not be prepared for all clients.
    NotPrepared {
        /// Clients without one.
        count: u64,
    },
    /// Exchanges were planned and not started.
    NotStarted {
        /// Exchanges.
        count: u64,
    },
    /// The kernel dropped replies before they were read.
    RepliesDropped {
        /// Datagrams.
        count: u64,
    },
    /// The generator started late.
    SenderLate {
        /// 99 % of the starts were at most this late, microseconds.
        p99_us: f64,
    },
    /// Built without optimisation.
    Unoptimised,
}

/// A start later than this is felt in the figures, microseconds.
const LATENESS_US_MAX: f64 = 2_000.0;

/// The warnings that `summary` gives reason to.
pub fn of(summary: &Summary) -> Vec<Warning> {
    let (counters, parameters) = (&summary.counters, &summary.parameters);
    let definition = parameters.scenario.definition();
    let mut warnings = Vec::new();
    let mut add = |holds: bool, warning: Warning| {
        if holds {
            warnings.push(warning);
        }
    };
    let p99_us = summary.lateness.p99_us;
    add(!definition.together && p99_us > LATENESS_US_MAX, Warning::SenderLate { p99_us });
    add(counters.receive_drops > 0, Warning::RepliesDropped { count: counters.receive_drops });
    add(counters.refused > 0, Warning::KernelRefused { count: counters.refused });
    add(counters.not_started > 0, Warning::NotStarted { count: counters.not_started });
    add(counters.overlaps > 0, Warning::ClientsOverlap { count: counters.overlaps });
    add(counters.unchecked > 0, Warning::DuplicatesUnchecked { count: counters.unchecked });
    let missing = u64::from(parameters.clients).saturating_sub(summary.prepared);
    add(definition.prepares && missing > 0, Warning::NotPrepared { count: missing });
    add(cfg!(debug_assertions) && parameters.scenario != Scenario::Avalanche, Warning::Unoptimised);
    warnings
}

impl Warning {
    /// Whether it says that the generator could not do what was planned.
    pub fn is_generator_limit(&self) -> bool {
        matches!(
            self,
            Self::KernelRefused { .. }
                | Self::NotStarted { .. }
                | Self::RepliesDropped { .. }
                | Self::SenderLate { .. }
        )
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientsOverlap { count } => write!(
                f,
                "{count} exchanges began while their client had another under way: use more clients (-R)"
            ),
            Self::DuplicatesUnchecked { count } => write!(
                f,
                "{count} addresses were not checked for duplicates because there were too many: use more \
                 clients (-R), the table grows with them"
            ),
            Self::KernelRefused { count } => write!(
                f,
                "the kernel refused {count} datagrams: raise net.core.wmem_default, or look for a firewall or a \
                 missing route"
            ),
            Self::NotPrepared { count } => write!(
                f,
                "{count} clients have no lease to begin with: lower --prepare-rate, or enlarge the pool"
            ),
            Self::NotStarted { count } => write!(
                f,
                "{count} planned exchanges were not started because too many were under way or the sender was too \
                 late: shorten -d, or add sender threads (--senders)"
            ),
            Self::RepliesDropped { count } => write!(
                f,
                "the kernel dropped {count} replies before the generator read them: add sender threads \
                 (--senders) on cores of their own (--cpus)"
            ),
            Self::SenderLate { p99_us } => write!(
                f,
                "the sender, not the server, was late (p99 {:.1} ms): add sender threads (--senders), give them \
                 cores of their own (--cpus), or lower the rate",
                p99_us / 1e3
            ),
            Self::Unoptimised => {
                write!(f, "this program was built without optimisation: measure with a release build")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{Counters, Latencies, Stretch};
    use crate::report::Measured;
    use crate::settings::Settings;
    use crate::settings::tests::small;

    /// The warnings of a run, without the one that every test build has, and whether the generator was the limit.
    fn told(scenario: Scenario, counters: Counters, late_us: u64, prepared: u64) -> (Vec<Warning>, bool) {
        let mut latencies = Latencies::new();
        latencies.lateness.record(late_us * 1000);
        let measured = Measured {
            started_at: 0,
            prepared,
            seconds: 1.0,
            counters,
            latencies,
            gap: Stretch::default(),
            aborted: false,
            intervals: Vec::new(),
        };
        let mut summary = Summary::new(&Settings { scenario, ..small() }, measured);
        summary.warnings.retain(|warning| *warning != Warning::Unoptimised);
        (summary.warnings, summary.generator_limited)
    }

    #[test]
    fn each_threshold_warns_when_it_is_passed_and_says_what_to_change() {
        let none = Counters::default();
        let cases = [
            ("nothing", Scenario::Dora, none, 1_000, 0, "", false),
            ("late", Scenario::Dora, none, 2_100, 0, "--cpus", true),
            ("an avalanche is late by design", Scenario::Avalanche, none, 9_000_000, 0, "", false),
            ("refused", Scenario::Dora, Counters { refused: 1, ..none }, 0, 0, "wmem_default", true),
            ("dropped", Scenario::Dora, Counters { receive_drops: 1, ..none }, 0, 0, "--senders", true),
            ("not started", Scenario::Dora, Counters { not_started: 1, ..none }, 0, 0, "-d", true),
            ("overlaps", Scenario::Dora, Counters { overlaps: 1, ..none }, 0, 0, "-R", false),
            ("unchecked", Scenario::Dora, Counters { unchecked: 1, ..none }, 0, 0, "-R", false),
            ("all prepared", Scenario::Renew, none, 0, 100, "", false),
            ("one not prepared", Scenario::Renew, none, 0, 99, "--prepare-rate", false),
        ];
        for (case, scenario, counters, late_us, prepared, advice, limited) in cases {
            let (warnings, generator_limited) = told(scenario, counters, late_us, prepared);
            assert_eq!(warnings.len(), usize::from(!advice.is_empty()), "{case}: {warnings:?}");
            assert_eq!(generator_limited, limited, "{case}");
            assert!(warnings.iter().all(|warning| warning.to_string().contains(advice)), "{case}");
        }
    }
}
