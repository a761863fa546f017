//! Commands over a unix control socket, as an operator sends them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// Sends `command` with `arguments` and returns the whole answer; `None` when nobody listens or answers.
pub fn try_command(socket: &Path, command: &str, arguments: Value) -> Option<Value> {
    let mut request = json!({ "command": command });
    if !arguments.is_null() {
        request["arguments"] = arguments;
    }
    serde_json::from_slice(&try_octets(socket, request.to_string().as_bytes())?).ok()
}

/// Sends octets and returns those of the answer.
pub fn try_octets(socket: &Path, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(answer)
}

/// The same for a server that has to answer.
pub fn command(socket: &Path, command: &str, arguments: Value) -> Value {
    try_command(socket, command, arguments)
        .unwrap_or_else(|| panic!("no answer to {command} on {}", socket.display()))
}

/// All leases by `lease4-get-all`, in order of address.
pub fn leases(socket: &Path) -> Vec<Value> {
    let answer = command(socket, "lease4-get-all", Value::Null);
    let mut leases =
        answer["arguments"]["leases"].as_array().cloned().unwrap_or_else(|| panic!("no leases: {answer}"));
    leases.sort_by_key(|lease| {
        lease["ip-address"].as_str().map(|address| address.parse::<std::net::Ipv4Addr>().ok())
    });
    leases
}

/// The state of the HA machine by `status-get`.
pub fn ha_state(socket: &Path) -> String {
    let Some(answer) = try_command(socket, "status-get", Value::Null) else { return "no answer".into() };
    let state = &answer["arguments"]["high-availability"][0]["ha-servers"]["local"]["state"];
    state.as_str().map_or_else(|| answer.to_string(), str::to_owned)
}
