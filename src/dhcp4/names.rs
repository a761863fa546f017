//! Host names in replies and leases: options 81 and 12 (a.11), with DNS updates off.
//!
//! The defaults of Kea hold: `ddns-replace-client-name` never, no qualifying suffix, prefix `myhost`, host name
//! character set `[^A-Za-z0-9.-]` with nothing in place of what it removes. A name that cannot be a DNS name is
//! ignored, and the client is served without one (PKT-83).

use std::net::Ipv4Addr;

use crate::wire::Query;
use crate::wire::codes;
use crate::wire::reply::{MessageWriter, WriteError};

/// Octets of the longest DNS name in text: 255 on the wire are 254 and the last dot.
const NAME_OCTETS_MAX: usize = 255;
/// Octets of the longest label (RFC 1035 section 2.3.4).
const LABEL_OCTETS_MAX: usize = 63;
/// Flags, RCODE1 and RCODE2 of option 81.
const FQDN_FIXED_OCTETS: usize = 3;

/// S: the server does the forward update (RFC 4702 section 2.1).
const FLAG_S: u8 = 0x01;
/// O: the server overrides the client's S.
const FLAG_O: u8 = 0x02;
/// E: the name is encoded as DNS labels, not as text.
const FLAG_E: u8 = 0x04;
/// N: the server does no update.
const FLAG_N: u8 = 0x08;

/// What a reply says about the client's name, and what its lease stores.
#[derive(Clone, Debug)]
pub struct Names {
    text: Text,
    carried: Carried,
}

/// The option a reply carries the name in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Carried {
    Nothing,
    HostName,
    /// Option 81 with these flags; the RCODEs come back as the client sent them.
    Fqdn {
        flags: u8,
        rcodes: [u8; 2],
    },
}

impl Names {
    /// No name at all, as in the answer to an INFORM.
    pub const fn none() -> Self {
        Self { text: Text::new(), carried: Carried::Nothing }
    }

    /// Decides for a DISCOVER or REQUEST that gets `address`. Where option 81 is there, valid or not, it alone
    /// counts; else option 12 (PKT-80).
    pub fn decide(query: &Query, address: Ipv4Addr) -> Self {
        match query.option(codes::FQDN) {
            Some(payload) => Self::from_fqdn(payload, address),
            None => {
                let named = query.host_name().and_then(|name| Self::from_host_name(name, address));
                named.unwrap_or(const { Self::none() })
            }
        }
    }

    /// The name to store in the lease, lower case; empty if none.
    pub fn lease_hostname(&self) -> &[u8] {
        self.text.as_slice()
    }

    /// The option the name is carried in, if any.
    pub fn code(&self) -> Option<u8> {
        match self.carried {
            Carried::Nothing => None,
            Carried::HostName => Some(codes::HOST_NAME),
            Carried::Fqdn { .. } => Some(codes::FQDN),
        }
    }

    /// Writes the option of [`Names::code`].
    ///
    /// # Errors
    /// [`WriteError::TooLong`] when it does not fit.
    pub fn write(&self, writer: &mut MessageWriter) -> Result<(), WriteError> {
        match self.carried {
            Carried::Nothing => Ok(()),
            Carried::HostName => writer.option(codes::HOST_NAME, self.text.as_slice()),
            Carried::Fqdn { flags, rcodes } => {
                let mut payload = Text::new();
                payload.extend(&[flags, rcodes[0], rcodes[1]]);
                if flags & FLAG_E == 0 {
                    payload.extend(self.text.as_slice());
                } else {
                    for label in self.text.as_slice().split(|octet| *octet == b'.') {
                        // A label has at most 63 octets (checked in `is_name`), so the cast loses nothing.
                        payload.push(label.len() as u8);
                        payload.extend(label);
                    }
                }
                writer.option(codes::FQDN, payload.as_slice())
            }
        }
    }

