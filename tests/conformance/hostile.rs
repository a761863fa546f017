//! H3: random and hostile input at the HA port (HTTP, JSON and TLS) and in answers to what this server asks. Method: while
//! strangers and liars do their worst, clients lease one after the other, each with one DISCOVER and one REQUEST; none may
//! be left without an answer, no process may end, memory stays in bounds, and a partner that is sane is still heard.
//!
//! Everything random comes from a seed, which a failure names with the command that repeats it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;
use serde_json::{Value, json};

use crate::security::{certificates_of, over_tls};
use crate::support::certificates::Version;
use crate::support::clients::{Clients, mac};
use crate::support::http::{request, response};
use crate::support::k3::{Script, date, listed, now_s, updated};
use crate::support::namespace::{Namespace, enter_named};
use crate::support::plan::{N, Plan, S, Seat, address, peer};
use crate::support::process::eventually;
use crate::support::site::{SOON, Site};
use crate::support::tap::Verdict;
use crate::wire::peak_mib;
use crate::{Scenario, scenario};

/// How long each attack goes on.
const ATTACK: Duration = Duration::from_secs(12);
/// What a client waits for one answer: nobody times it, but an answer that has to be asked for twice is a service that
/// noticed.
const PATIENCE: Duration = Duration::from_secs(8);
/// How much more memory a server may have had at its peak, MiB.
const GROWTH_MIB_MAX: u64 = 192;

/// The scenarios of this file.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(&["H3"], "random_input_at_the_listener_reaches_no_client", 20, at_the_listener),
        scenario(&["H3"], "random_input_at_the_tls_listener_reaches_no_client", 20, at_the_tls_listener),
        scenario(&["H3"], "a_partner_that_answers_at_random_is_no_partner", 25, || in_answers(false)),
        scenario(&["H3"], "a_partner_that_speaks_tls_at_random_is_no_partner", 25, || in_answers(true)),
        scenario(&["H3"], "a_backup_that_answers_at_random_is_ignored", 20, from_a_backup),
    ]
}

/// The seed of a run: `TANDEM_SEED`, or 1.
fn seed() -> u64 {
    std::env::var("TANDEM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Says how to repeat a run when it fails.
struct Repeat;

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("TANDEM_SEED={} cargo test --test conformance h3", seed());
        }
    }
}

/// What there is to draw from.
struct Dice(Pcg32);

impl Dice {
    fn new(stream: u64) -> Self {
        Self(Pcg32::new(seed(), stream))
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        let end = u32::try_from(end).expect("a small number");
        usize::try_from(self.0.next_u32() % end).expect("a small number")
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn octets(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.below(256) as u8).collect()
    }

    /// Some octets of a message changed, doubled, cut out, put in, or its end cut off.
    fn bend(&mut self, mut octets: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(4) {
            if octets.is_empty() {
                return self.octets(64);
            }
            let at = self.below(octets.len());
            let end = (at + 1 + self.below(16)).min(octets.len());
            match self.below(6) {
                0 => octets[at] = self.below(256) as u8,
                1 => octets[at] ^= 1 << self.below(8),
                2 => drop(octets.drain(at..end)),
                3 => octets.truncate(at),
                4 => {
                    let twice = octets[at..end].to_vec();
                    octets.splice(at..at, twice);
                }
                _ => {
                    let new = self.octets(8);
                    octets.splice(at..at, new);
                }
            }
        }
        octets
    }

