//! What the scenarios share: sites with servers of either kind, partners that are scripts, taps between two servers,
//! clients, and lease stores compared row by row.

#[path = "../../netns/support/authority.rs"]
pub mod authority;
#[path = "../../netns/support/certificates.rs"]
pub mod certificates;
#[path = "../../netns/support/client.rs"]
pub mod client;
pub mod clients;
#[path = "../../netns/support/control.rs"]
pub mod control;
#[path = "../../netns/support/dhcp.rs"]
pub mod dhcp;
#[path = "../../netns/support/frame.rs"]
pub mod frame;
pub mod http;
#[path = "../../netns/support/https.rs"]
pub mod https;
pub mod k3;
#[path = "../../netns/support/lan.rs"]
pub mod lan;
pub mod load;
#[path = "../../netns/support/namespace.rs"]
pub mod namespace;
pub mod plan;
#[path = "../../netns/support/process.rs"]
pub mod process;
pub mod rfc3074;
pub mod rows;
#[path = "../../netns/support/server.rs"]
pub mod server;
pub mod site;
#[path = "../../netns/support/sys/mod.rs"]
pub mod sys;
pub mod tap;
