//! Calls in flight and the machine's own deadline for each; what a reload changes; how the server ends.
//!
//! The driver answers every call. Should it not, the machine would wait for ever with its heartbeats at rest, so a call
//! that is overdue by far ends here as a failure, and an answer that still comes finds nobody.

use shards::Now;

use super::super::command::request;
use super::super::event::{Action, CallId, exchange_limit_ms};
use super::super::locks::Holder;
use super::super::relationship::Relationship;
use super::{Machine, NS_PER_MS};

/// How long after the limit of its exchange a call counts as lost, milliseconds: another call of the same connection
/// may go first.
const LOST_AFTER_MS: u64 = 30_000;
/// How long a partner has to take notice of the end of this server, milliseconds: nobody is served meanwhile.
const STOPPING_TIMEOUT_MS: u64 = 500;

/// Whether the server is about to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stopping {
    /// The partner knows, or cannot be told.
    Announced,
    /// The partner is being told.
    Announcing(CallId),
    /// It is not.
    No,
}

impl Machine {
    /// Notes when each call among `actions` counts as lost.
    pub(super) fn note_calls(&mut self, now: Now, actions: &[Action]) {
        for action in actions {
            if let Action::Call(call) = action {
                let patience_ms = exchange_limit_ms(call.timeout_ms).saturating_add(LOST_AFTER_MS);
                let lost_at_ns = now.monotonic_ns.saturating_add(patience_ms.saturating_mul(NS_PER_MS));
                self.in_flight.insert(call.id, lost_at_ns);
            }
        }
    }

    /// When the first call counts as lost.
    pub(super) fn call_lost_at_ns(&self) -> Option<u64> {
        self.in_flight.values().copied().min()
    }

    /// Ends the calls that count as lost.
    pub(super) fn give_up_calls(&mut self, now: Now, actions: &mut Vec<Action>) {
        let lost: Vec<CallId> =
            self.in_flight.iter().filter(|(_, at)| **at <= now.monotonic_ns).map(|(id, _)| *id).collect();
        for id in lost {
            self.handle_call(now, id, Err("no HA sender has answered".to_owned()), actions);
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping != Stopping::No
    }

    /// The server is about to end: it serves nobody from here on, and a Tandem partner that would otherwise wait for
    /// its silence to last is told so. A Kea finds out by itself.
    pub(super) fn stop(&mut self, actions: &mut Vec<Action>) {
        if self.is_stopping() {
            return;
        }
        if self.is_copying() {
            self.abort_synchronisation(actions);
        }
        self.locks.take(Holder::Stopping, None);
        if self.communication.is_tandem() && self.polls_partner() {
            let body = request::stopping(&self.relationship.this_server_name);
            let id = self.call(body, STOPPING_TIMEOUT_MS, actions);
            self.stopping = Stopping::Announcing(id);
        } else {
            self.stopping = Stopping::Announced;
            actions.push(Action::StopAnnounced);
        }
    }

    /// Goes on under another configuration: state, locks and what is known of the partner stay.
    pub(super) fn reconfigure(&mut self, now: Now, relationship: Relationship, actions: &mut Vec<Action>) {
        let other_pace = relationship.heartbeat_delay_ms != self.relationship.heartbeat_delay_ms;
        self.relationship = relationship;
        if other_pace {
            self.heartbeat_at_ns = None;
            self.poll_after_pause(now.monotonic_ns);
        }
        self.termination.forget_refusals();
        self.forget_partner_resets();
        self.paused &= self.relationship.pause(self.state) != crate::ha::relationship::Pause::Never;
        // A longer delay may turn an interruption that was noticed into none.
        self.interrupted_noticed &= self.is_interrupted(now);
        self.evaluate(now, actions);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::event::Event;
    use super::super::super::state::{OwnState, PartnerState, Role};
    use super::super::rig::{Rig, at, calls, relationship};
    use super::*;
    use crate::ha::state::Mode;

    #[test]
    fn a_heartbeat_that_nobody_answers_does_not_stop_those_that_follow() {
        let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        let mut heartbeats = 0;
        let mut states = vec![rig.machine.state()];
        for second in 0..400 {
            heartbeats += calls(&rig.wait_until(f64::from(second))).len();
            if states.last() != Some(&rig.machine.state()) {
                states.push(rig.machine.state());
            }
        }
        // 10 s of delay, 40 s of exchange and 30 s of grace at most: the partner is found out, and polled on.
        assert!(heartbeats >= 5, "{heartbeats}");
        assert_eq!(states, [OwnState::HotStandby, OwnState::PartnerDown]);
    }

    #[test]
    fn a_copy_whose_call_is_lost_begins_anew_when_the_partner_is_heard() {
        let mut rig = Rig::in_state(Role::Standby, OwnState::Waiting, PartnerState::Unknown);
        rig.heartbeat_reply("hot-standby", 0, 0);
        assert_eq!(rig.machine.state(), OwnState::Syncing);
        assert!(rig.machine.synchronisation.is_some());
        rig.wait_until(51.0);
        assert!(rig.machine.synchronisation.is_none(), "the lost dhcp-disable is given up");
        rig.heartbeat_reply("hot-standby", 0, 0);
        assert!(rig.machine.synchronisation.is_some());
    }

    #[test]
    fn a_reload_keeps_the_state_and_takes_up_the_timers() {
        let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        rig.heartbeat_reply("hot-standby", 0, 0);
        let view = rig.machine.view().cloned();
        let same = rig.handle(Event::Reconfigured(Box::new(relationship(Mode::HotStandby, Role::Primary))));
        assert!(same.is_empty(), "{same:?}");
        assert_eq!(rig.machine.view().cloned(), view);

        let faster = Relationship {
            heartbeat_delay_ms: 2_000,
            max_ack_delay_ms: 700,
            max_response_delay_ms: 5_000,
            ..relationship(Mode::HotStandby, Role::Primary)
        };
        rig.handle(Event::Reconfigured(Box::new(faster)));
        assert_eq!(rig.machine.state(), OwnState::HotStandby);
        assert_eq!(rig.machine.partner_state(), PartnerState::HotStandby);
        assert_eq!(rig.machine.view().expect("a view was published").max_ack_delay_ms, 700);
        assert!(calls(&rig.wait_until(1.9)).is_empty());
        assert_eq!(calls(&rig.wait_until(2.1)).len(), 1, "the new pace");
        rig.handle(Event::CallDone {
            id: rig.machine.heartbeat.expect("in flight"),
            result: Err("no".into()),
        });
        rig.wait_until(5.1);
        assert_eq!(rig.machine.state(), OwnState::PartnerDown, "the new patience");
        assert!(rig.machine.view().expect("a view was published").interrupted);
        assert_eq!(rig.now.monotonic_ns, at(5.1).monotonic_ns);
    }
}
