//! The backlog of communication-recovery: lease updates put off until the partner answers (ha-protocol 5.6).
//!
//! First in, first out, and bounded by `delayed-updates-limit`. An update that no longer fits is discarded and sets
//! *overflowed*, which holds until the backlog is cleared: then both servers copy all leases. Entries leave only when
//! the partner has taken them, so that a flush that is cut short loses none.

use std::collections::VecDeque;

use shards::Lease;

use super::batch;
use crate::engine::message::UpdateKind;

/// What the backlog holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BacklogState {
    /// Nothing.
    #[default]
    Empty,
    /// More was given than it could hold, or sending it has failed: the leases have to be copied.
    Overflowed,
    /// Updates.
    Waiting,
}

/// Updates in the order of their commits.
#[derive(Debug, Default)]
pub struct Backlog {
    waiting: VecDeque<(UpdateKind, Box<Lease>)>,
    overflowed: bool,
}

impl Backlog {
    /// Puts an update off. With more than `limit` waiting it is discarded, and the backlog has overflowed.
    pub fn push(&mut self, kind: UpdateKind, lease: Box<Lease>, limit: u32) {
        if self.waiting.len() >= limit as usize {
            self.overflowed = true;
        }
        if !self.overflowed {
            self.waiting.push_back((kind, lease));
        }
    }

    /// The oldest updates, `most` of them, or fewer where their contexts are large: as many as fit a request.
    pub fn oldest(&self, most: usize) -> impl ExactSizeIterator<Item = (UpdateKind, &Lease)> {
        let count = batch::fitting(self.waiting.iter().map(|(_, lease)| &**lease), most);
        self.waiting.iter().take(count).map(|(kind, lease)| (*kind, &**lease))
    }

    /// The partner has taken the `count` oldest.
    pub fn taken(&mut self, count: usize) {
        self.waiting.drain(..count.min(self.waiting.len()));
    }

    /// Takes the oldest one out, to be sent in another way.
    pub fn pop(&mut self) -> Option<(UpdateKind, Box<Lease>)> {
        self.waiting.pop_front()
    }

    /// The partner lacks updates for good: nothing that waits is of use any longer, and leases have to be copied.
    pub fn give_up(&mut self) {
        self.waiting.clear();
        self.overflowed = true;
    }

    /// Forgets everything; whether the partner lacks any of it.
    pub fn clear(&mut self) -> bool {
        let lacking = self.state() != BacklogState::Empty;
        *self = Self::default();
        lacking
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What it holds.
    pub fn state(&self) -> BacklogState {
        match (self.overflowed, self.waiting.is_empty()) {
            (true, _) => BacklogState::Overflowed,
            (false, true) => BacklogState::Empty,
            (false, false) => BacklogState::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::test_support::lease;
    use crate::limits::HA_BATCH_OCTETS_MAX;

    fn addresses(backlog: &Backlog, most: usize) -> Vec<u8> {
        backlog.oldest(most).map(|(_, lease)| lease.address.octets()[3]).collect()
    }

    #[test]
    fn updates_leave_in_the_order_they_came_and_only_when_taken() {
        let mut backlog = Backlog::default();
        for number in 1..=3 {
            let kind = if number == 2 { UpdateKind::Delete } else { UpdateKind::Update };
            backlog.push(kind, Box::new(lease(number)), 3);
        }
        assert_eq!(addresses(&backlog, 2), [1, 2]);
        assert_eq!(backlog.oldest(2).map(|(kind, _)| kind).last(), Some(UpdateKind::Delete));
        assert_eq!(addresses(&backlog, 9), [1, 2, 3], "looking takes nothing");
        backlog.taken(2);
        assert_eq!((addresses(&backlog, 9), backlog.state()), (vec![3], BacklogState::Waiting));
        backlog.taken(5);
        assert_eq!((backlog.state(), backlog.clear()), (BacklogState::Empty, false));
    }

    #[test]
    fn large_contexts_make_a_request_of_fewer_updates() {
        let mut backlog = Backlog::default();
        for number in 1..=4 {
            let user_context = Some(vec![b' '; HA_BATCH_OCTETS_MAX / 2].into());
            backlog.push(UpdateKind::Update, Box::new(Lease { user_context, ..lease(number) }), 9);
        }
        assert_eq!(addresses(&backlog, 9), [1, 2]);
        backlog.taken(3);
        assert_eq!(addresses(&backlog, 9), [4], "one always goes");
    }

    #[test]
    fn one_more_than_the_limit_is_discarded_and_remembered_until_it_is_cleared() {
        let mut backlog = Backlog::default();
        for (number, state) in [
            (1, BacklogState::Waiting),
            (2, BacklogState::Waiting),
            (3, BacklogState::Overflowed),
            (4, BacklogState::Overflowed),
        ] {
            backlog.push(UpdateKind::Update, Box::new(lease(number)), 2);
            assert_eq!(backlog.state(), state, "{number}");
        }
        assert_eq!(backlog.len(), 2);
        backlog.taken(2);
        assert_eq!(backlog.state(), BacklogState::Overflowed);
        assert!(backlog.clear());
        backlog.push(UpdateKind::Update, Box::new(lease(1)), 2);
        backlog.give_up();
        assert_eq!((backlog.len(), backlog.state()), (0, BacklogState::Overflowed));
    }
}
