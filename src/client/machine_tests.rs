//! The client against a table of states and events, and against scripts of a server that is a few lines long.

use std::net::Ipv4Addr;

use super::*;
use crate::client::{Pace, Relay};
use crate::wire::Query;
use crate::wire::codes;
use crate::wire::reply::{MessageHeader, MessageWriter};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 51);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const LIFETIME_S: u32 = 1000;

/// A reply under the client's present transaction id, as the server `server_id` would write it.
fn reply(
    client: &Client,
    message_type: MessageType,
    address: Ipv4Addr,
    server_id: Ipv4Addr,
    options: &[(u8, u32)],
) -> Vec<u8> {
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&client.config().hardware_address);
    let base = MessageHeader::request(client.xid());
    let header = MessageHeader { op: codes::BOOTREPLY, hlen: 6, chaddr, yiaddr: address, ..base };
    let mut octets = vec![0; 600];
    let mut writer = MessageWriter::new(&mut octets, &header, message_type).unwrap();
    for (code, number) in options {
        writer.number(*code, *number).unwrap();
    }
    writer.address(codes::DHCP_SERVER_IDENTIFIER, server_id).unwrap();
    let len = writer.finish().unwrap();
    octets.truncate(len);
    octets
}

fn offer(client: &Client) -> Vec<u8> {
    reply(client, MessageType::Offer, ADDRESS, SERVER, &[(51, LIFETIME_S)])
}

fn ack(client: &Client) -> Vec<u8> {
    reply(client, MessageType::Ack, ADDRESS, SERVER, &[(51, LIFETIME_S)])
}

fn nak(client: &Client) -> Vec<u8> {
    reply(client, MessageType::Nak, Ipv4Addr::UNSPECIFIED, SERVER, &[])
}

fn sent(client: &mut Client) -> Option<(Outgoing, Vec<u8>)> {
    let mut octets = [0; 576];
    let outgoing = client.poll_transmit(&mut octets)?;
    Some((outgoing, octets[..outgoing.len].to_vec()))
}

/// A client in `state` at instant 0, its message sent.
fn client_in(state: ClientState) -> Client {
    let config = ClientConfig::new(MAC, 1);
    if state == ClientState::Rebooting {
        let mut client = Client::reboot(0, config, ADDRESS);
        sent(&mut client).unwrap();
        return client;
    }
    let mut client = Client::new(0, config);
    sent(&mut client).unwrap();
    let steps = [ClientState::Requesting, ClientState::Bound];
    for _ in 0..2 {
        if client.state() == state || (state == ClientState::Selecting) {
            return client;
        }
        let bytes = if client.state() == ClientState::Selecting { offer(&client) } else { ack(&client) };
        client.handle_reply(0, &bytes);
        assert!(steps.contains(&client.state()));
        if client.state() == ClientState::Requesting {
            sent(&mut client).unwrap();
        }
    }
    match state {
        ClientState::Renewing => {
            client.handle_timeout(client.next_timeout().unwrap());
        }
        ClientState::Rebinding => {
            client.handle_timeout(client.lease().unwrap().t2_ns.unwrap());
        }
        ClientState::Released => client.release(0),
        ClientState::Init => client.decline(0),
        _ => {}
    }
    sent(&mut client);
    assert_eq!(client.state(), state);
    client
}

#[test]
fn every_state_answers_every_event() {
    use ClientState::{Bound, Init, Rebinding, Rebooting, Released, Renewing, Requesting, Selecting};
    // State; then the state after OFFER, ACK, NAK, timeout, and release.
    let table = [
        (Init, [Init, Init, Init, Selecting, Init]),
        (Selecting, [Requesting, Selecting, Selecting, Selecting, Selecting]),
        (Requesting, [Requesting, Bound, Init, Requesting, Requesting]),
        (Rebooting, [Rebooting, Bound, Init, Rebooting, Rebooting]),
        (Bound, [Bound, Bound, Bound, Renewing, Released]),
        (Renewing, [Renewing, Bound, Init, Renewing, Released]),
        (Rebinding, [Rebinding, Bound, Init, Rebinding, Released]),
        (Released, [Released, Released, Released, Released, Released]),
    ];
    // The closures return whether there was an event, which other tests look at.
    for (state, expected) in table {
        let answers = [
            after(state, |client| client.handle_reply(1, &offer(client)).is_some()),
            after(state, |client| client.handle_reply(1, &ack(client)).is_some()),
            after(state, |client| client.handle_reply(1, &nak(client)).is_some()),
            after(state, |client| client.handle_timeout(client.next_timeout().unwrap_or(1)).is_some()),
            after(state, |client| {
                client.release(1);
                false
            }),
        ];
        assert_eq!(answers, expected, "{state:?}: OFFER, ACK, NAK, timeout, release");
    }
}

