//! What the control channels take beyond plain JSON: comments (API-1), and values without a stated length.
//!
//! [`Scanner`] finds the end of a value in a stream, because clients of the unix socket neither say how long
//! their request is nor close their side of the connection.

/// Nesting beyond which a request is refused; no command needs a tenth of it.
const DEPTH_MAX: usize = 100;

/// The same bytes without Kea's comments (`#`, `//`, `/* */`); line numbers stay right.
pub fn without_comments(bytes: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(bytes.len());
    let mut lexer = Lexer::default();
    for &octet in bytes {
        match lexer.take(octet) {
            Lexeme::Comment => {}
            Lexeme::NotAComment => output.extend_from_slice(&[b'/', octet]),
            Lexeme::Pending => {}
            Lexeme::Text => output.push(octet),
        }
    }
    if lexer.place == Place::Slash {
        output.push(b'/');
    }
    output
}

/// Finds where the first JSON value of a stream ends, however the stream is cut.
#[derive(Debug, Default)]
pub struct Scanner {
    lexer: Lexer,
    depth: usize,
    started: bool,
    scanned: usize,
}

/// What a [`Scanner`] has found so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scan {
    /// The value ends before this offset.
    Complete(usize),
    /// This cannot become a map or a list any more; whoever sent it gets the parser's error.
    Hopeless,
    /// More is needed.
    Incomplete,
}

impl Scanner {
    /// Looks at `buffer`, which holds everything received so far; only new bytes are scanned.
    pub fn scan(&mut self, buffer: &[u8]) -> Scan {
        while let Some(&octet) = buffer.get(self.scanned) {
            self.scanned += 1;
            let in_string = matches!(self.lexer.place, Place::Escape | Place::String);
            let lexeme = self.lexer.take(octet);
            if in_string || matches!(lexeme, Lexeme::Comment | Lexeme::Pending) || octet.is_ascii_whitespace()
            {
                continue;
            }
            match octet {
                b'{' | b'[' => {
                    self.depth += 1;
                    self.started = true;
                    if self.depth > DEPTH_MAX {
                        return Scan::Hopeless;
                    }
                }
                b'}' | b']' if self.started => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Scan::Complete(self.scanned);
                    }
                }
                _ if !self.started => return Scan::Hopeless,
                _ => {}
            }
        }
        Scan::Incomplete
    }
}

/// Tells strings and comments from the rest, octet by octet.
#[derive(Debug, Default)]
struct Lexer {
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Place {
    BlockComment,
    BlockCommentStar,
    Escape,
    LineComment,
    #[default]
    Plain,
    Slash,
    String,
}

enum Lexeme {
    Comment,
    /// The slash before was not the start of a comment.
    NotAComment,
    /// Undecided: a slash.
    Pending,
    Text,
}

impl Lexer {
    fn take(&mut self, octet: u8) -> Lexeme {
        let (place, lexeme) = match (self.place, octet) {
            (Place::String, b'\\') => (Place::Escape, Lexeme::Text),
            (Place::String, b'"') => (Place::Plain, Lexeme::Text),
            (Place::Escape | Place::String, _) => (Place::String, Lexeme::Text),
            // The newline stays, so that a parser's line numbers are right.
            (Place::LineComment, b'\n') => (Place::Plain, Lexeme::Text),
            (Place::LineComment, _) => (Place::LineComment, Lexeme::Comment),
            (Place::BlockComment | Place::BlockCommentStar, b'*') => {
                (Place::BlockCommentStar, Lexeme::Comment)
            }
            (Place::BlockCommentStar, b'/') => (Place::Plain, Lexeme::Comment),
            (Place::BlockComment | Place::BlockCommentStar, b'\n') => (Place::BlockComment, Lexeme::Text),
            (Place::BlockComment | Place::BlockCommentStar, _) => (Place::BlockComment, Lexeme::Comment),
            (Place::Slash, b'/') => (Place::LineComment, Lexeme::Comment),
            (Place::Slash, b'*') => (Place::BlockComment, Lexeme::Comment),
            (Place::Slash, b'"') => (Place::String, Lexeme::NotAComment),
            (Place::Slash, _) => (Place::Plain, Lexeme::NotAComment),
            (Place::Plain, b'#') => (Place::LineComment, Lexeme::Comment),
            (Place::Plain, b'/') => (Place::Slash, Lexeme::Pending),
            (Place::Plain, b'"') => (Place::String, Lexeme::Text),
            (Place::Plain, _) => (Place::Plain, Lexeme::Text),
        };
        self.place = place;
        lexeme
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_strings_stay() {
        for (text, expected) in [
            ("# first\n{ // second\n \"a\" /* * / \n */ : \"# // /*\" }", "\n{ \n \"a\" \n : \"# // /*\" }"),
            ("{\"a\\\"# b\": 1} # end", "{\"a\\\"# b\": 1} "),
            ("{/}", "{/}"),
            ("/", "/"),
            ("/* open", ""),
        ] {
            assert_eq!(String::from_utf8(without_comments(text.as_bytes())).unwrap(), expected);
        }
    }

    #[test]
    fn the_end_of_a_value_is_found_however_the_stream_is_cut() {
        for (stream, expected) in [
            (&br#"{"a":1}"#[..], Scan::Complete(7)),
            (br#"  {"a":{"b":[1,2]}} trailing"#, Scan::Complete(19)),
            (br#"{"a":"}\"}"} "#, Scan::Complete(12)),
            (b"# }\n{ /* } */ } ", Scan::Complete(15)),
            (b"[1]", Scan::Complete(3)),
            (br#"{"a":1"#, Scan::Incomplete),
            (br#"{"a":"}"#, Scan::Incomplete),
            (b"  // nothing yet", Scan::Incomplete),
            (b"hello", Scan::Hopeless),
            (b"}", Scan::Hopeless),
            (b"\"text\"", Scan::Hopeless),
        ] {
            for step in 1..=stream.len() {
                let mut scanner = Scanner::default();
                let mut result = Scan::Incomplete;
                let mut end = 0;
                while end < stream.len() && result == Scan::Incomplete {
                    end = (end + step).min(stream.len());
                    result = scanner.scan(&stream[..end]);
                }
                assert_eq!(result, expected, "{} in steps of {step}", String::from_utf8_lossy(stream));
            }
        }
        assert_eq!(Scanner::default().scan(&[b'['; 1000]), Scan::Hopeless);
    }
}
