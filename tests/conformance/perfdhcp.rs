//! Faults while `perfdhcp`, the load generator of Kea's own project, keeps new clients coming: each server of a pair with a
//! real Kea is killed and paused (and of two Tandems paused), the link is cut both ways and either way, and both servers
//! are started again in either order, in hot-standby and in load-balancing. Whatever was acknowledged on the wire has to be
//! in both stores afterwards, which are compared row by row.
//!
//! These clients never ask again, so leases that nobody was told of are left behind where a server died or was cut off
//! before its update was heard: a partner of 2.2 has no way to learn of them, and such rows do not count.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::balance::{WHOLE as BALANCED, balanced};
use crate::states::WHOLE;
use crate::support::dhcp::{self, ACK, Direct, Wire};
use crate::support::plan::{K, N, Plan, Seat};
use crate::support::process::{Process, eventually};
use crate::support::site::{SOON, Site, TOGETHER};
use crate::{Scenario, scenario};

/// New clients a second: enough that there is one at every moment of a fault.
const RATE: &str = "40";
/// How long a fault lasts that ends by itself: longer than `max-response-delay`, so that the other server takes over.
const FAULT: Duration = Duration::from_secs(7);

/// The scenarios of this file.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, seats) in [("tandem_kea", [N, K]), ("kea_tandem", [K, N])] {
        let of = |what: &str| format!("under_perfdhcp_{what}_{name}");
        let shared = |what: &str| of(&format!("two_that_share_the_clients_{what}"));
        let sharing = move || pair_that_shares(seats);
        all.push(scenario(&["H2"], of("each_server_is_killed"), 45, move || kills(pair(seats), &WHOLE)));
        all.push(scenario(&["H2"], shared("are_killed"), 45, move || kills(sharing(), &BALANCED)));
        all.push(scenario(&["H2"], of("each_server_is_paused"), 50, move || pauses(pair(seats), &WHOLE)));
        all.push(scenario(&["H2"], shared("are_paused"), 50, move || pauses(sharing(), &BALANCED)));
        all.push(scenario(&["H2"], of("the_link_is_cut_every_way"), 60, move || cuts(seats)));
        all.push(scenario(&["H2"], shared("are_cut_off_every_way"), 60, move || parts(sharing())));
        all.push(scenario(&["H2"], of("both_start_again_in_each_order"), 50, move || {
            restarts(pair(seats), &WHOLE)
        }));
        all.push(scenario(&["H2"], shared("start_again_in_each_order"), 50, move || {
            restarts(sharing(), &BALANCED)
        }));
    }
    let name = "under_perfdhcp_each_server_is_paused_tandem_tandem".to_owned();
    all.push(scenario(&["H2"], name, 50, || pauses(pair([N, N]), &WHOLE)));
    all
}

/// An ACK seen on the wire.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    client: [u8; 6],
    server: Ipv4Addr,
    at: Instant,
}

type Record = Arc<Mutex<HashMap<Ipv4Addr, Acknowledged>>>;

