//! Sockets of the shards: one for each shard, interface and mode, joined in shard order from one thread.
//!
//! In raw mode an interface has one fanout group of AF_PACKET sockets, and a UDP socket for each address that keeps the
//! kernel from answering "port unreachable" and a second server from starting (PKT-7). In udp mode an address
//! has one reuseport group; broadcasts reach a second group, bound to 255.255.255.255 on that interface, whose
//! sockets each get every datagram and keep their own by filter.
//!
//! Invariants: the place of a socket in its group is the number of its shard; a group has both programs or none.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::frame::{self, Envelope};
use crate::steer::SteerHash;
use crate::steer::program::{self, FrameStart, Instruction};
use crate::sys::interface::HostInterface;
use crate::sys::receive::ReceiveBatch;
use crate::sys::send::{FrameSend, SendBatch, Sent, UdpSend};
use crate::sys::socket::{self as options, Fanout};
use crate::{DatagramMeta, Transmit};

/// Receive buffer of each socket, octets: a stall of some 20 ms at 100,000 datagrams a second.
const RECEIVE_BUFFER_OCTETS: i32 = 4 * 1024 * 1024;

/// Destinations that fit a filter; above it the filter takes every destination, and reading sorts them out.
const FILTER_DESTINATIONS_MAX: usize = 64;

/// Drops every datagram.
const REFUSE_ALL: [Instruction; 1] = [Instruction { code: 0x06, jt: 0, jf: 0, k: 0 }];

/// One shard's end of an interface (raw mode) or of an address (udp mode).
#[derive(Debug)]
pub struct ShardSocket {
    kind: Kind,
    ifindex: u32,
    mac: [u8; 6],
    addresses: Vec<Ipv4Addr>,
    port: u16,
}

#[derive(Debug)]
enum Kind {
    Raw(Socket),
    Udp {
        unicast: Socket,
        broadcast: Option<Socket>,
        /// Whether what the broadcast socket drops is for want of buffer: a filter that steers drops too.
        counts_broadcasts: bool,
        /// Drops of both sockets that were reported.
        reported: Cell<[u32; 2]>,
    },
}

/// Who decides which shard a datagram arrives at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Steering {
    /// The kernel, by hardware address.
    Kernel,
    /// The kernel refused the programs: any shard, which forwards.
    UserSpace {
        /// What the kernel said.
        cause: String,
    },
}

