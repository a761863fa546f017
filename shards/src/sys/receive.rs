//! `recvmmsg` with packet information, into buffers that are made once.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// Room for the control messages of one datagram: packet info (28 octets) and the time (32), aligned.
const CONTROL_OCTETS: usize = 128;

/// Buffers lie so many octets more than whole pages apart. At the same place of a page their beginnings, which is
/// all that a datagram usually fills, would share a few sets of the processor's caches and drive each other out.
const APART_OCTETS: usize = 512;
const PAGE_OCTETS: usize = 4096;

/// A UDP datagram of the last batch.
#[derive(Clone, Copy, Debug)]
pub struct UdpDatagram<'batch> {
    /// Payload.
    pub bytes: &'batch [u8],
    /// IP source address.
    pub source: Ipv4Addr,
    /// UDP source port.
    pub source_port: u16,
    /// IP destination address as sent.
    pub destination: Ipv4Addr,
    /// Interface it came in on.
    pub ifindex: u32,
}

/// Buffers for one `recvmmsg`.
pub struct ReceiveBatch {
    /// Distance between the beginnings of two buffers.
    stride: usize,
    buffers: Box<[u8]>,
    names: Box<[libc::sockaddr_in]>,
    controls: Box<[Control]>,
    // Read by the kernel through the pointers in `headers`.
    _iovecs: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    received: usize,
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_OCTETS]);

// SAFETY: the raw pointers inside point only into boxes that the same value owns, and moving the value does not
// move what the boxes hold.
unsafe impl Send for ReceiveBatch {}

impl ReceiveBatch {
    /// Room for `datagrams` of up to `octets` each. Pages that no datagram reaches are never touched.
    pub fn new(datagrams: usize, octets: usize) -> Self {
        // SAFETY: all-zero is valid for these plain C structs.
        let (name, header): (libc::sockaddr_in, libc::mmsghdr) = unsafe { std::mem::zeroed() };
        let stride = octets.next_multiple_of(PAGE_OCTETS) + APART_OCTETS;
        let mut buffers = vec![0; datagrams * stride].into_boxed_slice();
        let mut names = vec![name; datagrams].into_boxed_slice();
        let mut controls = vec![Control([0; CONTROL_OCTETS]); datagrams].into_boxed_slice();
        let mut iovecs: Box<[libc::iovec]> = buffers
            .chunks_mut(stride)
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: octets })
            .collect();
        let mut headers = vec![header; datagrams].into_boxed_slice();
        for (index, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_name = (&raw mut names[index]).cast();
            header.msg_hdr.msg_iov = &raw mut iovecs[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = controls[index].0.as_mut_ptr().cast();
        }
        Self { stride, buffers, names, controls, _iovecs: iovecs, headers, received: 0 }
    }

    /// Takes at most `max` datagrams that are there, without waiting; how many there were.
    ///
    /// # Errors
    /// What the socket has to report (an ICMP answer, an interface that went down); datagrams may follow.
    pub fn receive(&mut self, socket: &impl AsFd, max: usize) -> io::Result<usize> {
        self.received = 0;
        for header in &mut self.headers {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL_OCTETS as _;
            header.msg_hdr.msg_flags = 0;
        }
        let count = self.headers.len().min(max) as libc::c_uint;
        // SAFETY: every header points to buffers owned by `self`, of the lengths stated, and `count` is within.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        match usize::try_from(received) {
            Ok(received) => {
                self.received = received;
                Ok(received)
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
            }
        }
    }

    /// Datagrams in the last batch.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Datagram `index` of the last batch; `None` if it was longer than its buffer or has no packet info.
    pub fn udp(&self, index: usize) -> Option<UdpDatagram<'_>> {
        let bytes = self.bytes(index)?;
        let info: libc::in_pktinfo = self.control(index, libc::IPPROTO_IP, libc::IP_PKTINFO)?;
        let name = &self.names[index];
        Some(UdpDatagram {
            bytes,
            source: Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)),
            source_port: u16::from_be(name.sin_port),
            destination: Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)),
            ifindex: u32::try_from(info.ipi_ifindex).unwrap_or(0),
        })
    }

    /// Frame `index` of the last batch, from its Ethernet header on; `None` if it was longer than its buffer.
    pub fn frame(&self, index: usize) -> Option<&[u8]> {
        self.bytes(index)
    }

    /// When the kernel received datagram `index` of the last batch, wall clock in milliseconds; `None` where the socket
    /// was not asked to tell.
    pub fn received_ms(&self, index: usize) -> Option<u64> {
        assert!(index < self.received, "a datagram of the last batch");
        let time: libc::timespec = self.control(index, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS)?;
        let seconds = u64::try_from(time.tv_sec).ok()?;
        Some(seconds * 1_000 + u64::try_from(time.tv_nsec).ok()? / 1_000_000)
    }

    fn bytes(&self, index: usize) -> Option<&[u8]> {
        assert!(index < self.received, "a datagram of the last batch");
        let header = &self.headers[index];
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        let start = index * self.stride;
        self.buffers.get(start..start + header.msg_len as usize)
    }

    /// The control message of a kind, copied out; `T` is the plain C struct the kernel writes for it.
    fn control<T: Copy>(&self, index: usize, level: i32, kind: i32) -> Option<T> {
        let header = &self.headers[index].msg_hdr;
        // SAFETY: the header describes a control buffer owned by `self` that the kernel has filled up to
        // `msg_controllen`; the macros stay within it, and the length is checked before the struct is read.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(header);
            while !message.is_null() {
                let wanted = (*message).cmsg_level == level && (*message).cmsg_type == kind;
                if wanted && (*message).cmsg_len >= libc::CMSG_LEN(size_of::<T>() as u32) as _ {
                    return Some(ptr::read_unaligned(libc::CMSG_DATA(message).cast()));
                }
                message = libc::CMSG_NXTHDR(header, message);
            }
        }
        // Keeps the owner of the memory named beside its only reader.
        debug_assert!(index < self.controls.len());
        None
    }
}
