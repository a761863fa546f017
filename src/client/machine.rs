//! The client's states (RFC 2131 figure 5).
//!
//! ```text
//!   start --> INIT --DISCOVER--> SELECTING --OFFER, REQUEST--> REQUESTING --ACK--> BOUND <-------------+
//!              ^                                                   |                 | T1, REQUEST      |
//!              |<------------- NAK, no answer, DECLINE ------------+                 v                  |
//!              |<------------- NAK, end of lease ------------------------------ RENEWING --ACK--------->|
//!              |                                                                     | T2, REQUEST      |
//!              |<------------- NAK, end of lease ------------------------------ REBINDING --ACK-------->|
//!              |                                                                                        |
//!   reboot --> REBOOTING (REQUEST sent) --ACK---------------------------------------------------------->+
//!              | NAK, no answer: INIT
//!   BOUND, RENEWING, REBINDING --release()--> RELEASED
//! ```
//!
//! Invariants: at most one message waits to be sent; a lease is never used past its end by the client's own
//! clock once `handle_timeout` has run; nothing random comes from anywhere but the seed.

use std::net::Ipv4Addr;

use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;

use crate::wire::codes::MessageType;

use super::message::{ClientConfig, ClientLease, Message, Reply};
use super::retry::{Retry, SECOND_NS};
use super::{Outgoing, Route};

/// REQUESTs sent for an offer, or for a remembered address, before the client starts again.
const REQUEST_ATTEMPTS_MAX: u32 = 4;
/// Pause before starting again after a DECLINE, seconds (RFC 2131 section 3.1, point 5).
const DECLINE_PAUSE_S: u64 = 10;
/// Pause before starting again after a NAK, seconds: keeps two servers that disagree from being flooded.
const NAK_PAUSE_S: u64 = 1;
/// Shortest wait between two REQUESTs that renew or rebind, seconds (RFC 2131 section 4.4.5).
const RENEW_WAIT_S_MIN: u64 = 60;

/// A DHCP client.
#[derive(Clone, Debug)]
pub struct Client {
    config: ClientConfig,
    random: Pcg32,
    state: State,
    xid: u32,
    /// When the client began to look for an address or to renew: `secs` counts from here.
    began_ns: u64,
    waiting: Option<Waiting>,
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    message: Message,
    secs: u16,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Init { wake_ns: u64 },
    Selecting { retry: Retry },
    Requesting { address: Ipv4Addr, server_id: Ipv4Addr, requested_ns: u64, retry: Retry },
    Rebooting { address: Ipv4Addr, requested_ns: u64, retry: Retry },
    Bound { lease: ClientLease },
    Renewing { lease: ClientLease, requested_ns: u64, retry_ns: u64 },
    Rebinding { lease: ClientLease, requested_ns: u64, retry_ns: u64 },
    Released,
}

/// The states by name, as RFC 2131 names them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ClientState {
    /// About to look for servers.
    Init,
    /// DISCOVER sent.
    Selecting,
    /// REQUEST for an offer sent.
    Requesting,
    /// REQUEST for a remembered address sent.
    Rebooting,
    /// Has a lease.
    Bound,
    /// Has a lease and asks its server to extend it.
    Renewing,
    /// Has a lease and asks any server to extend it.
    Rebinding,
    /// Gave its lease back and does nothing.
    Released,
}

/// What has just happened to a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientEvent {
    /// It has a lease that it did not have before.
    Bound(ClientLease),
    /// Its lease ended without an answer.
    Expired(Ipv4Addr),
    /// A server refused; the address is the one it asked for, which it no longer holds.
    Nak(Ipv4Addr),
    /// Its lease was extended.
    Renewed(ClientLease),
    /// Nobody answered its REQUEST for this address; it starts again.
    Unanswered(Ipv4Addr),
}

impl Client {
    /// A client without an address: its DISCOVER is ready to be polled.
    pub fn new(now_ns: u64, config: ClientConfig) -> Self {
        let mut client = Self::idle(now_ns, config);
        client.discover(now_ns);
        client
    }

