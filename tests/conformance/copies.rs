//! Group F: lease databases copied page by page, in both directions, and what goes wrong on the way.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::states::WHOLE;
use crate::support::clients::{PATIENCE, mac, macs};
use crate::support::control;
use crate::support::http::response;
use crate::support::k3::{Script, listed, now_s, remote_locks, updated};
use crate::support::plan::{K, N, Plan, S, Seat};
use crate::support::process::eventually;
use crate::support::rows;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::support::tap::{Exchange, Verdict};
use crate::wire::with_script;
use crate::{Scenario, long_for, scenario};

/// The scenarios of this group.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        scenario(&["F2"], "the_later_transaction_wins_lease_by_lease", 3, f2),
        scenario(&["F3"], "a_malformed_lease_is_skipped_and_the_rest_copied", 3, f3),
        scenario(&["F3"], "a_kea_copies_beyond_released_leases_at_the_ends_of_pages", 12, f3_kea),
        scenario(&["F4"], "a_source_that_dies_is_copied_again_from_the_start", 6, f4),
        scenario(&["F5"], "where_the_source_does_not_stop_no_page_is_fetched", 4, f5),
        scenario(&["F6"], "the_answer_to_the_notification_decides", 6, f6),
        scenario(&["F7"], "a_source_whose_copier_vanishes_serves_again", 20, f7),
        scenario(&["F8"], "a_kea_without_ids_leaves_no_lock_behind", 20, f8),
        scenario(&["F9"], "a_script_of_3_0_gets_its_lock_back_by_number", 3, f9),
        scenario(&["F10"], "a_copier_that_crashes_after_its_notification_silences_nobody", 12, || f10(0)),
        scenario(&["F10"], "a_copier_that_was_heard_and_crashes_silences_nobody", 12, || f10(2)),
        scenario(&["F12"], "an_administrators_copy_leaves_the_states_alone", 8, f12),
    ];
    for (name, seats) in
        [("tandem_from_kea", [K, N]), ("kea_from_tandem", [N, K]), ("tandem_from_tandem", [N, N])]
    {
        for limit in [10_000, 10_001, 25_003] {
            let name = format!("25003_leases_by_{limit}_{name}");
            all.push(scenario(&["F1"], name, 25, move || f1(seats, limit, 25_003)));
        }
        let singles = if long_for().is_some() { 25_003 } else { 500 };
        all.push(scenario(&["F1"], format!("leases_one_by_one_{name}"), 12, move || f1(seats, 1, singles)));
        let name = format!("updates_during_a_copy_{name}");
        all.push(scenario(&["F13"], name, 25, move || f13(seats)));
    }
    all
}

/// A lease file of `count` leases, from 10.99.16.0 on.
fn plant(site: &Site, server: usize, count: u32, cltt: i64) {
    let mut text = String::from(
        "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n",
    );
    for number in 0..count {
        let address = Ipv4Addr::from(0x0a63_1000 + number);
        let [_, high, middle, low] = number.to_be_bytes();
        let expire = cltt + 36_000;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{address},02:aa:00:{high:02x}:{middle:02x}:{low:02x},,36000,{expire},1,0,0,h{number},0,"
        );
    }
    std::fs::write(site.members[server].folder.join("leases.csv"), text).expect("a lease file");
}

/// The commands a copier has sent, without heartbeats and probes.
fn copying(exchanges: Vec<Exchange>) -> Vec<Exchange> {
    let aside = ["ha-heartbeat", "status-get", "list-commands"];
    exchanges.into_iter().filter(|exchange| !aside.contains(&exchange.request.command().as_str())).collect()
}

/// How long a pair with many leases may take to come together.
const COPIED: Duration = Duration::from_secs(180);

