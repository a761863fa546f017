//! The HA machine by its rules: heartbeats, deadlines, locks, clocks, refusals.

use serde_json::{Value, json};

use super::super::command::{HaCommand, Origin, result};
use super::super::relationship::PeerName;
use super::event_tests::{Kind, feed};
use super::rig::{Rig, WALL_S, at, calls, client, logged, relationship};
use super::*;
use crate::engine::message::Asked;
use crate::http::rfc1123_date;

// ---- 4.1: what a state means ------------------------------------------------------------------------------

#[test]
fn service_scope_and_updates_follow_the_state() {
    for (role, state, service, scope, updates) in [
        (Role::Primary, OwnState::Waiting, false, false, UpdateMode::None),
        (Role::Primary, OwnState::Syncing, false, false, UpdateMode::None),
        (Role::Primary, OwnState::Ready, false, false, UpdateMode::None),
        (Role::Primary, OwnState::HotStandby, true, true, UpdateMode::Send),
        (Role::Standby, OwnState::HotStandby, true, false, UpdateMode::Send),
        (Role::Primary, OwnState::PartnerDown, true, true, UpdateMode::None),
        (Role::Standby, OwnState::PartnerDown, true, true, UpdateMode::None),
        (Role::Primary, OwnState::Terminated, true, true, UpdateMode::None),
        (Role::Standby, OwnState::Terminated, true, false, UpdateMode::None),
    ] {
        let mut rig = Rig::in_state(role, state, PartnerState::Unknown);
        let view = Arc::clone(rig.machine.view().unwrap());
        let seen = (view.service_on, view.scopes.primary, view.updates);
        assert_eq!(seen, (service, scope, updates), "{role:?} {state}");
        let reply = rig
            .command(CommandSource::Partner, HaCommand::Heartbeat { server_name: None, fingerprint: None });
        let arguments = reply.arguments.unwrap();
        assert_eq!(arguments["state"], state.name());
        let scopes = if scope { json!(["server1"]) } else { json!([]) };
        assert_eq!(arguments["scopes"], scopes, "{role:?} {state}");
    }
}

#[test]
fn without_lease_updates_nothing_is_counted() {
    let mut rig = Rig::with(Relationship {
        send_lease_updates: false,
        ..relationship(Mode::HotStandby, Role::Primary)
    });
    rig.handle(Event::Start);
    assert_eq!(rig.machine.view().unwrap().updates, UpdateMode::Off);
}

#[test]
fn the_epoch_rises_only_with_a_change() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    let epoch = rig.machine.view().unwrap().epoch;
    rig.heartbeat_reply("hot-standby", 0, 0);
    assert_eq!(rig.machine.view().unwrap().epoch, epoch);
    let actions = feed(&mut rig, Kind::DisableByPartner);
    assert_eq!(rig.machine.view().unwrap().epoch, epoch + 1);
    assert!(matches!(actions[0], Action::Publish(_)), "published before the answer");
}

#[test]
fn an_unknown_server_name_is_refused_by_name() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    let stranger = Some("server9".to_owned());
    for command in [
        HaCommand::Heartbeat { server_name: stranger.clone(), fingerprint: None },
        HaCommand::Reset { server_name: stranger.clone() },
        HaCommand::SyncCompleteNotify { origin_id: Some(2000), server_name: stranger },
    ] {
        let reply = rig.command(CommandSource::Partner, command);
        assert_eq!(
            (reply.result, reply.text.as_deref()),
            (1, Some("server9 matches no configured 'server-name'"))
        );
    }
    assert_eq!(rig.machine.state(), OwnState::HotStandby);
}

#[test]
fn unsent_counters_of_the_shards_are_summed() {
    let mut rig = Rig::new(Role::Primary);
    for (shard, total) in [(0, 3), (1, 4), (0, 5)] {
        rig.handle(Event::UnsentUpdates { shard, total });
    }
    let reply =
        rig.command(CommandSource::Partner, HaCommand::Heartbeat { server_name: None, fingerprint: None });
    assert_eq!(reply.arguments.unwrap()["unsent-update-count"], 9);
}

// ---- 4.5, 8 no. 2 and 3: heartbeats and deadlines ---------------------------------------------------------

