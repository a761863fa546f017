//! The command line: letters, what they ask for, and the exit codes.

mod args;
mod refused;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::{CommandFactory, FromArgMatches};

use crate::capacity::{self, Objective, Search};
use crate::reflector;
use crate::report::progress::Style;
use crate::report::{Summary, html};
use crate::run;
use crate::settings::Settings;

pub use args::{CapacityArgs, Cli, Command, ReflectorArgs, RunArgs};

impl Cli {
    /// Reads a command line, the name of the program first.
    ///
    /// # Errors
    /// What clap has to say: help, the version, or what is wrong.
    pub fn read(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let command = refused::add_to(Self::command()).mut_subcommand("capacity", refused::add_to);
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }
}

/// How the program ends; the codes are perfdhcp's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Every exchange completed and every check held: 0.
    Complete,
    /// Something else went wrong: 1.
    Failed,
    /// Exchanges were lost or refused, or a check did not hold: 3.
    Incomplete,
    /// The command line asks for nothing that can be done: 2.
    Usage,
}

impl Outcome {
    /// Its exit code.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Complete => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
        })
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// When a socket or a file fails.
pub fn carry_out(cli: &Cli, stop: &AtomicBool) -> Result<Outcome> {
    match &cli.command {
        None => with_settings(&cli.run, |settings| one_run(&cli.run, settings, stop)),
        Some(Command::Capacity(args)) => {
            with_settings(&args.run, |settings| find_capacity(args, settings, stop))
        }
        Some(Command::Reflector(args)) => reflect(args, stop),
    }
}

fn with_settings(args: &RunArgs, work: impl FnOnce(&Settings) -> Result<Outcome>) -> Result<Outcome> {
    match args.settings() {
        Ok(settings) => work(&settings),
        Err(error) => {
            eprintln!("tandem-loadgen: {error}");
            Ok(Outcome::Usage)
        }
    }
}

fn one_run(args: &RunArgs, settings: &Settings, stop: &AtomicBool) -> Result<Outcome> {
    let style = Style::new(args.json, args.report.is_some());
    if args.shows('a') {
        eprintln!("{settings:#?}");
    }
    let links = run::links(settings)?;
    let summary = run::run(settings, links, stop, &mut |update| style.show(&update))?;
    style.finish(&summary, args.shows('t'));
    if let Some(path) = &args.summary {
        write_json(path, &summary)?;
    }
    if let Some(path) = &args.html {
        write(path, html::render(&summary)?)?;
    }
    let failure = summary.failure();
    if args.shows('e') {
        eprintln!("exit reason: {}", failure.as_deref().unwrap_or("complete"));
    }
    Ok(if failure.is_some() { Outcome::Incomplete } else { Outcome::Complete })
}

fn find_capacity(args: &CapacityArgs, settings: &Settings, stop: &AtomicBool) -> Result<Outcome> {
    if args.run.html.is_some() {
        eprintln!("tandem-loadgen: --html is for a run, not for a search");
        return Ok(Outcome::Usage);
    }
    let objective = if args.isc {
        capacity::ISC
    } else {
        Objective { drops_max: args.drops_max / 100.0, p99_ms_max: Some(args.p99_max), drop_s: None }
    };
    let search = Search::new(settings.rate, args.to, args.precision / 100.0);
    let probe = |settings: &Settings| -> Result<Summary> {
        anyhow::ensure!(!stop.load(std::sync::atomic::Ordering::Relaxed), "interrupted");
        // A drop limit ends a probe, not the search.
        let probe_stop = AtomicBool::new(false);
        run::run(settings, run::links(settings)?, &probe_stop, &mut |_| ())
    };
    let show = |probe: &capacity::Probe| {
        eprintln!(
            "{:>8.0}/s  completed {:>8.0}/s  lost {:>7.3} %  p99 {:>9.3} ms  {:?}",
            probe.rate,
            probe.completed_rate,
            100.0 * probe.drop_share,
            probe.p99_ms,
            probe.verdict
        );
    };
    let found = capacity::find(settings, objective, search, probe, show)?;
    if args.run.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        print!("{}", found.render());
    }
    if let Some(path) = &args.run.summary {
        write_json(path, &found)?;
    }
    Ok(if found.rate.is_some() { Outcome::Complete } else { Outcome::Incomplete })
}

fn reflect(args: &ReflectorArgs, stop: &AtomicBool) -> Result<Outcome> {
    if let Some(cpu) = args.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
    {
        eprintln!("tandem-loadgen: processor {cpu} is not ours; running where the kernel likes");
    }
    match args.listen.parse() {
        Ok(address) => reflector::serve_relayed(address, args.port, stop)?,
        Err(_) => reflector::serve_direct(&args.listen, args.port, stop)?,
    }
    Ok(Outcome::Complete)
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    write(path, serde_json::to_string_pretty(value)? + "\n")
}

fn write(path: &Path, text: String) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
