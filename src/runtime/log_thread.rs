//! The log thread: the only place that writes log lines.
//!
//! Shards hand over fixed-size events through one bounded ring each, everyone else through the `log` crate
//! and one bounded queue. A full ring or queue drops the message and counts it; the client never waits for
//! a log. The thread itself may block for as long as an output does: nobody waits for it but a clean stop,
//! and that only for a moment.

use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local, Utc};

use super::log_output::Output;
use crate::logging::{Line, LoggerTree, Route, Severity, debug_level_of};

/// Events that may wait in a shard's ring: a quarter of a second of logging at 16,000 events a second.
const RING_EVENTS: usize = 4096;
/// Messages of the `log` crate that may wait.
const QUEUE_MESSAGES: usize = 4096;
/// Messages written in one batch, so that a flood still reaches the disk in steps.
const BATCH_MESSAGES: usize = 1024;
/// How long the thread sleeps when there is nothing to write: an event is on its way at most this long.
const IDLE: Duration = Duration::from_millis(20);

/// A fixed-size event of the packet path. `Display` is the message, id first.
pub trait PacketEvent: Copy + Display + Send + 'static {
    /// How serious it is.
    fn severity(&self) -> Severity;
    /// Debug level 0..=99 of a debug event.
    fn debug_level(&self) -> u8;
    /// Logger, such as `kea-dhcp4.leases`.
    fn logger(&self) -> &'static str;
}

/// What the producers and the thread share.
struct Shared {
    /// Messages and events that found their ring or queue full.
    dropped: AtomicU64,
    /// Least severity any logger passes, and the largest debug level: a first sieve for the packet path.
    least_severity: AtomicU8,
    debug_level_most: AtomicU8,
    /// A new tree, to be taken up before the next line.
    tree: Mutex<Option<LoggerTree>>,
    stopping: AtomicBool,
}

impl Shared {
    fn passes(&self, severity: Severity, debug_level: u8) -> bool {
        severity as u8 >= self.least_severity.load(Ordering::Relaxed)
            && (severity > Severity::Debug || debug_level <= self.debug_level_most.load(Ordering::Relaxed))
    }

    fn set_sieve(&self, tree: &LoggerTree) {
        let (least, debug_level) = tree.most_verbose();
        self.least_severity.store(least as u8, Ordering::Relaxed);
        self.debug_level_most.store(debug_level, Ordering::Relaxed);
    }
}

/// A shard's end of its ring.
pub struct EventSink<E> {
    ring: rtrb::Producer<(u64, E)>,
    shared: Arc<Shared>,
}

