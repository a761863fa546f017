//! Executors: one pinned thread per node of the mesh, ready before anything is served.
//!
//! An executor counts as ready when io_uring works, its locked memory was granted and its first sleep is
//! over (the first sleep of a glommio executor takes up to 50 ms). What the kernel refuses becomes one error
//! that names the setting to change.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder};

use super::mesh::{NodeEnds, NodeHandle};
use crate::sys;

/// I/O memory of an executor, octets: the smallest that works. Sockets and files use buffers of their own.
const IO_MEMORY_OCTETS: usize = 64 * 1024;

/// The preemption timer, longer than any stall of the host: where it fires between the executor's look at its rings
/// and the first task, glommio 0.9 goes to sleep with tasks ready to run. Busy tasks here let the rings be looked at
/// by themselves.
const PREEMPT_TIMER: Duration = Duration::from_secs(60);

/// How long an executor may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Where an executor runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Placement {
    /// Pinned to this CPU.
    Cpu(usize),
    /// Wherever the scheduler puts it.
    Unpinned,
}

/// An executor that is up; it runs until its body returns.
#[derive(Debug)]
pub struct Executor<T: Send + 'static> {
    name: String,
    thread: ExecutorJoinHandle<Result<T, String>>,
    ready: mpsc::Receiver<()>,
}

/// Why there is no executor.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The kernel does not let this process use io_uring.
    #[error(
        "executor {name}: io_uring is forbidden here ({cause}); set kernel.io_uring_disabled to 0 or allow \
         io_uring_setup in the container's seccomp profile"
    )]
    Forbidden {
        /// Name of the executor.
        name: String,
        /// What the kernel said.
        cause: String,
    },
    /// The limit of locked memory is too small.
    #[error(
        "executor {name}: not enough locked memory ({cause}); raise it with `ulimit -l` or LimitMEMLOCK= to at \
         least 512 KiB for each executor"
    )]
    LockedMemory {
        /// Name of the executor.
        name: String,
        /// What the kernel said.
        cause: String,
    },
    /// Anything else.
    #[error("executor {name}: {cause}")]
    Other {
        /// Name of the executor.
        name: String,
        /// What went wrong.
        cause: String,
    },
}

/// Starts the executor of the node `ends` belongs to under the thread name `name` and runs `body` in it once it is ready.
///
/// The call returns at once, so that several can start side by side; then [`Executor::wait_ready`] is due.
///
/// # Errors
/// [`SpawnError`] where the thread or its rings cannot be made.
pub fn spawn<M, T, F, Body>(
    name: &str,
    placement: Placement,
    ends: NodeEnds<M>,
    body: F,
) -> Result<Executor<T>, SpawnError>
where
    M: Send + 'static,
    T: Send + 'static,
    F: FnOnce(Rc<NodeHandle<M>>) -> Body + Send + 'static,
    Body: Future<Output = T> + 'static,
{
    sys::probe::io_uring().map_err(|error| SpawnError::refused(name, &error))?;
    let (ready_sender, ready) = mpsc::channel();
    let placed = match placement {
        Placement::Cpu(cpu) => glommio::Placement::Fixed(cpu),
        Placement::Unpinned => glommio::Placement::Unbound,
    };
    let thread = LocalExecutorBuilder::new(placed)
        .name(name)
        .io_memory(IO_MEMORY_OCTETS)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(move || async move {
            glommio::timer::sleep(Duration::from_millis(1)).await;
            let node = NodeHandle::new(ends).map_err(|error| error.to_string())?;
            // Whoever started us may have given up; then there is nobody to tell.
            let _ = ready_sender.send(());
            let result = body(Rc::new(node)).await;
            // Kept until here, so that its end tells `Executor::has_ended` of a panic as well.
            drop(ready_sender);
            Ok(result)
        })
        .map_err(|error| SpawnError::new(name, &error.to_string()))?;
    Ok(Executor { name: name.to_owned(), thread, ready })
}

