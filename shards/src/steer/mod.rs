//! One hash, and the kernel programs that compute it.
//!
//! [`SteerHash`] decides at which shard a client arrives and [`Queue`] in which of its queues it waits there; [`program`]
//! writes both as classic BPF for the three places where the kernel chooses or filters. The programs are data: `sys`
//! attaches them.
//!
//! Invariant: for every packet the programs give the shard of [`SteerHash::shard_of_message`] and the queue of
//! [`Queue::of_message`].

pub mod hash;
pub mod program;
pub mod queue;

pub use hash::SteerHash;
pub use program::Instruction;
pub use queue::Queue;
