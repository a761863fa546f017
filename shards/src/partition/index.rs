//! From an identity to the addresses its client may hold.
//!
//! The index lives with the client's home (client identifier) or arrival shard (hardware address), the lease
//! with the owner of its address, and an entry is a hint: a stale one costs a look at the owner, nothing
//! more. Keys are keyed 64-bit hashes, so an entry is 16 bytes and an outsider cannot choose identities that
//! collide.
//!
//! Open addressing with linear probing and no tombstones, in parts, so that growing moves a small part at a
//! time. Parts grow by a quarter, and a key's place is its share of the part's slots, so that slots need not be a
//! power of two: between 64 and 80 in a hundred are in use, which makes 20 to 25 bytes for each entry.

use std::net::Ipv4Addr;

use crate::sip_hash::sip_hash;

/// Entries of one key; beyond it the first gives way. As many as a forwarded query carries.
pub const ENTRIES_PER_KEY_MAX: usize = 8;

/// Parts of an index. The low bits of a key choose the part.
const PARTS: usize = 256;

/// Slots a part starts with.
const PART_SLOTS_MIN: usize = 8;

/// Slots a loaded part has for 100 entries: room to grow, before it first has to.
const LOADED_SLOTS_PER_CENT: usize = 135;

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
        sip_hash(self.seed, !self.seed, identity)
    }
}

/// A lease an identity may have.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct IndexEntry {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its subnet.
    pub subnet_id: u32,
}

/// Key to the addresses its client may hold.
#[derive(Debug)]
pub struct IdentityIndex {
    parts: Vec<Part>,
    len: usize,
    entries_max: usize,
}

#[derive(Debug)]
struct Part {
    /// Never more than four fifths in use.
    slots: Vec<Slot>,
    used: usize,
}

/// Key 0 is an empty slot.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    address: u32,
    subnet_id: u32,
}

