//! The rules of the house that can be counted, as tests: what the layers may name, how long files and functions are,
//! what never appears.

use std::fs;
use std::path::{Path, PathBuf};

/// Widest line of a document, in characters.
const DOCUMENT_COLUMNS_MAX: usize = 110;

/// Longest file and longest function, in lines.
const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Folders whose code is pure: bytes, events and `now` in, actions out.
const PURE: &[&str] = &[
    "config/src",
    "shards/src/journal",
    "shards/src/partition",
    "shards/src/steer",
    "src/alloc",
    "src/client",
    "src/control",
    "src/dhcp4",
    "src/engine",
    "src/ha",
    "src/http",
    "src/logging",
    "src/policy",
    "src/wire",
];

/// What pure code may not name. `config` reads the files it is asked to include, and nothing else.
const IMPURE_WORDS: &[&str] = &[
    "glommio",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "std::fs",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "thread_rng",
    "rand::rng",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the repository below `folder`, with its text; paths relative to the root.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != ".git") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            found.push((relative, fs::read_to_string(&path).expect("text")));
        }
    }
}

/// The documents at the root, with their texts.
fn documents() -> Vec<(&'static str, String)> {
    let names = ["ARCHITECTURE.md", "CHANGELOG.md", "PERF.md", "README.md"];
    names.map(|name| (name, fs::read_to_string(root().join(name)).expect(name))).into()
}

/// The part of a file that is built outside tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

fn assert_none(what: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{what}:\n{}", findings.join("\n"));
}

#[test]
fn pure_code_names_no_runtime() {
    let mut findings = Vec::new();
    for folder in PURE {
        for (path, text) in sources(folder) {
            let reads_files = path.starts_with("config/src") || path.ends_with("tests.rs");
            for word in IMPURE_WORDS {
                if without_tests(&text).contains(word) && !(reads_files && *word == "std::fs") {
                    findings.push(format!("{path} names {word}"));
                }
            }
            if without_tests(&text).contains("crate::runtime") {
                findings.push(format!("{path} imports runtime"));
            }
        }
    }
    assert_none("pure code reaches for the outside", findings);
}

#[test]
fn unsafe_lives_in_sys_with_its_reason() {
    let mut findings = Vec::new();
    for (path, text) in sources("") {
        let mut reasoned = 0;
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if code.starts_with("// SAFETY:") {
                reasoned = number;
            }
            let uses = [concat!("un", "safe {"), concat!("un", "safe fn"), concat!("un", "safe impl")]
                .iter()
                .any(|word| code.contains(word));
            if !uses || code.starts_with("//") {
                continue;
            }
            if !path.contains("/sys/") {
                findings.push(format!("{path}:{} outside sys", number + 1));
            } else if reasoned + 8 < number || reasoned == 0 {
                findings.push(format!("{path}:{} without a SAFETY note", number + 1));
            }
        }
    }
    assert_none("unsafe code", findings);
}

#[test]
fn files_and_functions_fit_a_screen() {
    let mut findings = Vec::new();
    for (path, text) in sources("") {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.push(format!("{path} has {lines} lines"));
        }
        let mut open: Option<(usize, usize, &str)> = None;
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            let indent = line.len() - code.len();
            let starts = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "async fn ", "pub async fn "];
            if open.is_none() && starts.iter().any(|start| code.starts_with(start)) {
                open = Some((number, indent, code));
            } else if let Some((start, at, name)) = open
                && code.starts_with('}')
                && indent == at
            {
                if number - start > FUNCTION_LINES_MAX {
                    findings.push(format!("{path}:{} {} lines: {name}", start + 1, number - start));
                }
                open = None;
            }
        }
    }
    assert_none("too long", findings);
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = sources("").into_iter().filter(|(_, text)| !text.trim_start().starts_with("//!"));
    assert_none("no module comment", silent.map(|(path, _)| path).collect());
}

#[test]
fn nothing_is_left_to_do_and_no_lint_is_silenced() {
    let banned = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
        concat!("allow(dead", "_code"),
        concat!("allow(un", "used"),
        concat!("db", "g!("),
    ];
    let mut findings = Vec::new();
    for (path, text) in sources("") {
        for (number, line) in text.lines().enumerate() {
            for word in banned {
                if line.contains(word) {
                    findings.push(format!("{path}:{} {word}", number + 1));
                }
            }
        }
    }
    assert_none("left over", findings);
}

#[test]
fn documents_have_one_title_and_lines_and_links_that_hold() {
    let mut findings = Vec::new();
    for (name, text) in documents() {
        if text.lines().filter(|line| line.starts_with("# ")).count() != 1 {
            findings.push(format!("{name} does not have one title"));
        }
        for (number, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > DOCUMENT_COLUMNS_MAX {
                findings.push(format!("{name}:{} has {columns} columns", number + 1));
            }
        }
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with('#')) {
            if !root().join(link).exists() {
                findings.push(format!("{name} leads to {link}, which is not there"));
            }
        }
    }
    assert_none("documents", findings);
}

#[test]
fn every_folder_of_code_is_on_the_map() {
    let (_, map) = documents().into_iter().find(|(name, _)| *name == "ARCHITECTURE.md").expect("a map");
    let mut findings = Vec::new();
    for parent in ["bench/src", "config/src", "loadgen/src", "micro/src", "shards/src", "src", "tests"] {
        for entry in fs::read_dir(root().join(parent)).expect(parent) {
            let entry = entry.expect("an entry");
            let folder = format!("{parent}/{}/", entry.file_name().to_string_lossy());
            if entry.path().is_dir() && !map.contains(&folder) {
                findings.push(folder);
            }
        }
    }
    assert_none("folders that ARCHITECTURE.md does not name", findings);
}
