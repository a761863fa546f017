//! What servers say about themselves and their pair, as data, and what is wrong with it.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

/// States of the HA machine in which a pair does its work.
const GOOD_STATES: [&str; 4] = ["hot-standby", "load-balancing", "passive-backup", "backup"];

/// Statistics of queries dropped because more came than could be served.
const OVERLOAD: [&str; 3] = ["tandem-overload-discovers", "tandem-overload-main", "tandem-overload-stale"];

/// What one server answered to `status-get` and `statistic-get-all`.
pub(super) struct Answers {
    /// Where it was asked.
    pub(super) socket: PathBuf,
    /// Both answers, or why there are none.
    pub(super) answers: Result<(Value, Value), String>,
}

/// All servers that were asked.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// In the order they were asked.
    pub(super) servers: Vec<ServerStatus>,
}

/// One server that was asked.
#[derive(Debug, Default, Serialize)]
pub(super) struct ServerStatus {
    /// Its control socket.
    pub(super) socket: PathBuf,
    /// Whether it answered; if not, nothing below is known but `problems`.
    pub(super) answers: bool,
    /// Seconds since its start.
    pub(super) uptime_s: u64,
    /// Process id.
    pub(super) pid: u64,
    /// Shards, where multi-threading is on.
    pub(super) shards: Option<u64>,
    /// Assigned addresses, and how many there are.
    pub(super) assigned: u64,
    /// Addresses in all pools.
    pub(super) addresses: u64,
    /// DHCP packets received since the start.
    pub(super) received: u64,
    /// ACKs sent since the start.
    pub(super) acks: u64,
    /// Queries dropped since the start because more came than could be served.
    pub(super) overload_drops: u64,
    /// Its own place in the pair; nothing without HA.
    pub(super) local: Option<PeerStatus>,
    /// Its partner as it sees it.
    pub(super) partner: Option<PeerStatus>,
    /// The same in the further relationships of a hub.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) further: Vec<PairStatus>,
    /// What is not as it should be.
    pub(super) problems: Vec<String>,
}

/// One relationship as a server sees it.
#[derive(Debug, Default, Serialize)]
pub(super) struct PairStatus {
    /// Its own place.
    pub(super) local: Option<PeerStatus>,
    /// Its partner.
    pub(super) partner: Option<PeerStatus>,
}

/// One half of a pair.
#[derive(Debug, Default, Serialize)]
pub(super) struct PeerStatus {
    /// Its name in the configuration.
    pub(super) name: String,
    /// `primary`, `standby`, …
    pub(super) role: String,
    /// State of its HA machine; of a partner, the last one heard of. Empty if never heard.
    pub(super) state: String,
    /// Whose clients it serves.
    pub(super) scopes: Vec<String>,
    /// Of a partner: seconds since it was heard.
    pub(super) age_s: Option<u64>,
}

impl Report {
    /// Reads the answers.
    pub(super) fn from_answers(answers: Vec<Answers>) -> Self {
        Self { servers: answers.into_iter().map(ServerStatus::read).collect() }
    }

    /// Whether every server answered.
    pub(super) fn all_answered(&self) -> bool {
        self.servers.iter().all(|server| server.answers)
    }

    /// Whether nothing is wrong.
    pub(super) fn is_well(&self) -> bool {
        self.servers.iter().all(|server| server.problems.is_empty())
    }
}

