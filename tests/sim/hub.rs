//! A hub: one server with two relationships, each with a subnet of its own (ha-protocol 1.9).

use std::net::Ipv4Addr;

use shards::{Lease, SmallBytes};
use tandem::engine::counters::{Counter, OwnCounter};
use tandem::engine::message::{Message, ShardCommandBody, ShardReplyBody, Terms, UpdateKind, UpdateOutcome};
use tandem::ha::copy::CopyRows;
use tandem::ha::fence::{Fence, Stamp};
use tandem::ha::view::{HaView, Scopes, UpdateMode};
use tandem::policy::{Host, HostInterface, Snapshot, SubnetFilter, compile};
use tandem::wire::codes::MessageType;

use super::clients::{Ask, Heard};
use super::world::{IFINDEX, Partner, SERVER, World};

/// The third octet of each subnet 192.0.x.0/24, and its user context; the number of a subnet is its place from 1.
const SUBNETS: [(u8, &str); 5] = [
    (2, r#""ha-server-name": "hub0""#),
    (3, r#""ha-server-name": "spoke1""#),
    (4, ""),
    (5, r#""ha-server-name": "stranger""#),
    (6, r#""ha-server-name": 7"#),
];

fn snapshot() -> Snapshot {
    let subnets: Vec<String> = (1..)
        .zip(SUBNETS)
        .map(|(id, (third, context))| {
            format!(
                r#"{{ "id": {id}, "subnet": "192.0.{third}.0/24", "user-context": {{{context}}},
                "pools": [ {{ "pool": "192.0.{third}.100 - 192.0.{third}.199" }} ] }}"#
            )
        })
        .collect();
    let relationships = [0, 1].map(|index| {
        format!(
            r#"{{ "this-server-name": "hub{index}", "mode": "hot-standby", "peers": [
            {{ "name": "hub{index}", "role": "primary", "url": "http://192.0.2.1:800{index}/" }},
            {{ "name": "spoke{index}", "role": "standby", "url": "http://192.0.2.2:800{index}/" }} ] }}"#
        )
    });
    let text = format!(
        r#"{{ "Dhcp4": {{ "interfaces-config": {{ "interfaces": [ "eth0" ] }}, "valid-lifetime": 600,
        "cache-threshold": 0.0, "hooks-libraries": [ {{ "library": "libdhcp_lease_cmds.so" }},
        {{ "library": "libdhcp_ha.so", "parameters": {{ "high-availability": [ {} ] }} }} ],
        "subnet4": [ {} ] }} }}"#,
        relationships.join(", "),
        subnets.join(", ")
    );
    let document = config::parse_dhcp4(text.as_bytes(), "<test>").unwrap_or_else(|error| panic!("{error}"));
    let interfaces = [HostInterface::ethernet(IFINDEX, "eth0", [2, 0, 0, 0, 0, 1], SERVER)];
    let compiled = compile(&document.document, &Host::new(&interfaces, 1));
    compiled.unwrap_or_else(|error| panic!("{error}")).snapshot
}

/// A hub of four shards whose relationships have these views.
fn hub(seed: u64, views: [HaView; 2]) -> World {
    let mut world = World::new(seed, 4, snapshot(), Vec::new());
    for (relationship, view) in (0..).zip(views) {
        world.set_view(HaView { relationship, ..view });
    }
    world
}

/// The view of a primary that replicates.
fn replicating() -> HaView {
    HaView {
        epoch: 1,
        service_on: true,
        configured: true,
        scopes: Scopes::PRIMARY,
        updates: UpdateMode::Send,
        max_ack_delay_ms: 10_000,
        sends_released: true,
        ..HaView::default()
    }
}

/// A hardware address of nobody's.
fn hardware(last: u8) -> SmallBytes {
    SmallBytes::new(&[2, 9, 9, 9, 9, last])
}

/// Its relay puts the client on the subnet with this third octet (link selection).
fn from(third: u8, ask: Ask) -> Ask {
    Ask { agent_options: vec![5, 4, 192, 0, third, 1], ..ask }
}

fn discover(third: u8, number: u32) -> Ask {
    from(third, Ask::new(MessageType::Discover, number))
}

/// The address that client `number` is bound to after DISCOVER and REQUEST.
fn joined(world: &mut World, third: u8, number: u32) -> Ipv4Addr {
    let Some(Heard::Offer(address)) = world.ask(&discover(third, number)) else { panic!("no offer") };
    assert_eq!(address.octets()[2], third);
    assert_eq!(world.ask(&from(third, Ask::select(number, address))), Some(Heard::Ack(address)));
    address
}

