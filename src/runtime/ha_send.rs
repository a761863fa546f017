//! An HA send executor: lease updates and commands out to the partner, outcomes back.
//!
//! An address hashes to one sender and a sender has one connection with one request in flight, so updates of one
//! address reach the partner in order (ha-protocol 5.5). Commands of the control node (heartbeats) go over a
//! second connection of the first sender, so that they never wait behind an update, and synchronisation over a
//! third, private one. A connection that was idle for 25 s is given up, and a request that meets a closed
//! connection before the first octet of an answer is sent once more on a new one (ha-protocol 8 no. 4).
//!
//! Updates that wait while a view comes by that asks for none are overtaken: the partner copies all leases when it
//! is back, and an old update sent after that copy would put an older lease in the place of a newer one. They are
//! never sent, and come back as failed.
//!
//! Waiting updates are bounded by the replies parked for them; beyond [`SENDER_WAITING_MAX`] one comes back as
//! failed, its reply is dropped, and its client retransmits.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use shards::runtime::NodeHandle;
use shards::{Lane, NodeId};

use super::clock;
use super::link::{Link, LinkError};
use super::local::Inbox;
use crate::engine::message::{Message, PartnerCall, PartnerUpdate, UpdateOutcome};
use crate::ha::command::lease_update_outcome;
use crate::ha::lease_json::write_update_request;
use crate::ha::view::UpdateMode;
use crate::http::client::{ClientConnection, ClientError, Target};
use crate::limits::SENDER_WAITING_MAX;

/// How long the partner has for a lease update, connecting included (ha-protocol 9).
const UPDATE_TIMEOUT_MS: u64 = 10_000;

/// How long connecting and the handshake may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Messages taken from the mesh at a time.
const RECEIVE_MAX: usize = 256;

/// What a send executor is started with.
#[derive(Clone)]
pub struct SendContext {
    /// Where the partner listens.
    pub partner: SocketAddr,
    /// The certificate shown to the partner and whom to accept; `None` is plain TCP.
    pub tls: Option<Arc<ClientConfig>>,
    /// Host and credentials of requests.
    pub target: Target,
}

/// Runs until the control node sends [`Message::Stop`].
///
/// # Errors
/// The executor's eventfd is broken: nothing can reach it any more.
pub async fn run(node: Rc<NodeHandle<Message>>, context: SendContext) -> Result<(), String> {
    let updates = Inbox::<Box<PartnerUpdate>>::default();
    let calls = Inbox::<Box<PartnerCall>>::default();
    let private = Inbox::<Box<PartnerCall>>::default();
    // Updates committed under an epoch before this one are overtaken.
    let overtaken = Rc::new(Cell::new(0));
    let workers = [
        glommio::spawn_local(send_updates(node.clone(), context.clone(), updates.clone(), overtaken.clone())),
        glommio::spawn_local(make_calls(node.clone(), context.clone(), calls.clone())),
        glommio::spawn_local(make_calls(node.clone(), context, private.clone())),
    ];
    let mut stopping = false;
    let mut refused = Vec::new();
    while !stopping {
        node.receive(Lane::State, RECEIVE_MAX, |_, message| match message {
            Message::Update(update) if updates.len() < SENDER_WAITING_MAX => updates.push(update),
            Message::Update(update) => refused.push(update),
            Message::Partner(call) if call.private => private.push(call),
            Message::Partner(call) => calls.push(call),
            Message::HaView(view) if view.updates != UpdateMode::Send => overtaken.set(view.epoch),
            // Rules are for shards and listeners; what a sender sends is settled by the shard.
            Message::HaView(_) | Message::Snapshot(_) => {}
            Message::Stop => stopping = true,
            other => log::error!(
                target: "kea-dhcp4.ha-hooks",
                "TANDEM_UNEXPECTED_MESSAGE an HA sender does not take {other:?}"
            ),
        });
        for mut update in refused.drain(..) {
            update.outcome = Some(UpdateOutcome::Failed);
            return_update(&node, update).await;
        }
        if !stopping {
            node.wait().await.map_err(|error| format!("the mesh of {:?} is broken: {error}", node.id()))?;
        }
    }
    for worker in workers {
        worker.cancel().await;
    }
    Ok(())
}

async fn send_updates(
    node: Rc<NodeHandle<Message>>,
    context: SendContext,
    inbox: Inbox<Box<PartnerUpdate>>,
    overtaken: Rc<Cell<u64>>,
) {
    let mut connection = Connection::new(context);
    let mut body = Vec::new();
    loop {
        let mut update = connection.next(&inbox).await;
        body.clear();
        write_update_request(update.kind, &update.lease, &mut body);
        let epoch = update.epoch;
        let outcome = match connection.exchange(&body, UPDATE_TIMEOUT_MS, || epoch >= overtaken.get()).await {
            Ok(answer) => lease_update_outcome(&answer),
            Err(_) => UpdateOutcome::Failed,
        };
        update.outcome = Some(outcome);
        return_update(&node, update).await;
    }
}

async fn make_calls(node: Rc<NodeHandle<Message>>, context: SendContext, inbox: Inbox<Box<PartnerCall>>) {
    let mut connection = Connection::new(context);
    loop {
        let mut call = connection.next(&inbox).await;
        if call.body.is_empty() {
            connection.close().await;
            continue;
        }
        match connection.exchange(&call.body, call.timeout_ms, || true).await {
            Ok(body) => call.body = body,
            Err(failure) => {
                call.body = Vec::new();
                call.failure = Some(failure);
            }
        }
        send(&node, node.topology().control(), Message::Partner(call)).await;
    }
}

