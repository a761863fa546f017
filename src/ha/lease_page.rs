//! The answer to `lease4-get-page`, read lease by lease (ha-protocol 3.4, 6.3).
//!
//! A page is the largest body there is, and a copy reads a hundred of them, so no tree of values is made of it
//! ([`super::lease_fields`]). What is wrong with an answer that is no page is said by [`Reply`].

use std::fmt;
use std::net::Ipv4Addr;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use shards::Lease;

use super::command::{Reply, ReplyError, result};
use super::json;
use super::lease_fields::{Element, Field, Members, Problem, malformed};
use super::lease_json::require_identity;
use super::lease_rows::CLTT_MAX;

/// Longest answer that is no page and is looked at again for what is wrong with it, octets.
const REFUSAL_OCTETS_MAX: usize = 64 * 1024;

/// One page of a synchronisation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Leases that could be read, in order.
    pub leases: Vec<Lease>,
    /// How many the partner sent, malformed ones included: what `sync-page-limit` is compared with.
    pub received: usize,
    /// Why the others were skipped, at most [`Page::SKIPPED_MAX`] of them.
    pub skipped: Vec<String>,
    /// Greatest address on the page, of malformed leases too: where the next one starts.
    pub last: Option<Ipv4Addr>,
}

impl Page {
    /// Reasons kept per page; the count of skipped leases is `received - leases.len()`.
    pub const SKIPPED_MAX: usize = 16;

    /// Reads the answer to `lease4-get-page`; a lease that is malformed is skipped (ha-protocol 6.3).
    ///
    /// # Errors
    /// The answer is none, a refusal, or has no list of leases.
    pub fn parse(body: &[u8]) -> Result<Self, ReplyError> {
        let latin1;
        let text = match str::from_utf8(body) {
            Ok(text) if text.is_ascii() => text,
            _ => {
                latin1 = json::text_of(body);
                &latin1
            }
        };
        let mut input = serde_json::Deserializer::from_str(text);
        let answer = Answer::deserialize(&mut input).and_then(|answer| input.end().map(|()| answer));
        match answer {
            Ok(Answer { leases: Some(page), result: result::SUCCESS | result::EMPTY }) => Ok(page),
            Err(error) if body.len() > REFUSAL_OCTETS_MAX => Err(ReplyError::Malformed(error.to_string())),
            Ok(_) | Err(_) => Err(refusal(body)),
        }
    }

    fn take(&mut self, element: Option<&Members<'_>>) {
        self.received += 1;
        let read = match element {
            Some(members) => {
                self.last = self.last.max(members.address().ok());
                read_listed(members)
            }
            None => Err(malformed("lease is not a map".into())),
        };
        match read {
            Ok(lease) => self.leases.push(lease),
            Err(Problem::Conflict(text) | Problem::Malformed(text)) => {
                if self.skipped.len() < Self::SKIPPED_MAX {
                    self.skipped.push(text);
                }
            }
        }
    }
}

/// What is wrong with an answer that is no page.
fn refusal(body: &[u8]) -> ReplyError {
    let no_leases = || ReplyError::Malformed("no 'leases' in the answer to lease4-get-page".into());
    Reply::parse_success(body).err().unwrap_or_else(no_leases)
}

/// A lease of the listing dialect; its subnet is not checked (ha-protocol 3.0).
fn read_listed(members: &Members<'_>) -> Result<Lease, Problem> {
    let missing = |field: Field| malformed(format!("parameter '{}' is missing", field.name()));
    let number = |field, least, most| members.integer(field, least..=most);
    let u32_max = u64::from(u32::MAX);
    let must = |field, value: Option<u64>| value.ok_or_else(|| missing(field));
    let truth = |field| members.boolean(field)?.ok_or_else(|| missing(field));
    let lease = Lease {
        address: members.address()?,
        subnet_id: must(Field::SubnetId, number(Field::SubnetId, 1, u32_max)?)? as u32,
        pool_id: number(Field::PoolId, 1, u32_max)?.unwrap_or(0) as u32,
        hwaddr: members.hwaddr()?,
        client_id: members.client_id()?,
        valid_lifetime: must(Field::ValidLft, number(Field::ValidLft, 0, u32_max)?)? as u32,
        // Nothing later may overflow when a lifetime is added.
        cltt: must(Field::Cltt, number(Field::Cltt, 1, i64::MAX as u64)?)?.min(CLTT_MAX),
        state: members.state()?.ok_or_else(|| missing(Field::State))?,
        fqdn_fwd: truth(Field::FqdnFwd)?,
        fqdn_rev: truth(Field::FqdnRev)?,
        hostname: members.hostname()?.ok_or_else(|| missing(Field::Hostname))?,
        user_context: members.user_context()?,
    };
    require_identity(&lease)?;
    Ok(lease)
}

/// An answer in the shape of a page: a list whose first element is a map; what else is in either is passed over.
struct Answer {
    leases: Option<Page>,
    result: i64,
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Shape)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of one answer")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Answer, A::Error> {
        let first: Option<First> = items.next_element()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        let First { arguments, result } = first.unwrap_or(First { arguments: None, result: result::ERROR });
        Ok(Answer { leases: arguments.and_then(|arguments| arguments.leases), result })
    }
}

