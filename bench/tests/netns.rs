//! The whole program at tiny rates: cells are measured, kept and not measured again, also after it was
//! interrupted or killed; pairs, a rival, and servers by address. Needs root, iproute2 and dnsmasq, and the
//! other programs beside it (`cargo build --workspace`).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const BENCH: &str = env!("CARGO_BIN_EXE_tandem-bench");

/// The least that is a matrix: a single rate, which anything holds.
const TINY: [&str; 12] = [
    "--quick",
    "--threads",
    "1",
    "--queue",
    "64",
    "--durability",
    "synced",
    "--probe",
    "0.2",
    "--from",
    "100",
    "--to",
];

/// How long something may take that happens at once on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(50);

fn command(out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(BENCH);
    command.args(TINY).args(["100", "--out"]).arg(out).args(more);
    command
}

fn bench(out: &Path, more: &[&str]) -> Output {
    let ha: &[&str] = if more.contains(&"--ha") { &[] } else { &["--ha", "off"] };
    command(out, more).args(ha).output().expect("the program")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn report(folder: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(folder.join("report.json")).ok()?).ok()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within time: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Namespaces that the process `id` has made.
fn namespaces(id: u32) -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("tandem-bench-{id}-"))).collect()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

#[test]
fn a_matrix_of_one_cell_is_measured_kept_and_not_measured_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = bench(folder.path(), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect(name);
    let report: Value = serde_json::from_str(&read("report.json")).expect("JSON");
    assert_eq!((&report["version"], report["cells"].as_array().map(Vec::len)), (&2.into(), Some(1)));
    let measured = &report["cells"][0];
    assert_eq!(
        (&measured["cell"]["threads"], &measured["cell"]["durability"]),
        (&1.into(), &"synced".into())
    );
    let first = &measured["probes"][0];
    assert_eq!(first["rate"], 100.0, "{measured}");
    assert!(first["completed_rate"].as_f64().is_some_and(|rate| rate > 50.0), "{measured}");
    assert_eq!(measured["duplicates"], 0);
    assert!(
        read("report.md").contains("## What was measured") && read("report.html").contains("Sizing report")
    );
    let names: Vec<_> = fs::read_dir(folder.path()).expect("the folder").flatten().collect();
    assert_eq!(names.len(), 3, "leases are removed: {names:?}");

    let output = bench(folder.path(), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains("[1/"), "nothing is measured again: {said}");
    assert_eq!(serde_json::from_str::<Value>(&read("report.json")).expect("JSON"), report);

    // One cell bears no recommendation, whatever the other options; the file stays as it was.
    let configuration = folder.path().join("kea-dhcp4.conf");
    let text = "{ \"Dhcp4\": { \"multi-threading\": { \"thread-pool-size\": 4 } } } // ours";
    fs::write(&configuration, text).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_tandem-bench"))
        .args(["--out".as_ref(), folder.path().as_os_str(), "--write".as_ref(), configuration.as_os_str()])
        .output()
        .expect("the program");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing is written: "), "{said}");
    assert_eq!(read("kea-dhcp4.conf"), text);
}

/// Goal: a primary that is stopped under load leaves nobody unserved. Method: a pair over TLS, half of the exchanges
/// renewals, SIGTERM after 5 s; what clients got is in the report and on the page, and is not measured again.
#[test]
fn a_primary_that_is_stopped_under_load_leaves_nobody_unserved() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--take-over", "stopped", "--take-over-rate", "40"];
    let output = bench(folder.path(), &options);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report = report(folder.path()).expect("a report");
    let found = &report["takeovers"][0];
    assert_eq!((&found["unserved"], &found["duplicates"]), (&0.into(), &0.into()), "{found}");
    assert!(found["started"].as_u64().is_some_and(|started| started > 700), "{found}");
    assert!(found["first_ack_s"].as_f64().is_some_and(|after| after < 5.0), "{found}");
    let page = fs::read_to_string(folder.path().join("report.html")).expect("the page");
    assert!(page.contains("When the primary goes away"));
    let again = bench(folder.path(), &options);
    assert!(again.status.success() && !said(&again).contains("the primary is"), "{}", said(&again));
}

