//! The running server as its threads see it: what is in force, and what can be asked of it.
//!
//! Shared by `Arc` between the main thread (which starts and stops everything), the control node (which answers
//! commands and hands out rules) and the signal thread. Nothing of it is on the packet path.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::paths::Folders;
use config::{ConfigError, Diagnostic, Diagnostics, Document};
use shards::Topology;
use shards::runtime::{DriverCounters, JournalWriter, NodeWaker, ShardPort};
use shards::sys::interface;

use super::boot_sockets::SocketKeeper;
use super::certificates;
use super::ha::behind::Behind;
use super::ha::setup::HaShared;
use super::log_thread::LogThread;
use crate::cli::Run;
use crate::control::OverloadDrops;
use crate::engine::rules::{Rules, Steering};
use crate::ha::nodes::HaNodes;
use crate::policy::Snapshot;
use crate::policy::compile::{self, Host};
use crate::policy::interfaces::HostInterface;

/// What the main thread is told.
#[derive(Debug)]
pub enum Notice {
    /// SIGHUP.
    Reload,
    /// SIGTERM, SIGINT, or the command `shutdown`: end cleanly with this exit code.
    Stop(u8),
}

/// What the control node is told by other threads; it looks whenever its node is woken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ControlRequest {
    /// Read the file again and put it in force; log what comes of it.
    Reload,
    /// The interfaces of the host have changed: compile the document in force again.
    Refresh,
    /// Drain the shards, say goodbye to the partner, and return.
    Stop,
}

/// What is in force.
#[derive(Clone, Debug)]
pub struct Active {
    /// The document.
    pub document: Arc<Document>,
    /// What it was compiled to.
    pub rules: Arc<Rules>,
    /// Since when.
    pub since: Instant,
}

/// A configuration that is good and not in force yet.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The document.
    pub document: Arc<Document>,
    /// Compiled for the host as it is now.
    pub snapshot: Arc<Snapshot>,
    /// What was accepted and does less than it seems to.
    pub warnings: Vec<Diagnostic>,
}

/// The running server.
pub struct Server {
    /// How it was called.
    pub call: Run,
    /// Where bare names in the file lead.
    pub folders: Folders,
    /// Its nodes.
    pub topology: Topology,
    /// How clients are spread over shards.
    pub steering: Steering,
    /// Letter boxes of the shards, in order.
    pub ports: Vec<ShardPort>,
    /// Who writes the lease file; `None` with `persist: false`.
    pub journal: Option<JournalWriter>,
    /// When the process started.
    pub started: Instant,
    /// The lease file; `None` with `persist: false`.
    pub lease_file: Option<PathBuf>,
    /// Which other servers may lack changes made here.
    pub behind: Behind,
    /// What the HA executors of each relationship share with the control node.
    pub ha: Vec<HaShared>,
    /// Which HA executors are whose.
    pub ha_nodes: HaNodes,
    active: Mutex<Active>,
    sockets: Mutex<SocketKeeper>,
    logging: Mutex<LogThread>,
    notices: mpsc::Sender<Notice>,
    wakers: Vec<NodeWaker>,
    control_requests: Mutex<Vec<ControlRequest>>,
}

/// What [`Server::new`] is made from.
pub struct Parts {
    /// How it was called.
    pub call: Run,
    /// Where bare names in the file lead.
    pub folders: Folders,
    /// Its nodes.
    pub topology: Topology,
    /// How clients are spread over shards.
    pub steering: Steering,
    /// Letter boxes of the shards, in order.
    pub ports: Vec<ShardPort>,
    /// Who writes the lease file; `None` with `persist: false`.
    pub journal: Option<JournalWriter>,
    /// When the process started.
    pub started: Instant,
    /// The lease file.
    pub lease_file: Option<PathBuf>,
    /// What is in force.
    pub active: Active,
    /// The log thread.
    pub logging: LogThread,
    /// To the main thread.
    pub notices: mpsc::Sender<Notice>,
    /// Which other servers may lack changes made here.
    pub behind: Behind,
    /// What the HA executors of each relationship share with the control node.
    pub ha: Vec<HaShared>,
    /// Which HA executors are whose.
    pub ha_nodes: HaNodes,
    /// Wakes each node, in order.
    pub wakers: Vec<NodeWaker>,
}

