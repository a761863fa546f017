//! Commands of the HA machine, read in both dialects, and their arguments (ha-protocol 3).

use std::net::Ipv4Addr;

use serde_json::{Map, Value};

use super::super::fingerprint::Fingerprint;
use super::super::state::PartnerState;
use super::{Envelope, REMOTE_ORIGIN_ID, Reply};

/// A command the HA machine answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HaCommand {
    /// `ha-continue`.
    Continue {
        /// `server-name`.
        server_name: Option<String>,
    },
    /// `dhcp-disable`.
    DhcpDisable {
        /// Whose lock.
        origin: Origin,
        /// `max-period`, seconds, at least 1.
        max_period_s: Option<u64>,
    },
    /// `dhcp-enable`.
    DhcpEnable {
        /// Whose lock.
        origin: Origin,
    },
    /// `ha-heartbeat`.
    Heartbeat {
        /// `server-name`; a partner that sends it is 2.5.5 or later.
        server_name: Option<String>,
        /// Fingerprint of the asker's configuration, if it is a Tandem server that takes this one for another.
        fingerprint: Option<Box<Fingerprint>>,
    },
    /// `ha-maintenance-cancel`.
    MaintenanceCancel,
    /// `ha-maintenance-notify`.
    MaintenanceNotify {
        /// Whether maintenance is called off.
        cancel: bool,
        /// `server-name`.
        server_name: Option<String>,
        /// State of the sender, or the one it returns to; not told before release 2.7.5.
        state: Option<PartnerState>,
    },
    /// `ha-maintenance-start`.
    MaintenanceStart,
    /// `ha-reset`.
    Reset {
        /// `server-name`.
        server_name: Option<String>,
    },
    /// `ha-scopes`.
    Scopes {
        /// Names of peers whose scopes are to be served.
        scopes: Vec<String>,
        /// `server-name`.
        server_name: Option<String>,
    },
    /// The partner, a Tandem server, serves nobody any longer and is about to end.
    Stopping {
        /// `server-name`.
        server_name: Option<String>,
    },
    /// `ha-sync`.
    Sync {
        /// Server to copy from.
        server_name: String,
        /// `max-period`, seconds.
        max_period_s: Option<u64>,
    },
    /// `ha-sync-complete-notify`.
    SyncCompleteNotify {
        /// `origin-id` or an integer `origin`; `None` from a 2.2 partner.
        origin_id: Option<i64>,
        /// `server-name`.
        server_name: Option<String>,
    },
}

/// Whose lock on the DHCP service (ha-protocol 3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// By number.
    Id(i64),
    /// `ha-partner` without a number.
    Partner,
    /// `user`, the default.
    User,
}

impl HaCommand {
    /// Whether only another server of the relationship sends it (ha-protocol 3.12).
    pub fn is_partners(&self) -> bool {
        match self {
            Self::DhcpDisable { origin, .. } | Self::DhcpEnable { origin } => match origin {
                Origin::Id(id) => *id >= REMOTE_ORIGIN_ID,
                Origin::Partner => true,
                Origin::User => false,
            },
            Self::Heartbeat { .. }
            | Self::MaintenanceNotify { .. }
            | Self::Stopping { .. }
            | Self::SyncCompleteNotify { .. } => true,
            Self::Continue { .. }
            | Self::MaintenanceCancel
            | Self::MaintenanceStart
            | Self::Reset { .. }
            | Self::Scopes { .. }
            | Self::Sync { .. } => false,
        }
    }