#[test]
fn the_partner_is_polled_at_start_then_every_second_until_both_are_normal() {
    let mut rig = Rig::new(Role::Standby);
    assert_eq!(calls(&rig.handle(Event::Start)).len(), 1);
    rig.heartbeat_reply("waiting", 0, 0);
    assert_eq!(rig.machine.next_timeout(), Some(at(1.0).monotonic_ns));
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.heartbeat_reply("hot-standby", 0, 0);
    assert_eq!(rig.machine.timer(Timer::Heartbeat), Some(at(10.0).monotonic_ns));
}

#[test]
fn heartbeat_delay_zero_never_polls_and_never_leaves_waiting() {
    let mut rig =
        Rig::with(Relationship { heartbeat_delay_ms: 0, ..relationship(Mode::HotStandby, Role::Primary) });
    let mut actions = rig.handle(Event::Start);
    actions.extend(rig.wait_until(1_000.0));
    assert_eq!((calls(&actions), rig.machine.state()), (Vec::new(), OwnState::Waiting));
}

#[test]
fn alone_from_the_start_it_takes_over_when_interrupted_without_a_further_heartbeat() {
    let mut rig = Rig::new(Role::Standby);
    rig.handle(Event::Start);
    rig.end_heartbeat(Err("refused".into()));
    // The next heartbeat hangs: the deadline has a timer of its own.
    rig.wait_until(59.9);
    assert_eq!(rig.machine.state(), OwnState::Waiting);
    let actions = rig.wait_until(60.1);
    assert_eq!(rig.machine.state(), OwnState::PartnerDown);
    assert!(logged(&actions).contains(&"HA_COMMUNICATION_INTERRUPTED"));
    assert!(rig.service_on() && rig.machine.view().unwrap().interrupted);
}

#[test]
fn a_standby_needs_proof_by_traffic_and_a_primary_does_not() {
    for (role, max_unacked_clients, clients, state) in [
        (Role::Primary, 2, 0, OwnState::PartnerDown),
        (Role::Standby, 0, 0, OwnState::PartnerDown),
        (Role::Standby, 2, 2, OwnState::HotStandby),
        (Role::Standby, 2, 3, OwnState::PartnerDown),
    ] {
        let mut rig = Rig::in_state(role, OwnState::HotStandby, PartnerState::HotStandby);
        rig.machine.relationship.max_unacked_clients = max_unacked_clients;
        rig.end_heartbeat(Err("refused".into()));
        // Reports before the interruption count for nothing.
        for number in 0..3 {
            rig.handle(Event::Unanswered { client: client(number), secs: 60, asked: Asked::Any });
        }
        rig.wait_until(61.0);
        rig.unanswered((0..clients).chain(0..clients), 11);
        assert_eq!(rig.machine.state(), state, "{role:?} {max_unacked_clients} {clients}");
    }
}

/// The link alone is cut: the primary makes offers, and acknowledges nothing before it finds out that it is alone, which
/// may take it a heartbeat longer than the standby.
#[test]
fn a_standby_does_not_take_over_from_a_primary_that_makes_offers() {
    use Asked::{Any, One, Other};
    // Each step: who asks for what, how many seconds later.
    type Step = (std::ops::RangeInclusive<u8>, Asked, f64);
    let rows: &[(&str, &[Step], OwnState)] = &[
        ("nobody is made an offer", &[(1..=3, Any, 0.6)], OwnState::PartnerDown),
        ("who was made one of before goes on taking it", &[(1..=9, One, 8.0)], OwnState::HotStandby),
        ("who was made one just now takes it", &[(1..=3, Any, 0.4), (2..=2, One, 8.0)], OwnState::HotStandby),
        ("it was made too late", &[(1..=3, Any, 0.6), (2..=2, One, 0.0)], OwnState::PartnerDown),
        (
            "many are made offers, again and again",
            &[(1..=9, Any, 0.1), (1..=9, One, 4.0), (1..=9, Any, 0.1), (1..=9, One, 8.0)],
            OwnState::HotStandby,
        ),
        ("leases end", &[(1..=3, Other, 0.6)], OwnState::PartnerDown),
        (
            "it makes offers, and acknowledges nothing for good",
            &[(1..=9, Any, 0.1), (1..=9, One, 75.0), (1..=9, One, 11.0), (1..=9, One, 0.6)],
            OwnState::PartnerDown,
        ),
        (
            "it acknowledges by now, and who has waited for long comes back",
            &[
                (1..=9, Any, 0.1),
                (1..=9, One, 75.0),
                (1..=9, One, 0.1),
                (5..=9, Any, 0.1),
                (5..=9, One, 20.0),
            ],
            OwnState::HotStandby,
        ),
    ];
    for (case, steps, state) in rows {
        let mut rig = Rig::in_state(Role::Standby, OwnState::HotStandby, PartnerState::HotStandby);
        rig.machine.relationship.max_unacked_clients = 2;
        rig.end_heartbeat(Err("refused".into()));
        let mut at_s = 61.0;
        rig.wait_until(at_s);
        for (clients, asked, pause_s) in *steps {
            for number in clients.clone() {
                rig.handle(Event::Unanswered { client: client(number), secs: 11, asked: *asked });
            }
            at_s += pause_s;
            rig.wait_until(at_s);
        }
        assert_eq!(rig.machine.state(), *state, "{case}");
    }
}

