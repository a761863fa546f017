//! One server without a partner on one end of a link, everybody else on the other.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::control;
use super::dhcp::Direct;
use super::namespace::{Namespace, join};
use super::process::Process;
use super::ready::start_ready;
use super::server::Kind;

/// The server at 172.16.0.1 (`srv0`), with two shards and a pool of 256 addresses unless it is told otherwise.
pub struct Alone {
    pub clients: Namespace,
    pub folder: tempfile::TempDir,
    pub process: Process,
    pub server: Namespace,
    /// Frames of the clients' end, `cli0`.
    pub wire: Direct,
}

impl Alone {
    /// Starts it with a configuration that `edit` has changed, the value of `Dhcp4`, and waits until it serves.
    pub fn new(edit: impl FnOnce(&mut Value)) -> Self {
        Self::with_mtu(1500, edit)
    }

    /// The same on a link with room for longer frames.
    pub fn with_mtu(mtu: u32, edit: impl FnOnce(&mut Value)) -> Self {
        let (server, clients) = (Namespace::new("server"), Namespace::new("clients"));
        join((&server, "srv0", &["172.16.0.1/16"]), (&clients, "cli0", &["172.16.0.2/16"]));
        for (namespace, interface) in [(&server, "srv0"), (&clients, "cli0")] {
            namespace.ip(&["link", "set", interface, "mtu", &mtu.to_string()]);
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut dhcp4 = json!({
            "interfaces-config": { "interfaces": ["srv0"] },
            "lease-database": { "type": "memfile", "name": path("kea-leases4.csv"), "lfc-interval": 0 },
            "control-socket": { "socket-type": "unix", "socket-name": path("control") },
            "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 2 },
            "valid-lifetime": 3600, "cache-threshold": 0.0,
            "subnet4": [ { "id": 1, "subnet": "172.16.0.0/16", "pools": [ { "pool": "172.16.1.0/24" } ] } ],
        });
        edit(&mut dhcp4);
        let config = folder.path().join("kea-dhcp4.conf");
        std::fs::write(&config, json!({ "Dhcp4": dhcp4 }).to_string()).expect("a configuration");
        let process = start_ready(Kind::Tandem, &server, &config, folder.path());
        let wire = Direct(clients.packet_socket("cli0", 100));
        Self { clients, folder, process, server, wire }
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// A command over the control socket, which has to be answered.
    pub fn command(&self, command: &str, arguments: Value) -> Value {
        control::command(&self.socket(), command, arguments)
    }

    /// All statistics by name.
    pub fn statistics(&self) -> Vec<(String, u64)> {
        let answer = self.command("statistic-get-all", Value::Null);
        let all = answer["arguments"].as_object().expect("statistics").clone();
        let value = |samples: Value| samples[0][0].as_u64().expect("a count");
        all.into_iter().map(|(name, samples)| (name, value(samples))).collect()
    }

    /// One of them.
    pub fn statistic(&self, name: &str) -> u64 {
        let found = self.statistics().into_iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("no statistic {name}")).1
    }
}