    /// The server it names: the asker, or one of the relationship that it is for.
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::Continue { server_name }
            | Self::Heartbeat { server_name, .. }
            | Self::MaintenanceNotify { server_name, .. }
            | Self::Reset { server_name }
            | Self::Scopes { server_name, .. }
            | Self::Stopping { server_name }
            | Self::SyncCompleteNotify { server_name, .. } => server_name.as_deref(),
            Self::Sync { server_name, .. } => Some(server_name),
            Self::DhcpDisable { .. }
            | Self::DhcpEnable { .. }
            | Self::MaintenanceCancel
            | Self::MaintenanceStart => None,
        }
    }

    /// Reads a command; `None` when it is not one the HA machine answers, `Some(Err(..))` is the answer to a
    /// command whose arguments are wrong.
    pub fn parse(envelope: &Envelope) -> Option<Result<Self, Reply>> {
        let parse = match envelope.command.as_str() {
            "dhcp-disable" => Self::parse_disable,
            "dhcp-enable" => Self::parse_enable,
            "ha-continue" => |arguments: &Arguments<'_>| {
                Ok(Self::Continue { server_name: arguments.optional_string("server-name")? })
            },
            "ha-heartbeat" => |arguments: &Arguments<'_>| {
                let fingerprint = envelope_fingerprint(arguments);
                Ok(Self::Heartbeat { server_name: arguments.optional_string("server-name")?, fingerprint })
            },
            "ha-maintenance-cancel" => |_: &Arguments<'_>| Ok(Self::MaintenanceCancel),
            "ha-maintenance-notify" => Self::parse_maintenance_notify,
            "ha-maintenance-start" => |_: &Arguments<'_>| Ok(Self::MaintenanceStart),
            "ha-reset" => |arguments: &Arguments<'_>| {
                Ok(Self::Reset { server_name: arguments.optional_string("server-name")? })
            },
            "ha-scopes" => Self::parse_scopes,
            "ha-sync" => Self::parse_sync,
            "ha-sync-complete-notify" => Self::parse_sync_complete,
            super::request::STOPPING => |arguments: &Arguments<'_>| {
                Ok(Self::Stopping { server_name: arguments.optional_string("server-name")? })
            },
            _ => return None,
        };
        Some(Arguments::of(envelope).and_then(|arguments| parse(&arguments)))
    }

    fn parse_disable(arguments: &Arguments<'_>) -> Result<Self, Reply> {
        let max_period_s = arguments.max_period()?;
        Ok(Self::DhcpDisable { origin: arguments.origin()?, max_period_s })
    }

    fn parse_enable(arguments: &Arguments<'_>) -> Result<Self, Reply> {
        Ok(Self::DhcpEnable { origin: arguments.origin()? })
    }

    fn parse_maintenance_notify(arguments: &Arguments<'_>) -> Result<Self, Reply> {
        let cancel = match arguments.get("cancel") {
            Some(Value::Bool(cancel)) => *cancel,
            Some(_) => {
                return Err(Reply::error(
                    "'cancel' must be a boolean in the 'ha-maintenance-notify' command",
                ));
            }
            None => {
                return Err(Reply::error("'cancel' is mandatory for the 'ha-maintenance-notify' command"));
            }
        };
        // A name that is none tells as much as one that is missing.
        let state = arguments.optional_string("state")?.and_then(|name| PartnerState::from_name(&name));
        let server_name = arguments.optional_string("server-name")?;
        Ok(Self::MaintenanceNotify { cancel, server_name, state })
    }

    fn parse_scopes(arguments: &Arguments<'_>) -> Result<Self, Reply> {
        if arguments.0.is_none() {
            return Err(Reply::error("arguments not found in the 'ha-scopes' command"));
        }
        let scopes = match arguments.get("scopes") {
            None => return Err(Reply::error("'scopes' is mandatory for the 'ha-scopes' command")),
            Some(Value::Array(scopes)) => scopes,
            Some(_) => return Err(Reply::error("'scopes' must be a list in the 'ha-scopes' command")),
        };
        let name = |scope: &Value| match scope {
            Value::String(name) => Ok(name.clone()),
            _ => Err(Reply::error("scope name must be a string in the 'scopes' argument")),
        };
        let scopes = scopes.iter().map(name).collect::<Result<_, _>>()?;
        Ok(Self::Scopes { scopes, server_name: arguments.optional_string("server-name")? })
    }

    fn parse_sync(arguments: &Arguments<'_>) -> Result<Self, Reply> {
        if arguments.0.is_none() {
            return Err(Reply::error("arguments not found in the 'ha-sync' command"));
        }
        let server_name = match arguments.get("server-name") {
            None => return Err(Reply::error("'server-name' is mandatory for the 'ha-sync' command")),
            Some(Value::String(name)) => name.clone(),
            Some(_) => return Err(Reply::error("'server-name' must be a string in the 'ha-sync' command")),
        };
        let max_period_s = arguments
            .max_period()
            .map_err(|_| Reply::error("'max-period' must be a positive integer in the 'ha-sync' command"))?;
        Ok(Self::Sync { server_name, max_period_s })
    }

    fn parse_sync_complete(arguments: &Arguments<'_>) -> Result<Self, Reply> {
        let origin_id = match (arguments.get("origin-id"), arguments.get("origin")) {
            (Some(id), _) => Some(id.as_i64().ok_or_else(|| {
                Reply::error("'origin-id' must be an integer in the 'ha-sync-complete-notify' command")
            })?),
            (None, Some(id)) => id.as_i64(),
            (None, None) => None,
        };
        Ok(Self::SyncCompleteNotify { origin_id, server_name: arguments.optional_string("server-name")? })
    }
}

