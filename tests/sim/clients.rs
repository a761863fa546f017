//! Clients of the world: the client machine for whole exchanges, hand-made queries for the rest.

use std::net::Ipv4Addr;

use tandem::client::{Client, ClientConfig, ClientState, Route};
use tandem::wire::codes::{self, MessageType};
use tandem::wire::{MessageHeader, MessageWriter, Query};

use super::world::{SERVER, World};

/// Hardware address of client `number`.
pub fn hardware(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, 0xc0, a, b, c, d]
}

/// A client identifier of RFC 4361: an IAID and a DUID that has nothing to do with the hardware address.
pub fn duid_client_id(number: u32) -> Vec<u8> {
    let mut client_id = vec![255, 0, 0, 0, 1, 0, 3, 0, 1];
    client_id.extend_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    client_id.extend_from_slice(&number.to_be_bytes());
    client_id
}

/// A client that sends no client identifier.
pub fn plain(number: u32) -> ClientConfig {
    ClientConfig::new(hardware(number), u64::from(number))
}

/// A client with a client identifier of RFC 4361.
pub fn rfc_4361(number: u32) -> ClientConfig {
    ClientConfig { client_id: Some(duid_client_id(number)), ..plain(number) }
}

/// A message type and the address it is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard {
    Ack(Ipv4Addr),
    Nak,
    Offer(Ipv4Addr),
}

impl World {
    /// Sends what `client` has to say.
    pub fn send_of(&mut self, client: &mut Client) {
        let mut octets = [0; 1500];
        while let Some(outgoing) = client.poll_transmit(&mut octets) {
            let destination = match outgoing.route {
                Route::Broadcast => Ipv4Addr::BROADCAST,
                Route::Relayed => SERVER,
                Route::Unicast(server) => server,
            };
            self.deliver(outgoing.source, destination, &octets[..outgoing.len]);
        }
    }

    /// Runs one client until it has nothing to say and nothing comes for it.
    pub fn converse(&mut self, client: &mut Client) {
        for _ in 0..8 {
            self.send_of(client);
            self.settle();
            while let Some((_, bytes)) = self.wire.pop_front() {
                client.handle_reply(self.now.monotonic_ns, &bytes);
            }
        }
    }

    /// A client that goes through DISCOVER and REQUEST; it may end without a lease.
    pub fn join(&mut self, config: ClientConfig) -> Client {
        let mut client = Client::new(self.now.monotonic_ns, config);
        self.converse(&mut client);
        client
    }

    /// Runs many clients at once, in an order drawn from the seed, until all are bound or nothing moves.
    pub fn join_all(&mut self, configs: Vec<ClientConfig>, rounds: usize) -> Vec<Client> {
        let now = self.now.monotonic_ns;
        let mut clients: Vec<Client> = configs.into_iter().map(|config| Client::new(now, config)).collect();
        for _ in 0..rounds {
            let mut order: Vec<usize> = (0..clients.len()).collect();
            for place in (1..order.len()).rev() {
                let other = self.draw(place + 1);
                order.swap(place, other);
            }
            for place in order {
                self.send_of(&mut clients[place]);
            }
            self.settle();
            while let Some((_, bytes)) = self.wire.pop_front() {
                for client in &mut clients {
                    client.handle_reply(self.now.monotonic_ns, &bytes);
                }
            }
            if clients.iter().all(|client| client.state() == ClientState::Bound) {
                break;
            }
            self.pass_s(1);
            let now = self.now.monotonic_ns;
            for client in &mut clients {
                client.handle_timeout(now);
            }
        }
        clients
    }

    /// Sends a query and returns the only answer, if there is one.
    pub fn ask(&mut self, query: &Ask) -> Option<Heard> {
        let (source, destination, bytes) = query.write();
        self.deliver(source, destination, &bytes);
        self.settle();
        self.heard()
    }

    /// The oldest reply on the wire.
    pub fn heard(&mut self) -> Option<Heard> {
        let (_, bytes) = self.wire.pop_front()?;
        assert!(self.wire.is_empty(), "more than one answer");
        let reply = Query::decode(&bytes).expect("a reply can be read");
        let yiaddr = Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]);
        match reply.message_type() {
            Some(MessageType::Ack) => Some(Heard::Ack(yiaddr)),
            Some(MessageType::Nak) => Some(Heard::Nak),
            Some(MessageType::Offer) => Some(Heard::Offer(yiaddr)),
            other => panic!("an answer of type {other:?}"),
        }
    }
}

/// A hand-made query.
#[derive(Clone, Debug)]
pub struct Ask {
    pub kind: MessageType,
    pub number: u32,
    pub xid: u32,
    pub client_id: Option<Vec<u8>>,
    pub ciaddr: Ipv4Addr,
    pub requested: Option<Ipv4Addr>,
    pub server_id: bool,
    pub unicast: bool,
    /// Option 12; none is sent if empty.
    pub host_name: &'static str,
    /// Payload of option 82; none is sent if empty.
    pub agent_options: Vec<u8>,
}

impl Ask {
    pub fn new(kind: MessageType, number: u32) -> Self {
        let xid = 1000 + number;
        Self {
            kind,
            number,
            xid,
            client_id: None,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server_id: false,
            unicast: false,
            host_name: "",
            agent_options: Vec::new(),
        }
    }

    /// REQUEST in SELECTING.
    pub fn select(number: u32, address: Ipv4Addr) -> Self {
        Self { requested: Some(address), server_id: true, ..Self::new(MessageType::Request, number) }
    }

    /// REQUEST in INIT-REBOOT.
    pub fn reboot(number: u32, address: Ipv4Addr) -> Self {
        Self { requested: Some(address), ..Self::new(MessageType::Request, number) }
    }

    /// REQUEST in RENEWING.
    pub fn renew(number: u32, address: Ipv4Addr) -> Self {
        Self { ciaddr: address, unicast: true, ..Self::new(MessageType::Request, number) }
    }

    /// RELEASE.
    pub fn release(number: u32, address: Ipv4Addr) -> Self {
        Self { ciaddr: address, unicast: true, server_id: true, ..Self::new(MessageType::Release, number) }
    }

    /// DECLINE.
    pub fn decline(number: u32, address: Ipv4Addr) -> Self {
        Self { requested: Some(address), server_id: true, ..Self::new(MessageType::Decline, number) }
    }

    pub fn write(&self) -> (Ipv4Addr, Ipv4Addr, Vec<u8>) {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&hardware(self.number));
        let header =
            MessageHeader { hlen: 6, ciaddr: self.ciaddr, chaddr, ..MessageHeader::request(self.xid) };
        let mut octets = vec![0; 600];
        let mut writer = MessageWriter::new(&mut octets, &header, self.kind).expect("room");
        if let Some(requested) = self.requested {
            writer.address(codes::DHCP_REQUESTED_ADDRESS, requested).expect("room");
        }
        if self.server_id {
            writer.address(codes::DHCP_SERVER_IDENTIFIER, SERVER).expect("room");
        }
        if let Some(client_id) = &self.client_id {
            writer.option(codes::DHCP_CLIENT_IDENTIFIER, client_id).expect("room");
        }
        if !self.host_name.is_empty() {
            writer.option(codes::HOST_NAME, self.host_name.as_bytes()).expect("room");
        }
        if !self.agent_options.is_empty() {
            writer.option(codes::DHCP_AGENT_OPTIONS, &self.agent_options).expect("room");
        }
        let len = writer.finish().expect("room");
        octets.truncate(len);
        let destination = if self.unicast { SERVER } else { Ipv4Addr::BROADCAST };
        (self.ciaddr, destination, octets)
    }
}
