//! A sender and a listener over loopback TLS, with the test in the place of shard and control node.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shards::runtime::{Executor, LaneSizes, NodeEnds, Placement, mesh, spawn};
use shards::{Lane, Lease, NodeId, SmallBytes, Topology};

use super::acceptor::{self, Acceptor};
use super::backup::Standings;
use super::ends::{Ends, ListenEnd, PeerEnd, SharedEnds};
use super::listen::{self, ListenContext};
use super::send::{self, SendContext};
use super::setup::HaShared;
use crate::engine::message::{
    Applied, Line, Message, ParkId, PartnerCall, PartnerUpdate, ShardCommandBody, ShardReply, ShardReplyBody,
    UpdateKind, UpdateOutcome,
};
use crate::engine::rules::{Rules, Steering};
use crate::ha::fence::Fence;
use crate::ha::test_support;
use crate::ha::view::{HaView, UpdateMode};
use crate::http::client::Target;
use crate::runtime::pki::{self, Host};
use crate::runtime::refusals::Refusals;
use crate::runtime::tls::{self, TlsFiles, server_config};

mod certificates;
mod credentials;
mod hostile;

const TOPOLOGY: Topology = Topology { shards: 1, listeners: 1, senders: 1 };
const SHARD: NodeId = NodeId(0);
const SENDER: NodeId = NodeId(2);

/// Both HA executors, connected to each other, and the ends of the shard and the control node.
struct Bench {
    shard: NodeEnds<Message>,
    control: NodeEnds<Message>,
    executors: Vec<Executor<Result<(), String>>>,
    acceptor: Option<Acceptor>,
    address: SocketAddr,
    ends: SharedEnds,
    files: TlsFiles,
    standings: Standings,
    _folder: tempfile::TempDir,
}

/// The files of host "one".
fn files_in(folder: &std::path::Path) -> TlsFiles {
    TlsFiles {
        trust_anchor: folder.join("CA.pem"),
        cert_file: folder.join("one_cert.pem"),
        key_file: folder.join("one_key.pem"),
    }
}

/// Both ends over TLS with certificates of one host: peer 0 is the partner, peer 1 a backup in the same place.
fn both_ends(files: &TlsFiles, address: SocketAddr) -> Ends {
    let tls = tls::client_configs(files, Some("server2")).unwrap();
    let peer = |name: &str| PeerEnd {
        name: name.to_owned(),
        address,
        tls: Some(tls.clone()),
        target: Target { host: address.ip().to_string(), auth: None },
    };
    let listen = ListenEnd { tls: Some(server_config(files, true).unwrap()), auth: None, lenient: false };
    Ends { listen, peers: vec![peer("partner"), peer("backup")] }
}

/// Without TLS.
fn plain(ends: &mut Ends) {
    ends.listen.tls = None;
    ends.peers.iter_mut().for_each(|peer| peer.tls = None);
}