/// The source is alone and serves; the copier comes with an empty store.
fn f1(seats: [Seat; 2], limit: u32, leases: u32) {
    // How long a page of all leases takes depends on what else the machine does.
    let plan = Plan::hot_standby(seats).tapped().ha("sync-timeout", json!(60_000));
    let plan = plan.ha("sync-page-limit", json!(limit)).ha("max-response-delay", json!(2500));
    let mut site = Site::new(plan);
    plant(&site, 0, leases, now_s() - 100);
    site.start(0);
    site.wait_for_state(0, "partner-down", SOON);
    site.start(1);
    site.wait_for_states(&WHOLE, COPIED);
    let sent = copying(site.tap(1, 0).exchanges());
    let names: Vec<String> = sent.iter().map(|exchange| exchange.request.command()).collect();
    if names.iter().all(|name| !name.starts_with("tandem")) {
        // One page more where the last one was full.
        let pages = leases / limit + 1;
        let mut expected = Vec::new();
        for _ in 0..pages {
            expected.extend(["dhcp-disable", "lease4-get-page"]);
        }
        expected.push("ha-sync-complete-notify");
        assert_eq!(names, expected);
        let last = site.tap(1, 0).of("lease4-get-page").pop().and_then(|page| page.answer).expect("a page");
        let last = last.answer();
        assert_eq!(last["arguments"]["count"], leases % limit);
        assert_eq!(last["result"], if leases.is_multiple_of(limit) { 3 } else { 0 });
    }
    assert_eq!(site.wait_for_equal_stores([0, 1], TOGETHER), leases as usize);
}

fn copied(site: &Site) -> BTreeMap<Ipv4Addr, rows::Row> {
    rows::read(&site.members[0].folder.join("leases.csv"))
}

/// Rule 6.3: only an older local lease is overwritten; what is only here stays.
fn f2() {
    let mut site = Site::new(Plan::hot_standby([N, S]));
    let now = now_s();
    plant(&site, 0, 4, now - 100);
    let script = Script::new(&site, 1, "hot-standby");
    script.say(|says| {
        for (last, cltt) in [(0u8, now - 200), (1, now - 100), (2, now - 50), (9, now - 500)] {
            let address = Ipv4Addr::new(10, 99, 16, last);
            let lease = listed(&address.to_string(), &format!("02:bb:00:00:00:{last:02x}"), cltt);
            says.leases.insert(address, lease);
        }
    });
    site.start(0);
    site.wait_for_state(0, "hot-standby", SOON);
    let rows = copied(&site);
    let prefix = |last: u8| rows[&Ipv4Addr::new(10, 99, 16, last)].hwaddr[..5].to_owned();
    assert_eq!(prefix(0), "02:aa", "the local one is newer");
    assert_eq!(prefix(1), "02:aa", "as old as the other");
    assert_eq!(prefix(2), "02:bb", "the local one is older");
    assert_eq!(prefix(3), "02:aa", "only here");
    assert_eq!(prefix(9), "02:bb", "only there");
    assert_eq!(rows.len(), 5);
}

/// One lease in the middle of a page, and one at its end, where a Kea of 2.2 would have stopped.
fn f3() {
    let mut site = Site::new(Plan::hot_standby([N, S]).ha("sync-page-limit", json!(5)));
    let script = Script::new(&site, 1, "hot-standby");
    script.say(|says| {
        for last in 1..=12u8 {
            let address = Ipv4Addr::new(10, 99, 16, last);
            let mut lease = listed(&address.to_string(), &format!("02:bb:00:00:00:{last:02x}"), now_s());
            match last {
                3 => lease["state"] = json!(9),
                5 => drop(lease.as_object_mut().expect("a map").remove("cltt")),
                10 => lease["hw-address"] = json!("nonsense"),
                _ => {}
            }
            says.leases.insert(address, lease);
        }
    });
    site.start(0);
    site.wait_for_state(0, "hot-standby", SOON);
    let rows = copied(&site);
    let lasts: Vec<u8> = rows.keys().map(|address| address.octets()[3]).collect();
    assert_eq!(lasts, [1, 2, 4, 6, 7, 8, 9, 11, 12]);
    assert_eq!(script.tap.of("lease4-get-page").len(), 3);
}

