//! What the machine is, and what its disk costs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The machine of a report.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the CPU.
    pub cpu: String,
    /// How many.
    pub cpus: usize,
    /// MiB of memory.
    pub memory_mib: u64,
    /// The commit that the programs lie in, if they lie in a working tree.
    pub commit: Option<String>,
}

impl Host {
    /// Looks at this machine; `programs` is the folder of the programs under test.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn of_this_machine(programs: &Path) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading {path}"));
        Ok(Self {
            name: read("/proc/sys/kernel/hostname")?.trim().to_owned(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: field(&read("/proc/cpuinfo")?, "model name").unwrap_or("unknown").to_owned(),
            cpus: cpus()?,
            memory_mib: field(&read("/proc/meminfo")?, "MemTotal").map_or(0, kib_as_mib),
            commit: commit(programs),
        })
    }
}

/// How many CPUs this process may use.
///
/// # Errors
/// When the system does not say.
pub fn cpus() -> Result<usize> {
    Ok(std::thread::available_parallelism().context("counting CPUs")?.get())
}

/// Rows that a sync is timed with.
const SYNCS: usize = 200;

/// Nanoseconds that `write` and `fdatasync` of one row take a plain thread in `folder`, the median of
/// [`SYNCS`].
///
/// # Errors
/// When the file cannot be written there.
pub fn sync_ns(folder: &Path) -> Result<u64> {
    let mut file = tempfile::tempfile_in(folder).context("a file to time a sync with")?;
    // As long as a row of the lease file.
    let row = [b'x'; 96];
    let mut times_ns = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&row).and_then(|()| file.sync_data()).context("timing a sync")?;
        times_ns.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    times_ns.sort_unstable();
    Ok(times_ns[SYNCS / 2])
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

fn kib_as_mib(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}

fn commit(programs: &Path) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(programs).args(["describe", "--always", "--dirty"]);
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_takes_time_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert!(sync_ns(folder.path()).unwrap() > 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotalX: 1 kB\nMemTotal:  2048 kB\n";
        assert_eq!(field(text, "MemTotal").map(kib_as_mib), Some(2));
        assert_eq!(field(text, "Mem"), None);
    }
}
