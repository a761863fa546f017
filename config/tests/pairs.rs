//! The `high-availability` block and the control agent: what is read, refused and warned about.

use config::ha::{Relationship, Role};
use config::{ConfigError, Document, Loaded};

const BLOCK: &str = r#"
    "this-server-name": "server1",
    "mode": "hot-standby",
    "trust-anchor": "ca", "cert-file": "cert", "key-file": "key",
    "peers": [
        { "name": "server1", "url": "http://192.0.2.1:8005/", "role": "primary" },
        { "name": "server2", "url": "http://192.0.2.2:8005/", "role": "standby", "cert-file": "two" }
    ]
"#;

fn file(block: &str) -> String {
    let libraries = r#"{"library": "/x/libdhcp_lease_cmds.so"}, {"library": "libdhcp_ha.so", "parameters": "#;
    format!(
        r#"{{"Dhcp4": {{"hooks-libraries": [{libraries} {{"high-availability": [ {{{block}}} ]}} }}]}}}}"#
    )
}

fn parse(block: &str) -> Result<Loaded<Document>, ConfigError> {
    config::parse_dhcp4(file(block).as_bytes(), "f")
}

fn with(block: &str) -> (Relationship, Vec<String>) {
    let loaded = parse(block).unwrap_or_else(|error| panic!("{block}: {error}"));
    let warnings = loaded.warnings.into_iter().map(|warning| warning.message).collect();
    (loaded.document.hooks.high_availability.into_iter().next().expect("the block was read"), warnings)
}

#[test]
fn defaults_and_inherited_files() {
    let (relationship, warnings) = with(BLOCK);
    assert_eq!(warnings, [""; 0]);
    assert_eq!((*relationship.send_lease_updates, *relationship.sync_leases), (true, true));
    assert_eq!((*relationship.sync_timeout_ms, *relationship.sync_page_limit), (60_000, 10_000));
    assert_eq!((*relationship.heartbeat_delay_ms, *relationship.max_response_delay_ms), (10_000, 60_000));
    assert_eq!((*relationship.max_ack_delay_ms, *relationship.max_unacked_clients), (10_000, 10));
    assert_eq!(*relationship.max_rejected_lease_updates, 10);
    assert_eq!((*relationship.require_client_certs, *relationship.restrict_commands), (true, true));
    let threads = &relationship.multi_threading;
    assert_eq!((threads.listeners(4), threads.senders(3)), (4, 3));
    assert_eq!((*relationship.delayed_updates_limit, *relationship.wait_backup_ack), (0, false));
    assert_eq!(relationship.pauses, []);
    let (own, partner) = (&relationship.own, relationship.partner().unwrap());
    assert_eq!(relationship.others.len(), 1);
    assert_eq!((&own.basic_auth, *own.auto_failover), (&None, true));
    assert_eq!((own.name.as_str(), *own.role), ("server1", Role::Primary));
    assert_eq!((partner.name.as_str(), *partner.role), ("server2", Role::Standby));
    assert_eq!(partner.url.address, "192.0.2.2:8005".parse().unwrap());
    let files = |peer: &config::ha::Peer| {
        let tls = peer.tls.clone().unwrap();
        [tls.trust_anchor.value, tls.cert_file.value, tls.key_file.value]
    };
    assert_eq!(
        (files(own), files(partner)),
        (["ca", "cert", "key"].map(str::to_owned), ["ca", "two", "key"].map(str::to_owned))
    );
}

