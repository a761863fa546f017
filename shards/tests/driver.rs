//! Shards driven by a trivial engine over a veth pair: steering is exact, replies leave, rows last.
//!
//! The test runs itself again in a network namespace of its own (`unshare -n`, as root), where both ends of the
//! pair live. Frames are sent on one end as a relay or a client would, and every datagram must reach, once, the shard
//! its hardware address hashes to.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use shards::runtime::frame::{self, Envelope};
use shards::runtime::{
    DriverLimits, Durability, Executor, JournalFile, JournalWriter, LaneSizes, Opened, Placement,
    RING_SLOTS_MAX, Request, ShardEnd, ShardPort, ShardSetup, Steering, mesh, open_raw, open_udp,
    spawn_shard,
};
use shards::steer::SteerHash;
use shards::sys::interface::{self, HostInterface};
use shards::sys::receive::ReceiveBatch;
use shards::sys::send::{FrameSend, SendBatch};
use shards::sys::socket;
use shards::{Actions, DatagramMeta, Engine, Lane, NodeId, Now, Topology, Transmit};

const SHARDS: u8 = 4;
const DATAGRAMS: u32 = 2_000;
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const RELAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const PORT: u16 = 1067;
const INNER: &str = "TANDEM_DRIVER_TEST_INNER";

/// What an engine saw.
#[derive(Clone, Copy, Debug)]
enum Seen {
    Datagram { shard: u8, number: u32, meta_mac: bool },
    Message { shard: u8, from: u8 },
    Durable { shard: u8, batch: u64 },
}

/// Answers every datagram with itself, tells the next shard of it, and writes a row for it.
struct Echo {
    shard: u8,
}

impl Engine for Echo {
    type Message = u32;
    type Event = Seen;

    fn handle_datagram(
        &mut self,
        _now: Now,
        meta: &DatagramMeta,
        bytes: &[u8],
        actions: &mut Actions<u32, Seen>,
    ) {
        let number = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
        actions.events.push(Seen::Datagram {
            shard: self.shard,
            number,
            meta_mac: meta.source_mac.is_some(),
        });
        let next = NodeId((self.shard + 1) % SHARDS);
        if actions.reserve(next, Lane::State, 1) {
            actions.send(next, Lane::State, number);
        }
        actions.rows.extend_from_slice(format!("{number}\n").as_bytes());
        let start = actions.bytes.len();
        actions.bytes.extend_from_slice(bytes);
        actions.transmit.push(Transmit {
            socket: meta.socket,
            ifindex: meta.ifindex,
            source: meta.socket_address,
            destination: if meta.destination.is_broadcast() { Ipv4Addr::BROADCAST } else { RELAY },
            destination_port: 1068,
            destination_mac: meta.source_mac.unwrap_or([0xff; 6]),
            payload: start..actions.bytes.len(),
        });
    }

    fn handle_message(&mut self, _now: Now, from: NodeId, _message: u32, actions: &mut Actions<u32, Seen>) {
        actions.events.push(Seen::Message { shard: self.shard, from: from.0 });
    }

    fn handle_persisted(&mut self, _now: Now, batch: u64, actions: &mut Actions<u32, Seen>) {
        actions.events.push(Seen::Durable { shard: self.shard, batch });
    }

    fn handle_timeout(&mut self, _now: Now, _actions: &mut Actions<u32, Seen>) {}

    fn next_timeout(&self) -> Option<u64> {
        None
    }

    fn set_journal_waiting(&mut self, _waiting_bytes: usize) {}
}

struct Server {
    executors: Vec<Executor<ShardEnd>>,
    ports: Vec<ShardPort>,
    seen: Receiver<Seen>,
}

fn start(journal: &std::path::Path) -> Server {
    let topology = Topology { shards: SHARDS, listeners: 0, senders: 0 };
    let ends = mesh::build::<u32>(topology, LaneSizes { datagram: 16, state: 4096 }).unwrap();
    let (sender, seen) = mpsc::channel();
    let writer = JournalWriter::start().unwrap();
    let file = Arc::new(OpenOptions::new().append(true).create(true).open(journal).unwrap());
    let mut server = Server { executors: Vec::new(), ports: Vec::new(), seen };
    for (shard, ends) in (0..SHARDS).zip(ends) {
        let sender = sender.clone();
        let setup = ShardSetup {
            name: format!("shard-{shard}"),
            placement: Placement::Unpinned,
            spin: Duration::ZERO,
            ends,
            make_engine: move || Echo { shard },
            on_event: move |_, event| sender.send(event).unwrap(),
            journal: Some(JournalFile {
                file: file.clone(),
                durability: Durability::Synced,
                writer: writer.clone(),
            }),
            limits: DriverLimits { receive_batch: 64, state_batch: 256 },
        };
        let (executor, port) = spawn_shard(setup).unwrap();
        server.executors.push(executor.wait_ready().unwrap());
        server.ports.push(port);
    }
    server
}

