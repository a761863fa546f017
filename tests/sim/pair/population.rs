//! The clients, each the real client machine with a clock of its own, and the network between them and the servers.

use std::net::Ipv4Addr;

use tandem::client::{Client, ClientConfig, ClientEvent, ClientState, Relay, Route};
use tandem::ha::{OwnState, PartnerState};
use tandem::wire::Query;
use tandem::wire::codes::MessageType;

use super::chance::RESTARTS;
use super::links::{Cut, host_of};
use super::server::{Clock, address, pool};
use super::simulation::{Event, NS_PER_MS, NS_PER_S, Simulation};
use crate::sim::checks::Ack;
use crate::sim::clients::{duid_client_id, hardware};

/// A relay on each link.
fn relay_on(link: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2 + link as u8, 250)
}
/// A client that gave its lease back stays away at least this long, so that its RELEASE, which nobody repeats, is
/// not taken for a newer one than it is: a server cannot tell a late RELEASE from a new one.
const AWAY_NS: u64 = 5 * NS_PER_S;

pub struct Member {
    pub client: Client,
    pub clock: Clock,
    /// The link it is on.
    pub link: usize,
    wake_ns: Option<u64>,
    away_until_ns: u64,
}

impl Member {
    /// The address it uses, and until when by its own clock (in true time).
    pub fn holds(&self) -> Option<(Ipv4Addr, u64)> {
        let lease = self.client.lease()?;
        let until_ns = lease.expires_ns.map_or(u64::MAX, |at_ns| self.clock.true_ns(at_ns));
        Some((lease.address, until_ns))
    }

    pub fn client_id(&self) -> &[u8] {
        self.client.config().client_id.as_deref().unwrap_or_default()
    }

    pub fn hardware(&self) -> [u8; 6] {
        self.client.config().hardware_address
    }
}

impl Simulation {
    /// Makes the clients: every other one with an identifier of RFC 4361, every fourth behind a relay.
    pub fn populate(&mut self) {
        for number in 0..self.plan.clients * self.plan.links() as u32 {
            // As many on each link, each with and without identifiers and relays.
            let link = (number / self.plan.clients) as usize;
            let mut config = ClientConfig::new(hardware(number), self.random_u64());
            config.client_id = (number % 2 == 1).then(|| duid_client_id(number));
            config.broadcast = number % 3 == 0;
            let relay = Relay { address: relay_on(link), agent_options: Vec::new(), carries_unicast: false };
            config.relay = (number % 4 == 2).then_some(relay);
            let clock = Clock { drift_ppm: self.draw(161) as i64 - 80, skew_ms: 0 };
            let now_ns = clock.monotonic_ns(self.now_ns);
            let client = Client::new(now_ns, config);
            self.population.push(Member { client, clock, link, wake_ns: None, away_until_ns: 0 });
            let wait_ns = 1 + self.draw(8 * NS_PER_S);
            let wake_ns = self.now_ns + wait_ns;
            let member = self.population.len() - 1;
            self.population[member].wake_ns = Some(wake_ns);
            self.schedule(wait_ns, Event::ClientWake { member });
        }
    }

    pub fn client_wakes(&mut self, member: usize) {
        let now_ns = self.now_ns;
        let it = &mut self.population[member];
        if it.wake_ns.take_if(|at_ns| *at_ns == now_ns).is_none() {
            return;
        }
        let own_ns = it.clock.monotonic_ns(now_ns);
        it.client.handle_timeout(own_ns);
        self.speak(member);
    }

    /// Sends what a client has to say, and sees to it that it is woken.
    pub fn speak(&mut self, member: usize) {
        let link = self.population[member].link;
        let on_link: Vec<usize> = self.plan.seats_on(link).map(host_of).collect();
        let mut octets = [0; 1500];
        while let Some(outgoing) = self.population[member].client.poll_transmit(&mut octets) {
            if self.silent {
                continue;
            }
            let bytes = &octets[..outgoing.len];
            let (source, servers) = match outgoing.route {
                Route::Broadcast => (outgoing.source, on_link.clone()),
                Route::Relayed => (relay_on(link), on_link.clone()),
                Route::Unicast(to) => {
                    let is_it = |server: &&usize| address(**server, link) == to;
                    (outgoing.source, on_link.iter().filter(is_it).copied().collect())
                }
            };
            let unicast = outgoing.route != Route::Broadcast;
            for server in servers {
                self.send_query(server, link, source, unicast, bytes);
            }
        }
        let now_ns = self.now_ns;
        let it = &mut self.population[member];
        let Some(next) = it.client.next_timeout() else { return };
        let at_ns = it.clock.true_ns(next).max(now_ns + 1);
        if it.wake_ns.is_none_or(|armed| at_ns < armed || armed < now_ns) {
            it.wake_ns = Some(at_ns);
            self.schedule(at_ns - now_ns, Event::ClientWake { member });
        }
    }

