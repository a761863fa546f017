//! Group C, first half: start, the loss of a partner, and its return.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::clients::query;
use crate::support::clients::{PATIENCE, mac, macs};
use crate::support::dhcp::{DISCOVER, Query};
use crate::support::load::Load;
use crate::support::plan::{K, N, Plan, S, Seat};
use crate::support::process::eventually;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::wire::with_script;
use crate::{Scenario, scenario};

/// Every pairing with a Tandem in it.
pub const PAIRINGS: [(&str, [Seat; 2]); 3] =
    [("tandem_tandem", [N, N]), ("tandem_kea", [N, K]), ("kea_tandem", [K, N])];

/// The normal state of a hot-standby pair.
pub const WHOLE: [&str; 2] = ["hot-standby", "hot-standby"];

/// The scenarios of this half.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        scenario(&["C1"], "files_that_differ_are_named_until_one_is_put_right", 8, c1_files),
        scenario(&["C6"], "a_standby_takes_over_when_enough_clients_go_unanswered_tandem", 20, || c6([N, N])),
        scenario(&["C6"], "a_standby_takes_over_when_enough_clients_go_unanswered_kea", 20, || c6([K, N])),
        scenario(&["C7"], "without_traffic_analysis_a_standby_takes_over_at_once", 12, c7),
        scenario(&["C9"], "without_synchronisation_nobody_is_disabled", 4, c9),
        scenario(&["C10"], "without_heartbeats_a_server_waits_and_does_not_spin", 6, c10),
    ];
    for (name, seats, cuts) in [
        ("tandem_both_ways", [N, N], &[(0, 1), (1, 0)][..]),
        ("tandem_to_the_standby", [N, N], &[(0, 1)]),
        ("kea_both_ways", [K, N], &[(0, 1), (1, 0)]),
    ] {
        let name =
            format!("a_standby_with_the_fast_preset_stays_what_it_is_where_the_link_alone_is_cut_{name}");
        all.push(scenario(&["C6"], name, 18, move || link_alone(seats, cuts)));
    }
    for (name, seats) in PAIRINGS {
        all.push(scenario(&["C1"], format!("both_start_{name}"), 6, move || c1(seats)));
        for first in [0, 1] {
            if seats[first] == N {
                let name = format!("server{}_alone_then_both_{name}", first + 1);
                all.push(scenario(&["C3", "C4"], name, 20, move || c3_c4(seats, first)));
            }
        }
        if seats[0] == N {
            let name = format!("a_primary_is_silent_until_its_dead_standby_is_missed_{name}");
            all.push(scenario(&["C5"], name, 15, move || c5(seats)));
        }
    }
    all
}

/// The primary copies first: it is ready before the standby begins. Then both are in the normal state, and only the
/// primary has a scope.
fn c1(seats: [Seat; 2]) {
    let mut site = Site::new(Plan::hot_standby(seats).tapped());
    site.start_all();
    site.wait_for_states(&WHOLE, TOGETHER);
    assert_eq!([site.scopes(0), site.scopes(1)], [vec!["server1".to_owned()], vec![]]);
    let copied = |from: usize| {
        let command = if seats == [N, N] { "tandem-lease4-copy" } else { "lease4-get-page" };
        let pages = site.tap(from, 1 - from).of(command);
        pages.first().unwrap_or_else(|| panic!("server{} has not copied", from + 1)).request.at
    };
    assert!(copied(0) < copied(1), "the primary copies first");
    site.clients.lease_all(&macs(1, 20));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 20);
}

