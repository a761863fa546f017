//! Clients behind relays: UDP between addresses of this host and the servers.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use shards::steer::program::Instruction;
use shards::sys::receive::ReceiveBatch;
use shards::sys::send::{SendBatch, Sent, UdpSend};
use shards::sys::{clock, socket, wait};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{BATCH, Link, Outbox, RECEIVE_BUFFER_OCTETS};

/// Longest payload taken.
const PAYLOAD_OCTETS_MAX: usize = 2048;

/// One UDP socket of one sender.
pub struct UdpLink {
    socket: Socket,
    receive: ReceiveBatch,
    send: SendBatch,
    servers: Vec<Ipv4Addr>,
    server_port: u16,
    drops: u32,
}

/// Opens one socket for each of `senders` on `port` of all addresses of this host; a reply reaches the sender
/// that its xid begins with.
///
/// # Errors
/// When the port is taken or forbidden (CAP_NET_BIND_SERVICE).
pub fn open(port: u16, servers: &[Ipv4Addr], server_port: u16, senders: u8) -> io::Result<Vec<UdpLink>> {
    let mut links = Vec::new();
    for _ in 0..senders {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if senders > 1 {
            socket.set_reuse_port(true)?;
        }
        socket::set_receive_buffer(&socket, RECEIVE_BUFFER_OCTETS)?;
        socket::forbid_fragments(&socket)?;
        socket.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)))?;
        links.push(UdpLink {
            socket,
            receive: ReceiveBatch::new(BATCH, PAYLOAD_OCTETS_MAX),
            send: SendBatch::new(BATCH),
            servers: servers.to_vec(),
            server_port,
            drops: 0,
        });
    }
    if let Some(first) = links.first().filter(|_| senders > 1) {
        socket::attach_reuseport_program(&first.socket, &FIRST_OCTET_OF_XID)?;
    }
    Ok(links)
}

/// Gives the first octet of the xid: the payload lies at offset 0. It is the index of the sender's socket.
const FIRST_OCTET_OF_XID: [Instruction; 2] =
    [Instruction { code: 0x30, jt: 0, jf: 0, k: 4 }, Instruction { code: 0x16, jt: 0, jf: 0, k: 0 }];

impl Link for UdpLink {
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
            take(self.receive.frame(index).unwrap_or_default(), now_ns);
        }
        Ok(count)
    }

    fn send(&mut self, outbox: &Outbox) -> Sent {
        let mut total = Sent::default();
        for server in &self.servers {
            // What is for one server goes to it alone, if it is among those that can be told apart by address.
            let others = |named: &Ipv4Addr| named != server && self.servers.contains(named);
            let mine = outbox.messages().filter(|(_, route)| !route.server.as_ref().is_some_and(others));
            let mut datagrams = mine.map(|(bytes, route)| UdpSend {
                bytes,
                source: route.giaddr,
                destination: *server,
                destination_port: self.server_port,
                ifindex: 0,
            });
            let sent = self.send.send_udp(&self.socket, &mut datagrams);
            total.sent += sent.sent;
            total.refused += sent.refused;
            total.error = sent.error.or(total.error);
        }
        total
    }

    fn take_drops(&mut self) -> u64 {
        // The count is advice; a kernel that does not tell it takes nothing from the run.
        let Ok(drops) = socket::drops(&self.socket) else { return 0 };
        u64::from(drops.wrapping_sub(std::mem::replace(&mut self.drops, drops)))
    }
}
