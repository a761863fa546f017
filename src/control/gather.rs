//! Scatter and gather: one question to the shards, one answer from what comes back (pure).
//!
//! The driver sends what [`Gather::poll_request`] gives, feeds the replies, and calls [`Gather::finish`] when
//! [`Gather::is_complete`] or when its deadline has passed. A list of leases is fetched from each shard in
//! chunks and merged by address, so that a dump of a million leases never holds up a shard for long and is
//! never held twice. An answer that lacks a shard says so and is an error: a caller that copies leases or
//! computes rates must not take a part for the whole.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use shards::Lease;

use super::answer::Answer;
use crate::engine::counters::ShardStatistics;
use crate::engine::message::{ShardCommandBody, ShardReplyBody};
use crate::ha::command::{Reply, result};
use crate::ha::lease_query::ClientQuery;

/// Leases a shard is asked for at a time: about a quarter of a millisecond of its core.
const CHUNK: usize = 512;

/// How long shards have for one answer, milliseconds.
pub const GATHER_MS: u64 = 10_000;

/// Writes one lease as a JSON object.
pub type LeaseWriter = fn(&Lease, &mut Vec<u8>);

/// Makes an answer of the counters of all shards.
pub type StatisticsWriter = Box<dyn FnOnce(Vec<(u8, ShardStatistics)>) -> Answer>;

/// One question under way.
pub struct Gather {
    kind: Kind,
    /// Shards whose next answer is awaited.
    awaited: Vec<bool>,
    /// Shards to be asked.
    to_ask: VecDeque<u8>,
    failed: bool,
}

enum Kind {
    Identity {
        by_client_id: bool,
        identity: shards::SmallBytes,
        subnet_id: Option<u32>,
        /// How far each shard has looked.
        after: Vec<Option<Ipv4Addr>>,
        leases: Vec<Lease>,
        writer: LeaseWriter,
    },
    Leases(Merge),
    One {
        address: Ipv4Addr,
        lease: Option<Lease>,
        writer: LeaseWriter,
    },
    Statistics {
        shards: Vec<(u8, ShardStatistics)>,
        writer: StatisticsWriter,
    },
}

/// A list of leases as asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListRequest {
    /// Exclusive lower bound.
    pub after: Option<Ipv4Addr>,
    /// At most this many; `None` is all.
    pub limit: Option<usize>,
    /// Only these subnets, ascending; empty is all.
    pub subnets: Vec<u32>,
}

/// The k-way merge of the shards' leases.
struct Merge {
    request: ListRequest,
    streams: Vec<Stream>,
    rendered: Vec<u8>,
    count: usize,
    /// Octets after which it ends, as at the limit.
    octets_max: usize,
    /// Between two leases.
    separator: &'static [u8],
    /// The last lease that was merged.
    last: Option<Ipv4Addr>,
    writer: LeaseWriter,
}

struct Stream {
    queue: VecDeque<Lease>,
    last: Option<Ipv4Addr>,
    ended: bool,
}

impl Gather {
    /// Leases of all shards in order of address.
    pub fn leases(shards: u8, request: ListRequest, writer: LeaseWriter) -> Self {
        Self::of_all(shards, Kind::Leases(Merge::new(shards, request, writer, b", ", usize::MAX)))
    }

    /// The same with nothing between two leases, and no more than about `octets_max` octets of them;
    /// [`Gather::finish_rows`] gives them.
    pub fn rows(shards: u8, request: ListRequest, octets_max: usize, writer: LeaseWriter) -> Self {
        Self::of_all(shards, Kind::Leases(Merge::new(shards, request, writer, b"", octets_max)))
    }

    /// Leases of a client in every subnet, from every shard.
    pub fn leases_of(
        shards: u8,
        by_client_id: bool,
        identity: shards::SmallBytes,
        writer: LeaseWriter,
    ) -> Self {
        let (after, leases) = (vec![None; usize::from(shards)], Vec::new());
        let kind = Kind::Identity { by_client_id, identity, subnet_id: None, after, leases, writer };
        Self::of_all(shards, kind)
    }

