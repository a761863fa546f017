//! One output of the log: a file with rotation, a standard stream or the system log.
//!
//! Lines are gathered and written once a batch. An output that fails says so once on standard error and is
//! tried again with the next batch; it never takes the server down.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

use crate::logging::{Destination, Layout, OutputSettings, Severity, Step};

/// Where the system log listens.
const SYSLOG_SOCKET: &str = "/dev/log";
/// Facility `local0`, Kea's default, and the number of bits a facility is shifted by (RFC 5424 §6.2.1).
const SYSLOG_FACILITY_DEFAULT: u8 = 16;

/// An output and what waits for it.
pub(super) struct Output {
    /// What the system log calls this program: the root logger, as in Kea.
    identity: String,
    settings: OutputSettings,
    sink: Option<Sink>,
    buffer: Vec<u8>,
    complained: bool,
}

enum Sink {
    File { file: File, size: u64, regular: bool },
    Stderr,
    Stdout,
    Syslog { socket: UnixDatagram, facility: u8 },
}

impl Output {
    /// The output of `settings` of the program `identity`; it is opened with the first line.
    pub(super) fn new(identity: &str, settings: OutputSettings) -> Self {
        Self { identity: identity.to_owned(), settings, sink: None, buffer: Vec::new(), complained: false }
    }

    /// How its lines look.
    pub(super) fn layout(&self) -> &Layout {
        &self.settings.layout
    }

    /// Adds a line; the system log gets it at once, everything else with [`Output::flush`].
    pub(super) fn push(&mut self, severity: Severity, line: &str) {
        if matches!(self.settings.destination, Destination::Syslog(_)) {
            self.send_to_syslog(severity, line);
        } else {
            self.buffer.extend_from_slice(line.as_bytes());
        }
    }

    /// Writes what was added.
    pub(super) fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let outcome = self.write_buffer();
        self.buffer.clear();
        self.note(outcome);
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        self.open()?;
        self.rotate_if_due()?;
        match self.sink.as_mut() {
            Some(Sink::File { file, size, .. }) => {
                file.write_all(&self.buffer)?;
                *size += self.buffer.len() as u64;
                Ok(())
            }
            Some(Sink::Stdout) => {
                let mut out = io::stdout().lock();
                out.write_all(&self.buffer)?;
                out.flush()
            }
            Some(Sink::Stderr) => io::stderr().lock().write_all(&self.buffer),
            Some(Sink::Syslog { .. }) | None => Ok(()),
        }
    }

    fn open(&mut self) -> io::Result<()> {
        if self.sink.is_some() {
            return Ok(());
        }
        self.sink = Some(match &self.settings.destination {
            Destination::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path)?;
                let metadata = file.metadata()?;
                Sink::File { file, size: metadata.len(), regular: metadata.is_file() }
            }
            Destination::Stderr => Sink::Stderr,
            Destination::Stdout => Sink::Stdout,
            Destination::Syslog(facility) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(SYSLOG_SOCKET)?;
                Sink::Syslog { socket, facility: facility_number(facility.as_deref()) }
            }
        });
        Ok(())
    }

    fn rotate_if_due(&mut self) -> io::Result<()> {
        let Destination::File(path) = &self.settings.destination else { return Ok(()) };
        let Some(Sink::File { size, regular: true, .. }) = &self.sink else { return Ok(()) };
        if !self.settings.rotation.is_due(*size, self.buffer.len() as u64) {
            return Ok(());
        }
        for step in self.settings.rotation.steps(path) {
            let outcome = match &step {
                Step::Remove(path) => std::fs::remove_file(path),
                Step::Rename(from, to) => std::fs::rename(from, to),
            };
            match outcome {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.sink = None;
        self.open()
    }

    fn send_to_syslog(&mut self, severity: Severity, line: &str) {
        let outcome = self.open().and_then(|()| match &self.sink {
            Some(Sink::Syslog { socket, facility }) => {
                let priority = u16::from(*facility) * 8 + syslog_severity(severity);
                let text = format!("<{priority}>{}: {}", self.identity, line.trim_end());
                socket.send(text.as_bytes()).map(|_| ())
            }
            _ => Ok(()),
        });
        self.note(outcome);
    }

    /// Says once that the output fails, and forgets the sink so that the next batch opens it again.
    fn note(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.complained = false,
            Err(error) => {
                self.sink = None;
                if !std::mem::replace(&mut self.complained, true) {
                    // Standard error is the last resort: where it fails too there is nobody left to tell.
                    let _ = writeln!(io::stderr(), "log output {}: {error}", self.settings.destination);
                }
            }
        }
    }
}

/// RFC 5424 §6.2.1 severities.
fn syslog_severity(severity: Severity) -> u16 {
    match severity {
        Severity::Fatal => 2,
        Severity::Error => 3,
        Severity::Warn => 4,
        Severity::Info => 6,
        Severity::Debug => 7,
    }
}

/// RFC 5424 §6.2.1 facilities by the names syslog.conf uses.
fn facility_number(name: Option<&str>) -> u8 {
    const NAMES: [&str; 12] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    ];
    let Some(name) = name else { return SYSLOG_FACILITY_DEFAULT };
    let name = name.to_ascii_lowercase();
    if let Some(number) = name.strip_prefix("local").and_then(|digit| digit.parse::<u8>().ok()) {
        return SYSLOG_FACILITY_DEFAULT + number.min(7);
    }
    NAMES.iter().position(|known| *known == name).map_or(SYSLOG_FACILITY_DEFAULT, |number| number as u8)
}
