//! What the check of take-overs ([`overtaken`](crate::sim::checks::overtaken)) looks at: who is heard, who is found waiting,
//! who takes over, and what keeps the partner from serving.

use shards::{Lease, LeaseState};
use tandem::engine::message::{PartnerCall, UnansweredClient};
use tandem::ha::OwnState;

use super::links::{Cut, host_of};
use super::server::pool;
use super::simulation::Simulation;
use crate::sim::checks::overtaken::Judge;
use crate::sim::checks::serving::serves;

/// Clients count as waiting beyond this, seconds: `max-ack-delay`.
const WAITS_S: u16 = 1;

impl Simulation {
    /// An answer of the partner has reached the machine: any that tells the time is one to a heartbeat.
    pub fn note_heard(&mut self, seat: usize, call: &PartnerCall) {
        let tells_time = call.body.windows(11).any(|octets| octets == b"\"date-time\"");
        if call.failure.is_none() && tells_time {
            self.checks.overtaken.heard(self.now_ns, seat);
        }
    }

    /// Whether a seat serves clients of its own: a machine of ours by its state and its locks, a Kea likewise.
    pub fn note_service(&mut self, seat: usize) {
        let kea = self.servers[host_of(seat)].kea.as_ref();
        let serves = match (self.end(seat), kea) {
            (Some(end), _) => {
                let is_on = end.machine.view().is_some_and(|view| view.service_on);
                is_on && serves(end.machine.state(), end.machine.relationship().role)
            }
            (None, Some(kea)) => {
                kea.machine.service_on() && kea.machine.in_scope(kea.machine.settings.primary)
            }
            (None, None) => false,
        };
        self.checks.overtaken.note(self.now_ns, seat, serves);
    }

    /// A client of the partner is reported to the machine.
    pub fn note_waiting(&mut self, seat: usize, client: &UnansweredClient) {
        let Some(member) = self.member_of(client.hwaddr.as_slice()) else { return };
        let is_asked = self.end(seat).is_some_and(|end| self.goes_by_clients(seat, end.machine.state()));
        if let Some(judge) = self.judge(seat).filter(|_| is_asked && client.secs > WAITS_S) {
            self.checks.overtaken.waits(judge, member);
        }
    }

    /// A machine has gone from `from` to partner-down.
    pub fn note_take_over(&mut self, seat: usize, from: OwnState) {
        if let Some(judge) = self.judge(seat).filter(|_| self.goes_by_clients(seat, from)) {
            self.checks.overtaken.taken_over(judge, from);
        }
    }

    /// Whether a machine takes over by what clients have shown.
    fn goes_by_clients(&self, seat: usize, from: OwnState) -> bool {
        let serves_and_hears_nobody = self.plan.is_primary(seat) && !self.plan.balancing;
        let goes = match from {
            OwnState::CommunicationRecovery
            | OwnState::HotStandby
            | OwnState::LoadBalancing
            | OwnState::Terminated => !serves_and_hears_nobody,
            OwnState::InMaintenance | OwnState::Ready | OwnState::Syncing => true,
            OwnState::Backup
            | OwnState::PartnerDown
            | OwnState::PartnerInMaintenance
            | OwnState::PassiveBackup
            | OwnState::Waiting => false,
        };
        goes && self.plan.max_unacked_clients > 0
    }

    fn judge(&self, seat: usize) -> Option<Judge> {
        let partner = self.plan.partner(seat)?;
        Some(Judge { now_ns: self.now_ns, seat, partner, harmed: self.is_harmed(seat, partner) })
    }

    /// Whether something keeps `partner` from serving, or `seat` from seeing that it does.
    fn is_harmed(&self, seat: usize, partner: usize) -> bool {
        let (own, other) = (host_of(seat), host_of(partner));
        let ways = [Cut::ToClients(other), Cut::FromClients(other), Cut::FromClients(own)];
        let host = &self.servers[other];
        let is_right = host.process.as_ref().is_none_or(|process| process.right && process.reloading == 0);
        !ways.into_iter().all(|way| self.links.is_open(way))
            || host.disk.full
            || host.disk.failing
            || !is_right
            || !self.has_room(partner)
            || self.is_by_hand()
    }

    /// Whether a server has an address for each client of its link that holds none.
    fn has_room(&self, seat: usize) -> bool {
        let (link, host) = (self.plan.link_of(seat), &self.servers[host_of(seat)]);
        let (first, last) = pool(&self.plan, link);
        let leases = host.kea.as_ref().map_or(host.disk.written(), |kea| &kea.leases);
        let wall_s = self.clock_of(host_of(seat)).wall_s();
        let is_taken = |lease: &&Lease| {
            let counts = matches!(lease.state, LeaseState::Default | LeaseState::Declined);
            counts && lease.cltt + u64::from(lease.valid_lifetime) > wall_s
        };
        let taken = leases.range(first..=last).map(|(_, lease)| lease).filter(is_taken).count();
        let without = self.population.iter().filter(|it| it.link == link && it.holds().is_none()).count();
        let size = (u32::from(last) - u32::from(first) + 1) as usize;
        // Where they share the clients each has a half of the addresses.
        size - taken > without * (1 + usize::from(self.plan.balancing))
    }
}
