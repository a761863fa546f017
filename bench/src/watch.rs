//! Who else used the machine's time while something was measured.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};

/// Time since the start of the machine in its own ticks, all CPUs together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watch {
    /// All time, idle or not.
    total: u64,
    /// Time that the hypervisor gave to others.
    steal: u64,
    /// Time of processes that are neither ours nor the kernel's.
    others: u64,
}

/// What was taken away, as shares of all time, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken {
    /// By the hypervisor.
    pub steal: f64,
    /// By other processes.
    pub others: f64,
}

/// One process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Process {
    id: u32,
    parent: u32,
    /// Its own time and that of children it has waited for, user and system.
    time: u64,
}

/// The parent of all threads of the kernel.
const KTHREADD: u32 = 2;

impl Watch {
    /// As of now.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let (total, steal) = machine(&text).context("/proc/stat has no line for all CPUs")?;
        let entries = fs::read_dir("/proc").context("reading /proc")?.flatten();
        // One that ends in between has no file any more; its parent has its time.
        let stat = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        let processes: Vec<Process> = stat.filter_map(|text| process(&text)).collect();
        Ok(Self { total, steal, others: others(&processes, std::process::id()) })
    }

    /// What was taken away since `earlier`.
    pub fn since(&self, earlier: &Self) -> Taken {
        let total = self.total.saturating_sub(earlier.total).max(1) as f64;
        // The time of one that nobody waited for is lost with it, so the sum may fall.
        Taken {
            steal: self.steal.saturating_sub(earlier.steal) as f64 / total,
            others: self.others.saturating_sub(earlier.others) as f64 / total,
        }
    }
}

/// All time and stolen time.
fn machine(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let values: Vec<u64> = line.split_whitespace().map_while(|value| value.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user time.
    let counted = values.get(..8)?;
    Some((counted.iter().sum(), counted[7]))
}

/// A line of /proc/PID/stat; the name may hold anything, also blanks and parentheses.
fn process(text: &str) -> Option<Process> {
    let (before, after) = text.rsplit_once(')')?;
    let id = before.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // state, parent, …; the four times are fields 14 to 17 of the line.
    let time = (11..15).map(number).sum::<Option<u64>>()?;
    Some(Process { id, parent: u32::try_from(number(1)?).ok()?, time })
}

/// The time of all processes that are neither the kernel's nor `own` or its descendants.
fn others(processes: &[Process], own: u32) -> u64 {
    let parents: HashMap<u32, u32> = processes.iter().map(|process| (process.id, process.parent)).collect();
    let belongs = |process: &&Process| {
        let mut id = process.id;
        // A snapshot that is not taken at one moment may hold a circle.
        for _ in 0..processes.len() {
            match id {
                _ if id == own || id == KTHREADD => return true,
                _ => match parents.get(&id) {
                    Some(parent) => id = *parent,
                    None => return false,
                },
            }
        }
        false
    };
    processes.iter().filter(|process| !belongs(process)).map(|process| process.time).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_a_share_of_all_time_without_counting_guests_twice() {
        let at = |text: &str| {
            let (total, steal) = machine(text).unwrap();
            Watch { total, steal, others: 0 }
        };
        let before = at("cpu  10 0 10 80 0 0 0 0 500 0\ncpu0 1\n");
        let after = at("cpu  20 0 20 135 0 0 0 25 900 0\n");
        assert_eq!(before.total, 100);
        assert_eq!(after.since(&before), Taken { steal: 0.25, others: 0.0 });
        assert_eq!(after.since(&after), Taken { steal: 0.0, others: 0.0 }, "no time has passed");
        for text in ["", "cpu0 1 2 3", "cpu  1 2 3\n"] {
            assert_eq!(machine(text), None, "{text}");
        }
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let line = |name: &str| format!("7 ({name}) S 3 0 0 0 -1 0 0 0 0 0 10 20 30 40 20 0\n");
        for name in ["sh", "a b", "x) S 9 (", "((", ""] {
            assert_eq!(process(&line(name)), Some(Process { id: 7, parent: 3, time: 100 }), "{name}");
        }
        for text in ["", "7 (sh", "x (sh) S 3", "7 (sh) S 3 0 0"] {
            assert_eq!(process(text), None, "{text}");
        }
    }

    #[test]
    fn others_are_neither_ours_nor_the_kernels() {
        let process = |id, parent, time| Process { id, parent, time };
        let processes = [
            process(1, 0, 1),
            process(2, 0, 10),
            process(3, 2, 100),
            process(50, 1, 1_000),
            process(51, 50, 10_000),
            process(60, 1, 100_000),
            process(70, 71, 1_000_000),
            process(71, 70, 0),
        ];
        assert_eq!(others(&processes, 50), 1 + 100_000 + 1_000_000, "init, a neighbour, and a circle");
        assert_eq!(others(&processes, 60), 1 + 11_000 + 1_000_000);
    }

    #[test]
    fn our_own_work_is_not_counted_as_that_of_others() {
        let before = Watch::now().unwrap();
        let mut sum = 0_u64;
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 200 {
            sum = std::hint::black_box(sum + 1);
        }
        let after = Watch::now().unwrap();
        assert!(after.total > before.total && sum > 0);
        let taken = after.since(&before);
        assert!((0.0..=1.0).contains(&taken.steal) && (0.0..=1.5).contains(&taken.others), "{taken:?}");
    }
}
