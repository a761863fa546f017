//! `--write`: recommended values into a configuration, and nothing else of it changed.
//!
//! The new text is read again before the file is touched: it must hold what the old one held but for the
//! changes, and be a valid configuration. The file is replaced in one step and keeps its mode and owner.

mod edit;

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use config::{ConfigError, Value, dhcp4_from_value, parse_value_of_file};
use serde_json::Value as Json;

use crate::report::Durability;

pub use edit::Settings;
use edit::{Change, Fate, Plan};

/// What was done to a file; displays as a summary for people.
#[derive(Debug)]
pub struct Written {
    file: String,
    changes: Vec<Change>,
}

/// Makes `settings` the values of the configuration in `path`. Includes are opened relative to the working
/// directory, and never written.
///
/// # Errors
/// When the file cannot be read or replaced, or is not valid before or after the change. Then nothing is
/// written.
pub fn write(path: &Path, settings: &Settings) -> Result<Written> {
    let name = path.to_string_lossy().into_owned();
    // What a symbolic link leads to is replaced, not the link.
    let path = &path.canonicalize().with_context(|| format!("opening {name}"))?;
    let text = fs::read(path).with_context(|| format!("reading {name}"))?;
    let (edited, changes) = edited(&text, &name, settings)?;
    if edited != text {
        replace(path, &edited).with_context(|| format!("replacing {name}"))?;
    }
    Ok(Written { file: name, changes })
}

/// What of a configuration decides which measurements apply to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// What an ACK waits for: the value of `durability`, or its default.
    pub durability: Durability,
    /// Whether the server is one of a pair.
    pub pair: bool,
}

/// Looks at the configuration in `path`.
///
/// # Errors
/// When the file cannot be read or is not valid.
pub fn facts(path: &Path) -> Result<Facts> {
    let name = path.to_string_lossy();
    let document = config::load_dhcp4(&name).map_err(|error| as_it_stands(&name, &error))?.document;
    Ok(Facts {
        durability: (*document.tandem.durability).into(),
        pair: !document.hooks.high_availability.is_empty(),
    })
}

fn edited(text: &[u8], name: &str, settings: &Settings) -> Result<(Vec<u8>, Vec<Change>)> {
    let tree = tree_of(text, name).map_err(|error| as_it_stands(name, &error))?;
    let Plan { edits, changes } = edit::plan(text, &tree, settings);
    let edited = edit::apply(text, &edits);
    let after = tree_of(&edited, name).map_err(|error| {
        anyhow!("{name} would not be valid with the values of the report; nothing is written: {error}")
    })?;
    let mut expected = tree.to_json();
    let carried_out = changes.iter().filter(|change| !matches!(change.fate, Fate::Left(_)));
    for change in carried_out {
        set(&mut expected, change)?;
    }
    ensure!(
        after.to_json() == expected,
        "{name} is written in a way that cannot be edited; nothing is written"
    );
    Ok((edited, changes))
}

fn as_it_stands(name: &str, error: &ConfigError) -> anyhow::Error {
    anyhow!("{name} is not valid as it stands; nothing is written: {error}")
}

/// The tree of a valid configuration.
fn tree_of(text: &[u8], name: &str) -> Result<Value, ConfigError> {
    let tree = parse_value_of_file(text, name)?.document;
    dhcp4_from_value(&tree)?;
    Ok(tree)
}

/// Carries `change` out in a tree without places, by another way than the edit takes.
fn set(tree: &mut Json, change: &Change) -> Result<()> {
    let missing = || anyhow!("{} has no place in the file", change.path);
    let dhcp4 = tree.get_mut("Dhcp4").ok_or_else(missing)?;
    let (mut map, keys) = match change.path.strip_prefix(edit::PAIR) {
        None => (dhcp4, change.path.as_str()),
        Some(keys) => {
            let libraries = dhcp4.get_mut("hooks-libraries").and_then(Json::as_array_mut);
            let mut blocks = libraries.into_iter().flatten();
            let block = blocks.find_map(|library| library.pointer_mut("/parameters/high-availability/0"));
            (block.ok_or_else(missing)?, keys)
        }
    };
    let mut keys: Vec<&str> = keys.split('.').collect();
    let last = keys.pop().ok_or_else(missing)?;
    for key in keys {
        let members = map.as_object_mut().ok_or_else(missing)?;
        map = members.entry(key).or_insert_with(|| Json::Object(serde_json::Map::new()));
    }
    let members = map.as_object_mut().ok_or_else(missing)?;
    members.insert(last.to_owned(), serde_json::from_str(&change.to)?);
    Ok(())
}

fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let folder = path.parent().context("it lies in no folder")?;
    let old = fs::metadata(path)?;
    let mut next = tempfile::Builder::new().prefix(".tandem-bench-").tempfile_in(folder)?;
    next.write_all(text)?;
    let new = next.as_file().metadata()?;
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        fchown(next.as_file(), Some(old.uid()), Some(old.gid())).context("keeping the owner")?;
    }
    next.as_file().set_permissions(old.permissions())?;
    next.as_file().sync_all()?;
    next.persist(path)?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

impl fmt::Display for Written {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = |change: &&Change| matches!(change.fate, Fate::Added | Fate::Changed { .. });
        match self.changes.iter().filter(changed).count() {
            0 => writeln!(out, "{}: nothing to change", self.file)?,
            1 => writeln!(out, "{}: 1 value changed", self.file)?,
            count => writeln!(out, "{}: {count} values changed", self.file)?,
        }
        for Change { path, to, fate } in &self.changes {
            let key = path.rsplit('.').next().unwrap_or(path);
            match fate {
                Fate::Changed { line, from } => {
                    writeln!(out, "  {path}, line {line}")?;
                    writeln!(out, "    - \"{key}\": {from}\n    + \"{key}\": {to}")?;
                }
                Fate::Added => writeln!(out, "  {path}, new\n    + \"{key}\": {to}")?,
                Fate::Kept => writeln!(out, "  {path} is {to} already")?,
                Fate::Left(why) => writeln!(out, "  {path}: {to} is not written: {why}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
