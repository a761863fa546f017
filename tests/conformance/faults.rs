//! Groups C and D, second half: clocks, resets, reloads, modes that do not match, and what fills up.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::states::{WHOLE, c13};
use crate::support::clients::{PATIENCE, mac, macs};
use crate::support::http::response;
use crate::support::k3::{Script, listed, now_s, updated};
use crate::support::plan::{K, N, Plan, S, Seat, peer, relationship};
use crate::support::process::eventually;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::support::tap::Verdict;
use crate::wire::with_script;
use crate::{Scenario, scenario};

/// Debian's library that shifts the wall clock of one process.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The scenarios of this half.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(&["C11"], "a_partner_of_another_mode_serves_nobody_until_corrected", 18, || c11([N, K])),
        scenario(&["C11"], "beside_a_script_of_another_mode_nobody_is_served", 8, c11_script),
        scenario(&["C13"], "a_terminated_partner_is_followed", 5, c13),
        scenario(&["C14"], "a_clock_35_seconds_off_is_warned_of_and_61_too_many", 8, c14_script),
        scenario(&["C14"], "clocks_apart_terminate_both_until_one_is_right_kea", 25, || c14([N, K], 1)),
        scenario(&["C14"], "clocks_apart_terminate_both_until_both_restart_tandem", 25, || c14([K, N], 1)),
        scenario(&["C15"], "a_reset_leads_back_from_every_state", 15, c15),
        scenario(&["C16"], "a_malformed_date_is_no_heartbeat", 6, c16),
        scenario(&["C17"], "a_reloaded_kea_is_missed_and_a_reloaded_tandem_is_not", 25, c17),
        scenario(&["D12"], "a_full_parking_lot_drops_what_comes_then", 12, d12),
        scenario(&["D16"], "contexts_and_pools_survive_the_round_trip", 4, d16),
    ]
}

/// The second server is of a load-balancing pair: it waits, and serves nobody. The first one stays as it is, as a Kea in
/// its place does, for a partner in waiting says nothing of its mode.
fn c11(seats: [Seat; 2]) {
    let plan = Plan::hot_standby(seats);
    let wrong = plan.clone().edit(|server, dhcp4| {
        if server == 1 {
            relationship(dhcp4)["mode"] = json!("load-balancing");
            peer(dhcp4, 1)["role"] = json!("secondary");
        }
    });
    let mut site = Site::new(wrong.ha("max-response-delay", json!(60_000)));
    site.start_all();
    site.wait_for_states(&["hot-standby", "waiting"], SOON);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!([site.state(0), site.state(1)], ["hot-standby", "waiting"]);
    assert!(site.logged(1, "HA_INVALID_PARTNER_STATE_HOT_STANDBY") > 0, "{}", site.log(1));
    let both: Vec<_> =
        (0..8).filter_map(|number| site.clients.discover(mac(1, number), 0, PATIENCE)).collect();
    assert!(both.iter().all(|offer| offer.server == site.lan_address(0)));
    site.kill(1);
    site.plan = plan;
    site.configure(1);
    site.start(1);
    site.wait_for_states(&WHOLE, TOGETHER);
    site.clients.lease_all(&macs(2, 5));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 5);
}

/// A partner that balances the load: this server waits and serves nobody, until it is corrected.
fn c11_script() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    for state in ["load-balancing", "communication-recovery"] {
        script.say(|says| says.state = state);
        site.wait_for_state(0, "waiting", SOON);
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(site.state(0), "waiting");
        assert!(site.clients.discover(mac(1, 1), 0, Duration::from_millis(400)).is_none());
        script.say(|says| says.state = "hot-standby");
        site.wait_for_state(0, "hot-standby", SOON);
    }
    assert!(site.logged(0, "HA_INVALID_PARTNER_STATE") > 0, "{}", site.log(0));
}

fn c14_script() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    for off in [35, -35] {
        script.say(|says| says.clock_s = off);
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(site.state(0), "hot-standby");
    }
    // One in a minute, whichever way it is off.
    assert_eq!(site.logged(0, "HA_HIGH_CLOCK_SKEW "), 1, "{}", site.log(0));
    script.say(|says| says.clock_s = -64);
    site.wait_for_state(0, "terminated", SOON);
    assert_eq!(site.logged(0, "HA_HIGH_CLOCK_SKEW_CAUSES_TERMINATION"), 1);
}

fn shift(site: &mut Site, server: usize, by: &str) {
    for (name, value) in [
        ("LD_PRELOAD", FAKETIME),
        ("FAKETIME", by),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ] {
        site.environment(server, name, value);
    }
}

