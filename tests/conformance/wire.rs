//! Group A: what goes over the wire, octet for octet.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::clients::{PATIENCE, macs};
use crate::support::control;
use crate::support::dhcp::{DISCOVER, Query};
use crate::support::http::{Connection, request, response};
use crate::support::k3::{Script, listed};
use crate::support::plan::{K, N, Plan, S, address};
use crate::support::rows;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::support::tap::Verdict;
use crate::{Scenario, scenario};

/// The scenarios of this group.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(&["A1"], "every_form_of_a_heartbeat_is_answered_alike", 2, a1),
        scenario(&["A2"], "a_kea_polls_on_one_connection_and_never_fails", 60, a2),
        scenario(&["A3"], "what_is_no_command_gets_the_result_kea_gives", 2, a3),
        scenario(&["A4"], "more_is_answered_than_is_ever_sent", 12, a4),
        scenario(&["A5"], "stalled_requests_end_and_idle_connections_stay", 125, a5),
        scenario(&["A6"], "replies_are_read_as_kea_reads_them", 12, a6),
        scenario(&["A7"], "a_kea_copies_from_an_empty_tandem", 6, a7),
        scenario(&["A8"], "octets_beyond_ascii_travel_to_a_kea_and_back", 20, a8),
        scenario(&["A9"], "partners_commands_pass_and_others_are_forbidden", 2, a9),
        scenario(&["A10"], "large_heads_and_pages_meet_limits", 15, a10),
    ]
}

/// A Tandem whose partner is a script in the normal state, so that Tandem is in it too.
pub fn with_script(plan: Plan) -> (Site, Script) {
    let mut site = Site::new(plan);
    let script = Script::new(&site, 1, "hot-standby");
    site.start(0);
    site.wait_for_state(0, "hot-standby", SOON);
    (site, script)
}

fn a1() {
    let (site, _script) = with_script(Plan::hot_standby([N, S]));
    let mut connection = site.connect(0);
    for body in [
        r#"{ "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#,
        r#"{ "arguments": { "server-name": "server2" }, "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#,
        r#"{ "command": "ha-heartbeat" }"#,
        r#"{ "command": "ha-heartbeat", "service": [ "dhcp6" ] }"#,
    ] {
        connection.send(&request(body));
        let answer = connection.receive().expect("an answer");
        assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.head);
        assert_eq!(answer.header("Content-Length"), Some(answer.body.len().to_string().as_str()));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert!(answer.header("Date").is_some_and(|date| date.ends_with(" GMT")));
        let answer = answer.answer();
        assert_eq!(answer["result"], 0, "{body}: {answer}");
        let arguments = &answer["arguments"];
        assert_eq!(arguments["state"], "hot-standby");
        assert_eq!(arguments["scopes"], json!(["server1"]));
        assert_eq!(arguments["unsent-update-count"], 0);
        assert!(arguments["date-time"].as_str().is_some_and(|date| date.ends_with(" GMT")), "{arguments}");
    }
}

/// Goal: a thousand polls. Method: a Kea looks at its timers when a packet wakes it, at the latest after a second; so it is
/// kept awake with DISCOVERs, which replicate nothing.
fn a2() {
    const POLLS: usize = 1000;
    let plan = Plan::hot_standby([K, N]).tapped().ha_of(0, "heartbeat-delay", json!(10));
    let site = Site::whole(plan, "hot-standby");
    // The first ones may have come before Tandem listened.
    let failures =
        || site.logged(0, "HA_HEARTBEAT_FAILED") + site.logged(0, "HA_HEARTBEAT_COMMUNICATIONS_FAILED");
    let failed_before = failures();
    site.tap(0, 1).forget();
    let (start, mut number) = (Instant::now(), 0);
    while site.tap(0, 1).exchanges().len() < POLLS {
        assert!(start.elapsed() < Duration::from_secs(180), "{}", site.tap(0, 1).exchanges().len());
        number += 1;
        let mac = crate::support::clients::mac(7, number);
        site.clients.send(&Query { message_type: DISCOVER, xid: number.into(), mac, ..Query::default() });
        std::thread::sleep(Duration::from_millis(10));
    }
    let exchanges = site.tap(0, 1).exchanges();
    let first = exchanges[0].connection;
    for exchange in &exchanges {
        assert_eq!(exchange.request.command(), "ha-heartbeat");
        assert_eq!(exchange.connection, first, "another connection");
    }
    assert_eq!(failures(), failed_before);
    assert_eq!(site.state(0), "hot-standby");
}

