//! Whose lease updates the partner refuses: as conflicts, which count for a day as by Kea (ha-protocol 4.10), and
//! otherwise, which counts where it lasts (ha-protocol 8 no. 5).
//!
//! A client that the partner has refused for a moment of its own, and that never asks again, must not count: ten of them
//! in a day would end high availability of a pair that is well. So what is no conflict counts for a client that is refused
//! again after a while, or while nobody's update is taken at all.
//!
//! Both tables are bounded, and looked through at heartbeats only.

use std::collections::BTreeMap;

use super::communication::{ClientKey, key};
use super::event::ClientIdentity;
use crate::limits::HA_CLIENTS_MAX;

/// A refused client is remembered this long.
const REJECTED_NS: u64 = 86_400 * 1_000_000_000;

/// Clients whose updates were refused.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    /// As conflicts, and until when that counts, monotonic.
    conflicts: BTreeMap<ClientKey, u64>,
    /// Otherwise: by a partner that takes none, or for its moment.
    clients: BTreeMap<ClientKey, Refusal>,
    /// How many of these count, refused again or with all.
    again: usize,
    with_all: usize,
    /// Since when the partner has taken nothing of anybody: the first refusal after its last success, monotonic.
    from_ns: Option<u64>,
    /// When the last heartbeat was sent: its answer tells of what was before.
    asked_ns: u64,
}

/// Of one client, without a conflict.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// When it was refused for the first and for the last time, monotonic.
    first_ns: u64,
    last_ns: u64,
    counts: Counts,
}

/// Whether a refusal without a conflict counts as one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Counts {
    /// The client has been refused again after a while, whatever became of others.
    Again,
    /// It may have been for the moment.
    No,
    /// As long as nobody's update is taken.
    WithAll,
}

impl Refusals {
    /// The partner refused an update of `client` as a conflict.
    pub fn reject(&mut self, now_ns: u64, client: &ClientIdentity) {
        self.forget_old_conflicts(now_ns);
        if self.conflicts.len() < HA_CLIENTS_MAX {
            let client = key(client);
            self.remove(&client);
            self.conflicts.insert(client, now_ns.saturating_add(REJECTED_NS));
        }
    }

    /// The partner refused an update of `client`, and did not say that it is a conflict. That counts as much as a
    /// conflict, but only of a partner that goes on serving with this server all the same: a control agent says it for a
    /// dead server, a server whose disk is full until it is silent, and a Kea until there is room.
    pub fn refuse(&mut self, now_ns: u64, client: &ClientIdentity) {
        self.from_ns.get_or_insert(now_ns);
        let key = key(client);
        if let Some(refusal) = self.clients.get_mut(&key) {
            refusal.last_ns = now_ns;
        } else if self.clients.len() < HA_CLIENTS_MAX && !self.conflicts.contains_key(&key) {
            self.clients.insert(key, Refusal { first_ns: now_ns, last_ns: now_ns, counts: Counts::No });
        }
    }

    /// A heartbeat is sent, whose answer tells how the partner is that has refused.
    pub fn asked(&mut self, now_ns: u64) {
        self.asked_ns = now_ns;
    }

    /// The partner has answered it; `serves` is as one that takes updates. Clients count who were refused by one that has
    /// taken nothing of anybody for `lasting_ns`, or were refused after that time once more.
    pub fn settle(&mut self, now_ns: u64, serves: bool, lasting_ns: u64) {
        if !serves {
            return self.forget_moments();
        }
        self.clients.retain(|_, refusal| now_ns < refusal.last_ns.saturating_add(REJECTED_NS));
        let (from_ns, asked_ns) = (self.from_ns, self.asked_ns);
        let takes_nothing = from_ns.is_some_and(|from_ns| now_ns >= from_ns.saturating_add(lasting_ns));
        for refusal in self.clients.values_mut().filter(|refusal| refusal.last_ns <= asked_ns) {
            let is_new = from_ns.is_some_and(|from_ns| refusal.last_ns >= from_ns);
            if refusal.last_ns.saturating_sub(refusal.first_ns) >= lasting_ns {
                refusal.counts = Counts::Again;
            } else if takes_nothing && is_new && refusal.counts == Counts::No {
                refusal.counts = Counts::WithAll;
            }
        }
        self.recount();
    }

    /// What was refused by a partner that is lost, or takes updates of nobody in its state, is no news of its lasting will.
    pub fn forget_moments(&mut self) {
        self.from_ns = None;
        self.clients.retain(|_, refusal| refusal.counts == Counts::Again);
        self.recount();
    }

    /// Whether a success of some client would be news.
    pub fn await_success(&mut self, now_ns: u64) -> bool {
        self.forget_old_conflicts(now_ns);
        self.from_ns.is_some() || !self.clients.is_empty() || !self.conflicts.is_empty()
    }

    /// The partner took an update of `client`.
    pub fn forgive(&mut self, client: &ClientIdentity) {
        let client = key(client);
        self.conflicts.remove(&client);
        self.remove(&client);
        self.from_ns = None;
        if self.with_all > 0 {
            for refusal in self.clients.values_mut().filter(|other| other.counts == Counts::WithAll) {
                refusal.counts = Counts::No;
            }
            self.with_all = 0;
        }
    }

    /// Forgets every refused client.
    pub fn forgive_all(&mut self) {
        *self = Self { asked_ns: self.asked_ns, ..Self::default() };
    }

    /// Clients that count at `now_ns`.
    pub fn count(&mut self, now_ns: u64) -> usize {
        self.forget_old_conflicts(now_ns);
        self.conflicts.len() + self.again + self.with_all
    }

