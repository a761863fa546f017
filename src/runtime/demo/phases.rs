//! What the clients met, act by act.

use super::report::PhaseReport;

/// The acts so far; the last one goes on.
#[derive(Debug, Default)]
pub(super) struct Phases {
    phases: Vec<Phase>,
    naks: u64,
    unanswered: u64,
}

/// One act.
#[derive(Debug, Default)]
struct Phase {
    name: &'static str,
    started_ns: u64,
    ended_ns: u64,
    clients: u64,
    renewals: u64,
    /// ACKs of each server, and when it sent its first.
    acks: [u64; 2],
    first_ack_ns: [Option<u64>; 2],
    /// REQUEST to ACK, microseconds.
    latencies_us: Vec<u32>,
}

impl Phases {
    /// A new act begins.
    pub(super) fn begin(&mut self, now_ns: u64, name: &'static str) {
        self.end(now_ns);
        self.phases.push(Phase { name, started_ns: now_ns, ended_ns: now_ns, ..Phase::default() });
    }

    /// The last act ends.
    pub(super) fn end(&mut self, now_ns: u64) {
        if let Some(phase) = self.phases.last_mut() {
            phase.ended_ns = now_ns;
        }
    }

    /// A client has come.
    pub(super) fn on_arrival(&mut self) {
        if let Some(phase) = self.phases.last_mut() {
            phase.clients += 1;
        }
    }

    /// A client has an ACK of `server`, `latency_ns` after its first REQUEST for it.
    pub(super) fn on_ack(&mut self, now_ns: u64, latency_ns: u64, is_renewal: bool, server: Option<usize>) {
        let Some(phase) = self.phases.last_mut() else { return };
        phase.renewals += u64::from(is_renewal);
        phase.latencies_us.push(u32::try_from(latency_ns / 1000).unwrap_or(u32::MAX));
        if let Some(server) = server {
            phase.acks[server] += 1;
            phase.first_ack_ns[server].get_or_insert(now_ns);
        }
    }

    /// A client was refused.
    pub(super) fn on_nak(&mut self) {
        self.naks += 1;
    }

    /// A client gave its REQUEST up and starts again.
    pub(super) fn on_unanswered(&mut self) {
        self.unanswered += 1;
    }

    /// When `server` sent its first ACK of the act that goes on.
    pub(super) fn first_ack_ns(&self, server: usize) -> Option<u64> {
        self.phases.last().and_then(|phase| phase.first_ack_ns[server])
    }

    /// ACKs of all acts.
    pub(super) fn acks(&self) -> u64 {
        self.phases.iter().map(|phase| phase.acks.iter().sum::<u64>()).sum()
    }

    /// ACKs of the act that goes on, of each server.
    pub(super) fn acks_now(&self) -> [u64; 2] {
        self.phases.last().map_or([0, 0], |phase| phase.acks)
    }

    /// Renewals of the act that goes on.
    pub(super) fn renewals_now(&self) -> u64 {
        self.phases.last().map_or(0, |phase| phase.renewals)
    }

    /// The 99th percentile of the act that goes on, microseconds.
    pub(super) fn p99_us_now(&self) -> Option<u32> {
        let mut latencies = self.phases.last()?.latencies_us.clone();
        latencies.sort_unstable();
        percentile(&latencies, 99)
    }

    /// Refusals, and REQUESTs that were given up.
    pub(super) fn troubles(&self) -> (u64, u64) {
        (self.naks, self.unanswered)
    }

    /// All acts, for the report; `end` is due before.
    pub(super) fn report(&self) -> Vec<PhaseReport> {
        let line = |phase: &Phase| {
            let mut sorted = phase.latencies_us.clone();
            sorted.sort_unstable();
            PhaseReport {
                name: phase.name.to_owned(),
                duration_ms: phase.ended_ns.saturating_sub(phase.started_ns) / 1_000_000,
                clients: phase.clients,
                acks: phase.acks,
                renewals: phase.renewals,
                latency_us_p50: percentile(&sorted, 50),
                latency_us_p99: percentile(&sorted, 99),
                latency_us_max: sorted.last().copied(),
            }
        };
        self.phases.iter().map(line).collect()
    }
}

/// The smallest of `sorted` that at least `percent` of them do not exceed (nearest rank).
fn percentile(sorted: &[u32], percent: usize) -> Option<u32> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let hundred: Vec<u32> = (1..=100).collect();
        for (sorted, percent, expected) in [
            (&hundred[..], 50, Some(50)),
            (&hundred[..], 99, Some(99)),
            (&hundred[..1], 99, Some(1)),
            (&hundred[..3], 50, Some(2)),
            (&[], 50, None),
        ] {
            assert_eq!(percentile(sorted, percent), expected);
        }
    }

    #[test]
    fn what_happens_counts_for_the_act_it_happens_in() {
        let mut phases = Phases::default();
        phases.begin(0, "one");
        phases.on_arrival();
        phases.on_ack(1_000_000, 700_000, false, Some(0));
        phases.begin(2_000_000, "two");
        assert_eq!(phases.first_ack_ns(1), None);
        phases.on_ack(5_000_000, 900_000, true, Some(1));
        phases.on_ack(6_000_000, 100_000, true, Some(1));
        phases.end(9_000_000);
        assert_eq!((phases.first_ack_ns(0), phases.first_ack_ns(1)), (None, Some(5_000_000)));
        let [one, two] = &phases.report()[..] else { panic!("two acts") };
        assert_eq!((one.clients, one.acks, one.renewals, one.duration_ms), (1, [1, 0], 0, 2));
        assert_eq!((two.clients, two.acks, two.renewals, two.duration_ms), (0, [0, 2], 2, 7));
        assert_eq!((two.latency_us_p50, two.latency_us_max), (Some(100), Some(900)));
        assert_eq!((phases.acks(), phases.acks_now()), (3, [0, 2]));
    }
}
