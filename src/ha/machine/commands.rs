//! Commands the machine answers, the partner's and an administrator's (ha-protocol 3, 4.7).

use serde_json::json;
use shards::Now;

use super::super::command::{HaCommand, LOCAL_ORIGIN_ID, Origin, REMOTE_ORIGIN_ID, Reply, USER_ORIGIN_ID};
use super::super::fence;
use super::super::fingerprint::{self, Fingerprint};
use super::{
    Action, CommandSource, CopyOfOurs, Holder, Machine, Message, NS_PER_MS, NS_PER_S, OwnState, Purpose,
};
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
        let reply = match self.refuse_stranger(&command) {
            Some(refusal) => refusal,
            None => match self.carry_out(now, token, source, command, actions) {
                Some(reply) => reply,
                // Answered when the exchange it began has ended.
                None => return,
            },
        };
        actions.push(Action::Answer { token, reply });
    }

    fn carry_out(
        &mut self,
        now: Now,
        token: u64,
        source: CommandSource,
        command: HaCommand,
        actions: &mut Vec<Action>,
    ) -> Option<Reply> {
        Some(match command {
            HaCommand::Continue { .. } => self.resume(now, actions),
            HaCommand::DhcpDisable { origin, max_period_s } => {
                self.disable(now, source, origin, max_period_s)
            }
            HaCommand::DhcpEnable { origin } => self.enable(source, origin),
            // Whoever cannot keep a lease is as good as gone: the partner is to take over by its own rules.
            HaCommand::Heartbeat { .. } if self.storage_full => {
                self.refused_heartbeats = true;
                Reply::error("the lease file takes nothing")
            }
            // It has been told so, and a state that serves would be no news of one that has ended.
            HaCommand::Heartbeat { .. } if self.is_stopping() => Reply::error("the server is about to end"),
            HaCommand::Heartbeat { fingerprint, .. } => {
                // A partner that hears it serves with this server from then on, and no longer alone.
                if self.state == OwnState::Ready && source == CommandSource::Partner {
                    self.communication.serves_alone_no_longer();
                }
                if !matches!(source, CommandSource::Backup(_)) {
                    self.asked_by_partner(now, actions);
                }
                self.heartbeat_reply(now, fingerprint.as_deref())
            }
            HaCommand::MaintenanceCancel => return self.cancel_maintenance(token, actions),
            HaCommand::MaintenanceNotify { cancel, state, .. } => {
                match source {
                    // Nobody serves for this server but its partner.
                    CommandSource::Backup(_) => self.refuse_maintenance(actions),
                    CommandSource::Administrator | CommandSource::Partner => {
                        self.maintenance_notified(now, cancel, state, actions)
                    }
                }
            }
            HaCommand::MaintenanceStart => return self.start_maintenance(token, actions),
            HaCommand::Reset { .. } => self.reset(now, actions),
            HaCommand::Scopes { scopes, .. } => self.name_scopes(scopes),
            HaCommand::Stopping { server_name } => {
                self.partner_stops(now, source, server_name.as_deref(), actions)
            }
            HaCommand::Sync { server_name, max_period_s } => match self.source_of_sync(&server_name) {
                Err(refusal) => refusal,
                Ok(peer) => {
                    self.abort_comparison(actions);
                    let max_period_s = max_period_s.map(|period| period.min(MAX_PERIOD_S_MAX));
                    let purpose = Purpose::Administrator { token };
                    self.start_synchronisation(now, purpose, peer, max_period_s, actions);
                    return None;
                }
            },
            HaCommand::SyncCompleteNotify { origin_id, server_name } => {
                self.sync_complete(now, source, origin_id, server_name.as_deref(), actions)
            }
        })
    }

    /// A name that is no peer's is refused (ha-protocol 1.9).
    fn refuse_stranger(&self, command: &HaCommand) -> Option<Reply> {
        // Whom to copy from is looked at when the copy begins.
        let name = command.server_name().filter(|_| !matches!(command, HaCommand::Sync { .. }))?;
        (!self.relationship.knows(name)).then(|| Reply::unknown_server(name))
    }

    /// `theirs` is the asker's fingerprint: where it differs, the answer lists the subnets.
    fn heartbeat_reply(&self, now: Now, theirs: Option<&Fingerprint>) -> Reply {
        let mut arguments = json!({
            "date-time": rfc1123_date(now.wall_s()),
            "scopes": self.scope_names(),
            "state": self.maintenance.state_to_tell(self.state).name(),
            super::super::batch::ANNOUNCEMENT: HA_BATCH_UPDATES_MAX,
            super::super::copy::ANNOUNCEMENT: super::super::copy::VERSION,
            fence::ANNOUNCEMENT: self.published.as_ref().map(|view| view.fence.to_text()),
            "unsent-update-count": self.unsent_total(),
        });
        if let Some(reason) = self.termination.reason() {
            arguments[super::super::communication::TERMINATED_BECAUSE] = json!(reason);
        }
        if self.fingerprint != Fingerprint::default() {
            arguments[fingerprint::MEMBER] = self.fingerprint.to_value();
            let differs = theirs.is_some_and(|theirs| theirs.all != self.fingerprint.all);
            if let Some(subnets) = self.fingerprint.subnets_to_value().filter(|_| differs) {
                arguments[fingerprint::SUBNETS_MEMBER] = subnets;
            }
        }
        Reply::success("HA peer status returned.").with_arguments(arguments)
    }

    /// `ha-continue`. Unlike Kea's, the machine goes on at once.
    fn resume(&mut self, now: Now, actions: &mut Vec<Action>) -> Reply {
        if !std::mem::take(&mut self.paused) {
            return Reply::success("HA state machine is not paused.");
        }
        self.log(Message::StateMachineContinued { state: self.state }, actions);
        self.evaluate(now, actions);
        Reply::success("HA state machine continues.")
    }

    /// `ha-scopes`: until the next change of state.
    fn name_scopes(&mut self, mut scopes: Vec<String>) -> Reply {
        if let Some(stranger) = scopes.iter().find(|name| !self.relationship.knows(name)) {
            return Reply::error(format!(
                "invalid server name specified '{stranger}' while enabling/disabling HA scopes"
            ));
        }
        scopes.sort_unstable();
        scopes.dedup();
        self.scopes_by_hand = Some(scopes);
        Reply::success("New HA scopes configured.")
    }

    /// The partner serves nobody any longer: it is taken over from at once, which needs no other proof.
    fn partner_stops(
        &mut self,
        now: Now,
        source: CommandSource,
        server_name: Option<&str>,
        actions: &mut Vec<Action>,
    ) -> Reply {
        let by_hand = source == CommandSource::Administrator;
        if !by_hand && self.relationship.has_partner() && self.is_of_partner(source, server_name) {
            self.partner_failed();
            self.communication.stop();
            self.log(Message::PartnerStops { partner: self.partner() }, actions);
            self.evaluate(now, actions);
        }
        Reply::success("The end of the server has been noted.")
    }

    fn unsent_total(&self) -> u64 {
        let sum = self.unsent.values().fold(self.unsent_given_up, |sum, count| sum.saturating_add(*count));
        // The wire carries signed 64-bit integers.
        sum.min(i64::MAX as u64)
    }

    fn disable(
        &mut self,
        now: Now,
        source: CommandSource,
        origin: Origin,
        max_period_s: Option<u64>,
    ) -> Reply {
        let holder = self.holder(source, origin);
        if source == CommandSource::Partner {
            if self.copying == CopyOfOurs::None {
                self.copying = CopyOfOurs::Whole;
            }
            // A Kea whose threads are all busy with its copy answers no heartbeat, and yet it lives.
            if self.state == OwnState::PartnerDown {
                self.communication.poke(now.monotonic_ns);
                self.interrupted_noticed = false;
            }
        }
        let sync_timeout_ms = match u64::from(self.relationship.sync_timeout_ms) {
            0 => SYNC_TIMEOUT_DEFAULT_MS,
            configured => configured,
        };
        let unbounded_ns = UNBOUNDED_LOCK_SYNC_TIMEOUTS * sync_timeout_ms * NS_PER_MS;
        let period_ns = match (max_period_s, holder) {
            (Some(period_s), _) => Some(period_s.min(MAX_PERIOD_S_MAX) * NS_PER_S),
            (None, Holder::Backup(..) | Holder::Remote(..)) => Some(unbounded_ns),
            (None, _) => None,
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

    fn enable(&mut self, source: CommandSource, origin: Origin) -> Reply {
        let relationship = self.relationship.index;
        let holder = self.holder(source, origin);
        match origin {
            // A server that names no number has one flag for all of its locks.
            Origin::Partner => self.locks.release_all_of(holder),
            Origin::Id(_) | Origin::User => self.locks.release(holder),
        }
        // A copy that has failed begins anew.
        if source == CommandSource::Partner {
            self.copying = CopyOfOurs::None;
        }
        // An administrator who names scopes takes the service in hand: a backup server is made to serve in this way. Any
        // other that serves nobody has a partner who may, and finds out by itself when there is none.
        let in_hand = self.state == OwnState::Backup && self.scopes_by_hand.is_some();
        if source == CommandSource::Administrator && in_hand {
            self.locks.release(Holder::Local(relationship));
        }
        Reply::success("DHCP service successfully enabled")
    }

    /// For an administrator number 1 is the own lock, and 1000 + index that of the state; every other number is a
    /// partner's (ha-protocol 3.2). Nobody is an administrator on the HA port: what names none of a partner's numbers
    /// there is the one flag that a partner of release 2.2 has, so that no partner can touch an administrator's lock.
    fn holder(&self, source: CommandSource, origin: Origin) -> Holder {
        let relationship = self.relationship.index;
        match (source, origin) {
            (CommandSource::Administrator, Origin::Id(USER_ORIGIN_ID) | Origin::User) => Holder::User,
            (CommandSource::Administrator, Origin::Id(id))
                if id == LOCAL_ORIGIN_ID + i64::from(relationship) =>
            {
                Holder::Local(relationship)
            }
            (CommandSource::Administrator, Origin::Id(id)) => Holder::Remote(relationship, id),
            (CommandSource::Administrator, Origin::Partner) => Holder::Remote(relationship, REMOTE_ORIGIN_ID),
            (CommandSource::Backup(_) | CommandSource::Partner, origin) => {
                let id = match origin {
                    Origin::Id(id) => id.max(REMOTE_ORIGIN_ID),
                    Origin::Partner | Origin::User => REMOTE_ORIGIN_ID,
                };
                self.remote_holder(source, id)
            }
        }
    }

    /// The lock that the server behind `source` holds under its number `id`.
    fn remote_holder(&self, source: CommandSource, id: i64) -> Holder {
        let relationship = self.relationship.index;
        match source {
            CommandSource::Backup(peer) => Holder::Backup(relationship, peer, id),
            CommandSource::Administrator | CommandSource::Partner => Holder::Remote(relationship, id),
        }
    }

    /// Whether a command is the active partner's. The name counts that comes with it (release 2.5.5 and later); without
    /// one it is the address, for a certificate says nothing: a server shows that of the entry of whom it speaks to
    /// (ha-protocol 1.6).
    fn is_of_partner(&self, source: CommandSource, server_name: Option<&str>) -> bool {
        let partner = self.relationship.partner().map(|partner| partner.name.as_str());
        match server_name {
            Some(_) => server_name == partner,
            None => !matches!(source, CommandSource::Backup(_)),
        }
    }

    /// Whether it is the partner that has copied. Through a control agent nobody has an address, and a backup of release
    /// 2.2 looks like the partner; but that one copies only while it comes together with this server.
    fn is_copied_by_partner(&self, source: CommandSource, server_name: Option<&str>) -> bool {
        let is_unknown = source == CommandSource::Administrator && server_name.is_none();
        let may_be_backup = is_unknown && self.relationship.backup_peers().count > 0;
        let comes_together = self.communication.partner().is_converging();
        self.is_of_partner(source, server_name) && (!may_be_backup || comes_together)
    }

    /// The partner has copied our leases. Alone until now, this server grants nothing before it has heard the
    /// partner again, but never for longer than two heartbeats (ha-protocol 8 no. 8).
    fn sync_complete(
        &mut self,
        now: Now,
        source: CommandSource,
        origin_id: Option<i64>,
        server_name: Option<&str>,
        actions: &mut Vec<Action>,
    ) -> Reply {
        // What was granted since the copier's lock ran out, or between two of its pages, is not in its copy.
        let rested = !self.locks.service_on() && self.copying != CopyOfOurs::Lacking;
        let id = origin_id.map_or(REMOTE_ORIGIN_ID, |id| id.max(REMOTE_ORIGIN_ID));
        let holder = self.remote_holder(source, id);
        match origin_id {
            Some(_) => self.locks.release(holder),
            None => self.locks.release_all_of(holder),
        }
        // A backup that has copied says nothing of the partner.
        let of_partner = self.is_copied_by_partner(source, server_name);
        if of_partner && self.state == OwnState::PartnerDown && self.relationship.heartbeat_delay_ms > 0 {
            let grace_ns = 2 * u64::from(self.relationship.heartbeat_delay_ms) * NS_PER_MS;
            let notified = Holder::Notified(self.relationship.index);
            self.locks.take(notified, Some(now.monotonic_ns.saturating_add(grace_ns)));
            self.copied = rested;
        }
        if of_partner {
            self.copying = CopyOfOurs::None;
            self.untold = self.untold.filter(|_| !rested);
        }
        self.poll_at(now.monotonic_ns);
        self.log(Message::SyncCompleteNotified, actions);
        Reply::success("Server successfully notified about the synchronization completion.")
    }

    /// `ha-reset`. Where there is nothing to begin anew it changes nothing (ha-protocol 8 no. 10).
    fn reset(&mut self, now: Now, actions: &mut Vec<Action>) -> Reply {
        match self.state {
            OwnState::Waiting => return Reply::success("HA state machine already in WAITING state."),
            state @ (OwnState::Backup | OwnState::PassiveBackup) => {
                return Reply::success(format!("HA state machine stays in {state} state."));
            }
            _ => {}
        }
        if self.is_copying() {
            self.abort_synchronisation(actions);
        }
        self.log(Message::Reset { state: self.state }, actions);
        self.forget_partner_resets();
        // Clocks may have been set right: what is known of them is from before.
        self.communication.forget_skew();
        // Who waits takes over without proof, so it begins anew to wait, as a server that has started; a partner that was
        // silent may have sent the command itself.
        self.communication.poke(now.monotonic_ns);
        self.interrupted_noticed = false;
        self.enter(now, OwnState::Waiting, actions);
        self.evaluate(now, actions);
        Reply::success("HA state machine reset.")
    }

    /// The peer whose leases are to be copied: any other server of the relationship (ha-protocol 3.12).
    fn source_of_sync(&self, server_name: &str) -> Result<u8, Reply> {
        if server_name == self.relationship.this_server_name {
            return Err(Reply::error(format!("server {server_name} cannot synchronize with itself")));
        }
        if self.synchronisation.is_some() && !self.is_comparing() {
            return Err(Reply::error("lease database synchronization is already running"));
        }
        self.relationship.index_of(server_name).ok_or_else(|| Reply::unknown_server(server_name))
    }
}
