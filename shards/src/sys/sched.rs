//! How soon the scheduler runs a thread that wakes up beside one that is busy on the same processor.

use std::io;
use std::time::Duration;

/// `struct sched_attr` as of its first version, which every kernel with the call takes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Asks for short turns for the calling thread: one that sleeps most of the time then runs as soon as it wakes up,
/// before a thread with longer turns. A kernel before Linux 6.12 takes the wish and does nothing; a thread under
/// another policy than the ordinary one is left as it is. Needs no privilege.
///
/// # Errors
/// What the kernel says; the thread goes on as before.
pub fn set_slice(slice: Duration) -> io::Result<()> {
    let mut attributes = Attributes::default();
    let size = size_of::<Attributes>() as u32;
    // SAFETY: pointer and length describe a live struct, which the kernel fills up to the length; 0 is the caller.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    if attributes.policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.size = size;
    attributes.runtime_ns = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: the pointer is to a live struct of the size that it states, which the kernel copies.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_thread_may_ask_for_short_turns() {
        std::thread::spawn(|| set_slice(Duration::from_micros(100)).unwrap()).join().unwrap();
    }
}
