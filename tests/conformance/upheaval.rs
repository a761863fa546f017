//! Group H: servers replaced one by one while clients come, and faults under load, one for each test or, for as long as
//! one likes, one after the other. Afterwards both are in their normal state, both stores are equal row by row, and
//! every client's address is its own. [`check`] says what is let pass.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::states::{PAIRINGS, WHOLE};
use crate::support::clients::mac;
use crate::support::k3::{Script, now_s};
use crate::support::load::{Ack, Load};
use crate::support::plan::{K, N, Plan, S, Seat};
use crate::support::process::eventually;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::{Scenario, long_for, scenario};

/// The scenarios of this group.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![scenario(&["H1"], "a_pair_is_replaced_server_by_server", 50, h1)];
    all.push(scenario(&["H2"], "a_standby_that_misses_the_primary_first_does_not_take_over", 18, h2_first));
    for (name, seats) in PAIRINGS {
        for (fault, what) in FAULTS {
            all.push(scenario(&["H2"], format!("{what}_{name}"), 20, move || h2_fault(seats, fault)));
        }
        if let Some(duration) = long_for() {
            let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
            all.push(scenario(&["H2"], format!("one_fault_after_the_other_{name}"), seconds, move || {
                h2_soak(seats, duration)
            }));
        }
    }
    all
}

/// Clients of a busy network.
const PAUSE: Duration = Duration::from_millis(20);
/// As many as ha-protocol asks for.
const PAUSE_LONG: Duration = Duration::from_millis(1);
/// How long nobody may be served while a server is replaced: a heartbeat and the copy take two seconds at most here and
/// each step of a Kea's timer two more, and the rest is for a busy machine. Without maintenance it would be the 20 s of
/// `max-response-delay`.
const GAP_MAX: Duration = Duration::from_secs(12);

/// A pair of Keas becomes one of Tandems, and one of these gives way to a script of 3.0. Each server is taken out by
/// maintenance, and whoever takes its place finds its lease file.
fn h1() {
    let mut site =
        Site::whole(Plan::hot_standby([K, K]).ha("max-response-delay", json!(20_000)), "hot-standby");
    let mut load = Load::new(&site, 1);
    let stop = AtomicBool::new(false);
    let script = std::thread::scope(|scope| {
        let clients = scope.spawn(|| load.run(&stop, PAUSE));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (stays, goes) in [(0, 1), (1, 0)] {
                take_out(&mut site, stays, goes);
                site.replace(goes, N);
                site.start(goes);
                site.wait_for_states(&WHOLE, TOGETHER);
            }
            take_out(&mut site, 0, 1);
            site.replace(1, S);
            join_as_k3(&site)
        }));
        stop.store(true, Ordering::Relaxed);
        clients.join().expect("clients");
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    load.finish(SOON);
    let mut acks: Vec<Ack> = load.held.values().copied().collect();
    acks.sort_by_key(|ack| ack.at);
    let gap = acks.windows(2).map(|two| two[1].at.duration_since(two[0].at)).max().expect("acknowledgements");
    assert!(gap < GAP_MAX, "nobody was served for {gap:?}");
    let leases = script.says.lock().expect("the script").leases.clone();
    for (client, ack) in &load.held {
        let held = [site.lease(0, ack.address), leases.get(&ack.address).cloned()];
        for lease in held {
            assert_eq!(lease.expect("a lease")["hw-address"], written(*client), "{ack:?}");
        }
    }
}

/// Maintenance, so that nobody waits for a silence to be long enough; then a clean stop.
fn take_out(site: &mut Site, stays: usize, goes: usize) {
    assert_eq!(site.command(stays, "ha-maintenance-start", Value::Null)["result"], 0);
    site.wait_for_state(goes, "in-maintenance", SOON);
    site.end(goes, "TERM");
    site.wait_for_state(stays, "partner-down", SOON);
}

