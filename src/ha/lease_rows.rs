//! Leases in octets: what two Tandem servers send each other in bulk, where JSON would cost ten times as much.
//!
//! A row is a tag and a whole lease; numbers are big-endian, strings have their length before them. Rows follow one
//! another without anything between; whatever carries them says where they end. Reading checks everything that reading
//! a row of a lease file checks, so whatever a server has loaded its partner takes, and a row that was read can be
//! stored. Whether there is such a subnet is for whoever takes it as an update.

use std::net::Ipv4Addr;

use serde::de::IgnoredAny;
use shards::{Lease, LeaseState, SmallBytes};

use crate::engine::message::UpdateKind;

/// Media type of a body of rows.
pub const MEDIA_TYPE: &str = "application/vnd.tandem.leases";

/// Most octets of a row beside its user context.
pub const FIXED_OCTETS_MAX: usize = 25 + 3 * (1 + 255) + 4;

/// Longest hardware address, octets.
pub const HWADDR_OCTETS_MAX: usize = 20;
/// Lengths of a client identifier; one that is not there has none.
pub const CLIENT_ID_OCTETS: std::ops::RangeInclusive<usize> = 2..=255;
/// Greatest `cltt` that is kept: nothing later may overflow when a lifetime is added.
pub const CLTT_MAX: u64 = i64::MAX as u64 - u32::MAX as u64;

const STATE: u8 = 0b0000_0011;
const FQDN_FWD: u8 = 0b0000_0100;
const FQDN_REV: u8 = 0b0000_1000;
const USER_CONTEXT: u8 = 0b0001_0000;
const DELETE: u8 = 0b1000_0000;
const KNOWN: u8 = STATE | FQDN_FWD | FQDN_REV | USER_CONTEXT | DELETE;

/// Why octets are no row. What follows cannot be read either.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RowError {
    /// The lease belongs to nobody and is not declined.
    #[error("a lease has neither hardware address nor client id")]
    Identity,
    /// A number or a string is out of its range; the field's name.
    #[error("'{0}' of a lease is out of range")]
    Range(&'static str),
    /// The octets end within a row.
    #[error("a lease is cut short")]
    Short,
    /// A tag of a later version.
    #[error("a lease has an unknown tag")]
    Tag,
}

/// Whether a user context is the text of a JSON map. One of an edited lease file may be anything, and is shown to nobody:
/// what carries it must stay readable.
pub fn is_map(context: &[u8]) -> bool {
    context.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(context).is_ok()
}

/// Appends one row, without a context that is no JSON map.
pub fn write(kind: UpdateKind, lease: &Lease, output: &mut Vec<u8>) {
    let context = lease.user_context.as_deref().filter(|context| is_map(context));
    let mut tag = lease.state as u8;
    for (flag, set) in [
        (FQDN_FWD, lease.fqdn_fwd),
        (FQDN_REV, lease.fqdn_rev),
        (USER_CONTEXT, context.is_some()),
        (DELETE, kind == UpdateKind::Delete),
    ] {
        tag |= if set { flag } else { 0 };
    }
    let mut fixed = [0; 25];
    fixed[0] = tag;
    fixed[1..5].copy_from_slice(&lease.address.octets());
    fixed[5..9].copy_from_slice(&lease.subnet_id.to_be_bytes());
    fixed[9..13].copy_from_slice(&lease.pool_id.to_be_bytes());
    fixed[13..17].copy_from_slice(&lease.valid_lifetime.to_be_bytes());
    fixed[17..25].copy_from_slice(&lease.cltt.to_be_bytes());
    output.extend_from_slice(&fixed);
    for string in [&lease.hwaddr, &lease.client_id, &lease.hostname] {
        // None is longer than 255 octets: DHCP has no room for it.
        let string = &string[..string.len().min(255)];
        output.push(string.len() as u8);
        output.extend_from_slice(string);
    }
    if let Some(context) = context {
        output.extend_from_slice(&(context.len() as u32).to_be_bytes());
        output.extend_from_slice(context);
    }
}

