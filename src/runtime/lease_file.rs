//! The lease file: locked, read at start, cleaned up while serving (section e of the behaviour reference).
//!
//! Beside it lies one small file, `X.tandem`. It is what is locked, because the lease file itself is replaced at every
//! clean-up, and it keeps the installation's secret: the multiplier of the steering hash, so that a restart finds
//! clients at the shards they had. It is written once and never removed.
//!
//! `X` is complete at every moment, for programs that tail it and for a crash at any point.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shards::Lease;
use shards::journal::{Columns, Compaction, Deletions, FileRole, Recovery, ReplayError, Step, compact, row};
use shards::partition::{LoadedLeases, LoadedRows, RowOrder};
use shards::runtime::{Request, ShardPort};
use shards::sys::{lock, process};

use super::ha::behind::Behind;
use super::lease_load::{self, Pace};
use super::parallel;

/// Shards stop writing within this time, or the clean-up gives up.
const HOLD_WITHIN: Duration = Duration::from_secs(5);

/// Octets copied at a time.
const COPY_OCTETS: u64 = 1 << 20;

/// Octets of a clean-up that may wait for the disk while clients are served: a fraction of a millisecond of writing.
const SLICE_OCTETS: usize = 256 * 1024;

/// A lease database that is open.
#[derive(Debug)]
pub struct LeaseFile {
    path: PathBuf,
    columns: Columns,
    max_row_errors: u32,
    seed: u64,
    behind: Behind,
    /// Locked for as long as the process lives.
    _lock: File,
}

/// What was read.
#[derive(Debug)]
pub struct Loaded {
    /// The database.
    pub file: LeaseFile,
    /// The last state of every address.
    pub leases: LoadedLeases,
    /// Leases that were deleted, where a partner may not have heard of it; the address has none.
    pub deletions: Vec<Lease>,
    /// What recovery found.
    pub recovery: Recovery,
}

/// Why the lease file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LeaseFileError {
    /// Another process has it.
    #[error("lease file {path} is in use by process {pid}")]
    InUse {
        /// The file.
        path: String,
        /// The other's number as it wrote it.
        pid: String,
    },
    /// What is in it cannot be used.
    #[error("lease file {path}: {cause}")]
    Contents {
        /// The file.
        path: String,
        /// Why.
        cause: ReplayError,
    },
    /// The system refused something.
    #[error("lease file: {step} {path}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// With which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The shards did not stop writing in time.
    #[error("the shards did not stop writing to {0} in time")]
    NotHeld(String),
}

