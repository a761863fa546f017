//! The DHCP clients of Debian, each as it is: what it did is read from the script it calls.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::namespace::Namespace;
use super::process::{Process, eventually};

/// Which client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Dhclient,
    Dhcpcd,
    Udhcpc,
}

/// All of them.
pub const ALL: [Kind; 3] = [Kind::Dhclient, Kind::Dhcpcd, Kind::Udhcpc];

/// A client running on an interface of a host.
pub struct Client {
    kind: Kind,
    interface: String,
    folder: PathBuf,
    process: Process,
}

/// Notes `<reason> <address>` per call and, for the clients that leave it to their script, sets the address.
const SCRIPT: &str = r#"#!/bin/sh
reason=${reason:-$1}
address=${new_ip_address:-$ip}
[ -n "$CLIENT_EVENTS" ] || exit 0
case "$reason" in
  PREINIT|deconfig|EXPIRE|FAIL|RELEASE|STOP|RELEASE6|STOPPED|NAK|nak|TIMEOUT)
    [ -n "$CLIENT_SETS" ] && ip -4 address flush dev "$interface" 2>/dev/null
    ip link set "$interface" up 2>/dev/null ;;
  BOUND|RENEW|REBIND|REBOOT|bound|renew)
    if [ -n "$CLIENT_SETS" ]; then
      ip -4 address flush dev "$interface"
      ip address add "$address/24" dev "$interface"
    fi ;;
esac
echo "$reason $address" >> "$CLIENT_EVENTS"
# dhclient asks whether an old lease still works before it uses it unasked.
[ "$reason" != TIMEOUT ]
"#;

impl Client {
    /// Starts `kind` on `interface` of `host`; `folder` keeps what it remembers from one start to the next.
    pub fn start(kind: Kind, host: &Namespace, interface: &str, folder: &Path, extra: &[&str]) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let text = |path: PathBuf| path.to_str().expect("a UTF-8 path").to_owned();
        let (script, events) = (text(folder.join("script")), text(folder.join("events")));
        std::fs::write(&script, SCRIPT).expect("a script");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let sets = if kind == Kind::Dhcpcd { "" } else { "yes" };
        let environment = [("CLIENT_EVENTS", events.as_str()), ("CLIENT_SETS", sets)];
        let (program, arguments) = match kind {
            Kind::Dhclient => {
                let (leases, pid) = (text(folder.join("leases")), text(folder.join("pid")));
                let configuration = text(folder.join("conf"));
                std::fs::write(
                    &configuration,
                    "timeout 300;\nretry 2;\nreboot 2;\ninitial-interval 1;\nbackoff-cutoff 3;\n",
                )
                .expect("a configuration");
                let words =
                    ["-4", "-d", "-v", "-lf", &leases, "-pf", &pid, "-cf", &configuration, "-sf", &script];
                let events = format!("CLIENT_EVENTS={events}");
                let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
                all.extend(["-e".to_owned(), events, "-e".to_owned(), "CLIENT_SETS=yes".to_owned()]);
                ("dhclient", all)
            }
            Kind::Dhcpcd => {
                if !folder.join("events").exists() {
                    // dhcpcd remembers leases by interface name; what an earlier run has left is not this client's.
                    let _ = std::fs::remove_file(format!("/var/lib/dhcpcd/{interface}.lease"));
                }
                let configuration = text(folder.join("conf"));
                // dhcpcd runs its script with an environment of its own.
                let settings = format!(
                    "duid\nnoipv6rs\nreboot 5\nenv CLIENT_EVENTS={events}\noption domain_name_servers\n"
                );
                std::fs::write(&configuration, settings).expect("a configuration");
                let words = ["-4", "-B", "-d", "-f", &configuration, "-c", &script];
                ("dhcpcd", words.iter().map(|word| (*word).to_owned()).collect())
            }
            Kind::Udhcpc => {
                let words = ["-f", "-t", "20", "-T", "1", "-A", "2", "-s", &script, "-i"];
                ("udhcpc", words.iter().map(|word| (*word).to_owned()).collect())
            }
        };
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if kind == Kind::Udhcpc {
            arguments.push(interface);
            arguments.extend(extra);
        } else {
            arguments.extend(extra);
            arguments.push(interface);
        }
        let process = Process::start(host, program, &arguments, &environment, &folder.join("output"));
        Self { kind, interface: interface.to_owned(), folder: folder.to_owned(), process }
    }

    /// What its script was called with, in order: reason (upper case) and address.
    pub fn events(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.folder.join("events")).unwrap_or_default();
        let pair = |line: &str| {
            let (reason, address) = line.split_once(' ').unwrap_or((line, ""));
            (reason.to_ascii_uppercase(), address.to_owned())
        };
        text.lines().map(pair).collect()
    }

    /// Waits for the `count`-th (from 1) event with one of `reasons`, and returns its address.
    pub fn wait_for(&mut self, reasons: &[&str], count: usize, patience: Duration) -> String {
        let what = format!("{:?} on {}: {reasons:?} for the {count}. time", self.kind, self.interface);
        let events = || self.events().into_iter().filter(|(reason, _)| reasons.contains(&reason.as_str()));
        let start = std::time::Instant::now();
        while events().count() < count {
            if start.elapsed() > patience {
                let mut seen = String::new();
                for (reason, address) in self.events() {
                    // Writing to a String cannot fail.
                    let _ = writeln!(seen, "  {reason} {address}");
                }
                panic!("not within {patience:?}: {what}; events:\n{seen}output:\n{}", self.process.output());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let address = events().nth(count - 1).map(|(_, address)| address);
        address.unwrap_or_default()
    }

    /// Waits until it is bound for the first time and returns its address.
    pub fn bound(&mut self, patience: Duration) -> String {
        self.wait_for(&["BOUND", "REBOOT"], 1, patience)
    }

    /// Stops it without a word to the server, as a power cut does.
    pub fn kill(mut self) {
        self.process.signal("KILL");
        self.process.wait(Duration::from_secs(5));
    }

    /// Makes it release its lease and end.
    pub fn release(mut self, host: &Namespace) {
        match self.kind {
            Kind::Dhclient => {
                let path = |name: &str| self.folder.join(name).to_str().expect("a UTF-8 path").to_owned();
                let (leases, pid, script) = (path("leases"), path("pid"), path("script"));
                let words = ["-4", "-r", "-lf", &leases, "-pf", &pid, "-sf", &script, &self.interface];
                let mut release =
                    Process::start(host, "dhclient", &words, &[], &self.folder.join("release-output"));
                release.wait(Duration::from_secs(10));
            }
            Kind::Dhcpcd => {
                // ALRM is what `dhcpcd -k` sends: release and exit.
                self.process.signal("ALRM");
            }
            Kind::Udhcpc => {
                self.process.signal("USR2");
                let folder = self.folder.clone();
                eventually("udhcpc released", Duration::from_secs(5), || {
                    std::fs::read_to_string(folder.join("output"))
                        .unwrap_or_default()
                        .contains("entering released")
                });
                self.process.signal("TERM");
            }
        }
        self.process.wait(Duration::from_secs(15));
    }
}
