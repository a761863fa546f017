//! Keeps the sockets that the configuration wants open on every shard, and closes the others.
//!
//! A socket has one number on all shards for as long as it is open; a number is used again only once every shard has
//! closed what had it. What cannot be opened is a warning and is tried again (PKT-4): the server never stays deaf
//! because an interface was late.

use std::net::Ipv4Addr;
use std::time::Duration;

use shards::runtime::{Opened, RING_SLOTS_MAX, Request, ShardPort, Steering, open_raw, open_udp};
use shards::steer::{Queue, SteerHash};
use shards::sys::interface::{self, HostInterface};
use shards::sys::ring::SLOT_OCTETS;
use socket2::Socket;

use crate::policy::Snapshot;

/// Memory of all rings together, octets. It is taken when the sockets are opened, whether or not anything comes; with more
/// interfaces and shards each ring is smaller, and where there is too little for one the kernel is asked for what waits.
const RING_OCTETS_MAX: usize = 128 * 1024 * 1024;

/// A shard that does not answer within this time is hanging.
const PATIENCE: Duration = Duration::from_secs(5);

/// The open sockets.
#[derive(Debug)]
pub struct SocketKeeper {
    hash: SteerHash,
    kept: Vec<Option<Kept>>,
    errors: Vec<String>,
    user_space: Option<String>,
    /// How many were open when it was last looked at.
    told_open: Option<usize>,
}

/// What one socket number stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Wanted {
    interface: String,
    ifindex: u32,
    mac: [u8; 6],
    addresses: Vec<Ipv4Addr>,
    port: u16,
    raw: bool,
}

#[derive(Debug)]
struct Kept {
    wanted: Wanted,
    _quiet: Vec<Socket>,
    /// Memory of its rings.
    ring_octets: usize,
}

impl SocketKeeper {
    /// No sockets yet; `hash` steers those to come.
    pub fn new(hash: SteerHash) -> Self {
        Self { hash, kept: Vec::new(), errors: Vec::new(), user_space: None, told_open: None }
    }

    /// Opens and closes until the sockets are those of `snapshot`. Waits for the shards.
    pub fn apply(&mut self, snapshot: &Snapshot, ports: &[ShardPort]) {
        let wanted = wanted(snapshot);
        for number in 0..self.kept.len() {
            let goes = self.kept[number].as_ref().is_some_and(|kept| !wanted.contains(&kept.wanted));
            if goes {
                // Answers are awaited so that the address is free before it is bound again.
                ask_all(ports, || Request::RemoveSocket(number as u16));
                self.kept[number] = None;
            }
        }
        let before = std::mem::take(&mut self.errors);
        let was_open = self.told_open;
        let missing: Vec<Wanted> = wanted
            .into_iter()
            .filter(|wanted| !self.kept.iter().flatten().any(|kept| kept.wanted == *wanted))
            .collect();
        if !missing.is_empty() {
            let taken: usize = self.kept.iter().flatten().map(|kept| kept.ring_octets).sum();
            let ring_slots = ring_slots(RING_OCTETS_MAX.saturating_sub(taken), missing.len(), ports.len());
            self.open_all(missing, ring_slots, ports);
        }
        // What is tried every few seconds is told once.
        for error in self.errors.iter().filter(|error| !before.contains(error)) {
            log::warn!(target: "kea-dhcp4.dhcpsrv", "DHCPSRV_OPEN_SOCKET_FAIL failed to open socket: {error}");
        }
        let configured = !snapshot.interfaces.is_empty() || !snapshot.interfaces_missing.is_empty();
        self.told_open = Some(self.open());
        if configured && self.open() == 0 && was_open != Some(0) {
            log::warn!(
                target: "kea-dhcp4.dhcpsrv",
                "DHCPSRV_NO_SOCKETS_OPEN no interface configured to listen to DHCP traffic; the server tries again"
            );
        }
    }

    /// How many sockets are open.
    pub fn open(&self) -> usize {
        self.kept.iter().flatten().count()
    }

    /// What could not be opened, one text each.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Why datagrams are steered in user space, if they are.
    pub fn user_space_steering(&self) -> Option<&str> {
        self.user_space.as_deref()
    }

    fn open_all(&mut self, missing: Vec<Wanted>, ring_slots: usize, ports: &[ShardPort]) {
        let host = match interface::list() {
            Ok(host) => host,
            Err(error) => {
                self.errors.push(format!("the host's interfaces cannot be listed: {error}"));
                return;
            }
        };
        for wanted in missing {
            let Some(facts) = host.iter().find(|facts| facts.ifindex == wanted.ifindex) else {
                self.errors.push(format!("interface {} is gone", wanted.interface));
                continue;
            };
            match self.open_one(facts, &wanted, ports.len(), ring_slots) {
                Ok(opened) => self.keep(wanted, opened, ports),
                Err(error) => self.errors.push(error),
            }
        }
    }

