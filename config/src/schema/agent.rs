//! The `Control-agent` map (f.9).

use super::common::{AUTHENTICATION_ROW, CONTEXT, HOOK_LIBRARY, HTTP_HEADERS_ROW, LOGGER, TLS};
use super::{Default, Table, Type, U16, built, refused};

/// The map under `Control-agent`.
pub static CONTROL_AGENT: Table = Table {
    name: "Control-agent",
    groups: &[
        &[
            built("http-host", Type::Text, Default::Text("127.0.0.1")),
            built("http-port", U16, Default::Integer(8000)),
            built("cert-required", Type::Bool, Default::Bool(true)),
            AUTHENTICATION_ROW,
            HTTP_HEADERS_ROW,
            built("control-sockets", Type::Map(&CONTROL_SOCKETS), Default::Empty),
            refused(
                "hooks-libraries",
                Type::Maps(&HOOK_LIBRARY),
                Default::Empty,
                "hook libraries of the control agent",
            ),
            built("loggers", Type::Maps(&LOGGER), Default::Empty),
        ],
        TLS,
        CONTEXT,
    ],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

static CONTROL_SOCKETS: Table = Table {
    name: "control-sockets",
    groups: &[
        &[
            built("dhcp4", Type::Map(&SERVICE_SOCKET), Default::None),
            built("dhcp6", Type::Map(&SERVICE_SOCKET), Default::None),
            built("d2", Type::Map(&SERVICE_SOCKET), Default::None),
        ],
        CONTEXT,
    ],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

static SERVICE_SOCKET: Table = Table {
    name: "control-socket",
    groups: &[
        &[
            built("socket-type", Type::OneOf(&["unix"]), Default::Text("unix")),
            built("socket-name", Type::Text, Default::None),
        ],
        CONTEXT,
    ],
    required: &["socket-name"],
    exclusive: &[],
    nonempty: true,
};
