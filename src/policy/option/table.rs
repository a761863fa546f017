//! The standard options and sub-options, as data (reference d.1).
//!
//! Never changed at run time; custom definitions live in [`super::definitions`]. Rows are in ascending code.

use super::DataType::{
    self, Binary, Boolean, Empty, Fqdn, Int32, Internal, Ipv4Address, Ipv6Address, LongTuple, Psid, Record,
    String, Uint8, Uint16, Uint32,
};
use super::{OptionDefinition, SPACE_DHCP4, SPACE_VENDOR_ENCAPSULATED};

/// The standard definitions of `space`; empty for a space the standard does not know.
pub fn standard(space: &str) -> &'static [OptionDefinition<'static>] {
    match space {
        SPACE_DHCP4 => DHCP4,
        "dhcp-agent-options-space" => AGENT_OPTIONS,
        "cablelabs-client-conf" => CABLELABS_CLIENT_CONF,
        // The second name is Kea's own for the same definitions; no option carries that space.
        "vendor-4491" | "docsis3-v4" => VENDOR_4491,
        _ => &[],
    }
}

/// Options of a message.
const DHCP4: &[OptionDefinition<'static>] = &[
    one(1, "subnet-mask", Ipv4Address),
    one(2, "time-offset", Int32),
    many(3, "routers", Ipv4Address),
    many(4, "time-servers", Ipv4Address),
    many(5, "name-servers", Ipv4Address),
    many(6, "domain-name-servers", Ipv4Address),
    many(7, "log-servers", Ipv4Address),
    many(8, "cookie-servers", Ipv4Address),
    many(9, "lpr-servers", Ipv4Address),
    many(10, "impress-servers", Ipv4Address),
    many(11, "resource-location-servers", Ipv4Address),
    one(12, "host-name", String),
    one(13, "boot-size", Uint16),
    one(14, "merit-dump", String),
    one(15, "domain-name", String),
    one(16, "swap-server", Ipv4Address),
    one(17, "root-path", String),
    one(18, "extensions-path", String),
    one(19, "ip-forwarding", Boolean),
    one(20, "non-local-source-routing", Boolean),
    many(21, "policy-filter", Ipv4Address),
    one(22, "max-dgram-reassembly", Uint16),
    one(23, "default-ip-ttl", Uint8),
    one(24, "path-mtu-aging-timeout", Uint32),
    many(25, "path-mtu-plateau-table", Uint16),
    one(26, "interface-mtu", Uint16),
    one(27, "all-subnets-local", Boolean),
    one(28, "broadcast-address", Ipv4Address),
    one(29, "perform-mask-discovery", Boolean),
    one(30, "mask-supplier", Boolean),
    one(31, "router-discovery", Boolean),
    one(32, "router-solicitation-address", Ipv4Address),
    many(33, "static-routes", Ipv4Address),
    one(34, "trailer-encapsulation", Boolean),
    one(35, "arp-cache-timeout", Uint32),
    one(36, "ieee802-3-encapsulation", Boolean),
    one(37, "default-tcp-ttl", Uint8),
    one(38, "tcp-keepalive-interval", Uint32),
    one(39, "tcp-keepalive-garbage", Boolean),
    one(40, "nis-domain", String),
    many(41, "nis-servers", Ipv4Address),
    many(42, "ntp-servers", Ipv4Address),
    container(43, "vendor-encapsulated-options", SPACE_VENDOR_ENCAPSULATED),
    many(44, "netbios-name-servers", Ipv4Address),
    many(45, "netbios-dd-server", Ipv4Address),
    one(46, "netbios-node-type", Uint8),
    one(47, "netbios-scope", String),
    many(48, "font-servers", Ipv4Address),
    many(49, "x-display-manager", Ipv4Address),
    one(50, "dhcp-requested-address", Ipv4Address),
    one(51, "dhcp-lease-time", Uint32),
    one(52, "dhcp-option-overload", Uint8),
    one(53, "dhcp-message-type", Uint8),
    one(54, "dhcp-server-identifier", Ipv4Address),
    many(55, "dhcp-parameter-request-list", Uint8),
    one(56, "dhcp-message", String),
    one(57, "dhcp-max-message-size", Uint16),
    one(58, "dhcp-renewal-time", Uint32),
    one(59, "dhcp-rebinding-time", Uint32),
    one(60, "vendor-class-identifier", String),
    one(61, "dhcp-client-identifier", Binary),
    one(62, "nwip-domain-name", String),
    one(63, "nwip-suboptions", Binary),
    one(64, "nisplus-domain-name", String),
    many(65, "nisplus-servers", Ipv4Address),
    one(66, "tftp-server-name", String),
    one(67, "boot-file-name", String),
    many(68, "mobile-ip-home-agent", Ipv4Address),
    many(69, "smtp-server", Ipv4Address),
    many(70, "pop-server", Ipv4Address),
    many(71, "nntp-server", Ipv4Address),
    many(72, "www-server", Ipv4Address),
    many(73, "finger-server", Ipv4Address),
    many(74, "irc-server", Ipv4Address),
    many(75, "streettalk-server", Ipv4Address),
    many(76, "streettalk-directory-assistance-server", Ipv4Address),
    one(77, "user-class", Binary),
    record_many(78, "slp-directory-agent", &[Boolean, Ipv4Address]),
    record(79, "slp-service-scope", &[Boolean, String]),
    record(81, "fqdn", &[Uint8, Uint8, Uint8, Fqdn]),
    container(82, "dhcp-agent-options", "dhcp-agent-options-space"),
    many(85, "nds-servers", Ipv4Address),
    one(86, "nds-tree-name", String),
    one(87, "nds-context", String),
    many(88, "bcms-controller-names", Fqdn),
    many(89, "bcms-controller-address", Ipv4Address),
    one(90, "authenticate", Binary),
    one(91, "client-last-transaction-time", Uint32),
    many(92, "associated-ip", Ipv4Address),
    many(93, "client-system", Uint16),
    record(94, "client-ndi", &[Uint8, Uint8, Uint8]),
    record(97, "uuid-guid", &[Uint8, Binary]),
    one(98, "uap-servers", String),
    one(99, "geoconf-civic", Binary),
    one(100, "pcode", String),
    one(101, "tcode", String),
    one(108, "v6-only-preferred", Uint32),
    many(112, "netinfo-server-address", Ipv4Address),
    one(113, "netinfo-server-tag", String),
    one(114, "v4-captive-portal", String),
    one(116, "auto-config", Uint8),
    many(117, "name-service-search", Uint16),
    one(118, "subnet-selection", Ipv4Address),
    many(119, "domain-search", Fqdn),
    newer(one(121, "classless-static-route", Internal)),
    newer(container(122, "cablelabs-client-conf", "cablelabs-client-conf")),
    record(124, "vivco-suboptions", &[Uint32, Binary]),
    one(125, "vivso-suboptions", Uint32),
    many(136, "pana-agent", Ipv4Address),
    one(137, "v4-lost", Fqdn),
    many(138, "capwap-ac-v4", Ipv4Address),
    many(141, "sip-ua-cs-domains", Fqdn),
    newer(many(143, "v4-sztp-redirect", LongTuple)),
    record_many(146, "rdnss-selection", &[Uint8, Ipv4Address, Ipv4Address, Fqdn]),
    newer(record(151, "status-code", &[Uint8, String])),
    newer(one(152, "base-time", Uint32)),
    newer(one(153, "start-time-of-state", Uint32)),
    newer(one(154, "query-start-time", Uint32)),
    newer(one(155, "query-end-time", Uint32)),
    newer(one(156, "dhcp-state", Uint8)),
    newer(one(157, "data-source", Uint8)),
    record(159, "v4-portparams", &[Uint8, Psid]),
    newer(one(162, "v4-dnr", Internal)),
    record_many(212, "option-6rd", &[Uint8, Uint8, Ipv6Address, Ipv4Address]),
    one(213, "v4-access-domain", Fqdn),
];

