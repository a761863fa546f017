//! Copying all leases from another Tandem server while it goes on serving: an extension of the protocol (6).
//!
//! A server names in its answer to `ha-heartbeat` that it can be copied from like this ([`ANNOUNCEMENT`]); Kea ignores
//! the member and never gets the command. The command asks for one of three things:
//!
//! | Arguments | Answer |
//! |---|---|
//! | `from`: `"start"` | a mark, and the first leases |
//! | `from`: an address, `mark` | the leases above that address |
//! | `changes-since`: a mark | what has changed since, and the mark to ask with next |
//!
//! What was deleted while the partner was away is told as if it had changed right after the first mark.
//!
//! An answer is [rows](super::lease_rows) behind a short head, or, when it is an error, the JSON of every command.
//! Every answer is limited and says whether there is more.
//!
//! **Why nothing is missed.** Every change of a lease after the mark is noted by the shard that owns it
//! (`engine::changes`), or the mark is refused. So a lease is either as it was when its page was read, or it is among
//! the changes. The last changes are asked for after `dhcp-disable` was answered, which is when every query that was
//! let in has committed: nothing changes any more, and that answer leaves nothing out. The service rests from then
//! until the partner has heard that the copy is complete, some milliseconds. What the source grants if the lock runs
//! out is counted as unsent, and the copier is told to copy again (ha-protocol 4.8).
//!
//! **What is taken.** Rows come in the order in which they were read, so of two rows of one address the later one is
//! the later truth; a row replaces an older lease, and the source wins ties (`engine::command`). A row that says
//! *deleted* deletes a lease of the same client that is no newer.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use shards::Lease;

use super::command::{Envelope, Reply, ReplyError, request};
use super::lease_rows::{self, RowError};
use crate::engine::message::{CopySlice, Span, Terms, UpdateKind};
use crate::limits::{COPY_LEASES, EXECUTORS_MAX, SYNC_CHUNK_LEASES};
use crate::policy::Snapshot;

/// Name of the command.
pub const COMMAND: &str = "tandem-lease4-copy";

/// Member of the answer to `ha-heartbeat`: the version of the command.
pub const ANNOUNCEMENT: &str = "tandem-copy";

/// The version spoken here.
pub const VERSION: u8 = 1;

const MORE: u8 = 1;

/// Hexadecimal digits of a mark: sixteen for each shard.
const MARK_DIGITS_MAX: usize = 16 * EXECUTORS_MAX as usize;

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CopyRequest {
    /// What has changed since the mark.
    Changes {
        /// The mark.
        since: Mark,
    },
    /// Leases above an address.
    Page {
        /// Exclusive lower bound.
        after: Ipv4Addr,
        /// The mark this copy began with.
        mark: Mark,
        /// How many leases at most.
        limit: usize,
    },
    /// A mark and the first leases.
    Start {
        /// How many leases at most.
        limit: usize,
    },
}

/// How far each shard of the source has come; the copier sends it back as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Mark(pub Vec<u64>);

impl Mark {
    fn to_text(&self) -> String {
        self.0.iter().map(|number| format!("{number:016x}")).collect()
    }

    fn from_text(text: &str) -> Option<Self> {
        let whole = text.len() <= MARK_DIGITS_MAX && text.len().is_multiple_of(16) && text.is_ascii();
        if !whole {
            return None;
        }
        let digits = text.as_bytes().chunks_exact(16).map(|digits| {
            digits
                .iter()
                .try_fold(0u64, |sum, digit| Some(sum << 4 | u64::from(char::from(*digit).to_digit(16)?)))
        });
        digits.collect::<Option<Vec<u64>>>().map(Self)
    }
}

