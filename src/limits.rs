//! Every limit of the server, with its reason.

/// Executors of one kind: shards, HA listeners, HA senders. A shard is one bit of a word while rules are handed out,
/// and a node number is an octet.
pub const EXECUTORS_MAX: u32 = 64;

/// Datagrams that may wait in one datagram lane between two shards; beyond it a forwarded query is dropped
/// and counted, and the client retransmits.
pub const DATAGRAM_LANE: usize = 1024;

/// Messages that may wait in one state lane. Credit is reserved before work starts, so a full lane costs a
/// datagram and never an index entry or a partner's update.
pub const STATE_LANE: usize = 4096;

/// Datagrams taken from a socket, and sent, at a time. Fewer where `packet-queue-size` split over the shards says so:
/// that many are undecided in the server at most, all others wait in the kernel.
pub const RECEIVE_BATCH: usize = 64;

/// Journal bytes that may wait per shard; above it queries that would commit are dropped.
pub const JOURNAL_WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Replies that may wait for a partner where `parked-packet-limit` is 0 (unlimited in Kea).
pub const PARKED_MAX: usize = 65_536;

/// Largest DHCP message sent or received, octets: the largest UDP payload.
pub const DATAGRAM_OCTETS_MAX: usize = 65_507;

/// An offer keeps its address from other clients this long, in milliseconds.
pub const OFFER_HOLD_MS: u64 = 10_000;

/// HTTP request head and body limits of a listener, octets.
pub const HTTP_HEAD_OCTETS_MAX: usize = 16 * 1024;
/// Largest HTTP request body accepted.
pub const HTTP_REQUEST_BODY_OCTETS_MAX: usize = 1024 * 1024;
/// Largest HTTP response body accepted (a page of leases).
pub const HTTP_RESPONSE_BODY_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// Different options in one message; clients send about ten, PXE ROMs about thirty.
pub const OPTIONS_MAX: usize = 128;

/// Options in one message, repeated ones (RFC 3396) included: bounds the work of joining them.
pub const OPTION_INSTANCES_MAX: usize = 512;

/// Octets of all repeated options of one message once joined (RFC 3396): what fits an Ethernet frame.
pub const JOINED_OPTION_OCTETS_MAX: usize = 1536;

/// A request must be whole within this time of the last byte received, milliseconds (ha-protocol 2.4).
pub const HTTP_REQUEST_MS: u64 = 10_000;
/// A request must be whole within this time of its first byte, however it trickles, milliseconds: what it holds is not
/// held for ever.
pub const HTTP_REQUEST_TOTAL_MS: u64 = 60_000;
/// A response must be taken within this time and [`HTTP_RESPONSE_MS_PER_MIB`], however it trickles, milliseconds: what
/// it holds is not held for ever.
pub const HTTP_RESPONSE_TOTAL_MS: u64 = 60_000;
/// What a large response may take beside that, milliseconds for each MiB: the time of 8 Mbit/s.
pub const HTTP_RESPONSE_MS_PER_MIB: u64 = 1_000;
/// An idle inbound connection is kept this long, so that a partner's thin traffic never finds it closed (ha-protocol 2.4).
pub const HTTP_IDLE_MS: u64 = 300_000;
/// An idle outbound connection is given up after this time: Kea closes at 30 s and a race loses the request.
pub const HTTP_CLIENT_IDLE_MS: u64 = 25_000;

/// Locks another server may hold on the DHCP service at a time; it needs one or two.
pub const HA_REMOTE_LOCKS_MAX: usize = 16;

/// Clients remembered by the traffic analysis of an interrupted pair; beyond it they are counted, not kept.
pub const HA_CLIENTS_MAX: usize = 65_536;