/// A script of 3.0 at the second place copies the leases of the first one, page by page, and takes part from then on.
fn join_as_k3(site: &Site) -> Script {
    let script = Script::new(site, 1, "waiting");
    eventually("the script is heard", SOON, || site.ha_servers(0)["remote"]["last-state"] == "waiting");
    script.say(|says| says.state = "syncing");
    let disable = json!({ "max-period": 10, "origin": "ha-partner" });
    assert_eq!(script.post(site, 0, "dhcp-disable", disable)["result"], 0);
    let page = script.post(site, 0, "lease4-get-page", json!({ "from": "start", "limit": 10_000 }));
    for lease in page["arguments"]["leases"].as_array().expect("leases") {
        let address = lease["ip-address"].as_str().and_then(|address| address.parse().ok());
        script.say(|says| drop(says.leases.insert(address.expect("an address"), lease.clone())));
    }
    script.say(|says| says.state = "ready");
    assert_eq!(script.post(site, 0, "ha-sync-complete-notify", Value::Null)["result"], 0);
    site.wait_for_state(0, "hot-standby", SOON);
    script.say(|says| says.state = "hot-standby");
    // Some are served with it as the partner.
    let updates = script.tap.of("lease4-update").len();
    eventually("updates", SOON, || script.tap.of("lease4-update").len() > updates + 10);
    script
}

/// What happens to a pair, and is over after a while.
#[derive(Clone, Copy, Debug)]
enum Fault {
    ClockAhead,
    ClockBehind,
    CutBothWays,
    CutFromPrimary,
    CutFromStandby,
    KillPrimary,
    KillStandby,
    PausePrimary,
    PauseStandby,
}

const FAULTS: [(Fault, &str); 9] = [
    (Fault::ClockAhead, "the_clock_of_the_primary_is_set_ahead"),
    (Fault::ClockBehind, "the_clock_of_the_standby_is_set_back"),
    (Fault::CutBothWays, "the_link_is_cut_both_ways"),
    (Fault::CutFromPrimary, "the_primary_is_not_heard"),
    (Fault::CutFromStandby, "the_standby_is_not_heard"),
    (Fault::KillPrimary, "the_primary_is_killed"),
    (Fault::KillStandby, "the_standby_is_killed"),
    (Fault::PausePrimary, "the_primary_is_paused"),
    (Fault::PauseStandby, "the_standby_is_paused"),
];

impl Fault {
    fn begin(self, site: &mut Site) {
        match self {
            Self::ClockAhead => site.set_clock(0, 20),
            Self::ClockBehind => site.set_clock(1, -20),
            Self::CutBothWays => site.part(),
            Self::CutFromPrimary => site.cut(0, 1),
            Self::CutFromStandby => site.cut(1, 0),
            Self::KillPrimary => site.kill(0),
            Self::KillStandby => site.kill(1),
            Self::PausePrimary => site.signal(0, "STOP"),
            Self::PauseStandby => site.signal(1, "STOP"),
        }
    }

    fn end(self, site: &mut Site) {
        match self {
            Self::ClockAhead => site.set_clock(0, 0),
            Self::ClockBehind => site.set_clock(1, 0),
            Self::CutBothWays => site.join(),
            Self::CutFromPrimary => site.mend(0, 1),
            Self::CutFromStandby => site.mend(1, 0),
            Self::KillPrimary => site.start(0),
            Self::KillStandby => site.start(1),
            Self::PausePrimary => site.signal(0, "CONT"),
            Self::PauseStandby => site.signal(1, "CONT"),
        }
    }
}

fn written(client: [u8; 6]) -> String {
    let hex: Vec<String> = client.iter().map(|octet| format!("{octet:02x}")).collect();
    hex.join(":")
}

