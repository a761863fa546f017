//! The packet path does not allocate: known clients go through DISCOVER, REQUEST and renewals at one engine, or at four
//! that forward to each other, and the allocator counts.
//!
//! The bounds are not zero. The timers and the pages of the lease table are B-trees, which make and free a node once in a
//! while as leases move through them. A forwarded query travels in a box that stays where it arrives, to be used for
//! the next one that leaves; a shard that sends more than it receives makes the difference anew.

mod memory;
mod sys;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use shards::journal::Columns;
use shards::{Actions, DatagramMeta, Engine as _, NodeId, Now, Topology};
use tandem::engine::event::Event;
use tandem::engine::message::Message;
use tandem::engine::rules::{self, Rules, Steering};
use tandem::engine::{Engine, EngineStart};
use tandem::ha::nodes::HaNodes;
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
    steering: Steering,
    shards: Vec<Shard>,
    now: Now,
    replies: usize,
    /// Address of each client, from the last reply to it.
    addresses: Vec<Ipv4Addr>,
}

struct Shard {
    engine: Engine,
    actions: Actions<Message, Event>,
    batch: u64,
    /// Messages on their way to it.
    inbox: VecDeque<(NodeId, Message)>,
}

impl Site {
    fn new(shards: u8) -> Self {
        let topology = Topology { shards, listeners: 0, senders: 0 };
        let steering = Steering::new(7, shards);
        let now = Now { monotonic_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
        let rules = Arc::new(Rules::at_start(Arc::new(snapshot()), &steering, 7, &[]));
        let view = Arc::new(HaView { service_on: true, updates: UpdateMode::Off, ..HaView::default() });
        let inputs = rules::split(&Arc::default(), Vec::new(), &rules.owners, shards);
        let shard = |(shard, leases)| {
            let (rules, view, columns) = (Arc::clone(&rules), Arc::clone(&view), Columns::Twelve);
            let nodes = HaNodes::default();
            let start = EngineStart { shard, topology, steering, rules, view, nodes, columns, leases };
            let (engine, actions) = (Engine::new(now, start), Actions::new(topology.nodes()));
            Shard { engine, actions, batch: 0, inbox: VecDeque::with_capacity(4096) }
        };
        let shards = (0..shards).zip(inputs).map(shard).collect();
        let addresses = vec![Ipv4Addr::UNSPECIFIED; CLIENTS as usize];
        Self { steering, shards, now, replies: 0, addresses }
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

    /// What drivers do with a batch: decide, pass on, write, tell that it is written, send.
    fn serve(&mut self, batch: &[Vec<u8>], unicast: bool) {
        let now = self.now;
        for Shard { engine, actions, .. } in &mut self.shards {
            actions.clear();
            actions.state_credit.fill(4096);
            actions.datagram_credit.fill(1024);
            engine.set_journal_waiting(0);
            if engine.next_timeout().is_some_and(|due| due <= now.monotonic_ns) {
                engine.handle_timeout(now, actions);
            }
        }
        let meta = DatagramMeta {
            socket: 0,
            ifindex: 2,
            source: Ipv4Addr::UNSPECIFIED,
            source_port: 68,
            destination: if unicast { SERVER } else { Ipv4Addr::BROADCAST },
            socket_address: SERVER,
            source_mac: None,
        };
        for bytes in batch {
            let arrival = usize::from(self.steering.shard_of_hardware(&bytes[28..34]));
            let Shard { engine, actions, .. } = &mut self.shards[arrival];
            engine.handle_datagram(now, &meta, bytes, actions);
        }
        self.pass_on();
        for Shard { engine, actions, batch, .. } in &mut self.shards {
            if !actions.rows.is_empty() {
                *batch += 1;
                engine.handle_persisted(now, *batch, actions);
            }
        }
        self.pass_on();
    }

    /// Carries messages from shard to shard until there are none; those for control have gone.
    fn pass_on(&mut self) {
        loop {
            let mut any = false;
            for from in 0..self.shards.len() {
                while let Some((to, _, message)) = self.shards[from].actions.messages.pop() {
                    if let Some(shard) = self.shards.get_mut(usize::from(to.0)) {
                        shard.inbox.push_back((NodeId(from as u8), message));
                        any = true;
                    }
                }
            }
            if !any {
                return;
            }
            for Shard { engine, actions, inbox, .. } in &mut self.shards {
                while let Some((from, message)) = inbox.pop_front() {
                    engine.handle_message(self.now, from, message, actions);
                }
            }
        }
    }

    fn read_replies(&mut self) {
        for Shard { actions, .. } in &self.shards {
            self.replies += actions.transmit.len();
        }
        let replies = self.shards.iter().flat_map(|Shard { actions, .. }| {
            actions.transmit.iter().map(|transmit| &actions.bytes[transmit.payload.clone()])
        });
        for reply in replies {
            let xid = u32::from_be_bytes([reply[4], reply[5], reply[6], reply[7]]);
            self.addresses[xid as usize] = Ipv4Addr::new(reply[16], reply[17], reply[18], reply[19]);
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
fn per_thousand(shards: u8, extras: Extras) -> u64 {
    let mut site = Site::new(shards);
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
    for (shards, extras, bound) in
        [(1, Extras::Nothing, 1), (1, Extras::Usual, 1), (4, Extras::Nothing, 1), (4, Extras::Usual, 40)]
    {
        let found = per_thousand(shards, extras);
        assert!(found <= bound, "{shards} shards, {extras:?}: {found} allocations in 1000 datagrams");
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(sys::count(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(sys::count(|| ()), 0);
}