fn after(state: ClientState, event: impl FnOnce(&mut Client) -> bool) -> ClientState {
    let mut client = client_in(state);
    event(&mut client);
    client.state()
}

#[test]
fn messages_are_those_of_rfc_2131_table_5() {
    type Fields = (MessageType, Ipv4Addr, Option<Ipv4Addr>, Option<Ipv4Addr>, Route);
    let none = Ipv4Addr::UNSPECIFIED;
    let message = |client: &mut Client| -> Fields {
        let (outgoing, bytes) = sent(client).expect("a message waits");
        assert!(sent(client).is_none(), "a message is sent once");
        let query = Query::decode(&bytes).unwrap();
        assert_eq!(query.chaddr(), MAC);
        assert_eq!(outgoing.source, query.ciaddr());
        let route = outgoing.route;
        (query.message_type().unwrap(), query.ciaddr(), query.requested_address(), query.server_id(), route)
    };
    let mut client = Client::new(0, ClientConfig::new(MAC, 1));
    assert_eq!(message(&mut client), (MessageType::Discover, none, None, None, Route::Broadcast));
    client.handle_reply(0, &offer(&client));
    let selecting = (MessageType::Request, none, Some(ADDRESS), Some(SERVER), Route::Broadcast);
    assert_eq!(message(&mut client), selecting);
    client.handle_reply(0, &ack(&client));
    client.renew(0);
    let renewing = (MessageType::Request, ADDRESS, None, None, Route::Unicast(SERVER));
    assert_eq!(message(&mut client), renewing);
    client.handle_timeout(client.lease().unwrap().t2_ns.unwrap());
    let rebinding = (MessageType::Request, ADDRESS, None, None, Route::Broadcast);
    assert_eq!(message(&mut client), rebinding);
    let mut declining = client.clone();
    declining.decline(0);
    let decline = (MessageType::Decline, none, Some(ADDRESS), Some(SERVER), Route::Broadcast);
    assert_eq!(message(&mut declining), decline);
    client.release(0);
    let release = (MessageType::Release, ADDRESS, None, Some(SERVER), Route::Unicast(SERVER));
    assert_eq!(message(&mut client), release);
    let mut rebooting = Client::reboot(0, ClientConfig::new(MAC, 1), ADDRESS);
    let reboot = (MessageType::Request, none, Some(ADDRESS), None, Route::Broadcast);
    assert_eq!(message(&mut rebooting), reboot);
}

#[test]
fn a_relayed_client_carries_giaddr_and_option_82_where_the_relay_does() {
    let relay = |carries_unicast| {
        Some(Relay { address: Ipv4Addr::new(192, 0, 2, 3), agent_options: vec![1, 1, 7], carries_unicast })
    };
    for carries_unicast in [false, true] {
        let config = ClientConfig { relay: relay(carries_unicast), ..ClientConfig::new(MAC, 1) };
        let mut client = Client::new(0, config);
        let (outgoing, bytes) = sent(&mut client).unwrap();
        let query = Query::decode(&bytes).unwrap();
        assert_eq!(outgoing.route, Route::Relayed);
        assert_eq!((query.giaddr(), query.hops()), (Ipv4Addr::new(192, 0, 2, 3), 1));
        assert_eq!(query.relay_info().unwrap().circuit_id(), Some(&[7][..]));
        client.handle_reply(0, &offer(&client));
        client.handle_reply(0, &ack(&client));
        client.renew(0);
        let (outgoing, bytes) = sent(&mut client).unwrap();
        let is_relayed = Query::decode(&bytes).unwrap().is_relayed();
        let expected = if carries_unicast { Route::Relayed } else { Route::Unicast(SERVER) };
        assert_eq!((outgoing.route, is_relayed), (expected, carries_unicast));
    }
}

#[test]
fn what_the_client_wants_is_in_its_messages() {
    let config = ClientConfig {
        client_id: Some(vec![255, 1, 2]),
        host_name: Some(b"host".to_vec()),
        broadcast: true,
        requested_address: Some(ADDRESS),
        lease_time_s: Some(60),
        ..ClientConfig::new(MAC, 1)
    };
    let mut client = Client::new(0, config);
    let (_, bytes) = sent(&mut client).unwrap();
    let query = Query::decode(&bytes).unwrap();
    assert_eq!(query.client_id(), Some(&[255, 1, 2][..]));
    assert_eq!(query.host_name(), Some(&b"host"[..]));
    assert_eq!((query.requested_address(), query.lease_time()), (Some(ADDRESS), Some(60)));
    assert!(query.wants_broadcast() && query.parameter_request_list().contains(codes::ROUTERS));
    client.handle_reply(0, &offer(&client));
    client.handle_reply(0, &ack(&client));
    client.release(0);
    let (_, bytes) = sent(&mut client).unwrap();
    let codes: Vec<u8> = Query::decode(&bytes).unwrap().option_codes().collect();
    assert_eq!(codes, [53, 54, 61], "a RELEASE asks for nothing");
}

