//! A shard's sockets, and its sleep until one of them is readable, the mesh calls, or a time has come.
//!
//! The shard's thread waits here itself, in one `epoll_wait`, and not in the reactor of its executor: nothing else
//! of the executor ever waits, and the reactor's rings and timers cost more than a query does.
//!
//! Invariant: until [`Watched::stop`], a kernel socket that is drained is watched, so what comes in ends the sleep.
//!
//! It also does to the sockets what [`crate::admission`] says when more comes than can be decided: nothing, as long as
//! no batch is full.

use std::io;
use std::time::Duration;

use super::mesh::NodeEnds;
use super::port::{DriverCounters, count};
use super::socket::{Inlet, KERNEL_SOCKETS_MAX, ShardSocket};
use crate::admission::{self, Admission};
use crate::steer::Queue;
use crate::sys::ready::ReadySet;
use crate::sys::receive::ReceiveBatch;
use crate::sys::{clock, event, prefetch};
use crate::{Actions, Engine, Now};

/// A socket that fails twice in a row (its interface went down) is left alone for this long.
const AFTER_ERROR_NS: u64 = 100_000_000;

/// Number of the mesh's event in the set; kernel sockets have theirs from 0 on.
const MESH: u64 = u64::MAX;

/// What a shard waits for.
pub(crate) struct Watched {
    set: ReadySet,
    sockets: Vec<Option<Served>>,
    /// Socket whose turn it is to be read first.
    next_socket: usize,
    /// When the first socket that was left alone is looked at again, on the monotonic clock.
    resume_ns: Option<u64>,
    /// When the first of the queues under watch wants to be looked at, on the monotonic clock.
    admission_ns: Option<u64>,
    /// Nothing is taken from the kernel any more.
    stopped: bool,
}

/// Who decides what is received, and when.
pub(crate) struct Turn<'turn, E: Engine> {
    pub(crate) engine: &'turn mut E,
    pub(crate) actions: &'turn mut Actions<E::Message, E::Event>,
    pub(crate) now: Now,
}

struct Served {
    socket: ShardSocket,
    states: [State; KERNEL_SOCKETS_MAX],
    /// One for each kernel socket.
    admissions: Vec<Admission>,
    /// Whether DISCOVERs were asked to be divided from all else.
    divided: bool,
}

/// What is known of a kernel socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// There was nothing to read; the set tells when there is.
    Drained,
    /// There may be something to read.
    Readable,
    /// Reading failed; it is tried once more at once, because an error is over once it is read.
    Failed,
    /// It failed again; not watched until then.
    Left { until_ns: u64 },
}

impl Watched {
    /// No sockets yet; the event of `node` is watched.
    ///
    /// # Errors
    /// No more descriptors.
    pub(crate) fn new(node: &NodeEnds<impl Send>) -> io::Result<Self> {
        let set = ReadySet::new()?;
        set.add(node.event(), MESH)?;
        Ok(Self {
            set,
            sockets: Vec::new(),
            next_socket: 0,
            resume_ns: None,
            admission_ns: None,
            stopped: false,
        })
    }

    /// Serves `socket` under `number`, in place of what had the number before.
    ///
    /// # Errors
    /// The kernel's limit of watched descriptors; the socket is closed then.
    pub(crate) fn add(&mut self, number: usize, socket: ShardSocket) -> io::Result<()> {
        self.remove(number);
        let watched = if self.stopped { 0 } else { KERNEL_SOCKETS_MAX };
        for (which, inlet) in socket.inlets().iter().enumerate().take(watched) {
            if let Err(error) = self.set.add(&inlet.socket, token(number, which)) {
                unwatch(&self.set, &socket);
                return Err(error);
            }
        }
        if self.sockets.len() <= number {
            self.sockets.resize_with(number + 1, || None);
        }
        let admissions = socket.inlets().iter().map(Inlet::admission).collect();
        let states = [State::Drained; KERNEL_SOCKETS_MAX];
        self.sockets[number] = Some(Served { socket, states, admissions, divided: false });
        Ok(())
    }

    /// Closes the socket with this number.
    pub(crate) fn remove(&mut self, number: usize) {
        if let Some(mut served) = self.sockets.get_mut(number).and_then(Option::take) {
            unwatch(&self.set, &served.socket);
            // What this shard wanted of the group must not outlive its part in it.
            served.divide(false);
        }
    }

