//! A shard's letter box for the threads of the process: sockets to add, the lease file to change, the end.
//!
//! The mesh carries what the engine must know; this carries what only its driver must know. A request is rare
//! (start, reload, clean-up, stop), so the box is a mutex that the shard opens only when a flag says so.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::mesh::NodeWaker;
use super::socket::ShardSocket;
use crate::queue_average::QueueAverages;

/// What a shard's driver can be asked for.
#[derive(Debug)]
pub enum Request {
    /// Serve this socket under this number, in place of what had the number before. Not done where the kernel does not let
    /// the shard wait for it; the socket is closed then.
    AddSocket(u16, Box<ShardSocket>),
    /// Close the socket with this number.
    RemoveSocket(u16),
    /// Take no more datagrams from the kernel. Messages, timers and rows go on.
    StopReceiving,
    /// Begin no write after the one in flight; done when none is.
    HoldJournal,
    /// Write again, to this file if there is one.
    ResumeJournal(Option<Arc<File>>),
    /// End once every row handed over so far is written; done just before the end.
    Exit,
}

/// The other end of a shard's letter box.
#[derive(Clone, Debug)]
pub struct ShardPort {
    shared: Arc<Shared>,
    waker: NodeWaker,
}

/// The shard's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    shared: Arc<Shared>,
}

/// What the driver counts; written by the shard, read by anyone.
#[derive(Debug, Default)]
pub struct DriverCounters {
    /// Datagrams taken from the kernel.
    pub received: AtomicU64,
    /// Datagrams that no engine saw: cut short, tagged, not for this address.
    pub unreadable: AtomicU64,
    /// What the kernel dropped because the queue of DISCOVERs was full (`pkt4-queue-full`).
    pub discovers_dropped: AtomicU64,
    /// What the kernel dropped because the main queue was full (`pkt4-queue-full`).
    pub main_dropped: AtomicU64,
    /// Taken from the kernel and dropped unread: they had waited too long, and others behind them (`pkt4-queue-full`).
    pub stale_dropped: AtomicU64,
    /// The bits of [`QueueAverages`].
    queue_averages: [AtomicU64; 3],
    /// Replies handed to the kernel.
    pub sent: AtomicU64,
    /// Replies the kernel refused.
    pub send_refused: AtomicU64,
    /// Forwarded queries dropped on a full datagram lane (`mesh_datagram_full`).
    pub mesh_datagram_full: AtomicU64,
}

impl DriverCounters {
    /// How many datagrams wait behind the one that is decided.
    pub fn queue_averages(&self) -> QueueAverages {
        QueueAverages(self.queue_averages.each_ref().map(|bits| f64::from_bits(bits.load(Ordering::Relaxed))))
    }

    /// The shard has taken a batch of `taken` datagrams from one queue.
    pub(crate) fn average_batch(&self, taken: usize) {
        let mut averages = self.queue_averages();
        averages.take_batch(taken);
        for (bits, average) in self.queue_averages.iter().zip(averages.0) {
            bits.store(average.to_bits(), Ordering::Relaxed);
        }
    }
}

/// A request and where to say that it is done.
pub(crate) struct Letter {
    pub(crate) request: Request,
    pub(crate) done: mpsc::Sender<()>,
}

#[derive(Debug, Default)]
struct Shared {
    letters: Mutex<Vec<Letter>>,
    any: AtomicBool,
    counters: DriverCounters,
}

impl ShardPort {
    /// A letter box for the shard that `waker` wakes.
    pub(crate) fn new(waker: NodeWaker) -> (Self, Inbox) {
        let shared = Arc::new(Shared::default());
        (Self { shared: shared.clone(), waker }, Inbox { shared })
    }

    /// Posts a request. The receiver gets one message when it is done, and an error when it failed or the shard has
    /// ended.
    pub fn post(&self, request: Request) -> mpsc::Receiver<()> {
        let (done, receiver) = mpsc::channel();
        let mut letters = self.shared.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push(Letter { request, done });
        drop(letters);
        self.shared.any.store(true, Ordering::Release);
        self.waker.wake();
        receiver
    }

    /// Posts a request and waits for it; false when it failed, the shard has ended or `patience` has passed.
    pub fn ask(&self, request: Request, patience: Duration) -> bool {
        self.post(request).recv_timeout(patience).is_ok()
    }

    /// The driver's counters.
    pub fn counters(&self) -> &DriverCounters {
        &self.shared.counters
    }
}

impl Inbox {
    /// What was posted since the last call.
    pub(crate) fn take(&self) -> Vec<Letter> {
        if !self.shared.any.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.shared.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn counters(&self) -> &DriverCounters {
        &self.shared.counters
    }
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.request.fmt(formatter)
    }
}

/// Adds to a counter that only this thread writes.
pub(crate) fn count(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}
