//! Classic BPF programs.
use std::net::Ipv4Addr;

use super::SteerHash;

/// One instruction; the layout of the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a condition holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Where offset zero of a packet socket's filter lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameStart {
    /// At the Ethernet header (`SOCK_RAW`).
    Ethernet,
    /// At the IP header (`SOCK_DGRAM`).
    Ip,
}

/// `SO_ATTACH_REUSEPORT_CBPF`: returns the index of the socket. Offset zero is the UDP payload.
pub fn reuseport(hash: &SteerHash) -> Vec<Instruction> {
    todo!()
}

/// `SO_ATTACH_FILTER` of the UDP socket of shard `own`: drops what is another shard's, for broadcasts, which
/// every socket of the group receives. Offset zero is the UDP header.
pub fn socket_filter(hash: &SteerHash, own: u8) -> Vec<Instruction> {
    todo!()
}

/// `PACKET_FANOUT_CBPF`: returns the index of the packet socket. Offset zero is the IP header.
pub fn fanout(hash: &SteerHash) -> Vec<Instruction> {
    todo!()
}

/// `SO_ATTACH_FILTER` of a packet socket (PKT-6): IPv4, no VLAN tag, UDP, not a fragment, to `port`, and to
/// 255.255.255.255 or one of `destinations` (at most 64; empty takes every destination).
pub fn raw_filter(start: FrameStart, port: u16, destinations: &[Ipv4Addr]) -> Vec<Instruction> {
    todo!()
}