/// Sockets of one interface or address, one for each shard.
#[derive(Debug)]
pub struct Opened {
    /// In shard order.
    pub sockets: Vec<ShardSocket>,
    /// Bound and never read (PKT-7); held for as long as the sockets are in use.
    pub quiet: Vec<Socket>,
    /// How datagrams find their shard.
    pub steering: Steering,
}

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process serves this address and port.
    #[error("address {address} port {port} is in use by another process")]
    InUse {
        /// The address.
        address: Ipv4Addr,
        /// The port.
        port: u16,
    },
    /// Raw sockets carry Ethernet only.
    #[error("interface {0} has no Ethernet frames; use dhcp-socket-type udp")]
    NotEthernet(String),
    /// The process lacks a capability.
    #[error("{step} on {interface}: {source}; {needs}")]
    Permission {
        /// What was tried.
        step: &'static str,
        /// Interface.
        interface: String,
        /// What the process needs.
        needs: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    #[error("{step} on {interface}: {source}")]
    Other {
        /// What was tried.
        step: &'static str,
        /// Interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Opens raw sockets on `interface` that answer to `addresses`, the first of which the sockets stand for.
///
/// # Errors
/// [`SocketError`]; nothing stays open then.
pub fn open_raw(
    interface: &HostInterface,
    addresses: &[Ipv4Addr],
    port: u16,
    hash: &SteerHash,
    shards: u8,
) -> Result<Opened, SocketError> {
    if !interface.ethernet {
        return Err(SocketError::NotEthernet(interface.name.clone()));
    }
    let failed = |step| move |source| SocketError::new(step, interface, source);
    let quiet =
        addresses.iter().map(|address| open_quiet(interface, *address, port)).collect::<Result<_, _>>()?;
    let mut sockets = Vec::new();
    for _ in 0..shards {
        let socket = options::packet_socket().map_err(failed("opening a packet socket"))?;
        socket.set_nonblocking(true).map_err(failed("setting up a packet socket"))?;
        options::set_receive_buffer(&socket, RECEIVE_BUFFER_OCTETS)
            .and_then(|()| options::enable_auxdata(&socket))
            // Nothing passes until the whole group stands, so that no frame is seen twice.
            .and_then(|()| options::attach_filter(&socket, &REFUSE_ALL))
            .and_then(|()| options::bind_packet(&socket, interface.ifindex))
            .map_err(failed("setting up a packet socket"))?;
        sockets.push(socket);
    }
    let steering = match join(&sockets, Fanout::Program).and_then(|()| {
        sockets.first().map_or(Ok(()), |first| match shards {
            1 => Ok(()),
            _ => options::set_fanout_program(first, &program::fanout(hash)),
        })
    }) {
        Ok(()) => Steering::Kernel,
        Err(error) => {
            // A group cannot change its kind, so the sockets of the failed one are made anew without it.
            return open_raw_by_flow(interface, addresses, port, shards, quiet, sockets, error.to_string());
        }
    };
    pass_frames(&sockets, addresses, port).map_err(failed("attaching the receive filter"))?;
    Ok(Opened { sockets: raw_sockets(sockets, interface, addresses, port), quiet, steering })
}

/// The fallback where the kernel does not take the program: distribution by flow.
fn open_raw_by_flow(
    interface: &HostInterface,
    addresses: &[Ipv4Addr],
    port: u16,
    shards: u8,
    quiet: Vec<Socket>,
    refused: Vec<Socket>,
    cause: String,
) -> Result<Opened, SocketError> {
    drop(refused);
    let failed = |step| move |source| SocketError::new(step, interface, source);
    let mut sockets = Vec::new();
    for _ in 0..shards {
        let socket = options::packet_socket().map_err(failed("opening a packet socket"))?;
        socket
            .set_nonblocking(true)
            .and_then(|()| options::set_receive_buffer(&socket, RECEIVE_BUFFER_OCTETS))
            .and_then(|()| options::enable_auxdata(&socket))
            .and_then(|()| options::attach_filter(&socket, &REFUSE_ALL))
            .and_then(|()| options::bind_packet(&socket, interface.ifindex))
            .map_err(failed("setting up a packet socket"))?;
        sockets.push(socket);
    }
    join(&sockets, Fanout::Flow).map_err(failed("joining the fanout group"))?;
    pass_frames(&sockets, addresses, port).map_err(failed("attaching the receive filter"))?;
    Ok(Opened {
        sockets: raw_sockets(sockets, interface, addresses, port),
        quiet,
        steering: Steering::UserSpace { cause },
    })
}

fn join(sockets: &[Socket], fanout: Fanout) -> io::Result<()> {
    let [first, rest @ ..] = sockets else { return Ok(()) };
    if rest.is_empty() {
        return Ok(());
    }
    let group = options::create_fanout(first, fanout)?;
    rest.iter().try_for_each(|socket| options::join_fanout(socket, group, fanout))
}

fn pass_frames(sockets: &[Socket], addresses: &[Ipv4Addr], port: u16) -> io::Result<()> {
    let destinations = if addresses.len() <= FILTER_DESTINATIONS_MAX { addresses } else { &[] };
    let filter = program::raw_filter(FrameStart::Ethernet, port, destinations);
    sockets.iter().try_for_each(|socket| options::attach_filter(socket, &filter))
}

fn raw_sockets(
    sockets: Vec<Socket>,
    interface: &HostInterface,
    addresses: &[Ipv4Addr],
    port: u16,
) -> Vec<ShardSocket> {
    sockets
        .into_iter()
        .map(|socket| ShardSocket {
            kind: Kind::Raw(socket),
            ifindex: interface.ifindex,
            mac: interface.mac,
            addresses: addresses.to_vec(),
            port,
        })
        .collect()
}

/// The UDP socket of PKT-7. Its filter drops everything in the kernel, so it never has to be drained.
fn open_quiet(interface: &HostInterface, address: Ipv4Addr, port: u16) -> Result<Socket, SocketError> {
    let failed = |step| move |source| SocketError::new(step, interface, source);
    let socket =
        Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).map_err(failed("opening a socket"))?;
    options::attach_filter(&socket, &REFUSE_ALL).map_err(failed("silencing a socket"))?;
    bind(&socket, interface, address, port)?;
    Ok(socket)
}

/// Opens UDP sockets on `address` of `interface`, and for broadcasts where the interface has them.
///
/// # Errors
/// [`SocketError`]; nothing stays open then.
pub fn open_udp(
    interface: &HostInterface,
    address: Ipv4Addr,
    port: u16,
    hash: &SteerHash,
    shards: u8,
) -> Result<Opened, SocketError> {
    // A reuseport group takes in any process of the same user: this shows whether there is one already.
    if shards > 1 {
        let alone = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
            .map_err(|source| SocketError::new("opening a socket", interface, source))?;
        bind(&alone, interface, address, port)?;
    }
    let unicast = open_group(interface, address, port, shards)?;
    let broadcast = match interface.broadcast && !interface.loopback {
        true => open_group(interface, Ipv4Addr::BROADCAST, port, shards)?,
        false => Vec::new(),
    };
    let steering = steer_udp(&unicast, &broadcast, hash, shards);
    let mut broadcast = broadcast.into_iter();
    let sockets = unicast
        .into_iter()
        .enumerate()
        .map(|(shard, unicast)| {
            // Without filters every socket would get every broadcast: then only the first shard has one.
            let wanted = shard == 0 || steering == Steering::Kernel;
            let broadcast = broadcast.next().filter(|_| wanted);
            ShardSocket {
                kind: Kind::Udp {
                    unicast,
                    broadcast,
                    counts_broadcasts: shards == 1 || steering != Steering::Kernel,
                    reported: Cell::default(),
                },
                ifindex: interface.ifindex,
                mac: interface.mac,
                addresses: vec![address],
                port,
            }
        })
        .collect();
    Ok(Opened { sockets, quiet: Vec::new(), steering })
}

/// Attaches both programs to both groups, or none to any.
fn steer_udp(unicast: &[Socket], broadcast: &[Socket], hash: &SteerHash, shards: u8) -> Steering {
    if shards == 1 {
        return Steering::Kernel;
    }
    let groups = [unicast, broadcast];
    let attached = groups.iter().try_for_each(|group| {
        let Some(first) = group.first() else { return Ok(()) };
        options::attach_reuseport_program(first, &program::reuseport(hash))?;
        (0..shards).zip(group.iter()).try_for_each(|(shard, socket)| {
            options::attach_filter(socket, &program::socket_filter(hash, shard))
        })
    });
    match attached {
        Ok(()) => Steering::Kernel,
        Err(error) => {
            for socket in groups.into_iter().flatten() {
                // A socket that has no filter answers with an error, which is what is wanted.
                let _ = socket.detach_filter();
            }
            Steering::UserSpace { cause: error.to_string() }
        }
    }
}

fn open_group(
    interface: &HostInterface,
    address: Ipv4Addr,
    port: u16,
    shards: u8,
) -> Result<Vec<Socket>, SocketError> {
    let failed = |step| move |source| SocketError::new(step, interface, source);
    let mut sockets = Vec::new();
    for _ in 0..shards {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
            .map_err(failed("opening a socket"))?;
        socket
            .set_nonblocking(true)
            .and_then(|()| socket.set_broadcast(true))
            .and_then(|()| if shards > 1 { socket.set_reuse_port(true) } else { Ok(()) })
            .and_then(|()| options::enable_packet_info(&socket))
            .and_then(|()| options::set_receive_buffer(&socket, RECEIVE_BUFFER_OCTETS))
            .map_err(failed("setting up a socket"))?;
        if address == Ipv4Addr::BROADCAST {
            socket
                .bind_device(Some(interface.name.as_bytes()))
                .map_err(failed("binding a socket to the interface"))?;
        }
        bind(&socket, interface, address, port)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn bind(socket: &Socket, interface: &HostInterface, address: Ipv4Addr, port: u16) -> Result<(), SocketError> {
    socket.bind(&SockAddr::from(SocketAddrV4::new(address, port))).map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            return SocketError::InUse { address, port };
        }
        SocketError::new("binding a socket", interface, source)
    })
}

