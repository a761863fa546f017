//! Reads the `Dhcp4` map into a [`Document`].

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::diagnostics::Diagnostics;
use crate::document::{
    Compatibility, Dialect, Document, ExpiredLeases, Hooks, InterfaceEntry, InterfacesConfig, LeaseDatabase,
    MultiThreading, SocketType,
};
use crate::guard;
use crate::ha::Relationship;
use crate::ha_hub;
use crate::ha_reader::Surroundings;
use crate::logger::Logger;
use crate::option::{OptionData, OptionDefinition};
use crate::reader::{Reader, quoted};
use crate::schema::common::CONNECTION;
use crate::scope::Scope;
use crate::socket::{ControlSocket, HttpSocket};
use crate::subnet::Subnet;
use crate::tandem::Tandem;
use crate::value::{Kind, Located, Value};

/// Pairs of keys that say the same thing and must not stand beside the old `reservation-mode` (CFG-33).
const RESERVATION_BOOLEANS: [&str; 3] =
    ["reservations-global", "reservations-in-subnet", "reservations-out-of-pool"];

impl Document {
    /// Reads a map that the tables have found sound.
    pub(crate) fn read(tree: &Arc<Value>, diagnostics: &mut Diagnostics) -> Document {
        let tandem = Tandem::read(tree, diagnostics);
        let mut reader = Reader { map: tree, diagnostics };
        let scope = Scope::read(&mut reader);
        scope.check(&scope, &mut reader);
        check_reservation_mode(&mut reader);
        let dialect = dialect_of(tree);
        let multi_threading = read_multi_threading(&mut reader);
        let around = Surroundings::new(dialect, &multi_threading);
        let document = Document {
            dialect,
            interfaces: read_interfaces(&mut reader),
            lease_database: read_lease_database(&mut reader),
            multi_threading,
            expired_leases: read_expired_leases(&mut reader),
            option_definitions: OptionDefinition::read_all(&mut reader),
            options: OptionData::read_all(&mut reader),
            subnets: Subnet::read_all(&mut reader, &scope),
            scope,
            echo_client_id: reader.bool("echo-client-id", true),
            decline_probation_period_s: reader.number("decline-probation-period", 86_400),
            parked_packet_limit: reader.number("parked-packet-limit", 256),
            compatibility: read_compatibility(&mut reader),
            control_sockets: ControlSocket::read_all(&mut reader, &tandem),
            hooks: Hooks::read(&mut reader, around),
            loggers: Logger::read_all(&mut reader, "kea-dhcp4"),
            tandem,
            tree: Arc::clone(tree),
        };
        document.check(&mut reader);
        document
    }

    /// Checks what concerns several parts of the file.
    fn check(&self, reader: &mut Reader<'_, '_>) {
        guard::check_all(&self.subnets, &self.hooks, reader);
        ha_hub::check_subnets(&self.subnets, &self.hooks, reader);
        for relationship in &self.hooks.high_availability {
            if relationship.multi_threading.has_dedicated_listener() {
                self.check_listeners_apart(relationship, reader);
            } else {
                self.check_partners_can_come(relationship, reader);
            }
        }
    }

    /// The dedicated listener and an http control socket cannot share a port (ha-protocol 8 no. 24).
    fn check_listeners_apart(&self, relationship: &Relationship, reader: &mut Reader<'_, '_>) {
        let own = &relationship.own.url;
        for http in self.http_sockets().filter(|http| http.is_reached_at(own.address)) {
            let message = format!(
                "the control socket and the HA url {} of this server have the same address and port: partners \
                 are served by a listener of their own. Choose another port, or set \
                 \"http-dedicated-listener\": false to serve partners by the control socket",
                quoted(&own.text)
            );
            reader.error(&http.position, "socket-port", message);
        }
    }

    /// Without a dedicated listener something else must take the partners' commands at the own URL: the http
    /// control socket, or a control agent in front of a unix socket, which this file does not show.
    fn check_partners_can_come(&self, relationship: &Relationship, reader: &mut Reader<'_, '_>) {
        let own = &relationship.own.url;
        let unix = self.control_sockets.iter().any(|socket| matches!(socket, ControlSocket::Unix(_)));
        if unix || self.http_sockets().any(|http| http.is_reached_at(own.address)) {
            return;
        }
        let message = format!(
            "nothing serves partners at {}: there is no dedicated listener, no http control socket there, and \
             no unix control socket for a control agent",
            quoted(&own.text)
        );
        reader.warn(&own.position, "url", message);
    }

    fn http_sockets(&self) -> impl Iterator<Item = &HttpSocket> {
        self.control_sockets.iter().filter_map(|socket| match socket {
            ControlSocket::Http(http) => Some(&**http),
            ControlSocket::Unix(_) => None,
        })
    }
}

fn dialect_of(tree: &Value) -> Dialect {
    let old = tree.get("control-socket").is_some();
    if old { Dialect::Kea2_2 } else { Dialect::Kea3 }
}

