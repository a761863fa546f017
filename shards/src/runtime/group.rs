//! The kernel's group that the main queues of all shards belong to, and the division of DISCOVERs from all else.
//!
//! To exchange the program of a group takes the kernel milliseconds, up to some tens of them: it waits until nobody uses
//! the old one. So a thread that lives for no longer than that does it, and shards go on meanwhile. It has its own errors
//! to tell.
//!
//! Invariants: at most one thread exchanges at a time; when it ends without an error, the queues are as was wanted last.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use socket2::Socket;

use super::socket::Mode;
use crate::steer::SteerHash;
use crate::steer::program;
use crate::sys::socket as options;

/// The group. Its lock is taken when a shard begins or ceases to have too much to do, and never for a datagram; nobody
/// holds it while the kernel works.
#[derive(Debug)]
pub(super) struct Group {
    mode: Mode,
    hash: SteerHash,
    /// A member, to speak to the group by.
    member: Socket,
    division: Mutex<Division>,
}

#[derive(Debug, Default)]
struct Division {
    /// Shards that want the queues divided.
    wanted: usize,
    /// Whether they are.
    divided: bool,
    /// A thread is at it, and looks again before it ends.
    exchanging: bool,
}

impl Division {
    fn is_as_wanted(&self) -> bool {
        self.divided == (self.wanted > 0)
    }
}

impl Group {
    /// The group that `member` belongs to, if there is one.
    ///
    /// # Errors
    /// No more descriptors.
    pub(super) fn new(
        mode: Mode,
        hash: &SteerHash,
        member: Option<&Socket>,
    ) -> io::Result<Option<Arc<Self>>> {
        let Some(member) = member else { return Ok(None) };
        let (member, division) = (member.try_clone()?, Mutex::default());
        Ok(Some(Arc::new(Self { mode, hash: *hash, member, division })))
    }

    /// One shard more, or one less, wants the queues divided, which will be so in some milliseconds.
    ///
    /// # Errors
    /// The system refuses a thread; the queues stay as they are until a shard changes its mind again.
    pub(super) fn divide(self: &Arc<Self>, wanted: bool) -> io::Result<()> {
        let mut division = self.lock();
        division.wanted = if wanted { division.wanted + 1 } else { division.wanted.saturating_sub(1) };
        if division.exchanging || division.is_as_wanted() {
            return Ok(());
        }
        let group = Arc::clone(self);
        thread::Builder::new().name("queues".into()).spawn(move || group.exchange())?;
        division.exchanging = true;
        Ok(())
    }

    /// Exchanges the program until the queues are as wanted.
    fn exchange(&self) {
        loop {
            let divided = {
                let mut division = self.lock();
                if division.is_as_wanted() {
                    division.exchanging = false;
                    return;
                }
                division.wanted > 0
            };
            let exchanged = match self.mode {
                Mode::Raw => options::set_fanout_program(&self.member, &program::fanout(&self.hash, divided)),
                Mode::Udp => {
                    options::attach_reuseport_program(&self.member, &program::reuseport(&self.hash, divided))
                }
            };
            let mut division = self.lock();
            if let Err(error) = exchanged {
                // All wait in the queue they waited in, and are served in order.
                log::warn!(target: "kea-dhcp4.dhcpsrv", "TANDEM_QUEUES_NOT_DIVIDED the kernel keeps its program: {error}");
                division.exchanging = false;
                return;
            }
            division.divided = divided;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Division> {
        self.division.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
