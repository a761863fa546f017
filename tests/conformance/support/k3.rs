//! A partner that is a script and speaks the dialect of Kea 3.0 and later, octet for octet as ha-protocol 3 has it: it
//! answers what a partner is asked, in the state it is told to be in, and posts what such a partner sends. No Kea 3 is
//! needed, and none is claimed to have been here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::http::{Message, response};
use super::plan::name;
use super::site::Site;
use super::tap::{Tap, Verdict};

/// Origin of a partner's command that names none (ha-protocol 3.8).
const HA_PARTNER: i64 = 2000;

/// What the script says of itself.
#[derive(Clone, Debug)]
pub struct Says {
    /// Its state.
    pub state: &'static str,
    /// Its clock, in seconds from ours.
    pub clock_s: i64,
    /// The scopes it serves.
    pub scopes: Vec<String>,
    /// Its count of unsent updates.
    pub unsent: u64,
    /// Whether it is a 3.0 (or a 2.2, which knows none of the newer members).
    pub is_k3: bool,
    /// Origins of partners that hold its service off.
    pub locks: BTreeSet<i64>,
    /// Its leases by address, as listed by `lease4-get-page`.
    pub leases: BTreeMap<std::net::Ipv4Addr, Value>,
}

/// What a test may put in the place of the usual answer; `None` leaves it.
type Instead = dyn FnMut(&str, &Message) -> Option<Verdict> + Send;

/// The script at one place of a site.
pub struct Script {
    pub tap: Tap,
    pub says: Arc<Mutex<Says>>,
    instead: Arc<Mutex<Box<Instead>>>,
    place: usize,
}

impl Script {
    /// At the place of `server`, in `state`, with the dialect of 3.0.
    pub fn new(site: &Site, server: usize, state: &'static str) -> Self {
        let says = Says {
            state,
            clock_s: 0,
            scopes: Vec::new(),
            unsent: 0,
            is_k3: true,
            locks: BTreeSet::new(),
            leases: BTreeMap::new(),
        };
        let says = Arc::new(Mutex::new(says));
        let instead: Arc<Mutex<Box<Instead>>> = Arc::new(Mutex::new(Box::new(|_, _| None)));
        let (host, at) = site.place(server);
        let (words, special) = (says.clone(), instead.clone());
        let tap = Tap::start(host, at, None, move |request| {
            let command = request.command();
            let verdict = (special.lock().expect("the exception"))(&command, request);
            verdict.unwrap_or_else(|| words.lock().expect("the script").answer(&command, request))
        });
        Self { tap, says, instead, place: server }
    }

    /// Changes what it says.
    pub fn say(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().expect("the script"));
    }

    /// Puts something in the place of the usual answers from now on.
    pub fn instead(&self, instead: impl FnMut(&str, &Message) -> Option<Verdict> + Send + 'static) {
        *self.instead.lock().expect("the exception") = Box::new(instead);
    }

    /// The usual answers again.
    pub fn as_usual(&self) {
        self.instead(|_, _| None);
    }

    /// Posts a command to a server as this partner would, with the arguments a 3.0 puts in.
    pub fn post(&self, site: &Site, server: usize, command: &str, arguments: Value) -> Value {
        let mut body = json!({ "command": command, "service": ["dhcp4"] });
        let mut members = if arguments.is_null() { json!({}) } else { arguments };
        if self.says.lock().expect("the script").is_k3 {
            if matches!(command, "ha-heartbeat" | "ha-reset" | "ha-maintenance-notify") {
                members["server-name"] = json!(name(self.place));
            }
            if matches!(command, "dhcp-disable" | "dhcp-enable") {
                members["origin-id"] = json!(2000);
            }
            if command == "ha-sync-complete-notify" {
                members = json!({ "origin": 2000, "origin-id": 2000, "server-name": name(self.place) });
            }
        }
        if members.as_object().is_some_and(|members| !members.is_empty()) {
            body["arguments"] = members;
        }
        site.post(server, &body).answer()
    }
}

impl Says {
    /// `disabled-by-remote-command` of its status.
    pub fn remote_locks(&self) -> Value {
        json!(self.locks)
    }

