//! Two machines over a network of delays and losses, with maps for lease databases.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use shards::{Lease, LeaseState, SmallBytes};

use super::super::command::{Envelope, HaCommand, PageRequest, Reply};
use super::super::copy::{self, CopyHead, CopyRequest, CopyRows, Mark};
use super::super::lease_json::{Listing, write_page_reply};
use super::super::lease_rows;
use super::rig::{Rig, at, relationship};
use super::*;
use crate::engine::message::{Applied, UpdateKind};

const LATENCY_NS: u64 = 2 * NS_PER_MS;

/// How a server speaks as a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Dialect {
    /// As this one does.
    Own,
    /// As release 2.2: names and ids are not known, commands lose them on arrival.
    Older,
}

struct Server {
    rig: Rig,
    alive: bool,
    dialect: Dialect,
    leases: BTreeMap<Ipv4Addr, Lease>,
    /// Addresses that have changed, in their order: what marks count.
    changed: Vec<Ipv4Addr>,
    restarts: u64,
}

enum Delivery {
    Answer { to: usize, restarts: u64, id: CallId, result: Result<Vec<u8>, String> },
    Request { from: usize, restarts: u64, call: Call },
}

struct Pair {
    now_ns: u64,
    servers: [Server; 2],
    flight: Vec<(u64, Delivery)>,
    linked: bool,
}

impl Pair {
    fn new(dialects: [Dialect; 2]) -> Self {
        let server = |role, dialect| {
            let rig = Rig::with(relationship(Mode::HotStandby, role));
            Server { rig, alive: false, dialect, leases: BTreeMap::new(), changed: Vec::new(), restarts: 0 }
        };
        let servers = [server(Role::Primary, dialects[0]), server(Role::Standby, dialects[1])];
        Self { now_ns: at(0.0).monotonic_ns, servers, flight: Vec::new(), linked: true }
    }

    fn start(&mut self, index: usize) {
        let now = self.now();
        let role = if index == 0 { Role::Primary } else { Role::Standby };
        let server = &mut self.servers[index];
        server.rig = Rig::with(relationship(Mode::HotStandby, role));
        server.rig.machine = Machine::new(relationship(Mode::HotStandby, role), now);
        server.alive = true;
        server.restarts += 1;
        self.feed(index, Event::Start);
    }

    fn kill(&mut self, index: usize) {
        self.servers[index].alive = false;
    }

    fn now(&self) -> Now {
        let seconds = (self.now_ns - at(0.0).monotonic_ns) as f64 / 1e9;
        Now { monotonic_ns: self.now_ns, ..at(seconds) }
    }

    fn seconds(&self) -> f64 {
        (self.now_ns - at(0.0).monotonic_ns) as f64 / 1e9
    }

    fn states(&self) -> [Option<OwnState>; 2] {
        [0, 1].map(|index| self.servers[index].alive.then(|| self.servers[index].rig.machine.state()))
    }

    fn feed(&mut self, index: usize, event: Event) {
        let now = self.now();
        self.servers[index].rig.now = now;
        let actions = self.servers[index].rig.handle(event);
        self.carry_out(index, actions);
    }

