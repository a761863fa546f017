//! Group E: two servers that share the load, and what a broken link does to them.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::states::PAIRINGS;
use crate::support::clients::{PATIENCE, Reply, mac, query};
use crate::support::dhcp::{ACK, DISCOVER, Query};
use crate::support::http::response;
use crate::support::k3::Script;
use crate::support::plan::{N, Plan, S, Seat};
use crate::support::process::eventually;
use crate::support::rfc3074::server_of;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::support::tap::{Exchange, Verdict};
use crate::{Scenario, scenario};

/// The normal state.
pub const WHOLE: [&str; 2] = ["load-balancing", "load-balancing"];

/// The scenarios of this group.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
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
        all.push(scenario(&["E5"], of("served_clients_keep_both_alive"), 35, move || e5(seats)));
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

/// A DISCOVER for each of 1000 clients, half of them with identifiers of any length; and the key each is known by.
fn thousand() -> Vec<(Query, Vec<u8>)> {
    // Any sequence does; this one is the same in every run.
    let mut state = 0x5eed_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).to_be_bytes()[7]
    };
    let client = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let mac = [2, next(), next(), next(), high, low];
        if number.is_multiple_of(2) {
            return (query(DISCOVER, mac, Vec::new()), mac.to_vec());
        }
        let length = 2 + usize::from(next() % 60);
        let mut identifier = vec![high, low];
        identifier.resize_with(length, &mut next);
        (query(DISCOVER, mac, vec![(61, identifier.clone())]), identifier)
    };
    (0..1000).map(client).collect()
}

/// Offers by transaction: those who get none ask again, and nobody is listened to for less than half a second.
fn offers(site: &Site, queries: &[(Query, Vec<u8>)]) -> HashMap<u32, Vec<Reply>> {
    let mut offers: HashMap<u32, Vec<Reply>> = HashMap::new();
    let start = Instant::now();
    while offers.len() < queries.len() {
        assert!(start.elapsed() < TOGETHER, "{} of {} have an offer", offers.len(), queries.len());
        let unanswered: Vec<&Query> =
            queries.iter().map(|(query, _)| query).filter(|query| !offers.contains_key(&query.xid)).collect();
        for few in unanswered.chunks(16) {
            few.iter().for_each(|query| site.clients.send(query));
            site.clients.gather(Duration::from_millis(15), &mut offers);
        }
        site.clients.gather(Duration::from_millis(500), &mut offers);
    }
    offers
}

