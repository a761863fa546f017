//! Whose lease of an address stays, where this server and its partner say different things: the one rule of updates, copies
//! and comparisons.
//!
//! | The partner's word | Ours stays where |
//! |---|---|
//! | an update or a deletion, while both serve | never: the partner's word is final (ha-protocol 0.3 rule 8) |
//! | … of a Kea, after a later one, or a copied row, of the same client | it says no less: it was sent last, see [`super::lately`] |
//! | … of a Tandem, from before this server had its clients | it is the same client's, newer and no shorter, and otherwise the same |
//! | … while this server serves alone | it is newer, or of the same second and another client's |
//! | … that was *late*, then or up to a minute after | it was given alone, its client has it, and another client would get it |
//! | a row of a copy from whoever has served | it is newer |
//! | a row of any other copy, or of a comparison | it is newer or as new, or was given alone as above |
//! | a deletion that a copy tells of | it is newer, or another client's |
//!
//! *Newer* is the later transaction by `cltt`; within a second declined goes before released before the lease that ends
//! later (ha-protocol 6.10). *Given alone* is what was given since this server was left alone: its client was answered on
//! the strength of this server's word, and nobody was ever on the strength of a lease that this server had not heard of.
//! *Late* is what the partner gave before it had copied that, or before it served alone itself: of what two servers gave
//! alone the newer stays. The clock for that is the partner's own. Late is also, whenever it comes again, a lease of which
//! an update was refused: the partner has answered nobody with it. A client that comes with another network card or
//! another identifier counts as the same: nothing is taken from anybody then.
//!
//! Pure: leases and the view's word in, a verdict out. It changes nothing itself.

use std::cmp::Ordering;

use shards::{Lease, LeaseState};

use crate::engine::commit::Change;
use crate::engine::message::{Conflict, Terms, UpdateKind};
use crate::ha::view::Alone;

/// What has to be known beside the two leases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Since when this server has served alone, also up to a minute after.
    pub alone: Option<Alone>,
    /// It does so now.
    pub serves_alone: bool,
    /// An update to the partner's lease was refused in that time.
    pub is_refused: bool,
    /// The own clock.
    pub wall_s: u64,
}

impl Standing {
    /// Whether any lease may stay against an update.
    pub fn defends(&self) -> bool {
        self.serves_alone || self.alone.is_some()
    }

    /// Whether ours stays against an update or a deletion of the partner.
    pub fn stays(&self, kind: UpdateKind, theirs: &Lease, ours: &Lease) -> bool {
        let newer = ours.cltt > theirs.cltt || ours.cltt == theirs.cltt && !is_same_client(ours, theirs);
        self.serves_alone && newer || self.is_given_alone(kind, theirs, ours)
    }

    /// Whether ours was given alone, and a word that comes late would take the address from its client.
    fn is_given_alone(&self, kind: UpdateKind, theirs: &Lease, ours: &Lease) -> bool {
        let Some(alone) = self.alone else { return false };
        let is_before = |since_s: Option<u64>| since_s.is_none_or(|since_s| theirs.cltt < since_s);
        let is_late =
            self.is_refused || is_before(alone.partner_since_s) && is_before(alone.partner_knows_since_s);
        // What is deleted was its client's, however it ended.
        let gives = kind == UpdateKind::Delete || is_held(theirs, self.wall_s);
        let takes = gives && is_held(ours, self.wall_s) && !is_same_client(theirs, ours);
        ours.cltt >= alone.since_s && is_late && takes && !share_an_identifier(theirs, ours)
    }

    /// What the source's word on an address does to our lease of it, and whether two clients hold the address, one by
    /// each server.
    pub fn reconcile(
        &self,
        kind: UpdateKind,
        terms: Terms,
        theirs: Lease,
        ours: Option<Lease>,
    ) -> (Option<Change>, Option<Conflict>) {
        let Some(ours) = ours else {
            return ((kind == UpdateKind::Update).then_some(Change::Put(theirs)), None);
        };
        if kind == UpdateKind::Delete {
            let goes = is_same_client(&theirs, &ours) && ours.cltt <= theirs.cltt;
            return (goes.then_some(Change::Delete(ours)), None);
        }
        // Whoever joins takes what the other has given meanwhile.
        let stays = terms != Terms::Joining && self.is_given_alone(kind, &theirs, &ours);
        let taken = match rank(&theirs, &ours).cmp(&rank(&ours, &theirs)) {
            Ordering::Greater => !stays,
            Ordering::Equal => terms == Terms::Joining && theirs != ours,
            Ordering::Less => false,
        };
        let conflicts = are_two_holders(&theirs, &ours, self.wall_s);
        let conflict = conflicts.then(|| Conflict { ours, theirs: theirs.clone(), taken });
        (taken.then_some(Change::Put(theirs)), conflict)
    }

