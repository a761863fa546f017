//! Lease updates that wait for one connection to a peer: which go into the next request, which have waited too
//! long, which must not be sent any more.
//!
//! Updates leave in the order in which they came, and several go in one request to a peer that takes several
//! ([`super::batch`]). An update has [`UPDATE_TIMEOUT_MS`] from its coming in, waiting included. It never sends,
//! sleeps or logs itself; the send executor and the simulation drive it.
//!
//! Updates that wait while a view comes by that asks for none are overtaken: the partner copies all leases when it is
//! back, and an old update sent after that copy would put an older lease in the place of a newer one. They are never
//! sent, and come back as failed. What is sent bears a stamp where the peer reads them ([`super::fence`]), so that it
//! refuses a request that was given up and still arrives.
//!
//! Invariant: whatever is pushed comes out exactly once, of `push`, `set_view` or `take`.

use std::collections::VecDeque;

use super::batch;
use super::command::{ReplyError, lease_update_outcome};
use super::fence::{Fence, Stamp};
use super::view::HaView;
use crate::engine::message::{PartnerUpdate, UpdateOutcome};

/// How long the peer has for a lease update, waiting and connecting included (ha-protocol 9).
pub const UPDATE_TIMEOUT_MS: u64 = 10_000;

/// A request leaves so long after the one before it, for each update of that one, nanoseconds: below some 70,000 updates
/// a second the answer to that one takes longer, and nothing waits.
const PACE_NS_PER_UPDATE: u64 = 14_000;

/// Updates that count in it at most.
const PACED_UPDATES_MAX: usize = 170;

const NS_PER_MS: u64 = 1_000_000;

/// An update and the end of its time.
#[derive(Debug)]
pub struct Waiting {
    /// The update.
    pub update: Box<PartnerUpdate>,
    /// When it is given up, on the monotonic clock in nanoseconds.
    pub until_ns: u64,
}

/// What [`Outbox::take`] found.
#[derive(Debug, Eq, PartialEq)]
pub enum Taken {
    /// Updates for one request, and how long it may take, milliseconds, at least 1.
    Batch(u64),
    /// The first update has waited too long; it alone was taken, and comes back as failed.
    Late,
    /// Nothing waits.
    Nothing,
}

/// What waits for one connection.
#[derive(Debug)]
pub struct Outbox {
    waiting: VecDeque<Waiting>,
    waiting_max: usize,
    /// Most updates in one request, at least 1.
    batch_max: usize,
    /// Updates of epochs before its generation are not sent.
    fence: Fence,
    /// Whether requests bear stamps.
    is_stamped: bool,
    /// Its own stream, and how many requests it has written.
    stream: u8,
    written: u64,
    /// Until when the view may be acted on ([`HaView::good_until_ns`]).
    good_until_ns: Option<u64>,
    /// What the view says concerns the active partner alone.
    for_backup: bool,
}

