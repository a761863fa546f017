//! Communication-recovery: backlog, flush and `ha-reset` (ha-protocol 4.4 (b) to (e), 5.6; scenarios E4 to E7).

use serde_json::json;

use super::super::command::HaCommand;
use super::super::lease_json::write_update_request;
use super::event_tests::{Kind, feed};
use super::rig::{Rig, calls, lease, logged, relationship};
use super::*;
use crate::engine::message::UpdateKind;

const OK: &[u8] = b"[ { \"result\": 0, \"text\": \"IPv4 lease updated.\" } ]";

/// A server in communication-recovery with updates of these addresses in its backlog of three.
fn recovering(addresses: std::ops::RangeInclusive<u8>) -> Rig {
    let mut rig = Rig::in_state(Role::Secondary, OwnState::LoadBalancing, PartnerState::LoadBalancing);
    feed(&mut rig, Kind::Failed);
    assert_eq!(rig.machine.state(), OwnState::CommunicationRecovery, "at the first failed update");
    assert_eq!(rig.machine.view().unwrap().updates, UpdateMode::Queue);
    for number in addresses {
        rig.handle(Event::Backlog { kind: UpdateKind::Update, lease: lease(number), outcome: None });
    }
    rig
}

/// The private calls among `actions`.
fn private(actions: &[Action]) -> Vec<Call> {
    let call = |action: &Action| match action {
        Action::Call(call) if call.line != Line::Shared => Some(call.clone()),
        _ => None,
    };
    actions.iter().filter_map(call).collect()
}

fn answer(rig: &mut Rig, call: &Call, body: &[u8]) -> Vec<Action> {
    rig.handle(Event::CallDone { id: call.id, result: Ok(body.to_vec()) })
}

#[test]
fn updates_are_sent_oldest_first_one_at_a_time_and_then_the_state_is_normal() {
    let mut rig = recovering(1..=3);
    let mut actions = rig.heartbeat_reply("communication-recovery", 0, 0);
    for number in 1..=3 {
        let calls = private(&actions);
        assert_eq!(calls.len(), 1, "{number}");
        let mut expected = Vec::new();
        write_update_request(UpdateKind::Update, &lease(number), &mut expected);
        assert_eq!(calls[0].body, expected, "as Kea writes it");
        assert_eq!(rig.machine.state(), OwnState::CommunicationRecovery);
        actions = answer(&mut rig, &calls[0], OK);
    }
    assert_eq!(rig.machine.state(), OwnState::LoadBalancing);
    assert!(actions.iter().any(|action| matches!(action, Action::Close { peer: 0, line: Line::Private })));
    assert_eq!(rig.machine.unsent_given_up, 0, "4.8 they are not unsent");
}

#[test]
fn a_tandem_partner_gets_the_backlog_in_one_request() {
    let mut rig = recovering(1..=3);
    let actions = rig.tandem_heartbeat("load-balancing", 0, json!({}));
    let calls = private(&actions);
    assert_eq!(calls.len(), 1);
    let done = Reply::success("").with_arguments(json!({ "results": [0, 3, 0] })).to_http_body();
    answer(&mut rig, &calls[0], &done);
    assert_eq!(rig.machine.state(), OwnState::LoadBalancing);
}

/// E6: whatever is wrong with an answer, both servers begin again, each with a copy.
#[test]
fn a_flush_that_fails_resets_the_partner_and_then_this_server() {
    let refused = Reply::error("no").to_http_body();
    for result in [Err("reset".to_owned()), Ok(refused), Ok(b"{}".to_vec()), Ok(Vec::new())] {
        let mut rig = recovering(1..=3);
        let mut actions = rig.heartbeat_reply("load-balancing", 0, 0);
        for _ in 0..2 {
            let calls = private(&actions);
            actions = answer(&mut rig, &calls[0], OK);
        }
        let id = private(&actions)[0].id;
        let actions = rig.handle(Event::CallDone { id, result });
        assert!(logged(&actions).contains(&"HA_LEASES_BACKLOG_FAILED"));
        let reset = Rig::call(&actions, "ha-reset");
        assert_eq!(rig.machine.state(), OwnState::CommunicationRecovery);
        let done = Reply::success("HA state machine reset.").to_http_body();
        rig.handle(Event::CallDone { id: reset, result: Ok(done) });
        assert_eq!(rig.machine.state(), OwnState::Syncing, "through waiting: the partner has leases");
        assert_eq!(rig.machine.backlog.state(), BacklogState::Empty);
    }
}

