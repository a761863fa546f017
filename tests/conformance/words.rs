//! Commands in Kea's words: each command of ha-protocol 3, right and wrong in every way its arguments can be, is put to
//! a real Kea 2.2 and to the Tandem beside it, and both have to answer with the same result and the same text. Where
//! Tandem answers otherwise on purpose, the row says with what, and the reason stands above it.

use serde_json::{Value, json};

use crate::support::k3::now_s;
use crate::support::plan::{K, N, Plan};
use crate::support::site::Site;
use crate::{Scenario, scenario};

/// The scenarios of this file.
pub fn scenarios() -> Vec<Scenario> {
    vec![scenario(&["A3", "D4"], "every_command_is_answered_in_the_words_of_a_kea", 15, words)]
}

/// Result 4 is what releases from 2.3.1 on say of a conflict; 2.2 says 1, which is an error like any other.
const NO_LEASE: (i64, &str) = (
    4,
    "failed to update the lease with address 10.99.7.2 either because the lease has been deleted or it has changed in the \
     database, in both cases a retry might succeed",
);
const NO_SUBNET: (i64, &str) =
    (4, "subnet-id not specified and failed to find a subnet for address 192.0.2.1");
const UNKNOWN_SUBNET: (i64, &str) =
    (4, "Invalid subnet-id: No IPv4 subnet with subnet-id=99 currently configured.");
const OTHER_SUBNET: (i64, &str) =
    (4, "The address 192.0.2.1 does not belong to subnet 10.99.0.0/16, subnet-id=1");
const EXISTS: (i64, &str) = (4, "IPv4 lease already exists.");
const FORBIDDEN: (i64, &str) = (403, "Forbidden");
/// 2.2 has no third one.
const STATES: (i64, &str) = (
    1,
    "Invalid state value: 4, supported values are: 0 (default), 1 (declined), 2 (expired-reclaimed) and 3 (released)",
);

/// A command, its arguments (`null` for none), and what Tandem says where that is not what Kea says.
type Row = (&'static str, Value, Option<(i64, &'static str)>);

