//! Compares a tree with the tables.

use super::nearest::{home_of, nearest};
use super::{Default, Row, Support, Table, Type};
use crate::diagnostics::Diagnostics;
use crate::value::{Kind, Member, Position, Value};

/// Whose words errors are in, and what an unknown key is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wording {
    /// The file's grammar: an unknown key is an error.
    Grammar,
    /// The HA hook's parameters: an unknown key is a warning, for Kea accepts any.
    Hook,
}

/// What of the keys around has been said already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Said {
    Nothing,
    /// A map around is not built and was warned about: only refusals remain to be said.
    Warned,
    /// A map around is refused: nothing about building remains to be said.
    Refused,
}

/// Checks `value`, which must be a map, against `table`. False if the tree must not be read: a key is
/// unknown, missing or of the wrong type.
pub fn check(value: &Value, table: &'static Table, wording: Wording, diagnostics: &mut Diagnostics) -> bool {
    let mut checker = Checker { wording, root: table, diagnostics, sound: true };
    checker.map(value, table, Said::Nothing);
    checker.sound
}

struct Checker<'d> {
    wording: Wording,
    root: &'static Table,
    diagnostics: &'d mut Diagnostics,
    sound: bool,
}

impl Checker<'_> {
    fn map(&mut self, value: &Value, table: &Table, said: Said) {
        let Kind::Map(members) = &value.kind else {
            self.wrong_type(value, table.name, "{", table);
            return;
        };
        if members.is_empty() && table.nonempty {
            let message =
                format!("syntax error, unexpected }}, expecting a parameter of the {} map", table.name);
            self.fail(&value.position, table.name, message);
        }
        for member in members {
            match table.row(&member.key) {
                Some(row) => self.member(member, row, table, said),
                None => self.unknown(member, table),
            }
        }
        for key in table.required {
            if value.get(key).is_none() && !(members.is_empty() && table.nonempty) {
                let (line, column) = value.end;
                let message = format!(
                    "missing parameter '{key}' [{} map between {} and {line}.{column}]",
                    table.name, value.position
                );
                self.fail(&value.position, key, message);
            }
        }
        for (one, other) in table.exclusive {
            if let (Some(_), Some(second)) = (value.get(one), value.get(other)) {
                let message =
                    format!("\"{one}\" and \"{other}\" are mutually exclusive in the {} map", table.name);
                self.fail(&second.position, other, message);
            }
        }
    }

    fn member(&mut self, member: &Member, row: &Row, table: &Table, said: Said) {
        let inside = matches!(
            (row.kind, &member.value.kind),
            (Type::List(_) | Type::Maps(_), Kind::List(_)) | (Type::Map(_), Kind::Map(_))
        );
        if inside {
            let said_below = self.support(member, row, table, said);
            self.value(&member.value, row.kind, row.key, table, said_below);
            return;
        }
        // A value that cannot be right at all is not told from one that is right and not built.
        let before = std::mem::replace(&mut self.sound, true);
        self.value(&member.value, row.kind, row.key, table, said);
        if self.sound {
            self.support(member, row, table, said);
        }
        self.sound &= before;
    }

    /// Says what is not built about one key, unless it is written with its default.
    fn support(&mut self, member: &Member, row: &Row, table: &Table, said: Said) -> Said {
        if is_default(&member.value, row) {
            return said;
        }
        let (key, map) = (row.key, table.name);
        match row.support {
            Support::Refused(why) if said != Said::Refused => {
                let message = format!("\"{key}\" in the {map} map needs what is not built yet: {why}");
                self.diagnostics.error(&member.position, key, message);
                Said::Refused
            }
            Support::Warned(why) if said == Said::Nothing => {
                let message = format!("\"{key}\" in the {map} map has no effect: {why}");
                self.diagnostics.warn(&member.position, key, message);
                Said::Warned
            }
            _ => said,
        }
    }

    fn value(&mut self, value: &Value, kind: Type, key: &str, table: &Table, said: Said) {
        match (kind, &value.kind) {
            (Type::Any, _) | (Type::Bool, Kind::Bool(_)) | (Type::Float, Kind::Float(_)) => {}
            (Type::Text, Kind::String(_)) => {}
            (Type::Integer(min, max), Kind::Integer(number)) => self.range(value, key, *number, min, max),
            (Type::OneOf(words), Kind::String(bytes)) => {
                if !words.iter().any(|word| word.as_bytes() == bytes) {
                    let expected = words.join(" or ");
                    let found = String::from_utf8_lossy(bytes).into_owned();
                    let message =
                        format!("syntax error, unexpected \"{found}\", expecting {expected} for \"{key}\"");
                    self.fail(&value.position, key, message);
                }
            }
            (Type::List(item), Kind::List(items)) => {
                for entry in items {
                    self.value(entry, *item, key, table, said);
                }
            }
            (Type::Maps(inner), Kind::List(items)) => {
                for entry in items {
                    self.map(entry, inner, said);
                }
            }
            (Type::Map(inner), Kind::Map(_)) => self.map(value, inner, said),
            (Type::OneOf(words), _) => self.wrong_type(value, key, &words.join(" or "), table),
            (kind, _) => self.wrong_type(value, key, expected_token(kind), table),
        }
    }

    fn range(&mut self, value: &Value, key: &str, number: i64, min: i64, max: i64) {
        if (min..=max).contains(&number) {
            return;
        }
        let message = match self.wording {
            Wording::Grammar => {
                format!("{key} value: {number} is out of range, expected value: {min}..{max}")
            }
            Wording::Hook if number < 0 => format!("'{key}' must not be negative"),
            Wording::Hook => format!("'{key}' must not be greater than {max}"),
        };
        self.fail_semantic(&value.position, key, message);
    }

    fn wrong_type(&mut self, value: &Value, key: &str, expected: &str, table: &Table) {
        let found = value.token_name();
        match self.wording {
            Wording::Grammar => {
                let hint = match (&value.kind, expected) {
                    (Kind::Integer(number), "floating point") => format!("; write {number}.0"),
                    (Kind::String(_), "integer" | "boolean") => "; write it without quotes".to_owned(),
                    _ => String::new(),
                };
                let message = format!(
                    "syntax error, unexpected {found}, expecting {expected} for \"{key}\" in {} map{hint}",
                    table.name
                );
                self.fail(&value.position, key, message);
            }
            Wording::Hook => {
                let message = format!(
                    "invalid type specified for parameter '{key}': found {found}, expected {expected}"
                );
                self.fail_semantic(&value.position, key, message);
            }
        }
    }

    fn unknown(&mut self, member: &Member, table: &Table) {
        let Member { key, position, .. } = member;
        let shown: String = key.chars().take(80).collect();
        let hint = match (nearest(table, key), home_of(self.root, key)) {
            (Some(known), _) => format!(" Did you mean \"{known}\"?"),
            (None, Some(home)) => format!(" It belongs into the {} map.", home.name),
            (None, None) => String::new(),
        };
        match self.wording {
            Wording::Grammar => {
                let message = format!("got unexpected keyword \"{shown}\" in {} map.{hint}", table.name);
                self.fail(position, key, message);
            }
            Wording::Hook => {
                let message =
                    format!("unknown parameter \"{shown}\" in the {} map has no effect.{hint}", table.name);
                self.diagnostics.warn(position, key, message);
            }
        }
    }

    fn fail(&mut self, position: &Position, key: &str, message: String) {
        match self.wording {
            Wording::Grammar => {
                self.sound = false;
                self.diagnostics.syntax_error(position, key, message);
            }
            Wording::Hook => self.fail_semantic(position, key, message),
        }
    }

    fn fail_semantic(&mut self, position: &Position, key: &str, message: String) {
        self.sound = false;
        self.diagnostics.error(position, key, message);
    }
}

