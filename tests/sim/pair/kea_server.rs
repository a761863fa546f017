//! The server around the model of Kea's machine: leases, clients, and the HTTP of both ends.
//!
//! It writes its lease file and never syncs it: what it knew some seconds ago is what the loss of power leaves.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use shards::{Lease, LeaseState, SmallBytes};
use tandem::dhcp4::scope::bucket;
use tandem::engine::message::{PartnerCall, UpdateKind};
use tandem::ha::PartnerState;
use tandem::ha::command::{Envelope, PageRequest, Reply};
use tandem::ha::lease_json::{LeaseUpdate, Listing, write_listing, write_update_request};
use tandem::ha::lease_page::Page;
use tandem::ha::lease_query::LeaseQuery;
use tandem::policy::{Scope, Snapshot};
use tandem::wire::Query;
use tandem::wire::codes::MessageType;

use super::disk::Leases;
use super::kea::{Machine, Purpose, Settings, Version};
use super::server::{
    LIFETIME_S, WORKERS_PER_PEER, address as address_of, call_worker, pool, snapshot, update_worker,
};
use super::simulation::{Event, NS_PER_MS, NS_PER_S, Simulation};
use super::stream::StreamId;

/// How long an address is locked while a command about it is carried out, nanoseconds.
const COMMAND_NS: u64 = 3 * NS_PER_MS;
/// How much the loss of power may take.
const FLUSHED_EVERY_NS: u64 = 3 * NS_PER_S;

/// A Kea that runs.
pub struct Kea {
    pub machine: Machine,
    snapshot: Snapshot,
    pub leases: Leases,
    /// Addresses with a command under way.
    busy: BTreeMap<Ipv4Addr, u64>,
    parked: BTreeMap<u64, Parked>,
    calls: BTreeMap<u64, Purpose>,
    numbers: u64,
}

/// What outlives its process.
#[derive(Default)]
pub struct KeaDisk {
    pub written: Leases,
    flushed: Leases,
    flushed_ns: u64,
    /// What the partner has been told that it took, whatever became of it.
    pub accepted: Leases,
}

impl KeaDisk {
    /// What is left after a crash.
    pub fn boot(&mut self, power: bool) {
        if power {
            self.written = self.flushed.clone();
        }
    }
}

struct Parked {
    reply: Vec<u8>,
    pending: usize,
    failed: bool,
    client: Vec<u8>,
}

impl Simulation {
    pub fn start_kea(&mut self, server: usize, version: Version) {
        let (now, plan) = (self.clock_of(server), self.plan);
        let settings = Settings {
            version,
            primary: server == 0,
            balancing: plan.balancing,
            backlog_max: if plan.balancing { plan.delayed_updates_limit as usize } else { 0 },
            heartbeat_ns: NS_PER_S,
            response_ns: 3 * NS_PER_S,
            ack_ms: 1000,
            unacked_max: plan.max_unacked_clients as usize,
            rejected_max: plan.max_rejected_lease_updates as usize,
            page_limit: 3,
        };
        let host = &mut self.servers[server];
        host.life += 1;
        host.powered = true;
        host.workers = (0..WORKERS_PER_PEER).map(|_| super::sender::Worker::new(false, 0)).collect();
        host.kea = Some(Kea {
            machine: Machine::new(settings, now),
            snapshot: snapshot(&plan, server, true),
            leases: host.kea_disk.written.clone(),
            busy: BTreeMap::new(),
            parked: BTreeMap::new(),
            calls: BTreeMap::new(),
            numbers: 0,
        });
        self.trace(|| format!("server{} starts as {version:?}", server + 1));
        self.checks.overtaken.started(server);
        self.settle_kea(server);
    }

    /// Writes what has changed, sends what the machine wants sent, and notes its state.
    fn settle_kea(&mut self, server: usize) {
        let now_ns = self.now_ns;
        let host = &mut self.servers[server];
        let Some(kea) = &mut host.kea else { return };
        let disk = &mut host.kea_disk;
        if now_ns >= disk.flushed_ns + FLUSHED_EVERY_NS {
            disk.flushed = std::mem::take(&mut disk.written);
            disk.flushed_ns = now_ns;
        }
        disk.written.clone_from(&kea.leases);
        let calls = std::mem::take(&mut kea.machine.calls);
        let state = kea.machine.state;
        if self.kea_state.replace(state) != Some(state) {
            self.trace(|| format!("server{} is {state}", server + 1));
            self.record(&[b"kea", state.name().as_bytes()]);
        }
        self.note_service(server);
        for (purpose, request) in calls {
            let worker = call_worker(0, purpose.line());
            self.call_of_kea(server, worker, purpose, request.to_string().into_bytes());
        }
    }

