//! Which addresses and interfaces get sockets, from `interfaces-config` and the facts of the host (PKT-2 to PKT-4).
//!
//! A pure function of the two; looking at the host is the caller's business.

use std::net::Ipv4Addr;

use config::Position;
use config::diagnostics::Diagnostics;
use config::document::{InterfaceEntry, InterfacesConfig, SocketType};

use super::Interface;

/// An interface of the host, as it is when a configuration is compiled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostInterface {
    /// Kernel index.
    pub ifindex: u32,
    /// Name, such as `eth0`.
    pub name: String,
    /// Hardware address; zeros where there is none.
    pub mac: [u8; 6],
    /// IPv4 addresses in the kernel's order, the first one first (ALC-4).
    pub addresses: Vec<Ipv4Addr>,
    /// Whether it is up and running.
    pub up: bool,
    /// Whether it is a loopback interface.
    pub loopback: bool,
}

impl HostInterface {
    /// An Ethernet interface that is up and has one address.
    pub fn ethernet(ifindex: u32, name: &str, mac: [u8; 6], address: Ipv4Addr) -> Self {
        let (name, addresses) = (name.to_owned(), vec![address]);
        Self { ifindex, name, mac, addresses, up: true, loopback: false }
    }
}

/// The outcome of a selection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Selection {
    pub interfaces: Vec<Interface>,
    pub missing: Vec<String>,
}

/// What the file wants of one interface.
struct Wanted<'a> {
    name: &'a str,
    /// `None` is every address.
    addresses: Option<Vec<Ipv4Addr>>,
}

/// Selects interfaces and addresses; whatever cannot be served now is reported and listed as missing.
pub(super) fn select(
    settings: &InterfacesConfig,
    host: &[HostInterface],
    must_exist: bool,
    report: &mut Diagnostics,
) -> Selection {
    let raw = *settings.socket_type == SocketType::Raw;
    let mut selection = Selection::default();
    let named = wanted(settings, report);
    if settings.interfaces.is_empty() {
        let message =
            "no interface is listed, so no client is heard: write \"interfaces\": [ \"eth0\" ] or [ \"*\" ]";
        report.warn(&settings.socket_type.position, "interfaces", message);
    }
    for entry in &named {
        let position = entry_position(settings, entry.name);
        let Some(facts) = host.iter().find(|facts| facts.name == entry.name) else {
            let message =
                format!("Failed to select interface: interface '{}' doesn't exist in the system", entry.name);
            match must_exist {
                true => report.error(position, "interfaces", message),
                false => report.warn(position, "interfaces", format!("{message}; the server waits for it")),
            }
            selection.missing.push(entry.name.to_owned());
            continue;
        };
        if facts.loopback && raw {
            let message = format!(
                "interface '{}' is a loopback interface, which is served with dhcp-socket-type udp only",
                entry.name
            );
            report.warn(position, "interfaces", message);
            continue;
        }
        let addresses = addresses_found(entry, facts, position, must_exist, report);
        if entry.addresses.as_ref().is_some_and(|wanted| wanted.len() > addresses.len()) {
            push_once(&mut selection.missing, entry.name);
        }
        if facts.up && !addresses.is_empty() {
            selection.interfaces.push(interface(facts, addresses));
        } else {
            let fault = if facts.up { "has no IPv4 address" } else { "is not up and running" };
            // An address that is not there has been reported already.
            if !selection.missing.iter().any(|name| name == entry.name) {
                let message = format!("interface '{}' {fault}; the server waits for it", entry.name);
                report.warn(position, "interfaces", message);
            }
            push_once(&mut selection.missing, entry.name);
        }
    }
    if let Some(all) = settings.interfaces.iter().find(|entry| entry.value == InterfaceEntry::All) {
        let unnamed = host.iter().filter(|facts| named.iter().all(|entry| entry.name != facts.name));
        let usable = unnamed.filter(|facts| !facts.loopback && facts.up && !facts.addresses.is_empty());
        selection.interfaces.extend(usable.map(|facts| interface(facts, facts.addresses.clone())));
        if selection.interfaces.is_empty() {
            let message = "no interface of the host is up with an IPv4 address; the server waits for one";
            report.warn(&all.position, "interfaces", message);
            selection.missing.push("*".to_owned());
        }
    }
    selection.interfaces.sort_by_key(|interface| interface.ifindex);
    selection
}

