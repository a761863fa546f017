//! What a restart must not forget: that the partner may lack changes made here.

use serde_json::json;

use super::super::command::HaCommand;
use super::super::relationship::PeerName;
use super::event_tests::{Kind, feed};
use super::rig::{Rig, lease, relationship};
use super::*;
use crate::engine::message::UpdateKind;

/// What is kept, in order, and whether it is before any view of the same step.
fn kept(actions: &[Action]) -> Vec<bool> {
    let view = actions.iter().position(|action| matches!(action, Action::Publish(_)));
    let is_kept = |action: &Action| matches!(action, Action::PartnerBehind(_));
    assert!(actions.iter().rposition(is_kept).is_none_or(|at| view.is_none_or(|view| at < view)));
    let told = |action: &Action| match action {
        Action::PartnerBehind(since_s) => Some(since_s.is_some()),
        _ => None,
    };
    actions.iter().filter_map(told).collect()
}

fn copied(name: Option<&str>) -> HaCommand {
    HaCommand::SyncCompleteNotify { origin_id: Some(2000), server_name: name.map(str::to_owned) }
}

fn tell(rig: &mut Rig, source: CommandSource, command: HaCommand) -> Vec<Action> {
    rig.handle(Event::Command { token: 7, source, command })
}

fn unsent(rig: &mut Rig) -> u64 {
    let heartbeat = HaCommand::Heartbeat { server_name: None, fingerprint: None };
    let reply = rig.command(CommandSource::Partner, heartbeat);
    reply.arguments.unwrap()["unsent-update-count"].as_u64().unwrap()
}

#[test]
fn who_serves_alone_keeps_it_before_anybody_is_served_until_the_partner_has_copied() {
    let mut rig = Rig::in_state(Role::Primary, OwnState::HotStandby, PartnerState::HotStandby);
    let alone = feed(&mut rig, Kind::PartnerStops);
    assert_eq!((rig.machine.state(), kept(&alone)), (OwnState::PartnerDown, vec![true]));
    let partner = rig.machine.relationship().partner().unwrap().name.clone();
    let disabled = feed(&mut rig, Kind::DisableByPartner);
    assert_eq!(kept(&disabled), [false; 0]);
    let done = tell(&mut rig, CommandSource::Partner, copied(Some(&partner)));
    assert_eq!(kept(&done), [false], "the service has rested");
    let gone = rig.end_heartbeat(Err("refused".into()));
    assert!(rig.service_on());
    assert_eq!(kept(&gone), [true], "it serves alone again");
}

#[test]
fn what_was_put_off_is_kept_until_the_partner_has_it() {
    for was_behind in [false, true] {
        let mut rig = Rig::in_state(Role::Secondary, OwnState::LoadBalancing, PartnerState::LoadBalancing);
        if was_behind {
            rig.machine.recall_behind(rig.now, 7);
        }
        let lost = feed(&mut rig, Kind::Failed);
        assert_eq!(kept(&lost), if was_behind { vec![] } else { vec![true] });
        rig.handle(Event::Backlog { kind: UpdateKind::Update, lease: lease(1), outcome: None });
        let flushing = rig.tandem_heartbeat("load-balancing", 0, json!({}));
        let id = flushing.iter().find_map(|action| match action {
            Action::Call(call) if call.line == Line::Private => Some(call.id),
            _ => None,
        });
        let ok = b"[ { \"result\": 0, \"text\": \"IPv4 lease updated.\" } ]".to_vec();
        let taken = rig.handle(Event::CallDone { id: id.unwrap(), result: Ok(ok) });
        assert_eq!(rig.machine.state(), OwnState::LoadBalancing);
        assert_eq!(kept(&taken), if was_behind { vec![] } else { vec![false] });
    }
}

/// The partner serves alone as well, and would go on without the leases of an earlier life of this server.
#[test]
fn a_partner_is_told_after_a_restart_to_copy_what_it_may_lack() {
    let mut rig = Rig::new(Role::Primary);
    rig.handle(Event::Start);
    assert_eq!(unsent(&mut rig), 0, "a pair that was whole");
    let mut rig = Rig::new(Role::Primary);
    rig.machine.recall_behind(rig.now, 7);
    assert_eq!(kept(&rig.handle(Event::Start)), [false; 0]);
    let told = unsent(&mut rig);
    let mut partner = Rig::in_state(Role::Standby, OwnState::PartnerDown, PartnerState::Unavailable);
    partner.heartbeat_reply("syncing", 0, 3);
    partner.machine.communication.acknowledge_unsent();
    feed(&mut partner, Kind::DisableByPartner);
    feed(&mut partner, Kind::SyncComplete);
    partner.heartbeat_reply("ready", 0, told);
    assert_eq!(partner.machine.state(), OwnState::Syncing, "through waiting: it copies");
    let first = unsent(&mut rig);
    let mut later = Rig::new(Role::Primary);
    later.now.wall_ms += 5_000;
    later.machine.recall_behind(later.now, 7);
    assert_ne!(unsent(&mut later), first, "not what was told before");
}

/// Release 2.2 names nobody, and through a control agent nobody knows the address.
#[test]
fn a_backup_that_has_copied_is_not_taken_for_the_partner() {
    for (partner, is_partner) in [(PartnerState::Unavailable, false), (PartnerState::Syncing, true)] {
        let mut with_backup = relationship(Mode::HotStandby, Role::Primary);
        with_backup.others.push(PeerName { name: "b".into(), url: String::new(), role: Role::Backup });
        for (source, is_partner) in
            [(CommandSource::Administrator, is_partner), (CommandSource::Partner, true)]
        {
            let mut rig = Rig::of(with_backup.clone(), OwnState::PartnerDown, partner);
            let off = HaCommand::DhcpDisable {
                origin: super::super::command::Origin::Partner,
                max_period_s: Some(60),
            };
            tell(&mut rig, source, off);
            tell(&mut rig, source, copied(None));
            assert_eq!(rig.machine.copied, is_partner, "{partner:?} {source:?}");
            assert_eq!(rig.machine.untold.is_some(), !is_partner, "{partner:?} {source:?}");
        }
        let mut rig = Rig::of(with_backup, OwnState::PartnerDown, PartnerState::Syncing);
        tell(&mut rig, CommandSource::Partner, copied(Some("b")));
        assert!(!rig.machine.copied, "it has said its name");
    }
}
