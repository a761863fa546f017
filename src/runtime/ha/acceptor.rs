//! One acceptor per HA listener: a thread that hands connections to the listen executors in turn.
//!
//! Every executor with a listening socket of its own (reuseport) would leave some of them idle, because a partner
//! opens few connections and keeps them. Where an executor's queue is full the connection is closed and counted;
//! the partner connects again.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use shards::runtime::NodeWaker;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait for one executor; it takes them within a loop iteration.
const WAITING_MAX: usize = 64;

/// Connections the kernel may hold before they are accepted.
const BACKLOG: i32 = 1024;

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
    (0..executors).map(|_| rtrb::RingBuffer::new(WAITING_MAX)).unzip()
}

/// The accepting thread. Dropped, it ends.
#[derive(Debug)]
pub struct Acceptor {
    listener: Socket,
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
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
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let dropped = Arc::new(AtomicU64::new(0));
        let handle = Socket::from(listener.try_clone()?);
        let thread = std::thread::Builder::new().name("ha-accept".into()).spawn({
            let (stopping, dropped) = (stopping.clone(), dropped.clone());
            move || accept_in_turn(&listener, executors, &stopping, &dropped)
        })?;
        Ok(Self { listener: handle, address, stopping, dropped, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections closed because no executor had room for them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
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
    dropped: &AtomicU64,
) {
    let mut turn = 0;
    while !stopping.load(Ordering::Acquire) {
        let (socket, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(_) if stopping.load(Ordering::Acquire) => return,
            Err(error) => {
                // Out of descriptors, say: not a reason to spin.
                log::warn!(target: "kea-dhcp4.http", "HTTP_CONNECTION_ACCEPT_FAILED accepting failed: {error}");
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
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// An IPv4 address as such, also where it came in on an IPv6 socket.
fn unmapped(peer: SocketAddr) -> SocketAddr {
    match peer.ip() {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => SocketAddr::new(address.to_canonical(), peer.port()),
    }
}
