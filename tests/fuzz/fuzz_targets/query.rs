//! Any datagram is read or refused: `cargo +nightly fuzz run --fuzz-dir tests/fuzz query` from the root.
//!
//! Reads every field and option, decides on a name and writes it, and shows the datagram to a client.
#![no_main]

use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use tandem::client::{Client, ClientConfig};
use tandem::dhcp4::identity::ClientIdentity;
use tandem::dhcp4::names::Names;
use tandem::wire::codes::MessageType;
use tandem::wire::{MessageHeader, MessageWriter, Query};

fuzz_target!(|bytes: &[u8]| {
    let mut client = Client::new(0, ClientConfig::new([2, 0, 0, 0, 0, 1], 1));
    let event = client.handle_reply(0, bytes);
    assert!(event.is_none(), "nothing is bound without a REQUEST");

    let Ok(query) = Query::decode(bytes) else { return };
    for code in query.option_codes() {
        assert!(query.option(code).is_some(), "a listed option is there");
    }
    assert!(query.chaddr().len() <= 16);
    let identity = ClientIdentity::of(&query);
    assert_eq!(identity.is_empty(), query.chaddr().is_empty() && query.client_id().is_none());
    if let Some(info) = query.relay_info() {
        assert!(
            info.sub_options().map(|(_, payload)| payload.len() + 2).sum::<usize>() <= info.payload().len()
        );
    }

    let names = Names::decide(&query, Ipv4Addr::new(192, 0, 2, 1));
    let mut octets = [0; 1500];
    let header = MessageHeader::reply_to(&query);
    let mut writer = MessageWriter::new(&mut octets, &header, MessageType::Ack).expect("there is room");
    names.write(&mut writer).expect("there is room");
    let len = writer.finish().expect("there is room");
    let reply = Query::decode(&octets[..len]).expect("what is written can be read");
    assert_eq!(names.code().is_some(), names.code().is_some_and(|code| reply.has_option(code)));
    assert!(names.lease_hostname().len() <= 255);
});
