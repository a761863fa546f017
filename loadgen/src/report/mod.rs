//! The result of a run as one versioned value; text, progress and pages are renderings of it.

pub mod html;
mod plot;
pub mod progress;
pub mod text;
pub mod warning;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::recorder::{Counters, Interval, Latencies, Latency, Stretch};
use crate::settings::Settings;

pub use warning::Warning;

/// Version of [`Summary`] and [`IntervalReport`]; it rises when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// A finished run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// [`VERSION`].
    pub version: u32,
    /// Name and version of this program.
    pub program: String,
    /// Unix time of the start, seconds.
    pub started_at: u64,
    /// What was asked for.
    pub parameters: Settings,
    /// Clients that held a lease when measuring began.
    pub prepared: u64,
    /// Seconds that were measured.
    pub measured_s: f64,
    /// Exchanges started a second.
    pub started_rate: f64,
    /// Exchanges completed a second.
    pub completed_rate: f64,
    /// Datagrams sent a second.
    pub sent_rate: f64,
    /// Datagrams received a second.
    pub received_rate: f64,
    /// Counts of the measured time.
    pub counters: Counters,
    /// Exchanges given up, as a share of those started, 0 to 1.
    pub drop_share: f64,
    /// Planned start to the end of the exchange.
    pub exchange: LatencySummary,
    /// First datagram to the end of the exchange.
    pub exchange_raw: LatencySummary,
    /// Planned start to OFFER.
    #[serde(default)]
    pub offer: LatencySummary,
    /// DISCOVER to OFFER.
    pub offer_raw: LatencySummary,
    /// When the REQUEST was due (by the plan, or as soon as its OFFER was read) to ACK.
    #[serde(default)]
    pub ack: LatencySummary,
    /// REQUEST to ACK.
    pub ack_raw: LatencySummary,
    /// Planned start to first datagram.
    pub lateness: LatencySummary,
    /// Longest time without a completed exchange, milliseconds.
    pub gap_ms_max: f64,
    /// When it began, seconds after the begin of measuring.
    #[serde(default)]
    pub gap_from_s: f64,
    /// Who gave the ACKs, in the order of the first.
    #[serde(default)]
    pub servers: Vec<ServerShare>,
    /// Whether the run was ended before its time.
    pub aborted: bool,
    /// Whether the figures tell of the generator rather than of the server.
    pub generator_limited: bool,
    /// What the reader should know.
    pub warnings: Vec<Warning>,
    /// The course of the run.
    pub intervals: Vec<IntervalReport>,
}

/// A latency in microseconds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LatencySummary {
    /// How many.
    pub count: u64,
    /// Lowest.
    pub min_us: f64,
    /// Average.
    pub mean_us: f64,
    /// Standard deviation.
    pub deviation_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90 %.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// Highest.
    pub max_us: f64,
    /// The curve: share (0 to 1) and the latency that it does not exceed.
    pub curve: Vec<(f64, f64)>,
}

/// One interval.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct IntervalReport {
    /// [`VERSION`].
    pub version: u32,
    /// Seconds from the begin of measuring to the end of the interval.
    pub at_s: f64,
    /// Length in seconds.
    pub length_s: f64,
    /// Counts of this interval.
    pub counters: Counters,
    /// Median of the exchange latency from the plan, microseconds.
    pub p50_us: f64,
    /// 99 % of it.
    pub p99_us: f64,
    /// Highest.
    pub max_us: f64,
    /// ACKs by server.
    #[serde(default)]
    pub servers: BTreeMap<Ipv4Addr, u64>,
}

/// What one server did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ServerShare {
    /// Its identifier (option 54).
    pub server: Ipv4Addr,
    /// ACKs it gave.
    pub acks: u64,
    /// Begin of the first interval with one, seconds after the begin of measuring.
    pub from_s: f64,
    /// End of the last.
    pub to_s: f64,
}

/// What the senders have measured together.
pub struct Measured {
    /// Unix time of the start, seconds.
    pub started_at: u64,
    /// Clients with a lease at the start.
    pub prepared: u64,
    /// Seconds.
    pub seconds: f64,
    /// Counts.
    pub counters: Counters,
    /// Latencies.
    pub latencies: Latencies,
    /// Longest time without a completed exchange, from the begin of measuring on.
    pub gap: Stretch,
    /// Whether it was ended early.
    pub aborted: bool,
    /// Intervals in order.
    pub intervals: Vec<IntervalReport>,
}

