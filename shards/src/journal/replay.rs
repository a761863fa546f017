//! Recovery: from the bytes of the lease files to the rows that count, by Kea's rules (PST-5..8, PST-18).
//!
//! Pure, so that it can be shown what any crash leaves behind: a last row cut short (dropped: nobody was told
//! of it), runs of NUL where the file system lost data, broken rows anywhere, and the files of a clean-up
//! that was interrupted at any step.

use super::piece::{self, Piece};
use super::row::{Columns, HeaderError, Layout, Row, RowError};

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
    let mut recovering = Recovering::new(files.found(), max_row_errors)?;
    for file in recovering.order() {
        recovering.begin(file);
        let Some(bytes) = files.bytes(file) else { continue };
        let piece = piece::read(bytes, None, recovering.bad_rows_kept(), &mut sink);
        recovering.add(&piece)?;
    }
    Ok(recovering.finish())
}

impl LeaseFiles<'_> {
    /// Which files there are, and how long.
    pub fn found(&self) -> FilesFound {
        let octets = |file| self.bytes(file).map(|bytes: &[u8]| bytes.len() as u64);
        FilesFound {
            current: octets(FileRole::Current),
            previous: octets(FileRole::Previous),
            cleaned: octets(FileRole::Cleaned),
            completed: octets(FileRole::Completed),
            output: self.output,
            pid_alive: self.pid_alive,
        }
    }

    fn bytes(&self, file: FileRole) -> Option<&[u8]> {
        match file {
            FileRole::Current => self.current,
            FileRole::Previous => self.previous,
            FileRole::Cleaned => self.cleaned,
            FileRole::Completed => self.completed,
            FileRole::Output | FileRole::Pid => None,
        }
    }
}

/// Which files of a lease database there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FilesFound {
    /// Octets of `X`.
    pub current: Option<u64>,
    /// Octets of `X.1`.
    pub previous: Option<u64>,
    /// Octets of `X.2`.
    pub cleaned: Option<u64>,
    /// Octets of `X.completed`.
    pub completed: Option<u64>,
    /// Whether `X.output` exists.
    pub output: bool,
    /// `X.pid` exists: whether the process it names is alive.
    pub pid_alive: Option<bool>,
}

/// A recovery under way: what the pieces of the files say is put together here, in the order of the files and their
/// pieces.
#[derive(Debug)]
pub struct Recovering {
    found: FilesFound,
    max_row_errors: u32,
    recovery: Recovery,
    file: FileRole,
    /// Of the file under way, as far as it is read.
    layout: Option<Layout>,
    lines: u64,
    bad_rows: u64,
    /// Of all files before.
    layout_before: Option<Layout>,
}

impl Recovering {
    /// A recovery of `found`; more than `max_row_errors` bad rows in one file end it (0 is unlimited).
    ///
    /// # Errors
    /// [`ReplayError::CleanupRunning`].
    pub fn new(found: FilesFound, max_row_errors: u32) -> Result<Self, ReplayError> {
        if found.pid_alive == Some(true) {
            return Err(ReplayError::CleanupRunning);
        }
        let recovery = Recovery {
            columns: Columns::Twelve,
            rows: 0,
            bad_rows: 0,
            faults: Vec::new(),
            torn: Vec::new(),
            current_octets: found.current.unwrap_or(0),
            nul_octets: 0,
            header_missing: found.current.unwrap_or(0) == 0,
            compact: false,
            downgraded: false,
            leftovers: Vec::new(),
        };
        let (layout, layout_before) = (None, None);
        let file = FileRole::Current;
        Ok(Self { found, max_row_errors, recovery, file, layout, lines: 0, bad_rows: 0, layout_before })
    }

    /// The files to be read, in this order: [`Recovering::begin`] for each, [`Recovering::add`] for each of its
    /// pieces.
    pub fn order(&self) -> Vec<FileRole> {
        let FilesFound { current, previous, cleaned, completed, .. } = self.found;
        let older = match completed {
            Some(_) => [(FileRole::Completed, completed), (FileRole::Previous, None)],
            None => [(FileRole::Cleaned, cleaned), (FileRole::Previous, previous)],
        };
        let files = older.into_iter().chain([(FileRole::Current, current)]);
        files.filter_map(|(file, octets)| octets.map(|_| file)).collect()
    }

    /// Bad rows that a piece has to name.
    pub fn bad_rows_kept(&self) -> usize {
        if self.max_row_errors == 0 {
            return FAULTS_NAMED_MAX;
        }
        FAULTS_NAMED_MAX.max((self.max_row_errors as usize).saturating_add(1))
    }

    /// The next pieces are those of `file`, from its beginning.
    pub fn begin(&mut self, file: FileRole) {
        self.layout_before = self.layout.or(self.layout_before);
        (self.layout, self.lines, self.bad_rows) = (None, 0, 0);
        self.file = file;
    }

    /// What the last header so far said; a piece that was read under another assumption must be read again.
    pub fn layout(&self) -> Option<Layout> {
        self.layout
    }

    /// Takes the next piece of the file.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn add(&mut self, piece: &Piece) -> Result<(), ReplayError> {
        let recovery = &mut self.recovery;
        let (file, limit) = (self.file, self.max_row_errors);
        for &(line, cause) in &piece.bad {
            let line = self.lines + line;
            self.bad_rows += 1;
            if recovery.faults.len() < FAULTS_NAMED_MAX {
                recovery.faults.push(RowFault { file, line, cause });
            }
            if limit > 0 && self.bad_rows > u64::from(limit) {
                return Err(ReplayError::TooManyBadRows { file, limit, line, cause });
            }
        }
        if piece.no_header {
            return Err(ReplayError::Header { file, source: HeaderError });
        }
        recovery.rows += piece.rows;
        recovery.bad_rows += piece.bad_rows;
        recovery.nul_octets += piece.nul_octets;
        recovery.downgraded |= piece.downgraded;
        if piece.torn_octets > 0 {
            recovery.torn.push(file);
            if file == FileRole::Current {
                recovery.current_octets -= piece.torn_octets;
            }
        }
        self.lines += piece.lines;
        self.layout = piece.layout;
        Ok(())
    }

    /// What was found; every file has been read.
    pub fn finish(self) -> Recovery {
        let FilesFound { current, previous, cleaned, completed, output, pid_alive } = self.found;
        let mut recovery = self.recovery;
        // X comes last, so the layout is its own.
        if current.is_some_and(|octets| octets > 0) {
            recovery.compact = self.layout.is_none_or(|layout| layout.known < 11 || layout.unknown > 0);
        }
        if self.layout.or(self.layout_before).is_some_and(|layout| layout.known == 11) {
            recovery.columns = Columns::Eleven;
        }
        recovery.compact |= previous.is_some() || cleaned.is_some() || completed.is_some();
        // What a completed file replaces goes before it, or a crash in between would bring old leases back.
        recovery.leftovers = [
            (FileRole::Cleaned, cleaned.is_some()),
            (FileRole::Previous, previous.is_some()),
            (FileRole::Completed, completed.is_some()),
            (FileRole::Output, output),
            (FileRole::Pid, pid_alive.is_some()),
        ]
        .into_iter()
        .filter_map(|(file, exists)| exists.then_some(file))
        .collect();
        recovery
    }
}

#[cfg(test)]
mod tests;
