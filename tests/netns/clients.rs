//! Real clients, as Debian ships them, through everything a client does.

use std::path::Path;
use std::time::Duration;

use crate::support::client::{ALL, Client, Kind as ClientKind};
use crate::support::lan::Lan;
use crate::support::namespace::Namespace;
use crate::support::process::{Process, eventually};
use crate::support::ready::start_ready;
use crate::support::server::Kind;

const PATIENCE: Duration = Duration::from_secs(40);

/// One server with 192.168.1.1 on a LAN, with short timers so that renewals are seen.
struct Site {
    lan: Lan,
    server: Option<Process>,
    server_host: Namespace,
    folder: tempfile::TempDir,
}

impl Site {
    fn new(socket_type: &str, timers: &str) -> Self {
        let mut lan = Lan::new();
        let server_host = lan.host("server", "srv0", &["192.168.1.1/24"]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut site = Self { lan, server: None, server_host, folder };
        std::fs::write(
            site.folder.path().join("kea-dhcp4.conf"),
            configuration(site.folder.path(), socket_type, timers),
        )
        .expect("a configuration file");
        site.start();
        site
    }

    fn start(&mut self) {
        let (folder, config) = (self.folder.path(), self.folder.path().join("kea-dhcp4.conf"));
        self.server = Some(start_ready(Kind::Tandem, &self.server_host, &config, folder));
    }

    /// Rows of the lease file for `address`, oldest first.
    fn rows(&self, address: &str) -> Vec<String> {
        let text =
            std::fs::read_to_string(self.folder.path().join("kea-leases4.csv")).expect("the lease file");
        text.lines().filter(|line| line.starts_with(&format!("{address},"))).map(str::to_owned).collect()
    }

    fn client_folder(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn configuration(folder: &Path, socket_type: &str, timers: &str) -> String {
    format!(
        r#"{{ "Dhcp4": {{
  "interfaces-config": {{ "interfaces": [ "srv0" ], "dhcp-socket-type": "{socket_type}" }},
  "lease-database": {{ "type": "memfile", "name": "{}", "lfc-interval": 0 }},
  "multi-threading": {{ "enable-multi-threading": true, "thread-pool-size": 4, "packet-queue-size": 64 }},
  {timers}, "cache-threshold": 0.0,
  "option-data": [ {{ "name": "routers", "data": "192.168.1.1" }} ],
  "subnet4": [
    {{ "id": 1, "subnet": "192.168.1.0/24", "interface": "srv0", "pools": [ {{ "pool": "192.168.1.100-192.168.1.199" }} ] }},
    {{ "id": 2, "subnet": "10.7.0.0/24", "pools": [ {{ "pool": "10.7.0.100-10.7.0.199" }} ] }} ]
}} }}"#,
        folder.join("kea-leases4.csv").display()
    )
}

const LONG: &str = r#""valid-lifetime": 3600, "renew-timer": 1800, "rebind-timer": 2700"#;
const SHORT: &str = r#""valid-lifetime": 40, "renew-timer": 5, "rebind-timer": 30"#;

fn in_pool(address: &str, prefix: &str) -> bool {
    let last: u8 = address.strip_prefix(prefix).and_then(|rest| rest.parse().ok()).unwrap_or(0);
    (100..=199).contains(&last)
}

/// Lease, reboot (INIT-REBOOT where the client remembers), release; the lease file tells each.
fn life_of(kind: ClientKind) {
    let mut site = Site::new("raw", LONG);
    let interface = format!("{kind:?}").to_ascii_lowercase() + "a";
    let host = site.lan.host("client", &interface, &[]);
    let folder = site.client_folder("client");

    let mut client = Client::start(kind, &host, &interface, &folder, &[]);
    let address = client.bound(PATIENCE);
    assert!(in_pool(&address, "192.168.1."), "{kind:?} got {address}");
    assert!(!site.rows(&address).is_empty(), "no row for {address}");

    client.kill();
    host.ip(&["-4", "address", "flush", "dev", &interface]);
    let mut client = Client::start(kind, &host, &interface, &folder, &[]);
    let again = client.wait_for(&["BOUND", "REBOOT"], 2, PATIENCE);
    assert_eq!(again, address, "{kind:?} got another address after a reboot");

    let before = site.rows(&address).len();
    client.release(&host);
    eventually("the released row", Duration::from_secs(10), || site.rows(&address).len() > before);
    let row = site.rows(&address).pop().expect("a row");
    let columns: Vec<&str> = row.split(',').collect();
    assert_eq!((columns[3], columns[9]), ("0", "3"), "released, kept for affinity: {row}");
}

#[test]
fn dhclient_leases_reboots_and_releases() {
    life_of(ClientKind::Dhclient);
}

#[test]
fn dhcpcd_leases_reboots_and_releases() {
    life_of(ClientKind::Dhcpcd);
}

#[test]
fn udhcpc_leases_reboots_and_releases() {
    life_of(ClientKind::Udhcpc);
}