/// A Kea of 2.2 knows no released lease, and takes a page whose last lease it cannot read for the last page (ha-protocol
/// 6.4). So a Tandem lists released leases as ones that have run out: at the end of the first page, of the second, and
/// of the last.
fn f3_kea() {
    const RELEASED: [u8; 3] = [4, 9, 14];
    let plan = Plan::hot_standby([N, K]).tapped().ha("sync-page-limit", json!(5));
    let mut site = Site::new(plan.ha("max-response-delay", json!(2500)));
    plant(&site, 0, 15, now_s() - 100);
    let file = site.members[0].folder.join("leases.csv");
    let mut text = std::fs::read_to_string(&file).expect("the file");
    for last in RELEASED {
        text = text.replace(&format!(",h{last},0,"), &format!(",h{last},3,"));
    }
    std::fs::write(&file, text).expect("the file");
    site.start(0);
    site.wait_for_state(0, "partner-down", SOON);
    site.start(1);
    site.wait_for_states(&WHOLE, TOGETHER);
    let pages = site.tap(1, 0).of("lease4-get-page");
    let counts: Vec<Value> = pages
        .iter()
        .map(|page| page.answer.as_ref().expect("an answer").answer()["arguments"]["count"].clone())
        .collect();
    assert_eq!(counts, [5, 5, 5, 0].map(|count| json!(count)));
    site.wait_for_equal_held([0, 1], SOON);
    let held = |lease: &&Value| lease["state"] == 0 && lease["valid-lft"] != 0;
    let lists = [0, 1].map(|server| control::leases(&site.socket(server)));
    assert_eq!(lists.each_ref().map(|list| list.iter().filter(held).count()), [12, 12]);
    assert_eq!(lists[0].iter().filter(|lease| lease["state"] == 3).count(), RELEASED.len());
}

/// A script with thirty leases behind a Tandem that copies pages of ten.
fn thirty(plan: Plan) -> (Site, Script) {
    let site = Site::new(plan.ha("sync-page-limit", json!(10)));
    let script = Script::new(&site, 1, "hot-standby");
    script.say(|says| {
        for last in 1..=30u8 {
            let address = Ipv4Addr::new(10, 99, 16, last);
            says.leases.insert(address, listed(&address.to_string(), "02:bb:00:00:00:01", now_s()));
        }
    });
    (site, script)
}

fn names(script: &Script) -> Vec<String> {
    copying(script.tap.exchanges()).iter().map(|exchange| exchange.request.command()).collect()
}

/// The source dies when it is asked for the third page, and comes back: it is copied from the first page on, and what it
/// was stopped with is undone.
fn f4() {
    let (mut site, script) = thirty(Plan::hot_standby([N, S]));
    let (mut pages, mut died) = (0, None);
    script.instead(move |command, _| {
        pages += u32::from(command == "lease4-get-page");
        if pages == 3 && died.is_none() {
            died = Some(Instant::now());
        }
        let dead = died.is_some_and(|died| died.elapsed() < Duration::from_millis(1500));
        dead.then_some(Verdict::Close)
    });
    site.start(0);
    site.wait_for_state(0, "hot-standby", SOON);
    let names = names(&script);
    assert_eq!(names[..6], ["dhcp-disable", "lease4-get-page"].repeat(3));
    assert!(names.iter().any(|name| name == "dhcp-enable"), "{names:?}");
    let answered: Vec<Value> = script
        .tap
        .of("lease4-get-page")
        .iter()
        .filter(|page| page.answer.is_some())
        .map(|page| page.arguments()["from"].clone())
        .collect();
    let whole = ["start", "10.99.16.10", "10.99.16.20", "10.99.16.30"];
    assert_eq!(
        answered,
        [&whole[..2], &whole[..]].concat().into_iter().map(|from| json!(from)).collect::<Vec<_>>()
    );
    assert_eq!(copied(&site).len(), 30);
}

