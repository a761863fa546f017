//! One row of Kea's lease CSV, written and read (PST-2..8).
//!
//! Text is escaped by the rule of Kea 3.3 (`,`, `&` and every octet that is not printable ASCII), which Kea
//! 2.2 reads as well; both dialects and every header since version 1.0 are read. Neither direction allocates
//! for a field that fits a [`SmallBytes`] inline.

use crate::{Lease, LeaseState, SmallBytes};

/// Columns of version 3.0, the newest; older headers are prefixes of it, through `hostname` at least.
const COLUMN_NAMES: [&[u8]; 12] = [
    b"address",
    b"hwaddr",
    b"client_id",
    b"valid_lifetime",
    b"expire",
    b"subnet_id",
    b"fqdn_fwd",
    b"fqdn_rev",
    b"hostname",
    b"state",
    b"user_context",
    b"pool_id",
];

/// Columns of version 1.0.
const COLUMNS_MIN: usize = 9;

/// Longest hardware address, octets, as in Kea.
const HWADDR_OCTETS_MAX: usize = 20;

/// Shortest client identifier, octets, as in Kea, which discards the row of a shorter one.
const CLIENT_ID_OCTETS_MIN: usize = 2;

/// Longest client identifier, octets: the payload of one option.
const CLIENT_ID_OCTETS_MAX: usize = 255;

/// Column set of a file we append to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Columns {
    /// Through `user_context`: lease file version 2.1, Kea 1.4 to 2.2.
    Eleven,
    /// Through `pool_id`: lease file version 3.0, Kea 2.4 and later.
    Twelve,
}

/// What a header says about the rows below it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Columns we know, 9..=12.
    pub known: usize,
    /// Columns after them that we do not.
    pub unknown: usize,
}

/// What a row says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The lease, as it was at the time.
    pub lease: Lease,
    /// Whether the row deletes it (`valid_lifetime` 0, unless it was released, PST-6).
    pub deleted: bool,
}

/// Why a row is invalid (PST-7).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RowError {
    /// `address` is not a dotted quad.
    #[error("bad address")]
    Address,
    /// `client_id` is not 2 to 255 octets in hex.
    #[error("bad client_id")]
    ClientId,
    /// Fewer or more columns than the header names.
    #[error("wrong number of columns")]
    ColumnCount,
    /// `expire` is not a number.
    #[error("bad expire")]
    Expire,
    /// `expire` is less than `valid_lifetime`: the lease would have begun before 1970.
    #[error("expire is less than valid_lifetime")]
    ExpireBeforeLifetime,
    /// `fqdn_fwd` or `fqdn_rev` is neither 0 nor 1.
    #[error("bad fqdn_fwd or fqdn_rev")]
    Flag,
    /// `hwaddr` is not up to 20 octets in hex.
    #[error("bad hwaddr")]
    HardwareAddress,
    /// Neither hwaddr nor client_id, and not declined.
    #[error("neither hwaddr nor client_id")]
    NoIdentity,
    /// `pool_id` is not a number.
    #[error("bad pool_id")]
    PoolId,
    /// `state` is not 0..=3.
    #[error("bad state")]
    State,
    /// `subnet_id` is not a number.
    #[error("bad subnet_id")]
    SubnetId,
    /// `valid_lifetime` is not a number.
    #[error("bad valid_lifetime")]
    ValidLifetime,
}

/// The line is not a header of a lease file: names in another order, or not through `hostname`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a header of a DHCPv4 lease file")]
pub struct HeaderError;

impl Columns {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Self::Eleven => 11,
            Self::Twelve => 12,
        }
    }
}

/// Appends the header line, newline included.
pub fn write_header(out: &mut Vec<u8>, columns: Columns) {
    for (index, name) in COLUMN_NAMES[..columns.count()].iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
    }
    out.push(b'\n');
}

/// Appends the row of `lease`, newline included. With [`Columns::Eleven`] the pool id is left out.
pub fn write_lease(out: &mut Vec<u8>, lease: &Lease, columns: Columns) {
    write_row(out, lease, lease.valid_lifetime, lease.expire(), columns);
}

