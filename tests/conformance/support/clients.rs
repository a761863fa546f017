//! Clients of a site: exchanges one at a time, with every field in the hand of the test.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::dhcp::{self, ACK, DISCOVER, Direct, OFFER, Query, REQUEST, Wire, options};
use super::frame::Frame;
use super::namespace::Namespace;
use super::sys;

pub const DECLINE: u8 = 4;
pub const NAK: u8 = 6;
pub const RELEASE: u8 = 7;

/// How long a client listens for an answer that it expects: however busy the machine is, and yet not as long as a server
/// waits for another one that does not answer.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// All clients of a site share one interface.
pub struct Clients {
    pub wire: Direct,
}

/// An answer of a server.
#[derive(Clone, Debug)]
pub struct Reply {
    pub message_type: u8,
    pub address: Ipv4Addr,
    /// Option 54, the server it is from.
    pub server: Ipv4Addr,
    pub at: Instant,
}

impl Reply {
    fn read(payload: &[u8]) -> Self {
        let server = options(payload).into_iter().find(|(code, _)| *code == 54);
        let server = server.map_or([0; 4], |(_, octets)| octets.try_into().expect("four octets"));
        Self {
            message_type: dhcp::message_type(payload),
            address: dhcp::address_at(payload, 16),
            server: server.into(),
            at: Instant::now(),
        }
    }
}

/// The hardware address of a client: no two families share one.
pub fn mac(family: u8, number: u16) -> [u8; 6] {
    let [high, low] = number.to_be_bytes();
    [2, family, 0, 0, high, low]
}

/// The first `count` of a family.
pub fn macs(family: u8, count: u16) -> Vec<[u8; 6]> {
    (0..count).map(|number| mac(family, number)).collect()
}

/// A transaction id that no other query of the process has.
fn next_xid() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0x0010_0000);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A query of this type with options; each call is a transaction of its own.
pub fn query(message_type: u8, mac: [u8; 6], options: Vec<(u8, Vec<u8>)>) -> Query {
    Query { message_type, xid: next_xid(), mac, options, ..Query::default() }
}

impl Clients {
    /// On `interface` of `host`.
    pub fn new(host: &Namespace, interface: &str) -> Self {
        Self { wire: Direct(host.packet_socket(interface, 50)) }
    }

    /// Sends a query without waiting.
    pub fn send(&self, query: &Query) {
        self.wire.send(query);
    }

    /// Sends a frame of a client that is like no other.
    pub fn send_frame(&self, frame: &Frame) {
        sys::send(&self.wire.0, &frame.encode()).expect("sent");
    }

    /// Everything that answers this transaction until `patience` is over, or until there are `count`.
    pub fn answers(&self, xid: u32, count: usize, patience: Duration) -> Vec<Reply> {
        let (mut replies, start) = (Vec::new(), Instant::now());
        while start.elapsed() < patience && replies.len() < count {
            let Some(payload) = self.wire.receive() else { continue };
            if payload[4..8] != xid.to_be_bytes() {
                continue;
            }
            replies.push(Reply::read(&payload));
        }
        replies
    }

    /// Adds what answers anybody within `patience`, by transaction.
    pub fn gather(&self, patience: Duration, replies: &mut HashMap<u32, Vec<Reply>>) {
        let start = Instant::now();
        while start.elapsed() < patience {
            let Some(payload) = self.wire.receive() else { continue };
            let xid = u32::from_be_bytes(payload[4..8].try_into().expect("four octets"));
            replies.entry(xid).or_default().push(Reply::read(&payload));
        }
    }

    /// Sends a query and waits for its first answer.
    pub fn ask(&self, query: &Query, patience: Duration) -> Option<Reply> {
        self.send(query);
        self.answers(query.xid, 1, patience).pop()
    }

