//! Documents compiled as a whole: inheritance, options by scope, places of findings, the effective tree, restarts.

use std::net::Ipv4Addr;

use config::{ConfigError, Document};
use serde_json::{Value, json};

use super::effective::{effective, hash_text};
use super::restart::restart_required;
use super::{Compiled, Guard, Host, HostInterface, Scope, Snapshot, Subnet, compile};

fn host() -> Vec<HostInterface> {
    vec![HostInterface {
        ifindex: 2,
        name: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        addresses: vec![Ipv4Addr::new(192, 0, 2, 1)],
        up: true,
        loopback: false,
    }]
}

fn read(text: &str, name: &str) -> Result<Document, ConfigError> {
    config::parse_dhcp4(text.as_bytes(), name).map(|loaded| loaded.document)
}

fn document(text: &str) -> Document {
    read(text, "file").unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn compiled(document: &Document) -> Compiled {
    compile(document, &Host::new(&host(), 7)).unwrap_or_else(|error| panic!("{error}"))
}

/// The snapshot of a file with `globals` in front of one subnet with `settings`, both pieces of JSON.
fn subnet(globals: &str, settings: &str) -> Subnet {
    let text = format!(
        r#"{{"Dhcp4": {{ {globals} "subnet4": [ {{ {settings} "id": 3, "subnet": "192.0.2.0/24" }} ] }} }}"#
    );
    compiled(&document(&text)).snapshot.subnets[0].clone()
}

#[test]
fn what_a_subnet_does_not_say_comes_from_the_global_scope_and_then_from_the_defaults() {
    type Row = (&'static str, &'static str, fn(&Subnet) -> Value, Value);
    let lifetimes = |subnet: &Subnet| {
        let lifetime = subnet.valid_lifetime;
        json!([lifetime.min_s, lifetime.default_s, lifetime.max_s])
    };
    let timers = |subnet: &Subnet| json!([subnet.renew_timer_s, subnet.rebind_timer_s]);
    let tee = |subnet: &Subnet| json!(subnet.tee_percent);
    let cache = |subnet: &Subnet| json!([subnet.cache_threshold, subnet.cache_max_age_s]);
    let flags = |subnet: &Subnet| json!([subnet.match_client_id, subnet.authoritative]);
    let boot = |subnet: &Subnet| {
        let (name, file) = (&subnet.server_hostname, &subnet.boot_file_name);
        json!([subnet.next_server.to_string(), String::from_utf8_lossy(name), String::from_utf8_lossy(file)])
    };
    let rows: &[Row] = &[
        ("", "", lifetimes, json!([7200, 7200, 7200])),
        (r#""valid-lifetime": 100,"#, "", lifetimes, json!([100, 100, 100])),
        (r#""valid-lifetime": 100,"#, r#""valid-lifetime": 200,"#, lifetimes, json!([200, 200, 200])),
        (
            r#""min-valid-lifetime": 50, "valid-lifetime": 100,"#,
            r#""max-valid-lifetime": 300,"#,
            lifetimes,
            json!([50, 100, 300]),
        ),
        ("", "", timers, json!([null, null])),
        (r#""renew-timer": 10,"#, r#""rebind-timer": 20,"#, timers, json!([10, 20])),
        (r#""renew-timer": 30, "rebind-timer": 40,"#, r#""rebind-timer": 20,"#, timers, json!([null, 20])),
        ("", "", tee, json!(null)),
        (r#""calculate-tee-times": true,"#, "", tee, json!([0.5, 0.875])),
        (r#""calculate-tee-times": true,"#, r#""t1-percent": 0.25,"#, tee, json!([0.25, 0.875])),
        (r#""calculate-tee-times": true,"#, r#""calculate-tee-times": false,"#, tee, json!(null)),
        ("", "", cache, json!([0.25, null])),
        (r#""cache-threshold": 0.5,"#, r#""cache-max-age": 60,"#, cache, json!([0.5, 60])),
        (r#""cache-threshold": 0.5,"#, r#""cache-threshold": 0.0,"#, cache, json!([null, 0])),
        ("", r#""cache-max-age": 0,"#, cache, json!([null, 0])),
        ("", "", flags, json!([true, false])),
        (r#""match-client-id": false,"#, r#""authoritative": true,"#, flags, json!([false, true])),
        ("", "", boot, json!(["0.0.0.0", "", ""])),
        (
            r#""next-server": "192.0.2.9", "server-hostname": "a", "boot-file-name": "b","#,
            r#""boot-file-name": "c","#,
            boot,
            json!(["192.0.2.9", "a", "c"]),
        ),
    ];
    for (globals, settings, shown, expected) in rows {
        assert_eq!(*expected, shown(&subnet(globals, settings)), "{globals} / {settings}");
    }
}

#[test]
fn options_of_a_pool_stand_before_those_of_its_subnet_and_those_before_the_global_ones() {
    let text = r#"{"Dhcp4": {
        "option-data": [
            {"name": "routers", "data": "192.0.2.1", "always-send": true},
            {"name": "domain-name", "data": "global"},
            {"name": "ntp-servers", "data": "192.0.2.1", "never-send": true}
        ],
        "subnet4": [{"id": 1, "subnet": "192.0.2.0/24",
            "option-data": [{"name": "routers", "data": "192.0.2.2"}, {"code": 42, "data": "192.0.2.2"}],
            "pools": [
                {"pool": "192.0.2.10 - 192.0.2.19", "option-data": [{"name": "routers", "data": "192.0.2.3"}]},
                {"pool": "192.0.2.32/28"}
            ]}]
    }}"#;
    let snapshot = compiled(&document(text)).snapshot;
    let subnet = &snapshot.subnets[0];
    let router = |set: &super::OptionSet| set.get(3).map(|option| (option.payload[3], option.always_send));
    assert_eq!(Some((1, true)), router(&snapshot.options));
    assert_eq!(Some((2, true)), router(&subnet.options));
    assert_eq!(Some((3, true)), router(&subnet.pools[0].options));
    assert_eq!(Some((2, true)), router(&subnet.pools[1].options));
    for set in [&subnet.options, &subnet.pools[0].options] {
        assert!(set.get(42).is_some_and(|option| option.never_send && option.payload[3] == 2));
        assert_eq!(Some(&b"global"[..]), set.get(15).map(|option| &*option.payload));
    }
    let ranges: Vec<(u8, u8)> =
        subnet.pools.iter().map(|pool| (pool.first.octets()[3], pool.last.octets()[3])).collect();
    assert_eq!(vec![(10, 19), (32, 47)], ranges);
}

#[test]
fn every_finding_names_its_place() {
    let text = r#"{"Dhcp4": {
        "interfaces-config": {"interfaces": ["wlan0"]},
        "option-def": [{"name": "x", "code": 3, "type": "uint8"}],
        "option-data": [{"name": "routers", "data": "x"}],
        "subnet4": [{"id": 1, "subnet": "192.0.2.0/24", "interface": "wlan1",
            "option-data": [{"name": "unheard-of", "data": "x"}],
            "pools": [{"pool": "192.0.2.1-192.0.2.9", "option-data": [{"code": 61, "data": "01"}]}]
        }]
    }}"#;
    let document = document(text);
    let mut strict = Host::new(&[], 1);
    strict.interfaces_must_exist = true;
    for (host, errors, warnings) in
        [(Host::new(&[], 1), vec![3, 4, 6], vec![2, 5, 7]), (strict, vec![2, 3, 4, 5, 6], vec![7])]
    {
        let error = compile(&document, &host).expect_err("three entries are wrong");
        let lines = |list: Vec<&config::Diagnostic>| {
            list.iter().map(|found| found.position.line).collect::<Vec<u32>>()
        };
        let mut found = lines(error.errors().collect());
        found.sort_unstable();
        assert_eq!(errors, found);
        let mut found = lines(error.warnings().iter().collect());
        found.sort_unstable();
        assert_eq!(warnings, found);
    }
}

/// A file that uses everything that is built, in each dialect.
fn rich(socket: &str, outputs: &str) -> String {
    format!(
        r#"{{"Dhcp4": {{
        "comment": "for the tree",
        {socket},
        "interfaces-config": {{"interfaces": ["eth0"], "dhcp-socket-type": "udp"}},
        "lease-database": {{"type": "memfile", "persist": false, "lfc-interval": 600}},
        "multi-threading": {{"enable-multi-threading": true, "thread-pool-size": 4, "packet-queue-size": 64}},
        "expired-leases-processing": {{"hold-reclaimed-time": 100}},
        "valid-lifetime": 4000, "max-valid-lifetime": 5000, "renew-timer": 1000, "rebind-timer": 2000,
        "calculate-tee-times": true, "authoritative": true, "echo-client-id": false,
        "next-server": "192.0.2.9", "boot-file-name": "pxe",
        "option-def": [
            {{"name": "x", "code": 225, "type": "record", "record-types": "uint8, string"}},
            {{"name": "box", "code": 226, "type": "empty", "encapsulate": "inside"}},
            {{"name": "in", "code": 1, "type": "uint16", "space": "inside"}}
        ],
        "option-data": [
            {{"name": "routers", "data": "192.0.2.1"}},
            {{"code": 225, "data": "1, z\\,z", "always-send": true}},
            {{"code": 250, "csv-format": false, "data": "0102"}},
            {{"name": "box"}}, {{"name": "in", "space": "inside", "data": "5"}}
        ],
        "subnet4": [
            {{"subnet": "198.51.100.0/24", "id": 9, "comment": "nine", "min-valid-lifetime": 3000}},
            {{"subnet": "192.0.2.0/24", "interface": "eth0", "valid-lifetime": 4500,
              "pools": [{{"pool": "192.0.2.10-192.0.2.20", "option-data": [{{"code": 3, "data": "192.0.2.2"}}]}}]}},
            {{"subnet": "203.0.113.0/24", "relay": {{"ip-addresses": ["203.0.113.1"]}}, "renew-timer": 10}}
        ],
        "loggers": [{{"name": "kea-dhcp4", {outputs}: [{{"output": "stdout"}}]}}]
    }} }}"#
    )
}

fn dialects() -> [String; 2] {
    [
        rich(r#""control-socket": {"socket-type": "unix", "socket-name": "sock"}"#, r#""output_options""#),
        rich(r#""control-sockets": [{"socket-type": "unix", "socket-name": "sock"}]"#, r#""output-options""#),
    ]
}

#[test]
fn effective_tree_compiles_to_the_same_snapshot_and_is_its_own_effective_tree() {
    for text in dialects() {
        let document = document(&text);
        let tree = effective(&document);
        let again = read(&tree.to_string(), "again").unwrap_or_else(|error| panic!("{error} in {tree}"));
        assert_eq!(compiled(&document).snapshot, compiled(&again).snapshot);
        assert_eq!(tree, effective(&again));
        assert_eq!(document.dialect, again.dialect);
    }
}

#[test]
fn effective_tree_shows_defaults_inheritance_and_the_spellings_of_the_file() {
    let [old, new] = dialects().map(|text| effective(&document(&text))["Dhcp4"].clone());
    for tree in [&old, &new] {
        assert_eq!(json!({ "comment": "for the tree" }), tree["user-context"]);
        assert_eq!(Value::Null, tree["comment"]);
        assert_eq!(json!(86400), tree["decline-probation-period"]);
        assert_eq!(json!(10), tree["expired-leases-processing"]["reclaim-timer-wait-time"]);
        let ids: Vec<&Value> =
            tree["subnet4"].as_array().expect("a list").iter().map(|entry| &entry["id"]).collect();
        assert_eq!(vec![&json!(1), &json!(2), &json!(9)], ids);
        let subnet = &tree["subnet4"][0];
        assert_eq!(
            [json!(4500), json!(4500), json!(5000), json!(1000), json!(true), json!({ "ip-addresses": [] })],
            [
                "min-valid-lifetime",
                "valid-lifetime",
                "max-valid-lifetime",
                "renew-timer",
                "calculate-tee-times",
                "relay"
            ]
            .map(|key| subnet[key].clone())
        );
        assert_eq!(json!("routers"), subnet["pools"][0]["option-data"][0]["name"]);
        assert_eq!(json!(3000), tree["subnet4"][2]["min-valid-lifetime"]);
        assert_eq!(json!("in"), tree["option-data"][4]["name"]);
        assert_eq!(json!(false), tree["option-data"][2]["csv-format"]);
    }
    assert!(old["control-socket"].is_object() && old["control-sockets"].is_null());
    assert!(new["control-sockets"].is_array() && new["control-socket"].is_null());
    assert!(old["loggers"][0]["output_options"].is_array() && old["loggers"][0]["output-options"].is_null());
    assert!(new["loggers"][0]["output-options"].is_array());
    assert_eq!((json!(null), json!("iterative")), (old["allocator"].clone(), new["allocator"].clone()));
}

#[test]
fn hash_text_depends_on_the_settings_and_not_on_their_order() {
    let hash = |text: &str| hash_text(&effective(&document(text)));
    let plain = hash(r#"{"Dhcp4": {"renew-timer": 1, "rebind-timer": 2}}"#);
    assert_eq!(plain, hash(r#"{"Dhcp4": { "rebind-timer": 2, /* moved */ "renew-timer": 1 } }"#));
    assert_eq!(plain, hash(r#"{"Dhcp4": {"renew-timer": 1, "rebind-timer": 2, "valid-lifetime": 7200}}"#));
    assert_ne!(plain, hash(r#"{"Dhcp4": {"renew-timer": 1, "rebind-timer": 3}}"#));
}

#[test]
fn only_what_is_fixed_at_start_needs_a_restart() {
    let need = |old: &str, new: &str| -> Vec<&'static str> {
        let [old, new] = [old, new].map(|body| document(&format!(r#"{{"Dhcp4": {{ {body} }} }}"#)));
        restart_required(&old, &new).iter().map(|need| need.key).collect()
    };
    let rows: &[(&str, &str, &[&str])] = &[
        (r#""valid-lifetime": 1"#, r#""valid-lifetime": 2, "authoritative": true"#, &[]),
        (
            r#""interfaces-config": {"dhcp-socket-type": "udp"}"#,
            r#""interfaces-config": {"dhcp-socket-type": "raw"}"#,
            &["interfaces-config.dhcp-socket-type"],
        ),
        (
            r#""lease-database": {"type": "memfile"}"#,
            r#""lease-database": {"type": "memfile", "name": "other.csv", "persist": false, "lfc-interval": 1}"#,
            &["lease-database.persist", "lease-database.name"],
        ),
        (
            r#""multi-threading": {"enable-multi-threading": true, "thread-pool-size": 2}"#,
            r#""multi-threading": {"enable-multi-threading": true, "thread-pool-size": 4, "packet-queue-size": 9}"#,
            &["multi-threading.thread-pool-size", "multi-threading.packet-queue-size"],
        ),
        (
            r#""multi-threading": {"enable-multi-threading": false, "thread-pool-size": 2}"#,
            r#""multi-threading": {"enable-multi-threading": false, "thread-pool-size": 4}"#,
            &[],
        ),
        (
            r#""control-socket": {"socket-type": "unix", "socket-name": "a"}"#,
            r#""control-sockets": [{"socket-type": "unix", "socket-name": "a"}]"#,
            &[],
        ),
        (
            r#""control-socket": {"socket-type": "unix", "socket-name": "a"}"#,
            r#""control-sockets": [{"socket-type": "http", "socket-port": 8000}]"#,
            &["control-sockets"],
        ),
        (
            r#""user-context": {"tandem": {"spin-us": 5}}"#,
            r#""user-context": {"tandem": {"cores": [0], "durability": "written", "check-partner-name": true}}"#,
            &["user-context.tandem.cores", "user-context.tandem.durability", "user-context.tandem.spin-us"],
        ),
    ];
    for (old, new, keys) in rows {
        assert_eq!(keys.to_vec(), need(old, new), "{old} to {new}");
    }
}

#[test]
fn high_availability_threads_need_a_restart_and_its_timers_do_not() {
    let body = |threads: u32, heartbeat: u32, port: u16| {
        let peer = |name: &str, role: &str, port: u16| {
            format!(r#"{{"name": "{name}", "role": "{role}", "url": "http://192.0.2.1:{port}/"}}"#)
        };
        let (own, partner) = (peer("a", "primary", port), peer("b", "standby", 8002));
        document(&format!(
            r#"{{"Dhcp4": {{"hooks-libraries": [{{"library": "libdhcp_lease_cmds.so"}}, {{"library": "libdhcp_ha.so",
            "parameters": {{"high-availability": [{{"this-server-name": "a", "mode": "hot-standby",
            "heartbeat-delay": {heartbeat},
            "multi-threading": {{"enable-multi-threading": true, "http-dedicated-listener": true,
            "http-listener-threads": {threads}, "http-client-threads": 0}},
            "peers": [{own}, {partner}]}}]}}}}]}} }}"#
        ))
    };
    let keys = |old: &Document, new: &Document| -> Vec<&'static str> {
        restart_required(old, new).iter().map(|need| need.key).collect()
    };
    assert_eq!(Vec::<&str>::new(), keys(&body(1, 1000, 8001), &body(1, 2000, 8001)));
    let threads = "high-availability.multi-threading.http-listener-threads";
    assert_eq!(vec![threads], keys(&body(0, 1000, 8001), &body(1, 1000, 8001)));
    assert_eq!(vec!["high-availability.peers"], keys(&body(1, 1000, 8001), &body(1, 1000, 8003)));
    assert_eq!(
        vec!["high-availability"],
        keys(&document(r#"{"Dhcp4": {"valid-lifetime": 1}}"#), &body(1, 1, 8001))
    );
}

#[test]
fn relationships_and_whose_a_subnet_is_are_fixed_while_the_server_runs() {
    let hub = |ports: &[u16], whose: &[&str]| {
        let spoke = |port: &u16| {
            format!(
                r#"{{"this-server-name": "hub{port}", "mode": "hot-standby", "peers": [
                {{"name": "hub{port}", "role": "standby", "url": "http://192.0.2.1:{port}/"}},
                {{"name": "spoke{port}", "role": "primary", "url": "http://192.0.2.2:{port}/"}}]}}"#
            )
        };
        let subnet = |(index, whose): (usize, &&str)| {
            let (id, name) = (index + 1, format!(r#""ha-server-name": "{whose}""#));
            format!(r#"{{"id": {id}, "subnet": "10.0.{index}.0/24", "user-context": {{{name}}}}}"#)
        };
        let spokes: Vec<String> = ports.iter().map(spoke).collect();
        let subnets: Vec<String> = whose.iter().enumerate().map(subnet).collect();
        document(&format!(
            r#"{{"Dhcp4": {{"hooks-libraries": [{{"library": "libdhcp_lease_cmds.so"}}, {{"library": "libdhcp_ha.so",
            "parameters": {{"high-availability": [{}]}}}}], "subnet4": [{}]}}}}"#,
            spokes.join(", "),
            subnets.join(", ")
        ))
    };
    let needs = |old: &Document, new: &Document| -> Vec<String> {
        restart_required(old, new).iter().map(ToString::to_string).collect()
    };
    let two = hub(&[1, 2], &["hub1", "hub2"]);
    // Another name of the same relationship, a subnet less and a subnet more need nothing.
    assert_eq!(needs(&two, &hub(&[1, 2], &["spoke1"])), [""; 0]);
    assert_eq!(needs(&two, &hub(&[1, 2], &["hub1", "hub2", "hub1"])), [""; 0]);
    assert_eq!(
        needs(&two, &hub(&[1, 2], &["hub1", "spoke1"])),
        ["subnet4.user-context.ha-server-name changes from [subnet 2 of relationship hub2] to [subnet 2 of \
          relationship hub1]"]
    );
    assert_eq!(
        needs(&two, &hub(&[1, 2, 3], &["hub1", "hub2"])),
        ["high-availability changes from 2 relationships [hub1, hub2] to 3 relationships [hub1, hub2, hub3]"]
    );
    let moved = needs(&two, &hub(&[1, 4], &["hub1", "hub4"]));
    let ends_as = |end: &str| moved.iter().any(|need| need.ends_with(end));
    assert!(ends_as("spoke4 http://192.0.2.2:4/ primary] (relationship 2)"), "{moved:?}");
}

#[test]
fn a_needed_restart_is_told_in_the_words_of_the_file() {
    let with = |size: u32, socket: &str| {
        let text = format!(
            r#"{{"Dhcp4": {{ "multi-threading": {{ "enable-multi-threading": true, "thread-pool-size": {size} }},
            "interfaces-config": {{ "dhcp-socket-type": "{socket}" }} }}}}"#
        );
        document(&text)
    };
    let needs = restart_required(&with(4, "raw"), &with(0, "udp"));
    let told: Vec<String> = needs.iter().map(ToString::to_string).collect();
    assert_eq!(
        vec![
            "interfaces-config.dhcp-socket-type changes from raw to udp",
            "multi-threading.thread-pool-size changes from 4 to 0"
        ],
        told
    );
}