    fn forget_old_conflicts(&mut self, now_ns: u64) {
        self.conflicts.retain(|_, until_ns| now_ns < *until_ns);
    }

    fn recount(&mut self) {
        let of = |counts| self.clients.values().filter(|refusal| refusal.counts == counts).count();
        (self.again, self.with_all) = (of(Counts::Again), of(Counts::WithAll));
    }

    fn remove(&mut self, client: &ClientKey) {
        match self.clients.remove(client).map(|refusal| refusal.counts) {
            Some(Counts::Again) => self.again -= 1,
            Some(Counts::WithAll) => self.with_all -= 1,
            Some(Counts::No) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use shards::SmallBytes;

    use super::*;

    fn client(number: u8) -> ClientIdentity {
        ClientIdentity { hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, number]), client_id: SmallBytes::empty() }
    }

    #[test]
    fn a_refused_client_is_forgotten_after_a_day_or_a_success() {
        let mut refusals = Refusals::default();
        refusals.reject(0, &client(1));
        refusals.reject(5, &client(1));
        refusals.reject(10, &client(2));
        assert_eq!(refusals.count(11), 2);
        refusals.forgive(&client(2));
        assert_eq!(refusals.count(11), 1);
        assert_eq!(refusals.count(5 + REJECTED_NS), 0);
    }

    #[test]
    fn a_refusal_counts_once_the_partner_has_refused_for_long_and_answers_as_one_that_serves() {
        // Whether the heartbeat was sent after the refusal, when and how it was answered, what counts then, what is open.
        let rows = [
            (false, Some((110, true)), 0, true),
            (true, Some((109, true)), 0, true),
            (true, Some((110, true)), 1, false),
            (true, Some((110, false)), 0, false),
            (true, None, 0, false),
        ];
        for (is_later, answer, counts, is_open) in rows {
            let mut refusals = Refusals::default();
            refusals.refuse(4, &client(2));
            refusals.forgive(&client(2));
            refusals.refuse(10, &client(1));
            if is_later {
                refusals.asked(10);
            }
            match answer {
                Some((at_ns, serves)) => refusals.settle(at_ns, serves, 100),
                None => refusals.forget_moments(),
            }
            assert_eq!(refusals.count(111), counts, "{is_later} {answer:?}");
            assert_eq!(refusals.await_success(111), counts > 0 || is_open, "{is_later} {answer:?}");
        }
    }

    /// At which time what happens, and how many clients count then; refusals last from 100 on. `no1` and `yes1` are an update
    /// of client 1 that is refused or taken; `beat` and `idle` the answer to a heartbeat, of a partner that serves or not.
    #[test]
    fn a_client_refused_once_counts_only_where_nobody_is_taken_and_one_refused_again_does_anyhow() {
        for (case, steps) in [
            ("never asks again, others are taken", "10 no1 0, 11 yes9 0, 110 beat 0, 1000 beat 0"),
            (
                "one in a while each, others are taken",
                "10 no1 0, 11 yes9 0, 300 no2 0, 301 yes9 0, 600 no3 0, 700 beat 1, 701 yes9 0, 900 beat 0",
            ),
            (
                "nobody is taken",
                "10 no1 0, 100 no2 0, 109 beat 0, 110 beat 2, 111 no3 2, 112 beat 3, 113 lost 0",
            ),
            (
                "asks again, others are taken",
                "10 no1 0, 11 yes9 0, 109 no1 0, 110 beat 0, 111 no1 0, 112 yes9 0, 113 beat 1, 114 yes9 1, 115 lost 1, \
                 116 yes1 0",
            ),
            ("asks again and is taken", "10 no1 0, 50 yes1 0, 111 no1 0, 112 yes9 0, 113 beat 0"),
            (
                "is refused for good, and once more for a conflict",
                "10 no1 0, 120 no1 0, 121 beat 1, 122 conflict1 1, 123 no1 1, 300 beat 1, 301 yes1 0",
            ),
            (
                "the partner is lost, or serves nobody, in between",
                "10 no1 0, 20 lost 0, 111 no1 0, 112 beat 0, 113 idle 0, 211 no1 0, 212 beat 0",
            ),
        ] {
            let mut refusals = Refusals::default();
            for step in steps.split(", ") {
                let words: Vec<&str> = step.split(' ').collect();
                let (at, what) = (words[0].parse().unwrap(), words[1]);
                let number = client(what.bytes().last().unwrap().wrapping_sub(b'0'));
                match what.trim_end_matches(char::is_numeric) {
                    "beat" | "idle" => {
                        refusals.asked(at);
                        refusals.settle(at, what == "beat", 100);
                    }
                    "conflict" => refusals.reject(at, &number),
                    "lost" => refusals.forget_moments(),
                    "no" => refusals.refuse(at, &number),
                    "yes" => refusals.forgive(&number),
                    other => panic!("{other}"),
                }
                assert_eq!(refusals.count(at).to_string(), words[2], "{case}: {step}");
            }
        }
    }

    #[test]
    fn a_success_is_awaited_until_there_is_one_and_what_it_would_forgive_is_a_day_old() {
        let mut refusals = Refusals::default();
        assert!(!refusals.await_success(0));
        refusals.refuse(0, &client(1));
        refusals.settle(REJECTED_NS, true, 100);
        assert!(refusals.await_success(REJECTED_NS), "whether anybody's is taken");
        refusals.forgive(&client(9));
        assert!(!refusals.await_success(REJECTED_NS));
    }
}
