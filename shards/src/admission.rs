//! What a shard does when more comes than it can decide: which queue it reads, how much may wait, what is too old.
//!
//! Datagrams wait in the kernel, in two queues for each shard and interface ([`crate::steer::Queue`]). What does not fit
//! a queue is dropped and counted there, at no cost to the shard. So overload is controlled by the queues: an
//! [`Admission`] watches how long the datagrams of one queue have waited and says
//! - whether it is pressed, so that DISCOVERs are divided from all else;
//! - how large it may be, so that whoever is served is served in good time, whatever the speed of the server just now;
//! - how long a datagram may have waited: what is older (the process stood still) is dropped unread while others wait
//!   behind it.
//!
//! Pure: ages, drops and `now` go in; what to do comes out. Invariants: a queue from which less than a batch could be
//! taken is left alone; the size is between [`OCTETS_MIN`] and what the queue began with.
//!
//! ```text
//!             a full batch was taken                 every WINDOW_NS
//!   quiet ────────────────────────────> watched ─────────────────────┐
//!     ^                                  │    ^                      │ drops, all waited long: smaller queue
//!     └──────────────────────────────────┘    └──────────────────────┘ drops, none waited long: larger queue
//!        windows without drops in which                                otherwise: as it is
//!        nobody had to wait: one, or QUIET_WINDOWS in a row where the queue was pressed
//! ```

/// A queue in which everybody has waited longer is too long, milliseconds: a quarter of the second after which
/// generators (ISC's criterion) give an exchange up, whose ACK has to come within the same second.
pub const WAIT_MS_TARGET: u64 = 250;

/// A queue whose full batches have waited longer is pressed, milliseconds: far above a turn of the loop, far below what
/// fills a socket's buffer on a slow host.
pub const WAIT_MS_PRESSED: u64 = 10;

/// What has waited longer is dropped while others wait behind it, milliseconds: a client asks again after 4 s, give or
/// take one (RFC 2131 §4.1), so its next query is on its way or here.
pub const WAIT_MS_MAX: u64 = 3_000;

/// The same for a queue that was made smaller, milliseconds: there, others are turned away because of it.
pub const WAIT_MS_MAX_OVERLOADED: u64 = 2 * WAIT_MS_TARGET;

/// How long a queue is watched before its size changes, nanoseconds: above the periods of control groups (100 ms) and
/// the stalls of disks.
pub const WINDOW_NS: u64 = 250_000_000;

/// How many windows in a row have to be quiet before a queue is not pressed any more: two seconds. To divide the queues
/// and to join them again makes the kernel work, so a load that comes in waves does it once.
const QUIET_WINDOWS: u32 = 8;

/// Smallest queue, octets as the kernel counts them: some tens of datagrams.
pub const OCTETS_MIN: u32 = 16 * 1024;

/// An age beyond this is a clock that was set, not a wait, milliseconds.
const AGE_MS_PLAUSIBLE: u64 = 60_000;

/// Of what a shard decides at a time, the part that DISCOVERs have however many REQUESTs there are: one in so many.
const DISCOVERS_ONE_IN: usize = 8;

/// DISCOVERs to take after the REQUESTs, where `batch` is what is taken at a time: a batch, and a small part of one
/// where more REQUESTs wait, so that new clients are served slowly and not never.
pub fn discovers_at_once(batch: usize, more_requests_wait: bool) -> usize {
    if more_requests_wait { batch.div_ceil(DISCOVERS_ONE_IN) } else { batch }
}

/// How long a datagram waited that the kernel received at `received_ms`, wall clock in milliseconds.
pub fn waited_ms(wall_ms: u64, received_ms: u64) -> u64 {
    let waited = wall_ms.saturating_sub(received_ms);
    if waited > AGE_MS_PLAUSIBLE { 0 } else { waited }
}

/// The state of one queue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admission {
    octets: u32,
    octets_max: u32,
    /// The queue cannot be made smaller: its reader drops what a smaller one would not have let in.
    fixed: bool,
    pressed: bool,
    /// Quiet windows in a row, while pressed.
    quiet_windows: u32,
    window: Option<Window>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Window {
    ends_ns: u64,
    /// Least and most that the oldest datagram of a batch has waited; without a batch the least is above the most.
    waited_ms_min: u64,
    waited_ms_max: u64,
    /// Datagrams the kernel dropped.
    dropped: u64,
    /// The queue was made smaller just before: what is in it was let in under the old size.
    settling: bool,
}