    fn open_one(
        &self,
        facts: &HostInterface,
        wanted: &Wanted,
        shards: usize,
        ring_slots: usize,
    ) -> Result<Opened, String> {
        if !facts.up || !facts.running {
            return Err(format!(
                "the interface {} is down or has no usable IPv4 addresses configured",
                facts.name
            ));
        }
        // Topology allows at most 64 shards.
        let shards = shards as u8;
        let opened = if wanted.raw {
            open_raw(facts, &wanted.addresses, wanted.port, &self.hash, shards, ring_slots)
        } else {
            let address = wanted.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
            open_udp(facts, address, wanted.port, &self.hash, shards)
        };
        opened.map_err(|error| error.to_string())
    }

    fn keep(&mut self, wanted: Wanted, opened: Opened, ports: &[ShardPort]) {
        if let Steering::UserSpace { cause } = opened.steering {
            if self.user_space.is_none() {
                let forwarding = if ports.len() > 1 { "shards forward queries, and " } else { "" };
                log::warn!(
                    target: "kea-dhcp4.dhcp4",
                    "TANDEM_STEERING_USER_SPACE the kernel does not take the steering programs ({cause}); \
                     {forwarding}DISCOVERs wait in one queue with all else"
                );
            }
            self.user_space = Some(cause);
        }
        let number = self.kept.iter().position(Option::is_none).unwrap_or_else(|| {
            self.kept.push(None);
            self.kept.len() - 1
        });
        log::info!(
            target: "kea-dhcp4.dhcpsrv",
            "DHCPSRV_CFGMGR_USE_ADDRESS listening on {}, on interface {} ({})",
            wanted.addresses.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", "),
            wanted.interface,
            if wanted.raw { "raw" } else { "udp" },
        );
        let interface = wanted.interface.clone();
        if let Some(cause) = opened.ring_refused {
            log::warn!(
                target: "kea-dhcp4.dhcpsrv",
                "TANDEM_RING_REFUSED the kernel has no memory for the rings of {interface} ({cause}); what comes there \
                 is copied, which takes more of the CPU"
            );
        }
        self.kept[number] = Some(Kept { wanted, _quiet: opened.quiet, ring_octets: opened.ring_octets });
        let posted: Vec<_> = ports
            .iter()
            .zip(opened.sockets)
            .map(|(port, socket)| port.post(Request::AddSocket(number as u16, Box::new(socket))))
            .collect();
        let refused = posted.iter().filter(|done| done.recv_timeout(PATIENCE).is_err()).count();
        if refused > 0 {
            // Part of the clients would get no answer: it is opened anew when it is looked at next.
            self.errors.push(format!("{refused} of {} shards cannot serve {interface}", posted.len()));
            ask_all(ports, || Request::RemoveSocket(number as u16));
            self.kept[number] = None;
        }
    }
}

/// Slots of each ring where `shards` shards serve `sockets` interfaces more, and `octets` are left.
fn ring_slots(octets: usize, sockets: usize, shards: usize) -> usize {
    let rings = (Queue::ALL.len() * sockets * shards).max(1);
    (octets / SLOT_OCTETS / rings).min(RING_SLOTS_MAX)
}

fn ask_all(ports: &[ShardPort], request: impl Fn() -> Request) {
    let posted: Vec<_> = ports.iter().map(|port| port.post(request())).collect();
    for done in posted {
        // A shard that does not answer has ended, and its sockets with it.
        let _ = done.recv_timeout(PATIENCE);
    }
}

/// One socket for each interface in raw mode, one for each address in udp mode.
fn wanted(snapshot: &Snapshot) -> Vec<Wanted> {
    let mut list = Vec::new();
    for interface in &snapshot.interfaces {
        let socket = |addresses: Vec<Ipv4Addr>| Wanted {
            interface: interface.name.clone(),
            ifindex: interface.ifindex,
            mac: interface.mac,
            addresses,
            port: snapshot.server_port,
            raw: snapshot.raw_sockets,
        };
        if snapshot.raw_sockets && !interface.socket_addresses.is_empty() {
            list.push(socket(interface.socket_addresses.clone()));
        } else if !snapshot.raw_sockets {
            list.extend(interface.socket_addresses.iter().map(|address| socket(vec![*address])));
        }
    }
    list
}
