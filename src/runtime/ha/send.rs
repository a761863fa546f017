//! An HA send executor: lease updates and commands out to the partner, outcomes back.
//!
//! An address hashes to one sender and a sender has one connection with one request in flight, so updates of one
//! address reach the partner in order (ha-protocol 5.5). Commands of the control node (heartbeats) go over a
//! second connection of the first sender, so that they never wait behind an update, and synchronisation over a
//! third, private one. A connection that was idle for 25 s is given up, and a request that meets a closed
//! connection before the first octet of an answer is sent once more on a new one (ha-protocol 8 no. 4).
//!
//! Waiting updates are bounded by the replies parked for them; beyond [`SENDER_WAITING_MAX`] one comes back as
//! failed, its reply is dropped, and its client retransmits. Which of them go into the next request, and which must
//! not be sent any more, is the [`Outbox`]'s to say.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use shards::runtime::NodeHandle;
use shards::{Lane, NodeId};

use crate::engine::message::{Message, PartnerCall, PartnerUpdate, UpdateOutcome};
use crate::ha::event::exchange_limit_ms;
use crate::ha::log::TARGET;
use crate::ha::outbox::{self, Outbox, Taken, Waiting};
use crate::http::client::{ClientConnection, ClientError, Target};
use crate::limits::SENDER_WAITING_MAX;
use crate::runtime::clock;
use crate::runtime::link::{Link, LinkError};
use crate::runtime::local::Inbox;

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

/// Why an update was not sent that is not to be sent any more: no trouble.
const OVERTAKEN: &str = "overtaken by a change of state";

/// What a sender logs of each kind of trouble with updates: one message in this time, with how often it came.
const TROUBLE_LOGGED_EVERY_NS: u64 = 10 * 1_000_000_000;

