//! Statistics under Kea's names (API-70, API-71) from the shards' summed counters.

use std::collections::BTreeMap;

use config::Dialect;
use serde_json::{Map, Value, json};

use crate::engine::counters::{Counter, LeaseCounter, OwnCounter, POOL_COUNTERS, ShardStatistics, capacity};
use crate::policy::{Snapshot, Subnet};
use crate::wire::error::WireError;

/// Counters that Kea has since 3.0 only. Exporters complain about names they do not know, so a server that
/// speaks the older dialect leaves them out.
const SINCE_3_0: [Counter; 9] = [
    Counter::AdminFiltered,
    Counter::Duplicate,
    Counter::LeaseQueryReceived,
    Counter::LimitExceeded,
    Counter::NotForUs,
    Counter::ProcessingFailed,
    Counter::QueueFull,
    Counter::RfcViolation,
    Counter::ServiceDisabled,
];

/// Counters told for each shard as well, as `tandem-shard[N].NAME`: whether the load is spread evenly.
const PER_SHARD: [Counter; 3] = [Counter::Received, Counter::ReceiveDrop, Counter::Sent];

/// Every statistic with its one sample; `timestamp` is the local time of reading, as Kea writes times. `process`
/// are counters kept outside the shards' engines; one that an engine has as well is added to.
pub fn all(
    shards: &[(u8, ShardStatistics)],
    process: &[(&'static str, u64)],
    snapshot: &Snapshot,
    dialect: Dialect,
    timestamp: &str,
) -> Map<String, Value> {
    let mut values: BTreeMap<String, u64> = BTreeMap::new();
    let mut put = |name: String, value: u64| *values.entry(name).or_default() += value;
    let mut sum = ShardStatistics::default();
    for (shard, statistics) in shards {
        sum.add(statistics);
        for counter in PER_SHARD {
            put(format!("tandem-shard[{shard}].{}", counter.name()), statistics.count(counter));
        }
    }
    put_counters(&sum, dialect, &mut put);
    for subnet in snapshot.subnets.iter() {
        put_subnet(&sum, subnet, dialect, &mut put);
    }
    let hidden =
        |name: &str| dialect == Dialect::Kea2_2 && SINCE_3_0.iter().any(|counter| counter.name() == name);
    for (name, value) in process.iter().filter(|(name, _)| !hidden(name)) {
        put((*name).to_owned(), *value);
    }
    values.into_iter().map(|(name, value)| (name, json!([[value, timestamp]]))).collect()
}

fn put_counters(sum: &ShardStatistics, dialect: Dialect, put: &mut impl FnMut(String, u64)) {
    for counter in Counter::ALL {
        if dialect == Dialect::Kea3 || !SINCE_3_0.contains(counter) {
            put(counter.name().to_owned(), sum.count(*counter));
        }
    }
    for counter in OwnCounter::ALL {
        put(counter.name().to_owned(), sum.own(*counter));
    }
    for counter in LeaseCounter::ALL {
        if dialect == Dialect::Kea3 || *counter != LeaseCounter::Assigned {
            put(counter.name().to_owned(), sum.lease(*counter));
        }
    }
    for error in WireError::ALL {
        let name = error.counter_name();
        let count = sum.malformed.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count);
        put(name.to_owned(), count);
    }
}

fn put_subnet(sum: &ShardStatistics, subnet: &Subnet, dialect: Dialect, put: &mut impl FnMut(String, u64)) {
    let found = sum.subnet(subnet.id);
    let name = |name: &str| format!("subnet[{}].{name}", subnet.id);
    put(name("total-addresses"), capacity(subnet));
    for counter in LeaseCounter::ALL {
        put(name(counter.name()), found.map_or(0, |found| found.counts[*counter as usize]));
    }
    if dialect == Dialect::Kea2_2 {
        return;
    }
    let mut pool_ids: Vec<u32> = subnet.pools.iter().map(|pool| pool.pool_id).collect();
    pool_ids.sort_unstable();
    pool_ids.dedup();
    for pool_id in pool_ids {
        let size = |pool: &crate::policy::Pool| {
            u64::from(u32::from(pool.last).saturating_sub(pool.first.into())) + 1
        };
        let total = subnet.pools.iter().filter(|pool| pool.pool_id == pool_id).map(size).sum();
        let name = |name: &str| format!("subnet[{}].pool[{pool_id}].{name}", subnet.id);
        put(name("total-addresses"), total);
        let counts = found
            .and_then(|found| found.pools.iter().find(|(id, _)| *id == pool_id))
            .map(|(_, counts)| counts);
        for (index, counter) in LeaseCounter::ALL.iter().take(POOL_COUNTERS).enumerate() {
            put(name(counter.name()), counts.map_or(0, |counts| counts[index]));
        }
    }
}
