//! From a document to a snapshot: the only constructor of [`Snapshot`].
//!
//! Resolves inheritance, encodes options, merges them for each pool and selects interfaces. What a single key can
//! tell (types, ranges, unique ids, pools within prefixes) the reader of the file has checked already; here come
//! the rules between keys. Every finding names its place in the file; all of them are reported, not just the first.

use std::borrow::Cow;

use config::diagnostics::Diagnostics;
use config::document::{Document, SocketType};
use config::option::OptionData;
use config::{ConfigError, Diagnostic, Position};

use super::interfaces::{self, HostInterface};
use super::option::definitions::{DefinitionText, Definitions};
use super::option::scope::{OptionText, compile_scope};
use super::option_set::OptionSet;
use super::{ExpiredLeases, Relationships, Snapshot, Subnets, subnet};
use crate::limits::EXECUTORS_MAX;

/// What does not stand in the file.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Interfaces of the host.
    pub interfaces: &'a [HostInterface],
    /// Whether an interface that does not exist is an error (`-T`) instead of a warning (`-t`, start; CFG-30).
    pub interfaces_must_exist: bool,
    /// Epoch of the snapshot; rises with every configuration put in force.
    pub epoch: u64,
    /// Server port (`-p`), 67 by default.
    pub server_port: u16,
    /// Destination port of every reply (`-P`), if forced.
    pub forced_client_port: Option<u16>,
}

impl<'a> Host<'a> {
    /// The ordinary case: Kea's ports, and missing interfaces are waited for.
    pub fn new(interfaces: &'a [HostInterface], epoch: u64) -> Self {
        Self { interfaces, interfaces_must_exist: false, epoch, server_port: 67, forced_client_port: None }
    }
}

/// A snapshot and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The snapshot, ready to be put in force.
    pub snapshot: Snapshot,
    /// What was accepted and does less than it seems to, with places.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles `document` for `host`.
///
/// # Errors
/// Everything that is wrong, with places; the first finding comes first in Kea's order of processing (f.3).
pub fn compile(document: &Document, host: &Host<'_>) -> Result<Compiled, ConfigError> {
    let mut report = Diagnostics::default();
    let selection =
        interfaces::select(&document.interfaces, host.interfaces, host.interfaces_must_exist, &mut report);
    check_executors(document, &mut report);
    let definitions = definitions(document, &mut report);
    let options = options(&document.options, &definitions, &mut report);
    let mut subnets = Vec::with_capacity(document.subnets.len());
    for entry in &document.subnets {
        let context = subnet::Context { document, host, definitions: &definitions, global: &options };
        subnets.push(subnet::compile(entry, &context, &mut report));
    }
    let reclaim = &document.expired_leases;
    let snapshot = Snapshot {
        epoch: host.epoch,
        subnets: Subnets::new(subnets),
        relationships: Relationships::of(document),
        interfaces: selection.interfaces,
        interfaces_missing: selection.missing,
        options,
        authoritative: document.scope.authoritative.as_deref().copied().unwrap_or(false),
        echo_client_id: *document.echo_client_id,
        decline_probation_period_s: *document.decline_probation_period_s,
        ignore_server_identifier: *document.compatibility.ignore_dhcp_server_identifier,
        ignore_link_selection: *document.compatibility.ignore_rai_link_selection,
        exclude_first_last_24: *document.compatibility.exclude_first_last_24,
        raw_sockets: *document.interfaces.socket_type == SocketType::Raw,
        expired_leases: ExpiredLeases {
            reclaim_timer_wait_s: *reclaim.reclaim_timer_wait_s,
            flush_reclaimed_timer_wait_s: *reclaim.flush_reclaimed_timer_wait_s,
            hold_reclaimed_s: *reclaim.hold_reclaimed_s,
            max_reclaim_leases: *reclaim.max_reclaim_leases,
            max_reclaim_time_ms: *reclaim.max_reclaim_time_ms,
            unwarned_reclaim_cycles: *reclaim.unwarned_reclaim_cycles,
        },
        parked_packet_limit: *document.parked_packet_limit,
        server_port: host.server_port,
        forced_client_port: host.forced_client_port,
    };
    report.finish().map(|warnings| Compiled { snapshot, warnings })
}

/// Numbers of executors are bounded, those of all relationships together; 0 is as many as there are processors, or shards,
/// up to the bound.
fn check_executors(document: &Document, report: &mut Diagnostics) {
    let mut check = |key: &str, count: u32, zero: &str, position: &Position| {
        if count > EXECUTORS_MAX {
            let message =
                format!("{key} is {count}: at most {EXECUTORS_MAX} are possible, 0 is one for each {zero}");
            report.error(position, key, message);
        }
    };
    let pool = &document.multi_threading.thread_pool_size;
    check("thread-pool-size", u32::from(**pool), "processor", &pool.position);
    let (mut listeners, mut senders) = (0u32, 0u32);
    for relationship in &document.hooks.high_availability {
        let threads = &relationship.multi_threading;
        // Where the number is left open there is one of each at least.
        for (key, written, own, sum) in [
            ("http-listener-threads", &threads.listener_threads, threads.listeners(1), &mut listeners),
            ("http-client-threads", &threads.client_threads, threads.senders(1), &mut senders),
        ] {
            check(key, **written, "shard", &written.position);
            let before = std::mem::replace(sum, sum.saturating_add(own));
            if **written <= EXECUTORS_MAX && before <= EXECUTORS_MAX && *sum > EXECUTORS_MAX {
                check(
                    &format!("{key} of the relationships so far together"),
                    *sum,
                    "shard",
                    &written.position,
                );
            }
        }
    }
}

/// Standard and custom definitions of the document.
pub(super) fn definitions(document: &Document, report: &mut Diagnostics) -> Definitions {
    let mut definitions = Definitions::default();
    for entry in &document.option_definitions {
        let text = DefinitionText {
            name: &entry.name,
            code: *entry.code,
            kind: &entry.kind,
            array: *entry.array,
            record_types: entry.record_types.iter().map(String::as_str).collect(),
            space: &entry.space,
            encapsulate: &entry.encapsulate,
        };
        if let Err(error) = definitions.add(&text) {
            report.error(&entry.position, "option-def", error.to_string());
        }
    }
    definitions
}

/// The options of one scope; what is wrong with them is reported and leaves the scope empty.
pub(super) fn options(list: &[OptionData], definitions: &Definitions, report: &mut Diagnostics) -> OptionSet {
    let texts: Vec<OptionText<'_>> = list
        .iter()
        .map(|entry| OptionText {
            name: entry.name.as_ref().map(|name| name.as_str()),
            code: entry.code.as_deref().copied(),
            space: &entry.space,
            data: octets_as_characters(&entry.data),
            csv_format: entry.csv_format.as_deref().copied(),
            always_send: *entry.always_send,
            never_send: *entry.never_send,
        })
        .collect();
    match compile_scope(&texts, definitions) {
        Ok(scope) => {
            for (index, warning) in scope.warnings {
                report.warn(&list[index].position, "option-data", warning.to_string());
            }
            scope.options
        }
        Err((index, error)) => {
            report.error(&list[index].position, "option-data", error.to_string());
            OptionSet::default()
        }
    }
}

/// Octets of a file as text, one character for each octet.
fn octets_as_characters(octets: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(octets) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(octets.iter().map(|octet| char::from(*octet)).collect()),
    }
}
