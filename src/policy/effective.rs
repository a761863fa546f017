//! The effective configuration, as `config-get` shows it and `config-write` writes it (API-30).
//!
//! The tree of the file with defaults filled in, inherited values copied into subnets, comments folded into
//! `user-context`, and options named. Spellings stay those of the file, and a file of the 2.2 dialect gets only keys
//! that Kea 2.2 knows. Reading the result again gives the same snapshot.

use std::collections::HashMap;

use config::diagnostics::Diagnostics;
use config::{Dialect, Document};
use serde_json::{Map, Value, json};

use super::compile::definitions;
use super::option::SPACE_DHCP4;
use super::option::definitions::Definitions;
use super::subnet::{CACHE_THRESHOLD, T1_PERCENT, T2_PERCENT, VALID_LIFETIME_S};

type Object = Map<String, Value>;

/// `{"Dhcp4": …}` for `document`; characters stand for octets as everywhere on the control channel.
pub fn effective(document: &Document) -> Value {
    let mut tree = document.tree.to_json();
    fold_comments(&mut tree);
    // Custom definitions were sound when the document was compiled; one that is not names nothing here.
    let definitions = definitions(document, &mut Diagnostics::default());
    if let Value::Object(dhcp4) = &mut tree {
        globals(dhcp4, document.dialect);
        maps(dhcp4, document.dialect);
        options(dhcp4, &definitions, document.dialect);
        definitions_in_full(dhcp4);
        loggers(dhcp4);
        subnets(dhcp4, document, &definitions);
    }
    json!({ "Dhcp4": tree })
}

/// The text whose SHA-256 is the hash of a configuration (API-31): compact, keys sorted.
pub fn hash_text(effective: &Value) -> String {
    effective.to_string()
}

/// Moves every `comment` into the `user-context` beside it. What hook libraries and user contexts hold is theirs.
fn fold_comments(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(fold_comments),
        Value::Object(entries) => {
            if let Some(comment) = entries.remove("comment") {
                let context = entries.entry("user-context").or_insert_with(|| json!({}));
                if let Value::Object(context) = context {
                    context.insert("comment".to_owned(), comment);
                }
            }
            let foreign = |key: &str| matches!(key, "parameters" | "user-context");
            entries.iter_mut().filter(|(key, _)| !foreign(key)).for_each(|(_, inner)| fold_comments(inner));
        }
        _ => {}
    }
}

/// Puts in what is not there yet.
fn fill(entries: &mut Object, defaults: Value) {
    if let Value::Object(defaults) = defaults {
        for (key, value) in defaults {
            entries.entry(key).or_insert(value);
        }
    }
}

/// The map under `key`, made empty where the file has none.
fn inner<'a>(entries: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    entries.entry(key).or_insert_with(|| json!({})).as_object_mut()
}

/// The maps in the list under `key`.
fn listed<'a>(entries: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> {
    entries.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn globals(dhcp4: &mut Object, dialect: Dialect) {
    reservation_modes(dhcp4);
    fill(
        dhcp4,
        json!({
            "authoritative": false,
            "boot-file-name": "",
            "calculate-tee-times": false,
            "ddns-generated-prefix": "myhost",
            "ddns-override-client-update": false,
            "ddns-override-no-update": false,
            "ddns-qualifying-suffix": "",
            "ddns-replace-client-name": "never",
            "ddns-send-updates": true,
            "ddns-update-on-renew": false,
            "decline-probation-period": 86400,
            "dhcp4o6-port": 0,
            "early-global-reservations-lookup": false,
            "echo-client-id": true,
            "hooks-libraries": [],
            "host-reservation-identifiers": ["hw-address", "duid", "circuit-id", "client-id"],
            "hostname-char-replacement": "",
            "hostname-char-set": "[^A-Za-z0-9.-]",
            "ip-reservations-unique": true,
            "match-client-id": true,
            "next-server": "0.0.0.0",
            "option-data": [],
            "option-def": [],
            "parked-packet-limit": 256,
            "reservations-global": false,
            "reservations-in-subnet": true,
            "reservations-lookup-first": false,
            "reservations-out-of-pool": false,
            "server-hostname": "",
            "server-tag": "",
            "shared-networks": [],
            "statistic-default-sample-age": 0,
            "statistic-default-sample-count": 20,
            "store-extended-info": false,
            "subnet4": [],
            "t1-percent": T1_PERCENT,
            "t2-percent": T2_PERCENT,
            "valid-lifetime": VALID_LIFETIME_S,
        }),
    );
    match dialect {
        Dialect::Kea2_2 => fill(dhcp4, json!({ "ddns-use-conflict-resolution": true })),
        Dialect::Kea3 => {
            if !dhcp4.contains_key("ddns-use-conflict-resolution") {
                fill(dhcp4, json!({ "ddns-conflict-resolution-mode": "check-with-dhcid" }));
            }
            fill(
                dhcp4,
                json!({
                    "allocator": "iterative",
                    "cache-threshold": CACHE_THRESHOLD,
                    "offer-lifetime": 0,
                    "stash-agent-options": false,
                }),
            );
        }
    }
}