fn f5() {
    let (mut site, script) = thirty(Plan::hot_standby([N, S]));
    let error = || Verdict::Answer(response(r#"[ { "result": 1, "text": "no" } ]"#));
    script.instead(move |command, _| (command == "dhcp-disable").then(error));
    site.start(0);
    eventually("attempts", SOON, || script.tap.of("dhcp-disable").len() > 2);
    assert!(names(&script).iter().all(|name| name == "dhcp-disable"), "{:?}", names(&script));
    assert_eq!(site.state(0), "syncing");
    script.as_usual();
    site.wait_for_state(0, "hot-standby", SOON);
}

fn f6() {
    // Not known there: the service is switched on by the older command.
    let (mut site, script) = thirty(Plan::hot_standby([N, S]));
    let unknown = || Verdict::Answer(response(r#"[ { "result": 2, "text": "not supported" } ]"#));
    script.instead(move |command, _| (command == "ha-sync-complete-notify").then(unknown));
    site.start(0);
    site.wait_for_state(0, "hot-standby", SOON);
    let names_sent = names(&script);
    assert_eq!(names_sent[names_sent.len() - 2..], ["ha-sync-complete-notify", "dhcp-enable"]);
    let enable = script.tap.of("dhcp-enable")[0].arguments();
    assert_eq!(enable, json!({ "origin": "ha-partner", "origin-id": 2000 }));

    // An error: the copy has failed, and is made again.
    let (mut site, script) = thirty(Plan::hot_standby([N, S]));
    let error = || Verdict::Answer(response(r#"[ { "result": 1, "text": "no" } ]"#));
    script.instead(move |command, _| (command == "ha-sync-complete-notify").then(error));
    site.start(0);
    eventually("another copy", SOON, || script.tap.of("ha-sync-complete-notify").len() > 1);
    assert_ne!(site.state(0), "hot-standby");
    script.as_usual();
    site.wait_for_state(0, "hot-standby", SOON);
}

/// Whether a client gets an offer soon.
fn serves(site: &Site, number: u16) -> bool {
    site.clients.discover(mac(6, number), 0, Duration::from_millis(250)).is_some()
}

/// The same where it has to. A server that has gone on alone serves once that is noted on its disk.
fn must_serve(site: &Site, number: u16) {
    eventually("an offer", SOON, || serves(site, number));
}

/// `max-period` is 3 s for a copier that vanishes, and longer for one that is there again within half of it, each time.
fn f7() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    let disable = |period_s: u64| {
        let arguments = json!({ "max-period": period_s, "origin": "ha-partner" });
        let answer = script.post(&site, 0, "dhcp-disable", arguments);
        let text = format!("DHCPv4 service disabled for {period_s} seconds");
        assert_eq!(answer, json!({ "result": 0, "text": text }));
    };
    must_serve(&site, 1);
    let start = Instant::now();
    disable(3);
    assert!(!serves(&site, 2));
    eventually("service again", SOON, || serves(&site, 3));
    let took = start.elapsed();
    assert!((3_000..8_000).contains(&took.as_millis()), "{took:?}");
    disable(6);
    for number in 0..4 {
        std::thread::sleep(Duration::from_millis(2200));
        assert!(!serves(&site, 10 + number), "the copier has come back in time");
        disable(6);
    }
    eventually("service again", SOON, || serves(&site, 20));
}

/// A Kea copies twice: from a Tandem that was alone, and from one in the normal state on its administrator's word.
fn f8() {
    let mut site = Site::new(Plan::hot_standby([N, K]).tapped().ha("sync-timeout", json!(60_000)));
    site.start(0);
    site.wait_for_state(0, "partner-down", SOON);
    site.clients.lease(mac(1, 1), &[]);
    site.start(1);
    site.wait_for_states(&WHOLE, TOGETHER);
    must_serve(&site, 1);
    site.tap(1, 0).forget();
    let copied = control::command(&site.socket(1), "ha-sync", json!({ "server-name": "server1" }));
    assert_eq!(copied["result"], 0, "{copied}");
    let notify = site.tap(1, 0).of("ha-sync-complete-notify").pop().expect("a notification");
    assert!(notify.arguments().is_null(), "a Kea of 2.2 sends no id");
    // Right after the notification.
    assert!(site.clients.discover(mac(6, 2), 0, PATIENCE).is_some());
    assert_eq!(site.command(0, "status-get", Value::Null)["result"], 0);
}

/// What the script of 3.0 holds off by `dhcp-disable` is what the notification lets go: origin 2000.
fn f9() {
    let (mut site, script) = thirty(Plan::hot_standby([N, S]));
    let (during, says) = (Arc::new(Mutex::new(Vec::new())), script.says.clone());
    let seen = during.clone();
    script.instead(move |command, _| {
        if command == "lease4-get-page" {
            seen.lock().expect("the list").push(says.lock().expect("the script").remote_locks());
        }
        None
    });
    site.start(0);
    site.wait_for_state(0, "hot-standby", SOON);
    assert_eq!(*during.lock().expect("the list"), vec![json!([2000]); 4], "while each page is fetched");
    let status = site.post(1, &json!({ "command": "status-get", "service": ["dhcp4"] })).answer();
    assert_eq!(remote_locks(&status), json!([]), "{status}");
    for disable in script.tap.of("dhcp-disable") {
        assert_eq!(
            disable.arguments(),
            json!({ "max-period": 10, "origin": "ha-partner", "origin-id": 2000 })
        );
    }
    let notify = script.tap.of("ha-sync-complete-notify").pop().expect("a notification").arguments();
    assert_eq!(notify, json!({ "origin": 2000, "origin-id": 2000, "server-name": "server1" }));
}

/// Alone and notified by a copier of 2.2, which then is gone, at once or after it was heard as one that is not ready:
/// the first heartbeat that fails gives this server its service back.
fn f10(heard: usize) {
    let mut site = Site::new(Plan::hot_standby([N, S]).ha("heartbeat-delay", json!(4000)));
    site.start(0);
    site.wait_for_state(0, "partner-down", SOON);
    must_serve(&site, 1);
    let script = Script::new(&site, 1, "syncing");
    script.say(|says| says.is_k3 = false);
    let arguments = json!({ "max-period": 60, "origin": "ha-partner" });
    assert_eq!(script.post(&site, 0, "dhcp-disable", arguments)["result"], 0);
    assert!(!serves(&site, 2));
    let answer = script.post(&site, 0, "ha-sync-complete-notify", Value::Null);
    assert_eq!(answer["result"], 0);
    // These succeed, and say that it is not ready.
    script.tap.forget();
    eventually("heartbeats", SOON, || script.tap.of("ha-heartbeat").len() >= heard);
    script.instead(|_, _| Some(Verdict::Close));
    script.tap.forget();
    eventually("service again", SOON, || serves(&site, 3));
    // The request that is closed upon may be sent once more, on a connection of its own.
    let mut failed = script.tap.of("ha-heartbeat");
    failed.dedup_by(|next, one| next.request.at.duration_since(one.request.at) < Duration::from_secs(2));
    assert_eq!(failed.len(), 1, "one heartbeat");
    assert_eq!(site.state(0), "partner-down");
}

/// In the normal state each side copies from the other; the states stay.
fn f12() {
    let site = Site::whole(Plan::hot_standby([N, K]).tapped(), "hot-standby");
    site.clients.lease_all(&macs(1, 30));
    let lease = updated("10.99.7.7", "02:00:00:00:07:07");
    assert_eq!(
        site.post(1, &json!({ "command": "lease4-update", "arguments": lease })).answer()["result"],
        0
    );
    [0, 1].iter().for_each(|server| site.wait_for_log(*server, "to HOT-STANDBY"));
    let changes = [0, 1].map(|server| site.logged(server, "HA_STATE_TRANSITION"));
    let answer = control::command(&site.socket(0), "ha-sync", json!({ "server-name": "server2" }));
    assert_eq!(answer, json!({ "result": 0, "text": "Lease database synchronization complete." }));
    assert!(site.lease(0, Ipv4Addr::new(10, 99, 7, 7)).is_some());
    let answer = control::command(&site.socket(1), "ha-sync", json!({ "server-name": "server1" }));
    assert_eq!(answer["result"], 0, "{answer}");
    let own = control::command(&site.socket(0), "ha-sync", json!({ "server-name": "server1" }));
    assert_eq!(own["result"], 1, "nobody copies from itself");
    assert_eq!([site.state(0), site.state(1)], WHOLE);
    assert_eq!([0, 1].map(|server| site.logged(server, "HA_STATE_TRANSITION")), changes);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 31);
}

/// While the store of the primary is copied, page by page, on its administrator's word, it goes on receiving updates.
fn f13(seats: [Seat; 2]) {
    let plan = Plan::hot_standby(seats).ha("sync-page-limit", json!(500));
    let mut site = Site::new(plan);
    plant(&site, 0, 8_000, now_s() - 100);
    site.start_all();
    site.wait_for_states(&WHOLE, TOGETHER);
    let copied = std::thread::scope(|scope| {
        let copy = scope
            .spawn(|| control::try_command(&site.socket(1), "ha-sync", json!({ "server-name": "server1" })));
        let mut connections = [site.connect(0), site.connect(1)];
        let mut number = 0u16;
        while !copy.is_finished() || number < 100 {
            number += 1;
            let [high, low] = number.to_be_bytes();
            let at = format!("10.99.{}.{low}", 9 + high);
            let lease = updated(&at, &format!("02:cc:00:00:{high:02x}:{low:02x}"));
            // Both get it, as they do from a third server that serves.
            for connection in &mut connections {
                let body = json!({ "command": "lease4-update", "arguments": lease, "service": ["dhcp4"] });
                assert_eq!(connection.post(&body).answer()["result"], 0);
            }
        }
        copy.join().expect("a copy").expect("an answer")
    });
    assert_eq!(copied["result"], 0, "{copied}");
    assert!(site.wait_for_equal_stores([0, 1], SOON) >= 8_100);
    assert_eq!([site.state(0), site.state(1)], WHOLE);
}
