//! Renderings of a report; pure. What Markdown and the page have in common is a table of texts.

mod bars;
mod curves;
mod draw;
mod heat;
pub mod html;
pub mod markdown;
pub mod perf;
mod profile;
mod sizing;
mod takeover;

use crate::recommend::{Choice, shown};
use crate::report::cell::Ha;
use crate::report::{Attachment, Cell, Disturbance, Durability, Kind, Measurement, Probe, Report, Server};
use crate::words::{count, ms, several};

/// Title row of [`comparison`] and of [`everything`].
const TITLES: [&str; 7] = [
    "Server",
    "Exchanges/s held",
    "p50 at half",
    "p99 at half",
    "ACK p99 at half",
    "p99 at full",
    "CPU each",
];

/// A server beside the others: Tandem as it is recommended, the rest with their best settings.
struct Contender<'r> {
    found: &'r Measurement,
    capacity: f64,
    /// Its rate over that of Kea in the same place.
    times_kea: Option<f64>,
    /// Its rate as a share of a bare reflector's, 0 to 1.
    of_floor: Option<f64>,
}

/// Everybody who held a rate: ours, then the others, the reflector last.
fn contenders(report: &Report) -> Vec<Contender<'_>> {
    let mut kinds = report.kinds();
    kinds.sort_by_key(|kind| match kind.server {
        Server::Tandem => 0,
        Server::Kea => 1,
        Server::Dhcpd | Server::Dnsmasq | Server::Remote => 2,
        Server::Reflector => 3,
    });
    let rate = |kind: Kind| report.best(kind).and_then(|found| found.capacity);
    let found = kinds.into_iter().filter_map(|kind| shown(report, kind));
    found
        .filter_map(|found| {
            let kind = Kind { partner: None, ..found.cell.kind() };
            let kea = Kind { server: Server::Kea, durability: Durability::Written, ..kind };
            let floor = Kind { server: Server::Reflector, ..kea.alone() };
            let capacity = found.capacity?;
            let times_kea = rate(kea).map(|kea| capacity / kea);
            let of_floor = rate(floor).map(|floor| capacity / floor);
            Some(Contender { found, capacity, times_kea, of_floor })
        })
        .collect()
}

/// [`contenders`] as a table.
fn comparison(report: &Report) -> Vec<Vec<String>> {
    let titles = TITLES.iter().copied().chain(["times Kea", "of the floor"]).map(str::to_owned).collect();
    let rows = contenders(report).into_iter().map(|contender| {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(dash, |ratio| format!("{ratio:.2}"));
        row(contender.found)
            .into_iter()
            .chain([ratio(contender.times_kea), ratio(contender.of_floor)])
            .collect()
    });
    std::iter::once(titles).chain(rows).collect()
}

/// The cells of pairs, as a table; `None` without any.
fn pairs(report: &Report) -> Option<Vec<Vec<String>>> {
    let titles = [
        "Pair",
        "Threads",
        "Queue",
        "Listeners",
        "Senders",
        "Exchanges/s held",
        "p99 at half",
        "of one alone",
    ];
    let row = |found: &Measurement, ha: Ha| {
        let Cell { server, threads, queue, durability, .. } = found.cell;
        let alone = report.best(found.cell.kind().alone()).and_then(|alone| alone.capacity);
        let durability =
            if server == Server::Tandem { format!(", {}", durability.name()) } else { String::new() };
        let partner =
            ha.partner.map_or_else(String::new, |partner| format!(" with a {} standby", partner.name()));
        vec![
            format!("{}{partner} {}{durability}", server.name(), ha.channel.name()),
            threads.map_or_else(dash, |threads| threads.to_string()),
            queue.map_or_else(dash, |queue| queue.to_string()),
            ha.listeners.to_string(),
            ha.senders.to_string(),
            held(found),
            found.half().map_or_else(dash, |probe| ms(probe.exchange.p99_ms)),
            found.capacity.zip(alone).map_or_else(dash, |(pair, alone)| format!("{:.2}", pair / alone)),
        ]
    };
    let rows: Vec<_> = report.cells.iter().filter_map(|found| Some(row(found, found.cell.ha?))).collect();
    let titles = titles.map(str::to_owned).to_vec();
    (!rows.is_empty()).then(|| std::iter::once(titles).chain(rows).collect())
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
    let wait = |probe: Option<&Probe>, of: fn(&Probe) -> f64| probe.map_or_else(dash, |probe| ms(of(probe)));
    vec![
        name(&found.cell),
        held(found),
        wait(found.half(), |probe| probe.exchange.p50_ms),
        wait(found.half(), |probe| probe.exchange.p99_ms),
        wait(found.half(), |probe| probe.ack.p99_ms),
        wait(found.full(), |probe| probe.exchange.p99_ms),
        cpu_us(found).map_or_else(dash, |us| format!("{us:.1} µs")),
    ]
}

