//! The control node of a server: drives the real HA machine as the runtime does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::json;
use shards::{Lane, NodeId};
use tandem::engine::message::{
    Applied, Asked, CopySlice, Line, Message, PartnerCall, PartnerUpdate, ShardCommand, ShardCommandBody,
    ShardReply, ShardReplyBody,
};
use tandem::ha::OwnState;
use tandem::ha::command::{Envelope, HaCommand, Reply};
use tandem::ha::copy::CopyRows;
use tandem::ha::event::{Action, CallId, ClientIdentity, CommandSource, Event};
use tandem::ha::log::Message as LogMessage;
use tandem::ha::view::{HaView, Scopes};

use super::links::{host_of, place_of, seat_of};
use super::plan::Plant;
use super::server::{first_sender, nodes_of};
use super::simulation::Simulation;

/// The number of every command of an operator.
pub const OPERATORS_TOKEN: u64 = 0;
/// Above these bits of the number of a question stands the place of its relationship.
const PLACE_SHIFT: u32 = 32;
/// A shard stores its part of a page within this time.
const ANSWER_WITHIN_NS: u64 = 10_000_000_000;

pub struct Control {
    /// Commands of the partner the machine has yet to answer, by token.
    commands: BTreeMap<u64, Box<PartnerCall>>,
    tokens: u64,
    page: Option<PageUnderWay>,
    requests: u64,
}

/// A page of a synchronisation, one shard after the other.
struct PageUnderWay {
    id: CallId,
    left: VecDeque<(u8, CopySlice)>,
    /// What a shard has been given last.
    given: Option<(u8, Arc<CopySlice>)>,
    applied: Applied,
    request: u64,
    until_ns: u64,
}

impl Control {
    /// That of the relationship at `place`. Its questions have numbers of their own.
    pub fn at(place: usize) -> Self {
        let requests = (place as u64) << PLACE_SHIFT;
        Self { commands: BTreeMap::new(), tokens: OPERATORS_TOKEN, page: None, requests }
    }

    pub fn next_timeout(&self) -> Option<u64> {
        self.page.as_ref().map(|page| page.until_ns)
    }
}

impl Simulation {
    /// A message has come to the control node.
    pub fn control_message(&mut self, server: usize, from: NodeId, message: Message) {
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let seat = |relationship: u8| seat_of(server, usize::from(relationship));
        match message {
            Message::Partner(call) => {
                let place = nodes_of(process.topology).of(from, process.topology).expect("an HA executor");
                let seat = seat_of(server, place);
                if from == process.topology.listener(place as u8) {
                    return self.run_command(seat, call);
                }
                self.note_heard(seat, &call);
                let result = match call.failure {
                    None => Ok(call.body),
                    Some(failure) => Err(failure),
                };
                self.feed(seat, Event::CallDone { id: CallId(call.request), result });
            }
            Message::Reply(reply) => {
                let place = (reply.request >> PLACE_SHIFT) as usize;
                if place < process.ends.len() {
                    self.page_stored(seat_of(server, place), *reply);
                }
            }
            Message::Unanswered(client) => {
                let (seat, secs, mut asked) = (seat(client.relationship), client.secs, client.asked);
                if self.plan.plant == Some(Plant::BelieveRequests) && asked == Asked::One {
                    asked = Asked::Other;
                }
                self.note_waiting(seat, &client);
                let client = ClientIdentity { hwaddr: client.hwaddr, client_id: client.client_id };
                self.feed(seat, Event::Unanswered { client, secs, asked });
            }
            Message::Backlog(update) => {
                let (seat, kind, outcome) = (seat(update.relationship), update.kind, update.outcome);
                self.feed(seat, Event::Backlog { kind, lease: Box::new(update.lease), outcome });
            }
            Message::UnsentUpdates { relationship, total } => {
                self.feed(seat(relationship), Event::UnsentUpdates { shard: from.0, total });
            }
            Message::UpdatesSettled { relationship, outcome, client } => {
                self.feed(seat(relationship), Event::UpdatesSettled { outcome, client: *client });
            }
            Message::SnapshotApplied { .. } => {
                process.reloading -= 1;
                self.checks.overtaken.harmed(self.now_ns, server);
            }
            other => panic!("control does not take {other:?}"),
        }
    }

