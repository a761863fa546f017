//! What the HA machine logs, under Kea's message ids, so that log watchers keep working.
//!
//! `HA_COMMUNICATION_RESTORED` is ours: Kea says when a partner is lost, not when it is back.

use std::fmt;

use shards::Lease;

use super::fingerprint::Difference;
use super::state::{OwnState, PartnerState};
use crate::engine::message::Conflict;

/// Logger every HA message goes to, as in Kea.
pub const TARGET: &str = "kea-dhcp4.ha-hooks";

/// One message: id, level and values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogEvent {
    /// `this-server-name`, with which every message begins.
    pub server: String,
    /// What happened.
    pub message: Message,
}

/// Messages in alphabetical order.
#[expect(missing_docs, reason = "the text of each message says what its values are")]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Updates of the backlog could not be sent.
    BacklogFlushFailed { partner: String, waiting: usize, reason: String },
    /// More updates than the backlog holds.
    BacklogOverflowed { limit: u32 },
    /// The partner has not answered for longer than `max-response-delay`.
    CommunicationInterrupted { partner: String },
    /// A client of the silent partner, first seen or first seen unanswered.
    CommunicationInterruptedClient {
        client: String,
        unacked: bool,
        unacked_total: usize,
        unacked_left: usize,
    },
    /// The partner answers again.
    CommunicationRestored { partner: String },
    /// The configurations differ no longer.
    ConfigurationAgrees { partner: String },
    /// The partner runs another configuration.
    ConfigurationDiffers { partner: String, difference: Difference },
    /// Leases of both were compared after a silence.
    Compared { partner: String, taken: usize, sent: usize },
    /// The partner's copy lacks what was given since; it is told to copy again.
    CopyOutdated { partner: String },
    /// `dhcp-disable` to the partner failed.
    DhcpDisableFailed { partner: String, reason: String },
    /// `dhcp-enable` to the partner failed.
    DhcpEnableFailed { partner: String, reason: String },
    /// No answer to a heartbeat.
    HeartbeatCommunicationsFailed { partner: String, reason: String },
    /// An answer to a heartbeat that is no success.
    HeartbeatFailed { partner: String, reason: String },
    /// Clocks differ by more than 30 s.
    HighClockSkew { skew_s: i64 },
    /// Clocks differ by more than 60 s.
    HighClockSkewCausesTermination { skew_s: i64 },
    /// A page of leases could not be fetched or applied.
    LeasesSyncFailed { partner: String, reason: String },
    /// A page of leases has come.
    LeasesSyncPageReceived { partner: String, leases: usize },
    /// Leases of a page were skipped.
    LeasesSyncSkipped { skipped: usize, first_reason: String },
    /// Two clients hold an address, one by each server.
    LeaseConflict(Box<Conflict>),
    /// There were more such addresses than are told one by one.
    LeaseConflicts { conflicts: usize },
    /// The partner refused a lease update as a conflict.
    LeaseUpdateConflict { partner: String, client: String },
    /// Too many clients' updates were refused.
    LeaseUpdateRejectsCausedTermination { rejected: usize },
    /// Lease updates are not sent in this state.
    LeaseUpdatesDisabled { state: OwnState },
    /// Lease updates are sent in this state.
    LeaseUpdatesEnabled { state: OwnState },
    /// The service is off in this state.
    LocalDhcpDisable { state: OwnState },
    /// The service is on in this state.
    LocalDhcpEnable { state: OwnState },
    /// The partner is in a state of another mode: the configurations do not match.
    InvalidPartnerState { partner: PartnerState, mode: &'static str },
    /// The partner has gone back into maintenance that was called off.
    MaintenanceCalledOffAgain { partner: String },
    /// The partner asked for maintenance in a state that does not allow it.
    MaintenanceRefused { state: OwnState },
    /// The partner is about to end, cleanly.
    PartnerStops { partner: String },
    /// `ha-reset` was obeyed.
    Reset { state: OwnState },
    /// `ha-reset` to the partner failed.
    ResetPartnerFailed { partner: String, reason: String },
    /// The machine has started.
    ServiceStarted { role: &'static str, mode: &'static str },
    /// `ha-continue` was obeyed.
    StateMachineContinued { state: OwnState },
    /// The machine rests until `ha-continue`.
    StateMachinePaused { state: OwnState },
    /// This server did not run for so long that the partner may have taken over.
    StoodStill { partner: String, gap_ms: u64 },
    /// A state was left for another.
    StateTransition { from: OwnState, to: OwnState, partner: PartnerState },
    /// The partner has copied our leases.
    SyncCompleteNotified,
    /// The notification that the copy is complete failed.
    SyncCompleteNotifyFailed { partner: String, reason: String },
    /// The copy failed.
    SyncFailed { partner: String, reason: String },
    /// The copy begins.
    SyncStart { partner: String },
    /// The copy is complete.
    SyncSuccessful { partner: String, applied: usize, duration_ms: u64 },
    /// High availability has been given up.
    Terminated,
    /// The partner is terminated and does not leave that state by itself: it is told to.
    TerminatedPartnerReset { partner: String, attempt: u32 },
    /// The partner is still terminated: it must leave that state too.
    TerminatedRestartPartner,
    /// A lease update failed for another reason than a conflict.
    UpdateFailed { partner: String, client: String },
}

