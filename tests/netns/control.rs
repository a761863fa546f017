//! What operators and their tools do: commands over the unix socket, the 3.x template's HTTPS socket and the control
//! agent; reload and stop; a log that nobody reads.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::certificates::{self, Version};
use crate::support::control;
use crate::support::dhcp::{Direct, lease};
use crate::support::https::post;
use crate::support::pair::{Pair, template};
use crate::support::process::{Process, eventually};
use crate::support::server::Kind;

/// Commands that have to be answered with result 0 or 3, and a member each answer has to have.
const COMMANDS: &[(&str, &str)] = &[
    ("list-commands", "/arguments/0"),
    ("version-get", "/arguments/extended"),
    ("status-get", "/arguments/high-availability/0/ha-servers/local/state"),
    ("config-get", "/arguments/Dhcp4/subnet4/0/pools/0/pool"),
    ("lease4-get-all", "/arguments/leases"),
    ("ha-heartbeat", "/arguments/date-time"),
    ("statistic-get-all", "/arguments/pkt4-received/0/0"),
];

fn check_all(ask: impl Fn(&str) -> Value) {
    for (command, member) in COMMANDS {
        let answer = ask(command);
        assert!(answer["result"] == 0 || answer["result"] == 3, "{command}: {answer}");
        assert!(answer.pointer(member).is_some(), "{command} has no {member}: {answer}");
    }
    assert_eq!(ask("no-such-command")["result"], 2);
}

#[test]
fn the_unix_socket_answers_in_keas_shapes() {
    let Some(files) = template("2.x") else { return };
    let mut pair = Pair::new(&files, [Kind::Tandem; 2], Version::V3, &[]);
    pair.start(0);
    let socket = pair.socket(0);
    eventually("the socket answers", Duration::from_secs(40), || {
        control::try_command(&socket, "version-get", Value::Null).is_some()
    });
    let ask = |command: &str| control::command(&socket, command, Value::Null);
    check_all(ask);
    // 2.2 is the release whose dialect the file speaks.
    assert_eq!(ask("version-get")["text"], "2.2.0");
    let config = ask("config-get")["arguments"].clone();
    let tested = control::command(&socket, "config-test", json!({ "Dhcp4": config["Dhcp4"] }));
    assert_eq!(tested["result"], 0, "what config-get says, config-test accepts: {tested}");
    let mistyped = json!({ "Dhcp4": { "valid-lifetme": 1 } });
    let tested = control::command(&socket, "config-test", mistyped);
    assert_eq!(tested["result"], 1);
    assert!(tested["text"].as_str().is_some_and(|text| text.contains("valid-lifetme")), "{tested}");
    let page = control::command(&socket, "lease4-get-page", json!({ "from": "start", "limit": 10 }));
    assert_eq!((&page["result"], &page["arguments"]["count"]), (&json!(3), &json!(0)), "{page}");
    let missing = control::command(&socket, "lease4-get", json!({ "ip-address": "192.168.1.100" }));
    assert_eq!((&missing["result"], &missing["text"]), (&json!(3), &json!("Lease not found.")));
    let garbage = control::command(&socket, "", Value::Null);
    assert_ne!(garbage["result"], 0);

    assert_eq!(control::command(&socket, "shutdown", Value::Null)["result"], 0);
    let mut process = pair.members[0].process.take().expect("running");
    assert_eq!(process.wait(Duration::from_secs(30)).code(), Some(0));
}

#[test]
fn the_3_x_templates_https_socket_wants_a_client_certificate() {
    let Some(files) = template("3.x") else { return };
    let mut pair = Pair::new(&files, [Kind::Tandem; 2], Version::V3, &[]);
    pair.start(0);
    let operator = pair.lan.host("operator", "op0", &["192.168.1.9/24"]);
    let url = "https://192.168.1.2:8001/";
    let ask = |command: &str, who: Option<&str>| {
        post(&operator, pair.root.path(), who, url, &json!({ "command": command }))
    };
    eventually("the socket answers", Duration::from_secs(40), || {
        ask("version-get", Some("operator")).is_ok()
    });
    check_all(|command| ask(command, Some("operator")).expect("an answer")[0].clone());
    assert_eq!(ask("version-get", Some("operator")).expect("an answer")[0]["text"], "3.0.0");
    assert!(ask("version-get", None).is_err(), "answered without a client certificate");
    certificates::authority(pair.root.path(), "other");
    certificates::issue(pair.root.path(), "other", "stranger", Version::V3, 30);
    assert!(ask("version-get", Some("stranger")).is_err(), "answered to a stranger's certificate");
    assert!(ask("version-get", Some("operator")).is_ok(), "refused the operator after a stranger");
}

