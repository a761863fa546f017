//! Offers in memory: an address offered to a client is kept from others for a while.
//!
//! A hold is not a lease: it is neither written nor replicated, and never a reason to refuse (with nothing
//! else left the oldest is reused). A client has one hold, an address has one hold. All last equally long, so
//! the order in which they were made is the order in which they end.

use std::collections::HashMap;

use super::PoolSet;
use crate::keyed_hash::KeyedState;

/// No node.
const NONE: u32 = u32::MAX;

/// One hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hold {
    /// The address.
    pub address: u32,
    /// Keyed hash of the client's identity.
    pub client: u64,
    /// Pools that the address was picked from, or is in.
    pub set: PoolSet,
    /// When it ends, on the monotonic clock, nanoseconds.
    pub until_ns: u64,
}

/// The holds of a shard.
#[derive(Debug)]
pub struct Holds {
    nodes: Vec<Node>,
    unused: Vec<u32>,
    by_address: HashMap<u32, u32, KeyedState>,
    by_client: HashMap<u64, u32, KeyedState>,
    all: Chain,
    by_set: HashMap<PoolSet, Chain, KeyedState>,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    hold: Hold,
    links: [Link; 2],
}

#[derive(Clone, Copy, Debug)]
struct Link {
    older: u32,
    newer: u32,
}

/// Which of a node's links a chain uses.
const ALL: usize = 0;
const SET: usize = 1;

/// A doubly linked list through the nodes, oldest first.
#[derive(Clone, Copy, Debug)]
struct Chain {
    oldest: u32,
    newest: u32,
}

impl Chain {
    const EMPTY: Self = Self { oldest: NONE, newest: NONE };

    fn push(&mut self, nodes: &mut [Node], which: usize, node: u32) {
        nodes[node as usize].links[which] = Link { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = node,
            newest => nodes[newest as usize].links[which].newer = node,
        }
        self.newest = node;
    }

    fn unlink(&mut self, nodes: &mut [Node], which: usize, node: u32) {
        let Link { older, newer } = nodes[node as usize].links[which];
        match older {
            NONE => self.oldest = newer,
            older => nodes[older as usize].links[which].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => nodes[newer as usize].links[which].older = older,
        }
    }
}

impl Holds {
    /// None yet, at most `max` (at least 1) at a time.
    pub fn new(max: usize) -> Self {
        Self {
            nodes: Vec::new(),
            unused: Vec::new(),
            by_address: HashMap::default(),
            by_client: HashMap::default(),
            all: Chain::EMPTY,
            by_set: HashMap::default(),
            max: max.clamp(1, NONE as usize - 1),
        }
    }

    /// Makes the newest of a hold that is there for the same address, client and set of pools. False, changing nothing,
    /// when there is none.
    pub fn renew(&mut self, hold: Hold) -> bool {
        let Some(&index) = self.by_address.get(&hold.address) else { return false };
        let known = self.nodes[index as usize].hold;
        if (known.client, known.set) != (hold.client, hold.set) {
            return false;
        }
        self.nodes[index as usize].hold = hold;
        if self.all.newest != index {
            self.all.unlink(&mut self.nodes, ALL, index);
            self.all.push(&mut self.nodes, ALL, index);
            if let Some(chain) = self.by_set.get_mut(&hold.set) {
                chain.unlink(&mut self.nodes, SET, index);
                chain.push(&mut self.nodes, SET, index);
            }
        }
        true
    }

    /// Makes `hold` the newest. Up to three others end for it and are handed to `ended`: that of its address,
    /// that of its client, and the oldest of all when there are too many.
    pub fn insert(&mut self, hold: Hold, mut ended: impl FnMut(Hold)) {
        let replaced = [self.remove(hold.address), self.remove_client(hold.client)];
        replaced.into_iter().flatten().for_each(&mut ended);
        if self.len() >= self.max
            && let Some(oldest) = self.oldest()
        {
            self.remove(oldest.address);
            ended(oldest);
        }
        let node = Node { hold, links: [Link { older: NONE, newer: NONE }; 2] };
        let index = match self.unused.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.all.push(&mut self.nodes, ALL, index);
        let chain = self.by_set.entry(hold.set).or_insert(Chain::EMPTY);
        chain.push(&mut self.nodes, SET, index);
        self.by_address.insert(hold.address, index);
        self.by_client.insert(hold.client, index);
    }

    /// Ends the hold on `address`.
    pub fn remove(&mut self, address: u32) -> Option<Hold> {
        let index = self.by_address.remove(&address)?;
        let hold = self.nodes[index as usize].hold;
        self.by_client.remove(&hold.client);
        self.all.unlink(&mut self.nodes, ALL, index);
        if let Some(chain) = self.by_set.get_mut(&hold.set) {
            chain.unlink(&mut self.nodes, SET, index);
            if chain.oldest == NONE {
                self.by_set.remove(&hold.set);
            }
        }
        self.unused.push(index);
        Some(hold)
    }