#[test]
fn timers_that_can_never_be_sent_are_warned_about_once() {
    let text = r#"{"Dhcp4": { "interfaces-config": { "interfaces": ["*"] },
        "valid-lifetime": 100, "renew-timer": 100, "rebind-timer": 200, "subnet4": [
        { "id": 1, "subnet": "192.0.2.0/24" }, { "id": 2, "subnet": "198.51.100.0/24" }
    ] } }"#;
    let warnings = compiled(&document(text)).warnings;
    let keys: Vec<(&str, u32)> = warnings.iter().map(|found| (found.key.as_str(), found.repeated)).collect();
    assert_eq!(vec![("renew-timer", 1), ("rebind-timer", 1)], keys);
}

#[test]
fn numbers_of_executors_beyond_the_limit_are_errors_at_their_place() {
    let with = |size: u32| {
        let text = format!(
            "{{\"Dhcp4\": {{ \"multi-threading\": {{\n \"enable-multi-threading\": true, \"thread-pool-size\": {size} }} }}}}"
        );
        let document = document(&text);
        let interfaces = host();
        compile(&document, &Host::new(&interfaces, 1)).map(drop).map_err(|error| error.to_string())
    };
    for good in [0, 1, 64] {
        assert_eq!(Ok(()), with(good), "{good}");
    }
    for bad in [65, 65_535] {
        let said = with(bad).expect_err("beyond the limit");
        assert!(said.contains(":2.54: thread-pool-size is") && said.contains("at most 64"), "{said}");
    }
}