impl Admission {
    /// A queue of `octets_max`, as the kernel counts them.
    pub fn new(octets_max: u32) -> Self {
        Self { octets: octets_max, octets_max, fixed: false, pressed: false, quiet_windows: 0, window: None }
    }

    /// A queue of `octets_max` that keeps its size. Where another would be made smaller, what has waited longer than the
    /// target is dropped unread from this one.
    pub fn fixed(octets_max: u32) -> Self {
        Self { fixed: true, ..Self::new(octets_max) }
    }

    /// How large the queue is, octets.
    pub fn octets(&self) -> u32 {
        self.octets
    }

    /// Whether DISCOVERs are to be divided from all else, because others have to wait.
    pub fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// A batch was taken whose oldest datagram has waited `waited_ms`; `more` where others wait behind it. Gives how
    /// long a datagram of this batch may have waited, milliseconds; `None` where all are to be decided.
    pub fn handle_batch(&mut self, now_ns: u64, more: bool, waited_ms: impl FnOnce() -> u64) -> Option<u64> {
        if !more && self.window.is_none() {
            return None;
        }
        let waited_ms = waited_ms();
        let window = self.window.get_or_insert(Window::new(now_ns, false));
        window.waited_ms_max = window.waited_ms_max.max(waited_ms);
        // A queue that was read to its end holds nobody back.
        window.waited_ms_min = window.waited_ms_min.min(if more { waited_ms } else { 0 });
        self.pressed |= more && waited_ms > WAIT_MS_PRESSED;
        let overloaded = self.octets < self.octets_max;
        more.then_some(match (overloaded, self.fixed) {
            (false, _) => WAIT_MS_MAX,
            (true, false) => WAIT_MS_MAX_OVERLOADED,
            (true, true) => WAIT_MS_TARGET,
        })
    }

    /// The kernel has dropped `dropped` datagrams of this queue.
    pub fn handle_drops(&mut self, dropped: u64) {
        if let Some(window) = &mut self.window {
            window.dropped += dropped;
        }
    }

    /// When [`Admission::handle_timeout`] is wanted, after [`Admission::handle_drops`]; `None` while all is quiet.
    pub fn next_timeout(&self) -> Option<u64> {
        self.window.map(|window| window.ends_ns)
    }

    /// A window is over: the size that the queue shall have from now on, if it changes and can.
    pub fn handle_timeout(&mut self, now_ns: u64) -> Option<u32> {
        let window = self.window.filter(|window| window.ends_ns <= now_ns)?;
        let before = self.octets;
        // Without a batch nothing is known: the load is gone, or the process stood still.
        let none = window.waited_ms_min > window.waited_ms_max;
        let long = !none && window.waited_ms_min > WAIT_MS_TARGET;
        let short = !none && window.waited_ms_max <= WAIT_MS_TARGET;
        match window.dropped {
            0 if none || short => self.octets = self.octets_max,
            0 => {}
            _ if long && !window.settling => {
                let fit = u64::from(before) * WAIT_MS_TARGET / window.waited_ms_min;
                self.octets = u32::try_from(fit).unwrap_or(before).max(OCTETS_MIN.min(self.octets_max));
            }
            _ if short => self.octets = before.saturating_mul(2).min(self.octets_max),
            _ => {}
        }
        let quiet = window.dropped == 0 && window.waited_ms_max <= WAIT_MS_PRESSED;
        self.quiet_windows = if quiet && self.pressed { self.quiet_windows + 1 } else { 0 };
        self.pressed &= self.quiet_windows < QUIET_WINDOWS;
        self.window = (self.pressed || !quiet).then(|| Window::new(now_ns, self.octets < before));
        (self.octets != before && !self.fixed).then_some(self.octets)
    }
}

