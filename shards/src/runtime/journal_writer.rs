//! Appends the shards' rows to the lease file, on one thread for all of them.
//!
//! A shard hands over what it has whenever it has nothing else to do, and a busy one every now and then. The thread
//! takes what all shards have handed over, writes it in one call, syncs once, and tells each shard: so one sync serves
//! every shard that waits, and no shard ever waits for the disk itself.
//!
//! Where there is no room for the rows nothing is acknowledged, and the same rows are written again until there is: a
//! full disk is somebody's to clear, and until then no promise is made. Any other write that fails poisons the journal:
//! nothing is written or acknowledged any more, and the process ends, rather than promise what the disk does not hold.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use super::mesh::NodeWaker;
use super::port::count;
use crate::journal::{Batch, BatchBuffer};
use crate::sys::sched;

const TARGET: &str = "kea-dhcp4.dhcpsrv";

/// Batches of one shard in flight at most; more rows wait in its buffer.
const LINK_PLACES: usize = 64;

/// Batches that one call writes at most, which is the kernel's limit.
const WRITE_BATCHES_MAX: usize = 1024;

/// The thread sleeps nearly all of the time, and replies wait for what it does in between, so it asks to run first. Where
/// that is not allowed it asks for turns so short that it mostly takes the processor from a busy shard as soon as it can
/// go on.
const SLICE: Duration = Duration::from_micros(100);

/// How long the thread waits before it tries again to write to a disk that is full.
const FULL_PAUSE: Duration = Duration::from_millis(100);

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
    /// Writes to the lease file.
    pub writes: AtomicU64,
    /// Syncs of the lease file.
    pub syncs: AtomicU64,
    /// Rows written.
    pub rows: AtomicU64,
    /// Whether rows wait for room on the disk.
    pub is_full: AtomicBool,
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

/// What the thread has to know of earlier rounds.
#[derive(Debug, Default)]
struct Past {
    /// When the last sync began.
    synced_at: Option<Instant>,
    /// The journal is poisoned.
    failure: Option<JournalFailure>,
    /// There was no room for these: they come first.
    stuck: Vec<(usize, Order)>,
}

