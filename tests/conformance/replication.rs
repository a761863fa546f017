//! Group D, first half: what is replicated, and what a partner's word does to the answer of a client.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use tandem::engine::message::UpdateKind;
use tandem::ha::{batch, lease_rows};

use crate::balance::balanced;
use crate::states::{PAIRINGS, WHOLE};
use crate::support::clients::{self, PATIENCE, mac, macs, query};
use crate::support::dhcp::{ACK, Query, REQUEST};
use crate::support::http::response;
use crate::support::k3::{Script, now_s, updated};
use crate::support::plan::{K, N, Plan, S, Seat};
use crate::support::process::eventually;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::support::tap::{Exchange, Verdict};
use crate::wire::with_script;
use crate::{Scenario, scenario};

/// The scenarios of this half.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        scenario(&["D3"], "a_release_deletes_at_a_kea_of_2_2", 8, d3_k22),
        scenario(&["D3"], "a_release_is_kept_at_a_script_of_3_0", 4, d3_k3),
        scenario(&["D3"], "a_released_address_comes_back_from_the_partner", 12, d3_partner),
        scenario(&["D3"], "a_release_at_a_script_of_3_0_is_kept_for_its_client", 12, d3_from_k3),
        scenario(&["D4"], "leases_that_cannot_be_are_refused_with_keas_results", 3, d4),
        scenario(&["D6"], "an_older_update_overwrites", 3, d6),
        scenario(&["D6"], "an_update_that_comes_behind_a_later_one_changes_nothing", 3, d6_overtaken),
        scenario(&["D7"], "conflicts_cost_answers_and_in_the_end_the_pair", 12, d7),
        scenario(&["D8"], "an_error_is_no_conflict_and_no_death", 20, d8),
        scenario(&["D8"], "a_kea_that_refuses_a_lease_stays_a_partner", 15, d8_refused_by_kea),
        scenario(
            &["D8"],
            "a_kea_whose_lease_is_refused_recovers_with_the_next_heartbeat",
            15,
            d8_refused_by_tandem,
        ),
        scenario(&["D8"], "a_kea_that_is_terminated_is_followed_once_it_is_restarted", 35, d8_restarted),
        scenario(&["D8"], "a_kea_that_is_terminated_with_its_partner_is_told_to_begin_anew", 60, d8_reset),
        scenario(&["D9"], "nine_seconds_are_waited_for_and_ten_are_not", 25, d9),
        scenario(&["D10"], "a_connection_that_closes_before_its_use_costs_nothing", 6, d10),
        scenario(&["D13"], "without_updates_nothing_is_sent_and_nothing_counted", 4, d13),
    ];
    for (name, seats) in PAIRINGS {
        let of = |what: &str| format!("{what}_{name}");
        all.push(scenario(&["D1"], of("the_partner_has_the_lease_before_the_client"), 8, move || d1(seats)));
        all.push(scenario(&["D2"], of("every_event_of_a_lease_is_told"), 10, move || d2(seats)));
        all.push(scenario(&["D5"], of("an_infinite_lease_goes_beyond_32_bits"), 8, move || d5(seats)));
        all.push(scenario(&["D11"], of("a_thousand_clients_at_once_end_equal"), 25, move || d11(seats)));
    }
    all
}

