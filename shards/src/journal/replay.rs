//! Recovery.
use super::row::{Columns, Row};

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
        todo!()
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
    pub cause: super::row::RowError,
}

/// What recovery found.
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
    /// The header has to be written before the first row (`X` is missing or empty).
    pub header_missing: bool,
    /// `X` ends in the middle of a line or in NULs: append a newline first (a batch does).
    pub unterminated: bool,
    /// `X` has to be rewritten before rows are appended (other columns, or left-overs exist), with
    /// `Deletions::Keep` where `leftovers` is not empty.
    pub compact: bool,
    /// `X` has columns this server does not know; they were dropped (PST-8, WARN).
    pub downgraded: bool,
    /// Files to remove once `X` has been rewritten, in this order.
    pub leftovers: Vec<FileRole>,
}

/// Why a lease database cannot be loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// A clean-up process is alive (PST-18).
    #[error("a lease file clean-up process is running")]
    CleanupRunning,
}

/// Reads the files in Kea's order and hands every valid row to `sink`, oldest first. More than `max_row_errors`
/// bad rows in one file end it (0 is unlimited).
pub fn recover(
    files: &LeaseFiles<'_>,
    max_row_errors: u32,
    sink: impl FnMut(Row),
) -> Result<Recovery, ReplayError> {
    todo!()
}
