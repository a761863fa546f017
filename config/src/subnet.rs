//! Subnets and pools as written.
//!
//! Invariants of what the reader lets through: ids are unique and 1..=4294967294; prefixes are unique; a
//! pool lies in its subnet's prefix and overlaps no other pool of it.

use std::net::Ipv4Addr;

use crate::option::OptionData;
use crate::scope::Scope;
use crate::value::{Located, Position, Value};

/// One entry of `subnet4`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subnet {
    /// Where the entry starts.
    pub position: Position,
    /// `id`; numbered from 1 in file order where the file gives none or 0 (CFG-31), `written` is false then.
    pub id: Located<u32>,
    /// `subnet`.
    pub prefix: Located<Prefix>,
    /// `interface`: its direct clients are there. `None` also for "".
    pub interface: Option<Located<String>>,
    /// `relay.ip-addresses`, or the one of `relay.ip-address` (ALC-3).
    pub relays: Vec<Located<Ipv4Addr>>,
    /// `pools` in file order.
    pub pools: Vec<Pool>,
    /// `option-data`.
    pub options: Vec<OptionData>,
    /// What the subnet itself says; `scope.inherit(&document.scope)` gives what applies.
    pub scope: Scope,
    /// `user-context`.
    pub user_context: Option<Value>,
}

/// A network prefix. The address is kept as written: Kea shows and compares it so.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefix {
    /// Address, host bits included if the file has some.
    pub address: Ipv4Addr,
    /// Prefix length, 1..=32.
    pub len: u8,
}

impl Prefix {
    /// Network mask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0))
    }

    /// First address of the network.
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) & u32::from(self.mask()))
    }

    /// Last address of the network.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | !u32::from(self.mask()))
    }

    /// Whether `address` is in the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.network() <= address && address <= self.last()
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.address, self.len)
    }
}

/// One entry of `pools`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Where the entry starts.
    pub position: Position,
    /// `pool`: first and last address, inclusive, first ≤ last.
    pub range: Located<(Ipv4Addr, Ipv4Addr)>,
    /// `pool-id`, 0 by default.
    pub pool_id: Located<u32>,
    /// `option-data`.
    pub options: Vec<OptionData>,
    /// `user-context`.
    pub user_context: Option<Value>,
}