#[test]
fn executors_of_all_relationships_together_are_bounded_at_the_one_that_is_too_much() {
    let said = |threads: &[u32]| {
        let relationship = |(index, count): (usize, &u32)| {
            format!(
                r#"{{"this-server-name": "p{index}", "mode": "hot-standby",
                "multi-threading": {{"http-listener-threads": 1, "http-client-threads": {count}}}, "peers": [
                {{"name": "p{index}", "role": "primary", "url": "http://192.0.2.1:{}/"}},
                {{"name": "s{index}", "role": "standby", "url": "http://192.0.2.2:{}/"}}]}}"#,
                8000 + index,
                8100 + index
            )
        };
        let list: Vec<String> = threads.iter().enumerate().map(relationship).collect();
        let document = document(&format!(
            r#"{{"Dhcp4": {{"hooks-libraries": [{{"library": "libdhcp_lease_cmds.so"}}, {{"library":
            "libdhcp_ha.so", "parameters": {{"high-availability": [{}]}}}}]}}}}"#,
            list.join(", ")
        ));
        compile(&document, &Host::new(&host(), 1)).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(said(&[32, 32]), Ok(()));
    assert_eq!(said(&[64, 0]).map_err(|error| error.contains("together is 65")), Err(true));
    let error = said(&[30, 40, 1]).unwrap_err();
    assert!(
        error.contains("http-client-threads of the relationships so far together is 70: at most 64"),
        "{error}"
    );
    assert_eq!(error.matches("at most").count(), 1, "{error}");
}

