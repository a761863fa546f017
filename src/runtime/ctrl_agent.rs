//! The control agent (`tandem-ctrl-agent`): HTTP or HTTPS in, unix control sockets behind (API-25 to API-28).
//!
//! One executor, no mesh, no leases. What a command means is decided in [`crate::control::agent`]. Certificates are
//! read again on a reload, once an hour, and more often when one is about to expire, as the server does it
//! ([`super::certificate_looks`]).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::paths::Folders;
use config::{ControlAgent, Diagnostic, Diagnostics};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::LocalExecutorBuilder;
use glommio::net::UnixStream;
use rustls::ServerConfig;
use serde::de::IgnoredAny;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::certificate_looks::{Known, look_at_listener, wall_s};
use super::certificates::{self, tls_files};
use super::control_http::{HttpCommands, HttpControlSocket, SharedTls};
use super::http_serve::Response;
use super::local::Inbox;
use super::tls::{self, TlsError};
use crate::control::agent::{AgentCommand, AgentPlan, not_configured, offline, plan};
use crate::control::{Answer, version};
use crate::ha::command::Reply;
use crate::limits::HTTP_RESPONSE_BODY_OCTETS_MAX;

/// A server has this long for one command (API-25).
const FORWARD_WITHIN: Duration = Duration::from_secs(60);

/// Logger of the agent.
const TARGET: &str = "kea-ctrl-agent.ctrl-agent";

