//! RELEASE (PKT-77): the client gives its address back.

use shards::{Lease, LeaseState};

use crate::dhcp4::identity::ClientIdentity;

/// What becomes of the lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Delete it.
    Delete,
    /// Keep it, released, for affinity (ALC-70).
    Keep,
    /// There is no lease in force.
    NoLease,
    /// It is another client's.
    WrongClient,
}

/// Decides a RELEASE of the address of `lease`; `affinity` as ALC-70 defines it.
pub fn decide(client: &ClientIdentity, lease: Option<&Lease>, affinity: bool) -> Verdict {
    let Some(lease) = lease.filter(|lease| lease.state == LeaseState::Default) else {
        return Verdict::NoLease;
    };
    // `match-client-id` does not count here (PKT-77).
    if !client.owns(lease, true) {
        return Verdict::WrongClient;
    }
    // A lease without end is not kept: nothing would ever reclaim its row (ha-protocol 1.10).
    if affinity && !lease.is_infinite() { Verdict::Keep } else { Verdict::Delete }
}

/// The row of a lease kept for affinity: lifetime 0 and state released, everything else as it was.
pub fn released(lease: &Lease) -> Lease {
    Lease { valid_lifetime: 0, state: LeaseState::Released, ..lease.clone() }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shards::SmallBytes;
    use shards::partition::lease::INFINITE_LIFETIME;

    use super::*;

    fn lease(state: LeaseState, hwaddr: &[u8], client_id: &[u8]) -> Lease {
        Lease {
            address: Ipv4Addr::new(192, 0, 2, 1),
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::new(hwaddr),
            client_id: SmallBytes::new(client_id),
            valid_lifetime: 100,
            cltt: 1000,
            state,
            fqdn_fwd: true,
            fqdn_rev: false,
            hostname: SmallBytes::new(b"host"),
            user_context: None,
        }
    }

    #[test]
    fn releases_follow_pkt_77() {
        let client = ClientIdentity { htype: 1, chaddr: b"mac", client_id: Some(b"id") };
        let infinite =
            Lease { valid_lifetime: INFINITE_LIFETIME, ..lease(LeaseState::Default, b"mac", b"id") };
        let rows = [
            ("own", Some(lease(LeaseState::Default, b"mac", b"id")), false, Verdict::Delete),
            ("own, affinity", Some(lease(LeaseState::Default, b"mac", b"id")), true, Verdict::Keep),
            ("own, affinity, infinite", Some(infinite.clone()), true, Verdict::Delete),
            (
                "lease without client id",
                Some(lease(LeaseState::Default, b"mac", b"")),
                false,
                Verdict::Delete,
            ),
            ("other client id", Some(lease(LeaseState::Default, b"mac", b"no")), true, Verdict::WrongClient),
            ("other address", Some(lease(LeaseState::Default, b"xyz", b"")), true, Verdict::WrongClient),
            ("released before", Some(lease(LeaseState::Released, b"mac", b"id")), true, Verdict::NoLease),
            ("declined", Some(lease(LeaseState::Declined, b"", b"")), true, Verdict::NoLease),
            ("none", None, true, Verdict::NoLease),
        ];
        for (case, lease, affinity, verdict) in rows {
            assert_eq!(decide(&client, lease.as_ref(), affinity), verdict, "{case}");
        }
    }

    #[test]
    fn a_released_row_keeps_identity_and_transaction_time() {
        let before = lease(LeaseState::Default, b"mac", b"id");
        let after = released(&before);
        assert_eq!((after.state, after.valid_lifetime, after.cltt), (LeaseState::Released, 0, 1000));
        assert_eq!((after.hwaddr, after.client_id), (before.hwaddr, before.client_id));
    }
}
