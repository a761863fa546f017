//! The partner of a server under load: a namespace of its own, certificates, and the states of both.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::kea::peer_name;
use super::layout;
use super::process::Process;
use crate::report::{Role, States, Task};

/// The state in which both serve as they should.
const NORMAL: &str = "hot-standby";

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// The standby, and where both are asked.
#[derive(Debug)]
pub struct Pair {
    standby: Process,
    sockets: [PathBuf; 2],
}

impl Pair {
    /// Takes the standby that has been started; the control sockets are those of primary and standby.
    pub fn new(standby: Process, sockets: [PathBuf; 2]) -> Self {
        Self { standby, sockets }
    }

    /// Waits until both are in their normal state; `false` when told to stop.
    ///
    /// # Errors
    /// When the standby ends, or when they take longer than `patience`.
    pub fn wait_until_whole(&mut self, patience: Duration, stop: &AtomicBool) -> Result<bool> {
        let start = Instant::now();
        loop {
            let states = self.states();
            if states.are_normal() {
                return Ok(true);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.standby.ensure_running()?;
            ensure!(
                start.elapsed() < patience,
                "the pair does not become whole: primary {}, standby {}: {}",
                states.primary,
                states.standby,
                self.standby.said()
            );
            thread::sleep(PAUSE);
        }
    }

    /// The threads of the standby.
    pub fn standby_tasks(&self) -> Vec<Task> {
        self.standby.tasks()
    }

    /// The states of both as they say themselves.
    pub fn states(&self) -> States {
        let [primary, standby] = [0, 1].map(|index| state(&self.sockets[index]));
        States { primary, standby }
    }
}

impl States {
    /// Whether the pair serves as it should.
    pub fn are_normal(&self) -> bool {
        [&self.primary, &self.standby].iter().all(|state| *state == NORMAL)
    }
}

/// Makes a certificate and a key for both with `tandem pki`.
///
/// # Errors
/// When the program fails.
pub fn make_certificates(tandem: &Path, folder: &Path) -> Result<()> {
    let host = |role: Role, address: &str| format!("{}={address}", peer_name(role));
    let mut command = Command::new(tandem);
    command.args(["pki", "--dir"]).arg(folder);
    command.args(["--host", &host(Role::Primary, layout::PRIMARY_HA_ADDRESS)]);
    command.args(["--host", &host(Role::Standby, layout::STANDBY_HA_ADDRESS)]);
    let output = command.output().with_context(|| format!("starting {}", tandem.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} pki: {}", tandem.display(), said.trim());
    Ok(())
}

/// What a server says of itself; `unreachable` if it says nothing.
fn state(socket: &Path) -> String {
    let answer = ask(socket, "status-get").unwrap_or_default();
    local_state(&answer).unwrap_or("unreachable").to_owned()
}

fn local_state(answer: &Value) -> Option<&str> {
    answer.pointer("/arguments/high-availability/0/ha-servers/local/state").and_then(Value::as_str)
}

fn ask(socket: &Path, command: &str) -> Option<Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    stream.write_all(json!({ "command": command }).to_string().as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    serde_json::from_slice(&answer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_normal_when_both_say_so() {
        let table = [
            ("hot-standby", "hot-standby", true),
            ("hot-standby", "unreachable", false),
            ("partner-down", NORMAL, false),
        ];
        for (primary, standby, normal) in table {
            let states = States { primary: primary.into(), standby: standby.into() };
            assert_eq!(states.are_normal(), normal, "{primary} {standby}");
        }
    }

    #[test]
    fn the_state_is_read_where_kea_puts_it() {
        let answer = json!({ "result": 0, "arguments": { "high-availability": [
            { "ha-servers": { "local": { "state": "ready" }, "remote": { "last-state": "waiting" } } },
        ] } });
        assert_eq!(local_state(&answer), Some("ready"));
        assert_eq!(local_state(&json!({ "result": 1 })), None);
        assert_eq!(state(Path::new("/nobody/listens/here")), "unreachable");
    }
}
