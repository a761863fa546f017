//! A server's life: check, start in order, watch, stop in order.
//!
//! Start: configuration, logging, PID file, lease file, owners and engines, executors, control, sockets last, so that
//! nothing is promised before it can be kept. Stop: sockets first, then what is parked, the disk, the executors.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use config::paths::Folders;
use config::{ConfigError, Diagnostic};
use shards::runtime::{Executor, Request, ShardEnd};
use shards::sys::memory;

use super::boot_pid::PidFile;
use super::boot_start::{self, Running};
use super::server::{self, ControlRequest, Notice};
use super::{boot_loggers, ctrl_agent, log_thread::LogThread};
use crate::cli::{self, Call, Program, Run};
use crate::control::{OverloadNotice, OverloadWatch, version};
use crate::fatal::Fatal;

/// How often the main thread looks whether everything still runs.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the host's interfaces are compared with what they were.
const INTERFACES_EVERY: Duration = Duration::from_secs(1);
/// How often sockets that could not be opened are tried again (`service-sockets-retry-wait-time`).
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// How long a shard may take to end once asked.
const SHARD_ENDS_WITHIN: Duration = Duration::from_secs(10);
/// How long an HA executor may take to end.
const HA_ENDS_WITHIN: Duration = Duration::from_secs(3);
/// How long the log thread may take to write what waits.
const LOG_PATIENCE: Duration = Duration::from_millis(500);
/// The log thread looks for messages at least this often.
const LOG_WRITES_WITHIN: Duration = Duration::from_millis(100);

/// The release whose tools Tandem answers to, with its own version as build metadata.
fn version_line() -> String {
    format!("3.0.0+tandem.{}", version::OWN)
}