fn dash() -> String {
    "–".to_owned()
}

/// The rate that a cell held, with the range of its runs if there were several.
fn held(found: &Measurement) -> String {
    match found.runs.as_slice() {
        [lowest, .., highest] => format!("{} ({}–{})", held_alone(found), count(*lowest), count(*highest)),
        _ => held_alone(found),
    }
}

/// The rate that a cell held, with a star if it was disturbed.
fn held_alone(found: &Measurement) -> String {
    let mark = if found.disturbances.is_empty() { "" } else { " *" };
    match found.capacity {
        Some(rate) if found.at_least => format!("at least {}{mark}", count(rate)),
        Some(rate) => format!("{}{mark}", count(rate)),
        None => format!("none{mark}"),
    }
}

/// Microseconds of CPU time for each exchange: at full load, where nothing is spent on waking up and waiting.
fn cpu_us(found: &Measurement) -> Option<f64> {
    found.full().or(found.half()).and_then(|probe| probe.cpu_us)
}

fn disturbance(disturbance: &Disturbance) -> String {
    match disturbance {
        Disturbance::Steal(share) => format!("steal time {:.1} %", 100.0 * share),
        Disturbance::Others(share) => format!("other processes {:.1} %", 100.0 * share),
        Disturbance::PairLeft => "the pair left its normal state".to_owned(),
        Disturbance::Generator => "the generator's limit".to_owned(),
    }
}

/// A kind of cells for people.
fn kind_name(kind: Kind) -> String {
    let mut text = kind.server.name().to_owned();
    if let Some(channel) = kind.channel {
        let pair =
            kind.partner.map_or("pair".to_owned(), |partner| format!("with a {} standby", partner.name()));
        text.push_str(&format!(" {pair} {}", channel.name()));
    }
    if kind.server == Server::Tandem {
        text.push_str(&format!(", {}", kind.durability.name()));
    }
    if kind.attachment == Attachment::Direct {
        text.push_str(", direct clients");
    }
    text
}

/// A cell for people.
fn name(cell: &Cell) -> String {
    let (kind, settings) = (kind_name(cell.kind()), settings_name(cell));
    if settings.is_empty() { kind } else { format!("{kind}: {settings}") }
}

