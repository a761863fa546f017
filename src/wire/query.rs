//! A received DHCPv4 message, read in place.
//!
//! [`Query::decode`] checks the message once and remembers where each option lies; reading a field afterwards
//! is a bounds-checked slice of the datagram. Nothing is copied, and nothing allocated, but for options that appear
//! more than once (RFC 3396), which hardly any client sends: their octets are joined in a buffer of limited size.
//! Invariants: every entry of the table lies inside the bytes it points into, so that no accessor can fail for want
//! of octets; a code has one entry, and is in `codes` exactly then.

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
/// Octets of the chaddr field, and so the largest hlen (PKT-21).
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
    /// Codes of the options that are there: most questions are about one that is not.
    codes: CodeSet,
    entries: [Entry; OPTIONS_MAX],
    entry_count: usize,
    /// What appears more than once.
    joined: Option<Box<Joined>>,
}

/// Hardware address of a message that has not been decoded, `None` where [`Query::decode`] or an empty one would refuse it.
pub fn chaddr_of(bytes: &[u8]) -> Option<&[u8]> {
    let (hlen, chaddr) = (usize::from(*bytes.get(2)?), bytes.get(28..28 + CHADDR_OCTETS)?);
    chaddr.get(..hlen).filter(|chaddr| !chaddr.is_empty())
}

/// Where one option, or the first instance of it, lies in the datagram.
#[derive(Clone, Copy, Debug)]
struct Entry {
    code: u8,
    len: u8,
    offset: u16,
}

/// Options whose instances were put together.
#[derive(Clone, Debug, Default)]
struct Joined {
    octets: Vec<u8>,
    /// Code, and where its payload ends; it begins where that of the one before it ends.
    ends: Vec<(u8, usize)>,
}

