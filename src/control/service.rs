//! The DHCP service switch of a server without high availability: `dhcp-disable` and `dhcp-enable` (pure).
//!
//! With high availability the HA machine holds the locks; without it there are still an administrator's and
//! those of a partner that is configured on the other side alone.

use shards::Now;

use crate::ha::command::{HaCommand, Origin, REMOTE_ORIGIN_ID, Reply, USER_ORIGIN_ID};
use crate::ha::locks::{Holder, Locks};
use crate::ha::view::{HaView, Scopes, UpdateMode};

/// The longest `max-period`, seconds; the deadline of a longer one is beyond the monotonic clock.
const MAX_PERIOD_S_MAX: u64 = 10 * 365 * 24 * 3600;

/// The locks, and the view shards have of them.
#[derive(Debug, Default)]
pub struct ServiceSwitch {
    locks: Locks,
    epoch: u64,
}

impl ServiceSwitch {
    /// What shards are to know.
    pub fn view(&self) -> HaView {
        HaView {
            epoch: self.epoch,
            service_on: self.locks.service_on(),
            configured: false,
            scopes: Scopes::PRIMARY,
            updates: UpdateMode::Off,
            ..HaView::default()
        }
    }

    /// Carries out a command; the second value says whether the view has changed.
    pub fn handle_command(&mut self, now: Now, command: &HaCommand) -> (Reply, bool) {
        let before = self.locks.service_on();
        let reply = match command {
            HaCommand::DhcpDisable { origin, max_period_s } => self.disable(now, *origin, *max_period_s),
            HaCommand::DhcpEnable { origin } => {
                self.locks.release(holder(*origin));
                Reply::success("DHCP service successfully enabled")
            }
            _ => Reply::error("high availability is not configured"),
        };
        (reply, self.changed(before))
    }

    fn disable(&mut self, now: Now, origin: Origin, max_period_s: Option<u64>) -> Reply {
        let period_s = max_period_s.map(|period| period.min(MAX_PERIOD_S_MAX));
        let deadline =
            period_s.map(|period| now.monotonic_ns.saturating_add(period.saturating_mul(1_000_000_000)));
        if !self.locks.take(holder(origin), deadline) {
            return Reply::error("too many others hold the DHCPv4 service off");
        }
        match max_period_s {
            Some(period) => Reply::success(format!("DHCPv4 service disabled for {period} seconds")),
            None => Reply::success("DHCPv4 service disabled"),
        }
    }

    /// When `handle_timeout` is wanted next, on the monotonic clock in nanoseconds.
    pub fn next_timeout(&self) -> Option<u64> {
        self.locks.next_timeout()
    }

    /// `next_timeout` has passed; true when the view has changed.
    pub fn handle_timeout(&mut self, now: Now) -> bool {
        let before = self.locks.service_on();
        self.locks.expire(now.monotonic_ns);
        self.changed(before)
    }

    /// `dhcp-state` of `status-get`.
    pub fn dhcp_state(&self) -> serde_json::Value {
        serde_json::json!({
            "disabled-by-db-connection": [],
            "disabled-by-local-command": [],
            "disabled-by-remote-command": self.locks.remote_ids(),
            "disabled-by-user": self.locks.is_held(Holder::User),
            "globally-disabled": !self.locks.service_on(),
        })
    }

    fn changed(&mut self, before: bool) -> bool {
        let changed = before != self.locks.service_on();
        self.epoch += u64::from(changed);
        changed
    }
}

fn holder(origin: Origin) -> Holder {
    match origin {
        Origin::User | Origin::Id(USER_ORIGIN_ID) => Holder::User,
        Origin::Partner => Holder::Remote(0, REMOTE_ORIGIN_ID),
        Origin::Id(id) => Holder::Remote(0, id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_goes_off_and_on_by_command_and_by_time() {
        let mut switch = ServiceSwitch::default();
        let at = |s: u64| Now { monotonic_ns: s * 1_000_000_000, wall_ms: 0 };
        let disable = |period| HaCommand::DhcpDisable { origin: Origin::User, max_period_s: period };
        let enable = |origin| HaCommand::DhcpEnable { origin };
        let (reply, changed) = switch.handle_command(at(0), &disable(None));
        assert_eq!((reply.text.as_deref(), changed), (Some("DHCPv4 service disabled"), true));
        assert!(!switch.view().service_on && switch.next_timeout().is_none());
        let (reply, changed) = switch.handle_command(at(1), &disable(Some(5)));
        assert_eq!((reply.text.as_deref(), changed), (Some("DHCPv4 service disabled for 5 seconds"), false));
        assert!(!switch.handle_command(at(2), &enable(Origin::Partner)).1, "another's lock stays");
        assert!(!switch.handle_timeout(at(5)) && switch.handle_timeout(at(6)));
        assert!(switch.view().service_on);
        let epoch = switch.view().epoch;
        switch.handle_command(at(7), &disable(Some(u64::MAX)));
        assert!(switch.handle_command(at(8), &enable(Origin::Id(1))).1);
        assert_eq!(switch.view().epoch, epoch + 2);
    }
}
