//! What is measured and in which order, the search of one cell, and when a cell is worth a second attempt.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use loadgen::capacity::{Search, Verdict};
use loadgen::report::Summary;

use crate::host::{self, CpuTimes};
use crate::report::{
    Attachment, Cell, Disturbance, Durability, Measurement, Parameters, Point, Probe, Report, Server,
};
use crate::site::{Programs, Site};

/// Steal time, as a share, from which on a cell is marked.
const STEAL_MAX: f64 = 0.02;

/// The axes of a matrix, and what is measured beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Axes {
    /// Values of `thread-pool-size`.
    pub threads: Vec<u16>,
    /// Values of `packet-queue-size`.
    pub queues: Vec<u32>,
    /// What an ACK of Tandem waits for.
    pub durabilities: Vec<Durability>,
    /// Whether to measure a bare reflector.
    pub floor: bool,
    /// Whether to measure Kea over the same threads and queues.
    pub kea: bool,
}

/// The cells of a matrix, in the order in which they are measured.
pub fn cells(axes: &Axes) -> Vec<Cell> {
    let mut cells = Vec::new();
    let one = |server, durability, threads, queue| Cell {
        server,
        threads,
        queue,
        durability,
        ha: None,
        attachment: Attachment::Relayed,
    };
    if axes.floor {
        cells.push(one(Server::Reflector, Durability::Written, None, None));
    }
    for &threads in &axes.threads {
        for &queue in &axes.queues {
            let (threads, queue) = (Some(threads), Some(queue));
            let durable = axes.durabilities.iter();
            cells.extend(durable.map(|&durability| one(Server::Tandem, durability, threads, queue)));
            // Side by side with ours, so that a slow drift of the machine meets both.
            cells.extend(axes.kea.then(|| one(Server::Kea, Durability::Written, threads, queue)));
        }
    }
    cells
}

/// How the measurement ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Every cell is measured.
    Complete,
    /// It was interrupted; what was measured is kept.
    Interrupted,
}

/// What a measurement needs beside the cells.
pub struct Bench<'a> {
    /// Where programs are.
    pub programs: &'a Programs,
    /// Folder of the report.
    pub out: &'a Path,
    /// Longest time the whole may take, as far as second attempts are concerned.
    pub budget: Option<Duration>,
    /// Set when it shall end.
    pub stop: &'a AtomicBool,
}

impl Bench<'_> {
    /// Measures what `report` does not have yet, and keeps it after every cell.
    ///
    /// # Errors
    /// When a server does not start or the generator fails.
    pub fn run(&self, cells: &[Cell], report: &mut Report) -> Result<End> {
        let missing: Vec<Cell> = cells.iter().copied().filter(|cell| report.find(*cell).is_none()).collect();
        let pace = Pace { start: Instant::now(), cells: missing.len(), budget: self.budget };
        for (done, &cell) in missing.iter().enumerate() {
            eprintln!("[{}/{}] {}{}", done + 1, missing.len(), cell.name(), pace.left(done));
            let first_rate = first_rate(report, cell);
            let Some(mut measured) = self.attempt(cell, &report.parameters, first_rate)? else {
                return Ok(End::Interrupted);
            };
            if !measured.disturbances.is_empty() && pace.allows_another(done, pace.start.elapsed()) {
                eprintln!("    disturbed; once more");
                let Some(again) = self.attempt(cell, &report.parameters, first_rate)? else {
                    return Ok(End::Interrupted);
                };
                measured = Measurement { attempts: 2, ..again };
            }
            eprintln!("    {}", outcome(&measured));
            report.cells.push(measured);
            report.save(&self.out.join("report.json"))?;
        }
        Ok(End::Complete)
    }

    /// Measures one cell; `None` when interrupted.
    fn attempt(&self, cell: Cell, parameters: &Parameters, first: f64) -> Result<Option<Measurement>> {
        match self.measure(cell, parameters, first) {
            // A signal from a terminal also reaches the server, which then ends before its time.
            Err(_) if self.stop.load(Ordering::Relaxed) => Ok(None),
            other => other,
        }
    }

    fn measure(&self, cell: Cell, parameters: &Parameters, first: f64) -> Result<Option<Measurement>> {
        let before = CpuTimes::now()?;
        let sync_ns = host::sync_ns(self.out)?;
        let mut site = Site::start(cell, self.programs, parameters, self.out)?;
        let mut probes = Vec::new();
        let mut search = Search::new(first, parameters.to, parameters.precision);
        while let Some(rate) = search.next().filter(|_| probes.len() < parameters.probes_max) {
            let probe = Probe::new(rate, &site.probe(rate)?, parameters);
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            // What the generator could not offer says nothing of the server: a passing hiccup gets a second try.
            let tried = probes.last().is_some_and(|last: &Probe| last.rate == rate);
            if probe.verdict == Verdict::Generator && !tried {
                probes.push(probe);
                continue;
            }
            search.observe(rate, probe.verdict == Verdict::Held);
            probes.push(probe);
        }
        let mut curve = Vec::new();
        for &load in parameters.curve.iter().filter(|_| search.best().is_some()) {
            let rate = load.rate(search.best().unwrap_or(0.0));
            curve.push(Point { load, probe: Probe::new(rate, &site.probe(rate)?, parameters) });
        }
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let steal = CpuTimes::now()?.steal_since(&before);
        Ok(Some(Measurement { sync_ns, ..measurement(cell, search.best(), probes, curve, steal) }))
    }
}

