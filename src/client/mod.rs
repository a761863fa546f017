//! A DHCP client as a pure machine: the demo, the simulator and the load generator drive it.
//!
//! [`machine`] holds the states of RFC 2131 figure 5 and says what to send when; [`message`] writes the messages
//! and reads the replies; [`retry`] holds the timers. Bytes and `now` go in, messages and events come out: no
//! sockets, no clock, and every random choice comes from the seed of the configuration, so that a run can be
//! repeated.

pub mod machine;
pub mod message;
pub mod retry;

pub use machine::{Client, ClientEvent, ClientState};
pub use message::{ClientConfig, ClientLease, Relay};
pub use retry::Pace;

use std::net::Ipv4Addr;

/// A message the client wants sent; its octets are in the buffer given to [`Client::poll_transmit`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outgoing {
    /// Octets of the message.
    pub len: usize,
    /// IP source address: the lease, or 0.0.0.0.
    pub source: Ipv4Addr,
    /// How it travels.
    pub route: Route,
}

/// How a message of a client travels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// To 255.255.255.255.
    Broadcast,
    /// Through the relay of the configuration, which sends it to every server it knows.
    Relayed,
    /// To this server.
    Unicast(Ipv4Addr),
}
