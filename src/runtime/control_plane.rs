//! What the control node does beyond pumping messages: commands from every channel, the HA driver, the control
//! sockets.
//!
//! A command becomes a plan in [`crate::control::table`]; this file carries plans out. Commands of the partner
//! that a listener passes on come in here too.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use config::Dialect;
use config::socket::ControlSocket as SocketDocument;
use glommio::task::JoinHandle;
use serde_json::Value;
use shards::{Lane, NodeId};

use super::certificates::tls_files;
use super::clock;
use super::control_http::{HttpControlSocket, ServerCommands, SharedTls};
use super::control_node::ControlNode;
use super::control_socket::{CommandHandler, ControlSocket};
use super::ha::drivers::HaDrivers;
use super::renewal::Renewal;
use super::tls;
use crate::control::gather::GATHER_MS;
use crate::control::json::without_comments;
use crate::control::lease_change::{OwnerChange, change_reply};
use crate::control::status::{self, StatusFacts};
use crate::control::{Answer, Facts, Gather, Plan, ServerCommand, plan};
use crate::engine::message::{Message, PartnerCall, ShardReplyBody};
use crate::ha::command::{Envelope, EnvelopeError, HaCommand, Reply};
use crate::ha::event::CommandSource;
use crate::ha::fingerprint;
use crate::ha::lease_json::Listing;
use crate::ha::lease_query::ClientQuery;
use crate::policy::effective::{effective, hash_text};

/// The control plane of a running server. Shared by `Rc` in its executor.
pub struct ControlPlane {
    control: Rc<ControlNode>,
    ha: Rc<HaDrivers>,
}

impl ControlPlane {
    /// Opens the control sockets and starts the HA driver.
    ///
    /// # Errors
    /// A socket cannot be opened; the text names it.
    pub fn start(control: Rc<ControlNode>) -> Result<Rc<Self>, String> {
        let document = control.server().active().document;
        let ha = HaDrivers::start(control.clone(), &document);
        let plane = Rc::new(Self { control: control.clone(), ha });
        control.set_handler({
            let plane = plane.clone();
            move |from, message| plane.handle_message(from, message)
        });
        let mut serving = Vec::new();
        let mut certificates = Vec::new();
        for (index, socket) in document.control_sockets.iter().enumerate() {
            let (task, tls) = plane.open(socket)?;
            serving.push(task);
            certificates.extend(tls.map(|tls| (index, tls)));
        }
        let renewal = Renewal::start(control.clone(), certificates);
        let ha = plane.ha.clone();
        control.set_follower(move |document| {
            ha.reconfigure(document);
            renewal.look_now();
        });
        // Nothing new is taken once the server stops; a unix socket is removed by that.
        glommio::spawn_local(async move {
            control.stop_asked().await;
            for task in serving {
                task.cancel();
            }
        })
        .detach();
        Ok(plane)
    }

    /// Opens a control socket and serves it; also its certificates, where it has some, to be replaced.
    fn open(self: &Rc<Self>, socket: &SocketDocument) -> Result<(JoinHandle<()>, Option<SharedTls>), String> {
        match socket {
            SocketDocument::Unix(unix) => {
                let path = self.control.server().folders.socket(&unix.name);
                let bound = ControlSocket::bind(&path)
                    .map_err(|error| format!("{}: control socket {error}", unix.name.position))?;
                log::info!(
                    target: "kea-dhcp4.commands",
                    "COMMAND_ACCEPTOR_START Starting to accept connections via unix domain socket bound to {}",
                    path.display()
                );
                Ok((glommio::spawn_local(bound.serve(self.handler())).detach(), None))
            }
            SocketDocument::Http(http) => {
                let address = SocketAddr::new(*http.address, *http.port);
                let named = |error: String| format!("{}: control socket {address}: {error}", http.position);
                let tls = match &http.tls {
                    None => None,
                    Some(files) => {
                        let config = tls::server_config(&tls_files(files), *http.cert_required);
                        Some(config.map_err(|error| named(error.to_string()))?)
                    }
                };
                let protocol = if tls.is_some() { "HTTPS" } else { "HTTP" };
                let bound =
                    HttpControlSocket::bind(address, tls).map_err(|error| named(error.to_string()))?;
                log::info!(
                    target: "kea-dhcp4.commands",
                    "HTTP_COMMAND_MGR_SERVICE_STARTED started {protocol} service bound to address {} port {}",
                    address.ip(), address.port()
                );
                let shared = http.tls.is_some().then(|| bound.tls());
                let serving = bound.serve(Rc::new(ServerCommands(self.handler())));
                Ok((glommio::spawn_local(serving).detach(), shared))
            }
        }
    }

