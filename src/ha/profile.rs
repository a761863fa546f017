//! What each state means to clients and to the partner: scopes, service, updates, polling (ha-protocol 4.1).
//!
//! Pure functions of the own state and the relationship, so that the advertised scopes and those the packet path
//! enforces come from the same place (8.1 no. 4).

use super::relationship::Relationship;
use super::state::{Mode, OwnState, Role};
use super::view::{BackupUpdates, Scopes, UpdateMode};

impl OwnState {
    /// Whether DHCP is served in this state when no lock is held.
    pub fn serves_dhcp(self) -> bool {
        match self {
            Self::CommunicationRecovery
            | Self::HotStandby
            | Self::LoadBalancing
            | Self::PartnerDown
            | Self::PartnerInMaintenance
            | Self::PassiveBackup
            | Self::Terminated => true,
            Self::Backup | Self::InMaintenance | Self::Ready | Self::Syncing | Self::Waiting => false,
        }
    }

    /// Whether a server in this state sends lease updates to its partner.
    pub fn sends_updates(self) -> bool {
        matches!(self, Self::HotStandby | Self::LoadBalancing | Self::PartnerInMaintenance)
    }

    /// Whether the clients refused by the partner are forgotten on entering this state (4.4).
    pub fn forgives_on_entry(self) -> bool {
        matches!(self, Self::PartnerDown | Self::Ready | Self::Syncing | Self::Terminated | Self::Waiting)
    }
}

/// Scopes on entering `state`: the default ones (a primary's or secondary's own), those of failover (every active
/// server's), or none. `for_maintenance` says that an administrator has asked for the partner's part as well, which
/// `auto-failover` has no say in.
pub fn scopes(state: OwnState, relationship: &Relationship, for_maintenance: bool) -> Scopes {
    let own = match relationship.role {
        Role::Primary => Scopes::PRIMARY,
        Role::Secondary => Scopes::SECONDARY,
        Role::Backup | Role::Standby => Scopes::NONE,
    };
    let failover = match relationship.mode {
        Mode::LoadBalancing => Scopes::BOTH,
        Mode::HotStandby | Mode::PassiveBackup => Scopes::PRIMARY,
    };
    match state {
        OwnState::CommunicationRecovery
        | OwnState::HotStandby
        | OwnState::LoadBalancing
        | OwnState::PassiveBackup
        | OwnState::Terminated => own,
        OwnState::PartnerDown if relationship.auto_failover || for_maintenance => failover,
        OwnState::PartnerDown => own,
        OwnState::PartnerInMaintenance => failover,
        OwnState::Backup
        | OwnState::InMaintenance
        | OwnState::Ready
        | OwnState::Syncing
        | OwnState::Waiting => Scopes::NONE,
    }
}

/// What happens to updates for the active partner (5.2).
pub fn updates(state: OwnState, relationship: &Relationship) -> UpdateMode {
    match state {
        _ if !relationship.send_lease_updates || !relationship.has_partner() => UpdateMode::Off,
        OwnState::CommunicationRecovery => UpdateMode::Queue,
        sending if sending.sends_updates() => UpdateMode::Send,
        _ => UpdateMode::None,
    }
}

/// What happens to updates for backup servers, in every state alike (4.1, 5.2).
pub fn backups(relationship: &Relationship) -> BackupUpdates {
    match relationship.backup_peers().count {
        0 => BackupUpdates::None,
        _ if !relationship.send_lease_updates => BackupUpdates::None,
        _ if relationship.wait_backup_ack => BackupUpdates::SendAndWait,
        _ => BackupUpdates::Send,
    }
}

#[cfg(test)]
mod tests {
    use super::super::relationship::PeerName;
    use super::super::relationship::tests::relationship;
    use super::*;
    use OwnState as O;

    const NO: Scopes = Scopes::NONE;
    const P: Scopes = Scopes::PRIMARY;
    const S: Scopes = Scopes::SECONDARY;
    const PS: Scopes = Scopes::BOTH;

