//! The options of one scope (global, subnet, pool) from its `option-data` list.
//!
//! Resolves names to codes, texts to octets, and puts sub-options into their containers. Sub-options meet only
//! containers of the same scope (OPT-22). Never merges scopes: that is [`OptionSet::over`].

use std::borrow::Cow;
use std::collections::HashSet;

use thiserror::Error;

use super::definitions::{Definitions, enterprise_of, is_space_name};
use super::text::{ValueError, check_octets, encode_text, hexadecimal};
use super::{OptionDefinition, SPACE_DHCP4};
use crate::policy::option_set::{ConfiguredOption, OptionSet, VendorOptions};

/// One `option-data` entry as the file has it.
#[derive(Clone, Debug)]
pub struct OptionText<'a> {
    /// `name`.
    pub name: Option<&'a str>,
    /// `code`.
    pub code: Option<u8>,
    /// `space`.
    pub space: &'a str,
    /// `data`; each octet of the file as the character of that number.
    pub data: Cow<'a, str>,
    /// `csv-format`, when given.
    pub csv_format: Option<bool>,
    /// `always-send`.
    pub always_send: bool,
    /// `never-send`.
    pub never_send: bool,
}

/// Why an entry is refused. The wording of the known ones is Kea's contract (OPT-11, OPT-12).
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum OptionError {
    /// Neither name nor code.
    #[error("option data configuration requires one of 'code' or 'name' parameters to be specified")]
    Anonymous,
    /// Nothing is known about the option and something has to be.
    #[error("definition for the option '{space}.{name}' having code '{code}' does not exist{hint}")]
    Undefined {
        /// Space.
        space: String,
        /// Name, empty when not given.
        name: String,
        /// Code, 0 when not given.
        code: u8,
        /// The name that was probably meant, as a sentence; empty when there is none.
        hint: String,
    },
    /// 0 or 255 in the space of a message, where they are PAD and END.
    #[error("invalid option code '{code}', it must be within 1..254")]
    Code {
        /// The number in the file.
        code: u8,
    },
    /// Name and code belong to different options.
    #[error("specified option name '{name}' does not match the option definition: '{space}.{defined}'")]
    NameMismatch {
        /// The name in the file.
        name: String,
        /// Space.
        space: String,
        /// The name the code has.
        defined: String,
    },
    /// The space cannot exist.
    #[error("invalid option space name '{space}'")]
    Space {
        /// The name in the file.
        space: String,
    },
    /// Digits that are none.
    #[error("option data is not a valid string of hexadecimal digits: {data}")]
    Hexadecimal {
        /// The text in the file.
        data: String,
    },
    /// The value is not of the type.
    #[error("option data does not match option definition (space: {space}, code: {code}): {reason}")]
    Value {
        /// Space.
        space: String,
        /// Code.
        code: u8,
        /// What is wrong with the value.
        reason: ValueError,
    },
    /// Sub-options within sub-options without end, or more octets than a datagram has.
    #[error(
        "option {code} of space '{space}' with its sub-options is longer than {PAYLOAD_LEN_MAX} octets or nested \
             deeper than {NESTING_MAX}"
    )]
    TooLong {
        /// Space.
        space: String,
        /// Code.
        code: u8,
    },
}

/// Something accepted that does less than it seems to.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum OptionWarning {
    /// The server writes the option itself (OPT-3).
    #[error("option {code} is set by the server itself; its option-data is ignored")]
    OwnedByServer {
        /// Code.
        code: u8,
    },
    /// The option has no meaning in a reply (OPT-3).
    #[error("option {code} is only sent by clients; its option-data is ignored")]
    OnlyFromClients {
        /// Code.
        code: u8,
    },
    /// Listed before in the same scope.
    #[error("option {code} of space '{space}' is listed twice in one scope; only the first one is sent")]
    Repeated {
        /// Space.
        space: String,
        /// Code.
        code: u8,
    },
    /// No container of the scope carries the space.
    #[error(
        "option {code} of space '{space}' is never sent: no option of the same scope encapsulates that space"
    )]
    Unreachable {
        /// Space.
        space: String,
        /// Code.
        code: u8,
    },
    /// RFC 8925 asks for replies without an address, which are not built (PKT-93).
    #[error(
        "option 108 (v6-only-preferred) is sent with an address to clients that ask for it; replies without an \
             address (RFC 8925) are not supported yet"
    )]
    V6OnlyPreferred,
    /// More values than places.
    #[error(
        "option {code} of space '{space}': the last {values} values are ignored, the option has no place for them \
             (write \\\\, for a comma inside a value)"
    )]
    ValuesIgnored {
        /// Space.
        space: String,
        /// Code.
        code: u8,
        /// How many.
        values: usize,
    },
}

