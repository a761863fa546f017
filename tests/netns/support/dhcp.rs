//! DHCP messages by hand: written and read here without the code under test.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::frame::{BROADCAST_MAC, Frame};
use super::sys;

pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const ACK: u8 = 5;

/// A message of a client; unset fields are zero.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub message_type: u8,
    pub xid: u32,
    pub secs: u16,
    pub hops: u8,
    pub broadcast: bool,
    pub ciaddr: Option<Ipv4Addr>,
    pub giaddr: Option<Ipv4Addr>,
    pub mac: [u8; 6],
    /// Options after 53, in this order.
    pub options: Vec<(u8, Vec<u8>)>,
    pub no_end: bool,
}

impl Query {
    /// The octets.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = vec![1, 1, 6, self.hops];
        payload.extend(self.xid.to_be_bytes());
        payload.extend(self.secs.to_be_bytes());
        payload.extend(if self.broadcast { [0x80, 0] } else { [0, 0] });
        payload.extend(self.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        payload.extend([0; 8]);
        payload.extend(self.giaddr.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        payload.extend(self.mac);
        payload.resize(236, 0);
        payload.extend([99, 130, 83, 99, 53, 1, self.message_type]);
        for (code, octets) in &self.options {
            payload.extend([*code, octets.len() as u8]);
            payload.extend(octets);
        }
        if !self.no_end {
            payload.push(255);
        }
        payload
    }

    /// The message as a broadcast of a client that has no address.
    pub fn broadcast_frame(&self) -> Frame {
        Frame {
            destination_mac: BROADCAST_MAC,
            source_mac: self.mac,
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::BROADCAST,
            source_port: 68,
            destination_port: 67,
            payload: self.encode(),
        }
    }
}

/// Options of a message in order; the last one is 255 with what follows it.
pub fn options(payload: &[u8]) -> Vec<(u8, &[u8])> {
    let mut list = Vec::new();
    let mut at = 240;
    while let Some(&code) = payload.get(at) {
        if code == 255 {
            list.push((255, &payload[at + 1..]));
            break;
        }
        let length = usize::from(payload[at + 1]);
        list.push((code, &payload[at + 2..at + 2 + length]));
        at += 2 + length;
    }
    list
}

/// The message type.
pub fn message_type(payload: &[u8]) -> u8 {
    options(payload).iter().find(|(code, _)| *code == 53).map_or(0, |(_, octets)| octets[0])
}

/// The address at an offset of the header: 12 ciaddr, 16 yiaddr, 20 siaddr, 24 giaddr.
pub fn address_at(payload: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(payload[at], payload[at + 1], payload[at + 2], payload[at + 3])
}

/// A way to exchange messages with a server.
pub trait Wire {
    /// Sends a client's message.
    fn send(&self, query: &Query);
    /// The next message of a server; `None` after a short silence.
    fn receive(&self) -> Option<Vec<u8>>;
}

/// Directly attached clients on a packet socket.
pub struct Direct(pub OwnedFd);

impl Direct {
    /// Sends a frame as it is.
    pub fn send_frame(&self, frame: &Frame) {
        sys::send(&self.0, &frame.encode()).expect("send");
    }
}

impl Wire for Direct {
    fn send(&self, query: &Query) {
        self.send_frame(&query.broadcast_frame());
    }

    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        loop {
            let length = sys::receive(&self.0, &mut buffer).expect("receive")?;
            if let Some(frame) = Frame::decode(&buffer[..length]).filter(|frame| frame.source_port == 67) {
                return Some(frame.payload);
            }
        }
    }
}

/// Takes the clients `macs` through DISCOVER and REQUEST, a window of them at a time, repeating what is lost; returns
/// the address of each that got an ACK. `extra` are the options of one client.
pub fn lease(
    wire: &dyn Wire,
    macs: &[[u8; 6]],
    extra: &dyn Fn([u8; 6]) -> Vec<(u8, Vec<u8>)>,
    patience: Duration,
) -> HashMap<[u8; 6], Ipv4Addr> {
    lease_noting(wire, macs, extra, patience, &mut |_| {})
}

/// The same with a look at each ACK as it comes.
pub fn lease_noting(
    wire: &dyn Wire,
    macs: &[[u8; 6]],
    extra: &dyn Fn([u8; 6]) -> Vec<(u8, Vec<u8>)>,
    patience: Duration,
    note: &mut dyn FnMut(&[u8]),
) -> HashMap<[u8; 6], Ipv4Addr> {
    const WINDOW: usize = 8;
    let mut leased = HashMap::new();
    let mut state: HashMap<[u8; 6], (Query, Instant)> = HashMap::new();
    let mut waiting = macs.iter().rev().copied().collect::<Vec<_>>();
    let start = Instant::now();
    let again = Duration::from_millis(700);
    while start.elapsed() < patience && leased.len() < macs.len() {
        while state.len() < WINDOW
            && let Some(mac) = waiting.pop()
        {
            let xid = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]);
            let query = Query { message_type: DISCOVER, xid, mac, options: extra(mac), ..Query::default() };
            wire.send(&query);
            state.insert(mac, (query, Instant::now()));
        }
        let Some(reply) = wire.receive() else {
            for (query, sent) in state.values_mut().filter(|(_, sent)| sent.elapsed() > again) {
                wire.send(query);
                *sent = Instant::now();
            }
            continue;
        };
        let mac: [u8; 6] = reply[28..34].try_into().expect("six octets");
        let Some((query, sent)) = state.get_mut(&mac) else { continue };
        match (query.message_type, message_type(&reply)) {
            (DISCOVER, OFFER) => {
                let server =
                    options(&reply).into_iter().find(|(code, _)| *code == 54).expect("option 54").1.to_vec();
                query.message_type = REQUEST;
                query.options.retain(|(code, _)| *code != 50);
                query.options.splice(0..0, [(50, reply[16..20].to_vec()), (54, server)]);
                wire.send(query);
                *sent = Instant::now();
            }
            (REQUEST, ACK) => {
                note(&reply);
                leased.insert(mac, address_at(&reply, 16));
                state.remove(&mac);
            }
            _ => {}
        }
    }
    leased
}
