//! Maintenance (ha-protocol 4.9; scenarios G1 to G5).

use serde_json::json;

use super::super::command::{HaCommand, Origin, result};
use super::event_tests::{Kind, feed};
use super::rig::{Rig, calls, command_of, heartbeat_body, relationship};
use super::tests::disable;
use super::*;

const START: HaCommand = HaCommand::MaintenanceStart;
const CANCEL: HaCommand = HaCommand::MaintenanceCancel;

fn notify(cancel: bool, state: Option<PartnerState>) -> HaCommand {
    HaCommand::MaintenanceNotify { cancel, server_name: None, state }
}

/// An administrator's command that the partner answers with `answer`; what the administrator gets.
fn run(rig: &mut Rig, command: HaCommand, answer: Result<Vec<u8>, String>) -> (i64, String) {
    let event = Event::Command { token: 7, source: CommandSource::Administrator, command };
    let asked = rig.handle(event);
    let id = Rig::call(&asked, "ha-maintenance-notify");
    assert!(Rig::answers(&asked).is_empty(), "the administrator waits");
    let actions = rig.handle(Event::CallDone { id, result: answer });
    Rig::answers(&actions).remove(0)
}

fn notifies(actions: &[Action]) -> bool {
    calls(actions).iter().any(|(_, name)| name == "ha-maintenance-notify")
}

fn done(arguments: serde_json::Value) -> Result<Vec<u8>, String> {
    Ok(Reply::success("").with_arguments(arguments).to_http_body())
}

#[test]
fn what_the_partner_answers_decides_where_maintenance_leads() {
    let refusal = Reply::new(result::MAINTENANCE_NOT_ALLOWED, "Unable to transition").to_http_body();
    let survivor = "Server is now in the partner-in-maintenance state and its partner is in-maintenance state. The \
                    partner can be now safely shut down.";
    let alone =
        "Server is now in the partner-down state as its partner appears to be offline for maintenance.";
    let refused = "Unable to transition to the partner-in-maintenance state. The partner server responded with the \
                   following message to the ha-maintenance-notify command: Unable to transition.";
    for (label, answer, code, text, state) in [
        ("agrees", done(json!({})), 0, survivor, OwnState::PartnerInMaintenance),
        ("result 1", Ok(Reply::error("no").to_http_body()), 0, alone, OwnState::PartnerDown),
        ("no answer", Err("timed out".to_owned()), 0, alone, OwnState::PartnerDown),
        ("an answer that is none", Ok(b"[]".to_vec()), 0, alone, OwnState::PartnerDown),
        ("1001", Ok(refusal), 1, refused, OwnState::HotStandby),
    ] {
        let mut rig = Rig::in_state(Role::Standby, OwnState::HotStandby, PartnerState::HotStandby);
        rig.machine.relationship.auto_failover = false;
        assert_eq!(run(&mut rig, START, answer), (code, text.to_owned()), "{label}");
        assert_eq!(rig.machine.state(), state, "{label}");
        // Even without auto-failover: an administrator has asked for it.
        assert_eq!(rig.machine.view().unwrap().scopes.primary, state != OwnState::HotStandby, "{label}");
    }
}

/// A survivor that has yet to copy what its partner gave must not serve without it.
#[test]
fn a_survivor_that_lacks_leases_copies_them_before_it_takes_over() {
    use OwnState as O;
    use PartnerState as P;
    for (own, partner, copies, syncs) in [
        (O::Waiting, P::PartnerDown, true, true),
        (O::Syncing, P::PartnerDown, true, true),
        (O::Ready, P::PartnerDown, true, true),
        (O::Ready, P::Unavailable, true, true),
        (O::Ready, P::HotStandby, false, true),
        (O::HotStandby, P::HotStandby, false, true),
        (O::HotStandby, P::Ready, false, true),
        (O::HotStandby, P::Unavailable, true, true),
        (O::HotStandby, P::Unavailable, false, false),
        (O::PartnerDown, P::Ready, false, true),
        (O::Waiting, P::PartnerDown, false, false),
        (O::Ready, P::PartnerDown, false, false),
    ] {
        let mut rig = Rig::in_state(Role::Standby, own, partner);
        rig.machine.relationship.sync_leases = syncs;
        let case = format!("{own}, {partner}, sync-leases {syncs}");
        let (code, text) = run(&mut rig, START, done(json!({})));
        assert_eq!(code, 0, "{case}: {text}");
        let expected = if copies { O::Syncing } else { O::PartnerInMaintenance };
        assert_eq!((rig.machine.state(), text.contains("copying its leases")), (expected, copies), "{case}");
        assert_eq!(rig.machine.is_copying(), copies, "{case}");
        assert_eq!(rig.service_on(), !copies, "{case}");
    }
}

