//! The per-shard machine: implements `shards::Engine`.
//!
//! One [`Engine`] per shard decides every query that reaches its shard: it reads it ([`receive`]), sends it on to
//! the shard that can decide it ([`routing`]), decides it ([`serve`]), commits the lease ([`commit`]) and parks
//! the reply until every obligation is cleared ([`parking`], [`completion`]). Commands of control and partner are
//! in [`command`], reclamation of expired leases in [`reclaim`], what a copy must hear of in [`changes`]. It is pure:
//! inputs and `now` in, actions out.
//!
//! Invariants others rely on:
//! - a lease changes only in [`commit`] and [`reclaim`], after room was reserved for everything that follows;
//! - a shard changes only leases it owns; the partition asserts it;
//! - no reply that gives a lease leaves before its obligations are cleared.

mod changes;
mod command;
mod commit;
mod completion;
mod conflict_log;
pub mod counters;
pub mod event;
mod lately;
pub mod message;
pub mod parking;
mod receive;
mod reclaim;
mod relation;
mod replicate;
mod routing;
pub mod rules;
mod serve;
mod shard;
mod standing;

use std::sync::Arc;

use shards::journal::Columns;
use shards::partition::Partition;
use shards::{Actions, DatagramMeta, NodeId, Now, Topology};

use crate::engine::counters::ShardStatistics;
use crate::engine::event::Event;
use crate::engine::message::Message;
use crate::engine::parking::ParkingLot;
use crate::engine::rules::{Rules, ShardLeases, Steering};
use crate::engine::shard::{Shard, Turn};
use crate::ha::nodes::HaNodes;
use crate::ha::view::HaView;

/// What an engine starts with.
#[derive(Debug)]
pub struct EngineStart {
    /// Which shard it is.
    pub shard: u8,
    /// The mesh.
    pub topology: Topology,
    /// How clients are spread.
    pub steering: Steering,
    /// Configuration and tables in force.
    pub rules: Arc<Rules>,
    /// What the HA machines decided so far.
    pub view: Arc<HaView>,
    /// Which senders are whose.
    pub nodes: HaNodes,
    /// Columns of the lease file.
    pub columns: Columns,
    /// Leases and index entries of this shard, from [`rules::split`].
    pub leases: ShardLeases,
}

/// The machine of one shard.
#[derive(Debug)]
pub struct Engine {
    /// Beside the rest, so that the rules can be read while the shard changes.
    rules: Arc<Rules>,
    shard: Shard,
}

/// What a shard holds: for those who check it. Nothing that serves clients reads it.
#[derive(Clone, Copy, Debug)]
pub struct Inspection<'a> {
    /// Leases, indexes and who owns what.
    pub partition: &'a Partition,
    /// Replies that wait.
    pub parking: &'a ParkingLot,
    /// Counters.
    pub statistics: &'a ShardStatistics,
    /// Messages kept back until there is room in their lane.
    pub kept: usize,
}

impl Engine {
    /// An engine that holds the leases it starts with.
    pub fn new(now: Now, start: EngineStart) -> Self {
        let rules = Arc::clone(&start.rules);
        Self { rules, shard: Shard::new(now, start) }
    }

    /// What the shard holds, to be looked at from outside.
    pub fn inspect(&self) -> Inspection<'_> {
        let Shard { partition, parking, statistics, outbox, handed_back, .. } = &self.shard;
        Inspection { partition, parking, statistics, kept: outbox.len() + handed_back.len() }
    }
}

impl shards::Engine for Engine {
    type Message = Message;
    type Event = Event;

    fn ahead(&self, bytes: &[u8]) -> Option<&u64> {
        self.shard.ahead(bytes)
    }

    fn ahead_of(&self, message: &Message, fetch: impl FnMut(&u64)) {
        if let Message::Command(command) = message {
            self.shard.ahead_of(&command.body, fetch);
        }
    }

    fn handle_datagram(
        &mut self,
        now: Now,
        meta: &DatagramMeta,
        bytes: &[u8],
        actions: &mut Actions<Message, Event>,
    ) {
        self.shard.receive(&mut Turn { now, rules: &self.rules, actions }, meta, bytes);
    }

    fn handle_message(
        &mut self,
        now: Now,
        from: NodeId,
        message: Message,
        actions: &mut Actions<Message, Event>,
    ) {
        let rules = match message {
            Message::Snapshot(rules) => rules,
            other => {
                self.shard.handle_message(&mut Turn { now, rules: &self.rules, actions }, from, other);
                return;
            }
        };
        let old = std::mem::replace(&mut self.rules, rules);
        self.shard.reconfigure(&mut Turn { now, rules: &self.rules, actions }, from, old);
    }

    fn handle_persisted(&mut self, now: Now, batch: u64, actions: &mut Actions<Message, Event>) {
        self.shard.persisted(&mut Turn { now, rules: &self.rules, actions }, batch);
    }

    fn handle_timeout(&mut self, now: Now, actions: &mut Actions<Message, Event>) {
        self.shard.timeout(&mut Turn { now, rules: &self.rules, actions });
    }

    fn next_timeout(&self) -> Option<u64> {
        Some(self.shard.next_timeout())
    }

    fn set_journal_waiting(&mut self, waiting_bytes: usize) {
        self.shard.set_journal_waiting(waiting_bytes);
    }
}
