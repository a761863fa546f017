//! One outbound HTTP connection, one request in flight (ha-protocol 2.2, 2.5, 2.6).
//!
//! Requests are byte for byte Kea's. Responses are taken at least as leniently as Kea takes them: the status
//! number is for the caller, a missing phrase, chunked bodies, an interim response and a body that ends with
//! the connection are accepted too.

use crate::limits::{HTTP_CLIENT_IDLE_MS, HTTP_HEAD_OCTETS_MAX, HTTP_RESPONSE_BODY_OCTETS_MAX};

use super::HEADERS_MAX;
use super::auth::BasicAuth;
use super::body::{BodyError, Decoder, Progress};
use super::server::{content_length, has_token};

/// Whom requests are for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Address alone: no port, IPv6 without brackets.
    pub host: String,
    /// Credentials to present.
    pub auth: Option<BasicAuth>,
}

/// A whole response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    /// Status number; Kea ignores it (ha-protocol 0.3 rule 6).
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// Why there is no response. The connection is then of no use any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// The partner closed before the response was whole.
    #[error("connection closed before the response was complete")]
    Closed,
    /// Head or body is larger than the limit.
    #[error("response too large")]
    TooLarge,
    /// The response is not HTTP.
    #[error("malformed HTTP response")]
    Malformed,
    /// No answer in time.
    #[error("timed out waiting for the response")]
    TimedOut,
    /// Bytes came that nobody asked for.
    #[error("response without a request")]
    Unsolicited,
}

/// One connection.
#[derive(Debug)]
pub struct ClientConnection {
    target: Target,
    /// Longest response body, octets.
    octets_max: usize,
    input: Vec<u8>,
    phase: Phase,
    exchanges: u64,
}

#[derive(Debug)]
enum Phase {
    Body { timing: Timing, status: u16, keep_alive: bool, decoder: Decoder },
    Dead,
    Head { timing: Timing },
    Idle { since_ns: u64 },
}

/// The answer's timer, restarted whenever bytes move (ha-protocol 2.6).
#[derive(Clone, Copy, Debug)]
struct Timing {
    timeout_ms: u64,
    deadline_ns: Option<u64>,
}

impl Timing {
    fn restart(&mut self, now_ns: u64) {
        self.deadline_ns = deadline(now_ns, self.timeout_ms);
    }
}

impl ClientConnection {
    /// A fresh connection, established at `now_ns`.
    pub fn new(now_ns: u64, target: Target) -> Self {
        Self::with_body_limit(now_ns, target, HTTP_RESPONSE_BODY_OCTETS_MAX)
    }

    /// The same with another limit for response bodies, octets.
    pub fn with_body_limit(now_ns: u64, target: Target, octets_max: usize) -> Self {
        let phase = Phase::Idle { since_ns: now_ns };
        Self { target, octets_max, input: Vec::new(), phase, exchanges: 0 }
    }

    /// Whether a request may be sent: idle, and not for so long that the partner may be about to close.
    pub fn is_usable(&self, now_ns: u64) -> bool {
        match self.phase {
            Phase::Idle { since_ns } => now_ns < after_ms(since_ns, HTTP_CLIENT_IDLE_MS),
            Phase::Body { .. } | Phase::Dead | Phase::Head { .. } => false,
        }
    }

    /// Sends `body`; `timeout_ms` of 0 waits for ever.
    ///
    /// # Panics
    /// When a request is in flight or the connection is dead: a mistake of the driver.
    pub fn send(&mut self, now_ns: u64, body: &[u8], timeout_ms: u64, output: &mut Vec<u8>) {
        assert!(matches!(self.phase, Phase::Idle { .. }), "one request at a time, on a live connection");
        write_request(&self.target, body, output);
        self.phase = Phase::Head { timing: Timing { timeout_ms, deadline_ns: deadline(now_ns, timeout_ms) } };
    }

