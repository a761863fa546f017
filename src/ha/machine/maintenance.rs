//! Maintenance: one server takes over all service before the other is shut down (ha-protocol 4.9).
//!
//! Both remember the last state that was none of maintenance, and return to it when maintenance is called off: being
//! told twice changes nothing (8 no. 18). The states exchanged in the messages, or where there are none the word
//! *unknown*, keep either side from acting on what the other was before.

use serde_json::json;
use shards::Now;

use super::super::command::{ReplyError, result};
use super::*;

/// Memory of maintenance, and the notification under way.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    call: Option<(CallId, Notification)>,
    /// The last state that was none of maintenance.
    before: Option<OwnState>,
    /// Whether partner-down was entered for maintenance: then everything is served, whatever `auto-failover` says.
    pub(super) serves_all: bool,
    /// The partner went into maintenance without the leases that were given while it was told of none.
    pub(super) partner_is_behind: bool,
    /// Since when the partner is known to serve alone, while this server is in maintenance.
    pub(super) partner_alone_since_ns: Option<u64>,
    /// That was ten minutes ago.
    pub(super) forgotten: bool,
    /// This server has called maintenance off, and has not heard since in which state the partner is.
    called_off: bool,
}

#[derive(Clone, Copy, Debug)]
struct Notification {
    cancel: bool,
    /// The administrator's command that waits for it; `None` where the cancellation is repeated.
    token: Option<u64>,
}

impl Maintenance {
    pub(super) fn awaits(&self, id: CallId) -> bool {
        self.call.is_some_and(|(awaited, _)| awaited == id)
    }

    /// The own state has changed.
    pub(super) fn entered(&mut self, from: OwnState, to: OwnState) {
        if to.is_maintenance() && !from.is_maintenance() {
            self.before = Some(from);
        }
        // Whoever served for a partner in maintenance goes on doing so when that is shut down.
        self.serves_all = to == OwnState::PartnerDown
            && (from == OwnState::PartnerInMaintenance || std::mem::take(&mut self.serves_all));
        self.partner_is_behind = to == OwnState::PartnerInMaintenance && !from.sends_updates();
        self.called_off &= !to.is_maintenance();
        (self.partner_alone_since_ns, self.forgotten) = (None, false);
    }

    /// The partner has said in which state it is.
    pub(super) fn heard(&mut self, partner: PartnerState, now_ns: u64) {
        self.partner_alone_since_ns = match partner {
            PartnerState::PartnerDown => self.partner_alone_since_ns.or(Some(now_ns)),
            _ => None,
        };
        self.forgotten &= self.partner_alone_since_ns.is_some();
    }

    /// The state to tell the partner where the own one is `own`. While the end of maintenance is on its way the partner may
    /// have heard of it already: told of a survivor, it would go back into maintenance.
    pub(super) fn state_to_tell(&self, own: OwnState) -> OwnState {
        let cancels = self.call.is_some_and(|(_, notification)| notification.cancel);
        if cancels && own == OwnState::PartnerInMaintenance { self.state_before() } else { own }
    }

    /// Where to return to. What was put off or half copied has to be done again.
    fn state_before(&self) -> OwnState {
        match self.before {
            None | Some(OwnState::CommunicationRecovery | OwnState::Syncing) => OwnState::Waiting,
            Some(state) => state,
        }
    }
}

impl Machine {
    /// `ha-maintenance-start`; `None` when the answer waits for the partner.
    pub(super) fn start_maintenance(&mut self, token: u64, actions: &mut Vec<Action>) -> Option<Reply> {
        let refused = matches!(
            self.state,
            OwnState::Backup
                | OwnState::InMaintenance
                | OwnState::PartnerInMaintenance
                | OwnState::Terminated
        );
        // Leases that were acknowledged and wait for the partner would be missing there; it gets them first.
        if refused || !self.relationship.has_partner() || self.holds_backlog() {
            return Some(Reply::error(format!(
                "Unable to transition the server from the {} to partner-in-maintenance state.",
                self.state.name()
            )));
        }
        self.notify_maintenance(false, self.state, Some(token), actions)
    }

    /// `ha-maintenance-cancel`; `None` when the answer waits for the partner.
    pub(super) fn cancel_maintenance(&mut self, token: u64, actions: &mut Vec<Action>) -> Option<Reply> {
        if self.state != OwnState::PartnerInMaintenance {
            return Some(Reply::error(
                "Unable to cancel maintenance request because the server is not in the partner-in-maintenance state.",
            ));
        }
        self.notify_maintenance(true, self.maintenance.state_before(), Some(token), actions)
    }

