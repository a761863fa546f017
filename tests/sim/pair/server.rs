//! One server: a disk and a clock that outlive its process, and the process while it lives.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use shards::journal::append::{Batch, BatchBuffer};
use shards::partition::LoadedLeases;
use shards::{Actions, Lease, Now, Topology};
use tandem::engine::event::Event;
use tandem::engine::message::{Line, Message};
use tandem::engine::rules::{self, Clients, Rules, Steering};
use tandem::engine::{Engine, EngineStart};
use tandem::ha::nodes::HaNodes;
use tandem::ha::view::{BackupUpdates, HaView, UpdateMode};
use tandem::ha::{Machine, Mode, OwnState, PartnerState, Pause, PeerName, Relationship, Role};
use tandem::http::server::ServerConnection;
use tandem::policy::{Guard, Host, HostInterface, Scope, Snapshot, Subnets, compile};
use tandem::runtime::ha::backup::Standings;

use super::control::Control;
use super::disk::{Disk, Leases};
use super::kea_server::{Kea, KeaDisk};
use super::links::{host_of, place_of, seat_of};
use super::listener::Listener;
use super::plan::Plan;
use super::sender::Worker;
use super::stream::StreamId;
use super::watch::Watched;
use crate::sim::mesh::Mesh;

/// Index of the primary, unless there is a hub.
pub const PRIMARY: usize = 0;
/// The interface on the first link.
const IFINDEX: u32 = 2;
/// First address of the pool.
const POOL_FIRST: u8 = 100;
/// Lifetime of every lease, seconds.
pub const LIFETIME_S: u32 = 40;
/// True time at the start of a run, seconds since the epoch.
const EPOCH_S: i64 = 1_700_000_000;
/// Executors that send lease updates.
const SENDERS: u8 = 2;

pub struct Server {
    pub clock: Clock,
    pub disk: Disk,
    /// Kept beside the lease file, for each relationship: since when the partner may lack changes made here.
    pub behind: [Option<u64>; 2],
    /// Rises whenever a process starts or ends: what belongs to an earlier life finds nobody.
    pub life: u32,
    /// Without power a host does not even refuse a connection.
    pub powered: bool,
    pub process: Option<Process>,
    /// The process where this is a Kea, and what outlives it.
    pub kea: Option<Kea>,
    pub kea_disk: KeaDisk,
    /// When the process is woken next, true time.
    pub wake_ns: Option<u64>,
    /// The connections it has opened, and those it has accepted.
    pub workers: Vec<Worker>,
    pub connections: BTreeMap<StreamId, ServerConnection>,
    /// Stopped until then, true time: its kernel goes on, its process does not.
    pub paused_until_ns: u64,
    /// How many steps of its disk from now it goes down at, if it does.
    pub doom: Option<u32>,
}

/// A server that runs.
pub struct Process {
    pub topology: Topology,
    pub steering: Steering,
    pub rules: Arc<Rules>,
    pub engines: Vec<Engine>,
    pub actions: Vec<Actions<Message, Event>>,
    pub mesh: Mesh,
    pub journals: Vec<Journal>,
    /// The last write found no room on the disk.
    pub has_no_room: bool,
    /// Whether the configuration in force is the right one, and how many shards have yet to put it in force.
    pub right: bool,
    pub reloading: usize,
    /// Its end of each relationship.
    pub ends: Vec<End>,
    pub watched: Watched,
}

/// A server's end of one relationship: the machine, and what drives it.
pub struct End {
    pub machine: Machine,
    /// State of the machine when it was last looked at.
    pub state: OwnState,
    /// Since when, monotonic, the replies of each shard wait for other servers.
    pub asked_since_ns: Vec<Option<u64>>,
    /// Scopes that an operator has named, until the state changes.
    pub scopes_by_hand: Option<Vec<String>>,
    /// Whether the last command of its operator succeeded, once it has been answered.
    pub answered: Option<bool>,
    /// What is known of backups.
    pub standings: Standings,
    pub control: Control,
    pub listener: Listener,
}

/// The journal writer of one shard.
#[derive(Default)]
pub struct Journal {
    pub buffer: BatchBuffer,
    /// The batch in flight, and how long the file was once it was written.
    pub batch: Option<Batch>,
    pub written_to: Option<usize>,
}

impl Journal {
    /// Whether nothing waits and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.buffer.is_idle()
    }
}

/// A node's clock: integer nanoseconds, a little fast or slow, and wrong by a fixed distance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    pub drift_ppm: i64,
    pub skew_ms: i64,
}

impl Clock {
    pub fn monotonic_ns(self, true_ns: u64) -> u64 {
        let scaled = i128::from(true_ns) * i128::from(1_000_000 + self.drift_ppm);
        (scaled / 1_000_000) as u64
    }

