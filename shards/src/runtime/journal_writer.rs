//! Appends the shards' rows to the lease file, on one thread for all of them.
//!
//! A shard hands over one batch at a time and fills the next one meanwhile. The thread takes what all shards have
//! handed over, writes each batch, syncs once, and tells each shard: so one sync serves every shard that waits, and
//! no shard ever waits for the disk itself.
//!
//! A write that fails or is cut short poisons the journal: nothing is written or acknowledged any more, and the
//! process ends, rather than promise what the disk does not hold.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use super::mesh::NodeWaker;
use super::port::count;
use crate::journal::{Batch, BatchBuffer};

/// A shard has at most one batch in flight.
const LINK_PLACES: usize = 1;

/// How long the thread sleeps at most. It is woken for each batch; this is for links whose shard has ended.
const SLEEP: Duration = Duration::from_secs(5);

/// A sync begins this long after the one before it at the earliest. A row that comes alone waits for nothing; under
/// load the rows of this time share a sync: 2,000 syncs a second are enough for any rate, and a disk that syncs faster
/// is not kept busy with single rows.
const SYNC_SPACING: Duration = Duration::from_micros(500);

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
#[derive(Clone, Debug)]
pub struct JournalFile {
    /// Opened for appending; shards that share it share its syncs.
    pub file: Arc<File>,
    /// When a row counts as durable.
    pub durability: Durability,
    /// Who writes it.
    pub writer: JournalWriter,
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

/// The writer thread; it ends when the last handle and the last shard are gone.
#[derive(Clone, Debug)]
pub struct JournalWriter {
    shared: Arc<Shared>,
    thread: Thread,
}

/// What the thread has done so far.
#[derive(Debug, Default)]
pub struct JournalCounters {
    /// Writes to the lease file: one for each batch of a shard.
    pub writes: AtomicU64,
    /// Syncs of the lease file.
    pub syncs: AtomicU64,
    /// Rows written.
    pub rows: AtomicU64,
}

#[derive(Debug, Default)]
struct Shared {
    /// Links made since the thread looked last; rare, so a mutex that is opened only when the flag says so.
    links: Mutex<Vec<WriterEnd>>,
    any: AtomicBool,
    counters: JournalCounters,
}

/// A batch on its way to the thread.
#[derive(Debug)]
struct Order {
    file: Arc<File>,
    durability: Durability,
    batch: Batch,
}

type Outcome = Result<Batch, JournalFailure>;

/// The thread's end of a link.
#[derive(Debug)]
struct WriterEnd {
    orders: Consumer<Order>,
    outcomes: Producer<Outcome>,
    waker: NodeWaker,
}

/// The shard's end of a link.
#[derive(Debug)]
struct ShardEnd {
    orders: Producer<Order>,
    outcomes: Consumer<Outcome>,
}

impl JournalWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        // The thread holds a weak reference, so that it can see the last handle go.
        let weak = Arc::downgrade(&shared);
        let handle = std::thread::Builder::new().name("journal".into()).spawn(move || {
            let mut ends: Vec<WriterEnd> = Vec::new();
            let mut synced_at: Option<Instant> = None;
            loop {
                let Some(shared) = weak.upgrade() else { return };
                let busy = shared.round(&mut ends, &mut synced_at);
                drop(shared);
                if !busy {
                    std::thread::park_timeout(SLEEP);
                }
            }
        })?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// What the thread has done so far.
    pub fn counters(&self) -> &JournalCounters {
        &self.shared.counters
    }

    /// Connects a shard, which `waker` wakes.
    fn link(&self, waker: NodeWaker) -> ShardEnd {
        let (orders, order_consumer) = RingBuffer::new(LINK_PLACES);
        let (outcome_producer, outcomes) = RingBuffer::new(LINK_PLACES);
        let end = WriterEnd { orders: order_consumer, outcomes: outcome_producer, waker };
        self.shared.links.lock().unwrap_or_else(PoisonError::into_inner).push(end);
        self.shared.any.store(true, Ordering::Release);
        self.thread.unpark();
        ShardEnd { orders, outcomes }
    }
}

impl Shared {
    /// Writes what has been handed over and syncs it once; false when there was nothing.
    fn round(&self, ends: &mut Vec<WriterEnd>, synced_at: &mut Option<Instant>) -> bool {
        if self.any.swap(false, Ordering::Acquire) {
            ends.append(&mut self.links.lock().unwrap_or_else(PoisonError::into_inner));
        }
        ends.retain(|end| !end.orders.is_abandoned() || end.orders.slots() > 0);
        if ends.iter().any(|end| end.orders.slots() > 0)
            && let Some(early) = synced_at.and_then(|at| SYNC_SPACING.checked_sub(at.elapsed()))
        {
            std::thread::sleep(early);
        }
        let mut orders: Vec<(usize, Order, Result<(), JournalFailure>)> = Vec::with_capacity(ends.len());
        for (index, end) in ends.iter_mut().enumerate() {
            if let Ok(order) = end.orders.pop() {
                let written = self.write(&order);
                orders.push((index, order, written));
            }
        }
        if orders.iter().any(|(_, order, _)| order.durability == Durability::Synced) {
            *synced_at = Some(Instant::now());
            self.sync(&mut orders);
        }
        let busy = !orders.is_empty();
        for (index, order, written) in orders {
            let end = &mut ends[index];
            // There is room: the shard hands over nothing before it has taken the last outcome.
            let _ = end.outcomes.push(written.map(|()| order.batch));
            end.waker.wake();
        }
        busy
    }

