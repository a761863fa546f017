//! Group G, pauses, and servers that stand by as backups.

use std::time::Duration;

use serde_json::{Value, json};

use crate::balance::guarded;
use crate::states::{PAIRINGS, WHOLE};
use crate::support::clients::{PATIENCE, mac, macs};
use crate::support::http::response;
use crate::support::k3::{Script, date};
use crate::support::plan::{K, N, Plan, S, Seat, peer};
use crate::support::process::eventually;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::support::tap::Verdict;
use crate::wire::with_script;
use crate::{Scenario, scenario};

/// The scenarios of this group.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        scenario(&["C8"], "without_auto_failover_nothing_is_taken_over", 14, c8),
        scenario(&["C12"], "a_pause_holds_the_state_until_it_is_ended", 10, c12),
        scenario(&["G2"], "states_are_told_to_a_script_of_3_0", 5, g2_script),
        scenario(&["G3"], "maintenance_is_declined_where_it_cannot_be", 8, g3),
        scenario(&["G4"], "maintenance_with_a_dead_partner_is_partner_down", 8, g4),
        scenario(&["G5"], "a_second_notification_leads_to_waiting", 6, g5),
        scenario(&["D14"], "a_dead_backup_delays_nobody", 8, d14),
    ];
    for (name, seats) in PAIRINGS {
        all.push(scenario(&["G1"], format!("a_partner_is_taken_out_and_comes_back_{name}"), 15, move || {
            g1(seats)
        }));
        all.push(scenario(&["G2"], format!("maintenance_that_is_cancelled_{name}"), 8, move || g2(seats)));
    }
    for (mode, seats, roles) in [
        ("hot-standby", &[K, K, N][..], &["primary", "standby", "backup"][..]),
        ("load-balancing", &[K, K, N], &["primary", "secondary", "backup"]),
        ("passive-backup", &[K, N], &["primary", "backup"]),
    ] {
        let name = format!("a_backup_of_keas_hears_everything_{mode}");
        all.push(scenario(&["D15"], name, 12, move || d15(mode, seats, roles)));
    }
    all
}

/// Its own entry says that it takes over nothing: alone it keeps the scopes of its role.
fn c8() {
    for (role, scopes) in [(0, vec!["server1".to_owned()]), (1, Vec::new())] {
        let mut site = Site::new(Plan::hot_standby([N, N]).edit(move |server, dhcp4| {
            if server == role {
                peer(dhcp4, role)["auto-failover"] = json!(false);
            }
        }));
        site.start(role);
        site.wait_for_state(role, "partner-down", SOON);
        assert_eq!(site.scopes(role), scopes);
        let patience = if role == 0 { PATIENCE } else { Duration::from_secs(1) };
        let offer = site.clients.discover(mac(1, 1), 30, patience);
        assert_eq!(offer.is_some(), role == 0);
    }
}

/// Once in waiting, always in ready: heartbeats are answered all the while.
fn c12() {
    let states = json!({ "states": [{ "state": "waiting", "pause": "once" }, { "state": "ready", "pause": "always" }] });
    let mut site = Site::new(Plan::hot_standby([N, S]).ha("state-machine", states));
    let script = Script::new(&site, 1, "hot-standby");
    site.start(0);
    let stays = |state: &str| {
        site.wait_for_state(0, state, SOON);
        std::thread::sleep(Duration::from_millis(1500));
        let answer = script.post(&site, 0, "ha-heartbeat", Value::Null);
        assert_eq!(answer["arguments"]["state"], state);
        let answer = site.command(0, "ha-continue", Value::Null);
        assert_eq!(answer, json!({ "result": 0, "text": "HA state machine continues." }), "{state}");
    };
    stays("waiting");
    stays("ready");
    site.wait_for_state(0, "hot-standby", SOON);
    let answer = site.command(0, "ha-continue", Value::Null);
    assert_eq!(answer["text"], "HA state machine is not paused.");
    assert_eq!(script.post(&site, 0, "ha-reset", Value::Null)["result"], 0);
    stays("ready");
    site.wait_for_state(0, "hot-standby", SOON);
}

/// The one that stays, a Tandem where there is one, and the other.
fn survivor(seats: [Seat; 2]) -> [usize; 2] {
    if seats[0] == N { [0, 1] } else { [1, 0] }
}

fn start_maintenance(site: &Site, server: usize) -> Value {
    site.command(server, "ha-maintenance-start", Value::Null)
}

