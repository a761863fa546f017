//! Which release Tandem answers for, and what it says of itself.

use config::Dialect;

/// Our own version.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// The Kea release whose dialect a configuration speaks: tools decide by it whether to talk
/// to a control agent or to the server itself.
pub fn release(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Kea2_2 => "2.2.0",
        Dialect::Kea3 => "3.0.0",
    }
}

/// `extended` of `version-get`.
pub fn extended(dialect: Dialect) -> String {
    format!(
        "{}\nTandem {OWN}, a DHCPv4 server that speaks this release's configuration and commands\nbackend: memfile",
        release(dialect)
    )
}

/// Text of `build-report`.
pub fn build_report() -> String {
    format!(
        "Tandem {OWN}\nTarget: {} {}\nBuild: {}\nTLS: rustls with ring, versions 1.2 and 1.3\nI/O: io_uring\n\
         Lease database: memfile\nBuilt in: lease commands, high availability (hot-standby)",
        std::env::consts::ARCH,
        std::env::consts::OS,
        if cfg!(debug_assertions) { "debug" } else { "release" },
    )
}
