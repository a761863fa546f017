//! What outlives a fault: requests that arrive long after they were given up, connections whose other end is gone, and
//! changes that another server was not told of before this one ended.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tandem::ha::batch;

use crate::balance::balanced;
use crate::states::WHOLE;
use crate::support::clients::{PATIENCE, mac, macs};
use crate::support::plan::{K, N, Plan, Seat, address};
use crate::support::process::eventually;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::support::tap::{Exchange, Verdict};
use crate::{Scenario, scenario};

/// The scenarios of this file.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, mode) in [("hot_standby", "hot-standby"), ("load_balancing", "load-balancing")] {
        let name = format!("an_update_that_was_given_up_is_refused_behind_newer_ones_{name}");
        all.push(scenario(&["D6", "D9"], name, 25, move || late_updates(mode)));
    }
    for (name, seats) in [("tandem", [N, N]), ("kea", [N, K])] {
        let name = format!("a_connection_whose_other_end_has_vanished_is_given_up_in_time_{name}");
        all.push(scenario(&["C4", "D9"], name, 30, move || vanished(seats)));
    }
    for (name, signal) in [("killed", "KILL"), ("stopped", "TERM")] {
        let name = format!("what_others_lack_is_known_to_a_server_that_was_{name}");
        all.push(scenario(&["C4", "D14", "F2"], name, 20, move || restarted(signal)));
    }
    all
}

/// A pair of Tandems with taps between them.
fn tapped(mode: &str) -> Plan {
    let plan = match mode {
        "hot-standby" => Plan::hot_standby([N, N]),
        _ => balanced([N, N]),
    };
    plan.tapped()
}

fn contains(octets: &[u8], part: &[u8]) -> bool {
    octets.windows(part.len()).any(|window| window == part)
}

/// Method: the network swallows the connections that carry the first updates of two clients, and gives them up after
/// newer ones of the same addresses, another name and a release, have gone by other connections and were answered. In
/// load-balancing either server may be the clients'.
fn late_updates(mode: &'static str) {
    let site = Site::whole(tapped(mode), mode);
    let (renamed, gone) = (mac(1, 1), mac(1, 2));
    let name = |text: &str| [(12, text.as_bytes().to_vec())];
    let first = [renamed, gone].map(|client| site.clients.lease(client, &name("first")));
    site.wait_for_equal_stores([0, 1], SOON);
    let arrives = Arc::new(AtomicBool::new(false));
    for (from, to) in [(0, 1), (1, 0)] {
        let (arrives, tap) = (arrives.clone(), site.tap(from, to));
        tap.forget();
        tap.judge(move |request| match is_stale(&request.body) {
            true => Verdict::PassOnce(arrives.clone()),
            false => Verdict::Pass,
        });
    }
    let stale = || -> Vec<Exchange> {
        let all = [(0, 1), (1, 0)].into_iter().flat_map(|(from, to)| site.tap(from, to).exchanges());
        all.filter(|exchange| is_stale(&exchange.request.body)).collect()
    };
    let asked = [renamed, gone].map(|client| site.clients.request(client, &name("stale"), PATIENCE));
    eventually("updates under way", SOON, || {
        [renamed, gone].iter().all(|client| stale().iter().any(|held| contains(&held.request.body, client)))
    });
    let asked = asked.map(|request| request.expect("an offer").xid);
    let again = [renamed, gone].map(|client| site.clients.lease(client, &name("newer")));
    let answers = asked.map(|xid| site.clients.answers(xid, 1, Duration::from_millis(100)));
    assert!(answers.iter().all(Vec::is_empty), "acknowledged although the partner has not answered");
    assert_eq!(first.each_ref().map(|ack| ack.address), again.each_ref().map(|ack| ack.address));
    // Until a server hears its partner again it takes it for one that knows no released leases.
    for server in [0, 1] {
        let heard = || site.ha_servers(server)["remote"]["last-state"] == mode;
        eventually("the partner is heard again", SOON, heard);
    }
    // It is asked which release it is of right after that, and the answer has been read when the next heartbeat goes.
    let gave_up = |&(from, to): &(usize, usize)| {
        site.tap(from, to).exchanges().iter().any(|exchange| is_stale(&exchange.request.body))
    };
    for (from, to) in [(0, 1), (1, 0)].into_iter().filter(gave_up) {
        let asked = || site.tap(from, to).of("status-get").iter().any(|asked| asked.answer.is_some());
        eventually("the release is known", SOON, asked);
        site.tap(from, to).wait_for_another("ha-heartbeat");
    }
    site.clients.release(gone, again[1].address, again[1].server);
    let is_released = |server: usize| site.lease(server, again[1].address).is_some_and(|it| it["state"] == 3);
    eventually("the release at both", SOON, || is_released(0) && is_released(1));

    arrives.store(true, Ordering::Relaxed);
    eventually("late arrivals", SOON, || stale().iter().all(|late| late.answer.is_some()));
    for late in stale() {
        let answer = late.answer.expect("an answer");
        // One request has carried both where their addresses are of one shard.
        let count = [renamed, gone].iter().filter(|client| contains(&late.request.body, &client[..])).count();
        let (outcomes, text) = batch::outcomes(&answer.body, count).expect("an answer to a batch");
        assert_eq!(text.as_deref(), Some(batch::LATE), "{outcomes:?}");
    }
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 2);
    assert!(is_released(0) && is_released(1));
    for server in [0, 1] {
        assert_eq!(site.lease(server, again[0].address).expect("a lease")["hostname"], "newer");
    }
    assert_eq!([site.state(0), site.state(1)], [mode; 2], "nobody left the normal state over it");
}

/// Whether these are updates of the clients' second round.
fn is_stale(body: &[u8]) -> bool {
    batch::is_batch(body) && contains(body, b"stale")
}

