//! Leases on their way from the lease file to the shards.
//!
//! Rows are packed as they are read, each piece of a file by itself. [`RowOrder`] knows the row that counts of each
//! address; parts of them are gathered, again each by itself, and [`LoadedLeases`] are all parts, ascending by address,
//! from which shards copy what they own, side by side. Nothing here is kept once the shards have started.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::lease::{Lease, LeaseState};
use super::packed::{self, Packed};

/// Rows of one piece of a lease file, in the order of the file.
#[derive(Debug, Default)]
pub struct LoadedRows {
    rows: Vec<LoadedRow>,
    strings: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct LoadedRow {
    packed: Packed,
    address: u32,
    /// Where its strings are among those of its piece.
    strings_at: u32,
    strings_len: u32,
    deleted: bool,
}

/// The rows that count, ascending by address: the last one of every address.
#[derive(Debug)]
pub struct RowOrder {
    /// Rows in all pieces before each piece.
    bases: Vec<u32>,
    /// Address, number of the row over all pieces, and whether it deletes, in 32, 31 and 1 bits.
    last: Vec<u64>,
}

/// The last state of every address.
#[derive(Debug, Default)]
pub struct LoadedLeases {
    /// Ascending over all parts; every part but the last has [`LEASES_PER_PART`].
    parts: Vec<LoadedRows>,
    len: usize,
}

/// Leases that are gathered at a time: enough parts for every CPU.
pub const LEASES_PER_PART: usize = 32_768;

/// A lease among those that were loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadedLease<'a> {
    row: &'a LoadedRow,
    strings: &'a [u8],
}

/// Whether addresses whose last row deletes them are left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deletions {
    /// Left out.
    Drop,
    /// Kept, while files that are loaded before this one still exist and could bring the lease back.
    Keep,
}

impl LoadedRows {
    /// Adds a row that says `lease`, or deletes it.
    ///
    /// # Panics
    /// When the strings of the piece exceed 4 GiB: a piece is a few megabytes of a file.
    pub fn push(&mut self, lease: &Lease, deleted: bool) {
        let packed = Packed::of(lease);
        let strings_at = self.strings_end();
        packed::write_strings(&mut self.strings, lease, packed.lengths);
        let strings_len = self.strings.len() as u32 - strings_at;
        self.rows.push(LoadedRow { packed, address: lease.address.into(), strings_at, strings_len, deleted });
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = LoadedLease<'_>> + '_ {
        (0..self.rows.len()).map(|index| self.row(index))
    }

    fn row(&self, index: usize) -> LoadedLease<'_> {
        let row = &self.rows[index];
        let from = row.strings_at as usize;
        LoadedLease { row, strings: &self.strings[from..from + row.strings_len as usize] }
    }

    fn strings_end(&self) -> u32 {
        u32::try_from(self.strings.len()).expect("strings of a piece fit 4 GiB")
    }
}

impl RowOrder {
    /// What `pieces`, oldest first, say in the end.
    ///
    /// # Panics
    /// When there are 2^31 rows or more, which need 80 GiB of memory.
    pub fn new(pieces: &[LoadedRows], deletions: Deletions) -> Self {
        let total: usize = pieces.iter().map(LoadedRows::len).sum();
        assert!(total < 1 << 31, "{total} rows");
        let mut rows: Vec<u64> = Vec::with_capacity(total);
        let mut bases = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let base = rows.len() as u32;
            bases.push(base);
            rows.extend((base..).zip(&piece.rows).map(|(number, row)| {
                u64::from(row.address) << 32 | u64::from(number) << 1 | u64::from(row.deleted)
            }));
        }
        // Stable, because what a clean-up has written is in order already: it finds the run and merges.
        rows.sort();
        let mut kept = 0;
        for index in 0..rows.len() {
            let row = rows[index];
            let superseded = rows.get(index + 1).is_some_and(|next| next >> 32 == row >> 32);
            if !superseded && (deletions == Deletions::Keep || row & 1 == 0) {
                rows[kept] = row;
                kept += 1;
            }
        }
        rows.truncate(kept);
        Self { bases, last: rows }
    }

    /// Parts to be gathered.
    pub fn parts(&self) -> usize {
        self.last.len().div_ceil(LEASES_PER_PART)
    }

    /// Copies the rows of part `part`, below [`RowOrder::parts`], out of `pieces`.
    pub fn gather(&self, pieces: &[LoadedRows], part: usize) -> LoadedRows {
        let from = part * LEASES_PER_PART;
        let until = (from + LEASES_PER_PART).min(self.last.len());
        let mut gathered = LoadedRows::default();
        gathered.rows.reserve(until - from);
        for &last in &self.last[from..until] {
            let number = last as u32 >> 1;
            let index = self.bases.partition_point(|&base| base <= number) - 1;
            let row = pieces[index].row((number - self.bases[index]) as usize);
            let strings_at = gathered.strings_end();
            gathered.strings.extend_from_slice(row.strings);
            gathered.rows.push(LoadedRow { strings_at, ..*row.row });
        }
        gathered
    }
}

