//! A hub: one Tandem server, the standby of a Tandem and of a Kea 2.2 that know nothing of each other. Each spoke has a
//! subnet of its own, whose clients are behind a relay that forwards to the spoke and to the hub.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem::engine::message::UpdateKind;
use tandem::ha::batch;

use crate::security::triple;
use crate::support::authority::{Authority, DAY, now};
use crate::support::clients::{PATIENCE, mac, macs};
use crate::support::control;
use crate::support::dhcp::{self, DISCOVER, Query, Wire, options};
use crate::support::http::{Connection, request};
use crate::support::https;
use crate::support::k3::now_s;
use crate::support::namespace::Namespace;
use crate::support::plan::{K, N, PORT, Plan, address, relationship};
use crate::support::process::eventually;
use crate::support::rows::{self, Row};
use crate::support::site::{SOON, Site, TOGETHER};
use crate::{Scenario, scenario};

/// The scenarios of this group.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(&["F11"], "a_hub_serves_each_spoke_by_itself_and_two_copy_from_it_at_once", 45, f11),
        scenario(&["B4", "F11"], "each_relationship_of_a_hub_has_certificates_of_its_own", 45, certificates),
    ]
}

/// How long nobody says anything where nobody answers.
const QUIET: Duration = Duration::from_millis(500);

/// The place of the hub, and of its spokes.
const HUB: usize = 0;
const SPOKES: [usize; 2] = [1, 2];

/// The subnet of a spoke, by its place among the relationships: 10.101.0.0/16 and 10.102.0.0/16.
fn subnet(spoke: usize) -> Value {
    let third = 101 + spoke;
    json!({
        "id": third,
        "subnet": format!("10.{third}.0.0/16"),
        "pools": [{ "pool": format!("10.{third}.1.0 - 10.{third}.4.255") }],
        "user-context": { "ha-server-name": format!("spoke{spoke}") },
    })
}

/// A relationship as one of its two servers sees it.
fn block(base: &Value, spoke: usize, this: &str) -> Value {
    let mut block = base.clone();
    let hub = format!("http://{}:{}/", address(HUB).ip(), PORT + spoke as u16);
    let (name, own) = (format!("spoke{spoke}"), format!("hub{spoke}"));
    block["this-server-name"] = json!(format!("{this}{spoke}"));
    block["peers"] = json!([
        { "name": own, "url": hub, "role": "standby" },
        { "name": name, "url": format!("http://{}/", address(SPOKES[spoke])), "role": "primary" },
    ]);
    block
}

fn plan() -> Plan {
    Plan::new("hot-standby", &[N, N, K], &["standby", "primary", "primary"]).edit(|server, dhcp4| {
        dhcp4["interfaces-config"]["dhcp-socket-type"] = json!("udp");
        let base = relationship(dhcp4).clone();
        let (blocks, subnets) = match SPOKES.iter().position(|place| *place == server) {
            Some(spoke) => (vec![block(&base, spoke, "spoke")], vec![subnet(spoke)]),
            None => ((0..2).map(|spoke| block(&base, spoke, "hub")).collect(), (0..2).map(subnet).collect()),
        };
        dhcp4["hooks-libraries"][1]["parameters"]["high-availability"] = json!(blocks);
        dhcp4["subnet4"] = json!(subnets);
    })
}

/// The relay of a spoke's clients, which sends what they say to the spoke and to the hub.
struct Relay {
    socket: UdpSocket,
    giaddr: Ipv4Addr,
    servers: [Ipv4Addr; 2],
}

impl Relay {
    fn new(site: &Site, spoke: usize) -> Self {
        let giaddr = Ipv4Addr::new(10, 101 + spoke as u8, 0, 1);
        site.outside.ip(&["addr", "add", &format!("{giaddr}/32"), "dev", "lo"]);
        let route = |host: &Namespace| {
            let net = format!("10.{}.0.0/16", 101 + spoke);
            host.ip(&["route", "add", &net, "via", "10.99.0.90", "dev", "lan0"]);
        };
        site.members.iter().for_each(|member| route(&member.host));
        let socket = site.outside.enter(|| UdpSocket::bind((giaddr, 67))).expect("the port of a relay");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        Self { socket, giaddr, servers: [site.lan_address(HUB), site.lan_address(SPOKES[spoke])] }
    }

    /// Leases for all of `macs`, and the servers that gave them.
    fn lease(&self, macs: &[[u8; 6]]) -> BTreeMap<[u8; 6], Ipv4Addr> {
        let leased = dhcp::lease(self, macs, &|_| Vec::new(), SOON);
        assert_eq!(leased.len(), macs.len(), "clients without a lease");
        leased.into_iter().collect()
    }