/// What the kernel of a server still wants to send to another one on connections that were made, as `ss` has it; a
/// connection that is being made carries nothing yet.
fn undelivered(site: &Site, from: usize, to: usize) -> Vec<String> {
    let peer = format!("dst {}", address(to));
    let out = Command::new("ip")
        .args(["netns", "exec", site.members[from].host.name(), "ss", "-Htan", &peer])
        .output()
        .expect("ss");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let waits = |line: &&str| {
        let mut words = line.split_whitespace();
        let (state, send_queue) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or("0"));
        state != "SYN-SENT" && send_queue != "0"
    };
    text.lines().filter(waits).map(str::to_owned).collect()
}

/// Method: every frame between the two is lost from one moment on, with an update on its way. The Kea lives on; the
/// Tandem is killed and says nothing of it, for that is lost as well. Beyond the ten seconds of an update nothing of
/// before the cut may be left to be sent, to arrive behind the copy of whoever has joined again.
fn vanished(seats: [Seat; 2]) {
    const GIVEN_UP_WITHIN: Duration = Duration::from_secs(14);
    let mut site = Site::whole(Plan::hot_standby(seats), "hot-standby");
    let name = |text: &str| [(12, text.as_bytes().to_vec())];
    site.clients.lease_all(&macs(1, 5));
    // A Kea copies what is newer by a second.
    std::thread::sleep(Duration::from_millis(1100));
    site.part();
    site.clients.request(mac(1, 1), &name("lost"), PATIENCE).expect("an offer");
    eventually("an update on its way", Duration::from_secs(8), || !undelivered(&site, 0, 1).is_empty());
    if seats[1] == N {
        site.kill(1);
    }
    // Whatever comes during the first seconds goes the same way.
    site.wait_for_state(0, "partner-down", SOON);
    site.clients.lease(mac(1, 1), &name("alone"));
    eventually("nothing is left to be sent", GIVEN_UP_WITHIN, || undelivered(&site, 0, 1).is_empty());
    if seats[1] == N {
        site.start(1);
    }
    site.join();
    site.wait_for_states(&WHOLE, TOGETHER);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 5);
    let held = site.clients.lease(mac(1, 1), &name("alone"));
    for server in [0, 1] {
        assert_eq!(site.lease(server, held.address).expect("a lease")["hostname"], "alone");
    }
}

/// What the first server says of its backup.
fn needs_copy(site: &Site) -> bool {
    let answer = site.command(0, "status-get", Value::Null);
    let backup = &answer["arguments"]["high-availability"][0]["tandem-backups"][0];
    backup["needs-copy"].as_bool().unwrap_or_else(|| panic!("no backup: {answer}"))
}

/// Where a server remembers who lacks changes.
fn behind(site: &Site, server: usize) -> PathBuf {
    site.members[server].folder.join("leases.csv.tandem-behind")
}

/// Method: while its standby and its backup are gone the primary gives leases, takes one back, and one is deleted. Then
/// it ends as well, and all three start at once, so that the primary copies first, from a standby whose leases are old.
fn restarted(signal: &str) {
    let roles = ["primary", "standby", "backup"];
    let plan = Plan::new("hot-standby", &[N; 3], &roles).ha("max-unacked-clients", json!(0));
    let mut site = Site::new(plan);
    let whole = ["hot-standby", "hot-standby", "backup"];
    site.start_all();
    site.wait_for_states(&whole, TOGETHER);
    let leased = site.clients.lease_all(&macs(1, 8));
    for other in [1, 2] {
        assert_eq!(site.wait_for_equal_stores([0, other], SOON), 8);
    }
    assert!(!needs_copy(&site));
    site.kill(1);
    site.kill(2);
    site.wait_for_state(0, "partner-down", SOON);

    let deleted = leased[&mac(1, 1)];
    let answer = site.command(0, "lease4-del", json!({ "ip-address": deleted.to_string() }));
    assert_eq!(answer["result"], 0, "{answer}");
    let released = leased[&mac(1, 2)];
    site.clients.release(mac(1, 2), released, site.lan_address(0));
    let renamed = site.clients.lease(mac(1, 3), &[(12, b"renamed".to_vec())]).address;
    site.clients.lease_all(&macs(2, 4));
    eventually("the release", SOON, || site.lease(0, released).is_some_and(|lease| lease["state"] == 3));
    eventually("a backup that lacks leases", SOON, || needs_copy(&site));
    assert!(behind(&site, 0).exists());

    site.end(0, signal);
    assert!(behind(&site, 0).exists(), "nobody has told the others");
    site.start_all();
    site.wait_for_states(&whole, TOGETHER);
    // Eight less the one that was deleted, and four.
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 11);
    for server in [0, 1] {
        assert_eq!(site.lease(server, deleted), None, "server{} has it again", server + 1);
        // Released, and reclaimed by whoever serves.
        let state = site.lease(server, released).expect("a lease")["state"].clone();
        assert!(state == 2 || state == 3, "state {state}");
        assert_eq!(site.lease(server, renamed).expect("a lease")["hostname"], "renamed");
    }
    assert!(needs_copy(&site), "no restart of the primary makes its backup whole");
    let answer = site.command(2, "ha-sync", json!({ "server-name": "server1" }));
    assert_eq!(answer["result"], 0, "{answer}");
    eventually("a backup that has copied", SOON, || !needs_copy(&site));
    // The pages that a backup copies tell of leases and not of their absence: those it keeps until they end.
    let ended = [deleted, released];
    site.wait_for_equal_stores_but([0, 2], SOON, &|address| ended.contains(&address));
    site.end(0, "TERM");
    assert!(!behind(&site, 0).exists(), "everybody has everything");
}