/// Starts the first template's control agent on the first member's host, with its files in that member's folder.
pub fn start_agent(pair: &Pair) -> Process {
    let folder = pair.members[0].folder.clone();
    let shared = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/kea-configs/template-ha-mt-tls-2.x/kea-ca-1.conf");
    let text = std::fs::read_to_string(shared)
        .expect("the agent's file")
        .replace("/usr/lib/kea/", &format!("{}/", pair.root.path().display()));
    let text = text
        .replace("/var/log/kea/", &format!("{}/", folder.display()))
        .replace("\"kea4-ctrl-socket\"", &format!("\"{}\"", pair.socket(0).display()));
    let config = folder.join("kea-ca.conf");
    std::fs::write(&config, text).expect("a configuration");
    let run = folder.display().to_string();
    Process::start(
        &pair.members[0].host,
        env!("CARGO_BIN_EXE_tandem-ctrl-agent"),
        &["-c", &config.display().to_string()],
        &[("KEA_PIDFILE_DIR", &run), ("KEA_LOCKFILE_DIR", &run)],
        &folder.join("agent-output"),
    )
}

#[test]
fn the_control_agent_forwards_from_https_to_the_unix_socket() {
    let Some(files) = template("2.x") else { return };
    let mut pair = Pair::new(&files, [Kind::Tandem; 2], Version::V1, &[]);
    pair.start(0);
    let _agent = start_agent(&pair);
    let operator = pair.lan.host("operator", "op0", &["192.168.1.9/24"]);
    let ask = |body: &Value, who: Option<&str>| {
        post(&operator, pair.root.path(), who, "https://192.168.1.2:8001/", body)
    };
    let to_server = |command: &str| json!({ "command": command, "service": ["dhcp4"] });
    eventually("the agent answers", Duration::from_secs(40), || {
        ask(&to_server("version-get"), Some("operator")).is_ok_and(|answer| answer[0]["result"] == 0)
    });
    check_all(|command| ask(&to_server(command), Some("operator")).expect("an answer")[0].clone());
    let own = ask(&json!({ "command": "config-get" }), Some("operator")).expect("an answer");
    assert!(own[0].pointer("/arguments/Control-agent/control-sockets/dhcp4").is_some(), "{own}");
    let offline =
        ask(&json!({ "command": "version-get", "service": ["dhcp6"] }), Some("operator")).expect("an answer");
    assert!(
        offline[0]["text"].as_str().is_some_and(|text| text.contains("likely to be offline")),
        "{offline}"
    );
    assert!(ask(&to_server("version-get"), None).is_err(), "answered without a client certificate");
}

