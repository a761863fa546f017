//! Custom option definitions (`option-def`) beside the standard ones.
//!
//! Owns the registry that answers "which definition has this code, or this name, in this space". A registry holds
//! sound definitions only: records have fields, nothing encapsulates itself, codes and names are unique in a space.

use std::collections::HashMap;

use config::schema::nearest_of;
use thiserror::Error;

use super::table::standard;
use super::{DataType, OptionDefinition, SPACE_DHCP4, SPACE_VENDOR_PREFIX};

/// One `option-def` entry as the file has it.
#[derive(Clone, Debug)]
pub struct DefinitionText<'a> {
    /// `name`.
    pub name: &'a str,
    /// `code`.
    pub code: u8,
    /// `type`.
    pub kind: &'a str,
    /// `array`.
    pub array: bool,
    /// `record-types`.
    pub record_types: Vec<&'a str>,
    /// `space`.
    pub space: &'a str,
    /// `encapsulate`.
    pub encapsulate: &'a str,
}

/// Why a definition is refused (reference d.4). The wording of the first ones is Kea's contract.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum DefinitionError {
    /// The standard has the code.
    #[error("unable to override definition of option '{code}' in standard option space '{space}'")]
    Standard {
        /// Code.
        code: u8,
        /// Space.
        space: String,
    },
    /// A type nobody knows.
    #[error(
        "option type 18 not supported. ('{kind}' is not one of binary, boolean, empty, fqdn, int8, int16, int32, \
             ipv4-address, ipv6-address, ipv6-prefix, psid, record, string, tuple, uint8, uint16, uint32)"
    )]
    UnknownType {
        /// The word in the file.
        kind: String,
    },
    /// 0 or 255 in the space of a message, where they are PAD and END.
    #[error("invalid option code '{code}': it must be within 1..254")]
    Code {
        /// The number in the file.
        code: u8,
    },
    /// Empty, or with characters other than letters, digits, `-` and `_`.
    #[error("invalid option name '{name}'")]
    Name {
        /// The name in the file.
        name: String,
    },
    /// Empty, or with a space or another character no space name has.
    #[error("invalid option space name '{space}'")]
    Space {
        /// The name in the file.
        space: String,
    },
    /// Fewer than two fields.
    #[error(
        "invalid number of data fields: {fields} specified for the option of type 'record'. Expected at least 2 \
             fields."
    )]
    RecordFields {
        /// Fields given.
        fields: usize,
    },
    /// A field type that does not exist or cannot stand in a record.
    #[error(
        "invalid record type values specified for the option definition: '{kind}' cannot be a field of a record"
    )]
    RecordField {
        /// The word in the file.
        kind: String,
    },
    /// Text or octets anywhere but at the end.
    #[error(
        "invalid record type values specified for the option definition: a field of type '{kind}' takes all that \
             follows and can only be the last one"
    )]
    RecordOrder {
        /// Type of the field.
        kind: String,
    },
    /// `record-types` without `type: record`.
    #[error(
        "invalid record type values specified for the option definition: they need the type 'record', not '{kind}'"
    )]
    RecordTypesWithoutRecord {
        /// The type given.
        kind: String,
    },
    /// Arrays of types whose values have no end.
    #[error("an array of type '{kind}' is not a valid option definition")]
    Array {
        /// Type of the value.
        kind: String,
    },
    /// `array` and `encapsulate` together.
    #[error(
        "option '{space}.{name}', comprising an array of data fields may not encapsulate any option space"
    )]
    ArrayEncapsulates {
        /// Space.
        space: String,
        /// Name.
        name: String,
    },
    /// `encapsulate` names the definition's own space.
    #[error("option must not encapsulate an option space it belongs to: '{space}.{name}'")]
    EncapsulatesItself {
        /// Space.
        space: String,
        /// Name.
        name: String,
    },
    /// The code is taken.
    #[error("option definition with code '{code}' already exists in option space '{space}'")]
    DuplicateCode {
        /// Code.
        code: u8,
        /// Space.
        space: String,
    },
    /// The name is taken.
    #[error("option definition with name '{name}' already exists in option space '{space}'")]
    DuplicateName {
        /// Name.
        name: String,
        /// Space.
        space: String,
    },
}

#[derive(Clone, Debug)]
struct Custom {
    code: u8,
    name: String,
    kind: DataType,
    fields: Vec<DataType>,
    array: bool,
    encapsulates: Option<String>,
}

impl Custom {
    fn view(&self) -> OptionDefinition<'_> {
        OptionDefinition {
            code: self.code,
            name: &self.name,
            kind: self.kind,
            fields: &self.fields,
            array: self.array,
            encapsulates: self.encapsulates.as_deref(),
            newer_than_22: false,
        }
    }
}