/// Appends the row that deletes `lease`, newline included: lifetime 0 and `expire` = cltt (PST-5). A released
/// lease is deleted under state 0, because state 3 with lifetime 0 is how a released lease is kept (PST-6).
pub fn write_deletion(out: &mut Vec<u8>, lease: &Lease, columns: Columns) {
    if lease.state == LeaseState::Released {
        let deleted =
            Lease { state: LeaseState::Default, user_context: lease.user_context.clone(), ..lease.clone() };
        write_row(out, &deleted, 0, lease.cltt, columns);
    } else {
        write_row(out, lease, 0, lease.cltt, columns);
    }
}

/// Reads a header line without its newline.
pub fn parse_header(line: &[u8]) -> Result<Layout, HeaderError> {
    let mut names = line.split(|&octet| octet == b',');
    let known = COLUMN_NAMES.iter().zip(names.by_ref()).take_while(|(known, name)| *known == name).count();
    let total = line.split(|&octet| octet == b',').count();
    // A name that differs may only come after all that are known.
    if known < COLUMNS_MIN || (known < total && known < COLUMN_NAMES.len()) {
        return Err(HeaderError);
    }
    Ok(Layout { known, unknown: total - known })
}

/// Whether `line` is a header cut short, or a whole one.
pub fn is_header_prefix(line: &[u8]) -> bool {
    let mut header = Vec::new();
    write_header(&mut header, Columns::Twelve);
    header.starts_with(line)
}

/// Reads a row without its newline.
pub fn parse_row(line: &[u8], layout: Layout) -> Result<Row, RowError> {
    let mut fields = [&b""[..]; COLUMN_NAMES.len()];
    let mut count = 0;
    let mut from = 0;
    for (at, _) in line.iter().enumerate().filter(|(_, octet)| **octet == b',') {
        if count < layout.known {
            fields[count] = &line[from..at];
        }
        from = at + 1;
        count += 1;
    }
    if count < layout.known {
        fields[count] = &line[from..];
    }
    count += 1;
    if !(layout.known..=layout.known + layout.unknown).contains(&count) {
        return Err(RowError::ColumnCount);
    }
    let [address, hwaddr, client_id, valid, expire, subnet_id, fwd, rev, hostname, state, context, pool_id] =
        fields;
    let address = parse_address(address).ok_or(RowError::Address)?;
    let hwaddr = parse_hex::<HWADDR_OCTETS_MAX>(hwaddr).ok_or(RowError::HardwareAddress)?;
    let client_id = parse_hex::<CLIENT_ID_OCTETS_MAX>(client_id)
        .filter(|id| id.is_empty() || id.len() >= CLIENT_ID_OCTETS_MIN)
        .ok_or(RowError::ClientId)?;
    let valid_lifetime = parse_u32(valid).ok_or(RowError::ValidLifetime)?;
    let expire = parse_number(expire).ok_or(RowError::Expire)?;
    let subnet_id = parse_u32(subnet_id).ok_or(RowError::SubnetId)?;
    let state = match state {
        b"" if layout.known < 10 => LeaseState::Default,
        b"0" => LeaseState::Default,
        b"1" => LeaseState::Declined,
        b"2" => LeaseState::ExpiredReclaimed,
        b"3" => LeaseState::Released,
        _ => return Err(RowError::State),
    };
    let pool_id = if layout.known < 12 { 0 } else { parse_u32(pool_id).ok_or(RowError::PoolId)? };
    if hwaddr.is_empty() && client_id.is_empty() && state != LeaseState::Declined {
        return Err(RowError::NoIdentity);
    }
    let lease = Lease {
        address: address.into(),
        subnet_id,
        pool_id,
        hwaddr,
        client_id,
        valid_lifetime,
        cltt: expire.checked_sub(u64::from(valid_lifetime)).ok_or(RowError::ExpireBeforeLifetime)?,
        state,
        fqdn_fwd: parse_flag(fwd)?,
        fqdn_rev: parse_flag(rev)?,
        hostname: unescape_small(hostname),
        user_context: (!context.is_empty()).then(|| unescape(context).into_boxed_slice()),
    };
    let deleted = valid_lifetime == 0 && state != LeaseState::Released;
    Ok(Row { lease, deleted })
}