/// Method: the tap in front of the partner holds each answer back, and no ACK may be seen before it has gone on.
fn d1(seats: [Seat; 2]) {
    const HELD: Duration = Duration::from_millis(250);
    let site = Site::whole(Plan::hot_standby(seats).tapped(), "hot-standby");
    let tap = site.tap(0, 1);
    tap.judge(|request| match request.command().as_str() {
        "ha-heartbeat" => Verdict::Pass,
        _ => Verdict::PassLate(HELD),
    });
    for number in 0..5 {
        tap.forget();
        let (client, id) = (mac(1, number), vec![1, 2, 3, 4, 5, number as u8]);
        let options = [(12, format!("Host{number}.Example").into_bytes()), (61, id)];
        let before = now_s();
        let ack = site.clients.try_lease(client, &options, PATIENCE).expect("an ACK");
        let is_update =
            |exchange: &Exchange| matches!(exchange.request.command().as_str(), "" | "lease4-update");
        let update = tap.exchanges().into_iter().rfind(is_update);
        let passed = update.and_then(|update| update.answered_at).expect("an update that was answered");
        assert!(passed <= ack.at, "the ACK was {:?} too early", passed - ack.at);
        let [own, other] = [0, 1].map(|server| site.lease(server, ack.address).expect("a lease on both"));
        assert_eq!(own, other);
        let cltt = other["cltt"].as_i64().expect("seconds");
        assert!((before - 1..=now_s() + 1).contains(&cltt), "cltt {cltt}");
        assert_eq!(other["client-id"], format!("01:02:03:04:05:{number:02x}"));
        assert_eq!(other["hostname"], format!("host{number}.example"));
        assert_eq!((&other["valid-lft"], &other["subnet-id"]), (&json!(600), &json!(1)));
        assert_eq!(other["hw-address"], format!("02:01:00:00:00:{number:02x}"));
    }
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 5);
}

/// Commands that went through a tap, but heartbeats; a batch of rows between two Tandems is its commands.
fn told(site: &Site) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    for exchange in site.tap(0, 1).exchanges() {
        let body = &exchange.request.body;
        if batch::is_batch(body) {
            told.extend(commands_of_batch(body));
            continue;
        }
        let name = exchange.request.command();
        if matches!(name.as_str(), "lease4-del" | "lease4-update") {
            told.push((name, exchange.arguments()));
        }
    }
    told
}

/// The updates in a batch, with as much of their leases as is looked at here.
fn commands_of_batch(body: &[u8]) -> Vec<(String, Value)> {
    let (_, mut rows) = batch::stamp_and_rows(body).expect("a batch");
    let mut commands = Vec::new();
    while let Some((kind, lease)) = lease_rows::read(&mut rows).expect("a row") {
        let name = match kind {
            UpdateKind::Delete => "lease4-del",
            UpdateKind::Update => "lease4-update",
        };
        let arguments = json!({ "ip-address": lease.address.to_string(), "expire": lease.expire() });
        commands.push((name.to_owned(), arguments));
    }
    commands
}

fn d2(seats: [Seat; 2]) {
    // A renewal that finds its lease in the cache changes nothing, and is not told.
    let plan = Plan::hot_standby(seats).tapped().global("cache-threshold", json!(0.001));
    let site = Site::whole(plan, "hot-standby");
    let clients = &site.clients;
    let (one, server) = (mac(1, 1), site.lan_address(0));
    let lease = clients.lease(one, &[]);
    let names = || told(&site).into_iter().map(|(name, _)| name).collect::<Vec<_>>();

    site.tap(0, 1).forget();
    std::thread::sleep(Duration::from_millis(1100));
    let renewed = clients.renew(one, lease.address, server, site.lan_mac(0)).expect("an answer");
    assert_eq!((renewed.message_type, renewed.address), (ACK, lease.address));
    assert_eq!(names(), ["lease4-update"], "a renewal");

    std::thread::sleep(Duration::from_millis(1100));
    let rebound = clients.rebind(one, lease.address).expect("an answer");
    assert_eq!((rebound.message_type, rebound.address), (ACK, lease.address));
    assert_eq!(names(), ["lease4-update"; 2], "a rebinding");

    // INIT-REBOOT has option 50 and no server.
    std::thread::sleep(Duration::from_millis(1100));
    let reboot = query(REQUEST, one, vec![(50, lease.address.octets().to_vec())]);
    assert_eq!(clients.ask(&reboot, PATIENCE).expect("an answer").message_type, ACK);
    assert_eq!(names(), ["lease4-update"; 3], "a reboot");

    // The client takes another address from an offer: the old lease goes.
    site.tap(0, 1).forget();
    let wanted = Ipv4Addr::new(10, 99, 5, 5);
    let moved = query(REQUEST, one, vec![(50, wanted.octets().to_vec()), (54, server.octets().to_vec())]);
    let moved = clients.ask(&moved, PATIENCE).expect("an answer");
    assert_eq!((moved.message_type, moved.address), (ACK, wanted));
    let mut moves = told(&site);
    moves.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(moves.len(), 2, "{moves:?}");
    assert_eq!(
        (moves[0].0.as_str(), &moves[0].1["ip-address"]),
        ("lease4-del", &json!(lease.address.to_string()))
    );
    assert_eq!((moves[1].0.as_str(), &moves[1].1["ip-address"]), ("lease4-update", &json!("10.99.5.5")));
    assert!(site.lease(1, lease.address).is_none() && site.lease(1, wanted).is_some());

    site.tap(0, 1).forget();
    let two = clients.lease(mac(1, 2), &[(61, vec![1, 9, 9])]);
    clients.decline(mac(1, 2), two.address, server);
    eventually("the declined lease at the partner", SOON, || {
        site.lease(1, two.address).is_some_and(|lease| lease["state"] == 1)
    });
    let declined = site.lease(1, two.address).expect("a lease");
    assert_eq!(declined["hw-address"], "");
    assert_eq!(declined.get("client-id").unwrap_or(&json!("")), "");
    assert_eq!(declined["valid-lft"], 86_400);
    assert_eq!(names(), ["lease4-update"; 2], "a lease and its end");
    site.tap(0, 1).forget();
    clients.release(one, wanted, server);
    eventually("the release at the partner", SOON, || !told(&site).is_empty());
    let with_kea = site.is_kea(0) || site.is_kea(1);
    assert_eq!(names(), [if with_kea { "lease4-del" } else { "lease4-update" }], "a release");
    if with_kea {
        site.wait_for_equal_held([0, 1], SOON);
    } else {
        site.wait_for_equal_stores([0, 1], SOON);
    }
}

