//! A fingerprint of the configuration, told between two Tandem servers in heartbeats, so that a difference is found
//! and named before it costs a client its address (an extension of the protocol; Kea ignores it).
//!
//! Subnets, pools and options are hashed separately, over all and for each subnet. Every answer to `ha-heartbeat`
//! carries the three sums ([`MEMBER`]). A server that knows its partner to be a Tandem puts its own into the request,
//! and where they differ the answer lists the subnets as well ([`SUBNETS_MEMBER`]), so that the asker can say which.
//! The hashing is done where the configuration is compiled; here are only numbers.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

/// Member of request and answer: three hexadecimal numbers.
pub const MEMBER: &str = "tandem-fingerprint";
/// Member of the answer to a request whose fingerprint differs: `[id, subnet, pools, options]` of each subnet.
pub const SUBNETS_MEMBER: &str = "tandem-fingerprint-subnets";
/// Most subnets listed; with more of them only the kind of difference is named.
pub const SUBNETS_LISTED_MAX: usize = 512;
/// Most subnets named in a difference.
const NAMED_MAX: usize = 8;

/// Sums of one part of the configuration.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sums {
    /// Prefixes, lifetimes, relays: what a subnet is.
    pub subnets: u64,
    /// Pools and reservations: who may get what.
    pub pools: u64,
    /// Options and boot fields: what clients are told.
    pub options: u64,
}

/// A fingerprint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fingerprint {
    /// Over everything.
    pub all: Sums,
    /// Of each subnet by its id.
    pub by_subnet: BTreeMap<u32, Sums>,
}

/// In what two configurations differ.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Difference {
    /// Subnets themselves.
    pub subnets: bool,
    /// Pools or reservations.
    pub pools: bool,
    /// Options.
    pub options: bool,
    /// Ids of the subnets concerned, ascending; empty where it is not known, or global options alone differ.
    pub subnet_ids: Vec<u32>,
}

impl Sums {
    fn to_value(self) -> Value {
        let text = |sum: u64| format!("{sum:016x}");
        json!({ "options": text(self.options), "pools": text(self.pools), "subnets": text(self.subnets) })
    }

    fn from_value(value: &Value) -> Option<Self> {
        let sum = |name: &str| u64::from_str_radix(value.get(name)?.as_str()?, 16).ok();
        Some(Self { subnets: sum("subnets")?, pools: sum("pools")?, options: sum("options")? })
    }
}

impl Fingerprint {
    /// The member of a request or an answer.
    pub fn to_value(&self) -> Value {
        self.all.to_value()
    }

    /// The list of subnets, unless there are too many of them.
    pub fn subnets_to_value(&self) -> Option<Value> {
        let text = |sum: u64| format!("{sum:016x}");
        let listed =
            |(id, sums): (&u32, &Sums)| json!([id, text(sums.subnets), text(sums.pools), text(sums.options)]);
        (self.by_subnet.len() <= SUBNETS_LISTED_MAX).then(|| self.by_subnet.iter().map(listed).collect())
    }

    /// Reads the members of `arguments`; `None` where there is no fingerprint or none that can be read.
    pub fn from_members(arguments: &Map<String, Value>) -> Option<Self> {
        let all = Sums::from_value(arguments.get(MEMBER)?)?;
        let listed = arguments.get(SUBNETS_MEMBER).and_then(Value::as_array);
        let by_subnet = listed.into_iter().flatten().take(SUBNETS_LISTED_MAX).filter_map(read_subnet);
        Some(Self { all, by_subnet: by_subnet.collect() })
    }

    /// In what `other` differs from this one; `None` if in nothing.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        if self.all == other.all {
            return None;
        }
        let mut difference = Difference {
            subnets: self.all.subnets != other.all.subnets,
            pools: self.all.pools != other.all.pools,
            options: self.all.options != other.all.options,
            subnet_ids: Vec::new(),
        };
        // Without the partner's list nothing can be said of single subnets.
        if !other.by_subnet.is_empty() {
            let ids = self.by_subnet.keys().chain(other.by_subnet.keys());
            difference.subnet_ids =
                ids.filter(|id| self.by_subnet.get(id) != other.by_subnet.get(id)).copied().collect();
            difference.subnet_ids.sort_unstable();
            difference.subnet_ids.dedup();
        }
        Some(difference)
    }
}

