//! What a machine is made of, what it does now, and what it remembers of one exchange.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::check::Claims;
use crate::scenario::choose::{Chooser, Shares};
use crate::scenario::{Definition, Exchange};
use crate::template::Templates;

/// What a machine is made of.
#[derive(Clone)]
pub struct Parts {
    /// This sender's number and how many there are.
    pub sender: (u8, u8),
    /// Messages.
    pub templates: Templates,
    /// giaddr by client, in turn; empty for direct clients.
    pub relays: Vec<Ipv4Addr>,
    /// Clients of this sender, newcomers included.
    pub clients: usize,
    /// How long a reply is waited for by clients that do not try again.
    pub drop_ns: u64,
    /// Whether an exchange ends with its OFFER.
    pub offer_only: bool,
    /// Exchanges under way at most.
    pub under_way_max: usize,
    /// First exchange number, so that runs that follow each other differ in their xids.
    pub first_number: u32,
    /// Who holds what, shared by all senders.
    pub claims: Arc<Claims>,
}

/// What the clients do now.
#[derive(Clone, Debug)]
pub struct Phase {
    pub(super) chooser: Chooser,
    pub(super) retries: bool,
    pub(super) releases: bool,
    /// Clients that take part, from the first.
    pub(super) clients: usize,
    pub(super) measure_from_ns: u64,
}

impl Phase {
    /// `clients` clients (all with newcomers) do what `definition` says; what comes before `measure_from_ns`
    /// is not counted.
    pub fn new(
        definition: &Definition,
        shares: Shares,
        clients: usize,
        newcomers_from: usize,
        measure_from_ns: u64,
    ) -> Self {
        Self {
            chooser: Chooser::new(definition, shares, clients, newcomers_from),
            retries: definition.retries,
            releases: definition.releases,
            clients,
            measure_from_ns,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) xid: u32,
    pub(super) client: u32,
    pub(super) address: Ipv4Addr,
    pub(super) server: Ipv4Addr,
    pub(super) planned_ns: u64,
    /// When the message now waited for was due.
    pub(super) due_ns: u64,
    pub(super) first_sent_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) state: State,
    pub(super) exchange: Exchange,
    pub(super) attempts: u8,
    pub(super) measured: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Never used.
    Free,
    /// DISCOVER sent.
    Selecting,
    /// REQUEST of some kind sent.
    Requesting,
    /// Answered.
    Done,
    /// Given up.
    Lost,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Deadline {
    pub(super) at_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) xid: u32,
}