/// The partner, which could not hear the copier for a while, has given leases behind its back until it was told to rest.
#[test]
fn a_copy_under_way_is_begun_anew_once_the_partner_rests() {
    let mut rig = Rig::in_state(Role::Standby, OwnState::Waiting, PartnerState::PartnerDown);
    let begins = rig.heartbeat_reply("partner-down", 0, 0);
    let before = Rig::call(&begins, "dhcp-disable");
    let start = Event::Command { token: 7, source: CommandSource::Administrator, command: START };
    let notify = Rig::call(&rig.handle(start), "ha-maintenance-notify");
    let told = rig.handle(Event::CallDone { id: notify, result: done(json!({})) });
    assert_eq!(rig.machine.state(), OwnState::Syncing);
    assert_ne!(Rig::call(&told, "dhcp-disable"), before);
    let late = rig.handle(Event::CallDone { id: before, result: done(json!({})) });
    assert_eq!(calls(&late), Vec::new(), "nobody goes on with the first");
}

#[test]
fn maintenance_is_refused_in_these_states_on_either_side() {
    for state in OwnState::ALL {
        let mut rig = Rig::in_state(Role::Primary, state, PartnerState::Unknown);
        let event = Event::Command { token: 7, source: CommandSource::Administrator, command: START };
        let answers = Rig::answers(&rig.handle(event));
        let refuses = matches!(
            state,
            OwnState::Backup
                | OwnState::InMaintenance
                | OwnState::PartnerInMaintenance
                | OwnState::PassiveBackup
                | OwnState::Terminated
        );
        let text = format!(
            "Unable to transition the server from the {} to partner-in-maintenance state.",
            state.name()
        );
        assert_eq!(answers, if refuses { vec![(1, text)] } else { Vec::new() }, "{state}");

        let mut rig = Rig::in_state(Role::Primary, state, PartnerState::Unknown);
        let reply = rig.command(CommandSource::Partner, notify(false, None));
        let refuses = matches!(
            state,
            OwnState::Backup
                | OwnState::PartnerInMaintenance
                | OwnState::PassiveBackup
                | OwnState::Terminated
        );
        let text =
            format!("Unable to transition the server from the {} to in-maintenance state.", state.name());
        let expected = if refuses { (1001, text) } else { (0, "Server is in-maintenance state.".to_owned()) };
        assert_eq!((reply.result, reply.text.unwrap()), expected, "{state}");
        assert_eq!(rig.machine.state() == OwnState::InMaintenance, !refuses, "{state}");
    }
}

/// G2: both dialects; what is not told is unknown, and nobody acts on what the other was before.
#[test]
fn called_off_both_return_to_the_state_before() {
    for (told, heard) in
        [(Some(PartnerState::HotStandby), PartnerState::HotStandby), (None, PartnerState::Unknown)]
    {
        let mut target = Rig::in_state(Role::Standby, OwnState::HotStandby, PartnerState::HotStandby);
        target.command(CommandSource::Partner, notify(false, told));
        assert!(!target.service_on());
        target.heartbeat_reply("partner-in-maintenance", 0, 0);
        // 8 no. 18, G5: told twice.
        target.command(CommandSource::Partner, notify(false, told));
        let reply = target.command(CommandSource::Partner, notify(true, told));
        assert_eq!(reply.text.as_deref(), Some("Server maintenance canceled."));
        assert_eq!(reply.arguments.unwrap(), json!({ "state": "hot-standby" }));
        assert_eq!((target.machine.state(), target.machine.partner_state()), (OwnState::HotStandby, heard));

        let mut survivor = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        run(&mut survivor, START, done(json!({})));
        let answer = told.map_or(json!({}), |state| json!({ "state": state.name() }));
        let reply = run(&mut survivor, CANCEL, done(answer));
        assert_eq!(reply, (0, "Server maintenance successfully canceled.".to_owned()));
        assert_eq!(
            (survivor.machine.state(), survivor.machine.partner_state()),
            (OwnState::HotStandby, heard)
        );
    }
}