impl CopyRequest {
    /// Reads the arguments.
    ///
    /// # Errors
    /// The answer to give.
    pub fn parse(envelope: &Envelope) -> Result<Self, Reply> {
        let argument = |name| envelope.arguments.as_ref().and_then(|arguments| arguments.get(name));
        let mark = |name| {
            let text = argument(name).and_then(Value::as_str);
            text.and_then(Mark::from_text).ok_or_else(|| Reply::error(format!("'{name}' is not a mark")))
        };
        if argument("changes-since").is_some() {
            return Ok(Self::Changes { since: mark("changes-since")? });
        }
        let limit = argument("limit").and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.filter(|limit| *limit > 0).ok_or_else(|| Reply::error("'limit' is no number"))?;
        let limit = limit.min(COPY_LEASES);
        match argument("from").and_then(Value::as_str) {
            Some("start") => Ok(Self::Start { limit }),
            Some(text) => {
                let after = text.parse().map_err(|_| Reply::error("'from' is not an address"))?;
                Ok(Self::Page { after, mark: mark("mark")?, limit })
            }
            None => Err(Reply::error("neither 'from' nor 'changes-since'")),
        }
    }

    /// The body of the request.
    pub fn write(&self) -> Vec<u8> {
        let arguments = match self {
            Self::Changes { since } => json!({ "changes-since": since.to_text() }),
            Self::Page { after, mark, limit } => {
                json!({ "from": after.to_string(), "limit": limit, "mark": mark.to_text() })
            }
            Self::Start { limit } => json!({ "from": "start", "limit": limit }),
        };
        request::command(COMMAND, Some(arguments))
    }
}

/// What an answer says before its rows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CopyHead {
    /// Whether there are more leases above `upto`, or more changes since `mark`.
    pub more: bool,
    /// Address up to which leases were listed.
    pub upto: Option<Ipv4Addr>,
    /// The mark to go on with.
    pub mark: Mark,
}

impl CopyHead {
    /// Appends the head.
    pub fn write(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&[VERSION, if self.more { MORE } else { 0 }]);
        output.extend_from_slice(&self.upto.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        output.push(self.mark.0.len() as u8);
        self.mark.0.iter().for_each(|number| output.extend_from_slice(&number.to_be_bytes()));
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let (&[version, flags, a, b, c, d, marks], rest) = input.split_first_chunk()?;
        let (mark, rest) = rest.split_at_checked(8 * usize::from(marks))?;
        *input = rest;
        let numbers = mark.as_chunks::<8>().0.iter().map(|octets| u64::from_be_bytes(*octets));
        let upto = Ipv4Addr::new(a, b, c, d);
        (version == VERSION).then(|| Self {
            more: flags & MORE != 0,
            upto: (upto != Ipv4Addr::UNSPECIFIED).then_some(upto),
            mark: Mark(numbers.collect()),
        })
    }
}

/// One answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CopyPage {
    /// What it says of itself.
    pub head: CopyHead,
    /// Its rows, in order.
    pub rows: Vec<(UpdateKind, Lease)>,
}

/// Why there is no page.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CopyError {
    /// The source does not give it.
    #[error(transparent)]
    Refused(#[from] ReplyError),
    /// Its head is of another version, or none.
    #[error("the answer to {COMMAND} is of another version")]
    Version,
    /// A row cannot be read.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl CopyPage {
    /// Reads an answer.
    ///
    /// # Errors
    /// [`CopyError`]; nothing of it may be taken then.
    pub fn parse(body: &[u8]) -> Result<Self, CopyError> {
        if matches!(body.first(), Some(b'[' | b'{')) {
            Reply::parse_success(body)?;
            return Err(CopyError::Version);
        }
        let mut input = body;
        let head = CopyHead::read(&mut input).ok_or(CopyError::Version)?;
        let mut rows = Vec::with_capacity(COPY_LEASES.min(input.len() / 32));
        while let Some(row) = lease_rows::read(&mut input)? {
            rows.push(row);
        }
        Ok(Self { head, rows })
    }
}

/// Leases of a copy on their way to the shards.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CopyRows {
    /// The rows; of two of one address the later one counts.
    pub rows: Vec<(UpdateKind, Lease)>,
    /// What they are copied for.
    pub terms: Terms,
}

impl CopyRows {
    /// Those that `relationship` takes (ha-protocol 6.7). Where there are several, an address has to lie in the subnet that
    /// its row names: what the source says of it must not come to the lease of another relationship.
    pub fn of_relationship(mut self, rules: &Snapshot, relationship: u8) -> Self {
        let (copied, are_several) =
            (rules.relationships.copied(relationship), rules.relationships.are_several());
        let is_placed = |lease: &Lease| {
            rules.subnets.with_id(lease.subnet_id).is_some_and(|subnet| subnet.contains(lease.address))
        };
        self.rows.retain(|(_, lease)| copied.admits(lease.subnet_id) && (!are_several || is_placed(lease)));
        self
    }

