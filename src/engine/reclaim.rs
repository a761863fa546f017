//! Reclamation of expired leases, in slices between datagrams (b.7).
//!
//! Kea stops packets for it; here a slice takes a few leases and the next datagram is served. A cycle begins
//! `reclaim-timer-wait-time` after the last one ended and takes at most the shard's part of
//! `max-reclaim-leases`, for at most `max-reclaim-time`. Nothing is reclaimed while the service is off (ALC-44).
//! Each server of a pair reclaims by its own clock, and nobody is told (ha-protocol 1.10).

use std::net::Ipv4Addr;

use shards::{Lease, LeaseState, Now, SmallBytes};

use crate::dhcp4::scope;
use crate::engine::commit::{Change, Commit, Reply, storable};
use crate::engine::counters::OwnCounter;
use crate::engine::event::{ClientLabel, EventKind};
use crate::engine::shard::{NS_PER_MS, Shard, Turn};
use crate::ha::view::HaView;
use crate::limits;
use crate::policy::Scope;

/// The partition's clock is advanced this often.
const TICK_NS: u64 = 1_000 * NS_PER_MS;

/// A wall clock that moves this much against the monotonic one between two ticks was set, and not slewed.
const CLOCK_STEP_MS: u64 = 5_000;

/// Timers and the cycle under way.
#[derive(Debug)]
pub(super) struct Reclaim {
    tick_ns: u64,
    next_cycle_ns: u64,
    next_purge_ns: u64,
    cycle: Option<Cycle>,
    /// Wall clock less monotonic clock at the last tick, milliseconds.
    clock_offset_ms: i64,
    /// Cycles in a row that left leases behind.
    unfinished_cycles: u32,
    /// Kept for their capacity.
    expired: Vec<Lease>,
    purgeable: Vec<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug)]
struct Cycle {
    started_ns: u64,
    left: usize,
    /// Where to go on, by expiry and address, where leases are passed over that stay in the list.
    after: Option<(u64, Ipv4Addr)>,
}

impl Reclaim {
    /// Timers that begin now.
    pub fn new(now: Now) -> Self {
        Self {
            tick_ns: now.monotonic_ns,
            next_cycle_ns: now.monotonic_ns,
            next_purge_ns: now.monotonic_ns,
            cycle: None,
            clock_offset_ms: clock_offset_ms(now),
            unfinished_cycles: 0,
            expired: Vec::new(),
            purgeable: Vec::new(),
        }
    }

    /// When there is something to do next.
    pub fn next_ns(&self) -> u64 {
        self.tick_ns
    }
}

impl Shard {
    /// One slice of whatever is due.
    pub fn reclaim_slice(&mut self, turn: &mut Turn) {
        let now_ns = turn.now.monotonic_ns;
        if now_ns < self.reclaim.tick_ns {
            return;
        }
        self.watch_clock(turn);
        let mut again = self.partition.advance(turn.now, limits::RECLAIM_SLICE * 8);
        if self.relations.serve_anyone() {
            again |= self.reclaim_expired(turn);
            again |= self.purge(turn);
        }
        // The next slice comes after whatever datagrams are waiting.
        self.reclaim.tick_ns = if again { now_ns + 1 } else { now_ns + TICK_NS };
    }

    /// Tells of a wall clock that was set. Leases need nothing: their timers are in its time (one shard's word is
    /// enough).
    fn watch_clock(&mut self, turn: &mut Turn) {
        let offset_ms = clock_offset_ms(turn.now);
        let before_ms = std::mem::replace(&mut self.reclaim.clock_offset_ms, offset_ms);
        let step_ms = offset_ms.wrapping_sub(before_ms);
        if self.number == 0 && step_ms.unsigned_abs() > CLOCK_STEP_MS {
            turn.log(ClientLabel::new(0, &[], &[], 0), EventKind::ClockStep { seconds: step_ms / 1000 });
        }
    }