    /// PKT-81 with updates disabled, and PKT-82. A malformed option is dropped, the query is not.
    fn from_fqdn(payload: &[u8], address: Ipv4Addr) -> Self {
        const NONE: Names = Names::none();
        let Some((&[flags, rcode1, rcode2], name)) = payload.split_first_chunk::<FQDN_FIXED_OCTETS>() else {
            return NONE;
        };
        if flags & (FLAG_N | FLAG_S) == FLAG_N | FLAG_S {
            return NONE;
        }
        let client_text = if flags & FLAG_E == 0 { text_of_ascii(name) } else { text_of_labels(name) };
        let Some(client_text) = client_text else { return NONE };
        let mut text = Text::new();
        if client_text.is_empty_name() {
            text.extend_generated(address);
        } else {
            text.extend_scrubbed(client_text.as_slice());
        }
        if !text.as_slice().ends_with(b".") {
            text.push(b'.');
        }
        if !is_name(text.as_slice()) {
            return NONE;
        }
        // The server's S is never set here, so it overrides exactly where the client set its own.
        let overrides = if flags & FLAG_S == 0 { 0 } else { FLAG_O };
        let flags = FLAG_N | overrides | (flags & FLAG_E);
        Self { text, carried: Carried::Fqdn { flags, rcodes: [rcode1, rcode2] } }
    }

    /// PKT-83 and PKT-84. `None` when the option is to be ignored. For the bare root Kea was seen to generate a
    /// name, although PKT-83 has it ignored.
    fn from_host_name(payload: &[u8], address: Ipv4Addr) -> Option<Self> {
        let name = trimmed(payload);
        if name == b"." {
            let mut text = Text::new();
            text.extend_generated(address);
            return Some(Self { text, carried: Carried::HostName });
        }
        if !is_name(name) {
            return None;
        }
        let mut text = Text::new();
        text.extend_scrubbed(name);
        let labels = name.split(|octet| *octet == b'.').filter(|label| !label.is_empty()).count();
        if labels == 1 && text.as_slice().ends_with(b".") {
            text.pop();
        }
        (!text.as_slice().is_empty()).then_some(Self { text, carried: Carried::HostName })
    }
}

/// A name in text, in a fixed buffer; what exceeds it marks the text as spoiled.
#[derive(Clone, Debug)]
struct Text {
    octets: [u8; NAME_OCTETS_MAX + FQDN_FIXED_OCTETS],
    len: usize,
}

impl Text {
    const fn new() -> Self {
        Self { octets: [0; NAME_OCTETS_MAX + FQDN_FIXED_OCTETS], len: 0 }
    }

    fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }

    /// Whether it names nothing: no octets, or only the root.
    fn is_empty_name(&self) -> bool {
        matches!(self.as_slice(), [] | [b'.'])
    }

    /// Adds an octet. Every caller adds at most a name of [`NAME_OCTETS_MAX`] and the fixed octets of option 81;
    /// `is_name` refuses a name that has come to the end of the room.
    fn push(&mut self, octet: u8) {
        if let Some(place) = self.octets.get_mut(self.len) {
            *place = octet;
            self.len += 1;
        }
    }

    fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    fn extend(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.push(*octet));
    }

    fn push_decimal(&mut self, number: u8) {
        if number >= 100 {
            self.push(b'0' + number / 100);
        }
        if number >= 10 {
            self.push(b'0' + number / 10 % 10);
        }
        self.push(b'0' + number % 10);
    }

    /// Adds the name made from an address (PKT-82), without the last dot.
    fn extend_generated(&mut self, address: Ipv4Addr) {
        self.extend(b"myhost");
        for octet in address.octets() {
            self.push(b'-');
            self.push_decimal(octet);
        }
    }

    /// Adds the octets the character set lets through, in lower case (PKT-84).
    fn extend_scrubbed(&mut self, octets: &[u8]) {
        for octet in octets {
            if octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-') {
                self.push(octet.to_ascii_lowercase());
            }
        }
    }
}

