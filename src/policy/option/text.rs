//! Values of options from their text forms, and the check of octets given as hexadecimal digits (reference d.2).
//!
//! Pure functions over one option. Never looks at other options, spaces or scopes.

use std::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::{DataType, OptionDefinition, internal};

/// Why a text is not a value of the option's type.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum ValueError {
    /// No text where the type needs one.
    #[error("no option value specified")]
    Missing,
    /// A record got fewer values than it has fields.
    #[error("the record has {fields} fields and only {values} values are given")]
    FewerValuesThanFields {
        /// Fields of the record.
        fields: usize,
        /// Values in the text.
        values: usize,
    },
    /// One value is not of its type.
    #[error("'{value}' is not {expected}")]
    Malformed {
        /// The text of the value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A number outside the range of its type.
    #[error("{value} is out of range for {kind}, {min}..{max}")]
    OutOfRange {
        /// The number as written.
        value: String,
        /// Name of the type.
        kind: &'static str,
        /// Smallest number.
        min: i64,
        /// Largest number.
        max: i64,
    },
    /// Octets given as digits do not have a length the type allows.
    #[error("{len} octets do not make a value of this option, which takes {expected}")]
    Length {
        /// Octets given.
        len: usize,
        /// What would be right.
        expected: &'static str,
    },
}

/// Splits `text` at commas; `\,` is a comma inside a value. Spaces around values are dropped, empty values too
/// (OPT-10).
pub fn split_values(text: &str) -> Vec<String> {
    split_escaped(text, ',')
}

/// Splits at `separator`, which a backslash before it makes an ordinary character.
pub(super) fn split_escaped(text: &str, separator: char) -> Vec<String> {
    let mut values = Vec::new();
    let mut value = String::new();
    let mut rest = text.chars().peekable();
    while let Some(symbol) = rest.next() {
        if symbol == '\\' && rest.peek() == Some(&separator) {
            value.extend(rest.next());
        } else if symbol == separator {
            values.push(std::mem::take(&mut value));
        } else {
            value.push(symbol);
        }
    }
    values.push(value);
    let trimmed = |value: &String| value.trim_matches(|symbol: char| symbol.is_ascii_whitespace()).to_owned();
    values.iter().map(trimmed).filter(|value| !value.is_empty()).collect()
}

/// An encoded text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Encoded {
    /// Payload.
    pub octets: Vec<u8>,
    /// Values the option has no place for; Kea drops them in silence, here the caller warns.
    pub values_ignored: usize,
}

/// Octets of an option whose `data` is text by the rules of its definition (`csv-format` true).
///
/// # Errors
/// When the text does not fit the definition.
pub fn encode_text(definition: &OptionDefinition<'_>, data: &str) -> Result<Encoded, ValueError> {
    if definition.kind == DataType::Internal {
        return Ok(Encoded { octets: internal::encode(definition.code, data)?, values_ignored: 0 });
    }
    let values = split_values(data);
    let mut octets = Vec::new();
    let places = match (definition.kind, definition.array) {
        (DataType::Record, _) => definition.fields.len(),
        (DataType::Empty, _) if !values.is_empty() => {
            return Err(malformed(data, "empty, as the type of the option asks"));
        }
        (DataType::Empty, _) => 0,
        (_, _) if values.is_empty() => return Err(ValueError::Missing),
        (_, _) => 1,
    };
    // A text or octets at the end of a record may be absent; every other field must be there.
    let optional =
        usize::from(!definition.array && definition.fields.last().is_some_and(|last| last.is_open_ended()));
    if values.len() + optional < places {
        return Err(ValueError::FewerValuesThanFields { fields: places, values: values.len() });
    }
    let kinds = if definition.kind == DataType::Record { definition.fields } else { &[definition.kind] };
    let taken = if definition.array { values.len() } else { values.len().min(places) };
    let kinds = kinds.iter().chain(kinds.last().into_iter().cycle());
    for (value, kind) in values[..taken].iter().zip(kinds) {
        encode_value(*kind, value, &mut octets)?;
    }
    Ok(Encoded { octets, values_ignored: values.len() - taken })
}