    /// The lease of a client in a subnet; the first by address, where it has more.
    pub fn lease_of(shards: u8, client: &ClientQuery, writer: LeaseWriter) -> Self {
        let (after, leases) = (vec![None; usize::from(shards)], Vec::new());
        let ClientQuery { by_client_id, identity, subnet_id } = client.clone();
        let kind =
            Kind::Identity { by_client_id, identity, subnet_id: Some(subnet_id), after, leases, writer };
        Self::of_all(shards, kind)
    }

    /// The lease of `address`, from the shard that owns it.
    pub fn one(shards: u8, owner: u8, address: Ipv4Addr, writer: LeaseWriter) -> Self {
        let mut gather = Self::of_all(shards, Kind::One { address, lease: None, writer });
        gather.to_ask = VecDeque::from([owner]);
        gather
    }

    /// The counters of all shards.
    pub fn statistics(shards: u8, writer: StatisticsWriter) -> Self {
        Self::of_all(shards, Kind::Statistics { shards: Vec::new(), writer })
    }

    fn of_all(shards: u8, kind: Kind) -> Self {
        Self { kind, awaited: vec![false; usize::from(shards)], to_ask: (0..shards).collect(), failed: false }
    }

    /// What to ask of which shard next. Each is answered with one reply.
    pub fn poll_request(&mut self) -> Option<(u8, ShardCommandBody)> {
        let shard = self.to_ask.pop_front()?;
        self.awaited[usize::from(shard)] = true;
        let body = match &self.kind {
            Kind::Identity { by_client_id, identity, after, .. } => ShardCommandBody::GetByIdentity {
                by_client_id: *by_client_id,
                identity: identity.clone(),
                after: after[usize::from(shard)],
            },
            Kind::Leases(merge) => merge.command(shard),
            Kind::One { address, .. } => ShardCommandBody::Get(*address),
            Kind::Statistics { .. } => ShardCommandBody::Statistics,
        };
        Some((shard, body))
    }

    /// The request for `shard` could not be sent: its lane is full. It is given again by `poll_request`.
    pub fn not_sent(&mut self, shard: u8) {
        self.awaited[usize::from(shard)] = false;
        self.to_ask.push_front(shard);
    }

    /// A shard has answered.
    pub fn handle_reply(&mut self, shard: u8, body: ShardReplyBody) {
        let Some(awaited) = self.awaited.get_mut(usize::from(shard)) else { return };
        if !std::mem::take(awaited) {
            return;
        }
        match (&mut self.kind, body) {
            (Kind::Identity { leases, .. }, ShardReplyBody::Leases(found)) => leases.extend(found),
            (Kind::Identity { leases, after, .. }, ShardReplyBody::LeasesUpTo(found, upto)) => {
                leases.extend(found);
                after[usize::from(shard)] = Some(upto);
                self.to_ask.push_back(shard);
            }
            (Kind::One { lease, .. }, ShardReplyBody::Leases(found)) => *lease = found.into_iter().next(),
            (Kind::Statistics { shards, .. }, ShardReplyBody::Statistics(counters)) => {
                shards.push((shard, *counters));
            }
            (Kind::Leases(merge), ShardReplyBody::Leases(chunk)) => {
                merge.take(shard, chunk, None);
                self.ask_further();
            }
            (Kind::Leases(merge), ShardReplyBody::LeasesUpTo(chunk, upto)) => {
                merge.take(shard, chunk, Some(upto));
                self.ask_further();
            }
            // The shard cannot answer (its journal is poisoned, say).
            _ => self.failed = true,
        }
    }

    /// Merges as far as it goes, and asks the shards that have to say more before it goes on.
    fn ask_further(&mut self) {
        let Kind::Leases(merge) = &mut self.kind else { return };
        for shard in merge.advance() {
            if !self.awaited[usize::from(shard)] && !self.to_ask.contains(&shard) {
                self.to_ask.push_back(shard);
            }
        }
    }

    /// Whether nothing more is awaited.
    pub fn is_complete(&self) -> bool {
        self.failed || (self.to_ask.is_empty() && !self.awaited.contains(&true))
    }

    /// What [`Gather::rows`] has gathered, and the address to go on after if there may be more.
    ///
    /// # Errors
    /// The answer to give instead.
    pub fn finish_rows(self) -> Result<(Vec<u8>, Option<Ipv4Addr>), Reply> {
        self.check_complete()?;
        match self.kind {
            Kind::Leases(merge) => {
                let upto = if merge.is_full() { merge.last } else { None };
                Ok((merge.rendered, upto))
            }
            _ => Err(Reply::error("no rows were asked for")),
        }
    }

