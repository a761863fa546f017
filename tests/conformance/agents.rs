//! Group B, basic authentication, and whole lives of a pair whose Kea is spoken to through its control agent, as releases
//! up to 2.2 are by default: no listener of its own, a daemon before a unix socket, commands one at a time.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::security::{certificates_of, over_tls, triple};
use crate::states::WHOLE;
use crate::support::certificates::Version;
use crate::support::clients::{PATIENCE, mac, macs};
use crate::support::http::{Connection, Message};
use crate::support::k3::Script;
use crate::support::plan::{K, N, PORT, Plan, S, Seat, address, name, peer, relationship};
use crate::support::process::{Process, eventually};
use crate::support::site::{SOON, Site, TOGETHER};
use crate::support::tap::Verdict;
use crate::{Scenario, scenario};

/// Where the Debian package puts the agent.
const AGENT: &str = "/usr/sbin/kea-ctrl-agent";
/// Base64 of what each side shows the other; `printf tandem:to-kea | base64`.
const TO_KEA: &str = "Basic dGFuZGVtOnRvLWtlYQ==";
const TO_TANDEM: &str = "Basic a2VhOnRvLXRhbmRlbQ==";
/// `printf tandem:wrong | base64`.
const WRONG: &str = "Basic dGFuZGVtOndyb25n";

/// The scenarios of this file.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        scenario(&["B7"], "an_agent_takes_the_right_password_and_no_other", 35, b7_agent),
        scenario(&["B7"], "a_script_of_3_3_shows_and_demands_credentials", 15, b7_script),
    ];
    for (shows, lenient, is_whole) in [(true, false, true), (false, true, true), (false, false, false)] {
        let name = match (shows, lenient) {
            (true, _) => "a_kea_that_shows_credentials_is_let_in",
            (false, true) => "a_kea_that_has_none_is_let_in_where_that_is_allowed",
            (false, false) => "a_kea_that_has_none_is_kept_out",
        };
        all.push(scenario(&["B7"], name, 15, move || b7_kea(shows, lenient, is_whole)));
    }
    for (name, seats) in [("tandem_kea", [N, K]), ("kea_tandem", [K, N])] {
        let name = format!("a_pair_over_a_control_agent_with_tls_and_passwords_{name}");
        all.push(scenario(&["B1", "B7", "C4", "C5"], name, 60, move || agent_life(seats)));
    }
    all
}

/// Starts the agent of the Kea at `server`, on the address and the port of that server's HA URL. It is there until the
/// value is dropped, whether the Kea is or not.
fn start_agent(site: &Site, server: usize, certificates: Option<&Path>) -> Process {
    let member = &site.members[server];
    let mut agent = json!({
        "http-host": address(server).ip().to_string(),
        "http-port": PORT,
        "authentication": {
            "type": "basic",
            "realm": "agent",
            "clients": [{ "user": "tandem", "password": "to-kea" }],
        },
        "control-sockets": { "dhcp4": { "socket-type": "unix", "socket-name": site.socket(server) } },
        "loggers": [
            { "name": "kea-ctrl-agent", "output_options": [{ "output": "stdout" }], "severity": "INFO" },
        ],
    });
    if let Some(folder) = certificates {
        for (key, value) in triple(folder, "CA", &name(server)) {
            agent[key] = value;
        }
        agent["cert-required"] = json!(true);
    }
    let file = member.folder.join("agent.conf");
    std::fs::write(&file, json!({ "Control-agent": agent }).to_string()).expect("a configuration");
    let run = member.folder.to_str().expect("a UTF-8 path");
    let environment = [("KEA_PIDFILE_DIR", run), ("KEA_LOCKFILE_DIR", run), ("KEA_CONTROL_SOCKET_DIR", run)];
    let words = ["-c", file.to_str().expect("a UTF-8 path")];
    let output = member.folder.join("agent-output");
    let mut agent = Process::start(&member.host, AGENT, &words, &environment, &output);
    agent.wait_for(None, "CTRL_AGENT_STARTED", SOON);
    agent
}

/// Credentials for both directions, and a Kea without a listener of its own: `password` is what Tandem shows the agent.
fn with_passwords(plan: Plan, kea: usize, password: &'static str) -> Plan {
    plan.edit(move |server, dhcp4| {
        for (place, user, password) in [(kea, "tandem", password), (1 - kea, "kea", "to-tandem")] {
            peer(dhcp4, place)["basic-auth-user"] = json!(user);
            peer(dhcp4, place)["basic-auth-password"] = json!(password);
        }
        if server == kea {
            relationship(dhcp4)["multi-threading"] = json!({ "enable-multi-threading": false });
        }
    })
}