impl ShardSocket {
    /// The kernel sockets behind it: [`ShardSocket::receive`] is asked for each by its place here.
    pub(crate) fn kernel_sockets(&self) -> impl Iterator<Item = &Socket> {
        let (first, second) = match &self.kind {
            Kind::Raw(socket) => (socket, None),
            Kind::Udp { unicast, broadcast, .. } => (unicast, broadcast.as_ref()),
        };
        [Some(first), second].into_iter().flatten()
    }

    /// Takes up to `max` datagrams from kernel socket `which` and hands each to `each` with `index` as its socket
    /// number. Gives how many the kernel had and how many of them were unreadable.
    pub(crate) fn receive(
        &self,
        which: usize,
        index: u16,
        max: usize,
        batch: &mut ReceiveBatch,
        mut each: impl FnMut(&DatagramMeta, &[u8]),
    ) -> io::Result<(usize, usize)> {
        let first_address = self.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let mut unreadable = 0;
        let received = match &self.kind {
            Kind::Raw(socket) => {
                let received = batch.receive(socket, max)?;
                for place in 0..received {
                    let frame = batch.frame(place).filter(|frame| !frame.vlan_tagged);
                    let Some(datagram) = frame.and_then(|frame| frame::parse(frame.bytes)) else {
                        unreadable += 1;
                        continue;
                    };
                    let to_us = self.addresses.contains(&datagram.destination);
                    if datagram.destination_port != self.port
                        || !(to_us || datagram.destination.is_broadcast())
                    {
                        unreadable += 1;
                        continue;
                    }
                    let meta = DatagramMeta {
                        socket: index,
                        ifindex: self.ifindex,
                        source: datagram.source,
                        source_port: datagram.source_port,
                        destination: datagram.destination,
                        socket_address: if to_us { datagram.destination } else { first_address },
                        source_mac: Some(datagram.source_mac),
                    };
                    each(&meta, datagram.payload);
                }
                received
            }
            Kind::Udp { unicast, broadcast, .. } => {
                let socket = if which == 0 { unicast } else { broadcast.as_ref().unwrap_or(unicast) };
                let received = batch.receive(socket, max)?;
                for place in 0..received {
                    let Some(datagram) = batch.udp(place) else {
                        unreadable += 1;
                        continue;
                    };
                    let meta = DatagramMeta {
                        socket: index,
                        ifindex: datagram.ifindex,
                        source: datagram.source,
                        source_port: datagram.source_port,
                        destination: datagram.destination,
                        socket_address: first_address,
                        source_mac: None,
                    };
                    each(&meta, datagram.bytes);
                }
                received
            }
        };
        Ok((received, unreadable))
    }

