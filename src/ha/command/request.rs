//! Requests to other servers of the relationship, in the superset dialect (ha-protocol 2.2, 3).

use serde_json::{Map, Value, json};

use super::super::fingerprint::{self, Fingerprint};
use super::super::json as dialect;
use super::{PageRequest, REMOTE_ORIGIN_ID};

/// Name of the command by which a server that stops cleanly says so, between two Tandem servers.
pub const STOPPING: &str = "tandem-ha-stopping";

/// `ha-heartbeat`; with a fingerprint only to a partner that is known to understand it.
pub fn heartbeat(this_server_name: &str, fingerprint: Option<&Fingerprint>) -> Vec<u8> {
    let mut arguments = json!({ "server-name": this_server_name });
    if let Some(fingerprint) = fingerprint {
        arguments[fingerprint::MEMBER] = fingerprint.to_value();
    }
    command("ha-heartbeat", Some(arguments))
}

/// `dhcp-disable` for `max_period_s` seconds.
pub fn dhcp_disable(max_period_s: u64) -> Vec<u8> {
    let arguments =
        json!({ "max-period": max_period_s, "origin": "ha-partner", "origin-id": REMOTE_ORIGIN_ID });
    command("dhcp-disable", Some(arguments))
}

/// `dhcp-enable`.
pub fn dhcp_enable() -> Vec<u8> {
    command("dhcp-enable", Some(json!({ "origin": "ha-partner", "origin-id": REMOTE_ORIGIN_ID })))
}

/// `lease4-get-page`.
pub fn lease_page(page: PageRequest) -> Vec<u8> {
    let from = page.after.map_or_else(|| "start".to_owned(), |after| after.to_string());
    command("lease4-get-page", Some(json!({ "from": from, "limit": page.limit })))
}

/// `ha-reset`: the partner begins again, with a copy of our leases.
pub fn reset(this_server_name: &str) -> Vec<u8> {
    command("ha-reset", Some(json!({ "server-name": this_server_name })))
}

/// `ha-maintenance-notify`. `state` is the own state, or the one about to be returned to when maintenance is called off.
pub fn maintenance_notify(this_server_name: &str, cancel: bool, state: &str) -> Vec<u8> {
    let arguments = json!({ "cancel": cancel, "server-name": this_server_name, "state": state });
    command("ha-maintenance-notify", Some(arguments))
}

/// To a Tandem server: this one serves nobody any longer, and is about to end.
pub fn stopping(this_server_name: &str) -> Vec<u8> {
    command(STOPPING, Some(json!({ "server-name": this_server_name })))
}

/// `ha-sync-complete-notify`.
pub fn sync_complete_notify(this_server_name: &str) -> Vec<u8> {
    let arguments = json!({
        "origin": REMOTE_ORIGIN_ID, "origin-id": REMOTE_ORIGIN_ID, "server-name": this_server_name
    });
    command("ha-sync-complete-notify", Some(arguments))
}

/// `status-get`, to learn the partner's generation (ha-protocol 0.5).
pub fn status_get() -> Vec<u8> {
    command("status-get", None)
}

/// Any command.
pub fn command(name: &str, arguments: Option<Value>) -> Vec<u8> {
    let mut members = Map::new();
    if let Some(arguments) = arguments {
        members.insert("arguments".into(), arguments);
    }
    members.insert("command".into(), name.into());
    members.insert("service".into(), json!(["dhcp4"]));
    dialect::to_vec(&Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::super::super::fingerprint::Sums;
    use super::*;

    #[test]
    fn requests_are_written_in_the_superset_dialect() {
        let all = Sums { subnets: 1, pools: 2, options: 3 };
        let fingerprint = Fingerprint { all, ..Fingerprint::default() };
        for (body, expected) in [
            (
                heartbeat("server2", None),
                r#"{ "arguments": { "server-name": "server2" }, "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#,
            ),
            (
                dhcp_disable(60),
                r#"{ "arguments": { "max-period": 60, "origin": "ha-partner", "origin-id": 2000 }, "command": "dhcp-disable", "service": [ "dhcp4" ] }"#,
            ),
            (
                dhcp_enable(),
                r#"{ "arguments": { "origin": "ha-partner", "origin-id": 2000 }, "command": "dhcp-enable", "service": [ "dhcp4" ] }"#,
            ),
            (
                lease_page(PageRequest { after: None, limit: 10000 }),
                r#"{ "arguments": { "from": "start", "limit": 10000 }, "command": "lease4-get-page", "service": [ "dhcp4" ] }"#,
            ),
            (
                sync_complete_notify("server2"),
                r#"{ "arguments": { "origin": 2000, "origin-id": 2000, "server-name": "server2" }, "command": "ha-sync-complete-notify", "service": [ "dhcp4" ] }"#,
            ),
            (
                reset("server1"),
                r#"{ "arguments": { "server-name": "server1" }, "command": "ha-reset", "service": [ "dhcp4" ] }"#,
            ),
            (
                maintenance_notify("server1", false, "hot-standby"),
                r#"{ "arguments": { "cancel": false, "server-name": "server1", "state": "hot-standby" }, "command": "ha-maintenance-notify", "service": [ "dhcp4" ] }"#,
            ),
            (
                heartbeat("server2", Some(&fingerprint)),
                r#"{ "arguments": { "server-name": "server2", "tandem-fingerprint": { "options": "0000000000000003", "pools": "0000000000000002", "subnets": "0000000000000001" } }, "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#,
            ),
            (status_get(), r#"{ "command": "status-get", "service": [ "dhcp4" ] }"#),
        ] {
            assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
    }
}
