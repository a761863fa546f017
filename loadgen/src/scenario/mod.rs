//! What clients do, as a table: what is prepared, what an exchange is, whether clients try again (pure).

pub mod choose;

use serde::{Deserialize, Serialize};

/// What clients do.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Everyone at once after a power cut, trying again until served.
    Avalanche,
    /// New clients: DISCOVER, OFFER, REQUEST, ACK.
    #[default]
    #[value(alias = "basic")]
    Dora,
    /// New clients and renewals that try again, as the partner of a dead server needs in order to notice.
    HaTakeover,
    /// Clients with a lease that have restarted.
    InitReboot,
    /// New clients, renewals and releases at the rates given.
    Mixed,
    /// New clients that leave at once, beside clients that fill the pool.
    NearFull,
    /// REQUESTs with ciaddr to everyone.
    Rebind,
    /// REQUESTs with ciaddr to the server of the lease.
    Renew,
}

/// One kind of exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exchange {
    /// DISCOVER to ACK.
    Dora,
    /// INIT-REBOOT.
    Reboot,
    /// REBINDING.
    Rebind,
    /// RELEASE, which has no answer.
    Release,
    /// RENEWING.
    Renew,
}

/// What distinguishes one scenario from another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Definition {
    /// Whether the clients get their leases before measuring begins.
    pub prepares: bool,
    /// Whether all exchanges are planned at the start.
    pub together: bool,
    /// Whether a client without an answer tries again.
    pub retries: bool,
    /// Whether a client gives its lease back as soon as it has it.
    pub releases: bool,
    /// Whether exchanges are those of clients beside the prepared ones.
    pub newcomers: bool,
    /// What most exchanges are.
    pub main: Exchange,
    /// What every second exchange is instead.
    pub second: Option<Exchange>,
}

impl Scenario {
    /// Its row.
    pub fn definition(self) -> Definition {
        let plain = Definition {
            prepares: true,
            together: false,
            retries: false,
            releases: false,
            newcomers: false,
            main: Exchange::Dora,
            second: None,
        };
        match self {
            Self::Avalanche => Definition { prepares: false, together: true, retries: true, ..plain },
            Self::Dora => Definition { prepares: false, ..plain },
            Self::HaTakeover => Definition { retries: true, second: Some(Exchange::Renew), ..plain },
            Self::InitReboot => Definition { main: Exchange::Reboot, ..plain },
            Self::Mixed => plain,
            Self::NearFull => Definition { releases: true, newcomers: true, ..plain },
            Self::Rebind => Definition { main: Exchange::Rebind, ..plain },
            Self::Renew => Definition { main: Exchange::Renew, ..plain },
        }
    }
}

/// Messages sent for one step before a client falls back to the step before it.
pub const ATTEMPTS_MAX: u8 = 3;

/// How long a client waits for an answer before it tries again, nanoseconds, by the number of messages sent.
/// (RFC 2131 section 4.1).
pub const BACKOFF_NS: [u64; 5] =
    [4 * SECOND_NS, 8 * SECOND_NS, 16 * SECOND_NS, 32 * SECOND_NS, 64 * SECOND_NS];

/// Each wait is up to this much shorter or longer, nanoseconds.
pub const JITTER_NS: u64 = SECOND_NS;

/// How long a client waits after a NAK before it begins anew, nanoseconds.
pub const AFTER_NAK_NS: u64 = SECOND_NS;

const SECOND_NS: u64 = 1_000_000_000;