    /// The parts for each of `shards` shards, each no more than one commit takes.
    pub fn into_slices(self, shards: u8, owner_of: impl Fn(Ipv4Addr) -> u8) -> Vec<Vec<CopySlice>> {
        let mut by_shard: Vec<Vec<(UpdateKind, Lease)>> = (0..shards).map(|_| Vec::new()).collect();
        for row in self.rows {
            let owner = usize::from(owner_of(row.1.address));
            if let Some(rows) = by_shard.get_mut(owner) {
                rows.push(row);
            }
        }
        by_shard.into_iter().map(|rows| with_spans(slices_of(rows, self.terms), self.terms)).collect()
    }
}

/// Divides the span of a comparison among its slices; a shard without rows has one that says so.
fn with_spans(mut slices: Vec<CopySlice>, terms: Terms) -> Vec<CopySlice> {
    let Terms::Comparison(span) = terms else { return slices };
    if slices.is_empty() {
        slices.push(CopySlice { rows: Vec::new(), terms });
    }
    let (mut after, count) = (span.after, slices.len());
    for (number, slice) in slices.iter_mut().enumerate() {
        let last = slice.rows.last().map(|(_, lease)| lease.address);
        let upto = if number + 1 == count { span.upto } else { last };
        slice.terms = Terms::Comparison(Span { after, upto, ..span });
        after = upto;
    }
    slices
}