    /// A command of the partner: the machine's, or one about the whole server.
    fn run_command(&mut self, seat: usize, mut call: Box<PartnerCall>) {
        let envelope = Envelope::parse(&call.body).expect("the listener has read it");
        let Some(end) = self.end_mut(seat) else { return };
        match HaCommand::parse(&envelope) {
            Some(Ok(command)) => {
                let source = end.standings.source_of(call.peer);
                if let Some(copier) = end.standings.copier(source, &command) {
                    end.standings.copied(copier);
                }
                let control = &mut end.control;
                control.tokens += 1;
                let token = control.tokens;
                control.commands.insert(token, call);
                self.tally.commands_of_backups += u64::from(source != CommandSource::Partner);
                self.feed(seat, Event::Command { token, source, command });
            }
            Some(Err(reply)) => panic!("the partner's command has wrong arguments: {reply:?}"),
            None => {
                assert_eq!(envelope.command, "status-get");
                let arguments = json!({ "dhcp-state": end.machine.status_dhcp_state() });
                call.body = Reply::success("").with_arguments(arguments).to_http_body();
                self.answer(seat, call);
            }
        }
    }

    fn answer(&mut self, seat: usize, call: Box<PartnerCall>) {
        let Some(topology) = self.topology_at(seat) else { return };
        let (from, to) = (topology.control(), topology.listener(place_of(seat) as u8));
        self.post(host_of(seat), from, to, Lane::State, Message::Partner(call));
    }

    /// Tells the machine what has happened.
    pub fn feed(&mut self, seat: usize, event: Event) {
        let now = self.clock_of(host_of(seat));
        let has_no_room = self.servers[host_of(seat)].process.as_ref().is_some_and(|it| it.has_no_room);
        let Some(end) = self.end_mut(seat) else { return };
        let mut actions = Vec::new();
        end.machine.set_storage_full(has_no_room);
        end.machine.handle_event(now, event, &mut actions);
        self.carry_out(seat, actions);
    }

    /// Looks at the deadlines of the machine and of a page.
    pub fn run_control_timers(&mut self, seat: usize) {
        let now = self.clock_of(host_of(seat));
        let Some(end) = self.end_mut(seat) else { return };
        let late = end.control.page.take_if(|page| page.until_ns <= now.monotonic_ns);
        if let Some(page) = late {
            self.feed(seat, Event::PageApplied { id: page.id, result: Err("a shard is late".to_owned()) });
        }
        let Some(end) = self.end_mut(seat) else { return };
        if end.machine.next_timeout().is_some_and(|at_ns| at_ns <= now.monotonic_ns) {
            let mut actions = Vec::new();
            end.machine.handle_timeout(now, &mut actions);
            self.carry_out(seat, actions);
        }
    }

    fn carry_out(&mut self, seat: usize, actions: Vec<Action>) {
        let moved = |action: &Action| match action {
            Action::Log(event) => matches!(event.message, LogMessage::StateTransition { .. }),
            _ => false,
        };
        if actions.iter().any(moved)
            && let Some(end) = self.end_mut(seat)
        {
            end.scopes_by_hand = None;
        }
        self.note_state(seat);
        for action in actions {
            match action {
                Action::Answer { token: OPERATORS_TOKEN, reply } => {
                    self.operator_answered(seat, &reply);
                }
                Action::Answer { token, reply } => {
                    let Some(end) = self.end_mut(seat) else { return };
                    if let Some(mut call) = end.control.commands.remove(&token) {
                        call.body = reply.to_http_body();
                        self.answer(seat, call);
                    }
                }
                Action::ApplyPage { id, rows } => self.apply_page(seat, id, rows),
                Action::Call(call) => {
                    self.send_call(seat, call.peer, call.id.0, call.body, call.timeout_ms, call.line);
                }
                Action::Close { peer, line } => self.send_call(seat, peer, 0, Vec::new(), 0, line),
                Action::HandBack { kind, lease } => {
                    let Some(process) = &self.servers[host_of(seat)].process else { return };
                    let shard = process.rules.owners.owner_of(lease.address);
                    let update = PartnerUpdate::put_off(place_of(seat) as u8, shard, kind, *lease);
                    let (from, to) = (process.topology.control(), process.topology.shard(shard));
                    self.post(host_of(seat), from, to, Lane::State, Message::Backlog(Box::new(update)));
                }
                Action::Log(event) => self.trace(|| format!("{event}")),
                Action::PartnerBehind(since_s) => {
                    self.servers[host_of(seat)].behind[place_of(seat)] = since_s
                }
                // A process ends by being killed here.
                Action::StopAnnounced => {}
                Action::Publish(view) => self.publish(seat, view),
            }
        }
    }

