//! Command lines: Kea's letters for the servers (h.1), and nothing but their meaning.

use std::path::PathBuf;

use clap::Parser;

/// `-c`, `-t`, `-T`, `-p`, `-P`, `-d`, `-X`, `-v`, `-V`, `-W` as the operator wrote them.
#[derive(Debug, Parser)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Letters {
    #[arg(short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(short = 't', value_name = "FILE")]
    check: Option<PathBuf>,
    #[arg(short = 'T', value_name = "FILE")]
    check_host: Option<PathBuf>,
    #[arg(short = 'p', value_name = "NUMBER")]
    server_port: Option<String>,
    #[arg(short = 'P', value_name = "NUMBER")]
    client_port: Option<String>,
    #[arg(short = 'd')]
    debug: bool,
    #[arg(short = 'X')]
    relax: bool,
    #[arg(short = 'v')]
    version: bool,
    #[arg(short = 'V')]
    version_extended: bool,
    #[arg(short = 'W')]
    build_report: bool,
}

/// What a server's command line asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Call {
    /// Run with this configuration.
    Run(Run),
    /// Check this configuration and end; `on_host` also looks at the host's interfaces (`-T`).
    Check {
        /// The file.
        config: PathBuf,
        /// `-T`.
        on_host: bool,
    },
    /// Print the version and end.
    Version,
    /// Print the version and everything about it, and end.
    VersionExtended,
    /// Print how the program was built, and end.
    BuildReport,
}

/// How to run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// `-c`.
    pub config: PathBuf,
    /// `-d`: every logger passes DEBUG 99.
    pub debug: bool,
    /// `-p`, 67 by default.
    pub server_port: u16,
    /// `-P`: destination port of every reply.
    pub client_port: Option<u16>,
    /// `-X`: security checks of paths become warnings.
    pub relax: bool,
}

/// Which program was called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// The control agent.
    ControlAgent,
    /// The DHCPv4 server.
    Dhcp4,
}

impl Program {
    /// Usage, as Kea prints it (CLI-1).
    pub fn usage(self) -> &'static str {
        match self {
            Self::Dhcp4 => {
                "Tandem DHCPv4 server\n\n\
                 Usage: tandem-dhcp4 -[v|V|W] [-d] [-X] [-{c|t|T} cfgfile] [-p number] [-P number]\n  \
                 -c file:   run with this configuration\n  \
                 -t file:   check the configuration and exit\n  \
                 -T file:   check the configuration and the host's interfaces and exit\n  \
                 -p number: server port, 1-65535 (for tests)\n  \
                 -P number: client port, 1-65535 (for tests)\n  \
                 -d:        debug messages\n  \
                 -X:        turn the checks of paths into warnings\n  \
                 -v, -V:    version, extended version\n  \
                 -W:        how the program was built"
            }
            Self::ControlAgent => {
                "Tandem control agent\n\n\
                 Usage: tandem-ctrl-agent -[v|V|W] [-d] [-{c|t} cfgfile]\n  \
                 -c file:   run with this configuration\n  \
                 -t file:   check the configuration and exit\n  \
                 -d:        debug messages\n  \
                 -v, -V:    version, extended version\n  \
                 -W:        how the program was built"
            }
        }
    }
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// What to print on standard error before the exit with 1: what is wrong, and the usage.
pub fn parse(
    program: Program,
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Call, String> {
    let name = std::ffi::OsString::from("tandem");
    let letters = Letters::try_parse_from(std::iter::once(name).chain(arguments))
        .map_err(|error| refuse(program, error.to_string().lines().next().unwrap_or_default()))?;
    if letters.version {
        return Ok(Call::Version);
    }
    if letters.version_extended {
        return Ok(Call::VersionExtended);
    }
    if letters.build_report {
        return Ok(Call::BuildReport);
    }
    let server_port = port(program, "server", letters.server_port.as_deref())?;
    let client_port = port(program, "client", letters.client_port.as_deref())?;
    let only_server =
        letters.check_host.is_some() || server_port.is_some() || client_port.is_some() || letters.relax;
    if program == Program::ControlAgent && only_server {
        return Err(refuse(program, "-T, -p, -P and -X are options of the DHCPv4 server"));
    }
    match (letters.config, letters.check, letters.check_host) {
        (Some(config), None, None) => Ok(Call::Run(Run {
            config,
            debug: letters.debug,
            server_port: server_port.unwrap_or(67),
            client_port,
            relax: letters.relax,
        })),
        (None, Some(config), None) => Ok(Call::Check { config, on_host: false }),
        (None, None, Some(config)) => Ok(Call::Check { config, on_host: true }),
        (None, None, None) => Err(refuse(program, "Configuration file not specified.")),
        _ => Err(refuse(program, "Only one of -c, -t and -T can be given.")),
    }
}

fn port(program: Program, side: &str, text: Option<&str>) -> Result<Option<u16>, String> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(refuse(program, &format!("Failed to parse {side} port number: [{text}], 1-65535 allowed."))),
    }
}

fn refuse(program: Program, what: &str) -> String {
    format!("{what}\n\n{}", program.usage())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(program: Program, line: &str) -> Result<Call, String> {
        parse(program, line.split_whitespace().map(std::ffi::OsString::from))
    }

    #[test]
    fn kea_letters_mean_what_they_mean_in_kea() {
        let run = |debug, server_port, client_port| {
            Ok(Call::Run(Run { config: "a.conf".into(), debug, server_port, client_port, relax: false }))
        };
        let rows = [
            ("-c a.conf", run(false, 67, None)),
            ("-d -c a.conf -p 10067 -P 10068", run(true, 10067, Some(10068))),
            ("-t a.conf", Ok(Call::Check { config: "a.conf".into(), on_host: false })),
            ("-T a.conf", Ok(Call::Check { config: "a.conf".into(), on_host: true })),
            ("-v", Ok(Call::Version)),
            ("-V", Ok(Call::VersionExtended)),
            ("-W", Ok(Call::BuildReport)),
        ];
        for (line, expected) in rows {
            assert_eq!(call(Program::Dhcp4, line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_says_so_and_shows_the_usage() {
        let rows = [
            (Program::Dhcp4, "", "Configuration file not specified."),
            (Program::Dhcp4, "-c a.conf -t a.conf", "Only one of"),
            (Program::Dhcp4, "-c a.conf extra", "extra"),
            (Program::Dhcp4, "-c a.conf -p 0", "Failed to parse server port number: [0], 1-65535 allowed."),
            (Program::Dhcp4, "-c a.conf -P 65536", "Failed to parse client port number: [65536]"),
            (Program::Dhcp4, "-h", "-h"),
            (Program::ControlAgent, "-c a.conf -p 8000", "options of the DHCPv4 server"),
        ];
        for (program, line, expected) in rows {
            let message = call(program, line).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
            assert!(message.contains("Usage:"), "{line}");
        }
    }
}
