//! Starting a server: from a configuration file to executors that serve.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use config::ha::Relationship;
use config::paths::Folders;
use config::tandem::Durability as Configured;
use config::{Diagnostic, Document};
use shards::journal::Columns;
use shards::partition::{LEASES_PER_PART, LoadedLeases};
use shards::runtime::{
    self, DriverLimits, Durability, Executor, JournalFile, JournalWriter, LaneSizes, NodeEnds, NodeWaker,
    Placement, ShardEnd, ShardPort, ShardSetup, mesh,
};
use shards::sys::{clock, memory, process};
use shards::{Lease, Topology};

use super::boot_loggers::Logged;
use super::boot_pid::PidFile;
use super::boot_places::{self, Places};
use super::control_node::ControlNode;
use super::control_plane::ControlPlane;
use super::ha::acceptor::Acceptor;
use super::ha::behind::Behind;
use super::ha::setup::HaSetup;
use super::ha::{listen, send, setup};
use super::lease_file::LeaseFile;
use super::log_thread::{EventSink, LogThread};
use super::parallel;
use super::server::{self, Active, Notice, Parts, Prepared, Server};
use super::{boot_loggers, signals};
use crate::cli::Run;
use crate::engine::message::Message;
use crate::engine::rules::{self, Clients, Rules, ShardLeases, Steering};
use crate::engine::{Engine, EngineStart};
use crate::fatal::Fatal;
use crate::ha::nodes::HaNodes;
use crate::ha::view::{HaView, Scopes};
use crate::limits;
use crate::policy::Snapshot;

/// A server that serves.
pub struct Running {
    /// What its threads share.
    pub server: Arc<Server>,
    /// Executors of the shards, in order.
    pub shards: Vec<Executor<ShardEnd>>,
    /// HA listeners and senders.
    pub others: Vec<Executor<Result<(), String>>>,
    /// Hand connections to the listeners, one for each relationship that has some.
    pub acceptors: Vec<Acceptor>,
    /// The control node's executor.
    pub control: Executor<()>,
    /// What signals and commands say.
    pub notices: mpsc::Receiver<Notice>,
    /// The lease file; `None` with `persist: false`.
    pub lease_file: Option<Arc<LeaseFile>>,
    /// Removed at the end.
    pub pid_file: PidFile,
}

/// Why there is no server, and the log that can say so.
pub struct StartFailure {
    /// The reason.
    pub fatal: Fatal,
    /// Logging, if it had started.
    pub logging: Option<LogThread>,
}

impl From<Fatal> for StartFailure {
    fn from(fatal: Fatal) -> Self {
        Self { fatal, logging: None }
    }
}

/// Starts everything.
///
/// # Errors
/// [`StartFailure`]; what had started has ended then.
pub fn start(run: Run, folders: Folders, started: Instant) -> Result<Running, StartFailure> {
    let (prepared, warnings) = read(&run)?;
    boot_loggers::check_outputs(&prepared.document.loggers, &folders)
        .map_err(|error| Fatal::Refused(format!("DHCP4_INIT_FAIL {error}")))?;
    let (topology, nodes) = topology(&prepared.document).map_err(StartFailure::from)?;
    let tree = boot_loggers::tree(&prepared.document.loggers, &folders, run.debug);
    let (logging, sinks) = LogThread::start::<Logged>(boot_loggers::ROOT, tree, usize::from(topology.shards))
        .map_err(|error| Fatal::Start(error.to_string()))?;
    log::info!(
        target: "kea-dhcp4.dhcp4",
        "DHCP4_STARTING Tandem DHCPv4 server version {} starting", crate::control::version::OWN
    );
    for warning in &warnings {
        log::warn!(target: "kea-dhcp4.dhcp4", "TANDEM_CONFIG_WARNING {warning}");
    }
    if run.relax {
        log::warn!(
            target: "kea-dhcp4.dhcp4",
            "TANDEM_OPTION_WITHOUT_EFFECT -X turns off checks of paths that this server does not make"
        );
    }
    // Everything below can say what is wrong to the log that was just started.
    let mut logging = Some(logging);
    let result = start_logged(run, folders, started, prepared, (topology, nodes), sinks, &mut logging);
    result.map_err(|fatal| StartFailure { fatal, logging })
}

