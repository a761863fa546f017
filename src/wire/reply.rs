//! Writing a DHCPv4 message into a fixed buffer.
//!
//! The writer places octets and splits what is longer than an option can be (RFC 3396); which options a message
//! carries and in which order is the caller's affair. Nothing is ever written outside the buffer: what does not
//! fit is [`WriteError::TooLong`]. No option overload, no padding, no minimum size (PKT-40, PKT-43).

use std::net::Ipv4Addr;

use thiserror::Error;

use crate::limits::DATAGRAM_OCTETS_MAX;
use crate::wire::codes::{self, MessageType};
use crate::wire::query::{CHADDR_OCTETS, HEADER_OCTETS, Query};

/// Octets of the sname field; the file field is what is left of the header behind it.
const SNAME_OCTETS: usize = 64;
/// Octets one instance of an option can carry.
const OPTION_OCTETS_MAX: usize = 255;

/// Room for one reply, allocated once and used for every reply of a shard.
#[derive(Clone, Debug)]
pub struct ReplyBuffer {
    octets: Box<[u8]>,
}

impl ReplyBuffer {
    /// Room for the largest UDP payload.
    pub fn new() -> Self {
        Self { octets: vec![0; DATAGRAM_OCTETS_MAX].into_boxed_slice() }
    }

    /// The first `len` octets: the message last written, where `len` is what its writer returned.
    pub fn message(&self, len: usize) -> &[u8] {
        self.octets.get(..len).unwrap_or_default()
    }

    /// The whole room.
    pub fn octets_mut(&mut self) -> &mut [u8] {
        &mut self.octets
    }
}

impl Default for ReplyBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a message could not be written.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum WriteError {
    /// It does not fit the buffer.
    #[error("the message does not fit its buffer")]
    TooLong,
}

/// The fixed header of a message; what is not listed in a constructor is zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MessageHeader<'a> {
    /// [`codes::BOOTREQUEST`] or [`codes::BOOTREPLY`].
    pub op: u8,
    /// Hardware type.
    pub htype: u8,
    /// Length of the hardware address as stated.
    pub hlen: u8,
    /// Relays passed.
    pub hops: u8,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Flags.
    pub flags: u16,
    /// Address the client has.
    pub ciaddr: Ipv4Addr,
    /// Address the client gets.
    pub yiaddr: Ipv4Addr,
    /// Next server to use in bootstrap.
    pub siaddr: Ipv4Addr,
    /// Address of the relay.
    pub giaddr: Ipv4Addr,
    /// The whole hardware address field.
    pub chaddr: [u8; CHADDR_OCTETS],
    /// Server host name; at most 64 octets are written.
    pub sname: &'a [u8],
    /// Boot file name; at most 128 octets are written.
    pub file: &'a [u8],
}

impl MessageHeader<'static> {
    /// A request with nothing in it but `xid`.
    pub const fn request(xid: u32) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self {
            op: codes::BOOTREQUEST,
            htype: codes::HTYPE_ETHERNET,
            hlen: 0,
            hops: 0,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: none,
            yiaddr: none,
            siaddr: none,
            giaddr: none,
            chaddr: [0; CHADDR_OCTETS],
            sname: &[],
            file: &[],
        }
    }

    /// A reply to `query`: htype, hlen, hops, xid, flags, giaddr and chaddr copied, all else zero (a.5).
    pub fn reply_to(query: &Query) -> Self {
        Self {
            op: codes::BOOTREPLY,
            htype: query.htype(),
            hlen: query.hlen(),
            hops: query.hops(),
            flags: query.flags(),
            giaddr: query.giaddr(),
            chaddr: query.chaddr_field(),
            ..Self::request(query.xid())
        }
    }
}

/// Writes one message: header and message type first, then options, then the end.
#[derive(Debug)]
pub struct MessageWriter<'b> {
    octets: &'b mut [u8],
    at: usize,
}

impl<'b> MessageWriter<'b> {
    /// Starts a message in `octets`: header, cookie and option 53.
    ///
    /// # Errors
    /// [`WriteError::TooLong`] when `octets` is too small.
    pub fn new(
        octets: &'b mut [u8],
        header: &MessageHeader,
        message_type: MessageType,
    ) -> Result<Self, WriteError> {
        let mut writer = Self { octets, at: 0 };
        writer.header(header)?;
        writer.bytes(&codes::MAGIC_COOKIE)?;
        writer.option(codes::DHCP_MESSAGE_TYPE, &[message_type as u8])?;
        Ok(writer)
    }

    /// Adds option `code`; more than 255 octets become several instances of it (PKT-41).
    ///
    /// # Errors
    /// [`WriteError::TooLong`] when it does not fit; the message is then to be given up.
    pub fn option(&mut self, code: u8, payload: &[u8]) -> Result<(), WriteError> {
        let mut rest = payload;
        loop {
            let (part, after) = rest.split_at(rest.len().min(OPTION_OCTETS_MAX));
            let end = self.at + 2 + part.len();
            let place = self.octets.get_mut(self.at..end).ok_or(WriteError::TooLong)?;
            // A part has at most 255 octets, so the cast loses nothing.
            place[..2].copy_from_slice(&[code, part.len() as u8]);
            place[2..].copy_from_slice(part);
            self.at = end;
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
        }
    }