#[test]
fn malformed_answers_are_failed_heartbeats() {
    let good_date = rfc1123_date(WALL_S);
    for body in [
        String::new(),
        "[]".into(),
        "{}".into(),
        r#"{ "result": 0, "text": "an object is an error" }"#.into(),
        r#"[ { "result": "0" } ]"#.into(),
        r#"[ { "result": 1, "text": "no" } ]"#.into(),
        r#"[ { "result": 0, "arguments": { "state": "hot-standby", "date-time": "yesterday" } } ]"#.into(),
        format!(r#"[ {{ "result": 0, "arguments": {{ "state": "asleep", "date-time": "{good_date}" }} }} ]"#),
    ] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        let actions = rig.end_heartbeat(Ok(body.clone().into_bytes()));
        assert_eq!(rig.machine.partner_state(), PartnerState::Unavailable, "{body}");
        assert_eq!(logged(&actions), ["HA_HEARTBEAT_FAILED"], "{body}");
    }
}

#[test]
fn a_silent_partner_is_logged_at_once_then_once_a_minute_and_when_it_is_back() {
    let mut rig = Rig::new(Role::Standby);
    rig.handle(Event::Start);
    let mut failures = 0;
    for second in 0..70 {
        rig.wait_until(f64::from(second));
        let actions = rig.end_heartbeat(Err("refused".into()));
        failures += logged(&actions).iter().filter(|id| id.ends_with("COMMUNICATIONS_FAILED")).count();
    }
    assert_eq!(failures, 2);
    let actions = rig.heartbeat_reply("waiting", 0, 0);
    assert!(logged(&actions).contains(&"HA_COMMUNICATION_RESTORED"));
}

// ---- 4.10, 4.4 (a), (f) -----------------------------------------------------------------------------------

#[test]
fn clocks_apart_are_warned_of_once_a_minute_and_then_end_it() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    for (second, skew_s, warned) in
        [(0.0, 30, false), (10.0, 31, true), (20.0, -40, false), (69.0, 60, false), (71.0, -60, true)]
    {
        rig.wait_until(second);
        let actions = rig.heartbeat_reply("hot-standby", skew_s, 0);
        assert_eq!(logged(&actions).contains(&"HA_HIGH_CLOCK_SKEW"), warned, "{second} {skew_s}");
    }
    let actions = rig.heartbeat_reply("hot-standby", -61, 0);
    assert_eq!(rig.machine.state(), OwnState::Terminated);
    assert!(logged(&actions).contains(&"HA_HIGH_CLOCK_SKEW_CAUSES_TERMINATION"));
    let polls = calls(&rig.wait_until(1_000.0)).len();
    assert!((1..=31).contains(&polls), "a terminated server polls slowly: {polls}");
    assert!(rig.service_on());
}

#[test]
fn refused_clients_end_it_unless_forgiven() {
    let settled = |outcome, number| Event::UpdatesSettled { outcome, client: client(number) };
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.handle(settled(UpdateOutcome::Conflict, 1));
    assert!(rig.machine.view().unwrap().report_acks);
    assert_eq!(rig.machine.partner_state(), PartnerState::HotStandby, "a conflict is no failure");
    rig.handle(settled(UpdateOutcome::Acked, 1));
    assert!(!rig.machine.view().unwrap().report_acks);
    rig.handle(settled(UpdateOutcome::Conflict, 2));
    rig.handle(settled(UpdateOutcome::Conflict, 2));
    assert_eq!(rig.machine.state(), OwnState::HotStandby, "one client counts once");
    rig.handle(settled(UpdateOutcome::Conflict, 3));
    assert_eq!(rig.machine.state(), OwnState::Terminated);
    let mut never = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    never.machine.relationship.max_rejected_lease_updates = 0;
    for number in 0..20 {
        never.handle(settled(UpdateOutcome::Conflict, number));
    }
    assert_eq!(never.machine.state(), OwnState::HotStandby);
}

