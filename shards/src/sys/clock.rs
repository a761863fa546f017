//! The two clocks.

use crate::Now;

/// Reads both clocks.
pub fn now() -> Now {
    let wall = read(libc::CLOCK_REALTIME);
    Now { monotonic_ns: monotonic_ns(), wall_ms: wall.0 * 1000 + wall.1 / 1_000_000 }
}

/// Reads the monotonic clock alone, nanoseconds.
pub fn monotonic_ns() -> u64 {
    let monotonic = read(libc::CLOCK_MONOTONIC);
    monotonic.0 * 1_000_000_000 + monotonic.1
}

/// Seconds and nanoseconds; a clock set before 1970 reads as 0.
fn read(clock: libc::clockid_t) -> (u64, u64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec. Both clocks exist on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_monotonic_clock_rises_and_the_wall_clock_is_after_2020() {
        let first = super::now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = super::now();
        assert!(second.monotonic_ns >= first.monotonic_ns + 2_000_000);
        assert!(second.wall_s() > 1_577_836_800);
    }
}
