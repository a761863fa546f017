//! HA and lease commands as types, and their JSON (ha-protocol 2.2, 2.11, 3).
//!
//! Requests to the partner are written in the superset dialect (every argument of release 3.0; an older
//! partner ignores what it does not know). Requests from a partner are read in both dialects. Leases inside
//! commands are in [`super::lease_json`].

use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use super::json::{self, JsonError};
use crate::engine::message::UpdateOutcome;

/// Result codes (ha-protocol 2.11).
pub mod result {
    /// Done.
    pub const SUCCESS: i64 = 0;
    /// Failed.
    pub const ERROR: i64 = 1;
    /// Command not known.
    pub const UNSUPPORTED: i64 = 2;
    /// Done, and there was nothing to find or to delete.
    pub const EMPTY: i64 = 3;
    /// Against configuration or state; the partner stays available.
    pub const CONFLICT: i64 = 4;
    /// Maintenance refused in this state.
    pub const MAINTENANCE_NOT_ALLOWED: i64 = 1001;
}

/// Origin id of the partner's own locks: 2000 + its relationship index (ha-protocol 3.2).
pub const REMOTE_ORIGIN_ID: i64 = 2000;
/// Origin id of an administrator.
pub const USER_ORIGIN_ID: i64 = 1;

/// Commands a partner may send when `restrict-commands` is set (ha-protocol 2.9), and our own.
pub const PARTNER_COMMANDS: [&str; 13] = [
    "dhcp-disable",
    "dhcp-enable",
    "ha-heartbeat",
    "ha-maintenance-notify",
    "ha-reset",
    "ha-sync-complete-notify",
    "lease4-del",
    "lease4-get-all",
    "lease4-get-page",
    "lease4-update",
    "list-commands",
    "status-get",
    super::batch::COMMAND,
];

/// The outside of a command: name and arguments, checked as Kea checks them.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Name.
    pub command: String,
    /// Arguments; `null` counts as absent.
    pub arguments: Option<Value>,
    /// Services named, if any. The HA listener ignores them; the agent needs them.
    pub services: Vec<String>,
}

/// Why a body is no command.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// HTTP 400; the connection stays open.
    #[error("malformed JSON: {0}")]
    Json(#[from] JsonError),
    /// HTTP 200 with this answer.
    #[error("not a command")]
    Refused(Reply),
}

impl Envelope {
    /// Reads the body of a request.
    pub fn parse(body: &[u8]) -> Result<Self, EnvelopeError> {
        if body.trim_ascii().is_empty() {
            return Err(refused("NULL command parameter".into()));
        }
        Self::from_value(json::decode(body)?)
    }

    /// Reads a command that is part of another.
    ///
    /// # Errors
    /// [`EnvelopeError::Refused`] with the answer.
    pub fn from_value(value: Value) -> Result<Self, EnvelopeError> {
        let Value::Object(mut members) = value else {
            return Err(refused("Invalid command Element specified, expected map".into()));
        };
        const KNOWN: [&str; 4] = ["arguments", "command", "remote-address", "service"];
        if let Some(unknown) = members.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(refused(format!("Received command contains unsupported parameter '{unknown}'")));
        }
        let command = match members.remove("command") {
            Some(Value::String(name)) => name,
            Some(_) => return Err(refused("'command' parameter is not a string".into())),
            None => {
                return Err(refused("Invalid answer specified, does not contain mandatory 'command'".into()));
            }
        };
        let services = match members.remove("service") {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(name) => Ok(name),
                    _ => Err(refused("service name is not a string".into())),
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(refused("service value must be a list".into())),
        };
        let arguments = members.remove("arguments").filter(|arguments| !arguments.is_null());
        Ok(Self { command, arguments, services })
    }
}

fn refused(text: String) -> EnvelopeError {
    EnvelopeError::Refused(Reply::error(format!("Error during command processing: {text}")))
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Result code.
    pub result: i64,
    /// Text for people.
    pub text: Option<String>,
    /// Arguments.
    pub arguments: Option<Value>,
}

