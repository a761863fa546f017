//! What happens to a pair when its members are reloaded, stopped, paused by the partner, or of two minds about a subnet.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::certificates::Version;
use crate::support::control;
use crate::support::dhcp::{Direct, address_at, lease, lease_noting, options};
use crate::support::namespace::Namespace;
use crate::support::pair::{FAST, Pair, template};
use crate::support::process::eventually;
use crate::support::server::Kind;

const WHOLE: [&str; 2] = ["hot-standby", "hot-standby"];
/// Where the members are on the clients' LAN.
const SERVERS: [[u8; 4]; 2] = [[192, 168, 1, 2], [192, 168, 1, 3]];

/// A pair in its normal state, with clients that are packet sockets, or nothing where the template is missing.
fn whole_pair(kinds: [Kind; 2], changes: &[(&str, &str)]) -> Option<(Pair, Namespace, Direct)> {
    let files = template("2.x")?;
    let mut pair = Pair::new(&files, kinds, Version::V3, FAST);
    let config = pair.members[0].folder.join("kea-dhcp4.conf");
    edit(&config, changes);
    pair.start(0);
    pair.start(1);
    pair.wait_for_states(WHOLE, Duration::from_secs(40));
    let clients = pair.lan.host("clients", "cli0", &[]);
    let wire = Direct(clients.packet_socket("cli0", 100));
    Some((pair, clients, wire))
}

fn edit(config: &std::path::Path, changes: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(config).expect("a configuration");
    for (from, to) in changes {
        assert!(text.contains(from), "the configuration has no {from}");
        text = text.replace(from, to);
    }
    std::fs::write(config, text).expect("a configuration");
}

fn macs(family: u8, count: u8) -> Vec<[u8; 6]> {
    (0..count).map(|number| [2, family, 0, 0, 0, number]).collect()
}

/// The primary's connections to its partner's listener and its own listening socket, as `ss` names them.
fn connections(pair: &Pair) -> HashSet<String> {
    let out = Command::new("ip")
        .args([
            "netns",
            "exec",
            pair.members[0].host.name(),
            "ss",
            "-Htane",
            "dport = :8005 or sport = :8005",
        ])
        .output()
        .expect("ss");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let kept = text.lines().filter(|line| line.starts_with("ESTAB") || line.starts_with("LISTEN"));
    let inode = |line: &str| line.split_whitespace().find(|word| word.starts_with("ino:")).map(str::to_owned);
    kept.filter_map(|line| Some(format!("{} {}", line.split_whitespace().next()?, inode(line)?))).collect()
}

fn statistic(pair: &Pair, name: &str) -> i64 {
    let answer = control::command(&pair.socket(0), "statistic-get", json!({ "name": name }));
    answer["arguments"][name][0][0].as_i64().unwrap_or_else(|| panic!("no {name}: {answer}"))
}

/// Goal: a disk that is slow, and then full, while the note is made that the partner lacks leases, holds up nobody but the
/// clients, and the note is made later; a file system of certificates that hangs does not hold up the take-over at all.
/// Method: named pipes. One lies where the note is first written, so that opening it takes until somebody reads there,
/// and syncing it fails; a reload waits for somebody to write into the other.
#[test]
fn a_slow_disk_delays_the_take_over_and_no_command() {
    let Some((mut pair, _clients, wire)) = whole_pair([Kind::Tandem; 2], &[]) else { return };
    let folder = pair.members[0].folder.clone();
    let pipe = folder.join("kea-leases4.csv.tandem-behind-new");
    let anchor = folder.join("hangs.pem");
    assert!(Command::new("mkfifo").args([&pipe, &anchor]).status().expect("mkfifo").success());
    let real = pair.root.path().join("CA.pem").display().to_string();
    edit(&folder.join("kea-dhcp4.conf"), &[(&real, anchor.to_str().expect("a UTF-8 path"))]);
    pair.members[0].process.as_ref().expect("running").signal("HUP");
    pair.kill(1);
    eventually("the state is left", Duration::from_secs(30), || {
        control::ha_state(&pair.socket(0)) == "partner-down"
    });
    assert_eq!(lease(&wire, &macs(1, 1), &|_| Vec::new(), Duration::from_secs(2)).len(), 0, "not noted yet");
    let at_once = |options: &mut OpenOptions| options.custom_flags(libc::O_NONBLOCK).clone();
    let mut reader = at_once(OpenOptions::new().read(true)).open(&pipe).expect("a pipe");
    let mut written = Vec::new();
    eventually("a note", Duration::from_secs(30), || {
        // Nothing has come yet, or nobody writes yet.
        let _ = reader.read_to_end(&mut written);
        String::from_utf8_lossy(&written).contains("server2")
    });
    std::fs::remove_file(&pipe).expect("the pipe");
    drop(reader);
    assert_eq!(lease(&wire, &macs(2, 8), &|_| Vec::new(), Duration::from_secs(30)).len(), 8);
    eventually("the note", Duration::from_secs(30), || pair.log(0).contains("TANDEM_HA_BEHIND_KEPT"));
    assert_eq!(pair.log(0).matches("TANDEM_HA_BEHIND_NOT_KEPT").count(), 1);
    assert!(!pair.log(0).contains("TANDEM_HA_STOOD_STILL"));
    assert!(folder.join("kea-leases4.csv.tandem-behind").exists());
    drop(at_once(OpenOptions::new().write(true)).open(&anchor).expect("a pipe that the reload reads"));
    pair.start(1);
    pair.wait_for_states(WHOLE, Duration::from_secs(40));
    assert!(!folder.join("kea-leases4.csv.tandem-behind").exists());
}