/// Whether `text` is a DNS name with at least one label, with or without the last dot.
fn is_name(text: &[u8]) -> bool {
    let relative = text.strip_suffix(b".").unwrap_or(text);
    let labels_fit =
        relative.split(|octet| *octet == b'.').all(|label| (1..=LABEL_OCTETS_MAX).contains(&label.len()));
    // On the wire a name has one octet more than its text without the last dot, and the root.
    labels_fit && relative.len() + 2 <= NAME_OCTETS_MAX
}

/// The deprecated encoding of option 81: text. `None` when it is no name; an empty one is.
fn text_of_ascii(name: &[u8]) -> Option<Text> {
    let mut text = Text::new();
    if matches!(name, [] | [b'.']) {
        return Some(text);
    }
    text.extend(name);
    is_name(name).then_some(text)
}

/// The canonical encoding of option 81: labels, with the root at the end of a full name only.
fn text_of_labels(name: &[u8]) -> Option<Text> {
    let mut text = Text::new();
    let mut rest = name;
    while let Some((&len, after)) = rest.split_first() {
        if len == 0 {
            return after.is_empty().then_some(text);
        }
        let len = usize::from(len);
        if len > LABEL_OCTETS_MAX || name.len() > NAME_OCTETS_MAX {
            return None;
        }
        let (label, after) = after.split_at_checked(len)?;
        if !text.as_slice().is_empty() {
            text.push(b'.');
        }
        text.extend(label);
        rest = after;
    }
    Some(text)
}