    /// Any JSON, not deeper than `depth`.
    fn json(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(*self.one(&[0, 1, -1, 4, 600, i64::from(u32::MAX), i64::MIN, i64::MAX])),
            3 => json!(f64::from(self.0.next_u32()) / 7.0),
            4 => json!(String::from_utf8_lossy(&self.octets(12)).into_owned()),
            5 => json!(*self.one(&[
                "",
                "start",
                "server1",
                "10.99.240.1",
                "0.0.0.0",
                "::1",
                "02:00:00:00:00:01"
            ])),
            6 => (0..self.below(4)).map(|_| self.json(depth - 1)).collect(),
            _ => {
                let names = ["ip-address", "hw-address", "limit", "from", "leases", "server-name", "state"];
                let members =
                    (0..self.below(4)).map(|_| ((*self.one(&names)).to_owned(), self.json(depth - 1)));
                Value::Object(members.collect())
            }
        }
    }

    /// A lease with some members that make no sense, at an address that no client of the test is given.
    fn lease(&mut self, mut lease: Value) -> Value {
        let at = Ipv4Addr::new(10, 99, 240, self.below(256) as u8);
        lease["ip-address"] = json!(at.to_string());
        let names: Vec<String> = lease.as_object().expect("a map").keys().cloned().collect();
        for _ in 0..self.below(3) {
            let name = self.one(&names).clone();
            if name != "ip-address" {
                lease[name] = self.json(3);
            }
        }
        lease
    }

    /// A request with something wrong in it, or nothing; no well-formed one takes the service away.
    fn request(&mut self) -> Vec<u8> {
        const HARMLESS: [&str; 6] =
            ["ha-heartbeat", "status-get", "list-commands", "lease4-update", "lease4-del", "lease4-get-page"];
        let any = |dice: &mut Self| json!({ "command": dice.json(1), "arguments": dice.json(3) });
        let body = match self.below(6) {
            0 => return self.octets(600),
            1 => {
                let lease = updated("10.99.240.1", "02:00:00:00:00:09");
                json!({ "command": "lease4-update", "arguments": self.lease(lease), "service": ["dhcp4"] })
            }
            2 => json!({ "command": self.one(&HARMLESS), "arguments": self.json(4), "service": ["dhcp4"] }),
            3 => any(self),
            4 => self.json(5),
            _ => json!({ "command": "ha-heartbeat", "arguments": { "server-name": self.json(1) } }),
        };
        let whole = request(&body.to_string());
        if self.below(2) == 0 { whole } else { self.bend(whole) }
    }

    /// An answer to a command with something wrong in it, or nothing.
    fn answer(&mut self, command: &str) -> Vec<u8> {
        let mut good = match command {
            "ha-heartbeat" => json!({
                "arguments": { "date-time": date(0), "scopes": [], "state": "hot-standby", "unsent-update-count": 0 },
                "result": 0,
            }),
            "lease4-get-page" => {
                let lease = listed("10.99.240.1", "02:00:00:00:00:09", now_s());
                let leases: Vec<Value> = (0..self.below(20)).map(|_| self.lease(lease.clone())).collect();
                json!({ "arguments": { "count": leases.len(), "leases": leases }, "result": 0, "text": "some" })
            }
            _ => json!({ "result": 0, "text": "done" }),
        };
        match self.below(5) {
            0 => good["arguments"] = self.json(4),
            1 => good["result"] = self.json(1),
            2 => good = self.json(4),
            _ => {}
        }
        let whole = response(&format!("[ {good} ]"));
        match self.below(8) {
            0 => self.octets(400),
            1 => response(&good.to_string()),
            // What is no heartbeat is bent: whole heartbeats would make it a partner again.
            _ => self.bend(whole),
        }
    }
}

/// Clients that lease one after the other until `stop`; how many there were. Each asks once.
fn serve_clients(site: &Site, stop: &AtomicBool) -> u16 {
    let clients = Clients::new(&site.outside, "cli0");
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        assert!(clients.try_lease(mac(1, count), &[], PATIENCE).is_some(), "client {count} had to ask again");
        std::thread::sleep(Duration::from_millis(10));
    }
    count
}

