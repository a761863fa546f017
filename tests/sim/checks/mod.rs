//! What holds at every moment of a run, one file each, by the numbers of the design.
//!
//! | File | Invariant |
//! |---|---|
//! | [`one_holder`] | 1: no address is held by two clients, each by its own clock |
//! | [`acknowledged`] | 2: every ACK on the wire is written and acknowledged as the view requires |
//! | [`serving`] | 2: by a server in a state that serves |
//! | [`owners`] | 3: table rows lie with the owners of their addresses |
//! | [`indexed`] | 4: the indexes match the leases once the lanes are empty |
//! | [`replayed`] | 5: replaying the journal gives the table |
//! | [`healed`] | 6: once all is well the partners' leases are equal |
//! | [`apart`] | beyond them: relationships of a hub leave each other alone |
//! | [`limited`] | 7: limits and the hop bound are respected, counters never fall |
//! | [`overtaken`] | 8: where the link alone is cut, nobody takes over from a partner that serves |
//!
//! They look at disks, wires, tables and clients, and do not ask the code under test whether it did well, but for what it
//! counts itself ([`limited`]). Each has a test beside it that shows what it sees.

pub mod acknowledged;
pub mod apart;
pub mod healed;
pub mod indexed;
pub mod limited;
pub mod one_holder;
pub mod overtaken;
pub mod owners;
pub mod replayed;
pub mod serving;

use std::collections::BTreeSet;

pub use acknowledged::{Ack, Requests};
pub use apart::Apart;
pub use one_holder::Holders;
pub use overtaken::Overtaken;
pub use serving::Serving;

/// All checks of a run, and the first thing that did not hold.
pub struct Checks {
    /// Of the clients on each link.
    pub holders: [Holders; 2],
    pub apart: Apart,
    pub overtaken: Overtaken,
    pub requests: Requests,
    pub serving: Serving,
    lives_of_take_overs: BTreeSet<u32>,
    /// Rows from the future on a partner's disk.
    excused: u64,
    violation: Option<String>,
}

impl Checks {
    /// Those of a run in which nothing goes wrong on the link that is `unharmed`.
    pub fn new(unharmed: Option<usize>) -> Self {
        Self {
            apart: Apart::new(unharmed),
            holders: Default::default(),
            overtaken: Overtaken::default(),
            requests: Requests::default(),
            serving: Serving::default(),
            lives_of_take_overs: BTreeSet::new(),
            excused: 0,
            violation: None,
        }
    }

    /// Something did not hold; the first one counts.
    pub fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// An error as soon as something did not hold.
    pub fn verdict(&mut self) -> Result<(), String> {
        let held = self.holders.iter_mut().find_map(Holders::take_violation);
        if let Some(what) =
            held.or_else(|| self.apart.take_violation()).or_else(|| self.overtaken.take_violation())
        {
            self.fail(what);
        }
        self.violation.clone().map_or(Ok(()), Err)
    }

    /// Whether this is the first take-over in a life of the standby.
    pub fn first_in_life(&mut self, life: u32) -> bool {
        self.lives_of_take_overs.insert(life)
    }

    pub fn excused(&self) -> u64 {
        self.holders.iter().map(|holders| holders.excused).sum::<u64>() + self.excused
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shards::{Lease, LeaseState, SmallBytes};

    /// A lease of 192.0.2.`address` for client `client`, of a minute from second 1000.
    pub fn lease(address: u8, client: u8) -> Lease {
        Lease {
            address: Ipv4Addr::new(192, 0, 2, address),
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, client]),
            client_id: SmallBytes::empty(),
            valid_lifetime: 60,
            cltt: 1000,
            state: LeaseState::Default,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::empty(),
            user_context: None,
        }
    }
}
