//! A whole run: senders on their cores, leases prepared, the measured phase, and the sum of it all.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use shards::sys::clock;

use crate::attach::{Attachment, Link, raw::RawLink, udp};
use crate::check::Claims;
use crate::identity::Identity;
use crate::machine::{Machine, Parts, Phase};
use crate::plan::{Course, Pace, Plan};
use crate::recorder::{Counters, Interval, Latencies, Recorder, Stretch};
use crate::report::{IntervalReport, Measured, Summary};
use crate::scenario::choose::Shares;
use crate::scenario::{Exchange, Scenario};
use crate::sender::{self, Work};
use crate::settings::{DropLimit, Settings, nanoseconds};
use crate::template::{Content, Templates};

/// Between the decision to start and the first start: time for every sender to be there.
const LEAD_NS: u64 = 20_000_000;

/// How long clients that try again are waited for after the plan's end, seconds.
const RETRY_DRAIN_S: f64 = 12.0;

/// The same where some of them renew, seconds: those ask their own server for 4, 8 and 16 s before they ask
/// any other (RFC 2131 section 4.4.5, with the waits of section 4.1).
const RENEW_DRAIN_S: f64 = 40.0;

/// The rest of a run is reported with the interval before it when it is shorter than this share of one.
const TAIL_SHARE: f64 = 0.1;

/// What a run tells while it goes.
pub enum Update<'run> {
    /// So many clients hold leases; measuring begins.
    Prepared(u64),
    /// An interval has ended.
    Interval(&'run IntervalReport),
    /// So did a short rest of the run, which the result adds to the interval before it.
    Tail(&'run IntervalReport),
    /// The event's command was started.
    Event(&'run str),
}

/// Opens the sockets of every sender.
///
/// # Errors
/// When the interface is missing, the port taken, or the privilege not given.
pub fn links(settings: &Settings) -> Result<Vec<Box<dyn Link + Send>>> {
    match &settings.attachment {
        Attachment::Direct { interface } => (0..settings.senders)
            .map(|sender| {
                let link = RawLink::open(interface, sender)
                    .with_context(|| format!("opening a packet socket on {interface} (needs CAP_NET_RAW)"))?;
                Ok(Box::new(link) as Box<dyn Link + Send>)
            })
            .collect(),
        Attachment::Relayed { servers, server_port, relay_port, .. } => {
            let links = udp::open(*relay_port, servers, *server_port, settings.senders)
                .with_context(|| format!("binding UDP port {relay_port} (-L chooses another)"))?;
            Ok(links.into_iter().map(|link| Box::new(link) as Box<dyn Link + Send>).collect())
        }
    }
}

/// Carries out a run over `links`, one for each sender.
///
/// # Errors
/// When the settings contradict each other or a socket fails.
pub fn run(
    settings: &Settings,
    mut links: Vec<Box<dyn Link + Send>>,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Update<'_>),
) -> Result<Summary> {
    let claims = Arc::new(Claims::new((settings.clients + settings.newcomers) as usize));
    let base = settings.base_mac().map_err(|error| anyhow!(error))?;
    let identity = Identity { base, kind: settings.identity };
    let content = Content {
        broadcast: settings.broadcast,
        relayed: !settings.relays().is_empty(),
        options: settings.options.clone(),
    };
    let templates = Templates::new(identity, &content).context("the custom options do not fit a message")?;
    let shared = Shared {
        settings,
        templates,
        claims,
        stop,
        barrier: Barrier::new(links.len()),
        start_ns: AtomicU64::new(links.first().context("no sender")?.now_ns() + LEAD_NS),
        prepared: AtomicU64::new(0),
    };
    let started_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (tell, told) = channel();
    let responder = links.iter_mut().find_map(|link| link.take_responder());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whatever way this scope is left, the responder must not be waited for in vain.
        let _end = End(&ended);
        if let Some(responder) = &responder {
            let (shared, ended) = (&shared, &ended);
            scope.spawn(move || {
                if let Err(error) = responder.serve(ended, |address| shared.neighbour(address)) {
                    eprintln!("tandem-loadgen: ARP requests for clients are no longer answered: {error}");
                }
            });
        }
        let threads: Vec<_> = links
            .into_iter()
            .zip(0_u8..)
            .map(|(link, sender)| {
                let (shared, tell) = (&shared, tell.clone());
                scope.spawn(move || shared.carry_out(sender, link, &tell))
            })
            .collect();
        drop(tell);
        let mut watch = Watch::new(settings, stop, threads.len());
        watch.follow(&told, &shared.prepared, observe)?;
        let mut results = Vec::new();
        for thread in threads {
            results.push(thread.join().map_err(|_| anyhow!("a sender has panicked"))??);
        }
        let measured = shared.measured(&results, started_at, watch);
        Ok(Summary::new(settings, measured))
    })
}

