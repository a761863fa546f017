//! What the compiled configuration hashes to, for the partner to compare (see [`crate::ha::fingerprint`]).
//!
//! Hashed is what two servers of a pair have to agree on, so that either can go on where the other stopped: not names
//! of interfaces, addresses of the host, ports or limits. The hash is FNV-1a of 64 bits over lengths and values in
//! network order: the same on every host, and no secret.

use super::{Guard, LifetimeTriplet, OptionSet, Pool, Scope, Snapshot, Subnet, SubnetFilter};
use crate::ha::fingerprint::{Fingerprint, Sums};

/// FNV-1a of 64 bits.
struct Fnv(u64);

impl Fnv {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    fn new() -> Self {
        Self(Self::BASIS)
    }

    fn octets(&mut self, octets: &[u8]) {
        self.number(octets.len() as u64);
        for octet in octets {
            self.octet(*octet);
        }
    }

    fn number(&mut self, number: u64) {
        number.to_be_bytes().into_iter().for_each(|octet| self.octet(octet));
    }

    /// Absent and zero are told apart.
    fn optional(&mut self, number: Option<u64>) {
        self.number(u64::from(number.is_some()));
        self.number(number.unwrap_or(0));
    }

    fn octet(&mut self, octet: u8) {
        self.0 = (self.0 ^ u64::from(octet)).wrapping_mul(Self::PRIME);
    }
}

/// The fingerprint of `snapshot`, as far as it concerns `concerned` of its subnets.
pub fn fingerprint(snapshot: &Snapshot, concerned: &SubnetFilter) -> Fingerprint {
    let (mut subnets, mut pools, mut options) = (Fnv::new(), Fnv::new(), Fnv::new());
    subnets.number(u64::from(snapshot.authoritative));
    subnets.number(u64::from(snapshot.decline_probation_period_s));
    pools.number(u64::from(snapshot.exclude_first_last_24));
    options.number(u64::from(snapshot.echo_client_id));
    add_options(&mut options, &snapshot.options);
    let mut by_subnet = std::collections::BTreeMap::new();
    for subnet in snapshot.subnets.iter().filter(|subnet| concerned.admits(subnet.id)) {
        let sums = of_subnet(subnet);
        for (all, sum) in
            [(&mut subnets, sums.subnets), (&mut pools, sums.pools), (&mut options, sums.options)]
        {
            all.number(u64::from(subnet.id));
            all.number(sum);
        }
        by_subnet.insert(subnet.id, sums);
    }
    Fingerprint { all: Sums { subnets: subnets.0, pools: pools.0, options: options.0 }, by_subnet }
}

fn of_subnet(subnet: &Subnet) -> Sums {
    let (mut itself, mut pools, mut options) = (Fnv::new(), Fnv::new(), Fnv::new());
    itself.octets(&subnet.prefix.octets());
    itself.number(u64::from(subnet.prefix_len));
    itself.number(subnet.relays.len() as u64);
    subnet.relays.iter().for_each(|relay| itself.octets(&relay.octets()));
    add_guard(&mut itself, subnet.guard);
    let LifetimeTriplet { min_s, default_s, max_s } = subnet.valid_lifetime;
    [min_s, default_s, max_s].into_iter().for_each(|lifetime| itself.number(u64::from(lifetime)));
    itself.optional(subnet.renew_timer_s.map(u64::from));
    itself.optional(subnet.rebind_timer_s.map(u64::from));
    itself.optional(subnet.tee_percent.map(|(t1, _)| t1.to_bits()));
    itself.optional(subnet.tee_percent.map(|(_, t2)| t2.to_bits()));
    for flag in [subnet.match_client_id, subnet.authoritative] {
        itself.number(u64::from(flag));
    }
    subnet.pools.iter().for_each(|pool| add_pool(&mut pools, pool));
    options.octets(&subnet.next_server.octets());
    options.octets(&subnet.server_hostname);
    options.octets(&subnet.boot_file_name);
    add_options(&mut options, &subnet.options);
    subnet.pools.iter().for_each(|pool| add_options(&mut options, &pool.options));
    Sums { subnets: itself.0, pools: pools.0, options: options.0 }
}