#[test]
fn who_was_not_heard_since_the_hub_stood_still_is_waited_for_alone() {
    let outdated = HaView { good_until_ns: Some(0), ..replicating() };
    let mut world = hub(2, [outdated, replicating()]);
    assert_eq!(world.ask(&discover(2, 1)), None);
    assert_eq!((world.own(OwnCounter::StoodStill), world.count(Counter::ServiceDisabled)), (1, 1));
    joined(&mut world, 3, 2);
}

#[test]
fn a_query_is_the_business_of_the_relationship_of_its_subnet() {
    let standby = HaView { scopes: Scopes::NONE, interrupted: true, ..replicating() };
    let mut world = hub(1, [replicating(), standby]);
    assert!(matches!(world.ask(&discover(2, 1)), Some(Heard::Offer(_))));
    assert_eq!(world.ask(&discover(3, 2)), None, "its primary serves there");
    let reports: Vec<u8> = world
        .control
        .iter()
        .filter_map(|message| match message {
            Message::Unanswered(client) => Some(client.relationship),
            _ => None,
        })
        .collect();
    assert_eq!((reports, world.own(OwnCounter::OutOfScope)), (vec![1], 1));
    assert_eq!(world.count(Counter::NotForUs), 0);
    // A subnet of nobody, and none at all: dropped, also a REQUEST that another server would refuse.
    let elsewhere = Ipv4Addr::new(10, 9, 9, 9);
    for (count, ask) in (1..).zip([
        discover(4, 3),
        discover(5, 4),
        discover(6, 5),
        discover(77, 6),
        from(77, Ask::reboot(7, elsewhere)),
        from(4, Ask::new(MessageType::Inform, 8)),
    ]) {
        let ask = Ask { ciaddr: if ask.kind == MessageType::Inform { elsewhere } else { ask.ciaddr }, ..ask };
        assert_eq!(world.ask(&ask), None, "{ask:?}");
        assert_eq!(world.count(Counter::NotForUs), count, "{ask:?}");
    }
    let ids: Vec<&str> =
        world.events.iter().map(|event| event.id()).filter(|id| id.contains("SUBNET4")).collect();
    assert_eq!(
        ids,
        [
            "HA_SUBNET4_SELECT_NO_RELATIONSHIP_SELECTOR_FOR_SUBNET",
            "HA_SUBNET4_SELECT_NO_RELATIONSHIP_FOR_SUBNET",
            "HA_SUBNET4_SELECT_INVALID_HA_SERVER_NAME",
            "HA_SUBNET4_SELECT_NO_SUBNET_SELECTED",
            "HA_SUBNET4_SELECT_NO_SUBNET_SELECTED",
            "HA_SUBNET4_SELECT_NO_RELATIONSHIP_SELECTOR_FOR_SUBNET",
        ]
    );
}

#[test]
fn each_lease_goes_to_the_partner_of_its_relationship_alone() {
    let mut world = hub(2, [replicating(), replicating()]);
    for number in 0..20 {
        joined(&mut world, 2, number);
        joined(&mut world, 3, 100 + number);
    }
    assert_eq!(world.updates.len(), 40);
    for update in &world.updates {
        assert_eq!((update.relationship, update.peer), (update.lease.subnet_id as u8 - 1, 0), "{update:?}");
    }
}

#[test]
fn what_shards_report_names_the_relationship() {
    let alone = HaView { updates: UpdateMode::None, ..replicating() };
    let mut world = hub(3, [replicating(), alone]);
    joined(&mut world, 3, 1);
    world.pass_s(2);
    let unsent: Vec<(u8, u64)> = world
        .control
        .iter()
        .filter_map(|message| match message {
            Message::UnsentUpdates { relationship, total } => Some((*relationship, *total)),
            _ => None,
        })
        .collect();
    assert_eq!(unsent, [(1, 1)]);
    world.set_view(HaView { relationship: 1, epoch: 2, ..replicating() });
    let offers = [(2, 5), (3, 6)].map(|(third, number)| match world.ask(&discover(third, number)) {
        Some(Heard::Offer(address)) => (third, number, address),
        other => panic!("{other:?}"),
    });
    world.partner = Partner::Answers(UpdateOutcome::Conflict);
    for (third, number, address) in offers {
        assert_eq!(world.ask(&from(third, Ask::select(number, address))), None, "refused by its partner");
    }
    let settled: Vec<(u8, UpdateOutcome)> = world
        .control
        .iter()
        .filter_map(|message| match message {
            Message::UpdatesSettled { relationship, outcome, .. } => Some((*relationship, *outcome)),
            _ => None,
        })
        .collect();
    assert_eq!(settled, [(0, UpdateOutcome::Conflict), (1, UpdateOutcome::Conflict)]);
}

