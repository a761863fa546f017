//! A Kea that is terminated is told to begin anew (`ha-reset`): it never leaves that state by itself (ha-protocol 4.10).
//!
//! What it remembers may take it back in the same moment: how far apart it has found the clocks, and, from release 2.5.8
//! on, that this server has been terminated for ten minutes. Then it sends one heartbeat, as no terminated Kea does
//! otherwise (its first handler alone runs, ha-protocol 4.2). By the time it is answered this server waits, which puts
//! right what the Kea remembers of both, and a moment later it is told once more.
//!
//! All of that is one attempt. Pauses between attempts double, so that a cause that returns does not take the service
//! away again and again; a Kea that refuses, or does not know the command, stays as it is, and so does this server.

use shards::Now;

use super::super::transition::PartnerReset;
use super::partner::HEARTBEAT_TIMEOUT_NS;
use super::states::{HEAL_AFTER_NS, HEAL_AFTER_NS_MAX};
use super::*;

/// How often a Kea is told in one attempt. Two are needed; its handling of an answer may be behind the next command.
const SENT_MAX: u32 = 3;
/// How long after the heartbeat of a terminated Kea it is told again: it has taken in the answer by then.
const AGAIN_AFTER_NS: u64 = NS_PER_S;
/// When no attempt was made for so long, the next one is a new story.
const FORGOTTEN_AFTER_NS: u64 = 2 * HEAL_AFTER_NS_MAX;

/// What was tried with a terminated Kea.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PartnerResets {
    /// Attempts in a row.
    attempts: u32,
    /// How often it was told in the last one, when, and whether it has obeyed.
    sent: u32,
    sent_ns: u64,
    obeyed: bool,
    /// It has sent a heartbeat since: when it is told once more.
    again_at_ns: Option<u64>,
    /// This server waits since it did, and served clients before.
    has_given_up_service: bool,
}

impl PartnerResets {
    fn pause_ns(&self) -> u64 {
        match self.attempts {
            0 => 0,
            attempts => (HEAL_AFTER_NS << (attempts - 1).min(7)).min(HEAL_AFTER_NS_MAX),
        }
    }

    /// When it may be told next, where this server has been terminated since `since_ns`, or is not.
    fn due_ns(&self, since_ns: Option<u64>) -> u64 {
        let paused_ns = self.sent_ns.max(since_ns.unwrap_or(0)).saturating_add(self.pause_ns());
        self.again_at_ns.unwrap_or(paused_ns)
    }

    fn send(&mut self, now_ns: u64) {
        if self.again_at_ns.take().is_some() {
            self.sent += 1;
        } else {
            let is_new = now_ns.saturating_sub(self.sent_ns) > FORGOTTEN_AFTER_NS;
            self.attempts = if is_new { 1 } else { self.attempts.saturating_add(1) };
            self.sent = 1;
        }
        (self.sent_ns, self.obeyed) = (now_ns, false);
    }

    /// It has obeyed, whatever became of it then.
    pub(super) fn obeyed(&mut self) {
        self.obeyed = true;
    }

    /// A heartbeat of it has come. Returns whether that is the one that follows from being told.
    fn heard(&mut self, now_ns: u64) -> bool {
        let follows = self.obeyed && self.again_at_ns.is_none() && self.sent < SENT_MAX;
        if follows {
            self.again_at_ns = Some(now_ns.saturating_add(AGAIN_AFTER_NS));
        }
        follows
    }

    pub(super) fn entered(&mut self, from: OwnState, next: OwnState) {
        self.has_given_up_service = from == OwnState::Terminated && next == OwnState::Waiting;
    }
}

impl Machine {
    /// Whether the partner is terminated and will not leave that state by itself.
    fn partner_stays_terminated(&self) -> bool {
        let waits = matches!(self.state, OwnState::Terminated | OwnState::Waiting);
        let is_terminated = self.communication.partner() == PartnerState::Terminated;
        waits && is_terminated && !self.communication.is_tandem()
    }

    /// When the partner may be told to begin anew.
    fn partner_reset_due_ns(&self) -> u64 {
        self.partner_resets.due_ns(self.termination.since_ns()).max(self.termination.rests_until_ns())
    }

    /// What is to be done with a partner that does not leave `terminated` by itself.
    pub(super) fn partner_reset(&self, now: Now) -> PartnerReset {
        let resets = &self.partner_resets;
        let agree = self.communication.skew_s().is_some_and(|skew| skew.unsigned_abs() <= SKEW_WARN_S);
        // What is not of this moment may be out of date: somebody may have restarted it.
        let is_heard = self.communication.silent_for_ns(now.monotonic_ns) == 0;
        let patience_ns = u64::from(self.relationship.heartbeat_delay_ms) * NS_PER_MS + HEARTBEAT_TIMEOUT_NS;
        let is_over = now.monotonic_ns >= resets.sent_ns.saturating_add(patience_ns);
        if !self.partner_stays_terminated() || self.storage_full {
            PartnerReset::Unwanted
        } else if agree && is_heard && now.monotonic_ns >= self.partner_reset_due_ns() {
            PartnerReset::Due
        } else if agree && resets.again_at_ns.is_some() {
            PartnerReset::Works
        } else if resets.has_given_up_service && resets.sent > 0 && is_over {
            PartnerReset::InVain
        } else {
            PartnerReset::Unwanted
        }
    }

