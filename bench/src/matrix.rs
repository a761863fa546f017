//! The run of a matrix: what is missing is measured, kept after every cell, and looked at more closely at the
//! end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::axes::{self, Axes};
use crate::measure::{self, Subjects};
use crate::progress::Progress;
use crate::report::{Cell, Load, Measurement, Parameters, Point, Report};
use crate::search::Search;

/// How the measurement ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Every cell is measured.
    Complete,
    /// It was interrupted; what was measured is kept.
    Interrupted,
    /// The time was up before every cell was measured; the next run goes on.
    OutOfTime,
}

/// What a measurement needs beside the cells.
pub struct Bench<'a> {
    /// What makes servers.
    pub subjects: &'a Subjects<'a>,
    /// Folder of the report.
    pub out: &'a Path,
    /// Longest time the whole may take.
    pub budget: Option<Duration>,
    /// Set when it shall end.
    pub stop: &'a AtomicBool,
}

impl Bench<'_> {
    /// Measures what `report` does not have yet, and keeps it after every cell.
    ///
    /// # Errors
    /// When a server does not start or the generator fails.
    pub fn run(&self, axes: &Axes, report: &mut Report) -> Result<End> {
        let parameters = report.parameters.clone();
        let start = Instant::now();
        let beside = measure::guess_beside(axes, &parameters);
        // However much there is beside them, some cells are measured in every run.
        let budget = self.budget.map(|budget| budget - beside.min(budget / 2));
        let mut progress = Progress::begin(remaining(axes, report), measure::guess(&parameters), budget);
        report.planned = planned(axes, report);
        let mut end = End::Complete;
        // What the second part consists of may follow from the first, so it is asked for after every cell.
        while let Some(cell) = missing(axes, report).first().copied() {
            progress.set_remaining(remaining(axes, report));
            if !progress.allows_a_cell() {
                end = End::OutOfTime;
                break;
            }
            progress.cell("", &cell);
            let Some(measured) = self.cell(cell, report, &progress)? else { return Ok(End::Interrupted) };
            progress.done(&measured);
            report.cells.push(measured);
            report.planned = planned(axes, report);
            self.save(report)?;
        }
        let rest = axes::curves(report);
        let budget = self.budget.map(|budget| budget.saturating_sub(start.elapsed()));
        let mut progress = Progress::begin(rest.len(), measure::guess_of_curve(&parameters), budget);
        for cell in rest {
            let Some(index) = report.cells.iter().position(|found| found.cell == cell) else { continue };
            if !progress.allows_a_cell() {
                return Ok(End::OutOfTime);
            }
            progress.cell(": latencies", &cell);
            if !self.curve(&mut report.cells[index], &parameters, &progress)? {
                return Ok(End::Interrupted);
            }
            progress.done(&report.cells[index]);
            self.save(report)?;
        }
        Ok(end)
    }

    fn save(&self, report: &Report) -> Result<()> {
        report.save(&self.out.join("report.json"))
    }

    /// Measures one cell as often as it takes; `None` when interrupted.
    fn cell(&self, cell: Cell, report: &Report, progress: &Progress) -> Result<Option<Measurement>> {
        let mut runs = Vec::new();
        loop {
            let search = search(report, &cell);
            match self.subjects.measure(cell, search, &report.parameters, progress) {
                // A server that a signal has reached as well ends before its time.
                Err(_) if self.stop.load(Ordering::Relaxed) => return Ok(None),
                Err(error) => return Err(error),
                Ok(None) => return Ok(None),
                Ok(Some(run)) => runs.push(run),
            }
            let more = is_another_needed(&runs, report.parameters.repeats, report.parameters.attempts_max);
            if !more || !progress.allows_another() {
                return Ok(settled(runs));
            }
            if runs.last().is_some_and(|run| !run.disturbances.is_empty()) {
                progress.line(&format!("    disturbed ({}); once more", causes(runs.last())));
            }
        }
    }

    /// Takes latencies at all loads that the cell can bear; `false` when interrupted.
    fn curve(&self, found: &mut Measurement, parameters: &Parameters, progress: &Progress) -> Result<bool> {
        let capacity = found.capacity.unwrap_or(0.0);
        let loads: Vec<Load> = axes::loads(&parameters.curve, capacity);
        for attempt in 1..=parameters.attempts_max {
            let taken = self.subjects.curve(found.cell, &loads, capacity, parameters, progress);
            let (points, disturbances): (Vec<Point>, _) = match taken {
                Err(_) if self.stop.load(Ordering::Relaxed) => return Ok(false),
                Err(error) => return Err(error),
                Ok(None) => return Ok(false),
                Ok(Some(taken)) => taken,
            };
            (found.curve, found.curve_disturbances) = (points, disturbances);
            let calm = found.curve_disturbances.is_empty();
            if calm || attempt == parameters.attempts_max || !progress.allows_another() {
                break;
            }
            progress.line("    disturbed; once more");
        }
        Ok(true)
    }
}

