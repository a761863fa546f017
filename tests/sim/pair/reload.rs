//! Another configuration for a server that runs: the operator's mistake, and its correction.
//!
//! What is loaded by mistake lacks the subnet. A server without it refuses its partner's updates as conflicts.

use std::sync::Arc;

use shards::Lane;
use tandem::engine::message::Message;

use super::server::snapshot;
use super::simulation::{Event, NS_PER_MS, NS_PER_S, Simulation};

impl Simulation {
    /// A server loads a configuration without its subnet, and the right one some seconds later.
    pub fn misconfigure(&mut self, server: usize) {
        // Whose a subnet is cannot change while a hub runs.
        let is_hub = self.plan.hub && server == 0;
        if !is_hub && self.load(server, false) {
            self.tally.mistakes += 1;
            let while_ns = 500 * NS_PER_MS + self.draw(6 * NS_PER_S);
            let life = self.servers[server].life;
            self.schedule(while_ns, Event::Reload { server, life });
        }
    }

    /// Puts rules in force as the control node does; whether it could begin to.
    pub fn load(&mut self, server: usize, right: bool) -> bool {
        let plan = self.plan;
        let Some(process) = self.servers[server].process.as_mut() else { return false };
        if process.reloading > 0 || process.right == right {
            return false;
        }
        let mut next = snapshot(&plan, server, right);
        next.epoch = process.rules.snapshot.epoch + 1;
        // Every lease is in a subnet that the server has had, so nothing is stray.
        let rules = Arc::new(process.rules.next(Arc::new(next), []));
        process.rules = Arc::clone(&rules);
        process.right = right;
        process.reloading = usize::from(process.topology.shards);
        let topology = process.topology;
        let shards = (0..topology.shards).map(|shard| topology.shard(shard));
        let listeners = (0..topology.listeners).map(|place| topology.listener(place));
        let nodes: Vec<_> = shards.chain(listeners).collect();
        self.trace(|| {
            format!("server{} loads the {} configuration", server + 1, if right { "right" } else { "wrong" })
        });
        for node in nodes {
            self.post(server, topology.control(), node, Lane::State, Message::Snapshot(Arc::clone(&rules)));
        }
        true
    }

    /// The right configuration again; later, if the wrong one is not in force everywhere yet.
    pub fn correct(&mut self, server: usize) {
        let Some(process) = &self.servers[server].process else { return };
        if !process.right && !self.load(server, true) {
            let life = self.servers[server].life;
            self.schedule(100 * NS_PER_MS, Event::Reload { server, life });
        }
    }
}