fn maps(dhcp4: &mut Object, dialect: Dialect) {
    let sections = [
        ("interfaces-config", json!({ "interfaces": [], "re-detect": true })),
        ("lease-database", json!({ "type": "memfile" })),
        (
            "expired-leases-processing",
            json!({
                "flush-reclaimed-timer-wait-time": 25,
                "hold-reclaimed-time": 3600,
                "max-reclaim-leases": 100,
                "max-reclaim-time": 250,
                "reclaim-timer-wait-time": 10,
                "unwarned-reclaim-cycles": 5,
            }),
        ),
        (
            "multi-threading",
            json!({ "enable-multi-threading": true, "packet-queue-size": 64, "thread-pool-size": 0 }),
        ),
        ("dhcp-queue-control", json!({ "capacity": 64, "enable-queue": false, "queue-type": "kea-ring4" })),
        (
            "dhcp-ddns",
            json!({
                "enable-updates": false,
                "max-queue-size": 1024,
                "ncr-format": "JSON",
                "ncr-protocol": "UDP",
                "sender-ip": "0.0.0.0",
                "sender-port": 0,
                "server-ip": "127.0.0.1",
                "server-port": 53001,
            }),
        ),
        (
            "sanity-checks",
            match dialect {
                Dialect::Kea2_2 => json!({ "lease-checks": "warn" }),
                Dialect::Kea3 => json!({ "extended-info-checks": "fix", "lease-checks": "warn" }),
            },
        ),
    ];
    for (key, defaults) in sections {
        if let Some(section) = inner(dhcp4, key) {
            fill(section, defaults);
        }
    }
    for socket in listed(dhcp4, "control-sockets") {
        match socket.get("socket-type").and_then(Value::as_str) {
            Some("https") => fill(
                socket,
                json!({ "cert-required": true, "socket-address": "127.0.0.1", "socket-port": 8000 }),
            ),
            Some("http") => fill(socket, json!({ "socket-address": "127.0.0.1", "socket-port": 8000 })),
            _ => {}
        }
    }
}

/// The old one-word form becomes the switches it stands for (CFG-33); what lies out of the pool matters only where
/// reservations in the subnet count.
fn reservation_modes(scope: &mut Object) {
    let mode = scope.get("reservation-mode").and_then(Value::as_str);
    let switches = match mode {
        Some("disabled" | "off") => json!({ "reservations-global": false, "reservations-in-subnet": false }),
        Some("out-of-pool") => {
            json!({
                "reservations-global": false,
                "reservations-in-subnet": true,
                "reservations-out-of-pool": true,
            })
        }
        Some("global") => json!({ "reservations-global": true, "reservations-in-subnet": false }),
        Some("all") => {
            json!({
                "reservations-global": false,
                "reservations-in-subnet": true,
                "reservations-out-of-pool": false,
            })
        }
        _ => return,
    };
    scope.remove("reservation-mode");
    fill(scope, switches);
}

/// Gives every `option-data` entry of a scope its code, its name where one exists, and its switches.
fn options(scope: &mut Object, definitions: &Definitions, dialect: Dialect) {
    fill(scope, json!({ "option-data": [] }));
    for option in listed(scope, "option-data") {
        fill(option, json!({ "always-send": false, "space": SPACE_DHCP4 }));
        if dialect == Dialect::Kea3 {
            fill(option, json!({ "never-send": false }));
        }
        let space = option.get("space").and_then(Value::as_str).unwrap_or(SPACE_DHCP4);
        let code = option.get("code").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
        let name = option.get("name").and_then(Value::as_str);
        let definition = match (code, name) {
            (Some(code), _) => definitions.by_code(space, code),
            (None, Some(name)) => definitions.by_name(space, name),
            (None, None) => None,
        };
        match definition {
            Some(definition) => {
                let defaults =
                    json!({ "code": definition.code, "csv-format": true, "name": definition.name });
                fill(option, defaults);
            }
            None => fill(option, json!({ "csv-format": false })),
        }
    }
}