impl Message {
    /// Level of the `log` crate that stands for Kea's severity.
    pub fn level(&self) -> log::Level {
        match self {
            Self::HighClockSkewCausesTermination { .. }
            | Self::LeaseUpdateRejectsCausedTermination { .. }
            | Self::LeasesSyncFailed { .. }
            | Self::SyncFailed { .. }
            | Self::Terminated => log::Level::Error,
            Self::BacklogFlushFailed { .. }
            | Self::BacklogOverflowed { .. }
            | Self::CommunicationInterrupted { .. }
            | Self::ConfigurationDiffers { .. }
            | Self::DhcpDisableFailed { .. }
            | Self::DhcpEnableFailed { .. }
            | Self::HeartbeatCommunicationsFailed { .. }
            | Self::HeartbeatFailed { .. }
            | Self::HighClockSkew { .. }
            | Self::InvalidPartnerState { .. }
            | Self::LeaseConflict(_)
            | Self::LeaseConflicts { .. }
            | Self::LeaseUpdateConflict { .. }
            | Self::LeasesSyncSkipped { .. }
            | Self::MaintenanceRefused { .. }
            | Self::ResetPartnerFailed { .. }
            | Self::StoodStill { .. }
            | Self::SyncCompleteNotifyFailed { .. }
            | Self::TerminatedRestartPartner
            | Self::UpdateFailed { .. } => log::Level::Warn,
            Self::CommunicationInterruptedClient { .. }
            | Self::CommunicationRestored { .. }
            | Self::Compared { .. }
            | Self::ConfigurationAgrees { .. }
            | Self::CopyOutdated { .. }
            | Self::LeasesSyncPageReceived { .. }
            | Self::LeaseUpdatesDisabled { .. }
            | Self::LeaseUpdatesEnabled { .. }
            | Self::LocalDhcpDisable { .. }
            | Self::LocalDhcpEnable { .. }
            | Self::MaintenanceCalledOffAgain { .. }
            | Self::PartnerStops { .. }
            | Self::Reset { .. }
            | Self::ServiceStarted { .. }
            | Self::StateMachineContinued { .. }
            | Self::StateMachinePaused { .. }
            | Self::StateTransition { .. }
            | Self::SyncCompleteNotified
            | Self::SyncStart { .. }
            | Self::SyncSuccessful { .. }
            | Self::TerminatedPartnerReset { .. } => log::Level::Info,
        }
    }

