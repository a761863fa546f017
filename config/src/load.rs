//! From a file, a text or a tree to a document.

use std::io::ErrorKind;
use std::sync::Arc;

use crate::agent::ControlAgent;
use crate::diagnostics::{ConfigError, Diagnostic, Diagnostics};
use crate::document::Document;
use crate::json::{INPUT_OCTETS_MAX, Includes, Stop, parse, read_file};
use crate::schema::agent::CONTROL_AGENT;
use crate::schema::dhcp4::DHCP4;
use crate::schema::{Table, Wording, check};
use crate::value::{Kind, Position, Value};

/// A document and what there is to say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded<T> {
    /// The document.
    pub document: T,
    /// Warnings in the order they were found.
    pub warnings: Vec<Diagnostic>,
}

/// Loads a server's file; includes are opened relative to the working directory.
///
/// # Errors
///
/// Everything that is wrong with the file, the first error first; also keys that are not built yet and decide
/// who gets which address or who may command.
pub fn load_dhcp4(path: &str) -> Result<Loaded<Document>, ConfigError> {
    load(path, &DHCP4, |tree, diagnostics| Some(Document::read(tree, diagnostics)))
}

/// Loads a control agent's file, see [`load_dhcp4`].
///
/// # Errors
///
/// As [`load_dhcp4`].
pub fn load_control_agent(path: &str) -> Result<Loaded<ControlAgent>, ConfigError> {
    load(path, &CONTROL_AGENT, ControlAgent::read)
}

/// Reads a server's file from text; `name` stands for the file in messages. Includes are refused.
///
/// # Errors
///
/// As [`load_dhcp4`].
pub fn parse_dhcp4(text: &[u8], name: &str) -> Result<Loaded<Document>, ConfigError> {
    from_text(text, name, &DHCP4, |tree, diagnostics| Some(Document::read(tree, diagnostics)))
}

/// Reads a control agent's file from text; `name` stands for the file in messages. Includes are refused.
///
/// # Errors
///
/// As [`load_dhcp4`].
pub fn parse_control_agent(text: &[u8], name: &str) -> Result<Loaded<ControlAgent>, ConfigError> {
    from_text(text, name, &CONTROL_AGENT, ControlAgent::read)
}

/// Reads a server's configuration from a tree `{"Dhcp4": {…}}`, such as the arguments of config-test.
///
/// # Errors
///
/// As [`load_dhcp4`].
pub fn dhcp4_from_value(value: &Value) -> Result<Loaded<Document>, ConfigError> {
    let mut diagnostics = Diagnostics::default();
    let read = |tree: &Arc<Value>, diagnostics: &mut Diagnostics| Some(Document::read(tree, diagnostics));
    let document = from_tree(value.clone(), &DHCP4, &mut diagnostics, read);
    finish(document, value.position.clone(), diagnostics)
}

/// Reads the server's configuration among the arguments of the command `text`, so that places are lines and columns of
/// the command. Members beside `Dhcp4`, such as the `hash` that config-get adds, are left out.
///
/// # Errors
///
/// As [`load_dhcp4`].
pub fn dhcp4_from_command(text: &[u8], name: &str) -> Result<Loaded<Document>, ConfigError> {
    let command = parse_value(text, name)?.document;
    let Some(arguments) = command.get("arguments") else {
        return Err(ConfigError::new(command.position, "Missing mandatory 'arguments' parameter."));
    };
    let mut tree = arguments.clone();
    if let Kind::Map(members) = &mut tree.kind {
        members.retain(|member| member.key == "Dhcp4");
    }
    dhcp4_from_value(&tree)
}

/// Reads a server's configuration from JSON whose octets were mapped to characters, see
/// [`Value::from_json`]. Places are line 0 of `name`.
///
/// # Errors
///
/// As [`load_dhcp4`].
pub fn dhcp4_from_json(json: &serde_json::Value, name: &str) -> Result<Loaded<Document>, ConfigError> {
    dhcp4_from_value(&Value::from_json(json, name))
}

/// Reads a control agent's configuration from a tree `{"Control-agent": {…}}`.
///
/// # Errors
///
/// As [`load_dhcp4`].
pub fn control_agent_from_value(value: &Value) -> Result<Loaded<ControlAgent>, ConfigError> {
    let mut diagnostics = Diagnostics::default();
    let agent = from_tree(value.clone(), &CONTROL_AGENT, &mut diagnostics, ControlAgent::read);
    finish(agent, value.position.clone(), diagnostics)
}

