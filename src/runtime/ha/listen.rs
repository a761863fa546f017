//! An HA listen executor: the partner's commands in, answers out.
//!
//! Connections come from the [`acceptor`](super::acceptor). `lease4-update` and `lease4-del` go straight to the
//! shard that owns the address and are answered when the lease is durable; lists of leases are gathered from
//! all shards here; everything else is answered by the control node. The executor holds no leases and decides
//! nothing. Its rules and the HA view come from the control node.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::sync::Semaphore;
use shards::runtime::NodeHandle;
use shards::{Lane, NodeId};

use super::acceptor::AcceptedQueue;
use super::places::Places;
use super::setup::HaShared;
use crate::control::gather::{GATHER_MS, Gather, ListRequest};
use crate::control::lease_change::{LeaseChange, change_reply};
use crate::control::{Answer, CopyAnswer};
use crate::engine::message::{
    Line, Message, PartnerCall, ShardCommand, ShardCommandBody, ShardReply, ShardReplyBody,
};
use crate::engine::rules::Rules;
use crate::ha::batch::{self, Received};
use crate::ha::command::{Envelope, EnvelopeError, PARTNER_COMMANDS, PageRequest, Reply};
use crate::ha::copy::{self, CopyRequest};
use crate::ha::lease_json::{Listing, write_listing};
use crate::ha::view::HaView;
use crate::http::server::Request;
use crate::limits::{HA_LISTS_WAITING_MAX, HA_STRANGERS_PAGE_LEASES_MAX};
use crate::policy::SubnetFilter;
use crate::runtime::clock;
use crate::runtime::http_serve::{Response, serve};
use crate::runtime::local::Answers;
use crate::runtime::refusals::Refusals;

/// How long a shard has for one lease, and the control node for a command. Below the partner's 10 s, so that it
/// hears what went wrong instead of nothing.
const ANSWER_WITHIN: Duration = Duration::from_millis(9_000);

/// Messages taken from the mesh at a time.
const RECEIVE_MAX: usize = 256;

/// What a listen executor is started with.
pub struct ListenContext {
    /// Place of its relationship in the list.
    pub relationship: u8,
    /// Connections from the acceptor.
    pub accepted: AcceptedQueue,
    /// Own certificate, credentials to demand, where the peers are, and what is known of backups.
    pub shared: HaShared,
    /// `restrict-commands`.
    pub restrict_commands: bool,
    /// Rules in force at the start.
    pub rules: Arc<Rules>,
    /// Refused peers, shared by all listen executors.
    pub refusals: Refusals,
}

/// Runs until the control node tells it to stop with [`Message::Stop`].
///
/// # Errors
/// The executor's eventfd is broken: nothing can reach it any more.
pub async fn run(node: Rc<NodeHandle<Message>>, mut context: ListenContext) -> Result<(), String> {
    let listener = Rc::new(Listener {
        node: node.clone(),
        relationship: context.relationship,
        shared: context.shared.clone(),
        restrict_commands: context.restrict_commands,
        rules: RefCell::new(context.rules.clone()),
        view: RefCell::new(Arc::new(HaView::default())),
        from_shards: Answers::default(),
        from_control: Answers::default(),
        connections: RefCell::default(),
        lists: Default::default(),
        lists_refused: Cell::new(0),
        stopping: Cell::new(false),
        refusals: context.refusals.clone(),
    });
    while !listener.stopping.get() {
        node.receive(Lane::State, RECEIVE_MAX, |_, message| listener.handle_message(message));
        while let Ok(accepted) = context.accepted.pop() {
            Listener::start_serving(&listener, accepted);
        }
        if !listener.stopping.get() {
            node.wait().await.map_err(|error| format!("the mesh of {:?} is broken: {error}", node.id()))?;
        }
    }
    Ok(())
}

