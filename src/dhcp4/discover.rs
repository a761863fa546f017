//! DISCOVER: which address is offered (b.4).
//!
//! The order is Kea's: the client's own lease, then the address it asks for, then the allocator's pick.
//! Reservations come first in that order and do not exist yet.

use std::net::Ipv4Addr;

use crate::dhcp4::request::Availability;
use crate::wire::Query;

/// What is known of an address that might be offered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Whether a pool of the subnet holds it.
    pub in_pool: bool,
    /// Whose it is.
    pub availability: Availability,
    /// Whether it is held for the offer to another client.
    pub held_for_another: bool,
}

/// The address a DISCOVER asks for: option 50, else ciaddr (b.4 step 3).
pub fn asked(query: &Query) -> Option<Ipv4Addr> {
    let given = |address: &Ipv4Addr| !address.is_unspecified();
    query.requested_address().filter(given).or(Some(query.ciaddr()).filter(given))
}

/// Whether the client's former or present lease is offered again (b.4 step 2).
pub fn offers_own(in_pool: bool, availability: Availability) -> bool {
    in_pool && availability == Availability::Own
}

/// Whether the address asked for is offered (b.4 step 3).
pub fn offers_asked(candidate: Candidate) -> bool {
    candidate.in_pool
        && match candidate.availability {
            Availability::Own => true,
            Availability::Free | Availability::Reusable => !candidate.held_for_another,
            Availability::Taken => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_offered_by_rule() {
        use Availability::{Free, Own, Reusable, Taken};
        // In pool, availability, held for another; offered as the client's own; offered as asked for.
        let rows = [
            ("own", true, Own, false, true, true),
            ("own, another was offered it meanwhile", true, Own, true, true, true),
            ("own, pool is gone", false, Own, false, false, false),
            ("free", true, Free, false, false, true),
            ("free, held", true, Free, true, false, false),
            ("over", true, Reusable, false, false, true),
            ("taken", true, Taken, false, false, false),
            ("outside", false, Free, false, false, false),
        ];
        for (case, in_pool, availability, held_for_another, own, asked) in rows {
            let candidate = Candidate { in_pool, availability, held_for_another };
            assert_eq!((offers_own(in_pool, availability), offers_asked(candidate)), (own, asked), "{case}");
        }
    }
}