impl Server {
    fn add(&self, opened: Opened) {
        assert_eq!(opened.steering, Steering::Kernel);
        for (port, socket) in self.ports.iter().zip(opened.sockets) {
            assert!(port.ask(Request::AddSocket(0, Box::new(socket)), Duration::from_secs(5)));
        }
    }

    /// Ends the shards; what the engines saw, from the beginning.
    fn stop(self) -> Vec<Seen> {
        for port in &self.ports {
            assert!(port.ask(Request::Exit, Duration::from_secs(5)), "a shard does not end");
        }
        for executor in self.executors {
            executor.join().unwrap().unwrap();
        }
        self.seen.try_iter().collect()
    }
}

/// The sending end: an AF_PACKET socket on the other interface.
struct Client {
    socket: socket2::Socket,
    interface: HostInterface,
    server_mac: [u8; 6],
    payloads: Vec<Vec<u8>>,
}

impl Client {
    fn new(interface: HostInterface, server_mac: [u8; 6]) -> Self {
        let socket = socket::packet_socket().unwrap();
        socket::set_receive_buffer(&socket, 8 << 20).unwrap();
        socket::bind_packet(&socket, interface.ifindex).unwrap();
        Self { socket, interface, server_mac, payloads: Vec::new() }
    }

    fn send(&mut self, destination: Ipv4Addr) {
        self.payloads = (0..DATAGRAMS).map(message).collect();
        let envelope = Envelope {
            source_mac: self.interface.mac,
            destination_mac: if destination.is_broadcast() { [0xff; 6] } else { self.server_mac },
            source: RELAY,
            destination,
            source_port: 1067,
            destination_port: PORT,
        };
        let mut batch = SendBatch::new(64);
        for chunk in self.payloads.chunks(64) {
            let mut frames = chunk
                .iter()
                .map(|payload| FrameSend { header: frame::header(&envelope, payload).unwrap(), payload });
            assert_eq!(batch.send_frames(&self.socket, &mut frames).sent, chunk.len());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How often each datagram came back.
    fn replies(&self) -> HashMap<u32, u32> {
        let mut batch = ReceiveBatch::new(64, 2048);
        let mut replies = HashMap::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        while replies.len() < DATAGRAMS as usize && Instant::now() < deadline {
            let received = batch.receive(&self.socket, 64).unwrap();
            for index in 0..received {
                let Some(datagram) = batch.frame(index).and_then(frame::parse) else {
                    continue;
                };
                if datagram.destination_port == 1068 {
                    assert_eq!(datagram.source, SERVER);
                    assert_eq!(datagram.source_port, PORT);
                    let number = u32::from_be_bytes(datagram.payload[4..8].try_into().unwrap());
                    *replies.entry(number).or_default() += 1;
                }
            }
            if received == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        replies
    }
}

/// Hardware address of datagram `number`: spread, and different for each.
fn chaddr(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
    [2, a, b, c, d, number as u8]
}

/// A BOOTREQUEST whose transaction id is `number`.
fn message(number: u32) -> Vec<u8> {
    let mut bytes = vec![0; 300];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    bytes[28..34].copy_from_slice(&chaddr(number));
    bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
    bytes
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {}", arguments.join(" "));
}

/// Makes the pair and gives both ends. The client's address exists only as a neighbour, so that a reply in udp
/// mode leaves on the wire.
fn pair() -> (HostInterface, HostInterface) {
    run("ip", &["link", "add", "rtserver", "type", "veth", "peer", "name", "rtclient"]);
    run("ip", &["addr", "add", "192.0.2.1/24", "dev", "rtserver"]);
    run("ip", &["link", "set", "rtserver", "up"]);
    run("ip", &["link", "set", "rtclient", "up"]);
    let find = |name: &str| interface::list().unwrap().into_iter().find(|known| known.name == name).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !find("rtserver").running {
        assert!(Instant::now() < deadline, "the interface does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    let client = find("rtclient");
    let mac = client.mac.map(|octet| format!("{octet:02x}")).join(":");
    run("ip", &["neigh", "add", "192.0.2.77", "lladdr", &mac, "dev", "rtserver"]);
    (find("rtserver"), client)
}

/// Runs the test called `name` again in a namespace of its own; true inside it.
fn in_namespace(name: &str) -> bool {
    if std::env::var_os(INNER).is_some() {
        return true;
    }
    let exe = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .arg("-n")
        .arg(exe)
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(INNER, "1")
        .status()
        .expect("unshare of util-linux");
    assert!(status.success(), "the test failed in its namespace; it needs root");
    false
}

fn check(mode: &str, destination: Ipv4Addr, open: impl Fn(&HostInterface, &SteerHash) -> Opened) {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("rows");
    let hash = SteerHash::new(0x5eed, SHARDS);
    let (server_interface, client_interface) = pair();
    let server = start(&journal);
    let opened = open(&server_interface, &hash);
    let _quiet: Vec<_> = opened.quiet.iter().map(|socket| socket.try_clone().unwrap()).collect();
    server.add(opened);
    let mut client = Client::new(client_interface, server_interface.mac);
    client.send(destination);
    let replies = client.replies();
    let seen = server.stop();

    let mut arrivals: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut per_shard = [0u32; SHARDS as usize];
    let mut messages = 0;
    let mut durable = [0u64; SHARDS as usize];
    for event in seen {
        match event {
            Seen::Datagram { shard, number, meta_mac } => {
                assert_eq!(meta_mac, mode == "raw");
                per_shard[usize::from(shard)] += 1;
                arrivals.entry(number).or_default().push(shard);
            }
            Seen::Message { shard, from } => {
                assert_eq!((from + 1) % SHARDS, shard);
                messages += 1;
            }
            Seen::Durable { shard, batch } => {
                assert!(batch > durable[usize::from(shard)], "batches become durable in order");
                durable[usize::from(shard)] = batch;
            }
        }
    }
    for number in 0..DATAGRAMS {
        let home = hash.shard_of(&chaddr(number));
        assert_eq!(arrivals.get(&number), Some(&vec![home]), "{mode} to {destination}: datagram {number}");
        assert_eq!(replies.get(&number), Some(&1), "{mode} to {destination}: reply {number}");
    }
    assert!(per_shard.iter().all(|count| *count > DATAGRAMS / 8), "unevenly spread: {per_shard:?}");
    assert_eq!(messages, DATAGRAMS);
    let mut rows: Vec<u32> = std::fs::read_to_string(&journal)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().unwrap())
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..DATAGRAMS).collect::<Vec<_>>(), "rows of the lease file");
}

fn raw(interface: &HostInterface, hash: &SteerHash) -> Opened {
    open_raw(interface, &[SERVER], PORT, hash, SHARDS, RING_SLOTS_MAX).unwrap()
}

/// As where there is no memory for rings.
fn raw_by_calls(interface: &HostInterface, hash: &SteerHash) -> Opened {
    open_raw(interface, &[SERVER], PORT, hash, SHARDS, 0).unwrap()
}

fn udp(interface: &HostInterface, hash: &SteerHash) -> Opened {
    open_udp(interface, SERVER, PORT, hash, SHARDS).unwrap()
}

#[test]
fn raw_broadcasts_reach_their_shard_once() {
    if in_namespace("raw_broadcasts_reach_their_shard_once") {
        check("raw", Ipv4Addr::BROADCAST, raw);
    }
}

#[test]
fn raw_unicasts_of_one_relay_reach_their_shard_once() {
    if in_namespace("raw_unicasts_of_one_relay_reach_their_shard_once") {
        check("raw", SERVER, raw);
    }
}

#[test]
fn raw_unicasts_reach_their_shard_once_without_rings() {
    if in_namespace("raw_unicasts_reach_their_shard_once_without_rings") {
        check("raw", SERVER, raw_by_calls);
    }
}

#[test]
fn udp_broadcasts_reach_their_shard_once() {
    if in_namespace("udp_broadcasts_reach_their_shard_once") {
        check("udp", Ipv4Addr::BROADCAST, udp);
    }
}

#[test]
fn udp_unicasts_of_one_relay_reach_their_shard_once() {
    if in_namespace("udp_unicasts_of_one_relay_reach_their_shard_once") {
        check("udp", SERVER, udp);
    }
}

#[test]
fn a_second_server_on_the_same_address_is_refused_in_both_modes() {
    if !in_namespace("a_second_server_on_the_same_address_is_refused_in_both_modes") {
        return;
    }
    let (interface, _) = pair();
    let hash = SteerHash::new(1, SHARDS);
    let first = open_raw(&interface, &[SERVER], PORT, &hash, SHARDS, RING_SLOTS_MAX).unwrap();
    for (mode, second) in [
        ("raw", open_raw(&interface, &[SERVER], PORT, &hash, SHARDS, RING_SLOTS_MAX)),
        ("udp", open_udp(&interface, SERVER, PORT, &hash, SHARDS)),
    ] {
        assert!(second.unwrap_err().to_string().contains("in use"), "{mode} beside raw");
    }
    drop(first);
    let _first = open_udp(&interface, SERVER, PORT, &hash, SHARDS).unwrap();
    for (mode, second) in [
        ("raw", open_raw(&interface, &[SERVER], PORT, &hash, SHARDS, RING_SLOTS_MAX)),
        ("udp", open_udp(&interface, SERVER, PORT, &hash, SHARDS)),
    ] {
        assert!(second.unwrap_err().to_string().contains("in use"), "{mode} beside udp");
    }
}
