//! Many lease updates in one request: an extension of the protocol between two Tandem servers.
//!
//! A server names in its answer to `ha-heartbeat` how many updates it takes at a time ([`ANNOUNCEMENT`]); Kea
//! ignores the member and never gets such a request. Its body is a line and [rows](super::lease_rows); a row means what
//! `lease4-update` with `force-create`, or `lease4-del`, of its lease means, in the order of the rows. The answer is
//! JSON and lists a result code for each row in the same order. Nothing is answered before every one of them is
//! durable, so one sync of the receiver serves them all.
//!
//! To a server that reads stamps ([`super::fence`]) every request is one of these, one update included, and bears a
//! stamp behind its line.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::command::{Reply, ReplyError, outcome_of_result, result};
use super::fence::Stamp;
use super::lease_json::{SubnetDirectory, check_placed, write_update_request};
use super::lease_rows;
use super::log::Described;
use crate::engine::message::{ShardCommandBody, ShardReplyBody, UpdateKind, UpdateOutcome};
use crate::limits::{HA_BATCH_OCTETS_MAX, HA_BATCH_UPDATES_MAX, HTTP_REQUEST_BODY_OCTETS_MAX};
use shards::Lease;

/// Member of the answer to `ha-heartbeat`: the most updates in one request.
pub const ANNOUNCEMENT: &str = "tandem-batch-max";

/// Why updates of a partner that has yet to copy are refused.
pub fn given_alone(ours: &Lease) -> String {
    format!(
        "this server has given {} to another client while it served alone: {}",
        ours.address,
        Described(ours)
    )
}

/// The answer to a change of a lease that is of another relationship than the server that asks for it. It counts as a
/// conflict of configurations, so that the partner stays available (ha-protocol 5.4).
pub fn foreign(address: Ipv4Addr) -> Reply {
    let text = format!("the lease of {address} cannot be changed: its subnet is of another relationship");
    Reply::new(result::CONFLICT, text)
}

/// Why an update is refused that comes behind a later one, or behind a take-over.
pub const LATE: &str = "the request comes too late";

/// The first line of a batch. No JSON begins with it.
const HEAD: &[u8] = b"tandem-lease4-batch\n";

/// The first line of a batch with a stamp behind it.
const STAMPED_HEAD: &[u8] = b"tandem-lease4-stamped-batch\n";

// The largest rows without their contexts fit a request, with as many contexts as one may carry.
const _: () = assert!(
    STAMPED_HEAD.len()
        + 32
        + HA_BATCH_UPDATES_MAX as usize * lease_rows::FIXED_OCTETS_MAX
        + HA_BATCH_OCTETS_MAX
        <= HTTP_REQUEST_BODY_OCTETS_MAX
);

/// How many of `leases`, of the updates that are next, go in one request: `most`, or fewer where their contexts are large.
/// One always does.
pub fn fitting<'a>(leases: impl Iterator<Item = &'a Lease>, most: usize) -> usize {
    let mut octets = 0;
    let fits = |(place, lease): &(usize, &Lease)| {
        octets += lease.user_context.as_ref().map_or(0, |context| context.len());
        *place == 0 || octets <= HA_BATCH_OCTETS_MAX
    };
    leases.take(most.max(1)).enumerate().take_while(fits).count()
}

/// Writes the body of a request. Without a stamp one update is as Kea knows it; several, and any with a stamp, are a
/// batch.
pub fn write_request<'a>(
    updates: impl ExactSizeIterator<Item = (UpdateKind, &'a Lease)>,
    stamp: Option<Stamp>,
    output: &mut Vec<u8>,
) {
    let is_batch = stamp.is_some() || updates.len() != 1;
    if let Some(stamp) = stamp {
        output.extend_from_slice(STAMPED_HEAD);
        stamp.write(output);
    } else if is_batch {
        output.extend_from_slice(HEAD);
    }
    for (kind, lease) in updates {
        match is_batch {
            true => lease_rows::write(kind, lease, output),
            false => write_update_request(kind, lease, output),
        }
    }
}

/// Whether `body` is a batch and no JSON.
pub fn is_batch(body: &[u8]) -> bool {
    body.starts_with(HEAD) || body.starts_with(STAMPED_HEAD)
}