/// Why the agent does not run. Every text names the file or the address.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The executor cannot be made.
    #[error("the executor cannot be started: {0}")]
    Executor(String),
    /// The address cannot be listened on.
    #[error("{position}: cannot listen on {address}: {source}")]
    Listen {
        /// Where the file says so.
        position: config::Position,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Signals cannot be handled.
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
    /// A certificate, key or trust anchor is wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A configuration of the agent whose files were read and found good.
pub struct Prepared {
    document: ControlAgent,
    tls: Option<Arc<ServerConfig>>,
}

impl Prepared {
    /// Reads the files `document` names; what is about to be wrong with them is added to `warnings`.
    ///
    /// # Errors
    /// [`AgentError::Config`] with the place of what is wrong.
    pub fn new(document: ControlAgent, warnings: &mut Vec<Diagnostic>) -> Result<Self, AgentError> {
        let mut report = Diagnostics::default();
        certificates::check_agent(&document, &mut report);
        warnings.append(&mut report.finish()?);
        let tls = match &document.tls {
            None => None,
            Some(files) => Some(tls::server_config(&tls_files(files), *document.cert_required)?),
        };
        Ok(Self { document, tls })
    }

    /// Loads `file` and what it names, with the warnings about them.
    ///
    /// # Errors
    /// [`AgentError::Config`].
    pub fn load(file: &Path) -> Result<(Self, Vec<Diagnostic>), AgentError> {
        let config::Loaded { document, mut warnings } = config::load_control_agent(&file.to_string_lossy())?;
        let prepared = Self::new(document, &mut warnings)?;
        Ok((prepared, warnings))
    }

    /// The configuration.
    pub fn document(&self) -> &ControlAgent {
        &self.document
    }

    /// Where the file says what [`Prepared::address`] is.
    fn place(&self) -> config::Position {
        let (host, port) = (&self.document.http_host, &self.document.http_port);
        if host.written { host.position.clone() } else { port.position.clone() }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(*self.document.http_host, *self.document.http_port)
    }
}

/// Runs the agent on the calling thread until SIGTERM, SIGINT or the command `shutdown`.
///
/// # Errors
/// [`AgentError`] where it cannot start.
pub fn run(file: &Path, prepared: Prepared, folders: Folders) -> Result<(), AgentError> {
    let file = file.to_owned();
    let executor = LocalExecutorBuilder::default()
        .name("ctrl-agent")
        .io_memory(64 * 1024)
        .make()
        .map_err(|error| AgentError::Executor(error.to_string()))?;
    executor.run(async move { Agent::start(file, prepared, folders)?.run().await })
}

enum Notice {
    /// SIGHUP: read the file again.
    Reload,
    /// The configuration names another address: this one, bound already.
    Replaced(HttpControlSocket),
    Stop,
}

/// What the agent does next.
enum Step {
    Listen(HttpControlSocket),
    Stop,
}

struct Agent {
    file: PathBuf,
    folders: Folders,
    active: RefCell<Rc<Prepared>>,
    started: Instant,
    configured: Cell<Instant>,
    notices: Inbox<Notice>,
    /// Certificates of the listener.
    serving: RefCell<Option<SharedTls>>,
    /// Has the files looked at now.
    look: Inbox<()>,
}

impl Agent {
    fn start(file: PathBuf, prepared: Prepared, folders: Folders) -> Result<Rc<Self>, AgentError> {
        let notices = Inbox::default();
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            watch(signal, notices.clone()).map_err(AgentError::Signals)?;
        }
        let now = Instant::now();
        let active = RefCell::new(Rc::new(prepared));
        Ok(Rc::new(Self {
            file,
            folders,
            active,
            started: now,
            configured: Cell::new(now),
            notices,
            serving: RefCell::new(None),
            look: Inbox::default(),
        }))
    }

    async fn run(self: Rc<Self>) -> Result<(), AgentError> {
        let active = self.active.borrow().clone();
        let address = active.address();
        let socket = HttpControlSocket::bind(address, active.tls.clone())
            .map_err(|source| AgentError::Listen { position: active.place(), address, source })?;
        let mut serving = self.serve(socket, &active);
        glommio::spawn_local(self.clone().keep_certificates()).detach();
        log::info!(target: TARGET, "CTRL_AGENT_STARTED Tandem control agent version {} started", version::OWN);
        loop {
            match self.next_step().await {
                Step::Listen(socket) => {
                    // Connections that are open go on and end by themselves.
                    serving.cancel().await;
                    let active = self.active.borrow().clone();
                    serving = self.serve(socket, &active);
                }
                Step::Stop => {
                    // The answer to the command `shutdown` is still on its way.
                    glommio::timer::sleep(Duration::from_millis(50)).await;
                    serving.cancel().await;
                    log::info!(target: TARGET, "CTRL_AGENT_SHUTDOWN the control agent has stopped");
                    return Ok(());
                }
            }
        }
    }

    fn serve(self: &Rc<Self>, socket: HttpControlSocket, active: &Prepared) -> glommio::Task<()> {
        let address = socket.address();
        *self.serving.borrow_mut() = Some(socket.tls());
        log::info!(
            target: TARGET,
            "HTTP_SERVICE_STARTED started {} service bound to address {} port {}",
            protocol(active), address.ip(), address.port()
        );
        glommio::spawn_local(socket.serve(self.clone()))
    }

    /// The next notice that is for the listener; SIGHUP is dealt with here.
    async fn next_step(&self) -> Step {
        loop {
            match self.notices.pop().await {
                Notice::Reload => match self.reload() {
                    Ok(()) => {
                        log::info!(target: TARGET, "CTRL_AGENT_CONFIG_RELOADED {}", self.file.display())
                    }
                    Err(error) => log::error!(target: TARGET, "CTRL_AGENT_CONFIG_FAIL {error}"),
                },
                Notice::Replaced(socket) => return Step::Listen(socket),
                Notice::Stop => return Step::Stop,
            }
        }
    }

    /// Takes the file again; what is wrong with it leaves everything as it was.
    fn reload(&self) -> Result<(), String> {
        let (prepared, warnings) = Prepared::load(&self.file).map_err(|error| error.to_string())?;
        say_warnings(&warnings);
        let old = self.active.borrow().clone();
        let same_place = prepared.address() == old.address();
        if same_place && prepared.tls.is_some() != old.tls.is_some() {
            return Err("changing between http and https needs another address or port, or a restart".into());
        }
        if same_place {
            if let Some(serving) = &*self.serving.borrow() {
                serving.replace(prepared.tls.clone());
            }
        } else {
            // Bound while the old listener still serves, so that a mistake changes nothing.
            let address = prepared.address();
            let socket = HttpControlSocket::bind(address, prepared.tls.clone())
                .map_err(|error| format!("cannot listen on {address}: {error}"))?;
            self.notices.push(Notice::Replaced(socket));
        }
        *self.active.borrow_mut() = Rc::new(prepared);
        self.configured.set(Instant::now());
        if self.look.is_empty() {
            self.look.push(());
        }
        Ok(())
    }

    /// Looks after the files of the listener as long as the agent runs.
    async fn keep_certificates(self: Rc<Self>) {
        let mut known = Known::default();
        loop {
            let active = self.active.borrow().clone();
            let Some(files) = active.document.tls.clone() else {
                self.look.pop().await;
                continue;
            };
            let required = *active.document.cert_required;
            let look = move || look_at_listener(&files, required).map_err(|error| error.to_string());
            let look = glommio::executor().spawn_blocking(look).await;
            // What a reload has put in force meanwhile has files of its own, and has asked for a look at them.
            if !Rc::ptr_eq(&active, &self.active.borrow()) {
                continue;
            }
            let news = known.take(vec![((), look)], wall_s());
            news.say(TARGET);
            for ((), config) in news.found {
                // Where one without certificates is about to be closed, the next was made with these.
                if let Some(tls) = self.serving.borrow().as_ref().filter(|tls| tls.borrow().is_some()) {
                    tls.replace(Some(config));
                }
            }
            let woken = async {
                self.look.pop().await;
                Ok(())
            };
            let _ = glommio::timer::timeout(news.within, woken).await;
        }
    }

    fn own(&self, command: AgentCommand) -> Answer {
        match command {
            AgentCommand::ConfigGet => {
                Answer::data(json!({ "Control-agent": tree(&self.active.borrow().document) }))
            }
            AgentCommand::ConfigReload => match self.reload() {
                Ok(()) => Reply::success("Configuration applied successfully.").into(),
                Err(error) => Reply::error(format!("Config reload failed: {error}")).into(),
            },
            AgentCommand::ConfigTest(document) => {
                let value = config::Value::from_json(&document, "<wire>");
                let tested = config::control_agent_from_value(&value)
                    .map_err(AgentError::from)
                    .and_then(|mut loaded| Prepared::new(loaded.document, &mut loaded.warnings));
                match tested {
                    Ok(_) => Reply::success("Configuration check successful").into(),
                    Err(error) => Reply::error(error.to_string()).into(),
                }
            }
            AgentCommand::Shutdown => {
                self.notices.push(Notice::Stop);
                Reply::success("Control Agent is shutting down").into()
            }
            AgentCommand::StatusGet => Answer::data(json!({
                "pid": std::process::id(),
                "reload": self.configured.get().elapsed().as_secs(),
                "uptime": self.started.elapsed().as_secs(),
            })),
        }
    }

    async fn forward(&self, services: &[String], body: &[u8]) -> Vec<u8> {
        let mut output = b"[ ".to_vec();
        for (index, service) in services.iter().enumerate() {
            if index > 0 {
                output.extend_from_slice(b", ");
            }
            let path = {
                let active = self.active.borrow();
                active.document.socket(service).map(|socket| self.folders.socket(&socket.name))
            };
            let failure: Answer = match path {
                None => not_configured(service).into(),
                Some(path) => match within(FORWARD_WITHIN, ask(&path, body)).await {
                    Ok(answer) if serde_json::from_slice::<IgnoredAny>(&answer).is_ok() => {
                        output.extend_from_slice(&answer);
                        continue;
                    }
                    Ok(_) => {
                        Reply::error(format!("the {service} service answered with something that is no JSON"))
                            .into()
                    }
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        Reply::error(format!("the {service} service did not answer within 60 seconds")).into()
                    }
                    Err(error) => offline(service, &error).into(),
                },
            };
            failure.render(&mut output);
        }
        output.extend_from_slice(b" ]");
        output
    }
}

