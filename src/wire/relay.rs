//! Option 82, relay agent information (RFC 3046): its sub-options, read in place.

use std::net::Ipv4Addr;

use crate::wire::codes::relay_agent;
use crate::wire::option::{SubOptionWalk, read_address};

/// The payload of option 82.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RelayInfo<'a> {
    payload: &'a [u8],
}

impl<'a> RelayInfo<'a> {
    /// Views `payload`; a sub-option that is cut off ends the list.
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { payload }
    }

    /// The payload, to be echoed octet for octet (PKT-47).
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// All sub-options in order.
    pub const fn sub_options(&self) -> SubOptionWalk<'a> {
        SubOptionWalk::new(self.payload)
    }

    /// The first sub-option with `code`.
    pub fn sub_option(&self, code: u8) -> Option<&'a [u8]> {
        self.sub_options().find(|(found, _)| *found == code).map(|(_, payload)| payload)
    }

    /// Circuit-id.
    pub fn circuit_id(&self) -> Option<&'a [u8]> {
        self.sub_option(relay_agent::CIRCUIT_ID)
    }

    /// Remote-id.
    pub fn remote_id(&self) -> Option<&'a [u8]> {
        self.sub_option(relay_agent::REMOTE_ID)
    }

    /// Relay-id (RFC 6925).
    pub fn relay_id(&self) -> Option<&'a [u8]> {
        self.sub_option(relay_agent::RELAY_ID)
    }

    /// Link selection (RFC 3527), if it has exactly four octets (ALC-2).
    pub fn link_selection(&self) -> Option<Ipv4Addr> {
        self.sub_option(relay_agent::LINK_SELECTION).and_then(read_address)
    }

    /// Server identifier override (RFC 5107), if it has four octets.
    pub fn server_id_override(&self) -> Option<Ipv4Addr> {
        self.sub_option(relay_agent::SERVER_ID_OVERRIDE).and_then(read_address)
    }

    /// Whether replies go to the source port of the query (RFC 8357).
    pub fn has_relay_port(&self) -> bool {
        self.sub_option(relay_agent::RELAY_PORT).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_options_are_found_and_lengths_checked() {
        let info = RelayInfo::new(&[1, 2, 7, 8, 5, 4, 192, 0, 2, 0, 11, 3, 1, 2, 3, 19, 0, 12, 9, 1]);
        assert_eq!(info.circuit_id(), Some(&[7, 8][..]));
        assert_eq!(info.remote_id(), None);
        assert_eq!(info.link_selection(), Some(Ipv4Addr::new(192, 0, 2, 0)));
        assert_eq!(info.server_id_override(), None, "three octets are not an address");
        assert!(info.has_relay_port());
        assert_eq!(info.relay_id(), None, "a sub-option that is cut off does not count");
    }
}