    /// True when the cycle goes on.
    fn reclaim_expired(&mut self, turn: &mut Turn) -> bool {
        let settings = turn.rules.snapshot.expired_leases;
        let now_ns = turn.now.monotonic_ns;
        if settings.reclaim_timer_wait_s == 0 {
            self.reclaim.cycle = None;
            return false;
        }
        let mut cycle = match self.reclaim.cycle {
            Some(cycle) => cycle,
            None if now_ns < self.reclaim.next_cycle_ns => return false,
            None => {
                let shards = u32::from(self.topology.shards);
                let quota = match settings.max_reclaim_leases {
                    0 => usize::MAX,
                    all => all.div_ceil(shards) as usize,
                };
                Cycle { started_ns: now_ns, left: quota, after: None }
            }
        };
        let slice = cycle.left.min(limits::RECLAIM_SLICE);
        let mut expired = std::mem::take(&mut self.reclaim.expired);
        expired.clear();
        self.partition.expired(turn.now, cycle.after, slice, &mut expired);
        let found = expired.len();
        if self.passes_over() {
            cycle.after = expired.last().map(|last| (last.expire(), last.address)).or(cycle.after);
        }
        let (mut done, mut passed) = (0, 0);
        for lease in expired.drain(..) {
            if !self.reclaims(turn, &lease) {
                passed += 1;
                continue;
            }
            if !self.reclaim_lease(turn, lease, settings.hold_reclaimed_s) {
                break;
            }
            done += 1;
        }
        self.reclaim.expired = expired;
        cycle.left -= done;
        let limit_ns = u64::from(settings.max_reclaim_time_ms) * NS_PER_MS;
        let timed_out = limit_ns != 0 && now_ns - cycle.started_ns > limit_ns;
        let goes_on = done + passed == found && found == slice && cycle.left > 0 && !timed_out;
        if goes_on {
            self.reclaim.cycle = Some(cycle);
            return true;
        }
        self.reclaim.cycle = None;
        self.reclaim.next_cycle_ns = now_ns + u64::from(settings.reclaim_timer_wait_s) * 1_000 * NS_PER_MS;
        self.end_cycle(turn, cycle.after, settings.unwarned_reclaim_cycles);
        false
    }

    /// Whether there may be expired leases that this server does not reclaim.
    fn passes_over(&self) -> bool {
        let passes = |view: &HaView| view.reclaims_own_scopes_only || !view.service_on;
        self.relations.iter().any(|relation| passes(&relation.view))
    }

    /// Whether this server reclaims `lease`: not while the service of its relationship is off (ALC-44). A server that no
    /// longer hears of its partner's renewals leaves the partner's leases alone (ha-protocol 8 no. 27); those of nobody,
    /// such as declined ones, are not renewed.
    fn reclaims(&self, turn: &Turn, lease: &Lease) -> bool {
        let relationship = self.relations.of_subnet(&turn.rules.snapshot, lease.subnet_id);
        let view = &self.relations.of(relationship).view;
        if !view.reclaims_own_scopes_only {
            return view.service_on;
        }
        let scope = match view.balancing {
            true => scope::bucket(&lease.client_id, &lease.hwaddr),
            false => (lease.state != LeaseState::Declined).then_some(Scope::Primary),
        };
        view.service_on && scope.is_none_or(|scope| view.scopes.serves(scope))
    }

    fn end_cycle(&mut self, turn: &mut Turn, after: Option<(u64, Ipv4Addr)>, unwarned_cycles: u32) {
        let mut expired = std::mem::take(&mut self.reclaim.expired);
        expired.clear();
        self.partition.expired(turn.now, after, 1, &mut expired);
        let leftovers = !expired.is_empty();
        expired.clear();
        self.reclaim.expired = expired;
        if !leftovers {
            self.reclaim.unfinished_cycles = 0;
            return;
        }
        self.statistics.bump_own(OwnCounter::ReclaimLeftovers);
        self.reclaim.unfinished_cycles += 1;
        let cycles = self.reclaim.unfinished_cycles;
        if unwarned_cycles != 0 && cycles > unwarned_cycles {
            self.reclaim.unfinished_cycles = 0;
            turn.log(ClientLabel::new(0, &[], &[], 0), EventKind::ReclaimLeftovers { cycles });
        }
    }

