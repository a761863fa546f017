//! Every scenario that makes sense against one server, at four servers, as neighbours and behind a relay.

use crate::site::{Kind, SERVERS, Site};

const COMMON: [&str; 7] = ["-r", "60", "-n", "60", "--warm-up", "0", "--scenario"];

/// Scenario, further arguments, and what the counters must show: clients prepared, OFFERs, ACKs, releases.
type Case = (&'static str, &'static [&'static str], u64, u64, u64, u64);

/// The pools have 256 addresses.
#[rustfmt::skip]
const SCENARIOS: [Case; 8] = [
    ("dora",        &["-R", "100"],                                            0,   60,  60,  0),
    ("dora",        &["-R", "20", "--identity", "client-id", "-b", "mac=02:00:0c:00:10:00"], 0, 60, 60, 0),
    ("renew",       &["-R", "100", "--prepare-rate", "100"],                   100, 0,   60,  0),
    ("rebind",      &["-R", "100", "--prepare-rate", "100"],                   100, 0,   60,  0),
    ("init-reboot", &["-R", "100", "--prepare-rate", "100"],                   100, 0,   60,  0),
    ("mixed",       &["-R", "100", "--prepare-rate", "100", "-f", "30", "-F", "10"], 100, 20, 50, 10),
    ("near-full",   &["-R", "220", "--prepare-rate", "100", "--newcomers", "12"], 220, 60, 60, 60),
    ("avalanche",   &["-R", "100", "-p", "60"],                                            0,   100, 100, 0),
];

fn every_scenario(kind: Kind, attachment: &[&str]) {
    let site = Site::new().with_server(kind);
    for (scenario, more, prepared, offers, acks, releases) in SCENARIOS {
        let arguments = [&COMMON[..], &[scenario], more, attachment].concat();
        let (output, summary) = site.load(&arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let counters = summary.counters;
        let case = format!("{kind:?} {arguments:?}\n{text}");
        // dnsmasq holds no address for an OFFER: two clients that come at once, as in an avalanche, or that a busy
        // machine brings together, may be offered the same one, and the second is refused. In an avalanche it begins
        // anew.
        let refused = kind == Kind::Dnsmasq && offers > 0 && counters.naks > 0;
        let ended = if scenario == "avalanche" { 0 } else { counters.naks };
        assert_eq!(output.status.code(), Some(if refused { 3 } else { 0 }), "{case}");
        assert_eq!(counters.started, counters.completed + ended, "{case}");
        assert_eq!((summary.prepared, counters.duplicates), (prepared, 0), "{case}");
        assert!(refused || counters.naks == 0, "{case}");
        // Which of its clients a mixture meets depends on when the answers come.
        let close = |one: u64, other: u64| one.abs_diff(other) <= if scenario == "mixed" { 3 } else { 0 };
        assert!((refused || close(counters.offers, offers)) && close(counters.acks + ended, acks), "{case}");
        assert!(close(counters.releases + ended, releases), "{case}");
        let servers: Vec<String> = summary.servers.iter().map(|share| share.server.to_string()).collect();
        assert_eq!(servers, [SERVERS[0]], "{case}");
    }
}

#[test]
fn dhcpd_serves_every_scenario_to_neighbours() {
    every_scenario(Kind::Dhcpd, &["-l", "cli0"]);
}

#[test]
fn dhcpd_serves_every_scenario_behind_a_relay() {
    every_scenario(Kind::Dhcpd, &[SERVERS[0]]);
}

#[test]
fn dnsmasq_serves_every_scenario_to_neighbours() {
    every_scenario(Kind::Dnsmasq, &["-l", "cli0"]);
}

#[test]
fn dnsmasq_serves_every_scenario_behind_a_relay() {
    every_scenario(Kind::Dnsmasq, &[SERVERS[0]]);
}

#[test]
fn kea_serves_every_scenario_to_neighbours() {
    every_scenario(Kind::Kea, &["-l", "cli0"]);
}

#[test]
fn kea_serves_every_scenario_behind_a_relay() {
    every_scenario(Kind::Kea, &[SERVERS[0]]);
}

#[test]
fn tandem_serves_every_scenario_to_neighbours() {
    every_scenario(Kind::Tandem, &["-l", "cli0"]);
}

#[test]
fn tandem_serves_every_scenario_behind_a_relay() {
    every_scenario(Kind::Tandem, &[SERVERS[0]]);
}
