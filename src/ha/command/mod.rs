//! HA and lease commands as types, and their JSON (ha-protocol 2.2, 2.11, 3).
//!
//! Requests to the partner are written in the superset dialect (every argument of release 3.0; an older
//! partner ignores what it does not know; [`request`]). Requests from a partner are read in both dialects
//! ([`HaCommand`]). Leases inside commands are in [`super::lease_json`].

mod ha;
pub mod request;

use serde_json::{Map, Value};

use super::json::{self, JsonError};
use crate::engine::message::UpdateOutcome;

pub use ha::{HaCommand, Origin, PageRequest};

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
/// Origin id of a server's own lock in its first relationship: 1000 + the index of the relationship.
pub const LOCAL_ORIGIN_ID: i64 = 1000;
/// Origin id of an administrator.
pub const USER_ORIGIN_ID: i64 = 1;

/// Commands a partner may send when `restrict-commands` is set (ha-protocol 2.9), and our own.
pub const PARTNER_COMMANDS: [&str; 14] = [
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
    super::copy::COMMAND,
    request::STOPPING,
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

    /// Result 1 for a name that is no peer's (ha-protocol 1.9).
    pub fn unknown_server(name: &str) -> Self {
        Self::error(format!("{name} matches no configured 'server-name'"))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
