//! Sockets of the shards: two queues for each shard and interface (or address), joined in order from one thread.
//!
//! Everything waits in one queue until a shard has too much of it: then the kernel's program is exchanged for one that
//! gives DISCOVERs to the other ([`Queue`]), for all shards of the group, and what they cannot serve is dropped in the
//! kernel, DISCOVERs before REQUESTs. Only broadcasts in udp mode come by a single socket: each member of a group gets
//! every one of them, and twice the members would double that cost.
//!
//! In raw mode an interface has one fanout group of AF_PACKET sockets, and a UDP socket for each address that keeps the
//! kernel from answering "port unreachable" and a second server from starting (PKT-7). The kernel writes what waits
//! into memory that it shares with the shard ([`ReceiveRing`]), if it has that much. In udp mode an address has one
//! reuseport group; broadcasts reach a second group, bound to 255.255.255.255 on that interface, whose
//! sockets each get every datagram and keep their own by filter.
//!
//! Invariants: the place of a socket in its group is [`Queue::place`]; a group has both programs or none.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::frame::{self, Envelope};
use super::group::Group;
use crate::admission::Admission;
use crate::steer::program::{self, Instruction};
use crate::steer::{Queue, SteerHash};
use crate::sys::interface::HostInterface;
use crate::sys::receive::ReceiveBatch;
use crate::sys::ring::{Place, ReceiveRing};
use crate::sys::send::{FrameSend, SendBatch, Sent, UdpSend};
use crate::sys::socket::{self as options, Fanout};
use crate::{DatagramMeta, Transmit};

/// Receive buffer of each socket, octets: a stall of some 20 ms at 100,000 datagrams a second.
const RECEIVE_BUFFER_OCTETS: i32 = 4 * 1024 * 1024;

/// Slots of a ring at most: as many datagrams as such a buffer takes, more or less.
pub const RING_SLOTS_MAX: usize = 4096;

/// A ring with fewer would lose bursts that a buffer, which takes memory only for what waits, can hold.
pub const RING_SLOTS_MIN: usize = 256;

/// Destinations that fit a filter; above it the filter takes every destination, and reading sorts them out.
const FILTER_DESTINATIONS_MAX: usize = 64;

/// Kernel sockets of one [`ShardSocket`] at most: the two queues, and broadcasts in udp mode.
pub(crate) const KERNEL_SOCKETS_MAX: usize = 3;

/// Drops every datagram.
const REFUSE_ALL: [Instruction; 1] = [Instruction { code: 0x06, jt: 0, jf: 0, k: 0 }];

/// One shard's end of an interface (raw mode) or of an address (udp mode).
#[derive(Debug)]
pub struct ShardSocket {
    mode: Mode,
    /// Never empty; replies leave by the first.
    inlets: Vec<Inlet>,
    /// What it shares with the other shards; `None` where the kernel took no program.
    group: Option<Arc<Group>>,
    ifindex: u32,
    mac: [u8; 6],
    addresses: Vec<Ipv4Addr>,
    port: u16,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    Raw,
    Udp,
}

/// A kernel socket of a [`ShardSocket`].
#[derive(Debug)]
pub(crate) struct Inlet {
    pub(crate) socket: Socket,
    /// Where what waits here is, unless it has to be asked for.
    ring: Option<ReceiveRing>,
    /// What waits here.
    pub(crate) queue: Queue,
    /// Whether what it drops is for want of buffer: a filter that steers drops too.
    counts_drops: bool,
    /// Drops in udp mode that were reported.
    reported: Cell<u32>,
}

