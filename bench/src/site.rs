//! Two network namespaces joined by a veth pair, a server in one of them, and load from the other.
//!
//! A site belongs to one cell: the server starts with an empty lease file, and what was made is removed when
//! the site is dropped, whatever has happened.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use loadgen::identity::{Identity, IdentityKind, Mac};
use loadgen::report::Summary;
use serde_json::{Value, json};

use crate::report::{Cell, Parameters, Server};

const SERVER_ADDRESS: &str = "10.0.0.1";
const RELAY_ADDRESS: &str = "10.0.0.2";

/// How long a server may take to open its port.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Folder of `tandem-dhcp4` and `tandem-loadgen`.
    pub folder: PathBuf,
    /// Kea's DHCPv4 server, a path or a name to be found.
    pub kea: PathBuf,
}

impl Programs {
    fn server(&self, server: Server) -> PathBuf {
        match server {
            Server::Tandem => self.folder.join("tandem-dhcp4"),
            Server::Kea => self.kea.clone(),
            // Nothing but these two and the reflector is started here so far.
            _ => self.generator(),
        }
    }

    fn generator(&self) -> PathBuf {
        self.folder.join("tandem-loadgen")
    }

    /// Checks that what belongs to us is there.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn check(&self) -> Result<()> {
        for program in [self.server(Server::Tandem), self.generator()] {
            ensure!(program.exists(), "{} is missing: build it, or give --programs", program.display());
        }
        Ok(())
    }
}

/// One server under load.
pub struct Site {
    server_namespace: String,
    clients_namespace: String,
    folder: tempfile::TempDir,
    programs: Programs,
    parameters: Parameters,
    running: Option<Child>,
    /// Number of the first client that has not been used.
    next_client: u32,
}

impl Site {
    /// Makes the namespaces and starts the server of `cell`; its files go to a folder in `out`, which should
    /// lie on the disk that leases will lie on.
    ///
    /// # Errors
    /// When a namespace cannot be made, or the server does not open its port.
    pub fn start(cell: Cell, programs: &Programs, parameters: &Parameters, out: &Path) -> Result<Self> {
        let name = |side: &str| format!("tandem-bench-{}-{side}", std::process::id());
        let mut site = Self {
            server_namespace: name("server"),
            clients_namespace: name("clients"),
            folder: tempfile::tempdir_in(out).context("making a folder for leases")?,
            programs: programs.clone(),
            parameters: parameters.clone(),
            running: None,
            next_client: 0,
        };
        site.make_namespaces()?;
        site.start_server(cell)?;
        Ok(site)
    }

    fn make_namespaces(&self) -> Result<()> {
        let (server, clients) = (self.server_namespace.as_str(), self.clients_namespace.as_str());
        ip(&["netns", "add", server])?;
        ip(&["netns", "add", clients])?;
        ip(&[
            "link", "add", "srv0", "netns", server, "type", "veth", "peer", "name", "cli0", "netns", clients,
        ])?;
        for (namespace, interface, address) in
            [(server, "srv0", SERVER_ADDRESS), (clients, "cli0", RELAY_ADDRESS)]
        {
            ip(&["-n", namespace, "address", "add", &format!("{address}/8"), "dev", interface])?;
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
        }
        Ok(())
    }

