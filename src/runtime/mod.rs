//! To be filled: runtime.