    /// From now on nothing is received; what is to be sent still is.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.resume_ns = None;
        for served in self.sockets.iter_mut().flatten() {
            unwatch(&self.set, &served.socket);
            served.states = [State::Drained; KERNEL_SOCKETS_MAX];
        }
    }

    /// The socket with this number, if there is one.
    pub(crate) fn socket(&self, number: usize) -> Option<&ShardSocket> {
        self.sockets.get(number)?.as_ref().map(|served| &served.socket)
    }

    /// Takes a batch of at most `max` datagrams from each readable socket, the main queues first, and hands each to
    /// the engine; true when there may be more.
    pub(crate) fn receive<E: Engine>(
        &mut self,
        max: usize,
        batch: &mut ReceiveBatch,
        counters: &DriverCounters,
        mut turn: Turn<'_, E>,
    ) -> bool {
        if self.resume_ns.is_some_and(|due_ns| due_ns <= turn.now.monotonic_ns) {
            self.resume(turn.now.monotonic_ns);
        }
        if self.admission_ns.is_some_and(|due_ns| due_ns <= turn.now.monotonic_ns) {
            self.admit(turn.now.monotonic_ns, counters);
        }
        let more = self.receive_queue(Queue::Main, max, batch, counters, &mut turn);
        let discovers = admission::discovers_at_once(max, more);
        let more_discovers = self.receive_queue(Queue::Discovers, discovers, batch, counters, &mut turn);
        self.next_socket = (self.next_socket + 1) % self.sockets.len().max(1);
        more || more_discovers
    }

    fn receive_queue<E: Engine>(
        &mut self,
        queue: Queue,
        max: usize,
        batch: &mut ReceiveBatch,
        counters: &DriverCounters,
        turn: &mut Turn<'_, E>,
    ) -> bool {
        let mut more = false;
        for step in 0..self.sockets.len() {
            let index = (self.next_socket + step) % self.sockets.len();
            let Some(served) = &mut self.sockets[index] else { continue };
            for which in 0..served.socket.inlets().len() {
                let inlet = served.socket.inlet_mut(which);
                let state = served.states[which];
                if inlet.queue != queue || !matches!(state, State::Readable | State::Failed) {
                    continue;
                }
                let state = match inlet.receive(max, batch) {
                    Ok(received) => {
                        let timeout_ns =
                            served.decide_batch(index, which, received == max, batch, counters, turn);
                        self.admission_ns = earlier(self.admission_ns, timeout_ns);
                        if received == max { State::Readable } else { State::Drained }
                    }
                    // Datagrams may lie behind it.
                    Err(_) if state == State::Readable => State::Failed,
                    Err(_) => {
                        // A socket that is not in the set has nothing to be taken out.
                        let _ = self.set.remove(&inlet.socket);
                        let until_ns = turn.now.monotonic_ns + AFTER_ERROR_NS;
                        self.resume_ns = earlier(self.resume_ns, Some(until_ns));
                        State::Left { until_ns }
                    }
                };
                more |= matches!(state, State::Readable | State::Failed);
                served.states[which] = state;
            }
        }
        more
    }

    /// Looks at the queues under watch, and changes the size of those that want it.
    fn admit(&mut self, now_ns: u64, counters: &DriverCounters) {
        self.admission_ns = None;
        for served in self.sockets.iter_mut().flatten() {
            for which in 0..served.admissions.len() {
                if served.admissions[which].next_timeout().is_some_and(|due_ns| due_ns <= now_ns) {
                    served.count_drops(which, counters);
                    if let Some(octets) = served.admissions[which].handle_timeout(now_ns)
                        && let Err(error) = served.socket.inlets()[which].set_buffer_octets(octets)
                    {
                        // It stays as it is: what is too old in it is dropped unread.
                        log::warn!(target: "kea-dhcp4.dhcpsrv", "TANDEM_QUEUE_SIZE a socket keeps its buffer: {error}");
                    }
                }
                self.admission_ns = earlier(self.admission_ns, served.admissions[which].next_timeout());
            }
            served.divide_if_pressed();
        }
    }

    /// Reads what the kernel has dropped.
    pub(crate) fn count_drops(&mut self, counters: &DriverCounters) {
        for served in self.sockets.iter_mut().flatten() {
            for which in 0..served.admissions.len() {
                served.count_drops(which, counters);
            }
        }
    }

    /// Looks again at the sockets that were left alone for long enough.
    fn resume(&mut self, now_ns: u64) {
        self.resume_ns = None;
        for (number, served) in self.sockets.iter_mut().enumerate() {
            let Some(served) = served else { continue };
            for (which, inlet) in served.socket.inlets().iter().enumerate() {
                let State::Left { until_ns } = served.states[which] else { continue };
                if until_ns <= now_ns && self.set.add(&inlet.socket, token(number, which)).is_ok() {
                    served.states[which] = State::Readable;
                } else {
                    let due_ns = until_ns.max(now_ns + AFTER_ERROR_NS / 2);
                    self.resume_ns = earlier(self.resume_ns, Some(due_ns));
                }
            }
        }
    }

    /// Marks what is readable, without waiting.
    ///
    /// # Errors
    /// The set is broken.
    pub(crate) fn look<M: Send>(&mut self, node: &NodeEnds<M>) -> io::Result<bool> {
        self.wait(node, Some(Duration::ZERO))
    }

    /// Sleeps until there is something to do or `deadline_ns` has passed, after having looked for it for as long as
    /// `spin`.
    ///
    /// # Errors
    /// The set is broken.
    pub(crate) fn sleep<M: Send>(
        &mut self,
        node: &NodeEnds<M>,
        deadline_ns: Option<u64>,
        spin: Duration,
    ) -> io::Result<()> {
        let deadline_ns = earlier(earlier(deadline_ns, self.resume_ns), self.admission_ns);
        let left = |now_ns: u64| deadline_ns.map(|due_ns| due_ns.saturating_sub(now_ns));
        let start_ns = clock::now().monotonic_ns;
        if !spin.is_zero() {
            let spin_ns = u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX);
            let mut now_ns = start_ns;
            while now_ns - start_ns < spin_ns {
                if node.is_called() || left(now_ns) == Some(0) || self.look(node)? {
                    break;
                }
                std::hint::spin_loop();
                now_ns = clock::now().monotonic_ns;
            }
        }
        if node.begin_sleep() && !self.sockets.iter().flatten().any(Served::is_readable) {
            let now_ns = if spin.is_zero() { start_ns } else { clock::now().monotonic_ns };
            self.wait(node, left(now_ns).map(Duration::from_nanos))?;
        }
        node.end_sleep();
        Ok(())
    }

    /// Waits for the set and marks the sockets it reports; true when it reported anything.
    fn wait<M: Send>(&mut self, node: &NodeEnds<M>, timeout: Option<Duration>) -> io::Result<bool> {
        let Self { set, sockets, .. } = self;
        let mut any = false;
        set.wait(timeout, |number| {
            any = true;
            if number == MESH {
                event::clear(node.event());
                return;
            }
            let (index, which) = place(number);
            // A socket that was left alone or closed meanwhile is not in the set.
            if let Some(Some(served)) = sockets.get_mut(index)
                && served.states[which] == State::Drained
            {
                served.states[which] = State::Readable;
            }
        })?;
        Ok(any)
    }
}

