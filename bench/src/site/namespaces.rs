//! Network namespaces of this process, and what a killed one has left behind.
//!
//! Every name begins with [`PREFIX`] and the number of the process that made it, so that whoever comes later
//! can tell whose it is. They are removed when [`Namespaces`] is dropped, on the way of a panic too; what a
//! SIGKILL leaves is found by [`remove_stale`] at the next start.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// How names of namespaces and folders begin; the number of the process follows.
const PREFIX: &str = "tandem-bench-";

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";

/// Namespaces that are removed together.
#[derive(Debug, Default)]
pub struct Namespaces(Vec<String>);

impl Namespaces {
    /// Makes the namespace of `side` and gives its name.
    ///
    /// # Errors
    /// When it cannot be made: this needs root.
    pub fn add(&mut self, side: &str) -> Result<String> {
        let name = named(side);
        ip(&["netns", "add", &name])?;
        self.0.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            remove(name);
        }
    }
}

/// One end of a link: a namespace, the interface in it, and its address with the prefix length.
pub type End<'a> = (&'a str, &'a str, &'a str);

/// Joins two namespaces by a pair of interfaces.
///
/// # Errors
/// When `ip` refuses.
pub fn join(one: End<'_>, other: End<'_>) -> Result<()> {
    let (namespace, interface, _) = one;
    ip(&[
        "link", "add", interface, "netns", namespace, "type", "veth", "peer", "name", other.1, "netns",
        other.0,
    ])?;
    for (namespace, interface, address) in [one, other] {
        ip(&["-n", namespace, "address", "add", address, "dev", interface])?;
        ip(&["-n", namespace, "link", "set", interface, "up"])?;
    }
    Ok(())
}

/// Joins the namespace of clients to several servers, all on one link: a bridge named `interface` with the
/// clients' `address`. Each server is a namespace, its interface, and its address with the prefix length.
///
/// # Errors
/// When `ip` refuses.
pub fn bridge(clients: End<'_>, servers: &[End<'_>]) -> Result<()> {
    let (namespace, interface, address) = clients;
    ip(&["-n", namespace, "link", "add", interface, "type", "bridge", "forward_delay", "0"])?;
    ip(&["-n", namespace, "address", "add", address, "dev", interface])?;
    ip(&["-n", namespace, "link", "set", interface, "up"])?;
    for (place, (server, end, address)) in servers.iter().enumerate() {
        let port = format!("port{place}");
        ip(&[
            "link", "add", end, "netns", server, "type", "veth", "peer", "name", &port, "netns", namespace,
        ])?;
        ip(&["-n", namespace, "link", "set", &port, "master", interface, "up"])?;
        ip(&["-n", server, "address", "add", address, "dev", end])?;
        ip(&["-n", server, "link", "set", end, "up"])?;
    }
    Ok(())
}

/// A command that runs in `namespace`, or where we are.
pub fn inside(namespace: Option<&str>, program: &Path) -> Command {
    match namespace {
        None => Command::new(program),
        Some(namespace) => {
            // `ip` becomes the program, so the child is the program itself.
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(program);
            command
        }
    }
}

/// The name of the namespace of `side`.
pub fn named(side: &str) -> String {
    format!("{}{side}", own_prefix())
}

/// How a folder of this process begins.
pub fn own_prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// Removes what killed processes left: their servers, namespaces, and folders in `folders`. Says what it did.
pub fn remove_stale(folders: &[&Path]) -> Vec<String> {
    let mut said = Vec::new();
    for name in names_in(Path::new(NAMES)).into_iter().filter(|name| is_stale(name, is_running)) {
        end_processes(&name);
        remove(&name);
        said.push(format!("removed the namespace {name} of a run that was killed"));
    }
    for folder in folders {
        for name in names_in(folder).into_iter().filter(|name| is_stale(name, is_running)) {
            let path = folder.join(&name);
            if fs::remove_dir_all(&path).is_ok() {
                said.push(format!("removed the folder {} of a run that was killed", path.display()));
            }
        }
    }
    said
}

/// Whether `name` was made by a process that is no more.
fn is_stale(name: &str, is_running: impl Fn(u32) -> bool) -> bool {
    let number = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(number, _)| number);
    number.and_then(|number| number.parse().ok()).is_some_and(|process| !is_running(process))
}

/// Whether the process is alive and one of ours: numbers are used again.
fn is_running(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "tandem-bench")
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Ends what still runs in a namespace: a namespace lives as long as a process in it.
fn end_processes(namespace: &str) {
    let listed = Command::new("ip").args(["netns", "pids", namespace]).output();
    let numbers =
        listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    if !numbers.is_empty() {
        // One may end by itself meanwhile; then there is nothing left to do.
        let _ = Command::new("sh").arg("-c").arg(format!("kill -9 {}", numbers.join(" "))).status();
    }
}

fn remove(name: &str) {
    if Path::new(NAMES).join(name).exists() {
        // A failure is told by `ip` on standard error, and tried again at the next start.
        let _ = Command::new("ip").args(["netns", "del", name]).status();
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("starting `ip` (iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {} (this needs root)", arguments.join(" "), said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_process_of_ours_made_is_stale() {
        let table = [
            ("tandem-bench-7-server", true),
            ("tandem-bench-8-server", false),
            ("tandem-bench-7", false),
            ("tandem-bench-x-server", false),
            ("loadgen-7-0-server", false),
            ("server", false),
        ];
        for (name, stale) in table {
            assert_eq!(is_stale(name, |process| process == 8), stale, "{name}");
        }
        assert!(!is_running(1), "number 1 is never a bench");
    }

    #[test]
    fn stale_folders_are_removed_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let dead = root.path().join("tandem-bench-4294967295-abc");
        let other = root.path().join("leases");
        for path in [&dead, &other] {
            fs::create_dir(path).unwrap();
        }
        let said = remove_stale(&[root.path()]);
        assert!(said.iter().any(|line| line.contains("4294967295")), "{said:?}");
        assert!(!dead.exists() && other.exists());
    }
}