/// Says that a run has ended as soon as it is dropped.
struct End<'run>(&'run AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What all senders see.
struct Shared<'run> {
    settings: &'run Settings,
    templates: Templates,
    claims: Arc<Claims>,
    stop: &'run AtomicBool,
    barrier: Barrier,
    /// When the phase starts, by the clock of the links.
    start_ns: AtomicU64,
    prepared: AtomicU64,
}

/// What one sender tells the watch.
enum Told {
    Started,
    Interval(Box<Interval>),
}

/// What one sender has when it ends.
struct Outcome {
    recorder: Recorder,
    measure_from_ns: u64,
    ended_ns: u64,
}

impl Outcome {
    /// The longest time without a completed exchange, from the begin of measuring on; a server that was not seen
    /// again within the `seconds` measured counts too. A gap of the whole service is one of every sender.
    fn gap(&self, seconds: f64) -> Stretch {
        let from_ns = self.recorder.last_completed_ns.unwrap_or(self.measure_from_ns);
        let end_ns = self.measure_from_ns + nanoseconds(seconds);
        let last = Stretch { from_ns, to_ns: end_ns.max(from_ns) };
        let longest = if last.length_ns() > self.recorder.gap.length_ns() { last } else { self.recorder.gap };
        let since = |ns: u64| ns.saturating_sub(self.measure_from_ns);
        Stretch { from_ns: since(longest.from_ns), to_ns: since(longest.to_ns) }
    }
}