/// 8 no. 9, F11: what holds off the service of one relationship is nothing to the clients of another.
#[test]
fn while_one_relationship_rests_the_other_is_served() {
    let mut world = hub(4, [replicating(), replicating()]);
    let (first, second) = (joined(&mut world, 2, 1), joined(&mut world, 3, 2));
    let resting = HaView { relationship: 1, epoch: 2, service_on: false, ..replicating() };
    world.set_view(resting.clone());
    let dropped = world.count(Counter::ServiceDisabled);
    assert_eq!(world.ask(&discover(3, 3)), None);
    assert_eq!(world.ask(&from(3, Ask::renew(2, second))), None);
    world.ask(&Ask::release(2, second));
    world.ask(&Ask::decline(2, second));
    assert_eq!(world.count(Counter::ServiceDisabled), dropped + 4);
    assert!(matches!(world.ask(&discover(2, 4)), Some(Heard::Offer(_))));
    assert_eq!(world.ask(&from(2, Ask::renew(1, first))), Some(Heard::Ack(first)));
    // Nothing is reclaimed there meanwhile, and it is as soon as the service is back.
    world.pass_s(700);
    assert!(world.lease(second).is_some_and(|lease| lease.state == shards::LeaseState::Default));
    assert!(world.lease(first).is_some_and(|lease| lease.state == shards::LeaseState::ExpiredReclaimed));
    world.set_view(HaView { epoch: 3, service_on: true, ..resting });
    world.pass_s(20);
    assert!(world.lease(second).is_some_and(|lease| lease.state == shards::LeaseState::ExpiredReclaimed));
    // Where nobody serves, a query is not even read.
    for relationship in [0, 1] {
        world.set_view(HaView { relationship, epoch: 9, service_on: false, ..replicating() });
    }
    assert_eq!(world.ask(&discover(4, 5)), None);
    assert_eq!(world.count(Counter::NotForUs), 0);
}

#[test]
fn a_partner_that_is_down_waives_the_replies_of_its_relationship_alone() {
    let mut world = hub(5, [replicating(), replicating()]);
    let offers = [(2, 1), (3, 2)].map(|(third, number)| match world.ask(&discover(third, number)) {
        Some(Heard::Offer(address)) => (third, number, address),
        other => panic!("{other:?}"),
    });
    world.partner = Partner::Silent;
    for (third, number, address) in offers {
        assert_eq!(world.ask(&from(third, Ask::select(number, address))), None);
    }
    world.set_view(HaView { relationship: 1, epoch: 2, updates: UpdateMode::None, ..replicating() });
    assert_eq!(world.heard(), Some(Heard::Ack(offers[1].2)), "the other reply waits on");
    world.answer_updates(UpdateOutcome::Acked);
    assert_eq!(world.heard(), Some(Heard::Ack(offers[0].2)));
}

/// What a partner may ask for: a change of a lease by itself or in a batch, or its deletion.
fn change_of(how: usize, relationship: u8, lease: &Lease, stamp: Option<Stamp>) -> ShardCommandBody {
    let (address, relationship_of_listener) = (lease.address, Some(relationship));
    let batch =
        |kind| ShardCommandBody::PartnerBatch { relationship, stamp, updates: vec![(kind, lease.clone())] };
    match how {
        0 => ShardCommandBody::PartnerUpdate {
            lease: Box::new(lease.clone()),
            force_create: true,
            by_partner: true,
            relationship: relationship_of_listener,
        },
        1 => ShardCommandBody::PartnerDelete {
            address,
            deleted: Some(Box::new(lease.clone())),
            relationship: relationship_of_listener,
        },
        2 => batch(UpdateKind::Update),
        _ => batch(UpdateKind::Delete),
    }
}