fn read(run: &Run) -> Result<(Prepared, Vec<Diagnostic>), Fatal> {
    let refused = |error: config::ConfigError| {
        Fatal::Refused(format!(
            "DHCP4_CONFIG_LOAD_FAIL configuration error using file: {}, reason: {error}",
            run.config.display()
        ))
    };
    let (document, mut warnings) = server::read_document(&run.config).map_err(refused)?;
    let prepared = server::compile_for(run, Arc::new(document), 1, false).map_err(refused)?;
    warnings.extend(prepared.warnings.iter().cloned());
    Ok((prepared, warnings))
}

fn start_logged(
    run: Run,
    folders: Folders,
    started: Instant,
    prepared: Prepared,
    (topology, nodes): (Topology, HaNodes),
    sinks: Vec<EventSink<Logged>>,
    logging: &mut Option<LogThread>,
) -> Result<Running, Fatal> {
    let pid_file = PidFile::create(&folders.pid_file(&run.config, "kea-dhcp4"), PidFile::SERVER)?;
    let Opened { lease_file, leases, deletions, behind } = open_leases(&prepared.document, &folders)?;
    let seed = lease_file.as_ref().map_or_else(fresh_seed, |file| file.seed());
    let steering = Steering::new(seed, topology.shards);
    let placing = Instant::now();
    let (rules, split) = owners(&leases, deletions, prepared.snapshot.clone(), &steering, seed)?;
    let placed = placing.elapsed();
    say_configured(&prepared, topology);

    let places = places(&prepared.document, topology);
    allow_descriptors(topology);
    let ha = prepare_ha(&prepared.document, &nodes, &rules, &behind)?;
    let ends = make_mesh(topology)?;
    let plan = ShardPlan {
        document: &prepared.document,
        topology,
        nodes: &nodes,
        steering,
        rules: &rules,
        columns: lease_file.as_ref().map_or(Columns::Twelve, |file| file.columns()),
        places: &places,
    };
    let journal = lease_file.as_deref().map(|file| start_journal(file, plan.document)).transpose()?;
    let (shards, ports) = start_shards(&plan, ends.shards, split, sinks, journal.as_ref())?;
    say_placed(leases, placed, placing.elapsed());

    let (notice_sender, notices) = take_signals()?;
    let active = Active { document: prepared.document.clone(), rules: rules.clone(), since: Instant::now() };
    let thread = logging.take().ok_or_else(|| Fatal::Start("logging has ended".to_owned()))?;
    let server = Arc::new(Server::new(Parts {
        call: run,
        folders,
        topology,
        steering,
        ports,
        journal: journal.map(|journal| journal.writer),
        started,
        lease_file: lease_file.as_ref().map(|file| file.path().to_owned()),
        active,
        logging: thread,
        notices: notice_sender,
        behind,
        wakers: ends.wakers,
        ha: ha.iter().map(|setup| setup.shared.clone()).collect(),
        ha_nodes: nodes.clone(),
    }));
    let control = start_control(&server, ends.control)?;
    let ha = start_ha(ends.ha, ha, &nodes, &places)?;
    server.commit(&prepared, rules);
    say_started(started);
    Ok(Running {
        server,
        shards,
        others: ha.executors,
        acceptors: ha.acceptors,
        control,
        notices,
        lease_file,
        pid_file,
    })
}

fn say_configured(prepared: &Prepared, topology: Topology) {
    log::info!(
        target: "kea-dhcp4.dhcp4",
        "DHCP4_CONFIG_COMPLETE DHCPv4 server has completed configuration: {} subnets, {} shards",
        prepared.snapshot.subnets.len(), topology.shards
    );
}

/// The shards have their own rows now; what lay in between is let go.
fn say_placed(leases: Arc<LoadedLeases>, placed: Duration, all: Duration) {
    log::info!(
        target: "kea-dhcp4.dhcpsrv",
        "TANDEM_LEASES_PLACED {} leases are with their shards after {} ms; it was known after {} ms with which",
        leases.len(), all.as_millis(), placed.as_millis()
    );
    // A million leases on their way take a hundred megabytes.
    drop(leases);
    memory::give_back();
}