fn slices_of(mut rows: Vec<(UpdateKind, Lease)>, terms: Terms) -> Vec<CopySlice> {
    // A page ascends already, and then this is one look at it.
    rows.sort_by_key(|(_, lease)| lease.address);
    if !rows.is_sorted_by(|(_, one), (_, next)| one.address < next.address) {
        rows.reverse();
        rows.dedup_by_key(|(_, lease)| lease.address);
        rows.reverse();
    }
    let mut rows = rows.into_iter();
    let slices = std::iter::from_fn(|| {
        let rows: Vec<_> = rows.by_ref().take(SYNC_CHUNK_LEASES).collect();
        (!rows.is_empty()).then_some(CopySlice { rows, terms })
    });
    slices.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::test_support::lease;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let mark = Mark(vec![0, 1, u64::MAX]);
        for request in [
            CopyRequest::Start { limit: 7 },
            CopyRequest::Page { after: Ipv4Addr::new(10, 0, 0, 1), mark: mark.clone(), limit: COPY_LEASES },
            CopyRequest::Changes { since: mark },
            CopyRequest::Changes { since: Mark::default() },
        ] {
            let envelope = Envelope::parse(&request.write()).expect("a command");
            assert_eq!(envelope.command, COMMAND);
            assert_eq!(CopyRequest::parse(&envelope), Ok(request));
        }
        let greedy = CopyRequest::Start { limit: usize::MAX >> 1 };
        let envelope = Envelope::parse(&greedy.write()).expect("a command");
        assert_eq!(CopyRequest::parse(&envelope), Ok(CopyRequest::Start { limit: COPY_LEASES }));
    }

    #[test]
    fn a_request_that_is_wrong_is_refused() {
        let long = "0".repeat(MARK_DIGITS_MAX + 16);
        for arguments in [
            "null",
            "{}",
            r#"{"from":"start"}"#,
            r#"{"from":"start","limit":0}"#,
            r#"{"from":"start","limit":-1}"#,
            r#"{"from":"10.0.0","limit":1,"mark":""}"#,
            r#"{"from":"10.0.0.1","limit":1}"#,
            r#"{"changes-since":7}"#,
            r#"{"changes-since":"123"}"#,
            r#"{"changes-since":"000000000000000g"}"#,
            r#"{"changes-since":"00000000000000\u00e9"}"#,
            &format!(r#"{{"changes-since":"{long}"}}"#),
        ] {
            let body = format!(r#"{{"command":"{COMMAND}","arguments":{arguments}}}"#);
            let refused = CopyRequest::parse(&Envelope::parse(body.as_bytes()).expect("a command"));
            assert_eq!(refused.expect_err(arguments).result, 1);
        }
    }

    #[test]
    fn a_page_is_read_as_it_was_written_or_not_at_all() {
        for head in [
            CopyHead { more: true, upto: Some(Ipv4Addr::new(10, 0, 0, 9)), mark: Mark(vec![3, 1 << 60]) },
            CopyHead::default(),
        ] {
            let rows = vec![(UpdateKind::Delete, lease(1)), (UpdateKind::Update, lease(2))];
            let mut body = Vec::new();
            head.write(&mut body);
            let head_octets = body.len();
            rows.iter().for_each(|(kind, lease)| lease_rows::write(*kind, lease, &mut body));
            assert_eq!(CopyPage::parse(&body), Ok(CopyPage { head, rows }));
            for len in 0..body.len() {
                let cut = CopyPage::parse(&body[..len]);
                assert!(cut.is_err() || cut.is_ok_and(|page| len >= head_octets && page.rows.len() < 2));
            }
            body[0] = VERSION + 1;
            assert_eq!(CopyPage::parse(&body), Err(CopyError::Version));
        }
        let refused = Reply::error("the copy has to begin anew").to_http_body();
        assert!(matches!(CopyPage::parse(&refused), Err(CopyError::Refused(ReplyError::Result { .. }))));
        let kind = CopyPage::parse(&Reply::success("what?").to_http_body());
        assert_eq!(kind, Err(CopyError::Version));
    }

    #[test]
    fn every_row_goes_to_its_owner_once_and_in_order() {
        let count = SYNC_CHUNK_LEASES as u32 * 3;
        let mut rows: Vec<_> = (0..count).map(|number| (UpdateKind::Update, lease(number))).collect();
        let later = Lease { cltt: 7, ..lease(5) };
        rows.push((UpdateKind::Delete, later.clone()));
        let copied = CopyRows { rows, terms: Terms::Joining };
        let slices = copied.into_slices(2, |address| (address.octets()[3] & 1) ^ 1);
        assert_eq!(slices.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        for (shard, slices) in slices.iter().enumerate() {
            let addresses: Vec<Ipv4Addr> =
                slices.iter().flat_map(|slice| slice.rows.iter().map(|(_, lease)| lease.address)).collect();
            assert!(addresses.is_sorted_by(|one, next| one < next));
            assert_eq!(addresses.len(), count as usize / 2);
            assert!(
                slices
                    .iter()
                    .all(|slice| slice.terms == Terms::Joining && slice.rows.len() <= SYNC_CHUNK_LEASES)
            );
            assert!(addresses.iter().all(|address| usize::from(address.octets()[3] & 1) == shard ^ 1));
        }
        assert!(slices[0][0].rows.contains(&(UpdateKind::Delete, later)));
    }

    #[test]
    fn the_slices_of_a_comparison_cover_its_span_at_every_shard() {
        let address = |number| lease(number).address;
        let span = Span { relationship: 1, after: Some(address(0)), upto: None };
        let rows =
            (1..=SYNC_CHUNK_LEASES as u32 + 1).map(|number| (UpdateKind::Update, lease(number))).collect();
        let compared = CopyRows { rows, terms: Terms::Comparison(span) };
        let slices = compared.into_slices(2, |_| 0);
        let spans: Vec<Vec<(Option<Ipv4Addr>, Option<Ipv4Addr>)>> = slices
            .iter()
            .map(|slices| {
                let span = |slice: &CopySlice| match slice.terms {
                    Terms::Comparison(part) => {
                        assert_eq!(part.relationship, 1);
                        (part.after, part.upto)
                    }
                    terms => panic!("{terms:?}"),
                };
                slices.iter().map(span).collect()
            })
            .collect();
        let middle = Some(address(SYNC_CHUNK_LEASES as u32));
        assert_eq!(spans, [vec![(span.after, middle), (middle, None)], vec![(span.after, None)]]);
        let rest = slices[0][1].beyond(address(SYNC_CHUNK_LEASES as u32 + 1)).expect("a comparison's");
        assert!(rest.rows.is_empty());
    }
}
