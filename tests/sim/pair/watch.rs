//! What the checks look at after every event: tables, indexes, owners and counters of the shards that did something.

use std::collections::BTreeMap;

use shards::Lease;

use super::disk::Leases;
use super::server::{Journal, Process};
use super::simulation::Simulation;
use crate::sim::checks::limited::Measures;
use crate::sim::checks::{apart, indexed, owners, replayed};

/// What is to be looked at, and what was seen last.
#[derive(Default)]
pub struct Watched {
    /// Shards that did something in this event.
    touched: Vec<bool>,
    /// Something has changed since tables and file, or tables and indexes, were last compared.
    tables: bool,
    indexes: bool,
    measures: Vec<Measures>,
}

impl Watched {
    pub fn new(shards: usize) -> Self {
        let measures = vec![Measures::default(); shards];
        Self { touched: vec![true; shards], tables: true, indexes: true, measures }
    }

    /// A shard was given an input.
    pub fn touch(&mut self, shard: usize) {
        self.touched[shard] = true;
    }
}

impl Process {
    /// Whether no row is on its way to the file.
    pub fn is_written(&self) -> bool {
        self.journals.iter().all(Journal::is_idle)
    }

    /// The leases of every shard.
    pub fn tables(&self) -> Vec<Vec<Lease>> {
        let table = |engine: &tandem::engine::Engine| {
            let mut leases = Vec::new();
            engine.inspect().partition.for_each(|lease| leases.push(lease));
            leases
        };
        self.engines.iter().map(table).collect()
    }

    /// Looks at the shards that did something; `written` is what the file says of each address.
    fn look(&mut self, written: &BTreeMap<std::net::Ipv4Addr, Lease>) -> Result<(), String> {
        let mut changed = false;
        for shard in 0..self.engines.len() {
            if !std::mem::take(&mut self.watched.touched[shard]) {
                continue;
            }
            changed = true;
            let waiting = self.journals[shard].buffer.waiting_bytes();
            let measures = Measures::of(&self.engines[shard].inspect(), waiting);
            measures
                .may_follow(&self.watched.measures[shard])
                .map_err(|what| format!("{what}, shard {shard}"))?;
            self.watched.measures[shard] = measures;
        }
        self.watched.tables |= changed;
        self.watched.indexes |= changed;
        if self.reloading > 0 {
            return Ok(());
        }
        let quiet = self.is_quiet();
        let (tables_due, indexes_due) =
            (self.watched.tables && quiet && self.is_written(), self.watched.indexes && quiet);
        if !changed && !tables_due && !indexes_due {
            return Ok(());
        }
        let tables = self.tables();
        self.look_at_owners(&tables)?;
        if tables_due {
            self.watched.tables = false;
            let table: Leases = tables.iter().flatten().map(|lease| (lease.address, lease.clone())).collect();
            replayed::compare(&table, written)?;
        }
        if indexes_due {
            self.watched.indexes = false;
            self.look_at_indexes(&tables)?;
        }
        Ok(())
    }

    /// Nothing that could change an index is on its way between shards.
    fn is_quiet(&self) -> bool {
        self.mesh.between_shards() == 0 && self.engines.iter().all(|engine| engine.inspect().kept == 0)
    }

    fn look_at_owners(&self, tables: &[Vec<Lease>]) -> Result<(), String> {
        for (shard, leases) in (0u8..).zip(tables) {
            let owned = self.engines[usize::from(shard)].inspect().partition.owners();
            owners::misplaced(shard, leases, |address| owned.owner_of(address))?;
        }
        let shards = self.topology.shards;
        let owns = |shard: u8, address| self.engines[usize::from(shard)].inspect().partition.owns(address);
        for lease in tables.iter().flatten() {
            owners::one_owner(lease.address, shards, owns)?;
        }
        Ok(())
    }

    fn look_at_indexes(&self, tables: &[Vec<Lease>]) -> Result<(), String> {
        let expected = indexed::entries_of(&self.steering, tables.iter().flatten());
        let identities = |shard: u8| self.engines[usize::from(shard)].inspect().partition.identities();
        let found = |&(shard, by_client_id, key, address): &indexed::Entry| {
            let identities = identities(shard);
            let index = if by_client_id { &identities.client_id } else { &identities.hardware };
            index.find(key).any(|entry| entry.address == address)
        };
        let count = (0..self.topology.shards)
            .map(|shard| identities(shard).hardware.len() + identities(shard).client_id.len())
            .sum();
        indexed::compare(&expected, found, count)
    }

    /// When the process wants to be looked at next, connections aside.
    pub fn next_timeout(&self) -> Option<u64> {
        let engines = self.engines.iter().filter_map(shards::Engine::next_timeout).min();
        let others = self.ends.iter().flat_map(|end| {
            [end.machine.next_timeout(), end.control.next_timeout(), end.listener.next_timeout()]
        });
        others.flatten().chain(engines).min()
    }
}

impl Simulation {
    /// Invariants 3, 4, 5 and 7, of every server in which something has happened.
    pub fn watch(&mut self) {
        for (server, host) in self.servers.iter_mut().enumerate() {
            let Some(process) = &mut host.process else { continue };
            let mut verdict = process.look(host.disk.written());
            if self.plan.hub {
                verdict = verdict.and(apart::leases(self.plan.clients, host.disk.written().values()));
            }
            if let Err(what) = verdict {
                self.checks.fail(format!("{what}, of server{}", server + 1));
            }
        }
    }

    /// Compares the tables of a server with what the server's own recovery makes of its file.
    pub fn check_recovery(&mut self, server: usize) {
        let host = &self.servers[server];
        let Some(process) = host.process.as_ref().filter(|process| process.is_written()) else { return };
        let table: Leases =
            process.tables().into_iter().flatten().map(|lease| (lease.address, lease)).collect();
        if let Err(what) = host.disk.replay().and_then(|file| replayed::compare(&table, &file)) {
            self.checks.fail(format!("{what}, of server{}", server + 1));
        }
    }
}