impl<E: PacketEvent> EventSink<E> {
    /// Hands over an event of time `wall_ms`; counts it as dropped when the ring is full.
    pub fn push(&mut self, wall_ms: u64, event: E) {
        if !self.shared.passes(event.severity(), event.debug_level()) {
            return;
        }
        if self.ring.push((wall_ms, event)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One message of the `log` crate on its way.
struct Message {
    wall_ms: u64,
    severity: Severity,
    debug_level: u8,
    logger: String,
    text: String,
    thread: String,
}

/// The `log` crate's end of the queue.
struct Front {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    root: String,
}

impl log::Log for Front {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.shared.passes(Severity::of(metadata.level(), ""), debug_level_of(metadata.level()))
    }

    fn log(&self, record: &log::Record<'_>) {
        // Libraries log under their own module paths; only ours speak Kea's logger names.
        let ours = record.target() == self.root || record.target().starts_with(&format!("{}.", self.root));
        if !ours && record.level() > log::Level::Warn {
            return;
        }
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let id = text.split_whitespace().next().unwrap_or_default();
        let message = Message {
            wall_ms: wall_ms(),
            severity: Severity::of(record.level(), id),
            debug_level: debug_level_of(record.level()),
            logger: if ours {
                record.target().to_owned()
            } else {
                format!("{}.{}", self.root, record.target())
            },
            text,
            thread: std::thread::current().name().unwrap_or("-").to_owned(),
        };
        if self.queue.try_send(message).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// The running log thread.
pub struct LogThread {
    shared: Arc<Shared>,
    finished: Receiver<()>,
}

impl LogThread {
    /// Starts the thread for the logger tree `tree` under `root`, with one event ring for each of `shards` shards,
    /// and takes over the `log` crate. Fails when the `log` crate is taken already or the thread cannot start.
    pub fn start<E: PacketEvent>(
        root: &str,
        tree: LoggerTree,
        shards: usize,
    ) -> Result<(Self, Vec<EventSink<E>>), StartError> {
        let shared = Arc::new(Shared {
            dropped: AtomicU64::new(0),
            least_severity: AtomicU8::new(0),
            debug_level_most: AtomicU8::new(0),
            tree: Mutex::new(None),
            stopping: AtomicBool::new(false),
        });
        shared.set_sieve(&tree);
        let (queue, messages) = sync_channel(QUEUE_MESSAGES);
        let (sinks, rings): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| {
                let (producer, consumer) = rtrb::RingBuffer::new(RING_EVENTS);
                (EventSink { ring: producer, shared: Arc::clone(&shared) }, consumer)
            })
            .unzip();
        let (finish, finished) = sync_channel(1);
        let writer_shared = Arc::clone(&shared);
        let root_name = root.to_owned();
        std::thread::Builder::new().name("log".into()).spawn(move || {
            Writer::new(root_name, tree, writer_shared).run(&messages, rings);
            // The other side may be gone: it waits for a moment only.
            let _ = finish.send(());
        })?;
        let front = Front { queue, shared: Arc::clone(&shared), root: root.to_owned() };
        log::set_boxed_logger(Box::new(front)).map_err(|_| StartError::Taken)?;
        log::set_max_level(log::LevelFilter::Trace);
        Ok((Self { shared, finished }, sinks))
    }

    /// Puts another logger tree in force.
    pub fn set_tree(&self, tree: LoggerTree) {
        self.shared.set_sieve(&tree);
        *self.shared.tree.lock().unwrap_or_else(PoisonError::into_inner) = Some(tree);
    }

    /// Messages dropped so far because a ring or the queue was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes what waits and ends the thread; gives up after `patience` when an output blocks.
    pub fn stop(&self, patience: Duration) {
        self.shared.stopping.store(true, Ordering::Release);
        // A blocked output keeps the thread: the process ends without it, and loses only log lines.
        let _ = self.finished.recv_timeout(patience);
    }
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A logger was installed before.
    #[error("logging was started twice")]
    Taken,
    /// The system refused a thread.
    #[error("the log thread cannot start: {0}")]
    Thread(#[from] std::io::Error),
}

/// The thread's own state.
struct Writer {
    root: String,
    process: u32,
    shared: Arc<Shared>,
    tree: LoggerTree,
    outputs: Vec<Output>,
    routes: HashMap<String, Route>,
    reported: u64,
    line: String,
}

impl Writer {
    fn new(root: String, tree: LoggerTree, shared: Arc<Shared>) -> Self {
        let outputs = open_outputs(&root, &tree);
        let (process, line) = (std::process::id(), String::new());
        Self { root, process, shared, tree, outputs, routes: HashMap::new(), reported: 0, line }
    }

    fn run<E: PacketEvent>(
        &mut self,
        messages: &Receiver<Message>,
        mut rings: Vec<rtrb::Consumer<(u64, E)>>,
    ) {
        let mut text = String::new();
        loop {
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            self.take_tree();
            let mut written = 0;
            while written < BATCH_MESSAGES {
                let Ok(message) = messages.try_recv() else { break };
                self.write_message(&message);
                written += 1;
            }
            for (shard, ring) in rings.iter_mut().enumerate() {
                let thread = format!("shard-{shard}");
                for _ in 0..BATCH_MESSAGES {
                    let Ok((wall_ms, event)) = ring.pop() else { break };
                    text.clear();
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{event}");
                    self.write(
                        wall_ms,
                        event.severity(),
                        event.debug_level(),
                        event.logger(),
                        &thread,
                        &text,
                    );
                    written += 1;
                }
            }
            self.report_dropped();
            for output in &mut self.outputs {
                output.flush();
            }
            if written > 0 {
                continue;
            }
            if stopping {
                return;
            }
            match messages.recv_timeout(IDLE) {
                Ok(message) => self.write_message(&message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(IDLE),
            }
        }
    }

    fn take_tree(&mut self) {
        let taken = self.shared.tree.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(tree) = taken else { return };
        // What was written to the outputs that go now is still in their buffers.
        for output in &mut self.outputs {
            output.flush();
        }
        self.outputs = open_outputs(&self.root, &tree);
        self.routes.clear();
        self.tree = tree;
    }

    fn report_dropped(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped > self.reported {
            let lost = dropped - self.reported;
            self.reported = dropped;
            let text = format!(
                "LOG_MESSAGES_DROPPED {lost} messages were dropped because the log was not written fast enough"
            );
            let logger = self.root.clone();
            self.write(wall_ms(), Severity::Warn, 0, &logger, "log", &text);
        }
    }

    fn write_message(&mut self, message: &Message) {
        let Message { wall_ms, severity, debug_level, logger, text, thread } = message;
        self.write(*wall_ms, *severity, *debug_level, logger, thread, text);
    }

    fn write(
        &mut self,
        wall_ms: u64,
        severity: Severity,
        debug_level: u8,
        logger: &str,
        thread: &str,
        text: &str,
    ) {
        if !self.routes.contains_key(logger) {
            let route = self.tree.route(logger);
            self.routes.insert(logger.to_owned(), route);
        }
        let Some(route) = self.routes.get(logger) else { return };
        if !route.passes(severity, debug_level) {
            return;
        }
        let line = Line { severity, logger, process: self.process, thread, message: text };
        for &index in &route.outputs {
            let output = &mut self.outputs[index];
            self.line.clear();
            output.layout().render(&line, &|utc, format| strftime(wall_ms, utc, format), &mut self.line);
            output.push(severity, &self.line);
        }
    }
}

fn open_outputs(root: &str, tree: &LoggerTree) -> Vec<Output> {
    tree.outputs().iter().cloned().map(|settings| Output::new(root, settings)).collect()
}

/// Renders a strftime format with Kea's `%q` (milliseconds) and `%Q` (with microseconds as `.fff`).
fn strftime(wall_ms: u64, utc: bool, format: &str) -> String {
    let time = DateTime::<Utc>::from(UNIX_EPOCH + Duration::from_millis(wall_ms));
    let millis = wall_ms % 1000;
    let format = format.replace("%q", &format!("{millis:03}")).replace("%Q", &format!("{millis:03}.000"));
    let mut out = String::new();
    let written = if utc {
        write!(out, "{}", time.format(&format))
    } else {
        write!(out, "{}", time.with_timezone(&Local).format(&format))
    };
    // A format that chrono does not know is an error of its Display; the line goes out with the raw time.
    if written.is_err() {
        return wall_ms.to_string();
    }
    out
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
