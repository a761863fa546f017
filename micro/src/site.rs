//! Engines and what a driver does with them, without sockets and disks: batches in, messages carried from shard to
//! shard, rows written at once, replies left to be looked at.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use shards::journal::Columns;
use shards::partition::LoadedLeases;
use shards::{Actions, Engine as _, Lease, LeaseState, NodeId, Now, SmallBytes, Topology};
use tandem::engine::event::Event;
use tandem::engine::message::{Message, ShardCommand, ShardCommandBody};
use tandem::engine::rules::{self, Clients, Rules, Steering};
use tandem::engine::{Engine, EngineStart};
use tandem::ha::nodes::HaNodes;
use tandem::ha::view::{HaView, UpdateMode};
use tandem::limits;
use tandem::policy::{Host, HostInterface, Snapshot, compile};

use crate::messages::{Client, Datagram, IFINDEX, SERVER};

/// Secret of the installation: it decides the hashes, and so the counts.
pub const SEED: u64 = 7;
/// First address of the pool.
pub const POOL: u32 = u32::from_be_bytes([10, 16, 0, 0]);
/// When everything begins.
pub const START: Now = Now { monotonic_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };

/// The configuration: the options and timers of the template for a single server, in a network large enough. More
/// subnets go where SUBNETS stands.
const CONFIGURATION: &str = r#"{ "Dhcp4": {
    "interfaces-config": { "interfaces": [ "eth0" ] },
    "valid-lifetime": 14400, "renew-timer": 3600, "rebind-timer": 10800, "cache-threshold": 0.0,
    "option-data": [
        { "name": "domain-name-servers", "data": "192.0.2.2, 192.0.2.3" },
        { "name": "domain-name", "data": "example.org" } ],
    "subnet4": [ { "id": 1, "subnet": "10.0.0.0/8", "interface": "eth0",
                   "option-data": [ { "name": "routers", "data": "10.0.0.1" } ],
                   "pools": [ { "pool": "10.16.0.0 - 10.47.255.255" } ] } SUBNETS ] } }"#;

/// The relay of the `number`-th of the subnets behind relays.
pub fn relay_of(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from_be_bytes([172, 16, 0, 1]) + number * 256)
}

/// The rules of a server with one large subnet, and `relayed` small ones behind a relay each.
pub fn snapshot(relayed: u32) -> Snapshot {
    let subnet = |number: u32| {
        let relay = relay_of(number);
        let [a, b, c, _] = relay.octets();
        let pool = format!("{a}.{b}.{c}.2 - {a}.{b}.{c}.254");
        format!(
            r#", {{ "id": {}, "subnet": "{a}.{b}.{c}.0/24", "relay": {{ "ip-addresses": [ "{relay}" ] }},
                   "pools": [ {{ "pool": "{pool}" }} ] }}"#,
            number + 2
        )
    };
    let subnets: String = (0..relayed).map(subnet).collect();
    let tree = serde_json::from_str(&CONFIGURATION.replace("SUBNETS", &subnets)).expect("JSON");
    let document = config::dhcp4_from_json(&tree, "<micro>").expect("a configuration").document;
    let interfaces = [HostInterface::ethernet(IFINDEX, "eth0", [2, 0, 0, 0, 0, 1], SERVER)];
    compile(&document, &Host::new(&interfaces, 1)).expect("a snapshot").snapshot
}

/// Address of the lease of the client with `number`, where leases are there from the start.
pub fn address_of(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(POOL + number)
}

/// The lease `client` has at `address` from the start.
pub fn lease(client: Client, address: Ipv4Addr) -> Lease {
    Lease {
        address,
        subnet_id: 1,
        pool_id: 0,
        hwaddr: SmallBytes::new(&client.hwaddr()),
        client_id: SmallBytes::empty(),
        valid_lifetime: 14400,
        cltt: START.wall_s() - u64::from(client.number % 3600),
        state: LeaseState::Default,
        fqdn_fwd: false,
        fqdn_rev: false,
        hostname: SmallBytes::empty(),
        user_context: None,
    }
}

/// All shards of a server.
#[derive(Debug)]
pub struct Site {
    steering: Steering,
    shards: Vec<Member>,
    now: Now,
    /// Answers to the last command.
    answered: usize,
}

#[derive(Debug)]
struct Member {
    engine: Engine,
    actions: Actions<Message, Event>,
    batch: u64,
    inbox: VecDeque<(NodeId, Message)>,
}

