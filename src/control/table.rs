//! The command table: a name to the handler that makes a plan of it.
//!
//! A handler is pure. What it cannot answer from the facts at hand it turns into a plan: ask the shards, ask the
//! HA machine, or have the server do something.

use config::Dialect;
use serde_json::{Map, Value};
use shards::SmallBytes;

use super::answer::Answer;
use super::gather::{Gather, LeaseWriter, ListRequest};
use super::lease_change::{LeaseChange, OwnerChange};
use super::{statistic, version};
use crate::engine::counters::ShardStatistics;
use crate::engine::rules::Rules;
use crate::ha::command::{Envelope, HaCommand, PageRequest, Reply, request};
use crate::ha::identifier;
use crate::ha::lease_json::{Listing, write_listing};
use crate::ha::lease_query::{ClientQuery, LeaseQuery};

/// What handlers know.
pub struct Facts<'a> {
    /// Dialect of the configuration in force.
    pub dialect: Dialect,
    /// The rules in force.
    pub rules: &'a Rules,
    /// Whether the lease commands library is configured.
    pub lease_commands: bool,
    /// Whether high availability is configured.
    pub high_availability: bool,
    /// To the listener of which relationship the command came; none where it came to a control channel.
    pub relationship: Option<u8>,
    /// Seconds since the epoch.
    pub wall_s: u64,
    /// Local time of the command, `YYYY-MM-DD HH:MM:SS.ffffff` (API-5).
    pub timestamp: String,
    /// Whether released leases are listed as expired, for a partner that does not know them.
    pub listing: Listing,
    /// Counters kept outside the shards' engines, by statistic name.
    pub process: Vec<(&'static str, u64)>,
}

/// What is to be done about a command.
pub enum Plan {
    /// Nothing more.
    Answer(Answer),
    /// The owner of an address changes its lease.
    Change(Box<OwnerChange>),
    /// The lease of a client is found and deleted.
    DeleteOf(Box<ClientQuery>),
    /// The HA machine, or what holds the service locks without one, answers.
    Ha(HaCommand),
    /// The server does it.
    Server(ServerCommand),
    /// The shards are asked.
    Shards(Box<Gather>),
}

/// What only the running server can do.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerCommand {
    /// `config-get`.
    ConfigGet,
    /// `config-reload`.
    ConfigReload,
    /// `config-test` of a whole document, which is read from the command itself for its places.
    ConfigTest,
    /// `shutdown`, with the exit value asked for.
    Shutdown(i32),
    /// `status-get`.
    StatusGet,
}

/// When a command exists.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Needs {
    HighAvailability,
    LeaseCommands,
    Nothing,
}

impl Plan {
    fn asking(gather: Gather) -> Self {
        Self::Shards(Box::new(gather))
    }
}