    /// A client that remembers `address` from before (INIT-REBOOT): its REQUEST is ready to be polled.
    pub fn reboot(now_ns: u64, config: ClientConfig, address: Ipv4Addr) -> Self {
        let mut client = Self::idle(now_ns, config);
        client.begin(now_ns);
        let retry = Retry::first(now_ns, client.config.pace, &mut client.random);
        client.state = State::Rebooting { address, requested_ns: now_ns, retry };
        client.queue(now_ns, Message::Reboot { address });
        client
    }

    /// What it is and wants.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Its state.
    pub fn state(&self) -> ClientState {
        match self.state {
            State::Init { .. } => ClientState::Init,
            State::Selecting { .. } => ClientState::Selecting,
            State::Requesting { .. } => ClientState::Requesting,
            State::Rebooting { .. } => ClientState::Rebooting,
            State::Bound { .. } => ClientState::Bound,
            State::Renewing { .. } => ClientState::Renewing,
            State::Rebinding { .. } => ClientState::Rebinding,
            State::Released => ClientState::Released,
        }
    }

    /// The lease it holds. By its own clock it may have run out: see [`ClientLease::expires_ns`].
    pub fn lease(&self) -> Option<&ClientLease> {
        match &self.state {
            State::Bound { lease } | State::Renewing { lease, .. } | State::Rebinding { lease, .. } => {
                Some(lease)
            }
            _ => None,
        }
    }

    /// Transaction id of the exchange under way, or of the last one.
    pub fn xid(&self) -> u32 {
        self.xid
    }

    /// A datagram has come in. What is malformed, of others, late or out of place is ignored, as RFC 2131 asks.
    pub fn handle_reply(&mut self, now_ns: u64, bytes: &[u8]) -> Option<ClientEvent> {
        let reply = Reply::read(bytes, &self.config, self.xid)?;
        match reply.message_type {
            MessageType::Offer => {
                self.on_offer(now_ns, &reply);
                None
            }
            MessageType::Ack => self.on_ack(&reply),
            MessageType::Nak => self.on_nak(now_ns, &reply),
            _ => None,
        }
    }

    /// `next_timeout` has passed; earlier calls do nothing.
    pub fn handle_timeout(&mut self, now_ns: u64) -> Option<ClientEvent> {
        if self.next_timeout().is_none_or(|at_ns| now_ns < at_ns) {
            return None;
        }
        match self.state {
            State::Init { .. } => self.discover(now_ns),
            State::Selecting { retry } => {
                self.state = State::Selecting { retry: self.again(now_ns, retry) };
                self.queue(now_ns, Message::Discover);
            }
            State::Requesting { address, retry, .. } | State::Rebooting { address, retry, .. }
                if retry.attempts >= REQUEST_ATTEMPTS_MAX =>
            {
                self.discover(now_ns);
                return Some(ClientEvent::Unanswered(address));
            }
            State::Requesting { address, server_id, requested_ns, retry } => {
                let retry = self.again(now_ns, retry);
                self.state = State::Requesting { address, server_id, requested_ns, retry };
                self.queue(now_ns, Message::Select { address, server_id });
            }
            State::Rebooting { address, requested_ns, retry } => {
                let retry = self.again(now_ns, retry);
                self.state = State::Rebooting { address, requested_ns, retry };
                self.queue(now_ns, Message::Reboot { address });
            }
            State::Bound { lease } => {
                self.begin(now_ns);
                return self.extend(now_ns, lease, now_ns);
            }
            State::Renewing { lease, requested_ns, .. } | State::Rebinding { lease, requested_ns, .. } => {
                return self.extend(now_ns, lease, requested_ns);
            }
            State::Released => {}
        }
        None
    }

    /// When `handle_timeout` is wanted next; `None` if never.
    pub fn next_timeout(&self) -> Option<u64> {
        match self.state {
            State::Init { wake_ns } => Some(wake_ns),
            State::Selecting { retry } | State::Requesting { retry, .. } | State::Rebooting { retry, .. } => {
                Some(retry.at_ns)
            }
            State::Bound { lease } => lease.t1_ns,
            State::Renewing { retry_ns, .. } | State::Rebinding { retry_ns, .. } => Some(retry_ns),
            State::Released => None,
        }
    }

