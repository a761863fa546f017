//! The answer: header, options, lifetimes, and where it is sent (a.5 to a.9).
//!
//! Each function writes one complete message into the shard's [`ReplyBuffer`] and says how long it is and where
//! it goes. Invariant: option 53 comes first, then ascending codes, 82 last (PKT-40).

use std::net::Ipv4Addr;
use std::ops::Range;

use shards::{DatagramMeta, Transmit};

use crate::dhcp4::names::Names;
use crate::dhcp4::vendor;
use crate::policy::{OptionSet, Snapshot, Subnet};
use crate::wire::codes::{self, FLAG_BROADCAST, MessageType};
use crate::wire::option::{CodeSet, read_address};
use crate::wire::{MessageHeader, MessageWriter, Query, ReplyBuffer, WriteError};

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

/// The lifetime a client is granted, seconds (PKT-55): what it asks for, within bounds, or the default.
pub fn valid_lifetime(query: &Query, subnet: &Subnet) -> u32 {
    let bounds = subnet.valid_lifetime;
    match query.lease_time() {
        Some(asked_s) => asked_s.min(bounds.max_s).max(bounds.min_s),
        None => bounds.default_s,
    }
}

/// T1 and T2 for a lease of `lifetime_s`, seconds, each where it is to be sent (PKT-57, PKT-58). An infinite
/// lifetime is a number like any other (PKT-59).
pub fn tee_times(subnet: &Subnet, lifetime_s: u32) -> (Option<u32>, Option<u32>) {
    // The product of a part below 1 and a u32 fits a u32.
    let part = |percent: f64| (percent * f64::from(lifetime_s)).round() as u32;
    let candidate = |configured: Option<u32>, percent: Option<f64>| configured.or(percent.map(part));
    let t2 = candidate(subnet.rebind_timer_s, subnet.tee_percent.map(|(_, t2)| t2))
        .filter(|t2| (1..lifetime_s).contains(t2));
    let t1 = candidate(subnet.renew_timer_s, subnet.tee_percent.map(|(t1, _)| t1))
        .filter(|t1| (1..t2.unwrap_or(lifetime_s)).contains(t1));
    (t1, t2)
}

/// OFFER of `grant`.
///
/// # Errors
/// [`WriteError`] when the configured options do not fit a datagram.
pub fn offer(
    query: &Query,
    meta: &DatagramMeta,
    snapshot: &Snapshot,
    subnet: &Subnet,
    grant: &Grant,
    names: &Names,
    reply: &mut ReplyBuffer,
) -> Result<Built, WriteError> {
    let header = MessageHeader { yiaddr: grant.address, ..header_with_fields(query, subnet) };
    let answer = Answer { query, meta, snapshot, message_type: MessageType::Offer, header };
    answer.write(&granted(meta, snapshot, subnet, grant, names), reply)
}

/// ACK of `grant` to a REQUEST.
///
/// # Errors
/// As [`offer`].
pub fn ack(
    query: &Query,
    meta: &DatagramMeta,
    snapshot: &Snapshot,
    subnet: &Subnet,
    grant: &Grant,
    names: &Names,
    reply: &mut ReplyBuffer,
) -> Result<Built, WriteError> {
    let header =
        MessageHeader { ciaddr: query.ciaddr(), yiaddr: grant.address, ..header_with_fields(query, subnet) };
    let answer = Answer { query, meta, snapshot, message_type: MessageType::Ack, header };
    answer.write(&granted(meta, snapshot, subnet, grant, names), reply)
}

/// ACK to an INFORM: options only, no lifetime (PKT-50, PKT-79). Without a subnet no option is configured for
/// the client, as in Kea.
///
/// # Errors
/// As [`offer`].
pub fn inform_ack(
    query: &Query,
    meta: &DatagramMeta,
    snapshot: &Snapshot,
    subnet: Option<&Subnet>,
    reply: &mut ReplyBuffer,
) -> Result<Built, WriteError> {
    let base = match subnet {
        Some(subnet) => header_with_fields(query, subnet),
        None => MessageHeader::reply_to(query),
    };
    let through_relay = query.is_relayed() && query.ciaddr().is_unspecified();
    // What does not go back through the relay shows no trace of it (a.5, a.9 row 1).
    let header = MessageHeader {
        ciaddr: query.ciaddr(),
        hops: if through_relay { query.hops() } else { 0 },
        giaddr: if through_relay { query.giaddr() } else { Ipv4Addr::UNSPECIFIED },
        flags: if through_relay { query.flags() | FLAG_BROADCAST } else { query.flags() },
        ..base
    };
    let names = const { Names::none() };
    let options = ReplyOptions {
        server_id: server_id(meta, snapshot, subnet.map(|subnet| &subnet.options)),
        configured: subnet.map(|subnet| &subnet.options),
        lease: None,
        names: &names,
        echo_relay_info: through_relay,
    };
    let answer = Answer { query, meta, snapshot, message_type: MessageType::Ack, header };
    answer.write(&options, reply)
}

