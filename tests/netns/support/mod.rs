//! What the end-to-end tests share: namespaces, processes in them, frames on the wire, servers and clients.

pub mod alone;
pub mod authority;
pub mod certificates;
pub mod client;
pub mod control;
pub mod dhcp;
pub mod frame;
pub mod https;
pub mod lan;
pub mod namespace;
pub mod pair;
pub mod process;
pub mod ready;
pub mod relay;
pub mod server;
pub mod sys;