    fn write(&self, order: &Order) -> Result<(), JournalFailure> {
        // The file is open for appending, and one write call takes the batch whole or the journal is poisoned.
        let written = loop {
            match (&*order.file).write(&order.batch.bytes) {
                // A signal came before anything was taken.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.map_err(|error| JournalFailure::new("writing", error))?,
            }
        };
        if written != order.batch.bytes.len() {
            let cause = format!("only {written} of {} octets were taken", order.batch.bytes.len());
            return Err(JournalFailure::new("writing", io::Error::other(cause)));
        }
        count(&self.counters.writes, 1);
        count(&self.counters.rows, order.batch.rows);
        Ok(())
    }

    /// Syncs each file once, for every order that asks for it.
    fn sync(&self, orders: &mut [(usize, Order, Result<(), JournalFailure>)]) {
        let mut synced: Vec<(Arc<File>, Result<(), JournalFailure>)> = Vec::new();
        for (_, order, outcome) in orders.iter_mut() {
            if order.durability != Durability::Synced || outcome.is_err() {
                continue;
            }
            let known = synced
                .iter()
                .find(|(file, _)| Arc::ptr_eq(file, &order.file))
                .map(|(_, result)| result.clone());
            *outcome = known.unwrap_or_else(|| {
                let result = order.file.sync_data().map_err(|error| JournalFailure::new("syncing", error));
                count(&self.counters.syncs, 1);
                synced.push((order.file.clone(), result.clone()));
                result
            });
        }
    }
}

impl JournalFailure {
    fn new(step: &'static str, cause: io::Error) -> Self {
        Self { step, cause: cause.to_string() }
    }
}

/// The shard's side: what waits, what is in flight, and how far it is durable.
#[derive(Debug)]
pub(crate) struct Journal {
    buffer: RefCell<BatchBuffer>,
    /// `None` keeps leases in memory only (`persist: false`).
    file: RefCell<Option<(JournalFile, ShardEnd)>>,
    persisted: Cell<u64>,
    in_flight: Cell<bool>,
    held: Cell<bool>,
    failure: RefCell<Option<JournalFailure>>,
}

impl Journal {
    /// The journal of the shard that `waker` wakes.
    pub(crate) fn new(file: Option<JournalFile>, waker: NodeWaker) -> Self {
        let file = file.map(|file| {
            let end = file.writer.link(waker);
            (file, end)
        });
        Self {
            buffer: RefCell::new(BatchBuffer::new()),
            file: RefCell::new(file),
            persisted: Cell::new(0),
            in_flight: Cell::new(false),
            held: Cell::new(false),
            failure: RefCell::new(None),
        }
    }

    /// Takes the rows of one iteration.
    pub(crate) fn append(&self, rows: &[u8]) {
        self.buffer.borrow_mut().append(rows);
        self.hand_over();
    }

    /// Looks for an answer of the writer; the number of the last append that is durable.
    pub(crate) fn poll(&self) -> u64 {
        let outcome = self.file.borrow_mut().as_mut().and_then(|(_, end)| end.outcomes.pop().ok());
        match outcome {
            Some(Ok(batch)) => {
                self.in_flight.set(false);
                self.persisted.set(self.buffer.borrow_mut().complete(batch));
                self.hand_over();
            }
            Some(Err(failure)) => *self.failure.borrow_mut() = Some(failure),
            None => {}
        }
        self.persisted.get()
    }

    /// The number of the last append that is known to be durable.
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
    pub(crate) fn resume(&self, file: Option<Arc<File>>) {
        if let (Some(file), Some((journal, _))) = (file, self.file.borrow_mut().as_mut()) {
            journal.file = file;
        }
        self.held.set(false);
        self.hand_over();
    }

    /// Hands the next batch over, where there is one and none is in flight.
    fn hand_over(&self) {
        if self.in_flight.get() || self.held.get() || self.failure.borrow().is_some() {
            return;
        }
        let Some(batch) = self.buffer.borrow_mut().take() else { return };
        match self.file.borrow_mut().as_mut() {
            Some((journal, end)) => {
                let order = Order { file: journal.file.clone(), durability: journal.durability, batch };
                // There is room: nothing is in flight.
                let _ = end.orders.push(order);
                self.in_flight.set(true);
                journal.writer.thread.unpark();
            }
            None => self.persisted.set(self.buffer.borrow_mut().complete(batch)),
        }
    }
}
