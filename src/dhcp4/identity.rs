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

/// What the home shard of a client is found by.
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const CHADDR: &[u8] = &[2, 0, 0, 0, 0, 1];
    const REPEATED: &[u8] = &[1, 2, 0, 0, 0, 0, 1];
    const DUID: &[u8] = &[255, 0, 0, 0, 1, 0, 3];

    fn client<'q>(chaddr: &'q [u8], client_id: &'q [u8]) -> ClientIdentity<'q> {
        ClientIdentity { htype: 1, chaddr, client_id: (!client_id.is_empty()).then_some(client_id) }
    }

    fn lease(hwaddr: &[u8], client_id: &[u8]) -> Lease {
        Lease {
            address: Ipv4Addr::new(192, 0, 2, 100),
            subnet_id: 1,
            pool_id: 0,
            hwaddr: hwaddr.into(),
            client_id: client_id.into(),
            valid_lifetime: 3600,
            cltt: 0,
            state: shards::LeaseState::Default,
            fqdn_fwd: false,
            fqdn_rev: false,
            hostname: Default::default(),
            user_context: None,
        }
    }

    #[test]
    fn a_lease_belongs_to_its_client_as_alc_11_says() {
        const OTHER: &[u8] = &[2, 0, 0, 0, 0, 2];
        const OTHER_ID: &[u8] = &[255, 9];
        // Client, lease (hwaddr, client-id), owned with match-client-id, owned without.
        type Row<'a> = (&'a str, (&'a [u8], &'a [u8]), (&'a [u8], &'a [u8]), bool, bool);
        let table: &[Row] = &[
            ("same ids, same address", (CHADDR, DUID), (CHADDR, DUID), true, true),
            ("same ids, other address", (CHADDR, DUID), (OTHER, DUID), true, false),
            ("other ids, same address", (CHADDR, DUID), (CHADDR, OTHER_ID), false, true),
            ("client without id", (CHADDR, &[]), (CHADDR, DUID), true, true),
            ("lease without id", (CHADDR, DUID), (CHADDR, &[]), true, true),
            ("no ids, same address", (CHADDR, &[]), (CHADDR, &[]), true, true),
            ("no ids, other address", (CHADDR, &[]), (OTHER, &[]), false, false),
            ("ALC-13: no address, same ids", (&[], DUID), (&[], DUID), true, false),
            ("no address on either side, one id", (&[], DUID), (&[], &[]), false, false),
            ("a declined lease is nobody's", (CHADDR, DUID), (&[], &[]), false, false),
        ];
        for (case, (chaddr, id), (lease_chaddr, lease_id), matching, ignoring) in table {
            let (client, lease) = (client(chaddr, id), lease(lease_chaddr, lease_id));
            assert_eq!(client.owns(&lease, true), *matching, "{case}");
            assert_eq!(client.owns(&lease, false), *ignoring, "{case}, ids ignored");
        }
    }

    #[test]
    fn the_home_is_the_hardware_address_unless_the_client_id_is_of_its_own() {
        let table: &[(&[u8], &[u8], HomeKey)] = &[
            (CHADDR, &[], HomeKey::HardwareAddress(CHADDR)),
            (CHADDR, REPEATED, HomeKey::HardwareAddress(CHADDR)),
            (CHADDR, DUID, HomeKey::ClientId(DUID)),
            (&[], DUID, HomeKey::ClientId(DUID)),
            (CHADDR, &[6, 2, 0, 0, 0, 0, 1], HomeKey::ClientId(&[6, 2, 0, 0, 0, 0, 1])),
            (&[], &[1, 2], HomeKey::ClientId(&[1, 2])),
        ];
        for (chaddr, client_id, expected) in table {
            assert_eq!(client(chaddr, client_id).home_key(), *expected, "{client_id:?}");
        }
        assert!(client(&[], &[]).is_empty() && !client(&[], DUID).is_empty());
    }
}