/// Of a partner that answers heartbeats as if nothing were wrong; the relationship's limit is two clients.
#[test]
fn a_partner_that_refuses_everything_ends_it_and_the_server_serves_alone() {
    for (says, ends) in [("hot-standby", true), ("waiting", false), ("partner-down", false)] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        rig.heartbeat_reply("hot-standby", 0, 0);
        for number in [1, 2] {
            rig.handle(Event::UpdatesSettled { outcome: UpdateOutcome::Refused, client: client(number) });
        }
        assert_eq!(rig.machine.partner_state(), PartnerState::HotStandby, "an answer is a sign of life");
        assert_eq!(rig.machine.state(), OwnState::HotStandby, "a heartbeat has to tell first");
        assert!(rig.machine.view().unwrap().report_acks);
        for second in (10..=120).step_by(10) {
            rig.wait_until(f64::from(second));
            rig.heartbeat_reply("hot-standby", 0, 0);
            assert_eq!(rig.machine.state(), OwnState::HotStandby, "there may be room again at {second} s");
        }
        rig.wait_until(130.0);
        rig.heartbeat_reply(says, 0, 0);
        assert_eq!(rig.machine.state() == OwnState::Terminated, ends, "{says}");
        assert!(!ends || rig.service_on());
    }
}

#[test]
fn a_failed_update_makes_the_partner_unavailable_until_the_next_heartbeat_a_second_later() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.heartbeat_reply("hot-standby", 0, 0);
    feed(&mut rig, Kind::Failed);
    assert_eq!(rig.machine.partner_state(), PartnerState::Unavailable);
    assert_eq!(rig.machine.next_timeout(), Some(at(1.0).monotonic_ns));
    rig.heartbeat_reply("hot-standby", 0, 0);
    assert_eq!(
        (rig.machine.state(), rig.machine.partner_state()),
        (OwnState::HotStandby, PartnerState::HotStandby)
    );
}

#[test]
fn a_partner_that_stays_terminated_is_followed_after_ten_minutes() {
    let mut rig = Rig::new(Role::Primary);
    rig.handle(Event::Start);
    rig.heartbeat_reply("terminated", 0, 0);
    for second in 1..=599 {
        rig.wait_until(f64::from(second));
        rig.heartbeat_reply("terminated", 0, 0);
    }
    assert_eq!(rig.machine.state(), OwnState::Waiting);
    rig.wait_until(600.5);
    assert_eq!(rig.machine.state(), OwnState::Terminated);
    let reply = rig.command(CommandSource::Partner, HaCommand::Reset { server_name: None });
    assert_eq!((reply.result, rig.machine.state()), (0, OwnState::Waiting), "ten minutes begin anew");
}

#[test]
fn a_ready_partner_that_served_meanwhile_is_copied_first() {
    for (unsent, state) in [(0, OwnState::HotStandby), (3, OwnState::Waiting)] {
        let mut rig = Rig::in_state(Role::Standby, OwnState::PartnerDown, PartnerState::Unavailable);
        // Polled twice before it is ready: the news must not be forgotten.
        rig.heartbeat_reply("syncing", 0, unsent);
        rig.command(CommandSource::Partner, disable(Origin::Id(2000), Some(60)));
        let notify = HaCommand::SyncCompleteNotify { origin_id: Some(2000), server_name: None };
        rig.command(CommandSource::Partner, notify);
        rig.heartbeat_reply("ready", 0, unsent);
        let copies = rig.machine.state() == OwnState::Syncing;
        assert_eq!(if copies { OwnState::Waiting } else { rig.machine.state() }, state, "{unsent}");
    }
}

// ---- 4.7: locks -------------------------------------------------------------------------------------------

pub(super) fn disable(origin: Origin, max_period_s: Option<u64>) -> HaCommand {
    HaCommand::DhcpDisable { origin, max_period_s }
}

