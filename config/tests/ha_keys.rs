//! Every key of the `high-availability` block against a real Kea 2.2: what it takes and what it says of the rest, and
//! where this server decides otherwise on purpose. Defaults are in `pairs.rs` and `relationships.rs`.

use std::collections::BTreeMap;

use config::schema::{Table, Type, high_availability::RELATIONSHIP};

/// In which map of the block a key is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Block,
    Peer,
    Threads,
}

use Place::{Block, Peer, Threads};

/// What a value has to be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bool,
    Number,
    Text,
}

const KEYS: &[(Place, &str, Kind)] = &[
    (Block, "cert-file", Kind::Text),
    (Block, "delayed-updates-limit", Kind::Number),
    (Block, "heartbeat-delay", Kind::Number),
    (Block, "key-file", Kind::Text),
    (Block, "max-ack-delay", Kind::Number),
    (Block, "max-rejected-lease-updates", Kind::Number),
    (Block, "max-response-delay", Kind::Number),
    (Block, "max-unacked-clients", Kind::Number),
    (Block, "mode", Kind::Text),
    (Block, "require-client-certs", Kind::Bool),
    (Block, "restrict-commands", Kind::Bool),
    (Block, "send-lease-updates", Kind::Bool),
    (Block, "sync-leases", Kind::Bool),
    (Block, "sync-page-limit", Kind::Number),
    (Block, "sync-timeout", Kind::Number),
    (Block, "this-server-name", Kind::Text),
    (Block, "trust-anchor", Kind::Text),
    (Block, "wait-backup-ack", Kind::Bool),
    (Peer, "auto-failover", Kind::Bool),
    (Peer, "basic-auth-password", Kind::Text),
    (Peer, "basic-auth-password-file", Kind::Text),
    (Peer, "basic-auth-user", Kind::Text),
    (Peer, "basic-auth-user-file", Kind::Text),
    (Peer, "cert-file", Kind::Text),
    (Peer, "key-file", Kind::Text),
    (Peer, "name", Kind::Text),
    (Peer, "role", Kind::Text),
    (Peer, "trust-anchor", Kind::Text),
    (Peer, "url", Kind::Text),
    (Threads, "enable-multi-threading", Kind::Bool),
    (Threads, "http-client-threads", Kind::Number),
    (Threads, "http-dedicated-listener", Kind::Bool),
    (Threads, "http-listener-threads", Kind::Number),
];

/// Keys whose values are maps or lists, and one that counts nowhere: rows of `WORDS` are about them.
const OTHERS: &[&str] = &["multi-threading", "peers", "require-client-certs", "state-machine"];

