//! The listening end of the HA link: the partner's commands in, answers out, through the real HTTP server.
//!
//! It does what a listen executor does: updates go to the owner shard and are answered when the lease is durable,
//! pages are gathered from all shards, the rest is for the control node.

use std::collections::BTreeMap;
use std::sync::Arc;

use shards::{Lane, Topology};
use tandem::control::CopyAnswer;
use tandem::control::gather::{Gather, ListRequest};
use tandem::control::lease_change::{LeaseChange, OwnerChange};
use tandem::engine::message::{
    Line, Message, PartnerCall, ShardCommand, ShardCommandBody, ShardReply, ShardReplyBody,
};
use tandem::engine::rules::Rules;
use tandem::ha::batch::{self, Received};
use tandem::ha::command::{Envelope, PageRequest, Reply, result};
use tandem::ha::copy::{self, CopyRequest};
use tandem::ha::lease_json::{Listing, write_listing};
use tandem::http::server::Request;

use super::links::{host_of, place_of, seat_of};
use super::plan::Plant;
use super::simulation::Simulation;
use super::stream::StreamId;

/// A shard or the control node answers within this time, or the partner hears that it did not.
const ANSWER_WITHIN_NS: u64 = 9_000_000_000;

/// No stream has this name.
const NO_STREAM: StreamId = StreamId::MAX;

pub struct Listener {
    rules: Arc<Rules>,
    /// What was asked of shards and control, by number.
    pending: BTreeMap<u64, Pending>,
    asked: u64,
    as_stored: bool,
}

struct Pending {
    stream: StreamId,
    until_ns: u64,
    what: Question,
}

/// What was asked.
enum Question {
    /// The control node, for the answer as it is.
    Control,
    /// All shards, for a copy of their leases.
    Copy(CopyAnswer),
    /// All shards, for a list of leases.
    List(Gather),
    /// The owners of leases, to change many of them.
    Batch(Received),
    /// The owner of a lease, to change it.
    Change,
}

impl Listener {
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { rules, pending: BTreeMap::new(), asked: 0, as_stored: false }
    }

    pub fn next_timeout(&self) -> Option<u64> {
        self.pending.values().map(|pending| pending.until_ns).min()
    }
}

impl Simulation {
    /// A request has come in whole.
    pub fn handle_request(&mut self, server: usize, stream: StreamId, request: &Request) {
        if self.servers[server].kea.is_some() {
            return self.kea_request(server, stream, &request.body);
        }
        let Some((seat, peer)) = self.seat_and_peer(server, stream) else { return };
        if request.is_octets {
            return self.batch(seat, stream, &request.body);
        }
        let envelope = match Envelope::parse(&request.body) {
            Ok(envelope) => envelope,
            Err(error) => panic!("the partner's command cannot be read: {error}"),
        };
        match envelope.command.as_str() {
            "lease4-del" | "lease4-update" => self.change(seat, stream, &envelope),
            "lease4-get-page" => match PageRequest::parse(&envelope) {
                Ok(page) => self.list(seat, stream, page),
                Err(reply) => self.respond(server, stream, &reply.to_http_body()),
            },
            copy::COMMAND => match CopyRequest::parse(&envelope) {
                Ok(copied) => self.copy(seat, stream, copied),
                Err(reply) => self.respond(server, stream, &reply.to_http_body()),
            },
            _ => self.ask_control(seat, peer, stream, request.body.clone()),
        }
    }

    /// The seat whose listener a stream leads to, and the index of the peer at its other end, as the address of its
    /// connection tells.
    fn seat_and_peer(&self, server: usize, stream: StreamId) -> Option<(usize, usize)> {
        let opener = self.streams.get(stream)?.opener;
        let place = if self.plan.hub && server == 0 { opener - 1 } else { 0 };
        let seat = seat_of(server, place);
        let peer = self.plan.peers_of(seat).into_iter().position(|peer| peer == opener)?;
        Some((seat, peer))
    }

    /// A change of leases that comes to a listener out of turn; nobody waits for the answer.
    pub fn stray_request(&mut self, seat: usize, body: &[u8]) {
        if self.servers[host_of(seat)].paused_until_ns > self.now_ns {
            return;
        }
        match Envelope::parse(body) {
            Ok(envelope) => self.change(seat, NO_STREAM, &envelope),
            Err(_) => self.batch(seat, NO_STREAM, body),
        }
    }

