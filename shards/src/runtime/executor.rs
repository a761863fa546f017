//! Drives one shard: receives a batch, feeds the engine, carries out what it asks for, sleeps.
//!
//! One task does all of that; the others only wait (a socket to become readable, the mesh, the clock, the disk)
//! and wake it. So the engine is never entered twice, and nothing of it is shared.
//!
//! Order within an iteration: what became durable, state lane, timers, datagrams, datagram lane; then messages, rows,
//! transmissions. The state lane comes early and has a bound, so that neither it nor the datagrams starve.
//!
//! Datagrams wait in the kernel: a batch is taken only to be decided at once, so a burst that fits the sockets'
//! buffers is served whole. What the kernel drops there is the youngest, and the oldest is never stale: a full buffer is
//! decided in less than the four seconds after which a client asks again.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use glommio::Task;

use super::journal_writer::{Journal, JournalFailure, JournalFile};
use super::local::{Wake, give_way};
use super::mesh::{NodeEnds, NodeHandle};
use super::node::{Executor, Placement, SpawnError, spawn_spinning};
use super::port::{Inbox, Letter, Request, ShardPort, count};
use super::socket::{Readable, ShardSocket};
use crate::sys::adopt;
use crate::sys::clock;
use crate::sys::receive::ReceiveBatch;
use crate::sys::send::SendBatch;
use crate::{Actions, DatagramMeta, Engine, Lane, Now};

/// Octets of the largest frame: an IPv4 packet in Ethernet.
const FRAME_OCTETS: usize = 65_535 + 14;

/// How often the kernel's drop counters are read.
const DROPS_READ_EVERY_NS: u64 = 1_000_000_000;

/// A task that waits for a socket waits this long after an error before it looks again.
const AFTER_ERROR: Duration = Duration::from_millis(100);

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
    let executor = spawn_spinning(&name, placement, spin, ends, move |node| async move {
        Driver::new(node, make_engine(), on_event, inbox, journal, limits).run().await
    })?;
    Ok((executor, port))
}

struct Driver<E: Engine, OnEvent> {
    node: Rc<NodeHandle<E::Message>>,
    engine: E,
    on_event: OnEvent,
    inbox: Rc<Inbox>,
    journal: Journal,
    /// Ends the sleep of the main task.
    wake: Rc<Wake>,
    /// Lets the mesh task wait again.
    mesh_drained: Rc<Wake>,
    timer: Rc<TimerTask>,
    sockets: Vec<Option<Served>>,
    /// Socket whose turn it is to be read first.
    next_socket: usize,
    actions: Actions<E::Message, E::Event>,
    receive: ReceiveBatch,
    send: SendBatch,
    limits: DriverLimits,
    receiving: bool,
    persisted_told: u64,
    drops_read_ns: u64,
    holds: Vec<Letter>,
    exit: Option<Letter>,
    _tasks: Vec<Task<()>>,
}

/// A socket with the tasks that wait for it.
struct Served {
    socket: ShardSocket,
    watches: Vec<Watch>,
}

struct Watch {
    readable: Rc<Cell<bool>>,
    /// Lets the task wait again, once everything readable was taken.
    drained: Rc<Wake>,
    _task: Task<()>,
}

