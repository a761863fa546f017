//! What of high availability the server cannot do yet: the one list of it.
//!
//! A mode that would start and then protect nobody is worse than one that is refused, so what the document
//! allows and no part of the server does is an error here, and nowhere else.

use config::Document;
use config::diagnostics::Diagnostics;
use config::ha::{Mode, Role};

/// Reports what `document` asks of high availability and is not built.
pub fn check(document: &Document, report: &mut Diagnostics) {
    let Some(relationship) = &document.hooks.high_availability else { return };
    let mode = &relationship.mode;
    if **mode != Mode::HotStandby {
        let message = format!("HA mode {} is not built yet, only hot-standby is", mode.name());
        report.error(&mode.position, "mode", message);
    }
    for peer in std::iter::once(&relationship.own).chain(&relationship.others) {
        if *peer.role == Role::Backup {
            let message = format!("backup servers are not built yet: '{}'", *peer.name);
            report.error(&peer.role.position, "role", message);
        }
    }
    if let Some(pause) = relationship.pauses.first() {
        let message = "pauses of the state machine are not built yet";
        report.error(&pause.pause.position, "pause", message);
    }
    let failover = &relationship.own.auto_failover;
    if !**failover {
        let message = "\"auto-failover\": false of this server is not built yet";
        report.error(&failover.position, "auto-failover", message);
    }
    if !relationship.multi_threading.has_dedicated_listener() {
        let message = "high availability without a dedicated listener is not built yet: set \
                       \"enable-multi-threading\" and \"http-dedicated-listener\" to true in its multi-threading";
        report.error(&relationship.position, "multi-threading", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of what is reported about a relationship of `mode` with these keys of the block and of its peers.
    fn reported(mode: &str, block: &str, own: &str, more_peers: &str) -> Vec<String> {
        let other = match mode {
            "load-balancing" => "secondary",
            "passive-backup" => "backup",
            _ => "standby",
        };
        let text = format!(
            r#"{{"Dhcp4": {{"control-sockets": [{{"socket-type": "unix", "socket-name": "s"}}],
            "hooks-libraries": [{{"library": "libdhcp_lease_cmds.so"}}, {{"library": "libdhcp_ha.so",
            "parameters": {{"high-availability": [{{"this-server-name": "a", "mode": "{mode}"{block}, "peers": [
            {{"name": "a", "role": "primary", "url": "http://192.0.2.1:1/"{own}}},
            {{"name": "b", "role": "{other}", "url": "http://192.0.2.2:1/"}}{more_peers}]}}]}}}}]}}}}"#
        );
        let loaded = config::parse_dhcp4(text.as_bytes(), "file").unwrap_or_else(|error| panic!("{error}"));
        let mut report = Diagnostics::default();
        check(&loaded.document, &mut report);
        match report.finish() {
            Ok(warnings) => {
                assert_eq!(warnings, []);
                Vec::new()
            }
            Err(error) => error.errors().map(|error| error.key.clone()).collect(),
        }
    }

    #[test]
    fn what_no_part_of_the_server_does_is_refused_by_its_key() {
        let pause = r#", "state-machine": {"states": [{"state": "ready", "pause": "once"}]}"#;
        let backup = r#", {"name": "c", "role": "backup", "url": "http://192.0.2.3:1/"}"#;
        let listener = r#", "multi-threading": {"http-dedicated-listener": false}"#;
        let rows: [(&str, &str, &str, &str, &[&str]); 8] = [
            ("hot-standby", "", "", "", &[]),
            ("hot-standby", pause, "", "", &["pause"]),
            ("hot-standby", listener, "", "", &["multi-threading"]),
            ("hot-standby", "", r#", "auto-failover": false"#, "", &["auto-failover"]),
            ("hot-standby", "", r#", "basic-auth-user": "u""#, "", &[]),
            ("hot-standby", "", "", backup, &["role"]),
            ("load-balancing", "", "", "", &["mode"]),
            ("passive-backup", "", "", "", &["mode", "role"]),
        ];
        for (mode, block, own, more_peers, expected) in rows {
            assert_eq!(reported(mode, block, own, more_peers), expected, "{mode} {block} {own} {more_peers}");
        }
    }
}
