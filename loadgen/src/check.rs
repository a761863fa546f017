//! What is checked of each reply: that it is well-formed, and that no two clients hold one address.
//!
//! [`Claims`] is shared by all senders and lock-free; claiming allocates nothing. A claim ends by release or
//! by the lifetime, counted from when the client asked, which is before the server began to count: a server
//! that gives an address out again too early is found, one that does so in time is not accused.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tandem::wire::codes::{self, MessageType};
use tandem::wire::{Query, WireError};

/// What the generator reads of a reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reply {
    /// Transaction id.
    pub xid: u32,
    /// Hardware address.
    pub chaddr: [u8; 6],
    /// OFFER, ACK or NAK.
    pub message_type: MessageType,
    /// Option 54.
    pub server: Ipv4Addr,
    /// Address granted.
    pub yiaddr: Ipv4Addr,
    /// Option 51 in seconds; 0 in a NAK.
    pub lifetime_s: u32,
}

/// Why a datagram is no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// A field that every reply of its type has is not there.
    Incomplete,
    /// Not a message from a server.
    NotAReply,
    /// Not a DHCP message.
    Wire(WireError),
}

impl Reply {
    /// Reads a UDP payload.
    ///
    /// # Errors
    /// What makes it no reply that a client could use.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let message = Query::decode(bytes).map_err(Malformed::Wire)?;
        if message.op() != codes::BOOTREPLY {
            return Err(Malformed::NotAReply);
        }
        let message_type = message.message_type().ok_or(Malformed::Incomplete)?;
        let grants = match message_type {
            MessageType::Ack | MessageType::Offer => true,
            MessageType::Nak => false,
            _ => return Err(Malformed::NotAReply),
        };
        let lifetime_s = message.lease_time();
        if grants && (message.yiaddr().is_unspecified() || lifetime_s.is_none()) {
            return Err(Malformed::Incomplete);
        }
        Ok(Self {
            xid: message.xid(),
            chaddr: message.chaddr().try_into().map_err(|_| Malformed::Incomplete)?,
            message_type,
            server: message.server_id().ok_or(Malformed::Incomplete)?,
            yiaddr: message.yiaddr(),
            lifetime_s: lifetime_s.unwrap_or(0),
        })
    }
}

/// Who holds which address, for all senders.
///
/// Addresses of one block of [`BLOCK`] lie side by side, because servers give them out in runs: a table for
/// millions of clients is then read where the cache already is.
pub struct Claims(Box<[Claim]>);

#[derive(Debug, Default)]
struct Claim {
    /// 0 is nobody's place.
    address: AtomicU32,
    /// Client number plus one in the upper half, end of the lifetime in seconds in the lower; 0 is nobody.
    holder: AtomicU64,
}

/// Addresses in one block.
const BLOCK: usize = 64;

/// What became of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claimed {
    /// Nobody else holds it.
    Alone,
    /// Another client holds it.
    Duplicate,
    /// The table is full; nothing was checked.
    Unchecked,
}

/// Blocks looked at before the table counts as full.
const PROBES_MAX: usize = 64;

impl Claims {
    /// Room for `addresses` with places to spare.
    pub fn new(addresses: usize) -> Self {
        let places = addresses.saturating_mul(4).next_power_of_two().clamp(1 << 12, 1 << 26);
        Self((0..places).map(|_| Claim::default()).collect())
    }

    /// Client `client` has been given `address` until `until_s`, both on one clock with `now_s`.
    pub fn claim(&self, address: Ipv4Addr, client: u32, now_s: u32, until_s: u32) -> Claimed {
        let Some(place) = self.place(address) else { return Claimed::Unchecked };
        let before = self.0[place].holder.swap(pack(client, until_s), Ordering::AcqRel);
        let (holder, end_s) = ((before >> 32) as u32, before as u32);
        if holder != 0 && holder != client.wrapping_add(1) && end_s > now_s {
            return Claimed::Duplicate;
        }
        Claimed::Alone
    }

