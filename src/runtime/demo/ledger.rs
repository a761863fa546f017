//! What clients saw acknowledged: the promises that the lease files must hold.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

/// Violations that are named; the others are only counted.
const NAMED_MAX: usize = 5;

/// One acknowledged lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Promise {
    /// Who has it.
    pub(super) chaddr: [u8; 6],
    /// Until when at least, seconds since the epoch.
    pub(super) until_wall_s: u64,
}

/// Every acknowledged lease by address, and what should never have happened.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    promises: BTreeMap<Ipv4Addr, Promise>,
    addresses: HashMap<[u8; 6], Ipv4Addr>,
    violations: Violations,
}

/// Things that should never happen: the first few by name, all by number.
#[derive(Debug, Default)]
pub(super) struct Violations {
    named: Vec<String>,
    count: usize,
}

impl Violations {
    /// Notes one more.
    pub(super) fn push(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(text());
        }
    }

    /// The texts, with a last one for those that are not named.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut texts = self.named.clone();
        if self.count > self.named.len() {
            texts.push(format!("… and {} more of this kind", self.count - self.named.len()));
        }
        texts
    }
}

impl Ledger {
    /// `chaddr` saw `address` acknowledged until `until_wall_s` at least.
    pub(super) fn acknowledged(&mut self, chaddr: [u8; 6], address: Ipv4Addr, until_wall_s: u64) {
        if let Some(before) = self.addresses.insert(chaddr, address)
            && before != address
        {
            self.violations.push(|| format!("client {} had {before} and got {address}", text(chaddr)));
        }
        let promise = Promise { chaddr, until_wall_s };
        if let Some(before) = self.promises.insert(address, promise)
            && before.chaddr != chaddr
        {
            let [one, other] = [before.chaddr, chaddr].map(text);
            self.violations.push(|| format!("{address} was acknowledged to two clients, {one} and {other}"));
        }
    }

    /// `chaddr` was told that it cannot have `address`, or nobody extended it.
    pub(super) fn refused(&mut self, chaddr: [u8; 6], address: Ipv4Addr) {
        if self.addresses.get(&chaddr) == Some(&address) {
            self.violations.push(|| format!("client {} lost its lease of {address}", text(chaddr)));
        }
    }

    /// Acknowledged leases.
    pub(super) fn promises(&self) -> &BTreeMap<Ipv4Addr, Promise> {
        &self.promises
    }

    /// What should never have happened, in words.
    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.texts()
    }
}

/// A hardware address as people write it.
pub(super) fn text(chaddr: [u8; 6]) -> String {
    chaddr.map(|octet| format!("{octet:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 1, last)
    }

    #[test]
    fn the_latest_promise_of_an_address_counts() {
        let mut ledger = Ledger::default();
        ledger.acknowledged(ONE, address(1), 100);
        ledger.acknowledged(ONE, address(1), 200);
        ledger.acknowledged(OTHER, address(2), 150);
        ledger.refused(OTHER, address(7));
        assert_eq!(ledger.promises()[&address(1)], Promise { chaddr: ONE, until_wall_s: 200 });
        assert_eq!(ledger.promises().len(), 2);
        assert_eq!(ledger.violations(), Vec::<String>::new());
    }

    #[test]
    fn what_should_never_happen_is_named() {
        let mut ledger = Ledger::default();
        ledger.acknowledged(ONE, address(1), 100);
        ledger.acknowledged(OTHER, address(1), 100);
        ledger.acknowledged(ONE, address(2), 100);
        ledger.refused(ONE, address(2));
        assert_eq!(
            ledger.violations(),
            [
                "198.18.1.1 was acknowledged to two clients, 02:00:00:00:00:01 and 02:00:00:00:00:02",
                "client 02:00:00:00:00:01 had 198.18.1.1 and got 198.18.1.2",
                "client 02:00:00:00:00:01 lost its lease of 198.18.1.2",
            ]
        );
        for _ in 0..10 {
            ledger.refused(ONE, address(2));
        }
        assert_eq!(ledger.violations().last().unwrap(), "… and 8 more of this kind");
    }
}
