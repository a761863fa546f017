//! One row of Kea's lease CSV.
use crate::Lease;

/// Column set of a file we append to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Columns {
    /// Through `user_context`: lease file version 2.1, Kea 1.4 to 2.2.
    Eleven,
    /// Through `pool_id`: lease file version 3.0, Kea 2.4 and later.
    Twelve,
}

/// What a row says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The lease, as it was at the time.
    pub lease: Lease,
    /// Whether the row deletes it (`valid_lifetime` 0, unless it was released, PST-6).
    pub deleted: bool,
}

/// Why a row is invalid (PST-7).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RowError {
    /// Fewer or more columns than the header names.
    #[error("wrong number of columns")]
    ColumnCount,
}

/// Appends the header line, newline included.
pub fn write_header(out: &mut Vec<u8>, columns: Columns) {
    todo!()
}

/// Appends the row of `lease`, newline included.
pub fn write_lease(out: &mut Vec<u8>, lease: &Lease, columns: Columns) {
    todo!()
}

/// Appends the row that deletes `lease`, newline included: lifetime 0 and `expire` = cltt (PST-5).
pub fn write_deletion(out: &mut Vec<u8>, lease: &Lease, columns: Columns) {
    todo!()
}