fn write_row(out: &mut Vec<u8>, lease: &Lease, valid_lifetime: u32, expire: u64, columns: Columns) {
    let mut line = Line { out, octets: [0; LINE_OCTETS], len: 0 };
    let [a, b, c, d] = lease.address.octets();
    line.number(a.into());
    for octet in [b, c, d] {
        line.push(b'.');
        line.number(octet.into());
    }
    line.push(b',');
    line.hex(&lease.hwaddr);
    line.push(b',');
    line.hex(&lease.client_id);
    for number in [valid_lifetime.into(), expire, lease.subnet_id.into()] {
        line.push(b',');
        line.number(number);
    }
    for flag in [lease.fqdn_fwd, lease.fqdn_rev] {
        line.push(b',');
        line.push(b'0' + u8::from(flag));
    }
    line.push(b',');
    line.escaped(&lease.hostname);
    line.push(b',');
    line.push(b'0' + lease.state as u8);
    line.push(b',');
    line.escaped(lease.user_context.as_deref().unwrap_or_default());
    if columns == Columns::Twelve {
        line.push(b',');
        line.number(lease.pool_id.into());
    }
    line.push(b'\n');
    line.flush();
}

/// Octets of a [`Line`]: a row without a user context.
const LINE_OCTETS: usize = 128;

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

/// A row under way: gathered, and moved behind the others when it is whole or the room is used up.
struct Line<'o> {
    out: &'o mut Vec<u8>,
    octets: [u8; LINE_OCTETS],
    len: usize,
}

impl Line<'_> {
    fn flush(&mut self) {
        self.out.extend_from_slice(&self.octets[..self.len]);
        self.len = 0;
    }

    fn push(&mut self, octet: u8) {
        if self.len == LINE_OCTETS {
            self.flush();
        }
        self.octets[self.len] = octet;
        self.len += 1;
    }

    fn number(&mut self, number: u64) {
        if number < 10 {
            return self.push(b'0' + number as u8);
        }
        if self.len + DIGITS_MAX > LINE_OCTETS {
            self.flush();
        }
        let end = self.len + number.ilog10() as usize + 1;
        let mut rest = number;
        let (first, pairs) = self.octets[self.len..end].as_rchunks_mut();
        for pair in pairs.iter_mut().rev() {
            *pair = TWO_DIGITS[(rest % 100) as usize];
            rest /= 100;
        }
        if let [first] = first {
            *first = b'0' + rest as u8;
        }
        self.len = end;
    }

    fn hex(&mut self, octets: &[u8]) {
        for (index, &octet) in octets.iter().enumerate() {
            if index > 0 {
                self.push(b':');
            }
            if self.len + 2 > LINE_OCTETS {
                self.flush();
            }
            self.octets[self.len] = hex_digit(octet >> 4);
            self.octets[self.len + 1] = hex_digit(octet);
            self.len += 2;
        }
    }

    fn escaped(&mut self, text: &[u8]) {
        for &octet in text {
            match octet {
                b',' | b'&' | ..0x20 | 0x7f.. => {
                    let (high, low) = (hex_digit(octet >> 4), hex_digit(octet));
                    [b'&', b'#', b'x', high, low].into_iter().for_each(|octet| self.push(octet));
                }
                _ => self.push(octet),
            }
        }
    }
}

/// The decimal digits of 0 to 99: half as many divisions as with one digit at a time.
const TWO_DIGITS: [[u8; 2]; 100] = {
    let mut all = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        all[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    all
};

fn hex_digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value & 0x0f)]
}

fn parse_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for (index, &octet) in text.iter().enumerate() {
        let digit = u64::from(octet.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        // Nineteen digits fit, whatever they are.
        number = match index {
            ..19 => number * 10 + digit,
            _ => number.checked_mul(10)?.checked_add(digit)?,
        };
    }
    Some(number)
}

fn parse_u32(text: &[u8]) -> Option<u32> {
    parse_number(text)?.try_into().ok()
}

fn parse_flag(text: &[u8]) -> Result<bool, RowError> {
    match text {
        b"0" => Ok(false),
        b"1" => Ok(true),
        _ => Err(RowError::Flag),
    }
}

/// Four numbers of one to three digits, each at most 255.
fn parse_address(text: &[u8]) -> Option<u32> {
    let (mut address, mut part, mut digits, mut dots) = (0_u32, 0_u32, 0, 0);
    for &octet in text {
        let digit = octet.wrapping_sub(b'0');
        if digit <= 9 && digits < 3 {
            part = part * 10 + u32::from(digit);
            digits += 1;
        } else if octet == b'.' && digits > 0 && part <= 255 {
            address = address << 8 | part;
            (part, digits) = (0, 0);
            dots += 1;
        } else {
            return None;
        }
    }
    (dots == 3 && digits > 0 && part <= 255).then_some(address << 8 | part)
}