/// NAK to a REQUEST (PKT-48). Through a relay the B flag is forced on (RFC 2131 section 4.3.2).
///
/// # Errors
/// As [`offer`].
pub fn nak(
    query: &Query,
    meta: &DatagramMeta,
    snapshot: &Snapshot,
    subnet: Option<&Subnet>,
    reply: &mut ReplyBuffer,
) -> Result<Built, WriteError> {
    let base = MessageHeader::reply_to(query);
    let flags = if query.is_relayed() { FLAG_BROADCAST } else { base.flags };
    let header = MessageHeader { flags, ..base };
    let names = const { Names::none() };
    let options = ReplyOptions {
        server_id: server_id(meta, snapshot, subnet.map(|subnet| &subnet.options)),
        configured: None,
        lease: None,
        names: &names,
        echo_relay_info: true,
    };
    let answer = Answer { query, meta, snapshot, message_type: MessageType::Nak, header };
    answer.write(&options, reply)
}

/// A reply on its way to the buffer.
struct Answer<'a> {
    query: &'a Query<'a>,
    meta: &'a DatagramMeta,
    snapshot: &'a Snapshot,
    message_type: MessageType,
    header: MessageHeader<'a>,
}

impl Answer<'_> {
    fn write(&self, options: &ReplyOptions, reply: &mut ReplyBuffer) -> Result<Built, WriteError> {
        let mut writer = MessageWriter::new(reply.octets_mut(), &self.header, self.message_type)?;
        options.write(self.query, self.snapshot, &mut writer)?;
        Ok(Built { len: writer.finish()?, destination: self.destination() })
    }

    /// The table of a.9, PKT-8 and PKT-66.
    fn destination(&self) -> Destination {
        let Self { query, meta, snapshot, header, .. } = self;
        let (address, port) = self.address_and_port();
        let direct_broadcast = header.flags & FLAG_BROADCAST != 0 && !query.is_relayed();
        let mac = if direct_broadcast { None } else { meta.source_mac };
        Destination {
            socket: meta.socket,
            ifindex: meta.ifindex,
            source: local_address(meta),
            address,
            port: snapshot.forced_client_port.unwrap_or(port),
            mac: mac.unwrap_or([0xff; 6]),
        }
    }

    fn address_and_port(&self) -> (Ipv4Addr, u16) {
        let Self { query, meta, snapshot, message_type, header } = self;
        let ciaddr = query.ciaddr();
        let to_client = |address| (address, codes::CLIENT_PORT);
        let is_inform = query.message_type() == Some(MessageType::Inform);
        if is_inform && !ciaddr.is_unspecified() {
            return to_client(ciaddr);
        }
        if query.is_relayed() {
            let relay_port = query.relay_info().is_some_and(|info| info.has_relay_port());
            let port = if relay_port { meta.source_port } else { codes::SERVER_PORT };
            return (query.giaddr(), port);
        }
        if is_inform {
            return to_client(meta.source);
        }
        if !ciaddr.is_unspecified() {
            return to_client(ciaddr);
        }
        let broadcast = *message_type == MessageType::Nak || query.wants_broadcast() || !snapshot.raw_sockets;
        to_client(if broadcast { Ipv4Addr::BROADCAST } else { header.yiaddr })
    }
}

/// What the options of a reply come from.
struct ReplyOptions<'a> {
    server_id: Ipv4Addr,
    /// Options of the scopes in force; none in a NAK.
    configured: Option<&'a OptionSet>,
    lease: Option<LeaseOptions>,
    names: &'a Names,
    /// Whether option 82 comes back: not in an answer to an INFORM that passes the relay by, as in Kea.
    echo_relay_info: bool,
}

/// Options that come with a lease.
struct LeaseOptions {
    mask: Ipv4Addr,
    lifetime_s: u32,
    t1_s: Option<u32>,
    t2_s: Option<u32>,
}

