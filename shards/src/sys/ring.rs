//! Frames that the kernel writes into memory it shares with the process (`PACKET_RX_RING`): received without a call,
//! without a copy of ours, and without a buffer of the kernel's to free on the shard's processor.
//!
//! Invariants: slots are filled and given back in order; a slot is the kernel's or ours, as its status says.

use std::fmt;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use super::prefetch::{self, CACHE_LINE_OCTETS};
use super::receive::Frame;
use super::socket::set_packet_option;

/// A slot: the kernel's header and a frame.
pub const SLOT_OCTETS: usize = 2048;

/// Octets of a frame that a slot has room for: the kernel puts its header, its address and some alignment before it.
pub const FRAME_OCTETS_MAX: usize = SLOT_OCTETS - 128;

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
    /// No memory for it, or no packet socket.
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
        set_packet_option(socket, libc::PACKET_RX_RING, &request)?;
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
        Ok(Self { memory, slots, next: 0, taken: 0 })
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
            if status(slot).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                break;
            }
            ask_ahead(slot);
            self.taken += 1;
        }
        self.taken
    }

    /// Frames in the last batch.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Frame `place` of the last batch; `None` if it was longer than a slot.
    ///
    /// # Panics
    /// Beyond the last batch.
    pub fn frame(&self, place: usize) -> Option<Frame<'_>> {
        let header = self.header(place);
        let (start, length) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        if header.tp_snaplen < header.tp_len || start + length > SLOT_OCTETS {
            return None;
        }
        // SAFETY: the octets lie within the slot, which the kernel does not touch until it is given back, which takes
        // this value by exclusive reference.
        let bytes = unsafe { std::slice::from_raw_parts(self.slot(place).as_ptr().add(start), length) };
        Some(Frame { bytes, vlan_tagged: header.tp_status & libc::TP_STATUS_VLAN_VALID != 0 })
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
            status(self.slot(place)).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        self.next = (self.next + self.taken) % self.slots;
        self.taken = 0;
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
