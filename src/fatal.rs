//! Why a program ends other than well, and with which exit code.
//!
//! Kea's tools expect 1 for whatever keeps a server from starting (h.1). What ends a running server has codes of its
//! own, so that a supervisor can tell a broken disk from a typing error.

use std::process::ExitCode;

/// A reason to end.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The command line or the configuration is wrong; the text has been made for people.
    #[error("{0}")]
    Refused(String),
    /// Another process serves with this configuration or this lease file.
    #[error("{0}")]
    AlreadyRunning(String),
    /// Something the server cannot do without could not be set up.
    #[error("{0}")]
    Start(String),
    /// The lease file can no longer be written: acknowledging a lease would be a promise that is not kept.
    #[error("lease file {file}: {cause}")]
    LeaseFile {
        /// Its path.
        file: String,
        /// What failed.
        cause: String,
    },
    /// An executor ended that should not have.
    #[error("executor {name} ended: {cause}")]
    Executor {
        /// Its name.
        name: String,
        /// What it said.
        cause: String,
    },
}

impl Fatal {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::AlreadyRunning(_) | Self::Start(_) => 1,
            Self::LeaseFile { .. } => 74,
            Self::Executor { .. } => 70,
        }
    }
}

impl From<&Fatal> for ExitCode {
    fn from(fatal: &Fatal) -> Self {
        Self::from(fatal.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_running_server_differs_from_what_keeps_it_from_starting() {
        let start = Fatal::Refused(String::new()).code();
        let disk = Fatal::LeaseFile { file: String::new(), cause: String::new() }.code();
        let executor = Fatal::Executor { name: String::new(), cause: String::new() }.code();
        assert_eq!(start, 1);
        assert!(disk != start && executor != start && disk != executor);
    }
}