    /// Sends `transmits`, whose payloads lie in `bytes`.
    pub(crate) fn send(&self, transmits: &[Transmit], bytes: &[u8], batch: &mut SendBatch) -> Sent {
        let mut total = Sent::default();
        for chunk in transmits.chunks(batch.capacity()) {
            let sent = match &self.kind {
                Kind::Raw(socket) => {
                    let mut frames = chunk.iter().filter_map(|transmit| self.frame(transmit, bytes));
                    batch.send_frames(socket, &mut frames)
                }
                Kind::Udp { unicast, .. } => {
                    let mut datagrams = chunk.iter().filter_map(|transmit| {
                        Some(UdpSend {
                            bytes: bytes.get(transmit.payload.clone())?,
                            source: transmit.source,
                            destination: transmit.destination,
                            destination_port: transmit.destination_port,
                            ifindex: transmit.ifindex,
                        })
                    });
                    batch.send_udp(unicast, &mut datagrams)
                }
            };
            total.sent += sent.sent;
            total.refused += chunk.len() - sent.sent;
            total.error = sent.error.or(total.error);
        }
        total
    }

    fn frame<'bytes>(&self, transmit: &Transmit, bytes: &'bytes [u8]) -> Option<FrameSend<'bytes>> {
        let payload = bytes.get(transmit.payload.clone())?;
        let envelope = Envelope {
            source_mac: self.mac,
            destination_mac: transmit.destination_mac,
            source: transmit.source,
            destination: transmit.destination,
            source_port: self.port,
            destination_port: transmit.destination_port,
        };
        Some(FrameSend { header: frame::header(&envelope, payload)?, payload })
    }

    /// Datagrams the kernel dropped for want of buffer since the last call. Broadcasts in udp mode are left out where
    /// steering filters drop most of them, which the kernel counts alike.
    pub(crate) fn take_kernel_drops(&self) -> u32 {
        match &self.kind {
            Kind::Raw(socket) => options::take_packet_drops(socket).unwrap_or(0),
            Kind::Udp { unicast, broadcast, counts_broadcasts, reported } => {
                let broadcast = broadcast.as_ref().filter(|_| *counts_broadcasts);
                let total = [Some(unicast), broadcast]
                    .map(|socket| socket.and_then(|socket| options::drops(socket).ok()).unwrap_or(0));
                let before = reported.replace(total);
                total.into_iter().zip(before).map(|(total, before)| total.wrapping_sub(before)).sum()
            }
        }
    }
}

impl SocketError {
    fn new(step: &'static str, interface: &HostInterface, source: io::Error) -> Self {
        let interface = interface.name.clone();
        if source.kind() == io::ErrorKind::PermissionDenied {
            let needs = "raw sockets need CAP_NET_RAW, ports below 1024 CAP_NET_BIND_SERVICE";
            return Self::Permission { step, interface, needs, source };
        }
        Self::Other { step, interface, source }
    }
}
