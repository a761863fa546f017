//! Copies, through the machine that drives them.

use serde_json::{Value, json};

use super::super::command::{HaCommand, result};
use super::super::copy::{CopyHead, Mark};
use super::super::lease_rows;
use super::event_tests::{Kind, feed};
use super::rig::{Rig, calls, command_of, relationship};
use super::*;
use crate::engine::message::{Applied, Terms, UpdateKind};

const OK: &[u8] = b"[ { \"result\": 0, \"text\": \"\" } ]";

pub(super) fn page(addresses: std::ops::Range<u8>) -> Vec<u8> {
    let leases: Vec<Value> = addresses
        .map(|number| {
            json!({
                "cltt": 1, "fqdn-fwd": false, "fqdn-rev": false, "hostname": "",
                "hw-address": "02:00:00:00:00:01", "ip-address": format!("10.0.0.{number}"),
                "state": 0, "subnet-id": 1, "valid-lft": 600
            })
        })
        .collect();
    let result = if leases.is_empty() { result::EMPTY } else { result::SUCCESS };
    Reply::new(result, "").with_arguments(json!({ "count": leases.len(), "leases": leases })).to_http_body()
}

fn written(written: usize) -> Applied {
    Applied { written, ..Applied::default() }
}

/// Answers the calls of a copy by `answers`, applies every page, and returns the commands and addresses seen.
pub(super) fn copy(
    rig: &mut Rig,
    mut actions: Vec<Action>,
    answers: &[Result<Vec<u8>, String>],
) -> (Vec<String>, usize) {
    let mut answers = answers.iter();
    let mut commands = Vec::new();
    let mut applied = 0;
    while let Some(action) = (!actions.is_empty()).then(|| actions.remove(0)) {
        match action {
            Action::Call(call) if call.line != Line::Shared => {
                let (command, arguments) = command_of(&call);
                let from = arguments["from"].as_str().map(|from| format!(" {from}")).unwrap_or_default();
                let since = arguments["changes-since"].as_str();
                let since = since.map(|mark| format!(" since {}", mark.trim_start_matches('0')));
                commands.push(format!("{command}{from}{}", since.unwrap_or_default()));
                if let Some(result) = answers.next() {
                    actions.extend(rig.handle(Event::CallDone { id: call.id, result: result.clone() }));
                }
            }
            Action::ApplyPage { id, rows } => {
                applied += rows.rows.len();
                actions.extend(rig.handle(Event::PageApplied { id, result: Ok(written(rows.rows.len())) }));
            }
            _ => {}
        }
    }
    (commands, applied)
}

/// A case, the answers, the commands they are answers to, the leases applied and the state at the end.
type Copy<'a> = (&'a str, Vec<Result<Vec<u8>, String>>, &'a [&'a str], usize, OwnState);

pub(super) fn ok() -> Result<Vec<u8>, String> {
    Ok(OK.to_vec())
}

fn no(code: i64) -> Result<Vec<u8>, String> {
    Ok(Reply::new(code, "no").to_http_body())
}

fn dead() -> Result<Vec<u8>, String> {
    Err("timed out".to_owned())
}

#[test]
fn a_copy_goes_as_6_2_says() {
    check_copies([
        (
            "F1 one short page",
            vec![ok(), Ok(page(0..3)), ok()],
            &["dhcp-disable", "lease4-get-page start", "ha-sync-complete-notify"],
            3,
            OwnState::Ready,
        ),
        (
            "F1 a divisible count costs an empty page",
            vec![ok(), Ok(page(0..10)), ok(), Ok(page(0..0)), ok()],
            &[
                "dhcp-disable",
                "lease4-get-page start",
                "dhcp-disable",
                "lease4-get-page 10.0.0.9",
                "ha-sync-complete-notify",
            ],
            10,
            OwnState::Ready,
        ),
        (
            "F6 the notification is unknown",
            vec![ok(), Ok(page(0..1)), no(2), ok()],
            &["dhcp-disable", "lease4-get-page start", "ha-sync-complete-notify", "dhcp-enable"],
            1,
            OwnState::Ready,
        ),
    ]);
}

