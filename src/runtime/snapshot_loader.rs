//! Puts rules in force on every shard, and knows when all of them have them.
//!
//! Rules are compiled off the data cores and handed over by message; each shard switches between two datagrams,
//! says so, and sends the old ones back, so that they are freed here. One change is under way at a time.

use std::sync::Arc;

use shards::runtime::NodeEnds;
use shards::{Lane, NodeId};

use crate::engine::message::Message;
use crate::engine::rules::Rules;

/// The control node's side of a change of rules.
#[derive(Debug, Default)]
pub struct SnapshotLoader {
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    epoch: u64,
    /// A bit for each shard that has not answered.
    missing: u64,
}

/// Why rules cannot be put in force now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Busy {
    /// The change before has not reached every shard.
    #[error("the configuration before this one is still being put in force")]
    UnderWay,
    /// A shard's lane is full.
    #[error("a shard is too busy to take a configuration")]
    LaneFull,
}

impl SnapshotLoader {
    /// Sends `rules` to every shard.
    ///
    /// # Errors
    /// [`Busy`]; then no shard was sent anything.
    pub fn post(&mut self, node: &NodeEnds<Message>, rules: &Arc<Rules>) -> Result<(), Busy> {
        if self.under_way.is_some() {
            return Err(Busy::UnderWay);
        }
        let shards: Vec<NodeId> =
            (0..node.topology().shards).map(|index| node.topology().shard(index)).collect();
        if shards.iter().any(|shard| node.credit(*shard, Lane::State) == 0) {
            return Err(Busy::LaneFull);
        }
        let mut missing = 0;
        for shard in shards {
            // The control node is the only sender of this lane, so the place seen above is still free.
            if node.try_send(shard, Lane::State, Message::Snapshot(rules.clone())).is_ok() {
                missing |= 1 << shard.0;
            }
        }
        self.under_way = Some(UnderWay { epoch: rules.snapshot.epoch, missing });
        Ok(())
    }

    /// A shard's `SnapshotApplied`; `old` is freed here. True when that was the last shard.
    pub fn handle_applied(&mut self, shard: NodeId, epoch: u64, old: Arc<Rules>) -> bool {
        drop(old);
        let Some(under_way) = &mut self.under_way else { return false };
        if under_way.epoch != epoch {
            return false;
        }
        under_way.missing &= !(1 << shard.0);
        if under_way.missing != 0 {
            return false;
        }
        self.under_way = None;
        true
    }

    /// Whether a change is on its way.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use shards::Topology;
    use shards::runtime::{LaneSizes, mesh};

    use super::*;
    use crate::engine::rules::Steering;
    use crate::policy::Snapshot;

    /// Rules for two shards.
    pub(in crate::runtime) fn rules(epoch: u64) -> Arc<Rules> {
        let document =
            config::parse_dhcp4(br#"{"Dhcp4": {"valid-lifetime": 60}}"#, "test.conf").unwrap().document;
        let host = crate::policy::compile::Host::new(&[], epoch);
        let snapshot: Snapshot = crate::policy::compile::compile(&document, &host).unwrap().snapshot;
        Arc::new(Rules::at_start(Arc::new(snapshot), &Steering::new(1, 2), 1, &[]))
    }

    #[test]
    fn a_change_ends_when_every_shard_has_answered_and_not_before() {
        let topology = Topology { shards: 2, listeners: 0, senders: 0 };
        let mut ends = mesh::build::<Message>(topology, LaneSizes { datagram: 2, state: 2 }).unwrap();
        let control = ends.pop().unwrap();
        let mut loader = SnapshotLoader::default();
        let (first, second) = (rules(1), rules(2));
        loader.post(&control, &second).unwrap();
        assert_eq!(loader.post(&control, &second), Err(Busy::UnderWay));
        assert!(!loader.handle_applied(NodeId(0), 1, first.clone()), "an answer to another epoch");
        assert!(!loader.handle_applied(NodeId(0), 2, first.clone()));
        assert!(!loader.handle_applied(NodeId(0), 2, first.clone()), "the same shard again");
        assert!(loader.is_under_way());
        assert!(loader.handle_applied(NodeId(1), 2, first));
        assert!(!loader.is_under_way());
        for shard in &ends {
            assert_eq!(shard.receive(Lane::State, 9, |_, _| {}), 1);
        }
    }
}
