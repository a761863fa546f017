//! Keys of networks, subnets, pools, classes and reservations.

use super::common::{CONTEXT, OPTION_DATA_LIST, OPTION_DEF};
use super::{Default, Row, TEXTS, Table, Type, U32, built, idle, partly, refused, warned};

const ADDITIONAL: &str = "no class is evaluated, so there is none to add";
pub(super) const NO_HOSTS: &str = "there are no reservations to look up";
pub(super) const NO_DDNS: &str = "no name updates are sent, and host names are handled as by default";
pub(super) const NO_4O6: &str = "DHCPv4-over-DHCPv6 queries do not reach the server";

/// Settings inherited from global scope to network to subnet.
pub const INHERITED: &[Row] = &[
    built("valid-lifetime", U32, Default::Integer(7200)),
    built("min-valid-lifetime", U32, Default::None),
    built("max-valid-lifetime", U32, Default::None),
    built("renew-timer", U32, Default::None),
    built("rebind-timer", U32, Default::None),
    built("calculate-tee-times", Type::Bool, Default::Bool(false)),
    built("t1-percent", Type::Float, Default::Float(0.5)),
    built("t2-percent", Type::Float, Default::Float(0.875)),
    built("offer-lifetime", U32, Default::Integer(0)),
    built("cache-threshold", Type::Float, Default::Float(0.25)),
    built("cache-max-age", U32, Default::None),
    warned(
        "adaptive-lease-time-threshold",
        Type::Float,
        Default::None,
        "it belongs to the flq allocator; lifetimes do not depend on how full the pools are",
    ),
    // The allocator decides which client gets which address, so another one than asked for is an error.
    refused(
        "allocator",
        Type::OneOf(&["iterative", "random", "flq"]),
        Default::Text("iterative"),
        "allocators other than iterative",
    ),
    built("store-extended-info", Type::Bool, Default::Bool(false)),
    built("match-client-id", Type::Bool, Default::Bool(true)),
    built("authoritative", Type::Bool, Default::Bool(false)),
    built("next-server", Type::Text, Default::Text("0.0.0.0")),
    built("server-hostname", Type::Text, Default::Empty),
    built("boot-file-name", Type::Text, Default::Empty),
    built("option-data", OPTION_DATA_LIST, Default::Empty),
];

/// Where reservations are looked for. Reservations themselves are refused, so these decide nothing.
pub const RESERVATION_MODES: &[Row] = &[
    idle("reservations-global", Type::Bool, NO_HOSTS),
    idle("reservations-in-subnet", Type::Bool, NO_HOSTS),
    idle("reservations-out-of-pool", Type::Bool, NO_HOSTS),
    idle("reservation-mode", Type::OneOf(&["disabled", "off", "out-of-pool", "global", "all"]), NO_HOSTS),
];

/// Name updates, for every scope that has them.
pub const DDNS: &[Row] = &[
    warned("ddns-send-updates", Type::Bool, Default::Bool(true), NO_DDNS),
    warned("ddns-override-no-update", Type::Bool, Default::Bool(false), NO_DDNS),
    warned("ddns-override-client-update", Type::Bool, Default::Bool(false), NO_DDNS),
    warned(
        "ddns-replace-client-name",
        Type::OneOf(&["never", "always", "when-present", "when-not-present"]),
        Default::Text("never"),
        NO_DDNS,
    ),
    warned("ddns-generated-prefix", Type::Text, Default::Text("myhost"), NO_DDNS),
    warned("ddns-qualifying-suffix", Type::Text, Default::Empty, NO_DDNS),
    warned("ddns-update-on-renew", Type::Bool, Default::Bool(false), NO_DDNS),
    warned(
        "ddns-conflict-resolution-mode",
        Type::OneOf(&[
            "check-with-dhcid",
            "no-check-with-dhcid",
            "check-exists-with-dhcid",
            "no-check-without-dhcid",
        ]),
        Default::Text("check-with-dhcid"),
        NO_DDNS,
    ),
    warned("ddns-use-conflict-resolution", Type::Bool, Default::Bool(true), NO_DDNS),
    warned("ddns-ttl", U32, Default::None, NO_DDNS),
    warned("ddns-ttl-min", U32, Default::None, NO_DDNS),
    warned("ddns-ttl-max", U32, Default::None, NO_DDNS),
    warned("ddns-ttl-percent", Type::Float, Default::None, NO_DDNS),
    warned("hostname-char-set", Type::Text, Default::Text("[^A-Za-z0-9.-]"), NO_DDNS),
    warned("hostname-char-replacement", Type::Text, Default::Empty, NO_DDNS),
];

/// Class guards in both spellings. Which names are built is for the reader to say: it knows the HA peers.
const GUARDS: &[Row] = &[
    partly("client-class", Type::Text, Default::Empty),
    partly("client-classes", TEXTS, Default::Empty),
    warned("require-client-classes", TEXTS, Default::Empty, ADDITIONAL),
    warned("evaluate-additional-classes", TEXTS, Default::Empty, ADDITIONAL),
];

