//! A received DHCPv4 message, read in place.
//!
//! [`Query::decode`] checks the message once and remembers where each option lies; reading a field afterwards
//! is a bounds-checked slice of the datagram. Nothing is copied but the octets of options that appear more than
//! once (RFC 3396), which are joined in a fixed scratch inside the value. Invariant: every entry of the table
//! lies inside the bytes it points into, so that no accessor can fail for want of octets.

use std::net::Ipv4Addr;

use crate::limits::{DATAGRAM_OCTETS_MAX, JOINED_OPTION_OCTETS_MAX, OPTION_INSTANCES_MAX, OPTIONS_MAX};
use crate::wire::codes::{self, MessageType};
use crate::wire::error::WireError;
use crate::wire::option::{CodeSet, OptionWalk, read_address, read_u16, read_u32};
use crate::wire::relay::RelayInfo;

/// Octets of the fixed header, without the magic cookie (RFC 2131 section 2).
pub const HEADER_OCTETS: usize = 236;
/// Where the options begin.
const OPTIONS_AT: usize = HEADER_OCTETS + codes::MAGIC_COOKIE.len();
/// Octets of the chaddr field; a longer hlen means these (PKT-21).
pub const CHADDR_OCTETS: usize = 16;
/// Where the sname field lies.
const SNAME: std::ops::Range<usize> = 44..108;
/// Where the file field lies.
const FILE: std::ops::Range<usize> = 108..236;

/// A well-formed message. Whether it is one this server answers is decided in `dhcp4::select`.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// The fixed header; its length is known to the type, so reading a field cannot fail.
    header: &'a [u8; HEADER_OCTETS],
    bytes: &'a [u8],
    entries: [Entry; OPTIONS_MAX],
    entry_count: usize,
    joined: Option<Joined>,
}

/// Where one option lies.
#[derive(Clone, Copy, Debug)]
struct Entry {
    code: u8,
    /// Whether it appears more than once and lies in `joined`, not in the datagram.
    joined: bool,
    offset: u16,
    len: u16,
}

#[derive(Clone, Debug)]
struct Joined {
    octets: [u8; JOINED_OPTION_OCTETS_MAX],
    len: usize,
}

