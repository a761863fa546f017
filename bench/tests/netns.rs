//! The whole program: a matrix of one cell at a tiny rate, and then once more with nothing left to do. Needs
//! root and iproute2, and the other programs beside it (`cargo build --workspace`).

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn bench(out: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tandem-bench"))
        .args(["--quick", "--threads", "1", "--queue", "64", "--durability", "synced", "--probe", "0.5"])
        .args(["--from", "100", "--to", "100", "--out"])
        .arg(out)
        .args(more)
        .output()
        .expect("the program")
}

#[test]
fn a_matrix_of_one_cell_is_measured_kept_and_not_measured_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = bench(folder.path(), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect(name);
    let report: Value = serde_json::from_str(&read("report.json")).expect("JSON");
    assert_eq!((&report["version"], report["cells"].as_array().map(Vec::len)), (&2.into(), Some(1)));
    let measured = &report["cells"][0];
    assert_eq!(
        (&measured["cell"]["threads"], &measured["cell"]["durability"]),
        (&1.into(), &"synced".into())
    );
    let first = &measured["probes"][0];
    assert_eq!(first["rate"], 100.0, "{measured}");
    assert!(first["completed_rate"].as_f64().is_some_and(|rate| rate > 50.0), "{measured}");
    assert_eq!(measured["duplicates"], 0);
    assert!(read("report.md").contains("## Recommendation") && read("report.html").contains("Sizing report"));
    let names: Vec<_> = fs::read_dir(folder.path()).expect("the folder").flatten().collect();
    assert_eq!(names.len(), 3, "leases are removed: {names:?}");

    let output = bench(folder.path(), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains("[1/"), "nothing is measured again: {said}");
    assert_eq!(serde_json::from_str::<Value>(&read("report.json")).expect("JSON"), report);

    // One cell bears no recommendation, whatever the other options; the file stays as it was.
    let configuration = folder.path().join("kea-dhcp4.conf");
    let text = "{ \"Dhcp4\": { \"multi-threading\": { \"thread-pool-size\": 4 } } } // ours";
    fs::write(&configuration, text).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_tandem-bench"))
        .args(["--out".as_ref(), folder.path().as_os_str(), "--write".as_ref(), configuration.as_os_str()])
        .output()
        .expect("the program");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing is written: nothing else was measured"), "{said}");
    assert_eq!(read("kea-dhcp4.conf"), text);
}

#[test]
fn missing_programs_are_code_1_and_a_bad_command_line_code_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = bench(folder.path(), &["--programs", "no-such-folder"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tandem-dhcp4 is missing"));
    assert_eq!(bench(folder.path(), &["--no-such-option"]).status.code(), Some(2));
}