#[test]
fn a_copy_that_fails_ends_as_6_5_says() {
    check_copies([
        ("F5 the first disable fails: nothing to undo", vec![no(1)], &["dhcp-disable"], 0, OwnState::Syncing),
        (
            "6.5 a later disable fails",
            vec![ok(), Ok(page(0..10)), dead(), ok()],
            &["dhcp-disable", "lease4-get-page start", "dhcp-disable", "dhcp-enable"],
            10,
            OwnState::Syncing,
        ),
        (
            "6.5 a page fails",
            vec![ok(), dead(), dead()],
            &["dhcp-disable", "lease4-get-page start", "dhcp-enable"],
            0,
            OwnState::Syncing,
        ),
        (
            "a page without leases",
            vec![ok(), ok(), ok()],
            &["dhcp-disable", "lease4-get-page start", "dhcp-enable"],
            0,
            OwnState::Syncing,
        ),
        (
            "F6 the notification fails",
            vec![ok(), Ok(page(0..1)), no(1)],
            &["dhcp-disable", "lease4-get-page start", "ha-sync-complete-notify"],
            1,
            OwnState::Syncing,
        ),
        (
            "6.5 no answer to the notification",
            vec![ok(), Ok(page(0..1)), dead()],
            &["dhcp-disable", "lease4-get-page start", "ha-sync-complete-notify"],
            1,
            OwnState::Syncing,
        ),
        (
            "a source that does not advance",
            vec![ok(), Ok(page(0..10)), ok(), Ok(page(0..10)), ok()],
            &[
                "dhcp-disable",
                "lease4-get-page start",
                "dhcp-disable",
                "lease4-get-page 10.0.0.9",
                "dhcp-enable",
            ],
            10,
            OwnState::Syncing,
        ),
    ]);
}

fn check_copies<const COUNT: usize>(rows: [Copy<'_>; COUNT]) {
    for (label, answers, commands, applied, state) in rows {
        let mut rig = Rig::new(Role::Primary);
        rig.handle(Event::Start);
        let actions = rig.heartbeat_reply("waiting", 0, 0);
        assert_eq!(rig.machine.state(), OwnState::Syncing, "{label}");
        let (seen, count) = copy(&mut rig, actions, &answers);
        let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
        assert_eq!((seen.as_slice(), count), (commands, applied), "{label}");
        assert_eq!(rig.machine.state(), state, "{label}");
        assert!(rig.machine.synchronisation.is_none(), "{label}: nothing is left over");
        let failed = state == OwnState::Syncing;
        assert_eq!(rig.machine.partner_state() == PartnerState::Unavailable, failed, "{label}");
        if failed {
            let again = rig.heartbeat_reply("waiting", 0, 0);
            assert!(
                calls(&again).iter().any(|(_, name)| name == "dhcp-disable"),
                "{label}: from the start again"
            );
        }
    }
}

#[test]
fn ready_is_advertised_before_the_notification_and_not_left_before_its_answer() {
    let mut rig = Rig::new(Role::Primary);
    rig.handle(Event::Start);
    let actions = rig.heartbeat_reply("waiting", 0, 0);
    copy(&mut rig, actions, &[Ok(OK.to_vec()), Ok(page(0..1))]);
    assert_eq!(rig.machine.state(), OwnState::Ready);
    let reply =
        rig.command(CommandSource::Partner, HaCommand::Heartbeat { server_name: None, fingerprint: None });
    assert_eq!(reply.arguments.unwrap()["state"], "ready");
    assert_eq!(calls(&rig.wait_until(5.0)), [], "no heartbeat before the answer");
}

#[test]
fn a_copy_by_hand_leaves_the_state_and_answers_at_the_end() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    let actions = feed(&mut rig, Kind::SyncByAdministrator);
    let again = feed(&mut rig, Kind::SyncByAdministrator);
    assert!(again.iter().any(|action| matches!(action, Action::Answer { reply, .. } if reply.result == 1)));
    let mut rest = actions;
    let mut answers = [OK.to_vec(), page(0..2), OK.to_vec()].into_iter();
    let mut replies = Vec::new();
    while let Some(action) = (!rest.is_empty()).then(|| rest.remove(0)) {
        match action {
            Action::Call(call) if call.line != Line::Shared => {
                let body = answers.next().unwrap();
                rest.extend(rig.handle(Event::CallDone { id: call.id, result: Ok(body) }));
            }
            Action::ApplyPage { id, rows } => {
                rest.extend(rig.handle(Event::PageApplied { id, result: Ok(written(rows.rows.len())) }));
            }
            Action::Answer { reply, .. } => replies.push(reply),
            _ => {}
        }
    }
    assert_eq!(replies, [Reply::success("Lease database synchronization complete.")]);
    assert_eq!(rig.machine.state(), OwnState::HotStandby);
    for (name, text) in [("server1", "itself"), ("server7", "matches no configured")] {
        let command = HaCommand::Sync { server_name: name.into(), max_period_s: None };
        let reply = rig.command(CommandSource::Administrator, command);
        assert!(reply.result == 1 && reply.text.unwrap().contains(text));
    }
}

