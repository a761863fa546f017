//! Invariant 2: every ACK seen on the wire is, at that instant, on the stable storage of the server that sends it,
//! and on that of every server the view of the shard that sends it asks for: its partner, or the backups of a
//! primary that waits for them.
//!
//! A reply parked before the view turned to asking was committed, or its obligation waived, while nobody was asked;
//! what a view requires is counted from the first time the REQUEST was seen.
//!
//! While the partner serves alone because the link is cut, or this server stood still, it is excused what it does with a
//! lease that was on its disk as well: its client may have given it back there.
//!
//! While a clock is wrong by more than a moment, what lies on the partner's disk is excused, and later a row there that is
//! from the future or was reclaimed before its time: it was written while a clock was wrong. Of two leases of an address a
//! copy takes the newer one (ha-protocol 6.3), and each server reclaims by its own clock. On its own disk a server may have
//! the client's lease as its partner has given it meanwhile, by a clock that is wrong, where an operator has both serve the
//! client; it has had its own there.
//!
//! What is on a disk is read from the rows that were synced there. A row stands for an ACK when it is that client's
//! and lasts at least as long as the client may think: from the first time its REQUEST was seen, for the lifetime
//! the ACK names.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use shards::{Lease, LeaseState, Now};
use tandem::wire::Query;
use tandem::wire::codes::MessageType;

use super::Checks;

/// Clocks may be this far apart without a lease being from the future, seconds.
const FUTURE_S: u64 = 2;

/// An ACK that gives a lease.
pub struct Ack {
    pub at_ns: u64,
    /// When its REQUEST was first seen.
    pub asked_ns: u64,
    pub server: usize,
    /// Its seat in the relationship whose link the client is on.
    pub seat: usize,
    pub link: usize,
    pub address: Ipv4Addr,
    pub lifetime_s: u32,
    pub xid: u32,
    pub hardware: [u8; 6],
    pub client_id: Vec<u8>,
    /// The wall clock of the server that sends it, seconds.
    pub wall_s: u64,
    /// The servers the view asks for, if it did so when the REQUEST was seen.
    pub waited_for: Vec<usize>,
    /// The partner has taken over already, and this server has yet to hear of it.
    pub taken_over: bool,
}

impl Ack {
    /// Nobody else was asked for.
    pub fn is_alone(&self) -> bool {
        self.waited_for.is_empty()
    }
}

/// When each REQUEST was first seen: by server, hardware address and transaction.
#[derive(Default)]
pub struct Requests(BTreeMap<(usize, Vec<u8>, u32), Now>);

impl Requests {
    pub fn seen(&mut self, server: usize, now: Now, bytes: &[u8]) {
        let Ok(query) = Query::decode(bytes) else { return };
        if query.message_type() == Some(MessageType::Request) {
            self.0.entry((server, query.chaddr().to_vec(), query.xid())).or_insert(now);
        }
    }

    /// The wall clock of a server was set by `by_ms`: what is counted from a time before goes by the earlier of both.
    pub fn stepped(&mut self, server: usize, by_ms: i64) {
        for (_, first) in self.0.iter_mut().filter(|((seen_by, _, _), _)| *seen_by == server) {
            first.wall_ms = first.wall_ms.saturating_add_signed(by_ms.min(0));
        }
    }

    /// When the REQUEST of this transaction was first seen, by the server's clocks.
    pub fn first(&self, server: usize, hardware: [u8; 6], xid: u32) -> Option<Now> {
        self.0.get(&(server, hardware.to_vec(), xid)).copied()
    }
}

