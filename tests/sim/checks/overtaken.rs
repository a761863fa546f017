//! Invariant 8: where the link between the servers alone is cut, nobody takes over from a partner that serves.
//!
//! A server that takes over by what clients have shown has been misled if its partner has served since it was last heard, and
//! nothing has kept the partner from it: its process ran all the time, its disk took what it wrote, its clock was not set, no
//! operator had a part in it, there were addresses for everybody, the ways between clients and servers were open, and no
//! datagram of the clients it was judged by was lost or late. Where one of these does not hold the clients may truly have
//! waited in vain; that is excused, and counted.
//!
//! Not by what clients have shown: a server that has heard nobody since it began, a primary of hot-standby that serves, one
//! whose `max-unacked-clients` is 0, and one whose partner was in maintenance.

use std::collections::{BTreeMap, BTreeSet};

use tandem::ha::OwnState;

use crate::sim::pair::links::{SEATS_MAX, SERVERS_MAX, host_of};

/// What has been seen of each seat and each server.
#[derive(Debug, Default)]
pub struct Overtaken {
    seats: [Silence; SEATS_MAX],
    /// When something last kept a server from serving its clients, or may have.
    harmed_ns: [u64; SERVERS_MAX],
    /// When a datagram of each client, or for it, was last lost or late.
    lost_ns: BTreeMap<usize, u64>,
    /// Silences of a partner that serves in which clients were found waiting, and the link alone was cut.
    pub withstood: u64,
    /// Take-overs from a partner that serves, where it was not the link alone.
    pub excused: u64,
    violation: Option<String>,
}

/// What a seat has heard, and whether it serves.
#[derive(Debug, Default)]
struct Silence {
    /// The last answer to a heartbeat of this life.
    heard_ns: Option<u64>,
    /// Clients that were found waiting since.
    waiting: BTreeSet<usize>,
    counted: bool,
    serves_since_ns: Option<u64>,
}

/// One that decides about its partner.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    pub now_ns: u64,
    pub seat: usize,
    pub partner: usize,
    /// What the partner suffers from right now.
    pub harmed: bool,
}

impl Overtaken {
    /// A process has begun.
    pub fn started(&mut self, seat: usize) {
        self.seats[seat] = Silence::default();
    }

    /// The partner has answered a heartbeat of a seat.
    pub fn heard(&mut self, now_ns: u64, seat: usize) {
        let silence = &mut self.seats[seat];
        silence.heard_ns = Some(now_ns);
        silence.waiting.clear();
        silence.counted = false;
    }

    /// Whether clients of its own are served at a seat.
    pub fn note(&mut self, now_ns: u64, seat: usize, serves: bool) {
        let since_ns = &mut self.seats[seat].serves_since_ns;
        *since_ns = since_ns.or(Some(now_ns)).filter(|_| serves);
    }

    /// Up to `until_ns` something may keep a server from serving its clients.
    pub fn harmed(&mut self, until_ns: u64, server: usize) {
        self.harmed_ns[server] = self.harmed_ns[server].max(until_ns);
    }

    /// A datagram of a client, or for it, is lost, or late until `until_ns`.
    pub fn lost(&mut self, until_ns: u64, member: usize) {
        let lost_ns = self.lost_ns.entry(member).or_default();
        *lost_ns = until_ns.max(*lost_ns);
    }

    /// A client is found waiting by a server that hears nothing of its partner.
    pub fn waits(&mut self, judge: Judge, member: usize) {
        self.seats[judge.seat].waiting.insert(member);
        if self.is_sound(judge) && !std::mem::replace(&mut self.seats[judge.seat].counted, true) {
            self.withstood += 1;
        }
    }

    /// A server that was in `from` has taken over by what clients have shown it.
    pub fn taken_over(&mut self, judge: Judge, from: OwnState) {
        let Judge { now_ns, seat, partner, .. } = judge;
        if self.seats[partner].serves_since_ns.is_none() {
            return;
        }
        if !self.is_sound(judge) {
            self.excused += 1;
            return;
        }
        let heard_ns = self.seats[seat].heard_ns.unwrap_or_default();
        self.violation.get_or_insert(format!(
            "invariant 8: server{} leaves {from} at {} ms and takes over from server{}, which has served since {} ms and was \
             heard at {} ms, for clients {:?}",
            host_of(seat) + 1,
            now_ns / 1_000_000,
            host_of(partner) + 1,
            self.seats[partner].serves_since_ns.unwrap_or_default() / 1_000_000,
            heard_ns / 1_000_000,
            self.seats[seat].waiting,
        ));
    }

    /// Whether the partner has served since it was heard, and nothing has come between it and the clients found waiting.
    fn is_sound(&self, judge: Judge) -> bool {
        let Silence { heard_ns: Some(heard_ns), waiting, .. } = &self.seats[judge.seat] else { return false };
        let serves = self.seats[judge.partner].serves_since_ns.is_some_and(|since_ns| since_ns < *heard_ns);
        let lost = |member| self.lost_ns.get(member).is_some_and(|lost_ns| lost_ns >= heard_ns);
        let harmed = judge.harmed || self.harmed_ns[host_of(judge.partner)] >= *heard_ns;
        serves && !harmed && !waiting.iter().any(lost)
    }

    pub fn take_violation(&mut self) -> Option<String> {
        self.violation.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seat 1 hears seat 0, which serves, finds client 7 waiting, and takes over.
    fn takes_over(between: impl Fn(&mut Overtaken), harmed: bool) -> (bool, u64, u64) {
        let mut checks = Overtaken::default();
        checks.note(1, 0, true);
        checks.heard(10, 1);
        between(&mut checks);
        let judge = Judge { now_ns: 20, seat: 1, partner: 0, harmed };
        checks.waits(judge, 7);
        checks.waits(judge, 7);
        checks.taken_over(judge, OwnState::HotStandby);
        let violated = checks.take_violation().is_some_and(|what| what.starts_with("invariant 8"));
        (violated, checks.withstood, checks.excused)
    }

    #[test]
    fn a_take_over_from_one_that_serves_is_seen_unless_it_may_have_served_nobody() {
        assert_eq!(takes_over(|_| (), false), (true, 1, 0), "a silence counts once");
        assert_eq!(takes_over(|it| it.lost(12, 3), false), (true, 1, 0), "of a client that nobody counts");
        assert_eq!(takes_over(|it| it.harmed(9, 0), false), (true, 1, 0), "before it was heard");
        assert_eq!(takes_over(|it| it.harmed(12, 1), false), (true, 1, 0), "who takes over suffers");
        assert_eq!(takes_over(|_| (), true), (false, 0, 1));
        assert_eq!(takes_over(|it| it.harmed(12, 0), false), (false, 0, 1));
        assert_eq!(takes_over(|it| it.lost(12, 7), false), (false, 0, 1));
        let pauses = |it: &mut Overtaken| {
            it.note(11, 0, false);
            it.note(12, 0, true);
        };
        assert_eq!(takes_over(pauses, false), (false, 0, 1), "it has not served all the time");
        assert_eq!(takes_over(|it| it.note(12, 0, false), false), (false, 0, 0), "it does not serve");
        assert_eq!(takes_over(|it| it.started(1), false), (false, 0, 1), "nobody was heard in this life");
    }
}
