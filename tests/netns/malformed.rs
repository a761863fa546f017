//! Whatever is on the wire: each malformed message is dropped, counted under its own name, and changes nothing else.

use std::time::Duration;

use tandem::wire::error::WireError;

use crate::support::alone::Alone;
use crate::support::dhcp::{DISCOVER, Query, Wire, lease};
use crate::support::frame::Frame;
use crate::support::process::eventually;
use crate::support::sys;

/// A message with this fault and no other; `None` where no datagram can have it.
fn message(fault: WireError) -> Option<Vec<u8>> {
    let mac = [2, 0, 0, 0, 0, 0xbb];
    let with = |options: Vec<(u8, Vec<u8>)>| {
        Query { message_type: DISCOVER, mac, options, ..Query::default() }.encode()
    };
    let mut octets = with(Vec::new());
    Some(match fault {
        WireError::BadCookie => {
            octets[236] = 98;
            octets
        }
        WireError::ClientIdLength => with(vec![(61, vec![1])]),
        WireError::HardwareAddressLength => {
            octets[2] = 17;
            octets
        }
        WireError::JoinedTooLong => with(vec![(43, vec![7; 255]); 7]),
        WireError::MessageTypeLength => with(vec![(53, vec![DISCOVER])]),
        WireError::MissingCookie => octets[..238].to_vec(),
        // An IPv4 datagram has room for 65,507 octets and no more.
        WireError::TooLong => return None,
        WireError::TooManyOptions => with(vec![(200, Vec::new()); 513]),
        WireError::TooShort => octets[..200].to_vec(),
    })
}

/// Goal: the promise above, for every variant. Method: one raw frame per variant, in raw mode; after each the statistics
/// that moved are exactly those of a drop for that reason; in the end a client leases as ever.
#[test]
fn every_malformed_message_is_counted_under_its_own_name_and_the_server_serves_on() {
    // Seven options of full length do not fit into an ordinary frame.
    let mut site = Alone::with_mtu(9000, |_| {});
    let counters = || site.statistics();
    let wire = &site.wire;
    let mut before = counters();
    for fault in WireError::ALL {
        let Some(payload) = message(fault) else { continue };
        let frame =
            Frame { payload, ..Query { mac: [2, 0, 0, 0, 0, 0xbb], ..Query::default() }.broadcast_frame() };
        sys::send(&wire.0, &frame.encode()).expect("send");
        let received = |list: &[(String, u64)]| {
            list.iter().find(|(name, _)| name == "pkt4-received").map(|(_, count)| *count)
        };
        eventually(fault.counter_name(), Duration::from_secs(30), || {
            received(&counters()) > received(&before)
        });
        let after = counters();
        let moved: Vec<(&str, u64)> = after
            .iter()
            .zip(&before)
            .filter(|((_, after), (_, before))| after != before)
            .map(|((name, after), (_, before))| (name.as_str(), after - before))
            // Which of the shards it was does not matter here.
            .filter(|(name, _)| !name.starts_with("tandem-shard["))
            .collect();
        let mut expected = [fault.counter_name(), "pkt4-parse-failed", "pkt4-receive-drop", "pkt4-received"];
        expected.sort_unstable();
        assert_eq!(moved, expected.map(|name| (name, 1)), "{fault:?}");
        before = after;
    }
    assert!(wire.receive().is_none(), "a malformed message was answered");
    let macs: Vec<_> = (0..4).map(|number| [2, 0, 0, 0, 1, number]).collect();
    assert_eq!(lease(wire, &macs, &|_| Vec::new(), Duration::from_secs(40)).len(), 4);
    site.process.signal("TERM");
    assert_eq!(site.process.wait(Duration::from_secs(30)).code(), Some(0));
}
