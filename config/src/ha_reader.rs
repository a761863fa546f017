//! Reads the `high-availability` block; refusals use Kea's words (ha-protocol 1.4 to 1.8).

use crate::document::{Dialect, MultiThreading};
use crate::ha::{HaMultiThreading, Mode, Pause, Peer, Relationship, Secret, StatePause};
use crate::ha_roles;
use crate::reader::{Reader, quoted};
use crate::schema::high_availability::RELATIONSHIP;
use crate::schema::{Wording, check};
use crate::value::{Kind, Located, Value};

/// The states whose `pause` may be configured (ha-protocol 4.1).
const STATES: &[&str] = &[
    "backup",
    "communication-recovery",
    "hot-standby",
    "in-maintenance",
    "load-balancing",
    "partner-down",
    "partner-in-maintenance",
    "passive-backup",
    "ready",
    "syncing",
    "terminated",
    "unavailable",
    "waiting",
];

/// What the rest of the file decides about the block's defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    /// The release whose defaults apply.
    pub dialect: Dialect,
    /// Whether a server of that release would decide queries on several threads.
    pub multi_threading: bool,
}

impl Surroundings {
    /// Those of a file with this `multi-threading` map: off by default in 2.2, on in 3.x (ha-protocol 0.4).
    pub fn new(dialect: Dialect, server: &MultiThreading) -> Self {
        let by_default = dialect == Dialect::Kea3;
        let multi_threading = if server.enabled.written { *server.enabled } else { by_default };
        Self { dialect, multi_threading }
    }
}

impl Relationship {
    /// Reads and checks one relationship; `None` after an error.
    pub(crate) fn read(reader: &mut Reader<'_, '_>, around: Surroundings) -> Option<Relationship> {
        if !check_shapes(reader) || !check(reader.map, &RELATIONSHIP, Wording::Hook, reader.diagnostics) {
            return None;
        }
        let mode = read_mode(reader)?;
        let empty = "'this-server-name' value must not be empty";
        let this_server_name = trimmed(reader, "this-server-name", empty)?;
        let (wait_backup_ack, delayed_updates_limit) = read_limits_of_mode(reader, *mode);
        let pauses = read_pauses(reader);
        let sync_page_limit = reader.number("sync-page-limit", 10_000);
        if *sync_page_limit == 0 {
            let message = "'sync-page-limit' must be at least 1: a page without leases never ends the copy";
            reader.error(&sync_page_limit.position, "sync-page-limit", message);
        }
        let heartbeat_delay_ms = reader.number("heartbeat-delay", 10_000);
        if *heartbeat_delay_ms == 0 {
            let message =
                "'heartbeat-delay' 0 turns heartbeats off: this server never leaves the waiting state";
            reader.warn(&heartbeat_delay_ms.position, "heartbeat-delay", message);
        }
        let multi_threading = read_multi_threading(reader, around);
        let peers = Peer::read_all(reader);
        let (own, others) = ha_roles::divide(reader, peers, &this_server_name, *mode)?;
        if !multi_threading.has_dedicated_listener() {
            warn_without_listener(reader, &own);
        }
        Some(Relationship {
            position: reader.map.position.clone(),
            mode,
            send_lease_updates: reader.bool("send-lease-updates", true),
            sync_leases: reader.bool("sync-leases", true),
            sync_timeout_ms: reader.number("sync-timeout", 60_000),
            sync_page_limit,
            delayed_updates_limit,
            heartbeat_delay_ms,
            max_response_delay_ms: reader.number("max-response-delay", 60_000),
            max_ack_delay_ms: reader.number("max-ack-delay", 10_000),
            max_unacked_clients: reader.number("max-unacked-clients", 10),
            max_rejected_lease_updates: reader.number("max-rejected-lease-updates", 10),
            wait_backup_ack,
            require_client_certs: reader.bool("require-client-certs", true),
            restrict_commands: reader.bool("restrict-commands", around.dialect == Dialect::Kea3),
            multi_threading,
            pauses,
            own,
            others,
        })
    }
}

/// Whether maps and lists are where they have to be. Kea has words of its own for each.
fn check_shapes(reader: &mut Reader<'_, '_>) -> bool {
    let is_map = |value: &Value| matches!(value.kind, Kind::Map(_));
    let is_list = |value: &Value| matches!(value.kind, Kind::List(_));
    let machine = reader.get("state-machine");
    let states = machine.and_then(|machine| machine.get("states"));
    let peers = reader.get("peers");
    let wrong = [
        ("peers", peers.filter(|peers| !is_list(peers)), "'peers' parameter must be a list"),
        (
            "peers",
            peers.and_then(|list| list.items().iter().find(|peer| !is_map(peer))),
            "peer configuration must be a map",
        ),
        (
            "state-machine",
            machine.filter(|machine| !is_map(machine)),
            "'state-machine' parameter must be a map",
        ),
        ("states", states.filter(|states| !is_list(states)), "'states' parameter must be a list"),
        (
            "states",
            states.and_then(|list| list.items().iter().find(|state| !is_map(state))),
            "state configuration must be a map",
        ),
        (
            "multi-threading",
            reader.get("multi-threading").filter(|threads| !is_map(threads)),
            "multi-threading configuration must be a map",
        ),
    ];
    let mut sound = true;
    for (key, value, message) in wrong {
        let Some(value) = value else { continue };
        reader.error(&value.position, key, message);
        sound = false;
    }
    if reader.get("mode").is_some() && peers.is_none() {
        let position = reader.map.position.clone();
        reader.error(&position, "peers", "'peers' parameter missing in HA configuration");
        sound = false;
    }
    sound
}

