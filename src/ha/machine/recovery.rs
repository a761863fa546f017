//! Communication-recovery: the backlog, its flush, and telling a partner to copy our leases (ha-protocol 4.4 (c) to
//! (e), 5.6).
//!
//! The flush goes over the private connection, oldest first, one request at a time; to a Tandem partner a request
//! carries many. If any of it fails, the partner is told to begin again (`ha-reset`), and so does this server.
//!
//! Shards learn a little later than the machine that their updates are to be sent again, so some are still put off when
//! the last of the backlog has been taken, and newer ones of the same addresses are on their way by another connection.
//! Only the owner of an address knows their order. So late ones are handed back to it, and it sends what the address
//! is by then by the sender of that address. For the same reason nothing is sent by senders while a flush is under way.

use shards::{Lease, Now};

use super::super::fence::{BACKLOG_STREAM, Stamp};
use super::super::{batch, outbox};
use super::*;
use crate::engine::message::UpdateKind;

/// Updates that may still be on their way from the shards when communication-recovery is left, beyond the limit of the
/// backlog: as many as fit a lane.
const STRAGGLERS_MAX: u32 = 4_096;

/// A request with updates of the backlog.
#[derive(Clone, Debug)]
pub(super) struct Flush {
    id: CallId,
    body: Vec<u8>,
    count: usize,
}

impl Flush {
    pub(super) fn awaits(&self, id: CallId) -> bool {
        self.id == id
    }
}

impl Machine {
    /// A shard puts an update off, or gives one back that the partner has not taken.
    pub(super) fn handle_backlog(
        &mut self,
        now: Now,
        (kind, lease): (UpdateKind, Box<Lease>),
        outcome: Option<UpdateOutcome>,
        actions: &mut Vec<Action>,
    ) {
        if let Some(outcome) = outcome.filter(|_| self.state.sends_updates()) {
            // Its client has been answered. A partner that is lost gets it as soon as it is back, if by a copy.
            if outcome != UpdateOutcome::Failed {
                self.give_up_backlog("the partner refuses a lease".to_owned(), actions);
            }
            self.partner_failed();
            self.evaluate(now, actions);
        }
        let limit = self.relationship.delayed_updates_limit;
        if self.state == OwnState::CommunicationRecovery {
            self.backlog.push(kind, lease, limit);
        } else if self.state.sends_updates() && outcome.is_none() {
            self.backlog.push(kind, lease, limit.saturating_add(STRAGGLERS_MAX));
            self.hand_back(actions);
            if self.backlog.state() == BacklogState::Overflowed {
                self.partner_failed();
                self.evaluate(now, actions);
            }
        } else {
            // Whoever copies the leases next gets it with them.
            self.unsent_given_up += 1;
        }
    }

    /// Gives what waits to the owners of its addresses. What a flush has taken must have come to its end before.
    fn hand_back(&mut self, actions: &mut Vec<Action>) {
        if self.flush.is_some() {
            return;
        }
        while let Some((kind, lease)) = self.backlog.pop() {
            actions.push(Action::HandBack { kind, lease });
        }
    }

    /// Sends the oldest updates, unless some are under way.
    pub(super) fn flush(&mut self, actions: &mut Vec<Action>) {
        if self.flush.is_some() || self.backlog.is_empty() {
            return;
        }
        let oldest = self.backlog.oldest(usize::from(self.communication.batch_max().max(1)));
        let count = oldest.len();
        let mut body = Vec::new();
        self.flushes += 1;
        let fence = self.published.as_ref().map(|view| view.fence).unwrap_or_default();
        let stamp = Stamp { fence, stream: BACKLOG_STREAM, number: self.flushes };
        batch::write_request(oldest, self.communication.fence().map(|_| stamp), &mut body);
        let id = self.private_call(body.clone(), actions);
        self.flush = Some(Flush { id, body, count });
    }