struct Listener {
    node: Rc<NodeHandle<Message>>,
    relationship: u8,
    shared: HaShared,
    restrict_commands: bool,
    rules: RefCell<Arc<Rules>>,
    view: RefCell<Arc<HaView>>,
    from_shards: Answers<ShardReply>,
    from_control: Answers<Box<PartnerCall>>,
    connections: RefCell<Places>,
    /// Whose turn it is to be given a list of leases: strangers and peers.
    lists: [Lists; 2],
    /// Lists that nobody was given, because too many were asked for.
    lists_refused: Cell<u64>,
    stopping: Cell<bool>,
    refusals: Refusals,
}

/// Turns for lists of leases.
struct Lists {
    turn: Rc<Semaphore>,
    waiting: Cell<usize>,
}

impl Default for Lists {
    fn default() -> Self {
        Self { turn: Rc::new(Semaphore::new(1)), waiting: Cell::new(0) }
    }
}

impl Listener {
    fn handle_message(&self, message: Message) {
        match message {
            Message::Reply(reply) => self.from_shards.answer(reply.request, *reply),
            Message::Partner(call) => self.from_control.answer(call.request, call),
            // One that waited for room may come after a later one.
            Message::Snapshot(rules) => {
                let mut known = self.rules.borrow_mut();
                if rules.snapshot.epoch >= known.snapshot.epoch {
                    *known = rules;
                }
            }
            Message::HaView(view) => *self.view.borrow_mut() = view,
            Message::Stop => self.stopping.set(true),
            other => log::error!(
                target: "kea-dhcp4.ha-hooks",
                "TANDEM_UNEXPECTED_MESSAGE an HA listener does not take {other:?}"
            ),
        }
    }

    fn start_serving(listener: &Rc<Self>, accepted: super::acceptor::Accepted) {
        let peer = accepted.peer.ip();
        let ends = listener.shared.ends.current();
        let index = ends.peer_at(peer);
        if !listener.connections.borrow_mut().take(index, ends.peers.len()) {
            return listener.refusals.refused(peer, "it has too many connections");
        }
        let listener = listener.clone();
        glommio::spawn_local(async move {
            let tcp = shards::sys::adopt::tcp_stream(accepted.socket);
            let handle = |request| listener.handle(peer, index, request);
            serve(tcp, peer, ends.listen.tls.as_ref(), &listener.refusals, true, handle).await;
            listener.connections.borrow_mut().give_back(index);
        })
        .detach();
    }

    /// Answers one request from the address `from`, of the peer of index `peer`; `None` is of somebody else.
    async fn handle(&self, from: IpAddr, peer: Option<usize>, request: Request) -> Response {
        let authorization = request.authorization.as_deref();
        if !self.shared.ends.current().listen.permits(peer.is_some(), authorization) {
            self.refusals.unauthorized(from, clock::monotonic_ns(), authorization.is_some());
            return Response::Error(401);
        }
        if request.is_octets {
            return match batch::is_batch(&request.body) {
                true => Response::Json(self.batch(&request.body).await.to_http_body()),
                false => Response::Error(400),
            };
        }
        let envelope = match Envelope::parse(&request.body) {
            Ok(envelope) => envelope,
            Err(EnvelopeError::Json(_)) => return Response::Error(400),
            Err(EnvelopeError::Refused(reply)) => return Response::Json(reply.to_http_body()),
        };
        if self.restrict_commands && !PARTNER_COMMANDS.contains(&envelope.command.as_str()) {
            return Response::Error(403);
        }
        match envelope.command.as_str() {
            "lease4-del" | "lease4-update" => match self.lease_change(&envelope) {
                Ok(LeaseChange::At(change)) => {
                    drop(envelope);
                    let answer = self.ask_shard(change.owner, change.body).await;
                    Response::Json(change_reply(change.address, answer).to_http_body())
                }
                // Whose address it has is found out from there.
                Ok(LeaseChange::DeleteOf(_)) => self.ask_control(request.body, peer).await,
                Err(reply) => Response::Json(reply.to_http_body()),
            },
            "lease4-get-page" => match PageRequest::parse(&envelope) {
                Ok(page) if peer.is_none() && page.limit > HA_STRANGERS_PAGE_LEASES_MAX => {
                    let text =
                        format!("a page of more than {HA_STRANGERS_PAGE_LEASES_MAX} leases is for peers");
                    Response::Json(Reply::error(text).to_http_body())
                }
                Ok(page) => {
                    self.note_copy(page.after.is_none(), peer);
                    let limit = Some(usize::try_from(page.limit).unwrap_or(usize::MAX));
                    self.list_in_turn(page.after, limit, peer).await
                }
                Err(reply) => Response::Json(reply.to_http_body()),
            },
            copy::COMMAND => match CopyRequest::parse(&envelope) {
                Ok(request) => {
                    self.note_copy(matches!(request, CopyRequest::Start { .. }), peer);
                    self.copy(request).await
                }
                Err(reply) => Response::Json(reply.to_http_body()),
            },
            "lease4-get-all" if peer.is_none() => Response::Error(403),
            "lease4-get-all" => self.list_in_turn(None, None, peer).await,
            _ => {
                // What was read of it is as large as itself, and is of no more use.
                drop(envelope);
                self.ask_control(request.body, peer).await
            }
        }
    }

