//! The transition table (ha-protocol 4.3, 4.4): a total function of the own state, the partner's, and a few
//! conditions, for every mode.
//!
//! ```text
//!            partner ready (not the primary) or anything that has leases
//! waiting ────────────────────────────────────────────────────────> syncing ──copied──> ready ──> normal
//!    ^  └── interrupted ──> partner-down <── failure (4.6) ── any of syncing, ready, normal, recovery │
//!    └───────────────────────── partner is partner-down too ────────────────────────────────────────┘
//! normal <── backlog sent ── communication-recovery <── the partner does not answer ── normal (load-balancing)
//! normal ── partner in maintenance ──> partner-in-maintenance ── it is gone ──> partner-down
//! waiting ──> backup, passive-backup, by role and mode, for good
//! terminated: from every active state on skew, refusals or a terminated partner; left when the cause is gone
//! ```
//!
//! `normal` is hot-standby or load-balancing. The cells are Kea's but for these, none of which a Kea can tell from
//! the doings of an administrator:
//!
//! - terminated is left by itself, as if by `ha-reset` ([`Conditions::healed`]), and a partner that does not leave it is
//!   told to ([`PartnerReset`]);
//! - in-maintenance is left when the survivor is found dead or terminated, or goes on alone for ten minutes;
//! - in partner-down a partner without the leases given since is told to copy them;
//! - the normal state is left where the partner gave leases alone, unnoticed, and is normal again, and ready is left
//!   where it did and is ready as well;
//! - a backlog is sent before maintenance, too.

use super::backlog::BacklogState;
use super::state::{Mode, OwnState, PartnerState, Role};

/// What the table depends on besides the own state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Conditions {
    /// Mode of the relationship.
    pub mode: Mode,
    /// Own role.
    pub role: Role,
    /// The partner's state as last heard.
    pub partner: PartnerState,
    /// `sync-leases`.
    pub sync_leases: bool,
    /// The machine rests until `ha-continue` (1.7).
    pub paused: bool,
    /// Clocks differ by more than 60 s, or too many clients' updates were refused (4.3 step 2).
    pub must_terminate: bool,
    /// The partner has been silent for longer than `max-response-delay`.
    pub interrupted: bool,
    /// Taking over is allowed: interrupted, and proven by traffic where that is asked for (4.6).
    pub failure: bool,
    /// `delayed-updates-limit` is above 0.
    pub queues_updates: bool,
    /// The backlog.
    pub backlog: BacklogState,
    /// The partner has been seen terminated for ten minutes (4.4 a).
    pub partner_terminated_long: bool,
    /// The partner served clients that we were not told of (4.4 f).
    pub partner_has_unsent: bool,
    /// We served clients alone after the partner had copied our leases, or it never has: it is to copy them again.
    pub copy_outdated: bool,
    /// The cause of the own termination is gone.
    pub healed: bool,
    /// The partner leaves `terminated` by itself, too.
    pub partner_heals: bool,
    /// What is to be done with one that does not.
    pub partner_reset: PartnerReset,
    /// In maintenance, and the partner has served alone for ten minutes all the same.
    pub maintenance_forgotten: bool,
}

/// What is to be done with a terminated partner that does not leave that state by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PartnerReset {
    /// It is time to tell it to begin anew.
    Due,
    /// It was told, and stays terminated while nobody is served here.
    InVain,
    /// Nothing, for now or at all.
    Unwanted,
    /// It was told, and asks how this server is: it will begin anew once this one waits.
    Works,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Copy the partner's leases.
    Copy,
    /// Send the backlog.
    Flush,
    /// Enter a state.
    Go(OwnState),
    /// Tell the partner to begin again, so that it copies our leases.
    ResetPartner,
    /// Nothing.
    Stay,
}

