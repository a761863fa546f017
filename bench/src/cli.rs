//! The command line: what is measured, where the result goes, and the exit codes.

mod plan;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::host::{self, Host};
use crate::matrix::{Bench, End};
use crate::measure::Subjects;
use crate::outputs;
use crate::remote;
use crate::report::{self, Attachment, Departure, Durability, Report, Role};
use crate::site::{Programs, namespaces};
use crate::takeover;
use crate::write;

/// What `--quick` may take, seconds, with room for the pages and a slow last cell.
const QUICK_BUDGET_S: u64 = 570;

/// Which thread and queue counts suit this host: a matrix of servers under load, in network namespaces that
/// are made and removed here (needs root, iproute2 and taskset), or servers on other hosts, given by address.
#[derive(Debug, Parser)]
#[command(
    name = "tandem-bench",
    version,
    after_help = "Writes report.json (after every cell; run again to go on), report.md and report.html.\n\n\
                  Exit codes: 0 everything is measured · 1 a server or the generator failed · 2 error in the \
                  command line · 3 two clients held one address at once · 4 the time of --quick was up, run again to \
                  go on · 130 interrupted"
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
    /// Values of packet-queue-size; 16, 64, 256, 1024, with --quick 16 and 256.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65_535))]
    queue: Vec<u32>,
    /// What an ACK waits for.
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    durability: Vec<Durability>,
    /// One server alone, or hot-standby pairs; off,plain,tls, with --quick off,tls. Beside `off`, pairs are measured
    /// with the best threads and queue found for one server.
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    ha: Vec<HaMode>,
    /// Values of http-listener-threads and http-client-threads; 1/1,2/2,4/4,8/8,1/8,8/1, with --quick 1/1,4/4.
    #[arg(long, value_name = "LISTENERS/SENDERS,…", value_delimiter = ',', value_parser = plan::ha_threads)]
    ha_threads: Vec<(u16, u16)>,
    /// Measure pairs of a Tandem and a Kea as well, in which Kea is this one; it has CPUs for itself.
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    kea_as: Vec<Role>,
    /// How clients reach the server; behind one relay, or as its neighbours.
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', default_value = "relayed")]
    attachment: Vec<Attachment>,
    /// Let the primary of a pair over TLS go away under load, in each of these ways, with the delays of the fast
    /// take-over in the README.
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    take_over: Vec<Departure>,
    /// Exchanges started a second in a take-over.
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = positive)]
    take_over_rate: f64,
    /// Measure every combination: pairs, and a second attachment, with all threads and queues.
    #[arg(long)]
    product: bool,
    /// Measure a bare reflector as well: the ceiling of this machine.
    #[arg(long)]
    floor: bool,
    /// Measure other servers as well: Kea over the same axes, dnsmasq and dhcpd as they are.
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    against: Vec<Against>,
    /// Measure the server at this address, which is only loaded: give --control to set its threads and queue.
    #[arg(long, value_name = "ADDRESS")]
    server: Option<Ipv4Addr>,
    /// Its partner, which the relay sends to as well.
    #[arg(long, value_name = "ADDRESS", requires = "server")]
    partner: Option<Ipv4Addr>,
    /// Control agent or HTTP control socket of --server: tells what it is, and sets what can be set while it runs.
    #[arg(long, value_name = "http://HOST:PORT/", requires = "server")]
    control: Option<String>,
    /// Address of the relay towards --server, or interface for direct clients.
    #[arg(long, value_name = "ADDRESS|INTERFACE", requires = "server")]
    local: Option<String>,
    /// Measure each cell so often; the median counts.
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=99))]
    repeat: u32,
    /// Seconds measured in each probe; 5, with --quick 1.2.
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    probe: Option<f64>,
    /// First rate of the first search, exchanges a second.
    #[arg(long, value_name = "RATE", default_value = "8000", value_parser = positive)]
    from: f64,
    /// Highest rate that is tried.
    #[arg(long, value_name = "RATE", default_value = "1000000", value_parser = positive)]
    to: f64,
    /// CPUs of the server; all but the last. Of a pair the primary has those that its partner does not have.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    server_cpus: Vec<usize>,
    /// CPUs of the partner in a pair; half of those of the server, on fewer than four CPUs all of them.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    partner_cpus: Vec<usize>,
    /// CPUs of the generator, one sender each; the last.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    generator_cpus: Vec<usize>,
    /// Folder of tandem-dhcp4, tandem-loadgen and tandem; the one of this program.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Kea's server.
    #[arg(long, value_name = "PROGRAM", default_value = "kea-dhcp4")]
    kea: PathBuf,
    /// Folder of Kea's hook libraries, where it is none of the usual ones.
    #[arg(long, value_name = "DIR")]
    kea_hooks: Option<PathBuf>,
    /// dnsmasq.
    #[arg(long, value_name = "PROGRAM", default_value = "dnsmasq")]
    dnsmasq: PathBuf,
    /// ISC's dhcpd.
    #[arg(long, value_name = "PROGRAM", default_value = "dhcpd")]
    dhcpd: PathBuf,
}

/// One server, or two and how they speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum HaMode {
    /// One server alone.
    Off,
    /// A pair over plain HTTP.
    Plain,
    /// A pair over TLS.
    Tls,
}