/// Only another Tandem server sends one; what cannot be read is none.
fn envelope_fingerprint(arguments: &Arguments<'_>) -> Option<Box<Fingerprint>> {
    Fingerprint::from_members(arguments.0?).map(Box::new)
}

/// Arguments of a command: a map, or nothing.
struct Arguments<'a>(Option<&'a Map<String, Value>>);

impl<'a> Arguments<'a> {
    fn of(envelope: &'a Envelope) -> Result<Self, Reply> {
        match &envelope.arguments {
            None => Ok(Self(None)),
            Some(Value::Object(members)) => Ok(Self(Some(members))),
            Some(_) => Err(Reply::error(match envelope.command.as_str() {
                name @ ("dhcp-disable" | "dhcp-enable") => {
                    format!("arguments for the '{name}' command must be a map")
                }
                name => format!("arguments in the '{name}' command are not a map"),
            })),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0?.get(name)
    }

    fn optional_string(&self, name: &str) -> Result<Option<String>, Reply> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Reply::error(format!("'{name}' must be a string"))),
        }
    }

    fn max_period(&self) -> Result<Option<u64>, Reply> {
        match self.get("max-period") {
            None => Ok(None),
            Some(Value::Number(number)) => match number.as_i64() {
                Some(period) if period > 0 => Ok(Some(period.unsigned_abs())),
                Some(_) => Err(Reply::error("'max-period' must be positive integer")),
                None => Err(Reply::error("'max-period' argument must be a number")),
            },
            Some(_) => Err(Reply::error("'max-period' argument must be a number")),
        }
    }

    /// `origin-id` wins over `origin`, which is a word or a number.
    fn origin(&self) -> Result<Origin, Reply> {
        if let Some(id) = self.get("origin-id") {
            let id = id.as_i64().ok_or_else(|| Reply::error("'origin-id' argument must be a number"))?;
            return Ok(Origin::Id(id));
        }
        match self.get("origin") {
            None => Ok(Origin::User),
            Some(Value::String(word)) => match word.as_str() {
                "ha-partner" => Ok(Origin::Partner),
                "user" => Ok(Origin::User),
                other => Err(Reply::error(format!("invalid value used for 'origin' parameter: {other}"))),
            },
            Some(origin) => origin
                .as_i64()
                .map(Origin::Id)
                .ok_or_else(|| Reply::error("'origin' argument must be a string or a number")),
        }
    }
}

/// Arguments of `lease4-get-page` (ha-protocol 3.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageRequest {
    /// Exclusive lower bound; `None` for `start`.
    pub after: Option<Ipv4Addr>,
    /// At most this many, at least 1.
    pub limit: u32,
}

impl PageRequest {
    /// Reads the arguments.
    pub fn parse(envelope: &Envelope) -> Result<Self, Reply> {
        let arguments = Arguments::of(envelope)?;
        if arguments.0.is_none() {
            return Err(Reply::error("no parameters specified for the lease4-get-page command"));
        }
        let after = match arguments.get("from") {
            None => return Err(Reply::error("'from' parameter not specified")),
            Some(Value::String(word)) if word == "start" => None,
            Some(Value::String(text)) => Some(parse_from(text)?),
            Some(_) => return Err(Reply::error("'from' parameter must be a string")),
        };
        let limit = match arguments.get("limit") {
            None => return Err(Reply::error("'limit' parameter not specified")),
            Some(limit) => {
                limit.as_i64().ok_or_else(|| Reply::error("'limit' parameter must be a number"))?
            }
        };
        match u32::try_from(limit) {
            Ok(limit) if limit > 0 => Ok(Self { after, limit }),
            Ok(_) => Err(Reply::error("page size of retrieved leases must not be 0")),
            Err(_) => Err(Reply::error("page size of retrieved leases must not be greater than 4294967295")),
        }
    }
}

