//! Relationships of every mode: who is whose partner, what each mode allows, and what defaults a dialect has.

use config::ha::{Mode, Pause, Relationship, Role, Secret};
use config::{ConfigError, Document, Loaded};

/// Name, role, further keys.
type Entry<'a> = (&'a str, &'a str, &'a str);

/// A file with `around` beside the hooks, and one relationship with `block` and these peers: name, role, more keys.
fn parse(around: &str, block: &str, peers: &[Entry<'_>]) -> Result<Loaded<Document>, ConfigError> {
    let entry = |(index, (name, role, more)): (usize, &Entry<'_>)| {
        format!(
            r#"{{"name": "{name}", "role": "{role}", "url": "http://192.0.2.{}:8005/"{more}}}"#,
            index + 1
        )
    };
    let peers: Vec<String> = peers.iter().enumerate().map(entry).collect();
    let text = format!(
        r#"{{"Dhcp4": {{{around} "hooks-libraries": [{{"library": "libdhcp_lease_cmds.so"}},
            {{"library": "libdhcp_ha.so", "parameters": {{"high-availability": [
                {{{block}, "peers": [{}]}} ]}} }}]}}}}"#,
        peers.join(", ")
    );
    config::parse_dhcp4(text.as_bytes(), "f")
}

fn relationship(around: &str, block: &str, peers: &[Entry<'_>]) -> (Relationship, Vec<String>) {
    let loaded = parse(around, block, peers).unwrap_or_else(|error| panic!("{block}: {error}"));
    let warnings = loaded.warnings.into_iter().map(|warning| warning.message).collect();
    (loaded.document.hooks.high_availability.into_iter().next().expect("the block was read"), warnings)
}

fn block(this: &str, mode: &str) -> String {
    format!(r#""this-server-name": "{this}", "mode": "{mode}""#)
}

/// Another way of writing a pair and its backups, in an order that is not that of the peer indices.
const BALANCED: &[Entry<'_>] =
    &[("b1", "backup", ""), ("s1", "primary", ""), ("b2", "backup", ""), ("s2", "secondary", "")];

#[test]
fn peer_indices_begin_with_the_other_active_server() {
    let standby: Vec<_> = BALANCED
        .iter()
        .map(|peer| if peer.1 == "secondary" { (peer.0, "standby", "") } else { *peer })
        .collect();
    let passive = [("b1", "backup", ""), ("s1", "primary", ""), ("b2", "backup", "")];
    // Mode, this server, its role, the partner, all others.
    type Row<'a> = (&'a str, &'a [Entry<'a>], &'a str, Role, Option<&'a str>, &'a [&'a str]);
    let rows: [Row<'_>; 9] = [
        ("load-balancing", BALANCED, "s1", Role::Primary, Some("s2"), &["s2", "b1", "b2"]),
        ("load-balancing", BALANCED, "s2", Role::Secondary, Some("s1"), &["s1", "b1", "b2"]),
        ("load-balancing", BALANCED, "b1", Role::Backup, None, &["s1", "b2", "s2"]),
        ("hot-standby", &standby, "s1", Role::Primary, Some("s2"), &["s2", "b1", "b2"]),
        ("hot-standby", &standby, "s2", Role::Standby, Some("s1"), &["s1", "b1", "b2"]),
        ("hot-standby", &standby, "b2", Role::Backup, None, &["b1", "s1", "s2"]),
        ("passive-backup", &passive, "s1", Role::Primary, None, &["b1", "b2"]),
        ("passive-backup", &passive, "b2", Role::Backup, None, &["b1", "s1"]),
        ("passive-backup", &[("s1", "primary", "")], "s1", Role::Primary, None, &[]),
    ];
    for (mode, peers, this, role, partner, others) in rows {
        let (found, warnings) = relationship("", &block(this, mode), peers);
        assert_eq!((*found.own.role, found.mode.name()), (role, mode), "{this}");
        assert_eq!(found.partner().map(|peer| peer.name.as_str()), partner, "{mode} {this}");
        let names: Vec<&str> = found.others.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!((names.as_slice(), warnings.len()), (others, 0), "{mode} {this}");
    }
}