    /// The partner has been told that maintenance is over, and says that it is in maintenance. A heartbeat that it sent before
    /// has shown it a survivor (ha-protocol 4.9): it is told once more. Returns whether what it says is to be passed over.
    pub(super) fn repeats_cancellation(&mut self, partner: PartnerState, actions: &mut Vec<Action>) -> bool {
        let fell_back = partner == PartnerState::InMaintenance && !self.state.is_maintenance();
        let repeats = std::mem::take(&mut self.maintenance.called_off) && fell_back;
        if repeats {
            self.log(Message::MaintenanceCalledOffAgain { partner: self.partner() }, actions);
            // Refused only where an administrator begins maintenance at this moment: that one is meant then.
            _ = self.notify_maintenance(true, self.state, None, actions);
        }
        fell_back && self.maintenance.call.is_some_and(|(_, notification)| notification.cancel)
    }

    fn notify_maintenance(
        &mut self,
        cancel: bool,
        state: OwnState,
        token: Option<u64>,
        actions: &mut Vec<Action>,
    ) -> Option<Reply> {
        if self.maintenance.call.is_some() {
            return Some(Reply::error("the partner is being notified of maintenance already"));
        }
        let body = request::maintenance_notify(&self.relationship.this_server_name, cancel, state.name());
        let id = self.private_call(body, actions);
        self.maintenance.call = Some((id, Notification { cancel, token }));
        None
    }

    pub(super) fn handle_maintenance_notified(
        &mut self,
        now: Now,
        answer: Result<Vec<u8>, String>,
        actions: &mut Vec<Action>,
    ) {
        let Some((_, Notification { cancel, token })) = self.maintenance.call.take() else { return };
        actions.push(Action::Close { peer: 0, line: Line::Private });
        let outcome = answer.map_err(ReplyError::Malformed).and_then(|body| Reply::parse_success(&body));
        let reply = match (cancel, outcome) {
            (false, outcome) => self.maintenance_started(now, outcome, actions),
            (true, Ok(reply)) => self.maintenance_cancelled(now, &reply, actions),
            (true, Err(error)) => {
                if !matches!(error, ReplyError::Result { .. }) {
                    self.partner_failed();
                }
                Reply::error(format!(
                    "Unable to cancel maintenance. The partner server responded with the following message to the \
                     ha-maintenance-notify command: {error}."
                ))
            }
        };
        actions.extend(token.map(|token| Action::Answer { token, reply }));
    }

    /// Whether the partner has given leases that this server has yet to copy.
    fn lacks_leases(&self) -> bool {
        let is = self.communication.partner();
        let is_normal = is == self.relationship.mode.normal_state().as_seen_by_partner();
        let has_unsent = self.communication.has_unsent();
        let lacks = match self.state {
            // Nobody has said that it served nobody since the copy, but one that sends updates and has none that were
            // not sent.
            OwnState::Ready => !is_normal || has_unsent,
            // Or since it was last heard; it was ready when the two became whole.
            OwnState::HotStandby | OwnState::LoadBalancing => {
                !is_normal && is != PartnerState::Ready || has_unsent
            }
            state => matches!(state, OwnState::Syncing | OwnState::Waiting),
        };
        lacks && self.relationship.sync_leases
    }

    /// A partner that does not answer, or says 1, is taken for one that is down already (ha-protocol 2.11, 4.9).
    fn maintenance_started(
        &mut self,
        now: Now,
        outcome: Result<Reply, ReplyError>,
        actions: &mut Vec<Action>,
    ) -> Reply {
        match outcome {
            // Meanwhile this server has given up high availability, or is itself to be in maintenance.
            Ok(_) if matches!(self.state, OwnState::InMaintenance | OwnState::Terminated) => {
                Reply::error(format!(
                    "Unable to transition the server from the {} to partner-in-maintenance state.",
                    self.state.name()
                ))
            }
            // It serves once it has them: a partner in maintenance is copied like any other.
            Ok(_) if self.lacks_leases() => {
                // A copy under way may have passed by what was given since it began.
                if self.is_copying() {
                    self.abort_synchronisation(actions);
                }
                self.communication.told(PartnerState::InMaintenance);
                if !matches!(self.state, OwnState::Syncing | OwnState::Waiting) {
                    self.enter(now, OwnState::Syncing, actions);
                }
                self.evaluate(now, actions);
                Reply::success(
                    "The partner is in-maintenance state. Server is copying its leases before it takes over.",
                )
            }
            Ok(_) => {
                if self.is_copying() {
                    self.abort_synchronisation(actions);
                }
                self.communication.told(PartnerState::InMaintenance);
                self.enter(now, OwnState::PartnerInMaintenance, actions);
                Reply::success(
                    "Server is now in the partner-in-maintenance state and its partner is in-maintenance state. The \
                     partner can be now safely shut down.",
                )
            }
            Err(ReplyError::Result { result: code, text }) if code != result::ERROR => Reply::error(format!(
                "Unable to transition to the partner-in-maintenance state. The partner server responded with the \
                 following message to the ha-maintenance-notify command: {text}."
            )),
            // The partner may have been lost for reasons of its own, and this server be about to rest.
            Err(_) if matches!(self.state, OwnState::InMaintenance | OwnState::Terminated) => {
                Reply::error(format!(
                    "Unable to transition the server from the {} to partner-in-maintenance state.",
                    self.state.name()
                ))
            }
            Err(_) => {
                if self.is_copying() {
                    self.abort_synchronisation(actions);
                }
                self.partner_failed();
                self.maintenance.serves_all = true;
                self.enter(now, OwnState::PartnerDown, actions);
                Reply::success(
                    "Server is now in the partner-down state as its partner appears to be offline for maintenance.",
                )
            }
        }
    }

