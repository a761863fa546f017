//! A shard's leases and who owns which address.
//!
//! [`OwnerTable`] says which shard owns an address; every shard reads the same one. A [`Partition`] is what
//! one shard owns: its leases by address, their free bits, offer holds and timers, and the identity indexes
//! of the clients whose home it is.
//!
//! Invariants others rely on:
//! - every address, in a subnet or not, has exactly one owner under one `OwnerTable`;
//! - a lease is changed only through the partition of its owner, which asserts so;
//! - an address is handed out only while its lease is absent, reclaimed, released or expired (ALC-35).
//!
//! Nothing here reads a clock, a file or a socket, or knows what a DHCP message is.

pub mod block;
pub mod counts;
pub mod expiry;
pub mod facade;
pub mod hold;
pub mod index;
pub mod lease;
pub mod loaded;
pub mod ownership;
mod packed;
pub mod table;

pub use counts::{FreeCounts, LeaseCounts};
pub use facade::{Partition, PartitionLimits, PartitionMemory, Pick, Wanted};
pub use index::{Identities, IdentityHasher, IdentityIndex, IndexEntry};
pub use lease::{Lease, LeaseState};
pub use loaded::{Deletions, LEASES_PER_PART, LoadedLease, LoadedLeases, LoadedRows, RowOrder};
pub use ownership::{OwnerTable, PoolRange, PoolSet, SubnetSpace};
