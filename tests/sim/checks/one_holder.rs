//! Invariant 1: no address is held by two clients, each by its own clock.
//!
//! The fault model allows it in three cases, which are counted as excused. The first: a server that served alone gave
//! (or renewed) the lease, its partner did not learn of it by a copy or by the pair being whole again, and that
//! partner serves clients all the same. That takes two failures at once (the server that served alone is gone when
//! its partner comes back) or a cut or stalled link with both servers alive. High availability with two servers
//! cannot do better.
//!
//! The second: a REQUEST of an exchange that its client has given up, delivered late, moves the client to another
//! address. No server can tell it from a new one.
//!
//! The third: a wall clock was set by more than a moment, so that leases end on it at another time than for their
//! clients, and until it is right again; and where it was set back, until what it dated ahead of time no longer counts as
//! the newer lease of its address.
//!
//! Clocks: a server's wall clock is up to 0.3 s wrong, so a lease may end on its partner's clock up to 0.6 s before
//! it ends for its client, and clocks drift; two holders that overlap for less than [`ALLOWANCE_NS`] are none.

use std::net::Ipv4Addr;

use tandem::ha::OwnState;

use super::acknowledged::Ack;
use crate::sim::pair::links::{SEATS_MAX, host_of};

const ALLOWANCE_NS: u64 = 1_000_000_000;

/// Who holds what, and by which ACK.
#[derive(Default)]
pub struct Holders {
    acks: Vec<Sent>,
    /// The ACK each client holds its address by.
    current: Vec<Option<usize>>,
    /// When the last REQUEST of an earlier exchange of each client reached a server.
    disturbed_ns: Vec<u64>,
    /// When the pair was last whole: each server knew then what the other had given.
    reunited_ns: u64,
    /// When the copy under way began, and up to when each server knows its partner's leases by a copy.
    copy_began_ns: [u64; SEATS_MAX],
    copied_through_ns: [u64; SEATS_MAX],
    /// A clock is wrong by more than the allowance.
    crooked: bool,
    /// When one was last set by more than that, and until when leases that it dated ahead of time are newer than others.
    set_ns: u64,
    ahead_until_ns: u64,
    pub excused: u64,
    violation: Option<String>,
}

struct Sent {
    at_ns: u64,
    seat: usize,
    address: Ipv4Addr,
    alone: bool,
    /// The partner serves without knowing of it.
    exposed: bool,
}

impl Holders {
    /// An ACK is on the wire; its number. `other_serves`: the partner gives leases too.
    pub fn sent(&mut self, ack: &Ack, other_serves: bool) -> usize {
        let (Ack { at_ns, seat, address, .. }, alone) = (ack, ack.is_alone());
        let exposed = alone && other_serves || self.by_a_wrong_clock(ack);
        self.acks.push(Sent { at_ns: *at_ns, seat: *seat, address: *address, alone, exposed });
        self.acks.len() - 1
    }

    /// Whether a clock is wrong by more than the allowance, or was when the lease was committed.
    pub fn by_a_wrong_clock(&self, ack: &Ack) -> bool {
        self.crooked || ack.asked_ns <= self.set_ns.max(self.ahead_until_ns)
    }

    /// A wall clock was set back: what it has dated is from the future until `until_ns`.
    pub fn set_back(&mut self, until_ns: u64) {
        self.ahead_until_ns = self.ahead_until_ns.max(until_ns);
    }

    /// A machine has entered `state`.
    pub fn state_changed(&mut self, now_ns: u64, seat: usize, state: OwnState) {
        match state {
            OwnState::Syncing => self.copy_began_ns[seat] = now_ns,
            OwnState::Ready => self.copied_through_ns[seat] = self.copy_began_ns[seat],
            // None of them waits for anybody's word, and each may have been entered without the partner's leases; the first
            // by a server that has stood still and finds its partner gone.
            OwnState::CommunicationRecovery | OwnState::PartnerDown | OwnState::Terminated => {
                let known_ns = self.reunited_ns.max(self.copied_through_ns[seat]);
                let unknown = |ack: &&mut Sent| ack.seat != seat && ack.alone && ack.at_ns > known_ns;
                self.acks.iter_mut().filter(unknown).for_each(|ack| ack.exposed = true);
            }
            OwnState::Backup
            | OwnState::HotStandby
            | OwnState::InMaintenance
            | OwnState::LoadBalancing
            | OwnState::PartnerInMaintenance
            | OwnState::PassiveBackup
            | OwnState::Waiting => {}
        }
    }

