//! Where a query is decided: arrival, home, owner.
//!
//! | Role | Shard | Knows |
//! |---|---|---|
//! | arrival | of the hardware address, as the kernel steers | leases by hardware address |
//! | home | of the client identifier, else the arrival shard | leases by client identifier |
//! | owner | of the address | the lease |
//!
//! A query moves whole. Arrival to home, home to owner: two forwards; an owner that finds the index entry stale
//! sends it back once. Without kernel steering it is one forward more. Only spilling goes further: once to every
//! shard that shows a free address. Indexes are hints: whatever they say, the owner looks at the lease itself.
//!
//! The datagram lane may be full: the query is dropped and counted, and the client sends it again.

use std::net::Ipv4Addr;

use shards::partition::IdentityHasher;
use shards::{DatagramMeta, Lane};

use crate::dhcp4::identity::ClientIdentity;
use crate::dhcp4::request::{Asked, RequestState};
use crate::dhcp4::select;
use crate::engine::counters::{Counter, OwnCounter};
use crate::engine::event::{ClientLabel, EventKind};
use crate::engine::message::{Forward, ForwardReason, Held, HeldAddresses, Message};
use crate::engine::receive::label_of;
use crate::engine::shard::{Shard, Turn};
use crate::limits;
use crate::policy::{Scope, Subnet};
use crate::wire::Query;
use crate::wire::codes::MessageType;

/// Forwards of a query that does not spill: to the arrival shard (without kernel steering), to the home, to the
/// owner, and back. Spilling adds one for each shard.
pub(super) const FORWARDS_MAX: u8 = 4;

/// An accepted query.
#[derive(Clone, Copy)]
pub(super) struct Asking<'q> {
    pub query: &'q Query<'q>,
    pub meta: &'q DatagramMeta,
    pub identity: ClientIdentity<'q>,
    pub keys: IdentityKeys,
    pub kind: MessageType,
    pub label: ClientLabel,
    /// Whose the query is, as it was decided where it arrived.
    pub scope: Scope,
}

/// Index keys of a client.
#[derive(Clone, Copy)]
pub(super) struct IdentityKeys {
    pub hardware: u64,
    pub client_id: Option<u64>,
}

impl IdentityKeys {
    pub fn of(identity: &ClientIdentity, hasher: &IdentityHasher) -> Self {
        Self {
            hardware: hasher.key(identity.chaddr),
            client_id: identity.client_id.map(|client_id| hasher.key(client_id)),
        }
    }
}

/// How far a query has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub hops: u8,
    pub arrival: u8,
    pub home: u8,
    pub spilled: u64,
    pub held: HeldAddresses,
}

impl Shard {
    /// An accepted query from the socket.
    pub fn route(&mut self, turn: &mut Turn, asking: &Asking) {
        match asking.kind {
            MessageType::Inform => self.serve_inform(turn, asking),
            MessageType::Release => {
                self.serve_at_owner(turn, asking, asking.query.ciaddr(), Self::serve_release)
            }
            MessageType::Decline => {
                // Acceptance has made sure that option 50 is there.
                let address = asking.query.requested_address().unwrap_or(Ipv4Addr::UNSPECIFIED);
                self.serve_at_owner(turn, asking, address, Self::serve_decline);
            }
            _ => {
                let arrival = self.arrival_of(asking);
                let route =
                    Route { hops: 0, arrival, home: arrival, spilled: 0, held: HeldAddresses::default() };
                if arrival == self.number {
                    self.at_arrival(turn, asking, route);
                } else {
                    // The kernel does not steer: the hardware-address index is elsewhere.
                    self.forward(turn, asking, arrival, ForwardReason::Home, route);
                }
            }
        }
    }

    /// A query from another shard. Its acceptance was decided where it arrived.
    pub fn handle_forward(&mut self, turn: &mut Turn, forward: Box<Forward>) {
        self.take_forward(turn, &forward);
        if self.forward_boxes.len() < limits::SPARE_BOXES_MAX {
            self.forward_boxes.push(forward);
        }
    }

