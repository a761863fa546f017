//! What may change in a configuration and what may not: tables, properties, and every file of the field.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

const ALL: Settings =
    Settings { threads: Some(2), queue: Some(128), listeners: Some(3), senders: Some(5), parked: Some(1024) };

const SERVER: Settings =
    Settings { threads: Some(2), queue: Some(128), listeners: None, senders: None, parked: None };

/// The text with `settings`, also where the grammar does not want it as it stands, as with an empty map.
fn after(text: &str, settings: &Settings) -> (String, Vec<Change>) {
    let changes = check_file("f", text.as_bytes(), settings);
    let tree = parse_value_of_file(text.as_bytes(), "f").expect(text).document;
    let edits = edit::plan(text.as_bytes(), &tree, settings).edits;
    (String::from_utf8(edit::apply(text.as_bytes(), &edits)).expect("text"), changes)
}

#[test]
fn values_are_changed_where_they_stand_and_what_is_missing_goes_behind_a_neighbour() {
    // (before, after)
    let table = [
        (
            "{ \"Dhcp4\": { \"multi-threading\": { \"thread-pool-size\": 4, \"packet-queue-size\":64 } } }",
            "{ \"Dhcp4\": { \"multi-threading\": { \"thread-pool-size\": 2, \"packet-queue-size\":128 } } }",
        ),
        // Off is turned on, or the numbers would mean nothing.
        (
            "{\"Dhcp4\":{\"multi-threading\":{\"enable-multi-threading\":false,\"thread-pool-size\":4}}}",
            "{\"Dhcp4\":{\"multi-threading\":{\"enable-multi-threading\":true,\"thread-pool-size\":2, \
             \"packet-queue-size\": 128}}}",
        ),
        (
            "{ \"Dhcp4\": {} }",
            "{ \"Dhcp4\": { \"multi-threading\": { \"enable-multi-threading\": true, \"thread-pool-size\": 2, \
             \"packet-queue-size\": 128 } } }",
        ),
        (
            "{\n\t\"Dhcp4\": { // all of it\n\t}\n}\n",
            "{\n\t\"Dhcp4\": { // all of it\n\t    \"multi-threading\": {\n\t        \"enable-multi-threading\": true,\n\
             \t        \"thread-pool-size\": 2,\n\t        \"packet-queue-size\": 128\n\t    }\n\t}\n}\n",
        ),
        // The remark on its line stays with the neighbour; the comma comes before it.
        (
            "{\n  \"Dhcp4\": {\n    \"valid-lifetime\": 60 # a minute\n  }\n}",
            "{\n  \"Dhcp4\": {\n    \"valid-lifetime\": 60, # a minute\n    \"multi-threading\": {\n      \
             \"enable-multi-threading\": true,\n      \"thread-pool-size\": 2,\n      \
             \"packet-queue-size\": 128\n    }\n  }\n}",
        ),
        // Behind the interfaces, whatever follows; a file with carriage returns keeps them.
        (
            "{\"Dhcp4\": {\r\n\t\"interfaces-config\": {}, /* one */ // two\r\n\t\"valid-lifetime\": 60\r\n}}",
            "{\"Dhcp4\": {\r\n\t\"interfaces-config\": {}, /* one */ // two\r\n\t\"multi-threading\": {\r\n\t\t\
             \"enable-multi-threading\": true,\r\n\t\t\"thread-pool-size\": 2,\r\n\t\t\"packet-queue-size\": 128\
             \r\n\t},\r\n\t\"valid-lifetime\": 60\r\n}}",
        ),
        // A comma at the begin of the next line, and one that nothing follows.
        (
            "{\"Dhcp4\": {\n \"multi-threading\": {\n  \"thread-pool-size\": 2\n  }\n , \"valid-lifetime\": 60,\n}}",
            "{\"Dhcp4\": {\n \"multi-threading\": {\n  \"thread-pool-size\": 2,\n  \"packet-queue-size\": 128\n  }\n \
             , \"valid-lifetime\": 60,\n}}",
        ),
        (
            "{\"Dhcp4\": {\n \"multi-threading\": {\n  \"thread-pool-size\": 2, /* of\n two */\n  } }}",
            "{\"Dhcp4\": {\n \"multi-threading\": {\n  \"thread-pool-size\": 2, \"packet-queue-size\": 128, /* of\n \
             two */\n  } }}",
        ),
    ];
    for (before, expected) in table {
        let (found, _) = after(before, &SERVER);
        assert_eq!(found, expected, "\n{found}");
        assert_eq!(after(&found, &SERVER).0, found, "a second time changes nothing");
    }
}

