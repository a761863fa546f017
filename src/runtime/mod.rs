//! Everything of the server that touches a kernel: executors, sockets, TLS, files, threads.

pub mod boot;
mod boot_loggers;
mod boot_pid;
mod boot_places;
mod boot_sockets;
mod boot_start;
mod certificates;
pub mod clock;
pub mod control_client;
pub mod control_http;
pub mod control_node;
pub mod control_plane;
pub mod control_socket;
pub mod ctrl_agent;
pub mod demo;
pub mod ha;
pub mod http_serve;
pub mod lease_file;
mod lease_load;
pub mod link;
pub mod local;
mod log_output;
pub mod log_thread;
mod parallel;
pub mod pki;
pub mod pki_cli;
pub mod refusals;
pub mod server;
mod signals;
pub mod snapshot_loader;
pub mod status;
mod text;
pub mod tls;
pub mod tls_session;
#[cfg(test)]
mod tls_tests;
mod tls_verify;
