//! What the machine is, and how much of its time was taken away.

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

/// Jiffies since the start of the machine, all CPUs together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuTimes {
    total: u64,
    steal: u64,
}

impl CpuTimes {
    /// As of now.
    ///
    /// # Errors
    /// When /proc/stat cannot be read.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        Self::parse(&text).context("/proc/stat has no line for all CPUs")
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let values: Vec<u64> = line.split_whitespace().map_while(|value| value.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user time.
        let counted = values.get(..8)?;
        Some(Self { total: counted.iter().sum(), steal: counted[7] })
    }

    /// Share of the time since `earlier` that the hypervisor gave to others, 0 to 1.
    pub fn steal_since(&self, earlier: &Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total).max(1);
        self.steal.saturating_sub(earlier.steal) as f64 / total as f64
    }
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
    fn steal_is_a_share_of_all_time_without_counting_guests_twice() {
        let at = |steal: u64| {
            CpuTimes::parse(&format!("cpu  10 0 10 {} 0 0 0 {steal} 500 0\ncpu0 1\n", 80 - steal))
        };
        let (before, after) = (at(0).unwrap(), CpuTimes::parse("cpu  20 0 20 135 0 0 0 25 900 0\n").unwrap());
        assert_eq!(before.total, 100);
        assert_eq!(after.steal_since(&before), 0.25);
        assert_eq!(after.steal_since(&after), 0.0, "no time has passed");
        for text in ["", "cpu0 1 2 3", "cpu  1 2 3\n"] {
            assert_eq!(CpuTimes::parse(text), None, "{text}");
        }
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotalX: 1 kB\nMemTotal:  2048 kB\n";
        assert_eq!(field(text, "MemTotal").map(kib_as_mib), Some(2));
        assert_eq!(field(text, "Mem"), None);
    }
}
