//! What holds at every moment of a run, one file each, by the numbers of the design.
//!
//! | File | Invariant |
//! |---|---|
//! | [`one_holder`] | 1: no address is held by two clients, each by its own clock |
//! | [`acknowledged`] | 2: every ACK on the wire is written and acknowledged as the view requires |
//! | [`owners`] | 3: table rows lie with the owners of their addresses |
//! | [`replayed`] | 5: replaying the journal gives the table |
//! | [`healed`] | 6: once all is well the partners' leases are equal |
//! | [`limited`] | 7: the hop bound is respected, nothing unexpected is heard |
//!
//! They look at disks, wires and clients, and never ask the code under test whether it did well.

pub mod acknowledged;
pub mod healed;
pub mod limited;
pub mod one_holder;
pub mod owners;
pub mod replayed;

use std::collections::BTreeSet;

pub use acknowledged::{Ack, Requests};
pub use one_holder::Holders;

/// All checks of a run, and the first thing that did not hold.
pub struct Checks {
    pub holders: Holders,
    pub requests: Requests,
    lives_of_take_overs: BTreeSet<u32>,
    violation: Option<String>,
}

impl Checks {
    pub fn new() -> Self {
        Self {
            holders: Holders::default(),
            requests: Requests::default(),
            lives_of_take_overs: BTreeSet::new(),
            violation: None,
        }
    }

    /// Something did not hold; the first one counts.
    pub fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// An error as soon as something did not hold.
    pub fn verdict(&mut self) -> Result<(), String> {
        if let Some(what) = self.holders.take_violation() {
            self.fail(what);
        }
        self.violation.clone().map_or(Ok(()), Err)
    }

    /// Whether this is the first take-over in a life of the standby.
    pub fn first_in_life(&mut self, life: u32) -> bool {
        self.lives_of_take_overs.insert(life)
    }

    pub fn excused(&self) -> u64 {
        self.holders.excused
    }
}
