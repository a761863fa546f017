//! What the tests of this folder share: queries written option by option, a small configuration, receive
//! information of a directly attached client.

use std::net::Ipv4Addr;

use shards::DatagramMeta;

use crate::policy::option_set::ConfiguredOption;
use crate::policy::{
    Attachment, ExpiredLeases, Guard, Interface, LifetimeTriplet, OptionSet, Pool, Relationships, Snapshot,
    Subnet, Subnets,
};
use crate::wire::codes::{self, MessageType};
use crate::wire::reply::{MessageHeader, MessageWriter};

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// A query under construction.
#[derive(Clone)]
pub(crate) struct QueryBuilder {
    pub(crate) header: MessageHeader<'static>,
    message_type: MessageType,
    options: Vec<(u8, Vec<u8>)>,
}

impl QueryBuilder {
    pub(crate) fn new(message_type: MessageType) -> Self {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&MAC);
        let header = MessageHeader { hlen: 6, chaddr, secs: 7, ..MessageHeader::request(0x1234_5678) };
        Self { header, message_type, options: Vec::new() }
    }

    pub(crate) fn option(mut self, code: u8, payload: &[u8]) -> Self {
        self.options.push((code, payload.to_vec()));
        self
    }

    pub(crate) fn header(mut self, change: impl FnOnce(&mut MessageHeader<'static>)) -> Self {
        change(&mut self.header);
        self
    }

    pub(crate) fn ciaddr(self, address: Ipv4Addr) -> Self {
        self.header(|header| header.ciaddr = address)
    }

    pub(crate) fn giaddr(self, address: Ipv4Addr) -> Self {
        self.header(|header| {
            header.giaddr = address;
            header.hops = 1;
        })
    }

    pub(crate) fn broadcast(self) -> Self {
        self.header(|header| header.flags |= codes::FLAG_BROADCAST)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut octets = vec![0; 65_507];
        let mut writer = MessageWriter::new(&mut octets, &self.header, self.message_type).unwrap();
        for (code, payload) in &self.options {
            writer.option(*code, payload).unwrap();
        }
        let len = writer.finish().unwrap();
        octets.truncate(len);
        octets
    }
}

/// A broadcast of a client without an address, on interface 3, in raw mode.
pub(crate) fn direct() -> DatagramMeta {
    DatagramMeta {
        socket: 0,
        ifindex: 3,
        source: NONE,
        source_port: 68,
        destination: Ipv4Addr::BROADCAST,
        socket_address: SERVER,
        source_mac: Some(MAC),
    }
}

/// A unicast from `source`.
pub(crate) fn unicast(source: Ipv4Addr, source_port: u16) -> DatagramMeta {
    DatagramMeta { source, source_port, destination: SERVER, ..direct() }
}

pub(crate) fn option(code: u8, payload: &[u8]) -> ConfiguredOption {
    ConfiguredOption { code, always_send: false, never_send: false, payload: payload.into() }
}

/// Subnet `id` with prefix 192.0.`third`.0/24 and one pool .100 to .199.
pub(crate) fn subnet(id: u32, third: u8, options: Vec<ConfiguredOption>) -> Subnet {
    let options = OptionSet::new(options);
    Subnet {
        id,
        prefix: Ipv4Addr::new(192, 0, third, 0),
        prefix_len: 24,
        interface: None,
        relays: Vec::new(),
        attachment: Attachment::Of(0),
        pools: vec![Pool {
            first: Ipv4Addr::new(192, 0, third, 100),
            last: Ipv4Addr::new(192, 0, third, 199),
            pool_id: 0,
            guard: Guard::EVERYONE,
            options: options.clone(),
        }],
        guard: Guard::EVERYONE,
        has_guarded_pools: false,
        valid_lifetime: LifetimeTriplet { min_s: 600, default_s: 7200, max_s: 86_400 },
        renew_timer_s: None,
        rebind_timer_s: None,
        tee_percent: None,
        match_client_id: true,
        authoritative: false,
        store_extended_info: false,
        cache_threshold: None,
        cache_max_age_s: None,
        offer_lifetime_s: 0,
        next_server: NONE,
        server_hostname: Vec::new(),
        boot_file_name: Vec::new(),
        options,
    }
}

/// A configuration of `subnets` on interface 3, `eth0`, 192.0.2.1.
pub(crate) fn snapshot(subnets: Vec<Subnet>) -> Snapshot {
    Snapshot {
        epoch: 1,
        subnets: Subnets::new(subnets),
        relationships: Relationships::default(),
        interfaces: vec![Interface {
            ifindex: 3,
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec![SERVER],
            socket_addresses: vec![SERVER],
        }],
        interfaces_missing: Vec::new(),
        options: OptionSet::default(),
        authoritative: false,
        echo_client_id: true,
        decline_probation_period_s: 86_400,
        ignore_server_identifier: false,
        ignore_link_selection: false,
        exclude_first_last_24: false,
        raw_sockets: true,
        expired_leases: ExpiredLeases {
            reclaim_timer_wait_s: 10,
            flush_reclaimed_timer_wait_s: 25,
            hold_reclaimed_s: 3600,
            max_reclaim_leases: 100,
            max_reclaim_time_ms: 250,
            unwarned_reclaim_cycles: 5,
        },
        parked_packet_limit: 256,
        server_port: 67,
        forced_client_port: None,
    }
}
