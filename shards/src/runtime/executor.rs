//! Drives one shard: receives a batch, feeds the engine, carries out what it asks for, sleeps.
//!
//! One task does all of that and never gives way: the executor has no other, and while there is work there is no
//! call into the kernel but for the work. So the engine is never entered twice, and nothing of it is shared.
//!
//! Order within an iteration: what became durable, state lane, timers, datagrams, datagram lane; then messages, rows,
//! transmissions. The state lane comes early and has a bound, so that neither it nor the datagrams starve.
//!
//! Datagrams wait in the kernel: a batch is taken only to be decided at once, so a burst that fits the sockets'
//! buffers is served whole. Beyond capacity DISCOVERs wait apart and are read last, the size of the buffers follows from
//! how long datagrams wait there, and what waited too long is dropped unread ([`crate::admission`]).

use std::rc::Rc;
use std::time::Duration;

use super::journal_writer::{Journal, JournalFailure, JournalFile};
use super::mesh::{NodeEnds, NodeHandle};
use super::node::{Executor, Placement, SpawnError, spawn};
use super::port::{Inbox, Letter, Request, ShardPort, count};
use super::watch::{Turn, Watched};
use crate::sys::receive::ReceiveBatch;
use crate::sys::send::SendBatch;
use crate::sys::{clock, prefetch};
use crate::{Actions, Engine, Lane, Now};

/// Octets of the largest frame: an IPv4 packet in Ethernet.
const FRAME_OCTETS: usize = 65_535 + 14;

/// How often the kernel's drop counters are read.
const DROPS_READ_EVERY_NS: u64 = 1_000_000_000;

/// A set of sockets that cannot be waited for is not asked again for as long as this.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// How long a shard that has more to do gathers rows before it hands them over, nanoseconds: as long as two syncs are
/// apart. Its replies wait for the next sync anyway.
const GATHER_NS: u64 = 500_000;

/// The same for a shard that takes full batches from its sockets: queries wait there for longer than this, and a sync
/// costs as much as ten exchanges.
const GATHER_NS_MAX: u64 = 2_000_000;

/// Iterations without a sleep after which the kernel is asked what else has become readable.
const ITERATIONS_PER_LOOK: u32 = 8;

/// Limits of a shard's driver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DriverLimits {
    /// Datagrams taken from a socket, and decided, at a time; the rest waits in the kernel.
    pub receive_batch: usize,
    /// Messages of the state lane handled in one iteration.
    pub state_batch: usize,
}

/// A shard, ready to be started.
pub struct ShardSetup<E: Engine, MakeEngine, OnEvent> {
    /// Thread name.
    pub name: String,
    /// Where it runs.
    pub placement: Placement,
    /// How long it looks for work before it sleeps.
    pub spin: Duration,
    /// Its ends of the mesh.
    pub ends: NodeEnds<E::Message>,
    /// Makes the engine, in the shard's own thread, so that its memory is local to it.
    pub make_engine: MakeEngine,
    /// Takes log events; must not block.
    pub on_event: OnEvent,
    /// Where rows go; `None` keeps leases in memory only.
    pub journal: Option<JournalFile>,
    /// Limits.
    pub limits: DriverLimits,
}

/// What a shard's executor ends with: the lease file's failure, or nothing after [`Request::Exit`].
pub type ShardEnd = Result<(), JournalFailure>;

/// Starts a shard; it has no sockets until they are added through the port.
///
/// # Errors
/// [`SpawnError`] where the executor cannot be made; [`Executor::wait_ready`] is due afterwards.
pub fn spawn_shard<E, MakeEngine, OnEvent>(
    setup: ShardSetup<E, MakeEngine, OnEvent>,
) -> Result<(Executor<ShardEnd>, ShardPort), SpawnError>
where
    E: Engine + 'static,
    MakeEngine: FnOnce() -> E + Send + 'static,
    OnEvent: FnMut(Now, E::Event) + Send + 'static,
{
    let (port, inbox) = ShardPort::new(setup.ends.waker());
    let ShardSetup { name, placement, spin, ends, make_engine, on_event, journal, limits } = setup;
    let watched = Watched::new(&ends)
        .map_err(|error| SpawnError::Other { name: name.clone(), cause: error.to_string() })?;
    let executor = spawn(&name, placement, ends, move |node| async move {
        Driver::new(node, make_engine(), on_event, inbox, journal, watched, spin, limits).run()
    })?;
    Ok((executor, port))
}

