//! Which client gets which address, over several shards.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use shards::{Lease, LeaseState, SmallBytes};
use tandem::client::{Client, ClientState};
use tandem::dhcp4::request::reusable_lifetime;
use tandem::engine::counters::{Counter, LeaseCounter, OwnCounter};
use tandem::engine::message::{ShardCommandBody, ShardReplyBody};
use tandem::wire::codes::MessageType;

use super::clients::{Ask, Heard, duid_client_id, hardware, plain, rfc_4361};
use super::world::{World, snapshot};

const POOL_OF_100: &str = "192.0.2.100 - 192.0.2.199";

fn address_of(client: &Client) -> Ipv4Addr {
    client.lease().unwrap_or_else(|| panic!("{:?} has no lease", client.config().hardware_address)).address
}

/// An address of the pool without lease that `shard` owns (or, with `false`, does not).
fn free_address(world: &mut World, shard: u8, owned: bool) -> Ipv4Addr {
    (100..200)
        .map(|octet| Ipv4Addr::new(192, 0, 2, octet))
        .find(|&address| {
            (world.rules.owners.owner_of(address) == shard) == owned && world.lease(address).is_none()
        })
        .expect("a free address")
}

/// A lease in force of client `number` at the address 192.0.2.(100 + `place`), as it comes from a lease file.
fn loaded_lease(place: u8, number: u8, client_id: &[u8]) -> Lease {
    Lease {
        address: Ipv4Addr::new(192, 0, 2, 100 + place),
        subnet_id: 1,
        pool_id: 0,
        hwaddr: SmallBytes::new(&hardware(number.into())),
        client_id: SmallBytes::new(client_id),
        valid_lifetime: 600,
        cltt: 1_699_999_900,
        state: LeaseState::Default,
        fqdn_fwd: false,
        fqdn_rev: false,
        hostname: SmallBytes::empty(),
        user_context: None,
    }
}

/// 100 clients at once on a pool of 100 over four shards, in a different order per seed; the 101st hears nothing.
#[test]
fn a_pool_of_100_serves_100_clients_with_different_addresses_and_no_101st() {
    for seed in 0..20 {
        let mut world = World::new(seed, 4, snapshot(POOL_OF_100, ""), Vec::new());
        // Every second world's clients have their home elsewhere than where they arrive.
        let identify = if seed.is_multiple_of(2) { plain } else { rfc_4361 };
        let clients = world.join_all((0..100).map(identify).collect(), 60);
        let addresses: BTreeSet<Ipv4Addr> = clients.iter().map(address_of).collect();
        assert_eq!(addresses.len(), 100, "seed {seed}");
        let late = world.join(identify(100));
        assert_eq!(late.state(), ClientState::Selecting, "seed {seed}");
        let statistics = world.statistics();
        assert_eq!(statistics.lease(LeaseCounter::Assigned), 100, "seed {seed}");
        assert_eq!(statistics.lease(LeaseCounter::CumulativeAssigned), 100, "seed {seed}");
        assert_eq!(statistics.lease(LeaseCounter::AllocationFail), 1, "seed {seed}");
        assert_eq!(statistics.own(OwnCounter::HopLimit), 0, "seed {seed}");
        assert_eq!(statistics.own(OwnCounter::OfferHoldStolen), 0, "seed {seed}");
        assert_eq!(world.leases().len(), 100, "seed {seed}");
    }
}

#[test]
fn ordinary_clients_are_served_without_forwarding() {
    let mut world = World::new(3, 4, snapshot("192.0.2.10 - 192.0.2.250", ""), Vec::new());
    let with_ethernet_id = |number| {
        let mut config = plain(number);
        config.client_id = Some([&[1][..], &hardware(number)].concat());
        config
    };
    let mut clients = world.join_all((0..30).map(plain).chain((30..60).map(with_ethernet_id)).collect(), 10);
    for client in &mut clients {
        let before = address_of(client);
        world.pass_s(1);
        client.renew(world.now.monotonic_ns);
        world.converse(client);
        assert_eq!((client.state(), address_of(client)), (ClientState::Bound, before));
    }
    let statistics = world.statistics();
    for counter in [OwnCounter::ForwardHome, OwnCounter::ForwardOwner, OwnCounter::ForwardSpill] {
        assert_eq!(statistics.own(counter), 0, "{}", counter.name());
    }
    assert_eq!(statistics.count(Counter::AckSent), 120);
}

