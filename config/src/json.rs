//! The dialect: JSON with `#`, `//` and `/* */` comments, includes, and trailing commas (CFG-1 to CFG-6).
//!
//! Owns tokens, places and the limits on size and nesting. It knows no key. Error texts are Kea's.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use crate::diagnostics::Diagnostics;
use crate::value::{Kind, Member, Position, Value};

/// Maps and lists inside each other. Real files need about twelve; the bound keeps the stack small.
pub const NESTING_MAX: usize = 100;

/// Includes inside each other, as in Kea.
pub const INCLUDE_DEPTH_MAX: usize = 10;

/// Octets of a file and everything it includes. A hundred thousand subnets take about 64 MiB.
pub const INPUT_OCTETS_MAX: usize = 256 * 1024 * 1024;

/// Maps with more members look for duplicate keys in an index instead of one by one.
const LINEAR_SEARCH_MAX: usize = 32;

/// Octets of a string that an error text repeats.
const EXCERPT_OCTETS_MAX: usize = 60;

/// Whether `<?include "…"?>` may open files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Includes {
    /// Files are opened, relative to the working directory.
    Files,
    /// The text came from a control channel: an include is an error.
    Refused,
}

/// The error is in the diagnostics; reading ends.
#[derive(Debug)]
pub struct Stop;

/// Reads one value and the end of the text after it.
pub fn parse(
    text: &[u8],
    name: &str,
    includes: Includes,
    diagnostics: &mut Diagnostics,
) -> Result<Value, Stop> {
    let source = Source { name: Arc::from(name), text: Cow::Borrowed(text), at: 0, line: 1, column: 1 };
    let mut parser = Parser { sources: vec![source], includes, octets: text.len(), diagnostics };
    if text.len() > INPUT_OCTETS_MAX {
        return Err(parser.too_large());
    }
    let first = parser.next_token()?;
    if first.token != Token::BraceOpen {
        return Err(parser.unexpected(&first, "{"));
    }
    let value = parser.value(first, "toplevel", 1)?;
    let last = parser.next_token()?;
    match last.token {
        Token::End => Ok(value),
        _ => Err(parser.unexpected(&last, "end of file")),
    }
}

struct Parser<'t, 'd> {
    /// The text being read, and below it those that included it. Never empty.
    sources: Vec<Source<'t>>,
    includes: Includes,
    octets: usize,
    diagnostics: &'d mut Diagnostics,
}

struct Source<'t> {
    name: Arc<str>,
    text: Cow<'t, [u8]>,
    at: usize,
    line: u32,
    column: u32,
}

#[derive(Debug, PartialEq)]
enum Token {
    BraceClose,
    BraceOpen,
    BracketClose,
    BracketOpen,
    Colon,
    Comma,
    End,
    Bool(bool),
    Float(f64),
    Integer(i64),
    Null,
    String(Vec<u8>),
}

struct Placed {
    token: Token,
    position: Position,
    end: (u32, u32),
}

impl Parser<'_, '_> {
    fn value(&mut self, first: Placed, map_name: &str, depth: usize) -> Result<Value, Stop> {
        let Placed { token, position, end } = first;
        let (kind, end) = match token {
            Token::BraceOpen => self.map(&position, map_name, depth)?,
            Token::BracketOpen => self.list(&position, map_name, depth)?,
            Token::Bool(value) => (Kind::Bool(value), end),
            Token::Float(value) => (Kind::Float(value), end),
            Token::Integer(value) => (Kind::Integer(value), end),
            Token::Null => (Kind::Null, end),
            Token::String(bytes) => (Kind::String(bytes), end),
            token @ (Token::BraceClose | Token::BracketClose | Token::Colon | Token::Comma | Token::End) => {
                return Err(self.unexpected(&Placed { token, position, end }, "a value"));
            }
        };
        Ok(Value { kind, position, end })
    }