const GUARD_SPELLINGS: (&str, &str) = ("client-class", "client-classes");
const ADDITIONAL_SPELLINGS: (&str, &str) = ("require-client-classes", "evaluate-additional-classes");

/// `relay`.
pub static RELAY: Table = Table {
    name: "relay",
    groups: &[&[
        built("ip-address", Type::Text, Default::None),
        built("ip-addresses", TEXTS, Default::Empty),
    ]],
    required: &[],
    exclusive: &[("ip-address", "ip-addresses")],
    nonempty: true,
};

/// One entry of `subnet4`.
pub static SUBNET4: Table = Table {
    name: "subnet4",
    groups: &[
        &[
            built("subnet", Type::Text, Default::None),
            built("id", Type::Integer(0, u32::MAX as i64 - 1), Default::Integer(0)),
            built("interface", Type::Text, Default::Empty),
            built("relay", Type::Map(&RELAY), Default::Empty),
            built("pools", Type::Maps(&POOL), Default::Empty),
            refused("reservations", Type::Maps(&RESERVATION), Default::Empty, HOSTS),
            warned("4o6-interface", Type::Text, Default::Empty, NO_4O6),
            warned("4o6-interface-id", Type::Text, Default::Empty, NO_4O6),
            warned("4o6-subnet", Type::Text, Default::Empty, NO_4O6),
        ],
        GUARDS,
        INHERITED,
        RESERVATION_MODES,
        DDNS,
        CONTEXT,
    ],
    required: &["subnet"],
    exclusive: &[GUARD_SPELLINGS, ADDITIONAL_SPELLINGS],
    nonempty: true,
};

/// What is missing where reservations stand.
pub const HOSTS: &str = "host reservations";

/// One entry of `pools`.
pub static POOL: Table = Table {
    name: "pools",
    groups: &[
        &[
            built("pool", Type::Text, Default::None),
            built("pool-id", U32, Default::Integer(0)),
            built("option-data", OPTION_DATA_LIST, Default::Empty),
        ],
        GUARDS,
        DDNS,
        CONTEXT,
    ],
    required: &["pool"],
    exclusive: &[GUARD_SPELLINGS, ADDITIONAL_SPELLINGS],
    nonempty: true,
};

/// One entry of `shared-networks`.
pub static SHARED_NETWORK: Table = Table {
    name: "shared-networks",
    groups: &[
        &[
            built("name", Type::Text, Default::None),
            built("interface", Type::Text, Default::Empty),
            built("relay", Type::Map(&RELAY), Default::Empty),
            built("subnet4", Type::Maps(&SUBNET4), Default::Empty),
        ],
        GUARDS,
        INHERITED,
        RESERVATION_MODES,
        DDNS,
        CONTEXT,
    ],
    required: &["name"],
    exclusive: &[GUARD_SPELLINGS, ADDITIONAL_SPELLINGS],
    nonempty: true,
};

/// One entry of `reservations`.
pub static RESERVATION: Table = Table {
    name: "reservations",
    groups: &[
        &[
            built("hw-address", Type::Text, Default::None),
            built("duid", Type::Text, Default::None),
            built("circuit-id", Type::Text, Default::None),
            built("client-id", Type::Text, Default::None),
            built("flex-id", Type::Text, Default::None),
            built("ip-address", Type::Text, Default::None),
            built("hostname", Type::Text, Default::Empty),
            built("option-data", OPTION_DATA_LIST, Default::Empty),
            built("next-server", Type::Text, Default::None),
            built("server-hostname", Type::Text, Default::Empty),
            built("boot-file-name", Type::Text, Default::Empty),
            built("client-classes", TEXTS, Default::Empty),
        ],
        CONTEXT,
    ],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

const TEST: &str = "client classes with expressions";

/// One entry of `client-classes`.
pub static CLIENT_CLASS: Table = Table {
    name: "client-classes",
    groups: &[
        &[
            built("name", Type::Text, Default::None),
            refused("test", Type::Text, Default::Empty, TEST),
            refused("template-test", Type::Text, Default::Empty, TEST),
            built("only-if-required", Type::Bool, Default::Bool(false)),
            built("only-in-additional-list", Type::Bool, Default::Bool(false)),
            built("option-data", OPTION_DATA_LIST, Default::Empty),
            built("option-def", Type::Maps(&OPTION_DEF), Default::Empty),
            built("next-server", Type::Text, Default::None),
            built("server-hostname", Type::Text, Default::Empty),
            built("boot-file-name", Type::Text, Default::Empty),
            built("valid-lifetime", U32, Default::None),
            built("min-valid-lifetime", U32, Default::None),
            built("max-valid-lifetime", U32, Default::None),
            built("offer-lifetime", U32, Default::None),
        ],
        CONTEXT,
    ],
    required: &["name"],
    exclusive: &[("test", "template-test"), ("only-if-required", "only-in-additional-list")],
    nonempty: true,
};