#[test]
fn clients_with_foreign_identifiers_keep_their_address_over_discover_and_renewal() {
    for seed in 0..5 {
        let mut world = World::new(seed, 4, snapshot(POOL_OF_100, ""), Vec::new());
        let mut clients = world.join_all((0..40).map(rfc_4361).collect(), 20);
        let before: Vec<Ipv4Addr> = clients.iter().map(address_of).collect();
        assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 40);
        for (number, client) in (0..).zip(&mut clients) {
            client.renew(world.now.monotonic_ns);
            world.converse(client);
            assert_eq!(address_of(client), before[number as usize], "renewal");
            // The same identity from other hardware gets the same lease (ALC-12).
            let ask = Ask {
                client_id: Some(duid_client_id(number)),
                ..Ask::new(MessageType::Discover, 500 + number)
            };
            assert_eq!(world.ask(&ask), Some(Heard::Offer(before[number as usize])), "seed {seed}");
        }
        assert!(world.own(OwnCounter::ForwardHome) > 0);
        assert_eq!(world.own(OwnCounter::HopLimit), 0);
    }
}

#[test]
fn a_query_that_reaches_the_wrong_shard_is_answered_all_the_same() {
    let mut world = World::new(5, 4, snapshot(POOL_OF_100, ""), Vec::new());
    for number in 0..8 {
        for shard in 0..4 {
            let (source, destination, bytes) = Ask::new(MessageType::Discover, number).write();
            world.deliver_to(shard, source, destination, &bytes);
            world.settle();
            assert!(matches!(world.heard(), Some(Heard::Offer(_))), "client {number} at shard {shard}");
        }
    }
    assert!(world.own(OwnCounter::ForwardHome) > 0);
}

#[test]
fn a_retransmitted_discover_is_offered_the_same_address() {
    let mut world = World::new(6, 4, snapshot(POOL_OF_100, ""), Vec::new());
    let first = world.ask(&Ask::new(MessageType::Discover, 1));
    assert!(matches!(first, Some(Heard::Offer(_))));
    assert_eq!(world.ask(&Ask::new(MessageType::Discover, 1)), first);
}

#[test]
fn an_address_of_another_shard_is_offered_and_granted_when_asked_for() {
    let mut world = World::new(7, 4, snapshot(POOL_OF_100, ""), Vec::new());
    for number in 0..10 {
        let arrival = world.steering.shard_of_hardware(&hardware(number));
        let wanted = free_address(&mut world, arrival, false);
        let mut config = plain(number);
        config.requested_address = Some(wanted);
        assert_eq!(address_of(&world.join(config)), wanted);
        let lease = world.lease(wanted).expect("the lease");
        assert_eq!(lease.hwaddr, SmallBytes::new(&hardware(number)));
        // Found again through the index, which lies at the arrival shard.
        let again = world.ask(&Ask::new(MessageType::Discover, number));
        assert_eq!(again, Some(Heard::Offer(wanted)));
    }
}

#[test]
fn selecting_follows_pkt_71() {
    let mut world = World::new(8, 4, snapshot(POOL_OF_100, ""), Vec::new());
    let taken = address_of(&world.join(plain(1)));
    for number in 2..12 {
        assert_eq!(world.ask(&Ask::select(number, taken)), Some(Heard::Nak), "in use");
        let outside = Ipv4Addr::new(192, 0, 2, 50);
        assert_eq!(world.ask(&Ask::select(number, outside)), None, "in no pool");
        let free = free_address(&mut world, 0, true);
        assert_eq!(world.ask(&Ask::select(number, free)), Some(Heard::Ack(free)), "free");
    }
}

