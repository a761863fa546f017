//! No state needs a human: `terminated` ends with its cause; pauses; the end of a server; other configurations.

use serde_json::json;

use super::super::command::{HaCommand, Origin};
use super::super::fingerprint::{MEMBER, SUBNETS_MEMBER, Sums};
use super::rig::{Rig, at, calls, client, command_of, logged, relationship};
use super::*;
use crate::ha::relationship::Pause;

fn conflict(number: u8) -> Event {
    Event::UpdatesSettled { outcome: UpdateOutcome::Conflict, client: client(number) }
}

fn terminated_by_skew() -> Rig {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.tandem_heartbeat("hot-standby", 61, json!({}));
    assert_eq!(rig.machine.state(), OwnState::Terminated);
    rig
}

fn terminated_by_refusals() -> Rig {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.tandem_heartbeat("hot-standby", 0, json!({}));
    rig.handle(conflict(1));
    rig.handle(conflict(2));
    assert_eq!(rig.machine.state(), OwnState::Terminated);
    rig
}

#[test]
fn clocks_that_are_right_again_end_a_termination_between_tandems() {
    let mut rig = terminated_by_skew();
    assert!(rig.service_on(), "default scopes are served meanwhile");
    for (skew_s, state) in [(61, OwnState::Terminated), (31, OwnState::Terminated), (30, OwnState::Waiting)] {
        rig.tandem_heartbeat("terminated", skew_s, json!({}));
        assert_eq!(rig.machine.state(), state, "{skew_s}");
    }
    rig.tandem_heartbeat("waiting", 0, json!({}));
    assert_eq!(
        rig.machine.state(),
        OwnState::Syncing,
        "the partner has followed, and the primary goes first"
    );
}

/// C14: a Kea stays terminated until somebody resets or restarts it; then it is followed.
#[test]
fn a_kea_partner_is_followed_when_it_has_been_reset() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.heartbeat_reply("terminated", 0, 0);
    assert_eq!(rig.machine.state(), OwnState::Terminated);
    for second in [600.0, 1_200.0, 7_200.0] {
        rig.wait_until(second);
        rig.heartbeat_reply("terminated", 0, 0);
        assert_eq!(rig.machine.state(), OwnState::Terminated, "it is not confused");
        assert!(rig.service_on());
    }
    rig.heartbeat_reply("waiting", 0, 0);
    assert_eq!(rig.machine.state(), OwnState::Syncing);
}

#[test]
fn after_refusals_it_tries_again_later_and_later() {
    let mut rig = terminated_by_refusals();
    let mut pauses_s = Vec::new();
    let mut second = 0.0;
    for _ in 0..3 {
        let began = second;
        while rig.machine.state() == OwnState::Terminated {
            second += 1.0;
            rig.wait_until(second);
            rig.tandem_heartbeat("terminated", 0, json!({}));
        }
        pauses_s.push(second - began);
        let now = rig.now;
        rig.machine.enter(now, OwnState::HotStandby, &mut Vec::new());
        rig.machine.communication.told(PartnerState::HotStandby);
        rig.handle(conflict(1));
        rig.handle(conflict(2));
        assert_eq!(rig.machine.state(), OwnState::Terminated);
    }
    assert_eq!(pauses_s, [30.0, 60.0, 120.0]);
    // Other parameters may have removed the cause.
    let faster =
        Relationship { max_rejected_lease_updates: 7, ..relationship(Mode::HotStandby, Role::Primary) };
    rig.handle(Event::Reconfigured(Box::new(faster)));
    rig.tandem_heartbeat("terminated", 0, json!({}));
    assert_ne!(rig.machine.state(), OwnState::Terminated);
}

#[test]
fn a_partner_that_begins_anew_is_followed_at_once() {
    let mut rig = terminated_by_refusals();
    rig.tandem_heartbeat("waiting", 0, json!({}));
    assert_eq!(rig.machine.state(), OwnState::Syncing);
}

/// The one that had a cause has lost sight of the other one, has been alone, and has come back to a terminated partner.
#[test]
fn of_two_that_are_terminated_because_of_each_other_neither_stays() {
    for (because, state) in [
        ("partner-terminated", OwnState::Waiting),
        ("clock-skew", OwnState::Terminated),
        ("lease-updates-rejected", OwnState::Terminated),
    ] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::PartnerDown, PartnerState::Unavailable);
        let more = json!({ "tandem-terminated-because": because });
        for _ in 0..2 {
            rig.tandem_heartbeat("terminated", 0, more.clone());
            assert_eq!(rig.machine.state(), state, "{because}");
        }
    }
}

