//! The messages of a client: what it is, what it sends, what it understands of a reply.

use std::net::Ipv4Addr;

use crate::wire::codes::{self, FLAG_BROADCAST, MessageType};
use crate::wire::query::CHADDR_OCTETS;
use crate::wire::reply::{MessageHeader, MessageWriter, WriteError};
use crate::wire::{Query, option};

use super::Pace;

/// What a client is and wants.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Hardware address (Ethernet).
    pub hardware_address: [u8; 6],
    /// Payload of option 61, 2..=255 octets; none is sent if `None`.
    pub client_id: Option<Vec<u8>>,
    /// Payload of option 12; none is sent if `None`.
    pub host_name: Option<Vec<u8>>,
    /// Whether the client asks for broadcast replies.
    pub broadcast: bool,
    /// Option 55; none is sent if empty.
    pub parameter_request_list: Vec<u8>,
    /// Option 50 of DISCOVER.
    pub requested_address: Option<Ipv4Addr>,
    /// Option 51 of DISCOVER and REQUEST, seconds.
    pub lease_time_s: Option<u32>,
    /// The relay in front of the client, if any.
    pub relay: Option<Relay>,
    /// How fast it repeats itself.
    pub pace: Pace,
    /// Seed of transaction ids and jitter.
    pub seed: u64,
}

/// A relay in front of a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Relay {
    /// giaddr.
    pub address: Ipv4Addr,
    /// Payload of option 82; none is sent if empty.
    pub agent_options: Vec<u8>,
    /// Whether renewals and releases go through the relay too, as with RFC 5107; else the client sends them to
    /// its server directly.
    pub carries_unicast: bool,
}

impl ClientConfig {
    /// A directly attached client that asks for mask, router, name servers, domain and both timers.
    pub fn new(hardware_address: [u8; 6], seed: u64) -> Self {
        let parameter_request_list = vec![
            codes::SUBNET_MASK,
            codes::ROUTERS,
            codes::DOMAIN_NAME_SERVERS,
            codes::DOMAIN_NAME,
            codes::DHCP_RENEWAL_TIME,
            codes::DHCP_REBINDING_TIME,
        ];
        Self {
            hardware_address,
            client_id: None,
            host_name: None,
            broadcast: false,
            parameter_request_list,
            requested_address: None,
            lease_time_s: None,
            relay: None,
            pace: Pace::STANDARD,
            seed,
        }
    }
}

/// A lease as its client knows it; all times by the client's own monotonic clock, nanoseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientLease {
    /// The address.
    pub address: Ipv4Addr,
    /// The server that gave it.
    pub server_id: Ipv4Addr,
    /// Lifetime in seconds as granted; `u32::MAX` never ends.
    pub lifetime_s: u32,
    /// When the first REQUEST of the exchange was sent: the lifetime counts from here (RFC 2131 section 4.4.1).
    pub requested_ns: u64,
    /// When to renew; `None` for a lease that never ends.
    pub t1_ns: Option<u64>,
    /// When to rebind.
    pub t2_ns: Option<u64>,
    /// When it ends.
    pub expires_ns: Option<u64>,
}

/// A message to write, with what it is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Message {
    Decline { address: Ipv4Addr, server_id: Ipv4Addr },
    Discover,
    Rebind { address: Ipv4Addr },
    Reboot { address: Ipv4Addr },
    Release { address: Ipv4Addr, server_id: Ipv4Addr },
    Renew { address: Ipv4Addr, server_id: Ipv4Addr },
    Select { address: Ipv4Addr, server_id: Ipv4Addr },
}

impl Message {
    /// The server it is sent to alone, if any.
    pub(super) fn unicast_to(self) -> Option<Ipv4Addr> {
        match self {
            Self::Release { server_id, .. } | Self::Renew { server_id, .. } => Some(server_id),
            _ => None,
        }
    }

    /// ciaddr, the address the client answers for (RFC 2131 table 5).
    pub(super) fn ciaddr(self) -> Ipv4Addr {
        match self {
            Self::Rebind { address } | Self::Release { address, .. } | Self::Renew { address, .. } => address,
            Self::Decline { .. } | Self::Discover | Self::Reboot { .. } | Self::Select { .. } => {
                Ipv4Addr::UNSPECIFIED
            }
        }
    }

    fn message_type(self) -> MessageType {
        match self {
            Self::Decline { .. } => MessageType::Decline,
            Self::Discover => MessageType::Discover,
            Self::Release { .. } => MessageType::Release,
            Self::Rebind { .. } | Self::Reboot { .. } | Self::Renew { .. } | Self::Select { .. } => {
                MessageType::Request
            }
        }
    }