/// Standard and custom definitions, by space.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    custom: HashMap<String, Vec<Custom>>,
}

impl Definitions {
    /// The definition of `code` in `space`; a custom one stands before a standard one.
    pub fn by_code(&self, space: &str, code: u8) -> Option<OptionDefinition<'_>> {
        self.find(space, |definition| definition.code == code)
    }

    /// The definition called `name` in `space`.
    pub fn by_name(&self, space: &str, name: &str) -> Option<OptionDefinition<'_>> {
        self.find(space, |definition| definition.name == name)
    }

    /// The name in `space` that `name` was probably meant to be.
    pub fn nearest_name(&self, space: &str, name: &str) -> Option<&str> {
        let custom = self.custom.get(space).into_iter().flatten().map(|custom| custom.view().name);
        nearest_of(custom.chain(standard(space).iter().map(|definition| definition.name)), name)
    }

    fn find(
        &self,
        space: &str,
        wanted: impl Fn(&OptionDefinition<'_>) -> bool,
    ) -> Option<OptionDefinition<'_>> {
        let custom = self.custom.get(space).into_iter().flatten().map(Custom::view);
        custom.chain(standard(space).iter().copied()).find(wanted)
    }

    /// Takes a custom definition.
    ///
    /// # Errors
    /// When it is unsound or collides with one that exists.
    pub fn add(&mut self, text: &DefinitionText<'_>) -> Result<(), DefinitionError> {
        let space = text.space;
        if !is_space_name(space) {
            return Err(DefinitionError::Space { space: space.to_owned() });
        }
        let custom = sound(text)?;
        let taken = standard(space).iter().find(|known| known.code == custom.code);
        // What Kea 2.2 did not know, its files define themselves; 43 and 224..254 are meant to be redefined (OPT-30).
        let redefinable =
            |known: &OptionDefinition<'_>| known.newer_than_22 || (space == SPACE_DHCP4 && known.code == 43);
        if taken.is_some_and(|known| !redefinable(known)) {
            return Err(DefinitionError::Standard { code: custom.code, space: space.to_owned() });
        }
        let listed = self.custom.entry(space.to_owned()).or_default();
        if listed.iter().any(|known| known.code == custom.code) {
            return Err(DefinitionError::DuplicateCode { code: custom.code, space: space.to_owned() });
        }
        if listed.iter().any(|known| known.name == custom.name) {
            return Err(DefinitionError::DuplicateName { name: custom.name, space: space.to_owned() });
        }
        listed.push(custom);
        Ok(())
    }
}

/// The enterprise number of a space called `vendor-<number>`.
pub fn enterprise_of(space: &str) -> Option<u32> {
    let digits = space.strip_prefix(SPACE_VENDOR_PREFIX)?;
    if digits.starts_with('+') { None } else { digits.parse().ok() }
}

/// Letters, digits, `-`, `_` and `.`, neither first nor last a `-` or `_`.
pub fn is_space_name(space: &str) -> bool {
    let sound = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    !space.is_empty()
        && space.bytes().all(sound)
        && !space.starts_with(['-', '_'])
        && !space.ends_with(['-', '_'])
}

fn is_option_name(name: &str) -> bool {
    let sound = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
    !name.is_empty()
        && name.bytes().all(sound)
        && !name.starts_with(['-', '_'])
        && !name.ends_with(['-', '_'])
}

fn sound(text: &DefinitionText<'_>) -> Result<Custom, DefinitionError> {
    let (space, name) = (text.space.to_owned(), text.name.to_owned());
    let code = text.code;
    if space == SPACE_DHCP4 && !(1..=254).contains(&code) {
        return Err(DefinitionError::Code { code });
    }
    if !is_option_name(&name) {
        return Err(DefinitionError::Name { name });
    }
    let kind = DataType::from_name(text.kind).filter(|kind| *kind != DataType::Internal);
    let kind = kind.ok_or_else(|| DefinitionError::UnknownType { kind: text.kind.to_owned() })?;
    let fields = record_fields(text, kind)?;
    if text.array && (kind.is_open_ended() || kind == DataType::Empty) {
        return Err(DefinitionError::Array { kind: text.kind.to_owned() });
    }
    let encapsulates = Some(text.encapsulate).filter(|space| !space.is_empty()).map(str::to_owned);
    match &encapsulates {
        Some(_) if text.array => return Err(DefinitionError::ArrayEncapsulates { space, name }),
        Some(inner) if *inner == space => return Err(DefinitionError::EncapsulatesItself { space, name }),
        Some(inner) if !is_space_name(inner) => return Err(DefinitionError::Space { space: inner.clone() }),
        _ => {}
    }
    Ok(Custom { code, name, kind, fields, array: text.array, encapsulates })
}

