//! The load generator as a child process: one call, one probe.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use loadgen::identity::{Identity, IdentityKind, Mac};
use loadgen::report::Summary;

use crate::report::Parameters;
use crate::site::namespaces::inside;
use crate::site::process::apart;
use crate::takeover::Course;

/// Between two looks at a generator at work.
const PAUSE: Duration = Duration::from_millis(10);

/// When an exchange is lost unless the objective says so, seconds.
const DROP_S: f64 = 1.0;

/// How its clients reach the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// As neighbours on this interface.
    Direct(String),
    /// Behind a relay: this address of its own, or the one towards the server, and the servers it sends to.
    Relayed(Option<String>, Vec<Ipv4Addr>),
}

/// A generator that never uses a client twice.
#[derive(Debug)]
pub struct Generator {
    program: PathBuf,
    namespace: Option<String>,
    way: Way,
    folder: PathBuf,
    /// Number of the first client that has not been used.
    next_client: u32,
}

impl Generator {
    /// One that runs in `namespace`, or where we are, and keeps its files in `folder`; clients before number
    /// `first_client` have been used.
    pub fn new(
        program: PathBuf,
        namespace: Option<String>,
        way: Way,
        folder: PathBuf,
        first_client: u32,
    ) -> Self {
        Self { program, namespace, way, folder, next_client: first_client }
    }

    /// Offers `rate` exchanges a second, each of a client that has not been seen before; `None` when told to
    /// stop.
    ///
    /// # Errors
    /// When the generator fails.
    pub fn offer(
        &mut self,
        rate: f64,
        parameters: &Parameters,
        stop: &AtomicBool,
    ) -> Result<Option<Summary>> {
        let clients = (rate * (parameters.probe_s + parameters.warm_up_s + 1.0)).ceil().max(1000.0) as u32;
        let all = arguments(rate, clients, self.next_client, parameters, &self.way);
        self.next_client = self.next_client.wrapping_add(clients);
        self.run(&all, stop)
    }

    /// Offers a load of clients that try again, half of them with leases, and runs a command meanwhile; `None`
    /// when told to stop.
    ///
    /// # Errors
    /// When the generator fails.
    pub fn watch(
        &mut self,
        course: &Course,
        parameters: &Parameters,
        stop: &AtomicBool,
    ) -> Result<Option<Summary>> {
        // Clients with leases renew in turn, so that none does so twice before it has its answer.
        let clients = (course.rate * course.length_s).ceil().max(1000.0) as u32;
        let timed = Parameters { probe_s: course.length_s, ..parameters.clone() };
        let mut all = arguments(course.rate, clients, self.next_client, &timed, &self.way);
        let event = format!("{}:{}", course.at_s, course.command);
        let interval = course.interval_s.to_string();
        let more = ["--scenario", "ha-takeover", "-t", &interval, "--event", &event];
        // In front: what comes last is positional.
        all.splice(0..0, more.map(str::to_owned));
        self.next_client = self.next_client.wrapping_add(clients);
        self.run(&all, stop)
    }

    fn run(&self, arguments: &[String], stop: &AtomicBool) -> Result<Option<Summary>> {
        let (summary, output) = (self.folder.join("summary.json"), self.folder.join("generator-output"));
        let mut command = inside(self.namespace.as_deref(), &self.program);
        command.args(arguments);
        command.arg("--summary").arg(&summary);
        let file = File::create(&output).with_context(|| format!("writing {}", output.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut child = Killed(apart(&mut command).spawn().context("starting the generator")?);
        let status = loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            match child.0.try_wait()? {
                Some(status) => break status,
                None => thread::sleep(PAUSE),
            }
        };
        // 3 says that something was lost, which is what a search is about.
        if !matches!(status.code(), Some(0 | 3)) {
            bail!("tandem-loadgen: {status}: {}", fs::read_to_string(&output).unwrap_or_default().trim());
        }
        read(&summary).map(Some)
    }
}

fn arguments(rate: f64, clients: u32, first: u32, parameters: &Parameters, way: &Way) -> Vec<String> {
    let from_zero = Identity { base: Mac::default(), kind: IdentityKind::Mac };
    let cpus: Vec<String> = parameters.generator_cpus.iter().map(ToString::to_string).collect();
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let mut all = text(&["-r", &rate.to_string(), "-R", &clients.to_string()]);
    all.extend(text(&[
        "-p",
        &parameters.probe_s.to_string(),
        "--warm-up",
        &parameters.warm_up_s.to_string(),
    ]));
    all.extend(text(&["-d", &parameters.objective.drop_s.unwrap_or(DROP_S).to_string()]));
    all.extend(text(&["-b", &format!("mac={}", Mac(from_zero.mac(first)))]));
    // Transaction ids of their own, so that answers to the probe before are nobody's.
    all.extend(text(&["-s", &first.to_string()]));
    all.extend(text(&["--senders", &cpus.len().to_string(), "--cpus", &cpus.join(",")]));
    match way {
        Way::Direct(interface) => all.extend(text(&["-l", interface])),
        Way::Relayed(local, servers) => {
            all.extend(local.iter().flat_map(|local| text(&["-l", local])));
            all.extend(servers.iter().map(ToString::to_string));
        }
    }
    all
}

fn read(path: &Path) -> Result<Summary> {
    let text = fs::read_to_string(path).context("reading the generator's summary")?;
    fs::remove_file(path)?;
    serde_json::from_str(&text).context("the generator's summary")
}

/// A child that does not outlive us.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It has ended already unless we were told to stop.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::fixed;

    #[test]
    fn clients_of_each_probe_begin_where_the_last_ended_and_the_way_comes_last() {
        let parameters = fixed().parameters;
        let relayed = Way::Relayed(Some("10.0.0.2".into()), vec![[10, 0, 0, 1].into(), [10, 0, 0, 3].into()]);
        let table = [
            (relayed, "-l 10.0.0.2 10.0.0.1 10.0.0.3"),
            (Way::Relayed(None, vec![[10, 0, 0, 1].into()]), "--cpus 1 10.0.0.1"),
            (Way::Direct("cli0".into()), "-l cli0"),
        ];
        for (way, end) in table {
            let found = arguments(500.0, 1000, 7, &parameters, &way).join(" ");
            assert!(found.ends_with(end), "{found}");
            assert!(found.contains("-r 500 -R 1000 -p 1 --warm-up 0.5 -d 1 "), "{found}");
            assert!(found.contains(":00:07 -s 7 --senders 1"), "{found}");
        }
    }
}
