//! Communication-recovery: the backlog, its flush, and telling a partner to copy our leases (ha-protocol 4.4 (c) to
//! (e), 5.6).
//!
//! The flush goes over the private connection, oldest first, one request at a time; to a Tandem partner a request
//! carries many. If any of it fails, the partner is told to begin again (`ha-reset`), and so does this server.

use shards::{Lease, Now};

use super::super::batch;
use super::super::command::lease_update_outcome;
use super::*;
use crate::engine::message::UpdateKind;

/// Updates that may still be on their way from the shards when communication-recovery is left, beyond the limit of the
/// backlog: as many as fit a lane.
const STRAGGLERS_MAX: u32 = 4_096;

/// A request with updates of the backlog.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flush {
    id: CallId,
    count: usize,
}

impl Flush {
    pub(super) fn awaits(&self, id: CallId) -> bool {
        self.id == id
    }
}

impl Machine {
    /// A shard puts an update off. One that was on its way when communication-recovery ended is sent at once.
    pub(super) fn handle_backlog(&mut self, kind: UpdateKind, lease: Box<Lease>, actions: &mut Vec<Action>) {
        let limit = self.relationship.delayed_updates_limit;
        if self.state == OwnState::CommunicationRecovery {
            self.backlog.push(kind, lease, limit);
        } else if self.state.sends_updates() {
            self.backlog.push(kind, lease, limit.saturating_add(STRAGGLERS_MAX));
            self.flush(actions);
        } else {
            // Whoever copies the leases next gets it with them.
            self.unsent_given_up += 1;
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
        batch::write_request(oldest, &mut body);
        let id = self.private_call(body, actions);
        self.flush = Some(Flush { id, count });
    }

    pub(super) fn handle_flushed(
        &mut self,
        now: Now,
        result: Result<Vec<u8>, String>,
        actions: &mut Vec<Action>,
    ) {
        let Some(Flush { count, .. }) = self.flush.take() else { return };
        let outcomes = result.and_then(|body| match count {
            1 => lease_update_outcome(&body)
                .map(|(outcome, reply)| (vec![outcome], reply.text))
                .map_err(|error| error.to_string()),
            count => batch::outcomes(&body, count).map_err(|error| error.to_string()),
        });
        let failure = match outcomes {
            Ok((outcomes, _)) if outcomes.iter().all(|outcome| *outcome == UpdateOutcome::Acked) => None,
            Ok((_, text)) => Some(text.unwrap_or_default()),
            Err(reason) => Some(reason),
        };
        let Some(reason) = failure else {
            self.backlog.taken(count);
            self.flush(actions);
            if self.flush.is_none() {
                actions.push(Action::Close { peer: 0, line: Line::Private });
                self.evaluate(now, actions);
            }
            return;
        };
        actions.push(Action::Close { peer: 0, line: Line::Private });
        let (partner, waiting) = (self.partner(), self.backlog.len());
        self.log(Message::BacklogFlushFailed { partner, waiting, reason }, actions);
        self.backlog.give_up();
        // Elsewhere nothing but the loss of the partner leads to the copy that is needed now.
        if self.state.sends_updates() {
            self.partner_failed();
        }
        self.evaluate(now, actions);
    }

    /// What becomes of the backlog when a state is entered. Where updates are sent the rest of it is sent as well; where
    /// they are put off it stays; anywhere else the partner will have to copy, and the unsent counter says so.
    pub(super) fn leave_backlog(&mut self, actions: &mut Vec<Action>) {
        let waiting = self.backlog.state() == BacklogState::Waiting;
        match self.state {
            OwnState::CommunicationRecovery => return,
            state if state.sends_updates() && waiting => return self.flush(actions),
            _ => {}
        }
        let count = self.backlog.len().max(1) as u64;
        if self.backlog.clear() {
            self.unsent_given_up += count;
        }
        if self.flush.take().is_some() {
            actions.push(Action::Close { peer: 0, line: Line::Private });
        }
    }

    /// Tells the partner to begin again, so that it copies our leases.
    pub(super) fn reset_partner(&mut self, actions: &mut Vec<Action>) {
        if std::mem::replace(&mut self.reset_waits, true) {
            return;
        }
        self.resets += 1;
        if self.state == OwnState::PartnerDown {
            self.log(Message::CopyOutdated { partner: self.partner() }, actions);
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
        } else if self.state == OwnState::CommunicationRecovery {
            // Both lack something, so both copy, one after the other (ha-protocol 4.4 d).
            self.enter(now, OwnState::Waiting, actions);
            self.evaluate(now, actions);
        }
        self.poll_after_pause(now.monotonic_ns);
    }
}
