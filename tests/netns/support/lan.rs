//! A switch with hosts on it, each host a namespace of its own.

use super::namespace::{Namespace, join};

/// A bridge in a namespace of its own.
pub struct Lan {
    switch: Namespace,
    ports: usize,
}

impl Lan {
    /// An empty switch.
    pub fn new() -> Self {
        let switch = Namespace::new("switch");
        switch.ip(&["link", "add", "br0", "type", "bridge", "forward_delay", "0"]);
        switch.ip(&["link", "set", "br0", "up"]);
        Self { switch, ports: 0 }
    }

    /// A new host on this switch.
    pub fn host(&mut self, purpose: &str, interface: &str, addresses: &[&str]) -> Namespace {
        let host = Namespace::new(purpose);
        self.attach(&host, interface, addresses);
        host
    }

    /// Connects `host` to this switch.
    pub fn attach(&mut self, host: &Namespace, interface: &str, addresses: &[&str]) {
        let port = format!("port{}", self.ports);
        self.ports += 1;
        join((&self.switch, &port, &[]), (host, interface, addresses));
        self.switch.ip(&["link", "set", &port, "master", "br0"]);
    }
}