fn expected_token(kind: Type) -> &'static str {
    match kind {
        Type::Any => "a value",
        Type::Bool => "boolean",
        Type::Float => "floating point",
        Type::Integer(..) => "integer",
        Type::List(_) | Type::Maps(_) => "[",
        Type::Map(_) => "{",
        Type::OneOf(_) | Type::Text => "constant string",
    }
}

/// Whether `value` says what the server does anyway. A map does if every key in it does.
fn is_default(value: &Value, row: &Row) -> bool {
    if let (Type::Map(table), Kind::Map(members)) = (row.kind, &value.kind) {
        let harmless = |member: &Member| {
            table.row(&member.key).is_some_and(|row| match row.support {
                Support::Idle(_) => true,
                _ => {
                    is_default(&member.value, row)
                        || matches!(member.key.as_str(), "comment" | "user-context")
                }
            })
        };
        return matches!(row.default, Default::Empty) && members.iter().all(harmless);
    }
    match (row.default, &value.kind) {
        (Default::Bool(default), Kind::Bool(value)) => default == *value,
        (Default::Integer(default), Kind::Integer(value)) => default == *value,
        (Default::Float(default), Kind::Float(value)) => default == *value,
        (Default::Text(default), Kind::String(value)) => default.as_bytes() == value,
        (Default::Empty, Kind::String(value)) => value.is_empty(),
        (Default::Empty, Kind::List(value)) => value.is_empty(),
        (Default::Empty, Kind::Map(value)) => value.is_empty(),
        _ => false,
    }
}
