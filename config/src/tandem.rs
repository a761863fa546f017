//! Knobs that Kea has no name for, under `Dhcp4.user-context.tandem`.
//!
//! They stand in a user context so that a file stays loadable by Kea itself. An unknown knob is an error.

use crate::value::Located;

/// The knobs; every one has a default.
#[derive(Clone, Debug, PartialEq)]
pub struct Tandem {
    /// `durability`: what an ACK waits for; `synced` by default.
    pub durability: Located<Durability>,
    /// `cores`: processors the shards are pinned to, one each in order; empty leaves the choice to the server.
    pub cores: Located<Vec<u32>>,
    /// `spin-us`: microseconds a shard polls before it sleeps; 0 by default, at most 1000.
    pub spin_us: Located<u32>,
    /// `check-partner-name`: whether the partner's certificate must carry the address of its URL or, in its
    /// common name or alternative names, its peer name; false by default, as in Kea.
    pub check_partner_name: Located<bool>,
}

/// What an ACK waits for on its own host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// `synced`: the row is on stable storage.
    Synced,
    /// `written`: the kernel has the row, which is what Kea's memfile gives.
    Written,
}
