//! One cell, once: a server is started, or found, its capacity is searched, and what disturbed it is noted.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use loadgen::capacity::Verdict;
use loadgen::report::Summary;

use crate::axes::Axes;
use crate::host;
use crate::progress::Progress;
use crate::remote::Host;
use crate::report::{
    Cell, Disturbance, Load, Measurement, Parameters, Point, Probe, Role, Server, States, ThreadTime,
};
use crate::search::Search;
use crate::site::{Programs, Reach, Site};
use crate::watch::{Taken, Watch};

/// Steal time, as a share, from which on a cell is marked.
const STEAL_MAX: f64 = 0.02;

/// The same for other processes. A desktop or a monitoring agent stays below.
const OTHERS_MAX: f64 = 0.05;

/// Seconds that a probe takes beside what is measured: the generator starts, and lost answers are waited for.
const AROUND_PROBE_S: f64 = 0.2;

/// Seconds that a server takes to start, and to be removed.
const AROUND_CELL_S: f64 = 1.5;

/// Seconds more that a pair takes until it is whole.
const AROUND_PAIR_S: f64 = 5.0;

/// Probes of a search: from nothing it takes more, near its end fewer.
const PROBES_USUAL: f64 = 8.0;

/// What makes servers to measure.
pub struct Subjects<'a> {
    /// Where programs are.
    pub programs: &'a Programs,
    /// Folder of the report.
    pub out: &'a Path,
    /// Set when it shall end.
    pub stop: &'a AtomicBool,
    /// The hosts under load, if they are not made here.
    pub remote: Option<&'a Host>,
}

/// A server that can be loaded.
enum Subject<'a> {
    Here(Box<Site>),
    There(&'a Host),
}

impl Subjects<'_> {
    /// Searches the capacity of `cell`; `None` when interrupted.
    ///
    /// # Errors
    /// When a server does not start or the generator fails.
    pub fn measure(
        &self,
        cell: Cell,
        mut search: Search,
        parameters: &Parameters,
        progress: &Progress,
    ) -> Result<Option<Measurement>> {
        let before = Watch::now()?;
        let sync_ns = if self.remote.is_some() { 0 } else { host::sync_ns(self.out)? };
        let Some(mut subject) = self.subject(&cell, parameters)? else { return Ok(None) };
        let mut probes: Vec<Probe> = Vec::new();
        let (mut whole, mut profile) = (true, Vec::new());
        // A search that has found nothing yet is on its way down and is given as many probes again.
        let is_enough = |search: &Search, probes: usize| {
            probes >= parameters.probes_max * if search.best().is_none() { 2 } else { 1 }
        };
        while let Some(rate) = search.next().filter(|_| !is_enough(&search, probes.len())) {
            let offered = subject.probe(rate, parameters, self.stop)?;
            let Some((mut probe, used)) = offered else { return Ok(None) };
            let normal = subject.states().is_none_or(|states| states.are_normal());
            if !normal && probe.verdict == Verdict::Held {
                // What was held then was held by one server alone.
                probe.verdict = Verdict::Missed;
            }
            progress.probe(&probe);
            search.observe(probe.verdict, probe.completed_rate / rate);
            if cell.ha.is_some() && probe.verdict == Verdict::Held && search.best() == Some(rate) {
                profile = used;
            }
            probes.push(probe);
            whole &= normal;
            if !normal && !subject.settle(self.stop) {
                break;
            }
        }
        let mut curve = Vec::new();
        if let Some(capacity) = search.best() {
            let load = Load::Share(0.5);
            let Some((probe, _)) = subject.probe(load.rate(capacity), parameters, self.stop)? else {
                return Ok(None);
            };
            curve.push(Point { load, probe });
        }
        let states = subject.states();
        let taken = Watch::now()?.since(&before);
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let capacity = search.best();
        let found = Found { cell, capacity, probes, curve, sync_ns, states, whole, profile, taken };
        Ok(Some(found.measurement()))
    }

    /// Latencies of `cell` at `loads`, and what disturbed them; `None` when interrupted.
    ///
    /// # Errors
    /// When a server does not start or the generator fails.
    pub fn curve(
        &self,
        cell: Cell,
        loads: &[Load],
        capacity: f64,
        parameters: &Parameters,
        progress: &Progress,
    ) -> Result<Option<(Vec<Point>, Vec<Disturbance>)>> {
        let before = Watch::now()?;
        let Some(mut subject) = self.subject(&cell, parameters)? else { return Ok(None) };
        let mut points = Vec::new();
        for &load in loads {
            let Some((probe, _)) = subject.probe(load.rate(capacity), parameters, self.stop)? else {
                return Ok(None);
            };
            progress.probe(&probe);
            points.push(Point { load, probe });
        }
        let left = subject.states().is_some_and(|states| !states.are_normal());
        let mut disturbances = Watch::now()?.since(&before).disturbances();
        disturbances.extend(left.then_some(Disturbance::PairLeft));
        Ok((!self.stop.load(Ordering::Relaxed)).then_some((points, disturbances)))
    }

    fn subject(&self, cell: &Cell, parameters: &Parameters) -> Result<Option<Subject<'_>>> {
        match self.remote {
            Some(host) => {
                host.set(cell)?;
                Ok(Some(Subject::There(host)))
            }
            None => {
                let site = Site::start(cell, Reach::Primary, self.programs, parameters, self.out, self.stop)?;
                Ok(site.map(|site| Subject::Here(Box::new(site))))
            }
        }
    }
}

