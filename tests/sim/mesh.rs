//! The lanes between the nodes of one server, with the limits of the runtime.
//!
//! Lanes are first in, first out; which lane moves next is the driver's choice.

use std::collections::VecDeque;

use shards::{Actions, Lane, NodeId, Topology};
use tandem::engine::event::Event;
use tandem::engine::message::Message;
use tandem::limits;

/// All lanes of one server.
pub struct Mesh {
    /// Places of a datagram lane and of a state lane.
    pub datagram_lane: usize,
    pub state_lane: usize,
    topology: Topology,
    lanes: Vec<LaneQueue>,
    /// Messages on their way from shard to shard.
    between_shards: usize,
}

struct LaneQueue {
    from: NodeId,
    to: NodeId,
    lane: Lane,
    messages: VecDeque<Message>,
}

impl Mesh {
    /// Empty lanes between all nodes that speak to each other.
    pub fn new(topology: Topology) -> Self {
        let nodes = || (0..topology.nodes() as u8).map(NodeId);
        let mut lanes = Vec::new();
        for (from, to) in nodes().flat_map(|from| nodes().map(move |to| (from, to))) {
            for lane in [Lane::Datagram, Lane::State] {
                let exists = match lane {
                    Lane::Datagram => topology.has_datagram_lane(from, to),
                    Lane::State => topology.has_state_lane(from, to),
                };
                if exists {
                    lanes.push(LaneQueue { from, to, lane, messages: VecDeque::new() });
                }
            }
        }
        let (datagram_lane, state_lane) = (limits::DATAGRAM_LANE, limits::STATE_LANE);
        Self { datagram_lane, state_lane, topology, lanes, between_shards: 0 }
    }

    /// Tells `actions` how much room there is on the lanes of `from`.
    pub fn grant_credit(&self, from: NodeId, actions: &mut Actions<Message, Event>) {
        for queue in self.lanes.iter().filter(|queue| queue.from == from) {
            let to = usize::from(queue.to.0);
            let room = self.places(queue.lane).saturating_sub(queue.messages.len()) as u32;
            match queue.lane {
                Lane::Datagram => actions.datagram_credit[to] = room,
                Lane::State => actions.state_credit[to] = room,
            }
        }
    }

    /// Appends a message; the lane it is in. A shard has reserved its place, other nodes wait for one and so may
    /// stand behind a full lane.
    pub fn push(&mut self, from: NodeId, to: NodeId, lane: Lane, message: Message) -> usize {
        let found = |queue: &LaneQueue| queue.from == from && queue.to == to && queue.lane == lane;
        let place = self.lanes.iter().position(found);
        let place = place.unwrap_or_else(|| panic!("no lane {from:?} {to:?} {lane:?}"));
        let places = self.places(lane);
        let queue = &mut self.lanes[place];
        queue.messages.push_back(message);
        self.between_shards += usize::from(self.topology.is_shard(from) && self.topology.is_shard(to));
        let reserved = queue.messages.len() <= places || !self.topology.is_shard(from);
        assert!(reserved, "credit was not reserved for {from:?} {to:?} {lane:?}");
        place
    }

    /// The oldest message of a lane, with its ends.
    pub fn pop(&mut self, lane: usize) -> Option<(NodeId, NodeId, Message)> {
        let queue = &mut self.lanes[lane];
        let message = queue.messages.pop_front()?;
        let (from, to) = (queue.from, queue.to);
        self.between_shards -= usize::from(self.topology.is_shard(from) && self.topology.is_shard(to));
        Some((from, to, message))
    }

    /// How many messages are on their way from shard to shard.
    pub fn between_shards(&self) -> usize {
        self.between_shards
    }

    /// Lanes in which something waits.
    pub fn waiting(&self) -> impl Iterator<Item = usize> + '_ {
        self.lanes.iter().enumerate().filter(|(_, queue)| !queue.messages.is_empty()).map(|(place, _)| place)
    }

    fn places(&self, lane: Lane) -> usize {
        match lane {
            Lane::Datagram => self.datagram_lane,
            Lane::State => self.state_lane,
        }
    }
}
