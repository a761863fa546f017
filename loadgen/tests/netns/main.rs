//! The whole program against whole servers over veth pairs, in namespaces that each test makes and removes.
//!
//! Needs root, iproute2 and the other servers (`tests/run` installs them), and Tandem's binary beside the
//! generator's (`cargo build --workspace`).

mod search;
mod servers;
mod site;
mod takeover;

use std::process::Command;

use serde_json::{Value, json};

use site::{GENERATOR, Kind, Site};

#[test]
fn neighbours_are_served_and_every_line_of_output_is_json() {
    let site = Site::new().with_server(Kind::Tandem);
    let (output, summary) =
        site.load(&["-l", "cli0", "-r", "200", "-p", "3", "-R", "200", "--warm-up", "0.5", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let counters = summary.counters;
    assert_eq!((counters.started, counters.completed, counters.acks), (600, 600, 600));
    // Exchanges of the warm-up may end in the measured time.
    assert!(counters.sent >= 1200 && counters.received >= 1200, "{counters:?}");
    assert!(summary.exchange.p50_us > 0.0 && summary.exchange.p50_us < 200_000.0);
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let types: Vec<&str> = lines.iter().filter_map(|line| line["type"].as_str()).collect();
    assert_eq!((types.first(), types.last()), (Some(&"prepared"), Some(&"summary")));
    let completed = |line: &Value| line["counters"]["completed"].as_u64().unwrap_or(0);
    let intervals = lines.iter().filter(|line| line["type"] == "interval");
    assert_eq!(intervals.map(completed).sum::<u64>(), 600);
    assert_eq!(lines.last().map(completed), Some(600));
    assert_eq!(lines.last().map(|line| line["version"].clone()), Some(json!(1)));
}

#[test]
fn leases_of_neighbours_are_extended_by_unicast() {
    let site = Site::new().with_server(Kind::Tandem);
    let arguments = ["-l", "cli0", "-r", "100", "-p", "1", "-R", "50", "--scenario", "renew"];
    let (output, summary) = site.load(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((summary.prepared, summary.counters.acks, summary.counters.offers), (50, 100, 0));
}

#[test]
fn clients_behind_a_relay_are_served_through_two_senders() {
    let site = Site::new().with_server(Kind::Tandem);
    let arguments = [
        "-r",
        "200",
        "-f",
        "80",
        "-F",
        "40",
        "-p",
        "2",
        "-R",
        "200",
        "--scenario",
        "mixed",
        "--identity",
        "circuit-id",
        "--senders",
        "2",
        "172.16.0.1",
    ];
    let (output, summary) = site.load(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let counters = summary.counters;
    assert_eq!((summary.prepared, counters.started, counters.completed), (200, 400, 400));
    assert!(counters.releases > 60 && counters.offers < 300, "{counters:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("scenario mixed") && text.contains("REQUEST-ACK"), "{text}");
    assert!(output.stderr.is_empty(), "quiet in a pipe: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_reflector_answers_every_exchange() {
    let site = Site::new().with_reflector();
    let (output, summary) = site.load(&["-r", "200", "-p", "1", "172.16.0.1"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(summary.counters.completed, 200);
}

#[test]
fn nobody_there_is_code_3_and_a_bad_command_line_code_2() {
    let site = Site::new();
    let (output, summary) = site.load(&["-l", "cli0", "-d", "0.2"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((summary.counters.started, summary.counters.offers_missing), (1, 1));
    for arguments in
        [&["-q"][..], &["-r", "0", "-l", "x"], &["-r", "5"], &["-6", "x"], &["-x", "z", "-l", "x"]]
    {
        let output = Command::new(GENERATOR).args(arguments).output().expect("the generator");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = Command::new(GENERATOR).args(["-l", "no-such-thing"]).output().expect("the generator");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}
