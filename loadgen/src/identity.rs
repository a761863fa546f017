//! Who the simulated clients say they are: hardware address, client identifier, relay circuit (pure).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What distinguishes one client from the next.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityKind {
    /// Option 82 sub-option 1 beside the hardware address; needs a relay.
    CircuitId,
    /// Option 61 as RFC 4361 has it (IAID and DUID-LL) beside the hardware address.
    ClientId,
    /// The hardware address alone.
    #[default]
    Mac,
}

/// Ethernet hardware address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mac(pub [u8; 6]);

/// The client a number stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Address of client 0; the others count up from it.
    pub base: Mac,
    /// What is sent beside it.
    pub kind: IdentityKind,
}

/// Octets of an RFC 4361 client identifier over DUID-LL: type, IAID, DUID type, hardware type, address.
pub const CLIENT_ID_OCTETS: usize = 1 + 4 + 2 + 2 + 6;
/// Octets of a circuit id: `port-` and eight hexadecimal digits.
pub const CIRCUIT_ID_OCTETS: usize = 13;

impl Identity {
    /// Hardware address of client `client`.
    pub fn mac(&self, client: u32) -> [u8; 6] {
        let [a, b, c, d, e, f] = self.base.0;
        let number = u64::from_be_bytes([0, 0, a, b, c, d, e, f]) + u64::from(client);
        let [_, _, a, b, c, d, e, f] = number.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// Payload of option 61 of client `client`.
    pub fn client_id(&self, client: u32) -> [u8; CLIENT_ID_OCTETS] {
        let mut id = [0; CLIENT_ID_OCTETS];
        id[0] = 255;
        id[1..5].copy_from_slice(&client.to_be_bytes());
        id[5..9].copy_from_slice(&[0, 3, 0, 1]);
        id[9..].copy_from_slice(&self.mac(client));
        id
    }

    /// Sub-option 1 of option 82 of client `client`.
    pub fn circuit_id(&self, client: u32) -> [u8; CIRCUIT_ID_OCTETS] {
        let mut id = *b"port-00000000";
        for (place, digit) in id[5..].iter_mut().enumerate() {
            let nibble = (client >> (28 - 4 * place)) & 0xf;
            *digit = b"0123456789abcdef"[nibble as usize];
        }
        id
    }
}

impl Default for Mac {
    /// Locally administered, so that no client of the generator is ever a real one.
    fn default() -> Self {
        Self([0x02, 0x00, 0x0c, 0, 0, 0])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Six hexadecimal octets with colons, after an optional `mac=` (perfdhcp's `-b`).
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a base address such as mac=02:00:0c:00:00:00");
        let octets: Vec<u8> = text
            .strip_prefix("mac=")
            .unwrap_or(text)
            .split(':')
            .map(|part| u8::from_str_radix(part, 16).map_err(|_| bad()))
            .collect::<Result<_, _>>()?;
        octets.try_into().map(Self).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_count_up_and_carry_over() {
        let identity = Identity { base: "mac=00:0c:01:02:fe:ff".parse().unwrap(), kind: IdentityKind::Mac };
        assert_eq!(identity.mac(0), [0, 0x0c, 1, 2, 0xfe, 0xff]);
        assert_eq!(identity.mac(1), [0, 0x0c, 1, 2, 0xff, 0]);
        assert_eq!(identity.mac(0x101), [0, 0x0c, 1, 3, 0, 0]);
        assert_eq!(&identity.circuit_id(0xab01), b"port-0000ab01");
        assert_eq!(
            identity.client_id(1),
            [255, 0, 0, 0, 1, 0, 3, 0, 1, 0, 0x0c, 1, 2, 0xff, 0],
            "type, IAID, DUID-LL over Ethernet"
        );
    }

    #[test]
    fn a_base_that_is_not_one_is_refused() {
        for text in ["", "mac=", "1:2:3:4:5", "1:2:3:4:5:6:7", "mac=1:2:3:4:5:gg", "duid=1:2:3:4:5:6"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