fn encode_value(kind: DataType, value: &str, octets: &mut Vec<u8>) -> Result<(), ValueError> {
    match kind {
        DataType::Binary => octets.extend(hexadecimal(value)?),
        DataType::Boolean => octets.push(u8::from(boolean(value)?)),
        // Both are refused where definitions are made; as fields they have no octets of their own.
        DataType::Empty | DataType::Internal | DataType::Record => {}
        DataType::Fqdn => encode_domain_name(value, octets)?,
        DataType::Int8 => octets.push(integer(value, "int8", i8::MIN.into(), i8::MAX.into())? as u8),
        DataType::Int16 => {
            let number = integer(value, "int16", i16::MIN.into(), i16::MAX.into())? as u16;
            octets.extend(number.to_be_bytes());
        }
        DataType::Int32 => {
            let number = integer(value, "int32", i32::MIN.into(), i32::MAX.into())? as u32;
            octets.extend(number.to_be_bytes());
        }
        DataType::Ipv4Address => octets.extend(ipv4_address(value)?.octets()),
        DataType::Ipv6Address => {
            let address: Ipv6Addr = value.parse().map_err(|_| malformed(value, "an IPv6 address"))?;
            octets.extend(address.octets());
        }
        DataType::Ipv6Prefix => encode_ipv6_prefix(value, octets)?,
        DataType::LongTuple => {
            let text = text_octets(value);
            let len =
                u16::try_from(text.len()).map_err(|_| malformed(value, "a text of up to 65535 octets"))?;
            octets.extend(len.to_be_bytes());
            octets.extend(text);
        }
        DataType::Psid => encode_psid(value, octets)?,
        DataType::String => octets.extend(text_octets(value)),
        DataType::Tuple => {
            let text = text_octets(value);
            octets
                .push(u8::try_from(text.len()).map_err(|_| malformed(value, "a text of up to 255 octets"))?);
            octets.extend(text);
        }
        DataType::Uint8 => octets.push(integer(value, "uint8", 0, u8::MAX.into())? as u8),
        DataType::Uint16 => {
            octets.extend((integer(value, "uint16", 0, u16::MAX.into())? as u16).to_be_bytes());
        }
        DataType::Uint32 => {
            octets.extend((integer(value, "uint32", 0, u32::MAX.into())? as u32).to_be_bytes());
        }
    }
    Ok(())
}

pub(super) fn malformed(value: &str, expected: &'static str) -> ValueError {
    ValueError::Malformed { value: value.to_owned(), expected }
}

/// The octets of a text. Texts of a file are octet strings carried as characters U+0000 to U+00FF, one for each
/// octet; a character above, which no file yields, stands for its UTF-8 octets.
pub(super) fn text_octets(value: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(value.len());
    for symbol in value.chars() {
        match u8::try_from(u32::from(symbol)) {
            Ok(octet) => octets.push(octet),
            Err(_) => octets.extend(symbol.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    octets
}

pub(super) fn ipv4_address(value: &str) -> Result<Ipv4Addr, ValueError> {
    value.parse().map_err(|_| malformed(value, "an IPv4 address"))
}

fn boolean(value: &str) -> Result<bool, ValueError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(malformed(value, "true, false, 0 or 1")),
    }
}

/// A decimal number, or a hexadecimal one after `0x`.
fn integer(value: &str, kind: &'static str, min: i64, max: i64) -> Result<i64, ValueError> {
    let number = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with(['+', '-']) => i64::from_str_radix(digits, 16),
        _ => value.parse(),
    };
    let number = number.map_err(|_| malformed(value, "a whole number"))?;
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(ValueError::OutOfRange { value: value.to_owned(), kind, min, max })
    }
}

/// Appends `name` as labels without compression (RFC 1035 section 3.1); the last dot is optional.
pub(super) fn encode_domain_name(name: &str, octets: &mut Vec<u8>) -> Result<(), ValueError> {
    const EXPECTED: &str = "a domain name (labels of 1 to 63 octets, 255 together)";
    let start = octets.len();
    let labels = name.strip_suffix('.').unwrap_or(name);
    if !labels.is_empty() {
        for label in labels.split('.').map(text_octets) {
            let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len));
            octets.push(len.ok_or_else(|| malformed(name, EXPECTED))?);
            octets.extend(label);
        }
    }
    octets.push(0);
    if octets.len() - start > 255 || name.is_empty() {
        return Err(malformed(name, EXPECTED));
    }
    Ok(())
}

