//! What goes wrong and when; and the end of a run, when nothing does.

use super::server::LIFETIME_S;
use super::simulation::{Event, NS_PER_MS, NS_PER_S, Simulation};
use super::stream::Way;

/// A pair whose link and hosts are well is whole within this time.
const WHOLE_WITHIN_NS: u64 = 90 * NS_PER_S;

impl Simulation {
    /// One thing happens that nobody planned, and the time of the next one is drawn.
    pub fn take_chance(&mut self) {
        if self.calm {
            return;
        }
        match self.draw(100) {
            0..8 => self.strike(),
            8..10 if self.plan.cuts => {
                self.linked = !self.linked;
                self.tally.cuts += u64::from(!self.linked);
                self.trace(|| format!("linked: {}", self.linked));
            }
            10..16 => self.reset_a_stream(),
            16..18 => {
                let server = self.draw(2) as usize;
                self.servers[server].disk.full = true;
            }
            _ => {
                let member = self.draw(u64::from(self.plan.clients)) as usize;
                let what = self.draw(14);
                self.act(member, what);
            }
        }
        if !self.linked && self.chance(250) {
            self.linked = true;
            self.trace(|| "linked again".to_owned());
        }
        let pause_ns = 20 * NS_PER_MS + self.draw(900 * NS_PER_MS);
        self.schedule(pause_ns, Event::Chance);
    }

    /// A server is killed or loses power.
    fn strike(&mut self) {
        let server = self.draw(2) as usize;
        let power = self.chance(500);
        if self.plan.double_failures || self.is_whole() {
            self.crash(server, power);
        }
    }

    fn reset_a_stream(&mut self) {
        let ids = self.streams.ids();
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

    /// From now on everything works.
    pub fn heal(&mut self) {
        self.trace(|| "everything is well from here".to_owned());
        self.calm = true;
        self.linked = true;
        for server in 0..2 {
            self.servers[server].disk.full = false;
            self.schedule(self.now_ns % 7, Event::Start { server });
        }
    }

    /// The pair comes together, goes on until every lease of the bad times has ended or was renewed, and falls
    /// silent; then its leases are compared.
    pub fn converge(&mut self) -> Result<(), String> {
        let until_ns = self.now_ns + WHOLE_WITHIN_NS;
        while !self.is_whole() {
            if self.now_ns >= until_ns {
                let states = self.servers.iter().map(|host| {
                    host.process.as_ref().map_or("down", |process| process.machine.state().name())
                });
                let states: Vec<_> = states.collect();
                return Err(format!("after all is well the pair is not whole but {}", states.join(" and ")));
            }
            self.run_until(self.now_ns + NS_PER_S)?;
        }
        self.run_until(self.now_ns + (u64::from(LIFETIME_S) + 5) * NS_PER_S)?;
        self.silent = true;
        self.run_until(self.now_ns + 2 * NS_PER_S)?;
        for server in 0..2 {
            self.check_tables(server);
        }
        self.check_healed();
        self.checks.verdict()
    }
}
