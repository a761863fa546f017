//! What dnsmasq is told (pure).
//!
//! It writes its whole lease file anew and syncs it for every change, so its rate falls with the number of
//! leases; that is how it is, and no setting of it changes that without giving up the file.

use std::path::Path;

use super::layout;

/// Most leases: it has to be told, and a cell must not reach it.
const LEASES_MAX: u32 = 16_000_000;

/// The configuration with leases in `folder`.
pub fn configuration(folder: &Path) -> String {
    let interface = layout::SERVER_INTERFACE;
    let leases = folder.join("leases");
    format!(
        "port=0\nno-resolv\nno-hosts\nuser=root\npid-file=\ninterface={interface}\nbind-interfaces\n\
         dhcp-authoritative\nno-ping\nquiet-dhcp\ndhcp-lease-max={LEASES_MAX}\ndhcp-leasefile={}\n\
         dhcp-range=10.1.0.0,10.250.255.255,255.0.0.0,3600\n",
        leases.display()
    )
}

/// Its arguments: in the foreground, with that file.
pub fn arguments(file: &Path) -> Vec<String> {
    vec!["--keep-in-foreground".into(), format!("--conf-file={}", file.display())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_lie_in_the_folder_and_nothing_delays_an_answer() {
        let text = configuration(Path::new("/out/x"));
        for line in ["dhcp-leasefile=/out/x/leases", "no-ping", "interface=srv0", "port=0"] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
