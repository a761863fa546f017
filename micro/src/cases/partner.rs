//! What the partner is told, and what it does with it: lease updates of new clients, in requests of the size that they
//! have under full load.

use std::hint::black_box;

use tandem::engine::message::UpdateKind;
use tandem::ha::batch::{self, Received};

use super::Case;
use crate::messages::{Client, Kind};
use crate::site::{self, Site};

pub const PARTNER: &[&str] = &["partner/write-request", "partner/apply-request"];

/// Updates of a request.
const UNITS: u32 = 128;
const WARM: u32 = 8;
const STEPS: u32 = 8;

pub fn partner() -> Vec<Case> {
    let leases: Vec<_> = (0..UNITS).map(lease).collect();
    let mut output = Vec::new();
    let write = move || {
        output.clear();
        write_request(black_box(&leases), &mut output);
        black_box(&output);
    };
    let snapshot = site::snapshot(0);
    let mut site = Site::new(1, site::snapshot(0), Vec::new());
    let request = |nth: u32| {
        let leases: Vec<_> = (nth * UNITS..(nth + 1) * UNITS).map(lease).collect();
        let mut body = Vec::new();
        write_request(&leases, &mut body);
        body
    };
    let mut requests = (0..WARM + STEPS).map(request).collect::<Vec<_>>().into_iter();
    let apply = move || {
        let body = requests.next().expect("there is a request for each step");
        let (received, parts) = Received::read(&body, 0, 1, |_| 0, &snapshot).expect("it was written here");
        for (shard, part) in parts {
            site.command(shard, part);
        }
        site.persist();
        assert_eq!(site.replies_to_commands(), 1, "the shard says that it is done");
        black_box(received);
    };
    let steps: [Box<dyn FnMut()>; 2] = [Box::new(write), Box::new(apply)];
    let case = |(&name, step)| Case { name, units: UNITS, warm: WARM, steps: STEPS, step };
    PARTNER.iter().zip(steps).map(case).collect()
}

fn lease(number: u32) -> shards::Lease {
    site::lease(Client { number, kind: Kind::Plain }, site::address_of(number))
}

fn write_request(leases: &[shards::Lease], output: &mut Vec<u8>) {
    batch::write_request(leases.iter().map(|lease| (UpdateKind::Update, lease)), None, output);
}
