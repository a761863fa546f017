//! The command line: what is measured, where the result goes, and the exit codes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use loadgen::capacity::Objective;

use crate::host::{self, Host};
use crate::matrix::{self, Axes, Bench, End};
use crate::outputs;
use crate::report::{self, Durability, Load, Parameters, Report};
use crate::site::Programs;

/// What `--quick` may take, seconds, with room for the pages and a slow last cell.
const QUICK_BUDGET_S: u64 = 560;

/// Which thread and queue counts suit this host: a matrix of servers under load, in network namespaces that
/// are made and removed here. Needs root, iproute2 and taskset.
#[derive(Debug, Parser)]
#[command(
    name = "tandem-bench",
    version,
    after_help = "Writes report.json (after every cell; run again to go on), report.md and report.html.\n\n\
                  Exit codes: 0 everything is measured · 1 a server or the generator failed · 2 error in the \
                  command line · 3 two clients held one address at once · 130 interrupted"
)]
pub struct Cli {
    /// Folder of the report; leases lie there too while measuring, so choose the disk that will hold them.
    #[arg(long, value_name = "DIR", default_value = "bench-report")]
    out: PathBuf,
    /// Put the recommended values into this configuration when all is measured, comments left as they are. A report
    /// in --out that is complete is taken as it is, and nothing is measured.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Write the pages of the report in --out anew, as far as it is measured, and measure nothing.
    #[arg(long)]
    pages: bool,
    /// Renew the numbers between the markers of this document from the report in --out, and measure nothing.
    #[arg(long, value_name = "FILE")]
    perf: Option<PathBuf>,
    /// A smaller matrix with short probes, within ten minutes on two CPUs.
    #[arg(long)]
    quick: bool,
    /// Values of thread-pool-size; 1, 2, 4 … up to the number of CPUs, with --quick the two ends.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Vec<u16>,
    /// Values of packet-queue-size; 16, 64, 256 and, without --quick, 1024.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65_535))]
    queue: Vec<u32>,
    /// What an ACK waits for.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "synced,written")]
    durability: Vec<Durability>,
    /// Measure a bare reflector as well: the ceiling of this machine.
    #[arg(long)]
    floor: bool,
    /// Measure another server as well, over the same threads and queues.
    #[arg(long, value_enum)]
    against: Option<Against>,
    /// Seconds measured in each probe; 5, with --quick 1.2.
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    probe: Option<f64>,
    /// First rate of the first search, exchanges a second.
    #[arg(long, value_name = "RATE", default_value = "8000", value_parser = positive)]
    from: f64,
    /// Highest rate that is tried.
    #[arg(long, value_name = "RATE", default_value = "200000", value_parser = positive)]
    to: f64,
    /// CPUs of the server; all but the last.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    server_cpus: Vec<usize>,
    /// CPUs of the generator, one sender each; the last.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    generator_cpus: Vec<usize>,
    /// Folder of tandem-dhcp4 and tandem-loadgen; the one of this program.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Kea's server.
    #[arg(long, value_name = "PROGRAM", default_value = "kea-dhcp4")]
    kea: PathBuf,
}

/// Servers to compare with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Against {
    /// Kea's DHCPv4 server.
    Kea,
}

/// How the program ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Everything is measured: 0.
    Complete,
    /// Something failed: 1.
    Failed,
    /// Two clients held one address at once: 3.
    Duplicates,
    /// Interrupted: 130.
    Interrupted,
}

impl Outcome {
    /// Its exit code.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Complete => 0,
            Self::Failed => 1,
            Self::Duplicates => 3,
            Self::Interrupted => 130,
        })
    }
}

/// Measures and writes what the command line asks for.
///
/// # Errors
/// When a server, the generator or a file fails.
pub fn carry_out(cli: &Cli, stop: &AtomicBool) -> Result<Outcome> {
    let path = cli.out.join("report.json");
    if cli.renders(&path)? {
        return Ok(Outcome::Complete);
    }
    let cpus = host::cpus()?;
    let programs = cli.programs()?;
    programs.check()?;
    report::make_folder(&cli.out)?;
    let host = Host::of_this_machine(&programs.folder)?;
    let cells = matrix::cells(&cli.axes(cpus));
    let mut report = Report::new(host, cli.parameters(cpus));
    (report.command, report.planned) = (command_line(std::env::args()), cells.clone());
    let mut report = report.resume(&path)?;
    let budget = cli.quick.then_some(Duration::from_secs(QUICK_BUDGET_S));
    let bench = Bench { programs: &programs, out: &cli.out, budget, stop };
    let end = bench.run(&cells, &mut report)?;
    outputs::write_pages(&report, &cli.out)?;
    if let Some(file) = cli.write.as_ref().filter(|_| end == End::Complete) {
        print!("{}", outputs::write_values(&report, file)?);
    }
    let duplicates = report.cells.iter().any(|found| found.duplicates > 0);
    Ok(match end {
        End::Interrupted => Outcome::Interrupted,
        End::Complete if duplicates => Outcome::Duplicates,
        End::Complete => Outcome::Complete,
    })
}

impl Cli {
    /// Does what needs no measurement, given the report in `path`; whether that was all.
    fn renders(&self, path: &Path) -> Result<bool> {
        if self.pages {
            outputs::write_pages(&Report::load(path)?, &self.out)?;
        }
        if let Some(file) = &self.perf {
            outputs::write_numbers(&Report::load(path)?, file)?;
        }
        let complete = self.write.is_some() && path.exists() && Report::load(path)?.is_complete();
        if let Some(file) = self.write.as_ref().filter(|_| complete) {
            print!("{}", outputs::write_values(&Report::load(path)?, file)?);
        }
        Ok(self.pages || self.perf.is_some() || complete)
    }