    fn handler(self: &Rc<Self>) -> CommandHandler {
        let plane = self.clone();
        Rc::new(move |body| {
            let plane = plane.clone();
            Box::pin(
                async move { plane.run(&without_comments(&body), CommandSource::Administrator, None).await },
            )
        })
    }

    fn handle_message(self: &Rc<Self>, from: NodeId, message: Message) {
        let topology = self.control.node().topology();
        let listeners = topology.shards..topology.shards + topology.listeners;
        match message {
            Message::Partner(call) if listeners.contains(&from.0) => {
                let plane = self.clone();
                glommio::spawn_local(async move { plane.answer_partner(from, call).await }).detach();
            }
            other => self.ha.handle_message(from, other),
        }
    }

    /// Answers a command that a listener has passed on.
    async fn answer_partner(&self, listener: NodeId, mut call: Box<PartnerCall>) {
        let arrival = self.ha.relationship_of(listener);
        let shared = arrival.and_then(|place| self.control.server().ha.get(place));
        let source = shared.map_or(CommandSource::Partner, |ha| ha.standings.source_of(call.peer));
        let answer = self.run(&call.body, source, arrival).await;
        call.body = answer.render_list();
        // A listener that takes nothing has let the partner time out already.
        let _ = self.control.node().try_send(listener, Lane::State, Message::Partner(call));
    }

    /// Runs a command that came to a listener of the relationship `arrival`, or through a control channel.
    async fn run(&self, body: &[u8], source: CommandSource, arrival: Option<usize>) -> Answer {
        let envelope = match Envelope::parse(body) {
            Ok(envelope) => envelope,
            Err(EnvelopeError::Json(error)) => return Reply::error(error.to_string()).into(),
            Err(EnvelopeError::Refused(reply)) => return reply.into(),
        };
        let active = self.control.server().active();
        let for_partner =
            source != CommandSource::Administrator || active.document.partners_use_control_channels();
        let listing = match for_partner && !self.ha.first_view().partner_knows_released {
            true => Listing::WithoutReleased,
            false => Listing::AsStored,
        };
        let facts = Facts {
            dialect: active.document.dialect,
            rules: &active.rules,
            lease_commands: active.document.hooks.lease_commands,
            high_availability: !active.document.hooks.high_availability.is_empty(),
            relationship: arrival.and_then(|place| u8::try_from(place).ok()),
            wall_s: clock::wall_s(),
            timestamp: clock::local_timestamp(),
            listing,
            process: self.control.server().process_counters(),
        };
        if source == CommandSource::Administrator {
            log::info!(target: "kea-dhcp4.commands", "COMMAND_RECEIVED Received command '{}'", envelope.command);
        }
        match plan(&envelope, &facts) {
            Plan::Answer(answer) => answer,
            Plan::Change(change) => self.change(*change).await.into(),
            Plan::DeleteOf(client) => self.delete_of(*client, &facts).await.into(),
            Plan::Ha(command) => self.run_ha(source, arrival, command).await.into(),
            Plan::Server(command) => self.serve(command, facts.dialect, body).await,
            Plan::Shards(mut gather) => {
                self.gather(&mut gather).await;
                gather.finish()
            }
        }
    }

    async fn change(&self, change: OwnerChange) -> Reply {
        change_reply(change.address, self.control.ask(change.owner, change.body).await.ok())
    }

    /// Finds the lease of a client and deletes it.
    async fn delete_of(&self, client: ClientQuery, facts: &Facts<'_>) -> Reply {
        let mut gather = Gather::lease_of(facts.rules.owners.shards(), &client, |_, _| ());
        self.gather(&mut gather).await;
        match gather.finish_address() {
            Ok(Some(address)) => {
                let (relationship, rules) = (facts.relationship, facts.rules);
                self.change(OwnerChange::delete_of(client, address, relationship, rules)).await
            }
            Ok(None) => change_reply(Ipv4Addr::UNSPECIFIED, Some(ShardReplyBody::Deleted(false))),
            Err(reply) => reply,
        }
    }

