//! Replies that wait for the partner, for the disk, and for other shards (ha-protocol section 5).

use std::net::Ipv4Addr;
use std::sync::Arc;

use shards::{Lease, LeaseState, SmallBytes};
use tandem::client::{Client, ClientState};
use tandem::engine::counters::{Counter, OwnCounter};
use tandem::engine::message::{
    Applied, CopySlice, Message, ShardCommandBody, ShardReplyBody, Terms, UpdateKind, UpdateOutcome,
};
use tandem::ha::view::{HaView, Scopes, UpdateMode};
use tandem::limits::COPY_OCTETS;
use tandem::policy::SubnetFilter;
use tandem::wire::Query;
use tandem::wire::codes::MessageType;

use super::clients::{Ask, Heard, plain};
use super::world::{Partner, Update, World, snapshot};

pub(super) const POOL: &str = "192.0.2.100 - 192.0.2.199";

pub(super) fn replicating(seed: u64, keys: &str) -> World {
    let mut world = World::new(seed, 4, snapshot(POOL, keys), Vec::new());
    let view = world.replicating_view();
    world.set_view(view);
    world
}

pub(super) fn address_of(client: &Client) -> Ipv4Addr {
    client.lease().expect("a lease").address
}

fn outcomes(world: &World) -> Vec<UpdateOutcome> {
    let outcome = |message: &Message| match message {
        Message::UpdatesSettled { outcome, .. } => Some(*outcome),
        _ => None,
    };
    world.control.iter().filter_map(outcome).collect()
}

/// An offered address, so that the next query can be a REQUEST for it.
pub(super) fn offered(world: &mut World, number: u32) -> Ipv4Addr {
    match world.ask(&Ask::new(MessageType::Discover, number)) {
        Some(Heard::Offer(address)) => address,
        other => panic!("no offer: {other:?}"),
    }
}

#[test]
fn an_ack_waits_for_disk_and_partner_whichever_comes_first() {
    for disk_first in [true, false] {
        let mut world = replicating(1, "");
        let address = offered(&mut world, 1);
        world.partner = Partner::Silent;
        world.disk_works = disk_first;
        assert_eq!(world.ask(&Ask::select(1, address)), None);
        if disk_first {
            assert_eq!(world.updates.len(), 1);
            assert_eq!(world.updates[0].kind, UpdateKind::Update);
            assert_eq!(world.updates[0].lease.address, address);
            world.answer_updates(UpdateOutcome::Acked);
        } else {
            world.answer_updates(UpdateOutcome::Acked);
            assert_eq!(world.heard(), None, "not durable yet");
            world.disk_works = true;
            world.settle();
        }
        assert_eq!(world.heard(), Some(Heard::Ack(address)), "disk first: {disk_first}");
        assert_eq!(world.own(OwnCounter::Unparked), 1);
    }
}

