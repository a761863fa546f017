//! Network namespaces joined by veth pairs; everything is removed when the value is dropped.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::process::eventually;
use super::sys;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One network namespace.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with its loopback up. Panics when the kernel refuses: the tests need root.
    pub fn new(purpose: &str) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-{}-{count}-{purpose}", std::process::id());
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Its name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &[&str]) {
        let mut all = vec!["-n", &self.name];
        all.extend_from_slice(arguments);
        ip(&all);
    }

    /// Waits until `interface` is running: the kernel says so a while after both ends are up, and a Kea that finds it
    /// otherwise when it starts never listens.
    fn wait_for_link(&self, interface: &str) {
        let show = || {
            let arguments = ["-n", &self.name, "-o", "link", "show", interface];
            let out = Command::new("ip").args(arguments).output().expect("ip");
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        eventually(&format!("{interface} of {} is running", self.name), Duration::from_secs(40), || {
            show().contains(" state UP ")
        });
    }

    /// Runs `work` on a thread of this namespace; sockets made there stay in it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        enter_named(&self.name, work)
    }

    /// A socket for whole frames on `interface`, which gives up receiving after `timeout_ms`.
    pub fn packet_socket(&self, interface: &str, timeout_ms: u32) -> OwnedFd {
        let out = Command::new("ip")
            .args(["-n", &self.name, "-o", "link", "show", interface])
            .output()
            .expect("ip");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let ifindex =
            text.split(':').next().and_then(|index| index.parse().ok()).expect("an interface index");
        self.enter(|| sys::packet_socket(ifindex, timeout_ms).expect("a packet socket"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Some clients leave helpers behind that would keep a namespace without a name alive.
        let left = Command::new("ip").args(["netns", "pids", &self.name]).output();
        for process in left.iter().flat_map(|left| std::str::from_utf8(&left.stdout)).flat_map(str::lines) {
            let _ = Command::new("kill").args(["-KILL", process]).stderr(Stdio::null()).status();
        }
        // A namespace that cannot be removed would only be noise here; the next test has its own.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// The same for a namespace known by its name.
pub fn enter_named<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let handle = File::open(format!("/run/netns/{name}")).expect("the namespace's handle");
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            sys::enter_namespace(&handle).expect("setns");
            work()
        });
        thread.join().expect("work in a namespace")
    })
}

/// Joins two namespaces by a veth pair, one end in each, up, with checksums computed, and the given addresses
/// (`address/length`).
pub fn join(one: (&Namespace, &str, &[&str]), other: (&Namespace, &str, &[&str])) {
    ip(&[
        "link",
        "add",
        one.1,
        "netns",
        one.0.name(),
        "type",
        "veth",
        "peer",
        "name",
        other.1,
        "netns",
        other.0.name(),
    ]);
    for (namespace, interface, addresses) in [one, other] {
        for address in addresses {
            namespace.ip(&["address", "add", address, "dev", interface]);
        }
        namespace.ip(&["link", "set", interface, "up"]);
    }
    for (namespace, interface, _) in [one, other] {
        namespace.wait_for_link(interface);
    }
}

fn ip(arguments: &[&str]) {
    let out = Command::new("ip").args(arguments).output().expect("iproute2 is installed by tests/run");
    assert!(out.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}