type Handler = fn(&Envelope, &Facts<'_>) -> Result<Plan, Reply>;

/// Every command, in order of name.
const TABLE: &[(&str, Needs, Handler)] = &[
    ("build-report", Needs::Nothing, |_, _| Ok(Plan::Answer(Reply::success(version::build_report()).into()))),
    ("config-get", Needs::Nothing, |_, _| Ok(Plan::Server(ServerCommand::ConfigGet))),
    ("config-reload", Needs::Nothing, |_, _| Ok(Plan::Server(ServerCommand::ConfigReload))),
    ("config-test", Needs::Nothing, config_test),
    ("dhcp-disable", Needs::Nothing, ha_command),
    ("dhcp-enable", Needs::Nothing, ha_command),
    ("ha-continue", Needs::HighAvailability, ha_command),
    ("ha-heartbeat", Needs::HighAvailability, ha_command),
    ("ha-maintenance-cancel", Needs::HighAvailability, ha_command),
    ("ha-maintenance-notify", Needs::HighAvailability, ha_command),
    ("ha-maintenance-start", Needs::HighAvailability, ha_command),
    ("ha-reset", Needs::HighAvailability, ha_command),
    ("ha-scopes", Needs::HighAvailability, ha_command),
    ("ha-sync", Needs::HighAvailability, ha_command),
    ("ha-sync-complete-notify", Needs::HighAvailability, ha_command),
    ("lease4-add", Needs::LeaseCommands, lease_change),
    ("lease4-del", Needs::LeaseCommands, lease_change),
    ("lease4-get", Needs::LeaseCommands, lease4_get),
    ("lease4-get-all", Needs::LeaseCommands, lease4_get_all),
    ("lease4-get-by-client-id", Needs::LeaseCommands, lease4_get_by_client_id),
    ("lease4-get-by-hw-address", Needs::LeaseCommands, lease4_get_by_hw_address),
    ("lease4-get-page", Needs::LeaseCommands, lease4_get_page),
    ("lease4-update", Needs::LeaseCommands, lease_change),
    ("list-commands", Needs::Nothing, list_commands),
    ("shutdown", Needs::Nothing, shutdown),
    ("statistic-get", Needs::Nothing, statistic_get),
    ("statistic-get-all", Needs::Nothing, statistic_get_all),
    ("status-get", Needs::Nothing, |_, _| Ok(Plan::Server(ServerCommand::StatusGet))),
    (request::STOPPING, Needs::HighAvailability, ha_command),
    ("version-get", Needs::Nothing, version_get),
];

/// What to do about the command in `envelope`.
pub fn plan(envelope: &Envelope, facts: &Facts<'_>) -> Plan {
    let entry = TABLE.iter().find(|(name, needs, _)| *name == envelope.command && facts.has(*needs));
    let planned = match entry {
        Some((_, _, handler)) => handler(envelope, facts),
        None => Err(Reply::unsupported(&envelope.command)),
    };
    planned.unwrap_or_else(|reply| Plan::Answer(reply.into()))
}

impl Facts<'_> {
    fn has(&self, needs: Needs) -> bool {
        match needs {
            Needs::HighAvailability => self.high_availability,
            Needs::LeaseCommands => self.lease_commands,
            Needs::Nothing => true,
        }
    }

    fn shards(&self) -> u8 {
        self.rules.owners.shards()
    }

    fn lease_writer(&self) -> LeaseWriter {
        match self.listing {
            Listing::AsStored => |lease, output| write_listing(lease, Listing::AsStored, output),
            Listing::WithoutReleased => {
                |lease, output| write_listing(lease, Listing::WithoutReleased, output)
            }
        }
    }
}

fn arguments(envelope: &Envelope) -> Result<Map<String, Value>, Reply> {
    match &envelope.arguments {
        None => Ok(Map::new()),
        Some(Value::Object(members)) => Ok(members.clone()),
        Some(_) => {
            Err(Reply::error(format!("arguments of the '{}' command must be a map", envelope.command)))
        }
    }
}

fn string(arguments: &Map<String, Value>, name: &str) -> Result<String, Reply> {
    match arguments.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Reply::error(format!("'{name}' parameter must be a string"))),
        None => Err(Reply::error(format!("missing parameter '{name}'"))),
    }
}

fn list_commands(_: &Envelope, facts: &Facts<'_>) -> Result<Plan, Reply> {
    let names = TABLE.iter().filter(|(_, needs, _)| facts.has(*needs)).map(|(name, _, _)| Value::from(*name));
    Ok(Plan::Answer(Answer::data(names.collect())))
}

fn version_get(_: &Envelope, facts: &Facts<'_>) -> Result<Plan, Reply> {
    let extended = serde_json::json!({ "extended": version::extended(facts.dialect) });
    Ok(Plan::Answer(Reply::success(version::release(facts.dialect)).with_arguments(extended).into()))
}

fn shutdown(envelope: &Envelope, _: &Facts<'_>) -> Result<Plan, Reply> {
    let arguments = arguments(envelope)?;
    if let Some(unknown) = arguments.keys().find(|key| *key != "exit-value" && *key != "type") {
        return Err(Reply::error(format!("unsupported parameter '{unknown}'")));
    }
    let exit_value = match arguments.get("exit-value") {
        None => 0,
        Some(value) => value
            .as_i64()
            .and_then(|value| i32::try_from(value).ok())
            .ok_or_else(|| Reply::error("parameter 'exit-value' is not an integer"))?,
    };
    Ok(Plan::Server(ServerCommand::Shutdown(exit_value)))
}

