//! Recovery: from the bytes of the lease files to the rows that count, by Kea's rules (PST-5..8, PST-18).
//!
//! Pure, so that it can be shown what any crash leaves behind: a last row cut short (dropped: nobody was told
//! of it), runs of NUL where the file system lost data, broken rows anywhere, and the files of a clean-up
//! that was interrupted at any step.

use super::row::{Columns, HeaderError, Layout, Row, RowError, is_header_prefix, parse_header, parse_row};

/// Bad rows that are named; the others are only counted.
const FAULTS_NAMED_MAX: usize = 100;

/// The files of one lease database (e.2). `X` is the configured name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FileRole {
    /// `X`: what is appended to.
    Current,
    /// `X.1`: previous current, was being cleaned.
    Previous,
    /// `X.2`: result of the last clean-up.
    Cleaned,
    /// `X.completed`: finished output waiting to be moved.
    Completed,
    /// `X.output`: clean-up in progress; never loaded.
    Output,
    /// `X.pid`: number of a clean-up process.
    Pid,
}

impl FileRole {
    /// What is added to the configured name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Current => "",
            Self::Previous => ".1",
            Self::Cleaned => ".2",
            Self::Completed => ".completed",
            Self::Output => ".output",
            Self::Pid => ".pid",
        }
    }
}

/// Bytes of the files that exist.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseFiles<'a> {
    /// `X`.
    pub current: Option<&'a [u8]>,
    /// `X.1`.
    pub previous: Option<&'a [u8]>,
    /// `X.2`.
    pub cleaned: Option<&'a [u8]>,
    /// `X.completed`.
    pub completed: Option<&'a [u8]>,
    /// Whether `X.output` exists.
    pub output: bool,
    /// `X.pid` exists: whether the process it names is alive.
    pub pid_alive: Option<bool>,
}

/// A row that was left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RowFault {
    /// File it is in.
    pub file: FileRole,
    /// Line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub cause: RowError,
}

/// What recovery found, and what is left to do about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recovery {
    /// Columns to append with.
    pub columns: Columns,
    /// Rows handed out, deletions included.
    pub rows: u64,
    /// Rows left out.
    pub bad_rows: u64,
    /// The first of them, at most 100.
    pub faults: Vec<RowFault>,
    /// Files whose last line had no newline and was left out.
    pub torn: Vec<FileRole>,
    /// Octets of `X` up to the end of its last whole line. What lies behind was cut short and is to be cut off
    /// before rows are appended: the next newline would make a line of it, and the next start might read a row
    /// that this one has left out.
    pub current_octets: u64,
    /// NUL octets passed over at the ends of lines.
    pub nul_octets: u64,
    /// `X` is missing or has no octets: the header is to be written before the first row.
    pub header_missing: bool,
    /// `X` has to be rewritten before rows are appended: its columns are older or newer than ours, its header
    /// was cut short, or files stand beside it that are loaded before it. With `Deletions::Keep` in the last
    /// case.
    pub compact: bool,
    /// A file has columns this server does not know; they were dropped (PST-8, WARN).
    pub downgraded: bool,
    /// Files to remove, in this order, after `X` has been rewritten if it has to be.
    pub leftovers: Vec<FileRole>,
}

/// Why a lease database cannot be loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// A clean-up process is alive (PST-18).
    #[error("a lease file clean-up process is running")]
    CleanupRunning,
    /// The first line of a file is not a header (PST-8).
    #[error("lease file{}: {source}", .file.suffix())]
    Header {
        /// The file.
        file: FileRole,
        /// What is wrong.
        source: HeaderError,
    },
    /// More bad rows than `max-row-errors` (PST-7).
    #[error("lease file{}: more than {limit} bad rows, the last in line {line}: {cause}", .file.suffix())]
    TooManyBadRows {
        /// The file.
        file: FileRole,
        /// `max-row-errors`.
        limit: u32,
        /// Line of the row that was one too many.
        line: u64,
        /// What is wrong with it.
        cause: RowError,
    },
}

