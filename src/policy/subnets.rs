//! All subnets of a configuration, and where each address, relay and interface leads.
//!
//! A server of many relays is asked for a subnet with every query, so that is found without a walk over them.
//! Invariants: subnets are in ascending id; what leads to several leads to the first of them (ALC-1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Deref;

use super::Subnet;

/// The subnets in ascending id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subnets {
    subnets: Vec<Subnet>,
    /// Relay and the first subnet that lists it, ascending.
    relays: Vec<(Ipv4Addr, usize)>,
    /// Interface name and the first subnet that names it, ascending.
    interfaces: Vec<(String, usize)>,
    /// Where what contains the addresses changes: from this address on it is that subnet, or none; ascending.
    turns: Vec<(u32, Option<usize>)>,
}

impl Subnets {
    /// Puts `subnets` in order.
    pub fn new(mut subnets: Vec<Subnet>) -> Self {
        subnets.sort_by_key(|subnet| subnet.id);
        let mut relays = BTreeMap::new();
        let mut interfaces = BTreeMap::new();
        for (place, subnet) in subnets.iter().enumerate() {
            for relay in &subnet.relays {
                relays.entry(*relay).or_insert(place);
            }
            if let Some(interface) = &subnet.interface {
                interfaces.entry(interface.clone()).or_insert(place);
            }
        }
        let turns = turns(&subnets);
        let (relays, interfaces) = (relays.into_iter().collect(), interfaces.into_iter().collect());
        Self { subnets, relays, interfaces, turns }
    }

    /// The subnet with `id`.
    pub fn with_id(&self, id: u32) -> Option<&Subnet> {
        self.subnets.binary_search_by_key(&id, |subnet| subnet.id).ok().map(|place| &self.subnets[place])
    }

    /// The first subnet whose prefix contains `address`.
    pub fn containing(&self, address: Ipv4Addr) -> Option<&Subnet> {
        let after = self.turns.partition_point(|(from, _)| *from <= u32::from(address));
        self.turns[after.checked_sub(1)?].1.map(|place| &self.subnets[place])
    }

    /// The first subnet that lists `relay`.
    pub fn of_relay(&self, relay: Ipv4Addr) -> Option<&Subnet> {
        let found = self.relays.binary_search_by_key(&relay, |(relay, _)| *relay).ok()?;
        Some(&self.subnets[self.relays[found].1])
    }

    /// The first subnet that names `interface`.
    pub fn on_interface(&self, interface: &str) -> Option<&Subnet> {
        let found = self.interfaces.binary_search_by(|(name, _)| name.as_str().cmp(interface)).ok()?;
        Some(&self.subnets[self.interfaces[found].1])
    }
}

impl Deref for Subnets {
    type Target = [Subnet];
    fn deref(&self) -> &[Subnet] {
        &self.subnets
    }
}

/// Prefixes may be nested: going up the addresses, the first of the subnets that are open holds.
fn turns(subnets: &[Subnet]) -> Vec<(u32, Option<usize>)> {
    // 64 bits wide, because the end of the last prefix lies behind the last address.
    let mut edges: BTreeMap<u64, Vec<(usize, bool)>> = BTreeMap::new();
    for (place, subnet) in subnets.iter().enumerate() {
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

    fn any_subnets() -> impl Strategy<Value = Vec<Subnet>> {
        let one = (0..8_u32, 24..=32_u8, prop::collection::vec(0..4_u8, 0..3), prop::option::of(0..2_u8));
        prop::collection::vec(one, 0..12).prop_map(|listed| {
            type Listed = (u32, u8, Vec<u8>, Option<u8>);
            let made = |(index, (block, prefix_len, relays, interface)): (usize, Listed)| {
                let mut subnet = subnet(40 - index as u32, 1, vec![]);
                // The highest address of all is among them.
                subnet.prefix = Ipv4Addr::from(u32::MAX - block * 37);
                subnet.prefix_len = prefix_len;
                subnet.relays = relays.into_iter().map(|relay| Ipv4Addr::new(10, 0, 0, relay)).collect();
                subnet.interface = interface.map(|number| format!("eth{number}"));
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
            let first = |wanted: &dyn Fn(&Subnet) -> bool| subnets.iter().find(|subnet| wanted(subnet));
            for address in (u32::MAX - 700..=u32::MAX).chain([0]).map(Ipv4Addr::from) {
                prop_assert_eq!(subnets.containing(address), first(&|subnet| subnet.contains(address)));
            }
            for relay in (0..5).map(|last| Ipv4Addr::new(10, 0, 0, last)) {
                prop_assert_eq!(subnets.of_relay(relay), first(&|subnet| subnet.relays.contains(&relay)));
            }
            for name in ["eth0", "eth1", "eth2"] {
                let named = |subnet: &Subnet| subnet.interface.as_deref() == Some(name);
                prop_assert_eq!(subnets.on_interface(name), first(&named));
            }
            for id in 20..=41 {
                prop_assert_eq!(subnets.with_id(id), first(&|subnet| subnet.id == id));
            }
        }
    }
}
