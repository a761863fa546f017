//! A stream of simulated clients behind a simulated relay.
//!
//! The clients are the pure machines of `client`; the relay is one UDP socket that sends every query to both servers,
//! as a relay with two helper addresses does, and takes every reply. One thread does it all: new clients when they
//! are due, their timers, one datagram, again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::ledger::Ledger;
use super::phases::Phases;
use super::plan::{ADDRESS, SPEED, ServerPorts};
use crate::client::{Client, ClientConfig, ClientEvent, ClientState, Pace, Relay};

/// Longest wait for a datagram; new clients come at most this late.
const WAIT: Duration = Duration::from_millis(1);
/// Octets of the largest message.
const MESSAGE_OCTETS: usize = 1500;
/// Where chaddr stands in a message (RFC 2131 figure 1).
const CHADDR_AT: usize = 28;
const SECOND_NS: u64 = 1_000_000_000;

/// The clients and their relay.
pub(super) struct Stream {
    relay: UdpSocket,
    servers: [SocketAddr; 2],
    clients: Vec<Client>,
    /// When a client wants to be woken; entries that are out of date are passed over.
    timers: BinaryHeap<Reverse<(u64, u32)>>,
    arrivals: Option<Arrivals>,
    /// The monotonic and the wall clock at the start.
    started: Instant,
    started_wall_ns: u64,
    /// What clients saw acknowledged.
    pub(super) ledger: Ledger,
    /// What happened, act by act.
    pub(super) phases: Phases,
}

/// How clients come.
struct Arrivals {
    every_ns: u64,
    next_ns: u64,
    /// The next bound client that renews whenever a new one comes.
    renewing: Option<usize>,
}

