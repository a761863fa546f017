//! Letters and what they mean; where perfdhcp has the same thing, its letter.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use shards::sys::interface;

use crate::attach::Attachment;
use crate::identity::{IdentityKind, Mac};
use crate::options;
use crate::scenario::Scenario;
use crate::settings::{DropLimit, Event, Settings};

/// Load for DHCPv4 servers: an open loop with latencies from the planned start.
///
/// Without a server, clients are neighbours on the interface given by -l; with one, they are behind relays.
/// Without -r, one exchange is made.
#[derive(Debug, Parser)]
#[command(
    name = "tandem-loadgen",
    version,
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit codes: 0 everything completed and every check held · 1 general error · 2 error in the command \
                  line · 3 exchanges were lost or refused, or a check did not hold (any duplicate address is a failure)\n\nLetters are perfdhcp's where it has the same thing; its other letters are \
                  refused with what to use instead. Its delays count from sending: compare them with `from sending` here."
)]
pub struct Cli {
    /// Print the version.
    #[arg(short = 'v', long = "version", action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Something else than a run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What there is beside a run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find the highest rate that holds an objective, by bisection from -r on.
    Capacity(Box<CapacityArgs>),
    /// Answer as fast as this machine can, without DHCP: the floor for comparisons.
    Reflector(ReflectorArgs),
}

/// A run.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// DHCPv4, which is all there is.
    #[arg(short = '4')]
    v4: bool,
    /// Exchanges a second.
    #[arg(short = 'r', long = "rate", value_name = "RATE", value_parser = positive)]
    rate: Option<f64>,
    /// Clients; 10000 with -r, otherwise 1.
    #[arg(short = 'R', long = "clients", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    clients: Option<u32>,
    /// Measured exchanges at most.
    #[arg(short = 'n', long = "count", value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds to measure; 10 unless -n is given, avalanche 120 at most.
    #[arg(short = 'p', long = "period", value_name = "SECONDS", value_parser = positive)]
    period: Option<f64>,
    /// Seconds before measuring begins; 1, or 0 with -n.
    #[arg(long, value_name = "SECONDS", value_parser = not_negative)]
    warm_up: Option<f64>,
    /// Seconds after which an answer is given up.
    #[arg(short = 'd', long = "drop-time", value_name = "SECONDS", default_value = "1", value_parser = positive)]
    drop_time: f64,
    /// End the run at so many drops, or at this share of them (`5%`).
    #[arg(short = 'D', long = "max-drop", value_name = "COUNT[%]", value_parser = drop_limit)]
    drop_limit: Option<DropLimit>,
    /// Print a line every so many seconds.
    #[arg(short = 't', value_name = "SECONDS", value_parser = positive)]
    pub report: Option<f64>,
    /// Interface for neighbours; address of a relay (repeatable, or FIRST-LAST); or interface whose address
    /// is the relay's.
    #[arg(short = 'l', long = "local", value_name = "INTERFACE|ADDRESS")]
    local: Vec<String>,
    /// Port of the relays.
    #[arg(short = 'L', value_name = "PORT", default_value_t = 67)]
    local_port: u16,
    /// Port of the server.
    #[arg(short = 'N', value_name = "PORT", default_value_t = 67)]
    server_port: u16,
    /// Hardware address of the first client.
    #[arg(short = 'b', value_name = "mac=ADDRESS", default_value_t = Mac::default())]
    base: Mac,
    /// Ask for replies by broadcast.
    #[arg(short = 'B')]
    broadcast: bool,
    /// Renewals a second, part of -r (mixed).
    #[arg(short = 'f', value_name = "RATE", default_value = "0", value_parser = not_negative)]
    renew_rate: f64,
    /// Releases a second, part of -r (mixed).
    #[arg(short = 'F', value_name = "RATE", default_value = "0", value_parser = not_negative)]
    release_rate: f64,
    /// End exchanges with the OFFER.
    #[arg(short = 'i')]
    offer_only: bool,
    /// Add an option to DISCOVER and REQUEST.
    #[arg(short = 'o', value_name = "CODE,HEX", value_parser = options::parse)]
    options: Vec<(u8, Vec<u8>)>,
    /// Add the options of this file: lines of a code and hexadecimal octets or a text in quotes.
    #[arg(long, value_name = "FILE")]
    options_file: Option<PathBuf>,
    /// Seed of the transaction ids.
    #[arg(short = 's', long = "seed", value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Check addresses for uniqueness; always done, here for perfdhcp's sake.
    #[arg(short = 'u')]
    unique: bool,
    /// Say more: a the arguments, e the exit reason, t the whole percentile curve.
    #[arg(short = 'x', value_name = "LETTERS", default_value = "", value_parser = diagnostics)]
    diagnostics: String,
    /// What clients do.
    #[arg(long, value_enum, default_value_t)]
    scenario: Scenario,
    /// What tells clients apart beside the hardware address.
    #[arg(long, value_enum, default_value_t)]
    identity: IdentityKind,
    /// Sending threads, each with its own socket.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    senders: u8,
    /// Processors of the senders, in turn; the last ones unless given.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Exchanges a second while leases are prepared.
    #[arg(long, value_name = "RATE", default_value = "2000", value_parser = positive)]
    prepare_rate: f64,
    /// Clients that come and go beside those that fill the pool (near-full).
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    newcomers: u32,
    /// Run a shell command so many seconds into measuring, such as one that kills a partner.
    #[arg(long, value_name = "SECONDS:COMMAND", value_parser = event)]
    event: Option<Event>,
    /// JSON lines on standard output: prepared, interval, event, summary.
    #[arg(long)]
    pub json: bool,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Write the result as a page with plots.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Servers; relays send to each, a renewal to the server of its lease.
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
}

