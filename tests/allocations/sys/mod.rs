//! An allocator that counts: the only way to see what a thread allocates, and the only `unsafe` of this test.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// `None` while nobody counts. Without a destructor, so that it can be used at any time of a thread's life.
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
    /// Octets this thread has taken less those it has given back.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator with a counter for each thread.
pub struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work` and counts the calls by which this thread has asked for memory meanwhile.
pub fn count(work: impl FnOnce()) -> u64 {
    COUNT.set(Some(0));
    work();
    COUNT.replace(None).unwrap_or_default()
}

/// Runs `work`; how many octets this thread holds more than before, as the GNU allocator lays blocks out: a word before
/// each, in steps of 16, at least 32.
pub fn held<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = HELD.get();
    let made = work();
    (made, HELD.get() - before)
}

fn block(size: usize) -> i64 {
    (size + 8).next_multiple_of(16).max(32) as i64
}

fn note() {
    if let Some(count) = COUNT.get() {
        COUNT.set(Some(count + 1));
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of the caller and does not
// allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        HELD.set(HELD.get() + block(layout.size()));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - block(layout.size()));
        // SAFETY: `pointer` came from `alloc` above, hence from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        HELD.set(HELD.get() + block(size) - block(layout.size()));
        // SAFETY: as for `dealloc`; the caller's promise about `size` is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
