//! What goes into the HA machine and what comes out, as data.
//!
//! The control node drives the machine: it feeds [`Event`]s, carries out [`Action`]s in order, and calls
//! `handle_timeout` when `next_timeout` has passed. A call it is asked to make is always answered with
//! [`Event::CallDone`], be it with a failure; a page it is asked to apply always with [`Event::PageApplied`].

use std::sync::Arc;

use shards::{Lease, SmallBytes};

use super::command::{HaCommand, Reply};
use super::copy::CopyRows;
use super::fingerprint::Fingerprint;
use super::log::LogEvent;
use super::relationship::Relationship;
use super::view::HaView;
use crate::engine::message::{Applied, Asked, Line, UpdateKind, UpdateOutcome};

/// Number of a call to the partner or of a page to apply; unique for the life of the machine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u64);

/// Who a DHCP client is to the HA machine.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientIdentity {
    /// chaddr.
    pub hwaddr: SmallBytes,
    /// Payload of option 61, or empty.
    pub client_id: SmallBytes,
}

/// Where a command came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CommandSource {
    /// Control socket or HTTP control socket.
    Administrator,
    /// The HA listener, from the address of the backup server with this peer index.
    Backup(u8),
    /// The HA listener of the relationship, from the address of the active partner or from one that tells nothing.
    Partner,
}

/// Something that has happened.
#[derive(Debug)]
pub enum Event {
    /// A lease update for the backlog, from a shard whose view says [`super::view::UpdateMode::Queue`].
    Backlog {
        /// Command that would have been sent.
        kind: UpdateKind,
        /// The lease as committed.
        lease: Box<Lease>,
        /// Why the partner has not taken it, where it was handed back ([`Action::HandBack`]) and sent.
        outcome: Option<UpdateOutcome>,
    },
    /// A call has ended: the body of the HTTP response, whatever its status, or why there is none.
    CallDone {
        /// Which call.
        id: CallId,
        /// The response body or the failure in words.
        result: Result<Vec<u8>, String>,
    },
    /// A command to answer with [`Action::Answer`].
    Command {
        /// Chosen by the driver; comes back in the answer.
        token: u64,
        /// Who asks.
        source: CommandSource,
        /// The command.
        command: HaCommand,
    },
    /// Every lease of a page has been applied (or could not be).
    PageApplied {
        /// Which page.
        id: CallId,
        /// What became of its leases, or why the page could not be applied.
        result: Result<Applied, String>,
    },
    /// The configuration was read again, and this is what it says now. Names, URLs, role and TLS files are those the
    /// machine was made with (a change of them needs a restart).
    Reconfigured(Box<Relationship>),
    /// What the configuration in force hashes to: right after the start, and after every reload.
    Fingerprint(Box<Fingerprint>),
    /// The first event, once.
    Start,
    /// The server is about to end: nothing more is served, and a Tandem partner is told. [`Action::StopAnnounced`]
    /// follows, at once or when the partner has answered.
    Stopping,
    /// A query of a client that is the partner's, seen while interrupted (ha-protocol 4.6).
    Unanswered {
        /// The client.
        client: ClientIdentity,
        /// `secs` of its header as received.
        secs: u16,
        /// What it asks for.
        asked: Asked,
    },
    /// The unsent-update counters of a shard (ha-protocol 4.8).
    UnsentUpdates {
        /// Which shard.
        shard: u8,
        /// Its count since process start.
        total: u64,
    },
    /// All lease updates of one query have come back (ha-protocol 4.2 (3)).
    UpdatesSettled {
        /// The worst outcome.
        outcome: UpdateOutcome,
        /// The client whose leases they were.
        client: ClientIdentity,
    },
}

/// One command to another server of the relationship.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// Comes back in [`Event::CallDone`].
    pub id: CallId,
    /// Peer index of the server it goes to; 0 is the active partner where there is one.
    pub peer: u8,
    /// Body of the HTTP request.
    pub body: Vec<u8>,
    /// How long the answer may take, milliseconds; 0 is for ever (`sync-timeout` 0).
    pub timeout_ms: u64,
    /// Over which connection, kept until [`Action::Close`].
    pub line: Line,
}

/// How long an exchange may take altogether, milliseconds. `timeout_ms` is restarted by every byte (ha-protocol 2.6), so
/// that a partner whose answer trickles could be waited for without an end.
pub fn exchange_limit_ms(timeout_ms: u64) -> u64 {
    /// `sync-timeout` 0: longer than any page of leases takes.
    const WITHOUT_TIMEOUT_MS: u64 = 600_000;
    match timeout_ms {
        0 => WITHOUT_TIMEOUT_MS,
        timeout_ms => timeout_ms.saturating_mul(2),
    }
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Action {
    /// Answer a command.
    Answer {
        /// The driver's number of the command.
        token: u64,
        /// The answer.
        reply: Reply,
    },
    /// Apply leases of a synchronisation page: each shard gets its own with `ShardCommandBody::Synchronised`.
    ApplyPage {
        /// Comes back in [`Event::PageApplied`].
        id: CallId,
        /// The leases.
        rows: CopyRows,
    },
    /// Send a command to the partner.
    Call(Call),
    /// A connection to a peer is not needed any longer once the calls already handed over have ended.
    Close {
        /// Peer index.
        peer: u8,
        /// Which of them.
        line: Line,
    },
    /// Give an update that was put off to the shard that owns its address, which sends what the address is by then, in
    /// order with its other updates. It comes back as [`Event::Backlog`] if it cannot be sent, or is not taken.
    HandBack {
        /// Command that would have been sent.
        kind: UpdateKind,
        /// The lease as committed.
        lease: Box<Lease>,
    },
    /// Write to the log.
    Log(LogEvent),
    /// Keep over a restart since when changes were made here that the partner may lack (own wall clock, seconds), or that
    /// there are none; before anything that follows is done.
    PartnerBehind(Option<u64>),
    /// The partner knows that this server stops, or need not or cannot be told.
    StopAnnounced,
    /// Hand this view to every shard (and to listeners and senders, who read the partner's generation in it).
    Publish(Arc<HaView>),
}
