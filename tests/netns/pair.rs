//! Two hosts, one lease database: the template's pair under the loss of its primary, and with a real Kea as partner.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::certificates::Version;
use crate::support::client::{ALL, Client, Kind as ClientKind};
use crate::support::control;
use crate::support::https;
use crate::support::namespace::Namespace;
use crate::support::pair::{FAST, Pair, template};
use crate::support::process::eventually;
use crate::support::server::Kind;

/// Clients so far, over all tests of the process.
static CLIENTS: AtomicU32 = AtomicU32::new(0);

const WHOLE: [&str; 2] = ["hot-standby", "hot-standby"];

/// A client, where it runs and the address it leased.
struct Leased {
    client: Client,
    host: Namespace,
    interface: String,
    address: String,
}

/// Starts `count` clients of all kinds in turn and waits until each is bound.
fn lease_all(pair: &mut Pair, count: usize) -> Vec<Leased> {
    let started: Vec<_> = (0..count)
        .map(|number| {
            let kind = ALL[number % ALL.len()];
            // dhcpcd keeps one instance per interface name on the whole machine.
            let interface =
                format!("p{}c{}", std::process::id() % 100_000, CLIENTS.fetch_add(1, Ordering::Relaxed));
            let host = pair.lan.host("client", &interface, &[]);
            let folder = pair.root.path().join(&interface);
            (Client::start(kind, &host, &interface, &folder, &[]), host, interface)
        })
        .collect();
    let bind = |(mut client, host, interface): (Client, Namespace, String)| {
        let address = client.bound(Duration::from_secs(60));
        Leased { client, host, interface, address }
    };
    started.into_iter().map(bind).collect()
}

/// Power-cycles every client and waits until each has an address again; returns the new addresses. dhcpcd doubles its
/// pauses without an end, so one that came up in the first minute would ask again only after the second: it comes up
/// `dhcpcd_after` the others.
fn reboot_all(pair: &Pair, leased: Vec<Leased>, dhcpcd_after: Duration, patience: Duration) -> Vec<String> {
    let start = Instant::now();
    let mut restarted: Vec<Option<(Client, Namespace)>> = leased.iter().map(|_| None).collect();
    let mut waiting = Vec::new();
    for (number, Leased { client, host, interface, .. }) in leased.into_iter().enumerate() {
        client.kill();
        host.ip(&["-4", "address", "flush", "dev", &interface]);
        waiting.push((number, host, interface));
    }
    // Those that come up at once first.
    waiting.sort_by_key(|(number, ..)| ALL[number % ALL.len()] == ClientKind::Dhcpcd);
    for (number, host, interface) in waiting {
        let kind = ALL[number % ALL.len()];
        if kind == ClientKind::Dhcpcd {
            std::thread::sleep(dhcpcd_after.saturating_sub(start.elapsed()));
        }
        let folder = pair.root.path().join(&interface);
        restarted[number] = Some((Client::start(kind, &host, &interface, &folder, &[]), host));
    }
    let bound = |restarted: Option<(Client, Namespace)>| {
        let (mut client, _host) = restarted.expect("every client was started again");
        client.wait_for(&["BOUND", "REBOOT"], 2, patience.saturating_sub(start.elapsed()))
    };
    restarted.into_iter().map(bound).collect()
}

/// Goal: the main promise, with the template's timers as they are. Method: eight real clients lease, the primary
/// gets SIGKILL, the clients reboot at the standby to the same addresses within 90 s, the primary returns, both lists are
/// equal field by field.
#[test]
fn the_templates_pair_survives_the_loss_of_its_primary() {
    let Some(files) = template("2.x") else { return };
    let mut pair = Pair::new(&files, [Kind::Tandem, Kind::Tandem], Version::V3, &[]);
    pair.start(0);
    pair.start(1);
    pair.wait_for_states(WHOLE, Duration::from_secs(60));
    let leased = lease_all(&mut pair, 8);
    let before: Vec<String> = leased.iter().map(|client| client.address.clone()).collect();
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), 8);

    pair.kill(0);
    let killed = Instant::now();
    let after = reboot_all(&pair, leased, Duration::from_secs(50), Duration::from_secs(90));
    assert!(killed.elapsed() < Duration::from_secs(90), "{:?}", killed.elapsed());
    assert_eq!(after, before, "clients got other addresses at the standby");
    assert_eq!(control::ha_state(&pair.socket(1)), "partner-down");

    pair.start(0);
    pair.wait_for_states(WHOLE, Duration::from_secs(60));
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), 8);
}

