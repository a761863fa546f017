//! Names of HA states, roles and modes as Kea writes them (ha-protocol 4.1).
//!
//! Every name a partner may report is known here; which of them this server takes itself is [`OwnState`].

use std::fmt;

/// A state as a partner reports it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PartnerState {
    /// A backup server.
    Backup,
    /// Load-balancing server that queues its updates.
    CommunicationRecovery,
    /// Normal state of a hot-standby pair.
    HotStandby,
    /// Service handed over, about to be shut down.
    InMaintenance,
    /// Normal state of a load-balancing pair.
    LoadBalancing,
    /// Serves alone.
    PartnerDown,
    /// Serves alone while its partner is in maintenance.
    PartnerInMaintenance,
    /// Primary of a passive-backup set.
    PassiveBackup,
    /// Has synchronised and waits for its partner.
    Ready,
    /// Copies its partner's leases.
    Syncing,
    /// Has given up high availability.
    Terminated,
    /// Did not answer, or answered with an error.
    Unavailable,
    /// Nothing is known yet.
    Unknown,
    /// Waits for its turn to synchronise.
    Waiting,
}

impl PartnerState {
    /// Every state, for tables.
    pub const ALL: [Self; 14] = [
        Self::Backup,
        Self::CommunicationRecovery,
        Self::HotStandby,
        Self::InMaintenance,
        Self::LoadBalancing,
        Self::PartnerDown,
        Self::PartnerInMaintenance,
        Self::PassiveBackup,
        Self::Ready,
        Self::Syncing,
        Self::Terminated,
        Self::Unavailable,
        Self::Unknown,
        Self::Waiting,
    ];

    /// The name on the wire; what was never heard of is `unavailable` there, as in Kea.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::CommunicationRecovery => "communication-recovery",
            Self::HotStandby => "hot-standby",
            Self::InMaintenance => "in-maintenance",
            Self::LoadBalancing => "load-balancing",
            Self::PartnerDown => "partner-down",
            Self::PartnerInMaintenance => "partner-in-maintenance",
            Self::PassiveBackup => "passive-backup",
            Self::Ready => "ready",
            Self::Syncing => "syncing",
            Self::Terminated => "terminated",
            Self::Unavailable | Self::Unknown => "unavailable",
            Self::Waiting => "waiting",
        }
    }

    /// The state of a wire name; `None` for anything else (the heartbeat has then failed, ha-protocol 3.1).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state != Self::Unknown && state.name() == name)
    }

    /// Whether a partner in `mode` is never in this state (ha-protocol 4.3 step 3).
    pub fn is_foreign_to(self, mode: Mode) -> bool {
        match self {
            Self::CommunicationRecovery | Self::LoadBalancing => mode != Mode::LoadBalancing,
            Self::HotStandby => mode != Mode::HotStandby,
            _ => false,
        }
    }

    /// Whether polling every second brings the pair together sooner (ha-protocol 8 no. 2).
    pub fn is_converging(self) -> bool {
        matches!(self, Self::Ready | Self::Syncing | Self::Waiting)
    }
}

impl fmt::Display for PartnerState {
    /// As in Kea's log: upper case, and `UNDEFINED` for a partner that did not answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable | Self::Unknown => f.write_str("UNDEFINED"),
            known => f.write_str(&known.name().to_ascii_uppercase()),
        }
    }
}

/// A state this server takes itself (ha-protocol 4.1). What each means is in [`super::profile`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum OwnState {
    /// Receives updates, serves nobody by itself; for good.
    Backup,
    /// Load-balancing while the partner does not answer: updates go to the backlog.
    CommunicationRecovery,
    /// Normal state of hot-standby.
    HotStandby,
    /// The partner serves for both, so that this server can be shut down.
    InMaintenance,
    /// Normal state of load-balancing.
    LoadBalancing,
    /// Serves alone.
    PartnerDown,
    /// Serves alone, and the partner, in maintenance, is still told.
    PartnerInMaintenance,
    /// The primary of passive-backup; for good.
    PassiveBackup,
    /// Has synchronised, waits for the partner to see it.
    Ready,
    /// Copies the partner's leases.
    Syncing,
    /// High availability given up until its cause is gone.
    Terminated,
    /// Start: waits for its turn.
    Waiting,
}

