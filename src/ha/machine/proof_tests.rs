//! Who takes over from a silent partner only with proof, and what proves it (ha-protocol 4.6).

use super::super::command::HaCommand;
use super::rig::{Rig, client, relationship};
use super::*;
use crate::dhcp4::scope::bucket;
use crate::engine::message::Asked;
use crate::policy::Scope;

/// What it copies from has just been heard, and may go on serving where the link alone is cut.
#[test]
fn who_copies_takes_over_from_a_silent_source_only_with_proof_where_it_sees_traffic() {
    use Mode::{HotStandby, LoadBalancing};
    use PartnerState as P;
    for (mode, role, partner, waits) in [
        (HotStandby, Role::Primary, P::PartnerDown, true),
        (HotStandby, Role::Primary, P::PartnerInMaintenance, true),
        // Nobody serves, and it is the one that begins.
        (HotStandby, Role::Primary, P::Syncing, false),
        (HotStandby, Role::Standby, P::PartnerDown, true),
        (HotStandby, Role::Standby, P::Waiting, true),
        (LoadBalancing, Role::Primary, P::PartnerDown, true),
        (LoadBalancing, Role::Secondary, P::PartnerDown, true),
    ] {
        for state in [OwnState::Syncing, OwnState::Ready] {
            let mut rig = Rig::of(relationship(mode, role), state, partner);
            rig.machine.relationship.max_unacked_clients = 2;
            rig.end_heartbeat(Err("refused".into()));
            rig.wait_until(61.0);
            let expected = if waits { state } else { OwnState::PartnerDown };
            assert_eq!(rig.machine.state(), expected, "{mode:?} {role:?} {partner}");
            let view = rig.machine.view().unwrap();
            assert!(view.service_on && view.interrupted, "it listens");
            assert_eq!(view.scopes.any(), !waits, "and answers nobody");
            // Where they share the clients some are its own, and wait for it.
            rig.unanswered(0..if mode == HotStandby { 3 } else { 16 }, 11);
            assert_eq!(rig.machine.state(), OwnState::PartnerDown, "{mode:?} {role:?} {partner} {state}");
        }
    }
}

/// While it copies it serves nobody, so its own clients wait, whatever its partner does for those it has.
#[test]
fn who_copies_takes_no_client_of_its_own_for_proof() {
    use Scope::{Primary, Secondary};
    for (role, own, partners) in [(Role::Primary, Primary, Secondary), (Role::Secondary, Secondary, Primary)]
    {
        for (asks, expected) in [(own, OwnState::Ready), (partners, OwnState::PartnerDown)] {
            let relationship = relationship(Mode::LoadBalancing, role);
            let mut rig = Rig::of(relationship, OwnState::Ready, PartnerState::PartnerDown);
            rig.machine.relationship.max_unacked_clients = 2;
            rig.end_heartbeat(Err("refused".into()));
            rig.wait_until(61.0);
            let is_asking = |number: &u8| bucket(&[], client(*number).hwaddr.as_slice()) == Some(asks);
            rig.unanswered((0..40).filter(is_asking), 11);
            assert_eq!(rig.machine.state(), expected, "{role:?}, clients of {asks:?}");
        }
    }
}

/// Its standby goes back to what it was as soon as it hears that the primary is ready; then nobody serves.
#[test]
fn a_primary_that_has_said_that_it_is_ready_is_the_one_that_begins() {
    for (source, expected) in
        [(CommandSource::Partner, OwnState::PartnerDown), (CommandSource::Administrator, OwnState::Ready)]
    {
        let relationship = relationship(Mode::HotStandby, Role::Primary);
        let mut rig = Rig::of(relationship, OwnState::Ready, PartnerState::PartnerDown);
        rig.command(source, HaCommand::Heartbeat { server_name: None, fingerprint: None });
        rig.end_heartbeat(Err("refused".into()));
        rig.wait_until(61.0);
        assert_eq!(rig.machine.state(), expected, "{source:?}");
    }
}

/// The command may be the first sign of life of a partner that has served all the time, and wants the other one to copy.
#[test]
fn who_is_reset_waits_for_its_partner_as_if_it_had_just_started() {
    for (mode, role, state) in [
        (Mode::HotStandby, Role::Standby, OwnState::HotStandby),
        (Mode::LoadBalancing, Role::Secondary, OwnState::CommunicationRecovery),
        (Mode::HotStandby, Role::Standby, OwnState::Ready),
    ] {
        for source in [CommandSource::Administrator, CommandSource::Partner] {
            let mut rig = Rig::of(relationship(mode, role), state, PartnerState::PartnerDown);
            rig.machine.relationship.max_unacked_clients = 2;
            rig.end_heartbeat(Err("refused".into()));
            rig.wait_until(100.0);
            assert_eq!(rig.machine.state(), state);
            rig.command(source, HaCommand::Reset { server_name: None });
            for (at_s, expected) in
                [(101.0, OwnState::Waiting), (159.0, OwnState::Waiting), (161.0, OwnState::PartnerDown)]
            {
                rig.wait_until(at_s);
                assert_eq!(rig.machine.state(), expected, "{state}, told by {source:?}, at {at_s} s");
            }
        }
    }
}

/// It would never serve again if its partner did not come back. A partner that lives answers a client sooner.
#[test]
fn who_copies_takes_over_for_fewer_clients_than_the_proof_asks_for_after_ten_minutes() {
    type Step = (f64, u16);
    let rows: &[(&str, &[Step], bool)] = &[
        ("one has waited", &[(601.0, 11)], true),
        ("its octets are swapped", &[(601.0, 11 << 8)], true),
        ("it has not waited for long", &[(601.0, 10), (602.0, 10)], false),
        ("it waited before", &[(599.0, 300), (601.0, 4)], false),
        ("nobody asks", &[], false),
    ];
    let relationship =
        || Relationship { max_unacked_clients: 10, ..relationship(Mode::HotStandby, Role::Primary) };
    for (case, steps, takes_over) in rows {
        for state in [OwnState::InMaintenance, OwnState::Ready, OwnState::Syncing] {
            let mut rig = Rig::of(relationship(), state, PartnerState::PartnerDown);
            rig.end_heartbeat(Err("refused".into()));
            for (at_s, secs) in *steps {
                rig.wait_until(*at_s);
                rig.handle(Event::Unanswered { client: client(1), secs: *secs, asked: Asked::Any });
            }
            rig.wait_until(605.0);
            assert_eq!(rig.machine.state() == OwnState::PartnerDown, *takes_over, "{case}, {state}");
        }
    }
}