impl Slot {
    fn entry(self) -> IndexEntry {
        IndexEntry { address: self.address.into(), subnet_id: self.subnet_id }
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

impl IdentityIndex {
    /// An empty index of at most `entries_max` entries.
    pub fn new(entries_max: usize) -> Self {
        let parts = (0..PARTS).map(|_| Part { slots: vec![Slot::default(); PART_SLOTS_MIN], used: 0 });
        Self { parts: parts.collect(), len: 0, entries_max }
    }

    /// Adds an entry, or sets the subnet of the one that is there; of a key with [`ENTRIES_PER_KEY_MAX`]
    /// entries the first gives way. False, changing nothing, when the index is full.
    pub fn insert(&mut self, key: u64, entry: IndexEntry) -> bool {
        let full = self.len >= self.entries_max;
        let slot = Slot { key: usable(key), address: entry.address.into(), subnet_id: entry.subnet_id };
        match self.parts[part_of(key)].insert(slot, full) {
            Insertion::Added => self.len += 1,
            Insertion::Refused => return false,
            Insertion::Replaced => {}
        }
        true
    }

    /// Adds many entries to an empty index; how many were refused because it is full. Part after part, each made for
    /// what it is to hold, so that filling it stays within the cache.
    pub fn load(&mut self, entries: &[Vec<(u64, IndexEntry)>]) -> usize {
        let total: usize = entries.iter().map(Vec::len).sum();
        let mut ends = [0; PARTS];
        for (key, _) in entries.iter().flatten() {
            ends[part_of(*key)] += 1;
        }
        let mut sum = 0;
        let mut starts = [0; PARTS];
        for (start, end) in starts.iter_mut().zip(&mut ends) {
            *start = sum;
            sum += *end;
            *end = *start;
        }
        let mut by_part = vec![Slot::default(); total];
        for &(key, entry) in entries.iter().flatten() {
            let end = &mut ends[part_of(key)];
            by_part[*end] =
                Slot { key: usable(key), address: entry.address.into(), subnet_id: entry.subnet_id };
            *end += 1;
        }
        let mut refused = 0;
        for ((part, start), end) in self.parts.iter_mut().zip(starts).zip(ends) {
            part.slots =
                vec![Slot::default(); ((end - start) * LOADED_SLOTS_PER_CENT / 100).max(PART_SLOTS_MIN)];
            for &slot in &by_part[start..end] {
                match part.insert(slot, self.len >= self.entries_max) {
                    Insertion::Added => self.len += 1,
                    Insertion::Refused => refused += 1,
                    Insertion::Replaced => {}
                }
            }
        }
        refused
    }

    /// Removes the entry of `key` for `address`. False when there is none.
    pub fn remove(&mut self, key: u64, address: Ipv4Addr) -> bool {
        let removed = self.parts[part_of(key)].remove(usable(key), address.into());
        self.len -= usize::from(removed);
        removed
    }

    /// Entries of `key`, in no particular order.
    pub fn find(&self, key: u64) -> impl Iterator<Item = IndexEntry> + '_ {
        let part = &self.parts[part_of(key)];
        let key = usable(key);
        part.probe(key).map(|at| part.slots[at]).filter(move |slot| slot.key == key).map(Slot::entry)
    }

    /// Where a search for `key` begins.
    pub fn first_read(&self, key: u64) -> &u64 {
        let part = &self.parts[part_of(key)];
        &part.slots[part.start(usable(key))].key
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes kept.
    pub fn memory(&self) -> usize {
        self.parts.iter().map(|part| part.slots.capacity() * size_of::<Slot>()).sum()
    }
}

enum Insertion {
    Added,
    Refused,
    Replaced,
}

impl Part {
    /// Where `key` belongs: its high bits as a share of the slots. The low ones chose the part.
    fn start(&self, key: u64) -> usize {
        ((u128::from(key) * self.slots.len() as u128) >> 64) as usize
    }

    /// The position after `at`.
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    /// How far `at` lies behind `from`.
    fn distance(&self, from: usize, at: usize) -> usize {
        if at >= from { at - from } else { at + self.slots.len() - from }
    }

    /// Positions from where `key` starts to the first empty slot, that one left out.
    fn probe(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let mut at = self.start(key);
        std::iter::from_fn(move || {
            // A fifth of the slots is always empty.
            let found = (self.slots[at].key != 0).then_some(at);
            at = self.after(at);
            found
        })
    }

    fn insert(&mut self, slot: Slot, full: bool) -> Insertion {
        let mut same = [0; ENTRIES_PER_KEY_MAX];
        let mut count = 0;
        for at in self.probe(slot.key) {
            if self.slots[at].key == slot.key {
                if self.slots[at].address == slot.address || count == ENTRIES_PER_KEY_MAX {
                    same[0] = at;
                    count = usize::MAX;
                    break;
                }
                same[count] = at;
                count += 1;
            }
        }
        if count == usize::MAX {
            self.slots[same[0]] = slot;
            return Insertion::Replaced;
        }
        if count == ENTRIES_PER_KEY_MAX {
            for pair in same.windows(2) {
                self.slots[pair[0]] = self.slots[pair[1]];
            }
            self.slots[same[ENTRIES_PER_KEY_MAX - 1]] = slot;
            return Insertion::Replaced;
        }
        if full {
            return Insertion::Refused;
        }
        if (self.used + 1) * 5 > self.slots.len() * 4 {
            self.grow();
        }
        self.place(slot);
        self.used += 1;
        Insertion::Added
    }

    fn grow(&mut self) {
        let slots = vec![Slot::default(); self.slots.len() * 5 / 4];
        for slot in std::mem::replace(&mut self.slots, slots).into_iter().filter(|slot| slot.key != 0) {
            self.place(slot);
        }
    }

    /// Puts `slot` into the first empty place of its probe; a fifth of the slots is always empty.
    fn place(&mut self, slot: Slot) {
        let mut at = self.start(slot.key);
        while self.slots[at].key != 0 {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    fn remove(&mut self, key: u64, address: u32) -> bool {
        let found =
            self.probe(key).find(|&at| self.slots[at].key == key && self.slots[at].address == address);
        let Some(mut hole) = found else { return false };
        let mut at = hole;
        loop {
            at = self.after(at);
            if self.slots[at].key == 0 {
                break;
            }
            // A slot may move back into the hole unless that is before where its probe starts.
            let start = self.start(self.slots[at].key);
            if self.distance(start, at) >= self.distance(hole, at) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
        }
        self.slots[hole] = Slot::default();
        self.used -= 1;
        true
    }
}

fn part_of(key: u64) -> usize {
    (usable(key) % PARTS as u64) as usize
}

/// Key 0 marks an empty slot and is taken to be another one; entries are hints, a shared key does no harm.
fn usable(key: u64) -> u64 {
    if key == 0 { PARTS as u64 } else { key }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn entry(address: u32) -> IndexEntry {
        IndexEntry { address: address.into(), subnet_id: 1 }
    }

    #[test]
    fn a_key_keeps_its_last_eight_entries() {
        let mut index = IdentityIndex::new(100);
        for address in 0..20 {
            assert!(index.insert(5, entry(address)));
        }
        let found: BTreeSet<IndexEntry> = index.find(5).collect();
        assert_eq!(found, (12..20).map(entry).collect());
        assert_eq!(index.len(), 8);
        index.insert(5, IndexEntry { subnet_id: 9, ..entry(15) });
        assert!(index.find(5).any(|found| found == IndexEntry { subnet_id: 9, ..entry(15) }));
        assert_eq!(index.find(5).count(), 8);
    }

    #[test]
    fn a_full_index_refuses_new_entries_and_still_updates() {
        let mut index = IdentityIndex::new(2);
        assert_eq!([1, 2, 3].map(|key| index.insert(key, entry(key as u32))), [true, true, false]);
        assert!(index.insert(2, IndexEntry { subnet_id: 4, ..entry(2) }));
        assert!(index.remove(1, 1.into()) && !index.remove(1, 1.into()));
        assert!(index.insert(3, entry(3)));
    }

    #[test]
    fn keys_depend_on_the_seed_and_on_every_octet() {
        let hasher = IdentityHasher::new(1);
        let keys: BTreeSet<u64> =
            [&b""[..], b"\0", b"\0\0", b"\x01\x02", b"\x02\x01"].map(|identity| hasher.key(identity)).into();
        assert_eq!(keys.len(), 5);
        assert_ne!(hasher.key(b"x"), IdentityHasher::new(2).key(b"x"));
        assert_eq!(hasher.key(b"x"), IdentityHasher::new(1).key(b"x"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_index_behaves_as_a_map_of_sets(
            operations in proptest::collection::vec((0..300_u64, 0..6_u32, any::<bool>()), 0..800),
        ) {
            let mut index = IdentityIndex::new(10_000);
            let mut model: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
            // Two parts and few starts, so that probes run into one another; key 0 shares with key 256.
            let key = |small: u64| (small % 2) * 256 + ((small / 2 % 16) << 60) + (small << 32);
            for (small, address, add) in operations {
                let addresses = model.entry(usable(key(small))).or_default();
                if add {
                    addresses.insert(address);
                    prop_assert!(index.insert(key(small), entry(address)));
                } else {
                    prop_assert_eq!(index.remove(key(small), address.into()), addresses.remove(&address));
                }
            }
            for (key, addresses) in &model {
                let found: BTreeSet<u32> = index.find(*key).map(|found| found.address.into()).collect();
                prop_assert_eq!(&found, addresses);
            }
            prop_assert_eq!(index.len(), model.values().map(BTreeSet::len).sum::<usize>());
        }
    }
}
