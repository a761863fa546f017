//! Several relationships in one server: what they must not share, and whose a subnet is.

use config::ha_hub::{Attachment, HaServerName};
use config::{ConfigError, Document, Loaded};

/// One relationship: this server, its standby, the port of its own listener, further keys.
type Spoke<'a> = (&'a str, &'a str, u16, &'a str);

const SPOKES: [Spoke<'_>; 2] = [("hub1", "spoke1", 8001, ""), ("hub2", "spoke2", 8002, "")];

/// A hub with these relationships and one subnet for each of these user contexts.
fn parse(spokes: &[Spoke<'_>], contexts: &[&str]) -> Result<Loaded<Document>, ConfigError> {
    let spoke = |(index, (hub, spoke, port, more)): (usize, &Spoke<'_>)| {
        let mode = if more.contains("\"mode\"") { "" } else { r#""mode": "hot-standby","# };
        format!(
            r#"{{"this-server-name": "{hub}", {mode} {more} "peers": [
            {{"name": "{hub}", "role": "standby", "url": "http://192.0.2.1:{port}/"}},
            {{"name": "{spoke}", "role": "primary", "url": "http://192.0.2.{}:8000/"}}]}}"#,
            index + 10
        )
    };
    let subnet = |(index, context): (usize, &&str)| {
        format!(r#"{{"id": {}, "subnet": "10.0.{index}.0/24", "user-context": {{{context}}}}}"#, index + 1)
    };
    let spokes: Vec<String> = spokes.iter().enumerate().map(spoke).collect();
    let subnets: Vec<String> = contexts.iter().enumerate().map(subnet).collect();
    let text = format!(
        r#"{{"Dhcp4": {{"hooks-libraries": [{{"library": "libdhcp_lease_cmds.so"}}, {{"library": "libdhcp_ha.so",
        "parameters": {{"high-availability": [{}]}}}}], "subnet4": [{}]}}}}"#,
        spokes.join(", "),
        subnets.join(", ")
    );
    config::parse_dhcp4(text.as_bytes(), "f")
}

#[test]
fn each_relationship_is_read_with_its_own_partner_and_listener() {
    let document = parse(&SPOKES, &[]).unwrap().document;
    let shown: Vec<String> = document
        .hooks
        .high_availability
        .iter()
        .map(|one| format!("{} {} {}", *one.own.name, one.own.url.address, *one.partner().unwrap().name))
        .collect();
    assert_eq!(shown, ["hub1 192.0.2.1:8001 spoke1", "hub2 192.0.2.1:8002 spoke2"]);
    assert!(!document.partners_use_control_channels());
    assert_eq!((document.hooks.named("spoke2"), document.hooks.named("x")), (Some(1), None));
}

#[test]
fn what_relationships_share_is_refused() {
    let first = SPOKES[0];
    let balanced = r#""mode": "passive-backup","#;
    let rows: [(&[Spoke<'_>], &str); 6] = [
        (&[first, ("hub2", "spoke1", 8002, "")], "a relationship 'spoke1' already exists"),
        (&[first, ("hub1", "spoke2", 8002, "")], "a relationship 'hub1' already exists"),
        (
            &[first, ("hub2", "spoke2", 8001, "")],
            "servers hub1 and hub2 have the same url: every relationship has a listener of its own",
        ),
        (
            &[first, ("hub2", "spoke2", 8002, r#""multi-threading": {"http-dedicated-listener": false},"#)],
            "with several relationships each needs its dedicated listener, for it tells whose command it is: \
             'enable-multi-threading' and 'http-dedicated-listener' must not be false",
        ),
        (
            &[first, ("hub2", "spoke2", 8002, balanced)],
            "standby servers not allowed in the passive backup configuration",
        ),
        (&[], "'high-availability' must be a list with at least one relationship"),
    ];
    for (spokes, expected) in rows {
        let error = parse(spokes, &[]).unwrap_err();
        assert_eq!(error.first().message, expected);
    }
    let many: Vec<(String, String, u16, &str)> =
        (0u16..33).map(|n| (format!("h{n}"), format!("s{n}"), 9000 + n, "")).collect();
    let many: Vec<Spoke<'_>> =
        many.iter().map(|(h, s, port, more)| (h.as_str(), s.as_str(), *port, *more)).collect();
    let error = parse(&many, &[]).unwrap_err();
    assert_eq!(error.first().message, "there are 33 relationships, and 32 is the most");
    assert!(parse(&many[..32], &[]).is_ok());
}

#[test]
fn every_relationship_of_several_is_hot_standby() {
    let text = r#"{"Dhcp4": {"hooks-libraries": [{"library": "libdhcp_lease_cmds.so"}, {"library": "libdhcp_ha.so",
        "parameters": {"high-availability": [
        {"this-server-name": "a", "mode": "hot-standby", "peers": [
            {"name": "a", "role": "primary", "url": "http://192.0.2.1:8001/"},
            {"name": "b", "role": "standby", "url": "http://192.0.2.2:8001/"}]},
        {"this-server-name": "c", "mode": "load-balancing", "peers": [
            {"name": "c", "role": "primary", "url": "http://192.0.2.1:8002/"},
            {"name": "d", "role": "secondary", "url": "http://192.0.2.3:8001/"}]}]}}]}}"#;
    let error = config::parse_dhcp4(text.as_bytes(), "f").unwrap_err();
    assert_eq!(error.first().message, "multiple HA relationships are only supported for 'hot-standby' mode");
    assert_eq!((error.first().key.as_str(), error.first().position.line), ("mode", 6));
}

#[test]
fn a_subnet_that_nobody_serves_is_warned_of() {
    use Attachment::{Invalid, Of, Stranger, Unnamed};
    let dropped = ": queries of this subnet are dropped";
    let invalid = "'ha-server-name' must be a string with at least one character";
    let rows = [
        (r#""ha-server-name": "spoke2""#, Of(1), String::new()),
        (r#""ha-server-name": "hub1""#, Of(0), String::new()),
        ("", Unnamed, format!("there is no 'ha-server-name' in the user context{dropped}")),
        (r#""ha-server-name": "x""#, Stranger, format!("'x' matches no peer of a relationship{dropped}")),
        (r#""ha-server-name": """#, Invalid, format!("{invalid}{dropped}")),
        (r#""ha-server-name": [1]"#, Invalid, format!("{invalid}{dropped}")),
    ];
    for (context, expected, warning) in rows {
        let loaded = parse(&SPOKES, &[context]).unwrap();
        let name = &loaded.document.subnets[0].ha_server_name;
        assert_eq!(loaded.document.hooks.attachment(name), expected, "{context}");
        let warnings: Vec<&str> = loaded.warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(warnings.join(""), warning, "{context}");
    }
}

#[test]
fn with_one_relationship_the_name_may_be_missing() {
    let one = &SPOKES[..1];
    let loaded = parse(one, &["", r#""ha-server-name": "spoke1""#, r#""ha-server-name": "x""#]).unwrap();
    let whose = |name: &HaServerName| loaded.document.hooks.attachment(name);
    assert!(loaded.document.subnets.iter().all(|subnet| whose(&subnet.ha_server_name) == Attachment::Of(0)));
    let warnings: Vec<&str> = loaded.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(warnings, ["'x' matches no peer of a relationship: it has no effect"]);
}
