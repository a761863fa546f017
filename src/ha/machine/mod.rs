//! The HA machine of one hot-standby relationship (ha-protocol 4): events and `now` in, actions out.
//!
//! It owns the own state, what is known of the partner, the locks on the DHCP service and the running
//! synchronisation. It runs on the control node, which is its only driver. It never sends, sleeps or logs
//! itself.
//!
//! ```text
//! waiting -> syncing -> ready -> hot-standby <-> (partner-down) ; terminated: until ha-reset or a restart
//! ```
//! The arrows are in [`super::transition`]. Differences to Kea, none visible as anything but timing: the
//! partner is polled at once at start and after every own change of state, and every second while either side
//! is waiting, syncing or ready; deadlines have timers of their own; `ready` is advertised before the
//! notification of a complete copy; every entry action runs at once (ha-protocol 8 no. 2, 3, 8, 10).
//!
//! Invariants: a view is published before the answer to the command that changed it; at most one heartbeat
//! and one synchronisation are in flight; the advertised state and scopes are those of the last published
//! view.

mod calls;
mod commands;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use shards::Now;

use super::command::{Reply, ReplyError, request};
use super::communication::{Communication, HeartbeatReply, Seen};
use super::event::{Action, Call, CallId, ClientIdentity, CommandSource, Event};
use super::locks::{Holder, Locks};
use super::log::{LogEvent, Message};
use super::relationship::Relationship;
use super::state::{OwnState, PartnerState, Role};
use super::sync::{CallIds, Progress, Purpose, Synchronisation};
use super::transition::{Conditions, Step, transition};
use super::view::{BackupUpdates, HaView, Scopes, UpdateMode};
use crate::engine::message::UpdateOutcome;

/// Polling interval while the pair comes together.
const CONVERGING_POLL_MS: u64 = 1_000;
/// Clocks further apart are warned of; whole seconds, strictly greater (ha-protocol 4.10).
const SKEW_WARN_S: u64 = 30;
/// Clocks further apart end high availability.
const SKEW_TERMINATE_S: u64 = 60;
/// Least distance of two skew warnings.
const SKEW_WARN_INTERVAL_NS: u64 = 60 * NS_PER_S;
/// How long the partner may stay terminated before this server follows it (ha-protocol 4.4 a).
const TERMINATED_WAIT_NS: u64 = 600 * NS_PER_S;
/// How often a partner is told to copy again before this server takes it as it is: one that does not know the
/// command, or never says that its copy is complete, must not keep the pair from coming together.
const RESETS_MAX: u32 = 3;
/// Time for a command but a heartbeat, milliseconds.
const COMMAND_TIMEOUT_MS: u64 = 10_000;

/// A partner that stays away is told of at once, and then this often.
const FAILURE_LOG_INTERVAL_NS: u64 = 60 * NS_PER_S;

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// Timers of the machine; each is derived from the state it guards, so none can be forgotten or left behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Timer {
    /// A call is overdue by far.
    CallLost,
    /// The next heartbeat.
    Heartbeat,
    /// The partner's silence becomes an interruption.
    Interrupted,
    /// A lock runs out.
    Lock,
    /// The partner has been terminated for ten minutes.
    PartnerTerminated,
}

impl Timer {
    const ALL: [Self; 5] =
        [Self::CallLost, Self::Heartbeat, Self::Interrupted, Self::Lock, Self::PartnerTerminated];
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    relationship: Relationship,
    state: OwnState,
    communication: Communication,
    locks: Locks,
    synchronisation: Option<Synchronisation>,
    heartbeat_at_ns: Option<u64>,
    heartbeat: Option<CallId>,
    /// The partner has copied our leases, and nobody was served since.
    copied: bool,
    /// `ha-reset` under way, whether its effect has yet to be heard of, and how often it was sent in this state.
    reset_call: Option<CallId>,
    reset_waits: bool,
    resets: u32,
    generation_probe: Option<CallId>,
    generation_probed: bool,
    partner_knows_released: bool,
    interrupted_noticed: bool,
    unsent: BTreeMap<u8, u64>,
    skew_warned_ns: Option<u64>,
    heartbeat_failure_logged_ns: Option<u64>,
    ids: CallIds,
    /// When each call in flight counts as lost, monotonic.
    in_flight: BTreeMap<CallId, u64>,
    published: Option<Arc<HaView>>,
}