    /// A server's wall clock was set. `far`: by more than the allowance, so that what was given until now ends at
    /// another time; `wrong`: a clock is wrong from now on.
    pub fn clocks_set(&mut self, now_ns: u64, far: bool, wrong: bool) {
        if far {
            self.set_ns = now_ns;
            self.acks.iter_mut().for_each(|ack| ack.exposed = true);
        }
        self.crooked = wrong;
    }

    /// Both servers are in the normal state.
    pub fn reunited(&mut self, now_ns: u64) {
        self.reunited_ns = now_ns;
    }

    /// A REQUEST that `member` has given up reaches a server.
    pub fn disturbed(&mut self, now_ns: u64, member: usize) {
        if self.disturbed_ns.len() <= member {
            self.disturbed_ns.resize(member + 1, 0);
        }
        self.disturbed_ns[member] = now_ns;
    }

    /// A server that is not ours has changed its lease of `address`: what was given before may go to somebody else.
    pub fn decided_elsewhere(&mut self, address: Ipv4Addr) {
        self.acks.iter_mut().filter(|ack| ack.address == address).for_each(|ack| ack.exposed = true);
    }

    /// Whether what `member` holds was given by a server of ours.
    pub fn is_ours(&self, member: usize) -> bool {
        self.current.get(member).is_some_and(Option::is_some)
    }

    /// A client has taken the lease of ACK `ack`, or of a server that is not ours; `holds` says what each client holds, and
    /// until when.
    pub fn granted(
        &mut self,
        now_ns: u64,
        member: usize,
        ack: Option<usize>,
        holds: &[Option<(Ipv4Addr, u64)>],
    ) {
        self.current.resize(holds.len(), None);
        self.current[member] = ack;
        let Some(ack) = ack else { return };
        let address = self.acks[ack].address;
        for (other, held) in holds.iter().enumerate() {
            let overlaps =
                held.is_some_and(|(held, until_ns)| held == address && until_ns > now_ns + ALLOWANCE_NS);
            if other == member || !overlaps {
                continue;
            }
            let by = self.current[other].map(|ack| &self.acks[ack]);
            // Of the two, the one that was sent first is the one that the other server should have known of.
            let late = by.filter(|sent| self.acks[ack].at_ns < sent.at_ns).map(|_| &self.acks[ack]);
            let excuses = |member: usize, sent: &Sent| {
                let disturbed_ns = self.disturbed_ns.get(member).copied().unwrap_or(0);
                sent.exposed || sent.at_ns <= disturbed_ns
            };
            if by.is_none_or(|sent| excuses(other, sent)) || late.is_some_and(|sent| excuses(member, sent)) {
                self.excused += 1;
                continue;
            }
            let given = by.map(|sent| {
                let how = if sent.alone { "alone" } else { "with its partner" };
                format!("server{} {how} at {} ms", host_of(sent.seat) + 1, sent.at_ns / 1_000_000)
            });
            self.violation.get_or_insert(format!(
                "invariant 1: {address} is held by client {member} (from server{}) and by client {other} (from {})",
                host_of(self.acks[ack].seat) + 1,
                given.unwrap_or_default(),
            ));
        }
    }

