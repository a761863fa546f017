//! The `high-availability` block (ha-protocol 1.4 to 1.7).
//!
//! Defaults are those of 3.x; where 2.2 has another one, the reader knows.
//!
//! Kea accepts any unknown key here, so an unknown key is a warning.

use super::common::TLS;
use super::{Default, Table, Type, U32, built, warned};

/// One relationship.
pub static RELATIONSHIP: Table = Table {
    name: "high-availability",
    groups: &[
        &[
            built("this-server-name", Type::Text, Default::None),
            built("mode", Type::Text, Default::None),
            built("send-lease-updates", Type::Bool, Default::Bool(true)),
            built("sync-leases", Type::Bool, Default::Bool(true)),
            built("sync-timeout", U32, Default::Integer(60_000)),
            built("sync-page-limit", U32, Default::Integer(10_000)),
            built("delayed-updates-limit", U32, Default::Integer(0)),
            built("heartbeat-delay", U32, Default::Integer(10_000)),
            built("max-response-delay", U32, Default::Integer(60_000)),
            built("max-ack-delay", U32, Default::Integer(10_000)),
            built("max-unacked-clients", U32, Default::Integer(10)),
            built("max-rejected-lease-updates", U32, Default::Integer(10)),
            built("wait-backup-ack", Type::Bool, Default::Bool(false)),
            built("require-client-certs", Type::Bool, Default::Bool(true)),
            built("restrict-commands", Type::Bool, Default::Bool(true)),
            built("multi-threading", Type::Map(&MULTI_THREADING), Default::Empty),
            built("peers", Type::Maps(&PEER), Default::None),
            built("state-machine", Type::Map(&STATE_MACHINE), Default::Empty),
        ],
        TLS,
    ],
    required: &["mode", "this-server-name", "peers"],
    exclusive: &[],
    nonempty: false,
};

static MULTI_THREADING: Table = Table {
    name: "multi-threading",
    groups: &[&[
        built("enable-multi-threading", Type::Bool, Default::Bool(true)),
        built("http-dedicated-listener", Type::Bool, Default::Bool(true)),
        built("http-listener-threads", U32, Default::Integer(0)),
        built("http-client-threads", U32, Default::Integer(0)),
    ]],
    required: &[],
    exclusive: &[],
    nonempty: false,
};

static PEER: Table = Table {
    name: "peers",
    groups: &[
        &[
            built("name", Type::Text, Default::None),
            built("url", Type::Text, Default::None),
            built("role", Type::Text, Default::None),
            built("auto-failover", Type::Bool, Default::Bool(true)),
            built("basic-auth-user", Type::Text, Default::Empty),
            built("basic-auth-user-file", Type::Text, Default::None),
            built("basic-auth-password", Type::Text, Default::Empty),
            built("basic-auth-password-file", Type::Text, Default::None),
            // The published template writes it here, where Kea does not look.
            warned(
                "require-client-certs",
                Type::Any,
                Default::None,
                "it counts for the relationship only, where it is true by default; Kea ignores it here too",
            ),
        ],
        TLS,
    ],
    required: &["name", "url", "role"],
    exclusive: &[],
    nonempty: false,
};

static STATE_MACHINE: Table = Table {
    name: "state-machine",
    groups: &[&[built("states", Type::Maps(&STATE), Default::Empty)]],
    required: &[],
    exclusive: &[],
    nonempty: false,
};

static STATE: Table = Table {
    name: "states",
    groups: &[&[
        built("state", Type::Text, Default::None),
        built("pause", Type::Text, Default::Text("never")),
    ]],
    required: &["state"],
    exclusive: &[],
    nonempty: false,
};