/// The stamp of a batch, if it has one, and its rows.
pub fn stamp_and_rows(body: &[u8]) -> Option<(Option<Stamp>, &[u8])> {
    if let Some(rows) = body.strip_prefix(HEAD) {
        return Some((None, rows));
    }
    let mut rest = body.strip_prefix(STAMPED_HEAD)?;
    let stamp = Stamp::read(&mut rest)?;
    Some((Some(stamp), rest))
}

/// A batch that was received: which shard has which part of it, and what came of each update.
#[derive(Debug)]
pub struct Received {
    /// Result codes, in the order of the updates.
    results: Vec<i64>,
    /// What is wrong with the first that failed.
    text: Option<String>,
    /// For each shard the updates that it has, by place and address; empty once it has answered.
    places: Vec<Vec<(usize, Ipv4Addr)>>,
}

impl Received {
    /// Reads a batch that came to the listener of `relationship` and deals its updates to the owners of their addresses,
    /// as many as there are `shards`; also what to ask of which shard.
    ///
    /// # Errors
    /// The answer to give; then nothing was read, and nothing may be carried out.
    pub fn read(
        body: &[u8],
        relationship: u8,
        shards: u8,
        owner_of: impl Fn(Ipv4Addr) -> u8,
        subnets: &dyn SubnetDirectory,
    ) -> Result<(Self, Vec<(u8, ShardCommandBody)>), Reply> {
        let (stamp, mut rows) = stamp_and_rows(body).ok_or_else(|| Reply::error("not a batch"))?;
        let mut received = Self { results: Vec::new(), text: None, places: vec![Vec::new(); shards.into()] };
        let mut parts: Vec<Vec<(UpdateKind, Lease)>> = (0..shards).map(|_| Vec::new()).collect();
        while let Some((kind, lease)) =
            lease_rows::read(&mut rows).map_err(|error| Reply::error(error.to_string()))?
        {
            let place = received.results.len();
            if place == usize::from(HA_BATCH_UPDATES_MAX) {
                return Err(Reply::error(format!("more than {HA_BATCH_UPDATES_MAX} updates at a time")));
            }
            let checked = if kind == UpdateKind::Update { check_placed(&lease, subnets) } else { Ok(()) };
            received.results.push(result::SUCCESS);
            match checked {
                Ok(()) => {
                    let owner = usize::from(owner_of(lease.address));
                    received.places[owner].push((place, lease.address));
                    parts[owner].push((kind, lease));
                }
                Err(reply) => received.fail(place, reply),
            }
        }
        let asked = (0..shards).zip(parts).filter(|(_, part)| !part.is_empty());
        let command = |updates| ShardCommandBody::PartnerBatch { relationship, stamp, updates };
        let asked = asked.map(|(shard, part)| (shard, command(part))).collect();
        Ok((received, asked))
    }

    /// What `shard` says of its part; `None` if it has not answered in time.
    pub fn handle_reply(&mut self, shard: u8, answer: Option<&ShardReplyBody>) {
        let places = std::mem::take(&mut self.places[usize::from(shard)]);
        let text = match answer {
            Some(ShardReplyBody::Applied(_)) => return,
            Some(ShardReplyBody::AppliedBut { foreign: addresses, given_alone: leases }) => {
                for (place, address) in places {
                    if addresses.contains(&address) {
                        self.fail(place, foreign(address));
                    } else if let Some(ours) = leases.iter().find(|ours| ours.address == address) {
                        self.fail(place, Reply::error(given_alone(ours)));
                    }
                }
                return;
            }
            Some(ShardReplyBody::Late) => LATE.to_owned(),
            Some(_) => "the leases cannot be changed: the lease file takes nothing".to_owned(),
            None => "the leases were not changed in time".to_owned(),
        };
        for (place, _) in places {
            self.fail(place, Reply::error(text.as_str()));
        }
    }

    /// Whether every shard has answered.
    pub fn is_complete(&self) -> bool {
        self.places.iter().all(Vec::is_empty)
    }

    fn fail(&mut self, place: usize, reply: Reply) {
        self.results[place] = reply.result;
        if self.text.is_none() {
            self.text = reply.text;
        }
    }

    /// The answer.
    pub fn finish(self) -> Reply {
        Reply::success(self.text.unwrap_or_default()).with_arguments(json!({ "results": self.results }))
    }
}