#[test]
fn a_reset_in_the_middle_of_a_copy_gives_the_source_its_service_back() {
    let mut rig = Rig::new(Role::Standby);
    rig.handle(Event::Start);
    rig.heartbeat_reply("ready", 0, 0);
    assert_eq!(rig.machine.state(), OwnState::Syncing);
    let actions = feed(&mut rig, Kind::Reset);
    assert!(calls(&actions).iter().any(|(_, name)| name == "dhcp-enable"));
    // The table goes on from waiting, and a second copy begins.
    assert_eq!(rig.machine.state(), OwnState::Syncing);
}

#[test]
fn without_sync_leases_nothing_is_copied() {
    let mut rig =
        Rig::with(Relationship { sync_leases: false, ..relationship(Mode::HotStandby, Role::Primary) });
    rig.handle(Event::Start);
    let actions = rig.heartbeat_reply("waiting", 0, 0);
    assert_eq!(rig.machine.state(), OwnState::Ready);
    assert!(!calls(&actions).iter().any(|(_, name)| name == "dhcp-disable"));
}

/// A page of a Tandem server, or changes: whether there is more, the mark, and the leases.
fn rows(more: bool, mark: u64, addresses: std::ops::Range<u8>) -> Result<Vec<u8>, String> {
    let last = addresses.clone().next_back().map(|number| std::net::Ipv4Addr::new(10, 0, 0, number));
    let mut body = Vec::new();
    CopyHead { more, upto: last, mark: Mark(vec![mark]) }.write(&mut body);
    let leases = super::super::lease_page::Page::parse(&page(addresses)).expect("a page").leases;
    leases.iter().for_each(|lease| lease_rows::write(UpdateKind::Update, lease, &mut body));
    Ok(body)
}

const COPY: &str = "tandem-lease4-copy";

/// A partner that announces it is copied from while it serves.
fn announced(rig: &mut Rig) -> Vec<Action> {
    let arguments = json!({
        "date-time": crate::http::rfc1123_date(rig.now.wall_s()), "scopes": [], "state": "partner-down",
        "tandem-copy": 1, "unsent-update-count": 0
    });
    let body = Reply::success("").with_arguments(arguments).to_http_body();
    let id = rig.machine.heartbeat.expect("a heartbeat is in flight");
    rig.handle(Event::CallDone { id, result: Ok(body) })
}