fn g1(seats: [Seat; 2]) {
    let [stays, goes] = survivor(seats);
    // Nobody waits for a silence to be long enough.
    let plan = Plan::hot_standby(seats).ha("max-response-delay", json!(60_000));
    let mut site = Site::whole(plan, "hot-standby");
    site.clients.lease_all(&macs(1, 5));
    let answer = start_maintenance(&site, stays);
    assert_eq!(answer["result"], 0, "{answer}");
    assert!(answer["text"].as_str().is_some_and(|text| text.contains("partner-in-maintenance")), "{answer}");
    site.wait_for_state(stays, "partner-in-maintenance", SOON);
    site.wait_for_state(goes, "in-maintenance", SOON);
    assert_eq!((site.scopes(stays), site.scopes(goes)), (vec!["server1".to_owned()], vec![]));
    for number in 0..4 {
        assert_eq!(site.clients.lease(mac(2, number), &[]).server, site.lan_address(stays));
    }
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 9);
    site.kill(goes);
    let took = site.wait_for_state(stays, "partner-down", SOON);
    assert!(took < Duration::from_secs(12), "{took:?}");
    site.clients.lease_all(&macs(3, 4));
    site.start(goes);
    site.wait_for_states(&WHOLE, TOGETHER);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 13);
}

fn g2(seats: [Seat; 2]) {
    let [stays, goes] = survivor(seats);
    let site = Site::whole(Plan::hot_standby(seats), "hot-standby");
    assert_eq!(start_maintenance(&site, stays)["result"], 0);
    site.wait_for_state(goes, "in-maintenance", SOON);
    let answer = site.command(stays, "ha-maintenance-cancel", Value::Null);
    assert_eq!(answer, json!({ "result": 0, "text": "Server maintenance successfully canceled." }));
    site.wait_for_states(&WHOLE, SOON);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!([site.state(0), site.state(1)], WHOLE);
    let again = site.command(stays, "ha-maintenance-cancel", Value::Null);
    assert_eq!(again["result"], 1, "{again}");
    site.clients.lease_all(&macs(2, 4));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 4);
}

/// 3.0 puts the states into the messages.
fn g2_script() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    assert_eq!(start_maintenance(&site, 0)["result"], 0);
    script.say(|says| says.state = "in-maintenance");
    let start = script.tap.of("ha-maintenance-notify")[0].arguments();
    assert_eq!(start, json!({ "cancel": false, "server-name": "server1", "state": "hot-standby" }));
    // Its own heartbeat has crossed with the first word, and has led it back.
    script.say(|says| says.state = "hot-standby");
    let mut words = 0;
    script.instead(move |command, _| {
        words += u32::from(command == "ha-maintenance-notify");
        let fell_back = command == "ha-heartbeat" && words < 2;
        let arguments = json!({ "date-time": date(0), "scopes": [], "state": "in-maintenance" });
        let answer = json!([{ "arguments": arguments, "result": 0, "text": "" }]);
        fell_back.then(|| Verdict::Answer(response(&answer.to_string())))
    });
    assert_eq!(site.command(0, "ha-maintenance-cancel", Value::Null)["result"], 0);
    eventually("another word", SOON, || script.tap.of("ha-maintenance-notify").len() == 3);
    for told in [1, 2] {
        let cancel = script.tap.of("ha-maintenance-notify")[told].arguments();
        assert_eq!(cancel, json!({ "cancel": true, "server-name": "server1", "state": "hot-standby" }));
    }
    script.tap.wait_for_another("ha-heartbeat");
    site.wait_for_state(0, "hot-standby", SOON);
}

fn notify(script: &Script, site: &Site, cancel: bool) -> Value {
    let state = if cancel { "hot-standby" } else { "partner-in-maintenance" };
    script.post(site, 0, "ha-maintenance-notify", json!({ "cancel": cancel, "state": state }))
}

fn g3() {
    let site = Site::whole(Plan::hot_standby([K, N]), "hot-standby");
    assert_eq!(start_maintenance(&site, 0)["result"], 0);
    site.wait_for_states(&["partner-in-maintenance", "in-maintenance"], SOON);
    assert!(site.scopes(1).is_empty());
    assert_eq!(site.clients.lease(mac(1, 1), &[]).server, site.lan_address(0));
    assert_eq!(site.command(0, "ha-maintenance-cancel", Value::Null)["result"], 0);
    site.wait_for_states(&WHOLE, SOON);

    let (site, script) = with_script(Plan::hot_standby([N, S]));
    assert_eq!(start_maintenance(&site, 0)["result"], 0);
    assert_eq!(notify(&script, &site, false)["result"], 1001, "partner-in-maintenance");
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    script.say(|says| says.state = "terminated");
    site.wait_for_state(0, "terminated", SOON);
    assert_eq!(notify(&script, &site, false)["result"], 1001, "terminated");
}

