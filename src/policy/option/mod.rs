//! DHCP options as an operator writes them: definitions, text forms, scopes.
//!
//! Owns the standard option table, custom definitions (`option-def`) and the way from `option-data` to payload
//! octets. Everything here runs once, at compile time of a configuration; the packet path sees only the finished
//! [`OptionSet`](super::OptionSet). Never reads the configuration document itself: callers hand in plain values.

pub mod definitions;
#[cfg(test)]
mod golden;
pub mod internal;
pub mod scope;
pub mod table;
pub mod text;

/// Space of the options of a DHCPv4 message.
pub const SPACE_DHCP4: &str = "dhcp4";
/// Space of the sub-options of option 43 when no other is defined (OPT-31).
pub const SPACE_VENDOR_ENCAPSULATED: &str = "vendor-encapsulated-options-space";
/// Prefix of the spaces of vendor-identifying options, followed by the enterprise number (OPT-32).
pub const SPACE_VENDOR_PREFIX: &str = "vendor-";

/// Type of an option or of a field of a record (reference d.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DataType {
    /// Any octets, written as hexadecimal digits.
    Binary,
    /// One octet, 0 or 1.
    Boolean,
    /// No data of its own; sub-options may follow.
    Empty,
    /// A domain name as uncompressed labels (RFC 1035 section 3.1).
    Fqdn,
    /// 8-bit signed integer.
    Int8,
    /// 16-bit signed integer.
    Int16,
    /// 32-bit signed integer.
    Int32,
    /// A format of its own, by code: 121 (RFC 3442) and 162 (RFC 9463).
    Internal,
    /// Four octets.
    Ipv4Address,
    /// Sixteen octets.
    Ipv6Address,
    /// Prefix length, then as many octets as the prefix needs.
    Ipv6Prefix,
    /// Text with a two-octet length in front (RFC 8572).
    LongTuple,
    /// Length in bits, then the value left-aligned in two octets (RFC 7618).
    Psid,
    /// Several fields.
    Record,
    /// Text without NUL.
    String,
    /// Text with a one-octet length in front.
    Tuple,
    /// 8-bit unsigned integer.
    Uint8,
    /// 16-bit unsigned integer.
    Uint16,
    /// 32-bit unsigned integer.
    Uint32,
}

impl DataType {
    /// The type Kea's configuration calls `name`; `None` when it knows no such type.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "binary" => Self::Binary,
            "boolean" => Self::Boolean,
            "empty" => Self::Empty,
            "fqdn" => Self::Fqdn,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "internal" => Self::Internal,
            "ipv4-address" => Self::Ipv4Address,
            "ipv6-address" => Self::Ipv6Address,
            "ipv6-prefix" => Self::Ipv6Prefix,
            "psid" => Self::Psid,
            "record" => Self::Record,
            "string" => Self::String,
            "tuple" => Self::Tuple,
            "uint8" => Self::Uint8,
            "uint16" => Self::Uint16,
            "uint32" => Self::Uint32,
            _ => return None,
        })
    }

    /// Octets of a value of this type, when that does not depend on the value.
    pub fn fixed_len(self) -> Option<usize> {
        match self {
            Self::Empty => Some(0),
            Self::Boolean | Self::Int8 | Self::Uint8 => Some(1),
            Self::Int16 | Self::Uint16 => Some(2),
            Self::Psid => Some(3),
            Self::Int32 | Self::Ipv4Address | Self::Uint32 => Some(4),
            Self::Ipv6Address => Some(16),
            Self::Binary
            | Self::Fqdn
            | Self::Internal
            | Self::Ipv6Prefix
            | Self::LongTuple
            | Self::Record
            | Self::String
            | Self::Tuple => None,
        }
    }

    /// Whether the value takes everything up to the end of the option, so that nothing can follow it.
    pub fn is_open_ended(self) -> bool {
        matches!(self, Self::Binary | Self::String)
    }
}

/// What is known of one option. Borrowed from the table or from a custom definition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OptionDefinition<'a> {
    /// Code within its space, 1..=254.
    pub code: u8,
    /// Name, unique within the space.
    pub name: &'a str,
    /// Type of the value.
    pub kind: DataType,
    /// Types of the fields of a record; empty for every other type.
    pub fields: &'a [DataType],
    /// Whether the value (of a record: its last field) repeats.
    pub array: bool,
    /// Space of the sub-options that follow the value.
    pub encapsulates: Option<&'a str>,
    /// Whether a file may define the option itself, because Kea 2.2 did not know it.
    pub newer_than_22: bool,
}
