//! The per-shard machine: implements `shards::Engine`.
pub mod counters;
pub mod message;
