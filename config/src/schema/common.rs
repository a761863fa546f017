//! Maps that several documents share: sockets, loggers, options, hook libraries.

use super::{Default, Row, TEXTS, Table, Type, U16, U32, built, idle, refused, warned};

/// `user-context` and `comment`, which every map of Kea's own grammar takes.
pub const CONTEXT: &[Row] =
    &[built("user-context", Type::Any, Default::Empty), built("comment", Type::Text, Default::Empty)];

/// One entry of `option-data` (d.5).
pub static OPTION_DATA: Table = Table {
    name: "option-data",
    groups: &[
        &[
            built("name", Type::Text, Default::None),
            built("code", Type::Integer(0, 255), Default::None),
            built("space", Type::Text, Default::Text("dhcp4")),
            built("data", Type::Text, Default::Empty),
            built("csv-format", Type::Bool, Default::None),
            built("always-send", Type::Bool, Default::Bool(false)),
            built("never-send", Type::Bool, Default::Bool(false)),
            refused("client-classes", TEXTS, Default::Empty, "options guarded by client classes"),
        ],
        CONTEXT,
    ],
    required: &[],
    exclusive: &[],
    nonempty: true,
};

/// One entry of `option-def` (d.4).
pub static OPTION_DEF: Table = Table {
    name: "option-def",
    groups: &[
        &[
            built("name", Type::Text, Default::None),
            built("code", Type::Integer(0, 255), Default::None),
            built("type", Type::Text, Default::None),
            built("array", Type::Bool, Default::Bool(false)),
            built("record-types", Type::Text, Default::Empty),
            built("space", Type::Text, Default::Text("dhcp4")),
            built("encapsulate", Type::Text, Default::Empty),
        ],
        CONTEXT,
    ],
    required: &["name", "code", "type"],
    exclusive: &[],
    nonempty: true,
};

/// A list of options.
pub const OPTION_DATA_LIST: Type = Type::Maps(&OPTION_DATA);

/// One control channel of the server; `control-socket` or an entry of `control-sockets`.
pub static CONTROL_SOCKET: Table = Table {
    name: "control-socket",
    groups: &[
        &[
            built("socket-type", Type::OneOf(&["unix", "http", "https"]), Default::None),
            built("socket-name", Type::Text, Default::None),
            built("socket-address", Type::Text, Default::Text("127.0.0.1")),
            built("socket-port", U16, Default::Integer(8000)),
            AUTHENTICATION_ROW,
            HTTP_HEADERS_ROW,
        ],
        TLS,
        &[built("cert-required", Type::Bool, Default::Bool(true))],
        CONTEXT,
    ],
    required: &["socket-type"],
    exclusive: &[],
    nonempty: true,
};

/// The three files of a TLS end.
pub const TLS: &[Row] = &[
    built("trust-anchor", Type::Text, Default::Empty),
    built("cert-file", Type::Text, Default::Empty),
    built("key-file", Type::Text, Default::Empty),
];

/// `authentication`.
pub const AUTHENTICATION_ROW: Row = refused(
    "authentication",
    Type::Map(&AUTHENTICATION),
    Default::None,
    "HTTP basic authentication; client certificates (cert-required) work",
);

/// `http-headers`.
pub const HTTP_HEADERS_ROW: Row =
    warned("http-headers", Type::Maps(&HTTP_HEADER), Default::Empty, "replies go out without them");

static AUTHENTICATION: Table = Table {
    name: "authentication",
    groups: &[
        &[
            built("type", Type::OneOf(&["basic"]), Default::None),
            built("realm", Type::Text, Default::None),
            built("directory", Type::Text, Default::Empty),
            built("clients", Type::Maps(&AUTHENTICATION_CLIENT), Default::Empty),
        ],
        CONTEXT,
    ],
    required: &["type"],
    exclusive: &[],
    nonempty: true,
};

static AUTHENTICATION_CLIENT: Table = Table {
    name: "clients",
    groups: &[
        &[
            built("user", Type::Text, Default::None),
            built("user-file", Type::Text, Default::None),
            built("password", Type::Text, Default::Empty),
            built("password-file", Type::Text, Default::None),
        ],
        CONTEXT,
    ],
    required: &[],
    exclusive: &[("user", "user-file"), ("password", "password-file")],
    nonempty: true,
};

static HTTP_HEADER: Table = Table {
    name: "http-headers",
    groups: &[
        &[built("name", Type::Text, Default::None), built("value", Type::Text, Default::None)],
        CONTEXT,
    ],
    required: &["name", "value"],
    exclusive: &[],
    nonempty: true,
};

