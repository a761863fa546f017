//! The machine against replies made by hand.

use std::sync::Arc;

use tandem::wire::Query;
use tandem::wire::codes;
use tandem::wire::reply::{MessageHeader, MessageWriter};

use super::*;
use crate::check::Claims;
use crate::identity::{Identity, IdentityKind, Mac};
use crate::recorder::Counters;
use crate::scenario::Scenario;
use crate::scenario::choose::Shares;
use crate::template::{Content, Templates};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const SECOND: u64 = 1_000_000_000;

struct Bench {
    machine: Machine,
    outbox: Outbox,
    claims: Arc<Claims>,
    now_ns: u64,
}

impl Bench {
    fn new(scenario: Scenario) -> Self {
        let identity = Identity { base: Mac::default(), kind: IdentityKind::Mac };
        let claims = Arc::new(Claims::new(10));
        let parts = Parts {
            sender: (3, 4),
            templates: Templates::new(identity, &Content::default()).unwrap(),
            relays: Vec::new(),
            clients: 2,
            drop_ns: SECOND,
            offer_only: false,
            under_way_max: 64,
            first_number: 0xff_ffff,
            claims: Arc::clone(&claims),
        };
        let phase = Phase::new(&scenario.definition(), Shares::default(), 2, 0, 0);
        Self { machine: Machine::new(parts, phase), outbox: Outbox::new(), claims, now_ns: SECOND }
    }

    fn begin(&mut self) {
        let start = Start { at_ns: self.now_ns, measured: true };
        self.machine.begin(start, self.now_ns, &mut self.outbox);
    }

    /// The message that was sent, if one was.
    fn sent(&mut self) -> Option<(Query<'static>, Route)> {
        let message = self.outbox.messages().next().map(|(bytes, route)| (bytes.to_vec(), *route));
        self.outbox.clear();
        let (bytes, route) = message?;
        Some((Query::decode(bytes.leak()).unwrap(), route))
    }

    fn reply(&mut self, to: &Query<'_>, message_type: MessageType, yiaddr: Ipv4Addr, server: Ipv4Addr) {
        let header = MessageHeader { yiaddr, ..MessageHeader::reply_to(to) };
        let mut octets = [0; 400];
        let mut writer = MessageWriter::new(&mut octets, &header, message_type).unwrap();
        writer.address(codes::DHCP_SERVER_IDENTIFIER, server).unwrap();
        writer.number(codes::DHCP_LEASE_TIME, 3600).unwrap();
        let len = writer.finish().unwrap();
        self.machine.handle_reply(&octets[..len], self.now_ns, &mut self.outbox);
    }

    /// A client gets `address`; the DISCOVER and the REQUEST.
    fn lease(&mut self, address: Ipv4Addr) -> (Query<'static>, Query<'static>) {
        self.begin();
        let (discover, _) = self.sent().unwrap();
        self.now_ns += 1000;
        self.reply(&discover, MessageType::Offer, address, SERVER);
        let (request, _) = self.sent().unwrap();
        self.now_ns += 1000;
        self.reply(&request, MessageType::Ack, address, SERVER);
        (discover, request)
    }

    fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
        self.machine.handle_timeouts(self.now_ns, &mut self.outbox);
    }

    fn counters(&self) -> Counters {
        Counters { received: 0, ..self.machine.recorder.counters }
    }
}

#[test]
fn a_dora_completes_and_its_latencies_are_kept_by_leg() {
    let mut bench = Bench::new(Scenario::Dora);
    let (discover, request) = bench.lease(ADDRESS);
    assert_eq!(discover.xid(), 0x03ff_ffff, "the sender is the first octet");
    assert_eq!(request.xid(), discover.xid());
    assert_eq!((request.requested_address(), request.server_id()), (Some(ADDRESS), Some(SERVER)));
    let expected = Counters { started: 1, completed: 1, offers: 1, acks: 1, ..Counters::default() };
    assert_eq!(bench.counters(), expected);
    let latencies = &bench.machine.recorder.latencies;
    assert_eq!(
        (latencies.offer_raw.count(), latencies.ack_raw.count(), latencies.exchange.count()),
        (1, 1, 1)
    );
    assert_eq!((bench.machine.under_way(), bench.machine.holders()), (0, 1));
    bench.begin();
    let (next, _) = bench.sent().unwrap();
    assert_eq!(next.xid(), 0x0300_0000, "numbers begin again");
    assert_eq!(next.chaddr(), Mac([2, 0, 12, 0, 0, 7]).0, "client 1 of sender 3 of 4");
}

