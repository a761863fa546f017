//! Certificates that expire while a pair or a control agent runs, and a pair that comes through control sockets.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::control::start_agent;
use crate::support::authority::{Authority, DAY, now};
use crate::support::certificates::Version;
use crate::support::control;
use crate::support::dhcp::{Direct, lease};
use crate::support::https::curl;
use crate::support::pair::{FAST, Pair, template};
use crate::support::process::eventually;
use crate::support::server::Kind;

const WHOLE: [&str; 2] = ["hot-standby", "hot-standby"];

/// Goal: nobody reloads anything, and nobody notices. Method: certificates of 18 s, good ones in their place as soon
/// as the pair is whole; states are watched beyond the end, and then clients come, whose updates need new connections.
#[test]
fn a_certificate_that_expires_is_replaced_and_the_pair_never_leaves_its_state() {
    let Some(files) = template("2.x") else { return };
    let mut pair = Pair::new(&files, [Kind::Tandem; 2], Version::V3, FAST);
    let authority = Authority::new(pair.root.path(), "CA");
    let end = now() + Duration::from_secs(18);
    for name in ["server1", "server2"] {
        authority.issue(pair.root.path(), name, end);
    }
    pair.start(0);
    pair.start(1);
    pair.wait_for_states(WHOLE, Duration::from_secs(30));
    assert!(now() < end, "the pair took too long to be whole");
    for name in ["server1", "server2"] {
        authority.issue(pair.root.path(), name, now() + DAY);
    }
    while now() < end + Duration::from_secs(2) {
        assert_eq!([0, 1].map(|index| control::ha_state(&pair.socket(index))), WHOLE);
        std::thread::sleep(Duration::from_millis(100));
    }
    for index in [0, 1] {
        assert!(pair.log(index).contains("TANDEM_CERTIFICATES_REPLACED"), "{}", pair.log(index));
    }
    let clients = pair.lan.host("clients", "cli0", &[]);
    let wire = Direct(clients.packet_socket("cli0", 100));
    let macs: Vec<[u8; 6]> = (0..8).map(|number| [2, 0x17, 0, 0, 0, number]).collect();
    assert_eq!(lease(&wire, &macs, &|_| Vec::new(), Duration::from_secs(30)).len(), macs.len());
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), macs.len());
    assert_eq!([0, 1].map(|index| control::ha_state(&pair.socket(index))), WHOLE);
}

/// Goal: the control agent, whose configuration nobody reads again, shows the certificate that was put in the place of one
/// that expires. Method: one of 8 s, a good one in its place once the agent answers; an operator comes after the end.
#[test]
fn the_control_agent_takes_up_a_certificate_that_was_replaced() {
    let Some(files) = template("2.x") else { return };
    let mut pair = Pair::new(&files, [Kind::Tandem; 2], Version::V3, &[]);
    let authority = Authority::new(pair.root.path(), "CA");
    let end = now() + Duration::from_secs(8);
    authority.issue(pair.root.path(), "ca1", end);
    authority.issue(pair.root.path(), "operator", now() + DAY);
    let folder = pair.members[0].folder.clone();
    let _agent = start_agent(&pair);
    let operator = pair.lan.host("operator", "op0", &["192.168.1.9/24"]);
    let ask = || {
        let list = json!({ "command": "list-commands" });
        // Its certificate has to be in force, of the authority, and to carry its name.
        let anchor = pair.root.path().join("CA.pem").display().to_string();
        let server = ["--cacert", &anchor, "--resolve", "ca1:8001:192.168.1.2", "https://ca1:8001/"];
        curl(&operator, pair.root.path(), Some("operator"), &server.map(str::to_owned), &list)
    };
    eventually("the agent answers", Duration::from_secs(5), || ask().is_ok());
    assert!(now() < end, "the agent took too long to answer");
    authority.issue(pair.root.path(), "ca1", now() + DAY);
    std::thread::sleep((end + Duration::from_secs(1)).saturating_sub(now()));
    ask().expect("an answer under the new certificate");
    let log = std::fs::read_to_string(folder.join("kea-ctrl-agent.log")).expect("a log");
    assert!(log.contains("TANDEM_CERTIFICATES_REPLACED"), "{log}");
}

/// Rule: ha-protocol 2.1, the third deployment. Everything a partner says arrives at the https control socket.
#[test]
fn without_a_dedicated_listener_partners_come_through_the_control_sockets() {
    let Some(files) = template("3.x") else { return };
    let changes = [
        ("\"socket-port\": 8001", "\"socket-port\": 8005"),
        ("\"http-dedicated-listener\": true", "\"http-dedicated-listener\": false"),
        (
            "\"control-sockets\": [ {",
            "\"control-sockets\": [ { \"socket-type\": \"unix\", \"socket-name\": \"kea4-ctrl-socket\" }, {",
        ),
    ];
    let mut pair = Pair::new(&files, [Kind::Tandem; 2], Version::V3, &[FAST, &changes[..]].concat());
    pair.start(0);
    pair.start(1);
    pair.wait_for_states(WHOLE, Duration::from_secs(30));
    let clients = pair.lan.host("clients", "cli0", &[]);
    let wire = Direct(clients.packet_socket("cli0", 100));
    let macs: Vec<[u8; 6]> = (0..16).map(|number| [2, 0x18, 0, 0, 0, number]).collect();
    assert_eq!(lease(&wire, &macs, &|_| Vec::new(), Duration::from_secs(30)).len(), macs.len());
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), macs.len());
    // The standby copies what it has missed through the same door.
    let killed = Instant::now();
    pair.kill(1);
    pair.start(1);
    eventually("the pair is whole again", Duration::from_secs(30), || {
        killed.elapsed() > Duration::from_secs(3)
            && [0, 1].map(|index| control::ha_state(&pair.socket(index))) == WHOLE
    });
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), macs.len());
}