/// Rule: ha-protocol 4.12. Method: SIGHUP with an unchanged block and another subnet parameter, then with other timers;
/// the partner must notice nothing, and sockets, counters and state stay.
#[test]
fn a_reload_keeps_the_pair_its_connections_and_its_counters() {
    let Some((pair, _clients, wire)) = whole_pair([Kind::Tandem; 2], &[]) else { return };
    assert_eq!(lease(&wire, &macs(1, 8), &|_| Vec::new(), Duration::from_secs(40)).len(), 8);
    let (sockets, acks) = (connections(&pair), statistic(&pair, "pkt4-ack-sent"));
    assert!(sockets.iter().any(|socket| socket.starts_with("LISTEN")), "{sockets:?}");
    assert!(sockets.iter().any(|socket| socket.starts_with("ESTAB")), "{sockets:?}");
    let logged = [pair.log(0).len(), pair.log(1).len()];
    let news = |index: usize| pair.log(index)[logged[index]..].to_owned();

    let config = pair.members[0].folder.join("kea-dhcp4.conf");
    let reload = || {
        let before = news(0).matches("DHCP4_DYNAMIC_RECONFIGURATION_SUCCESS").count();
        pair.members[0].process.as_ref().expect("running").signal("HUP");
        eventually("the reload", Duration::from_secs(30), || {
            news(0).matches("DHCP4_DYNAMIC_RECONFIGURATION_SUCCESS").count() > before
        });
    };
    edit(&config, &[("\"valid-lifetime\": 43200", "\"valid-lifetime\": 50000")]);
    reload();
    assert!(!news(0).contains("TANDEM_HA_RECONFIGURED"), "the block did not change");
    edit(&config, &[("\"heartbeat-delay\": 1000", "\"heartbeat-delay\": 700")]);
    reload();
    assert!(news(0).contains("TANDEM_HA_RECONFIGURED"), "{}", news(0));
    std::thread::sleep(Duration::from_secs(3));

    assert_eq!(lease(&wire, &macs(2, 8), &|_| Vec::new(), Duration::from_secs(40)).len(), 8);
    for index in [0, 1] {
        assert_eq!(control::ha_state(&pair.socket(index)), "hot-standby");
        assert!(!news(index).contains("HA_STATE_TRANSITION"), "{}", news(index));
        assert!(!news(index).contains("FAILED"), "{}", news(index));
    }
    let after = connections(&pair);
    assert!(after.is_superset(&sockets), "before {sockets:?}, after {after:?}");
    assert_eq!(statistic(&pair, "pkt4-ack-sent"), acks + 8);
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), 16);
}

