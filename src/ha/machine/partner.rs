//! What is heard of the partner: heartbeats, settled updates, clients it leaves unanswered (ha-protocol 4.5, 4.6).

use shards::Now;

use super::super::command::{Reply, ReplyError, request};
use super::super::communication::{HeartbeatReply, Seen, waited_ms};
use super::*;
use crate::dhcp4::scope::bucket;
use crate::engine::message::Asked;
use crate::policy::Scope;

/// How long a Kea waits for the answer to a heartbeat.
pub(super) const HEARTBEAT_TIMEOUT_NS: u64 = 10 * NS_PER_S;
/// How long the proof by traffic that the partner serves nobody has to stand. Many clients may ask within a moment, and
/// one that lives makes offers in the next, which they take; a Kea looks at its next heartbeat only.
const PROOF_STANDS_NS: u64 = NS_PER_S / 2;
/// How long one client has to have waited that proves it by itself, milliseconds: `max-ack-delay` of a Kea that is not told
/// another one, so that a client has asked three times.
const LONG_WAIT_MS: u64 = 10_000;
/// Longest pause between two heartbeats of a terminated server to a partner that does not heal by itself.
const TERMINATED_POLL_MS_MAX: u64 = 60_000;

/// What clients have shown of a silent partner.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Proof {
    /// That it serves nobody, unless one of them takes an offer by then, monotonic.
    Counts(u64),
    /// Not enough.
    #[default]
    None,
    /// That it serves nobody.
    Stands,
}

impl Machine {
    /// Whether the partner is polled in this state. Kea's terminated server does not; this one does, slowly, to find
    /// out when the cause is gone.
    pub(super) fn polls_partner(&self) -> bool {
        let for_good = matches!(self.state, OwnState::Backup | OwnState::PassiveBackup);
        self.relationship.has_partner() && !for_good
    }

    /// Heartbeats rest while this server copies: its partner's state cannot change what it does then.
    pub(super) fn may_poll(&self) -> bool {
        let rests = self.heartbeat.is_some() || self.is_copying() || self.is_stopping();
        self.polls_partner() && !rests
    }

    /// Brings the next heartbeat forward to `at_ns`; with heartbeats turned off there is none.
    pub(super) fn poll_at(&mut self, at_ns: u64) {
        if self.relationship.heartbeat_delay_ms > 0 && self.polls_partner() {
            self.heartbeat_at_ns = Some(self.heartbeat_at_ns.map_or(at_ns, |planned| planned.min(at_ns)));
        }
    }

    pub(super) fn poll_after_pause(&mut self, now_ns: u64) {
        let converging =
            self.state.as_seen_by_partner().is_converging() || self.communication.partner().is_converging();
        let delay_ms = u64::from(self.relationship.heartbeat_delay_ms);
        let slow = self.state == OwnState::Terminated && !self.communication.is_tandem();
        let pause_ms = if slow {
            // Often enough that a partner which answers does not count as silent.
            let patience_ms = u64::from(self.relationship.max_response_delay_ms) / 2;
            delay_ms.max(patience_ms.min(TERMINATED_POLL_MS_MAX))
        } else if converging {
            delay_ms.min(CONVERGING_POLL_MS)
        } else {
            delay_ms
        };
        self.poll_at(now_ns.saturating_add(pause_ms * NS_PER_MS));
    }

