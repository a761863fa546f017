//! How simulated clients reach the server: as neighbours on its link, or behind relays.
//!
//! A sender talks to a [`Link`] and knows no sockets; the tests put a server of their own behind one. Sending
//! and receiving go in batches, and nothing here allocates per packet.

pub mod arp;
pub mod raw;
pub mod udp;

use std::io;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::template::MESSAGE_OCTETS_MAX;

/// Datagrams in one batch, each way.
pub const BATCH: usize = 64;

/// Asked for as receive buffer of each socket, octets: a pause of the sender's core must not lose replies.
pub const RECEIVE_BUFFER_OCTETS: i32 = 16 << 20;

/// How clients are attached.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attachment {
    /// Neighbours on the link of this interface, each with its own hardware address.
    Direct {
        /// Name of the interface.
        interface: String,
    },
    /// Behind relays, which send everything to every server.
    Relayed {
        /// giaddr of each relay, addresses of this host; clients are spread evenly.
        relays: Vec<Ipv4Addr>,
        /// Servers.
        servers: Vec<Ipv4Addr>,
        /// Port of the servers.
        server_port: u16,
        /// Port of the relays.
        relay_port: u16,
    },
}

/// Where one message goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// Hardware address of the client.
    pub mac: [u8; 6],
    /// Address the client has; 0.0.0.0 if none.
    pub source: Ipv4Addr,
    /// The server it is for alone; `None` is everyone's.
    pub server: Option<Ipv4Addr>,
    /// The relay it passes, if any.
    pub giaddr: Ipv4Addr,
}

/// Messages that wait for the end of a batch.
pub struct Outbox {
    octets: Box<[[u8; MESSAGE_OCTETS_MAX]]>,
    meta: Box<[(usize, Route)]>,
    count: usize,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        let nowhere =
            Route { mac: [0; 6], source: Ipv4Addr::UNSPECIFIED, server: None, giaddr: Ipv4Addr::UNSPECIFIED };
        Self {
            octets: vec![[0; MESSAGE_OCTETS_MAX]; BATCH].into_boxed_slice(),
            meta: vec![(0, nowhere); BATCH].into_boxed_slice(),
            count: 0,
        }
    }

    /// Messages that still fit.
    pub fn room(&self) -> usize {
        BATCH - self.count
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the message that `write` writes; false when there is no room.
    pub fn push(&mut self, route: Route, write: impl FnOnce(&mut [u8; MESSAGE_OCTETS_MAX]) -> usize) -> bool {
        if self.count == BATCH {
            return false;
        }
        self.meta[self.count] = (write(&mut self.octets[self.count]), route);
        self.count += 1;
        true
    }

    /// What waits, in order.
    pub fn messages(&self) -> impl Iterator<Item = (&[u8], &Route)> + Clone {
        self.octets
            .iter()
            .zip(&self.meta)
            .take(self.count)
            .map(|(octets, (len, route))| (&octets[..*len], route))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.count = 0;
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

/// The way of one sender to the server, and its clock.
pub trait Link {
    /// Monotonic nanoseconds.
    fn now_ns(&self) -> u64;

    /// Waits until a reply is there or `timeout_ns` have passed.
    ///
    /// # Errors
    /// When the socket cannot be waited for.
    fn wait(&mut self, timeout_ns: u64) -> io::Result<()>;

    /// Gives the payloads that are there to `take`, at most one batch, with the time they were read, without
    /// waiting; how many datagrams came.
    ///
    /// # Errors
    /// What the socket has to report, such as that nobody listens at the server's port.
    fn receive(&mut self, take: &mut dyn FnMut(&[u8], u64)) -> io::Result<usize>;

    /// Sends what waits: datagrams sent and datagrams refused by the kernel, and why.
    fn send(&mut self, outbox: &Outbox) -> shards::sys::send::Sent;

    /// Replies the kernel has dropped since the last call for want of buffer.
    fn take_drops(&mut self) -> u64;

    /// What answers ARP requests for the clients, of the one link that has it.
    fn take_responder(&mut self) -> Option<arp::Responder> {
        None
    }
}