fn say_started(started: Instant) {
    log::info!(
        target: "kea-dhcp4.dhcp4",
        "DHCP4_STARTED Tandem DHCPv4 server version {} started, {} ms after its start",
        crate::control::version::OWN, started.elapsed().as_millis()
    );
}

/// Signals become notices from now on.
fn take_signals() -> Result<(mpsc::Sender<Notice>, mpsc::Receiver<Notice>), Fatal> {
    let (sender, notices) = mpsc::channel();
    signals::start(sender.clone())
        .map_err(|error| Fatal::Start(format!("signals cannot be handled: {error}")))?;
    Ok((sender, notices))
}

/// The ends of all nodes, by what runs on them.
struct MeshEnds {
    shards: Vec<NodeEnds<Message>>,
    ha: Vec<NodeEnds<Message>>,
    control: NodeEnds<Message>,
    wakers: Vec<NodeWaker>,
}

fn make_mesh(topology: Topology) -> Result<MeshEnds, Fatal> {
    let sizes = LaneSizes { datagram: limits::DATAGRAM_LANE, state: limits::STATE_LANE };
    let mut shards = mesh::build::<Message>(topology, sizes)
        .map_err(|error| Fatal::Start(format!("the mesh cannot be made: {error}")))?;
    let wakers = shards.iter().map(NodeEnds::waker).collect();
    let mut ha = shards.split_off(usize::from(topology.shards));
    let Some(control) = ha.pop() else {
        return Err(Fatal::Start("the mesh has no control node".to_owned()));
    };
    Ok(MeshEnds { shards, ha, control, wakers })
}

fn places(document: &Document, topology: Topology) -> Places {
    let places = boot_places::deal(&boot_places::allowed(&document.tandem.cores), topology);
    if let Some(warning) = &places.warning {
        log::warn!(target: "kea-dhcp4.dhcp4", "TANDEM_FEW_CPUS {warning}; expect less throughput");
    }
    places
}

/// Every connection that a listener may hold needs a descriptor: strangers who use them all up would keep the partner
/// out, and an operator. Systems give 1024 to begin with and more to whoever asks.
fn allow_descriptors(topology: Topology) {
    let listeners = u64::from(topology.listeners);
    let executors = u64::from(topology.shards) + listeners + u64::from(topology.senders);
    // An http control socket holds as many connections as a listener.
    let connections = (listeners + 1) * (limits::HA_CONNECTIONS_MAX + limits::HA_ACCEPTED_WAITING_MAX) as u64;
    let needed = connections + executors * limits::DESCRIPTORS_OF_EXECUTOR + limits::DESCRIPTORS_OTHER;
    let cause = match process::allow_descriptors(needed) {
        Ok(granted) if granted >= needed => return,
        Ok(granted) => format!("the process may have {granted}"),
        Err(error) => format!("more are refused: {error}"),
    };
    log::warn!(
        target: "kea-dhcp4.dhcp4",
        "TANDEM_FEW_DESCRIPTORS {needed} descriptors would be enough for every connection, and {cause} (LimitNOFILE, \
         ulimit -Hn)"
    );
}

/// Shards the document asks for, and listeners and senders of each relationship. Where several relationships leave the
/// number of theirs open, they share as many as one would have, with one for each at least.
fn topology(document: &Document) -> Result<(Topology, HaNodes), Fatal> {
    let shards = match document.multi_threading.shards() {
        Some(shards) => u32::from(shards),
        None => u32::try_from(boot_places::allowed(&document.tandem.cores).len()).unwrap_or(u32::MAX),
    };
    let shards = shards.clamp(1, limits::EXECUTORS_MAX);
    let relationships = &document.hooks.high_availability;
    let share = (shards / u32::try_from(relationships.len().max(1)).unwrap_or(u32::MAX)).max(1);
    let counts = relationships
        .iter()
        .map(|one| (one.multi_threading.listeners(share), one.multi_threading.senders(share)));
    let counts: Vec<(u32, u32)> = counts.collect();
    let (listeners, senders) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    if listeners.max(senders) > limits::EXECUTORS_MAX {
        return Err(Fatal::Refused(format!(
            "HA_CONFIGURATION_FAILED the relationships have {listeners} listener threads and {senders} client threads \
             together: at most {} of each are possible",
            limits::EXECUTORS_MAX
        )));
    }
    let octet = |count: u32| count.min(limits::EXECUTORS_MAX) as u8;
    let nodes =
        HaNodes::new(counts.into_iter().map(|(listeners, senders)| (octet(listeners), octet(senders))));
    Ok((Topology { shards: octet(shards), listeners: octet(listeners), senders: octet(senders) }, nodes))
}

