//! A shard's sockets, and its sleep until one of them is readable, the mesh calls, or a time has come.
//!
//! The shard's thread waits here itself, in one `epoll_wait`, and not in the reactor of its executor: nothing else
//! of the executor ever waits, and the reactor's rings and timers cost more than a query does.
//!
//! Invariant: until [`Watched::stop`], a kernel socket that is drained is watched, so what comes in ends the sleep.

use std::io;
use std::time::Duration;

use super::mesh::NodeEnds;
use super::port::{DriverCounters, count};
use super::socket::ShardSocket;
use crate::DatagramMeta;
use crate::sys::ready::ReadySet;
use crate::sys::receive::ReceiveBatch;
use crate::sys::{clock, event};

/// A socket that fails twice in a row (its interface went down) is left alone for this long.
const AFTER_ERROR_NS: u64 = 100_000_000;

/// Number of the mesh's event in the set; kernel sockets have theirs from 0 on.
const MESH: u64 = u64::MAX;

/// Kernel sockets of one [`ShardSocket`] at most.
const KERNEL_SOCKETS_MAX: usize = 2;

/// What a shard waits for.
pub(crate) struct Watched {
    set: ReadySet,
    sockets: Vec<Option<Served>>,
    /// Socket whose turn it is to be read first.
    next_socket: usize,
    /// When the first socket that was left alone is looked at again, on the monotonic clock.
    resume_ns: Option<u64>,
    /// Nothing is taken from the kernel any more.
    stopped: bool,
}

struct Served {
    socket: ShardSocket,
    states: [State; KERNEL_SOCKETS_MAX],
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
        Ok(Self { set, sockets: Vec::new(), next_socket: 0, resume_ns: None, stopped: false })
    }

    /// Serves `socket` under `number`, in place of what had the number before.
    ///
    /// # Errors
    /// The kernel's limit of watched descriptors; the socket is closed then.
    pub(crate) fn add(&mut self, number: usize, socket: ShardSocket) -> io::Result<()> {
        self.remove(number);
        let watched = if self.stopped { 0 } else { KERNEL_SOCKETS_MAX };
        for (which, kernel_socket) in socket.kernel_sockets().enumerate().take(watched) {
            self.set.add(kernel_socket, token(number, which))?;
        }
        if self.sockets.len() <= number {
            self.sockets.resize_with(number + 1, || None);
        }
        self.sockets[number] = Some(Served { socket, states: [State::Drained; KERNEL_SOCKETS_MAX] });
        Ok(())
    }

    /// Closes the socket with this number, which also ends its being watched.
    pub(crate) fn remove(&mut self, number: usize) {
        if let Some(place) = self.sockets.get_mut(number) {
            *place = None;
        }
    }

    /// From now on nothing is received; what is to be sent still is.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.resume_ns = None;
        for served in self.sockets.iter_mut().flatten() {
            for kernel_socket in served.socket.kernel_sockets() {
                // One that was left alone is not in the set.
                let _ = self.set.remove(kernel_socket);
            }
            served.states = [State::Drained; KERNEL_SOCKETS_MAX];
        }
    }

    /// The socket with this number, if there is one.
    pub(crate) fn socket(&self, number: usize) -> Option<&ShardSocket> {
        self.sockets.get(number)?.as_ref().map(|served| &served.socket)
    }

    /// All sockets.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &ShardSocket> {
        self.sockets.iter().flatten().map(|served| &served.socket)
    }

    /// Takes a batch of at most `max` datagrams from each readable socket and hands each to `decide`; true when there
    /// may be more.
    pub(crate) fn receive(
        &mut self,
        now_ns: u64,
        max: usize,
        batch: &mut ReceiveBatch,
        counters: &DriverCounters,
        mut decide: impl FnMut(&DatagramMeta, &[u8]),
    ) -> bool {
        if self.resume_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            self.resume(now_ns);
        }
        let mut more = false;
        let start = self.next_socket;
        self.next_socket = (start + 1) % self.sockets.len().max(1);
        for step in 0..self.sockets.len() {
            let index = (start + step) % self.sockets.len();
            let Some(served) = &mut self.sockets[index] else { continue };
            for (which, kernel_socket) in served.socket.kernel_sockets().enumerate() {
                let state = served.states[which];
                if !matches!(state, State::Readable | State::Failed) {
                    continue;
                }
                let state = match served.socket.receive(which, index as u16, max, batch, &mut decide) {
                    Ok((received, unreadable)) => {
                        count(&counters.received, received as u64);
                        count(&counters.unreadable, unreadable as u64);
                        if received == max { State::Readable } else { State::Drained }
                    }
                    // Datagrams may lie behind it.
                    Err(_) if state == State::Readable => State::Failed,
                    Err(_) => {
                        // A socket that is not in the set has nothing to be taken out.
                        let _ = self.set.remove(kernel_socket);
                        let until_ns = now_ns + AFTER_ERROR_NS;
                        self.resume_ns = Some(self.resume_ns.map_or(until_ns, |due_ns| due_ns.min(until_ns)));
                        State::Left { until_ns }
                    }
                };
                more |= matches!(state, State::Readable | State::Failed);
                served.states[which] = state;
            }
        }
        more
    }

    /// Looks again at the sockets that were left alone for long enough.
    fn resume(&mut self, now_ns: u64) {
        self.resume_ns = None;
        for (number, served) in self.sockets.iter_mut().enumerate() {
            let Some(served) = served else { continue };
            for (which, kernel_socket) in served.socket.kernel_sockets().enumerate() {
                let State::Left { until_ns } = served.states[which] else { continue };
                if until_ns <= now_ns && self.set.add(kernel_socket, token(number, which)).is_ok() {
                    served.states[which] = State::Readable;
                } else {
                    let due_ns = until_ns.max(now_ns + AFTER_ERROR_NS / 2);
                    self.resume_ns = Some(self.resume_ns.map_or(due_ns, |first_ns| first_ns.min(due_ns)));
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
        let deadline_ns = [deadline_ns, self.resume_ns].into_iter().flatten().min();
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
    fn is_readable(&self) -> bool {
        self.states.iter().any(|state| matches!(state, State::Readable | State::Failed))
    }
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