#[test]
fn init_reboot_follows_pkt_72() {
    for (authoritative, stranger) in [("", None), (r#", "authoritative": true"#, Some(Heard::Nak))] {
        for identify in [plain, rfc_4361] {
            let mut world = World::new(9, 4, snapshot(POOL_OF_100, authoritative), Vec::new());
            for number in 0..12 {
                let config = identify(number);
                let client_id = config.client_id.clone();
                let address = address_of(&world.join(config));
                let ask = |address| Ask { client_id: client_id.clone(), ..Ask::reboot(number, address) };
                assert_eq!(world.ask(&ask(address)), Some(Heard::Ack(address)), "its own");
                let other = free_address(&mut world, (number % 4) as u8, true);
                assert_eq!(world.ask(&ask(other)), Some(Heard::Nak), "another than its own");
                assert_eq!(world.ask(&Ask::reboot(100 + number, other)), stranger, "a stranger, free");
                assert_eq!(world.ask(&Ask::reboot(100 + number, address)), stranger, "a stranger, taken");
            }
        }
    }
}

#[test]
fn renewals_follow_pkt_73() {
    let mut world = World::new(10, 4, snapshot(POOL_OF_100, ""), Vec::new());
    let address = address_of(&world.join(plain(1)));
    assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)), "own");
    assert_eq!(world.ask(&Ask::renew(2, address)), Some(Heard::Nak), "another's");
    for shard in 0..4 {
        let lost = free_address(&mut world, shard, true);
        assert_eq!(world.ask(&Ask::renew(3, lost)), Some(Heard::Ack(lost)), "re-created");
        assert_eq!(world.ask(&Ask::release(3, lost)), None);
    }
    assert_eq!(world.ask(&Ask::renew(1, Ipv4Addr::new(192, 0, 2, 50))), None, "in no pool");
}

/// The old lease is deleted by its owner before the ACK leaves, wherever both lie.
#[test]
fn a_client_that_moves_leaves_no_lease_behind() {
    for identify in [plain, rfc_4361] {
        let mut world = World::new(11, 4, snapshot(POOL_OF_100, ""), Vec::new());
        for number in 0..6 {
            for shard in 0..4 {
                let config = identify(number);
                let client_id = config.client_id.clone();
                let before = address_of(&world.join(config));
                let new = free_address(&mut world, shard, true);
                let ask = Ask { client_id, xid: 77, ..Ask::select(number, new) };
                assert_eq!(world.ask(&ask), Some(Heard::Ack(new)));
                assert_eq!(world.lease(before), None, "client {number} to shard {shard}");
                assert_eq!(world.lease(new).map(|lease| lease.state), Some(LeaseState::Default));
            }
        }
        assert_eq!(world.leases().len(), 6);
        assert_eq!(world.statistics().lease(LeaseCounter::Assigned), 6);
    }
}

#[test]
fn a_released_address_is_kept_for_its_client_and_given_to_another_in_need() {
    let mut world = World::new(12, 4, snapshot("192.0.2.100 - 192.0.2.103", ""), Vec::new());
    let mut clients: Vec<Client> = (0..4).map(|number| world.join(plain(number))).collect();
    let address = address_of(&clients[2]);
    let now = world.now.monotonic_ns;
    clients[2].release(now);
    world.converse(&mut clients[2]);
    let row = world.lease(address).expect("kept for affinity");
    assert_eq!((row.state, row.valid_lifetime), (LeaseState::Released, 0));
    assert_eq!(world.statistics().lease(LeaseCounter::Assigned), 3);
    assert_eq!(world.ask(&Ask::new(MessageType::Discover, 2)), Some(Heard::Offer(address)), "ALC-70");
    world.pass_s(11);
    assert_eq!(address_of(&world.join(plain(9))), address, "the last address is found");
    assert_eq!(world.ask(&Ask::renew(2, address)), Some(Heard::Nak), "it is gone for the first one");
}

#[test]
fn a_release_by_another_client_changes_nothing() {
    let mut world = World::new(13, 4, snapshot(POOL_OF_100, ""), Vec::new());
    let address = address_of(&world.join(plain(1)));
    let before = world.lease(address);
    assert_eq!(world.ask(&Ask::release(2, address)), None);
    assert_eq!(world.ask(&Ask::decline(2, address)), None);
    assert_eq!(world.lease(address), before);
}

