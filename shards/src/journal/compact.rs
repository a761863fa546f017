//! Compaction: the lease file with one row per address, put in place while rows are still appended.
//!
//! The planner says what to do next and the driver does it; the file is complete at every moment, for a crash
//! and for programs that tail it. Rows appended while `X.output` is written are copied behind it as they are,
//! so that only the last few kilobytes hold commits up.

use super::replay::FileRole;
use super::row::{Columns, write_header, write_lease};
pub use crate::partition::Deletions;
use crate::partition::{LoadedRows, RowOrder};

/// With no more than this to catch up with, commits are held, octets: a fraction of a millisecond to copy.
const HOLD_OCTETS_MAX: u64 = 64 * 1024;

/// Catching up this many times without getting there means that the disk is as slow as the rows come; the
/// rest is copied with commits held.
const CATCH_UP_ROUNDS_MAX: u32 = 8;

/// One thing to do, by the driver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// [`write`](fn@write) what the first `until` octets of `X` say to `X.output`, created or truncated, and call
    /// [`Compaction::output_written`].
    WriteOutput {
        /// Octets of `X` to read.
        until: u64,
    },
    /// Append octets `from..until` of `X` to `X.output` as they are.
    CatchUp {
        /// First octet.
        from: u64,
        /// Past the last octet.
        until: u64,
    },
    /// Sync `X.output`.
    SyncOutput,
    /// Tell the shards to write no batch; go on when none is in flight.
    HoldCommits,
    /// Rename `X.output` over `X`.
    RenameOverCurrent,
    /// Sync the folder.
    SyncFolder,
    /// Let the shards open `X` anew and write again.
    ResumeCommits,
    /// Remove a file, if it is there.
    Remove(FileRole),
    /// Nothing more.
    Done,
}

/// The planner: asks for one step after the other.
#[derive(Debug)]
pub struct Compaction {
    state: State,
    /// Octets of `X` that are in `X.output`.
    copied: u64,
    rounds: u32,
    /// Still to remove, last first.
    leftovers: Vec<FileRole>,
    held: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    CatchingUp,
    Finishing(Finish),
    Removing,
    Start,
    WritingOutput,
}

/// What is left to do, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Finish {
    Hold,
    LastCatchUp,
    Sync,
    Rename,
    SyncFolder,
    Resume,
}

impl Compaction {
    /// Starts; `leftovers` are removed at the end, in order (then [`Deletions::Keep`] is right).
    pub fn new(leftovers: &[FileRole]) -> Self {
        let leftovers = leftovers.iter().rev().copied().collect();
        Self { state: State::Start, copied: 0, rounds: 0, leftovers, held: false }
    }

    /// `X.output` holds what the first `consumed` octets of `X` say: up to its last whole line. Catching up starts there,
    /// because the rest of a line may be still on its way.
    ///
    /// # Panics
    /// Out of turn: only after [`Step::WriteOutput`].
    pub fn output_written(&mut self, consumed: u64) {
        assert_eq!(self.state, State::WritingOutput, "no output was asked for");
        self.copied = consumed;
        self.state = State::CatchingUp;
    }

    /// The step to do next, the one before it being done; `current_len` is the length of `X` now.
    ///
    /// # Panics
    /// When [`Compaction::output_written`] was not called after [`Step::WriteOutput`].
    pub fn next_step(&mut self, current_len: u64) -> Step {
        match self.state {
            State::Start => {
                self.state = State::WritingOutput;
                Step::WriteOutput { until: current_len }
            }
            State::WritingOutput => panic!("the output was asked for and not reported"),
            State::CatchingUp => {
                let behind = current_len.saturating_sub(self.copied);
                if behind > HOLD_OCTETS_MAX && self.rounds < CATCH_UP_ROUNDS_MAX {
                    self.rounds += 1;
                    return self.catch_up(current_len);
                }
                // The bulk is synced before commits are held, so that the sync under hold is short.
                self.state = State::Finishing(Finish::Hold);
                Step::SyncOutput
            }
            State::Finishing(finish) => self.finish(finish, current_len),
            State::Removing => self.leftovers.pop().map_or(Step::Done, Step::Remove),
        }
    }

    /// A step failed before [`Step::RenameOverCurrent`] was done: the next steps clear up and leave `X` as it
    /// is.
    pub fn abort(&mut self) {
        self.leftovers = vec![FileRole::Output];
        self.state = if self.held { State::Finishing(Finish::Resume) } else { State::Removing };
    }

    fn finish(&mut self, finish: Finish, current_len: u64) -> Step {
        let (next, step) = match finish {
            Finish::Hold => {
                self.held = true;
                (State::Finishing(Finish::LastCatchUp), Step::HoldCommits)
            }
            Finish::LastCatchUp if current_len > self.copied => {
                (State::Finishing(Finish::Sync), self.catch_up(current_len))
            }
            Finish::LastCatchUp | Finish::Sync => (State::Finishing(Finish::Rename), Step::SyncOutput),
            Finish::Rename => (State::Finishing(Finish::SyncFolder), Step::RenameOverCurrent),
            Finish::SyncFolder => (State::Finishing(Finish::Resume), Step::SyncFolder),
            Finish::Resume => {
                self.held = false;
                (State::Removing, Step::ResumeCommits)
            }
        };
        self.state = next;
        step
    }

    fn catch_up(&mut self, until: u64) -> Step {
        let from = std::mem::replace(&mut self.copied, until);
        Step::CatchUp { from, until }
    }
}

