//! The control node of a server: drives the real HA machine as the runtime does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::json;
use shards::{Lane, NodeId};
use tandem::engine::message::{
    Applied, CopySlice, Line, Message, PartnerCall, PartnerUpdate, ShardCommand, ShardCommandBody,
    ShardReply, ShardReplyBody,
};
use tandem::ha::OwnState;
use tandem::ha::command::{Envelope, HaCommand, Reply};
use tandem::ha::copy::CopyRows;
use tandem::ha::event::{Action, CallId, ClientIdentity, CommandSource, Event};
use tandem::ha::log::Message as LogMessage;
use tandem::ha::view::{HaView, Scopes};

use super::plan::Plant;
use super::simulation::Simulation;

/// The number of every command of an operator.
pub const OPERATORS_TOKEN: u64 = 0;
/// A shard stores its part of a page within this time.
const ANSWER_WITHIN_NS: u64 = 10_000_000_000;

#[derive(Default)]
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
    pub fn next_timeout(&self) -> Option<u64> {
        self.page.as_ref().map(|page| page.until_ns)
    }
}

impl Simulation {
    /// A message has come to the control node.
    pub fn control_message(&mut self, server: usize, from: NodeId, message: Message) {
        let Some(process) = self.servers[server].process.as_mut() else { return };
        match message {
            Message::Partner(call) if from == process.topology.listener(0) => self.run_command(server, call),
            Message::Partner(call) => {
                let result = match call.failure {
                    None => Ok(call.body),
                    Some(failure) => Err(failure),
                };
                self.feed(server, Event::CallDone { id: CallId(call.request), result });
            }
            Message::Reply(reply) => self.page_stored(server, *reply),
            Message::Unanswered(client) => {
                let (secs, asked) = (client.secs, client.asked);
                let client = ClientIdentity { hwaddr: client.hwaddr, client_id: client.client_id };
                self.feed(server, Event::Unanswered { client, secs, asked });
            }
            Message::Backlog(update) => {
                let (kind, outcome) = (update.kind, update.outcome);
                self.feed(server, Event::Backlog { kind, lease: Box::new(update.lease), outcome });
            }
            Message::UnsentUpdates { total, .. } => {
                self.feed(server, Event::UnsentUpdates { shard: from.0, total });
            }
            Message::UpdatesSettled { outcome, client, .. } => {
                self.feed(server, Event::UpdatesSettled { outcome, client: *client });
            }
            Message::SnapshotApplied { .. } => process.reloading -= 1,
            other => panic!("control does not take {other:?}"),
        }
    }

    /// A command of the partner: the machine's, or one about the whole server.
    fn run_command(&mut self, server: usize, mut call: Box<PartnerCall>) {
        let envelope = Envelope::parse(&call.body).expect("the listener has read it");
        let Some(process) = self.servers[server].process.as_mut() else { return };
        match HaCommand::parse(&envelope) {
            Some(Ok(command)) => {
                let source = process.standings.source_of(call.peer);
                if let Some(copier) = process.standings.copier(source, &command) {
                    process.standings.copied(copier);
                }
                let control = &mut process.control;
                control.tokens += 1;
                let token = control.tokens;
                control.commands.insert(token, call);
                self.tally.commands_of_backups += u64::from(source != CommandSource::Partner);
                self.feed(server, Event::Command { token, source, command });
            }
            Some(Err(reply)) => panic!("the partner's command has wrong arguments: {reply:?}"),
            None => {
                assert_eq!(envelope.command, "status-get");
                let arguments = json!({ "dhcp-state": process.machine.status_dhcp_state() });
                call.body = Reply::success("").with_arguments(arguments).to_http_body();
                self.answer(server, call);
            }
        }
    }

    fn answer(&mut self, server: usize, call: Box<PartnerCall>) {
        let Some(process) = &self.servers[server].process else { return };
        let (from, to) = (process.topology.control(), process.topology.listener(0));
        self.post(server, from, to, Lane::State, Message::Partner(call));
    }

    /// Tells the machine what has happened.
    pub fn feed(&mut self, server: usize, event: Event) {
        let now = self.clock_of(server);
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let mut actions = Vec::new();
        process.machine.set_storage_full(process.has_no_room);
        process.machine.handle_event(now, event, &mut actions);
        self.carry_out(server, actions);
    }

    /// Looks at the deadlines of the machine and of a page.
    pub fn run_control_timers(&mut self, server: usize) {
        let now = self.clock_of(server);
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let late = process.control.page.take_if(|page| page.until_ns <= now.monotonic_ns);
        if let Some(page) = late {
            self.feed(server, Event::PageApplied { id: page.id, result: Err("a shard is late".to_owned()) });
        }
        let Some(process) = self.servers[server].process.as_mut() else { return };
        if process.machine.next_timeout().is_some_and(|at_ns| at_ns <= now.monotonic_ns) {
            let mut actions = Vec::new();
            process.machine.handle_timeout(now, &mut actions);
            self.carry_out(server, actions);
        }
    }