    fn take_forward(&mut self, turn: &mut Turn, forward: &Forward) {
        // It was read before, where it arrived, so that it can be read now.
        let Ok(query) = Query::decode(&forward.datagram) else { return };
        let Some(kind) = query.message_type() else { return };
        let label = label_of(&query);
        let identity = ClientIdentity::of(&query);
        let keys = IdentityKeys::of(&identity, &self.steering.identities);
        let scope = forward.scope;
        let asking = Asking { query: &query, meta: &forward.meta, identity, keys, kind, label, scope };
        let Forward { hops, arrival, home, spilled, held, .. } = *forward;
        let route = Route { hops, arrival, home, spilled, held };
        match kind {
            MessageType::Release => return self.serve_release(turn, &asking),
            MessageType::Decline => return self.serve_decline(turn, &asking),
            _ => {}
        }
        if forward.reason == ForwardReason::Home && arrival == self.number {
            return self.at_arrival(turn, &asking, route);
        }
        let rules = turn.rules;
        let Some(subnet) = select::subnet(&query, &forward.meta, scope, &rules.snapshot) else {
            return self.serve_without_subnet(turn, &asking);
        };
        match forward.reason {
            ForwardReason::Home => self.at_home(turn, &asking, subnet, route),
            ForwardReason::NotYours => self.back_at_home(turn, &asking, subnet, route),
            ForwardReason::Owner => self.at_owner(turn, &asking, subnet, route),
            ForwardReason::Spill => self.find_address(turn, &asking, subnet, route),
        }
    }

    /// Where the index by hardware address is: the shard the kernel steers to.
    fn arrival_of(&self, asking: &Asking) -> u8 {
        if asking.identity.chaddr.is_empty() {
            self.number
        } else {
            self.steering.shard_of_hardware(asking.identity.chaddr)
        }
    }

    fn at_arrival(&mut self, turn: &mut Turn, asking: &Asking, mut route: Route) {
        let rules = turn.rules;
        let subnet = select::subnet(asking.query, asking.meta, asking.scope, &rules.snapshot);
        if !self.admits(turn, asking, subnet) {
            return;
        }
        let Some(subnet) = subnet else {
            return self.serve_without_subnet(turn, asking);
        };
        if !asking.identity.chaddr.is_empty() {
            for entry in self.partition.identities().hardware.find(asking.keys.hardware) {
                if entry.subnet_id == subnet.id {
                    add_held(&mut route.held, entry.address, false);
                }
            }
        }
        if let Some(client_id) = asking.identity.client_id.filter(|_| subnet.match_client_id) {
            route.home = self.steering.shard_of_client_id(client_id);
        }
        if route.home == self.number {
            self.at_home(turn, asking, subnet, route);
        } else {
            self.forward(turn, asking, route.home, ForwardReason::Home, route);
        }
    }

    fn at_home(&mut self, turn: &mut Turn, asking: &Asking, subnet: &Subnet, mut route: Route) {
        if let Some(key) = asking.keys.client_id.filter(|_| subnet.match_client_id) {
            let by_hardware = route.held;
            route.held = HeldAddresses::default();
            for entry in self.partition.identities().client_id.find(key) {
                if entry.subnet_id == subnet.id {
                    add_held(&mut route.held, entry.address, true);
                }
            }
            for held in held_addresses(&by_hardware) {
                add_held(&mut route.held, held.address, held.by_client_id);
            }
        }
        if asking.kind == MessageType::Discover {
            self.discover_at_home(turn, asking, subnet, route);
        } else {
            self.request_at_home(turn, asking, subnet, route);
        }
    }

    fn discover_at_home(&mut self, turn: &mut Turn, asking: &Asking, subnet: &Subnet, route: Route) {
        for held in held_addresses(&route.held) {
            let owner = turn.rules.owners.owner_of(held.address);
            if owner != self.number {
                return self.forward(turn, asking, owner, ForwardReason::Owner, route);
            }
            if self.offer_own(turn, asking, subnet, held.address) {
                return;
            }
        }
        if let Some(asked) = asked_in_pool(asking, subnet) {
            let owner = turn.rules.owners.owner_of(asked);
            if owner != self.number {
                return self.forward(turn, asking, owner, ForwardReason::Owner, route);
            }
            if self.offer_asked(turn, asking, subnet, asked) {
                return;
            }
        }
        self.find_address(turn, asking, subnet, route);
    }

