//! What is configured in one measurement: the key of a cell, and the kind of cells it is compared with.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Role;

/// Which server is under load.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// No DHCP at all: the ceiling of the machine.
    Reflector,
    /// Ours.
    Tandem,
    /// Kea, as installed.
    Kea,
    /// dnsmasq, as installed.
    Dnsmasq,
    /// ISC's dhcpd, as installed.
    Dhcpd,
    /// Whatever answers at an address that was given; what it is was not for us to choose.
    Remote,
}

/// What an ACK waits for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Stable storage.
    Synced,
    /// The kernel.
    Written,
}

/// How clients reach the server.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Attachment {
    /// Behind one relay.
    Relayed,
    /// As neighbours on its link.
    Direct,
}

/// How the servers of a pair speak.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// HTTP.
    Plain,
    /// HTTP over TLS, both sides with certificates.
    Tls,
}

/// A hot-standby pair, with load on its primary, which is the cell's server.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Ha {
    /// How they speak.
    pub channel: Channel,
    /// `http-listener-threads` of both.
    pub listeners: u16,
    /// `http-client-threads` of both.
    pub senders: u16,
    /// What the standby is, if it is not the same as the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner: Option<Server>,
}

/// What is configured in one measurement.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Cell {
    /// The server.
    pub server: Server,
    /// `thread-pool-size`; `None` where a server has no such thing, or where it is not known.
    pub threads: Option<u16>,
    /// `packet-queue-size`; `None` likewise.
    pub queue: Option<u32>,
    /// What an ACK waits for. Kea's memfile knows only `written`; dnsmasq and dhcpd only `synced`. Of a remote
    /// server it is what the person who measures says.
    pub durability: Durability,
    /// The pair; `None` for one server alone.
    pub ha: Option<Ha>,
    /// How clients reach it.
    pub attachment: Attachment,
}

/// What cells must have in common to be compared by threads and queue, and by listeners and senders.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Kind {
    /// The server.
    pub server: Server,
    /// What an ACK waits for.
    pub durability: Durability,
    /// How the pair speaks; `None` for one server alone.
    pub channel: Option<Channel>,
    /// What the standby is, if it is not the same as the primary.
    pub partner: Option<Server>,
    /// How clients reach it.
    pub attachment: Attachment,
}

impl Cell {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        let Self { server, durability, attachment, .. } = *self;
        let (channel, partner) = (self.ha.map(|ha| ha.channel), self.ha.and_then(|ha| ha.partner));
        Kind { server, durability, channel, partner, attachment }
    }

    /// What plays `role` in it.
    pub fn server_of(&self, role: Role) -> Server {
        match role {
            Role::Primary => self.server,
            Role::Standby => self.ha.and_then(|ha| ha.partner).unwrap_or(self.server),
        }
    }

    /// What is to be configured, smaller before larger: of two cells as good as each other the smaller is
    /// better.
    pub fn size(&self) -> (Option<u16>, Option<u32>, Option<(u16, u16)>) {
        (self.threads, self.queue, self.ha.map(|ha| (ha.listeners, ha.senders)))
    }

    /// A name for people.
    pub fn name(&self) -> String {
        let mut parts = vec![self.server.name().to_owned()];
        parts.extend(self.threads.map(|threads| format!("threads {threads}")));
        parts.extend(self.queue.map(|queue| format!("queue {queue}")));
        if self.server == Server::Tandem {
            parts.push(self.durability.name().to_owned());
        }
        if let Some(ha) = self.ha {
            let pair = ha.partner.map_or("pair".to_owned(), |partner| format!("{} standby", partner.name()));
            parts.push(format!(
                "{pair} {} with {} listeners and {} senders",
                ha.channel.name(),
                ha.listeners,
                ha.senders
            ));
        }
        if self.attachment == Attachment::Direct {
            parts.push("direct clients".to_owned());
        }
        parts.join(", ")
    }
}

impl Kind {
    /// One server alone with clients behind a relay.
    pub fn single(server: Server, durability: Durability) -> Self {
        Self { server, durability, channel: None, partner: None, attachment: Attachment::Relayed }
    }

    /// The same without a partner.
    pub fn alone(self) -> Self {
        Self { channel: None, partner: None, ..self }
    }
}

impl Server {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reflector => "bare reflector",
            Self::Tandem => "Tandem",
            Self::Kea => "Kea",
            Self::Dnsmasq => "dnsmasq",
            Self::Dhcpd => "ISC dhcpd",
            Self::Remote => "server by address",
        }
    }
}

impl Channel {
    /// How it is said after "pair".
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "over plain HTTP",
            Self::Tls => "over TLS",
        }
    }
}

impl Durability {
    /// Its value in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Written => "written",
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Cell = Cell {
        server: Server::Tandem,
        threads: Some(2),
        queue: Some(64),
        durability: Durability::Synced,
        ha: None,
        attachment: Attachment::Relayed,
    };

    #[test]
    fn a_name_says_what_is_configured_and_nothing_else() {
        let ha = Some(Ha { channel: Channel::Tls, listeners: 4, senders: 2, partner: None });
        let mixed = ha.map(|ha| Ha { partner: Some(Server::Kea), ..ha });
        let none = Cell { threads: None, queue: None, ..ALONE };
        let table = [
            (ALONE, "Tandem, threads 2, queue 64, synced"),
            (Cell { server: Server::Kea, ..ALONE }, "Kea, threads 2, queue 64"),
            (Cell { server: Server::Dhcpd, ..none }, "ISC dhcpd"),
            (
                Cell { server: Server::Reflector, attachment: Attachment::Direct, ..none },
                "bare reflector, direct clients",
            ),
            (
                Cell { ha, ..ALONE },
                "Tandem, threads 2, queue 64, synced, pair over TLS with 4 listeners and 2 senders",
            ),
            (
                Cell { ha: mixed, ..ALONE },
                "Tandem, threads 2, queue 64, synced, Kea standby over TLS with 4 listeners and 2 senders",
            ),
        ];
        for (cell, name) in table {
            assert_eq!(cell.name(), name);
        }
    }

    #[test]
    fn cells_of_one_kind_differ_in_size_alone() {
        let pair = |listeners| Some(Ha { channel: Channel::Tls, listeners, senders: 1, partner: None });
        let mixed = pair(1).map(|ha| Ha { partner: Some(Server::Kea), ..ha });
        assert_ne!(Cell { ha: mixed, ..ALONE }.kind(), Cell { ha: pair(1), ..ALONE }.kind());
        assert_eq!(Cell { ha: mixed, ..ALONE }.kind().alone(), ALONE.kind());
        assert_eq!(Cell { ha: mixed, ..ALONE }.server_of(Role::Standby), Server::Kea);
        assert_eq!(ALONE.kind(), Cell { threads: Some(4), queue: Some(16), ..ALONE }.kind());
        assert_eq!(Cell { ha: pair(1), ..ALONE }.kind(), Cell { ha: pair(4), ..ALONE }.kind());
        assert!(Cell { ha: pair(1), ..ALONE }.size() < Cell { ha: pair(4), ..ALONE }.size());
        let others = [
            Cell { server: Server::Kea, ..ALONE },
            Cell { durability: Durability::Written, ..ALONE },
            Cell { ha: pair(1), ..ALONE },
            Cell { attachment: Attachment::Direct, ..ALONE },
        ];
        for other in others {
            assert_ne!(other.kind(), ALONE.kind(), "{other}");
        }
    }
}