/// Kea 2.2 does not know state 3: it is sent `lease4-del`, and says nothing of an error.
fn d3_k22() {
    let site = Site::whole(Plan::hot_standby([N, K]).tapped(), "hot-standby");
    let lease = site.clients.lease(mac(1, 1), &[]);
    let updates = site.logged(0, "HA_LEASE_UPDATE");
    site.tap(0, 1).forget();
    site.clients.release(mac(1, 1), lease.address, site.lan_address(0));
    eventually("the release at the Kea", SOON, || site.lease(1, lease.address).is_none());
    // What is under way has no result yet.
    let is_answered = || site.tap(0, 1).of("lease4-del").iter().any(|deleted| deleted.answer.is_some());
    eventually("the Kea's answer", SOON, is_answered);
    for exchange in site.tap(0, 1).exchanges().into_iter().filter(|exchange| exchange.answer.is_some()) {
        let request = String::from_utf8_lossy(&exchange.request.body).into_owned();
        assert_eq!(exchange.result(), Some(0), "{request}");
    }
    assert_eq!(told(&site).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["lease4-del"]);
    assert_eq!([site.state(0), site.state(1)], WHOLE);
    assert_eq!(site.logged(0, "HA_LEASE_UPDATE"), updates);
    let again = site.clients.lease(mac(1, 1), &[]);
    assert_eq!(again.address, lease.address, "its old address");
}

/// A partner of 3.0 is told of the release as a lease in state 3, as the reference has it from the wire.
fn d3_k3() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    let lease = site.clients.lease(mac(1, 1), &[]);
    // The answer has been read when the next heartbeat goes.
    eventually("the partner's release is known", SOON, || {
        script.tap.of("status-get").iter().any(|asked| asked.answer.is_some())
    });
    script.tap.wait_for_another("ha-heartbeat");
    site.clients.release(mac(1, 1), lease.address, site.lan_address(0));
    let held = || script.says.lock().expect("the script").leases.get(&lease.address).cloned();
    eventually("the release", SOON, || held().is_some_and(|lease| lease["state"] == 3));
    let held = held().expect("a lease");
    assert_eq!((&held["valid-lft"], &held["hw-address"]), (&json!(0), &json!("02:01:00:00:00:01")));
    assert!(script.tap.of("lease4-del").is_empty());
    assert_eq!(site.clients.lease(mac(1, 1), &[]).address, lease.address, "its old address");
}

