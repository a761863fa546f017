//! Two machines over a network of delays and losses, with maps for lease databases; a world for tests.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use shards::Lease;

use super::super::batch;
use super::super::command::{Envelope, HaCommand, PageRequest, Reply};
use super::super::copy::{self, CopyHead, CopyRequest, CopyRows, Mark};
use super::super::lease_json::{Listing, SubnetDirectory, write_page_reply};
use super::super::lease_rows;
use super::rig::{Rig, at, relationship};
use super::*;
use crate::engine::message::{Applied, ShardCommandBody, ShardReplyBody, UpdateKind};

const LATENCY_NS: u64 = 2 * NS_PER_MS;

/// Every address is in every subnet.
struct Everywhere;

impl SubnetDirectory for Everywhere {
    fn subnet(&self, _id: u32, _address: Ipv4Addr) -> Option<(u32, bool)> {
        Some((600, true))
    }

    fn subnet_of(&self, _address: Ipv4Addr) -> Option<u32> {
        Some(1)
    }

    fn prefix(&self, _: u32) -> String {
        "0.0.0.0/0".into()
    }
}

/// How a server speaks as a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    /// As this one does.
    Own,
    /// As release 2.2: names and ids are not known, commands lose them on arrival.
    Older,
}

pub(super) struct Server {
    pub rig: Rig,
    pub alive: bool,
    dialect: Dialect,
    pub leases: BTreeMap<Ipv4Addr, Lease>,
    /// Its clock is so many seconds fast.
    pub skew_s: u64,
    /// Addresses that have changed, in their order: what marks count.
    changed: Vec<Ipv4Addr>,
    restarts: u64,
    unsent: u64,
    /// What it has kept for its next life: since when the partner may lack changes.
    behind: Option<u64>,
}

enum Delivery {
    Answer { to: usize, restarts: u64, id: CallId, result: Result<Vec<u8>, String> },
    Request { from: usize, restarts: u64, call: Call },
}

pub(super) struct Pair {
    mode: Mode,
    now_ns: u64,
    pub servers: [Server; 2],
    flight: Vec<(u64, Delivery)>,
    pub linked: bool,
}

impl Pair {
    pub fn new(dialects: [Dialect; 2]) -> Self {
        Self::of(Mode::HotStandby, dialects)
    }

    pub fn of(mode: Mode, dialects: [Dialect; 2]) -> Self {
        let server = |index: usize| {
            let rig = Rig::with(relationship(mode, role(mode, index)));
            let (leases, dialect) = (BTreeMap::new(), dialects[index]);
            Server {
                rig,
                alive: false,
                dialect,
                leases,
                skew_s: 0,
                changed: Vec::new(),
                restarts: 0,
                unsent: 0,
                behind: None,
            }
        };
        let now_ns = at(0.0).monotonic_ns;
        Self { mode, now_ns, servers: [server(0), server(1)], flight: Vec::new(), linked: true }
    }

    pub fn start(&mut self, index: usize) {
        let now = self.now(index);
        let configured = relationship(self.mode, role(self.mode, index));
        let server = &mut self.servers[index];
        server.rig = Rig::with(configured.clone());
        server.rig.machine = Machine::new(configured, now);
        if let Some(since_s) = server.behind {
            server.rig.machine.recall_behind(now, since_s);
        }
        server.alive = true;
        server.restarts += 1;
        server.unsent = 0;
        self.feed(index, Event::Start);
    }

    pub fn kill(&mut self, index: usize) {
        self.servers[index].alive = false;
    }

    fn now(&self, index: usize) -> Now {
        let at = at(self.seconds());
        let wall_ms = at.wall_ms + self.servers[index].skew_s * 1_000;
        Now { monotonic_ns: self.now_ns, wall_ms }
    }

    pub fn seconds(&self) -> f64 {
        (self.now_ns - at(0.0).monotonic_ns) as f64 / 1e9
    }

    pub fn states(&self) -> [Option<OwnState>; 2] {
        [0, 1].map(|index| self.servers[index].alive.then(|| self.servers[index].rig.machine.state()))
    }

    pub fn feed(&mut self, index: usize, event: Event) {
        let now = self.now(index);
        self.servers[index].rig.now = now;
        let actions = self.servers[index].rig.handle(event);
        self.carry_out(index, actions);
    }

