//! The floor: answers every DISCOVER with an OFFER and every REQUEST with an ACK, by patching octets.
//!
//! No pool, no lease, no options but those a client insists on. What it reaches is what this machine's
//! network path allows; the distance to it is a server's own cost. It is no server: the address follows from
//! the hardware address.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use shards::runtime::frame::{self, Envelope};
use shards::steer::program::raw_filter;
use shards::sys::interface::HostInterface;
use shards::sys::receive::ReceiveBatch;
use shards::sys::send::{FrameSend, SendBatch, UdpSend};
use shards::sys::{socket, wait};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tandem::wire::codes::{self, CLIENT_PORT, MAGIC_COOKIE, MessageType};

use crate::attach::{BATCH, RECEIVE_BUFFER_OCTETS, raw};

/// Octets of a reply: the fixed header, the cookie, and the options below, padded to BOOTP's length.
const REPLY_OCTETS: usize = 300;
const OPTIONS: usize = 240;
/// Where the message type's value lies when option 53 is the first.
const TYPE: usize = OPTIONS + 2;
const FRAME_OCTETS_MAX: usize = 2048;
const WAIT_NS: u64 = 100_000_000;
const LIFETIME_S: u32 = 3600;

type Reply = [u8; REPLY_OCTETS];

/// Writes the answer to `query` into `reply`, which [`blank`] has made; the relay it goes to (0.0.0.0 for a
/// neighbour), or `None` when it is not answered.
pub fn answer(query: &[u8], reply: &mut Reply) -> Option<Ipv4Addr> {
    if query.len() < OPTIONS + 3 || query[0] != codes::BOOTREQUEST || query[236..OPTIONS] != MAGIC_COOKIE {
        return None;
    }
    let message_type = message_type(&query[OPTIONS..])?;
    reply[TYPE] = match MessageType::from_value(message_type)? {
        MessageType::Discover => MessageType::Offer as u8,
        MessageType::Request => MessageType::Ack as u8,
        _ => return None,
    };
    reply[1..44].copy_from_slice(&query[1..44]);
    // The last three octets of the hardware address tell generated clients apart.
    reply[16..20].copy_from_slice(&[10, query[31], query[32], query[33]]);
    let giaddr: [u8; 4] = query[24..28].try_into().ok()?;
    Some(giaddr.into())
}

/// A reply of `server` without what [`answer`] fills in.
pub fn blank(server: Ipv4Addr) -> Reply {
    let mut reply = [0; REPLY_OCTETS];
    reply[0] = codes::BOOTREPLY;
    reply[236..OPTIONS].copy_from_slice(&MAGIC_COOKIE);
    let mut options = vec![codes::DHCP_MESSAGE_TYPE, 1, 0, codes::DHCP_SERVER_IDENTIFIER, 4];
    options.extend_from_slice(&server.octets());
    options.extend_from_slice(&[codes::DHCP_LEASE_TIME, 4]);
    options.extend_from_slice(&LIFETIME_S.to_be_bytes());
    options.extend_from_slice(&[codes::SUBNET_MASK, 4, 255, 0, 0, 0, codes::END]);
    reply[OPTIONS..OPTIONS + options.len()].copy_from_slice(&options);
    reply
}

/// Value of option 53, wherever it is.
fn message_type(mut options: &[u8]) -> Option<u8> {
    loop {
        match options {
            [codes::DHCP_MESSAGE_TYPE, 1, value, ..] => return Some(*value),
            [codes::PAD, rest @ ..] => options = rest,
            [codes::END, ..] | [_] | [] => return None,
            [_, len, rest @ ..] => options = rest.get(usize::from(*len)..)?,
        }
    }
}

/// Answers over UDP on `address`, which relays send to, until `stop`.
///
/// # Errors
/// When the port cannot be bound or waited for.
pub fn serve_relayed(address: Ipv4Addr, port: u16, stop: &AtomicBool) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket::set_receive_buffer(&socket, RECEIVE_BUFFER_OCTETS)?;
    socket::enable_packet_info(&socket)?;
    socket
        .bind(&SockAddr::from(SocketAddrV4::new(address, port)))
        .with_context(|| format!("binding {address}:{port}"))?;
    let mut batch = ReceiveBatch::new(BATCH, FRAME_OCTETS_MAX);
    let mut sends = SendBatch::new(BATCH);
    let mut replies = vec![(blank(address), SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)); BATCH];
    while !stop.load(Ordering::Relaxed) {
        let received = receive(&mut batch, &socket)?;
        let mut count = 0;
        for index in 0..received {
            let Some(datagram) = batch.udp(index) else { continue };
            let (reply, to) = &mut replies[count];
            if answer(datagram.bytes, reply).is_some_and(|giaddr| !giaddr.is_unspecified()) {
                *to = SocketAddrV4::new(datagram.source, datagram.source_port);
                count += 1;
            }
        }
        let mut datagrams = replies[..count].iter().map(|(reply, to)| UdpSend {
            bytes: reply,
            source: address,
            destination: *to.ip(),
            destination_port: to.port(),
            ifindex: 0,
        });
        // What the kernel refuses is lost, as on a wire; the generator counts it as a drop.
        sends.send_udp(&socket, &mut datagrams);
    }
    Ok(())
}

