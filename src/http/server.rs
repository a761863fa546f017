//! One inbound HTTP connection (ha-protocol 2.3, 2.4, 2.6).
//!
//! Takes POST requests one after another, pipelined ones too, and writes responses byte for byte as Kea does.
//! What is malformed is answered here and the connection is then to be closed. The driver reads while
//! [`ServerConnection::wants_bytes`], and closes after sending when [`ServerConnection::is_closing`].

use crate::limits::{
    HTTP_HEAD_OCTETS_MAX, HTTP_IDLE_MS, HTTP_REQUEST_BODY_OCTETS_MAX, HTTP_REQUEST_MS, HTTP_REQUEST_TOTAL_MS,
};

use super::body::{BodyError, Decoder, Progress};
use super::{HEADERS_MAX, reason_phrase, rfc1123_date};

/// A whole request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// Method; always `POST`, everything else was answered with 400.
    pub method: Method,
    /// Whether the connection stays open after the response.
    pub keep_alive: bool,
    /// Value of the `Authorization` header.
    pub authorization: Option<Vec<u8>>,
    /// Whether the body is octets of a kind of its own and not JSON.
    pub is_octets: bool,
    /// Body, whole.
    pub body: Vec<u8>,
}

/// Methods that reach a handler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// The only one.
    Post,
}

/// One connection. Drive it: `handle_bytes` when bytes have come, `respond` once per request, then
/// `poll_request` for a pipelined one.
#[derive(Debug)]
pub struct ServerConnection {
    input: Vec<u8>,
    phase: Phase,
    deadline_ns: Option<u64>,
    /// When the request that is coming in must be whole, however its bytes are spread.
    whole_by_ns: Option<u64>,
    body_octets_max: usize,
    /// Whether bodies may be something else than JSON.
    takes_octets: bool,
}

#[derive(Debug)]
enum Phase {
    Body {
        head: Head,
        decoder: Decoder,
    },
    Closing,
    /// `started` is false on a connection that has exchanged something and is now idle.
    Head {
        started: bool,
    },
    /// The handler has the request.
    Responding {
        head: Head,
    },
}

#[derive(Clone, Debug)]
struct Head {
    version_minor: u8,
    keep_alive: bool,
    authorization: Option<Vec<u8>>,
    is_octets: bool,
}

impl ServerConnection {
    /// A connection accepted at `now_ns` (monotonic); its first request must come within 10 s.
    pub fn new(now_ns: u64) -> Self {
        Self::with_body_limit(now_ns, HTTP_REQUEST_BODY_OCTETS_MAX)
    }

    /// The same with another limit for request bodies, octets.
    pub fn with_body_limit(now_ns: u64, body_octets_max: usize) -> Self {
        Self {
            input: Vec::new(),
            phase: Phase::Head { started: true },
            deadline_ns: Some(after_ms(now_ns, HTTP_REQUEST_MS)),
            whole_by_ns: None,
            body_octets_max,
            takes_octets: false,
        }
    }

    /// The same, where bodies of octets ([`super::OCTETS`]) are taken beside JSON.
    pub fn taking_octets(self) -> Self {
        Self { takes_octets: true, ..self }
    }

    /// Bytes have come. Returns a request when one is whole; an error response goes to `output`.
    pub fn handle_bytes(
        &mut self,
        now_ns: u64,
        wall_s: u64,
        bytes: &[u8],
        output: &mut Vec<u8>,
    ) -> Option<Request> {
        if matches!(self.phase, Phase::Closing) || bytes.is_empty() {
            return None;
        }
        self.input.extend_from_slice(bytes);
        if !matches!(self.phase, Phase::Responding { .. }) {
            let whole_by_ns = *self.whole_by_ns.get_or_insert(after_ms(now_ns, HTTP_REQUEST_TOTAL_MS));
            self.deadline_ns = Some(after_ms(now_ns, HTTP_REQUEST_MS).min(whole_by_ns));
        }
        self.poll_request(wall_s, output)
    }