/// Runs `tandem-dhcp4` with the arguments after its name.
pub fn dhcp4(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let call = match cli::parse(Program::Dhcp4, arguments) {
        Ok(call) => call,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    match call {
        Call::Version => said(version_line()),
        Call::VersionExtended => said(format!("{}\n{}", version_line(), version::build_report())),
        Call::BuildReport => said(version::build_report()),
        Call::Check { config, on_host } => check(&config, on_host),
        Call::Run(run) => serve(run),
    }
}

/// Runs `tandem-ctrl-agent` with the arguments after its name.
pub fn control_agent(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let call = match cli::parse(Program::ControlAgent, arguments) {
        Ok(call) => call,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let (file, serve, debug) = match call {
        Call::Version => return said(version_line()),
        Call::VersionExtended => return said(format!("{}\n{}", version_line(), version::build_report())),
        Call::BuildReport => return said(version::build_report()),
        Call::Check { config, .. } => (config, false, false),
        Call::Run(run) => (run.config, true, run.debug),
    };
    let (prepared, warnings) = match ctrl_agent::Prepared::load(&file) {
        Ok(loaded) => loaded,
        Err(ctrl_agent::AgentError::Config(error)) => return print_errors(&error),
        Err(error) => return refused_agent(&error),
    };
    let folders = Folders::from_environment(|name| std::env::var_os(name));
    if !serve {
        print_warnings(&warnings);
        return match boot_loggers::check_folders(&prepared.document().loggers, &folders, false) {
            Ok(warnings) => {
                print_warnings(&warnings);
                ExitCode::SUCCESS
            }
            Err(error) => print_errors(&error),
        };
    }
    let pid_file = match PidFile::create(&folders.pid_file(&file, "kea-ctrl-agent"), PidFile::AGENT) {
        Ok(pid_file) => pid_file,
        Err(error) => return refused_agent(&error),
    };
    if let Err(error) = boot_loggers::check_outputs(&prepared.document().loggers, &folders) {
        return refused_agent(&error);
    }
    let loggers = &prepared.document().loggers;
    let tree = boot_loggers::tree_under(boot_loggers::AGENT_ROOT, loggers, &folders, debug);
    let logging = match LogThread::start::<boot_loggers::Logged>(boot_loggers::AGENT_ROOT, tree, 0) {
        Ok((logging, _)) => logging,
        Err(error) => return refused_agent(&error),
    };
    log::info!(target: "kea-ctrl-agent.dctl", "DCTL_STARTING Control-agent starting, pid: {}, version: {}", std::process::id(), version::OWN);
    ctrl_agent::say_warnings(&warnings);
    let result = ctrl_agent::run(&file, prepared, folders);
    if let Err(error) = &result {
        log::error!(target: "kea-ctrl-agent.ctrl-agent", "CTRL_AGENT_FAILED application experienced a fatal error: {error}");
    }
    logging.stop(LOG_PATIENCE);
    drop(pid_file);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refused_agent(&error),
    }
}

fn refused_agent(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("tandem-ctrl-agent: {error}");
    ExitCode::FAILURE
}

fn said(text: String) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

/// `-t` and `-T`: everything that is wrong, with places, on standard error.
fn check(file: &std::path::Path, on_host: bool) -> ExitCode {
    let run = Run { config: file.to_owned(), debug: false, server_port: 67, client_port: None, relax: false };
    let result = server::read_document(file).and_then(|(document, mut warnings)| {
        let folders = Folders::from_environment(|name| std::env::var_os(name));
        let loggers = boot_loggers::check_folders(&document.loggers, &folders, on_host);
        let mut prepared = server::compile_for(&run, Arc::new(document), 1, on_host)?;
        warnings.append(&mut prepared.warnings);
        warnings.append(&mut loggers?);
        Ok(warnings)
    });
    match result {
        Ok(warnings) => {
            print_warnings(&warnings);
            ExitCode::SUCCESS
        }
        Err(error) => print_errors(&error),
    }
}

fn print_warnings(warnings: &[Diagnostic]) {
    for warning in warnings {
        eprintln!("{warning} (warning)");
    }
}

/// Everything that is wrong; the exit code.
fn print_errors(error: &ConfigError) -> ExitCode {
    print_warnings(error.warnings());
    for error in error.errors() {
        eprintln!("{error}");
    }
    ExitCode::FAILURE
}

fn serve(run: Run) -> ExitCode {
    let folders = Folders::from_environment(|name| std::env::var_os(name));
    let started = Instant::now();
    let running = match boot_start::start(run.clone(), folders, started) {
        Ok(running) => running,
        Err(boot_start::StartFailure { fatal, logging }) => return report_start(&run, &fatal, logging),
    };
    let ended = watch(&running);
    stop(running, ended)
}

/// Says why there is no server: to the log, and to whoever started it.
fn report_start(run: &Run, fatal: &Fatal, logging: Option<LogThread>) -> ExitCode {
    let logging = logging.or_else(|| {
        let destination = std::env::var("KEA_LOGGER_DESTINATION").ok();
        let tree = boot_loggers::early_tree(destination.as_deref(), run.debug);
        LogThread::start::<boot_loggers::Logged>(boot_loggers::ROOT, tree, 0).ok().map(|(thread, _)| thread)
    });
    let said = fatal.to_string();
    // What has no message id of its own is a start that failed.
    let id = said.split(' ').next().unwrap_or_default();
    let has_id = id.len() > 4
        && id.bytes().all(|octet| octet.is_ascii_uppercase() || matches!(octet, b'0'..=b'9' | b'_'));
    let prefix = if has_id { "" } else { "DHCP4_INIT_FAIL " };
    log::error!(target: "kea-dhcp4.dhcp4", "{prefix}{said}");
    match logging {
        Some(logging) => logging.stop(LOG_PATIENCE),
        // The server had its log already and is gone; its log thread writes what waits by itself.
        None => std::thread::sleep(LOG_WRITES_WITHIN),
    }
    eprintln!("tandem-dhcp4: {fatal}");
    ExitCode::from(fatal)
}

/// Why the server stops.
enum End {
    /// It was asked to, with this exit code.
    Asked(u8),
    /// An executor ended by itself.
    Ended,
}

/// The main thread while the server runs.
fn watch(running: &Running) -> End {
    let server = &running.server;
    let (mut looked, mut retried, mut cleaned) = (Instant::now(), Instant::now(), Instant::now());
    // Unknown at first: an interface may have come up since the configuration was compiled.
    let mut host = None;
    let clean_up = CleanUp::default();
    let (started, mut overload) = (Instant::now(), OverloadWatch::default());
    loop {
        match running.notices.recv_timeout(LOOK_EVERY) {
            Ok(Notice::Reload) => server.tell_control(ControlRequest::Reload),
            Ok(Notice::Stop(code)) => return End::Asked(code),
            Err(RecvTimeoutError::Timeout) => {}
            // The server holds a sender, so this cannot happen; it would mean that nothing can be asked any more.
            Err(RecvTimeoutError::Disconnected) => return End::Ended,
        }
        let ended = running.shards.iter().any(Executor::has_ended)
            || running.others.iter().any(Executor::has_ended)
            || running.control.has_ended();
        if ended {
            return End::Ended;
        }
        let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(notice) = overload.handle_drops(now_ms, server.overload_drops()) {
            tell_overload(notice);
        }
        if looked.elapsed() >= INTERFACES_EVERY {
            looked = Instant::now();
            let found = Some(server::host_interfaces());
            if found != host {
                if server.interfaces_changed() {
                    server.tell_control(ControlRequest::Refresh);
                } else {
                    // What the host has is what is in force; until then it is looked at again.
                    host = found;
                }
            }
        }
        if retried.elapsed() >= RETRY_EVERY {
            retried = Instant::now();
            if !server.socket_errors().is_empty() {
                server.retry_sockets();
            }
        }
        let interval = u64::from(*server.active().document.lease_database.lfc_interval_s);
        if interval > 0 && cleaned.elapsed() >= Duration::from_secs(interval) {
            cleaned = Instant::now();
            clean_up.start(running);
        }
    }
}

fn tell_overload(notice: OverloadNotice) {
    let target = "kea-dhcp4.dhcp4";
    match notice {
        OverloadNotice::Begun => log::warn!(
            target: target,
            "TANDEM_OVERLOAD_BEGIN more queries come than can be served; some are dropped, DISCOVERs first"
        ),
        OverloadNotice::Ended { drops, lasted_ms } => log::warn!(
            target: target,
            "TANDEM_OVERLOAD_END after {}.{} s; dropped were {} DISCOVERs, {} of all queries before these were told \
             apart, and {} queries that had waited too long",
            lasted_ms / 1_000, lasted_ms % 1_000 / 100, drops.discovers, drops.main, drops.stale
        ),
    }
}

/// Lease file clean-up on a thread of its own, one at a time.
#[derive(Default)]
struct CleanUp {
    under_way: Arc<AtomicBool>,
}

impl CleanUp {
    fn start(&self, running: &Running) {
        let Some(file) = running.lease_file.clone() else { return };
        if self.under_way.swap(true, Ordering::AcqRel) {
            return;
        }
        let (server, under_way) = (running.server.clone(), self.under_way.clone());
        let work = move || {
            log::info!(target: "kea-dhcp4.dhcpsrv", "DHCPSRV_MEMFILE_LFC_START starting Lease File Cleanup");
            match file.clean_up(&server.ports, &[]) {
                Ok(octets) => {
                    log::info!(target: "kea-dhcp4.dhcpsrv", "DHCPSRV_MEMFILE_LFC_EXECUTE lease file cleaned up, {octets} octets");
                }
                Err(error) => {
                    log::error!(target: "kea-dhcp4.dhcpsrv", "DHCPSRV_MEMFILE_LFC_SPAWN_FAIL lease file clean-up failed: {error}");
                }
            }
            memory::give_back();
            under_way.store(false, Ordering::Release);
        };
        if let Err(error) = std::thread::Builder::new().name("lfc".into()).spawn(work) {
            self.under_way.store(false, Ordering::Release);
            log::error!(target: "kea-dhcp4.dhcpsrv", "DHCPSRV_MEMFILE_LFC_SPAWN_FAIL lease file clean-up failed: {error}");
        }
    }
}

fn stop(running: Running, end: End) -> ExitCode {
    let Running { server, shards, others, acceptors, control, pid_file, lease_file, .. } = running;
    log::info!(target: "kea-dhcp4.dhcp4", "DHCP4_SHUTDOWN_REQUEST shutdown of server requested");
    let mut fatal = None;
    for port in &server.ports {
        port.post(Request::StopReceiving);
    }
    if let End::Asked(_) = end {
        server.tell_control(ControlRequest::Stop);
        if let Err(error) = control.join() {
            log::error!(target: "kea-dhcp4.dhcp4", "TANDEM_EXECUTOR_ENDED {error}");
        }
    }
    drop(acceptors);
    let file = server.lease_file.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    for port in &server.ports {
        port.post(Request::Exit);
    }
    for executor in shards {
        let found = end_shard(executor, &file);
        fatal = fatal.or(found);
    }
    if let End::Asked(_) = end {
        for executor in others {
            fatal = fatal.or(end_ha(executor));
        }
    }
    if let End::Asked(_) = end {
        server.ha.iter().for_each(|shared| shared.standings.end());
    }
    drop(lease_file);
    let code = match (end, fatal) {
        (_, Some(fatal)) => {
            log::error!(target: "kea-dhcp4.dhcp4", "TANDEM_FATAL {fatal}");
            eprintln!("tandem-dhcp4: {fatal}");
            fatal.code()
        }
        (End::Asked(code), None) => code,
        (End::Ended, None) => {
            let fatal =
                Fatal::Executor { name: "control".to_owned(), cause: "it ended by itself".to_owned() };
            log::error!(target: "kea-dhcp4.dhcp4", "TANDEM_FATAL {fatal}");
            fatal.code()
        }
    };
    log::info!(target: "kea-dhcp4.dhcp4", "DHCP4_SHUTDOWN server shutdown");
    drop(pid_file);
    server.stop_logging(LOG_PATIENCE);
    ExitCode::from(code)
}

/// Waits for one shard; what it has to say if it did not end well.
fn end_shard(executor: Executor<ShardEnd>, file: &str) -> Option<Fatal> {
    let name = executor.name().to_owned();
    if !ends_within(&executor, SHARD_ENDS_WITHIN) {
        return Some(Fatal::Executor { name, cause: "it does not end".to_owned() });
    }
    match executor.join() {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(Fatal::LeaseFile { file: file.to_owned(), cause: failure.to_string() }),
        Err(error) => Some(Fatal::Executor { name, cause: error.to_string() }),
    }
}

/// A shard that has ended answers no letter, so the executor itself is watched.
fn ends_within<T: Send>(executor: &Executor<T>, patience: Duration) -> bool {
    let started = Instant::now();
    while !executor.has_ended() {
        if started.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Waits for an HA executor, which the control node has told to end.
fn end_ha(executor: Executor<Result<(), String>>) -> Option<Fatal> {
    let name = executor.name().to_owned();
    if !ends_within(&executor, HA_ENDS_WITHIN) {
        log::warn!(
            target: "kea-dhcp4.dhcp4",
            "TANDEM_EXECUTOR_LEFT_BEHIND executor {name} does not end; the process ends without it"
        );
        return None;
    }
    let cause = match executor.join() {
        Ok(Ok(())) => return None,
        Ok(Err(cause)) => cause,
        Err(error) => error.to_string(),
    };
    Some(Fatal::Executor { name, cause })
}
