//! Configuration files from disk: the templates compile, and the effective tree is what Kea shows and accepts.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use config::Document;
use serde_json::Value;
use tandem::policy::effective::effective;
use tandem::policy::{Compiled, Host, HostInterface, compile};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of configurations shared between products; `None`, said loudly, where it is not there.
fn shared() -> Option<PathBuf> {
    let folder = root().join("../shared/kea-configs");
    if folder.is_dir() {
        return Some(folder);
    }
    say(&format!("SKIPPED: {} is not there, so the shared configurations are not tried", folder.display()));
    None
}

fn load(path: &Path) -> Document {
    let path = path.to_str().expect("a path of text");
    config::load_dhcp4(path).unwrap_or_else(|error| panic!("{error}")).document
}

fn compiled(document: &Document) -> Compiled {
    let interface = |ifindex, name: &str, address| HostInterface {
        ifindex,
        name: name.to_owned(),
        mac: [2, 0, 0, 0, 0, ifindex as u8],
        addresses: vec![address],
        up: true,
        loopback: name == "lo",
    };
    let interfaces = [
        interface(1, "lo", Ipv4Addr::LOCALHOST),
        interface(2, "eth0", Ipv4Addr::new(192, 0, 2, 1)),
        interface(3, "enp0s8", Ipv4Addr::new(192, 168, 1, 2)),
    ];
    let mut host = Host::new(&interfaces, 1);
    host.interfaces_must_exist = true;
    compile(document, &host).unwrap_or_else(|error| panic!("{error}"))
}

/// The effective tree read back over the control channel and from a file gives the same snapshot and the same tree.
fn assert_round_trip(document: &Document) {
    let tree = effective(document);
    let again = config::dhcp4_from_json(&tree, "<wire>").unwrap_or_else(|error| panic!("{error}")).document;
    assert_eq!(compiled(document).snapshot, compiled(&again).snapshot);
    assert_eq!(tree, effective(&again));
}

/// Written past the test harness, which keeps to itself what a passing test prints.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).expect("stderr takes a line");
}

#[test]
fn templates_compile_without_a_word_but_for_missing_ids_and_come_back_the_same() {
    let Some(folder) = shared() else { return };
    for name in ["2.x/kea-dhcp4-1", "2.x/kea-dhcp4-2", "3.x/kea-dhcp4-1", "3.x/kea-dhcp4-2"] {
        let document = load(&folder.join(format!("template-ha-mt-tls-{name}.conf")));
        let Compiled { snapshot, warnings } = compiled(&document);
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
        assert_eq!((1, 1), (snapshot.subnets.len(), snapshot.interfaces.len()), "{name}");
        let subnet = &snapshot.subnets[0];
        let (first, last) = (Ipv4Addr::new(192, 168, 1, 100), Ipv4Addr::new(192, 168, 1, 199));
        assert_eq!((1, first, last), (subnet.id, subnet.pools[0].first, subnet.pools[0].last), "{name}");
        assert_eq!((Some(21600), Some(32400)), (subnet.renew_timer_s, subnet.rebind_timer_s), "{name}");
        assert_round_trip(&document);
    }
}

#[test]
fn shared_files_without_features_to_come_compile_and_come_back_the_same() {
    let Some(folder) = shared() else { return };
    let names = [
        "advanced",
        "all-options",
        "backends",
        "dhcpv4-over-dhcpv6",
        "leases-expiration",
        "multiple-options",
        "several-subnets",
        "single-subnet",
        "vendor-specific",
        "with-ddns",
    ];
    for name in names {
        let document = load(&folder.join(format!("{name}.json")));
        compiled(&document);
        assert_round_trip(&document);
    }
}

#[test]
fn all_options_of_the_shared_file_are_encoded() {
    let Some(folder) = shared() else { return };
    let Compiled { snapshot, warnings } = compiled(&load(&folder.join("all-options.json")));
    // 52, 57 and 118 are none of a server's business; six sub-options stand in spaces without a container in their
    // scope; 108 is not acted upon; 125 is kept by enterprise. The file lists no interface.
    let lines: Vec<String> = warnings.iter().map(|warning| warning.message.clone()).collect();
    assert_eq!(11, warnings.iter().map(|warning| 1 + warning.repeated).sum::<u32>(), "{lines:#?}");
    assert_eq!(99, snapshot.options.iter().count());
    assert_eq!(
        vec![4491],
        snapshot.options.vendors().iter().map(|vendor| vendor.enterprise).collect::<Vec<u32>>()
    );
}

#[test]
fn effective_tree_of_a_2_2_file_is_what_kea_2_2_shows() {
    let folder = root().join("tests/golden/config-get");
    let document = load(&folder.join("kea-2.2.conf"));
    let shown = fs::read_to_string(folder.join("kea-2.2.json")).expect("the golden file");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let tree = effective(&document);
    let mut differences = Vec::new();
    compare("", &shown["Dhcp4"], &tree["Dhcp4"], &mut differences);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_round_trip(&document);
}

/// Lists what differs, by place: Kea's value, then ours.
fn compare(place: &str, kea: &Value, ours: &Value, differences: &mut Vec<String>) {
    match (kea, ours) {
        (Value::Object(kea), Value::Object(ours)) => {
            let mut keys: Vec<&String> = kea.keys().chain(ours.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let inner =
                    |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                compare(&format!("{place}/{key}"), &inner(kea), &inner(ours), differences);
            }
        }
        (Value::Array(kea), Value::Array(ours)) if kea.len() == ours.len() => {
            for (index, (kea, ours)) in kea.iter().zip(ours).enumerate() {
                compare(&format!("{place}/{index}"), kea, ours, differences);
            }
        }
        _ if kea == ours => {}
        _ => differences.push(format!("{place}: {kea} and {ours}")),
    }
}

#[test]
fn kea_2_2_accepts_the_effective_tree_of_a_2_2_file() {
    let program = Path::new("/usr/sbin/kea-dhcp4");
    if !program.exists() {
        say(&format!(
            "SKIPPED: {} is not installed, so Kea does not judge the effective tree",
            program.display()
        ));
        return;
    }
    let document = load(&root().join("tests/golden/config-get/kea-2.2.conf"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("effective.conf");
    let tree = serde_json::to_string_pretty(&effective(&document)).expect("JSON");
    fs::write(&file, tree).expect("written");
    let output = Command::new(program)
        .arg("-t")
        .arg(&file)
        .current_dir(folder.path())
        .env("KEA_LOCKFILE_DIR", "none")
        .env("KEA_PIDFILE_DIR", folder.path())
        .output()
        .expect("Kea runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
