//! A relay as a way to a server.

use std::net::Ipv4Addr;

use super::dhcp::{Query, Wire};

/// A relay with one address and one port that sends everything by UDP.
pub struct Relay {
    pub socket: std::net::UdpSocket,
    pub giaddr: Ipv4Addr,
    pub server: Ipv4Addr,
}

impl Wire for Relay {
    fn send(&self, query: &Query) {
        let query = Query { giaddr: Some(self.giaddr), hops: 1, ..query.clone() };
        self.socket.send_to(&query.encode(), (self.server, 67)).expect("send");
    }

    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        self.socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
    }
}