    /// Whether the partner, with which leases are compared, is sent ours.
    pub fn is_sent(&self, theirs: &Lease, ours: &Lease) -> bool {
        match rank(ours, theirs).cmp(&rank(theirs, ours)) {
            Ordering::Greater => is_held(ours, self.wall_s),
            // Both would stay as they are for good.
            Ordering::Equal => are_two_holders(theirs, ours, self.wall_s),
            Ordering::Less => self.is_given_alone(UpdateKind::Update, theirs, ours),
        }
    }

    /// Whether the source has an older row of the address than ours, which is in force.
    pub fn lacks(&self, kind: UpdateKind, theirs: &Lease, ours: &Lease) -> bool {
        let in_force =
            matches!(ours.state, LeaseState::Default | LeaseState::Declined) && !ours.is_expired(self.wall_s);
        kind == UpdateKind::Update && in_force && rank(ours, theirs) > rank(theirs, ours)
    }
}

/// Whether an update has been overtaken: it was under way while its client was given the lease anew, here or, as a later
/// update has told, by the partner itself; and says no more than that one.
pub(super) fn is_overtaken(theirs: &Lease, ours: &Lease) -> bool {
    let is_newer = ours.cltt > theirs.cltt && ours.expire() >= theirs.expire();
    let (cltt, valid_lifetime) = (ours.cltt, ours.valid_lifetime);
    is_newer
        && theirs.state == LeaseState::Default
        && *ours == Lease { cltt, valid_lifetime, ..theirs.clone() }
}

/// Whether the address of both leases is held by two clients that have nothing in common.
pub(super) fn takes_from_another(theirs: &Lease, ours: &Lease, wall_s: u64) -> bool {
    are_two_holders(theirs, ours, wall_s) && !share_an_identifier(theirs, ours)
}

/// Whether two clients hold the address of both leases.
fn are_two_holders(one: &Lease, other: &Lease, wall_s: u64) -> bool {
    is_held(one, wall_s) && is_held(other, wall_s) && !is_same_client(one, other)
}

/// Whether the leases may be of one client: it keeps its identifier with another network card, and its card with
/// another identifier. Nothing is taken from anybody then.
fn share_an_identifier(one: &Lease, other: &Lease) -> bool {
    let is_same = |one: &[u8], other: &[u8]| !one.is_empty() && one == other;
    is_same(&one.client_id, &other.client_id) || is_same(&one.hwaddr, &other.hwaddr)
}

/// Whether the lease is its client's now.
pub(super) fn is_held(lease: &Lease, wall_s: u64) -> bool {
    lease.state == LeaseState::Default && !lease.is_expired(wall_s)
}

/// Whether the leases are of the same client, by both of its names.
pub(super) fn is_same_client(one: &Lease, other: &Lease) -> bool {
    one.hwaddr == other.hwaddr && one.client_id == other.client_id
}