/// The addresses of `entry` that the interface has; the others are reported.
fn addresses_found(
    entry: &Wanted<'_>,
    facts: &HostInterface,
    position: &Position,
    must_exist: bool,
    report: &mut Diagnostics,
) -> Vec<Ipv4Addr> {
    let Some(wanted) = &entry.addresses else { return facts.addresses.clone() };
    let (found, absent): (Vec<Ipv4Addr>, Vec<Ipv4Addr>) =
        wanted.iter().partition(|address| facts.addresses.contains(address));
    for address in absent {
        let message = format!("interface '{}' doesn't have address {address} assigned", entry.name);
        match must_exist {
            true => report.error(position, "interfaces", message),
            false => report.warn(position, "interfaces", format!("{message}; the server waits for it")),
        }
    }
    found
}

fn push_once(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

fn interface(facts: &HostInterface, socket_addresses: Vec<Ipv4Addr>) -> Interface {
    Interface {
        ifindex: facts.ifindex,
        name: facts.name.clone(),
        mac: facts.mac,
        addresses: facts.addresses.clone(),
        socket_addresses,
    }
}

/// The named entries, those of one interface joined. `eth0` beside `eth0/192.0.2.1` contradicts itself.
fn wanted<'a>(settings: &'a InterfacesConfig, report: &mut Diagnostics) -> Vec<Wanted<'a>> {
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    for entry in &settings.interfaces {
        let (name, address) = match &entry.value {
            InterfaceEntry::All => continue,
            InterfaceEntry::Name(name) => (name.as_str(), None),
            InterfaceEntry::NameAndAddress(name, address) => (name.as_str(), Some(*address)),
        };
        let Some(known) = wanted.iter_mut().find(|known| known.name == name) else {
            wanted.push(Wanted { name, addresses: address.map(|address| vec![address]) });
            continue;
        };
        match (&mut known.addresses, address) {
            (Some(addresses), Some(address)) if !addresses.contains(&address) => addresses.push(address),
            _ => {
                let message = format!("interface '{name}' has already been selected");
                report.error(&entry.position, "interfaces", message);
            }
        }
    }
    wanted
}

/// Where the file names the interface first.
fn entry_position<'a>(settings: &'a InterfacesConfig, wanted: &str) -> &'a Position {
    let entry = settings.interfaces.iter().find(|entry| match &entry.value {
        InterfaceEntry::All => false,
        InterfaceEntry::Name(name) | InterfaceEntry::NameAndAddress(name, _) => name == wanted,
    });
    entry.map_or(&settings.socket_type.position, |entry| &entry.position)
}

#[cfg(test)]
mod tests {
    use config::Located;

    use super::*;

    fn host() -> Vec<HostInterface> {
        let interface = |ifindex, name: &str, addresses: &[[u8; 4]], up, loopback| HostInterface {
            ifindex,
            name: name.to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: addresses.iter().map(|octets| Ipv4Addr::from(*octets)).collect(),
            up,
            loopback,
        };
        vec![
            interface(1, "lo", &[[127, 0, 0, 1]], true, true),
            interface(2, "eth0", &[[192, 0, 2, 1], [192, 0, 2, 2]], true, false),
            interface(3, "eth1", &[[198, 51, 100, 1]], true, false),
            interface(4, "down0", &[[203, 0, 113, 1]], false, false),
            interface(5, "bare0", &[], true, false),
        ]
    }

    /// Entries as a file has them, told apart as the reader does.
    fn settings(entries: &[&str], socket_type: SocketType) -> InterfacesConfig {
        let place = Position::start_of("file");
        let entry = |text: &&str| match text.split_once('/') {
            None if *text == "*" => InterfaceEntry::All,
            None => InterfaceEntry::Name((*text).to_owned()),
            Some((name, address)) => {
                InterfaceEntry::NameAndAddress(name.to_owned(), address.parse().expect("an address"))
            }
        };
        InterfacesConfig {
            interfaces: entries.iter().map(|text| Located::written(entry(text), place.clone())).collect(),
            socket_type: Located::written(socket_type, place.clone()),
        }
    }

