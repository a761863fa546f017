//! `option-def` and `option-data` as written; encoding is the compiler's business.

use crate::reader::Reader;
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
    /// `data`; its octets as written, empty by default.
    pub data: Located<Vec<u8>>,
    /// `csv-format`; where nothing is said the form follows from the definition (OPT-11).
    pub csv_format: Option<Located<bool>>,
    /// `always-send`.
    pub always_send: Located<bool>,
    /// `never-send`.
    pub never_send: Located<bool>,
    /// `user-context`.
    pub user_context: Option<Value>,
}

impl OptionDefinition {
    /// Reads the entries of `option-def`.
    pub(crate) fn read_all(reader: &mut Reader<'_, '_>) -> Vec<OptionDefinition> {
        let items = reader.items("option-def");
        items.iter().filter_map(|item| Self::read(&mut reader.inside(item))).collect()
    }

    fn read(reader: &mut Reader<'_, '_>) -> Option<OptionDefinition> {
        let record_types = reader.text("record-types", "");
        let words = record_types.split(',').map(str::trim).filter(|word| !word.is_empty());
        let record_types = Located {
            value: words.map(str::to_owned).collect(),
            position: record_types.position.clone(),
            written: record_types.written,
        };
        Some(OptionDefinition {
            position: reader.map.position.clone(),
            name: reader.required_text("name")?,
            code: reader.optional_number("code")?,
            kind: reader.required_text("type")?,
            array: reader.bool("array", false),
            record_types,
            space: reader.text("space", DHCP4_SPACE),
            encapsulate: reader.text("encapsulate", ""),
        })
    }
}

/// The space of the options that every DHCPv4 server knows.
pub const DHCP4_SPACE: &str = "dhcp4";

impl OptionData {
    /// Reads the entries of `option-data`.
    pub(crate) fn read_all(reader: &mut Reader<'_, '_>) -> Vec<OptionData> {
        let items = reader.items("option-data");
        items.iter().filter_map(|item| Self::read(&mut reader.inside(item))).collect()
    }

    fn read(reader: &mut Reader<'_, '_>) -> Option<OptionData> {
        let position = reader.map.position.clone();
        let name = reader.nonempty_text("name");
        let code = reader.optional_number("code");
        if name.is_none() && code.is_none() {
            let message =
                "option data configuration requires one of 'code' or 'name' parameters to be specified";
            reader.error(&position, "option-data", message);
            return None;
        }
        Some(OptionData {
            position,
            name,
            code,
            space: reader.text("space", DHCP4_SPACE),
            data: reader.nonempty_bytes("data").unwrap_or_else(|| reader.default(Vec::new())),
            csv_format: reader.optional_bool("csv-format"),
            always_send: reader.bool("always-send", false),
            never_send: reader.bool("never-send", false),
            user_context: reader.user_context(),
        })
    }
}
