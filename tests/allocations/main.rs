//! The packet path does not allocate: known clients go through DISCOVER, REQUEST and renewals at one engine, and the
//! allocator counts.
//!
//! The bound is not zero: the timers and the pages of the lease table are B-trees, which make and free a node once in a
//! while as leases move through them. Anything that is done per datagram is far above it.

mod sys;

use std::net::Ipv4Addr;
use std::sync::Arc;

use shards::journal::Columns;
use shards::{Actions, DatagramMeta, Engine as _, Now, Topology};
use tandem::engine::event::Event;
use tandem::engine::message::Message;
use tandem::engine::rules::{self, Rules, Steering};
use tandem::engine::{Engine, EngineStart};
use tandem::ha::view::{HaView, UpdateMode};
use tandem::policy::{Host, HostInterface, Snapshot, compile};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENTS: u32 = 2000;
/// Datagrams between two looks at the disk, as a driver under load has them.
const BATCH: usize = 64;
/// Rounds of all clients until every table has the size it will have.
const WARM_ROUNDS: u64 = 4;
const ROUNDS: u64 = 10;

const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;

/// What the clients identify themselves with, beside the hardware address.
#[derive(Clone, Copy, Debug)]
enum Extras {
    Nothing,
    /// A client identifier of RFC 4361, a host name and a parameter request list.
    Usual,
}

fn snapshot() -> Snapshot {
    let text = r#"{ "Dhcp4": {
        "interfaces-config": { "interfaces": [ "eth0" ] },
        "valid-lifetime": 3600, "cache-threshold": 0.0,
        "option-data": [
            { "name": "domain-name-servers", "data": "10.0.0.53, 10.0.1.53" },
            { "name": "domain-name", "data": "example.org" } ],
        "subnet4": [ { "id": 1, "subnet": "10.0.0.0/8", "interface": "eth0",
                       "option-data": [ { "name": "routers", "data": "10.0.0.1" } ],
                       "pools": [ { "pool": "10.1.0.0 - 10.1.255.255" } ] } ] } }"#;
    let tree = serde_json::from_str(text).expect("JSON");
    let document = config::dhcp4_from_json(&tree, "<test>").expect("a configuration").document;
    let interfaces = [HostInterface {
        ifindex: 2,
        name: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        addresses: vec![SERVER],
        up: true,
        loopback: false,
    }];
    compile(&document, &Host::new(&interfaces, 1)).expect("a snapshot").snapshot
}

struct Site {
    engine: Engine,
    actions: Actions<Message, Event>,
    now: Now,
    batch: u64,
    replies: usize,
    /// Address of each client, from the last reply to it.
    addresses: Vec<Ipv4Addr>,
}