impl OwnState {
    /// Every own state, for tables.
    pub const ALL: [Self; 12] = [
        Self::Backup,
        Self::CommunicationRecovery,
        Self::HotStandby,
        Self::InMaintenance,
        Self::LoadBalancing,
        Self::PartnerDown,
        Self::PartnerInMaintenance,
        Self::PassiveBackup,
        Self::Ready,
        Self::Syncing,
        Self::Terminated,
        Self::Waiting,
    ];

    /// The same state as a partner sees it.
    pub fn as_seen_by_partner(self) -> PartnerState {
        match self {
            Self::Backup => PartnerState::Backup,
            Self::CommunicationRecovery => PartnerState::CommunicationRecovery,
            Self::HotStandby => PartnerState::HotStandby,
            Self::InMaintenance => PartnerState::InMaintenance,
            Self::LoadBalancing => PartnerState::LoadBalancing,
            Self::PartnerDown => PartnerState::PartnerDown,
            Self::PartnerInMaintenance => PartnerState::PartnerInMaintenance,
            Self::PassiveBackup => PartnerState::PassiveBackup,
            Self::Ready => PartnerState::Ready,
            Self::Syncing => PartnerState::Syncing,
            Self::Terminated => PartnerState::Terminated,
            Self::Waiting => PartnerState::Waiting,
        }
    }

    /// Whether it is one of the two states of maintenance.
    pub fn is_maintenance(self) -> bool {
        matches!(self, Self::InMaintenance | Self::PartnerInMaintenance)
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        self.as_seen_by_partner().name()
    }
}

impl fmt::Display for OwnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_seen_by_partner().fmt(f)
    }
}

/// Role of a server in its relationship (ha-protocol 1.8).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// Receives every update and serves nobody by itself.
    Backup,
    /// Serves while both are there; in load-balancing its half.
    Primary,
    /// The other half (load-balancing).
    Secondary,
    /// Takes over (hot-standby).
    Standby,
}

impl Role {
    /// The name in the configuration and in `status-get`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Standby => "standby",
        }
    }
}

/// Mode of a relationship (ha-protocol 1.4).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mode {
    /// One serves, the other waits.
    HotStandby,
    /// Each serves half of the clients.
    LoadBalancing,
    /// One serves, and others are told.
    PassiveBackup,
}

impl Mode {
    /// The name in the configuration and in `status-get`.
    pub fn name(self) -> &'static str {
        match self {
            Self::HotStandby => "hot-standby",
            Self::LoadBalancing => "load-balancing",
            Self::PassiveBackup => "passive-backup",
        }
    }

    /// The state of a pair in which all is well; passive-backup has no pairs.
    pub fn normal_state(self) -> OwnState {
        match self {
            Self::HotStandby => OwnState::HotStandby,
            Self::LoadBalancing => OwnState::LoadBalancing,
            Self::PassiveBackup => OwnState::PassiveBackup,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_but_unknown_is_found_by_its_wire_name() {
        for state in PartnerState::ALL {
            let expected = if state == PartnerState::Unknown { PartnerState::Unavailable } else { state };
            assert_eq!(PartnerState::from_name(state.name()), Some(expected));
        }
        for wrong in ["", "READY", "Ready", "hot standby", "unknown", "undefined"] {
            assert_eq!(PartnerState::from_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn states_are_logged_in_upper_case_and_an_absent_partner_as_undefined() {
        assert_eq!(OwnState::PartnerDown.to_string(), "PARTNER-DOWN");
        assert_eq!(PartnerState::Unavailable.to_string(), "UNDEFINED");
    }
}