    /// Hands a change of a lease to its owner, and answers when it is durable.
    fn change(&mut self, seat: usize, stream: StreamId, command: &Envelope) {
        let now = self.clock_of(host_of(seat));
        let relationship = (self.plan.plant != Some(Plant::BelieveSpokes)).then_some(place_of(seat) as u8);
        let Some(end) = self.end_mut(seat) else { return };
        match LeaseChange::parse(command, now.wall_s(), relationship, &end.listener.rules) {
            Ok(LeaseChange::At(OwnerChange { owner, body, .. })) => {
                let number = end.listener.ask(stream, now.monotonic_ns, Question::Change);
                self.ask_shard(seat, owner, number, body);
            }
            Ok(LeaseChange::DeleteOf(client)) => panic!("no partner deletes by client: {client:?}"),
            Err(reply) => self.respond(host_of(seat), stream, &reply.to_http_body()),
        }
    }

    /// Hands many changes to their owners, and answers when all are durable.
    fn batch(&mut self, seat: usize, stream: StreamId, body: &[u8]) {
        assert!(batch::is_batch(body), "the partner sends octets that are no batch");
        let now_ns = self.clock_of(host_of(seat)).monotonic_ns;
        let Some(Topology { shards, .. }) = self.topology_at(seat) else { return };
        let Some(end) = self.end_mut(seat) else { return };
        let rules = end.listener.rules.clone();
        let owner_of = |address| rules.owners.owner_of(address);
        match Received::read(body, place_of(seat) as u8, shards, owner_of, rules.snapshot.as_ref()) {
            Ok((received, parts)) if received.is_complete() => {
                assert!(parts.is_empty());
                self.respond(host_of(seat), stream, &received.finish().to_http_body());
            }
            Ok((received, parts)) => {
                let number = end.listener.ask(stream, now_ns, Question::Batch(received));
                for (shard, body) in parts {
                    self.ask_shard(seat, shard, number, body);
                }
            }
            Err(reply) => self.respond(host_of(seat), stream, &reply.to_http_body()),
        }
    }

    fn ask_shard(&mut self, seat: usize, shard: u8, request: u64, body: ShardCommandBody) {
        let Some(topology) = self.topology_at(seat) else { return };
        let (from, to) = (topology.listener(place_of(seat) as u8), topology.shard(shard));
        let command = Box::new(ShardCommand { request, body });
        self.post(host_of(seat), from, to, Lane::State, Message::Command(command));
    }

    fn ask_control(&mut self, seat: usize, peer: usize, stream: StreamId, body: Vec<u8>) {
        let now_ns = self.clock_of(host_of(seat)).monotonic_ns;
        let Some(topology) = self.topology_at(seat) else { return };
        let Some(end) = self.end_mut(seat) else { return };
        let request = end.listener.ask(stream, now_ns, Question::Control);
        let (from, to) = (topology.listener(place_of(seat) as u8), topology.control());
        let call = PartnerCall {
            request,
            peer: peer as u8,
            asker: Some(from),
            body,
            timeout_ms: ANSWER_WITHIN_NS / 1_000_000,
            line: Line::Shared,
            failure: None,
        };
        self.post(host_of(seat), from, to, Lane::State, Message::Partner(Box::new(call)));
    }

    fn list(&mut self, seat: usize, stream: StreamId, page: PageRequest) {
        let now_ns = self.clock_of(host_of(seat)).monotonic_ns;
        let Some(Topology { shards, .. }) = self.topology_at(seat) else { return };
        let Some(end) = self.end_mut(seat) else { return };
        let writer: tandem::control::gather::LeaseWriter = match end.listener.as_stored {
            true => |lease, output| write_listing(lease, Listing::AsStored, output),
            false => |lease, output| write_listing(lease, Listing::WithoutReleased, output),
        };
        let given = end.listener.rules.snapshot.relationships.given(place_of(seat) as u8);
        let subnets = given.ids().unwrap_or_default().to_vec();
        let request = ListRequest { after: page.after, limit: Some(page.limit as usize), subnets };
        let gather = Gather::leases(shards, request, writer);
        let number = end.listener.ask(stream, now_ns, Question::List(gather));
        self.gather_on(seat, number);
    }

    fn copy(&mut self, seat: usize, stream: StreamId, request: CopyRequest) {
        let now_ns = self.clock_of(host_of(seat)).monotonic_ns;
        let Some(Topology { shards, .. }) = self.topology_at(seat) else { return };
        let Some(end) = self.end_mut(seat) else { return };
        let given = end.listener.rules.snapshot.relationships.given(place_of(seat) as u8);
        let answer = CopyAnswer::new(shards, request, given);
        let number = end.listener.ask(stream, now_ns, Question::Copy(answer));
        self.copy_on(seat, number);
    }

