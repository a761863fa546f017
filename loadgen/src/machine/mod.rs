//! The exchanges of one sender: what is under way, what a reply means, what is given up (pure).
//!
//! Replies, planned starts and `now` go in; messages go to the [`Outbox`] and results to the [`Recorder`]. An
//! xid is the sender's number in its first octet and the exchange's number in the others, so that a reply
//! finds its exchange by an index. Nothing is allocated after the start.
//!
//! Invariant: an exchange that was started ends in exactly one of `completed`, `naks`, `offers_missing`,
//! `acks_missing`; where clients try again, a NAK is no end.

mod parts;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::Ipv4Addr;

use tandem::wire::codes::MessageType;

use crate::attach::{Outbox, Route};
use crate::check::{Claimed, Reply};
use crate::plan::Start;
use crate::recorder::Recorder;
use crate::scenario::choose::Client;
use crate::scenario::{AFTER_NAK_NS, ATTEMPTS_MAX, BACKOFF_NS, Exchange, JITTER_NS};
use crate::template::{Fields, Message};

use parts::{Deadline, Slot, State};

pub use parts::{Parts, Phase};

/// The exchanges of one sender.
pub struct Machine {
    parts: Parts,
    clients: Vec<Client>,
    slots: Box<[Slot]>,
    /// Of clients that do not try again: all wait equally long, so they are in order as they come.
    deadlines: VecDeque<Deadline>,
    /// Of clients that try again: they wait longer each time, and not quite equally long.
    retries: BinaryHeap<Reverse<Deadline>>,
    number: u32,
    under_way: usize,
    phase: Phase,
    /// What happened.
    pub recorder: Recorder,
}

const NUMBER_BITS: u32 = 24;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;
/// Most exchanges under way: 16 of them share a slot before their numbers repeat.
pub const UNDER_WAY_MAX: usize = 1 << 20;