#[test]
fn a_terminated_server_says_why_to_whoever_polls_it() {
    let because = |rig: &mut Rig| {
        let command = HaCommand::Heartbeat { server_name: None, fingerprint: None };
        let arguments = rig.command(CommandSource::Partner, command).arguments.unwrap();
        arguments.get("tandem-terminated-because").cloned()
    };
    assert_eq!(because(&mut terminated_by_skew()), Some(json!("clock-skew")));
    assert_eq!(because(&mut terminated_by_refusals()), Some(json!("lease-updates-rejected")));
    let mut follower = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    follower.tandem_heartbeat("terminated", 0, json!({}));
    assert_eq!(because(&mut follower), Some(json!("partner-terminated")));
    follower.tandem_heartbeat("waiting", 0, json!({}));
    assert_eq!(because(&mut follower), None);
}

/// While the partner does not know a subnet, it would refuse the same clients again.
#[test]
fn refusals_are_not_forgiven_while_subnets_differ() {
    let fingerprint =
        |subnets| Fingerprint { all: Sums { subnets, pools: 2, options: 3 }, ..Fingerprint::default() };
    let member = |subnets| json!({ MEMBER: fingerprint(subnets).to_value() });
    let mut rig = terminated_by_refusals();
    rig.handle(Event::Fingerprint(Box::new(fingerprint(1))));
    for second in 1..4_000 {
        rig.wait_until(f64::from(second));
        rig.tandem_heartbeat("terminated", 0, member(9));
        assert_eq!(rig.machine.state(), OwnState::Terminated, "{second}");
    }
    rig.tandem_heartbeat("terminated", 0, member(1));
    assert_eq!(rig.machine.state(), OwnState::Waiting);
}

#[test]
fn a_terminated_primary_takes_over_from_a_silent_partner_and_a_standby_only_with_proof() {
    for (role, clients, state) in [
        (Role::Primary, 0, OwnState::PartnerDown),
        (Role::Standby, 2, OwnState::Terminated),
        (Role::Standby, 3, OwnState::PartnerDown),
    ] {
        let mut rig = Rig::in_state(role, OwnState::Terminated, PartnerState::Terminated);
        rig.end_heartbeat(Err("refused".into()));
        rig.wait_until(61.0);
        rig.unanswered(0..clients, 11);
        assert_eq!(rig.machine.state(), state, "{role:?} {clients}");
    }
}

// ---- 1.7 --------------------------------------------------------------------------------------------------

/// C12: entry actions and heartbeats go on, transitions do not.
#[test]
fn a_paused_machine_rests_until_it_is_told_to_continue() {
    let pauses = vec![(PartnerState::Waiting, Pause::Once), (PartnerState::Ready, Pause::Always)];
    let mut rig = Rig::with(Relationship {
        pauses,
        sync_leases: false,
        ..relationship(Mode::HotStandby, Role::Primary)
    });
    let resume = || HaCommand::Continue { server_name: None };
    assert!(logged(&rig.handle(Event::Start)).contains(&"HA_STATE_MACHINE_PAUSED"));
    rig.heartbeat_reply("waiting", 0, 0);
    assert_eq!(rig.machine.state(), OwnState::Waiting);
    assert!(rig.machine.next_timeout().is_some(), "it polls on");
    let reply = rig.command(CommandSource::Administrator, resume());
    assert_eq!(reply.text.as_deref(), Some("HA state machine continues."));
    assert_eq!(rig.machine.state(), OwnState::Ready);
    rig.heartbeat_reply("ready", 0, 0);
    assert_eq!(rig.machine.state(), OwnState::Ready);
    rig.command(CommandSource::Administrator, resume());
    assert_eq!(rig.machine.state(), OwnState::HotStandby);
    let reply = rig.command(CommandSource::Administrator, resume());
    assert_eq!(reply.text.as_deref(), Some("HA state machine is not paused."));
    rig.command(CommandSource::Administrator, HaCommand::Reset { server_name: None });
    assert_eq!(rig.machine.state(), OwnState::Ready, "waiting pauses once, ready always");
}

