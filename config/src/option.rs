//! `option-def` and `option-data` as written; encoding is the compiler's business.

use crate::value::{Located, Position, Value};

/// One entry of `option-def` (d.4).
#[derive(Clone, Debug, PartialEq)]
pub struct OptionDefinition {
    /// Where the entry starts.
    pub position: Position,
    /// `name`, not empty.
    pub name: Located<String>,
    /// `code`, 1..=254 in space `dhcp4`, 0..=255 in others.
    pub code: Located<u8>,
    /// `type`, such as `uint8` or `record`; not checked here.
    pub kind: Located<String>,
    /// `array`.
    pub array: Located<bool>,
    /// `record-types`, trimmed, in order; empty unless written.
    pub record_types: Located<Vec<String>>,
    /// `space`, `dhcp4` by default.
    pub space: Located<String>,
    /// `encapsulate`; empty means none.
    pub encapsulate: Located<String>,
}

/// One entry of `option-data` (d.5). At least one of `name` and `code` is there.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionData {
    /// Where the entry starts.
    pub position: Position,
    /// `name`.
    pub name: Option<Located<String>>,
    /// `code`.
    pub code: Option<Located<u8>>,
    /// `space`, `dhcp4` by default.
    pub space: Located<String>,
    /// `data`; its octets as written, empty by default. `None` in `csv_format` leaves the form to OPT-11.
    pub data: Located<Vec<u8>>,
    /// `csv-format`.
    pub csv_format: Option<Located<bool>>,
    /// `always-send`.
    pub always_send: Located<bool>,
    /// `never-send`.
    pub never_send: Located<bool>,
    /// `user-context`.
    pub user_context: Option<Value>,
}
