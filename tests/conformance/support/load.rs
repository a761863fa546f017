//! Many clients at once, as on a network after a power cut: each asks until it is served, waits longer each time, says
//! for how long it has waited, and takes the first offer. What they hold at the end is what the servers owe them.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::clients::{Clients, NAK, mac, query};
use super::dhcp::{self, ACK, DISCOVER, OFFER, Query, REQUEST, Wire, options};
use super::site::Site;

/// Clients that may wait for an answer at once, where they ask again soon, and where they are patient.
const AT_ONCE: usize = 24;
const AT_ONCE_PATIENT: usize = 500;
/// Clients there are: whoever comes after the last is the first again, and keeps its address.
const CLIENTS_MAX: u16 = 50_000;
/// How long a client waits before it asks again: this, then twice this, and so on for some times.
const AGAIN: Duration = Duration::from_millis(300);
/// The same as RFC 2131 4.1 has it.
const AGAIN_PATIENT: Duration = Duration::from_secs(4);

/// Clients of a site that come one after the other, many at a time.
pub struct Load {
    clients: Clients,
    family: u8,
    next: u16,
    at_once: usize,
    again: Duration,
    asking: HashMap<u32, Asking>,
    looked: Instant,
    /// What each has been acknowledged, and by whom.
    pub held: BTreeMap<[u8; 6], Ack>,
}

/// An acknowledged address.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    pub address: Ipv4Addr,
    pub server: Ipv4Addr,
    pub at: Instant,
}

/// Becomes true with the end of the value, so that no thread is waited for that was never told to end.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Asking {
    query: Query,
    since: Instant,
    sent: Instant,
    attempts: u32,
}

impl Load {
    /// Nobody has come yet; hardware addresses are those of `family`.
    pub fn new(site: &Site, family: u8) -> Self {
        let clients = Clients::new(&site.outside, "cli0");
        Self {
            clients,
            family,
            next: 0,
            at_once: AT_ONCE,
            again: AGAIN,
            asking: HashMap::new(),
            looked: Instant::now(),
            held: BTreeMap::new(),
        }
    }

    /// Clients that ask again as RFC 2131 says.
    pub fn patient(self) -> Self {
        Self { at_once: AT_ONCE_PATIENT, again: AGAIN_PATIENT, ..self }
    }

    /// New clients, `pause` apart, until `stop`.
    pub fn run(&mut self, stop: &AtomicBool, pause: Duration) {
        let mut came = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if came.elapsed() >= pause && self.asking.len() < self.at_once {
                came = Instant::now();
                self.next = self.next % CLIENTS_MAX + 1;
                self.discover(mac(self.family, self.next), came);
            }
            self.turn();
        }
    }

    /// Runs `fault` while new clients come, `pause` apart. They end with it, also where it panics.
    pub fn during<T>(&mut self, pause: Duration, fault: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.run(&stop, pause));
            let _stop = Stop(&stop);
            fault()
        })
    }

    /// Nobody new comes; those who wait are served. Panics when they are not.
    pub fn finish(&mut self, patience: Duration) {
        let start = Instant::now();
        while !self.asking.is_empty() {
            self.turn();
            assert!(start.elapsed() < patience, "{} clients are not served", self.asking.len());
        }
    }

    fn discover(&mut self, mac: [u8; 6], since: Instant) {
        let query = query(DISCOVER, mac, Vec::new());
        let mut asking = Asking { query, since, sent: Instant::now(), attempts: 0 };
        asking.send(&self.clients);
        self.asking.insert(asking.query.xid, asking);
    }

    /// Reads one answer, and lets those ask again who have waited.
    fn turn(&mut self) {
        if self.looked.elapsed() > AGAIN / 6 {
            self.looked = Instant::now();
            self.again();
        }
        let Some(payload) = self.clients.wire.receive() else { return };
        let xid = u32::from_be_bytes(payload[4..8].try_into().expect("four octets"));
        let Some(asking) = self.asking.get_mut(&xid) else { return };
        let server = options(&payload).into_iter().find(|(code, _)| *code == 54);
        let server: [u8; 4] = server.map_or([0; 4], |(_, octets)| octets.try_into().expect("four octets"));
        let address = dhcp::address_at(&payload, 16);
        match (asking.query.message_type, dhcp::message_type(&payload)) {
            (DISCOVER, OFFER) => {
                asking.query.message_type = REQUEST;
                asking.query.options = vec![(50, address.octets().to_vec()), (54, server.to_vec())];
                (asking.sent, asking.attempts) = (Instant::now(), 0);
                asking.send(&self.clients);
            }
            (REQUEST, ACK) => {
                let ack = Ack { address, server: server.into(), at: Instant::now() };
                self.held.insert(asking.query.mac, ack);
                self.asking.remove(&xid);
            }
            (REQUEST, NAK) => self.begin_again(xid),
            _ => {}
        }
    }

    fn again(&mut self) {
        let again = self.again;
        let late = |asking: &Asking| asking.sent.elapsed() > again * (1 << asking.attempts.min(2));
        let due: Vec<u32> =
            self.asking.iter().filter(|(_, asking)| late(asking)).map(|(xid, _)| *xid).collect();
        for xid in due {
            let asking = self.asking.get_mut(&xid).expect("it is there");
            asking.attempts += 1;
            // A server that has made an offer and is silent now may be gone.
            if asking.query.message_type == REQUEST && asking.attempts > 2 {
                self.begin_again(xid);
            } else {
                asking.send(&self.clients);
            }
        }
    }

    fn begin_again(&mut self, xid: u32) {
        if let Some(asking) = self.asking.remove(&xid) {
            self.discover(asking.query.mac, asking.since);
        }
    }
}

impl Asking {
    fn send(&mut self, clients: &Clients) {
        self.query.secs = u16::try_from(self.since.elapsed().as_secs()).unwrap_or(u16::MAX);
        self.sent = Instant::now();
        clients.send(&self.query);
    }
}
