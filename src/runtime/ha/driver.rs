//! Drives one HA machine on the control node: calls through the first sender of its relationship, pages to the owner
//! shards, the view to them and to the relationship's executors, timers, the log. Without high availability it drives
//! the service switch instead.
//!
//! Decides nothing: every `if` about states is the machine's.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use shards::{Lane, Lease, NodeId};

use crate::control::service::ServiceSwitch;
use crate::engine::message::{
    Applied, CopySlice, Message, PartnerCall, PartnerUpdate, ShardCommandBody, ShardReplyBody, UpdateKind,
};
use crate::ha::command::{HaCommand, Reply};
use crate::ha::copy::CopyRows;
use crate::ha::event::{Action, Call, CallId, ClientIdentity, CommandSource, Event};
use crate::ha::machine::Machine;
use crate::ha::nodes::HaNodes;
use crate::ha::relationship::Relationship;
use crate::ha::view::HaView;
use crate::limits;
use crate::runtime::clock;
use crate::runtime::control_node::{AskError, ControlNode};
use crate::runtime::local::{Answers, Inbox};

/// How long the end of the server waits for its partner to take notice.
const FAREWELL_WITHIN: Duration = Duration::from_millis(600);
/// How long the answer to `dhcp-disable` waits for queries in flight (ha-protocol 5.11).
const SETTLE_WITHIN: Duration = Duration::from_millis(100);

/// How long a shard may have no room for leases of a copy.
const APPLY_WITHIN_NS: u64 = 10 * 1_000_000_000;

/// The HA side of the control node. Shared by `Rc` in its executor.
pub struct HaDriver {
    control: Rc<ControlNode>,
    /// Place of the relationship in the list.
    relationship: u8,
    nodes: HaNodes,
    kind: RefCell<Kind>,
    view: RefCell<Arc<HaView>>,
    commands: Answers<Reply>,
    /// Whether a node has not got the view in force yet, because its lane was full.
    posting: Cell<bool>,
    /// The partner knows that the server stops.
    stop_announced: Inbox<()>,
    /// Ends the sleep of the timer task when the next deadline may have changed.
    poke: Inbox<()>,
    /// Updates that were put off and found no room in the lane of their owner: no more than the backlog held.
    handed_back: Inbox<(NodeId, Message)>,
    /// What has yet to be carried out, in order; it waits while something that goes first is written to the disk.
    actions: RefCell<VecDeque<Action>>,
    writing: Cell<bool>,
}

enum Kind {
    /// Without high availability.
    Alone(ServiceSwitch),
    Pair(Box<Machine>),
}

impl HaDriver {
    /// A driver of the machine of `relationship`, which stands at that place of the list, or of the service switch
    /// without one; it starts at once.
    pub fn start(
        control: Rc<ControlNode>,
        relationship: Option<(u8, &config::ha::Relationship)>,
        nodes: HaNodes,
    ) -> Rc<Self> {
        let place = relationship.map_or(0, |(place, _)| place);
        let (kind, view) = match relationship {
            None => {
                let switch = ServiceSwitch::default();
                let view = switch.view();
                (Kind::Alone(switch), view)
            }
            Some((_, document)) => {
                let relationship = Relationship::new(place, document);
                let mut machine = Machine::new(relationship, clock::now());
                let behind = &control.server().behind;
                let name = machine.relationship().partner().map(|partner| partner.name.as_str());
                let own = &machine.relationship().this_server_name;
                if let Some(since_s) = name.and_then(|name| behind.partner_since_s(own, name)) {
                    machine.recall_behind(clock::now(), since_s);
                }
                let view = HaView { relationship: place, configured: true, ..HaView::default() };
                (Kind::Pair(Box::new(machine)), view)
            }
        };
        let driver = Rc::new(Self {
            control,
            relationship: place,
            nodes,
            kind: RefCell::new(kind),
            view: RefCell::new(Arc::new(view)),
            commands: Answers::default(),
            posting: Cell::new(false),
            stop_announced: Inbox::default(),
            poke: Inbox::default(),
            handed_back: Inbox::default(),
            actions: RefCell::default(),
            writing: Cell::new(false),
        });
        driver.feed(Event::Start);
        driver.tell_fingerprint();
        glommio::spawn_local(driver.clone().keep_time()).detach();
        glommio::spawn_local(driver.clone().hand_over()).detach();
        driver
    }