/// A search.
#[derive(Args, Debug)]
pub struct CapacityArgs {
    /// Percent of exchanges that may be lost.
    #[arg(long, value_name = "PERCENT", default_value = "0.1", value_parser = not_negative)]
    pub drops_max: f64,
    /// Milliseconds that 99 % of the latencies from the plan may not exceed.
    #[arg(long, value_name = "MS", default_value = "50", value_parser = positive)]
    pub p99_max: f64,
    /// ISC's objective instead: 2.5 % lost within 1 s, whatever the latency.
    #[arg(long)]
    pub isc: bool,
    /// Highest rate to try.
    #[arg(long, value_name = "RATE", default_value = "1000000", value_parser = positive)]
    pub to: f64,
    /// Percent to which the answer is narrowed down.
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = positive)]
    pub precision: f64,
    /// The probes.
    #[command(flatten)]
    pub run: RunArgs,
}

/// A reflector.
#[derive(Args, Debug)]
pub struct ReflectorArgs {
    /// Address on which relays reach it, or interface of neighbours.
    #[arg(value_name = "ADDRESS|INTERFACE")]
    pub listen: String,
    /// Port.
    #[arg(short = 'p', long, default_value_t = 67)]
    pub port: u16,
    /// Processor to run on.
    #[arg(long)]
    pub cpu: Option<usize>,
}

impl RunArgs {
    /// Whether `-x` has this letter.
    pub fn shows(&self, letter: char) -> bool {
        self.diagnostics.contains(letter)
    }

    /// The run they describe.
    ///
    /// # Errors
    /// What is missing or contradicts itself, for people.
    pub fn settings(&self) -> Result<Settings, String> {
        let single = self.rate.is_none();
        let rate = self.rate.unwrap_or(1.0);
        let together = self.scenario.definition().together;
        let count = if single && !together { Some(self.count.unwrap_or(1)) } else { self.count };
        let length_s = match (self.period, count) {
            (Some(period), _) => period,
            (None, _) if together => 120.0,
            (None, Some(count)) => count as f64 / rate,
            (None, None) => 10.0,
        };
        let clients = self.clients.unwrap_or(if single && !together { 1 } else { 10_000 });
        let settings = Settings {
            attachment: self.attachment()?,
            scenario: self.scenario,
            identity: self.identity,
            base: self.base.to_string(),
            clients,
            newcomers: if self.scenario.definition().newcomers { self.newcomers } else { 0 },
            rate,
            prepare_rate: self.prepare_rate,
            renew_rate: self.renew_rate,
            release_rate: self.release_rate,
            length_s,
            count,
            warm_up_s: self.warm_up.unwrap_or(if count.is_some() || together { 0.0 } else { 1.0 }),
            drop_s: self.drop_time,
            drop_limit: self.drop_limit,
            interval_s: self.report.unwrap_or(1.0),
            senders: self.senders,
            cpus: if self.cpus.is_empty() { last_cpus(self.senders) } else { self.cpus.clone() },
            offer_only: self.offer_only,
            broadcast: self.broadcast,
            options: self.all_options()?,
            seed: self.seed,
            event: self.event.clone(),
        };
        let shares = settings.renew_rate + settings.release_rate;
        let relayed = !settings.relays().is_empty();
        let complaints = [
            (settings.clients < u32::from(settings.senders), "there are fewer clients (-R) than --senders"),
            (settings.scenario != Scenario::Mixed && shares > 0.0, "-f and -F need --scenario mixed"),
            (shares > rate, "-f and -F together exceed -r"),
            (settings.identity == IdentityKind::CircuitId && !relayed, "--identity circuit-id needs a relay"),
            (
                settings.offer_only && settings.scenario.definition().prepares,
                "-i gives no leases, which this scenario needs",
            ),
        ];
        match complaints.iter().find(|(holds, _)| *holds) {
            Some((_, complaint)) => Err((*complaint).to_owned()),
            None => Ok(settings),
        }
    }

