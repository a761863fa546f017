//! Whole shards in one process: engines, mesh, journals and the partner's link as values, in a seeded order.

mod sim;