#[test]
fn each_mode_has_its_limits() {
    let balanced = block("s1", "load-balancing");
    let (found, _) = relationship("", &balanced, BALANCED);
    assert_eq!((*found.mode, *found.delayed_updates_limit), (Mode::LoadBalancing, 100));
    let (found, _) = relationship("", &format!(r#"{balanced}, "delayed-updates-limit": 0"#), BALANCED);
    assert_eq!(*found.delayed_updates_limit, 0);
    let passive = [("s1", "primary", ""), ("b1", "backup", "")];
    let (found, _) =
        relationship("", &format!(r#"{}, "wait-backup-ack": true"#, block("s1", "passive-backup")), &passive);
    assert_eq!((*found.wait_backup_ack, *found.delayed_updates_limit), (true, 0));
}

#[test]
fn refusals_use_keas_words() {
    let (lb, hs, pb) = ("load-balancing", "hot-standby", "passive-backup");
    let primary = ("s1", "primary", "");
    // Mode, further keys, peers, the first error.
    type Row<'a> = (&'a str, &'a str, &'a [Entry<'a>], &'a str);
    let rows: [Row<'_>; 12] = [
        (lb, "", &[primary], "secondary server required in the load balancing configuration"),
        (lb, "", &[("s1", "secondary", "")], "primary server required in the load balancing configuration"),
        (
            lb,
            "",
            &[primary, ("s2", "secondary", ""), ("s3", "standby", "")],
            "standby servers not allowed in the load balancing configuration",
        ),
        (lb, "", &[primary, ("s2", "primary", "")], "multiple primary servers specified"),
        (
            lb,
            "",
            &[primary, ("s2", "secondary", ""), ("s3", "secondary", "")],
            "multiple secondary servers specified",
        ),
        (
            lb,
            r#", "wait-backup-ack": true"#,
            BALANCED,
            "'wait-backup-ack' must be set to false in the load balancing configuration",
        ),
        (
            pb,
            "",
            &[primary, ("s2", "secondary", "")],
            "secondary servers not allowed in the passive backup configuration",
        ),
        (pb, "", &[("s1", "backup", "")], "primary server required in the passive backup configuration"),
        (
            pb,
            r#", "delayed-updates-limit": 1"#,
            &[primary],
            "'delayed-updates-limit' must be set to 0 in the passive backup configuration",
        ),
        (
            hs,
            "",
            &[primary, ("s2", "standby", ""), ("s3", "secondary", "")],
            "secondary servers not allowed in the hot standby configuration",
        ),
        (hs, "", &[primary, ("s1", "standby", "")], "peer with name 's1' already specified"),
        (
            lb,
            "",
            &[("s2", "primary", ""), ("s3", "secondary", "")],
            "no peer configuration specified for the 's1'",
        ),
    ];
    for (mode, more, peers, expected) in rows {
        let error = parse("", &format!("{}{more}", block("s1", mode)), peers).expect_err(expected);
        assert_eq!(error.first().message, expected);
    }
}

#[test]
fn too_many_peers_are_refused() {
    let crowd: Vec<String> = (0..40).map(|index| format!("b{index}")).collect();
    let crowd: Vec<_> = crowd.iter().map(|name| (name.as_str(), "backup", "")).collect();
    let error = parse("", &block("s1", "passive-backup"), &[&[("s1", "primary", "")], &crowd[..]].concat())
        .unwrap_err();
    assert_eq!(error.first().message, "there are 41 peers, and 32 is the most");
}

#[test]
fn pauses_are_kept_but_for_those_that_never_happen() {
    let states = r#", "state-machine": {"states": [ {"state": "waiting", "pause": "once"},
        {"state": "ready", "pause": "never"}, {"state": "unavailable", "pause": "always"}, {"state": "syncing"} ]}"#;
    let (found, warnings) = relationship("", &(block("s1", "load-balancing") + states), BALANCED);
    let pauses: Vec<_> = found.pauses.iter().map(|entry| (entry.state, *entry.pause)).collect();
    assert_eq!(pauses, [("waiting", Pause::Once), ("unavailable", Pause::Always)]);
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn credentials_are_a_user_and_a_password_each_as_text_or_file() {
    let peers = [
        ("s1", "primary", r#", "basic-auth-user": "one", "basic-auth-password": "pass:word""#),
        ("s2", "secondary", r#", "basic-auth-user-file": "u", "basic-auth-password-file": "p""#),
        ("b1", "backup", r#", "basic-auth-user": "three""#),
        ("b2", "backup", r#", "basic-auth-user": "", "basic-auth-password": "alone""#),
    ];
    let (found, warnings) = relationship("", &block("s1", "load-balancing"), &peers);
    let shown = |secret: &Secret| match secret {
        Secret::File(path) => format!("file {}", path.value),
        Secret::Text(text) => format!("text {}", text.value),
    };
    let pairs: Vec<_> = std::iter::once(&found.own)
        .chain(&found.others)
        .map(|peer| peer.basic_auth.as_ref().map(|auth| (shown(&auth.user), shown(&auth.password))))
        .collect();
    let both = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
    assert_eq!(
        pairs,
        [both("text one", "text pass:word"), both("file u", "file p"), both("text three", "text "), None]
    );
    assert_eq!(warnings, ["a password without a user has no effect"]);
    let debug = format!("{found:?}");
    assert!(!debug.contains("pass:word") && !debug.contains("alone"), "{debug}");
}

#[test]
fn credentials_that_contradict_themselves_are_refused_in_keas_words() {
    let rows = [
        (r#""basic-auth-user": "a:b""#, "user 'a:b' must not contain a ':' in peer 's1'"),
        (
            r#""basic-auth-user": "a", "basic-auth-password": "b", "basic-auth-password-file": "c""#,
            "only one of basic-auth-password and basic-auth-password-file parameter can be configured in peer 's1'",
        ),
        (
            r#""basic-auth-user": "a", "basic-auth-user-file": "b""#,
            "only one of basic-auth-user and basic-auth-user-file parameter can be configured in peer 's1'",
        ),
    ];
    for (keys, expected) in rows {
        let more = format!(", {keys}");
        let error = parse("", &block("s1", "passive-backup"), &[("s1", "primary", &more)]).unwrap_err();
        assert_eq!(error.first().message, expected);
    }
}

#[test]
fn defaults_follow_the_dialect() {
    let old = r#""control-socket": {"socket-type": "unix", "socket-name": "s"},"#;
    let threads = r#""multi-threading": {"enable-multi-threading": true},"#;
    let no_threads = r#""multi-threading": {"enable-multi-threading": false},"#;
    let unix = r#""control-sockets": [{"socket-type": "unix", "socket-name": "s"}],"#;
    let written = r#", "multi-threading": {"enable-multi-threading": true, "http-dedicated-listener": true}"#;
    let half = r#", "multi-threading": {"enable-multi-threading": true}"#;
    // Around, in the block, restrict-commands, a dedicated listener, sender executors of four shards, warnings.
    let rows = [
        (String::new(), "", true, true, 4, 0),
        (unix.to_owned(), "", true, true, 4, 0),
        (format!("{unix}{no_threads}"), "", true, false, 1, 0),
        (format!("{unix}{no_threads}"), written, true, false, 1, 1),
        (old.to_owned(), "", false, false, 1, 0),
        (old.to_owned(), written, false, false, 1, 1),
        (format!("{old}{threads}"), written, false, true, 4, 0),
        (format!("{old}{threads}"), half, false, false, 4, 0),
        (format!("{old}{no_threads}"), written, false, false, 1, 1),
    ];
    for (around, more, restrict, listener, senders, warned) in rows {
        let (found, warnings) = relationship(&around, &(block("s1", "load-balancing") + more), BALANCED);
        let threads = &found.multi_threading;
        assert_eq!(
            (*found.restrict_commands, threads.has_dedicated_listener(), threads.senders(4), warnings.len()),
            (restrict, listener, senders, warned),
            "{around} {more} {warnings:?}"
        );
    }
}

#[test]
fn what_protects_a_listener_that_there_is_none_of_is_warned_of() {
    let auth = r#", "basic-auth-user": "u", "basic-auth-password": "p""#;
    // Of the own entry, of the other one, in the block; keys that are warned of.
    let rows: [(&str, &str, &str, &[&str]); 4] = [
        ("", "", "", &[]),
        ("", auth, r#", "require-client-certs": false, "restrict-commands": false"#, &[]),
        (auth, "", "", &["basic-auth-user"]),
        (
            auth,
            "",
            r#", "require-client-certs": true, "restrict-commands": true"#,
            &["require-client-certs", "restrict-commands", "basic-auth-user"],
        ),
    ];
    for dedicated in [false, true] {
        for (own, other, more, warned) in rows {
            let listener = format!(r#", "multi-threading": {{"http-dedicated-listener": {dedicated}}}"#);
            let peers = [("s1", "primary", own), ("s2", "secondary", other)];
            let unix = r#""control-sockets": [{"socket-type": "unix", "socket-name": "s"}],"#;
            let loaded = parse(unix, &(block("s1", "load-balancing") + &listener + more), &peers).unwrap();
            let keys: Vec<&str> = loaded.warnings.iter().map(|warning| warning.key.as_str()).collect();
            assert_eq!(keys, if dedicated { &[] } else { warned }, "{own} {more} {dedicated}");
        }
    }
}

#[test]
fn a_control_socket_on_the_partners_port_is_refused_unless_it_serves_partners() {
    let socket = |address: &str| {
        format!(
            r#""control-sockets": [{{"socket-type": "https", "socket-address": "{address}", "socket-port": 8005,
                "trust-anchor": "a", "cert-file": "b", "key-file": "c"}}],"#
        )
    };
    // The listener's address is that of the second peer, s1. Whether it is dedicated, and how it ends.
    let rows = [
        ("192.0.2.2", true, Err("socket-port")),
        ("0.0.0.0", true, Err("socket-port")),
        ("192.0.2.9", true, Ok(0)),
        ("192.0.2.2", false, Ok(0)),
        ("0.0.0.0", false, Ok(0)),
        ("192.0.2.9", false, Ok(1)),
    ];
    for (address, dedicated, expected) in rows {
        let listener = format!(r#", "multi-threading": {{"http-dedicated-listener": {dedicated}}}"#);
        let result = parse(&socket(address), &(block("s1", "load-balancing") + &listener), BALANCED);
        let found = match &result {
            Ok(loaded) => Ok(loaded.warnings.len()),
            Err(error) => Err(error.first().key.as_str()),
        };
        assert_eq!(found, expected, "{address} {dedicated}");
    }
}