    fn attachment(&self) -> Result<Attachment, String> {
        if self.servers.is_empty() {
            return match self.local.as_slice() {
                [interface] if interface.parse::<Ipv4Addr>().is_err() => {
                    Ok(Attachment::Direct { interface: interface.clone() })
                }
                _ => Err("give a server, or one interface with -l for clients on its link".to_owned()),
            };
        }
        let servers: Vec<Ipv4Addr> =
            self.servers.iter().map(|server| resolve(server)).collect::<Result<_, _>>()?;
        let mut relays = Vec::new();
        for local in &self.local {
            relays.extend(relays_of(local)?);
        }
        if relays.is_empty() {
            relays.push(towards(servers[0])?);
        }
        let (server_port, relay_port) = (self.server_port, self.local_port);
        Ok(Attachment::Relayed { relays, servers, server_port, relay_port })
    }

    fn all_options(&self) -> Result<Vec<(u8, Vec<u8>)>, String> {
        // What an ordinary client asks for: mask, router, name servers, domain, lifetime and both timers.
        let mut options = vec![(55, vec![1, 3, 6, 15, 51, 58, 59])];
        if let Some(path) = &self.options_file {
            let named = |error: String| format!("{}: {error}", path.display());
            let text = fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
            options.extend(options::parse_file(&text).map_err(named)?);
        }
        options.extend(self.options.iter().cloned());
        if options.iter().filter(|(code, _)| *code == 55).count() > 1 {
            options.remove(0);
        }
        Ok(options)
    }
}

/// The last processors that this process may use, so that a server on the first is left alone.
fn last_cpus(senders: u8) -> Vec<usize> {
    let all = core_affinity::get_core_ids().unwrap_or_default();
    all.iter().rev().take(usize::from(senders)).map(|core| core.id).collect()
}

fn resolve(name: &str) -> Result<Ipv4Addr, String> {
    let found = (name, 0).to_socket_addrs().map_err(|error| format!("{name}: {error}"))?;
    let mut addresses = found.filter_map(|address| match address.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    addresses.next().ok_or_else(|| format!("{name} has no IPv4 address"))
}

/// Most relays of one range.
const RELAYS_MAX: u32 = 65_536;

fn relays_of(local: &str) -> Result<Vec<Ipv4Addr>, String> {
    if let Ok(address) = local.parse() {
        return Ok(vec![address]);
    }
    let number = |text: &str| text.parse::<Ipv4Addr>().ok().map(u32::from);
    let range = local.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
    if let Some((first, last)) = range {
        return match last.checked_sub(first) {
            Some(more) if more < RELAYS_MAX => Ok((first..=last).map(Ipv4Addr::from).collect()),
            _ => Err(format!("{local} is not a range of at most {RELAYS_MAX} addresses")),
        };
    }
    let interfaces = interface::list().map_err(|error| format!("listing interfaces: {error}"))?;
    let found = interfaces.iter().find(|interface| interface.name == local);
    let address = found.and_then(|interface| interface.addresses.first());
    address
        .map(|address| vec![*address])
        .ok_or_else(|| format!("{local} is no address and no interface with one"))
}

/// This host's address on the way to `server`.
fn towards(server: Ipv4Addr) -> Result<Ipv4Addr, String> {
    let address = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((server, 67)).and_then(|()| socket.local_addr()));
    match address {
        Ok(SocketAddr::V4(address)) => Ok(*address.ip()),
        Ok(SocketAddr::V6(_)) => Err(format!("no IPv4 way to {server}")),
        Err(error) => Err(format!("no way to {server}: {error}")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value: &f64| value.is_finite() && *value > 0.0)
        .ok_or_else(|| "must be above 0".into())
}

fn not_negative(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value: &f64| value.is_finite() && *value >= 0.0)
        .ok_or_else(|| "must be 0 or more".into())
}

fn drop_limit(text: &str) -> Result<DropLimit, String> {
    match text.strip_suffix('%') {
        Some(percent) => positive(percent).map(|percent| DropLimit::Share(percent / 100.0)),
        None => text.parse().map(DropLimit::Count).map_err(|_| "must be a count or a percentage".into()),
    }
}

fn diagnostics(text: &str) -> Result<String, String> {
    match text.chars().find(|letter| !"aet".contains(*letter)) {
        Some(letter) => Err(format!("no such letter: {letter} (there are a, e, t)")),
        None => Ok(text.to_owned()),
    }
}

fn event(text: &str) -> Result<Event, String> {
    let (at, command) = text.split_once(':').ok_or("must be SECONDS:COMMAND")?;
    Ok(Event { at_s: not_negative(at)?, command: command.to_owned() })
}
