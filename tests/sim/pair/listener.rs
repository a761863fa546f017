//! The listening end of the HA link: the partner's commands in, answers out, through the real HTTP server.
//!
//! It does what a listen executor does: updates go to the owner shard and are answered when the lease is durable,
//! pages are gathered from all shards, the rest is for the control node.

use std::collections::BTreeMap;
use std::sync::Arc;

use shards::Lane;
use tandem::control::gather::{Gather, ListRequest};
use tandem::engine::message::{
    Message, PartnerCall, ShardCommand, ShardCommandBody, ShardReply, ShardReplyBody,
};
use tandem::engine::rules::Rules;
use tandem::ha::command::{Envelope, PageRequest, Reply, result};
use tandem::ha::lease_json::{LeaseUpdate, Listing, parse_delete, write_listing};
use tandem::http::server::{Request, ServerConnection};

use super::simulation::Simulation;
use super::stream::{Piece, StreamId, Way};

/// A shard or the control node answers within this time, or the partner hears that it did not.
const ANSWER_WITHIN_NS: u64 = 9_000_000_000;

pub struct Listener {
    rules: Arc<Rules>,
    connections: BTreeMap<StreamId, ServerConnection>,
    /// What was asked of shards and control, by number.
    pending: BTreeMap<u64, Pending>,
    asked: u64,
    as_stored: bool,
}

struct Pending {
    stream: StreamId,
    until_ns: u64,
    gather: Option<Gather>,
}

impl Listener {
    pub fn new(rules: Arc<Rules>) -> Self {
        let (connections, pending) = (BTreeMap::new(), BTreeMap::new());
        Self { rules, connections, pending, asked: 0, as_stored: false }
    }

    pub fn accept(&mut self, now_ns: u64, stream: StreamId) {
        self.connections.insert(stream, ServerConnection::new(now_ns));
    }

    pub fn forget(&mut self, stream: StreamId) {
        self.connections.remove(&stream);
    }

    pub fn next_timeout(&self) -> Option<u64> {
        let connections = self.connections.values().filter_map(ServerConnection::next_timeout);
        connections.chain(self.pending.values().map(|pending| pending.until_ns)).min()
    }
}

impl Simulation {
    /// Bytes, or the end of the stream, have come from the partner.
    pub fn listener_input(&mut self, server: usize, stream: StreamId, piece: Piece) {
        let now = self.clock_of(server);
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let Some(http) = process.listener.connections.get_mut(&stream) else { return };
        let mut output = Vec::new();
        let request = match piece {
            Piece::Bytes(bytes) => http.handle_bytes(now.monotonic_ns, now.wall_s(), &bytes, &mut output),
            Piece::End => {
                process.listener.forget(stream);
                self.write_piece(stream, Way::ToOpener, Piece::End);
                return;
            }
        };
        self.write_stream(stream, Way::ToOpener, &output);
        match request {
            Some(request) => self.handle_request(server, stream, &request),
            None => self.close_if_closing(server, stream),
        }
    }

    fn handle_request(&mut self, server: usize, stream: StreamId, request: &Request) {
        let now = self.clock_of(server);
        let envelope = match Envelope::parse(&request.body) {
            Ok(envelope) => envelope,
            Err(error) => panic!("the partner's command cannot be read: {error}"),
        };
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let listener = &mut process.listener;
        let rules = listener.rules.clone();
        let (shard, body) = match envelope.command.as_str() {
            "lease4-update" => match LeaseUpdate::parse(&envelope, now.wall_s(), rules.snapshot.as_ref()) {
                Ok(update) => {
                    let owner = rules.owners.owner_of(update.lease.address);
                    let (lease, force_create) = (Box::new(update.lease), update.force_create);
                    (owner, ShardCommandBody::PartnerUpdate { lease, force_create })
                }
                Err(reply) => return self.respond(server, stream, &reply.to_http_body()),
            },
            "lease4-del" => match parse_delete(&envelope) {
                Ok(address) => (rules.owners.owner_of(address), ShardCommandBody::PartnerDelete(address)),
                Err(reply) => return self.respond(server, stream, &reply.to_http_body()),
            },
            "lease4-get-page" => match PageRequest::parse(&envelope) {
                Ok(page) => return self.list(server, stream, page),
                Err(reply) => return self.respond(server, stream, &reply.to_http_body()),
            },
            _ => return self.ask_control(server, stream, request.body.clone()),
        };
        let number = listener.ask(stream, now.monotonic_ns, None);
        self.ask_shard(server, shard, number, body);
    }

    fn ask_shard(&mut self, server: usize, shard: u8, request: u64, body: ShardCommandBody) {
        let Some(process) = &self.servers[server].process else { return };
        let (from, to) = (process.topology.listener(0), process.topology.shard(shard));
        let command = Box::new(ShardCommand { request, body });
        self.post(server, from, to, Lane::State, Message::Command(command));
    }

    fn ask_control(&mut self, server: usize, stream: StreamId, body: Vec<u8>) {
        let now_ns = self.clock_of(server).monotonic_ns;
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let request = process.listener.ask(stream, now_ns, None);
        let (from, to) = (process.topology.listener(0), process.topology.control());
        let call = PartnerCall {
            request,
            peer: 0,
            asker: Some(from),
            body,
            timeout_ms: ANSWER_WITHIN_NS / 1_000_000,
            private: false,
            failure: None,
        };
        self.post(server, from, to, Lane::State, Message::Partner(Box::new(call)));
    }

