//! Answers ARP requests for simulated neighbours.
//!
//! A server that replies to a renewing client through its host's UDP stack (ISC dhcpd, dnsmasq) first asks who
//! has the client's address. Nobody but the generator can say so. One thread answers for all senders, from the
//! table of claims; an address that no simulated client holds is not answered for, so that a server's own probe
//! of a free address finds it free.
//!
//! Bounded: one batch is read at a time, what does not fit the socket's buffer is dropped by the kernel, and the
//! server's host asks again.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use shards::sys::receive::ReceiveBatch;
use shards::sys::{socket, wait};
use socket2::Socket;

use super::BATCH;

/// Ethernet type of ARP.
const ETHERTYPE: u16 = 0x0806;
/// Ethernet header and an ARP message for IPv4 over Ethernet (RFC 826).
const FRAME_OCTETS: usize = 14 + 28;
/// Room for a request, which Ethernet pads to its minimum.
const FRAME_OCTETS_MAX: usize = 128;
/// What an ARP message for IPv4 over Ethernet begins with: both types, both lengths, and the operation.
const REQUEST: [u8; 8] = [0, 1, 0x08, 0, 6, 4, 0, 1];
const REPLY: [u8; 8] = [0, 1, 0x08, 0, 6, 4, 0, 2];
/// Longest time until a request to stop is noticed.
const REST_NS: u64 = 50_000_000;

/// The socket that hears requests on one interface.
#[derive(Debug)]
pub struct Responder(Socket);

impl Responder {
    /// Listens on the interface with index `ifindex`.
    ///
    /// # Errors
    /// When packet sockets are forbidden (CAP_NET_RAW).
    pub fn open(ifindex: u32) -> io::Result<Self> {
        let socket = socket::packet_socket()?;
        socket.set_nonblocking(true)?;
        socket::bind_packet_to(&socket, ifindex, ETHERTYPE)?;
        Ok(Self(socket))
    }

    /// Answers until `stop`; `holder` knows the hardware address of the client that holds an address.
    ///
    /// # Errors
    /// When the socket cannot be waited for or read.
    pub fn serve(
        &self,
        stop: &AtomicBool,
        mut holder: impl FnMut(Ipv4Addr) -> Option<[u8; 6]>,
    ) -> io::Result<()> {
        let mut batch = ReceiveBatch::new(BATCH, FRAME_OCTETS_MAX);
        while !stop.load(Ordering::Acquire) {
            let count = batch.receive(&self.0, BATCH)?;
            if count == 0 {
                wait::readable(&self.0, REST_NS)?;
            }
            for index in 0..count {
                let Some(frame) = batch.frame(index) else { continue };
                if let Some(reply) = answer(frame, &mut holder) {
                    // A reply the kernel refuses is asked for again.
                    let _ = self.0.send(&reply);
                }
            }
        }
        Ok(())
    }
}

/// The reply to `frame`, if it asks for an address that is held.
fn answer(frame: &[u8], holder: &mut impl FnMut(Ipv4Addr) -> Option<[u8; 6]>) -> Option<[u8; FRAME_OCTETS]> {
    let frame: &[u8; FRAME_OCTETS] = frame.first_chunk()?;
    if frame[12..14] != ETHERTYPE.to_be_bytes() || frame[14..22] != REQUEST {
        return None;
    }
    let asked: [u8; 4] = frame[38..42].try_into().ok()?;
    let mac = holder(asked.into())?;
    let mut reply = [0; FRAME_OCTETS];
    reply[0..6].copy_from_slice(&frame[6..12]);
    reply[6..12].copy_from_slice(&mac);
    reply[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    reply[14..22].copy_from_slice(&REPLY);
    reply[22..28].copy_from_slice(&mac);
    reply[28..32].copy_from_slice(&asked);
    reply[32..42].copy_from_slice(&frame[22..32]);
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: [u8; 6] = [2, 1, 1, 1, 1, 1];
    const CLIENT: [u8; 6] = [2, 0, 0x0c, 0, 0, 7];

    fn request(operation: u8, asked: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend(ASKER);
        frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]);
        frame.extend(ASKER);
        frame.extend([10, 0, 0, 1]);
        frame.extend([0; 6]);
        frame.extend(asked);
        frame.extend([0; 18]);
        frame
    }

    fn answered(frame: &[u8]) -> Option<[u8; FRAME_OCTETS]> {
        answer(frame, &mut |address| (address == Ipv4Addr::new(10, 0, 0, 7)).then_some(CLIENT))
    }

    #[test]
    fn a_request_for_a_held_address_is_answered_to_who_asked() {
        let reply = answered(&request(1, [10, 0, 0, 7])).unwrap();
        assert_eq!(
            (&reply[..6], &reply[6..12], &reply[12..14]),
            (&ASKER[..], &CLIENT[..], &[0x08, 0x06][..])
        );
        assert_eq!(reply[14..22], [0, 1, 0x08, 0, 6, 4, 0, 2], "a reply");
        assert_eq!((&reply[22..28], &reply[28..32]), (&CLIENT[..], &[10, 0, 0, 7][..]), "who has it");
        assert_eq!((&reply[32..38], &reply[38..42]), (&ASKER[..], &[10, 0, 0, 1][..]), "who asked");
    }

    #[test]
    fn what_is_no_request_for_a_held_address_is_not_answered() {
        let short = &request(1, [10, 0, 0, 7])[..41];
        let mut other = request(1, [10, 0, 0, 7]);
        other[13] = 0;
        for (case, frame) in [
            ("nobody holds it", request(1, [10, 0, 0, 8])),
            ("a reply", request(2, [10, 0, 0, 7])),
            ("cut short", short.to_vec()),
            ("not ARP", other),
            ("nothing", Vec::new()),
        ] {
            assert_eq!(answered(&frame), None, "{case}");
        }
    }
}