/// One spoke's word is nothing to the leases of another, whatever its command claims; nobody's leases are anybody's.
#[test]
fn a_partner_changes_leases_of_its_own_subnets_alone() {
    let mut world = hub(7, [replicating(), replicating()]);
    let address = joined(&mut world, 3, 2);
    let theirs = world.lease(address).expect("a lease");
    let fresh = Ipv4Addr::new(192, 0, 3, 150);
    for (count, how) in (1..).zip(0..4) {
        let wanted = Lease { cltt: theirs.cltt + 5, hwaddr: hardware(9), ..theirs.clone() };
        let owner = world.rules.owners.owner_of(theirs.address);
        let answer = world.command(owner, change_of(how, 0, &wanted, None));
        match how {
            0 | 1 => assert!(matches!(answer, Some(ShardReplyBody::Foreign)), "{how}: {answer:?}"),
            _ => assert!(
                matches!(&answer, Some(ShardReplyBody::AppliedBut { foreign, .. }) if *foreign == [theirs.address]),
                "{how}: {answer:?}"
            ),
        }
        assert_eq!(world.lease(theirs.address).as_ref(), Some(&theirs), "{how}");
        assert_eq!(world.own(OwnCounter::ForeignUpdates), count, "{how}");
    }
    let told = world.events.iter().filter(|event| event.id() == "TANDEM_HA_FOREIGN_UPDATE").count();
    assert_eq!(told, 4);
    // Where there is no lease yet it is the subnet that counts, and a deletion deletes nothing.
    let owner = world.rules.owners.owner_of(fresh);
    let wanted = Lease { address: fresh, hwaddr: hardware(8), ..theirs.clone() };
    assert!(matches!(world.command(owner, change_of(0, 0, &wanted, None)), Some(ShardReplyBody::Foreign)));
    let deleted = world.command(owner, change_of(1, 0, &wanted, None));
    assert!(matches!(deleted, Some(ShardReplyBody::Deleted(false))), "{deleted:?}");
    let add = ShardCommandBody::Add { lease: Box::new(wanted.clone()), relationship: Some(0) };
    assert!(matches!(world.command(owner, add), Some(ShardReplyBody::Foreign)), "an addition");
    // Its own partner, and an administrator, have their way.
    let written = world.command(owner, change_of(0, 1, &wanted, None));
    assert!(matches!(written, Some(ShardReplyBody::Updated { created: true })), "{written:?}");
    let delete = ShardCommandBody::PartnerDelete { address: fresh, deleted: None, relationship: None };
    assert!(matches!(world.command(owner, delete), Some(ShardReplyBody::Deleted(true))));
    // A subnet of nobody is whoever's that asks, as it always was.
    let address = Ipv4Addr::new(192, 0, 4, 150);
    let nobodys = Lease { address, subnet_id: 3, ..theirs };
    let owner = world.rules.owners.owner_of(address);
    for relationship in [0, 1] {
        let written = world.command(owner, change_of(2, relationship, &nobodys, None));
        assert!(matches!(written, Some(ShardReplyBody::Applied(_))), "{written:?}");
    }
}

#[test]
fn of_a_batch_what_is_the_partners_own_is_carried_out() {
    let mut world = hub(8, [replicating(), replicating()]);
    let (mine, theirs) = (joined(&mut world, 2, 1), joined(&mut world, 3, 2));
    let (mine, theirs) = (world.lease(mine).expect("a lease"), world.lease(theirs).expect("a lease"));
    let owner = world.rules.owners.owner_of(mine.address);
    // An address of the other subnet with the same owner.
    let mut addresses = (100..200).map(|last| Ipv4Addr::new(192, 0, 3, last));
    let address = addresses.find(|address| world.rules.owners.owner_of(*address) == owner).expect("one");
    let renewed = Lease { cltt: mine.cltt + 5, ..mine };
    let foreign = Lease { address, ..theirs };
    let updates = vec![(UpdateKind::Update, foreign), (UpdateKind::Update, renewed.clone())];
    let batch = ShardCommandBody::PartnerBatch { relationship: 0, stamp: None, updates };
    let answer = world.command(owner, batch);
    assert!(
        matches!(&answer, Some(ShardReplyBody::AppliedBut { foreign, .. }) if *foreign == [address]),
        "{answer:?}"
    );
    assert_eq!(world.lease(renewed.address), Some(renewed));
}

/// Two partners whose clocks and generations have nothing to do with each other.
#[test]
fn stamps_and_defence_go_by_the_listener_and_not_by_what_a_batch_names() {
    let alone = HaView { updates: UpdateMode::None, ..replicating() };
    let mut world = hub(9, [alone, replicating()]);
    let address = joined(&mut world, 3, 2);
    let lease = world.lease(address).expect("a lease");
    let owner = world.rules.owners.owner_of(lease.address);
    let stamp = |life, number| Some(Stamp { fence: Fence { life, generation: 1 }, stream: 0, number });
    // A subnet of nobody counts as the first one's, which serves alone: but the second's partner speaks.
    let address = Ipv4Addr::new(192, 0, 4, 150);
    let nobodys = Lease { address, subnet_id: 3, ..lease.clone() };
    let elsewhere = world.rules.owners.owner_of(address);
    let mut ask = |owner, relationship, lease: &Lease, stamp| {
        world.command(owner, change_of(2, relationship, lease, stamp)).expect("an answer")
    };
    assert!(matches!(ask(elsewhere, 1, &nobodys, stamp(7, 1)), ShardReplyBody::Applied(_)));
    assert!(matches!(ask(elsewhere, 0, &nobodys, stamp(9, 1)), ShardReplyBody::Late), "it serves alone");
    // What the first one's partner has sent says nothing of the second one's.
    for number in 2..5 {
        let later = Lease { cltt: lease.cltt + number, ..lease.clone() };
        assert!(matches!(ask(owner, 0, &later, stamp(9, number)), ShardReplyBody::Late));
        assert!(matches!(ask(owner, 1, &later, stamp(7, number)), ShardReplyBody::Applied(_)));
    }
}

