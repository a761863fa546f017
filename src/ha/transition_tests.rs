//! The transition table, cell by cell.

use super::backlog::BacklogState;
use super::state::{Mode, Role};
use super::state::{OwnState as O, PartnerState as P};
use super::transition::Step::{self, Copy, Flush, Go, ResetPartner, Stay};
use super::transition::{Conditions, PartnerReset, transition};

const CALM: Conditions = Conditions {
    mode: Mode::HotStandby,
    role: Role::Primary,
    partner: P::Unknown,
    sync_leases: true,
    paused: false,
    must_terminate: false,
    interrupted: false,
    failure: false,
    queues_updates: false,
    backlog: BacklogState::Empty,
    partner_terminated_long: false,
    partner_has_unsent: false,
    copy_outdated: false,
    healed: false,
    partner_heals: false,
    partner_reset: PartnerReset::Unwanted,
    maintenance_forgotten: false,
};

/// Partner states in the order of the columns of 4.4; the normal state of the own mode, then that of the other.
fn columns(mode: Mode) -> [P; 14] {
    let (normal, other) = match mode {
        Mode::LoadBalancing => (P::LoadBalancing, P::HotStandby),
        Mode::HotStandby | Mode::PassiveBackup => (P::HotStandby, P::LoadBalancing),
    };
    [
        P::Waiting,
        P::Syncing,
        P::Ready,
        normal,
        other,
        P::CommunicationRecovery,
        P::PartnerDown,
        P::InMaintenance,
        P::PartnerInMaintenance,
        P::Terminated,
        P::Unavailable,
        P::Backup,
        P::PassiveBackup,
        P::Unknown,
    ]
}

const S: Step = Go(O::Syncing);
const W: Step = Go(O::Waiting);
const D: Step = Go(O::PartnerDown);
const T: Step = Go(O::Terminated);
const I: Step = Go(O::InMaintenance);
const M: Step = Go(O::PartnerInMaintenance);

/// 4.4 for a primary of hot-standby with none of the conditions true.
#[rustfmt::skip]
const HOT_STANDBY: [(O, [Step; 14]); 8] = {
    const H: Step = Go(O::HotStandby);
    [
        //                        wait  sync  ready hs    lb    cr    pd    inm   pim   term  unav  bak   pb    unk
        (O::Waiting,              [S,    Stay, S,    S,    Stay, Stay, S,    S,    S,    Stay, Stay, Stay, Stay, Stay]),
        (O::Syncing,              [Copy, Copy, Copy, Copy, W,    W,    Copy, Copy, Copy, T,    Stay, Copy, Copy, Copy]),
        (O::Ready,                [Stay, Stay, H,    H,    W,    W,    Stay, M,    I,    T,    Stay, Stay, Stay, Stay]),
        (O::HotStandby,           [Stay, Stay, Stay, Stay, W,    W,    W,    M,    I,    T,    Stay, Stay, Stay, Stay]),
        (O::PartnerDown,          [Stay, Stay, H,    Stay, W,    W,    W,    Stay, W,    T,    Stay, Stay, Stay, Stay]),
        (O::PartnerInMaintenance, [Stay, Stay, Stay, Stay, Stay, Stay, Stay, Stay, Stay, Stay, D,    Stay, Stay, Stay]),
        (O::InMaintenance,        [Stay, Stay, Stay, Stay, Stay, Stay, Stay, Stay, Stay, T,    Stay, Stay, Stay, Stay]),
        (O::Terminated,           [Stay; 14]),
    ]
};

