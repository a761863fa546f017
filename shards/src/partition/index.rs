//! Identity indexes.
use std::net::Ipv4Addr;

/// Makes the 64-bit keys of identities. Every shard of an installation uses the same seed.
#[derive(Clone, Copy, Debug)]
pub struct IdentityHasher {
    seed: u64,
}

impl IdentityHasher {
    /// A hasher with the installation's secret.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Key of an identity (a hardware address or a client identifier).
    pub fn key(&self, identity: &[u8]) -> u64 {
        todo!()
    }
}

/// A lease an identity may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IndexEntry {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its subnet.
    pub subnet_id: u32,
}

/// Key to the addresses its client may hold. A stale entry costs a look at the owner, nothing more.
#[derive(Debug)]
pub struct IdentityIndex {}

impl IdentityIndex {
    /// An empty index of at most `entries_max` entries.
    pub fn new(entries_max: usize) -> Self {
        todo!()
    }
    /// Adds an entry, or sets the subnet of the one that is there. False when the index or the key is full.
    pub fn insert(&mut self, key: u64, entry: IndexEntry) -> bool {
        todo!()
    }
    /// Removes the entry of `key` for `address`. False when there is none.
    pub fn remove(&mut self, key: u64, address: Ipv4Addr) -> bool {
        todo!()
    }
    /// Entries of `key`, in the order they were added.
    pub fn find(&self, key: u64) -> impl Iterator<Item = IndexEntry> + '_ {
        todo!();
        #[allow(unreachable_code)]
        std::iter::empty()
    }
}

/// The two indexes of a shard.
#[derive(Debug)]
pub struct Identities {
    /// By hardware address, for clients whose arrival shard this is.
    pub hardware: IdentityIndex,
    /// By client identifier, for clients whose home this is.
    pub client_id: IdentityIndex,
}