/// Answers neighbours on `interface` until `stop`.
///
/// # Errors
/// When the interface is none, has no address, or packet sockets are forbidden.
pub fn serve_direct(interface: &str, port: u16, stop: &AtomicBool) -> Result<()> {
    let interface: HostInterface = raw::find(interface)?;
    let address = *interface.addresses.first().context("the interface has no IPv4 address")?;
    let socket = socket::packet_socket()?;
    socket.set_nonblocking(true)?;
    socket::set_receive_buffer(&socket, RECEIVE_BUFFER_OCTETS)?;
    socket::attach_filter(&socket, &raw_filter(interface.ifindex, port, &[address]))?;
    socket::bind_packet(&socket, interface.ifindex)?;
    let mut batch = ReceiveBatch::new(BATCH, FRAME_OCTETS_MAX);
    let mut sends = SendBatch::new(BATCH);
    let mut replies = vec![(blank(address), [0_u8; 6], Ipv4Addr::UNSPECIFIED); BATCH];
    while !stop.load(Ordering::Relaxed) {
        let received = receive(&mut batch, &socket)?;
        let mut count = 0;
        for index in 0..received {
            let Some(received) = batch.frame(index).and_then(frame::parse) else {
                continue;
            };
            let (reply, mac, destination) = &mut replies[count];
            if answer(received.payload, reply).is_some_and(|giaddr| giaddr.is_unspecified()) {
                *mac = received.source_mac;
                *destination = Ipv4Addr::new(reply[16], reply[17], reply[18], reply[19]);
                count += 1;
            }
        }
        let mut frames = replies[..count].iter().filter_map(|(reply, mac, destination)| {
            let envelope = Envelope {
                source_mac: interface.mac,
                destination_mac: *mac,
                source: address,
                destination: *destination,
                source_port: port,
                destination_port: CLIENT_PORT,
            };
            Some(FrameSend { header: frame::header(&envelope, reply)?, payload: reply })
        });
        // What the kernel refuses is lost, as on a wire; the generator counts it as a drop.
        sends.send_frames(&socket, &mut frames);
    }
    Ok(())
}

/// One batch, after waiting for the first datagram of it.
fn receive(batch: &mut ReceiveBatch, socket: &Socket) -> io::Result<usize> {
    match batch.receive(socket, BATCH) {
        Ok(0) => wait::readable(socket, WAIT_NS).map(|_| 0),
        // An earlier answer found nobody; those who still ask are served.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Reply as Read;
    use crate::identity::{Identity, IdentityKind, Mac};
    use crate::template::{Content, Fields, MESSAGE_OCTETS_MAX, Message, Templates};

    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const RELAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    #[test]
    fn each_message_is_answered_as_a_client_expects_or_not_at_all() {
        let identity = Identity { base: Mac::default(), kind: IdentityKind::ClientId };
        let templates = Templates::new(identity, &Content::default()).unwrap();
        let fields = Fields { client: 7, xid: 9, secs: 0, address: SERVER, server: SERVER, giaddr: RELAY };
        let cases = [
            (Message::Discover, Some(MessageType::Offer)),
            (Message::Extend, Some(MessageType::Ack)),
            (Message::Select, Some(MessageType::Ack)),
            (Message::Release, None),
        ];
        for (message, expected) in cases {
            let mut octets = [0; MESSAGE_OCTETS_MAX];
            let len = templates.write(message, &fields, &mut octets);
            let mut reply = blank(SERVER);
            let to = answer(&octets[..len], &mut reply);
            assert_eq!(to, expected.map(|_| RELAY), "{message:?}");
            if expected.is_some() {
                let read = Read::read(&reply).unwrap();
                assert_eq!(Some(read.message_type), expected, "{message:?}");
                assert_eq!((read.xid, read.chaddr, read.server), (9, identity.mac(7), SERVER), "{message:?}");
                assert_eq!(read.yiaddr, Ipv4Addr::new(10, 0, 0, 7), "{message:?}");
            }
        }
    }

    #[test]
    fn what_is_no_message_is_not_answered() {
        let mut message = [0; 300];
        message[0] = codes::BOOTREQUEST;
        message[236..240].copy_from_slice(&MAGIC_COOKIE);
        message[240..244].copy_from_slice(&[60, 200, 0, 0]);
        assert_eq!(answer(&message, &mut blank(SERVER)), None, "an option beyond the end");
        assert_eq!(answer(&message[..240], &mut blank(SERVER)), None, "no options");
        assert_eq!(answer(&[], &mut blank(SERVER)), None, "nothing");
    }
}
