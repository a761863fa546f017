//! From `loggers` of the configuration to the logger tree, and from the engine's events to log lines.

use std::fmt;
use std::fs::OpenOptions;

use config::logger::{LogDestination, LogOutput, Logger, Severity as Configured};
use config::paths::Folders;
use config::{ConfigError, Diagnostic, Diagnostics, Dialect};

use super::log_thread::PacketEvent;
use crate::engine::event::{Event, EventKind, Severity as Loudness};
use crate::logging::{Destination, Layout, LoggerSettings, LoggerTree, OutputSettings, Rotation, Severity};

/// Root of the server's loggers.
pub const ROOT: &str = "kea-dhcp4";
/// Root of the control agent's loggers.
pub const AGENT_ROOT: &str = "kea-ctrl-agent";

/// The server's tree of `loggers`; with `debug_all` (`-d`) everything passes.
pub fn tree(loggers: &[Logger], folders: &Folders, debug_all: bool) -> LoggerTree {
    tree_under(ROOT, loggers, folders, debug_all)
}

/// The same under another root, for the control agent.
pub fn tree_under(root: &str, loggers: &[Logger], folders: &Folders, debug_all: bool) -> LoggerTree {
    let settings = loggers
        .iter()
        .map(|logger| LoggerSettings {
            name: logger.name.value.clone(),
            severity: logger
                .severity
                .as_ref()
                .map(|severity| threshold(severity.value, logger.debuglevel.value)),
            outputs: logger.outputs.iter().map(|output| output_settings(output, folders)).collect(),
        })
        .collect();
    LoggerTree::new(root, settings, debug_all)
}

/// The tree before there is a configuration: `KEA_LOGGER_DESTINATION` (CLI-5), standard output by default.
pub fn early_tree(destination: Option<&str>, debug_all: bool) -> LoggerTree {
    let outputs = destination
        .map(|text| OutputSettings {
            destination: Destination::parse(text),
            layout: Layout::file_default(),
            rotation: Rotation::default(),
        })
        .into_iter()
        .collect();
    LoggerTree::new(ROOT, vec![LoggerSettings { name: ROOT.to_owned(), severity: None, outputs }], debug_all)
}

/// Whether the log files can be written: a server that says nothing cannot be run. What is not a regular file (a FIFO)
/// is not opened, because that could wait.
///
/// # Errors
/// The first that cannot, with its place.
pub fn check_outputs(loggers: &[Logger], folders: &Folders) -> Result<(), ConfigError> {
    let mut report = Diagnostics::default();
    for output in loggers.iter().flat_map(|logger| &logger.outputs) {
        let LogDestination::File(name) = &output.destination.value else { continue };
        let path = folders.log_file(name);
        if std::fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
            continue;
        }
        if let Err(error) = OpenOptions::new().append(true).create(true).open(&path) {
            let message = format!("the log file {} cannot be written: {error}", path.display());
            report.error(&output.destination.position, "output", message);
        }
    }
    report.finish().map(drop)
}

/// Whether there are folders for the log files, for a check that writes nothing: a warning, or with `on_host` an error,
/// because the server would not start.
///
/// # Errors
/// All that are missing, with their places.
pub fn check_folders(
    loggers: &[Logger],
    folders: &Folders,
    on_host: bool,
) -> Result<Vec<Diagnostic>, ConfigError> {
    let mut report = Diagnostics::default();
    for output in loggers.iter().flat_map(|logger| &logger.outputs) {
        let LogDestination::File(name) = &output.destination.value else { continue };
        let path = folders.log_file(name);
        let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
        else {
            continue;
        };
        let message = format!(
            "there is no folder {} for the log file: where it is missing the server does not start",
            folder.display()
        );
        if on_host {
            report.error(&output.destination.position, "output", message);
        } else {
            report.warn(&output.destination.position, "output", message);
        }
    }
    report.finish()
}

fn threshold(severity: Configured, debuglevel: u8) -> Option<(Severity, u8)> {
    match severity {
        Configured::Debug => Some((Severity::Debug, debuglevel)),
        Configured::Info => Some((Severity::Info, 0)),
        Configured::Warn => Some((Severity::Warn, 0)),
        Configured::Error => Some((Severity::Error, 0)),
        Configured::Fatal => Some((Severity::Fatal, 0)),
        Configured::None => None,
    }
}

