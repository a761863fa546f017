//! Invariant 5: replaying the journal gives the table.
//!
//! After a crash an address is what it was when its last row was synced, or what a later row made of it: never
//! older, never anything else. While nothing is in flight, the tables of the shards are what the file says.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use shards::Lease;

use super::Checks;
use crate::sim::pair::disk::Leases;
use crate::sim::pair::server::Journal;
use crate::sim::pair::simulation::Simulation;

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

impl Simulation {
    /// Compares the tables of a server with its file, and looks at what else must hold of them. Does nothing while
    /// a row is on its way.
    pub fn check_tables(&mut self, server: usize) {
        let Some(process) = &self.servers[server].process else { return };
        if !process.journals.iter().all(Journal::is_idle) {
            return;
        }
        let tables = self.tables(server);
        self.check_owners(server, &tables);
        self.check_limits(server);
        let table: Leases = tables.into_iter().flatten().map(|lease| (lease.address, lease)).collect();
        let file = match self.servers[server].disk.replay() {
            Ok(file) => file,
            Err(error) => return self.checks.fail(format!("invariant 5: {error}")),
        };
        for address in table.keys().chain(file.keys()) {
            if table.get(address) != file.get(address) {
                self.checks.fail(format!(
                    "invariant 5: server{} holds {:?} of {address}, and its file says {:?}",
                    server + 1,
                    table.get(address),
                    file.get(address),
                ));
            }
        }
    }
}