#[test]
fn a_pause_in_syncing_comes_before_the_copy() {
    let pauses = vec![(PartnerState::Syncing, Pause::Always)];
    let mut rig = Rig::with(Relationship { pauses, ..relationship(Mode::HotStandby, Role::Primary) });
    rig.handle(Event::Start);
    let actions = rig.heartbeat_reply("waiting", 0, 0);
    assert_eq!(rig.machine.state(), OwnState::Syncing);
    assert!(!calls(&actions).iter().any(|(_, name)| name == "dhcp-disable"));
    let event = Event::Command {
        token: 7,
        source: CommandSource::Administrator,
        command: HaCommand::Continue { server_name: None },
    };
    Rig::call(&rig.handle(event), "dhcp-disable");
}

// ---- the end of a server ----------------------------------------------------------------------------------

#[test]
fn a_server_that_stops_tells_a_tandem_partner_and_serves_nobody_from_then_on() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.tandem_heartbeat("hot-standby", 0, json!({}));
    let actions = rig.handle(Event::Stopping);
    assert!(matches!(actions[0], Action::Publish(_)) && !rig.service_on(), "before it says so");
    let id = Rig::call(&actions, "tandem-ha-stopping");
    let announced = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::StopAnnounced));
    assert!(!announced(&actions));
    assert!(announced(&rig.handle(Event::CallDone { id, result: Err("gone".into()) })));
    assert_eq!(calls(&rig.wait_until(1_000.0)), [], "nothing is begun any more");
    // A state that serves would be taken for a server that goes on.
    let asked = HaCommand::Heartbeat { server_name: None, fingerprint: None };
    assert_eq!(rig.command(CommandSource::Partner, asked).result, 1);

    let mut beside_kea = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    let actions = beside_kea.handle(Event::Stopping);
    assert!(announced(&actions) && calls(&actions).is_empty(), "a Kea would not understand");
}

#[test]
fn a_partner_that_stops_is_taken_over_from_at_once_and_welcomed_back() {
    for (mode, role) in [(Mode::HotStandby, Role::Standby), (Mode::LoadBalancing, Role::Secondary)] {
        let normal = mode.normal_state();
        let mut rig = Rig::of(relationship(mode, role), normal, normal.as_seen_by_partner());
        let command = HaCommand::Stopping { server_name: Some("server1".into()) };
        let by_hand = rig.command(CommandSource::Administrator, command.clone());
        assert_eq!((by_hand.result, rig.machine.state()), (0, normal), "only the partner can say so");
        rig.command(CommandSource::Partner, command);
        assert_eq!(rig.machine.state(), OwnState::PartnerDown);
        // Its listener may live a moment longer than its service.
        rig.tandem_heartbeat(normal.name(), 0, json!({}));
        assert_eq!(rig.machine.state(), OwnState::PartnerDown);
        rig.end_heartbeat(Err("refused".into()));
        rig.tandem_heartbeat("waiting", 0, json!({}));
        assert_eq!(rig.machine.state(), OwnState::PartnerDown, "it copies first");
    }
}

/// Two servers restarted one right after the other: the first one has yet to copy what the second one has given.
#[test]
fn a_server_without_the_leases_waits_for_a_partner_that_stops_as_for_one_that_is_silent() {
    for (sync_leases, state) in [(true, OwnState::Syncing), (false, OwnState::PartnerDown)] {
        let standby = Relationship { sync_leases, ..relationship(Mode::HotStandby, Role::Standby) };
        let mut rig = Rig::of(standby, OwnState::Waiting, PartnerState::Unknown);
        let actions = rig.tandem_heartbeat("partner-down", 0, json!({}));
        rig.command(CommandSource::Partner, HaCommand::Stopping { server_name: Some("server1".into()) });
        if sync_leases {
            let id = Rig::call(&actions, "dhcp-disable");
            rig.handle(Event::CallDone { id, result: Err("closed".into()) });
        }
        assert_eq!(rig.machine.state(), state);
        // Nobody is waited for longer than `max-response-delay`.
        while rig.machine.state() == OwnState::Syncing && rig.now.monotonic_ns < at(70.0).monotonic_ns {
            rig.wait_until((rig.now.monotonic_ns / NS_PER_S) as f64);
            if rig.machine.heartbeat.is_some() {
                rig.end_heartbeat(Err("refused".into()));
            }
        }
        assert_eq!(rig.machine.state(), OwnState::PartnerDown);
    }
}