/// Takes one row from the front of `input`; `None` at its end.
///
/// # Errors
/// [`RowError`]; `input` is of no use any more.
pub fn read(input: &mut &[u8]) -> Result<Option<(UpdateKind, Lease)>, RowError> {
    if input.is_empty() {
        return Ok(None);
    }
    let fixed: &[u8; 25] = take(input, 25)?.first_chunk().ok_or(RowError::Short)?;
    let tag = fixed[0];
    if tag & !KNOWN != 0 {
        return Err(RowError::Tag);
    }
    let number = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let cltt = u64::from(number(17)) << 32 | u64::from(number(21));
    let hwaddr = string(input)?;
    let client_id = string(input)?;
    let hostname = string(input)?;
    let user_context = if tag & USER_CONTEXT != 0 { Some(context(input)?) } else { None };
    let lease = Lease {
        address: Ipv4Addr::from(number(1)),
        subnet_id: number(5),
        pool_id: number(9),
        hwaddr: SmallBytes::new(hwaddr),
        client_id: SmallBytes::new(client_id),
        valid_lifetime: number(13),
        cltt: cltt.min(CLTT_MAX),
        state: state(tag),
        fqdn_fwd: tag & FQDN_FWD != 0,
        fqdn_rev: tag & FQDN_REV != 0,
        hostname: SmallBytes::new(hostname),
        user_context,
    };
    check(&lease)?;
    let kind = if tag & DELETE != 0 { UpdateKind::Delete } else { UpdateKind::Update };
    Ok(Some((kind, lease)))
}

fn state(tag: u8) -> LeaseState {
    match tag & STATE {
        0 => LeaseState::Default,
        1 => LeaseState::Declined,
        2 => LeaseState::ExpiredReclaimed,
        _ => LeaseState::Released,
    }
}

fn check(lease: &Lease) -> Result<(), RowError> {
    if lease.hwaddr.len() > HWADDR_OCTETS_MAX {
        return Err(RowError::Range("hw-address"));
    }
    if !lease.client_id.is_empty() && !CLIENT_ID_OCTETS.contains(&lease.client_id.len()) {
        return Err(RowError::Range("client-id"));
    }
    let nobody = lease.hwaddr.is_empty() && lease.client_id.is_empty();
    if nobody && lease.state != LeaseState::Declined {
        return Err(RowError::Identity);
    }
    Ok(())
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], RowError> {
    let (taken, rest) = input.split_at_checked(count).ok_or(RowError::Short)?;
    *input = rest;
    Ok(taken)
}

fn string<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], RowError> {
    let len = take(input, 1)?[0];
    take(input, usize::from(len))
}

