//! The world: engines, lanes, journals, the senders' end of the partner link, and the wire.
//!
//! Nothing here decides anything about DHCP. Each step takes one waiting thing (a message of a lane, a finished
//! journal write, an update that a sender has been given) in an order drawn from the seed, feeds it to its engine
//! and files what the engine wants done. Lanes keep the limits of the runtime.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;
use shards::journal::Columns;
use shards::partition::LoadedLeases;
use shards::{Actions, DatagramMeta, Engine as _, Lane, Lease, NodeId, Now, Topology, Transmit};
use tandem::engine::counters::{Counter, OwnCounter, ShardStatistics};
use tandem::engine::event::Event;
use tandem::engine::message::{
    Message, PartnerUpdate, ShardCommand, ShardCommandBody, ShardReplyBody, UpdateKind, UpdateOutcome,
};
use tandem::engine::rules::{self, Clients, Rules, Steering};
use tandem::engine::{Engine, EngineStart};
use tandem::ha::nodes::HaNodes;
use tandem::ha::view::{HaView, Scopes, UpdateMode};
use tandem::policy::{Host, HostInterface, Snapshot, compile};

use super::mesh::Mesh;

/// Address of the server on its only interface.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const IFINDEX: u32 = 2;
const NS_PER_S: u64 = 1_000_000_000;
/// More steps than any case needs: one that goes on is a loop.
const STEPS_MAX: usize = 2_000_000;

/// How the partner answers lease updates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Partner {
    Answers(UpdateOutcome),
    /// Keeps them; see [`World::answer_updates`].
    Silent,
}

/// One update as the partner got it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Update {
    /// Whose partner has got it.
    pub relationship: u8,
    pub peer: u8,
    pub kind: UpdateKind,
    pub lease: Lease,
}

pub struct World {
    pub now: Now,
    pub topology: Topology,
    nodes: HaNodes,
    pub steering: Steering,
    pub rules: Arc<Rules>,
    pub view: HaView,
    pub partner: Partner,
    /// How the backups answer, which are the peers but the first.
    pub backups: Partner,
    /// Whether journal writes finish.
    pub disk_works: bool,
    /// Bytes each shard is told wait for the disk.
    pub journal_waiting_bytes: usize,
    /// The lanes.
    pub mesh: Mesh,
    /// Updates the partner has got, in order.
    pub updates: Vec<Update>,
    /// Messages control has got.
    pub control: Vec<Message>,
    /// Replies on the wire, in order.
    pub wire: VecDeque<(Transmit, Vec<u8>)>,
    pub events: Vec<Event>,
    engines: Vec<Engine>,
    actions: Vec<Actions<Message, Event>>,
    journals: Vec<Journal>,
    unanswered: VecDeque<(NodeId, Box<PartnerUpdate>)>,
    random: Pcg32,
}

#[derive(Default)]
struct Journal {
    bytes: Vec<u8>,
    batches: u64,
    durable: u64,
}

enum Ready {
    Lane(usize),
    Disk(usize),
    Update,
}

/// A configuration with one subnet, 192.0.2.0/24 on eth0, and these keys added to the subnet.
pub fn snapshot(pool: &str, keys: &str) -> Snapshot {
    let text = format!(
        r#"{{ "Dhcp4": {{
            "interfaces-config": {{ "interfaces": [ "eth0" ] }},
            "valid-lifetime": 600, "cache-threshold": 0.0,
            "subnet4": [ {{ "id": 1, "subnet": "192.0.2.0/24", "interface": "eth0",
                            "pools": [ {{ "pool": "{pool}" }} ] {keys} }} ] }} }}"#
    );
    let tree = serde_json::from_str(&text).expect("JSON");
    let document =
        config::dhcp4_from_json(&tree, "<test>").unwrap_or_else(|error| panic!("{error}")).document;
    let interfaces = [HostInterface::ethernet(IFINDEX, "eth0", [2, 0, 0, 0, 0, 1], SERVER)];
    compile(&document, &Host::new(&interfaces, 1)).unwrap_or_else(|error| panic!("{error}")).snapshot
}

