//! `status-get` (g.5): the facts of the process, of its sockets and of high availability, in Kea's shape.

use config::Dialect;
use serde_json::{Map, Value, json};

/// What `status-get` tells.
#[derive(Clone, Debug, Default)]
pub struct StatusFacts {
    /// Process id.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Seconds since the configuration was put in force.
    pub reload_s: u64,
    /// Shards.
    pub shards: u8,
    /// `packet-queue-size`; `None` where multi-threading is off.
    pub packet_queue_size: Option<u32>,
    /// How many queries waited behind the one that was decided, over about the last 10, 100 and 1000 queries.
    pub queue_averages: [f64; 3],
    /// What is wrong with the DHCP sockets, one text each; empty when all are open.
    pub socket_errors: Vec<String>,
    /// Whether a socket that failed is tried again.
    pub sockets_retrying: bool,
    /// Lease file, absolute; Stork tails it. `None` without persistence.
    pub lease_file: Option<String>,
    /// `high-availability`: one element per relationship, or nothing without HA.
    pub high_availability: Vec<Value>,
    /// `dhcp-state` as the holder of the service locks gives it.
    pub dhcp_state: Option<Value>,
    /// How queries find their shard, such as `kernel` or `user space`.
    pub steering: String,
    /// HA executors: listeners and senders.
    pub ha_executors: (u8, u8),
    /// When rows count as safe: `synced` or `written`.
    pub durability: String,
    /// Log messages dropped because a queue was full.
    pub log_messages_dropped: u64,
}

/// The arguments of the answer.
pub fn arguments(facts: &StatusFacts, dialect: Dialect) -> Value {
    let mut members = Map::new();
    members.insert("pid".into(), facts.pid.into());
    members.insert("uptime".into(), facts.uptime_s.into());
    members.insert("reload".into(), facts.reload_s.into());
    members.insert("multi-threading-enabled".into(), facts.packet_queue_size.is_some().into());
    if let Some(packet_queue_size) = facts.packet_queue_size {
        members.insert("thread-pool-size".into(), facts.shards.into());
        members.insert("packet-queue-size".into(), packet_queue_size.into());
        // Six digits, as Kea writes numbers.
        let rounded = facts.queue_averages.map(|average| (average * 1e6).round() / 1e6);
        members.insert("packet-queue-statistics".into(), json!(rounded));
    }
    members.insert("sockets".into(), sockets(facts));
    if !facts.high_availability.is_empty() {
        members.insert("high-availability".into(), Value::Array(facts.high_availability.clone()));
    }
    if dialect == Dialect::Kea3 {
        if let Some(dhcp_state) = &facts.dhcp_state {
            members.insert("dhcp-state".into(), dhcp_state.clone());
        }
        if let Some(lease_file) = &facts.lease_file {
            members.insert("csv-lease-file".into(), lease_file.as_str().into());
        }
    }
    let (listeners, senders) = facts.ha_executors;
    members.insert(
        "tandem".into(),
        json!({
            "durability": facts.durability, "ha-listeners": listeners, "ha-senders": senders,
            "log-messages-dropped": facts.log_messages_dropped,
            "shards": facts.shards, "steering": facts.steering, "version": super::version::OWN,
        }),
    );
    Value::Object(members)
}

fn sockets(facts: &StatusFacts) -> Value {
    if facts.socket_errors.is_empty() {
        return json!({ "status": "ready" });
    }
    let status = if facts.sockets_retrying { "retrying" } else { "failed" };
    json!({ "errors": facts.socket_errors, "status": status })
}