#[test]
fn both_dialects_of_enable_and_notify_release_the_partner_s_lock() {
    let notify = |origin_id| HaCommand::SyncCompleteNotify { origin_id, server_name: None };
    let enable = |origin| HaCommand::DhcpEnable { origin };
    for (label, lock, release, released) in [
        ("2.2 both", Origin::Partner, notify(None), true),
        ("2.2 locks, 3.0 notifies", Origin::Partner, notify(Some(2000)), true),
        ("3.0 both", Origin::Id(2001), notify(Some(2001)), true),
        ("3.0 locks, notification without id", Origin::Id(2001), notify(None), true),
        ("another's id", Origin::Id(2001), notify(Some(2000)), false),
        ("2.2 enable", Origin::Partner, enable(Origin::Partner), true),
        ("3.0 enable", Origin::Id(2000), enable(Origin::Id(2000)), true),
        ("no origin is the flag of 2.2", Origin::Id(2000), enable(Origin::User), true),
        ("which is none of a later release", Origin::Id(2001), enable(Origin::User), false),
        ("no origin is the partner's flag too", Origin::User, notify(None), true),
        ("and so is the user's number", Origin::Id(1), enable(Origin::Partner), true),
    ] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        rig.command(CommandSource::Partner, disable(lock, Some(60)));
        assert!(!rig.service_on(), "{label}");
        rig.command(CommandSource::Partner, release);
        assert_eq!(rig.service_on(), released, "{label}");
    }
}

/// A backup that copies takes a lock under the number that the partner's has, and says that it is done.
#[test]
fn a_backup_that_has_copied_is_not_taken_for_the_partner() {
    use CommandSource::{Backup, Partner};
    let name = |name: &str| Some(name.to_owned());
    // Whose address, which name, whether the partner is awaited then.
    for (source, server_name, awaited) in [
        (Backup(1), None, false),
        (Backup(1), name("backup"), false),
        (Partner, name("backup"), false),
        (Backup(1), name("server2"), true),
        (Partner, name("server2"), true),
        (Partner, None, true),
    ] {
        let mut with_backup = relationship(Mode::HotStandby, Role::Primary);
        let backup = PeerName { name: "backup".into(), url: String::new(), role: Role::Backup };
        with_backup.others.push(backup);
        let label = format!("{source:?} {server_name:?}");
        let mut rig = Rig::of(with_backup, OwnState::PartnerDown, PartnerState::Unavailable);
        rig.command(source, disable(Origin::Id(2000), Some(60)));
        assert!(!rig.service_on(), "{label}");
        let notify = HaCommand::SyncCompleteNotify { origin_id: Some(2000), server_name };
        assert_eq!(rig.command(source, notify).result, 0, "{label}");
        assert_eq!(rig.service_on(), !awaited, "{label}");
        let actions = rig.heartbeat_reply("ready", 0, 0);
        let resets = calls(&actions).iter().any(|(_, name)| name == "ha-reset");
        assert_eq!(resets, !awaited, "{label}: the partner has not copied");
    }
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.command(Partner, disable(Origin::Id(2000), Some(60)));
    rig.command(Backup(1), disable(Origin::Partner, Some(60)));
    rig.command(Backup(1), HaCommand::SyncCompleteNotify { origin_id: None, server_name: None });
    assert!(!rig.service_on(), "the partner goes on copying");
    rig.command(Partner, HaCommand::SyncCompleteNotify { origin_id: None, server_name: None });
    assert!(rig.service_on());
    let notify = HaCommand::MaintenanceNotify { cancel: false, server_name: None, state: None };
    assert_eq!(rig.command(Backup(1), notify).result, result::MAINTENANCE_NOT_ALLOWED);
    rig.command(Backup(1), HaCommand::Stopping { server_name: None });
    assert_eq!(rig.machine.state(), OwnState::HotStandby, "nor is its end the partner's");
}