impl Machine {
    /// A machine whose clients have nothing yet.
    pub fn new(parts: Parts, phase: Phase) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        let free = Slot {
            xid: 0,
            client: 0,
            address: none,
            server: none,
            planned_ns: 0,
            due_ns: 0,
            first_sent_ns: 0,
            sent_ns: 0,
            state: State::Free,
            exchange: Exchange::Dora,
            attempts: 0,
            measured: false,
        };
        let slots = parts.under_way_max.next_power_of_two().clamp(64, UNDER_WAY_MAX);
        Self {
            clients: vec![Client::NEW; parts.clients.max(1)],
            slots: vec![free; slots].into_boxed_slice(),
            deadlines: VecDeque::with_capacity(2 * slots),
            retries: BinaryHeap::with_capacity(2 * slots),
            number: parts.first_number & NUMBER_MASK,
            under_way: 0,
            phase,
            recorder: Recorder::new(),
            parts,
        }
    }

    /// Ends one phase and begins the next: what is under way is forgotten, leases stay, counting begins anew.
    pub fn begin_phase(&mut self, phase: Phase) {
        self.give_up_all();
        self.deadlines.clear();
        self.retries.clear();
        self.phase = phase;
        self.recorder = Recorder::new();
    }

    /// Exchanges under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Clients that hold a lease.
    pub fn holders(&self) -> usize {
        self.clients.iter().filter(|client| client.holds()).count()
    }

    /// Starts the next exchange. The outbox must have room.
    pub fn begin(&mut self, start: Start, now_ns: u64, outbox: &mut Outbox) {
        let place = self.number as usize & (self.slots.len() - 1);
        if matches!(self.slots[place].state, State::Selecting | State::Requesting) {
            self.recorder.counters.not_started += u64::from(start.measured);
            self.number = (self.number + 1) & NUMBER_MASK;
            return;
        }
        let (client, exchange) = self.phase.chooser.next(&self.clients[..self.phase.clients]);
        let of = &mut self.clients[client];
        if start.measured {
            self.recorder.started(start.at_ns, now_ns);
            self.recorder.counters.overlaps += u64::from(of.busy > 0);
        }
        of.busy = of.busy.saturating_add(1);
        self.under_way += 1;
        self.slots[place] = Slot {
            xid: (u32::from(self.parts.sender.0) << NUMBER_BITS) | self.number,
            client: client as u32,
            address: of.address,
            server: of.server,
            planned_ns: start.at_ns,
            due_ns: start.at_ns,
            first_sent_ns: now_ns,
            sent_ns: now_ns,
            state: if exchange == Exchange::Dora { State::Selecting } else { State::Requesting },
            exchange,
            attempts: 0,
            measured: start.measured,
        };
        self.number = (self.number + 1) & NUMBER_MASK;
        self.transmit(place, now_ns, outbox);
        if exchange == Exchange::Release {
            self.let_go(client);
            self.recorder.counters.releases += u64::from(start.measured);
            self.complete(place, now_ns);
        }
    }

    /// A datagram came. The outbox must have room.
    pub fn handle_reply(&mut self, bytes: &[u8], now_ns: u64, outbox: &mut Outbox) {
        let counting = u64::from(now_ns >= self.phase.measure_from_ns);
        self.recorder.counters.received += counting;
        let Ok(reply) = Reply::read(bytes) else {
            self.recorder.counters.malformed += counting;
            return;
        };
        let place = reply.xid as usize & (self.slots.len() - 1);
        let slot = self.slots[place];
        let mac = self.parts.templates.mac(self.number_of(slot.client));
        if slot.state == State::Free || slot.xid != reply.xid || mac != reply.chaddr {
            self.recorder.counters.orphans += counting;
            return;
        }
        let one = u64::from(slot.measured);
        match (slot.state, reply.message_type) {
            (State::Selecting, MessageType::Offer) => self.take_offer(place, &reply, now_ns, outbox),
            (State::Requesting, MessageType::Ack) => self.take_ack(place, &reply, now_ns, outbox),
            (State::Requesting, MessageType::Nak) => {
                self.recorder.counters.naks += one;
                self.let_go(slot.client as usize);
                if self.phase.retries { self.begin_anew(place, now_ns) } else { self.end(place, State::Done) }
            }
            (State::Lost, _) => self.recorder.counters.late += one,
            (State::Done | State::Requesting, _) => self.recorder.counters.extra += one,
            (State::Selecting | State::Free, _) => self.recorder.counters.orphans += counting,
        }
    }

    /// Tries again or gives up what has waited too long, as far as the outbox has room.
    pub fn handle_timeouts(&mut self, now_ns: u64, outbox: &mut Outbox) {
        while outbox.room() > 0
            && let Some(deadline) = self.next_deadline()
            && deadline.at_ns <= now_ns
        {
            if self.phase.retries {
                self.retries.pop();
            } else {
                self.deadlines.pop_front();
            }
            let place = deadline.xid as usize & (self.slots.len() - 1);
            let slot = &self.slots[place];
            let waits = matches!(slot.state, State::Selecting | State::Requesting);
            if !waits || slot.xid != deadline.xid || slot.sent_ns != deadline.sent_ns {
                continue;
            }
            if self.phase.retries { self.try_again(place, now_ns, outbox) } else { self.lose(place) }
        }
    }

    /// When the next reply is given up, if one is waited for; may be early.
    pub fn next_timeout_ns(&self) -> Option<u64> {
        self.next_deadline().map(|deadline| deadline.at_ns)
    }

    fn next_deadline(&self) -> Option<Deadline> {
        if self.phase.retries {
            self.retries.peek().map(|deadline| deadline.0)
        } else {
            self.deadlines.front().copied()
        }
    }

    /// Gives up everything under way: the run is over.
    pub fn give_up_all(&mut self) {
        for place in 0..self.slots.len() {
            if matches!(self.slots[place].state, State::Selecting | State::Requesting) {
                self.lose(place);
            }
        }
    }

    fn take_offer(&mut self, place: usize, reply: &Reply, now_ns: u64, outbox: &mut Outbox) {
        let slot = &mut self.slots[place];
        if slot.measured {
            self.recorder.counters.offers += 1;
            self.recorder.latencies.offer.record(now_ns.saturating_sub(slot.due_ns));
            self.recorder.latencies.offer_raw.record(now_ns.saturating_sub(slot.sent_ns));
        }
        slot.due_ns = now_ns;
        if self.parts.offer_only {
            return self.complete(place, now_ns);
        }
        slot.state = State::Requesting;
        slot.exchange = Exchange::Dora;
        slot.attempts = 0;
        slot.address = reply.yiaddr;
        slot.server = reply.server;
        self.transmit(place, now_ns, outbox);
    }

    fn take_ack(&mut self, place: usize, reply: &Reply, now_ns: u64, outbox: &mut Outbox) {
        let slot = self.slots[place];
        if slot.measured {
            let Recorder { counters, latencies, .. } = &mut self.recorder;
            counters.acks += 1;
            counters.wrong_server +=
                u64::from(slot.exchange == Exchange::Dora && reply.server != slot.server);
            latencies.ack.record(now_ns.saturating_sub(slot.due_ns));
            latencies.ack_raw.record(now_ns.saturating_sub(slot.sent_ns));
            self.recorder.served_by(reply.server);
        }
        let client = slot.client as usize;
        if self.clients[client].address != reply.yiaddr {
            self.let_go(client);
        }
        let number = self.number_of(slot.client);
        let now_s = (now_ns / 1_000_000_000) as u32;
        let until_s = ((slot.sent_ns / 1_000_000_000) as u32).saturating_add(reply.lifetime_s);
        // Duplicates count from the first packet on: no warm-up excuses them.
        match self.parts.claims.claim(reply.yiaddr, number, now_s, until_s) {
            Claimed::Alone => {}
            Claimed::Duplicate => self.recorder.counters.duplicates += 1,
            Claimed::Unchecked => self.recorder.counters.unchecked += 1,
        }
        self.clients[client].address = reply.yiaddr;
        self.clients[client].server = reply.server;
        self.complete(place, now_ns);
        if self.phase.releases {
            self.recorder.counters.releases += u64::from(slot.measured);
            self.slots[place].exchange = Exchange::Release;
            self.slots[place].address = reply.yiaddr;
            self.slots[place].server = reply.server;
            self.push(place, now_ns, outbox);
            self.let_go(client);
        }
    }

    fn complete(&mut self, place: usize, now_ns: u64) {
        let slot = self.slots[place];
        if slot.measured {
            self.recorder.completed(slot.planned_ns, slot.first_sent_ns, now_ns);
        }
        self.end(place, State::Done);
    }

    fn try_again(&mut self, place: usize, now_ns: u64, outbox: &mut Outbox) {
        let slot = &mut self.slots[place];
        self.recorder.counters.retransmissions += u64::from(slot.measured);
        if slot.attempts >= ATTEMPTS_MAX && slot.state == State::Requesting {
            // The client falls back as RFC 2131 figure 5 has it: renewing, rebinding, then from the
            // beginning.
            slot.attempts = 0;
            if slot.exchange == Exchange::Renew {
                slot.exchange = Exchange::Rebind;
            } else {
                slot.state = State::Selecting;
                slot.exchange = Exchange::Dora;
            }
        }
        self.transmit(place, now_ns, outbox);
    }

    /// The client was refused: it goes back to the beginning (RFC 2131 section 3.1), not at once, so that a server
    /// that refuses everything is not asked without end.
    fn begin_anew(&mut self, place: usize, now_ns: u64) {
        let slot = &mut self.slots[place];
        slot.state = State::Selecting;
        slot.exchange = Exchange::Dora;
        slot.attempts = 0;
        slot.sent_ns = now_ns;
        let at_ns = now_ns.saturating_add(AFTER_NAK_NS);
        self.retries.push(Reverse(Deadline { at_ns, sent_ns: now_ns, xid: slot.xid }));
    }

    fn lose(&mut self, place: usize) {
        let slot = &self.slots[place];
        let one = u64::from(slot.measured);
        match slot.state {
            State::Selecting => self.recorder.counters.offers_missing += one,
            _ => self.recorder.counters.acks_missing += one,
        }
        self.end(place, State::Lost);
    }

    fn end(&mut self, place: usize, state: State) {
        self.slots[place].state = state;
        self.under_way -= 1;
        let client = &mut self.clients[self.slots[place].client as usize];
        client.busy = client.busy.saturating_sub(1);
    }

    /// The client holds nothing any more.
    fn let_go(&mut self, client: usize) {
        let address = std::mem::replace(&mut self.clients[client].address, Ipv4Addr::UNSPECIFIED);
        if !address.is_unspecified() {
            self.parts.claims.release(address, self.number_of(client as u32));
        }
    }

    /// Sends what the slot's state asks for and waits for the answer.
    fn transmit(&mut self, place: usize, now_ns: u64, outbox: &mut Outbox) {
        let slot = &mut self.slots[place];
        slot.sent_ns = now_ns;
        let level = usize::from(slot.attempts).min(BACKOFF_NS.len() - 1);
        slot.attempts = slot.attempts.saturating_add(1);
        let xid = slot.xid;
        if slot.state != State::Requesting || slot.exchange != Exchange::Release {
            let deadline = |wait_ns| Deadline { at_ns: now_ns.saturating_add(wait_ns), sent_ns: now_ns, xid };
            if self.phase.retries {
                let wait_ns = jittered(BACKOFF_NS[level], xid, slot.attempts);
                self.retries.push(Reverse(deadline(wait_ns)));
            } else {
                self.deadlines.push_back(deadline(self.parts.drop_ns));
            }
        }
        self.push(place, now_ns, outbox);
    }

    fn push(&mut self, place: usize, now_ns: u64, outbox: &mut Outbox) {
        let slot = &self.slots[place];
        let client = self.number_of(slot.client);
        let (message, unicast) = match (slot.exchange, slot.state) {
            (Exchange::Dora, State::Selecting) => (Message::Discover, false),
            (Exchange::Dora, _) => (Message::Select, false),
            (Exchange::Reboot, _) => (Message::Reboot, false),
            (Exchange::Rebind, _) => (Message::Extend, false),
            (Exchange::Release, _) => (Message::Release, true),
            (Exchange::Renew, _) => (Message::Extend, true),
        };
        let relays = &self.parts.relays;
        let giaddr =
            if relays.is_empty() { Ipv4Addr::UNSPECIFIED } else { relays[client as usize % relays.len()] };
        let answers = matches!(message, Message::Extend | Message::Release);
        let fields = Fields {
            client,
            xid: slot.xid,
            secs: (now_ns.saturating_sub(slot.first_sent_ns) / 1_000_000_000).min(0xffff) as u16,
            address: slot.address,
            server: slot.server,
            giaddr,
        };
        let route = Route {
            mac: self.parts.templates.mac(client),
            source: if answers { slot.address } else { Ipv4Addr::UNSPECIFIED },
            server: unicast.then_some(slot.server),
            giaddr,
        };
        let templates = &self.parts.templates;
        let fits = outbox.push(route, |octets| templates.write(message, &fields, octets));
        debug_assert!(fits, "the caller makes room");
    }

    /// Number of a client among those of all senders.
    fn number_of(&self, client: u32) -> u32 {
        client * u32::from(self.parts.sender.1) + u32::from(self.parts.sender.0)
    }
}

/// `wait_ns` give or take a second, as RFC 2131 section 4.1 asks, so that those who began together part.
fn jittered(wait_ns: u64, xid: u32, attempts: u8) -> u64 {
    let spread = u64::from(xid ^ (u32::from(attempts) << 24)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    wait_ns - JITTER_NS + spread % (2 * JITTER_NS)
}

#[cfg(test)]
mod tests;
