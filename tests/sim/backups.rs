//! What backup servers and the backlog get, and who waits for it (ha-protocol 5.2 to 5.4, 5.6).

use std::net::Ipv4Addr;

use shards::LeaseState;
use tandem::engine::counters::OwnCounter;
use tandem::engine::message::{Message, UpdateKind, UpdateOutcome};
use tandem::ha::view::{BackupPeers, BackupUpdates, HaView, UpdateMode};
use tandem::wire::codes::MessageType;

use super::clients::{Ask, Heard};
use super::world::{Partner, World, snapshot};

const POOL: &str = "192.0.2.100 - 192.0.2.199";

/// A hot-standby primary whose partner is peer 0, with two backups.
fn with_backups(world: &World) -> HaView {
    let backup_peers = BackupPeers { first: 1, count: 2 };
    HaView { backups: BackupUpdates::Send, backup_peers, ..world.replicating_view() }
}

/// A primary of passive-backup with two backups.
fn passive_backup(world: &World, backups: BackupUpdates) -> HaView {
    let backup_peers = BackupPeers { first: 0, count: 2 };
    HaView { updates: UpdateMode::Off, backups, backup_peers, ..world.replicating_view() }
}

fn world(shards: u8, keys: &str) -> World {
    World::new(1, shards, snapshot(POOL, keys), Vec::new())
}

/// The address client `number` is bound to after DISCOVER and REQUEST.
fn joined(world: &mut World, number: u32) -> Ipv4Addr {
    let address = offered(world, number);
    assert_eq!(world.ask(&Ask::select(number, address)), Some(Heard::Ack(address)));
    address
}

fn offered(world: &mut World, number: u32) -> Ipv4Addr {
    match world.ask(&Ask::new(MessageType::Discover, number)) {
        Some(Heard::Offer(address)) => address,
        other => panic!("no offer: {other:?}"),
    }
}

/// Peer and command of what was sent, by peer, deletions first.
fn sent(world: &mut World) -> Vec<(u8, UpdateKind, LeaseState)> {
    let mut sent: Vec<_> = std::mem::take(&mut world.updates)
        .into_iter()
        .map(|update| (update.peer, update.kind, update.lease.state))
        .collect();
    // Different addresses go through different senders.
    sent.sort_by_key(|(peer, kind, _)| (*peer, *kind == UpdateKind::Update));
    sent
}

fn outcomes(world: &World) -> usize {
    world.control.iter().filter(|message| matches!(message, Message::UpdatesSettled { .. })).count()
}

#[test]
fn backups_are_told_of_every_lease_in_every_state_and_nobody_waits_for_them() {
    for updates in [UpdateMode::Send, UpdateMode::Queue, UpdateMode::None, UpdateMode::Off] {
        for backups in [Partner::Silent, Partner::Answers(UpdateOutcome::Failed)] {
            let mut world = world(4, "");
            world.backups = backups;
            let view = HaView { updates, ..with_backups(&world) };
            world.set_view(view);
            joined(&mut world, 1);
            let to_partner = if updates == UpdateMode::Send { 0..1 } else { 0..0 };
            let expected: Vec<_> = to_partner.chain(1..3).collect();
            let peers: Vec<u8> = sent(&mut world).into_iter().map(|(peer, ..)| peer).collect();
            assert_eq!(peers, expected, "{updates:?}");
            world.answer_updates(UpdateOutcome::Conflict);
            assert_eq!(outcomes(&world), 0, "{updates:?}: a backup is none of the state machine's business");
            assert_eq!(world.own(OwnCounter::LateAnswer), 0);
            let unsent = u64::from(updates == UpdateMode::None);
            assert_eq!(world.own(OwnCounter::UnsentUpdates), unsent, "{updates:?}");
        }
    }
}

