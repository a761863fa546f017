//! A site: servers of either kind on a LAN with clients, and a second network for what they say to each other, so that
//! either can be cut without the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::clients::Clients;
use super::control;
use super::http::{Connection, Message, request};
use super::lan::Lan;
use super::namespace::Namespace;
use super::plan::{PORT, Plan, Seat, address, tap_address};
use super::process::{Process, eventually};
use super::rows;
use super::server::{Kind, start};
use super::tap::{Tap, Verdict};

/// Debian's library that shifts the wall clock of one process.
pub const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// How long a pair may take to come together, or a Kea to go on alone; with a Kea it takes a dozen seconds.
pub const TOGETHER: Duration = Duration::from_secs(90);
/// How long anything else that is expected may take. A busy machine takes its time, and a Kea of 2.2 notices that its
/// partner is silent when a heartbeat is given up, `heartbeat-delay` and ten seconds after the last one.
pub const SOON: Duration = Duration::from_secs(40);

/// One place of the relationship.
pub struct Member {
    pub host: Namespace,
    pub folder: PathBuf,
    pub process: Option<Process>,
    seat: Seat,
    environment: Vec<(String, String)>,
}

impl Member {
    /// What was put into its environment is there no more at the next start.
    pub fn forget_environment(&mut self) {
        self.environment.clear();
    }
}

/// The servers, their networks and their clients.
pub struct Site {
    pub members: Vec<Member>,
    pub clients: Clients,
    /// Where clients are, and a stranger on the servers' network with the address 10.98.0.100.
    pub outside: Namespace,
    pub plan: Plan,
    root: tempfile::TempDir,
    /// `taps[from][to]`, in a tapped plan.
    taps: Vec<Vec<Option<Tap>>>,
    networks: [Lan; 2],
}

impl Site {
    /// Hosts and configurations; nothing is started.
    pub fn new(plan: Plan) -> Self {
        let (mut lan, mut link) = (Lan::new(), Lan::new());
        let root = tempfile::tempdir().expect("a temporary folder");
        let members: Vec<Member> = plan
            .seats
            .iter()
            .enumerate()
            .map(|(index, seat)| {
                let host = lan.host(
                    &format!("server{}", index + 1),
                    "lan0",
                    &[&format!("10.99.0.{}/16", index + 1)],
                );
                link.attach(&host, "ha0", &[&format!("10.98.0.{}/24", index + 1)]);
                let folder = root.path().join(format!("server{}", index + 1));
                std::fs::create_dir(&folder).expect("a folder");
                Member { host, folder, process: None, seat: *seat, environment: Vec::new() }
            })
            .collect();
        let outside = lan.host("clients", "cli0", &["10.99.0.90/16"]);
        link.attach(&outside, "ha0", &["10.98.0.100/24"]);
        let clients = Clients::new(&outside, "cli0");
        let mut site =
            Self { members, clients, outside, plan, root, taps: Vec::new(), networks: [lan, link] };
        for server in 0..site.members.len() {
            site.configure(server);
        }
        if site.plan.is_tapped {
            site.taps = (0..site.members.len()).map(|from| site.taps_of(from)).collect();
        }
        site
    }

    fn taps_of(&self, from: usize) -> Vec<Option<Tap>> {
        let host = &self.members[from].host;
        let tap = |to| Tap::start(host, tap_address(to), Some(address(to)), |_| Verdict::Pass);
        (0..self.members.len()).map(|to| (to != from).then(|| tap(to))).collect()
    }

    /// The tap that one server reaches another through.
    pub fn tap(&self, from: usize, to: usize) -> &Tap {
        self.taps[from][to].as_ref().expect("a tapped plan")
    }

    /// Writes the configuration of a server again, from the plan as it is now.
    pub fn configure(&self, server: usize) {
        let member = &self.members[server];
        let text = self.plan.configuration(server, &member.folder).to_string();
        std::fs::write(member.folder.join("dhcp4.conf"), text).expect("a configuration");
    }

    /// Starts a server.
    pub fn start(&mut self, server: usize) {
        let member = &mut self.members[server];
        let Seat::Server(kind) = member.seat else { panic!("a script sits at {server}") };
        let environment: Vec<(&str, &str)> =
            member.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let config = member.folder.join("dhcp4.conf");
        let process = start(kind, &member.host, &config, &member.folder, &environment);
        member.process = Some(process);
    }

    /// Puts another server into a place, which finds the files of the one before it.
    pub fn replace(&mut self, server: usize, seat: Seat) {
        self.members[server].seat = seat;
        self.plan.seats[server] = seat;
        self.configure(server);
    }

    /// Starts all servers.
    pub fn start_all(&mut self) {
        for server in 0..self.members.len() {
            if self.members[server].seat != Seat::Script {
                self.start(server);
            }
        }
    }

