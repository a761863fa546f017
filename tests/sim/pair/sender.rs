//! The sending end of the HA link: one request in flight on each connection, through the real HTTP client.
//!
//! It does what the send executors do: updates wait in the real outbox, as many as the partner takes go in one
//! request, a request that meets a connection closed while idle is sent once more, everything is answered, be it with a
//! failure. A backup that cannot be reached is left alone for a moment, and what it does not take is noted.

use std::collections::VecDeque;

use shards::{Lane, NodeId};
use tandem::engine::message::{Message, PartnerCall, PartnerUpdate, UpdateOutcome};
use tandem::ha::event::exchange_limit_ms;
use tandem::ha::outbox::{self, Outbox, Taken, Waiting};
use tandem::http::client::{ClientConnection, ClientError, Response, Target};
use tandem::limits::{BACKUP_WAITING_MAX, SENDER_WAITING_MAX};

use super::plan::Plant;
use super::server::{call_worker, first_sender, peer_of, place_of_sender, update_worker};
use super::simulation::Simulation;
use super::stream::{Piece, StreamId, Way};

const CONNECT_WITHIN_MS: u64 = 10_000;
const NS_PER_MS: u64 = 1_000_000;
/// A backup that could not be reached is not tried again for this time.
const LEFT_ALONE_NS: u64 = 1_000_000_000;

/// One connection and what waits for it: updates or calls.
pub struct Worker {
    outbox: Outbox,
    calls: VecDeque<Box<PartnerCall>>,
    active: Option<Active>,
    open: Option<(StreamId, ClientConnection)>,
    /// The stream being opened, and when patience ends.
    connecting: Option<(StreamId, u64)>,
    /// A backup that could not be reached is not tried before this, on the monotonic clock.
    left_alone_until_ns: u64,
}

/// What a request carries.
enum Load {
    Call(Box<PartnerCall>),
    Updates(Vec<Waiting>),
}

struct Active {
    load: Load,
    body: Vec<u8>,
    timeout_ms: u64,
    /// When it is given up however its answer trickles, on the monotonic clock.
    until_ns: u64,
    retried: bool,
    /// Set when the answer was made up by a planted fault.
    answered: bool,
}

impl Active {
    fn new(now_ns: u64, load: Load, body: Vec<u8>, timeout_ms: u64, limit_ms: u64) -> Self {
        let until_ns = now_ns + limit_ms * NS_PER_MS;
        Self { load, body, timeout_ms, until_ns, retried: false, answered: false }
    }
}

impl Worker {
    pub fn new(to_backup: bool, stream: u8) -> Self {
        let outbox = match to_backup {
            true => Outbox::for_backup(BACKUP_WAITING_MAX),
            false => Outbox::new(SENDER_WAITING_MAX, stream),
        };
        let calls = VecDeque::new();
        Self { outbox, calls, active: None, open: None, connecting: None, left_alone_until_ns: 0 }
    }

    /// Whether what the active request carries must not be sent any more.
    fn is_overtaken(&self, now_ns: u64) -> bool {
        match &self.active {
            Some(Active { load: Load::Updates(taken), .. }) => !self.outbox.is_wanted(now_ns, taken),
            _ => false,
        }
    }

    /// How much it has to do.
    pub fn load(&self) -> usize {
        self.calls.len() + usize::from(self.active.is_some())
    }

    /// When this worker wants to be looked at, on the monotonic clock.
    pub fn next_timeout(&self) -> Option<u64> {
        let connecting = self.connecting.as_ref().map(|(_, until_ns)| *until_ns);
        let open = self.open.as_ref().and_then(|(_, http)| http.next_timeout());
        let active = self.active.as_ref().map(|active| active.until_ns);
        connecting.into_iter().chain(open).chain(active).min()
    }
}