/// The cells that are not measured yet, in order.
fn missing(axes: &Axes, report: &Report) -> Vec<Cell> {
    planned(axes, report).into_iter().filter(|cell| report.find(*cell).is_none()).collect()
}

/// How many cells there are still to measure, as far as can be told.
fn remaining(axes: &Axes, report: &Report) -> usize {
    let first = axes.first().into_iter().filter(|cell| report.find(*cell).is_none()).count();
    let named = missing(axes, report).len();
    if first > 0 && axes.at_best { first + axes.second_expected() } else { named }
}

/// All cells that can be named so far.
fn planned(axes: &Axes, report: &Report) -> Vec<Cell> {
    let mut cells = axes.first();
    cells.extend(axes.second(report));
    let mut seen: Vec<Cell> = Vec::new();
    cells.retain(|cell| {
        let new = !seen.contains(cell);
        seen.extend(new.then_some(*cell));
        new
    });
    cells
}

/// Where to begin: near what the same kind of server held last, if possible with the same queue, which saves the
/// way up from the bottom.
fn search(report: &Report, cell: &Cell) -> Search {
    let parameters = &report.parameters;
    let of_kind = |found: &&Measurement| found.cell.kind() == cell.kind();
    let held = || report.cells.iter().rev().filter(of_kind).filter(|found| found.capacity.is_some());
    let alike = held().find(|found| found.cell.queue == cell.queue).or_else(|| held().next());
    match alike.and_then(|found| found.capacity) {
        Some(rate) => Search::near(rate, parameters.to, parameters.precision),
        None => {
            Search::blind(measure::first_rate(cell, parameters.from), parameters.to, parameters.precision)
        }
    }
}

/// Whether a cell with these runs is to be measured again: until there are enough that nothing disturbed, or
/// too many that something did.
fn is_another_needed(runs: &[Measurement], repeats: u32, attempts_max: u32) -> bool {
    let calm = runs.iter().filter(|run| run.disturbances.is_empty()).count();
    let disturbed = runs.len() - calm;
    calm < repeats as usize && disturbed < attempts_max as usize
}

/// The run that counts: of those that nothing disturbed the one in the middle; of disturbed ones the best, as a
/// disturbance takes and does not give.
fn settled(mut runs: Vec<Measurement>) -> Option<Measurement> {
    let attempts = u32::try_from(runs.len()).unwrap_or(u32::MAX);
    runs.sort_by(|one, other| one.capacity.unwrap_or(0.0).total_cmp(&other.capacity.unwrap_or(0.0)));
    let calm: Vec<Measurement> = runs.iter().filter(|run| run.disturbances.is_empty()).cloned().collect();
    let found: Vec<f64> = calm.iter().filter_map(|run| run.capacity).collect();
    let chosen = match calm.len() {
        0 => runs.pop(),
        // Of an even number the lower one of the middle.
        count => calm.into_iter().nth((count - 1) / 2),
    };
    chosen.map(|chosen| Measurement { attempts, runs: found, ..chosen })
}