impl World {
    /// A server of `shards` shards without HA that has loaded `leases`.
    pub fn new(seed: u64, shards: u8, snapshot: Snapshot, leases: Vec<Lease>) -> Self {
        let nodes = match snapshot.relationships.count() {
            0 | 1 => HaNodes::new([(1, 2)]),
            several => HaNodes::new(vec![(1, 1); several]),
        };
        let (listeners, senders) = nodes.totals();
        let topology = Topology { shards, listeners, senders };
        let steering = Steering::new(seed, shards);
        let now = Now { monotonic_ns: NS_PER_S, wall_ms: 1_700_000_000_000 };
        let leases = Arc::new(leases.into_iter().collect::<LoadedLeases>());
        let clients = vec![Clients::of(&leases, 0..leases.len(), &steering)];
        let rules = Arc::new(Rules::at_start(Arc::new(snapshot), &steering, seed, &clients));
        let view = HaView { service_on: true, updates: UpdateMode::Off, ..HaView::default() };
        let inputs = rules::split(&leases, clients, &rules.owners, shards);
        let engine = |(shard, leases)| {
            let rules = Arc::clone(&rules);
            let view = Arc::new(view.clone());
            let (nodes, columns) = (nodes.clone(), Columns::Twelve);
            Engine::new(now, EngineStart { shard, topology, steering, rules, view, nodes, columns, leases })
        };
        let engines = (0u8..).zip(inputs).map(engine).collect();
        Self {
            now,
            topology,
            nodes,
            steering,
            rules,
            view,
            partner: Partner::Answers(UpdateOutcome::Acked),
            backups: Partner::Answers(UpdateOutcome::Acked),
            disk_works: true,
            journal_waiting_bytes: 0,
            mesh: Mesh::new(topology),
            updates: Vec::new(),
            control: Vec::new(),
            wire: VecDeque::new(),
            events: Vec::new(),
            engines,
            actions: (0..shards).map(|_| Actions::new(topology.nodes())).collect(),
            journals: (0..shards).map(|_| Journal::default()).collect(),
            unanswered: VecDeque::new(),
            random: Pcg32::new(seed, 54),
        }
    }

    /// A number drawn from the seed.
    pub fn draw(&mut self, below: usize) -> usize {
        self.random.next_u32() as usize % below
    }

    /// Puts what the HA machine decided in force at every shard.
    pub fn set_view(&mut self, view: HaView) {
        self.view = view.clone();
        let view = Arc::new(view);
        for shard in 0..self.topology.shards {
            self.post(self.topology.control(), NodeId(shard), Message::HaView(Arc::clone(&view)));
        }
        self.settle();
    }

    /// The view of a hot-standby primary that replicates.
    pub fn replicating_view(&self) -> HaView {
        HaView {
            epoch: self.view.epoch + 1,
            service_on: true,
            configured: true,
            scopes: Scopes::PRIMARY,
            updates: UpdateMode::Send,
            max_ack_delay_ms: 10_000,
            sends_released: true,
            ..HaView::default()
        }
    }

    /// Puts another configuration in force, as control does: strays are asked for, every shard gives the old
    /// rules back.
    pub fn reconfigure(&mut self, snapshot: Snapshot) {
        let epoch = snapshot.epoch;
        let mut strays = Vec::new();
        for shard in 0..self.topology.shards {
            match self.command(shard, ShardCommandBody::Stray) {
                Some(ShardReplyBody::Addresses(addresses)) => strays.extend(addresses),
                other => panic!("no strays: {other:?}"),
            }
        }
        self.rules = Arc::new(self.rules.next(Arc::new(snapshot), strays));
        for shard in 0..self.topology.shards {
            self.post(self.topology.control(), NodeId(shard), Message::Snapshot(Arc::clone(&self.rules)));
        }
        self.settle();
        let applied = |message: &Message| match message {
            Message::SnapshotApplied { epoch: applied, .. } => *applied == epoch,
            _ => false,
        };
        let count = self.control.iter().filter(|message| applied(message)).count();
        assert_eq!(count, usize::from(self.topology.shards), "every shard gives the old rules back");
        self.control.retain(|message| !applied(message));
    }

    /// A datagram for the server: the kernel gives it to its arrival shard.
    pub fn deliver(&mut self, source: Ipv4Addr, destination: Ipv4Addr, bytes: &[u8]) {
        let shard = self.steering.hash.shard_of_message(bytes);
        self.deliver_to(shard, source, destination, bytes);
    }