    /// It is told: what is logged, and when it is told again.
    pub(super) fn note_partner_reset(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.partner_resets.send(now.monotonic_ns);
        let (partner, attempt) = (self.partner(), self.partner_resets.attempts);
        self.log(Message::TerminatedPartnerReset { partner, attempt }, actions);
    }

    /// A heartbeat of the partner has come, and has not been answered yet.
    pub(super) fn asked_by_partner(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.partner_stays_terminated() && self.partner_resets.heard(now.monotonic_ns) {
            self.evaluate(now, actions);
            self.poll_for_reset(now.monotonic_ns);
        }
    }

    /// Has the partner heard when it is time to tell it.
    pub(super) fn poll_for_reset(&mut self, now_ns: u64) {
        let due_ns = self.partner_reset_due_ns();
        if self.partner_stays_terminated() && due_ns > now_ns {
            self.poll_at(due_ns);
        }
    }

    /// An administrator has taken the matter in hand, or other parameters may have removed the cause.
    pub(super) fn forget_partner_resets(&mut self) {
        self.partner_resets = PartnerResets::default();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::command::HaCommand;
    use super::super::super::event::CommandSource;
    use super::super::rig::{Rig, calls, client, relationship};
    use super::*;
    use crate::ha::relationship::Pause;

    const OBEYS: &str = r#"[{"result": 0, "text": "HA state machine reset."}]"#;
    const KNOWS_NO_SUCH_COMMAND: &str = r#"[{"result": 2, "text": "'ha-reset' command not supported."}]"#;

    fn beside(partner: &str, skew_s: i64) -> Rig {
        let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        rig.heartbeat_reply(partner, skew_s, 0);
        rig
    }

    fn beside_refusals() -> Rig {
        let mut rig = beside("hot-standby", 0);
        for number in 1..=2 {
            let outcome = UpdateOutcome::Conflict;
            rig.handle(Event::UpdatesSettled { outcome, client: client(number) });
        }
        rig
    }

    /// Seconds at which a partner that says `terminated` is told to begin anew until `end_s`, to which it answers `answer`.
    fn told(rig: &mut Rig, end_s: u32, skew_s: i64, answer: &str) -> Vec<u32> {
        let mut told = Vec::new();
        let begin_s = (rig.now.monotonic_ns / NS_PER_S) as u32 - 1;
        for second in begin_s..=end_s {
            let mut actions = rig.wait_until(f64::from(second));
            if rig.machine.heartbeat.is_some() || second == begin_s {
                actions.extend(rig.heartbeat_reply("terminated", skew_s, 0));
            }
            for (id, name) in calls(&actions) {
                if name == "ha-reset" {
                    told.push(second);
                    rig.handle(Event::CallDone { id, result: Ok(answer.as_bytes().to_vec()) });
                }
            }
        }
        told
    }

    /// The terminated partner sends a heartbeat; what it is answered.
    fn asked(rig: &mut Rig) -> String {
        let heartbeat = HaCommand::Heartbeat { server_name: None, fingerprint: None };
        let answer = rig.command(CommandSource::Partner, heartbeat).arguments.expect("arguments");
        answer["state"].as_str().expect("a state").to_owned()
    }

    #[test]
    fn a_terminated_kea_is_told_to_begin_anew_once_the_cause_is_gone() {
        for (cause, mut rig, skew_s, expected) in [
            ("its own", beside("terminated", 0), 0, &[30][..]),
            ("refusals", beside_refusals(), 0, &[30]),
            ("clocks that are right", beside("hot-standby", 61), 30, &[0, 30]),
            ("clocks that are nearly right", beside("hot-standby", 61), -31, &[]),
            ("clocks that are wrong", beside("hot-standby", 61), 61, &[]),
        ] {
            assert_eq!(rig.machine.state(), OwnState::Terminated, "{cause}");
            let seconds = told(&mut rig, 31, skew_s, OBEYS);
            assert_eq!(seconds, expected, "{cause}");
            assert_eq!(rig.machine.state(), OwnState::Terminated, "{cause}");
            assert!(rig.service_on(), "{cause}");
            rig.heartbeat_reply("waiting", 0, 0);
            assert_eq!(rig.machine.state(), OwnState::Syncing, "{cause}: it is followed");
        }
    }

    #[test]
    fn pauses_between_attempts_double_up_to_an_hour_whether_it_obeys_or_not() {
        for answer in [OBEYS, KNOWS_NO_SUCH_COMMAND, "rubbish"] {
            let mut rig = beside("terminated", 0);
            let seconds = told(&mut rig, 12_010, 0, answer);
            assert_eq!(seconds, [30, 60, 120, 240, 480, 960, 1_920, 3_840, 7_440, 11_040], "{answer}");
            assert_eq!(rig.machine.state(), OwnState::Terminated, "{answer}");
            assert!(rig.service_on(), "{answer}");
            // Other parameters may have removed the cause.
            let same = relationship(Mode::HotStandby, Role::Primary);
            rig.handle(Event::Reconfigured(Box::new(same)));
            assert_eq!(told(&mut rig, 12_011, 0, answer), [12_010], "{answer}");
        }
    }

    /// A cause that returns takes the service away less and less often.
    #[test]
    fn the_pause_before_the_next_attempt_begins_with_the_termination() {
        let mut rig = beside("terminated", 0);
        for (until_s, second) in [(31, 30), (80, 60), (170, 139)] {
            assert_eq!(told(&mut rig, until_s - 1, 0, OBEYS).last(), Some(&second), "{until_s}");
            let now = rig.now;
            rig.machine.enter(now, OwnState::HotStandby, &mut Vec::new());
            rig.heartbeat_reply("terminated", 0, 0);
            assert_eq!(rig.machine.state(), OwnState::Terminated);
        }
    }

    /// It is terminated again at once, because it remembers clocks apart or that this server has been terminated for long.
    #[test]
    fn a_kea_that_asks_after_it_was_told_finds_this_server_waiting_and_is_told_again() {
        let mut rig = beside("hot-standby", 61);
        assert_eq!(asked(&mut rig), "terminated", "nobody has told it anything");
        assert_eq!(told(&mut rig, 9, 0, OBEYS), [0]);
        assert_eq!(asked(&mut rig), "waiting");
        assert!(!rig.service_on());
        assert_eq!(told(&mut rig, 11, 0, OBEYS), [10]);
        rig.heartbeat_reply("waiting", 0, 0);
        assert_eq!(rig.machine.state(), OwnState::Syncing);
    }

    #[test]
    fn one_that_goes_on_asking_and_stays_terminated_does_not_take_the_service_away_for_long() {
        let mut rig = beside("hot-standby", 61);
        let mut seconds = told(&mut rig, 9, 0, OBEYS);
        for end_s in [19, 29, 39] {
            asked(&mut rig);
            seconds.extend(told(&mut rig, end_s, 0, OBEYS));
        }
        assert_eq!(seconds, [0, 10, 20], "three times in an attempt");
        assert_eq!(rig.machine.state(), OwnState::Waiting);
        assert_eq!(told(&mut rig, 69, 0, OBEYS), [0; 0]);
        assert_eq!(rig.machine.state(), OwnState::Terminated, "20 s after the last");
        assert!(rig.service_on());
        assert_eq!(told(&mut rig, 71, 0, OBEYS), [70], "30 s after that");
    }

    #[test]
    fn a_server_that_has_just_started_tells_a_terminated_kea_at_once_and_waits() {
        let mut rig = Rig::in_state(Role::Primary, OwnState::Waiting, PartnerState::Unknown);
        assert_eq!(told(&mut rig, 9, 0, OBEYS), [0]);
        assert_eq!(asked(&mut rig), "waiting");
        assert_eq!(told(&mut rig, 11, 0, OBEYS), [10]);
        assert_eq!(told(&mut rig, 599, 0, KNOWS_NO_SUCH_COMMAND), [40, 100, 220, 460]);
        assert_eq!(rig.machine.state(), OwnState::Waiting);
        told(&mut rig, 601, 0, OBEYS);
        assert_eq!(rig.machine.state(), OwnState::Terminated, "4.4 (a)");
    }

    #[test]
    fn an_administrators_reset_begins_a_new_story() {
        let mut rig = beside("terminated", 0);
        assert_eq!(told(&mut rig, 100, 0, OBEYS), [30, 60]);
        rig.command(CommandSource::Administrator, HaCommand::Reset { server_name: None });
        assert_eq!(rig.machine.state(), OwnState::Waiting);
        assert_eq!(told(&mut rig, 101, 0, OBEYS), [100]);
        rig.heartbeat_reply("waiting", 0, 0);
        assert_eq!(rig.machine.state(), OwnState::Syncing);
    }

    #[test]
    fn a_tandem_is_told_nothing_and_nobody_is_by_a_server_that_cannot_go_on() {
        let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        for second in 0..100 {
            rig.wait_until(f64::from(second));
            let more = json!({ "tandem-terminated-because": "clock-skew" });
            let actions = rig.tandem_heartbeat("terminated", 0, more);
            assert!(!calls(&actions).iter().any(|(_, name)| name == "ha-reset"), "{second}");
        }
        let mut full = beside("terminated", 0);
        full.machine.set_storage_full(true);
        assert_eq!(told(&mut full, 100, 0, OBEYS), [0; 0]);
        let pauses = vec![(PartnerState::Terminated, Pause::Always)];
        let paused = Relationship { pauses, ..relationship(Mode::HotStandby, Role::Primary) };
        let mut rig = Rig::of(paused, OwnState::HotStandby, PartnerState::Terminated);
        assert_eq!(told(&mut rig, 100, 0, OBEYS), [0; 0]);
        assert_eq!(rig.machine.state(), OwnState::Terminated);
    }
}
