//! INFORM (PKT-79): options only; no lease is looked up, kept or changed.

use shards::DatagramMeta;

use crate::dhcp4::respond::{self, Built};
use crate::dhcp4::select;
use crate::policy::{Scope, Snapshot};
use crate::wire::{Query, ReplyBuffer, WriteError};

/// Writes the ACK to an INFORM of `scope`: with the options of its subnet, or the global ones where it has none.
///
/// # Errors
/// [`WriteError`] when the configured options do not fit a datagram.
pub fn answer(
    query: &Query,
    meta: &DatagramMeta,
    scope: Scope,
    snapshot: &Snapshot,
    reply: &mut ReplyBuffer,
) -> Result<Built, WriteError> {
    respond::inform_ack(query, meta, snapshot, select::subnet(query, meta, scope, snapshot), reply)
}
