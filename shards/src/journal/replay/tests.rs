//! Recovery of lease files: whole, cut at every octet, with what a clean-up left beside them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::super::row::{tests::any_lease, write_deletion, write_header, write_lease};
use super::super::{BatchBuffer, Deletions, compact};
use super::*;
use crate::Lease;
use crate::partition::LoadedRows;

const HEADER: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id\n";
const ELEVEN: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n";

fn row(last: u8, host: &str) -> String {
    format!("192.0.2.{last},01,,60,1060,1,0,0,{host},0,,0\n")
}

fn deletion(last: u8) -> String {
    format!("192.0.2.{last},01,,0,1000,1,0,0,,0,,0\n")
}

fn current(bytes: &[u8]) -> LeaseFiles<'_> {
    LeaseFiles { current: Some(bytes), ..LeaseFiles::default() }
}

/// Host names by last octet, after applying every row.
fn hosts(files: &LeaseFiles<'_>) -> (Recovery, BTreeMap<u8, String>) {
    let mut hosts = BTreeMap::new();
    let recovery = recover(files, 0, |row| {
        let last = row.lease.address.octets()[3];
        if row.deleted {
            hosts.remove(&last);
        } else {
            hosts.insert(last, String::from_utf8(row.lease.hostname.to_vec()).unwrap());
        }
    });
    (recovery.unwrap(), hosts)
}

fn map(entries: &[(u8, &str)]) -> BTreeMap<u8, String> {
    entries.iter().map(|&(last, host)| (last, host.to_owned())).collect()
}

#[test]
fn the_last_row_wins_and_empty_lines_nul_runs_and_a_torn_row_are_passed_over() {
    let text = [
        HEADER,
        "\n",
        &row(1, "a"),
        "\0\0\0",
        &row(2, "b"),
        "\0\0\n\n",
        &deletion(1),
        &row(3, "c"),
        "192.0.2.2,01",
    ]
    .concat();
    let (recovery, hosts) = hosts(&current(text.as_bytes()));
    assert_eq!(hosts, map(&[(2, "b"), (3, "c")]));
    assert_eq!((recovery.rows, recovery.bad_rows, recovery.nul_octets), (4, 0, 5));
    assert_eq!(recovery.torn, [FileRole::Current]);
    assert!(!recovery.compact && !recovery.header_missing);
    assert_eq!(recovery.columns, Columns::Twelve);
}

#[test]
fn bad_rows_are_named_by_line_and_limited() {
    let text = [HEADER, &row(1, "a"), "x\n", "\n", &row(2, "b"), "192.0.2.3,01,,60,1060,1,0,0\n"].concat();
    let (recovery, hosts) = hosts(&current(text.as_bytes()));
    assert_eq!(hosts, map(&[(1, "a"), (2, "b")]));
    let fault = |line| RowFault { file: FileRole::Current, line, cause: RowError::ColumnCount };
    assert_eq!(recovery.faults, [fault(3), fault(6)]);
    assert!(recover(&current(text.as_bytes()), 2, |_| ()).is_ok());
    let error = recover(&current(text.as_bytes()), 1, |_| ()).unwrap_err();
    let (file, cause) = (FileRole::Current, RowError::ColumnCount);
    assert_eq!(error, ReplayError::TooManyBadRows { file, limit: 1, line: 6, cause });
}

#[test]
fn the_header_decides_columns_and_conversion() {
    let nine = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname\n";
    let more = HEADER.trim_end().to_owned() + ",color\n";
    for (text, columns, compact, header_missing, downgraded) in [
        ("", Columns::Twelve, false, true, false),
        (HEADER, Columns::Twelve, false, false, false),
        (ELEVEN, Columns::Eleven, false, false, false),
        (nine, Columns::Twelve, true, false, false),
        (&more, Columns::Twelve, true, false, true),
        ("address,hwad", Columns::Twelve, true, false, false),
        ("\0\0\0\0", Columns::Twelve, true, false, false),
    ] {
        let recovery = hosts(&current(text.as_bytes())).0;
        let found = (recovery.columns, recovery.compact, recovery.header_missing, recovery.downgraded);
        assert_eq!(found, (columns, compact, header_missing, downgraded), "{text}");
    }
    for text in ["hwaddr,address\n", &row(1, "a"), "x"] {
        let error = recover(&current(text.as_bytes()), 0, |_| ()).unwrap_err();
        assert_eq!(error, ReplayError::Header { file: FileRole::Current, source: HeaderError }, "{text}");
    }
    assert!(hosts(&LeaseFiles::default()).0.header_missing);
}