#[test]
fn an_overflow_is_published_and_leads_to_ha_reset_and_if_that_fails_to_another_try() {
    let mut rig = recovering(1..=3);
    assert!(!rig.machine.view().unwrap().backlog_overflowed);
    let actions = rig.handle(Event::Backlog { kind: UpdateKind::Delete, lease: lease(4), outcome: None });
    assert!(logged(&actions).contains(&"TANDEM_HA_BACKLOG_OVERFLOWED"));
    assert!(rig.machine.view().unwrap().backlog_overflowed);
    for _ in 0..2 {
        let actions = rig.heartbeat_reply("communication-recovery", 0, 0);
        assert!(
            private(&actions).iter().all(|call| !call.body.starts_with(b"{ \"arguments\": { \"expire\""))
        );
        let reset = Rig::call(&actions, "ha-reset");
        rig.handle(Event::CallDone { id: reset, result: Err("refused".to_owned()) });
        assert_eq!(rig.machine.state(), OwnState::CommunicationRecovery);
        assert_eq!(rig.machine.partner_state(), PartnerState::Unavailable);
    }
}

/// 4.4 (c), E7.
#[test]
fn a_partner_that_copies_is_waited_for_unless_the_backlog_has_overflowed() {
    for partner in ["waiting", "syncing", "ready"] {
        let mut waits = recovering(1..=3);
        waits.heartbeat_reply(partner, 0, 0);
        assert_eq!(waits.machine.state(), OwnState::CommunicationRecovery, "{partner}");
        let mut overflowed = recovering(1..=4);
        overflowed.heartbeat_reply(partner, 0, 0);
        assert_ne!(overflowed.machine.state(), OwnState::CommunicationRecovery, "{partner}");
        assert_eq!(overflowed.machine.unsent_given_up, 3, "the partner is to copy what was given up");
    }
}

#[test]
fn no_backlog_is_used_where_its_limit_is_0() {
    let without =
        Relationship { delayed_updates_limit: 0, ..relationship(Mode::LoadBalancing, Role::Primary) };
    let mut rig = Rig::of(without, OwnState::LoadBalancing, PartnerState::LoadBalancing);
    feed(&mut rig, Kind::Failed);
    assert_eq!(rig.machine.state(), OwnState::LoadBalancing);
}

/// E5: clients are served by both sides, so nobody takes over, however long the link is cut.
#[test]
fn a_link_that_is_cut_for_long_makes_nobody_take_over_while_no_client_waits() {
    let mut rig = recovering(1..=1);
    for second in 1..600 {
        rig.wait_until(f64::from(second));
        if rig.machine.heartbeat.is_some() {
            rig.end_heartbeat(Err("refused".into()));
        }
    }
    let view = rig.machine.view().unwrap();
    assert!(view.interrupted && view.service_on);
    assert_eq!((rig.machine.state(), view.scopes), (OwnState::CommunicationRecovery, Scopes::SECONDARY));
    rig.unanswered(1..=3, 11);
    assert_eq!(rig.machine.state(), OwnState::CommunicationRecovery, "they may be served now");
    rig.wait_until(611.0);
    rig.unanswered(1..=3, 22);
    assert_eq!(rig.machine.state(), OwnState::PartnerDown, "4.6 three clients are more than two");
    assert_eq!(rig.machine.view().unwrap().scopes, Scopes::BOTH);
}

#[test]
fn the_backlog_given_up_by_taking_over_counts_as_unsent() {
    let mut rig = recovering(1..=2);
    feed(&mut rig, Kind::PartnerStops);
    assert_eq!(rig.machine.state(), OwnState::PartnerDown);
    let reply =
        rig.command(CommandSource::Partner, HaCommand::Heartbeat { server_name: None, fingerprint: None });
    assert_eq!(reply.arguments.unwrap()["unsent-update-count"], 2);
}

/// The addresses of the updates that are handed back to their owners.
fn handed_back(actions: &[Action]) -> Vec<u8> {
    let address = |action: &Action| match action {
        Action::HandBack { lease, .. } => Some(lease.address.octets()[3]),
        _ => None,
    };
    actions.iter().filter_map(address).collect()
}

/// A shard learns of the change of state a little later than the machine, and sends newer updates by its own sender.
#[test]
fn an_update_that_comes_after_communication_recovery_goes_back_to_its_owner() {
    use UpdateOutcome::{Conflict, Failed, Refused};
    let backlog = |outcome| Event::Backlog { kind: UpdateKind::Update, lease: lease(9), outcome };
    for (outcome, left) in [
        (Failed, BacklogState::Waiting),
        (Conflict, BacklogState::Overflowed),
        (Refused, BacklogState::Overflowed),
    ] {
        let mut rig = recovering(1..=1);
        let actions = rig.heartbeat_reply("load-balancing", 0, 0);
        let calls = private(&actions);
        answer(&mut rig, &calls[0], OK);
        assert_eq!(rig.machine.state(), OwnState::LoadBalancing);
        let late = rig.handle(backlog(None));
        assert_eq!((private(&late).len(), handed_back(&late)), (0, vec![9]));
        assert_eq!(rig.machine.view().unwrap().updates, UpdateMode::Send);
        rig.handle(backlog(Some(outcome)));
        assert_eq!(
            rig.machine.state(),
            OwnState::CommunicationRecovery,
            "and if it is lost, so is the partner"
        );
        assert_eq!(rig.machine.backlog.state(), left, "{outcome:?}: sent when it is back, or copied");
    }
}

