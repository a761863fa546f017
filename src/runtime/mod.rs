//! Everything of the server that touches a kernel: executors, sockets, TLS, files, threads.

mod log_output;
pub mod log_thread;
pub mod pki;
pub mod tls;
pub mod tls_session;
#[cfg(test)]
mod tls_tests;
mod tls_verify;
