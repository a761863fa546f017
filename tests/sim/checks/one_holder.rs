//! Invariant 1: no address is held by two clients, each by its own clock.
//!
//! The fault model allows it in two cases, which are counted as excused. The first: a server that served alone gave
//! (or renewed) the lease, its partner did not learn of it by a copy or by the pair being whole again, and that
//! partner serves clients all the same. That takes two failures at once (the server that served alone is gone when
//! its partner comes back) or a cut or stalled link with both servers alive. High availability with two servers
//! cannot do better.
//!
//! The second: a REQUEST of an exchange that its client has given up, delivered late, moves the client to another
//! address. No server can tell it from a new one.
//!
//! Clocks: a server's wall clock is up to 0.3 s wrong, so a lease may end on its partner's clock up to 0.6 s before
//! it ends for its client, and clocks drift; two holders that overlap for less than [`ALLOWANCE_NS`] are none.

use std::net::Ipv4Addr;

use tandem::ha::OwnState;

use super::acknowledged::Ack;

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
    copy_began_ns: [u64; 2],
    copied_through_ns: [u64; 2],
    pub excused: u64,
    violation: Option<String>,
}

struct Sent {
    at_ns: u64,
    server: usize,
    address: Ipv4Addr,
    alone: bool,
    /// The partner serves without knowing of it.
    exposed: bool,
}

impl Holders {
    /// An ACK is on the wire; its number. `other_serves`: the partner gives leases too.
    pub fn sent(&mut self, ack: &Ack, other_serves: bool) -> usize {
        let Ack { at_ns, server, address, alone, .. } = *ack;
        self.acks.push(Sent { at_ns, server, address, alone, exposed: alone && other_serves });
        self.acks.len() - 1
    }

    /// A machine has entered `state`.
    pub fn state_changed(&mut self, now_ns: u64, server: usize, state: OwnState) {
        match state {
            OwnState::Syncing => self.copy_began_ns[server] = now_ns,
            OwnState::Ready => self.copied_through_ns[server] = self.copy_began_ns[server],
            OwnState::PartnerDown => {
                let known_ns = self.reunited_ns.max(self.copied_through_ns[server]);
                let unknown = |ack: &&mut Sent| ack.server != server && ack.alone && ack.at_ns > known_ns;
                self.acks.iter_mut().filter(unknown).for_each(|ack| ack.exposed = true);
            }
            OwnState::HotStandby | OwnState::Terminated | OwnState::Waiting => {}
        }
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

    /// A client has taken the lease of ACK `ack`; `holds` says what each client holds, and until when.
    pub fn granted(&mut self, now_ns: u64, member: usize, ack: usize, holds: &[Option<(Ipv4Addr, u64)>]) {
        self.current.resize(holds.len(), None);
        self.current[member] = Some(ack);
        let address = self.acks[ack].address;
        for (other, held) in holds.iter().enumerate() {
            let overlaps =
                held.is_some_and(|(held, until_ns)| held == address && until_ns > now_ns + ALLOWANCE_NS);
            if other == member || !overlaps {
                continue;
            }
            let by = self.current[other].map(|ack| &self.acks[ack]);
            let disturbed_ns = self.disturbed_ns.get(other).copied().unwrap_or(0);
            if by.is_some_and(|sent| sent.exposed || sent.at_ns <= disturbed_ns) {
                self.excused += 1;
                continue;
            }
            let given = by.map(|sent| {
                let how = if sent.alone { "alone" } else { "with its partner" };
                format!("server{} {how} at {} ms", sent.server + 1, sent.at_ns / 1_000_000)
            });
            self.violation.get_or_insert(format!(
                "invariant 1: {address} is held by client {member} (from server{}) and by client {other} (from {})",
                self.acks[ack].server + 1,
                given.unwrap_or_default(),
            ));
        }
    }

    pub fn take_violation(&mut self) -> Option<String> {
        self.violation.take()
    }
}
