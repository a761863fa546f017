//! Hardware addresses and client identifiers as text, in every form that Kea reads, and what it says of any other.
//!
//! A copy from a Kea brings a million of them, so the form that Kea writes is read without a detour: into an array on
//! the stack. Only what cannot be read so is looked at a second time, for the forms that people use and for the words.

use shards::SmallBytes;

use super::lease_rows::{CLIENT_ID_OCTETS, HWADDR_OCTETS_MAX};

/// `1:a:0B`: one or two digits between colons. Nothing is the hardware address of nobody.
///
/// # Errors
/// What is wrong with it, in Kea's words.
pub fn hwaddr(text: &str) -> Result<SmallBytes, String> {
    if text.is_empty() {
        return Ok(SmallBytes::empty());
    }
    let mut octets = [0; HWADDR_OCTETS_MAX];
    if let Some(octets) = separated_into(text, &mut octets) {
        return Ok(SmallBytes::new(octets));
    }
    // One that is separated well has too many octets.
    separated(text, ':').and(Err("address vector size exceeds MAX_HWADDR_LEN".into()))
}

/// The same, or digits between blanks, or digits without anything between them and perhaps `0x` before them.
///
/// # Errors
/// What is wrong with it, in Kea's words.
pub fn client_id(text: &str) -> Result<SmallBytes, String> {
    let mut octets = [0; *CLIENT_ID_OCTETS.end()];
    let read =
        if text.contains(':') { separated_into(text, &mut octets) } else { pairs_into(text, &mut octets) };
    let spelt;
    let octets = match read {
        Some(octets) => octets,
        None => {
            spelt = spelt_otherwise(text)?;
            &spelt
        }
    };
    let (least, most) = (CLIENT_ID_OCTETS.start(), CLIENT_ID_OCTETS.end());
    match octets.len() {
        0 => Err("Empty DUIDs are not allowed".into()),
        length if length < *least => {
            Err(format!("client-id is too short ({length}), at least {least} is required"))
        }
        length if length > *most => Err(format!("DUID size is {length} bytes, exceeds maximum of {most}")),
        _ => Ok(SmallBytes::new(octets)),
    }
}

/// A client identifier in any form but the usual ones, or one that is too long.
fn spelt_otherwise(text: &str) -> Result<Vec<u8>, String> {
    if let Some(separator) = [':', ' '].into_iter().find(|separator| text.contains(*separator)) {
        return separated(text, separator);
    }
    let digits = text.strip_prefix("0x").filter(|digits| !digits.is_empty()).unwrap_or(text);
    // The first of an odd number of digits is an octet of its own.
    let (first, rest) = digits.as_bytes().split_at(digits.len() % 2);
    let octets: Option<Vec<u8>> =
        [first].into_iter().chain(rest.chunks(2)).filter(|of| !of.is_empty()).map(octet).collect();
    octets.ok_or_else(|| format!("'{text}' is not a valid string of hexadecimal digits"))
}

/// One or two digits between any two separators.
fn separated(text: &str, separator: char) -> Result<Vec<u8>, String> {
    let part = |part: &str| match part.as_bytes() {
        [] => {
            Err(format!("two consecutive separators ('{separator}') specified in a decoded string '{text}'"))
        }
        [_] | [_, _] => octet(part.as_bytes()).ok_or_else(|| {
            let wrong = part.chars().find(|digit| !digit.is_ascii_hexdigit()).unwrap_or_default();
            format!("'{wrong}' is not a valid hexadecimal digit in decoded string '{text}'")
        }),
        _ => Err(format!("invalid format of the decoded string '{text}'")),
    };
    text.split(separator).map(part).collect()
}

/// Octets between colons into the front of `octets`; `None` also where they are too many.
fn separated_into<'a>(text: &str, octets: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut count = 0;
    for part in text.as_bytes().split(|octet| *octet == b':') {
        *octets.get_mut(count)? = octet(part)?;
        count += 1;
    }
    octets.get(..count)
}

/// `010b`, pairs without separators, into the front of `octets`; `None` also where they are too many.
fn pairs_into<'a>(text: &str, octets: &'a mut [u8]) -> Option<&'a [u8]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    for (index, pair) in pairs.iter().enumerate() {
        *octets.get_mut(index)? = octet(pair)?;
    }
    octets.get(..pairs.len())
}

/// Of one or two digits.
fn octet(digits: &[u8]) -> Option<u8> {
    match digits {
        [digit] => hex_digit(*digit),
        [high, low] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
        _ => None,
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read<'a> = Result<&'a [u8], String>;

    /// What a real Kea 2.2 made of each.
    #[test]
    fn every_form_is_read_as_kea_reads_it_and_every_other_refused_in_its_words() {
        const TWICE: &str = "two consecutive separators (':') specified in a decoded string";
        let long = ["01"; 21].join(":");
        let rows: &[(&str, Read<'_>, Read<'_>)] = &[
            ("1:a:0B", Ok(&[1, 10, 11]), Ok(&[1, 10, 11])),
            ("", Ok(&[]), Err("Empty DUIDs are not allowed".into())),
            ("01", Ok(&[1]), Err("client-id is too short (1), at least 2 is required".into())),
            ("0102", Err("invalid format of the decoded string '0102'".into()), Ok(&[1, 2])),
            ("102", Err("invalid format of the decoded string '102'".into()), Ok(&[1, 2])),
            ("0x0102", Err("invalid format of the decoded string '0x0102'".into()), Ok(&[1, 2])),
            ("01 2", Err("invalid format of the decoded string '01 2'".into()), Ok(&[1, 2])),
            (
                "0x",
                Err("'x' is not a valid hexadecimal digit in decoded string '0x'".into()),
                Err("'0x' is not a valid string of hexadecimal digits".into()),
            ),
            ("01::02", Err(format!("{TWICE} '01::02'")), Err(format!("{TWICE} '01::02'"))),
            (":1", Err(format!("{TWICE} ':1'")), Err(format!("{TWICE} ':1'"))),
            (
                "1:zz",
                Err("'z' is not a valid hexadecimal digit in decoded string '1:zz'".into()),
                Err("'z' is not a valid hexadecimal digit in decoded string '1:zz'".into()),
            ),
            (
                "1:020",
                Err("invalid format of the decoded string '1:020'".into()),
                Err("invalid format of the decoded string '1:020'".into()),
            ),
            (
                "ä",
                Err("'ä' is not a valid hexadecimal digit in decoded string 'ä'".into()),
                Err("'ä' is not a valid string of hexadecimal digits".into()),
            ),
            (&long, Err("address vector size exceeds MAX_HWADDR_LEN".into()), Ok(&[1; 21])),
        ];
        for (text, as_hwaddr, as_client_id) in rows {
            let owned = |octets: &Read<'_>| octets.clone().map(SmallBytes::new);
            assert_eq!(hwaddr(text), owned(as_hwaddr), "{text}");
            assert_eq!(client_id(text), owned(as_client_id), "{text}");
        }
        let longer = ["01"; 256].join(":");
        assert_eq!(client_id(&longer), Err("DUID size is 256 bytes, exceeds maximum of 255".into()));
    }
}