    pub fn now(self, true_ns: u64) -> Now {
        let monotonic_ns = self.monotonic_ns(true_ns);
        let wall_ms = EPOCH_S * 1000 + self.skew_ms + (monotonic_ns / 1_000_000) as i64;
        Now { monotonic_ns, wall_ms: wall_ms as u64 }
    }

    /// Sets the wall clock so that it is wrong by `skew_ms`; by how much it was set.
    pub fn set(&mut self, skew_ms: i64) -> i64 {
        skew_ms - std::mem::replace(&mut self.skew_ms, skew_ms)
    }

    /// The first true time at which the clock shows `monotonic_ns`.
    pub fn true_ns(self, monotonic_ns: u64) -> u64 {
        let scale = i128::from(1_000_000 + self.drift_ppm);
        let scaled = i128::from(monotonic_ns) * 1_000_000;
        ((scaled + scale - 1) / scale) as u64
    }
}

impl Server {
    pub fn new(plan: &Plan, index: usize) -> Self {
        let clock = Clock { drift_ppm: plan.drift_ppm[index], skew_ms: plan.skew_ms[index] };
        Self {
            clock,
            disk: Disk::default(),
            behind: [None; 2],
            life: 0,
            powered: true,
            process: None,
            kea: None,
            kea_disk: KeaDisk::default(),
            wake_ns: None,
            workers: Vec::new(),
            connections: BTreeMap::new(),
            paused_until_ns: 0,
            doom: None,
        }
    }

    /// Whether a process runs here.
    pub fn is_up(&self) -> bool {
        self.process.is_some() || self.kea.is_some()
    }

    /// What its partner in the relationship at `place` sees of its state; none while it is down.
    pub fn state(&self, place: usize) -> Option<PartnerState> {
        let machine = self.process.as_ref().map(|process| &process.ends[place].machine);
        let own = machine.map(|machine| machine.state().as_seen_by_partner());
        own.or_else(|| self.kea.as_ref().map(|kea| kea.machine.state))
    }

    /// The row of `address` that would survive the loss of power. A Kea syncs nothing: what it has taken counts.
    pub fn durable(&self, address: Ipv4Addr) -> Option<&Lease> {
        let taken = self.kea_disk.accepted.get(&address);
        let own = self.kea_disk.written.get(&address);
        // Of two of one second the one that lasts longer: either may be of before the loss of power, when it has forgotten
        // what it had taken.
        let newest = own.into_iter().chain(taken).max_by_key(|lease| (lease.cltt, lease.expire()));
        self.disk.durable(address).or(newest)
    }

    /// Whether a row that `is` what is looked for would have survived the loss of power at any time of this life.
    pub fn was_durable(&self, address: Ipv4Addr, is: &dyn Fn(&Lease) -> bool) -> bool {
        self.kea_disk.accepted.get(&address).is_some_and(is) || self.disk.was_durable(address, is)
    }

    /// The process has ended, and with it every connection.
    pub fn end(&mut self) {
        (self.process, self.kea, self.wake_ns) = (None, None, None);
        self.workers.clear();
        self.connections.clear();
        self.paused_until_ns = 0;
        self.doom = None;
        self.life += 1;
    }
}

impl Process {
    /// A process that has read `leases`, and `deletions` of which partners that are `behind` may not know.
    pub fn new(
        plan: &Plan,
        index: usize,
        now: Now,
        leases: &Leases,
        (behind, deletions): ([Option<u64>; 2], Vec<Lease>),
    ) -> Self {
        let places = plan.places(index) as u8;
        let topology = Topology { shards: plan.shards[index], listeners: places, senders: SENDERS * places };
        let secret = plan.seed ^ index as u64;
        let steering = Steering::new(secret, topology.shards);
        let leases = Arc::new(leases.values().cloned().collect::<LoadedLeases>());
        let clients = vec![Clients::of(&leases, 0..leases.len(), &steering)];
        let rules =
            Arc::new(Rules::at_start(Arc::new(snapshot(plan, index, true)), &steering, secret, &clients));
        let view = Arc::new(HaView { configured: true, ..HaView::default() });
        let mut inputs = rules::split(&leases, clients, &rules.owners, topology.shards);
        rules::split_deletions(deletions, &rules.owners, &mut inputs);
        let engine = |(shard, leases)| {
            let (nodes, columns) = (nodes_of(topology), shards::journal::Columns::Twelve);
            let (rules, view) = (Arc::clone(&rules), Arc::clone(&view));
            Engine::new(now, EngineStart { shard, topology, steering, rules, view, nodes, columns, leases })
        };
        let engines: Vec<Engine> = (0u8..).zip(inputs).map(engine).collect();
        let shards = engines.len();
        let end = |place: usize| {
            let seat = seat_of(index, place);
            let mut machine = Machine::new(relationship(plan, seat), now);
            if let Some(since_s) = behind[place] {
                machine.recall_behind(now, since_s);
            }
            let peers = plan.peers_of(seat).into_iter();
            End {
                state: machine.state(),
                machine,
                asked_since_ns: vec![None; shards],
                scopes_by_hand: None,
                answered: None,
                standings: Standings::new(peers.map(|peer| (server_name(peer), plan.is_backup(peer)))),
                control: Control::at(place),
                listener: Listener::new(rules.clone()),
            }
        };
        Self {
            topology,
            steering,
            engines,
            actions: (0..shards).map(|_| Actions::new(topology.nodes())).collect(),
            mesh: Mesh::new(topology),
            journals: (0..shards).map(|_| Journal::default()).collect(),
            has_no_room: false,
            right: true,
            reloading: 0,
            ends: (0..plan.places(index)).map(end).collect(),
            rules,
            watched: Watched::new(shards),
        }
    }