    pub(super) fn handle_call(
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
            self.handle_reset_done(now, result, actions);
        } else if self.flush.as_ref().is_some_and(|flush| flush.awaits(id)) {
            self.handle_flushed(now, result, actions);
        } else if self.maintenance.awaits(id) {
            self.handle_maintenance_notified(now, result, actions);
        } else if self.stopping == calls::Stopping::Announcing(id) {
            self.stopping = calls::Stopping::Announced;
            actions.push(Action::StopAnnounced);
        } else {
            self.handle_copy_call(now, id, result, actions);
        }
        // Anything else is the answer to a call whose sender has been given up.
    }

    fn handle_heartbeat(&mut self, now: Now, result: Result<Vec<u8>, String>, actions: &mut Vec<Action>) {
        if !self.polls_partner() || self.is_stopping() {
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
        self.note_heard(outcome.is_ok());
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
                self.release_notified();
            }
        }
        self.evaluate(now, actions);
        self.compare_if_due(now, actions);
        self.poll_after_pause(now.monotonic_ns);
        self.poll_for_reset(now.monotonic_ns);
    }

    fn handle_heartbeat_reply(&mut self, now: Now, mut reply: HeartbeatReply, actions: &mut Vec<Action>) {
        let was = self.communication.partner();
        self.doubt_after_silence(now);
        let fingerprint = reply.fingerprint.take();
        let skew_before_s = self.communication.skew_s();
        self.communication.record(now.monotonic_ns, now.wall_s(), reply);
        self.doubt_after_clock(skew_before_s);
        let is = self.communication.partner();
        let normal = self.relationship.mode.normal_state();
        let lasting_ns = self.trust_ns();
        self.communication.refusals().settle(now.monotonic_ns, is == normal.as_seen_by_partner(), lasting_ns);
        if std::mem::take(&mut self.unsent_settles) {
            self.communication.acknowledge_unsent();
        }
        self.note_partner_alone();
        self.heartbeat_failure_logged_ns = None;
        if was == PartnerState::Unavailable && is != PartnerState::Unavailable || self.interrupted_noticed {
            let partner = self.partner();
            self.log(Message::CommunicationRestored { partner }, actions);
        }
        self.interrupted_noticed = false;
        self.log_partner_state(was, is, actions);
        if is == normal.as_seen_by_partner() && self.state == normal && !self.relationship.sync_leases {
            self.communication.acknowledge_unsent();
        }
        // Whatever it copied before, it begins anew.
        if is == PartnerState::Waiting {
            self.copying = CopyOfOurs::None;
        }
        // A copier of another make may still say `syncing` right after its notification; one in any other
        // state is not about to come back, and this server goes on serving alone.
        if !matches!(is, PartnerState::Ready | PartnerState::Syncing) {
            self.release_notified();
        }
        // A Kea keeps a lease whose update has failed, and does not count it (ha-protocol 5.3).
        self.served_beside |= self.state == OwnState::PartnerDown && is == normal.as_seen_by_partner();
        self.maintenance.heard(is, now.monotonic_ns);
        if self.repeats_cancellation(is, actions) {
            self.communication.told(PartnerState::Unknown);
        }
        self.compare_configurations(fingerprint, actions);
        self.warn_of_skew(now, actions);
        if !self.generation_probed && is != PartnerState::Unavailable {
            self.generation_probed = true;
            self.generation_probe = Some(self.call(request::status_get(), COMMAND_TIMEOUT_MS, actions));
        }
    }

    fn log_partner_state(&self, was: PartnerState, is: PartnerState, actions: &mut Vec<Action>) {
        if was == is {
            return;
        }
        if is == PartnerState::Terminated && self.state == OwnState::Waiting {
            self.log(Message::TerminatedRestartPartner, actions);
        }
        if is.is_foreign_to(self.relationship.mode) {
            self.log(
                Message::InvalidPartnerState { partner: is, mode: self.relationship.mode.name() },
                actions,
            );
        }
    }

    /// Says once what the configurations differ in, and once that they no longer do.
    fn compare_configurations(&mut self, theirs: Option<Fingerprint>, actions: &mut Vec<Action>) {
        // Nothing is known of one that has none, and nothing of an own one that was not told yet.
        let Some(theirs) = theirs.filter(|_| self.fingerprint != Fingerprint::default()) else { return };
        let difference = self.fingerprint.difference(&theirs);
        // Which subnets differ is in the answer to a request that shows the own fingerprint.
        if difference.is_some() && !self.heartbeat_tells || difference == self.difference {
            return;
        }
        let partner = self.partner();
        let message = match &difference {
            Some(difference) => Message::ConfigurationDiffers { partner, difference: difference.clone() },
            None => Message::ConfigurationAgrees { partner },
        };
        self.log(message, actions);
        self.difference = difference;
    }

    /// Only release 2.7.1 and later has `dhcp-state`, and 2.7.0 brought lease state 3 (ha-protocol 0.5). A Tandem that
    /// answers in the dialect of 2.2, because its file is in it, says who it is.
    fn handle_generation(&mut self, result: Result<Vec<u8>, String>) {
        // Without an answer, or with an error for one, nothing is known; the next heartbeat asks again.
        let answer = result.ok().and_then(|body| Reply::parse_success(&body).ok());
        self.generation_probed = answer.is_some();
        self.partner_knows_released = answer
            .and_then(|answer| answer.arguments)
            .is_some_and(|arguments| arguments.get("dhcp-state").or(arguments.get("tandem")).is_some());
        if self.generation_probed {
            self.partner_knew_released = self.partner_knows_released;
        }
    }

    pub(super) fn partner_failed(&mut self) {
        self.communication.fail();
        self.unsent_settles = false;
        if self.state.sends_updates() {
            self.comparison.doubt();
        }
        // What comes back may be of another release, and may copy before it is heard. Updates go to the same one far more
        // likely: a deletion in place of a release would leave it without a row that is kept here.
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

    pub(super) fn handle_unanswered(
        &mut self,
        now: Now,
        client: &ClientIdentity,
        secs: u16,
        asked: Asked,
        actions: &mut Vec<Action>,
    ) {
        if !self.is_interrupted(now) || self.waits_for_us(client) {
            return;
        }
        let delay_ms = self.relationship.max_ack_delay_ms;
        let seen = if self.communication.silent_for_ns(now.monotonic_ns) <= self.trust_ns() {
            self.communication.analyze(client, secs, asked, delay_ms)
        } else {
            self.communication.analyze_late(now.monotonic_ns, client, secs, asked, delay_ms)
        };
        let for_long = self.communication.silent_for_ns(now.monotonic_ns) >= PATIENCE_NS;
        if for_long && seen != Seen::Offered && waited_ms(secs) > LONG_WAIT_MS {
            self.communication.note_long_wait();
        }
        self.proof = match self.proof {
            _ if !self.traffic_proves_failure() => Proof::None,
            Proof::None => Proof::Counts(now.monotonic_ns.saturating_add(PROOF_STANDS_NS)),
            proof => proof,
        };
        if matches!(seen, Seen::Known | Seen::Offered) {
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

    pub(super) fn handle_settled(
        &mut self,
        now: Now,
        outcome: UpdateOutcome,
        client: &ClientIdentity,
        actions: &mut Vec<Action>,
    ) {
        match outcome {
            UpdateOutcome::Acked => self.communication.refusals().forgive(client),
            UpdateOutcome::Conflict => {
                // A late answer to an update of a state that has been left is no news of this one.
                if self.relationship.max_rejected_lease_updates > 0 && self.state.sends_updates() {
                    self.communication.refusals().reject(now.monotonic_ns, client);
                }
                let message =
                    Message::LeaseUpdateConflict { partner: self.partner(), client: describe(client) };
                self.log(message, actions);
            }
            // The sender has logged what the partner says. Whether it still serves is for a heartbeat to find out.
            UpdateOutcome::Refused => {
                if self.relationship.max_rejected_lease_updates > 0 && self.state.sends_updates() {
                    self.communication.refusals().refuse(now.monotonic_ns, client);
                }
                self.poll_at(now.monotonic_ns.saturating_add(CONVERGING_POLL_MS * NS_PER_MS));
            }
            // It was of before this server stood still; the heartbeat under way tells how the partner is.
            UpdateOutcome::Failed if self.is_in_the_dark() => {}
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

    /// For how long a partner that answers clients, or heartbeats, is trusted to serve, while it acknowledges nobody or takes
    /// no update: twice `max-response-delay`, and as long as a Kea waits for the answer to a heartbeat.
    fn trust_ns(&self) -> u64 {
        2 * u64::from(self.relationship.max_response_delay_ms) * NS_PER_MS + HEARTBEAT_TIMEOUT_NS
    }

    /// More clients than `max-unacked-clients` do. Where there are not so many, a server that serves nobody in its state
    /// would never serve again unless its partner comes back: after ten minutes one that has waited for long is enough.
    fn traffic_proves_failure(&self) -> bool {
        self.communication.traffic_proves_failure(self.relationship.max_unacked_clients)
            || self.listens() && self.communication.waits_for_long()
    }

    /// When nobody has taken an offer for long enough.
    pub(super) fn proof_at_ns(&self) -> Option<u64> {
        match self.proof {
            Proof::Counts(until_ns) => Some(until_ns),
            Proof::None | Proof::Stands => None,
        }
    }

    /// Nobody has taken an offer since many were found waiting; what was heard of the partner meanwhile ends the proof.
    pub(super) fn settle_proof(&mut self) {
        self.proof = if self.traffic_proves_failure() { Proof::Stands } else { Proof::None };
    }

    /// Whether the clients have proven that the partner serves nobody, or need not.
    pub(super) fn is_failure_proven(&self) -> bool {
        let needs_none = self.relationship.max_unacked_clients == 0;
        needs_none || self.proof == Proof::Stands && self.traffic_proves_failure()
    }

    /// Silent for longer than `max-response-delay`.
    pub(super) fn is_interrupted(&self, now: Now) -> bool {
        let at_ns = self.communication.interrupted_at_ns(self.relationship.max_response_delay_ms);
        self.polls_partner() && now.monotonic_ns >= at_ns
    }

    pub(super) fn unacked_left(&self) -> usize {
        let max = self.relationship.max_unacked_clients as usize;
        (max + 1).saturating_sub(self.communication.unacked())
    }

    /// Whether the partner's clients are this server's to hear of (ha-protocol 4.6).
    pub(super) fn sees_traffic(&self) -> bool {
        self.relationship.mode == Mode::LoadBalancing || self.relationship.role == Role::Standby
    }

    /// Whether this server, which serves nobody in its state, listens to the clients of a partner that has fallen silent. A
    /// survivor of maintenance must not leave its clients alone. Who copies has heard a partner that served a moment ago: if
    /// the link alone is cut, that goes on. So a primary of hot-standby, whose clients they are, listens as well where its
    /// standby serves alone; where nobody does it is the one that begins.
    pub(super) fn listens(&self) -> bool {
        match self.state {
            OwnState::InMaintenance => true,
            OwnState::Ready | OwnState::Syncing => self.sees_traffic() || self.communication.served_alone(),
            _ => false,
        }
    }

    /// Where the servers share the clients: whether it is one of this server's, which copies and serves nobody. It waits
    /// whatever the partner does for its own.
    fn waits_for_us(&self, client: &ClientIdentity) -> bool {
        let copies = matches!(self.state, OwnState::Ready | OwnState::Syncing);
        let own = match self.relationship.role {
            Role::Primary => Scope::Primary,
            _ => Scope::Secondary,
        };
        let bucket = || bucket(client.client_id.as_slice(), client.hwaddr.as_slice());
        copies && self.relationship.mode == Mode::LoadBalancing && bucket() == Some(own)
    }

    /// A partner that has been judged dead holds nobody's service, however long its locks were to last: one that is in
    /// the middle of a copy would be heard ([`Machine::disable`]). While it is silent whoever listens sees its clients.
    pub(super) fn look_out(&mut self, now: Now) {
        if self.state == OwnState::PartnerDown && self.is_interrupted(now) {
            self.locks.release_remote(self.relationship.index);
        }
        if !matches!(self.state, OwnState::InMaintenance | OwnState::Ready | OwnState::Syncing) {
            return;
        }
        let local = Holder::Local(self.relationship.index);
        if self.listens() && self.is_interrupted(now) {
            self.locks.release(local);
        } else {
            self.locks.take(local, None);
        }
    }
}

fn describe(client: &ClientIdentity) -> String {
    if client.client_id.is_empty() {
        format!("[hwtype=1 {:?}], cid=[no info]", client.hwaddr)
    } else {
        format!("[hwtype=1 {:?}], cid=[{:?}]", client.hwaddr, client.client_id)
    }
}
