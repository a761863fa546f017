//! One subnet of the document: inheritance, the rules between its timers, its pools and their options.

use std::net::Ipv4Addr;

use config::diagnostics::Diagnostics;
use config::document::Document;
use config::ha::Role;
use config::scope::Scope;
use config::value::Located;

use super::compile::{Host, options};
use super::option::definitions::Definitions;
use super::option_set::OptionSet;
use super::{Attachment, Guard, LifetimeTriplet, Pool, Scope as ScopeOfQuery, Subnet};

/// Lifetime where the file says nothing, seconds.
pub(super) const VALID_LIFETIME_S: u32 = 7200;
/// T1 as a part of the lifetime where the file says nothing.
pub(super) const T1_PERCENT: f64 = 0.5;
/// T2 as a part of the lifetime where the file says nothing.
pub(super) const T2_PERCENT: f64 = 0.875;
/// Part of the lifetime within which a lease is not written again, where the file says nothing.
pub(super) const CACHE_THRESHOLD: f64 = 0.25;

/// What a subnet is compiled against.
pub(super) struct Context<'a> {
    pub document: &'a Document,
    pub host: &'a Host<'a>,
    pub definitions: &'a Definitions,
    pub global: &'a OptionSet,
}

/// Compiles `entry`; whatever is wrong is reported, and the result is of no use then.
pub(super) fn compile(
    entry: &config::subnet::Subnet,
    context: &Context<'_>,
    report: &mut Diagnostics,
) -> Subnet {
    let scope = entry.scope.inherit(&context.document.scope);
    let prefix = *entry.prefix;
    check_interface(entry, context, report);
    let own = options(&entry.options, context.definitions, report);
    let merged = own.over(context.global);
    let attachment = context.document.hooks.attachment(&entry.ha_server_name);
    let pools = entry.pools.iter().map(|pool| Pool {
        first: pool.range.0,
        last: pool.range.1,
        pool_id: *pool.pool_id,
        guard: guard(&pool.guard, Some(attachment), context, report),
        options: options(&pool.options, context.definitions, report).over(&merged),
    });
    let pools: Vec<Pool> = pools.collect();
    let has_guarded_pools = pools.iter().any(|pool| !pool.guard.is_open());
    let guard = guard(&entry.guard, None, context, report);
    let valid_lifetime = lifetimes(&scope, report);
    let (renew_timer_s, rebind_timer_s) = timers(&scope, valid_lifetime, report);
    let (cache_threshold, cache_max_age_s) = cache(&scope);
    Subnet {
        id: *entry.id,
        prefix: prefix.network(),
        prefix_len: prefix.len,
        interface: entry.interface.as_deref().cloned(),
        attachment,
        relays: entry.relays.iter().map(|relay| relay.value).collect(),
        pools,
        guard,
        has_guarded_pools,
        valid_lifetime,
        renew_timer_s,
        rebind_timer_s,
        tee_percent: tee_percent(&scope),
        match_client_id: value(&scope.match_client_id).unwrap_or(true),
        authoritative: value(&scope.authoritative).unwrap_or(false),
        store_extended_info: value(&scope.store_extended_info).unwrap_or(false),
        cache_threshold,
        cache_max_age_s,
        offer_lifetime_s: value(&scope.offer_lifetime_s).unwrap_or(0),
        next_server: value(&scope.next_server).unwrap_or(Ipv4Addr::UNSPECIFIED),
        server_hostname: scope.server_hostname.map(|name| name.value).unwrap_or_default(),
        boot_file_name: scope.boot_file_name.map(|name| name.value).unwrap_or_default(),
        options: merged,
    }
}

fn value<T: Copy>(setting: &Option<Located<T>>) -> Option<T> {
    setting.as_ref().map(|setting| setting.value)
}

