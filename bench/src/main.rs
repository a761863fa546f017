//! `tandem-bench`: which thread and queue counts suit this host, by measurement.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`matrix`] | what is measured, in which order, and the search of one cell |
//! | [`site`] | network namespaces, and the server under load in them |
//! | [`host`] | what the machine is, and how much of it was taken away |
//! | [`report`] | the result as data, and how it is kept |
//! | [`recommend`] | from the result to a configuration |
//! | [`render`], [`words`] | Markdown and a page, from the result alone; how figures are written |
//! | [`write`] | recommended values into a configuration |
//! | [`outputs`] | what is made of a report, and where it goes |

mod cli;
mod host;
mod matrix;
mod outputs;
mod recommend;
mod render;
mod report;
mod site;
mod words;
mod write;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // A signal ends the measurement in an orderly way: namespaces are removed, and what is measured is kept.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            eprintln!("tandem-bench: signals cannot be watched: {error}");
        }
    }
    match cli::carry_out(&cli, &stop) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            eprintln!("tandem-bench: {error:#}");
            cli::Outcome::Failed.exit_code()
        }
    }
}
