//! Ethernet, IPv4 and UDP around a DHCP message, written and read by hand: a client that has no address yet has
//! no socket that could do it.

use std::net::Ipv4Addr;

/// The Ethernet broadcast address.
pub const BROADCAST_MAC: [u8; 6] = [0xff; 6];

/// A UDP datagram in its frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Ethernet destination and source.
    pub destination_mac: [u8; 6],
    pub source_mac: [u8; 6],
    /// IP source and destination.
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// UDP ports.
    pub source_port: u16,
    pub destination_port: u16,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The octets on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let udp_length = 8 + self.payload.len();
        let mut ip = vec![0x45, 0x10, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        ip[2..4].copy_from_slice(&((20 + udp_length) as u16).to_be_bytes());
        ip.extend(self.source.octets());
        ip.extend(self.destination.octets());
        let checksum = internet_checksum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());

        let mut frame = Vec::with_capacity(14 + ip.len() + udp_length);
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        frame.extend([0x08, 0x00]);
        frame.extend(ip);
        frame.extend(self.source_port.to_be_bytes());
        frame.extend(self.destination_port.to_be_bytes());
        frame.extend((udp_length as u16).to_be_bytes());
        // A zero UDP checksum means that there is none (RFC 768).
        frame.extend([0, 0]);
        frame.extend(&self.payload);
        frame
    }

    /// Reads a frame; `None` when it is no UDP datagram over IPv4.
    pub fn decode(frame: &[u8]) -> Option<Self> {
        let ip = frame.get(14..)?;
        if frame.get(12..14)? != [0x08, 0x00] || *ip.get(9)? != 17 {
            return None;
        }
        let udp = ip.get(usize::from(ip.first()? & 0x0f) * 4..)?;
        let word = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
        let address = |at: usize| {
            Some(Ipv4Addr::new(*ip.get(at)?, *ip.get(at + 1)?, *ip.get(at + 2)?, *ip.get(at + 3)?))
        };
        Some(Self {
            destination_mac: frame.get(..6)?.try_into().ok()?,
            source_mac: frame.get(6..12)?.try_into().ok()?,
            source: address(12)?,
            destination: address(16)?,
            source_port: word(0)?,
            destination_port: word(2)?,
            payload: udp.get(8..usize::from(word(4)?))?.to_vec(),
        })
    }
}

/// RFC 1071.
pub fn internet_checksum(octets: &[u8]) -> u16 {
    let words =
        octets.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