/// One look at the table.
pub fn transition(own: OwnState, conditions: &Conditions) -> Step {
    use OwnState as O;
    if conditions.paused {
        return Step::Stay;
    }
    match own {
        O::Backup | O::PassiveBackup => Step::Stay,
        O::Waiting if conditions.role == Role::Backup => Step::Go(O::Backup),
        O::Waiting if conditions.mode == Mode::PassiveBackup => Step::Go(O::PassiveBackup),
        O::InMaintenance => from_in_maintenance(conditions),
        O::Terminated => from_terminated(conditions),
        _ if conditions.must_terminate => Step::Go(O::Terminated),
        O::PartnerInMaintenance => match conditions.partner {
            PartnerState::Unavailable => Step::Go(O::PartnerDown),
            _ => Step::Stay,
        },
        // A partner of another mode: nothing may be served until the configuration is put right (4.3 step 3).
        O::Waiting if conditions.partner_is_foreign() => Step::Stay,
        _ if conditions.partner_is_foreign() => Step::Go(O::Waiting),
        _ => match conditions.partner {
            PartnerState::Unavailable => from_unavailable(own, conditions),
            PartnerState::Terminated => from_terminated_partner(own, conditions),
            _ => from_lively_partner(own, conditions),
        },
    }
}

impl Conditions {
    /// Whether the partner's state does not exist in the own mode (4.3 step 3).
    pub fn partner_is_foreign(&self) -> bool {
        self.partner.is_foreign_to(self.mode)
    }

    fn partner_is_normal(&self) -> bool {
        self.partner == self.mode.normal_state().as_seen_by_partner()
    }
}

fn from_unavailable(own: OwnState, conditions: &Conditions) -> Step {
    match own {
        OwnState::PartnerDown => Step::Stay,
        _ if conditions.failure => Step::Go(OwnState::PartnerDown),
        // 4.4 (b).
        OwnState::HotStandby | OwnState::LoadBalancing if conditions.queues_updates => {
            Step::Go(OwnState::CommunicationRecovery)
        }
        _ => Step::Stay,
    }
}

fn from_terminated_partner(own: OwnState, conditions: &Conditions) -> Step {
    if own != OwnState::Waiting {
        return Step::Go(OwnState::Terminated);
    }
    let heals = conditions.healed && conditions.partner_heals;
    match conditions.partner_reset {
        PartnerReset::Due if !conditions.partner_heals => Step::ResetPartner,
        PartnerReset::InVain if !conditions.partner_heals => Step::Go(OwnState::Terminated),
        PartnerReset::Works if !conditions.partner_heals => Step::Stay,
        _ if conditions.partner_terminated_long && !heals => Step::Go(OwnState::Terminated),
        _ => Step::Stay,
    }
}

/// A partner that is neither silent nor terminated nor of another mode.
fn from_lively_partner(own: OwnState, conditions: &Conditions) -> Step {
    use PartnerState as P;
    let normal = conditions.mode.normal_state();
    match own {
        OwnState::Waiting => from_waiting(conditions),
        OwnState::Syncing => Step::Copy,
        OwnState::Ready => match conditions.partner {
            // It has given leases since, and has begun anew. One that is alone still says itself when to copy again.
            P::Ready if conditions.partner_has_unsent && conditions.sync_leases => {
                Step::Go(OwnState::Waiting)
            }
            P::CommunicationRecovery => Step::Go(normal),
            P::InMaintenance => Step::Go(OwnState::PartnerInMaintenance),
            P::PartnerInMaintenance => Step::Go(OwnState::InMaintenance),
            P::Ready if conditions.role == Role::Primary => Step::Go(normal),
            _ if conditions.partner_is_normal() => Step::Go(normal),
            _ => Step::Stay,
        },
        OwnState::HotStandby | OwnState::LoadBalancing => match conditions.partner {
            P::InMaintenance => Step::Go(OwnState::PartnerInMaintenance),
            P::PartnerInMaintenance => Step::Go(OwnState::InMaintenance),
            P::PartnerDown => Step::Go(OwnState::Waiting),
            _ if conditions.partner_is_normal()
                && conditions.partner_has_unsent
                && conditions.sync_leases =>
            {
                Step::Go(OwnState::Waiting)
            }
            _ => Step::Stay,
        },
        OwnState::CommunicationRecovery => from_recovery(conditions),
        OwnState::PartnerDown => match conditions.partner {
            // Before anything else, also where this server has to copy as well: the partner would go on without our leases.
            P::Ready if conditions.copy_outdated => Step::ResetPartner,
            P::Ready if conditions.partner_has_unsent => Step::Go(OwnState::Waiting),
            P::Ready => Step::Go(normal),
            P::CommunicationRecovery | P::PartnerDown | P::PartnerInMaintenance => {
                Step::Go(OwnState::Waiting)
            }
            _ => Step::Stay,
        },
        // Decided before by `transition`.
        OwnState::Backup
        | OwnState::InMaintenance
        | OwnState::PartnerInMaintenance
        | OwnState::PassiveBackup
        | OwnState::Terminated => Step::Stay,
    }
}