    /// Sends a DISCOVER of a client that has waited for `secs`; the transaction.
    fn discover(&self, mac: [u8; 6], secs: u16) -> u32 {
        while self.receive().is_some() {}
        let xid = u32::from_be_bytes([mac[1], mac[3], mac[4], mac[5]]);
        self.send(&Query { message_type: DISCOVER, xid, secs, mac, ..Query::default() });
        xid
    }

    /// Who answers a new client, which somebody has to.
    fn offered_by(&self, mac: [u8; 6]) -> Option<Ipv4Addr> {
        self.offered_within(mac, PATIENCE)
    }

    /// Who answers a new client within `patience`; `None` when nobody does.
    fn offered_within(&self, mac: [u8; 6], patience: Duration) -> Option<Ipv4Addr> {
        let xid = self.discover(mac, 0);
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(reply) = self.receive().filter(|reply| reply[4..8] == xid.to_be_bytes()) {
                let server = options(&reply).into_iter().find(|(code, _)| *code == 54)?;
                return Some(<[u8; 4]>::try_from(server.1).expect("four octets").into());
            }
        }
        None
    }
}

impl Wire for Relay {
    fn send(&self, query: &Query) {
        let query = Query { giaddr: Some(self.giaddr), hops: 1, ..query.clone() };
        for server in self.servers {
            // The host of a server that was killed refuses; the other one hears it all the same.
            let _ = self.socket.send_to(&query.encode(), (server, 67));
        }
    }

    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        self.socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
    }
}

/// The hub's state in each relationship.
fn hub_states(site: &Site) -> [String; 2] {
    let answer = control::try_command(&site.socket(HUB), "status-get", Value::Null);
    let entries = answer.map(|answer| answer["arguments"]["high-availability"].clone()).unwrap_or_default();
    [0, 1].map(|spoke| {
        let local = &entries[spoke]["ha-servers"]["local"];
        let name = &local["server-name"];
        assert!(name.is_null() || *name == format!("hub{spoke}"), "{entries}");
        local["state"].as_str().unwrap_or_default().to_owned()
    })
}

fn wait_for_hub(site: &Site, states: [&str; 2], patience: Duration) {
    eventually(&format!("the hub in {states:?}"), patience, || hub_states(site) == states);
}

/// Rows of one subnet in a server's file.
fn rows_of(site: &Site, server: usize, spoke: usize) -> BTreeMap<Ipv4Addr, Row> {
    let mut rows = rows::read(&site.members[server].folder.join("leases.csv"));
    rows.retain(|_, row| row.subnet_id == (101 + spoke).to_string());
    rows
}

/// Waits until the hub has every row of each spoke, as the spoke has it, and the spokes none of each other's.
fn wait_for_equal_stores(site: &Site, counts: [usize; 2]) {
    for (spoke, count) in counts.into_iter().enumerate() {
        let stores = || [HUB, SPOKES[spoke]].map(|server| rows_of(site, server, spoke));
        let differences = || rows::differences(&stores()[0], &stores()[1]);
        eventually(&format!("the rows of spoke {spoke}: {:?}", differences()), SOON, || {
            let [hub, own] = stores();
            hub == own && own.len() == count
        });
        assert_eq!(rows_of(site, SPOKES[spoke], 1 - spoke), BTreeMap::new(), "of the other spoke");
    }
}

/// Where the hub listens for a spoke.
fn address_of_hub(spoke: usize) -> SocketAddr {
    SocketAddr::new(address(HUB).ip(), PORT + spoke as u16)
}

/// What a spoke without ids (release 2.2) posts when it copies: to the listener of its relationship.
fn post(site: &Site, spoke: usize, body: &Value) {
    let listener = address_of_hub(spoke);
    let answer = Connection::open(&site.outside, listener, SOON).post(body).answer();
    assert_eq!(answer["result"], 0, "{answer}");
}

/// 8 no. 9: two copiers have the number 2000, and the first to finish frees the subnet of its relationship.
fn one_copier_frees_its_own_subnet_alone(site: &Site, relays: &[Relay; 2]) {
    let disable =
        json!({ "command": "dhcp-disable", "arguments": { "max-period": 60, "origin": "ha-partner" } });
    let serves = |spoke: usize| relays[spoke].offered_within(mac(0x36, 1), QUIET).is_some();
    post(site, 0, &disable);
    assert!(!serves(0));
    assert!(relays[1].offered_by(mac(0x36, 1)).is_some(), "the other spoke's subnet");
    post(site, 1, &disable);
    assert_eq!([0, 1].map(serves), [false, false]);
    post(site, 0, &json!({ "command": "ha-sync-complete-notify" }));
    eventually("the first is done", SOON, || serves(0));
    assert!(!serves(1), "the second has not finished");
    post(site, 1, &json!({ "command": "ha-sync-complete-notify" }));
    eventually("the second is done", SOON, || serves(1));
}