/// Where to begin: at half of what the same server held last, which saves the way up from the bottom.
fn first_rate(report: &Report, cell: Cell) -> f64 {
    let same = |found: &&Measurement| found.cell.kind() == cell.kind();
    let last = report.cells.iter().rev().find(same).and_then(|found| found.capacity);
    last.map_or(report.parameters.from, |capacity| capacity / 2.0)
}

fn measurement(
    cell: Cell,
    capacity: Option<f64>,
    probes: Vec<Probe>,
    curve: Vec<Point>,
    steal: f64,
) -> Measurement {
    // A rate that held at the second try is no miss; of two tries at one rate the second counts.
    let above = probes.iter().rev().filter(|probe| probe.rate > capacity.unwrap_or(0.0));
    let lowest = above.min_by(|one, other| one.rate.total_cmp(&other.rate));
    let limited = |probe: Option<&Probe>| probe.is_some_and(|probe| probe.verdict == Verdict::Generator);
    let generator = limited(lowest) || curve.iter().any(|point| limited(Some(&point.probe)));
    let disturbances = (steal > STEAL_MAX)
        .then_some(Disturbance::Steal(steal))
        .into_iter()
        .chain(generator.then_some(Disturbance::Generator))
        .collect();
    let duplicates =
        probes.iter().chain(curve.iter().map(|point| &point.probe)).map(|probe| probe.duplicates).sum();
    let at_least = capacity.is_some() && lowest.is_none();
    Measurement {
        cell,
        capacity,
        at_least,
        probes,
        curve,
        sync_ns: 0,
        states: None,
        duplicates,
        disturbances,
        attempts: 1,
    }
}

fn outcome(measured: &Measurement) -> String {
    let marked = if measured.disturbances.is_empty() { "" } else { " (disturbed)" };
    match measured.capacity {
        Some(rate) => format!("{rate:.0} exchanges/s{marked}"),
        None => format!("no rate held{marked}"),
    }
}

impl Probe {
    fn new(rate: f64, summary: &Summary, parameters: &Parameters) -> Self {
        Self {
            rate,
            completed_rate: summary.completed_rate,
            drop_share: summary.drop_share,
            drops: summary.counters.drops(),
            exchange: (&summary.exchange).into(),
            offer: (&summary.offer_raw).into(),
            ack: (&summary.ack_raw).into(),
            cpu_us: None,
            duplicates: summary.counters.duplicates,
            verdict: parameters.objective.judge(summary),
        }
    }
}

/// How long it takes.
struct Pace {
    start: Instant,
    cells: usize,
    budget: Option<Duration>,
}