    /// Has the partner told that the server stops, and serves nobody from then on.
    pub async fn say_farewell(self: Rc<Self>) {
        if matches!(&*self.kind.borrow(), Kind::Alone(_)) {
            return;
        }
        self.feed(Event::Stopping);
        let announced = async {
            self.stop_announced.pop().await;
            Ok(())
        };
        let _ = glommio::timer::timeout(FAREWELL_WITHIN, announced).await;
    }

    /// The view in force.
    pub fn view(&self) -> Arc<HaView> {
        self.view.borrow().clone()
    }

    /// Runs a command of the HA machine (or of the service switch) to its answer.
    pub async fn command(self: &Rc<Self>, source: CommandSource, command: HaCommand) -> Reply {
        let disables = matches!(command, HaCommand::DhcpDisable { .. });
        let was_on = self.view().service_on;
        let reply = self.decide(source, command).await;
        if disables && was_on && !self.view().service_on {
            self.settle().await;
        }
        reply
    }

    /// Waits until no query that was let in before the service went off can still change a lease: whoever copies our
    /// leases then misses none.
    async fn settle(&self) {
        let settled = async {
            while self.posting.get() {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            self.control.settle(SETTLE_WITHIN).await;
            Ok(())
        };
        let _ = glommio::timer::timeout(SETTLE_WITHIN, settled).await;
    }

    async fn decide(self: &Rc<Self>, source: CommandSource, command: HaCommand) -> Reply {
        let alone = match &mut *self.kind.borrow_mut() {
            Kind::Alone(switch) => {
                let (reply, changed) = switch.handle_command(clock::now(), &command);
                Some((reply, changed.then(|| switch.view())))
            }
            Kind::Pair(_) => None,
        };
        if let Some((reply, view)) = alone {
            if let Some(view) = view {
                self.publish(Arc::new(view));
            }
            self.poke();
            return reply;
        }
        let question = self.commands.question();
        self.feed(Event::Command { token: question.number(), source, command });
        question.await
    }

    /// A document has come in force: the machine goes on under what it says of its relationship, and keeps everything it
    /// knows.
    pub fn reconfigure(self: &Rc<Self>, document: &config::ha::Relationship) {
        let relationship = Relationship::new(self.relationship, document);
        let changes = match &*self.kind.borrow() {
            Kind::Alone(_) => false,
            Kind::Pair(machine) => *machine.relationship() != relationship,
        };
        if changes {
            log::info!(
                target: crate::ha::log::TARGET,
                "TANDEM_HA_RECONFIGURED {}: other parameters are in force; state and connections are kept",
                relationship.this_server_name
            );
            self.feed(Event::Reconfigured(Box::new(relationship)));
        }
        self.tell_fingerprint();
    }

    /// What the rules in force hash to, as far as they concern the partner, for it to compare.
    fn tell_fingerprint(self: &Rc<Self>) {
        let rules = self.control.server().active().rules;
        let subnets = rules.snapshot.relationships.copied(self.relationship);
        let fingerprint = crate::policy::fingerprint::fingerprint(&rules.snapshot, &subnets);
        self.feed(Event::Fingerprint(Box::new(fingerprint)));
    }

    /// A message that concerns high availability: shards' reports and the sender's answers.
    pub fn handle_message(self: &Rc<Self>, from: NodeId, message: Message) {
        match message {
            Message::Unanswered(client) => {
                let (secs, asked) = (client.secs, client.asked);
                let client = ClientIdentity { hwaddr: client.hwaddr, client_id: client.client_id };
                self.feed(Event::Unanswered { client, secs, asked });
            }
            Message::Backlog(update) => {
                let (kind, outcome) = (update.kind, update.outcome);
                self.feed(Event::Backlog { kind, lease: Box::new(update.lease), outcome });
            }
            Message::UnsentUpdates { total, .. } => self.feed(Event::UnsentUpdates { shard: from.0, total }),
            Message::UpdatesSettled { outcome, client, .. } => {
                self.feed(Event::UpdatesSettled { outcome, client: *client });
            }
            Message::Partner(call) => {
                let result = match call.failure {
                    None => Ok(call.body),
                    Some(failure) => Err(failure),
                };
                self.feed(Event::CallDone { id: CallId(call.request), result });
            }
            other => log::error!(
                target: "kea-dhcp4.dhcp4",
                "TANDEM_UNEXPECTED_MESSAGE the control node does not take {other:?} from {from:?}"
            ),
        }
    }

    /// The entry of `high-availability` in `status-get`.
    pub fn status_high_availability(&self) -> Option<Value> {
        match &*self.kind.borrow() {
            Kind::Alone(_) => None,
            Kind::Pair(machine) => {
                let mut status = machine.status_high_availability(clock::now());
                let mut entry = status.get_mut(0)?.take();
                let shared = self.control.server().ha.get(usize::from(self.relationship));
                if let Some(backups) = shared.and_then(|shared| shared.standings.status()) {
                    entry["tandem-backups"] = backups;
                }
                Some(entry)
            }
        }
    }

    /// `dhcp-state` of `status-get`.
    pub fn status_dhcp_state(&self) -> Value {
        match &*self.kind.borrow() {
            Kind::Alone(switch) => switch.dhcp_state(),
            Kind::Pair(machine) => machine.status_dhcp_state(),
        }
    }

    fn feed(self: &Rc<Self>, event: Event) {
        let mut actions = Vec::new();
        if let Kind::Pair(machine) = &mut *self.kind.borrow_mut() {
            machine.set_storage_full(self.control.server().is_storage_full());
            machine.handle_event(clock::now(), event, &mut actions);
        }
        self.carry_out(actions);
        self.poke();
    }

    fn carry_out(self: &Rc<Self>, actions: Vec<Action>) {
        self.actions.borrow_mut().extend(actions);
        self.go_on();
    }

    /// Carries out what is due, up to what has to be on the disk first.
    fn go_on(self: &Rc<Self>) {
        while !self.writing.get() {
            let Some(action) = self.actions.borrow_mut().pop_front() else { return };
            self.act(action);
        }
    }

    fn act(self: &Rc<Self>, action: Action) {
        match action {
            Action::Answer { token, reply } => self.commands.answer(token, reply),
            Action::ApplyPage { id, rows } => {
                let driver = self.clone();
                glommio::spawn_local(async move {
                    let result = driver.apply(rows).await;
                    driver.feed(Event::PageApplied { id, result });
                })
                .detach();
            }
            Action::Call(call) => self.call(call),
            Action::Close { peer, line } => self.send_call(PartnerCall {
                request: 0,
                peer,
                asker: Some(self.control.node().id()),
                body: Vec::new(),
                timeout_ms: 0,
                line,
                failure: None,
            }),
            Action::HandBack { kind, lease } => self.hand_back(kind, *lease),
            Action::Log(event) => {
                log::log!(target: crate::ha::log::TARGET, event.message.level(), "{event}");
            }
            Action::PartnerBehind(since_s) => self.keep_behind(since_s),
            Action::Publish(view) => self.publish(view),
            Action::StopAnnounced => self.stop_announced.push(()),
        }
    }

    /// Keeps over a restart since when the partner may lack changes. Nothing else is done before that is on the disk; a slow
    /// one holds up this relationship, and neither the machine's time nor whatever else is done here.
    fn keep_behind(self: &Rc<Self>, since_s: Option<u64>) {
        let names = match &*self.kind.borrow() {
            Kind::Alone(_) => None,
            Kind::Pair(machine) => machine
                .relationship()
                .partner()
                .map(|partner| (machine.relationship().this_server_name.clone(), partner.name.clone())),
        };
        let Some((own, partner)) = names else { return };
        let behind = self.control.server().behind.clone();
        self.write(move || behind.set_partner(&own, &partner, since_s));
    }

    /// Writes once more what could not be written, if there is any.
    fn keep_again(self: &Rc<Self>) {
        let behind = &self.control.server().behind;
        if behind.is_unsaved() && !self.writing.get() {
            let behind = behind.clone();
            self.write(move || behind.save_again());
        }
    }

    /// Has a thread do what waits for the disk; what is to be carried out waits for its end. A thread of its own: those that
    /// read files for a reload or for renewed certificates may hang on a file system that is gone.
    fn write(self: &Rc<Self>, write: impl Fn() + Clone + Send + 'static) {
        self.writing.set(true);
        let driver = self.clone();
        glommio::spawn_local(async move {
            let done = Arc::new(AtomicBool::new(false));
            let (is_done, work) = (done.clone(), write.clone());
            let thread = std::thread::Builder::new().name("note".into()).spawn(move || {
                work();
                is_done.store(true, Ordering::Release);
            });
            match thread {
                Ok(_) => {
                    while !done.load(Ordering::Acquire) {
                        glommio::timer::sleep(Duration::from_millis(1)).await;
                    }
                }
                // There is no thread to be had: it is done here, as nothing else may go before it.
                Err(_) => write(),
            }
            driver.writing.set(false);
            driver.go_on();
        })
        .detach();
    }

    /// Gives an update that was put off to the owner of its address, as soon as there is room in the lane.
    fn hand_back(&self, kind: UpdateKind, lease: Lease) {
        let node = self.control.node();
        let shard = self.control.server().active().rules.owners.owner_of(lease.address);
        let update = PartnerUpdate::put_off(self.relationship, shard, kind, lease);
        let (to, message) = (node.topology().shard(shard), Message::Backlog(Box::new(update)));
        if let Err(back) = node.try_send(to, Lane::State, message) {
            self.handed_back.push((to, back));
        }
    }

    /// Sends what found no room; a task of its own.
    async fn hand_over(self: Rc<Self>) {
        loop {
            let (to, mut message) = self.handed_back.pop().await;
            while let Err(back) = self.control.node().try_send(to, Lane::State, message) {
                message = back;
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    fn call(self: &Rc<Self>, call: Call) {
        self.send_call(PartnerCall {
            request: call.id.0,
            peer: call.peer,
            asker: Some(self.control.node().id()),
            body: call.body,
            timeout_ms: call.timeout_ms,
            line: call.line,
            failure: None,
        });
    }

    fn send_call(self: &Rc<Self>, call: PartnerCall) {
        let node = self.control.node();
        let Some(sender) = self.nodes.first_sender(usize::from(self.relationship), node.topology()) else {
            return;
        };
        let Err(Message::Partner(call)) =
            node.try_send(sender, Lane::State, Message::Partner(Box::new(call)))
        else {
            return;
        };
        // Its lane is full of thousands of messages it does not take: it hangs. To close nothing is no loss.
        if call.body.is_empty() {
            return;
        }
        let driver = self.clone();
        glommio::spawn_local(async move {
            let result = Err("the HA sender is busy".to_owned());
            driver.feed(Event::CallDone { id: CallId(call.request), result });
        })
        .detach();
    }

    /// Gives the view to every shard and to the executors of the relationship; one whose lane is full gets it as soon as
    /// there is room, unless a newer one has come by then.
    fn publish(self: &Rc<Self>, view: Arc<HaView>) {
        *self.view.borrow_mut() = view.clone();
        let (own, topology) = (self.control.node().id(), self.control.node().topology());
        let place = Some(usize::from(self.relationship));
        let hears = |node: &NodeId| topology.is_shard(*node) || self.nodes.of(*node, topology) == place;
        let nodes = (0..own.0).map(NodeId).filter(hears);
        let mut left: Vec<NodeId> = nodes.filter(|node| !self.post_view(*node, &view)).collect();
        self.posting.set(!left.is_empty());
        if left.is_empty() {
            return;
        }
        let driver = self.clone();
        glommio::spawn_local(async move {
            while !left.is_empty() {
                glommio::timer::sleep(Duration::from_millis(1)).await;
                // A newer one must not be followed by this one; it says itself when it is posted.
                if !Arc::ptr_eq(&driver.view(), &view) {
                    return;
                }
                left.retain(|node| !driver.post_view(*node, &view));
            }
            driver.posting.set(false);
        })
        .detach();
    }

    fn post_view(&self, to: NodeId, view: &Arc<HaView>) -> bool {
        self.control.node().try_send(to, Lane::State, Message::HaView(view.clone())).is_ok()
    }

    /// Applies leases of a copy at their owners, all of them at once and a few parts of each at a time; what became of
    /// them.
    async fn apply(&self, rows: CopyRows) -> Result<Applied, String> {
        let rules = self.control.server().active().rules;
        let owners = rules.owners.clone();
        let rows = rows.of_relationship(&rules.snapshot, self.relationship);
        let slices = rows.into_slices(owners.shards(), |address| owners.owner_of(address));
        let mut workers = Vec::new();
        for (shard, slices) in (0u8..).zip(slices) {
            let under_way = slices.len().min(limits::SYNC_CHUNKS_UNDER_WAY);
            let slices = Rc::new(RefCell::new(slices.into_iter()));
            for _ in 0..under_way {
                let work = apply_slices(self.control.clone(), shard, slices.clone());
                workers.push(glommio::spawn_local(work));
            }
        }
        let mut applied = Ok(Applied::default());
        // Every worker is waited for, whatever the others say: nothing may be stored behind the back of whoever asked.
        for worker in workers {
            match (&mut applied, worker.await) {
                (Ok(sum), Ok(part)) => sum.add(part),
                (Ok(_), Err(reason)) => applied = Err(reason),
                (Err(_), _) => {}
            }
        }
        applied
    }

    fn poke(&self) {
        if self.poke.is_empty() {
            self.poke.push(());
        }
    }

    async fn keep_time(self: Rc<Self>) {
        loop {
            let next = match &*self.kind.borrow() {
                Kind::Alone(switch) => switch.next_timeout(),
                Kind::Pair(machine) => machine.next_timeout(),
            };
            let now = clock::monotonic_ns();
            match next {
                None => self.poke.pop().await,
                Some(at) if at > now => {
                    let within = Duration::from_nanos(at - now);
                    // Poked or late, the deadline is looked at again.
                    let poked = async {
                        self.poke.pop().await;
                        Ok(())
                    };
                    let _ = glommio::timer::timeout(within, poked).await;
                }
                Some(_) => {
                    self.time_passed();
                    // Whatever stays due, commands and messages get their turn.
                    glommio::executor().yield_task_queue_now().await;
                }
            }
        }
    }

    fn time_passed(self: &Rc<Self>) {
        let mut actions = Vec::new();
        let view = match &mut *self.kind.borrow_mut() {
            Kind::Alone(switch) => switch.handle_timeout(clock::now()).then(|| switch.view()),
            Kind::Pair(machine) => {
                machine.set_storage_full(self.control.server().is_storage_full());
                machine.handle_timeout(clock::now(), &mut actions);
                None
            }
        };
        if let Some(view) = view {
            self.publish(Arc::new(view));
        }
        self.carry_out(actions);
        self.keep_again();
    }
}

/// Gives `slices` to a shard, one after the other.
async fn apply_slices(
    control: Rc<ControlNode>,
    shard: u8,
    slices: Rc<RefCell<std::vec::IntoIter<CopySlice>>>,
) -> Result<Applied, String> {
    let mut applied = Applied::default();
    loop {
        let Some(slice) = slices.borrow_mut().next() else { return Ok(applied) };
        let mut slice = Arc::new(slice);
        loop {
            let part = apply_slice(&control, shard, slice.clone()).await?;
            let rest = part.goes_on.and_then(|after| slice.beyond(after));
            applied.add(part);
            let Some(rest) = rest else { break };
            slice = Arc::new(rest);
        }
    }
}

/// Gives one part to a shard, again and again while it has no room.
async fn apply_slice(control: &ControlNode, shard: u8, slice: Arc<CopySlice>) -> Result<Applied, String> {
    let until_ns = clock::monotonic_ns() + APPLY_WITHIN_NS;
    loop {
        match control.ask(shard, ShardCommandBody::Synchronised(slice.clone())).await {
            Ok(ShardReplyBody::Applied(applied)) => return Ok(applied),
            Ok(ShardReplyBody::Busy) | Err(AskError::Busy(_)) if clock::monotonic_ns() < until_ns => {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            Ok(_) => return Err(format!("shard {shard} cannot store leases")),
            Err(error) => return Err(error.to_string()),
        }
    }
}