impl Served {
    /// Hands the datagrams of a batch to the engine, but for what waited too long; when its queue is to be looked at.
    fn decide_batch<E: Engine>(
        &mut self,
        index: usize,
        which: usize,
        more: bool,
        batch: &ReceiveBatch,
        counters: &DriverCounters,
        turn: &mut Turn<'_, E>,
    ) -> Option<u64> {
        let taken = self.socket.inlets()[which].taken(batch);
        let waited_ms = |place: usize| {
            taken
                .received_ms(place)
                .map_or(0, |received_ms| admission::waited_ms(turn.now.wall_ms, received_ms))
        };
        let oldest_ms = || if taken.len() > 0 { waited_ms(0) } else { 0 };
        let may_wait_ms = self.admissions[which].handle_batch(turn.now.monotonic_ns, more, oldest_ms);
        let (mut unreadable, mut stale) = (0, 0);
        let received = taken.len();
        for place in 0..received {
            let payload = self.socket.datagram(index as u16, taken, place).map(|(_, bytes)| bytes);
            if let Some(first_read) = payload.and_then(|bytes| turn.engine.ahead(bytes)) {
                prefetch::fetch(first_read);
            }
        }
        for place in 0..received {
            if may_wait_ms.is_some_and(|may_wait_ms| waited_ms(place) > may_wait_ms) {
                stale += 1;
                continue;
            }
            match self.socket.datagram(index as u16, taken, place) {
                Some((meta, bytes)) => turn.engine.handle_datagram(turn.now, &meta, bytes, turn.actions),
                None => unreadable += 1,
            }
        }
        self.socket.inlet_mut(which).release();
        counters.average_batch(received);
        count(&counters.received, received as u64);
        count(&counters.unreadable, unreadable);
        count(&counters.stale_dropped, stale);
        if more {
            self.divide_if_pressed();
        }
        self.admissions[which].next_timeout()
    }