    /// A request that was already received behind the one just answered, if it is whole.
    pub fn poll_request(&mut self, wall_s: u64, output: &mut Vec<u8>) -> Option<Request> {
        loop {
            match &mut self.phase {
                Phase::Closing | Phase::Responding { .. } => return None,
                Phase::Head { .. } => {
                    match parse_head(&self.input, self.body_octets_max, self.takes_octets) {
                        Ok(None) => {
                            if self.input.len() > HTTP_HEAD_OCTETS_MAX {
                                self.refuse(431, 1, wall_s, output);
                            } else if !self.input.is_empty() {
                                self.phase = Phase::Head { started: true };
                            }
                            return None;
                        }
                        Ok(Some((head_octets, head, decoder))) => {
                            self.input.drain(..head_octets);
                            self.phase = Phase::Body { head, decoder };
                        }
                        Err(refusal) => {
                            self.refuse(refusal.status, refusal.version_minor, wall_s, output);
                            return None;
                        }
                    }
                }
                Phase::Body { head, decoder } => {
                    let mut rest = self.input.as_slice();
                    let progress = decoder.take(&mut rest);
                    let taken = self.input.len() - rest.len();
                    self.input.drain(..taken);
                    match progress {
                        Ok(Progress::More) => return None,
                        Ok(Progress::Whole) => return Some(self.hand_over()),
                        Err(error) => {
                            let version_minor = head.version_minor;
                            let status = if error == BodyError::TooLarge { 413 } else { 400 };
                            self.refuse(status, version_minor, wall_s, output);
                            return None;
                        }
                    }
                }
            }
        }
    }

    /// Answers the request that was handed over: `status` and a JSON `body`.
    ///
    /// # Panics
    /// When no request is being handled: a mistake of the driver, which network input cannot cause.
    pub fn respond(&mut self, now_ns: u64, wall_s: u64, status: u16, body: &[u8], output: &mut Vec<u8>) {
        self.respond_as(JSON, now_ns, wall_s, status, body, output);
    }

    /// The same with a body of another media type.
    ///
    /// # Panics
    /// As [`ServerConnection::respond`].
    pub fn respond_as(
        &mut self,
        media_type: &str,
        now_ns: u64,
        wall_s: u64,
        status: u16,
        body: &[u8],
        output: &mut Vec<u8>,
    ) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closing);
        let Phase::Responding { head } = phase else { panic!("a response without a request") };
        let about = About { version_minor: head.version_minor, status, media_type, close: !head.keep_alive };
        write_response(&about, wall_s, body, output);
        if head.keep_alive {
            let started = !self.input.is_empty();
            let wait_ms = if started { HTTP_REQUEST_MS } else { HTTP_IDLE_MS };
            self.phase = Phase::Head { started };
            self.deadline_ns = Some(after_ms(now_ns, wait_ms));
        } else {
            self.deadline_ns = None;
        }
    }

    /// Answers with the HTTP error `status` in Kea's object form and leaves the connection as it is.
    pub fn respond_error(&mut self, now_ns: u64, wall_s: u64, status: u16, output: &mut Vec<u8>) {
        let body = error_body(status);
        self.respond(now_ns, wall_s, status, body.as_bytes(), output);
    }

    /// The deadline has passed: 408 for a request that has stalled, nothing for an idle connection; closed
    /// then.
    pub fn handle_timeout(&mut self, now_ns: u64, wall_s: u64, output: &mut Vec<u8>) {
        if self.deadline_ns.is_none_or(|deadline| now_ns < deadline) {
            return;
        }
        match &self.phase {
            // Nothing parsed yet: answered as HTTP/1.0, as Kea does.
            Phase::Head { started: true } => self.refuse(408, 0, wall_s, output),
            Phase::Body { head, .. } => self.refuse(408, head.version_minor, wall_s, output),
            Phase::Head { started: false } => self.phase = Phase::Closing,
            Phase::Closing | Phase::Responding { .. } => {}
        }
        self.deadline_ns = None;
    }

    /// When `handle_timeout` is wanted, on the monotonic clock in nanoseconds.
    pub fn next_timeout(&self) -> Option<u64> {
        self.deadline_ns
    }

    /// Whether the driver should read on. False while a request is being handled and enough is buffered.
    pub fn wants_bytes(&self) -> bool {
        match self.phase {
            Phase::Closing => false,
            Phase::Responding { .. } => self.input.len() < HTTP_HEAD_OCTETS_MAX,
            Phase::Body { .. } | Phase::Head { .. } => true,
        }
    }

    /// Whether the connection is to be closed once the output is sent.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    fn hand_over(&mut self) -> Request {
        let phase = std::mem::replace(&mut self.phase, Phase::Closing);
        let Phase::Body { head, decoder } = phase else { unreachable!("called in the body phase only") };
        self.deadline_ns = None;
        self.whole_by_ns = None;
        let request = Request {
            method: Method::Post,
            keep_alive: head.keep_alive,
            authorization: head.authorization.clone(),
            is_octets: head.is_octets,
            body: decoder.into_body(),
        };
        self.phase = Phase::Responding { head };
        request
    }

    fn refuse(&mut self, status: u16, version_minor: u8, wall_s: u64, output: &mut Vec<u8>) {
        let about = About { version_minor, status, media_type: JSON, close: true };
        write_response(&about, wall_s, error_body(status).as_bytes(), output);
        self.phase = Phase::Closing;
        self.deadline_ns = None;
        self.input = Vec::new();
    }
}