/// Every client is answered by one server, the one that the hash names, from that server's pool; alone, a server goes on
/// giving each its own pool.
fn e1(seats: [Seat; 2]) {
    let mut site = Site::whole(balanced(seats), "load-balancing");
    assert_eq!([site.scopes(0), site.scopes(1)], [["server1"], ["server2"]]);
    let clients = thousand();
    let offers = offers(&site, &clients);
    let mut counts = [0, 0];
    for (query, key) in &clients {
        let offered = &offers[&query.xid];
        let expected = server_of(key);
        assert!(
            offered.iter().all(|offer| [server(offer.server), pool(offer.address)] == [expected; 2]),
            "{key:02x?} is of server{}: {offered:?}",
            expected + 1
        );
        counts[usize::from(expected)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 300), "{counts:?}");
    // ha-protocol 5.8: 02:00:00:00:00:01 and :02 are the secondary's, 00:11:22:33:44:55 too, 52:54:00:12:34:56 is not.
    for (client, expected) in [
        ([2, 0, 0, 0, 0, 1], 1),
        ([2, 0, 0, 0, 0, 2], 1),
        ([0, 0x11, 0x22, 0x33, 0x44, 0x55], 1),
        ([0x52, 0x54, 0, 0x12, 0x34, 0x56], 0),
    ] {
        assert_eq!(server_of(&client), expected, "{client:02x?}");
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

/// What is done to the octets of a query.
type Change = dyn Fn(&mut Vec<u8>);

/// Two clients with one hardware address: the identifier decides. Who has none at all is nobody's. What both look at and
/// drop: an empty identifier, which is malformed to a Kea as well, and BOOTP, which a Kea serves with a library only.
fn e2(seats: [Seat; 2]) {
    let site = Site::whole(balanced(seats), "load-balancing");
    // ha-protocol 5.8: the key 01020000000001 is the primary's, 020000000001 the secondary's.
    let client = [2, 0, 0, 0, 0, 1];
    let dropped = || [0, 1].map(|server| site.statistic(server, "pkt4-receive-drop"));
    let tandems: Vec<usize> = (0..2).filter(|server| !site.is_kea(*server)).collect();
    let mut drops = dropped();
    for (options, expected) in [
        (vec![(61, vec![1, 2, 0, 0, 0, 0, 1])], 0),
        (Vec::new(), 1),
        (vec![(61, vec![0xff, 0x56, 0x50, 0x5d, 0x98, 0, 2, 0, 0, 0])], 1),
    ] {
        let offer = site.clients.ask(&query(DISCOVER, client, options.clone()), PATIENCE).expect("an offer");
        assert_eq!(server(offer.server), expected, "{options:02x?}");
        drops[usize::from(1 - expected)] += 1;
    }
    // Whoever did not answer may count that after the other one has.
    let have_counted = || tandems.iter().all(|server| dropped()[*server] == drops[*server]);
    eventually("each has dropped what is the other's", SOON, have_counted);
    let changed = |change: &Change| {
        let asked = query(DISCOVER, client, vec![(61, vec![1, 2, 0, 0, 0, 0, 1])]);
        let mut frame = asked.broadcast_frame();
        change(&mut frame.payload);
        let before = dropped();
        site.clients.send_frame(&frame);
        eventually("a Tandem has dropped it", SOON, || {
            let now = dropped();
            tandems.iter().all(|server| now[*server] > before[*server])
        });
        assert!(site.clients.answers(asked.xid, 1, Duration::from_millis(700)).is_empty());
        let after = dropped();
        [after[0] - before[0], after[1] - before[1]]
    };
    // 240 octets of header, three of the type, nine of the identifier, and the end.
    let cases: [(&str, &Change); 3] = [
        ("an empty identifier", &|payload| drop(payload.splice(243..252, [61, 0]))),
        ("no identifier at all", &|payload| {
            payload.drain(243..252);
            payload[2] = 0;
            payload[28..44].fill(0);
        }),
        ("BOOTP", &|payload| drop(payload.drain(240..252))),
    ];
    for (case, change) in cases {
        let counted = changed(change);
        for (server, count) in counted.into_iter().enumerate() {
            // A Kea does not count what its library for high availability drops.
            assert!(count == 1 || site.is_kea(server) && count == 0, "{case}: {counted:?}");
        }
    }
}

/// The link is cut while clients come; each is served at once. Below the limit the backlog is sent, beyond it both copy.
fn e4(seats: [Seat; 2], limit: u32) {
    let plan =
        balanced(seats).ha("delayed-updates-limit", json!(limit)).ha("max-response-delay", json!(20_000));
    // Updates of one shard are put off in their order; what two shards do at once has none.
    let plan = plan.edit(|_, dhcp4| dhcp4["multi-threading"]["thread-pool-size"] = json!(1));
    let site = Site::whole(plan.tapped(), "load-balancing");
    site.clients.lease(mac(1, 200), &[]);
    site.part();
    site.wait_for_states(&["communication-recovery"; 2], SOON);
    let mut served = [Vec::new(), Vec::new()];
    for number in 0..16 {
        // The first answer comes: nobody waits for the other server.
        let request = site.clients.request(mac(1, number), &[], PATIENCE).expect("an OFFER at once");
        let ack = site.clients.answers(request.xid, 1, PATIENCE).pop().expect("an ACK at once");
        assert_eq!(ack.message_type, ACK);
        served[usize::from(server(ack.server))].push(mac(1, number));
    }
    site.tap(0, 1).forget();
    site.tap(1, 0).forget();
    let before = [0, 1].map(|server| site.logged(server, "HA_SYNC_START"));
    site.join();
    site.wait_for_states(&WHOLE, TOGETHER);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 17);
    let copies = [0, 1].map(|server| site.logged(server, "HA_SYNC_START") - before[server]);
    let resets = [(0, 1), (1, 0)].map(|(from, to)| site.tap(from, to).of("ha-reset").len());
    if limit < 8 {
        assert!(copies.iter().all(|copies| *copies > 0), "both copy: {copies:?}");
        assert!(resets.iter().sum::<usize>() > 0, "one is told to begin again");
        return;
    }
    assert_eq!((copies, resets), ([0, 0], [0, 0]), "the backlog was all that was needed");
    for (from, to) in [(0, 1), (1, 0)] {
        let clients = &served[from];
        assert_eq!(sent_order(&site.tap(from, to).exchanges(), clients), *clients, "oldest first");
    }
}

/// The clients whose leases were sent, in this order: in the words of Kea, or as octets between two Tandems.
fn sent_order(exchanges: &[Exchange], clients: &[[u8; 6]]) -> Vec<[u8; 6]> {
    let bodies: Vec<u8> = exchanges
        .iter()
        .filter(|exchange| matches!(exchange.request.command().as_str(), "" | "lease4-update"))
        .flat_map(|exchange| exchange.request.body.clone())
        .collect();
    let place = |needle: &[u8]| bodies.windows(needle.len()).position(|window| window == needle);
    let mut sent: Vec<(usize, [u8; 6])> = clients
        .iter()
        .filter_map(|client| {
            let text: Vec<String> = client.iter().map(|octet| format!("{octet:02x}")).collect();
            let at = place(text.join(":").as_bytes()).or_else(|| place(client))?;
            Some((at, *client))
        })
        .collect();
    sent.sort_unstable();
    sent.into_iter().map(|(_, client)| client).collect()
}

/// Apart for ten times `max-response-delay`, and nobody goes unserved: that is no reason to take over. A busy machine may
/// let a client wait for seconds, which is not to count as unserved.
fn e5(seats: [Seat; 2]) {
    const MAX_RESPONSE_DELAY_MS: u64 = 1500;
    let plan = balanced(seats).ha("max-response-delay", json!(MAX_RESPONSE_DELAY_MS));
    let plan = plan.ha("heartbeat-delay", json!(500)).ha("max-ack-delay", json!(10_000));
    let site = Site::whole(plan, "load-balancing");
    site.part();
    let (start, mut number) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(10 * MAX_RESPONSE_DELAY_MS) {
        number += 1;
        site.clients.lease(mac(1, number), &[]);
        for server in [0, 1] {
            assert_ne!(site.state(server), "partner-down");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    site.join();
    site.wait_for_states_since(Instant::now(), &WHOLE, TOGETHER);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), usize::from(number));
    let alone = [0, 1].map(|server| site.logged(server, "to PARTNER-DOWN"));
    assert_eq!(alone, [0, 0]);
}

/// A Tandem in communication-recovery with leases in its backlog, and its script.
fn recovering() -> (Site, Script) {
    let mut site = Site::new(balanced([N, S]).ha("max-response-delay", json!(20_000)));
    let script = Script::new(&site, 1, "load-balancing");
    site.start(0);
    site.wait_for_state(0, "load-balancing", SOON);
    script.instead(|_, _| Some(Verdict::Close));
    site.wait_for_state(0, "communication-recovery", SOON);
    for client in clients_of_first(5) {
        site.clients.lease(client, &[]);
    }
    (site, script)
}

/// Clients that the first server serves.
pub fn clients_of_first(count: usize) -> Vec<[u8; 6]> {
    (0..).map(|number| mac(1, number)).filter(|client| server_of(client) == 0).take(count).collect()
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
    // The rest is sent once both are normal again, where a comparison finds it missing.
    let exchanges = script.tap.exchanges();
    let before = exchanges.iter().map(|exchange| exchange.request.command());
    let before: Vec<String> = before.take_while(|command| command != "ha-reset").collect();
    assert_eq!(before.iter().filter(|command| *command == "lease4-update").count(), 3);
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
