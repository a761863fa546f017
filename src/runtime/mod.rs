//! Everything of the server that touches a kernel: executors, sockets, TLS, files, threads.

mod log_output;
pub mod log_thread;
