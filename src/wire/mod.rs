//! DHCPv4 on the wire: bytes in, bytes out.
//!
//! Owns the layout of RFC 2131 messages and RFC 2132 options. [`query`] reads a received message in place,
//! [`reply`] writes a message into a fixed buffer, [`relay`] reads option 82, [`option`] walks options.
//! Nothing here allocates, decides policy, or panics on any input; every way to be malformed is a variant of
//! [`WireError`] with a counter of its own.

pub mod codes;
pub mod error;
pub mod option;
pub mod query;
pub mod relay;
pub mod reply;

pub use error::WireError;
pub use query::Query;
pub use relay::RelayInfo;
pub use reply::{MessageHeader, MessageWriter, ReplyBuffer, WriteError};

#[cfg(test)]
mod differential_tests;
