//! Every (own state, event): where it leads.

use super::super::command::{HaCommand, Origin, result};
use super::super::fingerprint::Sums;
use super::rig::{Rig, client, lease};
use super::*;
use crate::engine::message::{Asked, UpdateKind};

/// Kinds of events, each a concrete one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Acked,
    Backlog,
    CallUnknown,
    Conflict,
    Continue,
    DisableByPartner,
    Enable,
    Failed,
    Fingerprint,
    HeartbeatAsked,
    HeartbeatFailed,
    HeartbeatSameState,
    Maintenance,
    MaintenanceCancel,
    MaintenanceStart,
    PageUnknown,
    PartnerStops,
    Reset,
    Scopes,
    Start,
    Stopping,
    SyncByAdministrator,
    SyncComplete,
    Unanswered,
    UnsentUpdates,
}

pub(super) const KINDS: [Kind; 25] = [
    Kind::Acked,
    Kind::Backlog,
    Kind::CallUnknown,
    Kind::Conflict,
    Kind::Continue,
    Kind::DisableByPartner,
    Kind::Enable,
    Kind::Failed,
    Kind::Fingerprint,
    Kind::HeartbeatAsked,
    Kind::HeartbeatFailed,
    Kind::HeartbeatSameState,
    Kind::Maintenance,
    Kind::MaintenanceCancel,
    Kind::MaintenanceStart,
    Kind::PageUnknown,
    Kind::PartnerStops,
    Kind::Reset,
    Kind::Scopes,
    Kind::Start,
    Kind::Stopping,
    Kind::SyncByAdministrator,
    Kind::SyncComplete,
    Kind::Unanswered,
    Kind::UnsentUpdates,
];

pub(super) fn feed(rig: &mut Rig, kind: Kind) -> Vec<Action> {
    let settled = |outcome| Event::UpdatesSettled { outcome, client: client(1) };
    let command = |command| Event::Command { token: 7, source: CommandSource::Partner, command };
    let event = match kind {
        Kind::Acked => settled(UpdateOutcome::Acked),
        Kind::Backlog => Event::Backlog { kind: UpdateKind::Update, lease: lease(1), outcome: None },
        Kind::CallUnknown => Event::CallDone { id: CallId(u64::MAX), result: Err("late".into()) },
        Kind::Conflict => settled(UpdateOutcome::Conflict),
        Kind::Continue => command(HaCommand::Continue { server_name: None }),
        Kind::DisableByPartner => {
            command(HaCommand::DhcpDisable { origin: Origin::Partner, max_period_s: Some(60) })
        }
        Kind::Enable => command(HaCommand::DhcpEnable { origin: Origin::Partner }),
        Kind::Failed => settled(UpdateOutcome::Failed),
        Kind::Fingerprint => Event::Fingerprint(Box::new(Fingerprint {
            all: Sums { subnets: 1, pools: 2, options: 3 },
            ..Fingerprint::default()
        })),
        Kind::HeartbeatAsked => {
            command(HaCommand::Heartbeat { server_name: Some("server1".into()), fingerprint: None })
        }
        Kind::HeartbeatFailed if rig.machine.polls_partner() => {
            return rig.end_heartbeat(Err("refused".into()));
        }
        Kind::HeartbeatSameState if rig.machine.polls_partner() => {
            let state = rig.machine.state.name();
            return rig.heartbeat_reply(state, 0, 0);
        }
        // One without a partner asks nothing; an answer can only be a late one.
        Kind::HeartbeatFailed => Event::CallDone { id: CallId(u64::MAX), result: Err("refused".into()) },
        Kind::HeartbeatSameState => Event::CallDone { id: CallId(u64::MAX), result: Ok(b"[]".to_vec()) },
        Kind::Maintenance => {
            command(HaCommand::MaintenanceNotify { cancel: false, server_name: None, state: None })
        }
        Kind::MaintenanceCancel => command(HaCommand::MaintenanceCancel),
        Kind::MaintenanceStart => command(HaCommand::MaintenanceStart),
        Kind::PageUnknown => Event::PageApplied {
            id: CallId(u64::MAX),
            result: Ok(crate::engine::message::Applied::default()),
        },
        Kind::PartnerStops => command(HaCommand::Stopping { server_name: None }),
        Kind::Reset => command(HaCommand::Reset { server_name: None }),
        Kind::Scopes => command(HaCommand::Scopes { scopes: vec!["server1".into()], server_name: None }),
        Kind::Start => Event::Start,
        Kind::Stopping => Event::Stopping,
        Kind::SyncByAdministrator => {
            let partner = rig.machine.relationship.others[0].name.clone();
            command(HaCommand::Sync { server_name: partner, max_period_s: None })
        }
        Kind::SyncComplete => command(HaCommand::SyncCompleteNotify { origin_id: None, server_name: None }),
        Kind::Unanswered => Event::Unanswered { client: client(1), secs: 60, asked: Asked::Any },
        Kind::UnsentUpdates => Event::UnsentUpdates { shard: 0, total: 5 },
    };
    rig.handle(event)
}