impl Reply {
    /// A reply of a result and a text.
    pub fn new(result: i64, text: impl Into<String>) -> Self {
        Self { result, text: Some(text.into()), arguments: None }
    }

    /// Result 0.
    pub fn success(text: impl Into<String>) -> Self {
        Self::new(result::SUCCESS, text)
    }

    /// Result 1.
    pub fn error(text: impl Into<String>) -> Self {
        Self::new(result::ERROR, text)
    }

    /// Result 2 for a command nobody knows.
    pub fn unsupported(command: &str) -> Self {
        Self::new(result::UNSUPPORTED, format!("'{command}' command not supported."))
    }

    /// The same with arguments.
    pub fn with_arguments(mut self, arguments: Value) -> Self {
        self.arguments = Some(arguments);
        self
    }

    /// The bare object, as on a control socket.
    pub fn to_value(&self) -> Value {
        let mut members = Map::new();
        if let Some(arguments) = &self.arguments {
            members.insert("arguments".into(), arguments.clone());
        }
        members.insert("result".into(), self.result.into());
        if let Some(text) = &self.text {
            members.insert("text".into(), text.as_str().into());
        }
        Value::Object(members)
    }

    /// The array of one object, as on HTTP (ha-protocol 0.3 rule 1).
    pub fn to_http_body(&self) -> Vec<u8> {
        json::to_vec(&Value::Array(vec![self.to_value()]))
    }

    /// Whether the command succeeded (0 or 3).
    pub fn is_success(&self) -> bool {
        matches!(self.result, result::SUCCESS | result::EMPTY)
    }

    /// Reads the body of a response: the first element of an array (ha-protocol 2.5).
    pub fn parse(body: &[u8]) -> Result<Self, ReplyError> {
        let value = json::decode(body).map_err(|error| ReplyError::Malformed(error.to_string()))?;
        let mut members = match value {
            Value::Array(items) => match items.into_iter().next() {
                Some(Value::Object(members)) => members,
                _ => return Err(ReplyError::NoResult),
            },
            // An object is an HTTP-level error whatever result it names.
            Value::Object(members) => {
                let text = members.get("text").and_then(Value::as_str).unwrap_or("no text").to_owned();
                return Err(ReplyError::HttpError(text));
            }
            _ => return Err(ReplyError::NoResult),
        };
        let result = members.get("result").and_then(Value::as_i64).ok_or(ReplyError::NoResult)?;
        let text = members.get("text").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { result, text, arguments: members.remove("arguments") })
    }

    /// Reads a response and turns every result but 0 and 3 into an error in words.
    pub fn parse_success(body: &[u8]) -> Result<Self, ReplyError> {
        let reply = Self::parse(body)?;
        if reply.is_success() {
            Ok(reply)
        } else {
            Err(ReplyError::Result { result: reply.result, text: reply.text.unwrap_or_default() })
        }
    }
}

/// Why a response is no success.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReplyError {
    /// A bare object.
    #[error("{0}")]
    HttpError(String),
    /// Not JSON.
    #[error("malformed response: {0}")]
    Malformed(String),
    /// No element with an integer result.
    #[error("response without an integer result")]
    NoResult,
    /// A result that is no success.
    #[error("{text}, error code {result}")]
    Result {
        /// The code.
        result: i64,
        /// Its text.
        text: String,
    },
}

/// What the answer to `lease4-update` or `lease4-del` means for the query that waits (ha-protocol 5.4).
///
/// # Errors
/// The answer is none: nothing is known of the update.
pub fn lease_update_outcome(body: &[u8]) -> Result<(UpdateOutcome, Reply), ReplyError> {
    Reply::parse(body).map(|reply| (outcome_of_result(reply.result), reply))
}

