//! The result as one versioned value, and the file it is kept in.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`cell`] | what is configured in one measurement |
//! | [`measured`] | what it showed |
//! | [`profile`] | where the CPU time of a pair went |
//! | [`takeover`] | what clients saw when a primary went away |
//!
//! The file is written anew after every cell and replaced in one step, so that an interrupted measurement
//! goes on where it ended. Everything else that is written is a rendering of it.

pub mod cell;
pub mod measured;
pub mod profile;
pub mod takeover;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use loadgen::capacity::Objective;
use serde::{Deserialize, Serialize};

use crate::host::Host;

pub use cell::{Attachment, Cell, Channel, Durability, Ha, Kind, Server};
pub use measured::{Disturbance, Load, Measurement, Point, Probe, States};
pub use profile::{Role, Task, ThreadTime};
pub use takeover::{Departure, Takeover};

/// Version of [`Report`]; it rises when a field changes its meaning or goes.
pub const VERSION: u32 = 2;

/// What was measured on one host with one set of parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Name and version of this program.
    pub program: String,
    /// The command line that measured last.
    pub command: String,
    /// The machine.
    pub host: Host,
    /// What all cells have in common.
    pub parameters: Parameters,
    /// What it was to measure, in order.
    pub planned: Vec<Cell>,
    /// What was measured, in order.
    pub cells: Vec<Measurement>,
    /// Primaries that went away under load.
    #[serde(default)]
    pub takeovers: Vec<Takeover>,
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
    /// Loads at which latencies are looked at, rising.
    pub curve: Vec<Load>,
    /// How often a cell is measured; the median counts.
    pub repeats: u32,
    /// How often one of them is tried at most when it is disturbed.
    pub attempts_max: u32,
    /// CPUs of the server.
    pub server_cpus: Vec<usize>,
    /// CPUs of its partner.
    pub partner_cpus: Vec<usize>,
    /// CPUs of the generator.
    pub generator_cpus: Vec<usize>,
    /// The hosts under load; `None` for servers in namespaces of this host.
    pub remote: Option<Remote>,
}

/// Hosts that are measured from outside.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Remote {
    /// Address of the server under load.
    pub server: Ipv4Addr,
    /// Address of its partner, which is sent the same as by a relay with two servers.
    pub partner: Option<Ipv4Addr>,
    /// What the server said that it is, or what we were told.
    pub name: String,
    /// URL of the control agent, or of the server's own HTTP control socket.
    pub control: Option<String>,
}

impl Report {
    /// A report without cells.
    pub fn new(host: Host, parameters: Parameters) -> Self {
        let program = concat!("tandem-bench ", env!("CARGO_PKG_VERSION")).to_owned();
        let (command, planned, cells) = (String::new(), Vec::new(), Vec::new());
        Self { version: VERSION, program, command, host, parameters, planned, cells, takeovers: Vec::new() }
    }