/// Value of each hex digit; for everything else more than 15.
const HEX_VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut octet = 0;
    while octet < values.len() {
        values[octet] = match octet as u8 {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'f' => digit - b'a' + 10,
            digit @ b'A'..=b'F' => digit - b'A' + 10,
            _ => u8::MAX,
        };
        octet += 1;
    }
    values
};

fn hex_value(digit: u8) -> Option<u8> {
    let value = HEX_VALUES[usize::from(digit)];
    (value < 16).then_some(value)
}

/// Octets of one or two hex digits, separated by colons; at most `MAX`.
fn parse_hex<const MAX: usize>(text: &[u8]) -> Option<SmallBytes> {
    let mut octets = [0; MAX];
    let mut count = 0;
    let mut rest = text;
    if text.is_empty() {
        return Some(SmallBytes::empty());
    }
    loop {
        let (octet, tail) = match rest {
            [high, low, tail @ ..] if *low != b':' => (hex_value(*high)? << 4 | hex_value(*low)?, tail),
            [digit, tail @ ..] => (hex_value(*digit)?, tail),
            [] => return None,
        };
        *octets.get_mut(count)? = octet;
        count += 1;
        match tail {
            [] => return Some(SmallBytes::new(&octets[..count])),
            [b':', next @ ..] => rest = next,
            _ => return None,
        }
    }
}

fn unescape_small(text: &[u8]) -> SmallBytes {
    if text.contains(&b'&') { SmallBytes::new(&unescape(text)) } else { SmallBytes::new(text) }
}

