//! Compaction of the lease file.
use super::replay::{FileRole, LeaseFiles, ReplayError};
use super::row::Columns;

/// Whether deletion rows are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deletions {
    /// Left out, as Kea's cleaner does.
    Drop,
    /// Kept, while files that are loaded before `X` still exist and could bring the lease back.
    Keep,
}

/// One thing to do, by the driver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Write `compacted(first `until` bytes of X)` to `X.output`, created or truncated.
    WriteOutput {
        /// Length of `X` to read.
        until: u64,
    },
    /// Append bytes `from..until` of `X` to `X.output` as they are.
    CatchUp {
        /// First byte.
        from: u64,
        /// Past the last byte.
        until: u64,
    },
    /// Tell the shards to write no batch; go on when none is in flight.
    HoldCommits,
    /// Sync `X.output`.
    SyncOutput,
    /// Rename `X.output` over `X`.
    RenameOverCurrent,
    /// Sync the folder.
    SyncFolder,
    /// Let the shards open `X` anew and write again.
    ResumeOnNew,
    /// Remove a left-over, if it is there.
    Remove(FileRole),
    /// All done.
    Done,
}

/// The planner: asks for one step after the other.
#[derive(Debug)]
pub struct Compaction {}

impl Compaction {
    /// Starts; `leftovers` are removed at the end (then the output was made with [`Deletions::Keep`]).
    pub fn new(leftovers: &[FileRole]) -> Self {
        todo!()
    }
    /// The step to do next, the one before it being done; `current_len` is the length of `X` now.
    pub fn next_step(&mut self, current_len: u64) -> Step {
        todo!()
    }
}

/// Contents of the compacted file: header, the last row of every address ascending, `deletions` or not.
pub fn compacted(
    files: &LeaseFiles<'_>,
    columns: Columns,
    deletions: Deletions,
    max_row_errors: u32,
) -> Result<Vec<u8>, ReplayError> {
    todo!()
}