    /// Kea's message id.
    pub fn id(&self) -> &'static str {
        match self {
            Self::BacklogFlushFailed { .. } => "HA_LEASES_BACKLOG_FAILED",
            Self::BacklogOverflowed { .. } => "TANDEM_HA_BACKLOG_OVERFLOWED",
            Self::CommunicationInterrupted { .. } => "HA_COMMUNICATION_INTERRUPTED",
            Self::CommunicationInterruptedClient { unacked: false, .. } => {
                "HA_COMMUNICATION_INTERRUPTED_CLIENT4"
            }
            Self::CommunicationInterruptedClient { .. } => "HA_COMMUNICATION_INTERRUPTED_CLIENT4_UNACKED",
            Self::CommunicationRestored { .. } => "HA_COMMUNICATION_RESTORED",
            Self::Compared { .. } => "TANDEM_HA_COMPARED",
            Self::ConfigurationAgrees { .. } => "TANDEM_HA_CONFIGURATION_AGREES",
            Self::ConfigurationDiffers { .. } => "TANDEM_HA_CONFIGURATION_DIFFERS",
            Self::CopyOutdated { .. } => "TANDEM_HA_COPY_OUTDATED",
            Self::DhcpDisableFailed { .. } => "HA_DHCP_DISABLE_COMMUNICATIONS_FAILED",
            Self::DhcpEnableFailed { .. } => "HA_DHCP_ENABLE_COMMUNICATIONS_FAILED",
            Self::HeartbeatCommunicationsFailed { .. } => "HA_HEARTBEAT_COMMUNICATIONS_FAILED",
            Self::HeartbeatFailed { .. } => "HA_HEARTBEAT_FAILED",
            Self::HighClockSkew { .. } => "HA_HIGH_CLOCK_SKEW",
            Self::HighClockSkewCausesTermination { .. } => "HA_HIGH_CLOCK_SKEW_CAUSES_TERMINATION",
            Self::LeasesSyncFailed { .. } => "HA_LEASES_SYNC_FAILED",
            Self::LeasesSyncPageReceived { .. } => "HA_LEASES_SYNC_LEASE_PAGE_RECEIVED",
            Self::LeasesSyncSkipped { .. } => "HA_LEASE_SYNC_FAILED",
            Self::LeaseConflict(_) => "TANDEM_HA_LEASE_CONFLICT",
            Self::LeaseConflicts { .. } => "TANDEM_HA_LEASE_CONFLICTS",
            Self::LeaseUpdateConflict { .. } => "HA_LEASE_UPDATE_CONFLICT",
            Self::LeaseUpdateRejectsCausedTermination { .. } => "HA_LEASE_UPDATE_REJECTS_CAUSED_TERMINATION",
            Self::LeaseUpdatesDisabled { .. } => "HA_LEASE_UPDATES_DISABLED",
            Self::LeaseUpdatesEnabled { .. } => "HA_LEASE_UPDATES_ENABLED",
            Self::LocalDhcpDisable { .. } => "HA_LOCAL_DHCP_DISABLE",
            Self::LocalDhcpEnable { .. } => "HA_LOCAL_DHCP_ENABLE",
            Self::InvalidPartnerState { partner: PartnerState::CommunicationRecovery, .. } => {
                "HA_INVALID_PARTNER_STATE_COMMUNICATION_RECOVERY"
            }
            Self::InvalidPartnerState { partner: PartnerState::HotStandby, .. } => {
                "HA_INVALID_PARTNER_STATE_HOT_STANDBY"
            }
            Self::InvalidPartnerState { .. } => "HA_INVALID_PARTNER_STATE_LOAD_BALANCING",
            Self::MaintenanceCalledOffAgain { .. } => "TANDEM_HA_MAINTENANCE_CALLED_OFF_AGAIN",
            Self::MaintenanceRefused { .. } => "HA_MAINTENANCE_NOTIFY_REFUSED",
            Self::PartnerStops { .. } => "TANDEM_HA_PARTNER_STOPS",
            Self::Reset { .. } => "HA_RESET",
            Self::ResetPartnerFailed { .. } => "HA_RESET_COMMUNICATIONS_FAILED",
            Self::ServiceStarted { .. } => "HA_SERVICE_STARTED",
            Self::StateMachineContinued { .. } => "HA_STATE_MACHINE_CONTINUED",
            Self::StateMachinePaused { .. } => "HA_STATE_MACHINE_PAUSED",
            Self::StoodStill { .. } => "TANDEM_HA_STOOD_STILL",
            Self::StateTransition { .. } => "HA_STATE_TRANSITION",
            Self::SyncCompleteNotified => "HA_SYNC_COMPLETE_NOTIFY_RECEIVED",
            Self::SyncCompleteNotifyFailed { .. } => "HA_SYNC_COMPLETE_NOTIFY_FAILED",
            Self::SyncFailed { .. } => "HA_SYNC_FAILED",
            Self::SyncStart { .. } => "HA_SYNC_START",
            Self::SyncSuccessful { .. } => "HA_SYNC_SUCCESSFUL",
            Self::Terminated => "HA_TERMINATED",
            Self::TerminatedPartnerReset { .. } => "TANDEM_HA_TERMINATED_PARTNER_RESET",
            Self::TerminatedRestartPartner => "HA_TERMINATED_RESTART_PARTNER",
            Self::UpdateFailed { .. } => "HA_LEASE_UPDATE_COMMUNICATIONS_FAILED",
        }
    }
}

impl LogEvent {
    /// Level of the message.
    pub fn level(&self) -> log::Level {
        self.message.level()
    }

    /// Logger of the message.
    pub fn target(&self) -> &'static str {
        TARGET
    }
}

