//! Leases last: on stable storage before the ACK, in Kea's own file, through kills, torn rows and clean-up.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::control;
use crate::support::dhcp::{Direct, lease};
use crate::support::namespace::{Namespace, join};
use crate::support::process::{Process, eventually};
use crate::support::ready::start_ready;
use crate::support::server::Kind;

/// A server on one end of a link and clients on the other.
struct Site {
    folder: tempfile::TempDir,
    process: Option<Process>,
    clients: Namespace,
    server: Namespace,
}

impl Site {
    fn new(database: Value, more: &Value) -> Self {
        let (server, clients) = (Namespace::new("server"), Namespace::new("clients"));
        join((&server, "srv0", &["172.16.0.1/16"]), (&clients, "cli0", &[]));
        let site =
            Self { folder: tempfile::tempdir().expect("a temporary folder"), process: None, clients, server };
        site.configure(database, more);
        site
    }

    fn configure(&self, mut database: Value, more: &Value) {
        database["type"] = "memfile".into();
        database["name"] = self.file().display().to_string().into();
        let mut text = json!({
            "interfaces-config": { "interfaces": ["srv0"] },
            "lease-database": database,
            "control-socket": { "socket-type": "unix", "socket-name": self.socket().display().to_string() },
            "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 4, "packet-queue-size": 64 },
            "hooks-libraries": [ { "library": LEASE_COMMANDS } ],
            "valid-lifetime": 3600,
            "subnet4": [ { "id": 1, "subnet": "172.16.0.0/16", "pools": [ { "pool": "172.16.1.0-172.16.16.255" } ],
                           "interface": "srv0" } ],
        });
        for (key, value) in more.as_object().expect("a map") {
            text[key] = value.clone();
        }
        std::fs::write(self.config(), json!({ "Dhcp4": text }).to_string()).expect("a configuration");
    }

    fn start(&mut self, kind: Kind) {
        self.process = Some(start_ready(kind, &self.server, &self.config(), self.folder.path()));
    }

    /// Ends the server with `signal` and returns its exit code, if it has one.
    fn stop(&mut self, signal: &str) -> Option<i32> {
        let mut process = self.process.take().expect("a running server");
        process.signal(signal);
        process.wait(Duration::from_secs(30)).code()
    }

    fn lease(&self, family: u8, count: u16) -> HashMap<[u8; 6], Ipv4Addr> {
        let wire = Direct(self.clients.packet_socket("cli0", 100));
        let macs: Vec<_> =
            (0..count).map(|number| [2, family, 0, 0, (number >> 8) as u8, number as u8]).collect();
        let leased = lease(&wire, &macs, &|_| Vec::new(), Duration::from_secs(60));
        assert_eq!(leased.len(), usize::from(count));
        leased
    }

    fn listed(&self) -> Vec<Value> {
        control::leases(&self.socket())
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("kea-dhcp4.conf")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("kea-leases4.csv")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control")
    }
}

/// Where Debian puts Kea's library; Tandem knows it by its name.
const LEASE_COMMANDS: &str = "/usr/lib/x86_64-linux-gnu/kea/hooks/libdhcp_lease_cmds.so";

fn no_cache() -> Value {
    json!({ "cache-threshold": 0.0 })
}

fn no_lfc() -> Value {
    json!({ "lfc-interval": 0 })
}

fn addresses(leases: &[Value]) -> Vec<String> {
    leases.iter().map(|lease| lease["ip-address"].as_str().expect("an address").to_owned()).collect()
}

#[test]
fn every_acknowledged_lease_survives_sigkill() {
    let mut site = Site::new(no_lfc(), &no_cache());
    site.start(Kind::Tandem);
    let leased = site.lease(1, 300);
    let before = site.listed();
    assert_eq!(site.stop("KILL"), None);
    site.start(Kind::Tandem);
    assert_eq!(site.listed(), before);
    assert_eq!(before.len(), leased.len());
    // The same clients get the same addresses, and new ones get others.
    assert_eq!(site.lease(1, 300), leased);
    assert!(site.lease(2, 50).values().all(|address| !leased.values().any(|known| known == address)));
    assert_eq!(site.stop("TERM"), Some(0));
}