/// The box goes back to the shard whose query waits for it.
async fn return_update(node: &NodeHandle<Message>, update: Box<PartnerUpdate>) {
    let shard = node.topology().shard(update.park.shard);
    send(node, shard, Message::UpdateDone(update)).await;
}

/// Sends, waiting for room in a full lane: an outcome must not be lost.
async fn send(node: &NodeHandle<Message>, to: NodeId, message: Message) {
    let mut message = message;
    while let Err(back) = node.try_send(to, Lane::State, message) {
        message = back;
        glommio::timer::sleep(Duration::from_millis(1)).await;
    }
}

/// A connection to the partner, made when it is needed.
struct Connection {
    context: SendContext,
    open: Option<(Link, ClientConnection)>,
    output: Vec<u8>,
    input: Vec<u8>,
}

impl Connection {
    fn new(context: SendContext) -> Self {
        Self { context, open: None, output: Vec::new(), input: Vec::new() }
    }

    /// The next item of `inbox`; meanwhile a connection that stays idle for too long is closed.
    async fn next<T>(&mut self, inbox: &Inbox<T>) -> T {
        let idle_until = self.open.as_ref().and_then(|(_, http)| http.next_timeout());
        if let Some(until) = idle_until {
            let within = Duration::from_nanos(until.saturating_sub(clock::monotonic_ns()))
                .max(Duration::from_millis(1));
            match glommio::timer::timeout(within, async { Ok(inbox.pop().await) }).await {
                Ok(item) => return item,
                Err(_) => self.close().await,
            }
        }
        inbox.pop().await
    }

    async fn close(&mut self) {
        if let Some((link, _)) = self.open.take() {
            link.close().await;
        }
    }

    /// Sends `body` and gives the body of the answer, or why there is none. `timeout_ms` of 0 waits for ever.
    /// `is_wanted` is asked last before the body is sent, once there is a connection.
    async fn exchange(
        &mut self,
        body: &[u8],
        timeout_ms: u64,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Vec<u8>, String> {
        let mut attempt = self.attempt(body, timeout_ms, &is_wanted).await;
        if let Err(Failure::Retry) = attempt {
            attempt = self.attempt(body, timeout_ms, &is_wanted).await;
        }
        attempt.map_err(|failure| match failure {
            Failure::Final(reason) => reason,
            Failure::Retry => ClientError::Closed.to_string(),
        })
    }

    async fn attempt(
        &mut self,
        body: &[u8],
        timeout_ms: u64,
        is_wanted: &impl Fn() -> bool,
    ) -> Result<Vec<u8>, Failure> {
        const OVERTAKEN: &str = "overtaken by a change of state";
        if !is_wanted() {
            return Err(Failure::Final(OVERTAKEN.to_owned()));
        }
        let (mut link, mut http) = match self.open.take() {
            Some((link, http)) if http.is_usable(clock::monotonic_ns()) => (link, http),
            _ => self.connect(timeout_ms).await.map_err(|error| Failure::Final(error.to_string()))?,
        };
        if !is_wanted() {
            self.open = Some((link, http));
            return Err(Failure::Final(OVERTAKEN.to_owned()));
        }
        self.output.clear();
        http.send(clock::monotonic_ns(), body, timeout_ms, &mut self.output);
        if let Err(error) = link.write(&self.output).await {
            return Err(Failure::of(error, http.may_retry()));
        }
        loop {
            let within =
                http.next_timeout().map(|at| Duration::from_nanos(at.saturating_sub(clock::monotonic_ns())));
            self.input.clear();
            let may_retry = http.may_retry();
            let response = match link.read(&mut self.input, within).await {
                Ok(true) => http.handle_bytes(clock::monotonic_ns(), &self.input),
                Ok(false) if may_retry => return Err(Failure::Retry),
                Ok(false) => http
                    .handle_end()
                    .and_then(|response| response.map_or(Err(ClientError::Closed), |whole| Ok(Some(whole)))),
                Err(LinkError::TimedOut) => match http.handle_timeout(clock::monotonic_ns()) {
                    // The timer fired a moment early.
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Err(error) => return Err(Failure::of(error, may_retry)),
            };
            match response {
                Ok(None) => {}
                Ok(Some(response)) => {
                    if http.is_dead() {
                        link.close().await;
                    } else {
                        self.open = Some((link, http));
                    }
                    return Ok(response.body);
                }
                Err(error) => return Err(Failure::Final(error.to_string())),
            }
        }
    }

    async fn connect(&self, timeout_ms: u64) -> Result<(Link, ClientConnection), LinkError> {
        let within = match timeout_ms {
            0 => CONNECT_WITHIN,
            limit => CONNECT_WITHIN.min(Duration::from_millis(limit)),
        };
        let link = Link::connect(self.context.partner, self.context.tls.as_ref(), within).await?;
        Ok((link, ClientConnection::new(clock::monotonic_ns(), self.context.target.clone())))
    }
}

enum Failure {
    Final(String),
    /// The partner closed an idle connection at the moment it was used again.
    Retry,
}

impl Failure {
    fn of(error: LinkError, may_retry: bool) -> Self {
        match error {
            LinkError::Io(_) if may_retry => Self::Retry,
            error => Self::Final(error.to_string()),
        }
    }
}