/// What comes in on the HA port is the partner's, whatever it says of itself.
#[test]
fn an_administrator_s_lock_is_out_of_the_partner_s_reach() {
    let enable = |origin| HaCommand::DhcpEnable { origin };
    let notify = |origin_id| HaCommand::SyncCompleteNotify { origin_id, server_name: None };
    for (label, command) in [
        ("a disable without an origin", disable(Origin::User, Some(5))),
        ("a disable by the user's number", disable(Origin::Id(1), Some(5))),
        ("a disable by the number of the state's lock", disable(Origin::Id(1000), Some(5))),
        ("an enable without an origin", enable(Origin::User)),
        ("an enable by the user's number", enable(Origin::Id(1))),
        ("an enable by 2.2", enable(Origin::Partner)),
        ("a notification with the user's number", notify(Some(1))),
        ("a notification without one", notify(None)),
    ] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
        rig.command(CommandSource::Administrator, disable(Origin::User, None));
        rig.command(CommandSource::Partner, command);
        for second in 1..20 {
            rig.wait_until(f64::from(second));
            rig.heartbeat_reply("hot-standby", 0, 0);
        }
        assert!(!rig.service_on(), "{label}");
        let state = rig.machine.status_dhcp_state();
        assert_eq!(state["disabled-by-user"], true, "{label}");
        assert_eq!(state["disabled-by-remote-command"], json!([]), "{label}: the partner's has run out");
        rig.command(CommandSource::Administrator, enable(Origin::User));
        assert!(rig.service_on(), "{label}");
    }
}

/// The service was on again between the notification and the heartbeat that shows the partner ready.
#[test]
fn a_partner_whose_copy_lacks_what_was_given_since_copies_again() {
    let notify = || HaCommand::SyncCompleteNotify { origin_id: Some(2000), server_name: None };
    let reset = |actions: &[Action]| calls(actions).into_iter().find(|(_, name)| name == "ha-reset");
    let done = || Reply::success("").to_http_body();
    for (label, wait_s, up_to_date) in [("heard at once", 0.1, true), ("heard too late", 20.1, false)] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::PartnerDown, PartnerState::Syncing);
        rig.command(CommandSource::Partner, disable(Origin::Id(2000), Some(60)));
        rig.command(CommandSource::Partner, notify());
        rig.wait_until(wait_s);
        assert_eq!(rig.service_on(), !up_to_date, "{label}");
        let first = rig.heartbeat_reply("ready", 0, 0);
        assert_eq!(rig.machine.state() == OwnState::HotStandby, up_to_date, "{label}");
        let Some((id, _)) = reset(&first) else {
            assert!(up_to_date, "{label}");
            continue;
        };
        assert!(rig.service_on(), "its clients are served meanwhile");
        let again = rig.heartbeat_reply("ready", 0, 0);
        assert_eq!(reset(&again), None, "sent once");
        rig.handle(Event::CallDone { id, result: Ok(done()) });
        rig.heartbeat_reply("syncing", 0, 0);
        rig.command(CommandSource::Partner, disable(Origin::Id(2000), Some(60)));
        rig.command(CommandSource::Partner, notify());
        rig.heartbeat_reply("ready", 0, 0);
        assert_eq!(rig.machine.state(), OwnState::HotStandby);
    }
}

/// It does not know the command, or never says that its copy is complete.
#[test]
fn a_partner_that_cannot_be_told_to_copy_is_taken_as_it_is() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::PartnerDown, PartnerState::Waiting);
    for _ in 0..RESETS_MAX {
        let actions = rig.heartbeat_reply("ready", 0, 0);
        assert_eq!(rig.machine.state(), OwnState::PartnerDown);
        let (id, _) = calls(&actions).into_iter().find(|(_, name)| name == "ha-reset").expect("a call");
        rig.handle(Event::CallDone { id, result: Ok(Reply::unsupported("ha-reset").to_http_body()) });
    }
    rig.heartbeat_reply("ready", 0, 0);
    assert_eq!(rig.machine.state(), OwnState::HotStandby);
}

#[test]
fn a_partner_s_lock_always_ends_and_an_administrator_s_need_not() {
    use CommandSource::{Administrator, Partner};
    for (source, origin, period, off_s, on_s) in [
        (Partner, Origin::Partner, Some(3), 2.9, Some(3.1)),
        (Partner, Origin::Partner, None, 599.0, Some(601.0)),
        (Partner, Origin::User, None, 599.0, Some(601.0)),
        (Administrator, Origin::User, Some(3), 2.9, Some(3.1)),
        (Administrator, Origin::User, None, 100_000.0, None),
    ] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::Terminated, PartnerState::Terminated);
        rig.command(source, disable(origin, period));
        let live_until = |rig: &mut Rig, end_s: f64| {
            while rig.now.monotonic_ns + 30 * NS_PER_S < at(end_s).monotonic_ns {
                rig.heartbeat_reply("terminated", 0, 0);
                rig.wait_until((rig.now.monotonic_ns / NS_PER_S) as f64 + 29.0);
            }
            rig.wait_until(end_s);
        };
        live_until(&mut rig, off_s);
        assert!(!rig.service_on(), "{source:?} {origin:?} {period:?}");
        if let Some(on_s) = on_s {
            live_until(&mut rig, on_s);
            assert!(rig.service_on(), "{source:?} {origin:?} {period:?}");
        }
    }
}