    fn maintenance_cancelled(&mut self, now: Now, reply: &Reply, actions: &mut Vec<Action>) -> Reply {
        let told = reply.arguments.as_ref().and_then(|arguments| arguments.get("state"));
        let told = told.and_then(|state| PartnerState::from_name(state.as_str()?));
        self.communication.told(told.unwrap_or(PartnerState::Unknown));
        // The partner may have been lost, and taken over from, in the meantime.
        if self.state == OwnState::PartnerInMaintenance {
            let state = self.maintenance.state_before();
            self.enter(now, state, actions);
            self.maintenance.called_off = true;
        }
        self.evaluate(now, actions);
        self.believe_what_was_told(now);
        Reply::success("Server maintenance successfully canceled.")
    }

    /// A heartbeat under way, or one sent before the partner has got this answer, would tell of the state it is just
    /// about to leave, and lead both back into maintenance.
    fn believe_what_was_told(&mut self, now: Now) {
        if let Some(id) = self.heartbeat.take() {
            self.in_flight.remove(&id);
        }
        self.heartbeat_at_ns = None;
        self.poll_at(now.monotonic_ns.saturating_add(CONVERGING_POLL_MS * NS_PER_MS));
    }

    /// `ha-maintenance-notify` of the partner.
    pub(super) fn maintenance_notified(
        &mut self,
        now: Now,
        cancel: bool,
        state: Option<PartnerState>,
        actions: &mut Vec<Action>,
    ) -> Reply {
        if cancel {
            return self.maintenance_called_off(now, state, actions);
        }
        let refused = matches!(
            self.state,
            OwnState::Backup
                | OwnState::PartnerInMaintenance
                | OwnState::PassiveBackup
                | OwnState::Terminated
        );
        // Two servers that ask each other at the same time would both rest.
        let asks = self.maintenance.call.is_some_and(|(_, notification)| !notification.cancel);
        if refused || asks || self.holds_backlog() {
            return self.refuse_maintenance(actions);
        }
        if self.is_copying() {
            self.abort_synchronisation(actions);
        }
        if let Some(state) = state {
            self.communication.told(state);
        }
        if self.state != OwnState::InMaintenance {
            self.enter(now, OwnState::InMaintenance, actions);
        }
        Reply::success("Server is in-maintenance state.")
    }

    /// The answer to `ha-maintenance-notify` where this server cannot rest.
    pub(super) fn refuse_maintenance(&self, actions: &mut Vec<Action>) -> Reply {
        self.log(Message::MaintenanceRefused { state: self.state }, actions);
        Reply::new(
            result::MAINTENANCE_NOT_ALLOWED,
            format!(
                "Unable to transition the server from the {} to in-maintenance state.",
                self.state.name()
            ),
        )
    }

    /// Whether leases that were acknowledged alone wait for the partner (ha-protocol 5.6).
    fn holds_backlog(&self) -> bool {
        self.state == OwnState::CommunicationRecovery && !self.backlog.is_empty()
    }

    fn maintenance_called_off(
        &mut self,
        now: Now,
        state: Option<PartnerState>,
        actions: &mut Vec<Action>,
    ) -> Reply {
        if self.state != OwnState::InMaintenance {
            return Reply::error(
                "Unable to cancel the maintenance for the server not in the in-maintenance state.",
            );
        }
        // A word that comes late: its sender has given this server up since, and serves without telling it.
        let next = match self.communication.partner() {
            PartnerState::PartnerDown => OwnState::Waiting,
            _ => self.maintenance.state_before(),
        };
        self.communication.told(state.unwrap_or(PartnerState::Unknown));
        self.enter(now, next, actions);
        self.evaluate(now, actions);
        self.believe_what_was_told(now);
        Reply::success("Server maintenance canceled.").with_arguments(json!({ "state": self.state.name() }))
    }
}
