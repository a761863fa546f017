//! Which relationship a command is for, where there are several (ha-protocol 1.9); and what is said of all of them.
//!
//! A command of a partner is for the relationship whose listener it came to: `dhcp-disable` names no server, and a
//! partner of release 2.2 names none at all (8 no. 9). What an administrator sends is for the relationship that has a
//! peer of the name it gives, or for the first one; what concerns the whole server is for every one of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::command::{HaCommand, LOCAL_ORIGIN_ID, Origin, Reply};

/// Whom a command is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// Every relationship in its order, until one refuses.
    Each,
    /// The relationship at this place.
    One(usize),
}

/// Whom `command` is for: one that came to the listener of the relationship `arrival`, or through a control channel. There
/// are `count` relationships, and `named` gives the place of the one that has a peer of a name.
///
/// # Errors
/// The answer to a name that is no peer's.
pub fn target(
    command: &HaCommand,
    arrival: Option<usize>,
    count: usize,
    named: impl Fn(&str) -> Option<usize>,
) -> Result<Target, Reply> {
    if let Some(relationship) = arrival {
        return Ok(Target::One(relationship));
    }
    if count < 2 {
        return Ok(Target::One(0));
    }
    Ok(match command {
        HaCommand::DhcpDisable { origin: Origin::Id(id), .. }
        | HaCommand::DhcpEnable { origin: Origin::Id(id) } => {
            // The number of a relationship's own lock says which one.
            let place = usize::try_from(id.saturating_sub(LOCAL_ORIGIN_ID)).ok();
            place.filter(|place| *place < count).map_or(Target::Each, Target::One)
        }
        HaCommand::DhcpDisable { .. }
        | HaCommand::DhcpEnable { .. }
        | HaCommand::MaintenanceCancel
        | HaCommand::MaintenanceStart => Target::Each,
        other => match other.server_name() {
            None => Target::One(0),
            Some(name) => Target::One(named(name).ok_or_else(|| Reply::unknown_server(name))?),
        },
    })
}

/// `dhcp-state` of a server from that of each of its relationships: the service is off globally while none serves, and
/// whoever holds it off anywhere is named.
pub fn dhcp_state(of_each: &[Value]) -> Value {
    let ids = |key: &str| -> BTreeSet<i64> {
        let lists = of_each.iter().filter_map(|state| state[key].as_array());
        lists.flatten().filter_map(Value::as_i64).collect()
    };
    let is = |state: &Value, key: &str| state[key].as_bool().unwrap_or(false);
    json!({
        "disabled-by-db-connection": ids("disabled-by-db-connection"),
        "disabled-by-local-command": ids("disabled-by-local-command"),
        "disabled-by-remote-command": ids("disabled-by-remote-command"),
        "disabled-by-user": of_each.iter().any(|state| is(state, "disabled-by-user")),
        "globally-disabled": of_each.iter().all(|state| is(state, "globally-disabled")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::command::Envelope;
    use super::*;

    #[test]
    fn a_command_finds_its_relationship_by_its_listener_or_by_a_name() {
        let named = |name: &str| ["a", "b"].iter().position(|known| *known == name);
        let unknown = Err("x matches no configured 'server-name'".to_owned());
        let (each, first, second) = (Ok(Target::Each), Ok(Target::One(0)), Ok(Target::One(1)));
        let rows = [
            (r#""ha-heartbeat""#, None, &first),
            (r#""ha-heartbeat", "arguments": {"server-name": "b"}"#, None, &second),
            (r#""ha-heartbeat", "arguments": {"server-name": "x"}"#, None, &unknown),
            // The machine refuses a name that is not one of its relationship's.
            (r#""ha-heartbeat", "arguments": {"server-name": "a"}"#, Some(1), &second),
            (r#""ha-reset""#, None, &first),
            (r#""ha-reset", "arguments": {"server-name": "b"}"#, None, &second),
            (r#""ha-continue", "arguments": {"server-name": "b"}"#, None, &second),
            (r#""ha-scopes", "arguments": {"scopes": [], "server-name": "b"}"#, None, &second),
            (r#""ha-sync", "arguments": {"server-name": "b"}"#, None, &second),
            (r#""ha-sync", "arguments": {"server-name": "x"}"#, None, &unknown),
            (r#""ha-sync-complete-notify""#, Some(1), &second),
            (r#""ha-maintenance-start""#, None, &each),
            (r#""ha-maintenance-cancel""#, None, &each),
            (r#""ha-maintenance-notify", "arguments": {"cancel": false}"#, Some(1), &second),
            (r#""dhcp-disable""#, None, &each),
            (r#""dhcp-enable", "arguments": {"origin": 1}"#, None, &each),
            (r#""dhcp-enable", "arguments": {"origin": 1001}"#, None, &second),
            (r#""dhcp-enable", "arguments": {"origin": 1002}"#, None, &each),
            (r#""dhcp-disable", "arguments": {"origin": "ha-partner"}"#, Some(1), &second),
            (r#""dhcp-disable", "arguments": {"origin-id": 2000}"#, Some(0), &first),
            (r#""dhcp-disable", "arguments": {"origin-id": 2000}"#, None, &each),
        ];
        for (body, arrival, expected) in rows {
            let envelope = Envelope::parse(format!("{{\"command\": {body}}}").as_bytes()).unwrap();
            let command = HaCommand::parse(&envelope).unwrap().unwrap();
            let found = target(&command, arrival, 2, named).map_err(|reply| reply.text.unwrap_or_default());
            assert_eq!(&found, expected, "{body} {arrival:?}");
            let alone = target(&command, arrival.map(|_| 0), 1, |_| None);
            assert_eq!(alone.ok(), Some(Target::One(0)), "{body}: one relationship answers for itself");
        }
    }

    #[test]
    fn the_service_is_off_globally_while_nobody_serves() {
        let state = |local: &[i64], remote: &[i64], user: bool| {
            json!({
                "disabled-by-db-connection": [],
                "disabled-by-local-command": local,
                "disabled-by-remote-command": remote,
                "disabled-by-user": user,
                "globally-disabled": user || !local.is_empty() || !remote.is_empty(),
            })
        };
        for (one, other, local, remote, user, off) in [
            (state(&[], &[], false), state(&[], &[], false), json!([]), json!([]), false, false),
            (state(&[], &[2000], false), state(&[], &[], false), json!([]), json!([2000]), false, false),
            (
                state(&[], &[2000], false),
                state(&[1001], &[2000], false),
                json!([1001]),
                json!([2000]),
                false,
                true,
            ),
            (state(&[], &[], true), state(&[], &[], true), json!([]), json!([]), true, true),
        ] {
            let merged = dhcp_state(&[one, other]);
            assert_eq!(merged["disabled-by-local-command"], local);
            assert_eq!(merged["disabled-by-remote-command"], remote);
            assert_eq!(
                (&merged["disabled-by-user"], &merged["globally-disabled"]),
                (&json!(user), &json!(off))
            );
        }
    }
}
