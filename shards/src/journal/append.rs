//! Rows on their way to the lease file: batches being written, one being filled (group commit).
//!
//! A batch is written whole and begins with a newline, so that a write cut short never glues two rows together;
//! Kea and [`super::replay`] skip empty lines. Batches are written and completed in the order they were taken in, so
//! rows reach the file in order.

/// A buffer that grew beyond this in a burst is given back, octets.
const BUFFER_KEPT_OCTETS_MAX: usize = 1024 * 1024;

/// Buffers kept for the next batches; as many as are in flight at once under load.
const BUFFERS_KEPT_MAX: usize = 64;

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
    spare: Vec<Vec<u8>>,
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

    /// What to write now; `None` when nothing waits.
    pub fn take(&mut self) -> Option<Batch> {
        if self.waiting.is_empty() {
            return None;
        }
        let bytes = std::mem::replace(&mut self.waiting, self.spare.pop().unwrap_or_default());
        self.in_flight_octets += bytes.len();
        Some(Batch { bytes, last: self.appended, rows: std::mem::take(&mut self.rows) })
    }

    /// `batch`, the first of those in flight, is as durable as asked; its buffer is used again. Returns its last
    /// number.
    pub fn complete(&mut self, batch: Batch) -> u64 {
        let Batch { mut bytes, last, .. } = batch;
        self.in_flight_octets -= bytes.len();
        if bytes.capacity() <= BUFFER_KEPT_OCTETS_MAX && self.spare.len() < BUFFERS_KEPT_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
        last
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
    fn rows_gather_until_they_are_taken_and_numbers_follow_the_appends() {
        let mut buffer = BatchBuffer::new();
        assert_eq!((buffer.take(), buffer.is_idle()), (None, true));
        assert_eq!(buffer.append(b"a\n"), 1);
        let first = buffer.take().unwrap();
        assert_eq!(first, Batch { bytes: b"\na\n".to_vec(), last: 1, rows: 1 });
        assert_eq!((buffer.append(b"b\n"), buffer.append(b"c\nd\n")), (2, 3));
        assert_eq!(buffer.waiting_bytes(), 10);
        let second = buffer.take().unwrap();
        assert_eq!(second, Batch { bytes: b"\nb\nc\nd\n".to_vec(), last: 3, rows: 3 });
        assert_eq!((buffer.take(), buffer.waiting_bytes()), (None, 10), "both are in flight");
        assert_eq!((buffer.complete(first), buffer.waiting_bytes()), (1, 7));
        assert_eq!((buffer.complete(second), buffer.is_idle()), (3, true));
        assert_eq!(buffer.append(b"e\n"), 4);
        assert_eq!(
            buffer.take().unwrap(),
            Batch { bytes: b"\ne\n".to_vec(), last: 4, rows: 1 },
            "a used buffer"
        );
    }
}