    /// Bytes have come. A whole response ends the exchange; an error ends the connection.
    pub fn handle_bytes(&mut self, now_ns: u64, bytes: &[u8]) -> Result<Option<Response>, ClientError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        match &mut self.phase {
            Phase::Body { timing, .. } | Phase::Head { timing } => timing.restart(now_ns),
            Phase::Dead => return Ok(None),
            Phase::Idle { .. } => return self.fail(ClientError::Unsolicited),
        }
        self.input.extend_from_slice(bytes);
        match self.parse(now_ns) {
            Ok(response) => Ok(response),
            Err(error) => self.fail(error),
        }
    }

    /// The partner has closed. `Ok(Some(..))` when that ended a body properly, `Ok(None)` when nothing was
    /// awaited.
    pub fn handle_end(&mut self) -> Result<Option<Response>, ClientError> {
        match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Body { status, decoder, .. } if decoder.ends_with_connection() => {
                Ok(Some(Response { status, body: decoder.into_body() }))
            }
            Phase::Body { .. } | Phase::Head { .. } => Err(ClientError::Closed),
            Phase::Dead | Phase::Idle { .. } => Ok(None),
        }
    }

    /// The deadline has passed.
    pub fn handle_timeout(&mut self, now_ns: u64) -> Result<(), ClientError> {
        if self.next_timeout().is_none_or(|deadline| now_ns < deadline) {
            return Ok(());
        }
        match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Idle { .. } | Phase::Dead => Ok(()),
            Phase::Body { .. } | Phase::Head { .. } => Err(ClientError::TimedOut),
        }
    }

    /// When `handle_timeout` is wanted: the answer's deadline, or the end of an idle connection.
    pub fn next_timeout(&self) -> Option<u64> {
        match &self.phase {
            Phase::Body { timing, .. } | Phase::Head { timing } => timing.deadline_ns,
            Phase::Dead => None,
            Phase::Idle { since_ns } => Some(after_ms(*since_ns, HTTP_CLIENT_IDLE_MS)),
        }
    }

    /// Whether the connection is to be closed.
    pub fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead)
    }

    /// Whether a request that ended with [`ClientError::Closed`] or a reset should be sent once more on a new
    /// connection: the partner closed an idle connection just then (ha-protocol 8 no. 4). Ask before the
    /// failure.
    pub fn may_retry(&self) -> bool {
        self.exchanges > 0 && self.input.is_empty() && matches!(self.phase, Phase::Head { .. })
    }

    fn parse(&mut self, now_ns: u64) -> Result<Option<Response>, ClientError> {
        loop {
            match &mut self.phase {
                Phase::Head { timing } => {
                    let timing = *timing;
                    let Some((head_octets, head)) = parse_head(&self.input, self.octets_max)? else {
                        let too_large = self.input.len() > HTTP_HEAD_OCTETS_MAX;
                        return if too_large { Err(ClientError::TooLarge) } else { Ok(None) };
                    };
                    self.input.drain(..head_octets);
                    if let Some((status, keep_alive, decoder)) = head {
                        self.phase = Phase::Body { timing, status, keep_alive, decoder };
                    }
                }
                Phase::Body { decoder, .. } => {
                    let mut rest = self.input.as_slice();
                    let progress = decoder.take(&mut rest);
                    let taken = self.input.len() - rest.len();
                    self.input.drain(..taken);
                    return match progress {
                        Ok(Progress::More) => Ok(None),
                        Ok(Progress::Whole) => Ok(self.complete(now_ns)),
                        Err(BodyError::Malformed) => Err(ClientError::Malformed),
                        Err(BodyError::TooLarge) => Err(ClientError::TooLarge),
                    };
                }
                Phase::Dead | Phase::Idle { .. } => return Ok(None),
            }
        }
    }

    fn complete(&mut self, now_ns: u64) -> Option<Response> {
        let Phase::Body { status, keep_alive, decoder, .. } = std::mem::replace(&mut self.phase, Phase::Dead)
        else {
            return None;
        };
        self.exchanges += 1;
        // Bytes behind a response were not asked for: nothing on this connection can be trusted any more.
        if keep_alive && self.input.is_empty() {
            self.phase = Phase::Idle { since_ns: now_ns };
        }
        Some(Response { status, body: decoder.into_body() })
    }

    fn fail(&mut self, error: ClientError) -> Result<Option<Response>, ClientError> {
        self.phase = Phase::Dead;
        self.input = Vec::new();
        Err(error)
    }
}