/// Why rows are not in the file.
enum Unwritten {
    /// The disk is full, and the file is as it was.
    Full(io::Error),
    /// For good.
    Failed(JournalFailure),
}

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
            // A kernel that knows neither wish schedules the thread like any other.
            let _ = sched::run_first().or_else(|_| sched::set_slice(SLICE));
            let mut ends: Vec<WriterEnd> = Vec::new();
            let mut past = Past::default();
            loop {
                let Some(shared) = weak.upgrade() else { return };
                let busy = shared.round(&mut ends, &mut past);
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
    fn round(&self, ends: &mut Vec<WriterEnd>, past: &mut Past) -> bool {
        if self.any.swap(false, Ordering::Acquire) {
            ends.append(&mut self.links.lock().unwrap_or_else(PoisonError::into_inner));
        }
        if !past.stuck.is_empty() {
            std::thread::sleep(FULL_PAUSE);
        } else {
            // Orders that are stuck name their ends by place.
            ends.retain(|end| !end.orders.is_abandoned() || end.orders.slots() > 0);
        }
        if ends.iter().any(|end| end.orders.slots() > 0)
            && let Some(early) = past.synced_at.and_then(|at| SYNC_SPACING.checked_sub(at.elapsed()))
        {
            std::thread::sleep(early);
        }
        let mut orders = std::mem::take(&mut past.stuck);
        for (index, end) in ends.iter_mut().enumerate() {
            while let Ok(order) = end.orders.pop() {
                orders.push((index, order));
            }
        }
        if past.failure.is_none() {
            match self.carry_out(&orders, &mut past.synced_at) {
                Ok(()) => self.note_room(),
                Err(Unwritten::Failed(failure)) => past.failure = Some(failure),
                Err(Unwritten::Full(error)) => {
                    self.note_full(&error);
                    past.stuck = orders;
                    return true;
                }
            }
        }
        let busy = !orders.is_empty();
        let mut told = None;
        for (index, order) in orders {
            let outcome = past.failure.clone().map_or(Ok(order.batch), Err);
            // There is room: the shard has no more batches in flight than outcomes have places.
            let _ = ends[index].outcomes.push(outcome);
            if let Some(before) = told.replace(index).filter(|before| *before != index) {
                ends[before].waker.wake();
            }
        }
        if let Some(last) = told {
            ends[last].waker.wake();
        }
        busy
    }

    /// Writes what was ordered, then syncs each file once for all who ask for it.
    fn carry_out(&self, orders: &[(usize, Order)], synced_at: &mut Option<Instant>) -> Result<(), Unwritten> {
        for group in orders.chunk_by(|(_, one), (_, next)| Arc::ptr_eq(&one.file, &next.file)) {
            group.chunks(WRITE_BATCHES_MAX).try_for_each(|group| self.write(group))?;
        }
        let mut synced: Vec<&Arc<File>> = Vec::new();
        for (_, Order { file, durability, .. }) in orders {
            if *durability != Durability::Synced || synced.iter().any(|known| Arc::ptr_eq(known, file)) {
                continue;
            }
            *synced_at = Some(Instant::now());
            file.sync_data().map_err(|error| Unwritten::Failed(JournalFailure::new("syncing", error)))?;
            count(&self.counters.syncs, 1);
            synced.push(file);
        }
        Ok(())
    }

    /// Says once that there is no room.
    fn note_full(&self, error: &io::Error) {
        if !self.counters.is_full.swap(true, Ordering::Relaxed) {
            log::error!(
                target: TARGET,
                "TANDEM_LEASE_FILE_FULL no lease is acknowledged until there is room for it: {error}"
            );
        }
    }

    /// And once that there is again.
    fn note_room(&self) {
        if self.counters.is_full.load(Ordering::Relaxed) {
            self.counters.is_full.store(false, Ordering::Relaxed);
            log::warn!(target: TARGET, "TANDEM_LEASE_FILE_HAS_ROOM leases are written and acknowledged again");
        }
    }

    /// Writes the batches of `group`, all for one file.
    fn write(&self, group: &[(usize, Order)]) -> Result<(), Unwritten> {
        let Some((_, Order { file, .. })) = group.first() else { return Ok(()) };
        let slices: Vec<IoSlice> = group.iter().map(|(_, order)| IoSlice::new(&order.batch.bytes)).collect();
        let octets: usize = slices.iter().map(|slice| slice.len()).sum();
        // The file is open for appending, and one call takes all whole, or what it took is cut off again.
        let written = loop {
            match (&**file).write_vectored(&slices) {
                // A signal came before anything was taken.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Unwritten::of(error)),
                Ok(written) => break written,
            }
        };
        if written != octets {
            let failed = |error| Unwritten::Failed(JournalFailure::new("cutting", error));
            let end = file.metadata().map_err(failed)?.len();
            file.set_len(end.saturating_sub(written as u64)).map_err(failed)?;
            let cause = format!("only {written} of {octets} octets were taken");
            return Err(Unwritten::Full(io::Error::new(io::ErrorKind::StorageFull, cause)));
        }
        count(&self.counters.writes, 1);
        count(&self.counters.rows, group.iter().map(|(_, order)| order.batch.rows).sum());
        Ok(())
    }
}

