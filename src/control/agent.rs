//! The control agent's own commands and its routing (API-25 to API-27), pure.
//!
//! A command without `service` is the agent's own; one with services is passed on to the unix socket of each, in
//! order, and the answers come back as one list.

use config::Dialect;
use serde_json::{Map, Value, json};

use super::{Answer, version};
use crate::ha::command::{Reply, result};
use crate::ha::json;

/// What is to be done about the body of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentPlan {
    /// The agent answers itself.
    Answer(Answer),
    /// Ask these services, in this order.
    Forward(Vec<String>),
    /// The agent does it and answers.
    Own(AgentCommand),
    /// HTTP 400.
    Malformed,
}

/// What only the running agent can do.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentCommand {
    /// `config-get`.
    ConfigGet,
    /// `config-reload`.
    ConfigReload,
    /// `config-test` of `{ "Control-agent": … }`.
    ConfigTest(Value),
    /// `shutdown`.
    Shutdown,
    /// `status-get`.
    StatusGet,
}

impl AgentCommand {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ConfigGet => "config-get",
            Self::ConfigReload => "config-reload",
            Self::ConfigTest(_) => "config-test",
            Self::Shutdown => "shutdown",
            Self::StatusGet => "status-get",
        }
    }
}

/// The agent's commands, in order.
const COMMANDS: [&str; 8] = [
    "build-report",
    "config-get",
    "config-reload",
    "config-test",
    "list-commands",
    "shutdown",
    "status-get",
    "version-get",
];

/// Services a command may name; one more each would only repeat an answer.
const SERVICES_MAX: usize = 16;

/// What to do about the request `body`.
pub fn plan(body: &[u8]) -> AgentPlan {
    if body.iter().all(u8::is_ascii_whitespace) {
        return AgentPlan::Answer(
            Reply::error("Error during command processing: NULL command parameter").into(),
        );
    }
    let Ok(request) = json::decode(body) else { return AgentPlan::Malformed };
    route(&request).unwrap_or_else(|reply| AgentPlan::Answer(reply.into()))
}

fn route(request: &Value) -> Result<AgentPlan, Reply> {
    let refused = |text: &str| Reply::error(format!("Error during command processing: {text}"));
    let Value::Object(members) = request else {
        return Err(refused("Invalid command Element specified, expected map"));
    };
    let known = ["arguments", "command", "remote-address", "service"];
    if let Some(key) = members.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(refused(&format!("Received command contains unsupported parameter '{key}'")));
    }
    let Some(command) = members.get("command") else {
        return Err(refused("Invalid answer specified, does not contain mandatory 'command'"));
    };
    let Some(command) = command.as_str() else { return Err(refused("'command' is not a string")) };
    let services = services(members)?;
    if !services.is_empty() {
        return Ok(AgentPlan::Forward(services));
    }
    let arguments = members.get("arguments").filter(|arguments| !arguments.is_null());
    own(command, arguments)
}

fn services(members: &Map<String, Value>) -> Result<Vec<String>, Reply> {
    match members.get("service") {
        None => Ok(Vec::new()),
        Some(Value::Array(names)) if names.len() <= SERVICES_MAX => names
            .iter()
            .map(|name| {
                name.as_str().map(str::to_owned).ok_or_else(|| Reply::error("service name is not a string"))
            })
            .collect(),
        Some(Value::Array(_)) => Err(Reply::error(format!("more than {SERVICES_MAX} services"))),
        Some(_) => Err(Reply::error("service value must be a list")),
    }
}

fn own(command: &str, arguments: Option<&Value>) -> Result<AgentPlan, Reply> {
    Ok(match command {
        "build-report" => AgentPlan::Answer(Reply::success(version::build_report()).into()),
        "config-get" => AgentPlan::Own(AgentCommand::ConfigGet),
        "config-reload" => AgentPlan::Own(AgentCommand::ConfigReload),
        "config-test" => match arguments {
            Some(Value::Object(members)) if members.contains_key("Control-agent") => {
                AgentPlan::Own(AgentCommand::ConfigTest(Value::Object(members.clone())))
            }
            _ => return Err(Reply::error("Missing mandatory 'Control-agent' parameter.")),
        },
        "list-commands" => AgentPlan::Answer(Answer::data(json!(COMMANDS))),
        "shutdown" => AgentPlan::Own(AgentCommand::Shutdown),
        "status-get" => AgentPlan::Own(AgentCommand::StatusGet),
        "version-get" => {
            // Agents belong to the older dialect; since 3.0 the server answers HTTP itself.
            let dialect = Dialect::Kea2_2;
            let extended = json!({ "extended": version::extended(dialect) });
            AgentPlan::Answer(Reply::success(version::release(dialect)).with_arguments(extended).into())
        }
        other => {
            let text = format!(
                "'{other}' command not supported. You did not include \"service\" parameter in the command, so the \
                 control agent took it for one of its own. To reach a server name it, as in \"service\": [ \"dhcp4\" ]."
            );
            return Err(Reply::new(result::UNSUPPORTED, text));
        }
    })
}

/// The answer for a service that has no socket.
pub fn not_configured(service: &str) -> Reply {
    Reply::error(format!("forwarding socket is not configured for the server type {service}"))
}

/// The answer for a service that cannot be reached; tools look for the last sentence (API-5).
pub fn offline(service: &str, cause: &std::io::Error) -> Reply {
    // Only the system's words: "(os error 2)" is not in Kea's text.
    let text = cause.to_string();
    let cause = text.split(" (os error").next().unwrap_or(&text);
    Reply::error(format!(
        "unable to forward command to the {service} service: {cause}. The server is likely to be offline"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_the_agents_own_or_passed_on() {
        let text = |answer: &Answer| answer.text().unwrap_or_default().to_owned();
        for (body, expected) in [
            (r#"{"command":"config-get"}"#, "own ConfigGet"),
            (r#"{"command":"config-get","service":[]}"#, "own ConfigGet"),
            (r#"{"command":"status-get"}"#, "own StatusGet"),
            (r#"{"command":"config-get","service":["dhcp4","dhcp6"]}"#, "forward dhcp4 dhcp6"),
            (
                r#"{"command":"foo"}"#,
                "2 'foo' command not supported. You did not include \"service\" parameter",
            ),
            (r#"{"command":"foo","service":"dhcp4"}"#, "1 service value must be a list"),
            (r#"{"command":"config-test"}"#, "1 Missing mandatory 'Control-agent' parameter."),
            (r#"{"command":"version-get"}"#, "0 2.2.0"),
            (
                r#"{"x":1,"command":"foo"}"#,
                "1 Error during command processing: Received command contains unsupported",
            ),
            (
                r#"{}"#,
                "1 Error during command processing: Invalid answer specified, does not contain mandatory",
            ),
            (r#"[]"#, "1 Error during command processing: Invalid command Element specified, expected map"),
            (r#"{"#, "malformed"),
            ("", "1 Error during command processing: NULL command parameter"),
        ] {
            let got = match plan(body.as_bytes()) {
                AgentPlan::Answer(answer) => format!("{} {}", answer.result(), text(&answer)),
                AgentPlan::Forward(services) => format!("forward {}", services.join(" ")),
                AgentPlan::Own(command) => format!("own {command:?}"),
                AgentPlan::Malformed => "malformed".into(),
            };
            assert!(got.starts_with(expected), "{body}: {got}");
        }
    }

    #[test]
    fn an_unreachable_service_is_described_in_keas_words() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(
            offline("dhcp6", &error).text.as_deref(),
            Some(
                "unable to forward command to the dhcp6 service: No such file or directory. The server is likely to be offline"
            )
        );
    }
}