/// The greater of two leases of an address stays: the newer one, and within a second declined before released before
/// the one that ends later (ha-protocol 6.10). Of a lease that ran out, the row that says so is the later one.
fn rank(lease: &Lease, other: &Lease) -> (u64, u8, u64, bool) {
    let is_reclaimed = lease.state == LeaseState::ExpiredReclaimed;
    // A release keeps the time of its lease, and a row without a lifetime would delete: reclaimed it is kept as a lease of
    // one second that began a second before (`storable`).
    let was_released = is_reclaimed && lease.valid_lifetime <= 1;
    let at_s = if was_released { lease.expire() } else { lease.cltt };
    let state = match lease.state {
        LeaseState::Declined => 3,
        // Who has released it holds it no longer; but somebody else may have been given it in the same second.
        LeaseState::Released if !is_same_client(lease, other) => 0,
        LeaseState::ExpiredReclaimed if was_released && !is_same_client(lease, other) => 0,
        LeaseState::Released => 2,
        LeaseState::ExpiredReclaimed if was_released => 2,
        LeaseState::Default | LeaseState::ExpiredReclaimed => 1,
    };
    (at_s, state, lease.expire(), is_reclaimed)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shards::SmallBytes;

    use super::*;
    use crate::engine::message::Span;

    const NOW_S: u64 = 50;
    const BOTH: Standing = Standing { alone: None, serves_alone: false, is_refused: false, wall_s: NOW_S };

    fn lease(cltt: u64, state: LeaseState, valid_lifetime: u32) -> Lease {
        Lease {
            address: Ipv4Addr::new(192, 0, 2, 1),
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 1]),
            client_id: SmallBytes::empty(),
            valid_lifetime,
            cltt,
            state,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::empty(),
            user_context: None,
        }
    }

    fn of_another(lease: Lease) -> Lease {
        Lease { hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 2]), ..lease }
    }

    /// `Some(true)`: theirs is written; `Some(false)`: ours is deleted.
    fn change(
        kind: UpdateKind,
        theirs: &Lease,
        ours: Option<&Lease>,
        source_wins_ties: bool,
    ) -> Option<bool> {
        let terms = if source_wins_ties { Terms::Joining } else { Terms::Merging };
        BOTH.reconcile(kind, terms, theirs.clone(), ours.cloned())
            .0
            .map(|change| matches!(change, Change::Put(_)))
    }

    #[test]
    fn a_copied_lease_replaces_an_older_one_only() {
        use LeaseState::{Declined, Default, ExpiredReclaimed, Released};
        let named = Lease { hostname: SmallBytes::new(b"h"), ..lease(10, Default, 100) };
        let rows = [
            ("6.3 newer", lease(11, Default, 5), lease(10, Default, 100), true),
            ("6.3 older", lease(9, Declined, 500), lease(10, Default, 100), false),
            ("6.3 equal", lease(10, Default, 100), lease(10, Default, 100), false),
            ("6.3 equal but for its name", named.clone(), lease(10, Default, 100), false),
            ("6.10 declined", lease(10, Declined, 1), lease(10, Default, 100), true),
            ("6.10 released", lease(10, Released, 0), lease(10, Default, 100), true),
            ("6.10 declined before released", lease(10, Released, 0), lease(10, Declined, 0), false),
            ("6.10 longer", lease(10, Default, 101), lease(10, Default, 100), true),
            ("reclaimed", lease(10, ExpiredReclaimed, 20), lease(10, Default, 20), true),
            ("released and reclaimed", lease(9, ExpiredReclaimed, 1), lease(10, Default, 100), true),
            ("released, then reclaimed", lease(9, ExpiredReclaimed, 1), lease(10, Released, 0), true),
            ("reclaimed and only released", lease(10, Released, 0), lease(9, ExpiredReclaimed, 1), false),
            (
                "released and reclaimed, then renewed",
                lease(9, ExpiredReclaimed, 1),
                lease(11, Default, 20),
                false,
            ),
            (
                "released and reclaimed before it was given to another",
                lease(9, ExpiredReclaimed, 1),
                of_another(lease(10, Default, 40)),
                false,
            ),
            ("reclaimed, then renewed", lease(10, ExpiredReclaimed, 20), lease(40, Default, 20), false),
            (
                "given to another after a release",
                of_another(lease(10, Default, 40)),
                lease(10, Released, 0),
                true,
            ),
            (
                "released before it was given to another",
                lease(10, Released, 0),
                of_another(lease(10, Default, 40)),
                false,
            ),
        ];
        for (rule, theirs, ours, newer) in rows {
            let expected = newer.then_some(true);
            assert_eq!(change(UpdateKind::Update, &theirs, Some(&ours), false), expected, "{rule}");
            let differs = theirs != ours && theirs.cltt == ours.cltt && !rule.starts_with("released before");
            let tie = differs && rank(&theirs, &ours) == rank(&ours, &theirs);
            let expected = (newer || tie).then_some(true);
            assert_eq!(change(UpdateKind::Update, &theirs, Some(&ours), true), expected, "{rule}, ties");
        }
        assert_eq!(change(UpdateKind::Update, &named, Some(&lease(10, Default, 100)), true), Some(true));
        assert_eq!(change(UpdateKind::Update, &named, None, false), Some(true), "what is not here is taken");
    }

    #[test]
    fn a_deletion_at_the_source_deletes_what_it_was_of_and_nothing_newer() {
        use LeaseState::Default;
        let deleted = lease(10, Default, 100);
        for (case, ours, goes) in [
            ("the lease that was deleted", Some(deleted.clone()), true),
            ("an older one of the client", Some(lease(5, Default, 100)), true),
            ("one given to the client since", Some(lease(11, Default, 100)), false),
            ("one given to another", Some(of_another(lease(9, Default, 100))), false),
            ("none", None, false),
        ] {
            let expected = goes.then_some(false);
            assert_eq!(change(UpdateKind::Delete, &deleted, ours.as_ref(), true), expected, "{case}");
        }
    }

    #[test]
    fn an_update_is_overtaken_by_the_same_clients_newer_lease_that_says_the_same() {
        use LeaseState::{Declined, Default, Released};
        let theirs = lease(20, Default, 100);
        let named = Lease { hostname: SmallBytes::new(b"h"), ..lease(24, Default, 100) };
        for (case, theirs, ours, expected) in [
            ("newer", theirs.clone(), lease(24, Default, 100), true),
            ("newer, and ends with it", theirs.clone(), lease(24, Default, 96), true),
            ("newer, and ends before", theirs.clone(), lease(24, Default, 95), false),
            ("of the same second", theirs.clone(), lease(20, Default, 100), false),
            ("older", theirs.clone(), lease(19, Default, 200), false),
            ("another client's", theirs.clone(), of_another(lease(24, Default, 100)), false),
            ("of another name", theirs.clone(), named, false),
            ("released here", theirs.clone(), lease(24, Released, 0), false),
            ("released there", lease(20, Released, 0), lease(24, Default, 100), false),
            ("declined by both", lease(20, Declined, 100), lease(24, Declined, 100), false),
        ] {
            assert_eq!(is_overtaken(&theirs, &ours), expected, "{case}");
        }
    }

    #[test]
    fn what_the_source_lacks_is_in_force_here_and_newer_than_its_row() {
        use LeaseState::{Declined, Default, ExpiredReclaimed, Released};
        let theirs = lease(20, Default, 100);
        for (case, kind, ours, expected) in [
            ("newer", UpdateKind::Update, lease(21, Default, 100), true),
            ("of another client", UpdateKind::Update, of_another(lease(21, Default, 100)), true),
            ("declined in the same second", UpdateKind::Update, lease(20, Declined, 100), true),
            ("the same", UpdateKind::Update, theirs.clone(), false),
            ("older", UpdateKind::Update, lease(19, Default, 100), false),
            ("newer, and it has run out", UpdateKind::Update, lease(21, Default, 10), false),
            ("newer, and released", UpdateKind::Update, lease(21, Released, 0), false),
            ("newer, and reclaimed", UpdateKind::Update, lease(21, ExpiredReclaimed, 100), false),
            ("newer than a deletion", UpdateKind::Delete, lease(21, Default, 100), false),
        ] {
            assert_eq!(BOTH.lacks(kind, &theirs, &ours), expected, "{case}");
        }
    }

    #[test]
    fn two_clients_that_hold_one_address_are_told_with_both_leases() {
        use LeaseState::{Default, Released};
        let conflict = |theirs: &Lease, ours: &Lease| {
            BOTH.reconcile(UpdateKind::Update, Terms::Joining, theirs.clone(), Some(ours.clone())).1
        };
        let (ours, theirs) = (lease(20, Default, 100), of_another(lease(30, Default, 100)));
        let told = Conflict { ours: ours.clone(), theirs: theirs.clone(), taken: true };
        assert_eq!(conflict(&theirs, &ours), Some(told));
        assert!(conflict(&ours, &theirs).is_some_and(|conflict| !conflict.taken));
        for (case, theirs, ours) in [
            ("the same client", lease(30, Default, 100), ours.clone()),
            ("ours has run out", theirs.clone(), lease(20, Default, 10)),
            ("theirs is released", of_another(lease(30, Released, 100)), ours),
        ] {
            assert_eq!(conflict(&theirs, &ours), None, "{case}");
        }
    }

    /// Ours was given at 20, the update of the partner at 25; this server was left alone at 15.
    #[test]
    fn a_lease_given_alone_stays_with_its_client_against_what_comes_late() {
        use LeaseState::{Default, Released};
        use UpdateKind::{Delete, Update};
        let since = |partner_since_s, partner_knows_since_s| {
            let alone = Some(Alone { since_s: 15, partner_since_s, partner_knows_since_s });
            Standing { alone, ..BOTH }
        };
        let after = since(None, None);
        let now = Standing { serves_alone: true, ..after };
        let terminated = Standing { alone: None, ..now };
        let ours = lease(20, Default, 100);
        let theirs = of_another(lease(25, Default, 100));
        let older = of_another(lease(12, Default, 100));
        let same = |cltt| lease(cltt, Default, 100);
        let new_card = Lease { client_id: SmallBytes::new(&[1, 7]), ..theirs.clone() };
        let known = Lease { client_id: SmallBytes::new(&[1, 7]), ..ours.clone() };
        for (case, standing, kind, theirs, ours, stays) in [
            ("both serve", BOTH, Update, &theirs, &ours, false),
            ("both serve, and a deletion", BOTH, Delete, &older, &ours, false),
            ("another client's, alone", now, Update, &theirs, &ours, true),
            ("another client's, a minute after", after, Update, &theirs, &ours, true),
            ("a deletion of another client's", after, Delete, &theirs, &ours, true),
            (
                "a deletion of one that ran out",
                after,
                Delete,
                &of_another(lease(12, Default, 5)),
                &ours,
                true,
            ),
            ("a deletion of what was deleted, alone", now, Delete, &older, &ours, true),
            ("the partner served alone as well, before", since(Some(26), None), Update, &theirs, &ours, true),
            ("the partner served alone as well", since(Some(25), None), Update, &theirs, &ours, false),
            (
                "the partner served alone as well, and nobody was answered",
                Standing { is_refused: true, ..since(Some(25), None) },
                Update,
                &theirs,
                &ours,
                true,
            ),
            ("the partner copied later", since(None, Some(26)), Update, &theirs, &ours, true),
            ("the partner had copied", since(None, Some(25)), Update, &theirs, &ours, false),
            ("given before it was alone", after, Update, &theirs, &same(14), false),
            ("given before it was alone, and newer", now, Update, &older, &same(14), true),
            ("ours has run out", after, Update, &theirs, &lease(20, Default, 5), false),
            ("theirs is released", after, Update, &of_another(lease(25, Released, 0)), &ours, false),
            ("the client's own, later", now, Update, &same(21), &ours, false),
            ("the client's own, of the same second", now, Update, &same(20), &ours, false),
            ("the client's own, older", now, Update, &same(19), &ours, true),
            ("the client's own deletion, older", now, Delete, &same(19), &ours, true),
            ("the client's own deletion", now, Delete, &same(20), &ours, false),
            ("the client with another card", now, Update, &new_card, &known, false),
            ("terminated, older", terminated, Update, &older, &ours, true),
            ("terminated, later", terminated, Update, &theirs, &ours, false),
        ] {
            assert_eq!(standing.stays(kind, theirs, ours), stays, "{case}");
            assert!(!stays || standing.defends(), "{case}");
        }
    }

    #[test]
    fn a_lease_given_alone_stays_in_a_comparison_and_gives_way_to_whoever_has_served() {
        let alone = Some(Alone { since_s: 15, partner_since_s: None, partner_knows_since_s: None });
        let standing = Standing { alone, ..BOTH };
        let ours = lease(20, LeaseState::Default, 100);
        let theirs = of_another(lease(25, LeaseState::Default, 100));
        for (terms, taken) in
            [(Terms::Comparison(Span::default()), false), (Terms::Merging, false), (Terms::Joining, true)]
        {
            let (change, conflict) =
                standing.reconcile(UpdateKind::Update, terms, theirs.clone(), Some(ours.clone()));
            assert_eq!(
                (change.is_some(), conflict.map(|told| told.taken)),
                (taken, Some(taken)),
                "{terms:?}"
            );
        }
        assert!(standing.is_sent(&theirs, &ours) && !BOTH.is_sent(&theirs, &ours));
    }
}
