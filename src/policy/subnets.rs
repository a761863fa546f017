//! All subnets of a configuration, and where each address, relay and interface leads.
//!
//! A server of many relays is asked for a subnet with every query, so that is found without a walk over them.
//! Invariants: subnets are in ascending id; what leads to several leads to the first of them that lets the query in
//! (ALC-1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Deref;

use super::{Scope, Subnet};

/// The subnets in ascending id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subnets {
    subnets: Vec<Subnet>,
    /// For queries in the primary's scope.
    directory: Directory,
    /// For those in the secondary's; `None` where no subnet has a guard, so that one serves all.
    of_secondary: Option<Box<Directory>>,
}

/// Where addresses, relays and interfaces lead, as places among the subnets.
#[derive(Clone, Debug, Default, PartialEq)]
struct Directory {
    /// Relay and the first subnet that lists it, ascending.
    relays: Vec<(Ipv4Addr, usize)>,
    /// Interface name and the first subnet that names it, ascending.
    interfaces: Vec<(String, usize)>,
    /// Where what contains the addresses changes: from this address on it is that subnet, or none; ascending.
    turns: Vec<(u32, Option<usize>)>,
}

impl Directory {
    /// Of those of `subnets` that let queries of `scope` in (ALC-1).
    fn new(subnets: &[Subnet], scope: Scope) -> Self {
        let mut relays = BTreeMap::new();
        let mut interfaces = BTreeMap::new();
        let places = || subnets.iter().enumerate().filter(|(_, subnet)| subnet.guard.admits(scope));
        for (place, subnet) in places() {
            for relay in &subnet.relays {
                relays.entry(*relay).or_insert(place);
            }
            if let Some(interface) = &subnet.interface {
                interfaces.entry(interface.clone()).or_insert(place);
            }
        }
        let turns = turns(places());
        Self { relays: relays.into_iter().collect(), interfaces: interfaces.into_iter().collect(), turns }
    }
}

impl Subnets {
    /// Puts `subnets` in order.
    pub fn new(mut subnets: Vec<Subnet>) -> Self {
        subnets.sort_by_key(|subnet| subnet.id);
        let guarded = subnets.iter().any(|subnet| !subnet.guard.is_open());
        let directory = Directory::new(&subnets, Scope::Primary);
        let of_secondary = guarded.then(|| Box::new(Directory::new(&subnets, Scope::Secondary)));
        Self { subnets, directory, of_secondary }
    }

    /// The subnet with `id`.
    pub fn with_id(&self, id: u32) -> Option<&Subnet> {
        self.subnets.binary_search_by_key(&id, |subnet| subnet.id).ok().map(|place| &self.subnets[place])
    }

    /// The first subnet whose prefix contains `address`, of those that let queries of `scope` in.
    pub fn containing(&self, address: Ipv4Addr, scope: Scope) -> Option<&Subnet> {
        let turns = &self.directory(scope).turns;
        let after = turns.partition_point(|(from, _)| *from <= u32::from(address));
        turns[after.checked_sub(1)?].1.map(|place| &self.subnets[place])
    }

    /// The first subnet whose prefix contains `address`, whatever its guard but for one that lets nobody in.
    pub fn containing_for_any(&self, address: Ipv4Addr) -> Option<&Subnet> {
        let found = Scope::ALL.into_iter().filter_map(|scope| self.containing(address, scope));
        found.min_by_key(|subnet| subnet.id)
    }

    /// The first subnet that lists `relay`, of those that let queries of `scope` in.
    pub fn of_relay(&self, relay: Ipv4Addr, scope: Scope) -> Option<&Subnet> {
        let relays = &self.directory(scope).relays;
        let found = relays.binary_search_by_key(&relay, |(relay, _)| *relay).ok()?;
        Some(&self.subnets[relays[found].1])
    }

    /// The first subnet that names `interface`, of those that let queries of `scope` in.
    pub fn on_interface(&self, interface: &str, scope: Scope) -> Option<&Subnet> {
        let interfaces = &self.directory(scope).interfaces;
        let found = interfaces.binary_search_by(|(name, _)| name.as_str().cmp(interface)).ok()?;
        Some(&self.subnets[interfaces[found].1])
    }

    fn directory(&self, scope: Scope) -> &Directory {
        match (scope, &self.of_secondary) {
            (Scope::Secondary, Some(directory)) => directory,
            _ => &self.directory,
        }
    }
}

