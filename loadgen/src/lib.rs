//! An open-loop load generator for DHCPv4 servers.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`settings`] | a run as data |
//! | [`plan`] | when each exchange starts |
//! | [`scenario`] | what clients do, and which of them next |
//! | [`identity`], [`template`], [`options`] | who they are, and their messages |
//! | [`machine`] | exchanges under way: replies and time in, messages and results out |
//! | [`check`] | what a reply must be, and who holds which address |
//! | [`recorder`] | counters and latencies |
//! | [`attach`] | the sockets |
//! | [`sender`], [`run`] | the loop of one sender; all of them together |
//! | [`report`] | the result as data, and its renderings |
//! | [`capacity`] | the highest rate that holds an objective |
//! | [`reflector`] | the floor: a server that does nothing |
//! | [`cli`] | the command line |
//!
//! Everything but `attach`, `sender`, `run`, `reflector` and `cli` is pure.

pub mod attach;
pub mod capacity;
pub mod check;
pub mod cli;
pub mod identity;
pub mod machine;
pub mod options;
pub mod plan;
pub mod recorder;
pub mod reflector;
pub mod report;
pub mod run;
pub mod scenario;
pub mod sender;
pub mod settings;
pub mod template;
