//! Tables over the bytes of replies: header (a.5), options (a.6), lifetimes (a.7) and destinations (a.9).

use std::net::Ipv4Addr;

use super::*;
use crate::client::{Client, ClientConfig, ClientEvent, Relay, Route};
use crate::dhcp4::select;
use crate::dhcp4::test_support::{
    MAC, NONE, QueryBuilder, SERVER, direct, option, snapshot, subnet, unicast,
};
use crate::policy::{ConfiguredOption, LifetimeTriplet, Scope, VendorOptions};

const LEASED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const RELAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 150);
const BROADCAST_MAC: [u8; 6] = [0xff; 6];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Ack,
    Inform,
    Nak,
    Offer,
}

impl Kind {
    fn query(self) -> QueryBuilder {
        QueryBuilder::new(match self {
            Self::Offer => MessageType::Discover,
            Self::Ack | Self::Nak => MessageType::Request,
            Self::Inform => MessageType::Inform,
        })
    }
}

/// Builds a reply of `kind` with a lifetime of 3600 s and returns its bytes and destination.
fn reply(
    kind: Kind,
    query: &QueryBuilder,
    meta: &DatagramMeta,
    snapshot: &Snapshot,
) -> (Vec<u8>, Destination) {
    let bytes = query.bytes();
    let query = Query::decode(&bytes).unwrap();
    let subnet = &snapshot.subnets[0];
    let grant = Grant { address: LEASED, lifetime_s: 3600 };
    let names = Names::decide(&query, LEASED);
    let mut buffer = ReplyBuffer::new();
    // What the buffer held before must not show through.
    buffer.octets_mut()[..2000].fill(0xaa);
    let built = match kind {
        Kind::Offer => offer(&query, meta, snapshot, subnet, &grant, &names, &mut buffer),
        Kind::Ack => ack(&query, meta, snapshot, subnet, &grant, &names, &mut buffer),
        Kind::Nak => nak(&query, meta, snapshot, Some(subnet), &mut buffer),
        Kind::Inform => inform_ack(&query, meta, snapshot, Some(subnet), &mut buffer),
    }
    .unwrap();
    (buffer.message(built.len).to_vec(), built.destination)
}

fn codes_of(bytes: &[u8]) -> Vec<u8> {
    Query::decode(bytes).unwrap().option_codes().collect()
}

#[test]
fn headers_are_those_of_section_a_5() {
    let mut configured = subnet(1, 2, vec![]);
    configured.next_server = Ipv4Addr::new(192, 0, 2, 3);
    configured.server_hostname = b"boot".to_vec();
    configured.boot_file_name = b"kernel".to_vec();
    let snapshot = snapshot(vec![configured]);
    // Kind, flags of the reply, ciaddr, yiaddr, giaddr and hops, fields set. An INFORM with ciaddr is answered past
    // the relay.
    let table = [
        (Kind::Offer, 0x8001, NONE, LEASED, (RELAY, 1), true),
        (Kind::Ack, 0x8001, CLIENT, LEASED, (RELAY, 1), true),
        (Kind::Inform, 0x8001, CLIENT, NONE, (NONE, 0), true),
        (Kind::Nak, 0x8000, NONE, NONE, (RELAY, 1), false),
    ];
    for (kind, flags, ciaddr, yiaddr, (giaddr, hops), fields) in table {
        let query = kind.query().ciaddr(CLIENT).giaddr(RELAY).header(|header| header.flags = 0x8001);
        let (bytes, _) = reply(kind, &query, &unicast(RELAY, 67), &snapshot);
        let message = Query::decode(&bytes).unwrap();
        assert_eq!(message.op(), codes::BOOTREPLY, "{kind:?}");
        assert_eq!((message.htype(), message.hlen(), message.hops()), (1, 6, hops), "{kind:?}");
        assert_eq!((message.xid(), message.secs()), (0x1234_5678, 0), "{kind:?}");
        assert_eq!(message.flags(), flags, "{kind:?}");
        assert_eq!((message.ciaddr(), message.yiaddr()), (ciaddr, yiaddr), "{kind:?}");
        assert_eq!(message.giaddr(), giaddr, "{kind:?}");
        assert_eq!(message.chaddr_field(), query.header.chaddr, "{kind:?}");
        let siaddr = if fields { [192, 0, 2, 3] } else { [0; 4] };
        assert_eq!(bytes[20..24], siaddr, "{kind:?}: siaddr");
        let (sname, file): (&[u8], &[u8]) = if fields { (b"boot\0", b"kernel\0") } else { (&[0], &[0]) };
        assert!(bytes[44..].starts_with(sname) && bytes[108..].starts_with(file), "{kind:?}: sname, file");
    }
}

