//! Datagrams that are received and not yet decided (`packet-queue-size`).
//!
//! A shard that falls behind takes what waits in the kernel into this queue and drops the oldest: its client has
//! probably asked again, and a late answer helps nobody. The slots are used again, so nothing is allocated in
//! the steady state.

use std::net::Ipv4Addr;

use crate::DatagramMeta;

/// A slot that has held more than this gives its memory back: DHCP messages are small, and one large datagram
/// must not cost its size for ever.
const SLOT_OCTETS_KEPT: usize = 4096;

/// A bounded queue of datagrams, oldest first.
#[derive(Debug)]
pub struct Undecided {
    slots: Vec<Slot>,
    limit: usize,
    first: usize,
    count: usize,
}

#[derive(Debug)]
struct Slot {
    meta: DatagramMeta,
    bytes: Vec<u8>,
}

impl Undecided {
    /// A queue of at most `limit` datagrams, at least one.
    pub fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), limit: limit.max(1), first: 0, count: 0 }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a datagram; true when the oldest had to go for it.
    pub fn push(&mut self, meta: &DatagramMeta, bytes: &[u8]) -> bool {
        let full = self.count == self.limit;
        if full {
            self.first = (self.first + 1) % self.limit;
            self.count -= 1;
        }
        let place = (self.first + self.count) % self.limit;
        while self.slots.len() <= place {
            self.slots.push(Slot { meta: EMPTY, bytes: Vec::new() });
        }
        let slot = &mut self.slots[place];
        slot.meta = *meta;
        if slot.bytes.capacity() > SLOT_OCTETS_KEPT && bytes.len() <= SLOT_OCTETS_KEPT {
            slot.bytes = Vec::new();
        }
        slot.bytes.clear();
        slot.bytes.extend_from_slice(bytes);
        self.count += 1;
        full
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<(DatagramMeta, &[u8])> {
        if self.count == 0 {
            return None;
        }
        let slot = &self.slots[self.first];
        self.first = (self.first + 1) % self.limit;
        self.count -= 1;
        Some((slot.meta, &slot.bytes))
    }
}

const EMPTY: DatagramMeta = DatagramMeta {
    socket: 0,
    ifindex: 0,
    source: Ipv4Addr::UNSPECIFIED,
    source_port: 0,
    destination: Ipv4Addr::UNSPECIFIED,
    socket_address: Ipv4Addr::UNSPECIFIED,
    source_mac: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_the_queue_is_full_and_order_is_kept() {
        let mut queue = Undecided::new(3);
        let dropped: Vec<bool> = (0..5u8).map(|number| queue.push(&EMPTY, &[number])).collect();
        assert_eq!(dropped, [false, false, false, true, true]);
        assert_eq!(queue.len(), 3);
        let mut seen = Vec::new();
        while let Some((_, bytes)) = queue.pop() {
            seen.push(bytes[0]);
        }
        assert_eq!(seen, [2, 3, 4]);
        assert!(queue.pop().is_none());
        for round in 0..10u8 {
            assert!(!queue.push(&EMPTY, &[round; 9]));
            assert_eq!(queue.pop().unwrap().1, [round; 9]);
        }
    }

    #[test]
    fn a_large_datagram_does_not_keep_its_memory() {
        let mut queue = Undecided::new(1);
        queue.push(&EMPTY, &[0; 65_507]);
        queue.pop();
        queue.push(&EMPTY, &[0; 300]);
        assert!(queue.slots[0].bytes.capacity() <= SLOT_OCTETS_KEPT);
    }
}