/// The options of a scope and what is to be said about them; numbers are places in the list.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The options, ready to merge.
    pub options: OptionSet,
    /// Warnings with the entries they are about.
    pub warnings: Vec<(usize, OptionWarning)>,
}

/// Depth of spaces within spaces. A space that encapsulates itself over a detour ends here.
const NESTING_MAX: usize = 8;
/// Octets of a composed option; no datagram carries more.
const PAYLOAD_LEN_MAX: usize = 65_535;

/// Options the server writes itself.
const OWNED_BY_SERVER: [u8; 4] = [53, 61, 82, 118];
/// Options that only a client sends.
const ONLY_FROM_CLIENTS: [u8; 4] = [50, 52, 55, 57];
/// Option of RFC 8925.
const V6_ONLY_PREFERRED: u8 = 108;

struct Resolved {
    index: usize,
    space: String,
    code: u8,
    encapsulates: Option<String>,
    octets: Vec<u8>,
    /// The value was text, so that the parts of a composite option are known.
    textual: bool,
    always_send: bool,
    never_send: bool,
}

/// Compiles the `option-data` list of a scope.
///
/// # Errors
/// The place in the list of the first entry that is wrong, and why.
pub fn compile_scope(
    list: &[OptionText<'_>],
    definitions: &Definitions,
) -> Result<Scope, (usize, OptionError)> {
    let mut warnings = Vec::new();
    let mut entries: Vec<Resolved> = Vec::new();
    for (index, text) in list.iter().enumerate() {
        let entry = resolve(index, text, definitions, &mut warnings).map_err(|error| (index, error))?;
        let (space, code) = (entry.space.clone(), entry.code);
        let known = entries.iter_mut().find(|known| known.code == code && known.space == space);
        match known {
            // One instance for each enterprise (OPT-13): 124 is a sequence of them, 125 is composed later.
            Some(known) if space == SPACE_DHCP4 && code == 124 => known.octets.extend(entry.octets),
            Some(_) if !(space == SPACE_DHCP4 && code == 125) => {
                warnings.push((index, OptionWarning::Repeated { space, code }));
            }
            _ => entries.push(entry),
        }
    }
    let mut reached: HashSet<String> = HashSet::new();
    let mut options = Vec::new();
    let mut vendors = Vec::new();
    for entry in entries.iter().filter(|entry| entry.space == SPACE_DHCP4) {
        match entry.octets.first_chunk() {
            Some(enterprise) if entry.code == 125 && entry.textual => vendors.push(VendorOptions {
                enterprise: u32::from_be_bytes(*enterprise),
                container: true,
                always_send: entry.always_send,
                never_send: entry.never_send,
                options: Vec::new(),
            }),
            _ => options.push(finished(entry, &entries, &mut reached, 0)?),
        }
    }
    for entry in &entries {
        if let Some(enterprise) = enterprise_of(&entry.space) {
            let option = finished(entry, &entries, &mut reached, 0)?;
            vendors.push(VendorOptions {
                enterprise,
                container: false,
                always_send: false,
                never_send: false,
                options: vec![option],
            });
        } else if entry.space != SPACE_DHCP4 && !reached.contains(&entry.space) {
            let (space, code) = (entry.space.clone(), entry.code);
            warnings.push((entry.index, OptionWarning::Unreachable { space, code }));
        }
    }
    options.retain(|option| {
        !OWNED_BY_SERVER.contains(&option.code) && !ONLY_FROM_CLIENTS.contains(&option.code)
    });
    Ok(Scope { options: OptionSet::new(options).with_vendors(vendors), warnings })
}

fn resolve(
    index: usize,
    text: &OptionText<'_>,
    definitions: &Definitions,
    warnings: &mut Vec<(usize, OptionWarning)>,
) -> Result<Resolved, OptionError> {
    let space = text.space.to_owned();
    if !is_space_name(&space) {
        return Err(OptionError::Space { space });
    }
    let name = text.name.filter(|name| !name.is_empty());
    let definition = match (text.code, name) {
        (None, None) => return Err(OptionError::Anonymous),
        (Some(code), _) => definitions.by_code(&space, code),
        (None, Some(name)) => definitions.by_name(&space, name),
    };
    if let (Some(name), Some(definition)) = (name, definition)
        && definition.name != name
    {
        let (name, defined) = (name.to_owned(), definition.name.to_owned());
        return Err(OptionError::NameMismatch { name, space, defined });
    }
    let code = match definition {
        Some(definition) => definition.code,
        None => code_without_definition(text, name, &space, definitions)?,
    };
    let value = |reason| OptionError::Value { space: space.clone(), code, reason };
    let textual = definition.is_some() && text.csv_format != Some(false);
    let octets = match definition.filter(|_| textual) {
        Some(definition) => {
            let encoded = encode_text(&definition, &text.data).map_err(value)?;
            if encoded.values_ignored > 0 {
                let (space, values) = (space.clone(), encoded.values_ignored);
                warnings.push((index, OptionWarning::ValuesIgnored { space, code, values }));
            }
            encoded.octets
        }
        None => from_digits(text, definition, &space, code)?,
    };
    if space == SPACE_DHCP4 && OWNED_BY_SERVER.contains(&code) {
        warnings.push((index, OptionWarning::OwnedByServer { code }));
    } else if space == SPACE_DHCP4 && ONLY_FROM_CLIENTS.contains(&code) {
        warnings.push((index, OptionWarning::OnlyFromClients { code }));
    } else if space == SPACE_DHCP4 && code == V6_ONLY_PREFERRED {
        warnings.push((index, OptionWarning::V6OnlyPreferred));
    }
    let encapsulates = definition.and_then(|definition| definition.encapsulates).map(str::to_owned);
    let (always_send, never_send) = (text.always_send, text.never_send);
    Ok(Resolved { index, space, code, encapsulates, octets, textual, always_send, never_send })
}

/// An option nobody defined can be given by code, as digits.
fn code_without_definition(
    text: &OptionText<'_>,
    name: Option<&str>,
    space: &str,
    definitions: &Definitions,
) -> Result<u8, OptionError> {
    let named_elsewhere = name.is_some_and(|name| definitions.by_name(space, name).is_some());
    let by_code_alone = text.csv_format != Some(true) && !named_elsewhere;
    let code = text.code.filter(|_| by_code_alone).ok_or_else(|| OptionError::Undefined {
        space: space.to_owned(),
        name: name.unwrap_or_default().to_owned(),
        code: text.code.unwrap_or(0),
        hint: name
            .filter(|_| !named_elsewhere)
            .and_then(|name| definitions.nearest_name(space, name))
            .map_or_else(String::new, |nearest| format!(". Did you mean \"{nearest}\"?")),
    })?;
    if space == SPACE_DHCP4 && !(1..=254).contains(&code) {
        return Err(OptionError::Code { code });
    }
    Ok(code)
}

fn from_digits(
    text: &OptionText<'_>,
    definition: Option<OptionDefinition<'_>>,
    space: &str,
    code: u8,
) -> Result<Vec<u8>, OptionError> {
    let octets = hexadecimal(&text.data)
        .map_err(|_| OptionError::Hexadecimal { data: text.data.clone().into_owned() })?;
    if let Some(definition) = definition {
        let space = space.to_owned();
        check_octets(&definition, &octets).map_err(|reason| OptionError::Value { space, code, reason })?;
    }
    Ok(octets)
}

/// The option with its sub-options behind its own octets.
fn finished(
    entry: &Resolved,
    entries: &[Resolved],
    reached: &mut HashSet<String>,
    depth: usize,
) -> Result<ConfiguredOption, (usize, OptionError)> {
    let mut payload = entry.octets.clone();
    if let Some(space) = &entry.encapsulates {
        reached.insert(space.clone());
        let mut inner: Vec<&Resolved> = entries.iter().filter(|other| other.space == *space).collect();
        inner.sort_by_key(|other| other.code);
        for other in inner.into_iter().filter(|other| !other.never_send) {
            if depth == NESTING_MAX || payload.len() > PAYLOAD_LEN_MAX {
                let (space, code) = (entry.space.clone(), entry.code);
                return Err((entry.index, OptionError::TooLong { space, code }));
            }
            let option = finished(other, entries, reached, depth + 1)?;
            append_sub_option(&mut payload, option.code, &option.payload);
        }
    }
    let (code, always_send, never_send) = (entry.code, entry.always_send, entry.never_send);
    Ok(ConfiguredOption { code, always_send, never_send, payload: payload.into() })
}

/// A sub-option longer than its length octet can say becomes several of the same code (PKT-41).
fn append_sub_option(payload: &mut Vec<u8>, code: u8, octets: &[u8]) {
    let pieces = octets.chunks(255);
    let empty = octets.is_empty().then_some(&[][..]);
    for piece in pieces.chain(empty) {
        // `chunks(255)` and the empty piece both fit the length octet.
        payload.extend([code, piece.len() as u8]);
        payload.extend(piece);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::definitions::DefinitionText;
    use super::*;

    fn named(name: &'static str, data: &'static str) -> OptionText<'static> {
        OptionText {
            name: Some(name),
            code: None,
            space: SPACE_DHCP4,
            data: Cow::Borrowed(data),
            csv_format: None,
            always_send: false,
            never_send: false,
        }
    }

    fn coded(code: u8, data: &'static str) -> OptionText<'static> {
        OptionText { name: None, code: Some(code), ..named("", data) }
    }

    #[test]
    fn wrong_entries_are_refused_with_the_words_of_the_contract() {
        let value =
            |code: u8| format!("option data does not match option definition (space: dhcp4, code: {code}): ");
        let rows = [
            (
                OptionText { name: None, ..named("", "1") },
                "option data configuration requires one of 'code' or 'name' parameters to be specified"
                    .to_owned(),
            ),
            (
                named("foo", "01"),
                "definition for the option 'dhcp4.foo' having code '0' does not exist".to_owned(),
            ),
            (
                named("router", "192.0.2.1"),
                "definition for the option 'dhcp4.router' having code '0' does not exist. \
                 Did you mean \"routers\"?"
                    .to_owned(),
            ),
            (
                OptionText { csv_format: Some(true), ..coded(250, "01") },
                "definition for the option 'dhcp4.' having code '250' does not exist".to_owned(),
            ),
            (
                OptionText { code: Some(3), ..named("foo", "192.0.2.1") },
                "specified option name 'foo' does not match the option definition: 'dhcp4.routers'"
                    .to_owned(),
            ),
            (
                OptionText { code: Some(250), ..named("routers", "C0000201") },
                "definition for the option 'dhcp4.routers' having code '250' does not exist".to_owned(),
            ),
            (coded(0, "01"), "invalid option code '0'".to_owned()),
            (coded(255, "01"), "invalid option code '255'".to_owned()),
            (coded(250, "xyz"), "option data is not a valid string of hexadecimal digits: xyz".to_owned()),
            (
                OptionText { csv_format: Some(false), ..named("routers", "192.0.2.1") },
                "option data is not a valid string of hexadecimal digits: 192.0.2.1".to_owned(),
            ),
            (OptionText { csv_format: Some(false), ..named("routers", "C00002") }, value(3)),
            (named("routers", "1.2.3.4, foo"), value(3)),
            (named("routers", ""), value(3)),
            (named("default-ip-ttl", "300"), value(23)),
            (named("client-ndi", "1, 2"), value(94)),
            (
                OptionText { space: "bad space", ..coded(1, "01") },
                "invalid option space name 'bad space'".to_owned(),
            ),
        ];
        for (entry, words) in rows {
            let (place, error) =
                compile_scope(&[coded(224, "00"), entry], &Definitions::default()).expect_err(&words);
            assert_eq!(1, place);
            assert!(error.to_string().starts_with(&words), "{error}");
        }
    }

    #[test]
    fn entries_without_effect_are_warned_about() {
        let list = [
            coded(53, "05"),
            coded(61, "0102"),
            named("dhcp-max-message-size", "1500"),
            named("routers", "192.0.2.1"),
            named("routers", "192.0.2.2"),
            OptionText { space: "docsis3-v4", ..coded(1, "20") },
            named("domain-name", "a, b"),
            named("v6-only-preferred", "1800"),
        ];
        let scope = compile_scope(&list, &Definitions::default()).expect("all accepted");
        let space = || SPACE_DHCP4.to_owned();
        let expected = vec![
            (0, OptionWarning::OwnedByServer { code: 53 }),
            (1, OptionWarning::OwnedByServer { code: 61 }),
            (2, OptionWarning::OnlyFromClients { code: 57 }),
            (4, OptionWarning::Repeated { space: space(), code: 3 }),
            (6, OptionWarning::ValuesIgnored { space: space(), code: 15, values: 1 }),
            (7, OptionWarning::V6OnlyPreferred),
            (5, OptionWarning::Unreachable { space: "docsis3-v4".to_owned(), code: 1 }),
        ];
        assert_eq!(expected, scope.warnings);
        let sent: Vec<(u8, &[u8])> =
            scope.options.iter().map(|option| (option.code, &*option.payload)).collect();
        assert_eq!(vec![(3, &[192, 0, 2, 1][..]), (15, &b"a"[..]), (108, &[0, 0, 7, 8][..])], sent);
    }

    #[test]
    fn spaces_that_encapsulate_each_other_are_an_error() {
        let mut definitions = Definitions::default();
        for (space, encapsulate) in [(SPACE_DHCP4, "a"), ("a", "b"), ("b", "a")] {
            let record_types = Vec::new();
            let (name, code, kind, array) = ("x", 224, "empty", false);
            let text = DefinitionText { name, code, kind, array, record_types, space, encapsulate };
            definitions.add(&text).expect("sound by itself");
        }
        let list = ["dhcp4", "a", "b"].map(|space| OptionText { space, ..coded(224, "") });
        assert!(matches!(compile_scope(&list, &definitions), Err((_, OptionError::TooLong { .. }))));
    }

    fn any_entry() -> impl Strategy<Value = OptionText<'static>> {
        let names = vec![None, Some("routers"), Some("x"), Some("domain-search"), Some("vivso-suboptions")];
        let spaces =
            vec!["dhcp4", "inside", "vendor-4491", "vendor-9", "vendor-encapsulated-options-space", "a b"];
        let name = prop::sample::select(names);
        let code = prop::option::of(any::<u8>());
        let space = prop::sample::select(spaces);
        let data = "([0-9a-fx.:/, \\\\|-]|example|true|\\PC){0,16}";
        (name, code, space, data, prop::option::of(any::<bool>()), any::<bool>(), any::<bool>()).prop_map(
            |(name, code, space, data, csv_format, always_send, never_send)| {
                let data = Cow::Owned(data);
                OptionText { name, code, space, data, csv_format, always_send, never_send }
            },
        )
    }

    proptest! {
        #[test]
        fn any_list_is_a_scope_or_an_error_at_one_of_its_entries(list in prop::collection::vec(any_entry(), 0..6)) {
            let mut definitions = Definitions::default();
            let (name, code, kind, array) = ("x", 224, "uint8", false);
            let record_types = Vec::new();
            let (space, encapsulate) = (SPACE_DHCP4, "inside");
            let text = DefinitionText { name, code, kind, array, record_types, space, encapsulate };
            definitions.add(&text).expect("sound");
            match compile_scope(&list, &definitions) {
                Ok(scope) => {
                    prop_assert!(scope.warnings.iter().all(|(place, _)| *place < list.len()));
                    for option in scope.options.iter() {
                        prop_assert!((1..=254).contains(&option.code));
                        prop_assert!(!OWNED_BY_SERVER.contains(&option.code));
                    }
                }
                Err((place, _)) => prop_assert!(place < list.len()),
            }
        }
    }
}