#[test]
fn a_copy_takes_what_lies_where_it_says_and_is_its_relationships() {
    let rules = snapshot();
    let lease = |address: [u8; 4], subnet_id| {
        let (hwaddr, client_id, user_context) = (hardware(1), SmallBytes::empty(), None);
        let (hostname, state) = (SmallBytes::empty(), shards::LeaseState::Default);
        let (valid_lifetime, cltt, pool_id, address) = (60, 1000, 0, address.into());
        let (fqdn_fwd, fqdn_rev) = (false, false);
        Lease {
            address,
            subnet_id,
            pool_id,
            hwaddr,
            client_id,
            valid_lifetime,
            cltt,
            state,
            fqdn_fwd,
            fqdn_rev,
            hostname,
            user_context,
        }
    };
    for (address, subnet_id, of) in [
        ([192, 0, 2, 100], 1, [true, false]),
        ([192, 0, 3, 100], 2, [false, true]),
        ([192, 0, 3, 100], 1, [false, false]),
        ([192, 0, 4, 100], 3, [false, false]),
        ([192, 0, 2, 100], 9, [false, false]),
    ] {
        for (relationship, taken) in (0..).zip(of) {
            for kind in [UpdateKind::Delete, UpdateKind::Update] {
                let rows = vec![(kind, lease(address, subnet_id))];
                let copied = CopyRows { rows, terms: Terms::Joining }.of_relationship(&rules, relationship);
                assert_eq!(copied.rows.len(), usize::from(taken), "{address:?} {subnet_id} {relationship}");
            }
        }
    }
}

#[test]
fn a_copier_is_told_of_its_subnets_alone() {
    let alone = HaView { updates: UpdateMode::None, ..replicating() };
    let mut world = hub(6, [alone.clone(), alone]);
    // Deletions that no partner was told of.
    let gone = [(2, 1), (3, 2)].map(|(third, number)| joined(&mut world, third, number));
    for address in gone {
        let shard = world.rules.owners.owner_of(address);
        assert!(matches!(
            world.command(
                shard,
                ShardCommandBody::PartnerDelete { address, deleted: None, relationship: None }
            ),
            Some(ShardReplyBody::Deleted(true))
        ));
    }
    let ask = |world: &mut World, shard, since, subnets: &SubnetFilter| {
        let body = ShardCommandBody::Changes { since, limit: 100, subnets: subnets.clone() };
        match world.command(shard, body) {
            Some(ShardReplyBody::Changes { rows, mark, .. }) => (mark, rows),
            other => panic!("no changes: {other:?}"),
        }
    };
    let second = SubnetFilter::only([2]);
    let marks = [0, 1, 2, 3].map(|shard| ask(&mut world, shard, None, &second).0);
    for number in 10..20 {
        joined(&mut world, if number % 2 == 0 { 2 } else { 3 }, number);
    }
    // The other partner is back with everything meanwhile: only its deletions are forgotten.
    world.set_view(HaView { relationship: 0, epoch: 2, ..replicating() });
    let mut told = Vec::new();
    for (shard, mark) in (0..).zip(marks) {
        told.extend(ask(&mut world, shard, Some(mark), &second).1);
    }
    assert!(told.iter().all(|(_, lease)| lease.subnet_id == 2), "{told:?}");
    let deleted = told.iter().filter(|(kind, _)| *kind == UpdateKind::Delete).count();
    assert_eq!((told.len(), deleted), (6, 1), "{told:?}");
    world.set_view(HaView { relationship: 1, epoch: 2, ..replicating() });
    for shard in 0..4 {
        let mark = ask(&mut world, shard, None, &SubnetFilter::ALL).0;
        let left = ask(&mut world, shard, Some(mark), &SubnetFilter::ALL).1;
        assert_eq!(left, [], "every deletion is forgotten");
    }
}
