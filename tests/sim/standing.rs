//! Whose lease of an address stays, at whole shards: what was given alone, late updates and deletions, comparisons.

use std::net::Ipv4Addr;
use std::sync::Arc;

use shards::{Lease, LeaseState, SmallBytes};
use tandem::engine::counters::OwnCounter;
use tandem::engine::event::{ConflictSide, Event, EventKind};
use tandem::engine::message::{
    Applied, CopySlice, ShardCommandBody, ShardReplyBody, Span, Terms, UpdateKind, UpdateOutcome,
};
use tandem::ha::fence::Fence;
use tandem::ha::view::{Alone, HaView, Scopes, Untold, UpdateMode};

use super::clients::{Ask, Heard, plain};
use super::partner::{POOL, address_of, batch_of, offered, replicating};
use super::world::{Partner, World, snapshot};

/// Four clients hold leases, the first and the third of which were given while the partner was not told, one before and one
/// after; what the partner lists decides which of them it is sent.
#[test]
fn what_the_partner_was_not_told_and_does_not_list_is_sent_and_nothing_else() {
    let mut world = replicating(12, "");
    let leases: Vec<Lease> = (1..=4)
        .map(|client| {
            let address = address_of(&world.join(plain(client)));
            world.lease(address).expect("a lease")
        })
        .collect();
    let since_s = leases[1].cltt + 100;
    for (lease, cltt) in leases.iter().zip([since_s, since_s - 1, since_s + 7, since_s + 8]) {
        let owner = world.rules.owners.owner_of(lease.address);
        let moved = Lease { cltt, ..lease.clone() };
        let update = ShardCommandBody::PartnerUpdate {
            lease: Box::new(moved),
            force_create: true,
            by_partner: true,
            relationship: None,
        };
        assert!(matches!(world.command(owner, update), Some(ShardReplyBody::Updated { .. })));
    }
    let untold = Untold { since_s, until_s: since_s + 7 };
    let first = leases.iter().map(|lease| lease.address).min().expect("an address");
    let below = Ipv4Addr::from(u32::from(first) - 1);
    let last = leases.iter().map(|lease| lease.address).max().expect("an address");
    for (case, untold, span, lists, expected) in [
        ("everything was told", None, Span::default(), false, 0),
        ("nothing is listed", Some(untold), Span::default(), false, 2),
        ("one is listed as it is", Some(untold), Span::default(), true, 1),
        ("a page before them", Some(untold), Span { upto: Some(below), ..Span::default() }, false, 0),
        ("a page behind them", Some(untold), Span { after: Some(last), ..Span::default() }, false, 0),
    ] {
        world.set_view(HaView { untold, ..world.replicating_view() });
        let mut sent = 0;
        for shard in 0..world.rules.owners.shards() {
            let known = world.lease(leases[2].address).expect("the lease");
            let is_owner = world.rules.owners.owner_of(known.address) == shard;
            let rows = if lists && is_owner { vec![(UpdateKind::Update, known)] } else { Vec::new() };
            let slice = CopySlice { rows, terms: Terms::Comparison(span) };
            match world.command(shard, ShardCommandBody::Synchronised(Arc::new(slice))) {
                Some(ShardReplyBody::Applied(Applied { sent_back, written: 0, goes_on: None, .. })) => {
                    sent += sent_back;
                }
                other => panic!("{case}: {other:?}"),
            }
        }
        assert_eq!(sent, expected, "{case}");
    }
}