/// Both are whole again, hold the same leases row by row, and know who has which address.
///
/// One thing is let pass, and where a Kea is the partner alone: once both have served alone, or the Kea was `woken` and has
/// not heard that its partner does, each may have given what the other has given (ha-protocol 8 no. 28). Then the newer
/// lease stays, and it must be newer; its former client is not looked at again.
fn check(site: &Site, held: &mut BTreeMap<[u8; 6], Ack>, woken: bool) {
    let count = site.wait_for_equal_stores([0, 1], TOGETHER);
    let has_kea = (0..2).any(|server| site.is_kea(server));
    let both_alone = (0..2).all(|server| site.logged(server, "to PARTNER-DOWN") > 0);
    let may_lose = has_kea && both_alone || woken;
    let (mut lost, mut excused) = (Vec::new(), Vec::new());
    for (client, ack) in held.iter() {
        let lease = site.lease(0, ack.address).unwrap_or_else(|| panic!("no lease of {}", ack.address));
        let given_s = now_s() - i64::try_from(ack.at.elapsed().as_secs()).expect("a while");
        let is_newer = lease["cltt"].as_i64().is_some_and(|cltt| cltt + 1 >= given_s);
        match lease["hw-address"] == written(*client) {
            true => {}
            false if may_lose && is_newer => excused.push(*client),
            false => lost.push(format!("{ack:?} of {}: {lease}", written(*client))),
        }
    }
    assert!(lost.is_empty(), "{} of {} clients:\n{}", lost.len(), held.len(), lost.join("\n"));
    held.retain(|client, _| !excused.contains(client));
    assert!(count >= held.len(), "{count} rows for {} clients", held.len());
}

/// A pair with room for many clients.
fn plan_for(seats: [Seat; 2]) -> Plan {
    Plan::hot_standby(seats).ha("max-unacked-clients", json!(8)).edit(|_, dhcp4| {
        dhcp4["subnet4"][0]["pools"] = json!([{ "pool": "10.99.1.0 - 10.99.254.255" }]);
    })
}

/// A pair whose clocks can be set.
fn site_for(seats: [Seat; 2]) -> Site {
    Site::new(plan_for(seats)).with_clocks().until_whole("hot-standby")
}

/// A fault for seven seconds, and until it has `shown`, under load.
fn endure(site: &mut Site, load: &mut Load, fault: Fault, pause: Duration, shown: impl Fn(&Site)) {
    let ended = load.during(pause, || {
        std::thread::sleep(Duration::from_secs(1));
        fault.begin(site);
        std::thread::sleep(Duration::from_secs(7));
        shown(site);
        fault.end(site);
        let ended = Instant::now();
        std::thread::sleep(Duration::from_secs(1));
        ended
    });
    site.wait_for_states_since(ended, &WHOLE, TOGETHER);
    load.finish(TOGETHER);
    let paused = match fault {
        Fault::PausePrimary => Some(0),
        Fault::PauseStandby => Some(1),
        _ => None,
    };
    check(site, &mut load.held, paused.is_some_and(|server| site.is_kea(server)));
}

fn h2_fault(seats: [Seat; 2], fault: Fault) {
    let mut site = site_for(seats);
    let mut load = Load::new(&site, 1);
    endure(&mut site, &mut load, fault, PAUSE, |_| ());
    assert!(load.held.len() > 20, "{} clients were served", load.held.len());
    let ack = site.clients.lease(mac(9, 1), &[]);
    assert_eq!(ack.server, site.lan_address(0));
}

/// The link alone is cut. The standby, which heard the primary last, knows seconds before it that the link is silent, while
/// clients wait for acknowledgements that wait for the standby.
fn h2_first() {
    let plan = plan_for([N, N]).ha("max-unacked-clients", json!(3));
    let plan = plan.ha_of(0, "heartbeat-delay", json!(300)).ha_of(1, "heartbeat-delay", json!(3000));
    let mut site = Site::new(plan).until_whole("hot-standby");
    let mut load = Load::new(&site, 1);
    endure(&mut site, &mut load, Fault::CutBothWays, PAUSE, |site| site.wait_for_log(0, "to PARTNER-DOWN"));
    assert_eq!(site.logged(0, "to PARTNER-DOWN"), 1);
    assert_eq!(site.logged(1, "to PARTNER-DOWN"), 0, "the primary served all the time");
}

/// Faults in an order that the time of day decides, until the time is up.
fn h2_soak(seats: [Seat; 2], duration: Duration) {
    let mut site = site_for(seats);
    let mut load = Load::new(&site, 1);
    let (start, mut seed) = (Instant::now(), std::process::id() as usize);
    while start.elapsed() < duration {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let fault = FAULTS[(seed >> 33) % FAULTS.len()].0;
        println!("{:4} s: {fault:?}, {} clients", start.elapsed().as_secs(), load.held.len());
        endure(&mut site, &mut load, fault, PAUSE_LONG, |_| ());
    }
}
