//! The configuration as the shards see it: compiled, immutable, impossible to hold an invalid state.
//!
//! `compile` is the only constructor. A snapshot is shared by `Arc` and swapped between two datagrams.

pub mod compile;
pub mod effective;
pub mod fingerprint;
mod guard;
pub mod interfaces;
pub mod option;
pub mod option_set;
pub mod relationships;
pub mod restart;
mod subnet;
mod subnets;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use shards::partition::PoolSet;

use crate::limits::PARKED_MAX;

pub use compile::{Compiled, Host, compile};
pub use guard::{Guard, Scope};
pub use interfaces::HostInterface;
pub use option_set::{ConfiguredOption, OptionSet, VendorOptions};
pub use relationships::{Attachment, Relationships, SubnetFilter};
pub use subnets::Subnets;

/// One compiled configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Rises by one with every configuration put in force.
    pub epoch: u64,
    /// Subnets in ascending id (ALC-1).
    pub subnets: Subnets,
    /// HA relationships, and which subnets concern which of them.
    pub relationships: Relationships,
    /// Interfaces the server answers on, as found on the host when the snapshot was made.
    pub interfaces: Vec<Interface>,
    /// Interfaces the file names and the host cannot serve on now: absent, down or without an address. The server
    /// waits for them and compiles again when the host changes (PKT-4). `*` where the wildcard finds nothing.
    pub interfaces_missing: Vec<String>,
    /// Options of the global scope, for replies without a subnet.
    pub options: OptionSet,
    /// Global `authoritative`, for INIT-REBOOT without a subnet (PKT-74).
    pub authoritative: bool,
    /// `echo-client-id` (PKT-47).
    pub echo_client_id: bool,
    /// `decline-probation-period`, seconds (PKT-78).
    pub decline_probation_period_s: u32,
    /// `compatibility.ignore-dhcp-server-identifier` (PKT-32).
    pub ignore_server_identifier: bool,
    /// `compatibility.ignore-rai-link-selection` (ALC-2).
    pub ignore_link_selection: bool,
    /// `compatibility.exclude-first-last-24` (ALC-35).
    pub exclude_first_last_24: bool,
    /// `dhcp-socket-type: raw`: whether an unconfigured client can be sent to by unicast (PKT-65).
    pub raw_sockets: bool,
    /// `expired-leases-processing`.
    pub expired_leases: ExpiredLeases,
    /// `parked-packet-limit` for the whole server; 0 is `limits::PARKED_MAX`.
    pub parked_packet_limit: u32,
    /// Server port (`-p`), 67 by default; client port forced by `-P`, if any.
    pub server_port: u16,
    /// Destination port of every reply when forced with `-P` (PKT-1).
    pub forced_client_port: Option<u16>,
}

/// An interface the server has a socket on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Kernel index.
    pub ifindex: u32,
    /// Name, such as `eth0`.
    pub name: String,
    /// Hardware address, the source of raw frames.
    pub mac: [u8; 6],
    /// All IPv4 addresses, the first one first (ALC-4).
    pub addresses: Vec<Ipv4Addr>,
    /// Addresses of open sockets (PKT-32 rule 4).
    pub socket_addresses: Vec<Ipv4Addr>,
}

/// Minimum, default and maximum lifetime, seconds (PKT-55).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LifetimeTriplet {
    /// Smallest lifetime granted to a client that asks.
    pub min_s: u32,
    /// Granted to a client that does not ask.
    pub default_s: u32,
    /// Largest lifetime granted to a client that asks.
    pub max_s: u32,
}