#[test]
fn a_refused_update_drops_the_reply_tells_control_and_keeps_the_lease() {
    for outcome in [UpdateOutcome::Failed, UpdateOutcome::Conflict] {
        let mut world = replicating(2, r#", "cache-threshold": 0.5"#);
        let address = offered(&mut world, 1);
        world.partner = Partner::Answers(outcome);
        assert_eq!(world.ask(&Ask::select(1, address)), None);
        assert_eq!(outcomes(&world), [outcome]);
        assert_eq!(world.lease(address).map(|lease| lease.state), Some(LeaseState::Default));
        assert_eq!(world.own(OwnCounter::ParkedDropped), 1);
        // The retry replicates again: the cache does not answer for what the partner lacks.
        world.partner = Partner::Answers(UpdateOutcome::Acked);
        assert_eq!(world.ask(&Ask { xid: 9, ..Ask::select(1, address) }), Some(Heard::Ack(address)));
        assert_eq!(world.updates.len(), 2);
    }
}

#[test]
fn a_retransmission_while_parked_is_dropped_and_a_newer_transaction_takes_the_reply() {
    let mut world = replicating(3, "");
    let address = offered(&mut world, 1);
    world.partner = Partner::Silent;
    assert_eq!(world.ask(&Ask::select(1, address)), None);
    assert_eq!(world.ask(&Ask::select(1, address)), None);
    assert_eq!(world.count(Counter::Duplicate), 1);
    assert_eq!(world.ask(&Ask { xid: 4242, ..Ask::select(1, address) }), None);
    assert_eq!(world.count(Counter::Duplicate), 2);
    world.answer_updates(UpdateOutcome::Acked);
    let (_, bytes) = world.wire.pop_front().expect("one ACK");
    assert_eq!(bytes[4..8], 4242_u32.to_be_bytes(), "the newest query is answered");
    assert!(world.wire.is_empty());
    assert_eq!(world.updates.len(), 1);
}

/// The newer query has another name: its lease is written and told, and the reply with the name of before is void.
#[test]
fn a_newer_transaction_with_another_name_is_given_a_lease_with_that_name() {
    let mut world = replicating(3, "");
    let address = offered(&mut world, 1);
    world.partner = Partner::Silent;
    assert_eq!(world.ask(&Ask { host_name: "first", ..Ask::select(1, address) }), None);
    assert_eq!(world.ask(&Ask { xid: 4242, host_name: "second", ..Ask::select(1, address) }), None);
    assert_eq!(world.lease(address).map(|lease| lease.hostname.to_vec()), Some(b"second".to_vec()));
    let told: Vec<Vec<u8>> = world.updates.iter().map(|update| update.lease.hostname.to_vec()).collect();
    assert_eq!(told, [b"first".to_vec(), b"second".to_vec()]);
    world.answer_updates(UpdateOutcome::Acked);
    let xids: Vec<u32> =
        world.wire.iter().map(|(_, bytes)| Query::decode(bytes).expect("a reply").xid()).collect();
    assert_eq!(xids, [4242]);
}

/// The lease waits since 5 s: the ACK to the newer query promises what is left of it, not more than the row says.
#[test]
fn a_newer_transaction_is_promised_what_is_left_of_the_lease_that_waits() {
    let mut world = replicating(3, "");
    let address = offered(&mut world, 1);
    world.partner = Partner::Silent;
    assert_eq!(world.ask(&Ask::select(1, address)), None);
    world.pass_s(5);
    assert_eq!(world.ask(&Ask { xid: 4242, ..Ask::select(1, address) }), None);
    world.answer_updates(UpdateOutcome::Acked);
    let (_, bytes) = world.wire.pop_front().expect("one ACK");
    assert_eq!(Query::decode(&bytes).expect("a reply").lease_time(), Some(595));
}

/// The lease was given while nobody was asked, and waits for the disk when the partner is to be asked again.
#[test]
fn a_newer_transaction_is_given_anew_what_the_partner_was_not_told_of() {
    for (asks, updates) in [(false, 0), (true, 1)] {
        let mut world = replicating(3, "");
        let address = offered(&mut world, 1);
        let alone = HaView { updates: UpdateMode::None, ..world.replicating_view() };
        world.set_view(alone);
        world.disk_works = false;
        assert_eq!(world.ask(&Ask::select(1, address)), None);
        if asks {
            let view = world.replicating_view();
            world.set_view(view);
        }
        world.partner = Partner::Silent;
        assert_eq!(world.ask(&Ask { xid: 4242, ..Ask::select(1, address) }), None);
        world.disk_works = true;
        world.settle();
        assert_eq!(world.updates.len(), updates, "asks: {asks}");
        let is_newest = |bytes: &[u8]| bytes[4..8] == 4242_u32.to_be_bytes();
        let answered = world.wire.iter().filter(|(_, bytes)| is_newest(bytes)).count();
        assert_eq!(answered, usize::from(!asks), "asks: {asks}");
        world.answer_updates(UpdateOutcome::Acked);
        assert_eq!(world.wire.iter().filter(|(_, bytes)| is_newest(bytes)).count(), 1);
    }
}

#[test]
fn an_ack_that_waits_is_dropped_when_its_client_gives_the_lease_back() {
    for ask in [Ask::release, Ask::decline] {
        let mut world = replicating(3, "");
        let address = address_of(&world.join(plain(1)));
        world.partner = Partner::Silent;
        assert_eq!(world.ask(&Ask { xid: 1, ..Ask::renew(1, address) }), None);
        assert_eq!(world.ask(&Ask { xid: 2, ..ask(1, address) }), None);
        world.answer_updates(UpdateOutcome::Acked);
        assert_eq!(world.heard(), None, "the ACK would promise what is no more");
    }
}

/// The row came from the partner a moment ago and is on its way to the disk.
#[test]
fn the_cache_answers_once_the_row_is_durable() {
    let keys = r#", "cache-threshold": 0.5"#;
    let mut world = World::new(2, 4, snapshot(POOL, keys), Vec::new());
    let address = address_of(&world.join(plain(1)));
    let lease = world.lease(address).expect("the lease");
    world.disk_works = false;
    let owner = world.rules.owners.owner_of(address);
    let update = ShardCommandBody::PartnerUpdate {
        lease: Box::new(lease),
        force_create: true,
        by_partner: true,
        relationship: None,
    };
    assert!(world.command(owner, update).is_none(), "not durable yet");
    assert_eq!(world.ask(&Ask::renew(1, address)), None);
    world.disk_works = true;
    world.settle();
    assert_eq!(world.heard(), Some(Heard::Ack(address)));
}

/// This server has copied the partner's leases; its own may be nowhere else.
#[test]
fn a_server_that_joins_by_copying_replicates_before_the_cache_answers() {
    for (alone, updates) in [(true, 0), (false, 1)] {
        let mut world = World::new(2, 4, snapshot(POOL, r#", "cache-threshold": 0.5"#), Vec::new());
        world.pass_s(2);
        let address = address_of(&world.join(plain(1)));
        world.pass_s(2);
        let view = world.replicating_view();
        let before = HaView {
            updates: UpdateMode::None,
            scopes: Scopes { primary: alone, ..Scopes::NONE },
            ..world.replicating_view()
        };
        world.set_view(before);
        world.set_view(HaView { epoch: view.epoch + 1, ..view });
        assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)));
        assert_eq!(world.updates.len(), updates, "alone before: {alone}");
    }
}

