//! The lines of one piece of a lease file: rows handed out, everything else counted.
//!
//! A file is cut into pieces anywhere, and a line belongs to the piece in which it begins, so that pieces can be read
//! side by side. What a piece cannot know is which header its rows stand under: it is told, and says so, and whoever
//! puts the pieces together ([`super::replay::Recovering`]) has those read again that were told wrong.

use std::ops::Range;

use super::row::{HeaderError, Layout, Row, RowError, is_header_prefix, parse_header, parse_row};

/// What was found in a piece.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Piece {
    /// Layout of the last header, in the piece or before it.
    pub layout: Option<Layout>,
    /// Lines, empty ones included.
    pub lines: u64,
    /// Rows handed out, deletions included.
    pub rows: u64,
    /// Rows left out.
    pub bad_rows: u64,
    /// The first of them: line, counted from 1 in this piece, and what is wrong with it.
    pub bad: Vec<(u64, RowError)>,
    /// NUL octets passed over at the ends of lines.
    pub nul_octets: u64,
    /// Octets of a last line that has no newline and was left out.
    pub torn_octets: u64,
    /// A header names columns that are not known.
    pub downgraded: bool,
    /// Reading ended at a line that should be a header and is not.
    pub no_header: bool,
}

/// Reads whole lines, and a last one that may be cut short, under `layout` (`None`: a header has to come first). Valid
/// rows go to `sink`; of the others `bad_kept` are named.
pub fn read(bytes: &[u8], layout: Option<Layout>, bad_kept: usize, sink: &mut impl FnMut(Row)) -> Piece {
    let mut piece = Piece { layout, ..Piece::default() };
    let mut rest = bytes;
    while !rest.is_empty() {
        piece.lines += 1;
        let end = memchr::memchr(b'\n', rest);
        let (line, tail) = match end {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, &rest[..0]),
        };
        rest = tail;
        let text = without_nuls(line);
        piece.nul_octets += (line.len() - text.len()) as u64;
        if text.is_empty() {
            continue;
        }
        if end.is_none() {
            if piece.layout.is_none() && !is_header_prefix(text) {
                piece.no_header = true;
            } else {
                piece.torn_octets = line.len() as u64;
            }
            return piece;
        }
        match piece.layout {
            // A header in the middle: files were joined by hand. Rows begin with a digit.
            Some(layout) if !text.starts_with(b"address,") => match parse_row(text, layout) {
                Ok(row) => {
                    piece.rows += 1;
                    sink(row);
                }
                Err(cause) => {
                    piece.bad_rows += 1;
                    if piece.bad.len() < bad_kept {
                        piece.bad.push((piece.lines, cause));
                    }
                }
            },
            _ => match parse_header(text) {
                Ok(header) => {
                    piece.downgraded |= header.unknown > 0;
                    piece.layout = Some(header);
                }
                Err(HeaderError) => {
                    piece.no_header = true;
                    return piece;
                }
            },
        }
    }
    piece
}

/// The header that the rows of a file probably stand under, by the file's beginning.
pub fn first_layout(beginning: &[u8]) -> Option<Layout> {
    let line = beginning.split(|&octet| octet == b'\n').map(without_nuls).find(|line| !line.is_empty())?;
    parse_header(line).ok()
}

/// Where the lines lie that begin in octets `from..until` of a file, if `bytes` are those of the file from `from - 1` on
/// (from 0 on, where `from` is 0) to the end of the last of those lines or beyond. `None` when `bytes` end within that
/// line: it takes more of the file to say.
pub fn lines_within(bytes: &[u8], from: u64, until: u64, whole: bool) -> Option<Range<usize>> {
    // An octet before the piece tells whether the piece begins with a line.
    let first = if from == 0 { 0 } else { memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1) };
    let length = usize::try_from(until - from).unwrap_or(usize::MAX).saturating_add(usize::from(from > 0));
    if first >= length {
        return Some(first..first);
    }
    // The last line that begins in the piece ends with the first newline at or after its last octet.
    let last = length - 1;
    match bytes.get(last..).and_then(|tail| memchr::memchr(b'\n', tail)) {
        Some(end) => Some(first..last + end + 1),
        None => whole.then_some(first..bytes.len()),
    }
}

fn without_nuls(line: &[u8]) -> &[u8] {
    // Nearly every line, at a glance.
    if let ([first, ..], [.., last]) = (line, line)
        && *first != 0
        && *last != 0
    {
        return line;
    }
    let Some(first) = line.iter().position(|&octet| octet != 0) else { return &[] };
    let last = line.iter().rposition(|&octet| octet != 0).unwrap_or(first);
    &line[first..=last]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_line_belongs_to_one_piece(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b'b')], 0..60),
            size in 1..20_u64,
        ) {
            let mut joined = Vec::new();
            let mut from = 0;
            while from < text.len() as u64 {
                let until = (from + size).min(text.len() as u64);
                let start = (from as usize).saturating_sub(1);
                // No more of the file than it takes.
                let lines = (until as usize..=text.len()).find_map(|end| {
                    let bytes = &text[start..end];
                    lines_within(bytes, from, until, end == text.len()).map(|lines| &bytes[lines])
                });
                joined.extend_from_slice(lines.unwrap());
                from = until;
            }
            prop_assert_eq!(joined, text);
        }
    }
}