    fn request_at_home(&mut self, turn: &mut Turn, asking: &Asking, subnet: &Subnet, route: Route) {
        let Asked { state, address } = Asked::of(asking.query, asking.meta);
        let Some(address) = address else {
            return self.request_without_address(turn, asking, subnet, route);
        };
        // A client in INIT-REBOOT that holds another address is refused, once the owner of that has confirmed it.
        let holds = |address| held_addresses(&route.held).any(|held| held.address == address);
        if state == RequestState::InitReboot && !holds(address) {
            for held in held_addresses(&route.held) {
                let owner = turn.rules.owners.owner_of(held.address);
                if owner != self.number {
                    return self.forward(turn, asking, owner, ForwardReason::Owner, route);
                }
                if self.is_own(turn, asking, subnet, held.address) {
                    return self.serve_request(turn, asking, subnet, &route, address);
                }
            }
        }
        let owner = turn.rules.owners.owner_of(address);
        if owner == self.number {
            self.serve_request(turn, asking, subnet, &route, address);
        } else {
            self.forward(turn, asking, owner, ForwardReason::Owner, route);
        }
    }

    /// b.5 rule 7: the client's own lease, else the allocator's pick.
    fn request_without_address(&mut self, turn: &mut Turn, asking: &Asking, subnet: &Subnet, route: Route) {
        for held in held_addresses(&route.held) {
            let owner = turn.rules.owners.owner_of(held.address);
            if owner != self.number {
                return self.forward(turn, asking, owner, ForwardReason::Owner, route);
            }
            if self.is_own(turn, asking, subnet, held.address) {
                return self.serve_request(turn, asking, subnet, &route, held.address);
            }
        }
        self.find_address(turn, asking, subnet, route);
    }

    /// At the owner of an address the client holds or asks for.
    fn at_owner(&mut self, turn: &mut Turn, asking: &Asking, subnet: &Subnet, route: Route) {
        if asking.kind == MessageType::Discover {
            if self.offer_local(turn, asking, subnet, &route) {
                return;
            }
            let asked = asked_in_pool(asking, subnet).filter(|asked| self.partition.owns(*asked));
            return match asked {
                // It was sent here for the address it asked for: what it gets instead is found from here.
                Some(_) => self.find_address(turn, asking, subnet, route),
                None => self.send_back(turn, asking, route),
            };
        }
        match Asked::of(asking.query, asking.meta).address {
            Some(address) if self.partition.owns(address) => {
                self.serve_request(turn, asking, subnet, &route, address);
            }
            asked => match (self.own_held(turn, asking, subnet, &route), asked) {
                // INIT-REBOOT with an address other than the one the client holds here: the NAK is decided here.
                (Some(_), Some(address)) => self.serve_request(turn, asking, subnet, &route, address),
                (Some(own), None) => self.serve_request(turn, asking, subnet, &route, own),
                (None, _) => self.send_back(turn, asking, route),
            },
        }
    }

    /// The index entry the query was sent by was stale: the client is served as one that has no lease, but for
    /// what this shard itself owns.
    fn back_at_home(&mut self, turn: &mut Turn, asking: &Asking, subnet: &Subnet, route: Route) {
        if asking.kind == MessageType::Discover {
            if !self.offer_local(turn, asking, subnet, &route) {
                self.find_address(turn, asking, subnet, route);
            }
            return;
        }
        match Asked::of(asking.query, asking.meta).address {
            Some(address) => self.serve_request(turn, asking, subnet, &route, address),
            None => match self.own_held(turn, asking, subnet, &route) {
                Some(own) => self.serve_request(turn, asking, subnet, &route, own),
                None => self.find_address(turn, asking, subnet, route),
            },
        }
    }

    /// Offers what this shard owns of what the client holds or asks for.
    fn offer_local(&mut self, turn: &mut Turn, asking: &Asking, subnet: &Subnet, route: &Route) -> bool {
        for held in held_addresses(&route.held) {
            if self.partition.owns(held.address) && self.offer_own(turn, asking, subnet, held.address) {
                return true;
            }
        }
        let asked = asked_in_pool(asking, subnet).filter(|asked| self.partition.owns(*asked));
        asked.is_some_and(|asked| self.offer_asked(turn, asking, subnet, asked))
    }

    /// The first address the client holds that this shard owns.
    fn own_held(&self, turn: &Turn, asking: &Asking, subnet: &Subnet, route: &Route) -> Option<Ipv4Addr> {
        held_addresses(&route.held)
            .map(|held| held.address)
            .find(|&address| self.partition.owns(address) && self.is_own(turn, asking, subnet, address))
    }