#[test]
fn a_declined_address_is_out_of_use_for_the_probation_period() {
    let keys = "";
    let mut world = World::new(14, 4, snapshot("192.0.2.100 - 192.0.2.101", keys), Vec::new());
    let address = address_of(&world.join(plain(1)));
    assert_eq!(world.ask(&Ask::decline(1, address)), None);
    let row = world.lease(address).expect("the row");
    assert_eq!((row.state, row.valid_lifetime), (LeaseState::Declined, 86_400));
    assert!(row.hwaddr.is_empty());
    let statistics = world.statistics();
    let counts = (statistics.lease(LeaseCounter::Assigned), statistics.lease(LeaseCounter::Declined));
    assert_eq!(counts, (1, 1), "PKT-78");
    assert_ne!(address_of(&world.join(plain(1))), address);
    assert_eq!(world.join(plain(2)).state(), ClientState::Selecting, "nothing is left");
    world.pass_s(5);
    world.now.wall_ms += 86_401_000;
    world.pass_s(30);
    assert_eq!(world.lease(address), None, "reclaimed and deleted");
    assert_eq!(world.statistics().lease(LeaseCounter::ReclaimedDeclined), 1);
}

#[test]
fn an_expired_address_is_reclaimed_kept_for_affinity_and_given_again() {
    let mut world = World::new(15, 2, snapshot("192.0.2.100 - 192.0.2.101", ""), Vec::new());
    let first = address_of(&world.join(plain(1)));
    let second = address_of(&world.join(plain(2)));
    world.now.wall_ms += 601_000;
    world.pass_s(15);
    assert_eq!(world.lease(first).map(|lease| lease.state), Some(LeaseState::ExpiredReclaimed), "ALC-43");
    assert_eq!(world.statistics().lease(LeaseCounter::Reclaimed), 2);
    assert_eq!(world.statistics().lease(LeaseCounter::Assigned), 0);
    assert_eq!(world.ask(&Ask::new(MessageType::Discover, 2)), Some(Heard::Offer(second)), "ALC-70");
    assert_eq!(address_of(&world.join(plain(3))), first, "the other one is left for the newcomer");
    world.now.wall_ms += 3_600_000;
    world.pass_s(60);
    assert_eq!(world.lease(second), None, "ALC-45: purged after the hold time");
}

#[test]
fn leases_loaded_at_start_are_found_by_their_clients_and_stay_with_their_owners() {
    let plain_leases = (0..20).map(|number| loaded_lease(number, number, &[]));
    let odd_leases = (20..40).map(|number: u8| loaded_lease(number, number, &duid_client_id(number.into())));
    let loaded: Vec<Lease> = plain_leases.chain(odd_leases).collect();
    let mut world = World::new(16, 4, snapshot(POOL_OF_100, ""), loaded.clone());
    assert_eq!(world.leases(), loaded);
    for lease in &loaded {
        let number = u32::from(lease.address.octets()[3]) - 100;
        let client_id = Some(lease.client_id.to_vec()).filter(|client_id| !client_id.is_empty());
        let ask = Ask { client_id, ..Ask::new(MessageType::Discover, number) };
        assert_eq!(world.ask(&ask), Some(Heard::Offer(lease.address)));
    }
}

#[test]
fn a_renewed_lease_is_given_from_the_cache_without_a_row() {
    let keys = r#", "cache-threshold": 0.5"#;
    let mut world = World::new(17, 2, snapshot(POOL_OF_100, keys), Vec::new());
    let address = address_of(&world.join(plain(1)));
    let rows = world.journal_text().len();
    world.pass_s(100);
    assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)));
    assert_eq!(world.journal_text().len(), rows, "ALC-52: no row");
    assert_eq!(world.statistics().lease(LeaseCounter::LeaseReuses), 1);
    world.pass_s(250);
    assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)));
    assert!(world.journal_text().len() > rows, "too old for the cache");
}