#[test]
fn a_backup_that_must_acknowledge_holds_the_reply_and_its_refusal_drops_it_without_a_word_to_the_machine() {
    let refusals =
        [UpdateOutcome::Failed, UpdateOutcome::Refused, UpdateOutcome::Conflict].map(Partner::Answers);
    for backups in [Partner::Silent].into_iter().chain(refusals) {
        let mut world = world(4, r#", "cache-threshold": 0.5"#);
        let view = passive_backup(&world, BackupUpdates::SendAndWait);
        world.set_view(view);
        world.backups = backups;
        let address = offered(&mut world, 1);
        assert_eq!(world.ask(&Ask::select(1, address)), None, "{backups:?}");
        assert_eq!(world.updates.len(), 2);
        assert_eq!(world.lease(address).map(|lease| lease.state), Some(LeaseState::Default));
        if backups == Partner::Silent {
            world.answer_updates(UpdateOutcome::Acked);
            assert_eq!(world.heard(), Some(Heard::Ack(address)));
        } else {
            assert_eq!(world.own(OwnCounter::ParkedDropped), 1, "{backups:?}");
            // The retry is sent again, not answered from the cache.
            world.backups = Partner::Answers(UpdateOutcome::Acked);
            assert_eq!(world.ask(&Ask { xid: 9, ..Ask::select(1, address) }), Some(Heard::Ack(address)));
            assert_eq!(world.updates.len(), 4);
        }
        assert_eq!(outcomes(&world), 0, "{backups:?}");
    }
}

/// The row waits for the disk all the while, so that the reply of the first attempt is still parked when the client asks
/// again.
#[test]
fn what_one_backup_lacks_the_word_of_another_does_not_put_into_the_cache() {
    for outcomes in
        [[UpdateOutcome::Failed, UpdateOutcome::Acked], [UpdateOutcome::Acked, UpdateOutcome::Failed]]
    {
        let mut world = world(4, r#", "cache-threshold": 0.5"#);
        let view = passive_backup(&world, BackupUpdates::SendAndWait);
        world.set_view(view);
        // What is older than the wait for backups is never answered from the cache.
        world.pass_s(2);
        world.backups = Partner::Silent;
        let address = offered(&mut world, 1);
        world.disk_works = false;
        assert_eq!(world.ask(&Ask::select(1, address)), None);
        for outcome in outcomes {
            world.answer_one(UpdateKind::Update, outcome);
        }
        world.backups = Partner::Answers(UpdateOutcome::Acked);
        assert_eq!(world.ask(&Ask { xid: 9, ..Ask::select(1, address) }), None);
        assert_eq!(world.updates.len(), 4, "{outcomes:?}: both are told again");
        world.disk_works = true;
        world.settle();
        assert_eq!(world.heard(), Some(Heard::Ack(address)));
        assert_eq!(world.own(OwnCounter::ParkedDropped), 1, "{outcomes:?}: the first attempt");
        assert_eq!(world.ask(&Ask { xid: 10, ..Ask::select(1, address) }), Some(Heard::Ack(address)));
        let told = world.updates.len();
        assert_eq!(world.ask(&Ask { xid: 11, ..Ask::select(1, address) }), Some(Heard::Ack(address)));
        assert_eq!(world.updates.len(), told, "{outcomes:?}: both have it, and the cache answers");
    }
}

#[test]
fn one_backup_that_does_not_answer_holds_the_reply_until_it_is_given_up() {
    let mut world = world(1, "");
    let view = passive_backup(&world, BackupUpdates::SendAndWait);
    world.set_view(view);
    let address = offered(&mut world, 1);
    world.backups = Partner::Silent;
    assert_eq!(world.ask(&Ask::select(1, address)), None);
    world.pass_s(60);
    assert_eq!((world.heard(), outcomes(&world)), (None, 0));
    assert_eq!(world.own(OwnCounter::ParkedExpired), 1);
}

#[test]
fn without_waiting_a_passive_backup_primary_answers_at_once_and_counts_nothing() {
    let mut world = world(2, "");
    let view = passive_backup(&world, BackupUpdates::Send);
    world.set_view(view);
    world.backups = Partner::Silent;
    joined(&mut world, 1);
    assert_eq!(world.updates.len(), 2);
    assert_eq!(world.own(OwnCounter::UnsentUpdates), 0);
}

#[test]
fn a_move_a_release_and_a_decline_reach_each_peer_as_it_understands_them() {
    use LeaseState::{Declined, Default, Released};
    use UpdateKind::{Delete, Update};
    let mut world = world(1, "");
    let view = with_backups(&world);
    world.set_view(view);
    let before = joined(&mut world, 1);
    let new = (100..200).map(|octet| Ipv4Addr::new(192, 0, 2, octet)).find(|new| *new != before).unwrap();
    world.updates.clear();
    assert_eq!(world.ask(&Ask { xid: 5, ..Ask::select(1, new) }), Some(Heard::Ack(new)));
    let each = |peer| [(peer, Delete, Default), (peer, Update, Default)];
    assert_eq!(sent(&mut world), (0..3).flat_map(each).collect::<Vec<_>>());
    world.ask(&Ask::release(1, new));
    // Of a backup nobody knows whether it understands the state.
    assert_eq!(sent(&mut world), [(0, Update, Released), (1, Delete, Released), (2, Delete, Released)]);
    let address = joined(&mut world, 2);
    world.updates.clear();
    world.ask(&Ask::decline(2, address));
    assert_eq!(sent(&mut world), (0..3).map(|peer| (peer, Update, Declined)).collect::<Vec<_>>());
}

#[test]
fn an_overflowed_backlog_gets_nothing_more_and_nothing_is_counted() {
    for (overflowed, queued) in [(false, 1), (true, 0)] {
        let mut world = world(4, "");
        let view =
            HaView { updates: UpdateMode::Queue, backlog_overflowed: overflowed, ..world.replicating_view() };
        world.set_view(view);
        joined(&mut world, 1);
        let backlog = world.control.iter().filter(|message| matches!(message, Message::Backlog(_))).count();
        assert_eq!((backlog, world.updates.len()), (queued, 0));
        assert_eq!(world.own(OwnCounter::UnsentUpdates), 0);
    }
}

/// The move deletes at one shard and creates at another; it is one query all the same (ha-protocol 4.8).
#[test]
fn a_query_whose_updates_are_not_sent_counts_once_however_many_shards_it_changes() {
    let mut world = world(4, "");
    let alone = HaView { updates: UpdateMode::None, ..world.replicating_view() };
    world.set_view(alone);
    let before = joined(&mut world, 1);
    let owner = world.rules.owners.owner_of(before);
    let new = (100..200)
        .map(|octet| Ipv4Addr::new(192, 0, 2, octet))
        .find(|new| world.rules.owners.owner_of(*new) != owner)
        .expect("an address of another shard");
    assert_eq!(world.ask(&Ask { xid: 5, ..Ask::select(1, new) }), Some(Heard::Ack(new)));
    assert_eq!(world.lease(before), None);
    assert_eq!(world.own(OwnCounter::UnsentUpdates), 2);
}

/// Communication-recovery ends when the partner has got the backlog: its leases are known to it, and only what failed
/// before is sent again by the next renewal.
#[test]
fn after_communication_recovery_the_cache_answers_for_what_the_backlog_brought_over() {
    let mut world = world(2, r#", "cache-threshold": 0.5"#);
    let view = world.replicating_view();
    world.set_view(view);
    world.pass_s(2);
    let lost = offered(&mut world, 1);
    world.partner = Partner::Answers(UpdateOutcome::Failed);
    assert_eq!(world.ask(&Ask::select(1, lost)), None);
    let recovering = HaView { updates: UpdateMode::Queue, ..world.replicating_view() };
    world.set_view(recovering);
    let kept = joined(&mut world, 2);
    world.partner = Partner::Answers(UpdateOutcome::Acked);
    let view = world.replicating_view();
    world.set_view(view);
    world.updates.clear();
    assert_eq!(world.ask(&Ask::renew(2, kept)), Some(Heard::Ack(kept)));
    assert_eq!(world.updates.len(), 0, "the backlog was sent");
    assert_eq!(world.ask(&Ask::renew(1, lost)), Some(Heard::Ack(lost)));
    assert_eq!(world.updates.len(), 1, "what had failed was not in it");
}

/// What a server finds in its lease file was written before: whether the backups took it nobody knows.
#[test]
fn after_a_restart_the_cache_does_not_answer_where_replies_wait_for_backups() {
    for (backups, sent) in [(BackupUpdates::Send, 0), (BackupUpdates::SendAndWait, 2)] {
        let mut world = world(2, r#", "cache-threshold": 0.5"#);
        let view = passive_backup(&world, BackupUpdates::Send);
        world.set_view(view);
        let address = joined(&mut world, 1);
        world.pass_s(2);
        let leases = world.lease(address).into_iter().collect();
        let mut again = World::new(2, 2, snapshot(POOL, r#", "cache-threshold": 0.5"#), leases);
        again.now = world.now;
        let view = passive_backup(&again, backups);
        again.set_view(view);
        assert_eq!(again.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)));
        assert_eq!(again.updates.len(), sent, "{backups:?}");
    }
}
