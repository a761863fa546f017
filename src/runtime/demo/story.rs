//! The acts of the demo, one function each.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::plan::{
    ADDRESS, DRAIN_WITHIN, SERVE_ALONE, SERVE_WHOLE, SPEED, TAKE_OVER_WITHIN, WHOLE_WITHIN, reserve_ports,
};
use super::render::{latency, seconds};
use super::report::Report;
use super::screen::Screen;
use super::server::{self, Server};
use super::stream::Stream;
use super::template::{self, NAMES};
use super::watch::{ALONE, Watch};
use super::{DemoError, Interrupt, proof};
use crate::control::version;
use crate::runtime::pki::{self, Host};
use crate::runtime::text::count;

/// How often the servers are checked for life while clients are served.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// Validity of the demo's certificates, days.
const VALID_DAYS: u32 = 1;

/// Everything that takes part.
struct Stage<'a> {
    screen: &'a mut Screen,
    interrupt: &'a Interrupt,
    servers: [Server; 2],
    watch: Watch,
    stream: Stream,
    rate: u32,
    began: Instant,
    report: Report,
}

/// The whole story; everything it makes is below `folder`.
///
/// # Errors
/// [`DemoError`]; what was seen and did not hold is in the report.
pub(super) fn tell(
    folder: &Path,
    rate: u32,
    interrupt: &Interrupt,
    screen: &mut Screen,
) -> Result<Report, DemoError> {
    screen.title(&format!("Tandem {}: a pair of DHCP servers on this machine", version::OWN));
    let mut stage = set_up(folder, rate, interrupt, screen)?;
    stage.start_both()?;
    stage.serve_whole("both serve")?;
    stage.kill_the_primary()?;
    stage.serve_alone()?;
    stage.bring_the_primary_back()?;
    stage.serve_whole("both serve again")?;
    stage.drain()?;
    stage.prove(folder)?;
    stage.stop_both()?;
    Ok(stage.finish())
}

fn set_up<'a>(
    folder: &Path,
    rate: u32,
    interrupt: &'a Interrupt,
    screen: &'a mut Screen,
) -> Result<Stage<'a>, DemoError> {
    let began = Instant::now();
    let certificates = folder.join("tls");
    let hosts = NAMES.map(|name| Host { name: name.to_owned(), address: ADDRESS.into() });
    pki::create(&certificates, &hosts, VALID_DAYS)?;
    screen.done("certificates", "a CA, and a key and certificate for each server");

    let (relay, ports) = reserve_ports()?;
    let reply_port = relay.local_addr()?.port();
    let member = |index: usize| -> Result<Server, DemoError> {
        let own = folder.join(NAMES[index]);
        fs::create_dir(&own)?;
        let configuration = template::configuration(index, &ports, &own, &certificates)?;
        Ok(Server::new(NAMES[index], own, &configuration, ports[index], reply_port)?)
    };
    let servers = [member(0)?, member(1)?];
    screen.done("configuration", &format!("the hot-standby template, its timers {SPEED} times as fast:"));
    for (name, from_ms, to_ms) in template::timers() {
        screen.say(&format!("{:<18}{name:<20}{from_ms:>6} ms -> {to_ms:>4} ms", ""));
    }
    let watch = Watch::start(servers.each_ref().map(|server| server::socket_path(server.folder())))?;
    let stream = Stream::new(relay, &ports)?;
    let report = Report {
        version: version::OWN.to_owned(),
        optimised: !cfg!(debug_assertions),
        speed: SPEED,
        ..Report::default()
    };
    Ok(Stage { screen, interrupt, servers, watch, stream, rate, began, report })
}