impl Subject<'_> {
    /// A rate, tried, and the CPU time that it took as far as it can be seen.
    fn probe(
        &mut self,
        rate: f64,
        parameters: &Parameters,
        stop: &AtomicBool,
    ) -> Result<Option<(Probe, Vec<ThreadTime>)>> {
        let offered = match self {
            Self::Here(site) => site.offer(rate, parameters, stop)?,
            Self::There(host) => host.offer(rate, parameters, stop)?.map(|summary| (summary, Vec::new())),
        };
        Ok(offered.map(|(summary, used)| (Probe::new(rate, &summary, &used, parameters), used)))
    }

    fn states(&self) -> Option<States> {
        match self {
            Self::Here(site) => site.states(),
            Self::There(host) => host.states(),
        }
    }

    /// Waits until a pair is whole again; whether it is.
    fn settle(&mut self, stop: &AtomicBool) -> bool {
        match self {
            Self::Here(site) => site.settle(stop),
            Self::There(_) => false,
        }
    }
}

/// What one search has found.
struct Found {
    cell: Cell,
    capacity: Option<f64>,
    probes: Vec<Probe>,
    curve: Vec<Point>,
    sync_ns: u64,
    states: Option<States>,
    whole: bool,
    profile: Vec<ThreadTime>,
    taken: Taken,
}

impl Found {
    fn measurement(self) -> Measurement {
        let Self { cell, capacity, probes, curve, sync_ns, states, whole, profile, taken } = self;
        // A rate that held at the second try is no miss; of two tries at one rate the second counts.
        let above = probes.iter().rev().filter(|probe| probe.rate > capacity.unwrap_or(0.0));
        let lowest = above.min_by(|one, other| one.rate.total_cmp(&other.rate));
        let limited = |probe: &Probe| probe.verdict == Verdict::Generator;
        let generator = lowest.is_some_and(limited) || curve.iter().any(|point| limited(&point.probe));
        let mut disturbances = taken.disturbances();
        disturbances.extend(generator.then_some(Disturbance::Generator));
        let normal = states.as_ref().is_none_or(States::are_normal);
        disturbances.extend((!whole || !normal).then_some(Disturbance::PairLeft));
        let all = probes.iter().chain(curve.iter().map(|point| &point.probe));
        let duplicates = all.map(|probe| probe.duplicates).sum();
        Measurement {
            cell,
            capacity,
            at_least: capacity.is_some() && lowest.is_none(),
            probes,
            curve,
            sync_ns,
            states,
            profile,
            duplicates,
            disturbances,
            curve_disturbances: Vec::new(),
            attempts: 1,
            runs: Vec::new(),
        }
    }
}

impl Taken {
    /// What of it is too much.
    pub fn disturbances(&self) -> Vec<Disturbance> {
        let steal = (self.steal > STEAL_MAX).then_some(Disturbance::Steal(self.steal));
        let others = (self.others > OTHERS_MAX).then_some(Disturbance::Others(self.others));
        steal.into_iter().chain(others).collect()
    }
}

impl Probe {
    fn new(rate: f64, summary: &Summary, used: &[ThreadTime], parameters: &Parameters) -> Self {
        let counters = &summary.counters;
        // The server also worked while nothing was counted yet, and its shares are of all that time.
        let exchanges_s = counters.completed as f64 / parameters.probe_s;
        let busy: f64 = used.iter().filter(|found| found.role == Role::Primary).map(|found| found.busy).sum();
        Self {
            rate,
            completed_rate: summary.completed_rate,
            drops: counters.drops(),
            drop_share: summary.drop_share,
            exchange: (&summary.exchange).into(),
            offer: (&summary.offer_raw).into(),
            ack: (&summary.ack_raw).into(),
            cpu_us: (busy > 0.0 && exchanges_s > 0.0).then(|| 1e6 * busy / exchanges_s),
            duplicates: counters.duplicates,
            verdict: parameters.objective.judge(summary),
        }
    }
}

