//! `cargo micro`: instructions of single steps of the packet path, and the check that they do not grow.

use std::process::ExitCode;

fn main() -> ExitCode {
    micro::counts::main()
}
