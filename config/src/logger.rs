//! `loggers` (CFG-40).

use crate::reader::{Reader, quoted};
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

impl Logger {
    /// Reads the entries of `loggers` of the program whose root logger is `root`.
    pub(crate) fn read_all(reader: &mut Reader<'_, '_>, root: &str) -> Vec<Logger> {
        let items = reader.items("loggers");
        let mut loggers: Vec<Logger> = Vec::new();
        for item in items {
            let mut inside = reader.inside(item);
            let Some(logger) = Self::read(&mut inside) else { continue };
            if loggers.iter().any(|known| *known.name == *logger.name) {
                let message = format!("logger {} is configured twice", quoted(&*logger.name));
                inside.error(&logger.name.position, "name", message);
            }
            let below = logger.name.strip_prefix(root);
            if !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
                let message = format!(
                    "logger {} has no effect: the loggers of this program are {root} and {root}.*",
                    quoted(&*logger.name)
                );
                inside.warn(&logger.name.position, "name", message);
            }
            loggers.push(logger);
        }
        loggers
    }

    fn read(reader: &mut Reader<'_, '_>) -> Option<Logger> {
        let outputs = match reader.items("output-options") {
            [] => reader.items("output_options"),
            items => items,
        };
        let logger = Logger {
            position: reader.map.position.clone(),
            name: reader.required_text("name")?,
            severity: read_severity(reader),
            debuglevel: reader.number("debuglevel", 0),
            outputs: outputs.iter().filter_map(|item| LogOutput::read(&mut reader.inside(item))).collect(),
        };
        let debug = logger.severity.as_ref().is_some_and(|severity| **severity == Severity::Debug);
        if *logger.debuglevel > 0 && !debug {
            let message = "debuglevel has no effect unless severity is DEBUG";
            reader.warn(&logger.debuglevel.position, "debuglevel", message);
        }
        Some(logger)
    }
}

impl LogOutput {
    fn read(reader: &mut Reader<'_, '_>) -> Option<LogOutput> {
        let output = reader.required_text("output")?;
        let destination = match output.as_str() {
            "stdout" => LogDestination::Stdout,
            "stderr" => LogDestination::Stderr,
            "syslog" => LogDestination::Syslog(None),
            path => match path.strip_prefix("syslog:") {
                Some(name) => LogDestination::Syslog(Some(name.to_owned()).filter(|name| !name.is_empty())),
                None => LogDestination::File(path.to_owned()),
            },
        };
        let maxver = reader.number("maxver", 1);
        if *maxver == 0 {
            reader.error(&maxver.position, "maxver", "maxver must be at least 1");
        }
        Some(LogOutput {
            position: reader.map.position.clone(),
            destination: Located::written(destination, output.position),
            flush: read_flush(reader),
            maxsize: reader.number("maxsize", 10_240_000),
            maxver,
            pattern: reader.nonempty_text("pattern"),
        })
    }
}

fn read_flush(reader: &mut Reader<'_, '_>) -> Located<bool> {
    let flush = reader.bool("flush", true);
    if !*flush {
        let message = "\"flush\": false has no effect: lines are written as soon as they come";
        reader.warn(&flush.position, "flush", message);
    }
    flush
}

fn read_severity(reader: &mut Reader<'_, '_>) -> Option<Located<Severity>> {
    let text = reader.optional_text("severity")?;
    let severity = match text.as_str() {
        "DEBUG" => Severity::Debug,
        "INFO" => Severity::Info,
        "WARN" => Severity::Warn,
        "ERROR" => Severity::Error,
        "FATAL" => Severity::Fatal,
        "NONE" => Severity::None,
        other => {
            reader.error(&text.position, "severity", format!("unknown severity {}", quoted(other)));
            return None;
        }
    };
    Some(Located::written(severity, text.position))
}