/// Reads one map of the dialect, such as a command from a control channel. Includes are refused.
///
/// # Errors
///
/// Text that is not a map of the dialect.
pub fn parse_value(text: &[u8], name: &str) -> Result<Loaded<Value>, ConfigError> {
    let mut diagnostics = Diagnostics::default();
    let value = parse(text, name, Includes::Refused, &mut diagnostics);
    finish(value.ok(), Position::start_of(name), diagnostics)
}

/// Reads one map of the dialect from the text of a file, and what it includes: a tree whose places tell which
/// file each value stands in. For those who edit files; [`dhcp4_from_value`] goes on from there.
///
/// # Errors
///
/// Text that is not a map of the dialect, and includes that cannot be opened.
pub fn parse_value_of_file(text: &[u8], name: &str) -> Result<Loaded<Value>, ConfigError> {
    let mut diagnostics = Diagnostics::default();
    let value = parse(text, name, Includes::Files, &mut diagnostics);
    finish(value.ok(), Position::start_of(name), diagnostics)
}

type Read<T> = fn(&Arc<Value>, &mut Diagnostics) -> Option<T>;

fn load<T>(path: &str, table: &'static Table, read: Read<T>) -> Result<Loaded<T>, ConfigError> {
    let mut diagnostics = Diagnostics::default();
    let start = Position::start_of(path);
    let text = match read_file(path, INPUT_OCTETS_MAX) {
        Ok(text) => text,
        Err(error) => {
            let why = match error.kind() {
                ErrorKind::NotFound => "no such file".to_owned(),
                _ => error.to_string(),
            };
            diagnostics.syntax_error(&start, "", format!("Unable to open file {path}: {why}"));
            return finish(None, start, diagnostics);
        }
    };
    let Some(text) = text else {
        let message = format!("the file is larger than {} MiB", INPUT_OCTETS_MAX / (1024 * 1024));
        diagnostics.syntax_error(&start, "", message);
        return finish(None, start, diagnostics);
    };
    let document = match parse(&text, path, Includes::Files, &mut diagnostics) {
        Ok(value) => from_tree(value, table, &mut diagnostics, read),
        Err(Stop) => None,
    };
    finish(document, start, diagnostics)
}

fn from_text<T>(
    text: &[u8],
    name: &str,
    table: &'static Table,
    read: Read<T>,
) -> Result<Loaded<T>, ConfigError> {
    let mut diagnostics = Diagnostics::default();
    let document = match parse(text, name, Includes::Refused, &mut diagnostics) {
        Ok(value) => from_tree(value, table, &mut diagnostics, read),
        Err(Stop) => None,
    };
    finish(document, Position::start_of(name), diagnostics)
}

/// Checks the one map that a file holds (CFG-5) and reads it; `None` after an error.
fn from_tree<T>(
    value: Value,
    table: &'static Table,
    diagnostics: &mut Diagnostics,
    read: Read<T>,
) -> Option<T> {
    let mut tree = None;
    let found = value.token_name();
    let Kind::Map(members) = value.kind else {
        diagnostics.syntax_error(
            &value.position,
            "",
            format!("syntax error, unexpected {found}, expecting {{"),
        );
        return None;
    };
    let empty = members.is_empty();
    for member in members {
        if member.key == table.name {
            tree = Some(Arc::new(member.value));
            continue;
        }
        let shown: String = member.key.chars().take(80).collect();
        let message = format!(
            "got unexpected keyword \"{shown}\" in toplevel map: a file holds \"{}\" and no more",
            table.name
        );
        diagnostics.syntax_error(&member.position, &member.key, message);
    }
    let Some(tree) = tree else {
        if empty {
            let message = format!("syntax error, unexpected }}, expecting {}", table.name);
            diagnostics.syntax_error(&value.position, "", message);
        }
        return None;
    };
    let sound = check(&tree, table, Wording::Grammar, diagnostics);
    if sound { read(&tree, diagnostics) } else { None }
}

fn finish<T>(
    document: Option<T>,
    start: Position,
    diagnostics: Diagnostics,
) -> Result<Loaded<T>, ConfigError> {
    match (document, diagnostics.finish()) {
        (_, Err(error)) => Err(error),
        (Some(document), Ok(warnings)) => Ok(Loaded { document, warnings }),
        // Every reader that gives up says why; should one not, its silence must not look like success.
        (None, Ok(_)) => Err(ConfigError::new(start, "the configuration could not be read")),
    }
}