/// The lease database as it was found; empty and nowhere with `persist: false`.
#[derive(Default)]
struct Opened {
    lease_file: Option<Arc<LeaseFile>>,
    leases: Arc<LoadedLeases>,
    /// Deleted leases that a partner may still have.
    deletions: Vec<Lease>,
    behind: Behind,
}

fn open_leases(document: &Document, folders: &Folders) -> Result<Opened, Fatal> {
    let database = &document.lease_database;
    if !*database.persist {
        log::warn!(target: "kea-dhcp4.dhcpsrv", "DHCPSRV_MEMFILE_NO_STORAGE running in non-persistent mode, leases will be lost after restart");
        return Ok(Opened::default());
    }
    let path = folders.lease_file(database.name.as_ref().map(|name| name.value.as_str()));
    log::info!(target: "kea-dhcp4.dhcpsrv", "DHCPSRV_MEMFILE_LEASE_FILE_LOAD loading leases from file {}", path.display());
    let started = Instant::now();
    let place = database.name.as_ref().map_or(&database.persist.position, |name| &name.position);
    let refused = |cause: String| Fatal::Start(format!("DHCP4_INIT_FAIL {place}: {cause}"));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        let (file, folder) = (path.display(), folder.display());
        return Err(refused(format!("lease file {file}: there is no folder {folder}")));
    }
    let loaded = LeaseFile::open(&path, *database.max_row_errors, fresh_seed())
        .map_err(|error| refused(error.to_string()))?;
    report_recovery(&path, &loaded.recovery);
    loaded.file.behind().settle(document.hooks.high_availability.iter().flat_map(setup::who_may_lack));
    log::info!(
        target: "kea-dhcp4.dhcpsrv",
        "TANDEM_LEASES_LOADED {} leases from {} rows in {} ms",
        loaded.leases.len(), loaded.recovery.rows, started.elapsed().as_millis()
    );
    Ok(Opened {
        behind: loaded.file.behind().clone(),
        lease_file: Some(Arc::new(loaded.file)),
        leases: Arc::new(loaded.leases),
        deletions: loaded.deletions,
    })
}

/// The rules at start, and what each shard starts with.
fn owners(
    leases: &Arc<LoadedLeases>,
    deletions: Vec<Lease>,
    snapshot: Arc<Snapshot>,
    steering: &Steering,
    seed: u64,
) -> Result<(Arc<Rules>, Vec<ShardLeases>), Fatal> {
    let part = |(): &mut (), index: usize| {
        let from = index * LEASES_PER_PART;
        Clients::of(leases, from..(from + LEASES_PER_PART).min(leases.len()), steering)
    };
    let clients = parallel::map(leases.len().div_ceil(LEASES_PER_PART), part)
        .map_err(|error| Fatal::Start(format!("loading leases: {error}")))?;
    let rules = Arc::new(Rules::at_start(snapshot, steering, seed, &clients));
    let mut split = rules::split(leases, clients, &rules.owners, steering.shards);
    rules::split_deletions(deletions, &rules.owners, &mut split);
    Ok((rules, split))
}

