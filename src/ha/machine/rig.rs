//! A machine with its driver, for tests.

use serde_json::{Value, json};
use shards::SmallBytes;

use super::super::command::HaCommand;
use super::super::communication::HeartbeatReply;
use super::super::json as dialect;
pub(super) use super::super::relationship::tests::relationship;
use super::super::test_support;
use super::*;
use crate::engine::message::Asked;
use crate::http::rfc1123_date;

/// 22 Nov 2026 08:00:00 UTC.
pub(super) const WALL_S: u64 = 1_795_334_400;

pub(super) fn at(seconds: f64) -> Now {
    Now {
        monotonic_ns: (seconds * 1e9) as u64 + NS_PER_S,
        wall_ms: WALL_S * 1000 + (seconds * 1000.0) as u64,
    }
}

pub(super) fn client(number: u8) -> ClientIdentity {
    ClientIdentity { hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, number]), client_id: SmallBytes::empty() }
}

/// A machine with its driver: remembers what it was asked to do.
pub(super) struct Rig {
    pub machine: Machine,
    pub now: Now,
    pub actions: Vec<Action>,
}

impl Rig {
    /// A machine of a hot-standby pair.
    pub fn new(role: Role) -> Self {
        Self::with(relationship(Mode::HotStandby, role))
    }

    pub fn with(relationship: Relationship) -> Self {
        Self { machine: Machine::new(relationship, at(0.0)), now: at(0.0), actions: Vec::new() }
    }

    /// A machine of the mode that has `state`, hot-standby where most have it, that was put into it and has heard
    /// `partner` say its own.
    pub fn in_state(role: Role, state: OwnState, partner: PartnerState) -> Self {
        let (mode, role) = match (state, role) {
            (OwnState::Backup, _) => (Mode::PassiveBackup, Role::Backup),
            (OwnState::PassiveBackup, _) => (Mode::PassiveBackup, Role::Primary),
            (OwnState::CommunicationRecovery | OwnState::LoadBalancing, role) => (Mode::LoadBalancing, role),
            (_, Role::Secondary) => (Mode::LoadBalancing, role),
            (_, role) => (Mode::HotStandby, role),
        };
        Self::of(relationship(mode, role), state, partner)
    }

    /// The same under any configuration.
    pub fn of(relationship: Relationship, state: OwnState, partner: PartnerState) -> Self {
        let mut rig = Self::with(relationship);
        rig.machine.enter(rig.now, state, &mut rig.actions);
        rig.machine.communication.record(rig.now.monotonic_ns, rig.now.wall_s(), heard(partner));
        rig.machine.generation_probed = true;
        rig.machine.finish(rig.now, 0, &mut rig.actions);
        rig.actions.clear();
        rig
    }

    /// The id of the call of this command among `actions`.
    pub fn call(actions: &[Action], command: &str) -> CallId {
        let found = calls(actions).into_iter().find(|(_, name)| name == command);
        found.unwrap_or_else(|| panic!("{command} is not among {:?}", calls(actions))).0
    }

    /// The answers to `token` 7 among `actions`.
    pub fn answers(actions: &[Action]) -> Vec<(i64, String)> {
        actions
            .iter()
            .filter_map(|action| match action {
                Action::Answer { token: 7, reply } => {
                    Some((reply.result, reply.text.clone().unwrap_or_default()))
                }
                _ => None,
            })
            .collect()
    }

    /// A heartbeat of a Tandem server, with what it adds to Kea's.
    pub fn tandem_heartbeat(&mut self, state: &str, skew_s: i64, more: Value) -> Vec<Action> {
        let wall_s = (self.now.wall_s() as i64 + skew_s) as u64;
        let mut arguments = json!({
            "date-time": rfc1123_date(wall_s), "scopes": [], "state": state, "tandem-batch-max": 8,
            "unsent-update-count": 0
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            arguments[name] = value.clone();
        }
        self.end_heartbeat(Ok(Reply::success("").with_arguments(arguments).to_http_body()))
    }

    /// The machine has run all the time until now.
    pub fn stay_awake(&mut self) {
        self.machine.presence.run_at(self.now.monotonic_ns);
    }

    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        self.stay_awake();
        self.machine.handle_event(self.now, event, &mut self.actions);
        std::mem::take(&mut self.actions)
    }

