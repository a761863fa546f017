//! Synchronisation (ha-protocol 6): all leases of another server are copied, then it is told so.
//!
//! Pure: calls and pages to apply go out as actions, their results come back. Everything goes over one
//! connection of its own. From a Kea: disable, page, apply, … , then the notification; `dhcp-disable` is repeated before
//! every page, because it re-arms the source's timer, and deletions made while the copier was away are not repaired,
//! as in Kea. From a Tandem server, which goes on serving: [`live`].

mod live;

use std::net::Ipv4Addr;

use self::live::Live;
use super::command::{PageRequest, Reply, ReplyError, request, result};
use super::copy::CopyRows;
use super::event::{Action, Call, CallId};
use super::lease_page::Page;
use super::relationship::Relationship;
use super::state::Role;
use crate::engine::message::{Applied, Line, Span, Terms, UpdateKind};
use crate::limits::{COPY_LEASES, SYNC_PAGE_LEASES_MAX};

/// Time for every command but a page, milliseconds.
const COMMAND_TIMEOUT_MS: u64 = 10_000;

/// Who asked for the copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// `ha-sync`: the state is left alone, and the command with this token is answered at the end.
    Administrator {
        /// The driver's number of the command.
        token: u64,
    },
    /// Both serve, and each may lack what the other has given while they could not hear each other: the states are left
    /// alone, and so is the service of both.
    Comparison,
    /// The state `syncing`.
    OwnState,
}

/// What a result led to.
#[derive(Debug, Eq, PartialEq)]
pub enum Progress {
    /// Every page is applied; [`Synchronisation::notify`] is to be called once `ready` is advertised (6.11).
    Copied {
        /// As for `Pending`.
        page: Option<(usize, usize, Option<String>)>,
    },
    /// It has failed; nothing is outstanding.
    Failed(Failure),
    /// Done, and the source serves again.
    Finished,
    /// A call or a page is outstanding.
    Pending {
        /// A page of this many leases has come, of which this many were skipped, the first for the reason.
        page: Option<(usize, usize, Option<String>)>,
    },
    /// A step has failed, and the source is asked to serve again.
    Undoing,
}

/// Which step failed, and why.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// A page could not be applied here.
    #[error("applying leases failed: {0}")]
    Apply(String),
    /// A Tandem server does not give its leases while it serves; the next copy is as from a Kea.
    #[error("tandem-lease4-copy failed: {0}")]
    Copy(String),
    /// `dhcp-disable`.
    #[error("dhcp-disable failed: {0}")]
    Disable(String),
    /// `dhcp-enable` in place of a notification the source does not know.
    #[error("dhcp-enable failed: {0}")]
    Enable(String),
    /// `ha-sync-complete-notify`.
    #[error("ha-sync-complete-notify failed: {0}")]
    Notify(String),
    /// `lease4-get-page`.
    #[error("lease4-get-page failed: {0}")]
    Page(String),
}

/// One copy.
#[derive(Clone, Debug)]
pub struct Synchronisation {
    /// What it is made under.
    pub context: Context,
    /// When it began, monotonic.
    pub started_ns: u64,
    /// What became of the leases so far.
    pub applied: Applied,
    this_server_name: String,
    after: Option<Ipv4Addr>,
    phase: Phase,
}

/// Whom a copy is from and what for, and what it is told by the configuration.
#[derive(Clone, Debug)]
pub struct Context {
    /// Place of the relationship in the list.
    relationship: u8,
    /// Peer index of the source.
    pub peer: u8,
    /// Who asked for it.
    pub purpose: Purpose,
    /// The server that copies is a backup: all its leases are of others.
    gives_none: bool,
    /// `max-period` of `dhcp-disable`, seconds.
    max_period_s: u64,
    /// `sync-page-limit`.
    sync_page_limit: u32,
    page_timeout_ms: u64,
}