fn causes(run: Option<&Measurement>) -> String {
    let causes = run.into_iter().flat_map(|run| &run.disturbances).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{fixed, measured};
    use crate::report::{Attachment, Channel, Disturbance, Durability, Server};

    fn run(capacity: f64, disturbed: bool) -> Measurement {
        let disturbances = disturbed.then_some(Disturbance::Steal(0.1)).into_iter().collect();
        Measurement { disturbances, ..measured(Server::Tandem, 1, 64, capacity) }
    }

    #[test]
    fn a_cell_is_repeated_until_it_is_calm_often_enough_or_disturbed_too_often() {
        // (disturbed?, repeats, attempts at most), again?
        let table: [(&[bool], u32, u32, bool); 8] = [
            (&[false], 1, 2, false),
            (&[true], 1, 2, true),
            (&[true, true], 1, 2, false),
            (&[true, false], 1, 2, false),
            (&[false], 3, 2, true),
            (&[false, true, false], 3, 2, true),
            (&[false, true, true], 3, 2, false),
            (&[false, false, false], 3, 2, false),
        ];
        for (disturbed, repeats, attempts_max, again) in table {
            let runs: Vec<_> = disturbed.iter().map(|disturbed| run(1.0, *disturbed)).collect();
            assert_eq!(is_another_needed(&runs, repeats, attempts_max), again, "{disturbed:?} {repeats}");
        }
    }

    #[test]
    fn the_median_of_the_calm_counts_and_without_any_the_best_of_the_disturbed() {
        // (capacity, disturbed?), what counts, the calm ones
        type Row = (&'static [(f64, bool)], f64, &'static [f64]);
        let table: [Row; 5] = [
            (&[(5.0, false)], 5.0, &[5.0]),
            (&[(9.0, false), (5.0, false), (7.0, false)], 7.0, &[5.0, 7.0, 9.0]),
            (&[(9.0, false), (5.0, false)], 5.0, &[5.0, 9.0]),
            (&[(9.0, true), (5.0, false)], 5.0, &[5.0]),
            (&[(5.0, true), (9.0, true)], 9.0, &[]),
        ];
        for (runs, capacity, calm) in table {
            let found =
                settled(runs.iter().map(|(rate, disturbed)| run(*rate, *disturbed)).collect()).unwrap();
            assert_eq!((found.capacity, found.runs.as_slice()), (Some(capacity), calm), "{runs:?}");
            assert_eq!(found.attempts as usize, runs.len());
            assert_eq!(found.disturbances.is_empty(), !calm.is_empty());
        }
        assert_eq!(settled(Vec::new()), None);
    }

    #[test]
    fn a_search_begins_at_what_the_same_kind_held_last() {
        let report = fixed();
        let next = |server, queue, durability| {
            search(&report, &Cell { durability, ..measured(server, 4, queue, 0.0).cell }).next()
        };
        assert_eq!(next(Server::Tandem, 256, Durability::Synced), Some(30_000.0));
        assert_eq!(next(Server::Tandem, 16, Durability::Synced), Some(21_000.0), "the same queue");
        assert_eq!(next(Server::Tandem, 256, Durability::Written), Some(1_000.0));
        assert_eq!(next(Server::Kea, 256, Durability::Written), Some(5_000.0));
    }

    #[test]
    fn a_resumed_matrix_lacks_what_is_not_measured_and_knows_its_second_part_after_the_first() {
        let axes = Axes {
            threads: vec![1, 2],
            queues: vec![16, 64],
            durabilities: vec![Durability::Synced],
            attachments: vec![Attachment::Relayed],
            alone: true,
            channels: vec![Channel::Tls],
            ha_threads: vec![(1, 1)],
            kea_as: Vec::new(),
            at_best: true,
            floor: true,
            rivals: Vec::new(),
            remote: None,
        };
        let mut report = fixed();
        report.cells.retain(|found| found.cell.server == Server::Tandem);
        let names =
            |report: &Report| -> Vec<String> { missing(&axes, report).iter().map(Cell::name).collect() };
        let pair = "Tandem, threads 1, queue 64, synced, pair over TLS with 1 listeners and 1 senders";
        assert_eq!(names(&report), ["bare reflector", pair]);
        report.cells.truncate(3);
        assert_eq!(names(&report).first().map(String::as_str), Some("bare reflector"));
        assert!(names(&report).contains(&"Tandem, threads 2, queue 64, synced".to_owned()));
    }
}
