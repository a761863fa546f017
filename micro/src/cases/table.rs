//! One lease into the table of a shard that has a thousand or a million of them.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use shards::Lease;
use shards::partition::{FreeCounts, OwnerTable, Partition, PartitionLimits};
use tandem::engine::rules::{pool_sets, subnet_spaces};
use tandem::limits;

use super::Case;
use crate::messages::{Client, Kind};
use crate::site::{self, SEED, START};

pub const THOUSAND: &[&str] = &["upsert/renew-among-1000", "upsert/new-among-1000"];
pub const MILLION: &[&str] = &["upsert/renew-among-1000000", "upsert/new-among-1000000"];

const UNITS: u32 = 16;
const STEPS: u32 = 16;
/// Distance between the clients that come one after the other: prime, so that they are everywhere.
pub(super) const STRIDE: u32 = 7919;

pub fn thousand() -> Vec<Case> {
    cases(THOUSAND, 1_000)
}

pub fn million() -> Vec<Case> {
    cases(MILLION, 1_000_000)
}

fn cases(names: &'static [&'static str], leases: u32) -> Vec<Case> {
    let partition = Rc::new(RefCell::new(partition(leases)));
    let known: Vec<Lease> = (0..STEPS * UNITS)
        .map(|nth| {
            let mut lease = lease_of(nth.wrapping_mul(STRIDE) % leases);
            lease.cltt = START.wall_s();
            lease
        })
        .collect();
    let new: Vec<Lease> = (leases..leases + STEPS * UNITS).map(lease_of).collect();
    let case = |(&name, inputs): (&&'static str, Vec<Lease>)| {
        let partition = Rc::clone(&partition);
        let mut inputs = inputs.into_iter();
        let step = Box::new(move || {
            let mut partition = partition.borrow_mut();
            for _ in 0..UNITS {
                let lease = inputs.next().expect("a lease for each unit");
                partition.upsert(START, &lease);
            }
        });
        Case { name, units: UNITS, warm: 0, steps: STEPS, step }
    };
    names.iter().zip([known, new]).map(case).collect()
}

/// The table of the only shard.
fn partition(leases: u32) -> Partition {
    let spaces = subnet_spaces(&site::snapshot(0));
    let owners = Arc::new(OwnerTable::assign(1, SEED, &spaces, []));
    let free = Arc::new(FreeCounts::new(1, pool_sets(&spaces)));
    let limits = PartitionLimits {
        offer_hold_ms: limits::OFFER_HOLD_MS,
        offer_holds_max: limits::OFFER_HOLDS_MAX,
        index_entries_max: limits::INDEX_ENTRIES_MAX,
    };
    let mut partition = Partition::new(0, owners, free, &spaces, limits);
    for number in 0..leases {
        partition.upsert(START, &lease_of(number));
    }
    partition
}

fn lease_of(number: u32) -> Lease {
    let address: Ipv4Addr = site::address_of(number);
    site::lease(Client { number, kind: Kind::Plain }, address)
}