/// What the result of `lease4-update` or `lease4-del` means.
///
/// A well-formed refusal comes from somebody who lives (ha-protocol 8 no. 5): release 2.2 says 1 for an unknown
/// subnet, and so does a control agent for a dead server, which the next heartbeat finds out.
pub fn outcome_of_result(code: i64) -> UpdateOutcome {
    match code {
        result::SUCCESS | result::EMPTY => UpdateOutcome::Acked,
        result::CONFLICT => UpdateOutcome::Conflict,
        _ => UpdateOutcome::Refused,
    }
}

/// A command the HA machine answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HaCommand {
    /// `ha-continue`.
    Continue,
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
    },
    /// `ha-maintenance-notify`.
    MaintenanceNotify {
        /// Whether maintenance is called off.
        cancel: bool,
    },
    /// `ha-reset`.
    Reset {
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
    /// Reads a command; `None` when it is not one the HA machine answers, `Some(Err(..))` is the answer to a
    /// command whose arguments are wrong.
    pub fn parse(envelope: &Envelope) -> Option<Result<Self, Reply>> {
        let parse = match envelope.command.as_str() {
            "dhcp-disable" => Self::parse_disable,
            "dhcp-enable" => Self::parse_enable,
            "ha-continue" => |_: &Arguments<'_>| Ok(Self::Continue),
            "ha-heartbeat" => |arguments: &Arguments<'_>| {
                Ok(Self::Heartbeat { server_name: arguments.optional_string("server-name")? })
            },
            "ha-maintenance-notify" => |arguments: &Arguments<'_>| match arguments.get("cancel") {
                Some(Value::Bool(cancel)) => Ok(Self::MaintenanceNotify { cancel: *cancel }),
                Some(_) => {
                    Err(Reply::error("'cancel' must be a boolean in the 'ha-maintenance-notify' command"))
                }
                None => Err(Reply::error("'cancel' is mandatory for the 'ha-maintenance-notify' command")),
            },
            "ha-reset" => |arguments: &Arguments<'_>| {
                Ok(Self::Reset { server_name: arguments.optional_string("server-name")? })
            },
            "ha-sync" => Self::parse_sync,
            "ha-sync-complete-notify" => Self::parse_sync_complete,
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

    fn parse_sync(arguments: &Arguments<'_>) -> Result<Self, Reply> {
        let server_name = arguments
            .optional_string("server-name")?
            .ok_or_else(|| Reply::error("'server-name' is mandatory for the 'ha-sync' command"))?;
        Ok(Self::Sync { server_name, max_period_s: arguments.max_period()? })
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

/// Arguments of a command: a map, or nothing.
struct Arguments<'a>(Option<&'a Map<String, Value>>);

impl<'a> Arguments<'a> {
    fn of(envelope: &'a Envelope) -> Result<Self, Reply> {
        match &envelope.arguments {
            None => Ok(Self(None)),
            Some(Value::Object(members)) => Ok(Self(Some(members))),
            Some(_) => {
                Err(Reply::error(format!("arguments in the '{}' command are not a map", envelope.command)))
            }
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
            _ => Err(Reply::error("page size of retrieved leases must be between 1 and 4294967295")),
        }
    }
}

fn parse_from(text: &str) -> Result<Ipv4Addr, Reply> {
    text.parse().map_err(|_| match text.parse::<std::net::Ipv6Addr>() {
        Ok(_) => Reply::error(format!("'from' parameter value {text} is not an IPv4 address")),
        Err(_) => Reply::error("'from' parameter value is neither 'start' keyword nor a valid IPv4 address"),
    })
}

/// Requests to the partner.
pub mod request {
    use super::*;

    /// `ha-heartbeat`.
    pub fn heartbeat(this_server_name: &str) -> Vec<u8> {
        command("ha-heartbeat", Some(json!({ "server-name": this_server_name })))
    }

    /// `dhcp-disable` for `max_period_s` seconds.
    pub fn dhcp_disable(max_period_s: u64) -> Vec<u8> {
        let arguments =
            json!({ "max-period": max_period_s, "origin": "ha-partner", "origin-id": REMOTE_ORIGIN_ID });
        command("dhcp-disable", Some(arguments))
    }

