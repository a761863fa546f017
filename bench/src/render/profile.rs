//! Where the CPU time of pairs went at the rate that they held: a table, and bars for each pair.

use super::bars::{self, Bar};
use super::draw::Failure;
use super::{contenders, held, kind_name, name};
use crate::report::{Measurement, Report, Server, ThreadTime};

/// Shares of a CPU below this are left out, unless they are a server's largest.
const BUSY_MIN: f64 = 0.005;

/// The pairs to look at: what stands for each kind, and was seen at work.
fn pairs(report: &Report) -> Vec<&Measurement> {
    contenders(report).iter().map(|shown| shown.found).filter(|found| !found.profile.is_empty()).collect()
}

/// Rows of `found` that are worth to be told, in its order: primary first, the busiest first.
fn telling(found: &Measurement) -> impl Iterator<Item = &ThreadTime> {
    let mut last = None;
    found.profile.iter().filter(move |row| {
        let first = last != Some(row.role);
        last = Some(row.role);
        first || row.busy >= BUSY_MIN
    })
}

/// The table; `None` without any pair.
pub fn rows(report: &Report) -> Option<Vec<Vec<String>>> {
    let titles = ["Pair", "Held", "Process", "Threads", "CPUs busy", "Busiest", "Waiting"];
    let rows: Vec<Vec<String>> = pairs(report)
        .into_iter()
        .flat_map(|found| {
            telling(found).map(|row| {
                let share = |share: f64| format!("{share:.2}");
                vec![
                    kind_name(found.cell.kind()),
                    held(found),
                    process(row),
                    threads(row),
                    share(row.busy),
                    share(row.busiest),
                    share(row.waited),
                ]
            })
        })
        .collect();
    (!rows.is_empty()).then(|| std::iter::once(titles.map(str::to_owned).to_vec()).chain(rows).collect())
}

/// Bars of each pair as SVG, with its name.
///
/// # Errors
/// When they cannot be drawn.
pub fn charts(report: &Report) -> Result<Vec<(String, String)>, Failure> {
    let mut charts = Vec::new();
    for found in pairs(report) {
        let bars: Vec<Bar> = telling(found)
            .map(|row| Bar {
                text: format!("{}, {} · {:.2} CPUs", process(row), threads(row), row.busy),
                value: row.busy,
                ours: row.server == Server::Tandem,
            })
            .collect();
        if let Some(drawn) = bars::chart(&bars)? {
            charts.push((format!("{} · {}/s", name(&found.cell), held(found)), drawn));
        }
    }
    Ok(charts)
}

fn process(row: &ThreadTime) -> String {
    format!("{} {}", row.role.name(), row.server.name())
}

fn threads(row: &ThreadTime) -> String {
    match row.count {
        1 => row.name.clone(),
        count => format!("{count} × {}", row.name),
    }
}