/// Goal: the 3.x files as they are, but for paths, make a whole pair. Method: there is no unix socket in them, so states
/// and leases are asked for over each server's own HTTPS socket.
#[test]
fn the_3_x_templates_pair_becomes_whole_and_shares_its_leases() {
    let Some(files) = template("3.x") else { return };
    let mut pair = Pair::new(&files, [Kind::Tandem, Kind::Tandem], Version::V3, &[]);
    let operator = pair.lan.host("operator", "op0", &["192.168.1.9/24"]);
    pair.start(0);
    pair.start(1);
    let folder = pair.root.path().to_owned();
    let ask = |server: usize, command: &str| {
        let url = format!("https://192.168.1.{}:8001/", server + 2);
        let answer = https::post(&operator, &folder, Some("operator"), &url, &json!({ "command": command }));
        answer.map_or(Value::Null, |answer| answer[0].clone())
    };
    let state = |server: usize| {
        let status = ask(server, "status-get");
        let local = "/arguments/high-availability/0/ha-servers/local/state";
        status.pointer(local).and_then(Value::as_str).map(str::to_owned)
    };
    let whole = || [0, 1].map(state).iter().all(|state| state.as_deref() == Some("hot-standby"));
    eventually("hot-standby on both", Duration::from_secs(60), whole);

    let leased = lease_all(&mut pair, 3);
    let leases = |server: usize| ask(server, "lease4-get-all")["arguments"]["leases"].clone();
    eventually("equal leases on both", Duration::from_secs(30), || {
        leases(0).as_array().is_some_and(|list| list.len() == leased.len()) && leases(0) == leases(1)
    });
}

/// Goal: a real Kea 2.2 is a partner, in either role. Method: lease through the primary and compare the stores, kill the
/// primary, lease through the standby, bring the primary back and compare again.
fn with_kea(kinds: [Kind; 2], version: Version) {
    let Some(files) = template("2.x") else { return };
    let mut pair = Pair::new(&files, kinds, version, FAST);
    pair.start(0);
    pair.start(1);
    pair.wait_for_states(WHOLE, Duration::from_secs(40));
    let leased = lease_all(&mut pair, 4);
    let before: Vec<String> = leased.iter().map(|client| client.address.clone()).collect();
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), 4);

    pair.kill(0);
    let after = reboot_all(&pair, leased, Duration::ZERO, Duration::from_secs(60));
    assert_eq!(after, before, "clients got other addresses at the standby");

    pair.start(0);
    pair.wait_for_states(WHOLE, Duration::from_secs(40));
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), 4);
}

#[test]
fn tandem_as_primary_of_a_kea() {
    with_kea([Kind::Tandem, Kind::Kea], Version::V3);
}

#[test]
fn tandem_as_standby_of_a_kea_with_version_1_certificates() {
    with_kea([Kind::Kea, Kind::Tandem], Version::V1);
}

#[test]
fn a_release_reaches_a_kea_2_2_as_a_deletion() {
    let Some(files) = template("2.x") else { return };
    let mut pair = Pair::new(&files, [Kind::Tandem, Kind::Kea], Version::V3, FAST);
    pair.start(0);
    pair.start(1);
    pair.wait_for_states(WHOLE, Duration::from_secs(40));
    let mut leased = lease_all(&mut pair, 3);
    let Leased { client, host, address, .. } = leased.remove(0);
    client.release(&host);
    eventually("Kea has deleted the lease", Duration::from_secs(30), || {
        let leases = control::leases(&pair.socket(1));
        leases.len() == 2 && leases.iter().all(|lease| lease["ip-address"] != address.as_str())
    });
    assert_eq!(control::ha_state(&pair.socket(0)), "hot-standby");
}