impl Shared<'_> {
    fn carry_out(
        &self,
        sender: u8,
        mut link: Box<dyn Link + Send>,
        tell: &Sender<Told>,
    ) -> std::io::Result<Outcome> {
        let settings = self.settings;
        if let Some(cpu) = settings.cpus.get(usize::from(sender) % settings.cpus.len().max(1)) {
            // A processor that is not ours leaves the thread where it was; lateness would show it.
            core_affinity::set_for_current(core_affinity::CoreId { id: *cpu });
        }
        let (prepared, newcomers) = settings.clients_of(sender);
        let start_ns = self.start_ns.load(Ordering::Acquire);
        let preparing =
            Phase::new(&Scenario::Avalanche.definition(), Shares::default(), prepared, 0, start_ns);
        let mut machine = Machine::new(self.parts(sender, prepared + newcomers), preparing);
        let definition = settings.scenario.definition();
        let mut outcome = Ok(());
        if definition.prepares && prepared > 0 {
            outcome = self.prepare(sender, &mut machine, &mut *link);
        }
        self.prepared.fetch_add(machine.holders() as u64, Ordering::AcqRel);
        if self.barrier.wait().is_leader() {
            self.start_ns.store(link.now_ns() + LEAD_NS, Ordering::Release);
            // Nobody listens when the watch has given up already.
            let _ = tell.send(Told::Started);
        }
        self.barrier.wait();
        outcome?;
        let plan = self.plan(sender);
        let shares = match settings.scenario {
            Scenario::Mixed => Shares {
                renew: settings.renew_rate / settings.rate,
                release: settings.release_rate / settings.rate,
            },
            _ => Shares::default(),
        };
        let clients = prepared + newcomers;
        machine.begin_phase(Phase::new(&definition, shares, clients, prepared, plan.measure_from_ns()));
        let drain_s = match (definition.retries, definition.second) {
            (true, Some(Exchange::Renew)) => RENEW_DRAIN_S,
            (true, _) => RETRY_DRAIN_S,
            (false, _) => 2.0 * settings.drop_s + 0.1,
        };
        let work = Work {
            plan,
            drain_ns: if definition.together { 0 } else { nanoseconds(drain_s) },
            interval_ns: nanoseconds(settings.interval_s),
            stop: self.stop,
        };
        sender::run(&mut machine, &mut *link, &work, |interval| {
            // Nobody listens when the watch has given up already.
            let _ = tell.send(Told::Interval(Box::new(interval)));
        })?;
        let ended_ns = link.now_ns();
        Ok(Outcome { recorder: machine.recorder, measure_from_ns: plan.measure_from_ns(), ended_ns })
    }

    /// The hardware address of the client that holds `address`.
    fn neighbour(&self, address: Ipv4Addr) -> Option<[u8; 6]> {
        let now_s = (clock::monotonic_ns() / 1_000_000_000) as u32;
        self.claims.holder(address, now_s).map(|client| self.templates.mac(client))
    }

    fn prepare(&self, sender: u8, machine: &mut Machine, link: &mut dyn Link) -> std::io::Result<()> {
        let settings = self.settings;
        let plan = Plan {
            start_ns: self.start_ns.load(Ordering::Acquire),
            pace: Pace::Constant(settings.prepare_rate),
            length_ns: u64::MAX / 4,
            count_max: Some(u64::from(settings.clients)),
            warm_up_ns: 0,
            sender: u32::from(sender),
            senders: u32::from(settings.senders),
        };
        let planned_s = f64::from(settings.clients) / settings.prepare_rate;
        let work = Work {
            plan: Plan { length_ns: nanoseconds(planned_s) + 1, ..plan },
            drain_ns: nanoseconds(RETRY_DRAIN_S),
            interval_ns: u64::MAX / 4,
            stop: self.stop,
        };
        sender::run(machine, link, &work, |_| ())
    }

    fn plan(&self, sender: u8) -> Plan {
        let settings = self.settings;
        let together = settings.scenario.definition().together;
        let warm_up_s = if together { 0.0 } else { settings.warm_up_s };
        let warm_up_count = (warm_up_s * settings.rate).ceil() as u64;
        let count = if together { Some(u64::from(settings.clients)) } else { settings.count };
        Plan {
            start_ns: self.start_ns.load(Ordering::Acquire),
            pace: if together { Pace::Together } else { Pace::Constant(settings.rate) },
            length_ns: nanoseconds(warm_up_s + settings.length_s),
            count_max: count.map(|count| count + warm_up_count),
            warm_up_ns: nanoseconds(warm_up_s),
            sender: u32::from(sender),
            senders: u32::from(settings.senders),
        }
    }

    fn parts(&self, sender: u8, clients: usize) -> Parts {
        let settings = self.settings;
        let definition = settings.scenario.definition();
        // An exchange waits for two answers; half as much again for what a slow start piles up.
        let patience_s = if definition.retries { 64.0 } else { 2.0 * settings.drop_s };
        let rate = settings.rate.max(settings.prepare_rate) / f64::from(settings.senders);
        let at_once = if definition.together { clients } else { 0 };
        Parts {
            sender: (sender, settings.senders),
            templates: self.templates.clone(),
            relays: settings.relays().to_vec(),
            clients,
            drop_ns: nanoseconds(settings.drop_s),
            offer_only: settings.offer_only,
            under_way_max: (1.5 * rate * patience_s) as usize + at_once,
            first_number: settings.seed as u32,
            claims: Arc::clone(&self.claims),
        }
    }

    fn course(&self, results: &[Outcome], counters: &Counters, cut: bool) -> Course {
        let settings = self.settings;
        let latest_s = |of: fn(&Outcome) -> u64| {
            let after_ns = |result| of(result).saturating_sub(result.measure_from_ns);
            results.iter().map(after_ns).max().unwrap_or(0) as f64 / 1e9
        };
        Course {
            planned_s: match settings.count {
                Some(count) => settings.length_s.min(count as f64 / settings.rate),
                None => settings.length_s,
            },
            last_started_s: latest_s(|result| result.recorder.last_started_ns),
            last_completed_s: latest_s(|result| result.recorder.last_completed_ns.unwrap_or(0)),
            ended_s: latest_s(|result| result.ended_ns),
            cut,
            together: settings.scenario.definition().together,
            whole: counters.completed == counters.started,
        }
    }

    fn measured(&self, results: &[Outcome], started_at: u64, watch: Watch<'_>) -> Measured {
        let mut latencies = Latencies::new();
        for result in results {
            latencies.add(&result.recorder.latencies);
        }
        let counters =
            results.iter().fold(Counters::default(), |sum, result| sum.plus(&result.recorder.counters));
        let aborted = self.stop.load(Ordering::Relaxed);
        let seconds = self.course(results, &counters, aborted).measured_s();
        Measured {
            started_at,
            prepared: self.prepared.load(Ordering::Acquire),
            seconds,
            counters,
            latencies,
            gap: results
                .iter()
                .map(|result| result.gap(seconds))
                .min_by_key(Stretch::length_ns)
                .unwrap_or_default(),
            aborted,
            intervals: watch.reports,
        }
    }
}

