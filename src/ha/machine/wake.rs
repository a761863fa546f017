//! A server that has stood still (SIGSTOP, a machine without a CPU) and goes on as if nothing had been.
//!
//! Its partner may have taken over meanwhile and have given addresses away that are free here, while queries of that time
//! wait in the sockets. No message can be relied on to come before them, so the view says until when it may be acted on:
//! the machine renews that again and again as long as it runs, and a shard or a sender that finds it passed serves nobody
//! and sends no update. The machine, which finds the gap in its own time, renews it no sooner than it has heard the
//! partner, by a heartbeat that was sent after the gap. If the partner does not answer that, the usual rules hold: where
//! replies wait for the partner anyway they go on waiting, until the machine takes over; elsewhere it serves again.
//!
//! Nobody was silent while nobody listened: the time of the gap does not count as silence of the partner.
//!
//! A server whose disk was full, and which refused heartbeats for that, is no wiser: the partner may have taken over.
//!
//! Invariant: what shards may act on ends no later than the partner may at the earliest have taken over, if this server
//! has stood still since its last look.

use shards::Now;

use super::*;

/// A view is renewed when this part of its time is over, and the machine looks at its clock that often.
const LOOKS: u64 = 4;
/// No view is good for less, however small `max-response-delay` is.
const GOOD_FOR_NS_MIN: u64 = NS_PER_S;

/// What the machine knows of its own presence.
#[derive(Debug)]
pub(super) struct Presence {
    /// When it last ran, monotonic.
    ran_ns: u64,
    /// Until when shards may act on the view.
    good_until_ns: u64,
    /// Since it stood still.
    partner: Heard,
}

/// What was heard of the partner since this server stood still.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Heard {
    /// It has answered, or there was no gap.
    Answer,
    /// It did not answer a heartbeat.
    Failure,
    /// Nothing yet.
    Nothing,
}

impl Presence {
    pub(super) fn new(now_ns: u64) -> Self {
        Self { ran_ns: now_ns, good_until_ns: now_ns, partner: Heard::Answer }
    }

    /// Time passes in steps of no length (tests).
    #[cfg(test)]
    pub(super) fn run_at(&mut self, now_ns: u64) {
        self.ran_ns = now_ns;
    }
}

impl Machine {
    /// How long a view may be acted on after the machine has last run. The partner takes over `max-response-delay` after
    /// its last good heartbeat, which was up to `heartbeat-delay` before the gap.
    fn good_for_ns(&self) -> u64 {
        let delay_ms = u64::from(self.relationship.max_response_delay_ms);
        let left_ms = delay_ms.saturating_sub(u64::from(self.relationship.heartbeat_delay_ms));
        (left_ms.clamp(delay_ms / 8, delay_ms / 2) * NS_PER_MS).max(GOOD_FOR_NS_MIN)
    }

    /// The machine runs: finds out whether it did not for too long.
    pub(super) fn look_at_clock(&mut self, now: Now, actions: &mut Vec<Action>) {
        let gap_ns = now.monotonic_ns.saturating_sub(self.presence.ran_ns);
        self.presence.ran_ns = now.monotonic_ns;
        // Without heartbeats it could never be heard again.
        let polls = self.polls_partner() && self.relationship.heartbeat_delay_ms > 0 && !self.is_stopping();
        let was_deaf = !self.storage_full && std::mem::take(&mut self.refused_heartbeats);
        let stood_still = gap_ns > self.good_for_ns();
        if !polls || !stood_still && !was_deaf {
            return;
        }
        if stood_still {
            self.log(Message::StoodStill { partner: self.partner(), gap_ms: gap_ns / NS_PER_MS }, actions);
            self.communication.excuse(gap_ns);
        }
        self.presence.partner = Heard::Nothing;
        self.presence.good_until_ns = self.presence.good_until_ns.min(now.monotonic_ns);
        if self.state.sends_updates() {
            self.comparison.doubt();
        }
        // Whatever comes of a heartbeat of before says nothing of now.
        if let Some(id) = self.heartbeat.take() {
            self.in_flight.remove(&id);
        }
        self.heartbeat_at_ns = None;
        self.poll_at(now.monotonic_ns);
    }

    /// A heartbeat has ended.
    pub(super) fn note_heard(&mut self, answered: bool) {
        self.presence.partner = match (answered, self.presence.partner) {
            (true, _) | (_, Heard::Answer) => Heard::Answer,
            (false, Heard::Failure | Heard::Nothing) => Heard::Failure,
        };
    }

    /// Whether this server has stood still and does not know yet what the partner has done meanwhile.
    pub(super) fn is_in_the_dark(&self) -> bool {
        match self.presence.partner {
            Heard::Answer => false,
            Heard::Failure => self.state.sends_updates(),
            Heard::Nothing => true,
        }
    }