impl ServerStatus {
    fn read(answers: Answers) -> Self {
        let (status, statistics) = match answers.answers {
            Ok(answers) => answers,
            Err(text) => {
                return Self { socket: answers.socket, problems: vec![text], ..Self::default() };
            }
        };
        let number = |name: &str| status[name].as_u64();
        // A statistic is a list of samples, newest first, each a value and a time.
        let statistic = |name: &str| statistics[name][0][0].as_u64().unwrap_or(0);
        let over_subnets = |name: &str| -> u64 {
            let is_of_subnet = |key: &str| {
                key.strip_prefix("subnet[")
                    .and_then(|rest| rest.split_once("]."))
                    .is_some_and(|(_, rest)| rest == name)
            };
            let keys = statistics.as_object().into_iter().flat_map(|all| all.keys());
            keys.filter(|key| is_of_subnet(key)).map(|key| statistic(key)).sum()
        };
        let mut problems = Vec::new();
        let mut further: Vec<PairStatus> = Vec::new();
        for relationship in status["high-availability"].as_array().into_iter().flatten() {
            let pair = &relationship["ha-servers"];
            let (local, partner) = (peer(&pair["local"], "state"), peer(&pair["remote"], "last-state"));
            problems.extend(problems_of(pair, local.as_ref(), partner.as_ref()));
            further.push(PairStatus { local, partner });
        }
        let first = if further.is_empty() { PairStatus::default() } else { further.remove(0) };
        let errors = status["sockets"]["errors"].as_array().into_iter().flatten();
        problems.extend(errors.filter_map(Value::as_str).map(|error| format!("socket: {error}")));
        Self {
            socket: answers.socket,
            answers: true,
            uptime_s: number("uptime").unwrap_or(0),
            pid: number("pid").unwrap_or(0),
            shards: number("thread-pool-size"),
            assigned: over_subnets("assigned-addresses"),
            addresses: over_subnets("total-addresses"),
            received: statistic("pkt4-received"),
            acks: statistic("pkt4-ack-sent"),
            overload_drops: OVERLOAD.iter().map(|name| statistic(name)).sum(),
            local: first.local,
            partner: first.partner,
            further,
            problems,
        }
    }
}

fn peer(value: &Value, state: &str) -> Option<PeerStatus> {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let scopes = value["scopes"].as_array().or_else(|| value["last-scopes"].as_array());
    value.is_object().then(|| PeerStatus {
        name: text("server-name"),
        role: text("role"),
        state: text(state),
        scopes: scopes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        age_s: value["in-touch"].as_bool().unwrap_or(false).then(|| value["age"].as_u64()).flatten(),
    })
}