/// `sync-timeout` may be hours, and then so is the lock of whoever copies.
#[test]
fn a_partner_that_is_judged_dead_holds_nobody_s_service() {
    let hours = || disable(Origin::Id(2000), Some(36_000));
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.command(CommandSource::Partner, hours());
    rig.wait_until(59.0);
    assert!(!rig.service_on());
    rig.end_heartbeat(Err("timed out".into()));
    rig.wait_until(61.0);
    assert_eq!((rig.machine.state(), rig.service_on()), (OwnState::PartnerDown, true));

    // It comes back, and dies in the middle of its copy.
    rig.command(CommandSource::Partner, hours());
    rig.command(CommandSource::Backup(1), hours());
    assert!(!rig.service_on(), "a copier is no dead partner");
    rig.wait_until(115.0);
    rig.command(CommandSource::Partner, hours());
    rig.end_heartbeat(Err("timed out".into()));
    rig.wait_until(174.0);
    assert!(!rig.service_on(), "a Kea that copies may not answer heartbeats");
    rig.command(CommandSource::Administrator, HaCommand::DhcpEnable { origin: Origin::Partner });
    rig.command(CommandSource::Partner, hours());
    rig.wait_until(176.0);
    assert!(!rig.service_on());
    rig.command(CommandSource::Backup(1), HaCommand::DhcpEnable { origin: Origin::Partner });
    rig.wait_until(240.0);
    assert!(rig.service_on());
}

/// A lock that ran out between two pages: what was given then is on a page that has been read already.
#[test]
fn a_copy_during_which_clients_were_served_is_to_be_made_again() {
    for (label, pause_s, whole) in [("in time", 2.0, true), ("too late", 4.0, false)] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::PartnerDown, PartnerState::Syncing);
        rig.command(CommandSource::Partner, disable(Origin::Partner, Some(3)));
        rig.wait_until(pause_s);
        assert_eq!(rig.service_on(), !whole, "{label}");
        rig.command(CommandSource::Partner, disable(Origin::Partner, Some(3)));
        let notify = || HaCommand::SyncCompleteNotify { origin_id: None, server_name: None };
        rig.command(CommandSource::Partner, notify());
        rig.heartbeat_reply("ready", 0, 0);
        assert_eq!(rig.machine.state() == OwnState::HotStandby, whole, "{label}");
        if !whole {
            rig.command(CommandSource::Partner, disable(Origin::Partner, Some(3)));
            rig.command(CommandSource::Partner, notify());
            rig.heartbeat_reply("ready", 0, 0);
            assert_eq!(rig.machine.state(), OwnState::HotStandby, "the second copy is whole");
        }
    }
}

#[test]
fn a_copier_that_comes_back_every_two_seconds_keeps_the_service_off() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::Terminated, PartnerState::Terminated);
    for second in 0..10 {
        rig.wait_until(f64::from(second) * 2.0);
        rig.command(CommandSource::Partner, disable(Origin::Partner, Some(3)));
        assert!(!rig.service_on());
    }
    rig.wait_until(21.1);
    assert!(rig.service_on());
}

/// 8 no. 8: alone, told that the copy is complete.
#[test]
fn after_the_notification_a_lonely_source_serves_again_whatever_happens_next() {
    let notified = || {
        let mut rig = Rig::in_state(Role::Primary, OwnState::PartnerDown, PartnerState::Syncing);
        rig.command(CommandSource::Partner, disable(Origin::Id(2000), Some(60)));
        let command = HaCommand::SyncCompleteNotify { origin_id: Some(2000), server_name: None };
        rig.command(CommandSource::Partner, command);
        assert!(!rig.service_on(), "nothing is granted before the partner is heard");
        rig
    };
    let mut ready = notified();
    ready.heartbeat_reply("ready", 0, 0);
    assert_eq!((ready.machine.state(), ready.service_on()), (OwnState::HotStandby, true));
    let mut failed = notified();
    failed.end_heartbeat(Err("refused".into()));
    assert_eq!((failed.machine.state(), failed.service_on()), (OwnState::PartnerDown, true));
    let mut syncing = notified();
    syncing.heartbeat_reply("syncing", 0, 0);
    assert!(!syncing.service_on());
    syncing.heartbeat_reply("waiting", 0, 0);
    assert!(syncing.service_on());
    let mut hangs = notified();
    hangs.wait_until(20.1);
    assert!(hangs.service_on(), "the deadline of two heartbeats");
}

