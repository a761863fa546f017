//! Kea's side of a pair as a model, in hot-standby or load-balancing: its state machine with its quirks, without its code.
//!
//! After ha-protocol 4, 5.6 and 8: one update in each request, every update overwrites, a copy disables the source
//! before each page and starts again from the first one, the backlog is sent one update at a time and loses the one that
//! fails, deadlines are noticed at heartbeats and answers only, `terminated` is left by a restart or `ha-reset` alone,
//! after which the first handler runs without those that follow (4.2), and a restart forgets all but the leases. Release 2.2 has one flag for the service, whose timer is not stopped, and tells a conflict
//! as an error; release 3 has a lock for each origin.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use shards::Now;
use tandem::engine::message::Line;
use tandem::ha::PartnerState as State;
use tandem::ha::command::Envelope;

use super::simulation::NS_PER_S;

/// Which Kea.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    K22,
    K3,
}

/// Parameters of its configuration, the same as its partner's.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub version: Version,
    pub primary: bool,
    pub balancing: bool,
    /// Updates put off at most while the partner does not answer.
    pub backlog_max: usize,
    pub heartbeat_ns: u64,
    pub response_ns: u64,
    pub ack_ms: u64,
    pub unacked_max: usize,
    pub rejected_max: usize,
    pub page_limit: usize,
}

/// A command it sends, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    Disable,
    Enable,
    /// An update that was put off.
    Flush,
    Heartbeat,
    Notify,
    Page,
    Reset,
    /// Of the parked reply with this number.
    Update(u64),
}

impl Purpose {
    /// Over which connection it goes.
    pub fn line(self) -> Line {
        match self {
            Self::Disable | Self::Enable | Self::Notify | Self::Page => Line::Copy,
            Self::Flush | Self::Reset => Line::Private,
            Self::Heartbeat | Self::Update(_) => Line::Shared,
        }
    }
}

/// Who holds the service off: itself, its partner; release 2.2 does not tell them apart.
const LOCAL: u32 = 1000;
const REMOTE: u32 = 2000;

/// Its state machine.
pub struct Machine {
    pub settings: Settings,
    pub state: State,
    /// What is done on entry to it has yet to be done.
    unentered: bool,
    partner: State,
    /// Since when the partner is known as terminated.
    partner_terminated_ns: Option<u64>,
    contact_ns: u64,
    skew_s: Option<i64>,
    /// Updates not sent, and the partner's count at the last two heartbeats.
    pub unsent: u64,
    partner_unsent: (u64, u64),
    rejected: BTreeSet<Vec<u8>>,
    unacked: BTreeMap<Vec<u8>, bool>,
    notified: bool,
    off: BTreeSet<u32>,
    timers: Vec<(u64, u32)>,
    heartbeat_ns: Option<u64>,
    /// A copy is under way, and the address it has come to.
    copying: bool,
    copied_to: Option<String>,
    /// Updates put off, whether there were too many, and whether they are being sent.
    backlog: VecDeque<Value>,
    overflowed: bool,
    flushing: bool,
    /// Commands to send.
    pub calls: Vec<(Purpose, Value)>,
}

impl Machine {
    pub fn new(settings: Settings, now: Now) -> Self {
        let mut this = Self {
            settings,
            state: State::Waiting,
            unentered: false,
            partner: State::Unknown,
            partner_terminated_ns: None,
            contact_ns: now.monotonic_ns,
            skew_s: None,
            unsent: 0,
            partner_unsent: (0, 0),
            rejected: BTreeSet::new(),
            unacked: BTreeMap::new(),
            notified: false,
            off: BTreeSet::new(),
            timers: Vec::new(),
            heartbeat_ns: None,
            copying: false,
            copied_to: None,
            backlog: VecDeque::new(),
            overflowed: false,
            flushing: false,
            calls: Vec::new(),
        };
        this.hold(LOCAL);
        this.evaluate(now);
        this
    }

    pub fn service_on(&self) -> bool {
        self.off.is_empty()
    }

