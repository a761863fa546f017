//! What the demo found, as data. How it looks is `render`'s.

use serde::Serialize;

/// The whole result.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    /// Version of the program.
    pub(super) version: String,
    /// Whether it was built with optimisation.
    pub(super) optimised: bool,
    /// How much faster than the template's the timers ran.
    pub(super) speed: u32,
    /// Acts in order.
    pub(super) phases: Vec<PhaseReport>,
    /// Clients that came.
    pub(super) clients: u64,
    /// Clients that hold a lease in the end.
    pub(super) clients_served: u64,
    /// ACKs that clients took.
    pub(super) acks: u64,
    /// Clients whose renewal was lost; their leases are good for hours, and they will ask again.
    pub(super) unrenewed: u64,
    /// Refusals.
    pub(super) naks: u64,
    /// REQUESTs that clients gave up; they started again.
    pub(super) unanswered: u64,
    /// From the start of both servers to both in hot-standby.
    pub(super) first_whole_ms: u64,
    /// From SIGKILL to the first ACK of the standby.
    pub(super) take_over_ms: u64,
    /// From the new start of the primary to both in hot-standby.
    pub(super) whole_again_ms: u64,
    /// Lease files, primary first.
    pub(super) files: Vec<FileReport>,
    /// The whole demo.
    pub(super) duration_ms: u64,
    /// What did not hold; empty when all is well.
    pub(super) failures: Vec<String>,
}

/// One act.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct PhaseReport {
    /// What went on.
    pub(super) name: String,
    /// How long.
    pub(super) duration_ms: u64,
    /// Clients that came.
    pub(super) clients: u64,
    /// ACKs of each server, primary first.
    pub(super) acks: [u64; 2],
    /// How many of them extended a lease.
    pub(super) renewals: u64,
    /// REQUEST to ACK, microseconds; nothing without ACKs.
    pub(super) latency_us_p50: Option<u32>,
    /// The same at the 99th percentile.
    pub(super) latency_us_p99: Option<u32>,
    /// The longest.
    pub(super) latency_us_max: Option<u32>,
}

/// One lease file against what clients saw.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct FileReport {
    /// Whose.
    pub(super) server: String,
    /// Rows in it.
    pub(super) rows: u64,
    /// Leases they make.
    pub(super) leases: u64,
    /// Leases that clients saw acknowledged.
    pub(super) acknowledged: u64,
    /// How many of those are in it, with the right client and the right end.
    pub(super) found: u64,
    /// What is wrong, the first few by name.
    pub(super) wrong: Vec<String>,
}
