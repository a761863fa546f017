//! Messages encoded once and patched per packet (pure).
//!
//! A packet costs one copy of its template and a few stores. Offsets are found by reading the encoded message
//! back, so that they cannot disagree with the encoder.

use std::net::Ipv4Addr;

use tandem::wire::codes::{self, FLAG_BROADCAST, MessageType};
use tandem::wire::reply::{MessageHeader, MessageWriter, WriteError};

use crate::identity::{CIRCUIT_ID_OCTETS, CLIENT_ID_OCTETS, Identity, IdentityKind};

/// Longest message of the generator, octets.
pub const MESSAGE_OCTETS_MAX: usize = 1024;

/// A message of a client, by what it is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Message {
    /// DISCOVER.
    Discover,
    /// RENEWING or REBINDING, which differ only in where it is sent: REQUEST with ciaddr alone.
    Extend,
    /// INIT-REBOOT: REQUEST with option 50 and no server identifier.
    Reboot,
    /// RELEASE.
    Release,
    /// SELECTING: REQUEST with options 50 and 54.
    Select,
}

const ALL: [Message; 5] =
    [Message::Discover, Message::Extend, Message::Reboot, Message::Release, Message::Select];

/// What all clients put into their messages.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Content {
    /// Whether replies are asked for by broadcast.
    pub broadcast: bool,
    /// Whether a relay is in front: hops 1, giaddr, option 82.
    pub relayed: bool,
    /// Options added to DISCOVER and REQUEST, code and payload.
    pub options: Vec<(u8, Vec<u8>)>,
}

/// What differs from packet to packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fields {
    /// Number of the client.
    pub client: u32,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Address asked for, extended or given back.
    pub address: Ipv4Addr,
    /// Server it is about.
    pub server: Ipv4Addr,
    /// Relay, or 0.0.0.0.
    pub giaddr: Ipv4Addr,
}

/// All messages, ready to be patched.
#[derive(Clone, Debug)]
pub struct Templates {
    identity: Identity,
    messages: [Template; ALL.len()],
}

#[derive(Clone, Debug)]
struct Template {
    octets: Vec<u8>,
    /// Whether ciaddr is set.
    ciaddr: bool,
    requested_at: Option<usize>,
    server_at: Option<usize>,
    client_id_at: Option<usize>,
    circuit_id_at: Option<usize>,
}

const XID: usize = 4;
const SECS: usize = 8;
const CIADDR: usize = 12;
const GIADDR: usize = 24;
const CHADDR: usize = 28;
const OPTIONS: usize = 240;

impl Templates {
    /// Encodes every message.
    ///
    /// # Errors
    /// When the custom options make a message longer than [`MESSAGE_OCTETS_MAX`].
    pub fn new(identity: Identity, content: &Content) -> Result<Self, WriteError> {
        let [a, b, c, d, e] = ALL.map(|message| Template::new(message, identity.kind, content));
        Ok(Self { identity, messages: [a?, b?, c?, d?, e?] })
    }

    /// Writes `message` into `octets` and returns its length.
    pub fn write(&self, message: Message, fields: &Fields, octets: &mut [u8; MESSAGE_OCTETS_MAX]) -> usize {
        let template = &self.messages[message as usize];
        let len = template.octets.len();
        octets[..len].copy_from_slice(&template.octets);
        octets[XID..XID + 4].copy_from_slice(&fields.xid.to_be_bytes());
        octets[SECS..SECS + 2].copy_from_slice(&fields.secs.to_be_bytes());
        octets[GIADDR..GIADDR + 4].copy_from_slice(&fields.giaddr.octets());
        octets[CHADDR..CHADDR + 6].copy_from_slice(&self.identity.mac(fields.client));
        if template.ciaddr {
            octets[CIADDR..CIADDR + 4].copy_from_slice(&fields.address.octets());
        }
        if let Some(at) = template.requested_at {
            octets[at..at + 4].copy_from_slice(&fields.address.octets());
        }
        if let Some(at) = template.server_at {
            octets[at..at + 4].copy_from_slice(&fields.server.octets());
        }
        if let Some(at) = template.client_id_at {
            octets[at..at + CLIENT_ID_OCTETS].copy_from_slice(&self.identity.client_id(fields.client));
        }
        if let Some(at) = template.circuit_id_at {
            octets[at..at + CIRCUIT_ID_OCTETS].copy_from_slice(&self.identity.circuit_id(fields.client));
        }
        len
    }

    /// Hardware address of client `client`.
    pub fn mac(&self, client: u32) -> [u8; 6] {
        self.identity.mac(client)
    }
}

