//! Leases that administrators add and delete: never against what is there, durable, and nothing a partner is told.

use std::net::Ipv4Addr;

use shards::{Lease, SmallBytes};
use tandem::engine::message::{ShardCommandBody, ShardReplyBody};
use tandem::ha::lease_query::ClientQuery;

use super::clients::{Ask, Heard, hardware, plain};
use super::partner::{address_of, replicating};
use super::world::World;

/// In the pool, and nobody's.
const ADDED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 150);

/// A world with a client, and its lease.
fn with_a_client(seed: u64) -> (World, Lease) {
    let mut world = replicating(seed, "");
    let address = address_of(&world.join(plain(1)));
    assert_ne!(address, ADDED);
    world.updates.clear();
    let lease = world.lease(address).expect("the client's lease");
    (world, lease)
}

fn add(world: &mut World, lease: &Lease) -> Option<ShardReplyBody> {
    let owner = world.rules.owners.owner_of(lease.address);
    world.command(owner, ShardCommandBody::Add { lease: Box::new(lease.clone()), relationship: None })
}

#[test]
fn an_added_lease_is_durable_before_it_is_answered_and_its_client_is_served_by_it() {
    for seed in 0..8 {
        let (mut world, lease) = with_a_client(seed);
        let client = SmallBytes::new(&hardware(9)[..]);
        let added = Lease { address: ADDED, hwaddr: client, client_id: SmallBytes::empty(), ..lease };
        world.disk_works = false;
        assert!(add(&mut world, &added).is_none(), "not durable yet");
        world.disk_works = true;
        world.settle();
        assert_eq!(world.lease(ADDED), Some(added));
        assert!(world.updates.is_empty(), "an administrator's change stays with this server");
        assert_eq!(world.ask(&Ask::reboot(9, ADDED)), Some(Heard::Ack(ADDED)), "seed {seed}");
    }
}

#[test]
fn a_lease_is_not_added_where_there_is_one() {
    let (mut world, lease) = with_a_client(1);
    let others = Lease { hwaddr: SmallBytes::new(&[2, 9, 9, 9, 9, 9]), ..lease.clone() };
    assert!(matches!(add(&mut world, &others), Some(ShardReplyBody::Exists)));
    assert_eq!(world.lease(lease.address), Some(lease));
}

#[test]
fn a_clients_lease_is_deleted_unless_the_address_is_anothers_by_now() {
    let (mut world, lease) = with_a_client(1);
    let owner = world.rules.owners.owner_of(lease.address);
    let client =
        ClientQuery { by_client_id: false, identity: lease.hwaddr.clone(), subnet_id: lease.subnet_id };
    let other_subnet = ClientQuery { subnet_id: lease.subnet_id + 1, ..client.clone() };
    let other_client = ClientQuery { by_client_id: true, ..client.clone() };
    for (client, is_deleted) in
        [(other_subnet, false), (other_client, false), (client.clone(), true), (client, false)]
    {
        let command = ShardCommandBody::DeleteOf {
            address: lease.address,
            client: Box::new(client.clone()),
            relationship: None,
        };
        let answer = world.command(owner, command);
        assert!(
            matches!(answer, Some(ShardReplyBody::Deleted(deleted)) if deleted == is_deleted),
            "{client:?}"
        );
    }
    assert_eq!(world.lease(lease.address), None);
    assert!(world.updates.is_empty(), "an administrator's change stays with this server");
}
