//! Frames that the kernel writes into memory it shares with the process (`PACKET_RX_RING`): received without a call,
//! without a copy of ours, and without a buffer of the kernel's to free on the shard's processor.
//!
//! A frame that is longer than a slot waits, whole, at the socket, to be received from there: so the ring serves links of
//! every MTU, and of one that is changed meanwhile. The kernel is told to by `PACKET_COPY_THRESH`, and keeps the two in
//! the same order.
//!
//! Version 2 of the interface, because its slots are handed over one by one: those of version 3 come by the block, when it
//! is full or a timeout has passed, which no DHCP client has time for.
//!
//! The memory is the kernel's: it is not counted as locked by the process, is there from [`ReceiveRing::attach`] on,
//! and shows in the resident memory of the process as file pages. Checksums may be missing in a frame from this host
//! (`TP_STATUS_CSUMNOTREADY`), and nobody here asks (PKT-11).
//!
//! Invariants: slots are filled and given back in order; a slot is the kernel's or ours, as its status says; nothing of a
//! slot is read before its status was, or after it was given back.

use std::fmt;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use super::prefetch::{self, CACHE_LINE_OCTETS};
use super::socket::set_packet_option;

/// A slot: the kernel's header and a frame.
pub const SLOT_OCTETS: usize = 2048;

/// What the kernel allocates at once.
const BLOCK_OCTETS: usize = 64 * 1024;
const SLOTS_PER_BLOCK: usize = BLOCK_OCTETS / SLOT_OCTETS;

/// Octets of a slot that are asked for ahead: all headers, and a message's own up to where its options begin to differ.
const AHEAD_OCTETS: usize = 512;

const _: () = assert!(BLOCK_OCTETS.is_multiple_of(SLOT_OCTETS) && SLOT_OCTETS.is_power_of_two());

/// The ring of one AF_PACKET socket.
pub struct ReceiveRing {
    memory: NonNull<u8>,
    slots: usize,
    /// The slot that is filled next.
    next: usize,
    /// Slots of the last batch, from `next` on, which are ours.
    taken: usize,
    /// Those of them whose frames wait at the socket.
    at_socket: usize,
}

/// Where a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place<'ring> {
    /// In its slot: the octets from its Ethernet header on.
    Slot(&'ring [u8]),
    /// At the socket, behind so many others of this batch.
    Socket(usize),
    /// Nowhere any more: it did not fit its slot, and at the socket there was no room.
    CutOff,
}

// SAFETY: the memory is a mapping of this value's own, which any thread may use; the kernel is the only other writer, and
// who may touch a slot is settled by its status.
unsafe impl Send for ReceiveRing {}