// ---- fast failover ----------------------------------------------------------------------------------------

/// The preset of the documentation: half a second, two seconds, one second, two clients.
fn fast(mode: Mode, role: Role) -> Relationship {
    Relationship {
        heartbeat_delay_ms: 500,
        max_response_delay_ms: 2_000,
        max_ack_delay_ms: 1_000,
        max_unacked_clients: 2,
        ..relationship(mode, role)
    }
}

/// Lets a pair live until `second` with a partner that answers, then with one that does not.
fn silence(rig: &mut Rig, until_s: f64, after_s: f64, state: &str) {
    let mut tick = 0;
    while f64::from(tick) * 0.05 < until_s {
        tick += 1;
        rig.wait_until(f64::from(tick) * 0.05);
        if rig.machine.heartbeat.is_some() {
            if f64::from(tick) * 0.05 < after_s {
                rig.tandem_heartbeat(state, 0, json!({}));
            } else if tick % 20 == 0 {
                // A black hole: the call ends with its time.
                rig.end_heartbeat(Err("timed out".into()));
            }
        }
    }
}

#[test]
fn the_fast_preset_takes_over_within_five_seconds_of_a_silent_death() {
    let mut primary =
        Rig::of(fast(Mode::HotStandby, Role::Primary), OwnState::HotStandby, PartnerState::HotStandby);
    silence(&mut primary, 13.5, 10.0, "hot-standby");
    assert_eq!(primary.machine.state(), OwnState::PartnerDown);

    for (mode, role) in [(Mode::HotStandby, Role::Standby), (Mode::LoadBalancing, Role::Secondary)] {
        let normal = mode.normal_state();
        let mut rig = Rig::of(fast(mode, role), normal, normal.as_seen_by_partner());
        silence(&mut rig, 14.0, 10.0, normal.name());
        assert_ne!(rig.machine.state(), OwnState::PartnerDown, "the link alone may be cut");
        assert!(rig.machine.view().unwrap().interrupted);
        // Clients ask again after four seconds, give or take one, and say for how long they have tried.
        rig.unanswered(1..=2, 4);
        assert_ne!(rig.machine.state(), OwnState::PartnerDown);
        rig.unanswered([3], 4);
        assert_eq!(rig.machine.state(), OwnState::PartnerDown);
    }
}

// ---- another configuration --------------------------------------------------------------------------------

#[test]
fn a_difference_in_configuration_is_named_once_and_so_is_its_end() {
    let sums = |subnets, pools, options| Sums { subnets, pools, options };
    let ours = Fingerprint { all: sums(1, 2, 3), by_subnet: [(7, sums(1, 2, 3)), (8, sums(4, 5, 6))].into() };
    let mut theirs = ours.clone();
    theirs.all.pools = 9;
    theirs.by_subnet.insert(8, sums(4, 9, 6));
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.handle(Event::Fingerprint(Box::new(ours.clone())));
    let short = json!({ MEMBER: theirs.to_value() });
    let long = json!({ MEMBER: theirs.to_value(), SUBNETS_MEMBER: theirs.subnets_to_value() });
    let same = json!({ MEMBER: ours.to_value() });
    let told = "TANDEM_HA_CONFIGURATION_DIFFERS";
    let asked = rig.tandem_heartbeat("hot-standby", 0, short);
    assert!(!logged(&asked).contains(&told), "it does not know where yet");
    let shown = asked.iter().any(|action| match action {
        Action::Call(call) => command_of(call).1.get(MEMBER) == Some(&ours.to_value()),
        _ => false,
    });
    assert!(shown, "the request shows what we have");
    for (heartbeat, times) in [(&long, 1), (&long, 0), (&same, 0), (&long, 1)] {
        let actions = rig.tandem_heartbeat("hot-standby", 0, heartbeat.clone());
        assert_eq!(logged(&actions).iter().filter(|id| **id == told).count(), times);
        let status = rig.machine.status_high_availability(rig.now);
        let differs = &status[0]["ha-servers"]["remote"]["tandem-configuration-differs"];
        let expected = json!({ "in": ["pools"], "subnets": [8] });
        assert_eq!(*differs, if heartbeat == &same { json!(null) } else { expected });
    }
}

