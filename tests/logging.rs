//! The log thread, driven as the server drives it: rotation, a log nobody reads, levels that change.
//!
//! One test function, because a process has one logger.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use tandem::logging::{Destination, Layout, LoggerSettings, LoggerTree, OutputSettings, Rotation, Severity};
use tandem::runtime::log_thread::{LogThread, PacketEvent};

#[derive(Clone, Copy)]
struct Allocated(u32);

impl fmt::Display for Allocated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DHCP4_LEASE_ALLOC lease number {} has been allocated", self.0)
    }
}

impl PacketEvent for Allocated {
    fn severity(&self) -> Severity {
        Severity::Info
    }

    fn debug_level(&self) -> u8 {
        0
    }

    fn logger(&self) -> &'static str {
        "kea-dhcp4.leases"
    }
}

fn tree(path: &Path, max_size_octets: u64) -> LoggerTree {
    let output = OutputSettings {
        destination: Destination::File(path.to_str().expect("a UTF-8 path").to_owned()),
        layout: Layout::file_default(),
        rotation: Rotation { max_size_octets, max_versions: 2 },
    };
    let severity = Some(Some((Severity::Info, 0)));
    let root = LoggerSettings { name: "kea-dhcp4".into(), severity, outputs: vec![output] };
    LoggerTree::new("kea-dhcp4", vec![root], false)
}

fn eventually(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_log_keeps_its_layout_rotates_and_never_holds_up_a_shard() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("kea-dhcp4.log");
    let (thread, mut sinks) =
        LogThread::start::<Allocated>("kea-dhcp4", tree(&file, 204_800), 1).expect("start");

    // Layout and levels.
    sinks[0].push(0, Allocated(7));
    log::info!(target: "kea-dhcp4.ha-hooks", "HA_STATE_TRANSITION server1: from WAITING to SYNCING");
    log::debug!(target: "kea-dhcp4.ha-hooks", "HA_HIDDEN not at this level");
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually("two lines", || read().lines().count() >= 2);
    assert!(read().contains("INFO  [kea-dhcp4.leases/"), "{}", read());
    assert!(read().contains("shard-0] DHCP4_LEASE_ALLOC lease number 7 has been allocated\n"), "{}", read());
    assert!(read().contains("] HA_STATE_TRANSITION server1: from WAITING to SYNCING\n"), "{}", read());
    assert!(!read().contains("HA_HIDDEN"));

    // Rotation: enough lines for two files, at a pace the thread keeps up with.
    let versions = [folder.path().join("kea-dhcp4.log.1"), folder.path().join("kea-dhcp4.log.2")];
    for number in 0..6_000 {
        sinks[0].push(0, Allocated(number));
        if number % 1000 == 0 {
            std::thread::sleep(Duration::from_millis(60));
        }
    }
    eventually("two rotated files", || versions.iter().all(|version| version.exists()));
    for version in &versions {
        assert!(std::fs::metadata(version).expect("metadata").len() <= 204_800);
    }

    // Another tree: a FIFO that nobody reads. Pushing goes on at full speed and what does not fit is counted.
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    thread.set_tree(tree(&fifo, 0));
    std::thread::sleep(Duration::from_millis(100));
    let before = thread.dropped();
    let start = Instant::now();
    for number in 0..200_000 {
        sinks[0].push(0, Allocated(number));
        if number % 1000 == 0 {
            log::info!(target: "kea-dhcp4.dhcp4", "DHCP4_STARTED number {number}");
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "a full log held up the packet path");
    assert!(thread.dropped() > before, "what did not fit was not counted");

    // A stop does not wait for a log that nobody reads.
    let start = Instant::now();
    thread.stop(Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(3));
}