/// The last batch of an [`Inlet`].
#[derive(Clone, Copy)]
pub(crate) enum Taken<'batch> {
    /// Copied by the kernel.
    Copied(&'batch ReceiveBatch),
    /// As the kernel has put it there, but for what is longer than a slot, which it has copied.
    InRing(&'batch ReceiveRing, &'batch ReceiveBatch),
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
    /// Memory of all rings, octets; there whether or not anything comes.
    pub ring_octets: usize,
    /// What the kernel said instead of giving a ring that was asked for: what comes is copied.
    pub ring_refused: Option<String>,
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

/// Opens raw sockets on `interface` that answer to `addresses`, the first of which the sockets stand for. Each queue gets
/// a ring of `ring_slots`, up to [`RING_SLOTS_MAX`], and none with less than [`RING_SLOTS_MIN`].
///
/// # Errors
/// [`SocketError`]; nothing stays open then.
pub fn open_raw(
    interface: &HostInterface,
    addresses: &[Ipv4Addr],
    port: u16,
    hash: &SteerHash,
    shards: u8,
    ring_slots: usize,
) -> Result<Opened, SocketError> {
    if !interface.ethernet {
        return Err(SocketError::NotEthernet(interface.name.clone()));
    }
    let failed = |step| move |source| SocketError::new(step, interface, source);
    let quiet =
        addresses.iter().map(|address| open_quiet(interface, *address, port)).collect::<Result<_, _>>()?;
    let (inlets, ring_refused) = packet_inlets(interface, &Queue::ALL, shards, ring_slots)?;
    let joined = join(&inlets, Fanout::Program).and_then(|()| {
        inlets
            .first()
            .map_or(Ok(()), |first| options::set_fanout_program(&first.socket, &program::fanout(hash, false)))
    });
    if let Err(error) = joined {
        // A group cannot change its kind, so the sockets of the failed one are made anew without it.
        drop(inlets);
        return open_raw_by_flow(interface, addresses, port, shards, ring_slots, quiet, error.to_string());
    }
    pass_frames(&inlets, interface, addresses, port).map_err(failed("attaching the receive filter"))?;
    let member = inlets.first().map(|inlet| &inlet.socket);
    let group = Group::new(Mode::Raw, hash, member).map_err(failed("sharing a packet socket"))?;
    let ring_octets = ring_octets(&inlets);
    let sockets = raw_sockets(inlets, group, interface, addresses, port, shards);
    Ok(Opened { sockets, quiet, steering: Steering::Kernel, ring_octets, ring_refused })
}

/// Packet sockets on `interface` that receive nothing yet: one for each of `queues` and each shard, in the order of
/// [`Queue::place`], with rings of `ring_slots` where these are enough and the kernel gives them; and what it said if it
/// does not. They are made in this order because the kernel joins the group anew in it, when the interface was down.
fn packet_inlets(
    interface: &HostInterface,
    queues: &[Queue],
    shards: u8,
    ring_slots: usize,
) -> Result<(Vec<Inlet>, Option<String>), SocketError> {
    let failed = |step| move |source| SocketError::new(step, interface, source);
    let mut ring_slots = Some(ring_slots.min(RING_SLOTS_MAX)).filter(|slots| *slots >= RING_SLOTS_MIN);
    let (mut inlets, mut refused) = (Vec::new(), None);
    for queue in queues.iter().flat_map(|queue| (0..shards).map(|_| *queue)) {
        let socket = options::packet_socket().map_err(failed("opening a packet socket"))?;
        let ring = ring_slots.and_then(|slots| match ReceiveRing::attach(&socket, slots) {
            Ok(ring) => Some(ring),
            Err(error) => {
                // Who got one keeps it; there is no sense in asking for more.
                (ring_slots, refused) = (None, Some(error.to_string()));
                None
            }
        });
        if ring.is_none() {
            options::set_receive_buffer(&socket, RECEIVE_BUFFER_OCTETS)
                .and_then(|()| options::enable_timestamps(&socket))
                .map_err(failed("setting up a packet socket"))?;
        }
        socket
            .set_nonblocking(true)
            // Nothing passes until the whole group stands, so that no frame is seen twice.
            .and_then(|()| options::attach_filter(&socket, &REFUSE_ALL))
            .and_then(|()| options::bind_packet(&socket, interface.ifindex))
            .map_err(failed("setting up a packet socket"))?;
        inlets.push(Inlet { ring, ..Inlet::new(socket, queue, true) });
    }
    Ok((inlets, refused))
}

fn ring_octets(inlets: &[Inlet]) -> usize {
    inlets.iter().filter_map(|inlet| inlet.ring.as_ref()).map(ReceiveRing::octets).sum()
}

/// The fallback where the kernel does not take the program: distribution by flow, and one queue for all.
fn open_raw_by_flow(
    interface: &HostInterface,
    addresses: &[Ipv4Addr],
    port: u16,
    shards: u8,
    ring_slots: usize,
    quiet: Vec<Socket>,
    cause: String,
) -> Result<Opened, SocketError> {
    let failed = |step| move |source| SocketError::new(step, interface, source);
    let (inlets, ring_refused) = packet_inlets(interface, &[Queue::Main], shards, ring_slots)?;
    join(&inlets, Fanout::Flow).map_err(failed("joining the fanout group"))?;
    pass_frames(&inlets, interface, addresses, port).map_err(failed("attaching the receive filter"))?;
    let ring_octets = ring_octets(&inlets);
    let sockets = raw_sockets(inlets, None, interface, addresses, port, shards);
    Ok(Opened { sockets, quiet, steering: Steering::UserSpace { cause }, ring_octets, ring_refused })
}

fn join(inlets: &[Inlet], fanout: Fanout) -> io::Result<()> {
    let [first, rest @ ..] = inlets else { return Ok(()) };
    if rest.is_empty() {
        return Ok(());
    }
    let group = options::create_fanout(&first.socket, fanout)?;
    rest.iter().try_for_each(|inlet| options::join_fanout(&inlet.socket, group, fanout))
}

fn pass_frames(
    inlets: &[Inlet],
    interface: &HostInterface,
    addresses: &[Ipv4Addr],
    port: u16,
) -> io::Result<()> {
    let destinations = if addresses.len() <= FILTER_DESTINATIONS_MAX { addresses } else { &[] };
    let filter = program::raw_filter(interface.ifindex, port, destinations);
    inlets.iter().try_for_each(|inlet| options::attach_filter(&inlet.socket, &filter))
}

fn raw_sockets(
    inlets: Vec<Inlet>,
    group: Option<Arc<Group>>,
    interface: &HostInterface,
    addresses: &[Ipv4Addr],
    port: u16,
    shards: u8,
) -> Vec<ShardSocket> {
    deal(inlets, shards)
        .into_iter()
        .map(|inlets| ShardSocket {
            mode: Mode::Raw,
            inlets,
            group: group.clone(),
            ifindex: interface.ifindex,
            mac: interface.mac,
            addresses: addresses.to_vec(),
            port,
        })
        .collect()
}

/// Deals what belongs to a group, in the order of [`Queue::place`], to the shards.
fn deal(inlets: Vec<Inlet>, shards: u8) -> Vec<Vec<Inlet>> {
    let mut shares: Vec<Vec<Inlet>> = (0..shards).map(|_| Vec::new()).collect();
    for (place, inlet) in inlets.into_iter().enumerate() {
        shares[place % usize::from(shards)].push(inlet);
    }
    shares
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
    open_udp_steered(interface, address, port, hash, shards, steer_udp)
}

/// [`open_udp`], with what attaches the programs to the sockets of both groups.
fn open_udp_steered(
    interface: &HostInterface,
    address: Ipv4Addr,
    port: u16,
    hash: &SteerHash,
    shards: u8,
    steer: impl FnOnce(&[Socket], &[Socket], &SteerHash) -> Steering,
) -> Result<Opened, SocketError> {
    // A reuseport group takes in any process of the same user: this shows whether there is one already.
    let alone = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
        .map_err(|source| SocketError::new("opening a socket", interface, source))?;
    bind(&alone, interface, address, port)?;
    drop(alone);
    let mut unicast = open_group(interface, address, port, Queue::ALL.len() * usize::from(shards))?;
    let broadcast = match interface.broadcast && !interface.loopback {
        true => open_group(interface, Ipv4Addr::BROADCAST, port, shards.into())?,
        false => Vec::new(),
    };
    let steering = steer(&unicast, &broadcast, hash);
    let group = match steering {
        Steering::Kernel => Group::new(Mode::Udp, hash, unicast.first())
            .map_err(|source| SocketError::new("sharing a socket", interface, source))?,
        Steering::UserSpace { .. } => {
            // Without a program the kernel deals by flow, to the second queues as well: then there must be none.
            drop(unicast);
            unicast = open_group(interface, address, port, shards.into())?;
            None
        }
    };
    let mut broadcast = broadcast.into_iter();
    let mut sockets = Vec::new();
    let queues = Queue::ALL.iter().flat_map(|queue| (0..shards).map(|_| *queue));
    let unicast = unicast.into_iter().zip(queues).map(|(socket, queue)| Inlet::new(socket, queue, true));
    for (shard, mut inlets) in deal(unicast.collect(), shards).into_iter().enumerate() {
        // Without filters every socket would get every broadcast: then only the first shard has one.
        let wanted = shard == 0 || steering == Steering::Kernel;
        if let Some(socket) = broadcast.next().filter(|_| wanted) {
            let counts_drops = shards == 1 || steering != Steering::Kernel;
            inlets.push(Inlet::new(socket, Queue::Main, counts_drops));
        }
        sockets.push(ShardSocket {
            mode: Mode::Udp,
            inlets,
            group: group.clone(),
            ifindex: interface.ifindex,
            mac: interface.mac,
            addresses: vec![address],
            port,
        });
    }
    Ok(Opened { sockets, quiet: Vec::new(), steering, ring_octets: 0, ring_refused: None })
}

/// Attaches both programs to both groups, or none to any.
fn steer_udp(unicast: &[Socket], broadcast: &[Socket], hash: &SteerHash) -> Steering {
    let groups = [unicast, broadcast];
    let attached = groups.into_iter().try_for_each(|group| {
        // A socket alone needs nobody to choose it.
        let [first, _, ..] = group else { return Ok(()) };
        options::attach_reuseport_program(first, &program::reuseport(hash, false))?;
        (0..hash.shards()).cycle().zip(group.iter()).try_for_each(|(shard, socket)| {
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
    count: usize,
) -> Result<Vec<Socket>, SocketError> {
    let failed = |step| move |source| SocketError::new(step, interface, source);
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
            .map_err(failed("opening a socket"))?;
        socket
            .set_nonblocking(true)
            .and_then(|()| socket.set_broadcast(true))
            .and_then(|()| if count > 1 { socket.set_reuse_port(true) } else { Ok(()) })
            .and_then(|()| options::enable_packet_info(&socket))
            .and_then(|()| options::enable_timestamps(&socket))
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

impl Inlet {
    fn new(socket: Socket, queue: Queue, counts_drops: bool) -> Self {
        Self { socket, ring: None, queue, counts_drops, reported: Cell::new(0) }
    }

    /// What decides how much may wait here, as long as all is quiet.
    pub(crate) fn admission(&self) -> Admission {
        if let Some(ring) = &self.ring {
            return Admission::fixed(u32::try_from(ring.octets()).unwrap_or(u32::MAX));
        }
        // As it was set, which may be less than was asked for; the kernel grants twice of it.
        let granted = self.socket.recv_buffer_size().ok().and_then(|octets| u32::try_from(octets / 2).ok());
        Admission::new(granted.unwrap_or(RECEIVE_BUFFER_OCTETS.cast_unsigned()))
    }

    /// Sets the size of its buffer, which changes what it lets in and not what it holds.
    pub(crate) fn set_buffer_octets(&self, octets: u32) -> io::Result<()> {
        options::set_receive_buffer(&self.socket, i32::try_from(octets).unwrap_or(RECEIVE_BUFFER_OCTETS))
    }

    /// Takes up to `max` datagrams, which are there until [`Inlet::release`]; how many there were.
    pub(crate) fn receive(&mut self, max: usize, batch: &mut ReceiveBatch) -> io::Result<usize> {
        let Some(ring) = &mut self.ring else { return batch.receive(&self.socket, max) };
        let taken = ring.take(max);
        let at_socket = ring.at_socket();
        if at_socket > 0 {
            // An error of the socket is told once, and what waits there lies behind it. What cannot be had is counted as
            // unreadable; the others are in their slots.
            let _ =
                batch.receive(&self.socket, at_socket).or_else(|_| batch.receive(&self.socket, at_socket));
        } else if taken == 0 {
            // Nothing there, and the socket calls: it has an error to tell.
            self.socket.take_error()?.map_or(Ok(()), Err)?;
        }
        Ok(taken)
    }

    /// What [`Inlet::receive`] took, where it had `batch`.
    pub(crate) fn taken<'batch>(&'batch self, batch: &'batch ReceiveBatch) -> Taken<'batch> {
        self.ring.as_ref().map_or(Taken::Copied(batch), |ring| Taken::InRing(ring, batch))
    }

    /// The last batch has been decided.
    pub(crate) fn release(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.release();
        }
    }

    /// Datagrams the kernel dropped for want of buffer since the last call.
    fn take_kernel_drops(&self, mode: Mode) -> u32 {
        match mode {
            _ if !self.counts_drops => 0,
            Mode::Raw => options::take_packet_drops(&self.socket).unwrap_or(0),
            Mode::Udp => {
                let total = options::drops(&self.socket).unwrap_or(0);
                total.wrapping_sub(self.reported.replace(total))
            }
        }
    }
}

impl ShardSocket {
    /// The kernel sockets behind it, at most [`KERNEL_SOCKETS_MAX`].
    pub(crate) fn inlets(&self) -> &[Inlet] {
        &self.inlets
    }

    /// Kernel socket `which`, to receive from.
    pub(crate) fn inlet_mut(&mut self, which: usize) -> &mut Inlet {
        &mut self.inlets[which]
    }

    /// Whether this shard wants DISCOVERs divided from all else, which is done as long as any shard wants it. To be called
    /// when that changes.
    ///
    /// # Errors
    /// What the kernel has against the program; the queues stay as they are.
    pub(crate) fn divide(&self, wanted: bool) -> io::Result<()> {
        self.group.as_ref().map_or(Ok(()), |group| group.divide(wanted))
    }

    /// Datagram `place` of `taken`, with `index` as its socket number; `None` if no server is to see it.
    pub(crate) fn datagram<'batch>(
        &self,
        index: u16,
        taken: Taken<'batch>,
        place: usize,
    ) -> Option<(DatagramMeta, &'batch [u8])> {
        let first_address = self.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        match self.mode {
            Mode::Raw => {
                let datagram = frame::parse(taken.frame(place)?)?;
                let to_us = self.addresses.contains(&datagram.destination);
                if datagram.destination_port != self.port || !(to_us || datagram.destination.is_broadcast()) {
                    return None;
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
                Some((meta, datagram.payload))
            }
            Mode::Udp => {
                let Taken::Copied(batch) = taken else { return None };
                let datagram = batch.udp(place)?;
                let meta = DatagramMeta {
                    socket: index,
                    ifindex: datagram.ifindex,
                    source: datagram.source,
                    source_port: datagram.source_port,
                    destination: datagram.destination,
                    socket_address: first_address,
                    source_mac: None,
                };
                Some((meta, datagram.bytes))
            }
        }
    }

    /// Sends `transmits`, whose payloads lie in `bytes`.
    pub(crate) fn send(&self, transmits: &[Transmit], bytes: &[u8], batch: &mut SendBatch) -> Sent {
        let mut total = Sent::default();
        for chunk in transmits.chunks(batch.capacity()) {
            let socket = &self.inlets[0].socket;
            let sent = match self.mode {
                Mode::Raw => {
                    let mut frames = chunk.iter().filter_map(|transmit| self.frame(transmit, bytes));
                    batch.send_frames(socket, &mut frames)
                }
                Mode::Udp => {
                    let mut datagrams = chunk.iter().filter_map(|transmit| {
                        Some(UdpSend {
                            bytes: bytes.get(transmit.payload.clone())?,
                            source: transmit.source,
                            destination: transmit.destination,
                            destination_port: transmit.destination_port,
                            ifindex: transmit.ifindex,
                        })
                    });
                    batch.send_udp(socket, &mut datagrams)
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

    /// Datagrams that kernel socket `which` dropped for want of buffer since the last call. Broadcasts in udp mode are
    /// left out where steering filters drop most of them, which the kernel counts alike.
    pub(crate) fn take_kernel_drops(&self, which: usize) -> u32 {
        self.inlets[which].take_kernel_drops(self.mode)
    }
}

impl<'batch> Taken<'batch> {
    /// How many datagrams there are.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Copied(batch) => batch.received(),
            Self::InRing(ring, _) => ring.taken(),
        }
    }

    /// When the kernel received datagram `place`, wall clock in milliseconds; `None` where it does not tell.
    pub(crate) fn received_ms(self, place: usize) -> Option<u64> {
        match self {
            Self::Copied(batch) => batch.received_ms(place),
            Self::InRing(ring, _) => Some(ring.received_ms(place)),
        }
    }

    fn frame(self, place: usize) -> Option<&'batch [u8]> {
        match self {
            Self::Copied(batch) => batch.frame(place),
            Self::InRing(ring, batch) => match ring.frame(place) {
                Place::Slot(frame) => Some(frame),
                Place::Socket(index) if index < batch.received() => batch.frame(index),
                Place::Socket(_) | Place::CutOff => None,
            },
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::sys::interface;

    #[test]
    fn where_the_kernel_takes_no_program_each_shard_has_one_queue_for_all() {
        let loopback = interface::list().unwrap().into_iter().find(|interface| interface.loopback).unwrap();
        for (shards, refused, expected) in [(1, false, 2), (1, true, 1), (2, false, 2), (2, true, 1)] {
            let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let steer = |unicast: &[Socket], broadcast: &[Socket], hash: &SteerHash| match refused {
                true => Steering::UserSpace { cause: "no programs here".into() },
                false => steer_udp(unicast, broadcast, hash),
            };
            let hash = SteerHash::new(1, shards);
            let opened =
                open_udp_steered(&loopback, Ipv4Addr::LOCALHOST, port, &hash, shards, steer).unwrap();
            assert_eq!(opened.sockets.len(), usize::from(shards));
            for socket in &opened.sockets {
                let queues: Vec<Queue> = socket.inlets().iter().map(|inlet| inlet.queue).collect();
                assert_eq!(queues, Queue::ALL[..expected], "{shards} shards, refused: {refused}");
                assert_eq!(socket.group.is_none(), refused);
            }
        }
    }
}
