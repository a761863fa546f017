//! Two network namespaces, the servers in one of them, and the generator in the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use loadgen::report::Summary;
use serde_json::{Value, json};

pub const GENERATOR: &str = env!("CARGO_BIN_EXE_tandem-loadgen");
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Addresses of the servers' namespaces; the first is the one that most tests use.
pub const SERVERS: [&str; 2] = ["172.16.0.1", "172.16.0.3"];

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A DHCP server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// ISC dhcpd.
    Dhcpd,
    /// dnsmasq.
    Dnsmasq,
    /// Kea.
    Kea,
    /// Ours.
    Tandem,
}

/// Namespaces on one link: `srv0` with 172.16.0.1/16 (and 172.16.0.3/16 in another one), and `cli0` with
/// 172.16.0.2/16, the bridge between them.
pub struct Site {
    pub servers: [String; 2],
    pub clients: String,
    pub folder: tempfile::TempDir,
    running: Vec<Child>,
}

impl Site {
    pub fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("loadgen-{}-{number}-{side}", std::process::id());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let servers = [name("server"), name("second")];
        let site = Self { servers, clients: name("clients"), folder, running: Vec::new() };
        let clients = site.clients.as_str();
        ip(&["netns", "add", clients]);
        ip(&["-n", clients, "link", "add", "cli0", "type", "bridge"]);
        ip(&["-n", clients, "address", "add", "172.16.0.2/16", "dev", "cli0"]);
        ip(&["-n", clients, "link", "set", "cli0", "up"]);
        for (index, (server, address)) in site.servers.iter().zip(SERVERS).enumerate() {
            let port = format!("port{index}");
            ip(&["netns", "add", server]);
            ip(&[
                "link", "add", "srv0", "netns", server, "type", "veth", "peer", "name", &port, "netns",
                clients,
            ]);
            ip(&["-n", clients, "link", "set", &port, "master", "cli0"]);
            ip(&["-n", clients, "link", "set", &port, "up"]);
            ip(&["-n", server, "address", "add", &format!("{address}/16"), "dev", "srv0"]);
            ip(&["-n", server, "link", "set", "srv0", "up"]);
            ip(&["-n", server, "link", "set", "lo", "up"]);
        }
        site
    }

    /// Starts a server and waits until it serves.
    pub fn with_server(mut self, kind: Kind) -> Self {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (program, arguments, text) = match kind {
            Kind::Dhcpd => {
                fs::write(path("leases"), "").expect("an empty lease file");
                let arguments =
                    ["-4", "-f", "-d", "-cf", &path("conf"), "-lf", &path("leases"), "-pf", &path("pid")];
                let arguments = arguments.map(str::to_owned).to_vec();
                (PathBuf::from("dhcpd"), [arguments, vec!["srv0".to_owned()]].concat(), dhcpd())
            }
            Kind::Dnsmasq => {
                let text = dnsmasq(&path("leases"), &path("pid"));
                (
                    PathBuf::from("dnsmasq"),
                    vec!["--keep-in-foreground".into(), format!("--conf-file={}", path("conf"))],
                    text,
                )
            }
            Kind::Kea => {
                (PathBuf::from("kea-dhcp4"), vec!["-c".into(), path("conf")], kea(&path("leases.csv"), "raw"))
            }
            Kind::Tandem => (tandem(), vec!["-c".into(), path("conf")], kea(&path("leases.csv"), "raw")),
        };
        fs::write(path("conf"), text).expect("a configuration");
        let ready = match kind {
            Kind::Dhcpd => "Server starting service",
            Kind::Dnsmasq => "DHCP, IP range",
            Kind::Kea | Kind::Tandem => "DHCP4_STARTED",
        };
        self.start(0, &program, &arguments, "output", ready);
        self
    }

    /// Starts the reflector for relays.
    pub fn with_reflector(mut self) -> Self {
        let mut command = self.inside(&self.servers[0], Path::new(GENERATOR));
        self.running.push(command.args(["reflector", SERVERS[0]]).spawn().expect("ip netns exec"));
        let start = Instant::now();
        let bound = || {
            let mut command = self.inside(&self.servers[0], Path::new("cat"));
            let table = command.arg("/proc/net/udp").stdout(Stdio::piped()).output().expect("the table");
            String::from_utf8_lossy(&table.stdout).contains(":0043 ")
        };
        while !bound() {
            assert!(start.elapsed() < PATIENCE, "the reflector does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    /// Starts `program` at server `index` and waits until its output says `ready`; its process id.
    pub fn start(
        &mut self,
        index: usize,
        program: &Path,
        arguments: &[String],
        output: &str,
        ready: &str,
    ) -> u32 {
        let output = self.folder.path().join(output);
        let file = fs::File::create(&output).expect("an output file");
        let mut command = self.inside(&self.servers[index], program);
        command.args(arguments);
        for variable in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR", "KEA_LOG_FILE_DIR"] {
            command.env(variable, self.folder.path());
        }
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a second handle")).stderr(file);
        let child = command.spawn().expect("ip netns exec");
        // `ip netns exec` becomes the program, so the number is the server's.
        let number = child.id();
        self.running.push(child);
        let start = Instant::now();
        let said = || fs::read_to_string(&output).unwrap_or_default();
        while !said().contains(ready) {
            assert!(start.elapsed() < PATIENCE, "{} does not start:\n{}", program.display(), said());
            std::thread::sleep(Duration::from_millis(20));
        }
        number
    }

    /// Runs the generator among the clients; its output and the summary it wrote.
    pub fn load(&self, arguments: &[&str]) -> (Output, Summary) {
        let (output, text) = self.run(arguments);
        (output, serde_json::from_str(&text).expect("a summary"))
    }

    /// Runs the generator among the clients; its output and the result it wrote.
    pub fn run(&self, arguments: &[&str]) -> (Output, String) {
        let file: PathBuf = self.folder.path().join("summary.json");
        let mut command = self.inside(&self.clients, Path::new(GENERATOR));
        command.args(arguments).arg("--summary").arg(&file).stdin(Stdio::null());
        let output = command.output().expect("ip netns exec");
        let text = fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        fs::remove_file(&file).expect("the summary");
        (output, text)
    }

    fn inside(&self, namespace: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in &mut self.running {
            // It may have ended already; then both calls fail and that is all right.
            let _ = child.kill();
            let _ = child.wait();
        }
        for namespace in self.servers.iter().chain([&self.clients]) {
            // A namespace that cannot be removed would only be noise here; the next test has its own.
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let out = Command::new("ip").args(arguments).output().expect("iproute2 is installed by tests/run");
    assert!(out.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Tandem's server, beside the generator.
pub fn tandem() -> PathBuf {
    let program = Path::new(GENERATOR).with_file_name("tandem-dhcp4");
    assert!(program.exists(), "{} is missing: run `cargo build --workspace` first", program.display());
    program
}

/// A configuration that Kea 2.2 and Tandem take; the pool has 256 addresses.
pub fn dhcp4(leases: &str, socket_type: &str) -> Value {
    json!({
        "interfaces-config": { "interfaces": ["srv0"], "dhcp-socket-type": socket_type },
        "lease-database": { "type": "memfile", "name": leases, "lfc-interval": 0 },
        "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 2, "packet-queue-size": 64 },
        "valid-lifetime": 3600,
        "loggers": [ { "name": "kea-dhcp4", "severity": "INFO", "output_options": [ { "output": "stdout" } ] } ],
        "subnet4": [ { "id": 1, "subnet": "172.16.0.0/16", "interface": "srv0",
                       "pools": [ { "pool": "172.16.1.0 - 172.16.1.255" } ] } ],
    })
}

fn kea(leases: &str, socket_type: &str) -> String {
    json!({ "Dhcp4": dhcp4(leases, socket_type) }).to_string()
}

fn dhcpd() -> String {
    "authoritative; ping-check false; ddns-update-style none; default-lease-time 3600; max-lease-time 3600;\n\
     subnet 172.16.0.0 netmask 255.255.0.0 { range 172.16.1.0 172.16.1.255; }\n"
        .to_owned()
}

fn dnsmasq(leases: &str, pid: &str) -> String {
    format!(
        "port=0\ninterface=srv0\nbind-interfaces\nno-ping\ndhcp-authoritative\nlog-facility=-\nuser=root\n\
         dhcp-range=172.16.1.0,172.16.1.255,255.255.0.0,1h\ndhcp-lease-max=300\ndhcp-leasefile={leases}\n\
         pid-file={pid}\n"
    )
}
