//! Renderings of a report; pure. What Markdown and the page have in common is a table of texts.

mod heat;
pub mod html;
pub mod markdown;

use crate::report::{Disturbance, Durability, Kind, Measurement, Probe, Report, Server};

/// Title row of [`comparison`] and of [`everything`].
const TITLES: [&str; 6] =
    ["Server", "Exchanges/s held", "p99 there", "p50 at half", "p99 at half", "REQUEST–ACK p99 at half"];

/// The best of each server, and its rate as a ratio to the others.
fn comparison(report: &Report) -> Vec<Vec<String>> {
    let mut kinds = report.kinds();
    kinds.sort_by_key(|kind| (kind.server == Server::Reflector, kind.server == Server::Kea));
    let best: Vec<&Measurement> = kinds.iter().filter_map(|&kind| report.best(kind)).collect();
    let capacity =
        |server| report.best(Kind::single(server, Durability::Written)).and_then(|found| found.capacity);
    let ratio = |found: &Measurement, other: Option<f64>| match (found.capacity, other) {
        (Some(rate), Some(other)) => format!("{:.2}", rate / other),
        _ => "–".to_owned(),
    };
    let titles = TITLES.iter().copied().chain(["times Kea", "of the floor"]).map(str::to_owned).collect();
    let rows = best.iter().map(|found| {
        let ratios = [ratio(found, capacity(Server::Kea)), ratio(found, capacity(Server::Reflector))];
        row(found).into_iter().chain(ratios).collect()
    });
    std::iter::once(titles).chain(rows).collect()
}

/// Every cell.
fn everything(report: &Report) -> Vec<Vec<String>> {
    let titles = TITLES.iter().copied().chain(["Disturbed by"]).map(str::to_owned).collect();
    let rows = report.cells.iter().map(|found| {
        let reasons: Vec<String> = found.disturbances.iter().map(disturbance).collect();
        row(found).into_iter().chain([reasons.join(", ")]).collect()
    });
    std::iter::once(titles).chain(rows).collect()
}

fn row(found: &Measurement) -> Vec<String> {
    let ms = |probe: Option<&Probe>, of: fn(&Probe) -> f64| {
        probe.map_or_else(|| "–".to_owned(), |probe| format!("{:.2} ms", of(probe)))
    };
    let capacity = match found.capacity {
        Some(rate) if found.at_least => format!("at least {rate:.0}"),
        Some(rate) => format!("{rate:.0}"),
        None => "none".to_owned(),
    };
    let mark = if found.disturbances.is_empty() { "" } else { " *" };
    vec![
        found.cell.name(),
        capacity + mark,
        ms(found.full(), |probe| probe.exchange.p99_ms),
        ms(found.half(), |probe| probe.exchange.p50_ms),
        ms(found.half(), |probe| probe.exchange.p99_ms),
        ms(found.half(), |probe| probe.ack.p99_ms),
    ]
}

fn disturbance(disturbance: &Disturbance) -> String {
    match disturbance {
        Disturbance::Steal(share) => format!("steal time {:.1} %", 100.0 * share),
        Disturbance::Others(share) => format!("other processes {:.1} %", 100.0 * share),
        Disturbance::PairLeft => "the pair left its normal state".to_owned(),
        Disturbance::Generator => "the generator's limit".to_owned(),
    }
}

/// What the figures are of, a line each.
fn circumstances(report: &Report) -> Vec<String> {
    let (host, parameters) = (&report.host, &report.parameters);
    let list = |cpus: &[usize]| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let objective = &parameters.objective;
    let bound = objective.p99_ms_max.map_or_else(String::new, |ms| format!(", p99 at most {ms} ms"));
    vec![
        format!(
            "{}: {} × {}, {} MiB, kernel {}",
            host.name, host.cpus, host.cpu, host.memory_mib, host.kernel
        ),
        format!("{}, commit {}", report.program, host.commit.as_deref().unwrap_or("unknown")),
        format!("Load: {}.", parameters.workload),
        format!("A rate is held with at most {} % lost{bound}.", 100.0 * objective.drops_max),
        format!(
            "Probes of {} s after {} s of warm-up, narrowed down to {} % unless {} probes of a cell are used up before.",
            parameters.probe_s,
            parameters.warm_up_s,
            100.0 * parameters.precision,
            parameters.probes_max
        ),
        format!(
            "Server on CPU {}, generator on CPU {}; latencies count from the planned start.",
            list(&parameters.server_cpus),
            list(&parameters.generator_cpus)
        ),
        "A star marks a measurement that was disturbed.".to_owned(),
        "An ACK of Tandem waits for stable storage (synced) or for the kernel (written); Kea syncs nothing."
            .to_owned(),
    ]
}