/// Rule: ha-protocol 5.11. Method: under load, again and again the service is switched off and the leases are listed at
/// once and a little later: nothing may have come in between.
#[test]
fn no_lease_changes_once_dhcp_disable_is_answered() {
    let Some((pair, clients, _wire)) = whole_pair([Kind::Tandem; 2], &[]) else { return };
    clients.ip(&["address", "add", "192.168.1.90/24", "dev", "cli0"]);
    let mut load = Command::new("ip")
        .args(["netns", "exec", clients.name(), "perfdhcp", "-4", "-r", "200", "-R", "90", "-p", "60"])
        .args(["-l", "cli0", "192.168.1.2"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("perfdhcp");
    let socket = pair.socket(0);
    eventually("leases", Duration::from_secs(30), || control::leases(&socket).len() > 20);
    for round in 0..15 {
        let off = control::command(&socket, "dhcp-disable", json!({ "max-period": 20 }));
        assert_eq!(off["result"], 0, "{off}");
        let (at_once, acks) = (control::leases(&socket), statistic(&pair, "pkt4-ack-sent"));
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(control::leases(&socket), at_once, "round {round}");
        assert_eq!(statistic(&pair, "pkt4-ack-sent"), acks, "round {round}: an ACK after the answer");
        let on = control::command(&socket, "dhcp-enable", Value::Null);
        assert_eq!(on["result"], 0, "{on}");
        eventually("service again", Duration::from_secs(30), || statistic(&pair, "pkt4-ack-sent") > acks);
    }
    load.kill().expect("kill");
    load.wait().expect("perfdhcp");
}

/// Rule: ha-protocol 8 no. 5. Method: the partner is a Kea 2.2 that does not know the subnet's number and answers every
/// update with result 1: its clients get nothing, and nobody leaves the normal state over it.
#[test]
fn a_kea_that_refuses_a_subnet_stays_the_partner() {
    let numbered = ("\"subnet\": \"192.168.1.0/24\"", "\"id\": 7, \"subnet\": \"192.168.1.0/24\"");
    let Some((pair, _clients, wire)) = whole_pair([Kind::Tandem, Kind::Kea], &[numbered]) else { return };
    let logged = [pair.log(0).len(), pair.log(1).len()];
    let leased = lease(&wire, &macs(1, 24), &|_| Vec::new(), Duration::from_secs(8));
    assert_eq!(leased.len(), 0, "acknowledged although the partner refused");
    let news = [0, 1].map(|index| pair.log(index)[logged[index]..].to_owned());
    assert_eq!([0, 1].map(|index| control::ha_state(&pair.socket(index))), WHOLE);
    for news in &news {
        assert!(!news.contains("HA_STATE_TRANSITION"), "{news}");
        assert!(!news.contains("COMMUNICATIONS_FAILED"), "{news}");
    }
    let said = news[0].lines().filter(|line| line.contains("HA_LEASE_UPDATE_FAILED")).collect::<Vec<_>>();
    // One for each sender, and no more within ten seconds.
    assert!((1..=4).contains(&said.len()) && said[0].contains("subnet"), "{said:?}");
}

/// Method: either member gets SIGTERM while clients lease: it ends with 0 and soon, every acknowledged lease is in both
/// stores, and the other one says once that its partner is gone.
#[test]
fn a_member_that_is_stopped_loses_nothing_and_is_missed_once() {
    for stopped in [1, 0] {
        let Some((mut pair, _clients, wire)) = whole_pair([Kind::Tandem; 2], &[]) else { return };
        let other = 1 - stopped;
        let logged = pair.log(other).len();
        let mut acked = Vec::new();
        let mut note = |ack: &[u8]| {
            let server = options(ack).into_iter().find(|(code, _)| *code == 54).expect("option 54").1;
            acked.push((address_at(ack, 16), server == SERVERS[stopped], Instant::now()));
        };
        let signalled = std::thread::scope(|scope| {
            let patience = Duration::from_millis(2500);
            let (wire, note) = (&wire, &mut note);
            let leasing =
                scope.spawn(move || lease_noting(wire, &macs(1, 90), &|_| Vec::new(), patience, note));
            std::thread::sleep(Duration::from_millis(150));
            let start = Instant::now();
            let mut process = pair.members[stopped].process.take().expect("running");
            process.signal("TERM");
            assert_eq!(process.wait(Duration::from_secs(30)).code(), Some(0));
            assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
            leasing.join().expect("clients");
            start
        });
        let file =
            std::fs::read_to_string(pair.members[stopped].folder.join("kea-leases4.csv")).expect("leases");
        let in_file: HashSet<&str> = file.lines().filter_map(|row| row.split(',').next()).collect();
        let listed = control::leases(&pair.socket(other));
        let in_list: HashSet<&str> = listed.iter().filter_map(|lease| lease["ip-address"].as_str()).collect();
        assert!(acked.iter().any(|(_, _, at)| *at < signalled), "nobody was served before");
        for (address, by_stopped, at) in acked {
            let text = address.to_string();
            assert!(in_list.contains(text.as_str()), "{address} is not at the one that stays");
            // What the other one acknowledged alone afterwards cannot be there.
            let is_in_both = at < signalled || by_stopped;
            assert!(
                !is_in_both || in_file.contains(text.as_str()),
                "{address} is not in the file of who went"
            );
        }
        let news = pair.log(other)[logged..].to_owned();
        let missed = news.lines().filter(|line| line.contains("HA_HEARTBEAT_COMMUNICATIONS_FAILED")).count();
        assert!(missed <= 1, "{news}");
        assert!(!news.contains(" ERROR "), "{news}");
        pair.start(stopped);
        pair.wait_for_states(WHOLE, Duration::from_secs(40));
        pair.wait_for_equal_leases(Duration::from_secs(30));
    }
}
