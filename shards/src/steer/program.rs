//! The hash as classic BPF, for the three places where the kernel chooses a socket or filters for one, and
//! the filter of packet sockets.
//!
//! Where offset zero lies differs: at the UDP payload (reuseport), the UDP header (socket filter), the IP header
//! (fanout) or the Ethernet header (packet sockets). A load beyond the packet ends a program with 0, which is shard 0 or, in a filter, "drop";
//! the length is checked first so that a short message always reaches shard 0, which counts it.

use std::net::Ipv4Addr;

use super::SteerHash;
use super::hash::{CHADDR_OCTETS, CHADDR_OFFSET, FINAL_SHIFT, HLEN_OFFSET, MESSAGE_OCTETS_MIN, MIX_SHIFT};
use super::queue::{self, Queue};

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

/// Destinations a [`raw_filter`] can name: the jumps over them have eight bits.
pub const DESTINATIONS_MAX: usize = 64;

/// Octets of an Ethernet header.
const ETHERNET_OCTETS: u32 = 14;

/// Octets of a UDP header.
const UDP_HEADER_OCTETS: u32 = 8;

/// What a filter returns to accept: more octets than a packet has.
const ACCEPT: u32 = 0x0004_0000;

/// What a filter returns to drop.
const DROP: u32 = 0;

// Operations: class, size and mode as in the kernel's `bpf_common.h`.
const LD_B_ABS: u16 = 0x30;
const LD_B_IND: u16 = 0x50;
const LD_H_ABS: u16 = 0x28;
const LD_H_IND: u16 = 0x48;
const LD_IMM: u16 = 0x00;
const LD_LEN: u16 = 0x80;
const LD_MEM: u16 = 0x60;
const LD_W_ABS: u16 = 0x20;
const LD_W_IND: u16 = 0x40;
const LDX_MEM: u16 = 0x61;
const LDX_MSH: u16 = 0xb1;
const ST: u16 = 0x02;
const ALU_ADD_K: u16 = 0x04;
const ALU_ADD_X: u16 = 0x0c;
const ALU_AND_K: u16 = 0x54;
const ALU_LSH_K: u16 = 0x64;
const ALU_LSH_X: u16 = 0x6c;
const ALU_MOD_K: u16 = 0x94;
const ALU_MUL_K: u16 = 0x24;
const ALU_RSH_K: u16 = 0x74;
const ALU_RSH_X: u16 = 0x7c;
const ALU_SUB_X: u16 = 0x1c;
const ALU_XOR_X: u16 = 0xac;
const JMP_JA: u16 = 0x05;
const JMP_JEQ_K: u16 = 0x15;
const JMP_JGE_K: u16 = 0x35;
const JMP_JGT_K: u16 = 0x25;
const JMP_JSET_K: u16 = 0x45;
const MISC_TAX: u16 = 0x07;
const MISC_TXA: u16 = 0x87;
const RET_A: u16 = 0x16;
const RET_K: u16 = 0x06;

/// Ancillary load: whether the frame came with a VLAN tag (`SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT`).
const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;

/// Ancillary load: whose frame it is (`SKF_AD_OFF + SKF_AD_PKTTYPE`).
const PACKET_TYPE: u32 = 0xffff_f000 + 4;

/// The packet type of a frame that is not for this host (`PACKET_OTHERHOST`).
const OTHER_HOST: u32 = 3;

/// Ancillary load: index of the interface that the frame belongs to (`SKF_AD_OFF + SKF_AD_IFINDEX`).
const INTERFACE: u32 = 0xffff_f000 + 8;

// Scratch words.
const HLEN: u32 = 0;
const HASH: u32 = 1;
const WORD: u32 = 2;
const MESSAGE: u32 = 3;
const PLACE: u32 = 4;

/// `SO_ATTACH_REUSEPORT_CBPF`: returns the index of the socket, as [`Queue::place`] has it, with the queues `divided` or
/// all in the main one. Offset zero is the UDP payload.
pub fn reuseport(hash: &SteerHash, divided: bool) -> Vec<Instruction> {
    let mut program = Program::default();
    program.push(LD_LEN, 0);
    program.place(hash, Base::At(0), divided);
    program.0
}

/// `SO_ATTACH_FILTER` of the UDP socket of shard `own`: drops what is another shard's, for broadcasts, which
/// every socket of the group receives. Offset zero is the UDP header.
pub fn socket_filter(hash: &SteerHash, own: u8) -> Vec<Instruction> {
    let mut program = Program::default();
    program.push(LD_LEN, 0);
    program.jump(JMP_JGE_K, UDP_HEADER_OCTETS + MESSAGE_OCTETS_MIN as u32, 1, 0);
    program.push(RET_K, if own == 0 { ACCEPT } else { DROP });
    program.hash(hash, Base::At(UDP_HEADER_OCTETS));
    program.jump(JMP_JEQ_K, own.into(), 0, 1);
    program.push(RET_K, ACCEPT);
    program.push(RET_K, DROP);
    program.0
}