    /// `dhcp-enable`.
    pub fn dhcp_enable() -> Vec<u8> {
        command("dhcp-enable", Some(json!({ "origin": "ha-partner", "origin-id": REMOTE_ORIGIN_ID })))
    }

    /// `lease4-get-page`.
    pub fn lease_page(page: PageRequest) -> Vec<u8> {
        let from = page.after.map_or_else(|| "start".to_owned(), |after| after.to_string());
        command("lease4-get-page", Some(json!({ "from": from, "limit": page.limit })))
    }

    /// `ha-reset`: the partner begins again, with a copy of our leases.
    pub fn reset() -> Vec<u8> {
        command("ha-reset", None)
    }

    /// `ha-sync-complete-notify`.
    pub fn sync_complete_notify(this_server_name: &str) -> Vec<u8> {
        let arguments = json!({
            "origin": REMOTE_ORIGIN_ID, "origin-id": REMOTE_ORIGIN_ID, "server-name": this_server_name
        });
        command("ha-sync-complete-notify", Some(arguments))
    }

    /// `status-get`, to learn the partner's generation (ha-protocol 0.5).
    pub fn status_get() -> Vec<u8> {
        command("status-get", None)
    }

    fn command(name: &str, arguments: Option<Value>) -> Vec<u8> {
        let mut members = Map::new();
        if let Some(arguments) = arguments {
            members.insert("arguments".into(), arguments);
        }
        members.insert("command".into(), name.into());
        members.insert("service".into(), json!(["dhcp4"]));
        json::to_vec(&Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<HaCommand, Reply> {
        HaCommand::parse(&Envelope::parse(body.as_bytes()).unwrap()).expect("a command of the HA machine")
    }

    #[test]
    fn requests_are_written_in_the_superset_dialect() {
        for (body, expected) in [
            (
                request::heartbeat("server2"),
                r#"{ "arguments": { "server-name": "server2" }, "command": "ha-heartbeat", "service": [ "dhcp4" ] }"#,
            ),
            (
                request::dhcp_disable(60),
                r#"{ "arguments": { "max-period": 60, "origin": "ha-partner", "origin-id": 2000 }, "command": "dhcp-disable", "service": [ "dhcp4" ] }"#,
            ),
            (
                request::dhcp_enable(),
                r#"{ "arguments": { "origin": "ha-partner", "origin-id": 2000 }, "command": "dhcp-enable", "service": [ "dhcp4" ] }"#,
            ),
            (
                request::lease_page(PageRequest { after: None, limit: 10000 }),
                r#"{ "arguments": { "from": "start", "limit": 10000 }, "command": "lease4-get-page", "service": [ "dhcp4" ] }"#,
            ),
            (
                request::sync_complete_notify("server2"),
                r#"{ "arguments": { "origin": 2000, "origin-id": 2000, "server-name": "server2" }, "command": "ha-sync-complete-notify", "service": [ "dhcp4" ] }"#,
            ),
            (request::status_get(), r#"{ "command": "status-get", "service": [ "dhcp4" ] }"#),
        ] {
            assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
    }

    #[test]
    fn commands_are_read_in_both_dialects() {
        use HaCommand as C;
        for (body, expected) in [
            (r#"{"command": "ha-heartbeat", "service": ["dhcp4"]}"#, C::Heartbeat { server_name: None }),
            (r#"{"command": "ha-heartbeat", "arguments": null}"#, C::Heartbeat { server_name: None }),
            (
                r#"{"command": "ha-heartbeat", "service": ["dhcp6"], "arguments": {"server-name": "server1"}}"#,
                C::Heartbeat { server_name: Some("server1".into()) },
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
                C::MaintenanceNotify { cancel: false },
            ),
            (r#"{"command": "ha-reset"}"#, C::Reset { server_name: None }),
            (r#"{"command": "ha-continue"}"#, C::Continue),
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
                "arguments in the 'dhcp-enable' command are not a map",
            ),
            (
                r#"{"command": "ha-heartbeat", "arguments": {"server-name": 1}}"#,
                "'server-name' must be a string",
            ),
            (
                r#"{"command": "ha-maintenance-notify"}"#,
                "'cancel' is mandatory for the 'ha-maintenance-notify' command",
            ),
            (r#"{"command": "ha-sync"}"#, "'server-name' is mandatory for the 'ha-sync' command"),
        ] {
            assert_eq!(parse(body).unwrap_err(), Reply::error(text), "{body}");
        }
        assert!(HaCommand::parse(&Envelope::parse(br#"{"command": "config-get"}"#).unwrap()).is_none());
    }

    #[test]
    fn bodies_that_are_no_commands_are_told_apart() {
        for (body, text) in [
            ("", "NULL command parameter"),
            ("[]", "Invalid command Element specified, expected map"),
            (r#"{"command": "a", "extra": 1}"#, "Received command contains unsupported parameter 'extra'"),
            (r#"{"command": 7}"#, "'command' parameter is not a string"),
        ] {
            match Envelope::parse(body.as_bytes()) {
                Err(EnvelopeError::Refused(reply)) => {
                    let text = format!("Error during command processing: {text}");
                    assert_eq!(reply, Reply::error(text), "{body}");
                }
                other => panic!("{body}: {other:?}"),
            }
        }
        for body in ["{", "{\"command\": \"a\"} x", "{\"command\": \"\\u0100\"}"] {
            assert!(matches!(Envelope::parse(body.as_bytes()), Err(EnvelopeError::Json(_))), "{body}");
        }
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
            (
                r#"{"from": "start", "limit": 0}"#,
                "page size of retrieved leases must be between 1 and 4294967295",
            ),
        ] {
            assert_eq!(read(arguments), Err(text.to_owned()), "{arguments}");
        }
    }

    #[test]
    fn replies_are_read_as_2_5_says_and_update_outcomes_as_5_4_says() {
        use UpdateOutcome::{Acked, Conflict, Refused};
        for (body, result, outcome) in [
            (r#"[ { "result": 0 } ]"#, Some(0), Some(Acked)),
            (r#"[ { "result": 3, "text": "IPv4 lease not found.", "x": 1 } ]"#, Some(3), Some(Acked)),
            (r#"[ { "result": 0 }, { "result": 1 } ]"#, Some(0), Some(Acked)),
            (r#"[ { "result": 4, "text": "no" } ]"#, Some(4), Some(Conflict)),
            (r#"[ { "result": 1, "text": "unable to forward" } ]"#, Some(1), Some(Refused)),
            (r#"[ { "result": 2 } ]"#, Some(2), Some(Refused)),
            (r#"{ "result": 0, "text": "object" }"#, None, None),
            ("[]", None, None),
            ("[ 1 ]", None, None),
            ("", None, None),
            ("7", None, None),
            (r#"[ { "result": "0" } ]"#, None, None),
            (r#"[ { "text": "none" } ]"#, None, None),
            (r#"[ { "result": 0.0 } ]"#, None, None),
        ] {
            assert_eq!(Reply::parse(body.as_bytes()).ok().map(|reply| reply.result), result, "{body}");
            let read = lease_update_outcome(body.as_bytes()).ok().map(|(outcome, _)| outcome);
            assert_eq!(read, outcome, "{body}");
        }
    }

    #[test]
    fn a_reply_on_http_is_an_array_of_one_object() {
        let reply =
            Reply::success("HA peer status returned.").with_arguments(json!({ "scopes": ["server1"] }));
        assert_eq!(
            String::from_utf8(reply.to_http_body()).unwrap(),
            r#"[ { "arguments": { "scopes": [ "server1" ] }, "result": 0, "text": "HA peer status returned." } ]"#
        );
        assert_eq!(Reply::parse(&reply.to_http_body()).unwrap(), reply);
    }
}
