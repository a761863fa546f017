//! Socket options and addresses that no safe crate offers: programs, fanout, packet info, AF_PACKET binding.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::steer::Instruction;

/// IPv4 in Ethernet.
const ETH_P_IP: u16 = libc::ETH_P_IP as u16;

/// Makes an AF_PACKET socket that receives nothing yet: programs first, then [`bind_packet`].
pub fn packet_socket() -> io::Result<Socket> {
    // Protocol 0 keeps it silent until it is bound, so that no frame passes before the filter is there.
    Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))
}

/// Binds an AF_PACKET socket to the IPv4 frames of one interface.
pub fn bind_packet(socket: &Socket, ifindex: u32) -> io::Result<()> {
    bind_packet_to(socket, ifindex, ETH_P_IP)
}

/// Binds an AF_PACKET socket to the frames of one interface that have this Ethernet type.
pub fn bind_packet_to(socket: &Socket, ifindex: u32, ethertype: u16) -> io::Result<()> {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the pointer and length describe a live sockaddr_ll.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })
}

/// Has the kernel give up a TCP connection when what was sent is not acknowledged `within` that time, also after it was
/// closed: what lies in its queue does not arrive any more then.
pub fn drop_unacknowledged(stream: &impl AsRawFd, within: Duration) -> io::Result<()> {
    // SAFETY: `stream` owns the descriptor and is borrowed for as long as this lasts.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    SockRef::from(&socket).set_tcp_user_timeout(Some(within))
}

/// Lets an AF_PACKET socket see the frames that are addressed to other hardware addresses, for as long as it
/// is open.
pub fn enable_promiscuous(socket: &impl AsFd, ifindex: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_packet_option(socket, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// Sets an option of an AF_PACKET socket, whose value is the plain C type `T`.
pub(super) fn set_packet_option<T: Copy>(socket: &impl AsFd, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe a live value, which the kernel copies.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            option,
            ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
}

/// Puts a filter on one socket; a datagram for which it returns 0 is dropped.
pub fn attach_filter(socket: &impl AsFd, program: &[Instruction]) -> io::Result<()> {
    set_program(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
}

/// Puts the choosing program on a reuseport group; its result is the index, in order of joining.
pub fn attach_reuseport_program(socket: &impl AsFd, program: &[Instruction]) -> io::Result<()> {
    set_program(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, program)
}

/// How a fanout group chooses a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fanout {
    /// By the program given with [`set_fanout_program`].
    Program,
    /// By flow: what is left where no program can be attached.
    Flow,
}

/// Makes a fanout group of the interface that `socket` is bound to, with a number that is in use nowhere
/// else, and gives the number.
pub fn create_fanout(socket: &impl AsFd, fanout: Fanout) -> io::Result<u16> {
    set_fanout(socket, 0, fanout, libc::PACKET_FANOUT_FLAG_UNIQUEID)?;
    let mut argument = 0u32;
    let mut length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: pointer and length describe the live integer that this option fills.
    check(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            (&raw mut argument).cast(),
            &raw mut length,
        )
    })?;
    Ok((argument & 0xffff) as u16)
}

/// Joins fanout group `group`; the index of a socket is its place in the order of joining.
pub fn join_fanout(socket: &impl AsFd, group: u16, fanout: Fanout) -> io::Result<()> {
    set_fanout(socket, group, fanout, 0)
}

/// Gives the fanout group its choosing program.
pub fn set_fanout_program(socket: &impl AsFd, program: &[Instruction]) -> io::Result<()> {
    set_program(socket, libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, program)
}

/// Asks for destination and interface with every datagram.
pub fn enable_packet_info(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
}

/// Never fragments what is sent, which spares the kernel the search for an identification for each datagram; one
/// that is longer than the path allows is refused.
pub fn forbid_fragments(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
}

/// Asks for the time at which the kernel received it with every datagram.
pub fn enable_timestamps(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
}

/// Asks for a receive buffer of `octets`, above the host's limit where the process may.
pub fn set_receive_buffer(socket: &impl AsFd, octets: i32) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, octets)
        .or_else(|_| set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, octets))
}

/// Frames the kernel dropped for want of buffer since this was last asked (AF_PACKET only).
pub fn take_packet_drops(socket: &impl AsFd) -> io::Result<u32> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: pointer and length describe the live struct that this option fills.
    check(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    })?;
    Ok(statistics.tp_drops)
}

/// Datagrams the kernel has dropped at this socket since it was opened, by its filter or for want of buffer.
/// Wraps.
pub fn drops(socket: &impl AsFd) -> io::Result<u32> {
    let mut memory = [0_u32; MEMINFO_WORDS];
    let mut length = size_of_val(&memory) as libc::socklen_t;
    // SAFETY: pointer and length describe the live array that this option fills.
    check(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            memory.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    Ok(memory[MEMINFO_DROPS])
}

/// Words of `SO_MEMINFO`, and which of them counts drops.
const MEMINFO_WORDS: usize = 9;
const MEMINFO_DROPS: usize = 8;

fn set_fanout(socket: &impl AsFd, group: u16, fanout: Fanout, flags: u32) -> io::Result<()> {
    let kind = match fanout {
        Fanout::Program => libc::PACKET_FANOUT_CBPF,
        Fanout::Flow => libc::PACKET_FANOUT_HASH,
    };
    let argument = u32::from(group) | ((kind | flags) << 16);
    set_int(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, argument.cast_signed())
}

fn set_program(socket: &impl AsFd, level: i32, option: i32, program: &[Instruction]) -> io::Result<()> {
    let mut code: Vec<libc::sock_filter> = program
        .iter()
        .map(|one| libc::sock_filter { code: one.code, jt: one.jt, jf: one.jf, k: one.k })
        .collect();
    let length = u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let argument = libc::sock_fprog { len: length, filter: code.as_mut_ptr() };
    // SAFETY: the kernel copies `len` instructions from `filter`, both alive, and keeps no pointer.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const argument).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })
}

fn set_int(socket: &impl AsFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: pointer and length describe a live integer.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_given_up_after_the_time_that_was_set() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let within = Duration::from_secs(10);
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), None);
        drop_unacknowledged(&stream, within).unwrap();
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(within));
    }
}
