//! A summary for people.

use std::fmt::Write;

use super::{LatencySummary, ServerShare, Summary};
use crate::recorder::Counters;

/// The summary as text; `extended` adds the percentile curve.
pub fn render(summary: &Summary, extended: bool) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, summary, extended);
    out
}

fn write(out: &mut String, summary: &Summary, extended: bool) -> std::fmt::Result {
    let counters = &summary.counters;
    writeln!(out, "scenario {}, {:.1} s measured", name(summary), summary.measured_s)?;
    writeln!(out)?;
    if summary.parameters.scenario.definition().together {
        let (completed, all) = (counters.completed, counters.started);
        writeln!(out, "all at once   {completed} of {all} completed within {:.3} s", summary.measured_s)?;
    } else {
        let (planned, started, completed) =
            (summary.parameters.rate, summary.started_rate, summary.completed_rate);
        writeln!(
            out,
            "exchanges/s   planned {planned:.0}   started {started:.0}   completed {completed:.0}"
        )?;
    }
    writeln!(out, "packets/s     sent {:.0}   received {:.0}", summary.sent_rate, summary.received_rate)?;
    writeln!(
        out,
        "drops         {} of {} ({:.3} %): {} without OFFER, {} without ACK",
        counters.drops(),
        counters.started,
        100.0 * summary.drop_share,
        counters.offers_missing,
        counters.acks_missing
    )?;
    also(out, counters)?;
    writeln!(
        out,
        "longest gap   {:.1} ms without a completed exchange, from {:.1} s on",
        summary.gap_ms_max, summary.gap_from_s
    )?;
    // One server that answers all is no news.
    for share in summary.servers.iter().filter(|_| summary.servers.len() > 1) {
        let ServerShare { server, acks, from_s, to_s } = share;
        writeln!(out, "served by     {server}: {acks} ACKs between {from_s:.1} s and {to_s:.1} s")?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "latency (ms)       {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "min", "mean", "p50", "p90", "p99", "p99.9", "max"
    )?;
    let groups = [
        ("from the plan", [&summary.offer, &summary.ack, &summary.exchange]),
        ("from sending", [&summary.offer_raw, &summary.ack_raw, &summary.exchange_raw]),
    ];
    for (title, latencies) in groups {
        writeln!(out, "{title}")?;
        let names = ["  DISCOVER-OFFER", "  REQUEST-ACK", "  whole exchange"];
        for (name, latency) in names.iter().zip(latencies).filter(|(_, latency)| latency.count > 0) {
            row(out, name, latency)?;
        }
    }
    if extended {
        writeln!(out)?;
        writeln!(out, "{:>12} {:>12}", "share %", "plan ms")?;
        for (share, us) in &summary.exchange.curve {
            writeln!(out, "{:>12.5} {:>12.3}", 100.0 * share, us / 1e3)?;
        }
    }
    for warning in &summary.warnings {
        writeln!(out)?;
        writeln!(out, "warning: {warning}")?;
    }
    if let Some(failure) = summary.failure() {
        writeln!(out)?;
        writeln!(out, "NOT A COMPLETE SUCCESS: {failure}")?;
    }
    Ok(())
}

/// What is worth a word only when it happened.
fn also(out: &mut String, counters: &Counters) -> std::fmt::Result {
    let noteworthy = [
        ("duplicate addresses", counters.duplicates),
        ("NAKs", counters.naks),
        ("late", counters.late),
        ("orphans", counters.orphans),
        ("extra", counters.extra),
        ("wrong server", counters.wrong_server),
        ("malformed", counters.malformed),
        ("retransmissions", counters.retransmissions),
        ("releases", counters.releases),
    ];
    let noteworthy: Vec<String> =
        noteworthy.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    if !noteworthy.is_empty() {
        writeln!(out, "also          {}", noteworthy.join(", "))?;
    }
    Ok(())
}

fn row(out: &mut String, name: &str, latency: &LatencySummary) -> std::fmt::Result {
    let values = [
        latency.min_us,
        latency.mean_us,
        latency.p50_us,
        latency.p90_us,
        latency.p99_us,
        latency.p999_us,
        latency.max_us,
    ];
    write!(out, "{name:<18}")?;
    for value in values {
        write!(out, " {:>9.3}", value / 1e3)?;
    }
    writeln!(out)
}

/// The scenario as the command line spells it.
fn name(summary: &Summary) -> String {
    use clap::ValueEnum;
    summary
        .parameters
        .scenario
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}
