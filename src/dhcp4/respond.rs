//! The answer: header, options, lifetimes, and where it is sent (a.5 to a.9).
//!
//! Each function writes one complete message into the shard's [`ReplyBuffer`] and says how long it is and where
//! it goes. Invariant: option 53 comes first, then ascending codes, 82 last (PKT-40).

use std::net::Ipv4Addr;
use std::ops::Range;

use shards::{DatagramMeta, Transmit};

use crate::dhcp4::names::Names;
use crate::policy::{Snapshot, Subnet};
use crate::wire::{Query, ReplyBuffer, WriteError};

/// What a client gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grant {
    /// The address, in yiaddr.
    pub address: Ipv4Addr,
    /// The lifetime in option 51, seconds: [`valid_lifetime`], or what is left of a lease used again (ALC-52).
    pub lifetime_s: u32,
}

/// A message in the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Built {
    /// Its length in octets.
    pub len: usize,
    /// Where it goes.
    pub destination: Destination,
}

/// Where a reply goes, by which socket (a.9).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Destination {
    /// Index of the socket the query came in on.
    pub socket: u16,
    /// Interface the query came in on.
    pub ifindex: u32,
    /// IP source address (PKT-66).
    pub source: Ipv4Addr,
    /// IP destination address.
    pub address: Ipv4Addr,
    /// UDP destination port.
    pub port: u16,
    /// Ethernet destination, for raw mode (PKT-8).
    pub mac: [u8; 6],
}

impl Destination {
    /// The transmission of the payload at `payload` in `Actions::bytes`.
    pub fn transmit(&self, payload: Range<usize>) -> Transmit {
        Transmit {
            socket: self.socket,
            ifindex: self.ifindex,
            source: self.source,
            destination: self.address,
            destination_port: self.port,
            destination_mac: self.mac,
            payload,
        }
    }
}

/// The lifetime a client is granted, seconds (PKT-55).
pub fn valid_lifetime(_query: &Query, _subnet: &Subnet) -> u32 {
    todo!()
}

/// OFFER of `grant`.
///
/// # Errors
/// [`WriteError`] when the configured options do not fit a datagram.
pub fn offer(
    _query: &Query,
    _meta: &DatagramMeta,
    _snapshot: &Snapshot,
    _subnet: &Subnet,
    _grant: &Grant,
    _names: &Names,
    _reply: &mut ReplyBuffer,
) -> Result<Built, WriteError> {
    todo!()
}

/// ACK of `grant` to a REQUEST.
///
/// # Errors
/// As [`offer`].
pub fn ack(
    _query: &Query,
    _meta: &DatagramMeta,
    _snapshot: &Snapshot,
    _subnet: &Subnet,
    _grant: &Grant,
    _names: &Names,
    _reply: &mut ReplyBuffer,
) -> Result<Built, WriteError> {
    todo!()
}

/// ACK to an INFORM: options only (PKT-50, PKT-79).
///
/// # Errors
/// As [`offer`].
pub fn inform_ack(
    _query: &Query,
    _meta: &DatagramMeta,
    _snapshot: &Snapshot,
    _subnet: Option<&Subnet>,
    _reply: &mut ReplyBuffer,
) -> Result<Built, WriteError> {
    todo!()
}

/// NAK to a REQUEST (PKT-48).
///
/// # Errors
/// As [`offer`].
pub fn nak(
    _query: &Query,
    _meta: &DatagramMeta,
    _snapshot: &Snapshot,
    _subnet: Option<&Subnet>,
    _reply: &mut ReplyBuffer,
) -> Result<Built, WriteError> {
    todo!()
}
