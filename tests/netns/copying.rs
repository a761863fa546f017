//! Copies of all leases between two Tandem servers: while clients are served, and after leases have gone.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::certificates::Version;
use crate::support::control;
use crate::support::dhcp::{Direct, Query, Wire, lease};
use crate::support::pair::{FAST, Pair, template};
use crate::support::process::eventually;
use crate::support::server::Kind;

const WHOLE: [&str; 2] = ["hot-standby", "hot-standby"];
const RELEASE: u8 = 7;
const HEADER: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,\
                      user_context,pool_id\n";

/// A row of the lease file.
fn row(number: u32) -> String {
    let [_, _, third, last] = number.to_be_bytes();
    let context = if number.is_multiple_of(100) { r#"{ "a": "\u00e9"&#x2c "b": 1 }"# } else { "" };
    format!(
        "192.168.{}.{last},02:fe:00:00:{third:02x}:{last:02x},,86400,4000000000,1,0,0,h{number},0,{context},0\n",
        100 + third
    )
}

fn pair(changes: &[(&str, &str)]) -> Option<Pair> {
    let files = template("2.x")?;
    let changes: Vec<(&str, &str)> = FAST.iter().chain(changes).copied().collect();
    Some(Pair::new(&files, [Kind::Tandem; 2], Version::V3, &changes))
}

/// Rule: `ha::copy`. Method: a primary with 20,000 leases serves clients all the time; a standby without any starts, copies
/// in pages of 500, and is killed and started again in the middle of it all. When the clients are gone both have the
/// same leases, field by field.
#[test]
fn a_standby_copies_from_a_primary_that_goes_on_serving() {
    let large = ("\"subnet\": \"192.168.1.0/24\"", "\"subnet\": \"192.168.0.0/16\"");
    let pages = ("\"heartbeat-delay\": 1000", "\"heartbeat-delay\": 1000, \"sync-page-limit\": 500");
    let Some(mut pair) = pair(&[large, pages]) else { return };
    let clients = pair.lan.host("clients", "cli0", &["192.168.1.90/24"]);
    let rows: String = (0..20_000).map(row).collect();
    let file = pair.members[0].folder.join("kea-leases4.csv");
    std::fs::write(&file, format!("{HEADER}{rows}")).expect("a lease file");
    pair.start(0);
    eventually("the primary alone", Duration::from_secs(40), || {
        control::ha_state(&pair.socket(0)) == "partner-down"
    });
    let mut load = Command::new("ip")
        .args(["netns", "exec", clients.name(), "perfdhcp", "-4", "-r", "300", "-R", "90", "-p", "60"])
        .args(["-l", "cli0", "192.168.1.2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("perfdhcp");
    let socket = pair.socket(0);
    let acks = || {
        let answer = control::command(&socket, "statistic-get", json!({ "name": "pkt4-ack-sent" }));
        answer["arguments"]["pkt4-ack-sent"][0][0].as_i64().unwrap_or_else(|| panic!("{answer}"))
    };
    eventually("leases", Duration::from_secs(30), || acks() > 100);
    pair.start(1);
    eventually("a page", Duration::from_secs(40), || pair.log(1).contains("received 500 leases"));
    pair.kill(1);
    pair.start(1);
    pair.wait_for_states(WHOLE, Duration::from_secs(40));
    let before = acks();
    eventually("service goes on", Duration::from_secs(30), || acks() > before + 100);
    load.kill().expect("kill");
    load.wait().expect("perfdhcp");
    assert!(pair.wait_for_equal_leases(Duration::from_secs(30)) > 20_000);
    let log = pair.log(1);
    assert!(log.contains("HA_SYNC_SUCCESSFUL"), "{log}");
    assert!(!pair.log(0).contains("TANDEM_HA_COPY_OUTDATED"), "{}", pair.log(0));
}

/// Rule: ha-protocol 6.10. Method: six clients lease, the standby is killed, two clients release, the standby comes back
/// with its old file: it copies, and does not bring the leases back.
fn released_while_the_standby_was_away(changes: &[(&str, &str)], left: usize) {
    let Some(mut pair) = pair(changes) else { return };
    pair.start(0);
    pair.start(1);
    pair.wait_for_states(WHOLE, Duration::from_secs(40));
    let clients = pair.lan.host("clients", "cli0", &[]);
    let wire = Direct(clients.packet_socket("cli0", 100));
    let macs: Vec<[u8; 6]> = (0..6).map(|number| [2, 7, 0, 0, 0, number]).collect();
    let leased = lease(&wire, &macs, &|_| Vec::new(), Duration::from_secs(40));
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), 6);
    pair.kill(1);
    eventually("the primary alone", Duration::from_secs(40), || {
        control::ha_state(&pair.socket(0)) == "partner-down"
    });
    for mac in &macs[..2] {
        let server = (54, vec![192, 168, 1, 2]);
        wire.send(&Query {
            message_type: RELEASE,
            xid: 7,
            mac: *mac,
            ciaddr: Some(leased[mac]),
            options: vec![server],
            ..Query::default()
        });
    }
    let held = |index: usize| {
        let leases = control::leases(&pair.socket(index));
        leases.iter().filter(|lease| lease["state"] == 0).count()
    };
    eventually("both are released", Duration::from_secs(30), || held(0) == 4);
    pair.start(1);
    pair.wait_for_states(WHOLE, Duration::from_secs(40));
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), left);
    let leases = control::leases(&pair.socket(1));
    for mac in &macs[..2] {
        let address = leased[mac].to_string();
        let still = leases.iter().find(|lease| lease["ip-address"] == address.as_str());
        assert!(still.is_none_or(|lease| lease["state"] == 3), "{address} is held again: {leases:?}");
    }
}

#[test]
fn a_release_during_the_partners_absence_stays_one_on_both() {
    released_while_the_standby_was_away(&[], 6);
}

#[test]
fn a_deletion_during_the_partners_absence_stays_one_on_both() {
    let at_once = ("\"hold-reclaimed-time\": 172800", "\"hold-reclaimed-time\": 0");
    released_while_the_standby_was_away(&[at_once], 4);
}