fn encode_ipv6_prefix(value: &str, octets: &mut Vec<u8>) -> Result<(), ValueError> {
    const EXPECTED: &str = "an IPv6 prefix such as 2001:db8::/32";
    let (address, len) = value.split_once('/').ok_or_else(|| malformed(value, EXPECTED))?;
    let address: Ipv6Addr = address.trim().parse().map_err(|_| malformed(value, EXPECTED))?;
    let len: u8 =
        len.trim().parse().ok().filter(|len| *len <= 128).ok_or_else(|| malformed(value, EXPECTED))?;
    let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
    let masked = (u128::from(address) & mask).to_be_bytes();
    octets.push(len);
    octets.extend(&masked[..usize::from(len).div_ceil(8)]);
    Ok(())
}

/// `value / length in bits`: the value stands in the high bits of its two octets (RFC 7618 section 9).
fn encode_psid(value: &str, octets: &mut Vec<u8>) -> Result<(), ValueError> {
    const EXPECTED: &str = "a PSID such as 3/4 (value/length, length 0..16, the value within it)";
    let (number, len) = value.split_once('/').ok_or_else(|| malformed(value, EXPECTED))?;
    let number: u16 = number.trim().parse().map_err(|_| malformed(value, EXPECTED))?;
    let len: u8 =
        len.trim().parse().ok().filter(|len| *len <= 16).ok_or_else(|| malformed(value, EXPECTED))?;
    if u32::from(number) >> len != 0 {
        return Err(malformed(value, EXPECTED));
    }
    let aligned = (u32::from(number) << (16 - len)) as u16;
    octets.push(len);
    octets.extend(aligned.to_be_bytes());
    Ok(())
}

/// Octets from digits as Kea writes them: `C0000201`, `c0:00:02:01`, `C0 00 02 01`, `0xC0000201` or `'text'`
/// (OPT-11). An odd number of digits gets a zero in front.
///
/// # Errors
/// When the text is none of these.
pub fn hexadecimal(text: &str) -> Result<Vec<u8>, ValueError> {
    const EXPECTED: &str = "a string of hexadecimal digits";
    let text = text.trim_ascii();
    if let Some(quoted) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return Ok(text_octets(quoted));
    }
    let separator = [':', ' '].into_iter().find(|separator| text.contains(*separator));
    if let Some(separator) = separator {
        return text
            .split(separator)
            .map(|group| match group.len() {
                1 | 2 if group.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                    u8::from_str_radix(group, 16).ok()
                }
                _ => None,
            })
            .collect::<Option<Vec<u8>>>()
            .ok_or_else(|| malformed(text, EXPECTED));
    }
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(malformed(text, EXPECTED));
    }
    let padded = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
    let nibble = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    Ok(padded
        .as_bytes()
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | nibble(*digit)))
        .collect())
}

