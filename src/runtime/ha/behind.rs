//! Which other servers may lack changes that were made here: what must not be forgotten by a restart.
//!
//! Beside the lease file `X` lies `X.tandem-behind` while a partner was not told of changes, or while there are
//! backups, for whom updates are always under way. It is written before the first such change can be made, with the time,
//! and taken back when the other server has everything, so that a process that was killed knows when it starts again.
//! While a partner is in it, the rows of deleted leases stay in the lease file: that partner has yet to hear of them.
//!
//! A file that cannot be understood speaks for every server that is configured; of a server that no longer is, nothing is
//! kept.
//!
//! Without a lease file nothing is kept, because nothing outlives the process.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
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

/// The file. Shared by the control node, whatever opens the lease file, and the end of the server. All but
/// [`Behind::is_unsaved`] may wait for the disk.
#[derive(Clone, Debug, Default)]
pub struct Behind(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// What is noted could not be written.
    unsaved: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    path: Option<PathBuf>,
    names: Names,
    /// Why there was a file that says nothing. Whoever is asked for may lack changes, until it is known who there is.
    unreadable: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Names {
    backups: BTreeSet<Pair>,
    /// With the time since when they lack changes, by the own wall clock in seconds.
    partners: BTreeSet<(String, String, u64)>,
}

/// Since when, where nobody knows.
const UNKNOWN: u64 = u64::MAX;

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
        let names = octets.as_deref().map_or_else(|| Ok(Names::default()), serde_json::from_slice);
        let (names, unreadable) = match names {
            Ok(names) => (names, None),
            Err(error) => (Names::default(), Some(error.to_string())),
        };
        let state = Mutex::new(State { path: Some(path), names, unreadable });
        Ok(Self(Arc::new(Shared { state, unsaved: AtomicBool::new(false) })))
    }

    /// It is known which other servers there are; `configured` has the name of this one in the relationship, and theirs.
    pub fn settle(&self, configured: impl IntoIterator<Item = (Who, String, String)>) {
        let mut everybody = Names::default();
        for (who, own, name) in configured {
            match who {
                Who::Backup => everybody.backups.insert((own, name)),
                Who::Partner => everybody.partners.insert((own, name, UNKNOWN)),
            };
        }
        let mut state = self.state();
        let names = match state.unreadable.take() {
            Some(error) => {
                log::warn!(
                    target: TARGET,
                    "TANDEM_HA_BEHIND_UNREADABLE every other server may lack leases of this one, because the file that says \
                     which cannot be understood: {error}"
                );
                everybody
            }
            None => state.names.within(&everybody),
        };
        if names != state.names {
            state.names = names;
            self.save(&state);
        }
    }

    /// Whether the backup `name` may lack changes of the server that is `own` in the relationship.
    pub fn has_backup(&self, own: &str, name: &str) -> bool {
        let state = self.state();
        state.unreadable.is_some() || state.names.backups.contains(&(own.to_owned(), name.to_owned()))
    }

    /// Since when the partner `name` may lack changes of the server that is `own` in the relationship, by the own wall clock
    /// in seconds; `None` if it has all of them, `u64::MAX` where nobody knows since when.
    pub fn partner_since_s(&self, own: &str, name: &str) -> Option<u64> {
        let state = self.state();
        match state.unreadable {
            Some(_) => Some(UNKNOWN),
            None => state.names.partner_since_s(own, name),
        }
    }

    /// Whether any partner may.
    pub fn has_partner(&self) -> bool {
        let state = self.state();
        state.unreadable.is_some() || !state.names.partners.is_empty()
    }

    /// Notes that the backup `name` may lack changes, or that it has all of them. It is on stable storage then.
    pub fn set_backup(&self, own: &str, name: &str, is_behind: bool) {
        let mut state = self.state();
        let pair = (own.to_owned(), name.to_owned());
        let backups = &mut state.names.backups;
        let changes = if is_behind { backups.insert(pair) } else { backups.remove(&pair) };
        if changes {
            self.save(&state);
        }
    }

    /// Notes since when the partner `name` may lack changes, or that it has all of them. It is on stable storage then.
    pub fn set_partner(&self, own: &str, name: &str, since_s: Option<u64>) {
        let mut state = self.state();
        if state.names.partner_since_s(own, name) != since_s {
            state.names.partners.retain(|noted| !is_of(noted, own, name));
            state.names.partners.extend(since_s.map(|since_s| (own.to_owned(), name.to_owned(), since_s)));
            self.save(&state);
        }
    }

    /// Whether something that was noted is not on stable storage, because it could not be written.
    pub fn is_unsaved(&self) -> bool {
        self.0.unsaved.load(Ordering::Relaxed)
    }

    /// Tries to write once more what could not be written.
    pub fn save_again(&self) {
        let state = self.state();
        if self.is_unsaved() {
            self.save(&state);
        }
    }

    /// Has what is noted on stable storage, or says once that it is not.
    fn save(&self, state: &State) {
        let outcome = state.write();
        let was_unsaved = self.0.unsaved.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Err(error) if !was_unsaved => log::error!(
                target: TARGET,
                "TANDEM_HA_BEHIND_NOT_KEPT a restart of this server would forget which servers lack leases: {error}"
            ),
            Ok(()) if was_unsaved => log::info!(
                target: TARGET,
                "TANDEM_HA_BEHIND_KEPT a restart of this server will not forget which servers lack leases"
            ),
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn partner_since_s(&self, own: &str, name: &str) -> Option<u64> {
        self.partners.iter().find(|noted| is_of(noted, own, name)).map(|(_, _, since_s)| *since_s)
    }

    /// Those of them that are in `others` as well.
    fn within(&self, others: &Self) -> Self {
        let is_kept = |(own, name, _): &&(String, String, u64)| others.partner_since_s(own, name).is_some();
        let partners = self.partners.iter().filter(is_kept).cloned().collect();
        Self { backups: &self.backups & &others.backups, partners }
    }
}

