//! What a partner whose updates bear no stamps has said lately, so that an update that a later one has overtaken is known.
//!
//! A Kea sends updates over several connections, and of those that wait in its queue the latest may go first: a client
//! that has asked again has two updates under way, and the older one comes last. What the partner has said then is what it
//! said of the later transaction, not what was heard last. The leases it lists are its word as well: what waits in its
//! queue while it is copied comes after the copy. Stamps tell that of a Tandem (`ha::fence`).
//!
//! Only what the partner itself has said within the last seconds counts, by the monotonic clock: a lease that this server
//! has given, or that was told before, says nothing of the order in which two updates were sent, and against it the
//! partner's word is final. A partner whose clock is set back by no more than that looks the same where a client asks
//! before and after it; the clocks then tell with the next heartbeat, and leases are compared (`ha::machine::comparison`).
//!
//! Pure. It has a place for each of so many addresses ([`HEARD_LEASES_MAX`]); of one that has lost its place to another
//! address the update heard last counts.

use std::net::Ipv4Addr;

use shards::Lease;

use crate::engine::standing::is_overtaken;
use crate::limits::HEARD_LEASES_MAX;

/// How much later than a newer one an update may come, and by how much it may be older: a Kea gives a request up after
/// ten seconds.
const OVERTAKEN_S: u64 = 10;
const OVERTAKEN_NS: u64 = OVERTAKEN_S * 1_000_000_000;

/// What was said of one address.
#[derive(Clone, Copy, Debug)]
struct Word {
    address: Ipv4Addr,
    cltt: u64,
    /// When it came, monotonic.
    at_ns: u64,
}

/// The last words of partners, by the lower bits of their addresses.
#[derive(Debug, Default)]
pub(super) struct Lately {
    /// Empty until there is a first one: nearly no server has such a partner.
    words: Vec<Option<Word>>,
}

impl Lately {
    /// The partner's update of the lease of `address` is carried out, or it has listed that lease.
    pub fn hear(&mut self, address: Ipv4Addr, cltt: u64, now_ns: u64) {
        if self.words.is_empty() {
            self.words = vec![None; HEARD_LEASES_MAX];
        }
        self.words[place(address)] = Some(Word { address, cltt, at_ns: now_ns });
    }

    /// Whether the partner's update of `theirs` was sent before that of `ours`, which it has told lately and which says no
    /// less.
    pub fn has_overtaken(&self, theirs: &Lease, ours: &Lease, now_ns: u64) -> bool {
        let is_told = |word: &Word| {
            let is_recent = now_ns.saturating_sub(word.at_ns) <= OVERTAKEN_NS;
            is_recent && (word.address, word.cltt) == (ours.address, ours.cltt)
        };
        let word = self.words.get(place(ours.address)).copied().flatten();
        word.as_ref().is_some_and(is_told)
            && ours.cltt.saturating_sub(theirs.cltt) <= OVERTAKEN_S
            && is_overtaken(theirs, ours)
    }
}

fn place(address: Ipv4Addr) -> usize {
    u32::from(address) as usize % HEARD_LEASES_MAX
}

#[cfg(test)]
mod tests {
    use shards::{LeaseState, SmallBytes};

    use super::*;
    use crate::ha::test_support;

    const S: u64 = 1_000_000_000;

    fn lease(address: u32, client: u8, cltt: u64, state: LeaseState, valid_lifetime: u32) -> Lease {
        let address = Ipv4Addr::from(0xC000_0200 + address);
        let hwaddr = SmallBytes::new(&[2, 0, 0, 0, 0, client]);
        Lease { address, hwaddr, valid_lifetime, cltt, state, ..test_support::lease(1) }
    }

    #[test]
    fn an_update_is_overtaken_by_a_later_one_of_the_same_client_that_came_lately() {
        use LeaseState::{Declined, Default, ExpiredReclaimed, Released};
        let given = |cltt| lease(1, 1, cltt, Default, 600);
        let ours = given(100);
        for (case, told, theirs, after_ns, expected) in [
            ("a second older", Some(&ours), given(99), S, true),
            ("as it comes at once", Some(&ours), given(96), 0, true),
            ("ten seconds older and later", Some(&ours), given(90), 10 * S, true),
            ("too much older: the clock was set back", Some(&ours), given(89), S, false),
            ("too late", Some(&ours), given(99), 10 * S + 1, false),
            ("of the same second", Some(&ours), given(100), S, false),
            ("newer", Some(&ours), given(101), S, false),
            ("ours was given here", None, given(99), S, false),
            ("ours was given here since", Some(&given(98)), given(99), S, false),
            ("another client's", Some(&ours), lease(1, 2, 99, Default, 600), S, false),
            ("one that ends later", Some(&ours), lease(1, 1, 99, Default, 602), S, false),
            ("one that ends with ours", Some(&ours), lease(1, 1, 99, Default, 601), S, true),
            ("a release", Some(&ours), lease(1, 1, 99, Released, 0), S, false),
            ("the address is declined", Some(&ours), lease(1, 1, 99, Declined, 600), S, false),
            ("it has run out there", Some(&ours), lease(1, 1, 99, ExpiredReclaimed, 600), S, false),
            (
                "another address was told at its place",
                Some(&lease(4097, 1, 100, Default, 600)),
                given(99),
                S,
                false,
            ),
        ] {
            let mut lately = Lately::default();
            if let Some(told) = told {
                lately.hear(told.address, told.cltt, 7 * S);
            }
            assert_eq!(lately.has_overtaken(&theirs, &ours, 7 * S + after_ns), expected, "{case}");
        }
        let mut lately = Lately::default();
        let released = lease(1, 1, 100, Released, 0);
        lately.hear(released.address, released.cltt, 0);
        assert!(!lately.has_overtaken(&given(99), &released, S), "ours was released there");
    }
}
