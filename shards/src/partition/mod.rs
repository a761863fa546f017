//! A shard's leases and who owns which address.
pub mod lease;
