//! Every unsafe block of the shard library: the system calls that no safe crate offers.
//!
//! Each function takes and gives owned descriptors and plain buffers, and says in a safety note why the call is
//! sound. Nothing here decides anything, and nothing here allocates per datagram.

#![allow(unsafe_code)]

pub mod adopt;
pub mod clock;
pub mod event;
pub mod interface;
pub mod lock;
pub mod memory;
pub mod prefetch;
pub mod probe;
pub mod process;
pub mod ready;
pub mod receive;
pub mod ring;
pub mod sched;
pub mod send;
pub mod socket;
pub mod wait;