    /// A datagram that reaches this shard, whatever its hash says.
    pub fn deliver_to(&mut self, shard: u8, source: Ipv4Addr, destination: Ipv4Addr, bytes: &[u8]) {
        let meta = DatagramMeta {
            socket: 0,
            ifindex: IFINDEX,
            source,
            source_port: 68,
            destination,
            socket_address: SERVER,
            source_mac: None,
        };
        let now = self.now;
        self.drive(usize::from(shard), |engine, actions| engine.handle_datagram(now, &meta, bytes, actions));
    }

    /// Runs until nothing is waiting.
    pub fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            let ready = self.ready();
            if ready.is_empty() {
                return;
            }
            let choice = self.draw(ready.len());
            match ready[choice] {
                Ready::Lane(lane) => self.step_lane(lane),
                Ready::Disk(shard) => self.finish_write(shard),
                Ready::Update => self.answer_next_update(None),
            }
        }
        panic!("the world does not come to rest");
    }

    /// Lets time pass, second by second, with all timers.
    pub fn pass_s(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now.monotonic_ns += NS_PER_S;
            self.now.wall_ms += 1000;
            self.run_timers();
        }
    }

    /// Runs every timer that is due, and what follows.
    pub fn run_timers(&mut self) {
        for shard in 0..self.engines.len() {
            for _ in 0..STEPS_MAX {
                let due = self.engines[shard].next_timeout().is_some_and(|at| at <= self.now.monotonic_ns);
                if !due {
                    break;
                }
                let now = self.now;
                self.drive(shard, |engine, actions| engine.handle_timeout(now, actions));
                // A slice asks to go on a nanosecond later.
                self.now.monotonic_ns += 1;
            }
        }
        self.settle();
    }

    /// Answers what the partner kept.
    pub fn answer_updates(&mut self, outcome: UpdateOutcome) {
        while !self.unanswered.is_empty() {
            self.answer_next_update(Some(outcome));
        }
        self.settle();
    }

    /// A command from control; the answer of every shard asked, once it is there.
    pub fn command(&mut self, shard: u8, body: ShardCommandBody) -> Option<ShardReplyBody> {
        let before = self.control.len();
        let command = Box::new(ShardCommand { request: 7, body });
        self.post(self.topology.control(), NodeId(shard), Message::Command(command));
        self.settle();
        let place = self.control[before..].iter().position(
            |message| matches!(message, Message::Reply(reply) if reply.request == 7 && reply.shard == shard),
        )?;
        match self.control.remove(before + place) {
            Message::Reply(reply) => Some(reply.body),
            _ => None,
        }
    }

    /// The counters of all shards.
    pub fn statistics(&mut self) -> ShardStatistics {
        let mut sum = ShardStatistics::default();
        for shard in 0..self.topology.shards {
            match self.command(shard, ShardCommandBody::Statistics) {
                Some(ShardReplyBody::Statistics(statistics)) => sum.add(&statistics),
                other => panic!("no statistics: {other:?}"),
            }
        }
        sum
    }

    pub fn count(&mut self, counter: Counter) -> u64 {
        self.statistics().count(counter)
    }

    pub fn own(&mut self, counter: OwnCounter) -> u64 {
        self.statistics().own(counter)
    }

    /// The lease of `address`, from its owner.
    pub fn lease(&mut self, address: Ipv4Addr) -> Option<Lease> {
        let owner = self.rules.owners.owner_of(address);
        match self.command(owner, ShardCommandBody::Get(address)) {
            Some(ShardReplyBody::Leases(mut leases)) => leases.pop(),
            other => panic!("no answer: {other:?}"),
        }
    }

    /// All leases, ascending, which must lie with their owners.
    pub fn leases(&mut self) -> Vec<Lease> {
        let mut all = Vec::new();
        for shard in 0..self.topology.shards {
            let page = ShardCommandBody::Page { after: None, limit: usize::MAX, subnets: Vec::new() };
            let Some(ShardReplyBody::Leases(leases)) = self.command(shard, page) else {
                panic!("no page");
            };
            for lease in &leases {
                assert_eq!(self.rules.owners.owner_of(lease.address), shard, "{lease:?} is not its owner's");
            }
            all.extend(leases);
        }
        all.sort_by_key(|lease| lease.address);
        all
    }

    /// Rows written so far, of all shards.
    pub fn journal_text(&self) -> String {
        self.journals.iter().map(|journal| String::from_utf8_lossy(&journal.bytes).into_owned()).collect()
    }

    /// Posts a message from a node that is no engine.
    pub fn post(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.mesh.push(from, to, Lane::State, message);
    }

    fn ready(&self) -> Vec<Ready> {
        let mut ready: Vec<Ready> = self.mesh.waiting().map(Ready::Lane).collect();
        for (shard, journal) in self.journals.iter().enumerate() {
            if self.disk_works && journal.durable < journal.batches {
                ready.push(Ready::Disk(shard));
            }
        }
        if self.unanswered.iter().any(|(_, update)| self.answer_of(update).is_some()) {
            ready.push(Ready::Update);
        }
        ready
    }

    fn step_lane(&mut self, lane: usize) {
        let Some((from, to, message)) = self.mesh.pop(lane) else { return };
        if self.topology.is_shard(to) {
            let now = self.now;
            return self.drive(usize::from(to.0), |engine, actions| {
                engine.handle_message(now, from, message, actions);
            });
        }
        match message {
            Message::Update(update) if to != self.topology.control() => {
                let PartnerUpdate { relationship, peer, kind, ref lease, .. } = *update;
                assert_eq!(self.nodes.of(to, self.topology), Some(usize::from(relationship)), "its sender");
                self.updates.push(Update { relationship, peer, kind, lease: lease.clone() });
                self.unanswered.push_back((from, update));
            }
            other => self.control.push(other),
        }
    }

    /// Answers the first update of this kind that the partner kept.
    pub fn answer_one(&mut self, kind: UpdateKind, outcome: UpdateOutcome) {
        let place = self.unanswered.iter().position(|(_, update)| update.kind == kind);
        self.answer_update(place.expect("an update of the kind"), Some(outcome));
        self.settle();
    }

    fn answer_next_update(&mut self, outcome: Option<UpdateOutcome>) {
        let is_answered = |(_, update): &(NodeId, Box<PartnerUpdate>)| {
            outcome.is_some() || self.answer_of(update).is_some()
        };
        let Some(next) = self.unanswered.iter().position(is_answered) else { return };
        self.answer_update(next, outcome);
    }

    fn answer_update(&mut self, place: usize, outcome: Option<UpdateOutcome>) {
        let Some((shard, mut update)) = self.unanswered.remove(place) else { return };
        update.outcome = outcome.or(self.answer_of(&update));
        let sender = self.topology.sender(0);
        self.post(sender, shard, Message::UpdateDone(update));
    }

    fn answer_of(&self, update: &PartnerUpdate) -> Option<UpdateOutcome> {
        // Where there is no active partner the first peer is a backup as well.
        let is_backup = self.view.backup_peers.indices().contains(&update.peer);
        match if is_backup { self.backups } else { self.partner } {
            Partner::Answers(outcome) => Some(outcome),
            Partner::Silent => None,
        }
    }

    fn finish_write(&mut self, shard: usize) {
        self.journals[shard].durable = self.journals[shard].batches;
        let (now, batch) = (self.now, self.journals[shard].durable);
        self.drive(shard, |engine, actions| engine.handle_persisted(now, batch, actions));
    }

    /// Runs one engine and carries out its actions, as a driver does: messages, rows, transmissions.
    fn drive(&mut self, shard: usize, run: impl FnOnce(&mut Engine, &mut Actions<Message, Event>)) {
        let node = NodeId(shard as u8);
        let actions = &mut self.actions[shard];
        self.mesh.grant_credit(node, actions);
        self.engines[shard].set_journal_waiting(self.journal_waiting_bytes);
        run(&mut self.engines[shard], actions);
        let messages = std::mem::take(&mut actions.messages);
        if !actions.rows.is_empty() {
            self.journals[shard].bytes.extend_from_slice(&actions.rows);
            self.journals[shard].batches += 1;
        }
        for transmit in &actions.transmit {
            self.wire.push_back((transmit.clone(), actions.bytes[transmit.payload.clone()].to_vec()));
        }
        self.events.extend_from_slice(&actions.events);
        actions.clear();
        for (to, lane, message) in messages {
            self.mesh.push(node, to, lane, message);
        }
    }
}