/// It may have taken over.
#[test]
fn while_the_partner_is_silent_the_cache_answers_nobody_for_it() {
    for (interrupted, updates) in [(false, 0), (true, 1)] {
        let mut world = World::new(2, 4, snapshot(POOL, r#", "cache-threshold": 0.5"#), Vec::new());
        let view = world.replicating_view();
        world.set_view(view.clone());
        world.pass_s(2);
        let address = address_of(&world.join(plain(1)));
        world.pass_s(2);
        world.updates.clear();
        world.set_view(HaView { epoch: view.epoch + 1, interrupted, ..view });
        assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)));
        assert_eq!(world.updates.len(), updates, "interrupted: {interrupted}");
    }
}

/// A reply is void with the first failure; until the update of the new lease itself has come back, nobody knows
/// whether the partner has it.
#[test]
fn a_lease_whose_update_is_under_way_is_not_given_from_the_cache() {
    let mut world = replicating(4, r#", "cache-threshold": 0.5"#);
    world.pass_s(2);
    let before = address_of(&world.join(plain(1)));
    let new = (100..200).map(|octet| Ipv4Addr::new(192, 0, 2, octet)).find(|address| *address != before);
    let new = new.expect("an address");
    world.partner = Partner::Silent;
    assert_eq!(world.ask(&Ask { xid: 5, ..Ask::select(1, new) }), None);
    world.answer_one(UpdateKind::Delete, UpdateOutcome::Failed);
    world.updates.clear();
    assert_eq!(world.ask(&Ask { xid: 6, ..Ask::select(1, new) }), None);
    assert!(!world.updates.is_empty(), "the partner is asked again");
}

#[test]
fn a_lease_of_an_earlier_life_is_replicated_before_the_cache_answers_for_it() {
    let keys = r#", "cache-threshold": 0.5"#;
    let mut before = World::new(2, 4, snapshot(POOL, keys), Vec::new());
    let address = address_of(&before.join(plain(1)));
    let mut world = World::new(2, 4, snapshot(POOL, keys), before.leases());
    let view = world.replicating_view();
    world.set_view(view);
    world.pass_s(1);
    for updates in [1, 1] {
        assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)));
        assert_eq!(world.updates.len(), updates);
    }
}

#[test]
fn a_move_sends_the_deletion_and_the_update_and_waits_for_both() {
    for shard in 0..4 {
        let mut world = replicating(4, "");
        let before = address_of(&world.join(plain(1)));
        world.updates.clear();
        let new = (100..200)
            .map(|octet| Ipv4Addr::new(192, 0, 2, octet))
            .find(|&address| world.rules.owners.owner_of(address) == shard && address != before)
            .expect("an address");
        world.partner = Partner::Silent;
        assert_eq!(world.ask(&Ask { xid: 5, ..Ask::select(1, new) }), None);
        let mut sent: Vec<(UpdateKind, Ipv4Addr)> =
            world.updates.iter().map(|Update { kind, lease, .. }| (*kind, lease.address)).collect();
        sent.sort_by_key(|(_, address)| *address == new);
        assert_eq!(sent, [(UpdateKind::Delete, before), (UpdateKind::Update, new)], "shard {shard}");
        world.answer_updates(UpdateOutcome::Acked);
        assert_eq!(world.heard(), Some(Heard::Ack(new)));
    }
}