/// Two Tandems become whole whatever their files say; each names the subnet whose pools differ, until it is put right.
fn c1_files() {
    const ENDS_BEFORE: &str = "10.99.7.255";
    let plan = Plan::hot_standby([N, N]).edit(|server, dhcp4| {
        if server == 1 {
            dhcp4["subnet4"][0]["pools"][0]["pool"] = json!(format!("10.99.1.0 - {ENDS_BEFORE}"));
        }
    });
    let site = Site::whole(plan, "hot-standby");
    let differs = |server: usize| site.ha_servers(server)["remote"]["tandem-configuration-differs"].clone();
    for server in [0, 1] {
        eventually("the difference", SOON, || site.logged(server, "TANDEM_HA_CONFIGURATION_DIFFERS") == 1);
        assert_eq!(differs(server), json!({ "in": ["pools"], "subnets": [1] }));
    }
    let file = site.folder().join("server2/dhcp4.conf");
    let text = std::fs::read_to_string(&file).expect("the second server's file");
    std::fs::write(&file, text.replace(ENDS_BEFORE, "10.99.8.255")).expect("the second server's file");
    site.signal(1, "HUP");
    for server in [0, 1] {
        eventually("the end of it", SOON, || differs(server).is_null());
    }
    assert_eq!([site.state(0), site.state(1)], WHOLE);
}

/// What the heartbeat of a server says of leases it has granted and not sent.
fn unsent(site: &Site, server: usize) -> u64 {
    let heartbeat = json!({ "command": "ha-heartbeat", "service": ["dhcp4"] });
    let answer = site.post(server, &heartbeat).answer();
    answer["arguments"]["unsent-update-count"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

/// The first server starts alone, serves nobody until its partner counts as lost, then everybody; the second one copies
/// from it, and the pair is whole with the same leases.
fn c3_c4(seats: [Seat; 2], first: usize) {
    let second = 1 - first;
    let mut site = Site::new(Plan::hot_standby(seats).tapped());
    let start = Instant::now();
    site.start(first);
    site.wait_for_state(first, "waiting", SOON);
    assert!(site.clients.discover(mac(1, 0), 0, Duration::from_secs(1)).is_none(), "served in waiting");
    site.wait_for_state(first, "partner-down", SOON);
    // `max-response-delay`, and what a busy machine takes to start a server.
    let missed = start.elapsed();
    assert!((4_000..15_000).contains(&missed.as_millis()), "{missed:?} after the start");
    assert_eq!(site.scopes(first), ["server1"]);
    assert_eq!(unsent(&site, first), 0);
    for number in 1..=3 {
        site.clients.lease(mac(1, number), &[]);
        eventually("one more unsent", SOON, || unsent(&site, first) == u64::from(number));
    }
    site.clients.discover(mac(1, 9), 0, PATIENCE).expect("an offer");
    assert_eq!(unsent(&site, first), 3, "an offer is no lease");

    site.start(second);
    site.wait_for_states(&WHOLE, TOGETHER);
    let names: Vec<String> = site
        .tap(second, first)
        .exchanges()
        .iter()
        .map(|exchange| exchange.request.command())
        .filter(|name| !matches!(name.as_str(), "ha-heartbeat" | "status-get"))
        .collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    if seats == [N, N] {
        // The source serves until the last changes are copied.
        names.dedup();
        assert_eq!(names[..2], ["tandem-lease4-copy", "dhcp-disable"], "{names:?}");
        assert_eq!(names[2..4], ["tandem-lease4-copy", "ha-sync-complete-notify"], "{names:?}");
    } else {
        assert_eq!(names[..3], ["dhcp-disable", "lease4-get-page", "ha-sync-complete-notify"], "{names:?}");
    }
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 3);
    assert_eq!([site.scopes(0), site.scopes(1)], [vec!["server1".to_owned()], vec![]]);
    let ack = site.clients.lease(mac(1, 4), &[]);
    assert_eq!(ack.server, site.lan_address(0));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 4);
}

/// How long a server may take to notice that its partner is dead: `max-response-delay`, a heartbeat, and what a busy
/// machine takes.
const MISSED_WITHIN: Duration = Duration::from_secs(12);

/// How long a server has to be silent before it may be missed: `max-response-delay`, less the ticks of clocks.
const SILENT_FOR: Duration = Duration::from_millis(3_950);

