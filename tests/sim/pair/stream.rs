//! Byte streams between the servers: TCP as the protocol sees it.
//!
//! Bytes come in order, in pieces of any size, late, or not at all once the stream is broken. A link that is cut one
//! way holds back what goes that way, as TCP would by sending it again later.

use std::collections::{BTreeMap, VecDeque};

/// Names a stream for the whole run.
pub type StreamId = u64;

/// Which way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    ToListener,
    ToOpener,
}

/// What lies in a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// The sender has closed.
    End,
}

/// One stream, from a worker of one server to the listener of the other.
pub struct Stream {
    /// Server that listens, server that opened it, and which of its workers.
    pub listener: usize,
    pub opener: usize,
    pub worker: usize,
    /// Lives of the processes at both ends: a later one knows nothing of the stream.
    pub opener_life: u32,
    pub listener_life: u32,
    flows: [Flow; 2],
}

#[derive(Default)]
struct Flow {
    pieces: VecDeque<Piece>,
    /// When the last piece arrives: the next one does not overtake it.
    last_ns: u64,
}

#[derive(Default)]
pub struct Streams {
    open: BTreeMap<StreamId, Stream>,
    opened: u64,
}

impl Stream {
    /// Whether the server is at one of its ends.
    pub fn touches(&self, server: usize) -> bool {
        server == self.listener || server == self.opener
    }

    /// Servers that bytes of `way` come from and go to.
    pub fn ends(&self, way: Way) -> (usize, usize) {
        match way {
            Way::ToListener => (self.opener, self.listener),
            Way::ToOpener => (self.listener, self.opener),
        }
    }
}

impl Streams {
    pub fn open(&mut self, listener: usize, opener: usize, worker: usize, opener_life: u32) -> StreamId {
        self.opened += 1;
        let stream =
            Stream { listener, opener, worker, opener_life, listener_life: 0, flows: Default::default() };
        self.open.insert(self.opened, stream);
        self.opened
    }

    pub fn get(&self, id: StreamId) -> Option<&Stream> {
        self.open.get(&id)
    }

    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.open.get_mut(&id)
    }

    pub fn remove(&mut self, id: StreamId) {
        self.open.remove(&id);
    }

    pub fn ids(&self) -> Vec<StreamId> {
        self.open.keys().copied().collect()
    }

    /// Puts a piece behind the others; when it arrives, if it may at `arrives_ns`. `None` on a broken stream.
    pub fn push(&mut self, id: StreamId, way: Way, piece: Piece, arrives_ns: u64) -> Option<u64> {
        let flow = &mut self.open.get_mut(&id)?.flows[way as usize];
        flow.last_ns = flow.last_ns.max(arrives_ns);
        flow.pieces.push_back(piece);
        Some(flow.last_ns)
    }

    /// A host has no power any more: nobody sends again what is still on the way from it.
    pub fn lose_power(&mut self, server: usize) {
        for stream in self.open.values_mut() {
            for way in [Way::ToListener, Way::ToOpener] {
                if stream.ends(way).0 == server {
                    stream.flows[way as usize].pieces.clear();
                }
            }
        }
    }

    /// The piece that arrives next.
    pub fn pop(&mut self, id: StreamId, way: Way) -> Option<Piece> {
        self.open.get_mut(&id)?.flows[way as usize].pieces.pop_front()
    }
}
