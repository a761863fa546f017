//! Clients as neighbours: whole frames with their own hardware addresses on one interface.

use std::io;
use std::net::Ipv4Addr;

use shards::runtime::frame::{self, Envelope};
use shards::steer::program::Instruction;
use shards::sys::interface::{self, HostInterface};
use shards::sys::receive::ReceiveBatch;
use shards::sys::send::{FrameSend, SendBatch, Sent};
use shards::sys::{clock, socket, wait};
use socket2::Socket;
use tandem::wire::codes::{CLIENT_PORT, SERVER_PORT};

use super::arp::Responder;
use super::{BATCH, Link, Outbox, RECEIVE_BUFFER_OCTETS};

/// Longest frame taken; a longer one counts as received and is not read.
const FRAME_OCTETS_MAX: usize = 2048;

/// Servers whose hardware addresses are remembered.
const SERVERS_MAX: usize = 8;

const EVERYONE: [u8; 6] = [0xff; 6];

/// One packet socket of one sender.
pub struct RawLink {
    socket: Socket,
    receive: ReceiveBatch,
    send: SendBatch,
    /// Hardware addresses by IP address, as learned from replies.
    servers: Vec<(Ipv4Addr, [u8; 6])>,
    /// The first sender's link brings it; it answers for all.
    responder: Option<Responder>,
}

impl RawLink {
    /// Opens the socket of sender `sender` on `interface`; it sees only replies whose xid is that sender's.
    ///
    /// # Errors
    /// When there is no such Ethernet interface, it is down, or packet sockets are forbidden (CAP_NET_RAW).
    pub fn open(interface: &str, sender: u8) -> io::Result<Self> {
        let interface = find(interface)?;
        let socket = socket::packet_socket()?;
        socket.set_nonblocking(true)?;
        socket::set_receive_buffer(&socket, RECEIVE_BUFFER_OCTETS)?;
        socket::attach_filter(&socket, &replies_of(sender))?;
        socket::bind_packet(&socket, interface.ifindex)?;
        socket::enable_promiscuous(&socket, interface.ifindex)?;
        let responder = if sender == 0 { Some(Responder::open(interface.ifindex)?) } else { None };
        Ok(Self {
            responder,
            socket,
            receive: ReceiveBatch::new(BATCH, FRAME_OCTETS_MAX),
            send: SendBatch::new(BATCH),
            servers: Vec::with_capacity(SERVERS_MAX),
        })
    }
}

/// The Ethernet interface `name`, if it is up.
pub fn find(name: &str) -> io::Result<HostInterface> {
    let interface = interface::list()?
        .into_iter()
        .find(|interface| interface.name == name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface {name}")))?;
    match (interface.ethernet, interface.up) {
        (true, true) => Ok(interface),
        (false, _) => Err(io::Error::other(format!("{name} is not an Ethernet interface"))),
        (_, false) => Err(io::Error::new(io::ErrorKind::NetworkDown, format!("{name} is down"))),
    }
}

/// Accepts unfragmented UDP in IPv4 to the client port whose DHCP xid begins with `sender`.
fn replies_of(sender: u8) -> [Instruction; 14] {
    let one = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let (word_abs, half_abs, byte_abs, header_len) = (0x20, 0x28, 0x30, 0xb1);
    let (half_ind, byte_ind, equal, any_bit, end) = (0x48, 0x50, 0x15, 0x45, 0x06);
    [
        one(half_abs, 0, 0, 12),
        one(equal, 0, 11, 0x0800),
        one(byte_abs, 0, 0, 23),
        one(equal, 0, 9, 17),
        one(half_abs, 0, 0, 20),
        one(any_bit, 7, 0, 0x3fff),
        one(header_len, 0, 0, 14),
        one(half_ind, 0, 0, 16),
        one(equal, 0, 4, CLIENT_PORT as u32),
        one(byte_ind, 0, 0, 14 + 8 + 4),
        one(equal, 0, 2, sender as u32),
        // Nothing shorter than a frame header comes this far; reading a word of it keeps the program's shape
        // plain.
        one(word_abs, 0, 0, 0),
        one(end, 0, 0, 0x0004_0000),
        one(end, 0, 0, 0),
    ]
}

impl Link for RawLink {
    fn now_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    fn wait(&mut self, timeout_ns: u64) -> io::Result<()> {
        wait::readable(&self.socket, timeout_ns).map(|_| ())
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8], u64)) -> io::Result<usize> {
        let count = self.receive.receive(&self.socket, BATCH)?;
        let now_ns = self.now_ns();
        for index in 0..count {
            let Some(frame) = self.receive.frame(index).and_then(frame::parse) else {
                take(&[], now_ns);
                continue;
            };
            learn(&mut self.servers, frame.source, frame.source_mac);
            take(frame.payload, now_ns);
        }
        Ok(count)
    }

    fn send(&mut self, outbox: &Outbox) -> Sent {
        let servers = &self.servers;
        let mut frames = outbox.messages().filter_map(|(payload, route)| {
            let destination_mac = route.server.map_or(EVERYONE, |server| {
                servers.iter().find(|(address, _)| *address == server).map_or(EVERYONE, |(_, mac)| *mac)
            });
            let envelope = Envelope {
                source_mac: route.mac,
                destination_mac,
                source: route.source,
                destination: route.server.unwrap_or(Ipv4Addr::BROADCAST),
                source_port: CLIENT_PORT,
                destination_port: SERVER_PORT,
            };
            Some(FrameSend { header: frame::header(&envelope, payload)?, payload })
        });
        self.send.send_frames(&self.socket, &mut frames)
    }

    fn take_drops(&mut self) -> u64 {
        // The count is advice; a kernel that does not tell it takes nothing from the run.
        socket::take_packet_drops(&self.socket).map_or(0, u64::from)
    }

    fn take_responder(&mut self) -> Option<Responder> {
        self.responder.take()
    }
}

/// Remembers where a server is; what it said last holds.
fn learn(servers: &mut Vec<(Ipv4Addr, [u8; 6])>, address: Ipv4Addr, mac: [u8; 6]) {
    if let Some(entry) = servers.iter_mut().find(|(known, _)| *known == address) {
        entry.1 = mac;
    } else if servers.len() < SERVERS_MAX {
        servers.push((address, mac));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_of_the_filter_that_refuses_leads_to_the_refusal() {
        let program = replies_of(3);
        for (index, one) in program.iter().enumerate() {
            let target = match one.code {
                0x15 => index + 1 + usize::from(one.jf),
                0x45 => index + 1 + usize::from(one.jt),
                _ => continue,
            };
            assert_eq!((program[target].code, program[target].k), (0x06, 0), "instruction {index}");
        }
    }

    #[test]
    fn servers_are_learned_up_to_the_limit_and_corrected() {
        let mut servers = Vec::new();
        for n in 0..20 {
            learn(&mut servers, Ipv4Addr::new(10, 0, 0, n), [n; 6]);
        }
        assert_eq!(servers.len(), SERVERS_MAX);
        learn(&mut servers, Ipv4Addr::new(10, 0, 0, 2), [99; 6]);
        assert_eq!(servers[2], (Ipv4Addr::new(10, 0, 0, 2), [99; 6]));
    }

    #[test]
    fn an_interface_that_cannot_serve_is_named_in_the_error() {
        assert!(find("no-such-thing").unwrap_err().to_string().contains("no-such-thing"));
        assert!(find("lo").unwrap_err().to_string().contains("lo is not an Ethernet"));
    }
}