fn output_settings(output: &LogOutput, folders: &Folders) -> OutputSettings {
    let destination = match &output.destination.value {
        LogDestination::File(name) => {
            Destination::File(folders.log_file(name).to_string_lossy().into_owned())
        }
        LogDestination::Stderr => Destination::Stderr,
        LogDestination::Stdout => Destination::Stdout,
        LogDestination::Syslog(facility) => Destination::Syslog(facility.clone()),
    };
    let layout = match (&output.pattern, &destination) {
        (Some(pattern), _) => Layout::parse(&pattern.value),
        (None, Destination::Syslog(_)) => Layout::syslog_default(),
        (None, _) => Layout::file_default(),
    };
    OutputSettings {
        destination,
        layout,
        rotation: Rotation {
            max_size_octets: output.maxsize.value,
            max_versions: output.maxver.value.max(1),
        },
    }
}

/// An event as the log thread takes it: its line begins with the message id of the release whose dialect the
/// configuration spoke at start, because watchers of the log match ids (CFG-42).
#[derive(Clone, Copy, Debug)]
pub struct Logged {
    /// What happened.
    pub event: Event,
    /// The dialect.
    pub dialect: Dialect,
}

impl fmt::Display for Logged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.dialect, self.event.kind) {
            (Dialect::Kea2_2, EventKind::LeaseOffer { address }) => {
                write!(out, "DHCP4_LEASE_ADVERT {}: lease {address} will be advertised", self.event.client)
            }
            _ => write!(out, "{} {}", self.event.id(), self.event),
        }
    }
}

impl PacketEvent for Logged {
    fn severity(&self) -> Severity {
        match self.event.severity() {
            Loudness::Debug(_) => Severity::Debug,
            Loudness::Info => Severity::Info,
            Loudness::Warn => Severity::Warn,
            Loudness::Error => Severity::Error,
        }
    }

    fn debug_level(&self) -> u8 {
        match self.event.severity() {
            Loudness::Debug(level) => level,
            _ => 0,
        }
    }

    fn logger(&self) -> &'static str {
        self.event.logger()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::ClientLabel;

    #[test]
    fn an_offer_is_logged_under_the_id_of_the_release_that_the_configuration_speaks() {
        let client = ClientLabel::new(1, &[2, 0, 0, 0, 0, 1], &[], 0x1234);
        let kind = EventKind::LeaseOffer { address: std::net::Ipv4Addr::new(192, 0, 2, 9) };
        let line = |dialect| Logged { event: Event { client, kind }, dialect }.to_string();
        let label = "[hwtype=1 02:00:00:00:00:01], cid=[no info], tid=0x1234";
        let older = format!("DHCP4_LEASE_ADVERT {label}: lease 192.0.2.9 will be advertised");
        assert_eq!(line(Dialect::Kea2_2), older);
        assert_eq!(
            line(Dialect::Kea3),
            format!("DHCP4_LEASE_OFFER {label}: lease 192.0.2.9 will be offered")
        );
    }

    #[test]
    fn a_check_finds_that_the_folder_of_a_log_file_is_missing_and_makes_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let folders = Folders::from_environment(|_| None);
        let check = |output: &str, on_host| {
            let text = format!(
                "{{\"Dhcp4\": {{\"loggers\": [ {{\"name\": \"kea-dhcp4\",\n \"output-options\": [ {{ \"output\": \"{output}\" }} ]}} ]}}}}"
            );
            let loggers = config::parse_dhcp4(text.as_bytes(), "test.conf").unwrap().document.loggers;
            check_folders(&loggers, &folders, on_host)
        };
        for good in ["stdout", "stderr", "syslog", &path("log")] {
            assert_eq!(check(good, true), Ok(Vec::new()), "{good}");
        }
        let said = format!("test.conf:2.34: there is no folder {} for the log file", path("none"));
        let error = check(&path("none/log"), true).unwrap_err();
        assert!(error.to_string().starts_with(&said), "{error}");
        let warnings = check(&path("none/log"), false).unwrap();
        assert!(warnings.len() == 1 && warnings[0].to_string().starts_with(&said), "{warnings:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_log_file_that_cannot_be_written_is_an_error_at_its_place_and_a_fifo_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        assert!(std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
        let folders = Folders::from_environment(|_| None);
        let check = |output: &str| {
            let text = format!(
                "{{\"Dhcp4\": {{\"loggers\": [ {{\"name\": \"kea-dhcp4\",\n \"output-options\": [ {{ \"output\": \"{output}\" }} ]}} ]}}}}"
            );
            let loggers = config::parse_dhcp4(text.as_bytes(), "test.conf").unwrap().document.loggers;
            check_outputs(&loggers, &folders).map_err(|error| error.to_string())
        };
        for good in ["stdout", "syslog", &path("log"), &path("fifo")] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [path("none/log"), path("")] {
            let said = check(&bad).unwrap_err();
            assert!(said.starts_with("test.conf:2.34: the log file ") && said.contains(&bad), "{said}");
        }
    }
}