/// The same for load-balancing, with a backlog that may be used and is empty.
#[rustfmt::skip]
const LOAD_BALANCING: [(O, [Step; 14]); 9] = {
    const L: Step = Go(O::LoadBalancing);
    const R: Step = Go(O::CommunicationRecovery);
    [
        //                         wait  sync  ready lb    hs    cr    pd    inm   pim   term  unav  bak   pb    unk
        (O::Waiting,               [S,    Stay, S,    S,    Stay, S,    S,    S,    S,    Stay, Stay, Stay, Stay, Stay]),
        (O::Syncing,               [Copy, Copy, Copy, Copy, W,    Copy, Copy, Copy, Copy, T,    Stay, Copy, Copy, Copy]),
        (O::Ready,                 [Stay, Stay, L,    L,    W,    L,    Stay, M,    I,    T,    Stay, Stay, Stay, Stay]),
        (O::LoadBalancing,         [Stay, Stay, Stay, Stay, W,    Stay, W,    M,    I,    T,    R,    Stay, Stay, Stay]),
        (O::CommunicationRecovery, [Stay, Stay, Stay, L,    W,    L,    W,    M,    I,    T,    Stay, W,    W,    W]),
        (O::PartnerDown,           [Stay, Stay, L,    Stay, W,    W,    W,    Stay, W,    T,    Stay, Stay, Stay, Stay]),
        (O::PartnerInMaintenance,  [Stay, Stay, Stay, Stay, Stay, Stay, Stay, Stay, Stay, Stay, D,    Stay, Stay, Stay]),
        (O::InMaintenance,         [Stay, Stay, Stay, Stay, Stay, Stay, Stay, Stay, Stay, T,    Stay, Stay, Stay, Stay]),
        (O::Terminated,            [Stay; 14]),
    ]
};

/// Every cell: mode, own state, partner's state, what is done while all is calm.
fn cells() -> Vec<(Conditions, O, Step)> {
    let mut cells = Vec::new();
    for (mode, rows) in [(Mode::HotStandby, &HOT_STANDBY[..]), (Mode::LoadBalancing, &LOAD_BALANCING[..])] {
        for (own, row) in rows {
            for (partner, step) in columns(mode).into_iter().zip(row) {
                let queues_updates = mode == Mode::LoadBalancing;
                cells.push((Conditions { mode, partner, queues_updates, ..CALM }, *own, *step));
            }
        }
    }
    cells
}

#[test]
fn a_calm_primary_follows_the_table_cell_by_cell() {
    for (conditions, own, expected) in cells() {
        assert_eq!(transition(own, &conditions), expected, "{own} / {conditions:?}");
    }
}

#[test]
fn the_tables_cover_every_pair_that_a_mode_has() {
    let rows = |rows: &[(O, [Step; 14])], own| rows.iter().filter(|(row, _)| *row == own).count();
    for own in O::ALL {
        let passive = matches!(own, O::Backup | O::PassiveBackup);
        let balancing = matches!(own, O::CommunicationRecovery | O::LoadBalancing);
        assert_eq!(rows(&HOT_STANDBY, own), usize::from(!passive && !balancing), "{own}");
        assert_eq!(rows(&LOAD_BALANCING, own), usize::from(!passive && own != O::HotStandby), "{own}");
    }
    for partner in P::ALL {
        for mode in [Mode::HotStandby, Mode::LoadBalancing] {
            assert_eq!(columns(mode).iter().filter(|column| **column == partner).count(), 1, "{partner:?}");
        }
    }
}

#[test]
fn backups_and_the_primary_of_backups_find_their_place_at_once_and_keep_it() {
    for partner in P::ALL {
        for mode in [Mode::HotStandby, Mode::LoadBalancing, Mode::PassiveBackup] {
            let backup =
                Conditions { mode, role: Role::Backup, partner, must_terminate: true, failure: true, ..CALM };
            assert_eq!(transition(O::Waiting, &backup), Go(O::Backup));
            assert_eq!(transition(O::Backup, &backup), Stay);
        }
        let primary = Conditions { mode: Mode::PassiveBackup, partner, must_terminate: true, ..CALM };
        assert_eq!(transition(O::Waiting, &primary), Go(O::PassiveBackup));
        assert_eq!(transition(O::PassiveBackup, &primary), Stay);
    }
}

type Change = fn(&mut Conditions);
type Cell = fn(O, &Conditions) -> Option<Step>;

