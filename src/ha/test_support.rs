//! What tests of several modules share: leases of one small subnet.

use std::net::Ipv4Addr;

use shards::{Lease, LeaseState, SmallBytes};

/// The lease of address 10.0.0.0 plus `number`, by a hardware address with the same number and nothing else.
pub fn lease(number: u32) -> Lease {
    let [a, b, c, d] = number.to_be_bytes();
    Lease {
        address: Ipv4Addr::from(0x0a00_0000 + number),
        subnet_id: 1,
        pool_id: 0,
        hwaddr: SmallBytes::new(&[2, 0, a, b, c, d]),
        client_id: SmallBytes::empty(),
        valid_lifetime: 600,
        cltt: 1_795_334_543,
        state: LeaseState::Default,
        fqdn_fwd: false,
        fqdn_rev: false,
        hostname: SmallBytes::empty(),
        user_context: None,
    }
}
