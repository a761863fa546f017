//! Four shards: the kernel spreads the clients, nothing is forwarded that need not be, and the last address of a pool is
//! found wherever it lies.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::control;
use crate::support::dhcp::{DISCOVER, Direct, Query, Wire, lease};
use crate::support::namespace::{Namespace, join};
use crate::support::process::{Process, eventually};
use crate::support::ready::start_ready;
use crate::support::relay::Relay;
use crate::support::server::Kind;

const SHARDS: usize = 4;

/// A server on one end of a link and everything else on the other.
struct Site {
    folder: tempfile::TempDir,
    _process: Process,
    clients: Namespace,
    _server: Namespace,
}

impl Site {
    fn new(socket_type: &str, pool: &str) -> Self {
        let (server, clients) = (Namespace::new("server"), Namespace::new("clients"));
        join((&server, "srv0", &["172.16.0.1/16"]), (&clients, "cli0", &["172.16.0.2/16"]));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let text = json!({ "Dhcp4": {
            "interfaces-config": { "interfaces": ["srv0"], "dhcp-socket-type": socket_type },
            "lease-database": { "type": "memfile", "name": path("kea-leases4.csv"), "lfc-interval": 0 },
            "control-socket": { "socket-type": "unix", "socket-name": path("control") },
            "multi-threading": {
                "enable-multi-threading": true, "thread-pool-size": SHARDS, "packet-queue-size": 64 },
            "valid-lifetime": 3600, "cache-threshold": 0.0,
            "subnet4": [ { "id": 1, "subnet": "172.16.0.0/16", "interface": "srv0", "pools": [ { "pool": pool } ] } ],
        } });
        let config = folder.path().join("kea-dhcp4.conf");
        std::fs::write(&config, text.to_string()).expect("a configuration");
        let process = start_ready(Kind::Tandem, &server, &config, folder.path());
        Self { folder, _process: process, clients, _server: server }
    }

    fn direct(&self) -> Direct {
        Direct(self.clients.packet_socket("cli0", 100))
    }

