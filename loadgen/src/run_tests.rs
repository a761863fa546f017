//! Whole runs over a transport without a network and a clock that jumps.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;

use shards::sys::send::Sent;

use super::*;
use crate::attach::Outbox;
use crate::reflector;
use crate::scenario::Scenario;
use crate::settings::tests::small;

/// A server that answers after `delay_ns`, but nothing sent within the silence.
struct FakeLink {
    now_ns: u64,
    delay_ns: u64,
    silence_ns: std::ops::Range<u64>,
    /// What it costs to send a message.
    cost_ns: u64,
    /// Whether all clients are given the same address.
    duplicates: bool,
    replies: VecDeque<(u64, [u8; 300])>,
}

impl FakeLink {
    fn new(delay_ns: u64) -> Self {
        let replies = VecDeque::new();
        Self { now_ns: 0, delay_ns, silence_ns: 0..0, cost_ns: 0, duplicates: false, replies }
    }
}

impl Link for FakeLink {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn wait(&mut self, timeout_ns: u64) -> io::Result<()> {
        let until = self.now_ns + timeout_ns;
        let reply = self.replies.front().map_or(u64::MAX, |(at, _)| *at);
        self.now_ns = until.min(reply).max(self.now_ns);
        Ok(())
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8], u64)) -> io::Result<usize> {
        // Every look at the network takes a microsecond, so that spinning makes time pass.
        self.now_ns += 1000;
        let mut count = 0;
        while count < 64
            && let Some((_, reply)) = self.replies.pop_front_if(|(at, _)| *at <= self.now_ns)
        {
            take(&reply, self.now_ns);
            count += 1;
        }
        Ok(count)
    }

    fn send(&mut self, outbox: &Outbox) -> Sent {
        let mut sent = 0;
        for (bytes, _) in outbox.messages() {
            sent += 1;
            self.now_ns += self.cost_ns;
            let mut reply = reflector::blank(Ipv4Addr::new(192, 0, 2, 1));
            if !self.silence_ns.contains(&self.now_ns) && reflector::answer(bytes, &mut reply).is_some() {
                if self.duplicates {
                    reply[16..20].copy_from_slice(&[10, 9, 9, 9]);
                }
                self.replies.push_back((self.now_ns + self.delay_ns, reply));
            }
        }
        Sent { sent, ..Sent::default() }
    }

    fn take_drops(&mut self) -> u64 {
        0
    }
}

fn carry_out(settings: &Settings, link: FakeLink) -> (Summary, usize) {
    let mut intervals = 0;
    let stop = AtomicBool::new(false);
    let summary = run(settings, vec![Box::new(link)], &stop, &mut |update| {
        intervals += usize::from(matches!(update, Update::Interval(_)));
    });
    (summary.unwrap(), intervals)
}

#[test]
fn a_run_starts_what_was_planned_and_measures_the_delay_of_the_server() {
    let (summary, intervals) = carry_out(&small(), FakeLink::new(2_000_000));
    assert_eq!((summary.counters.started, summary.counters.completed), (1000, 1000));
    assert_eq!((summary.counters.sent, summary.counters.received), (2000, 2000));
    assert!((summary.exchange.p50_us - 4_000.0).abs() < 100.0, "{}", summary.exchange.p50_us);
    assert!((summary.ack_raw.p50_us - 2_000.0).abs() < 100.0, "{}", summary.ack_raw.p50_us);
    assert!(summary.lateness.max_us < 100.0, "{}", summary.lateness.max_us);
    assert_eq!(summary.failure(), None);
    assert!((4..=5).contains(&intervals), "{intervals}");
    assert_eq!(summary.intervals.iter().map(|interval| interval.counters.completed).sum::<u64>(), 1000);
    assert!(!summary.generator_limited);
}

#[test]
fn a_late_sender_is_the_limit_and_its_rate_is_the_real_one() {
    // Planned are 1000 exchanges in 1 s, possible (at two messages each) so many a second.
    // The wait for the last replies is 1.1 s: the slowest cannot do all by then.
    for (cost_us, possible, all) in [(600, 833.0, true), (1_000, 500.0, true), (1_500, 333.0, false)] {
        let mut link = FakeLink::new(100_000);
        link.cost_ns = cost_us * 1_000;
        let (summary, _) = carry_out(&small(), link);
        let case = format!("{cost_us} us: {:?} in {} s", summary.counters, summary.measured_s);
        let counters = summary.counters;
        assert_eq!(counters.not_started == 0, all, "{case}");
        assert_eq!(counters.started + counters.not_started, 1000, "{case}");
        // The last batch leaves after the last start, which is some of so short a run.
        assert!((summary.completed_rate / possible - 1.0).abs() < 0.08, "{case} {}", summary.completed_rate);
        assert!(summary.generator_limited, "{case}");
        let judged = crate::capacity::ISC.judge(&summary);
        assert_eq!(judged, crate::capacity::Verdict::Generator, "{case}");
    }
}

