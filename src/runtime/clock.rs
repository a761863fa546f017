//! The time as the control node and the HA executors read it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds on the monotonic clock, the same that shards read: a view says until when they may act on it.
pub fn monotonic_ns() -> u64 {
    shards::runtime::clock::monotonic_ns()
}

/// Milliseconds of wall clock since the epoch.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds of wall clock since the epoch.
pub fn wall_s() -> u64 {
    wall_ms() / 1000
}

/// Both at once, as the pure machines take them.
pub fn now() -> shards::Now {
    shards::Now { monotonic_ns: monotonic_ns(), wall_ms: wall_ms() }
}

/// Local time as Kea's commands write it: `YYYY-MM-DD HH:MM:SS.ffffff` (API-5).
pub fn local_timestamp() -> String {
    chrono::Local::now().format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}
