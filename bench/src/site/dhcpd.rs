//! What ISC's dhcpd is told (pure).
//!
//! It syncs its lease file before every ACK. As Debian builds it, it walks a list of all free addresses for every
//! client, so the range decides its rate: it gets a /16, which is large for it, and not the millions of the others.

use std::path::Path;

use super::layout;

/// The configuration.
pub fn configuration() -> String {
    "authoritative;\nping-check false;\ndefault-lease-time 3600;\nmax-lease-time 3600;\n\
     subnet 10.0.0.0 netmask 255.0.0.0 {\n  range 10.1.0.0 10.1.255.255;\n}\n"
        .to_owned()
}

/// Its arguments: in the foreground, with that file and with leases in `folder`.
pub fn arguments(file: &Path, folder: &Path) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    vec![
        "-4".into(),
        "-f".into(),
        "-q".into(),
        "--no-pid".into(),
        "-cf".into(),
        path(file),
        "-lf".into(),
        path(&leases(folder)),
        layout::SERVER_INTERFACE.into(),
    ]
}

/// Its lease file, which has to be there before it starts.
pub fn leases(folder: &Path) -> std::path::PathBuf {
    folder.join("dhcpd.leases")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_file_is_ours_and_the_interface_comes_last() {
        let found = arguments(Path::new("/out/conf"), Path::new("/out"));
        assert!(found.windows(2).any(|pair| pair == ["-lf", "/out/dhcpd.leases"]), "{found:?}");
        assert_eq!(found.last().map(String::as_str), Some("srv0"));
    }
}