impl Server {
    /// A server of these parts, without sockets.
    pub fn new(parts: Parts) -> Self {
        let sockets = Mutex::new(SocketKeeper::new(parts.steering.hash));
        Self {
            call: parts.call,
            folders: parts.folders,
            topology: parts.topology,
            steering: parts.steering,
            ports: parts.ports,
            journal: parts.journal,
            started: parts.started,
            lease_file: parts.lease_file,
            active: Mutex::new(parts.active),
            sockets,
            logging: Mutex::new(parts.logging),
            notices: parts.notices,
            behind: parts.behind,
            ha: parts.ha,
            ha_nodes: parts.ha_nodes,
            wakers: parts.wakers,
            control_requests: Mutex::new(Vec::new()),
        }
    }

    /// What is in force.
    pub fn active(&self) -> Active {
        lock(&self.active).clone()
    }

    /// Reads and compiles the configuration file. Takes as long as the disk takes: not for an executor's own thread.
    ///
    /// # Errors
    /// What is wrong with it, with places.
    pub fn prepare_file(&self) -> Result<Prepared, ConfigError> {
        let (document, mut warnings) = read_document(&self.call.config)?;
        super::boot_loggers::check_outputs(&document.loggers, &self.folders)?;
        let mut prepared = self.prepare(Arc::new(document))?;
        warnings.append(&mut prepared.warnings);
        Ok(Prepared { warnings, ..prepared })
    }

    /// Compiles `document` for the host as it is now, under the next epoch.
    ///
    /// # Errors
    /// What is wrong with it, with places.
    pub fn prepare(&self, document: Arc<Document>) -> Result<Prepared, ConfigError> {
        let epoch = self.active().rules.snapshot.epoch + 1;
        compile_for(&self.call, document, epoch, false)
    }

    /// Every shard has `rules`: they are what is in force, its sockets are opened and its loggers take over. Waits for
    /// shards: not for an executor's own thread.
    pub fn commit(&self, prepared: &Prepared, rules: Arc<Rules>) {
        let active = Active { document: prepared.document.clone(), rules, since: Instant::now() };
        lock(&self.logging).set_tree(super::boot_loggers::tree(
            &prepared.document.loggers,
            &self.folders,
            self.call.debug,
        ));
        lock(&self.sockets).apply(&prepared.snapshot, &self.ports);
        *lock(&self.active) = active;
    }

    /// Opens what could not be opened before.
    pub fn retry_sockets(&self) {
        let snapshot = self.active().rules.snapshot.clone();
        lock(&self.sockets).apply(&snapshot, &self.ports);
    }

    /// What could not be opened.
    pub fn socket_errors(&self) -> Vec<String> {
        lock(&self.sockets).errors().to_vec()
    }

    /// How queries find their shard, for `status-get`.
    pub fn steering_text(&self) -> String {
        match lock(&self.sockets).user_space_steering() {
            None => "kernel".to_owned(),
            Some(cause) => format!("user space: {cause}"),
        }
    }

    /// Counters kept outside the shards' engines, by statistic name. What was dropped before an engine saw it is a
    /// received query dropped at a limit, as in Kea.
    pub fn process_counters(&self) -> Vec<(&'static str, u64)> {
        let drops = self.overload_drops();
        let mut counters = vec![
            ("pkt4-queue-full", drops.total()),
            ("pkt4-receive-drop", drops.total()),
            ("tandem-kernel-drops", drops.discovers + drops.main),
            ("tandem-overload-discovers", drops.discovers),
            ("tandem-overload-main", drops.main),
            ("tandem-overload-stale", drops.stale),
            ("tandem-mesh-datagram-full", self.sum_of(|counters| &counters.mesh_datagram_full)),
            ("tandem-send-refused", self.sum_of(|counters| &counters.send_refused)),
            ("tandem-unreadable", self.sum_of(|counters| &counters.unreadable)),
            ("tandem-log-messages-dropped", self.log_messages_dropped()),
        ];
        if let Some(journal) = self.journal.as_ref().map(JournalWriter::counters) {
            counters.push(("tandem-journal-rows", journal.rows.load(Ordering::Relaxed)));
            counters.push(("tandem-journal-syncs", journal.syncs.load(Ordering::Relaxed)));
            counters.push(("tandem-journal-writes", journal.writes.load(Ordering::Relaxed)));
        }
        counters
    }

