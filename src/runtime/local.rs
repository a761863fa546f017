//! Waiting inside one executor: an inbox, and answers that are waited for by number.
//!
//! Nothing here is shared between threads; messages of other nodes come in through the mesh and are handed on
//! by the one task that pumps it.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A queue with one waiting reader.
pub struct Inbox<T> {
    inner: Rc<RefCell<InboxInner<T>>>,
}

struct InboxInner<T> {
    queue: VecDeque<T>,
    waker: Option<Waker>,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { inner: Rc::new(RefCell::new(InboxInner { queue: VecDeque::new(), waker: None })) }
    }
}

impl<T> Inbox<T> {
    /// Adds an item at the end; the caller has looked at `len` where there is a limit.
    pub fn push(&self, item: T) {
        let mut inner = self.inner.borrow_mut();
        inner.queue.push_back(item);
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.inner.borrow().queue.len()
    }

    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the first item, if there is one.
    pub fn try_pop(&self) -> Option<T> {
        self.inner.borrow_mut().queue.pop_front()
    }

    /// Takes the first item, waiting for one. Dropping the wait loses nothing.
    pub async fn pop(&self) -> T {
        std::future::poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            match inner.queue.pop_front() {
                Some(item) => Poll::Ready(item),
                None => {
                    inner.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// Answers that tasks wait for, by the number of the question.
pub struct Answers<T> {
    inner: Rc<RefCell<AnswersInner<T>>>,
}

struct AnswersInner<T> {
    next: u64,
    waiting: HashMap<u64, Slot<T>>,
}

enum Slot<T> {
    Here(T),
    Waiting(Option<Waker>),
}

impl<T> Clone for Answers<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self { inner: Rc::new(RefCell::new(AnswersInner { next: 1, waiting: HashMap::new() })) }
    }
}

impl<T> Answers<T> {
    /// A new question. Its number is unique in this executor.
    pub fn question(&self) -> Question<T> {
        let mut inner = self.inner.borrow_mut();
        let number = inner.next;
        inner.next += 1;
        inner.waiting.insert(number, Slot::Waiting(None));
        Question { number, answers: self.clone() }
    }

    /// The answer to question `number`; one that nobody waits for any more is dropped.
    pub fn answer(&self, number: u64, answer: T) {
        let mut inner = self.inner.borrow_mut();
        let Some(slot) = inner.waiting.get_mut(&number) else { return };
        if let Slot::Waiting(Some(waker)) = std::mem::replace(slot, Slot::Here(answer)) {
            waker.wake();
        }
    }
}

/// A question: a future of its answer. Dropped, the answer is not wanted any more.
pub struct Question<T> {
    number: u64,
    answers: Answers<T>,
}

impl<T> Question<T> {
    /// The number to send along.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl<T> Future for Question<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut inner = self.answers.inner.borrow_mut();
        let waiting = || Slot::Waiting(Some(context.waker().clone()));
        let slot = inner.waiting.entry(self.number).or_insert_with(waiting);
        match std::mem::replace(slot, waiting()) {
            Slot::Here(answer) => {
                inner.waiting.remove(&self.number);
                Poll::Ready(answer)
            }
            Slot::Waiting(_) => Poll::Pending,
        }
    }
}

impl<T> Drop for Question<T> {
    fn drop(&mut self) {
        self.answers.inner.borrow_mut().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future;

    use super::*;

    #[test]
    fn an_answer_reaches_the_one_who_asked_and_a_late_one_nobody() {
        let answers = Answers::<u32>::default();
        let (first, second) = (answers.question(), answers.question());
        let (first_number, second_number) = (first.number(), second.number());
        assert_ne!(first_number, second_number);
        answers.answer(second_number, 2);
        drop(first);
        answers.answer(first_number, 1);
        assert_eq!(future::block_on(second), 2);
        assert!(answers.inner.borrow().waiting.is_empty());
    }

    #[test]
    fn an_inbox_gives_items_in_order_and_loses_none_when_a_wait_is_dropped() {
        let inbox = Inbox::<u32>::default();
        future::block_on(async {
            assert!(future::poll_once(inbox.pop()).await.is_none());
            inbox.push(1);
            inbox.push(2);
            assert_eq!((inbox.len(), inbox.pop().await, inbox.pop().await), (2, 1, 2));
        });
    }
}
