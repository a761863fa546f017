//! From the socket to the first decision: reading, counting, service and HA scope, acceptance (a.2, a.4).

use shards::{DatagramMeta, Lane, Lease, SmallBytes};

use crate::dhcp4::identity::ClientIdentity;
use crate::dhcp4::scope;
use crate::dhcp4::select::{self, DropReason};
use crate::engine::counters::{Counter, OwnCounter};
use crate::engine::event::{ClientLabel, EventKind};
use crate::engine::message::{Asked, Message, UnansweredClient};
use crate::engine::routing::{Asking, IdentityKeys};
use crate::engine::shard::{Shard, Turn};
use crate::policy::{Attachment, Scope, Subnet};
use crate::wire::WireError;
use crate::wire::codes::{self, MessageType};
use crate::wire::query::{self, Query};

impl Shard {
    /// A datagram from the socket.
    pub fn receive(&mut self, turn: &mut Turn, meta: &DatagramMeta, bytes: &[u8]) {
        self.statistics.bump(Counter::Received);
        if !self.relations.serve_anyone() {
            let nobody = ClientLabel::new(0, &[], &[], 0);
            self.drop_query(turn, nobody, Counter::ServiceDisabled, EventKind::DropServiceDisabled);
            return;
        }
        let query = match Query::decode(bytes) {
            Ok(query) => query,
            Err(error) => return self.drop_malformed(turn, error),
        };
        self.count_received(&query);
        let label = label_of(&query);
        let Some(scope) = self.scope_of(&query) else {
            return self.drop_out_of_scope(turn, &query, label, 0);
        };
        if !self.relations.are_several() && self.has_stood_still(turn, label, 0) {
            return;
        }
        match select::accept(&query, meta, &turn.rules.snapshot) {
            Ok(kind) => {
                let identity = ClientIdentity::of(&query);
                let keys = IdentityKeys::of(&identity, &self.steering.identities);
                self.route(turn, &Asking { query: &query, meta, identity, keys, kind, label, scope });
            }
            Err(DropReason::NotForUs) => {
                self.drop_query(turn, label, Counter::NotForUs, EventKind::DropServerIdentifier);
            }
            Err(_) => self.drop_query(turn, label, Counter::RfcViolation, EventKind::DropRfcViolation),
        }
    }

    /// The place of the index where the look-up of the sender of `bytes` begins, if it has a hardware address.
    pub fn ahead(&self, bytes: &[u8]) -> Option<&u64> {
        let chaddr = query::chaddr_of(bytes)?;
        Some(self.partition.identities().hardware.first_read(self.steering.identities.key(chaddr)))
    }

    fn drop_malformed(&mut self, turn: &mut Turn, error: WireError) {
        self.statistics.bump_malformed(error.counter_name());
        let nobody = ClientLabel::new(0, &[], &[], 0);
        self.drop_query(
            turn,
            nobody,
            Counter::ParseFailed,
            EventKind::DropUnpack { fault: error.counter_name() },
        );
    }

    fn count_received(&mut self, query: &Query) {
        let value = query.option(codes::DHCP_MESSAGE_TYPE).and_then(|payload| payload.first().copied());
        self.statistics.bump(match value {
            Some(1) => Counter::DiscoverReceived,
            Some(2) => Counter::OfferReceived,
            Some(3) => Counter::RequestReceived,
            Some(4) => Counter::DeclineReceived,
            Some(5) => Counter::AckReceived,
            Some(6) => Counter::NakReceived,
            Some(7) => Counter::ReleaseReceived,
            Some(8) => Counter::InformReceived,
            Some(10) => Counter::LeaseQueryReceived,
            _ => Counter::UnknownReceived,
        });
    }

    /// Whose the query is; `None` where it is none of this server's business (ha-protocol 5.9). Messages that are no
    /// client's business with its lease are everyone's, in the primary's class. With several relationships, which are
    /// hot-standby all of them, it is decided once the subnet is known (1.9).
    fn scope_of(&self, query: &Query) -> Option<Scope> {
        use MessageType::{Decline, Discover, Inform, Release, Request};
        let subject = matches!(query.message_type(), Some(Decline | Discover | Inform | Release | Request));
        let view = &self.relations.first().view;
        if !view.configured || !subject || self.relations.are_several() {
            return Some(Scope::Primary);
        }
        let scope = match view.balancing {
            true => scope::bucket(query.client_id().unwrap_or_default(), query.chaddr())?,
            false => Scope::Primary,
        };
        view.scopes.serves(scope).then_some(scope)
    }

