//! What is logged where: severities, the logger tree, line layout and rotation (pure).
//!
//! Messages keep Kea's ids and layout, because people's log watchers match them (CFG-42). The thread that
//! writes is `runtime::log_thread`; nothing here touches a file or a clock.

mod layout;
mod rotation;
mod tree;

pub use layout::{Layout, Line};
pub use rotation::{Rotation, Step};
pub use tree::{DEBUG_LEVEL_MAX, Destination, LoggerSettings, LoggerTree, OutputSettings, Route};

use std::fmt;

/// How serious a message is, in Kea's words.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// For developers, by debug level 0 to 99.
    Debug,
    /// Normal operation worth a line.
    Info,
    /// Something an operator should look at.
    Warn,
    /// Something failed.
    Error,
    /// The process cannot go on.
    Fatal,
}

impl Severity {
    /// The severity named by `text` in a configuration; `None` for `NONE` (log nothing) and unknown words.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "DEBUG" => Some(Self::Debug),
            "INFO" => Some(Self::Info),
            "WARN" => Some(Self::Warn),
            "ERROR" => Some(Self::Error),
            "FATAL" => Some(Self::Fatal),
            _ => None,
        }
    }

    /// The severity of a message of the `log` crate. Ids that Kea logs as fatal are fatal.
    pub fn of(level: log::Level, message_id: &str) -> Self {
        match level {
            log::Level::Error if FATAL_IDS.contains(&message_id) => Self::Fatal,
            log::Level::Error => Self::Error,
            log::Level::Warn => Self::Warn,
            log::Level::Info => Self::Info,
            log::Level::Debug | log::Level::Trace => Self::Debug,
        }
    }
}

/// Messages that Kea logs with severity FATAL.
const FATAL_IDS: &[&str] =
    &["DHCP4_ALREADY_RUNNING", "DHCP4_CONFIG_LOAD_FAIL", "DHCP4_INIT_FAIL", "DHCP4_SRV_CONSTRUCT_ERROR"];

/// Debug level of the `log` crate's `debug!`, Kea's DBGLVL_TRACE_BASIC.
const DEBUG_LEVEL_OF_DEBUG: u8 = 40;
/// Debug level of the `log` crate's `trace!`, Kea's DBGLVL_TRACE_DETAIL_DATA.
const DEBUG_LEVEL_OF_TRACE: u8 = 55;

/// Kea's debug level of a message of the `log` crate; 0 for everything that is no debug message.
pub fn debug_level_of(level: log::Level) -> u8 {
    match level {
        log::Level::Debug => DEBUG_LEVEL_OF_DEBUG,
        log::Level::Trace => DEBUG_LEVEL_OF_TRACE,
        _ => 0,
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Debug => "DEBUG",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Info => "INFO",
            Self::Warn => "WARN",
        })
    }
}