#[test]
fn releases_and_declines_are_replicated_as_the_partner_understands_them() {
    for knows_released in [true, false] {
        let mut world = replicating(5, "");
        let view = HaView { sends_released: knows_released, epoch: 9, ..world.replicating_view() };
        world.set_view(view);
        let released = address_of(&world.join(plain(1)));
        let declined = address_of(&world.join(plain(2)));
        world.updates.clear();
        world.ask(&Ask::release(1, released));
        world.ask(&Ask::decline(2, declined));
        let sent: Vec<(UpdateKind, LeaseState)> =
            world.updates.iter().map(|update| (update.kind, update.lease.state)).collect();
        let release = if knows_released { UpdateKind::Update } else { UpdateKind::Delete };
        assert_eq!(
            sent,
            [(release, LeaseState::Released), (UpdateKind::Update, LeaseState::Declined)],
            "partner knows: {knows_released}"
        );
    }
}

/// Nothing is committed above the limit, and it is free again when the partner has answered.
#[test]
fn queries_above_the_limit_of_waiting_replies_are_dropped_before_the_commit() {
    let mut snapshot = snapshot(POOL, "");
    snapshot.parked_packet_limit = 4;
    let mut world = World::new(6, 1, snapshot, Vec::new());
    let view = world.replicating_view();
    world.set_view(view);
    let offers: Vec<Ipv4Addr> = (0..5).map(|number| offered(&mut world, number)).collect();
    world.partner = Partner::Silent;
    for (number, address) in (0..).zip(&offers) {
        assert_eq!(world.ask(&Ask::select(number, *address)), None);
    }
    assert_eq!(world.updates.len(), 4);
    assert_eq!(world.lease(offers[4]), None);
    assert_eq!(world.count(Counter::QueueFull), 1);
    world.answer_updates(UpdateOutcome::Acked);
    assert_eq!(world.wire.len(), 4);
    world.wire.clear();
    world.partner = Partner::Answers(UpdateOutcome::Acked);
    assert_eq!(world.ask(&Ask::select(4, offers[4])), Some(Heard::Ack(offers[4])));
}

#[test]
fn alone_the_server_answers_without_the_partner_and_counts_what_it_did_not_send() {
    let mut world = replicating(7, "");
    let waiting = offered(&mut world, 1);
    world.partner = Partner::Silent;
    assert_eq!(world.ask(&Ask::select(1, waiting)), None);
    let partner_down = HaView { epoch: 20, updates: UpdateMode::None, ..world.replicating_view() };
    world.set_view(partner_down);
    assert_eq!(world.heard(), Some(Heard::Ack(waiting)), "released by the new view");
    assert_eq!(world.join(plain(2)).state(), ClientState::Bound);
    assert_eq!(world.updates.len(), 1, "nothing more was sent");
    world.pass_s(2);
    assert_eq!(world.own(OwnCounter::UnsentUpdates), 2);
    let told: Vec<u64> = world
        .control
        .iter()
        .filter_map(|message| match message {
            Message::UnsentUpdates { total, .. } => Some(*total),
            _ => None,
        })
        .collect();
    assert!(!told.is_empty() && told.iter().all(|total| (1..=2).contains(total)), "{told:?}");
    // The answer that comes after all finds nothing and does no harm.
    world.answer_updates(UpdateOutcome::Failed);
    assert_eq!(world.own(OwnCounter::LateAnswer), 1);
}

#[test]
fn in_communication_recovery_updates_go_to_the_backlog_and_nobody_waits() {
    let mut world = replicating(8, "");
    let view = HaView { epoch: 3, updates: UpdateMode::Queue, ..world.replicating_view() };
    world.set_view(view);
    assert_eq!(world.join(plain(1)).state(), ClientState::Bound);
    assert!(world.updates.is_empty());
    let queued = world.control.iter().filter(|message| matches!(message, Message::Backlog(_))).count();
    assert_eq!(queued, 1);
    assert_eq!(world.own(OwnCounter::UnsentUpdates), 0);
}

#[test]
fn a_standby_serves_nobody_and_reports_clients_only_while_interrupted() {
    let mut world = World::new(9, 2, snapshot(POOL, ""), Vec::new());
    for (interrupted, reports) in [(false, 0), (true, 1)] {
        let view = HaView {
            scopes: Scopes::NONE,
            interrupted,
            epoch: 1 + u64::from(interrupted),
            ..world.replicating_view()
        };
        world.set_view(view);
        assert_eq!(world.ask(&Ask::new(MessageType::Discover, 1)), None);
        let count = world.control.iter().filter(|message| matches!(message, Message::Unanswered(_))).count();
        assert_eq!(count, reports);
    }
    assert_eq!(world.own(OwnCounter::OutOfScope), 2);
}

#[test]
fn with_the_service_off_queries_are_dropped_and_parked_replies_still_leave() {
    let mut world = replicating(10, "");
    let address = offered(&mut world, 1);
    world.partner = Partner::Silent;
    assert_eq!(world.ask(&Ask::select(1, address)), None);
    let view = HaView { service_on: false, epoch: 5, ..world.replicating_view() };
    world.set_view(view);
    assert_eq!(world.ask(&Ask::new(MessageType::Discover, 2)), None);
    assert_eq!(world.count(Counter::ServiceDisabled), 1);
    world.answer_updates(UpdateOutcome::Acked);
    assert_eq!(world.heard(), Some(Heard::Ack(address)));
}