    /// 4.1: state, service, updates, scopes of: primary of hot-standby, standby, primary of load-balancing, secondary.
    #[rustfmt::skip]
    const ACTIVE: [(O, bool, UpdateMode, [Scopes; 4]); 10] = [
        (O::Waiting,               false, UpdateMode::None,  [NO, NO, NO, NO]),
        (O::Syncing,               false, UpdateMode::None,  [NO, NO, NO, NO]),
        (O::Ready,                 false, UpdateMode::None,  [NO, NO, NO, NO]),
        (O::HotStandby,            true,  UpdateMode::Send,  [P,  NO, P,  S]),
        (O::LoadBalancing,         true,  UpdateMode::Send,  [P,  NO, P,  S]),
        (O::CommunicationRecovery, true,  UpdateMode::Queue, [P,  NO, P,  S]),
        (O::PartnerDown,           true,  UpdateMode::None,  [P,  P,  PS, PS]),
        (O::PartnerInMaintenance,  true,  UpdateMode::Send,  [P,  P,  PS, PS]),
        (O::InMaintenance,         false, UpdateMode::None,  [NO, NO, NO, NO]),
        (O::Terminated,            true,  UpdateMode::None,  [P,  NO, P,  S]),
    ];

    const SERVERS: [(Mode, Role); 4] = [
        (Mode::HotStandby, Role::Primary),
        (Mode::HotStandby, Role::Standby),
        (Mode::LoadBalancing, Role::Primary),
        (Mode::LoadBalancing, Role::Secondary),
    ];

    #[test]
    fn service_updates_and_scopes_are_those_of_4_1() {
        for (state, service, mode, expected) in ACTIVE {
            assert_eq!(state.serves_dhcp(), service, "{state}");
            for ((ha_mode, role), expected) in SERVERS.into_iter().zip(expected) {
                let server = relationship(ha_mode, role);
                assert_eq!(scopes(state, &server, false), expected, "{state} {role:?} {ha_mode:?}");
                assert_eq!(updates(state, &server), mode, "{state}");
                let silent = Relationship { send_lease_updates: false, ..server };
                assert_eq!(updates(state, &silent), UpdateMode::Off, "{state}");
            }
        }
        let alone = relationship(Mode::PassiveBackup, Role::Primary);
        assert_eq!(scopes(O::PassiveBackup, &alone, false), P);
        assert_eq!(updates(O::PassiveBackup, &alone), UpdateMode::Off);
        let backup = relationship(Mode::PassiveBackup, Role::Backup);
        assert_eq!(scopes(O::Backup, &backup, false), NO);
        assert!(O::PassiveBackup.serves_dhcp() && !O::Backup.serves_dhcp());
    }

    #[test]
    fn without_auto_failover_a_lonely_server_keeps_to_its_own_unless_asked_for_maintenance() {
        for ((mode, role), own, all) in SERVERS
            .into_iter()
            .zip([P, NO, P, S])
            .zip([P, P, PS, PS])
            .map(|((server, own), all)| (server, own, all))
        {
            let server = Relationship { auto_failover: false, ..relationship(mode, role) };
            assert_eq!(scopes(O::PartnerDown, &server, false), own, "{mode:?} {role:?}");
            assert_eq!(scopes(O::PartnerDown, &server, true), all, "{mode:?} {role:?}");
        }
    }

    #[test]
    fn backups_are_told_in_every_mode_and_waited_for_only_where_asked() {
        let mut server = relationship(Mode::HotStandby, Role::Primary);
        assert_eq!(backups(&server), BackupUpdates::None);
        server.others.push(PeerName { name: "b".into(), url: String::new(), role: Role::Backup });
        assert_eq!(backups(&server), BackupUpdates::Send);
        server.wait_backup_ack = true;
        assert_eq!(backups(&server), BackupUpdates::SendAndWait);
        server.send_lease_updates = false;
        assert_eq!(backups(&server), BackupUpdates::None);
    }
}
