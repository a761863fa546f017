//! Kea's JSON dialect: files in, a typed document with positions out.
//!
//! A file goes through three steps, each with its own module:
//!
//! 1. `json` reads the dialect (comments, includes, trailing commas) into a tree of [`Value`]s, each of
//!    which knows where it stands;
//! 2. [`schema`] holds one row for every key of both dialects (2.2 and 3.x) and checks the tree against
//!    them: unknown and mistyped keys, ranges, and keys that are not built yet;
//! 3. [`document`], [`ha`], [`agent`] and their neighbours read the checked tree into types.
//!
//! The crate knows files and text. It never looks at interfaces, addresses of the host, certificates or the
//! clock, and it encodes no DHCP option: that is the business of whoever compiles the document.
//!
//! Invariants: no input makes it panic; every error and every warning names a place in a file; a key that is
//! accepted without effect has a warning.

mod document_reader;
mod ha_peer;
mod ha_reader;
mod ha_roles;
mod hooks;
mod json;
mod load;
mod reader;

pub mod agent;
pub mod diagnostics;
pub mod document;
pub mod guard;
pub mod ha;
pub mod ha_hub;
pub mod logger;
pub mod option;
pub mod paths;
pub mod schema;
pub mod scope;
pub mod socket;
pub mod subnet;
pub mod tandem;
pub mod value;

pub use agent::ControlAgent;
pub use diagnostics::{ConfigError, Diagnostic, Diagnostics};
pub use document::{Dialect, Document};
pub use load::{
    Loaded, control_agent_from_value, dhcp4_from_command, dhcp4_from_json, dhcp4_from_value,
    load_control_agent, load_dhcp4, parse_control_agent, parse_dhcp4, parse_value, parse_value_of_file,
};
pub use value::{Located, Position, Value};