fn problems_of(pair: &Value, local: Option<&PeerStatus>, partner: Option<&PeerStatus>) -> Vec<String> {
    let (Some(local), Some(partner)) = (local, partner) else { return Vec::new() };
    let (own, remote) = (&pair["local"], &pair["remote"]);
    let mut problems = Vec::new();
    if !GOOD_STATES.contains(&local.state.as_str()) {
        let because = own["tandem-terminated-because"].as_str();
        let because = because.map(|reason| format!(" because of {reason}")).unwrap_or_default();
        problems.push(format!("{} is in {}{because}", local.name, local.state));
    }
    if own["tandem-paused"] == true {
        problems.push(format!("{} is paused until ha-continue", local.name));
    }
    let differs = &remote["tandem-configuration-differs"];
    if let Some(kinds) = differs["in"].as_array() {
        let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
        let ids = differs["subnets"].as_array().into_iter().flatten();
        let ids: Vec<String> = ids.map(Value::to_string).collect();
        let of = if ids.is_empty() { String::new() } else { format!(" of subnet {}", ids.join(", ")) };
        problems.push(format!("{} has other {}{of}", partner.name, kinds.join(", ")));
    }
    match partner.age_s {
        None => problems.push(format!("{} has never heard of {}", local.name, partner.name)),
        Some(age_s) if remote["communication-interrupted"] == true => {
            problems.push(format!("{} has not heard of {} for {age_s} s", local.name, partner.name));
        }
        Some(_) if !GOOD_STATES.contains(&partner.state.as_str()) => {
            problems.push(format!("{} is in {}", partner.name, partner.state));
        }
        Some(_) => {}
    }
    problems
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A good answer of a primary, changed by `change`.
    pub(in super::super) fn answers(change: impl FnOnce(&mut Value)) -> Answers {
        let mut status = json!({
            "pid": 7, "uptime": 93_784, "thread-pool-size": 4, "sockets": { "status": "ready" },
            "high-availability": [{ "ha-mode": "hot-standby", "ha-servers": {
                "local": {
                    "role": "primary", "scopes": ["server1"], "server-name": "server1",
                    "state": "hot-standby",
                },
                "remote": {
                    "age": 3, "communication-interrupted": false, "in-touch": true, "last-scopes": [],
                    "last-state": "hot-standby", "role": "standby", "server-name": "server2",
                },
            }}],
        });
        change(&mut status);
        let statistics = json!({
            "pkt4-received": [[5_000, "2026-01-01 00:00:00.000000"]],
            "pkt4-ack-sent": [[2_400, "2026-01-01 00:00:00.000000"]],
            "subnet[1].assigned-addresses": [[1_200, "2026-01-01 00:00:00.000000"]],
            "subnet[1].pool[0].assigned-addresses": [[1_200, "2026-01-01 00:00:00.000000"]],
            "subnet[2].assigned-addresses": [[34, "2026-01-01 00:00:00.000000"]],
            "subnet[1].total-addresses": [[2_000, "2026-01-01 00:00:00.000000"]],
            "subnet[2].total-addresses": [[50, "2026-01-01 00:00:00.000000"]],
        });
        Answers { socket: "/run/kea/one".into(), answers: Ok((status, statistics)) }
    }

    fn remote(status: &mut Value) -> &mut Value {
        &mut status["high-availability"][0]["ha-servers"]["remote"]
    }

    #[test]
    fn numbers_are_summed_over_subnets_and_not_over_their_pools() {
        let server = ServerStatus::read(answers(|_| {}));
        assert_eq!((server.assigned, server.addresses), (1_234, 2_050));
        assert_eq!((server.received, server.acks, server.shards), (5_000, 2_400, Some(4)));
        assert_eq!(server.local.unwrap().scopes, ["server1"]);
        assert_eq!(server.partner.unwrap().age_s, Some(3));
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Change = fn(&mut Value);
        let rows: [(Change, &[&str]); 9] = [
            (|_| {}, &[]),
            (|status| drop(status["high-availability"].take()), &[]),
            (
                |status| {
                    status["high-availability"][0]["ha-servers"]["local"]["state"] = "partner-down".into();
                    remote(status)["communication-interrupted"] = true.into();
                    remote(status)["age"] = 65.into();
                },
                &["server1 is in partner-down", "server1 has not heard of server2 for 65 s"],
            ),
            (|status| remote(status)["in-touch"] = false.into(), &["server1 has never heard of server2"]),
            (|status| remote(status)["last-state"] = "syncing".into(), &["server2 is in syncing"]),
            (
                |status| {
                    let local = &mut status["high-availability"][0]["ha-servers"]["local"];
                    local["state"] = "terminated".into();
                    local["tandem-terminated-because"] = "clock-skew".into();
                    local["tandem-paused"] = true.into();
                },
                &["server1 is in terminated because of clock-skew", "server1 is paused until ha-continue"],
            ),
            (
                |status| {
                    remote(status)["tandem-configuration-differs"] =
                        json!({ "in": ["pools", "options"], "subnets": [1, 7] });
                },
                &["server2 has other pools, options of subnet 1, 7"],
            ),
            (
                |status| status["sockets"] = json!({ "status": "retrying", "errors": ["eth0 is down"] }),
                &["socket: eth0 is down"],
            ),
            (|status| *status = json!({}), &[]),
        ];
        for (change, expected) in rows {
            let report = Report::from_answers(vec![answers(change)]);
            assert_eq!(report.servers[0].problems, expected);
            assert_eq!((report.all_answered(), report.is_well()), (true, expected.is_empty()));
        }
    }

    #[test]
    fn a_server_that_does_not_answer_is_a_problem() {
        let silent = Answers { socket: "/run/kea/two".into(), answers: Err("no answer".to_owned()) };
        let report = Report::from_answers(vec![answers(|_| {}), silent]);
        assert!(!report.all_answered() && !report.is_well());
        assert_eq!(report.servers[1].problems, ["no answer"]);
    }
}