impl Simulation {
    /// A message has come to an HA send executor.
    pub fn sender_message(&mut self, server: usize, node: NodeId, message: Message) {
        let now_ns = self.clock_of(server).monotonic_ns;
        let Some(process) = &self.servers[server].process else { return };
        let topology = process.topology;
        let host = &mut self.servers[server];
        let (place, sender) = place_of_sender(node.0 - topology.sender(0).0);
        // A hub has connections to the one peer of each relationship.
        let peers =
            if self.plan.hub { place as u8..place as u8 + 1 } else { 0..self.plan.peers(server).len() as u8 };
        let mut failed = Vec::new();
        let worker = match message {
            Message::Update(update) => {
                let worker = update_worker(peers.start + update.peer, sender);
                failed.extend(host.workers[worker].outbox.push(now_ns, update).err());
                worker
            }
            Message::Partner(call) => {
                let worker = call_worker(peers.start + call.peer, call.line);
                host.workers[worker].calls.push_back(call);
                worker
            }
            Message::HaView(view) => {
                let mut overtaken = Vec::new();
                let first = peers.start;
                for peer in peers {
                    host.workers[update_worker(peer, sender)].outbox.set_view(&view, &mut overtaken);
                }
                failed.extend(overtaken.into_iter().map(|waiting| waiting.update));
                update_worker(first, sender)
            }
            other => panic!("a sender does not take {other:?}"),
        };
        for update in failed {
            self.return_update(server, update, UpdateOutcome::Failed);
        }
        self.work(server, worker);
    }

    /// A call for a worker.
    pub fn hand_call(&mut self, server: usize, worker: usize, call: Box<PartnerCall>) {
        self.servers[server].workers[worker].calls.push_back(call);
        self.work(server, worker);
    }

    /// Takes up what an idle worker does next.
    fn work(&mut self, server: usize, worker: usize) {
        let now_ns = self.clock_of(server).monotonic_ns;
        loop {
            let Some(state) = self.worker(server, worker) else { return };
            if state.active.is_some() {
                return;
            }
            let mut taken = Vec::new();
            let left_alone = now_ns < state.left_alone_until_ns;
            let active = match state.outbox.take(now_ns, &mut taken) {
                Taken::Batch(_) | Taken::Late if left_alone => {
                    self.updates_ended(server, worker, taken, None);
                    continue;
                }
                Taken::Batch(timeout_ms) => {
                    let mut body = Vec::new();
                    state.outbox.write_request(&taken, &mut body);
                    Active::new(now_ns, Load::Updates(taken), body, timeout_ms, timeout_ms)
                }
                Taken::Late => {
                    self.updates_ended(server, worker, taken, None);
                    continue;
                }
                Taken::Nothing => {
                    let Some(call) = state.calls.pop_front() else { return };
                    if call.body.is_empty() {
                        self.close_connection(server, worker);
                        continue;
                    }
                    let (body, timeout_ms) = (call.body.clone(), call.timeout_ms);
                    Active::new(now_ns, Load::Call(call), body, timeout_ms, exchange_limit_ms(timeout_ms))
                }
            };
            state.active = Some(active);
            self.attempt(server, worker);
        }
    }

    fn worker(&mut self, server: usize, worker: usize) -> Option<&mut Worker> {
        self.servers[server].workers.get_mut(worker)
    }

    /// Sends the active item on the connection there is, or connects.
    fn attempt(&mut self, server: usize, worker: usize) {
        let now_ns = self.clock_of(server).monotonic_ns;
        let life = self.servers[server].life;
        let Some(state) = self.worker(server, worker) else { return };
        if state.is_overtaken(now_ns) {
            return self.finish(server, worker, Err("overtaken".to_owned()));
        }
        if state.open.as_ref().is_some_and(|(_, http)| http.is_usable(now_ns)) {
            return self.send_request(server, worker);
        }
        self.close_connection(server, worker);
        let listener = self.plan.peers(server)[peer_of(worker)];
        let stream = self.streams.open(listener, server, worker, life);
        let Some(state) = self.worker(server, worker) else { return };
        let timeout_ms = state.active.as_ref().map_or(0, |active| active.timeout_ms);
        let within_ms = if timeout_ms == 0 { CONNECT_WITHIN_MS } else { CONNECT_WITHIN_MS.min(timeout_ms) };
        state.connecting = Some((stream, now_ns + within_ms * NS_PER_MS));
        self.knock(stream);
    }