/// The clock of one server is 65 s ahead. Its clock corrected, it waits for the other one, where that is a Kea until it is
/// restarted too; a Tandem sees that the cause is gone.
fn c14(seats: [Seat; 2], wrong: usize) {
    let mut site = Site::new(Plan::hot_standby(seats));
    shift(&mut site, wrong, "+65s");
    site.start_all();
    site.wait_for_states(&["terminated"; 2], TOGETHER);
    site.kill(wrong);
    site.members[wrong].forget_environment();
    site.start(wrong);
    site.wait_for_state(wrong, "waiting", SOON);
    if site.is_kea(1 - wrong) {
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!([site.state(wrong), site.state(1 - wrong)], ["waiting", "terminated"]);
        site.kill(1 - wrong);
        site.start(1 - wrong);
    }
    site.wait_for_states(&WHOLE, TOGETHER);
    site.clients.lease_all(&macs(1, 5));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 5);
}

fn reset(script: &Script, site: &Site) -> String {
    let answer = script.post(site, 0, "ha-reset", Value::Null);
    assert_eq!(answer["result"], 0, "{answer}");
    answer["text"].as_str().unwrap_or_default().to_owned()
}

/// A reset by the partner; the way back needs no human.
fn c15() {
    const RESET: &str = "HA state machine reset.";
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    let back = || {
        script.as_usual();
        script.say(|says| (says.state, says.clock_s) = ("hot-standby", 0));
        site.wait_for_state(0, "hot-standby", SOON);
    };
    let back_to = |state: &str| site.wait_for_state(0, state, SOON);
    assert_eq!(reset(&script, &site), RESET, "hot-standby");
    back();

    script.say(|says| says.state = "terminated");
    site.wait_for_state(0, "terminated", SOON);
    script.say(|says| says.state = "hot-standby");
    assert_eq!(reset(&script, &site), RESET, "terminated");
    back();

    // A partner that stays in waiting and one that copies: this server is ready, and waits.
    let seen = |state: &str| {
        eventually(state, SOON, || site.ha_servers(0)["remote"]["last-state"] == state);
    };
    script.say(|says| says.state = "waiting");
    seen("waiting");
    reset(&script, &site);
    site.wait_for_state(0, "ready", SOON);
    assert_eq!(reset(&script, &site), RESET, "ready");
    back();

    let error = || Verdict::Answer(response(r#"[ { "result": 1, "text": "no" } ]"#));
    script.instead(move |command, _| (command == "dhcp-disable").then(error));
    reset(&script, &site);
    site.wait_for_state(0, "syncing", SOON);
    assert_eq!(reset(&script, &site), RESET, "syncing");
    back();

    script.instead(|_, _| Some(Verdict::Close));
    site.wait_for_state(0, "partner-down", SOON);
    assert_eq!(reset(&script, &site), RESET, "partner-down");
    // Alone again at once; a partner that is ready ends that.
    script.as_usual();
    script.say(|says| says.state = "ready");
    back_to("hot-standby");
    back();

    script.say(|says| says.state = "syncing");
    seen("syncing");
    reset(&script, &site);
    site.wait_for_state(0, "waiting", SOON);
    assert_eq!(reset(&script, &site), "HA state machine already in WAITING state.");
    assert_eq!(reset(&script, &site), "HA state machine already in WAITING state.");
    back();
}

fn c16() {
    let (site, script) = with_script(Plan::hot_standby([N, S]).ha("heartbeat-delay", json!(150)));
    let last = || site.ha_servers(0)["remote"]["last-state"].clone();
    for date in [
        "\"2026-11-22T08:02:23Z\"",
        "\"Sun, 22 Nov 2026 08:02:23 +0000\"",
        "\"Sun, 22 Nov 2026\"",
        "\"\"",
        "17",
        "null",
        "[ ]",
        "\"Sun, 99 Nov 2026 08:02:23 GMT\"",
    ] {
        let answer = format!(
            r#"[ {{ "arguments": {{ "date-time": {date}, "scopes": [ ], "state": "hot-standby", "unsent-update-count": 0 }}, "result": 0 }} ]"#
        );
        script.instead(move |command, _| {
            (command == "ha-heartbeat").then(|| Verdict::Answer(response(&answer)))
        });
        eventually(date, SOON, || last() == "unavailable");
        script.as_usual();
        eventually("a good heartbeat", SOON, || last() == "hot-standby");
    }
    assert_eq!(site.state(0), "hot-standby");
}

/// A Kea starts anew at every reload, a Tandem with the same block does not.
fn c17() {
    let site = Site::whole(Plan::hot_standby([N, K]), "hot-standby");
    site.clients.lease_all(&macs(1, 5));
    let logged = site.logged(1, "HA_");
    site.signal(0, "HUP");
    eventually("the reload", SOON, || site.logged(0, "DHCP4_DYNAMIC_RECONFIGURATION_SUCCESS") == 1);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(site.logged(1, "HA_"), logged, "the Kea has noticed nothing");
    assert_eq!([site.state(0), site.state(1)], WHOLE);
    site.clients.lease_all(&macs(2, 5));

    site.signal(1, "HUP");
    eventually("the Kea begins again", SOON, || site.state(1) == "waiting");
    site.wait_for_states(&WHOLE, TOGETHER);
    site.clients.lease_all(&macs(3, 5));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 15);
}

/// The partner takes two seconds for each lease; four replies may wait.
fn d12() {
    // With one shard the limit is met exactly; several divide it.
    let plan = Plan::hot_standby([N, S]).global("parked-packet-limit", json!(4));
    let (site, script) =
        with_script(plan.edit(|_, dhcp4| dhcp4["multi-threading"]["thread-pool-size"] = json!(1)));
    let added = r#"[ { "result": 0, "text": "IPv4 lease added." } ]"#;
    script.instead(move |command, _| {
        command.starts_with("lease4").then(|| Verdict::Late(Duration::from_secs(2), response(added)))
    });
    let dropped = site.statistic(0, "pkt4-receive-drop");
    let requests: Vec<_> =
        (0..6).map(|number| site.clients.request(mac(1, number), &[], PATIENCE).expect("an offer")).collect();
    let start = Instant::now();
    let mut answered = Vec::new();
    while start.elapsed() < Duration::from_secs(9) {
        for (number, request) in requests.iter().enumerate() {
            let ack = site.clients.answers(request.xid, 1, Duration::from_millis(20));
            answered.extend(ack.into_iter().map(|_| number));
        }
    }
    assert!(answered.len() <= 4, "{answered:?}");
    assert_eq!(site.statistic(0, "pkt4-receive-drop") - dropped, 2, "the fifth and the sixth");
    script.as_usual();
    for number in 0..6 {
        assert!(site.clients.try_lease(mac(1, number), &[], PATIENCE).is_some(), "client {number}");
    }
}

/// In from a partner of 3.0, out to whoever asks; and by the update of a client's lease.
fn d16() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    let contexts = [
        json!({ "ISC": { "relay-agent-info": "0x0104AABBCCDD" } }),
        json!({ "ISC": { "relay-agent-info": { "sub-options": "0x0104AABBCCDD", "remote-id": "AABB" } } }),
        json!({ "ISC": { "binding-variables": { "colour": "green" } }, "note": [1, { "deep": null }] }),
    ];
    for (last, context) in (1u8..).zip(&contexts) {
        let mut lease = updated(&format!("10.99.3.{last}"), &format!("02:00:00:00:03:{last:02x}"));
        lease["user-context"] = context.clone();
        lease["pool-id"] = json!(7);
        lease["colour"] = json!("green");
        assert_eq!(script.post(&site, 0, "lease4-update", lease)["result"], 0);
    }
    let page = script.post(&site, 0, "lease4-get-page", json!({ "from": "start", "limit": 100 }));
    let leases = page["arguments"]["leases"].as_array().cloned().expect("leases");
    assert_eq!(leases.len(), 3);
    for (lease, context) in leases.iter().zip(&contexts) {
        assert_eq!(&lease["user-context"], context);
        assert_eq!(lease["pool-id"], 7, "{lease}");
        assert!(lease.get("colour").is_none());
    }
    // Copied, too.
    script.say(|says| {
        for (last, context) in (11u8..).zip(&contexts) {
            let at = Ipv4Addr::new(10, 99, 3, last);
            let mut lease = listed(&at.to_string(), &format!("02:00:00:00:03:{last:02x}"), now_s());
            lease["user-context"] = context.clone();
            lease["pool-id"] = json!(9);
            says.leases.insert(at, lease);
        }
    });
    let copied = site.command(0, "ha-sync", json!({ "server-name": "server2" }));
    assert_eq!(copied["result"], 0);
    for (last, context) in (11u8..).zip(&contexts) {
        let lease = site.lease(0, Ipv4Addr::new(10, 99, 3, last)).expect("a lease");
        assert_eq!((&lease["user-context"], &lease["pool-id"]), (context, &json!(9)));
    }
}