/// The link is cut: what is given waits for the partner, is acknowledged when this server counts it as lost, and its update
/// fails only then. The lease is of before it was alone.
#[test]
fn what_was_given_before_and_its_update_was_lost_is_sent_where_it_is_not_listed() {
    for (outcome, expected) in [(UpdateOutcome::Failed, 1), (UpdateOutcome::Acked, 0)] {
        let mut world = replicating(12, "");
        world.join(plain(1));
        world.partner = Partner::Silent;
        let address = offered(&mut world, 2);
        assert_eq!(world.ask(&Ask::select(2, address)), None, "it waits for the partner");
        world.pass_s(2);
        let untold = Untold { since_s: world.now.wall_s(), until_s: u64::MAX };
        let view = HaView { updates: UpdateMode::None, untold: Some(untold), ..world.replicating_view() };
        world.set_view(view);
        assert_eq!(world.heard(), Some(Heard::Ack(address)), "nobody is there to acknowledge it");
        world.answer_updates(outcome);
        // It copies, as the partner does that served alone too, and both serve again.
        let whole = HaView { untold: Some(untold), ..world.replicating_view() };
        let copies =
            HaView { service_on: false, scopes: Scopes::NONE, updates: UpdateMode::None, ..whole.clone() };
        for view in [copies, whole] {
            world.set_view(HaView { epoch: world.view.epoch + 1, ..view });
        }
        let mut sent = 0;
        for shard in 0..world.rules.owners.shards() {
            let slice = CopySlice { rows: Vec::new(), terms: Terms::Comparison(Span::default()) };
            match world.command(shard, ShardCommandBody::Synchronised(Arc::new(slice))) {
                Some(ShardReplyBody::Applied(applied)) => sent += applied.sent_back,
                other => panic!("{outcome:?}: {other:?}"),
            }
        }
        assert_eq!(sent, expected, "{outcome:?}");
    }
}

/// The lease that stays, where a change of it alone was refused or of nothing else of a batch.
fn stays_by(answer: &Option<ShardReplyBody>) -> Option<&Lease> {
    match answer {
        Some(ShardReplyBody::GivenAlone(ours)) => Some(ours),
        Some(ShardReplyBody::AppliedBut { foreign, given_alone }) if foreign.is_empty() => {
            given_alone.first()
        }
        _ => None,
    }
}

/// Whose lease an event of the log is about, since when, and what becomes of it.
fn conflict_told(event: &Event) -> Option<(Vec<u8>, u64, ConflictSide)> {
    match event.kind {
        EventKind::LeaseConflict { cltt, side, .. } => Some((event.client.hwaddr().to_vec(), cltt, side)),
        _ => None,
    }
}

/// A server that was alone has given the address to client 1; the partner, which did not know, to another one.
#[test]
fn what_was_given_alone_no_late_update_takes_and_a_comparison_sends_it_back() {
    let mut world = replicating(12, "");
    let address = address_of(&world.join(plain(1)));
    let owner = world.rules.owners.owner_of(address);
    let ours = world.lease(address).expect("the lease");
    let hwaddr = SmallBytes::new(&[2, 9, 9, 9, 9, 9]);
    let theirs = Lease { hwaddr, cltt: ours.cltt + 5, ..ours.clone() };
    let late = || batch_of(&theirs);
    let compared = || {
        let rows = vec![(UpdateKind::Update, theirs.clone())];
        ShardCommandBody::Synchronised(Arc::new(CopySlice {
            rows,
            terms: Terms::Comparison(Span::default()),
        }))
    };
    for (partner_since_s, stays) in [(None, true), (Some(theirs.cltt + 1), true), (Some(theirs.cltt), false)]
    {
        let alone = Some(Alone { since_s: ours.cltt, partner_since_s, partner_knows_since_s: None });
        // What was refused before is forgotten with the story it belongs to.
        for alone in [None, alone] {
            let view = HaView { alone, ..world.replicating_view() };
            world.set_view(view);
        }
        let restored = batch_of(&ours);
        assert!(matches!(world.command(owner, restored), Some(ShardReplyBody::Applied(_))));
        world.events.clear();
        let answer = world.command(owner, late());
        let told: Vec<_> = world.events.iter().filter_map(conflict_told).collect();
        let sides = match stays {
            true => [ConflictSide::OursStays, ConflictSide::TheirsRefused],
            false => [ConflictSide::OursGivesWay, ConflictSide::TheirsTaken],
        };
        let clients = [ours.hwaddr.as_slice(), theirs.hwaddr.as_slice()].map(<[u8]>::to_vec);
        let both = clients.into_iter().zip([ours.cltt, theirs.cltt]).zip(sides);
        assert_eq!(told, both.map(|((client, cltt), side)| (client, cltt, side)).collect::<Vec<_>>());
        assert_eq!(
            stays_by(&answer).is_some_and(|stays| stays.hwaddr == ours.hwaddr),
            stays,
            "{partner_since_s:?}: {answer:?}"
        );
        world.updates.clear();
        let Some(ShardReplyBody::Applied(applied)) = world.command(owner, compared()) else { panic!() };
        assert_eq!((applied.sent_back, world.updates.len()), if stays { (1, 1) } else { (0, 0) });
        let holder = if stays { &ours.hwaddr } else { &theirs.hwaddr };
        assert_eq!(world.lease(address).map(|lease| lease.hwaddr), Some(holder.clone()));
    }
}