/// Sub-options of option 82.
const AGENT_OPTIONS: &[OptionDefinition<'static>] = &[
    one(1, "circuit-id", Binary),
    one(2, "remote-id", Binary),
    one(4, "docsis-device-class", Uint32),
    one(5, "link-selection", Ipv4Address),
    one(6, "subscriber-id", String),
    one(7, "radius", Binary),
    one(8, "auth", Binary),
    one(9, "vendor-specific-info", Binary),
    one(10, "relay-flags", Uint8),
    one(11, "server-id-override", Ipv4Address),
    one(12, "relay-id", Binary),
    one(13, "access-techno-type", Uint16),
    one(14, "access-network-name", String),
    one(15, "access-point-name", String),
    one(16, "access-point-bssid", Binary),
    one(17, "operator-id", Uint32),
    one(18, "operator-realm", String),
    one(19, "relay-port", Empty),
    one(151, "virtual-subnet-select", Binary),
    one(152, "virtual-subnet-select-ctrl", Empty),
];

/// Sub-options of option 122 (RFC 3495).
const CABLELABS_CLIENT_CONF: &[OptionDefinition<'static>] = &[
    one(1, "tsp-primary-server", Ipv4Address),
    one(2, "tsp-secondary-server", Ipv4Address),
    record(4, "tsp-as-parameters", &[Uint32, Uint32, Uint32]),
    record(5, "tsp-ap-parameters", &[Uint32, Uint32, Uint32]),
    one(6, "tsp-realm", Fqdn),
    one(7, "tsp-use-tgt", Boolean),
    one(8, "tsp-provisioning-timer", Uint8),
    one(9, "tsp-sct", Uint16),
    many(10, "kdc-server", Ipv4Address),
];