/// Posts of a server to another one, with what came back.
fn shown(site: &Site, from: usize, to: usize) -> Vec<(Option<String>, Option<u16>)> {
    let exchanges = site.tap(from, to).exchanges().into_iter();
    let seen = exchanges.map(|exchange| {
        let header = exchange.request.header("Authorization").map(str::to_owned);
        (header, exchange.answer.as_ref().map(Message::status))
    });
    seen.collect()
}

/// With a wrong password every request is answered with 401 and the partner counts as unavailable; with the right one the
/// pair comes together and replicates.
fn b7_agent() {
    let right = with_passwords(Plan::hot_standby([N, K]).tapped(), 1, "to-kea");
    let wrong = with_passwords(Plan::hot_standby([N, K]).tapped(), 1, "wrong");
    let mut site = Site::new(wrong);
    let _agent = start_agent(&site, 1, None);
    site.start_all();
    site.wait_for_state(0, "partner-down", TOGETHER);
    assert_eq!(site.ha_servers(0)["remote"]["last-state"], "unavailable");
    let refused = shown(&site, 0, 1);
    assert!(refused.iter().all(|(header, _)| header.as_deref() == Some(WRONG)), "{refused:?}");
    assert!(refused.iter().any(|(_, status)| *status == Some(401)), "{refused:?}");
    assert!(refused.iter().all(|(_, status)| status.is_none_or(|status| status == 401)), "{refused:?}");

    site.kill(0);
    site.tap(0, 1).forget();
    site.plan = right;
    site.configure(0);
    site.start(0);
    site.wait_for_states(&WHOLE, TOGETHER);
    site.clients.lease_all(&macs(1, 20));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 20);
    let taken = shown(&site, 0, 1);
    assert!(taken.len() > 20);
    assert!(taken.iter().all(|(header, _)| header.as_deref() == Some(TO_KEA)), "{taken:?}");
    assert!(taken.iter().all(|(_, status)| status.is_none_or(|status| status == 200)), "{taken:?}");
    let theirs = shown(&site, 1, 0);
    assert!(theirs.iter().all(|(header, _)| header.as_deref() == Some(TO_TANDEM)), "{theirs:?}");
}

/// A partner of 3.3.1, whose listener demands the credentials of its own entry, and which shows those of ours.
fn b7_script() {
    let plan = with_passwords(Plan::hot_standby([N, S]), 1, "to-kea");
    let mut site = Site::new(plan);
    let script = Script::new(&site, 1, "hot-standby");
    let demand = |expected: &'static str| {
        script.instead(move |_, request| {
            (request.header("Authorization") != Some(expected)).then(|| {
                let body = r#"{ "result": 401, "text": "Unauthorized" }"#;
                let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"\"";
                let kind = "Content-Type: application/json";
                Verdict::Answer(
                    format!("{head}\r\nContent-Length: {}\r\n{kind}\r\n\r\n{body}", body.len()).into_bytes(),
                )
            })
        });
    };
    demand(TO_KEA);
    site.start(0);
    site.wait_for_state(0, "hot-standby", SOON);
    site.clients.lease(mac(1, 1), &[]);
    assert!(script.tap.of("lease4-update").iter().all(|update| update.result() == Some(0)));

    let mut connection = site.connect(0);
    let mut post = |header: Option<&str>| {
        let body = r#"{ "arguments": { "server-name": "server2" }, "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#;
        let line = header.map_or_else(String::new, |header| format!("Authorization: {header}\r\n"));
        let kind = "Content-Type: application/json";
        let head = format!("POST / HTTP/1.1\r\nHost: 10.98.0.1\r\n{line}Content-Length: {}", body.len());
        connection.send(format!("{head}\r\n{kind}\r\n\r\n{body}").as_bytes());
        connection.receive().expect("an answer on the same connection")
    };
    for (header, status) in
        [(None, 401), (Some(WRONG), 401), (Some(TO_KEA), 401), (Some(TO_TANDEM), 200), (None, 401)]
    {
        let answer = post(header);
        assert_eq!(answer.status(), status, "{header:?}");
        if status == 401 {
            assert_eq!(answer.header("WWW-Authenticate"), Some("Basic realm=\"\""));
            assert_eq!(answer.json(), json!({ "result": 401, "text": "Unauthorized" }));
        } else {
            assert_eq!(answer.answer()["result"], 0);
        }
    }

    demand(WRONG);
    site.wait_for_state(0, "partner-down", SOON);
    assert_eq!(site.ha_servers(0)["remote"]["last-state"], "unavailable");
}