/// A subnet with everything inherited already resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Subnet {
    /// Id, 1..=4294967294.
    pub id: u32,
    /// Network address.
    pub prefix: Ipv4Addr,
    /// Prefix length, 0..=32.
    pub prefix_len: u8,
    /// `interface`: name of the interface its direct clients are on.
    pub interface: Option<String>,
    /// `relay.ip-addresses` (ALC-3).
    pub relays: Vec<Ipv4Addr>,
    /// Pools in file order.
    pub pools: Vec<Pool>,
    /// Whose it is where there are several HA relationships; the only one's else.
    pub attachment: Attachment,
    /// Who is served from the subnet (ALC-6).
    pub guard: Guard,
    /// Whether a pool has a guard, so that what is free depends on who asks.
    pub has_guarded_pools: bool,
    /// Valid lifetimes.
    pub valid_lifetime: LifetimeTriplet,
    /// `renew-timer`, seconds.
    pub renew_timer_s: Option<u32>,
    /// `rebind-timer`, seconds.
    pub rebind_timer_s: Option<u32>,
    /// T1 and T2 as parts of the lifetime where `calculate-tee-times` is true (PKT-57).
    pub tee_percent: Option<(f64, f64)>,
    /// `match-client-id` (ALC-10).
    pub match_client_id: bool,
    /// `authoritative` (PKT-75).
    pub authoritative: bool,
    /// `store-extended-info` (PKT-92).
    pub store_extended_info: bool,
    /// `cache-threshold` (ALC-51), 0 < t < 1; `None` where caching is off.
    pub cache_threshold: Option<f64>,
    /// `cache-max-age`, seconds; 0 turns caching off.
    pub cache_max_age_s: Option<u32>,
    /// `offer-lifetime`, seconds; 0 is off (PKT-94).
    pub offer_lifetime_s: u32,
    /// siaddr of replies; 0.0.0.0 when not set (PKT-60).
    pub next_server: Ipv4Addr,
    /// sname of replies, up to 63 octets.
    pub server_hostname: Vec<u8>,
    /// file of replies, up to 127 octets.
    pub boot_file_name: Vec<u8>,
    /// Options of subnet and global scope merged, for replies without a pool.
    pub options: OptionSet,
}

/// A range of addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address, inclusive.
    pub last: Ipv4Addr,
    /// `pool-id`.
    pub pool_id: u32,
    /// Who is served from the pool (ALC-6).
    pub guard: Guard,
    /// Options of pool, subnet and global scope merged (d.3).
    pub options: OptionSet,
}

/// `expired-leases-processing` (ALC-42).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExpiredLeases {
    /// Seconds between reclaim cycles; 0 turns them off.
    pub reclaim_timer_wait_s: u32,
    /// Seconds between purges of reclaimed rows; 0 turns them off.
    pub flush_reclaimed_timer_wait_s: u32,
    /// Seconds a reclaimed row is kept.
    pub hold_reclaimed_s: u32,
    /// Leases per cycle; 0 is unlimited.
    pub max_reclaim_leases: u32,
    /// Milliseconds per cycle; 0 is unlimited.
    pub max_reclaim_time_ms: u32,
    /// Cycles with leftovers before a warning.
    pub unwarned_reclaim_cycles: u32,
}

impl Subnet {
    /// The relationship whose business its clients are; `None` where there are several and it is nobody's.
    pub fn relationship(&self) -> Option<u8> {
        match self.attachment {
            Attachment::Of(relationship) => Some(relationship),
            Attachment::Invalid | Attachment::Stranger | Attachment::Unnamed => None,
        }
    }

    /// Whether `address` lies in the subnet's prefix.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let (first, last) = self.bounds();
        (first..=last).contains(&u32::from(address))
    }

    /// First and last address of the subnet's prefix.
    pub fn bounds(&self) -> (u32, u32) {
        let mask = u32::from(self.mask());
        (u32::from(self.prefix) & mask, u32::from(self.prefix) | !mask)
    }

    /// The pool that holds `address`, where queries of `scope` may use it.
    pub fn pool_for(&self, address: Ipv4Addr, scope: Scope) -> Option<&Pool> {
        self.pool_of(address).filter(|pool| pool.guard.admits(scope))
    }

    /// Pools that queries of `scope` may use, in file order.
    pub fn pools_for(&self, scope: Scope) -> impl Iterator<Item = &Pool> {
        self.pools.iter().filter(move |pool| pool.guard.admits(scope))
    }

    /// What addresses are picked from for queries of `scope`.
    pub fn pool_set(&self, scope: Scope) -> PoolSet {
        PoolSet::part(self.id, if self.has_guarded_pools { scope as u8 } else { 0 })
    }

    /// The pool that holds `address`.
    pub fn pool_of(&self, address: Ipv4Addr) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.first <= address && address <= pool.last)
    }

    /// The subnet mask, sent as option 1.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(0))
    }
}

impl Snapshot {
    /// The subnet with `id`.
    pub fn subnet(&self, id: u32) -> Option<&Subnet> {
        self.subnets.with_id(id)
    }

    /// Replies that may wait for the partner at a time, over all shards.
    pub fn parked_max(&self) -> usize {
        match self.parked_packet_limit {
            0 => PARKED_MAX,
            limit => usize::try_from(limit).unwrap_or(PARKED_MAX).min(PARKED_MAX),
        }
    }

    /// The interface with kernel index `ifindex`.
    pub fn interface(&self, ifindex: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.ifindex == ifindex)
    }
}
