//! Pieces of the packet path that need no table: decode, encode, row, steer.

use std::hint::black_box;
use std::net::Ipv4Addr;

use shards::journal::Columns;
use shards::journal::row::{self, Layout};
use tandem::dhcp4::names::Names;
use tandem::dhcp4::respond::{self, Grant};
use tandem::dhcp4::select;
use tandem::engine::rules::Steering;
use tandem::ha::lease_json::{Listing, write_page_reply};
use tandem::ha::lease_page::Page;
use tandem::policy::Scope;
use tandem::wire::{Query, ReplyBuffer};

use super::Case;
use crate::messages::{Client, Datagram, Kind, RELAY};
use crate::site::{self, SEED};

pub const DECODE: &[&str] = &["decode/discover", "decode/request-of-20-options", "decode/relayed"];
pub const ENCODE: &[&str] = &["encode/offer", "encode/ack", "encode/ack-named"];
pub const ROW: &[&str] = &["row/format", "row/parse"];
pub const PAGE: &[&str] = &["page/write", "page/read"];
pub const STEER: &[&str] = &["steer/hardware-address", "steer/identity-key"];

/// Repetitions of a step.
const UNITS: u32 = 64;

/// A case that does `work` the same way each time.
fn repeated(name: &'static str, mut work: impl FnMut() + 'static) -> Case {
    let step = Box::new(move || (0..UNITS).for_each(|_| work()));
    Case { name, units: UNITS, warm: 1, steps: 16, step }
}

pub fn decode() -> Vec<Case> {
    let address = Ipv4Addr::new(10, 16, 0, 9);
    let inputs = [
        Client { number: 1, kind: Kind::Plain }.discover(),
        Client { number: 1, kind: Kind::Plain }.long_request(address),
        Client { number: 1, kind: Kind::Relayed(RELAY) }.discover(),
    ];
    let case = |(&name, input): (&&'static str, Datagram)| {
        repeated(name, move || {
            let query = Query::decode(black_box(&input.bytes));
            black_box(&query).as_ref().expect("a message made here is well-formed");
        })
    };
    DECODE.iter().zip(inputs).map(case).collect()
}

pub fn encode() -> Vec<Case> {
    let address = Ipv4Addr::new(10, 16, 0, 9);
    let inputs = [
        Client { number: 1, kind: Kind::Plain }.discover(),
        Client { number: 1, kind: Kind::Plain }.request(address),
        Client { number: 1, kind: Kind::Named }.request(address),
    ];
    let case = |(&name, Datagram { meta, bytes }): (&&'static str, Datagram)| {
        let snapshot = site::snapshot(0);
        let mut reply = ReplyBuffer::new();
        let write = if name == "encode/offer" { respond::offer } else { respond::ack };
        repeated(name, move || {
            // Reading the query is part of it: a few header fields and options, and the name.
            let query = Query::decode(black_box(&bytes)).expect("a message made here is well-formed");
            let subnet = select::subnet(&query, &meta, Scope::Primary, &snapshot).expect("a subnet");
            let names = Names::decide(&query, address);
            let grant = Grant { address, lifetime_s: respond::valid_lifetime(&query, subnet) };
            let built = write(&query, &meta, &snapshot, subnet, &grant, &names, &mut reply);
            black_box(built).expect("the reply fits");
        })
    };
    ENCODE.iter().zip(inputs).map(case).collect()
}

pub fn row() -> Vec<Case> {
    let lease = site::lease(Client { number: 77_777, kind: Kind::Plain }, site::address_of(77_777));
    let mut rows = Vec::new();
    row::write_lease(&mut rows, &lease, Columns::Twelve);
    let line = rows[..rows.len() - 1].to_vec();
    let format = move || {
        rows.clear();
        row::write_lease(&mut rows, black_box(&lease), Columns::Twelve);
        black_box(&rows);
    };
    let parse = move || {
        let row = row::parse_row(black_box(&line), Layout { known: 12, unknown: 0 });
        black_box(row).expect("a row written here is read");
    };
    vec![repeated(ROW[0], format), repeated(ROW[1], parse)]
}

/// A lease of a page for a Kea, and of one from it.
pub fn page() -> Vec<Case> {
    let lease = |number| site::lease(Client { number, kind: Kind::Named }, site::address_of(number));
    let leases: Vec<_> = (0..UNITS).map(lease).collect();
    let mut body = Vec::new();
    write_page_reply(leases.iter(), Listing::AsStored, &mut body);
    let page = body.clone();
    let write = move || {
        body.clear();
        write_page_reply(black_box(&leases).iter(), Listing::AsStored, &mut body);
        black_box(&body);
    };
    let read = move || {
        let page = Page::parse(black_box(&page));
        assert_eq!(black_box(&page).as_ref().map_or(0, |page| page.leases.len()), UNITS as usize);
    };
    let case = |name, step| Case { name, units: UNITS, warm: 1, steps: 16, step };
    vec![case(PAGE[0], Box::new(write)), case(PAGE[1], Box::new(read))]
}

pub fn steer() -> Vec<Case> {
    let steering = Steering::new(SEED, 4);
    let hwaddr = Client { number: 77_777, kind: Kind::Plain }.hwaddr();
    let shard = move || {
        black_box(steering.shard_of_hardware(black_box(&hwaddr)));
    };
    let key = move || {
        black_box(steering.identities.key(black_box(&hwaddr)));
    };
    vec![repeated(STEER[0], shard), repeated(STEER[1], key)]
}
