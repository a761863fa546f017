//! What goes wrong and when; and the end of a run, when nothing does.

use shards::{Lease, LeaseState, SmallBytes};
use tandem::engine::message::UpdateKind;
use tandem::ha::PartnerState;
use tandem::ha::batch;
use tandem::ha::command::HaCommand;

use super::links::{Cut, Links, host_of, seat_of};
use super::server::{LIFETIME_S, pool};
use super::simulation::{Event, NS_PER_MS, NS_PER_S, Simulation};
use super::stream::{StreamId, Way};
use crate::sim::clients::hardware;

/// Clocks may be this far from the true time without harm, milliseconds.
const ALLOWED_SKEW_MS: i64 = 300;
/// Seconds it has to stay so: a partner that has not been heard for a moment may not be missed yet.
const STAYS_WHOLE_S: u64 = 5;
/// What a client takes into its head that begins anew ([`Simulation::act`]).
pub const RESTARTS: u64 = 5;
/// A pair whose link and hosts are well is whole within this time.
const WHOLE_WITHIN_NS: u64 = 300 * NS_PER_S;

impl Simulation {
    /// One thing happens that nobody planned, and the time of the next one is drawn.
    pub fn take_chance(&mut self) {
        if self.calm {
            return;
        }
        if self.plan.link_alone {
            return self.take_chance_of_link();
        }
        // A Kea that is told to copy what was put off and given up, and cannot.
        let shares = self.plan.balancing && self.plan.kea.is_some();
        if shares && self.is_copied() && self.chance(400) {
            self.cut_link();
        }
        match self.draw(100) {
            0..8 => self.strike(),
            8..12 if self.plan.cuts => self.cut(),
            12..17 => self.reset_a_stream(),
            17..19 => {
                let server = self.draw_server();
                self.servers[server].disk.full = true;
                let while_ns = self.draw(12 * NS_PER_S);
                self.schedule(while_ns, Event::Room { server });
            }
            19..21 => {
                let server = self.draw_server();
                self.servers[server].disk.failing = true;
            }
            21..25 => self.doom(),
            25..27 if self.plan.pauses => self.pause(),
            27..29 if self.plan.steps_ms > 0 => self.step_a_clock(),
            29..31 if self.plan.mistakes => {
                let server = self.draw_server();
                self.misconfigure(server);
            }
            31..34 if self.plan.operators => {
                let server = self.draw_server();
                if self.chance(600) {
                    self.operate(server, HaCommand::MaintenanceStart);
                    let while_ns = self.draw(8 * NS_PER_S);
                    let life = self.servers[server].life;
                    let command = HaCommand::MaintenanceCancel;
                    self.schedule(while_ns, Event::Operator { server, life, command });
                } else {
                    self.operate(server, HaCommand::Reset { server_name: None });
                }
            }
            34..40 if self.plan.commands => self.command(),
            _ => {
                let member = self.draw(self.population.len() as u64) as usize;
                let what = self.draw(14);
                self.act(member, what);
            }
        }
        if self.plan.hub && self.chance(50) {
            self.speak_out_of_turn();
        }
        let pause_ns = 20 * NS_PER_MS + self.draw(900 * NS_PER_MS);
        self.schedule(pause_ns, Event::Chance);
    }

    /// The same where nothing goes wrong but the link: it is cut for longer than a partner may be silent, now and then while
    /// one copies.
    fn take_chance_of_link(&mut self) {
        let is_copied = self.is_copied();
        match self.draw(100) {
            0..6 => self.cut_link(),
            _ if is_copied && self.chance(400) => self.cut_link(),
            6..9 => self.strike(),
            9..60 => {
                let member = self.draw(self.population.len() as u64) as usize;
                let what = self.draw(14);
                self.act(member, what);
            }
            _ => {}
        }
        let pause_ns = 20 * NS_PER_MS + self.draw(900 * NS_PER_MS);
        self.schedule(pause_ns, Event::Chance);
    }

    /// Whether one server copies, and hears the other one.
    fn is_copied(&self) -> bool {
        let copies = |seat| matches!(self.state(seat), Some(PartnerState::Ready | PartnerState::Syncing));
        self.links.is_open(Cut::Between(0, 1)) && self.plan.seats().any(copies)
    }

    /// Some clients begin anew in that moment: what they are promised waits for the other server.
    fn cut_link(&mut self) {
        let ways = vec![Cut::Between(0, 1), Cut::Between(1, 0)];
        let while_ns = 4 * NS_PER_S + self.draw(12 * NS_PER_S);
        self.cut_ways(ways, while_ns);
        for _ in 0..4 {
            let member = self.draw(self.population.len() as u64) as usize;
            self.act(member, RESTARTS);
        }
    }

