//! The `Dhcp4` map and the maps that occur only there (f.4, f.5).

use super::common::{CONTEXT, CONTROL_SOCKET, DATABASE, HOOK_LIBRARY, LEASE_DATABASE, LOGGER, OPTION_DEF};
use super::subnet::{
    CLIENT_CLASS, DDNS, HOSTS, INHERITED, NO_4O6, NO_DDNS, NO_HOSTS, RESERVATION, RESERVATION_MODES,
    SHARED_NETWORK, SUBNET4,
};
use super::{Default, TEXTS, Table, Type, U16, U32, built, idle, refused, warned};

const HOST_DATABASES: &str = "host reservations in a database";
const NO_SAMPLES: &str = "statistics keep their last value only";

/// The map under `Dhcp4`.
pub static DHCP4: Table = Table {
    name: "Dhcp4",
    groups: &[
        &[
            built("interfaces-config", Type::Map(&INTERFACES_CONFIG), Default::Empty),
            built("lease-database", Type::Map(&LEASE_DATABASE), Default::None),
            built("expired-leases-processing", Type::Map(&EXPIRED_LEASES), Default::Empty),
            built("multi-threading", Type::Map(&MULTI_THREADING), Default::None),
            built("compatibility", Type::Map(&COMPATIBILITY), Default::Empty),
            built("control-socket", Type::Map(&CONTROL_SOCKET), Default::None),
            built("control-sockets", Type::Maps(&CONTROL_SOCKET), Default::Empty),
            built("hooks-libraries", Type::Maps(&HOOK_LIBRARY), Default::Empty),
            built("loggers", Type::Maps(&LOGGER), Default::Empty),
            built("option-def", Type::Maps(&OPTION_DEF), Default::Empty),
            built("subnet4", Type::Maps(&SUBNET4), Default::Empty),
            built("echo-client-id", Type::Bool, Default::Bool(true)),
            built("decline-probation-period", U32, Default::Integer(86_400)),
            built("parked-packet-limit", U32, Default::Integer(256)),
        ],
        &[
            refused("shared-networks", Type::Maps(&SHARED_NETWORK), Default::Empty, "shared networks"),
            refused("reservations", Type::Maps(&RESERVATION), Default::Empty, HOSTS),
            refused("hosts-database", Type::Map(&DATABASE), Default::None, HOST_DATABASES),
            refused("hosts-databases", Type::Maps(&DATABASE), Default::Empty, HOST_DATABASES),
            refused(
                "config-control",
                Type::Map(&CONFIG_CONTROL),
                Default::None,
                "configuration from a database",
            ),
            warned(
                "client-classes",
                Type::Maps(&CLIENT_CLASS),
                Default::Empty,
                "no client is put into a class",
            ),
        ],
        &[
            warned("dhcp-ddns", Type::Map(&DHCP_DDNS), Default::Empty, NO_DDNS),
            warned(
                "sanity-checks",
                Type::Map(&SANITY_CHECKS),
                Default::Empty,
                "leases are loaded as they are",
            ),
            warned(
                "dhcp-queue-control",
                Type::Map(&QUEUE_CONTROL),
                Default::Empty,
                "packet-queue-size bounds the queue; Kea ignores this with multi-threading too",
            ),
            warned("dhcp4o6-port", U16, Default::Integer(0), NO_4O6),
            warned(
                "server-tag",
                Type::Text,
                Default::Empty,
                "it selects entries of a configuration database",
            ),
            warned("stash-agent-options", Type::Bool, Default::Bool(false), "relay options are not kept"),
            warned("statistic-default-sample-count", U32, Default::Integer(20), NO_SAMPLES),
            warned("statistic-default-sample-age", U32, Default::Integer(0), NO_SAMPLES),
            idle("early-global-reservations-lookup", Type::Bool, NO_HOSTS),
            idle("ip-reservations-unique", Type::Bool, NO_HOSTS),
            idle("reservations-lookup-first", Type::Bool, NO_HOSTS),
            idle("host-reservation-identifiers", Type::List(&HOST_IDENTIFIERS), NO_HOSTS),
        ],
        INHERITED,
        RESERVATION_MODES,
        DDNS,
        CONTEXT,
    ],
    required: &[],
    exclusive: &[("control-socket", "control-sockets"), ("hosts-database", "hosts-databases")],
    nonempty: true,
};

static HOST_IDENTIFIERS: Type = Type::OneOf(&["hw-address", "duid", "circuit-id", "client-id", "flex-id"]);