/// 8 no. 18: each side has a heartbeat under way when maintenance is called off, and its answer tells of the state the
/// other one is just leaving.
#[test]
fn the_answer_to_a_heartbeat_sent_before_maintenance_was_called_off_moves_nobody() {
    let servers = [(Mode::HotStandby, Role::Primary), (Mode::LoadBalancing, Role::Secondary)];
    for (mode, role) in servers {
        for (survives, stale) in [(true, "in-maintenance"), (false, "partner-in-maintenance")] {
            for told in [Some(mode.normal_state().as_seen_by_partner()), None] {
                let normal = mode.normal_state();
                let label = format!("{mode:?}, survives: {survives}, told: {told:?}");
                let mut rig = Rig::of(relationship(mode, role), normal, normal.as_seen_by_partner());
                if survives {
                    run(&mut rig, START, done(json!({})));
                } else {
                    rig.command(CommandSource::Partner, notify(false, told));
                }
                assert!(rig.machine.state().is_maintenance(), "{label}");
                rig.machine.heartbeat_at_ns = Some(rig.now.monotonic_ns);
                rig.machine.handle_timeout(rig.now, &mut rig.actions);
                rig.actions.clear();
                let id = rig.machine.heartbeat.expect("a heartbeat is under way");
                if survives {
                    let answer = told.map_or(json!({}), |state| json!({ "state": state.name() }));
                    run(&mut rig, CANCEL, done(answer));
                } else {
                    rig.command(CommandSource::Partner, notify(true, told));
                }
                let heard = told.unwrap_or(PartnerState::Unknown);
                assert_eq!((rig.machine.state(), rig.machine.partner_state()), (normal, heard), "{label}");
                // None is sent either while the other one may not have heard of the end yet.
                assert_eq!(calls(&rig.wait_until(0.9)), [], "{label}");

                let result = Ok(heartbeat_body(stale, rig.now.wall_s(), 0));
                rig.handle(Event::CallDone { id, result });
                assert_eq!((rig.machine.state(), rig.machine.partner_state()), (normal, heard), "{label}");
                // The next one is believed where the partner stays; one that should be back is told once more.
                assert_eq!(calls(&rig.wait_until(1.1)).len(), 1, "{label}");
                let told_again = notifies(&rig.heartbeat_reply(stale, 0, 0));
                assert_eq!(
                    (told_again, rig.machine.state().is_maintenance()),
                    (survives, !survives),
                    "{label}"
                );
            }
        }
    }
}

/// 4.9: a heartbeat of the partner that crosses with the end of maintenance would lead it back.
#[test]
fn while_maintenance_is_called_off_the_partner_is_shown_the_state_to_come() {
    for (answer, shown) in [
        (done(json!({})), "hot-standby"),
        (Ok(Reply::error("not in maintenance").to_http_body()), "partner-in-maintenance"),
    ] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        let shows = |rig: &mut Rig| {
            let reply = rig.command(
                CommandSource::Partner,
                HaCommand::Heartbeat { server_name: None, fingerprint: None },
            );
            reply.arguments.unwrap()["state"].clone()
        };
        run(&mut rig, START, done(json!({})));
        assert_eq!(shows(&mut rig), "partner-in-maintenance");
        let by_hand = Event::Command { token: 7, source: CommandSource::Administrator, command: CANCEL };
        let id = Rig::call(&rig.handle(by_hand), "ha-maintenance-notify");
        assert_eq!(shows(&mut rig), "hot-standby");
        assert_eq!(rig.machine.state(), OwnState::PartnerInMaintenance, "it serves all until it is over");
        rig.handle(Event::CallDone { id, result: answer });
        assert_eq!(shows(&mut rig), shown);
    }
}