    /// Reads the report in `path`.
    ///
    /// # Errors
    /// When the file cannot be read, or is no report of this version.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let found: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))?;
        ensure!(found.version == VERSION, "{} was written by another version", path.display());
        Ok(found)
    }

    /// Goes on with the report in `path`, or begins this one if there is none.
    ///
    /// # Errors
    /// When the file cannot be read, or tells of another host, commit or set of parameters.
    pub fn resume(self, path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(self);
        }
        let found = Self::load(path)?;
        let differs = [
            (found.program != self.program, "program"),
            (found.host != self.host, "host, kernel or commit"),
            (found.parameters != self.parameters, "parameters"),
        ];
        if let Some((_, what)) = differs.iter().find(|(differs, _)| *differs) {
            anyhow::bail!("{} was measured with another {what}: give another --out", path.display());
        }
        Ok(Self { command: self.command, planned: self.planned, ..found })
    }

    /// Whether all that was planned is measured.
    pub fn is_complete(&self) -> bool {
        self.planned.iter().all(|cell| self.find(*cell).is_some())
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

    /// The kinds of cells there are, in the order of the report.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = Vec::new();
        for kind in self.cells.iter().map(|found| found.cell.kind()) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// The best of a kind; of equals the smallest.
    pub fn best(&self, kind: Kind) -> Option<&Measurement> {
        let of = |found: &&Measurement| found.cell.kind() == kind;
        let held = self.cells.iter().filter(of).filter(|found| found.capacity.is_some());
        held.max_by(|one, other| {
            let rate = |found: &Measurement| found.capacity.unwrap_or(0.0);
            rate(one).total_cmp(&rate(other)).then(other.cell.size().cmp(&one.cell.size()))
        })
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
    use loadgen::capacity::Verdict;

    use super::measured::Percentiles;
    use super::*;

    /// A rate that held, or did not.
    pub fn probe(rate: f64, verdict: Verdict) -> Probe {
        let latency = |p50_ms: f64| Percentiles {
            p50_ms,
            p90_ms: 2.0 * p50_ms,
            p99_ms: 4.5 * p50_ms,
            p999_ms: 8.0 * p50_ms,
            max_ms: 9.0 * p50_ms,
        };
        Probe {
            rate,
            completed_rate: rate,
            drops: 0,
            drop_share: 0.0,
            exchange: latency(0.5),
            offer: latency(0.125),
            ack: latency(0.25),
            cpu_us: Some(16.0),
            duplicates: 0,
            verdict,
        }
    }

    /// What a cell of one server alone may have shown: Tandem synced, others as they are.
    pub fn measured(server: Server, threads: u16, queue: u32, capacity: f64) -> Measurement {
        let durability = if server == Server::Tandem { Durability::Synced } else { Durability::Written };
        let cell = Cell {
            server,
            threads: Some(threads),
            queue: Some(queue),
            durability,
            ha: None,
            attachment: Attachment::Relayed,
        };
        let half = probe(capacity / 2.0, Verdict::Held);
        Measurement {
            cell,
            capacity: Some(capacity),
            at_least: false,
            probes: vec![probe(capacity, Verdict::Held)],
            curve: vec![Point { load: Load::Share(0.5), probe: half }],
            sync_ns: 220_000,
            states: None,
            profile: Vec::new(),
            duplicates: 0,
            disturbances: Vec::new(),
            curve_disturbances: Vec::new(),
            attempts: 1,
            runs: vec![capacity],
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
            curve: vec![Load::Share(0.5)],
            repeats: 1,
            attempts_max: 2,
            server_cpus: vec![0],
            partner_cpus: vec![0],
            generator_cpus: vec![1],
            remote: None,
        };
        let mut report = Report::new(host, parameters);
        let cells = [(1, 16, 20_000.0), (1, 64, 29_500.0), (2, 16, 21_000.0), (2, 64, 30_000.0)];
        report.cells =
            cells.map(|(threads, queue, rate)| measured(Server::Tandem, threads, queue, rate)).into();
        report.cells.push(measured(Server::Kea, 2, 64, 5_000.0));
        let mut floor = measured(Server::Reflector, 1, 64, 60_000.0);
        (floor.cell.threads, floor.cell.queue) = (None, None);
        report.cells.push(floor);
        report.cells[0].disturbances.push(Disturbance::Steal(0.08));
        report.planned = report.cells.iter().map(|found| found.cell).collect();
        report.command = "tandem-bench --quick --floor".into();
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
        assert!(report.is_complete() && !empty.is_complete());
        assert_eq!(empty.clone().resume(&path).unwrap(), report);
        let mut other = empty.clone();
        other.host.commit = None;
        assert!(other.resume(&path).unwrap_err().to_string().contains("commit"));
        let mut other = empty;
        other.parameters.probe_s = 2.0;
        assert!(other.resume(&path).unwrap_err().to_string().contains("parameters"));
    }

    #[test]
    fn a_report_of_every_kind_of_cell_reads_back_as_it_was_written() {
        let mut report = fixed();
        let mut pair = measured(Server::Tandem, 2, 64, 9_000.0);
        pair.cell.ha = Some(Ha { channel: Channel::Tls, listeners: 4, senders: 4, partner: None });
        pair.states = Some(States { primary: "hot-standby".into(), standby: "ready".into() });
        pair.disturbances = vec![Disturbance::PairLeft, Disturbance::Others(0.25), Disturbance::Generator];
        pair.profile = vec![ThreadTime {
            role: Role::Standby,
            server: Server::Tandem,
            name: "shard".into(),
            count: 2,
            busy: 0.5,
            busiest: 0.375,
            waited: 0.125,
        }];
        let mut remote = measured(Server::Remote, 1, 1, 100.0);
        (remote.cell.threads, remote.cell.queue) = (None, None);
        remote.capacity = None;
        report.cells.extend([pair, remote]);
        let server = Ipv4Addr::new(192, 0, 2, 1);
        report.parameters.remote = Some(Remote {
            server,
            partner: None,
            name: "Kea 2.2.0".into(),
            control: Some("http://a/".into()),
        });
        report.parameters.curve.push(Load::Rate(1000.0));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn the_best_is_the_fastest_of_its_kind_and_of_equals_the_smallest() {
        let mut report = fixed();
        let synced = Kind::single(Server::Tandem, Durability::Synced);
        let best = |report: &Report| report.best(synced).map(|found| (found.cell.threads, found.cell.queue));
        assert_eq!(best(&report), Some((Some(2), Some(64))));
        report.cells[1].capacity = Some(30_000.0);
        assert_eq!(best(&report), Some((Some(1), Some(64))));
        assert_eq!(report.best(Kind { durability: Durability::Written, ..synced }), None);
        let direct = Kind { attachment: Attachment::Direct, ..synced };
        report.cells[1].cell.attachment = Attachment::Direct;
        assert_eq!(report.best(direct).map(|found| found.capacity), Some(Some(30_000.0)));
        assert_eq!(report.kinds().len(), 4, "synced, direct, Kea, reflector");
    }
}