/// `payload` without blanks around it and zeros after it, which some clients send.
fn trimmed(payload: &[u8]) -> &[u8] {
    let end = payload.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
    payload[..end].trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp4::test_support::QueryBuilder;
    use crate::wire::codes::MessageType;
    use crate::wire::reply::MessageHeader;

    /// Decides for 192.0.2.100 and returns the lease's host name and the option as it would be written.
    fn decide(options: &[(u8, &[u8])]) -> (Vec<u8>, Option<(u8, Vec<u8>)>) {
        let mut query = QueryBuilder::new(MessageType::Request);
        for (code, payload) in options {
            query = query.option(*code, payload);
        }
        let bytes = query.bytes();
        let names = Names::decide(&Query::decode(&bytes).unwrap(), Ipv4Addr::new(192, 0, 2, 100));
        let mut octets = [0; 1500];
        let mut writer =
            MessageWriter::new(&mut octets, &MessageHeader::request(1), MessageType::Ack).unwrap();
        names.write(&mut writer).unwrap();
        let len = writer.finish().unwrap();
        let message = Query::decode(&octets[..len]).unwrap();
        let written = names.code().map(|code| (code, message.option(code).unwrap_or_default().to_vec()));
        (names.lease_hostname().to_vec(), written)
    }

    #[test]
    fn option_12_is_cleaned_and_returned_as_pkt_83_and_84_say() {
        let longest_label = [b'a'; 63];
        let too_long_label = [b'a'; 64];
        let long_name = [&longest_label[..]; 4].join(&b'.');
        type Row<'a> = (&'a str, &'a [u8], &'a [u8]);
        let table: &[Row] = &[
            ("single label", b"Host", b"host"),
            ("single label with dot", b"host.", b"host"),
            ("several labels", b"Host.Example.ORG", b"host.example.org"),
            ("several labels with dot", b"host.example.", b"host.example."),
            ("blanks and zeros around", b" host\0\0", b"host"),
            ("characters outside the set", b"my_host name!", b"myhostname"),
            ("nothing left", b"_!?", b""),
            ("empty", b"", b""),
            ("only zeros", b"\0\0", b""),
            ("only the root", b".", b"myhost-192-0-2-100"),
            ("empty label", b"a..b", b""),
            ("longest label", &longest_label, &longest_label),
            ("label too long", &too_long_label, b""),
            ("name too long", &long_name, b""),
            ("octets that are no text", &[0xff, 0xfe, b'x'], b"x"),
        ];
        for (case, payload, expected) in table {
            let (hostname, option) = decide(&[(12, payload)]);
            assert_eq!(hostname, *expected, "{case}");
            let carried = (!expected.is_empty()).then(|| (12, expected.to_vec()));
            assert_eq!(option, carried, "{case}");
        }
    }

    #[test]
    fn option_81_is_answered_as_pkt_81_and_82_say() {
        let fqdn = |flags: u8, name: &[u8]| [&[flags, 1, 2], name].concat();
        let wire_longest: Vec<u8> = [&[63; 1][..], &[b'a'; 63]]
            .concat()
            .repeat(3)
            .into_iter()
            .chain([61])
            .chain([b'b'; 61])
            .collect();
        let longest_text = {
            let label = "a".repeat(63);
            format!("{label}.{label}.{label}.{}.", "b".repeat(61)).into_bytes()
        };
        type Row<'a> = (&'a str, Vec<u8>, Option<(Vec<u8>, &'a [u8])>);
        let table: Vec<Row> = vec![
            ("0,0", fqdn(0, b"host"), Some((fqdn(8, b"host."), b"host."))),
            ("0,1 overridden", fqdn(1, b"host"), Some((fqdn(8 | 2, b"host."), b"host."))),
            ("1,0", fqdn(8, b"host"), Some((fqdn(8, b"host."), b"host."))),
            ("1,1 is invalid", fqdn(9, b"host"), None),
            (
                "E copied",
                fqdn(4, b"\x04Host\x07example\0"),
                Some((fqdn(12, b"\x04host\x07example\0"), b"host.example.")),
            ),
            ("partial labels", fqdn(4, b"\x04host"), Some((fqdn(12, b"\x04host\0"), b"host."))),
            ("full text", fqdn(0, b"host.example."), Some((fqdn(8, b"host.example."), b"host.example."))),
            ("reserved flags cleared", fqdn(0xf0, b"h"), Some((fqdn(8, b"h."), b"h."))),
            ("generated", fqdn(0, b""), Some((fqdn(8, b"myhost-192-0-2-100."), b"myhost-192-0-2-100."))),
            (
                "generated, labels",
                fqdn(4, b""),
                Some((fqdn(12, b"\x12myhost-192-0-2-100\0"), b"myhost-192-0-2-100.")),
            ),
            (
                "generated for the root",
                fqdn(4, b"\0"),
                Some((fqdn(12, b"\x12myhost-192-0-2-100\0"), b"myhost-192-0-2-100.")),
            ),
            (
                "scrubbed",
                fqdn(0, b"my_host.ex ample"),
                Some((fqdn(8, b"myhost.example."), b"myhost.example.")),
            ),
            ("scrubbed to nothing", fqdn(0, b"__"), None),
            ("a label scrubbed to nothing", fqdn(0, b"a._.b"), None),
            ("label past the end", fqdn(4, b"\x05host"), None),
            ("compressed", fqdn(4, b"\xc0\x00"), None),
            ("octets after the root", fqdn(4, b"\x01a\0\x01b"), None),
            ("no RCODEs", vec![0, 0], None),
            (
                "longest name",
                fqdn(4, &wire_longest),
                Some((fqdn(12, &[&wire_longest[..], &[0]].concat()), &longest_text)),
            ),
            ("name too long", fqdn(4, &[&wire_longest[..], b"\x01c"].concat()), None),
        ];
        for (case, payload, expected) in table {
            // Option 12 is there too, and must not be looked at.
            let (hostname, option) = decide(&[(81, &payload), (12, b"other")]);
            let (carried, name) = match expected {
                Some((carried, name)) => (Some((81, carried)), name),
                None => (None, &b""[..]),
            };
            assert_eq!(option, carried, "{case}");
            assert_eq!(hostname, name, "{case}");
        }
    }
}