/// Rule, condition, the cells it changes; everywhere else it must change nothing.
const CHANGES: &[(&str, Change, Cell)] = &[
    ("1.7 a pause", |c| c.paused = true, |_, _| Some(Stay)),
    (
        "4.4 the other one waits its turn",
        |c| c.role = if c.mode == Mode::HotStandby { Role::Standby } else { Role::Secondary },
        |own, c| match (own, c.partner) {
            (O::Waiting, P::Waiting) | (O::Ready, P::Ready) => Some(Stay),
            _ => None,
        },
    ),
    (
        "1.4 sync-leases false",
        |c| c.sync_leases = false,
        |own, c| {
            let calm = Conditions { sync_leases: true, ..*c };
            (own == O::Waiting && transition(own, &calm) == S).then_some(Go(O::Ready))
        },
    ),
    (
        "4.3 step 2",
        |c| c.must_terminate = true,
        |own, _| match own {
            O::Terminated => Some(Stay),
            O::InMaintenance => None,
            _ => Some(T),
        },
    ),
    (
        "4.6 taking over",
        |c| (c.interrupted, c.failure) = (true, true),
        |own, c| match (own, c.partner) {
            (O::PartnerDown, _) => None,
            (_, P::Unavailable) => Some(D),
            (O::CommunicationRecovery, _) => recovery_while_interrupted(c),
            _ => None,
        },
    ),
    (
        "4.4 (d), (e) interrupted",
        |c| c.interrupted = true,
        |own, c| if own == O::CommunicationRecovery { recovery_while_interrupted(c) } else { None },
    ),
    (
        "4.4 (b) no backlog",
        |c| c.queues_updates = false,
        |own, c| (own == O::LoadBalancing && c.partner == P::Unavailable).then_some(Stay),
    ),
    (
        "4.4 (d) updates wait",
        |c| c.backlog = BacklogState::Waiting,
        |own, c| match (own, c.partner) {
            (
                O::CommunicationRecovery,
                P::LoadBalancing | P::CommunicationRecovery | P::InMaintenance | P::PartnerInMaintenance,
            ) => Some(Flush),
            _ => None,
        },
    ),
    (
        "4.4 (c), (d) overflow",
        |c| c.backlog = BacklogState::Overflowed,
        |own, c| match (own, c.partner) {
            (O::CommunicationRecovery, P::Waiting | P::Syncing | P::Ready) => Some(W),
            (O::CommunicationRecovery, P::LoadBalancing | P::CommunicationRecovery) => Some(ResetPartner),
            _ => None,
        },
    ),
    (
        "4.4 (a)",
        |c| c.partner_terminated_long = true,
        |own, c| (own == O::Waiting && c.partner == P::Terminated).then_some(T),
    ),
    (
        "4.4 (f)",
        |c| c.partner_has_unsent = true,
        |own, c| {
            let normal = c.mode.normal_state();
            let unheard = own == normal && c.partner == normal.as_seen_by_partner();
            let ready = matches!(own, O::PartnerDown | O::Ready) && c.partner == P::Ready;
            (unheard || ready).then_some(W)
        },
    ),
    (
        "a copy that lacks what was given since",
        |c| c.copy_outdated = true,
        |own, c| (own == O::PartnerDown && c.partner == P::Ready).then_some(ResetPartner),
    ),
    (
        "each lacks leases of the other: the partner copies again before this server does",
        |c| (c.copy_outdated, c.partner_has_unsent) = (true, true),
        |own, c| {
            let normal = c.mode.normal_state();
            let unheard = own == normal && c.partner == normal.as_seen_by_partner();
            match (own, c.partner) {
                (O::PartnerDown, P::Ready) => Some(ResetPartner),
                (O::Ready, P::Ready) => Some(W),
                _ => unheard.then_some(W),
            }
        },
    ),
    (
        "terminated, and its cause is gone",
        |c| c.healed = true,
        |own, c| {
            let speaks = !matches!(
                c.partner,
                P::Backup | P::PassiveBackup | P::Terminated | P::Unavailable | P::Unknown
            );
            (own == O::Terminated && speaks && !c.partner_is_foreign()).then_some(W)
        },
    ),
    (
        "terminated, its cause is gone, and the partner heals, too",
        |c| (c.healed, c.partner_heals) = (true, true),
        |own, c| {
            let speaks = !matches!(c.partner, P::Backup | P::PassiveBackup | P::Unavailable | P::Unknown);
            (own == O::Terminated && speaks && !c.partner_is_foreign()).then_some(W)
        },
    ),
    ("terminated, and the partner alone heals", |c| c.partner_heals = true, |_, _| None),
    (
        "a terminated partner is to be told to begin anew",
        |c| c.partner_reset = PartnerReset::Due,
        |own, c| is_beside_terminated(own, c).then_some(ResetPartner),
    ),
    (
        "one that heals by itself is not",
        |c| (c.partner_reset, c.partner_heals) = (PartnerReset::Due, true),
        |_, _| None,
    ),
    (
        "a terminated partner that was told to begin anew asks how this server is",
        |c| c.partner_reset = PartnerReset::Works,
        |own, c| (own == O::Terminated && c.partner == P::Terminated).then_some(W),
    ),
    (
        "a terminated partner was told to begin anew and stays what it is",
        |c| c.partner_reset = PartnerReset::InVain,
        |own, c| (own == O::Waiting && c.partner == P::Terminated).then_some(T),
    ),
    (
        "in maintenance, forgotten",
        |c| c.maintenance_forgotten = true,
        |own, c| (own == O::InMaintenance && c.partner == P::PartnerDown).then_some(W),
    ),
];