    /// The address of the lease that [`Gather::lease_of`] has found.
    ///
    /// # Errors
    /// The answer to give instead.
    pub fn finish_address(self) -> Result<Option<Ipv4Addr>, Reply> {
        self.check_complete()?;
        match self.kind {
            Kind::Identity { subnet_id: Some(subnet_id), leases, .. } => {
                let addresses = leases.iter().filter(|lease| lease.subnet_id == subnet_id);
                Ok(addresses.map(|lease| lease.address).min())
            }
            _ => Err(Reply::error("no lease of a client was asked for")),
        }
    }

    /// The answer. Before the gathering is complete it is an error that names the silent shards.
    pub fn finish(self) -> Answer {
        if let Err(reply) = self.check_complete() {
            return reply.into();
        }
        match self.kind {
            Kind::Identity { subnet_id: Some(subnet_id), mut leases, writer, .. } => {
                leases.retain(|lease| lease.subnet_id == subnet_id);
                leases.sort_by_key(|lease| lease.address);
                single(leases.first(), writer)
            }
            Kind::Identity { subnet_id: None, mut leases, writer, .. } => {
                leases.sort_by_key(|lease| lease.address);
                // Both indexes may know an address.
                leases.dedup_by_key(|lease| lease.address);
                let mut rendered = Vec::new();
                leases.iter().for_each(|lease| append(&mut rendered, b", ", lease, writer));
                Answer::leases(rendered, leases.len(), false)
            }
            Kind::Leases(merge) => Answer::leases(merge.rendered, merge.count, merge.request.limit.is_some()),
            Kind::One { lease, writer, .. } => single(lease.as_ref(), writer),
            Kind::Statistics { shards, writer } => writer(shards),
        }
    }

    fn check_complete(&self) -> Result<(), Reply> {
        if self.failed {
            return Err(Reply::error("a shard could not answer"));
        }
        let silent: Vec<String> = (0u32..)
            .zip(&self.awaited)
            .filter(|(shard, awaited)| {
                **awaited || self.to_ask.iter().any(|asked| u32::from(*asked) == *shard)
            })
            .map(|(shard, _)| shard.to_string())
            .collect();
        if !silent.is_empty() {
            let text = format!(
                "no answer in time from shard(s) {}; what the others said is left out",
                silent.join(", ")
            );
            return Err(Reply::error(text));
        }
        Ok(())
    }
}

fn single(lease: Option<&Lease>, writer: LeaseWriter) -> Answer {
    match lease {
        None => Reply::new(result::EMPTY, "Lease not found.").into(),
        Some(lease) => {
            let mut rendered = Vec::new();
            writer(lease, &mut rendered);
            Answer::lease(rendered)
        }
    }
}

fn append(rendered: &mut Vec<u8>, separator: &[u8], lease: &Lease, writer: LeaseWriter) {
    if !rendered.is_empty() {
        rendered.extend_from_slice(separator);
    }
    writer(lease, rendered);
}

impl Merge {
    fn new(
        shards: u8,
        request: ListRequest,
        writer: LeaseWriter,
        separator: &'static [u8],
        octets_max: usize,
    ) -> Self {
        let stream = || Stream { queue: VecDeque::new(), last: request.after, ended: false };
        let streams = (0..shards).map(|_| stream()).collect();
        let (rendered, count, last) = (Vec::new(), 0, None);
        Self { request, streams, rendered, count, octets_max, separator, last, writer }
    }

    fn is_full(&self) -> bool {
        self.request.limit.is_some_and(|limit| self.count >= limit) || self.rendered.len() >= self.octets_max
    }

    fn command(&self, shard: u8) -> ShardCommandBody {
        let left = self.request.limit.map_or(usize::MAX, |limit| limit.saturating_sub(self.count));
        ShardCommandBody::Page {
            after: self.streams[usize::from(shard)].last,
            limit: left.min(CHUNK),
            subnets: self.request.subnets.clone(),
        }
    }

    /// A shard's next leases; `upto` is where it stopped looking, `None` at the end of what was asked for.
    fn take(&mut self, shard: u8, chunk: Vec<Lease>, upto: Option<Ipv4Addr>) {
        let stream = &mut self.streams[usize::from(shard)];
        match upto.or_else(|| chunk.last().map(|lease| lease.address)) {
            Some(last) => stream.last = Some(last),
            None => stream.ended = true,
        }
        stream.queue.extend(chunk);
    }

