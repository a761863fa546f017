//! From the text of a configuration and the values it shall have to the fewest octets that must change.
//!
//! Works on the places that crate `config` gives each value. Comments, order, blanks and includes stay as
//! they are: a value that is there is replaced octet for octet, and what is missing is put behind a
//! neighbour, in the neighbour's indentation. What stands in an included file is told and left alone.

use config::value::{Kind, Member, Value};

/// Indentation of one level where the file shows none.
const INDENT: &str = "    ";

/// Keys of `Dhcp4` that new ones are put behind, the first that there is.
const NEIGHBOURS: &[&str] = &["multi-threading", "interfaces-config", "lease-database"];

/// The block of both the server and the pair.
const BLOCK: &str = "multi-threading";

/// What makes the numbers beside it count.
const SWITCH: &str = "enable-multi-threading";

/// Begins the path of what belongs to the pair.
pub const PAIR: &str = "high-availability.";

/// What shall stand in a configuration; `None` leaves a value as it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// `thread-pool-size`.
    pub threads: Option<u16>,
    /// `packet-queue-size`.
    pub queue: Option<u32>,
    /// `http-listener-threads` of the pair.
    pub listeners: Option<u16>,
    /// `http-client-threads` of the pair.
    pub senders: Option<u16>,
    /// `parked-packet-limit`.
    pub parked: Option<u32>,
}

/// Octets `at..at + removed` of the text give way to `inserted`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Edit {
    /// First octet.
    pub at: usize,
    /// How many go.
    pub removed: usize,
    /// What comes.
    pub inserted: String,
}

/// What becomes of one value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Keys from `Dhcp4` to it, with points between them.
    pub path: String,
    /// What it shall be.
    pub to: String,
    /// What happens.
    pub fate: Fate,
}

/// What happens to a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is added; it was not written before.
    Added,
    /// It was something else.
    Changed {
        /// Line of the text, from 1.
        line: u32,
        /// What it was.
        from: String,
    },
    /// It is what it shall be.
    Kept,
    /// It cannot be written, for this reason.
    Left(String),
}

/// What to do to a text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// In order of place; they do not overlap.
    pub edits: Vec<Edit>,
    /// What they do, and what is not done.
    pub changes: Vec<Change>,
}