#[test]
fn torn_and_bad_rows_are_reported_and_the_rest_kept() {
    let mut site = Site::new(no_lfc(), &no_cache());
    site.start(Kind::Tandem);
    site.lease(1, 20);
    let before = site.listed();
    assert_eq!(site.stop("TERM"), Some(0));
    let mut text = std::fs::read(site.file()).expect("the lease file");
    text.extend(b"this is no row\n172.16.1.9,zz:00,,3600,1,1,0,0,,0,,0\n\0\0\0\0\n\n172.16.1.3,02:01:00:0");
    std::fs::write(site.file(), &text).expect("write");
    let text = String::from_utf8(text).expect("text");
    site.start(Kind::Tandem);
    assert_eq!(site.listed(), before);
    let output = site.process.as_ref().expect("running").output();
    assert!(output.contains("DHCPSRV_MEMFILE_LEASE_FILE_LOAD"), "{output}");
    for (number, _) in
        text.lines().enumerate().filter(|(_, row)| row.starts_with("this is") || row.contains("zz:00"))
    {
        let place = format!("line {} in file", number + 1);
        assert!(output.contains(&place), "no word of {place}:\n{output}");
    }
    // What comes after a torn row does not stick to it.
    site.lease(2, 5);
    let before = site.listed();
    assert_eq!(site.stop("KILL"), None);
    site.start(Kind::Tandem);
    assert_eq!(site.listed(), before);
    assert_eq!(before.len(), 25);
}

#[test]
fn kea_lists_the_leases_of_tandems_file_and_the_other_way_round() {
    let mut site = Site::new(no_lfc(), &json!({}));
    site.start(Kind::Tandem);
    site.lease(1, 60);
    let of_tandem = site.listed();
    assert_eq!(site.stop("TERM"), Some(0));

    site.start(Kind::Kea);
    assert_eq!(site.listed(), of_tandem, "Kea reads Tandem's file");
    site.lease(2, 40);
    let of_kea = site.listed();
    site.stop("TERM");

    site.start(Kind::Tandem);
    assert_eq!(site.listed(), of_kea, "Tandem reads Kea's file");
    assert_eq!(of_kea.len(), 100);
    // A file that Kea has taken over keeps the columns of 2.2, and stays Kea's.
    site.lease(3, 10);
    let again = site.listed();
    assert_eq!(site.stop("TERM"), Some(0));
    site.start(Kind::Kea);
    assert_eq!(site.listed(), again);
}

#[test]
fn the_file_is_cleaned_up_while_serving_and_complete_at_every_moment() {
    let mut site = Site::new(json!({ "lfc-interval": 2 }), &no_cache());
    site.start(Kind::Tandem);
    let leased = site.lease(1, 200);
    let rows = |path: &Path| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .lines()
            .filter(|row| row.starts_with("172."))
            .count()
    };
    let addresses_in_file = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("the lease file is always there");
        let rows = text
            .lines()
            .filter(|row| row.starts_with("172."))
            .map(|row| row.split(',').next().unwrap_or("").to_owned());
        rows.collect::<std::collections::HashSet<_>>()
    };
    let mut cleaned = 0;
    for round in 0..6 {
        let before = rows(&site.file());
        assert_eq!(site.lease(1, 200), leased, "round {round}");
        assert_eq!(addresses_in_file(&site.file()).len(), 200, "the file lost leases in round {round}");
        std::thread::sleep(Duration::from_millis(700));
        cleaned += usize::from(rows(&site.file()) < before + 200);
    }
    assert!(cleaned > 0, "six rounds and no clean-up");
    for leftover in ["1", "2", "output", "completed", "pid"] {
        assert!(
            !site.folder.path().join(format!("kea-leases4.csv.{leftover}")).exists() || leftover == "output"
        );
    }
    let before = addresses(&site.listed());
    assert_eq!(site.stop("KILL"), None);
    site.start(Kind::Tandem);
    assert_eq!(addresses(&site.listed()), before);
}

