//! Synchronisation: when it begins, and what its progress means to the state (ha-protocol 6).

use shards::Now;

use super::super::sync::{Failure, Progress};
use super::*;

impl Machine {
    /// Whether the state `syncing` copies. An administrator's copy leaves the state alone.
    pub(super) fn is_copying(&self) -> bool {
        self.synchronisation.as_ref().is_some_and(|running| running.purpose == Purpose::OwnState)
    }

    pub(super) fn start_synchronisation(
        &mut self,
        now: Now,
        purpose: Purpose,
        peer: u8,
        max_period_s: Option<u64>,
        actions: &mut Vec<Action>,
    ) {
        self.log(Message::SyncStart { partner: self.source(peer) }, actions);
        self.synchronisation = Some(Synchronisation::start(
            purpose,
            peer,
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
    pub(super) fn abort_synchronisation(&mut self, actions: &mut Vec<Action>) {
        if let Some(running) = self.synchronisation.take() {
            running.abort(&mut self.ids, actions);
        }
    }

    /// Whether the running copy is of the active partner's leases, so that it says something about the partner.
    fn copies_partner(&self) -> bool {
        self.relationship.has_partner()
            && self.synchronisation.as_ref().is_some_and(|running| running.peer == 0)
    }

    fn handle_progress(&mut self, now: Now, progress: Progress, actions: &mut Vec<Action>) {
        let of_partner = self.copies_partner();
        let Some(running) = &mut self.synchronisation else { return };
        let peer = running.peer;
        match progress {
            Progress::Pending { page } => {
                if of_partner {
                    // The source has answered: it lives, whatever the heartbeats that rest meanwhile would say.
                    self.communication.poke(now.monotonic_ns);
                    self.interrupted_noticed = false;
                }
                let Some((leases, skipped, first_reason)) = page else { return };
                let partner = self.source(peer);
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
            Progress::Finished => self.finish_copy(now, of_partner, actions),
            Progress::Failed(failure) => self.fail_copy(now, of_partner, &failure, actions),
        }
    }

    fn finish_copy(&mut self, now: Now, of_partner: bool, actions: &mut Vec<Action>) {
        let Some(finished) = self.synchronisation.take() else { return };
        actions.push(Action::ClosePrivate { peer: finished.peer });
        if of_partner {
            self.communication.poke(now.monotonic_ns);
            self.communication.acknowledge_unsent();
        }
        let duration_ms = now.monotonic_ns.saturating_sub(finished.started_ns) / NS_PER_MS;
        let partner = self.source(finished.peer);
        self.log(Message::SyncSuccessful { partner, applied: finished.applied, duration_ms }, actions);
        let reply = Reply::success("Lease database synchronization complete.");
        self.answer_administrator(&finished, reply, actions);
        self.poll_at(now.monotonic_ns);
        self.evaluate(now, actions);
    }

    fn fail_copy(&mut self, now: Now, of_partner: bool, failure: &Failure, actions: &mut Vec<Action>) {
        let Some(failed) = self.synchronisation.take() else { return };
        actions.push(Action::ClosePrivate { peer: failed.peer });
        self.log_sync_failure(failed.peer, failure, actions);
        self.answer_administrator(&failed, Reply::error(failure.to_string()), actions);
        if of_partner {
            self.partner_failed();
        }
        // The notification failed after `ready` was advertised: the copy counts for nothing.
        if failed.purpose == Purpose::OwnState && self.state == OwnState::Ready {
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
            Failure::Apply(_) | Failure::Page(_) => Message::LeasesSyncFailed { partner, reason },
            Failure::Disable(_) => Message::DhcpDisableFailed { partner, reason },
            Failure::Enable(_) => Message::DhcpEnableFailed { partner, reason },
            Failure::Notify(_) => Message::SyncCompleteNotifyFailed { partner, reason },
        };
        self.log(message, actions);
        self.log(Message::SyncFailed { partner: self.source(peer), reason: failure.to_string() }, actions);
    }

    fn answer_administrator(&self, ended: &Synchronisation, reply: Reply, actions: &mut Vec<Action>) {
        if let Purpose::Administrator { token } = ended.purpose {
            actions.push(Action::Answer { token, reply });
        }
    }
}
