//! An HA send executor: lease updates and commands out to the other servers, outcomes back.
//!
//! An address hashes to one sender and a sender has one connection to each peer with one request in flight, so updates
//! of one address reach each peer in order (ha-protocol 5.5). Commands of the control node go over further connections
//! of the first sender, one for each [`Line`], so that a heartbeat never waits behind an update, nor maintenance behind
//! a page of leases. TLS sessions are taken up again only towards a partner that has announced itself as Tandem: a
//! Kea 2.2 ends every such attempt with an alert.
//!
//! Waiting updates of the partner are bounded by the replies parked for them; beyond [`SENDER_WAITING_MAX`] one comes
//! back as failed, its reply is dropped, and its client retransmits. Which of them go into the next request, and which
//! must not be sent any more, is the [`Outbox`]'s to say. Those for a backup are bounded by [`BACKUP_WAITING_MAX`]:
//! nobody waits for them, and what is lost is said of the backup ([`Standings`]). A backup that cannot be reached is
//! left alone for a moment, so that its updates do not pile up behind attempts that last ten seconds each.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use shards::runtime::NodeHandle;
use shards::{Lane, NodeId};

use super::backup::Standings;
use super::connection::{Connection, NO_SUCH_PEER, OVERTAKEN};
use super::ends::SharedEnds;
use crate::engine::message::{Line, Message, PartnerCall, PartnerUpdate, UpdateOutcome};
use crate::engine::rules::Rules;
use crate::ha::event::exchange_limit_ms;
use crate::ha::log::{Described, TARGET};
use crate::ha::outbox::{self, Outbox, Pace, Taken, Waiting};
use crate::ha::view::HaView;
use crate::limits::{
    BACKUP_WAITING_MAX, HTTP_REQUEST_BODY_OCTETS_MAX, HTTP_RESPONSE_BODY_OCTETS_MAX, SENDER_WAITING_MAX,
};
use crate::runtime::clock;
use crate::runtime::local::Inbox;

/// Messages taken from the mesh at a time.
const RECEIVE_MAX: usize = 256;

/// A backup that could not be reached is not tried again for this time.
const BACKUP_LEFT_ALONE_NS: u64 = 1_000_000_000;

/// What a send executor is started with.
#[derive(Clone)]
pub struct SendContext {
    /// Where the peers listen, and what is shown to them.
    pub ends: SharedEnds,
    /// What is known of backups.
    pub standings: Standings,
    /// Rules in force at the start.
    pub rules: Arc<Rules>,
}

/// What a sender logs of each kind of trouble with updates: one message in this time, with how often it came.
const TROUBLE_LOGGED_EVERY_NS: u64 = 10 * 1_000_000_000;

/// Runs until the control node sends [`Message::Stop`].
///
/// # Errors
/// The executor's eventfd is broken: nothing can reach it any more.
pub async fn run(node: Rc<NodeHandle<Message>>, context: SendContext) -> Result<(), String> {
    let count = context.ends.current().peers.len();
    let sender = Rc::new(Sender {
        node: node.clone(),
        standings: context.standings.clone(),
        peers: (0..count).map(|peer| Peer::new(context.standings.is_backup(peer), stream(&node))).collect(),
        failed: Inbox::default(),
        paced_max: Cell::new(paced_max(&node, &context.rules)),
        exchanging: Cell::new(0),
        stopping: Cell::new(false),
    });
    let mut workers = vec![glommio::spawn_local(return_failed(node.clone(), sender.failed.clone()))];
    workers.extend((0..count).flat_map(|peer| Sender::start(&sender, &context, peer)));
    while !sender.stopping.get() {
        sender.receive();
        if !sender.stopping.get() {
            node.wait().await.map_err(|error| format!("the mesh of {:?} is broken: {error}", node.id()))?;
        }
    }
    for worker in workers {
        worker.cancel().await;
    }
    for (index, peer) in sender.peers.iter().enumerate() {
        let left = peer.outbox.borrow().len() + peer.under_way.get();
        sender.standings.lost(index, left, "this server ends");
    }
    Ok(())
}

/// The stream of the updates that go out here: addresses are dealt to the senders of a server for good.
fn stream(node: &NodeHandle<Message>) -> u8 {
    node.id().0 - node.topology().sender(0).0
}

/// What the tasks of a sender share.
struct Sender {
    node: Rc<NodeHandle<Message>>,
    standings: Standings,
    peers: Vec<Peer>,
    /// Updates that go back without having been sent.
    failed: Inbox<Box<PartnerUpdate>>,
    /// Updates that count in the pace of requests at most.
    paced_max: Cell<usize>,
    /// Peers whose request with updates is under way.
    exchanging: Cell<usize>,
    stopping: Cell<bool>,
}