    /// Writes the message that waits into `octets`, if there is one; a message that does not fit is dropped.
    /// 576 octets hold any message of an ordinary client.
    pub fn poll_transmit(&mut self, octets: &mut [u8]) -> Option<Outgoing> {
        let Waiting { message, secs } = self.waiting.take()?;
        let len = message.write(&self.config, self.xid, secs, octets).ok()?;
        let route = match message.unicast_to() {
            _ if message.is_relayed(&self.config) => Route::Relayed,
            Some(server_id) => Route::Unicast(server_id),
            None => Route::Broadcast,
        };
        Some(Outgoing { len, source: message.ciaddr(), route })
    }

    /// Asks the server to extend the lease now, not only at T1. Does nothing unless BOUND.
    pub fn renew(&mut self, now_ns: u64) {
        if let State::Bound { lease } = self.state {
            self.begin(now_ns);
            self.start_renewing(now_ns, lease, now_ns);
        }
    }

    /// Gives the lease back and stops. Does nothing without a lease.
    pub fn release(&mut self, now_ns: u64) {
        let Some(&ClientLease { address, server_id, .. }) = self.lease() else { return };
        self.begin(now_ns);
        self.state = State::Released;
        self.queue(now_ns, Message::Release { address, server_id });
    }

    /// Refuses the lease because another host uses its address, and starts again after a pause. Does nothing
    /// without a lease.
    pub fn decline(&mut self, now_ns: u64) {
        let Some(&ClientLease { address, server_id, .. }) = self.lease() else { return };
        self.begin(now_ns);
        self.pause(now_ns, DECLINE_PAUSE_S);
        self.queue(now_ns, Message::Decline { address, server_id });
    }

    /// Forgets everything and starts again with a DISCOVER.
    pub fn restart(&mut self, now_ns: u64) {
        self.discover(now_ns);
    }

    fn idle(now_ns: u64, config: ClientConfig) -> Self {
        let random = Pcg32::new(config.seed, u64::from_be_bytes(padded(config.hardware_address)));
        let state = State::Init { wake_ns: now_ns };
        Self { config, random, state, xid: 0, began_ns: now_ns, waiting: None }
    }

    fn on_offer(&mut self, now_ns: u64, reply: &Reply) {
        let State::Selecting { .. } = self.state else { return };
        if reply.yiaddr.is_unspecified() || reply.lifetime_s.is_none() {
            return;
        }
        let (address, server_id) = (reply.yiaddr, reply.server_id);
        let retry = Retry::first(now_ns, self.config.pace, &mut self.random);
        self.state = State::Requesting { address, server_id, requested_ns: now_ns, retry };
        self.queue(now_ns, Message::Select { address, server_id });
    }

    fn on_ack(&mut self, reply: &Reply) -> Option<ClientEvent> {
        let lifetime_s = reply.lifetime_s.filter(|_| !reply.yiaddr.is_unspecified())?;
        let (requested_ns, held) = match self.state {
            State::Requesting { server_id, .. } if server_id != reply.server_id => return None,
            State::Requesting { requested_ns, .. } | State::Rebooting { requested_ns, .. } => {
                (requested_ns, None)
            }
            State::Renewing { lease, requested_ns, .. } | State::Rebinding { lease, requested_ns, .. } => {
                (requested_ns, Some(lease.address))
            }
            _ => return None,
        };
        let lease = granted(reply, lifetime_s, requested_ns);
        self.state = State::Bound { lease };
        self.waiting = None;
        let is_same = held == Some(lease.address);
        Some(if is_same { ClientEvent::Renewed(lease) } else { ClientEvent::Bound(lease) })
    }

    fn on_nak(&mut self, now_ns: u64, reply: &Reply) -> Option<ClientEvent> {
        let address = match self.state {
            State::Requesting { server_id, .. } if server_id != reply.server_id => return None,
            State::Requesting { address, .. } | State::Rebooting { address, .. } => address,
            State::Renewing { lease, .. } | State::Rebinding { lease, .. } => lease.address,
            _ => return None,
        };
        self.waiting = None;
        self.pause(now_ns, NAK_PAUSE_S);
        Some(ClientEvent::Nak(address))
    }