/// ALC-6 over the classes of ha-protocol 5.10. The reader has refused every other class.
///
/// With several relationships a query gets its class once its subnet is known, and the class of the subnet's own
/// relationship at that: `attachment` is that of the pool's subnet, or `None` for the guard of a subnet itself.
fn guard(
    guard: &config::guard::Guard,
    attachment: Option<Attachment>,
    context: &Context<'_>,
    report: &mut Diagnostics,
) -> Guard {
    if guard.classes.is_empty() {
        return Guard::EVERYONE;
    }
    let relationships = context.document.hooks.high_availability.as_slice();
    let mut scopes = Vec::with_capacity(guard.classes.len());
    for class in &guard.classes {
        let peer = config::guard::peer_of_class(class, relationships.iter());
        if relationships.len() > 1 {
            let own = attachment.map(|attachment| match attachment {
                Attachment::Of(place) => relationships.get(usize::from(place)),
                Attachment::Invalid | Attachment::Stranger | Attachment::Unnamed => None,
            });
            let why = match (own, &peer) {
                (None, _) => Some("with several relationships a query has it only once its subnet is known"),
                (Some(own), Some((of, _))) if own != Some(*of) => {
                    Some("the subnet is of another relationship")
                }
                _ => None,
            };
            if let Some(why) = why {
                let message = format!("no query is ever in class {}: {why}", **class);
                report.warn(&class.position, guard.key, message);
                continue;
            }
        }
        match peer.map(|(_, peer)| *peer.role) {
            Some(Role::Primary) => scopes.push(ScopeOfQuery::Primary),
            Some(Role::Secondary) => scopes.push(ScopeOfQuery::Secondary),
            Some(Role::Backup | Role::Standby) | None => {
                let message = format!("no query is ever in class {}: that server has no scope", **class);
                report.warn(&class.position, guard.key, message);
            }
        }
    }
    Guard::of(scopes)
}

fn check_interface(entry: &config::subnet::Subnet, context: &Context<'_>, report: &mut Diagnostics) {
    let Some(name) = &entry.interface else { return };
    if context.host.interfaces.iter().any(|facts| facts.name == name.value) {
        return;
    }
    // One text for all subnets of the interface, so that a long file warns once; the error is Kea's (CFG-30).
    match context.host.interfaces_must_exist {
        true => {
            let message = format!(
                "Specified network interface name {} for subnet {} is not present in the system",
                name.value, entry.prefix.value
            );
            report.error(&name.position, "interface", message);
        }
        false => {
            let message = format!(
                "network interface {} is not present in the system; the server waits for it",
                name.value
            );
            report.warn(&name.position, "interface", message);
        }
    }
}

/// PKT-55. The reader has seen to min ≤ default ≤ max with everything inherited.
fn lifetimes(scope: &Scope, report: &mut Diagnostics) -> LifetimeTriplet {
    let default_s = value(&scope.valid_lifetime_s).unwrap_or(VALID_LIFETIME_S);
    let min_s = value(&scope.min_valid_lifetime_s).unwrap_or(default_s);
    let max_s = value(&scope.max_valid_lifetime_s).unwrap_or(default_s);
    if let Some(lifetime) = scope.valid_lifetime_s.as_ref().filter(|lifetime| lifetime.value == 0) {
        let message = "a valid-lifetime of 0: every lease is expired when it is given";
        report.warn(&lifetime.position, "valid-lifetime", message);
    }
    LifetimeTriplet { min_s, default_s, max_s }
}

/// PKT-57 and PKT-58. A T1 that lies behind T2 is not sent, which the reader has warned about.
fn timers(scope: &Scope, lifetime: LifetimeTriplet, report: &mut Diagnostics) -> (Option<u32>, Option<u32>) {
    for (key, timer) in [("renew-timer", &scope.renew_timer_s), ("rebind-timer", &scope.rebind_timer_s)] {
        if let Some(timer) = timer.as_ref().filter(|timer| timer.value >= lifetime.max_s) {
            let message = format!(
                "{key} ({}) is not less than the longest valid-lifetime ({}): it is never sent",
                timer.value, lifetime.max_s
            );
            report.warn(&timer.position, key, message);
        }
    }
    let (renew_s, rebind_s) = (value(&scope.renew_timer_s), value(&scope.rebind_timer_s));
    (renew_s.filter(|renew_s| rebind_s.is_none_or(|rebind_s| *renew_s <= rebind_s)), rebind_s)
}

/// The reader has seen to t1 < t2.
fn tee_percent(scope: &Scope) -> Option<(f64, f64)> {
    let t1 = value(&scope.t1_percent).unwrap_or(T1_PERCENT);
    let t2 = value(&scope.t2_percent).unwrap_or(T2_PERCENT);
    value(&scope.calculate_tee_times).unwrap_or(false).then_some((t1, t2))
}

/// ALC-51. Either bound at 0 turns caching off; both then say so, and no caller needs to know the rule.
fn cache(scope: &Scope) -> (Option<f64>, Option<u32>) {
    let threshold = value(&scope.cache_threshold).unwrap_or(CACHE_THRESHOLD);
    let max_age_s = value(&scope.cache_max_age_s);
    if threshold <= 0.0 || max_age_s == Some(0) { (None, Some(0)) } else { (Some(threshold), max_age_s) }
}