/// Writes a request as Kea does: `Host` first, then the headers in alphabetical order. A body that is no JSON object, as
/// every command is, says that it is octets.
pub fn write_request(target: &Target, body: &[u8], output: &mut Vec<u8>) {
    output.extend_from_slice(b"POST / HTTP/1.1\r\nHost: ");
    output.extend_from_slice(target.host.as_bytes());
    if let Some(auth) = &target.auth {
        output.extend_from_slice(b"\r\nAuthorization: ");
        output.extend_from_slice(auth.header().as_bytes());
    }
    output.extend_from_slice(b"\r\nContent-Length: ");
    output.extend_from_slice(body.len().to_string().as_bytes());
    output.extend_from_slice(b"\r\nContent-Type: ");
    let media_type = if body.first() == Some(&b'{') { super::JSON } else { super::OCTETS };
    output.extend_from_slice(media_type.as_bytes());
    output.extend_from_slice(b"\r\n\r\n");
    output.extend_from_slice(body);
}

/// Octets of a head, and status, keep-alive and body of a final response (`None` for an interim one).
type ParsedHead = (usize, Option<(u16, bool, Decoder)>);

fn parse_head(input: &[u8], limit: usize) -> Result<Option<ParsedHead>, ClientError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    let patched;
    let head_octets = match parsed.parse(input) {
        Ok(httparse::Status::Complete(octets)) => octets,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::Version) if b"HTTP/2.0 ".starts_with(input) => return Ok(None),
        // HTTP/2.0 in the status line of an HTTP/1 response is accepted (ha-protocol 2.5).
        Err(httparse::Error::Version) if input.starts_with(b"HTTP/2.0 ") => {
            patched = [b"HTTP/1.0 ", &input[9..]].concat();
            parsed = httparse::Response::new(&mut headers);
            match parsed.parse(&patched) {
                Ok(httparse::Status::Complete(octets)) => octets,
                Ok(httparse::Status::Partial) => return Ok(None),
                Err(_) => return Err(ClientError::Malformed),
            }
        }
        Err(_) => return Err(ClientError::Malformed),
    };
    if head_octets > HTTP_HEAD_OCTETS_MAX {
        return Err(ClientError::TooLarge);
    }
    let status = parsed.code.ok_or(ClientError::Malformed)?;
    if (100..200).contains(&status) {
        return Ok(Some((head_octets, None)));
    }
    let mut length = None;
    let mut chunked = false;
    let mut keep_alive = parsed.version == Some(1);
    for header in parsed.headers.iter() {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("content-length") {
            length = Some(content_length(value).ok_or(ClientError::Malformed)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = has_token(value, b"chunked");
        } else if header.name.eq_ignore_ascii_case("connection") {
            keep_alive = (keep_alive || has_token(value, b"keep-alive")) && !has_token(value, b"close");
        }
    }
    let decoder = match (chunked, length) {
        (true, _) => Decoder::chunked(limit),
        (false, Some(length)) => Decoder::with_length(length, limit).map_err(|_| ClientError::TooLarge)?,
        (false, None) => Decoder::until_end(limit),
    };
    Ok(Some((head_octets, Some((status, keep_alive, decoder)))))
}

fn deadline(now_ns: u64, timeout_ms: u64) -> Option<u64> {
    (timeout_ms > 0).then(|| after_ms(now_ns, timeout_ms))
}