/// A value, or a map of such.
enum Wish {
    Map(Vec<(&'static str, Wish)>),
    Word(String),
}

/// Plans the changes of `text`, whose tree, includes opened, is `tree`.
pub fn plan(text: &[u8], tree: &Value, settings: &Settings) -> Plan {
    let mut editor = Editor { text, file: tree, plan: Plan::default() };
    let Some(dhcp4) = tree.get("Dhcp4") else { return editor.plan };
    editor.edit(dhcp4, "", wishes_of_server(dhcp4, settings));
    match relationship(dhcp4) {
        Some(block) => editor.edit(block, PAIR, wishes_of_pair(block, settings)),
        None => {
            let wishes = numbers_of_pair(settings).map(|numbers| (BLOCK, Wish::Map(numbers)));
            editor.leave(PAIR, wishes.into_iter().collect(), "the file has no high-availability block");
        }
    }
    let mut plan = editor.plan;
    plan.edits.sort_by_key(|edit| edit.at);
    plan
}

/// Carries out `edits`, which are in order.
pub fn apply(text: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut edited = Vec::with_capacity(text.len() + 512);
    let mut at = 0;
    for edit in edits {
        edited.extend_from_slice(&text[at..edit.at]);
        edited.extend_from_slice(edit.inserted.as_bytes());
        at = edit.at + edit.removed;
    }
    edited.extend_from_slice(&text[at..]);
    edited
}

fn wishes_of_server(dhcp4: &Value, settings: &Settings) -> Vec<(&'static str, Wish)> {
    let numbers: Vec<(&str, Wish)> = [
        settings.threads.map(|count| ("thread-pool-size", Wish::Word(count.to_string()))),
        settings.queue.map(|count| ("packet-queue-size", Wish::Word(count.to_string()))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let block = (!numbers.is_empty()).then(|| (BLOCK, with_switches(numbers, dhcp4.get(BLOCK), &[SWITCH])));
    let parked = settings.parked.map(|count| ("parked-packet-limit", Wish::Word(count.to_string())));
    block.into_iter().chain(parked).collect()
}

fn wishes_of_pair(relationship: &Value, settings: &Settings) -> Vec<(&'static str, Wish)> {
    let block = relationship.get(BLOCK);
    // Where it stands already, the second one is between its owner and Kea: Tandem always has such a
    // listener.
    let switches: &[_] = if block.is_none() { &[SWITCH, "http-dedicated-listener"] } else { &[SWITCH] };
    let numbers = numbers_of_pair(settings).into_iter();
    numbers.map(|numbers| (BLOCK, with_switches(numbers, block, switches))).collect()
}

fn numbers_of_pair(settings: &Settings) -> Option<Vec<(&'static str, Wish)>> {
    let numbers: Vec<(&str, Wish)> = [
        settings.listeners.map(|count| ("http-listener-threads", Wish::Word(count.to_string()))),
        settings.senders.map(|count| ("http-client-threads", Wish::Word(count.to_string()))),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!numbers.is_empty()).then_some(numbers)
}

/// `numbers` behind what turns them on: all of `switches` in a new block, and in one that exists those that
/// stand there, because on is the default.
fn with_switches(
    numbers: Vec<(&'static str, Wish)>,
    block: Option<&Value>,
    switches: &[&'static str],
) -> Wish {
    let wanted = switches.iter().filter(|key| block.is_none_or(|block| block.get(key).is_some()));
    Wish::Map(wanted.map(|key| (*key, Wish::Word("true".to_owned()))).chain(numbers).collect())
}

/// The one relationship of `libdhcp_ha.so`.
fn relationship(dhcp4: &Value) -> Option<&Value> {
    let libraries = dhcp4.get("hooks-libraries")?.items().iter();
    let blocks = libraries.filter_map(|library| library.get("parameters")?.get("high-availability"));
    blocks.filter_map(|list| list.items().first()).next()
}

struct Editor<'a> {
    text: &'a [u8],
    /// The whole tree: its place names the file that is edited.
    file: &'a Value,
    plan: Plan,
}

impl Editor<'_> {
    fn edit(&mut self, map: &Value, path: &str, wishes: Vec<(&'static str, Wish)>) {
        let mut missing = Vec::new();
        for (key, wish) in wishes {
            let inner = format!("{path}{key}");
            match (map.get(key), wish) {
                (None, wish) => missing.push((key, wish)),
                (Some(value), Wish::Map(wishes)) if matches!(value.kind, Kind::Map(_)) => {
                    self.edit(value, &format!("{inner}."), wishes);
                }
                (Some(value), Wish::Word(word)) => self.replace(value, inner, word),
                (Some(_), wish @ Wish::Map(_)) => self.leave(path, vec![(key, wish)], "it is no map"),
            }
        }
        if !missing.is_empty() {
            self.add(map, path, missing);
        }
    }

    fn is_here(&self, value: &Value) -> bool {
        value.position.file == self.file.position.file
    }

    fn replace(&mut self, value: &Value, path: String, to: String) {
        let from = value.to_json().to_string();
        let (at, line) = (value.position.byte, value.position.line);
        let removed = word_length(&self.text[at.min(self.text.len())..]);
        let fate = if from == to {
            Fate::Kept
        } else if !self.is_here(value) {
            Fate::Left(format!("it stands in an included file, {}, as {from}", value.position))
        } else if removed == 0 {
            Fate::Left("it is neither a number nor a truth value".to_owned())
        } else {
            self.plan.edits.push(Edit { at, removed, inserted: to.clone() });
            Fate::Changed { line, from }
        };
        self.plan.changes.push(Change { path, to, fate });
    }

    fn leave(&mut self, path: &str, wishes: Vec<(&'static str, Wish)>, why: &str) {
        for (path, to) in flat(path, &wishes) {
            self.plan.changes.push(Change { path, to, fate: Fate::Left(why.to_owned()) });
        }
    }

    /// Puts `missing` into `map`, behind one of its members or right after its brace.
    fn add(&mut self, map: &Value, path: &str, missing: Vec<(&'static str, Wish)>) {
        let place = match self.neighbour(map) {
            Some(member) => Some(self.behind(member, map)),
            None if self.is_here(map) => Some(self.behind_brace(map)),
            None => None,
        };
        let Some(place) = place else {
            let why = format!("the map they belong to stands in an included file, {}", map.position);
            return self.leave(path, missing, &why);
        };
        let members: Vec<String> = missing.iter().map(|(key, wish)| place.style.member(key, wish)).collect();
        let joined = members.join(&place.style.separator());
        self.plan.edits.extend(place.comma.map(|at| Edit { at, removed: 0, inserted: ",".to_owned() }));
        let inserted = format!("{}{joined}{}", place.before, place.after);
        self.plan.edits.push(Edit { at: place.at, removed: 0, inserted });
        for (path, to) in flat(path, &missing) {
            self.plan.changes.push(Change { path, to, fate: Fate::Added });
        }
    }

    /// The member of `map` that new ones are put behind, if it stands in this file from its key to its end.
    fn neighbour<'v>(&self, map: &'v Value) -> Option<&'v Member> {
        let whole = |member: &&Member| {
            member.position.file == self.file.position.file
                && self.is_here(&member.value)
                && self.end_of(&member.value).is_some()
        };
        let preferred =
            NEIGHBOURS.iter().filter_map(|key| map.members().iter().find(|member| member.key == *key));
        preferred.chain(map.members().last()).chain(map.members().iter().rev()).find(whole)
    }

    /// The octet after `value`; `None` if what stands there cannot be its end, as when an include ends in it.
    fn end_of(&self, value: &Value) -> Option<usize> {
        let (line, column) = value.end;
        let starts = self.text.split_inclusive(|octet| *octet == b'\n').take(line.checked_sub(1)? as usize);
        let at = starts.map(<[u8]>::len).sum::<usize>() + column as usize;
        let last = *self.text.get(at.checked_sub(1)?)?;
        let fits = match value.kind {
            Kind::Map(_) => last == b'}',
            Kind::List(_) => last == b']',
            Kind::String(_) => last == b'"',
            _ => last.is_ascii_alphanumeric() || last == b'.',
        };
        (fits && at > value.position.byte).then_some(at)
    }

    fn behind(&self, member: &Member, map: &Value) -> Place {
        // The neighbour was chosen because it has an end.
        let end = self.end_of(&member.value).unwrap_or(self.text.len());
        let indent = self.indent_before(member.position.byte);
        let rest = rest_of_line(&self.text[end..]);
        let (Some(indent), Some(rest)) = (indent, rest) else {
            return Place {
                comma: None,
                at: end,
                before: ", ".into(),
                after: String::new(),
                style: Style::Inline,
            };
        };
        let outer = self.indent_of_line(map.position.byte);
        let unit = indent.strip_prefix(outer.as_str()).filter(|unit| !unit.is_empty()).unwrap_or(INDENT);
        let style = Style::Lines { newline: rest.newline, unit: unit.to_owned(), indent: indent.clone() };
        Place {
            comma: (!rest.comma).then_some(end),
            at: end + rest.length,
            before: format!("{}{indent}", rest.newline),
            after: if rest.comma { ",".into() } else { String::new() },
            style,
        }
    }

    /// The begin of a map that is empty, or whose members stand in included files.
    fn behind_brace(&self, map: &Value) -> Place {
        let at = map.position.byte + 1;
        let comma = if map.members().is_empty() { "" } else { "," };
        let Some(rest) = rest_of_line(&self.text[at..]).filter(|rest| !rest.comma) else {
            let (before, after) = (" ".into(), format!("{comma} "));
            return Place { comma: None, at, before, after, style: Style::Inline };
        };
        let outer = self.indent_of_line(map.position.byte);
        let indent = format!("{outer}{INDENT}");
        let style = Style::Lines { newline: rest.newline, unit: INDENT.to_owned(), indent: indent.clone() };
        let before = format!("{}{indent}", rest.newline);
        Place { comma: None, at: at + rest.length, before, after: comma.to_owned(), style }
    }

    /// The blanks before `at`, if nothing else stands before it on its line.
    fn indent_before(&self, at: usize) -> Option<String> {
        let start =
            self.text[..at].iter().rposition(|octet| *octet == b'\n').map_or(0, |newline| newline + 1);
        let before = std::str::from_utf8(&self.text[start..at]).ok()?;
        before.chars().all(|character| matches!(character, ' ' | '\t')).then(|| before.to_owned())
    }

    /// The blanks that the line of `at` begins with.
    fn indent_of_line(&self, at: usize) -> String {
        let start =
            self.text[..at].iter().rposition(|octet| *octet == b'\n').map_or(0, |newline| newline + 1);
        let blanks = self.text[start..at].iter().take_while(|octet| matches!(octet, b' ' | b'\t'));
        blanks.map(|octet| char::from(*octet)).collect()
    }
}

/// Where new members go, and what surrounds them.
struct Place {
    /// Where a comma is wanted before, if not at [`Self::at`].
    comma: Option<usize>,
    at: usize,
    before: String,
    after: String,
    style: Style,
}

enum Style {
    Inline,
    Lines { newline: &'static str, unit: String, indent: String },
}

impl Style {
    fn separator(&self) -> String {
        match self {
            Self::Inline => ", ".to_owned(),
            Self::Lines { newline, indent, .. } => format!(",{newline}{indent}"),
        }
    }

    fn member(&self, key: &str, wish: &Wish) -> String {
        let wishes = match wish {
            Wish::Word(word) => return format!("\"{key}\": {word}"),
            Wish::Map(wishes) => wishes,
        };
        match self {
            Self::Inline => {
                let members: Vec<String> = wishes.iter().map(|(key, wish)| self.member(key, wish)).collect();
                format!("\"{key}\": {{ {} }}", members.join(", "))
            }
            Self::Lines { newline, unit, indent } => {
                let inner = Self::Lines { newline, unit: unit.clone(), indent: format!("{indent}{unit}") };
                let members: Vec<String> = wishes.iter().map(|(key, wish)| inner.member(key, wish)).collect();
                let joined = members.join(&inner.separator());
                format!("\"{key}\": {{{newline}{indent}{unit}{joined}{newline}{indent}}}")
            }
        }
    }
}

/// What follows a value on its line, when that is nothing but blanks, comments and one comma.
struct RestOfLine {
    comma: bool,
    /// Octets up to the end of the line.
    length: usize,
    newline: &'static str,
}

fn rest_of_line(text: &[u8]) -> Option<RestOfLine> {
    let (mut at, mut comma) = (0, false);
    loop {
        match (text.get(at)?, text.get(at + 1)) {
            (b'\n', _) => return Some(RestOfLine { comma, length: at, newline: "\n" }),
            (b'\r', Some(b'\n')) => return Some(RestOfLine { comma, length: at, newline: "\r\n" }),
            (b' ' | b'\t', _) => at += 1,
            (b',', _) if !comma => {
                comma = true;
                at += 1;
            }
            (b'#', _) | (b'/', Some(b'/')) => {
                at += text[at..].iter().position(|octet| *octet == b'\n')?;
                at -= usize::from(text[at - 1] == b'\r');
            }
            (b'/', Some(b'*')) => {
                let length = text[at + 2..].windows(2).position(|pair| pair == b"*/")? + 4;
                if text[at..at + length].contains(&b'\n') {
                    return None;
                }
                at += length;
            }
            _ => return None,
        }
    }
}

/// Octets of the number or the word that `text` starts with.
fn word_length(text: &[u8]) -> usize {
    let part = |octet: &&u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.');
    text.iter().take_while(part).count()
}

fn flat(path: &str, wishes: &[(&'static str, Wish)]) -> Vec<(String, String)> {
    let of = |(key, wish): &(&'static str, Wish)| match wish {
        Wish::Word(word) => vec![(format!("{path}{key}"), word.clone())],
        Wish::Map(wishes) => flat(&format!("{path}{key}."), wishes),
    };
    wishes.iter().flat_map(of).collect()
}