/// Released at the primary of two Tandems, which then dies: the client gets its address back from the standby.
fn d3_partner() {
    let mut site = Site::whole(Plan::hot_standby([N, N]).ha("max-unacked-clients", json!(0)), "hot-standby");
    let leased = site.clients.lease_all(&macs(1, 6));
    let client = mac(1, 3);
    site.clients.release(client, leased[&client], site.lan_address(0));
    eventually("the release at the partner", SOON, || {
        site.lease(1, leased[&client]).is_some_and(|lease| lease["state"] == 3)
    });
    site.wait_for_equal_stores([0, 1], SOON);
    site.kill(0);
    site.wait_for_state(1, "partner-down", SOON);
    let again = site.clients.lease(client, &[]);
    assert_eq!((again.address, again.server), (leased[&client], site.lan_address(1)));
}

/// A primary of 3.0 gives a lease and takes its release. When it is gone, the client gets its address back from Tandem.
fn d3_from_k3() {
    let mut site = Site::new(Plan::hot_standby([S, N]).ha("max-unacked-clients", json!(0)));
    let script = Script::new(&site, 0, "hot-standby");
    site.start(1);
    site.wait_for_state(1, "hot-standby", SOON);
    let address = Ipv4Addr::new(10, 99, 1, 40);
    let mut lease = updated(&address.to_string(), "02:01:00:00:00:03");
    assert_eq!(script.post(&site, 1, "lease4-update", lease.clone())["result"], 0);
    (lease["state"], lease["valid-lft"], lease["expire"]) = (json!(3), json!(0), json!(now_s()));
    assert_eq!(script.post(&site, 1, "lease4-update", lease)["result"], 0);
    assert_eq!(site.lease(1, address).expect("a lease")["state"], 3);
    script.instead(|_, _| Some(Verdict::Close));
    site.wait_for_state(1, "partner-down", SOON);
    let again = site.clients.lease(mac(1, 3), &[]);
    assert_eq!((again.address, again.server), (address, site.lan_address(1)));
}

/// Results of 3.5; the expected ones are those of 3.0, and of 2.2 they are 1.
fn d4() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    let base = || updated("10.99.3.3", "02:00:00:00:03:03");
    let with = |key: &str, value: Value| {
        let mut lease = base();
        lease[key] = value;
        lease
    };
    let without = |key: &str| {
        let mut lease = base();
        lease.as_object_mut().expect("a map").remove(key);
        lease
    };
    for (what, lease, expected) in [
        ("as it should be", base(), 0),
        ("released", with("state", json!(3)), 0),
        ("registered", with("state", json!(4)), 1),
        ("state 9", with("state", json!(9)), 1),
        ("no hardware address", without("hw-address"), 1),
        ("expire 0", with("expire", json!(0)), 1),
        ("expire before its lifetime", with("expire", json!(599)), 1),
        ("unknown subnet", with("subnet-id", json!(77)), 4),
        ("foreign address", with("ip-address", json!("192.0.2.1")), 4),
        (
            "foreign address and no subnet",
            {
                let mut lease = without("subnet-id");
                lease["ip-address"] = json!("192.0.2.1");
                lease
            },
            4,
        ),
        ("subnet by its address", without("subnet-id"), 0),
        ("outside of every pool", with("ip-address", json!("10.99.200.1")), 0),
        ("a past end", with("expire", json!(10_000)), 0),
        ("no IPv4 address", with("ip-address", json!("::1")), 1),
        ("a hardware address with dashes", with("hw-address", json!("02-00-00-00-03-03")), 1),
        ("no client id", with("client-id", json!("")), 1),
        ("a lifetime that is text", with("valid-lft", json!("600")), 1),
        ("a name that is missing", with("fqdn-fwd", json!(true)), 1),
        ("members nobody knows", with("colour", json!("green")), 0),
    ] {
        let answer = script.post(&site, 0, "lease4-update", lease);
        assert_eq!(answer["result"], expected, "{what}: {answer}");
    }
    assert_eq!(site.lease(0, Ipv4Addr::new(10, 99, 3, 3)).expect("a lease")["state"], 0);
    assert!(site.lease(0, Ipv4Addr::new(192, 0, 2, 1)).is_none());
    let delete = |address: &str| {
        script.post(&site, 0, "lease4-del", json!({ "ip-address": address }))["result"].clone()
    };
    assert_eq!([delete("10.99.3.3"), delete("10.99.3.3")], [json!(0), json!(3)]);
}