    /// The hold on `address`.
    pub fn of_address(&self, address: u32) -> Option<Hold> {
        self.by_address.get(&address).map(|&index| self.nodes[index as usize].hold)
    }

    /// The hold of `client`.
    pub fn of_client(&self, client: u64) -> Option<Hold> {
        self.by_client.get(&client).map(|&index| self.nodes[index as usize].hold)
    }

    /// The oldest hold.
    pub fn oldest(&self) -> Option<Hold> {
        self.nodes.get(self.all.oldest as usize).map(|node| node.hold)
    }

    /// Holds of the set of pools, oldest first.
    pub fn of_set(&self, set: PoolSet) -> impl Iterator<Item = Hold> + '_ {
        let mut at = self.by_set.get(&set).map_or(NONE, |chain| chain.oldest);
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.links[SET].newer;
            Some(node.hold)
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Bytes kept.
    pub fn memory(&self) -> usize {
        let maps = self.by_address.capacity() * size_of::<(u32, u32)>()
            + self.by_client.capacity() * size_of::<(u64, u32)>();
        maps + self.nodes.capacity() * size_of::<Node>() + self.unused.capacity() * size_of::<u32>()
    }

    fn remove_client(&mut self, client: u64) -> Option<Hold> {
        let address = self.of_client(client)?.address;
        self.remove(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(address: u32, client: u64, subnet_id: u32) -> Hold {
        Hold { address, client, set: subnet_id.into(), until_ns: 0 }
    }

    fn insert(holds: &mut Holds, new: Hold) -> Vec<u32> {
        let mut ended = Vec::new();
        holds.insert(new, |hold| ended.push(hold.address));
        ended
    }

    fn addresses(holds: &Holds, subnet_id: u32) -> Vec<u32> {
        holds.of_set(subnet_id.into()).map(|hold| hold.address).collect()
    }

    #[test]
    fn an_address_and_a_client_have_one_hold_and_the_oldest_gives_way() {
        let mut holds = Holds::new(3);
        for (new, expected) in [
            (hold(1, 10, 1), vec![]),
            (hold(2, 20, 2), vec![]),
            (hold(3, 10, 1), vec![1]),
            (hold(2, 30, 2), vec![2]),
            (hold(4, 40, 1), vec![]),
            (hold(5, 50, 1), vec![3]),
            (hold(4, 50, 1), vec![4, 5]),
            (hold(4, 50, 1), vec![4]),
        ] {
            assert_eq!(insert(&mut holds, new), expected, "{new:?}");
        }
        assert_eq!((addresses(&holds, 1), addresses(&holds, 2), holds.len()), (vec![4], vec![2], 2));
        assert_eq!(holds.of_client(20), None);
        assert_eq!(holds.of_client(30), holds.of_address(2));
        assert_eq!(holds.oldest().map(|hold| hold.address), Some(2));
    }

    #[test]
    fn a_hold_that_is_renewed_is_the_newest_and_ends_later() {
        let mut holds = Holds::new(10);
        for address in 1..=3 {
            insert(&mut holds, hold(address, u64::from(address), 1));
        }
        for (again, renewed, order) in [
            (hold(3, 3, 1), true, [1, 2, 3]),
            (hold(1, 1, 1), true, [2, 3, 1]),
            (hold(3, 9, 1), false, [2, 3, 1]),
            (hold(3, 3, 2), false, [2, 3, 1]),
            (hold(9, 9, 1), false, [2, 3, 1]),
        ] {
            assert_eq!(holds.renew(Hold { until_ns: 5, ..again }), renewed, "{again:?}");
            assert_eq!(addresses(&holds, 1), order, "{again:?}");
        }
        assert_eq!(holds.of_address(1).map(|hold| hold.until_ns), Some(5));
        assert_eq!(holds.oldest().map(|hold| hold.address), Some(2));
    }

    #[test]
    fn removing_from_the_middle_keeps_the_order_by_age() {
        let mut holds = Holds::new(10);
        for address in 1..=5 {
            insert(&mut holds, hold(address, u64::from(address), 1));
        }
        for (removed, left) in [(3, vec![1, 2, 4, 5]), (1, vec![2, 4, 5]), (5, vec![2, 4])] {
            assert_eq!(holds.remove(removed).map(|hold| hold.address), Some(removed));
            assert_eq!(addresses(&holds, 1), left);
        }
        insert(&mut holds, hold(6, 6, 1));
        assert_eq!(addresses(&holds, 1), [2, 4, 6]);
        assert_eq!(holds.remove(3), None);
        assert!(!holds.is_empty());
    }
}