// What Kea's clean-up leaves behind at each of its steps (PST-16, PST-17), and what is loaded from it.
#[test]
fn files_of_an_interrupted_cleanup_are_loaded_in_keas_order() {
    let two = [HEADER, &row(1, "2"), &row(2, "2"), &row(3, "2")].concat();
    let one = [HEADER, &row(2, "1"), &deletion(3)].concat();
    let completed = [HEADER, &row(1, "c"), &row(2, "c")].concat();
    let now = [HEADER, &row(4, "x"), &deletion(1)].concat();
    let (two, one, completed, now) =
        (Some(two.as_bytes()), Some(one.as_bytes()), Some(completed.as_bytes()), Some(now.as_bytes()));
    let files = |previous, cleaned, completed, output, pid_alive| LeaseFiles {
        current: now,
        previous,
        cleaned,
        completed,
        output,
        pid_alive,
    };
    use FileRole::*;
    for (files, expected, leftovers, compact) in [
        (files(None, None, None, false, None), map(&[(4, "x")]), vec![], false),
        (
            files(one, two, None, true, Some(false)),
            map(&[(2, "1"), (4, "x")]),
            vec![Cleaned, Previous, Output, Pid],
            true,
        ),
        (
            files(one, two, completed, false, None),
            map(&[(2, "c"), (4, "x")]),
            vec![Cleaned, Previous, Completed],
            true,
        ),
        (
            files(None, two, completed, false, None),
            map(&[(2, "c"), (4, "x")]),
            vec![Cleaned, Completed],
            true,
        ),
        (files(None, None, completed, false, None), map(&[(2, "c"), (4, "x")]), vec![Completed], true),
        (files(None, two, None, false, None), map(&[(2, "2"), (3, "2"), (4, "x")]), vec![Cleaned], true),
        (files(one, None, None, false, None), map(&[(2, "1"), (4, "x")]), vec![Previous], true),
        (files(None, None, None, true, None), map(&[(4, "x")]), vec![Output], false),
    ] {
        let (recovery, loaded) = hosts(&files);
        assert_eq!((loaded, recovery.leftovers, recovery.compact), (expected, leftovers, compact));
    }
    let alive = files(None, None, None, false, Some(true));
    assert_eq!(recover(&alive, 0, |_| ()), Err(ReplayError::CleanupRunning));
}

// A clean-up at start that keeps deletions can be cut off between any two of its steps: whichever left-overs
// are still there, the same leases are loaded.
#[test]
fn leftovers_can_be_removed_one_by_one_without_bringing_a_lease_back() {
    let two = [HEADER, &row(1, "2"), &row(2, "2"), &row(3, "2"), &row(5, "2")].concat();
    let one = [HEADER, &row(2, "1"), &deletion(3), &row(6, "1")].concat();
    let completed = [HEADER, &row(1, "2"), &row(2, "1"), &row(5, "2"), &row(6, "1")].concat();
    let now = [HEADER, &deletion(1), &row(4, "x"), &deletion(6)].concat();
    for with_completed in [false, true] {
        let mut files = LeaseFiles {
            current: Some(now.as_bytes()),
            previous: Some(one.as_bytes()),
            cleaned: Some(two.as_bytes()),
            completed: with_completed.then_some(completed.as_bytes()),
            ..LeaseFiles::default()
        };
        let (recovery, expected) = hosts(&files);
        assert_eq!(expected, map(&[(2, "1"), (4, "x"), (5, "2")]));
        let rewritten = compacted(&files, recovery.columns, Deletions::Keep);
        files.current = Some(&rewritten);
        assert_eq!(hosts(&files).1, expected);
        for file in recovery.leftovers {
            match file {
                FileRole::Cleaned => files.cleaned = None,
                FileRole::Completed => files.completed = None,
                FileRole::Previous => files.previous = None,
                other => panic!("{other:?}"),
            }
            assert_eq!(hosts(&files).1, expected, "after removing {file:?}, completed: {with_completed}");
        }
    }
}

#[derive(Clone, Debug)]
struct Change {
    lease: Lease,
    delete: bool,
    batch_ends: bool,
}

fn any_changes() -> impl Strategy<Value = Vec<Change>> {
    let change =
        (any_lease(), any::<bool>(), any::<bool>(), 0..5_u8).prop_map(|(lease, delete, batch_ends, last)| {
            let address = Ipv4Addr::new(192, 0, 2, last);
            let client_id = crate::SmallBytes::new(&lease.client_id[..lease.client_id.len().min(9)]);
            let hwaddr = crate::SmallBytes::new(&[1, 2, last]);
            Change { lease: Lease { address, hwaddr, client_id, ..lease }, delete, batch_ends }
        });
    proptest::collection::vec(change, 1..8)
}