    fn send_request(&mut self, server: usize, worker: usize) {
        let now_ns = self.clock_of(server).monotonic_ns;
        let lies = self.plan.plant == Some(Plant::AckBeforePartner);
        let Some(state) = self.worker(server, worker) else { return };
        if state.is_overtaken(now_ns) {
            return self.finish(server, worker, Err("overtaken".to_owned()));
        }
        let (Some((stream, http)), Some(active)) = (&mut state.open, &mut state.active) else { return };
        let mut output = Vec::new();
        http.send(now_ns, &active.body, active.timeout_ms, &mut output);
        let stream = *stream;
        let mut made_up = Vec::new();
        if let Load::Updates(taken) = &active.load
            && lies
            && !active.answered
        {
            active.answered = true;
            let answer = |waiting: &Waiting| {
                Box::new(PartnerUpdate { lease: waiting.update.lease.clone(), ..*waiting.update })
            };
            made_up.extend(taken.iter().map(answer));
        }
        self.write_stream(stream, Way::ToListener, &output);
        for update in made_up {
            self.return_update(server, update, UpdateOutcome::Acked);
        }
    }

    /// The listener has accepted.
    pub fn connected(&mut self, server: usize, worker: usize, stream: StreamId) {
        let now_ns = self.clock_of(server).monotonic_ns;
        let Some(state) = self.worker(server, worker) else { return };
        if state.connecting.take_if(|(connecting, _)| *connecting == stream).is_none() {
            return;
        }
        let target = Target { host: "partner".to_owned(), auth: None };
        state.open = Some((stream, ClientConnection::new(now_ns, target)));
        self.send_request(server, worker);
    }

    /// Nobody listens there, or nobody answered in time.
    pub fn refused(&mut self, server: usize, worker: usize, stream: StreamId) {
        let Some(state) = self.worker(server, worker) else { return };
        if state.connecting.take_if(|(connecting, _)| *connecting == stream).is_some() {
            self.streams.remove(stream);
            self.finish(server, worker, Err("connection refused".to_owned()));
        }
    }

    /// Bytes, or the end of the stream, have come from the listener.
    pub fn worker_input(&mut self, server: usize, worker: usize, stream: StreamId, piece: Piece) {
        let now_ns = self.clock_of(server).monotonic_ns;
        let Some(state) = self.worker(server, worker) else { return };
        let Some((_, http)) = state.open.as_mut().filter(|(open, _)| *open == stream) else { return };
        let result = match piece {
            Piece::Bytes(bytes) => http.handle_bytes(now_ns, &bytes),
            Piece::End if http.may_retry() => return self.retry(server, worker),
            Piece::End => {
                let idle = http.is_usable(now_ns);
                match http.handle_end() {
                    Ok(None) if idle => return self.close_connection(server, worker),
                    Ok(None) => Err(ClientError::Closed),
                    other => other,
                }
            }
        };
        self.take_result(server, worker, result);
    }

    /// The stream was reset.
    pub fn worker_reset(&mut self, server: usize, worker: usize, stream: StreamId) {
        self.refused(server, worker, stream);
        let Some(state) = self.worker(server, worker) else { return };
        let Some((_, http)) = state.open.as_ref().filter(|(open, _)| *open == stream) else { return };
        if http.may_retry() {
            return self.retry(server, worker);
        }
        let was_active = state.active.is_some();
        self.close_connection(server, worker);
        if was_active {
            self.finish(server, worker, Err("connection reset".to_owned()));
        }
    }

    fn retry(&mut self, server: usize, worker: usize) {
        self.close_connection(server, worker);
        let is_kea = self.servers[server].kea.is_some();
        let Some(active) = self.worker(server, worker).and_then(|state| state.active.as_mut()) else {
            return;
        };
        // Kea loses a request that meets a close (ha-protocol 2.6).
        if is_kea || std::mem::replace(&mut active.retried, true) {
            return self.finish(server, worker, Err(ClientError::Closed.to_string()));
        }
        self.attempt(server, worker);
    }

    fn take_result(&mut self, server: usize, worker: usize, result: Result<Option<Response>, ClientError>) {
        match result {
            Ok(None) => {}
            Ok(Some(response)) => {
                let dead = self
                    .worker(server, worker)
                    .is_some_and(|state| state.open.as_ref().is_some_and(|(_, http)| http.is_dead()));
                if dead {
                    self.close_connection(server, worker);
                }
                self.finish(server, worker, Ok(response.body));
            }
            Err(error) => {
                self.close_connection(server, worker);
                self.finish(server, worker, Err(error.to_string()));
            }
        }
    }

