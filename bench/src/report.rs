//! The result as one versioned value, and the file it is kept in.
//!
//! The file is written anew after every cell and replaced in one step, so that an interrupted measurement
//! goes on where it ended. Everything else that is written is a rendering of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use loadgen::capacity::{Objective, Verdict};
use serde::{Deserialize, Serialize};

use crate::host::Host;

/// Version of [`Report`]; it rises when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// What was measured on one host with one set of parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Name and version of this program.
    pub program: String,
    /// The machine.
    pub host: Host,
    /// What all cells have in common.
    pub parameters: Parameters,
    /// What was measured, in order.
    pub cells: Vec<Measurement>,
}

/// What all cells of a report have in common.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Parameters {
    /// The load, for people.
    pub workload: String,
    /// What a rate must hold.
    pub objective: Objective,
    /// Seconds measured in each probe.
    pub probe_s: f64,
    /// Seconds before each that are not.
    pub warm_up_s: f64,
    /// The search ends when the lowest miss is at most this much above the highest hold, as a share.
    pub precision: f64,
    /// Probes of a search at most.
    pub probes_max: usize,
    /// First rate of the first search, exchanges a second.
    pub from: f64,
    /// Highest rate that is tried.
    pub to: f64,
    /// CPUs of the server.
    pub server_cpus: Vec<usize>,
    /// CPUs of the generator.
    pub generator_cpus: Vec<usize>,
}

/// Which server is under load.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// No DHCP at all: the ceiling of the machine.
    Reflector,
    /// Ours.
    Tandem,
    /// Kea, as installed.
    Kea,
}

/// What an ACK waits for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Stable storage.
    Synced,
    /// The kernel.
    Written,
}

/// What is configured in one measurement.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cell {
    /// The server.
    pub target: Target,
    /// `thread-pool-size`.
    pub threads: u16,
    /// `packet-queue-size`.
    pub queue: u32,
    /// What an ACK waits for; Kea's memfile knows only `written`.
    pub durability: Durability,
}

/// What one cell showed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Measurement {
    /// What was configured.
    pub cell: Cell,
    /// The highest rate that held the objective, exchanges a second; `None` if none did.
    pub capacity: Option<f64>,
    /// Whether the highest rate allowed held, so that the server does more.
    pub at_least: bool,
    /// The probe at [`Self::capacity`].
    pub full: Option<Probe>,
    /// A probe at half of it: what clients see on an ordinary day.
    pub half: Option<Probe>,
    /// Addresses that two clients held at once.
    pub duplicates: u64,
    /// What speaks against the figures.
    pub disturbances: Vec<Disturbance>,
    /// How often the cell was measured; the last time counts.
    pub attempts: u32,
    /// Every probe of the last attempt, in order.
    pub probes: Vec<Probe>,
}

/// One rate, tried.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Probe {
    /// Exchanges a second that were planned.
    pub rate: f64,
    /// Exchanges a second that completed.
    pub completed_rate: f64,
    /// Share of lost exchanges, 0 to 1.
    pub drop_share: f64,
    /// Median of the exchange from the planned start, milliseconds.
    pub p50_ms: f64,
    /// 99 % of it.
    pub p99_ms: f64,
    /// 99 % from REQUEST to ACK, milliseconds.
    pub ack_p99_ms: f64,
    /// Addresses that two clients held at once.
    pub duplicates: u64,
    /// What it showed.
    pub verdict: Verdict,
}

/// Why the figures of a cell may tell of something else than the server.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// The hypervisor took this share of the machine's time away, 0 to 1.
    Steal(f64),
    /// The generator could not offer the lowest rate that did not hold.
    Generator,
}

impl Report {
    /// A report without cells.
    pub fn new(host: Host, parameters: Parameters) -> Self {
        let program = concat!("tandem-bench ", env!("CARGO_PKG_VERSION")).to_owned();
        Self { version: VERSION, program, host, parameters, cells: Vec::new() }
    }

    /// Goes on with the report in `path`, or begins this one if there is none.
    ///
    /// # Errors
    /// When the file cannot be read, or tells of another host, commit or set of parameters.
    pub fn resume(self, path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(self);
        }
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let found: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))?;
        let differs = [
            (found.version != self.version || found.program != self.program, "program"),
            (found.host != self.host, "host, kernel or commit"),
            (found.parameters != self.parameters, "parameters"),
        ];
        if let Some((_, what)) = differs.iter().find(|(differs, _)| *differs) {
            anyhow::bail!("{} was measured with another {what}: give another --out", path.display());
        }
        Ok(found)
    }

    /// Replaces the file at `path`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let next = path.with_extension("json.next");
        fs::write(&next, serde_json::to_string_pretty(self)? + "\n")
            .and_then(|()| fs::rename(&next, path))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(())
    }

    /// What was found for `cell`.
    pub fn find(&self, cell: Cell) -> Option<&Measurement> {
        self.cells.iter().find(|measurement| measurement.cell == cell)
    }

    /// The best of a server; of equals the one with fewer threads, then with the shorter queue.
    pub fn best(&self, target: Target, durability: Durability) -> Option<&Measurement> {
        let of = |found: &&Measurement| found.cell.target == target && found.cell.durability == durability;
        let held = self.cells.iter().filter(of).filter(|found| found.capacity.is_some());
        held.max_by(|one, other| {
            let size = |found: &Measurement| (found.cell.threads, found.cell.queue);
            let rate = |found: &Measurement| found.capacity.unwrap_or(0.0);
            rate(one).total_cmp(&rate(other)).then(size(other).cmp(&size(one)))
        })
    }
}

