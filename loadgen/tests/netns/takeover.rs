//! A pair whose primary is killed under load: the gap, who served when, and no address twice.

use std::fs;

use serde_json::{Value, json};

use crate::site::{SERVERS, Site, dhcp4, tandem};

fn member(site: &Site, index: usize) -> Value {
    let leases = site.folder.path().join(format!("leases{index}.csv"));
    let mut document = dhcp4(&leases.display().to_string(), "raw");
    let peer = |name: &str, address: &str, role: &str| json!({ "name": name, "url": format!("http://{address}:8001/"), "role": role, "auto-failover": true });
    document["hooks-libraries"] = json!([
        { "library": "libdhcp_lease_cmds.so" },
        { "library": "libdhcp_ha.so", "parameters": { "high-availability": [ {
            "this-server-name": format!("server{}", index + 1),
            "mode": "hot-standby",
            "heartbeat-delay": 500, "max-response-delay": 2000, "max-ack-delay": 1000, "max-unacked-clients": 2,
            "multi-threading": { "enable-multi-threading": true, "http-dedicated-listener": true },
            "peers": [peer("server1", SERVERS[0], "primary"), peer("server2", SERVERS[1], "standby")],
        } ] } },
    ]);
    document["control-socket"] =
        json!({ "socket-type": "unix", "socket-name": site.folder.path().join(format!("socket{index}")) });
    json!({ "Dhcp4": document })
}

#[test]
fn the_standby_serves_after_the_primary_is_killed_and_the_report_shows_the_gap() {
    let mut site = Site::new();
    let mut numbers = [0; 2];
    for index in [0, 1] {
        let folder = site.folder.path().join(format!("host{index}"));
        fs::create_dir(&folder).expect("a folder");
        let file = site.folder.path().join(format!("conf{index}"));
        fs::write(&file, member(&site, index).to_string()).expect("a configuration");
        let arguments = ["-c".to_owned(), file.display().to_string()];
        numbers[index] = site.start(index, &tandem(), &arguments, &format!("output{index}"), "DHCP4_STARTED");
    }
    let ready = |site: &Site| {
        let text = fs::read_to_string(site.folder.path().join("output0")).unwrap_or_default();
        text.contains("to HOT-STANDBY")
    };
    let start = std::time::Instant::now();
    while !ready(&site) {
        let said = fs::read_to_string(site.folder.path().join("output0")).unwrap_or_default();
        assert!(start.elapsed() < crate::site::PATIENCE, "the pair does not come together:\n{said}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let event = format!("2:kill -9 {}", numbers[0]);
    let arguments = [
        "-l",
        "cli0",
        "-r",
        "10",
        "-p",
        "16",
        "-R",
        "150",
        "--prepare-rate",
        "50",
        "--scenario",
        "ha-takeover",
        "--event",
        &event,
    ];
    let (output, summary) = site.load(&arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!((summary.counters.duplicates, summary.counters.wrong_server), (0, 0), "{text}");
    let servers: Vec<String> = summary.servers.iter().map(|share| share.server.to_string()).collect();
    assert_eq!(servers, SERVERS, "{text}");
    let [first, second] = summary.servers.as_slice() else { unreachable!("two servers") };
    assert!(first.to_s <= 4.0 && second.from_s >= 2.0 && second.acks >= 20, "{text}");
    assert!((1.5..=4.0).contains(&summary.gap_from_s) && summary.gap_ms_max > 1_500.0, "{text}");
    assert!(text.contains("served by     172.16.0.1") && text.contains("served by     172.16.0.3"), "{text}");
    assert!(text.contains("longest gap") && text.contains("event: kill -9"), "{text}");
}