impl Context {
    /// Leases in a page of a Tandem server.
    fn page_limit(&self) -> usize {
        usize::try_from(self.sync_page_limit).unwrap_or(COPY_LEASES).clamp(1, COPY_LEASES)
    }

    /// Leases in a page of a Kea. A larger page would not fit an answer.
    fn kea_page_limit(&self) -> u32 {
        self.sync_page_limit.clamp(1, SYNC_PAGE_LEASES_MAX)
    }

    /// A server that joins takes the word of the Tandem that has served, and a backup the word of anybody who has; one that
    /// serves itself knows better what has happened within the second.
    fn terms(&self) -> Terms {
        match self.purpose {
            Purpose::Administrator { .. } if self.gives_none => Terms::Joining,
            Purpose::Administrator { .. } => Terms::Merging,
            Purpose::Comparison => {
                Terms::Comparison(Span { relationship: self.relationship, ..Span::default() })
            }
            Purpose::OwnState => Terms::Joining,
        }
    }

    /// Whether the source goes on serving meanwhile, as a Kea, and is not told of the end either.
    fn leaves_source_alone(&self) -> bool {
        self.purpose == Purpose::Comparison
    }

    /// Any command but a page.
    fn command(&self, body: Vec<u8>, ids: &mut CallIds, actions: &mut Vec<Action>) -> CallId {
        self.call(body, COMMAND_TIMEOUT_MS, ids, actions)
    }

    fn call(&self, body: Vec<u8>, timeout_ms: u64, ids: &mut CallIds, actions: &mut Vec<Action>) -> CallId {
        let id = ids.next_id();
        actions.push(Action::Call(Call { id, peer: self.peer, body, timeout_ms, line: Line::Copy }));
        id
    }
}

#[derive(Clone, Debug)]
enum Phase {
    /// `more` is the bound of the next page, if there is one.
    Applying {
        id: CallId,
        more: Option<Ipv4Addr>,
    },
    Copied,
    Disabling {
        id: CallId,
    },
    /// Undoing the disable after a failure; its own result does not count.
    Enabling {
        id: CallId,
        failure: Failure,
    },
    EnablingInsteadOfNotify {
        id: CallId,
    },
    Fetching {
        id: CallId,
    },
    Live(Live),
    Notifying {
        id: CallId,
    },
    Over,
}

/// Numbers for calls and pages.
#[derive(Clone, Debug, Default)]
pub struct CallIds(u64);

impl CallIds {
    /// The next number.
    pub fn next_id(&mut self) -> CallId {
        self.0 += 1;
        CallId(self.0)
    }
}

impl Synchronisation {
    /// Begins a copy from the peer with index `peer`: `live` from a Tandem server that goes on serving, else as from a
    /// Kea. Without `max_period_s` the source's service is off for `sync-timeout` at most.
    #[expect(clippy::too_many_arguments, reason = "each is another party's word")]
    pub fn start(
        purpose: Purpose,
        peer: u8,
        live: bool,
        relationship: &Relationship,
        max_period_s: Option<u64>,
        now_ns: u64,
        ids: &mut CallIds,
        actions: &mut Vec<Action>,
    ) -> Self {
        let context = Context {
            relationship: relationship.index,
            peer,
            purpose,
            gives_none: relationship.role == Role::Backup,
            max_period_s: max_period_s.unwrap_or_else(|| relationship.sync_max_period_s()),
            sync_page_limit: relationship.sync_page_limit,
            page_timeout_ms: u64::from(relationship.sync_timeout_ms),
        };
        let mut synchronisation = Self {
            context,
            started_ns: now_ns,
            applied: Applied::default(),
            this_server_name: relationship.this_server_name.clone(),
            after: None,
            phase: Phase::Over,
        };
        if live {
            synchronisation.phase = Phase::Live(Live::start(&synchronisation.context, ids, actions));
        } else if synchronisation.context.leaves_source_alone() {
            synchronisation.fetch(ids, actions);
        } else {
            synchronisation.disable(ids, actions);
        }
        synchronisation
    }

