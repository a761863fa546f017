//! Who holds the DHCP service off, and until when (ha-protocol 4.7).
//!
//! Queries are served while nobody does. A partner's lock always has a deadline, so a partner that dies while
//! it copies cannot silence this server for ever (ha-protocol 8.1 no. 3).

use std::collections::BTreeMap;

use crate::limits::HA_REMOTE_LOCKS_MAX;

/// Holder of a lock.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Holder {
    /// The own state does not serve.
    Local,
    /// In partner-down the partner has said that its copy is complete: nothing is granted until it is heard.
    Notified,
    /// The partner, under its origin id.
    Remote(i64),
    /// An administrator.
    User,
}

/// All locks.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    held: BTreeMap<Holder, Option<u64>>,
}

impl Locks {
    /// Takes a lock, or takes it again with a new deadline (monotonic, nanoseconds). False, taking nothing,
    /// when partners hold too many.
    pub fn take(&mut self, holder: Holder, deadline_ns: Option<u64>) -> bool {
        let is_new_remote = matches!(holder, Holder::Remote(_)) && !self.held.contains_key(&holder);
        if is_new_remote && self.remote_ids().count() >= HA_REMOTE_LOCKS_MAX {
            return false;
        }
        self.held.insert(holder, deadline_ns);
        true
    }

    /// Releases a lock, if it is held.
    pub fn release(&mut self, holder: Holder) {
        self.held.remove(&holder);
    }

    /// Releases every lock of the partner.
    pub fn release_remote(&mut self) {
        self.held.retain(|holder, _| !matches!(holder, Holder::Remote(_)));
    }

    /// Releases the locks whose deadline has passed.
    pub fn expire(&mut self, now_ns: u64) {
        self.held.retain(|_, deadline| deadline.is_none_or(|deadline| now_ns < deadline));
    }

    /// The next deadline.
    pub fn next_timeout(&self) -> Option<u64> {
        self.held.values().filter_map(|deadline| *deadline).min()
    }

    /// Whether a lock is held.
    pub fn is_held(&self, holder: Holder) -> bool {
        self.held.contains_key(&holder)
    }

    /// Whether DHCP is served: no lock is held.
    pub fn service_on(&self) -> bool {
        self.held.is_empty()
    }

    /// Origin ids of the partner's locks, ascending.
    pub fn remote_ids(&self) -> impl Iterator<Item = i64> {
        self.held.keys().filter_map(|holder| match holder {
            Holder::Remote(id) => Some(*id),
            Holder::Local | Holder::Notified | Holder::User => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_on_only_while_nobody_holds_it() {
        let mut locks = Locks::default();
        assert!(locks.service_on());
        assert!(locks.take(Holder::Remote(2000), Some(10)) && locks.take(Holder::User, None));
        locks.expire(9);
        assert_eq!(locks.next_timeout(), Some(10));
        locks.expire(10);
        assert!(!locks.is_held(Holder::Remote(2000)) && !locks.service_on(), "the administrator's stays");
        locks.release(Holder::User);
        assert!(locks.service_on());
    }

    #[test]
    fn taking_a_lock_again_moves_its_deadline() {
        let mut locks = Locks::default();
        locks.take(Holder::Remote(2000), Some(10));
        locks.take(Holder::Remote(2000), Some(20));
        locks.expire(15);
        assert!(!locks.service_on());
    }

    #[test]
    fn a_partner_cannot_hold_more_locks_than_the_limit() {
        let mut locks = Locks::default();
        let taken = (0..100).filter(|id| locks.take(Holder::Remote(*id), Some(1))).count();
        assert_eq!(taken, HA_REMOTE_LOCKS_MAX);
        assert!(locks.take(Holder::Remote(0), Some(2)), "one that is held may be renewed");
        locks.release_remote();
        assert!(locks.service_on());
    }
}