    /// Sets the wall clock of a server that was made for it by [`Self::with_clocks`], in seconds from ours.
    pub fn set_clock(&self, server: usize, ahead_s: i64) {
        let file = self.members[server].folder.join("clock");
        // Whole at every moment: it is read while the server runs.
        let next = file.with_extension("next");
        std::fs::write(&next, format!("{ahead_s:+}s\n")).expect("a clock");
        std::fs::rename(&next, &file).expect("a clock");
    }

    /// Gives every server a wall clock of its own.
    pub fn with_clocks(mut self) -> Self {
        for server in 0..self.members.len() {
            self.set_clock(server, 0);
            let file = self.members[server].folder.join("clock");
            let file = file.to_str().expect("a UTF-8 path").to_owned();
            for (name, value) in [
                ("LD_PRELOAD", FAKETIME),
                ("FAKETIME_TIMESTAMP_FILE", &file),
                ("FAKETIME_CACHE_DURATION", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ] {
                self.environment(server, name, value);
            }
        }
        self
    }

    /// The environment a server is started with from now on.
    pub fn environment(&mut self, server: usize, name: &str, value: &str) {
        self.members[server].environment.push((name.to_owned(), value.to_owned()));
    }

    /// A pair in its normal state.
    pub fn whole(plan: Plan, state: &str) -> Self {
        Self::new(plan).until_whole(state)
    }

    /// The same of a site that was prepared.
    pub fn until_whole(mut self, state: &str) -> Self {
        self.start_all();
        let states = vec![state; self.members.len()];
        self.wait_for_states(&states, TOGETHER);
        self
    }

    /// Kills a server as a power cut does.
    pub fn kill(&mut self, server: usize) {
        self.end(server, "KILL");
    }

    /// Ends a server with a signal and waits for it.
    pub fn end(&mut self, server: usize, signal: &str) {
        let mut process = self.members[server].process.take().expect("a running server");
        process.signal(signal);
        process.wait(SOON);
    }

    /// Sends a signal.
    pub fn signal(&self, server: usize, signal: &str) {
        self.members[server].process.as_ref().expect("a running server").signal(signal);
    }

    /// Nothing that `from` sends to `to` between the servers arrives any more, in silence: its frames go to nobody.
    pub fn cut(&self, from: usize, to: usize) {
        let neighbour = address(to).ip().to_string();
        let words = ["neigh", "replace", &neighbour, "lladdr", "02:ff:ff:ff:ff:ff", "nud", "permanent"];
        self.members[from].host.ip(&[&words[..], &["dev", "ha0"]].concat());
    }

    /// Undoes [`Self::cut`].
    pub fn mend(&self, from: usize, to: usize) {
        let neighbour = address(to).ip().to_string();
        self.members[from].host.ip(&["neigh", "del", &neighbour, "dev", "ha0"]);
    }

    /// Cuts both ways.
    pub fn part(&self) {
        self.cut(0, 1);
        self.cut(1, 0);
    }

    /// Undoes [`Self::part`].
    pub fn join(&self) {
        self.mend(0, 1);
        self.mend(1, 0);
    }

    /// The control socket of a server.
    pub fn socket(&self, server: usize) -> PathBuf {
        self.members[server].folder.join("socket")
    }

    /// A command over the control socket, which has to be answered.
    pub fn command(&self, server: usize, command: &str, arguments: Value) -> Value {
        control::command(&self.socket(server), command, arguments)
    }

    /// The state of a server's HA machine.
    pub fn state(&self, server: usize) -> String {
        control::ha_state(&self.socket(server))
    }

    /// `ha-servers` of `status-get`.
    pub fn ha_servers(&self, server: usize) -> Value {
        let answer = self.command(server, "status-get", Value::Null);
        answer["arguments"]["high-availability"][0]["ha-servers"].clone()
    }

    /// The scopes a server serves.
    pub fn scopes(&self, server: usize) -> Vec<String> {
        let scopes = self.ha_servers(server)["local"]["scopes"].clone();
        serde_json::from_value(scopes).expect("a list of names")
    }

    /// One counter.
    pub fn statistic(&self, server: usize, name: &str) -> i64 {
        let answer = self.command(server, "statistic-get", json!({ "name": name }));
        answer["arguments"][name][0][0].as_i64().unwrap_or_else(|| panic!("no {name}: {answer}"))
    }

    /// Waits until one server is in a state; how long that took.
    pub fn wait_for_state(&self, server: usize, state: &str, patience: Duration) -> Duration {
        let start = Instant::now();
        while self.state(server) != state {
            assert!(
                start.elapsed() < patience,
                "server{} is in {}, expected {state}",
                server + 1,
                self.state(server)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let took = start.elapsed();
        self.wait_for_shards(server, state);
        took
    }

    /// A Tandem may be in any state a moment before it listens to clients, and before its shards know of the state: what has
    /// to be on the disk first may take a while. It logs that it is in `state` when the shards are being told. What they
    /// are asked next comes behind that.
    fn wait_for_shards(&self, server: usize, state: &str) {
        let member = &self.members[server];
        if member.seat == Seat::Server(Kind::Tandem) && member.process.is_some() {
            self.wait_for_log(server, "DHCP4_STARTED");
            eventually(&format!("the shards of server{} know of {state}", server + 1), SOON, || {
                self.logged_state(server) == state || self.state(server) != state
            });
            self.command(server, "lease4-get-page", json!({ "from": "start", "limit": 1 }));
        }
    }

    /// Waits until the servers are in the states given.
    pub fn wait_for_states(&self, states: &[&str], patience: Duration) {
        let start = Instant::now();
        let seen = || (0..states.len()).map(|server| self.state(server)).collect::<Vec<_>>();
        while seen() != states {
            assert!(start.elapsed() < patience, "states {:?}, expected {states:?}", seen());
            std::thread::sleep(Duration::from_millis(50));
        }
        states.iter().enumerate().for_each(|(server, state)| self.wait_for_shards(server, state));
    }

    /// Waits until every server has heard its partner since `since`, and they are in the states given. A server that has
    /// not noticed a fault yet is in its normal state as well, and may leave it after the fault is over.
    pub fn wait_for_states_since(&self, since: Instant, states: &[&str], patience: Duration) {
        let has_heard = |server: usize| {
            let elapsed_s = since.elapsed().as_secs();
            let answer = control::try_command(&self.socket(server), "status-get", Value::Null);
            let age_s = answer.and_then(|answer| {
                let remote = &answer["arguments"]["high-availability"][0]["ha-servers"]["remote"];
                if remote["last-state"] == "unavailable" { None } else { remote["age"].as_u64() }
            });
            age_s.is_some_and(|age_s| age_s < elapsed_s)
        };
        for server in 0..states.len() {
            eventually(&format!("server{} hears its partner", server + 1), patience, || has_heard(server));
        }
        self.wait_for_states(states, patience);
    }

    /// Waits until a server has logged `text`, which a thread of its own may do later than what it speaks of.
    pub fn wait_for_log(&self, server: usize, text: &str) {
        let start = Instant::now();
        while self.logged(server, text) == 0 {
            assert!(start.elapsed() < SOON, "no {text:?} in the log of server{}", server + 1);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until two servers hold the same leases, on request and in their files, row by row; how many there are.
    pub fn wait_for_equal_stores(&self, servers: [usize; 2], patience: Duration) -> usize {
        self.wait_for_equal_stores_but(servers, patience, &|_| false)
    }

    /// The same where addresses that `may_differ` do not count.
    pub fn wait_for_equal_stores_but(
        &self,
        servers: [usize; 2],
        patience: Duration,
        may_differ: &dyn Fn(Ipv4Addr) -> bool,
    ) -> usize {
        let start = Instant::now();
        let counts = |lease: &Value| {
            let address = lease["ip-address"].as_str().and_then(|address| address.parse().ok());
            !may_differ(address.expect("an address"))
        };
        let lists = || {
            servers.map(|server| {
                let leases = control::leases(&self.socket(server)).into_iter();
                leases.filter(counts).collect::<Vec<_>>()
            })
        };
        loop {
            let [one, other] =
                servers.map(|server| rows::read(&self.members[server].folder.join("leases.csv")));
            let mut differences = rows::differences(&one, &other);
            differences.retain(|address, _| !may_differ(*address));
            let [listed, other_listed] = lists();
            if differences.is_empty() && listed == other_listed {
                assert!(one.len() >= listed.len(), "{} rows, {} leases", one.len(), listed.len());
                return one.len();
            }
            let lines: Vec<String> = differences.into_values().collect();
            let counts = [listed.len(), other_listed.len()];
            assert!(start.elapsed() < patience, "stores differ:\n{}\nlists of {counts:?}", lines.join("\n"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until two servers give the same addresses to the same clients. Leases that were given back do not count: a
    /// Kea of 2.2 forgets them or is told of them as leases that have run out, and others keep them.
    pub fn wait_for_equal_held(&self, servers: [usize; 2], patience: Duration) {
        let start = Instant::now();
        let held = |server: usize| {
            let leases = control::leases(&self.socket(server)).into_iter();
            let is_held =
                |lease: &Value| lease["state"] == 1 || lease["state"] == 0 && lease["valid-lft"] != 0;
            leases.filter(is_held).collect::<Vec<_>>()
        };
        loop {
            let [one, other] = servers.map(held);
            if one == other {
                return;
            }
            let only = |these: &[Value], those: &[Value]| {
                these.iter().filter(|lease| !those.contains(lease)).map(Value::to_string).collect::<Vec<_>>()
            };
            let lines = [only(&one, &other).join("\n"), only(&other, &one).join("\n")];
            assert!(start.elapsed() < patience, "held at one:\n{}\nat the other:\n{}", lines[0], lines[1]);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The lease of an address at a server, if it has one.
    pub fn lease(&self, server: usize, address: Ipv4Addr) -> Option<Value> {
        let arguments = json!({ "ip-address": address.to_string() });
        let answer = self.command(server, "lease4-get", arguments);
        (answer["result"] == 0).then(|| answer["arguments"].clone())
    }

    /// A connection of the stranger to a server's HA listener.
    pub fn connect(&self, server: usize) -> Connection {
        Connection::open(&self.outside, address(server), Duration::from_secs(12))
    }

    /// Posts a command to a server's HA listener, as a partner does.
    pub fn post(&self, server: usize, body: &Value) -> Message {
        self.connect(server).post(body)
    }

    /// Sends octets to a server's HA listener on a new connection; the answer, if there is one.
    pub fn send(&self, server: usize, body: &str) -> Option<Message> {
        let mut connection = self.connect(server);
        connection.send(&request(body));
        connection.receive()
    }

    /// The LAN address of a server.
    pub fn lan_address(&self, server: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, server as u8 + 1)
    }

    /// The hardware address of a server on the LAN.
    pub fn lan_mac(&self, server: usize) -> [u8; 6] {
        let host = self.members[server].host.name();
        let out = Command::new("ip").args(["-n", host, "-br", "link", "show", "lan0"]).output().expect("ip");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let mac = text.split_whitespace().nth(2).unwrap_or_else(|| panic!("no hardware address: {text}"));
        let octets: Vec<u8> =
            mac.split(':').map(|octet| u8::from_str_radix(octet, 16).expect("an octet")).collect();
        octets.try_into().expect("six octets")
    }

    /// Where a script of this site listens, in whose host.
    pub fn place(&self, server: usize) -> (&Namespace, SocketAddr) {
        (&self.members[server].host, (Ipv4Addr::UNSPECIFIED, PORT).into())
    }

    /// A folder that is there as long as the site.
    pub fn folder(&self) -> &Path {
        self.root.path()
    }

    /// Another host on the clients' LAN.
    pub fn lan_host(&mut self, purpose: &str, interface: &str) -> Namespace {
        self.networks[0].host(purpose, interface, &[])
    }

    /// What a server has logged since it was started.
    pub fn log(&self, server: usize) -> String {
        std::fs::read_to_string(self.members[server].folder.join("output")).unwrap_or_default()
    }

    /// How many lines of its log hold `text`.
    pub fn logged(&self, server: usize, text: &str) -> usize {
        self.log(server).lines().filter(|line| line.contains(text)).count()
    }

    /// The state a server has last logged to have entered since it was started.
    fn logged_state(&self, server: usize) -> String {
        let log = self.log(server);
        let since = log.rfind("DHCP4_STARTING").unwrap_or(0);
        let entered =
            log[since..].lines().rev().find_map(|line| line.split_once(" server transitions from "));
        let state = entered.and_then(|(_, change)| change.split(' ').nth(2));
        state.unwrap_or("WAITING").to_ascii_lowercase()
    }

    /// Whether a server is a Kea.
    pub fn is_kea(&self, server: usize) -> bool {
        self.members[server].seat == Seat::Server(Kind::Kea)
    }

    /// Servers that have died when nobody killed them.
    fn fallen(&mut self) -> Vec<usize> {
        let mut fallen = Vec::new();
        for (server, member) in self.members.iter_mut().enumerate() {
            let running = member.process.as_mut().map(|process| process.is_running().unwrap_or(false));
            if running == Some(false) {
                fallen.push(server);
            }
        }
        fallen
    }
}

impl Drop for Site {
    /// No scenario may end with a server that has died by itself; a failed one shows what the servers had to say.
    fn drop(&mut self) {
        // Before the hosts that they are in.
        self.taps.clear();
        if std::thread::panicking() {
            for server in 0..self.members.len() {
                let log = self.log(server);
                let is_noise =
                    |line: &&str| line.contains("COMMAND_RECEIVED") || line.contains("DHCP4_LEASE_A");
                let last: Vec<&str> = log.lines().filter(|line| !is_noise(line)).rev().take(60).collect();
                eprintln!("== server{} of {:?}, the last lines first", server + 1, self.plan.seats);
                last.iter().for_each(|line| eprintln!("{line}"));
            }
            return;
        }
        let fallen = self.fallen();
        assert!(fallen.is_empty(), "servers {fallen:?} died:\n{}", self.log(fallen[0]));
    }
}