impl<T: Send + 'static> Executor<T> {
    /// Waits until the executor runs its body.
    ///
    /// # Errors
    /// [`SpawnError`] with what the kernel refused.
    pub fn wait_ready(self) -> Result<Self, SpawnError> {
        match self.ready.recv_timeout(READY_WITHIN) {
            Ok(()) => Ok(self),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(SpawnError::new(&self.name, "not ready within 20 seconds"))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let name = self.name.clone();
                Err(self.join().err().unwrap_or_else(|| SpawnError::new(&name, "ended before it was ready")))
            }
        }
    }

    /// Its thread name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the body has returned or panicked: [`Executor::join`] does not wait then.
    pub fn has_ended(&self) -> bool {
        matches!(self.ready.try_recv(), Err(mpsc::TryRecvError::Disconnected))
    }

    /// Waits until the body has returned and gives its result.
    ///
    /// # Errors
    /// [`SpawnError::Other`] when the executor panicked.
    pub fn join(self) -> Result<T, SpawnError> {
        match self.thread.join() {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(cause)) => Err(SpawnError::new(&self.name, &cause)),
            Err(error) => Err(SpawnError::new(&self.name, &error.to_string())),
        }
    }
}

impl SpawnError {
    /// From the kernel's answer to making a ring.
    fn refused(name: &str, error: &io::Error) -> Self {
        let (name, cause) = (name.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::OutOfMemory => Self::LockedMemory { name, cause },
            io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => Self::Forbidden { name, cause },
            _ => Self::Other { name, cause },
        }
    }

    /// From glommio's text.
    fn new(name: &str, cause: &str) -> Self {
        let (name, cause, text) = (name.to_owned(), cause.to_owned(), cause.to_lowercase());
        if text.contains("memlock") || text.contains("cannot allocate memory") {
            Self::LockedMemory { name, cause }
        } else if text.contains("operation not permitted") || text.contains("function not implemented") {
            Self::Forbidden { name, cause }
        } else {
            Self::Other { name, cause }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::mesh::{LaneSizes, build};
    use crate::{Lane, NodeId, Topology};

    /// Each message is answered and each side sleeps between two of them, so a lost wake-up hangs the test.
    #[test]
    fn two_executors_play_ping_pong_without_losing_a_wake_up() {
        const ROUNDS: u32 = 5_000;
        let topology = Topology { shards: 1, listeners: 0, senders: 0 };
        let mut nodes = build::<u32>(topology, LaneSizes { datagram: 2, state: 2 }).unwrap().into_iter();
        let player = |node: Rc<NodeHandle<u32>>| async move {
            let other = NodeId(1 - node.id().0);
            if node.id() == NodeId(0) {
                node.try_send(other, Lane::State, 0).unwrap();
            }
            let mut last = 0;
            while last < ROUNDS {
                node.wait().await.unwrap();
                node.receive(Lane::State, 1, |from, number| {
                    assert_eq!(from, other);
                    last = number;
                    node.try_send(other, Lane::State, number + 1).unwrap();
                });
            }
            last
        };
        let first = spawn("ping", Placement::Unpinned, nodes.next().unwrap(), player).unwrap();
        let second = spawn("pong", Placement::Unpinned, nodes.next().unwrap(), player).unwrap();
        let (first, second) = (first.wait_ready().unwrap(), second.wait_ready().unwrap());
        assert!(first.join().unwrap() >= ROUNDS);
        assert!(second.join().unwrap() >= ROUNDS);
    }

    #[test]
    fn what_the_kernel_refuses_names_the_setting() {
        let rows = [
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::ENOSYS, "kernel.io_uring_disabled"),
            (libc::ENOMEM, "LimitMEMLOCK"),
        ];
        for (errno, expected) in rows {
            let text = SpawnError::refused("shard-0", &io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(expected) && text.contains("shard-0"), "{text}");
        }
        let text = SpawnError::new("shard-0", "IO error occurred: MemLockLimit(16384/524288)").to_string();
        assert!(text.contains("ulimit -l"), "{text}");
    }

    #[test]
    fn a_waker_ends_a_wait_from_another_thread() {
        let topology = Topology { shards: 1, listeners: 0, senders: 0 };
        let node = build::<u32>(topology, LaneSizes { datagram: 2, state: 2 }).unwrap().remove(1);
        let waker = node.waker();
        let executor = spawn("sleeper", Placement::Unpinned, node, |node| async move { node.wait().await })
            .unwrap()
            .wait_ready()
            .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!executor.has_ended());
        waker.wake();
        while !executor.has_ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
        executor.join().unwrap().unwrap();
    }
}
