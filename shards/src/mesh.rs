//! Who is in the mesh, and over which lanes they speak (pure types).
//!
//! Every executor is a node. A lane is a bounded single-producer queue from one node to another; the state
//! lane is never allowed to lose a message (its credit is reserved before work starts), the datagram lane is
//! (the client retransmits).

/// Number of a node of the mesh: shards first, then HA listeners, HA senders, and the control node last.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId(pub u8);

/// The two lanes between shards. Other pairs of nodes have only the state lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lane {
    /// Forwarded queries; when full the query is dropped and counted.
    Datagram,
    /// Everything that must not be lost.
    State,
}

/// How many executors of each kind there are; fixed for the life of the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Topology {
    /// Shards (`thread-pool-size`), 1..=64.
    pub shards: u8,
    /// HA listen executors (`http-listener-threads`), 0 without HA.
    pub listeners: u8,
    /// HA send executors (`http-client-threads`), 0 without HA.
    pub senders: u8,
}

impl Topology {
    /// Node of shard `index`.
    pub fn shard(self, index: u8) -> NodeId {
        assert!(index < self.shards);
        NodeId(index)
    }

    /// Node of HA listen executor `index`.
    pub fn listener(self, index: u8) -> NodeId {
        assert!(index < self.listeners);
        NodeId(self.shards + index)
    }

    /// Node of HA send executor `index`.
    pub fn sender(self, index: u8) -> NodeId {
        assert!(index < self.senders);
        NodeId(self.shards + self.listeners + index)
    }

    /// The control node: commands, configuration, the HA machine.
    pub fn control(self) -> NodeId {
        NodeId(self.shards + self.listeners + self.senders)
    }

    /// How many nodes there are.
    pub fn nodes(self) -> usize {
        usize::from(self.control().0) + 1
    }

    /// Whether `node` is a shard.
    pub fn is_shard(self, node: NodeId) -> bool {
        node.0 < self.shards
    }

    /// Whether there is a state lane from `from` to `to`. HA executors do not speak to each other.
    pub fn has_state_lane(self, from: NodeId, to: NodeId) -> bool {
        let control = self.control();
        from != to && (self.is_shard(from) || self.is_shard(to) || from == control || to == control)
    }

    /// Whether there is a datagram lane from `from` to `to`: between every two shards.
    pub fn has_datagram_lane(self, from: NodeId, to: NodeId) -> bool {
        from != to && self.is_shard(from) && self.is_shard(to)
    }
}
