//! The HA machine of one relationship (ha-protocol 4): events and `now` in, actions out.
//!
//! It owns the own state, what is known of the partner, the locks on the DHCP service, the backlog of
//! communication-recovery and the running synchronisation. It runs on the control node, which is its only driver. It
//! never sends, sleeps or logs itself.
//!
//! | Module | What is in it |
//! |---|---|
//! | here | events, timers, what a step ends with |
//! | [`partner`](self) | `partner`: heartbeats, settled updates, the silent partner's clients |
//! | `states` | conditions, the table, entering a state, pauses, the end of `terminated` |
//! | `partner_resets` | a Kea that is terminated is told to begin anew |
//! | `recovery` | the backlog and its flush, `ha-reset` to the partner |
//! | `copying` | synchronisation: what its progress means |
//! | `comparison` | what is made good after a Kea that went on serving could not be heard |
//! | `maintenance` | `ha-maintenance-*` |
//! | `commands` | the other commands, the partner's and an administrator's |
//! | `calls` | the machine's own deadline for each call; reloads; the end of the server |
//! | `status` | `status-get` |
//! | `untold` | what the partner may lack, because leases were given that it was not told of |
//! | `wake` | a server that has stood still: nobody is served before the partner was heard |
//!
//! The arrows between states are in [`super::transition`]. Differences to Kea, none visible as anything but timing:
//! the partner is polled at once at start and after every own change of state, and every second while either side
//! is waiting, syncing or ready; deadlines have timers of their own; `ready` is advertised before the
//! notification of a complete copy; every entry action runs at once (ha-protocol 8 no. 2, 3, 8, 10).
//!
//! Invariants: a view is published before the answer to the command that changed it; at most one heartbeat,
//! one synchronisation and one flush are in flight; the advertised state and scopes are those of the last published
//! view; alone in partner-down, the service is held off by nothing without an end but an administrator's command, and by
//! no partner that has been silent for `max-response-delay`.

mod calls;
mod commands;
mod comparison;
mod copying;
mod maintenance;
mod partner;
mod partner_resets;
mod recovery;
mod states;
mod status;
mod untold;
mod wake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shards::Now;

use super::backlog::{Backlog, BacklogState};
use super::command::{Reply, request};
use super::communication::Communication;
use super::event::{Action, Call, CallId, ClientIdentity, CommandSource, Event};
use super::fence::Fence;
use super::fingerprint::{Difference, Fingerprint};
use super::locks::{Holder, Locks};
use super::log::{LogEvent, Message};
use super::profile;
use super::relationship::Relationship;
use super::state::{Mode, OwnState, PartnerState, Role};
use super::sync::{CallIds, Purpose, Synchronisation};
use super::view::{HaView, Scopes, Untold, UpdateMode};
use crate::engine::message::{Line, UpdateOutcome};

/// Polling interval while the pair comes together.
const CONVERGING_POLL_MS: u64 = 1_000;
/// Clocks further apart are warned of; whole seconds, strictly greater (ha-protocol 4.10).
const SKEW_WARN_S: u64 = 30;
/// Clocks further apart end high availability.
const SKEW_TERMINATE_S: u64 = 60;
/// Least distance of two skew warnings.
const SKEW_WARN_INTERVAL_NS: u64 = 60 * NS_PER_S;
/// How long the partner may stay terminated before this server follows it (ha-protocol 4.4 a), and how long one that
/// was told to be in maintenance looks on while its partner serves alone.
const PATIENCE_NS: u64 = 600 * NS_PER_S;
/// How often a partner is told to copy again before this server takes it as it is: one that does not know the
/// command, or never says that its copy is complete, must not keep the pair from coming together.
const RESETS_MAX: u32 = 3;
/// Time for a command but a heartbeat, milliseconds.
const COMMAND_TIMEOUT_MS: u64 = 10_000;

/// How often it is looked whether there is room on the disk again. Where no heartbeats are sent, nothing else may ever
/// happen once nobody is served.
const STORAGE_LOOK_NS: u64 = NS_PER_S;