    /// Looks at the deadlines of a worker.
    pub fn run_worker_timers(&mut self, server: usize, worker: usize) {
        let now_ns = self.clock_of(server).monotonic_ns;
        let Some(state) = self.worker(server, worker) else { return };
        if let Some((stream, until_ns)) = state.connecting
            && until_ns <= now_ns
        {
            return self.refused(server, worker, stream);
        }
        if state.active.as_ref().is_some_and(|active| active.until_ns <= now_ns) {
            if let Some((stream, _)) = state.connecting.take() {
                self.streams.remove(stream);
            }
            self.close_connection(server, worker);
            return self.finish(server, worker, Err(ClientError::TimedOut.to_string()));
        }
        let Some((_, http)) = &mut state.open else { return };
        if http.next_timeout().is_none_or(|at_ns| now_ns < at_ns) {
            return;
        }
        let result = http.handle_timeout(now_ns);
        if let Err(error) = result {
            self.take_result(server, worker, Err(error));
        } else {
            self.close_connection(server, worker);
        }
    }

    fn close_connection(&mut self, server: usize, worker: usize) {
        let Some(state) = self.worker(server, worker) else { return };
        if let Some((stream, _)) = state.open.take() {
            self.write_piece(stream, Way::ToListener, Piece::End);
        }
    }

    /// The exchange is over, one way or the other.
    fn finish(&mut self, server: usize, worker: usize, result: Result<Vec<u8>, String>) {
        let Some(active) = self.worker(server, worker).and_then(|state| state.active.take()) else { return };
        match active.load {
            Load::Updates(_) if active.answered => {}
            Load::Updates(taken) => {
                let now_ns = self.clock_of(server).monotonic_ns;
                if let Some(state) = self.worker(server, worker)
                    && state.outbox.is_for_backup()
                    && result.is_err()
                {
                    state.left_alone_until_ns = now_ns + LEFT_ALONE_NS;
                }
                let outcomes =
                    result.ok().and_then(|answer| outbox::outcomes(&active.body, &answer, taken.len()).ok());
                self.updates_ended(server, worker, taken, outcomes.map(|(outcomes, _)| outcomes));
            }
            Load::Call(mut call) => {
                match result {
                    Ok(body) => call.body = body,
                    Err(failure) => {
                        call.body = Vec::new();
                        call.failure = Some(failure);
                    }
                }
                if self.servers[server].kea.is_some() {
                    self.kea_called_back(server, &call);
                    return self.work(server, worker);
                }
                let Some(process) = &self.servers[server].process else { return };
                let place = if self.plan.hub { peer_of(worker) } else { 0 };
                let (from, to) = (process.topology.sender(first_sender(place)), process.topology.control());
                self.post(server, from, to, Lane::State, Message::Partner(call));
            }
        }
        self.work(server, worker);
    }

    /// Updates were answered, or will not be: `outcomes` says how each of them ended.
    fn updates_ended(
        &mut self,
        server: usize,
        worker: usize,
        taken: Vec<Waiting>,
        outcomes: Option<Vec<UpdateOutcome>>,
    ) {
        let outcomes = outcomes.unwrap_or_else(|| vec![UpdateOutcome::Failed; taken.len()]);
        let lost = outcomes.iter().filter(|outcome| **outcome != UpdateOutcome::Acked).count();
        if let Some(process) = &self.servers[server].process {
            let (place, peer) = if self.plan.hub { (peer_of(worker), 0) } else { (0, peer_of(worker)) };
            process.ends[place].standings.lost(peer, lost, "it did not take them");
        }
        self.tally.batches += u64::from(taken.len() > 1);
        for (waiting, mut outcome) in taken.into_iter().zip(outcomes) {
            self.tally.count_update(outcome);
            if self.plan.plant == Some(Plant::IgnoreConflict) && outcome == UpdateOutcome::Conflict {
                outcome = UpdateOutcome::Acked;
            }
            self.return_update(server, waiting.update, outcome);
        }
    }

    fn return_update(&mut self, server: usize, mut update: Box<PartnerUpdate>, outcome: UpdateOutcome) {
        let Some(process) = &self.servers[server].process else { return };
        update.outcome = Some(outcome);
        let sender = first_sender(usize::from(update.relationship));
        let (from, to) = (process.topology.sender(sender), process.topology.shard(update.shard));
        self.post(server, from, to, Lane::State, Message::UpdateDone(update));
    }
}