impl Deref for Subnets {
    type Target = [Subnet];
    fn deref(&self) -> &[Subnet] {
        &self.subnets
    }
}

/// Prefixes may be nested: going up the addresses, the first of the subnets that are open holds.
fn turns<'s>(subnets: impl Iterator<Item = (usize, &'s Subnet)>) -> Vec<(u32, Option<usize>)> {
    // 64 bits wide, because the end of the last prefix lies behind the last address.
    let mut edges: BTreeMap<u64, Vec<(usize, bool)>> = BTreeMap::new();
    for (place, subnet) in subnets {
        let (first, last) = subnet.bounds();
        edges.entry(first.into()).or_default().push((place, true));
        edges.entry(u64::from(last) + 1).or_default().push((place, false));
    }
    let mut open = BTreeSet::new();
    let mut turns: Vec<(u32, Option<usize>)> = Vec::new();
    for (at, changes) in edges {
        for (place, opens) in changes {
            if opens {
                open.insert(place);
            } else {
                open.remove(&place);
            }
        }
        let first = open.first().copied();
        if let Ok(at) = u32::try_from(at)
            && turns.last().is_none_or(|(_, before)| *before != first)
        {
            turns.push((at, first));
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dhcp4::test_support::subnet;
    use crate::policy::Guard;

    fn any_subnets() -> impl Strategy<Value = Vec<Subnet>> {
        let guard = prop::sample::subsequence(Scope::ALL.to_vec(), 0..=2).prop_map(Guard::of);
        let guard = prop::option::weighted(0.3, guard);
        let relays = prop::collection::vec(0..4_u8, 0..3);
        let one = (0..8_u32, 24..=32_u8, relays, prop::option::of(0..2_u8), guard);
        prop::collection::vec(one, 0..12).prop_map(|listed| {
            type Listed = (u32, u8, Vec<u8>, Option<u8>, Option<Guard>);
            let made = |(index, (block, prefix_len, relays, interface, guard)): (usize, Listed)| {
                let mut subnet = subnet(40 - index as u32, 1, vec![]);
                // The highest address of all is among them.
                subnet.prefix = Ipv4Addr::from(u32::MAX - block * 37);
                subnet.prefix_len = prefix_len;
                subnet.relays = relays.into_iter().map(|relay| Ipv4Addr::new(10, 0, 0, relay)).collect();
                subnet.interface = interface.map(|number| format!("eth{number}"));
                subnet.guard = guard.unwrap_or(Guard::EVERYONE);
                subnet
            };
            listed.into_iter().enumerate().map(made).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_walk_finds(listed in any_subnets()) {
            let subnets = Subnets::new(listed.clone());
            prop_assert!(subnets.is_sorted_by(|one, other| one.id < other.id));
            for address in (u32::MAX - 700..=u32::MAX).map(Ipv4Addr::from) {
                let mut there = subnets.iter().filter(|subnet| subnet.guard != Guard::NOBODY);
                let first = there.find(|subnet| subnet.contains(address));
                prop_assert_eq!(subnets.containing_for_any(address), first);
            }
            for scope in Scope::ALL {
                let admitted = || subnets.iter().filter(|subnet| subnet.guard.admits(scope));
                let first = |wanted: &dyn Fn(&Subnet) -> bool| admitted().find(|subnet| wanted(subnet));
                for address in (u32::MAX - 700..=u32::MAX).chain([0]).map(Ipv4Addr::from) {
                    let found = subnets.containing(address, scope);
                    prop_assert_eq!(found, first(&|subnet| subnet.contains(address)));
                }
                for relay in (0..5).map(|last| Ipv4Addr::new(10, 0, 0, last)) {
                    let found = subnets.of_relay(relay, scope);
                    prop_assert_eq!(found, first(&|subnet| subnet.relays.contains(&relay)));
                }
                for name in ["eth0", "eth1", "eth2"] {
                    let named = |subnet: &Subnet| subnet.interface.as_deref() == Some(name);
                    prop_assert_eq!(subnets.on_interface(name, scope), first(&named));
                }
            }
            for id in 20..=41 {
                prop_assert_eq!(subnets.with_id(id), subnets.iter().find(|subnet| subnet.id == id));
            }
        }
    }
}
