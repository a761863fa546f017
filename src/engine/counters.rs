//! Single-writer counters of a shard, summed on read, under Kea's names (API-70).
//!
//! A shard alone writes its counters; `statistic-get` asks every shard for a copy and adds the copies up.
//! Names of the product's own counters do not exist in Kea; they are listed apart, so that a caller can leave
//! them out. Gauges (`assigned-addresses`, `declined-addresses`) are counted by the owner of the address, so the
//! sum over shards is exact. `total-addresses` comes from the configuration alone ([`capacity`]).

use crate::policy::Subnet;

/// Declares an enum of counters with the statistic name of each.
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// Every counter, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Name of the statistic.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

counters! {
    /// A counter of the packet path that is not tied to a subnet.
    Counter {
        /// Datagrams received.
        Received = "pkt4-received",
        /// Datagrams sent.
        Sent = "pkt4-sent",
        /// DISCOVER received.
        DiscoverReceived = "pkt4-discover-received",
        /// OFFER received.
        OfferReceived = "pkt4-offer-received",
        /// REQUEST received.
        RequestReceived = "pkt4-request-received",
        /// ACK received.
        AckReceived = "pkt4-ack-received",
        /// NAK received.
        NakReceived = "pkt4-nak-received",
        /// RELEASE received.
        ReleaseReceived = "pkt4-release-received",
        /// DECLINE received.
        DeclineReceived = "pkt4-decline-received",
        /// INFORM received.
        InformReceived = "pkt4-inform-received",
        /// LEASEQUERY received.
        LeaseQueryReceived = "pkt4-lease-query-received",
        /// Any other type received.
        UnknownReceived = "pkt4-unknown-received",
        /// OFFER sent.
        OfferSent = "pkt4-offer-sent",
        /// ACK sent.
        AckSent = "pkt4-ack-sent",
        /// NAK sent.
        NakSent = "pkt4-nak-sent",
        /// Not a DHCP message.
        ParseFailed = "pkt4-parse-failed",
        /// Every query dropped, whatever the reason.
        ReceiveDrop = "pkt4-receive-drop",
        /// Dropped while the service is off.
        ServiceDisabled = "pkt4-service-disabled",
        /// Dropped at a limit.
        QueueFull = "pkt4-queue-full",
        /// Dropped as the retransmission of a parked query.
        Duplicate = "pkt4-duplicate",
        /// Dropped as against the RFC.
        RfcViolation = "pkt4-rfc-violation",
        /// Dropped by class.
        AdminFiltered = "pkt4-admin-filtered",
        /// Dropped as meant for another server.
        NotForUs = "pkt4-not-for-us",
        /// Dropped because its processing failed.
        ProcessingFailed = "pkt4-processing-failed",
        /// Dropped over a rate limit.
        LimitExceeded = "pkt4-limit-exceeded",
    }
}

counters! {
    /// The product's own counters.
    OwnCounter {
        /// Forwarded to the home shard.
        ForwardHome = "tandem-forward-home",
        /// Forwarded to the owner shard.
        ForwardOwner = "tandem-forward-owner",
        /// Forwarded to a shard that shows a free address.
        ForwardSpill = "tandem-forward-spill",
        /// Sent back because the index entry was stale.
        ForwardNotYours = "tandem-forward-not-yours",
        /// Not forwarded because the datagram lane was full.
        MeshDatagramFull = "tandem-mesh-datagram-full",
        /// Dropped before the commit because a state lane had no room.
        MeshStateFull = "tandem-mesh-state-full",
        /// Dropped before the commit because too many rows wait for the disk.
        JournalFull = "tandem-journal-full",
        /// Dropped before the commit because too many replies wait for the partner.
        ParkingFull = "tandem-parking-full",
        /// Replies parked.
        Parked = "tandem-parked",
        /// Parked replies released.
        Unparked = "tandem-unparked",
        /// Parked replies dropped after a refusal or failure of the partner.
        ParkedDropped = "tandem-parked-dropped",
        /// Parked replies dropped at their deadline.
        ParkedExpired = "tandem-parked-expired",
        /// Answers of partner or shard for a parked query that is gone.
        LateAnswer = "tandem-late-answer",
        /// Updates that were put off, given back by the control node, and had to wait for room at their sender.
        HandedBackWaits = "tandem-handed-back-waits",
        /// Queries out of our HA scope.
        OutOfScope = "tandem-out-of-scope",
        /// Queries whose lease updates were not sent (ha-protocol 4.8).
        UnsentUpdates = "tandem-unsent-updates",
        /// Queries and replies dropped because the server had stood still, and the partner was not heard since.
        StoodStill = "tandem-stood-still",
        /// Addresses that an update of the partner gave, or was to give, to another client than ours.
        LeaseConflicts = "tandem-lease-conflicts",
        /// Updates of a partner that a later one of its own had overtaken, so that they changed nothing.
        OvertakenUpdates = "tandem-overtaken-updates",
        /// Changes that a partner asks for of leases of another relationship, refused.
        ForeignUpdates = "tandem-foreign-updates",
        /// Held offers given to another client because nothing else was free.
        OfferHoldStolen = "tandem-offer-hold-stolen",
        /// Queries without a subnet.
        NoSubnet = "tandem-no-subnet",
        /// Replies that could not be written.
        ReplyFailed = "tandem-reply-failed",
        /// Messages this shard never expects.
        UnexpectedMessage = "tandem-unexpected-message",
        /// Queries dropped because they were forwarded too often.
        HopLimit = "tandem-hop-limit",
        /// Index entries not added because the index was full.
        IndexFull = "tandem-index-full",
        /// Reclaim cycles that left expired leases behind.
        ReclaimLeftovers = "tandem-reclaim-leftovers",
    }
}