/// `PACKET_FANOUT_CBPF`: returns the index of the packet socket, as [`Queue::place`] has it, with the queues `divided` or
/// all in the main one. Offset zero is the IP header. What is not DHCP gets some shard, whose [`raw_filter`] drops it.
pub fn fanout(hash: &SteerHash, divided: bool) -> Vec<Instruction> {
    let mut program = Program::default();
    program.push(LDX_MSH, 0);
    program.push(MISC_TXA, 0);
    program.push(ALU_ADD_K, UDP_HEADER_OCTETS);
    program.push(ST, MESSAGE);
    program.push(MISC_TAX, 0);
    // Octets of the message; a packet that ends before it wraps around and fails at the first load.
    program.push(LD_LEN, 0);
    program.push(ALU_SUB_X, 0);
    program.place(hash, Base::InScratch, divided);
    program.0
}

/// `SO_ATTACH_FILTER` of a packet socket for whole frames (PKT-6): IPv4, no VLAN tag, UDP, not a fragment, to `port`, and
/// to 255.255.255.255 or one of `destinations`; empty takes every destination.
///
/// To a socket for IPv4 alone the kernel gives tagged frames with their tag taken away. Those of a VLAN that the host
/// has belong to the interface of that VLAN and not to `ifindex` any more; those of other VLANs are another host's.
///
/// # Panics
/// With more than [`DESTINATIONS_MAX`] destinations.
pub fn raw_filter(ifindex: u32, port: u16, destinations: &[Ipv4Addr]) -> Vec<Instruction> {
    assert!(destinations.len() <= DESTINATIONS_MAX, "{} destinations", destinations.len());
    let mut program = Program::default();
    let ip = ETHERNET_OCTETS;
    program.push(LD_W_ABS, VLAN_TAG_PRESENT);
    program.require(JMP_JEQ_K, 0);
    program.push(LD_W_ABS, INTERFACE);
    program.require(JMP_JEQ_K, ifindex);
    program.push(LD_W_ABS, PACKET_TYPE);
    program.jump(JMP_JEQ_K, OTHER_HOST, 0, 1);
    program.push(RET_K, DROP);
    program.push(LD_H_ABS, 12);
    program.require(JMP_JEQ_K, 0x0800);
    program.push(LD_B_ABS, ip);
    program.push(ALU_AND_K, 0xf0);
    program.require(JMP_JEQ_K, 0x40);
    program.push(LD_B_ABS, ip + 9);
    program.require(JMP_JEQ_K, 17);
    // More fragments, or an offset; "don't fragment" is neither.
    program.push(LD_H_ABS, ip + 6);
    program.jump(JMP_JSET_K, 0x3fff, 0, 1);
    program.push(RET_K, DROP);
    if !destinations.is_empty() {
        program.push(LD_W_ABS, ip + 16);
        let all = [Ipv4Addr::BROADCAST].into_iter().chain(destinations.iter().copied());
        let mut left = destinations.len() as u8 + 1;
        for destination in all {
            program.jump(JMP_JEQ_K, destination.into(), left, 0);
            left -= 1;
        }
        program.push(RET_K, DROP);
    }
    program.push(LDX_MSH, ip);
    program.push(LD_H_IND, ip + 2);
    program.require(JMP_JEQ_K, port.into());
    program.push(RET_K, ACCEPT);
    program.0
}

/// Where the DHCP message begins.
#[derive(Clone, Copy)]
enum Base {
    /// At this offset.
    At(u32),
    /// At the offset in scratch word [`MESSAGE`].
    InScratch,
}

#[derive(Default)]
struct Program(Vec<Instruction>);

impl Program {
    fn push(&mut self, code: u16, k: u32) {
        self.jump(code, k, 0, 0);
    }

    fn jump(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.0.push(Instruction { code, jt, jf, k });
    }

    /// Drops unless the comparison of the accumulator with `k` holds.
    fn require(&mut self, comparison: u16, k: u32) {
        self.jump(comparison, k, 1, 0);
        self.push(RET_K, DROP);
    }

    /// With fewer than `octets` in the accumulator the answer is 0.
    fn short_message_to_shard_0(&mut self, octets: u32) {
        self.jump(JMP_JGE_K, octets, 1, 0);
        self.push(RET_K, 0);
    }

    /// Returns the place of the socket. Expects the octets of the message in the accumulator.
    fn place(&mut self, hash: &SteerHash, base: Base, divided: bool) {
        if hash.shards() == 1 && !divided {
            self.push(RET_K, Queue::Main.place(0, 1).into());
            return;
        }
        self.short_message_to_shard_0(MESSAGE_OCTETS_MIN as u32);
        if divided {
            self.queue(hash, base);
        }
        self.hash(hash, base);
        if divided {
            self.push(LDX_MEM, PLACE);
            self.push(ALU_ADD_X, 0);
        }
        self.push(RET_A, 0);
    }