    /// Whether it answers clients of the primary, or of the secondary.
    pub fn in_scope(&self, of_primary: bool) -> bool {
        match self.state {
            State::HotStandby | State::Terminated if !self.settings.balancing => self.settings.primary,
            State::LoadBalancing | State::CommunicationRecovery | State::Terminated => {
                of_primary == self.settings.primary
            }
            State::PartnerDown => true,
            _ => false,
        }
    }

    fn scopes(&self) -> Vec<&'static str> {
        let names = [(true, "server1"), (false, "server2")];
        let served = names
            .into_iter()
            .filter(|(of_primary, _)| self.in_scope(*of_primary) && (*of_primary || self.settings.balancing));
        served.map(|(_, name)| name).collect()
    }

    pub fn sends_updates(&self) -> bool {
        self.state == self.normal()
    }

    /// Whether updates are put off.
    pub fn queues_updates(&self) -> bool {
        self.state == State::CommunicationRecovery
    }

    /// Puts off an update.
    pub fn queue(&mut self, request: Value) {
        if self.backlog.len() >= self.settings.backlog_max {
            self.overflowed = true;
        } else {
            self.backlog.push_back(request);
        }
    }

    fn normal(&self) -> State {
        if self.settings.balancing { State::LoadBalancing } else { State::HotStandby }
    }

    pub fn next_timeout(&self) -> Option<u64> {
        self.timers.iter().map(|(at_ns, _)| *at_ns).chain(self.heartbeat_ns).min()
    }

    pub fn handle_timeout(&mut self, now: Now) {
        let due: Vec<u32> =
            self.timers.extract_if(.., |(at_ns, _)| *at_ns <= now.monotonic_ns).map(|(_, id)| id).collect();
        for id in due {
            self.off.remove(&id);
        }
        if self.heartbeat_ns.is_some_and(|at_ns| at_ns <= now.monotonic_ns) {
            self.heartbeat_ns = None;
            self.ask(Purpose::Heartbeat, "ha-heartbeat", json!({}));
        }
    }

    // ---- service locks --------------------------------------------------------------------------------------

    fn lock_id(&self, id: u32) -> u32 {
        if self.settings.version == Version::K22 { 0 } else { id }
    }

    fn hold(&mut self, id: u32) {
        self.off.insert(self.lock_id(id));
    }

    fn release(&mut self, id: u32) {
        let id = self.lock_id(id);
        self.off.remove(&id);
        if self.settings.version == Version::K3 {
            self.timers.retain(|(_, of)| *of != id);
        }
    }

    // ---- commands of the partner ----------------------------------------------------------------------------

    /// The answer to a command that is not about leases: result, text, arguments.
    pub fn command(&mut self, now: Now, envelope: &Envelope) -> (i64, String, Option<Value>) {
        let argument = |name: &str| envelope.arguments.as_ref().and_then(|arguments| arguments.get(name));
        match envelope.command.as_str() {
            "ha-heartbeat" => {
                let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(now.wall_ms));
                let arguments = json!({ "date-time": date, "scopes": self.scopes(), "state": self.state.name(),
                                        "unsent-update-count": self.unsent });
                (0, "HA peer status returned.".to_owned(), Some(arguments))
            }
            "dhcp-disable" => {
                let id = self.lock_id(REMOTE);
                self.off.insert(id);
                self.timers.retain(|(_, of)| *of != id);
                if let Some(period_s) = argument("max-period").and_then(Value::as_u64) {
                    self.timers.push((now.monotonic_ns + period_s * NS_PER_S, id));
                }
                (0, "DHCPv4 service disabled".to_owned(), None)
            }
            "dhcp-enable" => {
                self.release(REMOTE);
                (0, "DHCP service successfully enabled".to_owned(), None)
            }
            "ha-sync-complete-notify" => {
                let named = argument("origin-id").and_then(Value::as_u64);
                match self.settings.version {
                    Version::K22 if self.state == State::PartnerDown => {}
                    Version::K22 => self.release(LOCAL),
                    // Without an id the wrong lock is released (ha-protocol 3.8).
                    Version::K3 => self.release(named.map_or(REMOTE + 1, |id| id as u32)),
                }
                if self.state == State::PartnerDown {
                    self.notified = true;
                    self.hold(LOCAL);
                }
                (0, "Server successfully notified about the synchronization completion.".to_owned(), None)
            }
            "ha-reset" if self.state == State::Waiting => {
                (0, "HA state machine already in WAITING state.".to_owned(), None)
            }
            "ha-reset" => {
                (self.copying, self.flushing) = (false, false);
                self.enter(now, State::Waiting);
                // Its heartbeat is on its way, whatever the state becomes.
                if let Some(next) = self.next_state(now) {
                    (self.state, self.unentered) = (next, true);
                }
                (0, "HA state machine reset.".to_owned(), None)
            }
            "status-get" if self.settings.version == Version::K3 => {
                let state = json!({ "globally-disabled": !self.service_on() });
                (0, String::new(), Some(json!({ "dhcp-state": state })))
            }
            "status-get" => (0, String::new(), Some(json!({ "pid": 1 }))),
            other => (2, format!("'{other}' command not supported."), None),
        }
    }

    // ---- answers of the partner -----------------------------------------------------------------------------

    /// The answer to a command, or why there is none.
    pub fn answered(&mut self, now: Now, purpose: Purpose, answer: Result<&Value, &str>) {
        let result = answer.ok().and_then(|reply| reply.get("result")).and_then(Value::as_i64);
        let good = matches!(result, Some(0 | 3));
        let arguments = answer.ok().and_then(|reply| reply.get("arguments"));
        match purpose {
            Purpose::Heartbeat => return self.heard(now, arguments.filter(|_| good)),
            Purpose::Update(_) => {
                let is_conflict = self.settings.version == Version::K3 && result == Some(4);
                if !good && !is_conflict {
                    self.partner = State::Unavailable;
                }
            }
            Purpose::Flush if !self.flushing => {}
            Purpose::Flush if good => return self.flush(now),
            Purpose::Flush => {
                self.partner = State::Unavailable;
                return self.reset_partner();
            }
            Purpose::Reset if !self.flushing => {}
            Purpose::Reset => {
                self.flushing = false;
                if good {
                    self.enter(now, State::Waiting);
                } else {
                    self.partner = State::Unavailable;
                }
                self.arm(now);
            }
            _ if !self.copying => {}
            Purpose::Disable if good => {
                let from = self.copied_to.clone().unwrap_or_else(|| "start".to_owned());
                let arguments = json!({ "from": from, "limit": self.settings.page_limit });
                return self.ask(Purpose::Page, "lease4-get-page", arguments);
            }
            Purpose::Page if good => {
                let leases =
                    arguments.and_then(|arguments| arguments.get("leases")).and_then(Value::as_array);
                let leases = leases.expect("a page without leases would have killed it");
                let last = leases.last().and_then(|lease| lease.get("ip-address")).and_then(Value::as_str);
                if leases.len() >= self.settings.page_limit {
                    self.copied_to = last.map(str::to_owned);
                    return self.disable();
                }
                let named = json!({ "origin": REMOTE, "origin-id": REMOTE });
                let named = if self.settings.version == Version::K3 { named } else { json!({}) };
                return self.ask(Purpose::Notify, "ha-sync-complete-notify", named);
            }
            Purpose::Notify if good => {
                self.copying = false;
                self.enter(now, State::Ready);
            }
            Purpose::Notify if result == Some(2) => {
                return self.ask(Purpose::Enable, "dhcp-enable", json!({ "origin": "ha-partner" }));
            }
            Purpose::Enable if good => {
                self.copying = false;
                self.enter(now, State::Ready);
            }
            Purpose::Disable | Purpose::Enable | Purpose::Notify | Purpose::Page => {
                if purpose == Purpose::Page {
                    self.ask(Purpose::Enable, "dhcp-enable", json!({ "origin": "ha-partner" }));
                }
                self.copying = false;
                self.partner = State::Unavailable;
                self.arm(now);
                return;
            }
        }
        self.evaluate(now);
    }

    fn heard(&mut self, now: Now, arguments: Option<&Value>) {
        let state = arguments.and_then(|arguments| arguments.get("state")).and_then(Value::as_str);
        let date = arguments.and_then(|arguments| arguments.get("date-time")).and_then(Value::as_str);
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        match (state.and_then(State::from_name), date) {
            (Some(state), Some(date)) => {
                self.partner = state;
                let since_ns = self.partner_terminated_ns.or(Some(now.monotonic_ns));
                self.partner_terminated_ns = since_ns.filter(|_| state == State::Terminated);
                let theirs_s = date.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                self.skew_s = Some(theirs_s.cast_signed() - now.wall_s().cast_signed());
                let unsent = arguments.and_then(|arguments| arguments.get("unsent-update-count"));
                if let Some(unsent) = unsent.and_then(Value::as_u64) {
                    self.partner_unsent = (self.partner_unsent.1, unsent);
                }
                self.contact_ns = now.monotonic_ns;
                self.unacked.clear();
                self.notified = false;
            }
            _ => {
                self.partner = State::Unavailable;
                if self.settings.version == Version::K3 {
                    self.skew_s = None;
                }
                if std::mem::take(&mut self.notified) {
                    self.release(LOCAL);
                }
            }
        }
        self.arm(now);
        self.evaluate(now);
    }

    /// The partner refuses the lease of a client, or takes one of it again.
    pub fn refused(&mut self, client: &[u8], refused: bool) {
        if refused && self.settings.version == Version::K3 {
            self.rejected.insert(client.to_vec());
        } else {
            self.rejected.remove(client);
        }
    }

    /// A query of a client that is its partner's.
    pub fn unanswered(&mut self, now: Now, client: Vec<u8>, secs: u16) {
        if self.is_interrupted(now) {
            *self.unacked.entry(client).or_default() |= u64::from(secs) * 1000 > self.settings.ack_ms;
        }
    }

    // ---- the state ------------------------------------------------------------------------------------------

    fn is_interrupted(&self, now: Now) -> bool {
        now.monotonic_ns > self.contact_ns + self.settings.response_ns
    }

    fn failure(&self, now: Now) -> bool {
        let unacked = self.unacked.values().filter(|unacked| **unacked).count();
        let max = self.settings.unacked_max;
        let needs_proof = self.service_on() && (self.settings.balancing || !self.settings.primary);
        self.is_interrupted(now) && (!needs_proof || max == 0 || unacked > max)
    }

    /// Runs handlers until one stays.
    pub fn evaluate(&mut self, now: Now) {
        if std::mem::take(&mut self.unentered) {
            self.enter(now, self.state);
        }
        while !self.copying && !self.flushing {
            let Some(next) = self.next_state(now) else { break };
            self.enter(now, next);
        }
        if self.state == State::Syncing && !self.copying && self.partner != State::Unavailable {
            (self.copying, self.copied_to, self.heartbeat_ns) = (true, None, None);
            self.disable();
        }
        let partner_hears = matches!(self.partner, State::LoadBalancing | State::CommunicationRecovery);
        if self.queues_updates() && !self.flushing && partner_hears && !self.is_interrupted(now) {
            (self.flushing, self.heartbeat_ns) = (true, None);
            return if self.overflowed { self.reset_partner() } else { self.flush(now) };
        }
        if !self.copying && !self.flushing && self.heartbeat_ns.is_none() && self.state != State::Terminated {
            self.arm(now);
        }
    }

    fn next_state(&self, now: Now) -> Option<State> {
        use State as S;
        if self.state == S::Terminated {
            return None;
        }
        let rejected_max = self.settings.rejected_max;
        let rejects = rejected_max > 0 && self.rejected.len() >= rejected_max;
        if self.skew_s.is_some_and(|skew| skew.abs() > 60) || rejects {
            return Some(S::Terminated);
        }
        if self.partner == S::Unavailable {
            if self.state != S::PartnerDown && self.failure(now) {
                return Some(S::PartnerDown);
            }
            let puts_off = self.state == S::LoadBalancing && self.settings.backlog_max > 0;
            return puts_off.then_some(S::CommunicationRecovery);
        }
        if self.partner == S::Terminated {
            let waits = self.state == S::Waiting && !self.has_waited_long(now);
            return (!waits).then_some(S::Terminated);
        }
        match (self.state, self.partner) {
            (S::Waiting, S::Waiting) => self.settings.primary.then_some(S::Syncing),
            (
                S::Waiting,
                S::Ready | S::HotStandby | S::LoadBalancing | S::CommunicationRecovery | S::PartnerDown,
            ) => Some(S::Syncing),
            (S::Ready, S::Ready) => self.settings.primary.then_some(self.normal()),
            (S::Ready, S::HotStandby | S::LoadBalancing | S::CommunicationRecovery) => Some(self.normal()),
            (
                S::HotStandby | S::LoadBalancing | S::CommunicationRecovery | S::PartnerDown,
                S::PartnerDown,
            )
            | (S::PartnerDown, S::CommunicationRecovery) => Some(S::Waiting),
            (S::PartnerDown, S::Ready) => {
                let (before, latest) = self.partner_unsent;
                Some(if latest > 0 && latest != before { S::Waiting } else { self.normal() })
            }
            (S::CommunicationRecovery, S::Waiting | S::Syncing | S::Ready) => {
                (self.is_interrupted(now) && self.overflowed).then_some(S::Waiting)
            }
            _ => None,
        }
    }

    /// Release 3 follows a partner that has been terminated for ten minutes.
    fn has_waited_long(&self, now: Now) -> bool {
        let is_long = |since_ns| now.monotonic_ns >= since_ns + 600 * NS_PER_S;
        self.settings.version == Version::K3 && self.partner_terminated_ns.is_some_and(is_long)
    }

    /// Sends the oldest update that was put off; without one the pair is whole.
    fn flush(&mut self, now: Now) {
        if let Some(oldest) = self.backlog.pop_front() {
            return self.calls.push((Purpose::Flush, oldest));
        }
        self.flushing = false;
        self.enter(now, State::LoadBalancing);
        self.evaluate(now);
    }

    fn reset_partner(&mut self) {
        let own = if self.settings.primary { "server1" } else { "server2" };
        let named =
            if self.settings.version == Version::K3 { json!({ "server-name": own }) } else { json!({}) };
        self.ask(Purpose::Reset, "ha-reset", named);
    }

    fn enter(&mut self, now: Now, next: State) {
        if self.queues_updates() {
            self.backlog.clear();
            self.overflowed = false;
        }
        self.state = next;
        if !matches!(next, State::HotStandby | State::LoadBalancing | State::CommunicationRecovery) {
            self.rejected.clear();
        }
        if matches!(
            next,
            State::HotStandby
                | State::LoadBalancing
                | State::CommunicationRecovery
                | State::PartnerDown
                | State::Terminated
        ) {
            self.release(LOCAL);
        } else if self.service_on() {
            self.hold(LOCAL);
        }
        if next == State::Terminated {
            self.heartbeat_ns = None;
        } else if self.heartbeat_ns.is_none() {
            self.arm(now);
        }
    }

    fn arm(&mut self, now: Now) {
        self.heartbeat_ns = Some(now.monotonic_ns + self.settings.heartbeat_ns);
    }

    fn disable(&mut self) {
        let arguments = match self.settings.version {
            Version::K22 => json!({ "max-period": 10, "origin": "ha-partner" }),
            Version::K3 => json!({ "max-period": 10, "origin": "ha-partner", "origin-id": REMOTE }),
        };
        self.ask(Purpose::Disable, "dhcp-disable", arguments);
    }

    fn ask(&mut self, purpose: Purpose, command: &str, arguments: Value) {
        let mut request = json!({ "command": command, "service": ["dhcp4"] });
        if arguments.as_object().is_some_and(|map| !map.is_empty()) {
            request["arguments"] = arguments;
        }
        self.calls.push((purpose, request));
    }
}