fn g4() {
    let mut site = Site::whole(Plan::hot_standby([N, K]), "hot-standby");
    site.kill(1);
    let answer = start_maintenance(&site, 0);
    let text =
        "Server is now in the partner-down state as its partner appears to be offline for maintenance.";
    assert_eq!(answer, json!({ "result": 0, "text": text }));
    assert_eq!(site.state(0), "partner-down");
    site.clients.lease_all(&macs(1, 3));
    let (site, _script) = with_script(Plan::hot_standby([N, S]));
    assert_eq!(start_maintenance(&site, 0)["result"], 0);
    assert_eq!(start_maintenance(&site, 0)["result"], 1, "a second time");
}

/// Kea 2.2 is stuck in maintenance after this.
fn g5() {
    let (site, script) = with_script(Plan::hot_standby([N, S]).ha("heartbeat-delay", json!(2000)));
    // No heartbeat is to come before the notification and tell the same.
    script.tap.wait_for_another("ha-heartbeat");
    script.say(|says| says.state = "partner-in-maintenance");
    assert_eq!(notify(&script, &site, false)["result"], 0);
    assert_eq!(site.state(0), "in-maintenance");
    assert_eq!(notify(&script, &site, false)["result"], 0);
    script.say(|says| says.state = "hot-standby");
    let cancel = notify(&script, &site, true);
    assert_eq!(cancel["result"], 0, "{cancel}");
    eventually("out of maintenance", SOON, || site.state(0) != "in-maintenance");
    site.wait_for_state(0, "hot-standby", SOON);
    assert!(site.clients.discover(mac(1, 1), 0, PATIENCE).is_some());
}

/// The backup is configured and never comes.
fn d14() {
    let mut site = Site::new(Plan::new("hot-standby", &[N, N, S], &["primary", "standby", "backup"]));
    site.start_all();
    site.wait_for_states(&WHOLE, TOGETHER);
    for number in 0..10 {
        assert!(site.clients.try_lease(mac(1, number), &[], PATIENCE).is_some());
    }
    assert_eq!([site.state(0), site.state(1)], WHOLE);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 10);

    for waits in [true, false] {
        let plan = Plan::new("passive-backup", &[N, S], &["primary", "backup"]);
        let mut site = Site::new(plan.ha("wait-backup-ack", json!(waits)));
        site.start(0);
        site.wait_for_state(0, "passive-backup", SOON);
        let patience = if waits { Duration::from_millis(1500) } else { PATIENCE };
        let ack = site.clients.try_lease(mac(1, 1), &[], patience);
        assert_eq!(ack.is_none(), waits, "waits: {waits}");
    }
}

/// The last server is the backup. It serves nobody until it is told to by hand.
fn d15(mode: &'static str, seats: &[Seat], roles: &[&'static str]) {
    let backup = seats.len() - 1;
    let mut plan = Plan::new(mode, seats, roles);
    if mode == "load-balancing" {
        plan = guarded(plan);
    }
    if mode == "passive-backup" {
        plan = plan.ha("wait-backup-ack", json!(true));
    }
    let mut site = Site::new(plan);
    site.start_all();
    let mut states = vec![mode; backup];
    states.push("backup");
    site.wait_for_states(&states, TOGETHER);
    let leased = site.clients.lease_all(&macs(1, 30));
    assert!(site.scopes(backup).is_empty());
    assert_eq!(site.wait_for_equal_stores([0, backup], SOON), leased.len());
    site.clients.release(mac(1, 3), leased[&mac(1, 3)], site.lan_address(0));
    if mode != "load-balancing" {
        eventually("the release", SOON, || site.lease(backup, leased[&mac(1, 3)]).is_none());
    }
    (0..backup).for_each(|server| site.kill(server));
    assert!(site.clients.discover(mac(2, 1), 60, Duration::from_millis(700)).is_none());
    let names: Vec<String> = if mode == "load-balancing" {
        vec!["server1".into(), "server2".into()]
    } else {
        vec!["server1".into()]
    };
    let scopes = site.command(backup, "ha-scopes", json!({ "scopes": names }));
    assert_eq!(scopes, json!({ "result": 0, "text": "New HA scopes configured." }));
    assert_eq!(site.command(backup, "dhcp-enable", Value::Null)["result"], 0);
    for number in 0..4 {
        assert_eq!(site.clients.lease(mac(2, number), &[]).server, site.lan_address(backup));
    }
}