/// The partner's heartbeat may have been answered before maintenance was called off, and read after.
#[test]
fn a_partner_that_falls_back_into_maintenance_is_told_once_more_and_then_believed() {
    let back = || Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    for (second, third, state) in [
        ("hot-standby", "in-maintenance", OwnState::PartnerInMaintenance),
        ("in-maintenance", "hot-standby", OwnState::HotStandby),
        ("in-maintenance", "in-maintenance", OwnState::PartnerInMaintenance),
    ] {
        let mut rig = back();
        run(&mut rig, START, done(json!({})));
        run(&mut rig, CANCEL, done(json!({})));
        let told = rig.heartbeat_reply(second, 0, 0);
        if second == "in-maintenance" {
            let id = Rig::call(&told, "ha-maintenance-notify");
            rig.heartbeat_reply("in-maintenance", 0, 0);
            assert_eq!(rig.machine.state(), OwnState::HotStandby, "not before the answer");
            assert!(Rig::answers(&rig.handle(Event::CallDone { id, result: done(json!({})) })).is_empty());
        }
        let after = rig.heartbeat_reply(third, 0, 0);
        assert!(!notifies(&after), "{second}, {third}");
        assert_eq!(rig.machine.state(), state, "{second}, {third}");
    }
    // Begun anew by hand, it is meant.
    let mut rig = back();
    run(&mut rig, START, done(json!({})));
    run(&mut rig, CANCEL, done(json!({ "state": "hot-standby" })));
    run(&mut rig, START, done(json!({})));
    rig.heartbeat_reply("in-maintenance", 0, 0);
    assert_eq!(rig.machine.state(), OwnState::PartnerInMaintenance);
}

/// The survivor took it for lost before its word came.
#[test]
fn maintenance_that_is_called_off_late_leads_to_a_copy() {
    use OwnState as O;
    for (before, survivor, next) in [
        (O::HotStandby, "partner-in-maintenance", O::HotStandby),
        (O::PartnerDown, "partner-in-maintenance", O::PartnerDown),
        (O::HotStandby, "partner-down", O::Waiting),
        (O::PartnerDown, "partner-down", O::Waiting),
    ] {
        let mut rig = Rig::in_state(Role::Standby, before, PartnerState::Unknown);
        rig.command(CommandSource::Partner, notify(false, None));
        rig.heartbeat_reply(survivor, 0, 0);
        rig.command(CommandSource::Partner, notify(true, None));
        assert_eq!(rig.machine.state(), next, "{before}, {survivor}");
    }
}

#[test]
fn cancelling_is_refused_where_there_is_nothing_to_cancel_and_failing_changes_nothing() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    let reply = rig.command(CommandSource::Administrator, CANCEL);
    let text =
        "Unable to cancel maintenance request because the server is not in the partner-in-maintenance state.";
    assert_eq!((reply.result, reply.text.as_deref()), (1, Some(text)));
    let reply = rig.command(CommandSource::Partner, notify(true, None));
    let text = "Unable to cancel the maintenance for the server not in the in-maintenance state.";
    assert_eq!((reply.result, reply.text.as_deref()), (1, Some(text)));
    run(&mut rig, START, done(json!({})));
    let (code, _) = run(&mut rig, CANCEL, Ok(Reply::error("not in maintenance").to_http_body()));
    assert_eq!((code, rig.machine.state()), (1, OwnState::PartnerInMaintenance));
}

/// K3 tells its state when it begins, and the one it returns to when it ends.
#[test]
fn the_notification_tells_the_own_state() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    let told = |actions: &[Action]| {
        let call = actions.iter().find_map(|action| match action {
            Action::Call(call) if call.line != Line::Shared => Some(command_of(call).1),
            _ => None,
        });
        call.expect("a private call")
    };
    let start = rig.handle(Event::Command { token: 7, source: CommandSource::Administrator, command: START });
    assert_eq!(told(&start), json!({ "cancel": false, "server-name": "server1", "state": "hot-standby" }));
    let id = Rig::call(&start, "ha-maintenance-notify");
    rig.handle(Event::CallDone { id, result: done(json!({})) });
    let cancel =
        rig.handle(Event::Command { token: 8, source: CommandSource::Administrator, command: CANCEL });
    assert_eq!(told(&cancel), json!({ "cancel": true, "server-name": "server1", "state": "hot-standby" }));
}

/// A page of an administrator's copy may take minutes.
#[test]
fn maintenance_does_not_wait_for_a_copy() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    let line = |actions: &[Action], name: &str| {
        let id = Rig::call(actions, name);
        actions.iter().find_map(|action| match action {
            Action::Call(call) if call.id == id => Some(call.line),
            _ => None,
        })
    };
    let copy = HaCommand::Sync { server_name: "server2".into(), max_period_s: None };
    let by_hand = |token, command| Event::Command { token, source: CommandSource::Administrator, command };
    let copying = rig.handle(by_hand(8, copy));
    assert_eq!(line(&copying, "dhcp-disable"), Some(Line::Copy));
    let start = rig.handle(by_hand(7, START));
    assert_eq!(line(&start, "ha-maintenance-notify"), Some(Line::Private));
    let id = Rig::call(&start, "ha-maintenance-notify");
    rig.handle(Event::CallDone { id, result: done(json!({})) });
    assert_eq!(rig.machine.state(), OwnState::PartnerInMaintenance);
}