    /// Client `client` gives `address` up.
    pub fn release(&self, address: Ipv4Addr, client: u32) {
        let Some(place) = self.place(address) else { return };
        let holder = self.0[place].holder.load(Ordering::Acquire);
        if (holder >> 32) as u32 == client.wrapping_add(1) {
            // Fails only when another client was given the address meanwhile; its claim stays.
            let _ = self.0[place].holder.compare_exchange(holder, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// The client that holds `address` at `now_s`.
    pub fn holder(&self, address: Ipv4Addr, now_s: u32) -> Option<u32> {
        let key = u32::from(address);
        let found = self.places(key).map(|place| &self.0[place]).find_map(|claim| {
            match claim.address.load(Ordering::Acquire) {
                0 => Some(0),
                other if other == key => Some(claim.holder.load(Ordering::Acquire)),
                _ => None,
            }
        });
        let (client, end_s) = found.map(|holder| ((holder >> 32) as u32, holder as u32))?;
        client.checked_sub(1).filter(|_| end_s > now_s)
    }

    fn place(&self, address: Ipv4Addr) -> Option<usize> {
        let key = u32::from(address);
        self.places(key).find(|place| {
            match self.0[*place].address.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => true,
                Err(found) => found == key,
            }
        })
    }

    /// Where `key` may lie, in order.
    fn places(&self, key: u32) -> impl Iterator<Item = usize> {
        let (block, within) = (key as usize / BLOCK, key as usize % BLOCK);
        let mask = self.0.len() / BLOCK - 1;
        // Neighbouring blocks part, so that pools whose blocks meet do not meet in all that follow.
        let first = (block as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (0..PROBES_MAX).map(move |probe| ((first as usize + probe) & mask) * BLOCK + within)
    }
}

fn pack(client: u32, until_s: u32) -> u64 {
    (u64::from(client.wrapping_add(1)) << 32) | u64::from(until_s)
}

#[cfg(test)]
mod tests {
    use tandem::wire::reply::{MessageHeader, MessageWriter};

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    #[test]
    fn an_address_with_two_holders_is_a_duplicate_until_the_first_ends() {
        let claims = Claims::new(10);
        assert_eq!(claims.claim(ADDRESS, 0, 0, 60), Claimed::Alone);
        assert_eq!(claims.claim(ADDRESS, 0, 10, 70), Claimed::Alone, "extended");
        assert_eq!(claims.claim(ADDRESS, 1, 69, 130), Claimed::Duplicate);
        assert_eq!((claims.holder(ADDRESS, 129), claims.holder(ADDRESS, 130)), (Some(1), None));
        assert_eq!(claims.holder(Ipv4Addr::new(10, 0, 0, 3), 0), None, "never given");
        assert_eq!(claims.claim(ADDRESS, 2, 130, 190), Claimed::Alone, "expired");
        claims.release(ADDRESS, 1);
        assert_eq!(
            claims.claim(ADDRESS, 3, 131, 190),
            Claimed::Duplicate,
            "another's release changes nothing"
        );
        claims.release(ADDRESS, 3);
        assert_eq!(claims.holder(ADDRESS, 131), None, "released");
        assert_eq!(claims.claim(ADDRESS, 4, 132, 190), Claimed::Alone, "released");
        assert_eq!(claims.claim(Ipv4Addr::new(10, 0, 0, 2), 5, 0, 60), Claimed::Alone, "another address");
    }

    #[test]
    fn a_full_table_says_so() {
        let claims = Claims::new(0);
        let outcomes = (1..20_000_u32).map(|n| claims.claim(Ipv4Addr::from(n), n, 0, 60));
        let unchecked = outcomes.filter(|outcome| *outcome == Claimed::Unchecked).count();
        assert!(unchecked >= 20_000 - 4097, "{unchecked}");
    }

    #[test]
    fn replies_without_what_a_client_needs_are_malformed() {
        let build = |op, message_type, yiaddr, server: bool, lifetime: bool| {
            let header = MessageHeader { op, hlen: 6, yiaddr, ..MessageHeader::request(9) };
            let mut octets = [0; 600];
            let mut writer = MessageWriter::new(&mut octets, &header, message_type).unwrap();
            if server {
                writer.address(codes::DHCP_SERVER_IDENTIFIER, ADDRESS).unwrap();
            }
            if lifetime {
                writer.number(codes::DHCP_LEASE_TIME, 60).unwrap();
            }
            let len = writer.finish().unwrap();
            Reply::read(&octets[..len]).map(|reply| reply.lifetime_s)
        };
        let none = Ipv4Addr::UNSPECIFIED;
        use MessageType::{Ack, Discover, Nak, Offer};
        assert_eq!(build(2, Offer, ADDRESS, true, true), Ok(60));
        assert_eq!(build(2, Nak, none, true, false), Ok(0));
        assert_eq!(build(2, Ack, none, true, true), Err(Malformed::Incomplete));
        assert_eq!(build(2, Ack, ADDRESS, false, true), Err(Malformed::Incomplete));
        assert_eq!(build(2, Ack, ADDRESS, true, false), Err(Malformed::Incomplete));
        assert_eq!(build(1, Ack, ADDRESS, true, true), Err(Malformed::NotAReply));
        assert_eq!(build(2, Discover, ADDRESS, true, true), Err(Malformed::NotAReply));
        assert!(matches!(Reply::read(b"x"), Err(Malformed::Wire(_))));
    }
}