fn is_beside_terminated(own: O, conditions: &Conditions) -> bool {
    matches!(own, O::Terminated | O::Waiting) && conditions.partner == P::Terminated
}

/// Whatever the partner says, nothing that needs the link is begun; where it leaves this state all the same, it goes.
fn recovery_while_interrupted(conditions: &Conditions) -> Option<Step> {
    let needs_link = matches!(
        conditions.partner,
        P::LoadBalancing | P::CommunicationRecovery | P::Backup | P::PassiveBackup | P::Unknown
    );
    needs_link.then_some(Stay)
}

#[test]
fn each_condition_changes_its_own_cells_and_no_others() {
    for (rule, change, cell) in CHANGES {
        for (mut conditions, own, calm) in cells() {
            change(&mut conditions);
            let expected = cell(own, &conditions).unwrap_or(calm);
            assert_eq!(transition(own, &conditions), expected, "{rule}: {own} / {conditions:?}");
        }
    }
}

/// Every value of every condition, numbered.
fn numbered(mode: Mode, role: Role, partner: P, bits: u32) -> Conditions {
    let bit = |number: u32| bits & (1 << number) != 0;
    Conditions {
        mode,
        role,
        partner,
        sync_leases: bit(0),
        paused: false,
        must_terminate: bit(1),
        interrupted: bit(2),
        failure: bit(3),
        queues_updates: bit(4),
        backlog: match (bit(5), bit(6)) {
            (false, _) => BacklogState::Empty,
            (true, false) => BacklogState::Waiting,
            (true, true) => BacklogState::Overflowed,
        },
        partner_terminated_long: bit(7),
        partner_has_unsent: bit(8),
        copy_outdated: bit(9),
        healed: bit(10),
        partner_heals: bit(11),
        maintenance_forgotten: bit(12),
        partner_reset: match (bit(13), bit(14)) {
            (false, false) => PartnerReset::Unwanted,
            (false, true) => PartnerReset::Due,
            (true, false) => PartnerReset::Works,
            (true, true) => PartnerReset::InVain,
        },
    }
}

#[test]
fn no_chain_of_transitions_under_fixed_conditions_is_endless() {
    let servers = [
        (Mode::HotStandby, Role::Primary),
        (Mode::HotStandby, Role::Standby),
        (Mode::LoadBalancing, Role::Primary),
        (Mode::LoadBalancing, Role::Secondary),
        (Mode::PassiveBackup, Role::Primary),
        (Mode::PassiveBackup, Role::Backup),
    ];
    for (mode, role) in servers {
        for partner in P::ALL {
            for bits in 0..1 << 15 {
                let conditions = numbered(mode, role, partner, bits);
                for own in O::ALL {
                    let mut state = own;
                    let mut steps = 0;
                    while let Go(next) = transition(state, &conditions) {
                        state = next;
                        steps += 1;
                        assert!(steps < O::ALL.len(), "{own} / {conditions:?}");
                    }
                }
            }
        }
    }
}
