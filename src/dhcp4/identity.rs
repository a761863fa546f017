//! Who is asking: client identifier or hardware address, and whose a lease is (b.2).

use shards::Lease;

use crate::wire::Query;

/// The identity of a client as its query states it, borrowed from the query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientIdentity<'q> {
    /// Hardware type of the header.
    pub htype: u8,
    /// `chaddr[0..hlen]`, at most 16 octets; may be empty (ALC-13).
    pub chaddr: &'q [u8],
    /// Payload of option 61, 2..=255 octets.
    pub client_id: Option<&'q [u8]>,
}

/// What the home shard of a client is found by (design section 7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HomeKey<'q> {
    /// A client identifier that is not hardware type and address: hash these octets.
    ClientId(&'q [u8]),
    /// The hardware address, which is also what the kernel steers by.
    HardwareAddress(&'q [u8]),
}

impl<'q> ClientIdentity<'q> {
    /// The identity in `query`.
    pub fn of(query: &'q Query) -> Self {
        Self { htype: query.htype(), chaddr: query.chaddr(), client_id: query.client_id() }
    }

    /// Whether there is anything to know the client by (PKT-34).
    pub fn is_empty(&self) -> bool {
        self.chaddr.is_empty() && self.client_id.is_none()
    }

    /// Whether the client identifier is only the hardware type and address again (RFC 2132 section 9.14), as
    /// most clients send it.
    pub fn client_id_repeats_chaddr(&self) -> bool {
        let Some(client_id) = self.client_id else { return false };
        !self.chaddr.is_empty() && client_id.split_first() == Some((&self.htype, self.chaddr))
    }

    /// What its home shard is found by.
    pub fn home_key(&self) -> HomeKey<'q> {
        match self.client_id {
            Some(client_id) if !self.client_id_repeats_chaddr() => HomeKey::ClientId(client_id),
            _ => HomeKey::HardwareAddress(self.chaddr),
        }
    }

    /// Whether `lease` belongs to this client (ALC-11): with client identifiers on both sides these decide, else
    /// hardware addresses; with `match_client_id` off only hardware addresses do. RELEASE and DECLINE pass
    /// `true`, whatever the subnet says (PKT-77).
    pub fn owns(&self, lease: &Lease, match_client_id: bool) -> bool {
        match self.client_id {
            Some(client_id) if match_client_id && !lease.client_id.is_empty() => {
                client_id == lease.client_id.as_slice()
            }
            _ => !self.chaddr.is_empty() && self.chaddr == lease.hwaddr.as_slice(),
        }
    }
}