/// Checks that `octets`, given as digits, can be a value of `definition`.
///
/// # Errors
/// When the length or an inner length cannot be right.
pub fn check_octets(definition: &OptionDefinition<'_>, octets: &[u8]) -> Result<(), ValueError> {
    let error = || ValueError::Length { len: octets.len(), expected: length_expected(definition) };
    let mut rest = octets;
    match (definition.kind, definition.array) {
        // Sub-options, or a format checked by nobody but the client.
        (DataType::Empty | DataType::Internal, _) => return Ok(()),
        (DataType::Record, array) => {
            for kind in definition.fields {
                rest = skip(*kind, rest).ok_or_else(error)?;
            }
            if let (true, Some(last)) = (array, definition.fields.last()) {
                while !rest.is_empty() {
                    rest = skip(*last, rest).ok_or_else(error)?;
                }
            }
        }
        (kind, true) => {
            while !rest.is_empty() || rest.len() == octets.len() {
                rest = skip(kind, rest).ok_or_else(error)?;
            }
        }
        (kind, false) => {
            rest = skip(kind, rest).ok_or_else(error)?;
            if definition.encapsulates.is_some() {
                return Ok(());
            }
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(error()) }
}

fn length_expected(definition: &OptionDefinition<'_>) -> &'static str {
    match (definition.kind.fixed_len(), definition.array) {
        (Some(1), false) => "1 octet",
        (Some(2), false) => "2 octets",
        (Some(4), false) => "4 octets",
        (Some(16), false) => "16 octets",
        (Some(1), true) => "1 octet or more",
        (Some(2), true) => "2 octets or a multiple of 2",
        (Some(4), true) => "4 octets or a multiple of 4",
        (Some(16), true) => "16 octets or a multiple of 16",
        _ => "what its type says",
    }
}

/// What is left of `octets` behind one value of `kind`; `None` when they do not hold one.
fn skip(kind: DataType, octets: &[u8]) -> Option<&[u8]> {
    if let Some(len) = kind.fixed_len() {
        return octets.get(len..);
    }
    match kind {
        DataType::Binary | DataType::String => octets.get(octets.len()..),
        DataType::Fqdn => skip_domain_name(octets),
        DataType::Ipv6Prefix => {
            let (len, rest) = octets.split_first()?;
            rest.get(usize::from(*len).div_ceil(8)..).filter(|_| *len <= 128)
        }
        DataType::LongTuple => {
            let (len, rest) = octets.split_first_chunk::<2>()?;
            rest.get(usize::from(u16::from_be_bytes(*len))..)
        }
        DataType::Tuple => {
            let (len, rest) = octets.split_first()?;
            rest.get(usize::from(*len)..)
        }
        // The remaining types have a fixed length or never stand inside an option.
        _ => None,
    }
}

/// A name ends with the root label or with a compression pointer (RFC 1035 section 4.1.4).
fn skip_domain_name(mut octets: &[u8]) -> Option<&[u8]> {
    loop {
        let (len, rest) = octets.split_first()?;
        octets = match len {
            0 => return Some(rest),
            1..=63 => rest.get(usize::from(*len)..)?,
            192..=255 => return rest.get(1..),
            64..=191 => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::table::standard;
    use super::*;

    fn definition(kind: DataType, array: bool) -> OptionDefinition<'static> {
        let fields = &[DataType::Uint8, DataType::Fqdn, DataType::Tuple, DataType::String];
        let fields: &[DataType] =
            if kind == DataType::Record { &fields[..if array { 3 } else { 4 }] } else { &[] };
        OptionDefinition {
            code: 200,
            name: "x",
            kind,
            fields,
            array,
            encapsulates: None,
            newer_than_22: false,
        }
    }

    const KINDS: [DataType; 18] = [
        DataType::Binary,
        DataType::Boolean,
        DataType::Empty,
        DataType::Fqdn,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Ipv4Address,
        DataType::Ipv6Address,
        DataType::Ipv6Prefix,
        DataType::LongTuple,
        DataType::Psid,
        DataType::Record,
        DataType::String,
        DataType::Tuple,
        DataType::Uint8,
        DataType::Uint16,
        DataType::Uint32,
    ];

    #[test]
    fn values_outside_their_type_are_refused() {
        let rows = [
            (DataType::Binary, "xyz"),
            (DataType::Binary, "c0:123"),
            (DataType::Binary, "0xé0"),
            (DataType::Boolean, "yes"),
            (DataType::Empty, "something"),
            (DataType::Fqdn, "a..b"),
            (DataType::Fqdn, &"a".repeat(64)),
            (DataType::Fqdn, &"abcdefg.".repeat(33)),
            (DataType::Int8, "-129"),
            (DataType::Int16, "32768"),
            (DataType::Int32, "2147483648"),
            (DataType::Ipv4Address, "192.0.2"),
            (DataType::Ipv6Address, "192.0.2.1"),
            (DataType::Ipv6Prefix, "2001:db8::"),
            (DataType::Ipv6Prefix, "2001:db8::/129"),
            (DataType::Psid, "16/4"),
            (DataType::Psid, "1/17"),
            (DataType::Psid, "1"),
            (DataType::String, ""),
            (DataType::Tuple, &"x".repeat(256)),
            (DataType::Uint8, "256"),
            (DataType::Uint8, "-1"),
            (DataType::Uint8, "0x-1"),
            (DataType::Uint16, "abc"),
            (DataType::Uint32, "4294967296"),
            (DataType::Record, "1, a.b"),
        ];
        for (kind, text) in rows {
            assert!(encode_text(&definition(kind, false), text).is_err(), "{kind:?} from {text:?}");
        }
    }

    #[test]
    fn values_without_a_place_are_counted_and_left_out() {
        let rows = [
            (DataType::Uint8, false, "1, 2, 3", "\u{1}", 2),
            (DataType::Uint8, true, "1, 2", "\u{1}\u{2}", 0),
            (DataType::String, false, "a\\,b, c", "a,b", 1),
            (DataType::String, false, "a\\b", "a\\b", 0),
            (DataType::String, false, "\u{e9}", "\u{e9}", 0),
            (DataType::Record, false, "1, ., x", "\u{1}\0\u{1}x", 0),
            (DataType::Record, false, "1, ., x, y, z", "\u{1}\0\u{1}xy", 1),
        ];
        for (kind, array, text, octets, ignored) in rows {
            let encoded = encode_text(&definition(kind, array), text).expect(text);
            assert_eq!((text_octets(octets), ignored), (encoded.octets, encoded.values_ignored), "{text}");
        }
    }

    #[test]
    fn digits_are_read_in_every_form_kea_writes() {
        for text in ["C0000201", "c0:00:02:01", "C0 00 02 01", "0xC0000201", "c0:0:2:1"] {
            assert_eq!(Ok(vec![192, 0, 2, 1]), hexadecimal(text), "{text}");
        }
        assert_eq!(Ok(b"text".to_vec()), hexadecimal("'text'"));
        assert_eq!(Ok(vec![1, 2, 3]), hexadecimal("10203"));
        assert_eq!(Ok(Vec::new()), hexadecimal(""));
    }

    #[test]
    fn octets_that_cannot_be_a_value_are_refused() {
        let rows: [(DataType, bool, &[u8], bool); 12] = [
            (DataType::Ipv4Address, true, &[1, 2, 3, 4, 5, 6, 7, 8], true),
            (DataType::Ipv4Address, true, &[1, 2, 3], false),
            (DataType::Ipv4Address, true, &[], false),
            (DataType::Uint8, false, &[1, 2], false),
            (DataType::Uint16, true, &[1, 2, 3], false),
            (DataType::Fqdn, false, &[1, b'a', 0], true),
            (DataType::Fqdn, false, &[1, b'a'], false),
            (DataType::Fqdn, true, &[1, b'a', 0, 192, 0], true),
            (DataType::Tuple, true, &[1, b'a', 2, b'b'], false),
            (DataType::Record, false, &[1, 0, 0], true),
            (DataType::Ipv6Prefix, false, &[129, 0], false),
            (DataType::Empty, false, &[1, 1, 1], true),
        ];
        for (kind, array, octets, sound) in rows {
            assert_eq!(sound, check_octets(&definition(kind, array), octets).is_ok(), "{kind:?} {octets:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_encodes_to_sound_octets_or_is_refused(
            text in "([0-9a-f.:/, \\\\|=-]|true|example|\\PC){0,24}",
            kind in prop::sample::select(&KINDS[..]),
            array in any::<bool>(),
        ) {
            let definition = definition(kind, array);
            if let Ok(encoded) = encode_text(&definition, &text) {
                prop_assert_eq!(Ok(()), check_octets(&definition, &encoded.octets));
            }
        }

        #[test]
        fn any_text_and_any_octets_pass_the_standard_definitions_without_panic(
            text in "([0-9a-f.:/, \\\\|=-]|alpn=|port=|\\PC){0,32}",
            octets in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            for definition in standard("dhcp4") {
                if let Ok(encoded) = encode_text(definition, &text) {
                    prop_assert_eq!(Ok(()), check_octets(definition, &encoded.octets));
                }
                let _ = check_octets(definition, &octets);
            }
        }
    }
}