impl Outbox {
    /// An empty one for at most `waiting_max` updates, which are all the updates of their addresses; `stream` is told
    /// apart from those of other outboxes for the peer.
    pub fn new(waiting_max: usize, stream: u8) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_max,
            batch_max: 1,
            fence: Fence::default(),
            is_stamped: false,
            stream,
            written: 0,
            good_until_ns: None,
            for_backup: false,
        }
    }

    /// An empty one for a backup server: its updates are sent one by one in every state (ha-protocol 4.1), so no
    /// view overtakes them.
    pub fn for_backup(waiting_max: usize) -> Self {
        Self { for_backup: true, ..Self::new(waiting_max, 0) }
    }

    /// Whether it is one of [`Outbox::for_backup`].
    pub fn is_for_backup(&self) -> bool {
        self.for_backup
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts an update at the end.
    ///
    /// # Errors
    /// The update, where there is no room for it: it comes back as failed.
    pub fn push(&mut self, now_ns: u64, update: Box<PartnerUpdate>) -> Result<(), Box<PartnerUpdate>> {
        if self.waiting.len() >= self.waiting_max {
            return Err(update);
        }
        let until_ns = now_ns.saturating_add(UPDATE_TIMEOUT_MS * NS_PER_MS);
        self.waiting.push_back(Waiting { update, until_ns });
        Ok(())
    }

    /// Takes over what the HA machine says of the active partner. What `view` has overtaken is appended to
    /// `overtaken`, in its order; what was committed under a newer one stays.
    pub fn set_view(&mut self, view: &HaView, overtaken: &mut Vec<Waiting>) {
        if self.for_backup {
            return;
        }
        self.batch_max = usize::from(view.partner_batch_max.max(1));
        self.good_until_ns = view.good_until_ns;
        self.is_stamped = view.partner_fence.is_some();
        if self.fence == view.fence {
            return;
        }
        self.fence = view.fence;
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.update.epoch < self.fence.generation {
                overtaken.push(waiting);
            } else {
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Appends to `taken`, which is empty, what the next request carries.
    pub fn take(&mut self, now_ns: u64, taken: &mut Vec<Waiting>) -> Taken {
        let Some(first) = self.waiting.front() else { return Taken::Nothing };
        let left_ms = first.until_ns.saturating_sub(now_ns) / NS_PER_MS;
        let count = match left_ms {
            0 => 1,
            _ => batch::fitting(self.waiting.iter().map(|waiting| &waiting.update.lease), self.batch_max),
        };
        taken.extend(self.waiting.drain(..count));
        if left_ms == 0 { Taken::Late } else { Taken::Batch(left_ms) }
    }

    /// Writes the body of the request that carries `taken`.
    pub fn write_request(&mut self, taken: &[Waiting], output: &mut Vec<u8>) {
        self.written += 1;
        let stamp = Stamp { fence: self.fence, stream: self.stream, number: self.written };
        let updates = taken.iter().map(|waiting| (waiting.update.kind, &waiting.update.lease));
        batch::write_request(updates, self.is_stamped.then_some(stamp), output);
    }

    /// Whether all of `taken` may still be sent. Not while this server has stood still and has not heard the partner
    /// since: one that has taken over would give up leases of its own for them.
    pub fn is_wanted(&self, now_ns: u64, taken: &[Waiting]) -> bool {
        let is_outdated = self.good_until_ns.is_some_and(|until_ns| now_ns >= until_ns);
        !is_outdated && taken.iter().all(|waiting| waiting.update.epoch >= self.fence.generation)
    }
}

/// When the next request leaves: while more and more comes, later, so that it carries more. What a request costs beside
/// its updates is worth that of dozens of them, and a sync at the peer as much again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pace {
    due_ns: u64,
}

impl Pace {
    /// Updates that count at most in a sender whose share of all replies that may be parked is `parked_max`: a quarter of
    /// them, because others are parked while a request is under way.
    pub fn updates_max(parked_max: usize) -> usize {
        (parked_max / 4).min(PACED_UPDATES_MAX)
    }

    /// A request of `updates` has left at `now_ns`, on the monotonic clock, of which `updates_max` count.
    pub fn handle_sent(&mut self, now_ns: u64, updates: usize, updates_max: usize) {
        self.due_ns = now_ns.saturating_add(updates.min(updates_max) as u64 * PACE_NS_PER_UPDATE);
    }

    /// How long the next request is to wait, nanoseconds.
    pub fn left_ns(&self, now_ns: u64) -> u64 {
        self.due_ns.saturating_sub(now_ns)
    }
}

/// How each of `sent` updates ended by the answer to `request`, and its text.
///
/// # Errors
/// The answer says nothing of them.
pub fn outcomes(
    request: &[u8],
    answer: &[u8],
    sent: usize,
) -> Result<(Vec<UpdateOutcome>, Option<String>), ReplyError> {
    if !batch::is_batch(request) {
        return lease_update_outcome(answer).map(|(outcome, reply)| (vec![outcome], reply.text));
    }
    batch::outcomes(answer, sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::message::{ShardCommandBody, UpdateKind};
    use crate::ha::lease_json::SubnetDirectory;
    use crate::ha::test_support::lease;
    use crate::ha::view::UpdateMode;
    use crate::limits::{HA_BATCH_OCTETS_MAX, HTTP_REQUEST_BODY_OCTETS_MAX};

    fn update(number: u8, epoch: u64) -> Box<PartnerUpdate> {
        Box::new(PartnerUpdate {
            relationship: 0,
            peer: 0,
            shard: 0,
            park: None,
            kind: UpdateKind::Update,
            lease: lease(number.into()),
            epoch,
            owed: false,
            outcome: None,
        })
    }

    /// A view that has ended what was sent before, unless updates are sent.
    fn view(epoch: u64, updates: UpdateMode, partner_batch_max: u16) -> HaView {
        let generation = if updates == UpdateMode::Send { 0 } else { epoch };
        let fence = Fence { life: 1, generation };
        HaView { epoch, updates, partner_batch_max, fence, ..HaView::default() }
    }

    fn numbers(list: &[Waiting]) -> Vec<u8> {
        list.iter().map(|waiting| waiting.update.lease.address.octets()[3]).collect()
    }

    fn filled(count: u8, batch_max: u16) -> Outbox {
        let mut outbox = Outbox::new(usize::from(count), 0);
        outbox.set_view(&view(1, UpdateMode::Send, batch_max), &mut Vec::new());
        for number in 0..count {
            outbox.push(u64::from(number), update(number, 1)).unwrap();
        }
        outbox
    }

    #[test]
    fn a_request_carries_as_many_as_the_peer_takes_in_their_order() {
        for (batch_max, expected) in
            [(0, vec![0]), (1, vec![0]), (3, vec![0, 1, 2]), (9, vec![0, 1, 2, 3, 4])]
        {
            let mut outbox = filled(5, batch_max);
            let mut taken = Vec::new();
            assert_eq!(outbox.take(5, &mut taken), Taken::Batch(UPDATE_TIMEOUT_MS - 1), "{batch_max}");
            assert_eq!(
                (numbers(&taken), outbox.len()),
                (expected.clone(), 5 - expected.len()),
                "{batch_max}"
            );
        }
        assert_eq!(filled(0, 1).take(0, &mut Vec::new()), Taken::Nothing);
    }

    #[test]
    fn large_contexts_end_a_request_before_it_is_too_large_for_the_peer() {
        const LARGE: usize = HTTP_REQUEST_BODY_OCTETS_MAX - 2_000;
        for (contexts, expected) in [
            ([0, HA_BATCH_OCTETS_MAX / 2, HA_BATCH_OCTETS_MAX / 2, 2], vec![0, 1, 2]),
            ([HA_BATCH_OCTETS_MAX, 0, 2, 0], vec![0, 1]),
            ([LARGE, LARGE, 0, 0], vec![0]),
            ([100, LARGE, 0, 0], vec![0]),
        ] {
            let mut outbox = filled(0, 9);
            outbox.waiting_max = 9;
            for (number, octets) in (0..).zip(contexts) {
                let mut update = update(number, 1);
                let map = || [b"{", &vec![b' '; octets - 2][..], b"}"].concat();
                update.lease.user_context = (octets > 0).then(|| map().into());
                outbox.push(0, update).unwrap();
            }
            let (mut taken, mut body) = (Vec::new(), Vec::new());
            outbox.take(0, &mut taken);
            assert_eq!(numbers(&taken), expected, "{contexts:?}");
            outbox.write_request(&taken, &mut body);
            assert!(taken.len() == 1 || body.len() <= HTTP_REQUEST_BODY_OCTETS_MAX, "{contexts:?}");
        }
    }

    #[test]
    fn an_update_that_waited_too_long_is_taken_alone() {
        let mut outbox = filled(2, 9);
        let mut taken = Vec::new();
        assert_eq!(outbox.take(UPDATE_TIMEOUT_MS * NS_PER_MS, &mut taken), Taken::Late);
        assert_eq!((numbers(&taken), outbox.len()), (vec![0], 1));
    }

    #[test]
    fn no_view_overtakes_what_waits_for_a_backup() {
        let mut outbox = Outbox::for_backup(9);
        let mut taken = Vec::new();
        for number in 0..2 {
            outbox.push(0, update(number, 1)).unwrap();
        }
        outbox.set_view(&view(4, UpdateMode::None, 9), &mut taken);
        assert_eq!(numbers(&taken), [0; 0]);
        assert_eq!(outbox.take(0, &mut taken), Taken::Batch(UPDATE_TIMEOUT_MS));
        assert_eq!((numbers(&taken), outbox.is_wanted(0, &taken)), (vec![0], true));
    }

    #[test]
    fn a_request_waits_by_the_size_of_the_one_before_it() {
        let mut pace = Pace::default();
        assert_eq!(pace.left_ns(0), 0);
        for (parked_max, updates, left_us) in
            [(4096, 1, 14), (4096, 16, 224), (4096, 512, 2380), (256, 512, 896), (3, 512, 0)]
        {
            pace.handle_sent(1_000, updates, Pace::updates_max(parked_max));
            assert_eq!(pace.left_ns(1_000), left_us * 1000, "{parked_max} {updates}");
            assert_eq!(pace.left_ns(1_000 + left_us * 1000), 0, "{parked_max} {updates}");
        }
    }

    #[test]
    fn beyond_the_limit_an_update_comes_back() {
        let mut outbox = filled(2, 1);
        assert_eq!(outbox.push(0, update(7, 1)).unwrap_err().lease, lease(7));
        outbox.take(0, &mut Vec::new());
        assert!(outbox.push(0, update(7, 1)).is_ok());
    }

    /// A shard may have got the view, and committed under it, before this outbox has: then both came by unseen.
    #[test]
    fn a_view_that_was_passed_over_overtakes_as_well() {
        let mut outbox = filled(2, 9);
        outbox.push(0, update(7, 6)).unwrap_err();
        outbox.waiting_max = 9;
        outbox.push(0, update(7, 6)).unwrap();
        let mut taken = Vec::new();
        let later = HaView { fence: Fence { life: 1, generation: 4 }, ..view(6, UpdateMode::Send, 9) };
        outbox.set_view(&later, &mut taken);
        assert_eq!(numbers(&taken), [0, 1]);
        taken.clear();
        outbox.take(0, &mut taken);
        assert_eq!(numbers(&taken), [7]);
    }

    struct Everywhere;

    impl SubnetDirectory for Everywhere {
        fn subnet(&self, _: u32, _: std::net::Ipv4Addr) -> Option<(u32, bool)> {
            Some((600, true))
        }

        fn subnet_of(&self, _: std::net::Ipv4Addr) -> Option<u32> {
            None
        }

        fn prefix(&self, _: u32) -> String {
            "0.0.0.0/0".into()
        }
    }

    /// The stamp of the next request of two updates.
    fn next_stamp(outbox: &mut Outbox) -> Option<Stamp> {
        let (mut taken, mut body) = (Vec::new(), Vec::new());
        for number in 0..2 {
            outbox.push(0, update(number, 9)).unwrap();
        }
        outbox.take(0, &mut taken);
        outbox.write_request(&taken, &mut body);
        let (_, mut asked) = batch::Received::read(&body, 0, 1, |_| 0, &Everywhere).unwrap();
        let Some((0, ShardCommandBody::PartnerBatch { stamp, .. })) = asked.pop() else {
            panic!("{asked:?}")
        };
        stamp
    }

    #[test]
    fn requests_bear_stamps_where_the_peer_reads_them() {
        let mut outbox = Outbox::new(9, 3);
        let mut overtaken = Vec::new();
        let fence = Fence { life: 5, generation: 2 };
        let plain = HaView { fence, ..view(3, UpdateMode::Send, 9) };
        outbox.set_view(&plain, &mut overtaken);
        assert_eq!(next_stamp(&mut outbox), None);
        let stamped = HaView { partner_fence: Some(Fence::default()), ..plain };
        outbox.set_view(&stamped, &mut overtaken);
        for number in 2..=3 {
            assert_eq!(next_stamp(&mut outbox), Some(Stamp { fence, stream: 3, number }));
        }
        let later = Fence { generation: 8, ..fence };
        outbox.set_view(&HaView { fence: later, ..stamped }, &mut overtaken);
        assert_eq!(next_stamp(&mut outbox), Some(Stamp { fence: later, stream: 3, number: 4 }));
    }

    #[test]
    fn a_view_that_asks_for_nothing_overtakes_what_was_committed_before_it() {
        let mut outbox = Outbox::new(9, 0);
        let mut taken = Vec::new();
        for (number, epoch) in [(0, 1), (1, 5), (2, 2)] {
            outbox.push(0, update(number, epoch)).unwrap();
        }
        outbox.set_view(&view(4, UpdateMode::Send, 9), &mut taken);
        assert_eq!(numbers(&taken), [0; 0]);
        outbox.set_view(&view(4, UpdateMode::None, 9), &mut taken);
        assert_eq!(numbers(&taken), [0, 2]);
        assert!(!outbox.is_wanted(0, &taken), "what was taken before the view came");
        taken.clear();
        outbox.take(0, &mut taken);
        assert_eq!((numbers(&taken), outbox.is_wanted(0, &taken)), (vec![1], true));
    }

    #[test]
    fn what_waited_while_the_server_stood_still_is_not_sent_before_the_view_is_renewed() {
        let mut outbox = Outbox::new(1, 0);
        let good = |good_until_ns| HaView { good_until_ns, ..view(1, UpdateMode::Send, 8) };
        outbox.set_view(&good(Some(5)), &mut Vec::new());
        outbox.push(0, update(0, 1)).unwrap();
        let mut taken = Vec::new();
        outbox.take(0, &mut taken);
        for (now_ns, wanted) in [(4, true), (5, false), (9, false)] {
            assert_eq!(outbox.is_wanted(now_ns, &taken), wanted, "{now_ns}");
        }
        outbox.set_view(&good(Some(20)), &mut Vec::new());
        assert!(outbox.is_wanted(9, &taken));
    }
}