/// Events after which the table is looked at.
const EVALUATING: &[Kind] = &[Kind::Start, Kind::HeartbeatSameState, Kind::Acked, Kind::Conflict];
/// A partner lost.
const LOSSES: &[Kind] = &[Kind::Failed, Kind::HeartbeatFailed];

/// Rule, own state of a primary whose partner is in the same state, events, state afterwards.
#[rustfmt::skip]
const MOVES: &[(&str, OwnState, &[Kind], OwnState)] = &[
    ("4.4 waiting/waiting: the primary goes first, at start",
        OwnState::Waiting, &[Kind::Start, Kind::HeartbeatSameState], OwnState::Syncing),
    ("4.2 (3) any settled update evaluates",
        OwnState::Waiting, &[Kind::Acked, Kind::Conflict], OwnState::Syncing),
    ("4.4 ready/ready: the primary goes first", OwnState::Ready, EVALUATING, OwnState::HotStandby),
    ("4.4 partner-down/partner-down: both resynchronise, the primary first, when the other waits",
        OwnState::PartnerDown, EVALUATING, OwnState::Syncing),
    ("4.4 (d) nothing was put off", OwnState::CommunicationRecovery, EVALUATING, OwnState::LoadBalancing),
    ("4.4 (b) at the first failure", OwnState::LoadBalancing, LOSSES, OwnState::CommunicationRecovery),
    ("4.9 the partner in maintenance is gone", OwnState::PartnerInMaintenance, LOSSES, OwnState::PartnerDown),
    ("3.9 ha-reset leads to waiting; then the table goes on: the partner has leases",
        OwnState::HotStandby, &[Kind::Reset], OwnState::Syncing),
    ("3.9", OwnState::CommunicationRecovery, &[Kind::Reset], OwnState::Syncing),
    ("3.9", OwnState::InMaintenance, &[Kind::Reset], OwnState::Syncing),
    ("3.9", OwnState::LoadBalancing, &[Kind::Reset], OwnState::Syncing),
    ("3.9", OwnState::PartnerDown, &[Kind::Reset], OwnState::Syncing),
    ("3.9", OwnState::PartnerInMaintenance, &[Kind::Reset], OwnState::Syncing),
    ("3.9", OwnState::Ready, &[Kind::Reset], OwnState::Syncing),
    ("3.9 the partner is busy copying: wait",
        OwnState::Syncing, &[Kind::Reset], OwnState::Waiting),
    ("3.9 the partner is still terminated: wait",
        OwnState::Terminated, &[Kind::Reset], OwnState::Waiting),
    ("3.10", OwnState::CommunicationRecovery, &[Kind::Maintenance], OwnState::InMaintenance),
    ("3.10", OwnState::HotStandby, &[Kind::Maintenance], OwnState::InMaintenance),
    ("3.10", OwnState::LoadBalancing, &[Kind::Maintenance], OwnState::InMaintenance),
    ("3.10", OwnState::PartnerDown, &[Kind::Maintenance], OwnState::InMaintenance),
    ("3.10", OwnState::Ready, &[Kind::Maintenance], OwnState::InMaintenance),
    ("3.10", OwnState::Syncing, &[Kind::Maintenance], OwnState::InMaintenance),
    ("3.10", OwnState::Waiting, &[Kind::Maintenance], OwnState::InMaintenance),
    ("a partner that stops is taken over from at once",
        OwnState::CommunicationRecovery, &[Kind::PartnerStops], OwnState::PartnerDown),
    ("the same", OwnState::HotStandby, &[Kind::PartnerStops], OwnState::PartnerDown),
    ("the same", OwnState::InMaintenance, &[Kind::PartnerStops], OwnState::PartnerDown),
    ("the same", OwnState::LoadBalancing, &[Kind::PartnerStops], OwnState::PartnerDown),
    ("the same", OwnState::PartnerInMaintenance, &[Kind::PartnerStops], OwnState::PartnerDown),
    ("the same", OwnState::Ready, &[Kind::PartnerStops], OwnState::PartnerDown),
    ("the same", OwnState::Terminated, &[Kind::PartnerStops], OwnState::PartnerDown),
];

