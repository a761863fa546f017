//! Group B: TLS by the presence of files, whose certificate is shown to whom, and basic authentication.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::states::{PAIRINGS, WHOLE};
use crate::support::certificates::{self, Version};
use crate::support::clients::macs;
use crate::support::k3::Script;
use crate::support::namespace::{Namespace, enter_named};
use crate::support::plan::{K, N, Plan, S, Seat, address, peer, relationship, tap_address};
use crate::support::process::{Process, eventually};
use crate::support::site::{SOON, Site, TOGETHER};
use crate::{Scenario, scenario};

/// The scenarios of this group.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        scenario(&["B2"], "https_without_files_is_refused", 2, b2),
        scenario(&["B4"], "another_authoritys_partner_is_no_partner_tandem", 10, || b4([N, N])),
        scenario(&["B4"], "another_authoritys_partner_is_no_partner_kea", 10, || b4([N, K])),
        scenario(&["B5"], "a_client_without_certificate_comes_in_only_where_none_is_asked_for", 4, b5),
        scenario(&["B6"], "the_peers_entry_says_which_certificate_it_is_shown", 4, b6_certificate),
        scenario(&["B6"], "an_empty_file_name_is_plain_for_that_peer_alone", 4, b6_plain),
        scenario(&["B8"], "addresses_of_ip_version_6_have_no_brackets_in_host", 8, b8),
    ];
    for (name, seats) in PAIRINGS {
        let name = format!("files_make_tls_whatever_the_scheme_says_{name}");
        all.push(scenario(&["B1", "B3"], name, 8, move || b1_b3(seats)));
    }
    all
}

/// A folder with an authority and certificates of both servers, as plain `openssl` makes them.
pub fn certificates_of(version: Version) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    certificates::make(folder.path(), version, &["server1", "server2", "server3"]);
    folder
}

