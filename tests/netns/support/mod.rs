//! What the end-to-end tests share: namespaces, processes in them, frames on the wire.

pub mod frame;
pub mod namespace;
pub mod process;
pub mod sys;