impl<'a> Query<'a> {
    /// Reads a UDP payload.
    ///
    /// # Errors
    /// One variant of [`WireError`] for each way in which the payload is not a DHCPv4 message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() > DATAGRAM_OCTETS_MAX {
            return Err(WireError::TooLong);
        }
        let (header, rest) = bytes.split_first_chunk::<HEADER_OCTETS>().ok_or(WireError::TooShort)?;
        let (cookie, _) = rest.split_first_chunk::<4>().ok_or(WireError::MissingCookie)?;
        if *cookie != codes::MAGIC_COOKIE {
            return Err(WireError::BadCookie);
        }
        let empty = Entry { code: 0, joined: false, offset: 0, len: 0 };
        let mut query = Self { header, bytes, entries: [empty; OPTIONS_MAX], entry_count: 0, joined: None };
        query.index_options()?;
        query.check_options()?;
        Ok(query)
    }

    /// The datagram as received.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// `op`; not checked (PKT-21).
    pub fn op(&self) -> u8 {
        self.header[0]
    }

    /// Hardware type.
    pub fn htype(&self) -> u8 {
        self.header[1]
    }

    /// Length of the hardware address as the client states it; may exceed [`CHADDR_OCTETS`].
    pub fn hlen(&self) -> u8 {
        self.header[2]
    }

    /// Relays it has passed.
    pub fn hops(&self) -> u8 {
        self.header[3]
    }

    /// Transaction id.
    pub fn xid(&self) -> u32 {
        u32::from_be_bytes(self.field(4))
    }

    /// Seconds since the client began, as sent (some clients send it little-endian).
    pub fn secs(&self) -> u16 {
        u16::from_be_bytes(self.field(8))
    }

    /// Flags; see [`codes::FLAG_BROADCAST`].
    pub fn flags(&self) -> u16 {
        u16::from_be_bytes(self.field(10))
    }

    /// Address the client has and can answer for; 0.0.0.0 if none.
    pub fn ciaddr(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.field(12))
    }

    /// Address given to the client: in replies, which clients read with the same reader.
    pub fn yiaddr(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.field(16))
    }

    /// Address of the relay; 0.0.0.0 if the client is attached directly.
    pub fn giaddr(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.field(24))
    }

    /// Hardware address: `chaddr[0..hlen]`, at most 16 octets (PKT-21).
    pub fn chaddr(&self) -> &'a [u8] {
        let len = usize::from(self.hlen()).min(CHADDR_OCTETS);
        &self.header[28..28 + len]
    }

    /// The whole chaddr field, to be copied into the reply.
    pub fn chaddr_field(&self) -> [u8; CHADDR_OCTETS] {
        self.field(28)
    }

    /// Whether a relay forwarded it: giaddr is an address and not 255.255.255.255 (PKT-90, a.9).
    pub fn is_relayed(&self) -> bool {
        !self.giaddr().is_unspecified() && self.giaddr() != Ipv4Addr::BROADCAST
    }

    /// Whether the client asked for a broadcast reply.
    pub fn wants_broadcast(&self) -> bool {
        self.flags() & codes::FLAG_BROADCAST != 0
    }

    /// Payload of option `code`, its instances joined in order of appearance (PKT-23).
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        let entry = self.entries[..self.entry_count].iter().find(|entry| entry.code == code)?;
        let range = usize::from(entry.offset)..usize::from(entry.offset) + usize::from(entry.len);
        match &self.joined {
            Some(joined) if entry.joined => joined.octets.get(range),
            _ => self.bytes.get(range),
        }
    }

    /// Whether option `code` is there, whatever its payload.
    pub fn has_option(&self, code: u8) -> bool {
        self.entries[..self.entry_count].iter().any(|entry| entry.code == code)
    }

    /// Codes of the options, in order of first appearance.
    pub fn option_codes(&self) -> impl Iterator<Item = u8> + '_ {
        self.entries[..self.entry_count].iter().map(|entry| entry.code)
    }

    /// Option 53; `None` if it is missing or of a type this server does not know.
    pub fn message_type(&self) -> Option<MessageType> {
        MessageType::from_value(*self.option(codes::DHCP_MESSAGE_TYPE)?.first()?)
    }

    /// Option 61, 2..=255 octets.
    pub fn client_id(&self) -> Option<&[u8]> {
        self.option(codes::DHCP_CLIENT_IDENTIFIER)
    }

    /// Option 50, if it has four octets.
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.option(codes::DHCP_REQUESTED_ADDRESS).and_then(read_address)
    }

    /// Option 54, if it has four octets. [`Query::has_option`] tells a malformed one from none.
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.option(codes::DHCP_SERVER_IDENTIFIER).and_then(read_address)
    }

    /// Option 51, if it has four octets: lifetime asked for, seconds.
    pub fn lease_time(&self) -> Option<u32> {
        self.option(codes::DHCP_LEASE_TIME).and_then(read_u32)
    }

    /// Option 57, if it has two octets: largest message the client takes.
    pub fn max_message_size(&self) -> Option<u16> {
        self.option(codes::DHCP_MAX_MESSAGE_SIZE).and_then(read_u16)
    }

    /// Option 118, if it has four octets (RFC 3011).
    pub fn subnet_selection(&self) -> Option<Ipv4Addr> {
        self.option(codes::SUBNET_SELECTION).and_then(read_address)
    }

    /// Option 12; an empty one counts as none (PKT-24).
    pub fn host_name(&self) -> Option<&[u8]> {
        self.option(codes::HOST_NAME).filter(|name| !name.is_empty())
    }

    /// Options asked for in option 55, all instances together (PKT-44).
    pub fn parameter_request_list(&self) -> CodeSet {
        self.option(codes::DHCP_PARAMETER_REQUEST_LIST).unwrap_or_default().iter().copied().collect()
    }

    /// Option 82; an empty one counts as none (PKT-47).
    pub fn relay_info(&self) -> Option<RelayInfo<'_>> {
        self.option(codes::DHCP_AGENT_OPTIONS).filter(|info| !info.is_empty()).map(RelayInfo::new)
    }

    /// `N` octets of the header from the constant place `at`; every caller lies inside the header.
    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut octets = [0; N];
        octets.copy_from_slice(&self.header[at..at + N]);
        octets
    }

    /// Notes where each option lies, and joins those that appear more than once.
    fn index_options(&mut self) -> Result<(), WireError> {
        let mut instances = 0;
        let mut repeated = CodeSet::EMPTY;
        let overload = self.index_area(OPTIONS_AT..self.bytes.len(), &mut instances, &mut repeated)?;
        // RFC 2132 section 9.3: 1 is file, 2 is sname, 3 is both; RFC 3396 section 5 fixes the order.
        if overload & 1 != 0 {
            self.index_area(FILE, &mut instances, &mut repeated)?;
        }
        if overload & 2 != 0 {
            self.index_area(SNAME, &mut instances, &mut repeated)?;
        }
        for code in repeated.iter() {
            self.join(code, overload)?;
        }
        Ok(())
    }

    /// Notes the options of one area and returns the value of its option 52, 0 if it has none.
    fn index_area(
        &mut self,
        area: std::ops::Range<usize>,
        instances: &mut usize,
        repeated: &mut CodeSet,
    ) -> Result<u8, WireError> {
        let mut overload = 0;
        for option in OptionWalk::new(&self.bytes[area.clone()]) {
            *instances += 1;
            if *instances > OPTION_INSTANCES_MAX {
                return Err(WireError::TooManyOptions);
            }
            if option.code == codes::DHCP_OPTION_OVERLOAD {
                overload = option.payload.first().copied().unwrap_or(0);
            }
            if self.has_option(option.code) {
                repeated.insert(option.code);
                continue;
            }
            let entry = self.entries.get_mut(self.entry_count).ok_or(WireError::TooManyOptions)?;
            // A datagram is shorter than 2^16 octets (checked first in `decode`), so neither cast loses bits.
            *entry = Entry {
                code: option.code,
                joined: false,
                offset: (area.start + option.offset) as u16,
                len: option.payload.len() as u16,
            };
            self.entry_count += 1;
        }
        Ok(overload)
    }

    /// Copies all instances of `code`, in order of appearance, behind each other into the scratch.
    fn join(&mut self, code: u8, overload: u8) -> Result<(), WireError> {
        let joined = self.joined.get_or_insert(Joined { octets: [0; JOINED_OPTION_OCTETS_MAX], len: 0 });
        let start = joined.len;
        let file: &[u8] = if overload & 1 != 0 { &self.bytes[FILE] } else { &[] };
        let sname: &[u8] = if overload & 2 != 0 { &self.bytes[SNAME] } else { &[] };
        for area in [&self.bytes[OPTIONS_AT..], file, sname] {
            for option in OptionWalk::new(area).filter(|option| option.code == code) {
                let end = joined.len + option.payload.len();
                let place = joined.octets.get_mut(joined.len..end).ok_or(WireError::JoinedTooLong)?;
                place.copy_from_slice(option.payload);
                joined.len = end;
            }
        }
        let len = joined.len - start;
        if let Some(entry) = self.entries[..self.entry_count].iter_mut().find(|entry| entry.code == code) {
            *entry = Entry { code, joined: true, offset: start as u16, len: len as u16 };
        }
        Ok(())
    }

    /// Refuses options whose length makes the whole message meaningless.
    fn check_options(&self) -> Result<(), WireError> {
        if self.option(codes::DHCP_MESSAGE_TYPE).is_some_and(|value| value.len() != 1) {
            return Err(WireError::MessageTypeLength);
        }
        if self.client_id().is_some_and(|id| !(2..=255).contains(&id.len())) {
            return Err(WireError::ClientIdLength);
        }
        Ok(())
    }
}
