//! What a run is to be, as plain data; the report repeats it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::attach::Attachment;
use crate::identity::{IdentityKind, Mac};
use crate::scenario::Scenario;

/// A run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Settings {
    /// How clients reach the server.
    pub attachment: Attachment,
    /// What they do.
    pub scenario: Scenario,
    /// What tells them apart.
    pub identity: IdentityKind,
    /// Hardware address of client 0, as text.
    pub base: String,
    /// Clients.
    pub clients: u32,
    /// Clients beside them that come and go (near-full).
    pub newcomers: u32,
    /// Exchanges a second; all at once in scenarios that say so.
    pub rate: f64,
    /// Exchanges a second while leases are prepared.
    pub prepare_rate: f64,
    /// Renewals a second of `rate` (mixed).
    pub renew_rate: f64,
    /// Releases a second of `rate` (mixed).
    pub release_rate: f64,
    /// Seconds, warm-up not included.
    pub length_s: f64,
    /// Measured exchanges at most.
    pub count: Option<u64>,
    /// Seconds before measuring begins.
    pub warm_up_s: f64,
    /// Seconds after which an answer is given up.
    pub drop_s: f64,
    /// Ends the run early.
    pub drop_limit: Option<DropLimit>,
    /// Seconds between reports.
    pub interval_s: f64,
    /// Sending threads.
    pub senders: u8,
    /// Processors the senders are pinned to, in turn; not pinned if empty.
    pub cpus: Vec<usize>,
    /// Whether an exchange ends with its OFFER.
    pub offer_only: bool,
    /// Whether clients ask for replies by broadcast.
    pub broadcast: bool,
    /// Options added to DISCOVER and REQUEST.
    pub options: Vec<(u8, Vec<u8>)>,
    /// Where transaction ids begin.
    pub seed: u64,
    /// What is done to the server meanwhile.
    pub event: Option<Event>,
}

/// Drops at which a run is of no more use.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropLimit {
    /// So many exchanges.
    Count(u64),
    /// This share of those started, 0 to 1, counted from the tenth on.
    Share(f64),
}

/// A shell command at a point of the run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Event {
    /// Seconds after measuring begins.
    pub at_s: f64,
    /// For `sh -c`.
    pub command: String,
}

impl Settings {
    /// giaddr of each relay; none for direct clients.
    pub fn relays(&self) -> &[Ipv4Addr] {
        match &self.attachment {
            Attachment::Direct { .. } => &[],
            Attachment::Relayed { relays, .. } => relays,
        }
    }

    /// Client 0's hardware address.
    ///
    /// # Errors
    /// When the text is none.
    pub fn base_mac(&self) -> Result<Mac, String> {
        self.base.parse()
    }

    /// Clients of sender `sender`: those whose number leaves `sender` as remainder, so that the shares of a
    /// plan and the shares of the clients agree. Prepared clients and newcomers apart.
    pub fn clients_of(&self, sender: u8) -> (usize, usize) {
        let share =
            |all: u32| all.saturating_sub(u32::from(sender)).div_ceil(u32::from(self.senders)) as usize;
        (share(self.clients), share(self.newcomers))
    }
}

/// Seconds as nanoseconds; what is below 0 or not a number is 0.
pub fn nanoseconds(seconds: f64) -> u64 {
    // A float becomes the nearest integer in range, and NaN 0, by the rules of `as`.
    (seconds * 1e9) as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small run of one sender.
    pub fn small() -> Settings {
        Settings {
            attachment: Attachment::Direct { interface: "none".into() },
            scenario: Scenario::Dora,
            identity: IdentityKind::Mac,
            base: Mac::default().to_string(),
            clients: 100,
            newcomers: 0,
            rate: 1000.0,
            prepare_rate: 1000.0,
            renew_rate: 0.0,
            release_rate: 0.0,
            length_s: 1.0,
            count: None,
            warm_up_s: 0.0,
            drop_s: 0.5,
            drop_limit: None,
            interval_s: 0.25,
            senders: 1,
            cpus: Vec::new(),
            offer_only: false,
            broadcast: false,
            options: Vec::new(),
            seed: 1,
            event: None,
        }
    }

    #[test]
    fn clients_are_shared_without_a_rest() {
        for (clients, senders) in [(1, 1), (100, 3), (2, 5), (7, 7), (1000, 4)] {
            let settings = Settings { clients, newcomers: 9, senders, ..small() };
            let shares: Vec<_> = (0..senders).map(|sender| settings.clients_of(sender)).collect();
            assert_eq!(shares.iter().map(|share| share.0).sum::<usize>(), clients as usize, "{senders}");
            assert_eq!(shares.iter().map(|share| share.1).sum::<usize>(), 9, "{senders}");
        }
    }
}