impl Sender {
    /// Takes what the mesh has, as far as one turn goes; whether there may be more.
    fn receive(&self) -> bool {
        let now_ns = clock::monotonic_ns();
        let mut overtaken = Vec::new();
        let handle = |_, message| match message {
            Message::Update(update) => self.push(now_ns, update),
            Message::Partner(call) => self.pass_call(call),
            Message::HaView(view) => {
                for peer in &self.peers {
                    peer.set_view(&view, &mut overtaken);
                    overtaken.drain(..).for_each(|waiting| self.failed.push(waiting.update));
                }
            }
            Message::Snapshot(rules) => self.paced_max.set(paced_max(&self.node, &rules)),
            Message::Stop => self.stopping.set(true),
            other => {
                log::error!(target: TARGET, "TANDEM_UNEXPECTED_MESSAGE an HA sender does not take {other:?}");
            }
        };
        self.node.receive(Lane::State, RECEIVE_MAX, handle) == RECEIVE_MAX
    }

    /// Gives an update to its peer; one there is no room for goes back.
    fn push(&self, now_ns: u64, update: Box<PartnerUpdate>) {
        let index = usize::from(update.peer);
        let Some(peer) = self.peers.get(index) else { return self.failed.push(update) };
        match peer.outbox.borrow_mut().push(now_ns, update) {
            Ok(()) if peer.signal.is_empty() => peer.signal.push(()),
            Ok(()) => {}
            Err(update) => {
                self.standings.lost(index, 1, "too many wait for it");
                self.failed.push(update);
            }
        }
    }

    /// Gives a call to its peer; one for a peer that is not there comes back with that.
    fn pass_call(&self, mut call: Box<PartnerCall>) {
        match self.peers.get(usize::from(call.peer)) {
            Some(peer) => peer.line(call.line).push(call),
            None => {
                call.failure = Some(NO_SUCH_PEER.to_owned());
                let node = self.node.clone();
                glommio::spawn_local(async move {
                    send(&node, node.topology().control(), Message::Partner(call)).await;
                })
                .detach();
            }
        }
    }

    /// A request with updates begins. While every peer has one under way, nothing can be done with more of them.
    fn begin_exchange(&self) {
        self.exchanging.set(self.exchanging.get() + 1);
        if self.exchanging.get() == self.peers.len() {
            // Something that has waited is asked for when patience ends.
            self.node.set_patient(true);
        }
    }

    fn end_exchange(&self) {
        self.exchanging.set(self.exchanging.get() - 1);
        if self.node.set_patient(false) {
            while self.receive() {}
        }
    }

    /// The tasks that speak to the peer of index `index`.
    fn start(sender: &Rc<Self>, context: &SendContext, index: usize) -> [glommio::Task<()>; 4] {
        let (node, peer) = (&sender.node, &sender.peers[index]);
        // Only a page of leases may be long.
        let (short, long) = (HTTP_REQUEST_BODY_OCTETS_MAX, HTTP_RESPONSE_BODY_OCTETS_MAX);
        let connection =
            |octets_max| Connection::new(context.ends.clone(), index, octets_max, peer.resumes.clone());
        let updates = UpdateSender {
            sender: sender.clone(),
            connection: connection(short),
            index,
            pace: Pace::default(),
            left_alone_until_ns: 0,
            refusals: TroubleLog::default(),
            trouble: TroubleLog::default(),
        };
        [
            glommio::spawn_local(updates.run()),
            glommio::spawn_local(make_calls(node.clone(), connection(long), peer.copies.clone())),
            glommio::spawn_local(make_calls(node.clone(), connection(short), peer.private.clone())),
            glommio::spawn_local(make_calls(node.clone(), connection(short), peer.shared.clone())),
        ]
    }
}

/// Updates that count in the pace of a sender's requests at most.
fn paced_max(node: &NodeHandle<Message>, rules: &Rules) -> usize {
    Pace::updates_max(rules.snapshot.parked_max() / usize::from(node.topology().senders.max(1)))
}

/// What the task that takes messages shares with the tasks of one peer.
struct Peer {
    outbox: RefCell<Outbox>,
    /// Updates of the request that is under way.
    under_way: Cell<usize>,
    /// Wakes the task that sends updates.
    signal: Inbox<()>,
    /// Calls that wait for the connection of each line.
    copies: Inbox<Box<PartnerCall>>,
    private: Inbox<Box<PartnerCall>>,
    shared: Inbox<Box<PartnerCall>>,
    /// Whether TLS sessions are taken up again.
    resumes: Rc<Cell<bool>>,
}

impl Peer {
    fn new(is_backup: bool, stream: u8) -> Self {
        let outbox = match is_backup {
            true => Outbox::for_backup(BACKUP_WAITING_MAX),
            false => Outbox::new(SENDER_WAITING_MAX, stream),
        };
        Self {
            outbox: RefCell::new(outbox),
            under_way: Cell::new(0),
            signal: Inbox::default(),
            copies: Inbox::default(),
            private: Inbox::default(),
            shared: Inbox::default(),
            resumes: Rc::new(Cell::new(false)),
        }
    }

    fn line(&self, line: Line) -> &Inbox<Box<PartnerCall>> {
        match line {
            Line::Copy => &self.copies,
            Line::Private => &self.private,
            Line::Shared => &self.shared,
        }
    }

