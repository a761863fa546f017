//! The lease file on its disk: what was written, what would survive the loss of power, what a crash leaves.
//!
//! One file that all shards append to. Bytes are written (the kernel has them; they survive the end of the process)
//! and later synced (they survive everything).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use shards::Lease;
use shards::journal::compact::{self, Deletions};
use shards::journal::replay::{LeaseFiles, Recovery, recover};
use shards::journal::row::{Layout, parse_row};
use shards::journal::{Columns, row};
use shards::partition::LoadedRows;

const LAYOUT: Layout = Layout { known: 12, unknown: 0 };

/// One state of an address, and where in the file its row ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    pub end: usize,
    /// `None` once deleted.
    pub lease: Option<Lease>,
}

/// The leases of a file.
pub type Leases = BTreeMap<Ipv4Addr, Lease>;

#[derive(Default)]
pub struct Disk {
    /// What the kernel has.
    pub file: Vec<u8>,
    /// How much of it is on stable storage.
    pub synced: usize,
    /// Writes fail.
    pub full: bool,
    /// Syncs fail, and what was not synced may be lost.
    pub failing: bool,
    versions: BTreeMap<Ipv4Addr, Vec<Version>>,
    /// The leases of the file as it is.
    written: Leases,
}

impl Disk {
    /// Appends a whole batch.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut end = self.file.len();
        self.file.extend_from_slice(bytes);
        for line in bytes.split_inclusive(|octet| *octet == b'\n') {
            end += line.len();
            let Ok(row) = parse_row(line.trim_ascii_end(), LAYOUT) else { continue };
            let lease = (!row.deleted).then_some(row.lease.clone());
            match &lease {
                Some(lease) => self.written.insert(lease.address, lease.clone()),
                None => self.written.remove(&row.lease.address),
            };
            self.versions.entry(row.lease.address).or_default().push(Version { end, lease });
        }
    }

    /// Appends the beginning of a batch: the write was cut short. Nobody knows which of its rows count.
    pub fn write_part(&mut self, bytes: &[u8], len: usize) {
        let before = self.file.len();
        self.write(bytes);
        self.file.truncate(before + len);
    }

    /// Everything up to `len` is on stable storage.
    pub fn sync(&mut self, len: usize) {
        self.synced = self.synced.max(len);
    }

    /// The lease of `address` as it would be after the loss of power right now.
    pub fn durable(&self, address: Ipv4Addr) -> Option<&Lease> {
        let versions = self.versions.get(&address)?;
        versions.iter().rev().find(|version| version.end <= self.synced)?.lease.as_ref()
    }

    /// Whether a lease of `address` was on stable storage at any time of this life that `is` what is looked for.
    pub fn was_durable(&self, address: Ipv4Addr, is: &dyn Fn(&Lease) -> bool) -> bool {
        let versions = self.versions.get(&address).into_iter().flatten();
        versions
            .filter(|version| version.end <= self.synced)
            .any(|version| version.lease.as_ref().is_some_and(is))
    }

    /// The power is gone: of what was not synced, the first `kept` octets survive, and behind them, if `nuls`, the
    /// file has its length but not its contents.
    pub fn lose_power(&mut self, kept: usize, nuls: bool) {
        let cut = self.file.len().min(self.synced + kept);
        if nuls {
            self.file[cut..].fill(0);
        } else {
            self.file.truncate(cut);
        }
    }

    /// Whether the file ends in the middle of a row.
    pub fn is_torn(&self) -> bool {
        self.file.last().is_some_and(|last| *last != b'\n')
    }

    /// The leases whose last row deletes them.
    pub fn deletions(&self) -> Vec<Lease> {
        let files = LeaseFiles { current: Some(&self.file), ..LeaseFiles::default() };
        let mut last = BTreeMap::new();
        // What is wrong with the file is found when it is opened.
        let _ = recover(&files, 0, |row| {
            last.insert(row.lease.address, row);
        });
        last.into_values().filter(|row| row.deleted).map(|row| row.lease).collect()
    }

    /// Opens the lease file as the server does at its start: recovers it, and puts it in order; with the rows of deleted
    /// leases where its partner is `behind`.
    pub fn boot(&mut self, behind: bool) -> Result<(Leases, Recovery), String> {
        let files = LeaseFiles { current: Some(&self.file), ..LeaseFiles::default() };
        let (leases, recovery) = replayed(&files)?;
        if recovery.compact {
            let (mut rows, mut bytes) = (LoadedRows::default(), Vec::new());
            recover(&files, 0, |row| rows.push(&row.lease, row.deleted))
                .map_err(|error| error.to_string())?;
            let deletions = if behind { Deletions::Keep } else { Deletions::Drop };
            compact::write(&[rows], deletions, recovery.columns, |piece| {
                bytes.extend_from_slice(piece);
                Ok::<(), String>(())
            })?;
            self.file = bytes;
        } else if recovery.header_missing {
            row::write_header(&mut self.file, Columns::Twelve);
        } else {
            self.file.truncate(recovery.current_octets as usize);
        }
        self.synced = self.file.len();
        (self.full, self.failing) = (false, false);
        Ok((leases, recovery))
    }

    /// The leases of the file, as its rows were written one after the other.
    pub fn written(&self) -> &Leases {
        &self.written
    }

    /// The leases the file holds now, by the server's own recovery.
    pub fn replay(&self) -> Result<Leases, String> {
        let files = LeaseFiles { current: Some(&self.file), ..LeaseFiles::default() };
        replayed(&files).map(|(leases, _)| leases)
    }

    /// What each address ever written may be after a crash: its last durable state or any later one.
    pub fn possible(&self) -> BTreeMap<Ipv4Addr, Vec<Option<Lease>>> {
        let of = |versions: &[Version]| {
            let durable = versions.iter().rposition(|version| version.end <= self.synced);
            let later = versions[durable.unwrap_or(0)..].iter().map(|version| version.lease.clone());
            durable.is_none().then_some(None).into_iter().chain(later).collect()
        };
        self.versions.iter().map(|(address, versions)| (*address, of(versions))).collect()
    }

    /// Takes `leases` for what is there, all of it up to here: the server has started with them.
    pub fn begin(&mut self, leases: &Leases) {
        let end = self.file.len();
        self.written = leases.clone();
        self.versions = leases
            .iter()
            .map(|(address, lease)| (*address, vec![Version { end, lease: Some(lease.clone()) }]))
            .collect();
    }
}

fn replayed(files: &LeaseFiles<'_>) -> Result<(Leases, Recovery), String> {
    let mut leases = Leases::new();
    let recovery = recover(files, 0, |row| {
        if row.deleted {
            leases.remove(&row.lease.address);
        } else {
            leases.insert(row.lease.address, row.lease);
        }
    });
    recovery.map(|recovery| (leases, recovery)).map_err(|error| error.to_string())
}
