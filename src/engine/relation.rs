//! What a shard knows of each HA relationship: the machine's word, who sends its updates, what its partner lacks.
//!
//! Nearly every server has one relationship or none, so the first one is at hand and the others, a hub's further
//! spokes, lie behind it. Which one a lease is subject to is its subnet's to say (ha-protocol 1.9).

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;

use shards::{Lease, SmallBytes};

use crate::engine::standing::is_same_client;
use crate::ha::fence::Seen;
use crate::ha::nodes::HaNodes;
use crate::ha::view::{BackupUpdates, HaView, UpdateMode};
use crate::limits;
use crate::policy::Snapshot;

/// One relationship.
#[derive(Debug)]
pub(super) struct Relation {
    /// What the machine decided.
    pub view: HaView,
    /// Its first sender among those of the server, and how many it has.
    pub senders: (u8, u8),
    /// Leases the partner has not acknowledged, which must not be given again from the cache (ALC-52).
    pub unacknowledged: Unacknowledged,
    /// Leases of the partner whose updates were refused while ours of the address is defended.
    pub refused: Refused,
    /// Seconds since the epoch: of a lease written before nobody knows whether the partner has it, or the backups that
    /// replies wait for. That is when this process began, or when it last joined the partner by copying the partner's
    /// leases.
    pub replicated_since_s: u64,
    /// Which requests of the partner have come, so that older ones are refused.
    pub partner_seen: Seen,
    /// Queries whose updates were not sent (ha-protocol 4.8), and the total last told to control.
    pub unsent: u64,
    pub unsent_reported: u64,
}

impl Relation {
    /// Whether replies wait for the partner, or for the backups.
    pub fn asks(&self) -> bool {
        self.view.updates == UpdateMode::Send || self.view.backups == BackupUpdates::SendAndWait
    }

    /// Whether a reply may rest on `lease` as it is written, without telling the partner, or the backups that replies
    /// wait for, again. Alone, a lease is written again whenever it is asked for: when the servers meet, the newer lease of
    /// an address stays, and this one has been promised anew.
    pub fn partner_knows(&self, lease: &Lease) -> bool {
        let young = (!self.asks() || lease.cltt > self.replicated_since_s) && !serves_alone(&self.view);
        // While the partner is silent it may have taken over, and have given the address to somebody else.
        let silent = self.view.interrupted && self.view.updates == UpdateMode::Send;
        young && !silent && !self.unacknowledged.contains(lease.address)
    }
}

/// Whether clients are served and the partner is told nothing.
pub(super) fn serves_alone(view: &HaView) -> bool {
    view.configured && view.updates == UpdateMode::None && view.scopes.any()
}

/// All relationships; there is one even without high availability, whose view serves everybody.
#[derive(Debug)]
pub(super) struct Relations {
    first: Relation,
    others: Vec<Relation>,
    /// Whether any of them serves.
    serves_anyone: bool,
}

impl Relations {
    /// Those of `nodes`, all with `view` until the machine says more; the process begins at `wall_s`.
    pub fn new(view: &HaView, nodes: &HaNodes, wall_s: u64) -> Self {
        let relation = |(relationship, senders)| Relation {
            view: HaView { relationship, ..view.clone() },
            senders,
            unacknowledged: Unacknowledged::default(),
            refused: Refused::default(),
            replicated_since_s: wall_s,
            partner_seen: Seen::default(),
            unsent: 0,
            unsent_reported: 0,
        };
        let mut senders = (0..).zip(nodes.senders());
        let first = relation(senders.next().unwrap_or((0, (0, 0))));
        Self { first, others: senders.map(relation).collect(), serves_anyone: view.service_on }
    }