/// The partner is shut down while it does not answer: the request under way may still arrive.
#[test]
fn nothing_is_sent_by_senders_while_a_request_of_the_backlog_is_under_way() {
    let mut rig = recovering(1..=3);
    let actions = rig.tandem_heartbeat("load-balancing", 0, json!({ "tandem-batch-max": 2 }));
    let flush = private(&actions).remove(0);
    rig.machine.enter(rig.now, OwnState::PartnerInMaintenance, &mut rig.actions);
    let actions = rig.handle(Event::UnsentUpdates { shard: 0, total: 0 });
    assert_eq!(handed_back(&actions), [0; 0]);
    assert_eq!(rig.machine.view().unwrap().updates, UpdateMode::Queue);
    let done = Reply::success("").with_arguments(json!({ "results": [0, 0] })).to_http_body();
    let actions = answer(&mut rig, &flush, &done);
    assert_eq!(rig.machine.view().unwrap().updates, UpdateMode::Send);
    assert_eq!(handed_back(&actions), [3]);
    let publishes = actions.iter().position(|action| matches!(action, Action::Publish(_)));
    let hands = actions.iter().position(|action| matches!(action, Action::HandBack { .. }));
    assert!(publishes < hands, "shards are told to send before they are given what to send");
}

#[test]
fn whatever_ends_the_sending_of_updates_begins_a_generation_and_the_heartbeat_tells_it() {
    let fence = |rig: &mut Rig| {
        let heartbeat = HaCommand::Heartbeat { server_name: None, fingerprint: None };
        let reply = rig.command(CommandSource::Partner, heartbeat).arguments.unwrap();
        let fence = Fence::from_text(reply["tandem-fence"].as_str().unwrap()).unwrap();
        assert_eq!(rig.machine.view().unwrap().fence, fence);
        fence
    };
    let mut rig = Rig::in_state(Role::Secondary, OwnState::LoadBalancing, PartnerState::LoadBalancing);
    let normal = fence(&mut rig);
    rig.wait_until(0.5);
    assert_eq!(fence(&mut rig), normal);
    feed(&mut rig, Kind::Failed);
    let recovering = fence(&mut rig);
    assert!(recovering.generation > normal.generation && recovering.life == normal.life);
    rig.handle(Event::Backlog { kind: UpdateKind::Update, lease: lease(1), outcome: None });
    let told = json!({ "tandem-fence": Fence { life: 4, generation: 2 }.to_text() });
    let actions = rig.tandem_heartbeat("load-balancing", 0, told);
    let partner_fence = rig.machine.view().unwrap().partner_fence;
    assert_eq!(partner_fence, Some(Fence { life: 4, generation: 2 }));
    let flush = private(&actions).remove(0);
    assert!(super::super::batch::is_batch(&flush.body), "one update bears a stamp, too");
    let refused = Reply::success("").with_arguments(json!({ "results": [1] })).to_http_body();
    answer(&mut rig, &flush, &refused);
    assert_eq!(rig.machine.backlog.state(), BacklogState::Overflowed);
    assert!(fence(&mut rig).generation > recovering.generation, "what was flushed may still arrive");
    rig.end_heartbeat(Err("refused".into()));
    assert_eq!(rig.machine.view().unwrap().partner_fence, partner_fence, "until it is heard again");
    rig.heartbeat_reply("load-balancing", 0, 0);
    assert_eq!(rig.machine.view().unwrap().partner_fence, None, "a Kea");
}

/// 4.9 from communication-recovery: the partner gets what was put off before it is shut down.
#[test]
fn maintenance_of_the_partner_does_not_lose_the_backlog() {
    let mut rig = recovering(1..=2);
    let actions = rig.heartbeat_reply("in-maintenance", 0, 0);
    let mut calls = private(&actions);
    for _ in 0..2 {
        assert_eq!(rig.machine.state(), OwnState::CommunicationRecovery);
        let call = calls.remove(0);
        calls = private(&answer(&mut rig, &call, OK));
    }
    assert_eq!(rig.machine.state(), OwnState::PartnerInMaintenance);
}

#[test]
fn status_tells_of_the_backlog() {
    let mut rig = recovering(1..=2);
    let status = |rig: &Rig| rig.machine.status_high_availability(rig.now)[0]["ha-servers"]["local"].clone();
    assert_eq!(status(&rig)["tandem-backlog"], json!({ "limit": 3, "overflowed": false, "waiting": 2 }));
    assert_eq!(calls(&rig.wait_until(0.5)).len(), 0);
}