fn a3() {
    let (site, _script) = with_script(Plan::hot_standby([N, S]).ha("restrict-commands", json!(false)));
    let mut connection = site.connect(0);
    for (body, status, result) in [
        (r#"{"command": "ha-nothing"}"#, 200, Some(2)),
        (r#"{"command": "ha-heartbeat", "extra": 1}"#, 200, Some(1)),
        ("{", 400, None),
        (r#"{"command": "ha-heartbeat"} x"#, 400, None),
        (r#"{"command": "ha-heartbeat",}"#, 400, None),
        ("", 200, Some(1)),
        ("[]", 200, Some(1)),
        (r#"{"command": "ha-heartbeat", "arguments": null}"#, 200, Some(0)),
    ] {
        connection.send(&request(body));
        let answer = connection.receive().unwrap_or_else(|| panic!("{body}: closed"));
        assert_eq!(answer.status(), status, "{body}");
        match result {
            Some(result) => assert_eq!(answer.answer()["result"], result, "{body}"),
            None => assert_eq!(answer.json()["result"], i64::from(status), "{body}"),
        }
    }
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.receive().expect("an answer").status(), 400);
    assert!(connection.closes_within(Duration::from_secs(2)));
}

/// What Tandem sends is seen on the way to a Kea: while both start, while leases are replicated, and in answers.
fn a4() {
    let site = Site::whole(Plan::hot_standby([N, K]).tapped(), "hot-standby");
    let body = r#"{ "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#;
    let plain = format!("Content-Length: {}\r\nContent-Type: application/json", body.len());
    let charset = format!("Content-Length: {}\r\nContent-Type: application/json; charset=utf-8", body.len());
    let expect = format!("{plain}\r\nExpect: 100-continue");
    let chunked = "Transfer-Encoding: chunked\r\nContent-Type: application/json";
    let half = body.len() / 2;
    let chunks =
        format!("{half:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", &body[..half], body.len() - half, &body[half..]);
    for (headers, octets) in
        [(&plain, body), (&charset, body), (&chunked.to_owned(), &chunks), (&expect, body)]
    {
        let mut connection = site.connect(0);
        connection.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n{octets}").as_bytes());
        let mut answer = connection.receive().unwrap_or_else(|| panic!("{headers}: closed"));
        if answer.status() == 100 {
            answer = connection.receive().expect("the answer itself");
        }
        assert_eq!(answer.answer()["result"], 0, "{headers}");
    }
    let mut connection = site.connect(0);
    connection.send(&[request(body), request(body)].concat());
    for _ in 0..2 {
        assert_eq!(connection.receive().expect("both are answered").answer()["result"], 0);
    }

    site.clients.lease_all(&macs(1, 100));
    let sent = site.tap(0, 1).exchanges();
    assert!(sent.iter().filter(|exchange| exchange.request.command() == "lease4-update").count() >= 100);
    for exchange in &sent {
        let head = &exchange.request.head;
        assert!(!exchange.is_pipelined, "{head}");
        let names: Vec<&str> =
            head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
        assert_eq!(names, ["Host", "Content-Length", "Content-Type"], "{head}");
        assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
        assert_eq!(exchange.request.header("Host"), Some("127.0.0.1"));
        assert_eq!(exchange.request.header("Content-Type"), Some("application/json"));
    }
    for answer in site.tap(1, 0).exchanges().into_iter().filter_map(|exchange| exchange.answer) {
        assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.head);
        assert_eq!(answer.header("Transfer-Encoding"), None);
    }
}

/// All the waiting goes on at once.
fn a5() {
    let (site, _script) = with_script(Plan::hot_standby([N, S]));
    let quiet = Plan::hot_standby([N, K]).ha_of(0, "heartbeat-delay", json!(32_000));
    let mut pair = Site::new(quiet.ha_of(0, "max-response-delay", json!(65_000)));
    pair.start_all();
    let heartbeat = json!({ "command": "ha-heartbeat", "service": ["dhcp4"] });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            let mut connection = site.connect(0);
            connection.send(b"POST / HTTP/1.1\r\nHost: 10.98");
            let answer = connection.receive().expect("the server says that it has waited");
            assert_eq!(answer.status(), 408);
            assert!((9..25).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
            assert!(connection.closes_within(Duration::from_secs(2)));
        });
        scope.spawn(|| {
            let mut connection = site.connect(0);
            connection.post(&heartbeat);
            std::thread::sleep(Duration::from_secs(120));
            assert_eq!(connection.post(&heartbeat).answer()["result"], 0);
        });
        scope.spawn(|| {
            while Connection::try_open(&pair.outside, address(1)).is_none() {
                std::thread::sleep(Duration::from_millis(200));
            }
            let mut connection = pair.connect(1);
            connection.post(&heartbeat);
            assert!(!connection.closes_within(Duration::from_secs(27)));
            assert!(connection.closes_within(Duration::from_secs(20)), "a Kea closes what is idle for 30 s");
        });
        scope.spawn(|| {
            pair.wait_for_states(&["hot-standby"; 2], TOGETHER);
            // Every connection has been idle for longer than a Kea keeps it.
            std::thread::sleep(Duration::from_secs(31));
            pair.clients.lease(crate::support::clients::mac(1, 1), &[]);
            std::thread::sleep(Duration::from_secs(31));
            let renewed = pair.clients.try_lease(crate::support::clients::mac(1, 2), &[], PATIENCE);
            assert!(renewed.is_some(), "the first request after the pause");
        });
    });
    // The first one was sent before the Kea listened.
    assert!(pair.logged(0, "FAILED") <= 1, "{}", pair.log(0));
    assert_eq!(pair.wait_for_equal_stores([0, 1], SOON), 2);
}

