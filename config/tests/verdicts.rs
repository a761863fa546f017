//! The verdict for each file of the field: what is refused and what is warned about, by key.
//!
//! Every file must parse, and nothing but a feature that is not built yet may be refused.

use std::io::Write;
use std::path::{Path, PathBuf};

use config::{ConfigError, Diagnostic};

/// File, keys with errors, keys with warnings; each key once, in the order found.
type Verdict = (&'static str, &'static [&'static str], &'static [&'static str]);

const SHARED: &[Verdict] = &[
    ("advanced.json", &[], &["outbound-interface", "sanity-checks"]),
    (
        "all-keys.json",
        &[
            "test",
            "template-test",
            "authentication",
            "hosts-databases",
            "client-classes",
            "shared-networks",
            "config-control",
            "library",
        ],
        &[
            "client-classes",
            "lenient-option-parsing",
            "http-headers",
            "ddns-update-on-renew",
            "ddns-ttl-percent",
            "ddns-ttl-min",
            "ddns-ttl-max",
            "service-sockets-require-all",
            "service-sockets-max-retries",
            "statistic-default-sample-count",
            "statistic-default-sample-age",
            "server-tag",
            "dhcp-queue-control",
            "adaptive-lease-time-threshold",
            "hostname-char-replacement",
            "debuglevel",
        ],
    ),
    ("all-options.json", &[], &[]),
    ("backends.json", &[], &[]),
    ("classify.json", &["test", "reservations", "client-classes"], &["client-classes"]),
    ("comments.json", &["test", "authentication", "shared-networks"], &["client-classes", "socket-type"]),
    ("dhcpv4-over-dhcpv6.json", &[], &["4o6-interface", "4o6-subnet", "dhcp4o6-port"]),
    (
        "ha-load-balancing-server1-mt-with-tls.json",
        &["test", "client-classes"],
        &["client-classes", "require-client-certs", "debuglevel"],
    ),
    ("hooks-rbac.json", &["library"], &[]),
    ("hooks.json", &["library"], &[]),
    ("leases-expiration.json", &[], &[]),
    ("multiple-options.json", &[], &[]),
    ("mysql-reservations.json", &["hosts-databases", "library"], &[]),
    ("pgsql-reservations.json", &["hosts-databases", "library"], &[]),
    ("reservations.json", &["reservations"], &[]),
    ("several-subnets.json", &[], &[]),
    ("shared-network.json", &["shared-networks"], &[]),
    ("single-subnet.json", &[], &[]),
    ("template-ha-mt-tls-2.x/kea-ca-1.conf", &[], &[]),
    ("template-ha-mt-tls-2.x/kea-ca-2.conf", &[], &[]),
    ("template-ha-mt-tls-2.x/kea-dhcp4-1.conf", &[], &["id", "require-client-certs"]),
    ("template-ha-mt-tls-2.x/kea-dhcp4-2.conf", &[], &["id", "require-client-certs"]),
    ("template-ha-mt-tls-3.x/kea-dhcp4-1.conf", &[], &["id", "require-client-certs"]),
    ("template-ha-mt-tls-3.x/kea-dhcp4-2.conf", &[], &["id", "require-client-certs"]),
    ("vendor-specific.json", &[], &["client-classes"]),
    (
        "with-ddns.json",
        &[],
        &[
            "dhcp-ddns",
            "ddns-override-no-update",
            "ddns-override-client-update",
            "ddns-replace-client-name",
            "ddns-generated-prefix",
            "ddns-qualifying-suffix",
            "ddns-ttl-percent",
            "hostname-char-replacement",
        ],
    ),
];

/// The examples of Debian's kea-doc (2.2).
const DEBIAN: &[Verdict] = &[
    ("agent/comments.json", &["authentication"], &["http-host"]),
    ("agent/https.json", &[], &[]),
    ("agent/rbac.json", &["hooks-libraries"], &[]),
    ("agent/simple.json", &["authentication", "hooks-libraries"], &["http-host"]),
    ("kea4/advanced.json", &[], &["outbound-interface", "sanity-checks", "id"]),
    (
        "kea4/all-keys-netconf.json",
        &["test", "hosts-databases", "shared-networks", "config-control"],
        &[
            "client-classes",
            "lenient-option-parsing",
            "ddns-update-on-renew",
            "dhcp4o6-port",
            "service-sockets-require-all",
            "service-sockets-max-retries",
            "statistic-default-sample-count",
            "statistic-default-sample-age",
            "server-tag",
            "dhcp-queue-control",
            "hostname-char-replacement",
            "debuglevel",
        ],
    ),
    (
        "kea4/all-keys.json",
        &["test", "hosts-databases", "shared-networks", "config-control"],
        &[
            "client-classes",
            "lenient-option-parsing",
            "ddns-update-on-renew",
            "dhcp4o6-port",
            "service-sockets-require-all",
            "service-sockets-max-retries",
            "statistic-default-sample-count",
            "statistic-default-sample-age",
            "server-tag",
            "dhcp-queue-control",
            "hostname-char-replacement",
            "debuglevel",
        ],
    ),
    ("kea4/all-options.json", &[], &["id"]),
    ("kea4/backends.json", &[], &["id"]),
    ("kea4/classify.json", &["test", "reservations", "client-class"], &["client-classes", "id"]),
    (
        "kea4/classify2.json",
        &["test", "reservations", "client-class"],
        &["client-classes", "require-client-classes", "id"],
    ),
    ("kea4/comments.json", &["test", "shared-networks"], &["client-classes"]),
    ("kea4/config-backend.json", &["config-control", "library"], &["server-tag"]),
    ("kea4/dhcpv4-over-dhcpv6.json", &[], &["4o6-interface", "4o6-subnet", "dhcp4o6-port", "id"]),
    ("kea4/global-reservations.json", &["reservations"], &["id"]),
    ("kea4/ha-load-balancing-primary.json", &["test", "client-class"], &["client-classes", "id"]),
    ("kea4/hooks-radius.json", &["library", "client-class"], &["client-classes"]),
    ("kea4/hooks.json", &["library"], &["id"]),
    ("kea4/leases-expiration.json", &[], &["id"]),
    ("kea4/multiple-options.json", &[], &["id"]),
    ("kea4/mysql-reservations.json", &["hosts-database"], &[]),
    ("kea4/pgsql-reservations.json", &["hosts-databases"], &[]),
    ("kea4/reservations.json", &["reservations"], &["id"]),
    ("kea4/several-subnets.json", &[], &["id"]),
    ("kea4/shared-network.json", &["shared-networks"], &[]),
    ("kea4/single-subnet.json", &[], &["id"]),
    ("kea4/vendor-specific.json", &[], &["client-classes", "id"]),
    ("kea4/vivso.json", &[], &["client-classes", "id"]),
    (
        "kea4/with-ddns.json",
        &[],
        &[
            "dhcp-ddns",
            "ddns-override-no-update",
            "ddns-override-client-update",
            "ddns-replace-client-name",
            "ddns-generated-prefix",
            "ddns-qualifying-suffix",
            "hostname-char-replacement",
            "id",
        ],
    ),
    ("template-power-user-home/kea-ca-1.conf", &[], &["http-host"]),
    ("template-power-user-home/kea-ca-2.conf", &[], &["http-host"]),
    ("template-power-user-home/kea-dhcp4-1.conf", &["reservations"], &["id"]),
    ("template-power-user-home/kea-dhcp4-2.conf", &["reservations"], &["id"]),
];

#[test]
fn files_of_the_shared_folder_get_their_verdict() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/kea-configs");
    check_folder(&root, SHARED);
}

#[test]
fn examples_of_the_distribution_get_their_verdict() {
    check_folder(Path::new("/usr/share/doc/kea/examples"), DEBIAN);
}

fn check_folder(root: &Path, verdicts: &[Verdict]) {
    if !root.is_dir() {
        // Written past the test harness, which keeps to itself what a passing test prints.
        let skipped =
            format!("SKIPPED: there is no {}; {} files were not tried\n", root.display(), verdicts.len());
        std::io::stderr().write_all(skipped.as_bytes()).expect("stderr takes a line");
        return;
    }
    let mut failures = Vec::new();
    for (name, errors, warnings) in verdicts {
        let (found_errors, found_warnings) = judge(&root.join(name));
        if found_errors != *errors || found_warnings != *warnings {
            failures.push(format!("(\"{name}\", &{found_errors:?}, &{found_warnings:?}),"));
        }
    }
    assert!(failures.is_empty(), "verdicts that differ:\n{}", failures.join("\n"));
    let known: Vec<PathBuf> = verdicts.iter().map(|(name, ..)| root.join(name)).collect();
    let missing: Vec<PathBuf> = files_below(root).into_iter().filter(|file| !known.contains(file)).collect();
    assert!(missing.is_empty(), "files without a verdict: {missing:?}");
}

fn judge(path: &Path) -> (Vec<String>, Vec<String>) {
    let path = path.to_str().expect("paths are text");
    let agent = std::fs::read_to_string(path).expect(path).contains("\"Control-agent\"");
    let result = if agent {
        config::load_control_agent(path).map(|loaded| loaded.warnings)
    } else {
        config::load_dhcp4(path).map(|loaded| loaded.warnings)
    };
    match result {
        Ok(warnings) => (Vec::new(), keys(warnings.iter())),
        Err(error) => {
            assert!(!error.is_syntax(), "{error}");
            check_places(path, &error);
            (keys(error.errors()), keys(error.warnings().iter()))
        }
    }
}

fn check_places(path: &str, error: &ConfigError) {
    for diagnostic in error.errors().chain(error.warnings()) {
        let shown = diagnostic.to_string();
        let place = format!("{path}:{}.{}: ", diagnostic.position.line, diagnostic.position.column);
        assert!(shown.starts_with(&place) && diagnostic.position.line > 0, "{shown}");
    }
}

fn keys<'a>(diagnostics: impl Iterator<Item = &'a Diagnostic>) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for diagnostic in diagnostics {
        if !keys.contains(&diagnostic.key) {
            keys.push(diagnostic.key.clone());
        }
    }
    keys
}

/// Files of the servers that are ours to run; the distribution also has those of DHCPv6, DDNS and NETCONF.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let foreign = ["ddns", "https", "kea6", "netconf"];
    for entry in std::fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !foreign.contains(&name) {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "json" || extension == "conf") {
            files.push(path);
        }
    }
    files
}