    /// A DISCOVER with `secs`; the offer.
    pub fn discover(&self, mac: [u8; 6], secs: u16, patience: Duration) -> Option<Reply> {
        self.ask(&Query { secs, ..query(DISCOVER, mac, Vec::new()) }, patience)
    }

    /// A DISCOVER and the REQUEST that follows the offer, sent and not yet answered; `None` without an offer.
    pub fn request(&self, mac: [u8; 6], extra: &[(u8, Vec<u8>)], patience: Duration) -> Option<Query> {
        let offer = self.ask(&query(DISCOVER, mac, extra.to_vec()), patience)?;
        assert_eq!(offer.message_type, OFFER);
        let mut options = vec![(50, offer.address.octets().to_vec()), (54, offer.server.octets().to_vec())];
        options.extend_from_slice(extra);
        let request = query(REQUEST, mac, options);
        self.send(&request);
        Some(request)
    }

    /// A whole exchange once; `None` when either half is not answered, or not with an ACK.
    pub fn try_lease(&self, mac: [u8; 6], extra: &[(u8, Vec<u8>)], patience: Duration) -> Option<Reply> {
        let request = self.request(mac, extra, patience)?;
        self.answers(request.xid, 1, patience).pop().filter(|reply| reply.message_type == ACK)
    }

    /// A whole exchange that has to succeed, asked again for as long as a patient client does, which listens for longer
    /// each time.
    pub fn lease(&self, mac: [u8; 6], extra: &[(u8, Vec<u8>)]) -> Reply {
        let start = Instant::now();
        let mut patience = Duration::from_secs(1);
        loop {
            if let Some(ack) = self.try_lease(mac, extra, patience) {
                return ack;
            }
            assert!(start.elapsed() < Duration::from_secs(50), "no lease for {mac:02x?}");
            patience = PATIENCE.min(patience + Duration::from_millis(500));
        }
    }

    /// A lease for each of `macs`; what they got.
    pub fn lease_all(&self, macs: &[[u8; 6]]) -> HashMap<[u8; 6], Ipv4Addr> {
        let leased = dhcp::lease(&self.wire, macs, &|_| Vec::new(), Duration::from_secs(90));
        assert_eq!(leased.len(), macs.len(), "clients without a lease");
        leased
    }

    /// REQUEST of a client that renews: to the server that gave it the address, and to nobody else.
    pub fn renew(
        &self,
        mac: [u8; 6],
        address: Ipv4Addr,
        server: Ipv4Addr,
        server_mac: [u8; 6],
    ) -> Option<Reply> {
        let renewal = Query { ciaddr: Some(address), ..query(REQUEST, mac, Vec::new()) };
        let frame = Frame {
            destination_mac: server_mac,
            source: address,
            destination: server,
            ..renewal.broadcast_frame()
        };
        self.wire.send_frame(&frame);
        self.answers(renewal.xid, 1, PATIENCE).pop()
    }

    /// REQUEST of a client that rebinds: to every server.
    pub fn rebind(&self, mac: [u8; 6], address: Ipv4Addr) -> Option<Reply> {
        let rebinding = Query { ciaddr: Some(address), ..query(REQUEST, mac, Vec::new()) };
        let frame = Frame { source: address, ..rebinding.broadcast_frame() };
        self.wire.send_frame(&frame);
        self.answers(rebinding.xid, 1, PATIENCE).pop()
    }

    /// RELEASE to a server; nobody answers it.
    pub fn release(&self, mac: [u8; 6], address: Ipv4Addr, server: Ipv4Addr) {
        let options = vec![(54, server.octets().to_vec())];
        self.send(&Query { ciaddr: Some(address), ..query(RELEASE, mac, options) });
    }

    /// DECLINE to a server; nobody answers it.
    pub fn decline(&self, mac: [u8; 6], address: Ipv4Addr, server: Ipv4Addr) {
        let options = vec![(50, address.octets().to_vec()), (54, server.octets().to_vec())];
        self.send(&query(DECLINE, mac, options));
    }
}
