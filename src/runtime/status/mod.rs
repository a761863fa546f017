//! `tandem status`: servers and their pair at a glance, asked over their unix control sockets.
//!
//! Nothing is needed but access to a socket, so any user whom the socket lets in can ask. What the servers say
//! becomes a [`report::Report`]; how it looks is `render`'s. The exit code is for scripts: 0 when all is well, 1 when
//! something is not as it should be, 2 when a server does not answer or the call is wrong.

mod render;
mod report;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use config::paths::Folders;
use config::socket::ControlSocket;
use serde_json::Value;

use self::report::{Answers, Report};
use super::control_client::{self, ControlError};

/// A server answers within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Exit code when a server does not answer, or nobody could be asked.
const NO_ANSWER: u8 = 2;

/// Shows how servers and their pair are, asked over unix control sockets: the HA state of both partners, leases,
/// traffic, and whatever is not as it should be. Exits with 0 when all is well, 1 when something is not, 2 when a
/// server does not answer.
#[derive(Debug, Parser)]
#[command(name = "tandem status")]
struct Arguments {
    /// Control sockets; of both servers where both run on this machine
    #[arg(value_name = "SOCKET", required_unless_present = "configs")]
    sockets: Vec<PathBuf>,
    /// Configuration of a server, which names its control socket; may be given again
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    configs: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `tandem status` with the arguments after its name.
pub fn status(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let name = OsString::from("tandem status");
    let arguments = match Arguments::try_parse_from(std::iter::once(name).chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output and is no failure; clap knows which is which.
            let code = u8::try_from(error.exit_code()).unwrap_or(NO_ANSWER);
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::from(NO_ANSWER) };
        }
    };
    let folders = Folders::from_environment(|name| std::env::var_os(name));
    let mut sockets = arguments.sockets;
    for file in &arguments.configs {
        match socket_of(file, &folders) {
            Ok(socket) => sockets.push(socket),
            Err(text) => {
                eprintln!("tandem status: {text}");
                return ExitCode::from(NO_ANSWER);
            }
        }
    }
    let report = Report::from_answers(sockets.into_iter().map(ask).collect());
    let text = if arguments.json {
        serde_json::to_string_pretty(&report).unwrap_or_else(|error| error.to_string())
    } else {
        render::text(&report).trim_end().to_owned()
    };
    println!("{text}");
    match (report.all_answered(), report.is_well()) {
        (false, _) => ExitCode::from(NO_ANSWER),
        (true, false) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
    }
}

/// The first unix control socket of a configuration.
fn socket_of(file: &std::path::Path, folders: &Folders) -> Result<PathBuf, String> {
    let path = file.to_str().ok_or_else(|| format!("{}: not a UTF-8 path", file.display()))?;
    let loaded = config::load_dhcp4(path).map_err(|error| error.to_string())?;
    let unix = loaded.document.control_sockets.iter().find_map(|socket| match socket {
        ControlSocket::Unix(unix) => Some(folders.socket(&unix.name)),
        ControlSocket::Http(_) => None,
    });
    unix.ok_or_else(|| format!("{path}: it has no unix control socket"))
}

fn ask(socket: PathBuf) -> Answers {
    let ask = |command| -> Result<Value, ControlError> {
        control_client::command(&socket, command, Value::Null, PATIENCE)
    };
    let answers = ask("status-get").and_then(|status| Ok((status, ask("statistic-get-all")?)));
    Answers { socket, answers: answers.map_err(|error| error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_leads_to_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kea-dhcp4.conf");
        let folders = Folders::from_environment(|_| Some(OsString::from("/run/here")));
        let rows = [
            (r#"{"control-socket": {"socket-type": "unix", "socket-name": "one"}}"#, Ok("/run/here/one")),
            (r#"{"control-socket": {"socket-type": "unix", "socket-name": "/x/two"}}"#, Ok("/x/two")),
            (r#"{"valid-lifetime": 3600}"#, Err("no unix control socket")),
            (r#"{"no-such-key": 1}"#, Err("no-such-key")),
        ];
        for (inside, expected) in rows {
            std::fs::write(&file, format!("{{\"Dhcp4\": {inside}}}")).unwrap();
            match (socket_of(&file, &folders), expected) {
                (Ok(socket), Ok(expected)) => assert_eq!(socket, PathBuf::from(expected)),
                (Err(text), Err(expected)) => assert!(text.contains(expected), "{text}"),
                (result, _) => panic!("{inside}: {result:?}"),
            }
        }
    }
}
