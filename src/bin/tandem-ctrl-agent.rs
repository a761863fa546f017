//! The control agent under Kea's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    tandem::runtime::boot::control_agent(std::env::args_os().skip(1))
}