/// Tandem's own entry has credentials. A Kea of 2.2 shows what its file has, and demands nothing.
fn b7_kea(shows: bool, lenient: bool, is_whole: bool) {
    let plan = Plan::hot_standby([N, K]).edit(move |server, dhcp4| {
        if server == 0 || shows {
            peer(dhcp4, 0)["basic-auth-user"] = json!("kea");
            peer(dhcp4, 0)["basic-auth-password"] = json!("to-tandem");
        }
        dhcp4["user-context"] = json!({ "tandem": { "accept-unauthenticated-partners": lenient } });
    });
    let mut site = Site::new(plan);
    site.start_all();
    if is_whole {
        site.wait_for_states(&WHOLE, TOGETHER);
        site.clients.lease_all(&macs(1, 5));
        assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 5);
    } else {
        eventually("the Kea alone", TOGETHER, || site.logged(1, "HA_COMMUNICATION_INTERRUPTED") > 0);
        assert_eq!(site.ha_servers(1)["remote"]["last-state"], "unavailable");
        assert_ne!([site.state(0), site.state(1)], WHOLE);
        assert_eq!(site.logged(0, "HTTP_CLIENT_REQUEST_NOT_AUTHORIZED"), 1);
        let mut stranger = Connection::open(&site.members[1].host, address(0), Duration::from_secs(5));
        let answer = stranger.post(&json!({ "command": "ha-heartbeat", "service": ["dhcp4"] }));
        assert_eq!(answer.status(), 401);
    }
}

/// Goal: ordinary leases, the death of each server and its return, with an agent between the two. Method: the agent lives
/// on when its Kea dies, so that Tandem hears of a host that is up and a server that is not.
fn agent_life(seats: [Seat; 2]) {
    let kea = usize::from(seats[1] == K);
    let tandem = 1 - kea;
    let folder = certificates_of(Version::V3);
    let plan = Plan::hot_standby(seats).ha("max-unacked-clients", json!(0));
    let plan = over_tls(with_passwords(plan, kea, "to-kea"), folder.path().to_owned());
    let mut site = Site::new(plan);
    let agent = start_agent(&site, kea, Some(folder.path()));
    site.start_all();
    site.wait_for_states(&WHOLE, TOGETHER);
    let leased = site.clients.lease_all(&macs(1, 20));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 20);
    let (client, server) = (mac(1, 7), site.lan_address(0));
    let renewed = site.clients.renew(client, leased[&client], server, site.lan_mac(0));
    assert_eq!(renewed.expect("an answer").address, leased[&client]);
    site.clients.release(client, leased[&client], server);
    eventually("the release at both", SOON, || {
        let is_held = |server| site.lease(server, leased[&client]).is_some_and(|lease| lease["state"] == 0);
        !is_held(0) && !is_held(1)
    });
    site.wait_for_equal_held([0, 1], SOON);

    for (dies, family) in [(kea, 2), (tandem, 3)] {
        let lives = 1 - dies;
        site.kill(dies);
        site.wait_for_state(lives, "partner-down", TOGETHER);
        for number in 0..10 {
            assert_eq!(site.clients.lease(mac(family, number), &[]).server, site.lan_address(lives));
        }
        site.start(dies);
        site.wait_for_states(&WHOLE, TOGETHER);
        site.wait_for_equal_held([0, 1], SOON);
    }
    let ack = site.clients.try_lease(mac(4, 1), &[], PATIENCE).expect("an ACK of the whole pair");
    assert_eq!(ack.server, site.lan_address(0));
    site.wait_for_equal_held([0, 1], SOON);

    // With the agent gone, its Kea is not heard either; it is back when the agent is.
    drop(agent);
    eventually("the partner unheard", SOON, || {
        site.ha_servers(tandem)["remote"]["last-state"] == "unavailable"
    });
    let _agent = start_agent(&site, kea, Some(folder.path()));
    // Until it is missed for long enough it is a partner in its normal state, heard or not.
    eventually("the partner heard again", SOON, || {
        site.ha_servers(tandem)["remote"]["last-state"] != "unavailable"
    });
    site.wait_for_states(&WHOLE, TOGETHER);
    let answer = site.command(tandem, "status-get", Value::Null);
    assert_eq!(answer["result"], 0);
    site.clients.lease(mac(4, 2), &[]);
    site.wait_for_equal_held([0, 1], SOON);
}