fn check_reservation_mode(reader: &mut Reader<'_, '_>) {
    let subnets = reader.items("subnet4").iter();
    for map in std::iter::once(reader.map).chain(subnets) {
        let Some(mode) = map.get("reservation-mode") else { continue };
        for key in RESERVATION_BOOLEANS {
            if map.get(key).is_some() {
                let message = format!("\"reservation-mode\" and \"{key}\" are mutually exclusive");
                reader.error(&mode.position, "reservation-mode", message);
            }
        }
    }
}

/// A reader for the map `key`, or for an empty one in the same place, where every setting has its default.
fn with_map<T>(reader: &mut Reader<'_, '_>, key: &str, read: impl FnOnce(&mut Reader<'_, '_>) -> T) -> T {
    let nothing =
        Value { kind: Kind::Map(Vec::new()), position: reader.map.position.clone(), end: reader.map.end };
    let map = reader.map.get(key).unwrap_or(&nothing);
    read(&mut Reader { map, diagnostics: reader.diagnostics })
}

fn read_interfaces(reader: &mut Reader<'_, '_>) -> InterfacesConfig {
    with_map(reader, "interfaces-config", |inside| {
        let mut interfaces: Vec<Located<InterfaceEntry>> = Vec::new();
        for item in inside.items("interfaces") {
            let Some(entry) = read_interface(inside, item) else { continue };
            if interfaces.iter().any(|known| known.value == entry.value) {
                let shown = quoted(item.as_text().unwrap_or_default());
                let message = format!("Failed to select interface: {shown} is listed twice");
                inside.error(&item.position, "interfaces", message);
            }
            interfaces.push(entry);
        }
        let socket_type = inside.text("dhcp-socket-type", "raw");
        let kind = if *socket_type == "udp" { SocketType::Udp } else { SocketType::Raw };
        let socket_type =
            Located { value: kind, position: socket_type.position.clone(), written: socket_type.written };
        InterfacesConfig { interfaces, socket_type }
    })
}

fn read_interface(reader: &mut Reader<'_, '_>, item: &Value) -> Option<Located<InterfaceEntry>> {
    let text = reader.text_of(item, "interfaces")?;
    let mut fail = |why: &str| {
        let message = format!("Failed to select interface: {why} (entry {})", quoted(&*text));
        reader.error(&item.position, "interfaces", message);
    };
    let entry = match text.split_once('/') {
        None if text.trim().is_empty() => {
            fail("empty interface name used in configuration");
            return None;
        }
        None if *text == "*" => InterfaceEntry::All,
        None => InterfaceEntry::Name(text.value.clone()),
        Some(("*", _)) => {
            fail("an address cannot go with the wildcard '*'");
            return None;
        }
        Some((name, address)) => match address.trim().parse::<Ipv4Addr>() {
            Ok(address) if !name.trim().is_empty() => {
                InterfaceEntry::NameAndAddress(name.trim().to_owned(), address)
            }
            _ => {
                fail("expected an interface name, '/' and an IPv4 address");
                return None;
            }
        },
    };
    Some(Located::written(entry, text.position.clone()))
}

fn read_lease_database(reader: &mut Reader<'_, '_>) -> LeaseDatabase {
    with_map(reader, "lease-database", |inside| {
        for row in CONNECTION {
            if let Some(value) = inside.get(row.key) {
                let message = format!("\"{}\" has no effect: a lease file needs no connection", row.key);
                inside.warn(&value.position, row.key, message);
            }
        }
        LeaseDatabase {
            persist: inside.bool("persist", true),
            name: inside.nonempty_text("name"),
            lfc_interval_s: inside.number("lfc-interval", 3600),
            max_row_errors: inside.number("max-row-errors", 0),
        }
    })
}

fn read_multi_threading(reader: &mut Reader<'_, '_>) -> MultiThreading {
    with_map(reader, "multi-threading", |inside| MultiThreading {
        enabled: inside.bool("enable-multi-threading", true),
        thread_pool_size: inside.number("thread-pool-size", 0),
        packet_queue_size: inside.number("packet-queue-size", 64),
    })
}

fn read_expired_leases(reader: &mut Reader<'_, '_>) -> ExpiredLeases {
    with_map(reader, "expired-leases-processing", |inside| ExpiredLeases {
        reclaim_timer_wait_s: inside.number("reclaim-timer-wait-time", 10),
        flush_reclaimed_timer_wait_s: inside.number("flush-reclaimed-timer-wait-time", 25),
        hold_reclaimed_s: inside.number("hold-reclaimed-time", 3600),
        max_reclaim_leases: inside.number("max-reclaim-leases", 100),
        max_reclaim_time_ms: inside.number("max-reclaim-time", 250),
        unwarned_reclaim_cycles: inside.number("unwarned-reclaim-cycles", 5),
    })
}

fn read_compatibility(reader: &mut Reader<'_, '_>) -> Compatibility {
    with_map(reader, "compatibility", |inside| Compatibility {
        ignore_dhcp_server_identifier: inside.bool("ignore-dhcp-server-identifier", false),
        ignore_rai_link_selection: inside.bool("ignore-rai-link-selection", false),
        exclude_first_last_24: inside.bool("exclude-first-last-24", false),
    })
}