    fn set_view(&self, view: &HaView, overtaken: &mut Vec<Waiting>) {
        let mut outbox = self.outbox.borrow_mut();
        outbox.set_view(view, overtaken);
        // A Kea takes one update at a time; whoever announces more is a Tandem.
        self.resumes.set(!outbox.is_for_backup() && view.partner_batch_max > 1);
    }
}

/// Sends the updates of one peer.
struct UpdateSender {
    sender: Rc<Sender>,
    connection: Connection,
    index: usize,
    pace: Pace,
    /// A backup that could not be reached is not tried before this, on the monotonic clock.
    left_alone_until_ns: u64,
    refusals: TroubleLog,
    trouble: TroubleLog,
}

impl UpdateSender {
    async fn run(mut self) {
        let mut body = Vec::new();
        let mut taken: Vec<Waiting> = Vec::new();
        loop {
            let next = self.outbox().take(clock::monotonic_ns(), &mut taken);
            let outcomes = match next {
                Taken::Nothing => {
                    let sender = self.sender.clone();
                    self.connection.next(&sender.peers[self.index].signal).await;
                    continue;
                }
                Taken::Late => Err("no time left".to_owned()),
                Taken::Batch(left_ms) => {
                    body.clear();
                    self.outbox().write_request(&taken, &mut body);
                    self.pace.handle_sent(clock::monotonic_ns(), taken.len(), self.sender.paced_max.get());
                    self.sender.peers[self.index].under_way.set(taken.len());
                    self.sender.begin_exchange();
                    self.exchange(&body, left_ms, &taken).await
                }
            };
            self.take_stock(&taken, outcomes.as_deref());
            self.sender.peers[self.index].under_way.set(0);
            let mut outcomes = outcomes.into_iter().flatten();
            for waiting in taken.drain(..) {
                let outcome = outcomes.next().unwrap_or(UpdateOutcome::Failed);
                return_update(&self.sender.node, waiting.update, outcome).await;
            }
            if matches!(next, Taken::Batch(_)) {
                let left_ns = self.pace.left_ns(clock::monotonic_ns());
                if left_ns > 0 {
                    glommio::timer::sleep(Duration::from_nanos(left_ns)).await;
                }
                self.sender.end_exchange();
            }
        }
    }

    fn outbox(&self) -> RefMut<'_, Outbox> {
        self.sender.peers[self.index].outbox.borrow_mut()
    }

    /// How each of `taken` ended.
    async fn exchange(
        &mut self,
        body: &[u8],
        left_ms: u64,
        taken: &[Waiting],
    ) -> Result<Vec<UpdateOutcome>, String> {
        if clock::monotonic_ns() < self.left_alone_until_ns {
            return Err("it could not be reached a moment ago".to_owned());
        }
        let sender = self.sender.clone();
        let is_wanted = || sender.peers[self.index].outbox.borrow().is_wanted(clock::monotonic_ns(), taken);
        match self.connection.exchange(body, left_ms, left_ms, is_wanted).await {
            Ok(answer) => outcomes(body, &answer, taken, &mut self.refusals),
            Err(reason) => {
                if reason != OVERTAKEN {
                    self.trouble.failed(&reason);
                }
                if self.sender.standings.is_backup(self.index) {
                    self.left_alone_until_ns = clock::monotonic_ns() + BACKUP_LEFT_ALONE_NS;
                }
                Err(reason)
            }
        }
    }

    /// What a backup did not take, it lacks.
    fn take_stock(&self, taken: &[Waiting], outcomes: Result<&[UpdateOutcome], &String>) {
        match outcomes {
            Ok(outcomes) => {
                let lost = outcomes.iter().filter(|outcome| **outcome != UpdateOutcome::Acked).count();
                self.sender.standings.lost(self.index, lost, "it refuses leases");
            }
            Err(reason) => self.sender.standings.lost(self.index, taken.len(), reason),
        }
    }
}

/// How each of `sent` ended.
///
/// # Errors
/// The answer says nothing of them; in words.
fn outcomes(
    request: &[u8],
    answer: &[u8],
    sent: &[Waiting],
    refusals: &mut TroubleLog,
) -> Result<Vec<UpdateOutcome>, String> {
    let (outcomes, text) =
        outbox::outcomes(request, answer, sent.len()).map_err(|error| error.to_string())?;
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
                "HA_LEASE_UPDATE_FAILED the partner refuses the lease of {}, {}, and its client gets no answer: {text} \
                 ({total} since the last such message)",
                update.lease.address,
                Described(&update.lease)
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

async fn make_calls(
    node: Rc<NodeHandle<Message>>,
    mut connection: Connection,
    inbox: Inbox<Box<PartnerCall>>,
) {
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

/// Sends back what was not sent.
async fn return_failed(node: Rc<NodeHandle<Message>>, failed: Inbox<Box<PartnerUpdate>>) {
    loop {
        return_update(&node, failed.pop().await, UpdateOutcome::Failed).await;
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