#[derive(serde::Deserialize)]
struct First {
    arguments: Option<Arguments>,
    result: i64,
}

#[derive(serde::Deserialize)]
struct Arguments {
    leases: Option<Page>,
}

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List)
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of leases")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Page, A::Error> {
        let mut page = Page::default();
        while let Some(Element(members)) = items.next_element()? {
            page.take(members.as_ref());
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{ "cltt": 5, "fqdn-fwd": false, "fqdn-rev": true, "hostname": "h", "hw-address": "02:00:00:00:00:06", "ip-address": "10.0.0.1", "state": 0, "subnet-id": 99, "valid-lft": 600 }"#;

    fn page(leases: &str) -> Result<Page, ReplyError> {
        Page::parse(format!(r#"[ {{ "result": 0, "arguments": {{ "leases": [ {leases} ] }} }} ]"#).as_bytes())
    }

    #[test]
    fn whatever_a_member_holds_only_its_lease_is_skipped() {
        for (from, to, taken) in [
            ("", "", true),
            (r#""cltt": 5"#, r#""cltt": 1, "cltt": 5"#, true),
            (r#""hostname": "h""#, r#""hostname": "\u00c3\u00a9", "later": { "a": [ 1, null ] }"#, true),
            (r#""hostname": "h""#, r#""hostname": "h", "user-context": { "a": "\u00e9" }"#, true),
            (r#""hostname": "h""#, r#""hostname": "h", "comment": "by hand""#, true),
            (r#""hostname": "h""#, r#""hostname": "\u0100""#, false),
            (r#""hostname": "h""#, r#""hostname": "h", "user-context": { "a": "\u0100" }"#, false),
            (r#""hostname": "h""#, r#""hostname": "h", "user-context": [ ]"#, false),
            (r#""hostname": "h""#, r#""hostname": null"#, false),
            (r#""cltt": 5"#, r#""cltt": 5.0"#, false),
            (r#""cltt": 5"#, r#""cltt": [ 5 ]"#, false),
            (r#""cltt": 5"#, r#""cltt": { "s": 5 }"#, false),
            (r#""cltt": 5"#, r#""cltt": 18446744073709551615"#, false),
            (r#""state": 0"#, r#""state": -1"#, false),
            (r#""fqdn-fwd": false"#, r#""fqdn-fwd": "false""#, false),
            ("02:00:00:00:00:06", "02:00:00:00:00:006", false),
            ("02:00:00:00:00:06", "02:00:00:00:00:0g", false),
            ("02:00:00:00:00:06", &["00"; 21].join(":"), false),
        ] {
            let lease = GOOD.replace(from, to);
            let read = page(&format!("{lease}, {GOOD}")).expect(to);
            assert_eq!((read.received, read.leases.len()), (2, 1 + usize::from(taken)), "{to}");
            assert_eq!(read.skipped.len(), usize::from(!taken), "{to}");
        }
        for element in ["7", "-7", "0.5", "true", "null", r#""text""#, "[ 1, [ ] ]"] {
            let read = page(&format!("{element}, {GOOD}")).expect(element);
            assert_eq!((read.received, read.leases.len()), (2, 1), "{element}");
            assert_eq!(read.skipped, ["lease is not a map"], "{element}");
        }
    }

    #[test]
    fn an_answer_that_is_no_page_says_why() {
        for (body, why) in [
            (r#"{ "result": 0, "text": "an object" }"#, "an object"),
            (r#"[ { "result": 1, "text": "no" } ]"#, "no, error code 1"),
            (r#"[ { "result": 1, "text": "no", "arguments": { "leases": [ ] } } ]"#, "no, error code 1"),
            ("[ ]", "response without an integer result"),
            (r#"[ { "result": "0" } ]"#, "response without an integer result"),
            (r#"[ { "result": 0, "arguments": { "leases": { } } } ]"#, "no 'leases'"),
            (r#"[ { "result": 0, "arguments": [ ] } ]"#, "no 'leases'"),
            (r#"[ { "result": 0, "arguments": { "leases": [ ] } }"#, "malformed response"),
            (r#"[ { "result": 0, "arguments": { "leases": [ ] } } ] x"#, "malformed response"),
        ] {
            let error = Page::parse(body.as_bytes()).expect_err(body).to_string();
            assert!(error.contains(why), "{body}: {error}");
        }
        let long = format!(r#"[ {{ "result": 0, "arguments": {{ "leases": [ {GOOD}{}"#, " ".repeat(100_000));
        assert!(matches!(Page::parse(long.as_bytes()), Err(ReplyError::Malformed(_))));
        let others = r#"[ { "result": 3, "arguments": { "count": 0, "leases": [ ], "x": 1 } }, 7 ]"#;
        assert_eq!(Page::parse(others.as_bytes()), Ok(Page::default()));
        let raw = GOOD.replace(r#""h""#, r#""~""#);
        let raw = format!(r#"[ {{ "result": 0, "arguments": {{ "leases": [ {raw} ] }} }} ]"#);
        let raw: Vec<u8> = raw.bytes().map(|octet| if octet == b'~' { 0xe9 } else { octet }).collect();
        let read = Page::parse(&raw).expect("bytes as they are");
        assert_eq!(read.leases[0].hostname.as_slice(), [0xe9]);
    }
}
