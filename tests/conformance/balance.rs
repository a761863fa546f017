//! Group E: two servers that share the load, and what a broken link does to them.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::states::PAIRINGS;
use crate::support::clients::{PATIENCE, mac, query};
use crate::support::dhcp::DISCOVER;
use crate::support::http::response;
use crate::support::k3::Script;
use crate::support::plan::{N, Plan, S, Seat};
use crate::support::process::eventually;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::support::tap::Verdict;
use crate::{Scenario, scenario};

/// The normal state.
const WHOLE: [&str; 2] = ["load-balancing", "load-balancing"];

/// The scenarios of this group.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        scenario(&["E5"], "served_clients_keep_both_alive_tandem_tandem", 20, || e5([N, N])),
        scenario(&["E6"], "a_backlog_that_fails_resets_the_partner", 8, e6),
        scenario(&["E7"], "a_partner_that_comes_back_is_waited_for", 8, e7),
    ];
    for (name, seats) in PAIRINGS {
        let of = |what: &str| format!("{what}_{name}");
        all.push(scenario(
            &["C2", "E1", "E3"],
            of("each_client_has_one_server_and_its_pool"),
            15,
            move || e1(seats),
        ));
        all.push(scenario(&["E2"], of("the_client_id_decides_before_the_address"), 8, move || e2(seats)));
        all.push(scenario(&["E4"], of("a_short_cut_leaves_a_backlog_that_is_sent"), 15, move || {
            e4(seats, 30)
        }));
        all.push(scenario(&["E4"], of("a_long_cut_overflows_and_both_copy"), 25, move || e4(seats, 2)));
    }
    all
}

/// A pair with a pool for the clients of each.
pub fn balanced(seats: [Seat; 2]) -> Plan {
    guarded(Plan::new("load-balancing", &seats, &["primary", "secondary"]))
}

/// A pool for the clients of each of the first two servers.
pub fn guarded(plan: Plan) -> Plan {
    plan.edit(|_, dhcp4| {
        dhcp4["subnet4"][0]["pools"] = json!([
            { "pool": "10.99.1.0 - 10.99.4.255", "client-class": "HA_server1" },
            { "pool": "10.99.5.0 - 10.99.8.255", "client-class": "HA_server2" },
        ]);
    })
}

fn pool(address: Ipv4Addr) -> u8 {
    u8::from(address.octets()[2] >= 5)
}

fn server(address: Ipv4Addr) -> u8 {
    address.octets()[3] - 1
}

/// Every client is answered by one server, from that server's pool; alone, a server goes on giving each its own pool.
fn e1(seats: [Seat; 2]) {
    let mut site = Site::whole(balanced(seats), "load-balancing");
    assert_eq!([site.scopes(0), site.scopes(1)], [["server1"], ["server2"]]);
    let mut counts = [0, 0];
    for number in 0..40 {
        let asked = query(DISCOVER, mac(1, number), Vec::new());
        site.clients.send(&asked);
        let offers = site.clients.answers(asked.xid, 2, Duration::from_millis(250));
        assert_eq!(offers.len(), 1, "client {number}: {offers:?}");
        assert_eq!(pool(offers[0].address), server(offers[0].server), "client {number}");
        counts[usize::from(server(offers[0].server))] += 1;
    }
    assert!(counts.iter().all(|count| *count > 8), "{counts:?}");
    // ha-protocol 5.8: 02:00:00:00:00:01 and :02 are the secondary's, 00:00:00:00:00:00 and 52:54:00:12:34:56 the primary's.
    for (client, expected) in [
        ([2, 0, 0, 0, 0, 1], 1),
        ([2, 0, 0, 0, 0, 2], 1),
        ([0, 0x11, 0x22, 0x33, 0x44, 0x55], 1),
        ([0x52, 0x54, 0, 0x12, 0x34, 0x56], 0),
    ] {
        let ack = site.clients.lease(client, &[]);
        assert_eq!((server(ack.server), pool(ack.address)), (expected, expected), "{client:02x?}");
    }
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 4);
    let survivor = if seats[0] == N { 0 } else { 1 };
    site.kill(1 - survivor);
    let start = Instant::now();
    let mut number = 0;
    while site.state(survivor) != "partner-down" {
        number += 1;
        site.clients.discover(mac(2, number % 12), 20, Duration::from_millis(60));
        assert!(start.elapsed() < SOON, "{}", site.state(survivor));
    }
    let mut pools = HashSet::new();
    for number in 0..16 {
        pools.insert(pool(site.clients.lease(mac(1, number), &[]).address));
    }
    assert_eq!(pools.len(), 2, "the partner's clients keep the partner's pool");
    site.start(1 - survivor);
    site.wait_for_states(&WHOLE, TOGETHER);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 20);
}