/// What a cell takes as long as nothing is known.
pub fn guess(parameters: &Parameters) -> Duration {
    let probes = PROBES_USUAL.min(parameters.probes_max as f64) + 1.0;
    let repeats = f64::from(parameters.repeats);
    Duration::from_secs_f64(repeats * (probes * probe_s(parameters) + AROUND_CELL_S))
}

/// What the latencies of a cell take.
pub fn guess_of_curve(parameters: &Parameters) -> Duration {
    Duration::from_secs_f64(parameters.curve.len() as f64 * probe_s(parameters) + AROUND_CELL_S)
}

/// What comes beside the cells: latencies of each kind, and the starts of pairs.
pub fn guess_beside(axes: &Axes, parameters: &Parameters) -> Duration {
    let curves = guess_of_curve(parameters).mul_f64(axes.kinds() as f64);
    let pairs = axes.pair_cells() * parameters.repeats as usize + axes.pair_kinds();
    curves + Duration::from_secs_f64(AROUND_PAIR_S * pairs as f64)
}

fn probe_s(parameters: &Parameters) -> f64 {
    parameters.probe_s + parameters.warm_up_s + AROUND_PROBE_S
}

/// First rate for a server of which nothing is known: those that sync every lease alone are slow, and Kea and
/// pairs are slower than one Tandem.
pub fn first_rate(cell: &Cell, from: f64) -> f64 {
    match (cell.server, cell.ha) {
        (Server::Dnsmasq | Server::Dhcpd, _) => from / 8.0,
        (Server::Kea, _) | (_, Some(_)) => from / 4.0,
        _ => from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{measured, probe};

    fn found(probes: &[&Probe]) -> Found {
        Found {
            cell: measured(Server::Tandem, 1, 1, 1.0).cell,
            capacity: Some(10.0),
            probes: probes.iter().map(|probe| (*probe).clone()).collect(),
            curve: Vec::new(),
            sync_ns: 0,
            states: None,
            whole: true,
            profile: Vec::new(),
            taken: Taken { steal: 0.0, others: 0.0 },
        }
    }

    #[test]
    fn the_generator_is_to_blame_when_the_lowest_miss_was_its_own() {
        let (held, missed, generator) =
            (probe(10.0, Verdict::Held), probe(20.0, Verdict::Missed), probe(40.0, Verdict::Generator));
        let (retried, again) = (probe(10.0, Verdict::Generator), probe(40.0, Verdict::Missed));
        let table: [(&[&Probe], bool, &str); 4] = [
            (&[&held, &generator, &missed], false, "a lower one was the server's"),
            (&[&held, &generator], true, "nothing else missed"),
            (&[&retried, &held, &missed], false, "held at the second try"),
            (&[&held, &generator, &again], false, "missed at it"),
        ];
        for (probes, marked, why) in table {
            let measured = found(probes).measurement();
            assert_eq!(measured.disturbances.contains(&Disturbance::Generator), marked, "{why}");
            assert_eq!((measured.at_least, measured.full().map(|probe| probe.rate)), (false, Some(10.0)));
        }
        assert!(found(&[&held]).measurement().at_least, "nothing missed");
    }

    #[test]
    fn a_cell_is_marked_by_steal_by_others_and_by_a_pair_that_left_its_state() {
        let states = |standby: &str| Some(States { primary: "hot-standby".into(), standby: standby.into() });
        let taken = |steal, others| Taken { steal, others };
        let table = [
            (taken(0.01, 0.01), None, true, vec![]),
            (taken(0.5, 0.0), None, true, vec![Disturbance::Steal(0.5)]),
            (taken(0.0, 0.25), None, true, vec![Disturbance::Others(0.25)]),
            (taken(0.0, 0.0), states("hot-standby"), true, vec![]),
            (taken(0.0, 0.0), states("partner-down"), true, vec![Disturbance::PairLeft]),
            (taken(0.0, 0.0), states("hot-standby"), false, vec![Disturbance::PairLeft]),
        ];
        let held = probe(10.0, Verdict::Held);
        for (taken, states, whole, marks) in table {
            let found = Found { taken, states, whole, ..found(&[&held]) };
            assert_eq!(found.measurement().disturbances, marks);
        }
    }

    #[test]
    fn slow_servers_are_begun_with_slowly() {
        let rate = |server| first_rate(&measured(server, 1, 1, 1.0).cell, 8_000.0);
        let rates = [Server::Tandem, Server::Kea, Server::Dhcpd].map(rate);
        assert_eq!(rates, [8_000.0, 2_000.0, 1_000.0]);
    }
}