/// Table 2.5. Where Kea's client gives up, Tandem's may be more patient.
fn a6() {
    let delays =
        Plan::hot_standby([N, S]).ha("heartbeat-delay", json!(150)).ha("max-response-delay", json!(20_000));
    let (site, script) = with_script(delays);
    let good = |date: String| {
        format!(
            r#"{{ "arguments": {{ "date-time": "{date}", "scopes": [], "state": "hot-standby", "unsent-update-count": 0 }}, "result": 0 }}"#
        )
    };
    let good = move || good(crate::support::k3::date(0));
    let with_head = |head: &str, body: &str| {
        format!("{head}\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\r\n{body}", body.len())
            .into_bytes()
    };
    enum Read {
        Yes,
        No,
        Either,
    }
    let one = good();
    let two = format!("[ {one}, {{ \"result\": 1 }} ]");
    let three = format!("[ {} ]", one.replace("\"result\": 0", "\"result\": 3"));
    let text = format!("[ {} ]", one.replace("\"result\": 0", "\"result\": \"0\""));
    let none = format!("[ {} ]", one.replace(", \"result\": 0", ""));
    let array = format!("[ {one} ]");
    for (what, octets, expected) in [
        ("an object", response(&one), Read::No),
        ("an empty array", response("[ ]"), Read::No),
        ("nothing", response(""), Read::No),
        ("a result that is text", response(&text), Read::No),
        ("no result", response(&none), Read::No),
        ("no JSON", response("[ { \"result\": 0, "), Read::No),
        ("status 500 and a good array", with_head("HTTP/1.1 500 Internal Server Error", &array), Read::Yes),
        ("status 401 and a good array", with_head("HTTP/1.1 401 Unauthorized", &array), Read::Yes),
        ("no phrase", with_head("HTTP/1.1 200", &array), Read::Either),
        ("HTTP/1.0", with_head("HTTP/1.0 200 OK", &array), Read::Yes),
        ("result 3", response(&three), Read::Yes),
        ("two elements", response(&two), Read::Yes),
    ] {
        script
            .instead(move |command, _| (command == "ha-heartbeat").then(|| Verdict::Answer(octets.clone())));
        // The first that is answered so may be on its way already.
        let seen = script.tap.of("ha-heartbeat").len();
        let start = Instant::now();
        while script.tap.of("ha-heartbeat").len() < seen + 3 {
            assert!(start.elapsed() < SOON, "{what}: no more heartbeats");
            std::thread::sleep(Duration::from_millis(20));
        }
        let last = site.ha_servers(0)["remote"]["last-state"].clone();
        match expected {
            Read::Yes => assert_eq!(last, "hot-standby", "{what}"),
            Read::No => assert_eq!(last, "unavailable", "{what}"),
            Read::Either => assert!(last == "hot-standby" || last == "unavailable", "{what}: {last}"),
        }
    }
    script.as_usual();
    let start = Instant::now();
    while site.ha_servers(0)["remote"]["last-state"] != "hot-standby" {
        assert!(start.elapsed() < SOON);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A reply with neither `arguments` nor `text` would end the Kea.
fn a7() {
    let site = Site::whole(Plan::hot_standby([K, N]).tapped(), "hot-standby");
    let pages = site.tap(0, 1).of("lease4-get-page");
    assert!(!pages.is_empty());
    for page in pages {
        let answer = page.answer.expect("an answer").answer();
        assert_eq!(answer["result"], 3, "{answer}");
        assert_eq!(answer["arguments"], json!({ "count": 0, "leases": [] }));
    }
    assert_eq!(site.logged(0, "HA_SYNC_SUCCESSFUL"), 1);
}

/// The lease goes from Tandem's store to Kea's by a copy, and back into an empty one.
fn a8() {
    let mut site = Site::new(Plan::hot_standby([N, K]).tapped());
    site.start(0);
    site.wait_for_state(0, "partner-down", SOON);
    // Kea's JSON has one escape for each octet: this is C3 A9.
    let added = site.send(
        0,
        r#"{ "command": "lease4-update", "service": [ "dhcp4" ], "arguments": { "force-create": true,
            "ip-address": "10.99.1.77", "hw-address": "02:00:00:00:00:77", "subnet-id": 1, "valid-lft": 3600,
            "hostname": "caf\u00c3\u00a9.example.", "user-context": { "note": "a \"quote\" \u00c3\u00a9" } } }"#,
    );
    assert_eq!(added.expect("an answer").answer()["result"], 0);
    let before = rows::read(&site.members[0].folder.join("leases.csv"));
    assert_eq!(before.len(), 1);
    site.start(1);
    site.wait_for_states(&["hot-standby"; 2], TOGETHER);
    let pages = site.tap(1, 0).of("lease4-get-page");
    let text: String = pages
        .iter()
        .filter_map(|page| page.answer.as_ref())
        .map(|answer| String::from_utf8_lossy(&answer.body).into_owned())
        .collect();
    assert!(text.contains(r#"caf\u00c3\u00a9.example."#), "{text}");
    assert!(text.contains(r#"a \"quote\" \u00c3\u00a9"#), "{text}");
    assert!(text.is_ascii() && !text.contains("\\u01"), "{text}");
    let octets = |file: &str| std::fs::read(file).expect("a lease file");
    let kea = octets(site.members[1].folder.join("leases.csv").to_str().expect("UTF-8"));
    assert!(kea.windows(5).any(|window| window == b"caf\xc3\xa9"), "in Kea's file");

    site.kill(0);
    std::fs::remove_file(site.members[0].folder.join("leases.csv")).expect("the store is gone");
    site.start(0);
    site.wait_for_states(&["hot-standby"; 2], TOGETHER);
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 1);
    assert_eq!(rows::read(&site.members[0].folder.join("leases.csv")), before);
}

fn a9() {
    let (site, _script) = with_script(Plan::hot_standby([N, S]).ha("restrict-commands", json!(true)));
    let mut connection = site.connect(0);
    for command in ["list-commands", "status-get"] {
        let answer = connection.post(&json!({ "command": command, "service": ["dhcp4"] })).answer();
        assert_eq!(answer["result"], 0, "{answer}");
    }
    for command in ["config-get", "lease4-add", "ha-scopes", "ha-continue", "shutdown"] {
        let answer = connection.post(&json!({ "command": command, "service": ["dhcp4"] }));
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.json(), json!({ "result": 403, "text": "Forbidden" }), "{command}");
    }
}

/// Peak resident memory of a server, MiB.
pub fn peak_mib(site: &Site, server: usize) -> u64 {
    let id = site.members[server].process.as_ref().expect("running").id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") / 1024
}

/// A head beyond 16 KiB and a body beyond the limit are refused at once; a page beyond 64 MiB is no page, and one below
/// is read. Memory stays in proportion.
fn a10() {
    let plan =
        Plan::hot_standby([N, S]).ha("sync-page-limit", json!(400_000)).ha("sync-timeout", json!(30_000));
    let (site, script) = with_script(plan);
    let idle = peak_mib(&site, 0);
    let mut connection = site.connect(0);
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n", "x".repeat(100 * 1024));
    // The server may close before it has read all of it.
    let _ = std::io::Write::write_all(&mut connection.stream, head.as_bytes());
    let refused = connection.receive();
    assert!(refused.is_none_or(|answer| (400..500).contains(&answer.status())), "a head of 100 kB");
    let mut connection = site.connect(0);
    let head =
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 67108865\r\n\r\n";
    connection.send(head.as_bytes());
    let refused = connection.receive();
    assert!(refused.is_none_or(|answer| (400..500).contains(&answer.status())), "a body of 64 MiB");
    assert!(peak_mib(&site, 0) < idle + 32, "{idle} MiB, then {}", peak_mib(&site, 0));

    // 400,000 leases are 64 MiB and more.
    let page = |leases: usize| {
        let mut body = String::from("[ { \"arguments\": { \"leases\": [ ");
        for number in 0..leases {
            let [_, high, middle, low] = u32::try_from(number).expect("small").to_be_bytes();
            let at = format!("10.{}.{middle}.{low}", 100 + high);
            let mac = format!("02:00:00:{high:02x}:{middle:02x}:{low:02x}");
            body += if number > 0 { ", " } else { "" };
            body += &listed(&at, &mac, 1_795_000_000).to_string();
        }
        body + &format!(" ], \"count\": {leases} }}, \"result\": 0, \"text\": \"\" }} ]")
    };
    let sync = || control::try_command(&site.socket(0), "ha-sync", json!({ "server-name": "server2" }));
    for (leases, is_read) in [(100_000, true), (400_000, false)] {
        let octets = response(&page(leases));
        assert_eq!(octets.len() < 64 << 20, is_read, "{} octets", octets.len());
        // A page of more leases than were asked for, and nothing after it.
        let end = response(&page(0));
        script.instead(move |command, request| {
            let is_first = request.json()["arguments"]["from"] == "start";
            let octets = if is_first { &octets } else { &end };
            (command == "lease4-get-page").then(|| Verdict::Answer(octets.clone()))
        });
        let answer = sync().expect("an answer");
        assert_eq!(answer["result"] == 0, is_read, "{leases} leases: {answer}");
    }
    assert!(peak_mib(&site, 0) < idle + 640, "{idle} MiB, then {}", peak_mib(&site, 0));
    assert_eq!(site.post(0, &json!({ "command": "ha-heartbeat" })).answer()["result"], 0);
}