/// `perfdhcp`, and who has noted the last ACK of each address since it was started. Both end with the value.
struct Load {
    process: Process,
    record: Record,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// New clients without an end. With `impatient` they say that they have waited for longer with each second that the
    /// load lasts, as clients do that nobody answers.
    fn start(site: &Site, impatient: bool) -> Self {
        let record = Record::default();
        let stop = Arc::new(AtomicBool::new(false));
        let wire = Direct(site.outside.packet_socket("cli0", 50));
        let (noted, stopped) = (record.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(payload) = wire.receive() else { continue };
                if dhcp::message_type(&payload) == ACK {
                    note(&noted, &payload);
                }
            }
        });
        let mut words = vec!["-4", "-l", "cli0", "-r", RATE, "-R", "1000000", "-p", "600"];
        if impatient {
            words.extend(["-Y", "0", "-y", "600"]);
        }
        let output = site.folder().join("perfdhcp");
        let process = Process::start(&site.outside, "perfdhcp", &words, &[], &output);
        let load = Self { process, record, stop };
        load.goes_on("the first leases");
        load
    }

    fn count(&self) -> usize {
        self.record.lock().expect("the record").len()
    }

    /// Waits until more clients have been served.
    fn goes_on(&self, what: &str) {
        let before = self.count();
        eventually(what, SOON, || self.count() >= before + 20);
    }

    /// Stops the clients; what they were told.
    fn end(mut self) -> HashMap<Ipv4Addr, Acknowledged> {
        self.process.signal("INT");
        self.process.wait(SOON);
        // What is on its way is noted.
        std::thread::sleep(Duration::from_millis(500));
        self.record.lock().expect("the record").clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn note(record: &Record, payload: &[u8]) {
    let client = payload[28..34].try_into().expect("six octets");
    let options = dhcp::options(payload);
    let server = options.iter().find(|(code, _)| *code == 54).expect("option 54").1;
    let server = Ipv4Addr::new(server[0], server[1], server[2], server[3]);
    let acknowledged = Acknowledged { client, server, at: Instant::now() };
    record.lock().expect("the record").insert(dhcp::address_at(payload, 16), acknowledged);
}

/// For how long a woken Kea may answer what came before it stood still, or while it did.
const WAKING: Duration = Duration::from_secs(2);

/// Both stores are equal row by row in all that a client was told of, and each lease that was acknowledged last for its
/// address is that client's. One thing is let pass: what a Kea that was `woken` acknowledges before it has heard that its
/// partner serves alone, which has given the address to another client by then (ha-protocol 8 no. 28).
fn check(site: &Site, record: &HashMap<Ipv4Addr, Acknowledged>, woken: &[(Ipv4Addr, Instant)]) {
    let is_nobodys = |address| !record.contains_key(&address);
    let count = site.wait_for_equal_stores_but([0, 1], TOGETHER, &is_nobodys);
    assert!(count >= record.len(), "{count} rows, {} leases were acknowledged", record.len());
    let mut wrong = Vec::new();
    let start = Instant::now();
    let leases: HashMap<String, String> = crate::support::control::leases(&site.socket(0))
        .into_iter()
        .map(|lease| (text(&lease["ip-address"]), text(&lease["hw-address"])))
        .collect();
    let is_late = |acknowledged: &Acknowledged| {
        let late = |at: &Instant| acknowledged.at >= *at && acknowledged.at < *at + WAKING;
        woken.iter().any(|(server, at)| *server == acknowledged.server && late(at))
    };
    for (address, acknowledged) in record {
        let hex: Vec<String> = acknowledged.client.iter().map(|octet| format!("{octet:02x}")).collect();
        let holder = leases.get(&address.to_string());
        if holder != Some(&hex.join(":")) && !(holder.is_some() && is_late(acknowledged)) {
            let ago = start.duration_since(acknowledged.at);
            wrong.push(format!(
                "{address}: {} by {}, {ago:?} before the end, and {holder:?} in the stores",
                hex.join(":"),
                acknowledged.server
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), record.len(), wrong.join("\n"));
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn pair(seats: [Seat; 2]) -> Site {
    Site::whole(Plan::hot_standby(seats), "hot-standby")
}

/// Two in load-balancing, with room for all that come.
fn pair_that_shares(seats: [Seat; 2]) -> Site {
    let plan = balanced(seats).edit(|_, dhcp4| {
        let pools = dhcp4["subnet4"][0]["pools"].as_array_mut().expect("pools");
        for (pool, range) in pools.iter_mut().zip(["10.99.1.0 - 10.99.63.255", "10.99.64.0 - 10.99.127.255"])
        {
            pool["pool"] = json!(range);
        }
    });
    Site::whole(plan, BALANCED[0])
}

/// The second server dies and returns, then the first one.
fn kills(mut site: Site, whole: &[&str; 2]) {
    let load = Load::start(&site, true);
    for dies in [1, 0] {
        site.kill(dies);
        site.wait_for_state(1 - dies, "partner-down", TOGETHER);
        load.goes_on("leases of the survivor");
        site.start(dies);
        site.wait_for_states(whole, TOGETHER);
        load.goes_on("leases of the whole pair");
    }
    check(&site, &load.end(), &[]);
}

/// The same with servers that stand still, and go on as if nothing had been.
fn pauses(site: Site, whole: &[&str; 2]) {
    let load = Load::start(&site, true);
    let mut woken = Vec::new();
    for pauses in [1, 0] {
        site.signal(pauses, "STOP");
        site.wait_for_state(1 - pauses, "partner-down", TOGETHER);
        load.goes_on("leases of the other one");
        if site.is_kea(pauses) {
            woken.push((site.lan_address(pauses), Instant::now()));
        }
        site.signal(pauses, "CONT");
        site.wait_for_states(whole, TOGETHER);
        load.goes_on("leases of the whole pair");
    }
    check(&site, &load.end(), &woken);
}

/// The servers do not hear each other, or one does not hear the other, while clients reach both and have waited for
/// nobody: the standby sees no reason to take over.
fn cuts(seats: [Seat; 2]) {
    let site = pair(seats);
    let load = Load::start(&site, false);
    for cuts in [&[(0, 1), (1, 0)][..], &[(0, 1)], &[(1, 0)]] {
        cuts.iter().for_each(|(from, to)| site.cut(*from, *to));
        std::thread::sleep(FAULT);
        assert_ne!(site.state(1), "partner-down", "two servers of one scope");
        cuts.iter().for_each(|(from, to)| site.mend(*from, *to));
        // A Kea may find out that it was alone after the end, by a heartbeat of before; until then both are in their normal
        // states.
        site.wait_for_states_since(Instant::now(), &WHOLE, TOGETHER);
        load.goes_on("leases of the whole pair");
    }
    let record = load.end();
    assert!(record.values().all(|acknowledged| acknowledged.server == site.lan_address(0)));
    check(&site, &record, &[]);
}

/// The same where each has clients of its own: neither sees a reason to take those of the other.
fn parts(site: Site) {
    let load = Load::start(&site, false);
    for cuts in [&[(0, 1), (1, 0)][..], &[(0, 1)], &[(1, 0)]] {
        cuts.iter().for_each(|(from, to)| site.cut(*from, *to));
        std::thread::sleep(FAULT);
        for server in [0, 1] {
            assert_ne!(site.state(server), "partner-down", "server{} took over", server + 1);
        }
        cuts.iter().for_each(|(from, to)| site.mend(*from, *to));
        site.wait_for_states_since(Instant::now(), &BALANCED, TOGETHER);
        load.goes_on("leases of the whole pair");
    }
    check(&site, &load.end(), &[]);
}

/// Both lose their power at once, and come back one before the other has been missed, in either order.
fn restarts(mut site: Site, whole: &[&str; 2]) {
    let load = Load::start(&site, true);
    for first in [0, 1] {
        site.kill(0);
        site.kill(1);
        site.start(first);
        std::thread::sleep(Duration::from_secs(1));
        site.start(1 - first);
        site.wait_for_states(whole, TOGETHER);
        load.goes_on("leases of the whole pair");
    }
    check(&site, &load.end(), &[]);
}
