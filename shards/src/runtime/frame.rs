//! Ethernet, IPv4 and UDP around a DHCP message: what raw mode takes apart and puts together (pure).
//!
//! Received checksums are not verified: a peer on the same host leaves them to hardware that never sees the
//! frame (PKT-11). The kernel filter [`crate::steer::program::raw_filter`] has already chosen; what is checked here is only what
//! keeps the reading within bounds, and the checks are made again because filters can fail to attach.

use std::net::Ipv4Addr;

use crate::sys::send::FRAME_HEADER_OCTETS;

const ETHERNET_OCTETS: usize = 14;
const IPV4_OCTETS_MIN: usize = 20;
const UDP_OCTETS: usize = 8;
const PROTOCOL_UDP: u8 = 17;

/// TTL of what is sent (PKT-8).
const TTL: u8 = 128;
/// Type of service of what is sent: low delay (PKT-8).
const TOS: u8 = 0x10;
/// Don't fragment, offset 0.
const DONT_FRAGMENT: u16 = 0x4000;

/// What a received frame carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Received<'frame> {
    /// Ethernet source.
    pub source_mac: [u8; 6],
    /// IP source address.
    pub source: Ipv4Addr,
    /// UDP source port.
    pub source_port: u16,
    /// IP destination address.
    pub destination: Ipv4Addr,
    /// UDP destination port.
    pub destination_port: u16,
    /// UDP payload.
    pub payload: &'frame [u8],
}

/// Reads a frame; `None` unless it is a whole, unfragmented UDP datagram in IPv4 in untagged Ethernet (PKT-6).
pub fn parse(frame: &[u8]) -> Option<Received<'_>> {
    let (ethernet, packet) = frame.split_at_checked(ETHERNET_OCTETS)?;
    let source_mac: [u8; 6] = ethernet[6..12].try_into().ok()?;
    if ethernet[12..14] != [0x08, 0x00] {
        return None;
    }
    let first = *packet.first()?;
    let header_octets = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_octets < IPV4_OCTETS_MIN {
        return None;
    }
    let total_octets = usize::from(u16_at(packet, 2)?);
    let fragment = u16_at(packet, 6)? & 0x3fff;
    if fragment != 0 || *packet.get(9)? != PROTOCOL_UDP {
        return None;
    }
    // Short frames are padded to Ethernet's minimum: the IP length says where the datagram ends.
    let datagram = packet.get(header_octets..total_octets)?;
    let udp_octets = usize::from(u16_at(datagram, 4)?);
    let payload = datagram.get(UDP_OCTETS..udp_octets)?;
    Some(Received {
        source_mac,
        source: address_at(packet, 12)?,
        source_port: u16_at(datagram, 0)?,
        destination: address_at(packet, 16)?,
        destination_port: u16_at(datagram, 2)?,
        payload,
    })
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// Ethernet source: the interface's.
    pub source_mac: [u8; 6],
    /// Ethernet destination.
    pub destination_mac: [u8; 6],
    /// IP source address.
    pub source: Ipv4Addr,
    /// IP destination address.
    pub destination: Ipv4Addr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
}

