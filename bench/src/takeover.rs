//! The primary of a pair over TLS goes away under load: when the standby answers, and whom nobody served.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use loadgen::report::{IntervalReport, Summary};

use crate::report::cell::{Channel, Ha};
use crate::report::takeover::{Departure, Moment, Takeover};
use crate::report::{Attachment, Cell, Durability, Parameters, Server};
use crate::site::{Programs, Reach, Site, layout};

/// Seconds of load before the primary goes away.
const BEFORE_S: f64 = 5.0;

/// Seconds of load after that.
const AFTER_S: f64 = 15.0;

/// Length of an interval, seconds.
pub const INTERVAL_S: f64 = 0.25;

/// Lets the primary of a fresh pair go away while `rate` exchanges a second are started, half of them
/// renewals; `None` when told to stop.
///
/// # Errors
/// When a server does not start or the generator fails.
pub fn measure(
    departure: Departure,
    rate: f64,
    programs: &Programs,
    parameters: &Parameters,
    out: &Path,
    stop: &AtomicBool,
) -> Result<Option<Takeover>> {
    let cell = Cell {
        server: Server::Tandem,
        threads: Some(1),
        queue: Some(256),
        durability: Durability::Synced,
        ha: Some(Ha { channel: Channel::Tls, listeners: 1, senders: 1, partner: None }),
        attachment: Attachment::Relayed,
    };
    let Some(mut site) = Site::start(&cell, Reach::Both, programs, parameters, out, stop)? else {
        return Ok(None);
    };
    let command = format!("kill -s {} {}", departure.signal(), site.primary_id());
    let course =
        Course { rate, length_s: BEFORE_S + AFTER_S, interval_s: INTERVAL_S, at_s: BEFORE_S, command };
    let summary = site.generator().watch(&course, parameters, stop)?;
    Ok(summary.map(|summary| told(departure, rate, &summary)))
}

/// A load with an event in it.
pub struct Course {
    /// Exchanges started a second.
    pub rate: f64,
    /// Seconds that are measured.
    pub length_s: f64,
    /// Length of an interval, seconds.
    pub interval_s: f64,
    /// When the command is run, seconds after the begin of measuring.
    pub at_s: f64,
    /// For `sh -c`.
    pub command: String,
}

fn told(departure: Departure, rate: f64, summary: &Summary) -> Takeover {
    let by = |interval: &IntervalReport, server| {
        let acks = interval.servers.get(&server).copied().unwrap_or(0);
        acks as f64 / interval.length_s.max(f64::MIN_POSITIVE)
    };
    let moments: Vec<Moment> = summary
        .intervals
        .iter()
        .map(|interval| Moment {
            at_s: interval.at_s,
            primary: by(interval, layout::SERVER_ADDRESS),
            standby: by(interval, layout::STANDBY_ADDRESS),
        })
        .collect();
    let first = moments.iter().find(|moment| moment.at_s > BEFORE_S && moment.standby > 0.0);
    Takeover {
        departure,
        rate,
        at_s: BEFORE_S,
        first_ack_s: first.map(|moment| moment.at_s - BEFORE_S),
        started: summary.counters.started,
        unserved: summary.counters.drops(),
        duplicates: summary.counters.duplicates,
        moments,
    }
}