#[test]
fn a_tandem_server_is_copied_from_while_it_serves_and_rests_for_the_end_alone() {
    let many = || rows(true, 3, 0..10);
    let table: Vec<Copy<'_>> = vec![
        (
            "one page",
            vec![rows(false, 1, 0..3), rows(false, 2, 0..1), ok(), rows(false, 3, 0..0), ok()],
            &["start", "since 1", "dhcp-disable", "since 2", "ha-sync-complete-notify"],
            4,
            OwnState::Ready,
        ),
        (
            "pages and changes to their ends",
            vec![
                rows(true, 1, 0..10),
                rows(false, 9, 10..13),
                many(),
                rows(false, 4, 0..1),
                ok(),
                rows(true, 5, 1..2),
                rows(false, 6, 0..0),
                ok(),
            ],
            &["start", "10.0.0.9", "since 1", "since 3", "dhcp-disable", "since 4", "since 5", "notify"],
            25,
            OwnState::Ready,
        ),
        ("the first page fails", vec![dead()], &["start"], 0, OwnState::Syncing),
        ("it is refused", vec![no(4)], &["start"], 0, OwnState::Syncing),
        ("the mark is lost", vec![rows(false, 1, 0..3), no(4)], &["start", "since 1"], 3, OwnState::Syncing),
        (
            "it does not advance",
            vec![rows(true, 1, 0..3), rows(true, 1, 0..3)],
            &["start", "10.0.0.2"],
            3,
            OwnState::Syncing,
        ),
        ("it gives no rows", vec![ok()], &["start"], 0, OwnState::Syncing),
        (
            "dhcp-disable fails",
            vec![rows(false, 1, 0..3), rows(false, 2, 0..0), dead(), ok()],
            &["start", "since 1", "dhcp-disable", "dhcp-enable"],
            3,
            OwnState::Syncing,
        ),
        (
            "the last changes are lost",
            vec![rows(false, 1, 0..3), rows(false, 2, 0..0), ok(), no(4), ok()],
            &["start", "since 1", "dhcp-disable", "since 2", "dhcp-enable"],
            3,
            OwnState::Syncing,
        ),
    ];
    for (label, answers, commands, applied, state) in table {
        let mut rig = Rig::new(Role::Primary);
        rig.handle(Event::Start);
        let actions = announced(&mut rig);
        let (seen, count) = copy(&mut rig, actions, &answers);
        let expected: Vec<String> = commands.iter().map(|command| in_full(command)).collect();
        assert_eq!((seen, count), (expected, applied), "{label}");
        assert_eq!(rig.machine.state(), state, "{label}");
        assert!(rig.machine.synchronisation.is_none(), "{label}: nothing is left over");
    }
}

/// While it rests nobody is served, so it is given up, given its service back, and copied from as a Kea the next time.
#[test]
fn a_source_that_rests_and_always_has_more_to_tell_is_given_up() {
    let until_it_rests = [rows(false, 1, 0..3), rows(false, 2, 0..0), ok()];
    let endless = |last: std::ops::Range<u8>| vec![rows(true, 3, last); 10_000];
    // What each answer brings, and after how many of them it is enough.
    for (label, last, enough) in [("changes", 0..1, 4_096), ("nothing", 0..0, 1)] {
        let mut rig = Rig::new(Role::Primary);
        rig.handle(Event::Start);
        let actions = announced(&mut rig);
        let answers = [until_it_rests.to_vec(), endless(last)].concat();
        let (seen, _) = copy(&mut rig, actions, &answers);
        // The last answer is to `dhcp-enable`.
        assert_eq!(seen.len(), until_it_rests.len() + enough + 1, "{label}");
        assert_eq!(seen.last().map(String::as_str), Some("dhcp-enable"), "{label}");
        assert!(rig.machine.synchronisation.is_none(), "{label}: nothing is left over");
        rig.wait_until(1.1);
        let actions = announced(&mut rig);
        assert_eq!(copy(&mut rig, actions, &[]).0, ["dhcp-disable"], "{label}: as from a Kea");
    }
}

fn in_full(command: &str) -> String {
    match command {
        "notify" => "ha-sync-complete-notify".to_owned(),
        known if known.starts_with("dhcp-") || known.starts_with("ha-") => known.to_owned(),
        asked => format!("{COPY} {asked}"),
    }
}

