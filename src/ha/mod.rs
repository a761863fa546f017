//! High availability: the hot-standby pair (ha-protocol). Pure: the control node drives it.
//!
//! | Module | What is in it |
//! |---|---|
//! | [`event`] | events and actions as data |
//! | [`command`], [`lease_json`], [`json`] | commands and leases on the wire |
//! | [`relationship`] | the configuration of the pair |
//! | [`state`], [`view`] | names of states; what shards must know |
//! | [`log`] | what is logged, under Kea's message ids |
//!
//! Not built: load-balancing, passive-backup and backup servers, the maintenance states, hub and spoke. Their
//! configuration is refused; as a *partner's* states they are understood.

pub mod command;
pub mod event;
pub mod json;
pub mod lease_json;
pub mod log;
pub mod relationship;
pub mod state;
pub mod view;

pub use event::{Action, Call, CallId, ClientIdentity, CommandSource, Event};
pub use relationship::Relationship;
pub use state::{OwnState, PartnerState, Role};
pub use view::{HaView, UpdateMode};