    /// Whether a query that is served from `subnet` is this server's business. With one relationship that has been
    /// decided before; with several it is the subnet's that decides, and a query it is not answered for is dropped here.
    pub fn admits(&mut self, turn: &mut Turn, asking: &Asking, subnet: Option<&Subnet>) -> bool {
        if !self.relations.are_several() {
            return true;
        }
        let reason = match subnet.map(|subnet| subnet.attachment) {
            Some(Attachment::Of(relationship)) => return self.admits_to(turn, asking, relationship),
            Some(Attachment::Invalid) => EventKind::HaServerNameInvalid,
            Some(Attachment::Stranger) => EventKind::HaNoRelationship,
            Some(Attachment::Unnamed) => EventKind::HaNoServerName,
            None => EventKind::HaNoSubnet,
        };
        self.drop_query(turn, asking.label, Counter::NotForUs, reason);
        false
    }

    /// The same of a query about a lease: it is its subnet that counts. Where there is no lease there is nothing to keep.
    pub fn admits_for(&mut self, turn: &mut Turn, asking: &Asking, lease: Option<&Lease>) -> bool {
        if !self.relations.are_several() {
            return true;
        }
        let rules = turn.rules;
        lease.is_none_or(|lease| self.admits(turn, asking, rules.snapshot.subnet(lease.subnet_id)))
    }

    fn admits_to(&mut self, turn: &mut Turn, asking: &Asking, relationship: u8) -> bool {
        let view = &self.relations.of(relationship).view;
        if !view.service_on {
            let kind = EventKind::DropServiceDisabled;
            self.drop_query(turn, asking.label, Counter::ServiceDisabled, kind);
            return false;
        }
        if !view.scopes.serves(Scope::Primary) {
            self.drop_out_of_scope(turn, asking.query, asking.label, relationship);
            return false;
        }
        !self.has_stood_still(turn, asking.label, relationship)
    }

    /// Whether this server did not run for so long that the relationship's partner may serve in its place, and has not
    /// heard it since: a query is dropped then.
    fn has_stood_still(&mut self, turn: &mut Turn, label: ClientLabel, relationship: u8) -> bool {
        let is_outdated = self.relations.of(relationship).view.is_outdated(turn.now.monotonic_ns);
        if is_outdated {
            self.statistics.bump_own(OwnCounter::StoodStill);
            self.drop_query(turn, label, Counter::ServiceDisabled, EventKind::DropServiceDisabled);
        }
        is_outdated
    }

    fn drop_out_of_scope(&mut self, turn: &mut Turn, query: &Query, label: ClientLabel, relationship: u8) {
        self.statistics.bump_own(OwnCounter::OutOfScope);
        self.statistics.bump(Counter::ReceiveDrop);
        turn.log(label, EventKind::HaNotForUs);
        let control = self.topology.control();
        let interrupted = self.relations.of(relationship).view.interrupted;
        // Without credit the report is lost; the client asks again, with a higher `secs`.
        if interrupted && turn.actions.reserve(control, Lane::State, 1) {
            let client = UnansweredClient {
                relationship,
                hwaddr: SmallBytes::new(query.chaddr()),
                client_id: SmallBytes::new(query.client_id().unwrap_or_default()),
                secs: query.secs(),
                asked: match query.message_type() {
                    Some(MessageType::Discover) => Asked::Any,
                    Some(MessageType::Request) if query.has_option(codes::DHCP_SERVER_IDENTIFIER) => {
                        Asked::One
                    }
                    _ => Asked::Other,
                },
            };
            turn.actions.send(control, Lane::State, Message::Unanswered(Box::new(client)));
        }
    }
}

/// The log label of the sender of `query`.
pub(super) fn label_of(query: &Query) -> ClientLabel {
    ClientLabel::new(query.htype(), query.chaddr(), query.client_id().unwrap_or_default(), query.xid())
}
