//! What single steps of the packet path cost: decode, decide, encode, upsert, row, steer, and whole exchanges.
//!
//! Two views of the same cases. *Counts* are instructions, counted by valgrind: the same on a busy machine and
//! on an idle one, so that a change which costs something shows, and `tests/run` holds them to `counts.txt`.
//! *Time* is what the processor of the day makes of them, and is never checked. Inputs are fixed; nothing here
//! reads a clock, and every random number has a seed that stands in the code.

pub mod cases;
pub mod counts;
pub mod messages;
pub mod site;
pub mod sys;
pub mod table;