impl Site {
    /// A server of `shards` shards under the rules of `snapshot` with `leases`, without a partner.
    pub fn new(shards: u8, snapshot: Snapshot, leases: Vec<Lease>) -> Self {
        let topology = Topology { shards, listeners: 0, senders: 0 };
        let steering = Steering::new(SEED, shards);
        let leases = Arc::new(leases.into_iter().collect::<LoadedLeases>());
        let clients = vec![Clients::of(&leases, 0..leases.len(), &steering)];
        let rules = Arc::new(Rules::at_start(Arc::new(snapshot), &steering, SEED, &clients));
        let view = Arc::new(HaView { service_on: true, updates: UpdateMode::Off, ..HaView::default() });
        let member = |(shard, leases)| {
            let (rules, view, columns) = (Arc::clone(&rules), Arc::clone(&view), Columns::Twelve);
            let nodes = HaNodes::default();
            let start = EngineStart { shard, topology, steering, rules, view, nodes, columns, leases };
            let (engine, actions) = (Engine::new(START, start), Actions::new(topology.nodes()));
            Member { engine, actions, batch: 0, inbox: VecDeque::new() }
        };
        let leases = rules::split(&leases, clients, &rules.owners, shards);
        let shards = (0..shards).zip(leases).map(member).collect();
        Self { steering, shards, now: START, answered: 0 }
    }

    /// One turn of every shard: `datagrams` are decided where the kernel would steer them, and forwarded as far as
    /// they go.
    pub fn decide(&mut self, datagrams: &[Datagram]) {
        self.begin_turn();
        for Datagram { meta, bytes } in datagrams {
            let shard = self.steering.hash.shard_of_message(bytes);
            let Member { engine, actions, .. } = &mut self.shards[usize::from(shard)];
            engine.handle_datagram(self.now, meta, bytes, actions);
        }
        self.carry();
    }

    /// One turn, in which the control node asks `shard` for something.
    pub fn command(&mut self, shard: u8, body: ShardCommandBody) {
        self.begin_turn();
        self.answered = 0;
        let control = NodeId(self.shards.len() as u8);
        let Member { engine, actions, .. } = &mut self.shards[usize::from(shard)];
        let command = Box::new(ShardCommand { request: 0, body });
        engine.handle_message(self.now, control, Message::Command(command), actions);
        self.carry();
    }

    /// Answers to the last command.
    pub fn replies_to_commands(&self) -> usize {
        self.answered
    }

    fn begin_turn(&mut self) {
        self.now.monotonic_ns += 1_000_000;
        self.now.wall_ms += 1;
        for Member { engine, actions, .. } in &mut self.shards {
            actions.clear();
            actions.state_credit.fill(limits::STATE_LANE as u32);
            actions.datagram_credit.fill(limits::DATAGRAM_LANE as u32);
            engine.set_journal_waiting(0);
            if engine.next_timeout().is_some_and(|due| due <= self.now.monotonic_ns) {
                engine.handle_timeout(self.now, actions);
            }
        }
    }

    /// What was decided is on the disk: parked replies leave.
    pub fn persist(&mut self) {
        for Member { engine, actions, batch, .. } in &mut self.shards {
            if !actions.rows.is_empty() {
                *batch += 1;
                engine.handle_persisted(self.now, *batch, actions);
            }
        }
        self.carry();
    }

    /// Replies of this turn.
    pub fn replies(&self) -> impl Iterator<Item = &[u8]> {
        self.shards.iter().flat_map(|Member { actions, .. }| {
            actions.transmit.iter().map(|transmit| &actions.bytes[transmit.payload.clone()])
        })
    }

    /// Carries messages from shard to shard until there are none; of those for the control node answers are counted.
    fn carry(&mut self) {
        loop {
            let mut any = false;
            for from in 0..self.shards.len() {
                while let Some((to, _, message)) = self.shards[from].actions.messages.pop() {
                    if let Some(member) = self.shards.get_mut(usize::from(to.0)) {
                        member.inbox.push_back((NodeId(from as u8), message));
                        any = true;
                    } else if matches!(message, Message::Reply(_)) {
                        self.answered += 1;
                    }
                }
            }
            if !any {
                return;
            }
            for Member { engine, actions, inbox, .. } in &mut self.shards {
                while let Some((from, message)) = inbox.pop_front() {
                    engine.handle_message(self.now, from, message, actions);
                }
            }
        }
    }
}
