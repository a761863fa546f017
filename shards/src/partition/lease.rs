//! One lease, as Kea stores it.

use std::net::Ipv4Addr;

use crate::SmallBytes;

/// A `valid_lifetime` that never ends (RFC 2131 §3.3).
pub const INFINITE_LIFETIME: u32 = u32::MAX;

/// What a lease row's `state` column says (PST-3).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum LeaseState {
    /// Assigned to a client (or expired and not yet reclaimed).
    #[default]
    Default = 0,
    /// Declined by a client; out of use for the probation period.
    Declined = 1,
    /// Expired and reclaimed; kept for affinity.
    ExpiredReclaimed = 2,
    /// Released by its client; kept for affinity.
    Released = 3,
}

/// One lease. The address is its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// The leased address.
    pub address: Ipv4Addr,
    /// Id of the subnet the lease was given from.
    pub subnet_id: u32,
    /// Id of the pool, 0 by default (ALC-60).
    pub pool_id: u32,
    /// `chaddr[0..hlen]`, empty for a declined lease. The hardware type is not stored (PST-3).
    pub hwaddr: SmallBytes,
    /// Payload of option 61, empty when the client sent none.
    pub client_id: SmallBytes,
    /// Lifetime in seconds; [`INFINITE_LIFETIME`] never ends.
    pub valid_lifetime: u32,
    /// Client's last transaction time, seconds since the epoch.
    pub cltt: u64,
    /// State column.
    pub state: LeaseState,
    /// Forward DNS update done.
    pub fqdn_fwd: bool,
    /// Reverse DNS update done.
    pub fqdn_rev: bool,
    /// Host name, lower case, a byte string; may be empty.
    pub hostname: SmallBytes,
    /// JSON text of the user context as Kea renders it, if any.
    pub user_context: Option<Box<[u8]>>,
}

impl Lease {
    /// The `expire` column: `cltt + valid_lifetime`, seconds since the epoch (PST-3).
    pub fn expire(&self) -> u64 {
        self.cltt.saturating_add(u64::from(self.valid_lifetime))
    }

    /// Whether the lease never runs out.
    pub fn is_infinite(&self) -> bool {
        self.valid_lifetime == INFINITE_LIFETIME
    }

    /// Whether the lease has run out at `wall_s` (ALC-40, strict).
    pub fn is_expired(&self, wall_s: u64) -> bool {
        !self.is_infinite() && self.expire() < wall_s
    }
}