/// HTTP-level failures carry an object, never the array of commands (ha-protocol 2.3).
pub fn error_body(status: u16) -> String {
    format!("{{ \"result\": {status}, \"text\": \"{}\" }}", reason_phrase(status))
}

struct Refusal {
    status: u16,
    version_minor: u8,
}

/// Parses a head at the front of `input`; `Ok(None)` when it is not whole.
fn parse_head(
    input: &[u8],
    body_octets_max: usize,
    takes_octets: bool,
) -> Result<Option<(usize, Head, Decoder)>, Refusal> {
    let bad = |version_minor| Refusal { status: 400, version_minor };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let patched;
    let head_octets = match parsed.parse(input) {
        Ok(httparse::Status::Complete(octets)) => octets,
        Ok(httparse::Status::Partial) => return Ok(None),
        // The version may not be whole yet.
        Err(httparse::Error::Version) if !input.contains(&b'\n') => return Ok(None),
        // Another HTTP version is answered as HTTP/1.0 (ha-protocol 2.4): read it as if it said so.
        Err(httparse::Error::Version) => {
            patched = as_http_1_0(input).ok_or_else(|| bad(0))?;
            parsed = httparse::Request::new(&mut headers);
            match parsed.parse(&patched) {
                Ok(httparse::Status::Complete(octets)) => octets,
                Ok(httparse::Status::Partial) => return Ok(None),
                Err(_) => return Err(bad(0)),
            }
        }
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal { status: 431, version_minor: 1 }),
        Err(_) => return Err(bad(1)),
    };
    let version_minor = parsed.version.unwrap_or(0);
    if head_octets > HTTP_HEAD_OCTETS_MAX {
        return Err(Refusal { status: 431, version_minor });
    }
    let fields = Fields::read(parsed.headers).ok_or_else(|| bad(version_minor))?;
    if parsed.method != Some("POST") || !(fields.json || takes_octets && fields.octets) {
        return Err(bad(version_minor));
    }
    let decoder = match (fields.chunked, fields.content_length) {
        (true, _) => Decoder::chunked(body_octets_max),
        (false, Some(length)) => Decoder::with_length(length, body_octets_max)
            .map_err(|_| Refusal { status: 413, version_minor })?,
        (false, None) => return Err(bad(version_minor)),
    };
    let keep_alive = match version_minor {
        0 => fields.keep_alive,
        _ => !fields.close,
    };
    let head =
        Head { version_minor, keep_alive, authorization: fields.authorization, is_octets: fields.octets };
    Ok(Some((head_octets, head, decoder)))
}

