//! A hub: one server with two relationships, each with a subnet of its own (ha-protocol 1.9).

use std::net::Ipv4Addr;

use tandem::engine::counters::{Counter, OwnCounter};
use tandem::engine::message::{Message, ShardCommandBody, ShardReplyBody, UpdateKind, UpdateOutcome};
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
    let interfaces = [HostInterface {
        ifindex: IFINDEX,
        name: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        addresses: vec![SERVER],
        up: true,
        loopback: false,
    }];
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
        partner_knows_released: true,
        ..HaView::default()
    }
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

#[test]
fn a_copier_is_told_of_its_subnets_alone() {
    let alone = HaView { updates: UpdateMode::None, ..replicating() };
    let mut world = hub(6, [alone.clone(), alone]);
    // Deletions that no partner was told of.
    let gone = [(2, 1), (3, 2)].map(|(third, number)| joined(&mut world, third, number));
    for address in gone {
        let shard = world.rules.owners.owner_of(address);
        assert!(matches!(
            world.command(shard, ShardCommandBody::PartnerDelete { address, deleted: None }),
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