/// Nothing of a batch is refused but what says something of the address that was given alone, and only that is remembered.
#[test]
fn of_a_batch_with_a_defended_lease_the_rest_is_carried_out() {
    let mut world = World::new(12, 1, snapshot(POOL, ""), Vec::new());
    let view = world.replicating_view();
    world.set_view(view);
    let ours = [1, 2, 3].map(|number| {
        let address = address_of(&world.join(plain(number)));
        world.lease(address).expect("the lease")
    });
    let alone = Some(Alone { since_s: ours[0].cltt, partner_since_s: None, partner_knows_since_s: None });
    let view = HaView { alone, ..world.replicating_view() };
    world.set_view(view);
    let stranger = SmallBytes::new(&[2, 9, 9, 9, 9, 9]);
    let theirs = Lease { hwaddr: stranger, cltt: ours[1].cltt + 5, ..ours[1].clone() };
    let renewed = Lease { cltt: ours[0].cltt + 5, ..ours[0].clone() };
    let updates = vec![
        (UpdateKind::Update, Lease { cltt: theirs.cltt - 1, ..ours[1].clone() }),
        (UpdateKind::Update, renewed.clone()),
        (UpdateKind::Update, theirs.clone()),
        (UpdateKind::Delete, ours[2].clone()),
    ];
    world.events.clear();
    let batch = ShardCommandBody::PartnerBatch { relationship: 0, stamp: None, updates };
    match world.command(0, batch) {
        Some(ShardReplyBody::AppliedBut { foreign, given_alone }) => {
            assert_eq!((foreign, given_alone), (Vec::new(), vec![ours[1].clone()]));
        }
        other => panic!("{other:?}"),
    }
    let now = [0, 1, 2].map(|place: usize| world.lease(ours[place].address));
    assert_eq!(now, [Some(renewed), Some(ours[1].clone()), None]);
    let told: Vec<_> = world.events.iter().filter_map(conflict_told).map(|(_, _, side)| side).collect();
    assert_eq!(told, [ConflictSide::OursStays, ConflictSide::TheirsRefused]);
}

/// The partner, which was alone as well, has given the address while it did not know yet, was refused, and told its client
/// nothing; a second later, alone, it has given it to that client.
#[test]
fn a_lease_whose_update_was_refused_comes_back_with_no_copy_and_a_later_one_does() {
    let mut world = replicating(12, "");
    let address = address_of(&world.join(plain(1)));
    let owner = world.rules.owners.owner_of(address);
    let ours = world.lease(address).expect("the lease");
    let hwaddr = SmallBytes::new(&[2, 9, 9, 9, 9, 9]);
    let refused = Lease { hwaddr, cltt: ours.cltt + 5, ..ours.clone() };
    let given = Lease { cltt: refused.cltt + 1, ..refused.clone() };
    let single = || ShardCommandBody::PartnerUpdate {
        lease: Box::new(refused.clone()),
        force_create: true,
        by_partner: true,
        relationship: None,
    };
    for is_batch in [false, true] {
        let view = world.replicating_view();
        world.set_view(view);
        let restored = batch_of(&ours);
        assert!(matches!(world.command(owner, restored), Some(ShardReplyBody::Applied(_))));
        for partner_since_s in [None, Some(refused.cltt)] {
            let alone = Some(Alone { since_s: ours.cltt, partner_since_s, partner_knows_since_s: None });
            let view = HaView { alone, ..world.replicating_view() };
            world.set_view(view);
            if partner_since_s.is_none() {
                let answer = world.command(owner, if is_batch { batch_of(&refused) } else { single() });
                assert!(stays_by(&answer).is_some(), "{answer:?}");
            }
        }
        for (theirs, taken) in [(&refused, false), (&given, true)] {
            let rows = vec![(UpdateKind::Update, theirs.clone())];
            let slice = CopySlice { rows, terms: Terms::Merging };
            world.command(owner, ShardCommandBody::Synchronised(Arc::new(slice)));
            let holder = if taken { theirs } else { &ours };
            assert_eq!(world.lease(address).as_ref(), Some(holder), "{taken}");
        }
    }
}