fn report_recovery(path: &Path, recovery: &shards::journal::Recovery) {
    let file = path.display();
    for fault in &recovery.faults {
        log::error!(
            target: "kea-dhcp4.dhcpsrv",
            "DHCPSRV_MEMFILE_LEASE_LOAD_ROW_ERROR discarded row at line {} in file {file}{}: {}",
            fault.line, fault.file.suffix(), fault.cause
        );
    }
    if recovery.bad_rows > 0 {
        log::warn!(target: "kea-dhcp4.dhcpsrv", "TANDEM_LEASE_ROWS_DISCARDED {} rows of {file} were discarded", recovery.bad_rows);
    }
    for role in &recovery.torn {
        log::warn!(target: "kea-dhcp4.dhcpsrv", "TANDEM_LEASE_ROW_TORN the last row of {file}{} was cut short and left out", role.suffix());
    }
    if recovery.downgraded {
        log::warn!(target: "kea-dhcp4.dhcpsrv", "DHCPSRV_MEMFILE_NEEDS_DOWNGRADING {file} has columns of a later version, which are dropped");
    }
}

/// What every shard is started from.
struct ShardPlan<'a> {
    document: &'a Document,
    topology: Topology,
    nodes: &'a HaNodes,
    steering: Steering,
    rules: &'a Arc<Rules>,
    columns: Columns,
    places: &'a Places,
}

/// Datagrams a shard takes from a socket at a time: its part of `packet-queue-size`, rounded up (0: no limit).
fn receive_batch(packet_queue_size: u32, shards: u8) -> usize {
    match packet_queue_size {
        0 => limits::RECEIVE_BATCH,
        size => (size as usize).div_ceil(usize::from(shards)).min(limits::RECEIVE_BATCH),
    }
}

fn start_shards(
    plan: &ShardPlan<'_>,
    ends: Vec<NodeEnds<Message>>,
    leases: Vec<ShardLeases>,
    sinks: Vec<EventSink<Logged>>,
    journal: Option<&JournalFile>,
) -> Result<(Vec<Executor<ShardEnd>>, Vec<ShardPort>), Fatal> {
    let limits = DriverLimits {
        receive_batch: receive_batch(*plan.document.multi_threading.packet_queue_size, plan.topology.shards),
        state_batch: limits::STATE_LANE,
    };
    // Without HA every query is ours; with it nothing is, until the machine says so.
    let configured = !plan.document.hooks.high_availability.is_empty();
    let view = Arc::new(HaView {
        service_on: !configured,
        configured,
        scopes: Scopes { primary: !configured, ..Scopes::NONE },
        updates: crate::ha::view::UpdateMode::Off,
        ..HaView::default()
    });
    let dialect = plan.document.dialect;
    let mut starting = Vec::new();
    let inputs = ends.into_iter().zip(leases).zip(sinks);
    let (made, engines) = mpsc::channel();
    for (shard, ((ends, leases), mut sink)) in (0..plan.topology.shards).zip(inputs) {
        let made = made.clone();
        let start = EngineStart {
            shard,
            topology: plan.topology,
            steering: plan.steering,
            rules: plan.rules.clone(),
            view: view.clone(),
            nodes: plan.nodes.clone(),
            columns: plan.columns,
            leases,
        };
        let setup = ShardSetup {
            name: format!("shard-{shard}"),
            placement: plan.places.shard(usize::from(shard)),
            spin: Duration::from_micros(u64::from(*plan.document.tandem.spin_us)),
            ends,
            make_engine: move || {
                let engine = Engine::new(clock::now(), start);
                // Whoever started us may have given up; then there is nobody to tell.
                let _ = made.send(());
                engine
            },
            on_event: move |now: shards::Now, event| sink.push(now.wall_ms, Logged { event, dialect }),
            journal: journal.cloned(),
            limits,
        };
        starting.push(runtime::spawn_shard(setup).map_err(|error| Fatal::Start(error.to_string()))?);
    }
    let mut shards = Vec::new();
    let mut ports = Vec::new();
    for (executor, port) in starting {
        shards.push(executor.wait_ready().map_err(|error| Fatal::Start(error.to_string()))?);
        ports.push(port);
    }
    // Every shard has its leases, or has ended and let go of its sender; then `main` finds it ended.
    drop(made);
    engines.iter().for_each(drop);
    Ok((shards, ports))
}

/// The lease file as the shards append to it, and the thread that writes.
fn start_journal(file: &LeaseFile, document: &Document) -> Result<JournalFile, Fatal> {
    let durability = match *document.tandem.durability {
        Configured::Synced => Durability::Synced,
        Configured::Written => Durability::Written,
    };
    let writer = JournalWriter::start().map_err(|error| Fatal::Start(format!("journal thread: {error}")))?;
    let file = file.appender().map_err(|error| Fatal::Start(error.to_string()))?;
    Ok(JournalFile { file, durability, writer })
}

