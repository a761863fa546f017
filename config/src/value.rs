//! A parsed JSON value that knows where it stands.
//!
//! Strings are byte strings, as Kea's are: `\u00e9` is one octet. [`Value::to_json`] therefore maps each
//! octet to the character of the same number, which the control channel maps back when it writes.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A place in a configuration file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Position {
    /// File name as it was given, or `<wire>` for text from a control channel.
    pub file: Arc<str>,
    /// Line, from 1; 0 when the text was not at hand.
    pub line: u32,
    /// Column in octets, from 1; 0 when the text was not at hand.
    pub column: u32,
    /// Octets before this place in the file.
    pub byte: usize,
}

impl Position {
    /// The start of `file`.
    pub fn start_of(file: &str) -> Self {
        Self { file: Arc::from(file), line: 1, column: 1, byte: 0 }
    }

    /// A place in text that is not at hand: everything is at line 0.
    pub fn unknown(file: &str) -> Self {
        Self { file: Arc::from(file), line: 0, column: 0, byte: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}.{}", self.file, self.line, self.column)
    }
}

/// A setting and the place it was read from.
///
/// A setting that was not written has its default, and the place of the map that would hold it.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    /// The setting.
    pub value: T,
    /// Where it was written, or the start of the enclosing map.
    pub position: Position,
    /// Whether the file says it, as against a default.
    pub written: bool,
}

impl<T> Located<T> {
    /// A setting written at `position`.
    pub fn written(value: T, position: Position) -> Self {
        Self { value, position, written: true }
    }

    /// The default of a setting that the map at `position` does not hold.
    pub fn default_at(value: T, position: Position) -> Self {
        Self { value, position, written: false }
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A JSON value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Its first octet.
    pub position: Position,
    /// Line and column of its last octet, in the file of `position` unless an include ended in between.
    pub end: (u32, u32),
}

/// The kinds of value the dialect knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without point and exponent.
    Integer(i64),
    /// A number with a point or an exponent, always finite.
    Float(f64),
    /// A string of octets.
    String(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A map in file order, without duplicate keys.
    Map(Vec<Member>),
}

/// One entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub position: Position,
    /// Its value.
    pub value: Value,
}

impl Value {
    /// The member `key` of a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.members().iter().find(|member| member.key == key).map(|member| &member.value)
    }

    /// The members of a map; none for anything else.
    pub fn members(&self) -> &[Member] {
        match &self.kind {
            Kind::Map(members) => members,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub fn items(&self) -> &[Value] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// An integer.
    pub fn as_integer(&self) -> Option<i64> {
        match self.kind {
            Kind::Integer(value) => Some(value),
            _ => None,
        }
    }

    /// A number with a point.
    pub fn as_float(&self) -> Option<f64> {
        match self.kind {
            Kind::Float(value) => Some(value),
            _ => None,
        }
    }

    /// The octets of a string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::String(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A string that is valid UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// What Kea's grammar calls this value, for error texts.
    pub fn token_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "boolean",
            Kind::Integer(_) => "integer",
            Kind::Float(_) => "floating point",
            Kind::String(_) => "constant string",
            Kind::List(_) => "[",
            Kind::Map(_) => "{",
        }
    }

    /// The same value for `serde_json`; each octet of a string becomes the character of that number.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Null => serde_json::Value::Null,
            Kind::Bool(value) => serde_json::Value::Bool(*value),
            Kind::Integer(value) => serde_json::Value::from(*value),
            Kind::Float(value) => serde_json::Value::from(*value),
            Kind::String(bytes) => serde_json::Value::String(bytes_to_chars(bytes)),
            Kind::List(items) => serde_json::Value::Array(items.iter().map(Value::to_json).collect()),
            Kind::Map(members) => {
                let entries = members
                    .iter()
                    .map(|member| (bytes_to_chars(member.key.as_bytes()), member.value.to_json()));
                serde_json::Value::Object(entries.collect())
            }
        }
    }

    /// The inverse of [`Value::to_json`], for a document that came over a control channel and was parsed
    /// there. All places are line 0 of `name`. Characters above U+00FF, which the channel never yields,
    /// become their UTF-8 octets; numbers beyond 64 bits become floating point.
    pub fn from_json(json: &serde_json::Value, name: &str) -> Value {
        convert_json(json, &Position::unknown(name))
    }
}

fn convert_json(json: &serde_json::Value, position: &Position) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::Null,
        serde_json::Value::Bool(value) => Kind::Bool(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(value) => Kind::Integer(value),
            None => Kind::Float(number.as_f64().unwrap_or(f64::MAX)),
        },
        serde_json::Value::String(text) => Kind::String(chars_to_bytes(text)),
        serde_json::Value::Array(items) => {
            Kind::List(items.iter().map(|item| convert_json(item, position)).collect())
        }
        serde_json::Value::Object(entries) => {
            let members = entries.iter().map(|(key, value)| Member {
                key: String::from_utf8_lossy(&chars_to_bytes(key)).into_owned(),
                position: position.clone(),
                value: convert_json(value, position),
            });
            Kind::Map(members.collect())
        }
    };
    Value { kind, position: position.clone(), end: (0, 0) }
}

fn bytes_to_chars(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn chars_to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip_keeps_octets_and_numbers() {
        let position = Position::unknown("<wire>");
        let value = |kind| Value { kind, position: position.clone(), end: (0, 0) };
        let member =
            |key: &str, kind| Member { key: key.to_owned(), position: position.clone(), value: value(kind) };
        let tree = value(Kind::Map(vec![
            member("a", Kind::String(vec![0xe9, b'x', 0xc3, 0xa9])),
            member(
                "b",
                Kind::List(vec![value(Kind::Integer(-1)), value(Kind::Float(0.5)), value(Kind::Null)]),
            ),
            member("c", Kind::Bool(true)),
        ]));
        let json = tree.to_json();
        assert_eq!(json["a"].as_str(), Some("\u{e9}x\u{c3}\u{a9}"));
        assert_eq!(Value::from_json(&json, "<wire>"), tree);
    }
}