/// Client 1 comes back to the partner with another network card, or with an identifier that it did not show before.
#[test]
fn what_was_given_alone_its_own_client_may_have_from_the_partner() {
    let mut world = replicating(12, "");
    let address = address_of(&world.join(plain(1)));
    let owner = world.rules.owners.owner_of(address);
    let ours = Lease { client_id: SmallBytes::new(&[1, 2, 3]), ..world.lease(address).expect("the lease") };
    let alone = Some(Alone { since_s: ours.cltt, partner_since_s: None, partner_knows_since_s: None });
    let view = HaView { alone, ..world.replicating_view() };
    world.set_view(view);
    for (hwaddr, client_id) in [
        (SmallBytes::new(&[2, 9, 9, 9, 9, 9]), ours.client_id.clone()),
        (ours.hwaddr.clone(), SmallBytes::new(&[7, 7])),
    ] {
        let theirs = Lease { hwaddr, client_id, cltt: ours.cltt + 5, ..ours.clone() };
        for lease in [&ours, &theirs] {
            let update = batch_of(lease);
            let answer = world.command(owner, update);
            assert!(matches!(answer, Some(ShardReplyBody::Applied(_))), "{lease:?}: {answer:?}");
        }
        assert_eq!(world.lease(address), Some(theirs));
    }
}

/// A Kea's client has asked again, and of its two updates the later one went first.
#[test]
fn an_update_that_a_later_one_of_the_partner_has_overtaken_changes_nothing() {
    let mut world = replicating(12, "");
    let given = address_of(&world.join(plain(1)));
    let owner = world.rules.owners.owner_of(given);
    let lease = world.lease(given).expect("the lease");
    let at = |cltt| Lease { cltt, ..lease.clone() };
    let released = |cltt| Lease { state: LeaseState::Released, ..at(cltt) };
    let start_s = lease.cltt;
    for (case, after_s, theirs, taken) in [
        ("older than what was given here", 0, at(start_s - 1), true),
        ("later, and told first", 0, at(start_s + 7), true),
        ("overtaken", 1, at(start_s + 5), false),
        ("overtaken as well", 0, at(start_s + 6), false),
        ("the clock was set back", 0, at(start_s - 20), true),
        ("the client asks again", 1, at(start_s - 19), true),
        ("what was told first was told long ago", 11, at(start_s - 20), true),
        ("a release", 0, released(start_s - 21), true),
        ("older than the release", 0, at(start_s - 22), true),
    ] {
        world.pass_s(after_s);
        let before = (world.lease(given), world.own(OwnCounter::OvertakenUpdates));
        let update = ShardCommandBody::PartnerUpdate {
            lease: Box::new(theirs.clone()),
            force_create: true,
            by_partner: true,
            relationship: Some(0),
        };
        let answer = world.command(owner, update);
        assert!(matches!(answer, Some(ShardReplyBody::Updated { created: false })), "{case}: {answer:?}");
        let (expected, count) = if taken { (Some(theirs), 0) } else { (before.0, 1) };
        let (now, counted) = (world.lease(given), world.own(OwnCounter::OvertakenUpdates) - before.1);
        let essence = |lease: Option<Lease>| lease.map(|lease| (lease.cltt, lease.state, lease.hwaddr));
        assert_eq!((essence(now), counted), (essence(expected), count), "{case}");
    }
}

