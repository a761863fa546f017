//! One hash, and the kernel programs that compute it.
//!
//! [`SteerHash`] decides at which shard a client arrives; [`program`] writes it as classic BPF for the three
//! places where the kernel chooses or filters. The programs are data: `sys` attaches them.
//!
//! Invariant: for every packet the programs and [`SteerHash::shard_of_message`] give the same shard.

pub mod hash;
pub mod program;

pub use hash::SteerHash;
pub use program::{FrameStart, Instruction};