/// What the answer to a request of `count` updates says of each, in order, and its text.
///
/// # Errors
/// Nothing is known of any of them.
pub fn outcomes(body: &[u8], count: usize) -> Result<(Vec<UpdateOutcome>, Option<String>), ReplyError> {
    let reply = Reply::parse_success(body)?;
    let results = reply.arguments.as_ref().and_then(|arguments| arguments.get("results"));
    let results = results.and_then(Value::as_array).filter(|results| results.len() == count);
    let results = results.ok_or(ReplyError::NoResult)?;
    let outcomes = results
        .iter()
        .map(|result| result.as_i64().map(outcome_of_result).ok_or(ReplyError::NoResult))
        .collect::<Result<_, _>>()?;
    Ok((outcomes, reply.text))
}

#[cfg(test)]
mod tests {
    use shards::SmallBytes;

    use super::*;
    use crate::engine::message::Applied;
    use crate::ha::fence::Fence;
    use crate::ha::json;
    use crate::ha::test_support;

    /// A subnet of the first hundred addresses.
    struct Subnets;

    impl SubnetDirectory for Subnets {
        fn subnet(&self, id: u32, address: Ipv4Addr) -> Option<(u32, bool)> {
            (id == 1).then_some((600, address.octets()[3] < 100))
        }

        fn subnet_of(&self, _address: Ipv4Addr) -> Option<u32> {
            None
        }

        fn prefix(&self, _: u32) -> String {
            "0.0.0.0/0".into()
        }
    }

    /// Its name is no UTF-8 in ASCII.
    fn lease(number: u32) -> Lease {
        Lease { hostname: SmallBytes::new(b"h\xc3\xa9"), ..test_support::lease(number) }
    }

    fn request(updates: &[(UpdateKind, Lease)]) -> Vec<u8> {
        let mut body = Vec::new();
        write_request(updates.iter().map(|(kind, lease)| (*kind, lease)), None, &mut body);
        body
    }

    fn read(body: &[u8]) -> Result<(Received, Vec<(u8, ShardCommandBody)>), Reply> {
        Received::read(body, 1, 2, |address| address.octets()[3] % 2, &Subnets)
    }

    /// What two updates of a good batch and one of a bad lease come to, by the answers of the shards.
    fn results(answers: [Option<ShardReplyBody>; 2]) -> (Vec<UpdateOutcome>, Option<String>) {
        let body = request(&[
            (UpdateKind::Update, lease(1)),
            (UpdateKind::Update, lease(101)),
            (UpdateKind::Delete, lease(2)),
        ]);
        let (mut received, _) = read(&body).expect("a batch");
        for (shard, answer) in (0..).zip(&answers) {
            assert!(!received.is_complete());
            received.handle_reply(shard, answer.as_ref());
        }
        assert!(received.is_complete());
        outcomes(&received.finish().to_http_body(), 3).expect("an answer")
    }

    #[test]
    fn one_update_is_the_request_that_kea_expects() {
        let mut alone = Vec::new();
        write_update_request(UpdateKind::Update, &lease(1), &mut alone);
        assert_eq!(request(&[(UpdateKind::Update, lease(1))]), alone);
        assert!(!is_batch(&alone));
    }

    #[test]
    fn each_shard_gets_its_own_updates_in_their_order() {
        use UpdateKind::{Delete, Update};
        let updates = [(Update, lease(1)), (Update, lease(2)), (Delete, lease(3)), (Delete, lease(101))];
        let body = request(&updates);
        assert!(is_batch(&body));
        let [first, second, third, fourth] = updates;
        let (_, asked) = read(&body).expect("a batch");
        let [(0, ShardCommandBody::PartnerBatch { relationship: 1, updates: even, stamp: None }), (1, odd)] =
            &asked[..]
        else {
            panic!("{asked:?}");
        };
        let ShardCommandBody::PartnerBatch { updates: odd, stamp: None, .. } = odd else { panic!("{odd:?}") };
        assert_eq!(even, &[second]);
        assert_eq!(odd, &[first, third, fourth], "a deletion is not asked where it belongs");
    }

