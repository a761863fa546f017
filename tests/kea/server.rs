//! The two servers of the comparison, each alone in a pair of namespaces with a client side.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::support::namespace::{Namespace, join};
use crate::support::process::Process;
use crate::support::ready::start_ready;
use crate::support::server::Kind;

/// Address of the server on the link it has a subnet for.
pub const SERVER_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 1);
/// Its address on the link that no subnet is for.
pub const ELSEWHERE_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 51, 100, 1);

/// A server on one end of a link, and a packet socket on the other.
pub struct Server {
    pub kind: Kind,
    /// The client's end of the link, and of the link that no subnet is for.
    pub wires: [OwnedFd; 2],
    /// The server's hardware addresses on the two.
    pub macs: [[u8; 6]; 2],
    process: Process,
    _folder: tempfile::TempDir,
    _server: Namespace,
    _clients: Namespace,
}

impl Server {
    /// Starts `kind` on the configuration of the comparison and waits until it serves.
    pub fn start(kind: Kind) -> Self {
        let (server, clients) = (Namespace::new("server"), Namespace::new("clients"));
        join((&server, "srv0", &["192.0.2.1/24"]), (&clients, "cli0", &[]));
        join((&server, "srv1", &["198.51.100.1/24"]), (&clients, "cli1", &[]));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("kea-dhcp4.conf");
        std::fs::write(&config, configuration(kind, folder.path())).expect("a configuration file");
        let process = start_ready(kind, &server, &config, folder.path());
        let wires = ["cli0", "cli1"].map(|interface| clients.packet_socket(interface, 400));
        let macs = ["srv0", "srv1"].map(|interface| mac_of(&server, interface));
        Self { kind, wires, macs, process, _folder: folder, _server: server, _clients: clients }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

fn mac_of(namespace: &Namespace, interface: &str) -> [u8; 6] {
    let path = format!("/sys/class/net/{interface}/address");
    let out =
        std::process::Command::new("ip").args(["netns", "exec", namespace.name(), "cat", &path]).output();
    let text = String::from_utf8(out.expect("cat").stdout).expect("text");
    let mut mac = [0; 6];
    for (octet, hex) in mac.iter_mut().zip(text.trim().split(':')) {
        *octet = u8::from_str_radix(hex, 16).expect("hex");
    }
    mac
}

/// The configuration both run. Lease caching is off, and so are the threads, so that both choose alike.
fn configuration(kind: Kind, folder: &Path) -> String {
    // 2.2 caches no leases by default and refuses a threshold of 0; Tandem caches by default, as 3.x does.
    let cache = if kind == Kind::Tandem { r#""cache-threshold": 0.0,"# } else { "" };
    let leases = folder.join("kea-leases4.csv");
    format!(
        r#"{{ "Dhcp4": {{
  "interfaces-config": {{ "interfaces": [ "srv0", "srv1" ] }},
  "lease-database": {{ "type": "memfile", "name": "{}", "lfc-interval": 0 }},
  "multi-threading": {{ "enable-multi-threading": false }},
  "valid-lifetime": 3600, {cache}
  "option-data": [
    {{ "name": "domain-name-servers", "data": "192.0.2.53, 192.0.2.54" }},
    {{ "name": "domain-name", "data": "example.org" }},
    {{ "name": "ntp-servers", "data": "192.0.2.123" }} ],
  "subnet4": [
    {{ "id": 1, "subnet": "192.0.2.0/24", "interface": "srv0", "pools": [ {{ "pool": "192.0.2.100 - 192.0.2.199" }} ],
       "option-data": [ {{ "name": "routers", "data": "192.0.2.1" }} ] }},
    {{ "id": 2, "subnet": "10.1.0.0/24", "pools": [ {{ "pool": "10.1.0.100 - 10.1.0.199" }} ],
       "valid-lifetime": 4000, "min-valid-lifetime": 1000, "max-valid-lifetime": 8000,
       "renew-timer": 1000, "rebind-timer": 2000,
       "next-server": "10.1.0.5", "server-hostname": "boot.example.org", "boot-file-name": "/pxe/loader",
       "option-data": [ {{ "name": "tftp-server-name", "data": "tftp.example.org" }},
                        {{ "name": "boot-file-name", "data": "/other/loader" }} ] }},
    {{ "id": 3, "subnet": "10.2.0.0/24", "pools": [ {{ "pool": "10.2.0.10 - 10.2.0.11" }} ] }},
    {{ "id": 4, "subnet": "10.3.0.0/24", "pools": [ {{ "pool": "10.3.0.100 - 10.3.0.199" }} ], "authoritative": true }},
    {{ "id": 5, "subnet": "10.4.0.0/24", "pools": [ {{ "pool": "10.4.0.100 - 10.4.0.199" }} ], "match-client-id": false }},
    {{ "id": 6, "subnet": "10.5.0.0/24", "pools": [ {{ "pool": "10.5.0.100 - 10.5.0.199" }} ],
       "relay": {{ "ip-addresses": [ "10.99.0.1" ] }} }},
    {{ "id": 7, "subnet": "10.6.0.0/24", "calculate-tee-times": true,
       "option-data": [ {{ "name": "domain-name", "data": "subnet.example.org" }} ],
       "pools": [ {{ "pool": "10.6.0.10 - 10.6.0.19",
                    "option-data": [ {{ "name": "domain-name-servers", "data": "10.6.0.53" }} ] }},
                  {{ "pool": "10.6.0.30 - 10.6.0.39" }} ] }} ],
  "loggers": [ {{ "name": "kea-dhcp4", "severity": "INFO", "output_options": [ {{ "output": "stdout" }} ] }} ]
}} }}"#,
        leases.display()
    )
}