fn add_pool(pools: &mut Fnv, pool: &Pool) {
    pools.octets(&pool.first.octets());
    pools.octets(&pool.last.octets());
    pools.number(u64::from(pool.pool_id));
    add_guard(pools, pool.guard);
}

fn add_guard(sum: &mut Fnv, guard: Guard) {
    Scope::ALL.into_iter().for_each(|scope| sum.number(u64::from(guard.admits(scope))));
}

fn add_options(sum: &mut Fnv, set: &OptionSet) {
    let add = |sum: &mut Fnv, option: &super::ConfiguredOption| {
        sum.number(u64::from(option.code));
        sum.number(u64::from(option.always_send));
        sum.number(u64::from(option.never_send));
        sum.octets(&option.payload);
    };
    sum.number(set.iter().count() as u64);
    set.iter().for_each(|option| add(sum, option));
    sum.number(set.vendors().len() as u64);
    for vendor in set.vendors() {
        sum.number(u64::from(vendor.enterprise));
        for flag in [vendor.container, vendor.always_send, vendor.never_send] {
            sum.number(u64::from(flag));
        }
        sum.number(vendor.options.len() as u64);
        vendor.options.iter().for_each(|option| add(sum, option));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Host, compile};
    use super::*;

    const BASE: &str = r#"{ "Dhcp4": { "valid-lifetime": 600, "subnet4": [
        { "id": 1, "subnet": "10.0.0.0/24", "pools": [ { "pool": "10.0.0.10-10.0.0.20" } ],
          "option-data": [ { "name": "routers", "data": "10.0.0.1" } ] },
        { "id": 2, "subnet": "10.0.1.0/24", "pools": [ { "pool": "10.0.1.10-10.0.1.20" } ] } ] } }"#;

    fn compiled(text: &str) -> Snapshot {
        let document = config::parse_dhcp4(text.as_bytes(), "file").unwrap().document;
        compile(&document, &Host::new(&[], 1)).unwrap_or_else(|error| panic!("{error}")).snapshot
    }

    #[test]
    fn what_differs_is_what_is_named() {
        let base = fingerprint(&compiled(BASE), &SubnetFilter::ALL);
        for (from, to, named) in [
            ("\"Dhcp4\": {", "\"Dhcp4\": { \"parked-packet-limit\": 7,", None),
            ("\"id\": 2", "\"interface\": \"eth0\", \"id\": 2", None),
            ("10.0.0.20", "10.0.0.21", Some("pools (of subnet 1)")),
            ("10.0.0.1\" }", "10.0.0.2\" }", Some("options (of subnet 1)")),
            ("\"id\": 2", "\"id\": 3", Some("subnets, pools, options (of subnet 2, 3)")),
            ("\"valid-lifetime\": 600", "\"valid-lifetime\": 700", Some("subnets (of subnet 1, 2)")),
            ("10.0.1.0/24\"", "10.0.1.0/24\", \"boot-file-name\": \"x\"", Some("options (of subnet 2)")),
        ] {
            let other = fingerprint(&compiled(&BASE.replace(from, to)), &SubnetFilter::ALL);
            let difference = base.difference(&other).map(|difference| difference.to_string());
            assert_eq!(difference.as_deref(), named, "{from} -> {to}");
        }
    }

    #[test]
    fn what_concerns_other_spokes_is_not_compared() {
        let first = SubnetFilter::only([1]);
        let base = fingerprint(&compiled(BASE), &first);
        let of = |to: &str, from: &str| fingerprint(&compiled(&BASE.replace(from, to)), &first);
        assert_eq!(of("10.0.1.21", "10.0.1.20"), base, "a pool of subnet 2");
        assert_ne!(of("10.0.0.21", "10.0.0.20"), base, "a pool of subnet 1");
    }

    /// It is compared between hosts and between releases: a change of it is a change of the protocol.
    #[test]
    fn the_hash_is_fnv_1a() {
        let mut hash = Fnv::new();
        b"foobar".iter().for_each(|octet| hash.octet(*octet));
        assert_eq!(hash.0, 0x8594_4171_f739_67e8);
    }
}