#[test]
fn sighup_reloads_and_a_log_that_nobody_reads_changes_nothing_for_clients() {
    let Some(files) = template("2.x") else { return };
    // One server, alone: without HA, so that it serves at once.
    let mut pair = Pair::new(&files, [Kind::Tandem; 2], Version::V3, &[]);
    let folder = pair.members[0].folder.clone();
    let fifo = folder.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let config = folder.join("kea-dhcp4.conf");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let hooks = text.find("\"hooks-libraries\"").expect("the template has hooks");
    let subnets = text.find("\"subnet4\"").expect("the template has a subnet");
    let text = [&text[..hooks], &text[subnets..]].concat();
    let before =
        text.replace("kea-dhcp4.log", "fifo").replace("\"severity\": \"INFO\"", "\"severity\": \"DEBUG\"");
    let before = before.replace("\"debuglevel\": 0", "\"debuglevel\": 99");
    std::fs::write(&config, &before).expect("a configuration");
    pair.start(0);
    let socket = pair.socket(0);
    eventually("the socket answers", Duration::from_secs(40), || {
        control::try_command(&socket, "version-get", Value::Null).is_some()
    });
    let clients = pair.lan.host("clients", "cli0", &[]);
    let wire = Direct(clients.packet_socket("cli0", 100));
    let macs = |family: u8| (0..40).map(|number| [2, family, 0, 0, 0, number]).collect::<Vec<_>>();
    let leased = lease(&wire, &macs(1), &|_| Vec::new(), Duration::from_secs(30));
    assert_eq!(leased.len(), 40, "a log that nobody reads held up clients");

    // A reload that is good changes the rules between two queries; one that is bad changes nothing.
    let lifetime = || {
        let answer = control::command(&socket, "config-get", Value::Null);
        answer["arguments"]["Dhcp4"]["valid-lifetime"].as_u64()
    };
    assert_eq!(lifetime(), Some(43200));
    std::fs::write(&config, before.replace("\"valid-lifetime\": 43200", "\"valid-lifetime\": 50000"))
        .expect("write");
    pair.members[0].process.as_ref().expect("running").signal("HUP");
    eventually("the new lifetime", Duration::from_secs(30), || lifetime() == Some(50_000));
    assert_eq!(lease(&wire, &macs(1), &|_| Vec::new(), Duration::from_secs(30)), leased);
    std::fs::write(&config, "{ \"Dhcp4\": { \"valid-lifetme\": 1 } }").expect("write");
    let refused = control::command(&socket, "config-reload", Value::Null);
    assert_eq!(refused["result"], 1, "{refused}");
    assert_eq!(lifetime(), Some(50_000));
    assert_eq!(lease(&wire, &macs(2), &|_| Vec::new(), Duration::from_secs(30)).len(), 40);

    let mut process = pair.members[0].process.take().expect("running");
    process.signal("TERM");
    assert_eq!(process.wait(Duration::from_secs(30)).code(), Some(0));
}

/// Goal: nobody without a certificate of our authority gets anything from the HA listener, and the log says so once a
/// peer. Method: plain TCP, no certificate, a foreign authority's, an expired one; then one of ours.
#[test]
fn the_ha_listener_refuses_strangers_and_says_so_once() {
    let Some(files) = template("2.x") else { return };
    let mut pair = Pair::new(&files, [Kind::Tandem; 2], Version::V3, &[]);
    let root = pair.root.path().to_owned();
    certificates::authority(&root, "other");
    certificates::issue(&root, "other", "stranger", Version::V3, 30);
    certificates::issue(&root, "CA", "expired", Version::V3, -1);
    pair.start(0);
    let peer = pair.lan.host("peer", "peer0", &["192.168.1.8/24"]);
    let heartbeat = json!({ "command": "ha-heartbeat", "service": ["dhcp4"] });
    let tls = "https://192.168.1.2:8005/";
    eventually("the listener answers one of ours", Duration::from_secs(40), || {
        post(&peer, &root, Some("server2"), tls, &heartbeat).is_ok()
    });
    for _ in 0..3 {
        assert!(
            post(&peer, &root, Some("server2"), "http://192.168.1.2:8005/", &heartbeat).is_err(),
            "plain TCP"
        );
        assert!(post(&peer, &root, None, tls, &heartbeat).is_err(), "no certificate");
        assert!(post(&peer, &root, Some("stranger"), tls, &heartbeat).is_err(), "a foreign authority");
        assert!(post(&peer, &root, Some("expired"), tls, &heartbeat).is_err(), "expired");
    }
    let answer = post(&peer, &root, Some("server2"), tls, &heartbeat).expect("an answer");
    assert_eq!(answer[0]["result"], 0, "{answer}");
    let refused =
        post(&peer, &root, Some("server2"), tls, &json!({ "command": "config-get" })).expect("an answer");
    let forbidden = refused["result"] == 403 || refused[0]["result"] == 0;
    assert!(forbidden, "{refused}");
    eventually("the refusals in the log", Duration::from_secs(30), || pair.log(0).contains("192.168.1.8"));
    let lines = pair.log(0).lines().filter(|line| line.contains("192.168.1.8")).count();
    assert!((1..=4).contains(&lines), "{lines} lines about one peer:\n{}", pair.log(0));
}
