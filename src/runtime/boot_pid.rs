//! The PID file (CLI-3): one server for each configuration name.
//!
//! What makes a server "running" is a lock on the file, not the number in it, so a crash or a reused number never
//! keeps the next start away. The number is for people and scripts.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use shards::sys::lock;

use crate::fatal::Fatal;

/// The PID file while the server runs; removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _file: File,
}

/// What a program is called where it says that it runs already.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Message id.
    id: &'static str,
    /// Id of a start that fails.
    failed: &'static str,
    name: &'static str,
    /// What is in the name of its process.
    process: &'static str,
}

impl PidFile {
    /// The control agent.
    pub const AGENT: Program = Program {
        id: "DCTL_ALREADY_RUNNING",
        failed: "DCTL_PID_FILE_ERROR",
        name: "Control-agent",
        // The kernel cuts names after 15 octets.
        process: "ctrl-age",
    };
    /// The server.
    pub const SERVER: Program = Program {
        id: "DHCP4_ALREADY_RUNNING",
        failed: "DHCP4_INIT_FAIL",
        name: "kea-dhcp4",
        process: "dhcp4",
    };

    /// Writes the PID file of `program` at `path`.
    ///
    /// # Errors
    /// [`Fatal::AlreadyRunning`] when another process holds it (its number is in the text), [`Fatal::Start`] when it
    /// cannot be written.
    pub fn create(path: &Path, program: Program) -> Result<Self, Fatal> {
        let failed = |error: io::Error| {
            Fatal::Start(format!(
                "{} cannot write the PID file {}: {error}; set KEA_PIDFILE_DIR to a folder this user can write",
                program.failed,
                path.display()
            ))
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let mut old = String::new();
        file.read_to_string(&mut old).map_err(failed)?;
        let old: i32 = old.trim().parse().unwrap_or(0);
        // A Kea takes no lock: a live process that wrote its number there runs, unless the number is ours again.
        let other_alive = lock::process_exists(old) && u32::try_from(old) != Ok(std::process::id());
        if !lock::try_lock(&file).map_err(failed)? || (other_alive && is_called(old, program.process)) {
            return Err(Fatal::AlreadyRunning(format!(
                "{} {} already running? PID {old} (PID file {})",
                program.id,
                program.name,
                path.display()
            )));
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _file: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether a process has `part` in its name: numbers are used again after a crash.
fn is_called(pid: i32, part: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_refused_a_stale_number_is_not_and_the_end_removes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/kea-dhcp4.kea-dhcp4.pid");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        let first = PidFile::create(&path, PidFile::SERVER).expect("process 1 is no DHCP server");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        let refused = PidFile::create(&path, PidFile::SERVER).unwrap_err();
        assert!(
            matches!(&refused, Fatal::AlreadyRunning(text) if text.contains(&std::process::id().to_string()))
        );
        drop(first);
        assert!(!path.exists());
    }
}