static INTERFACES_CONFIG: Table = Table {
    name: "interfaces-config",
    groups: &[
        &[
            built("interfaces", TEXTS, Default::Empty),
            built("dhcp-socket-type", Type::OneOf(&["raw", "udp"]), Default::Text("raw")),
            warned(
                "outbound-interface",
                Type::OneOf(&["same-as-inbound", "use-routing"]),
                Default::Text("same-as-inbound"),
                "replies leave on the interface the query came in on",
            ),
            warned("re-detect", Type::Bool, Default::Bool(true), "interfaces are looked up at every reload"),
            warned("service-sockets-require-all", Type::Bool, Default::Bool(false), RETRY),
            warned("service-sockets-max-retries", U32, Default::Integer(0), RETRY),
            warned("service-sockets-retry-wait-time", U32, Default::Integer(5000), RETRY),
        ],
        CONTEXT,
    ],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

const RETRY: &str = "the server keeps running and opens an interface as soon as it is there";

static EXPIRED_LEASES: Table = Table {
    name: "expired-leases-processing",
    groups: &[&[
        built("reclaim-timer-wait-time", U16, Default::Integer(10)),
        built("flush-reclaimed-timer-wait-time", U16, Default::Integer(25)),
        built("hold-reclaimed-time", U32, Default::Integer(3600)),
        built("max-reclaim-leases", U32, Default::Integer(100)),
        built("max-reclaim-time", Type::Integer(0, 10_000), Default::Integer(250)),
        built("unwarned-reclaim-cycles", U16, Default::Integer(5)),
    ]],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

static MULTI_THREADING: Table = Table {
    name: "multi-threading",
    groups: &[
        &[
            built("enable-multi-threading", Type::Bool, Default::Bool(true)),
            built("thread-pool-size", U16, Default::Integer(0)),
            built("packet-queue-size", U32, Default::Integer(64)),
        ],
        CONTEXT,
    ],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

static COMPATIBILITY: Table = Table {
    name: "compatibility",
    groups: &[&[
        warned("lenient-option-parsing", Type::Bool, Default::Bool(false), "options are parsed strictly"),
        built("ignore-dhcp-server-identifier", Type::Bool, Default::Bool(false)),
        built("ignore-rai-link-selection", Type::Bool, Default::Bool(false)),
        built("exclude-first-last-24", Type::Bool, Default::Bool(false)),
    ]],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

static SANITY_CHECKS: Table = Table {
    name: "sanity-checks",
    groups: &[&[
        built("lease-checks", Type::OneOf(&["none", "warn", "fix", "fix-del", "del"]), Default::Text("warn")),
        built(
            "extended-info-checks",
            Type::OneOf(&["none", "fix", "strict", "pedantic"]),
            Default::Text("fix"),
        ),
    ]],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

static QUEUE_CONTROL: Table = Table {
    name: "dhcp-queue-control",
    groups: &[
        &[
            built("enable-queue", Type::Bool, Default::Bool(false)),
            built("queue-type", Type::Text, Default::Text("kea-ring4")),
            built("capacity", U32, Default::Integer(64)),
        ],
        CONTEXT,
    ],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

static DHCP_DDNS: Table = Table {
    name: "dhcp-ddns",
    groups: &[
        &[
            built("enable-updates", Type::Bool, Default::Bool(false)),
            idle("server-ip", Type::Text, NO_DDNS),
            idle("server-port", U16, NO_DDNS),
            idle("sender-ip", Type::Text, NO_DDNS),
            idle("sender-port", U16, NO_DDNS),
            idle("max-queue-size", U32, NO_DDNS),
            idle("ncr-protocol", Type::OneOf(&["UDP", "TCP", "udp", "tcp"]), NO_DDNS),
            idle("ncr-format", Type::OneOf(&["JSON", "json"]), NO_DDNS),
        ],
        // 2.2 still had the behaviour keys of the global scope here too.
        &[
            idle("qualifying-suffix", Type::Text, NO_DDNS),
            idle("override-no-update", Type::Bool, NO_DDNS),
            idle("override-client-update", Type::Bool, NO_DDNS),
            idle(
                "replace-client-name",
                Type::OneOf(&["never", "always", "when-present", "when-not-present"]),
                NO_DDNS,
            ),
            idle("generated-prefix", Type::Text, NO_DDNS),
            idle("hostname-char-set", Type::Text, NO_DDNS),
            idle("hostname-char-replacement", Type::Text, NO_DDNS),
        ],
        CONTEXT,
    ],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

static CONFIG_CONTROL: Table = Table {
    name: "config-control",
    groups: &[
        &[
            built("config-databases", Type::Maps(&DATABASE), Default::Empty),
            built("config-fetch-wait-time", U16, Default::Integer(30)),
        ],
        CONTEXT,
    ],
    required: &[],
    exclusive: &[],
    nonempty: true,
};