impl Summary {
    /// Makes the result of `measured`.
    pub fn new(settings: &Settings, measured: Measured) -> Self {
        let counters = measured.counters;
        let per_second =
            |count: u64| if measured.seconds > 0.0 { count as f64 / measured.seconds } else { 0.0 };
        let mut summary = Self {
            version: VERSION,
            program: concat!("tandem-loadgen ", env!("CARGO_PKG_VERSION")).to_owned(),
            started_at: measured.started_at,
            parameters: settings.clone(),
            prepared: measured.prepared,
            measured_s: measured.seconds,
            started_rate: per_second(counters.started),
            completed_rate: per_second(counters.completed),
            sent_rate: per_second(counters.sent),
            received_rate: per_second(counters.received),
            drop_share: counters.drop_share(),
            exchange: LatencySummary::new(&measured.latencies.exchange),
            exchange_raw: LatencySummary::new(&measured.latencies.exchange_raw),
            offer: LatencySummary::new(&measured.latencies.offer),
            offer_raw: LatencySummary::new(&measured.latencies.offer_raw),
            ack: LatencySummary::new(&measured.latencies.ack),
            ack_raw: LatencySummary::new(&measured.latencies.ack_raw),
            lateness: LatencySummary::new(&measured.latencies.lateness),
            gap_ms_max: measured.gap.length_ns() as f64 / 1e6,
            gap_from_s: measured.gap.from_ns as f64 / 1e9,
            servers: shares(&measured.intervals),
            aborted: measured.aborted,
            generator_limited: false,
            warnings: Vec::new(),
            intervals: measured.intervals,
            counters,
        };
        summary.warnings = warning::of(&summary);
        summary.generator_limited = summary.warnings.iter().any(Warning::is_generator_limit);
        summary
    }

    /// Why the run is no complete success; `None` if it is one.
    pub fn failure(&self) -> Option<String> {
        let counters = &self.counters;
        let reasons = [
            (counters.duplicates, "duplicate addresses"),
            (counters.drops(), "exchanges lost"),
            (counters.naks, "NAKs"),
            (counters.malformed, "malformed replies"),
            (counters.wrong_server, "ACKs of the wrong server"),
            (counters.not_started + counters.refused, "exchanges or datagrams not sent"),
        ];
        let found: Vec<String> = reasons
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, reason)| format!("{count} {reason}"))
            .chain((counters.completed == 0).then(|| "no exchange completed".to_owned()))
            .chain(self.aborted.then(|| "ended before its time".to_owned()))
            .collect();
        (!found.is_empty()).then(|| found.join(", "))
    }
}

impl LatencySummary {
    fn new(latency: &Latency) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |share: f64| us(latency.quantile(share));
        // Each step halves what is left above, twice a halving, up to one in a million.
        let shares = (0..=40).map(|step| 1.0 - 0.5_f64.powf(f64::from(step) / 2.0));
        Self {
            count: latency.count(),
            min_us: us(latency.min()),
            mean_us: latency.mean() / 1e3,
            deviation_us: latency.deviation() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(latency.max()),
            curve: shares.map(|share| (share, at(share))).collect(),
        }
    }
}

impl IntervalReport {
    /// Makes the report of an interval of a run that was measured from `from_ns` on.
    pub fn new(interval: &Interval, from_ns: u64) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        Self {
            version: VERSION,
            at_s: interval.stretch.to_ns.saturating_sub(from_ns) as f64 / 1e9,
            length_s: interval.stretch.length_ns() as f64 / 1e9,
            counters: interval.counters,
            p50_us: us(interval.exchange.quantile(0.5)),
            p99_us: us(interval.exchange.quantile(0.99)),
            max_us: us(interval.exchange.max()),
            servers: interval.servers.list().collect(),
        }
    }

    /// `count` of this interval as a rate; 0 for an interval of no length.
    pub fn per_second(&self, count: u64) -> f64 {
        if self.length_s > 0.0 { count as f64 / self.length_s } else { 0.0 }
    }
}

/// Who gave how many ACKs, and in which intervals.
fn shares(intervals: &[IntervalReport]) -> Vec<ServerShare> {
    let mut shares: Vec<ServerShare> = Vec::new();
    for interval in intervals {
        for (server, acks) in &interval.servers {
            match shares.iter_mut().find(|share| share.server == *server) {
                Some(share) => {
                    share.acks += acks;
                    share.to_s = interval.at_s;
                }
                None => shares.push(ServerShare {
                    server: *server,
                    acks: *acks,
                    from_s: interval.at_s - interval.length_s,
                    to_s: interval.at_s,
                }),
            }
        }
    }
    shares
}
