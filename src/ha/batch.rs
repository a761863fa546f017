//! Many lease updates in one request: an extension of the protocol between two Tandem servers.
//!
//! A server names in its answer to `ha-heartbeat` how many updates it takes at a time ([`ANNOUNCEMENT`]); Kea
//! ignores the member and never gets the command. The command carries whole `lease4-update` and `lease4-del`
//! commands, which mean what they mean alone, in their order; the answer lists their result codes in the same
//! order. Nothing is answered before every one of them is durable, so one sync of the receiver serves them all.

use serde_json::{Value, json};

use super::command::{Envelope, EnvelopeError, Reply, ReplyError, outcome_of_result};
use super::lease_json::write_update_request;
use crate::engine::message::{UpdateKind, UpdateOutcome};
use crate::limits::HA_BATCH_UPDATES_MAX;
use shards::Lease;

/// Name of the command.
pub const COMMAND: &str = "tandem-lease4-batch";

/// Member of the answer to `ha-heartbeat`: the most updates in one request.
pub const ANNOUNCEMENT: &str = "tandem-batch-max";

const HEAD: &[u8] = b"{ \"arguments\": { \"commands\": [ ";
const TAIL: &[u8] = b" ] }, \"command\": \"tandem-lease4-batch\", \"service\": [ \"dhcp4\" ] }";

/// Writes the body of a request: one update as Kea knows it, several as a batch.
pub fn write_request<'a>(
    updates: impl ExactSizeIterator<Item = (UpdateKind, &'a Lease)>,
    output: &mut Vec<u8>,
) {
    let is_batch = updates.len() != 1;
    if is_batch {
        output.extend_from_slice(HEAD);
    }
    for (index, (kind, lease)) in updates.enumerate() {
        if index > 0 {
            output.extend_from_slice(b", ");
        }
        write_update_request(kind, lease, output);
    }
    if is_batch {
        output.extend_from_slice(TAIL);
    }
}

/// The commands of a request, in order.
///
/// # Errors
/// The answer to give; then no command was read, and none may be carried out.
pub fn parse(envelope: Envelope) -> Result<Vec<Envelope>, Reply> {
    let commands = envelope.arguments.and_then(|mut arguments| match arguments.get_mut("commands") {
        Some(Value::Array(commands)) => Some(std::mem::take(commands)),
        _ => None,
    });
    let commands = commands.ok_or_else(|| Reply::error("'commands' is not a list"))?;
    if commands.len() > usize::from(HA_BATCH_UPDATES_MAX) {
        return Err(Reply::error(format!("more than {HA_BATCH_UPDATES_MAX} commands at a time")));
    }
    let read = |value| match Envelope::from_value(value) {
        Ok(command) if matches!(command.command.as_str(), "lease4-del" | "lease4-update") => Ok(command),
        Ok(command) => Err(Reply::error(format!("'{}' is not for a batch", command.command))),
        Err(EnvelopeError::Json(error)) => Err(Reply::error(error.to_string())),
        Err(EnvelopeError::Refused(reply)) => Err(reply),
    };
    commands.into_iter().map(read).collect()
}

/// The answer, from those of the commands in their order. Its text is that of the first one that failed.
pub fn reply(replies: &[Reply]) -> Reply {
    let results: Vec<i64> = replies.iter().map(|reply| reply.result).collect();
    let failed = replies.iter().find(|reply| !reply.is_success()).and_then(|reply| reply.text.as_deref());
    Reply::success(failed.unwrap_or("")).with_arguments(json!({ "results": results }))
}

/// What the answer to a request of `count` updates says of each, in order, and its text.
///
/// # Errors
/// Nothing is known of any of them.
pub fn outcomes(body: &[u8], count: usize) -> Result<(Vec<UpdateOutcome>, Option<String>), ReplyError> {
    let reply = Reply::parse_success(body)?;
    let results = reply.arguments.as_ref().and_then(|arguments| arguments.get("results"));
    let results = results.and_then(Value::as_array).filter(|results| results.len() == count);
    let results = results.ok_or(ReplyError::NoResult)?;
    let outcomes = results
        .iter()
        .map(|result| result.as_i64().map(outcome_of_result).ok_or(ReplyError::NoResult))
        .collect::<Result<_, _>>()?;
    Ok((outcomes, reply.text))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shards::{LeaseState, SmallBytes};

    use super::*;
    use crate::ha::json;

    fn lease(number: u8) -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 0, number),
            subnet_id: 1,
            pool_id: 0,
            hwaddr: SmallBytes::new(&[2, 0, 0, 0, 0, number]),
            client_id: SmallBytes::empty(),
            valid_lifetime: 600,
            cltt: 1_795_334_543,
            state: LeaseState::Default,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: SmallBytes::new(b"h\xc3\xa9"),
            user_context: None,
        }
    }

    fn request(updates: &[(UpdateKind, Lease)]) -> Vec<u8> {
        let mut body = Vec::new();
        write_request(updates.iter().map(|(kind, lease)| (*kind, lease)), &mut body);
        body
    }

    #[test]
    fn one_update_is_the_request_that_kea_expects() {
        let mut alone = Vec::new();
        write_update_request(UpdateKind::Update, &lease(1), &mut alone);
        assert_eq!(request(&[(UpdateKind::Update, lease(1))]), alone);
    }

    #[test]
    fn a_batch_is_read_back_as_the_commands_it_was_made_of() {
        let updates = [(UpdateKind::Update, lease(1)), (UpdateKind::Delete, lease(2))];
        let body = request(&updates);
        let envelope = Envelope::parse(&body).unwrap();
        assert_eq!(envelope.command, COMMAND);
        let alone: Vec<Envelope> = updates
            .iter()
            .map(|update| Envelope::parse(&request(std::slice::from_ref(update))).unwrap())
            .collect();
        assert_eq!(parse(envelope).unwrap(), alone);
    }

    #[test]
    fn a_batch_that_is_wrong_anywhere_is_refused_as_a_whole() {
        let many = format!("[{}{{}}]", "{},".repeat(usize::from(HA_BATCH_UPDATES_MAX)));
        for commands in
            ["7", "[7]", r#"[{"command":"ha-reset"}]"#, r#"[{"command":"lease4-del","x":1}]"#, &many]
        {
            let body = format!(r#"{{"command":"{COMMAND}","arguments":{{"commands":{commands}}}}}"#);
            let refused = parse(Envelope::parse(body.as_bytes()).unwrap()).unwrap_err();
            assert_eq!(refused.result, 1, "{commands}");
        }
        assert!(parse(Envelope::parse(format!(r#"{{"command":"{COMMAND}"}}"#).as_bytes()).unwrap()).is_err());
    }

    #[test]
    fn an_answer_says_of_each_update_how_it_ended_or_nothing_of_any() {
        use UpdateOutcome::{Acked, Conflict, Refused};
        let replies = [0, 3, 4, 1].map(|result| Reply::new(result, "t"));
        let body = json::to_vec(&Value::Array(vec![reply(&replies).to_value()]));
        let read = outcomes(&body, 4).unwrap();
        assert_eq!(read, (vec![Acked, Acked, Conflict, Refused], Some("t".to_owned())));
        assert!(outcomes(&body, 3).is_err());
        for body in [
            r#"[{"result":2,"text":"unknown"}]"#,
            r#"[{"result":0}]"#,
            r#"[{"result":0,"arguments":{"results":["0"]}}]"#,
            r#"{"result":0,"arguments":{"results":[0]}}"#,
            "",
        ] {
            assert!(outcomes(body.as_bytes(), 1).is_err(), "{body}");
        }
    }
}
