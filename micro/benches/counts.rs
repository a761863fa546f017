//! The counts as a benchmark: `cargo bench -p tandem-micro --bench counts`.

use std::process::ExitCode;

fn main() -> ExitCode {
    micro::counts::main()
}