    fn send_back(&mut self, turn: &mut Turn, asking: &Asking, route: Route) {
        if route.home == self.number {
            // A home never sends to itself; a query that says so is lost on a change of owners.
            return self.drop_query(
                turn,
                asking.label,
                Counter::ProcessingFailed,
                EventKind::DropProcessingFailed,
            );
        }
        self.forward(turn, asking, route.home, ForwardReason::NotYours, route);
    }

    /// Sends a query on to the shard `to`.
    pub fn forward(&mut self, turn: &mut Turn, asking: &Asking, to: u8, reason: ForwardReason, route: Route) {
        debug_assert!(to != self.number, "a query is not forwarded to where it is");
        let spills = u8::try_from(route.spilled.count_ones()).unwrap_or(u8::MAX);
        if route.hops >= FORWARDS_MAX.saturating_add(spills) {
            // Cannot happen while all shards have one owner table; counted, because a reload swaps it.
            self.statistics.bump_own(OwnCounter::HopLimit);
            return self.drop_query(
                turn,
                asking.label,
                Counter::ProcessingFailed,
                EventKind::DropProcessingFailed,
            );
        }
        let node = self.node(to);
        if !turn.actions.reserve(node, Lane::Datagram, 1) {
            return self.drop_at_limit(turn, asking.label, OwnCounter::MeshDatagramFull);
        }
        self.statistics.bump_own(match reason {
            ForwardReason::Home => OwnCounter::ForwardHome,
            ForwardReason::NotYours => OwnCounter::ForwardNotYours,
            ForwardReason::Owner => OwnCounter::ForwardOwner,
            ForwardReason::Spill => OwnCounter::ForwardSpill,
        });
        let Route { hops, arrival, home, spilled, held } = route;
        let mut forward = self.forward_boxes.pop().unwrap_or_else(|| {
            let datagram = Vec::new();
            let (meta, scope) = (*asking.meta, asking.scope);
            Box::new(Forward { reason, hops, arrival, home, scope, spilled, held, meta, datagram })
        });
        forward.datagram.clear();
        forward.datagram.extend_from_slice(asking.query.bytes());
        let datagram = std::mem::take(&mut forward.datagram);
        let (meta, scope) = (*asking.meta, asking.scope);
        *forward = Forward { reason, hops: hops + 1, arrival, home, scope, spilled, held, meta, datagram };
        turn.actions.send(node, Lane::Datagram, Message::Forward(forward));
    }

    /// Decides here what is about `address` if this shard owns it, else sends the query to the owner.
    fn serve_at_owner(
        &mut self,
        turn: &mut Turn,
        asking: &Asking,
        address: Ipv4Addr,
        serve: fn(&mut Self, &mut Turn, &Asking),
    ) {
        let owner = turn.rules.owners.owner_of(address);
        if owner == self.number {
            return serve(self, turn, asking);
        }
        let home = self.number;
        let route = Route { hops: 0, arrival: home, home, spilled: 0, held: HeldAddresses::default() };
        self.forward(turn, asking, owner, ForwardReason::Owner, route);
    }
}

/// The addresses in use of `held`.
pub(super) fn held_addresses(held: &HeldAddresses) -> impl Iterator<Item = Held> + '_ {
    held.addresses.iter().copied().take(usize::from(held.count))
}

/// Adds an address once; the ninth is left out, and its lease runs out by itself.
fn add_held(held: &mut HeldAddresses, address: Ipv4Addr, by_client_id: bool) {
    if held_addresses(held).any(|known| known.address == address) {
        return;
    }
    if let Some(place) = held.addresses.get_mut(usize::from(held.count)) {
        *place = Held { address, by_client_id };
        held.count += 1;
    }
}

/// The address a DISCOVER asks for, where the subnet has it in a pool for the client.
fn asked_in_pool(asking: &Asking, subnet: &Subnet) -> Option<Ipv4Addr> {
    let asked = crate::dhcp4::discover::asked(asking.query);
    asked.filter(|asked| subnet.pool_for(*asked, asking.scope).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_addresses_are_kept_once_and_at_most_eight() {
        let mut held = HeldAddresses::default();
        for octet in [1, 2, 1, 3, 4, 5, 6, 7, 8, 9, 10] {
            add_held(&mut held, Ipv4Addr::new(192, 0, 2, octet), octet == 1);
        }
        let octets: Vec<u8> = held_addresses(&held).map(|held| held.address.octets()[3]).collect();
        assert_eq!(octets, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(held.addresses[0].by_client_id && !held.addresses[1].by_client_id);
    }
}