impl Unwritten {
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => Self::Full(error),
            _ => Self::Failed(JournalFailure::new("writing", error)),
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
    /// Batches handed over whose outcome was not seen yet.
    in_flight: Cell<usize>,
    /// Since when rows wait to be handed over, on the monotonic clock.
    waiting_since_ns: Cell<Option<u64>>,
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
            in_flight: Cell::new(0),
            waiting_since_ns: Cell::new(None),
            held: Cell::new(false),
            failure: RefCell::new(None),
        }
    }

    /// Takes the rows of one iteration.
    pub(crate) fn append(&self, now_ns: u64, rows: &[u8]) {
        self.buffer.borrow_mut().append(rows);
        if self.waiting_since_ns.get().is_none() {
            self.waiting_since_ns.set(Some(now_ns));
        }
    }

    /// Looks for answers of the writer; the number of the last append that is durable.
    pub(crate) fn poll(&self) -> u64 {
        let mut file = self.file.borrow_mut();
        while let Some(outcome) = file.as_mut().and_then(|(_, end)| end.outcomes.pop().ok()) {
            self.in_flight.set(self.in_flight.get() - 1);
            match outcome {
                Ok(batch) if self.failure.borrow().is_none() => {
                    self.persisted.set(self.buffer.borrow_mut().complete(batch));
                }
                // It was written behind a write that failed.
                Ok(_) => {}
                Err(failure) => *self.failure.borrow_mut() = Some(failure),
            }
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

    /// The failure that it is to end while rows wait for room on the disk.
    pub(crate) fn stuck(&self) -> Option<JournalFailure> {
        let file = self.file.borrow();
        let (journal, _) = file.as_ref()?;
        let is_full = journal.writer.counters().is_full.load(Ordering::Relaxed);
        (is_full && self.in_flight.get() > 0)
            .then(|| JournalFailure::new("writing", io::ErrorKind::StorageFull.into()))
    }

    /// Begins no further write.
    pub(crate) fn hold(&self) {
        self.held.set(true);
    }

    /// Whether writes are held and none is in flight.
    pub(crate) fn is_held(&self) -> bool {
        self.held.get() && self.in_flight.get() == 0
    }

    /// Writes again, to `file` if there is one.
    pub(crate) fn resume(&self, file: Option<Arc<File>>) {
        if let (Some(file), Some((journal, _))) = (file, self.file.borrow_mut().as_mut()) {
            journal.file = file;
        }
        self.held.set(false);
    }

    /// Whether there are rows to hand over.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting_since_ns.get().is_some()
    }

    /// The end of an iteration: hands over the rows that wait, once the first of them has waited for `gather_ns`.
    pub(crate) fn hand_over(&self, now_ns: u64, gather_ns: u64) {
        let Some(since_ns) = self.waiting_since_ns.get() else { return };
        let mut file = self.file.borrow_mut();
        let Some((journal, end)) = file.as_mut() else {
            let batch = self.buffer.borrow_mut().take();
            self.waiting_since_ns.set(None);
            self.persisted
                .set(batch.map_or(self.persisted.get(), |batch| self.buffer.borrow_mut().complete(batch)));
            return;
        };
        let gathers = now_ns.saturating_sub(since_ns) < gather_ns;
        let full = self.in_flight.get() >= LINK_PLACES;
        if gathers || full || self.held.get() || self.failure.borrow().is_some() {
            return;
        }
        let Some(batch) = self.buffer.borrow_mut().take() else { return };
        self.waiting_since_ns.set(None);
        let order = Order { file: journal.file.clone(), durability: journal.durability, batch };
        // There is room: no more are in flight than there are places.
        let _ = end.orders.push(order);
        self.in_flight.set(self.in_flight.get() + 1);
        journal.writer.thread.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(file: &Arc<File>, text: &[u8]) -> (usize, Order) {
        let mut buffer = BatchBuffer::new();
        buffer.append(text);
        let batch = buffer.take().expect("a batch");
        (0, Order { file: file.clone(), durability: Durability::Written, batch })
    }

    #[test]
    fn a_full_disk_is_no_failure_and_any_other_error_is() {
        let open = |path: &str| Arc::new(File::options().append(true).open(path).expect("a device"));
        let shared = Shared::default();
        let full = shared.carry_out(&[order(&open("/dev/full"), b"row\n")], &mut None);
        assert!(matches!(full, Err(Unwritten::Full(_))));
        let unwritable = Arc::new(File::open("/dev/zero").expect("a device"));
        let failed = shared.carry_out(&[order(&unwritable, b"row\n")], &mut None);
        assert!(matches!(failed, Err(Unwritten::Failed(_))));
    }

    #[test]
    fn what_there_was_no_room_for_is_tried_again_and_acknowledged_by_nobody() {
        let (full, mut past) =
            (Arc::new(File::options().append(true).open("/dev/full").unwrap()), Past::default());
        let shared = Shared::default();
        past.stuck.push(order(&full, b"one\n"));
        for _ in 0..2 {
            assert!(shared.round(&mut Vec::new(), &mut past), "it goes on");
            assert_eq!(past.stuck.len(), 1);
            assert!(past.failure.is_none() && shared.counters.is_full.load(Ordering::Relaxed));
        }
    }
}
