//! Datagrams through whole engines: single decisions, and exchanges from the first datagram to the last reply.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::Case;
use super::table::STRIDE;
use crate::messages::{Client, Datagram, Kind, RELAY};
use crate::site::{self, Site};

pub const DECIDE: &[&str] = &["decide/renew", "decide/discover-of-known", "decide/discover-of-new"];
pub const THOUSAND: &[&str] =
    &["exchange/renew-among-1000", "exchange/new-among-1000", "exchange/new-relayed", "exchange/new-named"];
pub const MILLION: &[&str] = &["exchange/renew-among-1000000", "exchange/new-among-1000000"];
pub const RELAYED: &[&str] = &["exchange/new-behind-1000-relays"];
pub const FORWARDED: &[&str] = &["exchange/new-at-4-shards", "exchange/new-named-at-4-shards"];

/// Datagrams of a step: what a busy shard reads at once.
const UNITS: u32 = 32;
const WARM: u32 = 16;
const STEPS: u32 = 16;

type Shared = Rc<RefCell<Site>>;

/// From octets to actions, and no further: rows are not written, replies not awaited.
pub fn decide() -> Vec<Case> {
    let site = site_with(1, 1_000);
    let known =
        |message: fn(Client) -> Datagram| batches((0..).map(|nth| plain(nth * STRIDE % 1_000)), message);
    let mut renewals = known(|client| client.renew(site::address_of(client.number)));
    let mut discovers = known(Client::discover);
    let mut strangers = batches((1_000..).map(plain), Client::discover);
    let (first, second, third) = (Rc::clone(&site), Rc::clone(&site), site);
    let renew = Box::new(move || {
        let mut site = first.borrow_mut();
        site.decide(renewals.next());
        // What was parked must not pile up; the part of a step that this is, is small.
        site.persist();
    });
    let of_known = Box::new(move || second.borrow_mut().decide(discovers.next()));
    let of_new = Box::new(move || third.borrow_mut().decide(strangers.next()));
    vec![case(DECIDE[0], renew), case(DECIDE[1], of_known), case(DECIDE[2], of_new)]
}

pub fn thousand() -> Vec<Case> {
    let site = site_with(1, 1_000);
    vec![
        renew(THOUSAND[0], &site, 1_000),
        four_way(THOUSAND[1], &site, Kind::Plain, 10_000_000),
        four_way(THOUSAND[2], &site, Kind::Relayed(RELAY), 20_000_000),
        four_way(THOUSAND[3], &site, Kind::Named, 30_000_000),
    ]
}

pub fn million() -> Vec<Case> {
    let site = site_with(1, 1_000_000);
    vec![renew(MILLION[0], &site, 1_000_000), four_way(MILLION[1], &site, Kind::Plain, 10_000_000)]
}

/// Every client behind another relay.
pub fn relayed() -> Vec<Case> {
    const SUBNETS: u32 = 1_000;
    let site = Rc::new(RefCell::new(Site::new(1, site::snapshot(SUBNETS), Vec::new())));
    let client = |number: u32| {
        let relay = site::relay_of(number.wrapping_mul(STRIDE) % SUBNETS);
        Client { number, kind: Kind::Relayed(relay) }
    };
    vec![four_way_of(RELAYED[0], &site, || (20_000_000..).map(client))]
}

/// A client identifier that is no hardware address has its home at another shard, three times in four.
pub fn forwarded() -> Vec<Case> {
    let site = site_with(4, 1_000);
    vec![
        four_way(FORWARDED[0], &site, Kind::Plain, 10_000_000),
        four_way(FORWARDED[1], &site, Kind::Named, 30_000_000),
    ]
}

/// REQUEST in RENEWING, its row, ACK.
fn renew(name: &'static str, site: &Shared, leases: u32) -> Case {
    let clients = (0..).map(|nth: u32| plain(nth.wrapping_mul(STRIDE) % leases));
    let mut renewals = batches(clients, |client| client.renew(site::address_of(client.number)));
    let site = Rc::clone(site);
    let step = Box::new(move || {
        let mut site = site.borrow_mut();
        site.decide(renewals.next());
        site.persist();
        assert_eq!(site.replies().count(), UNITS as usize, "every client has its ACK");
    });
    case(name, step)
}

/// DISCOVER, OFFER, REQUEST, its row, ACK, of clients nobody knows.
fn four_way(name: &'static str, site: &Shared, kind: Kind, first: u32) -> Case {
    four_way_of(name, site, || (first..).map(move |number| Client { number, kind }))
}

fn four_way_of<I: Iterator<Item = Client>>(
    name: &'static str,
    site: &Shared,
    clients: impl Fn() -> I,
) -> Case {
    let mut discovers = batches(clients(), Client::discover);
    let mut requests = batches(clients(), |client| client.request(Ipv4Addr::UNSPECIFIED));
    let site = Rc::clone(site);
    let step = Box::new(move || {
        let mut site = site.borrow_mut();
        site.decide(discovers.next());
        let requests = requests.next();
        let first = xid(&requests[0].bytes);
        for offer in site.replies() {
            requests[(xid(offer) - first) as usize].ask_for(&offer[16..20]);
        }
        site.decide(requests);
        site.persist();
        assert_eq!(site.replies().count(), UNITS as usize, "every client has its ACK");
    });
    case(name, step)
}

fn case(name: &'static str, step: Box<dyn FnMut()>) -> Case {
    Case { name, units: UNITS, warm: WARM, steps: STEPS, step }
}

fn plain(number: u32) -> Client {
    Client { number, kind: Kind::Plain }
}

/// A server where the clients with the first numbers have leases.
fn site_with(shards: u8, leases: u32) -> Shared {
    let leases = (0..leases).map(|number| site::lease(plain(number), site::address_of(number)));
    Rc::new(RefCell::new(Site::new(shards, site::snapshot(0), leases.collect())))
}

/// What the steps send; kept until the end, so that freeing it is no part of a step.
struct Batches {
    batches: Vec<Vec<Datagram>>,
    at: usize,
}

impl Batches {
    fn next(&mut self) -> &mut [Datagram] {
        self.at += 1;
        &mut self.batches[self.at - 1]
    }
}

fn batches(mut clients: impl Iterator<Item = Client>, message: impl Fn(Client) -> Datagram) -> Batches {
    let mut batch = || clients.by_ref().take(UNITS as usize).map(&message).collect();
    Batches { batches: (0..WARM + STEPS).map(|_| batch()).collect(), at: 0 }
}

fn xid(message: &[u8]) -> u32 {
    u32::from_be_bytes([message[4], message[5], message[6], message[7]])
}
