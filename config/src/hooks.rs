//! `hooks-libraries`: names that switch built-in features on (f.7). Nothing is loaded from disk.

use crate::document::Hooks;
use crate::ha::Relationship;
use crate::ha_hub;
use crate::ha_reader::Surroundings;
use crate::reader::{Reader, quoted};
use crate::value::Value;

const HIGH_AVAILABILITY: &str = "libdhcp_ha.so";
const LEASE_COMMANDS: &str = "libdhcp_lease_cmds.so";

/// Kea's other libraries. They are told from names that nobody knows.
const NOT_BUILT_IN: &[&str] = &[
    "libdhcp_bootp.so",
    "libdhcp_cb_cmds.so",
    "libdhcp_class_cmds.so",
    "libdhcp_ddns_tuning.so",
    "libdhcp_flex_id.so",
    "libdhcp_flex_option.so",
    "libdhcp_host_cache.so",
    "libdhcp_host_cmds.so",
    "libdhcp_lease_query.so",
    "libdhcp_legal_log.so",
    "libdhcp_limits.so",
    "libdhcp_mysql.so",
    "libdhcp_mysql_cb.so",
    "libdhcp_perfmon.so",
    "libdhcp_pgsql.so",
    "libdhcp_pgsql_cb.so",
    "libdhcp_ping_check.so",
    "libdhcp_radius.so",
    "libdhcp_rbac.so",
    "libdhcp_run_script.so",
    "libdhcp_stat_cmds.so",
    "libdhcp_subnet_cmds.so",
    "libdhcp_user_chk.so",
];

impl Hooks {
    /// Reads the list; `around` decides defaults of the HA library.
    pub(crate) fn read(reader: &mut Reader<'_, '_>, around: Surroundings) -> Hooks {
        let mut hooks = Hooks::default();
        let mut seen: Vec<String> = Vec::new();
        for entry in reader.items("hooks-libraries") {
            let mut inside = reader.inside(entry);
            let Some(path) = inside.required_text("library") else { continue };
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            if seen.contains(&name) {
                inside.error(&path.position, "library", format!("{} is listed twice", quoted(&name)));
                continue;
            }
            match name.as_str() {
                HIGH_AVAILABILITY => hooks.high_availability = read_high_availability(&mut inside, around),
                LEASE_COMMANDS => {
                    hooks.lease_commands = true;
                    warn_parameters(&mut inside, &name, &[]);
                }
                other => refuse(&mut inside, &path.position, other),
            }
            seen.push(name);
        }
        if !hooks.high_availability.is_empty() && !hooks.lease_commands {
            let position = reader.map.position.clone();
            let message = format!("partners need the lease commands of a server: list {LEASE_COMMANDS} too");
            reader.warn(&position, "hooks-libraries", message);
        }
        hooks
    }
}

fn refuse(reader: &mut Reader<'_, '_>, position: &crate::value::Position, name: &str) {
    let built_in = format!("built in are {LEASE_COMMANDS} and {HIGH_AVAILABILITY}");
    let message = if NOT_BUILT_IN.contains(&name) {
        format!("the features of hook library {name} are not built yet; {built_in}")
    } else {
        format!(
            "hooks libraries failed to validate - library or libraries in error are: {}; {built_in}",
            quoted(name)
        )
    };
    reader.error(position, "library", message);
}

fn warn_parameters(reader: &mut Reader<'_, '_>, name: &str, known: &[&str]) {
    let members = reader.get("parameters").map(Value::members).unwrap_or_default();
    for member in members.iter().filter(|member| !known.contains(&member.key.as_str())) {
        let message = format!("parameter {} of {name} has no effect", quoted(&member.key));
        reader.warn(&member.position, &member.key, message);
    }
}

fn read_high_availability(reader: &mut Reader<'_, '_>, around: Surroundings) -> Vec<Relationship> {
    warn_parameters(reader, HIGH_AVAILABILITY, &["high-availability"]);
    let list = reader.get("parameters").and_then(|parameters| parameters.get("high-availability"));
    let Some(list) = list else {
        let position = reader.map.position.clone();
        reader.error(&position, "high-availability", "missing parameter 'high-availability'");
        return Vec::new();
    };
    ha_hub::read_list(reader, list, |inside| Relationship::read(inside, around))
}