struct Driver<E: Engine, OnEvent> {
    node: Rc<NodeHandle<E::Message>>,
    engine: E,
    on_event: OnEvent,
    inbox: Inbox,
    journal: Journal,
    watched: Watched,
    spin: Duration,
    actions: Actions<E::Message, E::Event>,
    receive: ReceiveBatch,
    send: SendBatch,
    limits: DriverLimits,
    persisted_told: u64,
    drops_read_ns: u64,
    holds: Vec<Letter>,
    exit: Option<Letter>,
}

impl<E, OnEvent> Driver<E, OnEvent>
where
    E: Engine + 'static,
    OnEvent: FnMut(Now, E::Event),
{
    fn new(
        node: Rc<NodeHandle<E::Message>>,
        engine: E,
        on_event: OnEvent,
        inbox: Inbox,
        journal: Option<JournalFile>,
        watched: Watched,
        spin: Duration,
        limits: DriverLimits,
    ) -> Self {
        let journal = Journal::new(journal, node.waker());
        Self {
            actions: Actions::new(node.topology().nodes()),
            node,
            engine,
            on_event,
            inbox,
            journal,
            watched,
            spin,
            receive: ReceiveBatch::new(limits.receive_batch, FRAME_OCTETS),
            send: SendBatch::new(limits.receive_batch),
            limits,
            persisted_told: 0,
            drops_read_ns: 0,
            holds: Vec::new(),
            exit: None,
        }
    }

    fn run(mut self) -> ShardEnd {
        let mut since_look = 0;
        loop {
            for letter in self.inbox.take() {
                self.handle_letter(letter);
            }
            let more = self.iterate();
            if let Some(failure) = self.journal.failure() {
                return Err(failure);
            }
            self.settle_holds();
            if let Some(exit) = self.exit.take() {
                if let Some(failure) = self.journal.stuck() {
                    return Err(failure);
                }
                if !more && self.journal.is_idle() {
                    // Whoever asked may have stopped waiting.
                    let _ = exit.done.send(());
                    return Ok(());
                }
                self.exit = Some(exit);
            }
            since_look += 1;
            let waited = if !more {
                since_look = 0;
                self.watched.sleep(&self.node, self.engine.next_timeout(), self.spin)
            } else if since_look >= ITERATIONS_PER_LOOK {
                since_look = 0;
                self.watched.look(&self.node).map(drop)
            } else {
                Ok(())
            };
            if let Err(error) = waited {
                log::error!(target: "kea-dhcp4.dhcp4", "TANDEM_WAIT_FAILED shard {}: {error}", self.node.id().0);
                std::thread::sleep(AFTER_ERROR);
            }
        }
    }

    /// One iteration; true when there is more to do at once.
    fn iterate(&mut self) -> bool {
        let now = clock::now();
        self.prepare();
        let persisted = self.journal.poll();
        if persisted > self.persisted_told {
            self.persisted_told = persisted;
            self.engine.handle_persisted(now, persisted, &mut self.actions);
        }
        let state = self.handle_messages(now, Lane::State, self.limits.state_batch);
        if self.engine.next_timeout().is_some_and(|due| due <= now.monotonic_ns) {
            self.engine.handle_timeout(now, &mut self.actions);
        }
        let fresh = self.receive_datagrams(now);
        let forwarded = self.handle_messages(now, Lane::Datagram, self.limits.receive_batch);
        self.carry_out(now);
        self.read_drops(now);
        let mut busy = state || fresh || forwarded;
        let gather_ns = if busy { GATHER_NS_MAX } else { GATHER_NS };
        if !busy && self.journal.has_waiting() {
            // A batch that was not full does not mean that no more has come meanwhile: to look costs less than to
            // wake the journal thread. A set that is broken is found by the sleep.
            busy = self.watched.look(&self.node).unwrap_or(false);
        }
        self.journal.hand_over(now.monotonic_ns, if busy { gather_ns } else { 0 });
        // Without a lease file a row is as durable as it gets at once: its reply must not wait for the next event.
        busy || self.journal.persisted() > self.persisted_told
    }

    fn prepare(&mut self) {
        self.engine.set_journal_waiting(self.journal.waiting_bytes());
        for (index, credit) in self.actions.state_credit.iter_mut().enumerate() {
            *credit = self.node.credit_by_index(index, Lane::State);
        }
        for (index, credit) in self.actions.datagram_credit.iter_mut().enumerate() {
            *credit = self.node.credit_by_index(index, Lane::Datagram);
        }
    }

    fn handle_messages(&mut self, now: Now, lane: Lane, max: usize) -> bool {
        let Self { node, engine, actions, .. } = self;
        let taken = node.receive(lane, max, |from, message| {
            engine.ahead_of(&message, prefetch::fetch);
            engine.handle_message(now, from, message, actions);
        });
        taken == max
    }

    /// Takes a batch from each readable socket, the main queues first, and decides it; true when there may be more.
    fn receive_datagrams(&mut self, now: Now) -> bool {
        let Self { engine, actions, watched, receive, inbox, limits, .. } = self;
        let turn = Turn { engine, actions, now };
        watched.receive(limits.receive_batch, receive, inbox.counters(), turn)
    }

    fn carry_out(&mut self, now: Now) {
        let Self { node, actions, on_event, journal, watched, send, inbox, .. } = self;
        let counters = inbox.counters();
        for (to, lane, message) in actions.messages.drain(..) {
            if node.try_send(to, lane, message).is_err() {
                // Credit was reserved, so only a query can find its lane full; its client asks again.
                assert!(lane == Lane::Datagram, "a state message to {to:?} without credit");
                count(&counters.mesh_datagram_full, 1);
            }
        }
        if !actions.rows.is_empty() {
            journal.append(now.monotonic_ns, &actions.rows);
        }
        for group in actions.transmit.chunk_by(|one, next| one.socket == next.socket) {
            // Groups are never empty. A socket that was closed meanwhile takes its replies with it.
            match watched.socket(usize::from(group[0].socket)) {
                Some(socket) => {
                    let sent = socket.send(group, &actions.bytes, send);
                    count(&counters.sent, sent.sent as u64);
                    count(&counters.send_refused, sent.refused as u64);
                }
                None => count(&counters.send_refused, group.len() as u64),
            }
        }
        for event in actions.events.drain(..) {
            on_event(now, event);
        }
        actions.clear();
    }

    fn read_drops(&mut self, now: Now) {
        if now.monotonic_ns.saturating_sub(self.drops_read_ns) < DROPS_READ_EVERY_NS {
            return;
        }
        self.drops_read_ns = now.monotonic_ns;
        self.watched.count_drops(self.inbox.counters());
    }

    fn handle_letter(&mut self, letter: Letter) {
        let Letter { request, done } = letter;
        match request {
            Request::AddSocket(number, socket) => {
                if let Err(error) = self.watched.add(usize::from(number), *socket) {
                    log::error!(target: "kea-dhcp4.dhcpsrv", "DHCPSRV_OPEN_SOCKET_FAIL cannot wait for it: {error}");
                    // Whoever asked sees that it was not done.
                    return;
                }
            }
            Request::RemoveSocket(number) => self.watched.remove(usize::from(number)),
            Request::StopReceiving => self.watched.stop(),
            Request::ResumeJournal(file) => self.journal.resume(file),
            Request::HoldJournal => {
                self.journal.hold();
                self.holds.push(Letter { request, done });
                return;
            }
            Request::Exit => {
                self.watched.stop();
                self.exit = Some(Letter { request, done });
                return;
            }
        }
        // Whoever asked may have stopped waiting.
        let _ = done.send(());
    }

    fn settle_holds(&mut self) {
        if self.journal.is_held() {
            for hold in self.holds.drain(..) {
                // Whoever asked may have stopped waiting.
                let _ = hold.done.send(());
            }
        }
    }
}