#[test]
fn malformed_foreign_and_unplaceable_queries_are_counted_by_reason() {
    let mut world = World::new(18, 2, snapshot(POOL_OF_100, ""), Vec::new());
    world.deliver(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &[0; 100]);
    let mut foreign = Ask::select(1, Ipv4Addr::new(192, 0, 2, 100));
    foreign.server_id = false;
    foreign.kind = MessageType::Offer;
    assert_eq!(world.ask(&foreign), None);
    let statistics = world.statistics();
    assert_eq!(statistics.count(Counter::Received), 2);
    assert_eq!(statistics.count(Counter::ParseFailed), 1);
    assert_eq!(statistics.malformed, [("tandem-malformed-too-short", 1)]);
    assert_eq!(statistics.count(Counter::OfferReceived), 1);
    assert_eq!(statistics.count(Counter::RfcViolation), 1);
    assert_eq!(statistics.count(Counter::ReceiveDrop), 2);
}

#[test]
fn with_an_offer_lifetime_the_offer_is_a_short_lease_that_a_request_makes_whole() {
    let mut world = World::new(19, 2, snapshot(POOL_OF_100, r#", "offer-lifetime": 30"#), Vec::new());
    let Some(Heard::Offer(address)) = world.ask(&Ask::new(MessageType::Discover, 1)) else {
        panic!("no offer");
    };
    assert_eq!(world.lease(address).map(|lease| lease.valid_lifetime), Some(30), "PKT-94");
    assert_eq!(world.ask(&Ask::select(2, address)), Some(Heard::Nak), "it is the first client's");
    assert_eq!(world.ask(&Ask::select(1, address)), Some(Heard::Ack(address)));
    assert_eq!(world.lease(address).map(|lease| lease.valid_lifetime), Some(600));
    assert_eq!(world.statistics().lease(LeaseCounter::Assigned), 1);
}

#[test]
fn the_relays_information_is_kept_in_the_lease_until_another_comes() {
    let keys = r#", "store-extended-info": true"#;
    let mut world = World::new(20, 2, snapshot(POOL_OF_100, keys), Vec::new());
    let address = free_address(&mut world, 0, true);
    let agent_options = vec![1, 2, 0xab, 0xcd, 2, 1, 0x0f];
    let ask = Ask { agent_options, ..Ask::select(1, address) };
    assert_eq!(world.ask(&ask), Some(Heard::Ack(address)));
    let text = "{ \"ISC\": { \"relay-agent-info\": { \"remote-id\": \"0F\", \"sub-options\": \"0x0102ABCD02010F\" } } }";
    let kept = |world: &mut World| {
        let context = world.lease(address).and_then(|lease| lease.user_context);
        context.map(|context| String::from_utf8_lossy(&context).into_owned())
    };
    assert_eq!(kept(&mut world).as_deref(), Some(text), "PKT-92");
    world.pass_s(1);
    assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)));
    assert_eq!(kept(&mut world).as_deref(), Some(text), "a renewal without the option changes nothing");
}

#[test]
fn an_inform_is_answered_with_options_and_keeps_nothing() {
    let mut world = World::new(21, 2, snapshot(POOL_OF_100, ""), Vec::new());
    let ciaddr = Ipv4Addr::new(192, 0, 2, 77);
    let ask = Ask { ciaddr, ..Ask::new(MessageType::Inform, 1) };
    assert_eq!(world.ask(&ask), Some(Heard::Ack(Ipv4Addr::UNSPECIFIED)), "PKT-79");
    assert!(world.leases().is_empty() && world.journal_text().is_empty());
}