/// A partner that stays away is told of at once, and then this often.
const FAILURE_LOG_INTERVAL_NS: u64 = 60 * NS_PER_S;

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// Timers of the machine; each is derived from the state it guards, so none can be forgotten or left behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Timer {
    /// A call is overdue by far.
    CallLost,
    /// Terminated for long enough to try again.
    Healing,
    /// The next look at the own clock.
    Clock,
    /// The next heartbeat.
    Heartbeat,
    /// The partner's silence becomes an interruption.
    Interrupted,
    /// A lock runs out.
    Lock,
    /// In maintenance, and the partner has served alone for ten minutes.
    MaintenanceForgotten,
    /// The partner has been terminated for ten minutes.
    PartnerTerminated,
    /// Nobody has taken an offer of the silent partner since its clients were found waiting.
    Proof,
    /// There was no room on the disk a moment ago.
    Storage,
}

impl Timer {
    const ALL: [Self; 10] = [
        Self::CallLost,
        Self::Clock,
        Self::Healing,
        Self::Heartbeat,
        Self::Interrupted,
        Self::Lock,
        Self::MaintenanceForgotten,
        Self::PartnerTerminated,
        Self::Proof,
        Self::Storage,
    ];
}

/// What is known of a copy that the partner makes of our leases.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum CopyOfOurs {
    /// The service was on while it went on: it may lack leases.
    Lacking,
    /// There is none.
    #[default]
    None,
    /// The service has been off since it began.
    Whole,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    relationship: Relationship,
    state: OwnState,
    communication: Communication,
    proof: partner::Proof,
    locks: Locks,
    synchronisation: Option<Synchronisation>,
    /// The partner did not give its leases while it served: the next copy is as from a Kea.
    live_copy_failed: bool,
    comparison: comparison::Comparison,
    /// There is no room for leases on the disk: nobody is served, and the partner is to know.
    storage_full: bool,
    /// For that reason the partner's heartbeats were refused, so that it may have taken over.
    refused_heartbeats: bool,
    /// When it was last looked whether there is, on the monotonic clock.
    storage_looked_ns: u64,
    heartbeat_at_ns: Option<u64>,
    heartbeat: Option<CallId>,
    backlog: Backlog,
    flush: Option<recovery::Flush>,
    /// How many requests of the backlog were sent.
    flushes: u64,
    /// When this process began, by which the partner tells it from others, milliseconds since the epoch.
    life: u64,
    /// What was sent until now must not arrive any more.
    ends_generation: bool,
    /// The copy that the partner makes of our leases with the service off.
    copying: CopyOfOurs,
    /// The partner has copied our leases, and nobody was served since.
    copied: bool,
    /// The partner may lack changes made here, by this process or by one before it; and since when by what is kept over a
    /// restart.
    untold: Option<Untold>,
    kept_since_s: Option<u64>,
    /// It did already when communication-recovery began.
    was_behind: bool,
    /// In partner-down the partner was found serving: it may have given leases that no counter of its tells of.
    served_beside: bool,
    /// `ha-reset` under way, whether its effect has yet to be heard of, and how often it was sent in this state.
    reset_call: Option<CallId>,
    reset_waits: bool,
    resets: u32,
    maintenance: maintenance::Maintenance,
    termination: states::Termination,
    partner_resets: partner_resets::PartnerResets,
    /// States in which the machine has paused already, and whether it does now.
    paused_in: BTreeSet<OwnState>,
    paused: bool,
    presence: wake::Presence,
    /// Names of `ha-scopes`; lost at the next change of state.
    scopes_by_hand: Option<Vec<String>>,
    fingerprint: Fingerprint,
    /// Whether the heartbeat in flight, or the last one, shows the own fingerprint.
    heartbeat_tells: bool,
    /// In what the partner's configuration was last found to differ.
    difference: Option<Difference>,
    generation_probe: Option<CallId>,
    generation_probed: bool,
    /// What the partner that is there now says of itself, and what the last one that was heard has said.
    partner_knows_released: bool,
    partner_knew_released: bool,
    interrupted_noticed: bool,
    unsent: BTreeMap<u8, u64>,
    /// The partner's leases were copied, and it was not heard since: what it says next was in the copy.
    unsent_settles: bool,
    /// Updates given up with the backlog: the partner has never heard of them.
    unsent_given_up: u64,
    skew_warned_ns: Option<u64>,
    heartbeat_failure_logged_ns: Option<u64>,
    stopping: calls::Stopping,
    ids: CallIds,
    /// When each call in flight counts as lost, monotonic.
    in_flight: BTreeMap<CallId, u64>,
    published: Option<Arc<HaView>>,
}