fn from_waiting(conditions: &Conditions) -> Step {
    use PartnerState as P;
    let next = if conditions.sync_leases { OwnState::Syncing } else { OwnState::Ready };
    match conditions.partner {
        // The other lets the primary copy first, so that copies never cross (6.8).
        P::Waiting if conditions.role == Role::Primary => Step::Go(next),
        P::CommunicationRecovery | P::InMaintenance | P::PartnerDown | P::PartnerInMaintenance | P::Ready => {
            Step::Go(next)
        }
        _ if conditions.partner_is_normal() => Step::Go(next),
        _ => Step::Stay,
    }
}

/// 4.4 (c), (d), (e).
fn from_recovery(conditions: &Conditions) -> Step {
    use PartnerState as P;
    let normal = conditions.mode.normal_state();
    let overflowed = conditions.backlog == BacklogState::Overflowed;
    let takes_updates =
        matches!(conditions.partner, P::CommunicationRecovery | P::InMaintenance | P::PartnerInMaintenance)
            || conditions.partner_is_normal();
    if takes_updates && !conditions.interrupted && conditions.backlog == BacklogState::Waiting {
        return Step::Flush;
    }
    match conditions.partner {
        P::PartnerDown => Step::Go(OwnState::Waiting),
        P::InMaintenance => Step::Go(OwnState::PartnerInMaintenance),
        P::PartnerInMaintenance => Step::Go(OwnState::InMaintenance),
        _ if conditions.interrupted => Step::Stay,
        P::Ready | P::Syncing | P::Waiting if overflowed => Step::Go(OwnState::Waiting),
        P::Ready | P::Syncing | P::Waiting => Step::Stay,
        _ if takes_updates && overflowed => Step::ResetPartner,
        _ if takes_updates => Step::Go(normal),
        _ => Step::Go(OwnState::Waiting),
    }
}

/// Maintenance is the administrator's wish, but not that nobody serves.
fn from_in_maintenance(conditions: &Conditions) -> Step {
    match conditions.partner {
        PartnerState::Unavailable if conditions.failure => Step::Go(OwnState::PartnerDown),
        PartnerState::Terminated => Step::Go(OwnState::Terminated),
        PartnerState::PartnerDown if conditions.maintenance_forgotten => Step::Go(OwnState::Waiting),
        _ => Step::Stay,
    }
}

/// High availability is taken up again once the cause of its end is gone. A partner of another make stays terminated
/// until it is reset, and then says something else; this server goes on serving until then.
fn from_terminated(conditions: &Conditions) -> Step {
    use PartnerState as P;
    if conditions.must_terminate || conditions.partner_is_foreign() {
        return Step::Stay;
    }
    match conditions.partner {
        P::Unavailable if conditions.failure => Step::Go(OwnState::PartnerDown),
        P::Backup | P::PassiveBackup | P::Unavailable | P::Unknown => Step::Stay,
        P::Terminated if !conditions.partner_heals => match conditions.partner_reset {
            PartnerReset::Due => Step::ResetPartner,
            PartnerReset::Works => Step::Go(OwnState::Waiting),
            PartnerReset::InVain | PartnerReset::Unwanted => Step::Stay,
        },
        _ if conditions.healed => Step::Go(OwnState::Waiting),
        _ => Step::Stay,
    }
}