#[test]
fn what_the_journals_say_is_what_the_shards_hold() {
    let mut world = World::new(22, 4, snapshot(POOL_OF_100, ""), Vec::new());
    let mut clients: Vec<Client> = (0..30).map(|number| world.join(rfc_4361(number))).collect();
    for client in clients.iter_mut().take(10) {
        let now = world.now.monotonic_ns;
        client.release(now);
        world.converse(client);
    }
    world.ask(&Ask { client_id: Some(duid_client_id(20)), ..Ask::decline(20, address_of(&clients[20])) });
    world.pass_s(700);
    world.now.wall_ms += 86_400_000;
    world.pass_s(60);
    let text = world.journal_text();
    let mut bytes = Vec::new();
    shards::journal::row::write_header(&mut bytes, shards::journal::Columns::Twelve);
    bytes.extend_from_slice(text.as_bytes());
    let files = shards::journal::LeaseFiles { current: Some(&bytes), ..Default::default() };
    let mut replayed = std::collections::BTreeMap::new();
    let recovery = shards::journal::replay::recover(&files, 1, |row| {
        if row.deleted {
            replayed.remove(&row.lease.address);
        } else {
            replayed.insert(row.lease.address, row.lease);
        }
    })
    .expect("the rows can be read");
    assert_eq!(recovery.bad_rows, 0);
    assert!(recovery.rows > 41, "{} rows", recovery.rows);
    assert_eq!(replayed.into_values().collect::<Vec<_>>(), world.leases());
}

#[test]
fn one_shard_offers_in_keas_iterative_order_and_skips_what_it_is_told_to() {
    let mut world = World::new(23, 1, snapshot("192.0.2.253 - 192.0.2.255", ""), Vec::new());
    let mut next = |number| world.ask(&Ask::new(MessageType::Discover, number));
    for (number, octet) in [(1, 253), (2, 254), (3, 255)] {
        assert_eq!(next(number), Some(Heard::Offer(Ipv4Addr::new(192, 0, 2, octet))), "b.6");
    }
    assert_eq!(next(4), Some(Heard::Offer(Ipv4Addr::new(192, 0, 2, 253))), "the oldest hold is used again");
    let mut skipping = snapshot("192.0.2.254 - 192.0.2.255", "");
    skipping.exclude_first_last_24 = true;
    let mut world = World::new(24, 1, skipping, Vec::new());
    assert_eq!(address_of(&world.join(plain(1))).octets()[3], 254);
    assert_eq!(world.join(plain(2)).state(), ClientState::Selecting, "ALC-35");
}

/// 40 leases run out at once; a cycle takes 10, and the ones left behind are warned about.
#[test]
fn reclamation_keeps_to_its_limits_and_says_when_it_does_not_keep_up() {
    let mut slow = snapshot(POOL_OF_100, "");
    slow.expired_leases.max_reclaim_leases = 10;
    slow.expired_leases.unwarned_reclaim_cycles = 1;
    let mut world = World::new(25, 1, slow, Vec::new());
    for number in 0..40 {
        world.join(plain(number));
    }
    world.pass_s(1);
    world.now.wall_ms += 700_000;
    let mut seen = Vec::new();
    for _ in 0..45 {
        world.pass_s(1);
        let reclaimed = world.statistics().lease(LeaseCounter::Reclaimed);
        if seen.last() != Some(&reclaimed) {
            seen.push(reclaimed);
        }
    }
    assert_eq!(seen, [0, 10, 20, 30, 40]);
    assert_eq!(world.own(OwnCounter::ReclaimLeftovers), 3);
    let warnings =
        world.events.iter().filter(|event| event.id() == "ALLOC_ENGINE_V4_LEASES_RECLAMATION_SLOW").count();
    assert_eq!(warnings, 1);
}

#[test]
fn leases_are_listed_in_pages_and_found_by_identity() {
    let mut world = World::new(26, 4, snapshot(POOL_OF_100, ""), Vec::new());
    for number in 0..20 {
        world.join(rfc_4361(number));
    }
    let all = world.leases();
    for shard in 0..4 {
        let mine: Vec<Lease> =
            all.iter().filter(|lease| world.rules.owners.owner_of(lease.address) == shard).cloned().collect();
        let mut paged = Vec::new();
        loop {
            let after = paged.last().map(|lease: &Lease| lease.address);
            let page = ShardCommandBody::Page { after, limit: 3, subnets: vec![1] };
            match world.command(shard, page) {
                Some(ShardReplyBody::Leases(leases)) if leases.is_empty() => break,
                Some(ShardReplyBody::Leases(leases)) => paged.extend(leases),
                other => panic!("no page: {other:?}"),
            }
        }
        assert_eq!(paged, mine);
        for lease in mine {
            for (by_client_id, identity) in [(true, &lease.client_id), (false, &lease.hwaddr)] {
                let identity = identity.clone();
                let found = world
                    .command(shard, ShardCommandBody::GetByIdentity { by_client_id, identity, after: None });
                assert!(matches!(found, Some(ShardReplyBody::Leases(found)) if found == [lease.clone()]));
            }
        }
    }
}

