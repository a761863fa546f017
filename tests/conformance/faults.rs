//! Groups C and D, second half: clocks, resets, reloads, modes that do not match, and what fills up.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::balance::{balanced, clients_of_first};
use crate::states::{WHOLE, c13};
use crate::support::clients::{Clients, PATIENCE, mac, macs};
use crate::support::http::response;
use crate::support::k3::{Script, listed, now_s, updated};
use crate::support::load::Stop;
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
        scenario(&["C11"], "a_balancing_secondary_waits_beside_a_standbys_primary_kea", 18, || {
            c11([N, K], 1)
        }),
        scenario(&["C11"], "a_balancing_secondary_waits_beside_a_standbys_primary_tandem", 18, || {
            c11([K, N], 1)
        }),
        scenario(&["C11"], "a_standby_waits_beside_a_balancing_primary_kea", 18, || c11([N, K], 0)),
        scenario(&["C11"], "two_keas_of_different_modes_do_the_same", 18, || c11([K, K], 1)),
        scenario(&["C11"], "beside_a_script_of_another_mode_nobody_is_served", 8, c11_script),
        scenario(&["C13"], "a_terminated_partner_is_followed", 5, c13),
        scenario(&["C14"], "a_clock_35_seconds_off_is_warned_of_and_61_too_many", 8, c14_script),
        scenario(&["C14"], "clocks_apart_terminate_both_until_one_restarts_right_kea", 25, || c14([N, K], 1)),
        scenario(&["C14"], "clocks_apart_terminate_both_until_one_restarts_right_tandem", 25, || {
            c14([K, N], 1)
        }),
        scenario(&["C15"], "a_reset_leads_back_from_every_state", 15, c15),
        scenario(&["C15"], "a_reset_leads_back_from_maintenance", 10, c15_maintenance),
        scenario(&["C15"], "a_reset_leads_back_to_balancing", 10, c15_balancing),
        scenario(&["C15"], "a_reset_leaves_backups_as_they_are", 4, c15_backups),
        scenario(&["C16"], "a_malformed_date_is_no_heartbeat", 6, c16),
        scenario(&["C17"], "a_reloaded_kea_is_missed_and_a_reloaded_tandem_is_not", 25, c17),
        scenario(&["C17"], "a_kea_that_is_reloaded_under_load_leaves_a_backlog", 35, c17_balancing),
        scenario(&["D12"], "a_full_parking_lot_drops_what_comes_then", 12, d12),
        scenario(&["D16"], "contexts_and_pools_survive_the_round_trip", 4, d16),
    ]
}

/// One server is configured to balance the load, the other one for hot standby: the one that first sees the normal state
/// of the other, which is none of its own, waits, says so, and serves nobody. The other one stays as it is, for a partner
/// in waiting says nothing of its mode. Two Keas end so, too.
fn c11(seats: [Seat; 2], balances: usize) {
    let plan = Plan::hot_standby(seats);
    let wrong = plan.clone().edit(move |server, dhcp4| {
        if server == balances {
            relationship(dhcp4)["mode"] = json!("load-balancing");
            peer(dhcp4, 1)["role"] = json!("secondary");
        }
    });
    let mut site = Site::new(wrong.ha("max-response-delay", json!(60_000)));
    site.start_all();
    let (normal, reason) = match balances {
        0 => ("load-balancing", "HA_INVALID_PARTNER_STATE_LOAD_BALANCING"),
        _ => ("hot-standby", "HA_INVALID_PARTNER_STATE_HOT_STANDBY"),
    };
    site.wait_for_states(&[normal, "waiting"], TOGETHER);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!([site.state(0), site.state(1)], [normal, "waiting"]);
    assert!(site.logged(1, reason) > 0, "{}", site.log(1));
    let both: Vec<_> = (0..8)
        .filter_map(|number| site.clients.discover(mac(1, number), 0, Duration::from_secs(1)))
        .collect();
    assert!(!both.is_empty() && both.iter().all(|offer| offer.server == site.lan_address(0)));
    site.kill(balances);
    site.plan = plan;
    site.configure(balances);
    site.start(balances);
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
    site.wait_for_log(0, "HA_INVALID_PARTNER_STATE");
}

fn c14_script() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    for off in [35, -35] {
        script.say(|says| says.clock_s = off);
        for _ in 0..3 {
            script.tap.wait_for_another("ha-heartbeat");
        }
        assert_eq!(site.state(0), "hot-standby");
    }
    // One in a minute, whichever way it is off.
    site.wait_for_log(0, "HA_HIGH_CLOCK_SKEW ");
    assert_eq!(site.logged(0, "HA_HIGH_CLOCK_SKEW "), 1, "{}", site.log(0));
    script.say(|says| says.clock_s = -64);
    site.wait_for_state(0, "terminated", SOON);
    site.wait_for_log(0, "HA_HIGH_CLOCK_SKEW_CAUSES_TERMINATION");
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