impl fmt::Debug for ReceiveRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ReceiveRing").field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl ReceiveRing {
    /// Gives `socket` a ring of at least `slots`, into which everything that passes its filter goes from now on.
    ///
    /// # Errors
    /// No memory for it, or no packet socket; the socket is as it was then.
    pub fn attach(socket: &impl AsFd, slots: usize) -> io::Result<Self> {
        let blocks = slots.div_ceil(SLOTS_PER_BLOCK).max(1);
        let slots = blocks * SLOTS_PER_BLOCK;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_OCTETS as u32,
            tp_block_nr: u32::try_from(blocks).map_err(|_| io::ErrorKind::InvalidInput)?,
            tp_frame_size: SLOT_OCTETS as u32,
            tp_frame_nr: u32::try_from(slots).map_err(|_| io::ErrorKind::InvalidInput)?,
        };
        set_packet_option(socket, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as i32))?;
        set_packet_option(socket, libc::PACKET_COPY_THRESH, &1_i32)?;
        set_packet_option(socket, libc::PACKET_RX_RING, &request)?;
        Self::map(socket, slots).inspect_err(|_| {
            // A ring that nobody reads would swallow everything. To give one up cannot fail while it is not mapped.
            let none =
                libc::tpacket_req { tp_block_size: 0, tp_block_nr: 0, tp_frame_size: 0, tp_frame_nr: 0 };
            let _ = set_packet_option(socket, libc::PACKET_RX_RING, &none);
        })
    }

    fn map(socket: &impl AsFd, slots: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at a place of the kernel's choice, of the size of the ring that was just made.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                slots * SLOT_OCTETS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_fd().as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { memory, slots, next: 0, taken: 0, at_socket: 0 })
    }

    /// Octets of its memory.
    pub fn octets(&self) -> usize {
        self.slots * SLOT_OCTETS
    }

    /// Takes at most `max` frames that are there, which are the last batch until [`ReceiveRing::release`]; how many there
    /// were.
    pub fn take(&mut self, max: usize) -> usize {
        self.release();
        let max = max.min(self.slots);
        while self.taken < max {
            let slot = self.slot(self.taken);
            // Pairs with the kernel's barrier between what it writes into a slot and the status.
            let status = status(slot).load(Ordering::Acquire);
            if status & libc::TP_STATUS_USER == 0 {
                break;
            }
            ask_ahead(slot);
            self.taken += 1;
            self.at_socket += usize::from(status & libc::TP_STATUS_COPY != 0);
        }
        self.taken
    }

    /// Frames in the last batch.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Frames of the last batch that wait at the socket.
    pub fn at_socket(&self) -> usize {
        self.at_socket
    }

    /// Where frame `place` of the last batch is.
    ///
    /// # Panics
    /// Beyond the last batch.
    pub fn frame(&self, place: usize) -> Place<'_> {
        let header = self.header(place);
        if header.tp_status & libc::TP_STATUS_COPY != 0 {
            let waits = |before: &usize| self.header(*before).tp_status & libc::TP_STATUS_COPY != 0;
            return Place::Socket((0..place).filter(waits).count());
        }
        let (start, length) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        if header.tp_snaplen < header.tp_len || start + length > SLOT_OCTETS {
            return Place::CutOff;
        }
        // SAFETY: the octets lie within the slot, which the kernel does not touch until it is given back, which takes
        // this value by exclusive reference.
        let bytes = unsafe { std::slice::from_raw_parts(self.slot(place).as_ptr().add(start), length) };
        Place::Slot(bytes)
    }

    /// When the kernel received frame `place` of the last batch, wall clock in milliseconds.
    ///
    /// # Panics
    /// Beyond the last batch.
    pub fn received_ms(&self, place: usize) -> u64 {
        let header = self.header(place);
        u64::from(header.tp_sec) * 1_000 + u64::from(header.tp_nsec) / 1_000_000
    }

    /// Gives the slots of the last batch back to the kernel.
    pub fn release(&mut self) {
        for place in 0..self.taken {
            // No look at the slot may come after this: the kernel writes as soon as it sees it.
            status(self.slot(place)).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        self.next = (self.next + self.taken) % self.slots;
        (self.taken, self.at_socket) = (0, 0);
    }

    fn header(&self, place: usize) -> libc::tpacket2_hdr {
        assert!(place < self.taken, "a frame of the last batch");
        // SAFETY: the slot is ours and begins with this plain C struct, for which slots are aligned.
        unsafe { self.slot(place).cast::<libc::tpacket2_hdr>().read() }
    }

    /// The slot `place` beyond the next one; `place` is below the number of slots.
    fn slot(&self, place: usize) -> NonNull<u8> {
        let index = self.next + place;
        let index = if index < self.slots { index } else { index - self.slots };
        // SAFETY: `next` and `place` are both below `slots`, so the index is, and the mapping has as many slots.
        unsafe { self.memory.add(index * SLOT_OCTETS) }
    }
}

impl Drop for ReceiveRing {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and nothing refers to it any more. It cannot fail.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.octets()) };
    }
}

/// The word that says whose `slot` is.
fn status<'ring>(slot: NonNull<u8>) -> &'ring AtomicU32 {
    const { assert!(offset_of!(libc::tpacket2_hdr, tp_status) == 0) };
    // SAFETY: a slot begins with this word, is aligned for it, and both sides use it as an atomic one.
    unsafe { slot.cast::<AtomicU32>().as_ref() }
}

