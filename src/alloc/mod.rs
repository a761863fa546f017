//! Allocators over the blocks a shard owns (b.6).
//!
//! The search itself, over words of free bits, is the partition's; it is bounded by the blocks the shard owns.
//! Here is what Kea's allocators ask of a candidate beyond being free. Only the iterative allocator exists: the
//! next address after the one last offered in the subnet ([`shards::partition::Pick::Next`]).

use std::net::Ipv4Addr;

use crate::policy::{Snapshot, Subnet};

/// What makes a free address of `subnet` one that may be handed out (ALC-35).
pub fn acceptable(snapshot: &Snapshot, subnet: &Subnet) -> impl Fn(Ipv4Addr) -> bool + use<> {
    let skip_ends = snapshot.exclude_first_last_24 && subnet.prefix_len <= 24;
    move |address| !skip_ends || !matches!(address.octets()[3], 0 | 255)
}
