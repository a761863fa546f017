//! How a lease is kept: its numbers, lengths and flags in 24 octets, its strings end to end.
//!
//! Rows of the table and rows on their way from the lease file have this form in common, so that loading a file is
//! copying it. The address stands where the row is found, and the strings where there is room for them.

use std::net::Ipv4Addr;

use super::lease::{INFINITE_LIFETIME, Lease, LeaseState};
use crate::SmallBytes;

/// A lease without its address and its strings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    pub cltt: u64,
    pub lengths: Lengths,
    pub subnet_id: u32,
    pub pool_id: u32,
    pub valid_lifetime: u32,
}

impl Packed {
    /// What is kept of `lease`.
    pub fn of(lease: &Lease) -> Self {
        Self {
            cltt: lease.cltt,
            lengths: Lengths::of(lease),
            subnet_id: lease.subnet_id,
            pool_id: lease.pool_id,
            valid_lifetime: lease.valid_lifetime,
        }
    }

    /// The lease of `address` with `strings`, as [`write_strings`] left them.
    pub fn lease(&self, address: u32, strings: &[u8]) -> Lease {
        let [hwaddr, client_id, hostname, context] = self.lengths.split(strings);
        Lease {
            address: Ipv4Addr::from(address),
            subnet_id: self.subnet_id,
            pool_id: self.pool_id,
            hwaddr: SmallBytes::new(hwaddr),
            client_id: SmallBytes::new(client_id),
            valid_lifetime: self.valid_lifetime,
            cltt: self.cltt,
            state: self.lengths.state(),
            fqdn_fwd: self.lengths.fqdn_fwd(),
            fqdn_rev: self.lengths.fqdn_rev(),
            hostname: SmallBytes::new(hostname),
            user_context: self.lengths.has_user_context().then(|| context.into()),
        }
    }

    /// Second since the epoch at which it runs out; `None` for never.
    pub fn expire(&self) -> Option<u64> {
        let finite = self.valid_lifetime != INFINITE_LIFETIME;
        finite.then(|| self.cltt.saturating_add(u64::from(self.valid_lifetime)))
    }

    /// Whether its address may be given to another client at `wall_s`: reclaimed, released or expired
    /// (ALC-35).
    pub fn is_available(&self, wall_s: u64) -> bool {
        matches!(self.lengths.state(), LeaseState::ExpiredReclaimed | LeaseState::Released)
            || self.expire().is_some_and(|expire| expire < wall_s)
    }
}

/// State and flags in bits 0..4, then the lengths of hardware address (5 bits), client identifier (8 bits)
/// and host name (14 bits), and whether there is a user context (1 bit).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Lengths(u32);

/// State and flags of [`Lengths`].
const FLAGS: u32 = 0xf;

/// Length of a hardware address that says: the lengths did not fit and stand, four octets each, before the
/// strings. Only a partner or a file that sends nonsense makes such a row, but it must come back unchanged.
const LENGTHS_IN_STRINGS: u32 = 31;

/// Hardware address, client identifier, host name and user context.
pub(super) type Strings<'a> = [&'a [u8]; 4];

impl Lengths {
    /// Those of `lease`.
    #[inline]
    pub fn of(lease: &Lease) -> Self {
        let (hwaddr, client_id, hostname) = (lease.hwaddr.len(), lease.client_id.len(), lease.hostname.len());
        let fits = hwaddr < LENGTHS_IN_STRINGS as usize && client_id <= 0xff && hostname <= 0x3fff;
        let lengths = if fits {
            (hwaddr as u32) << 4 | (client_id as u32) << 9 | (hostname as u32) << 17
        } else {
            LENGTHS_IN_STRINGS << 4
        };
        Self(flags_of(lease) | lengths | u32::from(lease.user_context.is_some()) << 31)
    }

    /// Whether a row with these lengths could have the strings of `lease`, as far as lengths can tell.
    pub fn may_be_of(self, lease: &Lease) -> bool {
        self.0 & !FLAGS == Self::of(lease).0 & !FLAGS && !self.stand_in_strings()
    }

    pub fn state(self) -> LeaseState {
        match self.0 & 3 {
            0 => LeaseState::Default,
            1 => LeaseState::Declined,
            2 => LeaseState::ExpiredReclaimed,
            _ => LeaseState::Released,
        }
    }

    pub fn fqdn_fwd(self) -> bool {
        self.0 >> 2 & 1 == 1
    }

    pub fn fqdn_rev(self) -> bool {
        self.0 >> 3 & 1 == 1
    }

    pub fn has_user_context(self) -> bool {
        self.0 >> 31 == 1
    }

    /// Whether the lengths stand before the strings.
    pub fn stand_in_strings(self) -> bool {
        self.hwaddr() == LENGTHS_IN_STRINGS
    }

    /// What [`write_strings`] made of the strings.
    pub fn split(self, strings: &[u8]) -> Strings<'_> {
        let mut rest = strings;
        let mut lengths = [self.hwaddr(), self.0 >> 9 & 0xff, self.0 >> 17 & 0x3fff];
        if self.stand_in_strings() {
            for length in &mut lengths {
                if let Some((octets, tail)) = rest.split_first_chunk() {
                    *length = u32::from_be_bytes(*octets);
                    rest = tail;
                }
            }
        }
        let [hwaddr, client_id, hostname] = lengths.map(|length| {
            let (part, tail) = rest.split_at((length as usize).min(rest.len()));
            rest = tail;
            part
        });
        [hwaddr, client_id, hostname, rest]
    }

    fn hwaddr(self) -> u32 {
        self.0 >> 4 & 0x1f
    }
}

/// The strings of `lease`.
pub(super) fn strings_of(lease: &Lease) -> Strings<'_> {
    [&lease.hwaddr, &lease.client_id, &lease.hostname, lease.user_context.as_deref().unwrap_or_default()]
}

/// Appends the strings of `lease` as `lengths` keep them.
pub(super) fn write_strings(out: &mut Vec<u8>, lease: &Lease, lengths: Lengths) {
    let strings = strings_of(lease);
    if lengths.stand_in_strings() {
        for string in &strings[..3] {
            out.extend_from_slice(&(string.len() as u32).to_be_bytes());
        }
    }
    for string in strings {
        out.extend_from_slice(string);
    }
}

fn flags_of(lease: &Lease) -> u32 {
    lease.state as u32 | u32::from(lease.fqdn_fwd) << 2 | u32::from(lease.fqdn_rev) << 3
}