    fn send_query(&mut self, server: usize, link: usize, source: Ipv4Addr, unicast: bool, bytes: &[u8]) {
        let kind = Query::decode(bytes).ok().and_then(|query| query.message_type());
        let gives_back = matches!(kind, Some(MessageType::Release | MessageType::Decline));
        if !self.links.is_open(Cut::FromClients(server)) {
            return;
        }
        for delay_ns in self.journeys(gives_back, bytes) {
            let bytes = bytes.to_vec();
            self.schedule(delay_ns, Event::ToServer { server, link, source, unicast, bytes });
        }
    }

    /// How long each copy of a datagram of a client, or for one, travels; none if it is lost.
    fn journeys(&mut self, prompt: bool, bytes: &[u8]) -> Vec<u64> {
        if self.calm {
            return vec![200_000 + self.draw(NS_PER_MS)];
        }
        let member = Query::decode(bytes).ok().and_then(|it| self.member_of(it.chaddr()));
        if self.chance(self.plan.lost_permille) {
            member.into_iter().for_each(|member| self.checks.overtaken.lost(self.now_ns, member));
            return Vec::new();
        }
        let copies = if !prompt && self.chance(self.plan.doubled_permille) { 2 } else { 1 };
        let mut journeys = Vec::new();
        for _ in 0..copies {
            let late = !prompt && self.chance(self.plan.late_permille);
            let spread_ns = if late { 3 * NS_PER_S } else { 2 * NS_PER_MS };
            let journey_ns = 200_000 + self.draw(spread_ns);
            if let Some(member) = member.filter(|_| late) {
                self.checks.overtaken.lost(self.now_ns + journey_ns, member);
            }
            journeys.push(journey_ns);
        }
        journeys
    }

    /// A reply leaves a server.
    pub fn reply(&mut self, server: usize, shard: usize, bytes: Vec<u8>) {
        self.record(&[b"reply", &[server as u8], &bytes]);
        let Ok(reply) = Query::decode(&bytes) else {
            return self.checks.fail(format!("server{} sent what cannot be read", server + 1));
        };
        let (kind, yiaddr, xid) = (reply.message_type(), reply.yiaddr(), reply.xid());
        let lease_time = reply.lease_time();
        let Some(member) = self.member_of(reply.chaddr()) else { return };
        self.trace(|| format!("server{} to client {member}: {kind:?} {yiaddr} xid {xid:08x}", server + 1));
        let mut ack = None;
        match (kind, lease_time) {
            (Some(MessageType::Ack), Some(lifetime_s)) => {
                ack = self.acknowledged(server, shard, member, yiaddr, lifetime_s, xid);
            }
            (Some(MessageType::Nak), _) => self.tally.naks += 1,
            (Some(MessageType::Offer), _) => self.tally.offers += 1,
            _ => {}
        }
        self.send_reply(server, &bytes, ack);
    }

    /// What a server says goes its way; `ack` is the number of the lease it gives.
    pub fn send_reply(&mut self, server: usize, bytes: &[u8], ack: Option<usize>) {
        if !self.links.is_open(Cut::ToClients(server)) {
            return;
        }
        for delay_ns in self.journeys(false, bytes) {
            self.schedule(delay_ns, Event::ToClient { bytes: bytes.to_vec(), ack });
        }
    }

    fn acknowledged(
        &mut self,
        server: usize,
        shard: usize,
        member: usize,
        address: Ipv4Addr,
        lifetime_s: u32,
        xid: u32,
    ) -> Option<usize> {
        let link = self.population[member].link;
        let seat = self.plan.seats_on(link).find(|seat| host_of(*seat) == server)?;
        let end = self.end(seat)?;
        let asked_since_ns = end.asked_since_ns[shard];
        let state = end.machine.state();
        let it = &self.population[member];
        let first = self.checks.requests.first(server, it.hardware(), xid);
        let alone =
            asked_since_ns.is_none_or(|since_ns| first.is_some_and(|first| first.monotonic_ns <= since_ns));
        let wall_s = self.clock_of(server).wall_s();
        let partner = self.plan.partner(seat);
        let partners_state = partner.and_then(|partner| self.state(partner));
        let waited_for = match partner {
            // What an operator has a server serve beside its partner is nobody else's business.
            _ if alone || self.is_by_hand() => Vec::new(),
            Some(partner) => vec![host_of(partner)],
            None => (self.plan.active()..self.servers.len()).collect(),
        };
        self.tally.acks += 1;
        self.tally.acks_alone += u64::from(alone);
        let ack = Ack {
            at_ns: self.now_ns,
            asked_ns: first.map_or(0, |first| self.servers[server].clock.true_ns(first.monotonic_ns)),
            server,
            seat,
            link,
            address,
            lifetime_s,
            xid,
            hardware: it.hardware(),
            client_id: it.client_id().to_vec(),
            wall_s,
            waited_for,
            taken_over: partners_state == Some(PartnerState::PartnerDown),
        };
        let (first, last) = pool(&self.plan, link);
        if !(first..=last).contains(&address) {
            self.checks.fail(format!("{address} lies outside the pool"));
        }
        self.checks.acknowledged(
            &ack,
            |server, address| self.servers[server].durable(address),
            |server, address, is| self.servers[server].was_durable(address, is),
        );
        let serves_after_failure = !self.plan.is_primary(seat) && state == OwnState::PartnerDown;
        let life = self.servers[server].life;
        if serves_after_failure && self.checks.first_in_life(life) {
            self.tally.take_overs += 1;
        }
        let other_serves = self.partner_serves(seat, state);
        self.checks.apart.served(link, self.now_ns);
        Some(self.checks.holders[link].sent(&ack, other_serves || self.is_by_hand()))
    }

