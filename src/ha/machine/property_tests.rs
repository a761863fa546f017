//! Any order of anything: the invariants hold, and nothing panics.

use proptest::prelude::*;
use serde_json::json;

use super::super::command::{Reply, result};
use super::event_tests::{KINDS, Kind, feed};
use super::rig::{Rig, heartbeat_body, relationship};
use super::*;
use crate::engine::message::Applied;
use crate::http::rfc1123_date;

/// One step of a random life: an event, an answer to a call or a page, or time.
#[derive(Clone, Debug)]
enum Turn {
    Answer { which: usize, body: usize },
    Event(usize),
    Time(u32),
}

fn any_turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        3 => (0usize..8, 0usize..18).prop_map(|(which, body)| Turn::Answer { which, body }),
        2 => (0..KINDS.len()).prop_map(Turn::Event),
        1 => (0u32..70_000).prop_map(Turn::Time),
    ]
}

fn any_answer(rig: &Rig, body: usize) -> Result<Vec<u8>, String> {
    let wall_s = rig.now.wall_s();
    match body {
        0 => Err("refused".into()),
        1 => Ok(b"garbage".to_vec()),
        2 => Ok(Reply::error("no").to_http_body()),
        3 => Ok(Reply::unsupported("x").to_http_body()),
        4 => Ok(Reply::success("").with_arguments(json!({ "leases": [] })).to_http_body()),
        5 => Ok(heartbeat_body("waiting", wall_s, 0)),
        6 => Ok(heartbeat_body("ready", wall_s, 2)),
        7 => Ok(heartbeat_body("hot-standby", wall_s, 0)),
        8 => Ok(heartbeat_body("partner-down", wall_s, 1)),
        9 => Ok(heartbeat_body("terminated", wall_s, 0)),
        10 => Ok(heartbeat_body("load-balancing", wall_s, 0)),
        11 => Ok(heartbeat_body("communication-recovery", wall_s, 3)),
        12 => Ok(heartbeat_body("in-maintenance", wall_s, 0)),
        13 => Ok(heartbeat_body("partner-in-maintenance", wall_s, 0)),
        14 => Ok(heartbeat_body("hot-standby", wall_s + 100, 0)),
        15 => Ok(Reply::success("").with_arguments(json!({ "results": [0] })).to_http_body()),
        16 => Ok(Reply::new(result::MAINTENANCE_NOT_ALLOWED, "no").to_http_body()),
        _ => Ok(tandem_body("terminated", wall_s)),
    }
}

fn tandem_body(state: &str, wall_s: u64) -> Vec<u8> {
    let arguments = json!({
        "date-time": rfc1123_date(wall_s), "scopes": [], "state": state, "tandem-batch-max": 8,
        "tandem-fingerprint": { "options": "1", "pools": "2", "subnets": "3" }, "unsent-update-count": 0
    });
    Reply::success("").with_arguments(arguments).to_http_body()
}

const SERVERS: [(Mode, Role); 6] = [
    (Mode::HotStandby, Role::Primary),
    (Mode::HotStandby, Role::Standby),
    (Mode::LoadBalancing, Role::Primary),
    (Mode::LoadBalancing, Role::Secondary),
    (Mode::PassiveBackup, Role::Primary),
    (Mode::PassiveBackup, Role::Backup),
];

/// What must hold after every step (the module's header; ha-protocol 8.1).
fn check(rig: &Rig) -> Result<(), TestCaseError> {
    let (machine, state) = (&rig.machine, rig.machine.state());
    let view = machine.view().expect("published at start");
    prop_assert_eq!(view.service_on, machine.locks.service_on());
    prop_assert_eq!(view.scopes, machine.served_scopes());
    prop_assert!(view.updates != UpdateMode::Send || state.sends_updates());
    let listens = machine.listens() && view.interrupted;
    prop_assert!(state.serves_dhcp() || listens || !view.service_on, "{}", state);
    let bounded = view.service_on || machine.locks.next_timeout().is_some();
    prop_assert!(state != OwnState::PartnerDown || bounded, "silent for ever");
    prop_assert!(state != OwnState::CommunicationRecovery || view.balancing, "8.1 no. 5");
    prop_assert!(machine.backlog.is_empty() || view.updates != UpdateMode::None);
    Ok(())
}

proptest! {
    /// The invariants of the module's header hold after every step, and timers come to rest.
    #[test]
    fn no_order_of_events_breaks_an_invariant(server in 0..SERVERS.len(), turns in proptest::collection::vec(any_turn(), 1..120)) {
        let (mode, role) = SERVERS[server];
        let mut rig = Rig::with(relationship(mode, role));
        let mut seconds = 0.0;
        let (mut waiting_calls, mut waiting_pages): (Vec<CallId>, Vec<CallId>) = (Vec::new(), Vec::new());
        let mut epoch = 0;
        let mut actions = rig.handle(Event::Start);
        for turn in turns {
            for action in actions.drain(..) {
                match action {
                    Action::Call(call) => waiting_calls.push(call.id),
                    Action::ApplyPage { id, .. } => waiting_pages.push(id),
                    Action::Publish(view) => {
                        prop_assert_eq!(view.epoch, epoch + 1);
                        epoch += 1;
                    }
                    Action::Answer { .. }
                    | Action::Close { .. }
                    | Action::HandBack { .. }
                    | Action::Log(_)
                    | Action::PartnerBehind(_)
                    | Action::StopAnnounced => {}
                }
            }
            check(&rig)?;
            actions = match turn {
                Turn::Answer { which, body } if !waiting_pages.is_empty() => {
                    let id = waiting_pages.remove(which % waiting_pages.len());
                    let applied = Applied { written: body, ..Applied::default() };
                    let result = if body == 0 { Err("busy".into()) } else { Ok(applied) };
                    rig.handle(Event::PageApplied { id, result })
                }
                Turn::Answer { which, body } if !waiting_calls.is_empty() => {
                    let id = waiting_calls.remove(which % waiting_calls.len());
                    let result = any_answer(&rig, body);
                    rig.handle(Event::CallDone { id, result })
                }
                Turn::Answer { .. } => Vec::new(),
                Turn::Event(kind) => match KINDS[kind] {
                    // Two answer a heartbeat themselves, which is `Answer`'s business here; one ends everything.
                    Kind::HeartbeatFailed | Kind::HeartbeatSameState | Kind::Stopping => Vec::new(),
                    kind => feed(&mut rig, kind),
                },
                Turn::Time(pause_ms) => {
                    seconds += f64::from(pause_ms) / 1000.0;
                    rig.wait_until(seconds)
                }
            };
        }
    }
}
