//! Virtual time, the events and their order, the life of a run.
//!
//! Everything that happens is an event at a true time in nanoseconds; what happens at one time happens in the order
//! it was scheduled. All chance comes from one generator, so a seed is a run, and the hash of a run is a number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;
use shards::{Now, Topology};
use tandem::ha::command::HaCommand;
use tandem::ha::{Event as HaEvent, OwnState, PartnerState, Role};
use tandem::http::server::ServerConnection;
use tandem::wire::Query;

use super::links::{Cut, Links, host_of, place_of, seat_of};
use super::plan::{Plan, Plant};
use super::population::Member;
use super::sender::Worker;
use super::server::{End, PRIMARY, Process, Server, WORKERS_PER_PEER};
use super::stream::{Piece, StreamId, Streams, Way};
use crate::sim::checks::Checks;
use crate::sim::checks::serving::serves;
use crate::sim::tally::{EventHash, Tally};

pub const NS_PER_MS: u64 = 1_000_000;
pub const NS_PER_S: u64 = 1_000 * NS_PER_MS;
/// More events than any run needs: one that goes on is a loop.
const EVENTS_MAX: u64 = 3_000_000;
/// A connection attempt that finds no host is repeated after this long.
const KNOCK_AGAIN_NS: u64 = NS_PER_S;
/// What a cut link holds back is tried again after this long.
const SEND_AGAIN_NS: u64 = 100 * NS_PER_MS;

#[derive(Debug)]
pub enum Event {
    Chance,
    ClientWake { member: usize },
    Connected { stream: StreamId },
    DiskSync { server: usize, life: u32, shard: usize },
    DiskWrite { server: usize, life: u32, shard: usize },
    Flow { stream: StreamId, way: Way },
    Heal,
    Mend { ways: Vec<Cut> },
    KeaAnswer { server: usize, life: u32, stream: StreamId, body: Vec<u8> },
    Knock { stream: StreamId },
    Lane { server: usize, life: u32, lane: usize },
    Operator { server: usize, life: u32, command: HaCommand },
    Refused { stream: StreamId },
    Reload { server: usize, life: u32 },
    Reset { stream: StreamId, way: Way },
    Room { server: usize },
    Start { server: usize },
    ToClient { bytes: Vec<u8>, ack: Option<usize> },
    ToServer { server: usize, link: usize, source: Ipv4Addr, unicast: bool, bytes: Vec<u8> },
    Wake { server: usize, life: u32 },
}

struct Scheduled {
    at_ns: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub hash: u64,
    pub tally: Tally,
    /// The first thing that did not hold.
    pub violation: Option<String>,
}

pub struct Simulation {
    pub plan: Plan,
    /// True time.
    pub now_ns: u64,
    pub servers: Vec<Server>,
    pub streams: Streams,
    pub links: Links,
    pub population: Vec<Member>,
    pub checks: Checks,
    pub tally: Tally,
    /// Nothing goes wrong any more.
    pub calm: bool,
    /// Clients say nothing any more.
    pub silent: bool,
    /// The state of the Kea, if one of them is one.
    pub kea_state: Option<PartnerState>,
    hash: EventHash,
    tracing: bool,
    random: Pcg32,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
}

impl Simulation {
    /// Runs a seed to its end; with `tracing` it tells what happens on the standard output.
    pub fn run(seed: u64, plant: Option<Plant>, tracing: bool) -> Outcome {
        let plan = Plan::new(seed, plant);
        let mut simulation = Self {
            plan,
            now_ns: NS_PER_S,
            servers: (0..plan.servers()).map(|server| Server::new(&plan, server)).collect(),
            streams: Streams::default(),
            links: Links::default(),
            population: Vec::new(),
            checks: Checks::new(plan.one_suffers.map(|link| 1 - link)),
            tally: Tally::default(),
            calm: false,
            silent: false,
            kea_state: None,
            hash: EventHash::default(),
            tracing,
            random: Pcg32::new(seed, 2),
            queue: BinaryHeap::new(),
            scheduled: 0,
        };
        simulation.trace(|| format!("{plan:?}"));
        let violation = simulation.live().err();
        let Self { hash, mut tally, checks, .. } = simulation;
        tally.excused += checks.excused();
        tally.withstood += checks.overtaken.withstood;
        tally.overtaken += checks.overtaken.excused;
        Outcome { hash: hash.value(), tally, violation }
    }

