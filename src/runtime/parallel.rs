//! A few threads for work that is in parts, while the server starts and its executors do not run yet.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads at most: reading a file and hashing what is in it are bound by memory long before that.
const THREADS_MAX: usize = 8;

/// How many threads are worth starting: as many as CPUs this process may use, at most eight.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

/// What `work` makes of each part, `0..parts`, in order. Threads take the next part as they finish one; each has a `Held`
/// of its own, which it keeps from part to part.
///
/// # Errors
/// The system refuses a thread.
///
/// # Panics
/// When `work` does.
pub fn map<Held: Default, T: Send>(
    parts: usize,
    work: impl Fn(&mut Held, usize) -> T + Sync,
) -> io::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut made = Vec::new();
        let mut held = Held::default();
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                return made;
            }
            made.push((part, work(&mut held, part)));
        }
    };
    let mut made = std::thread::scope(|scope| {
        let mut helpers = Vec::new();
        for number in 1..threads().min(parts) {
            helpers
                .push(std::thread::Builder::new().name(format!("load-{number}")).spawn_scoped(scope, take)?);
        }
        let mut made = take();
        for helper in helpers {
            match helper.join() {
                Ok(others) => made.extend(others),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, io::Error>(made)
    })?;
    made.sort_unstable_by_key(|(part, _)| *part);
    Ok(made.into_iter().map(|(_, made)| made).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once_and_the_results_are_in_order() {
        for parts in [0, 1, 7, 1000] {
            let squares = map(parts, |(): &mut (), part| part * part).unwrap();
            assert_eq!(squares, (0..parts).map(|part| part * part).collect::<Vec<_>>());
        }
    }
}
