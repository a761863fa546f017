//! Kea's JSON dialect: files in, a typed document with positions out.
//!
//! The crate knows files and text. It never looks at interfaces, addresses of the host, certificates or the
//! clock, and it encodes no DHCP option: that is the business of whoever compiles the document.
//!
//! Invariants: no input makes it panic; every error and every warning names a place in a file; a key that is
//! accepted without effect has a warning.

pub mod agent;
pub mod diagnostics;
pub mod document;
pub mod ha;
pub mod logger;
pub mod option;
pub mod paths;
pub mod scope;
pub mod socket;
pub mod subnet;
pub mod tandem;
pub mod value;

pub use agent::ControlAgent;
pub use diagnostics::{ConfigError, Diagnostic, Diagnostics};
pub use document::{Dialect, Document};
pub use value::{Located, Position, Value};