impl Machine {
    /// A machine in `waiting` at `now`; nothing happens before [`Event::Start`].
    pub fn new(relationship: Relationship, now: Now) -> Self {
        let mut locks = Locks::default();
        locks.take(Holder::Local(relationship.index), None);
        Self {
            relationship,
            state: OwnState::Waiting,
            communication: Communication::new(now.monotonic_ns),
            proof: partner::Proof::default(),
            locks,
            synchronisation: None,
            live_copy_failed: false,
            comparison: comparison::Comparison::default(),
            storage_full: false,
            refused_heartbeats: false,
            storage_looked_ns: now.monotonic_ns,
            heartbeat_at_ns: None,
            heartbeat: None,
            backlog: Backlog::default(),
            flush: None,
            flushes: 0,
            life: now.wall_ms,
            ends_generation: false,
            copying: CopyOfOurs::None,
            copied: false,
            untold: None,
            kept_since_s: None,
            was_behind: false,
            served_beside: false,
            reset_call: None,
            reset_waits: false,
            resets: 0,
            maintenance: maintenance::Maintenance::default(),
            termination: states::Termination::default(),
            partner_resets: partner_resets::PartnerResets::default(),
            paused_in: BTreeSet::new(),
            paused: false,
            presence: wake::Presence::new(now.monotonic_ns),
            scopes_by_hand: None,
            fingerprint: Fingerprint::default(),
            heartbeat_tells: false,
            difference: None,
            generation_probe: None,
            generation_probed: false,
            partner_knows_released: false,
            partner_knew_released: false,
            interrupted_noticed: false,
            unsent: BTreeMap::new(),
            unsent_settles: false,
            unsent_given_up: 0,
            skew_warned_ns: None,
            heartbeat_failure_logged_ns: None,
            stopping: calls::Stopping::No,
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

    /// Says whether there is room for leases on the disk; it counts from the next event or timeout on, before each of
    /// which it is said.
    pub fn set_storage_full(&mut self, is_full: bool) {
        self.storage_full = is_full;
        match is_full {
            true => drop(self.locks.take(Holder::Storage, None)),
            false => self.locks.release(Holder::Storage),
        }
    }

    /// Something has happened.
    pub fn handle_event(&mut self, now: Now, event: Event, actions: &mut Vec<Action>) {
        let first = actions.len();
        self.look_at_clock(now, actions);
        self.locks.expire(now.monotonic_ns);
        match event {
            Event::Backlog { kind, lease, outcome } => {
                self.handle_backlog(now, (kind, lease), outcome, actions)
            }
            Event::CallDone { id, result } => self.handle_call(now, id, result, actions),
            Event::Command { token, source, command } => {
                self.handle_command(now, token, source, command, actions)
            }
            Event::Fingerprint(fingerprint) => {
                self.fingerprint = *fingerprint;
                self.poll_at(now.monotonic_ns);
            }
            Event::PageApplied { id, result } => self.handle_applied(now, id, result, actions),
            Event::Reconfigured(relationship) => self.reconfigure(now, *relationship, actions),
            Event::Start => {
                let (role, mode) = (self.relationship.role.name(), self.relationship.mode.name());
                self.log(Message::ServiceStarted { role, mode }, actions);
                self.pause_on_entry(actions);
                self.poll_at(now.monotonic_ns);
                self.evaluate(now, actions);
            }
            Event::Stopping => self.stop(actions),
            Event::Unanswered { client, secs, asked } => {
                self.handle_unanswered(now, &client, secs, asked, actions)
            }
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
        self.look_at_clock(now, actions);
        let mut evaluate = false;
        for timer in Timer::ALL {
            if self.timer(timer).is_none_or(|at| now.monotonic_ns < at) {
                continue;
            }
            match timer {
                Timer::CallLost => self.give_up_calls(now, actions),
                // Looked at above, and the view is renewed by `finish`; so is the heartbeat sent.
                Timer::Clock | Timer::Heartbeat => {}
                Timer::Interrupted => {
                    self.interrupted_noticed = true;
                    let partner = self.partner();
                    self.log(Message::CommunicationInterrupted { partner }, actions);
                    evaluate = true;
                }
                Timer::Lock => self.locks.expire(now.monotonic_ns),
                Timer::Healing => {
                    self.termination.tried();
                    evaluate = true;
                }
                Timer::MaintenanceForgotten => {
                    self.maintenance.forgotten = true;
                    evaluate = true;
                }
                Timer::PartnerTerminated => evaluate = true,
                Timer::Proof => {
                    self.settle_proof();
                    evaluate = true;
                }
                // What was said of it before this call counts.
                Timer::Storage => self.storage_looked_ns = now.monotonic_ns,
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
            Timer::Clock => self.look_at_ns(),
            Timer::Healing => self.termination.try_at_ns().filter(|_| self.state == OwnState::Terminated),
            Timer::Heartbeat => self.heartbeat_at_ns.filter(|_| self.may_poll()),
            Timer::Interrupted => {
                let waits = self.polls_partner() && !self.interrupted_noticed;
                waits.then(|| self.communication.interrupted_at_ns(self.relationship.max_response_delay_ms))
            }
            Timer::Lock => self.locks.next_timeout(),
            Timer::MaintenanceForgotten => {
                let waits = self.state == OwnState::InMaintenance && !self.maintenance.forgotten;
                let since_ns = self.maintenance.partner_alone_since_ns.filter(|_| waits);
                since_ns.map(|since_ns| since_ns.saturating_add(PATIENCE_NS))
            }
            Timer::PartnerTerminated => {
                let since_ns = self.communication.terminated_since_ns();
                let waits = self.state == OwnState::Waiting && !self.paused;
                since_ns.filter(|_| waits).map(|since_ns| since_ns.saturating_add(PATIENCE_NS))
            }
            Timer::Proof => self.proof_at_ns(),
            Timer::Storage => {
                self.storage_full.then(|| self.storage_looked_ns.saturating_add(STORAGE_LOOK_NS))
            }
        }
    }

    // ---- the end of every step ----------------------------------------------------------------------------

    /// Sends the heartbeat that is due and publishes the view, before anything else this step has done.
    fn finish(&mut self, now: Now, first: usize, actions: &mut Vec<Action>) {
        if self.timer(Timer::Heartbeat).is_some_and(|at| at <= now.monotonic_ns) {
            self.heartbeat_at_ns = None;
            self.heartbeat_tells = self.communication.is_tandem();
            self.communication.refusals().asked(now.monotonic_ns);
            let fingerprint = Some(&self.fingerprint).filter(|_| self.heartbeat_tells);
            let body = request::heartbeat(&self.relationship.this_server_name, fingerprint);
            self.heartbeat = Some(self.call(body, self.relationship.heartbeat_timeout_ms(), actions));
        }
        self.look_out(now);
        // Whoever is served from here on is not in the partner's copy.
        self.copied &= !self.locks.service_on();
        if self.copying == CopyOfOurs::Whole && self.locks.service_on() {
            self.copying = CopyOfOurs::Lacking;
        }
        self.note_calls(now, &actions[first..]);
        let mut view = self.current_view(now);
        let last = self.published.clone();
        view.epoch = last.as_ref().map_or(0, |last| last.epoch);
        view.fence = last.as_ref().map_or(Fence { life: self.life, generation: 0 }, |last| last.fence);
        self.note_untold(now, &view, first, actions);
        view.untold = self.untold;
        if last.as_deref() == Some(&view) && !self.ends_generation {
            return;
        }
        view.epoch += 1;
        let stops_sending =
            view.updates != UpdateMode::Send && last.as_ref().is_none_or(|last| last.updates != view.updates);
        if std::mem::take(&mut self.ends_generation) || stops_sending {
            view.fence.generation = view.epoch;
        }
        self.log_changes(last.as_deref(), &view, actions);
        let view = Arc::new(view);
        self.published = Some(Arc::clone(&view));
        let place = first + usize::from(matches!(actions.get(first), Some(Action::PartnerBehind(_))));
        actions.insert(place, Action::Publish(view));
    }

    fn current_view(&mut self, now: Now) -> HaView {
        HaView {
            relationship: self.relationship.index,
            epoch: 0,
            good_until_ns: self.renew(now),
            service_on: self.locks.service_on(),
            configured: true,
            scopes: self.served_scopes(),
            balancing: self.relationship.mode == Mode::LoadBalancing,
            // Nothing may overtake what is flushed.
            updates: match profile::updates(self.state, &self.relationship) {
                UpdateMode::Send if self.flush.is_some() => UpdateMode::Queue,
                updates => updates,
            },
            backlog_overflowed: self.backlog.state() == BacklogState::Overflowed,
            partner_is_behind: self.maintenance.partner_is_behind,
            copies: self.copies_partner(),
            backups: profile::backups(&self.relationship),
            backup_peers: self.relationship.backup_peers(),
            reclaims_own_scopes_only: self.state == OwnState::Terminated,
            alone: self.comparison.alone(now),
            untold: None,
            interrupted: self.is_interrupted(now),
            max_ack_delay_ms: self.relationship.max_ack_delay_ms,
            report_acks: self.communication.refusals().await_success(now.monotonic_ns),
            partner_knows_released: self.partner_knows_released,
            sends_released: self.partner_knew_released,
            partner_batch_max: self.communication.batch_max(),
            fence: Fence::default(),
            partner_fence: self.communication.fence(),
        }
    }

    /// Names of `ha-scopes`, where a server in this state can serve.
    fn scopes_in_hand(&self) -> Option<&Vec<String>> {
        let can_serve = self.state.serves_dhcp() || self.state == OwnState::Backup;
        self.scopes_by_hand.as_ref().filter(|_| can_serve)
    }

    /// Those of the state (ha-protocol 4.1), unless an administrator has named others.
    fn served_scopes(&self) -> Scopes {
        let Some(names) = self.scopes_in_hand() else {
            return profile::scopes(self.state, &self.relationship, self.maintenance.serves_all);
        };
        let named = |role| {
            self.relationship.name_of(role).is_some_and(|name| names.iter().any(|named| named == name))
        };
        Scopes { primary: named(Role::Primary), secondary: named(Role::Secondary) }
    }

    /// Names of the peers whose scope is served, ascending.
    fn scope_names(&self) -> Vec<&str> {
        if let Some(names) = self.scopes_in_hand() {
            return names.iter().map(String::as_str).collect();
        }
        let served = self.served_scopes();
        let primary = self.relationship.name_of(Role::Primary).filter(|_| served.primary);
        let secondary = self.relationship.name_of(Role::Secondary).filter(|_| served.secondary);
        let mut names: Vec<&str> = primary.into_iter().chain(secondary).collect();
        names.sort_unstable();
        names
    }

    fn log_changes(&self, last: Option<&HaView>, view: &HaView, actions: &mut Vec<Action>) {
        let state = self.state;
        if last.is_none_or(|last| last.service_on != view.service_on) {
            let on = Message::LocalDhcpEnable { state };
            let off = Message::LocalDhcpDisable { state };
            self.log(if view.service_on { on } else { off }, actions);
        }
        let has_partner = self.relationship.has_partner();
        if has_partner && last.is_none_or(|last| last.updates != view.updates) {
            let sends = view.updates == UpdateMode::Send;
            let enabled = Message::LeaseUpdatesEnabled { state };
            let disabled = Message::LeaseUpdatesDisabled { state };
            self.log(if sends { enabled } else { disabled }, actions);
        }
        if view.backlog_overflowed && !last.is_some_and(|last| last.backlog_overflowed) {
            let limit = self.relationship.delayed_updates_limit;
            self.log(Message::BacklogOverflowed { limit }, actions);
        }
    }

    fn call(&mut self, body: Vec<u8>, timeout_ms: u64, actions: &mut Vec<Action>) -> CallId {
        let id = self.ids.next_id();
        actions.push(Action::Call(Call { id, peer: 0, body, timeout_ms, line: Line::Shared }));
        id
    }

    /// On the private connection to the partner, which whoever ends the exchange closes.
    fn private_call(&mut self, body: Vec<u8>, actions: &mut Vec<Action>) -> CallId {
        let id = self.ids.next_id();
        let timeout_ms = COMMAND_TIMEOUT_MS;
        actions.push(Action::Call(Call { id, peer: 0, body, timeout_ms, line: Line::Private }));
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

#[cfg(test)]
mod behind_tests;
#[cfg(test)]
mod event_tests;
#[cfg(test)]
mod healing_tests;
#[cfg(test)]
mod maintenance_tests;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod pair_tests;
#[cfg(test)]
mod proof_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod sync_tests;
#[cfg(test)]
mod tests;