    pub fn command(&mut self, source: CommandSource, command: HaCommand) -> Reply {
        let actions = self.handle(Event::Command { token: 7, source, command });
        let reply = actions.into_iter().find_map(|action| match action {
            Action::Answer { token: 7, reply } => Some(reply),
            _ => None,
        });
        reply.expect("every command is answered at once")
    }

    /// Lets time pass up to `seconds`, firing timers on the way.
    pub fn wait_until(&mut self, seconds: f64) -> Vec<Action> {
        let end = at(seconds);
        for _ in 0..10_000 {
            let Some(timeout) = self.machine.next_timeout().filter(|timeout| *timeout <= end.monotonic_ns)
            else {
                self.now = end;
                return std::mem::take(&mut self.actions);
            };
            let step_ns = timeout.saturating_sub(self.now.monotonic_ns);
            self.now.monotonic_ns += step_ns;
            self.now.wall_ms += step_ns / NS_PER_MS;
            self.machine.handle_timeout(self.now, &mut self.actions);
        }
        panic!("timers do not come to rest");
    }

    /// Clients of a silent partner that ask any server, and none of which takes an offer in the moment after.
    pub fn unanswered(&mut self, numbers: impl IntoIterator<Item = u8>, secs: u16) -> Vec<Action> {
        for number in numbers {
            let actions = self.handle(Event::Unanswered { client: client(number), secs, asked: Asked::Any });
            self.actions.extend(actions);
        }
        let now_s = self.now.monotonic_ns.saturating_sub(NS_PER_S) as f64 / 1e9;
        self.wait_until(now_s + 0.51)
    }

    pub fn heartbeat_reply(&mut self, state: &str, skew_s: i64, unsent: u64) -> Vec<Action> {
        let body = heartbeat_body(state, (self.now.wall_s() as i64 + skew_s) as u64, unsent);
        self.end_heartbeat(Ok(body))
    }

    pub fn end_heartbeat(&mut self, result: Result<Vec<u8>, String>) -> Vec<Action> {
        if self.machine.heartbeat.is_none() {
            self.machine.heartbeat_at_ns = Some(self.now.monotonic_ns);
            self.stay_awake();
            self.machine.handle_timeout(self.now, &mut self.actions);
        }
        let id = self.machine.heartbeat.expect("a heartbeat is in flight");
        self.handle(Event::CallDone { id, result })
    }

    pub fn service_on(&self) -> bool {
        self.machine.view().expect("a view was published").service_on
    }
}

pub(super) fn heard(state: PartnerState) -> HeartbeatReply {
    let scopes = Vec::new();
    HeartbeatReply {
        state,
        wall_s: WALL_S,
        scopes,
        unsent: Some(0),
        batch_max: 1,
        fingerprint: None,
        copies: false,
        follows: false,
        fence: None,
    }
}

pub(super) fn heartbeat_body(state: &str, wall_s: u64, unsent: u64) -> Vec<u8> {
    let arguments = json!({
        "date-time": rfc1123_date(wall_s), "scopes": [], "state": state, "unsent-update-count": unsent
    });
    Reply::success("HA peer status returned.").with_arguments(arguments).to_http_body()
}

pub(super) fn command_of(call: &Call) -> (String, Value) {
    let value = dialect::decode(&call.body).unwrap();
    (value["command"].as_str().unwrap().to_owned(), value["arguments"].clone())
}

pub(super) fn calls(actions: &[Action]) -> Vec<(CallId, String)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Call(call) => Some((call.id, command_of(call).0)),
            _ => None,
        })
        .collect()
}

pub(super) fn logged(actions: &[Action]) -> Vec<&'static str> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Log(event) => Some(event.message.id()),
            _ => None,
        })
        .collect()
}

/// A lease of 10.0.0.`number`.
pub(super) fn lease(number: u8) -> Box<shards::Lease> {
    Box::new(shards::Lease { cltt: WALL_S, ..test_support::lease(number.into()) })
}