/// The files of one name.
pub fn triple(folder: &Path, authority: &str, name: &str) -> [(&'static str, Value); 3] {
    let file = |name: String| json!(folder.join(name).to_str().expect("UTF-8"));
    [
        ("trust-anchor", file(format!("{authority}.pem"))),
        ("cert-file", file(format!("{name}_cert.pem"))),
        ("key-file", file(format!("{name}_key.pem"))),
    ]
}

/// Every server shows its own certificate, as listener and as client; the anchor is the relationship's.
pub fn over_tls(plan: Plan, folder: PathBuf) -> Plan {
    plan.edit(move |server, dhcp4| {
        let files = triple(&folder, "CA", &crate::support::plan::name(server));
        for (key, value) in files {
            relationship(dhcp4)[key] = value;
        }
    })
}

/// A relay of octets that notes the first ones of each connection.
fn octet_tap(host: &Namespace, at: SocketAddr, behind: SocketAddr) -> Arc<Mutex<Vec<u8>>> {
    let firsts = Arc::new(Mutex::new(Vec::new()));
    let listener = host.enter(|| TcpListener::bind(at)).expect("a listener");
    let (noted, name) = (firsts.clone(), host.name().to_owned());
    std::thread::spawn(move || {
        for front in listener.incoming() {
            let Ok(front) = front else { return };
            let open = || TcpStream::connect_timeout(&behind, Duration::from_secs(5));
            let Ok(back) = enter_named(&name, open) else { continue };
            let ends = |stream: &TcpStream| stream.try_clone().expect("a second handle");
            let (front_in, back_in, noted) = (ends(&front), ends(&back), noted.clone());
            std::thread::spawn(move || copy(front_in, back, Some(&noted)));
            std::thread::spawn(move || copy(back_in, front, None));
        }
    });
    firsts
}

fn copy(mut from: TcpStream, mut to: TcpStream, noted: Option<&Mutex<Vec<u8>>>) {
    let (mut buffer, mut first) = ([0; 16 * 1024], true);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if let Some(noted) = noted.filter(|_| std::mem::take(&mut first)) {
            noted.lock().expect("the list").push(buffer[0]);
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// `http://`, certificates of X.509 version 1 with a name and no address: everything is encrypted all the same.
fn b1_b3(seats: [Seat; 2]) {
    let folder = certificates_of(Version::V1);
    let plan = over_tls(Plan::hot_standby(seats), folder.path().to_owned()).edit(|server, dhcp4| {
        peer(dhcp4, 1 - server)["url"] = json!(format!("http://{}/", tap_address(1 - server)));
    });
    let mut site = Site::new(plan);
    let firsts = [0, 1]
        .map(|from: usize| octet_tap(&site.members[from].host, tap_address(1 - from), address(1 - from)));
    site.start_all();
    site.wait_for_states(&WHOLE, TOGETHER);
    site.clients.lease_all(&macs(1, 20));
    assert_eq!(site.wait_for_equal_stores([0, 1], SOON), 20);
    for firsts in firsts {
        let firsts = firsts.lock().expect("the list");
        assert!(!firsts.is_empty() && firsts.iter().all(|first| *first == 0x16), "{firsts:?}");
    }
}

/// With the texts of Kea, which names the server.
fn b2() {
    let site = Site::new(Plan::hot_standby([N, S]));
    let folder = certificates_of(Version::V3);
    type Edit = Box<dyn Fn(&mut Value)>;
    let anchor = triple(folder.path(), "CA", "server1")[0].1.clone();
    let cases: [(&str, Edit, &str); 3] = [
        (
            "https without files",
            Box::new(|dhcp4| peer(dhcp4, 1)["url"] = json!("https://10.98.0.2:8001/")),
            "https scheme is not supported for server server2 where TLS is disabled",
        ),
        (
            "an anchor alone",
            Box::new(move |dhcp4| relationship(dhcp4)["trust-anchor"] = anchor.clone()),
            "all or none of TLS parameters must be set",
        ),
        (
            "an anchor alone at a peer",
            Box::new(|dhcp4| peer(dhcp4, 1)["trust-anchor"] = json!("/nowhere")),
            "bad TLS config for server server2",
        ),
    ];
    for (what, edit, stem) in cases {
        let mut text = site.plan.configuration(0, &site.members[0].folder);
        edit(&mut text["Dhcp4"]);
        let file = site.members[0].folder.join("refused.conf");
        std::fs::write(&file, text.to_string()).expect("a file");
        let mut check = Command::new("ip");
        let host = site.members[0].host.name();
        check.args(["netns", "exec", host, env!("CARGO_BIN_EXE_tandem-dhcp4"), "-t"]).arg(&file);
        let out = check.output().expect("a check");
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!out.status.success(), "{what}: it is taken: {said}");
        assert!(said.contains(stem), "{what}: {said}");
    }
}

/// Server 2 shows a certificate of an authority that server 1 does not know.
fn b4(seats: [Seat; 2]) {
    let folder = certificates_of(Version::V3);
    certificates::authority(folder.path(), "Other");
    certificates::issue(folder.path(), "Other", "stranger", Version::V3, 365);
    let path = folder.path().to_owned();
    let plan = Plan::hot_standby(seats).edit(move |server, dhcp4| {
        let files = if server == 0 { ("CA", "server1") } else { ("Other", "stranger") };
        for (key, value) in triple(&path, files.0, files.1) {
            relationship(dhcp4)[key] = value;
        }
        peer(dhcp4, 1 - server)["url"] = json!(format!("http://{}/", tap_address(1 - server)));
    });
    let mut site = Site::new(plan);
    let firsts = [0, 1]
        .map(|from: usize| octet_tap(&site.members[from].host, tap_address(1 - from), address(1 - from)));
    site.start_all();
    site.wait_for_states(&["partner-down"; 2], TOGETHER);
    assert_eq!(site.ha_servers(0)["remote"]["last-state"], "unavailable");
    for firsts in firsts {
        let firsts = firsts.lock().expect("the list");
        assert!(!firsts.is_empty() && firsts.iter().all(|first| *first == 0x16), "{firsts:?}");
    }
    assert_eq!(site.logged(0, "SYNCING"), 0);
}

/// A heartbeat by curl over TLS, with or without a certificate.
fn heartbeat_over_tls(site: &Site, with: Option<(&Path, &str)>) -> bool {
    let mut words = vec!["-sS", "-k", "-m", "20", "-H", "Content-Type: application/json"];
    words.extend(["-d", r#"{"command": "ha-heartbeat"}"#, "https://10.98.0.1:8001/"]);
    let mut curl = Command::new("ip");
    curl.args(["netns", "exec", site.outside.name(), "curl"]).args(words);
    if let Some((folder, name)) = with {
        curl.arg("--cert").arg(folder.join(format!("{name}_cert.pem")));
        curl.arg("--key").arg(folder.join(format!("{name}_key.pem")));
    }
    let out = curl.output().expect("curl");
    out.status.success() && String::from_utf8_lossy(&out.stdout).contains("HA peer status returned.")
}

fn b5() {
    let folder = certificates_of(Version::V3);
    certificates::authority(folder.path(), "Other");
    certificates::issue(folder.path(), "Other", "stranger", Version::V3, 365);
    certificates::issue(folder.path(), "CA", "expired", Version::V3, -1);
    for asks in [false, true] {
        let plan = over_tls(Plan::hot_standby([N, S]), folder.path().to_owned());
        let mut site = Site::new(plan.ha("require-client-certs", json!(asks)));
        site.start(0);
        eventually("an answer over TLS", SOON, || {
            heartbeat_over_tls(&site, Some((folder.path(), "server2")))
        });
        assert_eq!(heartbeat_over_tls(&site, None), !asks, "asked for: {asks}");
        if asks {
            for name in ["stranger", "expired"] {
                assert!(!heartbeat_over_tls(&site, Some((folder.path(), name))), "{name}");
            }
        }
    }
}

/// The entry of the partner names a certificate of its own: that is what the partner is shown, and the own entry's is
/// what clients are shown. Method: `openssl` on the other side prints the subject.
fn b6_certificate() {
    let folder = certificates_of(Version::V3);
    let path = folder.path().to_owned();
    let plan = over_tls(Plan::hot_standby([N, S]), folder.path().to_owned()).edit(move |_, dhcp4| {
        for (key, value) in triple(&path, "CA", "server3") {
            peer(dhcp4, 1)[key] = value;
        }
    });
    let mut site = Site::new(plan);
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (host, _) = site.place(1);
    let (cert, key, anchor) = (path("server2_cert.pem"), path("server2_key.pem"), path("CA.pem"));
    let words = [
        "s_server", "-accept", "8001", "-cert", &cert, "-key", &key, "-CAfile", &anchor, "-Verify", "1",
        "-www",
    ];
    let mut server = Process::start(host, "openssl", &words, &[], &site.members[1].folder.join("output"));
    site.start(0);
    server.wait_for(None, "depth=0 CN = server3", SOON);
    let out = Command::new("ip")
        .args(["netns", "exec", site.outside.name(), "openssl", "s_client", "-connect", "10.98.0.1:8001"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("subject=CN = server1"), "{said}");
}

/// `""` at the partner's entry: it is spoken to in the clear, while the own listener speaks TLS.
fn b6_plain() {
    let folder = certificates_of(Version::V3);
    let plan = over_tls(Plan::hot_standby([N, S]), folder.path().to_owned()).edit(|_, dhcp4| {
        for key in ["trust-anchor", "cert-file", "key-file"] {
            peer(dhcp4, 1)[key] = json!("");
        }
    });
    let mut site = Site::new(plan);
    let script = Script::new(&site, 1, "hot-standby");
    site.start(0);
    site.wait_for_state(0, "hot-standby", SOON);
    assert!(!script.tap.of("ha-heartbeat").is_empty());
    assert!(heartbeat_over_tls(&site, Some((folder.path(), "server2"))));
}

/// A Kea and a Tandem over IPv6, and what a script is sent.
fn b8() {
    let six = |plan: Plan| {
        plan.edit(|_, dhcp4| {
            for index in [0, 1] {
                peer(dhcp4, index)["url"] = json!(format!("http://[fd00:98::{}]:8001/", index + 1));
            }
        })
    };
    let addressed = |plan: Plan| {
        let site = Site::new(six(plan));
        for (index, member) in site.members.iter().enumerate() {
            let address = format!("fd00:98::{}/64", index + 1);
            member.host.ip(&["address", "add", &address, "dev", "ha0", "nodad"]);
        }
        site
    };
    let mut site = addressed(Plan::hot_standby([N, S]));
    let at: SocketAddr = "[fd00:98::2]:8001".parse().expect("an address");
    let tap = crate::support::tap::Tap::start(&site.members[1].host, at, None, |_| {
        crate::support::tap::Verdict::Hang
    });
    site.start(0);
    eventually("a heartbeat", SOON, || !tap.of("ha-heartbeat").is_empty());
    assert_eq!(tap.of("ha-heartbeat")[0].request.header("Host"), Some("fd00:98::2"));
    let mut pair = addressed(Plan::hot_standby([N, K]));
    pair.start_all();
    pair.wait_for_states(&WHOLE, TOGETHER);
    pair.clients.lease_all(&macs(1, 5));
    assert_eq!(pair.wait_for_equal_stores([0, 1], SOON), 5);
}
