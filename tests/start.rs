//! Operators' mistakes: the programs say what is wrong, where, exit with 1 and leave nothing half started.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const SERVER: &str = env!("CARGO_BIN_EXE_tandem-dhcp4");
const AGENT: &str = env!("CARGO_BIN_EXE_tandem-ctrl-agent");

/// A server without interfaces, so that it starts as any user. `@` is the folder.
const CONFIG: &str = r#"{ "Dhcp4": {
  "interfaces-config": { "interfaces": [ ] },
  "control-socket": { "socket-type": "unix", "socket-name": "@/control" },
  "lease-database": { "type": "memfile", "name": "@/leases.csv" },
  "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 1 },
  "subnet4": [ { "id": 1, "subnet": "192.0.2.0/24", "pools": [ { "pool": "192.0.2.9-192.0.2.20" } ] } ],
  "loggers": [ { "name": "kea-dhcp4", "output-options": [ { "output": "@/log" } ] } ]
} }
"#;

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("KEA_PIDFILE_DIR", folder).stdin(Stdio::null());
    command
}

/// Writes `text` to `name` in `folder` and runs `program` on it until it ends.
fn run(program: &str, folder: &Path, name: &str, text: &str) -> Output {
    write(folder, name, text);
    command(program, folder).args(["-c", name]).output().expect("the program starts")
}

fn write(folder: &Path, name: &str, text: &str) {
    let text = text.replace('@', &folder.display().to_string());
    std::fs::write(folder.join(name), text).expect("a configuration");
}

fn wait_for(file: &Path, text: &str) {
    let start = Instant::now();
    while !std::fs::read_to_string(file).is_ok_and(|seen| seen.contains(text)) {
        assert!(start.elapsed() < Duration::from_secs(20), "no {text} in {}", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then both calls fail and that is all right.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The one line for people, after checking the exit code and that it is one line.
fn said(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "one clear error: {text}");
    text
}

#[test]
fn what_keeps_a_server_from_starting_is_said_at_its_place_and_nothing_is_left() {
    // What is written instead of what, the place, a part of what is said.
    let rows = [
        ("\"subnet4\"", "\"subnet\"", "a.conf:6.3: ", "Did you mean \"subnet4\"?"),
        ("\"@/leases.csv\"", "\"@/none/leases.csv\"", "a.conf:4.50: ", "there is no folder"),
        ("\"@/log\"", "\"@/none/log\"", "a.conf:7.71: ", "cannot be written"),
        ("\"@/control\"", "\"@/none/control\"", "a.conf:3.61: ", "control socket"),
        ("\"thread-pool-size\": 1", "\"thread-pool-size\": 65", "a.conf:5.76: ", "at most 64"),
        ("192.0.2.20", "192.0.3.20", "a.conf:6.74: ", "does not match the prefix of a subnet"),
        (
            "\"loggers\"",
            "\"reservations\": [ { \"hw-address\": \"2:0:0:0:0:1\" } ], \"loggers\"",
            "a.conf:7.3: ",
            "not built yet",
        ),
    ];
    for (right, wrong, place, cause) in rows {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(CONFIG.contains(right), "{right}");
        let said = said(&run(SERVER, folder.path(), "a.conf", &CONFIG.replace(right, wrong)));
        assert!(said.contains(place) && said.contains(cause), "{wrong}: {said}");
        for left in ["a.kea-dhcp4.pid", "control"] {
            assert!(!folder.path().join(left).exists(), "{wrong}: {left} is left behind");
        }
    }
}

#[test]
fn a_server_shares_neither_its_name_nor_its_lease_file_nor_its_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    write(path, "first.conf", CONFIG);
    let mut first = Running(command(SERVER, path).args(["-c", "first.conf"]).spawn().expect("a server"));
    wait_for(&path.join("log"), "DHCP4_STARTED");
    let pid = std::fs::read_to_string(path.join("first.kea-dhcp4.pid")).expect("a PID file");
    assert_eq!(pid.trim(), first.0.id().to_string());

    let same_name = said(&run(SERVER, path, "first.conf", CONFIG));
    assert!(same_name.contains("DHCP4_ALREADY_RUNNING") && same_name.contains(pid.trim()), "{same_name}");
    let same_leases = said(&run(SERVER, path, "second.conf", &CONFIG.replace("@/control", "@/other")));
    assert!(same_leases.contains("second.conf:4.50: ") && same_leases.contains("in use"), "{same_leases}");
    let same_socket = said(&run(SERVER, path, "third.conf", &CONFIG.replace("leases.csv", "other.csv")));
    assert!(same_socket.contains("third.conf:3.61: ") && same_socket.contains("in use"), "{same_socket}");
    assert!(first.0.try_wait().expect("a state").is_none(), "the first server has ended");
    assert!(path.join("control").exists() && path.join("first.kea-dhcp4.pid").exists());
}

#[test]
fn a_control_agent_has_a_pid_file_and_says_where_it_cannot_listen() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let text = |port: u16| {
        format!(
            "{{ \"Control-agent\": {{ \"http-host\": \"127.0.0.1\", \"http-port\": {port},\n \"loggers\": [ {{ \"name\": \"kea-ctrl-agent\", \"output-options\": [ {{ \"output\": \"@/log\" }} ] }} ] }} }}"
        )
    };
    let port = |listener: &std::net::TcpListener| listener.local_addr().expect("an address").port();
    let in_use = said(&run(AGENT, path, "agent.conf", &text(port(&taken))));
    assert!(in_use.contains("agent.conf:1.35: cannot listen on 127.0.0.1:"), "{in_use}");
    assert!(!path.join("agent.kea-ctrl-agent.pid").exists());
    let mistyped = said(&run(AGENT, path, "agent.conf", "{ \"Control-agent\": { \"http-prt\": 1 } }"));
    assert!(mistyped.contains("Did you mean \"http-port\"?"), "{mistyped}");

    write(path, "agent.conf", &text(port(&free)));
    drop(free);
    let agent = Running(command(AGENT, path).args(["-c", "agent.conf"]).spawn().expect("an agent"));
    wait_for(&path.join("log"), "CTRL_AGENT_STARTED");
    let pid = std::fs::read_to_string(path.join("agent.kea-ctrl-agent.pid")).expect("a PID file");
    assert_eq!(pid.trim(), agent.0.id().to_string());
    let again = command(AGENT, path).args(["-c", "agent.conf"]).output().expect("the program starts");
    assert!(said(&again).contains("DCTL_ALREADY_RUNNING"));
}
