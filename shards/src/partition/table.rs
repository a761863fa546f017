//! Leases by address.
//!
//! Rows live in pages of 64 addresses, sorted, with a word that says which addresses have one; the pages are
//! in a B-tree. A look-up walks a tree sixteen times smaller than one of single leases would be and counts
//! bits; reading on in address order (`lease4-get-page`) is a walk along the pages and needs no snapshot,
//! because it goes on from an address, not from a position.
//!
//! A row is 56 bytes. Hardware address, client identifier, host name and user context share one byte string
//! that is inline up to 22 octets, which is what a client without a host name needs.

use std::collections::BTreeMap;

use super::lease::{Lease, LeaseState};
use super::loaded::LoadedLease;
use super::packed::{self, Packed};
use crate::SmallBytes;
use crate::small_bytes::INLINE_OCTETS_MAX;

/// A row with no timer.
pub const NOT_FILED: u32 = u32::MAX;

/// Rows a page makes room for at a time at most: half-empty pages cost less than growing often. A page of fewer rows
/// doubles, because the leases of a large pool may lie far apart.
const PAGE_GROWTH_ROWS: usize = 8;

/// Lease rows of a shard.
#[derive(Debug, Default)]
pub struct LeaseTable {
    /// By address ÷ 64.
    pages: BTreeMap<u32, Page>,
    len: usize,
}

#[derive(Debug, Default)]
struct Page {
    /// Bit n: address n of the page has a row.
    present: u64,
    /// Ascending by address.
    rows: Vec<LeaseRow>,
}

/// A lease without its address, and where its timer is.
#[derive(Clone, Debug)]
pub struct LeaseRow {
    packed: Packed,
    /// Second (of the expiry list's count) under which it is filed, or [`NOT_FILED`].
    pub filed: u32,
    /// Hardware address, client identifier, host name, user context.
    strings: SmallBytes,
}

/// What a row is counted under.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counted {
    /// Subnet of the lease.
    pub subnet_id: u32,
    /// Pool id of the lease.
    pub pool_id: u32,
    /// State column.
    pub state: LeaseState,
}

