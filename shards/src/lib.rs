//! What one core owns: sockets, steering, lease partition, journal, mesh, clock.
//!
//! This library knows addresses and leases and nothing of DHCP messages. Everything outside `runtime` and
//! `sys` is pure: bytes, events and `now` in, actions out.
//!
//! Invariants others rely on:
//! - a lease is changed only by the shard that owns its address ([`partition`]);
//! - rows of one address reach the lease file in the order they were appended ([`journal`]);
//! - the kernel programs and [`steer`] compute the same hash.

pub mod admission;
pub mod engine;
pub mod journal;
pub mod keyed_hash;
pub mod mesh;
pub mod partition;
pub mod queue_average;
#[cfg(feature = "runtime")]
pub mod runtime;
mod sip_hash;
pub mod small_bytes;
pub mod steer;
#[cfg(feature = "runtime")]
pub mod sys;

pub use engine::{Actions, DatagramMeta, Engine, Now, Transmit};
pub use mesh::{Lane, NodeId, Topology};
pub use partition::lease::{Lease, LeaseState};
pub use small_bytes::SmallBytes;