/// Connections an HA listen executor or an HTTP control socket serves at a time; one more is closed at once. A
/// partner opens one per sender; each may hold a request of `HTTP_REQUEST_BODY_OCTETS_MAX`.
pub const HA_CONNECTIONS_MAX: usize = 256;
/// Accepted connections that may wait for one listen executor; it takes them within a loop iteration.
pub const HA_ACCEPTED_WAITING_MAX: usize = 64;
/// Of the connections of an executor, those of hosts that are no peers: what they hold cannot keep a peer out.
pub const HA_FOREIGN_CONNECTIONS_MAX: usize = 64;
/// What a peer's share of the rest is at least, however many peers there are: its senders are one or two for each
/// listener.
pub const HA_PEER_CONNECTIONS_MIN: usize = 16;
/// Descriptors of everything but connections, as far as it does not grow with the number of executors: files, logs,
/// control sockets, interfaces.
pub const DESCRIPTORS_OTHER: u64 = 512;
/// Descriptors of one executor beside its connections: rings, eventfd, sockets of its interfaces.
pub const DESCRIPTORS_OF_EXECUTOR: u64 = 16;
/// Lists of leases that wait for their turn at an HA listen executor: one is made and sent at a time for peers, and one
/// for everybody else, because each may hold all leases. A partner that copies asks for one.
pub const HA_LISTS_WAITING_MAX: usize = 8;
/// Leases that somebody who is no peer may ask for in one page at an HA listener: ten times what a Kea asks for unless it
/// is told otherwise. More is refused and not cut, for a page that is not full ends the copy of a Kea.
pub const HA_STRANGERS_PAGE_LEASES_MAX: u32 = 100_000;
/// Lease updates in one request between Tandem servers: what gathers in a few milliseconds under full load.
pub const HA_BATCH_UPDATES_MAX: u16 = 512;
/// A request of lease updates is not made longer than this, octets: well below `HTTP_REQUEST_BODY_OCTETS_MAX`, which
/// leases with large user contexts could otherwise reach.
pub const HA_BATCH_OCTETS_MAX: usize = 256 * 1024;
/// Lease updates that may wait in a sender: two (a deletion and an update) for each parked reply. One more comes
/// back as failed, and its client retransmits.
pub const SENDER_WAITING_MAX: usize = 2 * PARKED_MAX;
/// Lease updates that may wait in a sender for one backup server: a few seconds of a fast one. Beyond it they are lost
/// to the backup, which is then marked as needing a copy.
pub const BACKUP_WAITING_MAX: usize = 8_192;
/// Largest command on the unix control socket (a whole configuration to test), octets.
pub const CONTROL_REQUEST_OCTETS_MAX: usize = 16 * 1024 * 1024;
/// Connections of a unix control socket served at a time; one more waits in the kernel.
pub const CONTROL_CONNECTIONS_MAX: usize = 32;
/// Addresses per shard of which it is remembered what a partner without stamps said last; one is 32 octets. An update is
/// overtaken by milliseconds, and 1,000 updates a second take four seconds to fill it. An address that loses its place to
/// another one is told right by the next renewal.
pub const HEARD_LEASES_MAX: usize = 4096;
/// Offer holds per shard; one is about 40 octets, and 10 s of offers at 6,500 a second fill it. Beyond it the
/// oldest hold is forgotten, which costs a client a NAK at worst.
pub const OFFER_HOLDS_MAX: usize = 65_536;

/// Entries of each identity index of a shard: more than the leases a shard is meant to hold.
pub const INDEX_ENTRIES_MAX: usize = 16 * 1024 * 1024;

/// Expired leases reclaimed, or reclaimed rows purged, between two batches of datagrams.
pub const RECLAIM_SLICE: usize = 32;

/// Leases that a list looks at between two batches of datagrams; a search through all of them is asked for in as many
/// steps as it takes. A few ten microseconds.
pub const LEASES_LOOKED_AT: usize = 4096;

/// Boxes kept for use again, of each kind.
pub const SPARE_BOXES_MAX: usize = 1024;

/// How long after `max-ack-delay` an unanswered lease update is given up, milliseconds. The sender has its own
/// time-out and always answers; this is for the case that it does not.
pub const PARKED_GRACE_MS: u64 = 30_000;

/// Leases of a synchronisation page given to a shard at a time, as one commit: about half a millisecond of its core, and
/// it serves others in between.
pub const SYNC_CHUNK_LEASES: usize = 256;
/// Such parts that a shard may have before it at a time: enough that it never waits for the disk between two.
pub const SYNC_CHUNKS_UNDER_WAY: usize = 4;

