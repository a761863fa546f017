//! The control node: asks shards and waits for their answers, puts new rules in force, drains before the end.
//!
//! One pump receives everything of the node. Answers go to whoever asked, `SnapshotApplied` to the
//! [`SnapshotLoader`], and what concerns high availability to the handler set with [`ControlNode::set_handler`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use config::Document;
use glommio::timer::timeout;
use shards::runtime::NodeHandle;
use shards::{Lane, NodeId};

use super::server::{ControlRequest, Prepared, Server};
use super::snapshot_loader::SnapshotLoader;
use crate::engine::message::{Message, ShardCommand, ShardCommandBody, ShardReplyBody};
use crate::engine::rules::Rules;
use crate::policy::restart::restart_required;

/// A shard answers a command within this time, or the asker is told that it did not.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Every shard has new rules within this time.
const APPLIED_WITHIN: Duration = Duration::from_secs(30);
/// Every HA executor has them within this time more.
const EXECUTORS_WITHIN: Duration = Duration::from_secs(10);
/// Parked replies may take this long to leave before a clean end.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Messages handled before other tasks of the executor get a turn.
const PUMP_BATCH: usize = 256;

type Handler = Box<dyn FnMut(NodeId, Message)>;
type Farewell = Pin<Box<dyn Future<Output = ()>>>;
type Follower = Box<dyn Fn(&Document)>;

/// The control node. Shared by `Rc` in its executor.
pub struct ControlNode {
    node: Rc<NodeHandle<Message>>,
    server: Arc<Server>,
    loader: RefCell<SnapshotLoader>,
    applied: Signal,
    answers: RefCell<HashMap<u64, Rc<Answer>>>,
    next_request: Cell<u64>,
    handler: RefCell<Option<Handler>>,
    follower: RefCell<Option<Follower>>,
    farewell: RefCell<Option<Farewell>>,
    stopping: Signal,
    reloading: Cell<bool>,
}

/// Why a shard did not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AskError {
    /// Its lane is full.
    #[error("shard {0} is busy")]
    Busy(u8),
    /// It took too long.
    #[error("shard {0} did not answer in time")]
    Late(u8),
}

#[derive(Default)]
struct Answer {
    body: RefCell<Option<ShardReplyBody>>,
    signal: Signal,
}

/// A question; nobody waits for its answer once this is gone.
struct Asked<'a> {
    answers: &'a RefCell<HashMap<u64, Rc<Answer>>>,
    request: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.answers.borrow_mut().remove(&self.request);
    }
}

/// A flag that tasks of this executor wait for.
#[derive(Default)]
struct Signal {
    set: Cell<bool>,
    waiters: RefCell<Vec<Waker>>,
}

impl ControlNode {
    /// The control node of `server`; [`ControlNode::run`] is its pump.
    pub fn new(node: Rc<NodeHandle<Message>>, server: Arc<Server>) -> Rc<Self> {
        Rc::new(Self {
            node,
            server,
            loader: RefCell::default(),
            applied: Signal::default(),
            answers: RefCell::default(),
            next_request: Cell::new(1),
            handler: RefCell::new(None),
            follower: RefCell::new(None),
            farewell: RefCell::new(None),
            stopping: Signal::default(),
            reloading: Cell::new(false),
        })
    }

