//! The transition table of a hot-standby server (ha-protocol 4.3, 4.4): a total function of its own state,
//! its partner's, and a few conditions.
//!
//! ```text
//!            partner ready (standby) or anything that has leases
//! waiting ────────────────────────────────────────────────────────> syncing ──copied──> ready ──> hot-standby
//!    ^  └── interrupted ──> partner-down <── failure (4.6) ── any of syncing, ready, hot-standby    │
//!    └───────────────────────── partner is partner-down too ─────────────────────────────────────────┘
//! terminated: from every state on skew, refusals or a terminated partner; left only by ha-reset or a restart
//! ```
//!
//! A partner in a maintenance state changes nothing here, because the states that would follow are not built:
//! maintenance is declined, so a partner can only be found in one that began before this server came.

use super::state::{OwnState, PartnerState, Role};

/// What the table depends on besides the own state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Conditions {
    /// Own role.
    pub role: Role,
    /// The partner's state as last heard.
    pub partner: PartnerState,
    /// `sync-leases`.
    pub sync_leases: bool,
    /// Clocks differ by more than 60 s, or too many clients' updates were refused (4.3 step 2).
    pub must_terminate: bool,
    /// Taking over is allowed: interrupted, and proven by traffic where that is asked for (4.6).
    pub failure: bool,
    /// The partner has been seen terminated for ten minutes (4.4 a).
    pub partner_terminated_long: bool,
    /// The partner served clients that we were not told of (4.4 f).
    pub partner_has_unsent: bool,
    /// We served clients alone after the partner had copied our leases, or it never has: it is to copy them again.
    pub copy_outdated: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Copy the partner's leases.
    Copy,
    /// Enter a state.
    Go(OwnState),
    /// Tell the partner to begin again, so that it copies our leases.
    ResetPartner,
    /// Nothing.
    Stay,
}

/// One look at the table.
pub fn transition(own: OwnState, conditions: &Conditions) -> Step {
    use PartnerState as P;
    if own == OwnState::Terminated {
        return Step::Stay;
    }
    if conditions.must_terminate {
        return Step::Go(OwnState::Terminated);
    }
    // A partner of another mode: nothing may be served until the configuration is put right (4.3 step 3).
    if matches!(conditions.partner, P::CommunicationRecovery | P::LoadBalancing) {
        return if own == OwnState::Waiting { Step::Stay } else { Step::Go(OwnState::Waiting) };
    }
    if conditions.partner == P::Unavailable {
        let may_take_over = own != OwnState::PartnerDown && conditions.failure;
        return if may_take_over { Step::Go(OwnState::PartnerDown) } else { Step::Stay };
    }
    if conditions.partner == P::Terminated {
        let follow = own != OwnState::Waiting || conditions.partner_terminated_long;
        return if follow { Step::Go(OwnState::Terminated) } else { Step::Stay };
    }
    match own {
        OwnState::Waiting => from_waiting(conditions),
        OwnState::Syncing => Step::Copy,
        OwnState::Ready => match conditions.partner {
            P::HotStandby => Step::Go(OwnState::HotStandby),
            P::Ready if conditions.role == Role::Primary => Step::Go(OwnState::HotStandby),
            _ => Step::Stay,
        },
        OwnState::HotStandby => match conditions.partner {
            P::PartnerDown => Step::Go(OwnState::Waiting),
            _ => Step::Stay,
        },
        OwnState::PartnerDown => match conditions.partner {
            P::Ready if conditions.partner_has_unsent => Step::Go(OwnState::Waiting),
            P::Ready if conditions.copy_outdated => Step::ResetPartner,
            P::Ready => Step::Go(OwnState::HotStandby),
            P::PartnerDown | P::PartnerInMaintenance => Step::Go(OwnState::Waiting),
            _ => Step::Stay,
        },
        OwnState::Terminated => Step::Stay,
    }
}

