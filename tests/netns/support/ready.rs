//! Servers that are waited for.

use std::path::Path;
use std::time::Duration;

use super::namespace::Namespace;
use super::process::Process;
use super::server::{Kind, start};

/// Starts a server and waits until it serves.
pub fn start_ready(kind: Kind, namespace: &Namespace, config: &Path, folder: &Path) -> Process {
    let mut process = start(kind, namespace, config, folder, &[]);
    process.wait_for(None, "DHCP4_STARTED", Duration::from_secs(40));
    process
}