#[test]
fn the_block_of_the_pair_is_changed_or_added_and_its_absence_is_told() {
    let file = |block: &str| {
        format!(
            "{{ \"Dhcp4\": {{ \"hooks-libraries\": [ {{ \"library\": \"libdhcp_lease_cmds.so\" }}, {{ \
             \"library\": \"libdhcp_ha.so\", \"parameters\": {{ \"high-availability\": [ {{\n\
             \"this-server-name\": \"a\", \"mode\": \"hot-standby\"{block},\n\
             \"peers\": [ {{ \"name\": \"a\", \"role\": \"primary\", \"url\": \"http://192.0.2.1:8005/\" }},\n\
             {{ \"name\": \"b\", \"role\": \"standby\", \"url\": \"http://192.0.2.2:8005/\" }} ]\n}} ] }} }} ] }} }}"
        )
    };
    let pair = Settings { listeners: Some(3), senders: Some(5), ..Settings::default() };
    let (found, changes) = after(&file(", \"multi-threading\": { \"http-client-threads\": 0 }"), &pair);
    assert!(found.contains("{ \"http-client-threads\": 5, \"http-listener-threads\": 3 }"), "{found}");
    assert_eq!(changes.len(), 2, "{changes:?}");
    let dedicated =
        ", \"multi-threading\": { \"http-dedicated-listener\": false, \"http-client-threads\": 5 }";
    assert!(after(&file(dedicated), &pair).0.contains("\"http-dedicated-listener\": false"));
    let (found, _) = after(&file(""), &pair);
    let block = "\"multi-threading\": {\n    \"enable-multi-threading\": true,\n    \
                 \"http-dedicated-listener\": true,\n    \"http-listener-threads\": 3,\n    \
                 \"http-client-threads\": 5\n}";
    assert!(found.contains(block), "{found}");
    let (found, changes) = after("{ \"Dhcp4\": { \"valid-lifetime\": 60 } }", &pair);
    assert_eq!(found, "{ \"Dhcp4\": { \"valid-lifetime\": 60 } }");
    let told = changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>().join(" ");
    assert!(told.contains("http-listener-threads") && told.contains("http-client-threads"), "{told}");
    assert!(changes.iter().all(|change| matches!(change.fate, Fate::Left(_))), "{changes:?}");
}

#[test]
fn what_stands_in_an_included_file_is_told_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let inner = "{ \"thread-pool-size\": 4 }";
    fs::write(path("inner"), inner).expect("a file");
    let main = format!("{{ \"Dhcp4\": {{ \"multi-threading\": <?include \"{}\"?> }} }}", path("inner"));
    fs::write(path("main"), &main).expect("a file");
    let written =
        write(Path::new(&path("main")), &Settings { parked: Some(1024), ..SERVER }).expect("written");
    let said = written.to_string();
    assert!(said.contains("1 value changed") && said.contains("inner:1.23, as 4"), "{said}");
    assert!(said.contains("packet-queue-size: 128 is not written: the map they belong to"), "{said}");
    assert_eq!(fs::read_to_string(path("inner")).expect("text"), inner);
    let found = fs::read_to_string(path("main")).expect("text");
    assert_eq!(found, main.replace("{ \"multi", "{ \"parked-packet-limit\": 1024,  \"multi"));
}

#[test]
fn the_file_keeps_mode_and_link_and_a_file_that_is_not_valid_is_not_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "{ \"Dhcp4\": { \"multi-threading\": { \"thread-pool-size\": 4 } } }").expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    let said = write(&link, &SERVER).expect("written").to_string();
    assert!(
        said.contains("line 1\n    - \"thread-pool-size\": 4\n    + \"thread-pool-size\": 2\n"),
        "{said}"
    );
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o640);
    assert!(link.is_symlink());
    assert!(fs::read_to_string(&file).expect("text").contains("\"thread-pool-size\": 2"));
    assert!(write(&link, &SERVER).expect("written").to_string().contains("nothing to change"));

    for bad in [
        "{ \"Dhcp4\": { \"multi-threadin\": {} } }",
        "{ \"Dhcp4\": ",
        "{ \"Dhcp4\": { \"multi-threading\": 4 } }",
    ] {
        fs::write(&file, bad).expect("a file");
        let error = write(&file, &SERVER).expect_err(bad).to_string();
        assert!(error.contains("nothing is written") && error.contains("file:1."), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("text"), bad);
    }
    let names = fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(names, 2, "no file is left over");
}