    fn live(&mut self) -> Result<(), String> {
        self.schedule(0, Event::Start { server: PRIMARY });
        for server in 1..self.servers.len() {
            let delay_ns = self.draw(3 * NS_PER_S);
            self.schedule(delay_ns, Event::Start { server });
        }
        self.populate();
        self.schedule(5 * NS_PER_S, Event::Chance);
        self.schedule(self.plan.chaos_ms * NS_PER_MS, Event::Heal);
        let healed_ns = self.now_ns + self.plan.chaos_ms * NS_PER_MS;
        self.run_until(healed_ns + 1)?;
        self.converge()
    }

    /// Runs everything up to `until_ns`.
    pub fn run_until(&mut self, until_ns: u64) -> Result<(), String> {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at_ns > until_ns {
                break;
            }
            let Some(Reverse(Scheduled { at_ns, event, .. })) = self.queue.pop() else { break };
            self.now_ns = at_ns;
            self.tally.events += 1;
            assert!(self.tally.events < EVENTS_MAX, "the world does not come to rest");
            self.handle(event);
            for server in 0..self.servers.len() {
                self.arm(server);
            }
            self.watch();
            self.checks.verdict()?;
        }
        self.now_ns = self.now_ns.max(until_ns);
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        self.hash.add(&self.now_ns.to_be_bytes());
        if self.is_stale(&event) {
            return;
        }
        if let Some(until_ns) = self.paused_until(&event) {
            return self.schedule(until_ns - self.now_ns, event);
        }
        match event {
            Event::Chance => self.take_chance(),
            Event::ClientWake { member } => self.client_wakes(member),
            Event::Connected { stream } => {
                if let Some((server, worker)) = self.opener(stream) {
                    self.connected(server, worker, stream);
                }
            }
            Event::DiskSync { server, shard, .. } => self.finish_sync(server, shard),
            Event::DiskWrite { server, shard, .. } => self.finish_write(server, shard),
            Event::Flow { stream, way } => self.flow(stream, way),
            Event::Heal => self.heal(),
            Event::Mend { ways } => self.mend(&ways),
            Event::KeaAnswer { server, stream, body, .. } => self.respond(server, stream, &body),
            Event::Knock { stream } => self.knocked(stream),
            Event::Lane { server, lane, .. } => self.step_lane(server, lane),
            Event::Refused { stream } => {
                if let Some((server, worker)) = self.opener(stream) {
                    self.refused(server, worker, stream);
                }
            }
            Event::Operator { server, command, .. } => self.operate(server, command),
            Event::Reload { server, .. } => self.correct(server),
            Event::Reset { stream, way } => self.reset(stream, way),
            Event::Room { server } => {
                self.servers[server].disk.full = false;
                self.checks.overtaken.harmed(self.now_ns, server);
            }
            Event::Start { server } => self.start(server),
            Event::ToClient { bytes, ack } => self.client_hears(&bytes, ack),
            Event::ToServer { server, link, source, unicast, bytes } => {
                self.record(&[b"query", &[server as u8], &bytes]);
                self.trace(|| format!("to server{}: {}", server + 1, described(&bytes)));
                self.note_stale_request(link, &bytes);
                match self.servers[server].kea {
                    Some(_) => self.kea_receives(server, &bytes),
                    None => self.receive(server, link, source, unicast, &bytes),
                }
            }
            Event::Wake { server, .. } => self.wake(server),
        }
    }

    /// Whether the event belongs to a process that is no more.
    fn is_stale(&self, event: &Event) -> bool {
        match event {
            Event::DiskSync { server, life, .. }
            | Event::DiskWrite { server, life, .. }
            | Event::KeaAnswer { server, life, .. }
            | Event::Lane { server, life, .. }
            | Event::Operator { server, life, .. }
            | Event::Reload { server, life }
            | Event::Wake { server, life } => self.servers[*server].life != *life,
            _ => false,
        }
    }

    /// Until when an event waits because the process it is for is stopped.
    fn paused_until(&self, event: &Event) -> Option<u64> {
        let server = match event {
            Event::DiskSync { server, .. }
            | Event::DiskWrite { server, .. }
            | Event::KeaAnswer { server, .. }
            | Event::Lane { server, .. }
            | Event::Operator { server, .. }
            | Event::ToServer { server, .. }
            | Event::Wake { server, .. } => *server,
            Event::Flow { stream, way } | Event::Reset { stream, way } => {
                self.streams.get(*stream)?.ends(*way).1
            }
            Event::Connected { stream } | Event::Refused { stream } => self.streams.get(*stream)?.opener,
            _ => return None,
        };
        Some(self.servers[server].paused_until_ns).filter(|until_ns| *until_ns > self.now_ns)
    }

    // ---- processes ------------------------------------------------------------------------------------------

    /// Starts a server that is down: from its lease file, as the real one.
    fn start(&mut self, server: usize) {
        if self.servers[server].is_up() {
            return;
        }
        if let Some((_, version)) = self.plan.kea.filter(|(kea, _)| *kea == server) {
            return self.start_kea(server, version);
        }
        let now = self.clock_of(server);
        let host = &mut self.servers[server];
        let possible = host.disk.possible();
        let is_behind = host.behind.iter().any(Option::is_some);
        let deletions = if is_behind { host.disk.deletions() } else { Vec::new() };
        let leases = match host.disk.boot(is_behind) {
            Ok((leases, _)) => leases,
            Err(error) => return self.checks.fail(format!("server{} cannot start: {error}", server + 1)),
        };
        for place in 0..self.plan.places(server) {
            self.checks.serving.started(seat_of(server, place));
            self.checks.overtaken.started(seat_of(server, place));
        }
        self.checks.replayed_is_possible(server, &possible, &leases);
        host.disk.begin(&leases);
        host.life += 1;
        host.powered = true;
        let to_backup = self.plan.peers(server).into_iter().map(|peer| self.plan.is_backup(peer));
        host.workers = to_backup
            .flat_map(|to_backup| {
                (0..WORKERS_PER_PEER as u8).map(move |stream| Worker::new(to_backup, stream))
            })
            .collect();
        host.process = Some(Process::new(&self.plan, server, now, &leases, (host.behind, deletions)));
        self.trace(|| format!("server{} starts with {} leases", server + 1, leases.len()));
        self.check_recovery(server);
        for place in 0..self.plan.places(server) {
            self.feed(seat_of(server, place), HaEvent::Start);
        }
    }

    /// Ends a process without warning; with the power goes what was not synced.
    pub fn crash(&mut self, server: usize, power: bool) {
        let (cut, chance) = (self.random_u64(), self.random_u64());
        let host = &mut self.servers[server];
        if !host.is_up() {
            return;
        }
        let process = host.process.take();
        host.end();
        for place in 0..self.plan.places(server) {
            self.checks.overtaken.note(self.now_ns, seat_of(server, place), false);
        }
        let host = &mut self.servers[server];
        host.kea_disk.boot(power);
        self.tally.crashes += 1;
        let journals = process.iter().flat_map(|process| &process.journals);
        let in_flight = journals.filter(|journal| journal.written_to.is_none());
        for batch in in_flight.filter_map(|journal| journal.batch.as_ref()) {
            if cut % 3 > 0 {
                host.disk.write_part(&batch.bytes, (cut >> 8) as usize % (batch.bytes.len() + 1));
            }
        }
        if power {
            self.streams.lose_power(server);
            let unsynced = host.disk.file.len() - host.disk.synced;
            host.disk.lose_power(chance as usize % (unsynced + 1), chance >> 32 & 7 == 0);
        }
        self.tally.torn += u64::from(host.disk.is_torn());
        host.powered = !power;
        let torn = host.disk.is_torn();
        let what = if power { "loses power" } else { "is killed" };
        self.trace(|| format!("server{} {what}, torn: {torn}", server + 1));
        if !power {
            for stream in self.streams.ids() {
                self.schedule(NS_PER_MS, Event::Reset { stream, way: Way::ToListener });
                self.schedule(NS_PER_MS, Event::Reset { stream, way: Way::ToOpener });
            }
        }
        let down_ns = 200 * NS_PER_MS + self.draw(20 * NS_PER_S);
        self.schedule(down_ns, Event::Start { server });
    }

    /// Looks whether the machine is in another state, and whether the pair is whole.
    pub fn note_state(&mut self, seat: usize) {
        let (now_ns, link) = (self.now_ns, self.plan.link_of(seat));
        let monotonic_ns = self.clock_of(host_of(seat)).monotonic_ns;
        let Some(end) = self.end_mut(seat) else { return };
        let state = end.machine.state();
        let from = std::mem::replace(&mut end.state, state);
        let changed = from != state;
        // Scopes named by hand have no part in whether clients are served in a state, but in whose.
        let by_hand = end.scopes_by_hand.as_ref().map(|scopes| {
            let someone = Role::Primary;
            !scopes.is_empty() && serves(state, someone)
        });
        let serves = by_hand.unwrap_or_else(|| serves(state, end.machine.relationship().role));
        self.checks.serving.note(seat, monotonic_ns, serves);
        self.note_service(seat);
        if changed {
            self.record(&[b"state", &[seat as u8], state.name().as_bytes()]);
            self.tally.syncs += u64::from(state == OwnState::Ready);
            self.tally.recoveries += u64::from(state == OwnState::CommunicationRecovery);
            self.tally.maintenances += u64::from(state == OwnState::PartnerInMaintenance);
            self.tally.terminations += u64::from(state == OwnState::Terminated);
            self.checks.holders[link].state_changed(now_ns, seat, state);
            self.checks.apart.entered(link, state);
            if state == OwnState::PartnerDown {
                self.note_take_over(seat, from);
            }
        }
        if self.is_united(link) {
            self.checks.holders[link].reunited(now_ns);
            self.checks.apart.united(link, now_ns);
        }
    }

    /// The servers of a relationship that are no backups serve as a pair, or as one.
    fn is_united(&self, link: usize) -> bool {
        let normal = match self.plan {
            Plan { passive: true, .. } => PartnerState::PassiveBackup,
            Plan { balancing: true, .. } => PartnerState::LoadBalancing,
            _ => PartnerState::HotStandby,
        };
        let mut seats = self.plan.seats_on(link).filter(|seat| !self.plan.is_backup(host_of(*seat)));
        seats.all(|seat| self.state(seat) == Some(normal))
    }

    /// What its partner sees of the state of a seat's machine; none while its server is down.
    pub fn state(&self, seat: usize) -> Option<PartnerState> {
        self.servers[host_of(seat)].state(place_of(seat))
    }

    /// A seat's end of its relationship, while its server is up.
    pub fn end(&self, seat: usize) -> Option<&End> {
        self.servers[host_of(seat)].process.as_ref().map(|process| &process.ends[place_of(seat)])
    }

    /// The same, to be changed.
    pub fn end_mut(&mut self, seat: usize) -> Option<&mut End> {
        self.servers[host_of(seat)].process.as_mut().map(|process| &mut process.ends[place_of(seat)])
    }

    /// The nodes of its server.
    pub fn topology_at(&self, seat: usize) -> Option<Topology> {
        self.servers[host_of(seat)].process.as_ref().map(|process| process.topology)
    }

    /// They do, and their backups are there.
    pub fn is_whole(&self) -> bool {
        let backups = &self.servers[self.plan.active()..];
        let mut links = 0..self.plan.links();
        links.all(|link| self.is_united(link))
            && backups.iter().all(|host| host.state(0) == Some(PartnerState::Backup))
    }

    /// Sees to it that the process is woken for its next deadline.
    fn arm(&mut self, server: usize) {
        let now_ns = self.now_ns;
        let host = &mut self.servers[server];
        if !host.is_up() {
            return;
        }
        let workers = host.workers.iter().filter_map(Worker::next_timeout);
        let connections = host.connections.values().filter_map(ServerConnection::next_timeout);
        let process = host.process.as_ref().and_then(Process::next_timeout);
        let kea = host.kea.as_ref().and_then(|kea| kea.machine.next_timeout());
        let next = process.into_iter().chain(kea).chain(workers).chain(connections).min();
        let Some(at_ns) = next.map(|next| host.clock.true_ns(next).max(now_ns + 1)) else { return };
        if host.wake_ns.is_none_or(|armed| at_ns < armed) {
            host.wake_ns = Some(at_ns);
            let life = host.life;
            self.schedule(at_ns - now_ns, Event::Wake { server, life });
        }
    }

    fn wake(&mut self, server: usize) {
        let host = &mut self.servers[server];
        if host.wake_ns.take_if(|at_ns| *at_ns <= self.now_ns).is_none() {
            return;
        }
        let workers = self.servers[server].workers.len();
        self.run_kea_timers(server);
        self.run_engine_timers(server);
        for seat in (0..self.plan.places(server)).map(|place| seat_of(server, place)) {
            self.run_control_timers(seat);
            self.run_listener_timers(seat);
        }
        self.run_connection_timers(server);
        for worker in 0..workers {
            self.run_worker_timers(server, worker);
        }
    }

    // ---- streams --------------------------------------------------------------------------------------------

    /// A connection is wanted.
    pub fn knock(&mut self, stream: StreamId) {
        let delay_ns = self.latency_ns();
        self.schedule(delay_ns, Event::Knock { stream });
    }

    fn knocked(&mut self, stream: StreamId) {
        if self.opener(stream).is_none() {
            return;
        }
        let Some((from, to)) = self.streams.get(stream).map(|stream| stream.ends(Way::ToListener)) else {
            return;
        };
        let now_ns = self.clock_of(to).monotonic_ns;
        let both_ways = [Cut::Between(from, to), Cut::Between(to, from)];
        let host = &mut self.servers[to];
        if both_ways.into_iter().any(|way| !self.links.is_open(way)) || !host.powered {
            return self.schedule(KNOCK_AGAIN_NS, Event::Knock { stream });
        }
        let delay_ns = 100_000;
        if !host.is_up() {
            return self.schedule(delay_ns, Event::Refused { stream });
        }
        host.connections.insert(stream, ServerConnection::new(now_ns).taking_octets());
        let life = host.life;
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.listener_life = life;
        }
        self.schedule(delay_ns, Event::Connected { stream });
    }

    /// Server and worker at the opening end, if they are still those that opened it.
    fn opener(&self, stream: StreamId) -> Option<(usize, usize)> {
        let stream = self.streams.get(stream)?;
        (self.servers[stream.opener].life == stream.opener_life).then_some((stream.opener, stream.worker))
    }

    /// The server at the listening end, if it is still the one that accepted.
    fn acceptor(&self, stream: StreamId) -> Option<usize> {
        let stream = self.streams.get(stream)?;
        let server = stream.listener;
        (self.servers[server].life == stream.listener_life).then_some(server)
    }

    /// Sends bytes in pieces of any size.
    pub fn write_stream(&mut self, stream: StreamId, way: Way, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let whole = self.chance(700);
            let len = if whole { rest.len() } else { 1 + self.draw(rest.len() as u64) as usize };
            let (piece, tail) = rest.split_at(len.min(rest.len()));
            self.write_piece(stream, way, Piece::Bytes(piece.to_vec()));
            rest = tail;
        }
    }

    pub fn write_piece(&mut self, stream: StreamId, way: Way, piece: Piece) {
        let arrives_ns = self.now_ns + self.latency_ns();
        if let Some(at_ns) = self.streams.push(stream, way, piece, arrives_ns) {
            self.schedule(at_ns - self.now_ns, Event::Flow { stream, way });
        }
    }

    fn flow(&mut self, stream: StreamId, way: Way) {
        let Some((from, to)) = self.streams.get(stream).map(|stream| stream.ends(way)) else { return };
        if !self.links.is_open(Cut::Between(from, to)) {
            return self.schedule(SEND_AGAIN_NS, Event::Flow { stream, way });
        }
        let Some(piece) = self.streams.pop(stream, way) else { return };
        if let Piece::Bytes(bytes) = &piece {
            self.record(&[b"piece", bytes]);
        }
        match (way, self.opener(stream), self.acceptor(stream)) {
            (Way::ToListener, _, Some(server)) => self.listener_input(server, stream, piece),
            (Way::ToOpener, Some((server, worker)), _) => self.worker_input(server, worker, stream, piece),
            // The host has come up again and knows nothing of the stream.
            _ => {
                let back = if way == Way::ToListener { Way::ToOpener } else { Way::ToListener };
                if self.servers[to].powered {
                    self.schedule(NS_PER_MS, Event::Reset { stream, way: back });
                }
            }
        }
    }

    fn reset(&mut self, stream: StreamId, way: Way) {
        let Some((from, to)) = self.streams.get(stream).map(|stream| stream.ends(way)) else { return };
        if !self.links.is_open(Cut::Between(from, to)) {
            return self.schedule(SEND_AGAIN_NS, Event::Reset { stream, way });
        }
        match way {
            Way::ToOpener => {
                let opener = self.opener(stream);
                self.streams.remove(stream);
                if let Some((server, worker)) = opener {
                    self.worker_reset(server, worker, stream);
                }
            }
            Way::ToListener => {
                if let Some(server) = self.acceptor(stream) {
                    self.servers[server].connections.remove(&stream);
                }
            }
        }
    }

    fn latency_ns(&mut self) -> u64 {
        if !self.calm && self.chance(self.plan.stalled_permille) {
            return 500 * NS_PER_MS + self.draw(6 * NS_PER_S);
        }
        50_000 + self.draw(400_000)
    }

    // ---- time, chance and record ----------------------------------------------------------------------------

    pub fn schedule(&mut self, delay_ns: u64, event: Event) {
        self.scheduled += 1;
        let scheduled = Scheduled { at_ns: self.now_ns + delay_ns, number: self.scheduled, event };
        self.queue.push(Reverse(scheduled));
    }

    pub fn clock_of(&self, server: usize) -> Now {
        self.servers[server].clock.now(self.now_ns)
    }

    pub fn random_u64(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// A number below `below`, which is not 0.
    pub fn draw(&mut self, below: u64) -> u64 {
        self.random_u64() % below
    }

    pub fn chance(&mut self, permille: u32) -> bool {
        self.draw(1000) < u64::from(permille)
    }

    /// Adds to the hash of the run.
    pub fn record(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.hash.add(part);
        }
    }

    pub fn trace(&self, text: impl FnOnce() -> String) {
        if self.tracing {
            let mut line = String::new();
            // Writing to a string does not fail.
            let _ = write!(line, "{:>12.6} {}", self.now_ns as f64 / NS_PER_S as f64, text());
            println!("{line}");
        }
    }
}

/// A query in a few words.
fn described(bytes: &[u8]) -> String {
    let Ok(query) = Query::decode(bytes) else { return "what cannot be read".to_owned() };
    let kind = query.message_type().map_or_else(String::new, |kind| format!("{kind:?}"));
    let (chaddr, ciaddr, wanted) = (query.chaddr(), query.ciaddr(), query.requested_address());
    format!("{kind} of {chaddr:02x?}, ciaddr {ciaddr}, wants {wanted:?}, xid {:08x}", query.xid())
}