#[test]
fn real_clients_renew_by_unicast_and_keep_their_address_over_a_restart_of_the_server() {
    let mut site = Site::new("raw", SHORT);
    let mut clients = Vec::new();
    for kind in ALL {
        let interface = format!("{kind:?}").to_ascii_lowercase() + "b";
        let host = site.lan.host("client", &interface, &[]);
        let folder = site.client_folder(&interface);
        clients.push((Client::start(kind, &host, &interface, &folder, &[]), host));
    }
    let addresses: Vec<String> = clients.iter_mut().map(|(client, _)| client.bound(PATIENCE)).collect();
    for ((client, _), address) in clients.iter_mut().zip(&addresses) {
        assert_eq!(&client.wait_for(&["RENEW"], 1, PATIENCE), address);
    }
    let mut server = site.server.take().expect("a server");
    server.signal("KILL");
    server.wait(Duration::from_secs(5));
    site.start();
    for ((client, _), address) in clients.iter_mut().zip(&addresses) {
        let renewed = client.events().iter().filter(|(reason, _)| reason == "RENEW").count();
        assert_eq!(&client.wait_for(&["RENEW", "REBIND"], renewed + 1, PATIENCE), address);
    }
}

/// Goal: a client whose server is gone finds the one that took its place. Method: the server's address changes under
/// clients that are bound, so that their unicast renewals go nowhere; they rebind by broadcast and keep their address.
#[test]
fn real_clients_rebind_at_a_server_with_another_address() {
    let mut site = Site::new("raw", r#""valid-lifetime": 60, "renew-timer": 3, "rebind-timer": 8"#);
    let mut clients = Vec::new();
    for kind in ALL {
        let interface = format!("{kind:?}").to_ascii_lowercase() + "r";
        let host = site.lan.host("client", &interface, &[]);
        let folder = site.client_folder(&interface);
        clients.push((Client::start(kind, &host, &interface, &folder, &[]), host));
    }
    let addresses: Vec<String> = clients.iter_mut().map(|(client, _)| client.bound(PATIENCE)).collect();
    let mut server = site.server.take().expect("a server");
    server.signal("TERM");
    assert!(server.wait(Duration::from_secs(10)).success());
    site.server_host.ip(&["address", "del", "192.168.1.1/24", "dev", "srv0"]);
    site.server_host.ip(&["address", "add", "192.168.1.9/24", "dev", "srv0"]);
    site.start();
    let before: Vec<usize> = addresses.iter().map(|address| site.rows(address).len()).collect();
    for ((address, before), (client, _)) in addresses.iter().zip(before).zip(&clients) {
        eventually("a row by the new server", PATIENCE, || site.rows(address).len() > before);
        let last = client.events().pop().expect("an event");
        assert!(["REBIND", "RENEW", "BOUND"].contains(&last.0.as_str()) && last.1 == *address, "{last:?}");
    }
    let log = site.server.as_ref().expect("running").output();
    assert!(log.contains("DHCP4_LEASE_ALLOC"), "{log}");
}

#[test]
fn dhcpcd_with_an_address_of_its_own_is_informed() {
    let mut site = Site::new("raw", LONG);
    let host = site.lan.host("client", "dhcpcdi", &["192.168.1.50/24"]);
    let folder = site.client_folder("client");
    let mut client =
        Client::start(ClientKind::Dhcpcd, &host, "dhcpcdi", &folder, &["--inform=192.168.1.50/24"]);
    client.wait_for(&["INFORM"], 1, PATIENCE);
    assert!(site.rows("192.168.1.50").is_empty(), "an INFORM must not lease");
}

/// A relay between the clients' LAN (10.7.0.0/24) and the server's.
fn through_a_relay(socket_type: &str) {
    let mut site = Site::new(socket_type, LONG);
    let mut clients_lan = Lan::new();
    let relay_host = clients_lan.host("relay", "down0", &["10.7.0.1/24"]);
    site.lan.attach(&relay_host, "up0", &["192.168.1.2/24"]);
    site.server_host.ip(&["route", "add", "10.7.0.0/24", "via", "192.168.1.2"]);
    relay_host.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("forwarding");
    let _relay = Process::start(
        &relay_host,
        "dhcrelay",
        &["-4", "-d", "-a", "-id", "down0", "-iu", "up0", "192.168.1.1"],
        &[],
        &site.client_folder("relay-output"),
    );
    for kind in ALL {
        let interface = format!("{kind:?}").to_ascii_lowercase() + "c";
        let host = clients_lan.host("client", &interface, &[]);
        let folder = site.client_folder(&interface);
        let mut client = Client::start(kind, &host, &interface, &folder, &[]);
        let address = client.bound(PATIENCE);
        assert!(in_pool(&address, "10.7.0."), "{kind:?} got {address} through the relay");
        client.kill();
    }
}

#[test]
fn real_clients_lease_through_a_relay_in_raw_mode() {
    through_a_relay("raw");
}

#[test]
fn real_clients_lease_through_a_relay_in_udp_mode() {
    through_a_relay("udp");
}

#[test]
fn an_address_that_somebody_else_uses_is_declined_and_another_one_leased() {
    let mut site = Site::new("raw", LONG);
    let _squatter = site.lan.host("squatter", "sq0", &["192.168.1.120/24"]);
    let host = site.lan.host("client", "udhcpcd0", &[]);
    // -r asks for the squatter's address; -a makes udhcpc look for somebody else with ARP, and decline.
    let extra = ["-r", "192.168.1.120", "-a", "-A", "1"];
    let mut client =
        Client::start(ClientKind::Udhcpc, &host, "udhcpcd0", &site.client_folder("client"), &extra);
    let address = client.bound(Duration::from_secs(60));
    assert!(in_pool(&address, "192.168.1.") && address != "192.168.1.120", "{address}");
    let row = site.rows("192.168.1.120").pop().expect("a row");
    let columns: Vec<&str> = row.split(',').collect();
    assert_eq!(
        (columns[1], columns[3], columns[9]),
        ("", "86400", "1"),
        "declined for the probation period: {row}"
    );
}
