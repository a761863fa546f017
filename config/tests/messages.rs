//! What is said about a wrong file: the key, what would be right, and the place; Kea's words where it has
//! some.

use config::{ConfigError, Diagnostic, Document, Loaded};

fn parse(body: &str) -> Result<Loaded<Document>, ConfigError> {
    config::parse_dhcp4(format!("{{\"Dhcp4\":{{{body}}}}}").as_bytes(), "f")
}

/// The first error without its place.
fn first_error(body: &str) -> String {
    match parse(body) {
        Ok(_) => panic!("accepted: {body}"),
        Err(error) => error.first().message.clone(),
    }
}

fn warnings(body: &str) -> Vec<String> {
    let loaded = parse(body).unwrap_or_else(|error| panic!("{body}: {error}"));
    loaded.warnings.into_iter().map(|warning: Diagnostic| warning.message).collect()
}

#[test]
fn grammar_faults_name_the_key_and_what_would_be_right() {
    let rows = [
        (
            r#""valid-lifetme": 3"#,
            r#"got unexpected keyword "valid-lifetme" in Dhcp4 map. Did you mean "valid-lifetime"?"#,
        ),
        (r#""foo": 3"#, r#"got unexpected keyword "foo" in Dhcp4 map."#),
        (
            r#""pools": []"#,
            r#"got unexpected keyword "pools" in Dhcp4 map. It belongs into the subnet4 map."#,
        ),
        (
            r#""renew_timer": 3"#,
            r#"got unexpected keyword "renew_timer" in Dhcp4 map. Did you mean "renew-timer"?"#,
        ),
        (
            r#""valid-lifetime": "7""#,
            r#"syntax error, unexpected constant string, expecting integer for "valid-lifetime" in Dhcp4 map; write it without quotes"#,
        ),
        (
            r#""t1-percent": 1"#,
            r#"syntax error, unexpected integer, expecting floating point for "t1-percent" in Dhcp4 map; write 1.0"#,
        ),
        (r#""subnet4": {}"#, r#"syntax error, unexpected {, expecting [ for "subnet4" in Dhcp4 map"#),
        (
            r#""authoritative": null"#,
            r#"syntax error, unexpected null, expecting boolean for "authoritative" in Dhcp4 map"#,
        ),
        (
            r#""interfaces-config": {"dhcp-socket-type": "foo"}"#,
            r#"syntax error, unexpected "foo", expecting raw or udp for "dhcp-socket-type""#,
        ),
        (
            r#""lease-database": {"type": "cql"}"#,
            r#"syntax error, unexpected "cql", expecting memfile or mysql or postgresql for "type""#,
        ),
        (
            r#""multi-threading": {}"#,
            "syntax error, unexpected }, expecting a parameter of the multi-threading map",
        ),
        (r#""subnet4": [{"id": 1}]"#, "missing parameter 'subnet' [subnet4 map between f:1.23 and 1.31]"),
        (
            r#""lease-database": {"type": "memfile", "lfc-interval": -1}"#,
            "lfc-interval value: -1 is out of range, expected value: 0..4294967295",
        ),
        (
            r#""expired-leases-processing": {"max-reclaim-time": 10001}"#,
            "max-reclaim-time value: 10001 is out of range, expected value: 0..10000",
        ),
        (
            r#""control-socket": {"socket-type": "unix", "socket-name": "s"}, "control-sockets": []"#,
            r#""control-socket" and "control-sockets" are mutually exclusive in the Dhcp4 map"#,
        ),
        (
            r#""loggers": [{"name": "a", "output-options": [], "output_options": []}]"#,
            r#""output-options" and "output_options" are mutually exclusive in the loggers map"#,
        ),
        ("", "syntax error, unexpected }, expecting a parameter of the Dhcp4 map"),
    ];
    for (body, expected) in rows {
        assert_eq!(first_error(body), expected, "{body}");
    }
}

#[test]
fn one_file_holds_one_server() {
    let rows = [
        ("{}", "f:1.1: syntax error, unexpected }, expecting Dhcp4"),
        (
            r#"{"Dhcp6": {}}"#,
            r#"f:1.2: got unexpected keyword "Dhcp6" in toplevel map: a file holds "Dhcp4" and no more"#,
        ),
        (
            r#"{"Dhcp4": {"valid-lifetime": 5}, "Logging": {}}"#,
            r#"f:1.34: got unexpected keyword "Logging" in toplevel map: a file holds "Dhcp4" and no more"#,
        ),
        (
            r#"{"Dhcp4": 1}"#,
            r#"f:1.11: syntax error, unexpected integer, expecting { for "Dhcp4" in Dhcp4 map"#,
        ),
    ];
    for (text, expected) in rows {
        let error = config::parse_dhcp4(text.as_bytes(), "f").unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.is_syntax());
    }
}

#[test]
fn every_error_of_a_file_is_kept() {
    let error = parse(r#""foo": 1, "bar": 2, "valid-lifetime": true"#).unwrap_err();
    let keys: Vec<&str> = error.errors().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["foo", "bar", "valid-lifetime"]);
}

fn subnet(inside: &str) -> String {
    format!(r#""subnet4": [{{"id": 1, "subnet": "192.0.2.0/24", {inside}}}]"#)
}

fn assert_first_errors(rows: impl IntoIterator<Item = (String, String)>) {
    for (body, expected) in rows {
        assert_eq!(first_error(&body), expected, "{body}");
    }
}

#[test]
fn faults_of_subnets_and_pools_use_keas_words() {
    let prefix = |text: &str| format!(r#""subnet4": [{{"id": 1, "subnet": "{text}"}}]"#);
    let pool = |text: &str| subnet(&format!(r#""pools": [{{"pool": "{text}"}}]"#));
    let add = "does not match the prefix of a subnet: 192.0.2.0/24 to which it is being added";
    let failed = "subnet configuration failed:";
    let range = "a pool of type V4, with the following address range:";
    let rows = [
        (prefix("foo"), format!("{failed} Invalid subnet syntax (prefix/len expected):foo")),
        (prefix("192.0.2.0"), format!("{failed} Invalid subnet syntax (prefix/len expected):192.0.2.0")),
        (prefix("192.0.2.0/33"), format!("{failed} Invalid prefix length specified for subnet: 33, expected 1..32")),
        (prefix("192.0.2.0/0"), format!("{failed} Invalid prefix length specified for subnet: 0, expected 1..32")),
        (prefix("192.0.2.0/+8"), format!("{failed} Invalid subnet syntax (prefix/len expected):192.0.2.0/+8")),
        (pool("192.0.3.1-192.0.3.9"), format!("{failed} {range} 192.0.3.1-192.0.3.9 {add}")),
        (pool("192.0.2.9-192.0.2.3"), {
            "Failed to create pool defined by: 192.0.2.9-192.0.2.3: the first address is above the last".to_owned()
        }),
        (pool("192.0.2.9/x"), "Failed to create pool defined by: 192.0.2.9/x: expected <min address-max address> or <prefix/len>".to_owned()),
        (
            pool("xyz"),
            "invalid pool definition: xyz. There are two acceptable formats <min address-max address> or <prefix/len>"
                .to_owned(),
        ),
        (
            subnet(r#""pools": [{"pool": "192.0.2.16/28"}, {"pool": "192.0.2.20 - 192.0.2.40"}]"#),
            format!(
                "{failed} {range} 192.0.2.20-192.0.2.40 overlaps with an existing pool in the subnet: 192.0.2.0/24 to \
                 which it is being added"
            ),
        ),
        (
            r#""subnet4": [{"id": 1, "subnet": "10.0.0.0/8"}, {"id": 1, "subnet": "11.0.0.0/8"}]"#.to_owned(),
            "ID of the new IPv4 subnet '1' is already in use".to_owned(),
        ),
        (
            r#""subnet4": [{"id": 1, "subnet": "10.0.0.0/8"}, {"id": 2, "subnet": "10.0.0.0/8"}]"#.to_owned(),
            "subnet with the prefix of '10.0.0.0/8' already exists".to_owned(),
        ),
    ];
    assert_first_errors(rows);
}

#[test]
fn faults_of_values_use_keas_words() {
    let rows = [
        (
            r#""valid-lifetime": 100, "min-valid-lifetime": 200"#.to_owned(),
            "the value of min-valid-lifetime (200) is not less than (default) valid-lifetime (100)"
                .to_owned(),
        ),
        (
            r#""max-valid-lifetime": 200"#.to_owned(),
            "the value of (default) valid-lifetime (7200) is not less than max-valid-lifetime (200)"
                .to_owned(),
        ),
        (
            format!(r#""min-valid-lifetime": 1000, {}"#, subnet(r#""valid-lifetime": 500"#)),
            "the value of min-valid-lifetime (1000) is not less than (default) valid-lifetime (500)"
                .to_owned(),
        ),
        (
            r#""t1-percent": 0.9, "t2-percent": 0.5"#.to_owned(),
            "t1-percent:  0.9 is invalid, it must be less than t2-percent: 0.5".to_owned(),
        ),
        (
            r#""cache-threshold": 1.5"#.to_owned(),
            "cache-threshold: 1.5 is invalid, it must be greater than 0.0 and less than 1.0".to_owned(),
        ),
        (
            subnet(r#""next-server": "a""#),
            "invalid parameter next-server : a, expected an IPv4 address".to_owned(),
        ),
        (
            format!(r#""server-hostname": "{}""#, "x".repeat(64)),
            "server-hostname must be at most 63 octets in length, it is 64".to_owned(),
        ),
        (
            r#""option-data": [{"data": "1"}]"#.to_owned(),
            "option data configuration requires one of 'code' or 'name' parameters to be specified"
                .to_owned(),
        ),
        (
            subnet(r#""relay": {"ip-addresses": ["x"]}"#),
            "invalid parameter ip-addresses : x, expected an IPv4 address".to_owned(),
        ),
        (
            r#""interfaces-config": {"interfaces": ["eth0", "eth0"]}"#.to_owned(),
            "Failed to select interface: 'eth0' is listed twice".to_owned(),
        ),
        (
            r#""interfaces-config": {"interfaces": ["*/192.0.2.1"]}"#.to_owned(),
            "Failed to select interface: an address cannot go with the wildcard '*' (entry '*/192.0.2.1')"
                .to_owned(),
        ),
        (
            r#""loggers": [{"name": "kea-dhcp4"}, {"name": "kea-dhcp4"}]"#.to_owned(),
            "logger 'kea-dhcp4' is configured twice".to_owned(),
        ),
        (
            r#""loggers": [{"name": "a", "output-options": [{"output": "x", "maxver": 0}]}]"#.to_owned(),
            "maxver must be at least 1".to_owned(),
        ),
        (
            r#""reservation-mode": "all", "reservations-global": true"#.to_owned(),
            r#""reservation-mode" and "reservations-global" are mutually exclusive"#.to_owned(),
        ),
    ];
    assert_first_errors(rows);
}

#[test]
fn an_error_stands_where_the_value_stands() {
    let text = "{ \"Dhcp4\": {\n  \"subnet4\": [\n    { \"id\": 1, \"subnet\": \"192.0.2.0/24\",\n      \"pools\": [ { \"pool\": \"1\" } ] } ] } }";
    let error = config::parse_dhcp4(text.as_bytes(), "/etc/kea/kea.conf").unwrap_err();
    assert!(error.to_string().starts_with("/etc/kea/kea.conf:4.28: invalid pool definition: 1."), "{error}");
    assert!(!error.is_syntax());
}

#[test]
fn what_is_not_built_and_decides_is_refused() {
    let subnet = |inside: &str| format!(r#""subnet4": [{{"id": 1, "subnet": "192.0.2.0/24", {inside}}}]"#);
    let rows = [
        (subnet(r#""client-class": "a""#), "client-class"),
        (subnet(r#""client-classes": ["a"]"#), "client-classes"),
        (subnet(r#""pools": [{"pool": "192.0.2.0/28", "client-class": "a"}]"#), "client-class"),
        (
            subnet(r#""reservations": [{"hw-address": "1:2:3:4:5:6", "ip-address": "192.0.2.1"}]"#),
            "reservations",
        ),
        (subnet(r#""allocator": "random""#), "allocator"),
        (subnet(r#""option-data": [{"code": 6, "client-classes": ["a"]}]"#), "client-classes"),
        (r#""client-classes": [{"name": "a", "test": "member('ALL')"}]"#.to_owned(), "test"),
        (
            r#""client-classes": [{"name": "a", "template-test": "option[61].hex"}]"#.to_owned(),
            "template-test",
        ),
        (r#""reservations": [{"hw-address": "1:2:3:4:5:6"}]"#.to_owned(), "reservations"),
        (r#""allocator": "flq""#.to_owned(), "allocator"),
        (r#""shared-networks": [{"name": "a"}]"#.to_owned(), "shared-networks"),
        (r#""lease-database": {"type": "mysql"}"#.to_owned(), "type"),
        (r#""hosts-database": {"type": "postgresql"}"#.to_owned(), "hosts-database"),
        (r#""hosts-databases": [{"type": "mysql"}]"#.to_owned(), "hosts-databases"),
        (r#""config-control": {"config-databases": []}"#.to_owned(), "config-control"),
        (r#""hooks-libraries": [{"library": "/usr/lib/libdhcp_flex_id.so"}]"#.to_owned(), "library"),
        (r#""hooks-libraries": [{"library": "libdhcp_unheard_of.so"}]"#.to_owned(), "library"),
        (
            r#""control-sockets": [{"socket-type": "http", "authentication": {"type": "basic"}}]"#.to_owned(),
            "authentication",
        ),
        (
            r#""control-sockets": [{"socket-type": "http", "socket-address": "0.0.0.0"}]"#.to_owned(),
            "socket-type",
        ),
    ];
    for (body, key) in rows {
        let error = parse(&body).expect_err(&body);
        assert_eq!(error.first().key, key, "{error}");
        assert!(!error.is_syntax(), "{error}");
    }
}

#[test]
fn what_is_written_with_its_default_is_not_mentioned() {
    let rows = [
        r#""reservations": [], "shared-networks": [], "client-classes": [], "hosts-databases": []"#,
        r#""allocator": "iterative", "store-extended-info": false, "offer-lifetime": 0"#,
        r#""dhcp-ddns": {"enable-updates": false, "server-port": 53001}, "ddns-send-updates": true"#,
        r#""sanity-checks": {"lease-checks": "warn"}, "dhcp-queue-control": {"enable-queue": false}"#,
        r#""host-reservation-identifiers": ["hw-address", "flex-id"], "reservations-global": true"#,
        r#""subnet4": [{"id": 1, "subnet": "192.0.2.0/24", "client-class": "", "client-classes-off": 1}]"#,
        r#""user-context": {"anything": [1, {"deep": null}]}, "comment": "hello""#,
    ];
    for body in rows {
        let body = body.replace(r#", "client-classes-off": 1"#, "");
        assert_eq!(warnings(&body), [""; 0], "{body}");
    }
}

#[test]
fn other_missing_features_are_one_warning_each() {
    let rows: [(&str, &[&str]); 9] = [
        (
            r#""loggers": [{"name": "kea-dhcp4.leases"}, {"name": "kea-dhcp6"}]"#,
            &["logger 'kea-dhcp6' has no effect: the loggers of this program are kea-dhcp4 and kea-dhcp4.*"],
        ),
        (
            r#""control-sockets": [{"socket-type": "https", "trust-anchor": "a", "cert-file": "b", "key-file": "c",
                "cert-required": false}]"#,
            &["no client certificate is asked for: whoever reaches this socket commands the server"],
        ),
        (
            r#""stash-agent-options": true"#,
            &[r#""stash-agent-options" in the Dhcp4 map has no effect: relay options are not kept"#],
        ),
        (
            r#""dhcp-ddns": {"enable-updates": true}"#,
            &[
                r#""dhcp-ddns" in the Dhcp4 map has no effect: no name updates are sent, and host names are handled as by default"#,
            ],
        ),
        (
            r#""client-classes": [{"name": "a", "only-if-required": true}]"#,
            &[r#""client-classes" in the Dhcp4 map has no effect: no client is put into a class"#],
        ),
        (
            r#""lease-database": {"type": "memfile", "port": 3306}"#,
            &[r#""port" has no effect: a lease file needs no connection"#],
        ),
        (
            r#""renew-timer": 20, "rebind-timer": 10"#,
            &["renew-timer (20) is greater than rebind-timer (10): it is not sent"],
        ),
        (
            r#""control-sockets": [{"socket-type": "http"}]"#,
            &["this http control socket is unprotected: whoever reaches it commands the server"],
        ),
        (
            r#""hooks-libraries": [{"library": "libdhcp_lease_cmds.so", "parameters": {"x": 1}}]"#,
            &["parameter 'x' of libdhcp_lease_cmds.so has no effect"],
        ),
    ];
    for (body, expected) in rows {
        assert_eq!(warnings(body), expected, "{body}");
    }
    let twice = r#""subnet4": [{"id": 1, "subnet": "10.0.0.0/8", "ddns-ttl": 3},
        {"id": 2, "subnet": "11.0.0.0/8", "ddns-ttl": 4}]"#;
    let loaded = parse(twice).unwrap();
    assert_eq!((loaded.warnings.len(), loaded.warnings[0].repeated), (1, 1));
    assert!(loaded.warnings[0].to_string().ends_with("(and in 1 more place)"));
}

#[test]
fn subnets_without_id_are_numbered_apart_from_explicit_ids() {
    let body = r#""subnet4": [{"subnet": "10.0.0.0/8"}, {"subnet": "11.0.0.0/8", "id": 7},
        {"subnet": "12.0.0.0/8", "id": 0}]"#;
    let loaded = parse(body).unwrap();
    let ids: Vec<(u32, String)> =
        loaded.document.subnets.iter().map(|subnet| (*subnet.id, subnet.prefix.to_string())).collect();
    assert_eq!(
        ids,
        [(1, "10.0.0.0/8".to_owned()), (2, "12.0.0.0/8".to_owned()), (7, "11.0.0.0/8".to_owned())]
    );
    assert_eq!((loaded.warnings.len(), loaded.warnings[0].repeated), (1, 1));
    let collision = r#""subnet4": [{"subnet": "10.0.0.0/8", "id": 1}, {"subnet": "11.0.0.0/8"}]"#;
    assert_eq!(first_error(collision), "ID of the new IPv4 subnet '1' is already in use");
}

#[test]
fn tandem_knobs_are_read_and_unknown_ones_refused() {
    let knobs = |inside: &str| format!(r#""user-context": {{"tandem": {{{inside}}}}}"#);
    let body =
        knobs(r#""durability": "written", "cores": [2, 3], "spin-us": 50, "check-partner-name": true"#);
    let tandem = parse(&body).unwrap().document.tandem;
    assert_eq!(*tandem.durability, config::tandem::Durability::Written);
    assert_eq!((&tandem.cores[..], *tandem.spin_us, *tandem.check_partner_name), (&[2, 3][..], 50, true));
    let rows = [
        (r#""spin": 1"#, r#"got unexpected keyword "spin" in tandem map."#),
        (r#""durable": true"#, r#"got unexpected keyword "durable" in tandem map."#),
        (
            r#""check-partner-nam": true"#,
            r#"got unexpected keyword "check-partner-nam" in tandem map. Did you mean "check-partner-name"?"#,
        ),
        (
            r#""durability": "none""#,
            r#"syntax error, unexpected "none", expecting synced or written for "durability""#,
        ),
        (r#""spin-us": 1001"#, "spin-us value: 1001 is out of range, expected value: 0..1000"),
    ];
    for (inside, expected) in rows {
        assert_eq!(first_error(&knobs(inside)), expected, "{inside}");
    }
    let open = r#""control-sockets": [{"socket-type": "http", "socket-address": "192.0.2.1"}]"#;
    assert!(parse(&format!("{open}, {}", knobs(r#""allow-plain-http": true"#))).is_ok());
}

#[test]
fn defaults_are_keas() {
    let document = parse(r#""valid-lifetime": 7200"#).unwrap().document;
    assert_eq!((*document.echo_client_id, *document.decline_probation_period_s), (true, 86_400));
    assert_eq!(*document.parked_packet_limit, 256);
    assert_eq!(document.multi_threading.shards(), None);
    assert_eq!(*document.multi_threading.packet_queue_size, 64);
    let expired = &document.expired_leases;
    assert_eq!((*expired.reclaim_timer_wait_s, *expired.flush_reclaimed_timer_wait_s), (10, 25));
    assert_eq!((*expired.hold_reclaimed_s, *expired.max_reclaim_leases), (3600, 100));
    assert_eq!((*expired.max_reclaim_time_ms, *expired.unwarned_reclaim_cycles), (250, 5));
    assert_eq!((*document.lease_database.persist, *document.lease_database.lfc_interval_s), (true, 3600));
    assert!(!document.echo_client_id.written && document.scope.valid_lifetime_s.unwrap().written);
}

#[test]
fn a_configuration_in_a_command_is_judged_at_its_place_in_the_command() {
    let judged = |text: &str| {
        config::dhcp4_from_command(text.as_bytes(), "<wire>").map(drop).map_err(|error| error.to_string())
    };
    let good = "{ \"command\": \"config-test\", \"arguments\": { \"Dhcp4\": { \"valid-lifetime\": 9 }, \"hash\": \"X\" } }";
    assert_eq!(judged(good), Ok(()));
    let mistyped = good.replace("valid-lifetime", "valid-lifetme").replace("{ \"Dhcp4\"", "{\n \"Dhcp4\"");
    let said = judged(&mistyped).unwrap_err();
    assert!(said.starts_with("<wire>:2.13: got unexpected keyword \"valid-lifetme\""), "{said}");
    let said = judged("{ \"command\": \"config-test\" }").unwrap_err();
    assert_eq!(said, "<wire>:1.1: Missing mandatory 'arguments' parameter.");
}