    /// Whether there are several, so that a query is somebody's only once its subnet is known.
    pub fn are_several(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether queries of any relationship are served at all.
    pub fn serve_anyone(&self) -> bool {
        self.serves_anyone
    }

    /// The relationship at this place of the list.
    pub fn of(&self, relationship: u8) -> &Relation {
        match relationship {
            0 => &self.first,
            other => &self.others[usize::from(other) - 1],
        }
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, relationship: u8) -> &mut Relation {
        match relationship {
            0 => &mut self.first,
            other => &mut self.others[usize::from(other) - 1],
        }
    }

    /// The first, or only, relationship.
    pub fn first(&self) -> &Relation {
        &self.first
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &Relation> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// All of them in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Relation> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// Puts `view` in force; the one it replaces.
    pub fn set_view(&mut self, view: &HaView) -> HaView {
        let relation = self.of_mut(view.relationship);
        let before = std::mem::replace(&mut relation.view, view.clone());
        if view.alone.is_none() {
            relation.refused.clear();
        }
        let serves_anyone = self.iter().any(|relation| relation.view.service_on);
        self.serves_anyone = serves_anyone;
        before
    }

    /// Whether an unsent total has yet to be told.
    pub fn have_unreported(&self) -> bool {
        self.iter().any(|relation| relation.unsent != relation.unsent_reported)
    }

    /// Whether leases of the subnet `subnet_id` are another relationship's than `relationship`. Those of nobody's subnets
    /// are not.
    pub fn is_foreign(&self, snapshot: &Snapshot, relationship: u8, subnet_id: u32) -> bool {
        let whose = || snapshot.subnet(subnet_id).and_then(|subnet| subnet.relationship());
        self.are_several() && whose().is_some_and(|whose| whose != relationship)
    }

    /// Whose the leases of the subnet `subnet_id` are. Those of nobody's subnets, which no query changes, count as the
    /// first one's.
    pub fn of_subnet(&self, snapshot: &Snapshot, subnet_id: u32) -> u8 {
        match self.are_several() {
            false => 0,
            true => snapshot.subnet(subnet_id).and_then(|subnet| subnet.relationship()).unwrap_or(0),
        }
    }
}

/// Addresses whose last update the partner did not take.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    addresses: HashSet<Ipv4Addr>,
    /// There were more than are kept, so no lease is taken from the cache.
    overflowed: bool,
}

impl Unacknowledged {
    pub fn insert(&mut self, address: Ipv4Addr) {
        if self.addresses.len() >= limits::PARKED_MAX {
            self.overflowed = true;
        } else {
            self.addresses.insert(address);
        }
    }

    pub fn remove(&mut self, address: Ipv4Addr) {
        // Nearly always there is none, and to find that out by its hash would take longer.
        if !self.addresses.is_empty() {
            self.addresses.remove(&address);
        }
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.overflowed || self.is_known(address)
    }

    /// Whether it is one of those that are kept.
    pub fn is_known(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains(&address)
    }

    pub fn clear(&mut self) {
        self.addresses.clear();
        self.overflowed = false;
    }
}

/// The last lease of each address whose update was refused: the partner has answered nobody on the strength of it.
/// Without what may be large, because a partner that lies may send as many as it likes.
#[derive(Debug, Default)]
pub(super) struct Refused(BTreeMap<Ipv4Addr, Lease>);

impl Refused {
    pub fn insert(&mut self, theirs: &Lease) {
        if self.0.len() < limits::REFUSED_UPDATES_MAX || self.0.contains_key(&theirs.address) {
            let (hwaddr, client_id) = (theirs.hwaddr.clone(), theirs.client_id.clone());
            let kept =
                Lease { hwaddr, client_id, hostname: SmallBytes::empty(), user_context: None, ..*theirs };
            self.0.insert(theirs.address, kept);
        }
    }

    /// Whether it was this one: what its client was given later, or another one, is not.
    pub fn contains(&self, theirs: &Lease) -> bool {
        self.0
            .get(&theirs.address)
            .is_some_and(|refused| refused.cltt == theirs.cltt && is_same_client(refused, theirs))
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::test_support::lease;

    #[test]
    fn a_refused_lease_is_known_again_by_its_client_and_second_and_its_context_is_not_kept() {
        let theirs = Lease { user_context: Some(b"{}".as_slice().into()), ..lease(1) };
        let mut refused = Refused::default();
        refused.insert(&theirs);
        let later = Lease { cltt: theirs.cltt + 1, ..theirs.clone() };
        let anothers =
            Lease { hwaddr: SmallBytes::new(b"another"), client_id: SmallBytes::empty(), ..theirs.clone() };
        for (case, lease, expected) in [
            ("the same", &theirs, true),
            ("given later", &later, false),
            ("another client's", &anothers, false),
        ] {
            assert_eq!(refused.contains(lease), expected, "{case}");
        }
        assert!(refused.0.values().all(|kept| kept.user_context.is_none() && kept.hostname.is_empty()));
        refused.clear();
        assert!(!refused.contains(&theirs));
    }

    #[test]
    fn of_more_refused_leases_than_the_limit_nothing_is_known() {
        let mut refused = Refused::default();
        for number in 0..=limits::REFUSED_UPDATES_MAX as u32 {
            refused.insert(&Lease { address: Ipv4Addr::from(number), ..lease(1) });
        }
        assert_eq!(refused.0.len(), limits::REFUSED_UPDATES_MAX);
        let renewed = Lease { address: Ipv4Addr::from(0), cltt: lease(1).cltt + 1, ..lease(1) };
        refused.insert(&renewed);
        assert!(refused.contains(&renewed), "of an address that is known the last one counts");
    }
}
