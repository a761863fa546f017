//! Goal: no client can tell Tandem from Kea. Method: take a real Kea 2.2 and Tandem, each alone on a link, through
//! every conversation of `conversations.txt` and compare what came back, frame by frame. What differs has to be one of
//! the differences that [`without_known_differences`] lists with their rules, or marked in the table.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::script::{Address, Conversation, Expected, Step, parse};
use super::server::{ELSEWHERE_ADDRESS, SERVER_ADDRESS, Server};
use crate::support::dhcp::{Query, address_at, options};
use crate::support::frame::{BROADCAST_MAC, Frame};
use crate::support::server::Kind;
use crate::support::sys;

/// Hardware address of the relay.
const RELAY_MAC: [u8; 6] = [0x02, 0xfe, 0, 0, 0, 1];
/// How long silence has to last to count.
const SILENCE: Duration = Duration::from_millis(350);

#[test]
fn every_conversation_goes_the_same_way_with_kea_and_with_tandem() {
    let table = parse(include_str!("conversations.txt"), SERVER_ADDRESS);
    assert!(table.len() >= 60, "the table has shrunk to {}", table.len());
    let (kea, tandem) = std::thread::scope(|scope| {
        let runs = [Kind::Kea, Kind::Tandem].map(|kind| {
            let table = &table;
            scope.spawn(move || {
                let server = Server::start(kind);
                (run_all(&server, table), server.log())
            })
        });
        let [(kea, _), (tandem, log)] = runs.map(|run| run.join().expect("a run"));
        println!("{log}");
        (kea, tandem)
    });
    let mut differences = String::new();
    for (conversation, (of_kea, of_tandem)) in table.iter().zip(kea.iter().zip(&tandem)) {
        for (step, (of_kea, of_tandem)) in conversation.steps.iter().zip(of_kea.iter().zip(of_tandem)) {
            compare(conversation, step, of_kea, of_tandem, &mut differences);
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

fn compare(
    conversation: &Conversation,
    step: &Step,
    of_kea: &Reply,
    of_tandem: &Reply,
    differences: &mut String,
) {
    let place = format!("{} [{}]: {}", conversation.name, conversation.rule, step.text);
    for (who, reply, expected) in
        [("Kea", of_kea, step.expected_of_kea), ("Tandem", of_tandem, step.expected_of_tandem)]
    {
        if reply.kind != expected {
            // Writing to a String cannot fail.
            let _ =
                writeln!(differences, "{place}\n    {who} answered {:?}, expected {expected:?}", reply.kind);
        }
    }
    let content_differs = conversation.rule.ends_with('*') || step.expected_of_kea != step.expected_of_tandem;
    if !content_differs && of_kea.text != of_tandem.text {
        let _ = writeln!(differences, "{place}\n  Kea:\n{}  Tandem:\n{}", of_kea.text, of_tandem.text);
    }
}

/// What came back for one step.
struct Reply {
    kind: Expected,
    /// Everything about it, a line per field, chosen addresses named.
    text: String,
}

fn run_all(server: &Server, table: &[Conversation]) -> Vec<Vec<Reply>> {
    table.iter().enumerate().map(|(number, conversation)| run(server, number, conversation)).collect()
}

fn run(server: &Server, number: usize, conversation: &Conversation) -> Vec<Reply> {
    let mut chosen: Vec<Ipv4Addr> = Vec::new();
    let mut replies = Vec::new();
    for (index, step) in conversation.steps.iter().enumerate() {
        let xid = 0x5400_0000 + (number as u32) * 256 + index as u32;
        let query = query_frame(server, number, step, xid, &chosen);
        let wire = &server.wires[usize::from(step.elsewhere)];
        sys::send(wire, &query.encode()).expect("send");
        let reply = receive(wire, xid);
        replies.push(match reply {
            None => Reply { kind: Expected::Nothing, text: String::new() },
            Some(frame) => {
                let yiaddr = address_at(&frame.payload, 16);
                if !yiaddr.is_unspecified() && !chosen.contains(&yiaddr) {
                    chosen.push(yiaddr);
                }
                let frame = without_known_differences(server.kind, step, frame);
                Reply { kind: kind_of(&frame.payload), text: describe(&frame, &chosen) }
            }
        });
    }
    replies
}

fn query_frame(server: &Server, number: usize, step: &Step, xid: u32, chosen: &[Ipv4Addr]) -> Frame {
    let mac = [0x02, 0x10, 0, number as u8, 0, step.mac];
    let resolve = |address: Address| match address {
        Address::Literal(address) => address,
        Address::Chosen(n) => {
            *chosen.get(n - 1).unwrap_or_else(|| panic!("no address ${n} yet: {}", step.text))
        }
    };
    let mut options = Vec::new();
    options.extend(step.requested.map(|address| (50, resolve(address).octets().to_vec())));
    options.extend(step.server_identifier.map(|address| (54, address.octets().to_vec())));
    options.extend(step.options.iter().cloned());
    let query = Query {
        message_type: step.message_type,
        xid,
        secs: step.secs,
        hops: step.hops,
        broadcast: step.broadcast,
        ciaddr: step.ciaddr.map(resolve),
        giaddr: step.giaddr,
        mac,
        options,
        no_end: step.no_end,
    };
    let unicast = step.source.is_some() || step.giaddr.is_some();
    Frame {
        destination_mac: if unicast { server.macs[usize::from(step.elsewhere)] } else { BROADCAST_MAC },
        source_mac: if step.giaddr.is_some() { RELAY_MAC } else { mac },
        source: step.source.map(resolve).or(step.giaddr).unwrap_or(Ipv4Addr::UNSPECIFIED),
        destination: match (unicast, step.elsewhere) {
            (false, _) => Ipv4Addr::BROADCAST,
            (true, false) => SERVER_ADDRESS,
            (true, true) => ELSEWHERE_ADDRESS,
        },
        source_port: if step.giaddr.is_some() { 67 } else { 68 },
        destination_port: 67,
        payload: query.encode(),
    }
}

fn receive(wire: &OwnedFd, xid: u32) -> Option<Frame> {
    let start = Instant::now();
    let mut buffer = vec![0; 2048];
    while start.elapsed() < SILENCE {
        let Some(length) = sys::receive(wire, &mut buffer).expect("receive") else { continue };
        let frame = Frame::decode(&buffer[..length]);
        let ours = |frame: &Frame| {
            frame.source_port == 67 && frame.payload.get(4..8) == Some(&xid.to_be_bytes()[..])
        };
        if let Some(frame) = frame.filter(ours) {
            return Some(frame);
        }
    }
    None
}

/// Rewrites a reply of Kea 2.2 where Tandem follows Kea 3.x by design (dhcp4-behaviour §0):
/// - a reply with the broadcast flag that is not relayed goes to the Ethernet broadcast address;
/// - the broadcast flag of a relayed NAK to a REQUEST is set.
fn without_known_differences(kind: Kind, step: &Step, mut frame: Frame) -> Frame {
    if kind == Kind::Kea {
        if step.giaddr.is_none() && step.broadcast {
            frame.destination_mac = BROADCAST_MAC;
        }
        if step.giaddr.is_some() && kind_of(&frame.payload) == Expected::Nak {
            frame.payload[10..12].copy_from_slice(&[0x80, 0]);
        }
    }
    // The server's end of the link has another hardware address in each run.
    frame.source_mac = [0; 6];
    frame
}

fn kind_of(payload: &[u8]) -> Expected {
    match options(payload).first() {
        Some((53, [2])) => Expected::Offer,
        Some((53, [5])) => Expected::Ack,
        Some((53, [6])) => Expected::Nak,
        other => panic!("the first option of a reply is its message type: {other:?}"),
    }
}

fn describe(frame: &Frame, chosen: &[Ipv4Addr]) -> String {
    let name = |address: Ipv4Addr| match chosen.iter().position(|known| *known == address) {
        Some(index) => format!("${}", index + 1),
        None => address.to_string(),
    };
    let payload = &frame.payload;
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {what} {value}");
    };
    line("ethernet to", format!("{:02x?}", frame.destination_mac));
    line("from", format!("{}:{}", name(frame.source), frame.source_port));
    line("to", format!("{}:{}", name(frame.destination), frame.destination_port));
    line("op htype hlen hops", format!("{:?}", &payload[..4]));
    line("secs flags", format!("{:?}", &payload[8..12]));
    for (what, at) in [("ciaddr", 12), ("yiaddr", 16), ("siaddr", 20), ("giaddr", 24)] {
        line(what, name(address_at(payload, at)));
    }
    line("chaddr", format!("{:02x?}", &payload[28..44]));
    line(
        "sname",
        String::from_utf8_lossy(payload[44..108].split(|octet| *octet == 0).next().unwrap_or(&[])).into(),
    );
    line(
        "file",
        String::from_utf8_lossy(payload[108..236].split(|octet| *octet == 0).next().unwrap_or(&[])).into(),
    );
    for (code, octets) in options(payload) {
        line(&format!("option {code}"), format!("{octets:02x?}"));
    }
    text
}