#[test]
fn leases_that_run_out_are_reclaimed_and_their_addresses_given_again() {
    let more = json!({
        "valid-lifetime": 2, "cache-threshold": 0.0,
        "expired-leases-processing": { "reclaim-timer-wait-time": 1, "hold-reclaimed-time": 0,
                                       "flush-reclaimed-timer-wait-time": 1 },
        "subnet4": [ { "id": 1, "subnet": "172.16.0.0/16", "pools": [ { "pool": "172.16.1.0-172.16.1.9" } ],
                       "interface": "srv0" } ],
    });
    let mut site = Site::new(no_lfc(), &more);
    site.start(Kind::Tandem);
    site.lease(1, 10);
    eventually("all reclaimed", Duration::from_secs(40), || {
        let answer = control::command(&site.socket(), "lease4-get-all", Value::Null);
        answer["result"] == 3
    });
    site.lease(2, 10);
    let reclaimed = control::command(&site.socket(), "statistic-get", json!({ "name": "reclaimed-leases" }));
    assert_eq!(reclaimed["arguments"]["reclaimed-leases"][0][0], 10, "{reclaimed}");
}

/// What strace has seen of one server: how many rows were synced when, and how many ACKs had left by then.
#[derive(Debug, Default)]
struct Trace {
    written: usize,
    syncing: usize,
    synced: usize,
    syncs: usize,
    acks: usize,
    too_early: usize,
}

impl Trace {
    fn read(text: &str) -> Self {
        let mut trace = Self::default();
        for line in text.lines() {
            if line.contains(" writev(") {
                // A row of the pool in hexadecimal: "\n172.16." and so on.
                trace.written += line.matches(r"\x31\x37\x32\x2e\x31\x36\x2e").count();
            }
            if line.contains(" fdatasync(") {
                trace.syncing = trace.written;
            }
            let ended = line.contains(" fdatasync(") && !line.contains("unfinished");
            if ended || line.contains("fdatasync resumed") {
                trace.synced = trace.syncing;
                trace.syncs += 1;
            }
            if ["sendmmsg", "sendmsg", "sendto"].iter().any(|call| line.contains(call)) {
                // Option 53 of length 1 with value 5, right behind the magic cookie.
                trace.acks += line.matches(r"\x63\x82\x53\x63\x35\x01\x05").count();
                trace.too_early += usize::from(trace.acks > trace.synced);
            }
        }
        trace
    }
}

/// Goal: no ACK before its row is on stable storage. Method: strace shows the writes, the syncs that ended and the
/// frames that left, in order; the ACKs sent never exceed the rows synced by then.
#[test]
fn no_ack_leaves_before_its_row_is_synced() {
    let mut site = Site::new(no_lfc(), &no_cache());
    let trace = site.folder.path().join("trace");
    site.start(Kind::Tandem);
    let pid = site.process.as_ref().expect("running").id().to_string();
    let words = ["-f", "-v", "-xx", "-s", "500", "-e", "trace=writev,fdatasync,sendmmsg,sendmsg,sendto"];
    let mut strace = Process::start(
        &site.server,
        "strace",
        &[&words[..], &["-o", trace.to_str().expect("a UTF-8 path"), "-p", &pid]].concat(),
        &[],
        &site.folder.path().join("strace-output"),
    );
    strace.wait_for(None, "attached", Duration::from_secs(30));
    site.lease(1, 60);
    strace.signal("INT");
    strace.wait(Duration::from_secs(30));
    let seen = Trace::read(&std::fs::read_to_string(&trace).expect("a trace"));
    assert!(seen.acks >= 60 && seen.syncs > 0, "strace did not see the exchange: {seen:?}");
    assert_eq!(seen.too_early, 0, "an ACK left before its row was synced: {seen:?}");
}