impl Window {
    fn new(now_ns: u64, settling: bool) -> Self {
        // What was let in under the old size is gone when the longest wait allowed has passed.
        let length = if settling { WAIT_MS_MAX_OVERLOADED * 1_000_000 } else { WINDOW_NS };
        Self { ends_ns: now_ns + length, waited_ms_min: u64::MAX, waited_ms_max: 0, dropped: 0, settling }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 4 * 1024 * 1024;

    /// One window: batches as (oldest waited, more wait behind), drops, and the size that follows.
    type Row = (&'static str, &'static [(u64, bool)], u64, u32);

    /// Plays windows one after another and compares the size after each.
    fn play(rows: &[Row]) -> Admission {
        let (mut admission, mut now) = (Admission::new(MAX), 0);
        for (name, batches, drops, expected) in rows {
            for (waited, more) in *batches {
                now += 1;
                admission.handle_batch(now, *more, || *waited);
            }
            admission.handle_drops(*drops);
            if let Some(due) = admission.next_timeout() {
                now = due;
            }
            let change = admission.handle_timeout(now);
            assert_eq!(admission.octets(), *expected, "{name}");
            assert!(change.is_none_or(|octets| octets == *expected), "{name}");
        }
        admission
    }

    #[test]
    fn partial_batches_ask_for_no_age_and_no_timer() {
        let mut admission = Admission::new(MAX);
        let patience =
            admission.handle_batch(5, false, || panic!("the age of a batch that was the whole queue"));
        assert_eq!((patience, admission.next_timeout()), (None, None));
        assert_eq!(admission.handle_timeout(u64::MAX), None);
    }

    #[test]
    fn a_queue_changes_its_size_by_drops_and_by_how_long_all_have_waited() {
        let table: &[(&str, &[Row])] = &[
            ("a burst that fits", &[("drains", &[(10, true), (120, true), (200, false)], 0, MAX)]),
            (
                "a burst that fits a slow server",
                &[
                    ("grows old", &[(10, true), (240, true)], 0, MAX),
                    ("older", &[(300, true), (800, true)], 0, MAX),
                    ("over", &[(900, true), (950, false)], 0, MAX),
                    ("quiet", &[(0, false)], 0, MAX),
                ],
            ),
            ("a burst too large for a fast server", &[("drains", &[(10, true), (90, true)], 500, MAX)]),
            (
                "beyond capacity, fast: a full queue is short",
                &[("full", &[(190, true), (210, true)], 9_000, MAX)],
            ),
            (
                "beyond capacity, slow",
                &[
                    ("becomes full", &[(0, true), (300, true)], 9_000, MAX),
                    ("full", &[(1_000, true), (1_100, true)], 9_000, MAX / 4),
                    ("settles", &[(500, true), (490, true)], 9_000, MAX / 4),
                    ("stands at the target", &[(250, true), (260, true)], 9_000, MAX / 4),
                    ("a stall in it", &[(240, true), (600, true)], 9_000, MAX / 4),
                    ("slower still", &[(500, true), (510, true)], 9_000, MAX / 8),
                ],
            ),
            (
                "the load ends",
                &[
                    ("full", &[(1_000, true)], 1, MAX / 4),
                    ("settles and empties", &[(200, true), (10, false)], 0, MAX),
                ],
            ),
            (
                "the server is fast again while too much comes",
                &[
                    ("full", &[(1_000, true)], 1, MAX / 4),
                    ("settles", &[(300, true)], 1, MAX / 4),
                    ("faster", &[(100, true), (50, true)], 700, MAX / 2),
                    ("faster", &[(200, true), (100, true)], 700, MAX),
                    ("fast", &[(200, true), (200, true)], 700, MAX),
                ],
            ),
            (
                "no batch in a whole window",
                &[
                    ("full", &[(1_000, true)], 1, MAX / 4),
                    ("settles", &[(500, true)], 1, MAX / 4),
                    ("stands still", &[], 5_000, MAX / 4),
                ],
            ),
            ("a server next to standstill", &[("full", &[(59_000, true)], 1, MAX / 236)]),
        ];
        for (name, rows) in table {
            println!("{name}");
            play(rows);
        }
    }

    #[test]
    fn the_size_has_a_floor_and_quiet_windows_end_the_watch() {
        let mut rows: Vec<Row> = Vec::new();
        let mut expected = MAX;
        for _ in 0..10 {
            expected = (expected / 8).max(OCTETS_MIN);
            rows.push(("slower", &[(2_000, true)], 1, expected));
            rows.push(("settles", &[(400, true)], 1, expected));
        }
        assert_eq!(play(&rows).octets(), OCTETS_MIN);
        rows.extend([("the load is gone", [].as_slice(), 0, MAX); QUIET_WINDOWS as usize]);
        assert_eq!(play(&rows).next_timeout(), None);
    }

    #[test]
    fn a_queue_is_pressed_from_the_first_wait_until_nobody_has_waited_for_some_windows() {
        const WAIT: Row = ("a wait", &[(11, true)], 0, MAX);
        const QUIET: Row = ("nobody waits", &[(10, true)], 0, MAX);
        const SILENCE: Row = ("silence", &[], 0, MAX);
        let table: &[(&str, &[Row], bool)] = &[
            ("a batch that waited long and was the last", &[("", &[(0, true), (900, false)], 0, MAX)], false),
            ("full batches at once", &[("", &[(3, true), (9, true)], 0, MAX)], false),
            ("a wait", &[WAIT], true),
            ("a wait, then another window with one", &[WAIT, ("", &[(12, false)], 0, MAX)], true),
            ("drops alone", &[WAIT, ("", &[(1, true)], 4, MAX)], true),
            ("not over yet", &[WAIT, QUIET, QUIET, QUIET, QUIET, QUIET, QUIET, QUIET], true),
            ("over", &[WAIT, QUIET, QUIET, QUIET, QUIET, QUIET, QUIET, QUIET, QUIET], false),
            ("waves", &[WAIT, QUIET, QUIET, QUIET, WAIT, QUIET, QUIET, QUIET, QUIET, QUIET, QUIET], true),
            (
                "silence",
                &[WAIT, SILENCE, SILENCE, SILENCE, SILENCE, SILENCE, SILENCE, SILENCE, SILENCE],
                false,
            ),
        ];
        for (name, rows, expected) in table {
            assert_eq!(play(rows).is_pressed(), *expected, "{name}");
        }
    }

    #[test]
    fn a_host_that_grants_small_buffers_only_keeps_them() {
        let mut admission = Admission::new(8_192);
        admission.handle_batch(0, true, || 5_000);
        admission.handle_drops(1);
        assert_eq!((admission.handle_timeout(WINDOW_NS), admission.octets()), (None, 8_192));
    }

    #[test]
    fn what_may_wait_depends_on_whether_others_wait_and_are_turned_away() {
        let mut admission = Admission::new(MAX);
        assert_eq!(admission.handle_batch(0, true, || 1_000), Some(WAIT_MS_MAX));
        assert_eq!(admission.handle_batch(1, false, || 9_000), None);
        let mut admission = play(&[("full", &[(1_000, true)], 1, MAX / 4)]);
        assert_eq!(admission.handle_batch(0, true, || 1_000), Some(WAIT_MS_MAX_OVERLOADED));
        assert_eq!(admission.handle_batch(0, false, || 1_000), None);
    }

    #[test]
    fn a_queue_that_keeps_its_size_has_less_patience_instead() {
        let mut admission = Admission::fixed(MAX);
        assert_eq!(admission.handle_batch(0, true, || 1_000), Some(WAIT_MS_MAX));
        admission.handle_drops(1);
        assert_eq!(admission.handle_timeout(WINDOW_NS), None, "nobody is to change it");
        assert_eq!(admission.handle_batch(WINDOW_NS, true, || 300), Some(WAIT_MS_TARGET));
    }

    #[test]
    fn discovers_have_a_small_part_beside_any_number_of_requests() {
        for (batch, more_requests_wait, expected) in
            [(64, false, 64), (64, true, 8), (16, true, 2), (8, true, 1), (1, true, 1), (1, false, 1)]
        {
            assert_eq!(
                discovers_at_once(batch, more_requests_wait),
                expected,
                "{batch} {more_requests_wait}"
            );
        }
    }

    #[test]
    fn a_clock_that_was_set_makes_nobody_old() {
        for (wall_ms, received_ms, expected) in [
            (10_000, 9_000, 1_000),
            (10_000, 10_000, 0),
            (9_000, 10_000, 0),
            (3_600_000, 0, 0),
            (60_000, 0, 60_000),
        ] {
            assert_eq!(waited_ms(wall_ms, received_ms), expected);
        }
    }
}
