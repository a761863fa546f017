//! Who holds the DHCP service off, and until when (ha-protocol 4.7).
//!
//! Queries are served while nobody does. A partner's lock always has a deadline, so a partner that dies while
//! it copies cannot silence this server for ever (ha-protocol 8.1 no. 3).

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::HA_REMOTE_LOCKS_MAX;

/// Holder of a lock.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Holder {
    /// The backup server of a relationship with this peer index, under its origin id, which is the partner's too.
    Backup(u8, u8, i64),
    /// The own state in this relationship does not serve.
    Local(u8),
    /// In partner-down the partner of this relationship has said that its copy is complete: nothing is granted until
    /// it is heard.
    Notified(u8),
    /// The partner of this relationship, under its origin id. Every spoke of a hub uses the same id, so the id alone
    /// would let the first that is done free the hub for all (ha-protocol 8 no. 9).
    Remote(u8, i64),
    /// The server is about to end.
    Stopping,
    /// There is no room for leases on the disk.
    Storage,
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
    /// when the same server holds too many.
    pub fn take(&mut self, holder: Holder, deadline_ns: Option<u64>) -> bool {
        let owner = holder.remote_owner();
        let of_the_same = |held: &&Holder| held.remote_owner() == owner;
        let is_new_remote = owner.is_some() && !self.held.contains_key(&holder);
        if is_new_remote && self.held.keys().filter(of_the_same).count() >= HA_REMOTE_LOCKS_MAX {
            return false;
        }
        self.held.insert(holder, deadline_ns);
        true
    }

    /// Releases a lock, if it is held.
    pub fn release(&mut self, holder: Holder) {
        self.held.remove(&holder);
    }

    /// Releases every lock of the partner of a relationship.
    pub fn release_remote(&mut self, relationship: u8) {
        self.release_all_of(Holder::Remote(relationship, 0));
    }

    /// Releases every lock of the server that `holder` is a lock of.
    pub fn release_all_of(&mut self, holder: Holder) {
        let owner = holder.remote_owner();
        self.held.retain(|held, _| owner.is_none() || held.remote_owner() != owner);
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

    /// Origin ids of other servers' locks, ascending, each once.
    pub fn remote_ids(&self) -> BTreeSet<i64> {
        let id = |holder: &Holder| match holder {
            Holder::Backup(_, _, id) | Holder::Remote(_, id) => Some(*id),
            Holder::Local(_) | Holder::Notified(_) | Holder::Stopping | Holder::Storage | Holder::User => {
                None
            }
        };
        self.held.keys().filter_map(id).collect()
    }

    /// Relationships that hold the service off themselves, ascending, each once.
    pub fn local_relationships(&self) -> BTreeSet<u8> {
        let relationship = |holder: &Holder| match holder {
            Holder::Local(relationship) | Holder::Notified(relationship) => Some(*relationship),
            Holder::Backup(..) | Holder::Remote(..) | Holder::Stopping | Holder::Storage | Holder::User => {
                None
            }
        };
        self.held.keys().filter_map(relationship).collect()
    }
}

impl Holder {
    /// Which other server it is: the relationship, and the peer index of a backup.
    fn remote_owner(self) -> Option<(u8, Option<u8>)> {
        match self {
            Self::Backup(relationship, peer, _) => Some((relationship, Some(peer))),
            Self::Remote(relationship, _) => Some((relationship, None)),
            Self::Local(_) | Self::Notified(_) | Self::Stopping | Self::Storage | Self::User => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_on_only_while_nobody_holds_it() {
        let mut locks = Locks::default();
        assert!(locks.service_on());
        assert!(locks.take(Holder::Remote(0, 2000), Some(10)) && locks.take(Holder::User, None));
        locks.expire(9);
        assert_eq!(locks.next_timeout(), Some(10));
        locks.expire(10);
        assert!(!locks.is_held(Holder::Remote(0, 2000)) && !locks.service_on(), "the administrator's stays");
        locks.release(Holder::User);
        assert!(locks.service_on());
    }

    #[test]
    fn taking_a_lock_again_moves_its_deadline() {
        let mut locks = Locks::default();
        locks.take(Holder::Remote(0, 2000), Some(10));
        locks.take(Holder::Remote(0, 2000), Some(20));
        locks.expire(15);
        assert!(!locks.service_on());
    }

    /// 8 no. 9, F11: two spokes copy from a hub at once.
    #[test]
    fn partners_of_two_relationships_with_the_same_id_hold_two_locks() {
        let mut locks = Locks::default();
        assert!(
            locks.take(Holder::Remote(0, 2000), Some(10)) && locks.take(Holder::Remote(1, 2000), Some(20))
        );
        assert_eq!(locks.remote_ids().into_iter().collect::<Vec<_>>(), [2000]);
        locks.release_remote(0);
        assert!(!locks.service_on(), "the other spoke has not finished");
        locks.release(Holder::Remote(1, 2000));
        assert!(locks.service_on());
    }

    #[test]
    fn a_partner_cannot_hold_more_locks_than_the_limit() {
        let mut locks = Locks::default();
        let taken = (0..100).filter(|id| locks.take(Holder::Remote(0, *id), Some(1))).count();
        assert_eq!(taken, HA_REMOTE_LOCKS_MAX);
        assert!(locks.take(Holder::Remote(0, 0), Some(2)), "one that is held may be renewed");
        assert!(locks.take(Holder::Backup(0, 1, 2000), Some(1)), "of another server");
        locks.release_remote(0);
        assert!(!locks.service_on(), "the backup's stays");
        locks.release_all_of(Holder::Backup(0, 2, 2000));
        assert!(!locks.service_on(), "it is another backup's");
        locks.release_all_of(Holder::Backup(0, 1, 0));
        assert!(locks.service_on());
    }
}