    fn map(&mut self, position: &Position, name: &str, depth: usize) -> Result<(Kind, (u32, u32)), Stop> {
        self.check_depth(position, depth)?;
        let mut members = Members::default();
        let mut comma: Option<Position> = None;
        loop {
            let token = self.next_token()?;
            let key = match token.token {
                Token::BraceClose => {
                    self.warn_extraneous(comma);
                    return Ok((members.finish(), token.end));
                }
                Token::String(bytes) => bytes,
                _ => return Err(self.unexpected(&token, "constant string or }")),
            };
            let Ok(key) = String::from_utf8(key) else {
                return Err(self.stop(&token.position, "a key must be valid UTF-8"));
            };
            if let Some(previous) = members.position_of(&key) {
                let message = format!("duplicate {key} entries in {name} map (previous at {previous})");
                return Err(self.stop(&token.position, message));
            }
            let colon = self.next_token()?;
            if colon.token != Token::Colon {
                return Err(self.unexpected(&colon, ":"));
            }
            let first = self.next_token()?;
            let value = self.value(first, &key, depth + 1)?;
            members.push(Member { key, position: token.position, value });
            let separator = self.next_token()?;
            match separator.token {
                Token::Comma => comma = Some(separator.position),
                Token::BraceClose => return Ok((members.finish(), separator.end)),
                _ => return Err(self.unexpected(&separator, "\",\" or }")),
            }
        }
    }

    fn list(&mut self, position: &Position, name: &str, depth: usize) -> Result<(Kind, (u32, u32)), Stop> {
        self.check_depth(position, depth)?;
        let mut items = Vec::new();
        let mut comma: Option<Position> = None;
        loop {
            let first = self.next_token()?;
            if first.token == Token::BracketClose {
                self.warn_extraneous(comma);
                items.shrink_to_fit();
                return Ok((Kind::List(items), first.end));
            }
            items.push(self.value(first, name, depth + 1)?);
            let separator = self.next_token()?;
            match separator.token {
                Token::Comma => comma = Some(separator.position),
                Token::BracketClose => {
                    items.shrink_to_fit();
                    return Ok((Kind::List(items), separator.end));
                }
                _ => return Err(self.unexpected(&separator, "\",\" or ]")),
            }
        }
    }

    fn check_depth(&mut self, position: &Position, depth: usize) -> Result<(), Stop> {
        if depth <= NESTING_MAX {
            return Ok(());
        }
        Err(self.stop(position, format!("maps and lists are nested more than {NESTING_MAX} deep")))
    }

    fn warn_extraneous(&mut self, comma: Option<Position>) {
        if let Some(position) = comma {
            let message = "Extraneous comma. A piece of configuration may have been omitted.";
            self.diagnostics.warn(&position, "", message);
        }
    }

    fn unexpected(&mut self, found: &Placed, expected: &str) -> Stop {
        let found_name = match found.token {
            Token::BraceClose => "}",
            Token::BraceOpen => "{",
            Token::BracketClose => "]",
            Token::BracketOpen => "[",
            Token::Colon => ":",
            Token::Comma => "\",\"",
            Token::End => "end of file",
            Token::Bool(_) => "boolean",
            Token::Float(_) => "floating point",
            Token::Integer(_) => "integer",
            Token::Null => "null",
            Token::String(_) => "constant string",
        };
        let message = format!("syntax error, unexpected {found_name}, expecting {expected}");
        self.stop(&found.position, message)
    }

    fn stop(&mut self, position: &Position, message: impl Into<String>) -> Stop {
        self.diagnostics.syntax_error(position, "", message);
        Stop
    }

    fn too_large(&mut self) -> Stop {
        let position = self.position();
        let mebibytes = INPUT_OCTETS_MAX / (1024 * 1024);
        self.stop(&position, format!("the file and what it includes are larger than {mebibytes} MiB"))
    }
}

/// Tokens.
impl Parser<'_, '_> {
    fn next_token(&mut self) -> Result<Placed, Stop> {
        self.skip_blank()?;
        let position = self.position();
        let token = match self.peek(0) {
            None => Token::End,
            Some(b'{') => self.single(Token::BraceOpen),
            Some(b'}') => self.single(Token::BraceClose),
            Some(b'[') => self.single(Token::BracketOpen),
            Some(b']') => self.single(Token::BracketClose),
            Some(b':') => self.single(Token::Colon),
            Some(b',') => self.single(Token::Comma),
            Some(b'"') => self.string(&position)?,
            Some(b'+' | b'-' | b'.' | b'0'..=b'9') => self.number(&position)?,
            Some(b'a'..=b'z' | b'A'..=b'Z') => self.word(&position)?,
            Some(other) => return Err(self.invalid_character(&position, other)),
        };
        let end = (self.top().line, self.top().column.saturating_sub(1));
        Ok(Placed { token, position, end })
    }

    fn single(&mut self, token: Token) -> Token {
        self.advance();
        token
    }