    /// Has the HA machine answer. Where partners come through the control channels, those of its commands that only
    /// they send are theirs there too; and what Tandem servers can do beyond Kea is not offered through a channel that
    /// does not carry it.
    async fn run_ha(&self, source: CommandSource, arrival: Option<usize>, command: HaCommand) -> Reply {
        let shared = self.control.server().active().document.partners_use_control_channels();
        let source = if shared && command.is_partners() { CommandSource::Partner } else { source };
        let is_heartbeat = matches!(command, HaCommand::Heartbeat { .. });
        let mut reply = self.ha.command(source, arrival, command).await;
        if shared
            && is_heartbeat
            && let Some(Value::Object(members)) = &mut reply.arguments
        {
            members.retain(|name, _| !name.starts_with("tandem-") || name.starts_with(fingerprint::MEMBER));
        }
        reply
    }

    async fn gather(&self, gather: &mut Gather) {
        let deadline = clock::monotonic_ns() + GATHER_MS * 1_000_000;
        while !gather.is_complete() && clock::monotonic_ns() < deadline {
            let mut questions = Vec::new();
            while let Some((shard, body)) = gather.poll_request() {
                questions.push((shard, body));
            }
            // All shards work at the same time; their answers are taken in order.
            let control = &self.control;
            let asked: Vec<_> = questions
                .into_iter()
                .map(|(shard, body)| {
                    let control = control.clone();
                    glommio::spawn_local(async move { (shard, control.ask(shard, body).await) })
                })
                .collect();
            for task in asked {
                match task.await {
                    (shard, Ok(body)) => gather.handle_reply(shard, body),
                    (_, Err(_)) => return,
                }
            }
        }
    }

    async fn serve(&self, command: ServerCommand, dialect: Dialect, body: &[u8]) -> Answer {
        let server = self.control.server();
        match command {
            ServerCommand::ConfigGet => {
                let document = server.active().document;
                let mut arguments = effective(&document);
                if dialect == Dialect::Kea3 {
                    arguments["hash"] = Value::from(sha256(&hash_text(&arguments)));
                }
                Answer::data(arguments)
            }
            ServerCommand::ConfigReload => match self.control.reload().await {
                Ok(()) => Reply::success("Configuration successful.").into(),
                Err(error) => Reply::error(format!("Config reload failed: {error}")).into(),
            },
            ServerCommand::ConfigTest => self.config_test(body.to_vec(), dialect).await,
            ServerCommand::Shutdown(exit_value) => {
                // An exit code is an octet; what is beyond ends as the shell would show it.
                server.shut_down((exit_value & 0xff) as u8);
                Reply::success("Shutting down.").into()
            }
            ServerCommand::StatusGet => Answer::data(status::arguments(&self.status(), dialect)),
        }
    }

    /// Tests the configuration among the arguments of the command `body`.
    async fn config_test(&self, body: Vec<u8>, dialect: Dialect) -> Answer {
        let server = self.control.server().clone();
        let check = move || -> Result<(), String> {
            let loaded = config::dhcp4_from_command(&body, "<wire>").map_err(|error| error.to_string())?;
            super::server::check_files(&loaded.document).map_err(|error| error.to_string())?;
            server.prepare(Arc::new(loaded.document)).map(drop).map_err(|error| error.to_string())
        };
        match glommio::executor().spawn_blocking(check).await {
            Ok(()) => {
                let sockets = if dialect == Dialect::Kea2_2 { "Control-socket" } else { "Control-sockets" };
                Reply::success(format!(
                    "Configuration seems sane. {sockets}, hook-libraries, and D2 configuration were sanity \
                     checked, but not applied."
                ))
                .into()
            }
            Err(error) => Reply::error(error).into(),
        }
    }

    fn status(&self) -> StatusFacts {
        let server = self.control.server();
        let active = server.active();
        let threading = &active.document.multi_threading;
        let socket_errors = server.socket_errors();
        let high_availability = self.ha.status_high_availability();
        StatusFacts {
            pid: std::process::id(),
            uptime_s: server.started.elapsed().as_secs(),
            reload_s: active.since.elapsed().as_secs(),
            shards: server.topology.shards,
            packet_queue_size: threading.enabled.then_some(*threading.packet_queue_size),
            queue_averages: server.queue_averages(),
            // Sockets that could not be opened are tried again for as long as the server runs.
            sockets_retrying: !socket_errors.is_empty(),
            socket_errors,
            lease_file: server.lease_file.as_ref().map(|path| path.display().to_string()),
            high_availability,
            dhcp_state: Some(self.ha.status_dhcp_state()),
            steering: server.steering_text(),
            ha_executors: (server.topology.listeners, server.topology.senders),
            durability: format!("{:?}", *active.document.tandem.durability).to_lowercase(),
            log_messages_dropped: server.log_messages_dropped(),
        }
    }
}

/// Upper-case hexadecimal SHA-256 (API-31).
fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|octet| format!("{octet:02X}")).collect()
}