    fn carry_out(&mut self, index: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::ApplyPage { id, rows } => {
                    let written = self.servers[index].apply(rows);
                    let applied = Applied { written, ..Applied::default() };
                    self.feed(index, Event::PageApplied { id, result: Ok(applied) });
                }
                Action::Call(call) => {
                    let restarts = self.servers[index].restarts;
                    self.flight
                        .push((self.now_ns + LATENCY_NS, Delivery::Request { from: index, restarts, call }));
                }
                Action::Answer { .. }
                | Action::ClosePrivate { .. }
                | Action::Log(_)
                | Action::Publish(_)
                | Action::StopAnnounced => {}
            }
        }
    }

    /// Runs to `seconds`, checking at every step what must always hold.
    fn run_until(&mut self, seconds: f64) {
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
            let now = self.now();
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
        let mut envelope = Envelope::parse(body).unwrap();
        if self.servers[index].dialect == Dialect::Older {
            envelope.forget_new_arguments();
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
        let now = self.now();
        let event = Event::Command { token: 1, source: CommandSource::Partner, command: command.unwrap() };
        self.servers[index].rig.now = now;
        let mut actions = self.servers[index].rig.handle(event);
        let answer = actions.iter().position(|action| matches!(action, Action::Answer { .. })).unwrap();
        let Action::Answer { mut reply, .. } = actions.remove(answer) else { unreachable!() };
        self.carry_out(index, actions);
        if self.servers[index].dialect == Dialect::Older
            && let Some(Value::Object(arguments)) = &mut reply.arguments
        {
            arguments.remove(copy::ANNOUNCEMENT);
        }
        reply.to_http_body()
    }

    /// Both never serve the primary's scope at once while they can hear each other in normal states.
    fn check(&self) {
        let serves = |index: usize| {
            let server: &Server = &self.servers[index];
            let view = server.rig.machine.view();
            server.alive && view.is_some_and(|view| view.service_on && view.scopes.primary)
        };
        let normal = self.states() == [Some(OwnState::HotStandby); 2];
        assert!(!(normal && serves(0) && serves(1)), "two servers serve at {} s", self.seconds());
        for server in &self.servers {
            let machine = &server.rig.machine;
            let view = machine.view();
            let off = view.is_some_and(|view| !view.service_on);
            let bounded = machine.locks.next_timeout().is_some() || !machine.state().serves_dhcp();
            assert!(!off || bounded, "silent for ever at {} s", self.seconds());
        }
    }

    fn grant(&mut self, index: usize, number: u8) {
        let cltt = self.now().wall_s();
        let address = Ipv4Addr::new(10, 0, 0, number);
        let lease = Lease {
            address,
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, number]),
            client_id: SmallBytes::empty(),
            valid_lifetime: 600,
            cltt,
            state: LeaseState::Default,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::empty(),
            user_context: None,
        };
        let view = self.servers[index].rig.machine.view().unwrap();
        assert!(view.service_on && view.scopes.primary, "only a server that serves grants");
        match view.updates {
            UpdateMode::Send => {
                self.servers[1 - index].leases.insert(address, lease.clone());
            }
            _ => {
                let total = self.servers[index].leases.len() as u64 + 1;
                self.feed(index, Event::UnsentUpdates { shard: 0, total });
            }
        }
        self.servers[index].leases.insert(address, lease);
        self.servers[index].changed.push(address);
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

    fn apply(&mut self, rows: CopyRows) -> usize {
        let newer = |own: Option<&Lease>, lease: &Lease| own.is_none_or(|own| own.cltt < lease.cltt);
        let mut applied = 0;
        for (_, lease) in rows.rows {
            if newer(self.leases.get(&lease.address), &lease) {
                self.leases.insert(lease.address, lease);
                applied += 1;
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

const NORMAL: [Option<OwnState>; 2] = [Some(OwnState::HotStandby); 2];

/// Goal: a pair that starts together serves within seconds, in both dialects. Method: run 6 s.
#[test]
fn a_cold_start_converges_within_seconds() {
    for dialects in [[Dialect::Own; 2], [Dialect::Older, Dialect::Own], [Dialect::Own, Dialect::Older]] {
        let mut pair = Pair::new(dialects);
        pair.start(0);
        pair.run_until(0.3);
        pair.start(1);
        pair.run_until(6.0);
        assert_eq!(pair.states(), NORMAL, "{dialects:?}");
        let view = |index: usize| pair.servers[index].rig.machine.view().unwrap();
        assert!(view(0).scopes.primary && view(0).service_on);
        assert!(!view(1).scopes.primary && view(1).service_on);
    }
}

/// Goal: take-over and return lose no lease. Method: kill the primary, prove by traffic, grant, bring it
/// back.
#[test]
fn the_standby_takes_over_and_gives_back_with_every_lease() {
    for dialects in [[Dialect::Own; 2], [Dialect::Older, Dialect::Own], [Dialect::Own, Dialect::Older]] {
        let mut pair = Pair::new(dialects);
        pair.start(0);
        pair.start(1);
        pair.run_until(20.0);
        (1..=5).for_each(|number| pair.grant(0, number));
        pair.kill(0);
        pair.run_until(95.0);
        assert_eq!(pair.states(), [None, Some(OwnState::HotStandby)], "no traffic, no proof");
        for number in 10..13 {
            let client = ClientIdentity {
                hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, number]),
                client_id: SmallBytes::empty(),
            };
            pair.feed(1, Event::Unanswered { client, secs: 20 });
        }
        assert_eq!(pair.states(), [None, Some(OwnState::PartnerDown)]);
        (20..=44).for_each(|number| pair.grant(1, number));
        pair.start(0);
        pair.run_until(110.0);
        assert_eq!(pair.states(), NORMAL, "{dialects:?}");
        assert_eq!(pair.servers[0].leases, pair.servers[1].leases, "{dialects:?}");
        assert_eq!(pair.servers[0].leases.len(), 30);
        assert!(pair.servers[1].rig.machine.locks.service_on(), "the source is not left silent");
    }
}

#[test]
fn the_primary_takes_over_alone_and_the_standby_comes_back() {
    let mut pair = Pair::new([Dialect::Own; 2]);
    pair.start(0);
    pair.start(1);
    pair.run_until(20.0);
    pair.kill(1);
    pair.run_until(65.0);
    assert_eq!(pair.states(), [Some(OwnState::HotStandby), None]);
    pair.run_until(92.0);
    assert_eq!(pair.states(), [Some(OwnState::PartnerDown), None]);
    (1..=7).for_each(|number| pair.grant(0, number));
    pair.start(1);
    pair.run_until(110.0);
    assert_eq!(pair.states(), NORMAL);
    assert_eq!(pair.servers[0].leases, pair.servers[1].leases);
}

/// Goal: after a split in which both served, both have all leases. Method: cut, let both go partner-down,
/// heal.
#[test]
fn a_split_in_which_both_served_heals_with_both_sides_leases() {
    let mut pair = Pair::new([Dialect::Own; 2]);
    pair.start(0);
    pair.start(1);
    pair.run_until(20.0);
    pair.linked = false;
    pair.servers[1].rig.machine.relationship.max_unacked_clients = 0;
    pair.run_until(100.0);
    assert_eq!(pair.states(), [Some(OwnState::PartnerDown); 2]);
    (1..=3).for_each(|number| pair.grant(0, number));
    (101..=105).for_each(|number| pair.grant(1, number));
    pair.linked = true;
    pair.run_until(140.0);
    assert_eq!(pair.states(), NORMAL);
    assert_eq!(pair.servers[0].leases, pair.servers[1].leases);
    assert_eq!(pair.servers[0].leases.len(), 8);
}

#[test]
fn a_copier_killed_right_after_its_copy_leaves_the_source_serving() {
    let mut pair = Pair::new([Dialect::Own; 2]);
    pair.start(1);
    pair.run_until(70.0);
    assert_eq!(pair.states(), [None, Some(OwnState::PartnerDown)]);
    for step in 0..30 {
        pair.start(0);
        let killed_at = pair.seconds() + 0.001 + f64::from(step) * 0.001;
        pair.run_until(killed_at);
        pair.kill(0);
        pair.run_until(killed_at + 61.0);
        // Where the copier was heard as ready in time, the source is normal again and waits for traffic.
        let state = pair.servers[1].rig.machine.state();
        assert!(matches!(state, OwnState::HotStandby | OwnState::PartnerDown), "{step}: {state}");
        assert!(pair.servers[1].rig.service_on_now(), "{step}");
    }
}

impl Rig {
    fn service_on_now(&self) -> bool {
        self.machine.view().unwrap().service_on
    }
}
