//! The HA part of `status-get` (ha-protocol 3.11), in the dialect of release 3.0.

use serde_json::{Value, json};
use shards::Now;

use super::{BacklogState, Holder, Machine};
use crate::ha::command::LOCAL_ORIGIN_ID;
use crate::ha::communication::TERMINATED_BECAUSE;
use crate::ha::relationship::PeerName;
use crate::ha::state::PartnerState;

impl Machine {
    /// Value of `high-availability`: a list of one relationship. A server without a partner (passive-backup, backup) has
    /// no `remote`. Members that begin with `tandem-` are ours.
    pub fn status_high_availability(&self, now: Now) -> Value {
        let relationship = &self.relationship;
        let mut local = json!({
            "role": relationship.role.name(),
            "scopes": self.scope_names(),
            "server-name": relationship.this_server_name,
            "state": self.state.name(),
            "system-time": self.communication.wall_s().map(|_| utc_text(now.wall_s())),
            "tandem-paused": self.paused,
        });
        if let Some(reason) = self.termination.reason() {
            local[TERMINATED_BECAUSE] = json!(reason);
        }
        if relationship.delayed_updates_limit > 0 {
            local["tandem-backlog"] = json!({
                "limit": relationship.delayed_updates_limit,
                "overflowed": self.backlog.state() == BacklogState::Overflowed,
                "waiting": self.backlog.len(),
            });
        }
        let mut servers = json!({ "local": local });
        if let Some(partner) = relationship.partner() {
            servers["remote"] = self.status_remote(now, partner);
        }
        json!([{ "ha-mode": relationship.mode.name(), "ha-servers": servers }])
    }

    fn status_remote(&self, now: Now, partner: &PeerName) -> Value {
        let communication = &self.communication;
        let interrupted = self.is_interrupted(now);
        let proven = communication.traffic_proves_failure(self.relationship.max_unacked_clients);
        let unacked_left = if interrupted && !proven { self.unacked_left() } else { 0 };
        let heard = communication.partner() != PartnerState::Unknown;
        let state = match communication.partner() {
            PartnerState::Unknown => "",
            known => known.name(),
        };
        let mut remote = json!({
            "age": if heard { communication.age_s(now.monotonic_ns) } else { 0 },
            "analyzed-packets": communication.analyzed(),
            "clock-skew": communication.skew_s(),
            "communication-interrupted": interrupted,
            "connecting-clients": communication.connecting(),
            "in-touch": heard,
            "last-scopes": communication.scopes(),
            "last-state": state,
            "role": partner.role.name(),
            "server-name": partner.name,
            "system-time": communication.wall_s().map(utc_text),
            "unacked-clients": communication.unacked(),
            "unacked-clients-left": unacked_left,
        });
        if let Some(difference) = &self.difference {
            remote["tandem-configuration-differs"] =
                json!({ "in": difference.kinds(), "subnets": difference.subnet_ids });
        }
        remote
    }

    /// Value of `dhcp-state`: who holds the service off.
    pub fn status_dhcp_state(&self) -> Value {
        let local = self.locks.local_relationships().into_iter();
        let local: Vec<i64> = local.map(|relationship| LOCAL_ORIGIN_ID + i64::from(relationship)).collect();
        json!({
            "disabled-by-db-connection": [],
            "disabled-by-local-command": local,
            "disabled-by-remote-command": self.locks.remote_ids(),
            "disabled-by-user": self.locks.is_held(Holder::User),
            "globally-disabled": !self.locks.service_on(),
        })
    }
}

/// `YYYY-MM-DD HH:MM:SS` in UTC.
fn utc_text(wall_s: u64) -> String {
    let (days, second) = (wall_s / 86_400, wall_s % 86_400);
    // Days counted from 1 March of year 0 in eras of 400 years (proleptic Gregorian calendar).
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (wall_s, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_795_334_543, "2026-11-22 08:02:23"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc_text(wall_s), text);
        }
    }
}
