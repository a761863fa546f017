//! Which HA executors serve which relationship: each has listeners and senders of its own, side by side in the mesh.

use std::sync::Arc;

use shards::{NodeId, Topology};

/// Executors of every relationship, in the order of the list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HaNodes(Arc<[Counts]>);

/// How many of each kind, and how many there are before them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Counts {
    listeners: (u8, u8),
    senders: (u8, u8),
}

impl HaNodes {
    /// Of relationships with so many listeners and senders each.
    pub fn new(counts: impl IntoIterator<Item = (u8, u8)>) -> Self {
        let mut before = (0, 0);
        let place = |(listeners, senders)| {
            let counts = Counts { listeners: (before.0, listeners), senders: (before.1, senders) };
            before = (before.0 + listeners, before.1 + senders);
            counts
        };
        Self(counts.into_iter().map(place).collect())
    }

    /// One relationship that has all executors of `topology`.
    pub fn all_of(topology: Topology) -> Self {
        Self::new([(topology.listeners, topology.senders)])
    }

    /// How many relationships there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Listeners of all of them, and senders.
    pub fn totals(&self) -> (u8, u8) {
        let last = self.0.last().map(|last| (last.listeners, last.senders));
        last.map_or((0, 0), |(listeners, senders)| (listeners.0 + listeners.1, senders.0 + senders.1))
    }

    /// Of each relationship, its first sender among all of them and how many it has.
    pub fn senders(&self) -> impl Iterator<Item = (u8, u8)> + '_ {
        self.0.iter().map(|counts| counts.senders)
    }

    /// How many listeners the relationship has.
    pub fn listeners(&self, relationship: usize) -> u8 {
        self.0.get(relationship).map_or(0, |counts| counts.listeners.1)
    }

    /// The first sender of the relationship, over which its commands go.
    pub fn first_sender(&self, relationship: usize, topology: Topology) -> Option<NodeId> {
        let (first, count) = self.0.get(relationship)?.senders;
        (count > 0).then(|| topology.sender(first))
    }

    /// The relationship whose HA executor `node` is; `None` for a shard and the control node.
    pub fn of(&self, node: NodeId, topology: Topology) -> Option<usize> {
        let index = node.0.checked_sub(topology.shards)?;
        let holds = |(first, count): (u8, u8), index: u8| (first..first + count).contains(&index);
        match index.checked_sub(topology.listeners) {
            None => self.0.iter().position(|counts| holds(counts.listeners, index)),
            Some(index) => self.0.iter().position(|counts| holds(counts.senders, index)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_executor_is_one_relationships() {
        let nodes = HaNodes::new([(2, 1), (1, 3), (0, 1)]);
        assert_eq!((nodes.count(), nodes.totals()), (3, (3, 5)));
        let topology = Topology { shards: 4, listeners: 3, senders: 5 };
        let whose: Vec<Option<usize>> = (0..13).map(|node| nodes.of(NodeId(node), topology)).collect();
        let (none, first, second, third) = (None, Some(0), Some(1), Some(2));
        assert_eq!(
            whose,
            [none, none, none, none, first, first, second, first, second, second, second, third, none]
        );
        assert_eq!(nodes.senders().collect::<Vec<_>>(), [(0, 1), (1, 3), (4, 1)]);
        assert_eq!(nodes.first_sender(1, topology), Some(NodeId(8)));
        assert_eq!((nodes.listeners(0), nodes.listeners(2), nodes.listeners(3)), (2, 0, 0));
        assert_eq!(HaNodes::all_of(topology).of(NodeId(11), topology), Some(0));
        assert_eq!(HaNodes::default().totals(), (0, 0));
    }
}
