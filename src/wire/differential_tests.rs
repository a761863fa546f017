//! The codec against another one (`dhcproto`), and against arbitrary bytes.

use std::net::Ipv4Addr;

use dhcproto::v4::{self, DhcpOption, OptionCode, UnknownOption};
use dhcproto::{Decodable, Encodable};
use proptest::prelude::*;

use crate::wire::codes::{self, MessageType};
use crate::wire::query::Query;
use crate::wire::reply::{MessageHeader, MessageWriter};

/// Calls every accessor; returns how much there was, so that nothing is optimised away.
fn read_everything(query: &Query) -> usize {
    let options: usize =
        query.option_codes().map(|code| query.option(code).expect("a listed option is there").len()).sum();
    let relay = query.relay_info().map_or(0, |info| {
        let known = [info.circuit_id(), info.remote_id(), info.relay_id()];
        let addresses = [info.link_selection(), info.server_id_override()];
        info.sub_options().count() + known.iter().flatten().count() + addresses.iter().flatten().count()
    });
    let typed = [query.requested_address(), query.server_id(), query.subnet_selection()];
    options
        + relay
        + typed.iter().flatten().count()
        + query.chaddr().len()
        + query.client_id().map_or(0, <[u8]>::len)
        + query.host_name().map_or(0, <[u8]>::len)
        + query.parameter_request_list().iter().count()
        + usize::from(query.message_type().is_some() && query.is_relayed() && query.lease_time().is_some())
        + usize::from(query.max_message_size().unwrap_or(0))
}

/// Options without a type in the other codec, so that it keeps their octets as they are.
const OPAQUE: [u8; 8] = [102, 103, 104, 105, 110, 224, 240, 254];

type Options = Vec<(u8, Vec<u8>)>;

fn opaque_options() -> impl Strategy<Value = Options> {
    let option = (prop::sample::select(&OPAQUE[..]), prop::collection::vec(any::<u8>(), 1..400));
    prop::collection::btree_map(prop::sample::select(&OPAQUE[..]), option, 0..4)
        .prop_map(|options| options.into_iter().map(|(code, (_, payload))| (code, payload)).collect())
}

fn any_address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn any_message_type() -> impl Strategy<Value = MessageType> {
    (1u8..=8).prop_map(|value| MessageType::from_value(value).expect("1 to 8 are known"))
}

prop_compose! {
    fn any_header()(
        xid: u32,
        secs: u16,
        flags: u16,
        hops: u8,
        hlen in 0u8..=16,
        chaddr: [u8; 16],
        addresses in prop::array::uniform4(any_address()),
    ) -> MessageHeader<'static> {
        let [ciaddr, yiaddr, siaddr, giaddr] = addresses;
        let base = MessageHeader::request(xid);
        MessageHeader { secs, flags, hops, hlen, chaddr, ciaddr, yiaddr, siaddr, giaddr, ..base }
    }
}

prop_compose! {
    /// A well-formed message: options that mean something, and some that mean nothing.
    fn any_message()(
        header in any_header(),
        message_type in any_message_type(),
        options in opaque_options(),
        client_id in prop::option::of(prop::collection::vec(any::<u8>(), 2..=255)),
        relay_info in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        requested in prop::collection::vec(any::<u8>(), 0..20),
    ) -> Vec<u8> {
        let mut octets = vec![0; 4000];
        let mut writer = MessageWriter::new(&mut octets, &header, message_type).expect("it fits");
        writer.option(codes::DHCP_PARAMETER_REQUEST_LIST, &requested).expect("it fits");
        if let Some(client_id) = client_id {
            writer.option(codes::DHCP_CLIENT_IDENTIFIER, &client_id).expect("it fits");
        }
        for (code, payload) in options {
            writer.option(code, &payload).expect("it fits");
        }
        if let Some(info) = relay_info {
            writer.option(codes::DHCP_AGENT_OPTIONS, &info).expect("it fits");
        }
        let len = writer.finish().expect("it fits");
        octets.truncate(len);
        octets
    }
}