impl Machine {
    /// A machine in `waiting` at `now`; nothing happens before [`Event::Start`].
    pub fn new(relationship: Relationship, now: Now) -> Self {
        let mut locks = Locks::default();
        locks.take(Holder::Local, None);
        Self {
            relationship,
            state: OwnState::Waiting,
            communication: Communication::new(now.monotonic_ns),
            locks,
            synchronisation: None,
            heartbeat_at_ns: None,
            heartbeat: None,
            copied: false,
            reset_call: None,
            reset_waits: false,
            resets: 0,
            generation_probe: None,
            generation_probed: false,
            partner_knows_released: false,
            interrupted_noticed: false,
            unsent: BTreeMap::new(),
            skew_warned_ns: None,
            heartbeat_failure_logged_ns: None,
            ids: CallIds::default(),
            in_flight: BTreeMap::new(),
            published: None,
        }
    }

    /// The own state.
    pub fn state(&self) -> OwnState {
        self.state
    }

    /// The partner's state as last heard.
    pub fn partner_state(&self) -> PartnerState {
        self.communication.partner()
    }

    /// The configuration it runs under.
    pub fn relationship(&self) -> &Relationship {
        &self.relationship
    }

    /// The last published view.
    pub fn view(&self) -> Option<&Arc<HaView>> {
        self.published.as_ref()
    }

    /// Something has happened.
    pub fn handle_event(&mut self, now: Now, event: Event, actions: &mut Vec<Action>) {
        let first = actions.len();
        self.locks.expire(now.monotonic_ns);
        match event {
            // Nothing is put off in hot-standby.
            Event::Backlog { .. } => {}
            Event::CallDone { id, result } => self.handle_call(now, id, result, actions),
            Event::Command { token, source, command } => {
                self.handle_command(now, token, source, command, actions)
            }
            Event::PageApplied { id, result } => self.handle_applied(now, id, result, actions),
            Event::Reconfigured(relationship) => self.reconfigure(now, *relationship, actions),
            Event::Start => {
                self.log(Message::ServiceStarted { role: self.relationship.role.name() }, actions);
                self.poll_at(now.monotonic_ns);
                self.evaluate(now, actions);
            }
            Event::Unanswered { client, secs } => self.handle_unanswered(now, &client, secs, actions),
            Event::UnsentUpdates { shard, total } => {
                self.unsent.insert(shard, total);
            }
            Event::UpdatesSettled { outcome, client } => self.handle_settled(now, outcome, &client, actions),
        }
        self.finish(now, first, actions);
    }

    /// `next_timeout` has passed.
    pub fn handle_timeout(&mut self, now: Now, actions: &mut Vec<Action>) {
        let first = actions.len();
        let mut evaluate = false;
        for timer in Timer::ALL {
            if self.timer(timer).is_none_or(|at| now.monotonic_ns < at) {
                continue;
            }
            match timer {
                Timer::CallLost => self.give_up_calls(now, actions),
                // Sent by `finish`.
                Timer::Heartbeat => {}
                Timer::Interrupted => {
                    self.interrupted_noticed = true;
                    let partner = self.partner();
                    self.log(Message::CommunicationInterrupted { partner }, actions);
                    evaluate = true;
                }
                Timer::Lock => self.locks.expire(now.monotonic_ns),
                Timer::PartnerTerminated => evaluate = true,
            }
        }
        if evaluate {
            self.evaluate(now, actions);
        }
        self.finish(now, first, actions);
    }

    /// When `handle_timeout` is wanted next, on the monotonic clock in nanoseconds.
    pub fn next_timeout(&self) -> Option<u64> {
        Timer::ALL.into_iter().filter_map(|timer| self.timer(timer)).min()
    }

    fn timer(&self, timer: Timer) -> Option<u64> {
        match timer {
            Timer::CallLost => self.call_lost_at_ns(),
            Timer::Heartbeat => self.heartbeat_at_ns.filter(|_| self.may_poll()),
            Timer::Interrupted => {
                let waits = self.state.polls_partner() && !self.interrupted_noticed;
                waits.then(|| self.communication.interrupted_at_ns(self.relationship.max_response_delay_ms))
            }
            Timer::Lock => self.locks.next_timeout(),
            Timer::PartnerTerminated => {
                let since_ns = self.communication.terminated_since_ns();
                let waits = self.state == OwnState::Waiting;
                since_ns.filter(|_| waits).map(|since_ns| since_ns.saturating_add(TERMINATED_WAIT_NS))
            }
        }
    }

