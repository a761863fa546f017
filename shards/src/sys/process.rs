//! Processes that a program starts and is responsible for, threads that others come before, and what the system grants
//! a process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the process that `command` starts end, by SIGKILL, with the thread that starts it, so that a parent that
/// is killed itself leaves nothing behind.
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // A parent that ended before the call above will never be noticed.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Niceness of a thread that gives way: a tenth of what another thread gets. With less it could be kept from its CPU while
/// it holds a lock of the file system that a thread in a hurry waits for.
const GIVES_WAY: libc::c_int = 10;

/// Lets other threads come before the calling one: for work that has time beside work that has none. Where the system
/// refuses, the thread stays as it is.
pub fn give_way_to_others() {
    // SAFETY: no memory is passed; 0 is the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, GIVES_WAY);
    }
}

/// Asks for `wanted` descriptors, as far as the hard limit goes; how many the process may have then. A limit that is
/// higher already stays.
///
/// # Errors
/// What the kernel says; the limit is what it was.
pub fn allow_descriptors(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live struct, which the kernel fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let granted = wanted.min(limit.rlim_max);
    if granted <= limit.rlim_cur {
        return Ok(limit.rlim_cur);
    }
    limit.rlim_cur = granted;
    // SAFETY: the pointer is to a live struct, which the kernel reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(granted)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::lock::process_exists;

    #[test]
    fn descriptors_are_granted_up_to_the_hard_limit_and_never_taken_away() {
        let had = allow_descriptors(0).unwrap();
        let most = allow_descriptors(u64::MAX).unwrap();
        assert!(most >= had && had > 0);
        assert_eq!(allow_descriptors(1).unwrap(), most);
    }

    #[test]
    fn a_child_ends_with_the_thread_that_started_it() {
        let mut child = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            command.arg("60");
            die_with_parent(&mut command);
            let child = command.spawn().unwrap();
            assert!(process_exists(child.id() as i32));
            child
        })
        .join()
        .unwrap();
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(10), "it lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