#[test]
fn replies_of_others_late_ones_and_broken_ones_change_nothing() {
    let ack_with = |client: &Client, address, server, options: &[(u8, u32)]| {
        reply(client, MessageType::Ack, address, server, options)
    };
    let whole = ack(&client_in(ClientState::Requesting));
    let change = |place: usize, octet: u8| {
        let mut bytes = whole.clone();
        bytes[place] = octet;
        bytes
    };
    let client = client_in(ClientState::Requesting);
    let table = [
        ("another transaction", change(7, whole[7] ^ 1)),
        ("another client", change(33, 1)),
        ("a request", change(0, codes::BOOTREQUEST)),
        ("cut off", whole[..200].to_vec()),
        ("no lifetime", ack_with(&client, ADDRESS, SERVER, &[])),
        ("no address", ack_with(&client, Ipv4Addr::UNSPECIFIED, SERVER, &[(51, 60)])),
        ("another server's ACK", ack_with(&client, ADDRESS, OTHER_SERVER, &[(51, 60)])),
        ("another server's NAK", reply(&client, MessageType::Nak, ADDRESS, OTHER_SERVER, &[])),
        ("a message of clients", reply(&client, MessageType::Discover, ADDRESS, SERVER, &[])),
        ("an OFFER too many", offer(&client)),
    ];
    for (case, bytes) in table {
        let mut client = client_in(ClientState::Requesting);
        assert_eq!(client.handle_reply(1, &bytes), None, "{case}");
        assert_eq!(client.state(), ClientState::Requesting, "{case}");
    }
    assert!(client_in(ClientState::Requesting).handle_reply(1, &whole).is_some(), "the whole one is taken");
}

#[test]
fn an_offer_without_address_or_lifetime_is_not_taken() {
    let mut client = client_in(ClientState::Selecting);
    let without_lifetime = reply(&client, MessageType::Offer, ADDRESS, SERVER, &[]);
    let without_address = reply(&client, MessageType::Offer, Ipv4Addr::UNSPECIFIED, SERVER, &[(51, 60)]);
    for bytes in [without_lifetime, without_address] {
        client.handle_reply(1, &bytes);
        assert_eq!(client.state(), ClientState::Selecting);
    }
}

#[test]
fn lease_times_count_from_the_first_request() {
    let mut client = client_in(ClientState::Selecting);
    client.handle_reply(5 * SECOND_NS, &offer(&client));
    let again_ns = client.next_timeout().unwrap();
    client.handle_timeout(again_ns);
    let Some(ClientEvent::Bound(lease)) = client.handle_reply(again_ns + SECOND_NS, &ack(&client)) else {
        panic!("not bound");
    };
    assert_eq!((lease.address, lease.server_id, lease.lifetime_s), (ADDRESS, SERVER, LIFETIME_S));
    assert_eq!(lease.requested_ns, 5 * SECOND_NS);
    assert_eq!(client.next_timeout(), lease.t1_ns);
}

#[test]
fn timers_come_from_the_ack_or_from_the_lifetime() {
    // T1, T2 and lifetime as sent; T1, T2 and end as kept, seconds.
    let infinite = u32::MAX;
    let table = [
        ("RFC 2131 section 4.4.5", (None, None, 1000), (Some(500), Some(875), Some(1000))),
        ("as sent", (Some(10), Some(20), 1000), (Some(10), Some(20), Some(1000))),
        ("T1 after T2", (Some(30), Some(20), 1000), (Some(20), Some(20), Some(1000))),
        ("T2 after the end", (None, Some(2000), 1000), (Some(500), Some(1000), Some(1000))),
        ("infinite", (None, None, infinite), (None, None, None)),
        ("infinite with T1", (Some(7), None, infinite), (Some(7), None, None)),
        ("nothing", (None, None, 0), (Some(0), Some(0), Some(0))),
    ];
    for (case, (t1, t2, lifetime), expected) in table {
        let mut client = client_in(ClientState::Requesting);
        let mut options = vec![(51, lifetime)];
        options.extend(t1.map(|t1| (58, t1)));
        options.extend(t2.map(|t2| (59, t2)));
        let bytes = reply(&client, MessageType::Ack, ADDRESS, SERVER, &options);
        client.handle_reply(0, &bytes);
        let lease = client.lease().unwrap();
        let seconds = |at: Option<u64>| at.map(|at| at / SECOND_NS);
        let kept = (seconds(lease.t1_ns), seconds(lease.t2_ns), seconds(lease.expires_ns));
        assert_eq!(kept, expected, "{case}");
    }
}