/// What a spoke posts to the listener of its own relationship about a lease of the other's: by itself and in a batch of
/// Tandem's. It is refused as a conflict, the lease stays as it is, and the spoke counts as available.
fn a_spoke_changes_its_own_leases_alone(site: &Site) {
    let stores = || [0, 1].map(|spoke| rows_of(site, HUB, spoke));
    let before = stores();
    for spoke in [0, 1] {
        let (address, row) = before[1 - spoke].first_key_value().expect("a lease");
        let subnet_id = 101 + (1 - spoke) as u32;
        let mine = shards::Lease {
            address: *address,
            subnet_id,
            pool_id: 0,
            hwaddr: shards::SmallBytes::new(&mac(0x3b, 1)),
            client_id: shards::SmallBytes::empty(),
            valid_lifetime: 3600,
            cltt: now_s().unsigned_abs(),
            state: shards::LeaseState::Default,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: shards::SmallBytes::empty(),
            user_context: None,
        };
        let mut requests = Vec::new();
        for kind in [UpdateKind::Update, UpdateKind::Delete] {
            let mut body = Vec::new();
            batch::write_request(std::iter::once((kind, &mine)), None, &mut body);
            requests.push(request(std::str::from_utf8(&body).expect("JSON")));
        }
        let (mut body, both) = (Vec::new(), [(UpdateKind::Update, &mine), (UpdateKind::Delete, &mine)]);
        batch::write_request(both.into_iter(), None, &mut body);
        let head = "POST / HTTP/1.1\r\nHost: 10.98.0.1\r\nContent-Type: application/octet-stream\r\n";
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        requests.push([head.as_bytes(), &body].concat());
        let listener = address_of_hub(spoke);
        let mut connection = Connection::open(&site.outside, listener, SOON);
        let mut answer = |octets: &[u8]| {
            connection.send(octets);
            connection.receive().expect("an answer").answer()
        };
        let [update, delete, many] = [0, 1, 2].map(|place| answer(&requests[place]));
        let text = format!("the lease of {address} cannot be changed: its subnet is of another relationship");
        for answer in [update, delete] {
            assert_eq!((&answer["result"], &answer["text"]), (&json!(4), &json!(text)));
        }
        assert_eq!(many["arguments"]["results"], json!([4, 4]), "{many}");
        assert_eq!(&stores()[1 - spoke][address], row);
    }
    assert_eq!(stores(), before);
    assert_eq!(site.statistic(HUB, "tandem-foreign-updates"), 8);
    eventually("both are told of", SOON, || site.logged(HUB, "TANDEM_HA_FOREIGN_UPDATE") >= 2);
}

/// Method: each spoke serves; each dies in turn, proven by its own clients alone, and the hub serves its subnet; two
/// copiers with the same number hold off one subnet each; both spokes come back at once and copy; the hub dies.
fn f11() {
    let mut site = Site::new(plan());
    let relays = [0, 1].map(|spoke| Relay::new(&site, spoke));
    site.start_all();
    wait_for_hub(&site, ["hot-standby"; 2], TOGETHER);
    for spoke in SPOKES {
        site.wait_for_state(spoke, "hot-standby", SOON);
    }
    for (spoke, relay) in relays.iter().enumerate() {
        relay.lease(&macs(0x31, 12));
        let server = relay.offered_by(mac(0x32, 1));
        assert_eq!(server, Some(site.lan_address(SPOKES[spoke])), "the standby keeps quiet");
    }
    wait_for_equal_stores(&site, [12, 12]);
    a_spoke_changes_its_own_leases_alone(&site);
    assert_eq!(hub_states(&site), ["hot-standby"; 2]);

    // One after the other they die. Clients of one say nothing of the other.
    for spoke in [0, 1] {
        site.kill(SPOKES[spoke]);
        let before = if spoke == 0 { ["hot-standby"; 2] } else { ["partner-down", "hot-standby"] };
        eventually("an interruption", SOON, || {
            let answer = site.command(HUB, "status-get", Value::Null);
            let remote = &answer["arguments"]["high-availability"][spoke]["ha-servers"]["remote"];
            remote["communication-interrupted"] == true
        });
        assert_eq!(hub_states(&site), before);
        for number in 0..3 {
            relays[spoke].discover(mac(0x33, number), 20);
        }
        let after = if spoke == 0 { ["partner-down", "hot-standby"] } else { ["partner-down"; 2] };
        wait_for_hub(&site, after, SOON);
        relays[spoke].lease(&macs(0x34, 6));
        assert_eq!(relays[spoke].offered_by(mac(0x35, 1)), Some(site.lan_address(HUB)));
        if spoke == 0 {
            let other = relays[1].offered_by(mac(0x35, 1));
            assert_eq!(other, Some(site.lan_address(SPOKES[1])), "the Kea serves its own");
        }
    }

    one_copier_frees_its_own_subnet_alone(&site, &relays);

    // Both come back at once, and both copy.
    SPOKES.into_iter().for_each(|spoke| site.start(spoke));
    for spoke in SPOKES {
        site.wait_for_state(spoke, "hot-standby", TOGETHER);
    }
    wait_for_hub(&site, ["hot-standby"; 2], SOON);
    wait_for_equal_stores(&site, [18, 18]);
    for (spoke, relay) in relays.iter().enumerate() {
        relay.lease(&macs(0x37, 6));
        let server = relay.offered_by(mac(0x38, 1));
        assert_eq!(server, Some(site.lan_address(SPOKES[spoke])));
    }
    wait_for_equal_stores(&site, [24, 24]);

    // Without the hub each spoke goes on alone, and the hub copies from both.
    site.kill(HUB);
    for spoke in SPOKES {
        site.wait_for_state(spoke, "partner-down", SOON);
    }
    relays.iter().for_each(|relay| drop(relay.lease(&macs(0x39, 6))));
    site.start(HUB);
    wait_for_hub(&site, ["hot-standby"; 2], TOGETHER);
    for spoke in SPOKES {
        site.wait_for_state(spoke, "hot-standby", TOGETHER);
    }
    wait_for_equal_stores(&site, [30, 30]);
}