    fn copy_on(&mut self, seat: usize, number: u64) {
        let Some(end) = self.end_mut(seat) else { return };
        let Some(pending) = end.listener.pending.get_mut(&number) else { return };
        let Question::Copy(answer) = &mut pending.what else { return };
        let next = if answer.is_complete() { None } else { answer.poll_request() };
        if let Some((shard, body)) = next {
            return self.ask_shard(seat, shard, number, body);
        }
        let Some(Pending { stream, what: Question::Copy(answer), .. }) = end.listener.pending.remove(&number)
        else {
            return;
        };
        let body = answer.finish().unwrap_or_else(|reply| reply.to_http_body());
        self.respond(host_of(seat), stream, &body);
    }

    /// Asks the next shard, or answers when all have been heard.
    fn gather_on(&mut self, seat: usize, number: u64) {
        let Some(end) = self.end_mut(seat) else { return };
        let Some(pending) = end.listener.pending.get_mut(&number) else { return };
        let Question::List(gather) = &mut pending.what else { return };
        let next = if gather.is_complete() { None } else { gather.poll_request() };
        if let Some((shard, body)) = next {
            return self.ask_shard(seat, shard, number, body);
        }
        let Some(Pending { stream, what: Question::List(gather), .. }) = end.listener.pending.remove(&number)
        else {
            return;
        };
        let body = gather.finish().render_list();
        self.respond(host_of(seat), stream, &body);
    }

    /// A message has come to the listen executor.
    pub fn listener_message(&mut self, seat: usize, message: Message) {
        match message {
            Message::Reply(reply) => self.shard_replied(seat, *reply),
            Message::Partner(call) => {
                let Some(end) = self.end_mut(seat) else { return };
                if let Some(pending) = end.listener.pending.remove(&call.request) {
                    self.respond(host_of(seat), pending.stream, &call.body);
                }
            }
            Message::Snapshot(rules) => {
                let Some(end) = self.end_mut(seat) else { return };
                end.listener.rules = rules;
            }
            Message::HaView(view) => {
                let Some(end) = self.end_mut(seat) else { return };
                end.listener.as_stored = view.partner_knows_released;
            }
            other => panic!("a listener does not take {other:?}"),
        }
    }

    fn shard_replied(&mut self, seat: usize, reply: ShardReply) {
        let Some(end) = self.end_mut(seat) else { return };
        let listener = &mut end.listener;
        let number = reply.request;
        let Some(pending) = listener.pending.get_mut(&number) else { return };
        let stream = pending.stream;
        let answer = match &mut pending.what {
            Question::Control => return,
            Question::Copy(answer) => {
                answer.handle_reply(reply.shard, reply.body);
                return self.copy_on(seat, number);
            }
            Question::List(gather) => {
                gather.handle_reply(reply.shard, reply.body);
                return self.gather_on(seat, number);
            }
            Question::Change => change_reply(&reply.body),
            Question::Batch(received) => {
                received.handle_reply(reply.shard, Some(&reply.body));
                if !received.is_complete() {
                    return;
                }
                let Some(Pending { what: Question::Batch(received), .. }) = listener.pending.remove(&number)
                else {
                    return;
                };
                received.finish()
            }
        };
        listener.pending.remove(&number);
        self.respond(host_of(seat), stream, &answer.to_http_body());
    }

    /// Looks at the deadlines of questions.
    pub fn run_listener_timers(&mut self, seat: usize) {
        let now = self.clock_of(host_of(seat));
        let Some(end) = self.end_mut(seat) else { return };
        let overdue = |pending: &Pending| pending.until_ns <= now.monotonic_ns;
        let late: Vec<Pending> = end
            .listener
            .pending
            .extract_if(.., |_, pending| overdue(pending))
            .map(|(_, pending)| pending)
            .collect();
        for pending in late {
            let reply = Reply::error("the server did not answer in time");
            self.respond(host_of(seat), pending.stream, &reply.to_http_body());
        }
    }
}

impl Listener {
    fn ask(&mut self, stream: StreamId, now_ns: u64, what: Question) -> u64 {
        self.asked += 1;
        let until_ns = now_ns + ANSWER_WITHIN_NS;
        self.pending.insert(self.asked, Pending { stream, until_ns, what });
        self.asked
    }
}

fn change_reply(answer: &ShardReplyBody) -> Reply {
    match answer {
        ShardReplyBody::Updated { .. } => Reply::success("IPv4 lease updated."),
        ShardReplyBody::Missing => Reply::new(result::CONFLICT, "no such lease"),
        ShardReplyBody::Deleted(true) => Reply::success("IPv4 lease deleted."),
        ShardReplyBody::Deleted(false) => Reply::new(result::EMPTY, "IPv4 lease not found."),
        _ => Reply::error("the lease cannot be stored"),
    }
}