impl HttpCommands for Agent {
    fn run(self: Rc<Self>, body: Vec<u8>) -> Pin<Box<dyn Future<Output = Response>>> {
        Box::pin(async move {
            match plan(&body) {
                AgentPlan::Answer(answer) => Response::Json(answer.render_list()),
                AgentPlan::Forward(services) => Response::Json(self.forward(&services, &body).await),
                AgentPlan::Malformed => Response::Error(400),
                AgentPlan::Own(command) => {
                    log::info!(
                        target: "kea-ctrl-agent.commands",
                        "COMMAND_RECEIVED Received command '{}'", command.name()
                    );
                    Response::Json(self.own(command).render_list())
                }
            }
        })
    }
}

/// Logs what was accepted and does less than it seems to.
pub fn say_warnings(warnings: &[Diagnostic]) {
    for warning in warnings {
        log::warn!(target: TARGET, "TANDEM_CONFIG_WARNING {warning}");
    }
}

fn tree(document: &ControlAgent) -> serde_json::Value {
    document.tree.to_json()
}

fn protocol(prepared: &Prepared) -> &'static str {
    if prepared.tls.is_some() { "HTTPS" } else { "HTTP" }
}

/// One command over a unix control socket: the answer ends with the connection.
async fn ask(path: &Path, command: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(command).await?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(answer);
        }
        if answer.len() + count > HTTP_RESPONSE_BODY_OCTETS_MAX {
            return Err(io::Error::other("the answer is too large"));
        }
        answer.extend_from_slice(&buffer[..count]);
    }
}

/// Gives up on `operation` after `limit`, with an error of kind `TimedOut`.
async fn within<T>(limit: Duration, operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match glommio::timer::timeout(limit, async { Ok(operation.await) }).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Turns `signal` into notices, from a task of this executor.
fn watch(signal: i32, notices: Inbox<Notice>) -> io::Result<()> {
    let (write, read) = std::os::unix::net::UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal, write)?;
    let mut read = shards::sys::adopt::unix_stream(read.into());
    glommio::spawn_local(async move {
        let mut octet = [0];
        while matches!(read.read(&mut octet).await, Ok(1)) {
            notices.push(if signal == SIGHUP { Notice::Reload } else { Notice::Stop });
        }
    })
    .detach();
    Ok(())
}
