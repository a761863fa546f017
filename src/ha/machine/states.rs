//! Changes of the own state: conditions, the table, what is done on entry, and how `terminated` ends.

use shards::Now;

use super::super::transition::{Conditions, Step, transition};
use super::*;
use crate::ha::communication::PARTNER_TERMINATED;
use crate::ha::relationship::Pause;

/// First pause of a server that was terminated because updates were refused. It doubles each time, so that a cause
/// that no copy removes does not take the service away again and again.
pub(super) const HEAL_AFTER_NS: u64 = 30 * NS_PER_S;
/// Longest such pause.
pub(super) const HEAL_AFTER_NS_MAX: u64 = 3_600 * NS_PER_S;

/// Why the own high availability was given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// The partner has given it up.
    Partner,
    /// The partner refused the updates of too many clients.
    Refusals,
    /// Clocks too far apart.
    Skew,
}

/// The cause of the own termination, and when to try again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Termination {
    cause: Option<Cause>,
    since_ns: u64,
    /// When the pause ends, and whether its end has been acted on.
    until_ns: u64,
    tried: bool,
    /// How often refusals have ended it in a row.
    refusals: u32,
    left_ns: u64,
}

impl Termination {
    fn begin(&mut self, now_ns: u64, cause: Cause) {
        // An hour of high availability makes it a new story.
        if now_ns.saturating_sub(self.left_ns) > HEAL_AFTER_NS_MAX {
            self.refusals = 0;
        }
        let pause_ns = match cause {
            Cause::Partner => PATIENCE_NS,
            Cause::Refusals => (HEAL_AFTER_NS << self.refusals.min(7)).min(HEAL_AFTER_NS_MAX),
            Cause::Skew => 0,
        };
        if cause == Cause::Refusals {
            self.refusals += 1;
        }
        (self.cause, self.since_ns, self.tried) = (Some(cause), now_ns, false);
        self.until_ns = now_ns.saturating_add(pause_ns);
    }

    fn end(&mut self, now_ns: u64) {
        (self.cause, self.left_ns) = (None, now_ns);
    }

    /// The end of the pause has been acted on.
    pub(super) fn tried(&mut self) {
        self.tried = true;
    }

    /// When it is time to try again; a skew is measured with every heartbeat.
    pub(super) fn try_at_ns(&self) -> Option<u64> {
        let waits = !self.tried && self.cause.is_some_and(|cause| cause != Cause::Skew);
        waits.then_some(self.until_ns)
    }

    /// Since when, while it lasts.
    pub(super) fn since_ns(&self) -> Option<u64> {
        self.cause.map(|_| self.since_ns)
    }

    /// Until when a partner that stays terminated is let be.
    pub(super) fn rests_until_ns(&self) -> u64 {
        match self.cause {
            None | Some(Cause::Skew) => 0,
            // Why is for the partner to know, and may pass.
            Some(Cause::Partner) => self.since_ns.saturating_add(HEAL_AFTER_NS),
            Some(Cause::Refusals) => self.until_ns,
        }
    }

    /// The cause in words, while it lasts.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.cause.map(|cause| match cause {
            Cause::Partner => PARTNER_TERMINATED,
            Cause::Refusals => "lease-updates-rejected",
            Cause::Skew => "clock-skew",
        })
    }

    /// Other parameters may have removed the cause.
    pub(super) fn forget_refusals(&mut self) {
        self.refusals = 0;
        if self.cause == Some(Cause::Refusals) {
            (self.until_ns, self.tried) = (self.since_ns, false);
        }
    }
}

impl Machine {
    fn conditions(&mut self, now: Now) -> Conditions {
        let skew_s = self.communication.skew_s().map_or(0, i64::unsigned_abs);
        let rejected_max = self.relationship.max_rejected_lease_updates as usize;
        let rejected = self.communication.refusals().count(now.monotonic_ns);
        let interrupted = self.is_interrupted(now);
        // A primary of hot-standby that serves, and a server that waits for a partner it has yet to hear, see no traffic to
        // judge by (ha-protocol 4.6).
        let needs_proof = self.listens() || self.sees_traffic() && self.locks.service_on();
        // Its own word needs no other proof.
        let stops = self.communication.has_stopped();
        let proven = stops || self.is_failure_proven();
        // Who has yet to copy would give away what the partner has given. It may be back in a moment, so it is waited for.
        let has_leases =
            !matches!(self.state, OwnState::Syncing | OwnState::Waiting) || !self.relationship.sync_leases;
        let has_stopped = stops && has_leases;
        let terminated_since = self.communication.terminated_since_ns();
        Conditions {
            mode: self.relationship.mode,
            role: self.relationship.role,
            partner: self.communication.partner(),
            sync_leases: self.relationship.sync_leases,
            paused: self.paused,
            must_terminate: skew_s > SKEW_TERMINATE_S || (rejected_max > 0 && rejected >= rejected_max),
            interrupted,
            failure: !self.storage_full && (has_stopped || interrupted && (!needs_proof || proven)),
            queues_updates: self.relationship.delayed_updates_limit > 0,
            backlog: self.backlog.state(),
            partner_terminated_long: terminated_since
                .is_some_and(|since| now.monotonic_ns >= since.saturating_add(PATIENCE_NS)),
            partner_has_unsent: self.communication.has_unsent() || self.served_beside,
            copy_outdated: self.relationship.sync_leases && !self.copied && self.resets < RESETS_MAX,
            healed: self.has_healed(now),
            partner_heals: self.communication.is_tandem(),
            partner_reset: self.partner_reset(now),
            maintenance_forgotten: self.maintenance.forgotten,
        }
    }