    // ---- the partner --------------------------------------------------------------------------------------

    /// Heartbeats rest while this server copies: its partner's state cannot change what it does then.
    fn may_poll(&self) -> bool {
        self.state.polls_partner() && self.heartbeat.is_none() && !self.is_copying()
    }

    fn is_copying(&self) -> bool {
        self.synchronisation.as_ref().is_some_and(|running| running.purpose == Purpose::OwnState)
    }

    /// Brings the next heartbeat forward to `at_ns`; with heartbeats turned off there is none.
    fn poll_at(&mut self, at_ns: u64) {
        if self.relationship.heartbeat_delay_ms > 0 {
            self.heartbeat_at_ns = Some(self.heartbeat_at_ns.map_or(at_ns, |planned| planned.min(at_ns)));
        }
    }

    fn poll_after_pause(&mut self, now_ns: u64) {
        let converging =
            self.state.as_seen_by_partner().is_converging() || self.communication.partner().is_converging();
        let delay_ms = u64::from(self.relationship.heartbeat_delay_ms);
        let pause_ms = if converging { delay_ms.min(CONVERGING_POLL_MS) } else { delay_ms };
        self.poll_at(now_ns.saturating_add(pause_ms * NS_PER_MS));
    }

    fn handle_call(
        &mut self,
        now: Now,
        id: CallId,
        result: Result<Vec<u8>, String>,
        actions: &mut Vec<Action>,
    ) {
        self.in_flight.remove(&id);
        if self.heartbeat == Some(id) {
            self.heartbeat = None;
            self.handle_heartbeat(now, result, actions);
        } else if self.generation_probe == Some(id) {
            self.generation_probe = None;
            self.handle_generation(result);
        } else if self.reset_call == Some(id) {
            // Whether it has worked, the next heartbeat tells.
            self.reset_call = None;
            self.poll_after_pause(now.monotonic_ns);
        } else if let Some(mut synchronisation) = self.synchronisation.take_if(|running| running.awaits(id)) {
            let progress = if synchronisation.is_notifying() {
                synchronisation.handle_notified(result, &mut self.ids, actions)
            } else {
                synchronisation.handle_call(result, &mut self.ids, actions)
            };
            self.synchronisation = Some(synchronisation);
            self.handle_progress(now, progress, actions);
        }
        // Anything else is the answer to a call whose sender has been given up.
    }

    fn handle_heartbeat(&mut self, now: Now, result: Result<Vec<u8>, String>, actions: &mut Vec<Action>) {
        if !self.state.polls_partner() {
            return;
        }
        self.reset_waits &= self.reset_call.is_some();
        let partner = self.partner();
        let outcome = match result {
            Err(reason) => Err(Message::HeartbeatCommunicationsFailed { partner, reason }),
            Ok(body) => Reply::parse_success(&body)
                .map_err(|error: ReplyError| error.to_string())
                .and_then(|reply| HeartbeatReply::parse(&reply))
                .map_err(|reason| Message::HeartbeatFailed { partner, reason }),
        };
        match outcome {
            Ok(reply) => self.handle_heartbeat_reply(now, reply, actions),
            Err(message) => {
                let logged_ns = self.heartbeat_failure_logged_ns;
                let quiet_until = logged_ns.map(|at| at.saturating_add(FAILURE_LOG_INTERVAL_NS));
                if quiet_until.is_none_or(|until| now.monotonic_ns >= until) {
                    self.heartbeat_failure_logged_ns = Some(now.monotonic_ns);
                    self.log(message, actions);
                }
                self.partner_failed();
                // The partner that said its copy is complete is gone again (ha-protocol 4.7).
                self.locks.release(Holder::Notified);
            }
        }
        self.evaluate(now, actions);
        self.poll_after_pause(now.monotonic_ns);
    }

