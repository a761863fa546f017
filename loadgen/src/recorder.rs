//! Counters and latencies of one sender, and their sum (pure).
//!
//! Each sender records alone; nothing is shared while it runs. Latencies are nanoseconds; what lies outside
//! of the histogram's range is recorded at its edge, never lost.

use std::net::Ipv4Addr;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Shortest and longest latency told apart, nanoseconds.
const LATENCY_NS: (u64, u64) = (1_000, 200_000_000_000);

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened, in counts.
        #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The sum of both.
            pub fn plus(&self, other: &Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }

            /// What has been added since `earlier`.
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name - earlier.$name,)* }
            }
        }
    };
}

counters! {
    /// Exchanges that were started.
    started,
    /// Exchanges that ended as they should.
    completed,
    /// OFFERs taken.
    offers,
    /// ACKs taken.
    acks,
    /// NAKs.
    naks,
    /// Exchanges given up without an OFFER.
    offers_missing,
    /// Exchanges given up without an ACK.
    acks_missing,
    /// Replies to exchanges that had been given up.
    late,
    /// Replies to nothing that was asked.
    orphans,
    /// Further replies to what had been answered, as of a second server.
    extra,
    /// ACKs of another server than the one that was chosen.
    wrong_server,
    /// Datagrams that are no usable reply.
    malformed,
    /// Addresses given to a client while another held them.
    duplicates,
    /// Addresses not checked for duplicates because the table was full.
    unchecked,
    /// Messages sent again.
    retransmissions,
    /// RELEASEs sent.
    releases,
    /// Planned exchanges not started: too many were under way, or the sender was too late.
    not_started,
    /// Exchanges started for a client that had one under way.
    overlaps,
    /// Datagrams the kernel refused to send.
    refused,
    /// Replies the kernel dropped before the generator read them.
    receive_drops,
    /// Datagrams sent.
    sent,
    /// Datagrams received.
    received,
}

impl Counters {
    /// Exchanges that were lost: given up for want of a reply.
    pub fn drops(&self) -> u64 {
        self.offers_missing + self.acks_missing
    }

    /// Drops as a share of the exchanges started, 0 to 1.
    pub fn drop_share(&self) -> f64 {
        if self.started == 0 { 0.0 } else { self.drops() as f64 / self.started as f64 }
    }
}

/// A histogram of nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u32>);

impl Latency {
    /// An empty one, with `digits` significant decimal digits (1 to 5).
    pub fn new(digits: u8) -> Self {
        // The bounds are constants that the histogram accepts, and so is every number of digits used here.
        Self(Histogram::new_with_bounds(LATENCY_NS.0, LATENCY_NS.1, digits).expect("constant bounds"))
    }

    /// Adds one.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so nothing of `other` can lie outside.
        self.0.add(&other.0).expect("equal bounds");
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `share` (0 to 1) of all do not exceed, nanoseconds; 0 when empty.
    pub fn quantile(&self, share: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_quantile(share) }
    }

    /// The lowest; 0 when empty.
    pub fn min(&self) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.min() }
    }

    /// The highest.
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// The average.
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// The standard deviation.
    pub fn deviation(&self) -> f64 {
        self.0.stdev()
    }
}

/// All latencies of a run, each from when it was due and, raw, from the datagram that was answered.
///
/// An exchange is due when the plan says so, a REQUEST after an OFFER as soon as the OFFER has been read. A
/// message that had to be sent again is still due since the first time, and raw since the last.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Planned start to the end of the exchange.
    pub exchange: Latency,
    /// First datagram to the end of the exchange.
    pub exchange_raw: Latency,
    /// Planned start to OFFER.
    pub offer: Latency,
    /// DISCOVER to OFFER.
    pub offer_raw: Latency,
    /// When the REQUEST was due to ACK.
    pub ack: Latency,
    /// REQUEST to ACK.
    pub ack_raw: Latency,
    /// Planned start to first datagram: how late the generator was.
    pub lateness: Latency,
}