    fn programs(&self) -> Result<Programs> {
        let folder = match &self.programs {
            Some(folder) => folder.clone(),
            None => {
                let own = std::env::current_exe().context("finding this program")?;
                let folder = own.parent();
                ensure!(folder.is_some(), "{} lies in no folder", own.display());
                folder.map(PathBuf::from).unwrap_or_default()
            }
        };
        Ok(Programs { folder, kea: self.kea.clone() })
    }

    fn axes(&self, cpus: usize) -> Axes {
        let most = u16::try_from(cpus).unwrap_or(u16::MAX);
        let mut threads: Vec<u16> =
            (0..8).map(|power| 1 << power).filter(|threads| *threads < most).collect();
        if self.quick {
            threads.truncate(1);
        }
        threads.push(most);
        let queues = if self.quick { vec![16, 64, 256] } else { vec![16, 64, 256, 1024] };
        Axes {
            threads: if self.threads.is_empty() { threads } else { self.threads.clone() },
            queues: if self.queue.is_empty() { queues } else { self.queue.clone() },
            durabilities: self.durability.clone(),
            floor: self.floor,
            kea: self.against == Some(Against::Kea),
        }
    }

    fn parameters(&self, cpus: usize) -> Parameters {
        let last = cpus.saturating_sub(1);
        let or = |given: &[usize], otherwise: Vec<usize>| {
            if given.is_empty() { otherwise } else { given.to_vec() }
        };
        let (probe_s, warm_up_s, precision, probes_max) =
            if self.quick { (1.2, 0.3, 0.08, 10) } else { (5.0, 1.0, 0.03, 16) };
        Parameters {
            workload: "DISCOVER, OFFER, REQUEST, ACK of clients never seen before, behind one relay, in an \
                       open loop; an empty lease file for each cell"
                .to_owned(),
            objective: Objective { drops_max: 0.001, p99_ms_max: Some(50.0), drop_s: None },
            probe_s: self.probe.unwrap_or(probe_s),
            warm_up_s,
            precision,
            probes_max,
            from: self.from,
            to: self.to,
            curve: vec![Load::Share(0.5)],
            attempts_max: 2,
            server_cpus: or(&self.server_cpus, (0..last.max(1)).collect()),
            partner_cpus: or(&self.server_cpus, (0..last.max(1)).collect()),
            generator_cpus: or(&self.generator_cpus, vec![last]),
            remote: None,
        }
    }
}

/// The command as it can be given again: the program by its name, odd words in quotes.
fn command_line(words: impl Iterator<Item = String>) -> String {
    let plain = |word: &str| {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_=./,:".contains(letter);
        !word.is_empty() && word.chars().all(fits)
    };
    let words = words.skip(1).map(|word| if plain(&word) { word } else { format!("'{word}'") });
    std::iter::once("tandem-bench".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "must be above 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Cli {
        Cli::try_parse_from([&["tandem-bench"], arguments].concat()).unwrap()
    }

    #[test]
    fn threads_and_cpus_follow_the_machine_unless_given() {
        // (arguments, CPUs, threads, server CPUs, generator CPUs)
        type Row = (&'static [&'static str], usize, &'static [u16], &'static [usize], &'static [usize]);
        let table: [Row; 5] = [
            (&[], 1, &[1], &[0], &[0]),
            (&[], 2, &[1, 2], &[0], &[1]),
            (&[], 6, &[1, 2, 4, 6], &[0, 1, 2, 3, 4], &[5]),
            (&["--quick"], 8, &[1, 8], &[0, 1, 2, 3, 4, 5, 6], &[7]),
            (
                &["--threads", "3,5", "--server-cpus", "2", "--generator-cpus", "0,1"],
                8,
                &[3, 5],
                &[2],
                &[0, 1],
            ),
        ];
        for (arguments, cpus, threads, server, generator) in table {
            let cli = parsed(arguments);
            let parameters = cli.parameters(cpus);
            assert_eq!(cli.axes(cpus).threads, threads, "{arguments:?} {cpus}");
            assert_eq!(parameters.server_cpus, server, "{arguments:?} {cpus}");
            assert_eq!(parameters.generator_cpus, generator, "{arguments:?} {cpus}");
        }
    }

    #[test]
    fn the_quick_matrix_fits_ten_minutes_on_two_cpus_with_everything_beside_it() {
        let cli = parsed(&["--quick", "--floor", "--against", "kea"]);
        let parameters = cli.parameters(2);
        // A probe also waits a second for the last answers; a server takes a second to start.
        let probe_s = parameters.probe_s + parameters.warm_up_s + 1.2;
        let cell_s = probe_s * (parameters.probes_max + 1) as f64 + 1.0;
        let cells = matrix::cells(&cli.axes(2)).len();
        assert!(cells as f64 * cell_s < 600.0, "{cells} cells of {cell_s} s");
    }

    #[test]
    fn the_command_line_is_kept_as_it_can_be_given_again() {
        let words = ["/x/tandem-bench", "--quick", "--out", "a b", "--queue", "16,64"].map(str::to_owned);
        assert_eq!(command_line(words.into_iter()), "tandem-bench --quick --out 'a b' --queue 16,64");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for arguments in [&["--threads", "0"][..], &["--probe", "0"], &["--against", "x"], &["--queue", "a"]]
        {
            let found = Cli::try_parse_from([&["tandem-bench"], arguments].concat());
            assert!(found.is_err(), "{arguments:?}");
        }
    }
}