fn from_waiting(conditions: &Conditions) -> Step {
    use PartnerState as P;
    let next = if conditions.sync_leases { OwnState::Syncing } else { OwnState::Ready };
    match conditions.partner {
        // The standby lets the primary copy first, so that copies never cross (6.8).
        P::Waiting if conditions.role == Role::Primary => Step::Go(next),
        P::HotStandby | P::InMaintenance | P::PartnerDown | P::PartnerInMaintenance | P::Ready => {
            Step::Go(next)
        }
        _ => Step::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OwnState as O;
    use PartnerState as P;
    use Step::{Copy, Go, Stay};

    const CALM: Conditions = Conditions {
        role: Role::Primary,
        partner: P::Unknown,
        sync_leases: true,
        must_terminate: false,
        failure: false,
        partner_terminated_long: false,
        partner_has_unsent: false,
        copy_outdated: false,
    };

    /// Rows of 4.4 by own state; columns are the partner's, in the order of the reference.
    const COLUMNS: [P; 14] = [
        P::Waiting,
        P::Syncing,
        P::Ready,
        P::HotStandby,
        P::LoadBalancing,
        P::CommunicationRecovery,
        P::PartnerDown,
        P::InMaintenance,
        P::PartnerInMaintenance,
        P::Terminated,
        P::Unavailable,
        P::Backup,
        P::PassiveBackup,
        P::Unknown,
    ];

    const S: Step = Go(O::Syncing);
    const W: Step = Go(O::Waiting);
    const H: Step = Go(O::HotStandby);
    const D: Step = Go(O::PartnerDown);
    const T: Step = Go(O::Terminated);

    /// 4.4 for a primary with none of the conditions true.
    #[rustfmt::skip]
    const PRIMARY: [(O, [Step; 14]); 6] = [
        //               wait  sync  ready hs    lb    cr    pd    inm   pim   term  unav  bak   pb    unk
        (O::Waiting,     [S,    Stay, S,    S,    Stay, Stay, S,    S,    S,    Stay, Stay, Stay, Stay, Stay]),
        (O::Syncing,     [Copy, Copy, Copy, Copy, W,    W,    Copy, Copy, Copy, T,    Stay, Copy, Copy, Copy]),
        (O::Ready,       [Stay, Stay, H,    H,    W,    W,    Stay, Stay, Stay, T,    Stay, Stay, Stay, Stay]),
        (O::HotStandby,  [Stay, Stay, Stay, Stay, W,    W,    W,    Stay, Stay, T,    Stay, Stay, Stay, Stay]),
        (O::PartnerDown, [Stay, Stay, H,    Stay, W,    W,    W,    Stay, W,    T,    Stay, Stay, Stay, Stay]),
        (O::Terminated,  [Stay; 14]),
    ];

    #[test]
    fn a_calm_primary_follows_the_table_cell_by_cell() {
        for (own, row) in PRIMARY {
            for (partner, expected) in COLUMNS.into_iter().zip(row) {
                assert_eq!(transition(own, &Conditions { partner, ..CALM }), expected, "{own} / {partner:?}");
            }
        }
    }

    #[test]
    fn the_table_covers_every_pair() {
        for own in O::ALL {
            assert_eq!(PRIMARY.iter().filter(|(row, _)| *row == own).count(), 1, "{own}");
        }
        for partner in P::ALL {
            assert_eq!(COLUMNS.iter().filter(|column| **column == partner).count(), 1, "{partner:?}");
        }
    }

    /// Where a condition changes a cell; everywhere else it must change nothing.
    #[test]
    fn each_condition_changes_its_own_cells_and_no_others() {
        type Change = fn(&mut Conditions);
        let standby: Change = |conditions| conditions.role = Role::Standby;
        let no_sync: Change = |conditions| conditions.sync_leases = false;
        let terminate: Change = |conditions| conditions.must_terminate = true;
        let failure: Change = |conditions| conditions.failure = true;
        let long: Change = |conditions| conditions.partner_terminated_long = true;
        let unsent: Change = |conditions| conditions.partner_has_unsent = true;
        let outdated: Change = |conditions| conditions.copy_outdated = true;
        let ready_instead = |own: O, partner: P| {
            let leaves = PRIMARY.iter().any(|(row, cells)| {
                *row == own
                    && own == O::Waiting
                    && COLUMNS.iter().zip(cells).any(|(column, cell)| *column == partner && *cell == S)
            });
            leaves.then_some(Go(O::Ready))
        };
        type Cell<'a> = Box<dyn Fn(O, P) -> Option<Step> + 'a>;
        let rows: [(&str, Change, Cell<'_>); 7] = [
            (
                "4.4 standby waits its turn",
                standby,
                Box::new(|own, partner| match (own, partner) {
                    (O::Waiting, P::Waiting) | (O::Ready, P::Ready) => Some(Stay),
                    _ => None,
                }),
            ),
            ("1.4 sync-leases false", no_sync, Box::new(ready_instead)),
            ("4.3 step 2", terminate, Box::new(|own, _| (own != O::Terminated).then_some(T))),
            (
                "4.6",
                failure,
                Box::new(|own, partner| {
                    let open = !matches!(own, O::Terminated | O::PartnerDown);
                    (open && partner == P::Unavailable).then_some(D)
                }),
            ),
            (
                "4.4 (a)",
                long,
                Box::new(|own, partner| (own == O::Waiting && partner == P::Terminated).then_some(T)),
            ),
            (
                "4.4 (f)",
                unsent,
                Box::new(|own, partner| (own == O::PartnerDown && partner == P::Ready).then_some(W)),
            ),
            (
                "a copy that lacks what was given since",
                outdated,
                Box::new(|own, partner| {
                    (own == O::PartnerDown && partner == P::Ready).then_some(Step::ResetPartner)
                }),
            ),
        ];
        for (label, change, cell) in rows {
            for (own, calm) in PRIMARY {
                for (partner, calm) in COLUMNS.into_iter().zip(calm) {
                    let mut conditions = Conditions { partner, ..CALM };
                    change(&mut conditions);
                    let expected = cell(own, partner).unwrap_or(calm);
                    assert_eq!(transition(own, &conditions), expected, "{label}: {own} / {partner:?}");
                }
            }
        }
    }

    #[test]
    fn no_chain_of_transitions_under_fixed_conditions_is_endless() {
        for own in O::ALL {
            for partner in P::ALL {
                for bits in 0..128u32 {
                    let conditions = Conditions {
                        role: if bits & 1 == 0 { Role::Primary } else { Role::Standby },
                        partner,
                        sync_leases: bits & 2 == 0,
                        must_terminate: bits & 4 != 0,
                        failure: bits & 8 != 0,
                        partner_terminated_long: bits & 16 != 0,
                        partner_has_unsent: bits & 32 != 0,
                        copy_outdated: bits & 64 != 0,
                    };
                    let mut state = own;
                    let mut steps = 0;
                    while let Go(next) = transition(state, &conditions) {
                        state = next;
                        steps += 1;
                        assert!(steps < OwnState::ALL.len(), "{own} / {conditions:?}");
                    }
                }
            }
        }
    }
}