impl LeaseRow {
    fn new(lease: &Lease, filed: u32) -> Self {
        let packed = Packed::of(lease);
        let parts = packed::strings_of(lease);
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let strings = if length <= INLINE_OCTETS_MAX && !packed.lengths.stand_in_strings() {
            let mut octets = [0; INLINE_OCTETS_MAX];
            let mut at = 0;
            for part in parts {
                octets[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            SmallBytes::new(&octets[..at])
        } else {
            let mut octets = Vec::with_capacity(length);
            packed::write_strings(&mut octets, lease, packed.lengths);
            SmallBytes::new(&octets)
        };
        Self { packed, filed, strings }
    }

    /// When its client was last heard, seconds since the epoch.
    pub fn cltt(&self) -> u64 {
        self.packed.cltt
    }

    /// The row of a loaded lease, filed under `filed`.
    pub(super) fn loaded(lease: LoadedLease<'_>, filed: u32) -> Self {
        let (packed, strings) = lease.packed();
        Self { packed, filed, strings: SmallBytes::new(strings) }
    }

    /// Takes over what `lease` says if its strings are those of the row; else changes nothing and gives false.
    #[inline]
    fn renew(&mut self, lease: &Lease, filed: u32) -> bool {
        let lengths = self.packed.lengths;
        if !lengths.may_be_of(lease) || lengths.split(&self.strings) != packed::strings_of(lease) {
            return false;
        }
        self.packed = Packed::of(lease);
        self.filed = filed;
        true
    }

    /// What it is counted under.
    pub fn counted(&self) -> Counted {
        Counted { subnet_id: self.packed.subnet_id, pool_id: self.packed.pool_id, state: self.state() }
    }

    /// The lease, which is that of `address`.
    pub fn lease(&self, address: u32) -> Lease {
        self.packed.lease(address, &self.strings)
    }

    /// Hardware address.
    pub fn hwaddr(&self) -> &[u8] {
        self.packed.lengths.split(&self.strings)[0]
    }

    /// Client identifier.
    pub fn client_id(&self) -> &[u8] {
        self.packed.lengths.split(&self.strings)[1]
    }

    /// State column.
    pub fn state(&self) -> LeaseState {
        self.packed.lengths.state()
    }

    /// Subnet of the lease.
    pub fn subnet_id(&self) -> u32 {
        self.packed.subnet_id
    }

    /// Second since the epoch at which it runs out; `None` for never.
    pub fn expire(&self) -> Option<u64> {
        self.packed.expire()
    }

    /// Whether its address may be given to another client at `wall_s`: reclaimed, released or expired
    /// (ALC-35).
    pub fn is_available(&self, wall_s: u64) -> bool {
        self.packed.is_available(wall_s)
    }
}

impl LeaseTable {
    /// The table of `rows`, ascending by address, each address once. Pages have room for what they hold.
    pub fn load(rows: impl Iterator<Item = (u32, LeaseRow)>) -> Self {
        let mut pages: Vec<(u32, Page)> = Vec::new();
        let mut page: (u32, u64) = (0, 0);
        let mut rows_of_page: Vec<LeaseRow> = Vec::with_capacity(64);
        let mut len = 0;
        let mut end = |(number, present): (u32, u64), rows: &mut Vec<LeaseRow>| {
            if present != 0 {
                let mut exact = Vec::with_capacity(rows.len());
                exact.append(rows);
                pages.push((number, Page { present, rows: exact }));
            }
        };
        for (address, row) in rows {
            if address >> 6 != page.0 {
                end(page, &mut rows_of_page);
                page = (address >> 6, 0);
            }
            page.1 |= 1 << (address & 63);
            rows_of_page.push(row);
            len += 1;
        }
        end(page, &mut rows_of_page);
        Self { pages: pages.into_iter().collect(), len }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lease of `address`.
    pub fn get(&self, address: u32) -> Option<Lease> {
        self.row(address).map(|row| row.lease(address))
    }

    /// The row of `address`.
    pub fn row(&self, address: u32) -> Option<&LeaseRow> {
        let page = self.pages.get(&(address >> 6))?;
        page.position(address).ok().map(|position| &page.rows[position])
    }

    /// Says where the timer of `address` is filed, if there is a row.
    pub fn set_filed(&mut self, address: u32, filed: u32) {
        if let Some(page) = self.pages.get_mut(&(address >> 6))
            && let Ok(position) = page.position(address)
        {
            page.rows[position].filed = filed;
        }
    }

    /// Stores `lease`, filed where `file` says, which is shown the row it replaces; returns what that was counted
    /// under. Where only times and numbers have changed, as in a renewal, nothing is allocated.
    pub fn upsert(&mut self, lease: &Lease, file: impl FnOnce(Option<&LeaseRow>) -> u32) -> Option<Counted> {
        let address = u32::from(lease.address);
        let page = self.pages.entry(address >> 6).or_default();
        let filed = file(page.position(address).ok().map(|position| &page.rows[position]));
        match page.position(address) {
            Ok(position) => {
                let row = &mut page.rows[position];
                let replaced = row.counted();
                if !row.renew(lease, filed) {
                    *row = LeaseRow::new(lease, filed);
                }
                Some(replaced)
            }
            Err(position) => {
                let row = LeaseRow::new(lease, filed);
                if page.rows.len() == page.rows.capacity() {
                    page.rows.reserve_exact(page.rows.len().clamp(1, PAGE_GROWTH_ROWS));
                }
                page.rows.insert(position, row);
                page.present |= 1 << (address & 63);
                self.len += 1;
                None
            }
        }
    }

    /// Removes the row of `address`.
    pub fn remove(&mut self, address: u32) -> Option<LeaseRow> {
        let page = self.pages.get_mut(&(address >> 6))?;
        let position = page.position(address).ok()?;
        let row = page.rows.remove(position);
        page.present &= !(1 << (address & 63));
        if page.present == 0 {
            self.pages.remove(&(address >> 6));
        }
        self.len -= 1;
        Some(row)
    }

    /// Rows with an address of at least `from`, ascending.
    pub fn rows_from(&self, from: u32) -> impl Iterator<Item = (u32, &LeaseRow)> + '_ {
        self.pages.range(from >> 6..).flat_map(|(&page, rows)| rows.rows(page)).skip_while(
            // Only rows of the first page can lie below.
            move |&(address, _)| address < from,
        )
    }

    /// Bytes kept, near enough: rows, strings on the heap, and the tree at two thirds full.
    pub fn memory(&self) -> usize {
        let pages = self.pages.len() * (size_of::<u32>() + size_of::<Page>()) * 3 / 2;
        let rows: usize = self.pages.values().map(|page| page.rows.capacity() * size_of::<LeaseRow>()).sum();
        let inline = INLINE_OCTETS_MAX;
        let strings = self.pages.values().flat_map(|page| &page.rows).map(|row| row.strings.len());
        pages + rows + strings.filter(|&length| length > inline).map(|length| length + 16).sum::<usize>()
    }
}

impl Page {
    /// Where the row of `address` is, or where it would be.
    fn position(&self, address: u32) -> Result<usize, usize> {
        let bit = 1_u64 << (address & 63);
        let position = (self.present & (bit - 1)).count_ones() as usize;
        if self.present & bit != 0 { Ok(position) } else { Err(position) }
    }

    fn rows(&self, page: u32) -> impl Iterator<Item = (u32, &LeaseRow)> + '_ {
        let mut left = self.present;
        self.rows.iter().map(move |row| {
            let address = page << 6 | left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (address, row)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(
        address: u32,
        hwaddr: usize,
        client_id: usize,
        hostname: usize,
        context: Option<usize>,
    ) -> Lease {
        let octets: Vec<u8> = (0..70_000_u32).map(|index| (index % 251) as u8).collect();
        Lease {
            address: address.into(),
            subnet_id: 7,
            pool_id: 3,
            hwaddr: SmallBytes::new(&octets[..hwaddr]),
            client_id: SmallBytes::new(&octets[1..1 + client_id]),
            valid_lifetime: 4000,
            cltt: 1_700_000_000,
            state: LeaseState::Released,
            fqdn_fwd: true,
            fqdn_rev: false,
            hostname: SmallBytes::new(&octets[2..2 + hostname]),
            user_context: context.map(|length| octets[3..3 + length].into()),
        }
    }

    #[test]
    fn a_lease_of_any_lengths_comes_back_unchanged() {
        let mut table = LeaseTable::default();
        for (hwaddr, client_id, hostname, context) in [
            (6, 7, 0, None),
            (6, 7, 9, None),
            (6, 7, 10, None),
            (0, 0, 0, Some(0)),
            (20, 255, 255, Some(300)),
            (30, 0, 0x3fff, None),
            (31, 0, 0, None),
            (6, 256, 0, Some(2)),
            (6, 7, 0x4000, Some(0)),
            (40, 60_000, 0, None),
        ] {
            let lease = lease(9, hwaddr, client_id, hostname, context);
            let label = format!("{hwaddr} {client_id} {hostname} {context:?}");
            table.upsert(&lease, |_| NOT_FILED);
            assert_eq!(table.get(9).as_ref(), Some(&lease), "{label}");
            let renewed = Lease { cltt: 1_800_000_000, state: LeaseState::Default, fqdn_fwd: false, ..lease };
            table.upsert(&renewed, |_| 5);
            assert_eq!(table.get(9), Some(renewed), "renewed {label}");
            assert_eq!(table.row(9).map(|row| row.filed), Some(5), "renewed {label}");
        }
        assert_eq!(size_of::<LeaseRow>(), 56);
    }

    #[test]
    fn rows_are_read_in_address_order_from_anywhere() {
        let mut table = LeaseTable::default();
        for address in [u32::MAX, 5, 0, 64, 63, 1000, 65] {
            assert!(table.upsert(&lease(address, 6, 0, 0, None), |_| NOT_FILED).is_none());
        }
        assert!(table.upsert(&lease(64, 6, 0, 0, None), |_| 4).is_some());
        for (from, expected) in [
            (0, vec![0, 5, 63, 64, 65, 1000, u32::MAX]),
            (6, vec![63, 64, 65, 1000, u32::MAX]),
            (65, vec![65, 1000, u32::MAX]),
            (1001, vec![u32::MAX]),
        ] {
            let addresses: Vec<u32> = table.rows_from(from).map(|(address, _)| address).collect();
            assert_eq!(addresses, expected, "from {from}");
        }
        assert_eq!(table.remove(64).map(|row| row.filed), Some(4));
        assert!(table.remove(64).is_none());
        assert_eq!((table.len(), table.rows_from(64).next().map(|(address, _)| address)), (6, Some(65)));
    }

    #[test]
    fn an_address_is_available_by_state_or_by_time() {
        let mut lease = lease(1, 6, 0, 0, None);
        for (state, valid_lifetime, wall_s, expected) in [
            (LeaseState::Default, 4000, 1_700_004_000, false),
            (LeaseState::Default, 4000, 1_700_004_001, true),
            (LeaseState::Declined, 4000, 1_700_004_000, false),
            (LeaseState::Declined, 4000, 1_700_004_001, true),
            (LeaseState::Default, u32::MAX, u64::MAX, false),
            (LeaseState::Released, 4000, 0, true),
            (LeaseState::ExpiredReclaimed, 4000, 0, true),
        ] {
            (lease.state, lease.valid_lifetime) = (state, valid_lifetime);
            assert_eq!(LeaseRow::new(&lease, 0).is_available(wall_s), expected, "{state:?} {wall_s}");
        }
    }
}