/// What a clean-up makes of `files`.
fn compacted(files: &LeaseFiles<'_>, columns: Columns, deletions: Deletions) -> Vec<u8> {
    let (mut rows, mut bytes) = (LoadedRows::default(), Vec::new());
    recover(files, 0, |row| rows.push(&row.lease, row.deleted)).unwrap();
    let put = |piece: &[u8]| -> Result<(), std::convert::Infallible> {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    let Ok(_) = compact::write(&[rows], deletions, columns, put);
    bytes
}

/// The file once the start has put it in order; `compacted` is its compacted form.
fn as_opened(file: &[u8], recovery: &Recovery, compacted: Vec<u8>) -> Vec<u8> {
    if recovery.header_missing || recovery.compact {
        return compacted;
    }
    file[..recovery.current_octets as usize].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    // Whatever prefix of the file a crash leaves: the leases are those of the rows that are wholly there, and
    // rows appended behind the prefix are read in full.
    #[test]
    fn every_prefix_of_a_file_gives_the_leases_of_its_whole_rows(changes in any_changes(), twelve in any::<bool>()) {
        let columns = if twelve { Columns::Twelve } else { Columns::Eleven };
        let mut file = Vec::new();
        write_header(&mut file, columns);
        let header_len = file.len();
        let mut buffer = BatchBuffer::new();
        // (length of the file from which on the row is whole, address, lease unless deleted)
        let mut ends: Vec<(usize, Ipv4Addr, Option<Lease>)> = Vec::new();
        let mut rows = Vec::new();
        for change in &changes {
            rows.clear();
            let mut kept = None;
            if change.delete {
                write_deletion(&mut rows, &change.lease, columns);
            } else {
                write_lease(&mut rows, &change.lease, columns);
                let pool_id = if twelve { change.lease.pool_id } else { 0 };
                kept = Some(Lease { pool_id, ..change.lease.clone() });
            }
            buffer.append(&rows);
            ends.push((file.len() + buffer.waiting_bytes(), change.lease.address, kept));
            if change.batch_ends {
                let batch = buffer.take().unwrap();
                file.extend_from_slice(&batch.bytes);
                buffer.complete(batch);
            }
        }
        if let Some(batch) = buffer.take() {
            file.extend_from_slice(&batch.bytes);
        }
        for len in header_len..=file.len() {
            let mut expected: BTreeMap<Ipv4Addr, Lease> = BTreeMap::new();
            for (_, address, lease) in ends.iter().filter(|(end, ..)| *end <= len) {
                match lease {
                    Some(lease) => expected.insert(*address, lease.clone()),
                    None => expected.remove(address),
                };
            }
            let replayed = |bytes: &[u8]| {
                let mut leases = BTreeMap::new();
                let recovery = recover(&current(bytes), 0, |row| {
                    if row.deleted {
                        leases.remove(&row.lease.address);
                    } else {
                        leases.insert(row.lease.address, row.lease);
                    }
                });
                (recovery.unwrap(), leases)
            };
            let (recovery, leases) = replayed(&file[..len]);
            prop_assert_eq!((recovery.bad_rows, &leases), (0, &expected), "prefix {}", len);
            prop_assert_eq!(recovery.columns, columns);

            // Compaction keeps them; then the server cuts the torn row off and goes on.
            let output = compacted(&current(&file[..len]), columns, Deletions::Drop);
            prop_assert_eq!(&replayed(&output).1, &expected);
            let mut longer = as_opened(&file[..len], &recovery, output);
            let mut buffer = BatchBuffer::new();
            rows.clear();
            let mut added = changes[0].lease.clone();
            added.address = Ipv4Addr::new(192, 0, 2, 200);
            added.pool_id = 0;
            write_lease(&mut rows, &added, columns);
            buffer.append(&rows);
            longer.extend_from_slice(&buffer.take().unwrap().bytes);
            let (_, leases) = replayed(&longer);
            expected.insert(added.address, added);
            prop_assert_eq!(leases, expected);
        }
    }

    #[test]
    fn no_bytes_make_recovery_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), header in any::<bool>()) {
        let bytes = if header { [HEADER.as_bytes(), &bytes].concat() } else { bytes };
        let _ = recover(&current(&bytes), 0, |_| ());
    }
}