impl Checks {
    /// Looks at an ACK on the wire; `durable` is the synced row of an address at a server, and `was_durable` whether such
    /// a row was ever synced there.
    pub fn acknowledged<'a>(
        &mut self,
        ack: &Ack,
        durable: impl Fn(usize, Ipv4Addr) -> Option<&'a Lease>,
        was_durable: impl Fn(usize, Ipv4Addr, &dyn Fn(&Lease) -> bool) -> bool,
    ) {
        let Some(first) = self.requests.first(ack.server, ack.hardware, ack.xid) else {
            return self
                .fail(format!("invariant 2: server{} acknowledges what nobody requested", ack.server + 1));
        };
        if let Err(what) = self.serving.gives(ack.seat, first) {
            return self.fail(what);
        }
        let until_s = first.wall_s() + u64::from(ack.lifetime_s);
        let stands = |lease: &Lease| {
            lease.state == LeaseState::Default
                && lease.hwaddr.as_slice() == ack.hardware
                && lease.client_id.as_slice() == ack.client_id
                && lease.expire() >= until_s
        };
        let others = ack.waited_for.iter().map(|server| (*server, "its partner's"));
        for (server, whose) in std::iter::once((ack.server, "its own")).chain(others) {
            let row = durable(server, ack.address);
            // Neither can have been written by a clock that agrees with the one of the server that sends the ACK.
            let soon_s = ack.wall_s + FUTURE_S;
            let by_another_clock = |row: &Lease| match row.state {
                LeaseState::ExpiredReclaimed => row.expire() > soon_s,
                _ => row.cltt > soon_s,
            };
            if row.is_some_and(stands) {
                continue;
            }
            let clocks_differ =
                row.is_some_and(by_another_clock) || self.holders[ack.link].by_a_wrong_clock(ack);
            let has_had_it = || was_durable(server, ack.address, &stands);
            let is_its =
                |row: &Lease| row.state == LeaseState::Default && row.hwaddr.as_slice() == ack.hardware;
            let is_excused = if server == ack.server {
                // The other one, which serves the same clients, has given it the lease as well, by its own clock.
                self.holders[ack.link].by_a_wrong_clock(ack) && row.is_some_and(is_its) && has_had_it()
            } else {
                clocks_differ || ack.taken_over && has_had_it()
            };
            if is_excused {
                self.excused += 1;
            } else {
                self.fail(format!(
                    "invariant 2: server{} acknowledges {} until {until_s}, but on {whose} disk is {row:?}",
                    ack.server + 1,
                    ack.address,
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::checks::tests::lease;

    const REQUEST: Now = Now { monotonic_ns: 1, wall_ms: 1_000_000 };

    fn ack(alone: bool) -> Ack {
        Ack {
            at_ns: 2,
            asked_ns: 1,
            server: 0,
            seat: 0,
            link: 0,
            address: lease(1, 9).address,
            lifetime_s: 60,
            xid: 7,
            hardware: [2, 0, 0, 0, 0, 9],
            client_id: Vec::new(),
            wall_s: 1000,
            waited_for: if alone { Vec::new() } else { vec![1] },
            taken_over: false,
        }
    }

    fn verdict(ack: &Ack, rows: &[Option<Lease>; 2]) -> Result<(), String> {
        let mut checks = Checks::new(None);
        checks.serving.note(0, 0, true);
        checks.requests.0.insert((0, ack.hardware.to_vec(), ack.xid), REQUEST);
        checks.acknowledged(ack, |server, _| rows[server].as_ref(), |_, _, _| false);
        checks.verdict()
    }

    /// The verdict on a row that is missing at a partner that has taken over, and that had it at some time or never.
    fn verdict_on_lost(ack: &Ack, ours: Option<Lease>, theirs: Option<Lease>) -> Result<(), String> {
        let mut checks = Checks::new(None);
        checks.serving.note(0, 0, true);
        checks.requests.0.insert((0, ack.hardware.to_vec(), ack.xid), REQUEST);
        let durable = |server, _| ours.as_ref().filter(|_| server == ack.server);
        checks.acknowledged(ack, durable, |_, _, is| theirs.as_ref().is_some_and(is));
        checks.verdict()
    }

    #[test]
    fn a_row_that_a_wrong_clock_has_written_over_its_own_is_excused_where_it_is_the_clients() {
        let good = lease(1, 9);
        let short = Lease { valid_lifetime: 59, ..good.clone() };
        for (case, crooked, row, had, excused) in [
            ("the client's, by a wrong clock", true, short.clone(), true, true),
            ("clocks agree", false, short.clone(), true, false),
            ("another client's", true, lease(1, 8), true, false),
            ("it has never had its own", true, short, false, false),
        ] {
            let mut checks = Checks::new(None);
            let ack = ack(false);
            checks.serving.note(0, 0, true);
            checks.requests.0.insert((0, ack.hardware.to_vec(), ack.xid), REQUEST);
            checks.holders[0].clocks_set(0, crooked, crooked);
            let durable = |server, _| Some(if server == ack.server { &row } else { &good });
            checks.acknowledged(&ack, durable, |_, _, is| had && is(&good));
            assert_eq!(checks.verdict().is_ok(), excused, "{case}");
        }
    }

    #[test]
    fn an_ack_needs_the_row_of_its_client_on_every_disk_the_view_asks_for() {
        let (good, other) = (lease(1, 9), lease(1, 8));
        let short = Lease { valid_lifetime: 59, ..good.clone() };
        let declined = Lease { state: LeaseState::Declined, ..good.clone() };
        assert_eq!(verdict(&ack(false), &[Some(good.clone()), Some(good.clone())]), Ok(()));
        assert_eq!(verdict(&ack(true), &[Some(good.clone()), None]), Ok(()));
        for bad in [None, Some(other), Some(short), Some(declined)] {
            for rows in [[bad.clone(), Some(good.clone())], [Some(good.clone()), bad.clone()]] {
                assert!(verdict(&ack(false), &rows).unwrap_err().starts_with("invariant 2"), "{rows:?}");
            }
        }
        let taken_over = Ack { taken_over: true, ..ack(false) };
        assert_eq!(verdict_on_lost(&taken_over, Some(good.clone()), Some(good.clone())), Ok(()));
        assert!(verdict_on_lost(&taken_over, Some(good.clone()), Some(lease(1, 8))).is_err());
        assert!(verdict_on_lost(&taken_over, Some(good.clone()), None).is_err());
        assert!(verdict_on_lost(&taken_over, None, Some(good.clone())).is_err());
        assert!(verdict_on_lost(&ack(false), Some(good.clone()), Some(good)).is_err());
        let unasked = Ack { xid: 8, ..ack(true) };
        let mut checks = Checks::new(None);
        checks.acknowledged(&unasked, |_, _| None, |_, _, _| false);
        assert!(checks.verdict().unwrap_err().starts_with("invariant 2"));
    }
}
