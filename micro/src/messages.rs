//! Datagrams of clients: made from a number, always the same octets for the same number.

use std::net::Ipv4Addr;

use shards::DatagramMeta;
use tandem::wire::codes::{self, MessageType};
use tandem::wire::{MessageHeader, MessageWriter};

/// The server: its address on the link and in option 54.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The relay.
pub const RELAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Interface the server listens on.
pub const IFINDEX: u32 = 2;

/// Octets that hold every message made here.
const MESSAGE_OCTETS_MAX: usize = 1024;
/// Where option 50 of [`Client::request`] has its address: behind the cookie, option 53, a code and a length.
const REQUESTED_ADDRESS_AT: usize = 240 + 3 + 2;

/// What a client identifies itself with and how it is attached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Attached directly, known by its hardware address.
    Plain,
    /// Behind the relay with this address, which adds option 82.
    Relayed(Ipv4Addr),
    /// Attached directly, with a client identifier of RFC 4361 and a host name.
    Named,
}

/// One client.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its number; the low octets of its hardware address, and its transaction id.
    pub number: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a shard gets from a socket.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// What the kernel says of it.
    pub meta: DatagramMeta,
    /// The UDP payload.
    pub bytes: Vec<u8>,
}

impl Datagram {
    /// Writes the address a REQUEST asks for into its option 50.
    pub fn ask_for(&mut self, address: &[u8]) {
        self.bytes[REQUESTED_ADDRESS_AT..REQUESTED_ADDRESS_AT + 4].copy_from_slice(address);
    }
}

impl Client {
    /// Its hardware address.
    pub fn hwaddr(self) -> [u8; 6] {
        let [a, b, c, d] = self.number.to_be_bytes();
        [2, 0xc0, a, b, c, d]
    }

    /// DISCOVER.
    pub fn discover(self) -> Datagram {
        self.message(MessageType::Discover, Ipv4Addr::UNSPECIFIED, &[])
    }

    /// REQUEST in SELECTING, for `address` from [`SERVER`].
    pub fn request(self, address: Ipv4Addr) -> Datagram {
        let asked = address.octets();
        let options: [(u8, &[u8]); 2] =
            [(codes::DHCP_REQUESTED_ADDRESS, &asked), (codes::DHCP_SERVER_IDENTIFIER, &SERVER.octets())];
        self.message(MessageType::Request, Ipv4Addr::UNSPECIFIED, &options)
    }

    /// REQUEST in RENEWING: unicast, with the address in ciaddr.
    pub fn renew(self, address: Ipv4Addr) -> Datagram {
        let mut datagram = self.message(MessageType::Request, address, &[]);
        datagram.meta.source = address;
        datagram.meta.destination = SERVER;
        datagram
    }

    /// REQUEST with twenty options, as clients send that ask and tell a lot.
    pub fn long_request(self, address: Ipv4Addr) -> Datagram {
        let asked = address.octets();
        let options: [(u8, &[u8]); 18] = [
            (codes::DHCP_REQUESTED_ADDRESS, &asked),
            (codes::DHCP_SERVER_IDENTIFIER, &SERVER.octets()),
            (codes::DHCP_LEASE_TIME, &[0, 0, 14, 16]),
            (codes::DHCP_MAX_MESSAGE_SIZE, &[5, 220]),
            (codes::HOST_NAME, b"workstation-17"),
            (60, b"MSFT 5.0"),
            (codes::DHCP_CLIENT_IDENTIFIER, &[1, 2, 0xc0, 0, 0, 0, 1]),
            (77, b"\x08standard"),
            (80, &[]),
            (93, &[0, 7]),
            (94, &[1, 3, 16]),
            (97, &[0; 17]),
            (116, &[1]),
            (124, &[0, 0, 1, 55, 4, b't', b'e', b's', b't']),
            (145, &[1]),
            (150, &[0; 4]),
            (175, &[0xb1, 5, 1, 0x80, 0x86, 0x10, 0x0e]),
            (224, b"site"),
        ];
        self.message(MessageType::Request, Ipv4Addr::UNSPECIFIED, &options)
    }

