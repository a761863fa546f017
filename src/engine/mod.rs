//! The per-shard machine: implements `shards::Engine`.
//!
//! One [`Engine`] per shard decides every query that reaches its shard: it reads it, finds out whose it is, sends
//! it on to the shard that owns the address, or decides it, commits the lease and parks the reply until every
//! obligation is cleared. It is pure: inputs and `now` in, actions out.

pub mod counters;
pub mod event;
pub mod message;
pub mod parking;
pub mod rules;

use std::sync::Arc;

use shards::journal::Columns;
use shards::{Actions, DatagramMeta, NodeId, Now, Topology};

use crate::engine::event::Event;
use crate::engine::message::Message;
use crate::engine::rules::{Rules, ShardLeases, Steering};
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
    /// What the HA machine decided so far.
    pub view: Arc<HaView>,
    /// Columns of the lease file.
    pub columns: Columns,
    /// Leases and index entries of this shard, from [`rules::split`].
    pub leases: ShardLeases,
}

/// The machine of one shard.
#[derive(Debug)]
pub struct Engine {
    start: EngineStart,
}

impl Engine {
    /// An engine that holds the leases it starts with.
    pub fn new(now: Now, start: EngineStart) -> Self {
        todo!()
    }
}

impl shards::Engine for Engine {
    type Message = Message;
    type Event = Event;

    fn handle_datagram(
        &mut self,
        now: Now,
        meta: &DatagramMeta,
        bytes: &[u8],
        actions: &mut Actions<Message, Event>,
    ) {
        todo!()
    }
    fn handle_message(
        &mut self,
        now: Now,
        from: NodeId,
        message: Message,
        actions: &mut Actions<Message, Event>,
    ) {
        todo!()
    }
    fn handle_persisted(&mut self, now: Now, batch: u64, actions: &mut Actions<Message, Event>) {
        todo!()
    }
    fn handle_timeout(&mut self, now: Now, actions: &mut Actions<Message, Event>) {
        todo!()
    }
    fn next_timeout(&self) -> Option<u64> {
        todo!()
    }
    fn set_journal_waiting(&mut self, waiting_bytes: usize) {
        todo!()
    }
}
