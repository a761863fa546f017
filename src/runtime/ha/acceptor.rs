//! One acceptor per HA listener: a thread that hands connections to the listen executors in turn.
//!
//! Every executor with a listening socket of its own (reuseport) would leave some of them idle, because a partner
//! opens few connections and keeps them. Where an executor's queue is full the connection is closed, which is counted in
//! the log; the partner connects again.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shards::runtime::NodeWaker;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::HA_ACCEPTED_WAITING_MAX;

/// Connections the kernel may hold before they are accepted.
const BACKLOG: i32 = 1024;

/// What is logged of trouble with connections: one message in this time, with how often it came.
const TROUBLE_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// An accepted connection on its way to an executor.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub socket: OwnedFd,
    /// Who it is from.
    pub peer: SocketAddr,
}

/// Where the connections of one executor arrive.
pub type AcceptedQueue = rtrb::Consumer<Accepted>;

/// Makes a listening socket. `SO_REUSEADDR` so that a restart is not refused, never `SO_REUSEPORT`: a stale
/// process would silently share the port.
///
/// # Errors
/// The address is not this host's, the port is taken, or needs a privilege.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The end of the queue for each of `executors` executors, and the other end for the acceptor.
pub fn queues(executors: usize) -> (Vec<rtrb::Producer<Accepted>>, Vec<AcceptedQueue>) {
    (0..executors).map(|_| rtrb::RingBuffer::new(HA_ACCEPTED_WAITING_MAX)).unzip()
}

/// The accepting thread. Dropped, it ends.
#[derive(Debug)]
pub struct Acceptor {
    listener: Socket,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Accepts on `listener` for `executors`, one queue and the waker of its node each.
    ///
    /// # Errors
    /// No more threads or descriptors.
    pub fn spawn(
        listener: TcpListener,
        executors: Vec<(rtrb::Producer<Accepted>, NodeWaker)>,
    ) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let handle = Socket::from(listener.try_clone()?);
        let thread = std::thread::Builder::new().name("ha-accept".into()).spawn({
            let stopping = stopping.clone();
            move || accept_in_turn(&listener, executors, &stopping)
        })?;
        Ok(Self { listener: handle, stopping, thread: Some(thread) })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the accept; a socket that is gone already needs no waking.
        let _ = self.listener.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // It cannot panic; if it did, stopping goes on.
            let _ = thread.join();
        }
    }
}

fn accept_in_turn(
    listener: &TcpListener,
    mut executors: Vec<(rtrb::Producer<Accepted>, NodeWaker)>,
    stopping: &AtomicBool,
) {
    let mut turn = 0;
    let (mut failures, mut refusals) = (Trouble::default(), Trouble::default());
    while !stopping.load(Ordering::Acquire) {
        let (socket, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(_) if stopping.load(Ordering::Acquire) => return,
            Err(error) => {
                // Out of descriptors, say: not a reason to spin, nor to fill the log.
                if let Some(count) = failures.is_due(Instant::now()) {
                    log::warn!(
                        target: "kea-dhcp4.http",
                        "HTTP_CONNECTION_ACCEPT_FAILED accepting failed: {error} ({count} since the last such message)"
                    );
                }
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let count = executors.len();
        let Some((queue, waker)) = executors.get_mut(turn % count.max(1)) else { return };
        turn = turn.wrapping_add(1);
        match queue.push(Accepted { socket: socket.into(), peer: unmapped(peer) }) {
            Ok(()) => waker.wake(),
            Err(_) => {
                if let Some(count) = refusals.is_due(Instant::now()) {
                    log::warn!(
                        target: "kea-dhcp4.http",
                        "TANDEM_HA_CONNECTIONS_CLOSED an HA listener does not take connections as fast as they come \
                         ({count} closed since the last such message)"
                    );
                }
            }
        }
    }
}

/// Trouble of one kind.
#[derive(Default)]
struct Trouble {
    said: Option<Instant>,
    unsaid: u64,
}

impl Trouble {
    /// It has come once more; how often since it was last said, if it is time to say so.
    fn is_due(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < TROUBLE_LOGGED_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// An IPv4 address as such, also where it came in on an IPv6 socket.
fn unmapped(peer: SocketAddr) -> SocketAddr {
    match peer.ip() {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => SocketAddr::new(address.to_canonical(), peer.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_lasts_is_said_now_and_then_with_how_often_it_came() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let due: Vec<Option<u64>> =
            [0, 1, 9, 10, 11, 25].map(|s| trouble.is_due(start + Duration::from_secs(s))).into();
        assert_eq!(due, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