/// Has the processor fetch the beginning of a slot, which another one has written, while the next slots are looked at.
fn ask_ahead(slot: NonNull<u8>) {
    for offset in (CACHE_LINE_OCTETS..AHEAD_OCTETS).step_by(CACHE_LINE_OCTETS) {
        // SAFETY: the octet lies within the slot, which is ours.
        prefetch::fetch(unsafe { slot.add(offset).as_ref() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: usize = SLOTS_PER_BLOCK;

    /// A ring in memory that no kernel fills.
    fn ring() -> ReceiveRing {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at a place of the kernel's choice, which the ring unmaps.
        let memory = unsafe { libc::mmap(ptr::null_mut(), SLOTS * SLOT_OCTETS, access, kind, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED);
        let memory = NonNull::new(memory.cast()).unwrap();
        ReceiveRing { memory, slots: SLOTS, next: 0, taken: 0, at_socket: 0 }
    }

    /// What the kernel's part of these tests has written, and where it goes on.
    struct Kernel {
        next: usize,
    }

    impl Kernel {
        /// Writes a frame of `length` octets `mark`, of which the slot has `captured` at `start`; false if the slot is not
        /// the kernel's.
        fn write(
            &mut self,
            ring: &ReceiveRing,
            mark: u8,
            (start, captured, length): Shape,
            extra: u32,
        ) -> bool {
            // SAFETY: the index is below the number of slots.
            let slot = unsafe { ring.memory.add(self.next * SLOT_OCTETS) };
            if status(slot).load(Ordering::Acquire) != libc::TP_STATUS_KERNEL {
                return false;
            }
            let header = libc::tpacket2_hdr {
                tp_status: libc::TP_STATUS_KERNEL,
                tp_len: length,
                tp_snaplen: captured,
                tp_mac: start,
                tp_net: start + 14,
                tp_sec: 1_700_000_000,
                tp_nsec: 5_999_999,
                tp_vlan_tci: 0,
                tp_vlan_tpid: 0,
                tp_padding: [0; 4],
            };
            let room = (SLOT_OCTETS - usize::from(start)).min(captured as usize);
            // SAFETY: header and octets lie within the slot, which is the kernel's.
            unsafe {
                slot.cast().write(header);
                slot.add(start.into()).write_bytes(mark, room);
            }
            status(slot).store(libc::TP_STATUS_USER | extra, Ordering::Release);
            self.next = (self.next + 1) % SLOTS;
            true
        }
    }

    /// Where a frame begins in its slot, octets of it there, octets of it in all.
    type Shape = (u16, u32, u32);

    /// Where the kernel puts a frame, and the longest that fits.
    const START: u16 = 66;
    const FITS: u32 = (SLOT_OCTETS - START as usize) as u32;

    #[test]
    fn frames_are_taken_in_order_and_given_back_round_and_round() {
        let (mut ring, mut kernel) = (ring(), Kernel { next: 0 });
        assert_eq!((ring.take(8), ring.taken()), (0, 0), "an empty ring");
        let (mut written, mut read) = (0_u8, 0_u8);
        // Numbers without a common divisor, so that a batch ends everywhere in the ring.
        for _ in 0..3 * SLOTS {
            for _ in 0..5 {
                assert!(kernel.write(&ring, written, (START, 300, 300), 0));
                written = written.wrapping_add(1);
            }
            for (max, expected) in [(3, 3), (7, 2), (7, 0)] {
                assert_eq!(ring.take(max), expected);
                for place in 0..expected {
                    assert_eq!(ring.frame(place), Place::Slot(&[read; 300]));
                    assert_eq!(ring.received_ms(place), 1_700_000_000_005);
                    read = read.wrapping_add(1);
                }
            }
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_until_a_batch_is_given_back() {
        let (mut ring, mut kernel) = (ring(), Kernel { next: 0 });
        let mut fill =
            |ring: &ReceiveRing| (0..).take_while(|_| kernel.write(ring, 1, (START, 10, 10), 0)).count();
        assert_eq!(fill(&ring), SLOTS);
        assert_eq!(ring.take(4 * SLOTS), SLOTS, "never more than there are slots");
        assert_eq!(fill(&ring), 0, "a batch that is being read is not written over");
        ring.release();
        assert_eq!((ring.taken(), fill(&ring)), (0, SLOTS));
        assert_eq!(ring.take(6), 6);
        assert_eq!(ring.take(6), 6, "which gives the batch before back");
        assert_eq!(fill(&ring), 6);
    }

    #[test]
    fn a_frame_is_read_where_it_is_and_never_beyond_its_slot() {
        let copy = libc::TP_STATUS_COPY;
        let cases: [(&str, Shape, u32, Place<'_>); 9] = [
            ("shortest", (START, 0, 0), 0, Place::Slot(&[])),
            ("without checksum", (START, 60, 60), libc::TP_STATUS_CSUMNOTREADY, Place::Slot(&[7; 60])),
            ("as others were lost", (START, 60, 60), libc::TP_STATUS_LOSING, Place::Slot(&[7; 60])),
            ("longest", (START, FITS, FITS), 0, Place::Slot(&[7; FITS as usize])),
            ("longer, at the socket", (START, FITS, FITS + 1), copy, Place::Socket(0)),
            ("the next such one", (START, FITS, 9000), copy, Place::Socket(1)),
            ("longer, and no room", (START, FITS, FITS + 1), 0, Place::CutOff),
            ("lengths that lie", (START, FITS + 1, FITS + 1), 0, Place::CutOff),
            ("a beginning that lies", (u16::try_from(SLOT_OCTETS).unwrap(), 1, 1), 0, Place::CutOff),
        ];
        let (mut ring, mut kernel) = (ring(), Kernel { next: 0 });
        for (case, shape, extra, _) in &cases {
            assert!(kernel.write(&ring, 7, *shape, *extra), "{case}");
        }
        assert_eq!((ring.take(64), ring.at_socket()), (cases.len(), 2));
        for (place, (case, _, _, expected)) in cases.iter().enumerate() {
            assert_eq!(ring.frame(place), *expected, "{case}");
        }
        assert_eq!((ring.take(64), ring.at_socket()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "a frame of the last batch")]
    fn what_was_given_back_is_not_read() {
        let (mut ring, mut kernel) = (ring(), Kernel { next: 0 });
        kernel.write(&ring, 1, (START, 10, 10), 0);
        assert_eq!(ring.take(1), 1);
        ring.release();
        ring.frame(0);
    }
}
