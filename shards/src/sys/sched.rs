//! How soon the scheduler runs a thread that wakes up beside one that is busy on the same processor.
//!
//! A thread that is woken may have to wait for the end of the other's turn, which is at the next tick of the clock: 4 ms
//! on many kernels.

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

/// The lowest of the priorities that come before all ordinary threads.
const PRIORITY_LOWEST: u32 = 1;

/// Asks for turns of `slice` for the calling thread: it then runs as soon as it wakes up beside a thread with longer turns,
/// and gives way at once to one with shorter turns. The kernel's own are 1.4 to 3 ms. A kernel before Linux 6.12 takes
/// the wish and does nothing; a thread under another policy than the ordinary one is left as it is. Needs no
/// privilege.
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

/// Asks that the calling thread runs as soon as it wakes up, before every ordinary thread of the processor. Only for one
/// that never does much at a time. Needs `CAP_SYS_NICE`, or a limit of real-time priorities above 0.
///
/// # Errors
/// What the kernel says; the thread goes on as before.
pub fn run_first() -> io::Result<()> {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_RR as u32,
        priority: PRIORITY_LOWEST,
        ..Attributes::default()
    };
    // SAFETY: the pointer is to a live struct of the size that it states, which the kernel copies; 0 is the caller.
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

    #[test]
    fn a_thread_runs_first_or_is_told_that_it_may_not() {
        let policy = || {
            // SAFETY: the call takes a number and returns one; 0 is the caller.
            unsafe { libc::sched_getscheduler(0) }
        };
        std::thread::spawn(move || {
            let expected = run_first().map_or(libc::SCHED_OTHER, |()| libc::SCHED_RR);
            assert_eq!(policy(), expected);
            // What was refused leaves the thread able to ask for less; what was granted stays.
            set_slice(Duration::from_micros(100)).unwrap();
            assert_eq!(policy(), expected);
        })
        .join()
        .unwrap();
    }
}