    /// A server that something happens to: the one that suffers, if there is one alone.
    fn draw_server(&mut self) -> usize {
        if let Some(link) = self.plan.one_suffers {
            return link + 1;
        }
        self.draw(self.servers.len() as u64) as usize
    }

    /// Something is cut for a while: between two servers or between a server and its clients, both ways or one.
    fn cut(&mut self) {
        let server = self.draw_server();
        let peers = self.plan.peers(server);
        let other = match peers[..] {
            [other] => other,
            _ => peers[self.draw(peers.len() as u64) as usize],
        };
        let both = if self.chance(300) {
            [Cut::ToClients(server), Cut::FromClients(server)]
        } else {
            [Cut::Between(server, other), Cut::Between(other, server)]
        };
        let ways = match self.draw(4) {
            0 => vec![both[0]],
            1 => vec![both[1]],
            _ => both.to_vec(),
        };
        let while_ns = 200 * NS_PER_MS + self.draw(12 * NS_PER_S);
        self.cut_ways(ways, while_ns);
    }

    fn cut_ways(&mut self, ways: Vec<Cut>, while_ns: u64) {
        for way in &ways {
            self.links.cut(*way);
        }
        self.tally.cuts += 1;
        self.tally.cuts_one_way += u64::from(ways.len() == 1);
        self.trace(|| format!("cut: {ways:?}"));
        self.schedule(while_ns, Event::Mend { ways });
    }

    /// What was cut is whole again.
    pub fn mend(&mut self, ways: &[Cut]) {
        self.trace(|| format!("mended: {ways:?}"));
        for way in ways {
            self.links.mend(*way);
            if let Cut::ToClients(_) | Cut::FromClients(_) = way {
                self.harm_all();
            }
        }
    }

    pub fn harm_all(&mut self) {
        (0..self.servers.len()).for_each(|server| self.checks.overtaken.harmed(self.now_ns, server));
    }

    /// A server will go down at one of the next steps of its disk.
    fn doom(&mut self) {
        let server = self.draw_server();
        if self.may_strike() {
            self.servers[server].doom = Some(self.draw(8) as u32);
        }
    }

    /// The process of a server is stopped for a while.
    fn pause(&mut self) {
        let server = self.draw_server();
        let until_ns = self.now_ns + 100 * NS_PER_MS + self.draw(15 * NS_PER_S);
        let until_ns = until_ns.max(self.servers[server].paused_until_ns);
        self.servers[server].paused_until_ns = until_ns;
        self.checks.overtaken.harmed(until_ns, server);
        self.tally.pauses += 1;
        self.trace(|| format!("server{} is stopped until {} ms", server + 1, until_ns / NS_PER_MS));
    }

    /// A wall clock is set.
    fn step_a_clock(&mut self) {
        let server = self.draw_server();
        let reach_ms = self.plan.steps_ms;
        let skew_ms = self.draw(2 * reach_ms as u64 + 1) as i64 - reach_ms;
        self.set_clock(server, skew_ms);
    }

    /// The wall clock of a server is set to be wrong by `skew_ms`.
    fn set_clock(&mut self, server: usize, skew_ms: i64) {
        let by_ms = self.servers[server].clock.set(skew_ms);
        self.tally.steps += 1;
        self.trace(|| format!("the clock of server{} is set by {by_ms} ms", server + 1));
        self.checks.requests.stepped(server, by_ms);
        self.checks.overtaken.harmed(self.now_ns, server);
        let links: Vec<usize> =
            (0..self.plan.places(server)).map(|place| self.plan.link_of(seat_of(server, place))).collect();
        for link in links {
            let is_wrong = |seat: usize| self.servers[host_of(seat)].clock.skew_ms.abs() > ALLOWED_SKEW_MS;
            let wrong = self.plan.seats_on(link).any(is_wrong);
            let holders = &mut self.checks.holders[link];
            holders.clocks_set(self.now_ns, wrong || by_ms.abs() > 2 * ALLOWED_SKEW_MS, wrong);
            if by_ms < -2 * ALLOWED_SKEW_MS {
                // What it wrote until now is newer than anything else until it has caught up.
                holders.set_back(self.now_ns + by_ms.unsigned_abs() * NS_PER_MS);
            }
        }
    }

    fn may_strike(&self) -> bool {
        self.plan.double_failures || self.is_whole()
    }

    /// A server is killed or loses power.
    fn strike(&mut self) {
        let server = self.draw_server();
        let power = self.chance(500);
        if self.may_strike() {
            self.crash(server, power);
        }
    }

    fn reset_a_stream(&mut self) {
        let mut ids = self.streams.ids();
        if let Some(link) = self.plan.one_suffers {
            let touches = |id: &StreamId| self.streams.get(*id).is_some_and(|it| it.touches(link + 1));
            ids.retain(touches);
        }
        if ids.is_empty() {
            return;
        }
        let stream = ids[self.draw(ids.len() as u64) as usize];
        self.tally.resets += 1;
        for way in [Way::ToListener, Way::ToOpener] {
            let delay_ns = self.draw(20 * NS_PER_MS);
            self.schedule(delay_ns, Event::Reset { stream, way });
        }
    }