#[test]
fn a_client_that_renews_one_of_two_leases_keeps_only_that_one() {
    for place in [50, 51, 52, 53, 60, 70, 80, 90] {
        let client_id = duid_client_id(7);
        let loaded = vec![loaded_lease(10, 7, &client_id), loaded_lease(place, 7, &client_id)];
        let mut world = World::new(27, 4, snapshot(POOL_OF_100, ""), loaded.clone());
        let kept = loaded[1].address;
        let ask = Ask { client_id: Some(client_id), ..Ask::renew(7, kept) };
        assert_eq!(world.ask(&ask), Some(Heard::Ack(kept)));
        let addresses: Vec<Ipv4Addr> = world.leases().iter().map(|lease| lease.address).collect();
        assert_eq!(addresses, [kept]);
    }
    // Two systems on one machine, told apart by their client identifiers, keep their leases.
    let (one, two) = (duid_client_id(1), duid_client_id(2));
    let loaded = vec![loaded_lease(10, 7, &one), loaded_lease(20, 7, &two)];
    let mut world = World::new(28, 4, snapshot(POOL_OF_100, ""), loaded.clone());
    for (lease, client_id) in loaded.iter().zip([one, two]) {
        let ask = Ask { client_id: Some(client_id), ..Ask::renew(7, lease.address) };
        assert_eq!(world.ask(&ask), Some(Heard::Ack(lease.address)), "ALC-11");
    }
    assert_eq!(world.leases().len(), 2);
}

#[test]
fn a_lease_is_given_from_the_cache_only_as_alc_51_says() {
    let subnet = |threshold: Option<f64>, max_age_s: Option<u32>| {
        let mut subnet = snapshot(POOL_OF_100, "").subnets[0].clone();
        (subnet.cache_threshold, subnet.cache_max_age_s) = (threshold, max_age_s);
        subnet
    };
    let old = loaded_lease(1, 1, &[]);
    let infinite = Lease { valid_lifetime: u32::MAX, ..old.clone() };
    let renamed = Lease { hostname: SmallBytes::new(b"other"), ..old.clone() };
    let longer = Lease { valid_lifetime: 900, ..old.clone() };
    let released = Lease { state: LeaseState::Released, ..old.clone() };
    let rows = [
        ("off", None, None, 10, &old, &old, None),
        ("off by age", Some(0.5), Some(0), 10, &old, &old, None),
        ("young", Some(0.5), None, 300, &old, &old, Some(300)),
        ("too old", Some(0.5), None, 301, &old, &old, None),
        ("young by age", None, Some(20), 20, &old, &old, Some(580)),
        ("too old by age", None, Some(20), 21, &old, &old, None),
        ("both, one says no", Some(0.5), Some(20), 21, &old, &old, None),
        ("expired", None, Some(9999), 601, &old, &old, None),
        ("its last second", None, Some(9999), 600, &old, &old, None),
        ("infinite", Some(0.1), None, 1_000_000, &infinite, &infinite, Some(u32::MAX)),
        ("another name", Some(0.5), None, 10, &old, &renamed, None),
        ("another lifetime", Some(0.5), None, 10, &old, &longer, None),
        ("released", Some(0.5), None, 10, &released, &old, None),
    ];
    for (case, threshold, max_age_s, age_s, old, new, expected) in rows {
        let lifetime = reusable_lifetime(&subnet(threshold, max_age_s), old, new, old.cltt + age_s);
        assert_eq!(lifetime, expected, "{case}");
    }
    let set_back = reusable_lifetime(&subnet(Some(0.5), None), &old, &old, old.cltt - 1);
    assert_eq!(set_back, None, "the clock was set back");
}