#[test]
fn a_source_that_refuses_is_copied_from_as_a_kea_the_next_time_and_one_that_is_silent_is_not() {
    for (answer, next) in [(no(4), "dhcp-disable"), (dead(), "tandem-lease4-copy start")] {
        let mut rig = Rig::new(Role::Primary);
        rig.handle(Event::Start);
        let actions = announced(&mut rig);
        copy(&mut rig, actions, &[answer]);
        rig.wait_until(1.1);
        let actions = announced(&mut rig);
        assert_eq!(copy(&mut rig, actions, &[]).0, [next]);
    }
}

#[test]
fn the_next_page_is_fetched_while_one_is_applied_and_no_more_than_one_waits() {
    let mut rig = Rig::new(Role::Primary);
    rig.handle(Event::Start);
    let mut actions = announced(&mut rig);
    let (mut pages, mut fetched) = (Vec::new(), 0u8);
    for round in 0..4u8 {
        let call = actions.drain(..).find_map(|action| match action {
            Action::Call(call) if call.line != Line::Shared => Some(call.id),
            Action::ApplyPage { id, .. } => {
                pages.push(id);
                None
            }
            _ => None,
        });
        assert_eq!(call.is_some(), round < 2, "round {round}");
        if let Some(id) = call {
            let first = 10 * fetched;
            fetched += 1;
            let result = rows(true, 1, first..first + 10);
            actions = rig.handle(Event::CallDone { id, result });
        }
        pages.extend(actions.iter().filter_map(|action| match action {
            Action::ApplyPage { id, .. } => Some(*id),
            _ => None,
        }));
        pages.dedup();
    }
    assert_eq!((pages.len(), fetched), (1, 2), "one is applied, one waits");
    let actions = rig.handle(Event::PageApplied { id: pages[0], result: Ok(written(10)) });
    assert!(actions.iter().any(|action| matches!(action, Action::ApplyPage { .. })));
    assert!(actions.iter().any(|action| matches!(action, Action::Call(call) if call.line != Line::Shared)));
}

#[test]
fn rows_that_cannot_be_applied_end_the_copy_once_nothing_is_under_way() {
    let mut rig = Rig::new(Role::Primary);
    rig.handle(Event::Start);
    let actions = announced(&mut rig);
    let call = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Call(call) if call.line != Line::Shared => Some(call.id),
            _ => None,
        })
    };
    let id = call(&actions).expect("the first page is asked for");
    let actions = rig.handle(Event::CallDone { id, result: rows(true, 1, 0..10) });
    let page = actions.iter().find_map(|action| match action {
        Action::ApplyPage { id, .. } => Some(*id),
        _ => None,
    });
    let second = call(&actions).expect("the next page is asked for");
    rig.handle(Event::CallDone { id: second, result: dead() });
    assert!(rig.machine.synchronisation.is_some(), "rows of the failed copy are still being applied");
    rig.handle(Event::PageApplied { id: page.expect("applied"), result: Ok(written(10)) });
    assert!(rig.machine.synchronisation.is_none());
    assert_eq!(rig.machine.partner_state(), PartnerState::Unavailable);
}

/// The count of what a server gave alone ends with its process. What it finds newer than its partner's is counted again,
/// before it says that it is ready.
#[test]
fn leases_that_are_newer_than_the_source_s_count_as_unsent_towards_a_tandem() {
    for (tandem, partner, kept, unsent) in [
        (true, "partner-down", 2, 2),
        (true, "partner-down", 0, 0),
        (true, "ready", 2, 2),
        (true, "hot-standby", 2, 0),
        (false, "partner-down", 2, 0),
    ] {
        let mut rig = Rig::in_state(Role::Standby, OwnState::Waiting, PartnerState::Unknown);
        let mut actions = match tandem {
            true => rig.tandem_heartbeat(partner, 0, json!({})),
            false => rig.heartbeat_reply(partner, 0, 0),
        };
        let mut answers = [OK.to_vec(), page(1..3)].into_iter();
        let mut readied = false;
        while let Some(action) = (!actions.is_empty()).then(|| actions.remove(0)) {
            match action {
                Action::Call(call) if call.line != Line::Shared => {
                    let Some(answer) = answers.next() else { continue };
                    actions.extend(rig.handle(Event::CallDone { id: call.id, result: Ok(answer) }));
                }
                Action::ApplyPage { id, .. } => {
                    let result = Ok(Applied { kept, ..Applied::default() });
                    actions.extend(rig.handle(Event::PageApplied { id, result }));
                    readied = rig.machine.state() == OwnState::Ready;
                }
                _ => {}
            }
        }
        assert!(readied, "the notification is still under way");
        let command = HaCommand::Heartbeat { server_name: None, fingerprint: None };
        let arguments = rig.command(CommandSource::Partner, command).arguments.unwrap();
        assert_eq!(
            arguments["unsent-update-count"],
            json!(unsent),
            "tandem: {tandem}, {partner}, {kept} kept"
        );
    }
}