impl Latencies {
    /// Empty ones.
    pub fn new() -> Self {
        let empty = || Latency::new(3);
        Self {
            exchange: empty(),
            exchange_raw: empty(),
            offer: empty(),
            offer_raw: empty(),
            ack: empty(),
            ack_raw: empty(),
            lateness: empty(),
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        self.exchange.add(&other.exchange);
        self.exchange_raw.add(&other.exchange_raw);
        self.offer.add(&other.offer);
        self.offer_raw.add(&other.offer_raw);
        self.ack.add(&other.ack);
        self.ack_raw.add(&other.ack_raw);
        self.lateness.add(&other.lateness);
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// Servers told apart.
pub const SERVERS_MAX: usize = 8;

/// ACKs by server, as far as there is room: a ninth server is not listed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ByServer {
    entries: [(u32, u64); SERVERS_MAX],
}

impl ByServer {
    /// Adds `count` ACKs of `server`.
    pub fn add(&mut self, server: Ipv4Addr, count: u64) {
        let key = u32::from(server);
        let place = self.entries.iter_mut().find(|(found, count)| *found == key || *count == 0);
        if let Some(place) = place {
            *place = (key, place.1 + count);
        }
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &Self) {
        for (server, count) in other.list() {
            self.add(server, count);
        }
    }

    /// The servers and their ACKs, in the order of their first.
    pub fn list(&self) -> impl Iterator<Item = (Ipv4Addr, u64)> {
        self.entries
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(server, count)| (Ipv4Addr::from(*server), *count))
    }
}

/// A stretch of time, monotonic nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stretch {
    /// Begin.
    pub from_ns: u64,
    /// End.
    pub to_ns: u64,
}

impl Stretch {
    /// Its length.
    pub fn length_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }
}

/// What one sender writes down.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Counts since the start.
    pub counters: Counters,
    /// Latencies since the start.
    pub latencies: Latencies,
    interval: Interval,
    reported: Counters,
    /// Longest time between two completed exchanges.
    pub gap: Stretch,
    /// When the last exchange was started, monotonic nanoseconds; 0 before the first.
    pub last_started_ns: u64,
    /// When the last exchange completed, monotonic nanoseconds.
    pub last_completed_ns: Option<u64>,
}

/// What one sender did in one interval.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Number of the interval, from 0.
    pub number: u32,
    /// When it was.
    pub stretch: Stretch,
    /// ACKs by server.
    pub servers: ByServer,
    /// Counts of this interval alone.
    pub counters: Counters,
    /// Exchange latencies from the plan, of this interval alone.
    pub exchange: Latency,
}

impl Recorder {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            counters: Counters::default(),
            latencies: Latencies::new(),
            interval: Interval {
                number: 0,
                stretch: Stretch::default(),
                servers: ByServer::default(),
                counters: Counters::default(),
                exchange: Latency::new(2),
            },
            reported: Counters::default(),
            gap: Stretch::default(),
            last_started_ns: 0,
            last_completed_ns: None,
        }
    }

    /// An exchange that was due at `planned_ns` started at `now_ns`.
    pub fn started(&mut self, planned_ns: u64, now_ns: u64) {
        self.counters.started += 1;
        self.latencies.lateness.record(now_ns.saturating_sub(planned_ns));
        self.last_started_ns = now_ns;
    }

    /// An exchange ended well at `now_ns`.
    pub fn completed(&mut self, planned_ns: u64, first_sent_ns: u64, now_ns: u64) {
        self.counters.completed += 1;
        self.latencies.exchange.record(now_ns.saturating_sub(planned_ns));
        self.latencies.exchange_raw.record(now_ns.saturating_sub(first_sent_ns));
        self.interval.exchange.record(now_ns.saturating_sub(planned_ns));
        if let Some(last_ns) = self.last_completed_ns.replace(now_ns) {
            // Once the last exchange has started there are only those that wait to try again.
            let gap = Stretch { from_ns: last_ns, to_ns: now_ns.min(self.last_started_ns.max(last_ns)) };
            if gap.length_ns() > self.gap.length_ns() {
                self.gap = gap;
            }
        }
    }

    /// An ACK of `server` was taken.
    pub fn served_by(&mut self, server: Ipv4Addr) {
        self.interval.servers.add(server, 1);
    }

    /// Ends the interval, which was at `stretch`, and begins the next.
    pub fn take_interval(&mut self, stretch: Stretch) -> Interval {
        let mut ended = self.interval.clone();
        ended.counters = self.counters.since(&self.reported);
        ended.stretch = stretch;
        self.reported = self.counters;
        self.interval.number += 1;
        self.interval.exchange.clear();
        self.interval.servers = ByServer::default();
        ended
    }
}