#[test]
fn missing_programs_are_code_1_and_a_bad_command_line_code_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = bench(folder.path(), &["--programs", "no-such-folder"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tandem-dhcp4 is missing"));
    assert_eq!(bench(folder.path(), &["--no-such-option"]).status.code(), Some(2));
}

/// Goal: what was measured is kept, and nothing is left, whatever ends the program. Method: three cells; SIGTERM after
/// the first, SIGKILL in the second, and then a run to the end.
#[test]
fn an_interrupted_and_a_killed_run_go_on_where_they_were_and_leave_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let three = ["--ha", "off", "--queue", "16", "--floor"];
    let start = || command(folder.path(), &three).stderr(Stdio::null()).spawn().expect("the program");
    let cells = || report(folder.path()).map_or(0, |report| report["cells"].as_array().map_or(0, Vec::len));

    let mut first = start();
    wait_until("a cell is measured", || cells() >= 1);
    wait_until("the next one is under way", || !namespaces(first.id()).is_empty());
    signal(&first, "TERM");
    assert_eq!(first.wait().expect("its end").code(), Some(130));
    assert_eq!(namespaces(first.id()), Vec::<String>::new());
    let kept = report(folder.path()).expect("a report")["cells"][0].clone();

    let mut second = start();
    wait_until("it stands still with a server there", || {
        signal(&second, "STOP");
        let there = namespaces(second.id()).len() == 2;
        if !there {
            signal(&second, "CONT");
        }
        there
    });
    signal(&second, "KILL");
    second.wait().expect("its end");
    assert_eq!(namespaces(second.id()).len(), 2, "nobody could remove them");
    let left = 3 - cells();

    let last = command(folder.path(), &three).output().expect("the program");
    let text = said(&last);
    assert_eq!(last.status.code(), Some(0), "{text}");
    assert!(text.contains(&format!("removed the namespace tandem-bench-{}-", second.id())), "{text}");
    assert_eq!(namespaces(second.id()), Vec::<String>::new());
    assert!(text.contains(&format!("[1/{left}] Tandem, threads 1")), "{left} were left: {text}");
    let report = report(folder.path()).expect("a report");
    assert_eq!((cells(), &report["cells"][0]["probes"]), (3, &kept["probes"]));
    let left: Vec<_> = fs::read_dir(folder.path()).expect("the folder").flatten().collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_pair_over_tls_and_a_rival_are_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = bench(folder.path(), &["--ha", "tls", "--ha-threads", "2/1", "--against", "dnsmasq"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report = report(folder.path()).expect("a report");
    let cells = report["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 2, "{}", said(&output));
    let (dnsmasq, pair) = (&cells[0], &cells[1]);
    assert_eq!((&dnsmasq["cell"]["server"], &dnsmasq["cell"]["threads"]), (&"dnsmasq".into(), &Value::Null));
    let completed = |cell: &Value| {
        let probes = cell["probes"].as_array().expect("probes");
        probes.iter().any(|probe| probe["completed_rate"].as_f64().is_some_and(|rate| rate > 0.0))
    };
    assert!(completed(dnsmasq) && completed(pair), "{report:#}");
    assert_eq!(pair["cell"]["ha"], json!({ "channel": "tls", "listeners": 2, "senders": 1 }));
    let whole = pair["states"] == json!({ "primary": "hot-standby", "standby": "hot-standby" });
    let marked = pair["disturbances"].as_array().is_some_and(|marks| marks.contains(&"pair-left".into()));
    assert!(whole || marked, "{pair:#}");
    assert!(pair["sync_ns"].as_u64().is_some_and(|ns| ns > 0));
}

/// Two namespaces that stand for two hosts, and what runs on the first of them.
struct Hosts {
    names: [String; 2],
    folder: tempfile::TempDir,
    running: Vec<Child>,
}

impl Hosts {
    fn new(what: &str) -> Self {
        let names = ["one", "two"].map(|side| format!("bench-hosts-{}-{what}-{side}", std::process::id()));
        let ip = |arguments: &[&str]| {
            let output = Command::new("ip").args(arguments).output().expect("iproute2");
            assert!(output.status.success(), "ip {arguments:?}: {}", said(&output));
        };
        for name in &names {
            ip(&["netns", "add", name]);
        }
        let [one, two] = &names;
        ip(&["link", "add", "eth0", "netns", one, "type", "veth", "peer", "name", "eth0", "netns", two]);
        for (name, address) in [(one, "172.16.0.1/16"), (two, "172.16.0.2/16")] {
            ip(&["-n", name, "address", "add", address, "dev", "eth0"]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
        }
        Self { names, folder: tempfile::tempdir().expect("a folder"), running: Vec::new() }
    }

    fn inside(&self, host: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[host]]).arg(program);
        for variable in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR", "KEA_LOG_FILE_DIR"] {
            command.env(variable, self.folder.path());
        }
        command
    }

    /// Starts `program` on the first host with this configuration.
    fn start(&mut self, program: &Path, name: &str, configuration: &Value) {
        let path = self.folder.path().join(name);
        fs::write(&path, configuration.to_string()).expect("a configuration");
        let output = File::create(self.folder.path().join(format!("{name}-output"))).expect("a file");
        let mut command = self.inside(0, program);
        command.arg("-c").arg(path).stdout(output.try_clone().expect("a handle")).stderr(output);
        self.running.push(command.spawn().expect("ip netns exec"));
    }

    /// Runs the bench on the second host.
    fn bench(&self, out: &str, more: &[&str]) -> (Output, Option<Value>) {
        let out = self.folder.path().join(out);
        let mut command = self.inside(1, Path::new(BENCH));
        command.args(["--quick", "--probe", "0.2", "--from", "100", "--to", "100", "--out"]).arg(&out);
        command.args(["--server", "172.16.0.1", "--local", "172.16.0.2"]).args(more);
        let output = command.output().expect("the program");
        (output, report(&out))
    }

    fn wait_for_port(&self, port: &str) {
        wait_until("a port is open", || {
            let table = self.inside(0, Path::new("cat")).arg("/proc/net/tcp").output().expect("the table");
            String::from_utf8_lossy(&table.stdout).contains(port)
        });
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for child in &mut self.running {
            // It may have ended already; then both calls fail and that is all right.
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in &self.names {
            // One that cannot be removed would only be noise here.
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn program(name: &str) -> PathBuf {
    Path::new(BENCH).with_file_name(name)
}

/// What a server on the first host is told; its control socket is for the agent.
fn dhcp4(folder: &Path) -> Value {
    json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": ["eth0"], "dhcp-socket-type": "udp" },
        "lease-database": { "type": "memfile", "name": folder.join("leases.csv"), "lfc-interval": 0 },
        "control-socket": { "socket-type": "unix", "socket-name": folder.join("socket") },
        "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 2, "packet-queue-size": 64 },
        "valid-lifetime": 3600,
        "subnet4": [ { "id": 1, "subnet": "172.16.0.0/16", "interface": "eth0",
                       "pools": [ { "pool": "172.16.1.0 - 172.16.250.255" } ] } ],
    } })
}

fn agent(folder: &Path) -> Value {
    json!({ "Control-agent": {
        "http-host": "172.16.0.1", "http-port": 8000,
        "control-sockets": { "dhcp4": { "socket-type": "unix", "socket-name": folder.join("socket") } },
    } })
}

/// The agent on the first host.
const CONTROL: [&str; 2] = ["--control", "http://172.16.0.1:8000/"];

impl Hosts {
    /// Two hosts, with `server` and an agent on the first.
    fn with(what: &str, server: &Path) -> Self {
        let mut hosts = Self::new(what);
        let folder = hosts.folder.path().to_owned();
        hosts.start(server, "dhcp4", &dhcp4(&folder));
        wait_until("the control socket is there", || folder.join("socket").exists());
        hosts.start(&program("tandem-ctrl-agent"), "agent", &agent(&folder));
        hosts.wait_for_port(":1F40 ");
        hosts
    }
}

#[test]
fn a_tandem_by_address_is_measured_as_it_is_and_says_that_it_takes_no_other_threads() {
    let hosts = Hosts::with("tandem", &program("tandem-dhcp4"));
    let (output, found) = hosts.bench("asked", &CONTROL);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("measuring Tandem"), "{text}");
    assert!(text.contains("at 172.16.0.1: threads 2, queue 64, ACKs synced"), "{text}");
    let found = found.expect("a report");
    let cell = &found["cells"][0]["cell"];
    assert_eq!(
        (&cell["server"], &cell["threads"], &cell["queue"]),
        (&"remote".into(), &2.into(), &64.into())
    );
    assert!(found["cells"][0]["probes"][0]["completed_rate"].as_f64().is_some_and(|rate| rate > 0.0));

    let (output, _) = hosts.bench("threads", &[&CONTROL[..], &["--threads", "1"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("172.16.0.1 does not take threads 1"), "{}", said(&output));
    let (output, _) = hosts.bench("untold", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("--durability with what its ACKs wait for"), "{}", said(&output));
}

#[test]
fn a_kea_by_address_gets_the_threads_asked_for_and_its_own_back() {
    let hosts = Hosts::with("kea", Path::new("kea-dhcp4"));
    let (output, found) = hosts.bench("threads", &[&CONTROL[..], &["--threads", "1"]].concat());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("measuring Kea 2"), "{text}");
    assert_eq!(found.expect("a report")["cells"][0]["cell"]["threads"], 1, "{text}");
    assert!(text.contains("172.16.0.1 has its own configuration again"), "{text}");
}