    /// A peer may begin to copy all leases.
    fn note_copy(&self, begins: bool, peer: Option<usize>) {
        if let (true, Some(peer)) = (begins, peer) {
            self.shared.standings.begins_copy(peer);
        }
    }

    /// A list of leases, one after the other, so that no more than one of them is in memory for peers and one for
    /// everybody else.
    async fn list_in_turn(
        &self,
        after: Option<Ipv4Addr>,
        limit: Option<usize>,
        peer: Option<usize>,
    ) -> Response {
        let Lists { turn, waiting } = &self.lists[usize::from(peer.is_some())];
        let within = if waiting.get() < HA_LISTS_WAITING_MAX { ANSWER_WITHIN } else { Duration::ZERO };
        waiting.set(waiting.get() + 1);
        let permit = async { Ok(turn.acquire_static_permit(1).await) };
        let permit = glommio::timer::timeout(within, permit).await;
        waiting.set(waiting.get() - 1);
        match permit {
            Ok(Ok(permit)) => Response::List(self.list(after, limit, peer).await, permit),
            Ok(Err(_)) | Err(_) => {
                let refused = self.lists_refused.get() + 1;
                self.lists_refused.set(refused);
                if refused.is_power_of_two() {
                    log::warn!(
                        target: "kea-dhcp4.ha-hooks",
                        "TANDEM_HA_LISTS_REFUSED too many lists of leases are asked for at a time ({refused} so far)"
                    );
                }
                Response::Json(Reply::error("too many lists of leases are asked for").to_http_body())
            }
        }
    }

    /// Many of them: every shard is handed its part before the first answer is waited for.
    async fn batch(&self, body: &[u8]) -> Reply {
        let rules = self.rules.borrow().clone();
        let owner_of = |address| rules.owners.owner_of(address);
        let shards = self.node.topology().shards;
        let subnets = rules.snapshot.as_ref();
        let (mut received, parts) = match Received::read(body, self.relationship, shards, owner_of, subnets) {
            Ok(read) => read,
            Err(reply) => return reply,
        };
        let answered = async {
            let mut asked = Vec::with_capacity(parts.len());
            for (shard, body) in parts {
                let question = self.from_shards.question();
                let command = ShardCommand { request: question.number(), body };
                self.send(self.node.topology().shard(shard), Message::Command(Box::new(command))).await;
                asked.push(question);
            }
            for question in asked {
                let reply = question.await;
                received.handle_reply(reply.shard, Some(&reply.body));
            }
            Ok(())
        };
        // Who has not answered by then has its updates failed.
        let _ = glommio::timer::timeout(ANSWER_WITHIN, answered).await;
        for shard in 0..shards {
            received.handle_reply(shard, None);
        }
        received.finish()
    }

    fn lease_change(&self, envelope: &Envelope) -> Result<LeaseChange, Reply> {
        let rules = self.rules.borrow().clone();
        LeaseChange::parse(envelope, clock::wall_s(), Some(self.relationship), &rules)
    }

    /// Leases of which subnets are given.
    fn given(&self) -> SubnetFilter {
        self.rules.borrow().snapshot.relationships.given(self.relationship)
    }