impl Cell {
    /// A name for people.
    pub fn name(&self) -> String {
        let Self { threads, queue, .. } = self;
        match (self.target, self.durability) {
            (Target::Reflector, _) => "bare reflector".to_owned(),
            (Target::Kea, _) => format!("Kea, threads {threads}, queue {queue}"),
            (Target::Tandem, durability) => {
                format!("Tandem, threads {threads}, queue {queue}, {}", durability.name())
            }
        }
    }
}

impl Durability {
    /// Its value in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Written => "written",
        }
    }
}

/// Checks that `path` is a folder, making it if need be.
///
/// # Errors
/// When it cannot be made.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    ensure!(path.is_dir(), "{} is no folder", path.display());
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A measurement of Tandem, or of Kea.
    pub fn measured(target: Target, threads: u16, queue: u32, capacity: f64) -> Measurement {
        let probe = |rate: f64| Probe {
            rate,
            completed_rate: rate,
            drop_share: 0.0,
            p50_ms: 0.5,
            p99_ms: 2.25,
            ack_p99_ms: 1.125,
            duplicates: 0,
            verdict: Verdict::Held,
        };
        let durability = if target == Target::Tandem { Durability::Synced } else { Durability::Written };
        Measurement {
            cell: Cell { target, threads, queue, durability },
            capacity: Some(capacity),
            at_least: false,
            full: Some(probe(capacity)),
            half: Some(probe(capacity / 2.0)),
            duplicates: 0,
            disturbances: Vec::new(),
            attempts: 1,
            probes: vec![probe(capacity)],
        }
    }

    /// A report whose knee lies at one thread and queue 64.
    pub fn fixed() -> Report {
        let host = Host {
            name: "alpha<1>".into(),
            kernel: "6.18.0".into(),
            cpu: "A CPU".into(),
            cpus: 2,
            memory_mib: 3900,
            commit: Some("0123abc".into()),
        };
        let parameters = Parameters {
            workload: "new clients behind one relay".into(),
            objective: Objective { drops_max: 0.001, p99_ms_max: Some(50.0), drop_s: None },
            probe_s: 1.0,
            warm_up_s: 0.5,
            precision: 0.05,
            probes_max: 8,
            from: 1000.0,
            to: 200_000.0,
            server_cpus: vec![0],
            generator_cpus: vec![1],
        };
        let mut report = Report::new(host, parameters);
        let cells = [(1, 16, 20_000.0), (1, 64, 29_500.0), (2, 16, 21_000.0), (2, 64, 30_000.0)];
        report.cells =
            cells.map(|(threads, queue, rate)| measured(Target::Tandem, threads, queue, rate)).into();
        report.cells.push(measured(Target::Kea, 2, 64, 5_000.0));
        report.cells.push(measured(Target::Reflector, 1, 64, 60_000.0));
        report.cells[0].disturbances.push(Disturbance::Steal(0.08));
        report
    }

    #[test]
    fn a_saved_report_is_resumed_and_another_host_or_parameter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let report = fixed();
        let empty = Report { cells: Vec::new(), ..report.clone() };
        assert_eq!(empty.clone().resume(&path).unwrap(), empty, "no file");
        report.save(&path).unwrap();
        assert_eq!(empty.clone().resume(&path).unwrap(), report);
        let mut other = empty.clone();
        other.host.commit = None;
        assert!(other.resume(&path).unwrap_err().to_string().contains("commit"));
        let mut other = empty;
        other.parameters.probe_s = 2.0;
        assert!(other.resume(&path).unwrap_err().to_string().contains("parameters"));
    }

    #[test]
    fn the_best_is_the_fastest_and_of_equals_the_smallest() {
        let mut report = fixed();
        let best = |report: &Report| report.best(Target::Tandem, Durability::Synced).unwrap().cell;
        assert_eq!((best(&report).threads, best(&report).queue), (2, 64));
        report.cells[1].capacity = Some(30_000.0);
        assert_eq!((best(&report).threads, best(&report).queue), (1, 64));
        assert_eq!(report.best(Target::Tandem, Durability::Written), None);
    }
}
