//! Which other servers may lack changes that were made here: what must not be forgotten by a restart.
//!
//! Beside the lease file `X` lies `X.tandem-behind` while a partner was not told of changes, or while there are
//! backups, for whom updates are always under way. It is written before the first such change can be made and taken
//! back when the other server has everything, so that a process that was killed knows when it starts again. While a
//! partner is in it, the rows of deleted leases stay in the lease file: that partner has yet to hear of them.
//!
//! Without a lease file nothing is kept, because nothing outlives the process.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::ha::log::TARGET;

/// Another server: the name of this one in the relationship, and its own.
type Pair = (String, String);

/// What the other server is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// A backup.
    Backup,
    /// The active partner.
    Partner,
}

/// The file. Shared by the control node, whatever opens the lease file, and the end of the server.
#[derive(Clone, Debug, Default)]
pub struct Behind(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    path: Option<PathBuf>,
    names: Names,
    /// There was a file that says nothing: whoever is asked for may lack changes.
    unreadable: bool,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Names {
    backups: BTreeSet<Pair>,
    partners: BTreeSet<Pair>,
}

impl Behind {
    /// What an earlier process has left beside the lease file at `lease_file`.
    ///
    /// # Errors
    /// It is there, and the system does not let it be read.
    pub fn beside(lease_file: &Path) -> io::Result<Self> {
        let mut path = lease_file.as_os_str().to_owned();
        path.push(".tandem-behind");
        let path = PathBuf::from(path);
        let octets = match fs::read(&path) {
            Ok(octets) => Some(octets),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let names = octets.as_deref().map(serde_json::from_slice);
        let unreadable = matches!(names, Some(Err(_)));
        let names = names.and_then(Result::ok).unwrap_or_default();
        Ok(Self(Arc::new(Mutex::new(State { path: Some(path), names, unreadable }))))
    }

    /// Whether `name` may lack changes of the server that is `own` in the relationship.
    pub fn has(&self, who: Who, own: &str, name: &str) -> bool {
        let mut state = self.state();
        state.unreadable || state.names.of(who).contains(&(own.to_owned(), name.to_owned()))
    }

    /// Whether any partner may.
    pub fn has_partner(&self) -> bool {
        let state = self.state();
        state.unreadable || !state.names.partners.is_empty()
    }

    /// Notes that `name` may lack changes, or that it has all of them. It is on stable storage then.
    pub fn set(&self, who: Who, own: &str, name: &str, is_behind: bool) {
        let mut state = self.state();
        let pair = (own.to_owned(), name.to_owned());
        let names = state.names.of(who);
        let changes = if is_behind { names.insert(pair) } else { names.remove(&pair) };
        if !changes && !state.unreadable {
            return;
        }
        if let Err(error) = state.write() {
            log::error!(
                target: TARGET,
                "TANDEM_HA_BEHIND_NOT_KEPT a restart of this server would forget which servers lack leases: {error}"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn of(&mut self, who: Who) -> &mut BTreeSet<Pair> {
        match who {
            Who::Backup => &mut self.backups,
            Who::Partner => &mut self.partners,
        }
    }
}

impl State {
    /// Puts the file in place, whole, or takes it away.
    fn write(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if self.names.backups.is_empty() && self.names.partners.is_empty() {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        } else {
            let new = path.with_extension("tandem-behind-new");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(&self.names).map_err(io::Error::from)?)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        self.unreadable = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_to_the_next_process_and_what_was_taken_back_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let lease_file = folder.path().join("leases.csv");
        let file = folder.path().join("leases.csv.tandem-behind");
        let opened = || Behind::beside(&lease_file).unwrap();
        assert!(!opened().has_partner());
        opened().set(Who::Backup, "a", "c", true);
        assert!(!opened().has_partner() && opened().has(Who::Backup, "a", "c"));
        opened().set(Who::Partner, "a", "b", true);
        for (who, own, name, expected) in [
            (Who::Partner, "a", "b", true),
            (Who::Partner, "b", "a", false),
            (Who::Backup, "a", "b", false),
            (Who::Backup, "a", "c", true),
        ] {
            assert_eq!(opened().has(who, own, name), expected, "{who:?} {own} {name}");
        }
        assert!(opened().has_partner());
        opened().set(Who::Partner, "a", "b", false);
        assert!(!opened().has_partner() && file.exists());
        opened().set(Who::Backup, "a", "c", false);
        assert!(!file.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left over");
    }

    #[test]
    fn a_file_that_says_nothing_speaks_for_everybody_until_it_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let lease_file = folder.path().join("leases.csv");
        fs::write(folder.path().join("leases.csv.tandem-behind"), "{").unwrap();
        let behind = Behind::beside(&lease_file).unwrap();
        assert!(behind.has_partner() && behind.has(Who::Backup, "a", "b"));
        behind.set(Who::Partner, "a", "b", false);
        assert!(!behind.has_partner());
        assert!(!Behind::beside(&lease_file).unwrap().has_partner());
    }

    #[test]
    fn without_a_lease_file_nothing_is_kept() {
        let behind = Behind::default();
        behind.set(Who::Partner, "a", "b", true);
        assert!(behind.has_partner());
    }
}
