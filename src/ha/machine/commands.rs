//! Commands the machine answers, the partner's and an administrator's (ha-protocol 3, 4.7).

use serde_json::json;
use shards::Now;

use super::super::command::{HaCommand, Origin, REMOTE_ORIGIN_ID, Reply, USER_ORIGIN_ID, result};
use super::{Action, CommandSource, Holder, Machine, Message, NS_PER_MS, NS_PER_S, OwnState, Purpose, Role};
use crate::http::rfc1123_date;
use crate::limits::HA_BATCH_UPDATES_MAX;

/// A partner's lock that came without `max-period` lasts this many times `sync-timeout` (ha-protocol 8.1 no.
/// 3).
const UNBOUNDED_LOCK_SYNC_TIMEOUTS: u64 = 10;
/// `sync-timeout` 0 is no timeout; a lock needs an end all the same.
const SYNC_TIMEOUT_DEFAULT_MS: u64 = 60_000;
/// Longest `max-period` honoured, seconds: a year, so that deadlines stay in range.
const MAX_PERIOD_S_MAX: u64 = 365 * 86_400;

impl Machine {
    pub(super) fn handle_command(
        &mut self,
        now: Now,
        token: u64,
        source: CommandSource,
        command: HaCommand,
        actions: &mut Vec<Action>,
    ) {
        let reply = match command {
            HaCommand::Continue => Reply::success("HA state machine is not paused."),
            HaCommand::DhcpDisable { origin, max_period_s } => {
                self.disable(now, source, origin, max_period_s)
            }
            HaCommand::DhcpEnable { origin } => self.enable(origin),
            HaCommand::Heartbeat { server_name } => {
                self.check_server_name(server_name.as_deref()).unwrap_or_else(|| self.heartbeat_reply(now))
            }
            HaCommand::MaintenanceNotify { cancel } => self.refuse_maintenance(cancel, actions),
            HaCommand::Reset { server_name } => match self.check_server_name(server_name.as_deref()) {
                Some(refusal) => refusal,
                None => self.reset(now, actions),
            },
            HaCommand::Sync { server_name, max_period_s } => {
                if let Some(refusal) = self.refuse_sync(&server_name) {
                    refusal
                } else {
                    // Answered at the end of the copy.
                    let max_period_s = max_period_s.map(|period| period.min(MAX_PERIOD_S_MAX));
                    self.start_synchronisation(now, Purpose::Administrator { token }, max_period_s, actions);
                    return;
                }
            }
            HaCommand::SyncCompleteNotify { origin_id, server_name } => {
                match self.check_server_name(server_name.as_deref()) {
                    Some(refusal) => refusal,
                    None => self.sync_complete(now, origin_id, actions),
                }
            }
        };
        actions.push(Action::Answer { token, reply });
    }

    /// A name that is no peer's is refused (ha-protocol 1.9).
    fn check_server_name(&self, server_name: Option<&str>) -> Option<Reply> {
        let name = server_name?;
        (!self.relationship.knows(name))
            .then(|| Reply::error(format!("{name} matches no configured 'server-name'")))
    }

    fn heartbeat_reply(&self, now: Now) -> Reply {
        let arguments = json!({
            "date-time": rfc1123_date(now.wall_s()),
            "scopes": self.scopes(),
            "state": self.state.name(),
            super::super::batch::ANNOUNCEMENT: HA_BATCH_UPDATES_MAX,
            "unsent-update-count": self.unsent_total(),
        });
        Reply::success("HA peer status returned.").with_arguments(arguments)
    }

    /// Names of the peers whose scope is served, ascending.
    pub(super) fn scopes(&self) -> Vec<&str> {
        let served = self.served_scopes();
        let primary = self.relationship.name_of(Role::Primary).filter(|_| served.primary);
        primary.into_iter().collect()
    }

    fn unsent_total(&self) -> u64 {
        // The wire carries signed 64-bit integers.
        self.unsent.values().fold(0u64, |sum, count| sum.saturating_add(*count)).min(i64::MAX as u64)
    }