    fn requested_address(self, config: &ClientConfig) -> Option<Ipv4Addr> {
        match self {
            Self::Decline { address, .. } | Self::Reboot { address } | Self::Select { address, .. } => {
                Some(address)
            }
            Self::Discover => config.requested_address,
            Self::Rebind { .. } | Self::Release { .. } | Self::Renew { .. } => None,
        }
    }

    fn server_id(self) -> Option<Ipv4Addr> {
        match self {
            Self::Decline { server_id, .. }
            | Self::Release { server_id, .. }
            | Self::Select { server_id, .. } => Some(server_id),
            Self::Discover | Self::Rebind { .. } | Self::Reboot { .. } | Self::Renew { .. } => None,
        }
    }

    /// Whether it asks for a lease, and so for lifetime, name and options.
    fn asks(self) -> bool {
        matches!(self.message_type(), MessageType::Discover | MessageType::Request)
    }

    /// Whether it goes through the relay of `config`.
    pub(super) fn is_relayed(self, config: &ClientConfig) -> bool {
        config.relay.as_ref().is_some_and(|relay| relay.carries_unicast || self.unicast_to().is_none())
    }

    /// Writes it into `octets` and returns its length (RFC 2131 table 5).
    pub(super) fn write(
        self,
        config: &ClientConfig,
        xid: u32,
        secs: u16,
        octets: &mut [u8],
    ) -> Result<usize, WriteError> {
        let relay = config.relay.as_ref().filter(|_| self.is_relayed(config));
        let mut chaddr = [0; CHADDR_OCTETS];
        chaddr[..6].copy_from_slice(&config.hardware_address);
        let header = MessageHeader {
            hlen: 6,
            hops: u8::from(relay.is_some()),
            secs,
            flags: if config.broadcast && self.asks() { FLAG_BROADCAST } else { 0 },
            ciaddr: self.ciaddr(),
            giaddr: relay.map_or(Ipv4Addr::UNSPECIFIED, |relay| relay.address),
            chaddr,
            ..MessageHeader::request(xid)
        };
        let mut writer = MessageWriter::new(octets, &header, self.message_type())?;
        if let Some(name) = config.host_name.as_ref().filter(|_| self.asks()) {
            writer.option(codes::HOST_NAME, name)?;
        }
        if let Some(address) = self.requested_address(config) {
            writer.address(codes::DHCP_REQUESTED_ADDRESS, address)?;
        }
        if let Some(seconds) = config.lease_time_s.filter(|_| self.asks()) {
            writer.number(codes::DHCP_LEASE_TIME, seconds)?;
        }
        if let Some(server_id) = self.server_id() {
            writer.address(codes::DHCP_SERVER_IDENTIFIER, server_id)?;
        }
        if self.asks() && !config.parameter_request_list.is_empty() {
            writer.option(codes::DHCP_PARAMETER_REQUEST_LIST, &config.parameter_request_list)?;
        }
        if let Some(client_id) = &config.client_id {
            writer.option(codes::DHCP_CLIENT_IDENTIFIER, client_id)?;
        }
        if let Some(relay) = relay.filter(|relay| !relay.agent_options.is_empty()) {
            writer.option(codes::DHCP_AGENT_OPTIONS, &relay.agent_options)?;
        }
        writer.finish()
    }
}

/// What a client understands of a reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reply {
    pub(super) message_type: MessageType,
    pub(super) server_id: Ipv4Addr,
    pub(super) yiaddr: Ipv4Addr,
    pub(super) lifetime_s: Option<u32>,
    pub(super) t1_s: Option<u32>,
    pub(super) t2_s: Option<u32>,
}

impl Reply {
    /// Reads `bytes`, if they are a well-formed answer to this client under `xid`.
    pub(super) fn read(bytes: &[u8], config: &ClientConfig, xid: u32) -> Option<Self> {
        let message = Query::decode(bytes).ok()?;
        let is_ours = message.op() == codes::BOOTREPLY
            && message.xid() == xid
            && message.chaddr() == config.hardware_address;
        let number = |code| message.option(code).and_then(option::read_u32);
        is_ours.then_some(())?;
        Some(Self {
            message_type: message.message_type()?,
            server_id: message.server_id()?,
            yiaddr: message.yiaddr(),
            lifetime_s: message.lease_time(),
            t1_s: number(codes::DHCP_RENEWAL_TIME),
            t2_s: number(codes::DHCP_REBINDING_TIME),
        })
    }
}
