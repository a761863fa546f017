//! Answers `tandem-lease4-copy`: asks the shards, and puts their rows behind one head (pure).
//!
//! Driven as [`Gather`] is: what [`CopyAnswer::poll_request`] gives is sent, replies are fed, and
//! [`CopyAnswer::finish`] gives the body when [`CopyAnswer::is_complete`] or when the deadline has passed. Shards are
//! asked for their marks before the first lease is listed, so no change can fall between the two.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use shards::Lease;

use super::gather::{Gather, ListRequest};
use crate::engine::message::{ShardCommandBody, ShardReplyBody, UpdateKind};
use crate::ha::command::{Reply, result};
use crate::ha::copy::{CopyHead, CopyRequest, Mark};
use crate::ha::lease_rows;
use crate::limits::{COPY_CHANGES, COPY_LEASES, COPY_OCTETS};
use crate::policy::SubnetFilter;

/// One answer under way.
pub struct CopyAnswer {
    head: CopyHead,
    /// What `Changes` asks for: entries at a time; 0 when only the mark is looked at.
    limit: usize,
    /// No mark was sent: each shard gives one.
    begins: bool,
    /// Shards to be asked, and the one whose answer is awaited.
    to_ask: VecDeque<u8>,
    awaited: Option<u8>,
    rows: Vec<u8>,
    count: usize,
    listing: Listing,
    /// Whose leases are given.
    subnets: SubnetFilter,
    failed: Option<Reply>,
}

enum Listing {
    /// Nothing is listed.
    None,
    /// Once every shard has said its mark.
    Then { after: Option<Ipv4Addr>, limit: usize },
    /// Leases are gathered.
    Now(Gather),
}

fn write_row(lease: &Lease, output: &mut Vec<u8>) {
    lease_rows::write(UpdateKind::Update, lease, output);
}

impl CopyAnswer {
    /// The answer to `request` of a server with `shards` shards: leases of `subnets`.
    pub fn new(shards: u8, request: CopyRequest, subnets: SubnetFilter) -> Self {
        let (mark, limit, listing) = match request {
            CopyRequest::Changes { since } => (Some(since), COPY_CHANGES, Listing::None),
            CopyRequest::Page { after, mark, limit } => {
                (Some(mark), 0, Listing::Then { after: Some(after), limit })
            }
            CopyRequest::Start { limit } => (None, 0, Listing::Then { after: None, limit }),
        };
        let begins = mark.is_none();
        let mark = mark.unwrap_or_else(|| Mark(vec![0; usize::from(shards)]));
        let fits = mark.0.len() == usize::from(shards);
        Self {
            head: CopyHead { more: false, upto: None, mark },
            limit,
            begins,
            to_ask: (0..shards).collect(),
            awaited: None,
            rows: Vec::new(),
            count: 0,
            listing,
            subnets,
            failed: (!fits).then(lost),
        }
    }

    /// What to ask of which shard next.
    pub fn poll_request(&mut self) -> Option<(u8, ShardCommandBody)> {
        if self.failed.is_some() || self.awaited.is_some() {
            return None;
        }
        if let Some(shard) = self.to_ask.pop_front() {
            self.awaited = Some(shard);
            let since = (!self.begins).then(|| self.head.mark.0[usize::from(shard)]);
            let subnets = self.subnets.clone();
            return Some((shard, ShardCommandBody::Changes { since, limit: self.limit, subnets }));
        }
        if let Listing::Then { after, limit } = self.listing {
            let shards = self.head.mark.0.len() as u8;
            self.listing = match self.subnets.ids() {
                Some([]) => Listing::None,
                ids => {
                    let subnets = ids.unwrap_or_default().to_vec();
                    let request = ListRequest { after, limit: Some(limit), subnets };
                    Listing::Now(Gather::rows(shards, request, COPY_OCTETS, write_row))
                }
            };
        }
        match &mut self.listing {
            Listing::Now(gather) => gather.poll_request(),
            Listing::None | Listing::Then { .. } => None,
        }
    }

    /// A shard has answered.
    pub fn handle_reply(&mut self, shard: u8, body: ShardReplyBody) {
        if self.awaited.take_if(|awaited| *awaited == shard).is_none() {
            if let Listing::Now(gather) = &mut self.listing {
                gather.handle_reply(shard, body);
            }
            return;
        }
        match body {
            ShardReplyBody::Changes { rows, mark, more } => {
                self.head.mark.0[usize::from(shard)] = mark;
                rows.iter().for_each(|(kind, lease)| lease_rows::write(*kind, lease, &mut self.rows));
                self.count += rows.len();
                let full = self.count >= COPY_LEASES || self.rows.len() >= COPY_OCTETS;
                if more && self.limit > 0 {
                    if full {
                        self.head.more = true;
                    } else {
                        self.to_ask.push_front(shard);
                    }
                }
            }
            ShardReplyBody::ChangesLost => self.failed = Some(lost()),
            _ => self.failed = Some(Reply::error("a shard could not answer")),
        }
    }

    /// Whether nothing more is awaited.
    pub fn is_complete(&self) -> bool {
        let listed = match &self.listing {
            Listing::None => true,
            Listing::Now(gather) => gather.is_complete(),
            Listing::Then { .. } => false,
        };
        self.failed.is_some() || (self.awaited.is_none() && self.to_ask.is_empty() && listed)
    }

