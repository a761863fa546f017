//! Where bare names and relative paths of a file lead (CFG-60).
//!
//! The environment is the caller's: it hands in a lookup, so that nothing here depends on the process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Folders that names are resolved in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Folders {
    /// Lease files; `KEA_DHCP_DATA_DIR`, `/var/lib/kea` by default.
    pub data: PathBuf,
    /// Control sockets; `KEA_CONTROL_SOCKET_DIR`, `/run/kea` by default.
    pub sockets: PathBuf,
    /// Log files; `KEA_LOG_FILE_DIR`, `/var/log/kea` by default.
    pub logs: PathBuf,
    /// PID files; `KEA_PIDFILE_DIR`, `/run/kea` by default.
    pub pid_files: PathBuf,
    /// Lock files; `KEA_LOCKFILE_DIR`, `/run/lock/kea` by default.
    pub lock_files: PathBuf,
}

impl Folders {
    /// Folders as the environment says, which `lookup` reads; an empty variable counts as unset.
    pub fn from_environment(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = |variable: &str, default: &str| match lookup(variable) {
            Some(value) if !value.is_empty() => PathBuf::from(value),
            _ => PathBuf::from(default),
        };
        Self {
            data: folder("KEA_DHCP_DATA_DIR", "/var/lib/kea"),
            sockets: folder("KEA_CONTROL_SOCKET_DIR", "/run/kea"),
            logs: folder("KEA_LOG_FILE_DIR", "/var/log/kea"),
            pid_files: folder("KEA_PIDFILE_DIR", "/run/kea"),
            lock_files: folder("KEA_LOCKFILE_DIR", "/run/lock/kea"),
        }
    }

    /// The lease file: `lease-database.name`, or `kea-leases4.csv`.
    pub fn lease_file(&self, name: Option<&str>) -> PathBuf {
        resolve(&self.data, name.unwrap_or("kea-leases4.csv"))
    }

    /// A control socket by its `socket-name`.
    pub fn socket(&self, name: &str) -> PathBuf {
        resolve(&self.sockets, name)
    }

    /// A log file by its `output`.
    pub fn log_file(&self, name: &str) -> PathBuf {
        resolve(&self.logs, name)
    }

    /// The PID file Kea's scripts look for: `<config file stem>.<program>.pid`.
    pub fn pid_file(&self, config_file: &Path, program: &str) -> PathBuf {
        let stem = config_file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
        self.pid_files.join(format!("{stem}.{program}.pid"))
    }
}

/// A path with a folder in it stands as it is (relative ones against the working directory, as in Kea); a
/// bare name goes into `folder`.
fn resolve(folder: &Path, name: &str) -> PathBuf {
    if name.contains('/') { PathBuf::from(name) } else { folder.join(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names_go_into_the_folder_and_paths_stand() {
        let folders = Folders::from_environment(|variable| match variable {
            "KEA_DHCP_DATA_DIR" => Some(OsString::from("/data")),
            "KEA_LOG_FILE_DIR" => Some(OsString::new()),
            _ => None,
        });
        let rows: [(PathBuf, &str); 7] = [
            (folders.lease_file(None), "/data/kea-leases4.csv"),
            (folders.lease_file(Some("other.csv")), "/data/other.csv"),
            (folders.lease_file(Some("/srv/leases.csv")), "/srv/leases.csv"),
            (folders.lease_file(Some("here/leases.csv")), "here/leases.csv"),
            (folders.socket("kea4-ctrl-socket"), "/run/kea/kea4-ctrl-socket"),
            (folders.log_file("kea.log"), "/var/log/kea/kea.log"),
            (
                folders.pid_file(Path::new("/etc/kea/kea-dhcp4.conf"), "kea-dhcp4"),
                "/run/kea/kea-dhcp4.kea-dhcp4.pid",
            ),
        ];
        for (got, expected) in rows {
            assert_eq!(got, PathBuf::from(expected));
        }
    }
}