    fn carry_out(&mut self, index: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::ApplyPage { id, rows } => {
                    let applied = self.servers[index].apply(rows);
                    self.feed(index, Event::PageApplied { id, result: Ok(applied) });
                }
                Action::Call(call) => {
                    let restarts = self.servers[index].restarts;
                    self.flight
                        .push((self.now_ns + LATENCY_NS, Delivery::Request { from: index, restarts, call }));
                }
                Action::HandBack { lease, .. } => {
                    self.servers[1 - index].changed.push(lease.address);
                    self.servers[1 - index].leases.insert(lease.address, *lease);
                }
                Action::PartnerBehind(since_s) => self.servers[index].behind = since_s,
                Action::Answer { .. }
                | Action::Close { .. }
                | Action::Log(_)
                | Action::Publish(_)
                | Action::StopAnnounced => {}
            }
        }
    }

    /// Runs to `seconds`, checking at every step what must always hold.
    pub fn run_until(&mut self, seconds: f64) {
        let end_ns = at(seconds).monotonic_ns;
        for _ in 0..100_000 {
            let timers = self.servers.iter().filter(|server| server.alive);
            let timer = timers.filter_map(|server| server.rig.machine.next_timeout()).min();
            let delivery = self.flight.iter().map(|(at_ns, _)| *at_ns).min();
            let next = timer.into_iter().chain(delivery).min().filter(|next| *next <= end_ns);
            let Some(next) = next else {
                self.now_ns = end_ns;
                return;
            };
            self.now_ns = self.now_ns.max(next);
            self.deliver();
            self.fire_timers();
            self.check();
        }
        panic!("the pair does not come to rest at {} s", self.seconds());
    }

    fn deliver(&mut self) {
        let due = |at_ns: u64, now_ns: u64| at_ns <= now_ns;
        while let Some(index) = self.flight.iter().position(|(at_ns, _)| due(*at_ns, self.now_ns)) {
            match self.flight.remove(index).1 {
                Delivery::Request { from, restarts, call } => {
                    let result = if self.linked && self.servers[1 - from].alive {
                        Ok(self.serve(1 - from, &call.body))
                    } else {
                        Err("connection refused".to_owned())
                    };
                    let answer = Delivery::Answer { to: from, restarts, id: call.id, result };
                    self.flight.push((self.now_ns + LATENCY_NS, answer));
                }
                Delivery::Answer { to, restarts, id, result } => {
                    if self.servers[to].alive && self.servers[to].restarts == restarts {
                        self.feed(to, Event::CallDone { id, result });
                    }
                }
            }
        }
    }

    fn fire_timers(&mut self) {
        for index in 0..2 {
            let now = self.now(index);
            let server = &mut self.servers[index];
            let due = server.rig.machine.next_timeout().is_some_and(|timeout| timeout <= now.monotonic_ns);
            if server.alive && due {
                server.rig.now = now;
                server.rig.machine.handle_timeout(now, &mut server.rig.actions);
                let actions = std::mem::take(&mut server.rig.actions);
                self.carry_out(index, actions);
            }
        }
    }

    /// A listener's answer to a request body.
    fn serve(&mut self, index: usize, body: &[u8]) -> Vec<u8> {
        if batch::is_batch(body) {
            return self.batch(index, body);
        }
        let mut envelope = Envelope::parse(body).unwrap();
        if self.servers[index].dialect == Dialect::Older {
            envelope.forget_new_arguments();
        }
        if envelope.command == "lease4-update" {
            return self.update(index, &envelope).to_http_body();
        }
        if envelope.command == "lease4-get-page" {
            let request = PageRequest::parse(&envelope).unwrap();
            let leases = &self.servers[index].leases;
            let page: Vec<&Lease> = leases
                .values()
                .filter(|lease| request.after.is_none_or(|after| lease.address > after))
                .take(request.limit as usize)
                .collect();
            let mut reply = Vec::new();
            write_page_reply(page.into_iter(), Listing::AsStored, &mut reply);
            return reply;
        }
        if envelope.command == copy::COMMAND {
            assert_eq!(self.servers[index].dialect, Dialect::Own, "not announced");
            return self.servers[index].copied(&CopyRequest::parse(&envelope).unwrap());
        }
        let Some(command) = HaCommand::parse(&envelope) else {
            let older = self.servers[index].dialect == Dialect::Older;
            let arguments = if older { json!({ "pid": 1 }) } else { json!({ "dhcp-state": {} }) };
            return Reply::success("").with_arguments(arguments).to_http_body();
        };
        let now = self.now(index);
        let event = Event::Command { token: 1, source: CommandSource::Partner, command: command.unwrap() };
        self.servers[index].rig.now = now;
        let mut actions = self.servers[index].rig.handle(event);
        let answer = actions.iter().position(|action| matches!(action, Action::Answer { .. })).unwrap();
        let Action::Answer { mut reply, .. } = actions.remove(answer) else { unreachable!() };
        if let (Dialect::Older, Some(Value::Object(members))) =
            (self.servers[index].dialect, &mut reply.arguments)
        {
            members.retain(|name, _| !name.starts_with("tandem-"));
        }
        self.carry_out(index, actions);
        reply.to_http_body()
    }

    /// Both never serve the primary's scope at once while they can hear each other in normal states.
    fn check(&self) {
        let serves = |index: usize| {
            let server: &Server = &self.servers[index];
            let view = server.rig.machine.view();
            server.alive && view.is_some_and(|view| view.service_on && view.scopes.primary)
        };
        let normal = self.states() == [Some(self.mode.normal_state()); 2];
        assert!(!(normal && serves(0) && serves(1)), "two servers serve at {} s", self.seconds());
        for server in &self.servers {
            let machine = &server.rig.machine;
            let view = machine.view();
            let off = view.is_some_and(|view| !view.service_on);
            let ends = machine.is_stopping();
            let bounded = ends || machine.locks.next_timeout().is_some() || !machine.state().serves_dhcp();
            assert!(!off || bounded, "silent for ever at {} s", self.seconds());
        }
    }

    /// An update of the partner: overwrites without comparing (0.3 rule 8).
    fn update(&mut self, index: usize, envelope: &Envelope) -> Reply {
        let text = |name: &str| envelope.arguments.as_ref().unwrap()[name].as_str().unwrap().to_owned();
        let number = |name: &str| envelope.arguments.as_ref().unwrap()[name].as_u64().unwrap();
        let address: Ipv4Addr = text("ip-address").parse().unwrap();
        let cltt = number("expire") - number("valid-lft");
        let lease = Lease { cltt, ..*rig::lease(address.octets()[3]) };
        self.servers[index].leases.insert(address, lease);
        self.servers[index].changed.push(address);
        Reply::success("IPv4 lease updated.")
    }

    fn batch(&mut self, index: usize, body: &[u8]) -> Vec<u8> {
        assert_eq!(self.servers[index].dialect, Dialect::Own, "not announced");
        let (mut received, parts) = batch::Received::read(body, 0, 1, |_| 0, &Everywhere).unwrap();
        for (shard, part) in parts {
            let ShardCommandBody::PartnerBatch { updates, .. } = part else { panic!("{part:?}") };
            for (_, lease) in updates {
                self.servers[index].changed.push(lease.address);
                self.servers[index].leases.insert(lease.address, lease);
            }
            received.handle_reply(shard, Some(&ShardReplyBody::Applied(Applied::default())));
        }
        received.finish().to_http_body()
    }

    pub fn grant(&mut self, index: usize, number: u8) {
        let cltt = self.now(index).wall_s();
        let lease = Lease { cltt, ..*rig::lease(number) };
        let address = lease.address;
        let view = self.servers[index].rig.machine.view().unwrap();
        assert!(view.service_on && view.scopes.any(), "only a server that serves grants");
        match view.updates {
            UpdateMode::Send => {
                self.servers[1 - index].leases.insert(address, lease.clone());
                self.servers[1 - index].changed.push(address);
            }
            UpdateMode::Queue => {
                let lease = Box::new(lease.clone());
                self.feed(index, Event::Backlog { kind: UpdateKind::Update, lease, outcome: None });
            }
            UpdateMode::None | UpdateMode::Off => {
                self.servers[index].unsent += 1;
                let total = self.servers[index].unsent;
                self.feed(index, Event::UnsentUpdates { shard: 0, total });
            }
        }
        self.servers[index].leases.insert(address, lease);
        self.servers[index].changed.push(address);
    }
}