impl Template {
    fn new(message: Message, identity: IdentityKind, content: &Content) -> Result<Self, WriteError> {
        let asks = message != Message::Release;
        let header = MessageHeader {
            hlen: 6,
            hops: u8::from(content.relayed),
            flags: if content.broadcast && asks { FLAG_BROADCAST } else { 0 },
            ..MessageHeader::request(0)
        };
        let message_type = match message {
            Message::Discover => MessageType::Discover,
            Message::Release => MessageType::Release,
            Message::Extend | Message::Reboot | Message::Select => MessageType::Request,
        };
        let none = Ipv4Addr::UNSPECIFIED;
        let mut octets = [0; MESSAGE_OCTETS_MAX];
        let mut writer = MessageWriter::new(&mut octets, &header, message_type)?;
        if matches!(message, Message::Reboot | Message::Select) {
            writer.address(codes::DHCP_REQUESTED_ADDRESS, none)?;
        }
        if matches!(message, Message::Release | Message::Select) {
            writer.address(codes::DHCP_SERVER_IDENTIFIER, none)?;
        }
        if identity == IdentityKind::ClientId {
            writer.option(codes::DHCP_CLIENT_IDENTIFIER, &[0; CLIENT_ID_OCTETS])?;
        }
        for (code, payload) in content.options.iter().filter(|_| asks) {
            writer.option(*code, payload)?;
        }
        if identity == IdentityKind::CircuitId && content.relayed {
            let mut payload = [0; 2 + CIRCUIT_ID_OCTETS];
            payload[..2].copy_from_slice(&[1, CIRCUIT_ID_OCTETS as u8]);
            writer.option(codes::DHCP_AGENT_OPTIONS, &payload)?;
        }
        let len = writer.finish()?;
        let octets = octets[..len].to_vec();
        let at = |code| payload_of(&octets, code);
        Ok(Self {
            ciaddr: matches!(message, Message::Extend | Message::Release),
            requested_at: at(codes::DHCP_REQUESTED_ADDRESS),
            server_at: at(codes::DHCP_SERVER_IDENTIFIER),
            // A client identifier among the custom options is the same for all clients and stays as it is.
            client_id_at: at(codes::DHCP_CLIENT_IDENTIFIER).filter(|_| identity == IdentityKind::ClientId),
            circuit_id_at: at(codes::DHCP_AGENT_OPTIONS)
                .filter(|_| identity == IdentityKind::CircuitId && content.relayed)
                .map(|at| at + 2),
            octets,
        })
    }
}

/// Where the payload of the first option `code` begins.
fn payload_of(octets: &[u8], code: u8) -> Option<usize> {
    let mut at = OPTIONS;
    loop {
        match *octets.get(at)? {
            codes::END => return None,
            codes::PAD => at += 1,
            found if found == code => return Some(at + 2),
            _ => at += 2 + usize::from(*octets.get(at + 1)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem::wire::Query;

    use super::*;
    use crate::identity::Mac;

    const FIELDS: Fields = Fields {
        client: 5,
        xid: 0x0102_0304,
        secs: 7,
        address: Ipv4Addr::new(192, 0, 2, 10),
        server: Ipv4Addr::new(192, 0, 2, 1),
        giaddr: Ipv4Addr::new(192, 0, 2, 2),
    };

    #[test]
    fn every_message_says_what_rfc_2131_table_5_asks() {
        let none = Ipv4Addr::UNSPECIFIED;
        let (address, server) = (Some(FIELDS.address), Some(FIELDS.server));
        let cases = [
            (Message::Discover, MessageType::Discover, none, None, None),
            (Message::Extend, MessageType::Request, FIELDS.address, None, None),
            (Message::Reboot, MessageType::Request, none, address, None),
            (Message::Release, MessageType::Release, FIELDS.address, None, server),
            (Message::Select, MessageType::Request, none, address, server),
        ];
        let content = Content {
            broadcast: true,
            relayed: true,
            options: vec![(60, b"loadgen".to_vec()), (55, vec![1, 3])],
        };
        for kind in [IdentityKind::CircuitId, IdentityKind::ClientId, IdentityKind::Mac] {
            let identity = Identity { base: Mac::default(), kind };
            let templates = Templates::new(identity, &content).unwrap();
            for (message, message_type, ciaddr, requested, server_id) in cases {
                let mut octets = [0; MESSAGE_OCTETS_MAX];
                let len = templates.write(message, &FIELDS, &mut octets);
                let query = Query::decode(&octets[..len]).unwrap();
                let case = format!("{message:?} {kind:?}");
                assert_eq!(query.message_type(), Some(message_type), "{case}");
                assert_eq!((query.xid(), query.secs()), (FIELDS.xid, FIELDS.secs), "{case}");
                assert_eq!((query.ciaddr(), query.giaddr()), (ciaddr, FIELDS.giaddr), "{case}");
                assert_eq!((query.requested_address(), query.server_id()), (requested, server_id), "{case}");
                assert_eq!(query.chaddr(), identity.mac(5), "{case}");
                let client_id = (kind == IdentityKind::ClientId).then(|| identity.client_id(5));
                assert_eq!(query.client_id(), client_id.as_ref().map(|id| &id[..]), "{case}");
                let circuit = query.relay_info().and_then(|info| info.circuit_id().map(<[u8]>::to_vec));
                let expected = (kind == IdentityKind::CircuitId).then(|| identity.circuit_id(5).to_vec());
                assert_eq!(circuit, expected, "{case}");
                assert_eq!(query.has_option(60), message != Message::Release, "{case}");
            }
        }
    }

    #[test]
    fn options_that_do_not_fit_are_an_error() {
        let options = (0..4).map(|_| (43, vec![0; 255])).collect();
        let identity = Identity { base: Mac::default(), kind: IdentityKind::Mac };
        assert!(Templates::new(identity, &Content { options, ..Content::default() }).is_err());
    }
}