#[test]
fn the_partners_updates_and_deletions_are_durable_before_they_are_answered() {
    let mut world = World::new(11, 4, snapshot(POOL, ""), Vec::new());
    let address = address_of(&world.join(plain(1)));
    let owner = world.rules.owners.owner_of(address);
    let mut lease = world.lease(address).expect("the lease");
    lease.cltt -= 100;
    lease.hwaddr = SmallBytes::new(&[2, 9, 9, 9, 9, 9]);
    world.disk_works = false;
    let update = |lease: &Lease, force_create| {
        let lease = Box::new(lease.clone());
        ShardCommandBody::PartnerUpdate { lease, force_create, by_partner: true, relationship: None }
    };
    assert!(world.command(owner, update(&lease, true)).is_none(), "not durable yet");
    world.disk_works = true;
    world.settle();
    world.control.clear();
    assert_eq!(world.lease(address), Some(lease.clone()), "an older transaction overwrites all the same");
    assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Nak), "it is another client's now");
    let deleted =
        world.command(owner, ShardCommandBody::PartnerDelete { address, deleted: None, relationship: None });
    assert!(matches!(deleted, Some(ShardReplyBody::Deleted(true))));
    let deleted =
        world.command(owner, ShardCommandBody::PartnerDelete { address, deleted: None, relationship: None });
    assert!(matches!(deleted, Some(ShardReplyBody::Deleted(false))));
    let missing = world.command(owner, update(&lease, false));
    assert!(matches!(missing, Some(ShardReplyBody::Missing)));
    assert!(world.updates.is_empty(), "the partner is not told what it said");
}

/// What somebody says is here already, but waits for the disk; or was here, and its deletion does.
#[test]
fn what_changes_nothing_is_answered_once_what_is_here_is_durable() {
    let copy = |lease: &Lease| ShardCommandBody::Synchronised(copied(lease.clone()));
    let deletion = |lease: &Lease| ShardCommandBody::PartnerBatch {
        relationship: 0,
        stamp: None,
        updates: vec![(UpdateKind::Delete, lease.clone())],
    };
    for deletes in [false, true] {
        let mut world = World::new(2, 2, snapshot(POOL, ""), Vec::new());
        let address = address_of(&world.join(plain(1)));
        let owner = world.rules.owners.owner_of(address);
        let lease = world.lease(address).expect("the lease");
        let newer = Lease { cltt: lease.cltt + 1, ..lease };
        world.disk_works = false;
        let (first, again) = match deletes {
            true => (deletion(&newer), deletion(&newer)),
            false => (batch_of(&newer), copy(&newer)),
        };
        assert!(world.command(owner, first).is_none(), "not durable yet");
        world.control.clear();
        assert!(world.command(owner, again).is_none(), "deletes {deletes}: nor is what is here already");
        world.disk_works = true;
        world.settle();
        let answers = world.control.iter().filter(|message| matches!(message, Message::Reply(_)));
        assert_eq!(answers.count(), 2, "deletes {deletes}");
        let third = if deletes { deletion(&newer) } else { copy(&newer) };
        assert!(matches!(world.command(owner, third), Some(ShardReplyBody::Applied(_))));
    }
}

/// An ACK waits for the disk of a server that serves alone when it gives the service up to its partner.
#[test]
fn an_ack_that_waits_for_the_disk_is_dropped_when_the_service_is_given_up() {
    for (gives_up, may_be_dropped) in [(true, true), (false, false)] {
        let mut dropped = 0;
        for seed in 0..32 {
            let mut world = World::new(seed, 1, snapshot(POOL, ""), Vec::new());
            let alone = HaView { updates: UpdateMode::None, ..world.replicating_view() };
            world.set_view(alone.clone());
            let address = offered(&mut world, 1);
            let (source, destination, bytes) = Ask::select(1, address).write();
            world.deliver(source, destination, &bytes);
            let scopes = if gives_up { Scopes::NONE } else { Scopes::PRIMARY };
            world.set_view(HaView { epoch: alone.epoch + 1, scopes, service_on: !gives_up, ..alone });
            let is_silent = world.heard().is_none();
            assert_eq!(world.own(OwnCounter::ParkedDropped) > 0, is_silent);
            dropped += u64::from(is_silent);
        }
        assert_eq!(dropped > 0, may_be_dropped, "{dropped} of 32");
    }
}