proptest! {
    #[test]
    fn what_the_other_codec_encodes_is_decoded_alike(
        header in any_header(),
        message_type in any_message_type(),
        options in opaque_options(),
        requested in any_address(),
        client_id in prop::collection::vec(any::<u8>(), 2..=255),
    ) {
        let mut message = v4::Message::new_with_id(
            header.xid, header.ciaddr, header.yiaddr, header.siaddr, header.giaddr, &header.chaddr,
        );
        message.set_secs(header.secs).set_flags(header.flags.into()).set_hops(header.hops);
        let opts = message.opts_mut();
        opts.insert(DhcpOption::MessageType(v4::MessageType::from(message_type as u8)));
        opts.insert(DhcpOption::RequestedIpAddress(requested));
        opts.insert(DhcpOption::ClientIdentifier(client_id.clone()));
        for (code, payload) in &options {
            let code = OptionCode::from(*code);
            opts.insert(DhcpOption::Unknown(UnknownOption::new(code, payload.clone())));
        }
        let bytes = message.to_vec().expect("the other codec encodes");
        let query = Query::decode(&bytes).expect("what it encodes is well-formed");
        prop_assert_eq!((query.xid(), query.secs(), query.hops()), (header.xid, header.secs, header.hops));
        prop_assert_eq!(query.flags(), header.flags);
        prop_assert_eq!((query.ciaddr(), query.yiaddr(), query.giaddr()), (header.ciaddr, header.yiaddr, header.giaddr));
        prop_assert_eq!(query.chaddr(), message.chaddr());
        prop_assert_eq!(query.message_type(), Some(message_type));
        prop_assert_eq!(query.requested_address(), Some(requested));
        prop_assert_eq!(query.client_id(), Some(&client_id[..]));
        for (code, payload) in &options {
            prop_assert_eq!(query.option(*code), Some(&payload[..]), "option {}", code);
        }
    }

    #[test]
    fn what_is_encoded_here_the_other_codec_decodes_alike(
        header in any_header(),
        message_type in any_message_type(),
        options in opaque_options(),
        server_id in any_address(),
        lifetime_s: u32,
    ) {
        let mut octets = vec![0; 4000];
        let mut writer = MessageWriter::new(&mut octets, &header, message_type).expect("it fits");
        writer.number(codes::DHCP_LEASE_TIME, lifetime_s).expect("it fits");
        writer.address(codes::DHCP_SERVER_IDENTIFIER, server_id).expect("it fits");
        for (code, payload) in &options {
            writer.option(*code, payload).expect("it fits");
        }
        let len = writer.finish().expect("it fits");
        let message = v4::Message::from_bytes(&octets[..len]).expect("the other codec decodes");
        prop_assert_eq!((message.xid(), message.secs(), message.hops()), (header.xid, header.secs, header.hops));
        prop_assert_eq!(u16::from(message.flags()), header.flags);
        prop_assert_eq!((message.ciaddr(), message.yiaddr()), (header.ciaddr, header.yiaddr));
        prop_assert_eq!((message.siaddr(), message.giaddr()), (header.siaddr, header.giaddr));
        prop_assert_eq!(message.chaddr(), &header.chaddr[..usize::from(header.hlen)]);
        let opts = message.opts();
        prop_assert_eq!(opts.msg_type(), Some(v4::MessageType::from(message_type as u8)));
        prop_assert_eq!(opts.get(OptionCode::AddressLeaseTime), Some(&DhcpOption::AddressLeaseTime(lifetime_s)));
        prop_assert_eq!(opts.get(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(server_id)));
        for (code, payload) in &options {
            match opts.get(OptionCode::from(*code)) {
                Some(DhcpOption::Unknown(option)) => prop_assert_eq!(option.data(), &payload[..]),
                other => prop_assert!(false, "option {} came out as {:?}", code, other),
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        if let Ok(query) = Query::decode(&bytes) {
            read_everything(&query);
        }
    }

    #[test]
    fn arbitrary_options_behind_a_header_are_read_or_refused(
        header in prop::collection::vec(any::<u8>(), 236),
        options in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let bytes = [&header[..], &codes::MAGIC_COOKIE, &options].concat();
        if let Ok(query) = Query::decode(&bytes) {
            read_everything(&query);
        }
    }

    #[test]
    fn mutated_messages_are_read_or_refused(
        message in any_message(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = message;
        for (place, octet) in mutations {
            let place = place.index(bytes.len());
            bytes[place] = octet;
        }
        bytes.truncate(keep.index(bytes.len()) + 1);
        if let Ok(query) = Query::decode(&bytes) {
            prop_assert!(read_everything(&query) <= 4 * bytes.len() + usize::from(u16::MAX));
        }
    }

    #[test]
    fn well_formed_messages_are_always_read(message in any_message()) {
        prop_assert!(Query::decode(&message).is_ok());
    }
}