impl fmt::Display for LogEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.message.id(), self.server, self.message)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseUpdatesDisabled { state } => {
                write!(f, "lease updates will not be sent to the partner while in {state} state")
            }
            Self::LeaseUpdatesEnabled { state } => {
                write!(f, "lease updates will be sent to the partner while in {state} state")
            }
            Self::LocalDhcpDisable { state } => {
                write!(f, "local DHCP service is disabled while in the {state} state")
            }
            Self::LocalDhcpEnable { state } => {
                write!(f, "local DHCP service is enabled while in the {state} state")
            }
            Self::MaintenanceRefused { state } => {
                write!(f, "the partner's request for maintenance is refused in the {state} state")
            }
            Self::Reset { state } => write!(f, "state machine reset while in the {state} state"),
            Self::ServiceStarted { role, mode } => {
                write!(f, "started high availability service in {mode} mode as {role} server")
            }
            Self::StateMachineContinued { state } => {
                write!(f, "state machine continues in the {state} state")
            }
            Self::StateMachinePaused { state } => {
                write!(f, "state machine is paused in the {state} state: it goes on with ha-continue")
            }
            Self::StateTransition { from, to, partner } => {
                write!(f, "server transitions from {from} to {to} state, partner state is {partner}")
            }
            Self::Terminated => f.write_str("HA service terminated until its cause is gone"),
            Self::TerminatedRestartPartner => {
                f.write_str("waiting for the partner to leave the TERMINATED state")
            }
            Self::Compared { .. }
            | Self::CopyOutdated { .. }
            | Self::DhcpDisableFailed { .. }
            | Self::DhcpEnableFailed { .. }
            | Self::LeaseConflict(_)
            | Self::LeaseConflicts { .. }
            | Self::LeasesSyncFailed { .. }
            | Self::LeasesSyncPageReceived { .. }
            | Self::LeasesSyncSkipped { .. }
            | Self::SyncCompleteNotified
            | Self::SyncCompleteNotifyFailed { .. }
            | Self::SyncFailed { .. }
            | Self::SyncStart { .. }
            | Self::SyncSuccessful { .. } => self.fmt_copy(f),
            Self::BacklogFlushFailed { .. }
            | Self::BacklogOverflowed { .. }
            | Self::CommunicationInterrupted { .. }
            | Self::CommunicationInterruptedClient { .. }
            | Self::CommunicationRestored { .. }
            | Self::ConfigurationAgrees { .. }
            | Self::ConfigurationDiffers { .. }
            | Self::InvalidPartnerState { .. }
            | Self::MaintenanceCalledOffAgain { .. }
            | Self::PartnerStops { .. }
            | Self::ResetPartnerFailed { .. }
            | Self::HeartbeatCommunicationsFailed { .. }
            | Self::HeartbeatFailed { .. }
            | Self::HighClockSkew { .. }
            | Self::HighClockSkewCausesTermination { .. }
            | Self::LeaseUpdateConflict { .. }
            | Self::LeaseUpdateRejectsCausedTermination { .. }
            | Self::StoodStill { .. }
            | Self::TerminatedPartnerReset { .. }
            | Self::UpdateFailed { .. } => self.fmt_link(f),
        }
    }
}