fn rules() -> Arc<Rules> {
    let text = br#"{"Dhcp4": {"subnet4": [{"id": 1, "subnet": "10.0.0.0/24", "pools": [{"pool": "10.0.0.1-10.0.0.9"}]}]}}"#;
    let document = config::parse_dhcp4(text, "test.conf").unwrap().document;
    let host = crate::policy::compile::Host::new(&[], 1);
    let snapshot = crate::policy::compile::compile(&document, &host).unwrap().snapshot;
    Arc::new(Rules::at_start(Arc::new(snapshot), &Steering::new(1, 1), 1, &[]))
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// One with ends that `change` has changed.
    fn with(change: impl FnOnce(&mut Ends)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        pki::create(folder.path(), &[Host::parse("one=127.0.0.1").unwrap()], 30).unwrap();
        let files = files_in(folder.path());
        let listener = acceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (producers, mut queues) = acceptor::queues(1);
        let mut nodes = mesh::build::<Message>(TOPOLOGY, LaneSizes { datagram: 2, state: 64 }).unwrap();
        let control = nodes.pop().unwrap();
        let sender = nodes.pop().unwrap();
        let listening = nodes.pop().unwrap();
        let shard = nodes.pop().unwrap();
        let wakers = [listening.waker()];
        let mut ends = both_ends(&files, address);
        change(&mut ends);
        let ends = SharedEnds::new(ends);
        let standings = Standings::new([("partner".to_owned(), false), ("backup".to_owned(), true)]);
        let context = ListenContext {
            relationship: 0,
            accepted: queues.pop().unwrap(),
            shared: HaShared { ends: ends.clone(), standings: standings.clone() },
            restrict_commands: true,
            rules: rules(),
            refusals: Refusals::default(),
        };
        let send = SendContext { ends: ends.clone(), standings: standings.clone(), rules: rules() };
        let executors = vec![
            spawn("listen", Placement::Unpinned, listening, |node| listen::run(node, context)).unwrap(),
            spawn("send", Placement::Unpinned, sender, |node| send::run(node, send)).unwrap(),
        ];
        let executors = executors.into_iter().map(|executor| executor.wait_ready().unwrap()).collect();
        let acceptor = Acceptor::spawn(listener, producers.into_iter().zip(wakers).collect()).unwrap();
        Self {
            shard,
            control,
            executors,
            acceptor: Some(acceptor),
            address,
            ends,
            files,
            standings,
            _folder: folder,
        }
    }

    /// Answers what the listener asks the control node, until `done` says so; how often it did.
    fn answer_control(&self, done: impl Fn() -> bool) -> usize {
        let mut answered = 0;
        while !done() {
            let mut asked = Vec::new();
            self.control.receive(Lane::State, 64, |from, message| asked.push((from, message)));
            for (from, message) in asked {
                let Message::Partner(mut call) = message else { panic!("no call") };
                call.body = b"[ { \"result\": 0, \"text\": \"from control\" } ]".to_vec();
                self.control.try_send(from, Lane::State, Message::Partner(call)).unwrap();
                answered += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        answered
    }

    /// The next message for `node`.
    fn next(node: &NodeEnds<Message>) -> (NodeId, Message) {
        let started = Instant::now();
        let mut next = None;
        while next.is_none() {
            assert!(started.elapsed() < Duration::from_secs(15), "nothing came");
            node.receive(Lane::State, 1, |from, message| next = Some((from, message)));
            std::thread::sleep(Duration::from_millis(1));
        }
        next.unwrap()
    }

    /// Sends an update; `answer` is what the partner's shard says, if it is asked at all.
    fn update(&self, address: [u8; 4], kind: UpdateKind, answer: Option<ShardReplyBody>) -> UpdateOutcome {
        self.update_of(0, address, kind, answer)
    }

    /// The same for any peer.
    fn update_of(
        &self,
        peer: u8,
        address: [u8; 4],
        kind: UpdateKind,
        answer: Option<ShardReplyBody>,
    ) -> UpdateOutcome {
        let park = Some(ParkId { shard: 0, slot: 7, generation: 3 });
        let update = PartnerUpdate {
            relationship: 0,
            peer,
            shard: 0,
            park,
            kind,
            lease: lease(address),
            epoch: 1,
            owed: false,
            outcome: None,
        };
        self.shard.try_send(SENDER, Lane::State, Message::Update(Box::new(update))).unwrap();
        if let Some(body) = answer {
            let (listener, Message::Command(command)) = Self::next(&self.shard) else { panic!("no command") };
            match &command.body {
                ShardCommandBody::PartnerUpdate {
                    lease: got,
                    force_create,
                    by_partner: true,
                    relationship: Some(0),
                } => {
                    assert_eq!(
                        (got.as_ref(), *force_create, kind),
                        (&lease(address), true, UpdateKind::Update)
                    );
                }
                ShardCommandBody::PartnerDelete { address: got, deleted, relationship: Some(0) } => {
                    assert_eq!((*got, kind), (Ipv4Addr::from(address), UpdateKind::Delete));
                    assert_eq!(deleted.as_deref(), Some(&lease(address)));
                }
                other => panic!("{other:?}"),
            }
            let reply = ShardReply { shard: 0, request: command.request, body };
            self.shard.try_send(listener, Lane::State, Message::Reply(Box::new(reply))).unwrap();
        }
        let (SENDER, Message::UpdateDone(done)) = Self::next(&self.shard) else { panic!("no outcome") };
        assert_eq!(done.park, park);
        done.outcome.unwrap()
    }

    /// Gives the sender an update of this address.
    fn send(&self, number: u8) {
        let park = Some(ParkId { shard: 0, slot: u32::from(number), generation: 0 });
        let lease = lease([10, 0, 0, number]);
        let update = PartnerUpdate {
            relationship: 0,
            peer: 0,
            shard: 0,
            park,
            epoch: 1,
            kind: UpdateKind::Update,
            lease,
            owed: false,
            outcome: None,
        };
        self.shard.try_send(SENDER, Lane::State, Message::Update(Box::new(update))).unwrap();
    }

    fn answer(&self, (listener, request, _): (NodeId, u64, u8)) {
        let body = ShardReplyBody::Updated { created: true };
        let reply = ShardReply { shard: 0, request, body };
        self.shard.try_send(listener, Lane::State, Message::Reply(Box::new(reply))).unwrap();
    }

    /// What the partner's shard is asked next: by whom, the number of the question, and the address. Outcomes of updates
    /// before it are passed over.
    fn asked(&self) -> (NodeId, u64, u8) {
        loop {
            match Self::next(&self.shard) {
                (_, Message::UpdateDone(done)) => assert_eq!(done.outcome, Some(UpdateOutcome::Acked)),
                (listener, Message::Command(command)) => {
                    let ShardCommandBody::PartnerUpdate { lease, .. } = &command.body else {
                        panic!("no update")
                    };
                    return (listener, command.request, lease.address.octets()[3]);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The shard is asked for a list next, and has no leases.
    fn list_nothing(&self) {
        let (listener, Message::Command(command)) = Self::next(&self.shard) else { panic!("no list") };
        assert!(matches!(command.body, ShardCommandBody::Page { .. }), "{:?}", command.body);
        let body = ShardReplyBody::Leases(Vec::new());
        let reply = ShardReply { shard: 0, request: command.request, body };
        self.shard.try_send(listener, Lane::State, Message::Reply(Box::new(reply))).unwrap();
    }

    fn done(&self) -> (u32, UpdateOutcome) {
        let (SENDER, Message::UpdateDone(done)) = Self::next(&self.shard) else { panic!("no outcome") };
        (done.park.expect("one that is waited for").slot, done.outcome.unwrap())
    }

    fn publish(&self, view: HaView) {
        self.control.try_send(SENDER, Lane::State, Message::HaView(Arc::new(view))).unwrap();
    }

    fn call(&self, body: &str) -> Result<String, String> {
        self.call_of(0, Line::Private, body)
    }

    fn call_of(&self, peer: u8, line: Line, body: &str) -> Result<String, String> {
        self.hand_call(9, peer, line, body);
        loop {
            let (from, call) = self.called();
            if from == SENDER {
                assert_eq!(call.request, 9);
                let body = String::from_utf8(call.body).unwrap();
                return call.failure.map_or(Ok(body), Err);
            }
            // The listener passes on what it does not answer itself.
            self.answer_call(from, call);
        }
    }

    fn hand_call(&self, request: u64, peer: u8, line: Line, body: &str) {
        let asker = Some(self.control.id());
        let (body, timeout_ms) = (body.into(), 5_000);
        let call = PartnerCall { request, peer, asker, body, timeout_ms, line, failure: None };
        self.control.try_send(SENDER, Lane::State, Message::Partner(Box::new(call))).unwrap();
    }

    /// What the control node is asked or answered next.
    fn called(&self) -> (NodeId, Box<PartnerCall>) {
        let (from, Message::Partner(call)) = Self::next(&self.control) else { panic!("no call") };
        (from, call)
    }

    fn answer_call(&self, listener: NodeId, mut call: Box<PartnerCall>) {
        call.body = b"[ { \"result\": 0, \"text\": \"from control\" } ]".to_vec();
        self.control.try_send(listener, Lane::State, Message::Partner(call)).unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.acceptor = None;
        for node in [NodeId(1), SENDER] {
            self.control.try_send(node, Lane::State, Message::Stop).unwrap();
        }
        for executor in self.executors.drain(..) {
            executor.join().unwrap().unwrap();
        }
    }
}

fn lease(address: [u8; 4]) -> Lease {
    Lease { address: address.into(), hostname: SmallBytes::new(b"h\xc3\xa9"), ..test_support::lease(1) }
}

#[test]
fn updates_reach_the_partners_shard_and_their_outcome_comes_back() {
    let bench = Bench::new();
    assert_ne!(bench.address.port(), 0);
    assert_eq!(bench.shard.id(), SHARD);
    let inside = [10, 0, 0, 5];
    use UpdateKind::{Delete, Update};
    for (address, kind, answer, expected) in [
        (inside, Update, Some(ShardReplyBody::Updated { created: true }), UpdateOutcome::Acked),
        (inside, Update, Some(ShardReplyBody::Updated { created: false }), UpdateOutcome::Acked),
        (inside, Delete, Some(ShardReplyBody::Deleted(true)), UpdateOutcome::Acked),
        (inside, Delete, Some(ShardReplyBody::Deleted(false)), UpdateOutcome::Acked),
        (inside, Update, Some(ShardReplyBody::Missing), UpdateOutcome::Conflict),
        (inside, Update, Some(ShardReplyBody::Busy), UpdateOutcome::Refused),
        ([10, 0, 1, 5], Update, None, UpdateOutcome::Conflict),
    ] {
        assert_eq!(bench.update(address, kind, answer), expected, "{kind:?} {address:?}");
    }
}

#[test]
fn commands_are_answered_by_the_control_node_unless_they_are_forbidden() {
    let bench = Bench::new();
    let heartbeat = r#"{ "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#;
    assert_eq!(bench.call(heartbeat).unwrap(), "[ { \"result\": 0, \"text\": \"from control\" } ]");
    assert_eq!(
        bench.call(r#"{"command": "config-get"}"#).unwrap(),
        r#"{ "result": 403, "text": "Forbidden" }"#
    );
    assert_eq!(bench.call("{").unwrap(), r#"{ "result": 400, "text": "Bad Request" }"#);
    assert_eq!(bench.call(heartbeat).unwrap(), "[ { \"result\": 0, \"text\": \"from control\" } ]");
}

#[test]
fn without_a_partner_an_update_fails_and_says_nothing_else() {
    let mut bench = Bench::new();
    // The listener is gone: what was in its queue is refused by the kernel from now on.
    bench.acceptor = None;
    assert_eq!(bench.update([10, 0, 0, 5], UpdateKind::Update, None), UpdateOutcome::Failed);
    assert!(bench.call("{}").unwrap_err().contains("refused"));
}

/// The shard is not asked: nothing has reached the partner.
#[test]
fn an_update_that_a_view_has_overtaken_is_never_sent() {
    let bench = Bench::new();
    let address = [10, 0, 0, 5];
    let created = || Some(ShardReplyBody::Updated { created: true });
    assert_eq!(bench.update(address, UpdateKind::Update, created()), UpdateOutcome::Acked);
    let fence = Fence { life: 0, generation: 2 };
    let alone = HaView { epoch: 2, updates: UpdateMode::None, fence, ..HaView::default() };
    bench.control.try_send(SENDER, Lane::State, Message::HaView(Arc::new(alone))).unwrap();
    // The answer to this call says that the view has arrived.
    bench.call(r#"{ "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#).unwrap();
    assert_eq!(bench.update(address, UpdateKind::Update, None), UpdateOutcome::Failed);
}

#[test]
fn what_waits_for_a_tandem_partner_goes_in_one_request() {
    let bench = Bench::new();
    bench.publish(HaView { epoch: 1, updates: UpdateMode::Send, partner_batch_max: 8, ..HaView::default() });
    bench.send(1);
    let first = bench.asked();
    for number in 2..=9 {
        bench.send(number);
    }
    // The eight are waiting once the first is answered.
    std::thread::sleep(Duration::from_millis(100));
    bench.answer(first);
    assert_eq!(bench.done(), (1, UpdateOutcome::Acked));
    let (listener, Message::Command(command)) = Bench::next(&bench.shard) else { panic!("no command") };
    let ShardCommandBody::PartnerBatch { updates, .. } = &command.body else { panic!("{command:?}") };
    let expected: Vec<_> = (2..=9).map(|number| (UpdateKind::Update, lease([10, 0, 0, number]))).collect();
    assert_eq!(*updates, expected);
    let reply = ShardReply {
        shard: 0,
        request: command.request,
        body: ShardReplyBody::Applied(Applied { written: 8, ..Applied::default() }),
    };
    bench.shard.try_send(listener, Lane::State, Message::Reply(Box::new(reply))).unwrap();
    let done: Vec<_> = (2..=9).map(|_| bench.done()).collect();
    assert_eq!(done, (2..=9).map(|slot| (slot, UpdateOutcome::Acked)).collect::<Vec<_>>());
}

#[test]
fn updates_that_wait_come_back_when_none_are_to_be_sent_any_more() {
    let bench = Bench::new();
    for number in 1..=3 {
        bench.send(number);
    }
    let first = bench.asked();
    std::thread::sleep(Duration::from_millis(100));
    let fence = Fence { life: 0, generation: 2 };
    bench.publish(HaView { epoch: 2, fence, ..HaView::default() });
    assert_eq!([bench.done(), bench.done()], [(2, UpdateOutcome::Failed), (3, UpdateOutcome::Failed)]);
    bench.answer(first);
    assert_eq!(bench.done(), (1, UpdateOutcome::Acked));
}

/// Method: another host opens more connections than there are, says nothing on them, and keeps them.
#[test]
fn a_host_that_is_not_the_partner_cannot_keep_the_partner_out() {
    let bench = Bench::new();
    let strangers: Vec<socket2::Socket> = (0..300)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let source: SocketAddr = "127.0.0.2:0".parse().unwrap();
            socket.bind(&source.into()).unwrap();
            socket.connect(&bench.address.into()).unwrap();
            socket
        })
        .collect();
    // All of them are accepted, or closed, before the partner comes.
    std::thread::sleep(Duration::from_millis(300));
    let created = Some(ShardReplyBody::Updated { created: true });
    assert_eq!(bench.update([10, 0, 0, 5], UpdateKind::Update, created), UpdateOutcome::Acked);
    drop(strangers);
}

#[test]
fn every_peer_gets_what_is_for_it_and_what_a_backup_misses_is_known() {
    let bench = Bench::new();
    let (inside, outside) = ([10, 0, 0, 5], [10, 0, 1, 5]);
    let created = || Some(ShardReplyBody::Updated { created: true });
    let lost = |bench: &Bench| {
        let status = bench.standings.status().unwrap();
        (status[0]["updates-lost"].as_u64().unwrap(), status[0]["needs-copy"].as_bool().unwrap())
    };
    let heartbeat = r#"{ "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#;
    let fence = Fence { life: 0, generation: 2 };
    let alone = HaView { epoch: 2, updates: UpdateMode::None, fence, ..HaView::default() };
    bench.publish(alone);
    for peer in [0, 1] {
        assert!(bench.call_of(peer, Line::Shared, heartbeat).unwrap().contains("from control"), "{peer}");
    }
    assert!(bench.call_of(2, Line::Shared, heartbeat).unwrap_err().contains("no such peer"));
    // The view that overtakes updates for the partner (of epoch 1) leaves those for a backup alone.
    assert_eq!(bench.update_of(0, inside, UpdateKind::Update, None), UpdateOutcome::Failed);
    assert_eq!(bench.update_of(1, inside, UpdateKind::Update, created()), UpdateOutcome::Acked);
    assert_eq!(lost(&bench), (0, false));
    assert_eq!(bench.update_of(1, outside, UpdateKind::Update, None), UpdateOutcome::Conflict);
    assert_eq!(lost(&bench), (1, true));
    bench.standings.copied(1);
    assert_eq!(lost(&bench), (1, false));
}

#[test]
fn no_line_waits_for_an_answer_of_another() {
    let bench = Bench::new();
    let lines = [Line::Copy, Line::Private, Line::Shared];
    let body = r#"{ "command": "status-get", "service": [ "dhcp4" ] }"#;
    let mut unanswered = Vec::new();
    for (number, line) in (0u64..3).zip(lines) {
        bench.hand_call(number, 0, line, body);
        let (from, call) = bench.called();
        assert_ne!(from, SENDER, "{line:?} arrives while the others wait");
        unanswered.push((number, from, call));
    }
    for (number, listener, call) in unanswered.into_iter().rev() {
        bench.answer_call(listener, call);
        let (from, answered) = bench.called();
        assert_eq!((from, answered.request), (SENDER, number));
    }
}

/// Each may hold all leases.
#[test]
fn lists_of_leases_are_made_one_after_the_other_and_nothing_else_waits_for_them() {
    let bench = Bench::new();
    let page = r#"{ "command": "lease4-get-page", "arguments": { "from": "start", "limit": 4294967295 } }"#;
    bench.hand_call(1, 0, Line::Copy, page);
    let (listener, Message::Command(first)) = Bench::next(&bench.shard) else { panic!("no list") };
    bench.hand_call(2, 0, Line::Private, r#"{ "command": "lease4-get-all" }"#);
    // An update and a heartbeat come through meanwhile, and the shard is not asked for the second list before them.
    bench.hand_call(3, 0, Line::Shared, r#"{ "command": "ha-heartbeat" }"#);
    let (from, heartbeat) = bench.called();
    bench.answer_call(from, heartbeat);
    assert_eq!(bench.called().1.request, 3);
    let created = Some(ShardReplyBody::Updated { created: true });
    assert_eq!(bench.update([10, 0, 0, 5], UpdateKind::Update, created), UpdateOutcome::Acked);
    for (number, command) in [(1, Some(first)), (2, None)] {
        let command = command.unwrap_or_else(|| {
            let (_, Message::Command(command)) = Bench::next(&bench.shard) else { panic!("no list") };
            command
        });
        assert!(matches!(command.body, ShardCommandBody::Page { .. }), "{number}");
        let (request, body) = (command.request, ShardReplyBody::Leases(Vec::new()));
        let reply = ShardReply { shard: 0, request, body };
        bench.shard.try_send(listener, Lane::State, Message::Reply(Box::new(reply))).unwrap();
        let (from, call) = bench.called();
        assert_eq!((from, call.request), (SENDER, number));
        assert!(String::from_utf8(call.body).unwrap().contains("0 IPv4 lease(s) found"), "{number}");
    }
}

#[test]
fn what_a_listener_passes_on_names_the_peer_at_its_address() {
    for (partner, expected) in [("127.0.0.1:1", 0), ("127.0.0.2:1", 1)] {
        let bench = Bench::with(|ends| ends.peers[0].address = partner.parse().unwrap());
        bench.hand_call(0, 1, Line::Shared, r#"{ "command": "dhcp-enable" }"#);
        let (listener, call) = bench.called();
        assert_eq!(call.peer, expected, "the first at this address");
        bench.answer_call(listener, call);
        bench.called();
    }
}

#[test]
fn a_backup_out_of_reach_is_left_alone_and_lacks_what_was_for_it() {
    // Nobody listens there.
    let bench = Bench::with(|ends| ends.peers[1].address = "127.0.0.1:1".parse().unwrap());
    for _ in 0..2 {
        assert_eq!(bench.update_of(1, [10, 0, 0, 5], UpdateKind::Update, None), UpdateOutcome::Failed);
    }
    let status = bench.standings.status().unwrap();
    assert_eq!((&status[0]["updates-lost"], &status[0]["needs-copy"]), (&2.into(), &true.into()));
    let created = Some(ShardReplyBody::Updated { created: true });
    assert_eq!(bench.update([10, 0, 0, 5], UpdateKind::Update, created), UpdateOutcome::Acked);
}

/// A request that was given up must not arrive behind those that follow it: whatever the kernel has not sent is forgotten.
#[test]
fn a_connection_whose_request_is_given_up_is_reset() {
    use std::io::Read;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let bench = Bench::with(|ends| (ends.peers[0].address, ends.peers[0].tls) = (address, None));
    let asker = Some(bench.control.id());
    let (body, line) = (br#"{ "command": "ha-heartbeat" }"#.to_vec(), Line::Shared);
    let call = PartnerCall { request: 1, peer: 0, asker, body, timeout_ms: 200, line, failure: None };
    bench.control.try_send(SENDER, Lane::State, Message::Partner(Box::new(call))).unwrap();
    let (mut connection, _) = silent.accept().unwrap();
    let (_, call) = bench.called();
    assert!(call.failure.is_some_and(|failure| failure.contains("timed out")));
    let ended = connection.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
}
