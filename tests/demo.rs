//! `tandem demo` as a user runs it: the built program, its exit code and what it says.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The demo's processes and folders have this folder in their paths, and no other run has.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tandem"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", folder)
        .output()
        .expect("the demo starts")
}

/// Command lines of processes that name `folder`.
fn processes(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("a UTF-8 path");
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(folder))
        .collect()
}

fn assert_nothing_is_left(folder: &Path) {
    let left: Vec<_> = std::fs::read_dir(folder).expect("the folder").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(processes(folder), Vec::<String>::new());
}

#[test]
fn the_pair_loses_its_primary_and_no_lease() {
    let folder = tempfile::tempdir().expect("a folder");
    let started = Instant::now();
    let output = run(folder.path(), &["--rate", "60", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert!(started.elapsed() < Duration::from_secs(90), "{:?}", started.elapsed());
    for step in
        ["certificates", "configuration", "pair", "serving", "SIGKILL", "take-over", "return", "proof"]
    {
        assert!(said.contains(&format!("✓ {step} ")), "{step}: {said}");
    }
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number: {report}"));
    let clients = number(&report["clients"]);
    assert!(clients > 500, "{clients} clients");
    assert_eq!(report["clients_served"], report["clients"]);
    assert_eq!(report["failures"], Value::Array(Vec::new()));
    for file in report["files"].as_array().expect("two files") {
        assert_eq!((number(&file["acknowledged"]), number(&file["found"])), (clients, clients), "{file}");
    }
    // The standby cannot know sooner: the partner has to be silent for 3 s, counted from its last word.
    assert!((2_400..15_000).contains(&number(&report["take_over_ms"])), "{report}");
    let acks: Vec<_> = report["phases"].as_array().expect("acts").iter().map(|act| &act["acks"]).collect();
    let [whole, killed, alone, _, again] = acks[..] else { panic!("five acts: {report}") };
    assert!(number(&whole[0]) > 200 && number(&whole[1]) == 0, "{report}");
    assert!(number(&killed[1]) > 0, "{report}");
    assert!(number(&alone[0]) == 0 && number(&alone[1]) > 200, "{report}");
    assert!(number(&again[0]) > 200, "{report}");
    assert_nothing_is_left(folder.path());
}

/// `tandem status` for the servers of the demo in `folder`.
fn status(folder: &Path) -> Output {
    let demo = std::fs::read_dir(folder).expect("the folder").flatten().next();
    let sockets = ["server1", "server2"]
        .map(|name| demo.as_ref().map_or(folder.to_owned(), |demo| demo.path()).join(name).join("control"));
    Command::new(env!("CARGO_BIN_EXE_tandem")).arg("status").args(sockets).output().expect("the status")
}

#[test]
fn a_pair_shows_its_status_and_an_interrupted_demo_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .arg("demo")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the demo starts");
    let started = Instant::now();
    let mut seen = status(folder.path());
    assert_eq!(seen.status.code(), Some(2), "nobody can have answered yet: {seen:?}");
    while !seen.status.success() {
        assert!(started.elapsed() < Duration::from_secs(30), "not whole: {seen:?}");
        std::thread::sleep(Duration::from_millis(50));
        seen = status(folder.path());
    }
    let text = String::from_utf8_lossy(&seen.stdout);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..5], ["server1", "primary", "hot-standby", "serves", "server1"], "{text}");
    assert_eq!(lines[2][..5], ["server2", "standby", "hot-standby", "serves", "nobody"], "{text}");
    assert!(text.ends_with("All is well.\n"), "{text}");
    assert_eq!(processes(folder.path()).len(), 2);
    let pid = demo.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    assert_eq!(demo.wait().expect("its end").code(), Some(130));
    assert_nothing_is_left(folder.path());
}

#[test]
fn what_is_not_understood_is_refused_with_the_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), &["--rate", "0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("10..=1000"));
    assert_nothing_is_left(folder.path());
}