/// When a heartbeat of a server was answered last.
fn last_heard(site: &Site, server: usize) -> Instant {
    let heartbeats = site.tap(server, 1 - server).of("ha-heartbeat").into_iter();
    heartbeats.filter_map(|heartbeat| heartbeat.answered_at).max().expect("an answer")
}

/// No lease is acknowledged that the other one lacks, until there is no other one; then they are at once.
fn c5(seats: [Seat; 2]) {
    let mut site = Site::whole(Plan::hot_standby(seats).tapped(), "hot-standby");
    site.clients.lease_all(&macs(1, 10));
    site.kill(1);
    let killed = Instant::now();
    let (mut number, mut alone) = (0, 0);
    let first = loop {
        let before = site.state(0);
        number += 1;
        // Its shards may know a moment later than who asks for the state.
        alone += u32::from(before == "partner-down");
        let patience = if alone > 1 { PATIENCE } else { Duration::from_millis(300) };
        let ack = site.clients.try_lease(mac(2, number), &[], patience);
        if let Some(ack) = ack {
            assert_eq!(site.state(0), "partner-down", "an ACK in {before}");
            break ack;
        }
        assert!(alone < 2 && killed.elapsed() < MISSED_WITHIN, "no ACK in {before}");
    };
    let silent = first.at.duration_since(last_heard(&site, 0));
    assert!(silent >= SILENT_FOR, "the first ACK after {silent:?} of silence");
    site.start(1);
    site.wait_for_states(&WHOLE, TOGETHER);
    site.wait_for_equal_stores([0, 1], SOON);
}

fn unacked(site: &Site) -> Value {
    site.ha_servers(1)["remote"]["unacked-clients"].clone()
}

/// `max-unacked-clients` is 2 and `max-ack-delay` 4 s. A client is counted once, 5 s may have its octets swapped, 3 s is
/// no reason yet.
fn c6(seats: [Seat; 2]) {
    let mut site = Site::whole(Plan::hot_standby(seats).ha("max-ack-delay", json!(4000)), "hot-standby");
    site.clients.lease_all(&macs(1, 5));
    site.kill(0);
    let start = Instant::now();
    while site.ha_servers(1)["remote"]["communication-interrupted"] != true {
        assert!(start.elapsed() < SOON);
        std::thread::sleep(Duration::from_millis(50));
    }
    let ask = |number: u16, secs: u16, xid: u32| {
        site.clients.send(&Query { secs, xid, ..query(DISCOVER, mac(3, number), Vec::new()) });
    };
    ask(1, 10, 1);
    ask(1, 12, 2);
    ask(2, 0x0500, 3);
    ask(3, 3, 4);
    eventually("all three are seen", SOON, || site.ha_servers(1)["remote"]["connecting-clients"] == 3);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(unacked(&site), 2);
    assert_eq!(site.ha_servers(1)["remote"]["connecting-clients"], 3);
    assert_eq!(site.state(1), "hot-standby", "two clients are no proof");
    assert!(site.clients.discover(mac(3, 5), 0, Duration::from_millis(300)).is_none());
    ask(3, 20, 5);
    site.wait_for_state(1, "partner-down", SOON);
    assert_eq!(site.scopes(1), ["server1"]);
    site.clients.lease_all(&macs(4, 5));
    site.start(0);
    site.wait_for_states(&WHOLE, TOGETHER);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 10);
}

