//! Rows on their way to the lease file: one batch being written, one being filled (group commit).
//!
//! A batch is one write and begins with a newline, so that a write cut short never glues two rows together;
//! Kea and [`super::replay`] skip empty lines. At most one batch is in flight, so rows reach the file in
//! order.

/// A buffer that grew beyond this in a burst is given back, octets.
const BUFFER_KEPT_OCTETS_MAX: usize = 1024 * 1024;

/// One write: bytes to append in one call, and what it completes.
#[derive(Debug, Eq, PartialEq)]
pub struct Batch {
    /// Begins with a newline.
    pub bytes: Vec<u8>,
    /// Number of the last append that is in it (the number `Engine::handle_persisted` is told).
    pub last: u64,
    /// How many rows are in it.
    pub rows: u64,
}

/// What waits and what is in flight.
#[derive(Debug, Default)]
pub struct BatchBuffer {
    waiting: Vec<u8>,
    spare: Vec<u8>,
    appended: u64,
    rows: u64,
    in_flight_octets: usize,
}

impl BatchBuffer {
    /// Nothing waiting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the rows of one iteration, each ended by a newline, and returns their number, counted from 1.
    ///
    /// # Panics
    /// When there are no rows: the engine counts only non-empty ones.
    pub fn append(&mut self, rows: &[u8]) -> u64 {
        assert!(rows.last() == Some(&b'\n'), "rows end with a newline");
        if self.waiting.is_empty() {
            self.waiting.push(b'\n');
        }
        self.waiting.extend_from_slice(rows);
        self.rows += rows.iter().filter(|octet| **octet == b'\n').count() as u64;
        self.appended += 1;
        self.appended
    }

    /// What to write now; `None` while a batch is in flight or nothing waits.
    pub fn take(&mut self) -> Option<Batch> {
        if self.in_flight_octets > 0 || self.waiting.is_empty() {
            return None;
        }
        let bytes = std::mem::replace(&mut self.waiting, std::mem::take(&mut self.spare));
        self.in_flight_octets = bytes.len();
        Some(Batch { bytes, last: self.appended, rows: std::mem::take(&mut self.rows) })
    }

    /// `batch` is as durable as asked; its buffer is used again. Returns its last number.
    pub fn complete(&mut self, batch: Batch) -> u64 {
        self.in_flight_octets = 0;
        if batch.bytes.capacity() <= BUFFER_KEPT_OCTETS_MAX {
            self.spare = batch.bytes;
            self.spare.clear();
        }
        batch.last
    }

    /// Octets not yet durable: waiting and in flight.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.len() + self.in_flight_octets
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.waiting_bytes() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_gather_while_a_batch_is_in_flight_and_numbers_follow_the_appends() {
        let mut buffer = BatchBuffer::new();
        assert_eq!((buffer.take(), buffer.is_idle()), (None, true));
        assert_eq!(buffer.append(b"a\n"), 1);
        let first = buffer.take().unwrap();
        assert_eq!(first, Batch { bytes: b"\na\n".to_vec(), last: 1, rows: 1 });
        assert_eq!((buffer.append(b"b\n"), buffer.append(b"c\nd\n")), (2, 3));
        assert_eq!((buffer.take(), buffer.waiting_bytes()), (None, 10));
        assert_eq!(buffer.complete(first), 1);
        let second = buffer.take().unwrap();
        assert_eq!(second, Batch { bytes: b"\nb\nc\nd\n".to_vec(), last: 3, rows: 3 });
        assert_eq!((buffer.complete(second), buffer.is_idle(), buffer.take()), (3, true, None));
    }
}
