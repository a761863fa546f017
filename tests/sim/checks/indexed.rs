//! Invariant 4: once the lanes are empty, the indexes say of each client which leases it has, and nothing else.
//!
//! Where an entry belongs is worked out from the lease: by hardware address with the shard the kernel steers that
//! address to, by client identifier with the shard of that identifier's hash.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use shards::Lease;
use tandem::engine::rules::Steering;

/// One entry of an identity index: the shard it lies with, which index, the key, the address.
pub type Entry = (u8, bool, u64, Ipv4Addr);

/// More entries of one key than this push each other out.
const ENTRIES_PER_KEY: usize = 8;

/// The entries that `leases` must have.
pub fn entries_of<'a>(steering: &Steering, leases: impl IntoIterator<Item = &'a Lease>) -> BTreeSet<Entry> {
    let mut entries = BTreeSet::new();
    for lease in leases {
        let (hwaddr, client_id) = (lease.hwaddr.as_slice(), lease.client_id.as_slice());
        if !hwaddr.is_empty() {
            let shard = steering.shard_of_hardware(hwaddr);
            entries.insert((shard, false, steering.identities.key(hwaddr), lease.address));
        }
        if !client_id.is_empty() {
            let shard = steering.shard_of_client_id(client_id);
            entries.insert((shard, true, steering.identities.key(client_id), lease.address));
        }
    }
    entries
}

/// Compares what must be there with what is: `found` looks an entry up, `count` is how many entries there are.
pub fn compare(
    expected: &BTreeSet<Entry>,
    found: impl Fn(&Entry) -> bool,
    count: usize,
) -> Result<(), String> {
    if let Some((shard, by_client_id, key, address)) = expected.iter().find(|entry| !found(entry)) {
        let of_key = expected.iter().filter(|entry| (entry.1, entry.2) == (*by_client_id, *key)).count();
        if of_key <= ENTRIES_PER_KEY {
            let index = if *by_client_id { "client identifier" } else { "hardware address" };
            return Err(format!(
                "invariant 4: the index by {index} of shard {shard} does not know {address}"
            ));
        }
    }
    if count > expected.len() {
        return Err(format!(
            "invariant 4: the indexes hold {count} entries for leases that need {}",
            expected.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::checks::tests::lease;

    #[test]
    fn a_missing_entry_and_one_too_many_are_seen() {
        let steering = Steering::new(3, 4);
        let mut with_id = lease(1, 9);
        with_id.client_id = shards::SmallBytes::new(b"\xff\x01");
        let expected = entries_of(&steering, &[with_id, lease(2, 9)]);
        assert_eq!(expected.len(), 3);
        assert_eq!(compare(&expected, |_| true, 3), Ok(()));
        let missing = *expected.last().unwrap();
        assert!(compare(&expected, |entry| *entry != missing, 2).unwrap_err().starts_with("invariant 4"));
        assert!(compare(&expected, |_| true, 4).unwrap_err().starts_with("invariant 4"));
    }
}