    pub(super) fn handle_flushed(
        &mut self,
        now: Now,
        result: Result<Vec<u8>, String>,
        actions: &mut Vec<Action>,
    ) {
        let Some(Flush { body: request, count, .. }) = self.flush.take() else { return };
        let outcomes = result
            .and_then(|answer| outbox::outcomes(&request, &answer, count).map_err(|error| error.to_string()));
        let failure = match outcomes {
            Ok((outcomes, _)) if outcomes.iter().all(|outcome| *outcome == UpdateOutcome::Acked) => None,
            Ok((_, text)) => Some(text.unwrap_or_default()),
            Err(reason) => Some(reason),
        };
        let Some(reason) = failure else {
            self.backlog.taken(count);
            if self.state.sends_updates() {
                self.hand_back(actions);
            } else {
                self.flush(actions);
            }
            if self.flush.is_none() {
                actions.push(Action::Close { peer: 0, line: Line::Private });
                self.evaluate(now, actions);
            }
            return;
        };
        actions.push(Action::Close { peer: 0, line: Line::Private });
        self.give_up_backlog(reason, actions);
        // Elsewhere nothing but the loss of the partner leads to the copy that is needed now.
        if self.state.sends_updates() {
            self.partner_failed();
        }
        self.evaluate(now, actions);
    }

    /// The partner lacks updates for good.
    fn give_up_backlog(&mut self, reason: String, actions: &mut Vec<Action>) {
        let (partner, waiting) = (self.partner(), self.backlog.len());
        self.log(Message::BacklogFlushFailed { partner, waiting, reason }, actions);
        self.backlog.give_up();
        // Of what was under way nobody knows whether it still arrives.
        self.ends_generation = true;
    }

    /// What becomes of the backlog when a state is entered. Where updates are sent the rest of it is sent as well; where
    /// they are put off it stays; anywhere else the partner will have to copy, and the unsent counter says so.
    pub(super) fn leave_backlog(&mut self, from: OwnState, actions: &mut Vec<Action>) {
        let waiting = self.backlog.state() == BacklogState::Waiting;
        match self.state {
            OwnState::CommunicationRecovery => return,
            state if state.sends_updates() && waiting => return self.hand_back(actions),
            _ => {}
        }
        let was_put_off = from == OwnState::CommunicationRecovery && self.state.sends_updates();
        if was_put_off && !self.was_behind && self.backlog.state() == BacklogState::Empty {
            self.untold = None;
        }
        let count = self.backlog.len().max(1) as u64;
        if self.backlog.clear() {
            self.unsent_given_up += count;
        }
        if self.flush.take().is_some() {
            self.ends_generation = true;
            actions.push(Action::Close { peer: 0, line: Line::Private });
        }
    }

    /// Tells the partner to begin again, so that it copies our leases.
    pub(super) fn reset_partner(&mut self, now: Now, actions: &mut Vec<Action>) {
        if std::mem::replace(&mut self.reset_waits, true) {
            return;
        }
        match self.state {
            OwnState::Terminated | OwnState::Waiting => self.note_partner_reset(now, actions),
            state => {
                self.resets += 1;
                if state == OwnState::PartnerDown {
                    self.log(Message::CopyOutdated { partner: self.partner() }, actions);
                }
            }
        }
        let body = request::reset(&self.relationship.this_server_name);
        self.reset_call = Some(self.private_call(body, actions));
    }

    pub(super) fn handle_reset_done(
        &mut self,
        now: Now,
        result: Result<Vec<u8>, String>,
        actions: &mut Vec<Action>,
    ) {
        self.reset_call = None;
        actions.push(Action::Close { peer: 0, line: Line::Private });
        let outcome = result.and_then(|body| Reply::parse_success(&body).map_err(|error| error.to_string()));
        if let Err(reason) = outcome {
            let partner = self.partner();
            self.log(Message::ResetPartnerFailed { partner, reason }, actions);
            // In partner-down the next heartbeat tells, and decides whether to ask again.
            if self.state == OwnState::CommunicationRecovery {
                self.partner_failed();
                self.reset_waits = false;
            }
        } else if matches!(self.state, OwnState::Terminated | OwnState::Waiting) {
            self.partner_resets.obeyed();
            self.poll_at(now.monotonic_ns);
        } else if self.state == OwnState::CommunicationRecovery {
            // Both lack something, so both copy, one after the other (ha-protocol 4.4 d).
            self.enter(now, OwnState::Waiting, actions);
            self.evaluate(now, actions);
        }
        self.poll_after_pause(now.monotonic_ns);
    }
}