    /// Whether the partner of a seat in `state` gives leases to clients of that one as well.
    fn partner_serves(&self, seat: usize, state: OwnState) -> bool {
        let partner = self.plan.partner(seat);
        let partners_state = partner.and_then(|partner| self.state(partner));
        // One that stands still gives nothing, and when it wakes it serves nobody before it has heard this server, unless
        // it served alone already.
        let stands_still =
            partner.is_some_and(|partner| self.servers[host_of(partner)].paused_until_ns > self.now_ns);
        let gives = |state: &PartnerState| {
            let alone =
                [PartnerState::PartnerDown, PartnerState::PartnerInMaintenance, PartnerState::Terminated];
            !stands_still || alone.contains(state)
        };
        let partners_state = partners_state.filter(gives);
        let serves_its_own = match partners_state {
            Some(PartnerState::HotStandby | PartnerState::Terminated) => {
                !self.plan.is_primary(seat) || self.plan.balancing
            }
            Some(PartnerState::CommunicationRecovery | PartnerState::LoadBalancing) => true,
            _ => false,
        };
        let for_both = matches!(state, OwnState::PartnerDown | OwnState::PartnerInMaintenance);
        matches!(partners_state, Some(PartnerState::PartnerDown | PartnerState::PartnerInMaintenance))
            || (serves_its_own && for_both)
    }

    pub fn member_of(&self, chaddr: &[u8]) -> Option<usize> {
        self.population.iter().position(|member| member.hardware() == chaddr)
    }

    /// A reply reaches the link its client is on.
    pub fn client_hears(&mut self, bytes: &[u8], ack: Option<usize>) {
        let Some(member) = Query::decode(bytes).ok().and_then(|reply| self.member_of(reply.chaddr())) else {
            return;
        };
        let it = &mut self.population[member];
        let (own_ns, link) = (it.clock.monotonic_ns(self.now_ns), it.link);
        let event = it.client.handle_reply(own_ns, bytes);
        if let Some(ClientEvent::Bound(lease) | ClientEvent::Renewed(lease)) = event {
            self.trace(|| format!("client {member} holds {}", lease.address));
            let holds: Vec<_> = self.population.iter().map(Member::holds).collect();
            self.checks.holders[link].granted(self.now_ns, member, ack, &holds);
        }
        self.speak(member);
    }

    /// A REQUEST of an exchange its client has given up since may take from it what it holds by now.
    pub fn note_stale_request(&mut self, link: usize, bytes: &[u8]) {
        let Ok(query) = Query::decode(bytes) else { return };
        let Some(member) = self.member_of(query.chaddr()) else { return };
        let stale = query.xid() != self.population[member].client.xid();
        if stale && query.message_type() == Some(MessageType::Request) {
            self.checks.holders[link].disturbed(self.now_ns, member);
        }
    }

    /// A client takes something into its head.
    pub fn act(&mut self, member: usize, what: u64) {
        let wanted = self.random_u64();
        let link = self.population[member].link;
        let (now_ns, (first, _)) = (self.now_ns, pool(&self.plan, link));
        let plan = self.plan;
        let it = &mut self.population[member];
        if now_ns < it.away_until_ns {
            return;
        }
        let own_ns = it.clock.monotonic_ns(now_ns);
        let held = it.client.lease().map(|lease| lease.address);
        let config = it.client.config().clone();
        self.record(&[b"act", &[member as u8, what as u8]]);
        let it = &mut self.population[member];
        match what {
            0 if held.is_some() => {
                it.client.release(own_ns);
                it.away_until_ns = now_ns + AWAY_NS;
            }
            1 if held.is_some() => {
                it.client.decline(own_ns);
                it.away_until_ns = now_ns + AWAY_NS;
            }
            2 => {
                // It moves: asks for an address of its choice.
                let last = first.octets()[3] + (wanted % u64::from(plan.pool)) as u8;
                let requested_address = Some(Ipv4Addr::new(192, 0, 2 + link as u8, last));
                it.client = Client::new(own_ns, ClientConfig { requested_address, seed: wanted, ..config });
            }
            3 => {
                if let Some(address) = held {
                    it.client = Client::reboot(own_ns, ClientConfig { seed: wanted, ..config }, address);
                }
            }
            4 if config.client_id.is_some() => {
                // The same identity on other hardware.
                let mut moved = ClientConfig { seed: wanted, ..config };
                moved.hardware_address[1] ^= 1;
                it.client = Client::new(own_ns, moved);
            }
            RESTARTS => it.client.restart(own_ns),
            _ if it.client.state() == ClientState::Released => it.client.restart(own_ns),
            _ => it.client.renew(own_ns),
        }
        self.trace(|| format!("client {member} does {what}, held {held:?}"));
        self.speak(member);
    }
}