    fn publish(&mut self, seat: usize, mut view: Arc<HaView>) {
        self.checks.apart.published(self.plan.link_of(seat), &view);
        let (Some(end), Some(topology)) = (self.end(seat), self.topology_at(seat)) else { return };
        if self.plan.plant == Some(Plant::ServeInWaiting) && end.machine.state() == OwnState::Waiting {
            view = Arc::new(HaView { service_on: true, scopes: Scopes::BOTH, ..HaView::clone(&view) });
        }
        if self.plan.plant == Some(Plant::MixViews) {
            view = Arc::new(HaView { relationship: 0, ..HaView::clone(&view) });
        }
        let (control, nodes) = (topology.control(), nodes_of(topology));
        let hears = |node: &NodeId| nodes.of(*node, topology).is_none_or(|place| place == place_of(seat));
        for node in (0..control.0).map(NodeId).filter(hears) {
            self.post(host_of(seat), control, node, Lane::State, Message::HaView(view.clone()));
        }
    }

    fn send_call(&mut self, seat: usize, peer: u8, request: u64, body: Vec<u8>, timeout_ms: u64, line: Line) {
        let Some(topology) = self.topology_at(seat) else { return };
        let (from, to) = (topology.control(), topology.sender(first_sender(place_of(seat))));
        let asker = Some(from);
        let call = PartnerCall { request, peer, asker, body, timeout_ms, line, failure: None };
        self.post(host_of(seat), from, to, Lane::State, Message::Partner(Box::new(call)));
    }

    fn apply_page(&mut self, seat: usize, id: CallId, rows: CopyRows) {
        let Some(process) = self.servers[host_of(seat)].process.as_mut() else { return };
        let owners = &process.rules.owners;
        let rows = rows.of_relationship(&process.rules.snapshot, place_of(seat) as u8);
        let slices = rows.into_slices(owners.shards(), |address| owners.owner_of(address));
        let left = (0u8..)
            .zip(slices)
            .flat_map(|(shard, slices)| slices.into_iter().map(move |slice| (shard, slice)));
        let (left, given, applied) = (left.collect(), None, Applied::default());
        process.ends[place_of(seat)].control.page =
            Some(PageUnderWay { id, left, given, applied, request: 0, until_ns: 0 });
        self.store_part(seat);
    }

    fn store_part(&mut self, seat: usize) {
        let now_ns = self.clock_of(host_of(seat)).monotonic_ns;
        let Some(topology) = self.topology_at(seat) else { return };
        let Some(end) = self.end_mut(seat) else { return };
        let control = &mut end.control;
        let Some(page) = &mut control.page else { return };
        let Some((shard, slice)) = page.left.pop_front() else {
            let (id, applied) = (page.id, std::mem::take(&mut page.applied));
            control.page = None;
            return self.feed(seat, Event::PageApplied { id, result: Ok(applied) });
        };
        control.requests += 1;
        page.request = control.requests;
        page.until_ns = now_ns + ANSWER_WITHIN_NS;
        let slice = Arc::new(slice);
        page.given = Some((shard, slice.clone()));
        let body = ShardCommandBody::Synchronised(slice);
        let command = Box::new(ShardCommand { request: page.request, body });
        let (from, to) = (topology.control(), topology.shard(shard));
        self.post(host_of(seat), from, to, Lane::State, Message::Command(command));
    }

    fn page_stored(&mut self, seat: usize, reply: ShardReply) {
        let Some(end) = self.end_mut(seat) else { return };
        let Some(page) = end.control.page.as_mut().filter(|page| page.request == reply.request) else {
            return;
        };
        match reply.body {
            ShardReplyBody::Applied(applied) => {
                let (after, given) = (applied.goes_on, page.given.take());
                let rest =
                    after.zip(given).and_then(|(after, (shard, slice))| Some((shard, slice.beyond(after)?)));
                if let Some(rest) = rest {
                    page.left.push_front(rest);
                }
                page.applied.add(applied);
                self.store_part(seat);
            }
            _ => {
                let id = page.id;
                end.control.page = None;
                let result = Err("a shard cannot store leases".to_owned());
                self.feed(seat, Event::PageApplied { id, result });
            }
        }
    }
}