/// The partner gives leases while they are copied, and heartbeats rest. Its service rests from the end of the copy until
/// it has heard of it, so what it counts then was copied; what it counts later was not.
#[test]
fn what_the_partner_gave_during_the_copy_is_copied_once() {
    for (failed, copies_again) in [(false, false), (true, true)] {
        let mut rig = Rig::in_state(Role::Primary, OwnState::Waiting, PartnerState::Unknown);
        let actions = rig.heartbeat_reply("partner-down", 0, 10);
        copy(&mut rig, actions, &[ok(), Ok(page(0..3)), ok()]);
        assert_eq!(rig.machine.state(), OwnState::Ready);
        if failed {
            rig.end_heartbeat(dead());
        }
        rig.heartbeat_reply("partner-down", 0, 90);
        rig.heartbeat_reply("hot-standby", 0, 90);
        let expected = if copies_again { OwnState::Syncing } else { OwnState::HotStandby };
        assert_eq!(rig.machine.state(), expected, "a heartbeat failed: {failed}");
    }
}

/// It was alone, has begun anew without its count, and has found when copying that it gave leases that are not here.
#[test]
fn a_server_that_is_ready_copies_again_what_its_partner_has_given_since() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::Waiting, PartnerState::Unknown);
    let actions = rig.heartbeat_reply("waiting", 0, 0);
    copy(&mut rig, actions, &[ok(), Ok(page(0..0)), ok()]);
    rig.heartbeat_reply("waiting", 0, 0);
    rig.heartbeat_reply("partner-down", 0, 2);
    assert_eq!(rig.machine.state(), OwnState::Ready, "the partner knows best what was copied");
    rig.heartbeat_reply("waiting", 0, 0);
    rig.heartbeat_reply("ready", 0, 2);
    assert_eq!(rig.machine.state(), OwnState::Syncing);
}

/// All leases of a backup are of others, so of two of one second the source's is the later one, whoever made it.
#[test]
fn a_backup_takes_the_word_of_its_source() {
    for (role, expected) in [(Role::Backup, Terms::Joining), (Role::Standby, Terms::Merging)] {
        let mut rig = match role {
            Role::Backup => Rig::in_state(role, OwnState::Backup, PartnerState::Unknown),
            _ => Rig::in_state(role, OwnState::HotStandby, PartnerState::HotStandby),
        };
        let source = rig.machine.relationship().others[0].name.clone();
        let command = HaCommand::Sync { server_name: source, max_period_s: None };
        let source = CommandSource::Administrator;
        let mut actions = rig.handle(Event::Command { token: 7, source, command });
        for (asked, answer) in [("dhcp-disable", OK.to_vec()), ("lease4-get-page", page(0..3))] {
            let id = Rig::call(&actions, asked);
            actions = rig.handle(Event::CallDone { id, result: Ok(answer) });
        }
        let terms = actions.iter().find_map(|action| match action {
            Action::ApplyPage { rows, .. } => Some(rows.terms),
            _ => None,
        });
        assert_eq!(terms, Some(expected), "{role:?}");
    }
}
