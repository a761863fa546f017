//! `sendmmsg`: UDP datagrams with their source pinned, and whole frames from header and payload.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

/// A UDP datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct UdpSend<'bytes> {
    /// Payload.
    pub bytes: &'bytes [u8],
    /// IP source address, one of the host's.
    pub source: Ipv4Addr,
    /// IP destination address.
    pub destination: Ipv4Addr,
    /// UDP destination port.
    pub destination_port: u16,
    /// Interface to send on; 0 lets the kernel route.
    pub ifindex: u32,
}

/// A frame to send: the kernel joins header and payload.
#[derive(Clone, Copy, Debug)]
pub struct FrameSend<'bytes> {
    /// Ethernet, IPv4 and UDP headers.
    pub header: [u8; FRAME_HEADER_OCTETS],
    /// UDP payload.
    pub payload: &'bytes [u8],
}

/// Octets of Ethernet, IPv4 (without options) and UDP headers together.
pub const FRAME_HEADER_OCTETS: usize = 14 + 20 + 8;

/// Frames up to this length are put together here: the kernel takes one piece sooner than two.
const JOINED_OCTETS_MAX: usize = 1024;

const INFO_OCTETS: usize = 32;

/// How a batch went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    /// Datagrams the kernel took.
    pub sent: usize,
    /// Datagrams it refused; they are lost, and the client asks again.
    pub refused: usize,
    /// Why the last one was refused, an errno.
    pub error: Option<i32>,
}

/// Headers for one `sendmmsg`, made once. Its pointers are set and used within one call.
pub struct SendBatch {
    names: Box<[libc::sockaddr_in]>,
    controls: Box<[Control]>,
    iovecs: Box<[[libc::iovec; 2]]>,
    frames: Box<[[u8; JOINED_OCTETS_MAX]]>,
    headers: Box<[libc::mmsghdr]>,
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; INFO_OCTETS]);

// SAFETY: the raw pointers inside are written and used within one call; between calls nothing reads them.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// Room for `datagrams`.
    pub fn new(datagrams: usize) -> Self {
        // SAFETY: all-zero is valid for these plain C structs.
        let (name, iovec, header): (libc::sockaddr_in, libc::iovec, libc::mmsghdr) =
            unsafe { std::mem::zeroed() };
        Self {
            names: vec![name; datagrams].into_boxed_slice(),
            controls: vec![Control([0; INFO_OCTETS]); datagrams].into_boxed_slice(),
            iovecs: vec![[iovec; 2]; datagrams].into_boxed_slice(),
            frames: vec![[0; JOINED_OCTETS_MAX]; datagrams].into_boxed_slice(),
            headers: vec![header; datagrams].into_boxed_slice(),
        }
    }

    /// How many datagrams fit.
    pub fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Sends UDP datagrams without waiting; those beyond the capacity are left in the iterator.
    pub fn send_udp<'bytes>(
        &mut self,
        socket: &impl AsFd,
        datagrams: &mut impl Iterator<Item = UdpSend<'bytes>>,
    ) -> Sent {
        let mut count = 0;
        while count < self.capacity() {
            let Some(datagram) = datagrams.next() else { break };
            self.set_udp(count, &datagram);
            count += 1;
        }
        self.send(socket, count)
    }

    /// Sends frames without waiting; those beyond the capacity are left in the iterator.
    pub fn send_frames<'bytes>(
        &mut self,
        socket: &impl AsFd,
        frames: &mut impl Iterator<Item = FrameSend<'bytes>>,
    ) -> Sent {
        let mut count = 0;
        while count < self.capacity() {
            let Some(frame) = frames.next() else { break };
            let pieces = self.set_frame(count, &frame);
            let header = &mut self.headers[count].msg_hdr;
            header.msg_name = std::ptr::null_mut();
            header.msg_namelen = 0;
            header.msg_iov = self.iovecs[count].as_mut_ptr();
            header.msg_iovlen = pieces as _;
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
            count += 1;
        }
        self.send(socket, count)
    }

    /// Puts a frame together, or its header at least; of how many pieces it is.
    fn set_frame(&mut self, index: usize, frame: &FrameSend<'_>) -> usize {
        let octets = FRAME_HEADER_OCTETS + frame.payload.len();
        let joined = &mut self.frames[index];
        joined[..FRAME_HEADER_OCTETS].copy_from_slice(&frame.header);
        if let Some(room) = joined.get_mut(FRAME_HEADER_OCTETS..octets) {
            room.copy_from_slice(frame.payload);
            self.iovecs[index][0] = iovec(&joined[..octets]);
            1
        } else {
            self.iovecs[index] = [iovec(&joined[..FRAME_HEADER_OCTETS]), iovec(frame.payload)];
            2
        }
    }

    fn set_udp(&mut self, index: usize, datagram: &UdpSend<'_>) {
        let name = &mut self.names[index];
        name.sin_family = libc::AF_INET as u16;
        name.sin_port = datagram.destination_port.to_be();
        name.sin_addr.s_addr = u32::from(datagram.destination).to_be();
        self.iovecs[index][0] = iovec(datagram.bytes);
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = (&raw mut *name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = self.iovecs[index].as_mut_ptr();
        header.msg_iovlen = 1;
        header.msg_control = self.controls[index].0.as_mut_ptr().cast();
        let info = libc::in_pktinfo {
            ipi_ifindex: i32::try_from(datagram.ifindex).unwrap_or(0),
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(datagram.source).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let octets = size_of::<libc::in_pktinfo>() as u32;
        // SAFETY: `msg_control` points to INFO_OCTETS octets, aligned for a cmsghdr, which hold one message of
        // this size (asserted below), so the first header exists and its data lies within.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(octets) as _;
            let message = libc::CMSG_FIRSTHDR(header);
            (*message).cmsg_level = libc::IPPROTO_IP;
            (*message).cmsg_type = libc::IP_PKTINFO;
            (*message).cmsg_len = libc::CMSG_LEN(octets) as _;
            std::ptr::write_unaligned(libc::CMSG_DATA(message).cast(), info);
        }
    }

    /// Sends the first `count` headers. A refused one is skipped, so that the ones behind it are still sent.
    fn send(&mut self, socket: &impl AsFd, count: usize) -> Sent {
        let mut result = Sent::default();
        let mut done = 0;
        while done < count {
            let rest = &mut self.headers[done..count];
            // SAFETY: these headers were set by the caller in this call and point to memory that is still
            // borrowed or owned by `self`.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_fd().as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => {
                    result.sent += sent;
                    done += sent;
                }
                _ => {
                    result.error = io::Error::last_os_error().raw_os_error();
                    if result.error != Some(libc::EINTR) {
                        result.refused += 1;
                        done += 1;
                    }
                }
            }
        }
        result
    }
}

fn iovec(bytes: &[u8]) -> libc::iovec {
    // sendmmsg only reads; the C struct has no const variant.
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

const _: () = assert!(
    INFO_OCTETS >= size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>().next_multiple_of(8),
    "room for one control message"
);
