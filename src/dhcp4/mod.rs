//! One decision per query: who asks, where it belongs, what it is told.
//!
//! Pure functions over a decoded [`crate::wire::Query`], the compiled configuration and what is known of
//! leases. Nothing here stores a lease, sends a datagram or reads a clock; replies are written into the shard's
//! own buffer. `identity` says who is asking, `select` whether and from which subnet it is served, `names` which
//! host name it gets, and `respond` builds the answer and says where it goes.

pub mod decline;
pub mod discover;
pub mod extended_info;
pub mod identity;
pub mod inform;
pub mod names;
pub mod release;
pub mod request;
pub mod respond;
pub mod scope;
pub mod select;
mod vendor;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
pub(crate) mod test_support;
