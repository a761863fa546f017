//! Every key of both dialects (2.2 and 3.x): its type, range, default, and whether it is built.
//!
//! [`dhcp4`], [`agent`] and [`high_availability`] hold the tables, [`check`] compares a tree with them. A key
//! that is not built yet follows one rule. One that decides who gets which address or who may command is
//! [`Support::Refused`]: an error until it works. Any other is [`Support::Warned`]: one warning. Neither is
//! said of a key that is written with its default, for then nothing is missing.

pub mod agent;
mod check;
pub mod common;
pub mod dhcp4;
pub mod high_availability;
mod nearest;
pub mod subnet;

pub(crate) use check::{Wording, check};
pub use nearest::nearest_of;

/// What a value has to be.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// Anything: hook parameters, user contexts.
    Any,
    /// `true` or `false`.
    Bool,
    /// A number with a point or an exponent; its range is checked where it is read.
    Float,
    /// An integer from the first to the second number, both included.
    Integer(i64, i64),
    /// A list of such values.
    List(&'static Type),
    /// A map with these keys.
    Map(&'static Table),
    /// A list of maps with these keys.
    Maps(&'static Table),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A string.
    Text,
}

/// The default: written or not, the server does the same.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// A truth value.
    Bool(bool),
    /// An empty string, list or map.
    Empty,
    /// A number with a point.
    Float(f64),
    /// An integer.
    Integer(i64),
    /// Not written is different from every value.
    None,
    /// A string.
    Text(&'static str),
}

/// Whether a key is built.
#[derive(Clone, Copy, Debug)]
pub enum Support {
    /// It works.
    Built,
    /// It cannot have an effect here, in Kea neither; the text says why.
    Idle(&'static str),
    /// Works for some values, which the reader tells from those it refuses.
    Partly,
    /// Not built, and decides who gets which address or who may command; the text says what is missing.
    Refused(&'static str),
    /// Not built; the text says what happens instead.
    Warned(&'static str),
}

/// One key of a map.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key.
    pub key: &'static str,
    /// What its value has to be.
    pub kind: Type,
    /// Its default.
    pub default: Default,
    /// Whether it is built.
    pub support: Support,
}

/// A map: its keys and how they go together.
#[derive(Debug)]
pub struct Table {
    /// What errors call it: `Dhcp4`, `subnet4`.
    pub name: &'static str,
    /// Rows, in groups that tables share.
    pub groups: &'static [&'static [Row]],
    /// Keys that must be there.
    pub required: &'static [&'static str],
    /// Pairs of keys of which only one may be there: two spellings of one thing.
    pub exclusive: &'static [(&'static str, &'static str)],
    /// Whether the map needs at least one key.
    pub nonempty: bool,
}

impl Table {
    /// The row of `key`.
    pub fn row(&self, key: &str) -> Option<&'static Row> {
        self.rows().find(|row| row.key == key)
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> + use<> {
        self.groups.iter().flat_map(|group| group.iter())
    }
}

/// Largest value of the many 32-bit settings.
pub(crate) const U32: Type = Type::Integer(0, u32::MAX as i64);
/// Largest value of the many 16-bit settings.
pub(crate) const U16: Type = Type::Integer(0, u16::MAX as i64);
/// A list of strings.
pub(crate) const TEXTS: Type = Type::List(&Type::Text);

const fn built(key: &'static str, kind: Type, default: Default) -> Row {
    Row { key, kind, default, support: Support::Built }
}

const fn idle(key: &'static str, kind: Type, why: &'static str) -> Row {
    Row { key, kind, default: Default::None, support: Support::Idle(why) }
}

const fn partly(key: &'static str, kind: Type, default: Default) -> Row {
    Row { key, kind, default, support: Support::Partly }
}

const fn refused(key: &'static str, kind: Type, default: Default, why: &'static str) -> Row {
    Row { key, kind, default, support: Support::Refused(why) }
}

const fn warned(key: &'static str, kind: Type, default: Default, why: &'static str) -> Row {
    Row { key, kind, default, support: Support::Warned(why) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn visit(table: &'static Table, seen: &mut HashSet<&'static str>) {
        seen.insert(table.name);
        let mut keys = HashSet::new();
        for row in table.rows() {
            assert!(keys.insert(row.key), "{} twice in {}", row.key, table.name);
            visit_type(row.kind, seen);
        }
        for key in table.required {
            assert!(table.row(key).is_some(), "{key} is required in {} and has no row", table.name);
        }
        for (one, other) in table.exclusive {
            assert!(
                table.row(one).is_some() && table.row(other).is_some(),
                "{one}, {other} in {}",
                table.name
            );
        }
    }

    fn visit_type(kind: Type, seen: &mut HashSet<&'static str>) {
        match kind {
            Type::Map(table) | Type::Maps(table) => visit(table, seen),
            Type::List(item) => visit_type(*item, seen),
            _ => {}
        }
    }

    #[test]
    fn tables_name_each_key_once_and_rules_name_known_keys() {
        let mut seen = HashSet::new();
        visit(&dhcp4::DHCP4, &mut seen);
        visit(&agent::CONTROL_AGENT, &mut seen);
        visit(&high_availability::RELATIONSHIP, &mut seen);
        assert!(seen.len() > 25, "{seen:?}");
    }
}