fn after_ms(now_ns: u64, ms: u64) -> u64 {
    now_ns.saturating_add(ms.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn target() -> Target {
        Target { host: "10.99.0.2".into(), auth: None }
    }

    fn sent() -> ClientConnection {
        let mut connection = ClientConnection::new(0, target());
        connection.send(0, b"{}", 10_000, &mut Vec::new());
        connection
    }

    /// Feeds a response in pieces, then the end of the connection.
    fn receive(input: &[u8], step: usize) -> Result<Option<Response>, ClientError> {
        let mut connection = sent();
        for piece in input.chunks(step) {
            if let Some(response) = connection.handle_bytes(1, piece)? {
                return Ok(Some(response));
            }
        }
        connection.handle_end()
    }

    #[test]
    fn a_request_is_byte_for_byte_kea_s() {
        let body = b"{ \"command\": \"ha-heartbeat\", \"service\": [ \"dhcp4\" ] }";
        let mut output = Vec::new();
        let auth = Some(BasicAuth::new("hauser", "secret"));
        write_request(&Target { auth, ..target() }, body, &mut output);
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "POST / HTTP/1.1\r\nHost: 10.99.0.2\r\nAuthorization: Basic aGF1c2VyOnNlY3JldA==\r\n\
             Content-Length: 53\r\nContent-Type: application/json\r\n\r\n\
             { \"command\": \"ha-heartbeat\", \"service\": [ \"dhcp4\" ] }"
        );
    }

    #[test]
    fn responses_are_taken_at_least_as_leniently_as_by_kea() {
        let body = |status, text: &str| Ok(Some(Response { status, body: text.as_bytes().to_vec() }));
        for (label, input, expected) in [
            ("plain", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", body(200, "[]")),
            ("error status", "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n[]", body(500, "[]")),
            ("lower case", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", body(200, "[]")),
            ("1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n[]", body(200, "[]")),
            ("2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n[]", body(200, "[]")),
            ("close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]", body(200, "[]")),
            ("no phrase", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n[]", body(200, "[]")),
            ("empty phrase", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n[]", body(200, "[]")),
            ("no length", "HTTP/1.1 200 OK\r\n\r\n[]", body(200, "[]")),
            (
                "chunked",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
                body(200, "[]"),
            ),
            (
                "interim",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
                body(200, "[]"),
            ),
            ("empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", body(200, "")),
            ("nothing", "", Err(ClientError::Closed)),
            ("cut head", "HTTP/1.1 200 OK\r\nCont", Err(ClientError::Closed)),
            ("cut body", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]", Err(ClientError::Closed)),
            (
                "cut chunk",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[",
                Err(ClientError::Closed),
            ),
            ("no HTTP", "SSH-2.0-OpenSSH\r\n", Err(ClientError::Malformed)),
            ("bad length", "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n[]", Err(ClientError::Malformed)),
            (
                "too large",
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
                Err(ClientError::TooLarge),
            ),
        ] {
            for step in [1, 5, 1000] {
                assert_eq!(receive(input.as_bytes(), step), expected, "{label} by {step}");
            }
        }
    }

    #[test]
    fn a_connection_is_used_again_until_it_has_been_idle_too_long() {
        let mut connection = sent();
        assert!(!connection.is_usable(0) && !connection.may_retry(), "a fresh connection is not retried");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
        assert!(connection.handle_bytes(SECOND_NS, answer).unwrap().is_some());
        assert!(connection.is_usable(25 * SECOND_NS) && !connection.is_usable(26 * SECOND_NS));
        connection.send(2 * SECOND_NS, b"{}", 10_000, &mut Vec::new());
        assert!(connection.may_retry(), "the partner may just have closed it");
        connection.handle_bytes(2 * SECOND_NS, b"HTTP/1.1 2").unwrap();
        assert!(!connection.may_retry(), "an answer has begun");
        assert_eq!(connection.handle_end(), Err(ClientError::Closed));
        assert!(connection.is_dead());
    }

    #[test]
    fn a_response_that_closes_or_is_followed_by_more_ends_the_connection() {
        for input in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]HTTP/1.1 200 OK\r\n",
        ] {
            let mut connection = sent();
            assert!(connection.handle_bytes(1, input.as_bytes()).unwrap().is_some());
            assert!(connection.is_dead(), "{input}");
        }
        let mut idle = ClientConnection::new(0, target());
        assert_eq!(idle.handle_bytes(1, b"HTTP"), Err(ClientError::Unsolicited));
    }

    #[test]
    fn the_answer_s_timer_restarts_when_bytes_move() {
        let mut connection = sent();
        assert_eq!(connection.next_timeout(), Some(10 * SECOND_NS));
        connection.handle_bytes(9 * SECOND_NS, b"HTTP").unwrap();
        assert_eq!(connection.handle_timeout(18 * SECOND_NS), Ok(()));
        assert_eq!(connection.handle_timeout(19 * SECOND_NS), Err(ClientError::TimedOut));
        assert!(connection.is_dead() && connection.next_timeout().is_none());
        let mut patient = ClientConnection::new(0, target());
        patient.send(0, b"{}", 0, &mut Vec::new());
        assert_eq!(patient.next_timeout(), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..200), step in 1usize..40) {
            let _ = receive(&tail, step);
            let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            response.extend_from_slice(&tail);
            let _ = receive(&response, step);
        }
    }
}
