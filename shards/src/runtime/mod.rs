//! What drives a shard: sockets, executors, the mesh's rings, the journal writer, clocks.
//!
//! The only place of the library where anything waits. Protocol decisions are the [`crate::Engine`]'s.

pub mod executor;
pub mod frame;
mod group;
pub mod journal_writer;
mod local;
pub mod mesh;
pub mod node;
pub mod port;
pub mod socket;
mod watch;

pub use crate::sys::clock;
pub use executor::{DriverLimits, ShardEnd, ShardSetup, spawn_shard};
pub use journal_writer::{Durability, JournalCounters, JournalFailure, JournalFile, JournalWriter};
pub use local::give_way;
pub use mesh::{LaneSizes, NodeEnds, NodeHandle, NodeWaker};
pub use node::{Executor, Placement, SpawnError, spawn};
pub use port::{DriverCounters, Request, ShardPort};
pub use socket::{Opened, RING_SLOTS_MAX, ShardSocket, SocketError, Steering, open_raw, open_udp};
