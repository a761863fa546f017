//! What the HA machine needs of the configuration, defaults applied.

use super::state::Role;

/// One hot-standby relationship as seen by this server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Relationship {
    /// `this-server-name`.
    pub this_server_name: String,
    /// Name of the partner.
    pub partner_name: String,
    /// URL of the partner, for the log.
    pub partner_url: String,
    /// Own role.
    pub role: Role,
    /// `send-lease-updates`.
    pub send_lease_updates: bool,
    /// `sync-leases`.
    pub sync_leases: bool,
    /// `sync-timeout`, milliseconds; 0 is no timeout.
    pub sync_timeout_ms: u32,
    /// `sync-page-limit`, at least 1.
    pub sync_page_limit: u32,
    /// `heartbeat-delay`, milliseconds; 0 turns heartbeats off, and the server never leaves `waiting`.
    pub heartbeat_delay_ms: u32,
    /// `max-response-delay`, milliseconds.
    pub max_response_delay_ms: u32,
    /// `max-ack-delay`, milliseconds.
    pub max_ack_delay_ms: u32,
    /// `max-unacked-clients`; 0 skips the traffic analysis.
    pub max_unacked_clients: u32,
    /// `max-rejected-lease-updates`; 0 is never.
    pub max_rejected_lease_updates: u32,
}

impl From<&config::ha::Relationship> for Relationship {
    /// The document has refused every mode and role that is not built, so there is nothing left to fail here.
    fn from(document: &config::ha::Relationship) -> Self {
        let role = match *document.own.role {
            config::ha::Role::Primary => Role::Primary,
            config::ha::Role::Backup | config::ha::Role::Secondary | config::ha::Role::Standby => {
                Role::Standby
            }
        };
        Self {
            this_server_name: document.own.name.to_string(),
            partner_name: document.partner.name.to_string(),
            partner_url: document.partner.url.text.clone(),
            role,
            send_lease_updates: *document.send_lease_updates,
            sync_leases: *document.sync_leases,
            sync_timeout_ms: *document.sync_timeout_ms,
            sync_page_limit: *document.sync_page_limit,
            heartbeat_delay_ms: *document.heartbeat_delay_ms,
            max_response_delay_ms: *document.max_response_delay_ms,
            max_ack_delay_ms: *document.max_ack_delay_ms,
            max_unacked_clients: *document.max_unacked_clients,
            max_rejected_lease_updates: *document.max_rejected_lease_updates,
        }
    }
}

impl Relationship {
    /// Name of the primary: the scope of a hot-standby pair.
    pub fn primary_name(&self) -> &str {
        match self.role {
            Role::Primary => &self.this_server_name,
            Role::Standby => &self.partner_name,
        }
    }

    /// `max-period` of `dhcp-disable`, seconds (ha-protocol 1.4).
    pub fn sync_max_period_s(&self) -> u64 {
        u64::from(self.sync_timeout_ms / 1000).max(1)
    }

    /// How long a heartbeat may take: shorter than Kea's 10 s where that would hide the deadline it serves
    /// (ha-protocol 8 no. 3).
    pub fn heartbeat_timeout_ms(&self) -> u64 {
        u64::from(self.max_response_delay_ms / 3).clamp(1_000, 10_000)
    }
}