#[test]
fn a_direct_inform_is_answered_with_hops_0_and_a_relayed_one_without_ciaddr_with_the_b_flag() {
    let snapshot = snapshot(vec![subnet(1, 2, vec![])]);
    let direct_query = Kind::Inform.query().ciaddr(CLIENT).header(|header| header.hops = 3);
    let (bytes, _) = reply(Kind::Inform, &direct_query, &unicast(CLIENT, 68), &snapshot);
    assert_eq!(Query::decode(&bytes).unwrap().hops(), 0);
    let relayed = Kind::Inform.query().giaddr(RELAY);
    let (bytes, _) = reply(Kind::Inform, &relayed, &unicast(RELAY, 67), &snapshot);
    let message = Query::decode(&bytes).unwrap();
    assert_eq!((message.flags(), message.hops()), (FLAG_BROADCAST, 1));
}

/// Case, reply, query, receive information, raw sockets; address, port and MAC of the destination.
type DestinationRow = (&'static str, Kind, QueryBuilder, DatagramMeta, bool, (Ipv4Addr, u16, [u8; 6]));

fn destinations() -> Vec<DestinationRow> {
    use Kind::{Ack, Inform, Nak, Offer};
    let q = Kind::query;
    let relay = |port| unicast(RELAY, port);
    let (client, leased) = (unicast(CLIENT, 68), unicast(LEASED, 68));
    let all = Ipv4Addr::BROADCAST;
    vec![
        ("1 INFORM with ciaddr", Inform, q(Inform).ciaddr(CLIENT), client, true, (CLIENT, 68, MAC)),
        ("1 and relayed", Inform, q(Inform).ciaddr(CLIENT).giaddr(RELAY), relay(67), true, (CLIENT, 68, MAC)),
        ("2 INFORM relayed", Inform, q(Inform).giaddr(RELAY), relay(67), true, (RELAY, 67, MAC)),
        ("3 INFORM by source", Inform, q(Inform), client, true, (CLIENT, 68, MAC)),
        ("4 relayed", Offer, q(Offer).giaddr(RELAY), relay(1067), true, (RELAY, 67, MAC)),
        ("4 B flag", Offer, q(Offer).giaddr(RELAY).broadcast(), relay(67), true, (RELAY, 67, MAC)),
        ("4 port", Ack, q(Ack).giaddr(RELAY).option(82, &[19, 0]), relay(1067), true, (RELAY, 1067, MAC)),
        ("4 NAK", Nak, q(Nak).giaddr(RELAY), relay(67), true, (RELAY, 67, MAC)),
        ("4 ciaddr", Ack, q(Ack).giaddr(RELAY).ciaddr(LEASED), relay(67), true, (RELAY, 67, MAC)),
        ("4 giaddr 255.255.255.255 is none", Offer, q(Offer).giaddr(all), direct(), true, (LEASED, 68, MAC)),
        ("5 renew", Ack, q(Ack).ciaddr(LEASED), leased, true, (LEASED, 68, MAC)),
        ("5 B flag", Ack, q(Ack).ciaddr(LEASED).broadcast(), leased, true, (LEASED, 68, BROADCAST_MAC)),
        ("5 NAK to a rebind", Nak, q(Nak).ciaddr(LEASED), direct(), true, (LEASED, 68, MAC)),
        ("6 NAK", Nak, q(Nak), direct(), true, (all, 68, MAC)),
        ("6 NAK, B flag", Nak, q(Nak).broadcast(), direct(), true, (all, 68, BROADCAST_MAC)),
        ("7 B flag", Offer, q(Offer).broadcast(), direct(), true, (all, 68, BROADCAST_MAC)),
        ("7 PKT-65 udp mode", Offer, q(Offer), direct(), false, (all, 68, MAC)),
        ("8 OFFER", Offer, q(Offer), direct(), true, (LEASED, 68, MAC)),
        ("8 ACK", Ack, q(Ack), direct(), true, (LEASED, 68, MAC)),
    ]
}

#[test]
fn replies_go_where_section_a_9_says() {
    for (case, kind, query, meta, raw_sockets, expected) in destinations() {
        let mut snapshot = snapshot(vec![subnet(1, 2, vec![])]);
        snapshot.raw_sockets = raw_sockets;
        let (_, to) = reply(kind, &query, &meta, &snapshot);
        assert_eq!((to.address, to.port, to.mac), expected, "{case}");
        // PKT-66: the address it was sent to, or the socket's own.
        assert_eq!((to.source, to.ifindex, to.socket), (SERVER, 3, 0), "{case}");
        snapshot.forced_client_port = Some(1068);
        assert_eq!(reply(kind, &query, &meta, &snapshot).1.port, 1068, "{case}: PKT-1");
    }
}

#[test]
fn a_reply_leaves_from_the_address_the_query_was_sent_to() {
    let second = Ipv4Addr::new(192, 0, 2, 200);
    let meta = DatagramMeta { destination: second, ..direct() };
    let (bytes, to) =
        reply(Kind::Ack, &Kind::Ack.query().ciaddr(LEASED), &meta, &snapshot(vec![subnet(1, 2, vec![])]));
    assert_eq!(to.source, second);
    assert_eq!(Query::decode(&bytes).unwrap().server_id(), Some(second), "PKT-49");
    let payload = 10..10 + bytes.len();
    let transmit = to.transmit(payload.clone());
    assert_eq!((transmit.source, transmit.destination, transmit.payload), (second, LEASED, payload));
}

/// Case, reply, query, configured options; codes of the reply in order.
type OptionsRow = (&'static str, Kind, QueryBuilder, Vec<ConfiguredOption>, Vec<u8>);

const CLIENT_ID: &[u8] = &[1, 2, 0, 0, 0, 0, 0x11];

fn v4(code: u8) -> ConfiguredOption {
    option(code, &[192, 0, 2, 8])
}

fn always(code: u8) -> ConfiguredOption {
    ConfiguredOption { always_send: true, ..v4(code) }
}

fn never(code: u8) -> ConfiguredOption {
    ConfiguredOption { never_send: true, ..v4(code) }
}

/// A query that asks for every option there is.
fn asks_all(kind: Kind) -> QueryBuilder {
    kind.query().option(55, &(1..=254).collect::<Vec<_>>())
}

fn chosen_options() -> Vec<OptionsRow> {
    use Kind::{Ack, Inform, Nak, Offer};
    let q = Kind::query;
    let seen = q(Offer).option(82, &[1, 1, 7]).option(61, CLIENT_ID);
    let seen = seen.option(55, &[1, 3, 6, 15, 51, 54, 58, 59, 12, 119]);
    let seen_configured = vec![v4(3), v4(6), v4(15), always(42), v4(119), v4(120)];
    let refused = asks_all(Nak).option(12, b"host").option(61, CLIENT_ID);
    let refused = refused.option(118, &[192, 0, 2, 0]).option(82, &[1, 1, 7]);
    let both = ConfiguredOption { always_send: true, ..never(44) };
    let protocol = [50, 52, 53, 55, 57, 61, 82, 118].map(v4).to_vec();
    let inform = asks_all(Inform).ciaddr(CLIENT);
    let basic = vec![v4(3), v4(6), v4(15), v4(42)];
    let twice = q(Ack).option(55, &[42]).option(55, &[44]);
    let named = q(Ack).option(12, b"h").option(81, &[0, 0, 0, b'h']);
    vec![
        ("PKT-45 nothing configured", Offer, q(Offer), vec![], vec![53, 1, 51, 54]),
        ("PKT-45 basic options unasked", Ack, q(Ack), basic, vec![53, 1, 3, 6, 15, 51, 54]),
        ("PKT-40 Kea's order", Offer, seen, seen_configured, vec![53, 1, 3, 6, 15, 42, 51, 54, 61, 119, 82]),
        ("PKT-44 two instances", Ack, twice, vec![v4(42), v4(43), v4(44)], vec![53, 1, 42, 44, 51, 54]),
        ("PKT-44 never wins", Ack, asks_all(Ack), vec![never(42), never(3), both], vec![53, 1, 51, 54]),
        ("PKT-44 INFORM without mask", Inform, inform.clone(), vec![], vec![53, 54]),
        ("OPT-4 INFORM", Inform, inform, vec![v4(1), v4(51), v4(58)], vec![53, 1, 51, 54, 58]),
        ("OPT-3 of no effect", Ack, asks_all(Ack), protocol, vec![53, 1, 51, 54]),
        ("PKT-47 118", Offer, q(Offer).option(118, &[192, 0, 2, 0]), vec![], vec![53, 1, 51, 54, 118]),
        ("PKT-47 empty 82", Offer, q(Offer).option(82, &[]), vec![], vec![53, 1, 51, 54]),
        ("PKT-48 NAK", Nak, refused, vec![v4(3), v4(6), always(42)], vec![53, 54, 61, 118, 82]),
        ("PKT-83 unasked", Ack, q(Ack).option(12, b"host"), vec![], vec![53, 1, 12, 51, 54]),
        ("PKT-83 configured", Ack, q(Ack).option(55, &[12]), vec![v4(12)], vec![53, 1, 12, 51, 54]),
        ("PKT-80 81 without 12", Ack, named, vec![], vec![53, 1, 51, 54, 81]),
    ]
}

#[test]
fn options_are_chosen_and_ordered_as_section_a_6_says() {
    for (case, kind, query, configured, expected) in chosen_options() {
        let snapshot = snapshot(vec![subnet(1, 2, configured)]);
        let (bytes, _) = reply(kind, &query, &direct(), &snapshot);
        assert_eq!(codes_of(&bytes), expected, "{case}");
        assert_eq!(bytes.last(), Some(&codes::END), "{case}");
        let sent = query.bytes();
        let (asked, answered) = (Query::decode(&sent).unwrap(), Query::decode(&bytes).unwrap());
        for code in [61, 118] {
            assert_eq!(answered.option(code), asked.option(code), "{case}: PKT-47 echo of {code}");
        }
        assert_eq!(answered.relay_info(), asked.relay_info(), "{case}: PKT-47 echo of 82");
    }
}

#[test]
fn the_client_id_is_not_echoed_where_the_configuration_says_so() {
    let mut snapshot = snapshot(vec![subnet(1, 2, vec![])]);
    snapshot.echo_client_id = false;
    let (bytes, _) = reply(Kind::Ack, &Kind::Ack.query().option(61, &[1, 2]), &direct(), &snapshot);
    assert_eq!(codes_of(&bytes), [53, 1, 51, 54]);
}

#[test]
fn values_come_from_lease_subnet_and_query() {
    let mut configured = subnet(1, 2, vec![option(54, &[10, 0, 0, 1]), option(1, &[9, 9, 9, 9])]);
    configured.renew_timer_s = Some(900);
    configured.rebind_timer_s = Some(1800);
    let long: Vec<u8> = (0..=255).chain(0..=99).collect();
    let snapshot = snapshot(vec![configured]);
    let query = Kind::Ack.query().option(82, &long).option(55, &[1, 58]);
    let (bytes, _) = reply(Kind::Ack, &query, &direct(), &snapshot);
    let message = Query::decode(&bytes).unwrap();
    assert_eq!(message.option(1), Some(&[255, 255, 255, 0][..]), "OPT-4: the mask is the prefix's");
    assert_eq!(message.lease_time(), Some(3600));
    assert_eq!(message.server_id(), Some(Ipv4Addr::new(10, 0, 0, 1)), "PKT-49: a configured 54");
    assert_eq!(message.option(58), Some(&900_u32.to_be_bytes()[..]));
    assert_eq!(message.option(59), Some(&1800_u32.to_be_bytes()[..]));
    assert_eq!(message.option(82), Some(&long[..]), "PKT-41 and PKT-23: split and joined again");
    // 356 octets are one instance of 255 and one of 101, and the end.
    let tail = &bytes[bytes.len() - (2 + 255 + 2 + 101 + 1)..];
    assert_eq!((&tail[..2], &tail[257..259]), (&[82, 255][..], &[82, 101][..]), "PKT-40: 82 is last");
}

#[test]
fn lifetimes_are_bounded_as_pkt_55_says() {
    let bounds = LifetimeTriplet { min_s: 600, default_s: 7200, max_s: 86_400 };
    let fixed = LifetimeTriplet { min_s: 7200, default_s: 7200, max_s: 7200 };
    let table = [
        ("absent", bounds, None, 7200),
        ("below", bounds, Some(1), 600),
        ("within", bounds, Some(3600), 3600),
        ("above", bounds, Some(u32::MAX), 86_400),
        ("hint ignored", fixed, Some(60), 7200),
        ("infinite", LifetimeTriplet { max_s: u32::MAX, ..bounds }, Some(u32::MAX), u32::MAX),
    ];
    for (case, valid_lifetime, asked, expected) in table {
        let mut configured = subnet(1, 2, vec![]);
        configured.valid_lifetime = valid_lifetime;
        let mut query = Kind::Ack.query();
        if let Some(asked) = asked {
            query = query.option(51, &u32::to_be_bytes(asked));
        }
        let bytes = query.bytes();
        assert_eq!(super::valid_lifetime(&Query::decode(&bytes).unwrap(), &configured), expected, "{case}");
    }
}

#[test]
fn timers_are_sent_as_pkt_57_and_58_say() {
    let percent = Some((0.5, 0.875));
    // renew-timer, rebind-timer, percents, lifetime, (T1, T2).
    let table = [
        ("nothing configured", None, None, None, 3600, (None, None)),
        ("both set", Some(900), Some(1800), None, 3600, (Some(900), Some(1800))),
        ("T2 not below the lifetime", Some(900), Some(3600), None, 3600, (Some(900), None)),
        ("T1 not below T2", Some(1800), Some(1800), None, 3600, (None, Some(1800))),
        ("T1 without T2", Some(3599), None, None, 3600, (Some(3599), None)),
        ("T1 not below the lifetime", Some(3600), None, None, 3600, (None, None)),
        ("zero is not sent", Some(0), Some(0), None, 3600, (None, None)),
        ("computed", None, None, percent, 3601, (Some(1801), Some(3151))),
        ("set before computed", Some(10), None, percent, 3600, (Some(10), Some(3150))),
        ("PKT-59 infinite", None, None, percent, u32::MAX, (Some(2_147_483_648), Some(3_758_096_383))),
        ("no lifetime", Some(1), Some(2), percent, 0, (None, None)),
    ];
    for (case, renew_timer_s, rebind_timer_s, tee_percent, lifetime_s, expected) in table {
        let configured = Subnet { renew_timer_s, rebind_timer_s, tee_percent, ..subnet(1, 2, vec![]) };
        assert_eq!(tee_times(&configured, lifetime_s), expected, "{case}");
    }
}

#[test]
fn vendor_options_go_to_those_opt_33_names() {
    let sub = |code, always_send| ConfiguredOption { always_send, ..option(code, &[code]) };
    let vendor = |enterprise, container, always_send| VendorOptions {
        enterprise,
        container,
        always_send,
        never_send: false,
        options: vec![sub(2, false), sub(3, true)],
    };
    let cable = vendor(4491, false, false);
    let asks = [0, 0, 0x11, 0x8b, 3, 1, 1, 2];
    let class = [0, 0, 0x11, 0x8b, 1, b'x'];
    let sent = |enterprise: [u8; 4], options: &[u8]| {
        let mut payload = enterprise.to_vec();
        payload.push(options.len() as u8);
        payload.extend_from_slice(options);
        Some(payload)
    };
    let number = [0, 0, 0x11, 0x8b];
    let never = VendorOptions { never_send: true, ..vendor(4491, true, true) };
    let query = || Kind::Ack.query();
    type Row = (&'static str, VendorOptions, QueryBuilder, Option<Vec<u8>>);
    let table: Vec<Row> = vec![
        ("nobody names it", cable.clone(), query().option(55, &[125]), None),
        ("the class names it", cable.clone(), query().option(124, &class), sent(number, &[3, 1, 3])),
        ("CableLabs asks", cable.clone(), query().option(125, &asks), sent(number, &[2, 1, 2, 3, 1, 3])),
        ("another enterprise", vendor(9, false, false), query().option(125, &asks), None),
        ("always sent", vendor(4491, true, true), query(), sent(number, &[3, 1, 3])),
        (
            "asked for by its code",
            vendor(4491, true, false),
            query().option(55, &[125]),
            sent(number, &[3, 1, 3]),
        ),
        ("never sent", never, query().option(55, &[125]), None),
        ("cut off", cable, query().option(125, &asks[..4]), None),
    ];
    for (case, vendor, query, expected) in table {
        let mut configured = subnet(1, 2, vec![]);
        configured.options = OptionSet::default().with_vendors([vendor]);
        configured.pools.clear();
        let (bytes, _) = reply(Kind::Ack, &query, &direct(), &snapshot(vec![configured]));
        assert_eq!(Query::decode(&bytes).unwrap().option(125), expected.as_deref(), "{case}");
    }
}

#[test]
fn a_reply_that_does_not_fit_a_datagram_is_an_error() {
    let huge = option(43, &vec![7; 65_000]);
    let snapshot = snapshot(vec![subnet(1, 2, vec![ConfiguredOption { always_send: true, ..huge }])]);
    let bytes = Kind::Ack.query().bytes();
    let query = Query::decode(&bytes).unwrap();
    let grant = Grant { address: LEASED, lifetime_s: 3600 };
    let mut buffer = ReplyBuffer::new();
    let built = ack(&query, &direct(), &snapshot, &snapshot.subnets[0], &grant, &Names::none(), &mut buffer);
    assert_eq!(built, Err(WriteError::TooLong));
}

/// Goal: the client and the replies understand each other. A client of `src/client` goes from DISCOVER to a
/// renewed lease against these functions, attached directly and through a relay.
#[test]
fn a_client_gets_and_renews_a_lease_from_these_replies() {
    let mut configured = subnet(1, 2, vec![option(3, &SERVER.octets())]);
    configured.renew_timer_s = Some(900);
    let snapshot = snapshot(vec![configured]);
    let relay = Relay { address: RELAY, agent_options: vec![1, 1, 7], carries_unicast: true };
    for relay in [None, Some(relay)] {
        let is_relayed = relay.is_some();
        let config = ClientConfig { relay, client_id: Some(vec![0, 9]), ..ClientConfig::new(MAC, 3) };
        let mut client = Client::new(0, config);
        for now_ns in 0..2 {
            let answer = answer_of(&mut client, &snapshot);
            client.handle_reply(now_ns, &answer);
        }
        let lease = *client.lease().expect("it has a lease");
        assert_eq!((lease.address, lease.server_id, lease.lifetime_s), (LEASED, SERVER, 7200));
        assert_eq!(client.next_timeout(), Some(lease.requested_ns + 900_000_000_000), "T1 of the subnet");
        assert_eq!(client.handle_timeout(client.next_timeout().unwrap()), None);
        let answer = answer_of(&mut client, &snapshot);
        let event = client.handle_reply(900_000_000_001, &answer);
        assert!(matches!(event, Some(ClientEvent::Renewed(_))), "relayed {is_relayed}: {event:?}");
    }
}

/// The answer to the message that waits in `client`.
fn answer_of(client: &mut Client, snapshot: &Snapshot) -> Vec<u8> {
    let mut octets = [0; 576];
    let outgoing = client.poll_transmit(&mut octets).expect("a message waits");
    let query = Query::decode(&octets[..outgoing.len]).unwrap();
    let meta = match outgoing.route {
        Route::Broadcast => direct(),
        Route::Relayed => unicast(RELAY, 67),
        Route::Unicast(server_id) => DatagramMeta { destination: server_id, ..unicast(outgoing.source, 68) },
    };
    let message_type = select::accept(&query, &meta, snapshot).expect("it is accepted");
    let subnet = select::subnet(&query, &meta, Scope::Primary, snapshot).expect("there is a subnet");
    let grant = Grant { address: LEASED, lifetime_s: valid_lifetime(&query, subnet) };
    let names = Names::decide(&query, LEASED);
    let mut buffer = ReplyBuffer::new();
    let built = match message_type {
        MessageType::Discover => offer(&query, &meta, snapshot, subnet, &grant, &names, &mut buffer),
        _ => ack(&query, &meta, snapshot, subnet, &grant, &names, &mut buffer),
    }
    .unwrap();
    buffer.message(built.len).to_vec()
}