impl Interval {
    /// Adds what another sender did in the same interval, or the same sender in the next.
    pub fn add(&mut self, other: &Self) {
        self.counters = self.counters.plus(&other.counters);
        self.exchange.add(&other.exchange);
        self.servers.add_all(&other.servers);
        self.stretch.from_ns = self.stretch.from_ns.min(other.stretch.from_ns);
        self.stretch.to_ns = self.stretch.to_ns.max(other.stretch.to_ns);
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_counted_from_the_plan_and_the_raw_figure_is_kept_beside_it() {
        let mut recorder = Recorder::new();
        recorder.started(1_000_000, 4_000_000);
        recorder.completed(1_000_000, 4_000_000, 5_000_000);
        recorder.started(25_000_000, 25_000_000);
        recorder.completed(2_000_000, 4_000_000, 25_000_000);
        recorder.completed(2_000_000, 4_000_000, 95_000_000);
        let cases = [
            ("from the plan", &recorder.latencies.exchange, 23_000_000, 93_000_000),
            ("raw", &recorder.latencies.exchange_raw, 21_000_000, 91_000_000),
        ];
        for (case, latency, low, high) in cases {
            assert_eq!(latency.count(), 3, "{case}");
            assert!(latency.quantile(0.5).abs_diff(low) < low / 500, "{case} {}", latency.quantile(0.5));
            assert!(latency.max().abs_diff(high) < high / 500, "{case} {}", latency.max());
        }
        assert_eq!(recorder.gap, Stretch { from_ns: 5_000_000, to_ns: 25_000_000 });
    }

    #[test]
    fn intervals_hold_their_own_and_the_total_holds_all() {
        let mut recorder = Recorder::new();
        recorder.counters.started = 3;
        recorder.completed(0, 0, 1_000_000);
        recorder.served_by(Ipv4Addr::LOCALHOST);
        let mut first = recorder.take_interval(Stretch { from_ns: 0, to_ns: 10 });
        recorder.counters.started = 5;
        let second = recorder.take_interval(Stretch { from_ns: 10, to_ns: 14 });
        assert_eq!((first.number, first.counters.started, first.exchange.count()), (0, 3, 1));
        assert_eq!((second.number, second.counters.started, second.exchange.count()), (1, 2, 0));
        assert_eq!(recorder.counters.started, 5);
        assert_eq!(first.servers.list().collect::<Vec<_>>(), [(Ipv4Addr::LOCALHOST, 1)]);
        assert_eq!(second.servers.list().count(), 0);
        first.add(&second);
        assert_eq!((first.counters.started, first.stretch), (5, Stretch { from_ns: 0, to_ns: 14 }));
    }

    #[test]
    fn servers_are_told_apart_as_far_as_there_is_room() {
        let mut servers = ByServer::default();
        for n in (0..12).chain(0..3) {
            servers.add(Ipv4Addr::new(10, 0, 0, n), 2);
        }
        let list: Vec<_> = servers.list().collect();
        assert_eq!(list.len(), SERVERS_MAX);
        assert_eq!((list[0], list[7]), ((Ipv4Addr::new(10, 0, 0, 0), 4), (Ipv4Addr::new(10, 0, 0, 7), 2)));
        let mut sum = ByServer::default();
        sum.add_all(&servers);
        assert_eq!(sum, servers);
    }

    #[test]
    fn what_is_out_of_range_is_recorded_at_the_edge_and_an_empty_one_reads_zero() {
        let mut latency = Latency::new(3);
        assert_eq!((latency.quantile(0.99), latency.min(), latency.max()), (0, 0, 0));
        latency.record(u64::MAX);
        assert_eq!(latency.count(), 1);
        assert!(latency.max() >= LATENCY_NS.1);
        let mut sum = Latency::new(3);
        sum.record(0);
        sum.add(&latency);
        assert_eq!(sum.count(), 2);
    }

    #[test]
    fn drops_are_exchanges_given_up() {
        let counters =
            Counters { started: 200, offers_missing: 1, acks_missing: 4, late: 9, ..Default::default() };
        assert_eq!(counters.drops(), 5);
        assert!((counters.drop_share() - 0.025).abs() < 1e-12);
        assert_eq!(Counters::default().drop_share(), 0.0);
    }
}