/// Servers to compare with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Against {
    /// Kea's DHCPv4 server.
    Kea,
    /// dnsmasq.
    Dnsmasq,
    /// ISC's dhcpd.
    Dhcpd,
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
    /// The time was up before everything was measured: 4.
    OutOfTime,
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
            Self::OutOfTime => 4,
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
    report::make_folder(&cli.out)?;
    for line in namespaces::remove_stale(&[&cli.out, &std::env::temp_dir()]) {
        eprintln!("{line}");
    }
    let files = cli.generators_folder()?;
    let remote = cli.remote(&programs, files.path())?;
    let (axes, parameters) = (cli.axes(cpus, remote.as_ref()), cli.parameters(cpus, remote.as_ref()));
    let pairs = !axes.channels.is_empty() || !cli.take_over.is_empty();
    programs.check(&axes.servers(), pairs)?;
    let host = Host::of_this_machine(&programs.folder)?;
    let mut report = Report::new(host, parameters);
    report.command = command_line(std::env::args());
    let mut report = report.resume(&path)?;
    let budget = cli.quick.then_some(Duration::from_secs(QUICK_BUDGET_S));
    let subjects = Subjects { programs: &programs, out: &cli.out, stop, remote: remote.as_ref() };
    let end = Bench { subjects: &subjects, out: &cli.out, budget, stop }.run(&axes, &mut report)?;
    let end = if end == End::Complete { cli.take_over(&subjects, &mut report)? } else { end };
    outputs::write_pages(&report, &cli.out)?;
    if let Some(file) = cli.write.as_ref().filter(|_| end == End::Complete) {
        print!("{}", outputs::write_values(&report, file)?);
    }
    let duplicates = report.cells.iter().map(|found| found.duplicates);
    let duplicates =
        duplicates.chain(report.takeovers.iter().map(|found| found.duplicates)).any(|count| count > 0);
    if end == End::OutOfTime {
        eprintln!("the time is up; the same command goes on with what is left");
    }
    Ok(match end {
        End::Interrupted => Outcome::Interrupted,
        End::OutOfTime => Outcome::OutOfTime,
        End::Complete if duplicates => Outcome::Duplicates,
        End::Complete => Outcome::Complete,
    })
}

impl Cli {
    /// Does what needs no measurement, given the report in `path`; whether that was all.
    fn renders(&self, path: &Path) -> Result<bool> {
        if let Some(file) = &self.write {
            // A file that cannot be edited is told before anything is measured.
            write::facts(file)?;
        }
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

    /// Lets primaries go away that have not yet, and keeps what came of it after each.
    fn take_over(&self, subjects: &Subjects<'_>, report: &mut Report) -> Result<End> {
        for &departure in &self.take_over {
            let known =
                |found: &report::Takeover| (found.departure, found.rate) == (departure, self.take_over_rate);
            if report.takeovers.iter().any(known) {
                continue;
            }
            eprintln!("the primary is {}", departure.name());
            let parameters = report.parameters.clone();
            let Subjects { programs, out, stop, .. } = subjects;
            let found = takeover::measure(departure, self.take_over_rate, programs, &parameters, out, stop)?;
            let Some(found) = found else { return Ok(End::Interrupted) };
            let after = found.first_ack_s.map_or("never".to_owned(), |after| format!("after {after:.2} s"));
            eprintln!("    the standby answers {after}; {} unserved of {}", found.unserved, found.started);
            report.takeovers.push(found);
            report.save(&out.join("report.json"))?;
        }
        Ok(End::Complete)
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
        Ok(Programs {
            folder,
            kea: self.kea.clone(),
            kea_hooks: self.kea_hooks.clone(),
            dnsmasq: self.dnsmasq.clone(),
            dhcpd: self.dhcpd.clone(),
        })
    }

    fn generators_folder(&self) -> Result<tempfile::TempDir> {
        let made = tempfile::Builder::new().prefix(&namespaces::own_prefix()).tempdir_in(&self.out);
        made.with_context(|| format!("making a folder in {}", self.out.display()))
    }

    /// The servers on other hosts, if that is what is measured.
    fn remote(&self, programs: &Programs, folder: &Path) -> Result<Option<remote::Host>> {
        let Some(server) = self.server else { return Ok(None) };
        let options = remote::Options {
            server,
            partner: self.partner,
            control: self.control.clone(),
            local: self.local.clone(),
            attachment: self.attachment.first().copied().unwrap_or(Attachment::Relayed),
            durability: self.durability.first().copied(),
            generator: programs.generator(),
            folder: folder.to_owned(),
        };
        let host = remote::Host::find(options)?;
        eprintln!("measuring {}", host.words());
        Ok(Some(host))
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

    #[test]
    fn the_command_line_is_kept_as_it_can_be_given_again() {
        let words = ["/x/tandem-bench", "--quick", "--out", "a b", "--queue", "16,64"].map(str::to_owned);
        assert_eq!(command_line(words.into_iter()), "tandem-bench --quick --out 'a b' --queue 16,64");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let table: [&[&str]; 15] = [
            &["--threads", "0"],
            &["--probe", "0"],
            &["--against", "x"],
            &["--queue", "a"],
            &["--ha-threads", "4"],
            &["--ha-threads", "0/1"],
            &["--partner", "192.0.2.2"],
            &["--server", "192.0.2.1", "--floor"],
            &["--server", "192.0.2.1", "--ha", "tls"],
            &["--server", "192.0.2.1", "--against", "kea"],
            &["--server", "192.0.2.1", "--kea-as", "standby"],
            &["--kea-as", "backup"],
            &["--server", "192.0.2.1", "--threads", "2"],
            &["--server", "192.0.2.1", "--durability", "synced,written"],
            &["--server", "192.0.2.1", "--attachment", "relayed,direct"],
        ];
        for arguments in table {
            let parsed = Cli::try_parse_from([&["tandem-bench"], arguments].concat());
            assert!(parsed.and_then(Cli::checked).is_err(), "{arguments:?}");
        }
        let fine = ["tandem-bench", "--server", "192.0.2.1", "--control", "http://a/", "--threads", "2"];
        assert!(Cli::try_parse_from(fine).and_then(Cli::checked).is_ok());
    }
}