    #[test]
    fn selection_follows_entries_socket_type_and_state() {
        use SocketType::{Raw, Udp};
        // Entries, socket type, selected interfaces with the number of their sockets, missing ones.
        type Row =
            (&'static [&'static str], SocketType, &'static [(&'static str, usize)], &'static [&'static str]);
        let rows: &[Row] = &[
            (&[], Raw, &[], &[]),
            (&["*"], Raw, &[("eth0", 2), ("eth1", 1)], &[]),
            (&["*"], Udp, &[("eth0", 2), ("eth1", 1)], &[]),
            (&["*", "eth0/192.0.2.2"], Raw, &[("eth0", 1), ("eth1", 1)], &[]),
            (&["eth0"], Raw, &[("eth0", 2)], &[]),
            (&["eth1", "eth0"], Raw, &[("eth0", 2), ("eth1", 1)], &[]),
            (&["eth0/192.0.2.2", "eth0/192.0.2.1"], Raw, &[("eth0", 2)], &[]),
            (&["lo"], Raw, &[], &[]),
            (&["lo"], Udp, &[("lo", 1)], &[]),
            (&["lo/127.0.0.1", "*"], Udp, &[("lo", 1), ("eth0", 2), ("eth1", 1)], &[]),
            (&["down0"], Raw, &[], &["down0"]),
            (&["bare0"], Raw, &[], &["bare0"]),
            (&["wlan0", "eth1"], Raw, &[("eth1", 1)], &["wlan0"]),
            (&["eth0/192.0.2.9"], Raw, &[], &["eth0"]),
            (&["eth0/192.0.2.9", "eth0/192.0.2.1"], Raw, &[("eth0", 1)], &["eth0"]),
        ];
        for (entries, socket_type, selected, missing) in rows {
            let mut report = Diagnostics::default();
            let selection = select(&settings(entries, *socket_type), &host(), false, &mut report);
            let sockets: Vec<(&str, usize)> = selection
                .interfaces
                .iter()
                .map(|interface| (interface.name.as_str(), interface.socket_addresses.len()))
                .collect();
            assert_eq!(selected.to_vec(), sockets, "{entries:?}");
            assert_eq!(missing.to_vec(), selection.missing, "{entries:?}");
            let warnings = report.finish().expect("nothing here is an error");
            let served = !entries.is_empty()
                && entries.iter().all(|entry| *entry != "lo" || *socket_type == Udp)
                && missing.is_empty();
            assert_eq!(served, warnings.is_empty(), "{entries:?}: {warnings:?}");
        }
    }

    #[test]
    fn wildcard_waits_where_nothing_can_be_served() {
        let mut report = Diagnostics::default();
        let selection = select(&settings(&["*"], SocketType::Udp), &host()[..1], false, &mut report);
        assert_eq!((0, vec!["*".to_owned()]), (selection.interfaces.len(), selection.missing));
        assert_eq!(1, report.finish().expect("no error").len());
    }

    #[test]
    fn missing_interface_or_address_is_an_error_where_it_must_exist() {
        for entry in ["wlan0", "eth0/192.0.2.9"] {
            let mut report = Diagnostics::default();
            select(&settings(&[entry], SocketType::Raw), &host(), true, &mut report);
            assert!(report.finish().is_err(), "{entry}");
        }
    }

    #[test]
    fn interface_selected_twice_is_an_error() {
        for entries in
            [["eth0", "eth0/192.0.2.1"], ["eth0/192.0.2.1", "eth0"], ["eth0/192.0.2.1"; 2], ["eth0"; 2]]
        {
            let mut report = Diagnostics::default();
            select(&settings(&entries, SocketType::Raw), &host(), false, &mut report);
            let error = report.finish().expect_err("selected twice");
            assert_eq!("interface 'eth0' has already been selected", error.first().message);
        }
    }
}
