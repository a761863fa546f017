//! Single-writer counters of a shard, summed on read, under Kea's names.

/// Counters of one shard, copied out on demand.
#[derive(Clone, Debug, Default)]
pub struct ShardStatistics {}