#[test]
fn the_answer_lists_subnets_only_to_one_who_shows_another_fingerprint() {
    let sums = Sums { subnets: 1, pools: 2, options: 3 };
    let ours = Fingerprint { all: sums, by_subnet: [(7, sums)].into() };
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    rig.handle(Event::Fingerprint(Box::new(ours.clone())));
    let other = Fingerprint { all: Sums { options: 4, ..sums }, ..Fingerprint::default() };
    for (shown, lists) in [(None, false), (Some(ours), false), (Some(other), true)] {
        let fingerprint = shown.map(Box::new);
        let command = HaCommand::Heartbeat { server_name: None, fingerprint };
        let arguments = rig.command(CommandSource::Partner, command).arguments.unwrap();
        assert!(arguments.get(MEMBER).is_some());
        assert_eq!(arguments.get(SUBNETS_MEMBER).is_some(), lists);
    }
}

// ---- 3.12 -------------------------------------------------------------------------------------------------

#[test]
fn scopes_named_by_hand_hold_until_the_next_change_of_state() {
    let scopes = |names: &[&str]| HaCommand::Scopes {
        scopes: names.iter().map(|name| (*name).to_owned()).collect(),
        server_name: None,
    };
    let mut rig = Rig::in_state(Role::Primary, OwnState::LoadBalancing, PartnerState::LoadBalancing);
    let reply = rig.command(CommandSource::Administrator, scopes(&["HA_server1"]));
    let text = "invalid server name specified 'HA_server1' while enabling/disabling HA scopes";
    assert_eq!((reply.result, reply.text.as_deref()), (1, Some(text)));
    let reply = rig.command(CommandSource::Administrator, scopes(&["server2", "server1"]));
    assert_eq!((reply.result, reply.text.as_deref()), (0, Some("New HA scopes configured.")));
    assert_eq!(rig.machine.view().unwrap().scopes, Scopes::BOTH);
    let beat = HaCommand::Heartbeat { server_name: None, fingerprint: None };
    let told = rig.command(CommandSource::Partner, beat).arguments.unwrap();
    assert_eq!(told["scopes"], json!(["server1", "server2"]));
    rig.heartbeat_reply("terminated", 0, 0);
    assert_eq!(rig.machine.view().unwrap().scopes, Scopes::PRIMARY);
}

/// Its partner may serve, and whoever copies from it is to know that it does not.
#[test]
fn scopes_named_by_hand_make_no_active_server_serve_in_a_state_that_serves_nobody() {
    for state in [OwnState::Waiting, OwnState::Syncing, OwnState::Ready, OwnState::InMaintenance] {
        let mut rig = Rig::in_state(Role::Primary, state, PartnerState::Unavailable);
        let scopes = vec!["server1".to_owned()];
        rig.command(CommandSource::Administrator, HaCommand::Scopes { scopes, server_name: None });
        rig.command(CommandSource::Administrator, HaCommand::DhcpEnable { origin: Origin::User });
        assert!(!rig.service_on() && !rig.machine.view().unwrap().scopes.any(), "{state}");
        let beat = HaCommand::Heartbeat { server_name: None, fingerprint: None };
        let told = rig.command(CommandSource::Partner, beat).arguments.unwrap();
        assert_eq!(told["scopes"], json!([]), "{state}");
    }
}

/// D15: by hand, a backup serves.
#[test]
fn a_backup_serves_when_told_its_scopes_and_enabled() {
    let mut rig = Rig::with(relationship(Mode::PassiveBackup, Role::Backup));
    let started = rig.handle(Event::Start);
    assert_eq!((rig.machine.state(), rig.service_on()), (OwnState::Backup, false));
    assert!(calls(&started).is_empty() && rig.machine.next_timeout().is_none(), "it polls nobody");
    let names = vec!["server1".to_owned()];
    rig.command(CommandSource::Administrator, HaCommand::Scopes { scopes: names, server_name: None });
    let enable = HaCommand::DhcpEnable { origin: Origin::User };
    rig.command(CommandSource::Administrator, enable);
    assert!(rig.service_on() && rig.machine.view().unwrap().scopes.primary);
    let status = rig.machine.status_high_availability(at(1.0));
    assert_eq!(status[0]["ha-servers"]["remote"], json!(null), "3.11");
    assert_eq!(status[0]["ha-mode"], "passive-backup");
    let reply = rig.command(CommandSource::Administrator, HaCommand::Reset { server_name: None });
    assert_eq!((reply.result, rig.machine.state()), (0, OwnState::Backup));
    assert!(rig.service_on(), "8 no. 10: nothing is lost by it");
}

