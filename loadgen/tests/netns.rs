//! The whole program against the whole server over a veth pair, in namespaces that each test makes and
//! removes. Needs root and iproute2, and the server's binary beside the generator's (`cargo build
//! --workspace`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use loadgen::report::Summary;
use serde_json::{Value, json};

const GENERATOR: &str = env!("CARGO_BIN_EXE_tandem-loadgen");
const PATIENCE: Duration = Duration::from_secs(20);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Two namespaces joined by a veth pair: `srv0` with 172.16.0.1/16 and `cli0` with 172.16.0.2/16.
struct Site {
    server: String,
    clients: String,
    folder: tempfile::TempDir,
    running: Option<Child>,
}

impl Site {
    fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("loadgen-{}-{number}-{side}", std::process::id());
        let (server, clients) = (name("server"), name("clients"));
        for (namespace, other) in [(&server, None), (&clients, Some(&server))] {
            ip(&["netns", "add", namespace]);
            if let Some(other) = other {
                ip(&[
                    "link", "add", "srv0", "netns", other, "type", "veth", "peer", "name", "cli0", "netns",
                    namespace,
                ]);
            }
        }
        for (namespace, interface, address) in
            [(&server, "srv0", "172.16.0.1/16"), (&clients, "cli0", "172.16.0.2/16")]
        {
            ip(&["-n", namespace, "address", "add", address, "dev", interface]);
            ip(&["-n", namespace, "link", "set", interface, "up"]);
        }
        Self { server, clients, folder: tempfile::tempdir().expect("a temporary folder"), running: None }
    }

    /// Starts the server and waits until it serves.
    fn with_server(mut self) -> Self {
        let program = Path::new(GENERATOR).with_file_name("tandem-dhcp4");
        assert!(program.exists(), "{} is missing: run `cargo build --workspace` first", program.display());
        let path = |name: &str| self.folder.path().join(name);
        let text = json!({ "Dhcp4": {
            "interfaces-config": { "interfaces": ["srv0"], "dhcp-socket-type": "raw" },
            "lease-database": { "type": "memfile", "name": path("leases.csv"), "lfc-interval": 0 },
            "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 2, "packet-queue-size": 64 },
            "valid-lifetime": 3600, "cache-threshold": 0.0,
            "subnet4": [ { "id": 1, "subnet": "172.16.0.0/16", "interface": "srv0",
                           "pools": [ { "pool": "172.16.1.0 - 172.16.199.255" } ] } ],
        } });
        fs::write(path("kea-dhcp4.conf"), text.to_string()).expect("a configuration");
        let output = path("output");
        let file = fs::File::create(&output).expect("an output file");
        let mut command = self.inside(&self.server, &program);
        command.arg("-c").arg(path("kea-dhcp4.conf"));
        for variable in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR", "KEA_LOG_FILE_DIR"] {
            command.env(variable, self.folder.path());
        }
        command.stdout(file.try_clone().expect("a second handle")).stderr(file);
        self.running = Some(command.spawn().expect("ip netns exec"));
        let start = Instant::now();
        let said = || fs::read_to_string(&output).unwrap_or_default();
        while !said().contains("DHCP4_STARTED") {
            assert!(start.elapsed() < PATIENCE, "the server does not start:\n{}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    /// Starts the reflector for relays.
    fn with_reflector(mut self) -> Self {
        let mut command = self.inside(&self.server, Path::new(GENERATOR));
        self.running = Some(command.args(["reflector", "172.16.0.1"]).spawn().expect("ip netns exec"));
        let start = Instant::now();
        let bound = || {
            let mut command = self.inside(&self.server, Path::new("cat"));
            let table = command.arg("/proc/net/udp").stdout(Stdio::piped()).output().expect("the table");
            String::from_utf8_lossy(&table.stdout).contains(":0043 ")
        };
        while !bound() {
            assert!(start.elapsed() < PATIENCE, "the reflector does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    /// Runs the generator among the clients; its output and the summary it wrote.
    fn load(&self, arguments: &[&str]) -> (Output, Summary) {
        let file: PathBuf = self.folder.path().join("summary.json");
        let mut command = self.inside(&self.clients, Path::new(GENERATOR));
        command.args(arguments).arg("--summary").arg(&file).stdin(Stdio::null());
        let output = command.output().expect("ip netns exec");
        let text = fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (output, serde_json::from_str(&text).expect("a summary"))
    }

    fn inside(&self, namespace: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // It may have ended already; then both calls fail and that is all right.
            let _ = child.kill();
            let _ = child.wait();
        }
        for namespace in [&self.server, &self.clients] {
            // A namespace that cannot be removed would only be noise here; the next test has its own.
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let out = Command::new("ip").args(arguments).output().expect("iproute2 is installed by tests/run");
    assert!(out.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn neighbours_are_served_and_every_line_of_output_is_json() {
    let site = Site::new().with_server();
    let (output, summary) = site.load(&["-l", "cli0", "-r", "200", "-p", "3", "--warm-up", "0.5", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let counters = summary.counters;
    assert_eq!((counters.started, counters.completed, counters.acks), (600, 600, 600));
    // Exchanges of the warm-up may end in the measured time.
    assert!(counters.sent >= 1200 && counters.received >= 1200, "{counters:?}");
    assert!(summary.exchange.p50_us > 0.0 && summary.exchange.p50_us < 200_000.0);
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let types: Vec<&str> = lines.iter().filter_map(|line| line["type"].as_str()).collect();
    assert_eq!((types.first(), types.last()), (Some(&"prepared"), Some(&"summary")));
    let completed = |line: &Value| line["counters"]["completed"].as_u64().unwrap_or(0);
    let intervals = lines.iter().filter(|line| line["type"] == "interval");
    assert_eq!(intervals.map(completed).sum::<u64>(), 600);
    assert_eq!(lines.last().map(completed), Some(600));
    assert_eq!(lines.last().map(|line| line["version"].clone()), Some(json!(1)));
}

#[test]
fn leases_of_neighbours_are_extended_by_unicast() {
    let site = Site::new().with_server();
    let arguments = ["-l", "cli0", "-r", "100", "-p", "1", "-R", "50", "--scenario", "renew"];
    let (output, summary) = site.load(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((summary.prepared, summary.counters.acks, summary.counters.offers), (50, 100, 0));
}

#[test]
fn clients_behind_a_relay_are_served_through_two_senders() {
    let site = Site::new().with_server();
    let arguments = [
        "-r",
        "200",
        "-f",
        "80",
        "-F",
        "40",
        "-p",
        "2",
        "-R",
        "300",
        "--scenario",
        "mixed",
        "--identity",
        "circuit-id",
        "--senders",
        "2",
        "172.16.0.1",
    ];
    let (output, summary) = site.load(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let counters = summary.counters;
    assert_eq!((summary.prepared, counters.started, counters.completed), (300, 400, 400));
    assert!(counters.releases > 60 && counters.offers < 300, "{counters:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("scenario mixed") && text.contains("REQUEST-ACK"), "{text}");
    assert!(output.stderr.is_empty(), "quiet in a pipe: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_reflector_answers_every_exchange() {
    let site = Site::new().with_reflector();
    let (output, summary) = site.load(&["-r", "200", "-p", "1", "172.16.0.1"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(summary.counters.completed, 200);
}

#[test]
fn nobody_there_is_code_3_and_a_bad_command_line_code_2() {
    let site = Site::new();
    let (output, summary) = site.load(&["-l", "cli0", "-d", "0.2"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((summary.counters.started, summary.counters.offers_missing), (1, 1));
    for arguments in
        [&["-q"][..], &["-r", "0", "-l", "x"], &["-r", "5"], &["-6", "x"], &["-x", "z", "-l", "x"]]
    {
        let output = Command::new(GENERATOR).args(arguments).output().expect("the generator");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = Command::new(GENERATOR).args(["-l", "no-such-thing"]).output().expect("the generator");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}
