//! Host names in replies and leases: options 81 and 12 (a.11), with DNS updates off.

use std::net::Ipv4Addr;

use crate::wire::Query;

/// What a reply says about the client's name, and what its lease stores.
#[derive(Clone, Debug)]
pub struct Names {}

impl Names {
    /// No name at all, as in the answer to an INFORM.
    pub const fn none() -> Self {
        Self {}
    }

    /// Decides for a DISCOVER or REQUEST that gets `address`.
    pub fn decide(_query: &Query, _address: Ipv4Addr) -> Self {
        todo!()
    }

    /// The name to store in the lease, lower case; empty if none.
    pub fn lease_hostname(&self) -> &[u8] {
        todo!()
    }
}