/// The same, but that updates are sent again for a moment before the service is given up.
#[test]
fn of_the_acks_that_wait_for_the_disk_those_that_were_told_of_outlive_the_service() {
    for (was_alone, leaves) in [(true, false), (false, true)] {
        let mut world = replicating(3, "");
        let address = offered(&mut world, 1);
        let both = world.replicating_view();
        let alone = HaView { updates: UpdateMode::None, ..both.clone() };
        world.set_view(if was_alone { alone.clone() } else { both.clone() });
        world.disk_works = false;
        assert_eq!(world.ask(&Ask::select(1, address)), None);
        world.set_view(HaView { epoch: both.epoch + 1, ..both.clone() });
        world.set_view(HaView { epoch: both.epoch + 2, scopes: Scopes::NONE, service_on: false, ..alone });
        world.disk_works = true;
        world.settle();
        assert_eq!(world.heard().is_some(), leaves, "given alone: {was_alone}");
    }
}

#[test]
fn synchronised_leases_replace_older_ones_only() {
    let mut world = World::new(12, 2, snapshot(POOL, ""), Vec::new());
    let address = address_of(&world.join(plain(1)));
    let owner = world.rules.owners.owner_of(address);
    let mine = world.lease(address).expect("the lease");
    let older = Lease { cltt: mine.cltt - 1, hostname: SmallBytes::new(b"old"), ..mine.clone() };
    let answer = world.command(owner, ShardCommandBody::Synchronised(copied(older)));
    assert!(matches!(answer, Some(ShardReplyBody::Applied(Applied { written: 0, .. }))));
    assert_eq!(world.lease(address), Some(mine.clone()));
    let newer = Lease { cltt: mine.cltt + 1, hostname: SmallBytes::new(b"new"), ..mine };
    let answer = world.command(owner, ShardCommandBody::Synchronised(copied(newer.clone())));
    assert!(matches!(answer, Some(ShardReplyBody::Applied(Applied { written: 1, .. }))));
    assert_eq!(world.lease(address), Some(newer));
}

/// Goal: a server that has stood still answers nobody on the strength of what it knew before. Method: the time up to
/// which the view may be acted on passes while queries wait at the socket, between shards, and for the partner.
#[test]
fn once_the_view_is_outdated_nobody_is_answered_until_it_is_renewed() {
    let mut world = replicating(13, "");
    let addresses: Vec<Ipv4Addr> = (1..=24).map(|number| offered(&mut world, number)).collect();
    let good_until = |world: &World, seconds: u64| HaView {
        good_until_ns: Some(world.now.monotonic_ns + seconds * 1_000_000_000),
        ..world.replicating_view()
    };
    let view = good_until(&world, 30);
    world.set_view(view);
    world.partner = Partner::Silent;
    assert_eq!(world.ask(&Ask::select(1, addresses[0])), None, "it waits for the partner");
    let (source, destination, _) = Ask::select(2, addresses[1]).write();
    for (number, address) in (2..).zip(&addresses[1..12]) {
        let shard = (number % 4) as u8;
        world.deliver_to(shard, source, destination, &Ask::select(number, *address).write().2);
    }
    // No timer runs, nothing is heard: the process is stopped.
    world.now.monotonic_ns += 30_000_000_000;
    world.settle();
    assert!(world.own(OwnCounter::ForwardHome) > 0, "some were on their way to the owner");
    assert!(world.own(OwnCounter::StoodStill) > 0, "and are not decided there");
    for (number, address) in (13..).zip(&addresses[12..]) {
        assert_eq!(world.ask(&Ask::select(number, *address)), None, "it has waited at the socket");
    }
    assert_eq!(world.ask(&Ask::new(MessageType::Discover, 99)), None);
    world.answer_updates(UpdateOutcome::Acked);
    assert_eq!(world.heard(), None, "the partner's word is of before");
    assert!(world.own(OwnCounter::StoodStill) >= 14);
    let view = good_until(&world, 30);
    world.set_view(view);
    world.partner = Partner::Answers(UpdateOutcome::Acked);
    for (number, address) in (1..).zip(addresses) {
        let asks = Ask { xid: 1_000 + number, ..Ask::select(number, address) };
        assert_eq!(world.ask(&asks), Some(Heard::Ack(address)), "client {number}");
    }
}

/// A request of the partner that bears no stamp.
pub(super) fn batch_of(lease: &Lease) -> ShardCommandBody {
    ShardCommandBody::PartnerBatch {
        relationship: 0,
        stamp: None,
        updates: vec![(UpdateKind::Update, lease.clone())],
    }
}

fn copied(lease: Lease) -> Arc<CopySlice> {
    Arc::new(CopySlice { rows: vec![(UpdateKind::Update, lease)], terms: Terms::Merging })
}