    pub fn take_violation(&mut self) -> Option<String> {
        self.violation.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::checks::tests::lease;

    fn ack(at_ns: u64, server: usize, alone: bool) -> Ack {
        Ack {
            at_ns,
            asked_ns: at_ns,
            server,
            seat: server,
            link: 0,
            address: lease(1, 9).address,
            lifetime_s: 60,
            xid: 7,
            hardware: [2, 0, 0, 0, 0, 9],
            client_id: Vec::new(),
            wall_s: 1000,
            waited_for: if alone { Vec::new() } else { vec![1 - server] },
            taken_over: false,
        }
    }

    /// Client 0 takes the lease of `first`, then client 1 that of server 1, while `held_ns` is left of the first.
    fn two_holders(first: &Ack, held_ns: u64, between: impl Fn(&mut Holders)) -> (bool, u64) {
        let mut holders = Holders::default();
        let given = holders.sent(first, false);
        let held = Some((first.address, first.at_ns + held_ns));
        holders.granted(first.at_ns, 0, Some(given), &[held, None]);
        between(&mut holders);
        let second = ack(first.at_ns + 2, 1, false);
        let again = holders.sent(&second, false);
        holders.granted(second.at_ns, 1, Some(again), &[held, Some((second.address, u64::MAX))]);
        (holders.take_violation().is_some_and(|what| what.starts_with("invariant 1")), holders.excused)
    }

    /// Client 0 is moved by a REQUEST that it has given up, and hears the ACK of before it only once client 1 has the address.
    #[test]
    fn an_ack_that_comes_late_is_excused_where_its_client_was_moved_since() {
        for (moved, violates) in [(Some(6), false), (Some(4), true), (None, true)] {
            let mut holders = Holders::default();
            let (first, second) = (ack(5, 0, false), ack(7, 0, false));
            let late = holders.sent(&first, false);
            if let Some(moved_ns) = moved {
                holders.disturbed(moved_ns, 0);
            }
            let given = holders.sent(&second, false);
            let held = Some((second.address, u64::MAX));
            holders.granted(8, 1, Some(given), &[None, held]);
            holders.granted(9, 0, Some(late), &[held, held]);
            assert_eq!(holders.take_violation().is_some(), violates, "{moved:?}");
        }
    }

    #[test]
    fn two_holders_at_a_time_are_seen_unless_the_fault_model_allows_them() {
        let partnered = ack(5, 0, false);
        let alone = ack(5, 0, true);
        let takes_over = |holders: &mut Holders| holders.state_changed(6, 1, OwnState::PartnerDown);
        assert_eq!(two_holders(&partnered, 2 * ALLOWANCE_NS, |_| ()), (true, 0));
        assert_eq!(
            two_holders(&partnered, ALLOWANCE_NS / 2, |_| ()),
            (false, 0),
            "the first lease has ended"
        );
        assert_eq!(two_holders(&alone, 2 * ALLOWANCE_NS, |_| ()), (true, 0), "the other one does not serve");
        assert_eq!(two_holders(&partnered, 2 * ALLOWANCE_NS, takes_over), (true, 0), "it was told");
        assert_eq!(two_holders(&alone, 2 * ALLOWANCE_NS, takes_over), (false, 1));
        let recovers = |it: &mut Holders| it.state_changed(6, 1, OwnState::CommunicationRecovery);
        assert_eq!(two_holders(&alone, 2 * ALLOWANCE_NS, recovers), (false, 1));
        assert_eq!(two_holders(&partnered, 2 * ALLOWANCE_NS, recovers), (true, 0), "it was told");
        assert_eq!(two_holders(&partnered, 2 * ALLOWANCE_NS, |it| it.disturbed(6, 0)), (false, 1));
        let decided = |it: &mut Holders| it.decided_elsewhere(partnered.address);
        assert_eq!(two_holders(&partnered, 2 * ALLOWANCE_NS, decided), (false, 1));
        assert_eq!(two_holders(&partnered, 2 * ALLOWANCE_NS, |it| it.clocks_set(6, true, false)), (false, 1));
        assert_eq!(two_holders(&partnered, 2 * ALLOWANCE_NS, |it| it.clocks_set(6, false, false)), (true, 0));
    }
}