    fn carry_out(&mut self, server: usize, actions: Vec<Action>) {
        let moved = |action: &Action| match action {
            Action::Log(event) => matches!(event.message, LogMessage::StateTransition { .. }),
            _ => false,
        };
        if actions.iter().any(moved)
            && let Some(process) = self.servers[server].process.as_mut()
        {
            process.scopes_by_hand = None;
        }
        self.note_state(server);
        for action in actions {
            match action {
                Action::Answer { token: OPERATORS_TOKEN, reply } => {
                    self.operator_answered(server, &reply);
                }
                Action::Answer { token, reply } => {
                    let Some(process) = self.servers[server].process.as_mut() else { return };
                    if let Some(mut call) = process.control.commands.remove(&token) {
                        call.body = reply.to_http_body();
                        self.answer(server, call);
                    }
                }
                Action::ApplyPage { id, rows } => self.apply_page(server, id, rows),
                Action::Call(call) => {
                    self.send_call(server, call.peer, call.id.0, call.body, call.timeout_ms, call.line);
                }
                Action::Close { peer, line } => self.send_call(server, peer, 0, Vec::new(), 0, line),
                Action::HandBack { kind, lease } => {
                    let Some(process) = &self.servers[server].process else { return };
                    let shard = process.rules.owners.owner_of(lease.address);
                    let update = PartnerUpdate::put_off(0, shard, kind, *lease);
                    let (from, to) = (process.topology.control(), process.topology.shard(shard));
                    self.post(server, from, to, Lane::State, Message::Backlog(Box::new(update)));
                }
                Action::Log(event) => self.trace(|| format!("{event}")),
                Action::PartnerBehind(is_behind) => self.servers[server].behind = is_behind,
                // A process ends by being killed here.
                Action::StopAnnounced => {}
                Action::Publish(mut view) => {
                    let Some(process) = &self.servers[server].process else { return };
                    if self.plan.plant == Some(Plant::ServeInWaiting)
                        && process.machine.state() == OwnState::Waiting
                    {
                        view = Arc::new(HaView {
                            service_on: true,
                            scopes: Scopes::BOTH,
                            ..HaView::clone(&view)
                        });
                    }
                    let control = process.topology.control();
                    for node in (0..control.0).map(NodeId) {
                        self.post(server, control, node, Lane::State, Message::HaView(view.clone()));
                    }
                }
            }
        }
    }

    fn send_call(
        &mut self,
        server: usize,
        peer: u8,
        request: u64,
        body: Vec<u8>,
        timeout_ms: u64,
        line: Line,
    ) {
        let Some(process) = &self.servers[server].process else { return };
        let (from, to) = (process.topology.control(), process.topology.sender(0));
        let asker = Some(from);
        let call = PartnerCall { request, peer, asker, body, timeout_ms, line, failure: None };
        self.post(server, from, to, Lane::State, Message::Partner(Box::new(call)));
    }

    fn apply_page(&mut self, server: usize, id: CallId, rows: CopyRows) {
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let owners = &process.rules.owners;
        let slices = rows.into_slices(owners.shards(), |address| owners.owner_of(address));
        let left = (0u8..)
            .zip(slices)
            .flat_map(|(shard, slices)| slices.into_iter().map(move |slice| (shard, slice)));
        let (left, given, applied) = (left.collect(), None, Applied::default());
        process.control.page = Some(PageUnderWay { id, left, given, applied, request: 0, until_ns: 0 });
        self.store_part(server);
    }

    fn store_part(&mut self, server: usize) {
        let now_ns = self.clock_of(server).monotonic_ns;
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let control = &mut process.control;
        let Some(page) = &mut control.page else { return };
        let Some((shard, slice)) = page.left.pop_front() else {
            let (id, applied) = (page.id, std::mem::take(&mut page.applied));
            control.page = None;
            return self.feed(server, Event::PageApplied { id, result: Ok(applied) });
        };
        control.requests += 1;
        page.request = control.requests;
        page.until_ns = now_ns + ANSWER_WITHIN_NS;
        let slice = Arc::new(slice);
        page.given = Some((shard, slice.clone()));
        let body = ShardCommandBody::Synchronised(slice);
        let command = Box::new(ShardCommand { request: page.request, body });
        let (from, to) = (process.topology.control(), process.topology.shard(shard));
        self.post(server, from, to, Lane::State, Message::Command(command));
    }

    fn page_stored(&mut self, server: usize, reply: ShardReply) {
        let Some(process) = self.servers[server].process.as_mut() else { return };
        let Some(page) = process.control.page.as_mut().filter(|page| page.request == reply.request) else {
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
                self.store_part(server);
            }
            _ => {
                let id = page.id;
                process.control.page = None;
                let result = Err("a shard cannot store leases".to_owned());
                self.feed(server, Event::PageApplied { id, result });
            }
        }
    }
}
