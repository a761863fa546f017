//! Memory that will be read soon, fetched while the processor does something else.

/// Octets that the processor fetches at a time.
pub const CACHE_LINE_OCTETS: usize = 64;

/// Has what `place` refers to fetched.
pub fn fetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which touches nothing; the place is alive besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
