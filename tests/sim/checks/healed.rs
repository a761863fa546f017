//! Invariant 6: once everything is well, the partners' leases are equal, and every lease a client holds is there.
//!
//! A Kea does not repair itself, but what a Tandem gave and a client holds it has as well, as soon as both are in their
//! normal state: while nobody asks for anything, so before the client's next renewal would tell it. Tandem has every lease
//! it gave and a client holds.
//!
//! Leases that have ended are left out: each server reclaims its own copy in its own time. Deletions made while the
//! partner was away are not repaired by a copy (ha-protocol 6.10); the pair is given the lifetime of a lease, after
//! which what should have been deleted has ended.

use std::collections::BTreeSet;

use shards::{Lease, LeaseState};

use crate::sim::pair::disk::Leases;
use crate::sim::pair::links::host_of;
use crate::sim::pair::population::Member;
use crate::sim::pair::server::{PRIMARY, server_name};
use crate::sim::pair::simulation::Simulation;

/// A lease that ends this soon may have ended on one of the two clocks, seconds.
const ENDS_SOON_S: u64 = 5;

/// Compares the leases of two servers.
pub fn compare(ours: &Leases, theirs: &Leases) -> Result<(), String> {
    let addresses: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    match addresses.into_iter().find(|address| ours.get(address) != theirs.get(address)) {
        None => Ok(()),
        Some(address) => Err(format!(
            "invariant 6: of {address} one holds {:?} and the other {:?}",
            ours.get(address),
            theirs.get(address)
        )),
    }
}

impl Simulation {
    pub fn check_healed(&mut self) {
        for link in 0..self.plan.links() {
            self.check_healed_on(link);
        }
    }

    fn check_healed_on(&mut self, link: usize) {
        let own = usize::from(self.plan.kea.is_some_and(|(kea, _)| kea == 0));
        let mut ours = self.leases_in_force(own);
        ours.retain(|_, lease| lease.subnet_id == 1 + link as u32);
        let others: Vec<usize> =
            self.plan.seats_on(link).map(host_of).filter(|other| *other != own).collect();
        for other in others.into_iter().filter(|_| self.plan.kea.is_none()) {
            if let Err(what) = compare(&ours, &self.leases_in_force(other)) {
                self.checks.fail(format!("{what}, server{} and server{}", own + 1, other + 1));
            }
        }
        let on_link = |(_, member): &(usize, &Member)| member.link == link;
        for (number, member) in self.population.iter().enumerate().filter(on_link) {
            let Some((address, until_ns)) = member.holds() else { continue };
            let is_ours = self.checks.holders[link].is_ours(number);
            if !is_ours || until_ns < self.now_ns + ENDS_SOON_S * 1_000_000_000 {
                continue;
            }
            let is_its = ours.get(&address).is_some_and(|lease| {
                lease.hwaddr.as_slice() == member.hardware()
                    && lease.client_id.as_slice() == member.client_id()
            });
            if !is_its {
                let row = ours.get(&address);
                self.checks
                    .fail(format!("invariant 6: client {number} holds {address}, but its row is {row:?}"));
            }
        }
    }

    /// What a client holds and a Tandem gave is at its partner as well, a Kea, unless that one took it and has lost it.
    pub fn check_known_to_kea(&mut self, kea: usize) {
        let ours = self.leases_in_force(1 - kea);
        let disk = &self.servers[kea].kea_disk;
        let took = |lease: &Lease| {
            let taken = disk.accepted.get(&lease.address);
            taken.is_some_and(|taken| taken.hwaddr == lease.hwaddr && taken.cltt >= lease.cltt)
        };
        let mut lacking = None;
        for (number, member) in self.population.iter().enumerate() {
            let Some((address, _)) = member.holds().filter(|_| self.checks.holders[0].is_ours(number)) else {
                continue;
            };
            let is_its = |lease: &&Lease| lease.hwaddr.as_slice() == member.hardware();
            let row = ours.get(&address).filter(is_its);
            if let Some(lease) = row.filter(|row| !disk.written.contains_key(&address) && !took(row)) {
                lacking =
                    Some(format!("invariant 6: client {number} holds {lease:?}, but the Kea has no row"));
            }
        }
        if let Some(what) = lacking {
            self.checks.fail(what);
        }
    }

    /// A backup that has copied the primary's leases has every lease in force, or a newer one: one that was told before
    /// it was durable, which then was lost (ha-protocol 6.3). It may have more.
    pub fn check_copied(&mut self, backup: usize) {
        let Some(process) = &self.servers[backup].process else { return };
        let theirs: Leases =
            process.tables().into_iter().flatten().map(|lease| (lease.address, lease)).collect();
        for (address, lease) in self.leases_in_force(PRIMARY) {
            let copy = theirs.get(&address);
            if copy != Some(&lease) && copy.is_none_or(|copy| copy.cltt <= lease.cltt) {
                let name = server_name(backup);
                self.checks.fail(format!(
                    "invariant 6: the primary holds {lease:?}, but {name}, which has copied it, holds {copy:?}"
                ));
            }
        }
    }

    fn leases_in_force(&self, server: usize) -> Leases {
        let soon_s = self.clock_of(server).wall_s() + ENDS_SOON_S;
        let tables = self.servers[server].process.as_ref().map(|process| process.tables());
        let leases = tables.into_iter().flatten().flatten();
        let in_force = leases.filter(|lease| lease.state == LeaseState::Default && lease.expire() > soon_s);
        in_force.map(|lease| (lease.address, lease)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::checks::tests::lease;

    #[test]
    fn a_lease_that_only_one_holds_or_holds_differently_is_seen() {
        let ours = Leases::from([(lease(1, 9).address, lease(1, 9))]);
        assert_eq!(compare(&ours, &ours), Ok(()));
        for theirs in [Leases::new(), Leases::from([(lease(1, 9).address, lease(1, 8))])] {
            assert!(compare(&ours, &theirs).unwrap_err().starts_with("invariant 6"));
            assert!(compare(&theirs, &ours).unwrap_err().starts_with("invariant 6"));
        }
    }
}
