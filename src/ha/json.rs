//! Kea's JSON dialect on the command channel (ha-protocol 2.10): strings are byte strings.
//!
//! Reading, each byte of the input becomes the character of the same number, so `é` in UTF-8 is the two
//! characters U+00C3 U+00A9, and so is `\u00c3\u00a9`; a character above U+00FF cannot be a byte and is an
//! error. Writing goes the other way: every byte outside printable ASCII is written as `\u00xx`. A `String`
//! inside a [`Value`] read here therefore holds one character per byte; [`bytes_of`] and [`text_of`] convert.

use serde_json::Value;

/// Why a text is not a command of this dialect.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
    /// `\u0100` or above.
    #[error("a character above \\u00ff is not a byte")]
    NotAByte,
}

/// Reads one JSON value.
pub fn decode(input: &[u8]) -> Result<Value, JsonError> {
    let value = if input.is_ascii() {
        serde_json::from_slice(input)?
    } else {
        let latin1: String = input.iter().map(|octet| char::from(*octet)).collect();
        serde_json::from_str(&latin1)?
    };
    if holds_only_bytes(&value) { Ok(value) } else { Err(JsonError::NotAByte) }
}

/// Writes `value` on one line as Kea lays it out.
pub fn encode(value: &Value, output: &mut Vec<u8>) {
    match value {
        Value::Null => output.extend_from_slice(b"null"),
        Value::Bool(true) => output.extend_from_slice(b"true"),
        Value::Bool(false) => output.extend_from_slice(b"false"),
        Value::Number(number) => output.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => encode_text(text, output),
        Value::Array(items) => {
            output.extend_from_slice(b"[ ");
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    output.extend_from_slice(b", ");
                }
                encode(item, output);
            }
            output.extend_from_slice(b" ]");
        }
        Value::Object(members) => {
            output.extend_from_slice(b"{ ");
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    output.extend_from_slice(b", ");
                }
                encode_text(name, output);
                output.extend_from_slice(b": ");
                encode(member, output);
            }
            output.extend_from_slice(b" }");
        }
    }
}

/// [`encode`] into a fresh buffer.
pub fn to_vec(value: &Value) -> Vec<u8> {
    let mut output = Vec::new();
    encode(value, &mut output);
    output
}

/// Writes `octets` as a quoted string.
pub fn encode_octets(octets: &[u8], output: &mut Vec<u8>) {
    output.push(b'"');
    for octet in octets {
        encode_octet(*octet, output);
    }
    output.push(b'"');
}

/// The bytes a decoded string stands for. Characters that are no bytes cannot come from [`decode`]; in text
/// made by this program they are taken as UTF-8.
pub fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(octet) => bytes.push(octet),
            Err(_) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The string that stands for `bytes` in a value to [`encode`].
pub fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| char::from(*octet)).collect()
}

fn encode_text(text: &str, output: &mut Vec<u8>) {
    output.push(b'"');
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(octet) => encode_octet(octet, output),
            Err(_) => {
                for octet in character.encode_utf8(&mut [0; 4]).bytes() {
                    encode_octet(octet, output);
                }
            }
        }
    }
    output.push(b'"');
}

fn encode_octet(octet: u8, output: &mut Vec<u8>) {
    match octet {
        b'"' => output.extend_from_slice(b"\\\""),
        b'\\' => output.extend_from_slice(b"\\\\"),
        0x08 => output.extend_from_slice(b"\\b"),
        0x0c => output.extend_from_slice(b"\\f"),
        b'\n' => output.extend_from_slice(b"\\n"),
        b'\r' => output.extend_from_slice(b"\\r"),
        b'\t' => output.extend_from_slice(b"\\t"),
        0x20..=0x7e => output.push(octet),
        _ => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            output.extend_from_slice(b"\\u00");
            output.push(DIGITS[usize::from(octet >> 4)]);
            output.push(DIGITS[usize::from(octet & 15)]);
        }
    }
}

/// Whether every character of `text` stands for a byte.
pub fn is_bytes(text: &str) -> bool {
    text.is_ascii() || text.chars().all(|character| u32::from(character) <= 0xff)
}

/// The same of every string in `value`.
pub fn holds_only_bytes(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => is_bytes(text),
        Value::Array(items) => items.iter().all(holds_only_bytes),
        Value::Object(members) => {
            members.iter().all(|(name, member)| is_bytes(name) && holds_only_bytes(member))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_byte_string_survives_raw_and_escaped() {
        for input in [&b"{\"h\": \"\xc3\xa9\\\"\"}"[..], b"{\"h\": \"\\u00c3\\u00a9\\\"\"}"] {
            let value = decode(input).unwrap();
            assert_eq!(bytes_of(value["h"].as_str().unwrap()), b"\xc3\xa9\"");
            assert_eq!(to_vec(&value), b"{ \"h\": \"\\u00c3\\u00a9\\\"\" }");
        }
    }

    #[test]
    fn what_kea_refuses_is_refused() {
        for input in [
            "",
            "{",
            "{} x",
            "{\"a\": 1,}",
            "[1] // no",
            "{\"a\": 01}",
            "\"\\u0100\"",
            "{\"\\u0100\": 1}",
            "[\"\\ud83d\\ude00\"]",
        ] {
            assert!(decode(input.as_bytes()).is_err(), "{input}");
        }
    }

    #[test]
    fn the_layout_is_kea_s() {
        let value = decode(br#"{"b":[],"a":{},"c":[1,true,null,"x"],"d":{"e":-1.5}}"#).unwrap();
        assert_eq!(
            String::from_utf8(to_vec(&value)).unwrap(),
            r#"{ "a": {  }, "b": [  ], "c": [ 1, true, null, "x" ], "d": { "e": -1.5 } }"#
        );
    }

    #[test]
    fn the_last_of_two_equal_keys_wins() {
        assert_eq!(decode(br#"{"a": 1, "a": 2}"#).unwrap()["a"], 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&input);
        }

        #[test]
        fn any_byte_string_comes_back(octets in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut text = Vec::new();
            encode_octets(&octets, &mut text);
            prop_assert!(text.iter().all(|octet| (0x20..0x7f).contains(octet)));
            let value = decode(&text).unwrap();
            prop_assert_eq!(bytes_of(value.as_str().unwrap()), octets.clone());
            prop_assert_eq!(to_vec(&Value::String(text_of(&octets))), text);
        }
    }
}
