//! `loggers` (CFG-40).

use crate::value::{Located, Position};

/// One entry of `loggers`.
#[derive(Clone, Debug, PartialEq)]
pub struct Logger {
    /// Where the entry starts.
    pub position: Position,
    /// `name`: the root, such as `kea-dhcp4`, or a child, such as `kea-dhcp4.leases`.
    pub name: Located<String>,
    /// `severity`; `None` inherits from the parent, INFO at the root.
    pub severity: Option<Located<Severity>>,
    /// `debuglevel`, 0..=99; of use with severity DEBUG only.
    pub debuglevel: Located<u8>,
    /// `output-options` (or `output_options`); none inherits from the parent, stdout at the root.
    pub outputs: Vec<LogOutput>,
}

/// Severities in rising order of gravity.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// `DEBUG`.
    Debug,
    /// `INFO`.
    Info,
    /// `WARN`.
    Warn,
    /// `ERROR`.
    Error,
    /// `FATAL`.
    Fatal,
    /// `NONE`: nothing is logged.
    None,
}

/// One entry of `output-options`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogOutput {
    /// Where the entry starts.
    pub position: Position,
    /// `output`.
    pub destination: Located<LogDestination>,
    /// `flush` after each line; true by default.
    pub flush: Located<bool>,
    /// `maxsize`, octets, 10240000 by default; below 204800 the file is never rotated.
    pub maxsize: Located<u64>,
    /// `maxver`: rotated files kept, at least 1, 1 by default.
    pub maxver: Located<u32>,
    /// `pattern`; `None` (also for "") is Kea's layout for the destination (CFG-42).
    pub pattern: Option<Located<String>>,
}

/// Where log lines go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogDestination {
    /// A file, as written; see [`crate::paths::Folders::log_file`].
    File(String),
    /// `stderr`.
    Stderr,
    /// `stdout`.
    Stdout,
    /// `syslog` or `syslog:NAME`; the name is a facility (`local0`) or an identity.
    Syslog(Option<String>),
}

/// Files smaller than this are never rotated (CFG-40), octets.
pub const ROTATION_SIZE_MIN: u64 = 204_800;