    fn list(&mut self, server: usize, stream: StreamId, page: PageRequest) {
        let now_ns = self.clock_of(server).monotonic_ns;
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let writer: tandem::control::gather::LeaseWriter = match process.listener.as_stored {
            true => |lease, output| write_listing(lease, Listing::AsStored, output),
            false => |lease, output| write_listing(lease, Listing::WithoutReleased, output),
        };
        let request =
            ListRequest { after: page.after, limit: Some(page.limit as usize), subnets: Vec::new() };
        let gather = Gather::leases(process.topology.shards, request, writer);
        let number = process.listener.ask(stream, now_ns, Some(gather));
        self.gather_on(server, number);
    }

    /// Asks the next shard, or answers when all have been heard.
    fn gather_on(&mut self, server: usize, number: u64) {
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let Some(pending) = process.listener.pending.get_mut(&number) else { return };
        let Some(gather) = &mut pending.gather else { return };
        let next = if gather.is_complete() { None } else { gather.poll_request() };
        if let Some((shard, body)) = next {
            return self.ask_shard(server, shard, number, body);
        }
        let Some(pending) = process.listener.pending.remove(&number) else { return };
        let body = pending.gather.map(|gather| gather.finish().render_list());
        self.respond(server, pending.stream, &body.unwrap_or_default());
    }

    /// A message has come to the listen executor.
    pub fn listener_message(&mut self, server: usize, message: Message) {
        match message {
            Message::Reply(reply) => self.shard_replied(server, *reply),
            Message::Partner(call) => {
                let Some(process) = self.servers[server].process.as_mut() else { return };
                if let Some(pending) = process.listener.pending.remove(&call.request) {
                    self.respond(server, pending.stream, &call.body);
                }
            }
            Message::HaView(view) => {
                let Some(process) = self.servers[server].process.as_mut() else { return };
                process.listener.as_stored = view.partner_knows_released;
            }
            other => panic!("a listener does not take {other:?}"),
        }
    }

    fn shard_replied(&mut self, server: usize, reply: ShardReply) {
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let Some(pending) = process.listener.pending.get_mut(&reply.request) else { return };
        if let Some(gather) = &mut pending.gather {
            gather.handle_reply(reply.shard, reply.body);
            return self.gather_on(server, reply.request);
        }
        let answer = match reply.body {
            ShardReplyBody::Updated { .. } => Reply::success("IPv4 lease updated."),
            ShardReplyBody::Missing => Reply::new(result::CONFLICT, "no such lease"),
            ShardReplyBody::Deleted(true) => Reply::success("IPv4 lease deleted."),
            ShardReplyBody::Deleted(false) => Reply::new(result::EMPTY, "IPv4 lease not found."),
            _ => Reply::error("the lease cannot be stored"),
        };
        let stream = pending.stream;
        process.listener.pending.remove(&reply.request);
        self.respond(server, stream, &answer.to_http_body());
    }

    fn respond(&mut self, server: usize, stream: StreamId, body: &[u8]) {
        let now = self.clock_of(server);
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let Some(http) = process.listener.connections.get_mut(&stream) else { return };
        let mut output = Vec::new();
        http.respond(now.monotonic_ns, now.wall_s(), 200, body, &mut output);
        let next = http.poll_request(now.wall_s(), &mut output);
        self.write_stream(stream, Way::ToOpener, &output);
        match next {
            Some(request) => self.handle_request(server, stream, &request),
            None => self.close_if_closing(server, stream),
        }
    }

    fn close_if_closing(&mut self, server: usize, stream: StreamId) {
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let closing = process.listener.connections.get(&stream).is_some_and(ServerConnection::is_closing);
        if closing {
            process.listener.forget(stream);
            self.write_piece(stream, Way::ToOpener, Piece::End);
        }
    }

    /// Looks at the deadlines of connections and questions.
    pub fn run_listener_timers(&mut self, server: usize) {
        let now = self.clock_of(server);
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let listener = &mut process.listener;
        let overdue = |pending: &Pending| pending.until_ns <= now.monotonic_ns;
        let late: Vec<Pending> = listener
            .pending
            .extract_if(.., |_, pending| overdue(pending))
            .map(|(_, pending)| pending)
            .collect();
        let mut outputs = Vec::new();
        for (stream, http) in &mut listener.connections {
            if http.next_timeout().is_some_and(|at_ns| at_ns <= now.monotonic_ns) {
                let mut output = Vec::new();
                http.handle_timeout(now.monotonic_ns, now.wall_s(), &mut output);
                outputs.push((*stream, output));
            }
        }
        for (stream, output) in outputs {
            self.write_stream(stream, Way::ToOpener, &output);
            self.close_if_closing(server, stream);
        }
        for pending in late {
            let reply = Reply::error("the server did not answer in time");
            self.respond(server, pending.stream, &reply.to_http_body());
        }
    }
}

impl Listener {
    fn ask(&mut self, stream: StreamId, now_ns: u64, gather: Option<Gather>) -> u64 {
        self.asked += 1;
        let until_ns = now_ns + ANSWER_WITHIN_NS;
        self.pending.insert(self.asked, Pending { stream, until_ns, gather });
        self.asked
    }
}