    fn call_of_kea(&mut self, server: usize, worker: usize, purpose: Purpose, body: Vec<u8>) {
        let Some(kea) = &mut self.servers[server].kea else { return };
        kea.numbers += 1;
        kea.calls.insert(kea.numbers, purpose);
        let (request, line) = (kea.numbers, purpose.line());
        let call =
            PartnerCall { request, peer: 0, asker: None, body, timeout_ms: 10_000, line, failure: None };
        self.hand_call(server, worker, Box::new(call));
    }

    /// A command it sent has been answered, or will not be.
    pub fn kea_called_back(&mut self, server: usize, call: &PartnerCall) {
        let now = self.clock_of(server);
        let host = &mut self.servers[server];
        let Some(kea) = &mut host.kea else { return };
        let Some(purpose) = kea.calls.remove(&call.request) else { return };
        let reply: Option<Value> = serde_json::from_slice(&call.body).ok();
        let reply = reply.as_ref().and_then(Value::as_array).and_then(|list| list.first());
        if purpose == Purpose::Page
            && let Ok(page) = Page::parse(&call.body)
        {
            for lease in page.leases {
                let newer = kea.leases.get(&lease.address).is_none_or(|mine| mine.cltt < lease.cltt);
                if newer {
                    host.kea_disk.accepted.insert(lease.address, lease.clone());
                    kea.leases.insert(lease.address, lease);
                }
            }
        }
        if let Purpose::Update(parked) = purpose {
            self.update_of_kea_ended(server, parked, reply);
        }
        if let Some(kea) = &mut self.servers[server].kea {
            kea.machine.answered(now, purpose, reply.ok_or("no answer"));
        }
        self.settle_kea(server);
    }

    pub fn run_kea_timers(&mut self, server: usize) {
        let now = self.clock_of(server);
        if let Some(kea) = &mut self.servers[server].kea {
            kea.machine.handle_timeout(now);
        }
        self.settle_kea(server);
    }

    // ---- commands of the partner ----------------------------------------------------------------------------

    /// A request of the partner: carried out at once, answered after a moment.
    pub fn kea_request(&mut self, server: usize, stream: StreamId, body: &[u8]) {
        let envelope = Envelope::parse(body).unwrap_or_else(|error| panic!("Kea cannot read this: {error}"));
        let is_terminated = self.kea_state == Some(PartnerState::Terminated);
        self.tally.kea_resets += u64::from(is_terminated && envelope.command == "ha-reset");
        let reply = self.kea_reply(server, &envelope);
        self.settle_kea(server);
        let delay_ns = 200_000 + self.draw(COMMAND_NS);
        let life = self.servers[server].life;
        self.schedule(delay_ns, Event::KeaAnswer { server, life, stream, body: reply.to_http_body() });
    }

    fn kea_reply(&mut self, server: usize, envelope: &Envelope) -> Reply {
        let (now, now_ns) = (self.clock_of(server), self.now_ns);
        let host = &mut self.servers[server];
        let Some(kea) = &mut host.kea else { return Reply::error("it has ended") };
        let k22 = kea.machine.settings.version == Version::K22;
        let conflict = if k22 { 1 } else { 4 };
        match envelope.command.as_str() {
            "lease4-update" => match LeaseUpdate::parse(envelope, now.wall_s(), &kea.snapshot) {
                Ok(update) if k22 && update.lease.state == LeaseState::Released => {
                    Reply::error("the lease state is not known")
                }
                Ok(update) => {
                    let lease = update.lease;
                    if kea.busy.insert(lease.address, now_ns + COMMAND_NS).is_some_and(|until| until > now_ns)
                    {
                        self.tally.busy += 1;
                        return Reply::new(conflict, "ResourceBusy: the address could not be updated.");
                    }
                    host.kea_disk.accepted.insert(lease.address, lease.clone());
                    kea.leases.insert(lease.address, lease);
                    Reply::success("IPv4 lease updated.")
                }
                Err(reply) => Reply::new(conflict, reply.text.unwrap_or_default()),
            },
            "lease4-del" => match LeaseQuery::parse(envelope, "Delete") {
                Ok(LeaseQuery::Address(address)) => {
                    host.kea_disk.accepted.remove(&address);
                    match kea.leases.remove(&address) {
                        Some(_) => Reply::success("IPv4 lease deleted."),
                        None => Reply::new(3, "IPv4 lease not found."),
                    }
                }
                Ok(LeaseQuery::Client(_)) => Reply::error("no partner deletes by client"),
                Err(reply) => reply,
            },
            "lease4-get-page" => match PageRequest::parse(envelope) {
                Ok(page) => {
                    let after = |lease: &&Lease| page.after.is_none_or(|after| lease.address > after);
                    let listed = kea.leases.values().filter(after).take(page.limit as usize);
                    let leases: Vec<Value> = listed
                        .map(|lease| {
                            let mut text = Vec::new();
                            write_listing(lease, Listing::AsStored, &mut text);
                            serde_json::from_slice(&text).expect("a lease as JSON")
                        })
                        .collect();
                    let code = if leases.is_empty() { 3 } else { 0 };
                    let text = format!("{} IPv4 lease(s) found.", leases.len());
                    Reply::new(code, text).with_arguments(json!({ "count": leases.len(), "leases": leases }))
                }
                Err(reply) => reply,
            },
            _ => {
                let (result, text, arguments) = kea.machine.command(now, envelope);
                let reply = Reply::new(result, text);
                match arguments {
                    Some(arguments) => reply.with_arguments(arguments),
                    None => reply,
                }
            }
        }
    }