/// A user context is the text of a JSON map: it goes into the lease file and into listings as it is.
fn context(input: &mut &[u8]) -> Result<Box<[u8]>, RowError> {
    let len = take(input, 4)?.iter().fold(0usize, |sum, octet| sum << 8 | usize::from(*octet));
    let text = take(input, len)?;
    if is_map(text) { Ok(text.into()) } else { Err(RowError::Range("user-context")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ha::test_support;

    /// All of it is filled.
    fn lease(number: u8) -> Lease {
        Lease {
            subnet_id: 7,
            pool_id: 3,
            client_id: SmallBytes::new(&[1, 2, 0, 0, 0, 0, number]),
            valid_lifetime: u32::MAX,
            fqdn_fwd: true,
            hostname: SmallBytes::new(b"h\xc3\xa9"),
            user_context: Some(br#"{ "ISC": { "a": "\u00e9" } }"#.as_slice().into()),
            ..test_support::lease(number.into())
        }
    }

    fn round(kind: UpdateKind, lease: &Lease) -> Result<Option<(UpdateKind, Lease)>, RowError> {
        let mut octets = Vec::new();
        write(kind, lease, &mut octets);
        let mut input = octets.as_slice();
        let read = read(&mut input)?;
        assert!(input.is_empty());
        Ok(read)
    }

    #[test]
    fn a_row_is_read_back_as_the_lease_it_was_made_of() {
        let states =
            [LeaseState::Default, LeaseState::Declined, LeaseState::ExpiredReclaimed, LeaseState::Released];
        for state in states {
            for kind in [UpdateKind::Delete, UpdateKind::Update] {
                let row = Lease { state, ..lease(1) };
                assert_eq!(round(kind, &row), Ok(Some((kind, row))));
            }
        }
        let bare = Lease {
            client_id: SmallBytes::empty(),
            hostname: SmallBytes::empty(),
            user_context: None,
            fqdn_fwd: false,
            fqdn_rev: true,
            ..lease(2)
        };
        assert_eq!(round(UpdateKind::Update, &bare), Ok(Some((UpdateKind::Update, bare))));
    }

    #[test]
    fn rows_follow_one_another() {
        let mut octets = Vec::new();
        for number in 0..3 {
            write(UpdateKind::Update, &lease(number), &mut octets);
        }
        let mut input = octets.as_slice();
        for number in 0..3 {
            assert_eq!(read(&mut input), Ok(Some((UpdateKind::Update, lease(number)))));
        }
        assert_eq!(read(&mut input), Ok(None));
    }

    #[test]
    fn what_a_lease_file_may_not_have_is_refused() {
        let nobody = Lease { hwaddr: SmallBytes::empty(), client_id: SmallBytes::empty(), ..lease(1) };
        for (case, row, error) in [
            ("nobody's", nobody.clone(), Some(RowError::Identity)),
            ("nobody's, declined", Lease { state: LeaseState::Declined, ..nobody }, None),
            // A Kea keeps them, too, and warns of the first.
            ("no subnet's", Lease { subnet_id: 0, ..lease(1) }, None),
            ("of 1970", Lease { cltt: 0, ..lease(1) }, None),
            (
                "a long hardware address",
                Lease { hwaddr: SmallBytes::new(&[1; 21]), ..lease(1) },
                Some(RowError::Range("hw-address")),
            ),
            (
                "a short client identifier",
                Lease { client_id: SmallBytes::new(&[1]), ..lease(1) },
                Some(RowError::Range("client-id")),
            ),
        ] {
            assert_eq!(round(UpdateKind::Update, &row).err(), error, "{case}");
        }
        let far = Lease { cltt: u64::MAX, ..lease(1) };
        let read = round(UpdateKind::Update, &far).expect("read").expect("a row").1;
        assert_eq!(read.cltt, CLTT_MAX);
    }

    /// It would be refused, and with it whatever goes in the same request.
    #[test]
    fn a_context_that_is_no_map_is_not_written_and_refused_if_it_comes() {
        for context in [&b"[1, 2, 3]"[..], b"{ \"a\": } ", b"", b"\xff"] {
            let sent = Lease { user_context: Some(context.into()), ..lease(1) };
            let received = Lease { user_context: None, ..lease(1) };
            assert_eq!(
                round(UpdateKind::Update, &sent),
                Ok(Some((UpdateKind::Update, received))),
                "{context:?}"
            );
            let map = [b"{", &vec![b' '; context.len()][..], b"}"].concat();
            let mut octets = Vec::new();
            write(UpdateKind::Update, &Lease { user_context: Some(map.into()), ..lease(1) }, &mut octets);
            let at = octets.len() - context.len() - 2;
            octets.splice(at.., [b"\n", context, b"\n"].concat());
            assert_eq!(read(&mut octets.as_slice()), Err(RowError::Range("user-context")), "{context:?}");
        }
    }

    #[test]
    fn a_row_that_is_cut_anywhere_or_of_a_later_version_is_refused() {
        let mut octets = Vec::new();
        write(UpdateKind::Update, &lease(1), &mut octets);
        for len in 1..octets.len() {
            assert_eq!(read(&mut &octets[..len]), Err(RowError::Short), "{len}");
        }
        octets[0] |= 0x20;
        assert_eq!(read(&mut octets.as_slice()), Err(RowError::Tag));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused_without_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut input = octets.as_slice();
            while let Ok(Some((kind, lease))) = read(&mut input) {
                prop_assert_eq!(round(kind, &lease), Ok(Some((kind, lease))));
            }
        }
    }
}
