//! REQUEST: what the client means, and whether it gets it (b.5, PKT-71 to PKT-75, b.8).
//!
//! Decides from what the owner of the address knows of it; changes nothing.

use std::net::Ipv4Addr;

use shards::partition::lease::INFINITE_LIFETIME;
use shards::{DatagramMeta, Lease, LeaseState};

use crate::dhcp4::identity::ClientIdentity;
use crate::policy::{Scope, Subnet};
use crate::wire::{Query, codes};

/// State of the client that a REQUEST shows (RFC 2131 section 4.3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestState {
    /// It remembers an address from before.
    InitReboot,
    /// It extends its lease with any server, by broadcast.
    Rebinding,
    /// It extends its lease with us, by unicast.
    Renewing,
    /// It takes our offer.
    Selecting,
}

/// What a REQUEST asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked {
    /// State of the client.
    pub state: RequestState,
    /// The address it is about; `None` when the query names none (b.5 rule 7).
    pub address: Option<Ipv4Addr>,
}

impl Asked {
    /// What `query` asks for.
    pub fn of(query: &Query, meta: &DatagramMeta) -> Self {
        let requested = query.requested_address().filter(|address| !address.is_unspecified());
        let ciaddr = Some(query.ciaddr()).filter(|address| !address.is_unspecified());
        let address = requested.or(ciaddr);
        let state = if query.has_option(codes::DHCP_SERVER_IDENTIFIER) {
            RequestState::Selecting
        } else if requested.is_some() {
            RequestState::InitReboot
        } else if meta.destination == Ipv4Addr::BROADCAST {
            RequestState::Rebinding
        } else {
            RequestState::Renewing
        };
        Self { state, address }
    }
}

/// What stands in the way of giving an address to a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Availability {
    /// There is no lease.
    Free,
    /// The client's own lease, in force or not.
    Own,
    /// The lease of another client, which is over (ALC-41).
    Reusable,
    /// In force for another client, or declined.
    Taken,
}

impl Availability {
    /// Availability of the address of `lease` for the client.
    pub fn of(lease: Option<&Lease>, client: &ClientIdentity, match_client_id: bool, wall_s: u64) -> Self {
        let Some(lease) = lease else { return Self::Free };
        // A declined lease has lost its identifiers and belongs to nobody.
        if lease.state != LeaseState::Declined && client.owns(lease, match_client_id) {
            return Self::Own;
        }
        match lease.state {
            LeaseState::ExpiredReclaimed | LeaseState::Released => Self::Reusable,
            LeaseState::Declined | LeaseState::Default if lease.is_expired(wall_s) => Self::Reusable,
            LeaseState::Declined | LeaseState::Default => Self::Taken,
        }
    }

    /// Whether the client may have the address.
    pub fn is_available(self) -> bool {
        self != Self::Taken
    }
}

/// Where an address lies, as the client sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// In a pool the client may use.
    Allowed,
    /// In a pool whose guard keeps the client out.
    Excluded,
    /// In no pool.
    Outside,
}

impl Place {
    /// Where `address` lies for a query of `scope`.
    pub fn of(address: Ipv4Addr, subnet: &Subnet, scope: Scope) -> Self {
        match subnet.pool_of(address) {
            Some(pool) if pool.guard.admits(scope) => Self::Allowed,
            Some(_) => Self::Excluded,
            None => Self::Outside,
        }
    }
}

/// What is known when a REQUEST is decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Where the address lies.
    pub place: Place,
    /// Whose the address is.
    pub availability: Availability,
    /// Whether the client holds a lease at another address of the subnet.
    pub holds_another: bool,
    /// `authoritative` of the subnet.
    pub authoritative: bool,
}

/// How a REQUEST is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// ACK: give or extend the lease.
    Grant,
    /// NAK.
    Nak,
    /// No answer: another server may own the address.
    Silent,
}

/// Decides a REQUEST for an address.
pub fn decide(state: RequestState, facts: Facts) -> Verdict {
    if state == RequestState::InitReboot && facts.availability != Availability::Own {
        return match (facts.holds_another, facts.authoritative) {
            (true, _) | (false, true) => Verdict::Nak,
            (false, false) => Verdict::Silent,
        };
    }
    match facts.place {
        Place::Allowed if facts.availability.is_available() => Verdict::Grant,
        // PKT-71, PKT-73: what is there and not for this client sends it back to DISCOVER.
        Place::Allowed | Place::Excluded => Verdict::Nak,
        Place::Outside => Verdict::Silent,
    }
}