impl Message {
    /// The messages about the link to the partner.
    fn fmt_link(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BacklogFlushFailed { partner, waiting, reason } => {
                write!(
                    f,
                    "failed to send {waiting} waiting lease updates to {partner}, both servers copy all leases: {reason}"
                )
            }
            Self::BacklogOverflowed { limit } => write!(
                f,
                "more than {limit} lease updates wait for the partner: both servers will copy all leases"
            ),
            Self::ConfigurationAgrees { partner } => {
                write!(f, "the configuration of {partner} is the same as ours")
            }
            Self::ConfigurationDiffers { partner, difference } => {
                write!(f, "the configuration of {partner} differs in {difference}")
            }
            Self::InvalidPartnerState { partner, mode } => {
                write!(f, "partner is in the {partner} state, unknown to the {mode} mode: check its mode")
            }
            Self::MaintenanceCalledOffAgain { partner } => {
                write!(f, "{partner} is in maintenance again, which was called off: it is told once more")
            }
            Self::StoodStill { partner, gap_ms } => write!(
                f,
                "this server has stood still for {gap_ms} ms, and nobody is served before {partner} was heard: it may \
                 have taken over"
            ),
            Self::PartnerStops { partner } => write!(f, "{partner} stops, and serves nobody any longer"),
            Self::ResetPartnerFailed { partner, reason } => {
                write!(f, "failed to reset the state machine of {partner}: {reason}")
            }
            Self::TerminatedPartnerReset { partner, attempt } => write!(
                f,
                "{partner} is terminated and stays so, although its cause is gone as far as this server can tell; it is \
                 told to begin anew (attempt {attempt})"
            ),
            Self::CommunicationInterrupted { partner } => {
                write!(f, "communication with {partner} is interrupted")
            }
            Self::CommunicationInterruptedClient { client, unacked, unacked_total, unacked_left } => {
                let kind = if *unacked { "an unanswered" } else { "a new" };
                write!(
                    f,
                    "{client}: {kind} client of the silent partner; unanswered so far: {unacked_total}, \
                     to go before taking over: {unacked_left}"
                )
            }
            Self::CommunicationRestored { partner } => write!(f, "communication with {partner} is restored"),
            Self::HeartbeatCommunicationsFailed { partner, reason } => {
                write!(f, "failed to send heartbeat to {partner}: {reason}")
            }
            Self::HeartbeatFailed { partner, reason } => write!(f, "heartbeat to {partner} failed: {reason}"),
            Self::HighClockSkew { skew_s } => {
                write!(f, "the partner's clock is {skew_s} s off, please synchronize clocks")
            }
            Self::HighClockSkewCausesTermination { skew_s } => {
                write!(f, "the partner's clock is {skew_s} s off, causing HA service to terminate")
            }
            Self::LeaseUpdateRejectsCausedTermination { rejected } => {
                write!(f, "lease updates of {rejected} clients were refused, causing HA service to terminate")
            }
            Self::LeaseUpdateConflict { partner, client } => {
                write!(f, "{client}: lease update refused by {partner} as a conflict")
            }
            Self::UpdateFailed { partner, client } => write!(f, "{client}: lease update to {partner} failed"),
            // `Display` sends only those above here.
            _ => f.write_str(self.id()),
        }
    }

    /// The messages about a copy of the partner's leases.
    fn fmt_copy(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compared { partner, taken, sent } => write!(
                f,
                "after a silence the leases of {partner} were compared with ours: {taken} were newer there and \
                 are taken, {sent} are newer here and are sent"
            ),
            Self::CopyOutdated { partner } => {
                write!(
                    f,
                    "{partner} has no copy of the leases given since it was gone; it is told to copy them"
                )
            }
            Self::DhcpDisableFailed { partner, reason } => {
                write!(f, "failed to send request to disable DHCP service of {partner}: {reason}")
            }
            Self::DhcpEnableFailed { partner, reason } => {
                write!(f, "failed to send request to enable DHCP service of {partner}: {reason}")
            }
            Self::LeaseConflict(conflict) => {
                let Conflict { ours, theirs, taken } = conflict.as_ref();
                let kept = if *taken { "the partner's" } else { "ours" };
                write!(
                    f,
                    "{} is held by two clients, {kept} is the newer lease and stays: ours ",
                    ours.address
                )?;
                write!(f, "{}, the partner's {}", Described(ours), Described(theirs))
            }
            Self::LeaseConflicts { conflicts } => {
                write!(f, "{conflicts} addresses were held by two clients each; the newer leases stay")
            }
            Self::LeasesSyncFailed { partner, reason } => {
                write!(f, "failed to synchronize leases with {partner}: {reason}")
            }
            Self::LeasesSyncPageReceived { partner, leases } => {
                write!(f, "received {leases} leases from {partner}")
            }
            Self::LeasesSyncSkipped { skipped, first_reason } => {
                write!(f, "skipped {skipped} malformed leases, the first because: {first_reason}")
            }
            Self::SyncCompleteNotified => f.write_str("the partner has completed its synchronization"),
            Self::SyncCompleteNotifyFailed { partner, reason } => {
                write!(f, "failed to notify {partner} of the completed synchronization: {reason}")
            }
            Self::SyncFailed { partner, reason } => {
                write!(f, "lease database synchronization with {partner} failed: {reason}")
            }
            Self::SyncStart { partner } => {
                write!(f, "starting lease database synchronization with {partner}")
            }
            Self::SyncSuccessful { partner, applied, duration_ms } => write!(
                f,
                "lease database synchronization with {partner} completed successfully in {duration_ms} ms, \
                 {applied} leases written"
            ),
            // `Display` sends only those above here.
            _ => f.write_str(self.id()),
        }
    }
}

/// A lease as a message shows it: whose, since when and for how long.
pub struct Described<'l>(pub &'l Lease);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lease { hwaddr, client_id, cltt, valid_lifetime, .. } = self.0;
        write!(f, "[hwtype=1 {hwaddr:?}], cid=[{client_id:?}] since {cltt} for {valid_lifetime} s")
    }
}
