//! The drivers of high availability: listeners, senders, and what carries out the HA machine's actions.
//!
//! The machine of [`crate::ha`] decides; here are sockets, executors and timers. Nothing here changes a lease.

pub mod acceptor;
pub mod backup;
pub mod behind;
mod connection;
pub mod driver;
pub mod drivers;
pub mod ends;
pub mod listen;
mod places;
pub mod send;
pub mod setup;
#[cfg(test)]
mod tests;