/// Hands the compacted file to `put`, piece by piece: the header, and of `rows` (oldest first) the last row of every address,
/// ascending, `deletions` or not. Gives how many leases are in it.
///
/// # Errors
/// What `put` has to report.
pub fn write<Failure>(
    rows: &[LoadedRows],
    deletions: Deletions,
    columns: Columns,
    mut put: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let order = RowOrder::new(rows, deletions);
    let (mut bytes, mut leases) = (Vec::new(), 0);
    write_header(&mut bytes, columns);
    for part in 0..order.parts() {
        for row in order.gather(rows, part).iter() {
            // A deletion has lifetime 0 and is written as any other row.
            write_lease(&mut bytes, &row.lease(), columns);
            leases += u64::from(!row.is_deleted());
        }
        put(&bytes)?;
        bytes.clear();
    }
    // The header of a file without leases.
    put(&bytes)?;
    Ok(leases)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::super::replay::{LeaseFiles, recover};
    use super::*;

    const HEADER: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,\
                          user_context,pool_id\n";

    fn row(last: u8, valid: u32, host: &str) -> String {
        format!("192.0.2.{last},01,,{valid},{},1,0,0,{host},0,,0\n", 1000 + valid)
    }

    #[test]
    fn the_last_row_of_each_address_is_kept_and_a_line_on_its_way_left_for_catching_up() {
        let whole = HEADER.to_owned()
            + &row(9, 60, "a")
            + &row(10, 60, "b")
            + "\nbroken\n"
            + &row(9, 60, "c")
            + &row(8, 60, "d")
            + &row(10, 0, "");
        let text = whole.clone() + "192.0.2.7,01";
        let files = LeaseFiles { current: Some(text.as_bytes()), ..LeaseFiles::default() };
        for (deletions, expected) in [
            (Deletions::Drop, HEADER.to_owned() + &row(8, 60, "d") + &row(9, 60, "c")),
            (Deletions::Keep, HEADER.to_owned() + &row(8, 60, "d") + &row(9, 60, "c") + &row(10, 0, "")),
        ] {
            let mut rows = LoadedRows::default();
            let recovery = recover(&files, 0, |row| rows.push(&row.lease, row.deleted)).unwrap();
            let mut written = Vec::new();
            let leases = write(&[rows], deletions, Columns::Twelve, |bytes| {
                written.extend_from_slice(bytes);
                Ok::<(), Infallible>(())
            });
            assert_eq!(String::from_utf8(written).unwrap(), expected);
            let Ok(leases) = leases;
            assert_eq!((recovery.current_octets, leases, recovery.bad_rows), (whole.len() as u64, 2, 1));
        }
    }

    #[test]
    fn a_file_without_leases_is_its_header_and_a_failure_ends_the_writing() {
        let mut written = Vec::new();
        let put = |bytes: &[u8]| -> Result<(), ()> {
            written.extend_from_slice(bytes);
            Ok(())
        };
        assert_eq!(write(&[], Deletions::Drop, Columns::Twelve, put), Ok(0));
        assert_eq!(written, HEADER.as_bytes());
        assert_eq!(write(&[], Deletions::Drop, Columns::Twelve, |_| Err("no space")), Err("no space"));
    }

    #[test]
    fn the_steps_catch_up_hold_briefly_and_remove_leftovers_last() {
        let mut compaction = Compaction::new(&[FileRole::Cleaned, FileRole::Previous]);
        let mib = 1024 * 1024;
        assert_eq!(compaction.next_step(mib), Step::WriteOutput { until: mib });
        compaction.output_written(mib - 10);
        for (current_len, expected) in [
            (2 * mib, Step::CatchUp { from: mib - 10, until: 2 * mib }),
            (2 * mib + 10, Step::SyncOutput),
            (2 * mib + 20, Step::HoldCommits),
            (2 * mib + 30, Step::CatchUp { from: 2 * mib, until: 2 * mib + 30 }),
            (2 * mib + 30, Step::SyncOutput),
            (2 * mib + 30, Step::RenameOverCurrent),
            (9, Step::SyncFolder),
            (9, Step::ResumeCommits),
            (9, Step::Remove(FileRole::Cleaned)),
            (9, Step::Remove(FileRole::Previous)),
            (9, Step::Done),
            (9, Step::Done),
        ] {
            assert_eq!(compaction.next_step(current_len), expected);
        }
    }

    #[test]
    fn rows_that_come_as_fast_as_they_are_copied_are_held_in_the_end() {
        let mut compaction = Compaction::new(&[]);
        compaction.next_step(0);
        compaction.output_written(0);
        let mut len = 0;
        let steps = (0..40).map(|_| {
            len += 1024 * 1024;
            compaction.next_step(len)
        });
        let before_hold = steps.take_while(|step| *step != Step::HoldCommits).count();
        assert_eq!(before_hold as u32, CATCH_UP_ROUNDS_MAX + 1);
    }

    #[test]
    fn a_failure_resumes_commits_if_they_were_held_and_removes_the_output() {
        for (steps, expected) in [
            (1, vec![Step::Remove(FileRole::Output), Step::Done]),
            (2, vec![Step::ResumeCommits, Step::Remove(FileRole::Output), Step::Done]),
        ] {
            let mut compaction = Compaction::new(&[FileRole::Previous]);
            compaction.next_step(0);
            compaction.output_written(0);
            for _ in 0..steps {
                compaction.next_step(0);
            }
            compaction.abort();
            let after: Vec<Step> = expected.iter().map(|_| compaction.next_step(0)).collect();
            assert_eq!(after, expected);
        }
    }
}