    fn handle_heartbeat_reply(&mut self, now: Now, reply: HeartbeatReply, actions: &mut Vec<Action>) {
        let was = self.communication.partner();
        self.communication.record(now.monotonic_ns, now.wall_s(), reply);
        let is = self.communication.partner();
        self.heartbeat_failure_logged_ns = None;
        if was == PartnerState::Unavailable && is != PartnerState::Unavailable || self.interrupted_noticed {
            let partner = self.partner();
            self.log(Message::CommunicationRestored { partner }, actions);
        }
        self.interrupted_noticed = false;
        if is == PartnerState::Terminated && was != is && self.state == OwnState::Waiting {
            self.log(Message::TerminatedRestartPartner, actions);
        }
        let foreign = matches!(is, PartnerState::CommunicationRecovery | PartnerState::LoadBalancing);
        if foreign && was != is {
            self.log(Message::InvalidPartnerState { partner: is }, actions);
        }
        if self.state == OwnState::HotStandby && is == PartnerState::HotStandby {
            self.communication.acknowledge_unsent();
        }
        // A copier of another make may still say `syncing` right after its notification; one in any other
        // state is not about to come back, and this server goes on serving alone.
        if !matches!(is, PartnerState::Ready | PartnerState::Syncing) {
            self.locks.release(Holder::Notified);
        }
        self.warn_of_skew(now, actions);
        if !self.generation_probed && is != PartnerState::Unavailable {
            self.generation_probed = true;
            self.generation_probe = Some(self.call(request::status_get(), COMMAND_TIMEOUT_MS, actions));
        }
    }

    /// Only release 2.7.1 and later has `dhcp-state`, and 2.7.0 brought lease state 3 (ha-protocol 0.5).
    fn handle_generation(&mut self, result: Result<Vec<u8>, String>) {
        let reply = result.ok().and_then(|body| Reply::parse_success(&body).ok());
        self.partner_knows_released = reply
            .and_then(|reply| reply.arguments)
            .is_some_and(|arguments| arguments.get("dhcp-state").is_some());
    }

    fn partner_failed(&mut self) {
        self.communication.fail();
        // What comes back may be of another release.
        self.generation_probed = false;
        self.partner_knows_released = false;
    }

    fn warn_of_skew(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Some(skew_s) = self.communication.skew_s().filter(|skew| skew.unsigned_abs() > SKEW_WARN_S)
        else {
            return;
        };
        let due = self.skew_warned_ns.is_none_or(|at| now.monotonic_ns - at >= SKEW_WARN_INTERVAL_NS);
        if due && skew_s.unsigned_abs() <= SKEW_TERMINATE_S {
            self.skew_warned_ns = Some(now.monotonic_ns);
            self.log(Message::HighClockSkew { skew_s }, actions);
        }
    }

    fn handle_unanswered(&mut self, now: Now, client: &ClientIdentity, secs: u16, actions: &mut Vec<Action>) {
        if !self.is_interrupted(now) {
            return;
        }
        let seen = self.communication.analyze(client, secs, self.relationship.max_ack_delay_ms);
        if seen == Seen::Known {
            return;
        }
        let message = Message::CommunicationInterruptedClient {
            client: describe(client),
            unacked: seen == Seen::Unacked,
            unacked_total: self.communication.unacked(),
            unacked_left: self.unacked_left(),
        };
        self.log(message, actions);
        self.evaluate(now, actions);
    }

    fn handle_settled(
        &mut self,
        now: Now,
        outcome: UpdateOutcome,
        client: &ClientIdentity,
        actions: &mut Vec<Action>,
    ) {
        match outcome {
            UpdateOutcome::Acked => self.communication.forgive(client),
            UpdateOutcome::Conflict => {
                if self.relationship.max_rejected_lease_updates > 0 {
                    self.communication.reject(now.monotonic_ns, client);
                }
                let message =
                    Message::LeaseUpdateConflict { partner: self.partner(), client: describe(client) };
                self.log(message, actions);
            }
            // The sender has logged what the partner says. Whether it still serves is for a heartbeat to find out.
            UpdateOutcome::Refused => {
                self.poll_at(now.monotonic_ns.saturating_add(CONVERGING_POLL_MS * NS_PER_MS));
            }
            UpdateOutcome::Failed => {
                // One message per loss of the partner: every query fails until it is back.
                if self.communication.partner() != PartnerState::Unavailable {
                    let message = Message::UpdateFailed { partner: self.partner(), client: describe(client) };
                    self.log(message, actions);
                }
                self.partner_failed();
                self.poll_at(now.monotonic_ns.saturating_add(CONVERGING_POLL_MS * NS_PER_MS));
            }
        }
        self.evaluate(now, actions);
    }

    /// Silent for longer than `max-response-delay`; a terminated server no longer asks.
    fn is_interrupted(&self, now: Now) -> bool {
        let at_ns = self.communication.interrupted_at_ns(self.relationship.max_response_delay_ms);
        self.state.polls_partner() && now.monotonic_ns >= at_ns
    }