/// Decides a REQUEST for which there is no subnet (PKT-74); `authoritative` is the global one. What a directly
/// attached client broadcasts on such a link is not for this server at all: Kea drops it at the door, whatever the
/// client's state.
pub fn decide_without_subnet(state: RequestState, direct_broadcast: bool, authoritative: bool) -> Verdict {
    if direct_broadcast {
        return Verdict::Silent;
    }
    match state {
        RequestState::Renewing | RequestState::Selecting => Verdict::Nak,
        RequestState::InitReboot if authoritative => Verdict::Nak,
        RequestState::InitReboot | RequestState::Rebinding => Verdict::Silent,
    }
}

/// Whether the lease that would be written says nothing else than `old`, but for its time.
pub fn is_unchanged(old: &Lease, new: &Lease) -> bool {
    old.state == LeaseState::Default
        && old.subnet_id == new.subnet_id
        && old.pool_id == new.pool_id
        && old.hwaddr == new.hwaddr
        && old.client_id == new.client_id
        && old.hostname == new.hostname
        && (old.fqdn_fwd, old.fqdn_rev) == (new.fqdn_fwd, new.fqdn_rev)
        && old.user_context == new.user_context
        && old.valid_lifetime == new.valid_lifetime
}

/// Remaining lifetime in seconds when `old` can be given again as it is (ALC-51), where `new` is what would be
/// written otherwise; `None` when it has to be written.
pub fn reusable_lifetime(subnet: &Subnet, old: &Lease, new: &Lease, wall_s: u64) -> Option<u32> {
    let (threshold, max_age_s) = (subnet.cache_threshold, subnet.cache_max_age_s);
    if max_age_s == Some(0) || (threshold.is_none() && max_age_s.is_none()) {
        return None;
    }
    if !is_unchanged(old, new) || old.is_expired(wall_s) {
        return None;
    }
    if old.valid_lifetime == INFINITE_LIFETIME {
        return Some(INFINITE_LIFETIME);
    }
    let age_s = wall_s.saturating_sub(old.cltt);
    let young = max_age_s.is_none_or(|max| age_s <= u64::from(max))
        && threshold.is_none_or(|part| age_s as f64 <= part * f64::from(old.valid_lifetime));
    // A clock that was set back makes a lease look younger than new; it is written then.
    let remaining_s = u32::try_from(u64::from(old.valid_lifetime).checked_sub(age_s)?).ok()?;
    (young && old.cltt <= wall_s && remaining_s > 0).then_some(remaining_s)
}

/// Seconds left of `lease` at `wall_s`: what a reply may promise of a lease that is not written again; 0 when it
/// has run out.
pub fn remaining_lifetime(lease: &Lease, wall_s: u64) -> u32 {
    if lease.is_infinite() {
        return INFINITE_LIFETIME;
    }
    // A clock that was set back does not make a lease longer than it was given.
    let left_s = lease.expire().saturating_sub(wall_s).min(u64::from(lease.valid_lifetime));
    u32::try_from(left_s).unwrap_or(lease.valid_lifetime)
}

#[cfg(test)]
mod tests {
    use shards::SmallBytes;

    use super::*;

    const WALL_S: u64 = 1_000_000;

    fn lease(state: LeaseState, age_s: u64, lifetime_s: u32, hwaddr: &[u8], client_id: &[u8]) -> Lease {
        Lease {
            address: Ipv4Addr::new(192, 0, 2, 1),
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::new(hwaddr),
            client_id: SmallBytes::new(client_id),
            valid_lifetime: lifetime_s,
            cltt: WALL_S - age_s,
            state,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::empty(),
            user_context: None,
        }
    }

    #[test]
    fn requests_are_decided_by_rule() {
        use Availability::{Free, Own, Reusable, Taken};
        use Place::{Allowed, Excluded, Outside};
        use RequestState::{InitReboot, Rebinding, Renewing, Selecting};
        let rows = [
            ("PKT-71 free", Selecting, Allowed, Free, false, false, Verdict::Grant),
            ("PKT-71 own", Selecting, Allowed, Own, false, false, Verdict::Grant),
            ("ALC-41 over", Selecting, Allowed, Reusable, false, false, Verdict::Grant),
            ("b.5-3 in use", Selecting, Allowed, Taken, false, false, Verdict::Nak),
            ("b.5-5 unknown address", Selecting, Outside, Free, false, true, Verdict::Silent),
            ("b.5-6 moves", Selecting, Allowed, Free, true, false, Verdict::Grant),
            ("PKT-72 known, same", InitReboot, Allowed, Own, false, false, Verdict::Grant),
            ("PKT-72 known, other", InitReboot, Allowed, Free, true, false, Verdict::Nak),
            ("PKT-72 known, other, auth", InitReboot, Allowed, Taken, true, true, Verdict::Nak),
            ("PKT-72 unknown", InitReboot, Allowed, Free, false, false, Verdict::Silent),
            ("PKT-72 unknown, auth", InitReboot, Allowed, Free, false, true, Verdict::Nak),
            ("PKT-72 foreign lease", InitReboot, Allowed, Taken, false, false, Verdict::Silent),
            ("PKT-72 out of pool, auth", InitReboot, Outside, Free, false, true, Verdict::Nak),
            ("PKT-73 extend", Renewing, Allowed, Own, false, false, Verdict::Grant),
            ("PKT-73 re-create", Rebinding, Allowed, Free, false, false, Verdict::Grant),
            ("PKT-73 taken", Rebinding, Allowed, Taken, false, false, Verdict::Nak),
            ("PKT-73 in no pool", Renewing, Outside, Own, false, true, Verdict::Silent),
            ("PKT-71 guarded", Selecting, Excluded, Free, false, false, Verdict::Nak),
            ("PKT-72 guarded", InitReboot, Excluded, Own, false, false, Verdict::Nak),
            ("PKT-73 guarded", Renewing, Excluded, Own, false, false, Verdict::Nak),
        ];
        for (rule, state, place, availability, holds_another, authoritative, verdict) in rows {
            let facts = Facts { place, availability, holds_another, authoritative };
            assert_eq!(decide(state, facts), verdict, "{rule}");
        }
    }