fn definitions_in_full(dhcp4: &mut Object) {
    for definition in listed(dhcp4, "option-def") {
        fill(
            definition,
            json!({ "array": false, "encapsulate": "", "record-types": "", "space": SPACE_DHCP4 }),
        );
    }
}

fn loggers(dhcp4: &mut Object) {
    for logger in listed(dhcp4, "loggers") {
        fill(logger, json!({ "debuglevel": 0, "severity": "INFO" }));
        for key in ["output-options", "output_options"] {
            for output in listed(logger, key) {
                fill(output, json!({ "flush": true, "pattern": "" }));
                let destination = output.get("output").and_then(Value::as_str).unwrap_or_default();
                let is_file =
                    !matches!(destination, "stdout" | "stderr") && !destination.starts_with("syslog");
                if is_file {
                    fill(output, json!({ "maxsize": 10_240_000, "maxver": 1 }));
                }
            }
        }
    }
}

/// Settings that Kea resolves when it reads a file, so that subnets show them.
const COPIED: [&str; 12] = [
    "adaptive-lease-time-threshold",
    "allocator",
    "cache-max-age",
    "cache-threshold",
    "calculate-tee-times",
    "offer-lifetime",
    "rebind-timer",
    "renew-timer",
    "store-extended-info",
    "t1-percent",
    "t2-percent",
    "valid-lifetime",
];

fn subnets(dhcp4: &mut Object, document: &Document, definitions: &Definitions) {
    let mut globals: Object =
        COPIED.iter().filter_map(|key| Some(((*key).to_owned(), dhcp4.get(*key)?.clone()))).collect();
    for key in ["max-valid-lifetime", "min-valid-lifetime"] {
        if let Some(bound) = dhcp4.get(key) {
            globals.insert(key.to_owned(), bound.clone());
        }
    }
    let numbers = numbers(document);
    for subnet in listed(dhcp4, "subnet4") {
        reservation_modes(subnet);
        fill(subnet, Value::Object(globals.clone()));
        let valid = subnet.get("valid-lifetime").cloned().unwrap_or_else(|| json!(VALID_LIFETIME_S));
        fill(
            subnet,
            json!({
                "4o6-interface": "",
                "4o6-interface-id": "",
                "4o6-subnet": "",
                "max-valid-lifetime": valid,
                "min-valid-lifetime": valid,
                "pools": [],
                "reservations": [],
            }),
        );
        relay(subnet);
        number(subnet, &numbers);
        options(subnet, definitions, document.dialect);
        for pool in listed(subnet, "pools") {
            options(pool, definitions, document.dialect);
            if let Some(Value::String(range)) = pool.get_mut("pool") {
                range.retain(|symbol| !symbol.is_ascii_whitespace());
            }
        }
    }
    if let Some(Value::Array(subnets)) = dhcp4.get_mut("subnet4") {
        subnets.sort_by_key(|subnet| subnet.get("id").and_then(Value::as_u64));
    }
}

/// One address under `ip-address` is a list of one.
fn relay(subnet: &mut Object) {
    if let Some(relay) = inner(subnet, "relay") {
        let addresses: Vec<Value> = relay.remove("ip-address").into_iter().collect();
        relay.entry("ip-addresses").or_insert(Value::Array(addresses));
    }
}

/// Ids by prefix: a subnet the file gives no id has the one it was numbered with (CFG-31).
fn numbers(document: &Document) -> HashMap<String, u32> {
    document.subnets.iter().map(|subnet| (subnet.prefix.value.to_string(), subnet.id.value)).collect()
}

fn number(subnet: &mut Object, numbers: &HashMap<String, u32>) {
    let mut prefix = subnet.get("subnet").and_then(Value::as_str).unwrap_or_default().to_owned();
    prefix.retain(|symbol| !symbol.is_ascii_whitespace());
    if let Some(id) = numbers.get(&prefix) {
        subnet.insert("id".to_owned(), json!(id));
    }
}