    fn unacked_left(&self) -> usize {
        let max = self.relationship.max_unacked_clients as usize;
        (max + 1).saturating_sub(self.communication.unacked())
    }

    // ---- the state ----------------------------------------------------------------------------------------

    fn conditions(&mut self, now: Now) -> Conditions {
        let skew_s = self.communication.skew_s().map_or(0, i64::unsigned_abs);
        let rejected_max = self.relationship.max_rejected_lease_updates as usize;
        let rejected = self.communication.rejected(now.monotonic_ns);
        // A primary, and a server that serves nobody, see no traffic to judge by (ha-protocol 4.6).
        let needs_proof = self.relationship.role == Role::Standby && self.locks.service_on();
        let proven = self.communication.traffic_proves_failure(self.relationship.max_unacked_clients);
        let terminated_since = self.communication.terminated_since_ns();
        Conditions {
            role: self.relationship.role,
            partner: self.communication.partner(),
            sync_leases: self.relationship.sync_leases,
            must_terminate: skew_s > SKEW_TERMINATE_S || (rejected_max > 0 && rejected >= rejected_max),
            failure: self.is_interrupted(now) && (!needs_proof || proven),
            partner_terminated_long: terminated_since
                .is_some_and(|since| now.monotonic_ns >= since.saturating_add(TERMINATED_WAIT_NS)),
            partner_has_unsent: self.communication.has_unsent(),
            copy_outdated: self.relationship.sync_leases && !self.copied && self.resets < RESETS_MAX,
        }
    }

    /// Runs the table until a state stays (ha-protocol 4.2). While this server copies, it stays.
    fn evaluate(&mut self, now: Now, actions: &mut Vec<Action>) {
        for _ in 0..OwnState::ALL.len() {
            if self.is_copying() {
                return;
            }
            let conditions = self.conditions(now);
            match transition(self.state, &conditions) {
                Step::Stay => return,
                Step::Copy => {
                    // An administrator's copy goes first; its end evaluates again.
                    if self.synchronisation.is_none() {
                        self.start_synchronisation(now, Purpose::OwnState, None, actions);
                    }
                    return;
                }
                Step::ResetPartner => return self.reset_partner(actions),
                Step::Go(next) => {
                    self.log_termination(now, next, actions);
                    self.enter(now, next, actions);
                }
            }
        }
        // The transition table has no cycle under fixed conditions (its tests prove it), so this is not
        // reached.
    }