#[test]
fn every_scenario_runs_to_its_end_and_every_started_exchange_ends_once() {
    use clap::ValueEnum;
    for scenario in Scenario::value_variants() {
        let settings = Settings {
            scenario: *scenario,
            renew_rate: if *scenario == Scenario::Mixed { 300.0 } else { 0.0 },
            release_rate: if *scenario == Scenario::Mixed { 300.0 } else { 0.0 },
            newcomers: 20,
            warm_up_s: 0.1,
            ..small()
        };
        let (summary, _) = carry_out(&settings, FakeLink::new(500_000));
        let counters = summary.counters;
        assert_eq!(summary.failure(), None, "{scenario:?}");
        assert_eq!(counters.started, counters.completed, "{scenario:?}");
        let definition = scenario.definition();
        assert_eq!(counters.started, if definition.together { 100 } else { 1000 }, "{scenario:?}");
        assert_eq!(summary.prepared, if definition.prepares { 100 } else { 0 }, "{scenario:?}");
        let releases = match scenario {
            Scenario::Mixed => 250..350,
            Scenario::NearFull => 1000..1001,
            _ => 0..1,
        };
        assert!(releases.contains(&counters.releases), "{scenario:?} {}", counters.releases);
        let offers = match scenario {
            Scenario::Rebind | Scenario::Renew | Scenario::InitReboot => 0..1,
            Scenario::Mixed => 350..1000,
            Scenario::HaTakeover => 480..520,
            _ => 100..1001,
        };
        assert!(offers.contains(&counters.offers), "{scenario:?} {}", counters.offers);
    }
}

#[test]
fn a_stall_is_felt_by_every_exchange_planned_during_it() {
    // The server is deaf for 0.2 s of the second: those exchanges are lost, the plan goes on.
    let mut link = FakeLink::new(1_000_000);
    link.silence_ns = 320_000_000..520_000_000;
    let (summary, _) = carry_out(&small(), link);
    assert_eq!(summary.counters.started, 1000);
    assert!(summary.counters.drops().abs_diff(201) <= 3, "{}", summary.counters.drops());
    assert!(summary.gap_ms_max > 199.0, "{}", summary.gap_ms_max);
    assert!(summary.failure().is_some_and(|failure| failure.contains("exchanges lost")));
}

#[test]
fn an_interval_is_as_long_as_it_was_and_a_short_rest_goes_with_the_one_before() {
    // 1 s in intervals of 0.3 s: three whole ones and 0.1 s; the last reply comes 4 ms after the plan's end.
    let (cut, _) = carry_out(&Settings { interval_s: 0.3, ..small() }, FakeLink::new(2_000_000));
    let lengths: Vec<f64> = cut.intervals.iter().map(|interval| interval.length_s).collect();
    assert_eq!(lengths.len(), 4, "{lengths:?}");
    assert!((lengths[0] - 0.3).abs() < 1e-9 && (lengths[3] - 0.103).abs() < 0.002, "{lengths:?}");
    let rate = cut.intervals[3].per_second(cut.intervals[3].counters.started);
    assert!((rate - 971.0).abs() < 15.0, "{rate}");
    // In intervals of 0.25 s the 4 ms are no interval of their own.
    let (rest, _) = carry_out(&small(), FakeLink::new(2_000_000));
    let last = rest.intervals.last().unwrap();
    assert_eq!(rest.intervals.len(), 4);
    assert!((last.length_s - 0.253).abs() < 0.002 && (last.at_s - 1.003).abs() < 0.002, "{last:?}");
    assert_eq!(rest.servers.iter().map(|share| share.acks).sum::<u64>(), 1000);
}

#[test]
fn a_server_that_does_not_come_back_leaves_a_gap_to_the_end() {
    let mut link = FakeLink::new(1_000_000);
    link.silence_ns = 520_000_000..u64::MAX;
    let (summary, _) = carry_out(&small(), link);
    assert!((summary.gap_ms_max - 500.0).abs() < 5.0, "{}", summary.gap_ms_max);
    assert!((summary.gap_from_s - 0.5).abs() < 0.005, "{}", summary.gap_from_s);
}

#[test]
fn a_duplicate_address_fails_the_run() {
    let mut link = FakeLink::new(1_000_000);
    link.duplicates = true;
    let (summary, _) = carry_out(&small(), link);
    assert!(summary.counters.duplicates > 0);
    assert!(summary.failure().is_some_and(|failure| failure.contains("duplicate addresses")));
}

#[test]
fn the_drop_limit_ends_a_run_early() {
    let mut link = FakeLink::new(1_000_000);
    link.silence_ns = 0..u64::MAX;
    let settings =
        Settings { drop_limit: Some(DropLimit::Share(0.5)), drop_s: 0.1, length_s: 1e6, ..small() };
    let (summary, _) = carry_out(&settings, link);
    assert!(summary.aborted);
    assert_eq!(summary.counters.completed, 0);
}

#[test]
fn the_result_survives_json() {
    let (summary, _) = carry_out(&small(), FakeLink::new(1_000_000));
    let text = serde_json::to_string(&summary).unwrap();
    let back: Summary = serde_json::from_str(&text).unwrap();
    assert_eq!(back.version, crate::report::VERSION);
    assert_eq!((back.counters, back.parameters), (summary.counters, summary.parameters));
}
