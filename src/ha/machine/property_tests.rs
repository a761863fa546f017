//! Any order of anything: the invariants hold, and nothing panics.

use proptest::prelude::*;
use serde_json::json;

use super::super::command::Reply;
use super::tests::{KINDS, Kind, Rig, feed, heartbeat_body};
use super::*;

/// One step of a random life: an event, an answer to a call or a page, or time.
#[derive(Clone, Debug)]
enum Turn {
    Answer { which: usize, body: usize },
    Event(usize),
    Time(u32),
}

fn any_turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        3 => (0usize..8, 0usize..10).prop_map(|(which, body)| Turn::Answer { which, body }),
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
        _ => Ok(heartbeat_body("terminated", wall_s, 0)),
    }
}

proptest! {
    /// The invariants of the module's header hold after every step, and timers come to rest.
    #[test]
    fn no_order_of_events_breaks_an_invariant(standby in any::<bool>(), turns in proptest::collection::vec(any_turn(), 1..120)) {
        let mut rig = Rig::new(if standby { Role::Standby } else { Role::Primary });
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
                    Action::Answer { .. } | Action::ClosePrivate { .. } | Action::Log(_) => {}
                }
            }
            let view = rig.machine.view().expect("published at start");
            prop_assert_eq!(view.service_on, rig.machine.locks.service_on());
            prop_assert_eq!(view.scopes, rig.machine.served_scopes());
            prop_assert!(view.updates != UpdateMode::Send || rig.machine.state() == OwnState::HotStandby);
            prop_assert!(rig.machine.state().serves_dhcp() || !view.service_on);
            actions = match turn {
                Turn::Answer { which, body } if !waiting_pages.is_empty() => {
                    let id = waiting_pages.remove(which % waiting_pages.len());
                    let result = if body == 0 { Err("busy".into()) } else { Ok(body) };
                    rig.handle(Event::PageApplied { id, result })
                }
                Turn::Answer { which, body } if !waiting_calls.is_empty() => {
                    let id = waiting_calls.remove(which % waiting_calls.len());
                    let result = any_answer(&rig, body);
                    rig.handle(Event::CallDone { id, result })
                }
                Turn::Answer { .. } => Vec::new(),
                Turn::Event(kind) => match KINDS[kind] {
                    // These two answer a heartbeat themselves; here that is `Answer`'s business.
                    Kind::HeartbeatFailed | Kind::HeartbeatSameState => Vec::new(),
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