    /// Lists the leases that are given, of all shards; the whole HTTP body. Which states a backup server knows is not
    /// known.
    async fn list(&self, after: Option<Ipv4Addr>, limit: Option<usize>, peer: Option<usize>) -> Vec<u8> {
        let given = self.given();
        if given.ids().is_some_and(<[u32]>::is_empty) {
            return Answer::leases(Vec::new(), 0, limit.is_some()).render_list();
        }
        let request = ListRequest { after, limit, subnets: given.ids().unwrap_or_default().to_vec() };
        let knows_released = peer.is_none_or(|peer| peer == 0) && self.view.borrow().partner_knows_released;
        let writer: crate::control::gather::LeaseWriter = match knows_released {
            true => |lease, output| write_listing(lease, Listing::AsStored, output),
            false => |lease, output| write_listing(lease, Listing::WithoutReleased, output),
        };
        let shards = self.node.topology().shards;
        let mut gather = Gather::leases(shards, request, writer);
        while !gather.is_complete() {
            let Some((shard, body)) = gather.poll_request() else { break };
            // One shard after the other: a page is a few chunks, and the source serves no clients meanwhile.
            match self.ask_shard_within(shard, body, Duration::from_millis(GATHER_MS)).await {
                Some(body) => gather.handle_reply(shard, body),
                None => break,
            }
        }
        let answer: Answer = gather.finish();
        answer.render_list()
    }

    /// Part of a copy, while clients are served.
    async fn copy(&self, request: CopyRequest) -> Response {
        let mut answer = CopyAnswer::new(self.node.topology().shards, request, self.given());
        while !answer.is_complete() {
            let Some((shard, body)) = answer.poll_request() else { break };
            match self.ask_shard_within(shard, body, Duration::from_millis(GATHER_MS)).await {
                Some(body) => answer.handle_reply(shard, body),
                None => break,
            }
        }
        match answer.finish() {
            Ok(rows) => Response::Rows(rows),
            Err(reply) => Response::Json(reply.to_http_body()),
        }
    }

    async fn ask_shard(&self, shard: u8, body: ShardCommandBody) -> Option<ShardReplyBody> {
        self.ask_shard_within(shard, body, ANSWER_WITHIN).await
    }

    async fn ask_shard_within(
        &self,
        shard: u8,
        body: ShardCommandBody,
        within: Duration,
    ) -> Option<ShardReplyBody> {
        let question = self.from_shards.question();
        let command = ShardCommand { request: question.number(), body };
        let to = self.node.topology().shard(shard);
        let answered = async {
            self.send(to, Message::Command(Box::new(command))).await;
            Ok(question.await)
        };
        glommio::timer::timeout(within, answered).await.ok().map(|reply: ShardReply| reply.body)
    }

    async fn ask_control(&self, body: Vec<u8>, peer: Option<usize>) -> Response {
        let question = self.from_control.question();
        let timeout_ms = u64::try_from(ANSWER_WITHIN.as_millis()).unwrap_or(u64::MAX);
        let call = PartnerCall {
            request: question.number(),
            peer: peer.and_then(|peer| u8::try_from(peer).ok()).unwrap_or(PartnerCall::NO_PEER),
            asker: Some(self.node.id()),
            body,
            timeout_ms,
            line: Line::Shared,
            failure: None,
        };
        let answered = async {
            self.send(self.node.topology().control(), Message::Partner(Box::new(call))).await;
            Ok(question.await)
        };
        match glommio::timer::timeout(ANSWER_WITHIN, answered).await {
            Ok(call) => match call.failure {
                None => Response::Json(call.body),
                Some(failure) => Response::Json(Reply::error(failure).to_http_body()),
            },
            Err(_) => Response::Json(Reply::error("the server did not answer in time").to_http_body()),
        }
    }

    /// Sends, waiting for room in a full lane; the caller's deadline ends the wait.
    async fn send(&self, to: NodeId, message: Message) {
        let mut message = message;
        while let Err(back) = self.node.try_send(to, Lane::State, message) {
            message = back;
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
    }
}