    /// A view reaches a shard.
    pub fn give_view(&mut self, shard: usize, view: &HaView, now: Now) {
        let since_ns = &mut self.ends[usize::from(view.relationship)].asked_since_ns[shard];
        let waits = view.updates == UpdateMode::Send || view.backups == BackupUpdates::SendAndWait;
        *since_ns = since_ns.or(Some(now.monotonic_ns)).filter(|_| waits);
    }
}

/// Whose the executors are: each relationship has one listener and as many senders as the others.
pub fn nodes_of(topology: Topology) -> HaNodes {
    HaNodes::new((0..topology.listeners).map(|_| (1, SENDERS)))
}

/// The first sender of the relationship at `place`.
pub fn first_sender(place: usize) -> u8 {
    place as u8 * SENDERS
}

/// The relationship of a sender, and its number there.
pub fn place_of_sender(sender: u8) -> (usize, u8) {
    (usize::from(sender / SENDERS), sender % SENDERS)
}

/// Address of a server on a link.
pub fn address(server: usize, link: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2 + link as u8, 1 + server as u8)
}

/// The interface on a link.
pub fn ifindex(link: usize) -> u32 {
    IFINDEX + link as u32
}

/// Connections to each peer: the updates of each sender, then those of calls.
pub const WORKERS_PER_PEER: usize = SENDERS as usize + 3;

/// The connection of sender `sender` to a peer.
pub fn update_worker(peer: u8, sender: u8) -> usize {
    usize::from(peer) * WORKERS_PER_PEER + usize::from(sender)
}

/// The connection for calls of a line to a peer.
pub fn call_worker(peer: u8, line: Line) -> usize {
    usize::from(peer) * WORKERS_PER_PEER + usize::from(SENDERS) + line as usize
}

/// The peer a connection leads to.
pub fn peer_of(worker: usize) -> usize {
    worker / WORKERS_PER_PEER
}

/// First and last address of the pools of a link: one for both servers, or half of it for each where they share the clients.
pub fn pool(plan: &Plan, link: usize) -> (Ipv4Addr, Ipv4Addr) {
    let address = |last| Ipv4Addr::new(192, 0, 2 + link as u8, last);
    let halves = 1 + u8::from(plan.balancing);
    (address(POOL_FIRST), address(POOL_FIRST + halves * plan.pool - 1))
}

/// The first pool for the clients of the primary, the second one for those of the secondary.
fn halved(mut snapshot: Snapshot, plan: &Plan) -> Snapshot {
    let Some(mut subnet) = snapshot.subnets.iter().next().cloned() else { return snapshot };
    let Some(pool) = subnet.pools.first().cloned() else { return snapshot };
    let at = |last| Ipv4Addr::new(192, 0, 2, last);
    let half = |scope, first: u8| tandem::policy::Pool {
        first: at(first),
        last: at(first + plan.pool - 1),
        guard: Guard::of([scope]),
        ..pool.clone()
    };
    subnet.pools = vec![half(Scope::Primary, POOL_FIRST), half(Scope::Secondary, POOL_FIRST + plan.pool)];
    subnet.has_guarded_pools = true;
    snapshot.subnets = Subnets::new(vec![subnet]);
    snapshot
}