    #[test]
    fn what_is_left_of_a_lease_is_never_more_than_was_given() {
        let rows = [
            ("fresh", 0, 600, WALL_S, 600),
            ("aged", 10, 600, WALL_S, 590),
            ("about to end", 600, 600, WALL_S, 0),
            ("ended", 700, 600, WALL_S, 0),
            ("the clock was set back", 0, 600, WALL_S - 50, 600),
            ("endless", 700, INFINITE_LIFETIME, WALL_S, INFINITE_LIFETIME),
        ];
        for (case, age_s, lifetime_s, wall_s, left_s) in rows {
            let lease = lease(LeaseState::Default, age_s, lifetime_s, &[1], &[]);
            assert_eq!(remaining_lifetime(&lease, wall_s), left_s, "{case}");
        }
    }

    #[test]
    fn requests_without_subnet_follow_pkt_74() {
        let rows = [
            (RequestState::Selecting, false, false, Verdict::Nak),
            (RequestState::Renewing, false, false, Verdict::Nak),
            (RequestState::Rebinding, false, true, Verdict::Silent),
            (RequestState::InitReboot, false, false, Verdict::Silent),
            (RequestState::InitReboot, false, true, Verdict::Nak),
            (RequestState::Selecting, true, true, Verdict::Silent),
            (RequestState::InitReboot, true, true, Verdict::Silent),
        ];
        for (state, direct_broadcast, authoritative, verdict) in rows {
            assert_eq!(decide_without_subnet(state, direct_broadcast, authoritative), verdict, "{state:?}");
        }
    }

    #[test]
    fn availability_follows_state_expiry_and_identity() {
        use LeaseState::{Declined, Default, ExpiredReclaimed, Released};
        let rows = [
            ("in force, own", lease(Default, 10, 100, b"mac", b""), Availability::Own),
            ("in force, other", lease(Default, 10, 100, b"xyz", b""), Availability::Taken),
            ("ALC-40 strict: last second", lease(Default, 100, 100, b"xyz", b""), Availability::Taken),
            ("expired, other", lease(Default, 101, 100, b"xyz", b""), Availability::Reusable),
            ("ALC-70 expired, own", lease(Default, 101, 100, b"mac", b""), Availability::Own),
            ("ALC-11 other client id", lease(Default, 1, 100, b"mac", b"other"), Availability::Taken),
            ("ALC-11 same client id", lease(Default, 1, 100, b"xyz", b"id"), Availability::Own),
            ("PKT-78 declined", lease(Declined, 1, 100, b"", b""), Availability::Taken),
            ("PKT-78 probation over", lease(Declined, 101, 100, b"", b""), Availability::Reusable),
            ("reclaimed", lease(ExpiredReclaimed, 1, 100, b"xyz", b""), Availability::Reusable),
            ("ALC-70 released, own", lease(Released, 1, 0, b"mac", b""), Availability::Own),
            ("infinite", lease(Default, 900_000, INFINITE_LIFETIME, b"xyz", b""), Availability::Taken),
        ];
        let client = ClientIdentity { htype: 1, chaddr: b"mac", client_id: Some(b"id") };
        for (case, lease, availability) in rows {
            assert_eq!(Availability::of(Some(&lease), &client, true, WALL_S), availability, "{case}");
        }
        assert_eq!(Availability::of(None, &client, true, WALL_S), Availability::Free);
        let nameless = ClientIdentity { htype: 1, chaddr: b"", client_id: Some(b"id") };
        let declined = lease(Declined, 1, 100, b"", b"");
        assert_eq!(Availability::of(Some(&declined), &nameless, true, WALL_S), Availability::Taken);
    }
}