/// Leases that may have changed while a partner copies, per shard and four octets each; a copy that does not keep up with
/// more is told so and begins anew with the service off.
pub const CHANGES_MAX: usize = 256 * 1024;
/// Deleted leases remembered per shard for a partner that was away; of more it does not hear, as with Kea.
pub const DELETIONS_MAX: usize = 16 * 1024;
/// Leases remembered per shard and relationship whose updates were refused, so that nobody was answered: for a minute after
/// this server was alone. Of more the newer lease of an address stays, where the partner was alone as well.
pub const REFUSED_UPDATES_MAX: usize = 16 * 1024;
/// A copier that asks nothing for so long has gone, milliseconds: changes are no longer noted for it. It asks again
/// as soon as it has applied what it was given, which are seconds.
pub const COPY_PATIENCE_MS: u64 = 120_000;
/// Leases in one answer of a copy between Tandem servers.
pub const COPY_LEASES: usize = 16 * 1024;
/// Octets of rows after which such an answer ends: with the leases made of them, what a copier holds two of.
pub const COPY_OCTETS: usize = 4 * 1024 * 1024;
/// Changed leases a shard tells of at a time.
pub const COPY_CHANGES: usize = 512;
/// Of these, after how many it is looked at whether their user contexts are octets enough.
pub const COPY_CHANGES_STEP: usize = 16;
/// Most leases asked for in one page of a Kea, whatever `sync-page-limit` says: at 260 octets each, a page with user
/// contexts of a kilobyte in all of them fits an answer.
pub const SYNC_PAGE_LEASES_MAX: u32 = 50_000;
/// Conflicts of one copy that are logged with both leases; the rest is counted.
pub const CONFLICTS_LOGGED_MAX: usize = 16;

/// Index entries that one changed lease moves at most: two removed and two added.
const INDEX_CHANGES_PER_LEASE: usize = 4;

// A commit needs credit for all that follows from it at once: one that needs more than a lane has could never be done.
const _: () = assert!(SYNC_CHUNK_LEASES * INDEX_CHANGES_PER_LEASE <= STATE_LANE);
const _: () = assert!(HA_BATCH_UPDATES_MAX as usize * INDEX_CHANGES_PER_LEASE <= STATE_LANE);
const _: () = assert!(RECLAIM_SLICE * INDEX_CHANGES_PER_LEASE <= STATE_LANE);
// An answer of a copy is well within what a client takes, with the largest leases behind it: what was gathered when it
// was not yet enough, and one answer of a shard.
const _: () = assert!(
    2 * COPY_OCTETS + COPY_CHANGES_STEP * HTTP_REQUEST_BODY_OCTETS_MAX <= HTTP_RESPONSE_BODY_OCTETS_MAX
);
// A batch of queries that all go to one other shard fits its lane, and so do the messages that follow from their leases.
const _: () = assert!(RECEIVE_BATCH <= DATAGRAM_LANE);
const _: () = assert!(RECEIVE_BATCH * INDEX_CHANGES_PER_LEASE <= STATE_LANE);
// Rows of a batch, with the strings of the largest query in each, do not fill the journal by themselves.
const _: () = assert!(RECEIVE_BATCH * 4 * JOINED_OPTION_OCTETS_MAX < JOURNAL_WAITING_BYTES_MAX);
// Every update of a parked reply has a place in its sender; an address is replicated by one sender only.
const _: () = assert!(SENDER_WAITING_MAX >= 2 * PARKED_MAX);
// A connection is given up by the side that opened it, and before Kea does.
const _: () = assert!(HTTP_CLIENT_IDLE_MS < 30_000 && HTTP_CLIENT_IDLE_MS < HTTP_IDLE_MS);
// A command of the partner may be as large as a request; a page of leases is an answer.
const _: () = assert!(HTTP_REQUEST_BODY_OCTETS_MAX <= HTTP_RESPONSE_BODY_OCTETS_MAX);
// Repeated options are repeated: more instances than options.
const _: () = assert!(OPTIONS_MAX <= OPTION_INSTANCES_MAX && JOINED_OPTION_OCTETS_MAX < DATAGRAM_OCTETS_MAX);