    /// Skips white space and comments, enters includes and leaves included text at its end.
    fn skip_blank(&mut self) -> Result<(), Stop> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b' ' | b'\t' | b'\r' | b'\n'), _) => self.advance(),
                (Some(b'#'), _) | (Some(b'/'), Some(b'/')) => self.skip_line(),
                (Some(b'/'), Some(b'*')) => self.skip_comment()?,
                (Some(b'<'), Some(b'?')) => self.include()?,
                (None, _) if self.sources.len() > 1 => {
                    self.sources.pop();
                }
                _ => return Ok(()),
            }
        }
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|byte| byte != b'\n') {
            self.advance();
        }
    }

    fn skip_comment(&mut self) -> Result<(), Stop> {
        let start = self.position();
        self.advance();
        self.advance();
        loop {
            match (self.peek(0), self.peek(1)) {
                (None, _) => {
                    return Err(self.stop(&start, format!("Comment not closed. (/* in line {}", start.line)));
                }
                (Some(b'*'), Some(b'/')) => {
                    self.advance();
                    self.advance();
                    return Ok(());
                }
                _ => self.advance(),
            }
        }
    }

    fn include(&mut self) -> Result<(), Stop> {
        let start = self.position();
        let Some((path, consumed)) = include_directive(self.rest()) else {
            return Err(self.stop(&start, "syntax error, expecting <?include \"FILE\"?>"));
        };
        for _ in 0..consumed {
            self.advance();
        }
        if self.includes == Includes::Refused {
            return Err(self.stop(&start, format!("Can't open include file {path}: the text is not a file")));
        }
        if self.sources.len() > INCLUDE_DEPTH_MAX {
            return Err(self.stop(&start, "Too many nested include."));
        }
        let text = match read_file(&path, INPUT_OCTETS_MAX - self.octets.min(INPUT_OCTETS_MAX)) {
            Ok(Some(text)) => text,
            Ok(None) => return Err(self.too_large()),
            Err(error) => {
                return Err(self.stop(&start, format!("Can't open include file {path}: {error}")));
            }
        };
        self.octets = self.octets.saturating_add(text.len());
        self.sources.push(Source {
            name: Arc::from(path),
            text: Cow::Owned(text),
            at: 0,
            line: 1,
            column: 1,
        });
        Ok(())
    }

    fn string(&mut self, start: &Position) -> Result<Token, Stop> {
        let Some(length) = string_length(self.rest()) else {
            return Err(self.stop(start, "String not closed: its second quote (\") is missing".to_owned()));
        };
        let literal: Vec<u8> = self.rest()[..length].to_vec();
        self.advance();
        let mut bytes = Vec::with_capacity(length.saturating_sub(2));
        // The closing quote is the last octet of the literal, so the loop ends there.
        while let Some(byte) = self.peek(0) {
            match byte {
                b'"' => {
                    self.advance();
                    return Ok(Token::String(bytes));
                }
                b'\\' => bytes.push(self.escape(&literal)?),
                0..=0x1f => {
                    let here = self.position();
                    return Err(self.stop(&here, format!("Invalid control in {}", excerpt(&literal))));
                }
                _ => {
                    self.advance();
                    bytes.push(byte);
                }
            }
        }
        Err(self.invalid_character(start, b'"'))
    }

    fn escape(&mut self, literal: &[u8]) -> Result<u8, Stop> {
        let here = self.position();
        self.advance();
        let letter = self.peek(0);
        self.advance();
        Ok(match letter {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let digits = self.rest().get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
                let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let octet = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
                let Some(octet) = octet.and_then(|code| u8::try_from(code).ok()) else {
                    let message = format!("Unsupported unicode escape in {}", excerpt(literal));
                    return Err(self.stop(&here, message));
                };
                for _ in 0..4 {
                    self.advance();
                }
                octet
            }
            _ => return Err(self.stop(&here, format!("Bad escape in {}", excerpt(literal)))),
        })
    }

    fn number(&mut self, start: &Position) -> Result<Token, Stop> {
        let mut text = String::new();
        while let Some(byte @ (b'+' | b'-' | b'.' | b'0'..=b'9' | b'e' | b'E')) = self.peek(0) {
            text.push(char::from(byte));
            self.advance();
        }
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            if digits.len() > 1 && digits.starts_with('0') {
                let message = format!("{text} has leading zeros; it is read as a decimal number");
                self.diagnostics.warn(start, "", message);
            }
            return match text.parse() {
                Ok(value) => Ok(Token::Integer(value)),
                Err(_) => {
                    let shown = excerpt(text.as_bytes());
                    Err(self.stop(start, format!("Failed to convert {shown} to an integer.")))
                }
            };
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Token::Float(value)),
            _ => {
                let shown = excerpt(text.as_bytes());
                Err(self.stop(start, format!("Failed to convert {shown} to a floating point.")))
            }
        }
    }

    fn word(&mut self, start: &Position) -> Result<Token, Stop> {
        let length = self.rest().iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = String::from_utf8_lossy(&self.rest()[..length]).into_owned();
        let known = [("true", Token::Bool(true)), ("false", Token::Bool(false)), ("null", Token::Null)];
        for (keyword, token) in known {
            if word == keyword {
                for _ in 0..length {
                    self.advance();
                }
                return Ok(token);
            }
            if word.eq_ignore_ascii_case(keyword) {
                let message = format!("JSON {keyword} reserved keyword is lower case only");
                return Err(self.stop(start, message));
            }
        }
        Err(self.invalid_character(start, word.bytes().next().unwrap_or(b'?')))
    }

    fn invalid_character(&mut self, position: &Position, byte: u8) -> Stop {
        let shown = match byte {
            0x20..=0x7e => char::from(byte).to_string(),
            other => format!("0x{other:02x}"),
        };
        self.stop(position, format!("Invalid character: {shown}"))
    }

    fn top(&self) -> &Source<'_> {
        // `sources` starts with the text itself and `skip_blank` pops only what lies above it.
        &self.sources[self.sources.len() - 1]
    }

    fn position(&self) -> Position {
        let top = self.top();
        Position { file: Arc::clone(&top.name), line: top.line, column: top.column, byte: top.at }
    }

    fn rest(&self) -> &[u8] {
        let top = self.top();
        &top.text[top.at.min(top.text.len())..]
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.rest().get(ahead).copied()
    }

    fn advance(&mut self) {
        let last = self.sources.len() - 1;
        let top = &mut self.sources[last];
        match top.text.get(top.at) {
            Some(b'\n') => {
                top.line = top.line.saturating_add(1);
                top.column = 1;
            }
            Some(_) => top.column = top.column.saturating_add(1),
            None => return,
        }
        top.at += 1;
    }
}

