//! To be filled: alloc.