#[test]
fn snapshot_takes_epoch_ports_and_interfaces_from_the_host() {
    let document = document(r#"{"Dhcp4": {"interfaces-config": {"interfaces": ["*", "wlan0"]}}}"#);
    let interfaces = host();
    let mut host = Host::new(&interfaces, 7);
    (host.server_port, host.forced_client_port) = (10067, Some(10068));
    let Snapshot { epoch, interfaces, interfaces_missing, server_port, forced_client_port, .. } =
        compile(&document, &host).expect("sound").snapshot;
    assert_eq!((7, 10067, Some(10068)), (epoch, server_port, forced_client_port));
    assert_eq!((1, vec!["wlan0".to_owned()]), (interfaces.len(), interfaces_missing));
}

#[test]
fn guards_become_scopes_and_guarded_pools_parts_of_their_subnet() {
    let peers = |mode: &str, second: &str| {
        format!(
            r#""hooks-libraries": [{{"library": "libdhcp_lease_cmds.so"}}, {{"library": "libdhcp_ha.so", "parameters":
            {{"high-availability": [{{"this-server-name": "a", "mode": "{mode}", "peers": [
                {{"name": "a", "url": "http://192.0.2.1:8005/", "role": "primary"}},
                {{"name": "b", "url": "http://192.0.2.2:8005/", "role": "{second}"}}]}}]}}}}],"#
        )
    };
    let guarded = |ha: &str, keys: &str| {
        let subnet = r#"{"id": 1, "subnet": "192.0.2.0/24", KEYS, "pools": [
            {"pool": "192.0.2.0/28", KEYS}, {"pool": "192.0.2.16/28"}]}"#;
        let text = format!(r#"{{"Dhcp4": {{ {ha} "subnet4": [{}] }} }}"#, subnet.replace("KEYS", keys));
        compiled(&document(&text))
    };
    let standby = peers("hot-standby", "standby");
    let rows = [
        (&standby, r#""client-class": "HA_a""#, Guard::of([Scope::Primary]), &[][..]),
        (
            &standby,
            r#""client-classes": ["HA_b"]"#,
            Guard::NOBODY,
            &["no query is ever in class HA_b: that server has no scope"],
        ),
        (
            &standby,
            r#""client-classes": ["HA_b", "HA_a"]"#,
            Guard::of([Scope::Primary]),
            &["no query is ever in class HA_b: that server has no scope"],
        ),
    ];
    for (ha, keys, guard, warnings) in rows {
        let Compiled { snapshot, warnings: found } = guarded(ha, keys);
        let subnet = &snapshot.subnets[0];
        assert_eq!((subnet.guard, subnet.pools[0].guard), (guard, guard), "{keys}");
        assert_eq!((subnet.pools[1].guard, subnet.has_guarded_pools), (Guard::EVERYONE, true), "{keys}");
        let found = found.iter().filter(|warning| warning.key.starts_with("client-class"));
        let found: Vec<_> = found.map(|warning| warning.message.as_str()).collect();
        assert_eq!(found, warnings, "{keys}");
        for scope in Scope::ALL {
            let first = Ipv4Addr::new(192, 0, 2, 1);
            assert_eq!(subnet.pool_for(first, scope).is_some(), guard.admits(scope), "{keys} {scope:?}");
            let usable = 1 + usize::from(guard.admits(scope));
            assert_eq!(subnet.pools_for(scope).count(), usable, "{keys} {scope:?}");
        }
        assert_ne!(subnet.pool_set(Scope::Primary), subnet.pool_set(Scope::Secondary));
    }
    let open = subnet("", "");
    assert_eq!(open.pool_set(Scope::Primary), open.pool_set(Scope::Secondary));
}