    /// The next step of a lease past T1: renew, rebind, or let it go.
    fn extend(&mut self, now_ns: u64, lease: ClientLease, requested_ns: u64) -> Option<ClientEvent> {
        let passed = |at_ns: Option<u64>| at_ns.is_some_and(|at_ns| at_ns <= now_ns);
        if passed(lease.expires_ns) {
            self.discover(now_ns);
            return Some(ClientEvent::Expired(lease.address));
        }
        if passed(lease.t2_ns) {
            let retry_ns = self.extend_retry_ns(now_ns, lease.expires_ns);
            self.state = State::Rebinding { lease, requested_ns, retry_ns };
            self.queue(now_ns, Message::Rebind { address: lease.address });
        } else {
            self.start_renewing(now_ns, lease, requested_ns);
        }
        None
    }

    fn start_renewing(&mut self, now_ns: u64, lease: ClientLease, requested_ns: u64) {
        let retry_ns = self.extend_retry_ns(now_ns, lease.t2_ns);
        self.state = State::Renewing { lease, requested_ns, retry_ns };
        let ClientLease { address, server_id, .. } = lease;
        self.queue(now_ns, Message::Renew { address, server_id });
    }

    /// Half of what is left until `end_ns`, at least a minute at the client's pace, at most all of it
    /// (RFC 2131 section 4.4.5). A lease that never ends is asked for again by the minute.
    fn extend_retry_ns(&self, now_ns: u64, end_ns: Option<u64>) -> u64 {
        let shortest_ns = self.config.pace.scaled_ns(RENEW_WAIT_S_MIN);
        match end_ns {
            Some(end_ns) => {
                let half_ns = end_ns.saturating_sub(now_ns) / 2;
                now_ns.saturating_add(half_ns.max(shortest_ns)).min(end_ns)
            }
            None => now_ns.saturating_add(shortest_ns),
        }
    }

    fn discover(&mut self, now_ns: u64) {
        self.begin(now_ns);
        let retry = Retry::first(now_ns, self.config.pace, &mut self.random);
        self.state = State::Selecting { retry };
        self.queue(now_ns, Message::Discover);
    }

    fn pause(&mut self, now_ns: u64, pause_s: u64) {
        self.state = State::Init { wake_ns: now_ns.saturating_add(self.config.pace.scaled_ns(pause_s)) };
    }

    /// A new exchange: its own transaction id, `secs` from 0.
    fn begin(&mut self, now_ns: u64) {
        self.xid = self.random.next_u32();
        self.began_ns = now_ns;
    }

    fn again(&mut self, now_ns: u64, retry: Retry) -> Retry {
        retry.again(now_ns, self.config.pace, &mut self.random)
    }

    fn queue(&mut self, now_ns: u64, message: Message) {
        let secs = now_ns.saturating_sub(self.began_ns) / SECOND_NS;
        self.waiting = Some(Waiting { message, secs: u16::try_from(secs).unwrap_or(u16::MAX) });
    }
}

/// The lease of an ACK. Timers that are missing are the parts of RFC 2131 section 4.4.5; timers that contradict
/// each other are cut to fit.
fn granted(reply: &Reply, lifetime_s: u32, requested_ns: u64) -> ClientLease {
    let after = |seconds: u64| requested_ns.saturating_add(seconds.saturating_mul(SECOND_NS));
    let lifetime = u64::from(lifetime_s);
    let t2 = reply.t2_s.map_or(lifetime * 7 / 8, u64::from).min(lifetime);
    let t1 = reply.t1_s.map_or(lifetime / 2, u64::from).min(t2);
    let ends = lifetime_s != shards::partition::lease::INFINITE_LIFETIME;
    ClientLease {
        address: reply.yiaddr,
        server_id: reply.server_id,
        lifetime_s,
        requested_ns,
        t1_ns: (ends || reply.t1_s.is_some()).then(|| after(t1)),
        t2_ns: (ends || reply.t2_s.is_some()).then(|| after(t2)),
        expires_ns: ends.then(|| after(lifetime)),
    }
}

fn padded(hardware_address: [u8; 6]) -> [u8; 8] {
    let [a, b, c, d, e, f] = hardware_address;
    [0, 0, a, b, c, d, e, f]
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
