//! `tandem demo`: a whole pair over mutual TLS, with clients, the loss of its primary, and a proof.
//!
//! As any user and without set-up: everything lives on the loopback interface and in one temporary folder. The acts
//! are in [`story`]; what was found is a [`report::Report`]; how it looks is `render`'s. Servers are processes of
//! their own, started from this program's own file, and none of them outlives the demo.
//!
//! Invariant: the exit code is 0 only if everything that the report states was seen to hold.

mod advice;
mod ledger;
mod phases;
mod plan;
mod proof;
mod render;
mod report;
mod screen;
mod server;
mod story;
mod stream;
mod template;
mod watch;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use shards::journal::ReplayError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::report::Report;
use self::screen::Screen;
use super::control_client::ControlError;
use super::pki::PkiError;

/// Exit code of a program that Ctrl-C ended, as shells give it.
const INTERRUPTED: u8 = 130;

/// Shows a pair at work on this machine: two servers over mutual TLS, a stream of clients, the primary killed in the
/// middle and started again, and the proof that no acknowledged lease was lost. Needs no privileges and leaves nothing
/// behind.
#[derive(Debug, Parser)]
#[command(name = "tandem demo")]
struct Arguments {
    /// New clients per second
    #[arg(long, value_name = "NUMBER", default_value_t = 150, value_parser = clap::value_parser!(u32).range(10..=1000))]
    rate: u32,
    /// Print the report as JSON on standard output, progress on standard error
    #[arg(long)]
    json: bool,
    /// Keep the folder with configurations, certificates, logs and lease files
    #[arg(long)]
    keep: bool,
}

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("{server}: {cause}")]
    Control { server: &'static str, cause: ControlError },
    #[error("{server} was asked to stop and does not")]
    DoesNotStop { server: &'static str },
    #[error("{server} ended by itself ({status}):\n    {said}")]
    Ended { server: &'static str, status: String, said: String },
    #[error("interrupted; its servers and its folder are gone")]
    Interrupted,
    #[error("lease file {path}: {cause}")]
    LeaseFile { path: PathBuf, cause: ReplayError },
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    System(#[from] io::Error),
    #[error(transparent)]
    Template(#[from] template::Missing),
    #[error("{what} did not happen within {within_s} s ({seen})")]
    TooSlow { what: &'static str, within_s: u64, seen: String },
}

/// Whether somebody wants the demo to end.
#[derive(Clone, Debug)]
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn register() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, flag.clone())?;
        }
        Ok(Self(flag))
    }

    fn check(&self) -> Result<(), DemoError> {
        if self.0.load(Ordering::Relaxed) { Err(DemoError::Interrupted) } else { Ok(()) }
    }
}

/// Runs `tandem demo` with the arguments after its name.
pub fn demo(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let name = OsString::from("tandem demo");
    let arguments = match Arguments::try_parse_from(std::iter::once(name).chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output and is no failure; clap knows which is which.
            let code = u8::try_from(error.exit_code()).unwrap_or(1);
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    let mut screen = Screen::new(arguments.json);
    match play(&arguments, &mut screen) {
        Ok(report) if report.failures.is_empty() => ExitCode::SUCCESS,
        Err(DemoError::Interrupted) => ExitCode::from(INTERRUPTED),
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

/// Runs the acts, says how they ended, and keeps the folder where somebody will want to look into it.
fn play(arguments: &Arguments, screen: &mut Screen) -> Result<Report, DemoError> {
    let result = Interrupt::register().and_then(|interrupt| {
        let folder = tempfile::Builder::new().prefix("tandem-demo-").tempdir()?;
        Ok((interrupt, folder))
    });
    let (interrupt, folder) = match result {
        Ok(ready) => ready,
        Err(error) => {
            screen.failed(&format!("the demo cannot begin: {error}"));
            return Err(error.into());
        }
    };
    let result = story::tell(folder.path(), arguments.rate, &interrupt, screen)
        .and_then(|report| show(&report, arguments.json, screen).map(|()| report));
    if let Err(error) = &result {
        screen.failed(&error.to_string());
        if let DemoError::Ended { said, .. } = error {
            advice::lines(said).iter().for_each(|line| screen.say(&format!("    {line}")));
        }
    }
    let is_wanted = match &result {
        Ok(report) => !report.failures.is_empty(),
        Err(error) => !matches!(error, DemoError::Interrupted),
    };
    if arguments.keep || is_wanted {
        screen.say(&format!("  Logs, configurations and lease files are in {}", folder.keep().display()));
    } else if let Err(error) = folder.close() {
        screen.failed(&format!("the demo's folder cannot be removed: {error}"));
    }
    result
}

fn show(report: &Report, as_json: bool, screen: &mut Screen) -> Result<(), DemoError> {
    if as_json {
        let text = serde_json::to_string_pretty(report).map_err(io::Error::from)?;
        println!("{text}");
    } else {
        screen.say(render::summary(report).trim_end());
    }
    Ok(())
}