/// One entry of `hooks-libraries`; which libraries are built in is decided where they are read.
pub static HOOK_LIBRARY: Table = Table {
    name: "hooks-libraries",
    groups: &[
        &[built("library", Type::Text, Default::None), built("parameters", Type::Any, Default::Empty)],
        CONTEXT,
    ],
    required: &["library"],
    exclusive: &[],
    nonempty: true,
};

/// One entry of `loggers` (CFG-40).
pub static LOGGER: Table = Table {
    name: "loggers",
    groups: &[
        &[
            built("name", Type::Text, Default::None),
            built(
                "severity",
                Type::OneOf(&["FATAL", "ERROR", "WARN", "INFO", "DEBUG", "NONE"]),
                Default::None,
            ),
            built("debuglevel", Type::Integer(0, 99), Default::Integer(0)),
            built("output-options", Type::Maps(&LOG_OUTPUT), Default::Empty),
            built("output_options", Type::Maps(&LOG_OUTPUT), Default::Empty),
        ],
        CONTEXT,
    ],
    required: &["name"],
    exclusive: &[("output-options", "output_options")],
    nonempty: true,
};

static LOG_OUTPUT: Table = Table {
    name: "output-options",
    groups: &[&[
        built("output", Type::Text, Default::None),
        built("flush", Type::Bool, Default::Bool(true)),
        built("maxsize", Type::Integer(0, i64::MAX), Default::Integer(10_240_000)),
        built("maxver", U32, Default::Integer(1)),
        built("pattern", Type::Text, Default::Empty),
    ]],
    required: &["output"],
    exclusive: &[],
    nonempty: true,
};

const DATABASE_TYPES: Type = Type::OneOf(&["memfile", "mysql", "postgresql"]);
const ON_FAIL: Type = Type::OneOf(&["stop-retry-exit", "serve-retry-exit", "serve-retry-continue"]);
const SSL_MODES: Type = Type::OneOf(&["disable", "prefer", "require", "verify-ca", "verify-full"]);

/// Keys of a connection to a database server (PST-36); the memfile reader warns about each of them.
pub const CONNECTION: &[Row] = &[
    idle("user", Type::Text, MEMFILE),
    idle("password", Type::Text, MEMFILE),
    idle("password-file", Type::Text, MEMFILE),
    idle("host", Type::Text, MEMFILE),
    idle("port", U16, MEMFILE),
    idle("connect-timeout", U32, MEMFILE),
    idle("read-timeout", U32, MEMFILE),
    idle("write-timeout", U32, MEMFILE),
    idle("tcp-user-timeout", U32, MEMFILE),
    idle("readonly", Type::Bool, MEMFILE),
    idle("max-reconnect-tries", U32, MEMFILE),
    idle("reconnect-wait-time", U32, MEMFILE),
    idle("on-fail", ON_FAIL, MEMFILE),
    idle("retry-on-startup", Type::Bool, MEMFILE),
    idle("cipher-list", Type::Text, MEMFILE),
    idle("ssl-mode", SSL_MODES, MEMFILE),
    idle("trust-anchor", Type::Text, MEMFILE),
    idle("cert-file", Type::Text, MEMFILE),
    idle("key-file", Type::Text, MEMFILE),
];

const MEMFILE: &str = "the lease file needs no connection";

/// `lease-database`.
pub static LEASE_DATABASE: Table = Table {
    name: "lease-database",
    groups: &[
        &[
            refused("type", DATABASE_TYPES, Default::Text("memfile"), "lease databases other than memfile"),
            built("name", Type::Text, Default::Empty),
            built("persist", Type::Bool, Default::Bool(true)),
            built("lfc-interval", U32, Default::Integer(3600)),
            built("max-row-errors", U32, Default::Integer(0)),
        ],
        CONNECTION,
        CONTEXT,
    ],
    required: &["type"],
    exclusive: &[("password", "password-file")],
    nonempty: true,
};

/// `hosts-database`, and the entries of `hosts-databases` and `config-databases`.
pub static DATABASE: Table = Table {
    name: "database",
    groups: &[
        &[
            built("type", DATABASE_TYPES, Default::None),
            built("name", Type::Text, Default::Empty),
            built("persist", Type::Bool, Default::Bool(true)),
            built("lfc-interval", U32, Default::Integer(3600)),
            built("max-row-errors", U32, Default::Integer(0)),
        ],
        CONNECTION,
        CONTEXT,
    ],
    required: &["type"],
    exclusive: &[("password", "password-file")],
    nonempty: true,
};
