//! Synchronisation: when it begins, and what its progress means to the state (ha-protocol 6).

use shards::Now;

use super::super::sync::{Failure, Progress};
use super::*;
use crate::engine::message::Applied;
use crate::limits::CONFLICTS_LOGGED_MAX;

impl Machine {
    /// Whether the state `syncing` copies. An administrator's copy leaves the state alone.
    pub(super) fn is_copying(&self) -> bool {
        self.synchronisation.as_ref().is_some_and(|running| running.context.purpose == Purpose::OwnState)
    }

    /// Begins a copy from the peer with index `peer`. A partner that can be copied while it serves is.
    pub(super) fn start_synchronisation(
        &mut self,
        now: Now,
        purpose: Purpose,
        peer: u8,
        max_period_s: Option<u64>,
        actions: &mut Vec<Action>,
    ) {
        if purpose != Purpose::Comparison {
            self.log(Message::SyncStart { partner: self.source(peer) }, actions);
        }
        let is_partner = peer == 0 && self.relationship.has_partner();
        let compares = purpose == Purpose::Comparison;
        let live = is_partner && self.communication.copies() && !self.live_copy_failed && !compares;
        self.synchronisation = Some(Synchronisation::start(
            purpose,
            peer,
            live,
            &self.relationship,
            max_period_s,
            now.monotonic_ns,
            &mut self.ids,
            actions,
        ));
    }

    fn source(&self, peer: u8) -> String {
        let peer = self.relationship.others.get(usize::from(peer));
        peer.map_or_else(String::new, |peer| format!("{} ({})", peer.name, peer.url))
    }

