//! The tree of loggers: which messages pass, and to which outputs (CFG-40, CFG-41).

use std::fmt;

use super::{Layout, Rotation, Severity};

/// Largest debug level.
pub const DEBUG_LEVEL_MAX: u8 = 99;

/// One entry of `loggers`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoggerSettings {
    /// Name in the tree, such as `kea-dhcp4.packets`.
    pub name: String,
    /// Least severity that passes, with the debug level 0..=99 for `DEBUG`; `None` inherits, `Some(None)` is `NONE`.
    pub severity: Option<Option<(Severity, u8)>>,
    /// Outputs; empty inherits.
    pub outputs: Vec<OutputSettings>,
}

/// One entry of `output-options`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutputSettings {
    /// Where lines go.
    pub destination: Destination,
    /// Line layout.
    pub layout: Layout,
    /// Rotation of a file.
    pub rotation: Rotation,
}

/// Where lines go.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Destination {
    /// A file, appended to.
    File(String),
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The system log, with an optional facility name.
    Syslog(Option<String>),
}

impl Destination {
    /// Reads the `output` key: `stdout`, `stderr`, `syslog[:facility]`, else a file's path.
    pub fn parse(output: &str) -> Self {
        match output {
            "stderr" => Self::Stderr,
            "stdout" => Self::Stdout,
            "syslog" => Self::Syslog(None),
            _ => match output.strip_prefix("syslog:") {
                Some(facility) => Self::Syslog(Some(facility.to_owned())),
                None => Self::File(output.to_owned()),
            },
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => out.write_str(path),
            Self::Stderr => out.write_str("stderr"),
            Self::Stdout => out.write_str("stdout"),
            Self::Syslog(None) => out.write_str("syslog"),
            Self::Syslog(Some(facility)) => write!(out, "syslog:{facility}"),
        }
    }
}

/// What the tree says of one logger: the threshold in force and indexes into [`LoggerTree::outputs`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Least severity and debug level that pass; `None` lets nothing pass.
    pub threshold: Option<(Severity, u8)>,
    /// Outputs, as indexes.
    pub outputs: Vec<usize>,
}

impl Route {
    /// Whether a message of `severity` (and `debug_level`, where it is a debug message) passes.
    pub fn passes(&self, severity: Severity, debug_level: u8) -> bool {
        match self.threshold {
            None => false,
            Some((Severity::Debug, most)) => severity > Severity::Debug || debug_level <= most,
            Some((least, _)) => severity >= least,
        }
    }
}

/// The loggers in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoggerTree {
    loggers: Vec<LoggerSettings>,
    outputs: Vec<OutputSettings>,
}

impl LoggerTree {
    /// The tree over `loggers`; a missing root gets INFO to standard output (CFG-43). With `debug_all` (`-d`)
    /// every logger passes DEBUG 99 whatever it is configured to.
    pub fn new(root: &str, mut loggers: Vec<LoggerSettings>, debug_all: bool) -> Self {
        if !loggers.iter().any(|logger| logger.name == root) {
            loggers.push(LoggerSettings { name: root.to_owned(), severity: None, outputs: Vec::new() });
        }
        for logger in &mut loggers {
            if logger.name == root {
                logger.severity = logger.severity.or(Some(Some((Severity::Info, 0))));
                if logger.outputs.is_empty() {
                    logger.outputs.push(OutputSettings {
                        destination: Destination::Stdout,
                        layout: Layout::file_default(),
                        rotation: Rotation::default(),
                    });
                }
            }
            if debug_all {
                logger.severity = Some(Some((Severity::Debug, DEBUG_LEVEL_MAX)));
            }
        }
        let mut outputs: Vec<OutputSettings> = Vec::new();
        for output in loggers.iter().flat_map(|logger| &logger.outputs) {
            if !outputs.iter().any(|known| known.destination == output.destination) {
                outputs.push(output.clone());
            }
        }
        Self { loggers, outputs }
    }

    /// The least severity and the largest debug level that any logger passes.
    pub fn most_verbose(&self) -> (Severity, u8) {
        let thresholds = self.loggers.iter().filter_map(|logger| logger.severity.flatten());
        thresholds.fold((Severity::Fatal, 0), |(least, most), (severity, debug_level)| {
            let debug_level = if severity == Severity::Debug { debug_level } else { 0 };
            (least.min(severity), most.max(debug_level))
        })
    }