    /// Merges while every stream has a lease to show or has ended; gives the shards whose leases are missing.
    fn advance(&mut self) -> Vec<u8> {
        loop {
            if self.is_full() {
                self.streams.iter_mut().for_each(|stream| stream.queue.clear());
                return Vec::new();
            }
            let empty = |stream: &Stream| stream.queue.is_empty() && !stream.ended;
            let wanted: Vec<u8> = (0u8..)
                .zip(&self.streams)
                .filter(|(_, stream)| empty(stream))
                .map(|(shard, _)| shard)
                .collect();
            if !wanted.is_empty() {
                return wanted;
            }
            let next = self.streams.iter_mut().filter(|stream| !stream.queue.is_empty());
            let Some(stream) = next.min_by_key(|stream| stream.queue[0].address) else { return Vec::new() };
            if let Some(lease) = stream.queue.pop_front() {
                append(&mut self.rendered, self.separator, &lease, self.writer);
                self.last = Some(lease.address);
                self.count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(address: u32, subnet_id: u32) -> Lease {
        Lease {
            address: Ipv4Addr::from(address),
            subnet_id,
            pool_id: 0,
            hwaddr: shards::SmallBytes::new(&address.to_be_bytes()),
            client_id: shards::SmallBytes::empty(),
            valid_lifetime: 600,
            cltt: 1,
            state: shards::LeaseState::Default,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: shards::SmallBytes::empty(),
            user_context: None,
        }
    }

    fn writer(lease: &Lease, output: &mut Vec<u8>) {
        output.extend_from_slice(u32::from(lease.address).to_string().as_bytes());
    }

    /// Shards that hold addresses 0 to `count` - 1, dealt in blocks of four.
    fn answer(shard: u8, shards: u8, count: u32, body: &ShardCommandBody) -> ShardReplyBody {
        let mine = |address: u32| (address / 4) % u32::from(shards) == u32::from(shard);
        match body {
            ShardCommandBody::Page { after, limit, subnets } => {
                let start = after.map_or(0, |after| u32::from(after) + 1);
                let leases = (start..count)
                    .filter(|address| mine(*address))
                    .map(|address| lease(address, address % 3));
                let wanted = |lease: &Lease| subnets.is_empty() || subnets.contains(&lease.subnet_id);
                // No more than five are looked at.
                let looked: Vec<Lease> = leases.take(5).collect();
                let upto = looked.last().filter(|_| looked.len() == 5).map(|lease| lease.address);
                let found: Vec<Lease> = looked.into_iter().filter(wanted).take(*limit).collect();
                match upto {
                    Some(upto) if found.len() < *limit => ShardReplyBody::LeasesUpTo(found, upto),
                    _ => ShardReplyBody::Leases(found),
                }
            }
            ShardCommandBody::Get(address) => {
                assert!(mine(u32::from(*address)), "asked of the owner alone");
                let there = u32::from(*address) < count;
                ShardReplyBody::Leases(there.then(|| lease(u32::from(*address), 1)).into_iter().collect())
            }
            ShardCommandBody::GetByIdentity { after: None, .. } => {
                ShardReplyBody::LeasesUpTo(Vec::new(), Ipv4Addr::from(50))
            }
            ShardCommandBody::GetByIdentity { after, .. } => {
                assert_eq!(*after, Some(Ipv4Addr::from(50)), "it is asked where it stopped");
                ShardReplyBody::Leases(vec![lease(100 - u32::from(shard), u32::from(shard))])
            }
            other => panic!("not asked here: {other:?}"),
        }
    }

    fn run(mut gather: Gather, shards: u8, count: u32) -> String {
        let mut asked = VecDeque::new();
        for _ in 0..100_000 {
            while let Some(request) = gather.poll_request() {
                asked.push_back(request);
            }
            // The last one asked answers first, so that replies come in any order.
            let Some((shard, body)) = asked.pop_back() else { break };
            gather.handle_reply(shard, answer(shard, shards, count, &body));
        }
        assert!(gather.is_complete());
        let mut output = Vec::new();
        gather.finish().render(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn lists_are_merged_in_order_of_address_and_cut_at_the_limit() {
        for shards in [1, 2, 4] {
            for (after, limit, count) in [
                (None, None, 0u32),
                (None, None, 3000),
                (None, Some(1), 3000),
                (None, Some(2500), 3000),
                (Some(9), Some(5), 3000),
                (Some(2998), Some(5), 3000),
                (Some(2999), Some(5), 3000),
                (None, Some(3000), 3000),
            ] {
                let request = ListRequest { after: after.map(Ipv4Addr::from), limit, subnets: Vec::new() };
                let text = run(Gather::leases(shards, request, writer), shards, count);
                let start = after.map_or(0, |after: u32| after + 1);
                let expected: Vec<u32> = (start..count).take(limit.unwrap_or(usize::MAX)).collect();
                let list = expected.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
                let counted = limit.map_or(String::new(), |_| format!("\"count\": {}, ", expected.len()));
                let code = if expected.is_empty() { 3 } else { 0 };
                assert_eq!(
                    text,
                    format!(
                        "{{ \"arguments\": {{ {counted}\"leases\": [ {list} ] }}, \"result\": {code}, \"text\": \"{} IPv4 lease(s) found.\" }}",
                        expected.len()
                    )
                );
            }
        }
    }

    #[test]
    fn a_list_of_some_subnets_holds_only_their_leases() {
        let request = ListRequest { after: None, limit: None, subnets: vec![2] };
        let text = run(Gather::leases(2, request, writer), 2, 9);
        assert!(text.contains("\"leases\": [ 2, 5, 8 ]"), "{text}");
    }

    #[test]
    fn one_lease_is_asked_of_its_owner_and_a_client_of_all() {
        let found = run(Gather::one(4, 1, Ipv4Addr::from(5), writer), 4, 100);
        assert_eq!(found, r#"{ "arguments": 5, "result": 0, "text": "IPv4 lease found." }"#);
        let missing = run(Gather::one(4, 1, Ipv4Addr::from(5), writer), 4, 5);
        assert_eq!(missing, r#"{ "result": 3, "text": "Lease not found." }"#);
        let identity = shards::SmallBytes::new(&[1, 2]);
        let all = run(Gather::leases_of(3, false, identity.clone(), writer), 3, 0);
        assert!(all.contains("[ 98, 99, 100 ]"), "{all}");
        let of = |subnet_id| ClientQuery { by_client_id: false, identity: identity.clone(), subnet_id };
        let in_subnet = run(Gather::lease_of(3, &of(1), writer), 3, 0);
        assert_eq!(in_subnet, r#"{ "arguments": 99, "result": 0, "text": "IPv4 lease found." }"#);
        let nowhere = run(Gather::lease_of(3, &of(7), writer), 3, 0);
        assert_eq!(nowhere, r#"{ "result": 3, "text": "Lease not found." }"#);
    }

    #[test]
    fn a_silent_or_failing_shard_makes_the_answer_an_error() {
        let request = ListRequest { after: None, limit: None, subnets: Vec::new() };
        let mut gather = Gather::leases(3, request.clone(), writer);
        while gather.poll_request().is_some() {}
        gather.handle_reply(1, ShardReplyBody::Leases(Vec::new()));
        gather.handle_reply(1, ShardReplyBody::Leases(vec![lease(1, 1)]));
        assert!(!gather.is_complete());
        let answer = gather.finish();
        assert_eq!(answer.result(), 1);
        assert!(answer.text().unwrap().contains("shard(s) 0, 2;"), "{answer:?}");

        let mut gather = Gather::leases(3, request, writer);
        while gather.poll_request().is_some() {}
        gather.handle_reply(1, ShardReplyBody::Busy);
        assert!(gather.is_complete());
        assert_eq!(gather.finish().result(), 1);
    }

    #[test]
    fn a_request_that_found_no_room_is_given_again() {
        let mut gather = Gather::statistics(2, Box::new(|_| Answer::data(serde_json::json!({}))));
        let (shard, _) = gather.poll_request().unwrap();
        gather.not_sent(shard);
        assert_eq!(gather.poll_request().map(|(shard, _)| shard), Some(shard));
        assert_eq!(gather.poll_request().map(|(shard, _)| shard), Some(1));
        assert!(gather.poll_request().is_none() && !gather.is_complete());
    }
}