    fn disable(
        &mut self,
        now: Now,
        source: CommandSource,
        origin: Origin,
        max_period_s: Option<u64>,
    ) -> Reply {
        let holder = holder(origin);
        let sync_timeout_ms = match u64::from(self.relationship.sync_timeout_ms) {
            0 => SYNC_TIMEOUT_DEFAULT_MS,
            configured => configured,
        };
        let unbounded_ns = UNBOUNDED_LOCK_SYNC_TIMEOUTS * sync_timeout_ms * NS_PER_MS;
        let period_ns = match (max_period_s, source) {
            (Some(period_s), _) => Some(period_s.min(MAX_PERIOD_S_MAX) * NS_PER_S),
            (None, CommandSource::Administrator) => None,
            (None, CommandSource::Partner) => Some(unbounded_ns),
        };
        let deadline_ns = period_ns.map(|period_ns| now.monotonic_ns.saturating_add(period_ns));
        if !self.locks.take(holder, deadline_ns) {
            return Reply::error("too many origins have disabled the DHCP service");
        }
        match max_period_s {
            Some(period_s) => Reply::success(format!("DHCPv4 service disabled for {period_s} seconds")),
            None => Reply::success("DHCPv4 service disabled"),
        }
    }

    fn enable(&mut self, origin: Origin) -> Reply {
        match origin {
            // A partner that names no number has one flag for all of its locks.
            Origin::Partner => self.locks.release_remote(),
            Origin::Id(_) | Origin::User => self.locks.release(holder(origin)),
        }
        Reply::success("DHCP service successfully enabled")
    }

    /// The partner has copied our leases. Alone until now, this server grants nothing before it has heard the
    /// partner again, but never for longer than two heartbeats (ha-protocol 8 no. 8).
    fn sync_complete(&mut self, now: Now, origin_id: Option<i64>, actions: &mut Vec<Action>) -> Reply {
        match origin_id {
            Some(id) => self.locks.release(holder(Origin::Id(id))),
            None => self.locks.release_remote(),
        }
        if self.state == OwnState::PartnerDown && self.relationship.heartbeat_delay_ms > 0 {
            let grace_ns = 2 * u64::from(self.relationship.heartbeat_delay_ms) * NS_PER_MS;
            self.locks.take(Holder::Notified, Some(now.monotonic_ns.saturating_add(grace_ns)));
            self.copied = true;
        }
        self.poll_at(now.monotonic_ns);
        self.log(Message::SyncCompleteNotified, actions);
        Reply::success("Server successfully notified about the synchronization completion.")
    }

    fn reset(&mut self, now: Now, actions: &mut Vec<Action>) -> Reply {
        if self.state == OwnState::Waiting {
            return Reply::success("HA state machine already in WAITING state.");
        }
        if self.is_copying() {
            self.abort_synchronisation(actions);
        }
        self.log(Message::Reset { state: self.state }, actions);
        self.enter(now, OwnState::Waiting, actions);
        self.evaluate(now, actions);
        Reply::success("HA state machine reset.")
    }

    /// Maintenance is not offered: the partner stays in its state, and its administrator is told.
    fn refuse_maintenance(&mut self, cancel: bool, actions: &mut Vec<Action>) -> Reply {
        if cancel {
            return Reply::error(
                "Unable to cancel the maintenance for the server not in the in-maintenance state.",
            );
        }
        self.log(Message::MaintenanceRefused { state: self.state }, actions);
        Reply::new(
            result::MAINTENANCE_NOT_ALLOWED,
            format!(
                "Unable to transition the server from the {} to in-maintenance state.",
                self.state.name()
            ),
        )
    }

    fn refuse_sync(&self, server_name: &str) -> Option<Reply> {
        if server_name == self.relationship.this_server_name {
            return Some(Reply::error(format!("server {server_name} cannot synchronize with itself")));
        }
        if self.relationship.partner().is_none_or(|partner| partner.name != server_name) {
            return Some(Reply::error(format!("{server_name} matches no configured 'server-name'")));
        }
        self.synchronisation
            .is_some()
            .then(|| Reply::error("lease database synchronization is already running"))
    }
}

/// Number 1 is the administrator's, every other number the partner's (ha-protocol 3.2).
fn holder(origin: Origin) -> Holder {
    match origin {
        Origin::Id(USER_ORIGIN_ID) | Origin::User => Holder::User,
        Origin::Id(id) => Holder::Remote(id),
        Origin::Partner => Holder::Remote(REMOTE_ORIGIN_ID),
    }
}