#[test]
fn the_point_of_view_follows_this_server_name() {
    let (relationship, _) =
        with(&BLOCK.replace(r#""this-server-name": "server1""#, r#""this-server-name": " server2 ""#));
    assert_eq!((*relationship.own.role, *relationship.others[0].role), (Role::Standby, Role::Primary));
}

#[test]
fn an_empty_file_name_turns_tls_off_for_a_peer() {
    let off = r#""cert-file": "", "key-file": "", "trust-anchor": """#;
    let (relationship, warnings) = with(&BLOCK.replace(r#""cert-file": "two""#, off));
    assert!(relationship.own.tls.is_some() && relationship.others[0].tls.is_none());
    assert_eq!(warnings, ["one server of the pair has TLS files and the other has none"]);
}

#[test]
fn addresses_of_urls() {
    let rows = [
        ("http://192.0.2.2:8005/", Ok("192.0.2.2:8005")),
        ("https://192.0.2.2:1", Ok("192.0.2.2:1")),
        ("http://[2001:db8::1]:8005/any/path", Ok("[2001:db8::1]:8005")),
        ("http://192.0.2.2/", Err("bad url 'http://192.0.2.2/': it has no port")),
        ("http://192.0.2.2:0/", Err("bad url 'http://192.0.2.2:0/': the port must be 1..65535")),
        ("http://192.0.2.2:65536/", Err("bad url 'http://192.0.2.2:65536/': the port must be 1..65535")),
        // The others are Kea's words.
        ("http://192.0.2.2:/", Err("invalid URL: expected port number after : in http://192.0.2.2:/")),
        ("http://192.0.2.2:+5/", Err("invalid URL: invalid port number +5 in http://192.0.2.2:+5/")),
        ("http://::1:5/", Err("invalid URL: invalid port number :1:5 in http://::1:5/")),
        ("http://", Err("invalid URL: hostname missing in http://")),
        ("http:/192.0.2.2:5/", Err("invalid URL: expected :// after scheme in http:/192.0.2.2:5/")),
        ("http://[::1:5/", Err("invalid URL: expected ] after IPv6 address in http://[::1:5/")),
        ("ftp://192.0.2.2:8005/", Err("invalid URL: invalid scheme ftp in ftp://192.0.2.2:8005/")),
        ("192.0.2.2:8005", Err("invalid URL: invalid scheme 192.0.2.2 in 192.0.2.2:8005")),
        (" ", Err("invalid URL: url   lacks http or https scheme")),
        (
            "http://partner:8005/",
            Err(
                "bad url 'http://partner:8005/': Failed to convert string to address 'partner': Invalid argument",
            ),
        ),
        (
            "http://[partner]:8005/",
            Err(
                "bad url 'http://[partner]:8005/': Failed to convert string to address 'partner': Invalid argument",
            ),
        ),
    ];
    for (url, expected) in rows {
        let result = parse(&BLOCK.replace("http://192.0.2.2:8005/", url));
        match expected {
            Ok(address) => {
                let relationship = result.unwrap().document.hooks.high_availability.remove(0);
                assert_eq!(relationship.others[0].url.address.to_string(), address);
            }
            Err(why) => {
                let message = result.unwrap_err().first().message.clone();
                assert_eq!(message, format!("{why} for server server2"));
            }
        }
    }
}

/// What is put in the place of what in the block of a good pair, and the words it is refused with.
type Refusal<'a> = (&'a str, String, &'a str);

fn assert_refused(rows: &[Refusal<'_>]) {
    for (from, to, expected) in rows {
        assert!(BLOCK.contains(from), "{from}");
        let error = parse(&BLOCK.replacen(from, to, 1)).expect_err(expected);
        assert_eq!(error.first().message, *expected);
        assert!(!error.is_syntax(), "{expected}");
    }
}

#[test]
fn refusals_of_modes_and_roles_use_keas_words() {
    let rows: [Refusal<'_>; 14] = [
        (
            "hot-standby",
            "load-balancing".into(),
            "secondary server required in the load balancing configuration",
        ),
        (
            "hot-standby",
            "passive-backup".into(),
            "standby servers not allowed in the passive backup configuration",
        ),
        ("hot-standby", "cold".into(), "unsupported value 'cold' for mode parameter"),
        (
            r#""mode": "hot-standby","#,
            "".into(),
            "missing parameter 'mode' [high-availability map between f:1.141 and 9.1]",
        ),
        (
            r#""this-server-name": "server1""#,
            r#""this-server-name": "x""#.into(),
            "no peer configuration specified for the 'x'",
        ),
        (
            r#""this-server-name": "server1""#,
            r#""this-server-name": " ""#.into(),
            "'this-server-name' value must not be empty",
        ),
        (r#""name": "server2""#, r#""name": "server1""#.into(), "peer with name 'server1' already specified"),
        (r#""role": "standby""#, r#""role": "primary""#.into(), "multiple primary servers specified"),
        (
            r#""role": "primary""#,
            r#""role": "standby""#.into(),
            "primary server required in the hot standby configuration",
        ),
        (r#""role": "standby""#, r#""role": "king""#.into(), "unsupported value 'king' for role parameter"),
        (
            r#""role": "standby""#,
            r#""role": "secondary""#.into(),
            "secondary servers not allowed in the hot standby configuration",
        ),
        (
            r#""role": "standby""#,
            r#""role": "backup""#.into(),
            "standby server required in the hot standby configuration",
        ),
        (
            r#"    ]"#,
            r#", {"name": "b", "url": "http://192.0.2.3:1/", "role": "standby"} ]"#.into(),
            "multiple standby servers specified",
        ),
        (
            r#"    ]"#,
            r#", {"name": "b", "url": "http://192.0.2.3:1/", "role": "secondary"} ]"#.into(),
            "secondary servers not allowed in the hot standby configuration",
        ),
    ];
    assert_refused(&rows);
}

#[test]
fn refusals_of_parameters_use_keas_words() {
    let rows: [Refusal<'_>; 12] = [
        (
            r#""peers""#,
            r#""wait-backup-ack": true, "peers""#.into(),
            "'wait-backup-ack' must be set to false in the hot standby configuration",
        ),
        (
            r#""peers""#,
            r#""delayed-updates-limit": 1, "peers""#.into(),
            "'delayed-updates-limit' must be set to 0 in the hot standby configuration",
        ),
        (r#""peers""#, r#""heartbeat-delay": -1, "peers""#.into(), "'heartbeat-delay' must not be negative"),
        (
            r#""peers""#,
            r#""max-ack-delay": 4294967296, "peers""#.into(),
            "'max-ack-delay' must not be greater than 4294967295",
        ),
        (
            r#""peers""#,
            r#""sync-timeout": "1", "peers""#.into(),
            "invalid type specified for parameter 'sync-timeout': found constant string, expected integer",
        ),
        (
            r#""peers""#,
            r#""sync-page-limit": 0, "peers""#.into(),
            "'sync-page-limit' must be at least 1: a page without leases never ends the copy",
        ),
        (
            r#""key-file": "key","#,
            "".into(),
            "bad TLS config for server server1: key-file parameter is missing or empty: all or none of TLS parameters must be set",
        ),
        (r#""peers""#, r#""state-machine": {"states": [{"state": "x"}]}, "peers""#.into(), "unknown state x"),
        (
            r#""peers""#,
            r#""state-machine": {"states": [{"state": "ready"}, {"state": "ready"}]}, "peers""#.into(),
            "duplicated configuration for the 'ready' state",
        ),
        (
            r#""peers""#,
            r#""state-machine": {"states": [{"state": "ready", "pause": "x"}]}, "peers""#.into(),
            "unsupported value x of 'pause' parameter",
        ),
        ("192.0.2.2", "192.0.2.1".into(), "servers server1 and server2 have the same url"),
        (
            r#""trust-anchor": "ca", "cert-file": "cert", "key-file": "key","#,
            "".into(),
            "bad TLS config for server server2: trust-anchor parameter is missing or empty: all or none of TLS parameters must be set",
        ),
    ];
    assert_refused(&rows);
}

#[test]
fn https_needs_files_and_http_does_not() {
    let plain = BLOCK.replace(r#""trust-anchor": "ca", "cert-file": "cert", "key-file": "key","#, "");
    let plain = plain.replace(r#", "cert-file": "two""#, "");
    let (relationship, warnings) = with(&plain);
    assert!(relationship.own.tls.is_none() && warnings.is_empty());
    let error = parse(&plain.replace("http://192.0.2.2", "https://192.0.2.2")).unwrap_err();
    assert_eq!(
        error.first().message,
        "bad url 'https://192.0.2.2:8005/': https scheme is not supported for server server2 where TLS is disabled"
    );
}

#[test]
fn unknown_parameters_and_ignored_ones_are_warnings_with_their_place() {
    let rows = [
        (
            r#""heartbeat-dela": 1"#,
            "unknown parameter \"heartbeat-dela\" in the high-availability map has no effect. Did you mean \"heartbeat-delay\"?",
        ),
        (
            r#""heartbeat-delay": 0"#,
            "'heartbeat-delay' 0 turns heartbeats off: this server never leaves the waiting state",
        ),
        (
            r#""multi-threading": {"http-dedicated-listener": false}"#,
            "nothing serves partners at 'http://192.0.2.1:8005/': there is no dedicated listener, no http control socket there, and no unix control socket for a control agent",
        ),
    ];
    for (parameter, expected) in rows {
        let (_, warnings) = with(&BLOCK.replace(r#""peers""#, &format!("{parameter}, \"peers\"")));
        assert_eq!(warnings, [expected]);
    }
    let loaded =
        parse(&BLOCK.replace(r#""role": "primary""#, r#""role": "primary", "require-client-certs": false"#));
    let loaded = loaded.unwrap();
    assert_eq!(
        (loaded.warnings[0].key.as_str(), loaded.warnings[0].position.line),
        ("require-client-certs", 6)
    );
    assert!(*loaded.document.hooks.high_availability[0].require_client_certs);
}

#[test]
fn threads_follow_the_setting() {
    let threads = |map: &str| {
        let (relationship, _) =
            with(&BLOCK.replace(r#""peers""#, &format!("\"multi-threading\": {map}, \"peers\"")));
        (relationship.multi_threading.listeners(4), relationship.multi_threading.senders(4))
    };
    assert_eq!(threads(r#"{"enable-multi-threading": true}"#), (4, 4));
    assert_eq!(threads(r#"{"http-listener-threads": 2, "http-client-threads": 8}"#), (2, 8));
    assert_eq!(threads(r#"{"enable-multi-threading": false, "http-client-threads": 8}"#), (0, 1));
    assert_eq!(threads(r#"{"http-dedicated-listener": false, "http-client-threads": 8}"#), (0, 8));
}

#[test]
fn the_list_holds_a_relationship_and_the_library_is_listed_once() {
    let library = r#"{"library": "libdhcp_ha.so"}"#;
    let rows = [
        (library.to_owned(), "missing parameter 'high-availability'"),
        (
            r#"{"library": "libdhcp_ha.so", "parameters": {"high-availability": []}}"#.to_owned(),
            "'high-availability' must be a list with at least one relationship",
        ),
        (
            r#"{"library": "a/libdhcp_lease_cmds.so"}, {"library": "b/libdhcp_lease_cmds.so"}"#.to_owned(),
            "'libdhcp_lease_cmds.so' is listed twice",
        ),
    ];
    for (libraries, expected) in rows {
        let text = format!(r#"{{"Dhcp4": {{"hooks-libraries": [{libraries}]}}}}"#);
        let error = config::parse_dhcp4(text.as_bytes(), "f").unwrap_err();
        assert_eq!(error.first().message, expected);
    }
}

#[test]
fn the_control_socket_keeps_off_the_partners_port() {
    let socket = r#""control-sockets": [{"socket-type": "https", "socket-address": "192.0.2.1", "socket-port": 8005,
        "trust-anchor": "a", "cert-file": "b", "key-file": "c"}], "hooks-libraries""#;
    let text = file(BLOCK).replace(r#""hooks-libraries""#, socket);
    let error = config::parse_dhcp4(text.as_bytes(), "f").unwrap_err();
    assert_eq!(error.first().key, "socket-port");
    assert!(
        config::parse_dhcp4(text.replace("\"socket-port\": 8005", "\"socket-port\": 8001").as_bytes(), "f")
            .is_ok()
    );
}

#[test]
fn the_control_agent_says_what_is_wrong() {
    let agent =
        |body: &str| config::parse_control_agent(format!("{{\"Control-agent\":{{{body}}}}}").as_bytes(), "f");
    let rows = [
        (r#""foo": 1"#, r#"got unexpected keyword "foo" in Control-agent map."#),
        (r#""http-host": "localhost""#, "invalid http-host 'localhost': expected an IPv4 or IPv6 address"),
        (
            r#""trust-anchor": "a""#,
            "bad TLS config: cert-file parameter is missing or empty: all or none of TLS parameters must be set",
        ),
        (
            r#""control-sockets": {"dhcp4": {"socket-type": "unix"}}"#,
            "missing parameter 'socket-name' [control-socket map between f:1.48 and 1.70]",
        ),
        (
            r#""control-sockets": {"dhcp5": {"socket-name": "x"}}"#,
            r#"got unexpected keyword "dhcp5" in control-sockets map. Did you mean "dhcp4"?"#,
        ),
        (r#""http-port": 65536"#, "http-port value: 65536 is out of range, expected value: 0..65535"),
    ];
    for (body, expected) in rows {
        assert_eq!(agent(body).unwrap_err().first().message, expected);
    }
    let loaded = agent(r#""http-host": "192.0.2.1""#).unwrap();
    assert_eq!((*loaded.document.http_port, loaded.document.tls), (8000, None));
    assert_eq!(loaded.warnings[0].key, "http-host");
}

#[test]
fn guards_by_the_class_of_a_peer_are_read_and_others_refused() {
    let guarded = |subnet: &str, pool: &str| {
        let subnet = format!(
            r#"{{"Dhcp4": {{"subnet4": [{{"id": 1, "subnet": "192.0.2.0/24" {subnet},
                "pools": [{{"pool": "192.0.2.0/28" {pool}}}]}}], "#
        );
        let text = file(BLOCK).replacen(r#"{"Dhcp4": {"#, &subnet, 1);
        config::parse_dhcp4(text.as_bytes(), "f").map(|loaded| loaded.document.subnets[0].clone())
    };
    let rows = [
        ("", &[][..]),
        (r#", "client-class": """#, &[]),
        (r#", "client-class": "HA_server1""#, &["HA_server1"]),
        (r#", "client-classes": ["HA_server2", "HA_server1"]"#, &["HA_server2", "HA_server1"]),
    ];
    for (keys, classes) in rows {
        let names = |guard: &config::guard::Guard| {
            guard.classes.iter().map(|class| class.value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&guarded(keys, "").unwrap().guard), classes, "{keys}");
        assert_eq!(names(&guarded("", keys).unwrap().pools[0].guard), classes, "{keys}");
    }
    for class in ["phones", "HA_server3", "HA_", "server1", "ha_server1", ""] {
        let keys = format!(r#", "client-classes": ["HA_server1", "{class}"]"#);
        for (map, result) in [("subnet4", guarded(&keys, "")), ("pools", guarded("", &keys))] {
            let error = result.expect_err(class);
            let expected = format!(
                "'{class}' in \"client-classes\" in the {map} map needs what is not built yet: guards by classes \
                 other than HA_ and the name of an HA peer; everyone would be served here"
            );
            assert_eq!((error.first().message.as_str(), error.errors().count()), (expected.as_str(), 1));
        }
    }
}