/// Runs attackers beside clients for [`ATTACK`], then looks at the memory of server 0; how many clients were served.
fn under_attack(site: &Site, attackers: usize, attack: impl Fn(usize, &AtomicBool) + Sync) -> u16 {
    let _repeat = Repeat;
    let before_mib = peak_mib(site, 0);
    let stop = AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        for number in 0..attackers {
            let (attack, stop) = (&attack, &stop);
            scope.spawn(move || attack(number, stop));
        }
        let clients = scope.spawn(|| serve_clients(site, &stop));
        let start = Instant::now();
        while start.elapsed() < ATTACK && !clients.is_finished() {
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        clients.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let after_mib = peak_mib(site, 0);
    assert!(after_mib < before_mib + GROWTH_MIB_MAX, "{before_mib} MiB, then {after_mib}");
    assert!(served > 10, "{served} clients");
    served
}

/// Sends octets on a new connection of `host` and reads what comes, for a moment at most.
fn throw(host: &str, at: SocketAddr, octets: &[u8], dice: &mut Dice) {
    let Ok(mut stream) = enter_named(host, || TcpStream::connect_timeout(&at, Duration::from_secs(2))) else {
        return;
    };
    let waits = Duration::from_millis(1 + dice.below(30) as u64);
    stream.set_read_timeout(Some(waits)).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    // In pieces, as a network may bring them. The other side may have closed: that is an answer, too.
    for piece in octets.chunks(1 + dice.below(octets.len() + 1)) {
        if stream.write_all(piece).is_err() {
            return;
        }
    }
    let _ = stream.read(&mut [0; 4096]);
}

/// Strangers and somebody on the partner's host post at random; the partner, a script, is heard all the while.
fn at_the_listener() {
    let plan = Plan::hot_standby([N, S]).ha("restrict-commands", json!(false));
    let (site, script) = crate::wire::with_script(plan);
    let thrown = AtomicUsize::new(0);
    let served = under_attack(&site, 4, |number, stop| {
        let mut dice = Dice::new(10 + number as u64);
        let host = if number % 2 == 0 { &site.outside } else { &site.members[1].host };
        while !stop.load(Ordering::Relaxed) {
            let octets = dice.request();
            throw(host.name(), address(0), &octets, &mut dice);
            thrown.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(thrown.load(Ordering::Relaxed) > 100, "{thrown:?}");
    assert_eq!(script.post(&site, 0, "ha-heartbeat", Value::Null)["result"], 0);
    assert_eq!(site.state(0), "hot-standby");
    let known = script.says.lock().expect("the script").leases.len();
    assert!(known >= usize::from(served), "{known} leases at the partner of {served} clients");
}

/// The first octets that a genuine client sends to a TLS server.
fn client_hello(site: &Site) -> Vec<u8> {
    let listener = site.outside.enter(|| TcpListener::bind("127.0.0.1:0")).expect("a listener");
    let at = listener.local_addr().expect("an address").to_string();
    let out = site.outside.enter(|| {
        std::process::Command::new("ip")
            .args(["netns", "exec", site.outside.name(), "openssl", "s_client", "-connect", &at])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
    });
    let mut openssl = out.expect("openssl");
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut hello = vec![0; 4096];
    let length = stream.read(&mut hello).expect("octets");
    hello.truncate(length);
    drop(stream);
    openssl.wait().expect("openssl");
    hello
}

/// What is sent to a TLS listener: a bent hello, records at random, plain HTTP, or a hello and then nonsense.
fn tls_octets(dice: &mut Dice, hello: &[u8]) -> Vec<u8> {
    match dice.below(5) {
        0 => dice.octets(600),
        1 => dice.request(),
        2 => {
            let length = dice.below(1 << 16);
            let kind = *dice.one(&[20, 21, 22, 23, 24, 0]);
            let mut record = vec![kind, 3, *dice.one(&[1, 3, 4]), (length >> 8) as u8, (length & 0xff) as u8];
            record.extend(dice.octets(500));
            record
        }
        3 => [hello, &dice.octets(300)].concat(),
        _ => dice.bend(hello.to_vec()),
    }
}

/// Octets on a TLS port, and relays that change single octets of genuine sessions between the two servers' namespaces:
/// those of the stranger, who has a certificate. The pair itself is left alone and has to stay whole.
fn at_the_tls_listener() {
    let folder = certificates_of(Version::V3);
    let site = Site::whole(over_tls(Plan::hot_standby([N, N]), folder.path().to_owned()), "hot-standby");
    let hello = client_hello(&site);
    assert_eq!(hello[0], 0x16);
    let relay: SocketAddr = "127.0.0.1:7443".parse().expect("an address");
    corrupting_relay(&site.outside, relay, address(0));
    let outcomes = Mutex::new((0_usize, 0_usize));
    let failed_before = site.logged(0, "HA_HEARTBEAT_COMMUNICATIONS_FAILED");
    under_attack(&site, 4, |number, stop| {
        let mut dice = Dice::new(20 + number as u64);
        while !stop.load(Ordering::Relaxed) {
            if number == 0 {
                let answered = heartbeat_through(&site, relay, folder.path(), "3");
                let mut outcomes = outcomes.lock().expect("the counts");
                *if answered { &mut outcomes.0 } else { &mut outcomes.1 } += 1;
            } else {
                let octets = tls_octets(&mut dice, &hello);
                throw(site.outside.name(), address(0), &octets, &mut dice);
            }
        }
    });
    let (_, broken) = *outcomes.lock().expect("the counts");
    assert!(broken > 0, "no session was broken");
    assert_eq!([site.state(0), site.state(1)], ["hot-standby"; 2]);
    assert_eq!(site.logged(0, "HA_HEARTBEAT_COMMUNICATIONS_FAILED"), failed_before);
    site.wait_for_equal_stores([0, 1], SOON);
    assert!(heartbeat_through(&site, address(0), folder.path(), "30"), "a sane client");
}

/// A heartbeat by curl with server 2's certificate, which waits for so many seconds; whether it was answered.
fn heartbeat_through(site: &Site, at: SocketAddr, folder: &Path, patience_s: &str) -> bool {
    let file = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let url = format!("https://{at}/");
    let out = std::process::Command::new("ip")
        .args(["netns", "exec", site.outside.name(), "curl", "-sS", "-k", "-m", patience_s])
        .args(["-H", "Content-Type: application/json", "-d", r#"{"command": "ha-heartbeat"}"#])
        .args(["--cert", &file("server2_cert.pem"), "--key", &file("server2_key.pem"), &url])
        .output()
        .expect("curl");
    String::from_utf8_lossy(&out.stdout).contains("HA peer status returned.")
}

/// A relay in `host` that changes an octet here and there, either way. It lives as long as the process.
fn corrupting_relay(host: &Namespace, at: SocketAddr, behind: SocketAddr) {
    let listener = host.enter(|| TcpListener::bind(at)).expect("a listener");
    let name = host.name().to_owned();
    std::thread::spawn(move || {
        for (number, front) in (0_u64..).zip(listener.incoming()) {
            let Ok(front) = front else { return };
            let open = || TcpStream::connect_timeout(&behind, Duration::from_secs(2));
            // The namespace goes with its site.
            if !Path::new("/run/netns").join(&name).exists() {
                return;
            }
            let Ok(back) = enter_named(&name, open) else { continue };
            let ends = |stream: &TcpStream| stream.try_clone().expect("a second handle");
            let (front_in, back_in) = (ends(&front), ends(&back));
            std::thread::spawn(move || corrupt(front_in, back, Dice::new(1000 + 2 * number)));
            std::thread::spawn(move || corrupt(back_in, front, Dice::new(1001 + 2 * number)));
        }
    });
}

fn corrupt(mut from: TcpStream, mut to: TcpStream, mut dice: Dice) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if dice.below(2) == 0 {
            buffer[dice.below(length)] ^= 1 << dice.below(8);
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// A partner that was sane, and then answers at random: it counts as gone, its clients are served, and it is asked for
/// copies again and again by an administrator. Sane once more, it is a partner.
fn in_answers(over_tls: bool) {
    if over_tls {
        return in_tls_answers();
    }
    let (site, script) =
        crate::wire::with_script(Plan::hot_standby([N, S]).ha("heartbeat-delay", json!(100)));
    let dice = Mutex::new(Dice::new(30));
    let answered = Arc::new(AtomicUsize::new(0));
    script.instead(|_, _| Some(Verdict::Close));
    site.wait_for_state(0, "partner-down", SOON);
    let count = answered.clone();
    script.instead(move |command, _| {
        let mut dice = dice.lock().expect("the dice");
        count.fetch_add(1, Ordering::Relaxed);
        match dice.below(20) {
            0 => Some(Verdict::Close),
            1 => Some(Verdict::Late(Duration::from_millis(300), dice.answer(command))),
            _ => Some(Verdict::Answer(dice.answer(command))),
        }
    });
    under_attack(&site, 1, |_, stop| {
        while !stop.load(Ordering::Relaxed) || answered.load(Ordering::Relaxed) <= 50 {
            let sync = json!({ "server-name": "server2" });
            let answer = crate::support::control::try_command(&site.socket(0), "ha-sync", sync);
            assert!(answer.is_some_and(|answer| answer["result"].is_i64()), "no answer to ha-sync");
        }
    });
    script.as_usual();
    script.say(|says| says.state = "ready");
    eventually("a partner again", SOON, || site.ha_servers(0)["remote"]["last-state"] == "ready");
}

/// The same at the level of TLS: whoever is connected to gets random records in the place of a handshake.
fn in_tls_answers() {
    let folder = certificates_of(Version::V3);
    let plan = over_tls(Plan::hot_standby([N, S]), folder.path().to_owned());
    let mut site = Site::new(plan.ha("heartbeat-delay", json!(100)));
    let (host, at) = site.place(1);
    let liar = Liar::start(host, at, 40, tls_answer);
    site.start(0);
    site.wait_for_state(0, "partner-down", SOON);
    under_attack(&site, 1, |_, stop| {
        while !stop.load(Ordering::Relaxed) {
            let sync = json!({ "server-name": "server2" });
            let answer = crate::support::control::try_command(&site.socket(0), "ha-sync", sync);
            assert!(answer.is_some_and(|answer| answer["result"] == 1), "a copy from a liar");
        }
    });
    assert!(liar.connections() > 50, "{}", liar.connections());
    assert_eq!(site.ha_servers(0)["remote"]["last-state"], "unavailable");
}

/// Records, alerts, hellos that are none, or plain text.
fn tls_answer(dice: &mut Dice) -> Vec<u8> {
    let kind = *dice.one(&[20, 21, 22, 23, 22, 22]);
    let body = match dice.below(4) {
        0 => vec![2, *dice.one(&[0, 10, 40, 70, 80, 255])],
        1 => {
            // The head of a ServerHello with what follows at random.
            let mut hello = vec![2, 0, 0, 90, 3, 3];
            hello.extend((0..90).map(|_| dice.below(256) as u8));
            hello
        }
        2 => return dice.answer("ha-heartbeat"),
        _ => dice.octets(400),
    };
    let length = if dice.below(4) == 0 { dice.below(1 << 16) } else { body.len() };
    let mut record = vec![kind, 3, 3, (length >> 8) as u8, (length & 0xff) as u8];
    record.extend(body);
    record
}

/// A listener that says something at random to whoever connects, until it is dropped.
struct Liar {
    stopped: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Liar {
    fn start(host: &Namespace, at: SocketAddr, stream: u64, says: fn(&mut Dice) -> Vec<u8>) -> Self {
        let listener = host.enter(|| TcpListener::bind(at)).expect("a listener");
        listener.set_nonblocking(true).expect("a listener that can be left");
        let (stopped, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (state, count) = (stopped.clone(), connections.clone());
        std::thread::spawn(move || {
            let mut dice = Dice::new(stream);
            while !state.load(Ordering::Relaxed) {
                let Ok((mut client, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                count.fetch_add(1, Ordering::Relaxed);
                let octets = says(&mut dice);
                std::thread::spawn(move || {
                    // Whoever closes at once loses its answer: the other side's octets have to be read first.
                    let _ = client.set_read_timeout(Some(Duration::from_millis(500)));
                    let _ = client.read(&mut [0; 4096]);
                    let _ = client.write_all(&octets);
                    let _ = client.read(&mut [0; 4096]);
                });
            }
        });
        Self { stopped, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// A sane partner that acknowledges every lease, and a backup that answers every update at random: clients do not wait
/// for a backup.
fn from_a_backup() {
    let seats: [Seat; 3] = [N, S, S];
    let plan = Plan::new("hot-standby", &seats, &["primary", "standby", "backup"]);
    let mut site = Site::new(plan.edit(|_, dhcp4| peer(dhcp4, 2)["url"] = json!("http://10.98.0.3:8001/")));
    let script = Script::new(&site, 1, "hot-standby");
    let (host, at) = site.place(2);
    let liar = Liar::start(host, at, 50, |dice| {
        let command = *dice.one(&["lease4-update", "ha-heartbeat", "lease4-get-page"]);
        dice.answer(command)
    });
    site.start(0);
    site.wait_for_state(0, "hot-standby", SOON);
    let served = under_attack(&site, 0, |_, _| {});
    assert!(liar.connections() > 10, "{}", liar.connections());
    assert_eq!(site.state(0), "hot-standby");
    assert_eq!(script.says.lock().expect("the script").leases.len(), usize::from(served));
}
