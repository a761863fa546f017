//! A hub and the reload of its configuration: what one of several relationships is made of is fixed while the server runs,
//! and the rest follows the file.

use serde_json::{Value, json};

use crate::support::alone::Alone;

/// The relationship of a spoke that nobody runs, as its hub sees it.
fn relationship(spoke: usize) -> Value {
    json!({
        "this-server-name": format!("hub{spoke}"),
        "mode": "hot-standby",
        "heartbeat-delay": 1000,
        "max-response-delay": 4000,
        "multi-threading": {
            "enable-multi-threading": true, "http-dedicated-listener": true,
            "http-listener-threads": 1, "http-client-threads": 1,
        },
        "peers": [
            { "name": format!("hub{spoke}"), "url": format!("http://172.16.0.1:{}/", 8001 + spoke), "role": "standby" },
            { "name": format!("spoke{spoke}"), "url": "http://172.16.0.2:8001/", "role": "primary" },
        ],
    })
}

/// A subnet of that spoke.
fn subnet(id: usize, spoke: usize) -> Value {
    json!({
        "id": id,
        "subnet": format!("10.{id}.0.0/16"),
        "pools": [{ "pool": format!("10.{id}.1.0/24") }],
        "user-context": { "ha-server-name": format!("spoke{spoke}") },
    })
}

/// The list of relationships in a `Dhcp4`.
fn relationships(dhcp4: &mut Value) -> &mut Value {
    &mut dhcp4["hooks-libraries"][1]["parameters"]["high-availability"]
}

fn hub(dhcp4: &mut Value) {
    dhcp4["hooks-libraries"] = json!([
        { "library": "libdhcp_lease_cmds.so" },
        { "library": "libdhcp_ha.so", "parameters": { "high-availability": [relationship(1), relationship(2)] } },
    ]);
    dhcp4["subnet4"] = json!([subnet(101, 1), subnet(102, 2)]);
}

/// What is changed, how, and what the answer has to name; nothing where the change is taken.
type Row = (&'static str, fn(&mut Value), &'static [&'static str]);

#[rustfmt::skip]
const ROWS: [Row; 11] = [
    ("a third relationship", |dhcp4| {
        relationships(dhcp4).as_array_mut().expect("a list").push(relationship(3));
    }, &["high-availability changes from 2 relationships [hub1, hub2] to 3 relationships [hub1, hub2, hub3]"]),
    ("one relationship less", |dhcp4| {
        relationships(dhcp4).as_array_mut().expect("a list").pop();
        dhcp4["subnet4"].as_array_mut().expect("a list").pop();
    }, &["high-availability changes from 2 relationships [hub1, hub2] to configured"]),
    ("the other order", |dhcp4| relationships(dhcp4).as_array_mut().expect("a list").reverse(),
        &["to 2 relationships [hub2, hub1]"]),
    ("another address of a spoke", |dhcp4| {
        relationships(dhcp4)[1]["peers"][1]["url"] = json!("http://172.16.0.3:8001/");
    }, &["high-availability.peers changes from", "http://172.16.0.3:8001/ primary] (relationship 2)"]),
    ("another port of the hub", |dhcp4| {
        relationships(dhcp4)[0]["peers"][0]["url"] = json!("http://172.16.0.1:8009/");
    }, &["high-availability.peers changes from", "http://172.16.0.1:8009/ standby", "(relationship 1)"]),
    ("other rights at one listener", |dhcp4| relationships(dhcp4)[1]["restrict-commands"] = json!(true),
        &["high-availability.restrict-commands changes from false (relationship 2) to true (relationship 2)"]),
    ("more listeners", |dhcp4| {
        relationships(dhcp4)[0]["multi-threading"]["http-listener-threads"] = json!(2);
    }, &["high-availability.multi-threading.http-listener-threads changes from 1 (relationship 1) to 2 (relationship 1)"]),
    ("a subnet of the other spoke", |dhcp4| {
        dhcp4["subnet4"][1]["user-context"]["ha-server-name"] = json!("spoke1");
    }, &["subnet4.user-context.ha-server-name changes from [subnet 102 of relationship hub2] to \
          [subnet 102 of relationship hub1]"]),
    ("two of them at once", |dhcp4| {
        relationships(dhcp4)[1]["restrict-commands"] = json!(true);
        dhcp4["subnet4"][1]["user-context"]["ha-server-name"] = json!("spoke1");
    }, &["high-availability.restrict-commands", "; subnet4.user-context.ha-server-name"]),
    ("one more subnet", |dhcp4| dhcp4["subnet4"].as_array_mut().expect("a list").push(subnet(103, 2)), &[]),
    ("other delays", |dhcp4| relationships(dhcp4)[0]["max-unacked-clients"] = json!(3), &[]),
];

/// Goal: a refused reload names what needs a restart, and changes nothing. Method: each change is put into the file as it
/// was at the start, and the file is read again.
#[test]
fn a_hub_takes_what_it_can_and_names_what_needs_a_restart() {
    let mut started = Value::Null;
    let site = Alone::new(|dhcp4| {
        hub(dhcp4);
        started = dhcp4.clone();
    });
    let file = site.folder.path().join("kea-dhcp4.conf");
    let in_force = || site.command("config-get", Value::Null)["arguments"]["Dhcp4"].clone();
    for (what, change, named) in ROWS {
        let mut changed = started.clone();
        change(&mut changed);
        std::fs::write(&file, json!({ "Dhcp4": changed }).to_string()).expect("a configuration");
        let before = in_force();
        let answer = site.command("config-reload", Value::Null);
        let text = answer["text"].as_str().unwrap_or_default();
        if named.is_empty() {
            assert_eq!(answer["result"], 0, "{what}: {answer}");
            assert_ne!(in_force(), before, "{what}");
            continue;
        }
        assert_eq!(answer["result"], 1, "{what}: {answer}");
        assert!(text.contains("a restart is needed: "), "{what}: {text}");
        for part in named {
            assert!(text.contains(part), "{what}: {text}");
        }
        assert_eq!(in_force(), before, "{what}");
        let status = site.command("status-get", Value::Null);
        assert_eq!(status["arguments"]["high-availability"].as_array().map(Vec::len), Some(2), "{what}");
    }
}