/// Adds up the senders' intervals, ends the run at the drop limit, and starts the event.
struct Watch<'run> {
    settings: &'run Settings,
    stop: &'run AtomicBool,
    senders: usize,
    open: BTreeMap<u32, (usize, Interval)>,
    /// When measuring began.
    from_ns: u64,
    /// The interval of the last report.
    last: Option<Interval>,
    reports: Vec<IntervalReport>,
    total: Counters,
    event_at: Option<Instant>,
    event: Option<Child>,
}

impl<'run> Watch<'run> {
    fn new(settings: &'run Settings, stop: &'run AtomicBool, senders: usize) -> Self {
        Self {
            settings,
            stop,
            senders,
            open: BTreeMap::new(),
            from_ns: 0,
            last: None,
            reports: Vec::new(),
            total: Counters::default(),
            event_at: None,
            event: None,
        }
    }

    fn follow(
        &mut self,
        told: &Receiver<Told>,
        prepared: &AtomicU64,
        observe: &mut dyn FnMut(Update<'_>),
    ) -> Result<()> {
        loop {
            let patience = self
                .event_at
                .map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
            match told.recv_timeout(patience) {
                Ok(Told::Started) => {
                    observe(Update::Prepared(prepared.load(Ordering::Acquire)));
                    let after_s =
                        |at_s: f64| Duration::from_secs_f64((at_s + self.settings.warm_up_s).max(0.0));
                    let event = self.settings.event.as_ref();
                    self.event_at = event.map(|event| Instant::now() + after_s(event.at_s));
                }
                Ok(Told::Interval(interval)) => self.add(*interval, observe),
                Err(RecvTimeoutError::Timeout) => self.start_event(observe)?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Senders may end one interval apart.
        for (_, (_, interval)) in std::mem::take(&mut self.open) {
            self.finish(interval, observe);
        }
        if let Some(mut child) = self.event.take() {
            child.wait().context("waiting for the event's command")?;
        }
        Ok(())
    }

    fn add(&mut self, interval: Interval, observe: &mut dyn FnMut(Update<'_>)) {
        let number = interval.number;
        if number == 0 {
            self.from_ns = interval.stretch.from_ns;
        }
        let entry = match self.open.remove(&number) {
            None => (1, interval),
            Some((senders, mut sum)) => {
                sum.add(&interval);
                (senders + 1, sum)
            }
        };
        if entry.0 == self.senders {
            self.finish(entry.1, observe);
        } else {
            self.open.insert(number, entry);
        }
    }

    fn finish(&mut self, interval: Interval, observe: &mut dyn FnMut(Update<'_>)) {
        self.total = self.total.plus(&interval.counters);
        let report = IntervalReport::new(&interval, self.from_ns);
        // Only the end of a run cuts an interval short. Rates over a moment would say nothing.
        let short = report.length_s < TAIL_SHARE * self.settings.interval_s;
        if short && interval.counters == Counters::default() {
            return;
        }
        match (&mut self.last, self.reports.last_mut()) {
            (Some(last), Some(before)) if short => {
                observe(Update::Tail(&report));
                last.add(&interval);
                *before = IntervalReport::new(last, self.from_ns);
            }
            _ => {
                observe(Update::Interval(&report));
                self.reports.push(report);
                self.last = Some(interval);
            }
        }
        let reached = match self.settings.drop_limit {
            None => false,
            Some(DropLimit::Count(count)) => self.total.drops() >= count,
            Some(DropLimit::Share(share)) => self.total.started >= 10 && self.total.drop_share() > share,
        };
        if reached {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn start_event(&mut self, observe: &mut dyn FnMut(Update<'_>)) -> Result<()> {
        if self.event_at.take().is_some()
            && let Some(event) = &self.settings.event
        {
            observe(Update::Event(&event.command));
            let child = Command::new("sh").args(["-c", &event.command]).spawn();
            self.event = Some(child.context("starting the event's command")?);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