    /// Every output once.
    pub fn outputs(&self) -> &[OutputSettings] {
        &self.outputs
    }

    /// What is in force for the logger `name`: its own settings, else those of the nearest ancestor.
    pub fn route(&self, name: &str) -> Route {
        let mut threshold = None;
        let mut destinations: Option<&Vec<OutputSettings>> = None;
        let mut ancestor = Some(name);
        while let Some(at) = ancestor {
            if let Some(logger) = self.loggers.iter().find(|logger| logger.name == at) {
                threshold = threshold.or(logger.severity);
                if destinations.is_none() && !logger.outputs.is_empty() {
                    destinations = Some(&logger.outputs);
                }
            }
            ancestor = at.rfind('.').map(|dot| &at[..dot]);
        }
        let outputs = destinations
            .into_iter()
            .flatten()
            .filter_map(|wanted| {
                self.outputs.iter().position(|known| known.destination == wanted.destination)
            })
            .collect();
        Route { threshold: threshold.flatten(), outputs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logger(name: &str, severity: Option<Option<(Severity, u8)>>, files: &[&str]) -> LoggerSettings {
        let outputs = files.iter().map(|file| OutputSettings {
            destination: Destination::parse(file),
            layout: Layout::file_default(),
            rotation: Rotation::default(),
        });
        LoggerSettings { name: name.to_owned(), severity, outputs: outputs.collect() }
    }

    #[test]
    fn a_child_inherits_what_it_does_not_set() {
        let tree = LoggerTree::new(
            "kea-dhcp4",
            vec![
                logger("kea-dhcp4", Some(Some((Severity::Warn, 0))), &["main.log"]),
                logger("kea-dhcp4.packets", Some(Some((Severity::Debug, 15))), &[]),
                logger("kea-dhcp4.leases", None, &["leases.log"]),
                logger("kea-dhcp4.eval", Some(None), &[]),
            ],
            false,
        );
        let table = [
            // logger, severity, debug level, passes, outputs
            ("kea-dhcp4.dhcp4", Severity::Warn, 0, true, vec![0]),
            ("kea-dhcp4.dhcp4", Severity::Info, 0, false, vec![0]),
            ("kea-dhcp4.packets", Severity::Debug, 15, true, vec![0]),
            ("kea-dhcp4.packets", Severity::Debug, 16, false, vec![0]),
            ("kea-dhcp4.leases", Severity::Error, 0, true, vec![1]),
            ("kea-dhcp4.leases", Severity::Info, 0, false, vec![1]),
            ("kea-dhcp4.eval", Severity::Fatal, 0, false, vec![0]),
        ];
        for (name, severity, debug_level, passes, outputs) in table {
            let route = tree.route(name);
            assert_eq!(route.passes(severity, debug_level), passes, "{name} {severity} {debug_level}");
            assert_eq!(route.outputs, outputs, "{name}");
        }
    }

    #[test]
    fn without_loggers_info_goes_to_standard_output() {
        let tree = LoggerTree::new("kea-dhcp4", Vec::new(), false);
        let route = tree.route("kea-dhcp4.ha-hooks");
        assert!(route.passes(Severity::Info, 0) && !route.passes(Severity::Debug, 0));
        assert_eq!(tree.outputs()[route.outputs[0]].destination, Destination::Stdout);
    }

    #[test]
    fn the_debug_switch_overrides_every_severity() {
        let tree = LoggerTree::new("kea-dhcp4", vec![logger("kea-dhcp4", Some(None), &["f"])], true);
        assert!(tree.route("kea-dhcp4.packets").passes(Severity::Debug, DEBUG_LEVEL_MAX));
    }

    #[test]
    fn outputs_are_read_as_kea_spells_them() {
        assert_eq!(Destination::parse("syslog:local0"), Destination::Syslog(Some("local0".into())));
        assert_eq!(Destination::parse("stderr"), Destination::Stderr);
        assert_eq!(Destination::parse("/var/log/kea/x.log"), Destination::File("/var/log/kea/x.log".into()));
    }
}