/// The file names of a spoke's relationship: its authority, and whose certificate it is at this server.
fn files(spoke: usize, server: usize) -> (String, String) {
    (format!("CA{spoke}"), if server == HUB { format!("hub{spoke}") } else { format!("spoke{spoke}") })
}

/// Goal: what a hub trusts and shows in one relationship says nothing in another, and a certificate that ends in use
/// there costs neither of them anything. Method: each relationship has an authority of its own; the hub's certificate of
/// the first ends 35 s from now and has a successor as soon as all are whole; the states are watched beyond the end.
fn certificates() {
    let folder = tempfile::tempdir().expect("a folder");
    let end = now() + Duration::from_secs(35);
    let authorities = [0, 1].map(|spoke| Authority::new(folder.path(), &files(spoke, HUB).0));
    for (spoke, authority) in authorities.iter().enumerate() {
        let ends = if spoke == 0 { end } else { now() + DAY };
        authority.issue(folder.path(), &files(spoke, HUB).1, ends);
        authority.issue(folder.path(), &files(spoke, SPOKES[spoke]).1, now() + DAY);
    }
    let path = folder.path().to_owned();
    let mut site = Site::new(plan().edit(move |server, dhcp4| {
        let blocks = &mut dhcp4["hooks-libraries"][1]["parameters"]["high-availability"];
        for block in blocks.as_array_mut().expect("a list") {
            let name = block["this-server-name"].as_str().expect("a name");
            let (authority, name) = files(usize::from(name.ends_with('1')), server);
            for (key, file) in triple(&path, &authority, &name) {
                block[key] = file;
            }
        }
    }));
    site.start_all();
    let is_whole = |site: &Site| {
        hub_states(site) == ["hot-standby"; 2]
            && SPOKES.iter().all(|spoke| site.state(*spoke) == "hot-standby")
    };
    eventually("everybody is whole", TOGETHER, || is_whole(&site));
    authorities[0].issue(folder.path(), &files(0, HUB).1, now() + DAY);
    // Who shows what at which listener.
    let comes_in = |own: usize, listener: usize| {
        let url = format!("https://{}:{}/", address(HUB).ip(), PORT + listener as u16);
        let (_, who) = files(own, SPOKES[own]);
        let body = json!({ "command": "ha-heartbeat", "service": ["dhcp4"] });
        https::post(&site.outside, folder.path(), Some(&who), &url, &body).is_ok()
    };
    let seen = [(0, 0), (1, 1), (0, 1), (1, 0)].map(|(own, listener)| comes_in(own, listener));
    assert_eq!(seen, [true, true, false, false], "a spoke at its own listener, and at the other's");
    while now() < end + Duration::from_secs(2) {
        assert!(is_whole(&site), "{:?} before the end", end.checked_sub(now()));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(comes_in(0, 0), "the successor is shown");
    site.wait_for_log(HUB, "TANDEM_CERTIFICATES_REPLACED");
    let relays = [0, 1].map(|spoke| Relay::new(&site, spoke));
    relays.iter().for_each(|relay| drop(relay.lease(&macs(0x3a, 6))));
    wait_for_equal_stores(&site, [6, 6]);
}