impl Pace {
    /// The time left after `done` cells, for people.
    fn left(&self, done: usize) -> String {
        match u32::try_from(done) {
            Ok(count) if count > 0 => {
                let left =
                    self.start.elapsed() / count * u32::try_from(self.cells - done).unwrap_or(u32::MAX);
                format!(", about {} min {:02} s left", left.as_secs() / 60, left.as_secs() % 60)
            }
            _ => String::new(),
        }
    }

    /// Whether the cell after `done` others may be measured twice, `elapsed` after the start: the rest and the
    /// attempt itself must fit what is left, at the pace so far.
    fn allows_another(&self, done: usize, elapsed: Duration) -> bool {
        let Some(budget) = self.budget else { return true };
        let each = elapsed.as_secs_f64() / (done + 1) as f64;
        elapsed.as_secs_f64() + each * (self.cells - done) as f64 <= budget.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{fixed, measured, probe};

    #[test]
    fn cells_are_the_product_of_the_axes_with_kea_beside_and_the_floor_first() {
        let axes = Axes {
            threads: vec![1, 2],
            queues: vec![16, 64],
            durabilities: vec![Durability::Synced, Durability::Written],
            floor: true,
            kea: true,
        };
        let found = cells(&axes);
        let count = |server| found.iter().filter(|cell| cell.server == server).count();
        assert_eq!((count(Server::Tandem), count(Server::Kea), count(Server::Reflector)), (8, 4, 1));
        assert_eq!(found[0].server, Server::Reflector);
        assert_eq!(cells(&Axes { floor: false, kea: false, ..axes }).len(), 8);
    }

    #[test]
    fn a_measurement_is_marked_by_steal_and_by_what_the_lowest_miss_was() {
        let (held, missed, generator) =
            (probe(10.0, Verdict::Held), probe(20.0, Verdict::Missed), probe(40.0, Verdict::Generator));
        let cell = measured(Server::Tandem, 1, 1, 1.0).cell;
        let of = |probes: &[&Probe], steal| {
            let probes = probes.iter().map(|probe| (*probe).clone()).collect();
            let found = measurement(cell, Some(10.0), probes, Vec::new(), steal);
            (found.disturbances.clone(), found.at_least, found.full().map(|probe| probe.rate))
        };
        assert_eq!(of(&[&held, &generator, &missed], 0.0), (vec![], false, Some(10.0)));
        assert_eq!(of(&[&held, &generator], 0.0), (vec![Disturbance::Generator], false, Some(10.0)));
        let retried = probe(10.0, Verdict::Generator);
        assert_eq!(
            of(&[&retried, &held, &missed], 0.0),
            (vec![], false, Some(10.0)),
            "held at the second try"
        );
        let again = probe(40.0, Verdict::Missed);
        assert_eq!(of(&[&held, &generator, &again], 0.0), (vec![], false, Some(10.0)), "missed at it");
        assert_eq!(of(&[&held], 0.5), (vec![Disturbance::Steal(0.5)], true, Some(10.0)));
    }

    #[test]
    fn a_search_begins_at_half_of_what_the_same_server_held_last() {
        let report = fixed();
        let rate = |server, durability| {
            first_rate(&report, Cell { durability, ..measured(server, 4, 256, 0.0).cell })
        };
        assert_eq!(rate(Server::Tandem, Durability::Synced), 15_000.0);
        assert_eq!(rate(Server::Tandem, Durability::Written), 1_000.0);
        assert_eq!(rate(Server::Kea, Durability::Written), 2_500.0);
    }

    #[test]
    fn a_second_attempt_must_fit_the_budget_with_all_that_is_still_to_do() {
        let pace = |budget: Option<u64>| Pace {
            start: Instant::now(),
            cells: 10,
            budget: budget.map(Duration::from_secs),
        };
        let after = |seconds| Duration::from_secs(seconds);
        assert!(pace(None).allows_another(0, after(1000)));
        // The first of ten took 10 s: it again and nine others are 100 s more.
        assert!(pace(Some(110)).allows_another(0, after(10)));
        assert!(!pace(Some(109)).allows_another(0, after(10)));
        assert!(!pace(Some(110)).allows_another(9, after(105)));
    }
}
