//! A report with everything that can be measured, for what is drawn of it.

use loadgen::capacity::Verdict;

use crate::report::cell::{Channel, Ha};
use crate::report::measured::States;
use crate::report::takeover::Moment;
use crate::report::tests::{fixed, measured, probe};
use crate::report::{
    Cell, Departure, Disturbance, Durability, Load, Measurement, Point, Report, Role, Server, Takeover,
    ThreadTime,
};

/// A made-up machine: two CPUs, every server, every axis.
pub fn full() -> Report {
    let mut report = fixed();
    report.cells.clear();
    report.parameters.curve = [0.1, 0.25, 0.5, 0.75, 0.9].map(Load::Share).to_vec();
    report.parameters.workload =
        "DISCOVER, OFFER, REQUEST, ACK of clients never seen before, behind one relay, in an \
                                  open loop; an empty lease file for each cell"
            .into();
    let sizes = [(1, 16, 0.8), (1, 64, 0.97), (1, 256, 0.99), (2, 16, 0.82), (2, 64, 1.0), (2, 256, 0.98)];
    let kinds = [
        (Server::Tandem, Durability::Synced, 52_400.0, 0.4),
        (Server::Tandem, Durability::Written, 60_100.0, 0.2),
        (Server::Kea, Durability::Written, 6_200.0, 0.7),
    ];
    for (server, durability, rate, p50) in kinds {
        for (threads, queue, share) in sizes {
            report.cells.push(found(server, durability, Some((threads, queue)), rate * share, p50));
        }
    }
    report.cells[3].disturbances.push(Disturbance::Steal(0.031));
    report.cells.push(found(Server::Dnsmasq, Durability::Synced, None, 1_450.0, 1.9));
    report.cells.push(found(Server::Dhcpd, Durability::Synced, None, 2_900.0, 1.1));
    report.cells.push(found(Server::Reflector, Durability::Written, None, 68_700.0, 0.08));
    for (channel, threads, rate) in [
        (Channel::Plain, 1, 11_900.0),
        (Channel::Tls, 1, 8_300.0),
        (Channel::Tls, 2, 10_700.0),
        (Channel::Tls, 4, 10_900.0),
    ] {
        let mut pair = found(Server::Tandem, Durability::Synced, Some((1, 64)), rate, 1.3);
        pair.cell.ha = Some(Ha { channel, listeners: threads, senders: threads, partner: None });
        pair.states = Some(States { primary: "hot-standby".into(), standby: "hot-standby".into() });
        pair.curve[2].probe.ack.max_ms = 38.0;
        report.cells.push(pair);
    }
    for (server, partner, rate) in
        [(Server::Tandem, Server::Kea, 4_100.0), (Server::Kea, Server::Tandem, 3_300.0)]
    {
        let mut pair = found(server, Durability::Synced, Some((1, 64)), rate, 1.9);
        pair.cell.ha = Some(Ha { channel: Channel::Tls, listeners: 4, senders: 4, partner: Some(partner) });
        pair.states = Some(States { primary: "hot-standby".into(), standby: "hot-standby".into() });
        let row = |role: Role, name: &str, count, busy: f64| ThreadTime {
            role,
            server: pair.cell.server_of(role),
            name: name.into(),
            count,
            busy,
            busiest: busy / 2.0,
            waited: busy / 4.0,
        };
        let rows = |role| match pair.cell.server_of(role) {
            Server::Kea => vec![row(role, "kea-dhcp4", 11, 0.97)],
            _ => vec![
                row(role, "shard", 1, 0.08),
                row(role, "ha-send", 4, 0.04),
                row(role, "control", 1, 0.001),
            ],
        };
        pair.profile = [Role::Primary, Role::Standby].into_iter().flat_map(rows).collect();
        report.cells.push(pair);
    }
    report.planned = report.cells.iter().map(|found| found.cell).collect();
    report.takeovers = vec![silence()];
    report
}

/// A primary that fell silent, and a standby that served what had waited.
fn silence() -> Takeover {
    let moments = (1..=80).map(|step| {
        let at_s = f64::from(step) * 0.25;
        let standby = if at_s < 9.25 { 0.0 } else { 1_000.0 + 2_000.0 * (9.25 - at_s).exp() };
        Moment { at_s, primary: if at_s <= 5.0 { 1_000.0 } else { 0.0 }, standby }
    });
    Takeover {
        departure: Departure::Frozen,
        rate: 1_000.0,
        at_s: 5.0,
        first_ack_s: Some(4.25),
        started: 20_000,
        unserved: 0,
        duplicates: 0,
        moments: moments.collect(),
    }
}

/// A measurement whose latencies rise towards its capacity.
fn found(
    server: Server,
    durability: Durability,
    size: Option<(u16, u32)>,
    capacity: f64,
    p50_ms: f64,
) -> Measurement {
    let mut found = measured(server, 1, 64, capacity);
    let (threads, queue) = (size.map(|size| size.0), size.map(|size| size.1));
    found.cell = Cell { durability, threads, queue, ..found.cell };
    let at = |share: f64| {
        let mut probe = probe(share * capacity, Verdict::Held);
        let slower = 1.0 / (1.02 - share).sqrt();
        probe.exchange.p50_ms = p50_ms * slower;
        probe.exchange.p99_ms = 3.0 * p50_ms * slower * slower;
        probe.exchange.p999_ms = 9.0 * p50_ms * slower * slower;
        probe.cpu_us = (server != Server::Dnsmasq).then_some(0.9e6 / capacity);
        probe
    };
    found.curve = [0.1, 0.25, 0.5, 0.75, 0.9]
        .map(|share| Point { load: Load::Share(share), probe: at(share) })
        .to_vec();
    found.probes = vec![at(1.0)];
    found
}
