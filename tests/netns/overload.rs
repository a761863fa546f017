//! More queries than the server can decide: who was promised something goes first, what nobody waits for any more is
//! dropped unread, and every drop is counted and told.
//!
//! A server that is stopped by a signal has no capacity at all, however fast the machine, so nothing here depends on time
//! but the age of what waits.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::alone::Alone;
use crate::support::dhcp::{DISCOVER, OFFER, Query, REQUEST, Wire, address_at, message_type};
use crate::support::process::eventually;

/// Clients that hold an offer when the server is stopped.
const OFFERED: usize = 200;

/// A server with one shard and a short queue.
fn site() -> Alone {
    Alone::new(|dhcp4| {
        dhcp4["multi-threading"]["thread-pool-size"] = json!(1);
        dhcp4["multi-threading"]["packet-queue-size"] = json!(16);
        dhcp4["subnet4"][0]["interface"] = json!("srv0");
        dhcp4["subnet4"][0]["pools"][0]["pool"] = json!("172.16.1.0-172.16.255.255");
    })
}

impl Alone {
    /// Stops every thread of the server.
    fn stop(&self) {
        self.process.signal("STOP");
        let stat = format!("/proc/{}/stat", self.process.id());
        eventually("the server stands still", Duration::from_secs(30), || {
            std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
        });
    }

    fn discover(&self, clients: impl Iterator<Item = [u8; 6]>) {
        for mac in clients {
            let xid = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]);
            self.wire.send(&Query { message_type: DISCOVER, xid, mac, ..Query::default() });
        }
    }

    /// The REQUESTs of clients that have taken an offer.
    fn offered(&self, family: u8) -> Vec<Query> {
        let mut requests = HashMap::new();
        let start = Instant::now();
        while requests.len() < OFFERED {
            assert!(start.elapsed() < Duration::from_secs(40), "{} of {OFFERED} offers", requests.len());
            let missing: Vec<_> = macs(family, OFFERED).filter(|mac| !requests.contains_key(mac)).collect();
            self.discover(missing.into_iter());
            while let Some(reply) = self.wire.receive() {
                let mac: [u8; 6] = reply[28..34].try_into().expect("six octets");
                if message_type(&reply) != OFFER || mac[1] != family {
                    continue;
                }
                let options = vec![
                    (50, address_at(&reply, 16).octets().to_vec()),
                    (54, Ipv4Addr::new(172, 16, 0, 1).octets().to_vec()),
                ];
                let xid = u32::from_be_bytes(reply[4..8].try_into().expect("four octets"));
                requests.insert(mac, Query { message_type: REQUEST, xid, mac, options, ..Query::default() });
            }
        }
        requests.into_values().collect()
    }
}

fn macs(family: u8, count: usize) -> impl Iterator<Item = [u8; 6]> {
    (0..count as u16).map(move |number| [0x02, family, 0, 0, (number >> 8) as u8, number as u8])
}

#[test]
fn what_waited_longer_than_clients_wait_is_dropped_unread_and_the_rest_is_served() {
    let mut site = site();
    let requests = site.offered(1);
    let (offers, stale) = (site.statistic("pkt4-offer-sent"), 2_000);
    site.stop();
    site.discover(macs(2, stale));
    std::thread::sleep(Duration::from_millis(3_300));
    requests.iter().for_each(|request| site.wire.send(request));
    site.process.signal("CONT");
    eventually("every REQUEST is answered", Duration::from_secs(30), || {
        site.statistic("pkt4-ack-sent") == OFFERED as u64
    });
    eventually("what is stale is counted", Duration::from_secs(30), || {
        site.statistic("tandem-overload-stale") == stale as u64
    });
    assert_eq!(site.statistic("pkt4-receive-drop"), stale as u64);
    assert_eq!(site.statistic("pkt4-offer-sent"), offers, "an offer that nobody waits for");
    site.process.wait_for(None, "TANDEM_OVERLOAD_BEGIN", Duration::from_secs(30));
    site.process.wait_for(None, "and 2000 queries that had waited too long", Duration::from_secs(40));
}

#[test]
fn requests_go_before_discovers_and_discovers_are_dropped_first() {
    // More than a socket's buffer holds, whatever the kernel takes for a frame.
    const FLOOD: usize = 30_000;
    let site = site();
    for family in (1..=100).step_by(4) {
        let requests = site.offered(family);
        let (acks, main) = (site.statistic("pkt4-ack-sent"), site.statistic("tandem-overload-main"));
        // After a wait DISCOVERs are told apart, for a quarter of a second and more.
        site.stop();
        site.discover(macs(family + 1, 1_000));
        std::thread::sleep(Duration::from_millis(50));
        site.process.signal("CONT");
        std::thread::sleep(Duration::from_millis(50));
        site.stop();
        site.discover(macs(family + 2, FLOOD));
        requests.iter().for_each(|request| site.wire.send(request));
        site.process.signal("CONT");
        eventually("the drops are counted", Duration::from_secs(30), || {
            site.statistic("tandem-overload-discovers") + site.statistic("tandem-overload-main") > main
        });
        if site.statistic("tandem-overload-main") > main {
            // The second stop came too late, on a busy machine: all waited in one queue.
            continue;
        }
        eventually("every REQUEST is answered", Duration::from_secs(30), || {
            site.statistic("pkt4-ack-sent") == acks + OFFERED as u64
        });
        return;
    }
    panic!("DISCOVERs were never told apart");
}