#[derive(Default)]
struct TimerTask {
    /// When to wake the main task, monotonic nanoseconds.
    deadline_ns: Cell<Option<u64>>,
    changed: Wake,
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
        limits: DriverLimits,
    ) -> Self {
        let wake = Rc::new(Wake::default());
        let mesh_drained = Rc::new(Wake::default());
        let timer = Rc::new(TimerTask::default());
        let inbox = Rc::new(inbox);
        let journal = Journal::new(journal, node.waker());
        let tasks = vec![
            glommio::spawn_local(watch_mesh(node.clone(), mesh_drained.clone(), wake.clone())),
            glommio::spawn_local(watch_clock(timer.clone(), wake.clone())),
        ];
        Self {
            actions: Actions::new(node.topology().nodes()),
            node,
            engine,
            on_event,
            inbox,
            journal,
            wake,
            mesh_drained,
            timer,
            sockets: Vec::new(),
            next_socket: 0,
            receive: ReceiveBatch::new(limits.receive_batch, FRAME_OCTETS),
            send: SendBatch::new(limits.receive_batch),
            limits,
            receiving: true,
            persisted_told: 0,
            drops_read_ns: 0,
            holds: Vec::new(),
            exit: None,
            _tasks: tasks,
        }
    }

    async fn run(mut self) -> ShardEnd {
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
                if !more && self.journal.is_idle() {
                    // Whoever asked may have stopped waiting.
                    let _ = exit.done.send(());
                    return Ok(());
                }
                self.exit = Some(exit);
            }
            if more {
                give_way().await;
            } else {
                self.mesh_drained.notify();
                self.wake.wait().await;
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
        self.arm_timer();
        self.read_drops(now);
        // Without a lease file a row is as durable as it gets at once: its reply must not wait for the next event.
        state || fresh || forwarded || self.journal.persisted() > self.persisted_told
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
        let taken =
            node.receive(lane, max, |from, message| engine.handle_message(now, from, message, actions));
        taken == max
    }

    /// Takes a batch from each readable socket and decides it; true when there may be more.
    fn receive_datagrams(&mut self, now: Now) -> bool {
        if !self.receiving {
            return false;
        }
        let Self { engine, actions, sockets, receive, inbox, limits, next_socket, .. } = self;
        let counters = inbox.counters();
        let mut more = false;
        let start = *next_socket;
        *next_socket = (start + 1) % sockets.len().max(1);
        for step in 0..sockets.len() {
            let index = (start + step) % sockets.len();
            let Some(served) = &sockets[index] else { continue };
            for (which, watch) in served.watches.iter().enumerate() {
                if !watch.readable.get() {
                    continue;
                }
                let decide =
                    |meta: &DatagramMeta, bytes: &[u8]| engine.handle_datagram(now, meta, bytes, actions);
                let taken = served.socket.receive(which, index as u16, limits.receive_batch, receive, decide);
                // An error (the interface went down, an ICMP answer) is over once it is read. Datagrams may lie
                // behind it: the watch finds them, and paces an error that stays.
                let received = taken.map_or(0, |(received, unreadable)| {
                    count(&counters.received, received as u64);
                    count(&counters.unreadable, unreadable as u64);
                    received
                });
                if received == limits.receive_batch {
                    more = true;
                } else {
                    watch.readable.set(false);
                    watch.drained.notify();
                }
            }
        }
        more
    }

    fn carry_out(&mut self, now: Now) {
        let Self { node, actions, on_event, journal, sockets, send, inbox, .. } = self;
        let counters = inbox.counters();
        for (to, lane, message) in actions.messages.drain(..) {
            if node.try_send(to, lane, message).is_err() {
                // Credit was reserved, so only a query can find its lane full; its client asks again.
                assert!(lane == Lane::Datagram, "a state message to {to:?} without credit");
                count(&counters.mesh_datagram_full, 1);
            }
        }
        if !actions.rows.is_empty() {
            journal.append(&actions.rows);
        }
        for group in actions.transmit.chunk_by(|one, next| one.socket == next.socket) {
            // Groups are never empty. A socket that was closed meanwhile takes its replies with it.
            match sockets.get(usize::from(group[0].socket)) {
                Some(Some(served)) => {
                    let sent = served.socket.send(group, &actions.bytes, send);
                    count(&counters.sent, sent.sent as u64);
                    count(&counters.send_refused, sent.refused as u64);
                }
                _ => count(&counters.send_refused, group.len() as u64),
            }
        }
        for event in actions.events.drain(..) {
            on_event(now, event);
        }
        actions.clear();
    }

    fn arm_timer(&self) {
        let wanted = self.engine.next_timeout();
        // A later deadline costs one wake-up without a reason, an earlier one must not be missed.
        if wanted.is_some_and(|wanted| self.timer.deadline_ns.get().is_none_or(|armed| wanted < armed)) {
            self.timer.deadline_ns.set(wanted);
            self.timer.changed.notify();
        }
    }

    fn read_drops(&mut self, now: Now) {
        if now.monotonic_ns.saturating_sub(self.drops_read_ns) < DROPS_READ_EVERY_NS {
            return;
        }
        self.drops_read_ns = now.monotonic_ns;
        for served in self.sockets.iter().flatten() {
            count(&self.inbox.counters().kernel_drops, u64::from(served.socket.take_kernel_drops()));
        }
    }

    fn handle_letter(&mut self, letter: Letter) {
        let Letter { request, done } = letter;
        match request {
            Request::AddSocket(number, socket) => self.add_socket(usize::from(number), *socket),
            Request::RemoveSocket(number) => {
                if let Some(place) = self.sockets.get_mut(usize::from(number)) {
                    *place = None;
                }
            }
            Request::StopReceiving => self.receiving = false,
            Request::ResumeJournal(file) => self.journal.resume(file),
            Request::HoldJournal => {
                self.journal.hold();
                self.holds.push(Letter { request, done });
                return;
            }
            Request::Exit => {
                self.receiving = false;
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

    fn add_socket(&mut self, number: usize, socket: ShardSocket) {
        let readable = match socket.readable() {
            Ok(readable) => readable,
            Err(error) => {
                log::error!(target: "kea-dhcp4.dhcpsrv", "DHCPSRV_OPEN_SOCKET_FAIL no descriptors left: {error}");
                return;
            }
        };
        let watches =
            readable.into_iter().map(|readable| Watch::start(readable, self.wake.clone())).collect();
        if self.sockets.len() <= number {
            self.sockets.resize_with(number + 1, || None);
        }
        self.sockets[number] = Some(Served { socket, watches });
    }
}

impl Watch {
    fn start(socket: Readable, wake: Rc<Wake>) -> Self {
        let readable = Rc::new(Cell::new(false));
        let drained = Rc::new(Wake::default());
        let task = glommio::spawn_local(watch_socket(socket, readable.clone(), drained.clone(), wake));
        Self { readable, drained, _task: task }
    }
}

/// Waits until a socket is readable, says so, and waits until everything was taken.
async fn watch_socket(socket: Readable, readable: Rc<Cell<bool>>, drained: Rc<Wake>, wake: Rc<Wake>) {
    let mut octet = [0; 1];
    match socket {
        Readable::Packet(fd) => {
            let stream = adopt::tcp_stream(fd);
            loop {
                // An error is for the main task to read; it must not be waited for again at once.
                if stream.peek(&mut octet).await.is_err() {
                    glommio::timer::sleep(AFTER_ERROR).await;
                }
                readable.set(true);
                wake.notify();
                drained.wait().await;
            }
        }
        Readable::Udp(fd) => {
            let udp = adopt::udp_socket(fd);
            loop {
                if udp.peek_from(&mut octet).await.is_err() {
                    glommio::timer::sleep(AFTER_ERROR).await;
                }
                readable.set(true);
                wake.notify();
                drained.wait().await;
            }
        }
    }
}

async fn watch_mesh<M>(node: Rc<NodeHandle<M>>, drained: Rc<Wake>, wake: Rc<Wake>) {
    loop {
        if let Err(error) = node.wait().await {
            log::error!(target: "kea-dhcp4.dhcp4", "TANDEM_MESH_WAIT_FAILED node {}: {error}", node.id().0);
            glommio::timer::sleep(AFTER_ERROR).await;
        }
        wake.notify();
        drained.wait().await;
    }
}

async fn watch_clock(timer: Rc<TimerTask>, wake: Rc<Wake>) {
    loop {
        let Some(deadline) = timer.deadline_ns.get() else {
            timer.changed.wait().await;
            continue;
        };
        let left = deadline.saturating_sub(clock::now().monotonic_ns);
        if left > 0 && timer.changed.wait_for(Duration::from_nanos(left)).await {
            continue;
        }
        timer.deadline_ns.set(None);
        wake.notify();
    }
}
