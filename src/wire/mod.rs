//! To be filled: wire.
