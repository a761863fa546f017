//! Rows on their way to the lease file.

/// One write: bytes to append in one call, and what it completes.
#[derive(Debug)]
pub struct Batch {
    /// Begins with a newline.
    pub bytes: Vec<u8>,
    /// Number of the last append that is in it (the number `Engine::handle_persisted` is told).
    pub last: u64,
}

/// Two buffers: one being written, one being filled.
#[derive(Debug)]
pub struct BatchBuffer {}

impl BatchBuffer {
    /// Nothing waiting.
    pub fn new() -> Self {
        todo!()
    }
    /// Adds the rows of one iteration (non-empty) and returns their number, counted from 1.
    pub fn append(&mut self, rows: &[u8]) -> u64 {
        todo!()
    }
    /// What to write now; `None` while a batch is in flight or nothing waits.
    pub fn take(&mut self) -> Option<Batch> {
        todo!()
    }
    /// `batch` is as durable as asked; its buffer is used again. Returns its last number.
    pub fn complete(&mut self, batch: Batch) -> u64 {
        todo!()
    }
    /// Bytes not yet durable: waiting and in flight.
    pub fn waiting_bytes(&self) -> usize {
        todo!()
    }
    /// Whether nothing waits and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        todo!()
    }
}
