//! The pair's configuration: the shipped hot-standby example with other places and faster timers.
//!
//! The text is taken as it is shipped and changed piece by piece. A piece that the example no longer contains is an
//! error, so the demo never runs something else than it says.

use std::path::Path;

use super::plan::{ADDRESS, SPEED, ServerPorts};

/// The example of each server, primary first.
const EXAMPLES: [&str; 2] = [
    include_str!("../../../config/examples/hot-standby-primary.conf"),
    include_str!("../../../config/examples/hot-standby-standby.conf"),
];

/// The timers of the example that are scaled, milliseconds.
const TIMERS: [(&str, u32); 3] =
    [("heartbeat-delay", 10_000), ("max-response-delay", 60_000), ("max-ack-delay", 5_000)];

/// What the servers of the pair are called in it.
pub(super) const NAMES: [&str; 2] = ["server1", "server2"];

/// The example lacks something that was to be changed.
#[derive(Debug, thiserror::Error)]
#[error("the example of the pair has no {0:?}")]
pub(super) struct Missing(String);

/// The scaled timers: name, the example's value and ours, milliseconds.
pub(super) fn timers() -> [(&'static str, u32, u32); 3] {
    TIMERS.map(|(name, from_ms)| (name, from_ms, from_ms / SPEED))
}

/// The configuration of server `index` (0 is the primary); `folder` is its own, `pki` holds the certificates.
///
/// # Errors
/// [`Missing`].
pub(super) fn configuration(
    index: usize,
    ports: &[ServerPorts; 2],
    folder: &Path,
    pki: &Path,
) -> Result<String, Missing> {
    let mut text = EXAMPLES[index].to_owned();
    let mut change = |from: &str, to: &str| {
        if !text.contains(from) {
            return Err(Missing(from.to_owned()));
        }
        text = text.replace(from, to);
        Ok(())
    };
    for (name, from_ms, to_ms) in timers() {
        change(&format!("\"{name}\": {from_ms}"), &format!("\"{name}\": {to_ms}"))?;
    }
    change(
        "\"interfaces\": [ \"eth0\" ]",
        &format!("\"interfaces\": [ \"lo/{ADDRESS}\" ], \"dhcp-socket-type\": \"udp\""),
    )?;
    change("\"interface\": \"eth0\"", &format!("\"relay\": {{ \"ip-addresses\": [ \"{ADDRESS}\" ] }}"))?;
    // Enough addresses for every client of the demo; none of them is ever configured anywhere.
    change("192.0.2.0/24", "198.18.0.0/16")?;
    change("192.0.2.100-192.0.2.199", "198.18.1.0-198.18.255.254")?;
    change("\"data\": \"192.0.2.1\"", "\"data\": \"198.18.0.1\"")?;
    for (number, ports) in ports.iter().enumerate() {
        let host = format!("192.0.2.1{}", number + 1);
        change(&format!("https://{host}:8005/"), &format!("https://{ADDRESS}:{}/", ports.ha))?;
    }
    change(
        &format!("\"socket-address\": \"192.0.2.1{}\"", index + 1),
        &format!("\"socket-address\": \"{ADDRESS}\""),
    )?;
    change("\"socket-port\": 8001", &format!("\"socket-port\": {}", ports[index].control))?;
    change("/etc/kea/tls/", &format!("{}/", pki.display()))?;
    change("\"kea4-ctrl-socket\"", &format!("\"{}\"", super::server::socket_path(folder).display()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: [ServerPorts; 2] = [
        ServerPorts { dhcp: 10_001, ha: 20_001, control: 30_001 },
        ServerPorts { dhcp: 10_002, ha: 20_002, control: 30_002 },
    ];

    #[test]
    fn both_files_load_without_a_warning_and_differ_only_in_whose_they_are() {
        let pki = Path::new("/pki");
        let documents = [0, 1].map(|index| {
            let text = configuration(index, &PORTS, Path::new("/run/one"), pki).unwrap();
            assert!(!text.contains("192.0.2.1\"") && !text.contains("eth0\""), "{text}");
            let loaded = config::parse_dhcp4(text.as_bytes(), NAMES[index]).unwrap();
            assert_eq!(loaded.warnings, [], "{index}");
            loaded.document
        });
        for (index, document) in documents.iter().enumerate() {
            let pair = &document.hooks.high_availability[0];
            assert_eq!(pair.own.name.value, NAMES[index]);
            assert_eq!(pair.others[0].name.value, NAMES[1 - index]);
            assert_eq!(document.multi_threading.shards(), Some(4));
            let relays: Vec<_> = document.subnets[0].relays.iter().map(|relay| **relay).collect();
            assert_eq!(relays, [ADDRESS]);
        }
    }

    #[test]
    fn timers_keep_their_proportions() {
        assert_eq!(
            timers(),
            [
                ("heartbeat-delay", 10_000, 500),
                ("max-response-delay", 60_000, 3_000),
                ("max-ack-delay", 5_000, 250),
            ]
        );
    }
}