/// The clock of one server is 65 s ahead. Its clock corrected, it is restarted and waits for the other one. A Tandem sees
/// that the cause is gone; a Kea, which remembers it, is told to begin anew by the Tandem.
fn c14(seats: [Seat; 2], wrong: usize) {
    let mut site = Site::new(Plan::hot_standby(seats));
    shift(&mut site, wrong, "+65s");
    site.start_all();
    site.wait_for_states(&["terminated"; 2], TOGETHER);
    site.kill(wrong);
    site.members[wrong].forget_environment();
    site.start(wrong);
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

/// The partner stays where maintenance has put it, so that is where the reset server comes back to; it is free again when
/// the partner is.
fn c15_maintenance() {
    const RESET: &str = "HA state machine reset.";
    for (theirs, own) in
        [("partner-in-maintenance", "in-maintenance"), ("in-maintenance", "partner-in-maintenance")]
    {
        let (site, script) = with_script(Plan::hot_standby([N, S]));
        script.say(|says| says.state = theirs);
        site.wait_for_state(0, own, SOON);
        let before = site.logged(0, "HA_STATE_TRANSITION");
        assert_eq!(reset(&script, &site), RESET, "{own}");
        eventually("through waiting, syncing and ready", SOON, || {
            site.logged(0, "HA_STATE_TRANSITION") >= before + 4
        });
        site.wait_for_state(0, own, SOON);
        script.say(|says| says.state = "hot-standby");
        eventually("the partner out of maintenance", SOON, || {
            site.ha_servers(0)["remote"]["last-state"] == "hot-standby"
        });
        assert_eq!(reset(&script, &site), RESET, "{own}");
        site.wait_for_state(0, "hot-standby", SOON);
        site.clients.lease(mac(1, 1), &[]);
    }
}

/// In load-balancing, and in communication-recovery with leases in the backlog: a reset gives the backlog up, so the
/// partner is told to copy.
fn c15_balancing() {
    const RESET: &str = "HA state machine reset.";
    let mut site = Site::new(balanced([N, S]).ha("max-response-delay", json!(20_000)));
    let script = Script::new(&site, 1, "load-balancing");
    site.start(0);
    site.wait_for_state(0, "load-balancing", SOON);
    assert_eq!(reset(&script, &site), RESET, "load-balancing");
    eventually("a copy", SOON, || script.tap.of("lease4-get-page").len() >= 2);
    site.wait_for_state(0, "load-balancing", SOON);

    script.instead(|_, _| Some(Verdict::Close));
    site.wait_for_state(0, "communication-recovery", SOON);
    let clients = clients_of_first(5);
    // A shard that does not know of the state yet asks the partner, in vain; the client asks again.
    let mut attempts = 0;
    for client in &clients {
        let is_served = || {
            attempts += 1;
            site.clients.try_lease(*client, &[], Duration::from_secs(2)).is_some()
        };
        eventually("a lease", SOON, is_served);
    }
    let copies = script.tap.of("lease4-get-page").len();
    assert_eq!(reset(&script, &site), RESET, "communication-recovery");
    site.wait_for_state(0, "waiting", SOON);
    assert!(site.clients.discover(mac(1, 20), 0, Duration::from_millis(300)).is_none());
    assert!(site.clients.discover(mac(1, 21), 0, Duration::from_millis(300)).is_none());
    script.as_usual();
    eventually("another copy", SOON, || script.tap.of("lease4-get-page").len() > copies);
    site.wait_for_state(0, "load-balancing", SOON);
    let answer = script.post(&site, 0, "ha-heartbeat", Value::Null);
    let given_up = answer["arguments"]["unsent-update-count"].as_u64();
    assert!(given_up.is_some_and(|count| (5..=attempts).contains(&count)), "the backlog: {answer}");
}

/// Where there is nothing to begin anew, nothing changes (ha-protocol 8 no. 10): the service goes on.
fn c15_backups() {
    let plan = |seats| Plan::new("passive-backup", seats, &["primary", "backup"]);
    let mut site = Site::new(plan(&[N, N]));
    site.start_all();
    site.wait_for_states(&["passive-backup", "backup"], SOON);
    for (server, state) in [(0, "passive-backup"), (1, "backup")] {
        let answer = site.command(server, "ha-reset", Value::Null);
        assert_eq!(answer["result"], 0, "{answer}");
        assert_eq!(site.state(server), state);
    }
    assert_eq!(site.scopes(0), ["server1"]);
    assert_eq!(site.clients.lease(mac(1, 1), &[]).server, site.lan_address(0));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 1);
}