/// Sub-options of option 125 for enterprise 4491.
const VENDOR_4491: &[OptionDefinition<'static>] =
    &[many(1, "oro", Uint8), many(2, "tftp-servers", Ipv4Address)];

/// A definition with one value.
const fn one(code: u8, name: &'static str, kind: DataType) -> OptionDefinition<'static> {
    OptionDefinition { code, name, kind, fields: &[], array: false, encapsulates: None, newer_than_22: false }
}

/// A definition with a repeated value.
const fn many(code: u8, name: &'static str, kind: DataType) -> OptionDefinition<'static> {
    OptionDefinition { array: true, ..one(code, name, kind) }
}

/// A record.
const fn record(code: u8, name: &'static str, fields: &'static [DataType]) -> OptionDefinition<'static> {
    OptionDefinition { fields, ..one(code, name, Record) }
}

/// A record whose last field repeats.
const fn record_many(code: u8, name: &'static str, fields: &'static [DataType]) -> OptionDefinition<'static> {
    OptionDefinition { array: true, ..record(code, name, fields) }
}

/// An option that only carries sub-options.
const fn container(code: u8, name: &'static str, space: &'static str) -> OptionDefinition<'static> {
    OptionDefinition { encapsulates: Some(space), ..one(code, name, Empty) }
}

/// A definition that Kea 2.2 does not have.
const fn newer(definition: OptionDefinition<'static>) -> OptionDefinition<'static> {
    OptionDefinition { newer_than_22: true, ..definition }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_ascending_code_with_unique_names_and_sound_records() {
        for table in [DHCP4, AGENT_OPTIONS, CABLELABS_CLIENT_CONF, VENDOR_4491] {
            for pair in table.windows(2) {
                assert!(pair[0].code < pair[1].code, "{} before {}", pair[0].name, pair[1].name);
            }
            for row in table {
                assert_eq!(1, table.iter().filter(|other| other.name == row.name).count(), "{}", row.name);
                assert_eq!(row.kind == Record, row.fields.len() >= 2, "{}", row.name);
                let closed = row.fields.len().saturating_sub(1);
                assert!(row.fields[..closed].iter().all(|field| !field.is_open_ended()), "{}", row.name);
            }
        }
    }

    #[test]
    fn spaces_that_containers_name_are_standard_or_free() {
        for row in DHCP4 {
            if let Some(space) = row.encapsulates {
                assert!(space == SPACE_VENDOR_ENCAPSULATED || !standard(space).is_empty(), "{space}");
            }
        }
    }
}