fn d5(seats: [Seat; 2]) {
    let plan = Plan::hot_standby(seats).tapped();
    let infinite =
        [("valid-lifetime", u32::MAX), ("min-valid-lifetime", u32::MAX), ("max-valid-lifetime", u32::MAX)];
    let plan = infinite.into_iter().fold(plan, |plan, (key, value)| plan.global(key, json!(value)));
    let site = Site::whole(plan, "hot-standby");
    let ack = site.clients.lease(mac(1, 1), &[]);
    let (_, update) = told(&site).pop().expect("an update");
    let expire = update["expire"].as_i64().expect("seconds");
    assert!(expire > 1 << 32 && expire >= now_s() - 5 + i64::from(u32::MAX), "{expire}");
    let [own, other] = [0, 1].map(|server| site.lease(server, ack.address).expect("a lease"));
    assert_eq!(own, other);
    assert_eq!(other["valid-lft"], u32::MAX);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 1);
}

/// The receiver does not compare: the sender's order is the order.
fn d6() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    let post = |hwaddr: &str, expire: i64| {
        let mut lease = updated("10.99.3.4", hwaddr);
        lease["expire"] = json!(expire);
        assert_eq!(script.post(&site, 0, "lease4-update", lease)["result"], 0);
    };
    post("02:00:00:00:00:01", now_s() + 600);
    post("02:00:00:00:00:02", now_s() - 5000);
    let lease = site.lease(0, Ipv4Addr::new(10, 99, 3, 4)).expect("a lease");
    assert_eq!(lease["hw-address"], "02:00:00:00:00:02");
    assert!(lease["cltt"].as_i64().expect("seconds") <= now_s() - 5600, "{lease}");
}

/// Of a client that has asked again a Kea sends the later update over one connection, and then the older one over another.
fn d6_overtaken() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    let (address, start_s) = (Ipv4Addr::new(10, 99, 3, 4), now_s());
    let mut connections = [site.connect(0), site.connect(0)];
    let mut post = |connection: usize, at_s: i64| {
        let mut arguments = updated("10.99.3.4", "02:00:00:00:00:01");
        arguments["expire"] = json!(start_s + at_s + 600);
        let body = json!({ "command": "lease4-update", "service": ["dhcp4"], "arguments": arguments });
        assert_eq!(connections[connection].post(&body).answer()["result"], 0);
        site.lease(0, address).expect("a lease")["cltt"].as_i64().expect("seconds") - start_s
    };
    for (case, connection, sent_s, kept_s) in [
        ("the later one", 0, 4, 4),
        ("the older one", 1, 0, 4),
        ("one between them", 1, 3, 4),
        ("a renewal", 0, 5, 5),
        ("after the clock was set back", 1, -55, -55),
    ] {
        assert_eq!(post(connection, sent_s), kept_s, "{case}");
    }
    assert_eq!(site.statistic(0, "tandem-overtaken-updates"), 2);
    // A release has its way whatever its time.
    let mut released = updated("10.99.3.4", "02:00:00:00:00:01");
    (released["expire"], released["valid-lft"], released["state"]) =
        (json!(start_s - 56), json!(0), json!(3));
    assert_eq!(script.post(&site, 0, "lease4-update", released)["result"], 0);
    assert_ne!(site.lease(0, address).expect("a lease")["state"], 0);
}