/// The values that README gives for a fast take-over, clients as RFC 2131 has them, and a link that is cut while every
/// client reaches both servers. The primary keeps replies back until it counts its partner as lost, and then serves
/// alone for a while; who waits for it meanwhile is no proof that it is dead. A Kea notices when a heartbeat fails, and
/// one on a cut link takes 10 s for that (ha-protocol 4.5).
fn link_alone(seats: [Seat; 2], cuts: &[(usize, usize)]) {
    let preset = [
        ("heartbeat-delay", 500),
        ("max-response-delay", 2500),
        ("max-ack-delay", 1500),
        ("max-unacked-clients", 2),
    ];
    let plan =
        preset.into_iter().fold(Plan::hot_standby(seats), |plan, (key, value)| plan.ha(key, json!(value)));
    let site = Site::whole(plan, "hot-standby");
    let mut load = Load::new(&site, 1).patient();
    load.during(Duration::from_millis(30), || {
        std::thread::sleep(Duration::from_secs(1));
        cuts.iter().for_each(|(from, to)| site.cut(*from, *to));
        site.wait_for_log(0, "to PARTNER-DOWN");
        std::thread::sleep(Duration::from_secs(6));
        cuts.iter().for_each(|(from, to)| site.mend(*from, *to));
    });
    assert_eq!(site.logged(1, "to PARTNER-DOWN"), 0, "the standby has taken over beside it");
    site.wait_for_states(&WHOLE, TOGETHER);
    load.finish(TOGETHER);
    assert!(load.held.len() > 100, "{} clients were served", load.held.len());
    assert!(load.held.values().all(|ack| ack.server == site.lan_address(0)));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), load.held.len());
}

fn c7() {
    let plan = Plan::hot_standby([K, N]).tapped().ha("max-unacked-clients", json!(0));
    let mut site = Site::whole(plan, "hot-standby");
    site.kill(0);
    let took = site.wait_for_state(1, "partner-down", SOON);
    let silent = last_heard(&site, 1).elapsed();
    assert!(silent >= SILENT_FOR && took < MISSED_WITHIN, "{took:?}, after {silent:?} of silence");
    site.clients.lease_all(&macs(4, 5));
}

fn c9() {
    let site = Site::whole(Plan::hot_standby([N, K]).tapped().ha("sync-leases", json!(false)), "hot-standby");
    for (from, to) in [(0, 1), (1, 0)] {
        for command in ["dhcp-disable", "dhcp-enable", "lease4-get-page", "ha-sync-complete-notify"] {
            assert!(site.tap(from, to).of(command).is_empty(), "{command} from server{}", from + 1);
        }
    }
    assert_eq!(site.logged(0, "SYNCING"), 0);
    site.clients.lease_all(&macs(1, 5));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 5);
}

fn cpu_ticks(site: &Site) -> u64 {
    let id = site.members[0].process.as_ref().expect("running").id();
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("stat");
    let fields = text.rsplit(") ").next().expect("fields").split(' ');
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
}

fn c10() {
    let mut site = Site::new(Plan::hot_standby([N, S]).ha("heartbeat-delay", json!(0)));
    let script = crate::support::k3::Script::new(&site, 1, "hot-standby");
    site.start(0);
    site.wait_for_state(0, "waiting", SOON);
    std::thread::sleep(Duration::from_secs(1));
    let before = cpu_ticks(&site);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(site.state(0), "waiting");
    assert!(script.tap.of("ha-heartbeat").is_empty());
    // A hundred ticks are a second.
    assert!(cpu_ticks(&site) - before < 40, "{} ticks", cpu_ticks(&site) - before);
}

/// A partner that is terminated is followed. A Kea sends no heartbeats then; this server goes on asking, slowly, so that
/// nobody has to restart it once the partner was.
pub fn c13() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    script.say(|says| says.state = "terminated");
    site.wait_for_state(0, "terminated", SOON);
    std::thread::sleep(Duration::from_millis(300));
    script.tap.forget();
    std::thread::sleep(Duration::from_secs(3));
    assert!(script.tap.of("ha-heartbeat").len() <= 3, "{}", script.tap.of("ha-heartbeat").len());
    let answer = script.post(&site, 0, "ha-heartbeat", Value::Null);
    assert_eq!(answer["arguments"]["state"], "terminated");
    let ack = site.clients.lease(mac(1, 1), &[]);
    assert_eq!(ack.server, site.lan_address(0), "its own scope is served alone");
    assert!(script.tap.of("lease4-update").is_empty());
}