fn read_subnet(value: &Value) -> Option<(u32, Sums)> {
    let sum = |index: usize| u64::from_str_radix(value.get(index)?.as_str()?, 16).ok();
    let id = u32::try_from(value.get(0)?.as_u64()?).ok()?;
    Some((id, Sums { subnets: sum(1)?, pools: sum(2)?, options: sum(3)? }))
}

impl Difference {
    /// What differs, in the words of the configuration.
    pub fn kinds(&self) -> Vec<&'static str> {
        [("subnets", self.subnets), ("pools", self.pools), ("options", self.options)]
            .into_iter()
            .filter_map(|(name, differs)| differs.then_some(name))
            .collect()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kinds().join(", "))?;
        if self.subnet_ids.is_empty() {
            return Ok(());
        }
        let named: Vec<String> = self.subnet_ids.iter().take(NAMED_MAX).map(u32::to_string).collect();
        write!(f, " (of subnet {}", named.join(", "))?;
        match self.subnet_ids.len().saturating_sub(NAMED_MAX) {
            0 => f.write_str(")"),
            more => write!(f, " and {more} more)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(subnets: u64, pools: u64, options: u64) -> Sums {
        Sums { subnets, pools, options }
    }

    fn fingerprint(all: Sums, subnets: &[(u32, Sums)]) -> Fingerprint {
        Fingerprint { all, by_subnet: subnets.iter().copied().collect() }
    }

    fn read(arguments: &Value) -> Option<Fingerprint> {
        Fingerprint::from_members(arguments.as_object().unwrap())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mine = fingerprint(sums(u64::MAX, 0, 3), &[(1, sums(1, 2, 3)), (7, sums(4, 5, 6))]);
        let arguments = json!({ MEMBER: mine.to_value(), SUBNETS_MEMBER: mine.subnets_to_value() });
        assert_eq!(read(&arguments), Some(mine.clone()));
        let short = json!({ MEMBER: mine.to_value() });
        assert_eq!(read(&short), Some(fingerprint(mine.all, &[])));
    }

    #[test]
    fn what_cannot_be_read_is_no_fingerprint_and_no_difference_in_a_subnet() {
        for arguments in [
            json!({}),
            json!({ MEMBER: 7 }),
            json!({ MEMBER: { "subnets": "1", "pools": "2" } }),
            json!({ MEMBER: { "subnets": "1", "pools": "2", "options": "x" } }),
        ] {
            assert_eq!(read(&arguments), None, "{arguments}");
        }
        let odd = json!({
            MEMBER: { "subnets": "1", "pools": "2", "options": "3" },
            SUBNETS_MEMBER: [7, [], [1, "a", "b"], [-1, "a", "b", "c"], [2, "a", "b", "c"]]
        });
        let read = read(&odd).unwrap();
        assert_eq!(read, fingerprint(sums(1, 2, 3), &[(2, sums(10, 11, 12))]));
    }

    #[test]
    fn a_difference_is_named_by_kind_and_subnet() {
        let mine = fingerprint(sums(1, 2, 3), &[(1, sums(1, 1, 1)), (2, sums(2, 2, 2))]);
        for (label, other, text) in [
            ("equal", mine.clone(), None),
            ("options, no list", fingerprint(sums(1, 2, 9), &[]), Some("options")),
            (
                "a pool of one subnet",
                fingerprint(sums(1, 9, 3), &[(1, sums(1, 1, 1)), (2, sums(2, 9, 2))]),
                Some("pools (of subnet 2)"),
            ),
            (
                "a subnet too many and one too few",
                fingerprint(sums(9, 9, 9), &[(2, sums(2, 2, 2)), (3, sums(1, 1, 1))]),
                Some("subnets, pools, options (of subnet 1, 3)"),
            ),
        ] {
            let difference = mine.difference(&other).map(|difference| difference.to_string());
            assert_eq!(difference.as_deref(), text, "{label}");
        }
        let many = Difference { pools: true, subnet_ids: (1..=10).collect(), ..Difference::default() };
        assert_eq!(many.to_string(), "pools (of subnet 1, 2, 3, 4, 5, 6, 7, 8 and 2 more)");
    }

    #[test]
    fn a_list_that_is_too_long_is_left_out() {
        let many = Fingerprint {
            by_subnet: (0..600).map(|id| (id, Sums::default())).collect(),
            ..Fingerprint::default()
        };
        assert_eq!(many.subnets_to_value(), None);
    }
}
