//! `lease4-add`, `lease4-update` and `lease4-del`: which shard is asked for what, and what its answer becomes.
//!
//! Shared by HA listeners and the control channels, through which partners come where there is no dedicated
//! listener (ha-protocol 2.12).

use std::net::Ipv4Addr;

use crate::engine::message::{ShardCommandBody, ShardReplyBody};
use crate::engine::rules::Rules;
use crate::ha::batch::{foreign, given_alone};
use crate::ha::command::{Envelope, Reply, result};
use crate::ha::lease_json::LeaseUpdate;
use crate::ha::lease_query::{ClientQuery, LeaseQuery};

/// What a command that changes a lease comes to.
#[derive(Debug)]
pub enum LeaseChange {
    /// The owner of its address changes it.
    At(OwnerChange),
    /// Found by its client, it is deleted: an administrator's command, no partner's.
    DeleteOf(ClientQuery),
}

/// One change of a lease on its way to the owner of its address.
#[derive(Debug)]
pub struct OwnerChange {
    /// The address.
    pub address: Ipv4Addr,
    /// The shard that owns it.
    pub owner: u8,
    /// What to ask of it.
    pub body: ShardCommandBody,
}

impl LeaseChange {
    /// Reads a `lease4-add`, a `lease4-del`, or else a `lease4-update`, at `now_s` (seconds since the epoch), that came to
    /// the listener of `relationship`, or to a control channel.
    ///
    /// # Errors
    /// The answer, where the command is wrong (ha-protocol 3.5 to 3.7).
    pub fn parse(
        envelope: &Envelope,
        now_s: u64,
        relationship: Option<u8>,
        rules: &Rules,
    ) -> Result<Self, Reply> {
        let subnets = rules.snapshot.as_ref();
        let (address, body) = match envelope.command.as_str() {
            "lease4-add" => {
                let lease = Box::new(LeaseUpdate::parse(envelope, now_s, subnets)?.lease);
                (lease.address, ShardCommandBody::Add { lease, relationship })
            }
            "lease4-del" => match LeaseQuery::parse(envelope, "Delete")? {
                LeaseQuery::Client(client) => return Ok(Self::DeleteOf(client)),
                LeaseQuery::Address(address) => {
                    let deleted = LeaseUpdate::deleted(envelope, now_s, subnets).map(Box::new);
                    (address, ShardCommandBody::PartnerDelete { address, deleted, relationship })
                }
            },
            _ => {
                let update = LeaseUpdate::parse(envelope, now_s, subnets)?;
                let LeaseUpdate { lease, force_create, replicates: by_partner } = update;
                let (address, lease) = (lease.address, Box::new(lease));
                (address, ShardCommandBody::PartnerUpdate { lease, force_create, by_partner, relationship })
            }
        };
        Ok(Self::At(OwnerChange { address, owner: rules.owners.owner_of(address), body }))
    }
}

impl OwnerChange {
    /// Deletes the lease of `address`, if it is still that of `client`.
    pub fn delete_of(
        client: ClientQuery,
        address: Ipv4Addr,
        relationship: Option<u8>,
        rules: &Rules,
    ) -> Self {
        let body = ShardCommandBody::DeleteOf { address, client: Box::new(client), relationship };
        Self { address, owner: rules.owners.owner_of(address), body }
    }
}

/// What is answered of a change of the lease of `address`; `None` is a shard that did not answer.
pub fn change_reply(address: Ipv4Addr, answer: Option<ShardReplyBody>) -> Reply {
    match answer {
        Some(ShardReplyBody::Updated { created: true }) => Reply::success("IPv4 lease added."),
        Some(ShardReplyBody::Updated { created: false }) => Reply::success("IPv4 lease updated."),
        Some(ShardReplyBody::Missing) => {
            let text = format!(
                "failed to update the lease with address {address} either because the lease has been deleted or it has \
                 changed in the database, in both cases a retry might succeed"
            );
            Reply::new(result::CONFLICT, text)
        }
        Some(ShardReplyBody::Added(subnet_id)) => {
            Reply::success(format!("Lease for address {address}, subnet-id {subnet_id} added."))
        }
        Some(ShardReplyBody::Exists) => Reply::new(result::CONFLICT, "IPv4 lease already exists."),
        Some(ShardReplyBody::Deleted(true)) => Reply::success("IPv4 lease deleted."),
        Some(ShardReplyBody::Deleted(false)) => Reply::new(result::EMPTY, "IPv4 lease not found."),
        Some(ShardReplyBody::Foreign) => foreign(address),
        Some(ShardReplyBody::GivenAlone(ours)) => Reply::error(given_alone(&ours)),
        Some(_) => {
            Reply::error(format!("the lease of {address} cannot be changed: the lease file takes nothing"))
        }
        None => Reply::error(format!("the lease of {address} was not changed in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_a_shard_has_its_result() {
        let address = Ipv4Addr::new(192, 0, 2, 1);
        let rows = [
            (Some(ShardReplyBody::Updated { created: true }), 0, "IPv4 lease added."),
            (Some(ShardReplyBody::Updated { created: false }), 0, "IPv4 lease updated."),
            (
                Some(ShardReplyBody::Missing),
                4,
                "failed to update the lease with address 192.0.2.1 either because the lease has been deleted or it has \
                 changed in the database, in both cases a retry might succeed",
            ),
            (
                Some(ShardReplyBody::Foreign),
                4,
                "the lease of 192.0.2.1 cannot be changed: its subnet is of another relationship",
            ),
            (Some(ShardReplyBody::Added(7)), 0, "Lease for address 192.0.2.1, subnet-id 7 added."),
            (Some(ShardReplyBody::Exists), 4, "IPv4 lease already exists."),
            (Some(ShardReplyBody::Deleted(true)), 0, "IPv4 lease deleted."),
            (Some(ShardReplyBody::Deleted(false)), 3, "IPv4 lease not found."),
            (
                Some(ShardReplyBody::Busy),
                1,
                "the lease of 192.0.2.1 cannot be changed: the lease file takes nothing",
            ),
            (None, 1, "the lease of 192.0.2.1 was not changed in time"),
        ];
        for (answer, code, text) in rows {
            let reply = change_reply(address, answer);
            assert_eq!((reply.result, reply.text.as_deref()), (code, Some(text)));
        }
    }
}