impl Stream {
    /// Nobody yet, behind a relay with this socket.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn new(relay: UdpSocket, ports: &[ServerPorts; 2]) -> io::Result<Self> {
        relay.set_read_timeout(Some(WAIT))?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            relay,
            servers: ports.map(|ports| SocketAddr::from((ADDRESS, ports.dhcp))),
            clients: Vec::new(),
            timers: BinaryHeap::new(),
            arrivals: None,
            started: Instant::now(),
            started_wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
            ledger: Ledger::default(),
            phases: Phases::default(),
        })
    }

    /// Nanoseconds since the stream was made.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// From now on `per_second` new clients come; with `renew` each of them makes one that has a lease renew it,
    /// oldest first.
    pub(super) fn open(&mut self, per_second: u32, renew: bool) {
        self.arrivals = Some(Arrivals {
            every_ns: SECOND_NS / u64::from(per_second.max(1)),
            next_ns: self.now_ns(),
            renewing: renew.then_some(0),
        });
    }

    /// Nobody comes any more; who is there goes on.
    pub(super) fn close(&mut self) {
        self.arrivals = None;
    }

    /// How many clients there are.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// How many of them have no lease.
    pub(super) fn unserved(&self) -> usize {
        self.clients.iter().filter(|client| client.lease().is_none()).count()
    }

    /// How many have a lease and no answer to their wish to extend it. A client asks again after half of the time
    /// that is left (RFC 2131 section 4.4.5), which is hours.
    pub(super) fn unrenewed(&self) -> usize {
        self.clients.iter().filter(|client| client.state() == ClientState::Renewing).count()
    }

    /// Does what is due and waits up to a few milliseconds for one datagram.
    ///
    /// # Errors
    /// The relay's socket fails.
    pub(super) fn step(&mut self) -> io::Result<()> {
        let now_ns = self.now_ns();
        self.admit(now_ns)?;
        self.wake(now_ns)?;
        let mut octets = [0; MESSAGE_OCTETS];
        match self.relay.recv_from(&mut octets) {
            Ok((len, source)) => self.deliver(&octets[..len], source),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn admit(&mut self, now_ns: u64) -> io::Result<()> {
        while let Some(arrivals) = self.arrivals.as_mut().filter(|arrivals| arrivals.next_ns <= now_ns) {
            arrivals.next_ns += arrivals.every_ns;
            let renewing = arrivals.renewing.as_mut().map(|next| {
                *next += 1;
                *next - 1
            });
            if let Some(index) = renewing.filter(|index| *index < self.clients.len()) {
                self.clients[index].renew(now_ns);
                self.transmit(index)?;
            }
            self.clients.push(new_client(now_ns, self.clients.len()));
            self.phases.on_arrival();
            self.transmit(self.clients.len() - 1)?;
        }
        Ok(())
    }

    fn wake(&mut self, now_ns: u64) -> io::Result<()> {
        while let Some(&Reverse((at_ns, index))) = self.timers.peek().filter(|entry| entry.0.0 <= now_ns) {
            self.timers.pop();
            let index = index as usize;
            if self.clients[index].next_timeout() == Some(at_ns) {
                let event = self.clients[index].handle_timeout(now_ns);
                self.on_event(now_ns, index, event, None);
                self.transmit(index)?;
            }
        }
        Ok(())
    }

    fn deliver(&mut self, bytes: &[u8], source: SocketAddr) -> io::Result<()> {
        let now_ns = self.now_ns();
        let chaddr = bytes.get(CHADDR_AT..CHADDR_AT + 6).and_then(|octets| octets.try_into().ok());
        let index = chaddr.and_then(index_of).filter(|index| *index < self.clients.len());
        let server = self.servers.iter().position(|server| *server == source);
        let (Some(index), Some(server)) = (index, server) else { return Ok(()) };
        let event = self.clients[index].handle_reply(now_ns, bytes);
        self.on_event(now_ns, index, event, Some(server));
        self.transmit(index)
    }

    /// Sends what the client wants sent, to both servers, and notes when it wants to be woken.
    fn transmit(&mut self, index: usize) -> io::Result<()> {
        let mut octets = [0; MESSAGE_OCTETS];
        let client = &mut self.clients[index];
        let outgoing = client.poll_transmit(&mut octets);
        if let Some(at_ns) = client.next_timeout() {
            // There are never as many clients as a u32 can count: 24 bits number them.
            self.timers.push(Reverse((at_ns, index as u32)));
        }
        let Some(outgoing) = outgoing else { return Ok(()) };
        for server in self.servers {
            match self.relay.send_to(&octets[..outgoing.len], server) {
                Ok(_) => {}
                // A full buffer loses the datagram, as a network does.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn on_event(&mut self, now_ns: u64, index: usize, event: Option<ClientEvent>, server: Option<usize>) {
        let chaddr = self.clients[index].config().hardware_address;
        match event {
            Some(ClientEvent::Bound(lease) | ClientEvent::Renewed(lease)) => {
                let is_renewal = matches!(event, Some(ClientEvent::Renewed(_)));
                let requested_wall_s = (self.started_wall_ns + lease.requested_ns) / SECOND_NS;
                let until_wall_s = requested_wall_s + u64::from(lease.lifetime_s);
                self.ledger.acknowledged(chaddr, lease.address, until_wall_s);
                self.phases.on_ack(now_ns, now_ns - lease.requested_ns, is_renewal, server);
            }
            Some(ClientEvent::Nak(address)) => {
                self.ledger.refused(chaddr, address);
                self.phases.on_nak();
            }
            Some(ClientEvent::Expired(address)) => self.ledger.refused(chaddr, address),
            Some(ClientEvent::Unanswered(_)) => self.phases.on_unanswered(),
            None => {}
        }
    }
}

/// A client behind the relay. Its hardware address (locally administered) holds its number.
fn new_client(now_ns: u64, index: usize) -> Client {
    let [.., high, middle, low] = (index as u64).to_be_bytes();
    let mut config = ClientConfig::new([0x02, 0x7a, 0x6d, high, middle, low], index as u64);
    config.host_name = Some(format!("demo-{index}").into_bytes());
    config.pace = Pace::permille(1000 / SPEED);
    config.relay = Some(Relay { address: ADDRESS, agent_options: Vec::new(), carries_unicast: true });
    Client::new(now_ns, config)
}

fn index_of(chaddr: [u8; 6]) -> Option<usize> {
    let [0x02, 0x7a, 0x6d, high, middle, low] = chaddr else { return None };
    Some(usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_tells_the_clients_number() {
        for index in [0, 1, 255, 256, 70_000] {
            assert_eq!(index_of(new_client(0, index).config().hardware_address), Some(index));
        }
        assert_eq!(index_of([2, 0, 0, 0, 0, 1]), None);
    }

    #[test]
    fn every_query_reaches_both_servers_and_strangers_are_not_heard() {
        let servers = [0, 1].map(|_| UdpSocket::bind((ADDRESS, 0)).unwrap());
        let ports = [0, 1].map(|index: usize| {
            let dhcp = servers[index].local_addr().unwrap().port();
            ServerPorts { dhcp, ha: 0, control: 0 }
        });
        let relay = UdpSocket::bind((ADDRESS, 0)).unwrap();
        let relay_address = relay.local_addr().unwrap();
        let mut stream = Stream::new(relay, &ports).unwrap();
        stream.open(1, false);
        stream.step().unwrap();
        stream.close();
        let mut queries = servers.each_ref().map(|server| {
            let mut octets = vec![0; MESSAGE_OCTETS];
            server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let len = server.recv(&mut octets).unwrap();
            octets.truncate(len);
            octets
        });
        assert_eq!(queries[0], queries[1]);
        assert_eq!(queries[0][24..28], ADDRESS.octets(), "giaddr");
        assert_eq!((stream.clients(), stream.unserved()), (1, 1));
        // A reply from elsewhere, and rubbish from a server, change nothing.
        let stranger = UdpSocket::bind((ADDRESS, 0)).unwrap();
        queries[0][0] = 2;
        stranger.send_to(&queries[0], relay_address).unwrap();
        servers[1].send_to(&[0; 40], relay_address).unwrap();
        for _ in 0..4 {
            stream.step().unwrap();
        }
        assert_eq!(stream.unserved(), 1);
    }
}