fn role(mode: Mode, index: usize) -> Role {
    match (index, mode) {
        (0, _) => Role::Primary,
        (_, Mode::LoadBalancing) => Role::Secondary,
        _ => Role::Standby,
    }
}

impl Server {
    /// Part of a copy while this server serves.
    fn copied(&self, request: &CopyRequest) -> Vec<u8> {
        let mut head = CopyHead { mark: Mark(vec![self.changed.len() as u64]), ..CopyHead::default() };
        let listed = |after: Option<Ipv4Addr>, limit: usize| {
            let above =
                self.leases.values().filter(move |lease| after.is_none_or(|after| lease.address > after));
            above.take(limit).collect::<Vec<&Lease>>()
        };
        let leases = match request {
            CopyRequest::Changes { since } => {
                self.changed[since.0[0] as usize..].iter().map(|address| &self.leases[address]).collect()
            }
            CopyRequest::Page { after, mark, limit } => {
                head.mark = mark.clone();
                listed(Some(*after), *limit)
            }
            CopyRequest::Start { limit } => listed(None, *limit),
        };
        if let CopyRequest::Page { limit, .. } | CopyRequest::Start { limit } = request {
            head.more = leases.len() == *limit;
            head.upto = leases.last().map(|lease| lease.address);
        }
        let mut body = Vec::new();
        head.write(&mut body);
        leases.into_iter().for_each(|lease| lease_rows::write(UpdateKind::Update, lease, &mut body));
        body
    }

    fn apply(&mut self, rows: CopyRows) -> Applied {
        let newer = |own: Option<&Lease>, lease: &Lease| own.is_none_or(|own| own.cltt < lease.cltt);
        let mut applied = Applied::default();
        for (_, lease) in rows.rows {
            let own = self.leases.get(&lease.address);
            applied.kept += usize::from(own.is_some_and(|own| own.cltt > lease.cltt));
            if newer(own, &lease) {
                self.changed.push(lease.address);
                self.leases.insert(lease.address, lease);
                applied.written += 1;
            }
        }
        applied
    }
}

impl Envelope {
    /// What release 2.2 does not know it ignores.
    fn forget_new_arguments(&mut self) {
        if let Some(Value::Object(members)) = &mut self.arguments {
            for name in ["origin-id", "server-name"] {
                members.remove(name);
            }
            if members.get("origin").is_some_and(Value::is_i64) {
                members.remove("origin");
            }
        }
    }
}
