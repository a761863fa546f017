//! The proof: what was acknowledged, held against what stands in a lease file.
//!
//! No server is asked. The file is read by the recovery that a start after a power cut would run.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use shards::journal::{FileRole, LeaseFiles, Recovery, recover};
use shards::partition::lease::{Lease, LeaseState};

use super::DemoError;
use super::ledger::{Promise, Violations, text};
use super::report::FileReport;

/// A lease may end this much earlier in the file than its client believes, seconds: two processes round the clock.
const ROUNDING_S: u64 = 1;

/// Reads the lease file of `server` and compares it with `promises`.
///
/// # Errors
/// The file cannot be read, or recovery refuses it.
pub(super) fn compare(
    server: &str,
    file: &Path,
    promises: &BTreeMap<Ipv4Addr, Promise>,
) -> Result<FileReport, DemoError> {
    let (leases, recovery) = read(file)?;
    let mut wrong = Violations::default();
    let mut found = 0;
    for (address, promise) in promises {
        match leases.get(address).map_or(Err("is missing".to_owned()), |lease| keeps(lease, promise)) {
            Ok(()) => found += 1,
            Err(why) => {
                wrong.push(|| format!("{server}: {address}, acknowledged to {}, {why}", text(promise.chaddr)))
            }
        }
    }
    if recovery.bad_rows > 0 {
        wrong.push(|| format!("{server}: {} rows of its lease file make no sense", recovery.bad_rows));
    }
    Ok(FileReport {
        server: server.to_owned(),
        rows: recovery.rows,
        leases: leases.len() as u64,
        acknowledged: promises.len() as u64,
        found,
        wrong: wrong.texts(),
    })
}

fn keeps(lease: &Lease, promise: &Promise) -> Result<(), String> {
    if lease.hwaddr.as_slice() != promise.chaddr {
        let other: Vec<String> = lease.hwaddr.as_slice().iter().map(|octet| format!("{octet:02x}")).collect();
        return Err(format!("belongs to {}", other.join(":")));
    }
    if lease.state != LeaseState::Default {
        return Err(format!("is {:?}", lease.state));
    }
    if lease.expire() + ROUNDING_S < promise.until_wall_s {
        return Err(format!("ends {} s early", promise.until_wall_s - lease.expire()));
    }
    Ok(())
}

fn read(file: &Path) -> Result<(HashMap<Ipv4Addr, Lease>, Recovery), DemoError> {
    let bytes = |role: FileRole| -> Result<Option<Vec<u8>>, DemoError> {
        let mut name = file.as_os_str().to_owned();
        name.push(role.suffix());
        match fs::read(PathBuf::from(&name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DemoError::System(error)),
        }
    };
    let [current, previous, cleaned, completed] =
        [FileRole::Current, FileRole::Previous, FileRole::Cleaned, FileRole::Completed].map(bytes);
    let (current, previous, cleaned, completed) = (current?, previous?, cleaned?, completed?);
    let files = LeaseFiles {
        current: current.as_deref(),
        previous: previous.as_deref(),
        cleaned: cleaned.as_deref(),
        completed: completed.as_deref(),
        ..LeaseFiles::default()
    };
    let mut leases = HashMap::new();
    let recovery = recover(&files, 0, |row| {
        if row.deleted {
            leases.remove(&row.lease.address);
        } else {
            leases.insert(row.lease.address, row.lease);
        }
    })
    .map_err(|cause| DemoError::LeaseFile { path: file.to_owned(), cause })?;
    Ok((leases, recovery))
}

#[cfg(test)]
mod tests {
    use shards::SmallBytes;
    use shards::journal::{Columns, write_header, write_lease};

    use super::*;

    const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const CLTT: u64 = 1_800_000_000;

    fn lease(last: u8, hwaddr: [u8; 6], state: LeaseState) -> Lease {
        Lease {
            address: Ipv4Addr::new(198, 18, 1, last),
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::new(&hwaddr),
            client_id: SmallBytes::default(),
            valid_lifetime: 100,
            cltt: CLTT,
            state,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::default(),
            user_context: None,
        }
    }

    #[test]
    fn a_promise_is_kept_by_the_right_lease_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leases.csv");
        let mut text = Vec::new();
        write_header(&mut text, Columns::Twelve);
        write_lease(&mut text, &lease(1, CLIENT, LeaseState::Default), Columns::Twelve);
        write_lease(&mut text, &lease(2, [2, 0, 0, 0, 0, 9], LeaseState::Default), Columns::Twelve);
        write_lease(&mut text, &lease(3, CLIENT, LeaseState::ExpiredReclaimed), Columns::Twelve);
        fs::write(&file, &text).unwrap();
        let rows = [
            (1, CLTT + 101, None),
            (1, CLTT + 105, Some("ends 5 s early")),
            (2, CLTT, Some("belongs to 02:00:00:00:00:09")),
            (3, CLTT, Some("is ExpiredReclaimed")),
            (4, CLTT, Some("is missing")),
        ];
        for (last, until_wall_s, expected) in rows {
            let promise = Promise { chaddr: CLIENT, until_wall_s };
            let promises = BTreeMap::from([(Ipv4Addr::new(198, 18, 1, last), promise)]);
            let report = compare("server1", &file, &promises).unwrap();
            assert_eq!((report.rows, report.leases, report.acknowledged), (3, 3, 1));
            assert_eq!(report.found, u64::from(expected.is_none()), "{last}");
            match expected {
                None => assert_eq!(report.wrong, Vec::<String>::new()),
                Some(expected) => assert!(report.wrong[0].contains(expected), "{:?}", report.wrong),
            }
        }
        text.extend_from_slice(b"nonsense,row\n");
        fs::write(&file, &text).unwrap();
        let report = compare("server1", &file, &BTreeMap::new()).unwrap();
        assert_eq!(report.wrong, ["server1: 1 rows of its lease file make no sense"]);
    }
}