/// G1: no waiting for `max-response-delay`, and no proof.
#[test]
fn the_partner_in_maintenance_is_taken_over_from_at_its_first_silence() {
    for loss in [Kind::Failed, Kind::HeartbeatFailed] {
        let mut rig = Rig::in_state(Role::Standby, OwnState::HotStandby, PartnerState::HotStandby);
        rig.machine.relationship.auto_failover = false;
        run(&mut rig, START, done(json!({})));
        assert_eq!(rig.machine.view().unwrap().updates, UpdateMode::Send, "it is still told");
        feed(&mut rig, loss);
        assert_eq!(rig.machine.state(), OwnState::PartnerDown);
        assert!(rig.machine.view().unwrap().scopes.primary, "its clients are not left alone");
    }
}

#[test]
fn in_maintenance_a_silent_survivor_is_taken_over_from_only_with_proof() {
    for mode in [Mode::HotStandby, Mode::LoadBalancing] {
        let normal = mode.normal_state();
        let mut rig = Rig::of(relationship(mode, Role::Primary), normal, normal.as_seen_by_partner());
        rig.command(CommandSource::Partner, notify(false, None));
        rig.heartbeat_reply("partner-in-maintenance", 0, 0);
        rig.wait_until(11.0);
        rig.end_heartbeat(Err("refused".into()));
        rig.wait_until(61.0);
        let view = rig.machine.view().unwrap();
        assert_eq!((rig.machine.state(), view.scopes), (OwnState::InMaintenance, Scopes::NONE));
        assert!(view.service_on && view.interrupted, "it listens, and answers nobody");
        rig.unanswered(1..=3, 11);
        assert_eq!(rig.machine.state(), OwnState::PartnerDown, "{mode:?}");
    }
}

#[test]
fn maintenance_that_is_forgotten_ends_after_ten_minutes() {
    let mut rig = Rig::in_state(Role::Standby, OwnState::HotStandby, PartnerState::HotStandby);
    rig.command(CommandSource::Partner, notify(false, None));
    for second in 0..600 {
        rig.wait_until(f64::from(second));
        rig.heartbeat_reply("partner-down", 0, 0);
        assert_eq!(rig.machine.state(), OwnState::InMaintenance, "{second}");
    }
    rig.wait_until(600.0);
    assert_eq!(rig.machine.state(), OwnState::Syncing, "it copies, and comes back");
}

/// Both administrators ask at the same time: neither server may rest for the other.
#[test]
fn a_server_that_asks_its_partner_to_rest_does_not_rest_for_it() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    let event = Event::Command { token: 7, source: CommandSource::Administrator, command: START };
    assert_eq!(Rig::answers(&rig.handle(event)), Vec::new(), "the partner is asked first");
    let reply = rig.command(CommandSource::Partner, notify(false, None));
    assert_eq!(reply.result, 1001);
    assert_eq!(rig.machine.state(), OwnState::HotStandby);
}

/// ALC-52: what was given alone and is nowhere else is sent before the cache answers with it.
#[test]
fn shards_do_not_rely_on_what_a_kea_has_copied_nor_on_a_copy_that_is_outdated() {
    for (tandem, served) in [(true, false), (true, true), (false, false)] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::PartnerDown, PartnerState::Syncing);
        let say = |rig: &mut Rig, state: &str| match tandem {
            true => rig.tandem_heartbeat(state, 0, json!({})),
            false => rig.heartbeat_reply(state, 0, 0),
        };
        say(&mut rig, "syncing");
        rig.command(CommandSource::Partner, disable(Origin::Id(2000), Some(60)));
        let notify = HaCommand::SyncCompleteNotify { origin_id: Some(2000), server_name: None };
        rig.command(CommandSource::Partner, notify);
        if served {
            // It was away when it had copied, and each time when it was told to copy again.
            rig.end_heartbeat(Err("timed out".into()));
            rig.machine.resets = u32::MAX;
        }
        say(&mut rig, "ready");
        let view = rig.machine.view().unwrap();
        assert_eq!((rig.machine.state(), view.updates), (OwnState::HotStandby, UpdateMode::Send));
        assert_eq!(view.partner_is_behind, !tandem || served, "tandem {tandem}, served since {served}");
    }
}