/// The errors of a good pair's file with one value in the place of another; without a value the key is absent.
fn errors(place: Place, key: &str, value: Option<&str>) -> Vec<String> {
    let map = |members: &[(&'static str, &str)], here: bool| {
        let mut map: BTreeMap<&str, String> =
            members.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        match value {
            Some(value) if here => drop(map.insert(key, value.to_owned())),
            None if here => drop(map.remove(key)),
            _ => {}
        }
        let members: Vec<String> = map.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        format!("{{{}}}", members.join(", "))
    };
    let peer = |name, url, role, here| map(&[("name", name), ("url", url), ("role", role)], here);
    let own = peer(r#""s1""#, r#""http://192.0.2.1:1/""#, r#""primary""#, false);
    let other = peer(r#""s2""#, r#""http://192.0.2.2:1/""#, r#""standby""#, place == Peer);
    let peers = format!("[{own}, {other}]");
    let threads = map(&[], place == Threads);
    let mut members =
        vec![("this-server-name", r#""s1""#), ("mode", r#""hot-standby""#), ("peers", peers.as_str())];
    members.extend((place == Threads).then_some(("multi-threading", threads.as_str())));
    let block = map(&members, place == Block);
    let libraries = r#"{"library": "libdhcp_lease_cmds.so"}, {"library": "libdhcp_ha.so", "parameters": "#;
    let text =
        format!(r#"{{"Dhcp4": {{"hooks-libraries": [{libraries} {{"high-availability": [{block}]}}}}]}}}}"#);
    match config::parse_dhcp4(text.as_bytes(), "f") {
        Ok(_) => Vec::new(),
        Err(error) => error.errors().map(|error| error.message.clone()).collect(),
    }
}

fn assert_says(place: Place, key: &str, value: Option<&str>, expected: &str) {
    let errors = errors(place, key, value);
    // Kea's words, and what this server adds to them.
    let says = errors.first().is_some_and(|error| error.starts_with(expected));
    assert!(says, "{place:?} {key} = {value:?}\n  expected {expected}\n  found {errors:?}");
}

#[test]
fn every_key_is_gone_through() {
    fn keys<'t>(table: &'t Table, found: &mut Vec<&'t str>) {
        for row in table.groups.iter().flat_map(|group| group.iter()) {
            found.push(row.key);
            match row.kind {
                Type::Map(inner) | Type::Maps(inner) if row.key != "state-machine" => keys(inner, found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    keys(&RELATIONSHIP, &mut found);
    let mut known: Vec<&str> = KEYS.iter().map(|(_, key, _)| *key).chain(OTHERS.iter().copied()).collect();
    found.sort_unstable();
    known.sort_unstable();
    assert_eq!(found, known);
}

/// Kea 2.2 ends three delays at 65,535, and reads `max-rejected-lease-updates` and `basic-auth-user-file` not at all;
/// later releases are as this server is.
#[test]
fn values_of_another_type_or_out_of_range_are_refused_in_keas_words() {
    for (place, key, kind) in KEYS {
        let (right, bounds) = match kind {
            Kind::Bool => ("true", false),
            Kind::Number => ("1", true),
            Kind::Text => (r#""x""#, false),
        };
        for value in [r#""x""#, "1", "1.5", "true", "null", "[]", "{}"] {
            if value != right {
                let expected = format!("invalid type specified for parameter '{key}'");
                assert_says(*place, key, Some(value), &expected);
            }
        }
        if bounds {
            assert_says(*place, key, Some("-1"), &format!("'{key}' must not be negative"));
            let expected = format!("'{key}' must not be greater than 4294967295");
            assert_says(*place, key, Some("4294967296"), &expected);
        }
    }
}

#[test]
fn what_kea_takes_is_taken() {
    let states = |inside: &str| format!(r#"{{"states": [{inside}]}}"#);
    let rows = [
        (Block, "this-server-name", "\"  s1 \"".to_owned()),
        (Block, "send-lease-updates", "false".into()),
        (Block, "sync-leases", "false".into()),
        (Block, "wait-backup-ack", "false".into()),
        (Block, "require-client-certs", "false".into()),
        (Block, "restrict-commands", "false".into()),
        (Block, "sync-timeout", "0".into()),
        (Block, "sync-timeout", "4294967295".into()),
        (Block, "sync-page-limit", "4294967295".into()),
        (Block, "delayed-updates-limit", "0".into()),
        (Block, "max-unacked-clients", "0".into()),
        (Block, "max-unacked-clients", "4294967295".into()),
        (Block, "max-rejected-lease-updates", "0".into()),
        (Block, "heartbeat-delay", "0".into()),
        (Block, "heartbeat-delay", "4294967295".into()),
        (Block, "max-response-delay", "0".into()),
        (Block, "max-response-delay", "4294967295".into()),
        (Block, "max-ack-delay", "0".into()),
        (Block, "max-ack-delay", "4294967295".into()),
        (Block, "trust-anchor", r#""""#.into()),
        (Block, "multi-threading", "{}".into()),
        (Block, "state-machine", "{}".into()),
        (Block, "state-machine", r#"{"nobody-knows": 1}"#.into()),
        (Block, "state-machine", states("")),
        (Block, "state-machine", states(r#"{"state": "waiting"}"#)),
        (Block, "state-machine", states(r#"{"state": "unavailable", "pause": "always"}"#)),
        (Block, "nobody-knows", "1".into()),
        (Threads, "enable-multi-threading", "false".into()),
        (Threads, "http-dedicated-listener", "false".into()),
        (Threads, "http-listener-threads", "0".into()),
        (Threads, "http-client-threads", "1".into()),
        (Threads, "nobody-knows", "1".into()),
        (Peer, "name", "\" s2 \"".into()),
        (Peer, "url", r#""http://[2001:db8::1]:65535/path""#.into()),
        (Peer, "auto-failover", "false".into()),
        (Peer, "trust-anchor", r#""""#.into()),
        (Peer, "basic-auth-user", r#""""#.into()),
        (Peer, "basic-auth-password", r#""with:colon""#.into()),
        // Kea does not look for it there.
        (Peer, "require-client-certs", "1".into()),
        (Peer, "nobody-knows", "1".into()),
    ];
    for (place, key, value) in rows {
        assert_eq!(errors(place, key, Some(&value)), [""; 0], "{place:?} {key} = {value}");
    }
}

/// Map, key, value or none, and what a real Kea 2.2 says.
type Refusal = (Place, &'static str, Option<&'static str>, &'static str);

const REFUSED: &[Refusal] = &[
    (Block, "this-server-name", None, "missing parameter 'this-server-name'"),
    (Block, "this-server-name", Some(r#""""#), "'this-server-name' value must not be empty"),
    (Block, "this-server-name", Some(r#""nobody""#), "no peer configuration specified for the 'nobody'"),
    (Block, "mode", None, "missing parameter 'mode'"),
    (Block, "mode", Some(r#""""#), "unsupported value '' for mode parameter"),
    (Block, "mode", Some(r#""Hot-Standby""#), "unsupported value 'Hot-Standby' for mode parameter"),
    (
        Block,
        "mode",
        Some(r#""passive-backup""#),
        "standby servers not allowed in the passive backup configuration",
    ),
    (
        Block,
        "wait-backup-ack",
        Some("true"),
        "'wait-backup-ack' must be set to false in the hot standby configuration",
    ),
    (
        Block,
        "delayed-updates-limit",
        Some("1"),
        "'delayed-updates-limit' must be set to 0 in the hot standby configuration",
    ),
    (Block, "multi-threading", Some("1"), "multi-threading configuration must be a map"),
    (Block, "multi-threading", Some("[]"), "multi-threading configuration must be a map"),
    (Block, "peers", None, "'peers' parameter missing in HA configuration"),
    (Block, "peers", Some("{}"), "'peers' parameter must be a list"),
    (Block, "peers", Some("null"), "'peers' parameter must be a list"),
    (Block, "peers", Some("[1]"), "peer configuration must be a map"),
    (Block, "peers", Some("[[]]"), "peer configuration must be a map"),
    (Block, "peers", Some("[{}]"), "missing parameter 'name'"),
    (Block, "state-machine", Some("1"), "'state-machine' parameter must be a map"),
    (Block, "state-machine", Some("[]"), "'state-machine' parameter must be a map"),
    (Block, "state-machine", Some(r#"{"states": 1}"#), "'states' parameter must be a list"),
    (Block, "state-machine", Some(r#"{"states": {}}"#), "'states' parameter must be a list"),
    (Block, "state-machine", Some(r#"{"states": [1]}"#), "state configuration must be a map"),
    (Block, "state-machine", Some(r#"{"states": [{}]}"#), "missing parameter 'state'"),
    (Block, "state-machine", Some(r#"{"states": [{"pause": "once"}]}"#), "missing parameter 'state'"),
    (Block, "state-machine", Some(r#"{"states": [{"state": "WAITING"}]}"#), "unknown state WAITING"),
    (
        Block,
        "state-machine",
        Some(r#"{"states": [{"state": 1}]}"#),
        "invalid type specified for parameter 'state'",
    ),
    (
        Block,
        "state-machine",
        Some(r#"{"states": [{"state": "ready", "pause": 1}]}"#),
        "invalid type specified for parameter 'pause'",
    ),
    (
        Block,
        "state-machine",
        Some(r#"{"states": [{"state": "ready", "pause": "Once"}]}"#),
        "unsupported value Once of 'pause' parameter",
    ),
    (
        Block,
        "state-machine",
        Some(r#"{"states": [{"state": "ready"}, {"state": "ready"}]}"#),
        "duplicated configuration for the 'ready' state",
    ),
    (
        Block,
        "trust-anchor",
        Some(r#""/x""#),
        "bad TLS config for server s1: cert-file parameter is missing or empty: all or none of TLS parameters must be \
             set",
    ),
    (Peer, "name", None, "missing parameter 'name'"),
    (Peer, "name", Some(r#"" ""#), "peer name must not be empty"),
    (Peer, "name", Some(r#""s1""#), "peer with name 's1' already specified"),
    (Peer, "url", None, "missing parameter 'url'"),
    (Peer, "url", Some(r#""""#), "invalid URL: url  lacks http or https scheme for server s2"),
    (Peer, "role", None, "missing parameter 'role'"),
    (Peer, "role", Some(r#""""#), "unsupported value '' for role parameter"),
    (Peer, "role", Some(r#"" standby""#), "unsupported value ' standby' for role parameter"),
    (Peer, "role", Some(r#""primary""#), "multiple primary servers specified"),
    (Peer, "role", Some(r#""secondary""#), "secondary servers not allowed in the hot standby configuration"),
    (Peer, "basic-auth-user", Some(r#""a:b""#), "user 'a:b' must not contain a ':' in peer 's2'"),
];

#[test]
fn what_kea_refuses_is_refused_in_its_words() {
    for (place, key, value, expected) in REFUSED {
        assert_says(*place, key, *value, expected);
    }
}

/// What Kea takes, and then does not serve with.
#[test]
fn what_cannot_work_is_refused_though_kea_takes_it() {
    let rows = [
        (Block, "sync-page-limit", "0", "'sync-page-limit' must be at least 1"),
        (Peer, "url", r#""http://192.0.2.2""#, "bad url 'http://192.0.2.2': it has no port"),
        (Peer, "url", r#""http://192.0.2.2:0/""#, "bad url 'http://192.0.2.2:0/': the port must be 1..65535"),
        (
            Peer,
            "url",
            r#""http://192.0.2.2:65537/""#,
            "bad url 'http://192.0.2.2:65537/': the port must be 1..65535",
        ),
        (Peer, "url", r#""http://192.0.2.1:1/""#, "servers s1 and s2 have the same url"),
        // Kea compares names with the blanks around them, and has two servers of one name then.
        (Peer, "name", r#"" s1 ""#, "peer with name 's1' already specified"),
    ];
    for (place, key, value, expected) in rows {
        assert_says(place, key, Some(value), expected);
    }
}
