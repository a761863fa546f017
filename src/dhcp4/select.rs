//! Whether a query is served, and from which subnet (a.4 and b.1).
//!
//! No shared networks and no classes yet: the first subnet in ascending id that fits is the one.

use std::net::Ipv4Addr;

use shards::DatagramMeta;
use thiserror::Error;

use crate::dhcp4::identity::ClientIdentity;
use crate::policy::{Interface, OptionSet, Snapshot, Subnet};
use crate::wire::Query;
use crate::wire::codes::{self, MessageType};
use crate::wire::option::read_address;

/// Why a well-formed query is dropped without an answer.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
pub enum DropReason {
    /// A direct INFORM that leaves nowhere to answer to (PKT-31).
    #[error("a direct INFORM without any address")]
    InformWithoutAddress,
    /// No option 53; BOOTP is not served (PKT-30).
    #[error("no message type")]
    MessageTypeMissing,
    /// A message of servers, or of a type that is not served (PKT-30).
    #[error("a message type that is not served")]
    MessageTypeNotServed,
    /// Neither hardware address nor client identifier (PKT-34).
    #[error("neither hardware address nor client identifier")]
    NoIdentity,
    /// The server identifier names another server (PKT-32).
    #[error("the server identifier names another server")]
    NotForUs,
    /// A DECLINE that does not say which address (PKT-78).
    #[error("a DECLINE without requested address")]
    RequestedAddressMissing,
    /// A DISCOVER with a server identifier (PKT-33).
    #[error("a DISCOVER with a server identifier")]
    ServerIdInDiscover,
}

impl DropReason {
    /// Kea's counter for it; `pkt4-receive-drop` counts it as well.
    pub const fn counter_name(self) -> &'static str {
        match self {
            Self::NotForUs => "pkt4-not-for-us",
            _ => "pkt4-rfc-violation",
        }
    }
}

/// The acceptance checks of a.4, in Kea's order.
///
/// # Errors
/// Why the query is to be dropped.
pub fn accept(query: &Query, meta: &DatagramMeta, snapshot: &Snapshot) -> Result<MessageType, DropReason> {
    let message_type = served_type(query)?;
    let nowhere = query.ciaddr().is_unspecified() && meta.source.is_unspecified() && !query.is_relayed();
    if message_type == MessageType::Inform && nowhere {
        return Err(DropReason::InformWithoutAddress);
    }
    if !names_this_server(query, snapshot) {
        return Err(DropReason::NotForUs);
    }
    if message_type == MessageType::Discover && query.has_option(codes::DHCP_SERVER_IDENTIFIER) {
        return Err(DropReason::ServerIdInDiscover);
    }
    if message_type != MessageType::Inform && ClientIdentity::of(query).is_empty() {
        return Err(DropReason::NoIdentity);
    }
    if message_type == MessageType::Decline && query.requested_address().is_none() {
        return Err(DropReason::RequestedAddressMissing);
    }
    Ok(message_type)
}

/// The subnet a DISCOVER, REQUEST or INFORM is served from (ALC-1 to ALC-4).
pub fn subnet<'s>(query: &Query, meta: &DatagramMeta, snapshot: &'s Snapshot) -> Option<&'s Subnet> {
    let containing = |address| snapshot.subnets.iter().find(|subnet| subnet.contains(address));
    if let Some(selected) = selected_address(query, snapshot) {
        return containing(selected);
    }
    let giaddr = query.giaddr();
    if !giaddr.is_unspecified() {
        let by_relay = snapshot.subnets.iter().find(|subnet| subnet.relays.contains(&giaddr));
        return by_relay.or_else(|| containing(giaddr));
    }
    let unicast = meta.destination != Ipv4Addr::BROADCAST;
    if unicast && !query.ciaddr().is_unspecified() {
        return containing(query.ciaddr());
    }
    if unicast && !meta.source.is_unspecified() {
        return containing(meta.source);
    }
    let interface = snapshot.interface(meta.ifindex)?;
    by_interface(interface, snapshot).or_else(|| containing(*interface.addresses.first()?))
}

fn served_type(query: &Query) -> Result<MessageType, DropReason> {
    use MessageType::{Decline, Discover, Inform, Release, Request};
    if !query.has_option(codes::DHCP_MESSAGE_TYPE) {
        return Err(DropReason::MessageTypeMissing);
    }
    match query.message_type() {
        Some(served @ (Decline | Discover | Inform | Release | Request)) => Ok(served),
        _ => Err(DropReason::MessageTypeNotServed),
    }
}

/// PKT-32. A server identifier that is not an address names nobody.
fn names_this_server(query: &Query, snapshot: &Snapshot) -> bool {
    if !query.has_option(codes::DHCP_SERVER_IDENTIFIER) || snapshot.ignore_server_identifier {
        return true;
    }
    let Some(server_id) = query.server_id() else { return false };
    let overridden = query.relay_info().and_then(|info| info.server_id_override()) == Some(server_id);
    let sockets = || snapshot.interfaces.iter().flat_map(|interface| &interface.socket_addresses);
    let configured = |options: &OptionSet| {
        options.get(codes::DHCP_SERVER_IDENTIFIER).and_then(|option| read_address(&option.payload))
            == Some(server_id)
    };
    overridden
        || sockets().any(|address| *address == server_id)
        || snapshot.subnets.iter().any(|subnet| configured(&subnet.options))
        || configured(&snapshot.options)
}

/// ALC-2: the address of RFC 3527 or RFC 3011; where it is given nothing else selects.
fn selected_address(query: &Query, snapshot: &Snapshot) -> Option<Ipv4Addr> {
    let link_selection = query
        .relay_info()
        .filter(|_| !snapshot.ignore_link_selection)
        .and_then(|info| info.link_selection())
        .filter(|address| !address.is_unspecified());
    link_selection.or_else(|| query.subnet_selection().filter(|address| !address.is_unspecified()))
}

fn by_interface<'s>(interface: &Interface, snapshot: &'s Snapshot) -> Option<&'s Subnet> {
    snapshot.subnets.iter().find(|subnet| subnet.interface.as_deref() == Some(interface.name.as_str()))
}