fn c16() {
    let plan = Plan::hot_standby([N, S]).ha("heartbeat-delay", json!(150));
    let (site, script) = with_script(plan.ha("max-response-delay", json!(20_000)));
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
    site.wait_for_log(1, "to HOT-STANDBY");
    let logged = site.logged(1, "HA_");
    site.signal(0, "HUP");
    eventually("the reload", SOON, || site.logged(0, "DHCP4_DYNAMIC_RECONFIGURATION_SUCCESS") == 1);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(site.logged(1, "HA_"), logged, "the Kea has noticed nothing");
    assert_eq!([site.state(0), site.state(1)], WHOLE);
    site.clients.lease_all(&macs(2, 5));

    let changes = site.logged(1, "HA_STATE_TRANSITION");
    site.signal(1, "HUP");
    eventually("the Kea begins again", SOON, || site.logged(1, "HA_STATE_TRANSITION") > changes);
    site.wait_for_states(&WHOLE, TOGETHER);
    for s in [0, 1] {
        eprintln!(
            "=== {s}\n{}",
            site.log(s).lines().filter(|l| l.contains("HA_")).collect::<Vec<_>>().join("\n")
        );
    }
    site.clients.lease_all(&macs(3, 5));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 15);
}

/// Clients come all the while, several at once, so that one of them finds the Kea's listener gone: its lease waits in the
/// backlog and costs the client nothing. The Kea copies, and takes part again.
fn c17_balancing() {
    let site = Site::whole(balanced([N, K]).ha("max-response-delay", json!(20_000)), "load-balancing");
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let leased: u16 = std::thread::scope(|scope| {
        let clients = |family| {
            let (site, stop, served) = (&site, &stop, &served);
            scope.spawn(move || {
                let clients = Clients::new(&site.outside, "cli0");
                let mut leased = 0;
                while !stop.load(Ordering::Relaxed) {
                    clients.lease(mac(family, leased), &[]);
                    served.fetch_add(1, Ordering::Relaxed);
                    leased += 1;
                }
                leased
            })
        };
        let loads = [1, 2, 3, 4].map(clients);
        // They end whatever becomes of this thread.
        let told = Stop(&stop);
        // Whether a client comes in that moment is a matter of luck.
        for _ in 0..60 {
            let successes = site.logged(1, "DHCP4_DYNAMIC_RECONFIGURATION_SUCCESS");
            site.signal(1, "HUP");
            eventually("the reload", SOON, || {
                site.logged(1, "DHCP4_DYNAMIC_RECONFIGURATION_SUCCESS") > successes
            });
            site.wait_for_state(1, "load-balancing", TOGETHER);
            if site.logged(0, "to COMMUNICATION-RECOVERY") > 0 {
                break;
            }
            // On a busy machine there may be no moment to serve between two reloads.
            let before = served.load(Ordering::Relaxed);
            eventually("clients are served", SOON, || served.load(Ordering::Relaxed) >= before + 4);
        }
        site.wait_for_states(&["load-balancing"; 2], TOGETHER);
        drop(told);
        loads.into_iter().map(|load| load.join().expect("clients")).sum()
    });
    assert!(site.logged(0, "to COMMUNICATION-RECOVERY") > 0, "no client has met a Kea without a listener");
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), usize::from(leased));
}

/// The partner takes its time for each lease; four replies may wait.
fn d12() {
    // With one shard the limit is met exactly; several divide it.
    let plan = Plan::hot_standby([N, S]).global("parked-packet-limit", json!(4));
    let (site, script) =
        with_script(plan.edit(|_, dhcp4| dhcp4["multi-threading"]["thread-pool-size"] = json!(1)));
    let added = r#"[ { "result": 0, "text": "IPv4 lease added." } ]"#;
    let answers = Arc::new(AtomicBool::new(false));
    let may_answer = answers.clone();
    script.instead(move |command, _| {
        command.starts_with("lease4").then(|| Verdict::AnswerOnce(may_answer.clone(), response(added)))
    });
    let before = site.statistic(0, "pkt4-receive-drop");
    let dropped = || site.statistic(0, "pkt4-receive-drop") - before;
    let requests: Vec<_> =
        (0..6).map(|number| site.clients.request(mac(1, number), &[], PATIENCE).expect("an offer")).collect();
    eventually("the fifth and the sixth are dropped", SOON, || dropped() >= 2);
    answers.store(true, Ordering::Relaxed);
    let mut replies = HashMap::new();
    let start = Instant::now();
    while replies.len() < 4 && start.elapsed() < PATIENCE {
        site.clients.gather(Duration::from_millis(100), &mut replies);
    }
    site.clients.gather(Duration::from_secs(1), &mut replies);
    let answered: Vec<bool> = requests.iter().map(|request| replies.contains_key(&request.xid)).collect();
    assert_eq!(answered, [true, true, true, true, false, false]);
    assert_eq!(dropped(), 2, "the fifth and the sixth");
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