    fn answer(&mut self, command: &str, request: &Message) -> Verdict {
        let arguments = request.json()["arguments"].clone();
        let value = match command {
            "ha-heartbeat" => json!({
                "arguments": {
                    "date-time": date(self.clock_s),
                    "scopes": self.scopes,
                    "state": self.state,
                    "unsent-update-count": self.unsent,
                },
                "result": 0,
                "text": "HA peer status returned.",
            }),
            "dhcp-disable" => {
                self.locks.insert(arguments["origin-id"].as_i64().unwrap_or(HA_PARTNER));
                let period = &arguments["max-period"];
                json!({ "result": 0, "text": format!("DHCPv4 service disabled for {period} seconds") })
            }
            "dhcp-enable" => {
                self.locks.remove(&arguments["origin-id"].as_i64().unwrap_or(HA_PARTNER));
                json!({ "result": 0, "text": "DHCP service successfully enabled" })
            }
            "lease4-get-page" => self.page(&arguments),
            "lease4-update" => self.update(&arguments),
            "lease4-del" => self.delete(&arguments),
            "ha-sync-complete-notify" => {
                // Without an id these releases let go of a lock that nobody has (ha-protocol 3.8).
                self.locks.remove(&arguments["origin-id"].as_i64().unwrap_or(HA_PARTNER + 1));
                json!({
                    "result": 0,
                    "text": "Server successfully notified about the synchronization completion.",
                })
            }
            "ha-reset" => json!({ "result": 0, "text": "HA state machine reset." }),
            "ha-maintenance-notify" => {
                if arguments["cancel"] == true {
                    let arguments = json!({ "state": self.state });
                    json!({ "arguments": arguments, "result": 0, "text": "Server maintenance canceled." })
                } else {
                    json!({ "result": 0, "text": "Server is in-maintenance state." })
                }
            }
            "status-get" if self.is_k3 => json!({
                "arguments": {
                    "dhcp-state": {
                        "disabled-by-remote-command": self.remote_locks(),
                        "globally-disabled": !self.locks.is_empty(),
                    },
                    "pid": 1,
                },
                "result": 0,
            }),
            "status-get" => json!({ "arguments": { "pid": 1 }, "result": 0 }),
            other => json!({ "result": 2, "text": format!("'{other}' command not supported.") }),
        };
        Verdict::Answer(response(&format!("[ {value} ]")))
    }

    fn page(&self, arguments: &Value) -> Value {
        let from = arguments["from"].as_str().and_then(|from| from.parse::<std::net::Ipv4Addr>().ok());
        let limit = usize::try_from(arguments["limit"].as_u64().expect("a limit")).expect("a limit");
        let beyond = |address: &std::net::Ipv4Addr| from.is_none_or(|from| *address > from);
        let leases: Vec<Value> = self
            .leases
            .iter()
            .filter(|(address, _)| beyond(address))
            .map(|(_, lease)| lease.clone())
            .take(limit)
            .collect();
        let (count, result) = (leases.len(), if leases.is_empty() { 3 } else { 0 });
        let text = format!("{count} IPv4 lease(s) found.");
        json!({ "arguments": { "count": count, "leases": leases }, "result": result, "text": text })
    }

    fn update(&mut self, arguments: &Value) -> Value {
        let address = address_of(arguments);
        let mut lease = arguments.clone();
        let (expire, lifetime) = (arguments["expire"].as_i64(), arguments["valid-lft"].as_i64());
        lease["cltt"] = json!(expire.expect("an end") - lifetime.expect("a lifetime"));
        let members = lease.as_object_mut().expect("a map");
        for member in ["expire", "force-create", "origin"] {
            members.remove(member);
        }
        let before = self.leases.insert(address, lease);
        let text = if before.is_some() { "IPv4 lease updated." } else { "IPv4 lease added." };
        json!({ "result": 0, "text": text })
    }

    fn delete(&mut self, arguments: &Value) -> Value {
        match self.leases.remove(&address_of(arguments)) {
            Some(_) => json!({ "result": 0, "text": "IPv4 lease deleted." }),
            None => json!({ "result": 3, "text": "IPv4 lease not found." }),
        }
    }
}

fn address_of(arguments: &Value) -> std::net::Ipv4Addr {
    let address = arguments["ip-address"].as_str().and_then(|address| address.parse().ok());
    address.unwrap_or_else(|| panic!("no address in {arguments}"))
}

/// Who holds the service of a server of 3.0 off, by the answer to its `status-get`.
pub fn remote_locks(status: &Value) -> Value {
    status["arguments"]["dhcp-state"]["disabled-by-remote-command"].clone()
}

/// Seconds since 1970.
pub fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("this millennium")
}

/// The time in `clock_s` seconds in the words of a heartbeat.
pub fn date(clock_s: i64) -> String {
    let at =
        UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(now_s() + clock_s).expect("after 1970"));
    httpdate::fmt_http_date(at)
}

/// A lease as `lease4-get-page` lists it.
pub fn listed(address: &str, hwaddr: &str, cltt: i64) -> Value {
    json!({
        "cltt": cltt, "fqdn-fwd": false, "fqdn-rev": false, "hostname": "", "hw-address": hwaddr,
        "ip-address": address, "state": 0, "subnet-id": 1, "valid-lft": 3600,
    })
}

/// A lease as `lease4-update` carries it.
pub fn updated(address: &str, hwaddr: &str) -> Value {
    json!({
        "expire": now_s() + 600, "force-create": true, "fqdn-fwd": false, "fqdn-rev": false, "hostname": "",
        "hw-address": hwaddr, "ip-address": address, "origin": "ha-partner", "state": 0, "subnet-id": 1,
        "valid-lft": 600,
    })
}
