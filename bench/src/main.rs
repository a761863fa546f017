//! `tandem-bench`: which thread and queue counts suit this host, by measurement.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`axes`] | what is varied, and the cells that come of it |
//! | [`matrix`] | the run: what is missing, how often a cell is measured |
//! | [`measure`], [`search`] | one cell, once |
//! | [`takeover`] | the primary of a pair goes away under load |
//! | [`site`] | network namespaces, and the servers under load in them |
//! | [`remote`] | servers on hosts of their own |
//! | [`generator`] | the load |
//! | [`host`], [`watch`] | what the machine is, and how much of it was taken away |
//! | [`progress`] | how far it is, for people |
//! | [`report`] | the result as data, and how it is kept |
//! | [`recommend`] | from the result to a configuration |
//! | [`render`], [`words`] | Markdown and a page, from the result alone; how figures are written |
//! | [`write`] | recommended values into a configuration |
//! | [`outputs`] | what is made of a report, and where it goes |

mod axes;
mod cli;
mod generator;
mod host;
mod matrix;
mod measure;
mod outputs;
mod progress;
mod recommend;
mod remote;
mod render;
mod report;
mod search;
mod site;
mod takeover;
mod watch;
mod words;
mod write;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

fn main() -> ExitCode {
    let cli = cli::Cli::parse().checked().unwrap_or_else(|error| error.exit());
    // A signal ends the measurement in an orderly way: namespaces are removed, and what is measured is kept.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
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