    /// Adds option `code` with an address.
    ///
    /// # Errors
    /// As [`MessageWriter::option`].
    pub fn address(&mut self, code: u8, address: Ipv4Addr) -> Result<(), WriteError> {
        self.option(code, &address.octets())
    }

    /// Adds option `code` with a number of four octets.
    ///
    /// # Errors
    /// As [`MessageWriter::option`].
    pub fn number(&mut self, code: u8, number: u32) -> Result<(), WriteError> {
        self.option(code, &number.to_be_bytes())
    }

    /// Ends the message and returns its length in octets.
    ///
    /// # Errors
    /// [`WriteError::TooLong`] when the end option does not fit.
    pub fn finish(mut self) -> Result<usize, WriteError> {
        self.bytes(&[codes::END])?;
        Ok(self.at)
    }

    fn header(&mut self, header: &MessageHeader) -> Result<(), WriteError> {
        let end = self.at + HEADER_OCTETS;
        let place = self.octets.get_mut(self.at..end).and_then(|place| place.first_chunk_mut());
        let place: &mut [u8; HEADER_OCTETS] = place.ok_or(WriteError::TooLong)?;
        place[..4].copy_from_slice(&[header.op, header.htype, header.hlen, header.hops]);
        place[4..8].copy_from_slice(&header.xid.to_be_bytes());
        place[8..10].copy_from_slice(&header.secs.to_be_bytes());
        place[10..12].copy_from_slice(&header.flags.to_be_bytes());
        place[12..16].copy_from_slice(&header.ciaddr.octets());
        place[16..20].copy_from_slice(&header.yiaddr.octets());
        place[20..24].copy_from_slice(&header.siaddr.octets());
        place[24..28].copy_from_slice(&header.giaddr.octets());
        place[28..44].copy_from_slice(&header.chaddr);
        place[44..].fill(0);
        let (sname, file) = place[44..].split_at_mut(SNAME_OCTETS);
        for (place, text) in [(sname, header.sname), (file, header.file)] {
            let used = text.len().min(place.len());
            place[..used].copy_from_slice(&text[..used]);
        }
        self.at = end;
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let end = self.at + bytes.len();
        self.octets.get_mut(self.at..end).ok_or(WriteError::TooLong)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_octet_by_octet() {
        let mut octets = [0xaa; 300];
        let header = MessageHeader { hlen: 6, secs: 3, sname: b"s", ..MessageHeader::request(0x0102_0304) };
        let mut writer = MessageWriter::new(&mut octets, &header, MessageType::Discover).unwrap();
        writer.option(80, &[]).unwrap();
        writer.number(51, 7200).unwrap();
        let len = writer.finish().unwrap();
        assert_eq!(len, 240 + 3 + 2 + 6 + 1, "PKT-40: no padding");
        assert_eq!(octets[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 3, 0, 0]);
        assert_eq!(octets[44..46], [b's', 0], "sname is padded with zeros");
        assert_eq!(octets[236..len], [99, 130, 83, 99, 53, 1, 1, 80, 0, 51, 4, 0, 0, 28, 32, 255]);
        assert_eq!(octets[len], 0xaa, "nothing is written after the end");
    }

    #[test]
    fn a_long_option_becomes_several_of_at_most_255_octets() {
        for (len, instances) in [(0, 1), (1, 1), (255, 1), (256, 2), (510, 2), (511, 3)] {
            let mut octets = [0; 1500];
            let header = MessageHeader::request(1);
            let mut writer = MessageWriter::new(&mut octets, &header, MessageType::Ack).unwrap();
            let payload: Vec<u8> = (0..len).map(|octet| octet as u8).collect();
            writer.option(43, &payload).unwrap();
            let end = writer.finish().unwrap();
            assert_eq!(end, 243 + 2 * instances + len + 1, "PKT-41: {len} octets");
            let query = Query::decode(&octets[..end]).unwrap();
            assert_eq!(query.option(43), Some(&payload[..]), "PKT-41: {len} octets");
        }
    }

    #[test]
    fn a_buffer_of_any_size_gives_a_whole_message_or_an_error() {
        let build = |octets: &mut [u8]| {
            let mut writer = MessageWriter::new(octets, &MessageHeader::request(1), MessageType::Ack)?;
            writer.option(43, &[7; 300])?;
            writer.finish()
        };
        let whole = build(&mut [0; 1000]).unwrap();
        for room in 0..whole {
            assert_eq!(build(&mut vec![0; room]), Err(WriteError::TooLong), "{room} octets");
        }
        assert_eq!(build(&mut vec![0; whole]), Ok(whole));
    }

    #[test]
    fn names_longer_than_their_fields_are_cut() {
        let mut octets = [0; 300];
        let header = MessageHeader { sname: &[b's'; 70], file: &[b'f'; 130], ..MessageHeader::request(1) };
        MessageWriter::new(&mut octets, &header, MessageType::Ack).unwrap();
        assert_eq!((octets[107], octets[108], octets[235], octets[236]), (b's', b'f', b'f', 99));
    }
}