    /// Whether `id` is the call or page this copy waits for.
    pub fn awaits(&self, id: CallId) -> bool {
        match &self.phase {
            Phase::Applying { id: awaited, .. }
            | Phase::Disabling { id: awaited }
            | Phase::Enabling { id: awaited, .. }
            | Phase::EnablingInsteadOfNotify { id: awaited }
            | Phase::Fetching { id: awaited }
            | Phase::Notifying { id: awaited } => *awaited == id,
            Phase::Live(live) => live.awaits(id),
            Phase::Copied | Phase::Over => false,
        }
    }

    /// A call has ended.
    pub fn handle_call(
        &mut self,
        result: Result<Vec<u8>, String>,
        ids: &mut CallIds,
        actions: &mut Vec<Action>,
    ) -> Progress {
        if let Phase::Live(live) = &mut self.phase {
            let progress = live.handle_call(result, &self.context, ids, actions);
            return self.after_live(progress);
        }
        let outcome =
            result.and_then(|body| Reply::parse_success(&body).map(|_| body).map_err(|e| e.to_string()));
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Disabling { .. } => match outcome {
                Ok(_) => self.fetch(ids, actions),
                // Nothing is disabled yet, so there is nothing to undo.
                Err(reason) if self.after.is_none() => Progress::Failed(Failure::Disable(reason)),
                Err(reason) => self.undo(Failure::Disable(reason), ids, actions),
            },
            Phase::Fetching { .. } => self.handle_page(outcome, ids, actions),
            Phase::Enabling { failure, .. } => Progress::Failed(failure),
            Phase::EnablingInsteadOfNotify { .. } => match outcome {
                Ok(_) => Progress::Finished,
                Err(reason) => Progress::Failed(Failure::Enable(reason)),
            },
            other => {
                self.phase = other;
                Progress::Pending { page: None }
            }
        }
    }

    fn after_live(&mut self, progress: Progress) -> Progress {
        match progress {
            Progress::Copied { .. } => self.phase = Phase::Copied,
            Progress::Failed(_) => self.phase = Phase::Over,
            Progress::Finished | Progress::Pending { .. } | Progress::Undoing => {}
        }
        progress
    }

    /// The notification has ended: result 2 is answered with `dhcp-enable` (6.2).
    pub fn handle_notified(
        &mut self,
        result: Result<Vec<u8>, String>,
        ids: &mut CallIds,
        actions: &mut Vec<Action>,
    ) -> Progress {
        self.phase = Phase::Over;
        let parsed = match result {
            Ok(body) => Reply::parse_success(&body),
            Err(reason) => return Progress::Failed(Failure::Notify(reason)),
        };
        match parsed {
            Ok(_) => Progress::Finished,
            Err(ReplyError::Result { result: result::UNSUPPORTED, .. }) => {
                let id = self.context.command(request::dhcp_enable(), ids, actions);
                self.phase = Phase::EnablingInsteadOfNotify { id };
                Progress::Pending { page: None }
            }
            Err(error) => Progress::Failed(Failure::Notify(error.to_string())),
        }
    }

    /// Whether the outstanding call is the notification.
    pub fn is_notifying(&self) -> bool {
        matches!(self.phase, Phase::Notifying { .. })
    }

    /// A page has been applied.
    pub fn handle_applied(
        &mut self,
        result: Result<Applied, String>,
        ids: &mut CallIds,
        actions: &mut Vec<Action>,
    ) -> Progress {
        let result = result.map(|applied| self.applied.add(applied));
        if let Phase::Live(live) = &mut self.phase {
            let progress = live.handle_applied(result, &self.context, ids, actions);
            return self.after_live(progress);
        }
        let Phase::Applying { more, .. } = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Progress::Pending { page: None };
        };
        match (result, more) {
            (Err(reason), _) => self.undo(Failure::Apply(reason), ids, actions),
            (Ok(()), None) if self.context.leaves_source_alone() => Progress::Finished,
            (Ok(()), None) => {
                self.phase = Phase::Copied;
                Progress::Copied { page: None }
            }
            (Ok(()), Some(after)) => {
                self.after = Some(after);
                if self.context.leaves_source_alone() {
                    return self.fetch(ids, actions);
                }
                self.disable(ids, actions);
                Progress::Pending { page: None }
            }
        }
    }

    /// Tells the source that the copy is complete.
    pub fn notify(&mut self, ids: &mut CallIds, actions: &mut Vec<Action>) {
        let body = request::sync_complete_notify(&self.this_server_name);
        let id = self.context.command(body, ids, actions);
        self.phase = Phase::Notifying { id };
    }

    /// Gives the copy up half-way, and the source its service back; the answer is not awaited.
    pub fn abort(self, ids: &mut CallIds, actions: &mut Vec<Action>) {
        let serves = matches!(&self.phase, Phase::Live(live) if !live.has_disabled());
        if !serves && !self.context.leaves_source_alone() {
            let _ = self.context.command(request::dhcp_enable(), ids, actions);
        }
        actions.push(Action::Close { peer: self.context.peer, line: Line::Copy });
    }

    fn handle_page(
        &mut self,
        outcome: Result<Vec<u8>, String>,
        ids: &mut CallIds,
        actions: &mut Vec<Action>,
    ) -> Progress {
        let page = match outcome.and_then(|body| Page::parse(&body).map_err(|error| error.to_string())) {
            Ok(page) => page,
            Err(reason) => return self.undo(Failure::Page(reason), ids, actions),
        };
        let full = page.received as u64 >= u64::from(self.context.kea_page_limit());
        let more = if full { page.last } else { None };
        // A source that does not get on would be asked for ever.
        if full && page.last.is_none_or(|last| self.after.is_some_and(|after| last <= after)) {
            let reason = "the source does not advance".to_owned();
            return self.undo(Failure::Page(reason), ids, actions);
        }
        let skipped = page.received - page.leases.len();
        let id = ids.next_id();
        self.phase = Phase::Applying { id, more };
        let rows = page.leases.into_iter().map(|lease| (UpdateKind::Update, lease)).collect();
        // A Kea's cltt is all there is to go by (ha-protocol 6.3) for who gives leases as well.
        let terms = match self.context.terms() {
            Terms::Joining if !self.context.gives_none => Terms::Merging,
            Terms::Comparison(span) => Terms::Comparison(Span { after: self.after, upto: more, ..span }),
            terms => terms,
        };
        actions.push(Action::ApplyPage { id, rows: CopyRows { rows, terms } });
        Progress::Pending { page: Some((page.received, skipped, page.skipped.into_iter().next())) }
    }

    fn disable(&mut self, ids: &mut CallIds, actions: &mut Vec<Action>) {
        let id = self.context.command(request::dhcp_disable(self.context.max_period_s), ids, actions);
        self.phase = Phase::Disabling { id };
    }

    fn fetch(&mut self, ids: &mut CallIds, actions: &mut Vec<Action>) -> Progress {
        let page = PageRequest { after: self.after, limit: self.context.kea_page_limit() };
        let id = self.context.call(request::lease_page(page), self.context.page_timeout_ms, ids, actions);
        self.phase = Phase::Fetching { id };
        Progress::Pending { page: None }
    }

    fn undo(&mut self, failure: Failure, ids: &mut CallIds, actions: &mut Vec<Action>) -> Progress {
        if self.context.leaves_source_alone() {
            return Progress::Failed(failure);
        }
        let id = self.context.command(request::dhcp_enable(), ids, actions);
        self.phase = Phase::Enabling { id, failure };
        Progress::Undoing
    }
}