    /// The node, for sending.
    pub fn node(&self) -> &Rc<NodeHandle<Message>> {
        &self.node
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Who takes messages that are neither answers nor about rules: `Unanswered`, `UpdatesSettled`,
    /// `UnsentUpdates` and `Partner`. The handler may send, and must not wait.
    pub fn set_handler(&self, handler: impl FnMut(NodeId, Message) + 'static) {
        *self.handler.borrow_mut() = Some(Box::new(handler));
    }

    /// Who is told of each document that comes in force after the start. It must not wait.
    pub fn set_follower(&self, follower: impl Fn(&Document) + 'static) {
        *self.follower.borrow_mut() = Some(Box::new(follower));
    }

    /// What is to be done once the server is asked to stop, before shards are drained and executors told.
    pub fn set_farewell(&self, farewell: impl Future<Output = ()> + 'static) {
        *self.farewell.borrow_mut() = Some(Box::pin(farewell));
    }

    /// Waits until the server is asked to stop.
    pub async fn stop_asked(&self) {
        self.stopping.wait().await;
    }

    /// The pump; returns once the server was asked to stop and the shards are drained.
    pub async fn run(self: Rc<Self>) {
        let mut pump = Some(glommio::spawn_local(self.clone().receive()));
        self.stop_asked().await;
        let farewell = self.farewell.borrow_mut().take();
        if let Some(farewell) = farewell {
            farewell.await;
        }
        self.drain().await;
        for node in 0..self.node.topology().nodes() {
            let node = NodeId(node as u8);
            if node != self.node.id() && !self.node.topology().is_shard(node) {
                // An HA executor whose lane is full is left behind at the end of the process.
                let _ = self.node.try_send(node, Lane::State, Message::Stop);
            }
        }
        if let Some(pump) = pump.take() {
            pump.cancel().await;
        }
    }

    /// Asks one shard.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(&self, shard: u8, body: ShardCommandBody) -> Result<ShardReplyBody, AskError> {
        let request = self.next_request.get();
        self.next_request.set(request + 1);
        let answer = Rc::new(Answer::default());
        self.answers.borrow_mut().insert(request, answer.clone());
        // Whoever asks may give up in the middle of the wait.
        let _asked = Asked { answers: &self.answers, request };
        let command = Message::Command(Box::new(ShardCommand { request, body }));
        let sent = self.node.try_send(self.node.topology().shard(shard), Lane::State, command);
        match sent {
            Err(_) => Err(AskError::Busy(shard)),
            Ok(()) => {
                let wait = async {
                    answer.signal.wait().await;
                    Ok(())
                };
                // An error of the timer and the end of patience are the same thing here.
                let _ = timeout(ANSWER_WITHIN, wait).await;
                answer.body.borrow_mut().take().ok_or(AskError::Late(shard))
            }
        }
    }

    /// Puts `prepared` in force on every shard.
    ///
    /// # Errors
    /// What an operator is to be told; the configuration in force stays.
    pub async fn apply(&self, prepared: Prepared) -> Result<(), String> {
        if self.reloading.replace(true) {
            return Err("another configuration is being put in force".to_owned());
        }
        let result = self.apply_alone(prepared).await;
        self.reloading.set(false);
        result
    }

    async fn apply_alone(&self, prepared: Prepared) -> Result<(), String> {
        let active = self.server.active();
        let needs = restart_required(&active.document, &prepared.document);
        if !needs.is_empty() {
            let list: Vec<String> = needs.iter().map(ToString::to_string).collect();
            return Err(format!("a restart is needed: {}", list.join("; ")));
        }
        let stray = self.stray().await?;
        let rules = Arc::new(active.rules.next(prepared.snapshot.clone(), stray));
        self.applied.clear();
        self.loader.borrow_mut().post(&self.node, &rules).map_err(|busy| busy.to_string())?;
        let wait = async {
            self.applied.wait().await;
            Ok(())
        };
        if timeout(APPLIED_WITHIN, wait).await.is_err() {
            return Err("a shard did not take the configuration in time".to_owned());
        }
        self.tell_high_availability(&rules).await;
        let (server, document) = (self.server.clone(), prepared.document.clone());
        glommio::executor().spawn_blocking(move || server.commit(&prepared, rules)).await;
        if let Some(follower) = self.follower.borrow().as_ref() {
            follower(&document);
        }
        Ok(())
    }

    /// HA listeners check leases against the subnets in force and look up owners, senders heed the limit of parked
    /// replies; they need no switch-over. One that takes nothing for so long does not hold up the administrator any
    /// longer, and gets them when it takes something.
    async fn tell_high_availability(&self, rules: &Arc<Rules>) {
        let topology = self.node.topology();
        let listeners = (0..topology.listeners).map(|index| topology.listener(index));
        let senders = (0..topology.senders).map(|index| topology.sender(index));
        let nodes = listeners.chain(senders).collect();
        if !tell_within(EXECUTORS_WITHIN, self.node.clone(), nodes, rules.clone()).await {
            log::warn!(
                target: "kea-dhcp4.dhcp4",
                "TANDEM_HA_EXECUTORS_LATE an HA executor does not take the new configuration in time"
            );
        }
    }

