//! The hash that decides which shard a client arrives at, the same in the kernel and here.

/// Spreads hardware addresses and client identifiers over the shards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SteerHash {
    multiplier: u32,
    shards: u8,
}

impl SteerHash {
    /// A hash over `shards` shards (1..=64); `seed` is the installation's secret.
    pub fn new(seed: u64, shards: u8) -> Self {
        todo!()
    }

    /// Shard of a hardware address, `chaddr[..hlen]`, or of a client identifier.
    pub fn shard_of(&self, identity: &[u8]) -> u8 {
        todo!()
    }

    /// Shard the kernel gives a DHCP message to: that of its hardware address, 0 when it is too short.
    pub fn shard_of_message(&self, message: &[u8]) -> u8 {
        todo!()
    }
}