    /// What an operator has to do once everything works: maintenance that nobody else can end is ended.
    fn reset_by_hand(&mut self) {
        if self.plan.commands {
            self.go_on();
        }
        for seat in self.plan.seats() {
            match self.state(seat) {
                Some(PartnerState::InMaintenance)
                    if self.plan.partner(seat).and_then(|partner| self.state(partner))
                        != Some(PartnerState::PartnerInMaintenance) =>
                {
                    self.tally.resets_by_hand += 1;
                    self.operate_at(seat, HaCommand::Reset { server_name: None });
                }
                Some(PartnerState::PartnerInMaintenance) => {
                    self.operate_at(seat, HaCommand::MaintenanceCancel)
                }
                _ => {}
            }
        }
    }

    /// What comes to a hub's listener from a spoke about an address of the other one: by an administrator's mistake, or
    /// because the spoke's configuration has the other's subnet.
    fn speak_out_of_turn(&mut self) {
        let (about, client, last) =
            (self.draw(2) as usize, self.draw(self.plan.clients.into()), self.draw(self.plan.pool.into()));
        let about = self.plan.one_suffers.map_or(about, |link| 1 - link);
        let seat = seat_of(0, 1 - about);
        let (first, _) = pool(&self.plan, about);
        let [a, b, c, d] = first.octets();
        let number = client as u32 + (1 - about as u32) * self.plan.clients;
        let lease = Lease {
            address: [a, b, c, d + last as u8].into(),
            subnet_id: 1 + about as u32,
            pool_id: 0,
            hwaddr: SmallBytes::new(&hardware(number)),
            client_id: SmallBytes::empty(),
            valid_lifetime: LIFETIME_S,
            cltt: self.clock_of(0).wall_s(),
            state: LeaseState::Default,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::empty(),
            user_context: None,
        };
        let kind = if self.chance(300) { UpdateKind::Delete } else { UpdateKind::Update };
        let mut body = Vec::new();
        let copies = 1 + self.draw(2) as usize;
        batch::write_request(std::iter::repeat_n((kind, &lease), copies), None, &mut body);
        self.tally.out_of_turn += 1;
        self.trace(|| format!("of link {}: {kind:?} of {}", 1 - about, lease.address));
        self.stray_request(seat, &body);
    }

    /// From now on everything works.
    pub fn heal(&mut self) {
        self.harm_all();
        self.trace(|| "everything is well from here".to_owned());
        self.calm = true;
        self.checks.apart.end(self.now_ns);
        self.links = Links::default();
        for server in 0..self.servers.len() {
            self.servers[server].disk.full = false;
            self.servers[server].disk.failing = false;
            self.servers[server].doom = None;
            if self.servers[server].clock.skew_ms.abs() > ALLOWED_SKEW_MS {
                self.set_clock(server, self.plan.skew_ms[server]);
            }
            self.correct(server);
            self.schedule(self.now_ns % 7, Event::Start { server });
        }
        self.end_commands();
    }

    /// The pair comes together, goes on until every lease of the bad times has ended or was renewed, and falls
    /// silent; then its leases are compared.
    pub fn converge(&mut self) -> Result<(), String> {
        let until_ns = self.now_ns + WHOLE_WITHIN_NS;
        let mut whole_for_s = 0;
        while whole_for_s < STAYS_WHOLE_S {
            let stands_still = self.servers.iter().any(|host| host.paused_until_ns > self.now_ns);
            whole_for_s = if self.is_whole() && !stands_still { whole_for_s + 1 } else { 0 };
            if self.now_ns >= until_ns {
                let states =
                    self.plan.seats().map(|seat| self.state(seat).map_or("down", PartnerState::name));
                let states: Vec<_> = states.collect();
                let states = states.join(" and ");
                return Err(format!("invariant 6: after all is well the pair is not whole but {states}"));
            }
            self.run_until(self.now_ns + NS_PER_S)?;
            self.reset_by_hand();
        }
        self.copy_to_backups()?;
        self.compare_with_kea()?;
        // Leases written by a clock that was wrong may last longer by as much.
        let wrong_s = self.plan.steps_ms.unsigned_abs().div_ceil(1000);
        self.run_until(self.now_ns + (u64::from(LIFETIME_S) + wrong_s + 5) * NS_PER_S)?;
        self.silent = true;
        self.run_until(self.now_ns + 2 * NS_PER_S)?;
        for server in 0..self.servers.len() {
            self.check_recovery(server);
        }
        self.check_healed();
        self.checks.verdict()
    }
}