impl Site {
    fn new() -> Self {
        let topology = Topology { shards: 1, listeners: 0, senders: 0 };
        let steering = Steering::new(7, 1);
        let now = Now { monotonic_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
        let rules = Arc::new(Rules::at_start(Arc::new(snapshot()), &steering, 7, &[]));
        let view = Arc::new(HaView { service_on: true, updates: UpdateMode::Off, ..HaView::default() });
        let leases = rules::split(Vec::new(), &rules.owners, &steering).remove(0);
        let columns = Columns::Twelve;
        let start = EngineStart { shard: 0, topology, steering, rules, view, columns, leases };
        let addresses = vec![Ipv4Addr::UNSPECIFIED; CLIENTS as usize];
        let (engine, actions) = (Engine::new(now, start), Actions::new(topology.nodes()));
        Self { engine, actions, now, batch: 0, replies: 0, addresses }
    }

    /// Every client says `kind` once; how often memory was asked for.
    fn round(&mut self, kind: u8, renews: bool, extras: Extras) -> u64 {
        let queries: Vec<Vec<u8>> =
            (0..CLIENTS).map(|number| self.query(number, kind, renews, extras)).collect();
        let mut allocations = 0;
        for batch in queries.chunks(BATCH) {
            // Leases of one batch differ in time from those of the next.
            self.now.monotonic_ns += 40_000_000;
            self.now.wall_ms += 40;
            allocations += sys::count(|| self.serve(batch, renews));
            self.read_replies();
        }
        allocations
    }

    /// What a driver does with a batch: decide, write, tell that it is written, send.
    fn serve(&mut self, batch: &[Vec<u8>], unicast: bool) {
        let Self { engine, actions, now, .. } = self;
        actions.clear();
        actions.state_credit.fill(4096);
        actions.datagram_credit.fill(1024);
        let meta = DatagramMeta {
            socket: 0,
            ifindex: 2,
            source: Ipv4Addr::UNSPECIFIED,
            source_port: 68,
            destination: if unicast { SERVER } else { Ipv4Addr::BROADCAST },
            socket_address: SERVER,
            source_mac: None,
        };
        engine.set_journal_waiting(0);
        if engine.next_timeout().is_some_and(|due| due <= now.monotonic_ns) {
            engine.handle_timeout(*now, actions);
        }
        for bytes in batch {
            engine.handle_datagram(*now, &meta, bytes, actions);
        }
        if !actions.rows.is_empty() {
            self.batch += 1;
            engine.handle_persisted(*now, self.batch, actions);
        }
    }

    fn read_replies(&mut self) {
        for transmit in &self.actions.transmit {
            let reply = &self.actions.bytes[transmit.payload.clone()];
            let xid = u32::from_be_bytes([reply[4], reply[5], reply[6], reply[7]]);
            self.addresses[xid as usize] = Ipv4Addr::new(reply[16], reply[17], reply[18], reply[19]);
            self.replies += 1;
        }
    }

    fn query(&self, number: u32, kind: u8, renews: bool, extras: Extras) -> Vec<u8> {
        let address = self.addresses[number as usize].octets();
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(number.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(if renews { address } else { [0; 4] });
        bytes.resize(28, 0);
        bytes.extend([2, 0xc0]);
        bytes.extend(number.to_be_bytes());
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99, 53, 1, kind]);
        if let Extras::Usual = extras {
            bytes.extend([61, 13, 255, 0, 0, 0, 1, 0, 3, 0, 1]);
            bytes.extend(number.to_be_bytes());
            bytes.extend([12, 9]);
            bytes.extend(format!("host{number:05}").bytes());
            bytes.extend([55, 6, 1, 3, 6, 15, 28, 51]);
        }
        if kind == REQUEST && !renews {
            bytes.extend([50, 4]);
            bytes.extend(address);
            bytes.extend([54, 4]);
            bytes.extend(SERVER.octets());
        }
        bytes.push(255);
        bytes
    }
}

/// Allocations per datagram, in thousandths, once every client is known.
fn per_thousand(extras: Extras) -> u64 {
    let mut site = Site::new();
    let mut allocations = 0;
    let cycle = |site: &mut Site| {
        let discovers = site.round(DISCOVER, false, extras);
        let requests = site.round(REQUEST, false, extras);
        discovers + requests + site.round(REQUEST, true, extras)
    };
    for _ in 0..WARM_ROUNDS {
        cycle(&mut site);
    }
    site.replies = 0;
    for _ in 0..ROUNDS {
        allocations += cycle(&mut site);
    }
    let datagrams = ROUNDS * 3 * u64::from(CLIENTS);
    assert_eq!(site.replies as u64, datagrams, "every query was answered");
    allocations * 1000 / datagrams
}

#[test]
fn known_clients_cost_no_allocation_per_datagram() {
    for extras in [Extras::Nothing, Extras::Usual] {
        let found = per_thousand(extras);
        assert!(found <= 1, "{extras:?}: {found} allocations in 1000 datagrams");
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(sys::count(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(sys::count(|| ()), 0);
}