/// The headers of a frame that carries `payload` (PKT-8); `None` when it does not fit an IPv4 packet.
pub fn header(envelope: &Envelope, payload: &[u8]) -> Option<[u8; FRAME_HEADER_OCTETS]> {
    let udp_octets = u16::try_from(UDP_OCTETS + payload.len()).ok()?;
    let total_octets = u16::try_from(IPV4_OCTETS_MIN + usize::from(udp_octets)).ok()?;
    let mut header = [0; FRAME_HEADER_OCTETS];
    header[0..6].copy_from_slice(&envelope.destination_mac);
    header[6..12].copy_from_slice(&envelope.source_mac);
    header[12..14].copy_from_slice(&[0x08, 0x00]);

    let ip = &mut header[ETHERNET_OCTETS..ETHERNET_OCTETS + IPV4_OCTETS_MIN];
    ip[0] = 0x45;
    ip[1] = TOS;
    ip[2..4].copy_from_slice(&total_octets.to_be_bytes());
    ip[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
    ip[8] = TTL;
    ip[9] = PROTOCOL_UDP;
    ip[12..16].copy_from_slice(&envelope.source.octets());
    ip[16..20].copy_from_slice(&envelope.destination.octets());
    let checksum = finish(sum(0, ip));
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());

    let udp = &mut header[ETHERNET_OCTETS + IPV4_OCTETS_MIN..];
    udp[0..2].copy_from_slice(&envelope.source_port.to_be_bytes());
    udp[2..4].copy_from_slice(&envelope.destination_port.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_octets.to_be_bytes());
    let mut total = sum(0, &envelope.source.octets());
    total = sum(total, &envelope.destination.octets());
    total += u64::from(PROTOCOL_UDP) + u64::from(udp_octets);
    total = sum(sum(total, udp), payload);
    // A computed 0 is sent as all ones, because 0 means that there is none (RFC 768).
    let checksum = match finish(total) {
        0 => 0xffff,
        checksum => checksum,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    Some(header)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn address_at(bytes: &[u8], offset: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(offset..offset + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}

/// Adds the 16-bit words of `bytes` (RFC 1071), an odd last octet padded with zero.
fn sum(start: u64, bytes: &[u8]) -> u64 {
    let pairs = bytes.chunks_exact(2);
    let last = pairs.remainder().first().map_or(0, |octet| u64::from(*octet) << 8);
    pairs.fold(start + last, |sum, pair| sum + u64::from(u16::from_be_bytes([pair[0], pair[1]])))
}

fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: Envelope = Envelope {
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: [2, 0, 0, 0, 0, 2],
        source: Ipv4Addr::new(192, 0, 2, 1),
        destination: Ipv4Addr::new(192, 0, 2, 99),
        source_port: 67,
        destination_port: 68,
    };

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = header(&ENVELOPE, payload).unwrap().to_vec();
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn a_built_frame_is_read_back_and_its_checksums_hold() {
        for payload in [&b""[..], b"x", b"odd", &[0xff; 576], &[0; 65_507]] {
            let frame = frame(payload);
            let received = parse(&frame).unwrap();
            assert_eq!(received.payload, payload);
            assert_eq!((received.source, received.destination), (ENVELOPE.source, ENVELOPE.destination));
            assert_eq!((received.source_port, received.destination_port), (67, 68));
            assert_eq!(received.source_mac, ENVELOPE.source_mac);
            assert_eq!(finish(sum(0, &frame[14..34])), 0, "IP checksum");
            let udp = &frame[34..];
            let pseudo = sum(sum(0, &frame[26..34]), &(udp.len() as u16).to_be_bytes()) + 17;
            assert_eq!(finish(sum(pseudo, udp)), 0, "UDP checksum");
        }
        assert_eq!(header(&ENVELOPE, &[0; 65_508]), None);
        let sent = frame(b"x");
        assert_eq!(&sent[14..16], &[0x45, 0x10]);
        assert_eq!(&sent[18..22], &[0, 0, 0x40, 0], "id 0, DF");
        assert_eq!(sent[22], 128);
    }

    #[test]
    fn frames_that_are_not_ours_are_refused() {
        let good = frame(b"payload");
        let cases: [(&str, usize, u8); 5] = [
            ("not IPv4", 13, 6),
            ("IP version", 14, 0x65),
            ("header too short", 14, 0x44),
            ("not UDP", 23, 6),
            ("a later fragment", 21, 1),
        ];
        for (case, offset, value) in cases {
            let mut bad = good.clone();
            bad[offset] = value;
            assert_eq!(parse(&bad), None, "{case}");
        }
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), None, "cut at {length}");
        }
        let mut padded = good.clone();
        padded.extend_from_slice(&[0; 18]);
        assert_eq!(parse(&padded).unwrap().payload, b"payload", "Ethernet padding is not payload");
        let mut long = good;
        long[38] = 0xff;
        assert_eq!(parse(&long), None, "UDP length beyond the packet");
    }
}