/// Without a dedicated listener partners come through a control channel, which has protection of its own: what the block
/// says of the listener has no effect, and whoever relies on it is to know.
fn warn_without_listener(reader: &mut Reader<'_, '_>, own: &Peer) {
    let why = "has no effect without a dedicated listener: partners come through a control channel";
    for key in ["require-client-certs", "restrict-commands"] {
        if let Some(written) = reader.get(key).filter(|value| value.kind == Kind::Bool(true)) {
            reader.warn(&written.position, key, format!("'{key}' {why}"));
        }
    }
    if let Some(Secret::File(user) | Secret::Text(user)) = own.basic_auth.as_ref().map(|auth| &auth.user) {
        let message = format!("the user and password of the own entry: this {why}, which asks for none");
        reader.warn(&user.position, "basic-auth-user", message);
    }
}

fn read_mode(reader: &mut Reader<'_, '_>) -> Option<Located<Mode>> {
    let text = reader.optional_text("mode")?;
    let mode = match text.as_str() {
        "hot-standby" => Mode::HotStandby,
        "load-balancing" => Mode::LoadBalancing,
        "passive-backup" => Mode::PassiveBackup,
        other => {
            let message = format!("unsupported value {} for mode parameter", quoted(other));
            reader.error(&text.position, "mode", message);
            return None;
        }
    };
    Some(Located::written(mode, text.position))
}

/// `wait-backup-ack` and `delayed-updates-limit`, each of which only one mode allows.
fn read_limits_of_mode(reader: &mut Reader<'_, '_>, mode: Mode) -> (Located<bool>, Located<u32>) {
    let name = mode.spelt();
    let wait = reader.bool("wait-backup-ack", false);
    if *wait && mode != Mode::PassiveBackup {
        let message = format!("'wait-backup-ack' must be set to false in the {name} configuration");
        reader.error(&wait.position, "wait-backup-ack", message);
    }
    let default = if mode == Mode::LoadBalancing { 100 } else { 0 };
    let limit = reader.number("delayed-updates-limit", default);
    if *limit > 0 && mode != Mode::LoadBalancing {
        let message = format!("'delayed-updates-limit' must be set to 0 in the {name} configuration");
        reader.error(&limit.position, "delayed-updates-limit", message);
    }
    (wait, limit)
}

fn read_pauses(reader: &mut Reader<'_, '_>) -> Vec<StatePause> {
    let mut pauses = Vec::new();
    let Some(machine) = reader.get("state-machine") else { return pauses };
    let mut seen: Vec<&str> = Vec::new();
    for entry in machine.get("states").map(Value::items).unwrap_or_default() {
        let Some(state) = entry.get("state") else { continue };
        let name = state.as_text().unwrap_or_default();
        let known = STATES.iter().find(|known| **known == name);
        if known.is_none() {
            reader.error(&state.position, "state", format!("unknown state {name}"));
        } else if seen.contains(&name) {
            let message = format!("duplicated configuration for the {} state", quoted(name));
            reader.error(&state.position, "state", message);
        }
        seen.push(name);
        let Some(written) = entry.get("pause") else { continue };
        let pause = match written.as_text().unwrap_or_default() {
            "never" => continue,
            "once" => Pause::Once,
            "always" => Pause::Always,
            other => {
                let message = format!("unsupported value {other} of 'pause' parameter");
                reader.error(&written.position, "pause", message);
                continue;
            }
        };
        let Some(state) = known else { continue };
        pauses.push(StatePause { state, pause: Located::written(pause, written.position.clone()) });
    }
    pauses
}

fn read_multi_threading(reader: &mut Reader<'_, '_>, around: Surroundings) -> HaMultiThreading {
    let nothing = reader.map.clone();
    let map = reader.get("multi-threading");
    let by_default = around.dialect == Dialect::Kea3;
    // Without the map every setting has its default, and none of its keys occurs in the relationship itself.
    let mut inside = Reader { map: map.unwrap_or(&nothing), diagnostics: reader.diagnostics };
    let mut enabled = inside.bool("enable-multi-threading", by_default);
    if *enabled && !around.multi_threading {
        if enabled.written {
            let message = "multi-threading of high availability needs that of the server, which is off: there is \
                           no dedicated listener, and partners come through a control channel";
            inside.warn(&enabled.position, "enable-multi-threading", message);
        }
        enabled.value = false;
    }
    HaMultiThreading {
        enabled,
        dedicated_listener: inside.bool("http-dedicated-listener", by_default),
        listener_threads: inside.number("http-listener-threads", 0),
        client_threads: inside.number("http-client-threads", 0),
    }
}

/// A string that must be there, without the white space around it; `None` after an error, which is `empty` where there
/// is nothing else.
pub(crate) fn trimmed(reader: &mut Reader<'_, '_>, key: &str, empty: &str) -> Option<Located<String>> {
    let text = reader.optional_text(key)?;
    let trimmed = text.trim();
    if trimmed.is_empty() {
        reader.error(&text.position, key, empty);
        return None;
    }
    Some(Located { value: trimmed.to_owned(), ..text })
}