    fn reset_partner(&mut self, actions: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.reset_waits, true) {
            self.resets += 1;
            self.log(Message::CopyOutdated { partner: self.partner() }, actions);
            self.reset_call = Some(self.call(request::reset(), COMMAND_TIMEOUT_MS, actions));
        }
    }

    fn log_termination(&mut self, now: Now, next: OwnState, actions: &mut Vec<Action>) {
        if next != OwnState::Terminated {
            return;
        }
        if let Some(skew_s) =
            self.communication.skew_s().filter(|skew| skew.unsigned_abs() > SKEW_TERMINATE_S)
        {
            self.log(Message::HighClockSkewCausesTermination { skew_s }, actions);
        } else if self.communication.partner() != PartnerState::Terminated {
            let rejected = self.communication.rejected(now.monotonic_ns);
            self.log(Message::LeaseUpdateRejectsCausedTermination { rejected }, actions);
        }
        self.log(Message::Terminated, actions);
    }

    fn enter(&mut self, now: Now, next: OwnState, actions: &mut Vec<Action>) {
        let from = self.state;
        self.log(Message::StateTransition { from, to: next, partner: self.communication.partner() }, actions);
        self.state = next;
        if next != OwnState::HotStandby {
            self.communication.forgive_all();
        }
        if from == OwnState::Terminated {
            // Nothing was heard since; silence is measured from here.
            self.communication = Communication::new(now.monotonic_ns);
            self.interrupted_noticed = false;
        }
        self.locks.release(Holder::Notified);
        (self.copied, self.reset_waits, self.resets) = (false, false, 0);
        if next.serves_dhcp() {
            self.locks.release(Holder::Local);
        } else {
            self.locks.take(Holder::Local, None);
        }
        self.heartbeat_at_ns = None;
        if next.polls_partner() {
            self.poll_at(now.monotonic_ns);
        }
    }

    // ---- synchronisation ----------------------------------------------------------------------------------

    fn start_synchronisation(
        &mut self,
        now: Now,
        purpose: Purpose,
        max_period_s: Option<u64>,
        actions: &mut Vec<Action>,
    ) {
        let partner = self.partner();
        self.log(Message::SyncStart { partner }, actions);
        self.synchronisation = Some(Synchronisation::start(
            purpose,
            &self.relationship,
            max_period_s,
            now.monotonic_ns,
            &mut self.ids,
            actions,
        ));
    }

    fn handle_applied(
        &mut self,
        now: Now,
        id: CallId,
        result: Result<usize, String>,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut synchronisation) = self.synchronisation.take_if(|running| running.awaits(id)) else {
            return;
        };
        let progress = synchronisation.handle_applied(result, &mut self.ids, actions);
        self.synchronisation = Some(synchronisation);
        self.handle_progress(now, progress, actions);
    }

    /// Gives up a copy that a command has overtaken.
    fn abort_synchronisation(&mut self, actions: &mut Vec<Action>) {
        if let Some(running) = self.synchronisation.take() {
            running.abort(&mut self.ids, actions);
        }
    }

    fn handle_progress(&mut self, now: Now, progress: Progress, actions: &mut Vec<Action>) {
        let partner = self.partner();
        match progress {
            Progress::Pending { page } => {
                // The source has answered: it lives, whatever the heartbeats that rest meanwhile would say.
                self.communication.poke(now.monotonic_ns);
                self.interrupted_noticed = false;
                let Some((leases, skipped, first_reason)) = page else { return };
                self.log(Message::LeasesSyncPageReceived { partner, leases }, actions);
                if let Some(first_reason) = first_reason {
                    self.log(Message::LeasesSyncSkipped { skipped, first_reason }, actions);
                }
            }
            Progress::Undoing => {}
            Progress::Copied => {
                if self.is_copying() {
                    self.enter(now, OwnState::Ready, actions);
                }
                if let Some(running) = &mut self.synchronisation {
                    running.notify(&mut self.ids, actions);
                }
            }
            Progress::Finished => {
                let Some(finished) = self.synchronisation.take() else { return };
                actions.push(Action::ClosePrivate { peer: 0 });
                self.communication.poke(now.monotonic_ns);
                self.communication.acknowledge_unsent();
                let duration_ms = now.monotonic_ns.saturating_sub(finished.started_ns) / NS_PER_MS;
                self.log(
                    Message::SyncSuccessful { partner, applied: finished.applied, duration_ms },
                    actions,
                );
                self.answer_administrator(
                    &finished,
                    Reply::success("Lease database synchronization complete."),
                    actions,
                );
                self.poll_at(now.monotonic_ns);
                self.evaluate(now, actions);
            }
            Progress::Failed(failure) => {
                let Some(failed) = self.synchronisation.take() else { return };
                actions.push(Action::ClosePrivate { peer: 0 });
                self.log_sync_failure(&failure, actions);
                self.answer_administrator(&failed, Reply::error(failure.to_string()), actions);
                self.partner_failed();
                // The notification failed after `ready` was advertised: the copy counts for nothing.
                if failed.purpose == Purpose::OwnState && self.state == OwnState::Ready {
                    self.enter(now, OwnState::Syncing, actions);
                }
                self.heartbeat_at_ns = None;
                self.poll_after_pause(now.monotonic_ns);
                self.evaluate(now, actions);
            }
        }
    }

    fn log_sync_failure(&self, failure: &super::sync::Failure, actions: &mut Vec<Action>) {
        use super::sync::Failure;
        let partner = self.partner();
        let reason = failure.to_string();
        let message = match failure {
            Failure::Apply(_) | Failure::Page(_) => Message::LeasesSyncFailed { partner, reason },
            Failure::Disable(_) => Message::DhcpDisableFailed { partner, reason },
            Failure::Enable(_) => Message::DhcpEnableFailed { partner, reason },
            Failure::Notify(_) => Message::SyncCompleteNotifyFailed { partner, reason },
        };
        self.log(message, actions);
        self.log(Message::SyncFailed { partner: self.partner(), reason: failure.to_string() }, actions);
    }

    fn answer_administrator(&self, ended: &Synchronisation, reply: Reply, actions: &mut Vec<Action>) {
        if let Purpose::Administrator { token } = ended.purpose {
            actions.push(Action::Answer { token, reply });
        }
    }

    // ---- the end of every step ----------------------------------------------------------------------------

    /// Sends the heartbeat that is due and publishes the view, before anything else this step has done.
    fn finish(&mut self, now: Now, first: usize, actions: &mut Vec<Action>) {
        if self.timer(Timer::Heartbeat).is_some_and(|at| at <= now.monotonic_ns) {
            self.heartbeat_at_ns = None;
            let body = request::heartbeat(&self.relationship.this_server_name);
            self.heartbeat = Some(self.call(body, self.relationship.heartbeat_timeout_ms(), actions));
        }
        // Whoever is served from here on is not in the partner's copy.
        self.copied &= !self.locks.service_on();
        self.note_calls(now, &actions[first..]);
        let mut view = self.current_view(now);
        let last = self.published.clone();
        view.epoch = last.as_ref().map_or(0, |last| last.epoch);
        if last.as_deref() == Some(&view) {
            return;
        }
        view.epoch += 1;
        self.log_changes(last.as_deref(), &view, actions);
        let view = Arc::new(view);
        self.published = Some(Arc::clone(&view));
        actions.insert(first, Action::Publish(view));
    }

    fn current_view(&mut self, now: Now) -> HaView {
        let updates = match self.state {
            _ if !self.relationship.send_lease_updates => UpdateMode::Off,
            OwnState::HotStandby => UpdateMode::Send,
            _ => UpdateMode::None,
        };
        HaView {
            epoch: 0,
            service_on: self.locks.service_on(),
            configured: true,
            scopes: self.served_scopes(),
            balancing: false,
            updates,
            backlog_overflowed: false,
            backups: BackupUpdates::None,
            backup_peers: self.relationship.backup_peers(),
            reclaims_own_scopes_only: self.state == OwnState::Terminated,
            interrupted: self.is_interrupted(now),
            max_ack_delay_ms: self.relationship.max_ack_delay_ms,
            report_acks: self.communication.rejected(now.monotonic_ns) > 0,
            partner_knows_released: self.partner_knows_released,
            partner_batch_max: self.communication.batch_max(),
        }
    }

    /// Default scopes in the normal state and when terminated, all of them when alone (ha-protocol 4.1).
    fn served_scopes(&self) -> Scopes {
        match self.state {
            OwnState::HotStandby | OwnState::Terminated => {
                Scopes { primary: self.relationship.role == Role::Primary, ..Scopes::NONE }
            }
            OwnState::PartnerDown => Scopes::PRIMARY,
            OwnState::Ready | OwnState::Syncing | OwnState::Waiting => Scopes::NONE,
        }
    }

    fn log_changes(&self, last: Option<&HaView>, view: &HaView, actions: &mut Vec<Action>) {
        let state = self.state;
        if last.is_none_or(|last| last.service_on != view.service_on) {
            let on = Message::LocalDhcpEnable { state };
            let off = Message::LocalDhcpDisable { state };
            self.log(if view.service_on { on } else { off }, actions);
        }
        if last.is_none_or(|last| last.updates != view.updates) {
            let sends = view.updates == UpdateMode::Send;
            let enabled = Message::LeaseUpdatesEnabled { state };
            let disabled = Message::LeaseUpdatesDisabled { state };
            self.log(if sends { enabled } else { disabled }, actions);
        }
    }

    fn call(&mut self, body: Vec<u8>, timeout_ms: u64, actions: &mut Vec<Action>) -> CallId {
        let id = self.ids.next_id();
        actions.push(Action::Call(Call { id, peer: 0, body, timeout_ms, private: false }));
        id
    }

    fn partner(&self) -> String {
        self.relationship
            .partner()
            .map_or_else(String::new, |partner| format!("{} ({})", partner.name, partner.url))
    }

    fn log(&self, message: Message, actions: &mut Vec<Action>) {
        actions.push(Action::Log(LogEvent { server: self.relationship.this_server_name.clone(), message }));
    }
}

fn describe(client: &ClientIdentity) -> String {
    if client.client_id.is_empty() {
        format!("[hwtype=1 {:?}], cid=[no info]", client.hwaddr)
    } else {
        format!("[hwtype=1 {:?}], cid=[{:?}]", client.hwaddr, client.client_id)
    }
}

#[cfg(test)]
mod pair_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod sync_tests;
#[cfg(test)]
mod tests;