/// What is configured in a cell, in short; empty where nothing can be.
fn settings_name(cell: &Cell) -> String {
    let parts = [
        cell.threads.map(|threads| several(threads, "thread")),
        cell.queue.map(|queue| format!("queue {queue}")),
        cell.ha.map(|ha| format!("{}, {}", several(ha.listeners, "listener"), several(ha.senders, "sender"))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What a choice gives, a line each: a figure, and what it is.
fn gains(report: &Report, choice: &Choice<'_>) -> Vec<(String, String)> {
    let durable = match choice.measured.cell.durability {
        Durability::Synced => "each lease on stable storage before its ACK",
        Durability::Written => "each lease written, but not synced",
    };
    let drops = 100.0 * report.parameters.objective.drops_max;
    let mut gains = vec![(
        format!("{}/s", count(choice.capacity)),
        format!("DISCOVER to ACK, {durable}, at most {drops} % lost"),
    )];
    if let Some(half) = choice.measured.half() {
        let text = format!("median wait at half of that; 99 % within {}", ms(half.exchange.p99_ms));
        gains.push((ms(half.exchange.p50_ms), text));
    }
    let all = contenders(report);
    let own = all.iter().find(|contender| contender.found.cell == choice.measured.cell);
    if let Some((times, own)) = own.and_then(|own| Some((own.times_kea?, own))) {
        let kea = count(own.capacity / times);
        gains.push((
            format!("{times:.1} ×"),
            format!("Kea on the same CPUs, best setting ({kea}/s, not synced)"),
        ));
    }
    if let Some(alone) = report.best(choice.measured.cell.kind().alone())
        && choice.measured.cell.ha.is_some()
    {
        let rate = alone.capacity.unwrap_or(choice.capacity);
        let text =
            format!("of one server alone ({}/s); here both share the machine with the load", count(rate));
        gains.push((format!("{:.0} %", 100.0 * choice.capacity / rate), text));
    } else if let Some((share, own)) = own.and_then(|own| Some((own.of_floor?, own))) {
        let floor = count(own.capacity / share);
        let text = format!("of a server that does nothing but answer ({floor}/s), the ceiling here");
        gains.push((format!("{:.0} %", 100.0 * share), text));
    }
    gains
}

/// What the figures are of, a line each.
fn circumstances(report: &Report) -> Vec<String> {
    let (host, parameters) = (&report.host, &report.parameters);
    let list = |cpus: &[usize]| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let objective = &parameters.objective;
    let bound = objective.p99_ms_max.map_or_else(String::new, |ms| format!(", p99 at most {ms} ms"));
    let place = match &parameters.remote {
        Some(remote) => {
            format!("Server at {}, generator on CPU {}", remote.server, list(&parameters.generator_cpus))
        }
        None => format!(
            "Server on CPU {}, generator on CPU {} of the same machine",
            list(&parameters.server_cpus),
            list(&parameters.generator_cpus)
        ),
    };
    let mut syncs: Vec<u64> = report.cells.iter().map(|found| found.sync_ns).filter(|ns| *ns > 0).collect();
    syncs.sort_unstable();
    let sync = syncs.get(syncs.len() / 2).map(|ns| {
        let disk = ms(*ns as f64 / 1e6);
        format!(
            "write and fdatasync of one row by a plain thread on the disk of the leases: {disk} (median)."
        )
    });
    let mut lines = vec![
        format!("{}: {} × {}, {} MiB, kernel {}", host.name, host.cpus, host.cpu, host.memory_mib, host.kernel),
        format!(
            "{}, commit {}, measured by: {}",
            report.program,
            host.commit.as_deref().unwrap_or("unknown"),
            report.command
        ),
        format!("Load: {}.", parameters.workload),
        format!("A rate is held with at most {} % lost{bound}.", 100.0 * objective.drops_max),
        format!(
            "Probes of {} s after {} s of warm-up, narrowed down to {} % unless {} probes of a cell are used up before.",
            parameters.probe_s,
            parameters.warm_up_s,
            100.0 * parameters.precision,
            parameters.probes_max
        ),
        format!("{place}; latencies count from the planned start."),
        "A star marks a measurement that was disturbed. \"At half\" is at half of the rate that was held. Where a cell \
         was measured more than once, the run in the middle counts and the lowest and the highest stand behind it.".to_owned(),
        "An ACK of Tandem waits for stable storage (synced) or for the kernel (written); Kea syncs nothing, dnsmasq and \
         dhcpd sync every lease."
            .to_owned(),
        "CPU time of the server, user and system, for each exchange, at the rate that was held; of a pair the primary's."
            .to_owned(),
    ];
    if report.cells.iter().any(|found| found.cell.ha.is_some_and(|ha| ha.partner.is_some())) {
        lines.push(
            "Of a pair of a Tandem and a Kea, Kea has its CPUs for itself; where there are too few for both, Tandem shares \
             those of the generator."
                .to_owned(),
        );
    }
    lines.extend(sync);
    lines
}

#[cfg(test)]
mod tests;