impl LeaseFile {
    /// Locks and reads the lease database at `path`; puts it in order where an earlier end left it untidy. `seed` is
    /// drawn by the caller and kept if this installation has none yet.
    ///
    /// # Errors
    /// [`LeaseFileError`].
    pub fn open(path: &Path, max_row_errors: u32, seed: u64) -> Result<Loaded, LeaseFileError> {
        let (lock, seed) = lock_beside(path, seed)?;
        let lease_load::Read { rows, recovery, .. } =
            lease_load::read(path, max_row_errors, u64::MAX, Pace::Fast)?;
        let order = RowOrder::new(&rows, Deletions::Drop);
        let gather = |(): &mut (), part: usize| order.gather(&rows, part);
        let parts = parallel::map(order.parts(), gather).map_err(failed("gathering", path))?;
        let leases = LoadedLeases::new(parts);
        let behind = Behind::beside(path).map_err(failed("reading what lies beside", path))?;
        let deletions = if behind.has_partner() { deletions(&rows) } else { Vec::new() };
        let columns = recovery.columns;
        let file = Self { path: path.to_owned(), columns, max_row_errors, seed, behind, _lock: lock };
        if recovery.header_missing {
            file.write_header()?;
        }
        if recovery.compact {
            file.clean_up(&[], &recovery.leftovers)?;
        } else {
            for role in &recovery.leftovers {
                remove(&role_path(path, *role))?;
            }
            if !recovery.header_missing {
                file.keep(recovery.current_octets)?;
            }
        }
        Ok(Loaded { file, leases, deletions, recovery })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which other servers may lack changes that are in it.
    pub fn behind(&self) -> &Behind {
        &self.behind
    }

    /// Columns of the rows to be appended.
    pub fn columns(&self) -> Columns {
        self.columns
    }

    /// The installation's secret.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A descriptor to append with, shared by all shards.
    ///
    /// # Errors
    /// [`LeaseFileError::Io`].
    pub fn appender(&self) -> Result<Arc<File>, LeaseFileError> {
        let file = OpenOptions::new().append(true).open(&self.path).map_err(failed("opening", &self.path))?;
        Ok(Arc::new(file))
    }

    /// Rewrites the file with the last row of each address (Kea's lease file clean-up) while `ports`' shards go on
    /// serving; they hold their writes only for the last few rows. `leftovers` are removed at the end.
    ///
    /// # Errors
    /// [`LeaseFileError`]; the file is then what it was, and the shards write to it.
    pub fn clean_up(&self, ports: &[ShardPort], leftovers: &[FileRole]) -> Result<u64, LeaseFileError> {
        let mut work = Work {
            output: role_path(&self.path, FileRole::Output),
            planner: Compaction::new(leftovers),
            written: None,
            replacement: None,
            replaced: None,
            renamed: false,
        };
        let result = self.clean_up_steps(ports, leftovers, &mut work);
        if result.is_err() && !work.renamed {
            work.replacement = None;
            work.planner.abort();
            self.clean_up_steps(ports, &[], &mut work)?;
        } else if result.is_err() {
            // Rows must go to the new file, whatever else went wrong.
            resume(ports, work.replacement.as_ref());
        }
        result
    }

    /// Does what the planner asks for until there is nothing more; the length of the file at the end.
    fn clean_up_steps(
        &self,
        ports: &[ShardPort],
        leftovers: &[FileRole],
        work: &mut Work,
    ) -> Result<u64, LeaseFileError> {
        loop {
            let length = fs::metadata(&self.path).map_err(failed("looking at", &self.path))?.len();
            match work.planner.next_step(length) {
                Step::WriteOutput { until } => {
                    let write = |served| self.write_output(&work.output, until, leftovers, served);
                    let (file, consumed) =
                        if ports.is_empty() { write(false)? } else { beside_shards(|| write(true))? };
                    work.written = Some(file);
                    work.planner.output_written(consumed);
                }
                Step::CatchUp { from, until } => {
                    if let Some(file) = &mut work.written {
                        self.catch_up(file, from, until)?;
                    }
                }
                Step::HoldCommits => hold(ports, &self.path)?,
                Step::SyncOutput => {
                    if let Some(file) = &work.written {
                        file.sync_all().map_err(failed("syncing", &work.output))?;
                    }
                }
                Step::RenameOverCurrent => {
                    // The descriptor first: once renamed, nothing may keep the shards from the new file.
                    let file = OpenOptions::new().append(true).open(&work.output);
                    work.replacement = Some(Arc::new(file.map_err(failed("opening", &work.output))?));
                    let replaced = File::open(&self.path).map_err(failed("opening", &self.path))?;
                    work.replaced = Some(replaced);
                    fs::rename(&work.output, &self.path).map_err(failed("renaming", &work.output))?;
                    work.renamed = true;
                }
                Step::SyncFolder => sync_folder(&self.path)?,
                Step::ResumeCommits => {
                    resume(ports, work.replacement.take().as_ref());
                    work.replaced = None;
                }
                Step::Remove(role) => remove(&role_path(&self.path, role))?,
                Step::Done => return Ok(length),
            }
        }
    }

    fn write_output(
        &self,
        output: &Path,
        until: u64,
        leftovers: &[FileRole],
        served: bool,
    ) -> Result<(File, u64), LeaseFileError> {
        // A partner that is away has yet to hear of deletions, from this process or from the next one.
        let keeps = !leftovers.is_empty() || self.behind.has_partner();
        let deletions = if keeps { Deletions::Keep } else { Deletions::Drop };
        let read = lease_load::read(&self.path, self.max_row_errors, until, Pace::Gentle)?;
        let mut file = File::create(output).map_err(failed("creating", output))?;
        compact::write(&read.rows, deletions, self.columns, |bytes| write_slices(&mut file, bytes, served))
            .map_err(failed("writing", output))?;
        Ok((file, read.octets))
    }

    fn catch_up(&self, output: &mut File, from: u64, until: u64) -> Result<(), LeaseFileError> {
        let mut current = File::open(&self.path).map_err(failed("opening", &self.path))?;
        current.seek(io::SeekFrom::Start(from)).map_err(failed("reading", &self.path))?;
        let mut left = until.saturating_sub(from);
        while left > 0 {
            let copied = io::copy(&mut (&mut current).take(left.min(COPY_OCTETS)), output)
                .map_err(failed("copying", &self.path))?;
            if copied == 0 {
                let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(LeaseFileError::Io { step: "copying", path: text(&self.path), source });
            }
            left -= copied;
        }
        Ok(())
    }

    /// Cuts off what was cut short, and puts the rest on stable storage: a process that was killed may have written
    /// rows that it had no time to sync, and from now on replies rest on them.
    fn keep(&self, octets: u64) -> Result<(), LeaseFileError> {
        let file = OpenOptions::new().append(true).open(&self.path).map_err(failed("opening", &self.path))?;
        let length = file.metadata().map_err(failed("looking at", &self.path))?.len();
        if octets < length {
            file.set_len(octets).map_err(failed("cutting", &self.path))?;
        }
        file.sync_all().map_err(failed("syncing", &self.path))
    }

    fn write_header(&self) -> Result<(), LeaseFileError> {
        let mut header = Vec::new();
        row::write_header(&mut header, self.columns);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .map_err(failed("creating", &self.path))?;
        file.write_all(&header).and_then(|()| file.sync_all()).map_err(failed("writing", &self.path))?;
        sync_folder(&self.path)
    }
}

/// The leases whose last row in `rows` deletes them.
fn deletions(rows: &[LoadedRows]) -> Vec<Lease> {
    let order = RowOrder::new(rows, Deletions::Keep);
    let mut deletions = Vec::new();
    for part in 0..order.parts() {
        let part = order.gather(rows, part);
        deletions.extend(part.iter().filter(|row| row.is_deleted()).map(|row| row.lease()));
    }
    deletions
}

/// A clean-up under way.
struct Work {
    output: PathBuf,
    planner: Compaction,
    written: Option<File>,
    /// A descriptor of the new file for the shards.
    replacement: Option<Arc<File>>,
    /// The file that was replaced. Whoever closes it last frees its space, which takes many milliseconds, so that must not
    /// be a shard.
    replaced: Option<File>,
    renamed: bool,
}

/// Runs `work` on a thread of its own that lets the shards come first. Only work for which nobody waits: with writes held
/// it would make everybody wait for the last in line.
fn beside_shards<T: Send>(
    work: impl FnOnce() -> Result<T, LeaseFileError> + Send,
) -> Result<T, LeaseFileError> {
    std::thread::scope(|scope| {
        let work = || {
            process::give_way_to_others();
            work()
        };
        let thread = std::thread::Builder::new().name("lfc-rows".into()).spawn_scoped(scope, work);
        match thread.map_err(failed("starting a thread for", Path::new("clean-up")))?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Writes `octets`; while clients are `served`, in slices that are on the disk before the next one comes. Rows of ACKs
/// are synced beside them, and a file system may put what waits of one file before what is synced of another.
fn write_slices(file: &mut File, octets: &[u8], served: bool) -> io::Result<()> {
    if !served {
        return file.write_all(octets);
    }
    for slice in octets.chunks(SLICE_OCTETS) {
        file.write_all(slice)?;
        file.sync_data()?;
    }
    Ok(())
}

/// Locks `X.tandem` and reads the installation's secret from it, or writes `seed` there.
fn lock_beside(path: &Path, seed: u64) -> Result<(File, u64), LeaseFileError> {
    let beside = with_suffix(path, ".tandem");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        // Whoever knows the secret could choose hardware addresses that all go to one shard.
        .mode(0o600)
        .open(&beside)
        .map_err(failed("opening", &beside))?;
    let mut old = String::new();
    let locked = lock::try_lock(&file).map_err(failed("locking", &beside))?;
    file.read_to_string(&mut old).map_err(failed("reading", &beside))?;
    let value = |key: &str| old.lines().find_map(|line| line.strip_prefix(key));
    if !locked {
        let pid = value("pid=").unwrap_or("?").to_owned();
        return Err(LeaseFileError::InUse { path: text(path), pid });
    }
    let seed = value("seed=").and_then(|text| text.parse().ok()).unwrap_or(seed);
    let contents = format!("seed={seed}\npid={}\n", std::process::id());
    // Written over before it is cut, so that a crash in between cannot lose the secret.
    file.rewind()
        .and_then(|()| file.write_all(contents.as_bytes()))
        .and_then(|()| file.set_len(contents.len() as u64))
        .and_then(|()| file.sync_all())
        .map_err(failed("writing", &beside))?;
    Ok((file, seed))
}

fn hold(ports: &[ShardPort], path: &Path) -> Result<(), LeaseFileError> {
    let posted: Vec<_> = ports.iter().map(|port| port.post(Request::HoldJournal)).collect();
    for done in posted {
        done.recv_timeout(HOLD_WITHIN).map_err(|_| LeaseFileError::NotHeld(text(path)))?;
    }
    Ok(())
}

/// Lets the shards write again: to `file`, or to the one they have where there is none.
fn resume(ports: &[ShardPort], file: Option<&Arc<File>>) {
    let posted: Vec<_> = ports.iter().map(|port| port.post(Request::ResumeJournal(file.cloned()))).collect();
    for done in posted {
        // A shard that has ended writes no more.
        let _ = done.recv_timeout(HOLD_WITHIN);
    }
}

pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, LeaseFileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("reading", path)(error)),
    }
}

fn remove(path: &Path) -> Result<(), LeaseFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", path)(error)),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> Result<(), LeaseFileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("syncing", folder))
}

