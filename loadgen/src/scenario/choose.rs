//! Which client does what next (pure).

use std::net::Ipv4Addr;

use super::{Definition, Exchange};

/// One simulated client as its sender knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Client {
    /// Address it holds; 0.0.0.0 if none.
    pub address: Ipv4Addr,
    /// Server of that lease.
    pub server: Ipv4Addr,
    /// Exchanges under way.
    pub busy: u16,
}

impl Client {
    /// A client with nothing.
    pub const NEW: Self = Self { address: Ipv4Addr::UNSPECIFIED, server: Ipv4Addr::UNSPECIFIED, busy: 0 };

    /// Whether it holds an address.
    pub fn holds(&self) -> bool {
        !self.address.is_unspecified()
    }
}

/// Shares of exchanges that are something else than the main kind, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Renewals.
    pub renew: f64,
    /// Releases.
    pub release: f64,
}

/// Clients looked at for one that is fit before the exchange becomes a DORA.
const LOOKS_MAX: usize = 64;

/// Takes turns among clients and kinds of exchange.
#[derive(Clone, Debug)]
pub struct Chooser {
    main: Exchange,
    second: Option<Exchange>,
    shares: Shares,
    /// Clients from this one on start DORAs.
    newcomers_from: usize,
    /// Next client of each kind of exchange; they start apart so that one kind does not undo another's work.
    next_new: usize,
    next_holder: usize,
    next_leaver: usize,
    count: u64,
    renew_debt: f64,
    release_debt: f64,
}

impl Chooser {
    /// For `clients` clients, of whom those from `newcomers_from` on are newcomers.
    pub fn new(definition: &Definition, shares: Shares, clients: usize, newcomers_from: usize) -> Self {
        let newcomers_from =
            if definition.newcomers { newcomers_from.min(clients.saturating_sub(1)) } else { 0 };
        Self {
            main: definition.main,
            second: definition.second,
            shares,
            newcomers_from,
            next_new: newcomers_from,
            next_holder: clients / 3,
            next_leaver: clients * 2 / 3,
            count: 0,
            renew_debt: 0.0,
            release_debt: 0.0,
        }
    }

    /// Client and kind of the next exchange. Where no client that is fit is found soon, a new one asks.
    pub fn next(&mut self, clients: &[Client]) -> (usize, Exchange) {
        let kind = self.kind();
        let cursor = match kind {
            Exchange::Dora => None,
            Exchange::Release => Some(&mut self.next_leaver),
            Exchange::Reboot | Exchange::Rebind | Exchange::Renew => Some(&mut self.next_holder),
        };
        if let Some(cursor) = cursor {
            for _ in 0..LOOKS_MAX {
                let place = *cursor % clients.len();
                *cursor = place + 1;
                if clients[place].holds() && clients[place].busy == 0 {
                    return (place, kind);
                }
            }
        }
        if self.next_new >= clients.len() {
            self.next_new = self.newcomers_from;
        }
        self.next_new += 1;
        (self.next_new - 1, Exchange::Dora)
    }

    fn kind(&mut self) -> Exchange {
        self.count += 1;
        self.renew_debt += self.shares.renew;
        self.release_debt += self.shares.release;
        if self.renew_debt >= 1.0 {
            self.renew_debt -= 1.0;
            return Exchange::Renew;
        }
        if self.release_debt >= 1.0 {
            self.release_debt -= 1.0;
            return Exchange::Release;
        }
        match self.second {
            Some(second) if self.count.is_multiple_of(2) => second,
            _ => self.main,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    const HOLDER: Client =
        Client { address: Ipv4Addr::new(10, 0, 0, 1), server: Ipv4Addr::new(10, 0, 0, 2), busy: 0 };

    fn kinds(scenario: Scenario, shares: Shares, client: Client) -> [usize; 5] {
        let clients = [client; 30];
        let mut chooser = Chooser::new(&scenario.definition(), shares, clients.len(), 20);
        let mut counts = [0; 5];
        for _ in 0..1000 {
            let (place, kind) = chooser.next(&clients);
            assert!(place < clients.len());
            assert!(!scenario.definition().newcomers || place >= 20, "{place}");
            counts[kind as usize] += 1;
        }
        counts
    }

    #[test]
    fn kinds_come_in_the_shares_asked_for() {
        let none = Shares::default();
        let mixed = Shares { renew: 0.5, release: 0.1 };
        let busy = Client { busy: 1, ..HOLDER };
        let cases = [
            ("dora", Scenario::Dora, none, HOLDER, [1000, 0, 0, 0, 0]),
            ("reboot", Scenario::InitReboot, none, HOLDER, [0, 1000, 0, 0, 0]),
            ("rebind", Scenario::Rebind, none, HOLDER, [0, 0, 1000, 0, 0]),
            ("renew", Scenario::Renew, none, HOLDER, [0, 0, 0, 0, 1000]),
            ("take-over", Scenario::HaTakeover, none, HOLDER, [500, 0, 0, 0, 500]),
            ("near full", Scenario::NearFull, none, HOLDER, [1000, 0, 0, 0, 0]),
            ("nobody holds", Scenario::Renew, none, Client::NEW, [1000, 0, 0, 0, 0]),
            ("all busy", Scenario::Rebind, none, busy, [1000, 0, 0, 0, 0]),
        ];
        for (case, scenario, shares, client, expected) in cases {
            assert_eq!(kinds(scenario, shares, client), expected, "{case}");
        }
        let [dora, _, _, release, renew] = kinds(Scenario::Mixed, mixed, HOLDER);
        assert!(dora.abs_diff(400) <= 1 && release.abs_diff(100) <= 1 && renew.abs_diff(500) <= 1);
    }

    #[test]
    fn new_clients_come_in_turn() {
        let clients = [Client::NEW; 3];
        let mut chooser = Chooser::new(&Scenario::Dora.definition(), Shares::default(), 3, 0);
        let places: Vec<usize> = (0..7).map(|_| chooser.next(&clients).0).collect();
        assert_eq!(places, [0, 1, 2, 0, 1, 2, 0]);
    }
}
