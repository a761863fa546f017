//! DHCP servers: Tandem and the real Kea, started the same way.

use std::path::Path;

use super::namespace::Namespace;
use super::process::Process;

/// Where the Debian package puts Kea.
const KEA: &str = "/usr/sbin/kea-dhcp4";

/// Which server to run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Kea,
    Tandem,
}

/// Starts `kind` on the configuration file `config` in `namespace`, with `extra` in its environment; run-time files go to
/// `folder`.
pub fn start(
    kind: Kind,
    namespace: &Namespace,
    config: &Path,
    folder: &Path,
    extra: &[(&str, &str)],
) -> Process {
    let text = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
    let (config, run) = (text(config), text(folder));
    let mut environment = vec![
        ("KEA_PIDFILE_DIR", run.as_str()),
        ("KEA_LOCKFILE_DIR", run.as_str()),
        ("KEA_DHCP_DATA_DIR", run.as_str()),
        ("KEA_CONTROL_SOCKET_DIR", run.as_str()),
        ("KEA_LOG_FILE_DIR", run.as_str()),
    ];
    environment.extend(extra);
    let program = match kind {
        Kind::Kea => KEA,
        Kind::Tandem => env!("CARGO_BIN_EXE_tandem-dhcp4"),
    };
    Process::start(namespace, program, &["-c", &config], &environment, &folder.join("output"))
}