    /// Whether rows wait for room on the disk.
    pub fn is_storage_full(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.counters().is_full.load(Ordering::Relaxed))
    }

    /// Queries dropped because more came than could be served.
    pub fn overload_drops(&self) -> OverloadDrops {
        OverloadDrops {
            discovers: self.sum_of(|counters| &counters.discovers_dropped),
            main: self.sum_of(|counters| &counters.main_dropped),
            stale: self.sum_of(|counters| &counters.stale_dropped),
        }
    }

    /// How many datagrams wait behind the one that is decided, over all shards.
    pub fn queue_averages(&self) -> [f64; 3] {
        let of_each = self.ports.iter().map(|port| port.counters().queue_averages().0);
        of_each.fold([0.0; 3], |[a, b, c], [d, e, f]| [a + d, b + e, c + f])
    }

    /// A counter of the drivers, over all shards.
    fn sum_of(&self, counter: fn(&DriverCounters) -> &AtomicU64) -> u64 {
        self.ports.iter().map(|port| counter(port.counters()).load(Ordering::Relaxed)).sum()
    }

    /// Log messages dropped because a queue was full.
    pub fn log_messages_dropped(&self) -> u64 {
        lock(&self.logging).dropped()
    }

    /// Asks the main thread for a clean end with `exit_code`.
    pub fn shut_down(&self, exit_code: u8) {
        // Without a main thread the process has ended already.
        let _ = self.notices.send(Notice::Stop(exit_code));
    }

    /// Tells the control node.
    pub fn tell_control(&self, request: ControlRequest) {
        lock(&self.control_requests).push(request);
        if let Some(control) = self.wakers.get(usize::from(self.topology.control().0)) {
            control.wake();
        }
    }

    /// For the control node: what it was told since it last asked.
    pub fn take_control_requests(&self) -> Vec<ControlRequest> {
        std::mem::take(&mut *lock(&self.control_requests))
    }

    /// Whether an interface that the configuration names has come, or one in use has changed.
    pub fn interfaces_changed(&self) -> bool {
        let active = self.active();
        let epoch = active.rules.snapshot.epoch;
        compile_for(&self.call, active.document, epoch, false)
            .is_ok_and(|prepared| prepared.snapshot.interfaces != active.rules.snapshot.interfaces)
    }

    /// Writes what was logged so far and ends the log, waiting at most `patience`; the last thing that is done.
    pub fn stop_logging(&self, patience: Duration) {
        lock(&self.logging).stop(patience);
    }
}

/// Reads a `Dhcp4` file, and the files of certificates and keys that it names.
///
/// # Errors
/// What is wrong with them, with places.
pub fn read_document(file: &std::path::Path) -> Result<(Document, Vec<Diagnostic>), ConfigError> {
    let loaded = config::load_dhcp4(&file.to_string_lossy())?;
    let mut warnings = loaded.warnings;
    warnings.append(&mut check_files(&loaded.document)?);
    Ok((loaded.document, warnings))
}

/// Looks at the files of certificates and keys that `document` names; what is about to be wrong with them.
///
/// # Errors
/// What is wrong with them, with places.
pub fn check_files(document: &Document) -> Result<Vec<Diagnostic>, ConfigError> {
    let mut report = Diagnostics::default();
    certificates::check(document, &mut report);
    report.finish()
}

/// Compiles `document` for this host. `must_exist` makes a missing interface an error (`-T`).
///
/// # Errors
/// What is wrong with it, with places.
pub fn compile_for(
    call: &Run,
    document: Arc<Document>,
    epoch: u64,
    must_exist: bool,
) -> Result<Prepared, ConfigError> {
    let interfaces = host_interfaces();
    let host = Host {
        interfaces: &interfaces,
        interfaces_must_exist: must_exist,
        epoch,
        server_port: call.server_port,
        forced_client_port: call.client_port,
    };
    let compiled = compile::compile(&document, &host)?;
    Ok(Prepared { document, snapshot: Arc::new(compiled.snapshot), warnings: compiled.warnings })
}

/// The host's interfaces as the policy sees them; none where they cannot be listed.
pub fn host_interfaces() -> Vec<HostInterface> {
    let list = interface::list().unwrap_or_else(|error| {
        log::error!(target: "kea-dhcp4.dhcpsrv", "TANDEM_INTERFACES_UNKNOWN the interfaces cannot be listed: {error}");
        Vec::new()
    });
    list.into_iter()
        .map(|found| HostInterface {
            ifindex: found.ifindex,
            name: found.name,
            mac: found.mac,
            addresses: found.addresses,
            up: found.up && found.running,
            loopback: found.loopback,
        })
        .collect()
}

/// A value is whole between two statements of its owner, so what a panicking thread left is usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