    /// Reads the configuration file again and puts it in force.
    ///
    /// # Errors
    /// What an operator is to be told; the configuration in force stays.
    pub async fn reload(&self) -> Result<(), String> {
        let server = self.server.clone();
        let prepared = glommio::executor().spawn_blocking(move || server.prepare_file()).await;
        let prepared = prepared.map_err(|error| error.to_string())?;
        for warning in &prepared.warnings {
            log::warn!(target: "kea-dhcp4.dhcp4", "TANDEM_CONFIG_WARNING {warning}");
        }
        self.apply(prepared).await
    }

    async fn stray(&self) -> Result<Vec<Ipv4Addr>, String> {
        let mut addresses = Vec::new();
        for shard in 0..self.node.topology().shards {
            match self.ask(shard, ShardCommandBody::Stray).await {
                Ok(ShardReplyBody::Addresses(mut list)) => addresses.append(&mut list),
                Ok(other) => return Err(format!("shard {shard} gave another answer: {other:?}")),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(addresses)
    }

    async fn receive(self: Rc<Self>) {
        loop {
            self.handle_requests();
            let received =
                self.node.receive(Lane::State, PUMP_BATCH, |from, message| self.handle(from, message));
            if received == PUMP_BATCH {
                shards::runtime::give_way().await;
            } else if let Err(error) = self.node.wait().await {
                log::error!(target: "kea-dhcp4.dhcp4", "TANDEM_MESH_WAIT_FAILED control node: {error}");
                glommio::timer::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    fn handle(&self, from: NodeId, message: Message) {
        match message {
            Message::Reply(reply) => {
                // An answer that nobody waits for any more came too late.
                if let Some(answer) = self.answers.borrow().get(&reply.request) {
                    *answer.body.borrow_mut() = Some(reply.body);
                    answer.signal.set();
                }
            }
            Message::SnapshotApplied { epoch, old } => {
                if self.loader.borrow_mut().handle_applied(from, epoch, old) {
                    self.applied.set();
                }
            }
            other => {
                if let Some(handler) = self.handler.borrow_mut().as_mut() {
                    handler(from, other);
                }
            }
        }
    }

    fn handle_requests(self: &Rc<Self>) {
        for request in self.server.take_control_requests() {
            match request {
                ControlRequest::Stop => self.stopping.set(),
                ControlRequest::Reload => {
                    let control = self.clone();
                    glommio::spawn_local(async move {
                        log::info!(target: "kea-dhcp4.dhcp4", "DHCP4_DYNAMIC_RECONFIGURATION initiate server reconfiguration using file: {}, after receiving SIGHUP signal or config-reload command", control.server.call.config.display());
                        match control.reload().await {
                            Ok(()) => log::info!(target: "kea-dhcp4.dhcp4", "DHCP4_DYNAMIC_RECONFIGURATION_SUCCESS dynamic server reconfiguration succeeded with file: {}", control.server.call.config.display()),
                            Err(error) => log::error!(target: "kea-dhcp4.dhcp4", "DHCP4_DYNAMIC_RECONFIGURATION_FAIL dynamic server reconfiguration failed with file: {}: {error}", control.server.call.config.display()),
                        }
                    })
                    .detach();
                }
                ControlRequest::Refresh => {
                    let control = self.clone();
                    glommio::spawn_local(async move { control.refresh().await }).detach();
                }
            }
        }
    }

    /// Compiles the document in force for the host as it is now.
    async fn refresh(&self) {
        let server = self.server.clone();
        let prepare = move || server.prepare(server.active().document);
        let result = match glommio::executor().spawn_blocking(prepare).await {
            Ok(prepared) => self.apply(prepared).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = result {
            log::warn!(target: "kea-dhcp4.dhcp4", "TANDEM_INTERFACES_REFRESH_FAILED {error}");
        }
    }

    /// Waits until what queries in flight have started is committed, with a service that was just switched off; for
    /// `within` at most. A query is forwarded twice at most (design section 7), and each time every shard has taken
    /// what was sent before it was asked.
    pub async fn settle(&self, within: Duration) {
        const FORWARDS_MAX: usize = 2;
        let all = async {
            for _ in 0..=FORWARDS_MAX {
                for shard in 0..self.node.topology().shards {
                    // One that is too busy to be asked is waited for no longer: Kea does not wait at all.
                    let _ = self.ask(shard, ShardCommandBody::Drain).await;
                }
            }
            Ok(())
        };
        let _ = timeout(within, all).await;
    }

    /// Waits until every shard has nothing parked and every row on the disk.
    async fn drain(&self) {
        let all = async {
            for shard in 0..self.node.topology().shards {
                if let Err(error) = self.ask(shard, ShardCommandBody::Drain).await {
                    log::warn!(target: "kea-dhcp4.dhcp4", "TANDEM_DRAIN_INCOMPLETE {error}");
                }
            }
            Ok(())
        };
        if timeout(DRAIN_WITHIN, all).await.is_err() {
            log::warn!(target: "kea-dhcp4.dhcp4", "TANDEM_DRAIN_INCOMPLETE replies still wait for the partner");
        }
    }
}

/// Gives `rules` to every one of `nodes`; false when some had no room for so long. These are told later all the same.
async fn tell_within(
    within: Duration,
    node: Rc<NodeHandle<Message>>,
    nodes: Vec<NodeId>,
    rules: Arc<Rules>,
) -> bool {
    let telling = glommio::spawn_local(tell_all(node, nodes, rules)).detach();
    let told = async {
        telling.await;
        Ok(())
    };
    timeout(within, told).await.is_ok()
}

/// Gives `rules` to every one of `nodes`, each as soon as its lane has room.
async fn tell_all(node: Rc<NodeHandle<Message>>, mut nodes: Vec<NodeId>, rules: Arc<Rules>) {
    loop {
        nodes.retain(|to| node.try_send(*to, Lane::State, Message::Snapshot(rules.clone())).is_err());
        if nodes.is_empty() {
            return;
        }
        glommio::timer::sleep(Duration::from_millis(1)).await;
    }
}

impl Signal {
    fn set(&self) {
        self.set.set(true);
        for waiter in self.waiters.borrow_mut().drain(..) {
            waiter.wake();
        }
    }

    fn clear(&self) {
        self.set.set(false);
    }

    async fn wait(&self) {
        poll_fn(|context| {
            if self.set.get() {
                return Poll::Ready(());
            }
            self.waiters.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use shards::Topology;
    use shards::runtime::{LaneSizes, Placement, mesh, spawn};

    use super::*;
    use crate::runtime::snapshot_loader::tests::rules;

    /// Method: a listener and a sender with room for two messages each; the listener takes nothing until the deadline
    /// has passed.
    #[test]
    fn an_executor_that_takes_nothing_is_waited_for_so_long_and_told_when_it_has_room() {
        const WITHIN: Duration = Duration::from_millis(200);
        let topology = Topology { shards: 1, listeners: 1, senders: 1 };
        let mut ends = mesh::build::<Message>(topology, LaneSizes { datagram: 2, state: 2 }).unwrap();
        let control = ends.pop().unwrap();
        let nodes = vec![topology.listener(0), topology.sender(0)];
        let (verdicts, said) = std::sync::mpsc::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let has_room = taken.clone();
        let executor = spawn("control", Placement::Unpinned, control, move |node| async move {
            while node.try_send(nodes[0], Lane::State, Message::Stop).is_ok() {}
            let start = Instant::now();
            let is_told = tell_within(WITHIN, node.clone(), nodes.clone(), rules(1)).await;
            verdicts.send((is_told, start.elapsed() >= WITHIN)).unwrap();
            while !has_room.load(Ordering::Relaxed) {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            // The task that goes on gives whoever was late the first rules meanwhile.
            glommio::timer::sleep(WITHIN).await;
            tell_within(WITHIN, node, nodes, rules(2)).await
        })
        .unwrap()
        .wait_ready()
        .unwrap();
        assert_eq!(said.recv().unwrap(), (false, true), "the lane is full");
        let rules_at = |index: usize| {
            let mut epochs = Vec::new();
            ends[index].receive(Lane::State, 9, |_, message| {
                if let Message::Snapshot(rules) = message {
                    epochs.push(rules.snapshot.epoch);
                }
            });
            epochs
        };
        assert_eq!([rules_at(1), rules_at(2)], [vec![], vec![1]]);
        taken.store(true, Ordering::Relaxed);
        assert!(executor.join().unwrap(), "there is room");
        assert_eq!([rules_at(1), rules_at(2)], [vec![1, 2], vec![2]]);
    }
}