fn conflict() -> Verdict {
    Verdict::Answer(response(r#"[ { "result": 4, "text": "subnet identifier 1 does not exist" } ]"#))
}

/// A client asks, the partner refuses its lease, and the client gets nothing.
fn is_refused(site: &Site, script: &Script, client: [u8; 6]) {
    let answered = || script.tap.of("lease4-update").iter().filter(|update| update.answer.is_some()).count();
    let before = answered();
    let request = site.clients.request(client, &[], PATIENCE).expect("an offer");
    eventually("the partner's answer", SOON, || answered() > before);
    assert!(site.clients.answers(request.xid, 1, Duration::from_millis(300)).is_empty(), "an ACK");
}

/// Two of three clients are refused, the third refusal ends high availability; a success forgives a client, and 0 is
/// never.
fn d7() {
    for (limit, ends) in [(3, true), (0, false)] {
        let plan = Plan::hot_standby([N, S]).ha("max-rejected-lease-updates", json!(limit));
        let (site, script) = with_script(plan);
        let refuse = || script.instead(|command, _| command.starts_with("lease4").then(conflict));
        let refused = |number: u16| is_refused(&site, &script, mac(1, number));
        refuse();
        refused(1);
        refused(2);
        refused(2);
        assert_eq!(site.ha_servers(0)["remote"]["last-state"], "hot-standby", "a conflict is an answer");
        script.as_usual();
        site.clients.lease(mac(1, 1), &[]);
        refuse();
        refused(3);
        script.tap.wait_for_another("ha-heartbeat");
        assert_eq!(site.state(0), "hot-standby", "one of three was forgiven");
        refused(4);
        if ends {
            site.wait_for_state(0, "terminated", SOON);
        } else {
            refused(5);
            std::thread::sleep(Duration::from_millis(1200));
            assert_eq!(site.state(0), "hot-standby");
        }
    }
}

/// Where Kea counts the partner as unavailable, Tandem does not: any answer is a sign of life. The client asks in vain,
/// and is served when the partner takes its lease. A partner that goes on refusing clients is done without.
fn d8() {
    let plan = Plan::hot_standby([N, S])
        .ha("max-rejected-lease-updates", json!(3))
        .ha("max-response-delay", json!(1500));
    let (site, script) = with_script(plan);
    let error = || Verdict::Answer(response(r#"[ { "result": 1, "text": "no" } ]"#));
    script.instead(move |command, _| command.starts_with("lease4").then(error));
    is_refused(&site, &script, mac(1, 1));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(site.state(0), "hot-standby");
    assert_eq!(site.ha_servers(0)["remote"]["last-state"], "hot-standby");
    script.as_usual();
    assert!(site.clients.try_lease(mac(1, 1), &[], PATIENCE).is_some());
    script.instead(move |command, _| command.starts_with("lease4").then(error));
    for number in 2..5 {
        is_refused(&site, &script, mac(1, number));
    }
    site.wait_for_state(0, "terminated", TOGETHER);
    assert!(site.clients.try_lease(mac(1, 5), &[], PATIENCE).is_some());
}

/// A load-balancing pair where one server does not know the addresses that the other's clients get.
fn narrow(seats: [Seat; 2], knows_less: usize) -> Plan {
    balanced(seats).ha("max-response-delay", json!(20_000)).edit(move |server, dhcp4| {
        let pool = |start: &str, class: &str| json!({ "pool": start, "client-class": class });
        let of_other = pool("10.99.200.0/24", &format!("HA_server{}", 2 - knows_less));
        let own = pool("10.99.1.0/24", &format!("HA_server{}", knows_less + 1));
        dhcp4["subnet4"][0]["pools"] = json!([own, of_other]);
        if server == knows_less {
            dhcp4["subnet4"][0]["subnet"] = json!("10.99.0.0/17");
            dhcp4["subnet4"][0]["pools"] = json!([own]);
        }
    })
}

/// A client of the server that has given it an address in 10.99.200.0/24 by an offer.
fn client_of(site: &Site, server: usize) -> [u8; 6] {
    let offered = |client: &[u8; 6]| {
        let offer = site.clients.discover(*client, 0, PATIENCE).expect("an offer");
        offer.server == site.lan_address(server)
    };
    macs(3, 30).into_iter().find(offered).expect("a client of either")
}

/// The Kea answers 1 to a lease of a subnet that is narrower there. Its client gets nothing, all others are served as
/// before, and no one goes into communication-recovery for it.
fn d8_refused_by_kea() {
    let site = Site::whole(narrow([N, K], 1).tapped(), "load-balancing");
    let refused = client_of(&site, 0);
    let request = site.clients.request(refused, &[], PATIENCE).expect("an offer");
    let update = || site.tap(0, 1).of("lease4-update").first().and_then(|update| update.result());
    eventually("the answer", SOON, || update().is_some());
    assert_eq!(update(), Some(1));
    assert!(site.clients.answers(request.xid, 1, Duration::from_secs(1)).is_empty(), "an ACK");
    assert_eq!(site.ha_servers(0)["remote"]["last-state"], "load-balancing");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!([site.state(0), site.state(1)], ["load-balancing"; 2]);
    for server in [0, 1] {
        assert_eq!(site.logged(server, "to COMMUNICATION-RECOVERY"), 0);
    }
    let other = client_of(&site, 1);
    assert!(site.clients.try_lease(other, &[], PATIENCE).is_some());
}

/// The other way round the Kea of 2.2 sees an error, leaves for communication-recovery and comes back with the next
/// heartbeat: Tandem takes no notice.
fn d8_refused_by_tandem() {
    let site = Site::whole(narrow([N, K], 0).tapped(), "load-balancing");
    let refused = client_of(&site, 1);
    let request = site.clients.request(refused, &[], PATIENCE).expect("an offer");
    eventually("an answer", SOON, || {
        site.tap(1, 0).of("lease4-update").first().is_some_and(|update| update.result() == Some(4))
    });
    assert!(site.clients.answers(request.xid, 1, Duration::from_secs(1)).is_empty(), "an ACK");
    eventually("the Kea in communication-recovery", SOON, || site.logged(1, "to COMMUNICATION-RECOVERY") > 0);
    site.wait_for_states(&["load-balancing"; 2], SOON);
    assert_eq!(site.logged(0, "to COMMUNICATION-RECOVERY"), 0);
    let other = client_of(&site, 0);
    assert!(site.clients.try_lease(other, &[], PATIENCE).is_some());
}

/// A primary beside a Kea of a narrower subnet, or of the same one.
fn beside_kea(narrow: bool) -> Plan {
    let plan = Plan::hot_standby([N, K]).ha("max-rejected-lease-updates", json!(3));
    plan.ha("max-response-delay", json!(1500)).edit(move |server, dhcp4| {
        dhcp4["subnet4"][0]["pools"] = json!([{ "pool": "10.99.200.0/24" }]);
        if narrow && server == 1 {
            dhcp4["subnet4"][0]["subnet"] = json!("10.99.0.0/17");
            dhcp4["subnet4"][0]["pools"] = json!([]);
        }
    })
}

/// The Kea has refused every client for too long. Both are terminated, the Kea for no reason but that this server is, and
/// clients are served.
fn terminated_by_refusals() -> Site {
    let site = Site::whole(beside_kea(true), "hot-standby");
    for number in 1..4 {
        assert!(site.clients.try_lease(mac(1, number), &[], Duration::from_millis(300)).is_none());
    }
    site.wait_for_states(&["terminated"; 2], TOGETHER);
    assert_eq!(site.clients.lease(mac(1, 1), &[]).server, site.lan_address(0));
    site
}

/// Restarted with its configuration put right, it is followed, and has what was given without it.
fn d8_restarted() {
    let mut site = terminated_by_refusals();
    site.plan = beside_kea(false);
    site.configure(1);
    site.kill(1);
    site.start(1);
    site.wait_for_state(1, "hot-standby", TOGETHER);
    site.wait_for_states(&WHOLE, TOGETHER);
    site.clients.lease_all(&macs(1, 5));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 5);
}

/// It never leaves that state by itself: half a minute later this server tells it to, once.
fn d8_reset() {
    let site = terminated_by_refusals();
    assert_eq!(site.logged(0, "TANDEM_HA_TERMINATED_PARTNER_RESET"), 0);
    site.wait_for_states(&WHOLE, TOGETHER);
    site.wait_for_log(0, "TANDEM_HA_TERMINATED_PARTNER_RESET");
    assert_eq!(site.logged(0, "TANDEM_HA_TERMINATED_PARTNER_RESET"), 1);
}

fn d9() {
    let (site, script) = with_script(Plan::hot_standby([N, S]).ha("max-response-delay", json!(60_000)));
    let late = |seconds: u64| {
        script.instead(move |command, request| {
            let usual = r#"[ { "result": 0, "text": "IPv4 lease added." } ]"#;
            let held = Duration::from_secs(seconds);
            assert!(!request.body.is_empty());
            command.starts_with("lease4").then(|| Verdict::Late(held, response(usual)))
        });
    };
    late(9);
    let request = site.clients.request(mac(1, 1), &[], PATIENCE).expect("an offer");
    let ack = site.clients.answers(request.xid, 1, Duration::from_secs(15)).pop().expect("the ACK after 9 s");
    let answered = script.tap.of("lease4-update").pop().and_then(|update| update.answered_at);
    assert!(answered.is_some_and(|answered| answered <= ack.at), "the ACK came before the partner's answer");
    late(11);
    let connections = script.tap.connections();
    let request = site.clients.request(mac(1, 2), &[], PATIENCE).expect("an offer");
    assert!(site.clients.answers(request.xid, 1, Duration::from_secs(12)).is_empty(), "an ACK after 10 s");
    script.as_usual();
    assert!(site.clients.try_lease(mac(1, 2), &[], PATIENCE).is_some(), "on a new connection");
    assert!(script.tap.connections() > connections, "the connection of the late answer is not used again");
}

/// The partner closes a connection it has answered on as soon as the next request is on its way.
fn d10() {
    let (site, script) = with_script(Plan::hot_standby([N, S]));
    // Every connection has been used before.
    site.clients.lease_all(&macs(2, 40));
    for number in 1..=5 {
        let mut closed = false;
        script.instead(move |command, _| {
            (command.starts_with("lease4") && !std::mem::replace(&mut closed, true)).then_some(Verdict::Close)
        });
        let before = script.tap.of("lease4-update").len();
        let ack = site.clients.try_lease(mac(1, number), &[], PATIENCE);
        assert!(ack.is_some(), "client {number}");
        assert_eq!(script.tap.of("lease4-update").len(), before + 2, "sent again once");
    }
    assert_eq!(site.state(0), "hot-standby");
    assert_eq!(site.ha_servers(0)["remote"]["last-state"], "hot-standby");
}

/// The same client asks again and again among a thousand others: updates of one address follow each other, so that no
/// Kea finds one busy.
fn d11(seats: [Seat; 2]) {
    let site = Site::whole(Plan::hot_standby(seats).global("parked-packet-limit", json!(0)), "hot-standby");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let again = clients::Clients::new(&site.outside, "cli0");
            let lease = again.lease(mac(9, 1), &[]);
            for _ in 0..60 {
                for _ in 0..4 {
                    let ciaddr = Some(lease.address);
                    again.send(&Query { ciaddr, ..query(REQUEST, mac(9, 1), Vec::new()) });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        site.clients.lease_all(&macs(1, 1000));
    });
    for server in [0, 1] {
        assert_eq!(site.logged(server, "ResourceBusy"), 0, "server{}", server + 1);
        assert_eq!(site.logged(server, "HA_LEASE_UPDATE_FAILED"), 0, "server{}", server + 1);
    }
    assert_eq!(site.wait_for_equal_stores([0, 1], TOGETHER), 1001);
}

fn d13() {
    let (site, script) = with_script(Plan::hot_standby([N, S]).ha("send-lease-updates", json!(false)));
    script.instead(|command, _| command.starts_with("lease4").then_some(Verdict::Hang));
    for number in 1..=5 {
        // An update that nobody answers is waited for longer.
        site.clients.try_lease(mac(1, number), &[], PATIENCE).expect("an ACK");
    }
    assert!(script.tap.of("lease4-update").is_empty());
    let answer = script.post(&site, 0, "ha-heartbeat", Value::Null);
    assert_eq!(answer["arguments"]["unsent-update-count"], 0);
}