impl LoadedLeases {
    /// All parts of a [`RowOrder`], as they were gathered.
    pub fn new(parts: Vec<LoadedRows>) -> Self {
        let len = parts.iter().map(LoadedRows::len).sum();
        Self { parts, len }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lease at `position`, below [`LoadedLeases::len`]; positions ascend with addresses.
    pub fn at(&self, position: usize) -> LoadedLease<'_> {
        self.parts[position / LEASES_PER_PART].row(position % LEASES_PER_PART)
    }

    /// Those at `positions`, ascending by address.
    pub fn range(&self, positions: Range<usize>) -> impl Iterator<Item = LoadedLease<'_>> + '_ {
        positions.map(|position| self.at(position))
    }
}

impl FromIterator<Lease> for LoadedLeases {
    /// Leases that no file was read for; of those with one address the last counts.
    fn from_iter<T: IntoIterator<Item = Lease>>(leases: T) -> Self {
        let mut rows = LoadedRows::default();
        leases.into_iter().for_each(|lease| rows.push(&lease, false));
        let pieces = [rows];
        let order = RowOrder::new(&pieces, Deletions::Drop);
        Self::new((0..order.parts()).map(|part| order.gather(&pieces, part)).collect())
    }
}

impl<'a> LoadedLease<'a> {
    /// Its address.
    pub fn address(self) -> Ipv4Addr {
        self.row.address.into()
    }

    /// Hardware address.
    pub fn hwaddr(self) -> &'a [u8] {
        self.row.packed.lengths.split(self.strings)[0]
    }

    /// Client identifier.
    pub fn client_id(self) -> &'a [u8] {
        self.row.packed.lengths.split(self.strings)[1]
    }

    /// Subnet.
    pub fn subnet_id(self) -> u32 {
        self.row.packed.subnet_id
    }

    /// State column.
    pub fn state(self) -> LeaseState {
        self.row.packed.lengths.state()
    }

    /// Whether its row deletes it.
    pub fn is_deleted(self) -> bool {
        self.row.deleted
    }

    /// The lease by itself.
    pub fn lease(self) -> Lease {
        self.row.packed.lease(self.row.address, self.strings)
    }

    /// Numbers and strings, as rows keep them.
    pub(super) fn packed(self) -> (Packed, &'a [u8]) {
        (self.row.packed, self.strings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SmallBytes;

    fn lease(address: u32, hostname: &str) -> Lease {
        Lease {
            address: address.into(),
            subnet_id: 7,
            pool_id: 3,
            hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 1]),
            client_id: SmallBytes::new(&[1, 2, 3]),
            valid_lifetime: 4000,
            cltt: 1_700_000_000,
            state: LeaseState::Released,
            fqdn_fwd: true,
            fqdn_rev: false,
            hostname: SmallBytes::new(hostname.as_bytes()),
            user_context: Some(hostname.as_bytes().into()),
        }
    }

    fn piece(rows: &[(u32, &str, bool)]) -> LoadedRows {
        let mut piece = LoadedRows::default();
        rows.iter().for_each(|&(address, hostname, deleted)| piece.push(&lease(address, hostname), deleted));
        piece
    }

    #[test]
    fn the_last_row_of_each_address_counts_over_all_pieces() {
        let pieces = [
            piece(&[(9, "a", false), (5, "b", false)]),
            piece(&[]),
            piece(&[(5, "c", false), (7, "d", false), (9, "e", true), (u32::MAX, "f", false)]),
            piece(&[(7, "g", true), (7, "h", false)]),
        ];
        for (deletions, expected) in [
            (Deletions::Drop, vec![(5, "c", false), (7, "h", false), (u32::MAX, "f", false)]),
            (Deletions::Keep, vec![(5, "c", false), (7, "h", false), (9, "e", true), (u32::MAX, "f", false)]),
        ] {
            let order = RowOrder::new(&pieces, deletions);
            assert_eq!(order.parts(), 1);
            let part = order.gather(&pieces, 0);
            let found: Vec<(Lease, bool)> = part.iter().map(|row| (row.lease(), row.is_deleted())).collect();
            let expected: Vec<(Lease, bool)> = expected
                .into_iter()
                .map(|(address, hostname, deleted)| (lease(address, hostname), deleted))
                .collect();
            assert_eq!(found, expected, "{deletions:?}");
        }
    }

    #[test]
    fn leases_of_several_parts_are_found_by_position() {
        let count = LEASES_PER_PART as u32 * 2 + 5;
        let leases: LoadedLeases = (0..count).rev().map(|address| lease(address * 2, "x")).collect();
        assert_eq!(leases.len(), count as usize);
        let (from, until) = (LEASES_PER_PART - 2, LEASES_PER_PART + 2);
        let found: Vec<u32> = leases.range(from..until).map(|lease| lease.address().into()).collect();
        assert_eq!(found, (from as u32..until as u32).map(|position| position * 2).collect::<Vec<_>>());
        assert_eq!(leases.at(leases.len() - 1).lease(), lease((count - 1) * 2, "x"));
    }
}
