//! Programs run inside namespaces, killed when the value is dropped.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::namespace::Namespace;

/// A running program and the file its output goes to.
pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments` and `environment` in `namespace`; its output goes to `output`.
    pub fn start(
        namespace: &Namespace,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        output: &Path,
    ) -> Self {
        let file = File::create(output).expect("an output file");
        let child = Command::new("ip")
            .args(["netns", "exec", namespace.name(), program])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        Self { child, output: output.to_owned() }
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Its process id: `ip netns exec` becomes the program it runs.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it `signal` (a name for `kill`, such as `TERM` or `KILL`).
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.id().to_string()]).status();
        assert!(status.expect("kill").success(), "kill -{signal}");
    }

    /// Waits until it ends; panics with its output after `patience`.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if start.elapsed() < patience => std::thread::sleep(Duration::from_millis(20)),
                Ok(None) => panic!("did not end within {patience:?}:\n{}", self.output()),
                Err(error) => panic!("waiting: {error}"),
            }
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until its output (or the file `log`) holds `text`; panics with what there is after `patience`.
    pub fn wait_for(&mut self, log: Option<&Path>, text: &str, patience: Duration) {
        let start = Instant::now();
        loop {
            let mut seen = self.output();
            if let Some(log) = log {
                seen.push_str(&std::fs::read_to_string(log).unwrap_or_default());
            }
            if seen.contains(text) {
                return;
            }
            let running = self.is_running().expect("state of a child");
            assert!(running && start.elapsed() < patience, "no {text:?} (running: {running}):\n{seen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then both calls fail and that is all right.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `done` until it is true; panics naming `what` after `patience`.
pub fn eventually(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