/// Runs until the control node sends [`Message::Stop`].
///
/// # Errors
/// The executor's eventfd is broken: nothing can reach it any more.
pub async fn run(node: Rc<NodeHandle<Message>>, context: SendContext) -> Result<(), String> {
    let updates = Rc::new(Updates::default());
    let calls = Inbox::<Box<PartnerCall>>::default();
    let private = Inbox::<Box<PartnerCall>>::default();
    let workers = [
        glommio::spawn_local(send_updates(node.clone(), context.clone(), updates.clone())),
        glommio::spawn_local(make_calls(node.clone(), context.clone(), calls.clone())),
        glommio::spawn_local(make_calls(node.clone(), context, private.clone())),
    ];
    let mut stopping = false;
    let (mut failed, mut overtaken) = (Vec::new(), Vec::new());
    while !stopping {
        node.receive(Lane::State, RECEIVE_MAX, |_, message| match message {
            Message::Update(update) => failed.extend(updates.push(update).err()),
            Message::Partner(call) if call.private => private.push(call),
            Message::Partner(call) => calls.push(call),
            Message::HaView(view) => {
                updates.outbox.borrow_mut().set_view(&view, &mut overtaken);
                failed.extend(overtaken.drain(..).map(|waiting| waiting.update));
            }
            // Rules are for shards and listeners.
            Message::Snapshot(_) => {}
            Message::Stop => stopping = true,
            other => {
                log::error!(target: TARGET, "TANDEM_UNEXPECTED_MESSAGE an HA sender does not take {other:?}");
            }
        });
        for update in failed.drain(..) {
            return_update(&node, update, UpdateOutcome::Failed).await;
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

/// What the task that takes messages and the task that sends updates share.
struct Updates {
    outbox: RefCell<Outbox>,
    /// Wakes the task that sends.
    signal: Inbox<()>,
}

impl Default for Updates {
    fn default() -> Self {
        Self { outbox: RefCell::new(Outbox::new(SENDER_WAITING_MAX)), signal: Inbox::default() }
    }
}

impl Updates {
    fn push(&self, update: Box<PartnerUpdate>) -> Result<(), Box<PartnerUpdate>> {
        self.outbox.borrow_mut().push(clock::monotonic_ns(), update)?;
        if self.signal.is_empty() {
            self.signal.push(());
        }
        Ok(())
    }
}

async fn send_updates(node: Rc<NodeHandle<Message>>, context: SendContext, updates: Rc<Updates>) {
    let mut connection = Connection::new(context);
    let (mut refusals, mut trouble) = (TroubleLog::default(), TroubleLog::default());
    let mut body = Vec::new();
    let mut taken: Vec<Waiting> = Vec::new();
    loop {
        let next = updates.outbox.borrow_mut().take(clock::monotonic_ns(), &mut taken);
        let left_ms = match next {
            Taken::Batch(left_ms) => left_ms,
            Taken::Late => {
                for waiting in taken.drain(..) {
                    return_update(&node, waiting.update, UpdateOutcome::Failed).await;
                }
                continue;
            }
            Taken::Nothing => {
                connection.next(&updates.signal).await;
                continue;
            }
        };
        body.clear();
        outbox::write_request(&taken, &mut body);
        let is_wanted = || updates.outbox.borrow().is_wanted(&taken);
        let answer = connection.exchange(&body, left_ms, left_ms, is_wanted).await;
        let outcomes = answer.and_then(|answer| outcomes(&answer, &taken, &mut refusals));
        if let Err(reason) = outcomes.as_ref()
            && reason != OVERTAKEN
        {
            trouble.failed(reason);
        }
        let mut outcomes = outcomes.into_iter().flatten();
        for waiting in taken.drain(..) {
            let outcome = outcomes.next().unwrap_or(UpdateOutcome::Failed);
            return_update(&node, waiting.update, outcome).await;
        }
    }
}

/// How each of `sent` ended.
///
/// # Errors
/// The answer says nothing of them; in words.
fn outcomes(
    answer: &[u8],
    sent: &[Waiting],
    refusals: &mut TroubleLog,
) -> Result<Vec<UpdateOutcome>, String> {
    let (outcomes, text) = outbox::outcomes(answer, sent.len()).map_err(|error| error.to_string())?;
    let is_refused = |outcome: &UpdateOutcome| *outcome != UpdateOutcome::Acked;
    if let Some(first) = outcomes.iter().position(is_refused) {
        let count = outcomes.iter().filter(|outcome| is_refused(outcome)).count();
        refusals.refused(&sent[first].update, count, text.as_deref().unwrap_or("no reason given"));
    }
    Ok(outcomes)
}

/// Says what is wrong with updates without filling the log: every query comes to the same while it lasts.
#[derive(Default)]
struct TroubleLog {
    quiet_until_ns: u64,
    unsaid: usize,
}

impl TroubleLog {
    /// The partner has refused `count` updates, this one first.
    fn refused(&mut self, update: &PartnerUpdate, count: usize, text: &str) {
        if let Some(total) = self.is_due(count) {
            log::warn!(
                target: TARGET,
                "HA_LEASE_UPDATE_FAILED the partner refuses the lease of {}, and its client gets no answer: {text} \
                 ({total} since the last such message)",
                update.lease.address
            );
        }
    }

    /// A request has come to nothing. The HA machine says that the partner is lost; this says what was seen of it.
    fn failed(&mut self, reason: &str) {
        if let Some(total) = self.is_due(1) {
            log::warn!(
                target: TARGET,
                "TANDEM_LEASE_UPDATE_FAILED a request with lease updates has failed: {reason} ({total} since the last \
                 such message)"
            );
        }
    }

    /// How many there were, if it is time to say so.
    fn is_due(&mut self, count: usize) -> Option<usize> {
        self.unsaid += count;
        let now_ns = clock::monotonic_ns();
        if now_ns < self.quiet_until_ns {
            return None;
        }
        self.quiet_until_ns = now_ns + TROUBLE_LOGGED_EVERY_NS;
        Some(std::mem::take(&mut self.unsaid))
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
        match connection
            .exchange(&call.body, call.timeout_ms, exchange_limit_ms(call.timeout_ms), || true)
            .await
        {
            Ok(body) => call.body = body,
            Err(failure) => {
                call.body = Vec::new();
                call.failure = Some(failure);
            }
        }
        send(&node, node.topology().control(), Message::Partner(call)).await;
    }
}

/// The box goes back to the shard it came from.
async fn return_update(node: &NodeHandle<Message>, mut update: Box<PartnerUpdate>, outcome: UpdateOutcome) {
    update.outcome = Some(outcome);
    let shard = node.topology().shard(update.shard);
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

    /// Sends `body` and gives the body of the answer, or why there is none. Every byte of the answer restarts the wait
    /// of `timeout_ms` (0: none), but everything together takes `limit_ms` at most. `is_wanted` is asked last before the
    /// body is sent, once there is a connection.
    async fn exchange(
        &mut self,
        body: &[u8],
        timeout_ms: u64,
        limit_ms: u64,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Vec<u8>, String> {
        let until_ns = clock::monotonic_ns().saturating_add(limit_ms.saturating_mul(1_000_000));
        let mut attempt = self.attempt(body, timeout_ms, until_ns, &is_wanted).await;
        if let Err(Failure::Retry) = attempt {
            attempt = self.attempt(body, timeout_ms, until_ns, &is_wanted).await;
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
        until_ns: u64,
        is_wanted: &impl Fn() -> bool,
    ) -> Result<Vec<u8>, Failure> {
        if !is_wanted() {
            return Err(Failure::Final(OVERTAKEN.to_owned()));
        }
        let (mut link, mut http) = match self.open.take() {
            Some((link, http)) if http.is_usable(clock::monotonic_ns()) => (link, http),
            _ => {
                self.connect(timeout_ms, until_ns).await.map_err(|error| Failure::Final(error.to_string()))?
            }
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
            let now_ns = clock::monotonic_ns();
            if now_ns >= until_ns {
                return Err(Failure::Final(ClientError::TimedOut.to_string()));
            }
            let at_ns = http.next_timeout().map_or(until_ns, |at| at.min(until_ns));
            let within = Some(Duration::from_nanos(at_ns.saturating_sub(now_ns)));
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

    async fn connect(&self, timeout_ms: u64, until_ns: u64) -> Result<(Link, ClientConnection), LinkError> {
        let left = Duration::from_nanos(until_ns.saturating_sub(clock::monotonic_ns()));
        let within = match timeout_ms {
            0 => CONNECT_WITHIN,
            limit => CONNECT_WITHIN.min(Duration::from_millis(limit)).min(left),
        };
        if within.is_zero() {
            return Err(LinkError::TimedOut);
        }
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