    // ---- clients --------------------------------------------------------------------------------------------

    /// A datagram of a client.
    pub fn kea_receives(&mut self, server: usize, bytes: &[u8]) {
        let now = self.clock_of(server);
        let Ok(query) = Query::decode(bytes) else { return };
        let Some(kea) = &mut self.servers[server].kea else { return };
        if !kea.machine.service_on() {
            return;
        }
        let client_id = query.client_id().unwrap_or_default();
        let client = [query.chaddr(), client_id].concat();
        let is_primarys = !self.plan.balancing || is_primarys(&query);
        if !kea.machine.in_scope(is_primarys) {
            return kea.machine.unanswered(now, client, query.secs());
        }
        let is_its = |lease: &&Lease| {
            let same_id = lease.client_id.as_slice() == client_id;
            let is_same = same_id && (!client_id.is_empty() || lease.hwaddr.as_slice() == query.chaddr());
            is_same && lease.state == LeaseState::Default
        };
        let held = kea.leases.values().find(is_its).map(|lease| lease.address);
        match query.message_type() {
            Some(MessageType::Discover) => self.kea_offers(server, &query, held),
            Some(MessageType::Request) => self.kea_grants(server, &query, client, held),
            Some(MessageType::Release) => {
                if let Some(lease) = held.and_then(|held| kea.leases.remove(&held)) {
                    self.replicate_of_kea(server, client, vec![(UpdateKind::Delete, lease)], Vec::new());
                }
            }
            Some(MessageType::Decline) => {
                let declined = held.and_then(|held| kea.leases.get_mut(&held)).map(|lease| {
                    lease.state = LeaseState::Declined;
                    (lease.valid_lifetime, lease.cltt) = (20, now.wall_s());
                    (lease.hwaddr, lease.client_id) = (SmallBytes::empty(), SmallBytes::empty());
                    lease.clone()
                });
                if let Some(lease) = declined {
                    self.replicate_of_kea(server, client, vec![(UpdateKind::Update, lease)], Vec::new());
                }
            }
            _ => {}
        }
    }

    /// Whether it may give `address` to a client that holds `held`.
    fn kea_has(&self, server: usize, query: &Query<'_>, address: Ipv4Addr, held: Option<Ipv4Addr>) -> bool {
        let (now_s, range) = (self.clock_of(server).wall_s(), self.pool_for(query));
        let Some(kea) = &self.servers[server].kea else { return false };
        let is_free = kea.leases.get(&address).is_none_or(|lease| {
            lease.is_expired(now_s)
                || matches!(lease.state, LeaseState::ExpiredReclaimed | LeaseState::Released)
        });
        (range.0..=range.1).contains(&address) && (held == Some(address) || is_free)
    }

    /// First and last address of the pool for the client.
    fn pool_for(&self, query: &Query<'_>) -> (Ipv4Addr, Ipv4Addr) {
        let (first, last) = pool(&self.plan, 0);
        let middle = Ipv4Addr::from(u32::from(first) + u32::from(self.plan.pool) - 1);
        match self.plan.balancing {
            true if is_primarys(query) => (first, middle),
            true => (Ipv4Addr::from(u32::from(middle) + 1), last),
            false => (first, last),
        }
    }

    fn kea_offers(&mut self, server: usize, query: &Query<'_>, held: Option<Ipv4Addr>) {
        let (first, last) = self.pool_for(query);
        let all = (u32::from(first)..=u32::from(last)).map(Ipv4Addr::from);
        let mut wanted = held.into_iter().chain(query.requested_address()).chain(all);
        if let Some(address) = wanted.find(|address| self.kea_has(server, query, *address, held)) {
            self.reply_of_kea(server, reply(query, 2, server, address));
        }
    }

