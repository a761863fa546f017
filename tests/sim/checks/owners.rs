//! Invariant 3: every address has exactly one owner, and a lease lies with the owner of its address and with nobody
//! else.

use std::net::Ipv4Addr;

use shards::Lease;

/// Who says of `address` that it is its own, in a server of `shards` shards; anything but one of them is a violation.
pub fn one_owner(address: Ipv4Addr, shards: u8, owns: impl Fn(u8, Ipv4Addr) -> bool) -> Result<u8, String> {
    let owners: Vec<u8> = (0..shards).filter(|shard| owns(*shard, address)).collect();
    match owners[..] {
        [owner] => Ok(owner),
        _ => Err(format!("invariant 3: {address} is owned by shards {owners:?}")),
    }
}

/// A lease in the table of a shard that is not the owner of its address.
pub fn misplaced<'a>(
    shard: u8,
    leases: impl IntoIterator<Item = &'a Lease>,
    owner_of: impl Fn(Ipv4Addr) -> u8,
) -> Result<(), String> {
    match leases.into_iter().find(|lease| owner_of(lease.address) != shard) {
        None => Ok(()),
        Some(lease) => Err(format!("invariant 3: shard {shard} holds {lease:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::checks::tests::lease;

    #[test]
    fn an_address_of_two_owners_or_of_none_and_a_lease_elsewhere_are_seen() {
        let address = lease(7, 1).address;
        assert_eq!(one_owner(address, 3, |shard, _| shard == 2), Ok(2));
        assert!(one_owner(address, 3, |_, _| false).is_err());
        assert!(one_owner(address, 3, |shard, _| shard != 0).is_err());
        assert_eq!(misplaced(1, &[lease(7, 1)], |_| 1), Ok(()));
        assert!(misplaced(1, &[lease(7, 1)], |_| 0).is_err());
    }
}
