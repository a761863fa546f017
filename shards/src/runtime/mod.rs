//! What drives a shard: sockets, executors, the mesh's rings, the journal writer, clocks.
//!
//! The only place of the library where anything waits. Protocol decisions are the [`crate::Engine`]'s.

pub mod mesh;
pub mod node;

pub use mesh::{LaneSizes, NodeEnds, NodeHandle, NodeWaker};
pub use node::{Executor, Placement, SpawnError, spawn};
