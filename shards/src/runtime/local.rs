//! Wake-ups between the tasks of one executor.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::timer::Timer;

/// A flag that one task waits for. Setting it twice before the wait is one wake-up.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    set: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Wake {
    /// Ends the wait under way, or the next one.
    pub(crate) fn notify(&self) {
        self.set.set(true);
        if let Some(waiter) = self.waiter.borrow_mut().take() {
            waiter.wake();
        }
    }

    /// Waits until the flag is set, and clears it.
    pub(crate) async fn wait(&self) {
        poll_fn(|context| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until the flag is set (true) or `patience` has passed (false).
    pub(crate) async fn wait_for(&self, patience: Duration) -> bool {
        let mut timer = pin!(Timer::new(patience));
        let mut wait = pin!(self.wait());
        poll_fn(|context| {
            if wait.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            timer.as_mut().poll(context).map(|_| false)
        })
        .await
    }
}

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