    fn message(self, message_type: MessageType, ciaddr: Ipv4Addr, options: &[(u8, &[u8])]) -> Datagram {
        let relay = match self.kind {
            Kind::Relayed(relay) => Some(relay),
            Kind::Named | Kind::Plain => None,
        };
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&self.hwaddr());
        let header = MessageHeader {
            hlen: 6,
            hops: u8::from(relay.is_some()),
            ciaddr,
            giaddr: relay.unwrap_or(Ipv4Addr::UNSPECIFIED),
            chaddr,
            ..MessageHeader::request(self.number)
        };
        let mut octets = [0; MESSAGE_OCTETS_MAX];
        let fits = "a message made here fits its buffer";
        let mut writer = MessageWriter::new(&mut octets, &header, message_type).expect(fits);
        let mut add = |code, payload: &[u8]| writer.option(code, payload).expect(fits);
        options.iter().for_each(|(code, payload)| add(*code, payload));
        if self.kind == Kind::Named {
            let name = format!("host-{:07}", self.number);
            add(codes::HOST_NAME, name.as_bytes());
            add(codes::DHCP_CLIENT_IDENTIFIER, &self.client_id());
        }
        add(codes::DHCP_PARAMETER_REQUEST_LIST, &[1, 28, 2, 3, 15, 6, 12]);
        if relay.is_some() {
            let circuit =
                [&[1, 8][..], b"port", &self.number.to_be_bytes(), &[2, 6], &self.hwaddr()].concat();
            add(codes::DHCP_AGENT_OPTIONS, &circuit);
        }
        let len = writer.finish().expect(fits);
        Datagram { meta: self.meta(relay), bytes: octets[..len].to_vec() }
    }

    /// A client identifier of RFC 4361: type 255, IAID, DUID by link-layer address.
    pub fn client_id(self) -> Vec<u8> {
        [&[255, 0, 0, 0, 1, 0, 3, 0, 1][..], &self.hwaddr()].concat()
    }

    fn meta(self, relay: Option<Ipv4Addr>) -> DatagramMeta {
        let direct = relay.is_none();
        DatagramMeta {
            socket: 0,
            ifindex: IFINDEX,
            source: relay.unwrap_or(Ipv4Addr::UNSPECIFIED),
            source_port: if direct { codes::CLIENT_PORT } else { codes::SERVER_PORT },
            destination: if direct { Ipv4Addr::BROADCAST } else { SERVER },
            socket_address: SERVER,
            source_mac: direct.then(|| self.hwaddr()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem::wire::Query;

    use super::*;

    #[test]
    fn messages_say_what_their_makers_say() {
        let client = |kind| Client { number: 7, kind };
        let address = Ipv4Addr::new(10, 1, 2, 3);
        let mut request = client(Kind::Plain).request(Ipv4Addr::UNSPECIFIED);
        request.ask_for(&address.octets());
        let query = Query::decode(&request.bytes).expect("a message");
        assert_eq!((query.requested_address(), query.server_id()), (Some(address), Some(SERVER)));
        assert_eq!((query.xid(), query.chaddr()), (7, &[2, 0xc0, 0, 0, 0, 7][..]));

        let long = client(Kind::Plain).long_request(address);
        assert_eq!(Query::decode(&long.bytes).expect("a message").option_codes().count(), 20);

        let relayed = client(Kind::Relayed(RELAY)).discover();
        let query = Query::decode(&relayed.bytes).expect("a message");
        assert!(query.is_relayed() && query.relay_info().is_some());

        let renew = client(Kind::Named).renew(address);
        let query = Query::decode(&renew.bytes).expect("a message");
        assert_eq!((query.ciaddr(), query.client_id().map(<[u8]>::len)), (address, Some(15)));
        assert_eq!(renew.meta.destination, SERVER);
    }
}