/// What each relationship starts with: certificates read, listener bound.
fn prepare_ha(
    document: &Document,
    nodes: &HaNodes,
    rules: &Arc<Rules>,
    behind: &Behind,
) -> Result<Vec<HaSetup>, Fatal> {
    let prepare = |(place, relationship): (u8, &Relationship)| {
        let listeners = nodes.listeners(usize::from(place));
        setup::prepare(place, relationship, document, listeners, rules, behind)
            .map_err(|error| Fatal::Start(format!("HA_CONFIGURATION_FAILED {error}")))
    };
    (0u8..).zip(&document.hooks.high_availability).map(prepare).collect()
}

/// The HA executors and what feeds them.
struct HaExecutors {
    executors: Vec<Executor<Result<(), String>>>,
    acceptors: Vec<Acceptor>,
}

/// Starts listeners and senders on `ends`: the listeners of all relationships come first, then all senders.
fn start_ha(
    ends: Vec<NodeEnds<Message>>,
    mut setups: Vec<HaSetup>,
    nodes: &HaNodes,
    places: &Places,
) -> Result<HaExecutors, Fatal> {
    let failed = |error: runtime::SpawnError| Fatal::Start(error.to_string());
    let mut ends = (0..).zip(ends);
    let mut starting = Vec::new();
    let mut wakers = Vec::new();
    for setup in &mut setups {
        let mut of_setup = Vec::new();
        let contexts = std::mem::take(&mut setup.listen);
        for (context, (index, ends)) in contexts.into_iter().zip(ends.by_ref()) {
            of_setup.push(ends.waker());
            let body = move |node| listen::run(node, context);
            let name = format!("ha-listen-{index}");
            starting.push(runtime::spawn(&name, places.ha(index), ends, body).map_err(failed)?);
        }
        wakers.push(of_setup);
    }
    let listeners = starting.len();
    for (setup, (_, count)) in setups.iter().zip(nodes.senders()) {
        for (index, ends) in ends.by_ref().take(usize::from(count)) {
            let context = setup.send.clone();
            let body = move |node| send::run(node, context);
            let name = format!("ha-send-{}", index - listeners);
            starting.push(runtime::spawn(&name, places.ha(index), ends, body).map_err(failed)?);
        }
    }
    let executors =
        starting.into_iter().map(Executor::wait_ready).collect::<Result<_, _>>().map_err(failed)?;
    let mut acceptors = Vec::new();
    for (setup, wakers) in setups.into_iter().zip(wakers) {
        let acceptor = setup.start_accepting(wakers);
        acceptors.extend(
            acceptor.map_err(|error| Fatal::Start(format!("the HA acceptor cannot be started: {error}")))?,
        );
    }
    Ok(HaExecutors { executors, acceptors })
}

fn start_control(server: &Arc<Server>, ends: NodeEnds<Message>) -> Result<Executor<()>, Fatal> {
    let server = server.clone();
    let (opened, whether_opened) = mpsc::channel();
    let body = |node| async move {
        let control = ControlNode::new(node, server);
        let plane = ControlPlane::start(control.clone());
        // Whoever started us may have given up; then there is nobody to tell.
        let _ = opened.send(plane.as_ref().map(drop).map_err(Clone::clone));
        if plane.is_ok() {
            control.run().await;
        }
    };
    let executor = runtime::spawn("control", Placement::Unpinned, ends, body)
        .and_then(Executor::wait_ready)
        .map_err(|error| Fatal::Start(error.to_string()))?;
    match whether_opened.recv() {
        Ok(Ok(())) => Ok(executor),
        Ok(Err(cause)) => Err(Fatal::Start(format!("DHCP4_INIT_FAIL {cause}"))),
        Err(_) => Err(Fatal::Start("the control node ended before it was ready".to_owned())),
    }
}

/// A secret for an installation that has none yet.
fn fresh_seed() -> u64 {
    // The hasher of the standard library is keyed by the system's random numbers.
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
