//! Invariant 5: replaying the journal gives the table.
//!
//! After a crash an address is what it was when its last row was synced, or what a later row made of it: never
//! older, never anything else. While nothing is in flight, the tables of the shards are what the file says.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use shards::Lease;

use super::Checks;
use crate::sim::pair::disk::Leases;

impl Checks {
    /// A server has recovered `leases`, where `possible` is what a crash may have made of each address.
    pub fn replayed_is_possible(
        &mut self,
        server: usize,
        possible: &BTreeMap<Ipv4Addr, Vec<Option<Lease>>>,
        leases: &Leases,
    ) {
        if let Some(stranger) = leases.keys().find(|address| !possible.contains_key(address)) {
            self.fail(format!("invariant 5: server{} recovers {stranger}, never written", server + 1));
        }
        for (address, states) in possible {
            let recovered = leases.get(address);
            if !states.iter().any(|lease| lease.as_ref() == recovered) {
                self.fail(format!(
                    "invariant 5: server{} recovers {recovered:?} of {address}, but what was written is {states:?}",
                    server + 1,
                ));
            }
        }
    }
}

/// Compares the tables of a server with its file, while no row is on its way.
pub fn compare(table: &Leases, file: &Leases) -> Result<(), String> {
    let differs = |address: &&Ipv4Addr| table.get(address) != file.get(address);
    match table.keys().chain(file.keys()).find(differs) {
        None => Ok(()),
        Some(address) => Err(format!(
            "invariant 5: the table holds {:?} of {address}, and the file says {:?}",
            table.get(address),
            file.get(address),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::checks::tests::lease;

    fn leases(list: &[Lease]) -> Leases {
        list.iter().map(|lease| (lease.address, lease.clone())).collect()
    }

    #[test]
    fn a_table_that_lacks_a_row_has_one_too_many_or_another_one_is_seen() {
        let file = leases(&[lease(1, 9), lease(2, 9)]);
        assert_eq!(compare(&file, &file), Ok(()));
        for table in [leases(&[lease(1, 9)]), leases(&[lease(1, 9), lease(2, 8)])] {
            assert!(compare(&table, &file).unwrap_err().starts_with("invariant 5"));
            assert!(compare(&file, &table).unwrap_err().starts_with("invariant 5"));
        }
    }

    #[test]
    fn what_is_recovered_is_the_last_durable_state_or_a_later_one() {
        let possible = BTreeMap::from([(lease(1, 9).address, vec![Some(lease(1, 9)), None])]);
        for (recovered, is_possible) in [
            (leases(&[lease(1, 9)]), true),
            (leases(&[]), true),
            (leases(&[lease(1, 8)]), false),
            (leases(&[lease(2, 9)]), false),
        ] {
            let mut checks = Checks::new(None);
            checks.replayed_is_possible(0, &possible, &recovered);
            assert_eq!(checks.verdict().is_ok(), is_possible, "{recovered:?}");
        }
    }
}