    /// Has DISCOVERs divided from all else while a queue is pressed.
    fn divide_if_pressed(&mut self) {
        let pressed = self.admissions.iter().any(Admission::is_pressed);
        self.divide(pressed);
    }

    fn divide(&mut self, wanted: bool) {
        if wanted == self.divided {
            return;
        }
        self.divided = wanted;
        if let Err(error) = self.socket.divide(wanted) {
            // All wait in the queue they waited in, and are served in order.
            log::warn!(target: "kea-dhcp4.dhcpsrv", "TANDEM_QUEUES_NOT_DIVIDED no thread for it: {error}");
        }
    }

    fn count_drops(&mut self, which: usize, counters: &DriverCounters) {
        let dropped = u64::from(self.socket.take_kernel_drops(which));
        self.admissions[which].handle_drops(dropped);
        let counter = match self.socket.inlets()[which].queue {
            Queue::Main => &counters.main_dropped,
            Queue::Discovers => &counters.discovers_dropped,
        };
        count(counter, dropped);
    }

    fn is_readable(&self) -> bool {
        self.states.iter().any(|state| matches!(state, State::Readable | State::Failed))
    }
}

/// Takes what is behind `socket` out of `set`. To close it is not enough: the shards of a group keep one of their
/// sockets open until the last of them is done with the group, and until then the set would tell of it.
fn unwatch(set: &ReadySet, socket: &ShardSocket) {
    for inlet in socket.inlets() {
        // One that was left alone is not in the set.
        let _ = set.remove(&inlet.socket);
    }
}

/// The earlier of two times, where there is one.
fn earlier(one_ns: Option<u64>, other_ns: Option<u64>) -> Option<u64> {
    one_ns.into_iter().chain(other_ns).min()
}

/// Number in the set of kernel socket `which` of socket `number`.
fn token(number: usize, which: usize) -> u64 {
    (number * KERNEL_SOCKETS_MAX + which) as u64
}

fn place(token: u64) -> (usize, usize) {
    // Made by `token` from a socket number, which is small.
    let token = token as usize;
    (token / KERNEL_SOCKETS_MAX, token % KERNEL_SOCKETS_MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;
    use crate::Topology;
    use crate::runtime::mesh::{LaneSizes, build};
    use crate::runtime::socket::open_udp;
    use crate::steer::SteerHash;
    use crate::sys::interface;

    #[test]
    fn a_socket_that_was_removed_wakes_nobody_while_another_shard_has_its_group() {
        let loopback = interface::list().unwrap().into_iter().find(|interface| interface.loopback).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // Another port of those that are given out now.
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let opened = open_udp(&loopback, Ipv4Addr::LOCALHOST, port, &SteerHash::new(1, 2), 2).unwrap();
        let mut sockets = opened.sockets.into_iter();
        let topology = Topology { shards: 2, listeners: 0, senders: 0 };
        let node = build::<u32>(topology, LaneSizes { datagram: 1, state: 1 }).unwrap().remove(0);
        let mut watched = Watched::new(&node).unwrap();
        watched.add(0, sockets.next().unwrap()).unwrap();
        let others = sockets.next().unwrap();
        // What is too short to be steered waits at the first shard.
        client.send_to(b"x", (Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(watched.look(&node).unwrap());
        watched.remove(0);
        assert!(!watched.look(&node).unwrap());
        drop(others);
    }
}
