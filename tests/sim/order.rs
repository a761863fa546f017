//! Updates of one address reach the partner in the order of its changes, also around communication-recovery and after a
//! request that was given up.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tandem::engine::counters::OwnCounter;
use tandem::engine::message::{
    Applied, CopySlice, Message, PartnerUpdate, ShardCommandBody, ShardReplyBody, Span, Terms, UpdateKind,
    UpdateOutcome,
};
use tandem::ha::fence::{Fence, Stamp};
use tandem::ha::view::{BackupPeers, BackupUpdates, HaView, Scopes, UpdateMode};
use tandem::policy::SubnetFilter;

use super::clients::{Ask, Heard, plain};
use super::partner::{address_of, batch_of, replicating};
use super::world::{Partner, World, snapshot};

const POOL: &str = "192.0.2.100 - 192.0.2.199";

/// A server in communication-recovery, whose client 1 has the address since the process has run for a while: it
/// could have it from the cache.
fn recovering(seed: u64) -> (World, Ipv4Addr) {
    let mut world = World::new(seed, 4, snapshot(POOL, r#", "cache-threshold": 0.5"#), Vec::new());
    world.pass_s(2);
    let view = HaView { updates: UpdateMode::Queue, ..world.replicating_view() };
    world.set_view(view);
    let address = world.join(plain(1)).lease().expect("a lease").address;
    (world, address)
}

/// What was put off and has reached the control node.
fn take_put_off(world: &mut World) -> Vec<PartnerUpdate> {
    let is_put_off = |message: &mut Message| matches!(message, Message::Backlog(_));
    let update = |message| match message {
        Message::Backlog(update) => Some(*update),
        _ => None,
    };
    world.control.extract_if(.., is_put_off).filter_map(update).collect()
}

/// The control node gives an update back that came after the backlog was sent.
fn hand_back(world: &mut World, update: &PartnerUpdate) {
    let shard = world.rules.owners.owner_of(update.lease.address);
    let update = PartnerUpdate::put_off(0, shard, update.kind, update.lease.clone());
    let to = world.topology.shard(shard);
    world.post(world.topology.control(), to, Message::Backlog(Box::new(update)));
}

#[test]
fn an_update_put_off_that_comes_late_never_follows_a_newer_one() {
    for seed in 0..50 {
        let (mut world, address) = recovering(seed);
        let late = take_put_off(&mut world).pop().expect("one that was put off");
        world.pass_s(2);
        let view = world.replicating_view();
        world.set_view(view);
        world.partner = Partner::Silent;
        let newer = Ask { xid: 5, host_name: "new", ..Ask::renew(1, address) };
        if seed % 2 == 0 {
            hand_back(&mut world, &late);
            assert_eq!(world.ask(&newer), None, "the partner has not answered");
        } else {
            assert_eq!(world.ask(&newer), None, "the partner has not answered");
            hand_back(&mut world, &late);
        }
        world.settle();
        let sent: Vec<_> = world.updates.iter().map(|update| (update.kind, update.lease.clone())).collect();
        let now = world.lease(address).expect("the lease");
        assert!(now.cltt > late.lease.cltt);
        assert!(sent.is_sorted_by_key(|(_, lease)| lease.cltt), "{seed}: {sent:?}");
        assert_eq!(sent.last(), Some(&(UpdateKind::Update, now)), "{seed}");
        world.answer_updates(UpdateOutcome::Acked);
        assert_eq!(world.heard(), Some(Heard::Ack(address)));
    }
}

#[test]
fn a_deletion_that_was_put_off_is_sent_as_what_the_address_is_by_then() {
    for given_again in [false, true] {
        let (mut world, address) = recovering(1);
        let view = HaView { sends_released: false, ..world.view.clone() };
        world.set_view(HaView { epoch: view.epoch + 1, ..view });
        take_put_off(&mut world);
        let owner = world.rules.owners.owner_of(address);
        let gone = world.lease(address).expect("the lease");
        world.command(owner, ShardCommandBody::PartnerDelete { address, deleted: None, relationship: None });
        if given_again {
            world.ask(&Ask { xid: 8, ..Ask::select(2, address) });
        }
        let view = world.replicating_view();
        world.set_view(view);
        let update = PartnerUpdate::put_off(0, owner, UpdateKind::Delete, gone);
        hand_back(&mut world, &update);
        world.settle();
        let kind = if given_again { UpdateKind::Update } else { UpdateKind::Delete };
        assert_eq!(world.updates.last().map(|update| update.kind), Some(kind));
    }
}

/// Its client was answered while updates were put off.
#[test]
fn what_the_partner_does_not_take_after_all_comes_back_to_the_control_node() {
    for outcome in [UpdateOutcome::Failed, UpdateOutcome::Conflict] {
        let (mut world, address) = recovering(3);
        let late = take_put_off(&mut world).pop().expect("one that was put off");
        let view = world.replicating_view();
        world.set_view(view);
        world.partner = Partner::Silent;
        hand_back(&mut world, &late);
        world.settle();
        assert_eq!(world.updates.len(), 1);
        assert_eq!(world.ask(&Ask { xid: 6, ..Ask::renew(1, address) }), None, "not from the cache");
        world.answer_one(UpdateKind::Update, outcome);
        let back = take_put_off(&mut world);
        assert_eq!(back.iter().map(|update| update.outcome).collect::<Vec<_>>(), [Some(outcome)]);
        assert_eq!(Some(back[0].lease.clone()), world.lease(address));
    }
    let (mut world, _) = recovering(3);
    let late = take_put_off(&mut world).pop().expect("one that was put off");
    hand_back(&mut world, &late);
    world.settle();
    let back = take_put_off(&mut world);
    assert_eq!(back.len(), 1, "a shard that has not heard of the change yet puts it off again");
    assert_eq!((back[0].outcome, world.updates.len()), (None, 0));
}

/// The control node knows no better than to hand it back at once.
#[test]
fn what_is_handed_back_waits_for_room_at_its_sender_and_does_not_return() {
    let (mut world, address) = recovering(5);
    let late = take_put_off(&mut world).pop().expect("one that was put off");
    let view = world.replicating_view();
    world.set_view(view.clone());
    let places = std::mem::replace(&mut world.mesh.state_lane, 0);
    hand_back(&mut world, &late);
    world.settle();
    world.pass_s(3);
    assert_eq!(world.ask(&Ask { xid: 6, ..Ask::renew(1, address) }), None, "not from the cache");
    world.mesh.state_lane = places;
    assert_eq!(take_put_off(&mut world).len(), 0, "it has not gone back");
    world.pass_s(1);
    assert_eq!(world.updates.last().map(|update| update.lease.clone()), world.lease(address));
    assert_eq!((take_put_off(&mut world).len(), world.own(OwnCounter::HandedBackWaits)), (0, 1));
    // Where updates are put off again meanwhile, it goes back.
    world.mesh.state_lane = 0;
    hand_back(&mut world, &late);
    world.settle();
    world.mesh.state_lane = places;
    world.set_view(HaView { epoch: view.epoch + 1, updates: UpdateMode::Queue, ..view });
    world.pass_s(1);
    assert_eq!((take_put_off(&mut world).len(), world.updates.len()), (1, 1));
}

/// A request that was given up after ten seconds is carried out after the one that followed it over another connection.
#[test]
fn a_request_that_comes_behind_a_later_one_is_refused() {
    let (mut world, address) = recovering(4);
    let view = world.replicating_view();
    world.set_view(view.clone());
    let owner = world.rules.owners.owner_of(address);
    let first = world.lease(address).expect("the lease");
    let apply = |world: &mut World, fence, stream, number, cltt| {
        let updates = vec![(UpdateKind::Update, tandem_lease(&first, cltt))];
        let stamp = Some(Stamp { fence, stream, number });
        let answer = world.command(owner, ShardCommandBody::PartnerBatch { relationship: 0, stamp, updates });
        let taken = matches!(answer, Some(ShardReplyBody::Applied(Applied { .. })));
        assert!(taken || matches!(answer, Some(ShardReplyBody::Late)), "{answer:?}");
        assert_eq!(world.lease(address).is_some_and(|lease| lease.cltt == cltt), taken);
        taken
    };
    let old = Fence { life: 9, generation: 2 };
    assert!(apply(&mut world, old, 0, 8, 1_800_000_002));
    assert!(!apply(&mut world, old, 0, 7, 1_800_000_001), "given up, and late");
    let flushed = Fence { generation: 5, ..old };
    assert!(apply(&mut world, flushed, 255, 1, 1_800_000_004));
    assert!(!apply(&mut world, old, 0, 9, 1_800_000_003), "sent before the backlog was");
    let copied = Fence { generation: 7, ..old };
    world.set_view(HaView { epoch: view.epoch + 1, partner_fence: Some(copied), ..view });
    assert!(!apply(&mut world, flushed, 0, 10, 1_800_000_005), "from before the heartbeat");
    assert!(apply(&mut world, copied, 0, 11, 1_800_000_006));
}

/// The partner's update of a lease was under way while its client came to be this server's, and got the lease anew here.
#[test]
fn an_update_of_before_this_server_had_the_client_takes_no_newer_lease_back() {
    let mut world = replicating(2, "");
    world.pass_s(10);
    let address = address_of(&world.join(plain(1)));
    let ours = world.lease(address).expect("the lease");
    let owner = world.rules.owners.owner_of(address);
    let before = tandem_lease(&ours, ours.cltt - 4);
    for (serves_since, cltt) in [(false, before.cltt), (true, ours.cltt)] {
        assert!(matches!(world.command(owner, batch_of(&ours)), Some(ShardReplyBody::Applied(_))));
        if serves_since {
            let view = world.replicating_view();
            world.set_view(HaView { scopes: Scopes::NONE, ..view.clone() });
            world.set_view(HaView { epoch: view.epoch + 2, ..view });
        }
        assert!(matches!(world.command(owner, batch_of(&before)), Some(ShardReplyBody::Applied(_))));
        assert_eq!(world.lease(address).map(|lease| lease.cltt), Some(cltt), "serves since: {serves_since}");
    }
}

fn tandem_lease(lease: &shards::Lease, cltt: u64) -> shards::Lease {
    shards::Lease { cltt, ..lease.clone() }
}

/// The partner has not heard that the lease is gone, and this server copies first.
#[test]
fn a_copy_does_not_bring_back_what_was_deleted_here() {
    let (mut world, address) = recovering(6);
    let alone = HaView { updates: UpdateMode::None, ..world.replicating_view() };
    world.set_view(alone);
    let owner = world.rules.owners.owner_of(address);
    let gone = world.lease(address).expect("the lease");
    world.command(owner, ShardCommandBody::PartnerDelete { address, deleted: None, relationship: None });
    let other = shards::Lease { hwaddr: shards::SmallBytes::new(&[2, 7, 7, 7, 7, 7]), ..gone.clone() };
    let newer = tandem_lease(&gone, gone.cltt + 1);
    for terms in [Terms::Joining, Terms::Merging, Terms::Comparison(Span::default())] {
        for (theirs, comes) in [(&gone, false), (&newer, true), (&other, true)] {
            let rows = vec![(UpdateKind::Update, theirs.clone())];
            let slice = Arc::new(CopySlice { rows, terms });
            world.command(owner, ShardCommandBody::Synchronised(slice));
            assert_eq!(world.lease(address).is_some(), comes, "{terms:?} {theirs:?}");
            if comes {
                // Gone again, as it was before.
                world.command(
                    owner,
                    ShardCommandBody::PartnerDelete { address, deleted: None, relationship: None },
                );
                let put_back = vec![(UpdateKind::Update, gone.clone())];
                world.command(
                    owner,
                    ShardCommandBody::PartnerBatch { relationship: 0, stamp: None, updates: put_back },
                );
                world.command(
                    owner,
                    ShardCommandBody::PartnerDelete { address, deleted: None, relationship: None },
                );
            }
        }
    }
}

/// Nobody waits for a backup, and a dead one must not fill what is remembered for the partner.
#[test]
fn a_deletion_that_a_backup_does_not_take_is_not_remembered_for_the_partner() {
    for (peer, remembered) in [(0, 1), (1, 0)] {
        let mut world = World::new(7, 1, snapshot(POOL, ""), Vec::new());
        let backup_peers = BackupPeers { first: 1, count: 1 };
        let backups = BackupUpdates::Send;
        let view = HaView { backup_peers, backups, sends_released: false, ..world.replicating_view() };
        world.set_view(view);
        let address = world.join(plain(1)).lease().expect("a lease").address;
        let fails = Partner::Answers(UpdateOutcome::Failed);
        if peer == 0 {
            world.partner = fails;
        } else {
            world.backups = fails;
        }
        let last = *address.octets().last().expect("four octets");
        let other = Ipv4Addr::new(192, 0, 2, if last == 150 { 151 } else { 150 });
        // It moves, and its old lease is deleted.
        world.ask(&Ask { xid: 5, ..Ask::select(1, other) });
        assert_eq!(world.lease(address), None);
        let marked =
            world.command(0, ShardCommandBody::Changes { since: None, limit: 9, subnets: SubnetFilter::ALL });
        let Some(ShardReplyBody::Changes { mark, .. }) = marked else { panic!("{marked:?}") };
        let told = world.command(
            0,
            ShardCommandBody::Changes { since: Some(mark), limit: 9, subnets: SubnetFilter::ALL },
        );
        let Some(ShardReplyBody::Changes { rows, .. }) = told else { panic!("{told:?}") };
        assert_eq!(rows.len(), remembered, "peer {peer}");
    }
}

/// A Kea goes on serving while its leases are listed, and tells of a deletion before the page is applied.
#[test]
fn what_the_partner_deletes_while_it_is_copied_does_not_come_back() {
    for (copies, comes_back) in [(true, false), (false, true)] {
        let (mut world, address) = recovering(8);
        let view = HaView { copies, ..world.replicating_view() };
        world.set_view(view);
        let owner = world.rules.owners.owner_of(address);
        let listed = world.lease(address).expect("the lease");
        world.command(owner, ShardCommandBody::PartnerDelete { address, deleted: None, relationship: None });
        let slice =
            CopySlice { rows: vec![(UpdateKind::Update, listed)], terms: Terms::Comparison(Span::default()) };
        world.command(owner, ShardCommandBody::Synchronised(Arc::new(slice)));
        assert_eq!(world.lease(address).is_some(), comes_back);
    }
}