    fn start_server(&mut self, cell: Cell) -> Result<()> {
        let program = self.programs.server(cell.server);
        let output = self.folder.path().join("output");
        let cpus: Vec<String> = self.parameters.server_cpus.iter().map(ToString::to_string).collect();
        let mut command = inside(&self.server_namespace, Path::new("taskset"));
        command.arg("-c").arg(cpus.join(",")).arg(&program);
        if cell.server == Server::Reflector {
            command.args(["reflector", SERVER_ADDRESS]);
        } else {
            let path = self.folder.path().join("kea-dhcp4.conf");
            fs::write(&path, configuration(cell, self.folder.path()).to_string())?;
            command.arg("-c").arg(path);
        }
        for variable in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR", "KEA_LOG_FILE_DIR"] {
            command.env(variable, self.folder.path());
        }
        let file = File::create(&output)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        self.running = Some(command.spawn().context("starting `ip netns exec`")?);
        let start = Instant::now();
        while !self.port_is_open()? {
            self.ensure_running()?;
            ensure!(
                start.elapsed() < PATIENCE,
                "{} does not open its port: {}",
                program.display(),
                self.said()
            );
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn port_is_open(&self) -> Result<bool> {
        let output = inside(&self.server_namespace, Path::new("cat")).arg("/proc/net/udp").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).contains(":0043 "))
    }

    fn ensure_running(&mut self) -> Result<()> {
        let ended = match &mut self.running {
            Some(child) => child.try_wait()?,
            None => None,
        };
        match ended {
            Some(status) => bail!("the server ended ({status}): {}", self.said()),
            None => Ok(()),
        }
    }

    /// The last lines that the server wrote.
    fn said(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Offers `rate` exchanges a second, each of a client that has not been seen before.
    ///
    /// # Errors
    /// When the generator fails or the server has ended.
    pub fn probe(&mut self, rate: f64) -> Result<Summary> {
        let Parameters { probe_s, warm_up_s, generator_cpus, .. } = &self.parameters;
        let clients = (rate * (probe_s + warm_up_s + 1.0)).ceil().max(1000.0) as u32;
        let from_zero = Identity { base: Mac::default(), kind: IdentityKind::Mac };
        let first = Mac(from_zero.mac(self.next_client));
        let cpus: Vec<String> = generator_cpus.iter().map(ToString::to_string).collect();
        let file = self.folder.path().join("summary.json");
        let mut command = inside(&self.clients_namespace, &self.programs.generator());
        command
            .args(["-r", &rate.to_string(), "-R", &clients.to_string(), "-p", &probe_s.to_string()])
            .args(["--warm-up", &warm_up_s.to_string(), "-b", &format!("mac={first}")])
            // Transaction ids of their own, so that answers to the probe before are nobody's.
            .args(["-s", &self.next_client.to_string()])
            .args(["--senders", &cpus.len().to_string(), "--cpus", &cpus.join(",")])
            .args(["-l", RELAY_ADDRESS, SERVER_ADDRESS, "--summary"])
            .arg(&file);
        let output = command.stdin(Stdio::null()).output().context("starting the generator")?;
        self.next_client = self.next_client.wrapping_add(clients);
        self.ensure_running()?;
        // 3 says that something was lost, which is what a search is about.
        if !matches!(output.status.code(), Some(0 | 3)) {
            bail!("tandem-loadgen: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = fs::read_to_string(&file).context("reading the generator's summary")?;
        fs::remove_file(&file)?;
        serde_json::from_str(&text).context("the generator's summary")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // It may have ended already; then both calls fail and that is all right.
            let _ = child.kill();
            let _ = child.wait();
        }
        for namespace in [&self.server_namespace, &self.clients_namespace] {
            // One that was never made cannot be removed; another failure is told by `ip` on standard error.
            let path = Path::new("/run/netns").join(namespace);
            if path.exists() {
                let _ = Command::new("ip").args(["netns", "del", namespace]).status();
            }
        }
    }
}

fn configuration(cell: Cell, folder: &Path) -> Value {
    let mut dhcp4 = json!({
        "interfaces-config": { "interfaces": ["srv0"], "dhcp-socket-type": "udp" },
        "lease-database": { "type": "memfile", "name": folder.join("leases.csv"), "lfc-interval": 0 },
        "multi-threading": {
            "enable-multi-threading": true,
            "thread-pool-size": cell.threads,
            "packet-queue-size": cell.queue,
        },
        "valid-lifetime": 3600,
        "loggers": [ {
            "name": "kea-dhcp4", "severity": "WARN", "output_options": [ { "output": "stdout" } ],
        } ],
        "subnet4": [ {
            "id": 1, "subnet": "10.0.0.0/8", "interface": "srv0",
            "pools": [ { "pool": "10.1.0.0 - 10.250.255.255" } ],
        } ],
    });
    if cell.server == Server::Tandem {
        dhcp4["user-context"] = json!({ "tandem": { "durability": cell.durability.name() } });
    }
    json!({ "Dhcp4": dhcp4 })
}

fn inside(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("starting `ip` (iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {} (this needs root)", arguments.join(" "), said.trim());
    Ok(())
}
