//! The ends of the ranges: pools of one address, 64 shards, lifetimes without end, clocks that are set, clients without
//! a hardware address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use tandem::engine::counters::{Counter, OwnCounter};
use tandem::engine::event::EventKind;
use tandem::wire::codes::MessageType;

use super::clients::{Ask, Heard, duid_client_id};
use super::world::{SERVER, World, snapshot};

const ONLY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const POOL_OF_ONE: &str = "192.0.2.100 - 192.0.2.100";
const POOL_OF_TWO: &str = "192.0.2.100 - 192.0.2.101";
const YEAR_S: u64 = 365 * 86_400;

/// DISCOVER and REQUEST of client `number`; the address it got.
fn lease(world: &mut World, number: u32) -> Option<Ipv4Addr> {
    match world.ask(&Ask::new(MessageType::Discover, number)) {
        Some(Heard::Offer(address)) => match world.ask(&Ask::select(number, address)) {
            Some(Heard::Ack(granted)) => Some(granted),
            other => panic!("no ACK for an offer: {other:?}"),
        },
        None => None,
        other => panic!("an answer to a DISCOVER: {other:?}"),
    }
}

/// Sets the wall clock; timers run on as if nothing had happened.
fn set_clock(world: &mut World, by_s: i64) {
    world.now.wall_ms = world.now.wall_ms.saturating_add_signed(by_s * 1000);
    world.pass_s(2);
}

#[test]
fn a_pool_of_one_serves_one_client_at_a_time_over_any_number_of_shards() {
    for shards in [1, 4, 64] {
        for seed in 0..5 {
            let mut world = World::new(seed, shards, snapshot(POOL_OF_ONE, ""), Vec::new());
            for number in 0..10 {
                assert_eq!(lease(&mut world, number), Some(ONLY), "{shards} shards, seed {seed}");
                assert_eq!(lease(&mut world, number + 100), None, "{shards} shards, seed {seed}");
                assert_eq!(world.ask(&Ask::select(number + 100, ONLY)), Some(Heard::Nak));
                assert_eq!(world.ask(&Ask::renew(number, ONLY)), Some(Heard::Ack(ONLY)));
                assert_eq!(world.ask(&Ask::release(number, ONLY)), None);
            }
            assert_eq!(world.own(OwnCounter::HopLimit), 0, "{shards} shards, seed {seed}");
        }
    }
}

#[test]
fn sixty_four_shards_give_every_address_of_a_small_pool_once() {
    for seed in 0..3 {
        let pool = snapshot("192.0.2.100 - 192.0.2.149", "");
        let mut world = World::new(seed, 64, pool, Vec::new());
        let given: BTreeSet<_> = (0..50).filter_map(|number| lease(&mut world, number)).collect();
        assert_eq!(given.len(), 50, "seed {seed}");
        assert_eq!(lease(&mut world, 50), None, "seed {seed}");
    }
}

#[test]
fn a_lease_without_end_is_still_there_after_a_hundred_years() {
    let keys = r#", "valid-lifetime": 4294967295"#;
    let mut world = World::new(1, 4, snapshot(POOL_OF_ONE, keys), Vec::new());
    assert_eq!(lease(&mut world, 1), Some(ONLY));
    set_clock(&mut world, 100 * YEAR_S as i64);
    assert_eq!(lease(&mut world, 2), None);
    assert_eq!(world.ask(&Ask::renew(1, ONLY)), Some(Heard::Ack(ONLY)));
    assert_eq!(world.ask(&Ask::release(1, ONLY)), None);
    assert_eq!(lease(&mut world, 2), Some(ONLY));
}

#[test]
fn a_clock_that_is_set_back_or_forward_gives_no_address_twice() {
    for step_s in [-10 * YEAR_S as i64, -3_600, 3_600, 10 * YEAR_S as i64] {
        for seed in 0..4 {
            let mut world = World::new(seed, 4, snapshot(POOL_OF_TWO, ""), Vec::new());
            let first = lease(&mut world, 1).expect("an address");
            set_clock(&mut world, step_s);
            // Whatever the clock says, a client that is there keeps what it has, and nobody else gets it.
            assert_eq!(world.ask(&Ask::renew(1, first)), Some(Heard::Ack(first)), "step {step_s}");
            let second = lease(&mut world, 2).expect("the other address");
            assert_ne!(first, second, "step {step_s}");
            assert_eq!(lease(&mut world, 3), None, "step {step_s}");
            set_clock(&mut world, -step_s);
            assert_eq!(world.ask(&Ask::renew(1, first)), Some(Heard::Ack(first)), "step {step_s} back");
            assert_eq!(world.ask(&Ask::renew(2, second)), Some(Heard::Ack(second)), "step {step_s} back");
            assert_eq!(lease(&mut world, 3), None, "step {step_s} back");
            let steps = world.events.iter().filter_map(|event| match event.kind {
                EventKind::ClockStep { seconds } => Some(seconds),
                _ => None,
            });
            assert_eq!(steps.collect::<Vec<_>>(), [step_s, -step_s]);
            // Both run out in the end.
            world.pass_s(2_000);
            let late = lease(&mut world, 3).expect("an address that has run out");
            assert_ne!(Some(late), lease(&mut world, 4), "step {step_s}: run out");
        }
    }
}

#[test]
fn clients_without_a_hardware_address_are_known_by_their_identifier_or_not_at_all() {
    for shards in [1, 4] {
        let mut world = World::new(3, shards, snapshot("192.0.2.100 - 192.0.2.199", ""), Vec::new());
        let mut say = |ask: &Ask| {
            let (source, destination, mut bytes) = ask.write();
            bytes[2] = 0;
            world.deliver(source, destination, &bytes);
            world.settle();
            world.heard()
        };
        let mut given = BTreeSet::new();
        for number in 0..20 {
            let named = |ask: Ask| Ask { client_id: Some(duid_client_id(number)), ..ask };
            let Some(Heard::Offer(address)) = say(&named(Ask::new(MessageType::Discover, number))) else {
                panic!("no offer for client {number}");
            };
            let ack = Some(Heard::Ack(address));
            assert_eq!(say(&named(Ask::select(number, address))), ack, "client {number}");
            assert_eq!(say(&named(Ask::renew(number, address))), ack, "client {number}");
            assert!(given.insert(address), "{address} was given twice");
        }
        let nobody = Ask::new(MessageType::Discover, 99);
        assert_eq!(say(&nobody), None);
        assert_eq!(world.count(Counter::RfcViolation), 1);
        assert!(!given.contains(&SERVER));
    }
}
