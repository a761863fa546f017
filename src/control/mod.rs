//! Commands (pure): a table from name to typed handler, requests in, plans and answers out.
//!
//! The channels (unix socket, HTTP control socket, HA listener) and what carries a plan out are in `runtime`.
//! Envelope and replies are those of [`crate::ha::command`], which the partner's commands share.

pub mod agent;
mod answer;
pub mod copy;
pub mod gather;
pub mod json;
pub mod lease_change;
pub mod overload;
pub mod service;
pub mod statistic;
pub mod status;
pub mod table;
pub mod version;

pub use answer::Answer;
pub use copy::CopyAnswer;
pub use gather::Gather;
pub use overload::{OverloadDrops, OverloadNotice, OverloadWatch};
pub use status::StatusFacts;
pub use table::{Facts, Plan, ServerCommand, plan};