fn parse_from(text: &str) -> Result<Ipv4Addr, Reply> {
    text.parse().map_err(|_| match text.parse::<std::net::Ipv6Addr>() {
        Ok(_) => Reply::error(format!("'from' parameter value {text} is not an IPv4 address")),
        Err(_) => Reply::error("'from' parameter value is neither 'start' keyword nor a valid IPv4 address"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<HaCommand, Reply> {
        HaCommand::parse(&Envelope::parse(body.as_bytes()).unwrap()).expect("a command of the HA machine")
    }

    #[test]
    fn commands_are_read_in_both_dialects() {
        use HaCommand as C;
        for (body, expected) in [
            (
                r#"{"command": "ha-heartbeat", "service": ["dhcp4"]}"#,
                C::Heartbeat { server_name: None, fingerprint: None },
            ),
            (
                r#"{"command": "ha-heartbeat", "arguments": null}"#,
                C::Heartbeat { server_name: None, fingerprint: None },
            ),
            (
                r#"{"command": "ha-heartbeat", "service": ["dhcp6"], "arguments": {"server-name": "server1"}}"#,
                C::Heartbeat { server_name: Some("server1".into()), fingerprint: None },
            ),
            (
                r#"{"command": "dhcp-disable", "arguments": {"max-period": 60, "origin": "ha-partner"}}"#,
                C::DhcpDisable { origin: Origin::Partner, max_period_s: Some(60) },
            ),
            (
                r#"{"command": "dhcp-disable", "arguments": {"max-period": 60, "origin": "ha-partner", "origin-id": 2001}}"#,
                C::DhcpDisable { origin: Origin::Id(2001), max_period_s: Some(60) },
            ),
            (r#"{"command": "dhcp-disable"}"#, C::DhcpDisable { origin: Origin::User, max_period_s: None }),
            (
                r#"{"command": "dhcp-enable", "arguments": {"origin": 2000}}"#,
                C::DhcpEnable { origin: Origin::Id(2000) },
            ),
            (
                r#"{"command": "ha-sync-complete-notify"}"#,
                C::SyncCompleteNotify { origin_id: None, server_name: None },
            ),
            (
                r#"{"command": "ha-sync-complete-notify", "arguments": {"origin": 2000, "server-name": "a"}}"#,
                C::SyncCompleteNotify { origin_id: Some(2000), server_name: Some("a".into()) },
            ),
            (
                r#"{"command": "ha-maintenance-notify", "arguments": {"cancel": false, "state": "ready"}}"#,
                C::MaintenanceNotify { cancel: false, server_name: None, state: Some(PartnerState::Ready) },
            ),
            (
                r#"{"command": "ha-maintenance-notify", "arguments": {"cancel": true, "server-name": "a"}}"#,
                C::MaintenanceNotify { cancel: true, server_name: Some("a".into()), state: None },
            ),
            (r#"{"command": "ha-maintenance-start"}"#, C::MaintenanceStart),
            (r#"{"command": "ha-maintenance-cancel"}"#, C::MaintenanceCancel),
            (
                r#"{"command": "ha-scopes", "arguments": {"scopes": ["server1", "server2"]}}"#,
                C::Scopes { scopes: vec!["server1".into(), "server2".into()], server_name: None },
            ),
            (
                r#"{"command": "tandem-ha-stopping", "arguments": {"server-name": "a"}}"#,
                C::Stopping { server_name: Some("a".into()) },
            ),
            (r#"{"command": "ha-reset"}"#, C::Reset { server_name: None }),
            (r#"{"command": "ha-continue"}"#, C::Continue { server_name: None }),
            (
                r#"{"command": "ha-sync", "arguments": {"server-name": "b", "max-period": 9}}"#,
                C::Sync { server_name: "b".into(), max_period_s: Some(9) },
            ),
        ] {
            assert_eq!(parse(body).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn wrong_arguments_are_answered_with_result_1() {
        for (body, text) in [
            (
                r#"{"command": "dhcp-disable", "arguments": {"max-period": 0}}"#,
                "'max-period' must be positive integer",
            ),
            (
                r#"{"command": "dhcp-disable", "arguments": {"max-period": -1}}"#,
                "'max-period' must be positive integer",
            ),
            (
                r#"{"command": "dhcp-disable", "arguments": {"max-period": "1"}}"#,
                "'max-period' argument must be a number",
            ),
            (
                r#"{"command": "dhcp-disable", "arguments": {"max-period": 1.0}}"#,
                "'max-period' argument must be a number",
            ),
            (
                r#"{"command": "dhcp-enable", "arguments": {"origin": "foo"}}"#,
                "invalid value used for 'origin' parameter: foo",
            ),
            (
                r#"{"command": "dhcp-enable", "arguments": {"origin-id": "x"}}"#,
                "'origin-id' argument must be a number",
            ),
            (
                r#"{"command": "dhcp-enable", "arguments": []}"#,
                "arguments for the 'dhcp-enable' command must be a map",
            ),
            (
                r#"{"command": "ha-heartbeat", "arguments": {"server-name": 1}}"#,
                "'server-name' must be a string",
            ),
            (
                r#"{"command": "ha-maintenance-notify"}"#,
                "'cancel' is mandatory for the 'ha-maintenance-notify' command",
            ),
            (r#"{"command": "ha-scopes"}"#, "arguments not found in the 'ha-scopes' command"),
            (
                r#"{"command": "ha-scopes", "arguments": {}}"#,
                "'scopes' is mandatory for the 'ha-scopes' command",
            ),
            (
                r#"{"command": "ha-scopes", "arguments": {"scopes": "a"}}"#,
                "'scopes' must be a list in the 'ha-scopes' command",
            ),
            (
                r#"{"command": "ha-scopes", "arguments": {"scopes": [1]}}"#,
                "scope name must be a string in the 'scopes' argument",
            ),
            (r#"{"command": "ha-sync"}"#, "arguments not found in the 'ha-sync' command"),
            (
                r#"{"command": "ha-sync", "arguments": {}}"#,
                "'server-name' is mandatory for the 'ha-sync' command",
            ),
            (
                r#"{"command": "ha-sync", "arguments": {"server-name": 1}}"#,
                "'server-name' must be a string in the 'ha-sync' command",
            ),
            (
                r#"{"command": "ha-sync", "arguments": {"server-name": "a", "max-period": 0}}"#,
                "'max-period' must be a positive integer in the 'ha-sync' command",
            ),
        ] {
            assert_eq!(parse(body).unwrap_err(), Reply::error(text), "{body}");
        }
        assert!(HaCommand::parse(&Envelope::parse(br#"{"command": "config-get"}"#).unwrap()).is_none());
    }

    #[test]
    fn page_requests_are_read_as_3_4_says() {
        let read = |arguments: &str| {
            let body = format!(r#"{{"command": "lease4-get-page", "arguments": {arguments}}}"#);
            PageRequest::parse(&Envelope::parse(body.as_bytes()).unwrap())
                .map_err(|reply| reply.text.unwrap())
        };
        assert_eq!(read(r#"{"from": "start", "limit": 1}"#), Ok(PageRequest { after: None, limit: 1 }));
        let after = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(
            read(r#"{"from": "10.0.0.1", "limit": 4294967295}"#),
            Ok(PageRequest { after, limit: u32::MAX })
        );
        for (arguments, text) in [
            (r#"{"limit": 1}"#, "'from' parameter not specified"),
            (r#"{"from": "start"}"#, "'limit' parameter not specified"),
            (r#"{"from": "start", "limit": "1"}"#, "'limit' parameter must be a number"),
            (
                r#"{"from": "x", "limit": 1}"#,
                "'from' parameter value is neither 'start' keyword nor a valid IPv4 address",
            ),
            (r#"{"from": "::", "limit": 1}"#, "'from' parameter value :: is not an IPv4 address"),
            (r#"{"from": "start", "limit": 0}"#, "page size of retrieved leases must not be 0"),
            ("null", "no parameters specified for the lease4-get-page command"),
            (
                r#"{"from": "start", "limit": -1}"#,
                "page size of retrieved leases must not be greater than 4294967295",
            ),
        ] {
            assert_eq!(read(arguments), Err(text.to_owned()), "{arguments}");
        }
    }
}