/// Members of a map under construction, with an index once there are many.
#[derive(Default)]
struct Members {
    list: Vec<Member>,
    index: HashMap<String, usize>,
}

impl Members {
    fn position_of(&self, key: &str) -> Option<&Position> {
        let place = if self.list.len() <= LINEAR_SEARCH_MAX {
            self.list.iter().position(|member| member.key == key)
        } else {
            self.index.get(key).copied()
        };
        place.and_then(|place| self.list.get(place)).map(|member| &member.position)
    }

    /// The map, without the room it grew into: a large file has millions of small ones.
    fn finish(mut self) -> Kind {
        self.list.shrink_to_fit();
        Kind::Map(self.list)
    }

    fn push(&mut self, member: Member) {
        self.list.push(member);
        if self.list.len() > LINEAR_SEARCH_MAX {
            for (place, member) in self.list.iter().enumerate().skip(self.index.len()) {
                self.index.insert(member.key.clone(), place);
            }
        }
    }
}

/// The path and the length of an include directive that `text` starts with.
fn include_directive(text: &[u8]) -> Option<(String, usize)> {
    let blanks = |text: &[u8]| text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let keyword = b"<?include";
    let mut at = keyword.len();
    if !text.starts_with(keyword) {
        return None;
    }
    at += blanks(&text[at..]);
    let quoted = text[at..].strip_prefix(b"\"")?;
    let length = quoted.iter().take_while(|&&byte| byte != b'"' && byte != b'\n').count();
    let path = std::str::from_utf8(quoted.get(..length)?).ok()?;
    at += 1 + length;
    text[at..].strip_prefix(b"\"")?;
    at += 1;
    at += blanks(&text[at..]);
    text[at..].strip_prefix(b"?>")?;
    (!path.is_empty()).then(|| (path.to_owned(), at + 2))
}

/// Length of the string literal that `text` starts with, quotes included; `None` if it has no end.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn excerpt(literal: &[u8]) -> String {
    let shown = &literal[..literal.len().min(EXCERPT_OCTETS_MAX)];
    let ellipsis = if shown.len() < literal.len() { "…" } else { "" };
    format!("{}{ellipsis}", String::from_utf8_lossy(shown))
}

/// Reads a file of at most `octets_max`; `None` if it is larger.
pub fn read_file(path: &str, octets_max: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let limit = u64::try_from(octets_max).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut text)?;
    Ok((text.len() <= octets_max).then_some(text))
}
