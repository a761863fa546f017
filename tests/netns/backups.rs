//! Backup servers: a primary that serves alone, and one that only keeps what it is told (ha-protocol 4.1, 5.2).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::certificates::Version;
use crate::support::control;
use crate::support::dhcp::{Direct, lease};
use crate::support::pair::{FAST, Pair, template};
use crate::support::process::eventually;
use crate::support::server::Kind;

fn macs(family: u8) -> Vec<[u8; 6]> {
    (0..8).map(|number| [2, family, 0, 0, 0, number]).collect()
}

/// What the primary says of its backup: whether it needs a copy, and how many updates it has missed.
fn standing(pair: &Pair) -> (bool, u64) {
    let answer = control::command(&pair.socket(0), "status-get", Value::Null);
    let backup = &answer["arguments"]["high-availability"][0]["tandem-backups"][0];
    let lost = backup["updates-lost"].as_u64();
    (backup["needs-copy"] == true, lost.unwrap_or_else(|| panic!("no backup: {answer}")))
}

/// Method: leases with the backup there, while it is gone, and after it is back, which it then copies by hand.
#[test]
fn a_backup_keeps_every_lease_and_its_absence_delays_nobody() {
    let Some(files) = template("2.x") else { return };
    let changes = [
        ("\"mode\": \"hot-standby\"", "\"mode\": \"passive-backup\""),
        ("\"role\": \"standby\"", "\"role\": \"backup\""),
    ];
    let mut pair = Pair::new(&files, [Kind::Tandem; 2], Version::V3, &[FAST, &changes[..]].concat());
    pair.start(0);
    pair.start(1);
    pair.wait_for_states(["passive-backup", "backup"], Duration::from_secs(30));
    let clients = pair.lan.host("clients", "cli0", &[]);
    let wire = Direct(clients.packet_socket("cli0", 100));
    let leased = |family: u8| {
        let started = Instant::now();
        let leased = lease(&wire, &macs(family), &|_| Vec::new(), Duration::from_secs(30)).len();
        (leased, started.elapsed() < Duration::from_secs(5))
    };
    assert_eq!(leased(0x21), (8, true));
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), 8);
    assert_eq!(standing(&pair), (false, 0));
    pair.kill(1);
    assert_eq!(leased(0x22), (8, true), "nobody waits for a backup");
    eventually("the primary knows what its backup lacks", Duration::from_secs(30), || {
        standing(&pair) == (true, 8)
    });
    pair.start(1);
    pair.wait_for_states(["passive-backup", "backup"], Duration::from_secs(30));
    // A backup that could not be reached is left alone for a second.
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(leased(0x23), (8, true));
    eventually("updates reach the backup again", Duration::from_secs(30), || {
        control::leases(&pair.socket(1)).len() == 16
    });
    assert!(standing(&pair).0, "what it missed it still lacks");
    pair.kill(0);
    pair.start(0);
    pair.wait_for_states(["passive-backup", "backup"], Duration::from_secs(30));
    assert_eq!(standing(&pair), (true, 0), "and no restart of the primary makes it whole");
    let answer = control::command(&pair.socket(1), "ha-sync", json!({ "server-name": "server1" }));
    assert_eq!(answer["result"], 0, "{answer}");
    assert_eq!(pair.wait_for_equal_leases(Duration::from_secs(30)), 24);
    assert_eq!(standing(&pair), (false, 0));
}