/// What is read of the header fields.
#[derive(Default)]
struct Fields {
    authorization: Option<Vec<u8>>,
    chunked: bool,
    close: bool,
    content_length: Option<u64>,
    json: bool,
    keep_alive: bool,
    octets: bool,
}

impl Fields {
    /// `None` when lengths contradict each other or cannot be read.
    fn read(headers: &[httparse::Header<'_>]) -> Option<Self> {
        let mut fields = Self::default();
        for header in headers {
            let value = header.value.trim_ascii();
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = content_length(value)?;
                if fields.content_length.is_some_and(|earlier| earlier != length) {
                    return None;
                }
                fields.content_length = Some(length);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return None;
                }
                fields.chunked = true;
            } else if header.name.eq_ignore_ascii_case("content-type") {
                let media_type = value.split(|octet| *octet == b';').next().unwrap_or(value).trim_ascii();
                fields.json = media_type.eq_ignore_ascii_case(b"application/json");
                fields.octets = media_type.eq_ignore_ascii_case(super::OCTETS.as_bytes());
            } else if header.name.eq_ignore_ascii_case("connection") {
                fields.close |= has_token(value, b"close");
                fields.keep_alive |= has_token(value, b"keep-alive");
            } else if header.name.eq_ignore_ascii_case("authorization") {
                fields.authorization = Some(value.to_vec());
            }
        }
        // Both at once is how requests are smuggled (RFC 9112 §6.1).
        if fields.chunked && fields.content_length.is_some() { None } else { Some(fields) }
    }
}

/// A `Content-Length` of digits alone.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether a comma-separated list contains `token`, whatever its case.
pub(super) fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|octet| *octet == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// The same bytes with `HTTP/x.y` in the request line replaced by `HTTP/1.0`.
fn as_http_1_0(input: &[u8]) -> Option<Vec<u8>> {
    let line_end = input.iter().position(|octet| *octet == b'\n')?;
    let line = &input[..line_end];
    let version = line.windows(6).rposition(|window| window == b" HTTP/")? + 6;
    let text = line[version..].trim_ascii_end();
    let known = text.len() == 3 && text[0].is_ascii_digit() && text[1] == b'.' && text[2].is_ascii_digit();
    if !known {
        return None;
    }
    let mut patched = input.to_vec();
    patched[version..version + 3].copy_from_slice(b"1.0");
    Some(patched)
}

/// Media type of every command and answer of Kea's.
const JSON: &str = "application/json";

/// What the head of a response says beside lengths and dates.
struct About<'a> {
    version_minor: u8,
    status: u16,
    media_type: &'a str,
    close: bool,
}

fn write_response(about: &About<'_>, wall_s: u64, body: &[u8], output: &mut Vec<u8>) {
    let &About { version_minor, status, media_type, close } = about;
    let phrase = reason_phrase(status);
    let length = body.len();
    let date = rfc1123_date(wall_s);
    // Kea names no Connection in its responses; saying that it ends is understood by every client.
    let connection = match (version_minor, close) {
        (0, false) => "Connection: keep-alive\r\n",
        (0, true) | (_, false) => "",
        (_, true) => "Connection: close\r\n",
    };
    let authenticate = if status == 401 { "WWW-Authenticate: Basic realm=\"\"\r\n" } else { "" };
    let head = format!(
        "HTTP/1.{version_minor} {status} {phrase}\r\n{connection}Content-Length: {length}\r\n\
         Content-Type: {media_type}\r\nDate: {date}\r\n{authenticate}\r\n"
    );
    output.extend_from_slice(head.as_bytes());
    output.extend_from_slice(body);
}