    /// When the clock is to be looked at next.
    pub(super) fn look_at_ns(&self) -> Option<u64> {
        let at_ns = self.presence.ran_ns.saturating_add(self.good_for_ns() / LOOKS);
        (self.polls_partner() && !self.is_stopping()).then_some(at_ns)
    }

    /// Until when shards may act on the view; `None` where nobody could take over.
    pub(super) fn renew(&mut self, now: Now) -> Option<u64> {
        if !self.polls_partner() {
            return None;
        }
        let good_for_ns = self.good_for_ns();
        let until_ns = now.monotonic_ns.saturating_add(good_for_ns);
        let is_due = until_ns.saturating_sub(self.presence.good_until_ns) >= good_for_ns / LOOKS;
        // A shorter time after a reload counts at once.
        let is_shorter = until_ns < self.presence.good_until_ns;
        if !self.is_in_the_dark() && (is_due || is_shorter) {
            self.presence.good_until_ns = until_ns;
        }
        Some(self.presence.good_until_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{Rig, calls, client, heartbeat_body, logged};
    use super::*;
    use crate::engine::message::Asked;

    /// The machine does not run for `gap_s`, and is asked what time it is then.
    fn stand_still(rig: &mut Rig, gap_s: u64) -> Vec<Action> {
        rig.now.monotonic_ns += gap_s * NS_PER_S;
        rig.now.wall_ms += gap_s * 1_000;
        rig.machine.handle_timeout(rig.now, &mut rig.actions);
        std::mem::take(&mut rig.actions)
    }

    fn is_good(rig: &Rig) -> bool {
        !rig.machine.view().expect("a view was published").is_outdated(rig.now.monotonic_ns)
    }

    fn end(rig: &mut Rig, id: CallId, result: Result<Vec<u8>, String>) -> Vec<Action> {
        rig.handle(Event::CallDone { id, result })
    }

    #[test]
    fn after_a_gap_nobody_is_served_before_a_heartbeat_sent_since_has_ended() {
        use OwnState as O;
        use PartnerState as P;
        // State, what the partner answers, and whether shards may act on the view then; the state.
        for (own, answer, good, then) in [
            (O::HotStandby, Some("hot-standby"), true, O::HotStandby),
            (O::HotStandby, Some("partner-down"), true, O::Syncing),
            (O::HotStandby, None, false, O::HotStandby),
            (O::LoadBalancing, Some("load-balancing"), true, O::LoadBalancing),
            (O::LoadBalancing, None, true, O::CommunicationRecovery),
            (O::CommunicationRecovery, None, true, O::CommunicationRecovery),
            (O::PartnerDown, None, true, O::PartnerDown),
            (O::PartnerDown, Some("partner-down"), true, O::Syncing),
            (O::Terminated, None, true, O::Terminated),
        ] {
            let partner = match own {
                O::CommunicationRecovery => P::Unavailable,
                O::LoadBalancing => P::LoadBalancing,
                _ => P::HotStandby,
            };
            let mut rig = Rig::in_state(Role::Primary, own, partner);
            rig.machine.heartbeat_at_ns = Some(rig.now.monotonic_ns);
            rig.wait_until(0.0);
            let before = rig.machine.heartbeat.expect("a heartbeat is in flight");
            rig.machine.locks.release(Holder::Local(0));
            let case = format!("{own}, {answer:?}");
            assert!(is_good(&rig), "{case}");
            let actions = stand_still(&mut rig, 55);
            assert!(logged(&actions).contains(&"TANDEM_HA_STOOD_STILL"), "{case}: {:?}", logged(&actions));
            let heartbeat = Rig::call(&actions, "ha-heartbeat");
            assert_ne!(heartbeat, before);
            assert!(!is_good(&rig), "{case}: unheard");
            end(&mut rig, before, Err("timed out".into()));
            assert_eq!(rig.machine.state(), own, "{case}: what was sent before the gap says nothing");
            let failed = Event::UpdatesSettled { outcome: UpdateOutcome::Failed, client: client(1) };
            rig.handle(failed);
            assert_eq!(rig.machine.state(), own, "{case}: nor do updates of before");
            assert!(!is_good(&rig), "{case}: still unheard");
            let wall_s = rig.now.wall_s();
            let result = answer.map(|state| heartbeat_body(state, wall_s, 0)).ok_or("refused".to_owned());
            end(&mut rig, heartbeat, result);
            assert_eq!((rig.machine.state(), is_good(&rig)), (then, good), "{case}");
        }
    }

    /// The partner takes over from a server that refuses its heartbeats, and may be gone by the time there is room.
    #[test]
    fn once_there_is_room_on_the_disk_nobody_is_served_before_the_partner_was_heard() {
        use super::super::super::command::HaCommand;
        for (refuses, answer, good, then) in [
            (false, None, true, OwnState::HotStandby),
            (true, None, false, OwnState::HotStandby),
            (true, Some("hot-standby"), true, OwnState::HotStandby),
            (true, Some("partner-down"), true, OwnState::Syncing),
        ] {
            let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
            rig.machine.locks.release(Holder::Local(0));
            rig.machine.set_storage_full(true);
            if refuses {
                let heartbeat = HaCommand::Heartbeat { server_name: None, fingerprint: None };
                assert_eq!(rig.command(CommandSource::Partner, heartbeat).result, 1);
            }
            rig.wait_until(1.0);
            assert!(!rig.service_on());
            rig.machine.set_storage_full(false);
            rig.machine.handle_timeout(rig.now, &mut rig.actions);
            assert!(rig.service_on());
            assert_eq!(is_good(&rig), !refuses, "{answer:?}: unheard");
            if refuses {
                let wall_s = rig.now.wall_s();
                let result = answer.map(|state| heartbeat_body(state, wall_s, 0)).ok_or("refused".to_owned());
                let id = Rig::call(&std::mem::take(&mut rig.actions), "ha-heartbeat");
                end(&mut rig, id, result);
            }
            assert_eq!((rig.machine.state(), is_good(&rig)), (then, good), "{answer:?}");
        }
    }

    #[test]
    fn after_a_gap_a_dead_partner_is_taken_over_from_by_the_usual_rules() {
        let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        stand_still(&mut rig, 300);
        assert_eq!(rig.machine.state(), OwnState::HotStandby, "nobody was silent while nobody listened");
        rig.end_heartbeat(Err("refused".into()));
        let delay_s = f64::from(rig.machine.relationship.max_response_delay_ms / 1_000);
        rig.wait_until(300.0 + delay_s - 0.1);
        assert!(!is_good(&rig), "its replies wait for the partner");
        rig.wait_until(300.0 + delay_s + 0.1);
        assert_eq!(rig.machine.state(), OwnState::PartnerDown);
        assert!(is_good(&rig) && rig.service_on());
    }

    #[test]
    fn as_long_as_it_runs_the_view_is_renewed_in_time_and_lasts_no_longer_than_the_partner_waits() {
        // `heartbeat-delay`, `max-response-delay`, and for how long a view is good.
        for (heartbeat_ms, response_ms, good_ms) in [
            (10_000, 60_000, 30_000),
            (1_000, 4_000, 2_000),
            (3_000, 4_000, 1_000),
            (10_000, 10_000, 1_250),
            (1_000, 0, 1_000),
        ] {
            let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
            rig.machine.relationship.heartbeat_delay_ms = heartbeat_ms;
            rig.machine.relationship.max_response_delay_ms = response_ms;
            assert_eq!(rig.machine.good_for_ns() / NS_PER_MS, good_ms, "{heartbeat_ms}, {response_ms}");
            let mut until_s = 0.0;
            while until_s < 3.0 * f64::from(response_ms) / 1_000.0 {
                until_s += 0.1;
                let actions = rig.wait_until(until_s);
                assert!(is_good(&rig), "{until_s}");
                assert!(!logged(&actions).contains(&"TANDEM_HA_STOOD_STILL"), "{until_s}");
            }
        }
    }

    #[test]
    fn a_short_gap_and_one_without_a_partner_are_none() {
        for (own, gap_s) in [(OwnState::HotStandby, 29), (OwnState::PassiveBackup, 300)] {
            let mut rig = Rig::in_state(Role::Primary, own, PartnerState::HotStandby);
            let actions = stand_still(&mut rig, gap_s);
            assert!(!logged(&actions).contains(&"TANDEM_HA_STOOD_STILL"), "{own}");
            assert!(is_good(&rig), "{own}");
        }
    }

    #[test]
    fn a_standby_that_stood_still_does_not_take_the_queries_of_that_time_for_proof() {
        let mut rig = Rig::in_state(Role::Standby, OwnState::HotStandby, PartnerState::HotStandby);
        rig.machine.relationship.max_unacked_clients = 0;
        let actions = stand_still(&mut rig, 300);
        for number in 0..5 {
            rig.handle(Event::Unanswered { client: client(number), secs: 60, asked: Asked::Any });
        }
        end(&mut rig, Rig::call(&actions, "ha-heartbeat"), Err("timed out".into()));
        assert_eq!(rig.machine.state(), OwnState::HotStandby);
        assert!(!calls(&rig.wait_until(330.0)).is_empty(), "it is polled on");
    }
}
