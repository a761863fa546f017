//! The steps of a copy from a Tandem server that goes on serving ([`copy`](super::super::copy)).
//!
//! ```text
//! pages … -> changes … until few -> dhcp-disable -> changes … until none -> done
//! ```
//! One request and one application are under way at a time; while rows are applied the next ones are fetched, and they
//! wait here until it is their turn. So no more than two pages are ever held, and rows are applied in the order in
//! which they were read.

use std::net::Ipv4Addr;

use shards::Lease;

use super::super::command::{Reply, request};
use super::super::copy::{CopyError, CopyPage, CopyRequest, CopyRows, Mark};
use super::super::event::{Action, CallId};
use super::{CallIds, Context, Failure, Progress};
use crate::engine::message::UpdateKind;
use crate::limits::{CHANGES_MAX, COPY_LEASES, EXECUTORS_MAX};

/// Changes in one answer that are few enough to let the service rest for the rest of them: they are applied within
/// milliseconds.
const FEW: usize = 256;

/// Answers with changes after which the service rests however many there are: the source changes as fast as they are
/// copied.
const ROUNDS_MAX: u32 = 64;

/// Answers while the service rests, at most: four times what all that a source notes in all of its shards takes where
/// leases are small. One that has more to say changes all the time, or does not tell the truth.
const ENDING_ROUNDS_MAX: u32 = (4 * CHANGES_MAX * EXECUTORS_MAX as usize / COPY_LEASES) as u32;

/// One copy.
#[derive(Clone, Debug)]
pub(super) struct Live {
    stage: Stage,
    mark: Mark,
    /// Where the last page ended.
    after: Option<Ipv4Addr>,
    /// The call under way.
    calling: Option<CallId>,
    /// What it is asked for as soon as no rows wait.
    next: Option<Next>,
    /// The rows being applied.
    applying: Option<CallId>,
    /// Rows that wait for those.
    held: Option<Vec<(UpdateKind, Lease)>>,
    /// Answers with changes: while the source serves, then while it rests.
    rounds: u32,
    ending_rounds: u32,
    failure: Option<Failure>,
}

/// What the answer that is awaited is to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The source serves no clients, and these are the last changes.
    Ending,
    /// Changes, while the source serves.
    Following,
    /// Pages.
    Listing,
    /// `dhcp-disable`.
    Resting,
    /// Nothing more is asked for.
    Told,
    /// `dhcp-enable` after a failure.
    Undoing,
}

#[derive(Clone, Debug)]
enum Next {
    Ask(CopyRequest),
    /// Only when everything fetched is applied, so that the service rests for a moment and no longer.
    Rest,
}

impl Live {
    /// Begins: asks for the first leases.
    pub fn start(context: &Context, ids: &mut CallIds, actions: &mut Vec<Action>) -> Self {
        let mut live = Self {
            stage: Stage::Listing,
            mark: Mark::default(),
            after: None,
            calling: None,
            next: Some(Next::Ask(CopyRequest::Start { limit: context.page_limit() })),
            applying: None,
            held: None,
            rounds: 0,
            ending_rounds: 0,
            failure: None,
        };
        live.go_on(context, ids, actions);
        live
    }

    pub fn awaits(&self, id: CallId) -> bool {
        self.calling == Some(id) || self.applying == Some(id)
    }

    /// Whether the source was told to rest.
    pub fn has_disabled(&self) -> bool {
        matches!(self.stage, Stage::Ending | Stage::Resting | Stage::Told)
    }

    /// The call has ended.
    pub fn handle_call(
        &mut self,
        result: Result<Vec<u8>, String>,
        context: &Context,
        ids: &mut CallIds,
        actions: &mut Vec<Action>,
    ) -> Progress {
        self.calling = None;
        let received = match self.stage {
            Stage::Undoing => return self.end(),
            Stage::Resting => self.rest(result).map(|()| None),
            Stage::Ending | Stage::Following | Stage::Listing | Stage::Told => self.take(result, context),
        };
        match received {
            Ok(received) => {
                self.go_on(context, ids, actions);
                let page = received.filter(|count| *count > 0).map(|count| (count, 0, None));
                self.pending_or_copied(page)
            }
            Err(failure) => self.fail(failure, context, ids, actions),
        }
    }

    /// Rows have been applied.
    pub fn handle_applied(
        &mut self,
        result: Result<(), String>,
        context: &Context,
        ids: &mut CallIds,
        actions: &mut Vec<Action>,
    ) -> Progress {
        self.applying = None;
        if let Err(reason) = result {
            return self.fail(Failure::Apply(reason), context, ids, actions);
        }
        if self.failure.is_some() {
            return self.undo(context, ids, actions);
        }
        self.go_on(context, ids, actions);
        self.pending_or_copied(None)
    }