/// Steps through every timeout without an answer and notes when what is sent, in seconds.
fn silence(client: &mut Client, until: impl Fn(&Client) -> bool) -> Vec<(u64, ClientState)> {
    let mut sent_at = Vec::new();
    while !until(client) {
        let now_ns = client.next_timeout().unwrap();
        client.handle_timeout(now_ns);
        if sent(client).is_some() {
            sent_at.push((now_ns / SECOND_NS, client.state()));
        }
    }
    sent_at
}

#[test]
fn without_an_answer_a_lease_is_renewed_rebound_and_lost() {
    use ClientState::{Rebinding, Renewing, Selecting};
    let mut client = client_in(ClientState::Bound);
    let heard = silence(&mut client, |client| client.state() == Selecting);
    // T1 500, then half of what is left until T2 875, at least 60 s; T2, then half of what is left until 1000.
    let expected = [
        (500, Renewing),
        (687, Renewing),
        (781, Renewing),
        (841, Renewing),
        (875, Rebinding),
        (937, Rebinding),
        (997, Rebinding),
        (1000, Selecting),
    ];
    assert_eq!(heard, expected);
    assert_eq!(client.lease(), None);
}

#[test]
fn the_end_of_a_lease_is_told() {
    let mut client = client_in(ClientState::Bound);
    let end_ns = client.lease().unwrap().expires_ns.unwrap();
    assert_eq!(client.handle_timeout(end_ns), Some(ClientEvent::Expired(ADDRESS)));
    assert_eq!(client.state(), ClientState::Selecting);
}

#[test]
fn renewing_keeps_the_lease_and_says_so() {
    for state in [ClientState::Renewing, ClientState::Rebinding] {
        let mut client = client_in(state);
        let before = *client.lease().unwrap();
        let Some(ClientEvent::Renewed(lease)) = client.handle_reply(900 * SECOND_NS, &ack(&client)) else {
            panic!("{state:?}: not renewed");
        };
        assert!(lease.expires_ns > before.expires_ns, "{state:?}");
        let mut moved = client_in(state);
        let other = reply(&moved, MessageType::Ack, OTHER_ADDRESS, SERVER, &[(51, 60)]);
        assert!(matches!(moved.handle_reply(1, &other), Some(ClientEvent::Bound(_))), "{state:?}: moved");
    }
}

#[test]
fn a_nak_and_a_decline_pause_before_the_next_discover() {
    let mut client = client_in(ClientState::Requesting);
    assert_eq!(client.handle_reply(0, &nak(&client)), Some(ClientEvent::Nak(ADDRESS)));
    assert_eq!(client.next_timeout(), Some(NAK_PAUSE_S * SECOND_NS));
    let mut client = client_in(ClientState::Bound);
    client.decline(0);
    assert_eq!((client.lease(), client.next_timeout()), (None, Some(DECLINE_PAUSE_S * SECOND_NS)));
}

#[test]
fn requests_without_answer_are_given_up_after_four() {
    for state in [ClientState::Requesting, ClientState::Rebooting] {
        let mut client = client_in(state);
        for _ in 1..REQUEST_ATTEMPTS_MAX {
            assert_eq!(client.handle_timeout(client.next_timeout().unwrap()), None);
            assert!(sent(&mut client).is_some());
        }
        let event = client.handle_timeout(client.next_timeout().unwrap());
        assert_eq!(event, Some(ClientEvent::Unanswered(ADDRESS)), "{state:?}");
        assert_eq!(client.state(), ClientState::Selecting, "{state:?}");
    }
}

#[test]
fn retransmissions_keep_the_transaction_and_count_the_seconds() {
    let mut client = Client::new(0, ClientConfig::new(MAC, 1));
    let (_, first) = sent(&mut client).unwrap();
    let now_ns = client.next_timeout().unwrap();
    assert_eq!(client.handle_timeout(now_ns - 1), None);
    assert!(sent(&mut client).is_none(), "nothing before its time");
    client.handle_timeout(now_ns);
    let (_, second) = sent(&mut client).unwrap();
    let (first, second) = (Query::decode(&first).unwrap(), Query::decode(&second).unwrap());
    assert_eq!(first.xid(), second.xid());
    assert_eq!((first.secs(), u64::from(second.secs())), (0, now_ns / SECOND_NS));
}

#[test]
fn one_seed_gives_one_run_and_another_gives_another() {
    let run = |seed| {
        let config = ClientConfig { pace: Pace::permille(100), ..ClientConfig::new(MAC, seed) };
        let mut client = Client::new(0, config);
        (0..20)
            .map(|_| {
                let at_ns = client.next_timeout().unwrap();
                client.handle_timeout(at_ns);
                (at_ns, client.xid())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_message_that_does_not_fit_is_dropped() {
    let mut client = Client::new(0, ClientConfig::new(MAC, 1));
    assert_eq!(client.poll_transmit(&mut [0; 100]), None);
    assert!(sent(&mut client).is_none());
}
