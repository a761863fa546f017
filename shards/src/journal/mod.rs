//! Rows of the lease file.