#[test]
fn a_normal_server_serves_at_once_after_the_notification() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::Syncing);
    rig.command(CommandSource::Partner, disable(Origin::Partner, Some(60)));
    rig.command(CommandSource::Partner, HaCommand::SyncCompleteNotify { origin_id: None, server_name: None });
    assert!(rig.service_on());
}

#[test]
fn a_partner_of_another_mode_is_warned_of_once_and_nothing_is_served() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    let first = rig.heartbeat_reply("load-balancing", 0, 0);
    assert!(logged(&first).contains(&"HA_INVALID_PARTNER_STATE_LOAD_BALANCING"));
    assert_eq!((rig.machine.state(), rig.service_on()), (OwnState::Waiting, false));
    let second = rig.heartbeat_reply("load-balancing", 0, 0);
    assert_eq!(logged(&second), Vec::<&str>::new());
}

// ---- 0.5 --------------------------------------------------------------------------------------------------

#[test]
fn the_partner_s_generation_is_asked_once_per_appearance() {
    let tandem = json!({ "pid": 1, "tandem": {} });
    for (arguments, knows) in
        [(json!({ "dhcp-state": {} }), true), (tandem, true), (json!({ "pid": 1 }), false)]
    {
        let mut rig = Rig::new(Role::Standby);
        rig.handle(Event::Start);
        let id = Rig::call(&rig.heartbeat_reply("waiting", 0, 0), "status-get");
        rig.handle(Event::CallDone { id, result: Err("timed out".into()) });
        let id = Rig::call(&rig.heartbeat_reply("waiting", 0, 0), "status-get");
        assert!(!calls(&rig.heartbeat_reply("waiting", 0, 0)).iter().any(|(_, name)| name == "status-get"));
        let body = Reply::success("").with_arguments(arguments).to_http_body();
        rig.handle(Event::CallDone { id, result: Ok(body) });
        let knowledge = |rig: &Rig| {
            let view = rig.machine.view().unwrap();
            (view.partner_knows_released, view.sends_released)
        };
        assert_eq!(knowledge(&rig), (knows, knows));
        rig.end_heartbeat(Err("refused".into()));
        assert_eq!(
            knowledge(&rig),
            (false, knows),
            "what comes back may be older, and copy before it is heard"
        );
        for nothing in [Err("timed out".into()), Ok(Reply::error("not now").to_http_body())] {
            let id = Rig::call(&rig.heartbeat_reply("waiting", 0, 0), "status-get");
            rig.handle(Event::CallDone { id, result: nothing });
            assert_eq!(knowledge(&rig), (false, knows), "it has said nothing");
        }
        let id = Rig::call(&rig.heartbeat_reply("waiting", 0, 0), "status-get");
        let older = Reply::success("").with_arguments(json!({ "pid": 2 })).to_http_body();
        rig.handle(Event::CallDone { id, result: Ok(older) });
        assert_eq!(knowledge(&rig), (false, false), "it is older");
    }
}

#[test]
fn status_says_what_the_reference_lists() {
    let mut rig = Rig::in_state(Role::Standby, OwnState::HotStandby, PartnerState::HotStandby);
    rig.heartbeat_reply("hot-standby", 2, 0);
    rig.wait_until(3.0);
    let status = rig.machine.status_high_availability(rig.now);
    let remote = &status[0]["ha-servers"]["remote"];
    assert_eq!((remote["age"].as_u64(), remote["clock-skew"].as_i64()), (Some(3), Some(2)));
    assert_eq!(remote["role"], "primary");
    assert_eq!(status[0]["ha-servers"]["local"]["state"], "hot-standby");
    rig.command(CommandSource::Partner, disable(Origin::Id(2001), Some(9)));
    assert_eq!(rig.machine.status_dhcp_state()["disabled-by-remote-command"], json!([2001]));
    let fresh = Rig::new(Role::Primary);
    let status = fresh.machine.status_high_availability(fresh.now);
    assert_eq!(status[0]["ha-servers"]["remote"]["in-touch"], false);
    assert_eq!(status[0]["ha-servers"]["local"]["system-time"], Value::Null);
}
