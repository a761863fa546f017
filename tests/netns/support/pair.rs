//! A primary and a standby on one LAN, from the secure HA template's own files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::certificates::{self, Version};
use super::control;
use super::lan::Lan;
use super::namespace::Namespace;
use super::process::{Process, eventually};
use super::server::{Kind, start};

/// The interface and the addresses that the template names; the namespaces have them, so they stay as they are.
pub const INTERFACE: &str = "enp0s8";
const ADDRESSES: [&str; 2] = ["192.168.1.2/24", "192.168.1.3/24"];
/// Where Debian puts Kea's hook libraries.
const KEA_HOOKS: &str = "/usr/lib/x86_64-linux-gnu/kea/hooks";

/// The template's files of one generation, or `None` (said loudly) where the shared folder is missing.
pub fn template(generation: &str) -> Option<[String; 2]> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/kea-configs");
    if !folder.exists() {
        // Written past the test harness, which keeps to itself what a passing test prints.
        let line =
            format!("SKIPPED: {} is missing: the template's files cannot be tested\n", folder.display());
        std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
        return None;
    }
    Some([1, 2].map(|number| {
        let path = folder.join(format!("template-ha-mt-tls-{generation}/kea-dhcp4-{number}.conf"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }))
}

/// Timers of the template in seconds scaled to what a test can wait for.
pub const FAST: &[(&str, &str)] = &[
    ("\"heartbeat-delay\": 10000", "\"heartbeat-delay\": 1000"),
    ("\"max-response-delay\": 60000", "\"max-response-delay\": 4000"),
    ("\"max-ack-delay\": 5000", "\"max-ack-delay\": 1000"),
    ("\"max-unacked-clients\": 5", "\"max-unacked-clients\": 1"),
];

/// One server of the pair.
pub struct Member {
    pub kind: Kind,
    pub host: Namespace,
    pub folder: PathBuf,
    pub process: Option<Process>,
}

/// The pair and its LAN.
pub struct Pair {
    pub lan: Lan,
    pub members: [Member; 2],
    pub root: tempfile::TempDir,
}

impl Pair {
    /// Writes both configurations with the file paths (and `changes`, text for text) replaced, and certificates of
    /// `version`; nothing is started.
    pub fn new(files: &[String; 2], kinds: [Kind; 2], version: Version, changes: &[(&str, &str)]) -> Self {
        let mut lan = Lan::new();
        let root = tempfile::tempdir().expect("a temporary folder");
        certificates::make(root.path(), version, &["server1", "server2", "ca1", "ca2", "operator"]);
        let members = [0, 1].map(|index| {
            let host = lan.host(&format!("server{}", index + 1), INTERFACE, &[ADDRESSES[index]]);
            let folder = root.path().join(format!("host{}", index + 1));
            std::fs::create_dir(&folder).expect("a folder");
            let mut text = files[index].clone();
            for (from, to) in changes {
                assert!(text.contains(from), "the template has no {from}");
                text = text.replace(from, to);
            }
            let text = with_paths(&text, kinds[index], &folder, root.path());
            std::fs::write(folder.join("kea-dhcp4.conf"), text).expect("a configuration");
            Member { kind: kinds[index], host, folder, process: None }
        });
        Self { lan, members, root }
    }

    /// Starts one server; `index` 0 is the primary.
    pub fn start(&mut self, index: usize) {
        let member = &mut self.members[index];
        let config = member.folder.join("kea-dhcp4.conf");
        member.process = Some(start(member.kind, &member.host, &config, &member.folder, &[]));
    }

    /// Kills one server as a power cut does.
    pub fn kill(&mut self, index: usize) {
        let mut process = self.members[index].process.take().expect("a running server");
        process.signal("KILL");
        process.wait(Duration::from_secs(30));
    }

    /// The control socket of one server.
    pub fn socket(&self, index: usize) -> PathBuf {
        self.members[index].folder.join("kea4-ctrl-socket")
    }

    /// Waits until both are in the states given.
    pub fn wait_for_states(&self, states: [&str; 2], patience: Duration) {
        let seen = || [0, 1].map(|index| control::ha_state(&self.socket(index)));
        let start = std::time::Instant::now();
        while seen() != states {
            assert!(
                start.elapsed() < patience,
                "states {:?}, expected {states:?}\n{}\n{}",
                seen(),
                self.log(0),
                self.log(1)
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until both list the same leases, field by field, and returns how many.
    pub fn wait_for_equal_leases(&self, patience: Duration) -> usize {
        let lists = || [0, 1].map(|index| control::leases(&self.socket(index)));
        eventually("equal leases on both", patience, || {
            let [one, other] = lists();
            one == other
        });
        lists()[0].len()
    }

    /// What one server has logged.
    pub fn log(&self, index: usize) -> String {
        let folder = &self.members[index].folder;
        ["output", "kea-dhcp4.log"]
            .map(|name| std::fs::read_to_string(folder.join(name)).unwrap_or_default())
            .concat()
    }
}

impl Drop for Pair {
    /// A failed test shows what both servers had to say.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("== server1\n{}\n== server2\n{}", self.log(0), self.log(1));
        }
    }
}

/// The template's file paths replaced by those of the test; for Kea 2.2 also what its packaging asks for.
fn with_paths(text: &str, kind: Kind, folder: &Path, root: &Path) -> String {
    let path = |name: &str| folder.join(name).to_str().expect("a UTF-8 path").to_owned();
    let mut text = text
        .replace("/usr/lib/kea/", &format!("{}/", root.to_str().expect("a UTF-8 path")))
        .replace("/var/log/kea/kea-dhcp4.log", &path("kea-dhcp4.log"))
        .replace("\"kea4-ctrl-socket\"", &format!("\"{}\"", path("kea4-ctrl-socket")));
    if kind == Kind::Kea {
        text = text
            .replace("output-options", "output_options")
            .replace("\"libdhcp_", &format!("\"{KEA_HOOKS}/libdhcp_"))
            .replace(
                "\"type\": \"memfile\"",
                &format!("\"type\": \"memfile\", \"name\": \"{}\"", path("kea-leases4.csv")),
            );
    }
    text
}
