//! What this process says to the valgrind it runs under; the only `unsafe` of this package.

pub mod valgrind;
