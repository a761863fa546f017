//! Partners that lie: what the listener answers them, and what comes of their answers at the sender.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::limits::{HA_CONNECTIONS_MAX, HA_FOREIGN_CONNECTIONS_MAX, HTTP_REQUEST_BODY_OCTETS_MAX};

/// A plain HTTP client that writes whatever it is told to.
pub struct Client(TcpStream);

/// An answer as it came.
pub struct HttpAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Client {
    /// Connects, from the loopback address `from` if there is one.
    pub fn connect(address: SocketAddr, from: Option<&str>) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        if let Some(from) = from {
            let from: SocketAddr = format!("{from}:0").parse().unwrap();
            socket.bind(&from.into()).unwrap();
        }
        socket.connect(&address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, octets: &[u8]) {
        // A listener that has closed already takes nothing, and says so by its answer or its silence.
        let _ = self.0.write_all(octets);
    }

    /// One answer with a Content-Length; `None` where the connection is closed without one.
    pub fn answer(&mut self) -> Option<HttpAnswer> {
        let mut input = Vec::new();
        let head_end = loop {
            if let Some(at) = input.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more(&mut input)?;
        };
        let head = String::from_utf8(input[..head_end].to_vec()).unwrap();
        let length = head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let whole = head_end + length.parse::<usize>().unwrap();
        while input.len() < whole {
            self.more(&mut input)?;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(HttpAnswer { status, head, body: String::from_utf8(input[head_end..].to_vec()).unwrap() })
    }

    /// Whether the listener has closed.
    fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "still open and silent");
                true
            }
        }
    }

    /// Whether it is open and nothing has come.
    fn is_open(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let nothing = matches!(self.0.peek(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.0.set_nonblocking(false).unwrap();
        nothing
    }

    fn more(&mut self, input: &mut Vec<u8>) -> Option<()> {
        let mut piece = [0; 4096];
        match self.0.read(&mut piece) {
            Ok(0) => None,
            // An executor of this process preempts itself with a signal that may hit this thread.
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(()),
            Err(_) => None,
            Ok(count) => {
                input.extend_from_slice(&piece[..count]);
                Some(())
            }
        }
    }
}

/// A request as Kea writes it, with `headers` beside the usual ones.
pub fn request(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {}\r\nContent-Type: application/json\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// An update of the lease of 10.0.0.`last` with these members in the place of the usual ones.
fn update(members: &str) -> Vec<u8> {
    request("", format!(r#"{{"command": "lease4-update", "arguments": {{{members}}}}}"#).as_bytes())
}

#[test]
fn what_a_partner_may_not_say_is_answered_or_ends_its_connection() {
    let bench = Bench::with(plain);
    let deep = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    let long = HTTP_REQUEST_BODY_OCTETS_MAX + 1;
    let lease = r#""ip-address": "10.0.0.5", "hw-address": "2:0:0:0:0:1", "force-create": true"#;
    let result = |code: i32| Some((200, format!("\"result\": {code}")));
    // What is sent, the status and a part of the answer (`None` for silence), and whether the connection ends.
    let rows = [
        ("no JSON", request("", b"{\"command\": "), Some((400, "Bad Request".into())), false),
        ("deep JSON", request("", &deep(100_000)), Some((400, "Bad Request".into())), false),
        ("wide JSON", request("", format!("[{}0]", "0,".repeat(400_000)).as_bytes()), result(1), false),
        ("no map", request("", b"[]"), result(1), false),
        ("unknown command", request("", b"{\"command\": \"config-set\"}"), Some((403, "Forbidden".into())), false),
        ("huge body", request("", &vec![b' '; long]), Some((413, "Content Too Large".into())), true),
        (
            "huge length",
            b"POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
            Some((400, "Bad Request".into())),
            true,
        ),
        ("huge head", [b"POST / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 100_000]].concat(), Some((431, "Too Large".into())), true),
        ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(99), Some((400, "Bad Request".into())), true),
        ("unknown subnet", update(&format!("{lease}, \"subnet-id\": 99")), result(4), false),
        ("foreign address", update(r#""ip-address": "192.0.2.1", "hw-address": "2:0:0:0:0:1""#), result(4), false),
        ("negative time", update(&format!("{lease}, \"subnet-id\": 1, \"valid-lft\": -1")), result(1), false),
        ("negative end", update(&format!("{lease}, \"subnet-id\": 1, \"expire\": -5")), result(1), false),
        ("end before start", update(&format!("{lease}, \"subnet-id\": 1, \"valid-lft\": 600, \"expire\": 5")), result(1), false),
        ("unknown state", update(&format!("{lease}, \"subnet-id\": 1, \"state\": 9")), result(1), false),
        ("no address", update(r#""hw-address": "2:0:0:0:0:1""#), result(1), false),
    ];
    for (name, octets, expected, ends) in rows {
        let mut client = Client::connect(bench.address, None);
        client.send(&octets);
        let answer = client.answer().map(|answer| (answer.status, answer.body));
        match (&answer, &expected) {
            (Some((status, body)), Some((wanted, part))) => {
                assert!(status == wanted && body.contains(part.as_str()), "{name}: {answer:?}");
            }
            _ => assert_eq!(answer, expected, "{name}"),
        }
        if ends {
            assert!(client.is_closed(), "{name}");
        } else {
            client.send(&request("", b"{\"command\": \"x\"}"));
            assert_eq!(client.answer().expect(name).status, 403, "{name}");
        }
    }
    // Half a request, and nobody there any more.
    Client::connect(bench.address, None).send(b"POST / HTTP/1.1\r\nContent-Length: 10");
    let created = Some(ShardReplyBody::Updated { created: true });
    assert_eq!(bench.update([10, 0, 0, 5], UpdateKind::Update, created), UpdateOutcome::Acked);
}

#[test]
fn all_leases_at_once_are_for_peers_and_forbidden_to_strangers() {
    let bench = Bench::with(plain);
    let all = request("", br#"{"command": "lease4-get-all"}"#);
    let mut stranger = Client::connect(bench.address, Some("127.0.0.2"));
    stranger.send(&all);
    let answer = stranger.answer().expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (403, r#"{ "result": 403, "text": "Forbidden" }"#));
    // The connection is of use for what is allowed.
    stranger
        .send(&request("", br#"{"command": "lease4-get-page", "arguments": {"from": "start", "limit": 5}}"#));
    bench.list_nothing();
    assert_eq!(stranger.answer().expect("a page").status, 200);
    stranger.send(&request(
        "",
        br#"{"command": "lease4-get-page", "arguments": {"from": "start", "limit": 4294967295}}"#,
    ));
    let answer = stranger.answer().expect("an answer");
    assert!(answer.body.contains("a page of more than 100000 leases is for peers"), "{}", answer.body);

    let mut peer = Client::connect(bench.address, None);
    peer.send(&all);
    bench.list_nothing();
    let answer = peer.answer().expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("0 IPv4 lease(s) found"), "{}", answer.body);
}

/// Octets of memory this process has in use.
fn resident_octets() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Waits until the listener has closed all but `most` of `open`.
fn settle(open: &mut Vec<Client>, most: usize) {
    let started = Instant::now();
    while open.len() > most {
        assert!(started.elapsed() < Duration::from_secs(5), "{} connections are still open", open.len());
        open.retain(Client::is_open);
    }
}

/// Method: a stranger and a backup each open thousands of connections with half a request on them; those that the
/// listener does not close at once stay open to the end.
#[test]
fn ten_thousand_connections_keep_nobody_out_and_cost_little() {
    let bench = Bench::with(|ends| {
        plain(ends);
        ends.peers[1].address.set_ip("127.0.0.3".parse().unwrap());
    });
    let before = resident_octets();
    let half = &request("", &vec![b' '; HTTP_REQUEST_BODY_OCTETS_MAX])[..4096];
    let mut open = Vec::new();
    for round in 0..10_000 {
        let from = if round % 2 == 0 { "127.0.0.2" } else { "127.0.0.3" };
        let mut client = Client::connect(bench.address, Some(from));
        client.send(half);
        open.push(client);
        settle(&mut open, 2 * HA_CONNECTIONS_MAX);
    }
    // The strangers' places and the backup's share of the others.
    settle(&mut open, HA_FOREIGN_CONNECTIONS_MAX + (HA_CONNECTIONS_MAX - HA_FOREIGN_CONNECTIONS_MAX) / 2);
    let grown = resident_octets().saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "{grown} octets");
    let created = Some(ShardReplyBody::Updated { created: true });
    assert_eq!(bench.update([10, 0, 0, 5], UpdateKind::Update, created), UpdateOutcome::Acked);
}

/// A partner that says the same to everybody, and closes after it.
fn liar(says: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // It has to read first: a connection closed with octets unread is reset, and its answer lost.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&says);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    address
}

#[test]
fn answers_that_lie_are_failures_and_nothing_worse() {
    let with_body = |body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let (acked, failed) = (UpdateOutcome::Acked, UpdateOutcome::Failed);
    // What the partner says, and how an update ends.
    let rows = [
        ("all is well", with_body(b"[ { \"result\": 0 } ]"), acked),
        ("an object", with_body(b"{ \"result\": 0 }"), failed),
        ("no array element", with_body(b"[]"), failed),
        ("result as text", with_body(b"[ { \"result\": \"0\" } ]"), failed),
        ("no JSON", with_body(b"[ {"), failed),
        ("deep JSON", with_body(&b"[".repeat(100_000)), failed),
        ("no body", with_body(b""), failed),
        ("half a body", with_body(b"[ { \"result\": 0 } ]")[..80].to_vec(), failed),
        ("a huge body", with_body(&vec![b' '; HTTP_REQUEST_BODY_OCTETS_MAX + 1]), failed),
        ("a huge length", b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n".to_vec(), failed),
        ("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_vec(), failed),
        ("an endless head", [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 100_000]].concat(), failed),
        ("not HTTP", b"\x15\x03\x01\x00\x02\x02\x28".to_vec(), failed),
        ("nothing", Vec::new(), failed),
    ];
    let address = [10, 0, 0, 5];
    for (name, says, expected) in rows {
        let place = liar(says);
        let bench = Bench::with(|ends| {
            plain(ends);
            ends.peers[0].address = place;
        });
        assert_eq!(bench.update(address, UpdateKind::Update, None), expected, "{name}");
        // The sender goes on.
        assert_eq!(
            bench.update_of(1, address, UpdateKind::Delete, Some(ShardReplyBody::Deleted(true))),
            acked,
            "{name}"
        );
    }
}