#[test]
fn what_is_not_the_answer_is_counted_by_what_it_is() {
    type Case = (&'static str, fn(&mut Bench, &Query<'_>, &Query<'_>), fn(&Counters) -> u64);
    let cases: [Case; 5] = [
        (
            "extra",
            |bench, discover, _| bench.reply(discover, MessageType::Offer, ADDRESS, OTHER),
            |c| c.extra,
        ),
        (
            "malformed",
            |bench, _, _| bench.machine.handle_reply(b"", bench.now_ns, &mut bench.outbox),
            |c| c.malformed,
        ),
        (
            "orphan",
            |bench, _, request| {
                let mut bytes = request.bytes().to_vec();
                bytes[33] ^= 1;
                bench.reply(&Query::decode(&bytes).unwrap(), MessageType::Ack, ADDRESS, SERVER);
            },
            |c| c.orphans,
        ),
        (
            "wrong server",
            |bench, _, _| {
                bench.begin();
                let (discover, _) = bench.sent().unwrap();
                bench.reply(&discover, MessageType::Offer, OTHER, SERVER);
                let (request, _) = bench.sent().unwrap();
                bench.reply(&request, MessageType::Ack, OTHER, OTHER);
            },
            |c| c.wrong_server,
        ),
        (
            "duplicate",
            |bench, _, _| {
                bench.lease(ADDRESS);
            },
            |c| c.duplicates,
        ),
    ];
    for (case, act, counter) in cases {
        let mut bench = Bench::new(Scenario::Dora);
        let (discover, request) = bench.lease(ADDRESS);
        assert_eq!(counter(&bench.counters()), 0, "{case}");
        act(&mut bench, &discover, &request);
        assert_eq!(counter(&bench.counters()), 1, "{case}");
    }
}

#[test]
fn an_exchange_without_an_answer_is_given_up_once_and_what_comes_later_is_late() {
    let mut bench = Bench::new(Scenario::Dora);
    bench.begin();
    let (discover, _) = bench.sent().unwrap();
    assert_eq!(bench.machine.next_timeout_ns(), Some(2 * SECOND));
    bench.pass(SECOND - 1);
    assert_eq!(bench.machine.under_way(), 1);
    bench.pass(1);
    assert_eq!((bench.machine.under_way(), bench.counters().offers_missing), (0, 1));
    bench.reply(&discover, MessageType::Offer, ADDRESS, SERVER);
    bench.pass(SECOND);
    assert_eq!((bench.counters().late, bench.counters().drops()), (1, 1));
    bench.begin();
    let (discover, _) = bench.sent().unwrap();
    bench.reply(&discover, MessageType::Offer, ADDRESS, SERVER);
    assert!(bench.sent().is_some());
    bench.machine.give_up_all();
    assert_eq!((bench.counters().acks_missing, bench.counters().drops()), (1, 2));
}

#[test]
fn a_client_that_tries_again_backs_off_and_begins_anew_when_its_server_is_gone() {
    let mut bench = Bench::new(Scenario::Avalanche);
    bench.begin();
    let (discover, _) = bench.sent().unwrap();
    bench.pass(3 * SECOND - 1);
    assert!(bench.sent().is_none(), "not before 4 s less jitter");
    bench.pass(2 * SECOND + 1);
    let (again, _) = bench.sent().unwrap();
    assert_eq!((again.xid(), again.secs()), (discover.xid(), 5));
    bench.pass(7 * SECOND - 1);
    assert!(bench.sent().is_none(), "the second wait is longer");
    bench.pass(2 * SECOND);
    let (third, _) = bench.sent().unwrap();
    assert_eq!(third.secs(), 13);
    bench.reply(&third, MessageType::Offer, ADDRESS, SERVER);
    let mut types = Vec::new();
    for _ in 0..4 {
        let (message, _) = bench.sent().unwrap();
        types.push(message.message_type().unwrap());
        bench.pass(65 * SECOND);
    }
    use MessageType::{Discover, Request};
    assert_eq!(types, [Request, Request, Request, Discover]);
    assert_eq!((bench.counters().drops(), bench.machine.under_way()), (0, 1));
}

#[test]
fn leases_are_extended_to_their_server_refused_and_given_back() {
    let mut bench = Bench::new(Scenario::Dora);
    bench.lease(ADDRESS);
    bench.machine.begin_phase(Phase::new(&Scenario::Renew.definition(), Shares::default(), 2, 0, 0));
    bench.begin();
    let (renew, route) = bench.sent().unwrap();
    assert_eq!((renew.ciaddr(), renew.server_id(), renew.requested_address()), (ADDRESS, None, None));
    assert_eq!((route.server, route.source), (Some(SERVER), ADDRESS));
    bench.reply(&renew, MessageType::Nak, Ipv4Addr::UNSPECIFIED, SERVER);
    assert_eq!((bench.counters().naks, bench.machine.holders()), (1, 0));

    bench.machine.begin_phase(Phase::new(&Scenario::Avalanche.definition(), Shares::default(), 2, 0, 0));
    bench.begin();
    let (discover, _) = bench.sent().unwrap();
    bench.reply(&discover, MessageType::Offer, ADDRESS, SERVER);
    let (request, _) = bench.sent().unwrap();
    bench.reply(&request, MessageType::Nak, Ipv4Addr::UNSPECIFIED, SERVER);
    assert!(bench.sent().is_none(), "not at once");
    bench.now_ns += AFTER_NAK_NS;
    bench.machine.handle_timeouts(bench.now_ns, &mut bench.outbox);
    let (again, _) = bench.sent().unwrap();
    assert_eq!(again.message_type(), Some(MessageType::Discover), "refused, and from the beginning");
    assert_eq!((bench.counters().naks, bench.machine.under_way()), (1, 1));

    bench.machine.begin_phase(Phase::new(&Scenario::NearFull.definition(), Shares::default(), 2, 0, 0));
    bench.lease(ADDRESS);
    let (release, route) = bench.sent().unwrap();
    assert_eq!(release.message_type(), Some(MessageType::Release));
    assert_eq!((release.ciaddr(), release.server_id(), route.server), (ADDRESS, Some(SERVER), Some(SERVER)));
    assert_eq!((bench.machine.holders(), bench.counters().releases), (0, 1));
    assert_eq!(bench.claims.claim(ADDRESS, 99, 0, 10), Claimed::Alone, "nobody's now");
}

#[test]
fn a_warm_up_leaves_no_trace_but_the_lease() {
    let mut bench = Bench::new(Scenario::Dora);
    bench.machine.begin_phase(Phase::new(&Scenario::Dora.definition(), Shares::default(), 2, 0, u64::MAX));
    let start = Start { at_ns: bench.now_ns, measured: false };
    bench.machine.begin(start, bench.now_ns, &mut bench.outbox);
    let (discover, _) = bench.sent().unwrap();
    bench.reply(&discover, MessageType::Offer, ADDRESS, SERVER);
    let (request, _) = bench.sent().unwrap();
    bench.reply(&request, MessageType::Ack, ADDRESS, SERVER);
    bench.machine.handle_reply(b"", bench.now_ns, &mut bench.outbox);
    assert_eq!(bench.machine.recorder.counters, Counters::default());
    assert_eq!((bench.machine.recorder.latencies.exchange.count(), bench.machine.holders()), (0, 1));
}

#[test]
fn more_exchanges_than_there_is_room_for_are_not_started_and_said_so() {
    let mut bench = Bench::new(Scenario::Dora);
    for _ in 0..65 {
        bench.begin();
        bench.outbox.clear();
    }
    let counters = bench.counters();
    assert_eq!((counters.started, counters.not_started, counters.overlaps), (64, 1, 62));
}

#[test]
fn clients_that_began_together_part_within_the_jitter() {
    let waits: Vec<u64> = (0..1000).map(|xid| jittered(BACKOFF_NS[0], xid, 1)).collect();
    assert!(waits.iter().all(|wait| (3 * SECOND..5 * SECOND).contains(wait)));
    let early = waits.iter().filter(|wait| **wait < 4 * SECOND).count();
    assert!((400..600).contains(&early), "{early}");
}