impl Joined {
    fn option(&self, code: u8) -> Option<&[u8]> {
        let place = self.ends.iter().position(|(joined, _)| *joined == code)?;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before].1);
        self.octets.get(start..self.ends[place].1)
    }
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
        if usize::from(header[2]) > CHADDR_OCTETS {
            return Err(WireError::HardwareAddressLength);
        }
        let entries = [Entry { code: 0, len: 0, offset: 0 }; OPTIONS_MAX];
        let mut query = Self { header, bytes, codes: CodeSet::EMPTY, entries, entry_count: 0, joined: None };
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

    /// Length of the hardware address, at most [`CHADDR_OCTETS`].
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
        // `decode` has refused a larger hlen; the bound keeps the slice inside the header whatever happens there.
        let len = usize::from(self.hlen()).min(CHADDR_OCTETS);
        &self.header[28..28 + len]
    }

    /// The hardware address as a reply carries it: what lies in the field behind it is not copied, as in Kea.
    pub fn chaddr_field(&self) -> [u8; CHADDR_OCTETS] {
        let mut field = [0; CHADDR_OCTETS];
        let chaddr = self.chaddr();
        field[..chaddr.len()].copy_from_slice(chaddr);
        field
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
        if !self.codes.contains(code) {
            return None;
        }
        if let Some(joined) = self.joined.as_ref().and_then(|joined| joined.option(code)) {
            return Some(joined);
        }
        let entry = self.entries[..self.entry_count].iter().find(|entry| entry.code == code)?;
        let offset = usize::from(entry.offset);
        self.bytes.get(offset..offset + usize::from(entry.len))
    }

    /// Whether option `code` is there, whatever its payload.
    pub fn has_option(&self, code: u8) -> bool {
        self.codes.contains(code)
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
            // A datagram is shorter than 2^16 octets (checked first in `decode`) and an option has at most 255, so
            // neither cast loses bits.
            let offset = (area.start + option.offset) as u16;
            *entry = Entry { code: option.code, len: option.payload.len() as u8, offset };
            self.entry_count += 1;
            self.codes.insert(option.code);
        }
        Ok(overload)
    }

    /// Copies all instances of `code`, in order of appearance, behind each other into the scratch.
    fn join(&mut self, code: u8, overload: u8) -> Result<(), WireError> {
        let joined = self.joined.get_or_insert_default();
        let file: &[u8] = if overload & 1 != 0 { &self.bytes[FILE] } else { &[] };
        let sname: &[u8] = if overload & 2 != 0 { &self.bytes[SNAME] } else { &[] };
        for area in [&self.bytes[OPTIONS_AT..], file, sname] {
            for option in OptionWalk::new(area).filter(|option| option.code == code) {
                if joined.octets.len() + option.payload.len() > JOINED_OPTION_OCTETS_MAX {
                    return Err(WireError::JoinedTooLong);
                }
                joined.octets.extend_from_slice(option.payload);
            }
        }
        joined.ends.push((code, joined.octets.len()));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with every field set, the cookie, and `options`.
    fn message(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1, 6, 6, 2, 0x12, 0x34, 0x56, 0x78, 0, 9, 0x80, 1];
        bytes.extend([[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3], [10, 0, 0, 4]].concat());
        bytes.extend((0xa0..0xb0).collect::<Vec<u8>>());
        bytes.resize(HEADER_OCTETS, 0);
        bytes.extend(codes::MAGIC_COOKIE);
        bytes.extend(options);
        bytes
    }

    fn overloaded(options: &[u8], file: &[u8], sname: &[u8]) -> Vec<u8> {
        let mut bytes = message(options);
        bytes[FILE][..file.len()].copy_from_slice(file);
        bytes[SNAME][..sname.len()].copy_from_slice(sname);
        bytes
    }

    #[test]
    fn header_fields_are_read_from_their_places() {
        let bytes = message(&[255]);
        let query = Query::decode(&bytes).unwrap();
        assert_eq!((query.op(), query.htype(), query.hlen(), query.hops()), (1, 6, 6, 2));
        assert_eq!((query.xid(), query.secs(), query.flags()), (0x1234_5678, 9, 0x8001));
        assert_eq!(query.ciaddr(), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(query.yiaddr(), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(query.giaddr(), Ipv4Addr::new(10, 0, 0, 4));
        assert_eq!(query.chaddr(), [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5]);
        assert_eq!(chaddr_of(&bytes), Some(query.chaddr()));
        assert_eq!(query.chaddr_field()[4..8], [0xa4, 0xa5, 0, 0]);
        assert!(query.is_relayed() && query.wants_broadcast());
        assert_eq!(query.message_type(), None);
    }

    #[test]
    fn a_message_is_refused_for_its_own_reason() {
        let many = |count: u16| -> Vec<u8> { (0..count).flat_map(|n| [(n % 50) as u8 + 1, 0]).collect() };
        let different: Vec<u8> = (62..=190).flat_map(|code| [code, 2, 0, 0]).collect();
        let repeated = [&[43, 255][..], &[7; 255]].concat();
        let long_id = [&[61, 255][..], &[7; 255], &[61, 1, 7]].concat();
        let mut wrong_cookie = message(&[]);
        wrong_cookie[239] = 98;
        type Row = (&'static str, Vec<u8>, Result<(), WireError>);
        let table: Vec<Row> = vec![
            ("PKT-20 nothing", vec![], Err(WireError::TooShort)),
            ("PKT-20 235 octets", message(&[])[..235].to_vec(), Err(WireError::TooShort)),
            ("PKT-20 header only", message(&[])[..236].to_vec(), Err(WireError::MissingCookie)),
            ("PKT-20 half a cookie", message(&[])[..239].to_vec(), Err(WireError::MissingCookie)),
            ("PKT-20 wrong cookie", wrong_cookie, Err(WireError::BadCookie)),
            ("PKT-26 no options at all", message(&[]), Ok(())),
            ("PKT-26 largest datagram", message(&vec![0; DATAGRAM_OCTETS_MAX - 240]), Ok(())),
            ("larger than a datagram", message(&vec![0; DATAGRAM_OCTETS_MAX - 239]), Err(WireError::TooLong)),
            ("empty message type", message(&[53, 0]), Err(WireError::MessageTypeLength)),
            ("long message type", message(&[53, 2, 1, 1]), Err(WireError::MessageTypeLength)),
            ("two message types", message(&[53, 1, 1, 53, 1, 1]), Err(WireError::MessageTypeLength)),
            ("PKT-25 empty client-id", message(&[61, 0]), Err(WireError::ClientIdLength)),
            ("PKT-25 one octet", message(&[61, 1, 1]), Err(WireError::ClientIdLength)),
            ("PKT-25 two octets", message(&[61, 2, 1, 1]), Ok(())),
            ("PKT-25 255 octets", message(&long_id[..257]), Ok(())),
            ("PKT-25 joined to 256", message(&long_id), Err(WireError::ClientIdLength)),
            ("instances at the limit", message(&many(512)), Ok(())),
            ("instances above the limit", message(&many(513)), Err(WireError::TooManyOptions)),
            ("different options at the limit", message(&different[..128 * 4]), Ok(())),
            ("different options above the limit", message(&different), Err(WireError::TooManyOptions)),
            ("joined at the limit", message(&repeated.repeat(6)), Ok(())),
            ("joined above the limit", message(&repeated.repeat(7)), Err(WireError::JoinedTooLong)),
        ];
        for (case, bytes, expected) in table {
            assert_eq!(Query::decode(&bytes).map(|_| ()), expected, "{case}");
        }
    }

    #[test]
    fn an_hlen_beyond_the_field_is_refused() {
        for hlen in [0, 6, 16, 17, 255] {
            let mut bytes = message(&[]);
            bytes[2] = hlen;
            let read = Query::decode(&bytes).map(|query| query.chaddr().len());
            let expected =
                if hlen <= 16 { Ok(usize::from(hlen)) } else { Err(WireError::HardwareAddressLength) };
            assert_eq!(read, expected, "PKT-21: hlen {hlen}");
        }
    }

    #[test]
    fn repeated_options_are_joined_in_order_of_appearance() {
        let bytes = message(&[43, 2, 1, 2, 55, 1, 6, 43, 1, 3, 12, 1, b'h', 55, 2, 3, 6, 43, 0, 255]);
        let query = Query::decode(&bytes).unwrap();
        assert_eq!(query.option(43), Some(&[1, 2, 3][..]), "PKT-23");
        assert_eq!(query.option(55), Some(&[6, 3, 6][..]), "PKT-23");
        assert_eq!(query.option(12), Some(&b"h"[..]));
        assert_eq!(query.parameter_request_list().iter().collect::<Vec<_>>(), [3, 6], "PKT-44");
        assert_eq!(query.option_codes().collect::<Vec<_>>(), [43, 55, 12]);
    }

    #[test]
    fn overload_reads_file_then_sname_where_option_52_says_so() {
        let file = [43, 1, 2, 12, 1, b'f', 255, 99, 1];
        let sname = [43, 1, 3, 60, 1, b's'];
        type Row<'a> = (&'a str, &'a [u8], Option<&'a [u8]>, bool, bool);
        let table: &[Row] = &[
            ("PKT-22 absent", &[43, 1, 1], Some(&[1]), false, false),
            ("PKT-22 file", &[43, 1, 1, 52, 1, 1], Some(&[1, 2]), true, false),
            ("PKT-22 sname", &[43, 1, 1, 52, 1, 2], Some(&[1, 3]), false, true),
            ("PKT-22 both", &[43, 1, 1, 52, 1, 3], Some(&[1, 2, 3]), true, true),
            ("a value without meaning", &[52, 1, 4], None, false, false),
            ("no value", &[52, 0], None, false, false),
        ];
        for (case, options, joined, host_name, vendor_class) in table {
            let bytes = overloaded(options, &file, &sname);
            let query = Query::decode(&bytes).unwrap();
            assert_eq!(query.option(43), *joined, "{case}");
            assert_eq!(query.has_option(12), *host_name, "{case}");
            assert_eq!(query.has_option(60), *vendor_class, "{case}");
            assert!(!query.has_option(99), "{case}: after the end of file");
        }
    }

    #[test]
    fn an_overload_inside_an_overloaded_field_counts_for_nothing() {
        let bytes = overloaded(&[52, 1, 1], &[52, 1, 3], &[60, 1, b's']);
        assert!(!Query::decode(&bytes).unwrap().has_option(60));
    }

    #[test]
    fn typed_reads_take_exact_lengths_only() {
        let bytes = message(&[50, 3, 1, 2, 3, 51, 5, 0, 0, 0, 0, 9, 54, 4, 1, 2, 3, 4, 57, 2, 5, 220, 12, 0]);
        let query = Query::decode(&bytes).unwrap();
        assert_eq!((query.requested_address(), query.lease_time()), (None, None));
        assert_eq!(query.server_id(), Some(Ipv4Addr::new(1, 2, 3, 4)));
        assert_eq!(query.max_message_size(), Some(1500));
        assert!(query.has_option(12) && query.host_name().is_none(), "PKT-24");
    }
}
