//! HTTP/1.1 by hand, octet for octet: what a server of the pair is sent here, and what it sends, is not touched by any
//! library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::namespace::Namespace;

/// A request or a response as it was on the wire.
#[derive(Clone, Debug)]
pub struct Message {
    /// Start line and headers with their line ends, without the empty line.
    pub head: String,
    /// As many octets as `Content-Length` says.
    pub body: Vec<u8>,
    /// When its last octet was read.
    pub at: Instant,
}

impl Message {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The number in the status line.
    pub fn status(&self) -> u16 {
        let number = self.head.split(' ').nth(1).and_then(|number| number.trim().parse().ok());
        number.unwrap_or_else(|| panic!("no status in {:?}", self.head))
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The only element of the array that every answer to a command is.
    pub fn answer(&self) -> Value {
        match self.json() {
            Value::Array(mut elements) if elements.len() == 1 && elements[0].is_object() => {
                elements.remove(0)
            }
            other => panic!("no array of one object: {other}"),
        }
    }

    /// The name of the command in a request, empty where there is none.
    pub fn command(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["command"].as_str().unwrap_or_default().to_owned()
    }

    /// The octets as they were.
    pub fn octets(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// One connection with what was read beyond the last message.
pub struct Connection {
    pub stream: TcpStream,
    rest: Vec<u8>,
}

impl Connection {
    /// A connection from `host` to `to`; reads give up after `patience`.
    pub fn open(host: &Namespace, to: SocketAddr, patience: Duration) -> Self {
        let stream = host.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)));
        Self::over(stream.unwrap_or_else(|error| panic!("{to}: {error}")), patience)
    }

    /// The same over a stream that is there.
    pub fn over(stream: TcpStream, patience: Duration) -> Self {
        stream.set_read_timeout(Some(patience)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, rest: Vec::new() }
    }

    /// The same where nobody may be listening yet.
    pub fn try_open(host: &Namespace, to: SocketAddr) -> Option<Self> {
        let stream = host.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(2))).ok()?;
        Some(Self::over(stream, Duration::from_secs(12)))
    }

    /// Whether more was read than the last message.
    pub fn has_more(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).expect("sent");
    }

    /// The next message; `None` when the other side has closed, or says nothing for too long.
    pub fn receive(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.rest.extend_from_slice(&buffer[..length]),
            }
        }
    }

    fn take(&mut self) -> Option<Message> {
        let end = self.rest.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.rest[..end - 2]).into_owned();
        let mut message = Message { head, body: Vec::new(), at: Instant::now() };
        let length = message.header("Content-Length").map_or(0, |length| length.parse().expect("a length"));
        if self.rest.len() < end + length {
            return None;
        }
        message.body = self.rest[end..end + length].to_vec();
        self.rest.drain(..end + length);
        Some(message)
    }

    /// Whether the other side closes within `patience` without another octet.
    pub fn closes_within(&mut self, patience: Duration) -> bool {
        self.stream.set_read_timeout(Some(patience)).expect("a timeout");
        matches!(self.stream.read(&mut [0; 64]), Ok(0))
    }

    /// Posts a command as Kea does and returns the answer.
    pub fn post(&mut self, body: &Value) -> Message {
        self.send(&request(&body.to_string()));
        self.receive().unwrap_or_else(|| panic!("no answer to {body}"))
    }
}

/// A request as Kea writes it (ha-protocol 2.2).
pub fn request(body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nHost: 10.98.0.1\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A response as Kea writes it (ha-protocol 2.3).
pub fn response(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Type: application/json\r\nDate: Sun, 22 Nov 2026 08:02:23 GMT\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
