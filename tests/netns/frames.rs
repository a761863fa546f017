//! What a link does under a server in raw mode: tags, long and damaged frames, another MTU, down and up again.

use std::time::{Duration, Instant};

use crate::support::alone::Alone;
use crate::support::dhcp::{DISCOVER, OFFER, Query, Wire, lease, message_type};
use crate::support::process::eventually;
use crate::support::sys;

/// Where the Ethernet type of a frame lies.
const ETHERNET_TYPE: usize = 12;

impl Alone {
    /// Sends `frame`, the DISCOVER of `mac`; whether it is offered an address while `patience` lasts.
    fn is_offered(&self, mac: [u8; 6], frame: &[u8], patience: Duration) -> bool {
        sys::send(&self.wire.0, frame).expect("send");
        let start = Instant::now();
        while start.elapsed() < patience {
            if self.wire.receive().is_some_and(|reply| reply[28..34] == mac && message_type(&reply) == OFFER)
            {
                return true;
            }
        }
        false
    }

    /// Takes `count` clients of a family of their own through to their leases.
    fn lease(&self, family: u8, count: u8) {
        let macs: Vec<_> = (0..count).map(|number| [2, 0, 0, 0, family, number]).collect();
        assert_eq!(lease(&self.wire, &macs, &|_| Vec::new(), Duration::from_secs(40)).len(), macs.len());
    }
}

fn mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0xf0, number]
}

/// A DISCOVER of `mac` with so many options of 200 octets.
fn discover(mac: [u8; 6], long_options: usize) -> Vec<u8> {
    // Codes that nobody reads; one code given often would be one long option (RFC 3396).
    let options = (0..long_options).map(|option| (128 + option as u8, vec![7; 198])).collect();
    Query { message_type: DISCOVER, mac, options, ..Query::default() }.broadcast_frame().encode()
}

/// Goal: a frame is answered if and only if it is whole and of this link. Method: one DISCOVER for each way to be
/// something else, each from a client of its own, and what the server says it could not read.
#[test]
fn frames_of_other_links_and_damaged_ones_are_not_answered() {
    let site = Alone::new(|_| {});
    let tagged = |number: u8, tags: &[[u8; 2]]| {
        let mut frame = discover(mac(number), 0);
        for tag in tags {
            frame.splice(ETHERNET_TYPE..ETHERNET_TYPE, [0x81, 0x00, tag[0], tag[1]]);
        }
        frame
    };
    let damaged = |number: u8, at: usize, octets: [u8; 2]| {
        let mut frame = discover(mac(number), 0);
        frame[at..at + 2].copy_from_slice(&octets);
        frame
    };
    let whole = discover(mac(8), 0);
    let cases: [(&str, u8, Vec<u8>, bool); 9] = [
        ("untagged", 0, tagged(0, &[]), true),
        ("with a priority and of no VLAN", 1, tagged(1, &[[0x60, 0]]), true),
        ("of VLAN 7", 2, tagged(2, &[[0, 7]]), false),
        ("of VLAN 8 within VLAN 7", 3, tagged(3, &[[0, 8], [0, 7]]), false),
        (
            "to another host's hardware address",
            4,
            [&[2, 9, 9, 9, 9, 9], &discover(mac(4), 0)[6..]].concat(),
            false,
        ),
        ("IP length beyond the frame", 5, damaged(5, 16, [0x7f, 0]), false),
        ("UDP length beyond the packet", 6, damaged(6, 38, [0x7f, 0]), false),
        ("first fragment", 7, damaged(7, 20, [0x20, 0]), false),
        ("cut off", 8, whole[..whole.len() - 40].to_vec(), false),
    ];
    // As a capture on the server does: now the link hands everything up.
    site.server.ip(&["link", "set", "srv0", "promisc", "on"]);
    for (case, number, frame, expected) in cases {
        let patience = Duration::from_millis(if expected { 5_000 } else { 300 });
        assert_eq!(site.is_offered(mac(number), &frame, patience), expected, "{case}");
    }
    assert_eq!(site.statistic("pkt4-discover-received"), 2);
    // The kernel's filter does not look at these three lengths.
    assert_eq!(site.statistic("tandem-unreadable"), 3);
    site.lease(1, 8);
}

/// Goal: a link whose MTU is raised is served as before, with messages that did not fit it before, and one that goes
/// down is served when it is up again, by the same shards. Method: frames longer than a slot of the ring among short
/// ones; then twice down and up, shorter and longer than the server needs to see it; in the end no query was forwarded.
#[test]
fn a_link_is_served_after_its_mtu_was_raised_and_after_it_was_down() {
    let site = Alone::new(|_| {});
    site.lease(1, 8);
    for (namespace, interface) in [(&site.server, "srv0"), (&site.clients, "cli0")] {
        namespace.ip(&["link", "set", interface, "mtu", "9000"]);
    }
    let received = site.statistic("pkt4-discover-received");
    let mixed = [(0, 0), (1, 7), (2, 10), (3, 0), (4, 40), (5, 10), (6, 0)];
    for (number, long_options) in mixed {
        sys::send(&site.wire.0, &discover(mac(number), long_options)).expect("send");
    }
    eventually("all of them", Duration::from_secs(30), || {
        site.statistic("pkt4-discover-received") == received + mixed.len() as u64
    });
    let (fits, long) = (discover(mac(20), 7), discover(mac(21), 10));
    assert!(fits.len() > 1_514 && fits.len() < 1_900 && long.len() > 2_048, "{} {}", fits.len(), long.len());
    assert!(site.is_offered(mac(20), &fits, Duration::from_secs(30)), "more than the MTU was");
    assert!(site.is_offered(mac(21), &long, Duration::from_secs(30)), "longer than a slot");
    assert_eq!(site.statistic("tandem-unreadable"), 0);

    for (family, down) in [(2, Duration::from_millis(50)), (3, Duration::from_millis(2_500))] {
        site.server.ip(&["link", "set", "srv0", "down"]);
        std::thread::sleep(down);
        site.server.ip(&["link", "set", "srv0", "up"]);
        let number = 30 + family;
        let offered = || site.is_offered(mac(number), &discover(mac(number), 0), Duration::from_millis(300));
        eventually("service after the link is up", Duration::from_secs(30), offered);
        site.lease(family, 16);
    }
    for counter in ["tandem-forward-home", "tandem-unreadable", "tandem-kernel-drops"] {
        assert_eq!(site.statistic(counter), 0, "{counter}");
    }
}