    /// The body: rows, or why there are none.
    ///
    /// # Errors
    /// The answer to give instead. Before it [is complete](Self::is_complete) it says so.
    pub fn finish(mut self) -> Result<Vec<u8>, Reply> {
        if !self.is_complete() {
            return Err(Reply::error("no answer in time from a shard"));
        }
        if let Some(reply) = self.failed {
            return Err(reply);
        }
        // Either changes are told or leases are listed.
        let mut rows = self.rows;
        if let Listing::Now(gather) = self.listing {
            (rows, self.head.upto) = gather.finish_rows()?;
            self.head.more = self.head.upto.is_some();
        }
        let mut body = Vec::with_capacity(rows.len() + 1024);
        self.head.write(&mut body);
        body.extend_from_slice(&rows);
        Ok(body)
    }
}

/// The copier has to begin anew: a shard does not know the mark, or no longer.
fn lost() -> Reply {
    Reply::new(result::CONFLICT, "what has changed since the mark is not known: the copy has to begin anew")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::copy::CopyPage;
    use crate::ha::test_support;

    fn lease(number: u32) -> Lease {
        Lease { address: Ipv4Addr::from(number), ..test_support::lease(number) }
    }

    /// Two shards with the leases 1 to 100, odd ones and even ones; each has 600 entries in its log, all of lease 7.
    fn reply(shard: u8, body: &ShardCommandBody) -> ShardReplyBody {
        match body {
            ShardCommandBody::Changes { since: None, .. } => {
                ShardReplyBody::Changes { rows: Vec::new(), mark: 5, more: false }
            }
            ShardCommandBody::Changes { since: Some(mark), limit, .. } => {
                let upto = (*mark + *limit as u64).min(605);
                let rows = if upto > *mark { vec![(UpdateKind::Update, lease(7))] } else { Vec::new() };
                ShardReplyBody::Changes { rows, mark: upto, more: upto < 605 }
            }
            ShardCommandBody::Page { after, limit, .. } => {
                let after = after.map_or(0, u32::from);
                let mine = (after + 1..=100).filter(|number| number % 2 == u32::from(shard));
                ShardReplyBody::Leases(mine.take(*limit).map(lease).collect())
            }
            other => panic!("not asked for a copy: {other:?}"),
        }
    }

    fn run(request: CopyRequest) -> Result<CopyPage, Reply> {
        let mut answer = CopyAnswer::new(2, request, SubnetFilter::ALL);
        while !answer.is_complete() {
            let (shard, body) = answer.poll_request().expect("something to ask");
            answer.handle_reply(shard, reply(shard, &body));
        }
        answer.finish().map(|body| CopyPage::parse(&body).expect("a page"))
    }

    #[test]
    fn a_copy_begins_with_a_mark_and_goes_on_from_page_to_page() {
        let start = run(CopyRequest::Start { limit: 40 }).expect("a page");
        assert_eq!(
            start.head,
            CopyHead { more: true, upto: Some(Ipv4Addr::from(40)), mark: Mark(vec![5, 5]) }
        );
        let listed = (1..=40).map(|number| (UpdateKind::Update, lease(number)));
        assert_eq!(start.rows, listed.collect::<Vec<_>>());
        let after = start.head.upto.expect("more");
        let page = run(CopyRequest::Page { after, mark: start.head.mark, limit: 1000 }).expect("a page");
        assert_eq!(page.head, CopyHead { more: false, upto: None, mark: Mark(vec![5, 5]) });
        assert_eq!(
            page.rows,
            (41..=100).map(|number| (UpdateKind::Update, lease(number))).collect::<Vec<_>>()
        );
    }

    #[test]
    fn changes_are_told_to_their_end() {
        let page = run(CopyRequest::Changes { since: Mark(vec![5, 5]) }).expect("a page");
        assert_eq!(page.head, CopyHead { more: false, upto: None, mark: Mark(vec![605, 605]) });
        // 512 entries and 88 more, of each shard.
        assert_eq!(page.rows, vec![(UpdateKind::Update, lease(7)); 4]);
        let page = run(CopyRequest::Changes { since: page.head.mark }).expect("a page");
        assert!(page.rows.is_empty() && !page.head.more);
    }

    #[test]
    fn a_mark_that_is_not_good_or_a_silent_shard_gives_no_page() {
        let other = run(CopyRequest::Changes { since: Mark(vec![5]) });
        assert_eq!(other.expect_err("a mark of one shard").result, result::CONFLICT);
        let mut answer =
            CopyAnswer::new(2, CopyRequest::Changes { since: Mark(vec![5, 5]) }, SubnetFilter::ALL);
        let (shard, _) = answer.poll_request().expect("something to ask");
        answer.handle_reply(shard, ShardReplyBody::ChangesLost);
        assert!(answer.is_complete() && answer.poll_request().is_none());
        assert_eq!(answer.finish().expect_err("lost").result, result::CONFLICT);
        let mut silent = CopyAnswer::new(2, CopyRequest::Start { limit: 1 }, SubnetFilter::ALL);
        assert!(silent.poll_request().is_some() && silent.poll_request().is_none());
        assert_eq!(silent.finish().expect_err("late").result, result::ERROR);
        let mut busy = CopyAnswer::new(2, CopyRequest::Start { limit: 1 }, SubnetFilter::ALL);
        let (shard, _) = busy.poll_request().expect("something to ask");
        busy.handle_reply(shard, ShardReplyBody::Busy);
        assert_eq!(busy.finish().expect_err("busy").result, result::ERROR);
    }
}
