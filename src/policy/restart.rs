//! Which changes of a configuration a running server cannot take.
//!
//! The one list of such settings. Everything else is put in force by handing shards a new snapshot.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use config::Document;
use config::ha::{Peer, Relationship};
use config::ha_hub::Attachment;
use config::socket::{ControlSocket, TlsFiles};
use config::subnet::Subnet;

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
    let mut compare = |key, show: &dyn Fn(&Document) -> String| {
        let (old, new) = (show(old), show(new));
        if old != new {
            needs.push(RestartNeed { key, old, new });
        }
    };
    compare("interfaces-config.dhcp-socket-type", &|document| word(&document.interfaces.socket_type.value));
    compare("lease-database.persist", &|document| document.lease_database.persist.value.to_string());
    compare("lease-database.name", &|document| {
        let name = document.lease_database.name.as_ref();
        name.map_or_else(|| "the default".to_owned(), |name| name.value.clone())
    });
    compare("multi-threading.thread-pool-size", &|document| {
        document.multi_threading.shards().map_or(0, u32::from).to_string()
    });
    compare("multi-threading.packet-queue-size", &|document| {
        document.multi_threading.packet_queue_size.value.to_string()
    });
    compare("control-sockets", &control_sockets);
    compare("high-availability", &|document| match document.hooks.high_availability.as_slice() {
        [] => "not configured".to_owned(),
        [_] => "configured".to_owned(),
        several => {
            let names = several.iter().map(|block| block.own.name.value.clone());
            format!("{} relationships {}", several.len(), list(names))
        }
    });
    let relationships = |document: &Document| document.hooks.high_availability.len();
    if relationships(old) == relationships(new) {
        for place in 0..relationships(old) {
            compare_relationships(place, &mut compare);
        }
        compare("subnet4.user-context.ha-server-name", &|document| attachments(document, old, new));
    }
    compare("user-context.tandem.cores", &|document| format!("{:?}", document.tandem.cores.value));
    compare("user-context.tandem.durability", &|document| word(&document.tandem.durability.value));
    compare("user-context.tandem.spin-us", &|document| document.tandem.spin_us.value.to_string());
    needs
}

/// What of the relationship at `place` of the list is fixed.
fn compare_relationships(place: usize, compare: &mut impl FnMut(&'static str, &dyn Fn(&Document) -> String)) {
    let mut compare = |key, show: &dyn Fn(&Relationship) -> String| {
        compare(key, &|document| {
            let relationships = &document.hooks.high_availability;
            let shown = relationships.get(place).map(show).unwrap_or_default();
            if relationships.len() > 1 { format!("{shown} (relationship {})", place + 1) } else { shown }
        });
    };
    compare("high-availability.mode", &|block| block.mode.name().to_owned());
    compare("high-availability.peers", &peers);
    compare("high-availability.restrict-commands", &|block| block.restrict_commands.to_string());
    compare("high-availability.multi-threading.http-dedicated-listener", &|block| {
        block.multi_threading.has_dedicated_listener().to_string()
    });
    compare("high-availability.multi-threading.http-listener-threads", &|block| {
        let threads = &block.multi_threading;
        executors(*threads.enabled, *threads.listener_threads).to_string()
    });
    compare("high-availability.multi-threading.http-client-threads", &|block| {
        let threads = &block.multi_threading;
        executors(*threads.enabled, *threads.client_threads).to_string()
    });
}

/// Whose the subnets are that both `old` and `new` have. Leases of a subnet that becomes another relationship's are
/// unknown to the partner there, and nobody would copy them.
fn attachments(document: &Document, old: &Document, new: &Document) -> String {
    let relationships = &document.hooks.high_availability;
    if relationships.len() < 2 {
        return String::new();
    }
    let attachments = |of: &Document| -> BTreeMap<u32, Attachment> {
        let attachment = |subnet: &Subnet| (*subnet.id, of.hooks.attachment(&subnet.ha_server_name));
        of.subnets.iter().map(attachment).collect()
    };
    let (old, new) = (attachments(old), attachments(new));
    let changed = document.subnets.iter().filter_map(|subnet| {
        let id = *subnet.id;
        let (before, after) = (old.get(&id)?, new.get(&id)?);
        (before != after).then(|| match document.hooks.attachment(&subnet.ha_server_name) {
            Attachment::Of(place) => {
                format!("subnet {id} of relationship {}", relationships[usize::from(place)].own.name.value)
            }
            Attachment::Invalid | Attachment::Stranger | Attachment::Unnamed => {
                format!("subnet {id} of no relationship")
            }
        })
    });
    list(changed)
}

/// A variant as the file spells it.
fn word(value: &impl Debug) -> String {
    format!("{value:?}").to_lowercase()
}

/// What the listening sockets of the control channels are made of.
fn control_sockets(document: &Document) -> String {
    let show = |socket: &ControlSocket| match socket {
        ControlSocket::Http(http) => {
            let (tls, required) = (tls_files(http.tls.as_ref()), http.cert_required.value);
            format!("{}:{} {tls} cert-required {required}", http.address.value, http.port.value)
        }
        ControlSocket::Unix(unix) => unix.name.value.clone(),
    };
    list(document.control_sockets.iter().map(show))
}

/// Who is where. Certificates and credentials are read again with the file, and count for new connections.
fn peers(block: &Relationship) -> String {
    let show = |peer: &Peer| {
        let (name, url, role) = (&peer.name.value, &peer.url.text, peer.role.name());
        format!("{name} {url} {role}")
    };
    list(std::iter::once(&block.own).chain(&block.others).map(show))
}

fn tls_files(files: Option<&TlsFiles>) -> String {
    let names = |files: &TlsFiles| {
        [&files.trust_anchor, &files.cert_file, &files.key_file].map(|file| file.as_str()).join(" ")
    };
    files.map_or_else(|| "without TLS".to_owned(), names)
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// Executors asked for; 0 follows the number of shards, whose own change is reported once.
fn executors(enabled: bool, configured: u32) -> u32 {
    if enabled { configured } else { 1 }
}
