//! From a report to a configuration: the knee of the matrix.

use crate::report::{Durability, Kind, Measurement, Report, Server};

/// A cell this close to the best, as a share, is as good: a repetition may turn them around.
const AS_GOOD: f64 = 0.95;

/// What to configure.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    /// `thread-pool-size`.
    pub threads: u16,
    /// `packet-queue-size`.
    pub queue: u32,
    /// What the figures hold for.
    pub durability: Durability,
    /// Exchanges a second that were held with it.
    pub capacity: f64,
    /// Why, in a sentence.
    pub reason: String,
}

/// The smallest configuration that is as good as the best: fewest threads, then the shortest queue.
///
/// Durable ACKs come first, being the default. Disturbed cells count only if there are no others. `None` when
/// no cell of Tandem held any rate.
pub fn recommend(report: &Report) -> Option<Recommendation> {
    [Durability::Synced, Durability::Written].into_iter().find_map(|durability| knee(report, durability))
}

/// [`recommend`] for one durability.
pub fn knee(report: &Report, durability: Durability) -> Option<Recommendation> {
    let kind = Kind::single(Server::Tandem, durability);
    let of_ours = |found: &&Measurement| found.cell.kind() == kind && found.capacity.is_some();
    let held: Vec<&Measurement> = report.cells.iter().filter(of_ours).collect();
    let calm: Vec<&Measurement> =
        held.iter().copied().filter(|found| found.disturbances.is_empty()).collect();
    let all_disturbed = calm.is_empty();
    let left_out = if all_disturbed { 0 } else { held.len() - calm.len() };
    let cells = if all_disturbed { held } else { calm };
    let rate = |found: &Measurement| found.capacity.unwrap_or(0.0);
    let best = cells.iter().copied().max_by(|one, other| rate(one).total_cmp(&rate(other)))?;
    let good = cells.iter().copied().filter(|found| rate(found) >= AS_GOOD * rate(best));
    let chosen = good.min_by_key(|found| found.cell.size())?;
    let (threads, queue) = (chosen.cell.threads?, chosen.cell.queue?);
    let noun = if threads == 1 { "thread" } else { "threads" };
    let held = format!("{threads} {noun} with a queue of {queue} held {:.0} exchanges/s", rate(chosen));
    let mut reason = if chosen.cell == best.cell {
        format!("{held}, more than any smaller configuration by over 5 %")
    } else {
        format!(
            "{held}, which is {:.0} % of the best measured ({:.0}/s with {} and {}), so that more buys nothing",
            100.0 * rate(chosen) / rate(best),
            rate(best),
            best.cell.threads?,
            best.cell.queue?
        )
    };
    if cells.len() == 1 {
        reason = format!("{held}, and nothing else was measured that could be compared");
    }
    if best.at_least {
        reason.push_str("; the highest rate allowed (--to) was held, so that the server may do more");
    }
    if left_out > 0 {
        reason.push_str(&format!("; disturbed measurements are left out ({left_out})"));
    }
    if all_disturbed {
        reason.push_str("; every measurement was disturbed, so measure again on a quieter machine");
    }
    Some(Recommendation { threads, queue, durability, capacity: rate(chosen), reason })
}

impl Recommendation {
    /// The block to paste into `Dhcp4`.
    pub fn block(&self) -> String {
        format!(
            "\"multi-threading\": {{\n    \"enable-multi-threading\": true,\n    \"thread-pool-size\": {},\n    \
             \"packet-queue-size\": {}\n}}",
            self.threads, self.queue
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Disturbance;
    use crate::report::tests::{fixed, measured};

    #[test]
    fn the_smallest_configuration_within_five_percent_of_the_best_is_chosen() {
        const DISTURBED: f64 = 0.1;
        // (threads, queue, capacity, steal), what is chosen, a part of the reason
        type Row = (&'static [(u16, u32, f64, f64)], Option<(u16, u32)>, &'static str);
        let table: [Row; 7] = [
            (&[], None, ""),
            (&[(1, 64, 100.0, 0.0)], Some((1, 64)), "nothing else was measured"),
            (
                &[(1, 64, 96.0, 0.0), (2, 64, 100.0, 0.0)],
                Some((1, 64)),
                "96 % of the best measured (100/s with 2",
            ),
            (&[(1, 64, 94.0, 0.0), (2, 64, 100.0, 0.0)], Some((2, 64)), "more than any smaller"),
            (&[(1, 256, 100.0, 0.0), (1, 64, 98.0, 0.0), (1, 16, 50.0, 0.0)], Some((1, 64)), "98 %"),
            (&[(1, 64, 100.0, DISTURBED), (2, 64, 90.0, 0.0)], Some((2, 64)), "left out (1)"),
            (&[(1, 64, 99.0, DISTURBED), (2, 64, 100.0, DISTURBED)], Some((1, 64)), "quieter machine"),
        ];
        for (cells, expected, reason) in table {
            let mut report = fixed();
            report.cells = cells
                .iter()
                .map(|&(threads, queue, capacity, steal)| Measurement {
                    disturbances: (steal > 0.0).then_some(Disturbance::Steal(steal)).into_iter().collect(),
                    ..measured(Server::Tandem, threads, queue, capacity)
                })
                .collect();
            let found = recommend(&report);
            assert_eq!(found.as_ref().map(|found| (found.threads, found.queue)), expected, "{cells:?}");
            let given = found.map_or(String::new(), |found| found.reason);
            assert!(given.contains(reason), "{cells:?}: {given}");
        }
    }

    #[test]
    fn the_block_is_what_the_server_reads() {
        let block = recommend(&fixed()).unwrap().block();
        let value: serde_json::Value = serde_json::from_str(&format!("{{{block}}}")).unwrap();
        assert_eq!(value["multi-threading"]["thread-pool-size"], 1);
        assert_eq!(value["multi-threading"]["packet-queue-size"], 64);
    }

    #[test]
    fn a_rate_that_nothing_exceeded_is_told_as_such() {
        let mut report = fixed();
        assert!(!recommend(&report).unwrap().reason.contains("--to"));
        report.cells[3].at_least = true;
        assert!(recommend(&report).unwrap().reason.contains("--to"));
    }

    #[test]
    fn without_durable_figures_the_written_ones_count() {
        let mut report = fixed();
        for found in &mut report.cells {
            found.cell.durability = Durability::Written;
        }
        assert_eq!(recommend(&report).unwrap().durability, Durability::Written);
    }
}
