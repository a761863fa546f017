//! High availability in every mode (ha-protocol). Pure: the control node drives it.
//!
//! | Module | What is in it |
//! |---|---|
//! | [`machine`] | the HA machine: events in, actions out, timers |
//! | [`transition`] | the transition table, a total function |
//! | [`profile`] | what a state means: scopes, service, updates |
//! | [`event`] | events and actions as data |
//! | [`sync`] | paged synchronisation, driven by the machine |
//! | [`communication`] | contact with the partner, traffic analysis, clock skew, rejected clients |
//! | [`backlog`] | updates put off in communication-recovery |
//! | [`fence`] | which updates come too late to be carried out |
//! | [`fingerprint`] | whether two servers run the same configuration, and where not |
//! | [`locks`] | who holds the DHCP service off, and until when |
//! | [`command`], [`lease_json`], [`lease_page`], [`json`] | commands, leases and pages of them on the wire |
//! | [`batch`], [`outbox`] | many updates in one request; which updates wait for a connection, and which go next |
//! | [`lease_query`] | which lease a command is about, by address or by client |
//! | [`copy`] | copying from a Tandem server that goes on serving |
//! | [`lease_rows`] | leases in octets, in bulk between two Tandem servers |
//! | [`relationship`] | the configuration of the pair |
//! | [`refusals`] | whose lease updates the partner refuses, and whose of them count |
//! | [`dispatch`] | which relationship of a hub a command is for |
//! | [`nodes`] | which executors serve which relationship of a hub |
//! | [`state`], [`view`] | names of states; what shards must know |
//! | [`log`] | what is logged, under Kea's message ids |
//!
//! One machine is one relationship.

pub mod backlog;
pub mod batch;
pub mod command;
pub mod communication;
pub mod copy;
pub mod dispatch;
pub mod event;
pub mod fence;
pub mod fingerprint;
pub(crate) mod identifier;
pub mod json;
mod lease_fields;
pub mod lease_json;
pub mod lease_page;
pub mod lease_query;
pub mod lease_rows;
pub mod locks;
pub mod log;
pub mod machine;
pub mod nodes;
pub mod outbox;
pub mod profile;
pub mod refusals;
pub mod relationship;
pub mod state;
pub mod sync;
#[cfg(test)]
pub(crate) mod test_support;
pub mod transition;
#[cfg(test)]
mod transition_tests;
pub mod view;

pub use event::{Action, Call, CallId, ClientIdentity, CommandSource, Event};
pub use machine::Machine;
pub use relationship::{Pause, PeerName, Relationship};
pub use state::{Mode, OwnState, PartnerState, Role};
pub use view::{BackupPeers, BackupUpdates, HaView, Scopes, UpdateMode};