fn record_fields(text: &DefinitionText<'_>, kind: DataType) -> Result<Vec<DataType>, DefinitionError> {
    let words = &text.record_types;
    if kind != DataType::Record {
        return match words.is_empty() {
            true => Ok(Vec::new()),
            false => Err(DefinitionError::RecordTypesWithoutRecord { kind: text.kind.to_owned() }),
        };
    }
    let mut fields = Vec::new();
    for word in words {
        let field = DataType::from_name(word);
        let field =
            field.filter(|field| !matches!(field, DataType::Empty | DataType::Internal | DataType::Record));
        fields.push(field.ok_or_else(|| DefinitionError::RecordField { kind: (*word).to_owned() })?);
    }
    if fields.len() < 2 {
        return Err(DefinitionError::RecordFields { fields: fields.len() });
    }
    let closed = if text.array { fields.len() } else { fields.len() - 1 };
    match fields[..closed].iter().position(|field| field.is_open_ended()) {
        Some(place) => Err(DefinitionError::RecordOrder { kind: words[place].to_owned() }),
        None => Ok(fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<'a>(name: &'a str, code: u8, kind: &'a str) -> DefinitionText<'a> {
        let record_types = Vec::new();
        DefinitionText { name, code, kind, array: false, record_types, space: "dhcp4", encapsulate: "" }
    }

    #[test]
    fn unsound_definitions_are_refused_with_the_words_of_the_contract() {
        let plain = || text("x", 225, "uint8");
        let record = |record_types| DefinitionText { kind: "record", record_types, ..plain() };
        let rows = [
            (
                text("x", 3, "string"),
                "unable to override definition of option '3' in standard option space 'dhcp4'",
            ),
            (text("x", 225, "foo"), "option type 18 not supported."),
            (text("x", 225, "internal"), "option type 18 not supported."),
            (text("x", 0, "uint8"), "invalid option code '0'"),
            (text("x", 255, "uint8"), "invalid option code '255'"),
            (text("x y", 225, "uint8"), "invalid option name 'x y'"),
            (text("", 225, "uint8"), "invalid option name ''"),
            (
                record(vec!["uint8"]),
                "invalid number of data fields: 1 specified for the option of type 'record'",
            ),
            (record(vec!["uint8", "foo"]), "invalid record type values specified"),
            (record(vec!["uint8", "record"]), "invalid record type values specified"),
            (record(vec!["string", "uint8"]), "invalid record type values specified"),
            (
                DefinitionText { record_types: vec!["uint8"], ..plain() },
                "invalid record type values specified",
            ),
            (
                DefinitionText { array: true, ..record(vec!["uint8", "string"]) },
                "invalid record type values specified",
            ),
            (DefinitionText { array: true, ..text("x", 225, "string") }, "an array of type 'string'"),
            (
                DefinitionText { array: true, encapsulate: "foo", ..plain() },
                "option 'dhcp4.x', comprising an array of data fields may not encapsulate any option space",
            ),
            (
                DefinitionText { encapsulate: "dhcp4", ..plain() },
                "option must not encapsulate an option space it belongs to",
            ),
            (DefinitionText { space: "bad space", ..plain() }, "invalid option space name 'bad space'"),
            (DefinitionText { space: "vendor-4491", code: 2, ..plain() }, "unable to override definition"),
        ];
        for (text, words) in rows {
            let error = Definitions::default().add(&text).expect_err(words).to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn code_and_name_are_unique_within_a_space() {
        let mut definitions = Definitions::default();
        definitions.add(&text("x", 225, "uint8")).expect("the first");
        let error = definitions.add(&text("y", 225, "uint8")).expect_err("the code is taken");
        assert_eq!(
            "option definition with code '225' already exists in option space 'dhcp4'",
            error.to_string()
        );
        let error = definitions.add(&text("x", 226, "uint8")).expect_err("the name is taken");
        assert_eq!(
            "option definition with name 'x' already exists in option space 'dhcp4'",
            error.to_string()
        );
        definitions
            .add(&DefinitionText { space: "other", ..text("x", 225, "uint8") })
            .expect("another space");
    }

    #[test]
    fn custom_definition_replaces_what_kea_2_2_does_not_know_and_option_43() {
        let mut definitions = Definitions::default();
        definitions.add(&text("my-routes", 121, "binary")).expect("121 is newer than 2.2");
        definitions
            .add(&DefinitionText { encapsulate: "339", ..text("vendor", 43, "empty") })
            .expect("43 is free");
        assert_eq!(Some("my-routes"), definitions.by_code("dhcp4", 121).map(|found| found.name));
        assert_eq!(Some(Some("339")), definitions.by_code("dhcp4", 43).map(|found| found.encapsulates));
    }
}