#[test]
fn the_primary_of_backups_serves_at_once_and_tells_them() {
    let mut rig = Rig::with(relationship(Mode::PassiveBackup, Role::Primary));
    let started = rig.handle(Event::Start);
    assert_eq!(rig.machine.state(), OwnState::PassiveBackup);
    assert!(rig.service_on() && calls(&started).is_empty());
    let view = rig.machine.view().unwrap();
    assert_eq!((view.updates, view.scopes), (UpdateMode::Off, Scopes::PRIMARY));
    assert_eq!((view.backups, view.backup_peers.indices()), (super::super::view::BackupUpdates::Send, 0..1));
}

/// Both have served beside each other: the one in partner-down copies as well, whatever the other's counter says.
#[test]
fn a_server_that_took_over_from_one_that_went_on_serving_copies_too() {
    for (told, then) in [
        (&["waiting", "ready"][..], OwnState::HotStandby),
        (&["hot-standby", "waiting", "ready"], OwnState::Syncing),
    ] {
        let mut rig = Rig::in_state(Role::Standby, OwnState::PartnerDown, PartnerState::Unavailable);
        for state in told {
            if *state == "ready" {
                rig.command(CommandSource::Partner, tests::disable(Origin::Partner, Some(60)));
                let notify = HaCommand::SyncCompleteNotify { origin_id: None, server_name: None };
                rig.command(CommandSource::Partner, notify);
            }
            rig.heartbeat_reply(state, 0, 0);
        }
        assert_eq!(rig.machine.state(), then, "{told:?}");
    }
}

#[test]
fn a_server_whose_disk_is_full_leaves_everything_to_its_partner_until_there_is_room() {
    let asks = |actions: &[Action], command: &str| calls(actions).iter().any(|(_, name)| name == command);
    let mut rig = Rig::in_state(Role::Standby, OwnState::HotStandby, PartnerState::HotStandby);
    rig.machine.set_storage_full(true);
    rig.heartbeat_reply("hot-standby", 0, 0);
    assert!(!rig.service_on(), "nobody is served");
    let heartbeat = HaCommand::Heartbeat { server_name: None, fingerprint: None };
    assert_eq!(rig.command(CommandSource::Partner, heartbeat.clone()).result, 1, "the partner is to know");
    for _ in 0..3 {
        rig.wait_until(rig.now.monotonic_ns as f64 / 1e9 + 70.0);
        rig.end_heartbeat(Err("closed".into()));
    }
    assert_eq!(rig.machine.state(), OwnState::HotStandby, "it does not take over itself");
    let actions = rig.heartbeat_reply("partner-down", 0, 5);
    assert_eq!(rig.machine.state(), OwnState::Syncing);
    assert!(!asks(&actions, "dhcp-disable"), "what cannot be stored is not copied");
    rig.machine.set_storage_full(false);
    rig.machine.handle_timeout(rig.now, &mut rig.actions);
    let actions = rig.heartbeat_reply("partner-down", 0, 5);
    assert!(asks(&actions, "dhcp-disable"));
    assert_eq!(rig.command(CommandSource::Partner, heartbeat).result, 0);
}

#[test]
fn a_server_without_heartbeats_finds_out_by_itself_that_there_is_room_again() {
    let mut rig = Rig::with(relationship(Mode::PassiveBackup, Role::Primary));
    rig.handle(Event::Start);
    assert!(rig.service_on());
    rig.machine.set_storage_full(true);
    rig.command(CommandSource::Administrator, HaCommand::Heartbeat { server_name: None, fingerprint: None });
    assert!(!rig.service_on(), "nobody is served");
    rig.wait_until(5.5);
    assert!(!rig.service_on(), "there is still none");
    let look_ns = rig.machine.next_timeout().expect("it is looked again and again");
    assert!(look_ns <= at(6.5).monotonic_ns);
    rig.machine.set_storage_full(false);
    rig.machine.handle_timeout(at(6.5), &mut Vec::new());
    assert!(rig.service_on());
}