impl ReplyOptions<'_> {
    /// Everything after option 53, ascending, 82 last (PKT-40).
    fn write(
        &self,
        query: &Query,
        snapshot: &Snapshot,
        writer: &mut MessageWriter,
    ) -> Result<(), WriteError> {
        let requested = query.parameter_request_list();
        let mut sent = self.configured_codes(query, &requested);
        sent.insert(codes::DHCP_SERVER_IDENTIFIER);
        if let Some(lease) = &self.lease {
            sent.insert(codes::SUBNET_MASK);
            sent.insert(codes::DHCP_LEASE_TIME);
            lease.t1_s.iter().for_each(|_| sent.insert(codes::DHCP_RENEWAL_TIME));
            lease.t2_s.iter().for_each(|_| sent.insert(codes::DHCP_REBINDING_TIME));
        }
        if let Some(code) = self.names.code() {
            sent.insert(code);
        }
        if snapshot.echo_client_id && query.client_id().is_some() {
            sent.insert(codes::DHCP_CLIENT_IDENTIFIER);
        }
        if query.has_option(codes::SUBNET_SELECTION) {
            sent.insert(codes::SUBNET_SELECTION);
        }
        for code in sent.iter() {
            self.write_one(code, query, &requested, writer)?;
        }
        match query.relay_info().filter(|_| self.echo_relay_info) {
            Some(info) => writer.option(codes::DHCP_AGENT_OPTIONS, info.payload()),
            None => Ok(()),
        }
    }

    fn write_one(
        &self,
        code: u8,
        query: &Query,
        requested: &CodeSet,
        writer: &mut MessageWriter,
    ) -> Result<(), WriteError> {
        if self.names.code() == Some(code) {
            return self.names.write(writer);
        }
        match (code, &self.lease) {
            (codes::DHCP_SERVER_IDENTIFIER, _) => return writer.address(code, self.server_id),
            // PKT-47: these two come back as the client sent them.
            (codes::DHCP_CLIENT_IDENTIFIER | codes::SUBNET_SELECTION, _) => {
                return writer.option(code, query.option(code).unwrap_or_default());
            }
            (codes::SUBNET_MASK, Some(lease)) => return writer.address(code, lease.mask),
            (codes::DHCP_LEASE_TIME, Some(lease)) => return writer.number(code, lease.lifetime_s),
            (codes::DHCP_RENEWAL_TIME, Some(LeaseOptions { t1_s: Some(t1_s), .. })) => {
                return writer.number(code, *t1_s);
            }
            (codes::DHCP_REBINDING_TIME, Some(LeaseOptions { t2_s: Some(t2_s), .. })) => {
                return writer.number(code, *t2_s);
            }
            _ => {}
        }
        let Some(configured) = self.configured else { return Ok(()) };
        if code == codes::VIVSO_SUBOPTIONS && vendor::is_sent(configured, query, requested) {
            return vendor::write(configured, query, requested, writer);
        }
        configured.get(code).map_or(Ok(()), |option| writer.option(code, &option.payload))
    }

    /// Configured options that are sent: asked for, always sent, or one of the basic ones (PKT-44, PKT-45).
    fn configured_codes(&self, query: &Query, requested: &CodeSet) -> CodeSet {
        let Some(configured) = self.configured else { return CodeSet::EMPTY };
        let mut sent = configured.sent(requested.with(BASIC_OPTIONS)).without(PROTOCOL_OPTIONS);
        if vendor::is_sent(configured, query, requested) {
            sent.insert(codes::VIVSO_SUBOPTIONS);
        }
        sent
    }
}

/// Sent whenever configured (PKT-45); the fourth, 54, is sent in any case.
const BASIC_OPTIONS: CodeSet = CodeSet::of(&[codes::ROUTERS, codes::DOMAIN_NAME_SERVERS, codes::DOMAIN_NAME]);

/// Written by the protocol itself or meaningless in a reply; configuring them has no effect (OPT-3).
const PROTOCOL_OPTIONS: CodeSet = CodeSet::of(&[
    codes::DHCP_REQUESTED_ADDRESS,
    codes::DHCP_OPTION_OVERLOAD,
    codes::DHCP_MESSAGE_TYPE,
    codes::DHCP_PARAMETER_REQUEST_LIST,
    codes::DHCP_MAX_MESSAGE_SIZE,
    codes::DHCP_CLIENT_IDENTIFIER,
    codes::DHCP_AGENT_OPTIONS,
    codes::SUBNET_SELECTION,
]);

fn header_with_fields<'a>(query: &Query, subnet: &'a Subnet) -> MessageHeader<'a> {
    MessageHeader {
        siaddr: subnet.next_server,
        sname: &subnet.server_hostname,
        file: &subnet.boot_file_name,
        ..MessageHeader::reply_to(query)
    }
}

fn granted<'a>(
    meta: &DatagramMeta,
    snapshot: &Snapshot,
    subnet: &'a Subnet,
    grant: &Grant,
    names: &'a Names,
) -> ReplyOptions<'a> {
    let configured = subnet.pool_of(grant.address).map_or(&subnet.options, |pool| &pool.options);
    let (t1_s, t2_s) = tee_times(subnet, grant.lifetime_s);
    ReplyOptions {
        server_id: server_id(meta, snapshot, Some(configured)),
        configured: Some(configured),
        lease: Some(LeaseOptions { mask: subnet.mask(), lifetime_s: grant.lifetime_s, t1_s, t2_s }),
        names,
        echo_relay_info: true,
    }
}

/// PKT-49: the configured option 54, else the address the query came in on.
fn server_id(meta: &DatagramMeta, snapshot: &Snapshot, configured: Option<&OptionSet>) -> Ipv4Addr {
    let option = configured.unwrap_or(&snapshot.options).get(codes::DHCP_SERVER_IDENTIFIER);
    option.and_then(|option| read_address(&option.payload)).unwrap_or(local_address(meta))
}

/// The address the query was sent to, or the socket's own where it was broadcast.
fn local_address(meta: &DatagramMeta) -> Ipv4Addr {
    if meta.destination == Ipv4Addr::BROADCAST { meta.socket_address } else { meta.destination }
}

#[cfg(test)]
#[path = "respond_tests.rs"]
mod tests;
