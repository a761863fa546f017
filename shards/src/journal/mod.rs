//! Rows of the lease file: how they are written, gathered, read back and compacted.
//!
//! The lease file is Kea's CSV (PST-1..10): append-only, the last row of an address wins. Nothing here
//! touches a file: bytes in, bytes and steps out.
//!
//! Invariants others rely on:
//! - a batch begins with a newline, so a write cut short never glues two rows together;
//! - what [`row`] writes, [`row`] reads back to the same lease;
//! - replaying the bytes of a file gives the last durable state of every address, whatever the tail looks
//!   like.

pub mod append;
pub mod compact;
pub mod piece;
pub mod replay;
pub mod row;

pub use append::{Batch, BatchBuffer};
pub use compact::{Compaction, Deletions, Step};
pub use piece::Piece;
pub use replay::{FileRole, FilesFound, LeaseFiles, Recovering, Recovery, ReplayError, RowFault, recover};
pub use row::{Columns, Row, RowError, write_deletion, write_header, write_lease};