fn is_of(noted: &(String, String, u64), own: &str, name: &str) -> bool {
    noted.0 == own && noted.1 == name
}

impl State {
    /// Puts the file in place, whole, or takes it away.
    fn write(&self) -> io::Result<()> {
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
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
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
        opened().set_backup("a", "c", true);
        assert!(!opened().has_partner() && opened().has_backup("a", "c"));
        for since_s in [7, 8] {
            opened().set_partner("a", "b", Some(since_s));
            assert_eq!(opened().partner_since_s("a", "b"), Some(since_s));
        }
        assert_eq!(opened().partner_since_s("b", "a"), None);
        assert!(!opened().has_backup("a", "b") && opened().has_backup("a", "c"));
        assert!(opened().has_partner());
        opened().set_partner("a", "b", None);
        assert!(!opened().has_partner() && file.exists());
        opened().set_backup("a", "c", false);
        assert!(!file.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left over");
    }

    fn configured() -> [(Who, String, String); 3] {
        [(Who::Backup, "a", "c"), (Who::Partner, "a", "b"), (Who::Partner, "x", "y")]
            .map(|(who, own, name)| (who, own.to_owned(), name.to_owned()))
    }

    /// Backups are noted before anybody asks for partners, and on a hub one partner has copied before another.
    #[test]
    fn a_file_that_says_nothing_speaks_for_each_server_until_that_one_has_everything() {
        let folder = tempfile::tempdir().unwrap();
        let lease_file = folder.path().join("leases.csv");
        let file = folder.path().join("leases.csv.tandem-behind");
        for damaged in ["", "{", "[]", r#"{"backups":[],"partners":[["a","b"]]}"#, "\u{0}\u{0}"] {
            fs::write(&file, damaged).unwrap();
            let opened = || Behind::beside(&lease_file).unwrap();
            let first = opened();
            assert!(first.has_partner() && first.has_backup("a", "c"), "{damaged:?}");
            assert_eq!(first.partner_since_s("a", "b"), Some(UNKNOWN), "{damaged:?}");
            first.settle(configured());
            first.set_backup("a", "c", true);
            first.set_partner("a", "b", None);
            for behind in [first, opened()] {
                assert_eq!(behind.partner_since_s("a", "b"), None, "{damaged:?}");
                assert_eq!(behind.partner_since_s("x", "y"), Some(UNKNOWN), "{damaged:?}");
                assert!(behind.has_backup("a", "c"), "{damaged:?}");
                assert!(!behind.has_backup("a", "stranger"), "{damaged:?}");
            }
        }
    }

    /// Else the rows of deleted leases would stay in the lease file for good.
    #[test]
    fn a_server_that_is_configured_no_longer_lacks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let lease_file = folder.path().join("leases.csv");
        let opened = || Behind::beside(&lease_file).unwrap();
        opened().set_partner("a", "before it was renamed", Some(7));
        opened().set_partner("x", "y", Some(8));
        opened().settle(configured());
        assert_eq!(opened().partner_since_s("x", "y"), Some(8));
        assert_eq!(opened().partner_since_s("a", "before it was renamed"), None);
        opened().settle([]);
        assert!(!opened().has_partner());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left over");
    }

    /// There was no room on the disk when the server was left alone, and there is some later.
    #[test]
    fn what_could_not_be_written_is_written_when_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let lease_file = folder.path().join("leases.csv");
        let in_the_way = folder.path().join("leases.csv.tandem-behind-new");
        fs::create_dir(&in_the_way).unwrap();
        let behind = Behind::beside(&lease_file).unwrap();
        behind.set_partner("a", "b", Some(7));
        assert!(behind.is_unsaved() && behind.has_partner());
        behind.save_again();
        assert!(behind.is_unsaved() && !Behind::beside(&lease_file).unwrap().has_partner());
        fs::remove_dir(&in_the_way).unwrap();
        behind.save_again();
        assert!(!behind.is_unsaved());
        assert_eq!(Behind::beside(&lease_file).unwrap().partner_since_s("a", "b"), Some(7));
    }

    #[test]
    fn without_a_lease_file_nothing_is_kept() {
        let behind = Behind::default();
        behind.set_partner("a", "b", Some(7));
        assert!(behind.has_partner());
    }
}