/// A lease at 10.99.7.`last` with `changes`; `null` takes a member out.
fn lease(last: u8, changes: Value) -> Value {
    let mut lease = json!({
        "expire": now_s() + 600, "force-create": true, "fqdn-fwd": false, "fqdn-rev": false, "hostname": "h",
        "hw-address": "02:00:00:00:07:07", "ip-address": format!("10.99.7.{last}"), "state": 0, "subnet-id": 1,
        "valid-lft": 600,
    });
    let members = lease.as_object_mut().expect("a map");
    for (name, value) in changes.as_object().expect("a map") {
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    lease
}

fn service_and_heartbeats() -> Vec<Row> {
    vec![
        ("ha-heartbeat", json!({}), None),
        ("ha-heartbeat", json!({ "server-name": "server1" }), None),
        ("dhcp-disable", json!({ "max-period": 0 }), None),
        ("dhcp-disable", json!({ "max-period": -1 }), None),
        ("dhcp-disable", json!({ "max-period": "60" }), None),
        ("dhcp-disable", json!({ "max-period": 1.0 }), None),
        ("dhcp-disable", json!({ "origin": "foo" }), None),
        ("dhcp-disable", json!([]), None),
        ("dhcp-disable", json!({ "max-period": 60, "origin": "ha-partner" }), None),
        ("dhcp-enable", json!({ "origin": "foo" }), None),
        ("dhcp-enable", json!([]), None),
        ("dhcp-enable", json!({ "origin": "ha-partner" }), None),
        ("dhcp-disable", json!({ "origin": "user" }), None),
        ("dhcp-enable", json!({ "origin": "user" }), None),
        ("dhcp-enable", Value::Null, None),
        ("ha-sync-complete-notify", Value::Null, None),
        ("no-such-command", Value::Null, None),
    ]
}

fn operators() -> Vec<Row> {
    vec![
        ("ha-continue", Value::Null, None),
        ("ha-maintenance-cancel", Value::Null, None),
        ("ha-maintenance-notify", json!({ "cancel": true }), None),
        ("ha-scopes", Value::Null, None),
        ("ha-scopes", json!({}), None),
        ("ha-scopes", json!([]), None),
        ("ha-scopes", json!({ "scopes": "server1" }), None),
        ("ha-scopes", json!({ "scopes": [1] }), None),
        ("ha-scopes", json!({ "scopes": ["HA_server1"] }), None),
        ("ha-scopes", json!({ "scopes": ["server1"] }), None),
        ("ha-sync", Value::Null, None),
        ("ha-sync", json!({}), None),
        ("ha-sync", json!([]), None),
        ("ha-sync", json!({ "server-name": 1 }), None),
        // A Kea calls that an internal error, 500.
        (
            "ha-sync",
            json!({ "server-name": "nobody" }),
            Some((1, "nobody matches no configured 'server-name'")),
        ),
        ("ha-sync", json!({ "server-name": "server1", "max-period": 0 }), None),
        ("ha-sync", json!({ "server-name": "server1", "max-period": "1" }), None),
    ]
}

fn pages() -> Vec<Row> {
    let page = |arguments: Value| ("lease4-get-page", arguments, None);
    vec![
        page(Value::Null),
        page(json!({})),
        page(json!({ "limit": 10 })),
        page(json!({ "from": "start" })),
        page(json!({ "from": 1, "limit": 10 })),
        page(json!({ "from": "x", "limit": 10 })),
        page(json!({ "from": "::", "limit": 10 })),
        page(json!({ "from": "start", "limit": "10" })),
        page(json!({ "from": "start", "limit": 0 })),
        page(json!({ "from": "start", "limit": -1 })),
        page(json!({ "from": "start", "limit": 4_294_967_296_u64 })),
        page(json!({ "from": "start", "limit": 10 })),
        page(json!({ "from": "255.255.255.255", "limit": 10 })),
    ]
}

fn updates() -> Vec<Row> {
    let update = |last: u8, changes: Value| ("lease4-update", lease(last, changes), None);
    let differs = |last: u8, changes: Value, says| ("lease4-update", lease(last, changes), Some(says));
    vec![
        ("lease4-update", Value::Null, None),
        // What a Kea says of this is about its own code.
        ("lease4-update", json!([]), Some((1, "Parameters missing or are not a map."))),
        ("lease4-update", json!({}), None),
        update(1, json!({})),
        update(1, json!({ "hostname": "other" })),
        update(1, json!({ "force-create": null, "hostname": "third" })),
        differs(2, json!({ "force-create": null }), NO_LEASE),
        differs(3, json!({ "ip-address": "192.0.2.1" }), OTHER_SUBNET),
        differs(3, json!({ "ip-address": "192.0.2.1", "subnet-id": null }), NO_SUBNET),
        update(3, json!({ "ip-address": "::1" })),
        update(3, json!({ "ip-address": "x" })),
        update(3, json!({ "ip-address": 1 })),
        update(3, json!({ "ip-address": null })),
        update(3, json!({ "hw-address": null })),
        update(3, json!({ "hw-address": "" })),
        update(3, json!({ "hw-address": "nonsense" })),
        update(3, json!({ "hw-address": 1 })),
        update(3, json!({ "client-id": "" })),
        update(3, json!({ "client-id": "01" })),
        update(3, json!({ "client-id": 1 })),
        differs(3, json!({ "subnet-id": 99 }), UNKNOWN_SUBNET),
        update(3, json!({ "subnet-id": "1" })),
        update(3, json!({ "subnet-id": -1 })),
        update(3, json!({ "valid-lft": -1 })),
        update(3, json!({ "valid-lft": "600" })),
        update(3, json!({ "expire": 0 })),
        update(3, json!({ "expire": -5 })),
        update(3, json!({ "expire": 5 })),
        update(3, json!({ "expire": "5" })),
        update(3, json!({ "fqdn-fwd": 1 })),
        update(3, json!({ "fqdn-fwd": true, "hostname": "" })),
        update(3, json!({ "fqdn-rev": "no" })),
        update(3, json!({ "hostname": 1 })),
        differs(3, json!({ "state": 4 }), STATES),
        update(3, json!({ "state": -1 })),
        update(3, json!({ "state": "0" })),
        update(3, json!({ "force-create": 1 })),
        differs(3, json!({ "user-context": "text" }), (1, "'user-context' must be a map")),
        update(4, json!({ "ip-address": "10.99.200.4" })),
        update(5, json!({ "state": 1, "hw-address": "" })),
        ("lease4-del", Value::Null, None),
        ("lease4-del", json!({}), None),
        ("lease4-del", json!({ "ip-address": "x" }), None),
        ("lease4-del", json!({ "ip-address": "10.99.7.250" }), None),
        ("lease4-del", lease(1, json!({ "force-create": null })), None),
        // A list of all leases is for peers, and this is a stranger.
        ("lease4-get-all", json!({ "subnets": "1" }), Some(FORBIDDEN)),
        ("lease4-get-all", Value::Null, Some(FORBIDDEN)),
    ]
}

/// What only administrators send.
fn additions() -> Vec<Row> {
    let add = |last: u8, changes: Value| ("lease4-add", lease(last, changes), None);
    let differs = |last: u8, changes: Value, says| ("lease4-add", lease(last, changes), Some(says));
    vec![
        ("lease4-add", Value::Null, None),
        // What a Kea says of this is about its own code.
        ("lease4-add", json!([]), Some((1, "Parameters missing or are not a map."))),
        ("lease4-add", json!({}), None),
        add(20, json!({})),
        differs(20, json!({}), EXISTS),
        differs(20, json!({ "hw-address": "02:00:00:00:07:08" }), EXISTS),
        ("lease4-add", json!({ "ip-address": "10.99.7.21", "hw-address": "2:0:0:0:7:21" }), None),
        add(22, json!({ "subnet-id": 0, "client-id": "0x0122", "hostname": "UPPER.", "comment": "by hand" })),
        add(
            23,
            json!({ "client-id": "123", "fqdn-fwd": true, "fqdn-rev": true, "valid-lft": 60, "force-create": null }),
        ),
        add(24, json!({ "state": 1, "hw-address": "", "client-id": null, "origin": "ha-partner" })),
        add(25, json!({ "state": 2 })),
        add(26, json!({ "expire": now_s() - 100, "valid-lft": 50 })),
        add(27, json!({ "ip-address": "10.99.255.255" })),
        differs(30, json!({ "ip-address": "192.0.2.1" }), OTHER_SUBNET),
        differs(30, json!({ "ip-address": "192.0.2.1", "subnet-id": 0 }), NO_SUBNET),
        differs(30, json!({ "ip-address": "192.0.2.1", "subnet-id": null }), NO_SUBNET),
        differs(30, json!({ "subnet-id": 99 }), UNKNOWN_SUBNET),
        add(30, json!({ "subnet-id": 99, "hw-address": "x" })),
        add(30, json!({ "subnet-id": -1 })),
        add(30, json!({ "subnet-id": "1" })),
        add(30, json!({ "ip-address": "::1" })),
        add(30, json!({ "ip-address": "x", "hw-address": "y" })),
        add(30, json!({ "ip-address": null })),
        add(30, json!({ "hw-address": null })),
        add(30, json!({ "hw-address": "" })),
        add(30, json!({ "hw-address": "01::02" })),
        add(30, json!({ "hw-address": "01:0g" })),
        add(30, json!({ "hw-address": "01:02:003" })),
        add(30, json!({ "hw-address": format!("01{}", ":01".repeat(20)) })),
        add(30, json!({ "client-id": "" })),
        add(30, json!({ "client-id": "01" })),
        add(30, json!({ "client-id": "nonsense" })),
        add(30, json!({ "valid-lft": -1 })),
        add(30, json!({ "valid-lft": 4_294_967_296_u64 })),
        add(30, json!({ "expire": 0 })),
        add(30, json!({ "expire": 5 })),
        add(30, json!({ "fqdn-fwd": true, "hostname": "" })),
        add(30, json!({ "hostname": 1 })),
        differs(30, json!({ "state": 4 }), STATES),
        add(30, json!({ "force-create": 1 })),
    ]
}

/// Which lease: by its address, or by subnet and client. The leases are those of [`additions`].
fn leases_by_client() -> Vec<Row> {
    let of = |of: &str, identifier: &str| json!({ "subnet-id": 1, "identifier-type": of, "identifier": identifier });
    let one_of = |command| {
        [
            json!([]),
            json!({}),
            json!({ "ip-address": "x" }),
            json!({ "ip-address": "" }),
            json!({ "ip-address": 1 }),
            json!({ "ip-address": "::1" }),
            json!({ "ip-address": "10.99.7.250" }),
            json!({ "ip-address": "10.99.7.250", "update-ddns": 1 }),
            json!({ "update-ddns": "yes" }),
            json!({ "identifier-type": "hw-address", "identifier": "01:02" }),
            json!({ "subnet-id": 1 }),
            json!({ "subnet-id": "1" }),
            json!({ "subnet-id": -1 }),
            json!({ "subnet-id": 1, "identifier": "01:02" }),
            json!({ "subnet-id": 1, "identifier-type": 1, "identifier": "01:02" }),
            json!({ "subnet-id": 1, "identifier-type": "hw-address" }),
            json!({ "subnet-id": 1, "identifier-type": "hw-address", "identifier": 1 }),
            json!({ "subnet-id": 99, "identifier-type": "hw-address", "identifier": "2:0:0:0:7:21" }),
            of("duid", "01:02"),
            of("address", "10.99.7.21"),
            of("flex-id", "01:02"),
            of("hw-address", "nonsense"),
            of("hw-address", "020000000721"),
            of("hw-address", "2:0:0:0:7:99"),
            of("hw-address", "2:0:0:0:7:21"),
            of("hw-address", &["01"; 21].join(":")),
            of("client-id", ""),
            of("client-id", "01"),
            of("client-id", "nonsense"),
            of("client-id", "01:99"),
            of("client-id", "01:22"),
        ]
        .map(|arguments| (command, arguments, None))
    };
    let lists = [
        ("lease4-get-by-hw-address", Value::Null, None),
        ("lease4-get-by-hw-address", json!({}), None),
        ("lease4-get-by-hw-address", json!({ "hw-address": 1 }), None),
        ("lease4-get-by-hw-address", json!({ "hw-address": "x" }), None),
        ("lease4-get-by-hw-address", json!({ "hw-address": "2:0:0:0:7:21" }), None),
        ("lease4-get-by-client-id", json!([]), None),
        ("lease4-get-by-client-id", json!({ "client-id": "" }), None),
        ("lease4-get-by-client-id", json!({ "client-id": "01 23" }), None),
    ];
    let gone = [
        ("lease4-get", json!({ "ip-address": "10.99.7.20" }), None),
        ("lease4-get", Value::Null, None),
        ("lease4-del", of("hw-address", "2:0:0:0:7:21"), None),
        ("lease4-del", of("client-id", "0122"), None),
        ("lease4-get", json!({ "ip-address": "10.99.7.21" }), None),
        ("lease4-get", json!({ "ip-address": "10.99.7.22" }), None),
    ];
    lists.into_iter().chain(one_of("lease4-get")).chain(one_of("lease4-del")).chain(gone).collect()
}

/// Both are put the same, one row after the other.
fn words() {
    let site = Site::whole(Plan::hot_standby([N, K]).ha("restrict-commands", json!(false)), "hot-standby");
    let mut connections = [site.connect(0), site.connect(1)];
    let mut differences = Vec::new();
    for (command, arguments, expected) in
        [service_and_heartbeats(), operators(), pages(), updates(), additions(), leases_by_client()]
            .into_iter()
            .flatten()
    {
        let mut body = json!({ "command": command, "service": ["dhcp4"] });
        if !arguments.is_null() {
            body["arguments"] = arguments;
        }
        let [own, keas] = [0, 1].map(|server| {
            let answer = connections[server].post(&body).json();
            let answer = answer.get(0).unwrap_or(&answer);
            let text = answer["text"].as_str().unwrap_or_default();
            // A Kea says where in the request it was, in characters of the request as it prints it again.
            let text = text.split("(<string>").next().unwrap_or_default().trim_end();
            (answer["result"].as_i64(), text.to_owned())
        });
        let is_as_expected = match expected {
            None => own == keas,
            // Where this is what Kea says, the row is no exception any more.
            Some((result, text)) => own == (Some(result), text.to_owned()) && own != keas,
        };
        if !is_as_expected {
            differences.push(format!("{body}\n  Tandem {own:?}\n  Kea    {keas:?}"));
        }
    }
    assert!(differences.is_empty(), "{} rows differ:\n{}", differences.len(), differences.join("\n"));
}