    fn relay(&self) -> Relay {
        let giaddr = Ipv4Addr::new(172, 16, 0, 2);
        let socket = self.clients.enter(|| std::net::UdpSocket::bind((giaddr, 67)).expect("port 67"));
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        Relay { socket, giaddr, server: Ipv4Addr::new(172, 16, 0, 1) }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// The newest sample of a statistic.
    fn statistic(&self, name: &str) -> u64 {
        let answer = control::command(&self.socket(), "statistic-get-all", Value::Null);
        let sample = &answer["arguments"][name][0][0];
        sample.as_u64().unwrap_or_else(|| panic!("no statistic {name}: {answer}"))
    }
}

fn macs(family: u8, count: usize) -> Vec<[u8; 6]> {
    (0..count as u16).map(|number| [0x02, family, 0, 0, (number >> 8) as u8, number as u8]).collect()
}

fn none(_: [u8; 6]) -> Vec<(u8, Vec<u8>)> {
    Vec::new()
}

/// 1,000 ordinary clients: all leased, nothing forwarded, each shard took 20 to 30 %.
fn a_thousand_spread(socket_type: &str, wire: impl Fn(&Site) -> Box<dyn Wire>) {
    let site = Site::new(socket_type, "172.16.1.0-172.16.16.255");
    let leased = lease(&*wire(&site), &macs(1, 1000), &none, Duration::from_secs(60));
    assert_eq!(leased.len(), 1000);
    let different: HashSet<_> = leased.values().collect();
    assert_eq!(different.len(), 1000, "an address was given twice");
    for reason in ["home", "owner", "spill", "not-yours"] {
        assert_eq!(site.statistic(&format!("tandem-forward-{reason}")), 0, "forwarded: {reason}");
    }
    let received: Vec<u64> =
        (0..SHARDS).map(|shard| site.statistic(&format!("tandem-shard[{shard}].pkt4-received"))).collect();
    let total: u64 = received.iter().sum();
    assert_eq!(total, site.statistic("pkt4-received"));
    for share in &received {
        assert!((total / 5..=total * 3 / 10).contains(share), "uneven: {received:?}");
    }
}

#[test]
fn a_thousand_direct_clients_are_spread_by_the_kernel_in_raw_mode() {
    a_thousand_spread("raw", |site| Box::new(site.direct()));
}

#[test]
fn a_thousand_clients_behind_one_relay_are_spread_by_the_kernel_in_raw_mode() {
    a_thousand_spread("raw", |site| Box::new(site.relay()));
}

#[test]
fn a_thousand_clients_behind_one_relay_are_spread_by_the_kernel_in_udp_mode() {
    a_thousand_spread("udp", |site| Box::new(site.relay()));
}

#[test]
fn a_thousand_broadcasting_clients_are_spread_by_the_kernel_in_udp_mode() {
    a_thousand_spread("udp", |site| Box::new(site.direct()));
}

#[test]
fn a_pool_of_100_serves_exactly_100_clients_20_times_out_of_20() {
    for round in 0..20 {
        let site = Site::new("raw", "172.16.1.100-172.16.1.199");
        let wire = site.direct();
        let leased = lease(&wire, &macs(round, 100), &none, Duration::from_secs(30));
        let different: HashSet<_> = leased.values().collect();
        assert_eq!((leased.len(), different.len()), (100, 100), "round {round}");
        let more = lease(&wire, &[[0x02, 0xee, 0, 0, 0, round]], &none, Duration::from_millis(900));
        assert!(more.is_empty(), "round {round}: the 101st client got {more:?}");
    }
}

#[test]
fn clients_whose_identifier_is_not_their_hardware_address_keep_their_lease_on_any_card() {
    let site = Site::new("raw", "172.16.1.0-172.16.4.255");
    let wire = site.direct();
    // RFC 4361: type 255, IAID, DUID; the same identifier on two cards is one client.
    let duid = |mac: [u8; 6]| {
        vec![(61, [&[0xff, 0, 0, 0, 1, 0, 3, 0, 1][..], &[2, 9, 9, 9, mac[4], mac[5]]].concat())]
    };
    let first = lease(&wire, &macs(1, 200), &duid, Duration::from_secs(30));
    assert_eq!(first.len(), 200);
    let second = lease(&wire, &macs(2, 200), &duid, Duration::from_secs(30));
    for (mac, address) in &second {
        let twin = [0x02, 1, 0, 0, mac[4], mac[5]];
        assert_eq!(Some(address), first.get(&twin), "another card, another address");
    }
    assert_eq!(second.len(), 200);
}

#[test]
fn clients_that_ask_for_addresses_of_other_shards_get_them() {
    let site = Site::new("raw", "172.16.1.0-172.16.4.255");
    let wire = site.direct();
    let wish = |mac: [u8; 6]| vec![(50, vec![172, 16, 1 + mac[4], mac[5]])];
    let leased = lease(&wire, &macs(3, 400), &wish, Duration::from_secs(40));
    assert_eq!(leased.len(), 400);
    for (mac, address) in &leased {
        assert_eq!(*address, Ipv4Addr::new(172, 16, 1 + mac[4], mac[5]), "a free address that was asked for");
    }
    assert!(site.statistic("tandem-forward-owner") > 0, "this test is about forwards");
}

#[test]
fn a_burst_that_fits_the_sockets_is_answered_whole_however_small_the_queue() {
    for socket_type in ["raw", "udp"] {
        // 400 DISCOVERs back to back, while the queue of 64 is 16 for each of the four shards.
        let site = Site::new(socket_type, "172.16.1.0-172.16.4.255");
        let wire = site.direct();
        let clients = macs(4, 400);
        for (number, mac) in (0..).zip(&clients) {
            let query = Query { message_type: DISCOVER, xid: number, mac: *mac, ..Query::default() };
            wire.send(&query);
        }
        eventually("every DISCOVER is answered", Duration::from_secs(3), || {
            site.statistic("pkt4-offer-sent") == 400
        });
        assert_eq!(site.statistic("pkt4-receive-drop"), 0, "{socket_type}");
    }
}