/// Two clients with one hardware address: the identifier decides.
fn e2(seats: [Seat; 2]) {
    let site = Site::whole(balanced(seats), "load-balancing");
    // ha-protocol 5.8: the key 01020000000001 is the primary's, 020000000001 the secondary's.
    let client = [2, 0, 0, 0, 0, 1];
    for (options, expected) in [
        (vec![(61, vec![1, 2, 0, 0, 0, 0, 1])], 0),
        (Vec::new(), 1),
        (vec![(61, vec![0xff, 0x56, 0x50, 0x5d, 0x98, 0, 2, 0, 0, 0])], 1),
    ] {
        let offer = site.clients.ask(&query(DISCOVER, client, options.clone()), PATIENCE).expect("an offer");
        assert_eq!(server(offer.server), expected, "{options:02x?}");
    }
}

/// The link is cut while clients come; each is served at once. Below the limit the backlog is sent, beyond it both copy.
fn e4(seats: [Seat; 2], limit: u32) {
    let plan =
        balanced(seats).ha("delayed-updates-limit", json!(limit)).ha("max-response-delay", json!(20_000));
    let site = Site::whole(plan, "load-balancing");
    site.clients.lease(mac(1, 200), &[]);
    site.part();
    site.wait_for_states(&["communication-recovery"; 2], Duration::from_secs(14));
    for number in 0..16 {
        let start = Instant::now();
        site.clients.lease(mac(1, number), &[]);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
    let before = [0, 1].map(|server| site.logged(server, "HA_SYNC_START"));
    site.join();
    site.wait_for_states(&WHOLE, TOGETHER);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 17);
    let copies = [0, 1].map(|server| site.logged(server, "HA_SYNC_START") - before[server]);
    assert_eq!(copies.iter().sum::<usize>() > 0, limit < 8, "{copies:?}");
}

/// Ten times `max-response-delay` would be too long to wait for here: four times it is.
fn e5(seats: [Seat; 2]) {
    let site = Site::whole(balanced(seats).ha("max-response-delay", json!(3000)), "load-balancing");
    site.part();
    let (start, mut number) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(12) {
        number += 1;
        site.clients.lease(mac(1, number), &[]);
        for server in [0, 1] {
            assert_ne!(site.state(server), "partner-down");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    site.join();
    site.wait_for_states(&WHOLE, TOGETHER);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), usize::from(number));
}

/// A Tandem in communication-recovery with leases in its backlog, and its script.
fn recovering() -> (Site, Script) {
    let mut site = Site::new(balanced([N, S]).ha("max-response-delay", json!(20_000)));
    let script = Script::new(&site, 1, "load-balancing");
    site.start(0);
    site.wait_for_state(0, "load-balancing", SOON);
    script.instead(|_, _| Some(Verdict::Close));
    site.wait_for_state(0, "communication-recovery", SOON);
    let mut served = 0;
    for number in 0..40 {
        served +=
            usize::from(site.clients.try_lease(mac(1, number), &[], Duration::from_millis(80)).is_some());
        if served == 5 {
            break;
        }
    }
    assert_eq!(served, 5);
    (site, script)
}

fn e6() {
    let (site, script) = recovering();
    script.tap.forget();
    let mut updates = 0;
    script.instead(move |command, _| {
        updates += u32::from(command == "lease4-update");
        let third = command == "lease4-update" && updates == 3;
        third.then(|| Verdict::Answer(response(r#"[ { "result": 1, "text": "no" } ]"#)))
    });
    eventually("a reset", SOON, || !script.tap.of("ha-reset").is_empty());
    assert_eq!(script.tap.of("lease4-update").len(), 3);
    eventually("a copy", SOON, || !script.tap.of("lease4-get-page").is_empty());
    site.wait_for_state(0, "load-balancing", SOON);
}

fn e7() {
    let (site, script) = recovering();
    for state in ["syncing", "ready"] {
        script.say(|says| says.state = state);
        script.as_usual();
        eventually(state, SOON, || site.ha_servers(0)["remote"]["last-state"] == state);
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(site.state(0), "communication-recovery");
    }
    script.say(|says| says.state = "load-balancing");
    site.wait_for_state(0, "load-balancing", SOON);
    eventually("the backlog", SOON, || script.tap.of("lease4-update").len() >= 5);
    assert!(script.tap.of("ha-reset").is_empty());
}