counters! {
    /// A counter that exists globally and for each subnet; the first five also for each pool.
    LeaseCounter {
        /// Leases in force, declined ones included.
        Assigned = "assigned-addresses",
        /// Leases ever assigned since the start.
        CumulativeAssigned = "cumulative-assigned-addresses",
        /// Declined leases in force.
        Declined = "declined-addresses",
        /// Declined leases ever reclaimed.
        ReclaimedDeclined = "reclaimed-declined-addresses",
        /// Leases ever reclaimed.
        Reclaimed = "reclaimed-leases",
        /// Allocations that failed.
        AllocationFail = "v4-allocation-fail",
        /// … in a shared network.
        AllocationFailSharedNetwork = "v4-allocation-fail-shared-network",
        /// … in a subnet of no shared network.
        AllocationFailSubnet = "v4-allocation-fail-subnet",
        /// … without one address tried.
        AllocationFailNoPools = "v4-allocation-fail-no-pools",
        /// … of a client with classes.
        AllocationFailClasses = "v4-allocation-fail-classes",
        /// Reserved addresses found in use.
        ReservationConflicts = "v4-reservation-conflicts",
        /// Leases reused unchanged (ALC-52).
        LeaseReuses = "v4-lease-reuses",
    }
}

/// How many of [`LeaseCounter::ALL`] exist per pool.
pub const POOL_COUNTERS: usize = 5;

/// One value for each [`LeaseCounter`].
pub type LeaseCounts = [u64; LeaseCounter::ALL.len()];

/// Counters of one subnet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubnetStatistics {
    /// Subnet id.
    pub subnet_id: u32,
    /// By [`LeaseCounter`].
    pub counts: LeaseCounts,
    /// Pool id and its counters, by the first [`POOL_COUNTERS`] of [`LeaseCounter`], ascending by id.
    pub pools: Vec<(u32, [u64; POOL_COUNTERS])>,
}

/// Counters of one shard, copied out on demand; or the sum over shards.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ShardStatistics {
    /// By [`Counter`].
    pub counters: [u64; Counter::ALL.len()],
    /// By [`OwnCounter`].
    pub own: [u64; OwnCounter::ALL.len()],
    /// By [`LeaseCounter`], over all subnets, removed ones included for what never falls.
    pub leases: LeaseCounts,
    /// Ascending by subnet id.
    pub subnets: Vec<SubnetStatistics>,
    /// Datagrams that are no DHCP message, by the name of what is wrong.
    pub malformed: Vec<(&'static str, u64)>,
}

impl ShardStatistics {
    /// Adds the counters of another shard.
    pub fn add(&mut self, other: &Self) {
        add_each(&mut self.counters, &other.counters);
        add_each(&mut self.own, &other.own);
        add_each(&mut self.leases, &other.leases);
        for subnet in &other.subnets {
            let mine = subnet_entry(&mut self.subnets, subnet.subnet_id);
            add_each(&mut mine.counts, &subnet.counts);
            for (pool_id, counts) in &subnet.pools {
                add_each(pool_entry(&mut mine.pools, *pool_id), counts);
            }
        }
        for (name, count) in &other.malformed {
            *malformed_entry(&mut self.malformed, name) += count;
        }
    }