/// A Kea sends what waits in its queue also after it was copied.
#[test]
fn an_update_from_before_a_copy_of_the_partner_changes_nothing_after_it() {
    for terms in [Terms::Joining, Terms::Merging] {
        for (stamped, late_s, taken) in [(false, 9, false), (false, 11, true), (true, 9, true)] {
            let mut world = replicating(12, "");
            let given = address_of(&world.join(plain(1)));
            let owner = world.rules.owners.owner_of(given);
            let lease = world.lease(given).expect("the lease");
            let view = world.replicating_view();
            world.set_view(HaView { partner_fence: stamped.then(Fence::default), ..view });
            let copied = Lease { cltt: lease.cltt + 1, ..lease.clone() };
            let slice = CopySlice { rows: vec![(UpdateKind::Update, copied.clone())], terms };
            world.command(owner, ShardCommandBody::Synchronised(Arc::new(slice)));
            assert_eq!(world.lease(given), Some(copied.clone()));
            world.pass_s(late_s);
            let update = ShardCommandBody::PartnerUpdate {
                lease: Box::new(lease.clone()),
                force_create: true,
                by_partner: true,
                relationship: Some(0),
            };
            let answer = world.command(owner, update);
            assert!(matches!(answer, Some(ShardReplyBody::Updated { created: false })), "{answer:?}");
            let expected = if taken { lease } else { copied };
            assert_eq!(world.lease(given), Some(expected), "{terms:?}, stamped {stamped}, after {late_s} s");
        }
    }
}

/// An update that was on its way when this server took over must not take the lease from the client it was given to.
#[test]
fn whoever_has_taken_over_refuses_what_was_given_before() {
    let mut world = World::new(2, 4, snapshot(POOL, ""), Vec::new());
    let view = world.replicating_view();
    world.set_view(view);
    world.pass_s(2);
    let address = address_of(&world.join(plain(1)));
    let ours = world.lease(address).expect("the lease");
    let owner = world.rules.owners.owner_of(address);
    let older = Lease { cltt: ours.cltt - 1, hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 99]), ..ours.clone() };
    for (updates, taken) in [(UpdateMode::None, false), (UpdateMode::Send, true)] {
        let view = HaView { updates, ..world.replicating_view() };
        world.set_view(view);
        let batch = batch_of(&older);
        let single = ShardCommandBody::PartnerUpdate {
            lease: Box::new(older.clone()),
            force_create: true,
            by_partner: true,
            relationship: None,
        };
        for update in [batch, single] {
            let answer = world.command(owner, update);
            let is_refused = stays_by(&answer).is_some();
            assert_eq!(is_refused, !taken, "{updates:?}: {answer:?}");
            assert_eq!(world.lease(address).is_some_and(|lease| lease == ours), !taken, "{updates:?}");
        }
    }
}

/// The same of a deletion; an administrator, who names an address or brings a lease of his own, has his way.
#[test]
fn whoever_has_taken_over_refuses_late_deletions_and_obeys_an_administrator() {
    let mut world = World::new(2, 4, snapshot(POOL, ""), Vec::new());
    world.pass_s(2);
    let view = world.replicating_view();
    world.set_view(view);
    let address = address_of(&world.join(plain(1)));
    let ours = world.lease(address).expect("the lease");
    let owner = world.rules.owners.owner_of(address);
    let alone = Some(Alone { since_s: ours.cltt, partner_since_s: None, partner_knows_since_s: None });
    let view = HaView { alone, updates: UpdateMode::None, ..world.replicating_view() };
    world.set_view(view);
    let another =
        Lease { cltt: ours.cltt - 1, hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, 99]), ..ours.clone() };
    let delete = |deleted: Option<&Lease>| ShardCommandBody::PartnerDelete {
        address,
        deleted: deleted.map(|lease| Box::new(lease.clone())),
        relationship: None,
    };
    let batch = ShardCommandBody::PartnerBatch {
        relationship: 0,
        stamp: None,
        updates: vec![(UpdateKind::Delete, another.clone())],
    };
    for late in [delete(Some(&another)), batch] {
        let answer = world.command(owner, late);
        assert!(stays_by(&answer).is_some(), "{answer:?}");
        assert_eq!(world.lease(address), Some(ours.clone()));
    }
    let by_hand = ShardCommandBody::PartnerUpdate {
        lease: Box::new(another.clone()),
        force_create: true,
        by_partner: false,
        relationship: None,
    };
    let answer = world.command(owner, by_hand);
    assert!(matches!(answer, Some(ShardReplyBody::Updated { .. })), "{answer:?}");
    assert_eq!(world.lease(address), Some(another));
    assert!(matches!(world.command(owner, delete(None)), Some(ShardReplyBody::Deleted(true))));
    assert_eq!(world.lease(address), None);
}
