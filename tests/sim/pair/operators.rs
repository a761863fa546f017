//! Operators: what they ask of servers while things go wrong, and what they have to do once all is well.

use tandem::ha::command::{HaCommand, Origin, Reply};
use tandem::ha::{CommandSource, Event as HaEvent, OwnState, Role};

use super::links::{host_of, seat_of};
use super::server::{PRIMARY, server_name};
use super::simulation::{Event, NS_PER_S, Simulation};
use crate::sim::checks::serving::serves;

/// A backup has copied all leases within this time.
const COPIED_WITHIN_NS: u64 = 60 * NS_PER_S;

impl Simulation {
    /// A command of an operator, on the server's own socket, for each of its relationships.
    pub fn operate(&mut self, server: usize, command: HaCommand) {
        for place in 0..self.plan.places(server) {
            self.operate_at(seat_of(server, place), command.clone());
        }
    }

    /// One for a relationship.
    pub fn operate_at(&mut self, seat: usize, command: HaCommand) {
        let is_stopped = self.servers[host_of(seat)].paused_until_ns > self.now_ns;
        let Some(end) = self.end_mut(seat).filter(|_| !is_stopped) else { return };
        end.answered = None;
        if let HaCommand::Scopes { scopes, .. } = &command {
            end.scopes_by_hand = Some(scopes.clone());
        }
        self.trace(|| format!("server{} is told {command:?}", host_of(seat) + 1));
        self.tally.commands += 1;
        self.harm_all();
        let source = CommandSource::Administrator;
        self.feed(seat, HaEvent::Command { token: super::control::OPERATORS_TOKEN, source, command });
    }

    /// A server answers the command of its operator.
    pub fn operator_answered(&mut self, seat: usize, reply: &Reply) {
        self.trace(|| format!("server{} answers its operator: {:?}", host_of(seat) + 1, reply.text));
        if let Some(end) = self.end_mut(seat) {
            end.answered = Some(reply.result == 0);
        }
    }

    /// An operator has any server do anything.
    pub fn command(&mut self) {
        let server = self.draw(self.servers.len() as u64) as usize;
        let for_ns = self.draw(8 * NS_PER_S);
        let life = self.servers[server].life;
        let (command, undone_by) = match self.draw(6) {
            // A backup that serves clients by hand is the end of its primary.
            0 if !self.plan.is_backup(server) => (self.any_scopes(), Some(self.own_scopes(server))),
            1 => {
                let peers = self.plan.peers(server);
                let source = peers[self.draw(peers.len() as u64) as usize];
                let max_period_s = self.any_period();
                (HaCommand::Sync { server_name: server_name(source), max_period_s }, None)
            }
            2 => {
                let (origin, max_period_s) = (Origin::User, self.any_period());
                let enable = HaCommand::DhcpEnable { origin: Origin::User };
                (HaCommand::DhcpDisable { origin, max_period_s }, Some(enable))
            }
            3 => (HaCommand::MaintenanceStart, Some(HaCommand::MaintenanceCancel)),
            4 => (HaCommand::Reset { server_name: None }, None),
            _ => (HaCommand::Continue { server_name: None }, None),
        };
        self.operate(server, command);
        if let Some(command) = undone_by {
            self.schedule(for_ns, Event::Operator { server, life, command });
        }
    }

    fn any_period(&mut self) -> Option<u64> {
        self.chance(500).then(|| 1 + self.draw(5))
    }

    fn any_scopes(&mut self) -> HaCommand {
        let mut scopes: Vec<String> = (0..self.plan.active()).map(server_name).collect();
        scopes.truncate(self.draw(scopes.len() as u64 + 1) as usize);
        HaCommand::Scopes { scopes, server_name: None }
    }

    /// Those a server has in its normal state.
    fn own_scopes(&self, server: usize) -> HaCommand {
        HaCommand::Scopes {
            scopes: self.serves_by_itself(server).then(|| server_name(server)).into_iter().collect(),
            server_name: None,
        }
    }

    /// Whether an operator has named a scope for a server that it does not have by itself, in a state that serves: then
    /// two may serve the same clients.
    pub fn is_by_hand(&self) -> bool {
        let adds = |server: usize| {
            let Some(end) = self.end(server) else { return false };
            let for_both = matches!(end.state, OwnState::PartnerDown | OwnState::PartnerInMaintenance);
            let has =
                |name: &String| for_both || *name == server_name(server) && self.serves_by_itself(server);
            let named = end.scopes_by_hand.iter().flatten();
            serves(end.state, Role::Primary) && !named.into_iter().all(has)
        };
        (0..self.servers.len()).any(adds)
    }

    /// Whether the server has clients of its own in the normal state.
    fn serves_by_itself(&self, server: usize) -> bool {
        server == PRIMARY || self.plan.balancing
    }

    /// What operators have begun they end, on servers that run.
    pub fn end_commands(&mut self) {
        for server in 0..self.servers.len() {
            let Some(end) = self.end(server) else { continue };
            if end.scopes_by_hand.is_some() {
                self.operate(server, self.own_scopes(server));
            }
            if self.plan.commands {
                self.operate(server, HaCommand::DhcpEnable { origin: Origin::User });
            }
        }
    }

    /// Machines that rest in a state are told to go on.
    pub fn go_on(&mut self) {
        for server in 0..self.servers.len() {
            self.operate(server, HaCommand::Continue { server_name: None });
        }
    }

    /// Each backup copies the primary's leases, as it has to where it has missed some, while no client asks for
    /// anything; then it has them all. Leases that ended meanwhile may still be there (ha-protocol 6.10).
    pub fn copy_to_backups(&mut self) -> Result<(), String> {
        if self.plan.backups == 0 {
            return Ok(());
        }
        self.silent = true;
        // What was on its way has come or is given up by then.
        self.run_until(self.now_ns + 12 * NS_PER_S)?;
        for backup in self.plan.active()..self.servers.len() {
            let until_ns = self.now_ns + COPIED_WITHIN_NS;
            self.operate(backup, HaCommand::Sync { server_name: server_name(PRIMARY), max_period_s: None });
            while self.answer_of(backup) != Some(true) {
                if self.now_ns >= until_ns {
                    return Err(format!(
                        "invariant 6: server{} cannot copy the leases of server1",
                        backup + 1
                    ));
                }
                if self.answer_of(backup) == Some(false) {
                    let server_name = server_name(PRIMARY);
                    self.operate(backup, HaCommand::Sync { server_name, max_period_s: None });
                }
                self.run_until(self.now_ns + NS_PER_S)?;
            }
            self.tally.copies_to_backups += 1;
            self.check_copied(backup);
        }
        self.silent = false;
        self.checks.verdict()
    }

    /// A Kea has every lease that a client holds and its partner gave, while no client asks for anything.
    pub fn compare_with_kea(&mut self) -> Result<(), String> {
        let Some((kea, _)) = self.plan.kea else { return Ok(()) };
        self.silent = true;
        // What was on its way has come or is given up by then.
        self.run_until(self.now_ns + 12 * NS_PER_S)?;
        self.check_known_to_kea(kea);
        self.silent = false;
        self.checks.verdict()
    }

    fn answer_of(&self, server: usize) -> Option<bool> {
        self.end(server).and_then(|end| end.answered)
    }
}
