//! Invariant 7: no query is forwarded more often than it may be, and no node hears what it does not understand.

use tandem::engine::counters::OwnCounter;
use tandem::engine::message::{ShardCommandBody, ShardReplyBody};

use crate::sim::pair::simulation::Simulation;

impl Simulation {
    pub fn check_limits(&mut self, server: usize) {
        for (shard, body) in self.ask_shards(server, || ShardCommandBody::Statistics).into_iter().enumerate()
        {
            let ShardReplyBody::Statistics(statistics) = body else { panic!("no statistics but {body:?}") };
            for counter in [OwnCounter::HopLimit, OwnCounter::UnexpectedMessage] {
                let count = statistics.own(counter);
                if count > 0 {
                    let name = counter.name();
                    let what =
                        format!("invariant 7: {name} is {count} on shard {shard} of server{}", server + 1);
                    self.checks.fail(what);
                }
            }
        }
    }
}