/// What a shard tells somebody who copies, and the mark to go on with.
fn changes(world: &mut World, shard: u8, since: Option<u64>) -> (Vec<(UpdateKind, Lease)>, u64) {
    match world.command(shard, ShardCommandBody::Changes { since, limit: 100, subnets: SubnetFilter::ALL }) {
        Some(ShardReplyBody::Changes { rows, mark, .. }) => (rows, mark),
        other => panic!("no changes: {other:?}"),
    }
}

/// What somebody who begins to copy is told first.
fn first_changes(world: &mut World) -> Vec<(UpdateKind, Lease)> {
    let (nothing, mark) = changes(world, 0, None);
    assert_eq!(nothing, []);
    changes(world, 0, Some(mark)).0
}

/// Rule: every change between a mark and the end is told (`ha::copy`).
#[test]
fn whoever_copies_hears_of_every_lease_that_changes_and_of_those_that_go() {
    let mut world = World::new(13, 1, snapshot(POOL, ""), Vec::new());
    let before = world.join(plain(1));
    let (deleted, mark) = changes(&mut world, 0, None);
    assert_eq!(deleted, []);
    assert_eq!(changes(&mut world, 0, Some(mark)), (Vec::new(), mark));
    let after = address_of(&world.join(plain(2)));
    let (rows, next) = changes(&mut world, 0, Some(mark));
    let lease = world.lease(after).expect("the lease");
    assert_eq!(rows, [(UpdateKind::Update, lease.clone())]);
    assert!(next > mark);
    let gone = world.lease(address_of(&before)).expect("the lease");
    let answer = world.command(
        0,
        ShardCommandBody::PartnerDelete { address: gone.address, deleted: None, relationship: None },
    );
    assert!(matches!(answer, Some(ShardReplyBody::Deleted(true))));
    assert_eq!(changes(&mut world, 0, Some(next)).0, [(UpdateKind::Delete, gone.clone())]);
    let both = changes(&mut world, 0, Some(mark)).0;
    assert_eq!(both.len(), 2);
    assert!(both.contains(&(UpdateKind::Delete, gone)) && both.contains(&(UpdateKind::Update, lease)));
    let other = world.command(
        0,
        ShardCommandBody::Changes { since: Some(mark - 1), limit: 100, subnets: SubnetFilter::ALL },
    );
    assert!(matches!(other, Some(ShardReplyBody::ChangesLost)));
}

/// Rule: ha-protocol 6.10. A lease that is deleted while the partner is away is told to whoever copies, until it is.
#[test]
fn a_lease_deleted_while_the_partner_is_away_is_remembered_until_it_has_copied() {
    let mut world = World::new(14, 1, snapshot(POOL, ""), Vec::new());
    let whole = world.replicating_view();
    let alone = HaView { epoch: whole.epoch + 1, updates: UpdateMode::None, ..whole.clone() };
    world.set_view(alone.clone());
    let client = world.join(plain(1));
    let lease = world.lease(address_of(&client)).expect("the lease");
    let answer = world.command(
        0,
        ShardCommandBody::PartnerDelete { address: lease.address, deleted: None, relationship: None },
    );
    assert!(matches!(answer, Some(ShardReplyBody::Deleted(true))));
    assert_eq!(first_changes(&mut world), [(UpdateKind::Delete, lease.clone())]);
    let again = Lease { cltt: lease.cltt + 1, ..lease.clone() };
    world.command(0, ShardCommandBody::Synchronised(copied(again.clone())));
    assert_eq!(first_changes(&mut world), [], "the address is given again");
    world.command(
        0,
        ShardCommandBody::PartnerDelete { address: lease.address, deleted: None, relationship: None },
    );
    assert_eq!(first_changes(&mut world), [(UpdateKind::Delete, again)]);
    world.set_view(HaView { epoch: alone.epoch + 1, ..whole });
    assert_eq!(first_changes(&mut world), [], "the partner has copied");
}