    pub(super) fn handle_copy_call(
        &mut self,
        now: Now,
        id: CallId,
        result: Result<Vec<u8>, String>,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut synchronisation) = self.synchronisation.take_if(|running| running.awaits(id)) else {
            return;
        };
        let progress = if synchronisation.is_notifying() {
            synchronisation.handle_notified(result, &mut self.ids, actions)
        } else {
            synchronisation.handle_call(result, &mut self.ids, actions)
        };
        self.synchronisation = Some(synchronisation);
        self.handle_progress(now, progress, actions);
    }

    pub(super) fn handle_applied(
        &mut self,
        now: Now,
        id: CallId,
        result: Result<Applied, String>,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut synchronisation) = self.synchronisation.take_if(|running| running.awaits(id)) else {
            return;
        };
        if let Ok(applied) = &result {
            let left = CONFLICTS_LOGGED_MAX.saturating_sub(synchronisation.applied.examples.len());
            for conflict in applied.examples.iter().take(left).cloned() {
                self.log(Message::LeaseConflict(Box::new(conflict)), actions);
            }
        }
        let progress = synchronisation.handle_applied(result, &mut self.ids, actions);
        self.synchronisation = Some(synchronisation);
        self.handle_progress(now, progress, actions);
    }

    /// Gives up a copy that a command has overtaken.
    pub(super) fn abort_synchronisation(&mut self, actions: &mut Vec<Action>) {
        if let Some(running) = self.synchronisation.take() {
            running.abort(&mut self.ids, actions);
        }
    }

    /// Whether the running copy is of the active partner's leases, so that it says something about the partner.
    pub(super) fn copies_partner(&self) -> bool {
        self.relationship.has_partner()
            && self.synchronisation.as_ref().is_some_and(|running| running.context.peer == 0)
    }

    fn handle_progress(&mut self, now: Now, progress: Progress, actions: &mut Vec<Action>) {
        let of_partner = self.copies_partner();
        let Some(running) = &self.synchronisation else { return };
        let peer = running.context.peer;
        match progress {
            Progress::Pending { page } => self.note_page(now, of_partner, peer, page, actions),
            Progress::Undoing => {}
            Progress::Copied { page } => {
                self.note_page(now, of_partner, peer, page, actions);
                if self.is_copying() {
                    self.count_kept();
                    self.enter(now, OwnState::Ready, actions);
                }
                if let Some(running) = &mut self.synchronisation {
                    running.notify(&mut self.ids, actions);
                }
            }
            Progress::Finished => self.finish_copy(now, of_partner, actions),
            Progress::Failed(failure) => self.fail_copy(now, of_partner, &failure, actions),
        }
    }

    /// Leases that this server gave alone, in a life whose count of them has ended with it, are missing at the source. Said
    /// before it is known that the copy is complete, so that a Tandem that is alone, or that has copied before, copies
    /// them; any other sends updates during the copy, and what is newer here may be one of those. A Kea would be out of
    /// service for half a minute, for rows whose clients may never have heard of them; it does not learn of them from
    /// another Kea either.
    fn count_kept(&mut self) {
        let sends_none =
            matches!(self.communication.partner(), PartnerState::PartnerDown | PartnerState::Ready);
        if let Some(running) =
            self.synchronisation.as_ref().filter(|_| sends_none && self.communication.is_tandem())
        {
            self.unsent_given_up += running.applied.kept as u64;
        }
    }

    /// The source has answered: it lives, whatever the heartbeats that rest meanwhile would say.
    fn note_page(
        &mut self,
        now: Now,
        of_partner: bool,
        peer: u8,
        page: Option<(usize, usize, Option<String>)>,
        actions: &mut Vec<Action>,
    ) {
        if of_partner {
            self.communication.poke(now.monotonic_ns);
            self.interrupted_noticed = false;
        }
        let Some((leases, skipped, first_reason)) = page.filter(|_| !self.is_comparing()) else { return };
        let partner = self.source(peer);
        self.log(Message::LeasesSyncPageReceived { partner, leases }, actions);
        if let Some(first_reason) = first_reason {
            self.log(Message::LeasesSyncSkipped { skipped, first_reason }, actions);
        }
    }

    fn finish_copy(&mut self, now: Now, of_partner: bool, actions: &mut Vec<Action>) {
        let Some(finished) = self.synchronisation.take() else { return };
        actions.push(Action::Close { peer: finished.context.peer, line: Line::Copy });
        if finished.context.purpose == Purpose::Comparison {
            return self.finish_comparison(now, &finished.applied, actions);
        }
        if of_partner {
            self.live_copy_failed = false;
            self.communication.poke(now.monotonic_ns);
            self.communication.acknowledge_unsent();
            self.unsent_settles = finished.context.purpose == Purpose::OwnState;
        }
        let duration_ms = now.monotonic_ns.saturating_sub(finished.started_ns) / NS_PER_MS;
        let Applied { written, conflicts, examples, .. } = &finished.applied;
        if *conflicts > examples.len() {
            self.log(Message::LeaseConflicts { conflicts: *conflicts }, actions);
        }
        let partner = self.source(finished.context.peer);
        self.log(Message::SyncSuccessful { partner, applied: *written, duration_ms }, actions);
        let reply = Reply::success("Lease database synchronization complete.");
        self.answer_administrator(&finished, reply, actions);
        self.poll_at(now.monotonic_ns);
        self.evaluate(now, actions);
    }

    fn fail_copy(&mut self, now: Now, of_partner: bool, failure: &Failure, actions: &mut Vec<Action>) {
        let Some(failed) = self.synchronisation.take() else { return };
        actions.push(Action::Close { peer: failed.context.peer, line: Line::Copy });
        self.log_sync_failure(failed.context.peer, failure, actions);
        self.answer_administrator(&failed, Reply::error(failure.to_string()), actions);
        if failed.context.purpose == Purpose::Comparison {
            return self.comparison.fail(now);
        }
        if of_partner {
            self.live_copy_failed = matches!(failure, Failure::Copy(_));
            self.partner_failed();
        }
        // The notification failed after `ready` was advertised: the copy counts for nothing.
        if failed.context.purpose == Purpose::OwnState && self.state == OwnState::Ready {
            self.enter(now, OwnState::Syncing, actions);
        }
        self.heartbeat_at_ns = None;
        self.poll_after_pause(now.monotonic_ns);
        self.evaluate(now, actions);
    }

    fn log_sync_failure(&self, peer: u8, failure: &Failure, actions: &mut Vec<Action>) {
        let partner = self.source(peer);
        let reason = failure.to_string();
        let message = match failure {
            Failure::Apply(_) | Failure::Copy(_) | Failure::Page(_) => {
                Message::LeasesSyncFailed { partner, reason }
            }
            Failure::Disable(_) => Message::DhcpDisableFailed { partner, reason },
            Failure::Enable(_) => Message::DhcpEnableFailed { partner, reason },
            Failure::Notify(_) => Message::SyncCompleteNotifyFailed { partner, reason },
        };
        self.log(message, actions);
        self.log(Message::SyncFailed { partner: self.source(peer), reason: failure.to_string() }, actions);
    }

    fn answer_administrator(&self, ended: &Synchronisation, reply: Reply, actions: &mut Vec<Action>) {
        if let Purpose::Administrator { token } = ended.context.purpose {
            actions.push(Action::Answer { token, reply });
        }
    }
}