/// `&#x` and two hex digits are one octet; anything else is what it is (PST-4).
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match rest {
            [b'&', b'#', b'x', high, low, ..] => hex_value(*high).zip(hex_value(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &rest[5..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWELVE: Layout = Layout { known: 12, unknown: 0 };

    fn lease() -> Lease {
        Lease {
            address: [192, 0, 2, 9].into(),
            subnet_id: 3,
            pool_id: 4,
            hwaddr: SmallBytes::new(&[0x08, 0x00, 0x2b, 0x02, 0x3f, 0x4e]),
            client_id: SmallBytes::new(&[1, 0xab]),
            valid_lifetime: 3600,
            cltt: 1_700_000_000,
            state: LeaseState::Default,
            fqdn_fwd: true,
            fqdn_rev: false,
            hostname: SmallBytes::new(b"host.example.org."),
            user_context: Some(b"{ \"a\": 1, \"b\": \"&\" }"[..].into()),
        }
    }

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_have_the_bytes_kea_writes() {
        let plain = lease();
        let infinite = Lease { valid_lifetime: u32::MAX, user_context: None, ..lease() };
        let declined = Lease {
            state: LeaseState::Declined,
            hwaddr: SmallBytes::empty(),
            client_id: SmallBytes::empty(),
            user_context: None,
            hostname: SmallBytes::new(b"a,b&c\x07\x7f\xe9"),
            ..lease()
        };
        let released = Lease { state: LeaseState::Released, user_context: None, ..lease() };
        let head = "192.0.2.9,08:00:2b:02:3f:4e,01:ab";
        let context = r#"{ "a": 1&#x2c "b": "&#x26" }"#;
        for (written, expected) in [
            (
                text(|out| write_lease(out, &plain, Columns::Twelve)),
                format!("{head},3600,1700003600,3,1,0,host.example.org.,0,{context},4\n"),
            ),
            (
                text(|out| write_lease(out, &plain, Columns::Eleven)),
                format!("{head},3600,1700003600,3,1,0,host.example.org.,0,{context}\n"),
            ),
            (
                text(|out| write_deletion(out, &plain, Columns::Twelve)),
                format!("{head},0,1700000000,3,1,0,host.example.org.,0,{context},4\n"),
            ),
            (
                text(|out| write_lease(out, &infinite, Columns::Twelve)),
                format!("{head},4294967295,5994967295,3,1,0,host.example.org.,0,,4\n"),
            ),
            (
                text(|out| write_lease(out, &declined, Columns::Twelve)),
                "192.0.2.9,,,3600,1700003600,3,1,0,a&#x2cb&#x26c&#x07&#x7f&#xe9,1,,4\n".to_owned(),
            ),
            (
                text(|out| write_deletion(out, &released, Columns::Eleven)),
                format!("{head},0,1700000000,3,1,0,host.example.org.,0,\n"),
            ),
        ] {
            assert_eq!(written, expected);
        }
        assert_eq!(
            text(|out| write_header(out, Columns::Twelve)),
            "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,\
             user_context,pool_id\n"
        );
    }

    #[test]
    fn headers_of_every_version_are_known_and_others_refused() {
        let names: Vec<&str> = COLUMN_NAMES.iter().map(|name| std::str::from_utf8(name).unwrap()).collect();
        for (line, expected) in [
            (names[..9].join(","), Some((9, 0))),
            (names[..10].join(","), Some((10, 0))),
            (names[..11].join(","), Some((11, 0))),
            (names.join(","), Some((12, 0))),
            (names.join(",") + ",color,size", Some((12, 2))),
            (names[..8].join(","), None),
            (names[..11].join(",") + ",color", None),
            (names[..9].join(",") + ",user_context", None),
            (String::new(), None),
            ("192.0.2.1,,".to_owned(), None),
        ] {
            let expected = expected.map(|(known, unknown)| Layout { known, unknown }).ok_or(HeaderError);
            assert_eq!(parse_header(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn rows_of_every_version_are_read_and_bad_ones_named() {
        let layout = |known, unknown| Layout { known, unknown };
        for (layout, line, expected) in [
            (layout(9, 0), "192.0.2.1,1:A,,10,110,7,0,1,x", Ok((100, 0, false))),
            (layout(10, 0), "192.0.2.1,1:A,,10,110,7,0,1,x,2", Ok((100, 0, false))),
            (layout(11, 0), "192.0.2.1,,01:02,0,110,7,0,1,,0,", Ok((110, 0, true))),
            (layout(12, 0), "192.0.2.1,,01:02,0,110,7,0,1,,3,,9", Ok((110, 9, false))),
            (layout(12, 2), "192.0.2.1,01,,5,110,7,0,1,,0,,9,red,big", Ok((105, 9, false))),
            (layout(12, 2), "192.0.2.1,01,,5,110,7,0,1,,0,,9", Ok((105, 9, false))),
            (TWELVE, "192.0.2.1,,,5,110,7,0,1,,1,,9", Ok((105, 9, false))),
            (TWELVE, "192.0.2.1,,,5,110,7,0,1,,0,,9", Err(RowError::NoIdentity)),
            (TWELVE, "192.0.2.1,01,,5,110,7,0,1,,0,", Err(RowError::ColumnCount)),
            (TWELVE, "192.0.2.1,01,,5,110,7,0,1,,0,,9,", Err(RowError::ColumnCount)),
            (TWELVE, "192.0.2,01,,5,110,7,0,1,,0,,9", Err(RowError::Address)),
            (TWELVE, "192.0.2.1.1,01,,5,110,7,0,1,,0,,9", Err(RowError::Address)),
            (TWELVE, "192.0.2.256,01,,5,110,7,0,1,,0,,9", Err(RowError::Address)),
            (TWELVE, "192.0.2.,01,,5,110,7,0,1,,0,,9", Err(RowError::Address)),
            (TWELVE, "192.0.2.1,0g,,5,110,7,0,1,,0,,9", Err(RowError::HardwareAddress)),
            (TWELVE, "192.0.2.1,01:,,5,110,7,0,1,,0,,9", Err(RowError::HardwareAddress)),
            (TWELVE, "192.0.2.1,,012,5,110,7,0,1,,0,,9", Err(RowError::ClientId)),
            (TWELVE, "192.0.2.1,01,05,5,110,7,0,1,,0,,9", Err(RowError::ClientId)),
            (TWELVE, "192.0.2.1,01,,-5,110,7,0,1,,0,,9", Err(RowError::ValidLifetime)),
            (TWELVE, "192.0.2.1,01,,4294967296,110,7,0,1,,0,,9", Err(RowError::ValidLifetime)),
            (TWELVE, "192.0.2.1,01,,5,18446744073709551616,7,0,1,,0,,9", Err(RowError::Expire)),
            (TWELVE, "192.0.2.1,01,,5,4,7,0,1,,0,,9", Err(RowError::ExpireBeforeLifetime)),
            (TWELVE, "192.0.2.1,01,,5,110,,0,1,,0,,9", Err(RowError::SubnetId)),
            (TWELVE, "192.0.2.1,01,,5,110,7,2,1,,0,,9", Err(RowError::Flag)),
            (TWELVE, "192.0.2.1,01,,5,110,7,0,1,,4,,9", Err(RowError::State)),
            (TWELVE, "192.0.2.1,01,,5,110,7,0,1,,,,9", Err(RowError::State)),
            (TWELVE, "192.0.2.1,01,,5,110,7,0,1,,0,,x", Err(RowError::PoolId)),
        ] {
            let row = parse_row(line.as_bytes(), layout);
            assert_eq!(row.map(|row| (row.lease.cltt, row.lease.pool_id, row.deleted)), expected, "{line}");
        }
    }

    #[test]
    fn only_a_whole_escape_is_one() {
        for (escaped, plain) in [
            ("a&#x2cb&#x26c", "a,b&c"),
            ("&#x2", "&#x2"),
            ("&#xg0&#x41", "&#xg0A"),
            ("&&#x26#x2c", "&&#x2c"),
            ("&#X2c", "&#X2c"),
        ] {
            assert_eq!(unescape(escaped.as_bytes()), plain.as_bytes(), "{escaped}");
        }
    }

    pub fn any_lease() -> impl Strategy<Value = Lease> {
        let octets = |max| proptest::collection::vec(any::<u8>(), 0..=max);
        let numbers = (any::<u32>(), any::<u32>(), any::<u32>(), 0..=u64::from(u32::MAX) * 2);
        let lifetime = prop_oneof![1..100_000_u32, Just(u32::MAX)];
        let context = proptest::option::of(proptest::collection::vec(any::<u8>(), 1..60));
        (numbers, lifetime, octets(20), octets(255), octets(60), context, 0..4_u8, any::<[bool; 2]>())
            .prop_map(
                |(
                    (address, subnet_id, pool_id, cltt),
                    valid_lifetime,
                    hwaddr,
                    client_id,
                    hostname,
                    context,
                    state,
                    fqdn,
                )| {
                    let state = match state {
                        1 => LeaseState::Declined,
                        2 => LeaseState::ExpiredReclaimed,
                        3 => LeaseState::Released,
                        _ => LeaseState::Default,
                    };
                    // Nobody has an identifier of one octet (RFC 2132 section 9.14).
                    let client_id = if client_id.len() == 1 { Vec::new() } else { client_id };
                    let nameless = hwaddr.is_empty() && client_id.is_empty() && state != LeaseState::Declined;
                    Lease {
                        address: address.into(),
                        subnet_id,
                        pool_id,
                        hwaddr: SmallBytes::new(if nameless { &[1] } else { &hwaddr }),
                        client_id: SmallBytes::new(&client_id),
                        valid_lifetime: if state == LeaseState::Released { 0 } else { valid_lifetime },
                        cltt,
                        state,
                        fqdn_fwd: fqdn[0],
                        fqdn_rev: fqdn[1],
                        hostname: SmallBytes::new(&hostname),
                        user_context: context.map(Vec::into_boxed_slice),
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn a_written_row_is_read_back_to_the_same_lease(lease in any_lease()) {
            for (columns, known) in [(Columns::Eleven, 11), (Columns::Twelve, 12)] {
                let expected =
                    Lease { pool_id: if known == 12 { lease.pool_id } else { 0 }, ..lease.clone() };
                let mut line = Vec::new();
                write_lease(&mut line, &lease, columns);
                prop_assert_eq!(line.pop(), Some(b'\n'));
                prop_assert!(line.iter().all(|octet| (0x20..0x7f).contains(octet)));
                let row = parse_row(&line, Layout { known, unknown: 0 });
                prop_assert_eq!(row, Ok(Row { lease: expected, deleted: false }));

                line.clear();
                write_deletion(&mut line, &lease, columns);
                line.pop();
                let row = parse_row(&line, Layout { known, unknown: 0 });
                prop_assert_eq!(row.map(|row| (row.lease.address, row.deleted)), Ok((lease.address, true)));
            }
        }

        #[test]
        fn no_line_makes_the_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..200), known in 9..=12_usize) {
            let _ = parse_row(&line, Layout { known, unknown: 0 });
            let _ = parse_header(&line);
        }
    }
}
