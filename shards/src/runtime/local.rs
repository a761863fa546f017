//! Giving way between the tasks of one executor.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use glommio::timer::Timer;

/// Lets the other tasks of the executor run, and the executor submit I/O and look for completions.
///
/// A task that merely wakes itself keeps the executor from its rings for as long as it does so; waiting for a timer
/// that has all but expired does not.
pub async fn give_way() {
    let mut timer = pin!(Timer::new(GIVE_WAY));
    let mut given = false;
    poll_fn(|context| {
        let timer = timer.as_mut().poll(context);
        if timer.is_ready() && !std::mem::replace(&mut given, true) {
            // It expired before it was looked at: then the tasks at least get their turn.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        given = true;
        timer.map(drop)
    })
    .await;
}

/// Shorter than the executor's way to its timers, longer than a task's.
const GIVE_WAY: Duration = Duration::from_micros(1);
