//! What happens at a limit: a query is dropped and counted before anything is changed; and what a reload keeps.

use std::net::Ipv4Addr;

use tandem::client::ClientState;
use tandem::engine::counters::{Counter, OwnCounter};
use tandem::limits;
use tandem::wire::codes::MessageType;

use super::clients::{Ask, Heard, plain, rfc_4361};
use super::world::{World, snapshot};

const POOL: &str = "192.0.2.100 - 192.0.2.199";

#[test]
fn with_too_many_rows_waiting_for_the_disk_nothing_is_committed() {
    let mut world = World::new(1, 2, snapshot(POOL, ""), Vec::new());
    let Some(Heard::Offer(address)) = world.ask(&Ask::new(MessageType::Discover, 1)) else {
        panic!("no offer");
    };
    world.journal_waiting_bytes = limits::JOURNAL_WAITING_BYTES_MAX + 1;
    assert_eq!(world.ask(&Ask::select(1, address)), None);
    assert_eq!((world.lease(address), world.own(OwnCounter::JournalFull)), (None, 1));
    assert_eq!(world.count(Counter::QueueFull), 1);
    world.journal_waiting_bytes = 0;
    assert_eq!(world.ask(&Ask::select(1, address)), Some(Heard::Ack(address)));
}

#[test]
fn a_full_datagram_lane_costs_a_query_and_is_counted() {
    let mut world = World::new(2, 4, snapshot(POOL, ""), Vec::new());
    world.mesh.datagram_lane = 0;
    let mut served = 0;
    for number in 0..20 {
        served += usize::from(world.join(rfc_4361(number)).state() == ClientState::Bound);
    }
    let dropped = world.own(OwnCounter::MeshDatagramFull);
    assert!(dropped > 0 && served + dropped as usize == 20, "{served} served, {dropped} dropped");
    world.mesh.datagram_lane = limits::DATAGRAM_LANE;
    assert_eq!(world.join(rfc_4361(99)).state(), ClientState::Bound);
}

/// Without room for what follows of it a commit does not happen; with room for one message at a time nothing
/// that was committed is lost.
#[test]
fn a_full_state_lane_costs_a_query_and_never_an_index_entry() {
    let mut world = World::new(3, 4, snapshot(POOL, ""), Vec::new());
    world.mesh.state_lane = 0;
    let (mut served, mut refused) = (Vec::new(), 0);
    for number in 0..20 {
        let client = world.join(rfc_4361(number));
        match client.lease() {
            Some(lease) => served.push((number, lease.address)),
            None => refused += 1,
        }
    }
    world.mesh.state_lane = 1;
    assert!(refused > 0 && !served.is_empty(), "{refused} refused, {} served", served.len());
    assert_eq!(world.own(OwnCounter::MeshStateFull), refused);
    assert_eq!(world.leases().len(), served.len());
    for (number, address) in served {
        let client_id = rfc_4361(number).client_id;
        let ask = Ask { client_id, ..Ask::new(MessageType::Discover, number) };
        assert_eq!(world.ask(&ask), Some(Heard::Offer(address)), "its index entries are there");
    }
}

#[test]
fn a_reload_keeps_leases_and_owners_and_is_in_force_for_the_next_query() {
    let mut world = World::new(4, 4, snapshot("192.0.2.100 - 192.0.2.149", ""), Vec::new());
    let clients: Vec<_> = (0..50).map(|number| world.join(plain(number))).collect();
    assert!(clients.iter().all(|client| client.lease().is_some()));
    assert_eq!(world.join(plain(50)).state(), ClientState::Selecting, "the pool is full");
    let before = world.leases();
    let mut larger = snapshot("192.0.2.100 - 192.0.2.199", "");
    larger.epoch = 2;
    world.reconfigure(larger);
    assert_eq!(world.leases(), before);
    let newcomer = world.join(plain(50)).lease().map(|lease| lease.address);
    assert!(newcomer.is_some_and(|address| address >= Ipv4Addr::new(192, 0, 2, 150)), "{newcomer:?}");
    let mut elsewhere = snapshot("192.0.2.10 - 192.0.2.20", "");
    elsewhere.epoch = 3;
    world.reconfigure(elsewhere);
    assert_eq!(world.leases().len(), 51);
    let address = before[0].address;
    let ask = Ask::renew(0, address);
    assert_eq!(world.ask(&ask), None, "PKT-73: its address is in no pool now");
}
