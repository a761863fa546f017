//! Clients that do anything in any order, while the partner answers as it likes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use tandem::client::{Client, ClientConfig};
use tandem::engine::counters::{Counter, OwnCounter};
use tandem::engine::message::UpdateOutcome;
use tandem::wire::codes::MessageType;

use super::clients::{Ask, Heard, plain, rfc_4361};
use super::world::{Partner, World, snapshot};

const CLIENTS: u32 = 40;
const STEPS: usize = 250;

fn config(number: u32) -> ClientConfig {
    if number.is_multiple_of(2) { plain(number) } else { rfc_4361(number) }
}

/// 20 seeds of joins, renewals, moves, releases, declines and passing time by 40 clients on 60 addresses. After
/// each step no address is held by two clients; at the end, each client that holds a lease is known by it.
#[test]
fn no_address_is_held_twice_whatever_clients_and_partner_do() {
    for seed in 0..20 {
        let mut world = World::new(seed, 4, snapshot("192.0.2.100 - 192.0.2.159", ""), Vec::new());
        let view = world.replicating_view();
        world.set_view(view);
        let mut clients: Vec<Client> = (0..CLIENTS).map(|number| world.join(config(number))).collect();
        for step in 0..STEPS {
            let number = world.draw(CLIENTS as usize);
            act(&mut world, &mut clients, number);
            assert_nothing_held_twice(&world, &clients, seed, step);
        }
        world.partner = Partner::Answers(UpdateOutcome::Acked);
        assert_known_by_their_leases(&mut world, &clients, seed);
        assert_eq!(world.own(OwnCounter::HopLimit), 0, "seed {seed}");
        assert_eq!(world.own(OwnCounter::UnexpectedMessage), 0, "seed {seed}");
        assert_eq!(world.count(Counter::ProcessingFailed), 0, "seed {seed}");
    }
}

fn act(world: &mut World, clients: &mut [Client], number: usize) {
    let outcomes =
        [UpdateOutcome::Acked, UpdateOutcome::Acked, UpdateOutcome::Failed, UpdateOutcome::Conflict];
    world.partner = Partner::Answers(outcomes[world.draw(outcomes.len())]);
    let now = world.now.monotonic_ns;
    match world.draw(9) {
        0 => clients[number].renew(now),
        1 => clients[number].release(now),
        2 => clients[number].decline(now),
        3 => {
            // It moves: asks for an address of its choice and takes it.
            let wanted = Ipv4Addr::new(192, 0, 2, 100 + world.draw(60) as u8);
            let config = ClientConfig { requested_address: Some(wanted), ..clients[number].config().clone() };
            clients[number] = Client::new(now, config);
        }
        4 => clients[number].restart(now),
        5 => {
            let remembered = clients[number].lease().map(|lease| lease.address);
            let config = clients[number].config().clone();
            if let Some(address) = remembered {
                clients[number] = Client::reboot(now, config, address);
            }
        }
        6 | 7 => steal(world, clients, number),
        _ => {
            let seconds = 1 + world.draw(200) as u64;
            world.pass_s(seconds);
            let now = world.now.monotonic_ns;
            for client in clients.iter_mut() {
                client.handle_timeout(now);
            }
        }
    }
    for client in clients.iter_mut() {
        world.converse(client);
    }
}

/// A client asks for whatever address comes to its mind; what another client holds it must not get. What it gets
/// it gives back, so that the machines know of every lease there is.
fn steal(world: &mut World, clients: &mut [Client], number: usize) {
    let address = Ipv4Addr::new(192, 0, 2, 100 + world.draw(60) as u8);
    let thief = CLIENTS + number as u32;
    let ask = match world.draw(3) {
        0 => Ask::select(thief, address),
        1 => Ask::renew(thief, address),
        _ => Ask::reboot(thief, address),
    };
    let now_ns = world.now.monotonic_ns;
    if let Some(Heard::Ack(got)) = world.ask(&ask) {
        let holds = |client: &&Client| client.lease().is_some_and(|lease| lease.address == got);
        let robbed = clients.iter().find(holds).and_then(|client| client.lease());
        assert!(
            robbed.is_none_or(|lease| lease.expires_ns.is_some_and(|end| end <= now_ns)),
            "{got} was stolen"
        );
        world.ask(&Ask::release(thief, got));
    }
}

/// By the clients' own clocks, which start earlier and so end earlier than the server's.
fn assert_nothing_held_twice(world: &World, clients: &[Client], seed: u64, step: usize) {
    let mut holders: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
    for (number, client) in (0..).zip(clients) {
        let Some(lease) = client.lease() else { continue };
        if lease.expires_ns.is_some_and(|end| end <= world.now.monotonic_ns) {
            continue;
        }
        let other = holders.insert(lease.address, number);
        assert_eq!(other, None, "seed {seed} step {step}: {} is client {number}'s too", lease.address);
    }
}

fn assert_known_by_their_leases(world: &mut World, clients: &[Client], seed: u64) {
    for (number, client) in (0..).zip(clients) {
        let held =
            client.lease().filter(|lease| lease.expires_ns.is_none_or(|end| end > world.now.monotonic_ns));
        let Some(address) = held.map(|lease| lease.address) else { continue };
        let row = world.lease(address).unwrap_or_else(|| panic!("seed {seed}: no row of client {number}"));
        assert_eq!(row.client_id.as_slice(), client.config().client_id.as_deref().unwrap_or_default());
        let ask = Ask { client_id: client.config().client_id.clone(), ..Ask::renew(number, address) };
        assert_eq!(world.ask(&ask), Some(Heard::Ack(address)), "seed {seed}: client {number} renews");
        let discover =
            Ask { kind: MessageType::Discover, ciaddr: Ipv4Addr::UNSPECIFIED, unicast: false, ..ask };
        assert_eq!(world.ask(&discover), Some(Heard::Offer(address)), "seed {seed}: client {number} again");
    }
}
