//! How long what happens at start may take: reading a lease file and dealing addresses.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use shards::journal::{Columns, LeaseFiles, replay, row};
use shards::partition::{OwnerTable, PoolRange, SubnetSpace};

#[test]
fn many_rows_are_read_quickly() {
    let rows: u32 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
    let mut bytes = Vec::new();
    row::write_header(&mut bytes, Columns::Twelve);
    for index in 0..rows {
        let address = Ipv4Addr::from(0x0a00_0000 + index);
        let mac = index.to_be_bytes().map(|octet| format!("{octet:02x}")).join(":");
        let line = format!("{address},02:00:{mac},01:02:00:{mac},3600,1700003600,1,0,0,host-{index},0,,0\n");
        bytes.extend_from_slice(line.as_bytes());
    }
    let files = LeaseFiles { current: Some(&bytes), ..LeaseFiles::default() };
    let started = Instant::now();
    let mut sum = 0;
    let recovery = replay::recover(&files, 0, |row| sum += u64::from(row.lease.valid_lifetime)).unwrap();
    let elapsed = started.elapsed();
    assert_eq!((recovery.rows, sum), (u64::from(rows), 3600 * u64::from(rows)));
    assert!(elapsed < Duration::from_secs(1), "{rows} rows in {elapsed:?}");
}

#[test]
fn a_whole_slash_8_is_dealt_quickly() {
    let (first, last) = (Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 255, 255, 255));
    let subnet = SubnetSpace {
        id: 1,
        prefix: first,
        prefix_len: 8,
        pools: vec![PoolRange { first, last }],
        parts: Vec::new(),
    };
    let started = Instant::now();
    let table = OwnerTable::assign(4, 7, &[subnet], []);
    let elapsed = started.elapsed();
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 50 });
    assert!(elapsed < limit, "{elapsed:?}");
    assert_eq!(table.shards(), 4);
}