    /// `dhcp-disable` has been answered.
    fn rest(&mut self, result: Result<Vec<u8>, String>) -> Result<(), Failure> {
        let parsed = result.and_then(|body| Reply::parse_success(&body).map_err(|error| error.to_string()));
        parsed.map_err(Failure::Disable)?;
        self.stage = Stage::Ending;
        self.next = Some(Next::Ask(CopyRequest::Changes { since: self.mark.clone() }));
        Ok(())
    }

    /// Rows have come; how many.
    fn take(&mut self, result: Result<Vec<u8>, String>, context: &Context) -> Result<Option<usize>, Failure> {
        let body = result.map_err(Failure::Page)?;
        let page = CopyPage::parse(&body).map_err(|error: CopyError| Failure::Copy(error.to_string()))?;
        let CopyPage { head, rows } = page;
        let count = rows.len();
        if head.mark.0.is_empty() {
            return Err(Failure::Copy("the source gives no mark".to_owned()));
        }
        let changes = |mark: &Mark| Some(Next::Ask(CopyRequest::Changes { since: mark.clone() }));
        match self.stage {
            Stage::Listing => {
                // Changes are told from the first mark on, whatever later ones say.
                if self.mark.0.is_empty() {
                    self.mark = head.mark;
                }
                self.next = match (head.more, head.upto) {
                    (true, Some(after)) => {
                        if self.after.is_some_and(|last| after <= last) {
                            return Err(Failure::Copy("the source does not advance".to_owned()));
                        }
                        self.after = Some(after);
                        let limit = context.page_limit();
                        Some(Next::Ask(CopyRequest::Page { after, mark: self.mark.clone(), limit }))
                    }
                    (true, None) => return Err(Failure::Copy("the source does not advance".to_owned())),
                    (false, _) => {
                        self.stage = Stage::Following;
                        changes(&self.mark)
                    }
                };
            }
            Stage::Following => {
                self.mark = head.mark;
                self.rounds += 1;
                let many = head.more || count > FEW;
                self.next =
                    if many && self.rounds < ROUNDS_MAX { changes(&self.mark) } else { Some(Next::Rest) };
            }
            _ => {
                self.mark = head.mark;
                self.ending_rounds += 1;
                self.next = match head.more {
                    // Nobody is served there while it says so.
                    true if count == 0 || self.ending_rounds >= ENDING_ROUNDS_MAX => {
                        return Err(Failure::Copy("the source rests and its changes do not end".to_owned()));
                    }
                    true => changes(&self.mark),
                    false => {
                        self.stage = Stage::Told;
                        None
                    }
                };
            }
        }
        self.held = (!rows.is_empty()).then_some(rows);
        Ok(Some(count))
    }

    /// Applies what waits, and asks for more, as far as there is room.
    fn go_on(&mut self, context: &Context, ids: &mut CallIds, actions: &mut Vec<Action>) {
        if self.applying.is_none()
            && let Some(rows) = self.held.take()
        {
            let id = ids.next_id();
            self.applying = Some(id);
            let rows = CopyRows { rows, terms: context.terms() };
            actions.push(Action::ApplyPage { id, rows });
        }
        if self.calling.is_some() || self.held.is_some() {
            return;
        }
        let id = match self.next.take() {
            None => return,
            Some(Next::Ask(asked)) => context.call(asked.write(), context.page_timeout_ms, ids, actions),
            Some(Next::Rest) if self.applying.is_some() => {
                self.next = Some(Next::Rest);
                return;
            }
            Some(Next::Rest) => {
                self.stage = Stage::Resting;
                context.command(request::dhcp_disable(context.max_period_s), ids, actions)
            }
        };
        self.calling = Some(id);
    }

    fn pending_or_copied(&self, page: Option<(usize, usize, Option<String>)>) -> Progress {
        let idle = self.calling.is_none() && self.applying.is_none() && self.held.is_none();
        if idle && self.stage == Stage::Told { Progress::Copied { page } } else { Progress::Pending { page } }
    }

    /// Nothing more is asked for; rows that are being applied are waited for, so that they cannot mix with those of
    /// the next copy.
    fn fail(
        &mut self,
        failure: Failure,
        context: &Context,
        ids: &mut CallIds,
        actions: &mut Vec<Action>,
    ) -> Progress {
        self.failure.get_or_insert(failure);
        (self.held, self.next) = (None, None);
        if self.applying.is_some() {
            return Progress::Undoing;
        }
        self.undo(context, ids, actions)
    }

    fn undo(&mut self, context: &Context, ids: &mut CallIds, actions: &mut Vec<Action>) -> Progress {
        // A call that is still under way is for a copy that has failed: its answer is not awaited.
        let disabled = self.has_disabled();
        self.stage = Stage::Undoing;
        if !disabled {
            self.calling = None;
            return self.end();
        }
        self.calling = Some(context.command(request::dhcp_enable(), ids, actions));
        Progress::Undoing
    }

    fn end(&mut self) -> Progress {
        let unknown = || Failure::Copy("the copy was given up".to_owned());
        Progress::Failed(self.failure.take().unwrap_or_else(unknown))
    }
}