fn config_test(envelope: &Envelope, _: &Facts<'_>) -> Result<Plan, Reply> {
    if envelope.arguments.is_none() {
        return Err(Reply::error("Missing mandatory 'arguments' parameter."));
    }
    let arguments = arguments(envelope)?;
    if !arguments.contains_key("Dhcp4") {
        return Err(Reply::error("Missing mandatory 'Dhcp4' parameter."));
    }
    if let Some(unknown) = arguments.keys().find(|key| *key != "Dhcp4" && *key != "hash") {
        return Err(Reply::error(format!("Unsupported '{unknown}' parameter.")));
    }
    Ok(Plan::Server(ServerCommand::ConfigTest))
}

fn ha_command(envelope: &Envelope, _: &Facts<'_>) -> Result<Plan, Reply> {
    match HaCommand::parse(envelope) {
        Some(command) => command.map(Plan::Ha),
        None => Err(Reply::unsupported(&envelope.command)),
    }
}

fn lease_change(envelope: &Envelope, facts: &Facts<'_>) -> Result<Plan, Reply> {
    Ok(match LeaseChange::parse(envelope, facts.wall_s, facts.relationship, facts.rules)? {
        LeaseChange::At(change) => Plan::Change(Box::new(change)),
        LeaseChange::DeleteOf(client) => Plan::DeleteOf(Box::new(client)),
    })
}

fn lease4_get(envelope: &Envelope, facts: &Facts<'_>) -> Result<Plan, Reply> {
    Ok(match LeaseQuery::parse(envelope, "Query")? {
        LeaseQuery::Address(address) => {
            let owner = facts.rules.owners.owner_of(address);
            Plan::asking(Gather::one(facts.shards(), owner, address, facts.lease_writer()))
        }
        LeaseQuery::Client(client) => {
            Plan::asking(Gather::lease_of(facts.shards(), &client, facts.lease_writer()))
        }
    })
}

fn lease4_get_by_hw_address(envelope: &Envelope, facts: &Facts<'_>) -> Result<Plan, Reply> {
    by_identity(envelope, facts, "hw-address", identifier::hwaddr)
}

fn lease4_get_by_client_id(envelope: &Envelope, facts: &Facts<'_>) -> Result<Plan, Reply> {
    by_identity(envelope, facts, "client-id", identifier::client_id)
}

fn by_identity(
    envelope: &Envelope,
    facts: &Facts<'_>,
    name: &str,
    parse: fn(&str) -> Result<SmallBytes, String>,
) -> Result<Plan, Reply> {
    let text = match &envelope.arguments {
        Some(Value::Object(members)) => match members.get(name) {
            Some(Value::String(text)) => text,
            Some(_) => return Err(Reply::error(format!("'{name}' parameter must be a string"))),
            None => return Err(Reply::error(format!("'{name}' parameter not specified"))),
        },
        // Kea's words, as they are.
        _ => return Err(Reply::error("Command arguments missing or a not a map.")),
    };
    let identity = parse(text).map_err(Reply::error)?;
    let by_client_id = name == "client-id";
    Ok(Plan::asking(Gather::leases_of(facts.shards(), by_client_id, identity, facts.lease_writer())))
}

fn lease4_get_all(envelope: &Envelope, facts: &Facts<'_>) -> Result<Plan, Reply> {
    let arguments = arguments(envelope)?;
    let mut subnets = match arguments.get("subnets") {
        // No arguments ask for everything; arguments have to say which subnets.
        None if envelope.arguments.is_some() => {
            return Err(Reply::error("'subnets' parameter not specified"));
        }
        None => Vec::new(),
        Some(Value::Array(ids)) => ids
            .iter()
            .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<Vec<u32>>>()
            .ok_or_else(|| Reply::error("listed subnet identifiers must be numbers"))?,
        Some(_) => return Err(Reply::error("'subnets' parameter must be a list")),
    };
    // An empty list of subnets asks for none; for a shard it means all.
    if subnets.is_empty() && arguments.contains_key("subnets") {
        return Ok(Plan::Answer(Answer::leases(Vec::new(), 0, false)));
    }
    subnets.sort_unstable();
    let request = ListRequest { after: None, limit: None, subnets };
    Ok(Plan::asking(Gather::leases(facts.shards(), request, facts.lease_writer())))
}