pub(super) fn role_path(path: &Path, role: FileRole) -> PathBuf {
    with_suffix(path, role.suffix())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LeaseFileError {
    let path = text(path);
    move |source| LeaseFileError::Io { step, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id\n";

    fn row(address: &str, cltt: u64) -> String {
        format!("{address},02:00:00:00:00:01,,3600,{},1,0,0,,0,,0\n", cltt + 3600)
    }

    #[test]
    fn a_new_file_gets_a_header_and_a_secret_that_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.csv");
        let first = LeaseFile::open(&path, 0, 7).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), HEADER);
        assert_eq!(first.file.seed(), 7);
        let refused = LeaseFile::open(&path, 0, 8).unwrap_err();
        let mine = std::process::id().to_string();
        assert!(matches!(refused, LeaseFileError::InUse { pid, .. } if pid == mine));
        drop(first);
        assert_eq!(LeaseFile::open(&path, 0, 9).unwrap().file.seed(), 7, "the secret is the first one's");
    }

    #[test]
    fn clean_up_keeps_the_last_row_of_each_address_and_the_descriptors_stay_usable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.csv");
        let rows = [row("192.0.2.1", 1000), row("192.0.2.2", 1000), row("192.0.2.1", 2000)].concat();
        fs::write(&path, format!("{HEADER}{rows}")).unwrap();
        let loaded = LeaseFile::open(&path, 0, 1).unwrap();
        assert_eq!(loaded.leases.len(), 2);
        loaded.file.clean_up(&[], &[]).unwrap();
        let cleaned = fs::read_to_string(&path).unwrap();
        assert_eq!(cleaned, format!("{HEADER}{}{}", row("192.0.2.1", 2000), row("192.0.2.2", 1000)));
        loaded.file.appender().unwrap().write_all(row("192.0.2.3", 1).as_bytes()).unwrap();
        drop(loaded);
        assert_eq!(LeaseFile::open(&path, 0, 1).unwrap().leases.len(), 3);
        assert!(!path.with_extension("csv.output").exists());
    }

    /// The partner was away while leases were deleted, and the server was restarted before it came back.
    #[test]
    fn deletions_stay_in_the_file_as_long_as_a_partner_has_not_heard_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.csv");
        let deletion = "192.0.2.1,02:00:00:00:00:01,,0,1000,1,0,0,,0,,0\n";
        let rows = [&row("192.0.2.1", 1000), deletion, &row("192.0.2.2", 1000)].concat();
        fs::write(&path, format!("{HEADER}{rows}")).unwrap();
        let loaded = LeaseFile::open(&path, 0, 1).unwrap();
        assert_eq!((loaded.leases.len(), loaded.deletions.len()), (1, 0));
        loaded.file.behind().set_partner("server1", "server2", Some(7));
        loaded.file.clean_up(&[], &[]).unwrap();
        let kept = format!("{HEADER}{deletion}{}", row("192.0.2.2", 1000));
        assert_eq!(fs::read_to_string(&path).unwrap(), kept);
        drop(loaded);
        let loaded = LeaseFile::open(&path, 0, 1).unwrap();
        let told: Vec<_> = loaded.deletions.iter().map(|lease| (lease.address, lease.cltt)).collect();
        assert_eq!((loaded.leases.len(), told), (1, vec![("192.0.2.1".parse().unwrap(), 1000)]));
        loaded.file.behind().set_partner("server1", "server2", None);
        loaded.file.clean_up(&[], &[]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HEADER}{}", row("192.0.2.2", 1000)));
    }

    #[test]
    fn leftovers_of_an_interrupted_clean_up_are_loaded_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.csv");
        let with = |suffix: &str| with_suffix(&path, suffix);
        fs::write(&path, format!("{HEADER}{}", row("192.0.2.3", 3000))).unwrap();
        fs::write(with(".2"), format!("{HEADER}{}", row("192.0.2.1", 1000))).unwrap();
        fs::write(with(".1"), format!("{HEADER}{}", row("192.0.2.2", 2000))).unwrap();
        fs::write(with(".pid"), "0\n").unwrap();
        let loaded = LeaseFile::open(&path, 0, 1).unwrap();
        assert_eq!(loaded.leases.len(), 3);
        for suffix in [".1", ".2", ".output", ".completed", ".pid"] {
            assert!(!with(suffix).exists(), "{suffix} is left");
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(["192.0.2.1,", "192.0.2.2,", "192.0.2.3,"].iter().all(|address| text.contains(address)));
    }

    #[test]
    fn a_row_cut_short_is_cut_off_and_never_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.csv");
        let torn = row("192.0.2.2", 2000);
        let whole = format!("{HEADER}{}", row("192.0.2.1", 1000));
        fs::write(&path, format!("{whole}\n{}", torn.trim_end())).unwrap();
        let loaded = LeaseFile::open(&path, 0, 1).unwrap();
        assert_eq!((loaded.leases.len(), loaded.recovery.torn), (1, vec![FileRole::Current]));
        drop(loaded.file);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{whole}\n"));
        let rows = format!("\n{}", row("192.0.2.3", 3000));
        OpenOptions::new().append(true).open(&path).unwrap().write_all(rows.as_bytes()).unwrap();
        let leases = LeaseFile::open(&path, 0, 1).unwrap().leases;
        let addresses: Vec<String> =
            leases.range(0..leases.len()).map(|lease| lease.address().to_string()).collect();
        assert_eq!(addresses, ["192.0.2.1", "192.0.2.3"]);
    }
}
