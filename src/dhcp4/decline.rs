//! DECLINE (PKT-78): the client found its address in use by another host.

use shards::{Lease, LeaseState, SmallBytes};

use crate::dhcp4::identity::ClientIdentity;

/// What becomes of the lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Take the address out of use.
    Decline,
    /// It is not this client's lease in force; ignored.
    Mismatch,
    /// There is no lease.
    NotFound,
}

/// Decides a DECLINE of the address of `lease`.
pub fn decide(client: &ClientIdentity, lease: Option<&Lease>, wall_s: u64) -> Verdict {
    let Some(lease) = lease else { return Verdict::NotFound };
    let in_force = lease.state == LeaseState::Default && !lease.is_expired(wall_s);
    if in_force && client.owns(lease, true) { Verdict::Decline } else { Verdict::Mismatch }
}

/// The row of a declined address: nobody's, out of use for `probation_s` seconds from `wall_s` on.
pub fn declined(lease: &Lease, wall_s: u64, probation_s: u32) -> Lease {
    Lease {
        address: lease.address,
        subnet_id: lease.subnet_id,
        pool_id: lease.pool_id,
        hwaddr: SmallBytes::empty(),
        client_id: SmallBytes::empty(),
        valid_lifetime: probation_s,
        cltt: wall_s,
        state: LeaseState::Declined,
        fqdn_fwd: false,
        fqdn_rev: false,
        hostname: SmallBytes::empty(),
        user_context: None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn lease(state: LeaseState, cltt: u64) -> Lease {
        Lease {
            address: Ipv4Addr::new(192, 0, 2, 1),
            subnet_id: 4,
            pool_id: 2,
            hwaddr: SmallBytes::new(b"mac"),
            client_id: SmallBytes::new(b"id"),
            valid_lifetime: 100,
            cltt,
            state,
            fqdn_fwd: true,
            fqdn_rev: true,
            hostname: SmallBytes::new(b"host"),
            user_context: Some(b"{}".as_slice().into()),
        }
    }

    #[test]
    fn declines_follow_pkt_78() {
        let own = ClientIdentity { htype: 1, chaddr: b"mac", client_id: Some(b"id") };
        let other = ClientIdentity { htype: 1, chaddr: b"xyz", client_id: None };
        let rows = [
            ("own", own, Some(lease(LeaseState::Default, 1000)), Verdict::Decline),
            ("own, run out", own, Some(lease(LeaseState::Default, 899)), Verdict::Mismatch),
            ("own, released", own, Some(lease(LeaseState::Released, 1000)), Verdict::Mismatch),
            ("another's", other, Some(lease(LeaseState::Default, 1000)), Verdict::Mismatch),
            ("none", own, None, Verdict::NotFound),
        ];
        for (case, client, lease, verdict) in rows {
            assert_eq!(decide(&client, lease.as_ref(), 1000), verdict, "{case}");
        }
    }

    #[test]
    fn a_declined_row_is_nobodys_and_lasts_for_the_probation() {
        let row = declined(&lease(LeaseState::Default, 5), 1000, 86_400);
        assert!(row.hwaddr.is_empty() && row.client_id.is_empty() && row.hostname.is_empty());
        assert_eq!((row.state, row.cltt, row.valid_lifetime), (LeaseState::Declined, 1000, 86_400));
        assert_eq!((row.subnet_id, row.pool_id, row.user_context), (4, 2, None));
    }
}