    /// Whether the cause of the own termination is gone. Clocks count as right again within half of the bound, so that
    /// two that are at its edge do not go back and forth.
    fn has_healed(&self, now: Now) -> bool {
        let skew_s = self.communication.skew_s().map(i64::unsigned_abs);
        let pause_is_over = now.monotonic_ns >= self.termination.until_ns;
        let begins_anew = self.communication.partner().is_converging();
        let cause_is_gone = match self.termination.cause {
            None => false,
            // Of two that follow each other neither has a cause of its own.
            Some(Cause::Partner) => {
                let follows_us = self.communication.follows();
                self.communication.partner() != PartnerState::Terminated || follows_us || pause_is_over
            }
            // While the partner does not know a subnet it would only refuse the same clients again.
            Some(Cause::Refusals) => {
                let differs = self.difference.as_ref().is_some_and(|difference| difference.subnets);
                begins_anew || pause_is_over && !differs
            }
            Some(Cause::Skew) => skew_s.is_some(),
        };
        cause_is_gone && skew_s.is_none_or(|skew_s| skew_s <= SKEW_WARN_S)
    }

    /// Runs the table until a state stays (ha-protocol 4.2). While this server copies, it stays.
    pub(super) fn evaluate(&mut self, now: Now, actions: &mut Vec<Action>) {
        for _ in 0..OwnState::ALL.len() {
            if self.is_copying() || self.is_stopping() {
                return;
            }
            let conditions = self.conditions(now);
            match transition(self.state, &conditions) {
                Step::Stay => return,
                Step::Copy => {
                    // An administrator's copy goes first; its end evaluates again. What could not be stored is not copied.
                    if self.synchronisation.is_none() && !self.storage_full {
                        self.start_synchronisation(now, Purpose::OwnState, 0, None, actions);
                    }
                    return;
                }
                Step::Flush => return self.flush(actions),
                Step::ResetPartner => return self.reset_partner(now, actions),
                Step::Go(next) => {
                    if next == OwnState::Terminated {
                        self.begin_termination(now, actions);
                    }
                    self.enter(now, next, actions);
                }
            }
        }
        // The transition table has no cycle under fixed conditions (its tests prove it), so this is not
        // reached.
    }

    fn begin_termination(&mut self, now: Now, actions: &mut Vec<Action>) {
        let skew_s = self.communication.skew_s().filter(|skew| skew.unsigned_abs() > SKEW_TERMINATE_S);
        let rejected = self.communication.refusals().count(now.monotonic_ns);
        let cause = if let Some(skew_s) = skew_s {
            self.log(Message::HighClockSkewCausesTermination { skew_s }, actions);
            Cause::Skew
        } else if self.communication.partner() == PartnerState::Terminated {
            Cause::Partner
        } else {
            self.log(Message::LeaseUpdateRejectsCausedTermination { rejected }, actions);
            Cause::Refusals
        };
        self.termination.begin(now.monotonic_ns, cause);
        self.log(Message::Terminated, actions);
    }

    /// Enters a state, with everything that is done on entry.
    pub(super) fn enter(&mut self, now: Now, next: OwnState, actions: &mut Vec<Action>) {
        let from = self.state;
        self.log(Message::StateTransition { from, to: next, partner: self.communication.partner() }, actions);
        self.state = next;
        if next.forgives_on_entry() {
            self.communication.refusals().forgive_all();
        }
        if from == OwnState::Terminated {
            self.termination.end(now.monotonic_ns);
            self.communication.restart_terminated(now.monotonic_ns);
        }
        self.maintenance.entered(from, next);
        self.partner_resets.entered(from, next);
        // A Kea keeps what it takes for newer when it copies, and does not tell; and a Tandem that was told to copy again
        // so often, and was away each time, may lack what was given since.
        let has_copied = self.copied && self.communication.is_tandem();
        self.maintenance.partner_is_behind |=
            from == OwnState::PartnerDown && next.sends_updates() && !has_copied;
        self.comparison.entered(now, next);
        self.note_partner_copied(next);
        if next == OwnState::CommunicationRecovery {
            self.was_behind = self.untold.is_some();
        }
        self.abort_comparison(actions);
        self.leave_backlog(from, actions);
        self.release_notified();
        (self.copied, self.reset_waits, self.resets) = (false, false, 0);
        self.copying = CopyOfOurs::None;
        if next == OwnState::PartnerDown {
            self.locks.release_remote(self.relationship.index);
        }
        self.served_beside = false;
        self.unsent_settles &= next == self.relationship.mode.normal_state();
        self.scopes_by_hand = None;
        let local = Holder::Local(self.relationship.index);
        if next.serves_dhcp() {
            self.locks.release(local);
        } else {
            self.locks.take(local, None);
        }
        self.pause_on_entry(actions);
        self.heartbeat_at_ns = None;
        if next == OwnState::Terminated {
            self.poll_after_pause(now.monotonic_ns);
        } else {
            self.poll_at(now.monotonic_ns);
        }
    }

    /// Rests in the state just entered, if it is configured to (ha-protocol 1.7). What is done on entry and heartbeats
    /// go on.
    pub(super) fn pause_on_entry(&mut self, actions: &mut Vec<Action>) {
        let state = self.state;
        self.paused = match self.relationship.pause(state) {
            Pause::Always => true,
            Pause::Never => false,
            Pause::Once => self.paused_in.insert(state),
        };
        if self.paused {
            self.log(Message::StateMachinePaused { state }, actions);
        }
    }

    pub(super) fn release_notified(&mut self) {
        self.locks.release(Holder::Notified(self.relationship.index));
    }
}