/// Every server configuration at hand: our examples and, where they are, the files of the field.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("../config/examples")];
    let field = root.join("../../shared/kea-configs");
    if field.exists() {
        folders.extend(["", "template-ha-mt-tls-2.x", "template-ha-mt-tls-3.x"].map(|name| field.join(name)));
    } else {
        eprintln!("SKIPPED: {} is not there, only our own examples are tried", field.display());
    }
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder").flatten());
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Checks that `text` becomes what it shall be and is otherwise what it was, also where a feature that is not
/// built yet keeps the file from being valid.
fn check_file(name: &str, text: &[u8], settings: &Settings) -> Vec<Change> {
    let tree = parse_value_of_file(text, name).expect(name).document;
    let plan = edit::plan(text, &tree, settings);
    let found = edit::apply(text, &plan.edits);
    // By another way than `apply`: old and new text agree between the edits, and nothing else is in the new
    // one.
    let (mut old_at, mut new_at) = (0, 0);
    for edit in &plan.edits {
        let same = edit.at - old_at;
        assert_eq!(&found[new_at..new_at + same], &text[old_at..edit.at], "{name}");
        new_at += same;
        assert_eq!(&found[new_at..new_at + edit.inserted.len()], edit.inserted.as_bytes(), "{name}");
        assert!(
            text[edit.at..edit.at + edit.removed].iter().all(u8::is_ascii_alphanumeric),
            "{name}: {edit:?}"
        );
        (old_at, new_at) = (edit.at + edit.removed, new_at + edit.inserted.len());
    }
    assert_eq!(&found[new_at..], &text[old_at..], "{name}");
    let mut expected = tree.to_json();
    for change in plan.changes.iter().filter(|change| !matches!(change.fate, Fate::Left(_))) {
        set(&mut expected, change).expect(name);
    }
    let after = parse_value_of_file(&found, name).expect(name).document;
    assert_eq!(after.to_json(), expected, "{name}");
    if dhcp4_from_value(&tree).is_ok() {
        let again = edited(text, name, settings).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(again.0, found, "{name}");
        assert_eq!(edited(&found, name, settings).expect(name).0, found, "{name}: a second time");
    }
    plan.changes
}

#[test]
fn every_file_at_hand_is_changed_in_its_values_alone() {
    let mut pairs = 0;
    for path in files() {
        let name = path.to_string_lossy();
        let text = fs::read(&path).expect("text");
        if name.contains("agent") || name.contains("kea-ca") {
            let error = edited(&text, &name, &ALL).expect_err("a control agent has no such values");
            assert!(error.to_string().contains("Dhcp4"), "{error}");
            continue;
        }
        let changes = check_file(&name, &text, &ALL);
        let count = |prefix| changes.iter().filter(|change| change.path.starts_with(prefix)).count();
        assert!(count("multi-threading.") >= 2 && count("parked-packet-limit") == 1, "{name}: {changes:?}");
        let left = changes.iter().filter(|change| matches!(change.fate, Fate::Left(_))).count();
        pairs += usize::from(left == 0);
        assert!(left == 0 || left == count(edit::PAIR), "{name}: {changes:?}");
    }
    assert!(pairs >= 2, "our own examples are a pair");
}

/// Blanks and comments, as they stand between the words of a file.
fn trivia() -> impl Strategy<Value = &'static str> {
    let kinds = [
        "",
        " ",
        "\n",
        "\r\n",
        "\n\t ",
        " // a, { remark\n",
        "# \"b\": 2 }\n",
        " /* c\n \" */ ",
        "/**/ # d\r\n",
    ];
    proptest::sample::select(kinds.to_vec())
}

/// A configuration with some of the values, in any order, its words separated by anything that may separate
/// them.
fn configuration() -> impl Strategy<Value = String> {
    let block = proptest::sample::subsequence(
        vec![("enable-multi-threading", "false"), ("thread-pool-size", "004"), ("packet-queue-size", "7")],
        0..=3,
    )
    .prop_shuffle();
    let others = proptest::sample::subsequence(
        vec![
            ("valid-lifetime", "60"),
            ("user-context", "{\"a\":[1,{\"b\":\"}\"}],\"é\":\"\\\"\"}"),
            ("interfaces-config", "{\"interfaces\":[\"*\"]}"),
            ("parked-packet-limit", "1"),
            ("multi-threading", "BLOCK"),
            ("subnet4", "[]"),
        ],
        0..=6,
    )
    .prop_shuffle();
    let blanks = proptest::collection::vec(trivia(), 64);
    (block, others, blanks, any::<bool>()).prop_map(|(block, others, blanks, comma)| {
        let mut blanks = blanks.into_iter().cycle();
        let mut map = |members: &[(&str, &str)]| {
            let mut text = String::from("{");
            for (number, (key, value)) in members.iter().enumerate() {
                let mut blank = || blanks.next().unwrap_or_default();
                let separator = if number > 0 { "," } else { "" };
                text.push_str(
                    &[separator, blank(), &format!("\"{key}\""), blank(), ":", blank(), value, blank()]
                        .concat(),
                );
            }
            text.push_str(if comma && !members.is_empty() { "," } else { "" });
            text.push_str(blanks.next().unwrap_or_default());
            text + "}"
        };
        let block = map(&block);
        format!("{{\"Dhcp4\":{}}}", map(&others).replace("BLOCK", &block))
    })
}

proptest! {
    #[test]
    fn octets_outside_the_values_stay_whatever_stands_between_them(
        text in configuration(),
        threads in proptest::option::of(1_u16..200),
        queue in proptest::option::of(1_u32..70_000),
        parked in proptest::option::of(0_u32..4),
    ) {
        let settings = Settings { threads, queue, parked, ..Settings::default() };
        let changes = check_file("generated", text.as_bytes(), &settings);
        prop_assert!(changes.iter().all(|change| !matches!(change.fate, Fate::Left(_))), "{:?}\n{}", changes, text);
    }
}
