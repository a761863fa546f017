//! To be filled: client.