impl Stage<'_> {
    fn start_both(&mut self) -> Result<(), DemoError> {
        let started = Instant::now();
        for server in &mut self.servers {
            server.start()?;
        }
        self.serve_until("a whole pair", WHOLE_WITHIN, |stage| stage.watch.is_whole())?;
        self.report.first_whole_ms = millis(started.elapsed());
        let [primary, standby] = self.servers.each_ref().map(|server| server.pid().unwrap_or_default());
        let took = seconds(self.report.first_whole_ms);
        let what =
            format!("server1 (primary, process {primary}) and server2 (standby, {standby}) whole in {took}");
        self.screen.done("pair", &what);
        Ok(())
    }

    fn serve_whole(&mut self, name: &'static str) -> Result<(), DemoError> {
        self.begin(name);
        self.stream.open(self.rate, false);
        self.serve_for(SERVE_WHOLE)?;
        self.said_what_was_served(0);
        if self.stream.phases.acks_now()[0] == 0 {
            self.report.failures.push(format!("server1 acknowledged nothing while \"{name}\""));
        }
        Ok(())
    }

    fn kill_the_primary(&mut self) -> Result<(), DemoError> {
        self.begin("server1 is killed");
        let killed_ns = self.stream.now_ns();
        self.servers[0].kill()?;
        self.screen.done("SIGKILL", "server1 is gone; clients keep coming");
        let answered = |stage: &Self| stage.stream.phases.first_ack_ns(1).is_some();
        self.serve_until("a take-over by server2", TAKE_OVER_WITHIN, answered)?;
        let first_ns = self.stream.phases.first_ack_ns(1).unwrap_or(killed_ns);
        self.report.take_over_ms = first_ns.saturating_sub(killed_ns) / 1_000_000;
        let what = format!("server2 gave its first ACK {} later", seconds(self.report.take_over_ms));
        self.screen.done("take-over", &what);
        Ok(())
    }

    fn serve_alone(&mut self) -> Result<(), DemoError> {
        self.begin("server2 alone");
        self.stream.open(self.rate, true);
        self.serve_for(SERVE_ALONE)?;
        self.said_what_was_served(1);
        let states = self.watch.states();
        if states[1] != ALONE {
            self.report.failures.push(format!("server2 is in {} without its partner", states[1]));
        }
        if self.stream.phases.renewals_now() == 0 {
            self.report.failures.push("no client of server1 could renew at server2".to_owned());
        }
        Ok(())
    }

    fn bring_the_primary_back(&mut self) -> Result<(), DemoError> {
        self.begin("server1 comes back");
        self.stream.open(self.rate, false);
        let started = Instant::now();
        self.servers[0].start()?;
        self.serve_until("a whole pair again", WHOLE_WITHIN, |stage| stage.watch.is_whole())?;
        self.report.whole_again_ms = millis(started.elapsed());
        let what = format!(
            "server1 caught up; the pair is whole {} after its start",
            seconds(self.report.whole_again_ms)
        );
        self.screen.done("return", &what);
        Ok(())
    }

    /// Nobody comes any more; everybody must be served.
    fn drain(&mut self) -> Result<(), DemoError> {
        self.stream.close();
        let ended = Instant::now();
        while self.stream.unserved() + self.stream.unrenewed() > 0 && ended.elapsed() < DRAIN_WITHIN {
            self.serve_for(CHECK_EVERY)?;
        }
        self.stream.phases.end(self.stream.now_ns());
        let unserved = self.stream.unserved();
        if unserved > 0 {
            self.report.failures.push(format!("{unserved} clients have no lease"));
        }
        Ok(())
    }

    /// Both files as they are now, with both servers still at work: what a power cut would leave.
    fn prove(&mut self, folder: &Path) -> Result<(), DemoError> {
        for name in NAMES {
            let file = server::lease_file(&folder.join(name));
            let found = proof::compare(name, &file, self.stream.ledger.promises())?;
            let what = format!(
                "{name}'s lease file holds {} of {} acknowledged leases",
                count(found.found),
                count(found.acknowledged)
            );
            self.screen.done("proof", &what);
            self.report.failures.extend(found.wrong.iter().cloned());
            self.report.files.push(found);
        }
        Ok(())
    }

    fn stop_both(&mut self) -> Result<(), DemoError> {
        for server in &mut self.servers {
            server.stop()?;
        }
        Ok(())
    }

    fn finish(self) -> Report {
        let Self { stream, mut report, began, .. } = self;
        report.phases = stream.phases.report();
        report.clients = stream.clients() as u64;
        report.clients_served = report.clients - stream.unserved() as u64;
        report.unrenewed = stream.unrenewed() as u64;
        report.acks = stream.phases.acks();
        (report.naks, report.unanswered) = stream.phases.troubles();
        report.failures.extend(stream.ledger.violations());
        if report.clients == 0 || report.acks < report.clients_served {
            report.failures.push(format!("{} clients, {} ACKs", report.clients, report.acks));
        }
        report.duration_ms = millis(began.elapsed());
        report
    }

    fn begin(&mut self, name: &'static str) {
        self.stream.phases.begin(self.stream.now_ns(), name);
    }

    fn said_what_was_served(&mut self, server: usize) {
        let acks = self.stream.phases.acks_now()[server];
        let p99 = self.stream.phases.p99_us_now().map_or("-".to_owned(), latency);
        let name = NAMES[server];
        self.screen.done("serving", &format!("{name} gave {} ACKs, 99 % within {p99}", count(acks)));
    }

    fn serve_for(&mut self, duration: Duration) -> Result<(), DemoError> {
        let started = Instant::now();
        self.serve(|_| started.elapsed() >= duration)
    }

    fn serve_until(
        &mut self,
        what: &'static str,
        within: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<(), DemoError> {
        let started = Instant::now();
        let mut late = false;
        self.serve(|stage| {
            late = started.elapsed() >= within;
            late || done(stage)
        })?;
        if late && !done(self) {
            let [primary, standby] = self.watch.states();
            let seen = format!("server1 {primary}, server2 {standby}");
            return Err(DemoError::TooSlow { what, within_s: within.as_secs(), seen });
        }
        Ok(())
    }

    /// Serves clients and shows how it goes until `done`.
    fn serve(&mut self, mut done: impl FnMut(&Self) -> bool) -> Result<(), DemoError> {
        let mut checked = Instant::now();
        while !done(self) {
            self.stream.step()?;
            self.interrupt.check()?;
            if checked.elapsed() >= CHECK_EVERY {
                checked = Instant::now();
                for server in &mut self.servers {
                    server.check()?;
                }
                self.show();
            }
        }
        Ok(())
    }

    fn show(&mut self) {
        let Self { screen, watch, stream, began, .. } = self;
        screen.progress(|| {
            let [primary, standby] = watch.states();
            let p99 = stream.phases.p99_us_now().map_or("-".to_owned(), latency);
            format!(
                "  {:>6} {:>6} clients {:>6} ACKs p99 {p99:>8}  {primary} | {standby}",
                seconds(millis(began.elapsed())),
                count(stream.clients() as u64),
                count(stream.phases.acks()),
            )
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
