//! One server of the pair as a process of its own, with a folder of its own.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shards::sys::process;

use super::DemoError;
use super::plan::{STOP_WITHIN, ServerPorts};
use crate::runtime::control_client;

/// How often a process that should end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a server's output that an error quotes.
const QUOTED_LINES: usize = 6;

/// A server of the pair; killed when dropped.
pub(super) struct Server {
    name: &'static str,
    folder: PathBuf,
    dhcp_port: u16,
    reply_port: u16,
    child: Option<Child>,
}

/// Where a server with this folder has its control socket.
pub(super) fn socket_path(folder: &Path) -> PathBuf {
    folder.join("control")
}

/// Where a server with this folder keeps its leases.
pub(super) fn lease_file(folder: &Path) -> PathBuf {
    folder.join("kea-leases4.csv")
}

impl Server {
    /// Prepares the folder of a server with `configuration`; `start` is due.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn new(
        name: &'static str,
        folder: PathBuf,
        configuration: &str,
        ports: ServerPorts,
        reply_port: u16,
    ) -> io::Result<Self> {
        fs::write(folder.join("kea-dhcp4.conf"), configuration)?;
        Ok(Self { name, folder, dhcp_port: ports.dhcp, reply_port, child: None })
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts it: this very program, as `dhcp4` with its own ports.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let output = File::options().create(true).append(true).open(self.folder.join("output"))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("dhcp4").arg("-c").arg(self.folder.join("kea-dhcp4.conf"));
        command.args(["-p", &self.dhcp_port.to_string(), "-P", &self.reply_port.to_string()]);
        for variable in [
            "KEA_CONTROL_SOCKET_DIR",
            "KEA_DHCP_DATA_DIR",
            "KEA_LOCKFILE_DIR",
            "KEA_LOG_FILE_DIR",
            "KEA_PIDFILE_DIR",
        ] {
            command.env(variable, &self.folder);
        }
        command.env_remove("KEA_LOGGER_DESTINATION");
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // Ctrl-C is for the demo, which stops its servers itself; they must not outlive it either.
        command.process_group(0);
        process::die_with_parent(&mut command);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Process id while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Fails, with what the server said, if it has ended although nobody asked it to.
    ///
    /// # Errors
    /// [`DemoError::Ended`].
    pub(super) fn check(&mut self) -> Result<(), DemoError> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.child = None;
                Err(self.ended(status))
            }
        }
    }

    /// Ends it as a power cut does.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to stop, over its control socket, and waits for it.
    ///
    /// # Errors
    /// It does not answer, does not end, or ends with another code than 0.
    pub(super) fn stop(&mut self) -> Result<(), DemoError> {
        control_client::command(&socket_path(&self.folder), "shutdown", Value::Null, STOP_WITHIN)
            .map_err(|cause| DemoError::Control { server: self.name, cause })?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let asked = Instant::now();
        loop {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.ended(status)),
                None if asked.elapsed() > STOP_WITHIN => {
                    child.kill()?;
                    child.wait()?;
                    return Err(DemoError::DoesNotStop { server: self.name });
                }
                None => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn ended(&self, status: ExitStatus) -> DemoError {
        let output = fs::read_to_string(self.folder.join("output")).unwrap_or_default();
        DemoError::Ended { server: self.name, status: status.to_string(), said: last_words(&output) }
    }
}

/// What a server said about its end: its own last line if it had time for it, or what it wrote last.
fn last_words(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let own: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("tandem-dhcp4: ")).collect();
    match own.last() {
        Some(line) => (*line).to_owned(),
        None => lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n    "),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed, which is what is wanted.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_quoted_by_its_own_words_before_anything_else() {
        let panic = "thread 'x' panicked\n\n  1: frame\n";
        assert_eq!(
            last_words(&format!("{panic}tandem-dhcp4: no memory\nnote: more\n")),
            "tandem-dhcp4: no memory"
        );
        assert_eq!(last_words(panic), "thread 'x' panicked\n      1: frame");
        assert_eq!(last_words(""), "");
    }
}