/// Events that move nobody on their own in the state named, and why.
#[rustfmt::skip]
const IGNORED: &[(&str, &[OwnState], &[Kind])] = &[
    ("the answer to a call or page given up", &OwnState::ALL, &[Kind::CallUnknown, Kind::PageUnknown]),
    ("asks only", &OwnState::ALL, &[Kind::HeartbeatAsked, Kind::Continue]),
    ("locks hold the service, not the state", &OwnState::ALL,
        &[Kind::DisableByPartner, Kind::Enable, Kind::SyncComplete]),
    ("for good", &[OwnState::Backup, OwnState::PassiveBackup],
        &[Kind::Acked, Kind::Conflict, Kind::Failed, Kind::HeartbeatFailed, Kind::HeartbeatSameState,
          Kind::PartnerStops, Kind::Reset, Kind::Start]),
    ("1001", &[OwnState::Backup, OwnState::PartnerInMaintenance, OwnState::PassiveBackup, OwnState::Terminated],
        &[Kind::Maintenance]),
    ("told twice", &[OwnState::InMaintenance], &[Kind::Maintenance]),
    ("the partner's answer decides", &OwnState::ALL, &[Kind::MaintenanceCancel, Kind::MaintenanceStart]),
    ("a copy by hand leaves the state alone", &OwnState::ALL, &[Kind::SyncByAdministrator]),
    ("counters only", &OwnState::ALL, &[Kind::Backlog, Kind::UnsentUpdates]),
    ("scopes only", &OwnState::ALL, &[Kind::Scopes]),
    ("for heartbeats", &OwnState::ALL, &[Kind::Fingerprint]),
    ("the end is no state", &OwnState::ALL, &[Kind::Stopping]),
    ("the partner is not silent", &OwnState::ALL, &[Kind::Unanswered]),
    ("one failure is no interruption (4.6)",
        &[OwnState::CommunicationRecovery, OwnState::HotStandby, OwnState::InMaintenance, OwnState::PartnerDown,
          OwnState::Ready, OwnState::Syncing, OwnState::Terminated, OwnState::Waiting],
        LOSSES),
    ("already waiting", &[OwnState::Waiting], &[Kind::Reset]),
    ("normal with a normal partner", &[OwnState::HotStandby, OwnState::LoadBalancing], EVALUATING),
    ("copies on", &[OwnState::Syncing], EVALUATING),
    ("until maintenance ends", &[OwnState::InMaintenance, OwnState::PartnerInMaintenance], EVALUATING),
    ("the partner stays terminated", &[OwnState::Terminated], EVALUATING),
    ("alone already", &[OwnState::PartnerDown], &[Kind::PartnerStops]),
    ("it lacks the partner's leases", &[OwnState::Syncing, OwnState::Waiting], &[Kind::PartnerStops]),
];

#[test]
fn every_state_and_event_leads_where_the_table_says() {
    for (rule, state, kinds, expected) in MOVES {
        for kind in *kinds {
            let mut rig = Rig::in_state(Role::Primary, *state, state.as_seen_by_partner());
            feed(&mut rig, *kind);
            assert_eq!(rig.machine.state(), *expected, "{rule}: {state} + {kind:?}");
        }
    }
    for (reason, states, kinds) in IGNORED {
        for (state, kind) in states.iter().flat_map(|state| kinds.iter().map(move |kind| (state, kind))) {
            let mut rig = Rig::in_state(Role::Primary, *state, state.as_seen_by_partner());
            feed(&mut rig, *kind);
            assert_eq!(rig.machine.state(), *state, "{reason}: {state} + {kind:?}");
        }
    }
}

#[test]
fn every_state_and_event_is_in_exactly_one_table() {
    for state in OwnState::ALL {
        for kind in KINDS {
            let moves =
                MOVES.iter().filter(|(_, from, kinds, _)| *from == state && kinds.contains(&kind)).count();
            let ignored = IGNORED
                .iter()
                .filter(|(_, from, kinds)| from.contains(&state) && kinds.contains(&kind))
                .count();
            assert_eq!(moves + ignored, 1, "{state} + {kind:?}");
        }
    }
}

#[test]
fn every_command_is_answered_in_every_state() {
    for state in OwnState::ALL {
        for (kind, result) in [
            (Kind::Continue, result::SUCCESS),
            (Kind::DisableByPartner, result::SUCCESS),
            (Kind::Enable, result::SUCCESS),
            (Kind::HeartbeatAsked, result::SUCCESS),
            (Kind::PartnerStops, result::SUCCESS),
            (Kind::Reset, result::SUCCESS),
            (Kind::Scopes, result::SUCCESS),
            (Kind::SyncComplete, result::SUCCESS),
        ] {
            let mut rig = Rig::in_state(Role::Primary, state, state.as_seen_by_partner());
            let actions = feed(&mut rig, kind);
            let results: Vec<i64> = actions
                .iter()
                .filter_map(|action| match action {
                    Action::Answer { token: 7, reply } => Some(reply.result),
                    _ => None,
                })
                .collect();
            assert_eq!(results, [result], "{state} + {kind:?}");
        }
    }
}