    fn kea_grants(&mut self, server: usize, query: &Query<'_>, client: Vec<u8>, held: Option<Ipv4Addr>) {
        let now = self.clock_of(server);
        if query.server_id().is_some_and(|id| id != address_of(server, 0)) {
            return;
        }
        let ciaddr = Some(query.ciaddr()).filter(|address| !address.is_unspecified());
        let Some(address) = query.requested_address().or(ciaddr) else { return };
        let is_selecting = query.server_id().is_some();
        if !self.kea_has(server, query, address, held) || !is_selecting && held != Some(address) {
            return self.reply_of_kea(server, reply(query, 6, server, Ipv4Addr::UNSPECIFIED));
        }
        let lease = Lease {
            address,
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::new(query.chaddr()),
            client_id: SmallBytes::new(query.client_id().unwrap_or_default()),
            valid_lifetime: LIFETIME_S,
            cltt: now.wall_s(),
            state: LeaseState::Default,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::empty(),
            user_context: None,
        };
        let Some(kea) = &mut self.servers[server].kea else { return };
        let left = held.filter(|held| *held != address).and_then(|held| kea.leases.remove(&held));
        kea.leases.insert(address, lease.clone());
        let mut changes: Vec<_> = left.into_iter().map(|left| (UpdateKind::Delete, left)).collect();
        changes.push((UpdateKind::Update, lease));
        self.replicate_of_kea(server, client, changes, reply(query, 5, server, address));
    }

    /// Tells the partner, each change in a request of its own, and keeps the reply until it has answered all.
    fn replicate_of_kea(
        &mut self,
        server: usize,
        client: Vec<u8>,
        changes: Vec<(UpdateKind, Lease)>,
        reply: Vec<u8>,
    ) {
        for (_, lease) in &changes {
            self.checks.holders[0].decided_elsewhere(lease.address);
        }
        let Some(kea) = &mut self.servers[server].kea else { return };
        let request = |(kind, lease): &(UpdateKind, Lease)| {
            let mut body = Vec::new();
            write_update_request(*kind, lease, &mut body);
            body
        };
        if kea.machine.queues_updates() {
            for change in &changes {
                kea.machine.queue(serde_json::from_slice(&request(change)).expect("a request in JSON"));
            }
            self.settle_kea(server);
            return self.reply_of_kea(server, reply);
        }
        if !kea.machine.sends_updates() {
            kea.machine.unsent += 1;
            self.settle_kea(server);
            return self.reply_of_kea(server, reply);
        }
        kea.numbers += 1;
        let number = kea.numbers;
        kea.parked.insert(number, Parked { reply, pending: changes.len(), failed: false, client });
        for change in changes {
            let body = request(&change);
            // The first idle connection, or the one with less to do.
            let workers = &self.servers[server].workers;
            let free = (0..2).min_by_key(|sender| workers[update_worker(0, *sender)].load()).unwrap_or(0);
            self.call_of_kea(server, update_worker(0, free), Purpose::Update(number), body);
        }
        self.settle_kea(server);
    }

    fn update_of_kea_ended(&mut self, server: usize, number: u64, reply: Option<&Value>) {
        let Some(kea) = &mut self.servers[server].kea else { return };
        let result = reply.and_then(|reply| reply.get("result")).and_then(Value::as_i64);
        let good = matches!(result, Some(0 | 3));
        let Some(parked) = kea.parked.get_mut(&number) else { return };
        parked.failed |= !good;
        parked.pending -= 1;
        kea.machine.refused(&parked.client, result == Some(4));
        if parked.pending == 0
            && let Some(parked) = kea.parked.remove(&number)
            && !parked.failed
        {
            self.reply_of_kea(server, parked.reply);
        }
    }

    fn reply_of_kea(&mut self, server: usize, reply: Vec<u8>) {
        if !reply.is_empty() {
            self.send_reply(server, &reply, None);
        }
    }
}

/// Whose the client is where two servers share the clients; without an identity it is nobody's, and no client is.
fn is_primarys(query: &Query<'_>) -> bool {
    bucket(query.client_id().unwrap_or_default(), query.chaddr()) == Some(Scope::Primary)
}

/// A reply of `kind` with what every client needs.
fn reply(query: &Query<'_>, kind: u8, server: usize, address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[0] = 2;
    bytes[1..3].copy_from_slice(&query.bytes()[1..3]);
    bytes[4..8].copy_from_slice(&query.bytes()[4..8]);
    bytes[10..12].copy_from_slice(&query.bytes()[10..12]);
    bytes[16..20].copy_from_slice(&address.octets());
    bytes[24..28].copy_from_slice(&query.giaddr().octets());
    bytes[28..44].copy_from_slice(&query.bytes()[28..44]);
    bytes.extend([99, 130, 83, 99, 53, 1, kind, 54, 4]);
    bytes.extend(address_of(server, 0).octets());
    if kind != 6 {
        bytes.extend([51, 4]);
        bytes.extend(LIFETIME_S.to_be_bytes());
        bytes.extend([1, 4, 255, 255, 255, 0]);
    }
    bytes.push(255);
    bytes
}