fn after_ms(now_ns: u64, ms: u64) -> u64 {
    now_ns.saturating_add(ms.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 22 Nov 2026 08:02:23 UTC.
    const WALL_S: u64 = 1_795_334_543;
    const HEARTBEAT: &str = "{ \"command\": \"ha-heartbeat\" }";

    fn post(version: &str, headers: &str, body: &str) -> Vec<u8> {
        format!("POST / {version}\r\n{headers}\r\n{body}").into_bytes()
    }

    fn json_headers(body: &str) -> String {
        format!("Host: 10.99.0.2\r\nContent-Length: {}\r\nContent-Type: application/json\r\n", body.len())
    }

    /// Feeds `input` in pieces of `step`, answers every request with `{}`; returns bodies, output and
    /// closing.
    fn serve(input: &[u8], step: usize) -> (Vec<Vec<u8>>, String, bool) {
        let mut connection = ServerConnection::with_body_limit(0, 4096);
        let (mut bodies, mut output) = (Vec::new(), Vec::new());
        for piece in input.chunks(step) {
            let mut request = connection.handle_bytes(1, WALL_S, piece, &mut output);
            while let Some(received) = request {
                bodies.push(received.body);
                connection.respond(1, WALL_S, 200, b"{}", &mut output);
                request = connection.poll_request(WALL_S, &mut output);
            }
        }
        (bodies, String::from_utf8(output).unwrap(), connection.is_closing())
    }

    fn status_line(output: &str) -> &str {
        output.split("\r\n").next().unwrap_or("")
    }

    #[test]
    fn a_response_is_byte_for_byte_kea_s() {
        let (_, output, closing) = serve(&post("HTTP/1.1", &json_headers(HEARTBEAT), HEARTBEAT), 9999);
        assert_eq!(
            output,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\
             Date: Sun, 22 Nov 2026 08:02:23 GMT\r\n\r\n{}"
        );
        assert!(!closing);
    }

    #[test]
    fn requests_are_accepted_as_2_4_says_however_they_are_cut() {
        let length = HEARTBEAT.len();
        let plain = format!("Content-Length: {length}\r\n");
        let json = "Content-Type: application/json\r\n";
        let good = json_headers(HEARTBEAT);
        let chunked = format!("{length:x}\r\n{HEARTBEAT}\r\n0\r\n\r\n");
        let ok = "HTTP/1.1 200 OK";
        let old = "HTTP/1.0 200 OK";
        check_requests([
            ("as Kea", post("HTTP/1.1", &good, HEARTBEAT), ok, false),
            ("no Host", post("HTTP/1.1", &format!("{plain}{json}"), HEARTBEAT), ok, false),
            ("upper case", post("HTTP/1.1", &good.to_uppercase(), HEARTBEAT), ok, false),
            ("charset", post("HTTP/1.1", &good.replace("json", "json; charset=utf-8"), HEARTBEAT), ok, false),
            (
                "chunked",
                post("HTTP/1.1", &format!("{json}Transfer-Encoding: chunked\r\n"), &chunked),
                ok,
                false,
            ),
            ("expect", post("HTTP/1.1", &format!("{good}Expect: 100-continue\r\n"), HEARTBEAT), ok, false),
            ("line feeds alone", good_with_line_feeds(&good), ok, false),
            ("close", post("HTTP/1.1", &format!("{good}Connection: close\r\n"), HEARTBEAT), ok, true),
            ("1.0", post("HTTP/1.0", &good, HEARTBEAT), old, true),
            (
                "1.0 alive",
                post("HTTP/1.0", &format!("{good}Connection: Keep-Alive\r\n"), HEARTBEAT),
                old,
                false,
            ),
            ("2.0", post("HTTP/2.0", &good, HEARTBEAT), old, true),
            ("empty body", post("HTTP/1.1", &json_headers(""), ""), ok, false),
        ]);
    }

    #[test]
    fn requests_are_refused_as_2_4_says_however_they_are_cut() {
        let length = HEARTBEAT.len();
        let plain = format!("Content-Length: {length}\r\n");
        let json = "Content-Type: application/json\r\n";
        let good = json_headers(HEARTBEAT);
        let chunked = format!("{length:x}\r\n{HEARTBEAT}\r\n0\r\n\r\n");
        let bad = "HTTP/1.1 400 Bad Request";
        check_requests([
            ("no length", post("HTTP/1.1", json, HEARTBEAT), bad, true),
            ("no type", post("HTTP/1.1", &plain, HEARTBEAT), bad, true),
            ("another type", post("HTTP/1.1", &good.replace("json", "xml"), HEARTBEAT), bad, true),
            ("two lengths", post("HTTP/1.1", &format!("{good}Content-Length: 1\r\n"), HEARTBEAT), bad, true),
            (
                "smuggling",
                post("HTTP/1.1", &format!("{good}Transfer-Encoding: chunked\r\n"), &chunked),
                bad,
                true,
            ),
            ("gzip", post("HTTP/1.1", &format!("{json}Transfer-Encoding: gzip\r\n"), HEARTBEAT), bad, true),
            ("sign", post("HTTP/1.1", &format!("{json}Content-Length: +5\r\n"), HEARTBEAT), bad, true),
            (
                "GET",
                b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Type: application/json\r\n\r\n".to_vec(),
                bad,
                true,
            ),
            ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), bad, true),
            (
                "large",
                post("HTTP/1.1", &format!("{json}Content-Length: 4097\r\n"), ""),
                "HTTP/1.1 413 Content Too Large",
                true,
            ),
            (
                "large chunk",
                post("HTTP/1.1", &format!("{json}Transfer-Encoding: chunked\r\n"), "1001\r\n"),
                "HTTP/1.1 413 Content Too Large",
                true,
            ),
            (
                "long header",
                post("HTTP/1.1", &format!("X: {}\r\n{good}", "x".repeat(20_000)), HEARTBEAT),
                "HTTP/1.1 431 Request Header Fields Too Large",
                true,
            ),
            (
                "many headers",
                post("HTTP/1.1", &format!("{}{good}", "X: y\r\n".repeat(100)), HEARTBEAT),
                "HTTP/1.1 431 Request Header Fields Too Large",
                true,
            ),
        ]);
    }

    fn check_requests<const COUNT: usize>(rows: [(&str, Vec<u8>, &str, bool); COUNT]) {
        for (label, input, line, closing) in rows {
            for step in [1, 7, 100_000] {
                let (bodies, output, is_closing) = serve(&input, step);
                assert_eq!((status_line(&output), is_closing), (line, closing), "{label} by {step}");
                assert_eq!(bodies.len(), usize::from(line.ends_with("200 OK")), "{label} by {step}");
                assert_eq!(output.matches("HTTP/1.").count(), 1, "{label} by {step}");
            }
        }
    }

    fn good_with_line_feeds(headers: &str) -> Vec<u8> {
        String::from_utf8(post("HTTP/1.1", headers, HEARTBEAT)).unwrap().replace("\r\n", "\n").into_bytes()
    }

    #[test]
    fn pipelined_requests_are_all_answered_in_order() {
        let one = post("HTTP/1.1", &json_headers("[1]"), "[1]");
        let two = post("HTTP/1.1", &json_headers("[22]"), "[22]");
        for step in [1, 10, 1000] {
            let (bodies, output, closing) = serve(&[one.clone(), two.clone()].concat(), step);
            assert_eq!(bodies, [b"[1]".to_vec(), b"[22]".to_vec()]);
            assert_eq!((output.matches("200 OK").count(), closing), (2, false));
        }
    }

    #[test]
    fn malformed_json_is_answered_and_the_connection_stays_usable() {
        let mut connection = ServerConnection::new(0);
        let mut output = Vec::new();
        let request = post("HTTP/1.1", &json_headers("{,}"), "{,}");
        for _ in 0..2 {
            assert!(connection.handle_bytes(1, WALL_S, &request, &mut output).is_some());
            connection.respond_error(2, WALL_S, 400, &mut output);
        }
        let text = String::from_utf8(output).unwrap();
        assert_eq!(text.matches("\r\n\r\n{ \"result\": 400, \"text\": \"Bad Request\" }").count(), 2);
        assert!(!connection.is_closing());
    }

    #[test]
    fn a_request_that_trickles_gets_408_after_a_minute() {
        let whole = post("HTTP/1.1", &json_headers(HEARTBEAT), HEARTBEAT);
        let mut connection = ServerConnection::with_body_limit(0, 4096);
        let mut output = Vec::new();
        let mut seconds = 0;
        for octet in whole.chunks(1) {
            seconds += 5;
            let now_ns = seconds * 1_000_000_000;
            connection.handle_timeout(now_ns, WALL_S, &mut output);
            if connection.is_closing() {
                break;
            }
            assert!(connection.handle_bytes(now_ns, WALL_S, octet, &mut output).is_none());
        }
        assert_eq!(seconds, 65, "the first octet came at 5 s");
        assert_eq!(status_line(&String::from_utf8(output).unwrap()), "HTTP/1.0 408 Request Timeout");
    }

    #[test]
    fn a_stalled_request_gets_408_and_an_idle_connection_nothing() {
        let second = 1_000_000_000;
        let mut output = Vec::new();
        let mut silent = ServerConnection::new(0);
        silent.handle_timeout(9 * second, WALL_S, &mut output);
        assert!(output.is_empty() && !silent.is_closing());
        silent.handle_timeout(10 * second, WALL_S, &mut output);
        assert!(silent.is_closing());
        assert_eq!(status_line(&String::from_utf8(output).unwrap()), "HTTP/1.0 408 Request Timeout");

        let mut output = Vec::new();
        let mut stalled = ServerConnection::new(0);
        let request = post("HTTP/1.1", &json_headers(HEARTBEAT), HEARTBEAT);
        let (first, rest) = request.split_at(request.len() - 3);
        stalled.handle_bytes(5 * second, WALL_S, first, &mut output);
        assert_eq!(stalled.next_timeout(), Some(15 * second), "progress restarts the timer");
        assert!(stalled.handle_bytes(14 * second, WALL_S, rest, &mut output).is_some());
        assert_eq!(stalled.next_timeout(), None, "no timer while the command runs");
        stalled.respond(60 * second, WALL_S, 200, b"[]", &mut output);
        stalled.handle_timeout(180 * second, WALL_S, &mut output);
        assert!(!stalled.is_closing(), "idle for two minutes is no reason");
        let sent = output.len();
        stalled.handle_timeout(360 * second, WALL_S, &mut output);
        assert!(stalled.is_closing() && output.len() == sent, "closed in silence");
    }

    #[test]
    fn reading_stops_while_a_request_is_handled_and_enough_waits() {
        let mut connection = ServerConnection::new(0);
        let mut output = Vec::new();
        let request = post("HTTP/1.1", &json_headers(HEARTBEAT), HEARTBEAT);
        assert!(
            connection.handle_bytes(1, WALL_S, &request, &mut output).is_some() && connection.wants_bytes()
        );
        connection.handle_bytes(1, WALL_S, &vec![b'x'; HTTP_HEAD_OCTETS_MAX], &mut output);
        assert!(!connection.wants_bytes());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..20)) {
            let mut connection = ServerConnection::with_body_limit(0, 64);
            let mut output = Vec::new();
            for piece in pieces {
                if connection.handle_bytes(1, WALL_S, &piece, &mut output).is_some() {
                    connection.respond(1, WALL_S, 200, b"[]", &mut output);
                }
            }
        }

        #[test]
        fn a_damaged_request_never_panics(at in 0usize..140, octet in any::<u8>(), step in 1usize..50) {
            let mut request = post("HTTP/1.1", &format!("{}Transfer-Encoding: chunked\r\n", json_headers("3\r\nabc\r\n0\r\n\r\n")), "3\r\nabc\r\n0\r\n\r\n");
            if let Some(place) = request.get_mut(at) {
                *place = octet;
            }
            serve(&request, step);
        }
    }
}
