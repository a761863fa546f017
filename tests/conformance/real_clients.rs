//! Load-balancing and passive-backup with the clients that Debian ships: each is served by the server that is its own, and
//! keeps its address when that server dies.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::balance::balanced;
use crate::support::client::{ALL, Client, Kind};
use crate::support::namespace::Namespace;
use crate::support::plan::{K, N, Plan, Seat};
use crate::support::process::eventually;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::{Scenario, scenario};

/// How long a real client may take for anything: dhcpcd waits up to ten seconds before it begins.
const PATIENCE: Duration = Duration::from_secs(60);

/// The scenarios of this file.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, seats) in [("tandem_kea", [N, K]), ("kea_tandem", [K, N])] {
        let of = format!("real_clients_keep_their_addresses_whichever_server_dies_{name}");
        all.push(scenario(&["C2", "E1", "E3"], of, 60, move || balancing(seats)));
        let name = format!("real_clients_go_over_to_a_backup_{name}");
        all.push(scenario(&["D14", "D15"], name, 35, move || passive_backup(seats)));
    }
    all
}

/// A real client and where it lives.
struct Resident {
    client: Client,
    address: String,
    host: Namespace,
}

/// Starts a client of `kind` on a host of its own, with this hardware address if one is given.
fn start(site: &mut Site, kind: Kind, mac: Option<&str>) -> (Client, Namespace) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // dhcpcd keeps one instance per interface name on the whole machine.
    let interface = format!("r{}c{}", std::process::id() % 100_000, COUNT.fetch_add(1, Ordering::Relaxed));
    let host = site.lan_host("client", &interface);
    if let Some(mac) = mac {
        host.ip(&["link", "set", &interface, "address", mac]);
    }
    let folder = site.folder().join(&interface);
    (Client::start(kind, &host, &interface, &folder, &[]), host)
}

/// Clients that lease at once.
fn lease_all(site: &mut Site, kinds: &[(Kind, Option<&str>)]) -> Vec<Resident> {
    let started: Vec<_> = kinds.iter().map(|(kind, mac)| start(site, *kind, *mac)).collect();
    let bound = |(mut client, host): (Client, Namespace)| {
        let address = client.bound(PATIENCE);
        Resident { client, address, host }
    };
    started.into_iter().map(bound).collect()
}

/// Leases that are renewed after 4 s and rebound after 9, by udhcpc by half of what is left of 24 s; the clients' script
/// sets addresses of a /24, so the pools are the servers' neighbours, one for each of the two servers.
fn short(plan: Plan) -> Plan {
    let timers = [("valid-lifetime", 24), ("renew-timer", 4), ("rebind-timer", 9)];
    let plan = timers.into_iter().fold(plan, |plan, (key, value)| plan.global(key, json!(value)));
    plan.edit(|_, dhcp4| {
        for (pool, addresses) in ["10.99.0.128 - 10.99.0.159", "10.99.0.160 - 10.99.0.191"].iter().enumerate()
        {
            dhcp4["subnet4"][0]["pools"][pool]["pool"] = json!(addresses);
        }
    })
}

/// Waits until every client has renewed or rebound once more, each with the address that it has.
fn all_go_on(residents: &mut [Resident]) {
    const REASONS: [&str; 2] = ["RENEW", "REBIND"];
    let so_far = |client: &Client| {
        client.events().iter().filter(|(reason, _)| REASONS.contains(&reason.as_str())).count()
    };
    let before: Vec<usize> = residents.iter().map(|resident| so_far(&resident.client)).collect();
    for (resident, before) in residents.iter_mut().zip(before) {
        let address = resident.client.wait_for(&REASONS, before + 1, PATIENCE);
        assert_eq!(address, resident.address);
    }
}

/// Pools are guarded: the lower one belongs to the clients of the first server. RFC 3074 says whose each client is:
/// dhclient is known by its hardware address, udhcpc by a client identifier made from it (ha-protocol 5.8).
fn balancing(seats: [Seat; 2]) {
    let plan = short(balanced(seats).ha("max-unacked-clients", json!(0)));
    let mut site = Site::whole(plan, "load-balancing");
    let kinds = [
        (Kind::Dhclient, Some("52:54:00:12:34:56")),
        (Kind::Dhclient, Some("aa:bb:cc:dd:ee:ff")),
        (Kind::Udhcpc, Some("02:00:00:00:00:01")),
        (Kind::Udhcpc, Some("00:11:22:33:44:55")),
        (Kind::Dhcpcd, None),
        (Kind::Dhcpcd, None),
    ];
    let mut residents = lease_all(&mut site, &kinds);
    for (resident, is_first) in residents.iter().zip([true, false, true, false]) {
        let last: u8 =
            resident.address.rsplit('.').next().and_then(|part| part.parse().ok()).expect("a part");
        assert_eq!(last < 160, is_first, "{}", resident.address);
    }
    for dies in [1, 0] {
        site.kill(dies);
        site.wait_for_state(1 - dies, "partner-down", TOGETHER);
        all_go_on(&mut residents);
        site.start(dies);
        site.wait_for_states(&["load-balancing"; 2], TOGETHER);
    }
    // Some leave with a word to their server, some without.
    for (number, Resident { client, host, .. }) in residents.into_iter().enumerate() {
        if number % 2 == 0 { client.release(&host) } else { client.kill() }
    }
    site.wait_for_equal_held([0, 1], SOON);
}

/// The primary dies, an administrator gives its scope to the backup, and the clients rebind there.
fn passive_backup(seats: [Seat; 2]) {
    let plan = Plan::new("passive-backup", &seats, &["primary", "backup"]);
    let plan = short(plan.edit(|_, dhcp4| dhcp4["subnet4"][0]["pools"] = json!([{}, {}])));
    let mut site = Site::new(plan.ha("wait-backup-ack", json!(true)));
    site.start_all();
    site.wait_for_states(&["passive-backup", "backup"], TOGETHER);
    let mut residents = lease_all(&mut site, &ALL.map(|kind| (kind, None)));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), ALL.len());
    site.kill(0);
    assert_eq!(site.command(1, "ha-scopes", json!({ "scopes": ["server1"] }))["result"], 0);
    // A Kea of 2.2 keeps one lock for its own high availability and for a partner's.
    let origin = if site.is_kea(1) { json!({ "origin": "ha-partner" }) } else { Value::Null };
    assert_eq!(site.command(1, "dhcp-enable", origin)["result"], 0);
    all_go_on(&mut residents);
    let new = lease_all(&mut site, &[(Kind::Udhcpc, None)]);
    assert!(residents.iter().all(|resident| resident.address != new[0].address), "{}", new[0].address);
    eventually("the backup has all four", SOON, || {
        crate::support::control::leases(&site.socket(1)).len() == ALL.len() + 1
    });
}