    #[test]
    fn a_stamp_goes_to_every_shard_with_its_part() {
        let stamp = Stamp { fence: Fence { life: 3, generation: 2 }, stream: 1, number: 7 };
        for count in 1..=2 {
            let leases: Vec<Lease> = (1..=count).map(lease).collect();
            let mut body = Vec::new();
            write_request(leases.iter().map(|lease| (UpdateKind::Update, lease)), Some(stamp), &mut body);
            assert!(is_batch(&body));
            let (mut received, asked) = read(&body).expect("a batch");
            assert_eq!(asked.len(), leases.len());
            for (shard, part) in asked {
                let ShardCommandBody::PartnerBatch { stamp: got, .. } = part else { panic!("{part:?}") };
                assert_eq!(got, Some(stamp));
                received.handle_reply(shard, Some(&ShardReplyBody::Late));
            }
            let (results, text) = outcomes(&received.finish().to_http_body(), leases.len()).unwrap();
            assert_eq!((results, text.as_deref()), (vec![UpdateOutcome::Refused; leases.len()], Some(LATE)));
            assert!(read(&body[..STAMPED_HEAD.len() + 24]).is_err(), "the stamp is cut short");
        }
    }

    #[test]
    fn a_batch_that_is_wrong_anywhere_is_refused_as_a_whole() {
        let mut cut = request(&[(UpdateKind::Update, lease(1)), (UpdateKind::Update, lease(2))]);
        cut.pop();
        let many = vec![(UpdateKind::Update, lease(1)); usize::from(HA_BATCH_UPDATES_MAX) + 1];
        for body in [cut, request(&many), b"{}".to_vec()] {
            assert_eq!(read(&body).expect_err("refused").result, 1);
        }
    }

    #[test]
    fn what_a_shard_could_not_do_has_failed_and_nothing_else() {
        use UpdateOutcome::{Acked, Conflict, Refused};
        let done = || Some(ShardReplyBody::Applied(Applied::default()));
        let (all, text) = results([done(), done()]);
        assert_eq!(all, [Acked, Conflict, Acked]);
        assert!(text.is_some_and(|text| text.contains("does not belong")));
        assert_eq!(results([None, done()]).0, [Acked, Conflict, Refused]);
        assert_eq!(results([done(), Some(ShardReplyBody::Busy)]).0, [Refused, Conflict, Acked]);
        let but = |foreign, given_alone| Some(ShardReplyBody::AppliedBut { foreign, given_alone });
        let (all, text) = results([but(vec![lease(2).address], Vec::new()), done()]);
        assert_eq!(all, [Acked, Conflict, Conflict], "of another relationship");
        assert!(text.is_some_and(|text| text.contains("does not belong")), "the first that is wrong");
        let (all, text) = results([done(), but(Vec::new(), vec![lease(1)])]);
        assert_eq!(all, [Refused, Conflict, Acked], "given alone");
        assert!(text.is_some_and(|text| text.contains("does not belong")), "the first that is wrong");
        let body = request(&[(UpdateKind::Update, lease(1)), (UpdateKind::Update, lease(3))]);
        let (mut received, _) = read(&body).expect("a batch");
        received.handle_reply(1, but(Vec::new(), vec![lease(3)]).as_ref());
        let (all, text) = outcomes(&received.finish().to_http_body(), 2).expect("an answer");
        assert_eq!(
            (all, text),
            (vec![Acked, Refused], Some(given_alone(&lease(3)))),
            "the other is carried out"
        );
    }

    #[test]
    fn an_answer_says_of_each_update_how_it_ended_or_nothing_of_any() {
        use UpdateOutcome::{Acked, Conflict, Refused};
        let arguments = json!({ "results": [0, 3, 4, 1] });
        let body =
            json::to_vec(&Value::Array(vec![Reply::success("t").with_arguments(arguments).to_value()]));
        let read = outcomes(&body, 4).unwrap();
        assert_eq!(read, (vec![Acked, Acked, Conflict, Refused], Some("t".to_owned())));
        assert!(outcomes(&body, 3).is_err());
        for body in [
            r#"[{"result":2,"text":"unknown"}]"#,
            r#"[{"result":0}]"#,
            r#"[{"result":0,"arguments":{"results":["0"]}}]"#,
            r#"{"result":0,"arguments":{"results":[0]}}"#,
            "",
        ] {
            assert!(outcomes(body.as_bytes(), 1).is_err(), "{body}");
        }
    }
}
