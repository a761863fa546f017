//! The seam between a shard's logic and whatever drives it: inputs and `now` in, actions out, no async.
//!
//! The shard's executor and the simulator are two drivers of the same [`Engine`]. A driver feeds a batch of
//! inputs, then carries out the [`Actions`], in this order: mesh messages, journal rows, transmissions.

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::{Lane, NodeId};

/// The time, read once per loop iteration.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// Monotonic clock, nanoseconds; every timer is measured on it.
    pub monotonic_ns: u64,
    /// Wall clock, milliseconds since the epoch; lease times come from it.
    pub wall_ms: u64,
}

impl Now {
    /// Wall clock in whole seconds since the epoch.
    pub fn wall_s(self) -> u64 {
        self.wall_ms / 1000
    }
}

/// What the kernel said about a received datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DatagramMeta {
    /// Index, in this shard, of the socket it came in on.
    pub socket: u16,
    /// Interface it was received on.
    pub ifindex: u32,
    /// IP source address and UDP source port.
    pub source: Ipv4Addr,
    /// UDP source port.
    pub source_port: u16,
    /// IP destination address as sent (255.255.255.255 for a broadcast).
    pub destination: Ipv4Addr,
    /// Address the socket stands for: the interface's first address, or the one it is bound to.
    pub socket_address: Ipv4Addr,
    /// Ethernet source of the frame; known in raw mode only.
    pub source_mac: Option<[u8; 6]>,
}

/// A datagram to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transmit {
    /// Index, in this shard, of the socket to send from.
    pub socket: u16,
    /// Interface to send on.
    pub ifindex: u32,
    /// IP source address.
    pub source: Ipv4Addr,
    /// IP destination address.
    pub destination: Ipv4Addr,
    /// UDP destination port.
    pub destination_port: u16,
    /// Ethernet destination in raw mode (PKT-8); ignored in udp mode.
    pub destination_mac: [u8; 6],
    /// Where in [`Actions::bytes`] the payload lies.
    pub payload: Range<usize>,
}

/// What a driver is to do. Reused from one iteration to the next, so that the packet path does not allocate.
#[derive(Debug)]
pub struct Actions<M, L> {
    /// Payloads of `transmit`.
    pub bytes: Vec<u8>,
    /// Datagrams to send, in order.
    pub transmit: Vec<Transmit>,
    /// Lease file rows, each ended by a newline, in order.
    pub rows: Vec<u8>,
    /// Messages for other nodes, in order per lane. Credit for each was taken with [`Actions::reserve`].
    pub messages: Vec<(NodeId, Lane, M)>,
    /// Fixed-size log events; the driver hands them to the log thread and counts what does not fit.
    pub events: Vec<L>,
    /// Free places per node on the state lane, set by the driver before each iteration.
    pub state_credit: Vec<u32>,
    /// Free places per node on the datagram lane, set by the driver before each iteration.
    pub datagram_credit: Vec<u32>,
}

impl<M, L> Actions<M, L> {
    /// Empty actions for a mesh of `nodes` nodes.
    pub fn new(nodes: usize) -> Self {
        Self {
            bytes: Vec::new(),
            transmit: Vec::new(),
            rows: Vec::new(),
            messages: Vec::new(),
            events: Vec::new(),
            state_credit: vec![0; nodes],
            datagram_credit: vec![0; nodes],
        }
    }

    /// Takes credit for `count` messages to `node` on `lane`; false, taking nothing, when there is not enough.
    pub fn reserve(&mut self, node: NodeId, lane: Lane, count: u32) -> bool {
        let credit = match lane {
            Lane::Datagram => &mut self.datagram_credit[usize::from(node.0)],
            Lane::State => &mut self.state_credit[usize::from(node.0)],
        };
        let enough = *credit >= count;
        if enough {
            *credit -= count;
        }
        enough
    }

    /// Gives back credit that was reserved and not used.
    pub fn unreserve(&mut self, node: NodeId, lane: Lane, count: u32) {
        match lane {
            Lane::Datagram => self.datagram_credit[usize::from(node.0)] += count,
            Lane::State => self.state_credit[usize::from(node.0)] += count,
        }
    }

    /// Sends `message`; the caller has reserved the credit.
    pub fn send(&mut self, node: NodeId, lane: Lane, message: M) {
        self.messages.push((node, lane, message));
    }

    /// Forgets everything but the capacity.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.transmit.clear();
        self.rows.clear();
        self.messages.clear();
        self.events.clear();
    }
}

/// The per-shard machine.
pub trait Engine {
    /// What nodes say to each other.
    type Message: Send + 'static;
    /// Fixed-size log event.
    type Event: Copy + Send + 'static;

    /// What is read first to decide a datagram of these octets, for the driver to have it fetched from memory before.
    fn ahead(&self, _bytes: &[u8]) -> Option<&u64> {
        None
    }

    /// Shows `fetch` what will be read from memory first for parts of `message`, so that the driver can have it fetched.
    fn ahead_of(&self, _message: &Self::Message, _fetch: impl FnMut(&u64)) {}

    /// A datagram has come in.
    fn handle_datagram(
        &mut self,
        now: Now,
        meta: &DatagramMeta,
        bytes: &[u8],
        actions: &mut Actions<Self::Message, Self::Event>,
    );

    /// A message from another node has come in.
    fn handle_message(
        &mut self,
        now: Now,
        from: NodeId,
        message: Self::Message,
        actions: &mut Actions<Self::Message, Self::Event>,
    );

    /// Every row appended before the `batch`-th non-empty `Actions::rows` (counted from 1) was taken,
    /// that one included, is as durable as the configuration asks.
    fn handle_persisted(&mut self, now: Now, batch: u64, actions: &mut Actions<Self::Message, Self::Event>);

    /// `next_timeout` has passed.
    fn handle_timeout(&mut self, now: Now, actions: &mut Actions<Self::Message, Self::Event>);

    /// When `handle_timeout` is wanted next, on the monotonic clock in nanoseconds.
    fn next_timeout(&self) -> Option<u64>;

    /// Rows are waiting for the journal: `waiting` bytes. Above its limit the engine stops committing.
    fn set_journal_waiting(&mut self, waiting_bytes: usize);
}