    /// ALC-43. False when there is no room for what follows.
    fn reclaim_lease(&mut self, turn: &mut Turn, lease: Lease, hold_reclaimed_s: u32) -> bool {
        let address = lease.address;
        self.changes.clear();
        self.changes.push(if lease.state == LeaseState::Declined || hold_reclaimed_s == 0 {
            Change::Delete(lease.clone())
        } else {
            Change::Put(reclaimed(lease.clone()))
        });
        debug_assert!(
            lease.state != LeaseState::ExpiredReclaimed,
            "a reclaimed lease is not reclaimed again"
        );
        let done = self.commit(turn, Commit::without_query(address, Reply::Internal, false));
        if done {
            self.count_reclaimed(&lease);
        }
        done
    }

    /// ALC-45. True when more is waiting.
    fn purge(&mut self, turn: &mut Turn) -> bool {
        let settings = turn.rules.snapshot.expired_leases;
        let now_ns = turn.now.monotonic_ns;
        if settings.flush_reclaimed_timer_wait_s == 0 || now_ns < self.reclaim.next_purge_ns {
            return false;
        }
        let mut purgeable = std::mem::take(&mut self.reclaim.purgeable);
        purgeable.clear();
        let slice = limits::RECLAIM_SLICE;
        self.partition.purgeable(turn.now, settings.hold_reclaimed_s, slice, &mut purgeable);
        let mut done = 0;
        for address in purgeable.iter().copied() {
            let Some(lease) = self.partition.get(address) else { continue };
            self.changes.clear();
            self.changes.push(Change::Delete(lease));
            if !self.commit(turn, Commit::without_query(address, Reply::Internal, false)) {
                break;
            }
            done += 1;
        }
        let goes_on = done == slice;
        self.reclaim.purgeable = purgeable;
        if !goes_on {
            let wait_s = u64::from(settings.flush_reclaimed_timer_wait_s);
            self.reclaim.next_purge_ns = now_ns + wait_s * 1_000 * NS_PER_MS;
        }
        goes_on
    }
}

fn clock_offset_ms(now: Now) -> i64 {
    now.wall_ms.wrapping_sub(now.monotonic_ns / NS_PER_MS).cast_signed()
}

/// A reclaimed row: the name is gone, the identity stays for affinity.
fn reclaimed(lease: Lease) -> Lease {
    let lease = Lease {
        state: LeaseState::ExpiredReclaimed,
        hostname: SmallBytes::empty(),
        fqdn_fwd: false,
        fqdn_rev: false,
        ..lease
    };
    storable(lease)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shards::journal::row::{Layout, parse_row, write_lease};
    use shards::journal::{Columns, Row};

    use super::*;

    #[test]
    fn a_reclaimed_lease_is_still_there_when_its_row_is_read_back() {
        for (state, valid_lifetime) in [(LeaseState::Default, 60), (LeaseState::Released, 0)] {
            let lease = Lease {
                address: Ipv4Addr::new(192, 0, 2, 1),
                subnet_id: 1,
                pool_id: 0,
                hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 1]),
                client_id: SmallBytes::empty(),
                valid_lifetime,
                cltt: 1_700_000_000,
                state,
                fqdn_fwd: true,
                fqdn_rev: false,
                hostname: SmallBytes::new(b"name"),
                user_context: None,
            };
            let (expire, reclaimed) = (lease.expire(), reclaimed(lease));
            assert_eq!((reclaimed.expire(), reclaimed.state), (expire, LeaseState::ExpiredReclaimed));
            let mut row = Vec::new();
            write_lease(&mut row, &reclaimed, Columns::Twelve);
            let read = parse_row(row.trim_ascii_end(), Layout { known: 12, unknown: 0 });
            assert_eq!(read, Ok(Row { lease: reclaimed, deleted: false }), "{state:?}");
        }
    }
}