/// Reads the files in Kea's order and hands every valid row to `sink`, oldest first; the last one of an
/// address counts. More than `max_row_errors` bad rows in one file end it (0 is unlimited).
pub fn recover(
    files: &LeaseFiles<'_>,
    max_row_errors: u32,
    mut sink: impl FnMut(Row),
) -> Result<Recovery, ReplayError> {
    if files.pid_alive == Some(true) {
        return Err(ReplayError::CleanupRunning);
    }
    let mut recovery = Recovery {
        columns: Columns::Twelve,
        rows: 0,
        bad_rows: 0,
        faults: Vec::new(),
        torn: Vec::new(),
        current_octets: files.current.map_or(0, |bytes| bytes.len() as u64),
        nul_octets: 0,
        header_missing: files.current.is_none_or(<[u8]>::is_empty),
        compact: false,
        downgraded: false,
        leftovers: Vec::new(),
    };
    let older = match files.completed {
        Some(_) => [(FileRole::Completed, files.completed), (FileRole::Previous, None)],
        None => [(FileRole::Cleaned, files.cleaned), (FileRole::Previous, files.previous)],
    };
    let mut layout = None;
    for (file, bytes) in older.into_iter().chain([(FileRole::Current, files.current)]) {
        let Some(bytes) = bytes else { continue };
        let read = Reader { file, max_row_errors, recovery: &mut recovery }.read(bytes, &mut sink)?;
        if file == FileRole::Current && !bytes.is_empty() {
            recovery.compact |= read.is_none_or(|layout| layout.known < 11 || layout.unknown > 0);
        }
        layout = read.or(layout);
    }
    if layout.is_some_and(|layout| layout.known == 11) {
        recovery.columns = Columns::Eleven;
    }
    recovery.compact |= files.previous.is_some() || files.cleaned.is_some() || files.completed.is_some();
    // What a completed file replaces goes before it, or a crash in between would bring old leases back.
    recovery.leftovers = [
        (FileRole::Cleaned, files.cleaned.is_some()),
        (FileRole::Previous, files.previous.is_some()),
        (FileRole::Completed, files.completed.is_some()),
        (FileRole::Output, files.output),
        (FileRole::Pid, files.pid_alive.is_some()),
    ]
    .into_iter()
    .filter_map(|(file, exists)| exists.then_some(file))
    .collect();
    Ok(recovery)
}

struct Reader<'a> {
    file: FileRole,
    max_row_errors: u32,
    recovery: &'a mut Recovery,
}

impl Reader<'_> {
    /// Reads one file; returns the last header's layout, `None` when there is none.
    fn read(&mut self, bytes: &[u8], sink: &mut impl FnMut(Row)) -> Result<Option<Layout>, ReplayError> {
        let mut layout: Option<Layout> = None;
        let mut bad_rows = 0;
        let mut number = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            number += 1;
            let end = rest.iter().position(|&octet| octet == b'\n');
            let (line, tail) = match end {
                Some(end) => (&rest[..end], &rest[end + 1..]),
                None => (rest, &rest[..0]),
            };
            rest = tail;
            let text = without_nuls(line);
            self.recovery.nul_octets += (line.len() - text.len()) as u64;
            if text.is_empty() {
                continue;
            }
            if end.is_none() {
                if layout.is_none() && !is_header_prefix(text) {
                    return Err(ReplayError::Header { file: self.file, source: HeaderError });
                }
                self.recovery.torn.push(self.file);
                if self.file == FileRole::Current {
                    self.recovery.current_octets -= line.len() as u64;
                }
                break;
            }
            let current = match layout {
                // A header in the middle: files were joined by hand. Rows begin with a digit.
                Some(current) if !text.starts_with(b"address,") => current,
                _ => {
                    let header = parse_header(text);
                    let header = header.map_err(|source| ReplayError::Header { file: self.file, source })?;
                    self.recovery.downgraded |= header.unknown > 0;
                    layout = Some(header);
                    continue;
                }
            };
            match parse_row(text, current) {
                Ok(row) => {
                    self.recovery.rows += 1;
                    sink(row);
                }
                Err(cause) => {
                    bad_rows += 1;
                    self.bad_row(number, bad_rows, cause)?;
                }
            }
        }
        Ok(layout)
    }

    fn bad_row(&mut self, line: u64, bad_rows: u64, cause: RowError) -> Result<(), ReplayError> {
        let Self { file, max_row_errors: limit, .. } = *self;
        self.recovery.bad_rows += 1;
        if self.recovery.faults.len() < FAULTS_NAMED_MAX {
            self.recovery.faults.push(RowFault { file, line, cause });
        }
        if limit > 0 && bad_rows > u64::from(limit) {
            return Err(ReplayError::TooManyBadRows { file, limit, line, cause });
        }
        Ok(())
    }
}

fn without_nuls(line: &[u8]) -> &[u8] {
    let Some(first) = line.iter().position(|&octet| octet != 0) else { return &[] };
    let last = line.iter().rposition(|&octet| octet != 0).unwrap_or(first);
    &line[first..=last]
}

#[cfg(test)]
mod tests;