    /// Value of `counter`.
    pub fn count(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Value of `counter`.
    pub fn own(&self, counter: OwnCounter) -> u64 {
        self.own[counter as usize]
    }

    /// Value of `counter` over all subnets.
    pub fn lease(&self, counter: LeaseCounter) -> u64 {
        self.leases[counter as usize]
    }

    /// Counters of the subnet `subnet_id`.
    pub fn subnet(&self, subnet_id: u32) -> Option<&SubnetStatistics> {
        let place = self.subnets.binary_search_by_key(&subnet_id, |subnet| subnet.subnet_id).ok()?;
        Some(&self.subnets[place])
    }

    pub(crate) fn bump(&mut self, counter: Counter) {
        self.counters[counter as usize] += 1;
    }

    /// Counts a dropped query: its reason, and the sum of all drops.
    pub(crate) fn drop_query(&mut self, reason: Counter) {
        self.bump(reason);
        self.bump(Counter::ReceiveDrop);
    }

    pub(crate) fn bump_own(&mut self, counter: OwnCounter) {
        self.own[counter as usize] += 1;
    }

    /// Counts a malformed datagram; `name` comes from a fixed list, so the list here stays short.
    pub(crate) fn bump_malformed(&mut self, name: &'static str) {
        *malformed_entry(&mut self.malformed, name) += 1;
    }

    /// Changes a lease counter of the subnet, its pool where there is one, and the global sum.
    pub(crate) fn change_lease(
        &mut self,
        counter: LeaseCounter,
        subnet_id: u32,
        pool_id: Option<u32>,
        by: i64,
    ) {
        let change = |value: &mut u64| *value = value.saturating_add_signed(by);
        change(&mut self.leases[counter as usize]);
        // A subnet that left the configuration keeps no counters of its own (API-71).
        let Ok(place) = self.subnets.binary_search_by_key(&subnet_id, |subnet| subnet.subnet_id) else {
            return;
        };
        let subnet = &mut self.subnets[place];
        change(&mut subnet.counts[counter as usize]);
        if let Some(pool_id) = pool_id
            && (counter as usize) < POOL_COUNTERS
            && let Ok(pool) = subnet.pools.binary_search_by_key(&pool_id, |(id, _)| *id)
        {
            change(&mut subnet.pools[pool].1[counter as usize]);
        }
    }

    /// Keeps the counters of exactly these subnets and of their pools; new ones start at zero.
    pub(crate) fn keep_subnets(&mut self, subnets: &[Subnet]) {
        self.subnets.retain(|known| subnets.iter().any(|subnet| subnet.id == known.subnet_id));
        for subnet in subnets {
            let entry = subnet_entry(&mut self.subnets, subnet.id);
            entry.pools.retain(|(id, _)| subnet.pools.iter().any(|pool| pool.pool_id == *id));
            for pool in &subnet.pools {
                pool_entry(&mut entry.pools, pool.pool_id);
            }
        }
    }
}

/// How many addresses the pools of `subnet` hold (`total-addresses`).
pub fn capacity(subnet: &Subnet) -> u64 {
    let size =
        |pool: &crate::policy::Pool| u64::from(u32::from(pool.last).saturating_sub(pool.first.into())) + 1;
    subnet.pools.iter().map(size).sum()
}

fn add_each(to: &mut [u64], from: &[u64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

fn subnet_entry(subnets: &mut Vec<SubnetStatistics>, subnet_id: u32) -> &mut SubnetStatistics {
    let place = match subnets.binary_search_by_key(&subnet_id, |subnet| subnet.subnet_id) {
        Ok(place) => place,
        Err(place) => {
            let counts = [0; LeaseCounter::ALL.len()];
            subnets.insert(place, SubnetStatistics { subnet_id, counts, pools: Vec::new() });
            place
        }
    };
    &mut subnets[place]
}

fn pool_entry(pools: &mut Vec<(u32, [u64; POOL_COUNTERS])>, pool_id: u32) -> &mut [u64; POOL_COUNTERS] {
    let place = match pools.binary_search_by_key(&pool_id, |(id, _)| *id) {
        Ok(place) => place,
        Err(place) => {
            pools.insert(place, (pool_id, [0; POOL_COUNTERS]));
            place
        }
    };
    &mut pools[place].1
}

fn malformed_entry<'a>(malformed: &'a mut Vec<(&'static str, u64)>, name: &'static str) -> &'a mut u64 {
    let place = malformed.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
        malformed.push((name, 0));
        malformed.len() - 1
    });
    &mut malformed[place].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_speak_keas_language() {
        let mut names: Vec<&str> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        names.extend(OwnCounter::ALL.iter().map(|counter| counter.name()));
        names.extend(LeaseCounter::ALL.iter().map(|counter| counter.name()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(Counter::ParseFailed.name(), "pkt4-parse-failed");
    }

    #[test]
    fn sums_over_shards_add_every_kind_of_counter() {
        let mut one = ShardStatistics::default();
        subnet_entry(&mut one.subnets, 7);
        one.bump(Counter::Received);
        one.bump_malformed("short");
        one.change_lease(LeaseCounter::Assigned, 7, None, 1);
        let mut two = ShardStatistics::default();
        pool_entry(&mut subnet_entry(&mut two.subnets, 7).pools, 3);
        two.drop_query(Counter::QueueFull);
        two.bump_malformed("short");
        two.change_lease(LeaseCounter::Assigned, 7, Some(3), 2);
        one.add(&two);
        assert_eq!(one.count(Counter::Received), 1);
        assert_eq!(one.count(Counter::ReceiveDrop), 1);
        assert_eq!(one.lease(LeaseCounter::Assigned), 3);
        let subnet = one.subnet(7).unwrap();
        assert_eq!(subnet.counts[LeaseCounter::Assigned as usize], 3);
        assert_eq!(subnet.pools, [(3, [2, 0, 0, 0, 0])]);
        assert_eq!(one.malformed, [("short", 2)]);
    }

    #[test]
    fn counters_of_an_unknown_subnet_count_globally_only() {
        let mut statistics = ShardStatistics::default();
        statistics.change_lease(LeaseCounter::Reclaimed, 9, Some(0), 1);
        assert_eq!(statistics.lease(LeaseCounter::Reclaimed), 1);
        assert!(statistics.subnets.is_empty());
    }
}
