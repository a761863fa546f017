//! Invariant 2: every ACK seen on the wire is, at that instant, on the stable storage of the server that sends it,
//! and on its partner's where the view of the shard that sends it asks for the partner.
//!
//! A reply parked before the view turned to asking was committed, or its obligation waived, while nobody was asked;
//! what a view requires is counted from the first time the REQUEST was seen.
//!
//! What is on a disk is read from the rows that were synced there. A row stands for an ACK when it is that client's
//! and lasts at least as long as the client may think: from the first time its REQUEST was seen, for the lifetime
//! the ACK names.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use shards::{Lease, LeaseState, Now};
use tandem::wire::Query;
use tandem::wire::codes::MessageType;

use super::Checks;
use crate::sim::pair::server::Server;

/// An ACK that gives a lease.
pub struct Ack {
    pub at_ns: u64,
    pub server: usize,
    pub address: Ipv4Addr,
    pub lifetime_s: u32,
    pub xid: u32,
    pub hardware: [u8; 6],
    pub client_id: Vec<u8>,
    /// The view does not ask for the partner, or did not when the REQUEST was seen.
    pub alone: bool,
}

/// When each REQUEST was first seen: by server, hardware address and transaction.
#[derive(Default)]
pub struct Requests(BTreeMap<(usize, Vec<u8>, u32), Now>);

impl Requests {
    pub fn seen(&mut self, server: usize, now: Now, bytes: &[u8]) {
        let Ok(query) = Query::decode(bytes) else { return };
        if query.message_type() == Some(MessageType::Request) {
            self.0.entry((server, query.chaddr().to_vec(), query.xid())).or_insert(now);
        }
    }

    /// When the REQUEST of this transaction was first seen, by the server's clocks.
    pub fn first(&self, server: usize, hardware: [u8; 6], xid: u32) -> Option<Now> {
        self.0.get(&(server, hardware.to_vec(), xid)).copied()
    }
}

impl Checks {
    pub fn acknowledged(&mut self, ack: &Ack, servers: &[Server; 2]) {
        let Some(first) = self.requests.first(ack.server, ack.hardware, ack.xid) else {
            return self.fail(format!("server{} acknowledges what nobody requested", ack.server + 1));
        };
        let until_s = first.wall_s() + u64::from(ack.lifetime_s);
        let stands = |lease: &Lease| {
            lease.state == LeaseState::Default
                && lease.hwaddr.as_slice() == ack.hardware
                && lease.client_id.as_slice() == ack.client_id
                && lease.expire() >= until_s
        };
        let asked =
            [Some((ack.server, "its own")), (!ack.alone).then_some((1 - ack.server, "its partner's"))];
        for (server, whose) in asked.into_iter().flatten() {
            let row = servers[server].disk.durable(ack.address);
            if !row.is_some_and(stands) {
                self.fail(format!(
                    "invariant 2: server{} acknowledges {} until {until_s}, but on {whose} disk is {row:?}",
                    ack.server + 1,
                    ack.address,
                ));
            }
        }
    }
}
