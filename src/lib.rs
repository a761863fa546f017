//! Tandem: a DHCPv4 server in which two hosts keep one lease database.
//!
//! Protocol, policy, high availability and control live here; what one core owns lives in `shards`; Kea's
//! file format in `config`. Everything outside `runtime` is pure: bytes, events and `now` in, actions out.
//!
//! The map of the house, the walk of a packet and the invariants are in `ARCHITECTURE.md`.

pub mod alloc;
#[cfg(feature = "runtime")]
pub mod cli;
pub mod client;
pub mod control;
pub mod dhcp4;
pub mod engine;
#[cfg(feature = "runtime")]
pub mod fatal;
pub mod ha;
pub mod http;
pub mod limits;
pub mod logging;
pub mod policy;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod wire;