fn lease4_get_page(envelope: &Envelope, facts: &Facts<'_>) -> Result<Plan, Reply> {
    let page = PageRequest::parse(envelope)?;
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let request = ListRequest { after: page.after, limit: Some(limit), subnets: Vec::new() };
    Ok(Plan::asking(Gather::leases(facts.shards(), request, facts.lease_writer())))
}

fn statistic_get(envelope: &Envelope, facts: &Facts<'_>) -> Result<Plan, Reply> {
    let name = string(&arguments(envelope)?, "name")?;
    Ok(statistics(facts, Some(name)))
}

fn statistic_get_all(_: &Envelope, facts: &Facts<'_>) -> Result<Plan, Reply> {
    Ok(statistics(facts, None))
}

/// All statistics, or the one named; an unknown name gives an empty map.
fn statistics(facts: &Facts<'_>, only: Option<String>) -> Plan {
    let (snapshot, dialect, timestamp) =
        (facts.rules.snapshot.clone(), facts.dialect, facts.timestamp.clone());
    let process = facts.process.clone();
    let writer = move |shards: Vec<(u8, ShardStatistics)>| {
        let mut all = statistic::all(&shards, &process, &snapshot, dialect, &timestamp);
        all.retain(|name, _| only.as_ref().is_none_or(|only| only == name));
        Answer::data(Value::Object(all))
    };
    Plan::asking(Gather::statistics(facts.shards(), Box::new(writer)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::engine::rules::Steering;

    fn rules() -> Rules {
        let text = br#"{"Dhcp4": {"subnet4": [{"id": 1, "subnet": "10.0.0.0/24", "pools": [{"pool": "10.0.0.1-10.0.0.9"}]}]}}"#;
        let document = config::parse_dhcp4(text, "test.conf").unwrap().document;
        let host = crate::policy::compile::Host::new(&[], 1);
        let snapshot = crate::policy::compile::compile(&document, &host).unwrap().snapshot;
        Rules::at_start(Arc::new(snapshot), &Steering::new(1, 2), 1, &[])
    }

    fn facts(rules: &Rules, dialect: Dialect, hooks: bool) -> Facts<'_> {
        let timestamp = "2026-01-02 03:04:05.678901".to_owned();
        let listing = Listing::AsStored;
        let process = Vec::new();
        Facts {
            dialect,
            rules,
            lease_commands: hooks,
            high_availability: hooks,
            relationship: None,
            wall_s: 1_795_335_152,
            timestamp,
            listing,
            process,
        }
    }

    fn described(plan: Plan) -> String {
        match plan {
            Plan::Answer(answer) => {
                let mut text = Vec::new();
                answer.render(&mut text);
                String::from_utf8(text).unwrap()
            }
            Plan::Change(change) => format!("{}: {:?}", change.owner, change.body),
            Plan::DeleteOf(client) => format!("{client:?}"),
            Plan::Ha(command) => format!("ha {command:?}"),
            Plan::Server(command) => format!("server {command:?}"),
            Plan::Shards(mut gather) => {
                let mut asked = String::new();
                while let Some((shard, body)) = gather.poll_request() {
                    asked.push_str(&format!("{shard}: {body:?}; "));
                }
                format!("shards {asked}")
            }
        }
    }

    /// Commands and what becomes of them with two shards.
    const PLANS: &[(&str, &str)] = &[
        (r#"{"command":"config-get"}"#, "server ConfigGet"),
        (r#"{"command":"config-reload"}"#, "server ConfigReload"),
        (
            r#"{"command":"config-test"}"#,
            r#"{ "result": 1, "text": "Missing mandatory 'arguments' parameter." }"#,
        ),
        (
            r#"{"command":"config-test","arguments":{}}"#,
            r#"{ "result": 1, "text": "Missing mandatory 'Dhcp4' parameter." }"#,
        ),
        (
            r#"{"command":"config-test","arguments":{"Dhcp4":{},"Logging":{}}}"#,
            r#"{ "result": 1, "text": "Unsupported 'Logging' parameter." }"#,
        ),
        (r#"{"command":"config-test","arguments":{"Dhcp4":{},"hash":"X"}}"#, "server ConfigTest"),
        (r#"{"command":"status-get"}"#, "server StatusGet"),
        (r#"{"command":"shutdown"}"#, "server Shutdown(0)"),
        (r#"{"command":"shutdown","arguments":{"exit-value":3}}"#, "server Shutdown(3)"),
        (
            r#"{"command":"shutdown","arguments":{"exit-value":"3"}}"#,
            r#"{ "result": 1, "text": "parameter 'exit-value' is not an integer" }"#,
        ),
        (
            r#"{"command":"dhcp-disable","arguments":{"max-period":0}}"#,
            r#"{ "result": 1, "text": "'max-period' must be positive integer" }"#,
        ),
        (r#"{"command":"ha-heartbeat"}"#, "ha Heartbeat { server_name: None, fingerprint: None }"),
        (
            r#"{"command":"lease4-get","arguments":{"ip-address":"x"}}"#,
            r#"{ "result": 1, "text": "Failed to convert string to address 'x': Invalid argument" }"#,
        ),
        (
            r#"{"command":"lease4-get","arguments":{"subnet-id":1,"identifier-type":"duid","identifier":"0102"}}"#,
            r#"{ "result": 1, "text": "Query by duid is not allowed in v4." }"#,
        ),
        (
            r#"{"command":"lease4-get","arguments":{"subnet-id":1,"identifier-type":"client-id","identifier":"0102"}}"#,
            "shards 0: GetByIdentity { by_client_id: true, identity: 01:02, after: None }; 1: GetByIdentity { by_client_id: true, identity: 01:02, after: None }; ",
        ),
        (
            r#"{"command":"lease4-del","arguments":{"subnet-id":1,"identifier-type":"hw-address","identifier":"1:2"}}"#,
            "ClientQuery { by_client_id: false, identity: 01:02, subnet_id: 1 }",
        ),
        (
            r#"{"command":"lease4-add","arguments":{"ip-address":"10.0.0.5"}}"#,
            r#"{ "result": 1, "text": "missing parameter 'hw-address'" }"#,
        ),
        (
            r#"{"command":"lease4-del","arguments":{"ip-address":"x"}}"#,
            r#"{ "result": 1, "text": "Failed to convert string to address 'x': Invalid argument" }"#,
        ),
        (r#"{"command":"lease4-get"}"#, r#"{ "result": 1, "text": "Parameters missing or are not a map." }"#),
        (
            r#"{"command":"lease4-get","arguments":{}}"#,
            r#"{ "result": 1, "text": "Mandatory 'subnet-id' parameter missing." }"#,
        ),
        (
            r#"{"command":"lease4-get-all","arguments":{}}"#,
            r#"{ "result": 1, "text": "'subnets' parameter not specified" }"#,
        ),
        (
            r#"{"command":"lease4-get-by-hw-address","arguments":{"hw-address":"2:0:0A:00:00:01"}}"#,
            "shards 0: GetByIdentity { by_client_id: false, identity: 02:00:0a:00:00:01, after: None }; 1: GetByIdentity { by_client_id: false, identity: 02:00:0a:00:00:01, after: None }; ",
        ),
        (
            r#"{"command":"lease4-get-by-client-id","arguments":{"client-id":"0g"}}"#,
            r#"{ "result": 1, "text": "'0g' is not a valid string of hexadecimal digits" }"#,
        ),
        (
            r#"{"command":"lease4-get-by-client-id","arguments":{}}"#,
            r#"{ "result": 1, "text": "'client-id' parameter not specified" }"#,
        ),
        (
            r#"{"command":"lease4-get-page","arguments":{"from":"10.0.0.2","limit":3}}"#,
            "shards 0: Page { after: Some(10.0.0.2), limit: 3, subnets: [] }; 1: Page { after: Some(10.0.0.2), limit: 3, subnets: [] }; ",
        ),
        (
            r#"{"command":"lease4-get-page","arguments":{"limit":3}}"#,
            r#"{ "result": 1, "text": "'from' parameter not specified" }"#,
        ),
        (
            r#"{"command":"lease4-get-all","arguments":{"subnets":[1]}}"#,
            "shards 0: Page { after: None, limit: 512, subnets: [1] }; 1: Page { after: None, limit: 512, subnets: [1] }; ",
        ),
        (
            r#"{"command":"lease4-get-all","arguments":{"subnets":[]}}"#,
            r#"{ "arguments": { "leases": [  ] }, "result": 3, "text": "0 IPv4 lease(s) found." }"#,
        ),
        (r#"{"command":"statistic-get-all"}"#, "shards 0: Statistics; 1: Statistics; "),
        (r#"{"command":"statistic-get"}"#, r#"{ "result": 1, "text": "missing parameter 'name'" }"#),
        (r#"{"command":"foo"}"#, r#"{ "result": 2, "text": "'foo' command not supported." }"#),
    ];

    #[test]
    fn commands_become_the_plans_they_should() {
        let rules = rules();
        let check = |body: &str, expected: &str| {
            let envelope = Envelope::parse(body.as_bytes()).unwrap();
            assert_eq!(described(plan(&envelope, &facts(&rules, Dialect::Kea3, true))), expected, "{body}");
        };
        let owner = rules.owners.owner_of(Ipv4Addr::new(10, 0, 0, 5));
        let one = format!("shards {owner}: Get(10.0.0.5); ");
        check(r#"{"command":"lease4-get","arguments":{"ip-address":"10.0.0.5"}}"#, &one);
        for (body, expected) in PLANS {
            check(body, expected);
        }
    }

    #[test]
    fn commands_of_libraries_that_are_not_configured_do_not_exist() {
        let rules = rules();
        let facts = facts(&rules, Dialect::Kea2_2, false);
        for name in ["lease4-get-all", "ha-heartbeat"] {
            let envelope = Envelope::parse(format!(r#"{{"command":"{name}"}}"#).as_bytes()).unwrap();
            assert!(described(plan(&envelope, &facts)).contains("command not supported."), "{name}");
        }
        let list = described(plan(&Envelope::parse(br#"{"command":"list-commands"}"#).unwrap(), &facts));
        assert!(
            list.contains("\"config-get\"") && !list.contains("lease4") && !list.contains("ha-"),
            "{list}"
        );
        let version = described(plan(&Envelope::parse(br#"{"command":"version-get"}"#).unwrap(), &facts));
        assert!(version.contains("\"text\": \"2.2.0\""), "{version}");
    }

    #[test]
    fn the_table_is_in_order_and_holds_each_name_once() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn statistics_have_keas_names_and_shape() {
        let rules = rules();
        let facts = facts(&rules, Dialect::Kea2_2, true);
        let envelope = Envelope::parse(
            br#"{"command":"statistic-get","arguments":{"name":"subnet[1].total-addresses"}}"#,
        )
        .unwrap();
        let Plan::Shards(mut gather) = plan(&envelope, &facts) else { panic!("shards are asked") };
        while let Some((shard, _)) = gather.poll_request() {
            gather.handle_reply(shard, crate::engine::message::ShardReplyBody::Statistics(Box::default()));
        }
        assert_eq!(
            described(Plan::Answer(gather.finish())),
            r#"{ "arguments": { "subnet[1].total-addresses": [ [ 9, "2026-01-02 03:04:05.678901" ] ] }, "result": 0 }"#
        );
        let shards = [(0, ShardStatistics::default())];
        let of = |dialect| statistic::all(&shards, &[], &rules.snapshot, dialect, "now");
        let (older, newer) = (of(Dialect::Kea2_2), of(Dialect::Kea3));
        for name in ["pkt4-received", "pkt4-parse-failed", "reclaimed-leases", "subnet[1].assigned-addresses"]
        {
            assert!(older.contains_key(name) && newer.contains_key(name), "{name}");
        }
        for name in ["assigned-addresses", "pkt4-queue-full", "subnet[1].pool[0].total-addresses"] {
            assert!(!older.contains_key(name) && newer.contains_key(name), "{name}");
        }
    }
}