/// An answer beyond what an HTTP client takes would be asked for again and again.
#[test]
fn what_is_told_at_a_time_is_limited_in_octets_too() {
    const LEASES: usize = 40;
    let mut world = World::new(15, 1, snapshot(POOL, ""), Vec::new());
    let alone = HaView { updates: UpdateMode::None, ..world.replicating_view() };
    world.set_view(alone);
    let client = world.join(plain(1));
    let lease = world.lease(address_of(&client)).expect("the lease");
    let context = format!("{{ \"x\": \"{}\" }}", "x".repeat(COPY_OCTETS / 8));
    for number in 0..LEASES {
        let address = Ipv4Addr::from(u32::from(lease.address) + number as u32);
        let lease = Lease { address, user_context: Some(context.as_bytes().into()), ..lease.clone() };
        let body = ShardCommandBody::PartnerUpdate {
            lease: Box::new(lease),
            force_create: true,
            by_partner: true,
            relationship: None,
        };
        assert!(matches!(world.command(0, body), Some(ShardReplyBody::Updated { .. })));
        let deleted =
            world.command(0, ShardCommandBody::PartnerDelete { address, deleted: None, relationship: None });
        assert!(matches!(deleted, Some(ShardReplyBody::Deleted(true))));
    }
    let (none, mut mark) = changes(&mut world, 0, None);
    assert_eq!(none, [], "deletions come with the changes");
    let mut told = 0;
    for _ in 0..LEASES {
        let (rows, next) = changes(&mut world, 0, Some(mark));
        assert!(rows.len() * context.len() <= 3 * COPY_OCTETS, "{} rows", rows.len());
        told += rows.len();
        mark = next;
    }
    assert_eq!(told, LEASES);
}

#[test]
fn a_drain_is_answered_when_nothing_is_parked_and_everything_is_durable() {
    let mut world = replicating(13, "");
    let address = offered(&mut world, 1);
    let owner = world.rules.owners.owner_of(address);
    world.partner = Partner::Silent;
    assert_eq!(world.ask(&Ask::select(1, address)), None);
    assert!(world.command(owner, ShardCommandBody::Drain).is_none());
    world.answer_updates(UpdateOutcome::Acked);
    let drained = |message: &Message| match message {
        Message::Reply(reply) => matches!(reply.body, ShardReplyBody::Drained),
        _ => false,
    };
    assert!(world.control.iter().any(drained));
}

#[test]
fn an_update_that_never_comes_back_is_given_up_and_reported_as_failed() {
    let mut world = replicating(14, "");
    let address = offered(&mut world, 1);
    world.partner = Partner::Silent;
    assert_eq!(world.ask(&Ask::select(1, address)), None);
    world.pass_s(60);
    assert_eq!(world.heard(), None);
    assert_eq!(world.own(OwnCounter::ParkedExpired), 1);
    assert_eq!(outcomes(&world), [UpdateOutcome::Failed]);
}

/// When the servers meet, the newer lease of an address stays: what is promised anew has to be the newer one.
#[test]
fn alone_a_lease_is_written_whenever_it_is_asked_for() {
    let mut world = World::new(2, 4, snapshot(POOL, r#", "cache-threshold": 0.5"#), Vec::new());
    let view = world.replicating_view();
    world.set_view(view);
    world.pass_s(2);
    let address = address_of(&world.join(plain(1)));
    let given_s = world.lease(address).expect("the lease").cltt;
    let alone = HaView { updates: UpdateMode::None, ..world.replicating_view() };
    world.set_view(alone);
    for passed_s in [2, 4] {
        world.pass_s(2);
        assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)));
        assert_eq!(world.lease(address).expect("the lease").cltt, given_s + passed_s);
    }
}

/// Its client may have given a lease back to the partner, and the word of that was lost.
#[test]
fn what_the_partner_served_until_its_maintenance_is_replicated_before_the_cache_answers() {
    for (scopes, asked) in [(Scopes::PRIMARY, 0), (Scopes::BOTH, 1)] {
        let mut world = World::new(2, 4, snapshot(POOL, r#", "cache-threshold": 0.5"#), Vec::new());
        let view = world.replicating_view();
        world.set_view(view);
        world.pass_s(2);
        let address = address_of(&world.join(plain(1)));
        world.pass_s(2);
        let view = HaView { scopes, ..world.replicating_view() };
        world.set_view(view);
        world.updates.clear();
        assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)));
        assert_eq!(world.updates.len(), asked, "{scopes:?}");
    }
}

/// The partner went into maintenance without the leases that were given alone: nobody has copied them.
#[test]
fn what_a_partner_in_maintenance_has_not_copied_is_replicated_before_the_cache_answers() {
    for (partner_is_behind, updates) in [(false, 0), (true, 1)] {
        let mut world = World::new(2, 4, snapshot(POOL, r#", "cache-threshold": 0.5"#), Vec::new());
        let alone = HaView { updates: UpdateMode::None, ..world.replicating_view() };
        world.set_view(alone);
        world.pass_s(2);
        let address = address_of(&world.join(plain(1)));
        world.pass_s(2);
        let view = HaView { partner_is_behind, ..world.replicating_view() };
        world.set_view(view);
        assert_eq!(world.ask(&Ask::renew(1, address)), Some(Heard::Ack(address)));
        assert_eq!(world.updates.len(), updates, "behind: {partner_is_behind}");
    }
}