    /// Leaves the place of the queue's first shard in scratch word [`PLACE`], as [`Queue::of_message`] has it. Expects
    /// the octets of the message in the accumulator.
    fn queue(&mut self, hash: &SteerHash, base: Base) {
        self.push(ST, WORD);
        self.push(LD_IMM, Queue::Main.place(0, hash.shards()).into());
        self.push(ST, PLACE);
        self.push(LD_MEM, WORD);
        let mut misses = vec![self.0.len()];
        self.jump(JMP_JGE_K, queue::TYPED_OCTETS_MIN as u32, 0, 0);
        let cookie = queue::COOKIE_OFFSET as u32;
        let expected = [
            (LD_W_ABS, LD_W_IND, cookie, queue::COOKIE),
            (LD_H_ABS, LD_H_IND, cookie + 4, queue::MESSAGE_TYPE.into()),
            (LD_B_ABS, LD_B_IND, cookie + 6, queue::DISCOVER.into()),
        ];
        for (absolute, indexed, offset, value) in expected {
            self.load(absolute, indexed, offset, base);
            misses.push(self.0.len());
            self.jump(JMP_JEQ_K, value, 0, 0);
        }
        self.push(LD_IMM, Queue::Discovers.place(0, hash.shards()).into());
        self.push(ST, PLACE);
        let end = self.0.len();
        for miss in misses {
            self.0[miss].jf = (end - miss - 1) as u8;
        }
    }

    /// Leaves the shard in the accumulator, as [`SteerHash::shard_of`] computes it.
    fn hash(&mut self, hash: &SteerHash, base: Base) {
        self.load(LD_B_ABS, LD_B_IND, HLEN_OFFSET as u32, base);
        self.jump(JMP_JGT_K, CHADDR_OCTETS as u32, 0, 1);
        self.push(LD_IMM, CHADDR_OCTETS as u32);
        self.push(ST, HLEN);
        self.push(ST, HASH);
        // Jumps past the words, to be aimed once their end is known.
        let mut ends = Vec::new();
        for word in 0..(CHADDR_OCTETS / 4) as u32 {
            self.push(LD_MEM, HLEN);
            ends.push(self.0.len() + 1);
            self.jump(JMP_JGT_K, word * 4, 1, 0);
            self.push(JMP_JA, 0);
            self.mix_word(hash, word, base);
        }
        let end = self.0.len();
        for jump in ends {
            self.0[jump].k = (end - jump - 1) as u32;
        }
        self.push(LD_MEM, HASH);
        self.mix(hash);
        self.push(ALU_MUL_K, hash.multiplier());
        self.push(ALU_RSH_K, FINAL_SHIFT);
        self.push(ALU_MOD_K, hash.shards().into());
    }

    /// Mixes one word of `chaddr` into the hash; octets beyond `hlen` are shifted out.
    fn mix_word(&mut self, hash: &SteerHash, word: u32, base: Base) {
        self.load(LD_W_ABS, LD_W_IND, CHADDR_OFFSET as u32 + word * 4, base);
        self.push(ST, WORD);
        self.push(LD_MEM, HLEN);
        self.jump(JMP_JGE_K, word * 4 + 4, 9, 0);
        // Nine instructions: shift by 32 × (word + 1) - 8 × hlen, which is 8, 16 or 24.
        self.push(ALU_LSH_K, 3);
        self.push(MISC_TAX, 0);
        self.push(LD_IMM, 32 * (word + 1));
        self.push(ALU_SUB_X, 0);
        self.push(MISC_TAX, 0);
        self.push(LD_MEM, WORD);
        self.push(ALU_RSH_X, 0);
        self.push(ALU_LSH_X, 0);
        self.push(ST, WORD);

        self.push(LDX_MEM, HASH);
        self.push(LD_MEM, WORD);
        self.push(ALU_XOR_X, 0);
        self.mix(hash);
        self.push(ST, HASH);
    }

    fn mix(&mut self, hash: &SteerHash) {
        self.push(ALU_MUL_K, hash.multiplier());
        self.push(MISC_TAX, 0);
        self.push(ALU_RSH_K, MIX_SHIFT);
        self.push(ALU_XOR_X, 0);
    }

    fn load(&mut self, absolute: u16, indexed: u16, offset: u32, base: Base) {
        match base {
            Base::At(base) => self.push(absolute, base + offset),
            Base::InScratch => {
                self.push(LDX_MEM, MESSAGE);
                self.push(indexed, offset);
            }
        }
    }
}

#[cfg(test)]
mod tests;
