//! Which changes of a configuration a running server cannot take.
//!
//! The one list of such settings. Everything else is put in force by handing shards a new snapshot.

use std::fmt::{self, Debug};

use config::Document;
use config::ha::{Peer, Relationship};
use config::socket::{ControlSocket, TlsFiles};

/// A setting that differs and is fixed while the server runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestartNeed {
    /// The key, with the map it stands in.
    pub key: &'static str,
    /// Its value in force.
    pub old: String,
    /// Its value in the new file.
    pub new: String,
}

impl fmt::Display for RestartNeed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} changes from {} to {}", self.key, self.old, self.new)
    }
}

/// The settings of `new` that need a restart of a server that runs with `old`, in file order of their maps.
pub fn restart_required(old: &Document, new: &Document) -> Vec<RestartNeed> {
    let mut needs = Vec::new();
    let mut compare = |key, old: &dyn Debug, new: &dyn Debug| {
        let (old, new) = (format!("{old:?}"), format!("{new:?}"));
        if old != new {
            needs.push(RestartNeed { key, old, new });
        }
    };
    compare(
        "interfaces-config.dhcp-socket-type",
        &old.interfaces.socket_type.value,
        &new.interfaces.socket_type.value,
    );
    let database = |document: &Document| document.lease_database.name.as_ref().map(|name| name.value.clone());
    compare("lease-database.persist", &old.lease_database.persist.value, &new.lease_database.persist.value);
    compare("lease-database.name", &database(old), &database(new));
    let shards = |document: &Document| document.multi_threading.shards();
    compare("multi-threading.thread-pool-size", &shards(old), &shards(new));
    compare(
        "multi-threading.packet-queue-size",
        &old.multi_threading.packet_queue_size.value,
        &new.multi_threading.packet_queue_size.value,
    );
    compare("control-sockets", &control_sockets(old), &control_sockets(new));
    let relationship = |document: &Document| document.hooks.high_availability.is_some();
    compare("high-availability", &relationship(old), &relationship(new));
    if let (Some(before), Some(after)) = (&old.hooks.high_availability, &new.hooks.high_availability) {
        compare("high-availability.peers", &peers(before), &peers(after));
        let listener = |block: &Relationship| (*block.require_client_certs, *block.restrict_commands);
        compare(
            "high-availability.require-client-certs, restrict-commands",
            &listener(before),
            &listener(after),
        );
        let (before, after) = (&before.multi_threading, &after.multi_threading);
        compare(
            "high-availability.multi-threading.http-listener-threads",
            &threads(*before.enabled, *before.listener_threads),
            &threads(*after.enabled, *after.listener_threads),
        );
        compare(
            "high-availability.multi-threading.http-client-threads",
            &threads(*before.enabled, *before.client_threads),
            &threads(*after.enabled, *after.client_threads),
        );
    }
    let name_check = |document: &Document| document.tandem.check_partner_name.value;
    compare("user-context.tandem.check-partner-name", &name_check(old), &name_check(new));
    compare("user-context.tandem.cores", &old.tandem.cores.value, &new.tandem.cores.value);
    compare("user-context.tandem.durability", &old.tandem.durability.value, &new.tandem.durability.value);
    compare("user-context.tandem.spin-us", &old.tandem.spin_us.value, &new.tandem.spin_us.value);
    needs
}

/// What the listening sockets of the control channels are made of.
fn control_sockets(document: &Document) -> Vec<String> {
    let show = |socket: &ControlSocket| match socket {
        ControlSocket::Http(http) => {
            let (tls, required) = (tls_files(http.tls.as_ref()), http.cert_required.value);
            format!("{}:{} {tls:?} cert-required {required}", http.address.value, http.port.value)
        }
        ControlSocket::Unix(unix) => unix.name.value.clone(),
    };
    document.control_sockets.iter().map(show).collect()
}

/// What the listener and the connections to the partner are made of.
fn peers(block: &Relationship) -> Vec<String> {
    let show = |peer: &Peer| {
        let (name, url, role) = (&peer.name.value, &peer.url.text, peer.role.name());
        format!("{name} {url} {role} {:?}", tls_files(peer.tls.as_ref()))
    };
    [&block.own, &block.partner].into_iter().map(show).collect()
}

fn tls_files(files: Option<&TlsFiles>) -> Option<[&str; 3]> {
    files.map(|files| [&files.trust_anchor, &files.cert_file, &files.key_file].map(|file| file.as_str()))
}

/// Executors asked for; `None` follows the number of shards, whose own change is reported once.
fn threads(enabled: bool, configured: u32) -> Option<u32> {
    match (enabled, configured) {
        (false, _) => Some(1),
        (true, 0) => None,
        (true, configured) => Some(configured),
    }
}
