//! Invariant 3: a lease lies with the owner of its address, and with nobody else.

use shards::{Actions, Engine as _, Lane, Lease};
use tandem::engine::message::{Message, ShardCommand, ShardCommandBody, ShardReplyBody};

use crate::sim::pair::simulation::Simulation;

/// Number of a question of the checks, which no asker of the server uses.
const QUESTION: u64 = u64::MAX;

impl Simulation {
    pub fn check_owners(&mut self, server: usize, tables: &[Vec<Lease>]) {
        let Some(process) = &self.servers[server].process else { return };
        let owners = process.rules.owners.clone();
        for (shard, leases) in (0u8..).zip(tables) {
            if let Some(lease) = leases.iter().find(|lease| owners.owner_of(lease.address) != shard) {
                let what = format!("invariant 3: shard {shard} of server{} holds {lease:?}", server + 1);
                self.checks.fail(what);
            }
        }
    }

    /// The leases of every shard.
    pub fn tables(&mut self, server: usize) -> Vec<Vec<Lease>> {
        let page = || ShardCommandBody::Page { after: None, limit: usize::MAX, subnets: Vec::new() };
        let leases = |body| match body {
            ShardReplyBody::Leases(leases) => leases,
            other => panic!("no page but {other:?}"),
        };
        self.ask_shards(server, page).into_iter().map(leases).collect()
    }

    /// Asks every shard at once and beside the mesh; what else they have to say goes its ordinary way.
    pub fn ask_shards(&mut self, server: usize, body: impl Fn() -> ShardCommandBody) -> Vec<ShardReplyBody> {
        let now = self.clock_of(server);
        let mut answers = Vec::new();
        let Some(process) = self.servers[server].process.as_mut() else { return answers };
        let topology = process.topology;
        for shard in 0..topology.shards {
            let Some(process) = self.servers[server].process.as_mut() else { return answers };
            let node = topology.shard(shard);
            let mut actions = Actions::new(topology.nodes());
            process.mesh.grant_credit(node, &mut actions);
            let command = Message::Command(Box::new(ShardCommand { request: QUESTION, body: body() }));
            let engine = &mut process.engines[usize::from(shard)];
            engine.handle_message(now, topology.control(), command, &mut actions);
            for (to, lane, message) in actions.messages {
                match message {
                    Message::Reply(reply) if reply.request == QUESTION => answers.push(reply.body),
                    other => self.post(server, node, to, lane, other),
                }
            }
        }
        assert_eq!(answers.len(), usize::from(topology.shards), "{:?} lanes are full", Lane::State);
        answers
    }
}
