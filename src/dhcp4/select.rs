//! Whether a query is served, and from which subnet (a.4 and b.1).
//!
//! No shared networks yet: the first subnet in ascending id that fits, and lets the query in, is the one.

use std::net::Ipv4Addr;

use shards::DatagramMeta;
use thiserror::Error;

use crate::dhcp4::identity::ClientIdentity;
use crate::policy::{OptionSet, Scope, Snapshot, Subnet};
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

/// The subnet a DISCOVER, REQUEST or INFORM of `scope` is served from (ALC-1 to ALC-4).
pub fn subnet<'s>(
    query: &Query,
    meta: &DatagramMeta,
    scope: Scope,
    snapshot: &'s Snapshot,
) -> Option<&'s Subnet> {
    let containing = |address| snapshot.subnets.containing(address, scope);
    if let Some(selected) = selected_address(query, snapshot) {
        return containing(selected);
    }
    let giaddr = query.giaddr();
    if !giaddr.is_unspecified() {
        return snapshot.subnets.of_relay(giaddr, scope).or_else(|| containing(giaddr));
    }
    let unicast = meta.destination != Ipv4Addr::BROADCAST;
    if unicast && !query.ciaddr().is_unspecified() {
        return containing(query.ciaddr());
    }
    if unicast && !meta.source.is_unspecified() {
        return containing(meta.source);
    }
    let interface = snapshot.interface(meta.ifindex)?;
    let named = snapshot.subnets.on_interface(&interface.name, scope);
    named.or_else(|| containing(*interface.addresses.first()?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp4::test_support::{QueryBuilder, SERVER, direct, option, snapshot, subnet, unicast};
    use MessageType::{Ack, Decline, Discover, Inform, Nak, Offer, Release, Request};

    const OTHER_SERVER: [u8; 4] = [192, 0, 2, 9];

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    #[test]
    fn queries_are_accepted_as_section_a_4_says() {
        let ours = SERVER.octets();
        let query = QueryBuilder::new;
        let anonymous = |message_type| query(message_type).header(|header| header.hlen = 0);
        let from = |source| unicast(source, 68);
        let asked = |message_type| query(message_type).option(50, &[192, 0, 2, 100]);
        type Row = (&'static str, QueryBuilder, DatagramMeta, Result<MessageType, DropReason>);
        let table: Vec<Row> = vec![
            ("PKT-30 DISCOVER", query(Discover), direct(), Ok(Discover)),
            ("PKT-30 REQUEST", query(Request), direct(), Ok(Request)),
            ("PKT-30 DECLINE", asked(Decline), direct(), Ok(Decline)),
            ("PKT-30 RELEASE", query(Release), direct(), Ok(Release)),
            ("PKT-30 OFFER", query(Offer), direct(), Err(DropReason::MessageTypeNotServed)),
            ("PKT-30 ACK", query(Ack), direct(), Err(DropReason::MessageTypeNotServed)),
            ("PKT-30 NAK", query(Nak), direct(), Err(DropReason::MessageTypeNotServed)),
            ("PKT-31 INFORM from nowhere", query(Inform), direct(), Err(DropReason::InformWithoutAddress)),
            ("PKT-31 with ciaddr", query(Inform).ciaddr(address(5)), direct(), Ok(Inform)),
            ("PKT-31 with source", query(Inform), from(address(5)), Ok(Inform)),
            ("PKT-31 relayed", query(Inform).giaddr(address(2)), direct(), Ok(Inform)),
            ("PKT-32 ours", query(Request).option(54, &ours), direct(), Ok(Request)),
            (
                "PKT-32 another's",
                query(Request).option(54, &OTHER_SERVER),
                direct(),
                Err(DropReason::NotForUs),
            ),
            ("PKT-32 cut short", query(Request).option(54, &ours[..3]), direct(), Err(DropReason::NotForUs)),
            (
                "PKT-32 overridden by the relay",
                query(Request).option(54, &OTHER_SERVER).option(82, &[11, 4, 192, 0, 2, 9]),
                direct(),
                Ok(Request),
            ),
            (
                "PKT-32 configured in a subnet",
                query(Request).option(54, &[10, 0, 0, 1]),
                direct(),
                Ok(Request),
            ),
            (
                "PKT-32 RELEASE to another",
                query(Release).option(54, &OTHER_SERVER),
                direct(),
                Err(DropReason::NotForUs),
            ),
            ("PKT-33", query(Discover).option(54, &ours), direct(), Err(DropReason::ServerIdInDiscover)),
            ("PKT-34 nobody", anonymous(Discover), direct(), Err(DropReason::NoIdentity)),
            ("PKT-34 by client-id", anonymous(Discover).option(61, &[0, 1]), direct(), Ok(Discover)),
            ("PKT-34 INFORM", anonymous(Inform).ciaddr(address(5)), direct(), Ok(Inform)),
            ("PKT-78", query(Decline), direct(), Err(DropReason::RequestedAddressMissing)),
        ];
        let snapshot = snapshot(vec![subnet(1, 2, vec![option(54, &[10, 0, 0, 1])])]);
        for (case, query, meta, expected) in table {
            let bytes = query.bytes();
            assert_eq!(accept(&Query::decode(&bytes).unwrap(), &meta, &snapshot), expected, "{case}");
        }
    }

    #[test]
    fn a_message_without_type_or_with_an_unknown_one_is_dropped() {
        let snapshot = snapshot(vec![]);
        let mut bytes = QueryBuilder::new(Discover).bytes();
        bytes[242] = 13;
        let unknown = accept(&Query::decode(&bytes).unwrap(), &direct(), &snapshot);
        assert_eq!(unknown, Err(DropReason::MessageTypeNotServed));
        bytes.truncate(240);
        let missing = accept(&Query::decode(&bytes).unwrap(), &direct(), &snapshot);
        assert_eq!(missing, Err(DropReason::MessageTypeMissing));
        assert_eq!(DropReason::MessageTypeMissing.counter_name(), "pkt4-rfc-violation");
        assert_eq!(DropReason::NotForUs.counter_name(), "pkt4-not-for-us");
    }

    #[test]
    fn ignoring_server_identifiers_accepts_a_request_to_another_server() {
        let mut snapshot = snapshot(vec![]);
        snapshot.ignore_server_identifier = true;
        let bytes = QueryBuilder::new(Request).option(54, &OTHER_SERVER).bytes();
        assert_eq!(accept(&Query::decode(&bytes).unwrap(), &direct(), &snapshot), Ok(Request));
    }

    /// Subnets 1 to 6 are 192.0.1.0/24 to 192.0.6.0/24; 4 has a relay of its own, 5 names the interface in the
    /// second configuration only.
    #[test]
    fn a_subnet_is_selected_in_the_order_of_alc_2_to_4() {
        let at = |third, last| Ipv4Addr::new(192, 0, third, last);
        let make = |interface: Option<&str>| {
            let mut subnets: Vec<_> = (1..=6).map(|id| subnet(id, id as u8, vec![])).collect();
            subnets[3].relays = vec![Ipv4Addr::new(10, 9, 9, 9), at(6, 7)];
            subnets[4].interface = interface.map(str::to_owned);
            snapshot(subnets)
        };
        let query = || QueryBuilder::new(Discover);
        let link = |third: u8| [5, 4, 192, 0, third, 0];
        type Row<'a> = (&'a str, QueryBuilder, DatagramMeta, Option<&'a str>, Option<u32>);
        let table: Vec<Row> = vec![
            (
                "ALC-2 link selection first",
                query().giaddr(at(2, 1)).option(82, &link(3)).option(118, &[192, 0, 1, 0]),
                direct(),
                None,
                Some(3),
            ),
            (
                "ALC-2 then option 118",
                query().giaddr(at(2, 1)).option(118, &[192, 0, 1, 0]),
                direct(),
                None,
                Some(1),
            ),
            ("ALC-2 no fallback", query().giaddr(at(2, 1)).option(82, &link(99)), direct(), None, None),
            (
                "ALC-2 five octets do not count",
                query().giaddr(at(2, 1)).option(82, &[5, 5, 192, 0, 3, 0, 0]),
                direct(),
                None,
                Some(2),
            ),
            ("ALC-3 relay list", query().giaddr(Ipv4Addr::new(10, 9, 9, 9)), direct(), None, Some(4)),
            ("ALC-3 relay list before prefix", query().giaddr(at(6, 7)), direct(), None, Some(4)),
            ("ALC-4 giaddr in prefix", query().giaddr(at(6, 8)), direct(), None, Some(6)),
            ("ALC-4 unknown giaddr", query().giaddr(Ipv4Addr::new(10, 1, 1, 1)), direct(), None, None),
            ("ALC-4 ciaddr of a unicast", query().ciaddr(at(3, 9)), unicast(at(6, 9), 68), None, Some(3)),
            ("ALC-4 ciaddr of a broadcast", query().ciaddr(at(3, 9)), direct(), None, Some(2)),
            ("ALC-4 source of a unicast", query(), unicast(at(6, 9), 68), None, Some(6)),
            ("ALC-4 interface name", query(), direct(), Some("eth0"), Some(5)),
            ("ALC-4 another interface's name", query(), direct(), Some("eth1"), Some(2)),
            ("ALC-4 interface address", query(), direct(), None, Some(2)),
            ("ALC-4 unknown interface", query(), DatagramMeta { ifindex: 9, ..direct() }, None, None),
        ];
        for (case, query, meta, interface, expected) in table {
            let bytes = query.bytes();
            let snapshot = make(interface);
            let selected = subnet_id(&Query::decode(&bytes).unwrap(), &meta, &snapshot);
            assert_eq!(selected, expected, "{case}");
        }
        let bytes = query().giaddr(at(2, 1)).option(82, &link(3)).bytes();
        let mut ignoring = make(None);
        ignoring.ignore_link_selection = true;
        assert_eq!(subnet_id(&Query::decode(&bytes).unwrap(), &direct(), &ignoring), Some(2));
    }

    fn subnet_id(query: &Query, meta: &DatagramMeta, snapshot: &Snapshot) -> Option<u32> {
        super::subnet(query, meta, Scope::Primary, snapshot).map(|subnet| subnet.id)
    }
}