/// The rules of a server; without the subnet if they are not the right ones.
pub fn snapshot(plan: &Plan, index: usize, right: bool) -> Snapshot {
    let links: Vec<usize> = match (plan.hub, index) {
        (true, 0) => vec![0, 1],
        (true, spoke) => vec![spoke - 1],
        (false, _) => vec![0],
    };
    let subnet = |link: &usize| {
        let ((first, last), id, third) = (pool(plan, *link), 1 + link, 2 + link);
        format!(
            r#"{{ "id": {id}, "subnet": "192.0.{third}.0/24", "interface": "eth{link}",
                  "user-context": {{ "ha-server-name": "spoke{link}" }},
                  "pools": [ {{ "pool": "{first} - {last}" }} ] }}"#
        )
    };
    let subnets: Vec<String> = match right {
        true => links.iter().map(subnet).collect(),
        false => vec![r#"{ "id": 9, "subnet": "198.51.100.0/24", "interface": "eth0" }"#.to_owned()],
    };
    let cache_threshold = f64::from(plan.cache_threshold) / 1000.0;
    let text = format!(
        r#"{{ "Dhcp4": {{
            "interfaces-config": {{ "interfaces": [ "*" ] }},
            "valid-lifetime": {LIFETIME_S}, "cache-threshold": {cache_threshold:.3},
            "decline-probation-period": 20,
            "expired-leases-processing": {{
                "reclaim-timer-wait-time": 2, "hold-reclaimed-time": 30, "flush-reclaimed-timer-wait-time": 5 }},
            "hooks-libraries": [ {} ],
            "subnet4": [ {} ] }} }}"#,
        if links.len() > 1 { hooks_of_a_hub() } else { String::new() },
        subnets.join(", ")
    );
    let tree = serde_json::from_str(&text).expect("JSON");
    let document =
        config::dhcp4_from_json(&tree, "<simulation>").unwrap_or_else(|error| panic!("{error}")).document;
    let interface = |link: &usize| {
        let (name, mac) = (format!("eth{link}"), [2, 0, 0, 0, *link as u8, 1 + index as u8]);
        HostInterface::ethernet(ifindex(*link), &name, mac, address(index, *link))
    };
    let interfaces: Vec<HostInterface> = links.iter().map(interface).collect();
    let compiled = compile(&document, &Host::new(&interfaces, 1));
    let snapshot = compiled.unwrap_or_else(|error| panic!("{error}")).snapshot;
    if plan.balancing && right { halved(snapshot, plan) } else { snapshot }
}

/// The relationships of a hub, as far as they say whose a subnet is.
fn hooks_of_a_hub() -> String {
    let relationship = |link: usize| {
        format!(
            r#"{{ "this-server-name": "hub{link}", "mode": "hot-standby", "peers": [
            {{ "name": "hub{link}", "role": "primary", "url": "http://192.0.2.1:800{link}/" }},
            {{ "name": "spoke{link}", "role": "standby", "url": "http://192.0.2.2:800{link}/" }} ] }}"#
        )
    };
    format!(
        r#"{{ "library": "libdhcp_lease_cmds.so" }}, {{ "library": "libdhcp_ha.so", "parameters": {{
            "high-availability": [ {}, {} ] }} }}"#,
        relationship(0),
        relationship(1)
    )
}

/// The name of a server in its relationships.
pub fn server_name(index: usize) -> String {
    format!("server{}", index + 1)
}

fn relationship(plan: &Plan, seat: usize) -> Relationship {
    let index = host_of(seat);
    let role = |index| match index {
        _ if plan.is_primary(index) => Role::Primary,
        _ if plan.is_backup(index) => Role::Backup,
        _ if plan.balancing => Role::Secondary,
        _ => Role::Standby,
    };
    let peer = |index: usize| PeerName {
        name: server_name(index),
        url: format!("http://{}:8000/", address(index, 0)),
        role: role(index),
    };
    Relationship {
        index: place_of(seat) as u8,
        mode: match plan {
            Plan { passive: true, .. } => Mode::PassiveBackup,
            Plan { balancing: true, .. } => Mode::LoadBalancing,
            _ => Mode::HotStandby,
        },
        this_server_name: server_name(index),
        role: role(index),
        others: plan.peers_of(seat).into_iter().map(peer).collect(),
        auto_failover: true,
        send_lease_updates: true,
        wait_backup_ack: plan.wait_backup_ack,
        sync_leases: true,
        sync_timeout_ms: 10_000,
        // Small, so that a copy takes several pages.
        sync_page_limit: 3,
        heartbeat_delay_ms: 1_000,
        max_response_delay_ms: 3_000,
        max_ack_delay_ms: 1_000,
        max_unacked_clients: plan.max_unacked_clients,
        max_rejected_lease_updates: plan.max_rejected_lease_updates,
        delayed_updates_limit: if plan.balancing { plan.delayed_updates_limit } else { 0 },
        pauses: if plan.commands { pauses(plan.seed) } else { Vec::new() },
    }
}

/// Some states in which a machine rests until an operator has it go on.
fn pauses(seed: u64) -> Vec<(PartnerState, Pause)> {
    match seed / 20 % 4 {
        0 => vec![(PartnerState::Ready, Pause::Once), (PartnerState::PartnerDown, Pause::Once)],
        1 => vec![(PartnerState::Syncing, Pause::Always)],
        2 => vec![(PartnerState::Waiting, Pause::Once), (PartnerState::HotStandby, Pause::Once)],
        _ => Vec::new(),
    }
}
