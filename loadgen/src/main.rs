//! `tandem-loadgen`: reads the command line, does what it asks, and ends with the code it documents.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loadgen::cli::{self, Cli};
use signal_hook::consts::{SIGINT, SIGTERM};

fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    // The first signal ends the run and prints what was measured; the second ends the program.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let outcome = signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        if let Err(error) = outcome {
            eprintln!("tandem-loadgen: signals cannot be watched: {error}");
        }
    }
    match cli::carry_out(&cli, &stop) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            eprintln!("tandem-loadgen: {error:#}");
            cli::Outcome::Failed.exit_code()
        }
    }
}
