//! Appends a shard's rows to the lease file: one write in flight, and its sync; the next batch grows meanwhile.
//!
//! A write that fails or is cut short poisons the journal: nothing is written or acknowledged any more, and the
//! process ends, rather than promise what the disk does not hold.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use glommio::io::BufferedFile;

use super::local::Wake;
use super::port::Inbox;
use super::port::count;
use crate::journal::BatchBuffer;
use crate::sys::adopt;

/// When a row counts as durable.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// After `fdatasync`: it survives the loss of power.
    #[default]
    Synced,
    /// After `write`: it survives the process, which is what Kea's memfile gives.
    Written,
}

/// Where a shard's rows go.
#[derive(Debug)]
pub struct JournalFile {
    /// Opened for appending.
    pub file: File,
    /// When a row counts as durable.
    pub durability: Durability,
}

/// The lease file cannot be written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{step} the lease file failed: {cause}")]
pub struct JournalFailure {
    /// Writing or syncing.
    pub step: &'static str,
    /// What the kernel said.
    pub cause: String,
}

/// Shared by the writer task and the shard's main task.
#[derive(Debug)]
pub(crate) struct Journal {
    buffer: RefCell<BatchBuffer>,
    /// `None` keeps leases in memory only (`persist: false`).
    file: RefCell<Option<BufferedFile>>,
    durability: Durability,
    persisted: Cell<u64>,
    in_flight: Cell<bool>,
    held: Cell<bool>,
    failure: RefCell<Option<JournalFailure>>,
    /// Wakes the writer.
    work: Wake,
}

impl Journal {
    pub(crate) fn new(file: Option<JournalFile>) -> Self {
        let durability = file.as_ref().map_or(Durability::Written, |file| file.durability);
        Self {
            buffer: RefCell::new(BatchBuffer::new()),
            file: RefCell::new(file.map(|file| adopt::buffered_file(OwnedFd::from(file.file)))),
            durability,
            persisted: Cell::new(0),
            in_flight: Cell::new(false),
            held: Cell::new(false),
            failure: RefCell::new(None),
            work: Wake::default(),
        }
    }

    /// Takes the rows of one iteration.
    pub(crate) fn append(&self, rows: &[u8]) {
        self.buffer.borrow_mut().append(rows);
        self.work.notify();
    }

    /// Number of the last append that is durable.
    pub(crate) fn persisted(&self) -> u64 {
        self.persisted.get()
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.buffer.borrow().waiting_bytes()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.buffer.borrow().is_idle()
    }

    pub(crate) fn failure(&self) -> Option<JournalFailure> {
        self.failure.borrow().clone()
    }

    /// Begins no further write.
    pub(crate) fn hold(&self) {
        self.held.set(true);
    }

    /// Whether writes are held and none is in flight.
    pub(crate) fn is_held(&self) -> bool {
        self.held.get() && !self.in_flight.get()
    }

    /// Writes again, to `file` if there is one.
    pub(crate) fn resume(&self, file: Option<File>) {
        if let Some(file) = file {
            *self.file.borrow_mut() = Some(adopt::buffered_file(OwnedFd::from(file)));
        }
        self.held.set(false);
        self.work.notify();
    }

    /// The writer task. `progress` is notified after each batch.
    pub(crate) async fn run(self: Rc<Self>, inbox: Rc<Inbox>, progress: Rc<Wake>) {
        loop {
            let batch = if self.held.get() { None } else { self.buffer.borrow_mut().take() };
            let Some(mut batch) = batch else {
                self.work.wait().await;
                continue;
            };
            self.in_flight.set(true);
            // glommio keeps what it writes, so the buffer is made anew for each batch.
            let written = self.write(std::mem::take(&mut batch.bytes), &inbox).await;
            self.in_flight.set(false);
            match written {
                Ok(()) => self.persisted.set(self.buffer.borrow_mut().complete(batch)),
                Err(failure) => {
                    *self.failure.borrow_mut() = Some(failure);
                    progress.notify();
                    return;
                }
            }
            progress.notify();
        }
    }

    async fn write(&self, bytes: Vec<u8>, inbox: &Inbox) -> Result<(), JournalFailure> {
        // A new file is put in place only while nothing is in flight, so the descriptor is not borrowed then.
        let Some(file) = self.file.borrow_mut().take() else { return Ok(()) };
        let result = self.write_to(&file, bytes, inbox).await;
        *self.file.borrow_mut() = Some(file);
        result
    }

    async fn write_to(
        &self,
        file: &BufferedFile,
        bytes: Vec<u8>,
        inbox: &Inbox,
    ) -> Result<(), JournalFailure> {
        let length = bytes.len();
        // The file is open for appending, so the position is ignored.
        let written =
            file.write_at(bytes, 0).await.map_err(|error| JournalFailure::new("writing", error.into()))?;
        count(&inbox.counters().journal_writes, 1);
        if written != length {
            let cause = io::Error::other(format!("only {written} of {length} octets were taken"));
            return Err(JournalFailure::new("writing", cause));
        }
        if self.durability == Durability::Synced {
            file.fdatasync().await.map_err(|error| JournalFailure::new("syncing", error.into()))?;
            count(&inbox.counters().journal_syncs, 1);
        }
        Ok(())
    }
}

impl JournalFailure {
    fn new(step: &'static str, cause: io::Error) -> Self {
        Self { step, cause: cause.to_string() }
    }
}
